//! Reading across memory and disk: each series once, its samples from blocks before those from memory.
//!
//! The disk is read without holding the store's lock, so that a slow one never holds up a collection.

use std::ops::ControlFlow;
use std::sync::Arc;

use indexmap::IndexMap;

use super::history::{Located, Part, Snapshot};
use super::selection::Source;
use super::series::Scratch;
use super::{ChunkError, Inner, Selection, Store, Window};
use crate::model::{Labels, Matcher};

/// Where the samples of one series are.
#[derive(Default)]
struct Places {
    slot: Option<u32>,
    /// Number of the block, in order of time.
    parts: Vec<(usize, Located)>,
}

/// What is read where blocks hold a part of a selection: for each of its series, where its samples are.
pub(super) struct Merged {
    snapshot: Arc<Snapshot>,
    parts: Vec<Part>,
    places: Vec<Places>,
}

impl Store {
    /// The blocks that may hold samples in `from < timestamp <= to`, ready to be read, and the time from which memory holds the samples.
    pub(super) fn parts(&self, from: i64, to: i64) -> Option<(Arc<Snapshot>, Vec<Part>)> {
        let history = self.history.as_ref()?;
        let snapshot = history.snapshot();
        let parts = history.parts(&snapshot, from, to);
        Some((snapshot, parts))
    }

    /// A selection of which blocks hold a part.
    pub(super) fn merged(&self, matchers: &[Matcher], snapshot: Arc<Snapshot>, parts: Vec<Part>) -> Selection {
        let mut places: IndexMap<Labels, Places, ahash::RandomState> = IndexMap::default();
        {
            let inner = self.inner.read();
            let known = self.known(&inner, matchers);
            for (labels, id) in known.labels.iter().zip(&known.ids) {
                places.insert(labels.clone(), Places { slot: Some(id.slot), parts: Vec::new() });
            }
        }
        for (number, part) in parts.iter().enumerate() {
            for located in self.located(part, matchers).iter() {
                places.entry(located.labels.clone()).or_default().parts.push((number, located.clone()));
            }
        }
        let (labels, places): (Vec<Labels>, Vec<Places>) = places.into_iter().unzip();
        Selection { labels: labels.into(), source: Source::Merged(Merged { snapshot, parts, places }) }
    }

    /// [`Store::read`] where blocks hold a part of the answer.
    pub(super) fn read_merged(
        &self,
        Merged { snapshot, parts, places }: &Merged,
        labels: &[Labels],
        (from, to): (i64, i64),
        mut visit: impl FnMut(usize, Window<'_>) -> ControlFlow<()>,
    ) -> Result<(), ChunkError> {
        let (mut times, mut values, mut histograms, mut scratch) = (Vec::new(), Vec::new(), Vec::new(), Scratch::default());
        for (row, place) in places.iter().enumerate() {
            times.clear();
            values.clear();
            histograms.clear();
            for (number, located) in &place.parts {
                if let Some(history) = &self.history {
                    history.read(&parts[*number], located, from, to, &mut times, &mut values);
                }
            }
            if let Some(slot) = place.slot {
                let inner = self.inner.read();
                // Meanwhile the series may have gone, and another may have its slot.
                if let Some(series) = inner.series(slot).filter(|s| s.labels == labels[row]) {
                    let window =
                        series.window(memory_from(snapshot, from), to, &inner.columns, &self.decoded, &mut scratch).inspect_err(|_| {
                            self.damaged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        })?;
                    times.extend_from_slice(window.times);
                    values.extend_from_slice(window.values);
                    histograms.extend_from_slice(window.histograms);
                }
            }
            if !times.is_empty() && visit(row, Window { times: &times, values: &values, histograms: &histograms }).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The series of a block that pass; their labels are shared with those in memory.
    fn located(&self, part: &Part, matchers: &[Matcher]) -> Arc<[Located]> {
        let Some(history) = &self.history else { return Arc::from([]) };
        history.select(part, matchers, |labels| {
            let inner = self.inner.read();
            let known = inner.by_labels.get_key_value(&labels).map(|(known, _)| known.clone());
            known.unwrap_or(labels)
        })
    }

    /// Adds the label sets that blocks hold to those that memory holds.
    pub(super) fn series_on_disk(&self, matchers: &[Matcher], from: i64, to: i64, found: &mut Vec<Labels>) {
        let Some((_, parts)) = self.parts(from, to) else { return };
        for part in &parts {
            found.extend(self.located(part, matchers).iter().map(|l| l.labels.clone()));
            found.sort_unstable();
            found.dedup();
        }
    }

    /// Whether blocks hold samples of this time.
    pub(super) fn is_on_disk(&self, from: i64, to: i64) -> bool {
        self.parts(from, to).is_some_and(|(_, parts)| !parts.is_empty())
    }
}

/// Memory may hold samples that are in blocks already; from `from` on they are looked for only where no block is.
pub(super) fn memory_from(snapshot: &Snapshot, from: i64) -> i64 {
    from.max(snapshot.floor.saturating_sub(1))
}

impl Inner {
    /// The oldest sample at or after `floor`; a sealed chunk may make it seem older than it is.
    pub(super) fn oldest(&self, floor: i64) -> Option<i64> {
        let spans = self.slots.iter().filter_map(|slot| slot.series.as_ref()?.span(&self.columns));
        spans.filter(|(_, last)| *last >= floor).map(|(first, _)| first.max(floor)).min()
    }
}
