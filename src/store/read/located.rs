//! Where the samples of a selection are when blocks hold a part of them.

use std::sync::Arc;

use crate::store::history::{Located, Part, Snapshot};

/// Where the samples of one series are.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) slot: Option<u32>,
    /// Number of the block or file, in order of time.
    pub(super) parts: Vec<(usize, Located)>,
}

/// What is read where blocks hold a part of a selection: for each of its series, where its samples
/// are.
pub(in crate::store) struct Merged {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) parts: Vec<Part>,
    pub(super) positions: Vec<Parts>,
}

/// Memory may hold samples that are in blocks already; from `from` on they are looked for only
/// where no block is.
pub(in crate::store) fn memory_from(snapshot: &Snapshot, from: i64) -> i64 {
    from.max(snapshot.floor.saturating_sub(1))
}
