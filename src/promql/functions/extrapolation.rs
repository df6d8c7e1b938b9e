//! From the samples in a window to the whole window, as `rate`, `increase` and `delta` need it.

/// What is computed from the ends of a window.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Delta,
    Increase,
    Rate,
}

/// By how much the difference between the ends of the samples is stretched to the window; `to_zero`
/// is the time in which a counter grew to where it is at the first sample, as a share of the time
/// between the ends.
pub(super) fn stretch(
    window: (i64, i64),
    ends: (i64, i64),
    samples: usize,
    to_zero: Option<f64>,
    kind: Kind,
) -> f64 {
    let seconds = |from: i64, to: i64| to.saturating_sub(from) as f64 / 1000.0;
    let mut to_start = seconds(window.0, ends.0);
    let mut to_end = seconds(ends.1, window.1);
    let sampled = seconds(ends.0, ends.1);
    let average = sampled / (samples - 1) as f64;
    // Farther from the border than a sample and a bit: the series seems to begin or end inside the
    // window.
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if let Some(share) = to_zero {
        let to_zero = sampled * share;
        to_start = if to_zero < to_start {
            to_zero
        } else {
            to_start
        };
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let factor = (sampled + to_start + to_end) / sampled;
    if kind == Kind::Rate {
        factor / seconds(window.0, window.1)
    } else {
        factor
    }
}

/// The difference between the ends of a window, stretched to the whole window where the samples
/// nearly fill it; `lost` is what a counter had whenever it was reset.
pub(super) fn difference(
    times: &[i64],
    values: &[f64],
    window: (i64, i64),
    kind: Kind,
    lost: impl Iterator<Item = f64>,
) -> Option<f64> {
    let (first, last) = (*values.first()?, *values.last()?);
    if values.len() < 2 {
        return None;
    }
    let mut result = last - first;
    // One after the other: the order of additions is part of the answer.
    for lost in lost {
        result += lost;
    }
    // A counter is never below zero: it is not stretched to before it was zero.
    let share = (kind != Kind::Delta && result > 0.0 && first >= 0.0).then(|| first / result);
    let ends = (times[0], times[times.len() - 1]);
    Some(result * stretch(window, ends, values.len(), share, kind))
}
