//! Messages that a receiver refused: they do not count as sent, so the next flush sends again, ever later up to `repeat_interval`; and the
//! end of an alert is not sent where its beginning was refused. In memory alone: after a restart the next flush tries at once.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tracing::warn;

use super::message::summarise;
use crate::alerting::delivery::task::Deliverer;
use crate::alerting::memory::dispatcher::Dispatcher;
use crate::alerting::mute::flapping::flapping_id;
use crate::model::{Stage, Timestamp};
use crate::notify::{AlertStatus, Notification, NotifyError};
use crate::state::{LogRow, OutboxRow, Transition};

/// Alerts of nightbell about its own messages: one that is lost raises no further one.
const OWN: [&str; 2] = ["NightbellNotificationsLost", "NightbellNotificationsFail"];
/// Waits of a group that is no longer there.
const GONE: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(4 * 3600));
/// First and longest wait of a refused message about ends alone.
const END_WAITS: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(3600));

/// What one receiver refused of one group since it last accepted something.
#[derive(Clone, Debug, Default)]
pub struct Unaccepted {
    /// How many messages in a row.
    pub count: u32,
    /// When the same alerts are sent again at the earliest.
    pub retry_at: Timestamp,
    /// The alerts whose beginning was refused.
    pub alerts: BTreeSet<u64>,
    /// The dead letter of the last one.
    pub letter: String,
}

/// All of them, by group key and integration.
#[derive(Clone, Debug, Default)]
pub struct AllUnaccepted(HashMap<(String, String), Unaccepted>);

impl AllUnaccepted {
    /// What `integration` refused of the group.
    pub fn get(&self, group_key: &str, integration: &str) -> Option<&Unaccepted> {
        // Nearly always there is none: then no key is made.
        if self.0.is_empty() { None } else { self.0.get(&(group_key.to_owned(), integration.to_owned())) }
    }

    /// Notes a refusal of `alerts`; gives the dead letter that the new one replaces.
    fn note(&mut self, key: (String, String), alerts: &BTreeSet<u64>, letter: &str, waits: (Duration, Duration), now: Timestamp) -> String {
        let known = self.0.entry(key).or_default();
        let (interval, repeat) = waits;
        // The first time at the next flush, then after two intervals, four, eight, …
        // Half an interval more, because a refusal comes a little after its flush.
        let skipped = interval.saturating_mul((1 << known.count.min(20)) - 1);
        known.retry_at = now + if skipped.is_zero() { skipped } else { (skipped + interval / 2).min(repeat) };
        known.count = known.count.saturating_add(1);
        known.alerts.extend(alerts);
        std::mem::replace(&mut known.letter, letter.to_owned())
    }

    /// Forgets those of groups that are gone.
    pub fn retain(&mut self, lives: impl Fn(&str) -> bool) {
        self.0.retain(|(group, _), _| lives(group));
    }
}

impl Dispatcher {
    /// The identities in the notification log of those alerts of a message that have this status.
    fn ids(&self, message: &Notification, status: AlertStatus) -> BTreeSet<u64> {
        let of_status = message.alerts.iter().filter(|alert| alert.status == status);
        let fingerprints = of_status.filter_map(|alert| u64::from_str_radix(&alert.fingerprint, 16).ok());
        let ids = |fingerprint: u64| {
            let flap = self.flaps.flapping(fingerprint).or(self.flaps.settled(fingerprint));
            let flapping = flap.and_then(|row| Some(flapping_id(&self.alerts.get(fingerprint)?.alert, row)));
            [Some(fingerprint), flapping].into_iter().flatten()
        };
        fingerprints.flat_map(ids).collect()
    }

    /// The groups that a message is about; a digest replaces several.
    fn groups_of(&self, integration: &str, message: &Notification, ids: &BTreeSet<u64>) -> Vec<String> {
        if message.digest == 0 { vec![message.group_key.clone()] } else { self.log.groups_with(integration, ids) }
    }

    /// A message was refused: what it says does not count as sent. Gives the changed entries of the notification log, the dead letter that
    /// this one replaces, and whether it is the first refusal in a row.
    fn not_accepted(&mut self, integration: &str, message: &Notification, now: Timestamp) -> (Vec<LogRow>, Option<String>, bool) {
        let ids = self.ids(message, AlertStatus::Firing);
        let (mut rows, mut former, mut first) = (Vec::new(), None, true);
        for key in self.groups_of(integration, message, &ids) {
            let group = self.groups.values().find(|group| group.key == key);
            let route = group.and_then(|group| self.config.routes.get(group.route));
            let (interval, repeat) = route.map_or(GONE, |route| (route.group_interval, route.repeat_interval));
            let mut unheard = BTreeSet::new();
            if let Some(entry) = self.log.get_mut(&key, integration) {
                let accepted = entry.accepted.clone();
                entry.firing.retain(|id| !ids.contains(id) || accepted.as_ref().is_some_and(|accepted| accepted.contains(id)));
                // What was accepted before is repeated.
                entry.sent_at = entry.sent_at.min(now - repeat);
                unheard = accepted.map(|accepted| ids.difference(&accepted).copied().collect()).unwrap_or_default();
            }
            rows.extend(self.log.row(&key, integration));
            let letter = self.unaccepted.note((key, integration.to_owned()), &unheard, &message.delivery_id, (interval, repeat), now);
            if !letter.is_empty() {
                (first, former) = (false, Some(letter).filter(|letter| *letter != message.delivery_id));
            }
        }
        (rows, former, first)
    }

    /// A message was refused and waits apart: until it is accepted, nobody heard of its alerts.
    pub(in crate::alerting) fn not_yet_accepted(&mut self, integration: &str, message: &Notification) {
        let mut ids = self.ids(message, AlertStatus::Firing);
        let Some(Some(accepted)) = self.log.get(&message.group_key, integration).map(|entry| &entry.accepted) else { return };
        ids.retain(|id| !accepted.contains(id));
        if !ids.is_empty() {
            self.unaccepted.0.entry((message.group_key.clone(), integration.to_owned())).or_default().alerts.extend(ids);
        }
    }

    /// A dead letter is sent again because somebody asked for it: with the ends of its alerts that are over by now, which are wanted then.
    pub(in crate::alerting) fn renewed(&mut self, row: &OutboxRow, now: Timestamp) -> Option<String> {
        let mut message = serde_json::from_str::<Notification>(&row.body).ok()?;
        self.unaccepted.0.remove(&(row.group_key.clone(), row.integration.clone()));
        let mut changed = false;
        for alert in message.alerts.iter_mut().filter(|alert| alert.status == AlertStatus::Firing) {
            let known = u64::from_str_radix(&alert.fingerprint, 16).ok().and_then(|fingerprint| self.alerts.get(fingerprint));
            let ended = known.and_then(|row| row.alert.ends_at).filter(|end| *end <= now);
            if let Some(end) = ended {
                (alert.status, alert.ends_at_ms, changed) = (AlertStatus::Resolved, Some(end.0), true);
            }
        }
        summarise(&mut message);
        changed.then(|| serde_json::to_string(&message).unwrap_or_default())
    }

    /// A receiver accepted a message.
    fn accepted(&mut self, integration: &str, message: &Notification) {
        let (firing, resolved) = (self.ids(message, AlertStatus::Firing), self.ids(message, AlertStatus::Resolved));
        let all = firing.union(&resolved).copied().collect();
        for key in self.groups_of(integration, message, &all) {
            if let Some(accepted) = self.log.get_mut(&key, integration).and_then(|entry| entry.accepted.as_mut()) {
                accepted.extend(&firing);
                accepted.retain(|id| !resolved.contains(id));
            }
            if !self.unaccepted.0.is_empty() {
                self.unaccepted.0.remove(&(key, integration.to_owned()));
            }
        }
    }

    /// Whether a message says nothing but the end of alerts whose beginning was refused.
    fn is_unheard_end(&self, integration: &str, message: &Notification) -> bool {
        let Some(unaccepted) = self.unaccepted.get(&message.group_key, integration) else { return false };
        let unheard = |text: &str| u64::from_str_radix(text, 16).is_ok_and(|fingerprint| unaccepted.alerts.contains(&fingerprint));
        message.alerts.iter().all(|alert| alert.status == AlertStatus::Resolved && unheard(&alert.fingerprint))
    }
}

/// Whether a message is about nothing but messages that were not delivered.
pub fn is_about_messages(message: &Notification) -> bool {
    message.alerts.iter().all(|alert| OWN.contains(&alert.label("alertname")))
}

impl Deliverer {
    /// Notes that a message was accepted.
    pub(in crate::alerting) fn note_accepted(&self, message: &Notification) {
        self.memory.lock().accepted(&self.integration.key, message);
    }

    /// Drops a message about the end of what this receiver was never made to accept; false where it is another message.
    pub(in crate::alerting) async fn drop_unheard_end(&self, row: &OutboxRow, message: &Notification, now: Timestamp) -> bool {
        let unheard = self.memory.lock().is_unheard_end(&self.integration.key, message);
        if unheard {
            let decided = self.decided(row, now, |_| Stage::EndedUnnotified);
            self.leave(row, &decided).await;
        }
        unheard
    }

    /// Deals with a message that the receiver refused. One about ends alone is tried again by itself, for nothing else would send it; any
    /// other becomes a dead letter and does not count as sent.
    pub(in crate::alerting) async fn not_accepted(&mut self, row: &OutboxRow, message: &Notification, error: &NotifyError, now: Timestamp) {
        let firing = message.alerts.iter().any(|alert| alert.status == AlertStatus::Firing);
        if !firing && now.since(row.created_at) < self.integration.policy.give_up_after {
            self.put_off(row, message, error, END_WAITS, now).await;
            return;
        }
        let (log, former, first) = self.memory.lock().not_accepted(&self.integration.key, message, now);
        self.give_up(row, error, first && !is_about_messages(message), now).await;
        // A failure is counted by the state itself; at worst the dispatcher writes the entry with its next one.
        let _ = self.state.record(&Transition { log, ..Transition::default() }).await;
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
            error.retry_after.unwrap_or_default().max(first.saturating_mul(1 << count.min(20)).min(longest))
        });
        let (receiver, notifier) = (&self.integration.receiver, self.integration.kind);
        if count == 1 {
            warn!(receiver, notifier, group_key = message.group_key, %error, "Message was refused; it waits apart and is tried again.");
        }
        self.note_failure(row, error, now).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_grow_up_to_the_repeat_interval() {
        let mut all = AllUnaccepted::default();
        let waits = (Duration::from_secs(300), Duration::from_secs(4 * 3600));
        let alerts = BTreeSet::from([1]);
        let mut note = || {
            all.note(("g".into(), "i".into()), &alerts, "id", waits, Timestamp(0));
            all.get("g", "i").expect("known").retry_at.0 / 1000
        };
        let seconds: Vec<i64> = (0..8).map(|_| note()).collect();
        assert_eq!(seconds, [0, 450, 1050, 2250, 4650, 9450, 14_400, 14_400]);
    }
}
