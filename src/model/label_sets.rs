//! Many label sets in a fixed order, shared, with the tables that were derived from them.
//!
//! What a query makes of label sets (names dropped, groups, partners) depends on nothing but the
//! sets: it is made once and kept beside them, until the last user of the sets goes. A list without
//! metric names is a view of the list with them: its sets are made only for code that reads them,
//! which an aggregation does not.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::labels::{METADATA, is_metadata};
use super::{Labels, METRIC_NAME};

/// Tables kept beside one list; over it all are forgotten.
const MOST_TABLES: usize = 64;
/// Sublists kept beside one list.
const MOST_PARTS: usize = 4;

/// A list of label sets. Cheap to clone; clones share their tables.
#[derive(Clone, Default)]
pub struct LabelSets {
    list: Arc<List>,
    /// Whether this is the list without metric names.
    nameless: bool,
}

#[derive(Default)]
struct List {
    sets: Vec<Labels>,
    /// The sets without metric names, once somebody has looked at them.
    nameless: OnceLock<Vec<Labels>>,
    typed: OnceLock<bool>,
    tables: KeptTables,
    nameless_tables: KeptTables,
}

/// Most lists are short-lived and need none.
type KeptTables = Mutex<Option<Box<Tables>>>;

#[derive(Default)]
struct Tables {
    distinct: Option<bool>,
    /// Rows of lists that were taken out of this one, newest first.
    parts: Vec<(Box<[u32]>, LabelSets)>,
    groups: HashMap<Grouping, Arc<Groups>, ahash::RandomState>,
    with: Vec<With>,
}

/// A table derived from this list and another one.
struct With {
    key: Box<str>,
    other: (Weak<List>, bool),
    table: Arc<dyn Any + Send + Sync>,
}

impl List {
    /// Whether a set has a label, other than the name, that goes with it.
    fn is_typed(&self) -> bool {
        *self.typed.get_or_init(|| {
            self.sets
                .iter()
                .any(|labels| METADATA[1..].iter().any(|name| labels.get(name).is_some()))
        })
    }
}

/// Which labels make a group.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Grouping {
    /// Whether `labels` are those that do not count; the metric name then does not either.
    pub without: bool,
    /// The label names.
    pub labels: Vec<String>,
}

impl Grouping {
    /// The labels of a set that count.
    pub fn of(&self, labels: &Labels) -> Labels {
        let listed = |name: &str| self.labels.iter().any(|g| g == name);
        match (self.without, self.labels.is_empty()) {
            (false, true) => Labels::empty(),
            (false, false) => labels.filtered(listed),
            (true, _) => labels.filtered(|name| name != METRIC_NAME && !listed(name)),
        }
    }

    /// Whether it makes no difference that what goes with metric names is there; `others` says
    /// whether that is more than the names.
    fn is_nameless(&self, others: impl FnOnce() -> bool) -> bool {
        if self.without {
            !others()
        } else {
            !self.labels.iter().any(|name| is_metadata(name))
        }
    }
}

/// A set as if it had no metric name.
struct Nameless<'a>(&'a Labels);

impl<'a> Nameless<'a> {
    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter(|(name, _)| !is_metadata(name))
    }
}

impl Hash for Nameless<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pairs().for_each(|pair| pair.hash(state));
    }
}

impl PartialEq for Nameless<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.pairs().eq(other.pairs())
    }
}

impl Eq for Nameless<'_> {}

/// The rows of a list by group, groups in the order of their first row.
#[derive(Default)]
pub struct Groups {
    /// What the rows of a group have in common.
    pub labels: LabelSets,
    /// Rows, group after group, ascending in each.
    rows: Vec<u32>,
    /// Where each group ends in `rows`.
    ends: Vec<u32>,
}

impl Groups {
    /// The rows of a group.
    pub fn rows(&self, group: usize) -> &[u32] {
        let start = if group == 0 {
            0
        } else {
            self.ends[group - 1] as usize
        };
        &self.rows[start..self.ends[group] as usize]
    }

    /// Numbers the groups of label sets.
    fn new<'a>(sets: impl Iterator<Item = &'a Labels>, grouping: &Grouping) -> Self {
        let mut index: HashMap<Labels, u32, ahash::RandomState> = HashMap::default();
        let (mut labels, mut sizes): (Vec<Labels>, Vec<u32>) = Default::default();
        // The group of each row.
        let mut of: Vec<u32> = Vec::with_capacity(sets.size_hint().0);
        for set in sets {
            let group = *index.entry(grouping.of(set)).or_insert_with_key(|set| {
                labels.push(set.clone());
                sizes.push(0);
                labels.len() as u32 - 1
            });
            sizes[group as usize] += 1;
            of.push(group);
        }
        let mut ends: Vec<u32> = sizes;
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        // `ends` holds where each group begins, and moves to where it ends as its rows are put in
        // place.
        let mut rows = vec![0; of.len()];
        for (row, group) in of.iter().enumerate() {
            let position = &mut ends[*group as usize];
            rows[*position as usize] = row as u32;
            *position += 1;
        }
        labels.shrink_to_fit();
        ends.shrink_to_fit();
        Groups {
            labels: LabelSets::from(labels),
            rows,
            ends,
        }
    }
}

impl LabelSets {
    fn tables(&self) -> MappedMutexGuard<'_, Tables> {
        let kept = if self.nameless {
            &self.list.nameless_tables
        } else {
            &self.list.tables
        };
        MutexGuard::map(kept.lock(), |tables| &mut **tables.get_or_insert_default())
    }

    /// Number of sets.
    pub fn len(&self) -> usize {
        self.list.sets.len()
    }

    /// Whether there is no set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same sets with the metric names that they have.
    fn named(&self) -> LabelSets {
        LabelSets {
            list: Arc::clone(&self.list),
            nameless: false,
        }
    }

    /// The same sets without metric names.
    pub fn without_names(&self) -> LabelSets {
        // The name sorts before every lower-case label: most sets that have one begin with it.
        let named = !self.nameless
            && (self
                .list
                .sets
                .iter()
                .any(|labels| labels.get(METRIC_NAME).is_some())
                || self.list.is_typed());
        LabelSets {
            list: Arc::clone(&self.list),
            nameless: self.nameless || named,
        }
    }

    /// Whether no two sets are equal.
    pub fn are_distinct(&self) -> bool {
        if self.len() < 2 {
            return true;
        }
        if let Some(distinct) = self.tables().distinct {
            return distinct;
        }
        let sets = &self.list.sets;
        let distinct = if self.nameless {
            all_distinct(sets.iter().map(Nameless))
        } else {
            all_distinct(sets.iter())
        };
        self.tables().distinct = Some(distinct);
        distinct
    }

    /// The sets in these rows, which ascend. A large part is remembered: it is probably asked for
    /// again.
    pub fn part(&self, rows: &[u32]) -> LabelSets {
        if rows.len() == self.len() {
            return self.clone();
        }
        if self.nameless {
            return self.named().part(rows).without_names();
        }
        if let Some((_, part)) = self
            .tables()
            .parts
            .iter()
            .find(|(known, _)| **known == *rows)
        {
            return part.clone();
        }
        let part = LabelSets::from_iter(rows.iter().map(|row| self[*row as usize].clone()));
        if rows.len() * 2 >= self.len() {
            let parts = &mut self.tables().parts;
            parts.truncate(MOST_PARTS - 1);
            parts.insert(0, (rows.into(), part.clone()));
        }
        part
    }

    /// The rows by group.
    pub fn groups(&self, grouping: &Grouping) -> Arc<Groups> {
        if self.nameless && grouping.is_nameless(|| self.list.is_typed()) {
            return self.named().groups(grouping);
        }
        if let Some(groups) = self.tables().groups.get(grouping) {
            return Arc::clone(groups);
        }
        let groups = Arc::new(Groups::new(self.iter(), grouping));
        let kept = &mut self.tables().groups;
        if kept.len() >= MOST_TABLES {
            kept.clear();
        }
        match kept.entry(grouping.clone()) {
            Entry::Occupied(other) => Arc::clone(other.get()),
            Entry::Vacant(entry) => Arc::clone(entry.insert(groups)),
        }
    }

    /// The table called `key` that `make` derives from this list and `other`.
    pub fn with<T: Any + Send + Sync>(
        &self,
        other: &LabelSets,
        key: &str,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        if let Some(table) = self.known_with(other, key) {
            return table;
        }
        let table = Arc::new(make());
        let tables = &mut self.tables().with;
        // The weak reference keeps the memory of the other list from being used again: no later
        // list can be mistaken for it.
        tables.retain(|with| with.other.0.strong_count() > 0);
        if tables.len() >= MOST_TABLES {
            tables.clear();
        }
        let kept: Arc<T> = Arc::clone(&table);
        tables.push(With {
            key: key.into(),
            other: (Arc::downgrade(&other.list), other.nameless),
            table: kept,
        });
        table
    }

    /// What [`LabelSets::with`] has made already, if it is still kept.
    pub fn known_with<T: Any + Send + Sync>(&self, other: &LabelSets, key: &str) -> Option<Arc<T>> {
        let same = |with: &With| {
            let (list, nameless) = &with.other;
            *with.key == *key
                && *nameless == other.nameless
                && std::ptr::eq(list.as_ptr(), Arc::as_ptr(&other.list))
        };
        let known = self
            .tables()
            .with
            .iter()
            .find(|with| same(with))
            .map(|with| Arc::clone(&with.table));
        known?.downcast::<T>().ok()
    }

    /// The list, to change: its tables are forgotten, other users keep theirs.
    pub fn edit(&mut self) -> &mut Vec<Labels> {
        if self.nameless || Arc::get_mut(&mut self.list).is_none() {
            *self = LabelSets::from(self.to_vec());
        }
        let list = Arc::get_mut(&mut self.list).expect("the only user");
        *list = List {
            sets: std::mem::take(&mut list.sets),
            ..List::default()
        };
        &mut list.sets
    }
}

fn all_distinct<T: Hash + Eq>(sets: impl ExactSizeIterator<Item = T>) -> bool {
    let mut seen =
        std::collections::HashSet::with_capacity_and_hasher(sets.len(), ahash::RandomState::new());
    sets.into_iter().all(|set| seen.insert(set))
}

impl From<Vec<Labels>> for LabelSets {
    fn from(sets: Vec<Labels>) -> Self {
        LabelSets {
            list: Arc::new(List {
                sets,
                ..List::default()
            }),
            nameless: false,
        }
    }
}

impl FromIterator<Labels> for LabelSets {
    fn from_iter<I: IntoIterator<Item = Labels>>(sets: I) -> Self {
        sets.into_iter().collect::<Vec<_>>().into()
    }
}

impl Deref for LabelSets {
    type Target = [Labels];
    fn deref(&self) -> &[Labels] {
        let sets = &self.list.sets;
        if self.nameless {
            self.list
                .nameless
                .get_or_init(|| sets.iter().map(Labels::without_metadata).collect())
        } else {
            sets
        }
    }
}

impl std::fmt::Debug for LabelSets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(texts: &[(&str, &str)]) -> LabelSets {
        texts
            .iter()
            .map(|(name, job)| Labels::from_pairs([("__name__", name), ("job", job)]))
            .collect()
    }

    #[test]
    fn groups_stand_in_the_order_of_their_first_row() {
        let sets = sets(&[("a", "y"), ("b", "x"), ("c", "y")]);
        let groups = sets.groups(&Grouping {
            without: false,
            labels: vec!["job".into()],
        });
        assert_eq!(
            groups
                .labels
                .iter()
                .map(|l| l.value("job"))
                .collect::<Vec<_>>(),
            ["y", "x"]
        );
        assert_eq!((groups.rows(0), groups.rows(1)), (&[0, 2][..], &[1][..]));
    }

    #[test]
    fn tables_are_made_once_and_forgotten_by_a_change() {
        let mut one = sets(&[("a", "x"), ("b", "x")]);
        let grouping = Grouping {
            without: true,
            labels: Vec::new(),
        };
        assert!(Arc::ptr_eq(
            &one.groups(&grouping),
            &one.clone().groups(&grouping)
        ));
        assert!(one.are_distinct() && !one.without_names().are_distinct());
        let other = sets(&[("a", "x")]);
        let made = |one: &LabelSets| *one.with(&other, "rows", || one.len() + other.len());
        assert_eq!((made(&one), made(&one)), (3, 3));
        one.edit().pop();
        assert_eq!(made(&one), 2);
        assert!(one.without_names().are_distinct());
    }

    #[test]
    fn a_part_is_remembered() {
        let all = sets(&[("a", "x"), ("b", "x"), ("c", "x")]);
        let part = all.part(&[0, 2]);
        assert_eq!(
            part.iter().map(Labels::metric_name).collect::<Vec<_>>(),
            ["a", "c"]
        );
        assert!(Arc::ptr_eq(&part.list, &all.part(&[0, 2]).list));
    }

    /// The views of one list: equal in what they answer to lists that were made without names.
    #[test]
    fn a_list_without_names_is_made_for_whoever_looks_at_it() {
        let named = sets(&[("a", "x"), ("b", "x"), ("b", "y")]);
        let view = named.without_names();
        let made: LabelSets = named.iter().map(Labels::without_name).collect();
        let by = |labels: &[&str]| Grouping {
            without: false,
            labels: labels.iter().map(|l| (*l).to_owned()).collect(),
        };
        for grouping in [
            by(&["job"]),
            by(&[]),
            by(&["__name__", "job"]),
            Grouping {
                without: true,
                labels: Vec::new(),
            },
        ] {
            let (seen, expected) = (view.groups(&grouping), made.groups(&grouping));
            assert_eq!(
                (&seen.rows, &seen.ends, &seen.labels[..]),
                (&expected.rows, &expected.ends, &expected.labels[..]),
                "{grouping:?}"
            );
        }
        assert_eq!(view.are_distinct(), made.are_distinct());
        assert!(view.part(&[1, 2]).are_distinct());
        assert_eq!(view.part(&[1, 2])[..], made.part(&[1, 2])[..]);
        assert_eq!(view[..], made[..]);
        let mut changed = view.clone();
        changed.edit().pop();
        assert_eq!((changed[..].len(), view.len(), named.len()), (2, 3, 3));
        assert_eq!(changed[..], made[..2]);
    }
}
