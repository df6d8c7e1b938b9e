//! The inverted index: label name, to label value, to the sorted numbers of the series that carry
//! it.
//!
//! Regular expressions run over the distinct values of a label, not over series; a pattern that is
//! a list of literals (`a|b|c`) is a look-up for each of them.

use std::borrow::Cow;
use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::postings::{Postings, union};
use crate::model::{Labels, MatchOp, Matcher};

type Values = HashMap<Box<str>, Postings, ahash::RandomState>;

/// Which series carry which label.
#[derive(Debug, Default)]
pub(in crate::store) struct Index {
    names: HashMap<Box<str>, Values, ahash::RandomState>,
    all: RoaringBitmap,
    /// Series came or went since the last [`Index::compress`].
    changed: bool,
}

impl Index {
    /// Registers a series.
    pub(in crate::store) fn add(&mut self, slot: u32, labels: &Labels) {
        self.changed = true;
        self.all.insert(slot);
        for (name, value) in labels {
            if !self.names.contains_key(name) {
                self.names.insert(name.into(), Values::default());
            }
            let Some(values) = self.names.get_mut(name) else {
                continue;
            };
            match values.get_mut(value) {
                Some(postings) => postings.insert(slot),
                None => {
                    values.insert(value.into(), Postings::One(slot));
                }
            }
        }
    }

    /// Forgets a series.
    pub(in crate::store) fn remove(&mut self, slot: u32, labels: &Labels) {
        self.changed = true;
        self.all.remove(slot);
        for (name, value) in labels {
            let Some(values) = self.names.get_mut(name) else {
                continue;
            };
            if let Some(postings) = values.get_mut(value) {
                postings.remove(slot);
                if postings.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// Makes the sets small again after series came or went.
    pub(in crate::store) fn compress(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.names
                .values_mut()
                .flat_map(|values| values.values_mut())
                .for_each(Postings::compress);
            self.all.optimize();
        }
    }

    /// Whether a series carries this label.
    pub(in crate::store) fn contains(&self, name: &str, value: &str) -> bool {
        self.names
            .get(name)
            .is_some_and(|values| values.contains_key(value))
    }

    /// All label names, sorted.
    pub(in crate::store) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.keys().map(|n| n.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// All values of one label, sorted.
    pub(in crate::store) fn values(&self, name: &str) -> Vec<String> {
        let mut values: Vec<String> = self
            .names
            .get(name)
            .map(|v| v.keys().map(|k| k.to_string()).collect())
            .unwrap_or_default();
        values.sort_unstable();
        values
    }

    /// Every label with each of its values, and how many series carry the pair.
    pub(in crate::store) fn pairs(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        self.names.iter().flat_map(|(name, values)| {
            values
                .iter()
                .map(move |(value, postings)| (&**name, &**value, postings.len()))
        })
    }

    /// The series that pass every matcher, sorted.
    pub(in crate::store) fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        // Matchers that no absent label passes narrow the set; the others take series away from it.
        let (mut kept, mut taken) = (Vec::new(), Vec::new());
        for matcher in matchers {
            if matcher.matches("") {
                taken.push(self.refused(matcher));
                continue;
            }
            let found = self.passing(matcher);
            if found.is_empty() {
                return Vec::new();
            }
            kept.push(found);
        }
        kept.sort_by_key(|found| found.len());
        let mut kept = kept.into_iter();
        let mut result = kept.next().unwrap_or(Cow::Borrowed(&self.all)).into_owned();
        kept.for_each(|found| result &= &*found);
        taken.iter().for_each(|refused| result -= &**refused);
        result.iter().collect()
    }

    /// Series whose value of the label is present and passes.
    fn passing(&self, matcher: &Matcher) -> Cow<'_, RoaringBitmap> {
        let Some(values) = self.names.get(matcher.name.as_str()) else {
            return Cow::default();
        };
        match (matcher.op, matcher.literals()) {
            (MatchOp::Equal, _) => values
                .get(matcher.value.as_str())
                .map(Postings::bitmap)
                .unwrap_or_default(),
            (MatchOp::Regex, Some(set)) => {
                Cow::Owned(union(set.iter().filter_map(|v| values.get(&**v))))
            }
            _ => Cow::Owned(union(
                values
                    .iter()
                    .filter(|(v, _)| matcher.matches(v))
                    .map(|(_, p)| p),
            )),
        }
    }

    /// Series whose value of the label is present and does not pass.
    fn refused(&self, matcher: &Matcher) -> Cow<'_, RoaringBitmap> {
        let Some(values) = self.names.get(matcher.name.as_str()) else {
            return Cow::default();
        };
        match (matcher.op, matcher.literals()) {
            (MatchOp::NotEqual, _) => values
                .get(matcher.value.as_str())
                .map(Postings::bitmap)
                .unwrap_or_default(),
            (MatchOp::NotRegex, Some(set)) => {
                Cow::Owned(union(set.iter().filter_map(|v| values.get(&**v))))
            }
            _ => Cow::Owned(union(
                values
                    .iter()
                    .filter(|(v, _)| !matcher.matches(v))
                    .map(|(_, p)| p),
            )),
        }
    }

    /// Bytes on the heap, about.
    pub(in crate::store) fn heap_size(&self) -> usize {
        let values = |values: &Values| {
            values
                .iter()
                .map(|(text, postings)| text.len() + 48 + postings.heap_size())
                .sum::<usize>()
        };
        self.names.values().map(|v| 96 + values(v)).sum::<usize>() + self.all.serialized_size()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_selection_is_what_the_matchers_pass(
            series in prop::collection::vec((prop::bool::weighted(0.8), prop::option::of(0_u32..3), prop::option::of(0_u32..200)), 1..600),
            asked in prop::collection::vec((prop::sample::select(vec!["", "x", "few", "many", "unique", "none"]), 0_usize..4, prop::sample::select(vec!["", "0", "1", "1|7", "0|", ".*", ".+", "1.*", "500"])), 1..4),
        ) {
            let (mut index, mut all) = (Index::default(), Vec::new());
            for (slot, (stays, few, many)) in (0_u32..).zip(series) {
                let value = |of: Option<u32>| of.map_or(String::new(), |n| n.to_string());
                let labels = Labels::from_pairs([("few", value(few)), ("many", value(many)), ("unique", slot.to_string()), ("x", "0".into())]);
                index.add(slot, &labels);
                all.push((slot, labels, stays));
            }
            index.compress();
            for (slot, labels, _) in all.iter().filter(|(.., stays)| !stays) {
                index.remove(*slot, labels);
            }
            let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
            let matchers: Vec<Matcher> = asked.iter().map(|(name, op, value)| Matcher::new(name, ops[*op], value).expect("valid")).collect();
            let passes = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.value(&m.name)));
            let expected: Vec<u32> = all.iter().filter(|(_, labels, stays)| *stays && passes(labels)).map(|(slot, ..)| *slot).collect();
            prop_assert_eq!(&index.select(&matchers), &expected);
            index.compress();
            prop_assert_eq!(&index.select(&matchers), &expected);
        }
    }
}
