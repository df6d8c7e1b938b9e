//! What makes the store large: series by metric name, values by label, and the span of what memory
//! holds. Walks everything; for people who ask.

use std::collections::HashMap;

use super::Store;
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
        let inner = self.inner.read();
        let mut found = Cardinality {
            series: inner.by_labels.len(),
            ..Cardinality::default()
        };
        let mut pairs = HashMap::new();
        let (mut values, mut bytes) = (HashMap::new(), HashMap::new());
        for (name, value, series) in inner.index.pairs() {
            found.label_pairs += 1;
            *values.entry(name).or_insert(0) += 1;
            *bytes.entry(name).or_insert(0) += value.len() * series;
            pairs.insert((name, value), series);
        }
        for (_, series) in inner.slots.iter() {
            found.chunks += series.chunk_count();
            if let Some((first, last)) = series.span(&inner.columns) {
                let (oldest, newest) = found.span.unwrap_or((Timestamp(first), Timestamp(last)));
                found.span = Some((oldest.min(Timestamp(first)), newest.max(Timestamp(last))));
            }
        }
        let metrics = pairs.iter().filter(|((name, _), _)| *name == METRIC_NAME);
        found.series_by_metric = greatest(
            metrics.map(|((_, value), series)| (*value, *series)),
            limit,
            str::to_owned,
        );
        found.values_by_label = greatest(values.into_iter(), limit, str::to_owned);
        found.bytes_by_label = greatest(bytes.into_iter(), limit, str::to_owned);
        found.series_by_pair = greatest(pairs.into_iter(), limit, |(name, value)| {
            format!("{name}={value}")
        });
        found
    }
}

/// The `limit` greatest; of equal ones those that sort first.
fn greatest<K: Ord>(
    all: impl Iterator<Item = (K, usize)>,
    limit: usize,
    text: impl Fn(K) -> String,
) -> Vec<(String, usize)> {
    let mut all: Vec<(K, usize)> = all.collect();
    all.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    all.truncate(limit);
    all.into_iter()
        .map(|(key, count)| (text(key), count))
        .collect()
}
