//! What must survive a restart, in one small database: SQLite (one file, the default) or PostgreSQL
//! (shared by several instances).
//!
//! SQL is written once, in the subset both speak (`$1` markers, `ON CONFLICT`, TEXT and BIGINT,
//! times in milliseconds). A table has one file here with the methods that read and write it;
//! [`migrations`] makes the tables. Commits are durable when a method returns
//! (`synchronous = FULL`). A broken database or a full disk is an [`Error`] for the caller, who
//! goes on from memory: in doubt, notify.
//!
//! To add a table, copy `silences.rs`: an `impl State` whose reads hand their query to `on_pool!`
//! and whose writes are [`statement`]s, so that several tables can be written in one transaction.

mod copy;
mod error;
mod folder;
pub mod migrations;
mod reach;
mod recover;
pub mod replacement;
mod size;
mod statement;
mod tables;
mod transition;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use tokio::runtime::Handle;

use crate::telemetry::Telemetry;

pub use copy::{check_copy, copy_database};
pub use error::Error;
pub use folder::{FolderLock, LockError, prepare_folder};
pub use recover::Replaced;
pub use tables::action_log::{ActionBody, ActionRow, MAX_ACTIONS};
pub use tables::alert_groups::GroupRow;
pub use tables::alerts::AlertRow;
pub use tables::decisions::{AlertPath, DecisionRow, MAX_DECISIONS};
pub use tables::escalations::EscalationRow;
pub use tables::flaps::FlapRow;
pub use tables::for_state::{RuleAlertChanges, RuleAlertRow};
pub use tables::maintenance::{DoneRow, WindowRow};
pub use tables::notification_log::LogRow;
pub use tables::outbox::{DeadLetter, MAX_DEAD_LETTERS, OutboxRow};
pub use tables::silences::SilenceRow;
pub use transition::{Refused, Transition};

/// Deadline of one operation, and of a connection.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long SQLite waits for somebody else's lock.
const BUSY: Duration = Duration::from_secs(4);

/// The state database. Cheap to clone; every clone is the same database.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    pool: RwLock<Pool>,
    /// Where SQLite's file is.
    file: Mutex<Option<PathBuf>>,
    /// What is to be opened as soon as it can be, instead of memory.
    wanted: Mutex<Option<reach::Wanted>>,
    /// The folder of a file that could be opened only later.
    lock: Mutex<Option<FolderLock>>,
    reach: reach::Reach,
    /// The runtime in which the database was opened: its connections live there.
    home: Handle,
    errors: Counter,
    /// Rows that the database refused.
    refused: Counter,
    refused_at: Mutex<Option<std::time::Instant>>,
    bytes: Gauge,
    healthy: AtomicBool,
    /// When a database that was damaged or removed was replaced; 0: never.
    replaced_at: Gauge<f64, AtomicU64>,
    /// Whether what should be in a database is in memory alone.
    in_memory: Gauge,
}

#[derive(Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs `$body` (an async block that yields `Result<_, sqlx::Error>`) with the pool of whichever
/// backend is open, under the deadline, and counts its failure under the name `$operation`.
macro_rules! on_pool {
    ($state:expr, $operation:expr, |$pool:ident| $body:expr) => {
        $crate::state::on_pool!($state, $operation, $crate::state::DEADLINE, |$pool| $body)
    };
    ($state:expr, $operation:expr, $deadline:expr, |$pool:ident| $body:expr) => {{
        let run = async {
            match $state.pool() {
                $crate::state::Pool::Sqlite(pool) => {
                    let $pool = &pool;
                    $body.await
                }
                $crate::state::Pool::Postgres(pool) => {
                    let $pool = &pool;
                    $body.await
                }
            }
        };
        $state.within($operation, $deadline, run).await
    }};
}
pub(crate) use on_pool;

impl State {
    /// Opens the SQLite file at `path`, making it when it is missing, and brings its schema up to
    /// date.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let pool = open_file(path).await.map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })?;
        let state = Self::with(Pool::Sqlite(pool), false);
        state.bring_up_to_date().await?;
        *state.0.file.lock() = Some(path.to_owned());
        state.make_shrinkable().await;
        Ok(state)
    }

    /// A database in memory that ends with the process: for tests, and for going on when the disk
    /// refuses.
    pub async fn in_memory() -> Result<Self, Error> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let pool = sqlite_pool(options).await.map_err(|source| Error::Open {
            path: ":memory:".into(),
            source,
        })?;
        let state = Self::with(Pool::Sqlite(pool), false);
        state.bring_up_to_date().await?;
        Ok(state)
    }

    /// The same, instead of a database that cannot be opened; its metric says so.
    /// [`State::open_wanted`] opens `file`, if there is one to be opened, as soon as that can be
    /// done; a second process is shown `listens`.
    pub async fn instead(file: Option<PathBuf>, listens: SocketAddr) -> Result<Self, Error> {
        let state = Self::in_memory().await?;
        state.0.in_memory.set(1);
        *state.0.wanted.lock() = file.map(|path| reach::Wanted { path, listens });
        Ok(state)
    }

    /// Whether other instances may use the same database.
    pub fn is_shared(&self) -> bool {
        matches!(*self.0.pool.read(), Pool::Postgres(_))
    }

    /// Whether what should be in a database is in memory alone.
    pub fn is_instead(&self) -> bool {
        self.0.in_memory.get() != 0
    }

    /// Connects to a PostgreSQL server (`postgres://user:password@host/database`) and brings its
    /// schema up to date.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let (state, missing) = Self::connect_when_there(url).await?;
        missing.map_or(Ok(state), Err)
    }

    /// The same; a server that does not answer is used as soon as it does, and until then every
    /// operation fails. The second value says why it is not there yet.
    pub async fn connect_when_there(url: &str) -> Result<(Self, Option<Error>), Error> {
        let options = PgConnectOptions::from_str(url)
            .map_err(Error::Connect)?
            .application_name("nightbell")
            .options([("client_min_messages", "warning")]);
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(DEADLINE)
            .connect_lazy_with(options);
        let state = Self::with(Pool::Postgres(pool.clone()), true);
        match pool.acquire().await.map_err(Error::Connect) {
            Ok(connection) => drop(connection),
            Err(error) => {
                state.missed();
                return Ok((state, Some(error)));
            }
        }
        state.bring_up_to_date().await?;
        state.0.reach.is_ready();
        Ok((state, None))
    }

    /// Publishes `nightbell_state_errors_total` in the process's registry.
    pub fn register(&self, telemetry: &Telemetry) {
        telemetry.register(|registry| {
            registry.register("state_errors", "Operations on the state database that failed.", self.0.errors.clone());
            registry.register("state_rows_refused", "Rows that the state database could not keep.", self.0.refused.clone());
            let help = "Size of the state database on disk, its write-ahead log included; 0 with PostgreSQL and in memory.";
            registry.register_with_unit("state_size", help, prometheus_client::registry::Unit::Bytes, self.0.bytes.clone());
            let help = "When a state database that was damaged or removed was replaced by a new one; 0 if it never was.";
            registry.register("state_replaced_timestamp_seconds", help, self.0.replaced_at.clone());
            let help = "Whether state lives in memory alone because the database could not be opened or reached.";
            registry.register("state_in_memory", help, self.0.in_memory.clone());
        });
    }

    /// Whether the last operation succeeded.
    pub fn is_healthy(&self) -> bool {
        self.0.healthy.load(Ordering::Relaxed)
    }

    /// Asks the database for an answer, for health checks.
    pub async fn ping(&self) -> Result<(), Error> {
        on_pool!(self, "ping", |pool| async {
            sqlx::query("SELECT 1").execute(pool).await.map(drop)
        })
    }

    /// Closes every connection; SQLite folds its write-ahead log into the file.
    pub async fn close(&self) {
        close(&self.pool()).await;
    }

    fn with(pool: Pool, waits: bool) -> Self {
        State(Arc::new(Inner {
            pool: RwLock::new(pool),
            file: Mutex::default(),
            wanted: Mutex::default(),
            lock: Mutex::default(),
            reach: reach::Reach::new(waits),
            home: Handle::current(),
            errors: Counter::default(),
            refused: Counter::default(),
            refused_at: Mutex::default(),
            bytes: Gauge::default(),
            healthy: AtomicBool::new(true),
            replaced_at: Gauge::default(),
            in_memory: Gauge::default(),
        }))
    }

    async fn bring_up_to_date(&self) -> Result<(), Error> {
        let done = self.newest_migration().await?;
        let known = migrations::MIGRATIONS.last().map_or(0, |m| m.number);
        if done > known {
            return Err(Error::Newer { found: done, known });
        }
        for migration in migrations::MIGRATIONS.iter().filter(|m| m.number > done) {
            self.migrate(migration).await?;
        }
        Ok(())
    }

    async fn newest_migration(&self) -> Result<i64, Error> {
        on_pool!(self, "migrate", |pool| async {
            sqlx::raw_sql(
                "CREATE TABLE IF NOT EXISTS migrations (number BIGINT NOT NULL PRIMARY KEY)",
            )
            .execute(pool)
            .await?;
            let (newest,): (i64,) =
                sqlx::query_as("SELECT COALESCE(MAX(number), 0) FROM migrations")
                    .fetch_one(pool)
                    .await?;
            Ok(newest)
        })
    }

    async fn migrate(&self, migration: &migrations::Migration) -> Result<(), Error> {
        on_pool!(self, "migrate", |pool| async {
            let mut transaction = pool.begin().await?;
            sqlx::raw_sql(migration.sql)
                .execute(&mut *transaction)
                .await?;
            sqlx::query("INSERT INTO migrations (number) VALUES ($1)")
                .bind(migration.number)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await
        })
    }

    /// Whether its only connection is all there is of it.
    fn is_in_memory(&self) -> bool {
        matches!(*self.0.pool.read(), Pool::Sqlite(_)) && self.0.file.lock().is_none()
    }

    fn pool(&self) -> Pool {
        self.0.pool.read().clone()
    }
}

async fn close(pool: &Pool) {
    match pool {
        Pool::Sqlite(pool) => pool.close().await,
        Pool::Postgres(pool) => pool.close().await,
    }
}

async fn open_file(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    folder::make_private(path).map_err(sqlx::Error::Io)?;
    sqlite_pool(
        SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal),
    )
    .await
}

/// One connection: writers queue in the pool instead of meeting SQLite's lock, and one page cache
/// of 256 KB is about all the memory it takes: what does not fit is in the kernel's cache, a copy
/// away.
async fn sqlite_pool(options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let options = options
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .statement_cache_capacity(32)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .pragma("cache_size", "-256")
        .pragma("journal_size_limit", "4194304");
    SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(DEADLINE)
        .connect_with(options)
        .await
}
