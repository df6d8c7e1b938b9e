//! Samples and the batch of them that one collection or scrape fills.

use std::borrow::Cow;
use std::sync::Arc;

use indexmap::IndexMap;

use super::alert::note::Note;
use super::labels::{Labels, LabelsBuilder, METRIC_NAME};
use super::metric::{MetricDesc, MetricKind};
use super::native_histogram::NativeHistogram;
use super::text::format_float_g;
use super::time::Timestamp;

/// The bits of the stale marker: a NaN that says "this series ended here".
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker. Compare with [`is_stale`], never with `==` or `is_nan`.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the stale marker, bit for bit.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// Whether one of the values is the stale marker.
pub fn any_stale(values: &[f64]) -> bool {
    // All of a piece are looked at: that is several at a time.
    values.chunks(64).any(|piece| {
        piece
            .iter()
            .fold(false, |any, value| any | is_stale(*value))
    })
}

/// One value of one series.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The series, its metric name included.
    pub labels: Labels,
    /// The value.
    pub value: f64,
    /// Only when the source stamped it; otherwise the time of the collection holds.
    pub timestamp: Option<Timestamp>,
}

/// One native histogram of one series.
#[derive(Clone, Debug)]
pub struct HistogramSample {
    /// The series, its metric name included.
    pub labels: Labels,
    /// The histogram.
    pub histogram: Arc<NativeHistogram>,
    /// Only when the source stamped it; otherwise the time of the collection holds.
    pub timestamp: Option<Timestamp>,
}

/// All samples of one metric family with its type and help.
#[derive(Clone, Debug)]
pub struct Family {
    /// The family's type.
    pub kind: MetricKind,
    /// HELP text, unescaped.
    pub help: Cow<'static, str>,
    /// Its samples, in the order they were pushed. `_bucket`, `_sum` and `_count` samples belong to
    /// their family.
    pub samples: Vec<Sample>,
}

/// What one collection or scrape brought: families by name, in order of first appearance.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Families by name.
    pub families: IndexMap<Cow<'static, str>, Family, ahash::RandomState>,
    /// Native histograms, which no text page shows.
    pub histograms: Vec<HistogramSample>,
    /// What is to be said in alerts about them.
    pub notes: Vec<Note>,
}

/// The state of a classic histogram: cumulative counts are made when it is pushed.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// An empty histogram with these upper bounds, ascending, `+Inf` left out.
    pub fn new(bounds: &'static [f64]) -> Self {
        Histogram {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    /// Counts one observation.
    pub fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += 1;
        self.sum += value;
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one value of a declared metric.
    pub fn push(&mut self, desc: &MetricDesc, labels: &[(&str, &str)], value: f64) {
        let series = series(desc.name, labels, None);
        self.family(
            Cow::Borrowed(desc.name),
            desc.kind,
            Cow::Borrowed(desc.help),
        )
        .samples
        .push(Sample {
            labels: series,
            value,
            timestamp: None,
        });
    }

    /// Adds one value of a metric whose name only the source knows (`pg_settings_*`, a custom
    /// query).
    pub fn push_named(
        &mut self,
        name: &str,
        kind: MetricKind,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let series = series(name, labels, None);
        self.push_sample(
            name,
            kind,
            help,
            Sample {
                labels: series,
                value,
                timestamp: None,
            },
        );
    }

    /// Adds a sample that is already assembled to the family `name`.
    pub fn push_sample(&mut self, name: &str, kind: MetricKind, help: &str, sample: Sample) {
        match self.families.get_mut(name) {
            Some(family) => family.samples.push(sample),
            None => {
                let family = Family {
                    kind,
                    help: Cow::Owned(help.to_owned()),
                    samples: vec![sample],
                };
                self.families.insert(Cow::Owned(name.to_owned()), family);
            }
        }
    }

    /// Adds the buckets, sum and count of a histogram.
    pub fn push_histogram(
        &mut self,
        desc: &MetricDesc,
        labels: &[(&str, &str)],
        histogram: &Histogram,
    ) {
        self.push_buckets(
            desc,
            labels,
            histogram.bounds,
            &histogram.counts,
            histogram.sum,
        );
    }

    /// Adds a histogram from its upper bounds, ascending, and the number of values in each bucket,
    /// not cumulative, one more than bounds.
    pub fn push_buckets(
        &mut self,
        desc: &MetricDesc,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        of_all: f64,
    ) {
        let (bucket, sum, count) = (
            format!("{}_bucket", desc.name),
            format!("{}_sum", desc.name),
            format!("{}_count", desc.name),
        );
        let mut total = 0;
        let mut samples = Vec::with_capacity(counts.len() + 2);
        let mut add = |labels: Labels, value: f64| {
            samples.push(Sample {
                labels,
                value,
                timestamp: None,
            })
        };
        for (index, n) in counts.iter().enumerate() {
            total += n;
            let le = bounds.get(index).map_or("+Inf".into(), |b| le_text(*b));
            add(series(&bucket, labels, Some(("le", &le))), total as f64);
        }
        add(series(&sum, labels, None), of_all);
        add(series(&count, labels, None), total as f64);
        self.family(
            Cow::Borrowed(desc.name),
            desc.kind,
            Cow::Borrowed(desc.help),
        )
        .samples
        .append(&mut samples);
    }

    /// Moves everything of `other` into this batch.
    pub fn append(&mut self, mut other: Batch) {
        self.notes.append(&mut other.notes);
        self.histograms.append(&mut other.histograms);
        for (name, mut family) in other.families {
            match self.families.get_mut(&name) {
                Some(mine) => mine.samples.append(&mut family.samples),
                None => drop(self.families.insert(name, family)),
            }
        }
    }

    /// All samples, family by family.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.families.values().flat_map(|f| &f.samples)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.families.values().map(|f| f.samples.len()).sum()
    }

    /// Whether no sample was pushed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.histograms.is_empty()
    }

    fn family(
        &mut self,
        name: Cow<'static, str>,
        kind: MetricKind,
        help: Cow<'static, str>,
    ) -> &mut Family {
        self.families.entry(name).or_insert_with(|| Family {
            kind,
            help,
            samples: Vec::new(),
        })
    }
}

/// A bucket bound in the float spelling that Prometheus 3 and OpenMetrics use: `1.0`, not `1`;
/// `1e+06`, not `1000000.0`.
fn le_text(bound: f64) -> String {
    let text = format_float_g(bound);
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        format!("{text}.0")
    } else {
        text
    }
}

fn series(name: &str, labels: &[(&str, &str)], extra: Option<(&str, &str)>) -> Labels {
    let mut builder = LabelsBuilder::new();
    builder.set(METRIC_NAME, name);
    for (label, value) in labels.iter().copied().chain(extra) {
        builder.set(label, value);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_buckets_are_cumulative_and_closed_above() {
        const DESC: MetricDesc = MetricDesc {
            name: "h",
            kind: MetricKind::Histogram,
            unit: "",
            help: "H.",
            labels: &[],
            source: "test",
        };
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        [0.5, 0.7, 1.0, 9.0]
            .into_iter()
            .for_each(|v| histogram.observe(v));
        let mut batch = Batch::new();
        batch.push_histogram(&DESC, &[], &histogram);
        let got: Vec<String> = batch
            .samples()
            .map(|s| format!("{} {}", s.labels, s.value))
            .collect();
        assert_eq!(
            got,
            [
                r#"h_bucket{le="0.5"} 1"#,
                r#"h_bucket{le="1.0"} 3"#,
                r#"h_bucket{le="+Inf"} 4"#,
                "h_sum 11.2",
                "h_count 4"
            ]
        );
    }

    /// SEMANTICS 2: staleness is a bit comparison.
    #[test]
    fn only_the_exact_bits_are_stale() {
        assert!(is_stale(stale_nan()) && !is_stale(f64::NAN));
    }
}
