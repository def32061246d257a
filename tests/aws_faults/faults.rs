//! Faults x calls.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use mfsre::aws::Call;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::aws::{FakeAws, Seen, error};
use crate::calls::{ENVIRONMENT, PRIVATE_KEY, SECRET_ACCESS_KEY, Told, connect, healthy, make};
use crate::canary::{Canary, Searched, parts_of_key};
use crate::common::report;
use crate::http::Answer;

/// Scenarios at the same time.
const AT_ONCE: usize = 256;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Throttled,
    /// A fault of the service, with AWS's code.
    Internal,
    /// The same, with the wish to be left alone for a second.
    Unavailable,
    /// A proxy on the way that cannot reach AWS.
    BadGateway,
    Reset,
    Silent,
    /// This machine's clock is an hour slow.
    Clock,
    Expired,
    Denied,
}

use Fault::{BadGateway, Clock, Denied, Expired, Internal, Reset, Silent, Throttled, Unavailable};

const FAULTS: [Fault; 9] = [
    Throttled,
    Internal,
    Unavailable,
    BadGateway,
    Reset,
    Silent,
    Clock,
    Expired,
    Denied,
];

/// For how long it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    /// Twice, or until the call is right.
    Passing,
    /// For ever.
    Lasting,
}

impl Fault {
    /// Whether trying again is of use.
    fn is_helped_by_time(self) -> bool {
        !matches!(self, Expired | Denied)
    }

    /// Whether `call` can fail so. S3 says nothing in the answer to a HEAD, so a refusal is told by the calls around it.
    fn can_meet(self, call: Call) -> bool {
        call != Call::ListBucket || matches!(self, BadGateway | Reset | Silent)
    }

    /// The answer, where this fault has one to give.
    fn answer(self, seen: &Seen, span: Span) -> Option<Answer> {
        let says = |status, code: &str, message: &str| Some(error(seen, status, code, message));
        match (self, seen.service.as_str()) {
            (Throttled, "ec2") => says(503, "RequestLimitExceeded", "Request limit exceeded."),
            (Throttled, "s3") => says(503, "SlowDown", "Please reduce your request rate."),
            (Throttled, "iam" | "sts" | "elasticloadbalancing") => says(400, "Throttling", "Rate exceeded"),
            (Throttled, "eks") => says(429, "TooManyRequestsException", "Too Many Requests"),
            (Throttled, _) => says(400, "ThrottlingException", "Rate exceeded"),
            (Internal, _) => says(500, "InternalFailure", "An internal error has occurred."),
            (Unavailable, _) => match error(seen, 503, "ServiceUnavailable", "Service is unavailable.") {
                Answer::Reply(status, mut headers, body) => {
                    headers.push(("retry-after", "1".into()));
                    Some(Answer::Reply(status, headers, body))
                }
                other => Some(other),
            },
            (BadGateway, _) => Some(Answer::Reply(
                502,
                Vec::new(),
                "<html><body>Bad Gateway</body></html>".into(),
            )),
            (Reset, _) => Some(Answer::Reset),
            (Silent, _) => Some(Answer::Silence(Duration::from_secs(20))),
            (Clock, _) => refuse_the_date(seen, span),
            (Expired, "ec2") => says(400, "RequestExpired", "Request has expired."),
            (Expired, "iam" | "sts" | "elasticloadbalancing" | "s3") => says(
                403,
                "ExpiredToken",
                "The security token included in the request is expired",
            ),
            (Expired, _) => says(
                400,
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ),
            (Denied, "ec2") => says(
                403,
                "UnauthorizedOperation",
                "You are not authorized to perform this operation.",
            ),
            (Denied, "iam" | "sts" | "elasticloadbalancing" | "s3") => {
                says(403, "AccessDenied", "User: alice is not authorized")
            }
            (Denied, _) => says(400, "AccessDeniedException", "User: alice is not authorized"),
        }
    }
}

/// AWS, an hour ahead, takes only what was signed near its own time. Where the fault is lasting its answers have no date.
fn refuse_the_date(seen: &Seen, span: Span) -> Option<Answer> {
    let now = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    let signed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", seen.request.header("x-amz-date")).unwrap();
    let signed = signed.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    if (now.as_second() - signed.as_second()).abs() < 300 {
        return None;
    }
    let code = match seen.service.as_str() {
        "ec2" => "AuthFailure",
        "iam" | "sts" | "elasticloadbalancing" => "SignatureDoesNotMatch",
        "s3" => "RequestTimeTooSkewed",
        _ => "InvalidSignatureException",
    };
    let message = format!("Signature expired: {signed} is now earlier than {now}");
    let Answer::Reply(status, mut headers, body) = error(seen, 403, code, &message) else {
        return None;
    };
    if span == Span::Passing {
        headers.push(("date", now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()));
    }
    Some(Answer::Reply(status, headers, body))
}

/// What a scenario came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Retried,
    Told,
}

fn is_about(seen: &Seen, call: Call) -> bool {
    // Two APIs have this one; they are asked at the same time.
    let other = call == Call::DescribeLoadBalancers && seen.request.body.contains("Version=2012-06-01");
    seen.action() == call.to_string() && !other
}

async fn scenario(call: Call, fault: Fault, span: Span, heard: &Heard) -> Outcome {
    let count = Arc::new(AtomicUsize::new(0));
    let (counter, healthy) = (count.clone(), healthy());
    let fake = FakeAws::start(move |seen| {
        let hit = is_about(seen, call);
        let number = if hit {
            counter.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let fails = hit && (span == Span::Lasting || fault == Clock || number < 2);
        fails
            .then(|| fault.answer(seen, span))
            .flatten()
            .unwrap_or_else(|| healthy(seen))
    })
    .await;
    let answer = Duration::from_millis(if fault == Silent { 4000 } else { 20_000 });
    // A budget of retries of its own: the SDK keeps one for each region.
    let region = format!("eu-{call:?}{fault:?}{span:?}-1").to_lowercase();
    let aws = connect(&fake, &region, answer).await;
    let result = make(&aws, call).await;

    let tries: Vec<Seen> = fake.seen().into_iter().filter(|seen| is_about(seen, call)).collect();
    for seen in fake.seen() {
        assert!(
            Call::ALL.iter().any(|c| c.to_string() == seen.action()),
            "{} is not in the table",
            seen.action()
        );
        crate::policy::assert_allowed(&seen);
        assert!(seen.request.header("user-agent").contains("app/mfsre"), "{seen:?}");
    }
    assert!(!tries.is_empty(), "{call} was not made");
    match result {
        Ok(()) => {
            assert!(
                fault.is_helped_by_time() && span == Span::Passing,
                "{call} {fault:?} {span:?} is no success"
            );
            // A clock is put right at the first refusal.
            let failed = if fault == Clock { 1 } else { 2 };
            assert!(tries.len() > failed, "{call} {fault:?}: {} tries", tries.len());
            if fault == Unavailable {
                let waited = tries[1].request.at - tries[0].request.at;
                assert!(
                    waited >= Duration::from_secs(1),
                    "{call}: Retry-After was not honoured: {waited:?}"
                );
            }
            Outcome::Retried
        }
        Err(error) => {
            assert!(
                !fault.is_helped_by_time() || span == Span::Lasting,
                "{call} {fault:?} {span:?}: {}",
                error.text()
            );
            let once = matches!(fault, Expired | Denied | Clock);
            match fault {
                // A busy machine may give a try up before it has arrived.
                Silent => assert!((2..=4).contains(&tries.len()), "{call} {fault:?}: {tries:?}"),
                _ => assert_eq!(tries.len(), if once { 1 } else { 4 }, "{call} {fault:?}: {tries:?}"),
            }
            heard.note(&fake.seen(), &error);
            let text = told(call, fault, error);
            heard.told.lock().unwrap().push(("an error".to_owned(), text));
            Outcome::Told
        }
    }
}

/// What the scenarios have sent to be kept, and what they have told.
#[derive(Default)]
struct Heard {
    sent: Mutex<Vec<String>>,
    told: Mutex<Vec<(String, String)>>,
}

impl Heard {
    fn note(&self, seen: &[Seen], error: &Told) {
        let sent = seen.iter().map(|seen| &seen.request.body);
        let sent = sent.filter(|body| body.contains("SecretString") || body.contains("SecureString"));
        self.sent.lock().unwrap().extend(sent.cloned());
        self.told
            .lock()
            .unwrap()
            .push(("the inside of an error".to_owned(), format!("{error:?}")));
    }

    /// Neither whose calls they are, nor what AWS keeps, nor what was sent to be kept is in what a user reads, or a developer.
    fn nothing_has_leaked(self) {
        let named = |name: &str, secret: &str| (name.to_owned(), secret.as_bytes().to_vec());
        let mut secrets = vec![named("the secret access key", SECRET_ACCESS_KEY)];
        secrets.extend(parts_of_key(&PRIVATE_KEY));
        for body in self.sent.into_inner().unwrap() {
            let body: Value = serde_json::from_str(&body).unwrap();
            if let Some(document) = body["SecretString"].as_str() {
                let document: Value = serde_json::from_str(document).unwrap();
                let kept = ["password", "bcrypt"].into_iter();
                secrets.extend(kept.filter_map(|name| Some(named(name, document[name].as_str()?))));
            } else {
                secrets.extend(parts_of_key(body["Value"].as_str().unwrap()));
            }
        }
        secrets.sort();
        secrets.dedup();
        let secrets: Vec<(&str, Vec<u8>)> = secrets.iter().map(|(n, s)| (n.as_str(), s.clone())).collect();
        let searched = Searched::default();
        Canary::new(&secrets).assert_absent(self.told.into_inner().unwrap(), &searched);
        searched.report("errors of AWS");
    }
}

/// The error names the call, what came back and the next step.
fn told(call: Call, fault: Fault, error: Told) -> String {
    // A sweep tries again what time may help, and then says the next step by the command that removes a thing.
    let has_hint = matches!(error, Told::Error(_)) || !fault.is_helped_by_time() || fault == Clock;
    let text = error.text();
    let (because, hint) = match fault {
        Throttled => ("limit|rate|too many", "is throttling this account: wait a minute"),
        Internal => ("internal error", "AWS has a disturbance"),
        Unavailable => ("unavailable", "AWS has a disturbance"),
        BadGateway => ("", "AWS has a disturbance"),
        Reset => ("", "check the network and AWS_ENDPOINT_URL"),
        Silent => ("timeout|timed out", "check the network and AWS_ENDPOINT_URL"),
        Clock => ("signature expired", "the clock of this machine is wrong"),
        Expired => ("expired", "your AWS session has expired"),
        Denied => ("not authorized", "mfsre iam-policy ENV"),
    };
    let lower = text.to_lowercase();
    assert!(text.contains(&format!("{call} failed")), "{text}");
    assert!(because.split('|').any(|b| lower.contains(b)), "{fault:?}: {text}");
    assert!(!has_hint || text.contains(hint), "{fault:?}: {text}");
    if fault == Denied {
        for action in call.actions() {
            assert!(text.contains(action), "the missing action {action}: {text}");
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_created_has_the_tags_of_the_environment() {
    let fake = FakeAws::start(healthy()).await;
    let aws = connect(&fake, "eu-tags-1", Duration::from_secs(20)).await;
    for call in [Call::CreateSecret, Call::PutParameter] {
        make(&aws, call).await.unwrap();
        let seen = fake.seen().into_iter().find(|seen| is_about(seen, call)).unwrap();
        let body: Value = serde_json::from_str(&seen.request.body).unwrap();
        let tag = |key: &str, value: &str| serde_json::json!({ "Key": key, "Value": value });
        let wanted = [
            tag("mfsre:environment", ENVIRONMENT),
            tag("mfsre:managed-by", "mfsre"),
            tag("team", "platform"),
        ];
        assert_eq!(body["Tags"], serde_json::json!(wanted), "{call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_every_call_is_survived_or_told() {
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut scenarios = JoinSet::new();
    let heard = Arc::new(Heard::default());
    // A silent AWS is told by the clock, so that comes last, when nothing else keeps the processors busy.
    let (by_the_clock, at_once) = FAULTS.into_iter().partition::<Vec<Fault>, _>(|fault| *fault == Silent);
    for faults in [at_once, by_the_clock] {
        let of_each = |call| faults.iter().map(move |fault| (call, *fault));
        for (call, fault) in Call::ALL.iter().copied().flat_map(of_each) {
            for span in [Span::Passing, Span::Lasting] {
                // What time does not help is the same either way.
                if span == Span::Lasting && !fault.is_helped_by_time() || !fault.can_meet(call) {
                    continue;
                }
                let (gate, heard) = (gate.clone(), heard.clone());
                scenarios.spawn(async move {
                    let _permit = gate.acquire().await.unwrap();
                    (fault, span, scenario(call, fault, span, &heard).await)
                });
            }
        }
    }
    let (mut retried, mut told) = (0, 0);
    while let Some(done) = scenarios.join_next().await {
        match done.unwrap().2 {
            Outcome::Retried => retried += 1,
            Outcome::Told => told += 1,
        }
    }
    report::figure(
        "faults",
        "AWS",
        &[
            ("faults", FAULTS.len() as u64),
            ("calls", Call::ALL.len() as u64),
            ("scenarios", retried + told),
            ("retried", retried),
            ("told", told),
        ],
    );
    Arc::into_inner(heard).unwrap().nothing_has_leaked();
}

/// The connection is refused: nothing listens.
#[tokio::test]
async fn an_aws_that_is_not_there_is_told() {
    let mut fake = FakeAws::start(healthy()).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    fake.url.set_port(Some(free)).unwrap();
    let aws = connect(&fake, "eu-refused-1", Duration::from_secs(5)).await;
    for call in [Call::GetCallerIdentity, Call::DescribeVpcs] {
        let text = make(&aws, call).await.unwrap_err().text();
        assert!(text.contains("failed") && text.contains("check the network"), "{text}");
    }
}

/// As after a removal, for half a minute.
#[tokio::test]
async fn a_parameter_whose_name_is_not_free_yet_is_put_a_little_later() {
    let (healthy, refused) = (healthy(), AtomicBool::new(false));
    let fake = FakeAws::start(move |seen| {
        if seen.action() == "ssm:PutParameter" && !refused.swap(true, Ordering::Relaxed) {
            return error(seen, 400, "TooManyUpdates", "Please retry in a while");
        }
        healthy(seen)
    })
    .await;
    let aws = connect(&fake, "eu-settling-1", Duration::from_secs(20)).await;
    assert!(aws.create_note("/demo/mfsre/lock", "free", "demo").await.unwrap());
    let puts = fake
        .seen()
        .iter()
        .filter(|seen| seen.action() == "ssm:PutParameter")
        .count();
    assert_eq!(puts, 2);
}

/// Nothing that a cluster takes can be signed by a wrong clock; what AWS answers puts it right.
#[tokio::test]
async fn a_cluster_token_is_signed_by_the_clock_of_aws() {
    let healthy = healthy();
    let fake = FakeAws::start(move |seen| Clock.answer(seen, Span::Passing).unwrap_or_else(|| healthy(seen))).await;
    let aws = connect(&fake, "eu-token-1", Duration::from_secs(20)).await;
    aws.identity().await.unwrap();
    let token = aws.cluster_token("demo").await.unwrap();
    let ahead = token.expires.as_second() - jiff::Timestamp::now().as_second();
    assert!(
        (13 * 60..=14 * 60).contains(&ahead),
        "it is renewed by this machine's clock: {ahead}"
    );
    let text = secrecy::ExposeSecret::expose_secret(&token.token).to_owned();
    let url = base64::Engine::decode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        text.strip_prefix("k8s-aws-v1.").unwrap(),
    )
    .unwrap();
    let url = url::Url::parse(std::str::from_utf8(&url).unwrap()).unwrap();
    let date = url
        .query_pairs()
        .find(|(k, _)| k == "X-Amz-Date")
        .unwrap()
        .1
        .into_owned();
    let signed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &date).unwrap();
    let signed = signed
        .to_zoned(jiff::tz::TimeZone::UTC)
        .unwrap()
        .timestamp()
        .as_second();
    let wanted = jiff::Timestamp::now().as_second() + 3600;
    assert!((signed - wanted).abs() < 30, "{date}");
}
