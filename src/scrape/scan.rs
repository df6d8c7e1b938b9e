//! Reads a whole page into series numbers and values. Nothing is stored unless the page is sound to its end (SEMANTICS 13).

use crate::exposition::{Format, Item, Lines};
use crate::model::{Labels, MetricKind, Timestamp};

use super::cache::Cache;
use super::labelling::Labelling;

/// A page may bring this many times its sample limit where relabelling drops the rest.
const DROPPED: usize = 10;

/// Series of scraped pages by their raw bytes.
pub(super) type PageCache = Cache<Box<[u8]>, ()>;

/// Where a sample's series stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    /// In the cache.
    Known(u32),
    /// Among the page's new series.
    New(u32),
}

/// One sample line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) slot: Slot,
    pub(super) value: f64,
    pub(super) timestamp: Option<Timestamp>,
}

/// A series that the cache does not know, or knows under another TYPE.
pub(super) struct NewSeries<'a> {
    pub(super) key: &'a [u8],
    pub(super) kind: MetricKind,
    /// `None` when relabelling drops it.
    pub(super) labels: Option<Labels>,
}

/// A sound page, or the counts of an unsound one.
#[derive(Default)]
pub(super) struct Scanned<'a> {
    pub(super) hits: Vec<Hit>,
    pub(super) new: Vec<NewSeries<'a>>,
    /// Sample lines on the page.
    pub(super) scraped: usize,
    /// Samples that relabelling kept.
    pub(super) kept: usize,
}

/// Reads the page. On an error the counts so far stand in the result beside it; above the sample limit counting goes on (SEMANTICS 26).
pub(super) fn scan<'a>(cache: &PageCache, body: &'a [u8], format: Format, labelling: &Labelling) -> (Scanned<'a>, Result<(), String>) {
    let mut scanned = Scanned { hits: Vec::with_capacity(cache.len()), ..Scanned::default() };
    // An empty body is an empty page in every format (SEMANTICS 14).
    let done = if body.is_empty() { Ok(()) } else { scanned.read(cache, Lines::new(body, format), labelling) };
    (scanned, done)
}

impl<'a> Scanned<'a> {
    fn read(&mut self, cache: &PageCache, mut lines: Lines<'a>, labelling: &Labelling) -> Result<(), String> {
        let limit = usize::try_from(labelling.limits.samples).unwrap_or(usize::MAX);
        let mut kind = MetricKind::Untyped;
        let mut previous = None;
        loop {
            // A known series stands for the same labels only under the same TYPE (SEMANTICS 40).
            let probable = cache.probable(previous).filter(|(_, _, entry)| entry.kind == kind);
            let hint = probable.map_or(&[][..], |(_, key, _)| key);
            let line = match lines.next(hint).map_err(|e| e.to_string())? {
                None => break,
                Some(Item::Help(..)) => continue,
                Some(Item::Type(_, declared)) => {
                    kind = declared;
                    continue;
                }
                Some(Item::Sample(line)) => line,
            };
            self.scraped += 1;
            if self.scraped > limit.saturating_mul(DROPPED) {
                return Err(format!("sample limit exceeded: more than {} samples before relabelling", limit.saturating_mul(DROPPED)));
            }
            let known = match probable {
                Some((index, _, entry)) if line.expected => Some((index, entry)),
                _ => cache.find(line.series).filter(|(_, entry)| entry.kind == kind),
            };
            let (slot, kept) = match known {
                Some((index, entry)) => {
                    previous = Some(index);
                    (Slot::Known(index as u32), entry.id.is_some())
                }
                // Over the limit the page is lost: only the count matters, and nothing more may pile up.
                None if self.kept > limit && labelling.rules.is_empty() => {
                    self.kept += 1;
                    continue;
                }
                None => {
                    let labels = labelling.of_text(line.series, kind)?;
                    let kept = labels.is_some();
                    if self.kept <= limit {
                        self.new.push(NewSeries { key: line.series, kind, labels });
                    }
                    (Slot::New(self.new.len().saturating_sub(1) as u32), kept)
                }
            };
            self.kept += usize::from(kept);
            if self.kept <= limit {
                self.hits.push(Hit { slot, value: line.value, timestamp: line.timestamp });
            }
        }
        if self.kept > limit { Err(format!("sample limit exceeded: {} samples, at most {limit} allowed", self.kept)) } else { Ok(()) }
    }
}
