//! A folder: how large it is, how many files it holds, and how old the newest and the oldest are.
//!
//! It reads names, sizes and times alone, never contents; links are not followed and other file
//! systems not entered. The walk runs on a thread of its own, seldom and with a bound on entries: a
//! folder of millions of files costs no more than one of a hundred thousand, and a file system that
//! hangs holds up this thread and nothing else.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::config::{ByteSize, Section};
use crate::model::Batch;
use crate::model::MetricKind::Gauge;

use super::folder::{Folder, path_of};
use super::walk::{Walked, Wanted, walk};
use super::{CollectError, Collector, CollectorKind, Target};

/// The collector `directory`.
pub const KIND: CollectorKind = CollectorKind {
    name: "directory",
    about: "folders: size, number of files, age of the newest and the oldest",
    metrics: &[METRICS],
    build,
};

metrics! {
    READABLE "directory_readable" Gauge "" &[], "1 when the folder could be looked through, 0 when not.", "getdents(2), lstat(2)";
    SIZE "directory_size_bytes" Gauge "bytes" &[], "Sum of the sizes of its files, each counted once however many names it has.", "lstat(2) st_size";
    USED "directory_used_bytes" Gauge "bytes" &[], "What they take on disk.", "lstat(2) st_blocks";
    FILES "directory_files" Gauge "" &[], "Files in it, those of sub-folders included.", "getdents(2)";
    FOLDERS "directory_folders" Gauge "" &[], "Sub-folders in it.", "getdents(2)";
    NEWEST "directory_newest_timestamp_seconds" Gauge "seconds" &[], "When the newest file was last written, Unix time; absent when there is none.", "lstat(2) st_mtime";
    OLDEST "directory_oldest_timestamp_seconds" Gauge "seconds" &[], "When the oldest file was last written, Unix time; absent when there is none.", "lstat(2) st_mtime";
    UNREADABLE "directory_unreadable_entries" Gauge "" &[], "Entries that could not be looked at: their sizes are missing.", "nightbell";
    TRUNCATED "directory_truncated" Gauge "" &[], "1 when there are more entries than max_entries: all numbers are too small.", "nightbell";
    LOOKED "directory_last_look_timestamp_seconds" Gauge "seconds" &[], "When it was last looked through, Unix time.", "nightbell";
    TOOK "directory_look_duration_seconds" Gauge "seconds" &[], "How long that took.", "nightbell";
    SIZE_MAX "directory_size_max_bytes" Gauge "bytes" &[], "Size above which an alert fires (max_size).", "configuration";
    AGE_MAX "directory_newest_max_age_seconds" Gauge "seconds" &[], "Age of the newest file above which an alert fires (max_age).", "configuration";
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let path = path_of(section);
    let work = (path.clone(), Wanted::read(section, 100_000));
    let every = section.or("every", Duration::from_secs(300));
    Box::new(Directory {
        folder: Folder::new(KIND.name, target, path, every, work, |(path, wanted)| {
            measure(path, wanted)
        }),
        max_size: section.get::<ByteSize>("max_size").map(|size| size.0),
        max_age: section.get("max_age"),
    })
}

struct Directory {
    folder: Folder<(PathBuf, Wanted), Found>,
    max_size: Option<u64>,
    max_age: Option<Duration>,
}

/// What a look found.
#[derive(Clone, Debug, Default)]
struct Found {
    size: u64,
    used: u64,
    files: u64,
    newest: Option<f64>,
    oldest: Option<f64>,
    beside: Walked,
    at: f64,
    took: Duration,
}

impl Collector for Directory {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        let limits = [
            (&SIZE_MAX, self.max_size.map(|bytes| bytes as f64)),
            (&AGE_MAX, self.max_age.map(|age| age.as_secs_f64())),
        ];
        for (desc, limit) in limits {
            limit
                .into_iter()
                .for_each(|limit| batch.push(desc, &[], limit));
        }
        self.folder.collect(&READABLE, batch, Found::show).boxed()
    }

    fn address(&self) -> String {
        self.folder.address()
    }
}

impl Found {
    fn show(&self, batch: &mut Batch) {
        let numbers = [
            (&SIZE, self.size as f64),
            (&USED, self.used as f64),
            (&FILES, self.files as f64),
            (&FOLDERS, self.beside.folders as f64),
            (&UNREADABLE, self.beside.unreadable as f64),
            (&TRUNCATED, f64::from(u8::from(self.beside.is_truncated))),
            (&LOOKED, self.at),
            (&TOOK, self.took.as_secs_f64()),
        ];
        numbers
            .into_iter()
            .for_each(|(desc, value)| batch.push(desc, &[], value));
        for (desc, time) in [(&NEWEST, self.newest), (&OLDEST, self.oldest)] {
            time.into_iter()
                .for_each(|time| batch.push(desc, &[], time));
        }
    }

    fn add(&mut self, metadata: &Metadata, seen: &mut HashSet<(u64, u64)>) {
        self.files += 1;
        let written = metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9;
        self.newest = Some(self.newest.map_or(written, |newest| newest.max(written)));
        self.oldest = Some(self.oldest.map_or(written, |oldest| oldest.min(written)));
        if metadata.nlink() < 2 || seen.insert((metadata.dev(), metadata.ino())) {
            self.size += metadata.size();
            // In units of 512 bytes, whatever the file system's blocks are.
            self.used += metadata.blocks() * 512;
        }
    }
}

/// Looks through the folder once.
fn measure(root: &Path, wanted: &Wanted) -> io::Result<Found> {
    let begun = Instant::now();
    let (mut found, mut seen) = (Found::default(), HashSet::new());
    let beside = walk(root, wanted, |_, metadata| found.add(metadata, &mut seen))?;
    found.beside = beside;
    found.at = crate::model::Timestamp::now().seconds();
    found.took = begun.elapsed();
    Ok(found)
}
