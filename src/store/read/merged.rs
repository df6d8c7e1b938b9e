//! Reading across memory and disk: each series once, its samples from blocks before those from
//! memory.
//!
//! The disk is read without holding the store's lock, so that a slow one never holds up a
//! collection.

use super::located::{Merged, Parts, memory_from};
use std::ops::ControlFlow;
use std::sync::Arc;

use indexmap::IndexMap;

use super::selection::Source;
use crate::model::{Labels, Matcher};
use crate::store::history::{Located, Part, Snapshot};
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
        let mut positions: IndexMap<Labels, Parts, ahash::RandomState> = IndexMap::default();
        {
            let inner = self.inner.read();
            let known = self.known(&inner, matchers, again);
            for (labels, id) in known.labels.iter().zip(&known.ids) {
                positions.insert(
                    labels.clone(),
                    Parts {
                        slot: Some(id.slot),
                        parts: Vec::new(),
                    },
                );
            }
        }
        let mut parts = Vec::new();
        self.each_located(&snapshot, matchers, from, to, |part, located| {
            for located in located {
                positions
                    .entry(located.labels.clone())
                    .or_default()
                    .parts
                    .push((parts.len(), located.clone()));
            }
            parts.push(part);
        });
        let (labels, positions): (Vec<Labels>, Vec<Parts>) = positions.into_iter().unzip();
        Selection {
            labels: labels.into(),
            source: Source::Merged(Merged {
                snapshot,
                parts,
                positions,
            }),
        }
    }

    /// [`Store::read`] where blocks hold a part of the answer.
    pub(in crate::store) fn read_merged(
        &self,
        Merged {
            snapshot,
            parts,
            positions,
        }: &Merged,
        labels: &[Labels],
        (from, to): (i64, i64),
        mut visit: impl FnMut(usize, Window<'_>) -> ControlFlow<()>,
    ) -> Result<(), ChunkError> {
        let (mut samples, mut scratch) = (Gathered::default(), Scratch::default());
        for (row, position) in positions.iter().enumerate() {
            samples.clear();
            for (number, located) in &position.parts {
                if let Some(history) = self.history.get() {
                    history.read(&parts[*number], located, from, to, &mut samples);
                }
            }
            if let Some(slot) = position.slot {
                let inner = self.inner.read();
                // Meanwhile the series may have gone, and another may have its slot.
                if let Some(series) = inner.slots.get(slot).filter(|s| s.labels == labels[row]) {
                    let window = series
                        .window(
                            memory_from(snapshot, from),
                            to,
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
        for view in snapshot.views(matchers, from, to) {
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
        self.on_disk(&[], from, to).is_some_and(|(_, some)| some)
    }
}

impl Inner {
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
