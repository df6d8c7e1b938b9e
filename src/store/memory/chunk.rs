//! Sealed chunks: a run of one series' samples, compressed with pco and guarded by a checksum of
//! our own.
//!
//! The pco format (<https://github.com/pcodec/pcodec>) carries no checksum, and most damaged bytes
//! decode without an error; therefore each chunk keeps the CRC-32 of its bytes and refuses to
//! decode when they differ. Values come back bit for bit, stale markers, negative zeroes and NaN
//! payloads included.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pco::ChunkConfig;
use pco::standalone::{simple_compress, simple_decompress, simple_decompress_into};

/// Level of pco's search for an encoding; higher ones gain under a percent on runs this short.
const LEVEL: usize = 6;

/// Numbers chunks: what was decoded from one cannot be mistaken for another.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Where the instants of a chunk are.
#[derive(Debug)]
enum Times {
    /// Equal to `column[offset..offset + count]`, a column that the series of one target share.
    Shared(Arc<[i64]>, u16),
    /// Compressed, for this chunk alone.
    Packed(Box<[u8]>),
}

/// A compressed run of samples. Immutable.
#[derive(Debug)]
pub(in crate::store) struct Chunk {
    /// Milliseconds of the first sample.
    pub(in crate::store) first: i64,
    /// Milliseconds of the last sample.
    pub(in crate::store) last: i64,
    /// Number of samples.
    pub(in crate::store) count: u16,
    times: Times,
    values: Box<[u8]>,
    checksum: u32,
    /// Unlike that of any other chunk of this process.
    pub(in crate::store) number: u64,
}

/// What a chunk holds.
#[derive(Debug)]
pub(in crate::store) struct Samples {
    /// `None`: they are in the chunk's shared column.
    times: Option<Vec<i64>>,
    values: Vec<f64>,
}

impl Samples {
    /// Bytes on the heap.
    pub(in crate::store) fn heap_size(&self) -> usize {
        self.times.as_ref().map_or(0, |times| times.len() * 8) + self.values.len() * 8
    }
}

/// Why a chunk cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The bytes are not those that were written.
    #[error("chunk checksum mismatch")]
    Checksum,
    /// The bytes do not decode.
    #[error("chunk cannot be decoded: {0}")]
    Format(String),
}

impl Chunk {
    /// Compresses a run whose instants are a slice of a shared column, from `offset` on.
    pub(in crate::store) fn shared(
        column: &Arc<[i64]>,
        offset: u16,
        values: &[f64],
    ) -> Result<Chunk, ChunkError> {
        let start = usize::from(offset);
        let times = &column[start..start + values.len()];
        Chunk::pack(times, values, Times::Shared(Arc::clone(column), offset))
    }

    /// Compresses a run with instants of its own.
    pub(in crate::store) fn own(times: &[i64], values: &[f64]) -> Result<Chunk, ChunkError> {
        let packed = compress(|config| simple_compress(times, config))?;
        Chunk::pack(times, values, Times::Packed(packed))
    }

    fn pack(times: &[i64], values: &[f64], at: Times) -> Result<Chunk, ChunkError> {
        let values_packed = compress(|config| simple_compress(values, config))?;
        let mut chunk = Chunk {
            first: times.first().copied().unwrap_or_default(),
            last: times.last().copied().unwrap_or_default(),
            count: u16::try_from(values.len()).map_err(|e| ChunkError::Format(e.to_string()))?,
            times: at,
            values: values_packed,
            checksum: 0,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        };
        chunk.checksum = chunk.compute_checksum();
        Ok(chunk)
    }

    /// Appends the samples with `from < timestamp <= to` to the buffers.
    pub(in crate::store) fn read(
        &self,
        from: i64,
        to: i64,
        times: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<(), ChunkError> {
        self.take(&self.decode()?, from, to, times, values);
        Ok(())
    }

    /// All samples.
    pub(in crate::store) fn decode(&self) -> Result<Samples, ChunkError> {
        if self.checksum != self.compute_checksum() {
            return Err(ChunkError::Checksum);
        }
        let count = usize::from(self.count);
        let times = match &self.times {
            Times::Shared(..) => None,
            Times::Packed(bytes) => Some(
                simple_decompress::<i64>(bytes).map_err(|e| ChunkError::Format(e.to_string()))?,
            ),
        };
        let values = simple_decompress::<f64>(&self.values)
            .map_err(|e| ChunkError::Format(e.to_string()))?;
        if values.len() != count || times.as_ref().is_some_and(|times| times.len() != count) {
            return Err(ChunkError::Format(format!(
                "{} values for {count} samples",
                values.len()
            )));
        }
        Ok(Samples { times, values })
    }

    /// Appends those of this chunk's decoded samples with `from < timestamp <= to` to the buffers.
    pub(in crate::store) fn take(
        &self,
        samples: &Samples,
        from: i64,
        to: i64,
        times: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) {
        let all: &[i64] = match (&self.times, &samples.times) {
            (Times::Shared(column, offset), _) => {
                &column[usize::from(*offset)..usize::from(*offset) + samples.values.len()]
            }
            (Times::Packed(_), own) => own.as_deref().unwrap_or_default(),
        };
        let (start, end) = (
            all.partition_point(|t| *t <= from),
            all.partition_point(|t| *t <= to),
        );
        if start < end {
            times.extend_from_slice(&all[start..end]);
            values.extend_from_slice(&samples.values[start..end]);
        }
    }

    /// Bytes on the heap; a shared column counts nothing here.
    pub(in crate::store) fn heap_size(&self) -> usize {
        let times = match &self.times {
            Times::Shared(..) => 0,
            Times::Packed(bytes) => bytes.len(),
        };
        times + self.values.len()
    }

    fn compute_checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.values);
        if let Times::Packed(bytes) = &self.times {
            hasher.update(bytes);
        }
        hasher.finalize()
    }
}

/// Instants, compressed.
pub(in crate::store) fn compress_times(times: &[i64]) -> Result<Box<[u8]>, ChunkError> {
    compress(|config| simple_compress(times, config))
}

/// What [`compress_times`] made; check a checksum first.
pub(in crate::store) fn decompress_times(bytes: &[u8]) -> Option<Vec<i64>> {
    simple_decompress(bytes).ok()
}

/// Values of a chunk as blocks of the first format have it, as many as there is room for; check a
/// checksum first.
pub(in crate::store) fn decompress_into(bytes: &[u8], into: &mut [f64]) -> Option<()> {
    let progress = simple_decompress_into(bytes, into).ok()?;
    (progress.finished && progress.n_processed == into.len()).then_some(())
}

fn compress(
    run: impl Fn(&ChunkConfig) -> pco::errors::PcoResult<Vec<u8>>,
) -> Result<Box<[u8]>, ChunkError> {
    let config = ChunkConfig::default().with_compression_level(LEVEL);
    run(&config)
        .map(Vec::into_boxed_slice)
        .map_err(|e| ChunkError::Format(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{STALE_NAN_BITS, stale_nan};

    #[test]
    fn every_bit_pattern_comes_back() {
        let payload = f64::from_bits(0x7ff8_0000_0000_0123);
        let values = [
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            stale_nan(),
            f64::NAN,
            payload,
            f64::MIN_POSITIVE / 3.0,
            1e308,
        ];
        let times: Vec<i64> = (0..values.len() as i64).map(|i| i * 15_000 - 7).collect();
        let chunk = Chunk::own(&times, &values).expect("compresses");
        let (mut t, mut v) = (Vec::new(), Vec::new());
        chunk
            .read(i64::MIN, i64::MAX, &mut t, &mut v)
            .expect("reads");
        assert_eq!(t, times);
        assert_eq!(
            v.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            values.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
        assert!(v.iter().any(|x| x.to_bits() == STALE_NAN_BITS));
    }

    #[test]
    fn a_damaged_byte_is_noticed() {
        let times: Vec<i64> = (0..50).map(|i| i * 1000).collect();
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        let length = Chunk::own(&times, &values)
            .expect("compresses")
            .values
            .len();
        for position in 0..length {
            let mut chunk = Chunk::own(&times, &values).expect("compresses");
            chunk.values[position] ^= 0x40;
            assert_eq!(
                chunk.read(0, i64::MAX, &mut Vec::new(), &mut Vec::new()),
                Err(ChunkError::Checksum)
            );
        }
    }
}
