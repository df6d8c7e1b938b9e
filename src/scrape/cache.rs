//! What a target's previous page taught: from the bytes (or labels) of a series to its number, in the order in which they came.
//!
//! The same page comes every interval, so the successor of the line before is tried first: no hash, no label is parsed twice.

use indexmap::IndexMap;

use crate::model::MetricKind;

use crate::store::SeriesId;

/// Dead entries that are kept for series that may come back, beside a quarter of the living ones.
const SPARE: usize = 256;

/// A series that was seen.
#[derive(Debug)]
pub(super) struct Entry<V> {
    /// Its number; `None` when relabelling drops it or the store had no room.
    pub(super) id: Option<SeriesId>,
    /// Whether the store had no room: it must be asked again.
    pub(super) refused: bool,
    /// The TYPE that stood above it: bounds are spelled by it.
    pub(super) kind: MetricKind,
    /// What else the owner keeps.
    pub(super) extra: V,
    /// Whether it last came with a timestamp of its own, and so gets no stale marker (SEMANTICS 17).
    stamped: bool,
    seen: u32,
    follower: u32,
}

impl<V> Entry<V> {
    /// An entry that no page has shown yet.
    pub(super) fn new(id: Option<SeriesId>, kind: MetricKind, extra: V) -> Self {
        Entry { id, refused: false, kind, extra, stamped: false, seen: 0, follower: 0 }
    }

    /// Whether the last page that showed it is the one that [`Cache::page`] called so.
    pub(super) fn was_shown_on(&self, page: u32) -> bool {
        self.seen == page
    }

    /// The same, marked as refused by the store.
    pub(super) fn refused_if(mut self, refused: bool) -> Self {
        self.refused = refused;
        self
    }
}

/// The series of one target.
pub(super) struct Cache<K, V> {
    map: IndexMap<K, Entry<V>, ahash::RandomState>,
    /// Number of the last finished page.
    page: u32,
    /// Entries seen on it.
    living: usize,
    first: u32,
}

/// How a page differed from the one before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Series that came.
    pub(super) added: usize,
    /// Series that came twice on the page.
    pub(super) repeated: usize,
    /// Numbers of the series that went.
    pub(super) gone: Vec<SeriesId>,
}

impl<K: std::hash::Hash + Eq, V> Cache<K, V> {
    pub(super) fn new() -> Self {
        Cache { map: IndexMap::default(), page: 1, living: 0, first: 0 }
    }

    /// What the last finished page is called here.
    pub(super) fn page(&self) -> u32 {
        self.page
    }

    /// Number of entries, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The entry that probably comes after `previous` (at the start: `None`).
    pub(super) fn probable(&self, previous: Option<usize>) -> Option<(usize, &K, &Entry<V>)> {
        let index = match previous {
            Some(previous) => self.map.get_index(previous)?.1.follower,
            None => self.first,
        } as usize;
        self.map.get_index(index).map(|(key, entry)| (index, key, entry))
    }

    /// The entry of a key.
    pub(super) fn find<Q: std::hash::Hash + indexmap::Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<(usize, &Entry<V>)> {
        self.map.get_full(key).map(|(index, _, entry)| (index, entry))
    }

    /// Adds an entry, or replaces it in its place; returns its index.
    pub(super) fn put(&mut self, key: K, mut entry: Entry<V>) -> usize {
        if let Some((index, _, old)) = self.map.get_full(&key) {
            (entry.seen, entry.follower) = (old.seen, old.follower);
            self.map[index] = entry;
            return index;
        }
        entry.follower = u32::try_from(self.map.len() + 1).unwrap_or(0);
        self.map.insert_full(key, entry).0
    }

    /// Forgets entries, so that the next page asks the store for them again.
    pub(super) fn forget(&mut self, which: impl Fn(&Entry<V>) -> bool) {
        let before = self.map.len();
        self.map.retain(|_, entry| !which(entry));
        if self.map.len() != before {
            self.follow_in_order();
        }
    }

    fn follow_in_order(&mut self) {
        self.map.values_mut().enumerate().for_each(|(i, e)| e.follower = i as u32 + 1);
        self.first = 0;
    }

    /// Ends a page that showed these entries in this order (index, and whether with a timestamp of its own). `used` is called for each that
    /// counts, in order: the first showing of an entry (SEMANTICS 27). An empty page ends everything (SEMANTICS 12 to 14).
    pub(super) fn finish(
        &mut self,
        shown: impl Iterator<Item = (usize, bool)>,
        keep_stamped: bool,
        mut used: impl FnMut(usize, &mut Entry<V>),
    ) -> Changes {
        let before = self.page;
        self.page = self.page.wrapping_add(1).max(2);
        let mut changes = Changes::default();
        let (mut previous, mut living): (Option<usize>, usize) = (None, 0);
        for (position, (index, stamped)) in shown.enumerate() {
            let next = index as u32;
            match previous {
                Some(previous) => self.map[previous].follower = next,
                None => self.first = next,
            }
            previous = Some(index);
            let page = self.page;
            let entry = &mut self.map[index];
            if entry.seen == page && !stamped {
                changes.repeated += 1;
                continue;
            }
            if entry.seen != page {
                living += 1;
                changes.added += usize::from(entry.seen != before && entry.id.is_some());
            }
            (entry.seen, entry.stamped) = (page, stamped && !keep_stamped);
            used(position, entry);
        }
        self.living = living;
        let dead = self.map.len() - living;
        if dead > 0 {
            let page = self.page;
            let went = |e: &&Entry<V>| e.seen == before && !e.stamped;
            changes.gone = self.map.values().filter(went).filter_map(|e| e.id).collect();
            self.spare_the_living(&mut changes.gone);
            if dead > living / 4 + SPARE {
                self.map.retain(|_, e| e.seen == page);
                self.follow_in_order();
            }
        }
        changes
    }

    /// Two spellings may stand for one series: one that lives under another spelling is not gone.
    fn spare_the_living(&self, gone: &mut Vec<SeriesId>) {
        if gone.is_empty() {
            return;
        }
        gone.sort_unstable();
        gone.dedup();
        let mut alive: Vec<SeriesId> = Vec::new();
        for entry in self.map.values().filter(|e| e.seen == self.page) {
            alive.extend(entry.id.filter(|id| gone.binary_search(id).is_ok()));
        }
        gone.retain(|id| !alive.contains(id));
    }

    /// Numbers of the series of the last page: what must be marked when the target goes away.
    pub(super) fn alive(&self) -> Vec<SeriesId> {
        self.map.values().filter(|e| e.seen == self.page && !e.stamped).filter_map(|e| e.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, METRIC_NAME};
    use crate::store::{Limits, Store};

    /// The number of a series; names with the same first letter are spellings of one series.
    fn number(store: &Store, name: &str) -> SeriesId {
        store.series_id(&Labels::from_pairs([(METRIC_NAME, &name[..1])])).expect("room")
    }

    fn page(store: &Store, cache: &mut Cache<&'static str, ()>, keys: &[&'static str]) -> Changes {
        let mut shown = Vec::new();
        for key in keys {
            let index = match cache.find(key) {
                Some((index, _)) => index,
                None => cache.put(key, Entry::new(Some(number(store, key)), MetricKind::Untyped, ())),
            };
            shown.push((index, false));
        }
        cache.finish(shown.into_iter(), false, |_, _| {})
    }

    /// SEMANTICS 12, 14, 27.
    #[test]
    fn series_come_go_and_repeat() {
        let (store, mut cache) = (Store::new(Limits::default()), Cache::new());
        let (a, b) = (number(&store, "a"), number(&store, "b"));
        assert_eq!(page(&store, &mut cache, &["a", "b", "b"]), Changes { added: 2, repeated: 1, gone: vec![] });
        assert_eq!(page(&store, &mut cache, &["b"]), Changes { added: 0, repeated: 0, gone: vec![a] });
        assert_eq!(page(&store, &mut cache, &["b"]), Changes::default(), "a marker is written once");
        assert_eq!(page(&store, &mut cache, &["a", "b"]), Changes { added: 1, repeated: 0, gone: vec![] });
        assert_eq!(page(&store, &mut cache, &[]), Changes { added: 0, repeated: 0, gone: vec![a, b] });
        assert!(cache.alive().is_empty());
    }

    /// `{a="1",b="2"}` and `{b="2",a="1"}` are one series.
    #[test]
    fn another_spelling_keeps_a_series_alive() {
        let (store, mut cache) = (Store::new(Limits::default()), Cache::new());
        page(&store, &mut cache, &["a1"]);
        assert_eq!(page(&store, &mut cache, &["a2"]).gone, Vec::<SeriesId>::new());
    }

    #[test]
    fn the_order_of_the_page_is_learnt() {
        let (store, mut cache) = (Store::new(Limits::default()), Cache::new());
        page(&store, &mut cache, &["a", "b", "c"]);
        page(&store, &mut cache, &["c", "a", "b"]);
        let first = cache.probable(None).map(|(i, k, _)| (i, *k)).expect("learnt");
        assert_eq!(first.1, "c");
        assert_eq!(cache.probable(Some(first.0)).map(|(_, k, _)| *k), Some("a"));
    }

    #[test]
    fn a_target_that_renames_its_series_each_time_does_not_grow() {
        let mut cache: Cache<String, ()> = Cache::new();
        let id = number(&Store::new(Limits::default()), "a");
        for round in 0..50 {
            let shown: Vec<(usize, bool)> =
                (0..100).map(|n| (cache.put(format!("{round}-{n}"), Entry::new(Some(id), MetricKind::Untyped, ())), false)).collect();
            cache.finish(shown.into_iter(), false, |_, _| {});
        }
        assert!(cache.len() < 100 + 100 / 4 + SPARE + 101, "{}", cache.len());
    }
}
