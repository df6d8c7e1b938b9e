//! `nightbell state restore` and `check`: a backup is read to its end and compared with its list
//! beside what is there; only then is it put in the position of that, whole or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::archive::{self, List};
use super::{CheckArgs, RestoreArgs, size};
use crate::app::Folders;
use crate::cli::terminal::{complain, say};
use crate::state::replacement::{self, HISTORY_NAMES, Replacement, STATE_NAMES};
use crate::state::{self, FolderLock, LockError, prepare_folder};

/// Reads a backup; the error is for people.
pub fn check(args: &CheckArgs) -> Result<(), String> {
    let list = archive::read(&args.from, |_, file| {
        archive::sum(file).map_err(|error| error.to_string())
    })
    .map_err(|error| format!("{}: {error}", args.from.display()))?;
    say!("{}: {}", args.from.display(), whole(&list));
    Ok(())
}

fn whole(list: &List) -> String {
    format!(
        "{} files of {}, saved by nightbell {} at {}, all with their checksums",
        list.files.len(),
        size(list.bytes()),
        list.nightbell,
        list.created
    )
}

/// Restores a backup; the error is for people.
pub async fn restore(args: &RestoreArgs, folders: Folders) -> Result<(), String> {
    let from = args.from.display();
    let state = &folders.state;
    let said = |error: io::Error| format!("{}: {error}", state.display());
    prepare_folder(state).map_err(said)?;
    let _lock = FolderLock::hold(state, "a restore").map_err(|error| match error {
        LockError::InUse { by } => format!(
            "{} is in use ({by}); stop that nightbell first. Nothing was changed",
            state.display()
        ),
        LockError::Unusable(error) => said(error),
    })?;
    let _history_lock = lock_history(&folders.history)?;
    if !args.force
        && let Some(there) = what_is_there(&folders)
    {
        return Err(format!(
            "{} is there already; --force moves what is there to before-restore. Nothing was changed",
            there.display()
        ));
    }
    let mut into = Into::begin(&folders)?;
    let list = archive::read(&args.from, |name, file| {
        archive::write(&into.path(name), file).map_err(|error| format!("{name}: {error}"))
    });
    let found = match list {
        Ok(list) => usable(&into.path("state.db")).await.map(|()| list),
        Err(error) => Err(error),
    };
    let list = match found {
        Ok(list) => list,
        Err(error) => {
            let left = into.abandon();
            return Err(match left {
                Ok(()) => format!("{from}: {error}. Nothing was changed"),
                Err(left) => {
                    format!(
                        "{from}: {error}. Nothing was changed; what was unpacked is left: {left}"
                    )
                }
            });
        }
    };
    if folders.is_database_elsewhere && list.files.contains_key("state.db") {
        complain!(
            "nightbell: the configuration keeps the state in a PostgreSQL: state.db of the backup will not be used"
        );
    }
    into.finish().map_err(|error| {
        format!(
            "{from}: {error}. Run the restore again; a start finishes it where that is all it needs"
        )
    })?;
    say!("{from}: {}", whole(&list));
    let mut roots = vec![state.as_path()];
    roots.extend(
        folders
            .is_history_apart()
            .then_some(folders.history.as_path()),
    );
    for root in roots {
        say!("restored to {}", root.display());
        if let Some(before) = replacement::before(root) {
            say!(
                "what was there before is in {}; delete it when it is not needed any more",
                before.display()
            );
        }
    }
    Ok(())
}

/// Whether the database can be used; one that is not part of the backup can.
async fn usable(database: &Path) -> Result<(), String> {
    if !database.exists() {
        return Ok(());
    }
    state::check_copy(database)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The first thing that a restore would replace.
fn what_is_there(folders: &Folders) -> Option<PathBuf> {
    let is_there = |path: &PathBuf| match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            fs::read_dir(path).map_or(true, |mut entries| entries.next().is_some())
        }
        found => found.is_ok(),
    };
    let of_state = STATE_NAMES.map(|name| folders.state.join(name));
    let of_history = HISTORY_NAMES.map(|name| folders.history.join(name));
    of_state.into_iter().chain(of_history).find(is_there)
}

/// Takes a history that lies apart: another nightbell may have it. `None` where there is none yet.
fn lock_history(history: &Path) -> Result<Option<File>, String> {
    let lock = match File::options().append(true).open(history.join("lock")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        lock => lock.map_err(|error| format!("{}: {error}", history.display()))?,
    };
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        format!(
            "{} is in use by another process; stop that first. Nothing was changed",
            history.display()
        )
    })?;
    Ok(Some(lock))
}

/// Where the files of the backup go: one folder, or two where the history lies apart.
struct Into {
    state: Replacement,
    history: Option<Replacement>,
}

impl Into {
    fn begin(folders: &Folders) -> Result<Self, String> {
        let begin = |folder: &Path, names| {
            Replacement::begin(folder, names)
                .map_err(|error| format!("{}: {error}", folder.display()))
        };
        let history = if folders.is_history_apart() {
            fs::create_dir_all(&folders.history)
                .map_err(|error| format!("{}: {error}", folders.history.display()))?;
            Some(begin(&folders.history, &HISTORY_NAMES)?)
        } else {
            None
        };
        Ok(Into {
            state: begin(&folders.state, &STATE_NAMES)?,
            history,
        })
    }

    fn path(&mut self, name: &str) -> PathBuf {
        match (&self.history, name.strip_prefix("history/")) {
            (Some(history), Some(rest)) => history.path().join(rest),
            _ => self.state.path().join(name),
        }
    }

    /// The history first: a crash between the two leaves a state that asks for the restore again.
    fn finish(self) -> io::Result<()> {
        if let Some(history) = self.history {
            history.finish()?;
        }
        self.state.finish()
    }

    fn abandon(self) -> io::Result<()> {
        if let Some(history) = self.history {
            history.abandon()?;
        }
        self.state.abandon()
    }
}
