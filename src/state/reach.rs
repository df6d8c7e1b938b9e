//! Whether the database answers. One that hangs or is away costs a deadline once; then operations
//! fail at once, and now and then it is asked again, so that a message is not late because of it. A
//! file that was removed is written anew from what its connection still sees.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::Executor as _;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::{Error, Pool, State, close, open_file};
use crate::model::Timestamp;

/// How long a database that failed slowly is left alone.
const REST: Duration = Duration::from_secs(5);
/// What is slow for a failure, and the deadline of the question whether it answers again.
const PROBE: Duration = Duration::from_secs(1);

/// A file that could not be opened yet.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub path: PathBuf,
    pub listens: std::net::SocketAddr,
}

/// What is known of the database's answers.
pub(super) struct Reach {
    /// Until when it is left alone, if it is.
    rests_until: Mutex<Option<Instant>>,
    /// Whether its schema must be looked at once it answers.
    waits: Mutex<bool>,
    /// One asks whether it is back; the others do without meanwhile.
    asking: tokio::sync::Mutex<()>,
}

impl Reach {
    pub fn new(waits: bool) -> Self {
        Reach {
            rests_until: Mutex::default(),
            waits: Mutex::new(waits),
            asking: tokio::sync::Mutex::default(),
        }
    }

    pub fn is_ready(&self) {
        *self.waits.lock() = false;
    }

    fn rest(&self) {
        *self.rests_until.lock() = Some(Instant::now() + REST);
    }
}

/// Polls in the runtime in which the database was opened, so that sockets and timers belong to it,
/// whatever task asks: a connection must not wait for a runtime whose only thread is busy with
/// something else.
async fn at_home<T>(home: &Handle, mut run: Pin<Box<impl Future<Output = T>>>) -> T {
    std::future::poll_fn(|context| {
        let _there = home.enter();
        run.as_mut().poll(context)
    })
    .await
}

impl State {
    /// Runs an operation under its deadline, unless the database is known not to answer; counts a
    /// failure.
    pub(super) async fn within<T>(
        &self,
        operation: &'static str,
        deadline: Duration,
        run: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        // On the heap: the state's methods are large already.
        at_home(
            &self.0.home,
            Box::pin(self.attempt(operation, deadline, run)),
        )
        .await
    }

    async fn attempt<T>(
        &self,
        operation: &'static str,
        deadline: Duration,
        run: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        let result = if self.answers().await {
            let started = Instant::now();
            let result = match timeout(deadline, run).await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(source)) => Err(Error::Query { operation, source }),
                Err(_) => Err(Error::Timeout {
                    operation,
                    seconds: deadline.as_secs(),
                }),
            };
            if result.is_err() && started.elapsed() >= PROBE {
                self.0.reach.rest();
            }
            result
        } else {
            Err(Error::Away { operation })
        };
        self.0.healthy.store(result.is_ok(), Ordering::Relaxed);
        if result.is_err() {
            self.0.errors.inc();
        }
        result
    }

    /// The database was not there when it was opened.
    pub(super) fn missed(&self) {
        self.0.in_memory.set(1);
        self.0.errors.inc();
        self.0.healthy.store(false, Ordering::Relaxed);
        self.0.reach.rest();
    }

    /// Whether the database is worth asking: it was not away lately, or it answers again.
    async fn answers(&self) -> bool {
        let reach = &self.0.reach;
        match *reach.rests_until.lock() {
            None => return true,
            Some(until) if Instant::now() < until => return false,
            Some(_) => {}
        }
        let Ok(_one) = reach.asking.try_lock() else {
            return false;
        };
        let pool = self.pool();
        let ask = async {
            match &pool {
                Pool::Sqlite(pool) => pool.execute("SELECT 1").await.map(drop),
                Pool::Postgres(pool) => pool.execute("SELECT 1").await.map(drop),
            }
        };
        if !timeout(PROBE, ask).await.is_ok_and(|answer| answer.is_ok()) {
            reach.rest();
            return false;
        }
        *reach.rests_until.lock() = None;
        if *reach.waits.lock() {
            if let Err(error) = self.brought_up().await {
                tracing::error!(%error, "The state database answers, but cannot be used.");
                reach.rest();
                return false;
            }
            reach.is_ready();
            self.0.in_memory.set(0);
        }
        true
    }

    /// Its operations ask whether the database answers, so the type must be said here.
    fn brought_up(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.bring_up_to_date())
    }

    /// Opens the file that could not be opened at the start, if it can be now, and writes there
    /// what memory holds; true when that was so. What the file holds must then be read.
    pub async fn open_wanted(&self, now: Timestamp) -> Result<bool, Error> {
        let Some(wanted) = self.0.wanted.lock().clone() else {
            return Ok(false);
        };
        let Pool::Sqlite(memory) = self.pool() else {
            return Ok(false);
        };
        let refused = |source: std::io::Error| Error::Open {
            path: wanted.path.clone(),
            source: sqlx::Error::Io(source),
        };
        let folder = wanted
            .path
            .parent()
            .map(std::path::Path::to_owned)
            .unwrap_or_default();
        super::prepare_folder(&folder).map_err(refused)?;
        let has_lock = self.0.lock.lock().is_some();
        if !has_lock {
            match super::FolderLock::take(&folder, wanted.listens) {
                Ok(lock) => *self.0.lock.lock() = Some(lock),
                // Our own, from the start: the folder could be locked, and its database not be
                // opened.
                Err(super::LockError::InUse { by })
                    if by.starts_with(&format!("process {},", std::process::id())) => {}
                Err(error) => return Err(refused(std::io::Error::other(error.to_string()))),
            }
        }
        let (opened, _) = Self::open_or_replace(&wanted.path, now).await?;
        let Pool::Sqlite(file) = opened.pool() else {
            return Ok(false);
        };
        super::recover::copy_rows(&memory, &file)
            .await
            .map_err(|source| Error::Open {
                path: wanted.path.clone(),
                source,
            })?;
        *self.0.pool.write() = Pool::Sqlite(file);
        *self.0.file.lock() = Some(wanted.path);
        *self.0.wanted.lock() = None;
        self.0.in_memory.set(0);
        self.0.healthy.store(true, Ordering::Relaxed);
        close(&Pool::Sqlite(memory)).await;
        Ok(true)
    }

    /// Looks whether SQLite's file is still where it was. If somebody removed it, what the open
    /// connection still holds is written to a new one; true when that was so. A file that somebody
    /// put instead of it is left alone.
    pub async fn restore_removed_file(&self, now: Timestamp) -> Result<bool, Error> {
        let Some(path) = self.0.file.lock().clone().filter(|path| !path.exists()) else {
            return Ok(false);
        };
        let Pool::Sqlite(old) = self.pool() else {
            return Ok(false);
        };
        let failed = |source: sqlx::Error| Error::Open {
            path: path.clone(),
            source,
        };
        let refused = |source: std::io::Error| failed(sqlx::Error::Io(source));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(refused)?;
        }
        let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
        let copy = beside(".new");
        // What is left of the old file would be taken for a part of the new one.
        for left in [copy.clone(), beside("-wal"), beside("-shm")] {
            match std::fs::remove_file(left) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(refused(error));
                }
                _ => {}
            }
        }
        let write = sqlx::query("VACUUM INTO $1").bind(copy.display().to_string());
        self.within("rewrite file", super::DEADLINE, async {
            write.execute(&old).await.map(drop)
        })
        .await?;
        super::folder::make_private(&copy).map_err(refused)?;
        std::fs::rename(&copy, &path).map_err(refused)?;
        *self.0.pool.write() = Pool::Sqlite(open_file(&path).await.map_err(failed)?);
        self.0.replaced_at.set(now.seconds());
        close(&Pool::Sqlite(old)).await;
        Ok(true)
    }
}
