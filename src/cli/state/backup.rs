//! `nightbell state backup`: everything that outlives a restart into one archive or folder, which
//! gets its name when it is whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::archive::Writer;
use super::{BackupArgs, size, source};
use crate::app::Folders;
use crate::cli::terminal::{complain, say};
use crate::model::Timestamp;
use crate::state::{self, replacement};

/// The name of the copied database in the folder where the backup is made, and in the backup.
const DATABASE: &str = "state.db";
/// The name of the archive there.
const ARCHIVE: &str = "archive";

/// The folder beside the backup where it is made; it goes with this.
struct Workshop(PathBuf);

impl Workshop {
    fn open(path: PathBuf) -> io::Result<Self> {
        // What a crash left.
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Workshop(path))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a backup; the error is for people.
pub async fn backup(args: &BackupArgs, folders: Folders) -> Result<(), String> {
    let shown = args.to.display();
    let said = |error: io::Error| format!("{shown}: {error}");
    // What else wants the disk and the processor goes first; where that is refused, it does not.
    let _ = rustix::process::nice(10);
    for folder in [&folders.state, &folders.history] {
        if replacement::is_unsettled(folder) {
            return Err(format!(
                "{}: a restore was cut short here; run it again, or start nightbell, which finishes it",
                folder.display()
            ));
        }
    }
    let is_output = args.to == Path::new("-");
    let name = args.to.file_name().map(|name| name.to_string_lossy());
    let ends = |end: &str| name.as_ref().is_some_and(|name| name.ends_with(end));
    let is_packed = ends(".tar.gz") || ends(".tgz");
    let is_folder = !is_output && !is_packed && !ends(".tar");
    let workshop = if is_output {
        std::env::temp_dir().join(format!("nightbell-backup-{}", std::process::id()))
    } else {
        check_free(&args.to, is_folder, args.force)?;
        // Without a slash at its end.
        let mut beside = args.to.components().as_path().as_os_str().to_owned();
        beside.push(".unfinished");
        beside.into()
    };
    let workshop = Workshop::open(workshop)
        .map_err(|error| format!("{shown}: the backup cannot be made there: {error}"))?;

    let created = Timestamp::now().rfc3339();
    let mut pieces = Vec::new();
    let database = folders.state.join(DATABASE);
    if folders.is_database_elsewhere {
        complain!(
            "nightbell: the state database is a PostgreSQL, which pg_dump saves; this backup has the rest"
        );
    } else if database.exists() {
        let copy = workshop.0.join(DATABASE);
        state::copy_database(&database, &copy)
            .await
            .map_err(|error| error.to_string())?;
        state::check_copy(&copy)
            .await
            .map_err(|error| error.to_string())?;
        pieces.push(source::piece(copy, DATABASE).map_err(said)?);
    }
    let of = |folder: &Path| {
        let folder = folder.display().to_string();
        move |error: io::Error| format!("{folder}: {error}")
    };
    pieces.extend(source::history(&folders.history).map_err(of(&folders.history))?);
    pieces.extend(source::others(&folders.state).map_err(of(&folders.state))?);
    if pieces.is_empty() {
        return Err(format!(
            "{}: there is no state here; give --state-dir, or --config",
            folders.state.display()
        ));
    }
    let unfinished = workshop.0.join(if is_folder { "folder" } else { ARCHIVE });
    let (mut writer, file) = if is_output {
        (Writer::archive(Box::new(io::stdout().lock()), false), None)
    } else if is_folder {
        DirBuilder::new()
            .mode(0o700)
            .create(&unfinished)
            .map_err(said)?;
        (Writer::folder(&unfinished), None)
    } else {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(said)?;
        let to: Box<dyn Write> = Box::new(file.try_clone().map_err(said)?);
        (Writer::archive(to, is_packed), Some(file))
    };
    for piece in &mut pieces {
        writer
            .add(&piece.name, &mut piece.file, piece.size)
            .map_err(said)?;
    }
    let list = writer.finish(created).map_err(said)?;
    if let Some(file) = file {
        file.sync_all().map_err(said)?;
    }
    if !is_output {
        fs::rename(&unfinished, &args.to).map_err(said)?;
        let parent = args.to.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(said)?;
    }
    let done = format!(
        "{shown}: {} files of {} are saved, as they were at {}",
        list.files.len(),
        size(list.bytes()),
        list.created
    );
    if is_output {
        complain!("{done}");
    } else {
        say!("{done}");
    }
    Ok(())
}

/// Refuses to write over what is there.
fn check_free(to: &Path, is_folder: bool, is_forced: bool) -> Result<(), String> {
    let shown = to.display();
    match to.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{shown}: {error}")),
        Ok(found) if found.is_dir() => {
            let is_empty = fs::read_dir(to)
                .map_err(|error| format!("{shown}: {error}"))?
                .next()
                .is_none();
            if is_folder && is_empty {
                Ok(())
            } else {
                Err(format!(
                    "{shown} is a folder with something in it; name a file or a folder that is not there yet"
                ))
            }
        }
        Ok(_) if is_folder => Err(format!(
            "{shown} is a file; an archive ends in .tar, .tar.gz or .tgz, and a folder must be new"
        )),
        Ok(_) if is_forced => Ok(()),
        Ok(_) => Err(format!(
            "{shown} is there already; --force replaces it once the new one is whole"
        )),
    }
}
