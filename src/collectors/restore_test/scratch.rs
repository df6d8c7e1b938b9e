//! The scratch folder: nightbell's own, for one run, removed after it. One that a killed process
//! left is removed by the next one: it has a marker, and nobody holds the lock on that, which the
//! kernel gives up with the process.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};

use super::failure::{Failure, Reason};

/// What says that the folder is nightbell's own.
const MARKER: &str = ".nightbell-restore-test";

/// A folder that is removed when this is dropped.
pub struct Scratch {
    path: PathBuf,
    /// Locked.
    _marker: File,
}

impl Scratch {
    /// Makes the folder, after what a killed process left of it is removed.
    pub fn make(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull => {
                Failure::of(Reason::NoSpace, format!("{}: {error}", path.display()))
            }
            _ => Failure::of(Reason::Failed, format!("{}: {error}", path.display())),
        };
        remove_left(path)?;
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(failed)?;
        }
        DirBuilder::new()
            .mode(0o700)
            .create(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => in_use(path),
                _ => failed(error),
            })?;
        let marker = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path.join(MARKER))
            .map_err(failed)?;
        flock(&marker, FlockOperation::NonBlockingLockExclusive).map_err(|_| in_use(path))?;
        Ok(Scratch {
            path: path.to_owned(),
            _marker: marker,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that its owner alone may read.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.path.join(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        written
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::of(Reason::Failed, error.to_string()))?;
        Ok(path)
    }

    /// Removes it, and says whether it is gone.
    pub fn remove(self) -> bool {
        remove_all(&self.path).is_ok()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.path.exists() {
            // What is left is removed before the next run.
            let _left = remove_all(&self.path);
        }
    }
}

/// Removes what a killed process left.
pub fn remove_left(path: &Path) -> Result<(), Failure> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let not_ours = || {
        Failure::of(
            Reason::NotOurs,
            format!("{} exists, and nightbell has not made it", path.display()),
        )
    };
    if !metadata.is_dir() {
        return Err(not_ours());
    }
    match File::open(path.join(MARKER)) {
        Ok(marker) => {
            flock(&marker, FlockOperation::NonBlockingLockExclusive).map_err(|_| in_use(path))?;
            remove_all(path).map_err(|error| {
                Failure::of(Reason::Failed, format!("{}: {error}", path.display()))
            })
        }
        // Killed before the marker was there: then there is nothing else, or this fails.
        Err(_) => fs::remove_dir(path).map_err(|_| not_ours()),
    }
}

/// The marker goes last, so that a removal that is cut short is taken up again.
fn remove_all(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?
        } else {
            fs::remove_file(entry.path())?
        }
    }
    fs::remove_dir_all(path)
}

fn in_use(path: &Path) -> Failure {
    Failure::of(
        Reason::InUse,
        format!("{} is used by another nightbell", path.display()),
    )
}

/// Bytes that are free for users, and bytes that must stay free: a twentieth of the file system, 10
/// GiB at most.
pub fn free_space(path: &Path) -> Option<(u64, u64)> {
    let existing = path.ancestors().find(|folder| folder.exists())?;
    let found = statvfs(existing).ok()?;
    let size = found.f_blocks.saturating_mul(found.f_frsize);
    Some((
        found.f_bavail.saturating_mul(found.f_frsize),
        (size / 20).min(10 << 30),
    ))
}

/// Refuses what would leave too little free.
pub fn check_space(path: &Path, wanted: u64) -> Result<(), Failure> {
    match free_space(path) {
        Some((free, reserve)) if free < wanted.saturating_add(reserve) => {
            let detail = format!(
                "{}: {} MB are free, {} MB are needed",
                path.display(),
                free >> 20,
                wanted.saturating_add(reserve) >> 20
            );
            Err(Failure::of(Reason::NoSpace, detail))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nightbell_made_and_nobody_uses_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scratch");
        let scratch = Scratch::make(&path).expect("made");
        fs::create_dir(path.join("sub")).expect("made");
        let reason = |path: &Path| Scratch::make(path).map(drop).expect_err("refused").reason;
        assert_eq!(reason(&path), Reason::InUse);
        assert!(scratch.remove() && !path.exists());

        // What a killed process left: the lock is gone with it.
        fs::create_dir(&path).expect("made");
        drop(Scratch::make(&path).expect("an empty folder is taken over"));
        fs::create_dir(&path).expect("made");
        fs::write(path.join(MARKER), "").expect("written");
        fs::write(path.join("rows"), "x").expect("written");
        drop(Scratch::make(&path).expect("one with the marker too"));

        fs::create_dir(&path).expect("made");
        fs::write(path.join("theirs"), "x").expect("written");
        assert_eq!(reason(&path), Reason::NotOurs);
        assert!(path.join("theirs").exists());
    }
}
