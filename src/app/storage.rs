//! The store with its history: opened at start, kept in order while the process runs.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use crate::model::{Timestamp, format_duration};
use crate::store::{Limits, Store};

use super::{Config, Options, state_folder};

/// How often samples beyond the retention are dropped and blocks are written.
const UPKEEP: Duration = Duration::from_secs(60);

/// Opens the history. A folder that cannot be used must not silence us: then samples live in memory, and that is said.
pub(super) fn open(options: &Options, config: &Config, now: Timestamp) -> (Arc<Store>, String) {
    let opened = match state_folder(options) {
        None if config.storage.path.is_none() => Err("no folder is known for it, for want of HOME; give --state-dir".to_owned()),
        folder => {
            let settings = config.storage.settings(folder.map(|f| f.join("history")).unwrap_or_default());
            let name = format!("{}, {}", settings.path.display(), format_duration(settings.retention));
            Store::open(Limits::default(), &settings, now).map(|store| (store, name)).map_err(|e| e.to_string())
        }
    };
    match opened {
        Ok((store, name)) => (Arc::new(store), name),
        Err(error) => {
            error!(%error, "The history cannot be kept on disk; samples live in memory and are lost at the end.");
            (Arc::new(Store::new(Limits::default())), format!("in memory only: {error}"))
        }
    }
}

/// Keeps the history in order, for ever.
pub(super) async fn maintain(store: Arc<Store>) -> Result<(), tokio::task::JoinError> {
    loop {
        tokio::time::sleep(UPKEEP).await;
        let (store, now) = (store.clone(), Timestamp::now());
        tokio::task::spawn_blocking(move || store.maintain(now)).await?;
    }
}
