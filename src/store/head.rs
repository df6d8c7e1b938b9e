//! The newest values of a series, not yet compressed, in as few bytes as their kind needs.
//!
//! Most series are counters and whole numbers that move little within half an hour: what is kept of them is the distance from the first
//! value, in two or four bytes. A head whose next value does not fit becomes a wider one. What is read is what was written, bit for bit.

use std::ops::Range;

use thin_vec::ThinVec;

use crate::model::{histogram_nan, is_histogram, is_stale, stale_nan};

/// Values that room is made for at once: doubling would leave a quarter of all head memory unused.
const GROWTH: usize = 8;

/// The values of a run that still grows, oldest first.
#[derive(Debug)]
pub(super) enum Head {
    /// Distances from the first value.
    Short(f64, ThinVec<i16>),
    /// Distances from the first value.
    Long(f64, ThinVec<i32>),
    /// The values.
    Wide(ThinVec<f64>),
}

/// A distance in few bytes. Its two lowest values stand for the stale marker and for the marker of a native histogram.
trait Distance: Copy {
    const STALE: Self;
    const HISTOGRAM: Self;
    fn of(distance: f64) -> Option<Self>;
    fn is(self, other: Self) -> bool;
    fn to_f64(self) -> f64;
}

macro_rules! distance {
    ($int:ty) => {
        impl Distance for $int {
            const STALE: Self = <$int>::MIN;
            const HISTOGRAM: Self = <$int>::MIN + 1;
            fn of(distance: f64) -> Option<Self> {
                let whole = distance as $int;
                (whole > Self::HISTOGRAM && f64::from(whole) == distance).then_some(whole)
            }
            fn is(self, other: Self) -> bool {
                self == other
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
        }
    };
}
distance!(i16);
distance!(i32);

/// The distance that stands for `value`, if one does exactly.
fn narrow<D: Distance>(base: f64, value: f64) -> Option<D> {
    if is_stale(value) {
        return Some(D::STALE);
    }
    if is_histogram(value) {
        return Some(D::HISTOGRAM);
    }
    D::of(value - base).filter(|distance| (base + distance.to_f64()).to_bits() == value.to_bits())
}

fn widen<D: Distance>(base: f64, distance: D) -> f64 {
    if distance.is(D::STALE) {
        stale_nan()
    } else if distance.is(D::HISTOGRAM) {
        histogram_nan()
    } else {
        base + distance.to_f64()
    }
}

fn push<T>(values: &mut ThinVec<T>, value: T) {
    if values.len() == values.capacity() {
        values.reserve_exact(GROWTH);
    }
    values.push(value);
}

impl Default for Head {
    fn default() -> Self {
        Head::Short(0.0, ThinVec::new())
    }
}

impl Head {
    /// Number of values.
    pub(super) fn len(&self) -> usize {
        match self {
            Head::Short(_, distances) => distances.len(),
            Head::Long(_, distances) => distances.len(),
            Head::Wide(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest value.
    pub(super) fn last(&self) -> Option<f64> {
        match self {
            Head::Short(base, distances) => distances.last().map(|d| widen(*base, *d)),
            Head::Long(base, distances) => distances.last().map(|d| widen(*base, *d)),
            Head::Wide(values) => values.last().copied(),
        }
    }

    /// Adds a value.
    pub(super) fn push(&mut self, value: f64) {
        if let Head::Short(base, distances) = self {
            if distances.is_empty() {
                *base = if value.is_finite() { value } else { 0.0 };
            }
            if let Some(distance) = narrow(*base, value) {
                return push(distances, distance);
            }
            let (base, long) = (*base, distances.iter().map(|d| narrow(*base, widen(*base, *d))).collect::<Option<ThinVec<i32>>>());
            *self = match long.filter(|_| narrow::<i32>(base, value).is_some()) {
                Some(long) => Head::Long(base, long),
                None => Head::Wide(self.values().into()),
            };
        }
        if let Head::Long(base, distances) = self {
            if let Some(distance) = narrow(*base, value) {
                return push(distances, distance);
            }
            *self = Head::Wide(self.values().into());
        }
        if let Head::Wide(values) = self {
            push(values, value);
        }
    }

    /// All values.
    pub(super) fn values(&self) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.len() + 1);
        self.read(0..self.len(), &mut values);
        values
    }

    /// Appends the values in these places to a buffer.
    pub(super) fn read(&self, places: Range<usize>, into: &mut Vec<f64>) {
        match self {
            Head::Short(base, distances) => into.extend(distances[places].iter().map(|d| widen(*base, *d))),
            Head::Long(base, distances) => into.extend(distances[places].iter().map(|d| widen(*base, *d))),
            Head::Wide(values) => into.extend_from_slice(&values[places]),
        }
    }

    /// The values in these places, in `buffer` where they do not stand here as they are.
    pub(super) fn slice<'a>(&'a self, places: Range<usize>, buffer: &'a mut Vec<f64>) -> &'a [f64] {
        if let Head::Wide(values) = self {
            return &values[places];
        }
        buffer.clear();
        self.read(places, buffer);
        buffer
    }

    /// Bytes on the heap.
    pub(super) fn heap_size(&self) -> usize {
        match self {
            Head::Short(_, distances) => distances.capacity() * size_of::<i16>(),
            Head::Long(_, distances) => distances.capacity() * size_of::<i32>(),
            Head::Wide(values) => values.capacity() * size_of::<f64>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(values: &[f64]) -> Head {
        let mut head = Head::default();
        values.iter().for_each(|value| head.push(*value));
        head
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn a_head_is_as_narrow_as_its_values_allow() {
        assert!(matches!(head(&[1e15, 1e15 + 32_767.0, stale_nan(), histogram_nan(), 1e15 - 3.0]), Head::Short(..)));
        assert!(matches!(head(&[0.5, 1.5, 100_000.5]), Head::Long(..)));
        for wide in [&[0.0, 0.25][..], &[1.0, f64::NAN], &[0.0, -0.0], &[0.0, f64::INFINITY], &[0.0, 3e9], &[0.1, 0.3]] {
            assert!(matches!(head(wide), Head::Wide(..)), "{wide:?}");
        }
        assert_eq!(head(&[5.0; 120]).heap_size(), 240);
    }

    proptest! {
        #[test]
        fn values_come_back_bit_for_bit(
            values in prop::collection::vec(
                prop_oneof![
                    (-70_000_i64..70_000).prop_map(|n| n as f64),
                    any::<i64>().prop_map(|n| n as f64),
                    any::<u64>().prop_map(f64::from_bits),
                    prop::sample::select(vec![stale_nan(), histogram_nan(), f64::NAN, -0.0, f64::INFINITY, 0.1]),
                ],
                0..130,
            ),
            start in 0_usize..130,
        ) {
            let head = head(&values);
            prop_assert_eq!(bits(&head.values()), bits(&values));
            prop_assert_eq!(head.last().map(f64::to_bits), values.last().map(|v| v.to_bits()));
            let (places, mut buffer) = (start.min(values.len())..values.len(), vec![7.0]);
            prop_assert_eq!(bits(head.slice(places.clone(), &mut buffer)), bits(&values[places]));
        }
    }
}
