//! The loop's own counters.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::evaluate::group::{Group, GroupOutcome};
use crate::telemetry::Telemetry;

/// The label `rule_group`: `file;name`, as Prometheus writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct GroupLabel {
    rule_group: String,
}

impl GroupLabel {
    pub(super) fn new(group: &Group) -> Self {
        GroupLabel {
            rule_group: format!("{};{}", group.definition.file, group.definition.name),
        }
    }
}

#[derive(Default)]
pub(super) struct Metrics {
    evaluations: Family<GroupLabel, Counter>,
    failures: Family<GroupLabel, Counter>,
    missed: Family<GroupLabel, Counter>,
    samples: Family<GroupLabel, Gauge>,
    duration: Family<GroupLabel, Gauge<f64, std::sync::atomic::AtomicU64>>,
    not_recorded: Counter,
}

impl Metrics {
    pub(super) fn register(telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            registry.register(
                "rule_evaluations",
                "Rules evaluated",
                metrics.evaluations.clone(),
            );
            registry.register(
                "rule_evaluation_failures",
                "Rules whose evaluation failed",
                metrics.failures.clone(),
            );
            registry.register(
                "rule_group_iterations_missed",
                "Evaluations left out because the one before took too long",
                metrics.missed.clone(),
            );
            registry.register(
                "rule_group_last_samples",
                "Samples that the last evaluation wrote",
                metrics.samples.clone(),
            );
            registry.register(
                "rule_group_last_duration_seconds",
                "Duration of the last evaluation",
                metrics.duration.clone(),
            );
            registry.register(
                "rule_state_not_recorded",
                "Evaluations whose alert state could not be written",
                metrics.not_recorded.clone(),
            );
        });
        metrics
    }

    pub(super) fn evaluated(
        &self,
        label: &GroupLabel,
        outcome: &GroupOutcome,
        took: Duration,
        missed: u64,
    ) {
        self.counted(label, outcome);
        self.missed.get_or_create(label).inc_by(missed);
        self.samples
            .get_or_create(label)
            .set(i64::try_from(outcome.samples).unwrap_or(i64::MAX));
        self.duration.get_or_create(label).set(took.as_secs_f64());
    }

    /// Counts the rules that were evaluated, at a slot or not.
    pub(super) fn counted(&self, label: &GroupLabel, outcome: &GroupOutcome) {
        self.evaluations
            .get_or_create(label)
            .inc_by(outcome.evaluations);
        self.failures.get_or_create(label).inc_by(outcome.failures);
    }

    pub(super) fn not_recorded(&self) {
        self.not_recorded.inc();
    }

    /// Drops the series of a group that is gone.
    pub(super) fn forget(&self, group: &Group) {
        let label = GroupLabel::new(group);
        self.evaluations.remove(&label);
        self.failures.remove(&label);
        self.missed.remove(&label);
        self.samples.remove(&label);
        self.duration.remove(&label);
    }
}
