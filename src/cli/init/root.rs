//! The file system that is looked at: only read, below one folder, for a bounded time, entries and
//! bytes.
//!
//! Links are not followed: one that leads out of the folder, or in a circle, leads nowhere here.

use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// Entries of folders that are looked at, at most.
const MAX_ENTRIES: u64 = 200_000;
/// Bytes of files that are read, at most.
const MAX_BYTES: u64 = 64 << 20;

/// The file system below a folder.
pub struct Root {
    path: PathBuf,
    deadline: Instant,
    entries: AtomicU64,
    bytes: AtomicU64,
    is_cut: AtomicBool,
    /// What is being looked at, for people who wait.
    stage: Mutex<&'static str>,
}

/// An entry of a folder.
pub struct Entry {
    /// Its path as it is within the root.
    pub path: PathBuf,
    /// Its name; a name that is no text is left out.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Whether it is a file that can be read without waiting.
    pub is_file: bool,
    /// Its bytes.
    pub size: u64,
    /// How long ago it was written.
    pub age: Duration,
    /// When it was written.
    pub written: SystemTime,
}

impl Root {
    /// Looks below `path` until the time is over.
    pub fn new(path: &Path, patience: Duration) -> Self {
        Root {
            path: path.to_owned(),
            deadline: Instant::now() + patience,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            stage: Mutex::new("this machine"),
        }
    }

    /// Whether this is the machine's own root.
    pub fn is_machine(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Where a path of the root is for this process.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let parts = path
            .as_ref()
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        parts.fold(self.path.clone(), |folder, part| folder.join(part))
    }

    /// Says what is looked at now.
    pub fn begin(&self, stage: &'static str) {
        *self.stage.lock() = stage;
    }

    /// What is looked at now, and how much was seen.
    pub fn progress(&self) -> (&'static str, u64) {
        (*self.stage.lock(), self.entries.load(Ordering::Relaxed))
    }

    /// Whether a bound was reached, so that there may be more than was found.
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// Whether more may be looked at.
    fn goes_on(&self) -> bool {
        let within = Instant::now() < self.deadline
            && self.entries.load(Ordering::Relaxed) < MAX_ENTRIES
            && self.bytes.load(Ordering::Relaxed) < MAX_BYTES;
        if !within {
            self.is_cut.store(true, Ordering::Relaxed);
        }
        within
    }

    /// The beginning of a file, at most `most` bytes; `None` when it is none, or cannot be read.
    pub fn bytes(&self, path: impl AsRef<Path>, most: u64) -> Option<Vec<u8>> {
        let path = self.at(path);
        // Opening a pipe would wait for its writer.
        if !self.goes_on() || !fs::symlink_metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut found = Vec::new();
        fs::File::open(path)
            .ok()?
            .take(most)
            .read_to_end(&mut found)
            .ok()?;
        self.bytes.fetch_add(found.len() as u64, Ordering::Relaxed);
        Some(found)
    }

    /// As [`Root::bytes`], as text.
    pub fn text(&self, path: impl AsRef<Path>, most: u64) -> Option<String> {
        self.bytes(path, most)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Where a link leads, as it is written.
    pub fn link(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        fs::read_link(self.at(path)).ok()
    }

    /// Whether something is there.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok()
    }

    /// What a folder holds, in the order of the names; nothing when it cannot be read.
    pub fn list(&self, path: impl AsRef<Path>) -> Vec<Entry> {
        let path = path.as_ref();
        let mut found = Vec::new();
        for entry in fs::read_dir(self.at(path)).into_iter().flatten().flatten() {
            if !self.goes_on() {
                break;
            }
            self.entries.fetch_add(1, Ordering::Relaxed);
            let (Ok(name), Ok(metadata)) = (
                entry.file_name().into_string(),
                fs::symlink_metadata(entry.path()),
            ) else {
                continue;
            };
            let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Entry {
                path: path.join(&name),
                name,
                is_folder: metadata.is_dir(),
                is_file: metadata.is_file(),
                size: metadata.len(),
                age: written.elapsed().unwrap_or_default(),
                written,
            });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Shows every file below a folder to `visit`, `depth` folders deep, without entering folders
    /// that `enters` refuses.
    pub fn walk(
        &self,
        folder: &Path,
        depth: usize,
        enters: &dyn Fn(&Entry) -> bool,
        visit: &mut dyn FnMut(&Entry),
    ) {
        for entry in self.list(folder) {
            if entry.is_file {
                visit(&entry);
            } else if entry.is_folder && depth > 0 && enters(&entry) {
                self.walk(&entry.path, depth - 1, enters, visit);
            }
        }
    }
}
