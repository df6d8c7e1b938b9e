//! How native histograms change inside a window: rates and differences of counters and gauges.

use super::extrapolation::{Kind, stretch};
use super::mixed::{Mixed, Point};
use crate::model::NativeHistogram;
use crate::model::native_histogram::{Incompatible, ResetHint};

pub(super) fn rate(mixed: &Mixed<'_>) -> Option<Point> {
    extrapolated(mixed, Kind::Rate)
}

pub(super) fn increase(mixed: &Mixed<'_>) -> Option<Point> {
    extrapolated(mixed, Kind::Increase)
}

pub(super) fn delta(mixed: &Mixed<'_>) -> Option<Point> {
    extrapolated(mixed, Kind::Delta)
}

fn extrapolated(mixed: &Mixed<'_>, kind: Kind) -> Option<Point> {
    let (range, all) = (&mixed.range, mixed.range.histograms);
    if !range.values.is_empty() {
        mixed.warn_mixed();
        return None;
    }
    let ((first, _), (last, _)) = (all.first()?, all.last()?);
    if all.len() < 2 {
        return None;
    }
    let mut result = match difference(mixed, kind) {
        Ok(result) => result,
        Err(reason) => {
            mixed.warn_incompatible(reason);
            return None;
        }
    };
    // Prometheus 3.5 stretches histograms to before they were empty; later ones do not.
    result.multiply(stretch(
        (range.start, range.end),
        (*first, *last),
        all.len(),
        None,
        kind,
    ));
    Some(Point::Histogram(result.into()))
}

/// The difference between the last and the first histogram, resets of counters bridged.
fn difference(mixed: &Mixed<'_>, kind: Kind) -> Result<NativeHistogram, Incompatible> {
    let all = mixed.range.histograms;
    let (counter, last) = (kind != Kind::Delta, &all[all.len() - 1].1);
    let gauge = |histogram: &NativeHistogram| histogram.hint == ResetHint::Gauge;
    if counter && all.iter().any(|(_, histogram)| gauge(histogram)) {
        mixed.warn_no_counter();
    }
    if !counter && (!gauge(&all[0].1) || !gauge(last)) {
        mixed.warn_no_gauge();
    }
    let first = &all[0].1;
    // What was counted before a reset right after it does not matter, nor do its bounds.
    let empty = (counter && all[1].1.is_reset_after(first)).then(|| {
        let next = &all[1].1;
        NativeHistogram {
            schema: next.schema,
            bounds: next.bounds.clone(),
            ..NativeHistogram::default()
        }
    });
    let mut before: &NativeHistogram = empty.as_ref().unwrap_or(first);
    let mut schema = before.schema.min(last.schema);
    if counter {
        for (_, histogram) in &all[1..all.len() - 1] {
            if histogram.is_custom() != before.is_custom() {
                return Err(Incompatible::Schema);
            }
            schema = schema.min(histogram.schema);
        }
    }
    if last.is_custom() != before.is_custom() {
        return Err(Incompatible::Schema);
    }
    let mut result = NativeHistogram::clone(last).reduced_to(schema);
    result.subtract(before)?;
    if counter {
        for (_, histogram) in &all[1..] {
            if histogram.is_reset_after(before) {
                result.add(before)?;
            }
            before = histogram;
        }
    }
    result.hint = ResetHint::Gauge;
    Ok(result.compacted())
}

pub(super) fn irate(mixed: &Mixed<'_>) -> Option<Point> {
    instant(mixed, true)
}

pub(super) fn idelta(mixed: &Mixed<'_>) -> Option<Point> {
    instant(mixed, false)
}

/// The difference between the last two samples, per second if they are of a counter.
fn instant(mixed: &Mixed<'_>, counter: bool) -> Option<Point> {
    let (floats, histograms) = (mixed.range.times, mixed.range.histograms);
    let mut newest: Vec<(i64, Option<f64>, Option<&NativeHistogram>)> = Vec::with_capacity(4);
    let last_two = floats.len().saturating_sub(2);
    newest.extend(
        floats[last_two..]
            .iter()
            .zip(&mixed.range.values[last_two..])
            .map(|(time, value)| (*time, Some(*value), None)),
    );
    newest.extend(
        histograms[histograms.len().saturating_sub(2)..]
            .iter()
            .map(|(time, histogram)| (*time, None, Some(&**histogram))),
    );
    newest.sort_by_key(|(time, ..)| *time);
    let [
        (from, before, before_histogram),
        (to, after, after_histogram),
    ] = newest.get(newest.len().checked_sub(2)?..)?
    else {
        return None;
    };
    let seconds = (to - from) as f64 / 1000.0;
    if let (Some(before), Some(after)) = (before, after) {
        let growth = if counter && after < before {
            *after
        } else {
            after - before
        };
        return Some(Point::Float(if counter {
            growth / seconds
        } else {
            growth
        }));
    }
    let (Some(before), Some(after)) = (before_histogram, after_histogram) else {
        mixed.warn_mixed();
        return None;
    };
    let gauges = [before, after]
        .iter()
        .filter(|histogram| histogram.hint == ResetHint::Gauge)
        .count();
    if counter && gauges > 0 {
        mixed.warn_no_counter();
    } else if !counter && gauges < 2 {
        mixed.warn_no_gauge();
    }
    let mut result = NativeHistogram::clone(after);
    if !(counter && after.is_reset_after(before))
        && let Err(reason) = result.subtract(before)
    {
        mixed.warn_incompatible(reason);
        return None;
    }
    result.hint = ResetHint::Gauge;
    let mut result = result.compacted();
    if counter {
        result.divide(seconds);
    }
    Some(Point::Histogram(result.into()))
}
