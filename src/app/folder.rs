//! The state folder: one nightbell to a folder.

use std::net::SocketAddr;

use anyhow::bail;
use tracing::warn;

use super::{Options, state_folder};
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
        Ok(lock) => Ok(Some(lock)),
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
