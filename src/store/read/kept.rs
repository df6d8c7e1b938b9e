//! Where the samples of selections are in blocks, kept for the next panel of a dashboard: with many
//! blocks, finding them takes longer than reading them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::located::{Found, Parts, Piece};
use super::selection::Known;
use crate::model::{Budget, Holder, Labels, Matcher, Reservation};
use crate::store::history::{Part, Snapshot};

/// Most bytes of all of them.
const ROOM: usize = 6 << 20;
/// Longest text of matchers for which something is kept.
const MAX_TEXT: usize = 512;
/// Upkeeps after which what nobody needed is let go.
const IDLE: u32 = 5;

/// What was found in the blocks of one moment.
#[derive(Debug)]
struct Entry {
    snapshot: Weak<Snapshot>,
    /// Of the series in memory.
    generation: u64,
    /// It was looked for in the blocks of `from < timestamp <= to`.
    span: (i64, i64),
    found: Arc<Found>,
    bytes: usize,
    /// The round in which it was last needed.
    needed: u32,
}

/// What was found lately.
#[derive(Debug, Default)]
pub(in crate::store) struct Locations {
    found: HashMap<Box<[Matcher]>, Entry, ahash::RandomState>,
    bytes: usize,
    /// What they hold of the memory of all requests.
    reservation: Option<Reservation>,
    /// Counts upkeeps.
    round: u32,
}

impl Locations {
    /// What was found for these matchers, if the same blocks and the same series in memory are still
    /// the ones.
    pub(super) fn find(
        &mut self,
        matchers: &[Matcher],
        snapshot: &Arc<Snapshot>,
        known: &Known,
        span: (i64, i64),
    ) -> Option<Arc<Found>> {
        let entry = self.found.get_mut(matchers)?;
        let is_same = std::ptr::eq(entry.snapshot.as_ptr(), Arc::as_ptr(snapshot))
            && entry.generation == known.generation;
        if !is_same || !snapshot.is_within(matchers, span, entry.span) {
            return None;
        }
        entry.needed = self.round;
        Some(Arc::clone(&entry.found))
    }

    /// Keeps what was found, unless it is too large.
    pub(super) fn keep(
        &mut self,
        matchers: &[Matcher],
        snapshot: &Arc<Snapshot>,
        known: &Known,
        span: (i64, i64),
        found: &Arc<Found>,
    ) {
        self.forget(matchers);
        let text: usize = matchers.iter().map(|m| m.name.len() + m.value.len()).sum();
        let pieces = found
            .positions
            .iter()
            .map(|p| p.pieces.len())
            .sum::<usize>();
        let bytes = text
            + pieces * size_of::<Piece>()
            + found.positions.len() * (size_of::<Parts>() + 2 * size_of::<Labels>())
            + found.parts.len() * size_of::<Part>();
        if text > MAX_TEXT || bytes > ROOM / 2 {
            return;
        }
        if self.bytes + bytes > ROOM {
            self.clear();
        }
        let room = self
            .reservation
            .as_mut()
            .is_none_or(|reservation| reservation.grow(bytes).is_ok());
        if !room {
            return;
        }
        self.bytes += bytes;
        self.found.insert(
            matchers.into(),
            Entry {
                snapshot: Arc::downgrade(snapshot),
                generation: known.generation,
                span,
                found: Arc::clone(found),
                bytes,
                needed: self.round,
            },
        );
    }

    fn forget(&mut self, matchers: &[Matcher]) {
        if let Some(old) = self.found.remove(matchers) {
            self.give(old.bytes);
        }
    }

    fn give(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if let Some(reservation) = &mut self.reservation {
            reservation.shrink_to(self.bytes);
        }
    }

    fn clear(&mut self) {
        self.found = HashMap::default();
        self.give(self.bytes);
    }

    /// Counts what is kept as part of a budget.
    pub(super) fn keep_within(&mut self, budget: &Arc<Budget>) {
        self.clear();
        self.reservation = Some(budget.reserve(Holder::Caches));
    }

    /// Lets go what nobody has needed for some rounds, and what blocks that are gone hold; call it
    /// once a minute.
    pub(in crate::store) fn upkeep(&mut self) {
        self.round = self.round.wrapping_add(1);
        let (round, mut gone) = (self.round, 0);
        self.found.retain(|_, entry| {
            let stays =
                round.wrapping_sub(entry.needed) <= IDLE && entry.snapshot.strong_count() > 0;
            gone += if stays { 0 } else { entry.bytes };
            stays
        });
        self.found.shrink_to_fit();
        self.give(gone);
    }
}
