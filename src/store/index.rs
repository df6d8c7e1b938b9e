//! The inverted index: label name, to label value, to the sorted numbers of the series that carry it.
//!
//! Regular expressions run over the distinct values of a label, not over series; a pattern that is a list of literals (`a|b|c`) is a
//! look-up for each of them.

use std::collections::HashMap;

use crate::model::{Labels, MatchOp, Matcher};

/// Sorted slots of series.
pub(super) type Postings = Vec<u32>;

type Values = HashMap<Box<str>, Postings, ahash::RandomState>;

/// Which series carry which label.
#[derive(Debug, Default)]
pub(super) struct Index {
    names: HashMap<Box<str>, Values, ahash::RandomState>,
    all: Postings,
}

impl Index {
    /// Registers a series.
    pub(super) fn add(&mut self, slot: u32, labels: &Labels) {
        insert(&mut self.all, slot);
        for (name, value) in labels {
            if !self.names.contains_key(name) {
                self.names.insert(name.into(), Values::default());
            }
            let Some(values) = self.names.get_mut(name) else { continue };
            match values.get_mut(value) {
                Some(postings) => insert(postings, slot),
                None => {
                    values.insert(value.into(), vec![slot]);
                }
            }
        }
    }

    /// Forgets a series.
    pub(super) fn remove(&mut self, slot: u32, labels: &Labels) {
        erase(&mut self.all, slot);
        for (name, value) in labels {
            let Some(values) = self.names.get_mut(name) else { continue };
            if let Some(postings) = values.get_mut(value) {
                erase(postings, slot);
                if postings.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// Whether a series carries this label.
    pub(super) fn contains(&self, name: &str, value: &str) -> bool {
        self.names.get(name).is_some_and(|values| values.contains_key(value))
    }

    /// All label names, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.keys().map(|n| n.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// All values of one label, sorted.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let mut values: Vec<String> = self.names.get(name).map(|v| v.keys().map(|k| k.to_string()).collect()).unwrap_or_default();
        values.sort_unstable();
        values
    }

    /// Every label with each of its values, and how many series carry the pair.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        self.names.iter().flat_map(|(name, values)| values.iter().map(move |(value, postings)| (&**name, &**value, postings.len())))
    }

    /// The series that pass every matcher.
    pub(super) fn select(&self, matchers: &[Matcher]) -> Postings {
        // Matchers that no absent label passes narrow the set; the others take series away from it.
        let mut kept: Option<Postings> = None;
        let mut taken: Vec<Postings> = Vec::new();
        for matcher in matchers {
            if matcher.matches("") {
                taken.push(self.refused(matcher));
                continue;
            }
            let found = self.passing(matcher);
            kept = Some(match kept {
                None => found,
                Some(before) => intersect(&before, &found),
            });
            if kept.as_ref().is_some_and(Vec::is_empty) {
                return Vec::new();
            }
        }
        let mut result = kept.unwrap_or_else(|| self.all.clone());
        for refused in taken {
            subtract(&mut result, &refused);
        }
        result
    }

    /// Series whose value of the label is present and passes.
    fn passing(&self, matcher: &Matcher) -> Postings {
        let Some(values) = self.names.get(matcher.name.as_str()) else { return Vec::new() };
        match matcher.op {
            MatchOp::Equal => values.get(matcher.value.as_str()).cloned().unwrap_or_default(),
            MatchOp::Regex => match literals(&matcher.value) {
                Some(set) => union(set.iter().filter_map(|v| values.get(*v))),
                None => union(values.iter().filter(|(v, _)| matcher.matches(v)).map(|(_, p)| p)),
            },
            _ => union(values.iter().filter(|(v, _)| matcher.matches(v)).map(|(_, p)| p)),
        }
    }

    /// Series whose value of the label is present and does not pass.
    fn refused(&self, matcher: &Matcher) -> Postings {
        let Some(values) = self.names.get(matcher.name.as_str()) else { return Vec::new() };
        match (matcher.op, literals(&matcher.value)) {
            (MatchOp::NotEqual, _) => values.get(matcher.value.as_str()).cloned().unwrap_or_default(),
            (MatchOp::NotRegex, Some(set)) => union(set.iter().filter_map(|v| values.get(*v))),
            _ => union(values.iter().filter(|(v, _)| !matcher.matches(v)).map(|(_, p)| p)),
        }
    }

    /// Bytes on the heap, about.
    pub(super) fn heap_size(&self) -> usize {
        let values = |values: &Values| values.iter().map(|(text, postings)| text.len() + 48 + postings.capacity() * 4).sum::<usize>();
        self.names.values().map(|v| 96 + values(v)).sum::<usize>() + self.all.capacity() * 4
    }
}

/// The alternatives of a pattern that has no other syntax than `|`, without repetitions.
fn literals(pattern: &str) -> Option<Vec<&str>> {
    if pattern.bytes().any(|b| b"\\.+*?()[]{}^$".contains(&b)) {
        return None;
    }
    let mut set: Vec<&str> = pattern.split('|').collect();
    set.sort_unstable();
    set.dedup();
    Some(set)
}

fn insert(postings: &mut Postings, slot: u32) {
    match postings.last() {
        Some(last) if *last >= slot => {
            if let Err(place) = postings.binary_search(&slot) {
                postings.insert(place, slot);
            }
        }
        _ => postings.push(slot),
    }
}

fn erase(postings: &mut Postings, slot: u32) {
    if let Ok(place) = postings.binary_search(&slot) {
        postings.remove(place);
    }
}

fn union<'a>(lists: impl Iterator<Item = &'a Postings>) -> Postings {
    let mut lists = lists.peekable();
    let Some(first) = lists.next() else { return Vec::new() };
    let mut all = first.clone();
    if lists.peek().is_some() {
        lists.for_each(|list| all.extend_from_slice(list));
        all.sort_unstable();
    }
    all
}

fn intersect(a: &[u32], b: &[u32]) -> Postings {
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if small.len() * 16 < large.len() {
        return small.iter().copied().filter(|slot| large.binary_search(slot).is_ok()).collect();
    }
    let mut rest = large.iter().peekable();
    let mut keep = |slot: &u32| {
        while rest.next_if(|other| *other < slot).is_some() {}
        rest.peek() == Some(&slot)
    };
    small.iter().copied().filter(|slot| keep(slot)).collect()
}

fn subtract(from: &mut Postings, other: &[u32]) {
    if !other.is_empty() {
        from.retain(|slot| other.binary_search(slot).is_err());
    }
}
