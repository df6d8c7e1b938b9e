//! Functions of histograms of both kinds: classic ones, which are series with `le`, and native
//! ones.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::native_quantile::{self, Unnumbered};
use super::{Body, Function, row};
use crate::model::text::quote;
use crate::model::{Labels, METRIC_NAME, NativeHistogram};
use crate::promql::eval::evaluator::{Evaluator, drop_names};
use crate::promql::eval::frame::{Frame, Histograms, Node, absent, is_absent};
use crate::promql::syntax::ast::Call;
use crate::promql::syntax::ast::ValueType::{Scalar, Vector};
use crate::promql::value::{EvalError, Severity};

/// The functions of this family.
pub(super) static FAMILY: &[Function] = &[
    row(
        "histogram_fraction",
        &[Scalar, Scalar, Vector],
        Body::Special(histogram_fraction),
        "Share of observations between two bounds.",
    ),
    row(
        "histogram_quantile",
        &[Scalar, Vector],
        Body::Special(histogram_quantile),
        "Quantile of the observations of histograms.",
    ),
];

/// One bucket: how many observations are at most `bound`.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    bound: f64,
    count: f64,
}

/// The series of one classic histogram: row of the frame and upper bound of each bucket.
type Histogram = (Labels, Vec<(usize, f64)>);

fn histograms(
    evaluator: &Evaluator<'_>,
    call: &Call,
    frame: &Frame,
    argument: usize,
) -> Vec<Histogram> {
    let mut found: Vec<Histogram> = Vec::new();
    let mut index: HashMap<Labels, usize, ahash::RandomState> = HashMap::default();
    for (row, labels) in frame.rows.iter().enumerate() {
        let text = labels.value("le");
        let Some(bound) = parse_bound(text) else {
            let name = labels.metric_name();
            let (text, name) = (quote(text), quote(name));
            let text = format!(
                "PromQL warning: bucket label \"le\" is missing or has a malformed value of {text} for metric name {name}"
            );
            evaluator
                .query
                .annotate(Severity::Warning, text, call.annotated_span(argument));
            continue;
        };
        let key = labels.filtered(|name| name != "le" && name != METRIC_NAME);
        let histogram = *index.entry(key).or_insert_with_key(|key| {
            found.push((key.clone(), Vec::new()));
            found.len() - 1
        });
        found[histogram].1.push((row, bound));
    }
    for (_, buckets) in &mut found {
        buckets.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal));
    }
    found
}

/// A float as Go's `ParseFloat` reads it.
fn parse_bound(text: &str) -> Option<f64> {
    let plain = text.trim_start_matches(['+', '-']);
    let known = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        || ["inf", "infinity", "nan"]
            .iter()
            .any(|w| plain.eq_ignore_ascii_case(w));
    if known && text.len() - plain.len() <= 1 {
        text.parse().ok()
    } else {
        None
    }
}

/// Computes one value of each histogram at each step.
fn per_histogram(
    evaluator: &Evaluator<'_>,
    frame: &Frame,
    histograms: &[Histogram],
    mut compute: impl FnMut(usize, &mut Vec<Bucket>, Option<&str>) -> f64,
) -> Result<Frame, EvalError> {
    // Values are copied as the frame grows.
    evaluator
        .query
        .hold_cells(histograms.len().saturating_mul(2), evaluator.steps.count)?;
    let mut out = Frame::new(evaluator.steps.count);
    let mut buckets = Vec::new();
    for (labels, rows) in histograms {
        evaluator.query.check()?;
        let target = out.push(labels.clone());
        // Prometheus knows the metric name of a histogram only at the first step where there is
        // one.
        let mut name = rows.first().map(|(row, _)| frame.rows[*row].metric_name());
        for (step, target) in target.iter_mut().enumerate() {
            buckets.clear();
            let here = rows.iter().map(|(row, bound)| Bucket {
                bound: *bound,
                count: frame.at(*row, step),
            });
            buckets.extend(here.filter(|bucket| !is_absent(bucket.count)));
            if !buckets.is_empty() {
                *target = compute(step, &mut buckets, name.take());
            }
        }
    }
    Ok(out)
}

/// Takes the native histograms out of a frame and computes a value of each. One that stands beside
/// buckets of the same name and labels is left out with them.
fn per_native(
    evaluator: &Evaluator<'_>,
    call: &Call,
    frame: &mut Frame,
    argument: usize,
    compute: impl Fn(usize, &NativeHistogram) -> (f64, Option<Unnumbered>),
) -> Result<Frame, EvalError> {
    evaluator.query.memory.take(frame.bytes())?;
    let steps = frame.steps;
    let mut native = frame.clone();
    native.drop_floats();
    frame.drop_histograms();
    frame.compact();
    let mut classic: HashMap<Labels, Vec<usize>, ahash::RandomState> = HashMap::default();
    for (row, labels) in frame
        .rows
        .iter()
        .enumerate()
        .filter(|(_, labels)| parse_bound(labels.value("le")).is_some())
    {
        classic
            .entry(labels.filtered(|name| name != "le"))
            .or_default()
            .push(row);
    }
    for row in 0..native.rows.len() {
        let name = native.rows[row].metric_name();
        let beside = classic
            .get(&native.rows[row])
            .map_or(&[][..], Vec::as_slice);
        for step in 0..steps {
            let cell = row * steps + step;
            let Some(histogram) = native.histograms.get(native.values[cell]) else {
                continue;
            };
            if beside.iter().any(|row| !is_absent(frame.at(*row, step))) {
                let text = format!(
                    "PromQL warning: vector contains a mix of classic and native histograms for metric name {}",
                    quote(name)
                );
                evaluator
                    .query
                    .annotate(Severity::Warning, text, call.annotated_span(argument));
                beside
                    .iter()
                    .for_each(|row| frame.values[row * steps + step] = absent());
                native.values[cell] = absent();
                continue;
            }
            let (value, annotation) = compute(step, histogram);
            native.values[cell] = value;
            if let Some(annotation) = annotation {
                evaluator.query.annotate(
                    Severity::Info,
                    format!("{} {}", annotation.text(), quote(name)),
                    call.annotated_span(0),
                );
            }
        }
    }
    native.histograms = Histograms::default();
    drop_names(&mut native);
    Ok(native)
}

/// The values of native histograms before those of classic ones.
fn joined(native: Option<Frame>, classic: Frame) -> Result<Node, EvalError> {
    let Some(mut all) = native else {
        return classic.merged().map(Node::Vector);
    };
    let rows = all
        .rows
        .iter()
        .chain(classic.rows.iter())
        .cloned()
        .collect();
    all.append(classic, rows);
    all.merged().map(Node::Vector)
}

fn histogram_quantile(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let q = evaluator.scalar(&call.args[0])?;
    let mut frame = evaluator.vector(&call.args[1])?;
    let native = (!frame.histograms.is_empty())
        .then(|| {
            per_native(evaluator, call, &mut frame, 1, |step, histogram| {
                native_quantile::quantile(q[step], histogram)
            })
        })
        .transpose()?;
    let histograms = histograms(evaluator, call, &frame, 1);
    for q in q.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
        evaluator.query.annotate(
            Severity::Warning,
            super::over_time::invalid_quantile(*q),
            call.annotated_span(0),
        );
    }
    let once = call.is_step_invariant();
    let classic = per_histogram(evaluator, &frame, &histograms, |step, buckets, name| {
        let (value, repaired) = bucket_quantile(q[step], buckets);
        if repaired && (name.is_some() || !once) {
            evaluator.query.annotate(
                Severity::Info,
                monotonicity(name.unwrap_or_default()),
                call.annotated_span(1),
            );
        }
        value
    })?;
    joined(native, classic)
}

fn monotonicity(name: &str) -> String {
    format!(
        "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see \
         https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name {}",
        quote(name)
    )
}

/// The quantile, linear inside a bucket, and whether the counts had to be repaired.
fn bucket_quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if q > 1.0 {
        return (f64::INFINITY, false);
    }
    if buckets.last().is_none_or(|b| b.bound != f64::INFINITY) {
        return (f64::NAN, false);
    }
    coalesce(buckets);
    let repaired = repair(buckets);
    let last = buckets.len() - 1;
    let total = buckets[last].count;
    if last == 0 || total == 0.0 {
        return (f64::NAN, false);
    }
    let rank = q * total;
    // Counts that are no numbers are in no order: how the bucket is looked for is part of the
    // answer.
    let (mut picked, mut beyond) = (0, last);
    while picked < beyond {
        let middle = (picked + beyond) / 2;
        if buckets[middle].count >= rank {
            beyond = middle;
        } else {
            picked = middle + 1;
        }
    }
    if picked == last {
        return (buckets[last - 1].bound, repaired);
    }
    if picked == 0 && buckets[0].bound <= 0.0 {
        return (buckets[0].bound, repaired);
    }
    let before = if picked > 0 {
        buckets[picked - 1]
    } else {
        Bucket {
            bound: 0.0,
            count: 0.0,
        }
    };
    let share = (rank - before.count) / (buckets[picked].count - before.count);
    (
        before.bound + (buckets[picked].bound - before.bound) * share,
        repaired,
    )
}

/// Merges buckets of equal bounds.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, kept| {
        let same = next.bound == kept.bound;
        if same {
            kept.count += next.count;
        }
        same
    });
}

/// Raises every count to the one before it, and takes differences that are only rounding away;
/// tells whether one was raised.
fn repair(buckets: &mut [Bucket]) -> bool {
    const TOLERANCE: f64 = 1e-12;
    let (mut previous, mut raised) = (buckets[0].count, false);
    for bucket in &mut buckets[1..] {
        let same = (bucket.count - previous).abs()
            / (bucket.count.abs() + previous.abs()).min(f64::MAX)
            < TOLERANCE;
        if same || bucket.count < previous {
            raised |= !same && bucket.count != previous;
            bucket.count = previous;
        } else {
            previous = bucket.count;
        }
    }
    raised
}

fn histogram_fraction(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let (lower, upper) = (
        evaluator.scalar(&call.args[0])?,
        evaluator.scalar(&call.args[1])?,
    );
    let mut frame = evaluator.vector(&call.args[2])?;
    let compute = |step: usize, histogram: &NativeHistogram| {
        native_quantile::fraction(lower[step], upper[step], histogram)
    };
    let native = (!frame.histograms.is_empty())
        .then(|| per_native(evaluator, call, &mut frame, 2, compute))
        .transpose()?;
    let histograms = histograms(evaluator, call, &frame, 2);
    joined(
        native,
        per_histogram(evaluator, &frame, &histograms, |step, buckets, _| {
            bucket_fraction(lower[step], upper[step], buckets)
        })?,
    )
}

/// The share of observations in `(lower, upper]`, linear inside a bucket.
fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets.last().is_none_or(|b| b.bound != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let total = buckets[buckets.len() - 1].count;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (mut rank, mut below, mut above) = (0.0, None, None);
    let mut start = f64::NEG_INFINITY;
    for bucket in buckets.iter() {
        // The lowest bucket has no lower edge: a bound strictly inside it gives NaN.
        let at = |bound: f64| {
            if bound <= start {
                Some(rank)
            } else if bound < bucket.bound {
                Some(rank + (bucket.count - rank) * (bound - start) / (bucket.bound - start))
            } else {
                None
            }
        };
        below = below.or_else(|| at(lower));
        above = above.or_else(|| at(upper));
        if below.is_some() && above.is_some() {
            break;
        }
        rank = bucket.count;
        start = bucket.bound;
    }
    let capped =
        |found: Option<f64>| found.map_or(total, |rank| if rank > total { total } else { rank });
    (capped(above) - capped(below)) / total
}
