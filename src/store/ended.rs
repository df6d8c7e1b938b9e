//! Series that ended leave memory: with a history they go into a file on disk and are read from
//! there until their block is written; without one so many of them are kept.
//!
//! A series ended when its newest sample is a stale marker that no rule looks for any more, or when
//! none has come for long. A sample that comes later makes a series anew, and those who read put
//! the two together.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::Weak;
use std::time::Duration;

use parking_lot::Mutex;

use super::history::{History, Snapshot, order};
use super::memory::series::{Gathered, Scratch};
use super::{AT_ONCE, Inner, SeriesId, Store, Version};
use crate::model::{Labels, Timestamp};

/// How old a stale marker is when its series leaves memory: most rules look back five minutes.
const MARKED: Duration = Duration::from_secs(6 * 60);
/// How old the newest sample is of a series that ends without a marker, because its samples bring
/// their own timestamps …
const UNMARKED: Duration = Duration::from_secs(30 * 60);
/// … and for how long none came: a metrics service may lag.
const SILENT: Duration = Duration::from_secs(20 * 60);
/// Fewer are not worth a file: they wait for their block.
const ENOUGH: usize = 1000;
/// Series in one file when it is first written; what is written of each is in memory until the end.
const MOST: usize = 100_000;
/// Files that one upkeep writes.
const FILES: usize = 3;
/// Ended series that a store without a history keeps, the newest ones.
const WITHOUT_HISTORY: usize = 50_000;

/// What is known of series that ended from one upkeep to the next.
#[derive(Debug, Default)]
pub(super) struct Endings(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Series on disk that are in memory still, since somebody reads who does not know of the file.
    leaving: Vec<Leaving>,
    /// Old series without a marker: their newest sample, and since when it is that.
    silent: Silent,
}

type Silent = HashMap<SeriesId, (i64, Timestamp), ahash::RandomState>;

/// Series that were written.
#[derive(Debug)]
struct Leaving {
    series: Vec<Quiet>,
    readers: Vec<Weak<Snapshot>>,
}

/// A series that ended.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    id: SeriesId,
    /// Milliseconds of its newest sample.
    last: i64,
}

impl Inner {
    /// Takes a series out of memory.
    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(series) = self.slots.get_mut(slot) {
            series.release(&mut self.columns);
        }
        self.by_labels.remove(&self.slots, slot);
        self.shares.take_back(slot);
        let Some(series) = self.slots.remove(slot) else {
            return;
        };
        if let Some(log) = &mut self.log {
            log.forget(slot);
        }
        self.index.remove(slot, &series.labels);
        self.changed(&series.labels);
        self.departures += 1;
    }

    /// Adds those of some slots whose series ended, and to `silent` those of which none came lately.
    fn quiet(
        &self,
        slots: Range<u32>,
        now: Timestamp,
        before: &Silent,
        silent: &mut Silent,
        found: &mut Vec<Quiet>,
    ) {
        let (marked, unmarked) = ((now - MARKED).0, (now - UNMARKED).0);
        for slot in slots {
            let Some(series) = self.slots.get(slot) else {
                continue;
            };
            let Some(last) = series.last(&self.columns).filter(|last| *last <= marked) else {
                continue;
            };
            let id = SeriesId {
                slot,
                version: series.version,
            };
            if series.is_marked(&self.columns) {
                found.push(Quiet { id, last });
            } else if last <= unmarked {
                let before = before.get(&id).filter(|(before, _)| *before == last);
                let since = before.map_or(now, |(_, since)| *since);
                silent.insert(id, (last, since));
                if since <= now - SILENT {
                    found.push(Quiet { id, last });
                }
            }
        }
    }

    /// Takes those out of memory that are as they were.
    fn remove_quiet(&mut self, series: &[Quiet]) {
        for Quiet { id, last } in series {
            let same = self
                .slots
                .known(*id)
                .is_some_and(|series| series.last(&self.columns) == Some(*last));
            if same {
                self.remove(id.slot);
            }
        }
    }
}

impl Store {
    /// Those of the series that are not there any more: retention dropped them, or they ended and
    /// left memory.
    pub fn departed(&self, ids: impl Iterator<Item = SeriesId>) -> HashSet<SeriesId> {
        let inner = self.inner.read();
        ids.filter(|id| inner.slots.known(*id).is_none()).collect()
    }

    /// Grows whenever series leave memory: ids that are kept may have become invalid.
    pub fn departures(&self) -> u64 {
        self.inner.read().departures
    }

    /// Takes series that ended out of memory.
    pub(super) fn end_series(&self, now: Timestamp) -> io::Result<()> {
        let state = &mut *self.endings.0.lock();
        match self.history.get() {
            Some(history) => self.write_ended(history, state, now),
            None => {
                self.drop_ended(state, now);
                Ok(())
            }
        }
    }

    /// The series that ended. They are looked at a few at a time, so that collections are not held up.
    fn quiet(&self, state: &mut State, now: Timestamp) -> Vec<Quiet> {
        let (mut silent, mut found, mut next) = (Silent::default(), Vec::new(), 0);
        loop {
            let inner = self.inner.read();
            let end = inner.slots.end();
            let part = next..end.min(next + AT_ONCE);
            next = part.end;
            inner.quiet(part, now, &state.silent, &mut silent, &mut found);
            if next >= end {
                break;
            }
        }
        state.silent = silent;
        found
    }

    /// Without a history: drops what ended longest ago beyond a bound.
    fn drop_ended(&self, state: &mut State, now: Timestamp) {
        let mut quiet = self.quiet(state, now);
        if let Some(over) = quiet
            .len()
            .checked_sub(WITHOUT_HISTORY)
            .filter(|over| *over > 0)
        {
            quiet.select_nth_unstable_by_key(over - 1, |series| series.last);
            self.inner.write().remove_quiet(&quiet[..over]);
        }
    }

    fn write_ended(&self, history: &History, state: &mut State, now: Timestamp) -> io::Result<()> {
        self.leave(state);
        let mut quiet = self.quiet(state, now);
        if !state.leaving.is_empty() {
            let written: HashMap<SeriesId, i64> = state
                .leaving
                .iter()
                .flat_map(|leaving| &leaving.series)
                .map(|series| (series.id, series.last))
                .collect();
            quiet.retain(|series| written.get(&series.id) != Some(&series.last));
        }
        if quiet.len() < ENOUGH.min(self.limits.max_series_per_target / 2) {
            return Ok(());
        }
        for series in quiet.chunks(MOST).take(FILES) {
            let readers = self.write_file(history, series)?;
            state.leaving.push(Leaving {
                series: series.to_vec(),
                readers,
            });
            self.leave(state);
        }
        Ok(())
    }

    /// Takes those out of memory that nobody looks for there any more.
    fn leave(&self, state: &mut State) {
        state.leaving.retain(|leaving| {
            let held = leaving
                .readers
                .iter()
                .any(|snapshot| snapshot.strong_count() > 0);
            if !held {
                // A few at a time, so that collections are not held up.
                leaving
                    .series
                    .chunks(1024)
                    .for_each(|series| self.inner.write().remove_quiet(series));
            }
            held
        });
    }

    /// Writes series into a file, which is served from then on.
    fn write_file(&self, history: &History, quiet: &[Quiet]) -> io::Result<Vec<Weak<Snapshot>>> {
        let floor = history.floor_for_all();
        let mut series: Vec<(Labels, u32, Version)> = {
            let inner = self.inner.read();
            let known = |quiet: &Quiet| {
                inner
                    .slots
                    .known(quiet.id)
                    .map(|s| (s.labels.clone(), quiet.id.slot, quiet.id.version))
            };
            quiet.iter().filter_map(known).collect()
        };
        series.sort_unstable_by(|(a, ..), (b, ..)| order(a, b));
        let end = quiet
            .iter()
            .map(|series| series.last)
            .max()
            .unwrap_or(floor);
        let mut writer = history.ended_writer(floor, end.saturating_add(1))?;
        let (mut samples, mut scratch) = (Gathered::default(), Scratch::default());
        for (labels, slot, version) in series {
            samples.clear();
            {
                let inner = self.inner.read();
                let Some(series) = inner.slots.known(SeriesId { slot, version }) else {
                    continue;
                };
                let window = series.window(
                    floor.saturating_sub(1),
                    i64::MAX,
                    &inner.columns,
                    &self.decoded,
                    &mut scratch,
                );
                samples.extend(window.map_err(io::Error::other)?);
            }
            writer.add(&labels, samples.window())?;
        }
        match writer.finish()? {
            Some(block) => history.publish_ended(block),
            // All is in blocks already.
            None => Ok(Vec::new()),
        }
    }
}
