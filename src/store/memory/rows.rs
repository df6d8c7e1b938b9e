//! Where the heads of the series that share a column keep their values: a row each, in tables as
//! wide as their values need.
//!
//! A table is cut along time into groups of a few instants, and a group holds all rows one after
//! another: no series has a position of its own on the heap, nothing is copied when a run grows,
//! and what lies idle is at most one group. Where there is but one row it stands as it is.

use std::ops::Range;

use thin_vec::ThinVec;

/// Instants in a group.
const GROUP: usize = 8;

/// Rows of values of one width. Positions are those of the column's instants.
#[derive(Debug)]
pub(in crate::store) enum Table<T> {
    /// The only row there is, from the column's first instant on.
    Single(ThinVec<T>),
    Many(Option<Box<Groups<T>>>),
}

/// Series that come and go at times of their own have a column each.
const _: () = assert!(size_of::<Table<f64>>() <= 16);

/// Rows cut along time.
#[derive(Debug, Default)]
pub(in crate::store) struct Groups<T> {
    groups: ThinVec<Vec<T>>,
    /// Rows that were handed out, and those of them that came back.
    rows: u32,
    free: ThinVec<u32>,
}

/// The group of a position, and where in it a row's value stands.
fn find(row: u32, position: usize) -> (usize, usize) {
    (position / GROUP, row as usize * GROUP + position % GROUP)
}

impl<T: Copy + Default> Groups<T> {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.rows += 1;
            self.rows - 1
        })
    }

    fn set(&mut self, row: u32, position: usize, value: T) {
        let (group, at) = find(row, position);
        while self.groups.len() <= group {
            self.groups.reserve_exact(1);
            self.groups.push(Vec::new());
        }
        let values = &mut self.groups[group];
        if at >= values.capacity() {
            // All rows that are there; beyond them growth by an eighth, since doubling would leave
            // a quarter of the room unused.
            let room = (self.rows as usize * GROUP).max(at + 1 + values.len() / 8);
            values.reserve_exact(room - values.len());
        }
        if at >= values.len() {
            values.resize(at + 1, T::default());
        }
        values[at] = value;
    }
}

impl<T: Copy + Default> Table<T> {
    fn new(single: bool) -> Self {
        if single {
            Table::Single(ThinVec::new())
        } else {
            Table::Many(None)
        }
    }

    /// Hands out a row.
    pub(in crate::store) fn take(&mut self) -> u32 {
        match self {
            Table::Single(_) => 0,
            Table::Many(groups) => groups.get_or_insert_default().take(),
        }
    }

    /// Takes a row back.
    pub(in crate::store) fn give(&mut self, row: u32) {
        match self {
            Table::Single(values) => *values = ThinVec::new(),
            Table::Many(groups) => groups.get_or_insert_default().free.push(row),
        }
    }

    /// Writes a value; values before it need not have been written.
    pub(in crate::store) fn set(&mut self, row: u32, position: usize, value: T) {
        match self {
            Table::Single(values) => {
                if position >= values.capacity() {
                    values.reserve_exact(position + GROUP - values.len());
                }
                if position >= values.len() {
                    values.resize(position + 1, T::default());
                }
                values[position] = value;
            }
            Table::Many(groups) => groups.get_or_insert_default().set(row, position, value),
        }
    }

    /// One value that was written.
    pub(in crate::store) fn get(&self, row: u32, position: usize) -> T {
        match self {
            Table::Single(values) => values[position],
            Table::Many(groups) => {
                let (group, at) = find(row, position);
                groups
                    .as_ref()
                    .map_or_else(T::default, |groups| groups.groups[group][at])
            }
        }
    }

    /// Calls `visit` with the values in these positions, which were written, piece by piece.
    pub(in crate::store) fn read(
        &self,
        row: u32,
        positions: Range<usize>,
        mut visit: impl FnMut(&[T]),
    ) {
        match self {
            Table::Single(_) if positions.is_empty() => {}
            Table::Single(values) => visit(&values[positions]),
            Table::Many(groups) => {
                let Some(groups) = groups else { return };
                let mut next = positions.start;
                while next < positions.end {
                    let (group, at) = find(row, next);
                    let length = (GROUP - next % GROUP).min(positions.end - next);
                    visit(&groups.groups[group][at..at + length]);
                    next += length;
                }
            }
        }
    }

    fn heap_size(&self) -> usize {
        match self {
            Table::Single(values) => values.capacity() * size_of::<T>(),
            Table::Many(groups) => groups.as_ref().map_or(0, |groups| {
                let values = groups
                    .groups
                    .iter()
                    .map(|group| size_of::<Vec<T>>() + group.capacity() * size_of::<T>())
                    .sum::<usize>();
                size_of::<Groups<T>>() + values + groups.free.capacity() * size_of::<u32>()
            }),
        }
    }
}

/// The tables of a column, by the width of a value.
#[derive(Debug)]
pub(in crate::store) struct Rows {
    pub(in crate::store) short: Table<i16>,
    pub(in crate::store) long: Table<i32>,
    pub(in crate::store) wide: Table<f64>,
}

impl Rows {
    /// Tables without rows, for one series alone or for many.
    pub(in crate::store) fn new(single: bool) -> Self {
        Rows {
            short: Table::new(single),
            long: Table::new(single),
            wide: Table::new(single),
        }
    }

    /// Bytes on the heap.
    pub(in crate::store) fn heap_size(&self) -> usize {
        self.short.heap_size() + self.long.heap_size() + self.wide.heap_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::column::RUN;

    /// What a row holds in these positions.
    fn read(table: &Table<i16>, row: u32, positions: Range<usize>) -> Vec<i16> {
        let mut all = Vec::new();
        table.read(row, positions, |piece| all.extend_from_slice(piece));
        all
    }

    #[test]
    fn every_row_keeps_its_values_whenever_it_began() {
        for single in [false, true] {
            let (mut table, mut rows) = (Table::new(single), Vec::new());
            for position in 0..RUN {
                if rows.is_empty() || !single && position % 5 == 0 {
                    rows.push((table.take(), position));
                }
                rows.iter().for_each(|(row, _)| {
                    table.set(*row, position, (*row as usize * 1000 + position) as i16)
                });
            }
            for (row, start) in rows {
                let expected: Vec<i16> = (start..RUN)
                    .map(|position| (row as usize * 1000 + position) as i16)
                    .collect();
                assert_eq!(read(&table, row, start..RUN), expected);
                assert_eq!(table.get(row, RUN - 1), expected[RUN - 1 - start]);
                assert_eq!(
                    read(&table, row, start + 1..RUN - 1),
                    expected[1..RUN - 1 - start]
                );
            }
        }
    }

    #[test]
    fn many_rows_leave_little_idle_and_a_row_that_came_back_is_handed_out_again() {
        let mut table = Table::<i16>::new(false);
        let rows: Vec<u32> = (0..5000).map(|_| table.take()).collect();
        (0..16).for_each(|position| rows.iter().for_each(|row| table.set(*row, position, 7)));
        assert!(
            table.heap_size() < 5000 * 16 * 2 + 250,
            "{}",
            table.heap_size()
        );
        table.give(4321);
        assert_eq!((table.take(), table.take()), (4321, 5000));
        let mut single = Table::<i16>::new(true);
        let row = single.take();
        (0..RUN).for_each(|position| single.set(row, position, 7));
        assert!(single.heap_size() < RUN * 2 + 100, "{}", single.heap_size());
    }
}
