//! All windows of a series at once, for functions whose windows overlap: what two windows share is
//! computed once.
//!
//! Each result has the bits that the function gives for its window alone, which are Prometheus's.
//! So nothing slides whose rounding depends on where the window begins: sums do where every partial
//! sum is a whole number (times a power of two) and is exact, and elsewhere several windows are
//! computed side by side. Where neither holds a function answers `false`, and its windows are
//! computed one by one.

pub(super) mod counter;
pub(super) mod extremes;
pub(super) mod line;
pub(super) mod order;
pub(super) mod side_by_side;
pub(super) mod sums;

use crate::promql::eval::windows::Windowed;
use crate::promql::value::EvalError;

/// What slides over the windows of a series; see `Over::slide`.
pub(super) type Slider = fn(&Windowed<'_>, &mut [f64]) -> Result<bool, EvalError>;

/// Greatest whole number up to which a float holds all of them.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Whether a window is worth the work that is done once for a series.
fn overlaps(windowed: &Windowed<'_>) -> bool {
    let seen: usize = windowed.filled().map(|(_, low, high)| high - low).sum();
    seen > 2 * windowed.values.len()
}

/// The values as whole numbers times a power of two, and the greatest of them; `None` where one is
/// none, or is a negative zero.
fn whole(values: &[f64]) -> Option<Whole> {
    let (mut numbers, mut bits, mut greatest) = (Vec::with_capacity(values.len()), 0, 0_u64);
    for value in values {
        let number = *value as i64;
        if (number as f64).to_bits() != value.to_bits() || number == i64::MAX {
            return None;
        }
        bits |= number;
        greatest = greatest.max(number.unsigned_abs());
        numbers.push(number);
    }
    let shift = if bits == 0 { 0 } else { bits.trailing_zeros() };
    numbers.iter_mut().for_each(|number| *number >>= shift);
    Some(Whole {
        numbers,
        greatest: (greatest >> shift) as f64,
        unit: (1_u64 << shift) as f64,
    })
}

/// Values as whole numbers.
struct Whole {
    numbers: Vec<i64>,
    /// The greatest of them, its sign left out.
    greatest: f64,
    /// By which each is to be multiplied.
    unit: f64,
}

/// Sums from the first number on, one more than there are numbers; they wrap, so that the
/// difference of two is right where the sum of what lies between fits.
fn running(numbers: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut sums = vec![0];
    let mut sum = 0_i64;
    sums.extend(numbers.map(|number| {
        sum = sum.wrapping_add(number);
        sum
    }));
    sums
}
