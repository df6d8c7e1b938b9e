//! Decoded columns of instants: those that series of a block share, for the series that are read
//! next. Bounded in bytes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Bytes of instants that are kept.
const ROOM: usize = 2 << 20;

/// Which column: of the block with this number the one with that.
pub(in crate::store::history) type Key = (u64, usize);

/// What was decoded lately.
#[derive(Debug, Default)]
pub(in crate::store::history) struct Instants(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    columns: HashMap<Key, (u64, Arc<[i64]>), ahash::RandomState>,
    bytes: usize,
    /// Counts uses.
    now: u64,
}

impl Instants {
    /// The instants of a column, decoded if need be; `None` when they cannot be.
    pub(in crate::store::history) fn get(
        &self,
        key: Key,
        decode: impl FnOnce() -> Option<Vec<i64>>,
    ) -> Option<Arc<[i64]>> {
        {
            let mut kept = self.0.lock();
            kept.now += 1;
            let now = kept.now;
            if let Some((used, instants)) = kept.columns.get_mut(&key) {
                *used = now;
                return Some(Arc::clone(instants));
            }
        }
        let instants: Arc<[i64]> = decode()?.into();
        let mut kept = self.0.lock();
        let now = kept.now;
        kept.bytes += size_of_val::<[i64]>(&instants);
        if let Some((_, before)) = kept.columns.insert(key, (now, Arc::clone(&instants))) {
            kept.bytes -= size_of_val::<[i64]>(&before);
        }
        while kept.bytes > ROOM
            && let Some(oldest) = kept.columns.iter().min_by_key(|(_, (used, _))| *used)
        {
            let oldest = *oldest.0;
            if let Some((_, gone)) = kept.columns.remove(&oldest) {
                kept.bytes -= size_of_val::<[i64]>(&gone);
            }
        }
        Some(instants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_again_stays_and_the_oldest_go() {
        let kept = Instants::default();
        let column = || Some(vec![0; ROOM / 8 / 4]);
        let first = kept.get((0, 0), column).expect("decodes");
        for number in 1..9 {
            kept.get((1, number), column).expect("decodes");
            assert!(Arc::ptr_eq(
                &first,
                &kept.get((0, 0), || None).expect("kept")
            ));
        }
        assert!(
            kept.get((1, 8), || None).is_some() && kept.get((1, 1), || None).is_none(),
            "the oldest went"
        );
        assert_eq!(kept.0.lock().columns.len(), 4);
    }
}
