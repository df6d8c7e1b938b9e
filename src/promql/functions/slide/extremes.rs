//! Greatest and least: found once for each few samples, for each few of those, and put together for
//! each window.

use crate::promql::eval::windows::Windowed;
use crate::promql::value::EvalError;

/// Samples that are looked at once for all windows.
const FEW: usize = 32;
/// How often few are made of many.
const LEVELS: u32 = 3;

/// `max_over_time`.
pub(in crate::promql::functions) fn max(
    windowed: &Windowed<'_>,
    row: &mut [f64],
) -> Result<bool, EvalError> {
    extreme(windowed, row, |a, b| if a > b { a } else { b })
}

/// `min_over_time`.
pub(in crate::promql::functions) fn min(
    windowed: &Windowed<'_>,
    row: &mut [f64],
) -> Result<bool, EvalError> {
    extreme(windowed, row, |a, b| if a < b { a } else { b })
}

fn extreme(
    windowed: &Windowed<'_>,
    row: &mut [f64],
    pick: impl Fn(f64, f64) -> f64 + Copy,
) -> Result<bool, EvalError> {
    // A NaN gives way to whatever follows it, and zeroes of both signs are equal: then the order
    // counts.
    let negative_zero = (-0.0_f64).to_bits();
    let ordered = |value: &f64| !value.is_nan() && value.to_bits() != negative_zero;
    if !super::overlaps(windowed) || !windowed.values.iter().all(ordered) {
        return Ok(false);
    }
    let mut levels = Vec::new();
    let longest = windowed.longest();
    let mut below = windowed.values;
    for level in 0..LEVELS {
        if longest < 2 * FEW.pow(level + 1) {
            break;
        }
        levels.push(
            below
                .chunks(FEW)
                .map(|few| best(few, pick))
                .collect::<Vec<f64>>(),
        );
        below = levels.last().map_or(&[], Vec::as_slice);
    }
    for (step, low, high) in windowed.filled() {
        row[step] = within(windowed.values, &levels, (low, high), pick);
    }
    Ok(true)
}

/// The best of some values in a row, of which there is one at least; each level has the best of
/// each few of the level below.
fn within(
    values: &[f64],
    levels: &[Vec<f64>],
    (low, high): (usize, usize),
    pick: impl Fn(f64, f64) -> f64 + Copy,
) -> f64 {
    let (first, last) = (low.div_ceil(FEW), high / FEW);
    let Some((above, more)) = levels.split_first().filter(|_| first < last) else {
        return best(&values[low..high], pick);
    };
    let mut found = within(above, more, (first, last), pick);
    for edge in [&values[low..first * FEW], &values[last * FEW..high]] {
        if !edge.is_empty() {
            found = pick(found, best(edge, pick));
        }
    }
    found
}

/// The best of some values, one at least.
fn best(values: &[f64], pick: impl Fn(f64, f64) -> f64 + Copy) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [values[0]; LANES];
    let pieces = values.chunks_exact(LANES);
    let rest = pieces.remainder();
    for piece in pieces {
        for lane in 0..LANES {
            lanes[lane] = pick(piece[lane], lanes[lane]);
        }
    }
    let all = lanes.into_iter().chain(rest.iter().copied());
    all.reduce(pick).unwrap_or(values[0])
}
