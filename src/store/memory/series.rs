//! One series: its labels, a head of values that still grows, and sealed chunks before it.

use std::ops::Range;
use std::sync::Arc;

use thin_vec::ThinVec;

use super::chunk::{Chunk, ChunkError};
use super::column::{ColumnId, Columns, RUN};
use super::decoded::Decoded;
use super::head::Head;
use crate::model::native_histogram::ResetHint;
use crate::model::{Labels, NativeHistogram, histogram_nan, is_histogram, is_stale};
use crate::store::Version;

/// A run shorter than this that loses its column keeps its instants to itself from then on.
const SHORT: usize = 16;

/// How the store took one sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Outcome {
    /// Stored.
    Appended,
    /// The same instant and the same bits as the newest sample: nothing to do.
    Repeated,
    /// The same instant as the newest sample, another value.
    Duplicate,
    /// Older than the newest sample.
    OutOfOrder,
    /// So old that blocks on disk hold that time.
    OutOfBounds,
}

/// A native histogram and its milliseconds since the Unix epoch.
pub type TimedHistogram = (i64, Arc<NativeHistogram>);

/// Samples of one series in ascending order of time, as parallel slices of equal length.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Milliseconds since the Unix epoch.
    pub times: &'a [i64],
    /// The values; stale markers included, see [`crate::model::is_stale`], and markers where a
    /// native histogram stands, see [`crate::model::is_histogram`].
    pub values: &'a [f64],
    /// The native histograms among the samples, ascending in time; empty for a series of floats.
    pub histograms: &'a [TimedHistogram],
}

impl Window<'_> {
    /// The native histogram at a time, if one stands there.
    pub fn histogram(&self, time: i64) -> Option<&Arc<NativeHistogram>> {
        histogram_at(self.histograms, time)
    }
}

/// Samples gathered from several positions, in ascending order of time.
#[derive(Debug, Default)]
pub(in crate::store) struct Gathered {
    pub(in crate::store) times: Vec<i64>,
    pub(in crate::store) values: Vec<f64>,
    pub(in crate::store) histograms: Vec<TimedHistogram>,
}

impl Gathered {
    pub(in crate::store) fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
    }

    pub(in crate::store) fn extend(&mut self, window: Window<'_>) {
        self.times.extend_from_slice(window.times);
        self.values.extend_from_slice(window.values);
        let position = self.histograms.len();
        self.histograms.extend_from_slice(window.histograms);
        // The one that it follows stood elsewhere, and may be lost: readers must compare.
        if let Some((_, first)) = self
            .histograms
            .get_mut(position)
            .filter(|(_, first)| first.hint == ResetHint::NotReset)
        {
            Arc::make_mut(first).hint = ResetHint::Unknown;
        }
    }

    /// Puts samples into order that came from positions which overlap; of those of one instant the
    /// first stays.
    pub(in crate::store) fn order(&mut self) {
        if self.times.is_sorted_by(|a, b| a < b) {
            return;
        }
        let mut positions: Vec<usize> = (0..self.times.len()).collect();
        positions.sort_by_key(|position| self.times[*position]);
        positions.dedup_by_key(|position| self.times[*position]);
        self.times = positions
            .iter()
            .map(|position| self.times[*position])
            .collect();
        self.values = positions
            .iter()
            .map(|position| self.values[*position])
            .collect();
        self.histograms.sort_by_key(|(time, _)| *time);
        self.histograms.dedup_by_key(|(time, _)| *time);
        let (times, values) = (&self.times, &self.values);
        self.histograms.retain(|(time, _)| {
            times
                .binary_search(time)
                .is_ok_and(|position| is_histogram(values[position]))
        });
    }

    pub(in crate::store) fn window(&self) -> Window<'_> {
        Window {
            times: &self.times,
            values: &self.values,
            histograms: &self.histograms,
        }
    }
}

/// The native histogram at a time.
pub(crate) fn histogram_at(
    histograms: &[TimedHistogram],
    time: i64,
) -> Option<&Arc<NativeHistogram>> {
    histograms
        .binary_search_by_key(&time, |(at, _)| *at)
        .ok()
        .map(|position| &histograms[position].1)
}

/// Those with `from < timestamp <= to`.
pub(in crate::store) fn histograms_within(
    histograms: &[TimedHistogram],
    from: i64,
    to: i64,
) -> &[TimedHistogram] {
    let end = histograms.partition_point(|(at, _)| *at <= to);
    let start = histograms[..end].partition_point(|(at, _)| *at <= from);
    &histograms[start..end]
}

/// Buffers that [`Series::window`] may fill; kept from one call to the next.
#[derive(Debug, Default)]
pub(in crate::store) struct Scratch {
    times: Vec<i64>,
    values: Vec<f64>,
}

/// A series and its samples.
#[derive(Debug)]
pub(in crate::store) struct Series {
    /// What it is called.
    pub(in crate::store) labels: Labels,
    head: Head,
    column: Option<ColumnId>,
    /// Tells it from those that had its number before.
    pub(in crate::store) version: Version,
    chunks: ThinVec<Chunk>,
    /// Native histograms, ascending in time; a marker stands for each among the values. Most series
    /// have none.
    histograms: ThinVec<TimedHistogram>,
}

/// There are many: what few of them need must cost the others nothing.
const _: () = assert!(size_of::<Option<Series>>() <= 48);

impl Series {
    /// A series without samples.
    pub(in crate::store) fn new(labels: Labels, version: Version) -> Self {
        Series {
            labels,
            head: Head::default(),
            column: None,
            version,
            chunks: ThinVec::new(),
            histograms: ThinVec::new(),
        }
    }

    /// Milliseconds of the newest sample.
    pub(in crate::store) fn last(&self, columns: &Columns) -> Option<i64> {
        self.head_times(columns)
            .last()
            .copied()
            .or_else(|| self.chunks.last().map(|c| c.last))
    }

    /// Adds a sample. `current` is the column that the series of this batch share, if one was
    /// opened already.
    pub(in crate::store) fn append(
        &mut self,
        at: i64,
        value: f64,
        columns: &mut Columns,
        current: &mut Option<ColumnId>,
    ) -> Outcome {
        if let Some(last) = self.last(columns) {
            if at < last {
                return Outcome::OutOfOrder;
            }
            if at == last {
                return match self.newest(columns) {
                    Some(newest) if newest.to_bits() == value.to_bits() => Outcome::Repeated,
                    _ => Outcome::Duplicate,
                };
            }
        }
        if !self.extend(at, columns) {
            self.change_column(at, columns, current);
        } else if self.column.is_some_and(|id| columns.get(id).is_open(at)) {
            *current = self.column;
        }
        self.push(value, columns);
        Outcome::Appended
    }

    /// Adds a native histogram.
    pub(in crate::store) fn append_histogram(
        &mut self,
        at: i64,
        histogram: &Arc<NativeHistogram>,
        columns: &mut Columns,
        current: &mut Option<ColumnId>,
    ) -> Outcome {
        let last = self.last(columns);
        match self.append(at, histogram_nan(), columns, current) {
            // The marker stands there already: of the same histogram?
            Outcome::Repeated if self.newest_histogram() != Some(histogram) => Outcome::Duplicate,
            Outcome::Appended => {
                let previous = self
                    .histograms
                    .last()
                    .filter(|(time, _)| Some(*time) == last);
                let hint = histogram.hint_after(previous.map(|(_, previous)| &**previous));
                let mut histogram = Arc::clone(histogram);
                if histogram.hint != hint {
                    Arc::make_mut(&mut histogram).hint = hint;
                }
                self.histograms.push((at, histogram));
                Outcome::Appended
            }
            outcome => outcome,
        }
    }

    /// Adds a value to the head, in the column that the series is in.
    fn push(&mut self, value: f64, columns: &mut Columns) {
        if let Some(id) = self.column {
            self.head.push(value, &mut columns.get_mut(id).rows);
        }
    }

    fn newest_histogram(&self) -> Option<&Arc<NativeHistogram>> {
        self.histograms.last().map(|(_, histogram)| histogram)
    }

    /// Whether the next instant of the series' column is `at`, or can be made so.
    fn extend(&self, at: i64, columns: &mut Columns) -> bool {
        let Some(id) = self.column else { return false };
        let next = self.head.start() + self.head.len();
        let column = columns.get_mut(id);
        match column.times.get(next) {
            Some(time) => *time == at,
            None if column.is_full() => false,
            None => {
                column.push(at);
                true
            }
        }
    }

    fn change_column(&mut self, at: i64, columns: &mut Columns, current: &mut Option<ColumnId>) {
        let is_first = self.column.is_none() && self.chunks.is_empty();
        if let Some(id) = self.column {
            let short = self.head.len() < SHORT && !columns.get(id).is_full();
            if short {
                let mut times = self.head_times(columns).to_vec();
                times.push(at);
                let values = self.leave(columns);
                self.enter(columns.create(&times, true), 0, columns);
                values
                    .into_iter()
                    .for_each(|value| self.push(value, columns));
                return;
            }
            self.seal(columns);
        }
        let (id, offset) = match *current {
            Some(id) if columns.get(id).is_open(at) => (id, columns.get(id).times.len() - 1),
            _ => {
                let id = columns.create(&[at], false);
                if is_first {
                    columns.begin(id);
                }
                *current = Some(id);
                (id, 0)
            }
        };
        self.enter(id, offset, columns);
    }

    fn enter(&mut self, id: ColumnId, offset: usize, columns: &mut Columns) {
        columns.join(id);
        self.column = Some(id);
        self.head.begin(offset);
    }

    /// Leaves the column, and with it the values of the head.
    fn leave(&mut self, columns: &mut Columns) -> Vec<f64> {
        let Some(id) = self.column.take() else {
            return Vec::new();
        };
        let values = self.head.leave(&mut columns.get_mut(id).rows);
        columns.leave(id);
        values
    }

    /// Turns the head into a chunk and leaves the column.
    fn seal(&mut self, columns: &mut Columns) {
        let Some(id) = self.column.take() else { return };
        let column = columns.get_mut(id);
        let start = self.head.start();
        let values = self.head.leave(&mut column.rows);
        let chunk = if column.is_full() && !column.private {
            Chunk::shared(column.freeze(), start as u16, &values)
        } else {
            Chunk::own(&column.times[start..start + values.len()], &values)
        };
        columns.leave(id);
        match chunk {
            Ok(chunk) => {
                // Exact growth, once in a run: room for chunks that do not come would cost as much
                // as the samples.
                self.chunks.reserve_exact(1);
                self.chunks.push(chunk);
            }
            Err(_) => columns.lost += 1,
        }
    }

    /// Seals the head if it is one of the few that still hold the room of a column that most series
    /// have left.
    pub(in crate::store) fn settle(&mut self, columns: &mut Columns) {
        if self.column.is_some_and(|id| columns.get(id).is_deserted()) {
            self.seal(columns);
        }
    }

    /// Whether the newest sample says that the series ended.
    pub(in crate::store) fn is_marked(&self, columns: &Columns) -> bool {
        self.newest(columns).is_some_and(is_stale)
    }

    fn newest(&self, columns: &Columns) -> Option<f64> {
        if let Some(value) = self
            .column
            .and_then(|id| self.head.last(&columns.get(id).rows))
        {
            return Some(value);
        }
        let chunk = self.chunks.last()?;
        let (mut times, mut values) = (Vec::new(), Vec::new());
        chunk
            .read(chunk.last - 1, chunk.last, &mut times, &mut values)
            .ok()?;
        values.last().copied()
    }

    fn head_times<'a>(&self, columns: &'a Columns) -> &'a [i64] {
        let start = self.head.start();
        self.column.map_or(&[], |id| {
            &columns.get(id).times[start..start + self.head.len()]
        })
    }

    /// Appends values of the head to a buffer.
    fn read_head(&self, positions: Range<usize>, columns: &Columns, into: &mut Vec<f64>) {
        if let Some(id) = self.column {
            self.head.read(positions, &columns.get(id).rows, into);
        }
    }

    /// The samples with `from < timestamp <= to`, in `scratch` as far as they do not lie here as
    /// they are.
    pub(in crate::store) fn window<'a>(
        &'a self,
        from: i64,
        to: i64,
        columns: &'a Columns,
        decoded: &Decoded,
        scratch: &'a mut Scratch,
    ) -> Result<Window<'a>, ChunkError> {
        let times = self.head_times(columns);
        // Most windows end at the newest sample: look there before searching.
        let end = if times.last().is_some_and(|t| *t <= to) {
            times.len()
        } else {
            times.partition_point(|t| *t <= to)
        };
        let start = times[..end].partition_point(|t| *t <= from);
        let first_chunk = self.chunks.partition_point(|c| c.last <= from);
        if self.chunks.get(first_chunk).is_none_or(|c| c.first > to) {
            scratch.values.clear();
            self.read_head(start..end, columns, &mut scratch.values);
            return Ok(Window {
                times: &times[start..end],
                values: &scratch.values,
                histograms: self.histograms(from, to),
            });
        }
        scratch.times.clear();
        scratch.values.clear();
        for chunk in self.chunks[first_chunk..]
            .iter()
            .take_while(|c| c.first <= to)
        {
            chunk.take(
                &*decoded.get(chunk)?,
                from,
                to,
                &mut scratch.times,
                &mut scratch.values,
            );
        }
        scratch.times.extend_from_slice(&times[start..end]);
        self.read_head(start..end, columns, &mut scratch.values);
        Ok(Window {
            times: &scratch.times,
            values: &scratch.values,
            histograms: self.histograms(from, to),
        })
    }

    /// The native histograms with `from < timestamp <= to`.
    fn histograms(&self, from: i64, to: i64) -> &[TimedHistogram] {
        histograms_within(&self.histograms, from, to)
    }

    /// Drops chunks that end before `before`; the head goes too when its newest sample is older.
    /// Returns whether nothing is left.
    pub(in crate::store) fn retain(&mut self, before: i64, columns: &mut Columns) -> bool {
        let keep = self.chunks.partition_point(|c| c.last < before);
        self.chunks.drain(..keep);
        if self.head_times(columns).last().is_some_and(|t| *t < before) {
            self.leave(columns);
        }
        let oldest = self
            .chunks
            .first()
            .map(|c| c.first)
            .or_else(|| self.head_times(columns).first().copied());
        let gone = oldest.map_or(self.histograms.len(), |oldest| {
            self.histograms.partition_point(|(at, _)| *at < oldest)
        });
        self.histograms.drain(..gone);
        self.head.is_empty() && self.chunks.is_empty()
    }

    /// Drops the samples after `to`.
    pub(in crate::store) fn cut(&mut self, to: i64, columns: &mut Columns) {
        if self.last(columns).is_none_or(|last| last <= to) {
            return;
        }
        // What is left of the first run that reaches beyond it becomes a chunk of its own.
        let whole = self.chunks.partition_point(|chunk| chunk.last <= to);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        match self.chunks.get(whole) {
            Some(chunk) => {
                if chunk.first <= to && chunk.read(i64::MIN, to, &mut times, &mut values).is_err() {
                    columns.lost += 1;
                }
                self.leave(columns);
            }
            None => {
                times.extend(
                    self.head_times(columns)
                        .iter()
                        .take_while(|time| **time <= to),
                );
                values = self.leave(columns);
                values.truncate(times.len());
            }
        }
        self.chunks.truncate(whole);
        if !times.is_empty() {
            match Chunk::own(&times, &values) {
                Ok(chunk) => self.chunks.push(chunk),
                Err(_) => columns.lost += 1,
            }
        }
        let left = self.histograms.partition_point(|(at, _)| *at <= to);
        self.histograms.truncate(left);
    }

    /// Whether a sample may lie in `from < timestamp <= to`, without reading one.
    pub(in crate::store) fn overlaps(&self, from: i64, to: i64, columns: &Columns) -> bool {
        let times = self.head_times(columns);
        let in_head =
            times.first().is_some_and(|f| *f <= to) && times.last().is_some_and(|l| *l > from);
        in_head || self.chunks.iter().any(|c| c.first <= to && c.last > from)
    }

    /// Milliseconds of the oldest and of the newest sample.
    pub(in crate::store) fn span(&self, columns: &Columns) -> Option<(i64, i64)> {
        let first = self
            .chunks
            .first()
            .map(|c| c.first)
            .or_else(|| self.head_times(columns).first().copied());
        first.zip(self.last(columns))
    }

    /// Number of runs of samples: sealed ones, and the one that still grows.
    pub(in crate::store) fn chunk_count(&self) -> usize {
        self.chunks.len() + usize::from(!self.head.is_empty())
    }

    /// Number of samples: in the head, and in chunks.
    pub(in crate::store) fn counts(&self) -> (usize, usize) {
        (
            self.head.len(),
            self.chunks.iter().map(|c| usize::from(c.count)).sum(),
        )
    }

    /// Bytes on the heap, the head's apart, which are the column's: of chunks, and of the rest.
    pub(in crate::store) fn heap_sizes(&self) -> (usize, usize) {
        let chunks = self.chunks.iter().map(Chunk::heap_size).sum::<usize>()
            + self.chunks.capacity() * size_of::<Chunk>();
        let each = size_of::<NativeHistogram>() + size_of::<TimedHistogram>();
        let histograms = self
            .histograms
            .iter()
            .map(|(_, h)| each + h.heap_size())
            .sum::<usize>();
        (chunks, self.labels.heap_size() + histograms)
    }

    /// Gives the column back; for a series that is about to be dropped.
    pub(in crate::store) fn release(&mut self, columns: &mut Columns) {
        self.leave(columns);
    }
}

/// A full head seals on the next append, when the column is full too; private columns are bounded
/// by the same length.
const _: () = assert!(RUN <= u8::MAX as usize);
