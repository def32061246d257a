use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// The Service, whose ready pods share the requests.
const TARGET: &str = "http://main-service.workloads.svc:8080/index";
/// How many requests may wait for an answer. More would be waiting for a service that does not answer any more.
const WAITING: usize = 512;

/// The requests so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Sent.
    pub sent: u64,
    /// Answered with a status of success.
    pub answered: u64,
    /// Answered otherwise, or not at all.
    pub failed: u64,
    /// Not sent, because too many were waiting for an answer.
    pub withheld: u64,
    /// The longest time to an answer, in milliseconds.
    pub slowest_ms: u64,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    withheld: AtomicU64,
    slowest_ms: AtomicU64,
}

/// Sends requests at a fixed rate, whatever becomes of them: a slow service is not spared.
#[derive(Debug)]
pub(super) struct Generator {
    counts: Arc<Counts>,
    waiting: Arc<Semaphore>,
    task: AbortHandle,
    /// Ends the task when dropped.
    _tasks: JoinSet<()>,
}

impl Generator {
    pub(super) fn start(http: reqwest::Client, rate: u32) -> Self {
        let counts = Arc::new(Counts::default());
        let waiting = Arc::new(Semaphore::new(WAITING));
        let mut tasks = JoinSet::new();
        let task = tasks.spawn(send(http, rate, Arc::clone(&counts), Arc::clone(&waiting)));
        Self {
            counts,
            waiting,
            task,
            _tasks: tasks,
        }
    }

    pub(super) fn requests(&self) -> Requests {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Requests {
            sent: read(&self.counts.sent),
            answered: read(&self.counts.answered),
            failed: read(&self.counts.failed),
            withheld: read(&self.counts.withheld),
            slowest_ms: read(&self.counts.slowest_ms),
        }
    }

    /// Sends nothing more, and waits for what is under way.
    pub(super) async fn stop(&self) -> Requests {
        self.task.abort();
        let all = u32::try_from(WAITING).unwrap_or(u32::MAX);
        // Each request gives its permit back when it has ended, which a limit on its time makes sure of.
        let _ = tokio::time::timeout(Duration::from_secs(10), self.waiting.acquire_many(all)).await;
        self.requests()
    }
}

async fn send(http: reqwest::Client, rate: u32, counts: Arc<Counts>, waiting: Arc<Semaphore>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    // What was missed is made up for, so that the rate holds.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&waiting).try_acquire_owned() else {
            counts.withheld.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        counts.sent.fetch_add(1, Ordering::Relaxed);
        let (http, counts) = (http.clone(), Arc::clone(&counts));
        tokio::spawn(async move {
            let began = Instant::now();
            let answer = http.get(TARGET).send().await;
            let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            counts.slowest_ms.fetch_max(took, Ordering::Relaxed);
            let count = match answer {
                Ok(answer) if answer.status().is_success() => &counts.answered,
                _ => &counts.failed,
            };
            count.fetch_add(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A proxy that answers each request so, after that long.
    async fn proxy(status: &'static str, after: Duration) -> reqwest::Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        assert!(buffer[..length].starts_with(format!("GET {TARGET} HTTP/1.1").as_bytes()));
                        tokio::time::sleep(after).await;
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let proxy = reqwest::Proxy::http(format!("http://{address}")).unwrap();
        reqwest::Client::builder().proxy(proxy).build().unwrap()
    }

    #[tokio::test]
    async fn requests_go_out_at_the_rate_however_slow_the_answers_are() {
        let generator = Generator::start(proxy("200 OK", Duration::from_millis(300)).await, 100);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let requests = generator.stop().await;
        assert!((90..=110).contains(&requests.sent), "{requests:?}");
        assert_eq!(
            (requests.answered, requests.failed),
            (requests.sent, 0),
            "all were waited for"
        );
        assert!(requests.slowest_ms >= 300, "{requests:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(generator.requests(), requests, "nothing is sent any more");
    }

    #[tokio::test]
    async fn an_error_is_counted_as_one() {
        let generator = Generator::start(proxy("502 Bad Gateway", Duration::ZERO).await, 50);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let requests = generator.stop().await;
        assert_eq!((requests.answered, requests.failed), (0, requests.sent));
        assert!(requests.sent > 5);
    }

    #[tokio::test]
    async fn what_is_never_answered_is_not_heaped_up() {
        let generator = Generator::start(proxy("200 OK", Duration::from_secs(3600)).await, 2000);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let requests = generator.requests();
        assert_eq!(requests.sent, WAITING as u64, "{requests:?}");
        assert!(requests.withheld > 100, "{requests:?}");
    }
}
