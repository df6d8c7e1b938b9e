//! The state folder: one nightbell to a folder.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;
use tracing::{error, info, warn};

use super::{Options, state_folder};
use crate::state::replacement::{self, STATE_NAMES};
use crate::state::{FolderLock, LockError, prepare_folder};

/// Takes the state folder; `None` where there is none, or where it cannot be written: that is said
/// when it is used. Errs when another nightbell has it.
pub(super) fn take(options: &Options, listens: SocketAddr) -> anyhow::Result<Option<FolderLock>> {
    let Some(folder) = state_folder(options) else {
        return Ok(None);
    };
    if prepare_folder(&folder).is_err() {
        return Ok(None);
    }
    match FolderLock::take(&folder, listens) {
        Ok(lock) => {
            settle(&folder, &STATE_NAMES);
            if let Err(error) = replacement::tidy(&folder) {
                warn!(folder = %folder.display(), %error, "What a restore left unfinished cannot be deleted; it takes room.");
            }
            Ok(Some(lock))
        }
        Err(LockError::InUse { by }) => {
            bail!(
                "{} is in use by another nightbell ({by}); stop that one, or give this one a folder of its own with --state-dir",
                folder.display()
            )
        }
        Err(LockError::Unusable(error)) => {
            warn!(folder = %folder.display(), %error, "The state folder cannot be locked against a second nightbell.");
            Ok(None)
        }
    }
}

/// Finishes a restore that was cut short after it was whole.
pub(super) fn settle(folder: &Path, names: &[&str]) {
    match replacement::settle(folder, names) {
        Ok(true) => {
            info!(folder = %folder.display(), "A restore that was cut short is finished.");
        }
        Ok(false) => {}
        Err(error) => {
            error!(folder = %folder.display(), %error, "A restore that was cut short cannot be finished; what is there is used.");
        }
    }
}
