//! What a collector remembers across restarts: positions, counts, checksums. One file per target in
//! `<state folder>/collectors/`.
//!
//! A file is replaced as a whole: written beside it and renamed, so that a process that is killed
//! leaves the old text or the new one. Calls block; a collector makes them on a thread that may
//! wait.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::task::JoinHandle;
use tracing::warn;
use xxhash_rust::xxh64::xxh64;

use super::Target;

/// A longer text is not taken back, in bytes.
const MAX_BYTES: u64 = 16 << 20;
/// So much of a target's name stands in its file's name, in bytes; the hash tells names apart.
const MAX_NAME: usize = 60;

/// The state folder, which the root of the configuration gives to what is read after it.
pub struct StateFolder(pub Option<PathBuf>);

/// One target's file. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Memory(Option<Arc<Path>>);

impl Memory {
    /// Remembers nothing: there is no state folder.
    pub fn none() -> Self {
        Memory(None)
    }

    /// The file of the target `name` of `kind` in the job `job`. Nothing is read or made yet.
    pub fn of(folder: &Path, kind: &str, job: &str, name: &str) -> Self {
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
        let hash = xxh64(format!("{kind}\0{job}\0{name}").as_bytes(), 0);
        Memory(Some(
            folder
                .join("collectors")
                .join(format!("{kind}-{safe}-{hash:016x}.json"))
                .into(),
        ))
    }

    /// The text that was saved last. `None` when there is none, or when it cannot be read, which is
    /// logged.
    pub fn load(&self) -> Option<String> {
        let path = self.0.as_deref()?;
        let read = || -> io::Result<String> {
            let mut text = String::new();
            File::open(path)?
                .take(MAX_BYTES)
                .read_to_string(&mut text)?;
            Ok(text)
        };
        match read() {
            Ok(text) => Some(text).filter(|text| !text.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(file = %path.display(), %error, "What a collector remembers cannot be read; it begins anew.");
                None
            }
        }
    }

    /// Replaces the text. Without a state folder it does nothing.
    pub fn save(&self, text: &str) -> io::Result<()> {
        /// Two collectors of one name may write at once: the one that a reload replaces, and its
        /// successor.
        static WRITERS: AtomicU64 = AtomicU64::new(0);
        let Some(path) = self.0.as_deref() else {
            return Ok(());
        };
        let part = path.with_extension(format!(
            "tmp{}",
            WRITERS.fetch_add(1, Ordering::Relaxed) % 8
        ));
        let open = || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&part)
        };
        let mut file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(path.parent().unwrap_or(Path::new(".")))?;
                open()?
            }
            opened => opened?,
        };
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| std::fs::rename(&part, path));
        if written.is_err() {
            // What is half written takes room on a disk that may be full.
            let _ = std::fs::remove_file(&part);
        }
        written
    }
}

/// Saves what a collector keeps where it has changed: on a thread that may wait, one text after the
/// other.
#[derive(Debug, Default)]
pub struct Saving {
    /// What is kept differs from what was saved.
    is_dirty: bool,
    task: Option<JoinHandle<()>>,
}

impl Saving {
    /// Notes that what is kept has changed.
    pub fn note_change(&mut self) {
        self.is_dirty = true;
    }

    /// Saves what is kept, unless it was saved already or the text before it is still being written;
    /// `failure` is logged when that cannot be done.
    pub fn save(
        &mut self,
        kept: &impl Serialize,
        target: &Target,
        collector: &'static str,
        failure: &'static str,
    ) {
        let is_busy = self.task.as_ref().is_some_and(|task| !task.is_finished());
        if !self.is_dirty || is_busy {
            return;
        }
        let Ok(text) = serde_json::to_string(kept) else {
            return;
        };
        let (memory, target) = (target.memory.clone(), target.name.clone());
        self.is_dirty = false;
        self.task = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = memory.save(&text) {
                warn!(collector, target, %error, "{failure}");
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::of(folder.path(), "log_file", "log_file", "a/../b 日");
        assert_eq!(memory.load(), None);
        memory.save("one").expect("saved");
        memory.save("two").expect("saved");
        assert_eq!(memory.clone().load().as_deref(), Some("two"));
        let files: Vec<_> = std::fs::read_dir(folder.path().join("collectors"))
            .expect("a folder")
            .flatten()
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(
            (
                mode(&files[0].path()),
                mode(&folder.path().join("collectors"))
            ),
            (0o600, 0o700)
        );
        let name = files[0].file_name().into_string().expect("text");
        assert!(
            name.starts_with("log_file-a____b__-") && name.ends_with(".json"),
            "{name}"
        );
    }

    #[test]
    fn targets_have_files_of_their_own_and_one_that_is_broken_is_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |job: &str, name: &str| Memory::of(folder.path(), "log_file", job, name);
        of("j", "a/b").save("1").expect("saved");
        of("j", "a_b").save("2").expect("saved");
        of("k", "a/b").save("3").expect("saved");
        assert_eq!(
            [of("j", "a/b"), of("j", "a_b"), of("k", "a/b")].map(|m| m.load().unwrap_or_default()),
            ["1", "2", "3"]
        );
        for entry in std::fs::read_dir(folder.path().join("collectors"))
            .expect("a folder")
            .flatten()
        {
            std::fs::write(entry.path(), b"\xff\xfe").expect("broken");
        }
        assert_eq!(of("j", "a/b").load(), None);
        of("j", "a/b").save("4").expect("saved");
        assert_eq!(of("j", "a/b").load().as_deref(), Some("4"));
        assert_eq!(Memory::none().load(), None);
        Memory::none().save("x").expect("nothing to do");
    }
}
