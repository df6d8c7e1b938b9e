//! How large the database is, and giving back to the file system what it no longer needs.

use std::time::Duration;

use tracing::{info, warn};

use super::statement::statement;
use super::tables::outbox;
use super::{Error, Pool, State, on_pool};
use crate::model::Timestamp;

/// Pages that are given back at once: 16 MB, a fraction of a second.
const PAGES: i64 = 4096;
/// Longest time that a file of an older version may take to be rewritten.
const REWRITING: Duration = Duration::from_secs(60);
/// Largest file that is rewritten for it, in bytes: it needs as much room again.
const MAX_REWRITTEN: u64 = 1 << 30;
/// How the file says that it can give pages back one by one
/// (<https://sqlite.org/pragma.html#pragma_auto_vacuum>).
const INCREMENTAL: i64 = 2;
/// Most bytes of messages among the dead letters.
const MAX_LETTER_BYTES: i64 = 64 << 20;
/// Most messages in the outbox; the oldest become dead letters.
const MAX_OUTBOX: i64 = 100_000;
/// Most entries of the notification log.
const MAX_LOG: i64 = 200_000;

impl State {
    /// Rewrites a file that an older version made, once, so that it can give room back. One that
    /// cannot be rewritten is used as it is.
    pub(super) async fn make_shrinkable(&self) {
        let Some(path) = self.0.file.lock().clone() else {
            return;
        };
        let mode = on_pool!(self, "read size", |pool| async {
            sqlx::query_as::<_, (i64,)>("PRAGMA auto_vacuum")
                .fetch_one(pool)
                .await
        });
        if !mode.is_ok_and(|(mode,)| mode != INCREMENTAL)
            || path.metadata().is_ok_and(|file| file.len() > MAX_REWRITTEN)
        {
            return;
        }
        let Pool::Sqlite(pool) = self.pool() else {
            return;
        };
        let rewrite = async {
            let mut connection = pool.acquire().await?;
            sqlx::query("PRAGMA auto_vacuum = 2")
                .execute(&mut *connection)
                .await?;
            sqlx::query("VACUUM")
                .execute(&mut *connection)
                .await
                .map(drop)
        };
        match self.within("rewrite file", REWRITING, rewrite).await {
            Ok(()) => info!("The state database was rewritten, so that it can give room back."),
            Err(error) => {
                warn!(%error, "The state database cannot be rewritten; it keeps the room that it once took.")
            }
        }
    }

    /// Keeps the tables within their bounds, the file without pages that nothing needs, and the
    /// metric of its size up to date.
    pub async fn trim(&self, now: Timestamp) -> Result<(), Error> {
        self.bound(now).await?;
        if let Pool::Sqlite(pool) = self.pool() {
            let free = on_pool!(self, "read size", |pool| async {
                sqlx::query_as::<_, (i64,)>("PRAGMA freelist_count")
                    .fetch_one(pool)
                    .await
            });
            for _ in 0..=free.map_or(0, |(pages,)| pages / PAGES) {
                let give_back = async {
                    sqlx::query("PRAGMA incremental_vacuum(4096)")
                        .fetch_all(&pool)
                        .await
                        .map(drop)
                };
                self.within("give room back", super::DEADLINE, give_back)
                    .await?;
            }
            let fold = async {
                sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                    .fetch_all(&pool)
                    .await
                    .map(drop)
            };
            self.within("give room back", super::DEADLINE, fold).await?;
        }
        self.measure();
        Ok(())
    }

    async fn bound(&self, now: Timestamp) -> Result<(), Error> {
        let log = "DELETE FROM notification_log WHERE expires_ms < (SELECT MIN(expires_ms) FROM (SELECT expires_ms FROM notification_log \
                   ORDER BY expires_ms DESC LIMIT $1) AS newest)";
        let escalations = "DELETE FROM escalations WHERE told_ms < (SELECT MIN(told_ms) FROM (SELECT told_ms FROM escalations \
                           ORDER BY told_ms DESC LIMIT $1) AS newest)";
        let mut statements = outbox::bounds(MAX_OUTBOX, MAX_LETTER_BYTES, now).to_vec();
        statements.extend([
            statement(log, [MAX_LOG.into()]),
            statement(escalations, [MAX_LOG.into()]),
        ]);
        self.write("keep bounds", &statements).await
    }

    /// Sets the metric of the file's size.
    pub fn measure(&self) {
        let Some(path) = self.0.file.lock().clone() else {
            return;
        };
        let of = |suffix: &str| {
            std::fs::metadata(format!("{}{suffix}", path.display())).map_or(0, |file| file.len())
        };
        self.0
            .bytes
            .set(i64::try_from(of("") + of("-wal")).unwrap_or(i64::MAX));
    }
}
