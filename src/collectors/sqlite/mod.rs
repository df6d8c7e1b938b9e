//! A SQLite database file: whether it opens and answers, its size, pages and write-ahead log, who
//! holds the write lock, and whether it is sound (<https://www.sqlite.org/pragma.html>,
//! <https://www.sqlite.org/fileformat2.html>).
//!
//! It opens the file read-only, for the moment of a collection, in the way that creates,
//! checkpoints and keeps no file ([`look`] chooses it); only `PRAGMA quick_check`, on its own slow
//! schedule, holds a read transaction for longer. It reads no row of any table, but for the queries
//! of the configuration. One measurement runs at a time: of a file system that hangs, one thread
//! waits, however long.

mod look;
mod own;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Section;
use crate::model::MetricKind::{Counter, Gauge};
use crate::model::{Batch, Timestamp};

use super::sql::{self, Dialect, Queries, Query, Reader, Run};
use super::{CollectError, Collector, CollectorKind, Report, Target};
use look::{Access, Look};

/// The collector `sqlite`.
pub const KIND: CollectorKind = CollectorKind {
    name: "sqlite",
    about: "a SQLite file: size, pages, write-ahead log, lock contention, integrity",
    metrics: &[METRICS, &sql::METRICS],
    build,
};

metrics! {
    UP "sqlite_up" Gauge "" &[], "1 when the file opened and answered a query.", "nightbell";
    CONNECT_DURATION_SECONDS "sqlite_connect_duration_seconds" Gauge "seconds" &[], "Time that opening the file took.", "nightbell";
    QUERY_DURATION_SECONDS "sqlite_query_duration_seconds" Gauge "seconds" &[], "Time that reading the schema took.", "sqlite_schema";
    FILE_SIZE_BYTES "sqlite_file_size_bytes" Gauge "bytes" &[], "Size of the database file.", "stat";
    WAL_SIZE_BYTES "sqlite_wal_size_bytes" Gauge "bytes" &[], "Size of the write-ahead log; 0 when there is none.", "stat";
    PAGE_SIZE_BYTES "sqlite_page_size_bytes" Gauge "bytes" &[], "Size of a page.", "PRAGMA page_size";
    PAGES "sqlite_pages" Gauge "" &[], "Pages of the database.", "PRAGMA page_count";
    FREE_PAGES "sqlite_free_pages" Gauge "" &[], "Pages that hold nothing; VACUUM would give them back.", "PRAGMA freelist_count";
    SCHEMA_OBJECTS "sqlite_schema_objects" Gauge "" &[], "Tables, indexes, views and triggers.", "sqlite_schema";
    WRITE_LOCK_HELD "sqlite_write_lock_held" Gauge "" &[], "1 when a process held the write lock at the moment of the collection.", "/proc/locks";
    BUSY_TOTAL "sqlite_busy_total" Counter "" &[], "Collections that found the file locked for longer than they could wait.", "SQLITE_BUSY";
    JOURNAL_MODE "sqlite_journal_mode" Gauge "" &["mode"], "1; the label is the journal mode.", "PRAGMA journal_mode";
    INTEGRITY_OK "sqlite_integrity_ok" Gauge "" &[], "1 when the last complete check found the file sound.", "PRAGMA quick_check";
    INTEGRITY_CHECK_DURATION_SECONDS "sqlite_integrity_check_duration_seconds" Gauge "seconds" &[], "Time that the last complete check took.", "PRAGMA quick_check";
    INTEGRITY_CHECK_TIMESTAMP_SECONDS "sqlite_integrity_check_timestamp_seconds" Gauge "seconds" &[], "When the last complete check ended, Unix time.", "PRAGMA quick_check";
}

/// A check that takes longer is given up: it holds back the log's checkpoints.
const CHECK_TIMEOUT: Duration = Duration::from_secs(600);
/// How large a file may be that is checked every hour rather than every day.
const SMALL: u64 = 100_000_000;
/// A file that something else than SQLite writes to is checked again at once, but for a twentieth
/// of the time at most.
const CHECK_SHARE: u32 = 20;
/// How often a check without locks is repeated that a writer came in between of, before one with a
/// lock decides.
const MAX_UNSURE: u32 = 3;

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let path: PathBuf = section.require("path");
    let integrity_interval = section.get("integrity_interval");
    Box::new(Sqlite {
        path,
        integrity_interval,
        target: target.clone(),
        busy: 0,
        running: None,
        look: None,
        check: None,
        is_check_locked: false,
        checked: None,
        last_check: None,
        unsure: 0,
        queries: Queries::read(
            section,
            KIND.name,
            &Reader {
                dialect: Dialect::Sqlite,
                target,
                own: KIND.metrics,
            },
        ),
    })
}

struct Sqlite {
    path: PathBuf,
    /// Time between two integrity checks; zero for none, `None` for what suits the file's size.
    integrity_interval: Option<Duration>,
    target: Target,
    /// Collections that found the file locked.
    busy: u64,
    /// The measurement that is running, or hangs.
    running: Option<JoinHandle<Measured>>,
    /// What the file looked like the last time.
    look: Option<Look>,
    /// The check that is running.
    check: Option<JoinHandle<Result<Option<Checked>, String>>>,
    /// Whether it holds a lock on the file.
    is_check_locked: bool,
    checked: Option<Checked>,
    /// When a check was last begun.
    last_check: Option<Instant>,
    /// Checks in a row that a writer came in between of.
    unsure: u32,
    /// Those of the configuration.
    queries: Queries,
}

/// What one measurement brought.
struct Measured {
    batch: Batch,
    look: Option<Look>,
    result: Result<(), Problem>,
    runs: Vec<Run>,
}

/// What a complete check found.
#[derive(Clone, Debug)]
struct Checked {
    /// The first problem, `ok` if there is none.
    finding: String,
    took: Duration,
    ended: Timestamp,
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        if let Some(check) = &self.check {
            check.abort();
        }
    }
}

impl Collector for Sqlite {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            // A tenth is kept back so that sqlite_up can still be said before the loop's own
            // deadline.
            let deadline = Instant::now() + self.target.timeout.mul_f64(0.9);
            let result = self.measure_until(deadline, batch).await;
            if result.is_err() {
                self.queries.lose();
            }
            self.queries.emit(batch);
            self.busy += u64::from(matches!(result, Err(Problem::Busy)));
            batch.push(&UP, &[], f64::from(u8::from(result.is_ok())));
            batch.push(&BUSY_TOTAL, &[], self.busy as f64);
            let checked = self.check_integrity(result.is_ok(), batch).await;
            result
                .map_err(|problem| problem.to_string())
                .and(checked)
                .map_err(CollectError::new)
        }
        .boxed()
    }

    fn address(&self) -> String {
        format!("sqlite://{}", self.path.display())
    }

    fn chosen(&self) -> Vec<String> {
        self.queries.chosen()
    }

    fn missed(&mut self) {
        self.queries.missed();
    }

    fn report(&self) -> Report {
        let mut report = Report::default();
        self.queries.report(&mut report);
        report
    }
}

/// Why a file did not answer.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the database is locked")]
    Busy,
    /// A file that belongs to it cannot be opened.
    #[error("{0}")]
    Beside(String),
    #[error("{0}")]
    Other(String),
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // SQLITE_BUSY and its extensions have 5 in the low byte.
            sqlx::Error::Database(db)
                if db
                    .code()
                    .and_then(|c| c.parse::<u32>().ok())
                    .is_some_and(|code| code & 0xff == 5) =>
            {
                Problem::Busy
            }
            // SQLITE_READONLY and SQLITE_CANTOPEN.
            sqlx::Error::Database(db)
                if db
                    .code()
                    .and_then(|c| c.parse::<u32>().ok())
                    .is_some_and(|c| matches!(c & 0xff, 8 | 14)) =>
            {
                Problem::Beside(db.message().replace('\n', " "))
            }
            sqlx::Error::Database(db) => Problem::Other(db.message().replace('\n', " ")),
            other => Problem::Other(other.to_string().replace('\n', " ")),
        }
    }
}

async fn open(
    path: &Path,
    access: Access,
    busy: Duration,
) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(look::uri(path, access))
        .read_only(true);
    let options = options.busy_timeout(busy).disable_statement_logging();
    options
        .thread_name(|id| format!("sqlite-{id}"))
        .connect()
        .await
}

/// Everything about the file that is read without SQLite, then what SQLite says. `unlocked` when a
/// check of ours has the file open and holds no lock on it.
async fn measure(
    path: PathBuf,
    busy: Duration,
    unlocked: bool,
    before: Option<Look>,
    due: Vec<Arc<Query>>,
    deadline: Instant,
) -> Measured {
    let mut batch = Batch::new();
    let (seen, guard) = match look::take(path.clone(), unlocked, before).await {
        Ok(found) => found,
        Err(error) => {
            return Measured {
                batch,
                look: None,
                result: Err(Problem::Other(error.to_string())),
                runs: Vec::new(),
            };
        }
    };
    batch.push(&FILE_SIZE_BYTES, &[], seen.size as f64);
    batch.push(&WAL_SIZE_BYTES, &[], seen.wal as f64);
    if let Some(held) = seen.write_lock_held {
        batch.push(&WRITE_LOCK_HELD, &[], f64::from(u8::from(held)));
    }
    let started = Instant::now();
    let result = match seen.access {
        Access::Header => {
            seen.report(&mut batch);
            Ok(())
        }
        access => match ask(&path, access, busy, &seen, &mut batch).await {
            // Files beside it that we may not open are the application's own; the database itself
            // can be read.
            Err(Problem::Beside(_)) if seen.header.is_some_and(|header| header.wal) => {
                seen.report(&mut batch);
                Ok(())
            }
            other => other,
        },
    };
    if seen.access == Access::Header && result.is_ok() {
        batch.push(
            &CONNECT_DURATION_SECONDS,
            &[],
            started.elapsed().as_secs_f64(),
        );
    }
    let runs = if result.is_ok() {
        own::run_all(&path, &seen, &due, deadline).await
    } else {
        Vec::new()
    };
    drop(guard);
    Measured {
        batch,
        look: Some(seen),
        result,
        runs,
    }
}

async fn ask(
    path: &Path,
    access: Access,
    busy: Duration,
    seen: &Look,
    batch: &mut Batch,
) -> Result<(), Problem> {
    let started = Instant::now();
    let mut connection = open(path, access, busy).await?;
    let mut found = Batch::new();
    found.push(
        &CONNECT_DURATION_SECONDS,
        &[],
        started.elapsed().as_secs_f64(),
    );
    let asked = Instant::now();
    let objects: i64 = connection
        .fetch_one("SELECT count(*) FROM sqlite_schema")
        .await?
        .try_get(0)?;
    found.push(&QUERY_DURATION_SECONDS, &[], asked.elapsed().as_secs_f64());
    found.push(&SCHEMA_OBJECTS, &[], objects as f64);
    for (desc, pragma) in [
        (&PAGE_SIZE_BYTES, "PRAGMA page_size"),
        (&PAGES, "PRAGMA page_count"),
        (&FREE_PAGES, "PRAGMA freelist_count"),
    ] {
        let value: i64 = connection.fetch_one(pragma).await?.try_get(0)?;
        found.push(desc, &[], value as f64);
    }
    let mode: String = match seen.header {
        Some(header) if header.wal => "wal".into(),
        _ => connection
            .fetch_one("PRAGMA journal_mode")
            .await?
            .try_get(0)?,
    };
    found.push(&JOURNAL_MODE, &[("mode", &mode)], 1.0);
    connection.close().await?;
    batch.append(found);
    Ok(())
}

impl Sqlite {
    /// One measurement; the one of before is waited for first. A file system that hangs keeps it,
    /// and no other is begun meanwhile.
    async fn measure_until(&mut self, deadline: Instant, batch: &mut Batch) -> Result<(), Problem> {
        if let Some(before) = &mut self.running {
            if timeout_at(deadline, before).await.is_err() {
                return Err(Problem::Other(
                    "timed out: the file system has not answered since an earlier collection"
                        .into(),
                ));
            }
            self.running = None;
        }
        let unlocked = self
            .check
            .as_ref()
            .is_some_and(|check| !check.is_finished())
            && !self.is_check_locked;
        let due = self.queries.due();
        let measuring = measure(
            self.path.clone(),
            self.target.timeout / 2,
            unlocked,
            self.look,
            due.clone(),
            deadline,
        );
        let running = self.running.insert(tokio::spawn(measuring));
        let Ok(ended) = timeout_at(deadline, running).await else {
            return Err(Problem::Other("timed out".into()));
        };
        self.running = None;
        let found = ended.map_err(|_| Problem::Other("ended early".into()))?;
        batch.append(found.batch);
        self.queries.finish(&due, found.runs);
        if let Some(seen) = found.look {
            if self.look.is_some_and(|before| seen.was_rewritten(&before))
                && let (Some(begun), Some(checked)) = (self.last_check, &self.checked)
                && begun.elapsed() > (checked.took * CHECK_SHARE).max(Duration::from_secs(1))
            {
                self.last_check = None;
            }
            self.look = Some(seen);
        }
        found.result
    }

    /// Whether a check that begins now holds a lock.
    fn check_locks(&self) -> bool {
        self.unsure >= MAX_UNSURE
            || self
                .look
                .is_none_or(|look| look.header.is_none_or(|header| header.wal))
    }

    /// Begins a check when it is time, takes over the result of one that has ended, and repeats
    /// what the last one found.
    async fn check_integrity(&mut self, up: bool, batch: &mut Batch) -> Result<(), String> {
        let mut result = Ok(());
        if self.check.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(check) = self.check.take()
        {
            match check.await {
                Ok(Ok(Some(checked))) => (self.checked, self.unsure) = (Some(checked), 0),
                // A writer came in between: again.
                Ok(Ok(None)) => (self.last_check, self.unsure) = (None, self.unsure + 1),
                Ok(Err(problem)) => result = Err(format!("integrity check: {problem}")),
                Err(_) => result = Err("integrity check: ended early".into()),
            }
        }
        let by_size = if self.look.is_some_and(|look| look.size < SMALL) {
            3600
        } else {
            86_400
        };
        let interval = self
            .integrity_interval
            .unwrap_or(Duration::from_secs(by_size));
        let due = self
            .last_check
            .is_none_or(|begun| begun.elapsed() >= interval);
        let readable = self.look.filter(|look| look.access != Access::Header);
        if let Some(look) =
            readable.filter(|_| up && due && self.check.is_none() && !interval.is_zero())
        {
            // With a journal a reader's lock would make writers wait for the end of the check.
            let access = if self.check_locks() {
                look.access
            } else {
                Access::Immutable
            };
            self.is_check_locked = access == Access::Reader;
            self.last_check = Some(Instant::now());
            self.check = Some(tokio::spawn(check(self.path.clone(), access, look)));
        }
        if let Some(checked) = &self.checked {
            batch.push(
                &INTEGRITY_OK,
                &[],
                f64::from(u8::from(checked.finding == "ok")),
            );
            batch.push(
                &INTEGRITY_CHECK_DURATION_SECONDS,
                &[],
                checked.took.as_secs_f64(),
            );
            batch.push(
                &INTEGRITY_CHECK_TIMESTAMP_SECONDS,
                &[],
                checked.ended.seconds(),
            );
            if checked.finding != "ok" && result.is_ok() {
                result = Err(format!("integrity check: {}", checked.finding));
            }
        }
        result
    }
}

/// One integrity check, on a connection of its own. It stops itself when nobody waits for it any
/// longer. `None` when it was made without a lock, and what it found may be a writer's work.
async fn check(path: PathBuf, access: Access, before: Look) -> Result<Option<Checked>, String> {
    let started = Instant::now();
    let mut connection = open(&path, access, Duration::from_secs(5))
        .await
        .map_err(|e| Problem::from(e).to_string())?;
    let limit = std::time::Instant::now() + CHECK_TIMEOUT;
    let mut handle = connection
        .lock_handle()
        .await
        .map_err(|e| Problem::from(e).to_string())?;
    handle.set_progress_handler(100_000, move || std::time::Instant::now() < limit);
    drop(handle);
    // The first problem is enough.
    let answer = timeout(
        CHECK_TIMEOUT + Duration::from_secs(10),
        connection.fetch_one("PRAGMA quick_check(1)"),
    )
    .await;
    let finding = match answer {
        Err(_) => return Err("timed out".into()),
        // A file that is damaged at its root makes the check itself fail: that is a finding, too.
        Ok(Err(sqlx::Error::Database(db)))
            if db.message().contains("malformed") || db.message().contains("not a database") =>
        {
            db.message().to_owned()
        }
        Ok(Err(error)) => return Err(Problem::from(error).to_string()),
        Ok(Ok(row)) => row
            .try_get::<String, _>(0)
            .map_err(|e| e.to_string())?
            .replace('\n', " "),
    };
    drop(connection.close().await);
    if finding != "ok" && access == Access::Immutable && !before.is_still(&path).await {
        return Ok(None);
    }
    Ok(Some(Checked {
        finding,
        took: started.elapsed(),
        ended: Timestamp::now(),
    }))
}
