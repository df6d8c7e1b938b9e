//! Sums and means of whole numbers: every partial sum is exact, so that the sum of a window is the
//! difference of two running sums, whatever the order of additions. Other values are added side by
//! side.

use super::{EXACT, running, whole};
use crate::promql::eval::windows::Windowed;
use crate::promql::functions::over_time::Sum;
use crate::promql::value::EvalError;

/// `sum_over_time`.
pub(in crate::promql::functions) fn sum(
    windowed: &Windowed<'_>,
    row: &mut [f64],
) -> Result<bool, EvalError> {
    sums(windowed, row, |sum, _| sum.total())
}

/// `avg_over_time`.
pub(in crate::promql::functions) fn avg(
    windowed: &Windowed<'_>,
    row: &mut [f64],
) -> Result<bool, EvalError> {
    sums(windowed, row, |sum, count| sum.divided(count))
}

fn sums(
    windowed: &Windowed<'_>,
    row: &mut [f64],
    finish: impl Fn(Sum, f64) -> f64,
) -> Result<bool, EvalError> {
    if !super::overlaps(windowed) {
        return Ok(false);
    }
    let longest = windowed.longest() as f64;
    if let Some(whole) = whole(windowed.values).filter(|w| w.greatest * longest < EXACT) {
        let sums = running(whole.numbers.iter().copied());
        for (step, low, high) in windowed.filled() {
            let sum = sums[high].wrapping_sub(sums[low]) as f64 * whole.unit;
            row[step] = finish(Sum::starting(sum), (high - low) as f64);
        }
        return Ok(true);
    }
    super::side_by_side::sums(windowed, row, finish)
}
