//! Reading: which series pass some matchers, and their samples from disk and memory as one.

mod located;
pub(super) mod merged;
pub(super) mod selection;
