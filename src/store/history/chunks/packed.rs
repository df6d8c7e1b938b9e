//! The chunks of a series as they lie in a block.
//!
//! Each is `length, CRC-32, count, instants, values`; with native histograms `length, CRC-32, 0,
//! count, instants, length, values, histograms`. In the second format a chunk `length, CRC-32, 0, 0,
//! model` may come first, which the values of those after it need, and values are as
//! [`super::values`] writes them; in the first one each is a pco file of its own.

use std::sync::Arc;

use super::runs::within;
use super::values::{self, MOST, Model};
use crate::model::bytes::{Reader, put_uint};
use crate::model::is_histogram;
use crate::store::history::histogram;
use crate::store::memory::chunk::{decompress_into, decompress_times};
use crate::store::memory::series::{Gathered, histograms_within};
use crate::store::read::seen::Seen;

/// How a block is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::history) enum Format {
    /// Values are pco files.
    First,
    /// Values as [`values`] has them.
    Second,
}

/// What the chunk of a model begins with.
const MODEL: [u8; 2] = [0, 0];

/// Appends a chunk after its length and checksum.
pub(in crate::store::history) fn put(chunk: &[u8], data: &mut Vec<u8>) {
    put_uint(data, chunk.len() as u64);
    data.extend_from_slice(&crc32fast::hash(chunk).to_le_bytes());
    data.extend_from_slice(chunk);
}

/// Appends the model that the chunks after it share.
pub(in crate::store::history) fn put_model(model: &[u8], data: &mut Vec<u8>) {
    put(&[&MODEL, model].concat(), data);
}

/// Calls `visit` for each chunk of a series, with the model that it may need. Returns how many are
/// damaged, or are so as `visit` sees it.
pub(in crate::store::history) fn each(
    data: &[u8],
    format: Format,
    mut visit: impl FnMut(Packed<'_>, Option<&Model>) -> Option<()>,
) -> u64 {
    let (mut lost, mut model) = (0, None);
    let mut reader = Reader(data);
    while !reader.0.is_empty() {
        let chunk = reader
            .size(data.len())
            .and_then(|length| Some((reader.u32()?, reader.take(length)?)));
        let Some((checksum, chunk)) = chunk else {
            lost += 1;
            break;
        };
        let whole = crc32fast::hash(chunk) == checksum;
        let its_model = chunk
            .strip_prefix(&MODEL)
            .filter(|_| format != Format::First);
        let visited = match its_model {
            Some(bytes) if whole => {
                model = Model::parse(bytes);
                model.is_some()
            }
            _ => whole
                .then(|| Packed::parse(chunk, format))
                .flatten()
                .and_then(|chunk| visit(chunk, model.as_ref()))
                .is_some(),
        };
        lost += u64::from(!visited);
    }
    lost
}

/// A chunk, its values not decompressed.
pub(in crate::store::history) struct Packed<'a> {
    pub(in crate::store::history) count: usize,
    /// The column of its instants, and where they begin in it.
    pub(in crate::store::history) column: Option<(usize, usize)>,
    /// Otherwise the instants.
    times: &'a [u8],
    values: &'a [u8],
    histograms: &'a [u8],
    format: Format,
}

impl<'a> Packed<'a> {
    fn parse(chunk: &'a [u8], format: Format) -> Option<Self> {
        let mut reader = Reader(chunk);
        // A chunk with native histograms begins with a zero, where others have a count.
        let first = reader.size(MOST)?;
        let count = if first == 0 {
            reader.size(MOST)?
        } else {
            first
        };
        let (mut column, mut times) = (None, &[][..]);
        match reader.uint()? {
            0 => {
                let length = reader.size(chunk.len())?;
                times = reader.take(length)?;
            }
            number => {
                let first = reader.size(u32::MAX as usize)?;
                column = Some((usize::try_from(number - 1).ok()?, first));
            }
        }
        let values = if first == 0 {
            let length = reader.size(chunk.len())?;
            reader.take(length)?
        } else {
            std::mem::take(&mut reader.0)
        };
        Some(Packed {
            count,
            column,
            times,
            values,
            histograms: reader.0,
            format,
        })
    }

    /// Whether it holds nothing but floats.
    pub(in crate::store::history) fn is_floats(&self) -> bool {
        self.histograms.is_empty()
    }

    /// All values, into as much room as there is for the count.
    pub(in crate::store::history) fn decode(
        &self,
        model: Option<&Model>,
        into: &mut [f64],
    ) -> Option<()> {
        match self.format {
            Format::First => decompress_into(self.values, into),
            Format::Second => values::decode(self.values, model, into),
        }
    }

    /// The value that all its samples have, where that is quickly known.
    fn same(&self) -> Option<f64> {
        let one = self.format == Format::Second && self.is_floats();
        one.then(|| values::same(self.values))
            .flatten()
            .filter(|value| !is_histogram(*value))
    }

    /// Its instants, where they stand in it.
    pub(in crate::store::history) fn own_times(&self) -> Option<Vec<i64>> {
        decompress_times(self.times).filter(|times| times.len() == self.count)
    }

    /// Appends what it holds of `from < timestamp <= to`; all of it or nothing, which is also what
    /// becomes of one in which nothing is seen.
    pub(in crate::store::history) fn append(
        &self,
        model: Option<&Model>,
        column: &mut impl FnMut(usize) -> Option<Arc<[i64]>>,
        ((from, to), seen): ((i64, i64), &Seen),
        samples: &mut Gathered,
    ) -> Option<()> {
        let (own, shared);
        let all: &[i64] = match self.column {
            None => {
                own = decompress_times(self.times)?;
                &own
            }
            Some((number, first)) => {
                shared = column(number)?;
                shared.get(first..first.checked_add(self.count)?)?
            }
        };
        if all.len() != self.count {
            return None;
        }
        let (start, end) = within(all, from, to);
        if start >= end || !seen.any(all[start], all[end - 1]) {
            return Some(());
        }
        let begun = samples.values.len();
        if let Some(value) = self.same() {
            samples.values.resize(begun + end - start, value);
            samples.times.extend_from_slice(&all[start..end]);
            return Some(());
        }
        samples.values.resize(begun + self.count, 0.0);
        let decoded = self
            .decode(model, &mut samples.values[begun..])
            .and_then(|()| histogram::take_all(self.histograms, all, &samples.values[begun..]));
        let Some(histograms) = decoded else {
            samples.values.truncate(begun);
            return None;
        };
        samples.values.truncate(begun + end);
        samples.values.drain(begun..begun + start);
        samples.times.extend_from_slice(&all[start..end]);
        samples
            .histograms
            .extend_from_slice(histograms_within(&histograms, from, to));
        Some(())
    }
}

/// Milliseconds of the last sample in a chunk.
pub(in crate::store::history) fn last_instant(
    column: impl Fn(usize) -> Option<Arc<[i64]>>,
    chunk: &[u8],
) -> Option<i64> {
    let mut reader = Reader(chunk);
    let first = reader.size(u32::MAX as usize)?;
    let count = if first == 0 {
        reader.size(u32::MAX as usize)?
    } else {
        first
    };
    match reader.uint()? {
        0 => {
            let length = reader.size(chunk.len())?;
            decompress_times(reader.take(length)?)?.last().copied()
        }
        number => {
            let first = reader.size(u32::MAX as usize)?;
            column(usize::try_from(number - 1).ok()?)?
                .get(first.checked_add(count)?.checked_sub(1)?)
                .copied()
        }
    }
}
