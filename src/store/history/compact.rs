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

/// Bytes of indexes of blocks that become one at once: they, and that of the new one, are in memory
/// until the end. Where a span has more of them, it takes several steps, of two blocks at least.
const ROOM: u64 = 48 << 20;

/// How long one upkeep merges: what was fed in at once is merged as fast as the disk takes it, and
/// blocks of the present are written on time nevertheless.
const AT_ONCE: Duration = Duration::from_secs(40);

/// Merges blocks as long as there are some whose time is over.
pub(super) fn compact(blocks: &Blocks, metrics: &Metrics) -> io::Result<()> {
    let begin = Instant::now();
    while compact_one(blocks, metrics, ROOM)? && begin.elapsed() < AT_ONCE {}
    Ok(())
}

/// Merges one group of blocks; `false` when there is none.
fn compact_one(blocks: &Blocks, metrics: &Metrics, room: u64) -> io::Result<bool> {
    let snapshot = blocks.snapshot();
    let found = match snapshot
        .blocks
        .iter()
        .find(|b| b.damaged.load(Ordering::Relaxed))
    {
        Some(block) => Some((block.start, block.end, vec![Arc::clone(block)])),
        None => LEVELS
            .iter()
            .find_map(|length| group(&snapshot.blocks, *length, snapshot.floor, room)),
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

/// The first span of this length that is over and holds several smaller blocks, or as many of them
/// in a row as there is room for.
fn group(
    blocks: &[Arc<Block>],
    length: i64,
    floor: i64,
    room: u64,
) -> Option<(i64, i64, Vec<Arc<Block>>)> {
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
            if group.len() < 2 || !whole || start + length > floor {
                return None;
            }
            let chosen = fitting(group, room);
            let sources: Vec<Arc<Block>> = chosen.iter().map(|b| Arc::clone(b)).collect();
            if chosen.len() == group.len() {
                return Some((start, start + length, sources));
            }
            Some((chosen[0].start, chosen[chosen.len() - 1].end, sources))
        })
}

/// Neighbours whose indexes take the least room, as many as fit; two at least.
fn fitting<'a>(group: &'a [&'a Arc<Block>], room: u64) -> &'a [&'a Arc<Block>] {
    let bytes = |part: &[&Arc<Block>]| part.iter().map(|b| b.index_length()).sum::<u64>();
    let pairs = 0..group.len() - 1;
    let mut from = pairs
        .min_by_key(|at| bytes(&group[*at..at + 2]))
        .unwrap_or(0);
    let mut to = from + 2;
    while to < group.len() && bytes(&group[from..=to]) <= room {
        to += 1;
    }
    while from > 0 && bytes(&group[from - 1..to]) <= room {
        from -= 1;
    }
    &group[from..to]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use crate::store::Window;

    const HALF_HOUR: i64 = 1_800_000;

    /// Blocks with very many series become one like others, in more steps.
    #[test]
    fn blocks_with_large_indexes_become_one_step_by_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let blocks = Blocks::open(folder.path().to_owned(), i64::MAX, Metrics::default());
        let blocks = blocks.expect("opens");
        for number in 0..8 {
            let start = number * HALF_HOUR;
            let end = start + HALF_HOUR;
            let mut writer = BlockWriter::create(folder.path(), start, end).expect("a file");
            for series in 0..=number {
                let labels = Labels::from_pairs([("__name__", "m"), ("i", &series.to_string())]);
                let window = Window {
                    times: &[start, end - 1],
                    values: &[number as f64, series as f64],
                    histograms: &[],
                };
                writer.add(&labels, window).expect("written");
            }
            blocks.change(writer.finish().expect("written"), &[], end);
        }
        let (mut steps, mut widest) = (0, 0);
        while compact_one(&blocks, &Metrics::default(), 1).expect("merges") {
            let count = blocks.snapshot().blocks.len();
            widest = widest.max(8 - steps - count);
            steps = 8 - count;
        }
        assert_eq!((steps, widest), (7, 1), "two become one each time");
        let snapshot = blocks.snapshot();
        let block = &snapshot.blocks[0];
        assert_eq!((block.start, block.end), (0, 8 * HALF_HOUR));
        assert_eq!((block.series, block.samples), (8, 2 * 36));
        let files = std::fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(files, 1);
    }
}
