//! The store with its history: opened at start, kept in order while the process runs.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tracing::{debug, error, info, warn};

use crate::model::{Timestamp, format_duration};
use crate::state::replacement::HISTORY_NAMES;
use crate::store::{HistorySettings, Limits, Reading, Store};

use super::{Config, Options, state_folder};

/// How often samples beyond the retention are dropped and blocks are written.
const UPKEEP: Duration = Duration::from_secs(60);
/// How often a folder that cannot be used is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How long a start waits for the log: most are read within it, and then nobody need wait.
const SHORT: Duration = Duration::from_millis(150);

/// Opens the history. A folder that cannot be used must not silence us: then samples live in
/// memory, and that is said. A long log is read on, on a thread of its own.
pub(super) fn open(options: &Options, config: &Config, now: Timestamp) -> (Arc<Store>, String) {
    let limits = config.series.limits();
    let folder = state_folder(options);
    if folder.is_none() && config.storage.path.is_none() {
        let error = "HOME is not set, so no folder is known for it; pass --state-dir";
        error!(
            error,
            "The history cannot be kept on disk; samples live in memory and are lost at the end."
        );
        return (
            Arc::new(Store::new(limits)),
            format!("in memory only: {error}"),
        );
    }
    let settings = config
        .storage
        .settings(folder.map(|f| f.join("history")).unwrap_or_default());
    super::folder::settle(&settings.path, &HISTORY_NAMES);
    match Store::open_beside(limits.clone(), &settings, now) {
        Ok((store, reading)) => {
            let store = Arc::new(store);
            read(&store, reading);
            (
                store,
                format!(
                    "{}, {}",
                    settings.path.display(),
                    format_duration(settings.retention)
                ),
            )
        }
        Err(error) => {
            error!(%error, "The history cannot be kept on disk; samples live in memory until it can be.");
            (
                Arc::new(Store::awaiting(limits, &settings)),
                format!("in memory only: {error}"),
            )
        }
    }
}

/// Reads the log, for a moment while the caller waits, then beside it.
fn read(store: &Arc<Store>, reading: Reading) {
    let (bytes, reader) = (reading.bytes(), Arc::clone(store));
    let (read, ended) = std::sync::mpsc::sync_channel(1);
    let reading = Arc::new(reading);
    let log = Arc::clone(&reading);
    let thread = std::thread::Builder::new().name("log-reader".into());
    let started = thread.spawn(move || {
        reader.read_beside(&log);
        // Nobody waits any more when it took longer.
        let _ = read.send(());
    });
    if let Err(error) = started {
        warn!(%error, "No thread can be started to read the log; the start waits for it.");
        store.read_beside(&reading);
    } else if ended.recv_timeout(SHORT).is_err() {
        info!(
            bytes,
            "Collection and delivery begin while the log is read; rules wait until it has been."
        );
    }
}

/// Does something once the log has been read: what is computed before would lack samples.
pub(super) async fn when_read<F: Future>(store: Arc<Store>, then: F) -> F::Output {
    if store.is_reading()
        && let Err(error) = tokio::task::spawn_blocking(move || store.wait_until_read()).await
    {
        error!(%error, "Waiting for the log has failed.");
    }
    then.await
}

/// Maintains the history until the process ends.
pub(super) async fn maintain(store: Arc<Store>) -> Result<(), tokio::task::JoinError> {
    let mut upkeep = tokio::time::Instant::now();
    while store.awaits_history() {
        tokio::time::sleep(RETRY).await;
        // Memory alone needs the same upkeep, though less often than the folder is tried.
        let is_due = upkeep.elapsed() >= UPKEEP;
        if is_due {
            upkeep = tokio::time::Instant::now();
        }
        let store = store.clone();
        tokio::task::spawn_blocking(move || {
            open_awaited(&store);
            if is_due {
                store.maintain(Timestamp::now());
            }
        })
        .await?;
    }
    loop {
        tokio::time::sleep(UPKEEP).await;
        let (store, now) = (store.clone(), Timestamp::now());
        tokio::task::spawn_blocking(move || store.maintain(now)).await?;
    }
}

/// Uses the folder of the history if it can be used by now.
fn open_awaited(store: &Store) {
    match store.open_awaited(Timestamp::now()) {
        Ok(()) => info!("The folder of the history can be used: it is written from here on."),
        Err(error) => debug!(%error, "The history still cannot be kept on disk."),
    }
}

/// The history of a nightbell that runs or does not, to look at: the folder itself is left alone.
pub struct StoredHistory {
    /// The samples.
    pub store: Store,
    // After the store, which has files in it.
    _view: View,
}

/// A folder in which the log is copied and the blocks, which never change, are linked.
struct View(PathBuf);

impl Drop for View {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a nightbell keeps what outlives it.
pub struct Folders {
    /// The state folder.
    pub state: PathBuf,
    /// The folder of the history.
    pub history: PathBuf,
    /// Whether the state database is a PostgreSQL.
    pub is_database_elsewhere: bool,
}

impl Folders {
    /// Those of a configuration.
    ///
    /// # Errors
    /// When nothing says where.
    pub fn of(options: &Options, config: &Config) -> anyhow::Result<Self> {
        let state = state_folder(options)
            .context("HOME is not set, so no state folder is known; give --state-dir")?;
        Ok(Folders {
            history: history_settings(options, config)?.path,
            is_database_elsewhere: config.state.url.is_some(),
            state,
        })
    }

    /// Whether the history lies apart from the state folder.
    pub fn is_history_apart(&self) -> bool {
        self.history != self.state.join("history")
    }
}

/// Where the history is that a configuration names.
///
/// # Errors
/// When nothing says where.
pub fn history_settings(options: &Options, config: &Config) -> anyhow::Result<HistorySettings> {
    let folder = state_folder(options).map(|folder| folder.join("history"));
    ensure!(
        folder.is_some() || config.storage.path.is_some(),
        "no folder is known for the history; give --state-dir"
    );
    Ok(config.storage.settings(folder.unwrap_or_default()))
}

/// Opens the history that a configuration names without taking it from the nightbell that writes
/// it.
pub fn read_history(options: &Options, config: &Config) -> anyhow::Result<StoredHistory> {
    let folder = match (&config.storage.path, state_folder(options)) {
        (Some(path), _) => path.clone(),
        (None, folder) => folder
            .context("no folder is known for the history; give --state-dir")?
            .join("history"),
    };
    ensure!(
        folder.join("wal").is_dir(),
        "{}: no history is stored here; give --state-dir, or --config",
        folder.display()
    );
    let view = View(std::env::temp_dir().join(format!("nightbell-{}", std::process::id())));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&view.0)
        .with_context(|| view.0.display().to_string())?;
    // The log first: what goes from it into a block meanwhile is then in both, and counts once.
    fs::create_dir_all(view.0.join("wal"))?;
    fs::create_dir_all(view.0.join("blocks"))?;
    each(&folder.join("wal"), |from, name| {
        fs::copy(from, view.0.join("wal").join(name)).map(drop)
    })?;
    if folder.join("blocks").is_dir() {
        each(&folder.join("blocks"), |from, name| {
            let to = view.0.join("blocks").join(name);
            fs::hard_link(from, &to).or_else(|_| symlink(fs::canonicalize(from)?, &to))
        })?;
    }
    let settings = HistorySettings {
        path: view.0.clone(),
        ..config.storage.settings(PathBuf::new())
    };
    let store = Store::open(
        Limits {
            max_series: usize::MAX,
            ..Limits::default()
        },
        &settings,
        Timestamp::now(),
    )?;
    Ok(StoredHistory { store, _view: view })
}

/// Calls `take` with every file of a folder; one that has gone meanwhile is passed over.
fn each(
    folder: &Path,
    take: impl Fn(&Path, &std::ffi::OsStr) -> io::Result<()>,
) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        match take(&entry.path(), &entry.file_name()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| entry.path().display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
}
