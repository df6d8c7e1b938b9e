//! Alerts to other Alertmanagers (`alerting.alertmanagers` of a prometheus.yml), by
//! `POST /api/v2/alerts`.
//!
//! A slow or absent Alertmanager costs nothing but its own alerts: one bounded queue and one task
//! for each. Firing alerts are repeated at every resend, so a dropped batch is made up by the next
//! one; drops are counted.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tracing::warn;
use url::Url;

use crate::http::{Client, Request};
use crate::model::{Alert, Labels, Timestamp};
use crate::telemetry::Telemetry;

/// Batches that wait for one server.
const QUEUE: usize = 64;

/// One server.
#[derive(Clone)]
pub struct Endpoint {
    /// Where to post: `http://am:9093/api/v2/alerts`.
    pub url: Url,
    /// How.
    pub client: Client,
    /// Deadline of one request.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabel {
    alertmanager: String,
}

/// Counts of what was sent; registered once, kept over reloads.
#[derive(Clone, Default)]
pub struct Metrics {
    sent: Family<ServerLabel, Counter>,
    failed: Family<ServerLabel, Counter>,
}

impl Metrics {
    /// Publishes the counts.
    pub fn register(telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            registry.register(
                "alertmanager_alerts_sent",
                "Alerts that an outside Alertmanager accepted.",
                metrics.sent.clone(),
            );
            registry.register(
                "alertmanager_alerts_failed",
                "Alerts that an outside Alertmanager did not get.",
                metrics.failed.clone(),
            );
        });
        metrics
    }
}

/// The servers that the configuration names, by URL without userinfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Those that get alerts.
    pub active: Vec<String>,
    /// Those that relabelling dropped.
    pub dropped: Vec<String>,
}

/// Sends to every server. Dropping it ends its tasks.
pub struct Sender {
    queues: Vec<(String, mpsc::Sender<Value>)>,
    metrics: Metrics,
}

impl Sender {
    /// Starts a task for each server; must be called inside the runtime.
    pub fn start(endpoints: Vec<Endpoint>, metrics: Metrics) -> Self {
        let queues = endpoints
            .into_iter()
            .map(|endpoint| {
                let name = format!(
                    "{}:{}",
                    endpoint.url.host_str().unwrap_or(""),
                    endpoint.url.port_or_known_default().unwrap_or(0)
                );
                let (sender, receiver) = mpsc::channel(QUEUE);
                tokio::spawn(deliver(endpoint, name.clone(), receiver, metrics.clone()));
                (name, sender)
            })
            .collect();
        Sender { queues, metrics }
    }

    /// Queues these alerts for every server; never waits.
    pub fn send(&self, alerts: &[Alert]) {
        if alerts.is_empty() || self.queues.is_empty() {
            return;
        }
        let body = Value::Array(alerts.iter().map(encode).collect());
        for (name, queue) in &self.queues {
            if queue.try_send(body.clone()).is_err() {
                self.metrics
                    .failed
                    .get_or_create(&ServerLabel {
                        alertmanager: name.clone(),
                    })
                    .inc_by(alerts.len() as u64);
            }
        }
    }
}

async fn deliver(
    endpoint: Endpoint,
    name: String,
    mut queue: mpsc::Receiver<Value>,
    metrics: Metrics,
) {
    let label = ServerLabel {
        alertmanager: name.clone(),
    };
    let mut failing = false;
    while let Some(body) = queue.recv().await {
        let count = body.as_array().map_or(0, Vec::len) as u64;
        let answer = endpoint
            .client
            .send(Request::post_json(
                endpoint.url.clone(),
                &body,
                endpoint.timeout,
            ))
            .await;
        let problem = match answer {
            Ok(response) if response.status / 100 == 2 => None,
            Ok(response) => Some(format!("status {}", response.status)),
            Err(error) => Some(error.to_string()),
        };
        match problem {
            None => {
                metrics.sent.get_or_create(&label).inc_by(count);
                failing = false;
            }
            Some(error) => {
                metrics.failed.get_or_create(&label).inc_by(count);
                if !failing {
                    warn!(alertmanager = %name, error, "Sending alerts failed.");
                }
                failing = true;
            }
        }
    }
}

/// An alert as Alertmanager's API takes it.
fn encode(alert: &Alert) -> Value {
    let object = |labels: &Labels| {
        labels
            .iter()
            .map(|(n, v)| (n.to_owned(), Value::from(v)))
            .collect::<Map<_, _>>()
    };
    let mut body = json!({
        "labels": object(&alert.labels),
        "annotations": object(&alert.annotations),
        "startsAt": alert.starts_at.rfc3339(),
        "generatorURL": alert.generator_url,
    });
    if let Some(end) = alert.ends_at {
        body["endsAt"] = Value::from(Timestamp::rfc3339(end));
    }
    body
}
