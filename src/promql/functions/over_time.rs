//! Functions that aggregate the samples of one window, and the sums and quantiles that aggregations
//! share.

use super::mixed::{self, Native};
use super::{Body, Function, row, slide};
use crate::model::text::format_float_g;
use crate::promql::eval::evaluator::{Evaluator, drop_names};
use crate::promql::eval::frame::{Frame, Node};
use crate::promql::eval::selector::Over;
use crate::promql::eval::windows::Range;
use crate::promql::syntax::ast::Call;
use crate::promql::syntax::ast::ValueType::{Matrix, Scalar};
use crate::promql::value::{EvalError, Severity};

/// The functions of this family.
pub(super) static FAMILY: &[Function] = &[
    row(
        "absent_over_time",
        &[Matrix],
        Body::Special(absent_over_time),
        "1 when the window has no sample at all.",
    ),
    row(
        "avg_over_time",
        &[Matrix],
        Body::Slid(avg, Native::Taken(mixed::average), slide::sums::avg),
        "Mean of the samples of the window.",
    ),
    row(
        "count_over_time",
        &[Matrix],
        Body::Range(count, Native::Taken(mixed::count)),
        "Number of samples in the window.",
    ),
    row(
        "first_over_time",
        &[Matrix],
        Body::RangeNamed(first, Native::Taken(mixed::first)),
        "Oldest sample of the window.",
    ),
    row(
        "last_over_time",
        &[Matrix],
        Body::RangeNamed(last, Native::Taken(mixed::last)),
        "Newest sample of the window.",
    ),
    row(
        "mad_over_time",
        &[Matrix],
        Body::Range(mad, Native::Ignored),
        "Median absolute deviation of the samples of the window.",
    )
    .experimental(),
    row(
        "max_over_time",
        &[Matrix],
        Body::Slid(max, Native::Ignored, slide::extremes::max),
        "Greatest sample of the window.",
    ),
    row(
        "min_over_time",
        &[Matrix],
        Body::Slid(min, Native::Ignored, slide::extremes::min),
        "Least sample of the window.",
    ),
    row(
        "present_over_time",
        &[Matrix],
        Body::Range(present, Native::Taken(mixed::present)),
        "1 for every series with a sample in the window.",
    ),
    row(
        "quantile_over_time",
        &[Scalar, Matrix],
        Body::Special(quantile_over_time),
        "Quantile of the samples of the window.",
    ),
    row(
        "stddev_over_time",
        &[Matrix],
        Body::Slid(stddev, Native::Ignored, slide::side_by_side::stddev),
        "Population standard deviation of the samples of the window.",
    ),
    row(
        "stdvar_over_time",
        &[Matrix],
        Body::Slid(stdvar, Native::Ignored, slide::side_by_side::stdvar),
        "Population variance of the samples of the window.",
    ),
    row(
        "sum_over_time",
        &[Matrix],
        Body::Slid(sum, Native::Taken(mixed::sum), slide::sums::sum),
        "Sum of the samples of the window.",
    ),
    row(
        "ts_of_first_over_time",
        &[Matrix],
        Body::Range(ts_of_first, Native::Taken(mixed::time_of_first)),
        "Unix seconds of the oldest sample of the window.",
    )
    .experimental(),
    row(
        "ts_of_last_over_time",
        &[Matrix],
        Body::Range(ts_of_last, Native::Taken(mixed::time_of_last)),
        "Unix seconds of the newest sample of the window.",
    )
    .experimental(),
    row(
        "ts_of_max_over_time",
        &[Matrix],
        Body::Range(ts_of_max, Native::Ignored),
        "Unix seconds of the last greatest sample of the window.",
    )
    .experimental(),
    row(
        "ts_of_min_over_time",
        &[Matrix],
        Body::Range(ts_of_min, Native::Ignored),
        "Unix seconds of the last least sample of the window.",
    )
    .experimental(),
];

/// A sum with Neumaier's compensation.
#[derive(Clone, Copy, Default, Debug)]
pub(in crate::promql) struct Sum {
    sum: f64,
    compensation: f64,
}

impl Sum {
    /// A sum of one value.
    pub(in crate::promql) fn starting(value: f64) -> Self {
        Sum {
            sum: value,
            compensation: 0.0,
        }
    }

    /// A sum and what rounding took from it.
    pub(super) fn of(sum: f64, compensation: f64) -> Self {
        Sum { sum, compensation }
    }

    /// The mean of so many values.
    pub(super) fn divided(self, count: f64) -> f64 {
        self.sum / count + self.compensation / count
    }

    /// Adds a value.
    pub(in crate::promql) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        self.compensation = if total.is_infinite() {
            0.0
        } else if self.sum.abs() >= value.abs() {
            self.compensation + ((self.sum - total) + value)
        } else {
            self.compensation + ((value - total) + self.sum)
        };
        self.sum = total;
    }

    /// The sum.
    pub(in crate::promql) fn total(self) -> f64 {
        self.sum + self.compensation
    }
}

/// A mean: a compensated sum divided at the end, an incremental mean from where the sum would
/// overflow.
#[derive(Clone, Copy, Debug)]
pub(in crate::promql) struct Mean {
    sum: Sum,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// A mean of one value.
    pub(in crate::promql) fn starting(value: f64) -> Self {
        Mean {
            sum: Sum::starting(value),
            count: 1.0,
            incremental: false,
        }
    }

    /// Adds a value.
    pub(in crate::promql) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.sum;
            next.add(value);
            if !next.sum.is_infinite() {
                self.sum = next;
                return;
            }
            self.incremental = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.compensation /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        self.sum = Sum {
            sum: share * self.sum.sum,
            compensation: share * self.sum.compensation,
        };
        self.sum.add(value / self.count);
    }

    /// The mean.
    pub(in crate::promql) fn value(self) -> f64 {
        if self.incremental {
            self.sum.total()
        } else {
            self.sum.divided(self.count)
        }
    }
}

/// The quantile of some values, which are sorted by this; NaN counts as smallest.
pub(in crate::promql) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    quantile_of(q, values.len(), |lower, upper| ranked(values, lower, upper))
}

/// The quantile of sorted values.
pub(super) fn sorted_quantile(q: f64, values: &[f64]) -> f64 {
    quantile_of(q, values.len(), |lower, upper| {
        (values[lower], values[upper])
    })
}

/// The quantile of so many values, of which `ranked` gives those at two positions of the order.
fn quantile_of(q: f64, count: usize, ranked: impl FnOnce(usize, usize) -> (f64, f64)) -> f64 {
    if count == 0 || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (count as f64 - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(count as f64 - 1.0);
    let weight = rank - rank.floor();
    let (low, high) = ranked(lower as usize, upper as usize);
    low * (1.0 - weight) + high * weight
}

/// The values at two neighbouring positions of the order, NaN first.
fn ranked(values: &mut [f64], lower: usize, upper: usize) -> (f64, f64) {
    // Where an order is not total, ties are distinguished by where they stood: then all are sorted.
    if values
        .iter()
        .any(|v| v.is_nan() || (*v == 0.0 && v.is_sign_negative()))
    {
        values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
            (false, false) => a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal),
            (a, b) => b.cmp(&a),
        });
        return (values[lower], values[upper]);
    }
    let (_, low, above) = values.select_nth_unstable_by(lower, f64::total_cmp);
    let next = if upper == lower {
        *low
    } else {
        above.iter().copied().fold(f64::INFINITY, f64::min)
    };
    (*low, next)
}

fn avg(range: Range<'_>) -> Option<f64> {
    let mut mean = Mean::starting(*range.values.first()?);
    range.values[1..].iter().for_each(|v| mean.add(*v));
    Some(mean.value())
}

fn count(range: Range<'_>) -> Option<f64> {
    Some(range.values.len() as f64)
}

fn sum(range: Range<'_>) -> Option<f64> {
    let mut sum = Sum::default();
    range.values.iter().for_each(|v| sum.add(*v));
    Some(if sum.sum.is_infinite() {
        sum.sum
    } else {
        sum.total()
    })
}

fn first(range: Range<'_>) -> Option<f64> {
    range.values.first().copied()
}

fn last(range: Range<'_>) -> Option<f64> {
    range.values.last().copied()
}

fn present(_: Range<'_>) -> Option<f64> {
    Some(1.0)
}

/// Time and value of the sample that `better` prefers to all others.
fn extreme(range: Range<'_>, better: impl Fn(f64, f64) -> bool) -> Option<(i64, f64)> {
    let mut best = (*range.times.first()?, *range.values.first()?);
    for (time, value) in range.times.iter().zip(range.values) {
        if better(*value, best.1) || best.1.is_nan() {
            best = (*time, *value);
        }
    }
    Some(best)
}

/// The extreme of many values at once, `pick` choosing of two; `None` where the order of the values
/// counts: NaN, zeroes of both signs.
fn extreme_of_many(values: &[f64], pick: impl Fn(f64, f64) -> f64) -> Option<f64> {
    const LANES: usize = 8;
    if values.len() < LANES * 2 {
        return None;
    }
    let (mut best, mut unordered) = ([values[0]; LANES], [false; LANES]);
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            unordered[lane] |= chunk[lane].is_nan();
            best[lane] = pick(chunk[lane], best[lane]);
        }
    }
    let all = best.into_iter().chain(rest.iter().copied()).reduce(pick)?;
    let unordered = unordered.contains(&true) || rest.iter().any(|v| v.is_nan());
    (!unordered && all != 0.0).then_some(all)
}

fn max(range: Range<'_>) -> Option<f64> {
    if let Some(greatest) = extreme_of_many(
        range.values,
        |new, best| if new > best { new } else { best },
    ) {
        return Some(greatest);
    }
    extreme(range, |new, best| new > best).map(|(_, value)| value)
}

fn min(range: Range<'_>) -> Option<f64> {
    if let Some(least) = extreme_of_many(
        range.values,
        |new, best| if new < best { new } else { best },
    ) {
        return Some(least);
    }
    extreme(range, |new, best| new < best).map(|(_, value)| value)
}

fn ts_of_max(range: Range<'_>) -> Option<f64> {
    extreme(range, |new, best| new >= best).map(|(time, _)| time as f64 / 1000.0)
}

fn ts_of_min(range: Range<'_>) -> Option<f64> {
    extreme(range, |new, best| new <= best).map(|(time, _)| time as f64 / 1000.0)
}

fn ts_of_first(range: Range<'_>) -> Option<f64> {
    range.times.first().map(|time| *time as f64 / 1000.0)
}

fn ts_of_last(range: Range<'_>) -> Option<f64> {
    range.times.last().map(|time| *time as f64 / 1000.0)
}

fn mad(range: Range<'_>) -> Option<f64> {
    if range.values.is_empty() {
        return None;
    }
    let mut values = range.values.to_vec();
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    Some(quantile(0.5, &mut values))
}

/// Population variance by Welford, compensated.
fn stdvar(range: Range<'_>) -> Option<f64> {
    let (mut count, mut mean, mut total) = (0.0, Sum::default(), Sum::default());
    for value in range.values {
        count += 1.0;
        let delta = value - mean.total();
        mean.add(delta / count);
        total.add(delta * (value - mean.total()));
    }
    (count > 0.0).then(|| total.total() / count)
}

fn stddev(range: Range<'_>) -> Option<f64> {
    stdvar(range).map(f64::sqrt)
}

fn quantile_over_time(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let q = evaluator.scalar(&call.args[0])?;
    let mut frame = evaluator.over_ranges(&Over {
        call,
        argument: 1,
        native: Native::Ignored,
        slide: Some(&|windowed, row| slide::order::quantile(windowed, row, &q)),
        compute: &|range| {
            let mut values = range.values.to_vec();
            Ok((!values.is_empty()).then(|| quantile(q[range.step], &mut values)))
        },
    })?;
    for (step, q) in q.iter().enumerate() {
        if !(0.0..=1.0).contains(q) && frame.any_at(step) {
            evaluator.query.annotate(
                Severity::Warning,
                invalid_quantile(*q),
                call.annotated_span(0),
            );
        }
    }
    drop_names(&mut frame);
    frame.distinct().map(Node::Vector)
}

/// The warning for a quantile outside 0 to 1.
pub(in crate::promql) fn invalid_quantile(q: f64) -> String {
    format!(
        "PromQL warning: quantile value should be between 0 and 1, got {}",
        format_float_g(q)
    )
}

fn absent_over_time(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let found = evaluator.over_ranges(&Over {
        call,
        argument: 0,
        native: Native::Taken(mixed::present),
        slide: None,
        compute: &|_| Ok(Some(1.0)),
    })?;
    let mut frame = Frame::new(evaluator.steps.count);
    let row = frame.push(super::label::absent_labels(&call.args[0]));
    for (step, value) in row.iter_mut().enumerate() {
        if !found.any_at(step) {
            *value = 1.0;
        }
    }
    frame.compact();
    Ok(Node::Vector(frame))
}
