//! Which series pass some matchers: selections, kept until such a series comes or goes, and reading them.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::RwLockReadGuard;

use super::history::Snapshot;
use super::merged::{Merged, memory_from};
use super::series::Scratch;
use super::{ChunkError, Inner, SeriesId, Store, Window};
use crate::model::{LabelSets, METRIC_NAME, MatchOp, Matcher, Timestamp};

/// Selections kept, and the series in all of them together.
const SELECTIONS: usize = 4096;
const SELECTED: usize = 1 << 20;

/// Series read before the lock is offered to a writer.
const READ_BATCH: usize = 64;

/// The series that pass some matchers.
pub struct Selection {
    /// Their labels, in the order in which [`Store::read`] goes through them. Equal matchers give the same list until such a series comes
    /// or goes, so that what is derived from it lives as long.
    pub labels: LabelSets,
    pub(super) source: Source,
}

pub(super) enum Source {
    /// All in memory; the snapshot keeps there what blocks take over meanwhile.
    Memory(Arc<Known>, Option<Arc<Snapshot>>),
    /// Some samples are in blocks.
    Merged(Merged),
}

/// A selection in memory, valid for one generation.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) labels: LabelSets,
    pub(super) ids: Vec<SeriesId>,
    generation: u64,
}

/// Selections by matchers.
#[derive(Debug, Default)]
pub(super) struct Selections {
    found: HashMap<Box<[Matcher]>, Arc<Known>, ahash::RandomState>,
    /// Series in all of them.
    series: usize,
}

impl Inner {
    /// When a series last came or went that these matchers may select.
    fn generation_of(&self, matchers: &[Matcher]) -> u64 {
        let name = matchers.iter().find(|m| m.op == MatchOp::Equal && m.name == METRIC_NAME);
        name.map_or(self.generation, |name| self.by_name.get(name.value.as_str()).copied().unwrap_or(0))
    }
}

impl Store {
    /// The series that pass all matchers, whether or not they have samples; [`Store::read`] then finds those in `from < timestamp <= to`.
    pub fn selection(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Selection {
        match self.on_disk(matchers, from.0, to.0) {
            Some((snapshot, true)) => self.merged(matchers, snapshot, from.0, to.0),
            blocks => {
                let known = self.known(&self.inner.read(), matchers);
                Selection { labels: known.labels.clone(), source: Source::Memory(known, blocks.map(|(snapshot, _)| snapshot)) }
            }
        }
    }

    /// Calls `visit` with the row in the selection for every series that has samples in `from < timestamp <= to`, until it breaks.
    ///
    /// The window is borrowed; `visit` must not call the store. Errs when a chunk is damaged.
    pub fn read(
        &self,
        selection: &Selection,
        from: Timestamp,
        to: Timestamp,
        mut visit: impl FnMut(usize, Window<'_>) -> ControlFlow<()>,
    ) -> Result<(), ChunkError> {
        let (ids, from) = match &selection.source {
            Source::Memory(known, snapshot) => (&known.ids, snapshot.as_ref().map_or(from.0, |s| memory_from(s, from.0))),
            Source::Merged(merged) => return self.read_merged(merged, &selection.labels, (from.0, to.0), visit),
        };
        let mut inner = self.inner.read();
        let mut scratch = Scratch::default();
        for (row, id) in ids.iter().enumerate() {
            if row > 0 && row % READ_BATCH == 0 {
                RwLockReadGuard::bump(&mut inner);
            }
            // Since the selection was made, a slot may have been emptied or taken over.
            let Some(series) = inner.slots.known(*id) else { continue };
            let window = series.window(from, to.0, &inner.columns, &self.decoded, &mut scratch).inspect_err(|_| {
                self.damaged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            })?;
            if !window.times.is_empty() && visit(row, window).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The selection in memory; kept until such a series comes or goes.
    pub(super) fn known(&self, inner: &Inner, matchers: &[Matcher]) -> Arc<Known> {
        let generation = inner.generation_of(matchers);
        if let Some(known) = self.selections.lock().found.get(matchers).filter(|known| known.generation == generation) {
            return Arc::clone(known);
        }
        let found = inner.index.select(matchers);
        let (mut ids, mut labels) = (Vec::with_capacity(found.len()), Vec::with_capacity(found.len()));
        for slot in found {
            if let Some(series) = inner.slots.get(slot) {
                ids.push(SeriesId { slot, version: series.version });
                labels.push(series.labels.clone());
            }
        }
        let known = Arc::new(Known { labels: LabelSets::from(labels), ids, generation });
        let selections = &mut *self.selections.lock();
        if selections.found.len() >= SELECTIONS || selections.series + known.ids.len() > SELECTED {
            *selections = Selections::default();
        }
        selections.series += known.ids.len();
        if let Some(old) = selections.found.insert(matchers.into(), Arc::clone(&known)) {
            selections.series -= old.ids.len();
        }
        known
    }
}
