//! Messages that a receiver refused: they do not count as sent, so the next flush sends again, ever
//! later up to `repeat_interval`; and the end of an alert is not sent where its beginning was
//! refused. In memory alone: after a restart the next flush tries at once.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::model::Timestamp;

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
pub struct AllUnaccepted(pub(in crate::alerting) HashMap<(String, String), Unaccepted>);

impl AllUnaccepted {
    /// What `integration` refused of the group.
    pub fn get(&self, group_key: &str, integration: &str) -> Option<&Unaccepted> {
        // Nearly always there is none: then no key is made.
        if self.0.is_empty() {
            None
        } else {
            self.0.get(&(group_key.to_owned(), integration.to_owned()))
        }
    }

    /// Notes a refusal of `alerts`; gives the dead letter that the new one replaces.
    pub(in crate::alerting) fn note(
        &mut self,
        key: (String, String),
        alerts: &BTreeSet<u64>,
        letter: &str,
        waits: (Duration, Duration),
        now: Timestamp,
    ) -> String {
        let known = self.0.entry(key).or_default();
        let (interval, repeat) = waits;
        // The first time at the next flush, then after two intervals, four, eight, …
        // Half an interval more, because a refusal comes a little after its flush.
        let skipped = interval.saturating_mul((1 << known.count.min(20)) - 1);
        known.retry_at = now
            + if skipped.is_zero() {
                skipped
            } else {
                (skipped + interval / 2).min(repeat)
            };
        known.count = known.count.saturating_add(1);
        known.alerts.extend(alerts);
        std::mem::replace(&mut known.letter, letter.to_owned())
    }

    /// Forgets those of groups that are gone.
    pub fn retain(&mut self, lives: impl Fn(&str) -> bool) {
        self.0.retain(|(group, _), _| lives(group));
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
