//! What a jump of the clock changes here: whatever waits goes on waiting as long as it would have,
//! and nothing is notified twice because of it.
//!
//! Silences and quiet hours keep the wall time that people gave them. When an alert began stays
//! too: that names the firing, in links and in acknowledgements.

use tracing::warn;

use super::dispatcher::{Dispatcher, Restored};
use crate::alerting::dispatch::Dispatch;
use crate::model::clock::{self, Jump};
use crate::model::{Alert, Timestamp};

impl Dispatcher {
    /// Follows the jumps of the clock since the last call; call it before anything is decided by
    /// `now`.
    pub(in crate::alerting) fn follow_clock(&mut self, now: Timestamp) {
        let total = clock::total();
        let moved = total - std::mem::replace(&mut self.jumped, total);
        if moved != 0 {
            self.clock_jumped(Jump {
                from: Timestamp(now.0.saturating_sub(moved)),
                to: now,
            });
        }
    }

    fn clock_jumped(&mut self, jump: Jump) {
        self.groups
            .values_mut()
            .for_each(|group| group.next_flush = jump.moved(group.next_flush));
        self.alerts.for_each(|alert| end_moved(alert, jump));
        self.log.for_each(|entry| {
            entry.sent_at = jump.moved(entry.sent_at);
            entry.expires_at = jump.moved(entry.expires_at);
        });
        self.escalations
            .for_each(|row| row.notified_at = jump.moved(row.notified_at));
        self.escalated_at = jump.moved(self.escalated_at);
        self.flaps.for_each(|row| {
            row.changed_at = jump.moved(row.changed_at);
            row.begins.iter_mut().for_each(|at| *at = jump.moved(*at));
        });
        self.actions.for_each(|row| {
            row.body.verify_ms = row.body.verify_ms.map(|at| jump.moved(Timestamp(at)).0)
        });
    }
}

/// An end that was to come comes as much later; one that is over stays over.
fn end_moved(alert: &mut Alert, jump: Jump) {
    if let Some(end) = alert.ends_at {
        alert.ends_at = Some(if end <= jump.from {
            end.min(jump.to)
        } else {
            jump.moved(end)
        });
    }
}

impl Restored {
    /// The process that wrote it down may have had a clock that was ahead: nothing that is over
    /// lies after `now`.
    pub(in crate::alerting) fn not_after(mut self, now: Timestamp) -> Self {
        self.log
            .iter_mut()
            .for_each(|row| row.sent_at = row.sent_at.min(now));
        self.escalations
            .iter_mut()
            .for_each(|row| row.notified_at = row.notified_at.min(now));
        for row in &mut self.flaps {
            row.changed_at = row.changed_at.min(now);
            row.begins.iter_mut().for_each(|at| *at = (*at).min(now));
        }
        for row in &mut self.alerts {
            let was_over = row.alert.is_resolved(row.alert.updated_at);
            row.alert.ends_at = row
                .alert
                .ends_at
                .map(|end| if was_over { end.min(now) } else { end });
        }
        self
    }
}

impl Dispatch {
    /// Takes the wall clock's new time, and moves with it whatever waits, before anything is
    /// decided by it. How old a message is must not grow by a jump: those that wait are younger
    /// first and older never.
    pub(in crate::alerting) async fn adopt_clock(&mut self) -> Option<Jump> {
        let expected = clock::pending()?;
        if !expected.is_back() {
            self.move_messages(expected).await;
        }
        let jump = {
            let mut memory = self.memory.lock();
            let jump = clock::adopt()?;
            memory.follow_clock(jump.to);
            jump
        };
        (self.cleaned_at, self.looked_at) = (jump.moved(self.cleaned_at), Timestamp::MIN);
        if jump.is_back() {
            self.move_messages(jump).await;
        }
        let everything = self.memory.lock().everything();
        self.commit(everything).await;
        Some(jump)
    }

    async fn move_messages(&self, jump: Jump) {
        for (mailbox, _) in self.mailboxes.values() {
            mailbox
                .unsaved
                .lock()
                .iter_mut()
                .for_each(|message| message.created_at = jump.moved(message.created_at));
        }
        if let Err(error) = self.state.move_messages(jump.millis()).await {
            warn!(%error, "The age of waiting messages cannot be moved with the clock.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn an_end_that_is_over_stays_over_and_one_to_come_comes_as_much_later() {
        let alert = |ends_at: Option<i64>| Alert {
            labels: Labels::from_pairs([("alertname", "A")]),
            annotations: Labels::empty(),
            starts_at: Timestamp(900),
            ends_at: ends_at.map(Timestamp),
            updated_at: Timestamp(1000),
            generator_url: String::new(),
            value: None,
            peak: None,
            evidence: Vec::new(),
            shipped: false,
        };
        let moved = |ends_at, to| {
            let mut alert = alert(ends_at);
            end_moved(
                &mut alert,
                Jump {
                    from: Timestamp(1000),
                    to: Timestamp(to),
                },
            );
            alert.ends_at.map(|end| end.0)
        };
        assert_eq!(
            [
                moved(Some(990), 400),
                moved(Some(1060), 400),
                moved(None, 400)
            ],
            [Some(400), Some(460), None]
        );
        assert_eq!(
            [moved(Some(990), 9000), moved(Some(1060), 9000)],
            [Some(990), Some(9060)]
        );
    }
}
