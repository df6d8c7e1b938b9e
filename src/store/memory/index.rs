//! The inverted index: label name, to label value, to the sorted numbers of the series that carry
//! it.
//!
//! Regular expressions run over the distinct values of a label, not over series; a pattern that is
//! a list of literals (`a|b|c`) is a look-up for each of them.

use std::borrow::Cow;
use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::postings::{Postings, union};
use super::values::{Texts, Values, sort};
use crate::model::{Labels, MatchOp, Matcher};

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
            values.add(value, slot);
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
            values.remove(value, slot);
            if values.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// Makes the sets small again after series came or went.
    pub(in crate::store) fn compress(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.names.values_mut().for_each(Values::compress);
            self.all.optimize();
        }
    }

    /// Whether a series carries this label.
    pub(in crate::store) fn contains(&self, name: &str, value: &str) -> bool {
        self.names
            .get(name)
            .is_some_and(|values| values.get(value).is_some())
    }

    /// All label names, sorted.
    pub(in crate::store) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.keys().map(|n| n.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// All values of one label, to be sorted.
    pub(in crate::store) fn values(&self, name: &str) -> Option<Texts> {
        self.names.get(name).map(Values::texts)
    }

    /// Every label with its values, each with how many series carry it.
    pub(in crate::store) fn labels(
        &self,
    ) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, usize)>)> {
        self.names.iter().map(|(name, values)| {
            let values = values
                .iter()
                .map(|(value, postings)| (value, postings.len()));
            (&**name, values)
        })
    }

    /// The series that pass every matcher, sorted. `passes` says whether one passes, by its labels.
    pub(in crate::store) fn select(
        &self,
        matchers: &[Matcher],
        passes: impl Fn(u32, &Matcher) -> bool,
    ) -> Vec<u32> {
        self.selected(matchers, passes).iter().collect()
    }

    /// The same as a set.
    pub(in crate::store) fn selected(
        &self,
        matchers: &[Matcher],
        passes: impl Fn(u32, &Matcher) -> bool,
    ) -> RoaringBitmap {
        // Matchers that no absent label passes narrow the set; the others take series away from it.
        // Patterns come last: when few series are left, they are looked at by themselves.
        let (patterns, found): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| self.is_searched(m));
        let (mut kept, mut taken) = (Vec::new(), Vec::new());
        for matcher in found {
            if matcher.matches("") {
                taken.push(self.refused(matcher));
                continue;
            }
            let found = self.passing(matcher);
            if found.is_empty() {
                return RoaringBitmap::new();
            }
            kept.push(found);
        }
        kept.sort_by_key(|found| found.len());
        let mut kept = kept.into_iter();
        let mut result = kept.next().unwrap_or(Cow::Borrowed(&self.all)).into_owned();
        kept.for_each(|found| result &= &*found);
        taken.iter().for_each(|refused| result -= &**refused);
        for pattern in patterns {
            if result.len() < self.count(&pattern.name) as u64 {
                let stays = result.iter().filter(|slot| passes(*slot, pattern));
                result = stays.collect();
            } else if pattern.matches("") {
                result -= &*self.refused(pattern);
            } else {
                result &= &*self.passing(pattern);
            }
        }
        result
    }

    /// Whether all values of a label are looked at for a matcher.
    fn is_searched(&self, matcher: &Matcher) -> bool {
        matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex) && matcher.literals().is_none()
    }

    /// How many values a label has.
    fn count(&self, name: &str) -> usize {
        self.names.get(name).map_or(0, Values::len)
    }

    /// The values of a label of which one of some series that `lives` has them, sorted; `labels`
    /// gives the labels of a series.
    pub(in crate::store) fn values_among<'a>(
        &self,
        name: &str,
        series: &RoaringBitmap,
        lives: impl Fn(u32) -> bool,
        labels: impl Fn(u32) -> Option<&'a Labels>,
    ) -> Vec<String> {
        let Some(values) = self.names.get(name) else {
            return Vec::new();
        };
        if series.len() < values.len() as u64 / 4 {
            // Fewer series than values: they are gone through instead.
            let of = |slot: u32| labels(slot).and_then(|labels| labels.get(name));
            let mut found: Vec<&str> = series.iter().filter(|s| lives(*s)).filter_map(of).collect();
            found.sort_unstable();
            found.dedup();
            return found.into_iter().map(str::to_owned).collect();
        }
        let among = |postings: &Postings| match postings {
            Postings::One(only) => series.contains(*only) && lives(*only),
            Postings::Few(few) => few
                .iter()
                .any(|slot| series.contains(*slot) && lives(*slot)),
            Postings::Many(many) => {
                // The smaller one is gone through.
                let (fewer, more) = if many.len() < series.len() {
                    (&**many, series)
                } else {
                    (series, &**many)
                };
                fewer.iter().any(|slot| more.contains(slot) && lives(slot))
            }
        };
        let found = values.iter().filter(|(_, postings)| among(postings));
        sort(found.map(|(value, _)| value).collect(), usize::MAX)
    }

    /// The labels that one of some series that `lives` has, sorted.
    pub(in crate::store) fn names_among(
        &self,
        series: &RoaringBitmap,
        lives: impl Fn(u32) -> bool,
    ) -> Vec<String> {
        let among = |values: &Values| {
            values.iter().any(|(_, postings)| match postings {
                Postings::One(only) => series.contains(*only) && lives(*only),
                more => more
                    .bitmap()
                    .iter()
                    .any(|slot| series.contains(slot) && lives(slot)),
            })
        };
        let found = self.names.iter().filter(|(_, values)| among(values));
        let mut found: Vec<String> = found.map(|(name, _)| name.to_string()).collect();
        found.sort_unstable();
        found
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
                Cow::Owned(union(set.iter().filter_map(|v| values.get(v))))
            }
            (MatchOp::Regex, None) => Cow::Owned(union(values.matched(matcher).into_iter())),
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
                Cow::Owned(union(set.iter().filter_map(|v| values.get(v))))
            }
            (MatchOp::NotRegex, None) => Cow::Owned(union(values.matched(matcher).into_iter())),
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
        let values = |values: &Values| 96 + size_of::<Values>() + values.heap_size();
        self.names.values().map(values).sum::<usize>() + self.all.serialized_size()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
            let own = |slot: u32, m: &Matcher| {
                all.get(slot as usize).is_some_and(|(_, labels, _)| m.matches(labels.value(&m.name)))
            };
            prop_assert_eq!(&index.select(&matchers, own), &expected);
            index.compress();
            prop_assert_eq!(&index.select(&matchers, own), &expected);
            // Of every second one.
            let (found, lives) = (index.selected(&matchers, own), |slot: u32| slot.is_multiple_of(2));
            let living = || expected.iter().filter(|slot| lives(**slot)).map(|slot| &all[*slot as usize].1);
            for name in ["few", "many", "unique", "none"] {
                let values: BTreeSet<String> = living().filter_map(|l| l.get(name)).map(str::to_owned).collect();
                prop_assert_eq!(index.values_among(name, &found, lives, |slot| all.get(slot as usize).map(|(_, labels, _)| labels)), values.into_iter().collect::<Vec<_>>());
            }
            let names: BTreeSet<String> = living().flat_map(|l| l.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>()).collect();
            prop_assert_eq!(index.names_among(&found, lives), names.into_iter().collect::<Vec<_>>());
        }
    }
}
