//! What must survive a restart, in one small database: SQLite (one file, the default) or PostgreSQL (shared by several instances).
//!
//! SQL is written once, in the subset both speak (`$1` markers, `ON CONFLICT`, TEXT and BIGINT, times in milliseconds). A table has one
//! file here with the methods that read and write it; [`migrations`] makes the tables. Commits are durable when a method returns
//! (`synchronous = FULL`). A broken database or a full disk is an [`Error`] for the caller, who goes on from memory: in doubt, notify.
//!
//! To add a table, copy `silences.rs`: an `impl State` whose reads hand their query to `on_pool!` and whose writes are [`statement`]s,
//! so that several tables can be written in one transaction.

mod action_log;
mod alert_groups;
mod alerts;
mod decisions;
mod error;
mod escalations;
mod for_state;
pub mod migrations;
mod notification_log;
mod outbox;
mod recover;
mod silences;
mod statement;
mod transition;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use crate::telemetry::Telemetry;

pub use action_log::{ActionBody, ActionRow, MAX_ACTIONS};
pub use alert_groups::GroupRow;
pub use alerts::AlertRow;
pub use decisions::{AlertPath, DecisionRow, MAX_DECISIONS};
pub use error::Error;
pub use escalations::EscalationRow;
pub use for_state::{RuleAlertChanges, RuleAlertRow};
pub use notification_log::LogRow;
pub use outbox::{DeadLetter, MAX_DEAD_LETTERS, OutboxRow};
pub use silences::SilenceRow;
pub use transition::Transition;

/// Deadline of one operation: longer than SQLite's busy timeout.
const DEADLINE: Duration = Duration::from_secs(10);

/// The state database. Cheap to clone; every clone is the same database.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    pool: Pool,
    errors: Counter,
    healthy: AtomicBool,
    /// When a damaged database was replaced; 0: never.
    replaced_at: Gauge<f64, AtomicU64>,
    /// Whether this database ends with the process though it should not.
    in_memory: Gauge,
}

enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs `$body` (an async block that yields `Result<_, sqlx::Error>`) with the pool of whichever backend is open, under the deadline,
/// and counts its failure under the name `$operation`.
macro_rules! on_pool {
    ($state:expr, $operation:expr, |$pool:ident| $body:expr) => {{
        let run = async {
            match $state.pool() {
                $crate::state::Pool::Sqlite($pool) => $body.await,
                $crate::state::Pool::Postgres($pool) => $body.await,
            }
        };
        $state.finished($operation, tokio::time::timeout($crate::state::DEADLINE, run).await)
    }};
}
pub(crate) use on_pool;

impl State {
    /// Opens the SQLite file at `path`, making it when it is missing, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        let pool = sqlite_pool(options).await.map_err(|source| Error::Open { path: path.to_owned(), source })?;
        Self::migrated(Pool::Sqlite(pool)).await
    }

    /// A database in memory that ends with the process: for tests, and for going on when the disk refuses.
    pub async fn in_memory() -> Result<Self, Error> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let pool = sqlite_pool(options).await.map_err(|source| Error::Open { path: ":memory:".into(), source })?;
        Self::migrated(Pool::Sqlite(pool)).await
    }

    /// The same, in place of a database that cannot be opened; its metric says so.
    pub async fn instead() -> Result<Self, Error> {
        let state = Self::in_memory().await?;
        state.0.in_memory.set(1);
        Ok(state)
    }

    /// Connects to a PostgreSQL server (`postgres://user:password@host/database`) and brings its schema up to date.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url).map_err(Error::Connect)?.application_name("nightbell");
        let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(DEADLINE).connect_with(options).await.map_err(Error::Connect)?;
        Self::migrated(Pool::Postgres(pool)).await
    }

    /// Publishes `nightbell_state_errors_total` in the process's registry.
    pub fn register(&self, telemetry: &Telemetry) {
        telemetry.register(|registry| {
            registry.register("state_errors", "Operations on the state database that failed.", self.0.errors.clone());
            let help = "When a damaged state database was put aside and a new one begun; 0 if it never was.";
            registry.register("state_replaced_timestamp_seconds", help, self.0.replaced_at.clone());
            let help = "Whether state lives in memory alone because the database could not be opened.";
            registry.register("state_in_memory", help, self.0.in_memory.clone());
        });
    }

    /// Whether the last operation succeeded.
    pub fn is_healthy(&self) -> bool {
        self.0.healthy.load(Ordering::Relaxed)
    }

    /// Asks the database for an answer, for health checks.
    pub async fn ping(&self) -> Result<(), Error> {
        on_pool!(self, "ping", |pool| async { sqlx::query("SELECT 1").execute(pool).await.map(drop) })
    }

    /// Closes every connection; SQLite folds its write-ahead log into the file.
    pub async fn close(&self) {
        match &self.0.pool {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }

    async fn migrated(pool: Pool) -> Result<Self, Error> {
        let state = State(Arc::new(Inner {
            pool,
            errors: Counter::default(),
            healthy: AtomicBool::new(true),
            replaced_at: Gauge::default(),
            in_memory: Gauge::default(),
        }));
        let done = state.newest_migration().await?;
        let known = migrations::MIGRATIONS.last().map_or(0, |m| m.number);
        if done > known {
            return Err(Error::Newer { found: done, known });
        }
        for migration in migrations::MIGRATIONS.iter().filter(|m| m.number > done) {
            state.migrate(migration).await?;
        }
        Ok(state)
    }

    async fn newest_migration(&self) -> Result<i64, Error> {
        on_pool!(self, "migrate", |pool| async {
            sqlx::raw_sql("CREATE TABLE IF NOT EXISTS migrations (number BIGINT NOT NULL PRIMARY KEY)").execute(pool).await?;
            let (newest,): (i64,) = sqlx::query_as("SELECT COALESCE(MAX(number), 0) FROM migrations").fetch_one(pool).await?;
            Ok(newest)
        })
    }

    async fn migrate(&self, migration: &migrations::Migration) -> Result<(), Error> {
        on_pool!(self, "migrate", |pool| async {
            let mut transaction = pool.begin().await?;
            sqlx::raw_sql(migration.sql).execute(&mut *transaction).await?;
            sqlx::query("INSERT INTO migrations (number) VALUES ($1)").bind(migration.number).execute(&mut *transaction).await?;
            transaction.commit().await
        })
    }

    fn pool(&self) -> &Pool {
        &self.0.pool
    }

    fn finished<T>(
        &self,
        operation: &'static str,
        result: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Error> {
        let result = match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(Error::Query { operation, source }),
            Err(_) => Err(Error::Timeout { operation, seconds: DEADLINE.as_secs() }),
        };
        self.0.healthy.store(result.is_ok(), Ordering::Relaxed);
        if result.is_err() {
            self.0.errors.inc();
        }
        result
    }
}

/// One connection: writers queue in the pool instead of meeting SQLite's lock, and one page cache of 1 MB is all the memory it takes.
async fn sqlite_pool(options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let options = options
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .statement_cache_capacity(32)
        .pragma("cache_size", "-1024")
        .pragma("journal_size_limit", "4194304");
    SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None).acquire_timeout(DEADLINE).connect_with(options).await
}
