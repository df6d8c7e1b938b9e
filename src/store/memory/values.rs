//! The values of one label, each with the series that carry it.
//!
//! The texts stand one after another in one string: a million of them take no allocations of their
//! own, and a pattern's literal is searched for in all of them at once. A value that no series
//! carries any more leaves a gap, until there are as many gaps as values.

use hashbrown::HashTable;

use super::postings::Postings;
use crate::model::{MatchOp, Matcher, Needle, Position};

/// What stands before each value, and after the last one. Values may have it in them.
const BETWEEN: char = '\n';
/// Gaps that may be there whatever the number of values.
const SPARE: usize = 64;

/// The values of one label.
#[derive(Debug)]
pub(in crate::store) struct Values {
    text: String,
    /// Where each value begins in `text`; it ends one byte before the next one.
    starts: Vec<usize>,
    /// Empty for a gap.
    postings: Vec<Postings>,
    /// The numbers of values, gaps left out.
    table: HashTable<u32>,
    hasher: ahash::RandomState,
}

impl Default for Values {
    fn default() -> Self {
        Values {
            text: BETWEEN.to_string(),
            starts: Vec::new(),
            postings: Vec::new(),
            table: HashTable::new(),
            hasher: ahash::RandomState::new(),
        }
    }
}

fn text_of<'a>(text: &'a str, starts: &[usize], number: usize) -> &'a str {
    let end = starts.get(number + 1).copied().unwrap_or(text.len());
    &text[starts[number]..end - BETWEEN.len_utf8()]
}

/// Growth by an eighth: doubling would leave a quarter of the room unused.
fn room(length: usize, more: usize) -> usize {
    more.max(length / 8).max(4)
}

impl Values {
    fn text(&self, number: usize) -> &str {
        text_of(&self.text, &self.starts, number)
    }

    fn find(&self, value: &str) -> Option<usize> {
        let found = self.table.find(self.hasher.hash_one(value), |number| {
            self.text(*number as usize) == value
        });
        found.map(|number| *number as usize)
    }

    /// Number of values.
    pub(in crate::store) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no value.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The series that carry a value, if one does.
    pub(in crate::store) fn get(&self, value: &str) -> Option<&Postings> {
        self.find(value).map(|number| &self.postings[number])
    }

    /// A series carries this value.
    pub(in crate::store) fn add(&mut self, value: &str, slot: u32) {
        match self.find(value) {
            Some(number) => self.postings[number].insert(slot),
            None => self.push(value, Postings::One(slot)),
        }
    }

    fn push(&mut self, value: &str, postings: Postings) {
        let more = value.len() + BETWEEN.len_utf8();
        if self.text.capacity() - self.text.len() < more {
            self.text.reserve_exact(room(self.text.len(), more));
        }
        if self.starts.len() == self.starts.capacity() {
            let more = room(self.starts.len(), 1);
            self.starts.reserve_exact(more);
            self.postings.reserve_exact(more);
        }
        let number = self.starts.len() as u32;
        self.starts.push(self.text.len());
        self.postings.push(postings);
        self.text.push_str(value);
        self.text.push(BETWEEN);
        let (text, starts, hasher) = (&self.text, &self.starts, &self.hasher);
        let hash = |number: &u32| hasher.hash_one(text_of(text, starts, *number as usize));
        self.table.insert_unique(hash(&number), number, hash);
    }

    /// A series carries this value no longer.
    pub(in crate::store) fn remove(&mut self, value: &str, slot: u32) {
        let Some(number) = self.find(value) else {
            return;
        };
        self.postings[number].remove(slot);
        if !self.postings[number].is_empty() {
            return;
        }
        let hash = self.hasher.hash_one(value);
        if let Ok(entry) = self
            .table
            .find_entry(hash, |other| *other as usize == number)
        {
            entry.remove();
        }
        if self.starts.len() - self.len() > self.len() + SPARE {
            self.close_gaps();
        }
    }

    fn close_gaps(&mut self) {
        let before = std::mem::take(self);
        let text = before.text;
        for (number, postings) in before.postings.into_iter().enumerate() {
            if !postings.is_empty() {
                self.push(text_of(&text, &before.starts, number), postings);
            }
        }
    }

    /// Makes the sets of series small again.
    pub(in crate::store) fn compress(&mut self) {
        self.postings.iter_mut().for_each(Postings::compress);
    }

    /// Every value with the series that carry it.
    pub(in crate::store) fn iter(&self) -> impl Iterator<Item = (&str, &Postings)> {
        self.postings
            .iter()
            .enumerate()
            .filter(|(_, postings)| !postings.is_empty())
            .map(|(number, postings)| (self.text(number), postings))
    }

    /// A copy of the values.
    pub(in crate::store) fn texts(&self) -> Texts {
        let live = (0..self.starts.len()).filter(|number| !self.postings[*number].is_empty());
        let ranges = live.map(|number| {
            let start = self.starts[number];
            (start, start + self.text(number).len())
        });
        Texts {
            ranges: ranges.collect(),
            text: self.text.clone(),
        }
    }

    /// The series of each value that the pattern of a matcher matches, whether the matcher wants
    /// that or not.
    pub(in crate::store) fn matched(&self, matcher: &Matcher) -> Vec<&Postings> {
        let wanted = matcher.op == MatchOp::Regex;
        let is_matched = |value: &str| matcher.matches(value) == wanted;
        match Needle::of(&matcher.value).filter(|needle| !needle.text.contains(BETWEEN)) {
            Some(Needle {
                text,
                position: Position::Whole,
                ..
            }) => self.get(&text).into_iter().collect(),
            Some(needle) => self.with(&needle, is_matched),
            None => self
                .iter()
                .filter(|(value, _)| is_matched(value))
                .map(|(_, postings)| postings)
                .collect(),
        }
    }

    /// Those that have the needle, and are matched.
    fn with(&self, needle: &Needle, is_matched: impl Fn(&str) -> bool) -> Vec<&Postings> {
        let (before, after) = (
            needle.position == Position::Start,
            needle.position == Position::End,
        );
        let mut wanted = String::with_capacity(needle.text.len() + 2);
        wanted.extend(before.then_some(BETWEEN));
        wanted.push_str(&needle.text);
        wanted.extend(after.then_some(BETWEEN));
        let (mut found, mut next) = (Vec::new(), 0);
        for hit in memchr::memmem::find_iter(self.text.as_bytes(), wanted.as_bytes()) {
            let start = hit + usize::from(before) * BETWEEN.len_utf8();
            let number = self.number_at(start, next);
            // One value may have it more than once, and another one the character in between.
            let is_new = number >= next
                && (!before || self.starts[number] == start)
                && (!after
                    || self.starts[number] + self.text(number).len() == start + needle.text.len());
            let postings = &self.postings[number];
            if !is_new || postings.is_empty() {
                continue;
            }
            next = number + 1;
            if needle.is_all || is_matched(self.text(number)) {
                found.push(postings);
            }
        }
        found
    }

    /// The value that stands at this byte, which is none before the last one found, `next - 1`.
    fn number_at(&self, at: usize, next: usize) -> usize {
        // Mostly it is one of the next few.
        let (mut low, mut step) = (next.saturating_sub(1), 1);
        while self
            .starts
            .get(low + step)
            .is_some_and(|start| *start <= at)
        {
            low += step;
            step *= 2;
        }
        let end = (low + step).min(self.starts.len());
        low + self.starts[low..end].partition_point(|start| *start <= at) - 1
    }

    /// Bytes on the heap, about.
    pub(in crate::store) fn heap_size(&self) -> usize {
        self.text.capacity()
            + self.starts.capacity() * size_of::<usize>()
            + self.postings.capacity() * size_of::<Postings>()
            + self.postings.iter().map(Postings::heap_size).sum::<usize>()
            + self.table.allocation_size()
    }
}

/// The values of a label as they were.
#[derive(Debug)]
pub(in crate::store) struct Texts {
    text: String,
    ranges: Vec<(usize, usize)>,
}

impl Texts {
    /// The first so many, sorted.
    pub(in crate::store) fn sorted(&self, most: usize) -> Vec<String> {
        let texts = self.ranges.iter();
        let texts = texts.map(|(start, end)| &self.text[*start..*end]);
        sort(texts.collect(), most)
    }
}

/// Sorts texts and gives the first so many. Many of them mostly begin alike and differ soon after that: a number made of the
/// next few bytes decides nearly always, without a look at the text itself.
pub(in crate::store) fn sort(texts: Vec<&str>, most: usize) -> Vec<String> {
    let Some(first) = texts.first() else {
        return Vec::new();
    };
    let alike = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let same = texts
        .iter()
        .fold(first.len(), |same, text| same.min(alike(first, text)));
    let key = |text: &str| {
        let mut key = [0; 8];
        let rest = &text.as_bytes()[same..];
        let length = rest.len().min(key.len());
        key[..length].copy_from_slice(&rest[..length]);
        u64::from_be_bytes(key)
    };
    let mut keyed: Vec<(u64, &str)> = texts.iter().map(|text| (key(text), *text)).collect();
    if most < keyed.len() {
        keyed.select_nth_unstable(most);
        keyed.truncate(most);
    }
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, text)| text.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_are_found_by_text_and_by_pattern_whatever_came_and_went(
            steps in prop::collection::vec(("[ab\n]{0,4}", 0_u32..4, prop::bool::weighted(0.6)), 1..400),
            patterns in prop::collection::vec(prop::sample::select(vec!["a.*", ".*b", ".*ab.*", "ab", "a\nb.*", ".*\na", ".+", ".*", "(a|b)b+", "[ab]a.*", r"a\x62", ".*a", "b.*a"]), 1..5),
        ) {
            let (mut values, mut expected) = (Values::default(), BTreeMap::<String, Vec<u32>>::new());
            for (value, slot, comes) in steps {
                let slots = expected.entry(value.clone()).or_default();
                if comes && !slots.contains(&slot) {
                    slots.push(slot);
                    values.add(&value, slot);
                } else if !comes && slots.contains(&slot) {
                    slots.retain(|other| *other != slot);
                    values.remove(&value, slot);
                }
            }
            expected.retain(|_, slots| !slots.is_empty());
            prop_assert_eq!(values.len(), expected.len());
            prop_assert_eq!(values.texts().sorted(usize::MAX), expected.keys().cloned().collect::<Vec<_>>());
            for (value, slots) in &expected {
                prop_assert_eq!(values.get(value).map(Postings::len), Some(slots.len()));
            }
            prop_assert!(values.starts.len() <= 2 * values.len() + SPARE + 1);
            for pattern in patterns {
                for op in [MatchOp::Regex, MatchOp::NotRegex] {
                    let matcher = Matcher::new("l", op, pattern).expect("valid");
                    let found: usize = values.matched(&matcher).into_iter().map(Postings::len).sum();
                    let all = expected.iter().filter(|(value, _)| matcher.matches(value) == (op == MatchOp::Regex));
                    prop_assert_eq!(found, all.map(|(_, slots)| slots.len()).sum::<usize>(), "{:?}", pattern);
                }
            }
        }

        #[test]
        fn texts_are_sorted_by_their_bytes(texts in prop::collection::vec("(pod-)?[a\u{0}-é]{0,10}", 0..50), most in 0_usize..60) {
            let mut expected = texts.clone();
            expected.sort_unstable();
            expected.truncate(most);
            prop_assert_eq!(sort(texts.iter().map(String::as_str).collect(), most), expected);
        }
    }

    #[test]
    fn many_values_take_little_beside_their_text() {
        let mut values = Values::default();
        let mut bytes = 0;
        for slot in 0..20_000 {
            let value = format!("pod-{slot:05}");
            bytes += value.len();
            values.add(&value, slot);
        }
        assert!(
            values.heap_size() < bytes + 20_000 * 40,
            "{}",
            values.heap_size()
        );
        (0..19_000).for_each(|slot| values.remove(&format!("pod-{slot:05}"), slot));
        assert!(values.heap_size() < 120_000, "{}", values.heap_size());
    }
}
