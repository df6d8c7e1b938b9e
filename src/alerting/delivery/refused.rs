//! What a deliverer does with a message that its receiver refused.

use std::time::Duration;

use tracing::warn;

use crate::model::{Stage, Timestamp};
use crate::notify::{AlertStatus, Notification, NotifyError};
use crate::state::{OutboxRow, Transition};

use super::deliverer::Deliverer;

/// Alerts of nightbell about its own messages: one that is lost raises no further one.
const OWN: [&str; 2] = ["NightbellNotificationsLost", "NightbellNotificationsFail"];
/// First and longest wait of a refused message about ends alone.
const END_WAITS: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(3600));

/// Whether a message is about nothing but messages that were not delivered.
pub fn is_about_messages(message: &Notification) -> bool {
    message
        .alerts
        .iter()
        .all(|alert| OWN.contains(&alert.label("alertname")))
}

impl Deliverer {
    /// Notes that a message was accepted.
    pub(in crate::alerting) fn note_accepted(&self, message: &Notification) {
        self.memory.lock().accepted(&self.integration.key, message);
    }

    /// Drops a message about the end of what this receiver was never made to accept; false where it
    /// is another message.
    pub(in crate::alerting) async fn drop_unheard_end(
        &self,
        row: &OutboxRow,
        message: &Notification,
        now: Timestamp,
    ) -> bool {
        let unheard = self
            .memory
            .lock()
            .is_unheard_end(&self.integration.key, message);
        if unheard {
            let decided = self.decided(row, now, |_| Stage::EndedUnnotified);
            self.leave(row, &decided).await;
        }
        unheard
    }

    /// Deals with a message that the receiver refused. One about ends alone is tried again by
    /// itself, for nothing else would send it; any other becomes a dead letter and does not count
    /// as sent.
    pub(in crate::alerting) async fn not_accepted(
        &mut self,
        row: &OutboxRow,
        message: &Notification,
        error: &NotifyError,
        now: Timestamp,
    ) {
        let firing = message
            .alerts
            .iter()
            .any(|alert| alert.status == AlertStatus::Firing);
        if !firing && now.since(row.created_at) < self.integration.policy.give_up_after {
            self.put_off(row, message, error, END_WAITS, now).await;
            return;
        }
        let (log, former, first) =
            self.memory
                .lock()
                .not_accepted(&self.integration.key, message, now);
        self.give_up(row, error, first && !is_about_messages(message), now)
            .await;
        // A failure is counted by the state itself; at worst the dispatcher writes the entry with
        // its next one.
        let _ = self
            .state
            .record(&Transition {
                log,
                ..Transition::default()
            })
            .await;
        if let Some(letter) = former {
            let _ = self.state.remove_dead_letter(&letter).await;
        }
    }

    /// Lets one message wait apart, so that it holds up no other.
    pub(in crate::alerting) async fn put_off(
        &mut self,
        row: &OutboxRow,
        message: &Notification,
        error: &NotifyError,
        (first, longest): (Duration, Duration),
        now: Timestamp,
    ) {
        let count = self.mailbox.put_off(&row.delivery_id, now, |count| {
            error
                .retry_after
                .unwrap_or_default()
                .max(first.saturating_mul(1 << count.min(20)).min(longest))
        });
        let (receiver, notifier) = (&self.integration.receiver, self.integration.kind);
        if count == 1 {
            warn!(receiver, notifier, group_key = message.group_key, %error, "Message was refused; it waits apart and is tried again.");
        }
        self.note_failure(row, error, now).await;
    }
}
