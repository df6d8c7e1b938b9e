//! An aggregation group: the alerts of one route that share the group labels, and the timer of
//! their messages.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::alerting::config::route::Route;
use crate::model::text::quote;
use crate::model::{Alert, Labels, Timestamp};
use crate::state::GroupRow;

/// One group. Its alerts are fingerprints; the alerts themselves live once, in
/// [`crate::alerting::memory::alerts::Alerts`].
#[derive(Clone, Debug)]
pub struct Group {
    /// Index of its route.
    pub route: usize,
    /// The labels it was made by.
    pub labels: Labels,
    /// Alertmanager's group key: `{}/{severity="page"}:{alertname="X"}`.
    pub key: String,
    /// The alerts it still has to tell about.
    pub alerts: BTreeSet<u64>,
    /// When it is flushed next.
    pub next_flush: Timestamp,
    /// Whether it was flushed at least once.
    pub flushed: bool,
}

/// Names the group in maps and in the database. The group key does not: two routes may have the
/// same matchers.
pub fn group_id(route: &Route, labels: &Labels) -> String {
    format!("{}:{}", route.id, labels.braced())
}

/// Alertmanager's group key: `{}/{severity="page"}:{alertname="X"}`; a label's name is never in
/// quotes there.
pub fn group_key(route: &Route, labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={}", quote(value)))
        .collect();
    format!("{}:{{{}}}", route.key, pairs.join(", "))
}

impl Group {
    /// A new group, first flushed after `group_wait`.
    pub fn new(index: usize, route: &Route, labels: Labels, now: Timestamp) -> Self {
        let key = group_key(route, &labels);
        Group {
            route: index,
            labels,
            key,
            alerts: BTreeSet::new(),
            next_flush: now + route.group_wait,
            flushed: false,
        }
    }

    /// Takes an alert in. Before the first flush, an alert that has waited long enough already is
    /// sent at once; later ones never shorten the wait.
    pub fn insert(&mut self, alert: &Alert, group_wait: Duration, now: Timestamp) {
        self.alerts.insert(alert.fingerprint());
        if !self.flushed && alert.starts_at + group_wait < now {
            self.next_flush = now;
        }
    }

    /// Takes up the timer that the database remembered; one that went off meanwhile goes off now.
    pub fn resume(&mut self, row: &GroupRow, now: Timestamp) {
        self.flushed = row.flushed;
        self.next_flush = row.next_flush.max(now);
    }

    /// As a row of the database.
    pub fn to_row(&self, id: &str) -> GroupRow {
        GroupRow {
            id: id.into(),
            next_flush: self.next_flush,
            flushed: self.flushed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::config::matchers::{canonical, parse_matchers};

    /// SEMANTICS 146, with names beyond ASCII: as Alertmanager 0.33 writes them into its webhooks.
    #[test]
    fn a_group_key_shows_names_as_alertmanager_does() {
        let matchers = |text| canonical(&parse_matchers(text).expect("matchers"));
        let mut route = Route::root("r".into());
        for (text, labels, key) in [
            (
                r#""服务 名"="数据库""#,
                [("服务 名", "数据库")],
                r#"{}/{"服务 名"="数据库"}:{服务 名="数据库"}"#,
            ),
            (
                r#"监控=~"是|yes", level!="note""#,
                [("监控", "是")],
                r#"{}/{level!="note",监控=~"是|yes"}:{监控="是"}"#,
            ),
            ("a.b=x", [("a.b", "q\"")], r#"{}/{a.b="x"}:{a.b="q\""}"#),
        ] {
            route.key = format!("{{}}/{}", matchers(text));
            assert_eq!(group_key(&route, &Labels::from_pairs(labels)), key);
        }
    }
}
