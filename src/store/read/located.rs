//! Where the samples of a selection are when blocks hold a part of them.

use std::sync::Arc;

use crate::model::LabelSets;
use crate::store::history::{Part, Snapshot};

/// Where chunks of a series lie: the number of the block or file, in order of time, and where in
/// it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) part: u32,
    pub(super) length: u32,
    pub(super) offset: u64,
}

/// Where the samples of one series are.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) slot: Option<u32>,
    pub(super) pieces: Vec<Piece>,
}

/// Where the samples of each series of a selection are.
#[derive(Debug)]
pub(in crate::store) struct Found {
    pub(super) labels: LabelSets,
    pub(super) parts: Vec<Part>,
    pub(super) positions: Vec<Parts>,
}

/// What is read where blocks hold a part of a selection.
pub(in crate::store) struct Merged {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) found: Arc<Found>,
}

/// Memory may hold samples that are in blocks already; from `from` on they are looked for only
/// where no block is.
pub(in crate::store) fn memory_from(snapshot: &Snapshot, from: i64) -> i64 {
    from.max(snapshot.floor.saturating_sub(1))
}
