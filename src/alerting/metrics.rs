//! What the alerting side counts about itself, in Alertmanager's spirit.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::config::Integration;
use crate::telemetry::Telemetry;

/// Which integration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IntegrationLabels {
    receiver: String,
    notifier: &'static str,
}

/// Which integration, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FailureLabels {
    receiver: String,
    notifier: &'static str,
    reason: &'static str,
}

/// Which integration, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    receiver: String,
    notifier: &'static str,
    outcome: &'static str,
}

impl IntegrationLabels {
    /// The labels of an integration.
    pub fn of(integration: &Integration) -> Self {
        IntegrationLabels {
            receiver: integration.receiver.clone(),
            notifier: integration.kind,
        }
    }

    /// The same with a reason.
    pub fn because(&self, reason: &'static str) -> FailureLabels {
        FailureLabels {
            receiver: self.receiver.clone(),
            notifier: self.notifier,
            reason,
        }
    }

    /// The same with what came of it.
    pub fn ended(&self, outcome: &'static str) -> OutcomeLabels {
        OutcomeLabels {
            receiver: self.receiver.clone(),
            notifier: self.notifier,
            outcome,
        }
    }
}

/// Why alerts are refused.
const REASONS: [&str; 2] = ["share", "invalid"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

/// The counters; cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Attempts.
    pub notifications: Family<IntegrationLabels, Counter>,
    /// Failed attempts.
    pub failed: Family<FailureLabels, Counter>,
    /// Templates that failed, so that a built-in text stood for what they would have printed.
    pub template_failures: Family<IntegrationLabels, Counter>,
    /// Messages given up.
    pub dead: Family<FailureLabels, Counter>,
    /// Messages given to the fallback.
    pub fallback: Family<IntegrationLabels, Counter>,
    /// Messages whose address a template failed to make, given to the default receiver.
    pub misled: Family<IntegrationLabels, Counter>,
    /// Messages that wait.
    pub outbox: Family<IntegrationLabels, Gauge>,
    /// Seconds that attempts took, and nothing else: with the attempts, their mean.
    pub duration: Family<IntegrationLabels, Counter<f64, std::sync::atomic::AtomicU64>>,
    /// Alerts that came in.
    pub received: Counter,
    /// Alerts that were refused, by reason.
    refused: Family<RefusalLabels, Counter>,
    /// Active alerts.
    pub alerts: Gauge,
    /// Alerts that flap.
    pub flapping: Gauge,
    /// Aggregation groups.
    pub groups: Gauge,
    /// Messages held in memory alone, because the database failed.
    pub unsaved: Gauge,
    /// Recovery actions, by what came of them.
    pub actions: Family<OutcomeLabels, Counter>,
    /// Recovery actions after which the alert fired on, or did not.
    pub judged: Family<OutcomeLabels, Counter>,
}

impl Metrics {
    /// Counts alerts that were refused.
    pub fn refuse(&self, reason: &'static str, count: u64) {
        self.refused
            .get_or_create(&RefusalLabels { reason })
            .inc_by(count);
    }

    /// Registers them.
    pub fn register(telemetry: &Telemetry) -> Self {
        let m = Metrics::default();
        // From the start, so that the first refusal is an increase.
        REASONS.iter().for_each(|reason| m.refuse(reason, 0));
        telemetry.register(|r| {
            r.register("notifications", "Attempts to deliver a message.", m.notifications.clone());
            r.register("notifications_failed", "Attempts to deliver a message that failed, by reason.", m.failed.clone());
            let help = "Templates of messages that failed, so that the built-in text was sent with the error.";
            r.register("notification_template_failures", help, m.template_failures.clone());
            r.register("notifications_dead", "Messages given up after a permanent error, kept as dead letters.", m.dead.clone());
            r.register("notifications_fallback", "Messages given to the fallback of a receiver that is down.", m.fallback.clone());
            let help = "Messages sent to the default receiver because a template failed to make their address.";
            r.register("notifications_misled", help, m.misled.clone());
            r.register("notification_duration_seconds", "Time spent in attempts to deliver.", m.duration.clone());
            r.register("outbox_messages", "Messages that a receiver has not accepted yet.", m.outbox.clone());
            r.register("outbox_unsaved_messages", "Messages held in memory alone because the state database failed.", m.unsaved.clone());
            let help = "Recovery actions, and those that were not taken, by what came of them.";
            r.register("recovery_actions", help, m.actions.clone());
            let help = "Recovery actions judged by whether the alert still fired some time after: helped or not_helped.";
            r.register("recovery_actions_judged", help, m.judged.clone());
            r.register("alerts_received", "Reports of alerts that came in.", m.received.clone());
            let help = "Posted alerts that were refused: the share of alerts from outside is used up, or they are invalid.";
            r.register("alerts_refused", help, m.refused.clone());
            r.register("alerts", "Alerts that fire.", m.alerts.clone());
            r.register("alerts_flapping", "Alerts that begin and end too often.", m.flapping.clone());
            r.register("alert_groups", "Aggregation groups.", m.groups.clone());
        });
        m
    }
}
