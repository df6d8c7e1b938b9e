//! Summaries and histograms whose quantiles and bounds the server chooses.

use crate::model::{Batch, Labels, MetricDesc, Sample};
use crate::model::{METRIC_NAME, MetricKind};

fn push(
    desc: &MetricDesc,
    suffix: &str,
    label: (&str, &str),
    extra: Option<(&str, &str)>,
    value: f64,
    batch: &mut Batch,
) {
    debug_assert!(matches!(
        desc.kind,
        MetricKind::Summary | MetricKind::Histogram
    ));
    let name = format!("{}{suffix}", desc.name);
    let labels = Labels::from_pairs(
        [(METRIC_NAME, name.as_str()), label]
            .into_iter()
            .chain(extra),
    );
    batch.push_sample(
        desc.name,
        desc.kind,
        desc.help,
        Sample {
            labels,
            value,
            timestamp: None,
        },
    );
}

/// Adds a summary of one series set.
pub fn summary<'a>(
    desc: &MetricDesc,
    label: (&str, &str),
    quantiles: impl Iterator<Item = (&'a str, f64)>,
    sum: f64,
    count: f64,
    batch: &mut Batch,
) {
    for (quantile, value) in quantiles {
        push(desc, "", label, Some(("quantile", quantile)), value, batch);
    }
    push(desc, "_sum", label, None, sum, batch);
    push(desc, "_count", label, None, count, batch);
}

/// Adds a histogram of one series set; `buckets` are upper bounds, whole numbers, with cumulative
/// counts.
pub fn histogram(
    desc: &MetricDesc,
    label: (&str, &str),
    buckets: &[(f64, f64)],
    sum: f64,
    count: f64,
    batch: &mut Batch,
) {
    for (bound, value) in buckets {
        push(
            desc,
            "_bucket",
            label,
            Some(("le", &format!("{bound:.1}"))),
            *value,
            batch,
        );
    }
    push(desc, "_bucket", label, Some(("le", "+Inf")), count, batch);
    push(desc, "_sum", label, None, sum, batch);
    push(desc, "_count", label, None, count, batch);
}
