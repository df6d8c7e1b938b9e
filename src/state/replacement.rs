//! Replacing what a folder of ours holds by something else, whole or not at all: a crash at any
//! instant leaves what was there, or what the next start puts in its position without asking.
//!
//! The new content is made beside the old one, in the folder itself, which may be all that belongs
//! to us (a volume of a container). It is renamed to say that it is whole; then the old content is
//! moved aside, the new content renamed again to say so, and moved in. Each step can be repeated.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

/// New content that is being made.
const UNFINISHED: &str = "restore.unfinished";
/// New content that is whole; the old one is still here, or partly moved aside.
const READY: &str = "restore.ready";
/// New content that is moved in.
const MOVING: &str = "restore.moving";
/// What was there before.
const BEFORE: &str = "before-restore";

/// What a state folder holds, except its lock.
pub const STATE_NAMES: [&str; 8] = [
    "state.db",
    "state.db-wal",
    "state.db-shm",
    "state.db-journal",
    "clock",
    "collectors",
    "rollups",
    "history",
];
/// What the folder of a history holds, except its lock and the copies in it.
pub const HISTORY_NAMES: [&str; 2] = ["wal", "blocks"];

/// New content of a folder that is being made.
#[derive(Debug)]
pub struct Replacement {
    folder: PathBuf,
    names: &'static [&'static str],
}

impl Replacement {
    /// Begins anew, in a folder that is there; what an earlier one left is finished or deleted.
    pub fn begin(folder: &Path, names: &'static [&'static str]) -> io::Result<Self> {
        settle(folder, names)?;
        remove(&folder.join(UNFINISHED))?;
        make(&folder.join(UNFINISHED))?;
        Ok(Replacement {
            folder: folder.to_owned(),
            names,
        })
    }

    /// Where the new content is made.
    pub fn path(&self) -> PathBuf {
        self.folder.join(UNFINISHED)
    }

    /// Gives the new content to the owner of the folder and puts it in the position of the old
    /// one, which is moved aside.
    pub fn finish(self) -> io::Result<()> {
        let owner = self.folder.metadata()?;
        settle_tree(&self.path(), (owner.uid(), owner.gid()))?;
        remove(&self.folder.join(BEFORE))?;
        fs::rename(self.path(), self.folder.join(READY))?;
        sync(&self.folder)?;
        settle(&self.folder, self.names).map(drop)
    }

    /// Deletes the new content; the old one was not touched.
    pub fn abandon(self) -> io::Result<()> {
        remove(&self.path())
    }
}

/// Where the content is that was there before the last replacement, if there was any.
pub fn before(folder: &Path) -> Option<PathBuf> {
    Some(folder.join(BEFORE)).filter(|path| path.is_dir())
}

/// Whether a replacement was cut short after it was whole.
pub fn is_unsettled(folder: &Path) -> bool {
    [READY, MOVING]
        .iter()
        .any(|name| folder.join(name).is_dir())
}

/// Finishes a replacement that was cut short after it was whole; says whether there was one.
pub fn settle(folder: &Path, names: &[&str]) -> io::Result<bool> {
    let (ready, moving) = (folder.join(READY), folder.join(MOVING));
    let is_unsettled = is_unsettled(folder);
    if ready.is_dir() {
        let before = folder.join(BEFORE);
        for name in names {
            let from = folder.join(name);
            if from.symlink_metadata().is_ok() {
                make(&before)?;
                fs::rename(from, before.join(name))?;
            }
        }
        sync(folder)?;
        fs::rename(&ready, &moving)?;
        sync(folder)?;
    }
    if moving.is_dir() {
        for entry in fs::read_dir(&moving)? {
            let entry = entry?;
            fs::rename(entry.path(), folder.join(entry.file_name()))?;
        }
        sync(folder)?;
        fs::remove_dir(&moving)?;
    }
    Ok(is_unsettled)
}

/// Deletes new content that was not finished: it takes room.
pub fn tidy(folder: &Path) -> io::Result<()> {
    remove(&folder.join(UNFINISHED))
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(folder)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Gives everything to its owner, as far as that is ours to do, and asks the disk to keep it.
fn settle_tree(path: &Path, owner: (u32, u32)) -> io::Result<()> {
    let found = path.symlink_metadata()?;
    if (found.uid(), found.gid()) != owner && rustix::process::geteuid().is_root() {
        chown(path, Some(owner.0), Some(owner.1))?;
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            settle_tree(&entry?.path(), owner)?;
        }
    }
    sync(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of the files in it, by name, with those one folder deeper.
    fn content(folder: &Path) -> Vec<String> {
        let mut found: Vec<String> = ["state.db", "state.db-wal", "rollups/1", "clock", "mine"]
            .iter()
            .filter_map(|name| {
                let text = fs::read_to_string(folder.join(name)).ok()?;
                Some(format!("{name}={text}"))
            })
            .collect();
        found.sort();
        found
    }

    fn old(folder: &Path) {
        fs::create_dir(folder.join("rollups")).expect("made");
        for name in ["state.db", "state.db-wal", "rollups/1", "mine"] {
            fs::write(folder.join(name), "old").expect("written");
        }
    }

    fn new(folder: &Path) -> Replacement {
        let replacement = Replacement::begin(folder, &STATE_NAMES).expect("begun");
        fs::create_dir(replacement.path().join("rollups")).expect("made");
        for name in ["state.db", "rollups/1", "clock"] {
            fs::write(replacement.path().join(name), "new").expect("written");
        }
        replacement
    }

    const OLD: [&str; 4] = [
        "mine=old",
        "rollups/1=old",
        "state.db-wal=old",
        "state.db=old",
    ];
    /// No write-ahead log of the old database beside the new one; what is not ours stays.
    const NEW: [&str; 4] = ["clock=new", "mine=old", "rollups/1=new", "state.db=new"];

    #[test]
    fn what_is_not_finished_changes_nothing_and_what_is_finished_is_whole() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path();
        old(folder);
        new(folder);
        assert!(!settle(folder, &STATE_NAMES).expect("settled"));
        assert_eq!(content(folder), OLD);
        new(folder).abandon().expect("abandoned");
        assert_eq!(
            (content(folder), folder.join(UNFINISHED).exists()),
            (OLD.map(String::from).to_vec(), false)
        );
        new(folder).finish().expect("finished");
        assert_eq!(content(folder), NEW);
        let before = before(folder).expect("kept");
        assert_eq!(
            content(&before),
            ["rollups/1=old", "state.db-wal=old", "state.db=old"]
        );
        assert!(!is_unsettled(folder));
    }

    /// A crash after each of the renames, of which there are eight.
    #[test]
    fn a_replacement_that_was_cut_short_at_any_step_is_finished_later() {
        for steps in 0..=8 {
            let root = tempfile::tempdir().expect("a folder");
            let folder = root.path();
            old(folder);
            let replacement = new(folder);
            fs::rename(replacement.path(), folder.join(READY)).expect("renamed");
            let mut left = steps;
            let mut step = |from: PathBuf, to: PathBuf| {
                if left > 0 && from.exists() {
                    left -= 1;
                    make(to.parent().expect("a folder")).expect("made");
                    fs::rename(from, to).expect("renamed");
                }
            };
            for name in STATE_NAMES {
                step(folder.join(name), folder.join(BEFORE).join(name));
            }
            step(folder.join(READY), folder.join(MOVING));
            for name in ["rollups", "clock", "state.db"] {
                step(folder.join(MOVING).join(name), folder.join(name));
            }
            assert!(settle(folder, &STATE_NAMES).expect("settled"), "{steps}");
            assert_eq!(content(folder), NEW, "after {steps} steps");
            assert!(!is_unsettled(folder));
        }
    }
}
