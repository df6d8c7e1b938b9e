//! What a block holds of a series: chunks of instants and values, and what is kept of them in
//! memory when they have been decoded.

pub(super) mod instants;
pub(super) mod packed;
pub(super) mod runs;
pub(super) mod values;
