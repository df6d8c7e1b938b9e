//! Notify or not: the pure decision of one flush for one integration (Alertmanager's
//! `notify.DedupStage`), and the notification log it looks at.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::model::Timestamp;
use crate::state::LogRow;

/// What an integration was last notified of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// When the message was decided.
    pub sent_at: Timestamp,
    /// The alerts that fired in it.
    pub firing: BTreeSet<u64>,
    /// The alerts that were resolved in it.
    pub resolved: BTreeSet<u64>,
    /// When the entry may be forgotten.
    pub expires_at: Timestamp,
    /// The alerts of which the integration accepted that they fire, and not yet that they ended;
    /// `None` where a former process knew it.
    pub accepted: Option<BTreeSet<u64>>,
}

/// Why a message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotifyReason {
    /// Nothing fired in the last message, or there was none.
    First,
    /// An alert fires that did not in the last message.
    NewAlerts,
    /// Nothing fires any more.
    AllResolved,
    /// Some alerts ended, others fire on.
    SomeResolved,
    /// Nothing changed for `repeat_interval`.
    Repeat,
    /// Nobody acknowledged it in time.
    Escalated,
    /// An alert begins and ends too often.
    Flaps,
    /// An alert that did so has settled.
    Settled,
}

impl NotifyReason {
    /// The reason in Alertmanager's words.
    pub fn as_str(self) -> &'static str {
        match self {
            NotifyReason::First => "first notification",
            NotifyReason::NewAlerts => "new alerts added",
            NotifyReason::AllResolved => "all alerts resolved",
            NotifyReason::SomeResolved => "some alerts resolved",
            NotifyReason::Repeat => "repeat interval elapsed",
            NotifyReason::Escalated => "not acknowledged in time",
            NotifyReason::Flaps => "alert flaps",
            NotifyReason::Settled => "settled after flapping",
        }
    }
}

/// What a flush found in its group.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Fingerprints of the alerts that fire.
    pub firing: BTreeSet<u64>,
    /// Fingerprints of the alerts that have ended.
    pub resolved: BTreeSet<u64>,
}

/// Whether to send, and why. The first rule that applies decides.
pub fn should_notify(
    entry: Option<&LogEntry>,
    found: &Found,
    repeat: Duration,
    send_resolved: bool,
    now: Timestamp,
) -> Option<NotifyReason> {
    let Some(entry) = entry else {
        return (!found.firing.is_empty()).then_some(NotifyReason::First);
    };
    if !found.firing.is_subset(&entry.firing) {
        return Some(if entry.firing.is_empty() {
            NotifyReason::First
        } else {
            NotifyReason::NewAlerts
        });
    }
    if found.firing.is_empty() {
        return (!entry.firing.is_empty()).then_some(NotifyReason::AllResolved);
    }
    if send_resolved && !found.resolved.is_subset(&entry.resolved) {
        return Some(NotifyReason::SomeResolved);
    }
    (entry.sent_at < now - repeat).then_some(NotifyReason::Repeat)
}

/// The last decision for each group and integration.
#[derive(Clone, Debug, Default)]
pub struct NotificationLog(HashMap<(String, String), LogEntry>);

impl NotificationLog {
    /// What `integration` was last notified of the group. An entry that has expired counts until it
    /// is pruned: an end is notified however long the group's interval is.
    pub fn get(&self, group_key: &str, integration: &str) -> Option<&LogEntry> {
        self.0.get(&(group_key.to_owned(), integration.to_owned()))
    }

    /// Takes a decision down.
    pub fn put(&mut self, group_key: &str, integration: &str, mut entry: LogEntry) -> LogRow {
        let former = self
            .0
            .get_mut(&(group_key.to_owned(), integration.to_owned()));
        entry.accepted =
            former.map_or_else(|| Some(BTreeSet::new()), |former| former.accepted.take());
        let row = to_row(group_key, integration, &entry);
        self.0
            .insert((group_key.to_owned(), integration.to_owned()), entry);
        row
    }

    /// Strikes alerts out of an entry, so that they count as new when they fire again. Returns the
    /// changed entry.
    pub fn forget(
        &mut self,
        group_key: &str,
        integration: &str,
        alerts: &BTreeSet<u64>,
    ) -> Option<LogRow> {
        let entry = self
            .0
            .get_mut(&(group_key.to_owned(), integration.to_owned()))?;
        let before = entry.firing.len();
        entry
            .firing
            .retain(|fingerprint| !alerts.contains(fingerprint));
        (entry.firing.len() < before).then(|| to_row(group_key, integration, entry))
    }

    /// What can be changed of an entry.
    pub(in crate::alerting) fn get_mut(
        &mut self,
        group_key: &str,
        integration: &str,
    ) -> Option<&mut LogEntry> {
        self.0
            .get_mut(&(group_key.to_owned(), integration.to_owned()))
    }

    /// The row of an entry.
    pub(in crate::alerting) fn row(&self, group_key: &str, integration: &str) -> Option<LogRow> {
        self.get(group_key, integration)
            .map(|entry| to_row(group_key, integration, entry))
    }

    /// The groups in whose last message to `integration` one of `alerts` fired.
    pub(in crate::alerting) fn groups_with(
        &self,
        integration: &str,
        alerts: &BTreeSet<u64>,
    ) -> Vec<String> {
        let named = self.0.iter().filter(|((_, other), entry)| {
            other == integration
                && !(entry.firing.is_disjoint(alerts) && entry.resolved.is_disjoint(alerts))
        });
        named.map(|((group, _), _)| group.clone()).collect()
    }

    /// Takes back what the database remembered, unless something newer is known.
    pub fn restore(&mut self, row: LogRow) {
        let entry = LogEntry {
            sent_at: row.sent_at,
            firing: row.firing.into_iter().collect(),
            resolved: row.resolved.into_iter().collect(),
            expires_at: row.expires_at,
            accepted: None,
        };
        self.0
            .entry((row.group_key, row.integration))
            .or_insert(entry);
    }

    /// Forgets what has expired, unless its group still lives; gives group and integration of what
    /// went.
    pub fn prune(&mut self, now: Timestamp, lives: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        self.0
            .extract_if(|(group, _), entry| entry.expires_at <= now && !lives(group))
            .map(|(key, _)| key)
            .collect()
    }

    /// Changes all entries.
    pub(in crate::alerting) fn for_each(&mut self, change: impl FnMut(&mut LogEntry)) {
        self.0.values_mut().for_each(change);
    }

    /// Everything, as rows of the database.
    pub fn rows(&self) -> Vec<LogRow> {
        self.0
            .iter()
            .map(|((group_key, integration), entry)| to_row(group_key, integration, entry))
            .collect()
    }
}

fn to_row(group_key: &str, integration: &str, entry: &LogEntry) -> LogRow {
    LogRow {
        group_key: group_key.to_owned(),
        integration: integration.to_owned(),
        sent_at: entry.sent_at,
        firing: entry.firing.iter().copied().collect(),
        resolved: entry.resolved.iter().copied().collect(),
        expires_at: entry.expires_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEMANTICS 155, each clause.
    #[test]
    fn the_first_rule_that_applies_decides() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let entry = |firing: &[u64], resolved: &[u64]| LogEntry {
            sent_at: Timestamp(1000),
            firing: set(firing),
            resolved: set(resolved),
            expires_at: Timestamp::MAX,
            accepted: None,
        };
        let decide = |entry: Option<LogEntry>,
                      firing: &[u64],
                      resolved: &[u64],
                      send_resolved: bool,
                      now: i64| {
            let found = Found {
                firing: set(firing),
                resolved: set(resolved),
            };
            should_notify(
                entry.as_ref(),
                &found,
                Duration::from_millis(500),
                send_resolved,
                Timestamp(now),
            )
        };
        assert_eq!(decide(None, &[1], &[], true, 0), Some(NotifyReason::First));
        assert_eq!(decide(None, &[], &[1], true, 0), None);
        assert_eq!(
            decide(Some(entry(&[], &[1])), &[1], &[], true, 1001),
            Some(NotifyReason::First)
        );
        assert_eq!(
            decide(Some(entry(&[1], &[])), &[1, 2], &[], true, 1001),
            Some(NotifyReason::NewAlerts)
        );
        assert_eq!(
            decide(Some(entry(&[1], &[])), &[], &[1], true, 1001),
            Some(NotifyReason::AllResolved)
        );
        assert_eq!(
            decide(Some(entry(&[1], &[])), &[], &[1], false, 1001),
            Some(NotifyReason::AllResolved),
            "the entry must be cleared"
        );
        assert_eq!(
            decide(Some(entry(&[], &[1])), &[], &[1, 2], true, 9999),
            None
        );
        assert_eq!(
            decide(Some(entry(&[1, 2], &[])), &[1], &[2], true, 1001),
            Some(NotifyReason::SomeResolved)
        );
        assert_eq!(
            decide(Some(entry(&[1, 2], &[])), &[1], &[2], false, 1001),
            None
        );
        assert_eq!(
            decide(Some(entry(&[1], &[])), &[1], &[], true, 1500),
            None,
            "strictly later"
        );
        assert_eq!(
            decide(Some(entry(&[1], &[])), &[1], &[], true, 1501),
            Some(NotifyReason::Repeat)
        );
    }
}
