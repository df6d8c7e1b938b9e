//! Selectors: which sample of a series an instant sees, and which ones a range sees.
//!
//! An instant sees the newest sample in the left-open lookback window before it, unless that is a stale marker; a range sees all
//! samples of its left-open window, stale markers left out.

use std::ops::ControlFlow;

use super::ast::{Expr, MatrixSelector, VectorSelector};
use super::eval::{Evaluator, Steps};
use super::frame::{Frame, Growing, absent, is_absent};
use super::value::{EvalError, MatrixSeries};
use crate::model::time::millis;
use crate::model::{LabelSets, Labels, Timestamp, is_stale};

/// Samples inside one window, and the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<'a> {
    /// Milliseconds of the samples, ascending.
    pub(super) times: &'a [i64],
    /// The samples, no stale marker among them.
    pub(super) values: &'a [f64],
    /// The window excludes this instant …
    pub(super) start: i64,
    /// … and includes this one.
    pub(super) end: i64,
    /// Milliseconds of the step that is evaluated.
    pub(super) at: i64,
    /// Index of that step.
    pub(super) step: usize,
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
    pub(super) fn select(&self, selector: &VectorSelector) -> Result<Frame, EvalError> {
        self.select_with(selector, |_, value| value)
    }

    /// The same, with `pick` choosing what to show of the milliseconds and the value of each sample.
    pub(super) fn select_with(&self, selector: &VectorSelector, pick: impl Fn(i64, f64) -> f64) -> Result<Frame, EvalError> {
        let lookback = millis(self.query.engine.lookback);
        let windows = Windows { pinned: self.query.pinned(selector.at), offset: selector.offset, length: lookback };
        let steps = self.steps;
        let (from, to) = windows.span(steps);
        let selection = self.query.store.selection(&selector.matchers, Timestamp(from), Timestamp(to));
        let mut frame = Growing::new(selection.labels.clone(), steps.count);
        let mut failure = None;
        self.query.store.read(&selection, Timestamp(from), Timestamp(to), |row, window| {
            let row = frame.push(row);
            let mut next = 0;
            let mut found = 0;
            for (index, instant) in steps.iter().enumerate() {
                let (start, end) = windows.at(instant);
                while window.times.get(next).is_some_and(|t| *t <= end) {
                    // A window of an instant query is short; one of a range query is walked once.
                    next += 1;
                }
                if next > 0 && window.times[next - 1] > start && !is_stale(window.values[next - 1]) {
                    row[index] = pick(window.times[next - 1], window.values[next - 1]);
                    found += 1;
                }
            }
            if found == 0 {
                frame.pop();
            }
            continue_unless(self.query.load(found), &mut failure)
        })?;
        failure.map_or_else(|| Ok(frame.finish()), Err)
    }

    /// Runs `compute` over every window of every series of a range expression; series for which it never returns a value are left out.
    pub(super) fn over_ranges(
        &self,
        expr: &Expr,
        mut compute: impl FnMut(Range<'_>) -> Result<Option<f64>, EvalError>,
    ) -> Result<Frame, EvalError> {
        let steps = self.steps;
        let mut frame = None;
        self.each_series(expr, |all, row, times, values, windows| {
            let frame = frame.get_or_insert_with(|| Growing::new(all.clone(), steps.count));
            let row = frame.push(row);
            let (mut low, mut high) = (0, 0);
            let mut any = false;
            for (step, at) in steps.iter().enumerate() {
                let (start, end) = windows.at(at);
                while times.get(high).is_some_and(|t| *t <= end) {
                    high += 1;
                }
                while low < high && times[low] <= start {
                    low += 1;
                }
                if low == high {
                    continue;
                }
                let range = Range { times: &times[low..high], values: &values[low..high], start, end, at, step };
                if let Some(value) = compute(range)? {
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

    /// Gives every series of a range expression, by its row in a list, with the samples of all its windows.
    fn each_series(
        &self,
        expr: &Expr,
        mut visit: impl FnMut(&LabelSets, usize, &[i64], &[f64], Windows) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        match expr.without_parens() {
            Expr::MatrixSelector(matrix) => self.each_stored(matrix, visit),
            Expr::Subquery(subquery) => {
                let windows = Windows { pinned: self.query.pinned(subquery.at), offset: subquery.offset, length: millis(subquery.range) };
                let (inner, frame) = self.subquery(subquery)?;
                let (mut times, mut values) = (Vec::new(), Vec::new());
                for row in 0..frame.rows.len() {
                    times.clear();
                    values.clear();
                    for (step, value) in frame.row(row).iter().enumerate().filter(|(_, v)| !is_absent(**v)) {
                        times.push(inner.at(step));
                        values.push(*value);
                    }
                    visit(&frame.rows, row, &times, &values, windows)?;
                }
                Ok(())
            }
            _ => Err(EvalError::new("expected a range vector")),
        }
    }

    fn each_stored(
        &self,
        matrix: &MatrixSelector,
        mut visit: impl FnMut(&LabelSets, usize, &[i64], &[f64], Windows) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let selector = &matrix.selector;
        let windows = Windows { pinned: self.query.pinned(selector.at), offset: selector.offset, length: millis(matrix.range) };
        let (from, to) = windows.span(self.steps);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let mut failure = None;
        let selection = self.query.store.selection(&selector.matchers, Timestamp(from), Timestamp(to));
        self.query.store.read(&selection, Timestamp(from), Timestamp(to), |row, window| {
            let stale = window.values.iter().any(|v| is_stale(*v));
            if stale {
                times.clear();
                values.clear();
                for (time, value) in window.times.iter().zip(window.values).filter(|(_, v)| !is_stale(**v)) {
                    times.push(*time);
                    values.push(*value);
                }
            }
            let (times, values) = if stale { (&times[..], &values[..]) } else { (window.times, window.values) };
            if times.is_empty() {
                return ControlFlow::Continue(());
            }
            // One series is held at a time.
            let outcome = self.query.load(times.len()).and_then(|()| visit(&selection.labels, row, times, values, windows));
            self.query.release(times.len());
            continue_unless(outcome, &mut failure)
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// The samples of a range expression at the first step, as they are.
    pub(super) fn matrix(&self, expr: &Expr) -> Result<Vec<MatrixSeries>, EvalError> {
        let mut found = Vec::new();
        let at = self.steps.start;
        self.each_series(expr, |all, row, times, values, windows| {
            let (start, end) = windows.at(at);
            let inside = times.iter().zip(values).filter(|(t, _)| **t > start && **t <= end);
            let points: Vec<_> = inside.map(|(t, v)| (Timestamp(*t), *v)).collect();
            self.query.load(points.len())?;
            if !points.is_empty() {
                found.push(MatrixSeries { labels: all[row].clone(), points });
            }
            Ok(())
        })?;
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(found)
    }

    /// One value at every step, for an expression that depends on nothing but the step.
    pub(super) fn per_step(&self, value: impl Fn(i64) -> Option<f64>) -> Frame {
        let values = self.steps.iter().map(|at| value(at).unwrap_or_else(absent)).collect();
        Frame { steps: self.steps.count, rows: vec![Labels::empty()].into(), values }
    }
}

fn continue_unless(outcome: Result<(), EvalError>, failure: &mut Option<EvalError>) -> ControlFlow<()> {
    match outcome {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            *failure = Some(error);
            ControlFlow::Break(())
        }
    }
}
