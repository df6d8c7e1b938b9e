//! The loop's own counters.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Telemetry;

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
                "Samples dropped because they are stamped too far in the future",
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
