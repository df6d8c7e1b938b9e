//! Frames: the values of several series at every step of an evaluation, in one allocation.
//!
//! A frame of an instant query has one step. A series without a value at a step holds the stale marker there: a selector never returns
//! it, and arithmetic makes a quiet NaN of it, so it can stand for "nothing" without a second array.

use std::collections::HashMap;

use super::value::EvalError;
use crate::model::{LabelSets, Labels, is_stale, stale_nan};

/// The text of the error for equal label sets at one step.
const SAME_LABELS: &str = "vector cannot contain metrics with the same labelset";

/// "No value at this step"; compare with [`is_absent`].
pub(super) fn absent() -> f64 {
    stale_nan()
}

/// Whether a series has no value at a step.
pub(super) fn is_absent(value: f64) -> bool {
    is_stale(value)
}

/// An instant vector at each of `steps` instants.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// Number of instants.
    pub(super) steps: usize,
    /// The series.
    pub(super) rows: LabelSets,
    /// The values of the first series, then of the second.
    pub(super) values: Vec<f64>,
}

impl Frame {
    /// No series.
    pub(super) fn new(steps: usize) -> Self {
        Frame { steps, rows: LabelSets::default(), values: Vec::new() }
    }

    /// These series, without a value.
    pub(super) fn absent(steps: usize, rows: LabelSets) -> Self {
        Frame { steps, values: vec![absent(); rows.len() * steps], rows }
    }

    /// Adds a series with no value yet and returns its values.
    pub(super) fn push(&mut self, labels: Labels) -> &mut [f64] {
        let start = self.values.len();
        self.rows.edit().push(labels);
        self.values.resize(start + self.steps, absent());
        &mut self.values[start..]
    }

    /// The values of one series.
    pub(super) fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.steps..(index + 1) * self.steps]
    }

    /// The values of one series, to write.
    pub(super) fn row_mut(&mut self, index: usize) -> &mut [f64] {
        &mut self.values[index * self.steps..(index + 1) * self.steps]
    }

    /// The value of one series at one step.
    pub(super) fn at(&self, row: usize, step: usize) -> f64 {
        self.values[row * self.steps + step]
    }

    /// Whether any series has a value at the step.
    pub(super) fn any_at(&self, step: usize) -> bool {
        (0..self.rows.len()).any(|row| !is_absent(self.at(row, step)))
    }

    /// Drops series that have no value at any step.
    pub(super) fn compact(&mut self) {
        let steps = self.steps.max(1);
        let lives = |row: &u32| self.values[*row as usize * steps..][..steps].iter().any(|v| !is_absent(*v));
        let rows = 0..if self.steps == 0 { 0 } else { self.rows.len() as u32 };
        if rows.clone().all(|row| lives(&row)) && rows.len() == self.rows.len() {
            return;
        }
        let kept: Vec<u32> = rows.filter(lives).collect();
        for (place, row) in kept.iter().enumerate() {
            let start = *row as usize * steps;
            self.values.copy_within(start..start + steps, place * steps);
        }
        self.values.truncate(kept.len() * steps);
        self.rows = self.rows.part(&kept);
    }

    /// Makes one series of those with equal labels; errs where two of them have a value at one step.
    pub(super) fn merged(mut self) -> Result<Self, EvalError> {
        self.compact();
        let Some(owner) = self.owners() else { return Ok(self) };
        let mut merged = Frame::new(self.steps);
        let mut place = vec![0; self.rows.len()];
        for (row, &first) in owner.iter().enumerate() {
            if first == row {
                place[row] = merged.rows.len();
                merged.push(self.rows[row].clone()).copy_from_slice(self.row(row));
                continue;
            }
            let target = merged.row_mut(place[first]);
            for (to, from) in target.iter_mut().zip(self.row(row)) {
                if is_absent(*from) {
                    continue;
                }
                if !is_absent(*to) {
                    return Err(EvalError::new(SAME_LABELS));
                }
                *to = *from;
            }
        }
        Ok(merged)
    }

    /// Errs when two series have equal labels, whether or not at one step.
    pub(super) fn distinct(mut self) -> Result<Self, EvalError> {
        self.compact();
        match self.owners() {
            None => Ok(self),
            Some(_) => Err(EvalError::new(SAME_LABELS)),
        }
    }

    /// For each series the first one with the same labels; `None` when all are distinct.
    fn owners(&self) -> Option<Vec<usize>> {
        if self.rows.are_distinct() {
            return None;
        }
        let mut seen: HashMap<&Labels, usize, ahash::RandomState> = HashMap::default();
        Some(self.rows.iter().enumerate().map(|(row, labels)| *seen.entry(labels).or_insert(row)).collect())
    }
}

/// A frame in the making, whose series are some of a list, in its order.
pub(super) struct Growing {
    steps: usize,
    all: LabelSets,
    rows: Vec<u32>,
    values: Vec<f64>,
}

impl Growing {
    /// No series of `all` yet.
    pub(super) fn new(all: LabelSets, steps: usize) -> Self {
        let room = if steps == 1 { all.len() } else { 0 };
        Growing { steps, all, rows: Vec::with_capacity(room), values: Vec::with_capacity(room) }
    }

    /// Adds the series in this row of the list, with no value yet, and returns its values.
    pub(super) fn push(&mut self, row: usize) -> &mut [f64] {
        let start = self.values.len();
        self.rows.push(row as u32);
        self.values.resize(start + self.steps, absent());
        &mut self.values[start..]
    }

    /// Takes the last series away again.
    pub(super) fn pop(&mut self) {
        self.rows.pop();
        self.values.truncate(self.rows.len() * self.steps);
    }

    /// The finished frame.
    pub(super) fn finish(self) -> Frame {
        Frame { steps: self.steps, rows: self.all.part(&self.rows), values: self.values }
    }
}

/// A value inside the evaluator.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// One number per step.
    Scalar(Vec<f64>),
    /// A text.
    String(String),
    /// An instant vector per step.
    Vector(Frame),
}
