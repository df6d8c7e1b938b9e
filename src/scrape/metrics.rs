//! The loop's own counters.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tracing::{info, warn};

use crate::model::Labels;
use crate::store::Refused;
use crate::telemetry::{Sparing, Telemetry};

use super::error::PageError;
use super::target_info::TargetInfo;

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
    beyond: Family<Target, Counter>,
    missed: Family<Target, Counter>,
    said: Arc<Sparing>,
}

/// A target whose collections are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Target {
    scrape_job: String,
    target: String,
}

impl Target {
    fn of(info: &TargetInfo) -> Self {
        Target {
            scrape_job: info.pool.clone(),
            target: info.labels.value("instance").to_owned(),
        }
    }
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
            registry.register(
                "scrape_collections_missed",
                "Collections that count for nothing because nightbell itself stood still for a quarter of their deadline or more",
                metrics.missed.clone(),
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
                "scrape_series_limit_exceeded",
                "Collections that failed because their target would have more series in memory than limits.series_per_target",
                metrics.beyond.clone(),
            );
            registry.register(
                "scrape_samples_without_room",
                "Samples dropped for label limits or because the store takes no more series",
                metrics.no_room.clone(),
            );
        });
        metrics
    }

    /// Counts a collection that was missed, and says so once a minute.
    pub(super) fn missed(&self, info: &TargetInfo, reason: &str) {
        self.missed.get_or_create(&Target::of(info)).inc();
        if let Some(collections) = self.said.due() {
            let (collector, target, job) = (info.kind, info.labels.value("instance"), &info.pool);
            warn!(
                collector,
                target,
                job,
                reason,
                collections,
                "A collection was missed: nightbell gets too little processor time or memory."
            );
        }
    }

    /// Counts a collection that brought a series which the store does not take from this target;
    /// gives back what to say.
    pub(super) fn beyond(&self, info: &TargetInfo, labels: &Labels, refused: Refused) -> PageError {
        let name = labels.metric_name().to_owned();
        match refused {
            Refused::ShareTaken(most) => {
                self.beyond.get_or_create(&Target::of(info)).inc();
                PageError::SeriesLimit { name, most }
            }
            refused => PageError::NotStored { name, refused },
        }
    }
}

/// Samples of a target that the store refused in one collection; logged when that begins and when
/// it ends (SEMANTICS 10).
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) duplicate: usize,
    pub(super) out_of_order: usize,
    pub(super) out_of_bounds: usize,
    /// Samples of series that the store does not take.
    pub(super) no_room: usize,
    logged: bool,
    logged_no_room: bool,
}

impl Refusals {
    /// Logs a change, and begins to count anew. A collection that failed says nothing of room.
    pub(super) fn tell(&mut self, info: &TargetInfo, up: bool) {
        let Refusals {
            duplicate,
            out_of_order,
            out_of_bounds,
            no_room,
            logged,
            logged_no_room,
        } = std::mem::take(self);
        let (collector, target, job) = (info.kind, info.labels.value("instance"), &info.pool);
        self.logged = duplicate + out_of_order + out_of_bounds > 0;
        match (logged, self.logged) {
            (false, true) => {
                warn!(
                    collector,
                    target,
                    job,
                    duplicate,
                    out_of_order,
                    out_of_bounds,
                    "Samples are refused for their timestamps."
                );
            }
            (true, false) => info!(collector, target, job, "Samples are taken again."),
            _ => {}
        }
        self.logged_no_room = if up { no_room > 0 } else { logged_no_room };
        match (logged_no_room, self.logged_no_room) {
            (false, true) => {
                warn!(
                    collector,
                    target,
                    job,
                    samples = no_room,
                    "The store has no room for new series; limits.series sets how many it holds."
                );
            }
            (true, false) => info!(
                collector,
                target, job, "The store has room for all series again."
            ),
            _ => {}
        }
    }
}
