//! A SQLite database file: whether it opens and answers, its size, pages and write-ahead log, who holds the write lock, and whether it is
//! sound (<https://www.sqlite.org/pragma.html>, <https://www.sqlite.org/fileformat2.html>).
//!
//! It opens the file read-only, for the moment of a collection, so that it never creates, checkpoints or keeps a file; only
//! `PRAGMA quick_check`, on its own slow schedule, holds a read transaction for longer. It reads no row of any table.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Section;
use crate::model::{Batch, MetricDesc, MetricKind, Timestamp};

use super::{CollectError, Collector, CollectorKind, Target};

/// The collector `sqlite`.
pub const KIND: CollectorKind = CollectorKind {
    name: "sqlite",
    about: "a SQLite file: size, pages, write-ahead log, lock contention, integrity",
    metrics: &[&METRICS],
    build,
};

const fn gauge(name: &'static str, unit: &'static str, help: &'static str, source: &'static str) -> MetricDesc {
    MetricDesc { name, kind: MetricKind::Gauge, unit, help, labels: &[], source }
}

static METRICS: [MetricDesc; 15] = [
    gauge("sqlite_up", "", "1 when the file opened and answered a query.", "nightbell"),
    gauge("sqlite_connect_duration_seconds", "seconds", "Time that opening the file took.", "nightbell"),
    gauge("sqlite_query_duration_seconds", "seconds", "Time that reading the schema took.", "sqlite_schema"),
    gauge("sqlite_file_size_bytes", "bytes", "Size of the database file.", "stat"),
    gauge("sqlite_wal_size_bytes", "bytes", "Size of the write-ahead log; 0 when there is none.", "stat"),
    gauge("sqlite_page_size_bytes", "bytes", "Size of a page.", "PRAGMA page_size"),
    gauge("sqlite_pages", "", "Pages of the database.", "PRAGMA page_count"),
    gauge("sqlite_free_pages", "", "Pages that hold nothing; VACUUM would give them back.", "PRAGMA freelist_count"),
    gauge("sqlite_schema_objects", "", "Tables, indexes, views and triggers.", "sqlite_schema"),
    gauge("sqlite_write_lock_held", "", "1 when a process held the write lock at the moment of the collection.", "/proc/locks"),
    MetricDesc {
        name: "sqlite_busy_total",
        kind: MetricKind::Counter,
        unit: "",
        help: "Collections that found the file locked for longer than they could wait.",
        labels: &[],
        source: "SQLITE_BUSY",
    },
    MetricDesc {
        name: "sqlite_journal_mode",
        kind: MetricKind::Gauge,
        unit: "",
        help: "1; the label is the journal mode.",
        labels: &["mode"],
        source: "PRAGMA journal_mode",
    },
    gauge("sqlite_integrity_ok", "", "1 when the last complete check found the file sound.", "PRAGMA quick_check"),
    gauge("sqlite_integrity_check_duration_seconds", "seconds", "Time that the last complete check took.", "PRAGMA quick_check"),
    gauge("sqlite_integrity_check_timestamp_seconds", "seconds", "When the last complete check ended, Unix time.", "PRAGMA quick_check"),
];

/// A check that takes longer is given up: it holds back the log's checkpoints.
const CHECK_TIMEOUT: Duration = Duration::from_secs(600);

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let path: PathBuf = section.require("path");
    let integrity_interval = section.or("integrity_interval", Duration::from_secs(86_400));
    Box::new(Sqlite { path, integrity_interval, target: target.clone(), busy: 0, check: None, checked: None, last_check: None })
}

struct Sqlite {
    path: PathBuf,
    /// Time between two integrity checks; zero for none.
    integrity_interval: Duration,
    target: Target,
    /// Collections that found the file locked.
    busy: u64,
    /// The check that is running.
    check: Option<JoinHandle<Result<Checked, String>>>,
    checked: Option<Checked>,
    /// When a check was last begun.
    last_check: Option<Instant>,
}

/// What a complete check found.
#[derive(Clone, Debug)]
struct Checked {
    /// The first problem, `ok` if there is none.
    verdict: String,
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
            // A tenth is kept back so that sqlite_up can still be said before the loop's own deadline.
            let deadline = Instant::now() + self.target.timeout.mul_f64(0.9);
            let measured = timeout_at(deadline, measure(&self.path, self.target.timeout / 2, batch)).await;
            let result = measured.unwrap_or_else(|_| Err(Problem::Other("timed out".into())));
            self.busy += u64::from(matches!(result, Err(Problem::Busy)));
            batch.push(&METRICS[0], &[], f64::from(u8::from(result.is_ok())));
            batch.push(&METRICS[10], &[], self.busy as f64);
            let checked = self.check_integrity(result.is_ok(), batch).await;
            result.map_err(|problem| problem.to_string()).and(checked).map_err(CollectError::new)
        }
        .boxed()
    }

    fn address(&self) -> String {
        format!("sqlite://{}", self.path.display())
    }
}

/// Why a file did not answer.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the database is locked")]
    Busy,
    #[error("{0}")]
    Other(String),
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // SQLITE_BUSY and its extensions have 5 in the low byte.
            sqlx::Error::Database(db) if db.code().and_then(|c| c.parse::<u32>().ok()).is_some_and(|code| code & 0xff == 5) => {
                Problem::Busy
            }
            sqlx::Error::Database(db) => Problem::Other(db.message().replace('\n', " ")),
            other => Problem::Other(other.to_string().replace('\n', " ")),
        }
    }
}

async fn open(path: &Path, busy: Duration) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(busy).disable_statement_logging();
    options.thread_name(|id| format!("sqlite-{id}")).connect().await
}

async fn measure(path: &Path, busy: Duration, batch: &mut Batch) -> Result<(), Problem> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let file = tokio::fs::metadata(path).await.map_err(|e| Problem::Other(e.to_string()))?;
    let wal = tokio::fs::metadata(beside("-wal")).await.map_or(0, |m| m.len());
    batch.push(&METRICS[3], &[], file.len() as f64);
    batch.push(&METRICS[4], &[], wal as f64);
    let index = tokio::fs::metadata(beside("-shm")).await.ok().map(|m| (m.dev(), m.ino()));
    if let Ok(locks) = tokio::fs::read_to_string("/proc/locks").await {
        batch.push(&METRICS[9], &[], f64::from(u8::from(write_lock_held(&locks, (file.dev(), file.ino()), index))));
    }
    let started = Instant::now();
    let mut connection = open(path, busy).await?;
    batch.push(&METRICS[1], &[], started.elapsed().as_secs_f64());
    let asked = Instant::now();
    let objects: i64 = connection.fetch_one("SELECT count(*) FROM sqlite_schema").await?.try_get(0)?;
    batch.push(&METRICS[2], &[], asked.elapsed().as_secs_f64());
    batch.push(&METRICS[8], &[], objects as f64);
    for (desc, pragma) in METRICS[5..8].iter().zip(["PRAGMA page_size", "PRAGMA page_count", "PRAGMA freelist_count"]) {
        let value: i64 = connection.fetch_one(pragma).await?.try_get(0)?;
        batch.push(desc, &[], value as f64);
    }
    let mode: String = connection.fetch_one("PRAGMA journal_mode").await?.try_get(0)?;
    batch.push(&METRICS[11], &[("mode", &mode)], 1.0);
    connection.close().await?;
    Ok(())
}

/// Whether `/proc/locks` shows the write lock: byte 120 of the log's index, or the RESERVED byte (and what follows) of the file itself
/// (<https://www.sqlite.org/walformat.html#wal_locks>, `PENDING_BYTE` in os.h).
fn write_lock_held(locks: &str, file: (u64, u64), index: Option<(u64, u64)>) -> bool {
    const WAL_WRITE: u64 = 120;
    const RESERVED: u64 = 0x4000_0001;
    locks.lines().any(|line| {
        // `1: POSIX  ADVISORY  WRITE 1234 08:02:131 120 120`; a `->` after the number marks one that waits.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, "WRITE", _, inode, first, last] = words.as_slice() else { return false };
        let mut parts = inode.split(':');
        let (Some(major), Some(minor), Some(number)) = (parts.next(), parts.next(), parts.next()) else { return false };
        let (Ok(major), Ok(minor)) = (u32::from_str_radix(major, 16), u32::from_str_radix(minor, 16)) else { return false };
        let place = (rustix::fs::makedev(major, minor), number.parse::<u64>().unwrap_or_default());
        let (first, last) = (first.parse().unwrap_or(0), last.parse().unwrap_or(u64::MAX));
        let covers = |byte: u64| first <= byte && byte <= last;
        (place == file && covers(RESERVED)) || (Some(place) == index && covers(WAL_WRITE))
    })
}

impl Sqlite {
    /// Begins a check when it is time, takes over the result of one that has ended, and repeats what the last one found.
    async fn check_integrity(&mut self, up: bool, batch: &mut Batch) -> Result<(), String> {
        let mut result = Ok(());
        if self.check.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(check) = self.check.take()
        {
            match check.await {
                Ok(Ok(checked)) => self.checked = Some(checked),
                Ok(Err(problem)) => result = Err(format!("integrity check: {problem}")),
                Err(_) => result = Err("integrity check: ended early".into()),
            }
        }
        let due = self.last_check.is_none_or(|begun| begun.elapsed() >= self.integrity_interval);
        if up && due && self.check.is_none() && !self.integrity_interval.is_zero() {
            self.last_check = Some(Instant::now());
            self.check = Some(tokio::spawn(check(self.path.clone())));
        }
        if let Some(checked) = &self.checked {
            batch.push(&METRICS[12], &[], f64::from(u8::from(checked.verdict == "ok")));
            batch.push(&METRICS[13], &[], checked.took.as_secs_f64());
            batch.push(&METRICS[14], &[], checked.ended.seconds());
            if checked.verdict != "ok" && result.is_ok() {
                result = Err(format!("integrity check: {}", checked.verdict));
            }
        }
        result
    }
}

/// One integrity check, on a connection of its own. It stops itself when nobody waits for it any longer.
async fn check(path: PathBuf) -> Result<Checked, String> {
    let started = Instant::now();
    let mut connection = open(&path, Duration::from_secs(5)).await.map_err(|e| Problem::from(e).to_string())?;
    let limit = std::time::Instant::now() + CHECK_TIMEOUT;
    let mut handle = connection.lock_handle().await.map_err(|e| Problem::from(e).to_string())?;
    handle.set_progress_handler(100_000, move || std::time::Instant::now() < limit);
    drop(handle);
    // The first problem is enough.
    let answer = timeout(CHECK_TIMEOUT + Duration::from_secs(10), connection.fetch_one("PRAGMA quick_check(1)")).await;
    match answer {
        Err(_) => Err("timed out".into()),
        // A file that is damaged at its root makes the check itself fail: that is a verdict, too.
        Ok(Err(sqlx::Error::Database(db))) if db.message().contains("malformed") || db.message().contains("not a database") => {
            Ok(Checked { verdict: db.message().to_owned(), took: started.elapsed(), ended: Timestamp::now() })
        }
        Ok(Err(error)) => Err(Problem::from(error).to_string()),
        Ok(Ok(row)) => {
            let verdict: String = row.try_get(0).map_err(|e| e.to_string())?;
            Ok(Checked { verdict: verdict.replace('\n', " "), took: started.elapsed(), ended: Timestamp::now() })
        }
    }
}
