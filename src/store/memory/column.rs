//! Time columns: the series that one target exposes at one tick share its timestamp.
//!
//! A column is a growing run of instants. A series points into it and has only values, in a row
//! beside it; the n-th value belongs to the n-th instant after the one at which the series began. A
//! series that misses a tick leaves the column.

use std::num::NonZeroU32;
use std::sync::Arc;

use thin_vec::ThinVec;

use super::rows::Rows;

/// Instants in one column, and values in the head of one series, before the run is sealed.
pub(in crate::store) const RUN: usize = 120;

/// Series that a column takes: they are sealed by the append that finds it full, which nobody should
/// notice.
const CROWD: u32 = 2048;
/// Series of a column that is large enough to be sealed at a time of its own.
const LARGE: u32 = 1024;
/// The fewest instants of the first column of its series, if that is large.
const FIRST: usize = 40;
/// Series that left a column whose room is worth a chunk for each that did not.
const DESERTED: u32 = 100;

/// Which column; never zero, so that a series without one needs no room to say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct ColumnId(NonZeroU32);

impl ColumnId {
    fn of(index: usize) -> Self {
        ColumnId(NonZeroU32::MIN.saturating_add(index as u32))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Some series have one each.
const _: () = assert!(size_of::<Column>() <= 88);

/// A column of instants, ascending, in milliseconds.
#[derive(Debug)]
pub(in crate::store) struct Column {
    /// The instants so far, at most [`RUN`].
    pub(in crate::store) times: ThinVec<i64>,
    /// Series heads that point here.
    users: u32,
    /// Most of them that there ever were.
    most: u32,
    /// Only one series may use it.
    pub(in crate::store) private: bool,
    /// Instants that it takes once it is large: [`RUN`] but for the first column of its series.
    most_times: u8,
    /// The values of these heads.
    pub(in crate::store) rows: Rows,
    frozen: Option<Arc<[i64]>>,
}

impl Column {
    fn new(times: ThinVec<i64>, private: bool) -> Self {
        Column {
            times,
            users: 0,
            most: 0,
            private,
            most_times: RUN as u8,
            rows: Rows::new(private),
            frozen: None,
        }
    }

    /// Adds an instant.
    pub(in crate::store) fn push(&mut self, at: i64) {
        // Growth by a few: doubling would leave a quarter of the room unused.
        if self.times.len() == self.times.capacity() {
            self.times.reserve_exact(8);
        }
        self.times.push(at);
    }

    /// Whether most series have left, and they were many: the others hold the room of all.
    pub(in crate::store) fn is_deserted(&self) -> bool {
        self.users < self.most / 2 && self.most - self.users >= DESERTED
    }

    /// Whether no instant fits any more.
    pub(in crate::store) fn is_full(&self) -> bool {
        let most = match self.most >= LARGE {
            true => usize::from(self.most_times),
            false => RUN,
        };
        self.times.len() >= most
    }

    /// Whether a series may join that has a sample at its last instant, `at`. Where so many are
    /// sealed together already, further ones have a column of their own.
    pub(in crate::store) fn is_open(&self, at: i64) -> bool {
        !self.private && self.most < CROWD && self.times.last() == Some(&at)
    }

    /// A shared copy of a full column; made once for all series that seal against it.
    pub(in crate::store) fn freeze(&mut self) -> &Arc<[i64]> {
        let times = &self.times;
        self.frozen
            .get_or_insert_with(|| Arc::from(times.as_slice()))
    }
}

/// All columns in use.
#[derive(Debug, Default)]
pub(in crate::store) struct Columns {
    columns: Vec<Column>,
    free: Vec<ColumnId>,
    /// Columns that were the first of their series.
    begun: usize,
    /// Runs that could not be compressed and are gone.
    pub(in crate::store) lost: u64,
}

impl Columns {
    /// The column `id`.
    pub(in crate::store) fn get(&self, id: ColumnId) -> &Column {
        &self.columns[id.index()]
    }

    /// The column `id`, to write.
    pub(in crate::store) fn get_mut(&mut self, id: ColumnId) -> &mut Column {
        &mut self.columns[id.index()]
    }

    /// A fresh column that holds `times`, with no user yet.
    pub(in crate::store) fn create(&mut self, times: &[i64], private: bool) -> ColumnId {
        let column = Column::new(times.into(), private);
        match self.free.pop() {
            Some(id) => {
                self.columns[id.index()] = column;
                id
            }
            None => {
                if self.columns.len() == self.columns.capacity() {
                    self.columns.reserve_exact(self.columns.len() / 8 + 8);
                }
                self.columns.push(column);
                ColumnId::of(self.columns.len() - 1)
            }
        }
    }

    /// Makes `id` the first column of the series that will share it. All targets begin together at a
    /// start: so that they are not all sealed together half an hour later, and each time from then
    /// on, large ones are full after different times.
    pub(in crate::store) fn begin(&mut self, id: ColumnId) {
        // Steps of the golden section lie far from each other, however many there are.
        const STEP: usize = 49;
        self.begun = (self.begun + STEP) % (RUN - FIRST + 1);
        let most = (FIRST + self.begun) as u8;
        self.get_mut(id).most_times = most;
    }

    /// One more series points to `id`.
    pub(in crate::store) fn join(&mut self, id: ColumnId) {
        let column = &mut self.columns[id.index()];
        column.users += 1;
        column.most = column.most.max(column.users);
    }

    /// One series fewer points to `id`; the last one frees it.
    pub(in crate::store) fn leave(&mut self, id: ColumnId) {
        let column = &mut self.columns[id.index()];
        column.users = column.users.saturating_sub(1);
        if column.users == 0 {
            *column = Column::new(ThinVec::new(), false);
            self.free.push(id);
        }
    }

    /// Bytes on the heap.
    pub(in crate::store) fn heap_size(&self) -> usize {
        let each = |c: &Column| {
            c.times.capacity() * 8
                + c.frozen.as_ref().map_or(0, |f| f.len() * 8)
                + c.rows.heap_size()
        };
        self.columns.iter().map(each).sum::<usize>() + self.columns.capacity() * size_of::<Column>()
    }
}
