//! What applications send by OpenTelemetry's protocol over HTTP (<https://opentelemetry.io/docs/specs/otlp/>): their metrics, by the names that
//! Prometheus's receiver gives them, and calls of models, tools and stores in their spans.
//!
//! Nothing of prompts, answers, log records or descriptions of errors is kept. Spans themselves are not kept either: this is no store of traces.

mod calls;
mod convention;
mod inbox;
mod labels;
mod metrics;
mod names;
mod series;
mod worth;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{CollectError, Collector, CollectorKind, Target, gen_ai};
use crate::config::{ByteSize, SecretSource, Section};
use crate::model::{Batch, Timestamp};

pub use inbox::{Inbox, Receiver, Taken};

/// The collector `otlp`.
pub const KIND: CollectorKind = CollectorKind {
    name: "otlp",
    about: "OpenTelemetry's protocol over HTTP: metrics of applications; calls of models, tools and stores in their spans: time, tokens, errors, cost",
    metrics: &[metrics::METRICS, gen_ai::metrics::METRICS],
    build,
};

/// Series that may be held unless the configuration says otherwise, and most that it may say.
const SERIES: usize = 20_000;
const MOST_SERIES: usize = 150_000;
/// A series of which nothing came for so long is not shown any more, as Prometheus has it.
const STALE_AFTER: Duration = Duration::from_secs(300);
/// Most bytes of a request after decompression: what the protocol's specification recommends.
const MAX_BODY: u64 = 20 << 20;

/// The keys of the collector.
#[derive(Clone, Debug)]
pub struct Settings {
    token: Option<SecretSource>,
    series: usize,
    stale_after: Duration,
    max_body: usize,
    calls: gen_ai::Settings,
}

impl Settings {
    fn read(section: &Section<'_>) -> Self {
        let series = section.or("series", SERIES);
        if !(1..=MOST_SERIES).contains(&series) {
            section.error("series", format!("is not a number from 1 to {MOST_SERIES}"), "leave it out: 20000 series are held");
        }
        let max_body = section.get::<ByteSize>("max_body").map_or(MAX_BODY, |size| size.0);
        if !(1..=MAX_BODY).contains(&max_body) {
            section.error("max_body", "is not a size up to 20MiB", "leave it out: 20MiB is the default");
        }
        Settings {
            token: section.secret_source("token"),
            series: series.min(MOST_SERIES),
            stale_after: section.or("stale_after", STALE_AFTER),
            max_body: usize::try_from(max_body.min(MAX_BODY)).unwrap_or(0),
            calls: gen_ai::Settings::read(section),
        }
    }
}

fn build(section: &Section<'_>, _: &Target) -> Box<dyn Collector> {
    let settings = Arc::new(Settings::read(section));
    let inbox = section.given::<Inbox>().map(|inbox| (*inbox).clone()).unwrap_or_default();
    // What an earlier configuration has taken in stays: the receiver is the same as long as somebody holds it.
    let receiver = inbox.hold(Timestamp::now());
    let is_applied = receiver.begin(&settings);
    Box::new(Otlp { settings, receiver, is_applied })
}

struct Otlp {
    settings: Arc<Settings>,
    receiver: Arc<Receiver>,
    is_applied: bool,
}

impl Collector for Otlp {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            // Settings that replace others hold once they are in force: then they are collected.
            if !std::mem::replace(&mut self.is_applied, true) {
                self.receiver.apply(&self.settings);
            }
            self.receiver.show(&self.settings, Timestamp::now(), batch);
            Ok(())
        }
        .boxed()
    }

    fn honors_labels(&self) -> bool {
        true
    }

    fn address(&self) -> String {
        "/v1/metrics".to_owned()
    }
}
