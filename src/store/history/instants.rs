//! Decoded columns of instants: those that series of a block share, for the series that are read
//! next. Bounded in bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

/// Bytes of instants that are kept.
const ROOM: usize = 2 << 20;

/// Which column: of the block with this number the one with that.
pub(super) type Key = (u64, usize);

/// What was decoded lately, the newest in front.
#[derive(Debug, Default)]
pub(super) struct Instants(Mutex<VecDeque<(Key, Arc<[i64]>)>>);

impl Instants {
    /// The instants of a column, decoded if need be; `None` when they cannot be.
    pub(super) fn get(
        &self,
        key: Key,
        decode: impl FnOnce() -> Option<Vec<i64>>,
    ) -> Option<Arc<[i64]>> {
        {
            let mut kept = self.0.lock();
            if let Some(index) = kept.iter().position(|(other, _)| *other == key) {
                let entry = kept.remove(index)?;
                let instants = Arc::clone(&entry.1);
                kept.push_front(entry);
                return Some(instants);
            }
        }
        let instants: Arc<[i64]> = decode()?.into();
        let mut kept = self.0.lock();
        kept.push_front((key, Arc::clone(&instants)));
        let mut bytes = 0;
        let fit = kept.iter().take_while(|(_, instants)| {
            bytes += size_of_val::<[i64]>(instants);
            bytes <= ROOM
        });
        let fit = fit.count();
        kept.truncate(fit);
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
        assert_eq!(kept.0.lock().len(), 4);
    }
}
