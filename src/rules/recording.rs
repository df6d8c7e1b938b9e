//! Recording rules: the result of an expression under a new name.

use std::collections::HashSet;

use super::RecordingRule;
use crate::model::{HistogramSample, Labels, METRIC_NAME, Sample};
use crate::promql::VectorSample;

/// What a recording rule writes at an instant.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Floats.
    pub samples: Vec<Sample>,
    /// Native histograms.
    pub histograms: Vec<HistogramSample>,
}

impl Recorded {
    /// The series that are written.
    pub fn labels(&self) -> impl Iterator<Item = &Labels> {
        self.samples.iter().map(|sample| &sample.labels).chain(self.histograms.iter().map(|sample| &sample.labels))
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty()
    }
}

/// The samples that a result becomes. Errs when two get equal labels, or there are more than `limit` (0: no limit).
pub fn record(rule: &RecordingRule, hits: Vec<VectorSample>, limit: usize) -> Result<Recorded, String> {
    if limit > 0 && hits.len() > limit {
        return Err(format!("exceeded limit of {limit} with {} series", hits.len()));
    }
    let mut seen: HashSet<Labels, ahash::RandomState> = HashSet::with_capacity_and_hasher(hits.len(), ahash::RandomState::new());
    let mut recorded = Recorded { samples: Vec::with_capacity(hits.len()), histograms: Vec::new() };
    for VectorSample { labels, value, histogram } in hits {
        let mut builder = labels.to_builder();
        builder.set(METRIC_NAME, &rule.name);
        for (name, value) in rule.labels.iter() {
            builder.set(name, value);
        }
        let labels = builder.build();
        if !seen.insert(labels.clone()) {
            return Err("vector contains metrics with the same labelset after applying rule labels".into());
        }
        match histogram {
            Some(histogram) => recorded.histograms.push(HistogramSample { labels, histogram, timestamp: None }),
            None => recorded.samples.push(Sample { labels, value, timestamp: None }),
        }
    }
    Ok(recorded)
}
