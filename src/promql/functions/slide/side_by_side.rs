//! Several windows at a time, each in its own order of operations: the next sample of one need not
//! wait until the last one of another has been added.

use crate::promql::eval::windows::Windowed;
use crate::promql::functions::line::seconds_from;
use crate::promql::functions::over_time::Sum;
use crate::promql::value::EvalError;

/// Windows at a time.
const LANES: usize = 8;
/// No sum of values below it overflows, nor does one of squares of numbers below its root.
const GREATEST: f64 = 1e140;

/// A sum with Neumaier's compensation in each lane. The error of an addition is taken as Knuth does,
/// without a branch: it is exact either way, so that the bits are the same.
#[derive(Clone, Copy)]
struct Sums {
    sum: [f64; LANES],
    compensation: [f64; LANES],
}

impl Sums {
    const ZERO: Sums = Sums {
        sum: [0.0; LANES],
        compensation: [0.0; LANES],
    };

    fn add(&mut self, values: &[f64; LANES]) {
        for (lane, value) in values.iter().enumerate() {
            let sum = self.sum[lane];
            let total = sum + value;
            let added = total - sum;
            let error = (sum - (total - added)) + (value - added);
            self.compensation[lane] += error;
            self.sum[lane] = total;
        }
    }

    fn lane(&self, lane: usize) -> Sum {
        Sum::of(self.sum[lane], self.compensation[lane])
    }
}

/// Whether the lanes give what one window by itself does: a mean of one negative zero is one, a sum
/// that begins with zero is not.
fn plain(windowed: &Windowed<'_>) -> bool {
    let negative_zero = (-0.0_f64).to_bits();
    let plain = |value: &f64| value.abs() < GREATEST && value.to_bits() != negative_zero;
    windowed.values.iter().all(plain)
}

/// Sums of all windows.
pub(super) fn sums(
    windowed: &Windowed<'_>,
    row: &mut [f64],
    finish: impl Fn(Sum, f64) -> f64,
) -> Result<bool, EvalError> {
    if !plain(windowed) {
        return Ok(false);
    }
    let windows: Vec<_> = windowed.filled().collect();
    for group in windows.chunks(LANES) {
        windowed.check()?;
        let (shared, starts) = lanes(group);
        let mut sums = Sums::ZERO;
        for position in 0..shared {
            sums.add(&starts.map(|start| windowed.values[start + position]));
        }
        for (lane, (step, low, high)) in group.iter().enumerate() {
            let mut sum = sums.lane(lane);
            windowed.values[low + shared..*high]
                .iter()
                .for_each(|value| sum.add(*value));
            row[*step] = finish(sum, (high - low) as f64);
        }
    }
    Ok(true)
}

/// `stdvar_over_time`, with what `finish` makes of it.
pub(super) fn variance(
    windowed: &Windowed<'_>,
    row: &mut [f64],
    finish: fn(f64) -> f64,
) -> Result<bool, EvalError> {
    if !super::overlaps(windowed) || !plain(windowed) {
        return Ok(false);
    }
    let windows: Vec<_> = windowed.filled().collect();
    for group in windows.chunks(LANES) {
        windowed.check()?;
        let (shared, starts) = lanes(group);
        let (mut mean, mut total) = (Sums::ZERO, Sums::ZERO);
        for position in 0..shared {
            let count = (position + 1) as f64;
            let values = starts.map(|start| windowed.values[start + position]);
            let (mut deltas, mut shares, mut squares) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            for lane in 0..LANES {
                deltas[lane] = values[lane] - (mean.sum[lane] + mean.compensation[lane]);
                shares[lane] = deltas[lane] / count;
            }
            mean.add(&shares);
            for lane in 0..LANES {
                let now = mean.sum[lane] + mean.compensation[lane];
                squares[lane] = deltas[lane] * (values[lane] - now);
            }
            total.add(&squares);
        }
        for (lane, (step, low, high)) in group.iter().enumerate() {
            let (mut mean, mut total) = (mean.lane(lane), total.lane(lane));
            let mut count = shared as f64;
            for value in &windowed.values[low + shared..*high] {
                count += 1.0;
                let delta = value - mean.total();
                mean.add(delta / count);
                total.add(delta * (value - mean.total()));
            }
            row[*step] = finish(total.total() / count);
        }
    }
    Ok(true)
}

/// `stdvar_over_time`.
pub(in crate::promql::functions) fn stdvar(
    windowed: &Windowed<'_>,
    row: &mut [f64],
) -> Result<bool, EvalError> {
    variance(windowed, row, |variance| variance)
}

/// `stddev_over_time`.
pub(in crate::promql::functions) fn stddev(
    windowed: &Windowed<'_>,
    row: &mut [f64],
) -> Result<bool, EvalError> {
    variance(windowed, row, f64::sqrt)
}

/// Sums of values, and of values times their distance in seconds from an origin, over the windows
/// of a group; `give` gets those of one window after the other.
pub(super) fn products(
    windowed: &Windowed<'_>,
    origin: impl Fn(usize, usize) -> i64,
    mut give: impl FnMut((usize, usize, usize), Sum, Sum),
) -> Result<bool, EvalError> {
    if !plain(windowed) {
        return Ok(false);
    }
    let (times, values) = (windowed.times, windowed.values);
    let windows: Vec<_> = windowed.filled().collect();
    for group in windows.chunks(LANES) {
        windowed.check()?;
        let (shared, starts) = lanes(group);
        let origins: [i64; LANES] = std::array::from_fn(|lane| {
            let (step, low, _) = group.get(lane).unwrap_or(&group[0]);
            origin(*step, *low)
        });
        let (mut y, mut xy) = (Sums::ZERO, Sums::ZERO);
        for position in 0..shared {
            let own = starts.map(|start| values[start + position]);
            let products = std::array::from_fn(|lane| {
                seconds_from(origins[lane], times[starts[lane] + position]) * own[lane]
            });
            y.add(&own);
            xy.add(&products);
        }
        for (lane, window) in group.iter().enumerate() {
            let (mut y, mut xy) = (y.lane(lane), xy.lane(lane));
            for position in window.1 + shared..window.2 {
                y.add(values[position]);
                xy.add(seconds_from(origins[lane], times[position]) * values[position]);
            }
            give(*window, y, xy);
        }
    }
    Ok(true)
}

/// How many samples the windows of a group all have, and where each begins; lanes without a window
/// repeat the first one.
fn lanes(group: &[(usize, usize, usize)]) -> (usize, [usize; LANES]) {
    let shared = group.iter().map(|(_, low, high)| high - low).min();
    let start = |lane| {
        group
            .get(lane)
            .or(group.first())
            .map_or(0, |(_, low, _)| *low)
    };
    (shared.unwrap_or(0), std::array::from_fn(start))
}
