//! Quantiles: the values of a window stay sorted from one step to the next; those that come and go
//! are merged in and left out in one pass.

use crate::promql::eval::windows::Windowed;
use crate::promql::functions::over_time::sorted_quantile;
use crate::promql::value::EvalError;

/// Windows that a sample is in at least.
const SHARED: usize = 16;

/// `quantile_over_time`, with the quantile of each step.
pub(in crate::promql::functions) fn quantile(
    windowed: &Windowed<'_>,
    row: &mut [f64],
    quantiles: &[f64],
) -> Result<bool, EvalError> {
    // Where an order is not total, ties are distinguished by where they stood.
    let negative_zero = (-0.0_f64).to_bits();
    let ordered = |value: &f64| !value.is_nan() && value.to_bits() != negative_zero;
    let seen: usize = windowed.filled().map(|(_, low, high)| high - low).sum();
    // With fewer in common, finding two positions is sooner done than keeping all in order.
    if seen < SHARED * windowed.values.len() || !windowed.values.iter().all(ordered) {
        return Ok(false);
    }
    let (mut sorted, mut merged) = (Vec::new(), Vec::new());
    let (mut come, mut gone) = (Vec::new(), Vec::new());
    let mut before = (0, 0);
    for (number, (step, low, high)) in windowed.filled().enumerate() {
        if number % 64 == 63 {
            windowed.check()?;
        }
        let (first, last) = before;
        before = (low, high);
        if low >= last {
            sorted.clear();
            sorted.extend_from_slice(&windowed.values[low..high]);
            sorted.sort_unstable_by(f64::total_cmp);
        } else {
            refill(&mut come, &windowed.values[last..high]);
            refill(&mut gone, &windowed.values[first..low]);
            merge(&sorted, &come, &gone, &mut merged);
            std::mem::swap(&mut sorted, &mut merged);
        }
        row[step] = sorted_quantile(quantiles[step], &sorted);
    }
    Ok(true)
}

fn refill(sorted: &mut Vec<f64>, values: &[f64]) {
    sorted.clear();
    sorted.extend_from_slice(values);
    sorted.sort_unstable_by(f64::total_cmp);
}

/// Puts into `into` what is in `old` with `come` and without `gone`, all of them sorted.
fn merge(old: &[f64], come: &[f64], gone: &[f64], into: &mut Vec<f64>) {
    into.clear();
    into.reserve(old.len() + come.len());
    let (mut come, mut gone) = (come.iter().copied().peekable(), gone.iter().peekable());
    for value in old {
        if gone.next_if_eq(&value).is_some() {
            continue;
        }
        while let Some(next) = come.next_if(|next| next < value) {
            into.push(next);
        }
        into.push(*value);
    }
    into.extend(come);
}
