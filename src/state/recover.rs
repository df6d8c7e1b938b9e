//! A state database that is damaged: it is put aside for people to look at, and a new one begins
//! with the rows of it that can be read, because a nightbell without a memory of its own still
//! rings, and one that does not start rings for nobody.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::{Error, Pool, State, on_pool};
use crate::model::Timestamp;

/// Time for the driver to let a damaged file go.
const CLOSING: Duration = Duration::from_millis(200);

/// Longest time for the rows of a damaged file.
const SALVAGE: Duration = Duration::from_secs(30);
/// Rows between two damaged parts that are asked for one by one.
const GAP: i64 = 10_000;
/// Rows that are read at once.
const STEP: i64 = 500;
/// The tables whose rows are taken over, what matters most first.
const TABLES: [&str; 15] = [
    "secrets",
    "silences",
    "maintenance_done",
    "maintenance_windows",
    "schedules",
    "outbox",
    "notification_log",
    "alerts",
    "alert_groups",
    "escalations",
    "rule_alerts",
    "action_log",
    "dead_letters",
    "flaps",
    "decisions",
];

/// What became of a damaged file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Where it is now.
    pub aside: PathBuf,
    /// How many of its rows are in the new one.
    pub rows: usize,
}

impl State {
    /// Opens the SQLite file at `path`. A damaged one is moved to `<path>.broken-<seconds>` (with
    /// its write-ahead log) and a new one begun, with the rows that can still be read; the second
    /// value says so. Any other failure errs and leaves the file alone.
    pub async fn open_or_replace(
        path: &Path,
        now: Timestamp,
    ) -> Result<(Self, Option<Replaced>), Error> {
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
        // The driver closes a connection that failed in a thread of its own, and that may still
        // remove files by their names.
        tokio::time::sleep(CLOSING).await;
        let aside = beside(path, &format!(".broken-{}", now.0.div_euclid(1000)));
        for suffix in ["", "-wal", "-shm"] {
            let from = beside(path, suffix);
            match std::fs::rename(&from, beside(&aside, suffix)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound && !suffix.is_empty() => {}
                // What cannot be moved cannot be replaced either: the caller goes on from memory,
                // with the first reason.
                Err(_) => return Err(damaged),
            }
        }
        let state = Self::open(path).await?;
        state.0.replaced_at.set(now.seconds());
        let rows = match state.pool() {
            Pool::Sqlite(pool) => tokio::time::timeout(SALVAGE, salvage(&aside, &pool))
                .await
                .unwrap_or(0),
            Pool::Postgres(_) => 0,
        };
        Ok((state, Some(Replaced { aside, rows })))
    }

    /// Reads every page once and compares: SQLite's own check.
    async fn check(&self) -> Result<(), Error> {
        let Pool::Sqlite(_) = self.pool() else {
            return Ok(());
        };
        let (answer,): (String,) = on_pool!(self, "check", |pool| async {
            sqlx::query_as("PRAGMA quick_check(1)")
                .fetch_one(pool)
                .await
        })?;
        if answer == "ok" {
            Ok(())
        } else {
            Err(Error::Damaged(answer))
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the rows that can be read out of a damaged file; gives how many.
async fn salvage(damaged: &Path, to: &SqlitePool) -> usize {
    let options = SqliteConnectOptions::new()
        .filename(damaged)
        .read_only(true);
    let Ok(from) = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
    else {
        return 0;
    };
    let mut taken = 0;
    for table in TABLES {
        // Nothing of a table that cannot be read at all, or written: the others may be whole.
        taken += Copy::of(table, &from, to)
            .await
            .map_or(0, |copy| copy.taken);
    }
    from.close().await;
    taken
}

/// Takes all rows of one database over into another, where those that are there already stay as
/// they are.
pub(super) async fn copy_rows(from: &SqlitePool, to: &SqlitePool) -> Result<usize, sqlx::Error> {
    let mut taken = 0;
    for table in TABLES {
        taken += Copy::of(table, from, to).await?.taken;
    }
    Ok(taken)
}

/// The rows of one table on their way.
struct Copy<'a> {
    from: &'a SqlitePool,
    to: &'a SqlitePool,
    read: String,
    write: String,
    columns: usize,
    taken: usize,
}

impl<'a> Copy<'a> {
    /// Takes what can be read from the beginning, then from the end, then one by one what lies
    /// between.
    async fn of(
        table: &str,
        from: &'a SqlitePool,
        to: &'a SqlitePool,
    ) -> Result<Self, sqlx::Error> {
        let columns = async |pool: &SqlitePool| -> Result<Vec<String>, sqlx::Error> {
            let rows = sqlx::query(AssertSqlSafe(format!("PRAGMA table_info({table})")))
                .fetch_all(pool)
                .await?;
            Ok(rows
                .iter()
                .filter_map(|row| row.try_get::<String, _>("name").ok())
                .collect())
        };
        let known = columns(to).await?;
        let shared: Vec<String> = columns(from)
            .await?
            .into_iter()
            .filter(|name| known.contains(name))
            .collect();
        let names = shared.join(", ");
        let markers = (1..=shared.len())
            .map(|n| format!("${n}"))
            .collect::<Vec<_>>()
            .join(", ");
        let mut copy = Copy {
            from,
            to,
            // An index may be what is damaged.
            read: format!("SELECT rowid AS position, {names} FROM {table} NOT INDEXED"),
            write: format!("INSERT OR IGNORE INTO {table} ({names}) VALUES ({markers})"),
            columns: shared.len(),
            taken: 0,
        };
        if shared.is_empty() {
            return Ok(copy);
        }
        let (first, whole) = copy.walk("rowid > $1 ORDER BY rowid", i64::MIN).await?;
        if !whole {
            let (last, _) = copy
                .walk("rowid < $1 ORDER BY rowid DESC", i64::MAX)
                .await?;
            let gap = first.max(0).saturating_add(1)..last.min(first.max(0).saturating_add(GAP));
            for position in gap {
                copy.walk_once("rowid = $1", position, 1).await?;
            }
        }
        Ok(copy)
    }

    /// Takes rows in steps until there are none, or one cannot be read: the position of the last
    /// one, and whether it was the end.
    async fn walk(&mut self, condition: &str, start: i64) -> Result<(i64, bool), sqlx::Error> {
        let (mut position, mut step) = (start, STEP);
        loop {
            match self.walk_once(condition, position, step).await? {
                Some(Some(last)) => position = last,
                Some(None) => return Ok((position, true)),
                // Up to the row before the one that cannot be read.
                None if step > 1 => step = 1,
                None => return Ok((position, false)),
            }
        }
    }

    /// `None` when reading failed; the position of the last row, if there was one.
    async fn walk_once(
        &mut self,
        condition: &str,
        position: i64,
        limit: i64,
    ) -> Result<Option<Option<i64>>, sqlx::Error> {
        let query = format!("{} WHERE {condition} LIMIT {limit}", self.read);
        let Ok(rows) = sqlx::query(AssertSqlSafe(query))
            .bind(position)
            .fetch_all(self.from)
            .await
        else {
            return Ok(None);
        };
        let last = rows
            .last()
            .and_then(|row| row.try_get::<i64, _>("position").ok());
        let mut transaction = self.to.begin().await?;
        for row in &rows {
            let Some(values) = values(row, self.columns) else {
                continue;
            };
            let query = sqlx::query(AssertSqlSafe(self.write.clone()));
            let query = values.into_iter().fold(query, |query, value| match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            });
            // A row that breaks a rule of its table is damaged, too.
            if query
                .execute(&mut *transaction)
                .await
                .is_ok_and(|done| done.rows_affected() > 0)
            {
                self.taken += 1;
            }
        }
        transaction.commit().await?;
        Ok(Some(last))
    }
}

enum Value {
    Text(String),
    Number(i64),
}

/// The values of a row behind its position; `None` when one of them is not what a column holds.
fn values(row: &SqliteRow, count: usize) -> Option<Vec<Value>> {
    let value = |index: usize| {
        let number = || row.try_get::<i64, _>(index).map(Value::Number);
        row.try_get::<String, _>(index)
            .map(Value::Text)
            .or_else(|_| number())
            .ok()
    };
    (1..=count).map(value).collect()
}
