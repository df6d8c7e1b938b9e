//! What one query holds of the memory that queries share: counted before it is taken, given back as
//! operands go.

use std::sync::Arc;

use parking_lot::Mutex;

use super::frame::{Frame, Node};
use crate::model::{Budget, Holder, NativeHistogram, Reservation};
use crate::promql::value::EvalError;

/// What a query may hold without asking, and the steps in which it asks for more, in bytes: most
/// queries are small.
const GRAIN: usize = 64 << 10;

/// Bytes that a sample of an answer takes beside its label set: a time and a value.
pub(in crate::promql) const POINT: usize = 16;
/// About what a label set costs beside its text, in bytes.
pub(in crate::promql) const LABELS: usize = 48;

/// Where queries take their memory from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Memory {
    budget: Arc<Budget>,
    holder: Holder,
}

impl Memory {
    /// That part of a budget.
    pub fn new(budget: Arc<Budget>, holder: Holder) -> Self {
        Memory { budget, holder }
    }
}

/// What one query holds. Several threads may compute one.
pub(in crate::promql) struct Held(Mutex<Counts>);

struct Counts {
    used: usize,
    /// Of that, what stays until the query ends: labels that functions made.
    kept: usize,
    asked: usize,
    reservation: Option<Reservation>,
}

impl Held {
    pub(in crate::promql) fn new(memory: Option<&Memory>) -> Self {
        let reservation = memory.map(|memory| memory.budget.reserve(memory.holder));
        // Without a budget there is nothing to ask.
        let asked = if reservation.is_some() {
            GRAIN
        } else {
            usize::MAX
        };
        Held(Mutex::new(Counts {
            used: 0,
            kept: 0,
            asked,
            reservation,
        }))
    }

    /// Counts bytes that are about to be taken.
    pub(in crate::promql) fn take(&self, bytes: usize) -> Result<(), EvalError> {
        self.0.lock().take(bytes)
    }

    /// The same for what stays until the query ends.
    pub(in crate::promql) fn keep(&self, bytes: usize) -> Result<(), EvalError> {
        let mut counts = self.0.lock();
        counts.take(bytes)?;
        counts.kept = counts.kept.saturating_add(bytes);
        Ok(())
    }

    /// Counts bytes as gone.
    pub(in crate::promql) fn give(&self, bytes: usize) {
        let mut counts = self.0.lock();
        counts.used = counts.used.saturating_sub(bytes);
    }

    /// Where the count stands.
    pub(in crate::promql) fn mark(&self) -> usize {
        let counts = self.0.lock();
        counts.used.saturating_sub(counts.kept)
    }

    /// What was taken since `mark` has gone, but for `bytes`.
    pub(in crate::promql) fn settle(&self, mark: usize, bytes: usize) -> Result<(), EvalError> {
        let mut counts = self.0.lock();
        let used = mark.saturating_add(counts.kept).saturating_add(bytes);
        let before = counts.used;
        if used > before {
            return counts.take(used - before);
        }
        counts.used = used;
        if counts.asked != usize::MAX && used.saturating_add(4 * GRAIN) < counts.asked {
            let asked = used.next_multiple_of(GRAIN).max(GRAIN);
            if let Some(reservation) = &mut counts.reservation {
                reservation.shrink_to(asked);
            }
            counts.asked = asked;
        }
        Ok(())
    }

    /// What is held for the answer from now on.
    pub(in crate::promql) fn into_reservation(self) -> Option<Reservation> {
        let Counts {
            used,
            mut reservation,
            ..
        } = self.0.into_inner();
        if let Some(reservation) = &mut reservation {
            reservation.shrink_to(used);
        }
        reservation
    }
}

impl Counts {
    fn take(&mut self, bytes: usize) -> Result<(), EvalError> {
        let used = self.used.saturating_add(bytes);
        if used > self.asked {
            let asked = used.checked_next_multiple_of(GRAIN).unwrap_or(usize::MAX);
            if let Some(reservation) = &mut self.reservation {
                reservation.grow(asked.saturating_sub(reservation.bytes()))?;
            }
            self.asked = asked;
        }
        self.used = used;
        Ok(())
    }
}

/// Bytes of a native histogram of its own.
pub(in crate::promql) fn histogram_bytes(histogram: &NativeHistogram) -> usize {
    size_of::<NativeHistogram>() + 2 * size_of::<usize>() + histogram.heap_size()
}

impl Node {
    /// Bytes that it holds, labels left out.
    pub(in crate::promql) fn bytes(&self) -> usize {
        match self {
            Node::Scalar(values) => values.capacity() * size_of::<f64>(),
            Node::String(text) => text.len(),
            Node::Vector(frame) => frame.bytes(),
        }
    }
}

impl Frame {
    /// Bytes that it holds, labels left out.
    pub(in crate::promql) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<f64>() + self.histograms.bytes()
    }
}
