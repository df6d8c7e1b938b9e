//! From a label set to the slot of its series. The labels stand in the slots alone: an entry is the
//! slot's number, a fifth of what a map from labels to numbers takes.

use hashbrown::HashTable;

use super::slots::Slots;
use crate::model::Labels;

/// The slots in use, by the labels of their series. Each call gets the slots that the numbers mean.
#[derive(Debug, Default)]
pub(in crate::store) struct Lookup {
    slots: HashTable<u32>,
    hasher: ahash::RandomState,
}

impl Lookup {
    /// The slot of a series.
    pub(in crate::store) fn find(&self, slots: &Slots, labels: &Labels) -> Option<u32> {
        self.slots
            .find(self.hasher.hash_one(labels), |slot| {
                slots.labels(*slot) == Some(labels)
            })
            .copied()
    }

    /// Registers a slot that holds a series which is not registered yet.
    pub(in crate::store) fn add(&mut self, slots: &Slots, slot: u32) {
        let hash = |slot: &u32| {
            slots
                .labels(*slot)
                .map_or(0, |labels| self.hasher.hash_one(labels))
        };
        self.slots.insert_unique(hash(&slot), slot, hash);
    }

    /// Forgets a slot; call it while the slot still holds the series.
    pub(in crate::store) fn remove(&mut self, slots: &Slots, slot: u32) {
        let Some(labels) = slots.labels(slot) else {
            return;
        };
        if let Ok(entry) = self
            .slots
            .find_entry(self.hasher.hash_one(labels), |other| *other == slot)
        {
            entry.remove();
        }
    }

    /// Number of series.
    pub(in crate::store) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes on the heap.
    pub(in crate::store) fn heap_size(&self) -> usize {
        self.slots.allocation_size()
    }
}
