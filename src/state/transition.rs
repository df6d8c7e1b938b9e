//! Everything that one step of the dispatcher changes, written in one transaction: either all of it
//! happened, or none.

use super::statement::Statement;
use super::tables::{
    action_log, alert_groups, alerts, decisions, escalations, flaps, notification_log, outbox,
};
use super::{
    ActionRow, AlertRow, DecisionRow, Error, EscalationRow, FlapRow, GroupRow, LogRow, OutboxRow,
    State,
};

/// One step's changes.
#[derive(Clone, Debug, Default)]
pub struct Transition {
    /// Whether `alerts`, `groups`, `escalations` and `flaps` are all there are: rows that are not
    /// among them go.
    pub replace: bool,
    /// Alerts that are new or have changed.
    pub alerts: Vec<AlertRow>,
    /// Fingerprints of alerts whose end has been notified.
    pub gone_alerts: Vec<u64>,
    /// Timers that are new or have changed.
    pub groups: Vec<GroupRow>,
    /// Groups that have ended.
    pub gone_groups: Vec<String>,
    /// Escalations that are new or have changed.
    pub escalations: Vec<EscalationRow>,
    /// Escalations that are over.
    pub gone_escalations: Vec<EscalationRow>,
    /// What is known of the changes of alerts.
    pub flaps: Vec<FlapRow>,
    /// What integrations are being notified of.
    pub log: Vec<LogRow>,
    /// The messages that tell them, in order.
    pub messages: Vec<OutboxRow>,
    /// What was decided about alerts.
    pub decisions: Vec<DecisionRow>,
    /// Recovery actions that were judged.
    pub actions: Vec<ActionRow>,
}

impl Transition {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        !self.replace
            && self.alerts.is_empty()
            && self.gone_alerts.is_empty()
            && self.groups.is_empty()
            && self.gone_groups.is_empty()
            && self.escalations.is_empty()
            && self.gone_escalations.is_empty()
            && self.flaps.is_empty()
            && self.log.is_empty()
            && self.messages.is_empty()
            && self.decisions.is_empty()
            && self.actions.is_empty()
    }
}

/// What of a transition the database could not keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The delivery ids of messages: they must be sent from memory.
    pub messages: Vec<String>,
}

impl State {
    /// Writes a transition. When this returns `Ok`, it survives `kill -9` and power loss, but for
    /// what the value names.
    pub async fn record(&self, transition: &Transition) -> Result<Refused, Error> {
        if transition.is_empty() {
            return Ok(Refused::default());
        }
        let mut statements: Vec<Statement> = Vec::new();
        if transition.replace {
            statements.extend([
                alerts::clear(),
                alert_groups::clear(),
                escalations::clear(),
                flaps::clear(),
            ]);
        }
        statements.extend(transition.alerts.iter().map(alerts::put));
        statements.extend(
            transition
                .gone_alerts
                .iter()
                .map(|fingerprint| alerts::remove(*fingerprint)),
        );
        statements.extend(transition.groups.iter().map(alert_groups::put));
        statements.extend(
            transition
                .gone_groups
                .iter()
                .map(|id| alert_groups::remove(id)),
        );
        statements.extend(transition.escalations.iter().map(escalations::put));
        statements.extend(transition.gone_escalations.iter().map(escalations::remove));
        statements.extend(transition.flaps.iter().map(flaps::put));
        statements.extend(transition.log.iter().map(notification_log::put));
        let messages = statements.len();
        statements.extend(transition.messages.iter().map(outbox::put));
        statements.extend(transition.decisions.iter().map(decisions::put));
        statements.extend(transition.actions.iter().map(action_log::put));
        match self.write_all("record transition", &statements, true).await {
            Ok(()) => Ok(Refused::default()),
            Err(error) if error.is_about_a_row() => {
                let refused = self.write_each("record transition", &statements).await?;
                let lost = |index: usize| {
                    index
                        .checked_sub(messages)
                        .and_then(|index| transition.messages.get(index))
                };
                let lost = refused
                    .into_iter()
                    .filter_map(lost)
                    .map(|message| message.delivery_id.clone());
                Ok(Refused {
                    messages: lost.collect(),
                })
            }
            Err(error) => Err(error),
        }
    }
}
