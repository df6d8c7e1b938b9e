//! The blocks on disk: which there are, in order; their indexes in a bounded cache; what is damaged
//! set aside; what is too old dropped.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tracing::{error, info, warn};

use super::block::{Block, Index};
use super::chunks::instants::Instants;
use super::chunks::runs::Runs;
use super::ended::Ended;
use super::log::recover::DAMAGED;
use super::metrics::Metrics;
use crate::store::memory::series::Gathered;

/// Bytes of indexes kept in memory.
const CACHE: usize = 3 << 20;

/// The blocks at one moment.
#[derive(Debug)]
pub(in crate::store) struct Snapshot {
    /// In order of time. They overlap only where the clock was set back.
    pub(super) blocks: Vec<Arc<Block>>,
    /// What is served of them, in order of time; these do not overlap.
    views: Vec<View>,
    /// Series that ended, with samples from the floor on; those may overlap, also with what memory
    /// holds.
    pub(super) ended: Vec<Arc<Ended>>,
    /// Samples before it are in blocks, those from it on in memory.
    pub(in crate::store) floor: i64,
}

impl Snapshot {
    fn new(mut blocks: Vec<Arc<Block>>, ended: Vec<Arc<Ended>>, floor: i64) -> Self {
        blocks.sort_by_key(|b| (b.start, b.first));
        Snapshot {
            views: views(&blocks),
            blocks,
            ended,
            floor,
        }
    }

    /// The blocks that may hold samples in `from < timestamp <= to`, with what is served of them.
    pub(in crate::store) fn within(&self, from: i64, to: i64) -> impl Iterator<Item = &View> {
        self.views
            .iter()
            .filter(move |view| view.after < to && view.to > from)
    }

    /// All files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.blocks
            .iter()
            .chain(self.ended.iter().map(|ended| &ended.block))
    }

    /// The newest sample that is served.
    pub(in crate::store) fn newest(&self) -> Option<i64> {
        self.views.last().map(|view| view.to)
    }
}

/// A part of a block: its samples in `after < timestamp <= to`.
#[derive(Clone, Debug)]
pub(in crate::store) struct View {
    pub(super) block: Arc<Block>,
    pub(super) after: i64,
    pub(super) to: i64,
}

/// What is served of each block: nothing of the future, and nothing where one that was written
/// later has samples of the same time.
fn views(blocks: &[Arc<Block>]) -> Vec<View> {
    let mut views: Vec<View> = Vec::with_capacity(blocks.len());
    let overlap = |a: &Block, b: &Block| a.first <= b.last && b.first <= a.last;
    for (number, block) in blocks.iter().enumerate() {
        let mut parts = vec![(block.first - 1, block.served().0)];
        let others = blocks
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != number)
            .map(|(other, b)| ((b.later, other), b));
        for (_, over) in
            others.filter(|(rank, b)| *rank > (block.later, number) && overlap(b, block))
        {
            let (from, to) = (over.first - 1, over.served().0);
            if to > from {
                parts = parts
                    .into_iter()
                    .flat_map(|(after, end)| [(after, end.min(from)), (after.max(to), end)])
                    .collect();
                parts.retain(|(after, end)| after < end);
            }
        }
        let served = parts.into_iter().filter(|(after, to)| after < to);
        views.extend(served.map(|(after, to)| View {
            block: Arc::clone(block),
            after,
            to,
        }));
    }
    views.sort_by_key(|view| view.after);
    views
}

/// Indexes that were used lately, by the number of their block.
#[derive(Debug, Default)]
struct Indexes {
    found: HashMap<u64, (u64, Arc<Index>), ahash::RandomState>,
    bytes: usize,
    /// Counts uses.
    now: u64,
}

impl Indexes {
    fn find(&mut self, number: u64) -> Option<Arc<Index>> {
        self.now += 1;
        let (used, index) = self.found.get_mut(&number)?;
        *used = self.now;
        Some(Arc::clone(index))
    }

    fn keep(&mut self, number: u64, index: &Arc<Index>) {
        self.forget(number);
        self.bytes += index.heap_size();
        self.found.insert(number, (self.now, Arc::clone(index)));
        while self.bytes > CACHE
            && let Some(oldest) = self.found.iter().min_by_key(|(_, (used, _))| *used)
        {
            let oldest = *oldest.0;
            self.forget(oldest);
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some((_, index)) = self.found.remove(&number) {
            self.bytes -= index.heap_size();
        }
    }
}

/// The folder of blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) folder: PathBuf,
    current: RwLock<Arc<Snapshot>>,
    /// What was before, as far as readers still hold it.
    replaced: Mutex<Vec<Weak<Snapshot>>>,
    cache: Mutex<Indexes>,
    pub(super) instants: Instants,
    pub(super) runs: Runs,
    pub(super) metrics: Metrics,
}

impl Blocks {
    /// Opens all blocks in the folder; those that cannot be are set aside. What lies after `now` is
    /// not served yet.
    pub(super) fn open(folder: PathBuf, now: i64, metrics: Metrics) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("tmp") => std::fs::remove_file(&path)?,
                Some("block") => match Block::open(&path) {
                    Ok(block) => found.push(Arc::new(block)),
                    Err(reason) => set_aside(&path, &reason, &metrics),
                },
                _ => {}
            }
        }
        // A larger block replaces those it was made from; a crash may have left them.
        found.sort_by_key(|b| (b.start, std::cmp::Reverse(b.end)));
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        for block in found {
            let is_part = |other: &&Arc<Block>| {
                other.later == block.later
                    && other.end >= block.end
                    && other.end - other.start > block.end - block.start
            };
            let Some(other) = blocks.last().filter(is_part) else {
                blocks.push(block);
                continue;
            };
            match other.index() {
                Ok(_) => remove(&block.path),
                Err(reason) => {
                    set_aside(&other.path, &reason, &metrics);
                    blocks.pop();
                    blocks.push(block);
                }
            }
        }
        let current = RwLock::new(Arc::new(Snapshot::new(blocks, Vec::new(), i64::MIN)));
        let (replaced, cache) = (Mutex::default(), Mutex::default());
        let blocks = Blocks {
            folder,
            current,
            replaced,
            cache,
            instants: Instants::default(),
            runs: Runs::default(),
            metrics,
        };
        blocks.turn_back(now);
        Ok(blocks)
    }

    /// What lies after `now` is not served until its time has come.
    pub(super) fn turn_back(&self, now: i64) {
        let mut current = self.current.write();
        for block in current.files().filter(|b| b.last > now) {
            block.until.fetch_min(now, Ordering::Relaxed);
        }
        let floor = current
            .blocks
            .iter()
            .map(|b| b.served().1)
            .max()
            .unwrap_or(i64::MIN);
        let next = Snapshot::new(current.blocks.clone(), current.ended.clone(), floor);
        self.replace(&mut current, next);
    }

    /// The end of the last block, whether its time has come or not.
    pub(super) fn end(&self) -> i64 {
        self.snapshot()
            .blocks
            .iter()
            .map(|b| b.end)
            .max()
            .unwrap_or(i64::MIN)
    }

    /// The end of the last block that waits for its time and ends before `now`.
    pub(super) fn waiting_until(&self, now: i64) -> Option<i64> {
        let snapshot = self.snapshot();
        let ready = snapshot
            .blocks
            .iter()
            .filter(|b| b.last <= now && b.until.load(Ordering::Relaxed) < b.last);
        ready
            .map(|b| b.end)
            .max()
            .map(|end| end.max(snapshot.floor))
    }

    /// Serves what waited and ends before `now`. From `floor` on samples are in memory.
    pub(super) fn serve(&self, now: i64, floor: i64) {
        let mut current = self.current.write();
        let ready = current.files().filter(|b| b.last <= now);
        ready.for_each(|b| b.until.store(i64::MAX, Ordering::Relaxed));
        let next = Snapshot::new(
            current.blocks.clone(),
            current.ended.clone(),
            floor.max(current.floor),
        );
        self.replace(&mut current, next);
    }

    /// The blocks now.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read())
    }

    /// What was before and is still held by readers.
    pub(super) fn replaced(&self) -> Vec<Weak<Snapshot>> {
        let mut replaced = self.replaced.lock();
        replaced.retain(|snapshot| snapshot.strong_count() > 0);
        replaced.clone()
    }

    /// Replaces the current snapshot.
    fn replace(&self, current: &mut Arc<Snapshot>, next: Snapshot) {
        let mut replaced = self.replaced.lock();
        replaced.retain(|snapshot| snapshot.strong_count() > 0);
        replaced.push(Arc::downgrade(current));
        *current = Arc::new(next);
    }

    /// Adds and removes blocks at once. `floor` never goes back.
    pub(super) fn change(&self, add: Option<Block>, gone: &[Arc<Block>], floor: i64) {
        let mut current = self.current.write();
        let mut blocks = current.blocks.clone();
        blocks.retain(|b| !gone.iter().any(|g| Arc::ptr_eq(b, g)));
        blocks.extend(add.map(Arc::new));
        let floor = floor.max(current.floor);
        // What ended before the floor is in a block now.
        let (ended, over): (Vec<_>, Vec<_>) = current
            .ended
            .iter()
            .cloned()
            .partition(|ended| ended.block.last >= floor);
        self.forget(gone.iter().chain(over.iter().map(|ended| &ended.block)));
        self.replace(&mut current, Snapshot::new(blocks, ended, floor));
        over.iter().for_each(|ended| remove(&ended.block.path));
    }

    /// Adds and removes files of ended series at once.
    pub(super) fn change_ended(&self, add: Option<Ended>, gone: &[Arc<Ended>]) {
        let mut current = self.current.write();
        let mut ended = current.ended.clone();
        ended.retain(|ended| !gone.iter().any(|gone| Arc::ptr_eq(ended, gone)));
        ended.extend(add.map(Arc::new));
        ended.sort_by_key(|ended| (ended.block.first, ended.block.last));
        self.forget(gone.iter().map(|ended| &ended.block));
        let next = Snapshot::new(current.blocks.clone(), ended, current.floor);
        self.replace(&mut current, next);
        gone.iter().for_each(|ended| remove(&ended.block.path));
    }

    /// Takes the indexes of files that are gone out of the cache.
    fn forget<'a>(&self, gone: impl Iterator<Item = &'a Arc<Block>>) {
        let mut cache = self.cache.lock();
        gone.for_each(|block| cache.forget(block.number()));
    }

    /// Lets the disk fetch what will be read of these blocks, all at once, unless their indexes are
    /// in the cache.
    pub(super) fn announce<'a>(&self, blocks: impl Iterator<Item = &'a Arc<Block>>) {
        let unknown = |block: &&Arc<Block>| !self.cache.lock().found.contains_key(&block.number());
        blocks
            .filter(unknown)
            .for_each(|block| block.announce_index());
    }

    /// The index of a block, from the cache or the disk; a block whose index is damaged is set
    /// aside.
    pub(super) fn index(&self, block: &Arc<Block>) -> Option<Arc<Index>> {
        if let Some(index) = self.cache.lock().find(block.number()) {
            return Some(index);
        }
        match block.index() {
            Ok(index) => {
                let index = Arc::new(index);
                self.cache.lock().keep(block.number(), &index);
                Some(index)
            }
            Err(reason) => {
                self.set_aside(block, &reason);
                None
            }
        }
    }

    /// Stops serving a block and renames it.
    pub(super) fn set_aside(&self, block: &Arc<Block>, reason: &str) {
        let known = self.snapshot().blocks.iter().any(|b| Arc::ptr_eq(b, block));
        if known {
            self.change(None, std::slice::from_ref(block), i64::MIN);
            set_aside(&block.path, reason, &self.metrics);
        }
        let ended = self
            .snapshot()
            .ended
            .iter()
            .find(|ended| Arc::ptr_eq(&ended.block, block))
            .cloned();
        if let Some(ended) = ended {
            // Before its name goes: the log holds these samples too, and the next start takes them
            // from there.
            set_aside(&block.path, reason, &self.metrics);
            self.change_ended(None, &[ended]);
        }
    }

    /// Deletes blocks that end before `before`, then the oldest ones until all takes at most `most`
    /// bytes beside `others`. Gives back the bytes of blocks and of what was set aside.
    pub(super) fn retain(
        &self,
        before: i64,
        most: Option<u64>,
        others: u64,
        folders_aside: &[&Path],
    ) -> u64 {
        let mut bytes = others;
        let aside: Vec<Aside> = folders_aside
            .iter()
            .flat_map(|folder| files_aside(folder))
            .collect();
        bytes += aside.iter().map(|file| file.bytes).sum::<u64>();
        let blocks = self.snapshot().blocks.clone();
        bytes += blocks.iter().map(|b| b.bytes).sum::<u64>();
        let over = |bytes: u64| most.is_some_and(|most| bytes > most);
        for file in &aside {
            if over(bytes) || file.modified <= before {
                remove(&file.path);
                bytes -= file.bytes;
            }
        }
        let mut gone = Vec::new();
        for block in blocks {
            let old = block.end <= before;
            if old || over(bytes) {
                bytes -= block.bytes;
                info!(block = %block.path.display(), reason = if old { "age" } else { "size" }, "Block dropped.");
                gone.push(block);
            }
        }
        if !gone.is_empty() {
            self.change(None, &gone, i64::MIN);
            gone.iter().for_each(|b| remove(&b.path));
        }
        bytes - others
    }

    /// Reads all chunks of one block that was not read since the start, the newest first, so that
    /// damage is known before it is needed.
    pub(super) fn verify_one(&self) {
        let snapshot = self.snapshot();
        let Some(block) = snapshot
            .blocks
            .iter()
            .rev()
            .find(|b| !b.verified.swap(true, Ordering::Relaxed))
        else {
            return;
        };
        // Not through the cache: it is for queries.
        let index = match block.index() {
            Ok(index) => index,
            Err(reason) => return self.set_aside(block, &reason),
        };
        let Some(series) = index.select(&[], |labels| labels) else {
            return self.set_aside(block, "its index cannot be decoded");
        };
        let (instants, mut samples) = (Instants::default(), Gathered::default());
        for series in series.iter() {
            samples.clear();
            self.lost(
                block,
                block.read(
                    &index.columns,
                    &instants,
                    series,
                    (i64::MIN, i64::MAX),
                    &mut samples,
                ),
            );
        }
    }

    /// Counts chunks that could not be read; the first ones of a block are logged.
    pub(super) fn lost(&self, block: &Block, chunks: u64) {
        if chunks > 0 {
            warn!(block = %block.path.display(), chunks, "A block is damaged in places; those samples are missing, the rest is served.");
            (0..chunks).for_each(|_| self.metrics.damaged("chunk"));
        }
    }
}

/// Renames a file that is not what it should be; one of a newer nightbell stays for that.
pub(super) fn set_aside(path: &Path, reason: &str, metrics: &Metrics) {
    if Block::is_newer(path) {
        error!(block = %path.display(), "A block was written by a newer nightbell; it stays as it is, and its samples are not served.");
        return;
    }
    metrics.damaged("block");
    match std::fs::rename(path, name_aside(path)) {
        Ok(()) => warn!(block = %path.display(), reason, "A block is damaged and was set aside."),
        Err(error) => {
            error!(block = %path.display(), reason, %error, "A block is damaged and cannot be set aside.")
        }
    }
}

/// Gives a block that is about to be written anew without its damaged chunks a second name, under
/// which it stays.
pub(super) fn keep_aside(path: &Path, metrics: &Metrics) -> io::Result<()> {
    match std::fs::hard_link(path, name_aside(path)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => {}
        Ok(()) => {
            metrics.damaged("block");
            warn!(block = %path.display(), "Chunks of a block are damaged: it is set aside, and written anew without them.");
        }
    }
    Ok(())
}

fn name_aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(DAMAGED);
    PathBuf::from(name)
}

/// Deletes a file that is no longer needed.
pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        error!(file = %path.display(), %error, "A file of the history cannot be deleted.");
    }
}

/// A file that was set aside.
struct Aside {
    path: PathBuf,
    bytes: u64,
    /// Milliseconds since the epoch.
    modified: i64,
}

fn files_aside(folder: &Path) -> Vec<Aside> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let read = |entry: std::fs::DirEntry| {
        let (path, data) = (entry.path(), entry.metadata().ok()?);
        let age = data
            .modified()
            .ok()?
            .duration_since(std::time::UNIX_EPOCH)
            .ok()?;
        (path.extension()? == DAMAGED).then_some(Aside {
            path,
            bytes: data.len(),
            modified: i64::try_from(age.as_millis()).ok()?,
        })
    };
    let mut found: Vec<Aside> = entries.flatten().filter_map(read).collect();
    found.sort_by_key(|file| file.modified);
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::model::Labels;
    use crate::store::Window;
    use crate::store::history::BlockWriter;

    /// What a query over many blocks holds of them does not grow with their indexes.
    #[test]
    fn a_query_over_many_blocks_holds_no_more_indexes_than_the_cache_may() {
        let folder = tempfile::tempdir().expect("a folder");
        let blocks =
            Blocks::open(folder.path().to_owned(), i64::MAX, Metrics::default()).expect("opens");
        for number in 0..12 {
            let (start, times) = (number * 1000, [number * 1000, number * 1000 + 500]);
            let mut writer =
                BlockWriter::create(folder.path(), start, start + 1000).expect("a file");
            for series in 0..9000 {
                let path = format!("/a/rather/long/path/{series:05}");
                let labels = Labels::from_pairs([("__name__", "m"), ("path", &path)]);
                let window = Window {
                    times: &times,
                    values: &[series as f64, number as f64],
                    histograms: &[],
                };
                writer.add(&labels, window).expect("written");
            }
            blocks.change(writer.finish().expect("written"), &[], start + 1000);
        }
        let snapshot = blocks.snapshot();
        let mut indexes: Vec<Weak<Index>> = Vec::new();
        let mut held = Vec::new();
        for View { block, .. } in snapshot.within(0, i64::MAX) {
            let index = blocks.index(block).expect("readable");
            assert!(index.heap_size() > CACHE / 8, "{} bytes", index.heap_size());
            let found = index
                .select(
                    &[crate::model::Matcher::equal(
                        "path",
                        "/a/rather/long/path/00777",
                    )],
                    |labels| labels,
                )
                .expect("decodes");
            assert_eq!(found.len(), 1);
            held.push((Arc::clone(block), Arc::clone(&index.columns), found));
            indexes.push(Arc::downgrade(&index));
        }
        let alive: usize = indexes
            .iter()
            .filter_map(Weak::upgrade)
            .map(|index| index.heap_size())
            .sum();
        assert!(
            alive <= CACHE,
            "{alive} bytes of indexes for {} blocks",
            held.len()
        );
        let mut samples = Gathered::default();
        for (block, columns, found) in &held {
            assert_eq!(
                block.read(
                    columns,
                    &blocks.instants,
                    &found[0],
                    (i64::MIN, i64::MAX),
                    &mut samples
                ),
                0
            );
        }
        assert_eq!(
            (samples.times.len(), samples.values[22], samples.values[23]),
            (24, 777.0, 11.0)
        );
    }
}
