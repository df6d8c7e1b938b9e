//! Alerts from outside that were refused because their share is used up: how many of a batch, and
//! which lately, for `why`, when nobody was notified.

use std::collections::VecDeque;

use crate::model::{Labels, Timestamp};

/// How many are named to who posted them.
const NAMED: usize = 10;
/// How many are remembered for `why`.
const REMEMBERED: usize = 200;

/// What of a batch was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many alerts.
    pub count: u64,
    /// The first of them.
    pub first: Vec<Labels>,
    /// The share of alerts from outside.
    pub share: usize,
}

/// What was refused lately.
#[derive(Debug, Default)]
pub(in crate::alerting) struct Refusals {
    batch: Refused,
    lately: VecDeque<(Labels, Timestamp)>,
}

impl Refusals {
    /// Notes an alert that was refused.
    pub fn note(&mut self, labels: Labels, now: Timestamp) {
        self.batch.count += 1;
        if self.batch.first.len() < NAMED {
            self.batch.first.push(labels.clone());
        }
        if self.lately.len() >= REMEMBERED {
            self.lately.pop_front();
        }
        self.lately.push_back((labels, now));
    }

    /// What was noted since the last call.
    pub fn take(&mut self, share: usize) -> Refused {
        Refused {
            share,
            ..std::mem::take(&mut self.batch)
        }
    }

    /// When an alert of this name, with what `matches` asks, was last refused.
    pub fn last(
        &self,
        name: &str,
        matches: impl Fn(&Labels) -> bool,
    ) -> Option<(Labels, Timestamp)> {
        self.lately
            .iter()
            .rev()
            .find(|(labels, _)| labels.value("alertname") == name && matches(labels))
            .cloned()
    }
}
