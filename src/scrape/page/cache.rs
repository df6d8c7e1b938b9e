//! What a target's previous page taught: from the bytes (or labels) of a series to its number, in
//! the order in which they came.
//!
//! The same page comes every interval, so the successor of the line before is tried first: no hash,
//! no label is parsed twice.

use std::hash::Hash;

use hashbrown::HashTable;

use crate::model::MetricKind;
use crate::store::SeriesId;

/// Dead entries that are kept for series that may come back, beside a quarter of the living ones.
const SPARE: usize = 256;

/// A series that was seen.
#[derive(Debug)]
pub(in crate::scrape) struct Entry<V> {
    /// Its number; `None` when relabelling drops it or the store had no room.
    pub(in crate::scrape) id: Option<SeriesId>,
    /// Whether the store had no room: it must be asked again.
    pub(in crate::scrape) refused: bool,
    /// The TYPE that stood above it: bounds are spelled by it.
    pub(in crate::scrape) kind: MetricKind,
    /// What else the owner keeps.
    pub(in crate::scrape) extra: V,
    /// Whether it last came with a timestamp of its own, and so gets no stale marker
    /// (SEMANTICS 17).
    stamped: bool,
    seen: Seen,
    follower: u32,
}

/// When an entry was shown last: never or long ago, or on one of two pages of which each follows
/// the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Never,
    Odd,
    Even,
}

impl<V> Entry<V> {
    /// An entry that no page has shown yet.
    pub(in crate::scrape) fn new(id: Option<SeriesId>, kind: MetricKind, extra: V) -> Self {
        Entry {
            id,
            refused: false,
            kind,
            extra,
            stamped: false,
            seen: Seen::Never,
            follower: 0,
        }
    }

    /// The same, marked as refused by the store.
    pub(in crate::scrape) fn refused_if(mut self, refused: bool) -> Self {
        self.refused = refused;
        self
    }
}

/// The series of one target. An entry stands once, in the order of coming; the table holds numbers
/// only.
pub(in crate::scrape) struct Cache<K, V> {
    rows: Vec<(K, Entry<V>)>,
    table: HashTable<u32>,
    hasher: ahash::RandomState,
    /// The last finished page.
    page: Seen,
    /// Entries seen on it.
    living: usize,
    first: u32,
    renumbered: u32,
}

/// How a page differed from the one before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::scrape) struct Changes {
    /// Series that came.
    pub(in crate::scrape) added: usize,
    /// Series that came twice on the page.
    pub(in crate::scrape) repeated: usize,
    /// Numbers of the series that went.
    pub(in crate::scrape) gone: Vec<SeriesId>,
}

impl<K: Hash + Eq, V> Cache<K, V> {
    pub(in crate::scrape) fn new() -> Self {
        let (table, hasher) = (HashTable::new(), ahash::RandomState::new());
        Cache {
            rows: Vec::new(),
            table,
            hasher,
            page: Seen::Odd,
            living: 0,
            first: 0,
            renumbered: 0,
        }
    }

    /// Number of entries, dead ones included.
    pub(in crate::scrape) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Numbers of all series, dead ones included.
    pub(in crate::scrape) fn ids(&self) -> impl Iterator<Item = SeriesId> {
        self.rows.iter().filter_map(|(_, entry)| entry.id)
    }

    /// Changes whenever entries get other indices.
    pub(in crate::scrape) fn renumbered(&self) -> u32 {
        self.renumbered
    }

    /// Whether the last page showed the entry, and was sound.
    pub(in crate::scrape) fn is_alive(&self, entry: &Entry<V>) -> bool {
        entry.seen == self.page
    }

    /// The entry that probably comes after `previous` (at the start: `None`).
    pub(in crate::scrape) fn probable(
        &self,
        previous: Option<usize>,
    ) -> Option<(usize, &K, &Entry<V>)> {
        let index = match previous {
            Some(previous) => self.rows.get(previous)?.1.follower,
            None => self.first,
        } as usize;
        self.rows.get(index).map(|(key, entry)| (index, key, entry))
    }

    /// The entry of a key.
    pub(in crate::scrape) fn find(&self, key: &K) -> Option<(usize, &Entry<V>)> {
        let index = *self.table.find(self.hasher.hash_one(key), |index| {
            self.rows[*index as usize].0 == *key
        })? as usize;
        Some((index, &self.rows[index].1))
    }

    /// Makes room for so many more entries: no less than an eighth, so that growing costs little,
    /// and not twice as much as there are.
    pub(in crate::scrape) fn reserve(&mut self, more: usize) {
        if self.rows.capacity() - self.rows.len() < more {
            self.rows.reserve_exact(more.max(self.rows.len() / 8));
            let (rows, hasher) = (&self.rows, &self.hasher);
            self.table
                .reserve(more, |index| hasher.hash_one(&rows[*index as usize].0));
        }
    }

    /// Adds an entry, or replaces the one with its key; returns its index.
    pub(in crate::scrape) fn put(&mut self, key: K, mut entry: Entry<V>) -> usize {
        if let Some((index, old)) = self.find(&key) {
            (entry.seen, entry.follower) = (old.seen, old.follower);
            self.rows[index].1 = entry;
            return index;
        }
        self.reserve(1);
        let index = self.rows.len();
        entry.follower = index as u32 + 1;
        self.rows.push((key, entry));
        let (rows, hasher) = (&self.rows, &self.hasher);
        let hash = |index: &u32| hasher.hash_one(&rows[*index as usize].0);
        self.table
            .insert_unique(hash(&(index as u32)), index as u32, hash);
        index
    }

    /// Forgets entries, so that the next page asks the store for them again.
    pub(in crate::scrape) fn forget(&mut self, which: impl Fn(&Entry<V>) -> bool) {
        self.retain(|entry| !which(entry));
    }

    fn retain(&mut self, keep: impl Fn(&Entry<V>) -> bool) {
        let before = self.rows.len();
        self.rows.retain(|(_, entry)| keep(entry));
        if self.rows.len() == before {
            return;
        }
        self.rows.shrink_to(self.rows.len() + self.rows.len() / 8);
        self.renumbered = self.renumbered.wrapping_add(1);
        self.first = 0;
        self.rows
            .iter_mut()
            .enumerate()
            .for_each(|(index, (_, entry))| entry.follower = index as u32 + 1);
        let (rows, hasher) = (&self.rows, &self.hasher);
        let hash = |index: &u32| hasher.hash_one(&rows[*index as usize].0);
        self.table = HashTable::with_capacity(rows.len());
        for index in 0..rows.len() as u32 {
            self.table.insert_unique(hash(&index), index, hash);
        }
    }

    /// Begins to go through a page that is sound, or through an empty one: that ends everything
    /// (SEMANTICS 12 to 14). With `keep_stamped` series that come with timestamps of their own are
    /// marked when they go, like all others (SEMANTICS 17).
    pub(in crate::scrape) fn turn(&mut self, keep_stamped: bool) -> Turn<'_, K, V> {
        let before = self.page;
        self.page = if before == Seen::Odd {
            Seen::Even
        } else {
            Seen::Odd
        };
        self.living = 0;
        Turn {
            cache: self,
            before,
            keep_stamped,
            previous: None,
            changes: Changes::default(),
        }
    }

    /// Two spellings may stand for one series: one that lives under another spelling is not gone.
    fn spare_the_living(&self, gone: &mut Vec<SeriesId>) {
        if gone.is_empty() {
            return;
        }
        gone.sort_unstable();
        gone.dedup();
        let mut alive: Vec<SeriesId> = Vec::new();
        for (_, entry) in self.rows.iter().filter(|(_, e)| e.seen == self.page) {
            alive.extend(entry.id.filter(|id| gone.binary_search(id).is_ok()));
        }
        gone.retain(|id| !alive.contains(id));
    }

    /// Numbers of the series of the last page: what must be marked when the target goes away.
    pub(in crate::scrape) fn alive(&self) -> Vec<SeriesId> {
        self.rows
            .iter()
            .filter(|(_, e)| e.seen == self.page && !e.stamped)
            .filter_map(|(_, e)| e.id)
            .collect()
    }
}

/// A page on its way through the cache.
pub(in crate::scrape) struct Turn<'a, K, V> {
    cache: &'a mut Cache<K, V>,
    /// The page before it.
    before: Seen,
    keep_stamped: bool,
    previous: Option<usize>,
    changes: Changes,
}

impl<K: Hash + Eq, V> Turn<'_, K, V> {
    /// The entry that the page shows next, and whether it does so with a timestamp. `None` when the
    /// sample does not count, because the page showed its series before (SEMANTICS 27).
    pub(in crate::scrape) fn show(&mut self, index: usize, stamped: bool) -> Option<&mut Entry<V>> {
        let cache = &mut *self.cache;
        match self.previous {
            Some(previous) => cache.rows[previous].1.follower = index as u32,
            None => cache.first = index as u32,
        }
        self.previous = Some(index);
        let entry = &mut cache.rows[index].1;
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
    pub(in crate::scrape) fn end(self) -> Changes {
        let Turn {
            cache,
            before,
            mut changes,
            ..
        } = self;
        let dead = cache.rows.len() - cache.living;
        if dead > 0 {
            for (_, entry) in cache.rows.iter_mut().filter(|(_, e)| e.seen == before) {
                entry.seen = Seen::Never;
                changes.gone.extend(entry.id.filter(|_| !entry.stamped));
            }
            cache.spare_the_living(&mut changes.gone);
            if dead > cache.living / 4 + SPARE {
                let page = cache.page;
                cache.retain(|e| e.seen == page);
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
        store
            .series_id(&Labels::from_pairs([(METRIC_NAME, &name[..1])]))
            .expect("room")
    }

    fn finish<K: Hash + Eq>(cache: &mut Cache<K, ()>, shown: &[usize]) -> Changes {
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
                None => cache.put(
                    key,
                    Entry::new(Some(number(store, key)), MetricKind::Untyped, ()),
                ),
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
        assert_eq!(
            page(&store, &mut cache, &["a", "b", "b"]),
            Changes {
                added: 2,
                repeated: 1,
                gone: vec![]
            }
        );
        assert_eq!(
            page(&store, &mut cache, &["b"]),
            Changes {
                added: 0,
                repeated: 0,
                gone: vec![a]
            }
        );
        assert_eq!(
            page(&store, &mut cache, &["b"]),
            Changes::default(),
            "a marker is written once"
        );
        assert_eq!(
            page(&store, &mut cache, &["a", "b"]),
            Changes {
                added: 1,
                repeated: 0,
                gone: vec![]
            }
        );
        assert_eq!(
            page(&store, &mut cache, &[]),
            Changes {
                added: 0,
                repeated: 0,
                gone: vec![a, b]
            }
        );
        assert!(cache.alive().is_empty());
    }

    /// `{a="1",b="2"}` and `{b="2",a="1"}` are one series.
    #[test]
    fn another_spelling_keeps_a_series_alive() {
        let (store, mut cache) = (Store::new(Limits::default()), Cache::new());
        page(&store, &mut cache, &["a1"]);
        assert_eq!(
            page(&store, &mut cache, &["a2"]).gone,
            Vec::<SeriesId>::new()
        );
    }

    #[test]
    fn the_order_of_the_page_is_learnt() {
        let (store, mut cache) = (Store::new(Limits::default()), Cache::new());
        page(&store, &mut cache, &["a", "b", "c"]);
        page(&store, &mut cache, &["c", "a", "b"]);
        let first = cache
            .probable(None)
            .map(|(i, k, _)| (i, *k))
            .expect("learnt");
        assert_eq!(first.1, "c");
        assert_eq!(cache.probable(Some(first.0)).map(|(_, k, _)| *k), Some("a"));
    }

    #[test]
    fn a_target_that_renames_its_series_each_time_does_not_grow() {
        let mut cache: Cache<String, ()> = Cache::new();
        let id = number(&Store::new(Limits::default()), "a");
        for round in 0..50 {
            let shown: Vec<usize> = (0..100)
                .map(|n| {
                    cache.put(
                        format!("{round}-{n}"),
                        Entry::new(Some(id), MetricKind::Untyped, ()),
                    )
                })
                .collect();
            finish(&mut cache, &shown);
        }
        assert!(cache.len() < 100 + 100 / 4 + SPARE + 101, "{}", cache.len());
    }

    /// An entry of a page takes 35 bytes all in all, the table's share included.
    #[test]
    fn fifty_thousand_entries_take_less_than_two_megabytes() {
        let mut cache: Cache<[u32; 3], ()> = Cache::new();
        let id = number(&Store::new(Limits::default()), "a");
        let fill = |cache: &mut Cache<[u32; 3], ()>, keys: std::ops::Range<u32>| {
            cache.reserve(keys.len().saturating_sub(cache.len()));
            let shown: Vec<usize> = keys
                .map(|n| cache.put([n, 0, 0], Entry::new(Some(id), MetricKind::Untyped, ())))
                .collect();
            finish(cache, &shown);
        };
        let bytes = |cache: &Cache<[u32; 3], ()>| {
            cache.rows.capacity() * size_of::<([u32; 3], Entry<()>)>()
                + cache.table.allocation_size()
        };
        fill(&mut cache, 0..50_000);
        assert!(bytes(&cache) <= 1_740_000, "{}", bytes(&cache));
        fill(&mut cache, 0..51_000);
        assert!(bytes(&cache) <= 1_920_000, "{}", bytes(&cache));
        fill(&mut cache, 0..100);
        assert!(bytes(&cache) <= 10_000, "{}", bytes(&cache));
        assert!((0..100).all(|n| {
            cache
                .find(&[n, 0, 0])
                .is_some_and(|(index, entry)| index == n as usize && cache.is_alive(entry))
        }));
    }
}
