//! How targets are asked: TLS, credentials, headers, bodies.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use support::dns::{NameServer, Say};
use support::target::{Target, answer, counters};
use support::{Exporter, eventually, value};

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, and its key.
    fn sign(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate, key)
    }

    /// A server with a certificate for these names; it asks for a client's if `clients` says who signs them.
    fn serve(&self, names: &[&str], clients: Option<&Authority>) -> Target {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (certificate, key) = self.sign(names);
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        Target::start_at((Ipv4Addr::LOCALHOST, 0).into(), Some(Arc::new(config)), |_, stream| {
            answer(stream, &counters(8))
        })
    }
}

const METRICS: &str = "metrics: [{name: http_requests_total, type: counter, value: $.request_count}]";

/// An exporter with one target, asked as `request` says.
fn exporter(url: &str, request: &str, arguments: &[&str]) -> (tempfile::TempDir, Exporter) {
    let (dir, config) = support::file(
        "exporter.yaml",
        &format!("targets: [{{url: '{url}'}}]\nmodules:\n  default:\n    request: {request}\n    {METRICS}\n"),
    );
    let exporter = Exporter::ready(&[&["--config", &config], arguments].concat());
    (dir, exporter)
}

fn requests_of(exporter: &Exporter, target: &Target) -> Option<f64> {
    exporter.value(&format!("http_requests_total{}", target.label()))
}

#[test]
fn an_authority_of_one_s_own_is_trusted_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, ours.pem()).unwrap();
    let trust = format!("{{tls: {{ca_file: '{}'}}}}", ca.display());
    let names = NameServer::start();
    names.say("a.test", Say::addresses(&["127.0.0.1"]));
    let dns = names.argument();
    let ask = |target: &Target, host: &str, request: &str| {
        let url = format!("https://{host}:{}/", target.address.port());
        let (_dir, exporter) = exporter(&url, request, &["--dns-server", &dns]);
        (requests_of(&exporter, target), exporter.failures("tls"))
    };
    let good = ours.serve(&["a.test", "127.0.0.1"], None);
    assert_eq!(ask(&good, "a.test", &trust), (Some(8.0), 0.0));
    assert_eq!(ask(&good, "127.0.0.1", &trust), (Some(8.0), 0.0));
    let (found, failures) = ask(&good, "a.test", "{}");
    assert!(
        found.is_none() && failures >= 1.0,
        "only public authorities are trusted by themselves"
    );
    let other = theirs.serve(&["a.test"], None);
    assert!(ask(&other, "a.test", &trust).0.is_none());
    let misnamed = ours.serve(&["b.test"], None);
    assert!(ask(&misnamed, "a.test", &trust).0.is_none());
    let named = format!("{{tls: {{ca_file: '{}', server_name: b.test}}}}", ca.display());
    assert_eq!(ask(&misnamed, "a.test", &named).0, Some(8.0));
}

#[test]
fn a_certificate_of_our_own_is_shown_where_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (certificate, key) = clients.sign(&["exporter"]);
    std::fs::write(path("ca.pem"), servers.pem()).unwrap();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let target = servers.serve(&["127.0.0.1"], Some(&clients));
    let url = format!("https://{}/", target.address);
    let with = format!(
        "{{tls: {{ca_file: '{}', cert_file: '{}', key_file: '{}'}}}}",
        path("ca.pem"),
        path("cert.pem"),
        path("key.pem")
    );
    let (_config, shown) = exporter(&url, &with, &[]);
    assert_eq!(requests_of(&shown, &target), Some(8.0));
    let (_config, without) = exporter(&url, &format!("{{tls: {{ca_file: '{}'}}}}", path("ca.pem")), &[]);
    assert_eq!(requests_of(&without, &target), None);
}

/// As appliances have one: signed by itself, for no name that can be asked.
#[test]
fn a_pinned_certificate_is_accepted_whatever_its_name_and_no_other_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let itself = Authority::new("appliance");
    let key = PrivateKeyDer::try_from(itself.0.key().serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![itself.0.der().clone()], key)
        .unwrap();
    let target = Target::start_at((Ipv4Addr::LOCALHOST, 0).into(), Some(Arc::new(config)), |_, stream| {
        answer(stream, &counters(8))
    });
    std::fs::write(path("its.pem"), itself.pem()).unwrap();
    std::fs::write(path("other.pem"), Authority::new("appliance").pem()).unwrap();
    let url = format!("https://{}/", target.address);
    for (name, request, found) in [
        ("nothing", "{}".to_owned(), None),
        (
            "it is no authority",
            format!("{{tls: {{ca_file: '{}'}}}}", path("its.pem")),
            None,
        ),
        (
            "its own",
            format!("{{tls: {{pinned_file: '{}'}}}}", path("its.pem")),
            Some(8.0),
        ),
        (
            "another",
            format!("{{tls: {{pinned_file: '{}'}}}}", path("other.pem")),
            None,
        ),
    ] {
        let (_config, exporter) = exporter(&url, &request, &[]);
        assert_eq!(requests_of(&exporter, &target), found, "{name}");
        assert!(found.is_some() || exporter.failures("tls") >= 1.0, "{name}");
    }
}

#[test]
fn credentials_are_read_for_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let target = Target::json(&counters(1));
    let request = format!(
        "{{bearer_token_file: '{0}', header_files: {{X-Api-Key: '{0}'}}, headers: {{X-Other: y}}}}",
        token.display()
    );
    let (_config, exporter) = exporter(&target.url(), &request, &[]);
    let sent = |header: &str| {
        let last = target.requests().pop().unwrap().to_lowercase();
        last.contains(&format!("{header}\r\n"))
    };
    assert!(sent("authorization: bearer first") && sent("x-api-key: first") && sent("x-other: y"));
    std::fs::write(&token, "second").unwrap();
    eventually("the new token is sent", || {
        sent("authorization: bearer second").then_some(())
    });

    for (content, problem) in [
        (Some("two\nlines"), "one line"),
        (Some(""), "one line"),
        (None, "cannot read"),
    ] {
        match content {
            Some(content) => std::fs::write(&token, content).unwrap(),
            None => std::fs::remove_file(&token).unwrap(),
        }
        eventually("the target is down", || {
            requests_of(&exporter, &target).is_none().then_some(())
        });
        eventually("the problem is told", || {
            let log = exporter.log();
            let told = log.iter().rfind(|line| line["reason"] == "credentials")?;
            told["message"].as_str().unwrap().contains(problem).then_some(())
        });
        std::fs::write(&token, "third").unwrap();
        eventually("the target is back", || requests_of(&exporter, &target));
    }
    let log = format!("{:?}", exporter.log());
    assert!(
        !log.contains("third") && !log.contains("two"),
        "no secret is ever logged"
    );
}

#[test]
fn a_user_name_and_a_password_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "open sesame\n").unwrap();
    let target = Target::json(&counters(1));
    let request = format!(
        "{{basic_auth: {{username: Aladdin, password_file: '{}'}}}}",
        password.display()
    );
    let (_config, _exporter) = exporter(&target.url(), &request, &[]);
    // The pair of RFC 7617.
    assert!(target.requests()[0].contains("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
}

#[test]
fn a_body_makes_it_a_post_and_other_statuses_may_be_valid() {
    let target = Target::start(|head, stream| {
        let body = if head.starts_with("POST / ") {
            counters(3)
        } else {
            "{}".to_owned()
        };
        let text = format!("HTTP/1.1 503 Busy\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        std::io::Write::write_all(stream, text.as_bytes()).is_ok()
    });
    let request = r#"{body: '{"query": "stats"}', valid_status: [200, 503]}"#;
    let url = format!("http://{}", target.address);
    let (_config, exporter) = exporter(&url, request, &[]);
    assert_eq!(requests_of(&exporter, &target), Some(3.0));
    let head = target.requests().remove(0);
    assert!(head.ends_with("\r\n\r\n{\"query\": \"stats\"}"), "{head}");
    assert!(value(&exporter.metrics(), &format!("exporter_target_up{}", target.label())) == Some(1.0));
}
