//! What applications send by OpenTelemetry's protocol over HTTP
//! (<https://opentelemetry.io/docs/specs/otlp/>): their metrics, by the names that Prometheus's
//! receiver gives them, and calls of models, tools and stores in their spans.
//!
//! Nothing of prompts, answers, log records or descriptions of errors is kept. Spans themselves are
//! not kept either: this is no store of traces.

mod calls;
mod convention;
mod inbox;
mod labels;
mod metrics;
mod names;
mod series;
mod settings;
mod worth;

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{CollectError, Collector, CollectorKind, Target, gen_ai};
use crate::config::Section;
use crate::model::{Batch, Timestamp};

use settings::Settings;

pub use inbox::{Inbox, Receiver, Taken};

/// The collector `otlp`.
pub const KIND: CollectorKind = CollectorKind {
    name: "otlp",
    about: "OpenTelemetry's protocol over HTTP: metrics of applications; calls of models, tools and stores in their spans: time, tokens, errors, cost",
    metrics: &[metrics::METRICS, gen_ai::metrics::METRICS],
    build,
};

fn build(section: &Section<'_>, _: &Target) -> Box<dyn Collector> {
    let settings = Arc::new(Settings::read(section));
    let inbox = section
        .given::<Inbox>()
        .map(|inbox| (*inbox).clone())
        .unwrap_or_default();
    // What an earlier configuration has taken in stays: the receiver is the same as long as
    // somebody holds it.
    let receiver = inbox.hold(Timestamp::now());
    let is_applied = receiver.begin(&settings);
    Box::new(Otlp {
        settings,
        receiver,
        is_applied,
    })
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
