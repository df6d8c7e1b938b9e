//! Selectors: which sample of a series an instant sees, and which ones a range sees.
//!
//! An instant sees the newest sample in the left-open lookback window before it, unless that is a
//! stale marker; a range sees all samples of its left-open window, stale markers left out.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::evaluator::{Evaluator, Steps};
use super::frame::{Frame, Growing, Histograms, absent, is_absent};
use super::memory::{LABELS, POINT, histogram_bytes};
use crate::model::native_histogram::ResetHint;
use crate::model::time::millis;
use crate::model::{LabelSets, Labels, Timestamp, is_histogram, is_stale};
use crate::promql::functions::mixed::{Mixed, Native, Point};
use crate::promql::syntax::ast::{Call, Expr, MatrixSelector, VectorSelector};
use crate::promql::value::{EvalError, MatrixSeries};
use crate::store::{TimedHistogram, Window};

/// Steps of one series after which it is looked whether the query was ended: a window may hold
/// millions of samples.
const LOOK: usize = 64;

/// The samples of one series, floats and native histograms apart, no stale marker among them.
#[derive(Clone, Copy)]
struct Samples<'a> {
    times: &'a [i64],
    values: &'a [f64],
    histograms: &'a [TimedHistogram],
}

/// Samples inside one window, and the window.
#[derive(Clone, Copy, Debug)]
pub(in crate::promql) struct Range<'a> {
    /// Milliseconds of the floats, ascending.
    pub(in crate::promql) times: &'a [i64],
    /// The floats; none where there are histograms alone.
    pub(in crate::promql) values: &'a [f64],
    /// The native histograms, ascending in time. A function of floats is asked only where there is
    /// none, or where it ignores them.
    pub(in crate::promql) histograms: &'a [TimedHistogram],
    /// The window excludes this instant …
    pub(in crate::promql) start: i64,
    /// … and includes this one.
    pub(in crate::promql) end: i64,
    /// Milliseconds of the step that is evaluated.
    pub(in crate::promql) at: i64,
    /// Index of that step.
    pub(in crate::promql) step: usize,
}

/// Which window a range expression means at each step.
#[derive(Clone, Copy, Debug)]
struct Windows {
    pinned: Option<i64>,
    offset: i64,
    length: i64,
}

impl Windows {
    /// `(start, end]` at an instant.
    fn at(&self, instant: i64) -> (i64, i64) {
        let end = self.pinned.unwrap_or(instant).saturating_sub(self.offset);
        (end.saturating_sub(self.length), end)
    }

    /// The union over all steps.
    fn span(&self, steps: Steps) -> (i64, i64) {
        (self.at(steps.start).0, self.at(steps.last()).1)
    }
}

impl<'a> Evaluator<'a> {
    /// An instant vector at every step.
    pub(in crate::promql) fn select(&self, selector: &VectorSelector) -> Result<Frame, EvalError> {
        self.select_with(selector, |_, value| value)
    }

    /// The same, with `pick` choosing what to show of the milliseconds and the value of each
    /// sample.
    pub(in crate::promql) fn select_with(
        &self,
        selector: &VectorSelector,
        pick: impl Fn(i64, f64) -> f64,
    ) -> Result<Frame, EvalError> {
        self.select_between(selector, (i64::MIN, i64::MAX), pick)
    }

    /// As [`Evaluator::select_with`], without the samples outside these two times.
    pub(in crate::promql) fn select_between(
        &self,
        selector: &VectorSelector,
        (first, last): (i64, i64),
        pick: impl Fn(i64, f64) -> f64,
    ) -> Result<Frame, EvalError> {
        let lookback = millis(self.query.engine.lookback);
        let windows = Windows {
            pinned: self.query.pinned(selector.at),
            offset: selector.offset,
            length: lookback,
        };
        let steps = self.steps;
        let (from, to) = windows.span(steps);
        let selection = self.query.selection(&selector.matchers, from, to);
        let mut frame = Growing::new(selection.labels.clone(), steps.count);
        let mut failure = None;
        self.query
            .store
            .read(&selection, Timestamp(from), Timestamp(to), |row, window| {
                let (row, histograms) = match frame.push(self.query, row) {
                    Ok(pushed) => pushed,
                    Err(error) => return continue_unless(Err(error), &mut failure),
                };
                let (mut next, mut found) = (0, 0);
                for (index, instant) in steps.iter().enumerate() {
                    let (start, end) = windows.at(instant);
                    while window.times.get(next).is_some_and(|t| *t <= end.min(last)) {
                        // A window of an instant query is short; one of a range query is walked once.
                        next += 1;
                    }
                    if next > 0
                        && window.times[next - 1] > start
                        && window.times[next - 1] >= first
                        && !is_stale(window.values[next - 1])
                    {
                        row[index] = pick(window.times[next - 1], window.values[next - 1]);
                        found += 1;
                    }
                }
                if found > 0 && !window.histograms.is_empty() {
                    self.position(row, window, windows, histograms);
                }
                if found == 0 {
                    frame.pop();
                }
                continue_unless(self.query.load(found), &mut failure)
            })?;
        failure.map_or_else(|| Ok(frame.finish()), Err)
    }

    /// Puts native histograms where their markers stand in a row of selected samples; the steps
    /// that see one sample share it.
    fn position(
        &self,
        row: &mut [f64],
        window: Window<'_>,
        windows: Windows,
        histograms: &mut Histograms,
    ) {
        let (mut newest, mut shared) = (None, absent());
        for (value, instant) in row
            .iter_mut()
            .zip(self.steps.iter())
            .filter(|(value, _)| is_histogram(**value))
        {
            let end = windows.at(instant).1;
            let position = window.histograms.partition_point(|(time, _)| *time <= end);
            if newest != Some(position) {
                newest = Some(position);
                shared = position.checked_sub(1).map_or_else(absent, |position| {
                    histograms.add(Arc::clone(&window.histograms[position].1))
                });
            }
            *value = shared;
        }
    }

    /// Runs `compute` over every window of every series of a range expression, an argument of
    /// `call`; `native` says what becomes of windows with native histograms. Series without a value
    /// at any step are left out.
    pub(in crate::promql) fn over_ranges(
        &self,
        call: &Call,
        argument: usize,
        native: Native,
        mut compute: impl FnMut(Range<'_>) -> Result<Option<f64>, EvalError>,
    ) -> Result<Frame, EvalError> {
        let steps = self.steps;
        let mut frame = None;
        self.each_series(&call.args[argument], |all, series, samples, windows| {
            let Samples {
                times,
                values,
                histograms,
            } = samples;
            let frame = frame.get_or_insert_with(|| Growing::new(all.clone(), steps.count));
            let (row, positions) = frame.push(self.query, series)?;
            let (mut low, mut high, mut first, mut last) = (0, 0, 0, 0);
            let mut any = false;
            for (step, at) in steps.iter().enumerate() {
                if step % LOOK == LOOK - 1 {
                    self.query.check()?;
                }
                let (start, end) = windows.at(at);
                while times.get(high).is_some_and(|t| *t <= end) {
                    high += 1;
                }
                while low < high && times[low] <= start {
                    low += 1;
                }
                while histograms.get(last).is_some_and(|(t, _)| *t <= end) {
                    last += 1;
                }
                while first < last && histograms[first].0 <= start {
                    first += 1;
                }
                if low == high && first == last {
                    continue;
                }
                let histograms = &histograms[first..last];
                let range = Range {
                    times: &times[low..high],
                    values: &values[low..high],
                    histograms,
                    start,
                    end,
                    at,
                    step,
                };
                let value = match native {
                    _ if histograms.is_empty() => compute(range)?,
                    Native::Ignored => {
                        if !range.values.is_empty() {
                            Mixed {
                                range,
                                name: all[series].metric_name(),
                                call,
                                query: self.query,
                            }
                            .annotate_ignored();
                        }
                        compute(range)?
                    }
                    Native::Taken(take) => {
                        let mixed = Mixed {
                            range,
                            name: all[series].metric_name(),
                            call,
                            query: self.query,
                        };
                        match take(&mixed) {
                            Some(Point::Histogram(histogram)) => {
                                self.query.memory.take(histogram_bytes(&histogram))?;
                                Some(positions.add(histogram))
                            }
                            Some(Point::Float(value)) => Some(value),
                            None => None,
                        }
                    }
                };
                if let Some(value) = value {
                    row[step] = value;
                    any = true;
                }
            }
            if !any {
                frame.pop();
            }
            self.query.load(if any { steps.count } else { 0 })
        })?;
        Ok(frame.map_or_else(|| Frame::new(steps.count), Growing::finish))
    }

    /// Gives every series of a range expression, by its row in a list, with the samples of all its
    /// windows.
    fn each_series(
        &self,
        expr: &Expr,
        mut visit: impl FnMut(&LabelSets, usize, Samples<'_>, Windows) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        match expr.without_parens() {
            Expr::MatrixSelector(matrix) => self.each_stored(matrix, visit),
            Expr::Subquery(subquery) => {
                let windows = Windows {
                    pinned: self.query.pinned(subquery.at),
                    offset: subquery.offset,
                    length: millis(subquery.range),
                };
                let (inner, mut frame) = self.subquery(subquery)?;
                self.query.memory.take(inner.count.saturating_mul(POINT))?;
                let (mut times, mut values, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
                // The sample before one in a subquery need not be the one before it in its series.
                frame.map_histograms(|histogram| {
                    if matches!(histogram.hint, ResetHint::Reset | ResetHint::NotReset) {
                        Arc::make_mut(histogram).hint = ResetHint::Unknown;
                    }
                });
                for row in 0..frame.rows.len() {
                    times.clear();
                    values.clear();
                    histograms.clear();
                    for (step, value) in frame
                        .row(row)
                        .iter()
                        .enumerate()
                        .filter(|(_, v)| !is_absent(**v))
                    {
                        if let Some(histogram) = frame.histograms.get(*value) {
                            histograms.push((inner.at(step), Arc::clone(histogram)));
                            continue;
                        }
                        times.push(inner.at(step));
                        values.push(*value);
                    }
                    visit(
                        &frame.rows,
                        row,
                        Samples {
                            times: &times,
                            values: &values,
                            histograms: &histograms,
                        },
                        windows,
                    )?;
                }
                Ok(())
            }
            _ => Err(EvalError::new("expected a range vector")),
        }
    }

    fn each_stored(
        &self,
        matrix: &MatrixSelector,
        mut visit: impl FnMut(&LabelSets, usize, Samples<'_>, Windows) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let selector = &matrix.selector;
        let windows = Windows {
            pinned: self.query.pinned(selector.at),
            offset: selector.offset,
            length: millis(matrix.range),
        };
        let (from, to) = windows.span(self.steps);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let mut failure = None;
        let selection = self.query.selection(&selector.matchers, from, to);
        self.query
            .store
            .read(&selection, Timestamp(from), Timestamp(to), |row, window| {
                let mixed = !window.histograms.is_empty();
                let apart = mixed || window.values.iter().any(|v| is_stale(*v));
                if apart {
                    times.clear();
                    values.clear();
                    let floats = window
                        .times
                        .iter()
                        .zip(window.values)
                        .filter(|(_, v)| !is_stale(**v) && (!mixed || !is_histogram(**v)));
                    for (time, value) in floats {
                        times.push(*time);
                        values.push(*value);
                    }
                }
                let (times, values) = if apart {
                    (&times[..], &values[..])
                } else {
                    (window.times, window.values)
                };
                let held = times.len() + window.histograms.len();
                if held == 0 {
                    return ControlFlow::Continue(());
                }
                // One series is held at a time.
                let samples = Samples {
                    times,
                    values,
                    histograms: window.histograms,
                };
                let loaded = self
                    .query
                    .load(held)
                    .and_then(|()| self.query.memory.take(held.saturating_mul(POINT)));
                let outcome = loaded.and_then(|()| visit(&selection.labels, row, samples, windows));
                self.query.release(held);
                self.query.memory.give(held.saturating_mul(POINT));
                continue_unless(outcome, &mut failure)
            })?;
        failure.map_or(Ok(()), Err)
    }

    /// The samples of a range expression at the first step, as they are.
    pub(in crate::promql) fn matrix(&self, expr: &Expr) -> Result<Vec<MatrixSeries>, EvalError> {
        let mut found = Vec::new();
        let at = self.steps.start;
        self.each_series(expr, |all, row, samples, windows| {
            let (start, end) = windows.at(at);
            let inside = samples
                .times
                .iter()
                .zip(samples.values)
                .filter(|(t, _)| **t > start && **t <= end);
            let points: Vec<_> = inside.map(|(t, v)| (Timestamp(*t), *v)).collect();
            let inside = samples
                .histograms
                .iter()
                .filter(|(t, _)| *t > start && *t <= end);
            let histograms: Vec<_> = inside
                .map(|(t, histogram)| (Timestamp(*t), Arc::clone(histogram)))
                .collect();
            self.query.load(points.len() + histograms.len())?;
            self.query
                .memory
                .take((points.len() + histograms.len()) * POINT + LABELS)?;
            if !points.is_empty() || !histograms.is_empty() {
                found.push(MatrixSeries {
                    labels: all[row].clone(),
                    points,
                    histograms,
                });
            }
            Ok(())
        })?;
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(found)
    }

    /// One value at every step, for an expression that depends on nothing but the step.
    pub(in crate::promql) fn per_step(&self, value: impl Fn(i64) -> Option<f64>) -> Frame {
        let values = self
            .steps
            .iter()
            .map(|at| value(at).unwrap_or_else(absent))
            .collect();
        Frame::floats(self.steps.count, vec![Labels::empty()].into(), values)
    }
}

fn continue_unless(
    outcome: Result<(), EvalError>,
    failure: &mut Option<EvalError>,
) -> ControlFlow<()> {
    match outcome {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            *failure = Some(error);
            ControlFlow::Break(())
        }
    }
}
