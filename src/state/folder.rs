//! The state folder on disk: for its owner alone, and for one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The file that is locked; it says who has the folder.
const LOCK: &str = "state.lock";
/// Longest text of it that is read, in bytes.
const MAX_TEXT: u64 = 200;
/// What of a folder shows that it is ours.
const OURS: [&str; 3] = ["state.db", LOCK, "history"];

/// The folder of one process, as long as this lives.
#[derive(Debug)]
pub struct FolderLock(
    /// Closing it gives the lock back.
    #[expect(dead_code, reason = "held, not used")]
    File,
);

/// Why a folder cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("in use by another nightbell ({by})")]
    InUse {
        /// Its process id and address, as it wrote them down.
        by: String,
    },
    /// The file cannot be made or locked.
    #[error(transparent)]
    Unusable(#[from] io::Error),
}

impl FolderLock {
    /// Takes the folder for this process, which listens on this address. A file system without
    /// locks errs as unusable.
    pub fn take(folder: &Path, listens: SocketAddr) -> Result<Self, LockError> {
        Self::hold(folder, &format!("listening on {listens}"))
    }

    /// The same, for a process that does something else.
    pub fn hold(folder: &Path, does: &str) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(LOCK))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Its owner may be writing just now.
                let _ = Read::by_ref(&mut file)
                    .take(MAX_TEXT)
                    .read_to_string(&mut text);
                let by: String = text.trim().chars().filter(|c| !c.is_control()).collect();
                return Err(LockError::InUse {
                    by: if by.is_empty() { "unnamed".into() } else { by },
                });
            }
            Err(error) => return Err(io::Error::from(error).into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "process {}, {does}", std::process::id())?;
        Ok(FolderLock(file))
    }
}

/// Makes the folder where it is missing, and keeps others out of it and of what it holds. A folder
/// with other things in it, which somebody else arranged, keeps its mode.
pub fn prepare_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let is_ours = OURS.iter().any(|name| folder.join(name).exists())
        || fs::read_dir(folder)?.next().is_none();
    if is_ours {
        restrict(folder, 0o700);
    }
    for suffix in ["", "-wal", "-shm", "-journal"] {
        restrict(&folder.join(format!("state.db{suffix}")), 0o600);
    }
    restrict(&folder.join(LOCK), 0o600);
    let history = folder.join("history");
    for part in [history.clone(), history.join("wal"), history.join("blocks")] {
        restrict(&part, 0o700);
        for entry in fs::read_dir(&part).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                restrict(&entry.path(), 0o600);
            }
        }
    }
    Ok(())
}

/// Takes from others what they may do with a file or folder. What belongs to somebody else is
/// theirs to arrange.
fn restrict(path: &Path, mode: u32) {
    let Ok(found) = path.symlink_metadata() else {
        return;
    };
    let is_own = found.uid() == rustix::process::geteuid().as_raw() && !found.is_symlink();
    if is_own && found.mode() & 0o777 != mode {
        let _ = fs::set_permissions(path, Permissions::from_mode(mode));
    }
}

/// Makes an empty file for its owner alone, where there is none: SQLite gives the same mode to the
/// files beside it.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    restrict(path, 0o600);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_names_who_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let address = "127.0.0.1:9908".parse().expect("an address");
        let first = FolderLock::take(folder.path(), address).expect("taken");
        let second = FolderLock::take(folder.path(), address)
            .expect_err("in use")
            .to_string();
        assert!(
            second.contains(&std::process::id().to_string()) && second.contains("127.0.0.1:9908"),
            "{second}"
        );
        drop(first);
        FolderLock::take(folder.path(), address).expect("free again");
    }

    #[test]
    fn a_folder_of_ours_is_closed_to_others_and_one_with_other_things_is_not() {
        let root = tempfile::tempdir().expect("a folder");
        let mode = |path: &Path| path.metadata().expect("there").mode() & 0o777;
        let (ours, theirs) = (root.path().join("ours"), root.path().join("theirs"));
        for folder in [&ours, &theirs] {
            fs::create_dir(folder).expect("made");
            fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("set");
        }
        fs::write(ours.join("state.db"), "").expect("written");
        fs::set_permissions(ours.join("state.db"), Permissions::from_mode(0o644)).expect("set");
        fs::write(theirs.join("notes"), "").expect("written");
        prepare_folder(&ours).expect("prepared");
        prepare_folder(&theirs).expect("prepared");
        assert_eq!(
            (mode(&ours), mode(&ours.join("state.db")), mode(&theirs)),
            (0o700, 0o600, 0o755)
        );
    }
}
