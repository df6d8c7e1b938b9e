//! Quantities hour by hour, and what follows from them: sums, means that are weighted, percentiles
//! of histograms, how much is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::quantities::Quantity;
use crate::model::{Labels, Timestamp};

/// An hour.
pub const HOUR: i64 = 3_600_000;

/// So many whole hours from a full one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The beginning.
    pub from: Timestamp,
    /// How many.
    pub hours: usize,
}

impl Span {
    /// The last so many whole hours that are over at `now`.
    pub fn last(hours: usize, now: Timestamp) -> Self {
        let to = now.0.div_euclid(HOUR) * HOUR;
        Span {
            from: Timestamp(to - hours as i64 * HOUR),
            hours,
        }
    }

    /// As many hours before this one.
    pub fn before(self) -> Self {
        Span {
            from: Timestamp(self.from.0 - self.hours as i64 * HOUR),
            hours: self.hours,
        }
    }

    /// The end.
    pub fn to(self) -> Timestamp {
        Timestamp(self.from.0 + self.hours as i64 * HOUR)
    }

    /// The end of an hour, at which its expression is evaluated.
    pub fn end_of(self, hour: usize) -> Timestamp {
        Timestamp(self.from.0 + (hour as i64 + 1) * HOUR)
    }

    /// How long it is.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.hours as u64 * 3600)
    }
}

/// A series: a number for each hour of a span, NaN where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Which one.
    pub labels: Labels,
    /// Hour by hour.
    pub hours: Vec<f64>,
}

impl Series {
    fn known(&self) -> impl Iterator<Item = f64> + '_ {
        self.hours.iter().copied().filter(|value| value.is_finite())
    }

    /// The sum of the hours that are known, where any is.
    pub fn sum(&self) -> Option<f64> {
        self.known().next().map(|_| self.known().sum())
    }

    /// The mean of the hours that are known.
    pub fn mean(&self) -> Option<f64> {
        let count = self.known().count();
        (count > 0).then(|| self.known().sum::<f64>() / count as f64)
    }

    /// The greatest of them.
    pub fn peak(&self) -> Option<f64> {
        self.known().reduce(f64::max)
    }

    /// How many hours are known.
    pub fn count(&self) -> usize {
        self.known().count()
    }
}

/// Asks for a quantity in a span.
pub type Ask<'a> = &'a dyn Fn(&Quantity, Span) -> Result<Vec<Series>, String>;

/// A percentile, as far as the buckets tell it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Percentile {
    /// About this many seconds.
    At(f64),
    /// More than the highest bucket: how much more is not known.
    Beyond(f64),
}

/// The percentile of a classic histogram: bounds with cumulative counts; interpolated within a
/// bucket as Prometheus does.
pub fn percentile(share: f64, buckets: &[(f64, f64)]) -> Option<Percentile> {
    let mut sorted: Vec<(f64, f64)> = buckets.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (last, total) = *sorted.last()?;
    if last != f64::INFINITY || total <= 0.0 || sorted.len() < 2 {
        return None;
    }
    let rank = share * total;
    let at = sorted.iter().position(|(_, count)| *count >= rank)?;
    let (bound, count) = sorted[at];
    if bound == f64::INFINITY {
        return Some(Percentile::Beyond(sorted[at - 1].0));
    }
    let (start, below) = if at == 0 {
        (0.0_f64.min(bound), 0.0)
    } else {
        sorted[at - 1]
    };
    let within = if count > below {
        (rank - below) / (count - below)
    } else {
        1.0
    };
    Some(Percentile::At(start + (bound - start) * within))
}

/// The buckets of each histogram, summed over the hours: by the labels without `le`.
pub fn buckets(series: &[Series]) -> BTreeMap<Labels, Vec<(f64, f64)>> {
    let mut found: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for one in series {
        let bound = one.labels.value("le");
        let bound = if bound == "+Inf" {
            Some(f64::INFINITY)
        } else {
            bound.parse().ok()
        };
        if let (Some(bound), Some(count)) = (bound, one.sum()) {
            found
                .entry(one.labels.with("le", ""))
                .or_default()
                .push((bound, count));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_above_the_highest_bucket_is_not_invented() {
        let buckets = [
            (0.1, 50.0),
            (0.5, 90.0),
            (1.0, 94.0),
            (f64::INFINITY, 100.0),
        ];
        assert_eq!(percentile(0.95, &buckets), Some(Percentile::Beyond(1.0)));
        assert_eq!(percentile(0.9, &buckets), Some(Percentile::At(0.5)));
        assert_eq!(percentile(0.25, &buckets), Some(Percentile::At(0.05)));
        assert_eq!(percentile(0.95, &[(f64::INFINITY, 0.0), (1.0, 0.0)]), None);
        assert_eq!(percentile(0.95, &[]), None);
    }

    #[test]
    fn spans_are_whole_hours() {
        let now = Timestamp::parse_rfc3339("2026-12-01T10:59:59Z").expect("a time");
        let span = Span::last(24, now);
        assert_eq!(
            (span.to().rfc3339(), span.from.rfc3339()),
            (
                "2026-12-01T10:00:00.000Z".into(),
                "2026-11-30T10:00:00.000Z".into()
            )
        );
        assert_eq!(
            (span.before().to(), span.end_of(23)),
            (span.from, span.to())
        );
    }
}
