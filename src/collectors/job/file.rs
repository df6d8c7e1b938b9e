//! Runs that a file tells of: each new modification of the newest one is a run that ended well.

use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::config::glob_at_most;
use crate::model::Timestamp;

use super::kept::{Ended, Kept, Outcome};

/// Files that are looked at for one job at most.
const MAX_FILES: usize = 10_000;
/// A clock that stamps files may be ahead by so much, in milliseconds.
const AHEAD: i64 = 60_000;

/// The newest file.
#[derive(Clone, Copy, Debug)]
pub struct Newest {
    /// When it was modified, Unix nanoseconds.
    modified: i64,
}

/// Looks for the newest file of a pattern. Errs when there is none, or when none can be read.
pub fn newest(pattern: &Path) -> Result<Newest, String> {
    let shown = pattern.display();
    let of = |path: &Path| {
        let modified = path
            .metadata()
            .and_then(|meta| meta.modified())
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let since = modified.duration_since(UNIX_EPOCH).map_or(0, |since| {
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        });
        Ok(Newest { modified: since })
    };
    if !pattern.to_string_lossy().contains(['*', '?', '[']) {
        return of(pattern);
    }
    let files = glob_at_most(pattern, MAX_FILES).map_err(|error| error.to_string())?;
    let found: Vec<Result<Newest, String>> = files.iter().map(|path| of(path)).collect();
    let newest = found
        .iter()
        .flatten()
        .max_by_key(|newest| newest.modified)
        .copied();
    // One that is removed meanwhile is none.
    newest.ok_or_else(|| {
        found
            .into_iter()
            .find_map(Result::err)
            .unwrap_or_else(|| format!("{shown}: no file fits the pattern"))
    })
}

impl Newest {
    /// A time that something else than a file says, in seconds since the epoch; none where it is no
    /// time.
    pub fn of_seconds(seconds: f64) -> Option<Self> {
        let is_time = seconds > 0.0 && seconds < i64::MAX as f64 / 1e9;
        // To the millisecond: more than that a number of seconds does not hold.
        is_time.then(|| Newest {
            modified: (seconds * 1e3).round() as i64 * 1_000_000,
        })
    }

    /// Notes a modification that was not seen before. The first one counts for no run: nobody knows
    /// when it was.
    pub fn note(self, kept: &mut Kept, now: Timestamp) {
        if self.modified == kept.modified {
            return;
        }
        let is_first = std::mem::replace(&mut kept.modified, self.modified) == 0;
        let at = self.modified / 1_000_000;
        // A time that lies ahead would hide that runs are missing.
        let at = if at > now.0 + AHEAD {
            now.0
        } else {
            at.min(now.0)
        };
        if kept.success.is_some_and(|last| at < last) {
            return;
        }
        if is_first {
            (kept.success, kept.end, kept.is_success) = (Some(at), Some(at), true);
        } else {
            kept.ended(Ended {
                outcome: Outcome::Success,
                at,
                duration: None,
                exit_code: None,
            });
        }
    }
}
