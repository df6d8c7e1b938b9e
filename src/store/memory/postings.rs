//! Sets of series' numbers: what the index holds for each label and value.
//!
//! One number or a few stand as they are, since many labels have a value for each series; more are
//! a compressed bitmap (<https://roaringbitmap.org>): the series of one target came one after
//! another, so that most large sets are runs.

use std::borrow::Cow;

use roaring::{MultiOps as _, RoaringBitmap};
use thin_vec::ThinVec;

/// Numbers that take less than a bitmap does.
const FEW: usize = 32;

/// A set of numbers.
#[derive(Debug)]
pub(in crate::store) enum Postings {
    One(u32),
    /// Sorted.
    Few(ThinVec<u32>),
    Many(Box<RoaringBitmap>),
}

/// There is one for each value of each label.
const _: () = assert!(size_of::<Postings>() <= 16);

impl Postings {
    /// Adds a number.
    pub(in crate::store) fn insert(&mut self, slot: u32) {
        if let Postings::One(only) = *self
            && only != slot
        {
            *self = Postings::Few([only].into_iter().collect());
        }
        match self {
            Postings::One(_) => {}
            Postings::Few(few) => {
                if let Err(position) = few.binary_search(&slot) {
                    few.insert(position, slot);
                }
                if few.len() > FEW {
                    *self = Postings::Many(Box::new(few.iter().copied().collect()));
                }
            }
            Postings::Many(many) => {
                many.insert(slot);
            }
        }
    }

    /// Takes a number out; a bitmap stays one.
    pub(in crate::store) fn remove(&mut self, slot: u32) {
        match self {
            Postings::One(only) if *only == slot => *self = Postings::Few(ThinVec::new()),
            Postings::One(_) => {}
            Postings::Few(few) => few.retain(|other| *other != slot),
            Postings::Many(many) => {
                many.remove(slot);
            }
        }
    }

    /// Whether there is no number.
    pub(in crate::store) fn is_empty(&self) -> bool {
        match self {
            Postings::One(_) => false,
            Postings::Few(few) => few.is_empty(),
            Postings::Many(many) => many.is_empty(),
        }
    }

    /// How many numbers there are.
    pub(in crate::store) fn len(&self) -> usize {
        match self {
            Postings::One(_) => 1,
            Postings::Few(few) => few.len(),
            Postings::Many(many) => many.len() as usize,
        }
    }

    /// The set, to calculate with.
    pub(in crate::store) fn bitmap(&self) -> Cow<'_, RoaringBitmap> {
        match self {
            Postings::One(only) => Cow::Owned([*only].into_iter().collect()),
            Postings::Few(few) => Cow::Owned(few.iter().copied().collect()),
            Postings::Many(many) => Cow::Borrowed(many),
        }
    }

    /// Chooses the form that takes the least.
    pub(in crate::store) fn compress(&mut self) {
        match self {
            Postings::One(_) => {}
            Postings::Few(few) => few.shrink_to_fit(),
            Postings::Many(many) => {
                many.optimize();
            }
        }
    }

    /// Bytes on the heap, about.
    pub(in crate::store) fn heap_size(&self) -> usize {
        match self {
            Postings::One(_) => 0,
            Postings::Few(few) => 16 + few.capacity() * size_of::<u32>(),
            Postings::Many(many) => size_of::<RoaringBitmap>() + many.serialized_size() * 5 / 4,
        }
    }
}

/// All numbers that are in one of the sets.
pub(in crate::store) fn union<'a>(sets: impl Iterator<Item = &'a Postings>) -> RoaringBitmap {
    let (mut few, mut many): (Vec<u32>, Vec<&RoaringBitmap>) = (Vec::new(), Vec::new());
    for set in sets {
        match set {
            Postings::One(only) => few.push(*only),
            Postings::Few(more) => few.extend_from_slice(more),
            Postings::Many(bitmap) => many.push(bitmap),
        }
    }
    few.sort_unstable();
    let mut all = many.union();
    all |= few.into_iter().collect::<RoaringBitmap>();
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in_and_not_taken_out(
            // Runs of numbers that come or go, or a compression.
            steps in prop::collection::vec((0_u32..20_000, prop::sample::select(vec![1_u32, 2, 30, 5000]), 1_u32..3, 0..5), 1..30),
        ) {
            let (mut set, mut expected) = (Postings::One(7), BTreeSet::from([7]));
            for (first, count, step, action) in steps {
                for slot in (first..first + count * step).step_by(step as usize) {
                    if action > 0 {
                        set.insert(slot);
                        expected.insert(slot);
                    } else {
                        set.remove(slot);
                        expected.remove(&slot);
                    }
                }
                if action == 1 {
                    set.compress();
                }
                prop_assert_eq!(set.len(), expected.len());
                prop_assert_eq!(set.is_empty(), expected.is_empty());
            }
            let found: Vec<u32> = set.bitmap().iter().collect();
            prop_assert_eq!(&found, &expected.iter().copied().collect::<Vec<_>>());
            let other = Postings::One(3);
            expected.insert(3);
            prop_assert!(union([&set, &other].into_iter()).iter().eq(expected));
        }
    }

    #[test]
    fn sets_take_little_whatever_their_size() {
        let mut every_third = Postings::One(0);
        let mut run = Postings::One(0);
        for slot in 1..50_000 {
            run.insert(slot);
            if slot % 3 == 0 {
                every_third.insert(slot);
            }
        }
        every_third.compress();
        run.compress();
        assert!(run.heap_size() < 100, "{}", run.heap_size());
        assert!(
            every_third.heap_size() < 12_000,
            "{}",
            every_third.heap_size()
        );
        assert_eq!(Postings::One(7).heap_size(), 0);
    }
}
