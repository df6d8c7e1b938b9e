//! Series that ended and whose block is not due: their samples stand in files of the same form as
//! blocks until it is written.
//!
//! What stands there is in the log too, as long as no block holds it: such a file that is damaged
//! or lost costs nothing but the memory that its series take again after the next start.

use std::sync::Arc;

use super::block::Block;
use super::chunks::instants::Instants;
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher};

/// Series that ended, in a file.
#[derive(Debug)]
pub(in crate::store) struct Ended {
    pub(super) block: Arc<Block>,
    /// Hashes of the names of its metrics, sorted: most queries are for others.
    names: Box<[u32]>,
}

/// Any hash will do: two names of one hash cost a look into a file in vain.
fn hash(name: &str) -> u32 {
    crc32fast::hash(name.as_bytes())
}

impl Ended {
    pub(super) fn open(block: Arc<Block>) -> Result<Self, String> {
        let index = block.index()?;
        let mut names: Vec<u32> = index.metric_names().map(hash).collect();
        names.sort_unstable();
        names.dedup();
        Ok(Ended {
            block,
            names: names.into(),
        })
    }

    /// Whether it may hold samples in `from < timestamp <= to` of a series that passes.
    pub(super) fn may_hold(&self, matchers: &[Matcher], from: i64, to: i64) -> bool {
        let name = |matcher: &&Matcher| matcher.op == MatchOp::Equal && matcher.name == METRIC_NAME;
        self.block.first <= to
            && self.block.last > from
            && matchers
                .iter()
                .filter(name)
                .all(|matcher| self.names.binary_search(&hash(&matcher.value)).is_ok())
    }
}

/// Until when samples of which series stand in such files: the log, which holds them too, is read
/// past them.
#[derive(Debug, Default)]
pub(in crate::store) struct Until {
    /// Hash of the labels, and milliseconds; sorted.
    pub(super) times: Vec<(u64, i64)>,
    hasher: ahash::RandomState,
}

impl Until {
    /// Milliseconds of the newest sample of a series in such a file.
    pub(in crate::store) fn of(&self, labels: &Labels) -> i64 {
        if self.times.is_empty() {
            return i64::MIN;
        }
        let hash = self.hasher.hash_one(labels);
        let end = self.times.partition_point(|(other, _)| *other <= hash);
        self.times[..end]
            .last()
            .filter(|(other, _)| *other == hash)
            .map_or(i64::MIN, |(_, time)| *time)
    }

    pub(super) fn read(&mut self, block: &Block) -> Result<(), String> {
        let (index, instants) = (block.index()?, Instants::default());
        let mut position = super::block::Cursor::default();
        while let Some(series) = index.series_at(&mut position)? {
            // What cannot be read here comes from the log.
            if let Some(time) = block.newest(&index.columns, &instants, &series) {
                self.times
                    .push((self.hasher.hash_one(&series.labels), time));
            }
        }
        Ok(())
    }
}
