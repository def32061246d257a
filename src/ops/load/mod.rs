//! Load for the sandbox's main service, and what the scaling chain makes of it.
//!
//! The chain: main-service counts a request, the exporter polls the count, Prometheus scrapes the exporter,
//! prometheus-adapter makes a rate of it, and the autoscaler decides by the rate.

mod chain;
mod generator;

use std::time::{Duration, Instant};

use serde::Serialize;

use self::chain::Chain;
use self::generator::Generator;
use super::{Context, sandbox_spec};
use crate::error::{Error, Result};

pub use self::chain::{Delays, Scaling};
pub use self::generator::Requests;

/// How often the chain is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// How often, while a link has not seen the load yet.
const FAST: Duration = Duration::from_millis(250);

/// What load to make.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Requests per second. They are sent at that rate however slowly they are answered.
    pub rate: u32,
    /// For how long; without it until the user ends it.
    pub duration: Option<Duration>,
}

/// The load and the chain at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Seconds since the first request.
    pub elapsed: f64,
    /// Requests per second that were sent since the last sample.
    pub rate: f64,
    /// The requests so far.
    #[serde(flatten)]
    pub requests: Requests,
    /// The metric and what the autoscaler makes of it.
    #[serde(flatten)]
    pub scaling: Scaling,
    /// When each link saw the load.
    pub delays: Delays,
}

/// Sees each sample as it is taken.
pub trait LoadView {
    /// Shows a sample.
    ///
    /// # Errors
    /// It cannot be shown, and then nobody wants the load any more.
    fn show(&mut self, sample: &Sample) -> Result<()>;
}

/// The load as it was.
#[derive(Debug, Serialize)]
pub struct LoadSummary {
    /// The last sample.
    #[serde(flatten)]
    pub last: Sample,
    /// Replicas before the load.
    pub replicas_before: u64,
    /// The most replicas that the autoscaler asked for.
    pub most_desired: u64,
}

/// Sends requests to main-service and looks at the chain until the time is over or the user ends it.
///
/// # Errors
/// The environment is no sandbox, or does not run, or has no autoscaler.
pub async fn load(context: &mut Context, options: LoadOptions, view: &mut dyn LoadView) -> Result<LoadSummary> {
    sandbox_spec(&context.project, &context.environment, mfsre_sandbox::StartedBy::Start)?;
    context.attach().await?;
    let environment = context.environment.name.to_string();
    let up = || format!("bring it up with `mfsre up {environment}`");
    if !context.find_cluster().await? {
        return Err(Error::failed(format!("{environment} has no cluster yet")).hint(up()));
    }
    let proxy = context.sandbox.as_ref().map(|status| status.pod_proxy_url.clone());
    let proxy = proxy.ok_or_else(|| Error::failed(format!("the sandbox of {environment} does not run")).hint(up()))?;
    let http = reqwest::Proxy::http(proxy)
        .and_then(|proxy| {
            reqwest::Client::builder()
                .proxy(proxy)
                .timeout(Duration::from_secs(10))
                .build()
        })
        .map_err(|error| Error::failed("cannot set up an HTTP client for the pods").caused_by(&error))?;
    let mut chain = Chain::new(context.kubernetes()?.clone(), http.clone());
    let before = chain.begin().await.map_err(|error| error.hint(up()))?;

    let generator = Generator::start(http, options.rate);
    let began = Instant::now();
    let end = options.duration.map(|duration| began + duration);
    let (mut last_sent, mut last_at) = (0, began);
    let mut most_desired = before.desired;
    let mut next = began + PERIOD;
    loop {
        let until = [Some(next), end].into_iter().flatten().min().unwrap_or(next);
        tokio::select! {
            () = context.cancellation.cancelled() => {}
            () = chain.watch(began, FAST) => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
        let is_over = context.cancellation.is_cancelled() || end.is_some_and(|end| Instant::now() >= end);
        let requests = if is_over {
            generator.stop().await
        } else {
            generator.requests()
        };
        let scaling = chain.scaling().await;
        let (now, sent) = (Instant::now(), requests.sent);
        let since = now.duration_since(last_at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of requests within a second")]
        let rate = (sent - last_sent) as f64 / since.max(0.001);
        (last_sent, last_at, next) = (sent, now, (next + PERIOD).max(now));
        most_desired = most_desired.max(scaling.desired);
        let sample = Sample {
            elapsed: began.elapsed().as_secs_f64(),
            rate,
            requests,
            scaling,
            delays: chain.delays(),
        };
        view.show(&sample)?;
        if is_over {
            return Ok(LoadSummary {
                last: sample,
                replicas_before: before.replicas,
                most_desired,
            });
        }
    }
}
