//! What the dispatcher remembers of messages that receivers accepted or refused: the notification
//! log follows.

use std::collections::BTreeSet;
use std::time::Duration;

use super::dispatcher::Dispatcher;
use crate::alerting::flush::message::summarise;
use crate::alerting::mute::flapping::flapping_id;
use crate::model::Timestamp;
use crate::notify::{AlertStatus, Notification};
use crate::state::{LogRow, OutboxRow};

/// Waits of a group that is no longer there.
const GONE: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(4 * 3600));

impl Dispatcher {
    /// The identities in the notification log of those alerts of a message that have this status.
    fn ids(&self, message: &Notification, status: AlertStatus) -> BTreeSet<u64> {
        let of_status = message.alerts.iter().filter(|alert| alert.status == status);
        let fingerprints =
            of_status.filter_map(|alert| u64::from_str_radix(&alert.fingerprint, 16).ok());
        let ids = |fingerprint: u64| {
            let flap = self
                .flaps
                .flapping(fingerprint)
                .or(self.flaps.settled(fingerprint));
            let flapping =
                flap.and_then(|row| Some(flapping_id(&self.alerts.get(fingerprint)?.alert, row)));
            [Some(fingerprint), flapping].into_iter().flatten()
        };
        fingerprints.flat_map(ids).collect()
    }

    /// The groups that a message is about; a digest replaces several.
    fn groups_of(
        &self,
        integration: &str,
        message: &Notification,
        ids: &BTreeSet<u64>,
    ) -> Vec<String> {
        if message.digest == 0 {
            vec![message.group_key.clone()]
        } else {
            self.log.groups_with(integration, ids)
        }
    }

    /// A message was refused: what it says does not count as sent. Gives the changed entries of the
    /// notification log, the dead letter that this one replaces, and whether it is the first
    /// refusal in a row.
    pub(in crate::alerting) fn not_accepted(
        &mut self,
        integration: &str,
        message: &Notification,
        now: Timestamp,
    ) -> (Vec<LogRow>, Option<String>, bool) {
        let ids = self.ids(message, AlertStatus::Firing);
        let (mut rows, mut former, mut first) = (Vec::new(), None, true);
        for key in self.groups_of(integration, message, &ids) {
            let group = self.groups.values().find(|group| group.key == key);
            let route = group.and_then(|group| self.config.routes.get(group.route));
            let (interval, repeat) =
                route.map_or(GONE, |route| (route.group_interval, route.repeat_interval));
            let mut unheard = BTreeSet::new();
            if let Some(entry) = self.log.get_mut(&key, integration) {
                let accepted = entry.accepted.clone();
                entry.firing.retain(|id| {
                    !ids.contains(id)
                        || accepted
                            .as_ref()
                            .is_some_and(|accepted| accepted.contains(id))
                });
                // What was accepted before is repeated.
                entry.sent_at = entry.sent_at.min(now - repeat);
                unheard = accepted
                    .map(|accepted| ids.difference(&accepted).copied().collect())
                    .unwrap_or_default();
            }
            rows.extend(self.log.row(&key, integration));
            let letter = self.unaccepted.note(
                (key, integration.to_owned()),
                &unheard,
                &message.delivery_id,
                (interval, repeat),
                now,
            );
            if !letter.is_empty() {
                (first, former) = (
                    false,
                    Some(letter).filter(|letter| *letter != message.delivery_id),
                );
            }
        }
        (rows, former, first)
    }

    /// A message was refused and waits apart: until it is accepted, nobody heard of its alerts.
    pub(in crate::alerting) fn not_yet_accepted(
        &mut self,
        integration: &str,
        message: &Notification,
    ) {
        let mut ids = self.ids(message, AlertStatus::Firing);
        let Some(Some(accepted)) = self
            .log
            .get(&message.group_key, integration)
            .map(|entry| &entry.accepted)
        else {
            return;
        };
        ids.retain(|id| !accepted.contains(id));
        if !ids.is_empty() {
            self.unaccepted
                .0
                .entry((message.group_key.clone(), integration.to_owned()))
                .or_default()
                .alerts
                .extend(ids);
        }
    }

    /// A dead letter is sent again because somebody asked for it: with the ends of its alerts that
    /// are over by now, which are wanted then.
    pub(in crate::alerting) fn renewed(
        &mut self,
        row: &OutboxRow,
        now: Timestamp,
    ) -> Option<String> {
        let mut message = serde_json::from_str::<Notification>(&row.body).ok()?;
        self.unaccepted
            .0
            .remove(&(row.group_key.clone(), row.integration.clone()));
        let mut changed = false;
        for alert in message
            .alerts
            .iter_mut()
            .filter(|alert| alert.status == AlertStatus::Firing)
        {
            let known = u64::from_str_radix(&alert.fingerprint, 16)
                .ok()
                .and_then(|fingerprint| self.alerts.get(fingerprint));
            let ended = known
                .and_then(|row| row.alert.ends_at)
                .filter(|end| *end <= now);
            if let Some(end) = ended {
                (alert.status, alert.ends_at_ms, changed) =
                    (AlertStatus::Resolved, Some(end.0), true);
            }
        }
        summarise(&mut message);
        changed.then(|| serde_json::to_string(&message).unwrap_or_default())
    }

    /// A receiver accepted a message.
    pub(in crate::alerting) fn accepted(&mut self, integration: &str, message: &Notification) {
        let (firing, resolved) = (
            self.ids(message, AlertStatus::Firing),
            self.ids(message, AlertStatus::Resolved),
        );
        let all = firing.union(&resolved).copied().collect();
        for key in self.groups_of(integration, message, &all) {
            if let Some(accepted) = self
                .log
                .get_mut(&key, integration)
                .and_then(|entry| entry.accepted.as_mut())
            {
                accepted.extend(&firing);
                accepted.retain(|id| !resolved.contains(id));
            }
            if !self.unaccepted.0.is_empty() {
                self.unaccepted.0.remove(&(key, integration.to_owned()));
            }
        }
    }

    /// Whether a message says nothing but the end of alerts whose beginning was refused.
    pub(in crate::alerting) fn is_unheard_end(
        &self,
        integration: &str,
        message: &Notification,
    ) -> bool {
        let Some(unaccepted) = self.unaccepted.get(&message.group_key, integration) else {
            return false;
        };
        let unheard = |text: &str| {
            u64::from_str_radix(text, 16)
                .is_ok_and(|fingerprint| unaccepted.alerts.contains(&fingerprint))
        };
        message
            .alerts
            .iter()
            .all(|alert| alert.status == AlertStatus::Resolved && unheard(&alert.fingerprint))
    }
}
