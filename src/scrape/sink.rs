//! What the loop writes to: the store.

use crate::model::{Labels, Timestamp};

/// A series' number; valid as long as the process lives.
pub type SeriesId = u64;

/// Takes samples by series number. Single samples that it refuses (too old, twice with different values, no room) are counted there
/// and fail nothing here (SEMANTICS 10).
pub trait Sink: Send + Sync {
    /// The number of a series, made when it is new; `None` when there is no room for another one.
    fn series_id(&self, labels: &Labels) -> Option<SeriesId>;

    /// Adds one value to each of these series at one instant.
    fn append_ids(&self, at: Timestamp, samples: &[(SeriesId, f64)]);
}
