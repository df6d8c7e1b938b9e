//! A state database that is damaged: it is put aside for people to look at, and a new one begins, because a nightbell without a memory of its
//! own still rings, and one that does not start rings for nobody.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Error, State, on_pool};
use crate::model::Timestamp;

/// Time for the driver to let a damaged file go.
const CLOSING: Duration = Duration::from_millis(200);

impl State {
    /// Opens the SQLite file at `path`. A damaged one is moved to `<path>.broken-<seconds>` (with its write-ahead log) and a new one begun; the
    /// second value says where the damaged one is. Any other failure errs and leaves the file alone.
    pub async fn open_or_replace(path: &Path, now: Timestamp) -> Result<(Self, Option<PathBuf>), Error> {
        let opened = match Self::open(path).await {
            Ok(state) => match state.check().await {
                Ok(()) => return Ok((state, None)),
                Err(error) => {
                    state.close().await;
                    Err(error)
                }
            },
            Err(error) => Err(error),
        };
        let damaged = match opened {
            Err(error) if error.is_damage() => error,
            other => return other.map(|state| (state, None)),
        };
        // The driver closes a connection that failed in a thread of its own, and that may still remove files by their names.
        tokio::time::sleep(CLOSING).await;
        let aside = beside(path, &format!(".broken-{}", now.0.div_euclid(1000)));
        for suffix in ["", "-wal", "-shm"] {
            let from = beside(path, suffix);
            match std::fs::rename(&from, beside(&aside, suffix)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound && !suffix.is_empty() => {}
                // What cannot be moved cannot be replaced either: the caller goes on from memory, with the first reason.
                Err(_) => return Err(damaged),
            }
        }
        let state = Self::open(path).await?;
        state.0.replaced_at.set(now.seconds());
        Ok((state, Some(aside)))
    }

    /// Reads every page once and compares: SQLite's own check.
    async fn check(&self) -> Result<(), Error> {
        let super::Pool::Sqlite(_) = self.pool() else { return Ok(()) };
        let (verdict,): (String,) =
            on_pool!(self, "check", |pool| async { sqlx::query_as("PRAGMA quick_check(1)").fetch_one(pool).await })?;
        if verdict == "ok" { Ok(()) } else { Err(Error::Damaged(verdict)) }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
