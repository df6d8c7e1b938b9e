//! The files of series that ended: opened at start, written, merged, and served beside the blocks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::info;

use super::block::Block;
use super::block_writer::BlockWriter;
use super::blocks::{Blocks, Snapshot, View, remove, set_aside};
use super::walk::Walk;
use crate::model::Matcher;
use crate::store::memory::series::Gathered;

use super::ended::{Ended, Until};

/// What the name of such a file ends with.
pub(super) const ENDED: &str = "ended";

/// Files with fewer series are small; so many of them become one.
const SMALL: u64 = 50_000;

const MANY: usize = 6;

impl Snapshot {
    /// Whether a block or such a file may hold samples in `from < timestamp <= to` of a series that
    /// passes.
    pub(in crate::store) fn may_hold(&self, matchers: &[Matcher], from: i64, to: i64) -> bool {
        self.within(from, to).next().is_some() || self.ended(matchers, from, to).next().is_some()
    }

    /// What is served of the blocks, then of the files, that may hold such samples.
    pub(in crate::store) fn views(
        &self,
        matchers: &[Matcher],
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = View> {
        // Up to the floor they stand in blocks, too.
        let after = self.floor.saturating_sub(1);
        let ended = self.ended(matchers, from, to).map(move |e| View {
            block: Arc::clone(&e.block),
            after,
            to: e.block.served().0,
        });
        self.within(from, to).cloned().chain(ended)
    }

    /// Whether the blocks and files that may hold samples in one span all may hold some in another.
    pub(in crate::store) fn is_within(
        &self,
        matchers: &[Matcher],
        (from, to): (i64, i64),
        (after, until): (i64, i64),
    ) -> bool {
        self.within(from, to)
            .all(|view| view.after < until && view.to > after)
            && self.ended(matchers, from, to).all(|ended| {
                ended.may_hold(matchers, after.max(self.floor.saturating_sub(1)), until)
            })
    }

    /// Files of ended series that may hold samples in `from < timestamp <= to` of a series that
    /// passes.
    pub(super) fn ended(
        &self,
        matchers: &[Matcher],
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = &Arc<Ended>> {
        let from = from.max(self.floor.saturating_sub(1));
        self.ended
            .iter()
            .filter(move |ended| ended.may_hold(matchers, from, to))
    }
}

impl Blocks {
    /// Opens the files of ended series; those that cannot be read are set aside, since the log
    /// holds their samples too.
    pub(super) fn open_ended(&self) -> io::Result<Until> {
        let (mut until, floor) = (Until::default(), self.snapshot().floor);
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != ENDED) {
                continue;
            }
            let opened = Block::open(&path).and_then(|block| {
                until.read(&block)?;
                Ended::open(Arc::new(block))
            });
            match opened {
                Ok(ended) if ended.block.last < floor => remove(&path),
                Ok(ended) => self.change_ended(Some(ended), &[]),
                Err(reason) => set_aside(&path, &reason, &self.metrics),
            }
        }
        until.times.sort_unstable();
        Ok(until)
    }

    /// A writer for a further file of ended series.
    pub(super) fn ended_writer(&self, start: i64, end: i64) -> io::Result<BlockWriter> {
        let snapshot = self.snapshot();
        let number =
            |ended: &Arc<Ended>| ended.block.path.file_stem()?.to_str()?.parse::<u64>().ok();
        let next = snapshot
            .ended
            .iter()
            .filter_map(number)
            .max()
            .map_or(1, |number| number + 1);
        BlockWriter::create_at(self.ended_path(next), start, end)
    }

    fn ended_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:08}.{ENDED}"))
    }

    /// Serves what was written.
    pub(super) fn add_ended(&self, block: Block, gone: &[Arc<Ended>]) -> io::Result<()> {
        let path = block.path.clone();
        let ended = Ended::open(Arc::new(block)).map_err(|reason| {
            remove(&path);
            io::Error::other(reason)
        })?;
        self.change_ended(Some(ended), gone);
        Ok(())
    }

    /// Many small files become one.
    pub(super) fn merge_ended(&self) -> io::Result<()> {
        let snapshot = self.snapshot();
        let is_small =
            |ended: &&Arc<Ended>| ended.block.series < SMALL && !ended.block.is_damaged();
        let small: Vec<Arc<Ended>> = snapshot.ended.iter().filter(is_small).cloned().collect();
        if small.len() < MANY {
            return Ok(());
        }
        let blocks: Vec<Arc<Block>> = small.iter().map(|ended| Arc::clone(&ended.block)).collect();
        let start = blocks
            .iter()
            .map(|block| block.start)
            .min()
            .unwrap_or_default();
        let end = blocks
            .iter()
            .map(|block| block.end)
            .max()
            .unwrap_or_default();
        let (mut writer, mut walk) = (self.ended_writer(start, end)?, Walk::new(self, &blocks)?);
        let mut samples = Gathered::default();
        while let Some(labels) = walk.peek().cloned() {
            samples.clear();
            walk.take(snapshot.floor.saturating_sub(1), i64::MAX, &mut samples)?;
            writer.add(&labels, samples.window())?;
        }
        if let Some(block) = writer.finish()? {
            self.add_ended(block, &small)?;
        }
        Ok(())
    }

    /// Bytes of the files of ended series.
    pub(super) fn ended_bytes(&self) -> u64 {
        self.snapshot()
            .ended
            .iter()
            .map(|ended| ended.block.bytes)
            .sum()
    }
}

/// Says what was written.
pub(super) fn written(block: &Block) {
    let path: &Path = &block.path;
    info!(file = %path.display(), block.series, block.samples, block.bytes, "Series that ended were written to disk; they leave memory.");
}
