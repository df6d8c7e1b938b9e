//! What was decoded of blocks, for the next panel of a dashboard: decoding takes several times as
//! long as everything else that a query does.
//!
//! Whole numbers, which most values are, stand as the distances between them, in one to four bytes.
//! What is kept is bounded and counted with the caches of all requests. When there is no room
//! nothing goes: a dashboard that needs more than there is finds a part of it here each time. What
//! nobody needed for two minutes is let go.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{Budget, Reservation};
use crate::store::memory::series::Gathered;

/// Bytes that may be kept where no budget says so; otherwise a sixth of it.
const ROOM: usize = 16 << 20;
/// Upkeeps after which what nobody needed is let go.
const IDLE: u32 = 2;
/// About what an entry costs beside its values.
const OVERHEAD: usize = 128;

/// Of the block with this number what lies at this offset.
pub(in crate::store) type Key = (u64, u64);

/// Values in a row, compressed so that they are quickly found.
#[derive(Debug)]
enum Values {
    /// Whole numbers, times a power of two: the first, then the distances.
    Byte(i64, u32, Box<[i8]>),
    Narrow(i64, u32, Box<[i16]>),
    Wide(i64, u32, Box<[i32]>),
    /// Anything else.
    Plain(Box<[f64]>),
}

impl Values {
    fn new(values: &[f64]) -> Self {
        Values::whole(values).unwrap_or_else(|| Values::Plain(values.into()))
    }

    fn whole(values: &[f64]) -> Option<Self> {
        let mut bits = 0;
        for value in values {
            let number = *value as i64;
            if (number as f64).to_bits() != value.to_bits() || number == i64::MAX {
                return None;
            }
            bits |= number;
        }
        let shift = if bits == 0 { 0 } else { bits.trailing_zeros() };
        let number = |value: &f64| (*value as i64) >> shift;
        let first = values.first().map(number)?;
        let distances = || {
            std::iter::once(0).chain(
                values
                    .windows(2)
                    .map(|pair| number(&pair[1]).wrapping_sub(number(&pair[0]))),
            )
        };
        let (least, most) = distances().fold((0, 0), |(a, b), d| (d.min(a), d.max(b)));
        if i8::try_from(least).is_ok() && i8::try_from(most).is_ok() {
            let distances = distances().map(|d| d as i8).collect();
            return Some(Values::Byte(first, shift, distances));
        }
        if i16::try_from(least).is_ok() && i16::try_from(most).is_ok() {
            let distances = distances().map(|d| d as i16).collect();
            return Some(Values::Narrow(first, shift, distances));
        }
        if i32::try_from(least).is_ok() && i32::try_from(most).is_ok() {
            let distances = distances().map(|d| d as i32).collect();
            return Some(Values::Wide(first, shift, distances));
        }
        None
    }

    fn append(&self, range: std::ops::Range<usize>, into: &mut Vec<f64>) {
        match self {
            Values::Byte(first, shift, distances) => add(*first, *shift, distances, range, into),
            Values::Narrow(first, shift, distances) => add(*first, *shift, distances, range, into),
            Values::Wide(first, shift, distances) => add(*first, *shift, distances, range, into),
            Values::Plain(values) => into.extend_from_slice(&values[range]),
        }
    }

    fn heap_size(&self) -> usize {
        match self {
            Values::Byte(.., distances) => size_of_val::<[i8]>(distances),
            Values::Narrow(.., distances) => size_of_val::<[i16]>(distances),
            Values::Wide(.., distances) => size_of_val::<[i32]>(distances),
            Values::Plain(values) => size_of_val::<[f64]>(values),
        }
    }
}

fn add<T: Copy + Into<i64>>(
    first: i64,
    shift: u32,
    distances: &[T],
    range: std::ops::Range<usize>,
    into: &mut Vec<f64>,
) {
    let mut number = first;
    for distance in &distances[..range.start] {
        number = number.wrapping_add((*distance).into());
    }
    into.extend(distances[range].iter().map(|distance| {
        number = number.wrapping_add((*distance).into());
        (number << shift) as f64
    }));
}

/// Samples in a row: where their instants are, and their values.
#[derive(Debug)]
pub(in crate::store) struct Run {
    /// The column of the block, and the position in it; `None`: the instants stand here.
    column: Option<(u32, u32)>,
    count: u32,
    own: Box<[i64]>,
    values: Values,
}

impl Run {
    /// A run whose instants are in a column of the block.
    pub(in crate::store::history) fn shared(column: usize, first: usize, values: &[f64]) -> Self {
        Run {
            column: Some((column as u32, first as u32)),
            own: Box::default(),
            values: Values::new(values),
            count: values.len() as u32,
        }
    }

    /// A run with instants of its own.
    pub(in crate::store::history) fn own(times: &[i64], values: &[f64]) -> Self {
        Run {
            column: None,
            own: times.into(),
            values: Values::new(values),
            count: values.len() as u32,
        }
    }

    /// The column of the block in which its instants are.
    pub(in crate::store::history) fn column(&self) -> Option<usize> {
        self.column.map(|(number, _)| number as usize)
    }

    /// Its instants, given the column.
    pub(in crate::store::history) fn times<'a>(&'a self, column: &'a [i64]) -> Option<&'a [i64]> {
        match self.column {
            Some((_, first)) => column.get(first as usize..)?.get(..self.count as usize),
            None => Some(&self.own),
        }
    }

    /// Appends those with `from < timestamp <= to`.
    pub(in crate::store::history) fn append(
        &self,
        times: &[i64],
        (from, to): (i64, i64),
        samples: &mut Gathered,
    ) {
        let (start, end) = within(times, from, to);
        if start < end {
            samples.times.extend_from_slice(&times[start..end]);
            self.values.append(start..end, &mut samples.values);
        }
    }

    fn heap_size(&self) -> usize {
        size_of::<Run>() + size_of_val::<[i64]>(&self.own) + self.values.heap_size()
    }
}

/// The positions of the instants with `from < timestamp <= to`.
pub(in crate::store::history) fn within(times: &[i64], from: i64, to: i64) -> (usize, usize) {
    let start = match times.first() {
        Some(first) if *first > from => 0,
        _ => times.partition_point(|t| *t <= from),
    };
    let end = match times.last() {
        Some(last) if *last <= to => times.len(),
        _ => times.partition_point(|t| *t <= to),
    };
    (start, end)
}

/// What was decoded lately.
#[derive(Debug, Default)]
pub(in crate::store::history) struct Runs(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    found: HashMap<Key, Entry, ahash::RandomState>,
    bytes: usize,
    /// How many there may be, and what is held of the memory of all requests.
    budget: Option<(Arc<Budget>, Reservation)>,
    /// Counts upkeeps.
    round: u32,
}

#[derive(Debug)]
struct Entry {
    runs: Arc<[Run]>,
    bytes: usize,
    /// The round in which it was last needed.
    needed: u32,
}

impl Kept {
    fn room(&self) -> usize {
        let most = self
            .budget
            .as_ref()
            .map_or(ROOM, |(budget, _)| budget.limit() / 6);
        most.saturating_sub(self.bytes)
    }

    fn give(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if let Some((_, reservation)) = &mut self.budget {
            reservation.shrink_to(self.bytes);
        }
    }
}

impl Runs {
    /// The samples of a series in a block.
    pub(in crate::store::history) fn find(&self, key: Key) -> Option<Arc<[Run]>> {
        let kept = &mut *self.0.lock();
        let entry = kept.found.get_mut(&key)?;
        entry.needed = kept.round;
        Some(Arc::clone(&entry.runs))
    }

    /// Whether so many samples may fit.
    pub(in crate::store::history) fn has_room(&self, samples: usize) -> bool {
        self.0.lock().room() > OVERHEAD + samples * size_of::<i16>()
    }

    /// Keeps samples, if they fit.
    pub(in crate::store::history) fn keep(&self, key: Key, runs: &Arc<[Run]>) {
        let bytes = OVERHEAD + runs.iter().map(Run::heap_size).sum::<usize>();
        let kept = &mut *self.0.lock();
        let fits = bytes <= kept.room() && !kept.found.contains_key(&key);
        let given = fits
            && kept
                .budget
                .as_mut()
                .is_none_or(|(_, reservation)| reservation.grow(bytes).is_ok());
        if given {
            kept.bytes += bytes;
            let entry = Entry {
                runs: Arc::clone(runs),
                bytes,
                needed: kept.round,
            };
            kept.found.insert(key, entry);
        }
    }

    /// Counts what is kept as part of a budget.
    pub(in crate::store::history) fn keep_within(
        &self,
        budget: &Arc<Budget>,
        reservation: Reservation,
    ) {
        let kept = &mut *self.0.lock();
        kept.found = HashMap::default();
        kept.bytes = 0;
        kept.budget = Some((Arc::clone(budget), reservation));
    }

    /// Lets go everything; whether there was something.
    pub(in crate::store::history) fn clear(&self) -> bool {
        let kept = &mut *self.0.lock();
        let some = !kept.found.is_empty();
        kept.found = HashMap::default();
        kept.give(kept.bytes);
        some
    }

    /// Lets go what nobody has needed for some rounds; call it once a minute.
    pub(in crate::store::history) fn upkeep(&self) {
        let kept = &mut *self.0.lock();
        kept.round = kept.round.wrapping_add(1);
        let (round, mut gone) = (kept.round, 0);
        kept.found.retain(|_, entry| {
            let stays = round.wrapping_sub(entry.needed) <= IDLE;
            gone += if stays { 0 } else { entry.bytes };
            stays
        });
        if gone > 0 {
            kept.found.shrink_to_fit();
            kept.give(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_come_back_bit_for_bit(
            kind in 0_u8..5,
            numbers in prop::collection::vec((any::<u64>(), -70_000_i64..70_000), 1..300),
            cut in (0.0_f64..1.0, 0.0_f64..1.0),
        ) {
            let mut sum = 0_i64;
            let values: Vec<f64> = numbers.iter().map(|(bits, small)| {
                sum += small;
                match kind {
                    0 => f64::from_bits(*bits),
                    1 => sum as f64,
                    2 => (sum % 1000) as f64 * 4096.0,
                    3 => sum as f64 / 4.0,
                    _ => (*bits as i64 >> (bits % 60)) as f64,
                }
            }).collect();
            let position = |share: f64| (share * values.len() as f64) as usize;
            let (a, b) = (position(cut.0), position(cut.1));
            let range = a.min(b)..a.max(b);
            let mut back = Vec::new();
            Values::new(&values).append(range.clone(), &mut back);
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&values[range]));
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_goes_when_nobody_needs_it() {
        let runs = Runs::default();
        let one = || Arc::from([Run::shared(0, 0, &[0.5; 1 << 17])]);
        for offset in 0..100 {
            runs.keep((0, offset), &one());
        }
        let count = |runs: &Runs| (0..100).filter(|o| runs.find((0, *o)).is_some()).count();
        assert_eq!(
            count(&runs),
            (ROOM >> 20) - 1,
            "one has 1 MiB and a little more"
        );
        (0..=IDLE).for_each(|_| runs.upkeep());
        runs.keep((1, 0), &one());
        assert_eq!(count(&runs), 0);
        assert!(runs.find((1, 0)).is_some() && runs.clear() && !runs.clear());
    }
}
