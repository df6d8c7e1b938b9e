//! Where the heads of the series that share a column keep their values: a row each, in tables as wide as their values need.
//!
//! A table is cut along time into groups of a few instants, and a group holds all rows one after another: no series has a place of its own
//! on the heap, nothing is copied when a run grows, and what lies idle is at most one group.

use std::ops::Range;

use thin_vec::ThinVec;

/// Binary logarithm of the instants in a group.
const GROUP: u32 = 3;
/// Likewise where there is but one row: one group holds its whole run, and grows by what [`GROUP`] says.
const SINGLE: u32 = 7;

/// Rows of values of one width. Places are those of the column's instants.
#[derive(Debug)]
pub(super) struct Table<T> {
    groups: ThinVec<Vec<T>>,
    /// Rows that were handed out, and those of them that came back.
    rows: u32,
    free: ThinVec<u32>,
    /// There is but one row.
    single: bool,
}

impl<T: Copy + Default> Table<T> {
    fn new(single: bool) -> Self {
        Table { groups: ThinVec::new(), rows: 0, free: ThinVec::new(), single }
    }

    /// Hands out a row.
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.rows += 1;
            self.rows - 1
        })
    }

    /// Takes a row back.
    pub(super) fn give(&mut self, row: u32) {
        self.free.push(row);
    }

    fn bits(&self) -> u32 {
        if self.single { SINGLE } else { GROUP }
    }

    /// The group of a place, and where in it a row's value stands.
    fn find(&self, row: u32, place: usize) -> (usize, usize) {
        let bits = self.bits();
        (place >> bits, ((row as usize) << bits) + (place & ((1 << bits) - 1)))
    }

    /// Writes a value; values before it need not have been written.
    pub(super) fn set(&mut self, row: u32, place: usize, value: T) {
        let (group, at) = self.find(row, place);
        while self.groups.len() <= group {
            self.groups.push(Vec::new());
        }
        let values = &mut self.groups[group];
        if at >= values.capacity() {
            // All rows that are there; beyond them growth by an eighth, since doubling would leave a quarter of the room unused.
            let rows = if self.single { 0 } else { (self.rows as usize) << GROUP };
            let room = rows.max(at + 1 + if self.single { (1 << GROUP) - 1 } else { values.len() / 8 });
            values.reserve_exact(room - values.len());
        }
        if at >= values.len() {
            values.resize(at + 1, T::default());
        }
        values[at] = value;
    }

    /// One value that was written.
    pub(super) fn get(&self, row: u32, place: usize) -> T {
        let (group, at) = self.find(row, place);
        self.groups[group][at]
    }

    /// Calls `visit` with the values in these places, which were written, piece by piece.
    pub(super) fn read(&self, row: u32, places: Range<usize>, mut visit: impl FnMut(&[T])) {
        let mut next = places.start;
        while next < places.end {
            let (group, at) = self.find(row, next);
            let length = (((group + 1) << self.bits()) - next).min(places.end - next);
            visit(&self.groups[group][at..at + length]);
            next += length;
        }
    }

    fn heap_size(&self) -> usize {
        let groups = self.groups.iter().map(|group| size_of::<Vec<T>>() + group.capacity() * size_of::<T>()).sum::<usize>();
        groups + self.free.capacity() * size_of::<u32>()
    }
}

/// The tables of a column, by the width of a value.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) short: Table<i16>,
    pub(super) long: Table<i32>,
    pub(super) wide: Table<f64>,
}

impl Rows {
    /// Tables without rows, for one series alone or for many.
    pub(super) fn new(single: bool) -> Self {
        Rows { short: Table::new(single), long: Table::new(single), wide: Table::new(single) }
    }

    /// Bytes on the heap.
    pub(super) fn heap_size(&self) -> usize {
        self.short.heap_size() + self.long.heap_size() + self.wide.heap_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::column::RUN;

    /// What a row holds in these places.
    fn read(table: &Table<i16>, row: u32, places: Range<usize>) -> Vec<i16> {
        let mut all = Vec::new();
        table.read(row, places, |piece| all.extend_from_slice(piece));
        all
    }

    #[test]
    fn every_row_keeps_its_values_whenever_it_began() {
        for single in [false, true] {
            let (mut table, mut rows) = (Table::new(single), Vec::new());
            for place in 0..RUN {
                if rows.is_empty() || !single && place % 5 == 0 {
                    rows.push((table.take(), place));
                }
                rows.iter().for_each(|(row, _)| table.set(*row, place, (*row as usize * 1000 + place) as i16));
            }
            for (row, start) in rows {
                let expected: Vec<i16> = (start..RUN).map(|place| (row as usize * 1000 + place) as i16).collect();
                assert_eq!(read(&table, row, start..RUN), expected);
                assert_eq!(table.get(row, RUN - 1), expected[RUN - 1 - start]);
                assert_eq!(read(&table, row, start + 1..RUN - 1), expected[1..RUN - 1 - start]);
            }
        }
    }

    #[test]
    fn many_rows_leave_little_idle_and_a_row_that_came_back_is_handed_out_again() {
        let mut table = Table::<i16>::new(false);
        let rows: Vec<u32> = (0..5000).map(|_| table.take()).collect();
        (0..16).for_each(|place| rows.iter().for_each(|row| table.set(*row, place, 7)));
        assert!(table.heap_size() < 5000 * 16 * 2 + 200, "{}", table.heap_size());
        table.give(4321);
        assert_eq!((table.take(), table.take()), (4321, 5000));
        let mut single = Table::<i16>::new(true);
        let row = single.take();
        (0..RUN).for_each(|place| single.set(row, place, 7));
        assert!(single.heap_size() < RUN * 2 + 100, "{}", single.heap_size());
    }
}
