//! What is written down of the decisions about alerts: each once, when it differs from the one
//! before it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::{Labels, Stage, Timestamp};
use crate::notify::{AlertStatus, Notification};
use crate::state::DecisionRow;

/// What became of a message at an integration, for the alerts that it names: those that fire, and
/// those that have ended.
pub fn outcome(
    message: &Notification,
    integration: &str,
    now: Timestamp,
    stage: impl Fn(bool) -> Stage,
) -> Vec<DecisionRow> {
    let row = |resolved: bool| {
        let status = if resolved {
            AlertStatus::Resolved
        } else {
            AlertStatus::Firing
        };
        let named = message.alerts.iter().filter(|alert| alert.status == status);
        let alerts: Vec<u64> = named
            .filter_map(|alert| u64::from_str_radix(&alert.fingerprint, 16).ok())
            .collect();
        (!alerts.is_empty()).then(|| DecisionRow {
            scope: integration.to_owned(),
            at: now,
            alerts,
            integration: integration.to_owned(),
            stage: stage(resolved),
            labels: Labels::empty(),
            paths: Vec::new(),
        })
    };
    [false, true].into_iter().filter_map(row).collect()
}

/// What one flush decided about some alerts.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The integration it was decided for; empty: for all of the receiver.
    pub integration: String,
    /// Fingerprints of the alerts.
    pub alerts: Vec<u64>,
    /// What was decided.
    pub stage: Stage,
}

/// The last decision about each alert in each group, so that only changes are written down. It is
/// lost with the process: then the next flush writes its decisions again.
#[derive(Debug, Default)]
pub struct Decisions(HashMap<u64, Vec<Last>, ahash::RandomState>);

#[derive(Debug)]
struct Last {
    group: u64,
    integration: u64,
    stage: u64,
}

impl Decisions {
    /// The rows for those decisions of a flush that are news.
    pub fn note(
        &mut self,
        group_key: &str,
        decisions: Vec<Decision>,
        now: Timestamp,
    ) -> Vec<DecisionRow> {
        let group = hash(group_key);
        let changed = |mut decision: Decision| {
            let last = Last {
                group,
                integration: hash(&decision.integration),
                stage: stage_hash(&decision.stage),
            };
            decision.alerts.retain(|fingerprint| {
                self.is_news(*fingerprint, &last, decision.integration.is_empty())
            });
            (!decision.alerts.is_empty()).then(|| DecisionRow {
                scope: group_key.to_owned(),
                at: now,
                alerts: decision.alerts,
                integration: decision.integration,
                stage: decision.stage,
                labels: Labels::empty(),
                paths: Vec::new(),
            })
        };
        decisions.into_iter().filter_map(changed).collect()
    }

    fn is_news(&mut self, fingerprint: u64, new: &Last, for_all: bool) -> bool {
        let known = self.0.entry(fingerprint).or_default();
        if known.iter().any(|old| {
            (old.group, old.integration, old.stage) == (new.group, new.integration, new.stage)
        }) {
            return false;
        }
        // What stopped it for all integrations, or what each of them did, is over.
        let nobody = hash("");
        known.retain(|old| {
            old.group != new.group
                || !(for_all || old.integration == new.integration || old.integration == nobody)
        });
        known.push(Last { ..*new });
        true
    }

    /// Forgets an alert that is that ended and whose end was notified.
    pub fn forget(&mut self, fingerprint: u64) {
        self.0.remove(&fingerprint);
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn stage_hash(stage: &Stage) -> u64 {
    hash(&serde_json::to_string(stage).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(integration: &str, alerts: &[u64], stage: Stage) -> Decision {
        Decision {
            integration: integration.into(),
            alerts: alerts.into(),
            stage,
        }
    }

    fn muted() -> Stage {
        Stage::Muted {
            intervals: vec!["night".into()],
        }
    }

    fn notified(at: i64) -> Stage {
        Stage::Deduplicated {
            notified_at: Timestamp(at),
            until: Timestamp(at + 10),
        }
    }

    #[test]
    fn a_decision_is_written_down_when_it_differs_from_the_one_before() {
        let mut decisions = Decisions::default();
        let mut note = |found| {
            decisions
                .note("g", found, Timestamp(1))
                .into_iter()
                .map(|r| (r.alerts, r.stage))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            note(vec![decision("", &[1, 2], muted())]),
            [(vec![1, 2], muted())]
        );
        assert_eq!(
            note(vec![decision("", &[1, 2, 3], muted())]),
            [(vec![3], muted())],
            "only the one that is new"
        );
        let both = || {
            vec![
                decision("a", &[1], notified(1)),
                decision("b", &[1], notified(1)),
            ]
        };
        assert_eq!(note(both()).len(), 2, "each integration decides for itself");
        assert_eq!(note(both()), []);
        assert_eq!(
            note(vec![decision("a", &[1], notified(5))]),
            [(vec![1], notified(5))]
        );
        assert_eq!(
            note(vec![decision("", &[1], muted())]),
            [(vec![1], muted())],
            "the next night is news"
        );
        assert_eq!(note(both()).len(), 2, "and so is the next day");
    }

    #[test]
    fn the_same_decision_in_two_groups_is_written_down_twice() {
        let mut decisions = Decisions::default();
        for group in ["g", "h"] {
            assert_eq!(
                decisions
                    .note(group, vec![decision("", &[1], muted())], Timestamp(1))
                    .len(),
                1
            );
        }
        assert!(
            decisions
                .note("g", vec![decision("", &[1], muted())], Timestamp(1))
                .is_empty()
        );
        decisions.forget(1);
        assert_eq!(
            decisions
                .note("g", vec![decision("", &[1], muted())], Timestamp(1))
                .len(),
            1
        );
    }
}
