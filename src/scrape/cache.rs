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

    /// Begins to go through a page that is sound, or through an empty one: that ends everything (SEMANTICS 12 to 14). With `keep_stamped`
    /// series that come with timestamps of their own are marked when they go, like all others (SEMANTICS 17).
    pub(super) fn turn(&mut self, keep_stamped: bool) -> Turn<'_, K, V> {
        let before = self.page;
        self.page = self.page.wrapping_add(1).max(2);
        self.living = 0;
        Turn { cache: self, before, keep_stamped, previous: None, changes: Changes::default() }
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

/// A page on its way through the cache.
pub(super) struct Turn<'a, K, V> {
    cache: &'a mut Cache<K, V>,
    /// The page before it.
    before: u32,
    keep_stamped: bool,
    previous: Option<usize>,
    changes: Changes,
}

impl<K: std::hash::Hash + Eq, V> Turn<'_, K, V> {
    /// The entry that the page shows next, and whether it does so with a timestamp. `None` when the sample does not count, because the
    /// page showed its series before (SEMANTICS 27).
    pub(super) fn show(&mut self, index: usize, stamped: bool) -> Option<&mut Entry<V>> {
        let cache = &mut *self.cache;
        match self.previous {
            Some(previous) => cache.map[previous].follower = index as u32,
            None => cache.first = index as u32,
        }
        self.previous = Some(index);
        let entry = &mut cache.map[index];
        if entry.seen == cache.page && !stamped {
            self.changes.repeated += 1;
            return None;
        }
        if entry.seen != cache.page {
            cache.living += 1;
            self.changes.added += usize::from(entry.seen != self.before && entry.id.is_some());
        }
        (entry.seen, entry.stamped) = (cache.page, stamped && !self.keep_stamped);
        Some(entry)
    }

    /// The end of the page.
    pub(super) fn end(self) -> Changes {
        let Turn { cache, before, mut changes, .. } = self;
        let dead = cache.map.len() - cache.living;
        if dead > 0 {
            let page = cache.page;
            let went = |e: &&Entry<V>| e.seen == before && !e.stamped;
            changes.gone = cache.map.values().filter(went).filter_map(|e| e.id).collect();
            cache.spare_the_living(&mut changes.gone);
            if dead > cache.living / 4 + SPARE {
                cache.map.retain(|_, e| e.seen == page);
                cache.follow_in_order();
            }
        }
        changes
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

    fn finish<K: std::hash::Hash + Eq>(cache: &mut Cache<K, ()>, shown: &[usize]) -> Changes {
        let mut turn = cache.turn(false);
        for index in shown {
            turn.show(*index, false);
        }
        turn.end()
    }

    fn page(store: &Store, cache: &mut Cache<&'static str, ()>, keys: &[&'static str]) -> Changes {
        let mut shown = Vec::new();
        for key in keys {
            let index = match cache.find(key) {
                Some((index, _)) => index,
                None => cache.put(key, Entry::new(Some(number(store, key)), MetricKind::Untyped, ())),
            };
            shown.push(index);
        }
        finish(cache, &shown)
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
            let shown: Vec<usize> =
                (0..100).map(|n| cache.put(format!("{round}-{n}"), Entry::new(Some(id), MetricKind::Untyped, ()))).collect();
            finish(&mut cache, &shown);
        }
        assert!(cache.len() < 100 + 100 / 4 + SPARE + 101, "{}", cache.len());
    }
}
