//! A copy of the history for a backup: hard links, made while everything goes on. They take no room
//! at first, and that of what the history has dropped since.
//!
//! The copy is a folder that nightbell can be started on. It gets its name when it is whole.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::blocks::Blocks;
use super::log::recover;
use super::log::writer::Writer;
use crate::model::Timestamp;

/// Where copies are, beside the blocks and the log.
const FOLDER: &str = "snapshots";
/// The end of the name of one that is being made.
const UNFINISHED: &str = "tmp";
/// How often it is begun anew because blocks were merged meanwhile.
const ATTEMPTS: u32 = 10;

/// Deletes copies that were not finished.
pub(super) fn tidy(history: &Path) -> io::Result<()> {
    let folder = history.join(FOLDER);
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == UNFINISHED) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// Makes a copy; gives back its name.
pub(super) fn make(
    history: &Path,
    blocks: &Blocks,
    writer: &Writer,
    now: Timestamp,
) -> io::Result<String> {
    if !writer.flush() {
        return Err(io::Error::other(
            "the disk does not take what waits for the log",
        ));
    }
    let folder = history.join(FOLDER);
    private(&folder)?;
    let time: String = now
        .rfc3339()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .collect();
    // Two of one second have different names.
    let free = |number: &u32| !folder.join(format!("{time}-{number}")).exists();
    let number = (1..).find(free).unwrap_or_default();
    let name = format!("{time}-{number}");
    let unfinished = folder.join(format!("{name}.{UNFINISHED}"));
    let made = fill(history, &unfinished, blocks)
        .and_then(|()| fs::rename(&unfinished, folder.join(&name)))
        .and_then(|()| File::open(&folder)?.sync_all());
    if made.is_err() {
        // The room is needed, and the error says why.
        let _ = fs::remove_dir_all(&unfinished);
    }
    made.map(|()| name)
}

fn private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(folder)
}

fn fill(history: &Path, unfinished: &Path, blocks: &Blocks) -> io::Result<()> {
    private(&unfinished.join("wal"))?;
    private(&unfinished.join("blocks"))?;
    // The log first: what goes from it into a block meanwhile is then in both, and counts once.
    let segments = recover::find(&history.join("wal"))?;
    for (position, segment) in segments.iter().enumerate() {
        let (from, to) = (&segment.path, unfinished.join("wal"));
        let to = to.join(from.file_name().unwrap_or_default());
        let copied = if position + 1 == segments.len() {
            // It is still written, and the copy must not be.
            fs::copy(from, &to).map(drop)
        } else {
            link(from, &to)
        };
        match copied {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let to = unfinished.join("blocks");
    for attempt in 1.. {
        match link_blocks(blocks, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {}
            other => {
                other?;
                break;
            }
        }
    }
    for folder in [&unfinished.join("wal"), &to, unfinished] {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Links the blocks of one moment; not found where one of them has been merged since.
fn link_blocks(blocks: &Blocks, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(to)? {
        fs::remove_file(entry?.path())?;
    }
    let snapshot = blocks.snapshot();
    for block in snapshot.files() {
        let name = block.path.file_name().unwrap_or_default();
        link(&block.path, &to.join(name))?;
    }
    Ok(())
}

/// Where the file system knows no links, a copy.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => fs::copy(from, to).map(drop),
        linked => linked,
    }
}
