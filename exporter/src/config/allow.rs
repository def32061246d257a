//! What `/probe` may ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

/// An origin, or a pattern of origins: `http://host:8080`, `https://*.example.com`, `http://10.0.0.0/8:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: Pattern,
    /// `None`: any.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Host(Host<String>),
    /// Every name below this one.
    Below(String),
    Net(IpNet),
}

impl Origin {
    /// Reads an origin or a pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
            .ok_or("it begins with http:// or https://")?;
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port = match port {
            Some("*") => None,
            Some(port) => Some(
                port.parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| format!("{port:?} is no port; it is a number or *"))?,
            ),
            None if scheme == "http" => Some(80),
            None => Some(443),
        };
        let host = if let Some(name) = host.strip_prefix("*.") {
            match Host::parse(name) {
                Ok(Host::Domain(name)) => Pattern::Below(format!(".{name}")),
                _ => return Err("after *. comes a name".to_owned()),
            }
        } else if let Ok(net) = host.replace(['[', ']'], "").parse::<IpNet>() {
            Pattern::Net(net)
        } else if host.contains(['*', '/', '@', '?', '#']) {
            return Err(
                "it is scheme://host[:port], without a path; * may stand for the first part of the name or for the port".to_owned(),
            );
        } else {
            Pattern::Host(Host::parse(host).map_err(|error| error.to_string())?)
        };
        Ok(Self {
            scheme: scheme.to_owned(),
            host,
            port,
        })
    }

    /// Whether a URL is of this origin.
    pub(crate) fn covers(&self, url: &Url) -> bool {
        if url.scheme() != self.scheme || self.port.is_some_and(|port| url.port_or_known_default() != Some(port)) {
            return false;
        }
        match (&self.host, url.host()) {
            (Pattern::Host(Host::Domain(allowed)), Some(Host::Domain(name))) => {
                allowed.trim_end_matches('.') == name.trim_end_matches('.')
            }
            (Pattern::Below(suffix), Some(Host::Domain(name))) => name
                .trim_end_matches('.')
                .strip_suffix(suffix.trim_end_matches('.'))
                .is_some_and(|rest| !rest.is_empty()),
            (Pattern::Host(Host::Ipv4(allowed)), Some(Host::Ipv4(address))) => *allowed == address,
            (Pattern::Host(Host::Ipv6(allowed)), Some(Host::Ipv6(address))) => *allowed == address,
            (Pattern::Net(net), Some(Host::Ipv4(address))) => net.contains(&IpAddr::V4(address)),
            (Pattern::Net(net), Some(Host::Ipv6(address))) => net.contains(&IpAddr::V6(address)),
            _ => false,
        }
    }

    /// Whether a connection to this address may be made for a URL that is covered.
    ///
    /// A name may resolve to anything, and a network may hold more than was thought of; so an address with a special
    /// meaning must be written out, or be what `localhost` means.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        match &self.host {
            Pattern::Host(Host::Ipv4(_) | Host::Ipv6(_)) => true,
            Pattern::Host(Host::Domain(name)) if name == "localhost" => {
                address.to_canonical().is_loopback() || !is_special(address)
            }
            Pattern::Host(Host::Domain(_)) | Pattern::Below(_) | Pattern::Net(_) => !is_special(address),
        }
    }
}

/// Whether an address is this machine, this link, a group, or a cloud's metadata service: where a request could do harm
/// and no target is.
fn is_special(address: IpAddr) -> bool {
    /// Alibaba Cloud.
    const METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_unspecified()
                || address.octets()[0] == 0
                || address.is_loopback()
                // With 169.254.169.254 (metadata) and 169.254.170.2 and .23 (credentials of ECS tasks and EKS pods).
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address == METADATA
        }
        IpAddr::V6(address) => {
            let segments = address.segments();
            // fd00:ec2::/32 is where AWS has fd00:ec2::254 (metadata) and fd00:ec2::23 (credentials of EKS pods).
            let aws = segments[..2] == [0xfd00, 0x0ec2];
            address.is_unspecified()
                || address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_multicast()
                || aws
                || embedded(address).is_some_and(|address| is_special(IpAddr::V4(address)))
        }
    }
}

/// The IPv4 address that an IPv6 address is translated to: by NAT64 (RFC 6052), 6to4 (RFC 3056), or as the deprecated
/// "compatible" form.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let at = match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0, 0, 0, 0, 0, 0, _, _] => 12,
        [0x2002, ..] => 2,
        _ => return None,
    };
    let four: [u8; 4] = octets[at..at + 4].try_into().ok()?;
    Some(Ipv4Addr::from(four))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, url: &str) -> bool {
        Origin::parse(pattern).unwrap().covers(&Url::parse(url).unwrap())
    }

    #[test]
    fn an_origin_covers_itself_alone() {
        assert!(covers("http://a:8080", "http://a:8080/x?y"));
        assert!(covers("http://a", "http://a/"));
        assert!(covers("https://a", "https://A.:443/"));
        assert!(covers("http://a:*", "http://a:1/"));
        assert!(covers("http://[::1]:80", "http://[::1]/"));
        assert!(covers("http://127.0.0.1", "http://0x7f000001/"));
        for url in [
            "https://a:8080",
            "http://a",
            "http://b:8080",
            "http://a.b:8080",
            "http://a:8081",
        ] {
            assert!(!covers("http://a:8080", url), "{url}");
        }
    }

    #[test]
    fn patterns_cover_names_below_and_networks() {
        assert!(covers("http://*.example.com", "http://a.example.com/"));
        assert!(covers("http://*.example.com", "http://a.b.example.com./"));
        for url in [
            "http://example.com/",
            "http://badexample.com/",
            "http://a.example.com.evil/",
            "http://a.example.org/",
        ] {
            assert!(!covers("http://*.example.com", url), "{url}");
        }
        assert!(covers("http://10.0.0.0/8:8080", "http://10.1.2.3:8080/"));
        assert!(!covers("http://10.0.0.0/8:8080", "http://11.1.2.3:8080/"));
        assert!(!covers("http://10.0.0.0/8:8080", "http://ten.example:8080/"));
        assert!(covers("http://[fd00::/8]:*", "http://[fd00::1]:9/"));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, message) in [
            ("a:8080", "begins with http://"),
            ("ftp://a", "begins with http://"),
            ("http://a:0", "no port"),
            ("http://a:x", "no port"),
            ("http://a/path", "without a path"),
            ("http://a.*.b", "first part"),
            ("http://*", "first part"),
            ("http://*.10.0.0.1", "comes a name"),
            ("http://u@a", "without a path"),
            ("http://", "empty host"),
        ] {
            let error = Origin::parse(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn special_addresses_must_be_written_out() {
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.23",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            let address = address.parse().unwrap();
            assert!(is_special(address), "{address}");
            for pattern in ["http://a", "http://*.a", "http://0.0.0.0/0", "http://[::/0]"] {
                assert!(!Origin::parse(pattern).unwrap().admits(address), "{pattern} {address}");
            }
        }
        for address in [
            "10.0.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "8.8.8.8",
            "fd12::1",
            "2001:db8::1",
            "64:ff9b::808:808",
        ] {
            assert!(!is_special(address.parse().unwrap()), "{address}");
        }
        let loopback = "127.0.0.1".parse().unwrap();
        assert!(Origin::parse("http://localhost").unwrap().admits(loopback));
        assert!(Origin::parse("http://127.0.0.1").unwrap().admits(loopback));
        assert!(
            !Origin::parse("http://localhost")
                .unwrap()
                .admits("169.254.169.254".parse().unwrap())
        );
    }
}
