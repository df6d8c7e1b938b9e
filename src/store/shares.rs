//! Who may make series: a target has a share, and room is kept for what everything else depends
//! upon.
//!
//! Only making a series asks here; samples of series that are known are taken whatever the store
//! holds.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Inner, Limits, Refused, SeriesId, Store, Version};
use crate::model::Labels;

/// A target with fewer series is small: it may use half of the room that is kept.
const SMALL: usize = 1000;

/// Series that watch the others: alerts and what a collection reports of itself.
const VITAL: [&str; 3] = ["ALERTS", "ALERTS_FOR_STATE", "up"];

/// Whose series count together. Two of equal labels are one, so that a target keeps its share over
/// a reload.
#[derive(Clone, Debug)]
pub struct Owner(Arc<u32>);

/// Who asks for a series.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asks {
    /// What everything depends upon, and what the log holds: all of the room.
    Vital,
    /// Anybody.
    Anybody,
    /// A target, by its number.
    Target(u32),
}

impl Asks {
    /// For a sample that is written by its labels.
    pub(super) fn of(labels: &Labels) -> Self {
        let name = labels.metric_name();
        if VITAL.contains(&name) || name.starts_with("scrape_") || name.starts_with("nightbell_") {
            Asks::Vital
        } else {
            Asks::Anybody
        }
    }
}

/// How many series each target has.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// By slot: the number of its owner; 0 for nobody.
    owners: Vec<u32>,
    /// By number; that of nobody is not kept.
    counts: Vec<usize>,
    known: HashMap<Labels, Arc<u32>, ahash::RandomState>,
    free: Vec<u32>,
}

impl Shares {
    fn owner(&mut self, labels: &Labels) -> Owner {
        if self.counts.is_empty() {
            self.counts.push(0);
        }
        if let Some(number) = self.known.get(labels) {
            return Owner(Arc::clone(number));
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.counts.push(0);
            self.counts.len() as u32 - 1
        });
        let number = Arc::new(number);
        self.known.insert(labels.clone(), Arc::clone(&number));
        Owner(number)
    }

    /// Series of a target.
    fn count(&self, owner: u32) -> usize {
        self.counts.get(owner as usize).copied().unwrap_or(0)
    }

    /// Whether this slot has an owner.
    fn is_owned(&self, slot: u32) -> bool {
        self.owners
            .get(slot as usize)
            .is_some_and(|owner| *owner != 0)
    }

    fn give(&mut self, slot: u32, owner: u32) {
        if slot as usize >= self.owners.len() {
            // Growth by an eighth: doubling would leave a quarter of the room unused.
            if slot as usize >= self.owners.capacity() {
                self.owners
                    .reserve_exact(slot as usize + slot as usize / 8 + 64 - self.owners.len());
            }
            self.owners.resize(slot as usize + 1, 0);
        }
        self.owners[slot as usize] = owner;
        if let Some(count) = self.counts.get_mut(owner as usize) {
            *count += 1;
        }
    }

    /// The series in this slot is gone.
    pub(super) fn take_back(&mut self, slot: u32) {
        let Some(owner) = self
            .owners
            .get_mut(slot as usize)
            .map(std::mem::take)
            .filter(|owner| *owner != 0)
        else {
            return;
        };
        if let Some(count) = self.counts.get_mut(owner as usize) {
            *count = count.saturating_sub(1);
        }
    }

    /// Forgets targets that are gone with all their series.
    pub(super) fn tidy(&mut self) {
        let (counts, free) = (&self.counts, &mut self.free);
        self.known.retain(|_, number| {
            let kept = Arc::strong_count(number) > 1
                || counts
                    .get(**number as usize)
                    .is_some_and(|count| *count > 0);
            if !kept {
                free.push(**number);
            }
            kept
        });
    }

    /// Bytes on the heap, about.
    pub(super) fn heap_size(&self) -> usize {
        self.owners.capacity() * size_of::<u32>() + self.counts.capacity() * size_of::<usize>()
    }
}

impl Inner {
    /// Why no further series is made, if so.
    pub(super) fn refusal(&self, labels: &Labels, limits: &Limits, asks: Asks) -> Option<Refused> {
        let (all, kept) = (self.by_labels.len(), limits.max_series / 10);
        let room = match asks {
            Asks::Vital => limits.max_series,
            Asks::Target(owner) if self.shares.count(owner) >= limits.max_series_per_target => {
                return Some(Refused::ShareTaken(limits.max_series_per_target));
            }
            Asks::Target(owner)
                if self.shares.count(owner) < SMALL.min(limits.max_series / 100) =>
            {
                limits.max_series - kept / 2
            }
            _ => limits.max_series - kept,
        };
        if all >= room {
            return Some(Refused::TooManySeries(limits.max_series));
        }
        let length = labels.heap_size();
        (length > limits.max_labels_bytes).then_some(Refused::LabelsTooLong {
            length,
            limit: limits.max_labels_bytes,
        })
    }
}

impl Store {
    /// Whose series count together under these labels, those of a target.
    pub fn owner(&self, target: &Labels) -> Owner {
        self.inner.write().shares.owner(target)
    }

    /// Series of a target in memory, those that ended a few minutes ago included.
    pub fn series_of(&self, owner: &Owner) -> usize {
        self.inner.read().shares.count(*owner.0)
    }

    /// The id of a target's series, which is created if its share and the store have room.
    pub fn series_id_of(&self, owner: &Owner, labels: &Labels) -> Result<SeriesId, Refused> {
        let id = |inner: &Inner, slot: u32| SeriesId {
            slot,
            version: inner
                .slots
                .get(slot)
                .map_or(Version::MIN, |series| series.version),
        };
        {
            let inner = self.inner.read();
            if let Some(slot) = inner
                .by_labels
                .find(&inner.slots, labels)
                .filter(|slot| inner.shares.is_owned(*slot))
            {
                return Ok(id(&inner, slot));
            }
        }
        let mut inner = self.inner.write();
        let slot = inner.find_or_create(labels, &self.limits, Asks::Target(*owner.0))?;
        // After a start the series are there, and nobody's.
        if !inner.shares.is_owned(slot) {
            inner.shares.give(slot, *owner.0);
        }
        Ok(id(&inner, slot))
    }
}
