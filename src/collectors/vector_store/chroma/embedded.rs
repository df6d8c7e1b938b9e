//! Chroma inside an application: its folder, without a server to ask.
//!
//! Privilege: to read the folder. Used: sizes of files, and SELECT on `chroma.sqlite3`, which SQLite
//! opens read-only and, in WAL mode, only where that makes no file; each statement is stopped after
//! a quarter of a second, so that the application never waits longer for us. Never used: whatever
//! writes, Chroma's own library, checkpoints. Nothing is searched: the index is the application's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::task::JoinHandle;

use crate::collectors::vector_store::metrics;
use crate::collectors::vector_store::store::Choice;
use crate::collectors::{CollectError, Collector, Target};
use crate::config::Section;
use crate::model::{Batch, Timestamp};

use super::disk::{self, DiskUse};

/// The value of the `store` label.
const STORE: &str = "chroma";
/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long a statement may read.
const STATEMENT: Duration = Duration::from_millis(250);
/// How long SQLite waits for the application's lock.
const BUSY: Duration = Duration::from_millis(200);
/// How long a check of the file may take.
const CHECK: Duration = Duration::from_secs(60);
/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 10_000;
/// Most files of one segment that are added up.
const MAX_FILES: usize = 1000;

const COLLECTIONS: &str = "SELECT c.name, c.dimension, s.id, s.scope, d.name FROM collections c \
    JOIN segments s ON s.collection = c.id LEFT JOIN databases d ON d.id = c.database_id ORDER BY c.name LIMIT 10000";
const COUNTS: &str = "SELECT segment_id, count(*) FROM embeddings GROUP BY segment_id";
const QUEUE: &str = "SELECT count(*) FROM embeddings_queue";
/// The newest row of each table, by its key.
const WRITTEN: &str = "SELECT max(at) FROM (\
    SELECT * FROM (SELECT CAST(strftime('%s', created_at) AS INTEGER) AS at FROM embeddings ORDER BY id DESC LIMIT 1) \
    UNION ALL SELECT * FROM (SELECT CAST(strftime('%s', created_at) AS INTEGER) FROM embeddings_queue ORDER BY seq_id DESC LIMIT 1))";

/// One collection.
#[derive(Clone, Debug, Default)]
struct Found {
    dimension: Option<f64>,
    vectors: Option<f64>,
    /// Bytes of its index.
    index: f64,
}

/// What one look brought.
#[derive(Clone, Debug, Default)]
struct Look {
    disk: DiskUse,
    collections: BTreeMap<String, Found>,
    queue: Option<f64>,
    written: Option<f64>,
    /// Whether the file is sound, where that was asked.
    sound: Option<bool>,
    /// What could not be read.
    problems: Vec<String>,
}

struct Embedded {
    target: String,
    path: PathBuf,
    timeout: Duration,
    choice: Choice,
    database: String,
    dimension: Option<f64>,
    integrity: Option<Duration>,
    next: Option<Instant>,
    next_check: Option<Instant>,
    checked: Option<(bool, Timestamp)>,
    last: Option<Look>,
    /// A look that has not ended: a file system that hangs holds this one, and no other is begun.
    looking: Option<JoinHandle<Result<Look, String>>>,
    failing: Vec<String>,
}

/// Reads its keys.
pub fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    Box::new(Embedded {
        target: target.name.clone(),
        path: section.get("path").unwrap_or_default(),
        timeout: target.timeout.mul_f64(0.8),
        choice: Choice {
            only: section.or("collections", Vec::new()),
            most: section.or("max_collections", 50),
        },
        database: section.or("database", "default_database".to_owned()),
        dimension: section.get::<u32>("dimension").map(f64::from),
        integrity: section.get("integrity_interval"),
        next: None,
        next_check: None,
        checked: None,
        last: None,
        looking: None,
        failing: Vec::new(),
    })
}

/// How SQLite may open the file: as one that does not change where nobody has it open in WAL mode,
/// since it would make files of its own otherwise.
fn options(file: &Path) -> Result<SqliteConnectOptions, String> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .busy_timeout(BUSY)
        .disable_statement_logging();
    let beside = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        fs::metadata(PathBuf::from(name)).ok()
    };
    if !disk::is_wal(file).map_err(|e| e.kind().to_string())? {
        return Ok(options);
    }
    match (beside("-wal"), beside("-shm")) {
        (Some(_), Some(_)) => Ok(options),
        // A log without its index holds what reading the file alone would miss.
        (Some(log), None) if log.len() > 0 => {
            Err("its log has no index: nobody has it open".to_owned())
        }
        _ => Ok(options.immutable(true)),
    }
}

/// Gives up statements that take longer.
async fn limit(connection: &mut SqliteConnection, time: Duration) -> Result<(), sqlx::Error> {
    let until = Instant::now() + time;
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(STEPS, move || Instant::now() < until);
    Ok(())
}

async fn rows(
    connection: &mut SqliteConnection,
    sql: &'static str,
    what: &str,
    problems: &mut Vec<String>,
) -> Vec<SqliteRow> {
    let asked = async {
        limit(connection, STATEMENT).await?;
        sqlx::query(sql).fetch_all(&mut *connection).await
    };
    asked.await.unwrap_or_else(|error| {
        let error = match error {
            sqlx::Error::Database(error) => error.message().to_owned(),
            other => other.to_string(),
        };
        problems.push(format!("{what}: {error}"));
        Vec::new()
    })
}

/// Bytes of a segment's folder.
fn segment_bytes(folder: &Path) -> f64 {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_FILES);
    entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|meta| meta.len() as f64)
        .sum()
}

async fn look(path: PathBuf, database: String, check: bool) -> Result<Look, String> {
    let mut found = Look {
        disk: disk::sizes(path.clone())
            .await
            .map_err(|e| e.kind().to_string())?,
        ..Look::default()
    };
    let file = path.join("chroma.sqlite3");
    let options = options(&file)?;
    let connected = SqliteConnection::connect_with(&options).await;
    let mut connection = connected.map_err(|e| format!("chroma.sqlite3: {e}"))?;
    let problems = &mut found.problems;
    let collections = rows(&mut connection, COLLECTIONS, "collections", problems).await;
    let counts = rows(&mut connection, COUNTS, "counts", problems).await;
    let counted = problems.is_empty();
    let counts: BTreeMap<String, f64> = counts
        .iter()
        .filter_map(|row| Some((row.try_get(0).ok()?, row.try_get::<i64, _>(1).ok()? as f64)))
        .collect();
    for row in &collections {
        let text = |index: usize| row.try_get::<String, _>(index).unwrap_or_default();
        if text(4) != database {
            continue;
        }
        let (name, segment, scope) = (text(0), text(2), text(3));
        let one = found.collections.entry(name).or_default();
        let dimension = row.try_get::<Option<i64>, _>(1).ok().flatten();
        one.dimension = dimension.map(|n| n as f64);
        // Rows are counted by the segment of metadata; the index is the one of vectors.
        if scope == "METADATA" && counted {
            one.vectors = Some(counts.get(&segment).copied().unwrap_or(0.0));
        } else if scope == "VECTOR" {
            one.index += segment_bytes(&path.join(&segment));
        }
    }
    let problems = &mut found.problems;
    let first = |rows: Vec<SqliteRow>| {
        let value = rows.first()?.try_get::<Option<i64>, _>(0).ok()?;
        value.map(|n| n as f64)
    };
    found.queue = first(rows(&mut connection, QUEUE, "queue", problems).await);
    found.written = first(rows(&mut connection, WRITTEN, "newest write", problems).await);
    if check {
        let asked = async {
            limit(&mut connection, CHECK).await?;
            sqlx::query("PRAGMA quick_check(1)")
                .fetch_one(&mut connection)
                .await
        };
        match asked.await.and_then(|row| row.try_get::<String, _>(0)) {
            Ok(said) => found.sound = Some(said == "ok"),
            Err(sqlx::Error::Database(error)) if error.message().contains("malformed") => {
                found.sound = Some(false);
            }
            Err(error) => found.problems.push(format!("integrity: {error}")),
        }
    }
    // What was read is read.
    let _best_effort = connection.close().await;
    Ok(found)
}

impl Embedded {
    /// Looks, or waits for the look that is under way.
    async fn renew(&mut self) -> Result<(), String> {
        let now = Instant::now();
        if self.looking.is_none() && self.next.is_none_or(|at| now >= at) {
            self.next = Some(now + INTERVAL);
            let check = self.integrity.is_some() && self.next_check.is_none_or(|at| now >= at);
            if let (true, Some(interval)) = (check, self.integrity) {
                self.next_check = Some(now + interval);
            }
            let look = look(self.path.clone(), self.database.clone(), check);
            self.looking = Some(tokio::spawn(look));
        }
        let Some(looking) = &mut self.looking else {
            return Ok(());
        };
        let ended = tokio::time::timeout(self.timeout, looking)
            .await
            .map_err(|_| "the folder does not answer in time".to_owned())?;
        self.looking = None;
        let failed = |error: String| {
            self.next = None;
            error
        };
        let found = ended
            .map_err(|error| error.to_string())
            .and_then(|found| found)
            .map_err(failed)?;
        if let Some(sound) = found.sound {
            self.checked = Some((sound, Timestamp::now()));
        }
        self.last = Some(found);
        Ok(())
    }

    fn write(&self, look: &Look, batch: &mut Batch) {
        let labels = [("target", self.target.as_str()), ("store", STORE)];
        let total = look.collections.len();
        batch.push(&metrics::COLLECTIONS, &labels, total as f64);
        let names = self.choice.of(look.collections.keys().cloned().collect());
        let wanted = look.collections.keys().filter(|n| self.choice.wants(n));
        let omitted = wanted.count().saturating_sub(names.len());
        batch.push(&metrics::OMITTED, &labels, omitted as f64);
        for name in &names {
            let Some(found) = look.collections.get(name) else {
                continue;
            };
            let labels = [labels[0], labels[1], ("collection", name.as_str())];
            if let Some(vectors) = found.vectors {
                batch.push(&metrics::VECTORS, &labels, vectors);
            }
            if let Some(dimension) = found.dimension {
                batch.push(&metrics::DIMENSION, &labels, dimension);
            }
            if let Some((wanted, dimension)) = self.dimension.zip(found.dimension) {
                let mismatch = f64::from(u8::from(wanted != dimension));
                batch.push(&metrics::MISMATCH, &labels, mismatch);
            }
            let labels = [labels[0], labels[1], labels[2], ("part", "index")];
            batch.push(&metrics::BYTES, &labels, found.index);
        }
        if let Some(rows) = look.queue {
            batch.push(&metrics::WAL_ROWS, &labels, rows);
        }
        if let Some(at) = look.written {
            batch.push(&metrics::LAST_WRITE, &labels, at);
        }
        for (part, bytes) in look.disk.parts() {
            let labels = [labels[0], labels[1], ("part", part)];
            batch.push(&metrics::DISK, &labels, bytes as f64);
        }
    }

    /// One line in the log when something cannot be read, something else cannot, and all can again.
    fn log(&mut self, problems: Vec<String>) {
        let target = &self.target;
        if !problems.is_empty() && problems != self.failing {
            let error = problems.join("; ");
            tracing::warn!(collector = "vector_store", %target, %error, "Part of the store cannot be read.");
        } else if problems.is_empty() && !self.failing.is_empty() {
            tracing::info!(collector = "vector_store", %target, "Every part of the store can be read again.");
        }
        self.failing = problems;
    }
}

impl Collector for Embedded {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let renewed = self.renew().await;
            let address = self.address();
            let labels = [("target", self.target.as_str()), ("store", STORE)];
            let flag = |value: bool| f64::from(u8::from(value));
            batch.push(&metrics::UP, &labels, flag(renewed.is_ok()));
            batch.push(&metrics::DISK_READABLE, &labels, flag(renewed.is_ok()));
            if let Some((sound, at)) = self.checked {
                batch.push(&metrics::INTEGRITY, &labels, flag(sound));
                batch.push(&metrics::INTEGRITY_AT, &labels, at.0 as f64 / 1000.0);
            }
            let problems = match (&renewed, &self.last) {
                (Ok(()), Some(look)) => {
                    self.write(look, batch);
                    look.problems.clone()
                }
                _ => Vec::new(),
            };
            let failed = renewed.is_err() || !problems.is_empty();
            batch.push(&metrics::ERROR, &labels, flag(failed));
            if let Err(message) = &renewed {
                let why = [
                    labels[0],
                    labels[1],
                    ("url", address.as_str()),
                    ("message", message.as_str()),
                ];
                batch.push(&metrics::FAILURE, &why, 1.0);
            }
            self.log(problems);
            renewed.map_err(CollectError::new)
        }
        .boxed()
    }

    fn address(&self) -> String {
        self.path.display().to_string()
    }
}
