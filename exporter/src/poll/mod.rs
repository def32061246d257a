//! Polls targets in the background.

mod board;
mod created;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::BuildHasher as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use url::Host;

pub(crate) use board::Board;

use crate::config::{TARGET_LABEL, Target};
use crate::fetch::{Addresses, Client, Endpoint, Reason, Resolver};
use crate::read::read;
use crate::telemetry::Telemetry;

/// Dropped by each part of the first round when it has been through.
type Token = mpsc::Sender<Infallible>;

/// What polling needs.
pub(crate) struct Poller {
    pub(crate) client: Arc<Client>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) board: Arc<Board>,
    pub(crate) period: Duration,
    /// How long addresses are kept while no name server answers.
    pub(crate) dns_grace: Duration,
}

/// A URL to poll and what is known about its addresses.
struct Source {
    poller: Arc<Poller>,
    /// Its place among the URLs.
    index: usize,
    target: Target,
    endpoint: Arc<Endpoint>,
    /// Without query and password, which are nobody's business.
    name: String,
    running: HashMap<SocketAddr, Running>,
    /// When a name server last gave an answer.
    answered: Option<Instant>,
    /// What the last look-up came to, so that only a change is logged.
    trouble: Option<String>,
    first: Option<Token>,
}

/// A task that polls one address, and its place on the board. Both go together.
struct Running {
    task: JoinHandle<()>,
    claim: board::Claim,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Poller {
    /// Begins to poll. The receiver ends when every target was polled once, whatever it answered.
    ///
    /// # Errors
    ///
    /// If a URL cannot be asked.
    pub(crate) fn start(self: Arc<Self>, targets: Vec<Target>) -> Result<mpsc::Receiver<Infallible>, String> {
        let (token, first_round) = mpsc::channel(1);
        let mut sources = Vec::new();
        for (index, target) in targets.into_iter().enumerate() {
            let endpoint = Arc::new(Endpoint::new(&target.url, &target.module.request, &target.values)?);
            let mut name = target.url.clone();
            name.set_query(None);
            sources.push(Source {
                poller: Arc::clone(&self),
                index,
                target,
                endpoint,
                name: name.into(),
                running: HashMap::new(),
                answered: None,
                trouble: None,
                first: Some(token.clone()),
            });
        }
        for source in sources {
            tokio::spawn(source.run());
        }
        Ok(first_round)
    }
}

impl Source {
    async fn run(mut self) {
        let mut clock = Clock::new(self.poller.period, &self.name);
        loop {
            let addresses = match self.endpoint.host() {
                Host::Ipv4(address) => Addresses::Found(vec![(*address).into()]),
                Host::Ipv6(address) => Addresses::Found(vec![(*address).into()]),
                Host::Domain(name) => self.poller.resolver.resolve(name).await,
            };
            self.apply(addresses);
            self.first = None;
            clock.tick().await;
        }
    }

    fn apply(&mut self, addresses: Addresses) {
        let trouble = match addresses {
            Addresses::Found(addresses) => {
                self.answered = Some(Instant::now());
                let port = self.endpoint.port();
                self.reconcile(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
                None
            }
            Addresses::None => {
                self.answered = Some(Instant::now());
                self.reconcile(Vec::new());
                self.poller.telemetry.not_polled(Reason::Dns);
                Some("the name has no address".to_owned())
            }
            Addresses::Unknown(problem) => {
                self.poller.telemetry.not_polled(Reason::Dns);
                let grace = self.poller.dns_grace;
                if self.answered.is_none_or(|at| at.elapsed() > grace) {
                    self.reconcile(Vec::new());
                    Some(problem)
                } else {
                    Some(format!(
                        "{problem}; polling the addresses known so far for at most {grace:?}"
                    ))
                }
            }
        };
        self.poller
            .board
            .set_addresses(self.index, &self.name, self.running.len());
        if trouble != self.trouble {
            match &trouble {
                Some(problem) => tracing::warn!(url = self.name, reason = Reason::Dns.as_str(), "{problem}"),
                None => tracing::info!(
                    url = self.name,
                    addresses = self.running.len(),
                    "the name resolves again"
                ),
            }
            self.trouble = trouble;
        }
    }

    /// Polls these addresses and no others.
    fn reconcile(&mut self, wanted: Vec<SocketAddr>) {
        let gone: Vec<SocketAddr> = self
            .running
            .keys()
            .filter(|address| !wanted.contains(address))
            .copied()
            .collect();
        for address in gone {
            if let Some(running) = self.running.remove(&address) {
                self.poller.board.release(running.claim);
                tracing::info!(url = self.name, target_address = %address, "the address is gone");
            }
        }
        for address in wanted {
            if self.running.contains_key(&address) {
                continue;
            }
            let labels: Arc<str> = format!("{TARGET_LABEL}=\"{address}\"{}", self.target.labels).into();
            let Some(claim) = self.poller.board.claim(&labels, &self.target.module) else {
                // Two URLs lead to one target; to poll it twice would count its requests twice.
                self.poller.telemetry.not_polled(Reason::DuplicateTarget);
                tracing::debug!(url = self.name, target_address = %address, "polled for another URL already");
                continue;
            };
            tracing::info!(url = self.name, target_address = %address, "polling a new address");
            let task = tokio::spawn(poll(
                Arc::clone(&self.poller),
                self.target.clone(),
                Arc::clone(&self.endpoint),
                address,
                labels,
                claim,
                self.first.clone(),
            ));
            self.running.insert(address, Running { task, claim });
        }
    }
}

/// Polls one address for ever.
async fn poll(
    poller: Arc<Poller>,
    target: Target,
    endpoint: Arc<Endpoint>,
    address: SocketAddr,
    labels: Arc<str>,
    claim: board::Claim,
    mut first: Option<Token>,
) {
    let mut clock = Clock::new(poller.period, &labels);
    let mut history = created::History::default();
    let mut trouble: Option<Reason> = None;
    let mut up = false;
    loop {
        let began = Instant::now();
        let asked_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let result = read(&poller.client, &endpoint, address, &target.module, &labels).await;
        let failure = result.as_ref().err().map(crate::read::ReadError::reason);
        poller.telemetry.polled(began.elapsed(), failure);
        match result {
            Ok(batch) => {
                let batch = history.follow(batch, &target.module.mapping, asked_at.as_secs_f64());
                poller.board.report(claim, Some(batch));
                if !up {
                    tracing::info!(target_address = %address, "the target is up");
                }
                up = true;
            }
            Err(error) => {
                poller.board.report(claim, None);
                if trouble != failure {
                    let reason = error.reason().as_str();
                    tracing::warn!(target_address = %address, url = %target.url.path(), reason, "the target is down: {error}");
                }
                up = false;
            }
        }
        trouble = failure;
        drop(first.take());
        clock.tick().await;
    }
}

/// Ticks once in a period. The first tick comes early by a random part of it, so that targets found together are not
/// polled together for ever.
struct Clock {
    period: Duration,
    next: Instant,
}

impl Clock {
    fn new(period: Duration, seed: &str) -> Self {
        // The hasher is seeded with random numbers.
        let random = RandomState::new().hash_one(seed) % 1024;
        let part = u32::try_from(random).unwrap_or_default();
        Self {
            period,
            next: Instant::now() + period / 2 + period / 2048 * part,
        }
    }

    async fn tick(&mut self) {
        tokio::time::sleep_until(self.next).await;
        // After a pause of the whole process there is no use in catching up.
        self.next = (self.next + self.period).max(Instant::now());
    }
}
