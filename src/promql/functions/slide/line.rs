//! Least-squares lines: where instants are whole seconds apart and values are whole numbers, all
//! sums of the regression are exact, and slide.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{EXACT, running, whole};
use crate::promql::eval::windows::Windowed;
use crate::promql::functions::line::{Moments, instants};
use crate::promql::value::EvalError;

/// `deriv` and `predict_linear`: `origin` says from which instant a window counts seconds, `finish`
/// makes the value of a step of slope and value there.
pub(in crate::promql::functions) fn line(
    windowed: &Windowed<'_>,
    row: &mut [f64],
    abscissae: &Abscissae,
    origin: impl Fn(usize, usize) -> i64,
    finish: impl Fn(usize, f64, f64) -> f64,
) -> Result<bool, EvalError> {
    if !super::overlaps(windowed) {
        return Ok(false);
    }
    Ok(exact(windowed, row, &origin, &finish)?
        || side_by_side(windowed, row, abscissae, &origin, &finish)?)
}

/// What a least-squares line needs of the instants alone; most series of a selection share them.
#[derive(Default)]
pub(in crate::promql::functions) struct Abscissae(Mutex<Option<Arc<OfTimes>>>);

/// Instants, and for each step the sum of the distances from its origin, and of their squares.
type OfTimes = (Vec<i64>, Vec<(f64, f64)>);

impl Abscissae {
    /// For each step the sum of the distances from its origin, and of their squares.
    fn of(
        &self,
        windowed: &Windowed<'_>,
        origin: &impl Fn(usize, usize) -> i64,
    ) -> Result<Arc<OfTimes>, EvalError> {
        let kept = self.0.lock().clone();
        if let Some(kept) = kept.filter(|kept| kept.0 == windowed.times) {
            return Ok(kept);
        }
        let mut sums = vec![(0.0, 0.0); windowed.bounds.len()];
        for (number, (step, low, high)) in windowed.filled().enumerate() {
            if number % 64 == 63 {
                windowed.check()?;
            }
            sums[step] = instants(&windowed.times[low..high], origin(step, low));
        }
        let made = Arc::new((windowed.times.to_vec(), sums));
        *self.0.lock() = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// Any values: those of several windows are summed side by side.
fn side_by_side(
    windowed: &Windowed<'_>,
    row: &mut [f64],
    abscissae: &Abscissae,
    origin: &impl Fn(usize, usize) -> i64,
    finish: &impl Fn(usize, f64, f64) -> f64,
) -> Result<bool, EvalError> {
    let abscissae = abscissae.of(windowed, origin)?;
    let since = since(windowed.values);
    super::side_by_side::products(windowed, origin, |(step, low, high), y, xy| {
        if high - low < 2 {
            return;
        }
        let (slope, at_origin) = if since[high - 1] as usize <= low {
            (0.0, windowed.values[low])
        } else {
            let (x, xx) = abscissae.1[step];
            Moments {
                count: (high - low) as f64,
                x,
                xx,
                y: y.total(),
                xy: xy.total(),
            }
            .line()
        };
        row[step] = finish(step, slope, at_origin);
    })
}

/// Since which sample the value has been what it is, for each sample.
fn since(values: &[f64]) -> Vec<u32> {
    let mut since = Vec::with_capacity(values.len());
    let mut begun = 0;
    for (position, value) in values.iter().enumerate() {
        if position > 0 && *value != values[position - 1] {
            begun = position;
        }
        since.push(begun as u32);
    }
    since
}

/// Whole numbers at whole seconds.
fn exact(
    windowed: &Windowed<'_>,
    row: &mut [f64],
    origin: &impl Fn(usize, usize) -> i64,
    finish: &impl Fn(usize, f64, f64) -> f64,
) -> Result<bool, EvalError> {
    let (times, values) = (windowed.times, windowed.values);
    let Some(first) = times.first().copied() else {
        return Ok(true);
    };
    let Some(whole) = whole(values) else {
        return Ok(false);
    };
    // Seconds from the first sample of all.
    let mut seconds = Vec::with_capacity(times.len());
    for time in times {
        let since = time.wrapping_sub(first);
        if since < 0 || since % 1000 != 0 {
            return Ok(false);
        }
        seconds.push(since / 1000);
    }
    let mut farthest = 0_i64;
    for (step, low, high) in windowed.filled() {
        let shift = origin(step, low).wrapping_sub(first);
        if shift % 1000 != 0 {
            return Ok(false);
        }
        let ends = [seconds[low], seconds[high - 1]].map(|s| s.saturating_sub(shift / 1000));
        farthest = ends
            .into_iter()
            .fold(farthest, |f, s| f.max(s.saturating_abs()));
    }
    let (longest, farthest) = (windowed.longest() as f64, farthest as f64);
    let greatest = whole.greatest.max(farthest).max(1.0);
    if longest * farthest.max(1.0) * greatest >= EXACT {
        return Ok(false);
    }
    let x = running(seconds.iter().copied());
    let xx = running(seconds.iter().map(|x| x.wrapping_mul(*x)));
    let y = running(whole.numbers.iter().copied());
    let pairs = seconds.iter().zip(&whole.numbers);
    let xy = running(pairs.map(|(x, y)| x.wrapping_mul(*y)));
    let since = since(values);
    for (step, low, high) in windowed.filled().filter(|(_, low, high)| high - low > 1) {
        let (slope, at_origin) = if since[high - 1] as usize <= low {
            (0.0, values[low])
        } else {
            let between = |sums: &[i64]| sums[high].wrapping_sub(sums[low]);
            let (n, o) = (
                (high - low) as i64,
                origin(step, low).wrapping_sub(first) / 1000,
            );
            let (sx, sxx, sy, sxy) = (between(&x), between(&xx), between(&y), between(&xy));
            // Counted from the window's origin.
            let from_origin = sx.wrapping_sub(n.wrapping_mul(o));
            let squares = sxx
                .wrapping_sub(o.wrapping_mul(sx).wrapping_mul(2))
                .wrapping_add(n.wrapping_mul(o).wrapping_mul(o));
            let products = sxy.wrapping_sub(o.wrapping_mul(sy));
            Moments {
                count: n as f64,
                x: from_origin as f64,
                xx: squares as f64,
                y: sy as f64 * whole.unit,
                xy: products as f64 * whole.unit,
            }
            .line()
        };
        row[step] = finish(step, slope, at_origin);
    }
    Ok(true)
}
