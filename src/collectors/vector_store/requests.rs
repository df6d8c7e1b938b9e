//! How requests to a store went, by kind: durations, the last one, failures.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Batch, sample::Histogram};

use super::metrics;

/// The history of one kind of request.
struct History {
    durations: Histogram,
    last: Duration,
    errors: BTreeMap<&'static str, u64>,
}

/// The history of each kind.
pub struct Requests(BTreeMap<&'static str, History>);

impl Requests {
    /// No request yet; every kind is shown from the start.
    pub fn new(kinds: &[&'static str]) -> Self {
        let history = || History {
            durations: Histogram::new(metrics::BOUNDS),
            last: Duration::ZERO,
            errors: BTreeMap::new(),
        };
        Requests(kinds.iter().map(|kind| (*kind, history())).collect())
    }

    /// Notes one: its time, and its kind of failure.
    pub fn note(&mut self, op: &'static str, time: Duration, failure: Option<&'static str>) {
        if let Some(history) = self.0.get_mut(op) {
            history.last = time;
            history.durations.observe(time.as_secs_f64());
            if let Some(kind) = failure {
                *history.errors.entry(kind).or_default() += 1;
            }
        }
    }

    /// Writes them.
    pub fn write(&self, batch: &mut Batch, target: &str, store: &str) {
        for (op, history) in &self.0 {
            let labels = [("target", target), ("store", store), ("op", *op)];
            batch.push_histogram(&metrics::DURATION, &labels, &history.durations);
            batch.push(&metrics::LAST_DURATION, &labels, history.last.as_secs_f64());
            for (kind, count) in &history.errors {
                let labels = [labels[0], labels[1], labels[2], ("error_type", *kind)];
                batch.push(&metrics::ERRORS, &labels, *count as f64);
            }
        }
    }
}
