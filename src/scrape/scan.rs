//! Reads a whole page into series numbers and values. Nothing is stored unless the page is sound to its end (SEMANTICS 13).

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use crate::exposition::protobuf::{Exposed, Options, expand};
use crate::exposition::{Format, Item, Lines};
use crate::model::{Labels, MetricKind, NativeHistogram, Timestamp, histogram_nan};

use super::cache::{Cache, Entry};
use super::convert::Converter;
use super::job::Encoding;
use super::labelling::Labelling;

/// A page may bring this many times its sample limit where relabelling drops the rest.
const DROPPED: usize = 10;

/// A protobuf body may become so many times its size limit: text is longer, and a histogram takes more room in memory.
const EXPANDED: u64 = 2;

/// Stands for the raw bytes of a series: two keyed hashes, so that nobody can make two series look alike.
type Fingerprint = [u64; 2];

/// Series of scraped pages by their raw bytes. The bytes themselves stand in the last sound page, while it is kept.
pub(super) struct PageCache {
    pub(super) series: Cache<Fingerprint, Place>,
    hashers: [ahash::RandomState; 2],
    body: Bytes,
    /// What the cache called the page that `body` is.
    page: u32,
    /// The body before it, whose room the next one may have.
    before: Bytes,
    /// Room for the hits of a page.
    hits: Vec<Hit>,
}

/// Where a series stands in the last page; of no length where it is not text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    start: u32,
    length: u32,
}

impl Place {
    /// Where `part` stands in `body`, of which it is a slice.
    fn of(part: &[u8], body: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
        match (u32::try_from(start), u32::try_from(part.len())) {
            (Ok(start), Ok(length)) if start as usize + part.len() <= body.len() => Place { start, length },
            _ => Place::default(),
        }
    }

    fn bytes(self, body: &[u8]) -> &[u8] {
        body.get(self.start as usize..(self.start as usize).saturating_add(self.length as usize)).unwrap_or_default()
    }
}

impl PageCache {
    pub(super) fn new() -> Self {
        let hashers = [ahash::RandomState::new(), ahash::RandomState::new()];
        PageCache { series: Cache::new(), hashers, body: Bytes::new(), page: 0, before: Bytes::new(), hits: Vec::new() }
    }

    fn fingerprint(&self, series: &[u8]) -> Fingerprint {
        [self.hashers[0].hash_one(series), self.hashers[1].hash_one(series)]
    }

    /// The entry that probably comes next, and its bytes.
    fn probable(&self, previous: Option<usize>) -> Option<(usize, &[u8], &Entry<Place>)> {
        let (index, _, entry) = self.series.probable(previous)?;
        let bytes = if entry.was_shown_on(self.page) { entry.extra.bytes(&self.body) } else { &[] };
        Some((index, bytes, entry))
    }

    fn find(&self, series: &[u8]) -> Option<(usize, &Entry<Place>)> {
        self.series.find(&self.fingerprint(series))
    }

    /// Adds a series that the page showed.
    pub(super) fn put(&mut self, new: &NewSeries<'_>, entry: Entry<Place>) -> usize {
        self.series.put(self.fingerprint(&new.key), entry)
    }

    /// Makes `body` the last sound page: call it when the cache has finished it.
    pub(super) fn keep(&mut self, body: Bytes) {
        self.before = std::mem::replace(&mut self.body, body);
        self.page = self.series.page();
    }

    /// Room for the next body: that of the page before the last, unless somebody still reads it. Memory that was used a moment ago costs
    /// nothing; of the kernel's each four kilobytes cost a fault.
    pub(super) fn room(&mut self) -> BytesMut {
        let mut room = std::mem::take(&mut self.before).try_into_mut().unwrap_or_default();
        room.clear();
        if room.capacity() / 2 > self.body.len() { BytesMut::new() } else { room }
    }

    /// Gives the room of a page's hits back.
    pub(super) fn done_with(&mut self, hits: Vec<Hit>) {
        self.hits = emptied(hits);
    }

    /// Gives back the last page and what room was kept for the next one, whose series are then found by their hashes.
    pub(super) fn keep_no_pages(&mut self) {
        (self.body, self.before, self.hits) = (Bytes::new(), Bytes::new(), Vec::new());
    }
}

/// The buffer without what is in it, for the next page: room for twice as much as it held is kept at most.
pub(super) fn emptied<T>(mut buffer: Vec<T>) -> Vec<T> {
    buffer.shrink_to(buffer.len() * 2);
    buffer.clear();
    buffer
}

/// Where a sample's series stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    /// In the cache.
    Known(u32),
    /// Among the page's new series.
    New(u32),
}

/// One sample: of a line, or a native histogram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) slot: Slot,
    pub(super) place: Place,
    /// Of a native histogram the marker that stands for one.
    pub(super) value: f64,
}

/// A series that the cache does not know, or knows under another TYPE.
pub(super) struct NewSeries<'a> {
    pub(super) key: Cow<'a, [u8]>,
    pub(super) kind: MetricKind,
    /// `None` when relabelling drops it.
    pub(super) labels: Option<Labels>,
}

/// A sound page, or the counts of an unsound one.
#[derive(Default)]
pub(super) struct Scanned<'a> {
    /// The lines in the order of the page, then the native histograms.
    pub(super) hits: Vec<Hit>,
    /// The timestamps of the first hits; those beyond have none.
    timestamps: Vec<Option<Timestamp>>,
    pub(super) new: Vec<NewSeries<'a>>,
    /// The values of the last hits, in their order.
    pub(super) histograms: Vec<NativeHistogram>,
    /// Samples on the page.
    pub(super) scraped: usize,
    /// Samples that relabelling kept.
    pub(super) kept: usize,
}

/// A page as it came: text, and the native histograms that text cannot say.
pub(super) struct Fetched {
    pub(super) body: Bytes,
    pub(super) format: Format,
    pub(super) histograms: Vec<Exposed>,
}

impl Fetched {
    /// Reads what text cannot say out of a body; the error says why the body is unsound.
    pub(super) fn read(body: Bytes, encoding: Encoding, labelling: &Labelling) -> Result<Self, String> {
        let format = match encoding {
            Encoding::Text(format) => return Ok(Fetched { body, format, histograms: Vec::new() }),
            Encoding::Protobuf => Format::Text,
        };
        let bound = usize::try_from(labelling.limits.body_size.saturating_mul(EXPANDED)).unwrap_or(usize::MAX);
        let options = Options { native: labelling.native.scrape, classic: labelling.native.classic, bound };
        let expanded = expand(&body, &options).map_err(|error| error.to_string())?;
        Ok(Fetched { body: Bytes::from(expanded.text), format, histograms: expanded.histograms })
    }
}

/// Reads the page. On an error the counts so far stand in the result beside it; above the sample limit counting goes on (SEMANTICS 26).
pub(super) fn scan<'a>(cache: &mut PageCache, page: &'a mut Fetched, labelling: &Labelling) -> (Scanned<'a>, Result<(), String>) {
    let mut scanned = Scanned { hits: std::mem::take(&mut cache.hits), ..Scanned::default() };
    scanned.hits.reserve(cache.series.len());
    let mut histograms = std::mem::take(&mut page.histograms);
    let mut converter = labelling.native.convert.then(|| Converter::new(&histograms));
    // An empty body is an empty page in every format (SEMANTICS 14).
    let done = if page.body.is_empty() { Ok(()) } else { scanned.read(cache, &page.body, page.format, labelling, converter.as_mut()) };
    histograms.extend(converter.into_iter().flat_map(Converter::into_histograms));
    let done = done.and_then(|()| scanned.histograms(cache, histograms, labelling));
    (scanned, done)
}

impl<'a> Scanned<'a> {
    /// The timestamp with which a hit came.
    pub(super) fn timestamp(&self, position: usize) -> Option<Timestamp> {
        self.timestamps.get(position).copied().flatten()
    }

    fn read(
        &mut self,
        cache: &PageCache,
        body: &'a [u8],
        format: Format,
        labelling: &Labelling,
        mut converter: Option<&mut Converter>,
    ) -> Result<(), String> {
        let mut lines = Lines::new(body, format);
        let mut kind = MetricKind::Untyped;
        let mut previous = None;
        loop {
            // A known series stands for the same labels only under the same TYPE (SEMANTICS 40).
            let probable = cache.probable(previous).filter(|(_, _, entry)| entry.kind == kind);
            let hint = probable.map_or(&[][..], |(_, bytes, _)| bytes);
            let line = match lines.next(hint).map_err(|e| e.to_string())? {
                None => return Ok(()),
                Some(Item::Help(..)) => continue,
                Some(Item::Type(family, declared)) => {
                    kind = declared;
                    if let Some(converter) = &mut converter {
                        converter.declare(&family, kind);
                    }
                    continue;
                }
                Some(Item::Sample(line)) => line,
            };
            if converter.as_mut().is_some_and(|c| c.take(line.series, line.value, line.timestamp)) && !labelling.native.classic {
                continue;
            }
            let known = match probable {
                Some((index, _, entry)) if line.expected => Some((index, entry)),
                _ => cache.find(line.series).filter(|(_, entry)| entry.kind == kind),
            };
            previous = known.map(|(index, _)| index).or(previous);
            let (place, sample) = (Place::of(line.series, body), (line.value, line.timestamp));
            self.take(Cow::Borrowed(line.series), place, kind, known, sample, labelling)?;
        }
    }

    /// The native histograms, after all lines.
    fn histograms(&mut self, cache: &PageCache, histograms: Vec<Exposed>, labelling: &Labelling) -> Result<(), String> {
        let kind = MetricKind::Histogram;
        for Exposed { series, timestamp, histogram } in histograms {
            let known = cache.find(series.as_bytes()).filter(|(_, entry)| entry.kind == kind);
            let (key, sample) = (Cow::Owned(series.into_string().into_bytes()), (histogram_nan(), timestamp));
            if self.take(key, Place::default(), kind, known, sample, labelling)? {
                self.histograms.push(labelling.native.fit(histogram)?);
            }
        }
        let limit = limit(labelling);
        if self.kept > limit { Err(format!("sample limit exceeded: {} samples, at most {limit} allowed", self.kept)) } else { Ok(()) }
    }

    /// Takes one sample; returns whether it became a hit.
    fn take(
        &mut self,
        key: Cow<'a, [u8]>,
        place: Place,
        kind: MetricKind,
        known: Option<(usize, &Entry<Place>)>,
        (value, timestamp): (f64, Option<Timestamp>),
        labelling: &Labelling,
    ) -> Result<bool, String> {
        let limit = limit(labelling);
        self.scraped += 1;
        if self.scraped > limit.saturating_mul(DROPPED) {
            return Err(format!("sample limit exceeded: more than {} samples before relabelling", limit.saturating_mul(DROPPED)));
        }
        let (slot, kept) = match known {
            Some((index, entry)) => (Slot::Known(index as u32), entry.id.is_some()),
            // Over the limit the page is lost: only the count matters, and nothing more may pile up.
            None if self.kept > limit && labelling.rules.is_empty() => {
                self.kept += 1;
                return Ok(false);
            }
            None => {
                let labels = labelling.of_text(&key, kind)?;
                let kept = labels.is_some();
                if self.kept <= limit {
                    self.new.push(NewSeries { key, kind, labels });
                }
                (Slot::New(self.new.len().saturating_sub(1) as u32), kept)
            }
        };
        self.kept += usize::from(kept);
        let fits = self.kept <= limit;
        if fits {
            if timestamp.is_some() {
                self.timestamps.resize(self.hits.len(), None);
                self.timestamps.push(timestamp);
            }
            self.hits.push(Hit { slot, place, value });
        }
        Ok(fits)
    }
}

fn limit(labelling: &Labelling) -> usize {
    usize::try_from(labelling.limits.samples).unwrap_or(usize::MAX)
}
