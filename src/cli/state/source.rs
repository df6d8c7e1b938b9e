//! What a backup is made of: the files of a state folder as they are at one moment. Those that are
//! never changed are opened; what nightbell does to their names afterwards does not matter.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::archive::names_below;

/// How often the list of a history's files is made anew because they changed meanwhile.
const ATTEMPTS: u32 = 20;

/// A file to be saved.
pub struct Piece {
    /// Its name in the backup.
    pub name: String,
    /// It, at its beginning.
    pub file: File,
    /// So much of it belongs to this moment, in bytes: a log grows.
    pub size: u64,
}

/// The history: its log first, so that what goes from the log into a block meanwhile is in both,
/// and counts once.
pub fn history(folder: &Path) -> io::Result<Vec<Piece>> {
    let mut attempt = 1;
    loop {
        match of_one_moment(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => attempt += 1,
            found => return found,
        }
    }
}

/// Not found where a file went away meanwhile.
fn of_one_moment(folder: &Path) -> io::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for part in ["wal", "blocks"] {
        let folder = folder.join(part);
        let names = files(&folder)?;
        for name in &names {
            pieces.push(open(&folder.join(name), format!("history/{part}/{name}"))?);
        }
        // Blocks are merged: the new one appears before the old ones go.
        if part == "blocks" && files(&folder)? != names {
            return Err(ErrorKind::NotFound.into());
        }
    }
    Ok(pieces)
}

/// The names in a folder, sorted; none where it is missing. What is still being written is left
/// out.
fn files(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    match names_below(folder, "", &mut names) {
        Err(error) if error.kind() == ErrorKind::NotFound && !folder.exists() => {}
        other => other?,
    }
    names.retain(|name| !is_unfinished(name));
    names.sort();
    Ok(names)
}

/// Whether a name is that of a file which gets another name when it is whole.
fn is_unfinished(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|end| end.to_string_lossy().starts_with("tmp"))
}

/// The other files of the state folder; each is replaced as a whole, and may go.
pub fn others(folder: &Path) -> io::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for part in ["clock", "collectors", "rollups"] {
        let path = folder.join(part);
        let names = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {
                let names = files(&path)?;
                names.iter().map(|name| format!("{part}/{name}")).collect()
            }
            Ok(_) => vec![part.to_owned()],
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for name in names {
            match open(&folder.join(&name), name) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                piece => pieces.push(piece?),
            }
        }
    }
    Ok(pieces)
}

fn open(path: &Path, name: String) -> io::Result<Piece> {
    let file = File::open(path)?;
    Ok(Piece {
        name,
        size: file.metadata()?.len(),
        file,
    })
}

/// A piece that is no part of the folder itself.
pub fn piece(path: PathBuf, name: &str) -> io::Result<Piece> {
    open(&path, name.to_owned())
}
