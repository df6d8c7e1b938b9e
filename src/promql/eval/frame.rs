//! Frames: the values of several series at every step of an evaluation, in one allocation.
//!
//! A frame of an instant query has one step. A series without a value at a step holds the stale
//! marker there: a selector never returns it, and arithmetic makes a quiet NaN of it, so it can
//! stand for "nothing" without a second array. A native histogram stands in a list beside the
//! values; its value is a NaN that holds its position there, so that whatever moves values moves
//! histograms.

use std::collections::HashMap;
use std::sync::Arc;

use super::evaluator::Query;
use super::memory::histogram_bytes;
use crate::model::{LabelSets, Labels, NativeHistogram, is_stale, stale_nan};
use crate::promql::value::EvalError;

/// The text of the error for equal label sets at one step.
const SAME_LABELS: &str = "vector cannot contain metrics with the same labelset";

/// "No value at this step"; compare with [`is_absent`].
pub(in crate::promql) fn absent() -> f64 {
    stale_nan()
}

/// Whether a series has no value at a step.
pub(in crate::promql) fn is_absent(value: f64) -> bool {
    is_stale(value)
}

/// The upper half of the values that stand for native histograms; the lower half is a position in
/// the list.
const PLACE: u64 = 0x7ff4_4e48;

/// The native histograms of a frame. A frame of floats has none, and no value of it is looked at
/// twice.
#[derive(Clone, Debug, Default)]
pub(in crate::promql) struct Histograms(Vec<Arc<NativeHistogram>>);

impl Histograms {
    /// Whether there is none: then no value stands for one.
    pub(in crate::promql) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one; returns the value that stands for it.
    pub(in crate::promql) fn add(&mut self, histogram: impl Into<Arc<NativeHistogram>>) -> f64 {
        self.0.push(histogram.into());
        f64::from_bits(PLACE << 32 | (self.0.len() - 1) as u64)
    }

    /// Bytes that the list holds; those that it shares with others are not counted.
    pub(in crate::promql) fn bytes(&self) -> usize {
        let own = self
            .0
            .iter()
            .filter(|histogram| Arc::strong_count(histogram) == 1);
        self.0.capacity() * size_of::<usize>()
            + own
                .map(|histogram| histogram_bytes(histogram))
                .sum::<usize>()
    }

    /// The one that a value stands for.
    pub(in crate::promql) fn get(&self, value: f64) -> Option<&Arc<NativeHistogram>> {
        let bits = value.to_bits();
        if self.0.is_empty() || bits >> 32 != PLACE {
            None
        } else {
            self.0.get(bits as u32 as usize)
        }
    }

    /// Takes over those of another list, and lets the values that stand for them stand for them
    /// here.
    fn absorb(&mut self, other: Histograms, values: &mut [f64]) {
        if self.is_empty() || other.is_empty() {
            self.0.extend(other.0);
            return;
        }
        let before = self.0.len() as u64;
        values
            .iter_mut()
            .filter(|value| other.get(**value).is_some())
            .for_each(|v| *v = f64::from_bits(v.to_bits() + before));
        self.0.extend(other.0);
    }
}

/// An instant vector at each of `steps` instants.
#[derive(Clone, Debug, Default)]
pub(in crate::promql) struct Frame {
    /// Number of instants.
    pub(in crate::promql) steps: usize,
    /// The series.
    pub(in crate::promql) rows: LabelSets,
    /// The values of the first series, then of the second.
    pub(in crate::promql) values: Vec<f64>,
    /// Those that are no floats.
    pub(in crate::promql) histograms: Histograms,
}

impl Frame {
    /// No series.
    pub(in crate::promql) fn new(steps: usize) -> Self {
        Frame {
            steps,
            ..Frame::default()
        }
    }

    /// These series, without a value.
    pub(in crate::promql) fn absent(
        query: &Query<'_>,
        steps: usize,
        rows: LabelSets,
    ) -> Result<Self, EvalError> {
        query.hold_cells(rows.len(), steps)?;
        Ok(Frame {
            steps,
            values: vec![absent(); rows.len() * steps],
            rows,
            histograms: Histograms::default(),
        })
    }

    /// The same series at `steps` instants, of which the own ones begin at `first`; nothing has a
    /// value at the others.
    pub(in crate::promql) fn widened(
        self,
        query: &Query<'_>,
        first: usize,
        steps: usize,
    ) -> Result<Self, EvalError> {
        let mut wide = Frame::absent(query, steps, self.rows.clone())?;
        for row in 0..self.rows.len() {
            wide.row_mut(row)[first..first + self.steps].copy_from_slice(self.row(row));
        }
        wide.histograms = self.histograms;
        Ok(wide)
    }

    /// These series and their values, floats all of them.
    pub(in crate::promql) fn floats(steps: usize, rows: LabelSets, values: Vec<f64>) -> Self {
        Frame {
            steps,
            rows,
            values,
            histograms: Histograms::default(),
        }
    }

    /// Adds a series with no value yet and returns its values.
    pub(in crate::promql) fn push(&mut self, labels: Labels) -> &mut [f64] {
        let start = self.values.len();
        self.rows.edit().push(labels);
        self.values.resize(start + self.steps, absent());
        &mut self.values[start..]
    }

    /// The values of one series.
    pub(in crate::promql) fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.steps..(index + 1) * self.steps]
    }

    /// The values of one series, to write.
    pub(in crate::promql) fn row_mut(&mut self, index: usize) -> &mut [f64] {
        &mut self.values[index * self.steps..(index + 1) * self.steps]
    }

    /// The value of one series at one step.
    pub(in crate::promql) fn at(&self, row: usize, step: usize) -> f64 {
        self.values[row * self.steps + step]
    }

    /// Makes another histogram of each.
    pub(in crate::promql) fn map_histograms(&mut self, change: impl Fn(&mut Arc<NativeHistogram>)) {
        self.histograms.0.iter_mut().for_each(change);
    }

    /// Leaves out every sample that is a native histogram; tells whether there was one.
    pub(in crate::promql) fn drop_histograms(&mut self) -> bool {
        let histograms = std::mem::take(&mut self.histograms);
        let mut any = false;
        if !histograms.is_empty() {
            for value in self
                .values
                .iter_mut()
                .filter(|value| histograms.get(**value).is_some())
            {
                *value = absent();
                any = true;
            }
        }
        any
    }

    /// Leaves out every sample that is a float.
    pub(in crate::promql) fn drop_floats(&mut self) {
        self.values
            .iter_mut()
            .filter(|value| self.histograms.get(**value).is_none())
            .for_each(|value| *value = absent());
    }

    /// The series of both, those of `other` last.
    pub(in crate::promql) fn append(&mut self, mut other: Frame, rows: LabelSets) {
        self.histograms.absorb(other.histograms, &mut other.values);
        self.values.append(&mut other.values);
        self.rows = rows;
    }

    /// Whether any series has a value at the step.
    pub(in crate::promql) fn any_at(&self, step: usize) -> bool {
        (0..self.rows.len()).any(|row| !is_absent(self.at(row, step)))
    }

    /// Drops series that have no value at any step.
    pub(in crate::promql) fn compact(&mut self) {
        let steps = self.steps.max(1);
        let lives = |row: &u32| {
            self.values[*row as usize * steps..][..steps]
                .iter()
                .any(|v| !is_absent(*v))
        };
        let rows = 0..if self.steps == 0 {
            0
        } else {
            self.rows.len() as u32
        };
        if rows.clone().all(|row| lives(&row)) && rows.len() == self.rows.len() {
            return;
        }
        let kept: Vec<u32> = rows.filter(lives).collect();
        for (position, row) in kept.iter().enumerate() {
            let start = *row as usize * steps;
            self.values
                .copy_within(start..start + steps, position * steps);
        }
        self.values.truncate(kept.len() * steps);
        self.rows = self.rows.part(&kept);
    }

    /// Makes one series of those with equal labels; errs where two of them have a value at one
    /// step.
    pub(in crate::promql) fn merged(mut self) -> Result<Self, EvalError> {
        self.compact();
        let Some(owner) = self.owners() else {
            return Ok(self);
        };
        let steps = self.steps;
        let mut position = vec![0; self.rows.len()];
        let mut kept: Vec<u32> = Vec::new();
        for (row, &first) in owner.iter().enumerate() {
            // In place: a series never moves up.
            let (before, rest) = self.values.split_at_mut(row * steps);
            if first == row {
                position[row] = kept.len();
                if kept.len() < row {
                    before[kept.len() * steps..][..steps].copy_from_slice(&rest[..steps]);
                }
                kept.push(row as u32);
                continue;
            }
            let target = &mut before[position[first] * steps..][..steps];
            for (to, from) in target.iter_mut().zip(&rest[..steps]) {
                if is_absent(*from) {
                    continue;
                }
                if !is_absent(*to) {
                    return Err(EvalError::new(SAME_LABELS));
                }
                *to = *from;
            }
        }
        self.values.truncate(kept.len() * steps);
        self.rows = self.rows.part(&kept);
        Ok(self)
    }

    /// Errs when two series have equal labels, whether or not at one step.
    pub(in crate::promql) fn distinct(mut self) -> Result<Self, EvalError> {
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
        Some(
            self.rows
                .iter()
                .enumerate()
                .map(|(row, labels)| *seen.entry(labels).or_insert(row))
                .collect(),
        )
    }
}

/// A frame in the making, whose series are some of a list, in its order.
pub(in crate::promql) struct Growing {
    steps: usize,
    all: LabelSets,
    rows: Vec<u32>,
    values: Vec<f64>,
    histograms: Histograms,
}

impl Growing {
    /// No series of `all` yet, of which `most` may come: at a single step there is room for them at
    /// once.
    pub(in crate::promql) fn new(
        query: &Query<'_>,
        all: LabelSets,
        most: usize,
        steps: usize,
    ) -> Result<Self, EvalError> {
        let room = if steps == 1 { most } else { 0 };
        query.hold_cells(room, steps)?;
        Ok(Growing {
            steps,
            all,
            rows: Vec::with_capacity(room),
            values: Vec::with_capacity(room),
            histograms: Histograms::default(),
        })
    }

    /// Number of series so far.
    pub(in crate::promql) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds the series in this row of the list, with no value yet, and returns its values and where
    /// histograms go.
    pub(in crate::promql) fn push(
        &mut self,
        query: &Query<'_>,
        row: usize,
    ) -> Result<(&mut [f64], &mut Histograms), EvalError> {
        let start = self.values.len();
        if start + self.steps > self.values.capacity() {
            self.grow(query)?;
        }
        self.rows.push(row as u32);
        self.values.resize(start + self.steps, absent());
        Ok((&mut self.values[start..], &mut self.histograms))
    }

    /// Makes room for one more series at least, twice as many as there are at best, and for no more
    /// than there can be.
    #[cold]
    fn grow(&mut self, query: &Query<'_>) -> Result<(), EvalError> {
        let rows = (2 * self.rows.len())
            .clamp(1, self.all.len().max(1))
            .max(self.rows.len() + 1);
        query.hold_cells(rows - self.rows.len(), self.steps)?;
        self.values
            .reserve_exact((rows - self.rows.len()) * self.steps);
        Ok(())
    }

    /// Takes the last series away again.
    pub(in crate::promql) fn pop(&mut self) {
        self.rows.pop();
        self.values.truncate(self.rows.len() * self.steps);
    }

    /// Adds the series of another part of the same list, which come after the own ones.
    pub(in crate::promql) fn append(
        &mut self,
        query: &Query<'_>,
        mut other: Growing,
    ) -> Result<(), EvalError> {
        if self.rows.is_empty() && self.steps != 1 {
            *self = other;
            return Ok(());
        }
        let cells = self.values.len() + other.values.len();
        if cells > self.values.capacity() {
            let more = cells.max(2 * self.values.len()) - self.values.capacity();
            query.hold_cells(more, 1)?;
            self.values
                .reserve_exact(cells.max(2 * self.values.len()) - self.values.len());
        }
        self.histograms.absorb(other.histograms, &mut other.values);
        self.values.append(&mut other.values);
        self.rows.append(&mut other.rows);
        query
            .memory
            .give(other.values.capacity() * size_of::<f64>());
        Ok(())
    }

    /// The finished frame.
    pub(in crate::promql) fn finish(self) -> Frame {
        Frame {
            steps: self.steps,
            rows: self.all.part(&self.rows),
            values: self.values,
            histograms: self.histograms,
        }
    }
}

/// A value inside the evaluator.
#[derive(Clone, Debug)]
pub(in crate::promql) enum Node {
    /// One number per step.
    Scalar(Vec<f64>),
    /// A text.
    String(String),
    /// An instant vector per step.
    Vector(Frame),
}
