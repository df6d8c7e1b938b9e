//! Selectors: which sample of a series an instant sees, and which ones a range sees.
//!
//! An instant sees the newest sample in the left-open lookback window before it, unless that is a
//! stale marker; a range sees all samples of its left-open window, stale markers left out.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::evaluator::Evaluator;
use super::frame::{Frame, Growing, Histograms, absent, is_absent};
use super::memory::{LABELS, POINT, histogram_bytes};
use super::windows::{Range, Windowed, Windows, after};
use crate::model::native_histogram::ResetHint;
use crate::model::time::millis;
use crate::model::{LabelSets, Labels, Timestamp, any_stale, is_histogram, is_stale};
use crate::promql::functions::mixed::{Mixed, Native, Point};
use crate::promql::syntax::ast::{Call, Expr, MatrixSelector, VectorSelector};
use crate::promql::value::{EvalError, MatrixSeries};
use crate::store::{TimedHistogram, Window};

/// Steps of one series after which it is looked whether the query was ended: a window may hold
/// millions of samples.
const LOOK: usize = 64;

/// Samples of one series that are not counted while they are looked at, in bytes: no more than a
/// thread's worth of them is there at a time, and counting them costs as much as looking at a few.
const UNCOUNTED: usize = 16 << 10;

/// The samples of one series, floats and native histograms apart, no stale marker among them.
#[derive(Clone, Copy)]
struct Samples<'a> {
    times: &'a [i64],
    values: &'a [f64],
    histograms: &'a [TimedHistogram],
}

/// A range expression as the argument of a function, and what the function makes of it.
pub(in crate::promql) struct Over<'a> {
    /// The call.
    pub(in crate::promql) call: &'a Call,
    /// Which argument of the call is the range.
    pub(in crate::promql) argument: usize,
    /// What becomes of windows with native histograms.
    pub(in crate::promql) native: Native,
    /// The values of all windows of a series of floats at once, where that is possible.
    pub(in crate::promql) slide: Option<Slide<'a>>,
    /// The value of one window.
    pub(in crate::promql) compute: &'a Compute<'a>,
}

/// Fills in the values of all windows of a series, each what [`Over::compute`] gives to the bit;
/// returns `false` where it cannot, having written nothing.
pub(in crate::promql) type Slide<'a> =
    &'a (dyn Fn(&Windowed<'_>, &mut [f64]) -> Result<bool, EvalError> + Sync + 'a);

/// The value of one window.
pub(in crate::promql) type Compute<'a> =
    dyn Fn(Range<'_>) -> Result<Option<f64>, EvalError> + Sync + 'a;

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
        pick: impl Fn(i64, f64) -> f64 + Sync,
    ) -> Result<Frame, EvalError> {
        self.select_between(selector, (i64::MIN, i64::MAX), pick)
    }

    /// As [`Evaluator::select_with`], without the samples outside these two times.
    pub(in crate::promql) fn select_between(
        &self,
        selector: &VectorSelector,
        (first, last): (i64, i64),
        pick: impl Fn(i64, f64) -> f64 + Sync,
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
        let seen = windows.seen(steps);
        self.each_on_threads(&selection, &seen, &|frame, row, window| {
            let (row, histograms) = frame.push(self.query, row)?;
            let (mut next, mut found) = (0, 0);
            for (index, instant) in steps.iter().enumerate() {
                let (start, end) = windows.at(instant);
                next = after(window.times, next, end.min(last));
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
            self.query.load(found)
        })
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

    /// The values of a function over every window of every series of a range expression. Series
    /// without a value at any step are left out.
    pub(in crate::promql) fn over_ranges(&self, over: &Over<'_>) -> Result<Frame, EvalError> {
        let (expr, steps) = (&over.call.args[over.argument], self.steps);
        if let Expr::MatrixSelector(matrix) = expr.without_parens() {
            let windows = self.windows(matrix);
            let (from, to) = windows.span(steps);
            let selection = self.query.selection(&matrix.selector.matchers, from, to);
            let seen = windows.seen(steps);
            return self.each_on_threads(&selection, &seen, &|frame, row, window| {
                self.with_floats(window, |samples| {
                    self.row(over, &selection.labels, row, samples, windows, frame)
                })
            });
        }
        let mut frame = None;
        self.each_series(expr, |all, series, samples, windows| {
            let frame = match &mut frame {
                Some(frame) => frame,
                none => none.insert(Growing::new(
                    self.query,
                    all.clone(),
                    all.len(),
                    steps.count,
                )?),
            };
            self.row(over, all, series, samples, windows, frame)
        })?;
        Ok(frame.map_or_else(|| Frame::new(steps.count), Growing::finish))
    }

    /// The values of a function over every window of one series.
    fn row(
        &self,
        over: &Over<'_>,
        all: &LabelSets,
        series: usize,
        samples: Samples<'_>,
        windows: Windows,
        frame: &mut Growing,
    ) -> Result<(), EvalError> {
        let steps = self.steps;
        let (row, positions) = frame.push(self.query, series)?;
        let bounds = windows.bounds(steps, samples.times);
        let windowed = Windowed {
            times: samples.times,
            values: samples.values,
            bounds: &bounds,
            windows,
            steps,
            query: self.query,
        };
        let slid = match over.slide {
            Some(slide) if samples.histograms.is_empty() && steps.count > 1 => {
                slide(&windowed, row)?
            }
            _ => false,
        };
        if !slid {
            self.one_by_one(over, &all[series], samples, &windowed, (row, positions))?;
        }
        let any = row.iter().any(|value| !is_absent(*value));
        if !any {
            frame.pop();
        }
        self.query.load(if any { steps.count } else { 0 })
    }

    /// The same, window by window.
    fn one_by_one(
        &self,
        over: &Over<'_>,
        labels: &Labels,
        samples: Samples<'_>,
        windowed: &Windowed<'_>,
        (row, positions): (&mut [f64], &mut Histograms),
    ) -> Result<(), EvalError> {
        let (mut first, mut last) = (0, 0);
        for (step, (low, high)) in windowed.bounds.iter().enumerate() {
            if step % LOOK == LOOK - 1 {
                self.query.check()?;
            }
            let (low, high) = (*low as usize, *high as usize);
            let (start, end) = windowed.window(step);
            let histograms = samples.histograms;
            while histograms.get(last).is_some_and(|(t, _)| *t <= end) {
                last += 1;
            }
            while first < last && histograms[first].0 <= start {
                first += 1;
            }
            if low == high && first == last {
                continue;
            }
            let range = Range {
                times: &samples.times[low..high],
                values: &samples.values[low..high],
                histograms: &histograms[first..last],
                start,
                end,
                at: windowed.at(step),
                step,
            };
            let mixed = Mixed {
                range,
                name: labels.metric_name(),
                call: over.call,
                query: self.query,
            };
            let value = match over.native {
                _ if range.histograms.is_empty() => (over.compute)(range)?,
                Native::Ignored => {
                    if !range.values.is_empty() {
                        mixed.annotate_ignored();
                    }
                    (over.compute)(range)?
                }
                Native::Taken(take) => match take(&mixed) {
                    Some(Point::Histogram(histogram)) => {
                        self.query.memory.take(histogram_bytes(&histogram))?;
                        Some(positions.add(histogram))
                    }
                    Some(Point::Float(value)) => Some(value),
                    None => None,
                },
            };
            if let Some(value) = value {
                row[step] = value;
            }
        }
        Ok(())
    }

    fn windows(&self, matrix: &MatrixSelector) -> Windows {
        Windows {
            pinned: self.query.pinned(matrix.selector.at),
            offset: matrix.selector.offset,
            length: millis(matrix.range),
        }
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
        let windows = self.windows(matrix);
        let (from, to) = windows.span(self.steps);
        let selection = self.query.selection(&matrix.selector.matchers, from, to);
        let mut failure = None;
        let (all, seen) = (0..selection.labels.len(), windows.seen(self.steps));
        self.query
            .store
            .read_seen(&selection, all, &seen, |row, window| {
                let outcome = self.with_floats(window, |samples| {
                    visit(&selection.labels, row, samples, windows)
                });
                continue_unless(outcome, &mut failure)
            })?;
        failure.map_or(Ok(()), Err)
    }

    /// Gives the samples of a series, stale markers left out and native histograms apart, and counts
    /// them meanwhile.
    fn with_floats(
        &self,
        window: Window<'_>,
        visit: impl FnOnce(Samples<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let mixed = !window.histograms.is_empty();
        let apart = mixed || any_stale(window.values);
        if apart {
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
            return Ok(());
        }
        // As many series as there are threads are held at a time.
        let samples = Samples {
            times,
            values,
            histograms: window.histograms,
        };
        self.query.load(held)?;
        let bytes = held.saturating_mul(POINT);
        let is_counted = bytes > UNCOUNTED;
        if is_counted {
            self.query.memory.take(bytes)?;
        }
        let outcome = visit(samples);
        self.query.release(held);
        if is_counted {
            self.query.memory.give(bytes);
        }
        outcome
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

pub(super) fn continue_unless(
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
