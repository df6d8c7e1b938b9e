//! Feeding a history in while nightbell does not run: samples of any order and age become blocks,
//! those of a day together with what the history has of it.
//!
//! Samples are sorted in memory up to a bound and then put aside in files, one for each day; in the
//! end each day is merged into one block beside the others. When all of them are on the disk they
//! get their names, which needs no room: a disk that is full leaves the history as it was. A crash
//! leaves days as they were or as they become, and an import that is run again doubles nothing. Of
//! samples of one instant the one that the history had stays.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::block::Block;
use super::block_writer::{BlockWriter, named, order};
use super::blocks::{Blocks, remove};
use super::log::recover;
use super::{Entry, HistoryError, Metrics, Settings, compact, take};
use crate::model::{Labels, Timestamp};
use crate::store::Window;

/// Milliseconds of what becomes one block.
const DAY: i64 = 86_400_000;
/// Samples in memory at most, some 16 bytes each.
const HELD: usize = 2 << 20;
/// Where samples are put aside, beside the blocks.
const FOLDER: &str = "import";

/// What became of the samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Taken, repetitions of what the history has included.
    pub taken: u64,
    /// Older than the retention.
    pub too_old: u64,
    /// So young that their time is still in the log, or has not come.
    pub too_new: u64,
    /// Of days in which the clock was set back: blocks that overlap cannot be merged.
    pub overlapping: u64,
    /// Blocks written.
    pub blocks: u64,
}

/// An import under way.
#[derive(Debug)]
pub struct Import {
    settings: Settings,
    blocks: Blocks,
    /// Samples of this time on are the log's.
    limit: i64,
    oldest: i64,
    days: BTreeMap<i64, BTreeMap<Labels, Vec<(i64, f64)>>>,
    held: usize,
    /// By day: files, and samples in them.
    aside: BTreeMap<i64, (Vec<PathBuf>, u64)>,
    imported: Imported,
    /// Held as long as the folder is ours.
    _lock: File,
}

impl Import {
    /// Takes the folder of a history, which no nightbell may have.
    ///
    /// # Errors
    /// When another process has it, or it cannot be read or written.
    pub fn open(settings: &Settings, now: Timestamp) -> Result<Self, HistoryError> {
        let folder = settings.path.join("blocks");
        let failed = |error| HistoryError::Folder {
            path: settings.path.clone(),
            error,
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        let lock = File::options()
            .create(true)
            .append(true)
            .open(settings.path.join("lock"))
            .map_err(failed)?;
        take(&lock).map_err(|_| HistoryError::InUse(settings.path.clone()))?;
        let metrics = Metrics::default();
        let blocks = Blocks::open(folder, now.0, metrics.clone()).map_err(failed)?;
        let floor = blocks.end();
        // What the log holds from the last block on is not in blocks yet: a block of that time
        // would hide it.
        let wal = settings.path.join("wal");
        let mut first = now.0;
        fs::create_dir_all(&wal).map_err(failed)?;
        let segments = recover::find(&wal).map_err(failed)?;
        recover::replay(&wal, &segments, &metrics, |_, entry| {
            let at = match entry {
                Entry::Tick(at, _) => at,
                Entry::Histograms(found) => found.first().map_or(i64::MAX, |(_, (at, _))| *at),
                Entry::Series(..) | Entry::Turn(_) => i64::MAX,
            };
            if at >= floor {
                first = first.min(at);
            }
        })
        .map_err(failed)?;
        let aside = settings.path.join(FOLDER);
        if aside.is_dir() {
            fs::remove_dir_all(&aside).map_err(failed)?;
        }
        fs::create_dir_all(&aside).map_err(failed)?;
        Ok(Import {
            settings: settings.clone(),
            blocks,
            limit: first.max(floor),
            oldest: (now - settings.retention).0,
            days: BTreeMap::new(),
            held: 0,
            aside: BTreeMap::new(),
            imported: Imported::default(),
            _lock: lock,
        })
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// When the disk does not take what is put aside.
    pub fn add(&mut self, labels: &Labels, at: Timestamp, value: f64) -> Result<(), HistoryError> {
        if at.0 < self.oldest {
            self.imported.too_old += 1;
        } else if at.0 >= self.limit {
            self.imported.too_new += 1;
        } else {
            let day = self.days.entry(at.0.div_euclid(DAY)).or_default();
            match day.get_mut(labels) {
                Some(samples) => samples.push((at.0, value)),
                None => drop(day.insert(labels.clone(), vec![(at.0, value)])),
            }
            self.held += 1;
            if self.held >= HELD {
                self.put_aside().map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> HistoryError {
        HistoryError::Folder {
            path: self.settings.path.clone(),
            error,
        }
    }

    /// Writes what is held into files.
    fn put_aside(&mut self) -> io::Result<()> {
        self.held = 0;
        for (day, series) in std::mem::take(&mut self.days) {
            let (files, count) = self.aside.entry(day).or_default();
            let path = self.settings.path.join(FOLDER);
            let path = path.join(format!("{day}-{}.block", files.len()));
            let mut writer = BlockWriter::create_at(path.clone(), day * DAY, (day + 1) * DAY)?;
            let mut series: Vec<(Labels, Vec<(i64, f64)>)> = series.into_iter().collect();
            series.sort_by(|(a, _), (b, _)| order(a, b));
            for (labels, mut samples) in series {
                samples.sort_by_key(|(at, _)| *at);
                *count += samples.len() as u64;
                samples.dedup_by_key(|(at, _)| *at);
                let (times, values): (Vec<i64>, Vec<f64>) = samples.into_iter().unzip();
                writer.add(
                    &labels,
                    Window {
                        times: &times,
                        values: &values,
                        histograms: &[],
                    },
                )?;
            }
            drop(writer.finish()?);
            files.push(path);
        }
        Ok(())
    }

    /// The oldest instant that is taken, and the one from which on none is.
    pub fn span(&self) -> (Timestamp, Timestamp) {
        (Timestamp(self.oldest), Timestamp(self.limit))
    }

    /// Merges what was taken into the history, day by day; `progress` hears how many of how many
    /// days are done.
    ///
    /// # Errors
    /// When a file cannot be read or written; the history is as it was.
    pub fn finish(
        mut self,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Imported, HistoryError> {
        self.put_aside().map_err(|error| self.failed(error))?;
        let days = std::mem::take(&mut self.aside);
        let (all, mut merged) = (days.len(), Vec::new());
        for (done, (day, (files, count))) in days.into_iter().enumerate() {
            progress(done, all);
            let made = self.merge(day, &files);
            files.iter().for_each(|file| remove(file));
            match made.map_err(|error| self.failed(error))? {
                Some(day) => {
                    self.imported.taken += count;
                    merged.push(day);
                }
                None => self.imported.overlapping += count,
            }
        }
        progress(all, all);
        for day in merged {
            self.place(day).map_err(|error| self.failed(error))?;
        }
        Ok(self.imported)
    }

    /// Makes the block of a day; `None` where the history has blocks of it that cannot be merged.
    fn merge(&mut self, day: i64, files: &[PathBuf]) -> io::Result<Option<Merged>> {
        let (start, end) = (day * DAY, ((day + 1) * DAY).min(self.limit));
        let there: Vec<Arc<Block>> = self
            .blocks
            .snapshot()
            .blocks
            .iter()
            .filter(|block| block.start < end && block.end > start)
            .cloned()
            .collect();
        let within =
            |block: &Arc<Block>| block.later == 0 && block.start >= start && block.end <= end;
        let apart = there.is_sorted_by(|a, b| a.end <= b.start);
        if !there.iter().all(within) || !apart {
            return Ok(None);
        }
        // What the history has comes first, and stays.
        let mut sources = there.clone();
        for file in files {
            sources.push(Arc::new(Block::open(file).map_err(io::Error::other)?));
        }
        let path = self.settings.path.join(FOLDER).join(format!("{day}.whole"));
        let writer = BlockWriter::create_at(path, start, end)?;
        let block = compact::merge_into(&self.blocks, &sources, writer)?;
        Ok(Some(Merged {
            block,
            there,
            span: (start, end),
        }))
    }

    /// Puts the block of a day among the others.
    fn place(&mut self, day: Merged) -> io::Result<()> {
        let Merged { block, there, span } = day;
        let Some(block) = block else { return Ok(()) };
        let path = named(&self.blocks.folder, span.0, span.1, 0);
        if Block::is_newer(&path) {
            return Err(io::Error::other(format!(
                "{} was written by a newer nightbell",
                path.display()
            )));
        }
        fs::rename(block.path(), &path)?;
        File::open(&self.blocks.folder)?.sync_all()?;
        let block = Block::open(&path).map_err(io::Error::other)?;
        self.imported.blocks += 1;
        self.blocks.change(Some(block), &there, i64::MIN);
        let gone = there.iter().filter(|block| block.path() != path);
        gone.for_each(|block| remove(block.path()));
        Ok(())
    }
}

/// A day that was merged.
struct Merged {
    block: Option<Block>,
    /// What the block stands for.
    there: Vec<Arc<Block>>,
    span: (i64, i64),
}

impl Drop for Import {
    fn drop(&mut self) {
        // The next import empties it, where this one could not.
        let _ = fs::remove_dir_all(self.settings.path.join(FOLDER));
    }
}
