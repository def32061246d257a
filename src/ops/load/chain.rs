use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::kubernetes::{Kubernetes, ObjectId};

/// The namespace of main-service and the exporter.
const NAMESPACE: &str = "workloads";
const METRIC: &str = "http_requests_per_second";
const METRICS: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/workloads";
const EXPORTER: &str = "http://exporter.workloads.svc:2112/metrics";
const PROMETHEUS: &str = "http://prometheus.monitoring.svc:9090/api/v1/query";
/// What the exporter calls the count of requests, and how Prometheus knows it.
const SERIES: &str = "http_requests_total";

/// The metric, and what the autoscaler makes of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Scaling {
    /// Requests per second as the autoscaler reads them; `None` while there is no such metric.
    pub metric: Option<f64>,
    /// Replicas that the autoscaler wants.
    pub desired: u64,
    /// Replicas that there are.
    pub replicas: u64,
    /// Pods that take requests.
    pub ready: u64,
    /// Why the autoscaler does not scale, in its own words.
    pub holds: Option<String>,
}

/// Seconds from the first request until each link of the chain saw the load; `None` where it has not yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Delays {
    /// main-service has counted a request.
    pub counted: Option<f64>,
    /// The exporter has polled the count.
    pub polled: Option<f64>,
    /// Prometheus has scraped it.
    pub scraped: Option<f64>,
    /// prometheus-adapter serves a higher rate.
    pub served: Option<f64>,
    /// The autoscaler has decided on another number of replicas.
    pub decided: Option<f64>,
}

/// Looks at each link.
#[derive(Clone)]
pub(super) struct Chain {
    kubernetes: Kubernetes,
    http: reqwest::Client,
    before: Before,
    delays: Delays,
}

/// What the links showed before the load.
#[derive(Debug, Clone, Default)]
struct Before {
    counted: f64,
    polled: f64,
    scraped: f64,
    scaling: Scaling,
}

impl Chain {
    pub(super) fn new(kubernetes: Kubernetes, http: reqwest::Client) -> Self {
        Self {
            kubernetes,
            http,
            before: Before::default(),
            delays: Delays::default(),
        }
    }

    /// Notes how everything stands before the load.
    ///
    /// # Errors
    /// There is no autoscaler.
    pub(super) async fn begin(&mut self) -> Result<Scaling> {
        if self.autoscaler().await?.is_none() {
            return Err(Error::failed(format!(
                "there is no HorizontalPodAutoscaler main-service in the namespace {NAMESPACE}"
            )));
        }
        let (counted, polled, scraped) = tokio::join!(self.counted(), self.polled(), self.scraped());
        self.before = Before {
            counted: counted.unwrap_or_default(),
            polled: polled.unwrap_or_default(),
            scraped: scraped.unwrap_or_default(),
            scaling: self.scaling().await,
        };
        Ok(self.before.scaling.clone())
    }

    pub(super) fn delays(&self) -> Delays {
        self.delays
    }

    /// Looks at the next link that has not seen the load yet, each `period`, until all have; then never returns.
    pub(super) async fn watch(&mut self, began: Instant, period: Duration) {
        loop {
            let Before {
                counted,
                polled,
                scraped,
                scaling,
            } = &self.before;
            let more = |now: Option<f64>, before: f64| now.is_some_and(|now| now > before);
            let delays = &self.delays;
            // One after the other: no link sees what the one before it has not.
            let seen = if delays.counted.is_none() {
                more(self.counted().await, *counted)
            } else if delays.polled.is_none() {
                more(self.polled().await, *polled)
            } else if delays.scraped.is_none() {
                more(self.scraped().await, *scraped)
            } else if delays.served.is_none() {
                more(self.metric().await, scaling.metric.unwrap_or_default())
            } else if delays.decided.is_none() {
                self.scaling().await.desired != scaling.desired
            } else {
                std::future::pending::<()>().await;
                false
            };
            if seen {
                let delays = &mut self.delays;
                let links = [
                    &mut delays.counted,
                    &mut delays.polled,
                    &mut delays.scraped,
                    &mut delays.served,
                    &mut delays.decided,
                ];
                if let Some(link) = links.into_iter().find(|link| link.is_none()) {
                    *link = Some(began.elapsed().as_secs_f64());
                    continue;
                }
            }
            tokio::time::sleep(period).await;
        }
    }

    /// The metric and the autoscaler as they are. What cannot be read is told as absent.
    pub(super) async fn scaling(&self) -> Scaling {
        let (metric, autoscaler, pods) = tokio::join!(self.metric(), self.autoscaler(), self.pods());
        let autoscaler = autoscaler.ok().flatten().unwrap_or_default();
        let status = &autoscaler["status"];
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let holds = conditions
            .into_iter()
            .find(|condition| condition["type"] == "ScalingActive" && condition["status"] != "True")
            .map(|condition| {
                let text = |field: &str| condition[field].as_str().unwrap_or_default();
                format!("{}: {}", text("reason"), text("message"))
            });
        Scaling {
            metric,
            desired: number(&status["desiredReplicas"]),
            replicas: number(&status["currentReplicas"]),
            ready: u64::try_from(pods.len()).unwrap_or_default(),
            holds,
        }
    }

    async fn autoscaler(&self) -> Result<Option<Value>> {
        let id = ObjectId::namespaced("autoscaling/v2", "HorizontalPodAutoscaler", NAMESPACE, "main-service");
        Ok(self.kubernetes.get(&id).await?)
    }

    /// The metric as the autoscaler reads it.
    async fn metric(&self) -> Option<f64> {
        let list = self.kubernetes.once(METRICS, METRIC).await.ok()?;
        let values = list["items"].as_array().filter(|values| !values.is_empty())?;
        values.iter().map(|value| quantity(value["value"].as_str()?)).sum()
    }

    /// The addresses of the ready pods.
    async fn pods(&self) -> Vec<String> {
        let slices = self
            .kubernetes
            .list("discovery.k8s.io/v1", "EndpointSlice", Some(NAMESPACE))
            .await
            .unwrap_or_default();
        let ready = slices
            .iter()
            .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "main-service")
            .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
            .filter(|endpoint| endpoint["conditions"]["ready"] == true);
        ready
            .filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned))
            .collect()
    }

    /// The requests that all pods together have counted.
    async fn counted(&self) -> Option<f64> {
        let mut sum = 0.0;
        for pod in self.pods().await {
            let answer = self.http.get(format!("http://{pod}:8080/metrics")).send().await.ok()?;
            sum += answer.json::<Value>().await.ok()?["request_count"].as_f64()?;
        }
        Some(sum)
    }

    /// The requests that the exporter tells.
    async fn polled(&self) -> Option<f64> {
        let text = self.http.get(EXPORTER).send().await.ok()?.text().await.ok()?;
        Some(sum(&text))
    }

    /// The requests that Prometheus knows.
    async fn scraped(&self) -> Option<f64> {
        let query = [("query", format!("sum({SERIES}{{namespace=\"{NAMESPACE}\"}})"))];
        let url = url::Url::parse_with_params(PROMETHEUS, query).ok()?;
        let answer = self.http.get(url).send().await.ok()?.json::<Value>().await.ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

/// The sum of the series in an exposition.
fn sum(exposition: &str) -> f64 {
    let values = exposition.lines().filter_map(|line| {
        let rest = line.strip_prefix(SERIES)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest,
        };
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    values.sum()
}

/// A Kubernetes quantity as the metrics API writes one: `37`, `36973m`, `1k`.
fn quantity(text: &str) -> Option<f64> {
    let (number, factor) = match text.chars().last()? {
        'n' => (&text[..text.len() - 1], 1e-9),
        'u' => (&text[..text.len() - 1], 1e-6),
        'm' => (&text[..text.len() - 1], 1e-3),
        'k' => (&text[..text.len() - 1], 1e3),
        'M' => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_read_as_the_metrics_api_writes_it() {
        for (text, value) in [
            ("37", 37.0),
            ("36973m", 36.973),
            ("1500", 1500.0),
            ("2k", 2000.0),
            ("0", 0.0),
        ] {
            assert_eq!(quantity(text), Some(value), "{text}");
        }
        for text in ["", "m", "many"] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    #[test]
    fn an_exposition_is_summed_over_its_targets() {
        let text = "# TYPE http_requests_total counter\n\
                    http_requests_total{target=\"127.1.2.3:8080\"} 40\n\
                    http_requests_total{target=\"a}b\"} 2.5 1700000000000\n\
                    http_requests_total_created 9\n\
                    http_400_response_total{target=\"x\"} 7\n";
        assert!((sum(text) - 42.5).abs() < f64::EPSILON);
    }
}
