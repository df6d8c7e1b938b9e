//! Decoded chunks, for rules that read the same hour again at every instant. Bounded in bytes; the
//! oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::chunk::{Chunk, ChunkError, Samples};

/// Bytes of decoded samples that are kept.
const ROOM: usize = 8 << 20;

/// What was decoded lately.
#[derive(Debug, Default)]
pub(in crate::store) struct Decoded(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_chunk: HashMap<u64, Arc<Samples>, ahash::RandomState>,
    order: VecDeque<u64>,
    bytes: usize,
}

impl Decoded {
    /// The samples of a chunk.
    pub(in crate::store) fn get(&self, chunk: &Chunk) -> Result<Arc<Samples>, ChunkError> {
        if let Some(samples) = self.0.lock().by_chunk.get(&chunk.number) {
            return Ok(Arc::clone(samples));
        }
        let samples = Arc::new(chunk.decode()?);
        let inner = &mut *self.0.lock();
        if inner
            .by_chunk
            .insert(chunk.number, Arc::clone(&samples))
            .is_none()
        {
            inner.order.push_back(chunk.number);
            inner.bytes += samples.heap_size();
        }
        while inner.bytes > ROOM
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.bytes -= inner
                .by_chunk
                .remove(&oldest)
                .map_or(0, |samples| samples.heap_size());
        }
        Ok(samples)
    }

    /// Forgets everything.
    pub(in crate::store) fn clear(&self) {
        *self.0.lock() = Inner::default();
    }

    /// Bytes on the heap.
    pub(in crate::store) fn heap_size(&self) -> usize {
        self.0.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_there_is_no_more_room() {
        let decoded = Decoded::default();
        let values = [1.5; 120];
        let times: Vec<i64> = (0..120).collect();
        let chunks: Vec<Chunk> = (0..ROOM / 1920 + 10)
            .map(|_| Chunk::own(&times, &values).expect("compresses"))
            .collect();
        let first = decoded.get(&chunks[0]).expect("decodes");
        assert!(
            Arc::ptr_eq(&first, &decoded.get(&chunks[0]).expect("decodes")),
            "decoded once"
        );
        chunks
            .iter()
            .for_each(|chunk| drop(decoded.get(chunk).expect("decodes")));
        assert!(decoded.heap_size() <= ROOM);
        assert!(
            !Arc::ptr_eq(&first, &decoded.get(&chunks[0]).expect("decodes")),
            "the oldest went"
        );
        decoded.clear();
        assert_eq!(decoded.heap_size(), 0);
    }
}
