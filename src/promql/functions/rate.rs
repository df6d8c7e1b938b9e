//! Functions of how samples change inside a window: rates, differences, slopes, forecasts.

use super::extrapolation::{Kind, difference};
use super::line::regression;
use super::mixed::{self, Native};
use super::slide::line::Abscissae;
use super::{Body, Function, native_rate, row, slide};
use crate::model::text::quote;
use crate::promql::eval::evaluator::{Evaluator, drop_names};
use crate::promql::eval::frame::{Node, is_absent};
use crate::promql::eval::selector::Over;
use crate::promql::eval::windows::Range;
use crate::promql::syntax::ast::Call;
use crate::promql::syntax::ast::ValueType::{Matrix, Scalar};
use crate::promql::value::{EvalError, Severity};

/// The functions of this family.
pub(super) static FAMILY: &[Function] = &[
    row(
        "changes",
        &[Matrix],
        Body::Slid(
            changes,
            Native::Taken(mixed::changes),
            slide::counter::changes,
        ),
        "Number of times a value changed in the window.",
    ),
    row(
        "delta",
        &[Matrix],
        Body::Slid(delta, Native::Taken(native_rate::delta), |windowed, row| {
            slide::counter::extrapolated(windowed, row, Kind::Delta)
        }),
        "Difference between the last and the first value of a gauge, extrapolated to the window.",
    ),
    row(
        "deriv",
        &[Matrix],
        Body::Special(deriv),
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
        Body::Slid(resets, Native::Taken(mixed::resets), slide::counter::resets),
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

fn extrapolated(range: Range<'_>, kind: Kind) -> Option<f64> {
    let falls = |pair: &[f64]| (kind != Kind::Delta && pair[1] < pair[0]).then_some(pair[0]);
    difference(
        range.times,
        range.values,
        (range.start, range.end),
        kind,
        range.values.windows(2).filter_map(falls),
    )
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
    let mut frame = evaluator.over_ranges(&Over {
        call,
        argument: 0,
        native,
        slide: Some(&|windowed, row| slide::counter::extrapolated(windowed, row, kind)),
        compute: &|range| Ok(extrapolated(range, kind)),
    })?;
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

fn deriv(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let abscissae = Abscissae::default();
    let mut frame = evaluator.over_ranges(&Over {
        call,
        argument: 0,
        native: Native::Ignored,
        slide: Some(&|windowed, row| {
            let origin = |_, low: usize| windowed.times[low];
            slide::line::line(windowed, row, &abscissae, origin, |_, slope, _| slope)
        }),
        compute: &|Range { times, values, .. }| {
            Ok((values.len() > 1).then(|| regression(times, values, times[0]).0))
        },
    })?;
    drop_names(&mut frame);
    frame.distinct().map(Node::Vector)
}

fn predict_linear(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let ahead = evaluator.scalar(&call.args[1])?;
    let abscissae = Abscissae::default();
    let mut frame = evaluator.over_ranges(&Over {
        call,
        argument: 0,
        native: Native::Ignored,
        slide: Some(&|windowed, row| {
            let origin = |step, _| windowed.at(step);
            slide::line::line(windowed, row, &abscissae, origin, |step, slope, now| {
                slope * ahead[step] + now
            })
        }),
        compute: &|range| {
            if range.values.len() < 2 {
                return Ok(None);
            }
            let (slope, now) = regression(range.times, range.values, range.at);
            Ok(Some(slope * ahead[range.step] + now))
        },
    })?;
    drop_names(&mut frame);
    frame.distinct().map(Node::Vector)
}

fn double_exponential_smoothing(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let (smoothing, trend) = (
        evaluator.scalar(&call.args[1])?,
        evaluator.scalar(&call.args[2])?,
    );
    let smooth = |range: Range<'_>| {
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
    };
    let mut frame = evaluator.over_ranges(&Over {
        call,
        argument: 0,
        native: Native::Ignored,
        slide: None,
        compute: &smooth,
    })?;
    drop_names(&mut frame);
    frame.distinct().map(Node::Vector)
}
