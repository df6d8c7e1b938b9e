//! Room for recursion over expressions: whatever walks down a tree does each step by [`deep`], so
//! that a tree as high as the parser allows ([`super::ast::MAX_DEPTH`]) is read, printed and
//! evaluated on any thread, however small its stack.

use super::ast::MAX_DEPTH;

/// Stack that a step needs at most, all it calls included, until the next one.
const STEP: usize = 256 << 10;
/// Stack that is added where less than that is left.
const MORE: usize = 2 << 20;
/// Stack for each level of such a value.
const LEVEL: usize = 16 << 10;

/// Runs one step of a recursion, on more stack where this thread's is nearly used up.
#[inline]
pub fn deep<T>(step: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STEP, MORE, step)
}

/// Runs a recursion of somebody else's over a value as high as an expression.
pub fn wide<T>(work: impl FnOnce() -> T) -> T {
    stacker::grow(MAX_DEPTH * LEVEL, work)
}
