//! What a local Chroma store occupies on disk, and the length of its write-ahead table.

use std::fs;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};

/// Most files that are looked at.
const MAX_FILES: usize = 20_000;

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DiskUse {
    /// `chroma.sqlite3`.
    pub sqlite: u64,
    /// Its `-wal` and `-journal`.
    pub wal: u64,
    /// Everything else below the path: one folder for each vector segment.
    pub index: u64,
}

/// Adds up the files below `path`; errs when it cannot be read.
pub fn disk_use(path: &Path) -> std::io::Result<DiskUse> {
    let (mut found, mut folders, mut files) = (DiskUse::default(), vec![path.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // A file that vanishes between listing and asking is no error: stores rewrite their files.
            let Ok(meta) = entry.metadata() else { continue };
            files += 1;
            if files > MAX_FILES {
                return Ok(found);
            }
            match entry.file_name().to_str() {
                _ if meta.is_dir() => folders.push(entry.path()),
                Some("chroma.sqlite3") => found.sqlite += meta.len(),
                Some(name) if name.starts_with("chroma.sqlite3-") => found.wal += meta.len(),
                _ => found.index += meta.len(),
            }
        }
    }
    Ok(found)
}

/// Rows in `embeddings_queue`, read-only; errs when the file or the table cannot be read.
pub async fn wal_rows(path: PathBuf) -> Result<i64, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path.join("chroma.sqlite3")).read_only(true).disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let row = sqlx::query("SELECT count(*) FROM embeddings_queue").fetch_one(&mut connection).await?;
    connection.close().await?;
    row.try_get(0)
}
