//! What a local Chroma store occupies on disk, and the length of its write-ahead table.

use std::fs;
use std::io::Read as _;
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
fn disk_use(path: &Path) -> std::io::Result<DiskUse> {
    let (mut found, mut folders, mut files) = (DiskUse::default(), vec![path.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // A file that vanishes between listing and asking is no error: stores rewrite their
            // files.
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

impl DiskUse {
    /// Bytes by part, and in total.
    pub fn parts(&self) -> [(&'static str, u64); 4] {
        [
            ("sqlite", self.sqlite),
            ("wal", self.wal),
            ("index", self.index),
            ("total", self.sqlite + self.wal + self.index),
        ]
    }
}

/// Adds up the files below `path`, on a thread that may hang; errs when it cannot be read.
pub async fn sizes(path: PathBuf) -> std::io::Result<DiskUse> {
    tokio::task::spawn_blocking(move || disk_use(&path))
        .await
        .map_err(std::io::Error::other)?
}

/// Whether a database of SQLite is in WAL mode, by its header; errs when it cannot be read.
pub fn is_wal(file: &Path) -> std::io::Result<bool> {
    let mut head = [0; 20];
    fs::File::open(file)?.read_exact(&mut head)?;
    Ok(head[19] == 2)
}

/// Sizes, and rows of the write-ahead table where they can be read.
pub type Found = (DiskUse, Option<i64>);

/// Looks once; errs when the folder cannot be read.
pub async fn look(path: PathBuf) -> std::io::Result<Found> {
    let folder = path.clone();
    let (sizes, quiet) = tokio::task::spawn_blocking(move || {
        Ok::<_, std::io::Error>((disk_use(&folder)?, leaves_no_file(&folder)))
    })
    .await
    .map_err(std::io::Error::other)??;
    let rows = if quiet {
        wal_rows(path).await.ok()
    } else {
        None
    };
    Ok((sizes, rows))
}

/// Whether reading the database makes no file beside it: in WAL mode SQLite makes one that is not
/// there, and it would be ours.
fn leaves_no_file(folder: &Path) -> bool {
    is_wal(&folder.join("chroma.sqlite3"))
        .is_ok_and(|wal| !wal || folder.join("chroma.sqlite3-shm").exists())
}

/// Rows in `embeddings_queue`, read-only; errs when the file or the table cannot be read.
async fn wal_rows(path: PathBuf) -> Result<i64, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path.join("chroma.sqlite3"))
        .read_only(true)
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let row = sqlx::query("SELECT count(*) FROM embeddings_queue")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    row.try_get(0)
}
