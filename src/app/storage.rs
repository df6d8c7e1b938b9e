//! The store with its history: opened at start, kept in order while the process runs.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tracing::{debug, error, info};

use crate::model::{Timestamp, format_duration};
use crate::store::{HistorySettings, Limits, Store};

use super::{Config, Options, state_folder};

/// How often samples beyond the retention are dropped and blocks are written.
const UPKEEP: Duration = Duration::from_secs(60);
/// How often a folder that cannot be used is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Opens the history. A folder that cannot be used must not silence us: then samples live in
/// memory, and that is said.
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
    match Store::open(limits.clone(), &settings, now) {
        Ok(store) => (
            Arc::new(store),
            format!(
                "{}, {}",
                settings.path.display(),
                format_duration(settings.retention)
            ),
        ),
        Err(error) => {
            error!(%error, "The history cannot be kept on disk; samples live in memory until it can be.");
            (
                Arc::new(Store::awaiting(limits, &settings)),
                format!("in memory only: {error}"),
            )
        }
    }
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
