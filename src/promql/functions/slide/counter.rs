//! Growth, resets and changes: what is added at a reset, and what is counted, is the same in every
//! window.

use crate::promql::eval::windows::Windowed;
use crate::promql::functions::extrapolation::{Kind, difference};
use crate::promql::value::EvalError;

/// `rate`, `increase` and `delta`.
pub(in crate::promql::functions) fn extrapolated(
    windowed: &Windowed<'_>,
    row: &mut [f64],
    kind: Kind,
) -> Result<bool, EvalError> {
    let (times, values) = (windowed.times, windowed.values);
    let resets: Vec<u32> = if kind == Kind::Delta {
        Vec::new()
    } else {
        let falls =
            |(position, pair): (usize, &[f64])| (pair[1] < pair[0]).then_some(position as u32);
        values.windows(2).enumerate().filter_map(falls).collect()
    };
    let (mut begin, mut end) = (0, 0);
    for (step, low, high) in windowed.filled() {
        // Those whose both samples lie in the window.
        while resets
            .get(end)
            .is_some_and(|reset| (*reset as usize) + 1 < high)
        {
            end += 1;
        }
        while begin < end && (resets[begin] as usize) < low {
            begin += 1;
        }
        let inside = resets[begin..end]
            .iter()
            .map(|reset| values[*reset as usize]);
        let (times, values) = (&times[low..high], &values[low..high]);
        if let Some(value) = difference(times, values, windowed.window(step), kind, inside) {
            row[step] = value;
        }
    }
    Ok(true)
}

/// `changes`.
pub(in crate::promql::functions) fn changes(
    windowed: &Windowed<'_>,
    row: &mut [f64],
) -> Result<bool, EvalError> {
    counted(windowed, row, |before, after| {
        before != after && !(before.is_nan() && after.is_nan())
    })
}

/// `resets`.
pub(in crate::promql::functions) fn resets(
    windowed: &Windowed<'_>,
    row: &mut [f64],
) -> Result<bool, EvalError> {
    counted(windowed, row, |before, after| after < before)
}

/// How many samples differ from the one before them, both in the window, as `differ` says.
fn counted(
    windowed: &Windowed<'_>,
    row: &mut [f64],
    differ: impl Fn(f64, f64) -> bool,
) -> Result<bool, EvalError> {
    if !super::overlaps(windowed) {
        return Ok(false);
    }
    // The first sample differs from none.
    let mut so_far = vec![0_u32];
    let mut count = 0;
    so_far.extend(windowed.values.windows(2).map(|pair| {
        count += u32::from(differ(pair[0], pair[1]));
        count
    }));
    for (step, low, high) in windowed.filled() {
        row[step] = f64::from(so_far[high - 1] - so_far[low]);
    }
    Ok(true)
}
