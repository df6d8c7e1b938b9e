//! Several blocks become one: fewer files to look into, longer chunks, and a block that was damaged
//! in places is written anew without them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::block::Block;
use super::block_writer::BlockWriter;
use super::blocks::{Blocks, keep_aside, remove, set_aside};
use super::metrics::Metrics;
use super::walk::Walk;
use crate::store::memory::series::Gathered;

/// Milliseconds that larger blocks span; each begins at a multiple of its length.
const LEVELS: [i64; 2] = [4 * 3_600_000, 24 * 3_600_000];

/// Most series of blocks that become one: what is written of each is in memory until the end.
const MOST_SERIES: u64 = 400_000;

/// How long one upkeep merges: what was fed in at once is merged as fast as the disk takes it, and
/// blocks of the present are written on time nevertheless.
const AT_ONCE: Duration = Duration::from_secs(40);

/// Merges blocks as long as there are some whose time is over.
pub(super) fn compact(blocks: &Blocks, metrics: &Metrics) -> io::Result<()> {
    let begin = Instant::now();
    while compact_one(blocks, metrics)? && begin.elapsed() < AT_ONCE {}
    Ok(())
}

/// Merges one group of blocks; `false` when there is none.
fn compact_one(blocks: &Blocks, metrics: &Metrics) -> io::Result<bool> {
    let snapshot = blocks.snapshot();
    let found = match snapshot
        .blocks
        .iter()
        .find(|b| b.damaged.load(Ordering::Relaxed))
    {
        Some(block) => Some((block.start, block.end, vec![Arc::clone(block)])),
        None => LEVELS
            .iter()
            .find_map(|length| group(&snapshot.blocks, *length, snapshot.floor)),
    };
    let Some((start, end, sources)) = found else {
        return Ok(false);
    };
    let repair = sources.len() == 1;
    // A repaired block takes the name of the one it replaces, which therefore gets a second name
    // first; readers have the file open.
    if repair {
        keep_aside(&sources[0].path, metrics)?;
    }
    let merged = merge(blocks, &sources, start, end)?;
    info!(
        blocks = sources.len(),
        samples = merged.as_ref().map_or(0, |b| b.samples),
        bytes = merged.as_ref().map_or(0, |b| b.bytes),
        "Blocks merged."
    );
    if repair && merged.is_none() {
        remove(&sources[0].path);
    }
    blocks.change(merged, &sources, i64::MIN);
    for source in sources.iter().filter(|_| !repair) {
        if source.damaged.load(Ordering::Relaxed) {
            set_aside(
                &source.path,
                "chunks in it are damaged; the others are in a larger block",
                metrics,
            );
        } else {
            remove(&source.path);
        }
    }
    Ok(true)
}

/// The first span of this length that is over and holds several smaller blocks.
fn group(blocks: &[Arc<Block>], length: i64, floor: i64) -> Option<(i64, i64, Vec<Arc<Block>>)> {
    let window = |b: &Block| b.start.div_euclid(length);
    let overlap = |a: &Block, b: &Block| !std::ptr::eq(a, b) && a.start < b.end && b.start < a.end;
    let alone = |b: &Block| b.later == 0 && !blocks.iter().any(|other| overlap(other, b));
    let small: Vec<&Arc<Block>> = blocks
        .iter()
        .filter(|b| b.end - b.start < length && alone(b))
        .collect();
    small
        .chunk_by(|a, b| window(a) == window(b))
        .find_map(|group| {
            let start = window(group[0]) * length;
            // Where the clock was set back, blocks may reach beyond the span, or others may lie in it.
            let whole = Block::overlapping(blocks, start, start + length) == group.len()
                && group.iter().all(|b| b.end <= start + length);
            let fits = group.iter().map(|b| b.series).sum::<u64>() <= MOST_SERIES;
            (group.len() > 1 && whole && fits && start + length <= floor).then(|| {
                (
                    start,
                    start + length,
                    group.iter().map(|b| Arc::clone(b)).collect(),
                )
            })
        })
}

/// Makes one block of several, in order of time; where they overlap the first has precedence.
pub(super) fn merge(
    blocks: &Blocks,
    sources: &[Arc<Block>],
    start: i64,
    end: i64,
) -> io::Result<Option<Block>> {
    let writer = BlockWriter::create(&blocks.folder, start, end)?;
    merge_into(blocks, sources, writer)
}

/// The same by a writer.
pub(super) fn merge_into(
    blocks: &Blocks,
    sources: &[Arc<Block>],
    mut writer: BlockWriter,
) -> io::Result<Option<Block>> {
    let mut walk = Walk::new(blocks, sources)?;
    let mut samples = Gathered::default();
    while let Some(labels) = walk.peek().cloned() {
        samples.clear();
        walk.take(i64::MIN, i64::MAX, &mut samples)?;
        writer.add(&labels, samples.window())?;
    }
    writer
        .finish()
        .inspect_err(|error| error!(%error, "A merged block cannot be written."))
}
