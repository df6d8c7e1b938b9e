//! The value of a series that an application sends: set by a point that counts from the start,
//! added to by one that counts since the last.

use std::collections::BTreeMap;

use crate::collectors::gen_ai::Grown;
use crate::exposition::otlp::Data;
use crate::model::native_histogram::EXPONENTIAL_SCHEMAS;
use crate::model::{
    Batch, HistogramSample, Labels, MetricKind, NativeHistogram, Sample, text::format_float_f,
};

/// Observations so near to zero are in the zero bucket, as Prometheus's receiver has it.
const ZERO_THRESHOLD: f64 = 1e-128;

/// A value.
#[derive(Clone, Debug)]
pub enum Worth {
    /// Of a gauge or a counter.
    Number(f64),
    /// A histogram with bounds of its own.
    Histogram {
        count: u64,
        sum: Option<f64>,
        bounds: Vec<f64>,
        counts: Vec<u64>,
    },
    /// An exponential histogram.
    Native(Box<NativeHistogram>),
    /// A summary.
    Summary {
        count: u64,
        sum: f64,
        quantiles: Vec<(f64, f64)>,
    },
}

impl Worth {
    /// The value of a point; the error says what is wrong with it.
    pub fn of(data: Data) -> Result<Self, &'static str> {
        Ok(match data {
            Data::Number(value) => Worth::Number(value),
            Data::Histogram {
                count,
                sum,
                bounds,
                counts,
            } => Worth::Histogram {
                count,
                sum,
                bounds,
                counts,
            },
            Data::Summary {
                count,
                sum,
                quantiles,
            } => Worth::Summary {
                count,
                sum,
                quantiles,
            },
            Data::Exponential {
                count,
                sum,
                scale,
                zero_count,
                positive,
                negative,
            } => {
                let finest = i32::from(*EXPONENTIAL_SCHEMAS.end());
                let schema = i8::try_from(scale.min(finest))
                    .ok()
                    .filter(|schema| EXPONENTIAL_SCHEMAS.contains(schema))
                    .ok_or("scale")?;
                let coarser = (scale - scale.min(finest)).min(31) as u32;
                let histogram = NativeHistogram {
                    schema,
                    zero_threshold: ZERO_THRESHOLD,
                    zero_count: zero_count as f64,
                    count: count as f64,
                    sum: sum.unwrap_or(0.0),
                    positive: side(&positive, coarser)?.into_iter().collect(),
                    negative: side(&negative, coarser)?.into_iter().collect(),
                    ..NativeHistogram::default()
                };
                let held = zero_count as f64
                    + histogram
                        .positive
                        .counts()
                        .iter()
                        .chain(histogram.negative.counts())
                        .sum::<f64>();
                histogram.validate().map_err(|_| "buckets")?;
                if held > histogram.count || (held < histogram.count && !histogram.sum.is_nan()) {
                    return Err("buckets");
                }
                Worth::Native(Box::new(histogram.compacted()))
            }
        })
    }

    /// The type of the metric.
    pub fn kind(&self, is_counter: bool) -> MetricKind {
        match self {
            Worth::Number(_) if is_counter => MetricKind::Counter,
            Worth::Number(_) => MetricKind::Gauge,
            Worth::Histogram { .. } | Worth::Native(_) => MetricKind::Histogram,
            Worth::Summary { .. } => MetricKind::Summary,
        }
    }

    /// Number of its series.
    pub fn series(&self) -> usize {
        match self {
            Worth::Number(_) | Worth::Native(_) => 1,
            Worth::Histogram { bounds, .. } => bounds.len() + 3,
            Worth::Summary { quantiles, .. } => quantiles.len() + 2,
        }
    }

    /// About the memory that it takes, in bytes.
    pub fn heap_size(&self) -> usize {
        match self {
            Worth::Number(_) => 0,
            Worth::Histogram { bounds, counts, .. } => (bounds.len() + counts.len()) * 8,
            Worth::Native(histogram) => size_of::<NativeHistogram>() + histogram.heap_size(),
            Worth::Summary { quantiles, .. } => quantiles.len() * 16,
        }
    }

    /// Adds what came since the last point. What cannot be added begins anew.
    pub fn add(&mut self, more: Worth) {
        match (&mut *self, more) {
            (Worth::Number(value), Worth::Number(more)) => *value += more,
            (
                Worth::Histogram {
                    count,
                    sum,
                    bounds,
                    counts,
                },
                Worth::Histogram {
                    count: more,
                    sum: more_sum,
                    bounds: same,
                    counts: further,
                },
            ) if *bounds == same && counts.len() == further.len() => {
                *count = count.saturating_add(more);
                *sum = sum.zip(more_sum).map(|(sum, more)| sum + more);
                counts
                    .iter_mut()
                    .zip(further)
                    .for_each(|(count, more)| *count = count.saturating_add(more));
            }
            (Worth::Native(histogram), Worth::Native(more)) => {
                if histogram.add(&more).is_err() {
                    *histogram = more;
                }
            }
            (_, more) => *self = more,
        }
    }

    /// How a histogram has grown since an earlier value of it, `None` where it has begun anew or is
    /// none. `earlier` of `None` is nothing.
    pub fn grown_since(&self, earlier: Option<&Worth>) -> Option<Grown> {
        let Worth::Histogram {
            sum,
            bounds,
            counts,
            ..
        } = self
        else {
            return None;
        };
        if counts.len() != bounds.len() + 1 {
            return None;
        }
        let whole = Grown {
            bounds: bounds.clone(),
            counts: counts.clone(),
            sum: sum.unwrap_or(0.0),
        };
        let Some(earlier) = earlier else {
            return Some(whole);
        };
        let Worth::Histogram {
            sum: before,
            bounds: same,
            counts: less,
            ..
        } = earlier
        else {
            return Some(whole);
        };
        if same != bounds
            || less.len() != counts.len()
            || counts.iter().zip(less).any(|(count, less)| count < less)
        {
            return Some(whole);
        }
        let counts = counts
            .iter()
            .zip(less)
            .map(|(count, less)| count - less)
            .collect();
        Some(Grown {
            counts,
            sum: whole.sum - before.unwrap_or(0.0),
            ..whole
        })
    }

    /// Shows it as samples of `base`, whose name is the family's.
    pub fn show(&self, base: &Labels, kind: MetricKind, help: &str, batch: &mut Batch) {
        let family = base.metric_name();
        let mut push = |suffix: &str, extra: Option<(&str, &str)>, value: f64| {
            let mut labels = base.to_builder();
            if !suffix.is_empty() {
                labels.set(crate::model::METRIC_NAME, &format!("{family}{suffix}"));
            }
            if let Some((name, value)) = extra {
                labels.set(name, value);
            }
            batch.push_sample(
                family,
                kind,
                help,
                Sample {
                    labels: labels.build(),
                    value,
                    timestamp: None,
                },
            );
        };
        match self {
            Worth::Number(value) => push("", None, *value),
            Worth::Histogram {
                count,
                sum,
                bounds,
                counts,
            } => {
                let mut total: u64 = 0;
                for (bound, count) in bounds.iter().zip(counts) {
                    total = total.saturating_add(*count);
                    push(
                        "_bucket",
                        Some(("le", &format_float_f(*bound))),
                        total as f64,
                    );
                }
                push("_bucket", Some(("le", "+Inf")), *count as f64);
                sum.iter().for_each(|sum| push("_sum", None, *sum));
                push("_count", None, *count as f64);
            }
            Worth::Summary {
                count,
                sum,
                quantiles,
            } => {
                for (quantile, value) in quantiles {
                    push("", Some(("quantile", &format_float_f(*quantile))), *value);
                }
                push("_sum", None, *sum);
                push("_count", None, *count as f64);
            }
            Worth::Native(histogram) => {
                let sample = HistogramSample {
                    labels: base.clone(),
                    histogram: (**histogram).clone().into(),
                    timestamp: None,
                };
                batch.histograms.push(sample);
            }
        }
    }
}

/// The populated buckets of one side: Prometheus counts them by their upper bounds, OpenTelemetry
/// by their lower ones.
fn side(
    (offset, counts): &(i32, Vec<u64>),
    coarser: u32,
) -> Result<BTreeMap<i32, f64>, &'static str> {
    let mut buckets = BTreeMap::new();
    for (index, count) in (i64::from(*offset)..)
        .zip(counts)
        .filter(|(_, count)| **count > 0)
    {
        let index = i32::try_from((index >> coarser) + 1).map_err(|_| "buckets")?;
        *buckets.entry(index).or_insert(0.0) += *count as f64;
    }
    Ok(buckets)
}
