//! Which series pass some matchers: selections, kept within bounds until such a series comes or
//! goes, and reading them.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use parking_lot::RwLockReadGuard;

use super::located::{Merged, memory_from};
use super::seen::Seen;
use crate::model::{
    Budget, Holder, LabelSets, Labels, METRIC_NAME, MatchOp, Matcher, Reservation, Timestamp,
};
use crate::store::history::{History, Snapshot};
use crate::store::memory::series::Scratch;
use crate::store::{AT_ONCE, ChunkError, Inner, SeriesId, Store, Window};

/// Most bytes of the selections that are kept, all of them together.
const KEPT: usize = 24 << 20;
/// Longest text of matchers whose selection is kept although nobody says that it is needed again.
const MAX_TEXT: usize = 512;
/// Upkeeps after which a selection that nobody needed is let go.
const IDLE: u32 = 5;
/// Bytes of a selection beside its series and the text of its matchers.
const OVERHEAD: usize = 256;
/// About the size of a compiled regular expression, in bytes, beside what grows with its text.
const REGEX: usize = 16 << 10;

/// How often a selection is made before it is made under one lock.
const TRIES: u32 = 3;

/// Series read before the lock is offered to a writer.
const READ_BATCH: usize = 64;

/// The series that pass some matchers.
pub struct Selection {
    /// Their labels, in the order in which [`Store::read`] goes through them. Equal matchers give
    /// the same list until such a series comes or goes, so that what is derived from it lives as
    /// long.
    pub labels: LabelSets,
    pub(in crate::store) source: Source,
}

pub(in crate::store) enum Source {
    /// All in memory; the snapshot keeps there what blocks take over meanwhile.
    Memory(Arc<Known>, Option<Arc<Snapshot>>),
    /// Some samples are in blocks.
    Merged(Merged),
}

/// A selection in memory, valid for one generation.
#[derive(Debug)]
pub(in crate::store) struct Known {
    pub(in crate::store) labels: LabelSets,
    pub(in crate::store) ids: Vec<SeriesId>,
    pub(super) generation: u64,
}

/// Selections by matchers.
#[derive(Debug, Default)]
pub(in crate::store) struct Selections {
    found: HashMap<Box<[Matcher]>, Entry, ahash::RandomState>,
    /// Bytes of all of them.
    bytes: usize,
    /// What they hold of the memory of all requests.
    reservation: Option<Reservation>,
    /// Counts upkeeps.
    round: u32,
}

#[derive(Debug)]
struct Entry {
    known: Arc<Known>,
    bytes: usize,
    /// The round in which it was last needed.
    needed: u32,
}

impl Selections {
    fn find(&mut self, matchers: &[Matcher], generation: u64) -> Option<Arc<Known>> {
        let entry = self
            .found
            .get_mut(matchers)
            .filter(|entry| entry.known.generation == generation)?;
        entry.needed = self.round;
        Some(Arc::clone(&entry.known))
    }

    fn keep(&mut self, matchers: &[Matcher], known: &Arc<Known>) {
        let bytes = bytes_of(matchers, known);
        self.forget(matchers);
        if self.bytes + bytes > KEPT {
            self.clear();
        }
        let room = self
            .reservation
            .as_mut()
            .is_none_or(|reservation| reservation.grow(bytes).is_ok());
        if bytes > KEPT || !room {
            return;
        }
        self.bytes += bytes;
        self.found.insert(
            matchers.into(),
            Entry {
                known: Arc::clone(known),
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

    pub(in crate::store) fn clear(&mut self) {
        self.found = HashMap::default();
        self.give(self.bytes);
    }

    /// Lets go what nobody has needed for some rounds; call it once a minute.
    pub(in crate::store) fn upkeep(&mut self) {
        self.round = self.round.wrapping_add(1);
        let (round, mut gone) = (self.round, 0);
        self.found.retain(|_, entry| {
            let stays = round.wrapping_sub(entry.needed) <= IDLE;
            gone += if stays { 0 } else { entry.bytes };
            stays
        });
        self.found.shrink_to_fit();
        self.give(gone);
    }
}

/// Bytes of a selection that is kept. What is derived from its labels is about as large as they
/// are.
fn bytes_of(matchers: &[Matcher], known: &Known) -> usize {
    let one = |matcher: &Matcher| {
        let regex = if is_regex(matcher) {
            REGEX + 8 * matcher.value.len()
        } else {
            0
        };
        size_of::<Matcher>() + matcher.name.len() + matcher.value.len() + regex
    };
    OVERHEAD
        + matchers.iter().map(one).sum::<usize>()
        + known.ids.len() * (2 * size_of::<Labels>() + size_of::<SeriesId>())
}

fn is_regex(matcher: &Matcher) -> bool {
    matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex)
}

impl Inner {
    /// Whether a series passes.
    pub(in crate::store) fn passes(&self, slot: u32, matcher: &Matcher) -> bool {
        let labels = self.slots.labels(slot);
        labels.is_some_and(|labels| matcher.matches(labels.value(&matcher.name)))
    }

    /// When a series last came or went that these matchers may select.
    fn generation_of(&self, matchers: &[Matcher]) -> u64 {
        let name = matchers
            .iter()
            .find(|m| m.op == MatchOp::Equal && m.name == METRIC_NAME);
        name.map_or(self.generation, |name| {
            self.by_name.get(name.value.as_str()).copied().unwrap_or(0)
        })
    }
}

impl Store {
    /// The series that pass all matchers, whether or not they have samples; [`Store::read`] then
    /// finds those in `from < timestamp <= to`.
    ///
    /// `needed_again`: the list is kept whatever it costs to keep; otherwise only what is small and
    /// has no regular expression in it is.
    pub fn selection(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
        needed_again: bool,
    ) -> Selection {
        match self.on_disk(matchers, from.0, to.0) {
            Some((snapshot, true)) => self.merged(matchers, snapshot, from.0, to.0, needed_again),
            blocks => {
                let known = self.known(matchers, needed_again);
                Selection {
                    labels: known.labels.clone(),
                    source: Source::Memory(known, blocks.map(|(snapshot, _)| snapshot)),
                }
            }
        }
    }

    /// An interval outside of which a selection made for `from < timestamp <= to` has no samples;
    /// `None` when it has none at all.
    pub fn bounds(
        &self,
        selection: &Selection,
        from: Timestamp,
        to: Timestamp,
    ) -> Option<(Timestamp, Timestamp)> {
        let Source::Memory(known, _) = &selection.source else {
            return Some((from, to));
        };
        let mut bounds: Option<(i64, i64)> = None;
        for ids in known.ids.chunks(AT_ONCE as usize) {
            let inner = self.inner.read();
            let spans = ids
                .iter()
                .filter_map(|id| inner.slots.known(*id)?.span(&inner.columns));
            bounds = spans
                .chain(bounds)
                .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        }
        bounds.map(|(first, last)| (Timestamp(first), Timestamp(last)))
    }

    /// Counts what is kept for the next time as part of a budget.
    pub fn keep_within(&self, budget: &Arc<Budget>) {
        self.located.lock().keep_within(budget);
        if let Some(history) = self.history.get() {
            history.keep_within(budget);
        }
        let mut selections = self.selections.lock();
        selections.clear();
        selections.reservation = Some(budget.reserve(Holder::Caches));
    }

    /// Lets go what is kept of blocks, decoded, for those who need the memory; whether there was
    /// something.
    pub fn let_go(&self) -> bool {
        self.history.get().is_some_and(History::let_go)
    }

    /// Calls `visit` with the row in the selection for every series that has samples in
    /// `from < timestamp <= to`, until it breaks.
    ///
    /// The window is borrowed; `visit` must not call the store. Errs when a chunk is damaged.
    pub fn read(
        &self,
        selection: &Selection,
        from: Timestamp,
        to: Timestamp,
        visit: impl FnMut(usize, Window<'_>) -> ControlFlow<()>,
    ) -> Result<(), ChunkError> {
        let all = 0..selection.labels.len();
        self.read_seen(selection, all, &Seen::all(from, to), visit)
    }

    /// The same for some rows of the selection, of which not all samples are looked at: of chunks
    /// in which none is seen `visit` gets nothing.
    pub(crate) fn read_seen(
        &self,
        selection: &Selection,
        rows: Range<usize>,
        seen: &Seen,
        mut visit: impl FnMut(usize, Window<'_>) -> ControlFlow<()>,
    ) -> Result<(), ChunkError> {
        let (ids, from) = match &selection.source {
            Source::Memory(known, snapshot) => (
                &known.ids,
                snapshot
                    .as_ref()
                    .map_or(seen.from, |s| memory_from(s, seen.from)),
            ),
            Source::Merged(merged) => return self.read_merged(merged, rows, seen, visit),
        };
        let mut inner = self.inner.read();
        let mut scratch = Scratch::default();
        for row in rows.clone() {
            if row > rows.start && (row - rows.start).is_multiple_of(READ_BATCH) {
                RwLockReadGuard::bump(&mut inner);
            }
            // Since the selection was made, a slot may have been emptied or taken over.
            let Some(series) = inner.slots.known(ids[row]) else {
                continue;
            };
            let window = series
                .window(from, seen.to, &inner.columns, &self.decoded, &mut scratch)
                .inspect_err(|_| {
                    self.damaged
                        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                })?;
            if !window.times.is_empty() && visit(row, window).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The selection in memory; if it is kept, until such a series comes or goes, or nobody needs
    /// it for minutes.
    pub(in crate::store) fn known(&self, matchers: &[Matcher], needed_again: bool) -> Arc<Known> {
        let mut tries = 0;
        let known = loop {
            let inner = self.inner.read();
            let generation = inner.generation_of(matchers);
            if let Some(known) = self.selections.lock().find(matchers, generation) {
                return known;
            }
            let found = inner
                .index
                .select(matchers, |slot, matcher| inner.passes(slot, matcher));
            let (mut ids, mut labels) = (
                Vec::with_capacity(found.len()),
                Vec::with_capacity(found.len()),
            );
            // Many are gone through a few at a time, so that collections are not held up; where one
            // came or went meanwhile it is done again, in the end at once.
            tries += 1;
            let at_once = if tries < TRIES {
                AT_ONCE as usize
            } else {
                usize::MAX
            };
            let mut inner = inner;
            for part in found.chunks(at_once.min(found.len().max(1))) {
                if !ids.is_empty() {
                    RwLockReadGuard::bump(&mut inner);
                }
                for slot in part {
                    if let Some(series) = inner.slots.get(*slot) {
                        ids.push(SeriesId {
                            slot: *slot,
                            version: series.version,
                        });
                        labels.push(series.labels.clone());
                    }
                }
            }
            if inner.generation_of(matchers) == generation {
                drop(inner);
                break Arc::new(Known {
                    labels: LabelSets::from(labels),
                    ids,
                    generation,
                });
            }
        };
        let text: usize = matchers.iter().map(|matcher| matcher.value.len()).sum();
        if needed_again || (text <= MAX_TEXT && !matchers.iter().any(is_regex)) {
            self.selections.lock().keep(matchers, &known);
        }
        known
    }
}
