//! The newest values of a series, not yet compressed, in as few bytes as their kind needs.
//!
//! Most series are counters, whole numbers and decimals of a few places that move little within
//! half an hour: what is kept of them is the distance from the first value in units of the last
//! place, in two or four bytes. A head whose next value does not fit becomes a wider one. What is
//! read is what was written, bit for bit. The values stand in the [`Rows`] of the column that the
//! series points into.

use std::ops::Range;

use super::rows::{Rows, Table};
use crate::model::{histogram_nan, is_histogram, is_stale, stale_nan};

/// What a value is multiplied by, according to its decimal places. A quotient of whole numbers
/// below 2^53 is rounded as the decimal itself is when it is parsed.
const UNITS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Whole numbers below it are exact.
const EXACT: f64 = (1_u64 << 53) as f64;

/// Bytes that a value takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Width {
    /// Two: a distance from the base.
    #[default]
    Short,
    /// Four: likewise.
    Long,
    /// Eight: the value.
    Wide,
}

/// The values of a run that still grows, oldest first.
#[derive(Debug, Default)]
pub(in crate::store) struct Head {
    /// What distances are counted from, in units.
    base: f64,
    /// Which row of the table of its width; meaningless without values.
    row: u32,
    width: Width,
    /// Decimal places of a unit.
    decimals: u8,
    /// Cursor of the first value in the column.
    start: u8,
    length: u8,
}

/// A distance in few bytes. Its two lowest values stand for the stale marker and for the marker of
/// a native histogram.
trait Distance: Copy {
    const STALE: Self;
    const HISTOGRAM: Self;
    fn nearest(distance: f64) -> Option<Self>;
    fn is(self, other: Self) -> bool;
    fn to_f64(self) -> f64;
}

macro_rules! distance {
    ($int:ty) => {
        impl Distance for $int {
            const STALE: Self = <$int>::MIN;
            const HISTOGRAM: Self = <$int>::MIN + 1;
            fn nearest(distance: f64) -> Option<Self> {
                Some((distance + 0.5_f64.copysign(distance)) as $int)
                    .filter(|whole| *whole > Self::HISTOGRAM)
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

/// What distances are counted from, and in which unit.
#[derive(Clone, Copy)]
struct Origin {
    base: f64,
    unit: f64,
}

impl Origin {
    /// The distance that stands for `value`, if one does exactly.
    fn narrow<D: Distance>(self, value: f64) -> Option<D> {
        if is_stale(value) {
            return Some(D::STALE);
        }
        if is_histogram(value) {
            return Some(D::HISTOGRAM);
        }
        D::nearest(value * self.unit - self.base)
            .filter(|distance| self.at(*distance).to_bits() == value.to_bits())
    }

    fn at<D: Distance>(self, distance: D) -> f64 {
        (self.base + distance.to_f64()) / self.unit
    }

    fn widen<D: Distance>(self, distance: D) -> f64 {
        if distance.is(D::STALE) {
            stale_nan()
        } else if distance.is(D::HISTOGRAM) {
            histogram_nan()
        } else {
            self.at(distance)
        }
    }

    fn read<D: Distance + Default>(
        self,
        table: &Table<D>,
        row: u32,
        places: Range<usize>,
        into: &mut Vec<f64>,
    ) {
        table.read(row, places, |piece| {
            if self.unit == 1.0 {
                // Whole numbers, which most are, without a division.
                let whole = Origin { unit: 1.0, ..self };
                into.extend(piece.iter().map(|distance| whole.widen(*distance)));
            } else {
                into.extend(piece.iter().map(|distance| self.widen(*distance)));
            }
        });
    }
}

/// The fewest places with which a decimal is this value; `None` when there is none with few.
fn decimals_of(value: f64) -> Option<u8> {
    let is = |unit: f64| {
        let whole = (value * unit).round();
        (unit == 1.0 || whole.abs() < EXACT) && whole / unit == value
    };
    UNITS
        .iter()
        .position(|unit| is(*unit))
        .map(|places| places as u8)
}

/// What the distances of a value are counted from, in units of so many decimal digits.
fn base_of(value: f64, decimals: u8) -> f64 {
    if decimals == 0 {
        value
    } else {
        (value * UNITS[usize::from(decimals)]).round()
    }
}

impl Head {
    /// A head without values in the form that is narrowest for these.
    fn fit(&self, values: &[f64]) -> Head {
        let numbers = || values.iter().copied().filter(|value| value.is_finite());
        let decimals = numbers()
            .try_fold(0, |most, value| {
                decimals_of(value).map(|places| places.max(most))
            })
            .unwrap_or(0);
        let base = numbers()
            .next()
            .map_or(0.0, |first| base_of(first, decimals));
        let origin = Origin {
            base,
            unit: UNITS[usize::from(decimals)],
        };
        let width = if values
            .iter()
            .all(|value| origin.narrow::<i16>(*value).is_some())
        {
            Width::Short
        } else if values
            .iter()
            .all(|value| origin.narrow::<i32>(*value).is_some())
        {
            Width::Long
        } else {
            Width::Wide
        };
        Head {
            base,
            row: 0,
            width,
            decimals,
            start: self.start,
            length: 0,
        }
    }

    /// Empties the head, gives its row back, and returns its values. The next one begins as wide as
    /// these needed.
    pub(in crate::store) fn leave(&mut self, rows: &mut Rows) -> Vec<f64> {
        let values = self.values(rows);
        if !self.is_empty() {
            self.give_row(rows);
        }
        let width = if self.width == Width::Short {
            Width::Short
        } else {
            self.fit(&values).width
        };
        *self = Head {
            width,
            ..Head::default()
        };
        values
    }

    /// Where the first value stands in the column.
    pub(in crate::store) fn start(&self) -> usize {
        usize::from(self.start)
    }

    /// Begins at this place of a column; only without values.
    pub(in crate::store) fn begin(&mut self, start: usize) {
        self.start = start as u8;
    }

    /// Number of values.
    pub(in crate::store) fn len(&self) -> usize {
        usize::from(self.length)
    }

    /// Whether there is no value.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn origin(&self) -> Origin {
        Origin {
            base: self.base,
            unit: UNITS[usize::from(self.decimals)],
        }
    }

    /// The newest value.
    pub(in crate::store) fn last(&self, rows: &Rows) -> Option<f64> {
        let place = self.start() + self.len().checked_sub(1)?;
        Some(match self.width {
            Width::Short => self.origin().widen(rows.short.get(self.row, place)),
            Width::Long => self.origin().widen(rows.long.get(self.row, place)),
            Width::Wide => rows.wide.get(self.row, place),
        })
    }

    /// Adds a value.
    pub(in crate::store) fn push(&mut self, value: f64, rows: &mut Rows) {
        if self.is_empty() {
            self.begin_with(value, rows);
        }
        if !self.put(value, rows) {
            let mut values = self.values(rows);
            values.push(value);
            self.give_row(rows);
            *self = self.fit(&values);
            self.take_row(rows);
            for value in &values[..values.len() - 1] {
                self.put(*value, rows);
                self.length += 1;
            }
            self.put(value, rows);
        }
        self.length += 1;
    }

    /// Chooses a form for what begins with this value.
    fn begin_with(&mut self, value: f64, rows: &mut Rows) {
        self.decimals = Some(value)
            .filter(|value| value.is_finite())
            .and_then(decimals_of)
            .unwrap_or(0);
        self.base = if value.is_finite() {
            base_of(value, self.decimals)
        } else {
            0.0
        };
        // Decimals seldom stay within so few units.
        if self.decimals > 0 && self.width == Width::Short {
            self.width = Width::Long;
        }
        self.take_row(rows);
    }

    /// Writes the next value, unless the form has no room for it.
    fn put(&self, value: f64, rows: &mut Rows) -> bool {
        let place = self.start() + self.len();
        match self.width {
            Width::Short => self
                .origin()
                .narrow(value)
                .map(|distance| rows.short.set(self.row, place, distance))
                .is_some(),
            Width::Long => self
                .origin()
                .narrow(value)
                .map(|distance| rows.long.set(self.row, place, distance))
                .is_some(),
            Width::Wide => {
                rows.wide.set(self.row, place, value);
                true
            }
        }
    }

    fn take_row(&mut self, rows: &mut Rows) {
        self.row = match self.width {
            Width::Short => rows.short.take(),
            Width::Long => rows.long.take(),
            Width::Wide => rows.wide.take(),
        };
    }

    fn give_row(&self, rows: &mut Rows) {
        match self.width {
            Width::Short => rows.short.give(self.row),
            Width::Long => rows.long.give(self.row),
            Width::Wide => rows.wide.give(self.row),
        }
    }

    /// All values.
    pub(in crate::store) fn values(&self, rows: &Rows) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.len() + 1);
        self.read(0..self.len(), rows, &mut values);
        values
    }

    /// Appends the values from one place to another, counted from the first, to a buffer.
    pub(in crate::store) fn read(&self, places: Range<usize>, rows: &Rows, into: &mut Vec<f64>) {
        let places = self.start() + places.start..self.start() + places.end;
        match self.width {
            Width::Short => self.origin().read(&rows.short, self.row, places, into),
            Width::Long => self.origin().read(&rows.long, self.row, places, into),
            Width::Wide => rows
                .wide
                .read(self.row, places, |piece| into.extend_from_slice(piece)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::memory::column::RUN;

    fn head(values: &[f64]) -> (Head, Rows) {
        let (mut head, mut rows) = (Head::default(), Rows::new(false));
        values.iter().for_each(|value| head.push(*value, &mut rows));
        (head, rows)
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn a_head_is_as_narrow_as_its_values_allow() {
        let width = |values: &[f64]| head(values).0.width;
        assert_eq!(
            width(&[
                1e15,
                1e15 + 32_767.0,
                stale_nan(),
                histogram_nan(),
                1e15 - 3.0
            ]),
            Width::Short
        );
        assert_eq!(
            width(&[1.0 / 3.0, stale_nan(), 1.0 / 3.0]),
            Width::Short,
            "a constant"
        );
        assert_eq!(
            width(&[stale_nan(), 1e12, 1e12 + 1.0]),
            Width::Short,
            "counted from the first number, though a marker came before"
        );
        for long in [
            &[0.5, 1.5, 100_000.5][..],
            &[37.1234, 99.9, 0.0, 0.0001, -99.0],
            &[1.764e9, 1.764e9 + 100.125],
            &[0.1, 0.3],
            &[7.0, 7e6],
        ] {
            assert_eq!(width(long), Width::Long, "{long:?}");
        }
        for wide in [
            &[1.0, f64::NAN][..],
            &[0.0, -0.0],
            &[0.0, f64::INFINITY],
            &[0.0, 3e9],
            &[0.1, 1.0 / 3.0],
            &[5e-324, 0.0],
            &[1e300, 0.5],
        ] {
            assert_eq!(width(wide), Width::Wide, "{wide:?}");
        }
    }

    #[test]
    fn the_next_head_begins_as_wide_as_the_last_one_needed() {
        for (values, expected) in [
            (&[1.0, 2.0][..], Width::Short),
            (&[1.0, 1e6], Width::Long),
            (&[0.1, 0.2], Width::Short),
            (&[0.1, 1.0 / 3.0], Width::Wide),
        ] {
            let (mut head, mut rows) = head(values);
            assert_eq!(head.leave(&mut rows), values);
            assert_eq!((head.width, head.length), (expected, 0), "{values:?}");
        }
    }

    #[test]
    fn every_decimal_of_a_few_places_has_a_distance() {
        for places in 0..UNITS.len() {
            for digits in (0..2_000_000_000_i64).step_by(7_919_777) {
                let text = format!("{digits}e-{places}");
                let value: f64 = text.parse().expect("a number");
                let found = decimals_of(value).expect("few places");
                assert!(usize::from(found) <= places, "{text}: {found} places");
            }
        }
    }

    proptest! {
        #[test]
        fn values_come_back_bit_for_bit(
            all in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![
                        8 => (-70_000_i64..70_000).prop_map(|n| n as f64),
                        8 => (-3_000_000_i64..3_000_000, 0..UNITS.len()).prop_map(|(n, places)| n as f64 / UNITS[places]),
                        2 => (any::<i64>(), 0..UNITS.len()).prop_map(|(n, places)| n as f64 / UNITS[places]),
                        1 => any::<i64>().prop_map(|n| n as f64),
                        1 => any::<u64>().prop_map(f64::from_bits),
                        1 => prop::sample::select(vec![stale_nan(), histogram_nan(), f64::NAN, -0.0, f64::INFINITY, 0.1]),
                    ],
                    0..RUN,
                ),
                1..4,
            ),
            start in 0..RUN,
            single: bool,
        ) {
            // One after another, as rows are handed out and come back.
            let (mut head, mut rows) = (Head::default(), Rows::new(single));
            for values in all {
                let start = start.min(RUN - values.len());
                head.begin(start);
                for (count, value) in values.iter().enumerate() {
                    head.push(*value, &mut rows);
                    prop_assert_eq!(head.last(&rows).map(f64::to_bits), Some(value.to_bits()));
                    prop_assert_eq!(head.len(), count + 1);
                }
                prop_assert_eq!(bits(&head.values(&rows)), bits(&values));
                let (places, mut buffer) = (start.min(values.len())..values.len(), vec![]);
                head.read(places.clone(), &rows, &mut buffer);
                prop_assert_eq!(bits(&buffer), bits(&values[places]));
                if !head.is_empty() {
                    prop_assert_eq!(bits(&head.leave(&mut rows)), bits(&values));
                }
            }
        }

        #[test]
        fn rows_of_several_heads_do_not_mix(
            ticks in prop::collection::vec(prop::collection::vec(prop_oneof![
                Just(1.0), Just(70_000.0), Just(0.25), Just(1.0 / 3.0), (0..100_000).prop_map(f64::from),
            ], 5), 1..40),
        ) {
            let (mut heads, mut rows): (Vec<Head>, Rows) = ((0..5).map(|_| Head::default()).collect(), Rows::new(false));
            for tick in &ticks {
                heads.iter_mut().zip(tick).for_each(|(head, value)| head.push(*value, &mut rows));
            }
            for (place, head) in heads.iter().enumerate() {
                let expected: Vec<f64> = ticks.iter().map(|tick| tick[place]).collect();
                prop_assert_eq!(head.values(&rows), expected);
            }
        }
    }
}
