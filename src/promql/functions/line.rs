//! The least-squares line.

use super::over_time::Sum;

/// Sums over the samples of a window: their number, seconds from an origin, values, and products.
pub(super) struct Moments {
    pub(super) count: f64,
    pub(super) x: f64,
    pub(super) xx: f64,
    pub(super) y: f64,
    pub(super) xy: f64,
}

impl Moments {
    /// Slope per second, and value at the origin.
    pub(super) fn line(&self) -> (f64, f64) {
        let (n, x, y) = (self.count, self.x, self.y);
        let slope = (self.xy - x * y / n) / (self.xx - x * x / n);
        (slope, y / n - slope * x / n)
    }
}

/// Seconds from an origin, both in milliseconds.
pub(super) fn seconds_from(origin: i64, time: i64) -> f64 {
    time.saturating_sub(origin) as f64 / 1000.0
}

/// The sum of the seconds of some instants from an origin, and of their squares.
pub(super) fn instants(times: &[i64], origin: i64) -> (f64, f64) {
    let (mut sum_x, mut sum_xx) = (Sum::default(), Sum::default());
    for time in times {
        let x = seconds_from(origin, *time);
        sum_x.add(x);
        sum_xx.add(x * x);
    }
    (sum_x.total(), sum_xx.total())
}

/// Slope per second and value at `origin` of the least-squares line of a window with two samples or
/// more.
pub(super) fn regression(times: &[i64], values: &[f64], origin: i64) -> (f64, f64) {
    let first = values[0];
    if values.iter().all(|v| *v == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    // The four sums in one loop: each waits for its own last addition only.
    let (mut sum_x, mut sum_xx) = (Sum::default(), Sum::default());
    let (mut sum_y, mut sum_xy) = (Sum::default(), Sum::default());
    for (time, y) in times.iter().zip(values) {
        let x = seconds_from(origin, *time);
        sum_x.add(x);
        sum_xx.add(x * x);
        sum_y.add(*y);
        sum_xy.add(x * y);
    }
    Moments {
        count: values.len() as f64,
        x: sum_x.total(),
        xx: sum_xx.total(),
        y: sum_y.total(),
        xy: sum_xy.total(),
    }
    .line()
}
