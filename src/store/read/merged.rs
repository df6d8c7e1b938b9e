//! Reading across memory and disk: each series once, its samples from blocks before those from
//! memory.
//!
//! The disk is read without holding the store's lock, so that a slow one never holds up a
//! collection.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use indexmap::IndexMap;

use super::located::{Found, Merged, Parts, Piece, memory_from};
use super::reading::Reading;
use super::seen::Seen;
use super::selection::{Known, Source};
use crate::model::{Labels, Matcher};
use crate::store::history::{Located, Part, Snapshot, View};
use crate::store::memory::series::{Gathered, Scratch};
use crate::store::{ChunkError, Inner, Selection, Store, Window};

impl Store {
    /// The blocks now, and whether some may hold samples in `from < timestamp <= to` of series that
    /// pass.
    pub(in crate::store) fn on_disk(
        &self,
        matchers: &[Matcher],
        from: i64,
        to: i64,
    ) -> Option<(Arc<Snapshot>, bool)> {
        let snapshot = self.history.get()?.snapshot();
        let some = snapshot.may_hold(matchers, from, to);
        Some((snapshot, some))
    }

    /// A selection of which blocks hold a part.
    pub(in crate::store) fn merged(
        &self,
        matchers: &[Matcher],
        snapshot: Arc<Snapshot>,
        from: i64,
        to: i64,
        again: bool,
    ) -> Selection {
        let known = self.known(matchers, again);
        let kept = self
            .located
            .lock()
            .find(matchers, &snapshot, &known, (from, to));
        let found = kept.unwrap_or_else(|| {
            let found = Arc::new(self.locate(matchers, &known, &snapshot, (from, to)));
            self.located
                .lock()
                .keep(matchers, &snapshot, &known, (from, to), &found);
            found
        });
        Selection {
            labels: found.labels.clone(),
            source: Source::Merged(Merged { snapshot, found }),
        }
    }

    fn locate(
        &self,
        matchers: &[Matcher],
        known: &Known,
        snapshot: &Snapshot,
        (from, to): (i64, i64),
    ) -> Found {
        let mut positions: IndexMap<Labels, Parts, ahash::RandomState> = IndexMap::default();
        for (labels, id) in known.labels.iter().zip(&known.ids) {
            positions.insert(
                labels.clone(),
                Parts {
                    slot: Some(id.slot),
                    pieces: Vec::new(),
                },
            );
        }
        let mut parts = Vec::new();
        // Blocks that follow each other hold mostly the same series in the same order.
        let mut rows: Vec<usize> = Vec::new();
        self.each_located(snapshot, matchers, from, to, |part, located| {
            for (number, located) in located.iter().enumerate() {
                let as_before = rows.get(number).copied().filter(|row| {
                    positions
                        .get_index(*row)
                        .is_some_and(|(labels, _)| *labels == located.labels)
                });
                let row = as_before.unwrap_or_else(|| {
                    let entry = positions.entry(located.labels.clone());
                    let row = entry.index();
                    entry.or_default();
                    row
                });
                match rows.get_mut(number) {
                    Some(known) => *known = row,
                    None => rows.push(row),
                }
                positions[row].pieces.push(Piece {
                    part: parts.len() as u32,
                    length: located.length,
                    offset: located.offset,
                });
            }
            parts.push(part);
        });
        let (labels, mut positions): (Vec<Labels>, Vec<Parts>) = positions.into_iter().unzip();
        positions
            .iter_mut()
            .for_each(|parts| parts.pieces.shrink_to_fit());
        Found {
            labels: labels.into(),
            parts,
            positions,
        }
    }

    /// [`Store::read_seen`] where blocks hold a part of the answer.
    pub(in crate::store) fn read_merged(
        &self,
        Merged { snapshot, found }: &Merged,
        rows: Range<usize>,
        seen: &Seen,
        mut visit: impl FnMut(usize, Window<'_>) -> ControlFlow<()>,
    ) -> Result<(), ChunkError> {
        let (mut samples, mut scratch) = (Gathered::default(), Scratch::default());
        let mut reading = Reading::new(&found.parts, seen);
        let mut next = rows.start;
        for row in rows.clone() {
            samples.clear();
            if let Some(history) = self.history.get() {
                if row == next {
                    next = reading.fetch(history, found, row..rows.end);
                }
                reading.decode(history, found, row, &mut samples);
            }
            if let Some(slot) = found.positions[row].slot {
                let inner = self.inner.read();
                // Meanwhile the series may have gone, and another may have its slot.
                let series = inner.slots.get(slot);
                if let Some(series) = series.filter(|s| s.labels == found.labels[row]) {
                    let window = series
                        .window(
                            memory_from(snapshot, seen.from),
                            seen.to,
                            &inner.columns,
                            &self.decoded,
                            &mut scratch,
                        )
                        .inspect_err(|_| {
                            self.damaged
                                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        })?;
                    samples.extend(window);
                }
            }
            samples.order();
            if !samples.times.is_empty() && visit(row, samples.window()).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Calls `visit` for each block with those of its series that pass; their labels are shared
    /// with those in memory. One index is held at a time.
    fn each_located(
        &self,
        snapshot: &Snapshot,
        matchers: &[Matcher],
        from: i64,
        to: i64,
        mut visit: impl FnMut(Part, &[Located]),
    ) {
        let Some(history) = self.history.get() else {
            return;
        };
        let views: Vec<View> = snapshot.views(matchers, from, to).collect();
        if views.len() > 1 {
            history.announce(&views);
        }
        for view in views {
            let found = history.select(&view, matchers, |labels| {
                let inner = self.inner.read();
                let known = inner
                    .by_labels
                    .find(&inner.slots, &labels)
                    .and_then(|slot| inner.slots.get(slot));
                known.map_or(labels, |series| series.labels.clone())
            });
            if let Some((part, located)) = found {
                visit(part, &located);
            }
        }
    }

    /// Adds the label sets that blocks hold to those that memory holds.
    pub(in crate::store) fn series_on_disk(
        &self,
        matchers: &[Matcher],
        from: i64,
        to: i64,
        found: &mut Vec<Labels>,
    ) {
        let Some((snapshot, true)) = self.on_disk(matchers, from, to) else {
            return;
        };
        self.each_located(&snapshot, matchers, from, to, |_, located| {
            found.extend(located.iter().map(|l| l.labels.clone()));
            found.sort_unstable();
            found.dedup();
        });
    }

    /// Whether blocks hold samples of this time.
    pub(in crate::store) fn is_on_disk(&self, from: i64, to: i64) -> bool {
        self.may_be_on_disk(&[], from, to)
    }

    /// Whether blocks may hold samples of this time of series that pass.
    pub(in crate::store) fn may_be_on_disk(
        &self,
        matchers: &[Matcher],
        from: i64,
        to: i64,
    ) -> bool {
        self.on_disk(matchers, from, to)
            .is_some_and(|(_, some)| some)
    }
}

impl Inner {
    /// Whether a series may have samples in `from < timestamp <= to` in memory.
    pub(in crate::store) fn lives(&self, slot: u32, from: i64, to: i64) -> bool {
        let series = self.slots.get(slot);
        series.is_some_and(|series| series.overlaps(from, to, &self.columns))
    }

    /// The oldest sample at or after `floor`; a sealed chunk may make it seem older than it is.
    pub(in crate::store) fn oldest(&self, floor: i64) -> Option<i64> {
        let spans = self
            .slots
            .iter()
            .filter_map(|(_, series)| series.span(&self.columns));
        spans
            .filter(|(_, last)| *last >= floor)
            .map(|(first, _)| first.max(floor))
            .min()
    }
}
