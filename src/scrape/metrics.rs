//! The loop's own counters.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tracing::{info, warn};

use crate::telemetry::Telemetry;

use super::target::TargetInfo;

/// Counters that every target's task shares.
#[derive(Clone, Default)]
pub(super) struct Metrics {
    pub(super) targets: Gauge,
    pub(super) failed: Counter,
    pub(super) panics: Counter,
    pub(super) skipped: Counter,
    pub(super) repeated: Counter,
    pub(super) out_of_bounds: Counter,
    pub(super) no_room: Counter,
    pub(super) duplicate: Counter,
    pub(super) out_of_order: Counter,
    pub(super) native_histograms: Counter,
}

impl Metrics {
    pub(super) fn register(telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            registry.register("scrape_targets", "Targets that are collected", metrics.targets.clone());
            registry.register("scrape_collections_failed", "Collections that failed", metrics.failed.clone());
            registry.register("scrape_collector_panics", "Collections that ended in a panic", metrics.panics.clone());
            registry.register(
                "scrape_collections_skipped",
                "Collections left out because the one before took too long",
                metrics.skipped.clone(),
            );
            registry.register("scrape_samples_repeated", "Samples dropped because their series came twice", metrics.repeated.clone());
            registry.register(
                "scrape_samples_out_of_bounds",
                "Samples refused for a time that is too far in the future, or so old that its block is on disk",
                metrics.out_of_bounds.clone(),
            );
            registry.register(
                "scrape_samples_duplicate",
                "Samples refused for another value at the same instant",
                metrics.duplicate.clone(),
            );
            registry.register(
                "scrape_samples_out_of_order",
                "Samples refused for being older than their series",
                metrics.out_of_order.clone(),
            );
            registry.register(
                "scrape_native_histograms",
                "Native histograms scraped: they are stored, but the text of /metrics and /federate cannot carry them",
                metrics.native_histograms.clone(),
            );
            registry.register(
                "scrape_samples_without_room",
                "Samples dropped for label limits or because the store takes no more series",
                metrics.no_room.clone(),
            );
        });
        metrics
    }
}

/// Samples of a target that the store refused in one collection; told when that begins and when it ends (SEMANTICS 10).
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) duplicate: usize,
    pub(super) out_of_order: usize,
    pub(super) out_of_bounds: usize,
    told: bool,
}

impl Refusals {
    /// Logs a change, and begins to count anew.
    pub(super) fn tell(&mut self, info: &TargetInfo) {
        let Refusals { duplicate, out_of_order, out_of_bounds, told } = std::mem::take(self);
        let (collector, target, job) = (info.kind, info.labels.value("instance"), &info.pool);
        self.told = duplicate + out_of_order + out_of_bounds > 0;
        match (told, self.told) {
            (false, true) => {
                warn!(collector, target, job, duplicate, out_of_order, out_of_bounds, "Samples are refused for their timestamps.");
            }
            (true, false) => info!(collector, target, job, "Samples are taken again."),
            _ => {}
        }
    }
}
