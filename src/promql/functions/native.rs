//! Functions of native histograms alone: their count, sum, mean and spread. They leave out every
//! float.

use super::over_time::Sum;
use super::{Body, Function, row};
use crate::model::NativeHistogram;
use crate::promql::eval::evaluator::{Evaluator, drop_names};
use crate::promql::eval::frame::{Histograms, Node, absent};
use crate::promql::syntax::ast::Call;
use crate::promql::syntax::ast::ValueType::Vector;
use crate::promql::value::EvalError;

/// The functions of this family.
pub(super) static FAMILY: &[Function] = &[
    row(
        "histogram_avg",
        &[Vector],
        Body::Special(avg),
        "Mean of the observations of native histograms.",
    ),
    row(
        "histogram_count",
        &[Vector],
        Body::Special(count),
        "Number of observations of native histograms.",
    ),
    row(
        "histogram_stddev",
        &[Vector],
        Body::Special(stddev),
        "Estimated standard deviation of the observations of native histograms.",
    ),
    row(
        "histogram_stdvar",
        &[Vector],
        Body::Special(stdvar),
        "Estimated variance of the observations of native histograms.",
    ),
    row(
        "histogram_sum",
        &[Vector],
        Body::Special(sum),
        "Sum of the observations of native histograms.",
    ),
];

fn map(
    evaluator: &Evaluator<'_>,
    call: &Call,
    value_of: impl Fn(&NativeHistogram) -> f64,
) -> Result<Node, EvalError> {
    let mut frame = evaluator.vector(&call.args[0])?;
    let histograms: Histograms = std::mem::take(&mut frame.histograms);
    for value in &mut frame.values {
        *value = histograms
            .get(*value)
            .map_or_else(absent, |histogram| value_of(histogram));
    }
    drop_names(&mut frame);
    frame.merged().map(Node::Vector)
}

fn count(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    map(evaluator, call, |histogram| histogram.count)
}

fn sum(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    map(evaluator, call, |histogram| histogram.sum)
}

fn avg(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    map(evaluator, call, |histogram| histogram.sum / histogram.count)
}

fn stdvar(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    map(evaluator, call, variance)
}

fn stddev(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    map(evaluator, call, |histogram| variance(histogram).sqrt())
}

/// As if all observations of a bucket were in its middle: the geometric one of an exponential
/// bucket, zero of the zero bucket.
fn variance(histogram: &NativeHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut total = Sum::default();
    for bucket in histogram
        .buckets()
        .iter()
        .filter(|bucket| bucket.count != 0.0)
    {
        let middle = if histogram.is_custom() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        let delta = middle - mean;
        total.add(bucket.count * delta * delta);
    }
    total.total() / histogram.count
}
