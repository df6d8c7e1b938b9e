//! The folder of a user's jobs: locks, and reports that could not be delivered yet, one file each.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use crate::collectors::job::Report;

/// Reports that wait at most, and the largest, in bytes.
const MAX_WAITING: usize = 200;
const MAX_REPORT: u64 = 16 << 10;
/// So much of a job's name stands in a file's name, in bytes; a hash tells names apart.
const MAX_NAME: usize = 60;

/// A report that waits.
#[derive(Serialize, Deserialize)]
pub struct Waiting {
    /// The job.
    pub name: String,
    /// The nightbell that it is for.
    pub url: String,
    /// What it says.
    pub report: Report,
}

/// Why there is no lock.
pub enum LockError {
    /// Another run has it.
    Taken,
    /// It cannot be made.
    Unusable(String),
}

/// A lock; the command inherits it, so that it is held until both have ended.
pub struct Lock(#[expect(dead_code, reason = "it is held until it is dropped")] File);

/// The folder, where one is known.
#[derive(Clone)]
pub struct Folder(Option<PathBuf>);

impl Folder {
    /// The one that is given, or the user's own.
    pub fn find(given: Option<&Path>) -> Self {
        let set = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = || set("HOME").map(|home| home.join(".local/state"));
        let own = || Some(set("XDG_STATE_HOME").or_else(home)?.join("nightbell/jobs"));
        Folder(given.map(Path::to_owned).or_else(own))
    }

    fn make(&self) -> io::Result<&Path> {
        let folder = self
            .0
            .as_deref()
            .ok_or_else(|| io::Error::other("HOME is not set, so no folder is known"))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        Ok(folder)
    }

    /// Takes the lock of a job.
    pub fn lock(&self, name: &str) -> Result<Lock, LockError> {
        let take = || -> io::Result<Option<Lock>> {
            let path = self.make()?.join(format!("{}.lock", file_name(name)));
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path);
            let file = file.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            fcntl_setfd(&file, FdFlags::empty())?;
            Ok(Some(Lock(file)))
        };
        match take() {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(LockError::Taken),
            Err(error) => Err(LockError::Unusable(error.to_string())),
        }
    }

    /// Keeps a report for the next run. Of too many the oldest is given up.
    pub fn keep(&self, waiting: &Waiting) -> io::Result<()> {
        let folder = self.make()?;
        let all = self.list();
        for path in all.iter().take((all.len() + 1).saturating_sub(MAX_WAITING)) {
            fs::remove_file(path)?;
        }
        let id: String = waiting
            .report
            .id
            .iter()
            .flat_map(|id| id.chars())
            .filter(char::is_ascii_alphanumeric)
            .take(40)
            .collect();
        let path = folder.join(format!("{id}-{}.report", file_name(&waiting.name)));
        let part = path.with_extension("part");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)?;
        let written = file
            .write_all(&serde_json::to_vec(waiting)?)
            .and_then(|()| fs::rename(&part, &path));
        if written.is_err() {
            // What is half written takes room on a disk that may be full.
            let _ = fs::remove_file(&part);
        }
        written
    }

    /// The reports that wait, oldest first: their names begin with the time.
    pub fn list(&self) -> Vec<PathBuf> {
        let Some(entries) = self
            .0
            .as_deref()
            .and_then(|folder| fs::read_dir(folder).ok())
        else {
            return Vec::new();
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "report"))
            .collect();
        found.sort();
        found
    }
}

/// Reads a report that waits; one that is none is removed.
pub fn read(path: &Path) -> Option<Waiting> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(MAX_REPORT)
        .read_to_string(&mut text)
        .ok()?;
    let read = serde_json::from_str(&text).ok();
    if read.is_none() {
        let _ = fs::remove_file(path);
    }
    read
}

fn file_name(name: &str) -> String {
    let mut safe: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    safe.truncate(MAX_NAME);
    format!("{safe}-{:016x}", xxh64(name.as_bytes(), 0))
}
