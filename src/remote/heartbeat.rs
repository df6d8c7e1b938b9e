//! A heartbeat to a URL outside (`heartbeat: {url, interval}`): the service there notices when this
//! nightbell is gone, which it cannot tell itself. A plain GET, as the usual dead man's switches
//! take it; failures are counted, logged when they begin and end, and harmless.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use tracing::{info, warn};
use url::Url;

use crate::config::Section;
use crate::http::{Client, Request};
use crate::telemetry::Telemetry;

/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often a configuration without a heartbeat is looked at again.
const LOOK: Duration = Duration::from_secs(15);

/// The block `heartbeat`.
#[derive(Clone)]
pub struct Heartbeat {
    url: Url,
    interval: Duration,
}

impl Heartbeat {
    /// Reads the block; the URL identifies us to the service, so it may be a `url_file` and is
    /// never shown.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let interval = section.or("interval", Duration::from_secs(60));
        if interval < Duration::from_secs(1) {
            section.error("interval", "is below a second", "give for example 1m");
        }
        let written = section.secret("url");
        if written.is_none() && section.node("url").is_none() && section.node("url_file").is_none()
        {
            section.error("", "has neither url nor url_file", "add url: https://…");
        }
        let url = written.and_then(|text| match Url::parse(text.expose().trim()) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Some(url),
            _ => {
                section.error(
                    "url",
                    "is not an http or https URL",
                    "give for example https://hc.example.org/ping/…",
                );
                None
            }
        });
        section.finish();
        Some(Heartbeat {
            url: url?,
            interval,
        })
    }
}

/// What is counted.
#[derive(Clone, Default)]
pub struct Metrics {
    sent: Counter,
    failed: Counter,
}

impl Metrics {
    /// Publishes them.
    pub fn register(telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            registry.register(
                "heartbeats",
                "Heartbeats that were tried.",
                metrics.sent.clone(),
            );
            registry.register(
                "heartbeats_failed",
                "Heartbeats that the outside did not take.",
                metrics.failed.clone(),
            );
        });
        metrics
    }
}

/// Sends heartbeats until the process ends, as `settings` says at the time.
pub async fn run(
    settings: Arc<RwLock<Option<Heartbeat>>>,
    metrics: Metrics,
) -> Result<(), Infallible> {
    let (client, mut failing) = (Client::plain(), false);
    loop {
        let Some(beat) = settings.read().clone() else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        metrics.sent.inc();
        let problem = match client.send(Request::get(beat.url, DEADLINE)).await {
            Ok(answer) if (200..300).contains(&answer.status) => None,
            Ok(answer) => Some(format!("answered {}", answer.status)),
            Err(error) => Some(error.to_string()),
        };
        match (&problem, failing) {
            (Some(error), false) => warn!(error, "The heartbeat is not taken."),
            (None, true) => info!("The heartbeat is taken again."),
            _ => {}
        }
        failing = problem.is_some();
        if failing {
            metrics.failed.inc();
        }
        tokio::time::sleep(beat.interval).await;
    }
}
