//! Tokens that a call used, by type.

/// Tokens by type: input, output, read from a cache, written to one, reasoning. Those of caches are
/// parts of the input, reasoning is one of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens(pub [u64; 5]);

impl Tokens {
    /// The names of the types.
    pub const TYPES: [&str; 5] = ["input", "output", "cache_read", "cache_write", "reasoning"];

    /// Input and output together.
    pub fn total(&self) -> u64 {
        self.0[0].saturating_add(self.0[1])
    }

    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        self.0 == [0; 5]
    }
}
