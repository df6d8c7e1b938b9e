//! Functions of how samples change inside a window: rates, differences, slopes, forecasts.

use super::extrapolation::{Kind, stretch};
use super::mixed::{self, Native};
use super::over_time::Sum;
use super::{Body, Function, native_rate, row};
use crate::model::text::quote;
use crate::promql::eval::evaluator::{Evaluator, drop_names};
use crate::promql::eval::frame::{Node, is_absent};
use crate::promql::eval::selector::Range;
use crate::promql::syntax::ast::Call;
use crate::promql::syntax::ast::ValueType::{Matrix, Scalar};
use crate::promql::value::{EvalError, Severity};

/// The functions of this family.
pub(super) static FAMILY: &[Function] = &[
    row(
        "changes",
        &[Matrix],
        Body::Range(changes, Native::Taken(mixed::changes)),
        "Number of times a value changed in the window.",
    ),
    row(
        "delta",
        &[Matrix],
        Body::Range(delta, Native::Taken(native_rate::delta)),
        "Difference between the last and the first value of a gauge, extrapolated to the window.",
    ),
    row(
        "deriv",
        &[Matrix],
        Body::Range(deriv, Native::Ignored),
        "Slope per second of a gauge, by least squares.",
    ),
    row(
        "idelta",
        &[Matrix],
        Body::Range(idelta, Native::Taken(native_rate::idelta)),
        "Difference between the last two samples of a gauge.",
    ),
    row(
        "increase",
        &[Matrix],
        Body::Special(increase),
        "Growth of a counter, resets bridged, extrapolated to the window.",
    ),
    row(
        "irate",
        &[Matrix],
        Body::Range(irate, Native::Taken(native_rate::irate)),
        "Growth per second of a counter between its last two samples.",
    ),
    row(
        "predict_linear",
        &[Matrix, Scalar],
        Body::Special(predict_linear),
        "Value of a gauge so many seconds from now, by least squares.",
    ),
    row(
        "rate",
        &[Matrix],
        Body::Special(rate),
        "Growth per second of a counter, resets bridged, extrapolated to the window.",
    ),
    row(
        "resets",
        &[Matrix],
        Body::Range(resets, Native::Taken(mixed::resets)),
        "Number of times a counter was reset in the window.",
    ),
    row(
        "double_exponential_smoothing",
        &[Matrix, Scalar, Scalar],
        Body::Special(double_exponential_smoothing),
        "Smoothed value of a gauge; smoothing and trend factor between 0 and 1.",
    )
    .experimental(),
];

/// The difference between the ends of a window, stretched to the whole window where the samples
/// nearly fill it.
fn extrapolated(range: Range<'_>, kind: Kind) -> Option<f64> {
    let (values, times) = (range.values, range.times);
    let (first, last) = (*values.first()?, *values.last()?);
    if values.len() < 2 {
        return None;
    }
    let mut result = last - first;
    if kind != Kind::Delta {
        // One after the other: the order of additions is part of the answer.
        for pair in values.windows(2).filter(|pair| pair[1] < pair[0]) {
            result += pair[0];
        }
    }
    // A counter is never below zero: it is not stretched to before it was zero.
    let share = (kind != Kind::Delta && result > 0.0 && first >= 0.0).then(|| first / result);
    let ends = (times[0], times[times.len() - 1]);
    Some(result * stretch((range.start, range.end), ends, values.len(), share, kind))
}

fn delta(range: Range<'_>) -> Option<f64> {
    extrapolated(range, Kind::Delta)
}

fn increase(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    counter(
        evaluator,
        call,
        Kind::Increase,
        Native::Taken(native_rate::increase),
    )
}

fn rate(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    counter(
        evaluator,
        call,
        Kind::Rate,
        Native::Taken(native_rate::rate),
    )
}

fn counter(
    evaluator: &Evaluator<'_>,
    call: &Call,
    kind: Kind,
    native: Native,
) -> Result<Node, EvalError> {
    let mut frame =
        evaluator.over_ranges(call, 0, native, |range| Ok(extrapolated(range, kind)))?;
    let mut last = "";
    for (row, labels) in frame.rows.iter().enumerate() {
        let name = labels.metric_name();
        let floats = || {
            frame.histograms.is_empty()
                || frame
                    .row(row)
                    .iter()
                    .any(|v| !is_absent(*v) && frame.histograms.get(*v).is_none())
        };
        if name == last {
            continue;
        }
        let unusual = !name.is_empty()
            && !["_total", "_sum", "_count", "_bucket"]
                .iter()
                .any(|s| name.ends_with(s));
        if unusual && !floats() {
            continue;
        }
        if unusual {
            let text = format!(
                "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                quote(name)
            );
            evaluator
                .query
                .annotate(Severity::Info, text, call.annotated_span(0));
        }
        last = name;
    }
    drop_names(&mut frame);
    frame.distinct().map(Node::Vector)
}

/// The last two samples.
fn last_two(range: Range<'_>) -> Option<((i64, f64), (i64, f64))> {
    let n = range.values.len();
    if n < 2 || range.times[n - 1] == range.times[n - 2] {
        return None;
    }
    Some((
        (range.times[n - 2], range.values[n - 2]),
        (range.times[n - 1], range.values[n - 1]),
    ))
}

fn idelta(range: Range<'_>) -> Option<f64> {
    last_two(range).map(|((_, before), (_, after))| after - before)
}

fn irate(range: Range<'_>) -> Option<f64> {
    let ((from, before), (to, after)) = last_two(range)?;
    // After a reset the counter grew from zero.
    let growth = if after < before {
        after
    } else {
        after - before
    };
    Some(growth / ((to - from) as f64 / 1000.0))
}

fn resets(range: Range<'_>) -> Option<f64> {
    Some(
        range
            .values
            .windows(2)
            .filter(|pair| pair[1] < pair[0])
            .count() as f64,
    )
}

fn changes(range: Range<'_>) -> Option<f64> {
    let changed = |pair: &&[f64]| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan());
    Some(range.values.windows(2).filter(changed).count() as f64)
}

/// What a least-squares line needs of the instants alone; kept, because most series of a selection
/// share them.
#[derive(Clone, Default)]
struct Instants {
    times: Vec<i64>,
    origin: i64,
    sum_x: f64,
    sum_xx: f64,
}

/// Instants that are kept for all steps of a query together.
const MOST_INSTANTS: usize = 1 << 18;

impl Instants {
    /// Makes these the instants of a window, counted in seconds from `origin`.
    fn set(&mut self, times: &[i64], origin: i64, keep: bool) {
        if self.origin == origin && self.times == times && !times.is_empty() {
            return;
        }
        let (mut sum_x, mut sum_xx) = (Sum::default(), Sum::default());
        for time in times {
            let x = seconds_from(origin, *time);
            sum_x.add(x);
            sum_xx.add(x * x);
        }
        (self.origin, self.sum_x, self.sum_xx) = (origin, sum_x.total(), sum_xx.total());
        self.times.clear();
        if keep {
            self.times.extend_from_slice(times);
        }
    }
}

fn seconds_from(origin: i64, time: i64) -> f64 {
    time.saturating_sub(origin) as f64 / 1000.0
}

/// Slope per second and value at `origin` of the least-squares line.
fn regression(range: Range<'_>, origin: i64, instants: &mut Instants, keep: bool) -> (f64, f64) {
    let first = range.values[0];
    if range.values.iter().all(|v| *v == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    instants.set(range.times, origin, keep);
    let (mut sum_y, mut sum_xy) = (Sum::default(), Sum::default());
    for (time, y) in range.times.iter().zip(range.values) {
        sum_y.add(*y);
        sum_xy.add(seconds_from(origin, *time) * y);
    }
    let n = range.values.len() as f64;
    let (x, y) = (instants.sum_x, sum_y.total());
    let slope = (sum_xy.total() - x * y / n) / (instants.sum_xx - x * x / n);
    (slope, y / n - slope * x / n)
}

fn deriv(range: Range<'_>) -> Option<f64> {
    (range.values.len() > 1)
        .then(|| regression(range, range.times[0], &mut Instants::default(), false).0)
}

fn predict_linear(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let ahead = evaluator.scalar(&call.args[1])?;
    let mut instants = vec![Instants::default(); evaluator.steps.count];
    let mut frame = evaluator.over_ranges(call, 0, Native::Ignored, |range| {
        if range.values.len() < 2 {
            return Ok(None);
        }
        let keep = range.times.len().saturating_mul(instants.len()) <= MOST_INSTANTS;
        let (slope, now) = regression(range, range.at, &mut instants[range.step], keep);
        Ok(Some(slope * ahead[range.step] + now))
    })?;
    drop_names(&mut frame);
    frame.distinct().map(Node::Vector)
}

fn double_exponential_smoothing(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let (smoothing, trend) = (
        evaluator.scalar(&call.args[1])?,
        evaluator.scalar(&call.args[2])?,
    );
    let mut frame = evaluator.over_ranges(call, 0, Native::Ignored, |range| {
        let (sf, tf) = (smoothing[range.step], trend[range.step]);
        for (factor, name, short) in [(sf, "smoothing", "sf"), (tf, "trend", "tf")] {
            if factor <= 0.0 || factor >= 1.0 {
                return Err(EvalError::new(format!(
                    "invalid {name} factor. Expected: 0 < {short} < 1, got: {factor:.6}"
                )));
            }
        }
        if range.values.len() < 2 {
            return Ok(None);
        }
        let (mut before, mut level, mut slope) =
            (0.0, range.values[0], range.values[1] - range.values[0]);
        for (index, value) in range.values.iter().enumerate().skip(1) {
            if index > 1 {
                slope = tf * (level - before) + (1.0 - tf) * slope;
            }
            (before, level) = (level, sf * value + (1.0 - sf) * (level + slope));
        }
        Ok(Some(level))
    })?;
    drop_names(&mut frame);
    frame.distinct().map(Node::Vector)
}
