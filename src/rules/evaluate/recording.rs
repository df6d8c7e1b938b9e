//! Recording rules: the result of an expression under a new name.

use std::collections::HashSet;

use crate::model::text::format_float_g;
use crate::model::{HistogramSample, Labels, METRIC_NAME, NativeHistogram, Sample};
use crate::promql::VectorSample;
use crate::rules::RecordingRule;
use crate::rules::error::{RuleError, RuleKind};

/// What a recording rule writes at an instant.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Floats.
    pub samples: Vec<Sample>,
    /// Native histograms.
    pub histograms: Vec<HistogramSample>,
    /// Why one of the native histograms is not among them: no storage takes it.
    pub discarded: Option<RuleError>,
}

impl Recorded {
    /// The series that are written.
    pub fn labels(&self) -> impl Iterator<Item = &Labels> {
        self.samples
            .iter()
            .map(|sample| &sample.labels)
            .chain(self.histograms.iter().map(|sample| &sample.labels))
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty()
    }
}

/// The samples that a result becomes.
///
/// # Errors
/// When two get equal labels, or there are more than `limit` (0: no limit).
pub fn record(
    rule: &RecordingRule,
    hits: Vec<VectorSample>,
    limit: usize,
) -> Result<Recorded, RuleError> {
    if limit > 0 && hits.len() > limit {
        return Err(RuleError::Limit {
            limit,
            found: hits.len(),
            kind: RuleKind::Recording,
        });
    }
    let mut seen: HashSet<Labels, ahash::RandomState> =
        HashSet::with_capacity_and_hasher(hits.len(), ahash::RandomState::new());
    let mut recorded = Recorded {
        samples: Vec::with_capacity(hits.len()),
        ..Recorded::default()
    };
    for VectorSample {
        labels,
        value,
        histogram,
    } in hits
    {
        let mut builder = labels.to_builder();
        builder.set(METRIC_NAME, &rule.name);
        for (name, value) in rule.labels.iter() {
            builder.set(name, value);
        }
        let labels = builder.build();
        if !seen.insert(labels.clone()) {
            return Err(RuleError::EqualLabels(RuleKind::Recording));
        }
        match histogram {
            Some(histogram) => match negative_bucket(&histogram) {
                Some(refused) => recorded.discarded = Some(refused),
                None => recorded.histograms.push(HistogramSample {
                    labels,
                    histogram,
                    timestamp: None,
                }),
            },
            None => recorded.samples.push(Sample {
                labels,
                value,
                timestamp: None,
            }),
        }
    }
    Ok(recorded)
}

/// The first bucket of fewer than no observations.
fn negative_bucket(histogram: &NativeHistogram) -> Option<RuleError> {
    [
        ("negative", &histogram.negative),
        ("positive", &histogram.positive),
    ]
    .into_iter()
    .find_map(|(side, buckets)| {
        let (position, count) = buckets
            .counts()
            .iter()
            .enumerate()
            .find(|(_, count)| **count < 0.0)?;
        Some(RuleError::NegativeBucket {
            side,
            bucket: position + 1,
            count: format_float_g(*count),
        })
    })
}
