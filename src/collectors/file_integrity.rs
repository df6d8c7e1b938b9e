//! Files that should not change: which have changed, come or gone since the state that was
//! accepted, by their checksums.
//!
//! It reads only. Each version of a file is read through once, slowly, on a thread of its own; what
//! is known survives restarts. The first look is the accepted state. A deployment announces itself
//! by touching `accept_file`: what is there at the next look is accepted then.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::{ByteSize, Section};
use crate::model::MetricKind::{Counter, Gauge};
use crate::model::text::hex;
use crate::model::{Batch, Note};

use super::folder::{Folder, path_of};
use super::walk::{Walked, Wanted, walk};
use super::{CollectError, Collector, CollectorKind, Memory, Target};

/// The collector `file_integrity`.
pub const KIND: CollectorKind = CollectorKind {
    name: "file_integrity",
    about: "files that should not change: changed, new and gone ones, by checksum",
    metrics: &[METRICS],
    build,
};

metrics! {
    READABLE "file_integrity_readable" Gauge "" &[], "1 when the folder could be looked through, 0 when not.", "getdents(2), read(2)";
    FILES "file_integrity_files" Gauge "" &[], "Files that are watched.", "getdents(2)";
    CHANGED "file_integrity_changed_files" Gauge "" &[], "Files with other contents than the accepted ones.", "contents, SHA-256";
    NEW "file_integrity_new_files" Gauge "" &[], "Files that the accepted state does not have.", "getdents(2)";
    REMOVED "file_integrity_removed_files" Gauge "" &[], "Files of the accepted state that are gone.", "getdents(2)";
    UNREADABLE "file_integrity_unreadable_files" Gauge "" &[], "Files and folders that could not be read: whether they have changed is not known.", "nightbell";
    TRUNCATED "file_integrity_truncated" Gauge "" &[], "1 when there are more entries than max_entries: the rest is not watched.", "nightbell";
    ACCEPTED "file_integrity_accepted_timestamp_seconds" Gauge "seconds" &[], "When the state was accepted that files are compared with, Unix time.", "nightbell";
    LOOKED "file_integrity_last_look_timestamp_seconds" Gauge "seconds" &[], "When the files were last looked through, Unix time.", "nightbell";
    READ "file_integrity_read_bytes_total" Counter "bytes" &[], "Bytes read for checksums.", "nightbell";
    SAVED "file_integrity_saved" Gauge "" &[], "1 when the accepted state is on disk, so that a restart compares with the same.", "nightbell";
}

/// Files that an alert names.
const NAMED: usize = 5;
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// What the section says.
struct Settings {
    path: PathBuf,
    wanted: Wanted,
    /// Bytes that are read in a second at most.
    rate: u64,
    accept_file: Option<PathBuf>,
}

impl Settings {
    fn read(section: &Section<'_>) -> Self {
        Settings {
            path: path_of(section),
            wanted: Wanted::read(section, 20_000),
            rate: section.or("read_rate", ByteSize(20 << 20)).0.max(1),
            accept_file: section.get("accept_file"),
        }
    }
}

/// Which contents a file has: while these are the same, it is not read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Version {
    inode: u64,
    size: u64,
    /// Of the contents, and of the inode, which nobody can set back, in nanoseconds since 1970.
    written: i64,
    altered: i64,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Version {
            inode: metadata.ino(),
            size: metadata.size(),
            written: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            altered: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What is known across restarts.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    /// When the state was accepted, Unix seconds; `None` before the first look.
    accepted_at: Option<f64>,
    /// When `accept_file` was written at that time, in nanoseconds since 1970.
    announced: Option<i64>,
    /// The checksums that were accepted, by path from the folder.
    accepted: BTreeMap<String, String>,
    /// What the files are now.
    now: BTreeMap<String, (Version, String)>,
}

/// The thread's part: what it knows, and what it has read.
struct Work {
    settings: Settings,
    memory: Memory,
    kept: Option<Kept>,
    saved: bool,
    read: u64,
}

/// What a look found.
#[derive(Clone, Default)]
struct Found {
    files: usize,
    changed: Vec<String>,
    new: Vec<String>,
    removed: Vec<String>,
    unreadable: u64,
    beside: Walked,
    accepted_at: f64,
    at: f64,
    read: u64,
    saved: bool,
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let settings = Settings::read(section);
    let (path, every) = (
        settings.path.clone(),
        section.or("every", Duration::from_secs(300)),
    );
    let work = Work {
        settings,
        memory: target.memory.clone(),
        kept: None,
        saved: true,
        read: 0,
    };
    // The first look reads every file.
    Box::new(Integrity(
        Folder::new(KIND.name, target, path, every, work, Work::look).with_slow_first_look(),
    ))
}

struct Integrity(Folder<Work, Found>);

impl Collector for Integrity {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        self.0.collect(&READABLE, batch, Found::show).boxed()
    }

    fn address(&self) -> String {
        self.0.address()
    }
}

impl Work {
    /// Compares the folder with the accepted state.
    fn look(&mut self) -> io::Result<Found> {
        let mut kept = self.kept.take().unwrap_or_else(|| {
            let text = self.memory.load();
            text.and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default()
        });
        let found = self.compare(&mut kept);
        self.kept = Some(kept);
        found
    }

    fn compare(&mut self, kept: &mut Kept) -> io::Result<Found> {
        let mut files = Vec::new();
        let beside = walk(
            &self.settings.path,
            &self.settings.wanted,
            |path, metadata| files.push((path.to_owned(), Version::of(metadata))),
        )?;
        let (mut now, mut unreadable) = (BTreeMap::new(), beside.unreadable);
        for (path, version) in files {
            let name = path
                .strip_prefix(&self.settings.path)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            let known = kept.now.get(&name).filter(|(known, _)| *known == version);
            match known.map_or_else(
                || self.checksum(&path, version),
                |(_, checksum)| Ok(Some(checksum.clone())),
            ) {
                Ok(Some(checksum)) => drop(now.insert(name, (version, checksum))),
                // Somebody writes to it: the next look will see what it has become.
                Ok(None) => now.extend(kept.now.remove_entry(&name)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => {
                    unreadable += 1;
                    now.extend(kept.now.remove_entry(&name));
                }
            }
        }
        // Whatever time it now has: clocks differ, and are set.
        let announced = self
            .settings
            .accept_file
            .as_deref()
            .and_then(|file| file.metadata().ok())
            .map(|metadata| Version::of(&metadata).written);
        let is_accepted =
            kept.accepted_at.is_none() || (announced.is_some() && announced != kept.announced);
        let at = crate::model::Timestamp::now().seconds();
        if is_accepted {
            (kept.accepted_at, kept.announced) = (Some(at), announced);
            kept.accepted = now
                .iter()
                .map(|(name, (_, checksum))| (name.clone(), checksum.clone()))
                .collect();
        }
        if is_accepted || kept.now != now || !self.saved {
            kept.now = now;
            self.saved = serde_json::to_string(kept)
                .map_err(io::Error::other)
                .and_then(|text| self.memory.save(&text))
                .is_ok();
        }
        let mut found = Found {
            files: kept.now.len(),
            unreadable,
            beside,
            at,
            read: self.read,
            saved: self.saved,
            ..Found::default()
        };
        found.accepted_at = kept.accepted_at.unwrap_or(at);
        for (name, (_, checksum)) in &kept.now {
            match kept.accepted.get(name) {
                None => found.new.push(name.clone()),
                Some(accepted) if accepted != checksum => found.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        // What could not be reached this time is not gone.
        if !beside.is_truncated && beside.unreadable == 0 {
            found.removed = kept
                .accepted
                .keys()
                .filter(|name| !kept.now.contains_key(*name))
                .cloned()
                .collect();
        }
        Ok(found)
    }

    /// The checksum of a file; `None` when it is another version by the end.
    fn checksum(&mut self, path: &Path, version: Version) -> io::Result<Option<String>> {
        let (mut file, mut hash, mut piece) = (File::open(path)?, Sha256::new(), vec![0; PIECE]);
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                break;
            }
            self.read += count as u64;
            hash.update(&piece[..count]);
            if count == PIECE {
                std::thread::sleep(Duration::from_secs_f64(
                    count as f64 / self.settings.rate as f64,
                ));
            }
        }
        let is_same = Version::of(&file.metadata()?) == version;
        Ok(is_same.then(|| hex(&hash.finalize())))
    }
}

impl Found {
    fn show(&self, batch: &mut Batch) {
        let numbers = [
            (&FILES, self.files as f64),
            (&CHANGED, self.changed.len() as f64),
            (&NEW, self.new.len() as f64),
            (&REMOVED, self.removed.len() as f64),
            (&UNREADABLE, self.unreadable as f64),
            (&TRUNCATED, f64::from(u8::from(self.beside.is_truncated))),
            (&ACCEPTED, self.accepted_at),
            (&LOOKED, self.at),
            (&READ, self.read as f64),
            (&SAVED, f64::from(u8::from(self.saved))),
        ];
        numbers
            .into_iter()
            .for_each(|(desc, value)| batch.push(desc, &[], value));
        let kinds = [
            ("changed", &self.changed),
            ("new", &self.new),
            ("gone", &self.removed),
        ];
        let lines: Vec<String> = kinds
            .into_iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind}: {name}")))
            .take(NAMED)
            .collect();
        if !lines.is_empty() {
            let metrics = &[
                "file_integrity_changed_files",
                "file_integrity_new_files",
                "file_integrity_removed_files",
            ];
            batch.notes.push(Note {
                metrics,
                labels: Vec::new(),
                lines,
            });
        }
    }
}
