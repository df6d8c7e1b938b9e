//! The series by number. They stand in blocks that never move: room that grows by copying would lie
//! idle in part, and be there twice meanwhile.

use super::series::Series;
use crate::model::Labels;
use crate::store::{SeriesId, Version};

/// Series in a block.
const BLOCK: usize = 256;

/// All series; a number that became free is given out again, with another version.
#[derive(Debug, Default)]
pub(in crate::store) struct Slots {
    blocks: Vec<Vec<Option<Series>>>,
    /// Free numbers, and the version of the series that comes next.
    free: Vec<(u32, Version)>,
}

impl Slots {
    /// The series of this number.
    pub(in crate::store) fn get(&self, slot: u32) -> Option<&Series> {
        self.blocks
            .get(slot as usize / BLOCK)?
            .get(slot as usize % BLOCK)?
            .as_ref()
    }

    /// The series of this number, to change.
    pub(in crate::store) fn get_mut(&mut self, slot: u32) -> Option<&mut Series> {
        self.blocks
            .get_mut(slot as usize / BLOCK)?
            .get_mut(slot as usize % BLOCK)?
            .as_mut()
    }

    /// The series that is meant, unless it is gone.
    pub(in crate::store) fn known(&self, id: SeriesId) -> Option<&Series> {
        self.get(id.slot)
            .filter(|series| series.version == id.version)
    }

    /// The labels of this number's series.
    pub(in crate::store) fn labels(&self, slot: u32) -> Option<&Labels> {
        self.get(slot).map(|series| &series.labels)
    }

    /// Adds a series without samples.
    pub(in crate::store) fn add(&mut self, labels: Labels) -> u32 {
        if let Some((slot, version)) = self.free.pop() {
            self.blocks[slot as usize / BLOCK][slot as usize % BLOCK] =
                Some(Series::new(labels, version));
            return slot;
        }
        let full = self.blocks.len() * BLOCK;
        let position = match self.blocks.last_mut().filter(|block| block.len() < BLOCK) {
            Some(block) => {
                block.push(Some(Series::new(labels, Version::MIN)));
                full - BLOCK + block.len() - 1
            }
            None => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(Some(Series::new(labels, Version::MIN)));
                self.blocks.push(block);
                full
            }
        };
        position as u32
    }

    /// Forgets a series.
    pub(in crate::store) fn remove(&mut self, slot: u32) -> Option<Series> {
        let series = self
            .blocks
            .get_mut(slot as usize / BLOCK)?
            .get_mut(slot as usize % BLOCK)?
            .take()?;
        self.free
            .push((slot, series.version.checked_add(1).unwrap_or(Version::MIN)));
        Some(series)
    }

    /// Numbers given out so far, free ones included.
    pub(in crate::store) fn end(&self) -> u32 {
        self.blocks
            .last()
            .map_or(0, |last| (self.blocks.len() - 1) * BLOCK + last.len()) as u32
    }

    /// The series, each with its number.
    pub(in crate::store) fn iter(&self) -> impl Iterator<Item = (u32, &Series)> {
        (0_u32..)
            .zip(self.blocks.iter().flatten())
            .filter_map(|(slot, series)| Some((slot, series.as_ref()?)))
    }

    /// Bytes on the heap, without what the series themselves have there.
    pub(in crate::store) fn heap_size(&self) -> usize {
        self.blocks.len() * BLOCK * size_of::<Option<Series>>()
            + self.free.capacity() * size_of::<(u32, Version)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_out_again_but_does_not_mean_the_series_before() {
        let labels = |n: usize| Labels::from_pairs([("n", n.to_string())]);
        let mut slots = Slots::default();
        for n in 0..BLOCK * 2 + 1 {
            assert_eq!(slots.add(labels(n)) as usize, n);
        }
        assert_eq!(
            (slots.end() as usize, slots.iter().count()),
            (BLOCK * 2 + 1, BLOCK * 2 + 1)
        );
        let gone = SeriesId {
            slot: 300,
            version: Version::MIN,
        };
        assert_eq!(
            slots.known(gone).map(|series| series.labels.clone()),
            Some(labels(300))
        );
        assert!(
            slots
                .remove(300)
                .is_some_and(|series| series.labels == labels(300))
        );
        assert!(slots.remove(300).is_none() && slots.get(300).is_none());
        assert_eq!(
            (slots.end() as usize, slots.iter().count()),
            (BLOCK * 2 + 1, BLOCK * 2)
        );
        assert_eq!(slots.add(labels(7000)), 300);
        assert!(slots.known(gone).is_none());
        assert_eq!(slots.labels(300), Some(&labels(7000)));
        assert_eq!(slots.add(labels(7001)) as usize, BLOCK * 2 + 1);
        assert!(slots.get(u32::MAX).is_none());
    }
}
