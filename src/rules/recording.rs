//! Recording rules: the result of an expression under a new name.

use std::collections::HashSet;

use super::RecordingRule;
use crate::model::{Labels, METRIC_NAME, Sample};

/// The samples that a result becomes. Errs when two get equal labels, or there are more than `limit` (0: no limit).
pub fn record(rule: &RecordingRule, hits: Vec<(Labels, f64)>, limit: usize) -> Result<Vec<Sample>, String> {
    if limit > 0 && hits.len() > limit {
        return Err(format!("exceeded limit of {limit} with {} series", hits.len()));
    }
    let mut seen: HashSet<Labels, ahash::RandomState> = HashSet::with_capacity_and_hasher(hits.len(), ahash::RandomState::new());
    let mut samples = Vec::with_capacity(hits.len());
    for (labels, value) in hits {
        let mut builder = labels.to_builder();
        builder.set(METRIC_NAME, &rule.name);
        for (name, value) in rule.labels.iter() {
            builder.set(name, value);
        }
        let labels = builder.build();
        if !seen.insert(labels.clone()) {
            return Err("vector contains metrics with the same labelset after applying rule labels".into());
        }
        samples.push(Sample { labels, value, timestamp: None });
    }
    Ok(samples)
}
