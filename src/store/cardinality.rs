//! What makes the store large: series by metric name, values by label, and the span of what memory
//! holds. Walks everything; for people who ask.

use std::collections::HashMap;

use parking_lot::RwLockReadGuard;

use super::{AT_ONCE, Store};
use crate::model::{METRIC_NAME, Timestamp};

/// The greatest contributors, each list sorted from the greatest on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series.
    pub series: usize,
    /// Distinct pairs of a label and its value.
    pub label_pairs: usize,
    /// Sealed chunks, and one open one for each series that has samples in it.
    pub chunks: usize,
    /// Time of the oldest and of the newest sample; `None` in an empty store.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Series of each metric.
    pub series_by_metric: Vec<(String, usize)>,
    /// Distinct values of each label.
    pub values_by_label: Vec<(String, usize)>,
    /// Bytes that the values of each label take when each series counts its own.
    pub bytes_by_label: Vec<(String, usize)>,
    /// Series of each pair, written `name=value`.
    pub series_by_pair: Vec<(String, usize)>,
}

impl Store {
    /// Counts, and at most `limit` entries of each list.
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let mut inner = self.inner.read();
        let mut found = Cardinality {
            series: inner.by_labels.len(),
            ..Cardinality::default()
        };
        let (mut metrics, mut pairs) = (Greatest::new(limit), Greatest::new(limit));
        let (mut values, mut bytes) = (HashMap::new(), HashMap::new());
        for (name, label) in inner.index.labels() {
            let mut total = 0;
            for (value, series) in label {
                found.label_pairs += 1;
                total += value.len() * series;
                pairs.add((name, value), series);
                if name == METRIC_NAME {
                    metrics.add(value, series);
                }
                *values.entry(name).or_insert(0) += 1;
            }
            bytes.insert(name, total);
        }
        found.series_by_metric = metrics.take(str::to_owned);
        found.series_by_pair = pairs.take(|(name, value)| format!("{name}={value}"));
        let sorted = |counts: HashMap<&str, usize>| {
            let mut all = Greatest::new(limit);
            counts
                .into_iter()
                .for_each(|(name, count)| all.add(name, count));
            all.take(str::to_owned)
        };
        found.values_by_label = sorted(values);
        found.bytes_by_label = sorted(bytes);
        let mut slot = 0;
        while slot < inner.slots.end() {
            if let Some(series) = inner.slots.get(slot) {
                found.chunks += series.chunk_count();
                if let Some((first, last)) = series.span(&inner.columns) {
                    let (oldest, newest) =
                        found.span.unwrap_or((Timestamp(first), Timestamp(last)));
                    found.span = Some((oldest.min(Timestamp(first)), newest.max(Timestamp(last))));
                }
            }
            slot += 1;
            if slot.is_multiple_of(AT_ONCE) {
                RwLockReadGuard::bump(&mut inner);
            }
        }
        found
    }
}

/// The `limit` greatest; of equal ones those that sort first. It holds no more than twice as many.
struct Greatest<K> {
    limit: usize,
    held: Vec<(K, usize)>,
    /// Less is not among them.
    least: usize,
}

impl<K: Ord> Greatest<K> {
    fn new(limit: usize) -> Self {
        Greatest {
            limit,
            held: Vec::new(),
            least: 0,
        }
    }

    fn add(&mut self, key: K, count: usize) {
        if count < self.least {
            return;
        }
        self.held.push((key, count));
        if self.held.len() >= 2 * self.limit.max(64) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.held
            .sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        self.held.truncate(self.limit);
        if self.held.len() == self.limit {
            self.least = self.held.last().map_or(0, |(_, count)| *count);
        }
    }

    fn take(mut self, text: impl Fn(K) -> String) -> Vec<(String, usize)> {
        self.cut();
        self.held
            .into_iter()
            .map(|(key, count)| (text(key), count))
            .collect()
    }
}
