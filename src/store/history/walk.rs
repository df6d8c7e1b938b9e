//! Going through the series of several blocks at once, in the order of a block, with little of each
//! in memory.

use std::io;
use std::sync::Arc;

use super::block::{Block, Cursor, Index, Located};
use super::block_writer::order;
use super::blocks::Blocks;
use super::chunks::instants::Instants;
use crate::model::Labels;
use crate::store::memory::series::Gathered;

/// A block, and the series of it that comes next.
struct Source {
    block: Arc<Block>,
    index: Index,
    position: Cursor,
    next: Option<Located>,
}

/// The series of several blocks, each once.
pub(in crate::store) struct Walk<'a> {
    blocks: &'a Blocks,
    sources: Vec<Source>,
    instants: Instants,
}

impl<'a> Walk<'a> {
    /// Begins; blocks are in order of time. One whose index is damaged is set aside, and that is an
    /// error.
    pub(super) fn new(blocks: &'a Blocks, from: &[Arc<Block>]) -> io::Result<Self> {
        let open = |block: &Arc<Block>| {
            let index = block.index()?;
            let mut position = Cursor::default();
            let next = index.series_at(&mut position)?;
            Ok(Source {
                block: Arc::clone(block),
                index,
                position,
                next,
            })
        };
        let sources = from
            .iter()
            .map(|block| open(block).map_err(|reason| set_aside(blocks, block, reason)));
        Ok(Walk {
            blocks,
            sources: sources.collect::<io::Result<_>>()?,
            instants: Instants::default(),
        })
    }

    /// The series that comes next.
    pub(in crate::store) fn peek(&self) -> Option<&Labels> {
        let next = self
            .sources
            .iter()
            .filter_map(|source| source.next.as_ref());
        next.map(|located| &located.labels)
            .min_by(|a, b| order(a, b))
    }

    /// Appends the samples with `from < timestamp <= to` of the series that comes next, and goes on
    /// to the one after it.
    pub(in crate::store) fn take(
        &mut self,
        from: i64,
        to: i64,
        samples: &mut Gathered,
    ) -> io::Result<()> {
        let Some(labels) = self.peek().cloned() else {
            return Ok(());
        };
        for Source {
            block,
            index,
            position,
            next,
        } in &mut self.sources
        {
            let Some(located) = next.take_if(|located| located.labels == labels) else {
                continue;
            };
            let known = block.is_damaged();
            let lost = block.read(
                &index.columns,
                &self.instants,
                &located,
                (from, to),
                samples,
            );
            if !known {
                self.blocks.lost(block, lost);
            }
            *next = index
                .series_at(position)
                .map_err(|reason| set_aside(self.blocks, block, reason))?;
        }
        samples.order();
        Ok(())
    }
}

fn set_aside(blocks: &Blocks, block: &Arc<Block>, reason: String) -> io::Error {
    blocks.set_aside(block, &reason);
    io::Error::other(reason)
}
