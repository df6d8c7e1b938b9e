//! Who is notified instead of a receiver that cannot be: its fallback, or the default receiver
//! where a template left no address.

use std::sync::Arc;

use tracing::error;

use super::deliverer::Deliverer;
use super::mailbox::Mailbox;
use crate::alerting::config::Integration;
use crate::alerting::flush::message::derived_id;
use crate::model::{Stage, Timestamp};
use crate::notify::{Notification, NotifyError};
use crate::state::OutboxRow;

impl Deliverer {
    /// Gives a message whose address a template failed to make to the default receiver: somebody
    /// must be notified of it, and of the template.
    pub(in crate::alerting) async fn relieve(
        &self,
        row: &OutboxRow,
        error: &NotifyError,
        now: Timestamp,
    ) -> bool {
        let is_handed_over = self.hand_over(row, &self.fallbacks.last_resort, now).await;
        if is_handed_over {
            let (receiver, notifier) = (&self.integration.receiver, self.integration.kind);
            self.metrics.misled.get_or_create(&self.labels).inc();
            error!(receiver, notifier, group_key = row.group_key, %error, "A template left no address; the default receiver is notified instead.");
        }
        is_handed_over
    }

    /// Gives a message to others; false when there is nobody who has not had it.
    pub(in crate::alerting) async fn hand_over(
        &self,
        row: &OutboxRow,
        to: &[(Integration, Arc<Mailbox>)],
        now: Timestamp,
    ) -> bool {
        let Ok(message) = serde_json::from_str::<Notification>(&row.body) else {
            return false;
        };
        let others = to
            .iter()
            .filter(|(other, _)| !message.stands_in_for.contains(&other.receiver));
        let passed = others.map(|(other, mailbox)| {
            let mut stands_in_for = message.stands_in_for.clone();
            stands_in_for.push(self.integration.receiver.clone());
            let delivery_id = derived_id(&other.key, &[&row.delivery_id]);
            let passed = Notification {
                delivery_id: delivery_id.clone(),
                receiver: other.receiver.clone(),
                stands_in_for,
                ..message.clone()
            };
            let row = OutboxRow {
                delivery_id,
                integration: other.key.clone(),
                created_at: now,
                held: other.policy.holds(&passed, now),
                // Strings, numbers and lists of them always have a JSON form.
                body: serde_json::to_string(&passed).unwrap_or_default(),
                ..row.clone()
            };
            (row, mailbox)
        });
        let passed: Vec<(OutboxRow, &Arc<Mailbox>)> = passed.collect();
        if passed.is_empty() {
            return false;
        }
        let rows: Vec<OutboxRow> = passed.iter().map(|(row, _)| row.clone()).collect();
        let written = self.state.hand_over(&row.delivery_id, &rows).await.is_ok();
        for (row, mailbox) in passed {
            mailbox.expect(&row.delivery_id);
            if written {
                mailbox.wake()
            } else {
                drop(mailbox.keep(row))
            };
        }
        self.metrics.fallback.get_or_create(&self.labels).inc();
        let to = rows
            .iter()
            .map(|row| row.integration.clone())
            .collect::<Vec<_>>();
        let decided = self.decided(row, now, |_| Stage::HandedOver { to: to.clone() });
        self.leave(row, &decided).await;
        true
    }

    /// Gives all that waits to the fallback.
    pub(in crate::alerting) async fn hand_over_all(&mut self, now: Timestamp) {
        let mut after = 0;
        let quiet = self.integration.policy.is_quiet(now);
        while let Ok(Some((position, row))) = self
            .state
            .next_message(&self.integration.key, after, !quiet)
            .await
        {
            after = position;
            if !self.mailbox.done.lock().contains(&row.delivery_id) {
                self.hand_over(&row, &self.fallbacks.fallback, now).await;
            }
        }
        let unsaved: Vec<OutboxRow> = self.mailbox.unsaved.lock().iter().cloned().collect();
        for row in unsaved {
            self.hand_over(&row, &self.fallbacks.fallback, now).await;
        }
    }
}
