//! Reads a page, whole or part by part, into series numbers and values. Nothing is stored unless it
//! is sound to its end (SEMANTICS 13).

use bytes::{Bytes, BytesMut};

use crate::exposition::protobuf::Exposed;
use crate::exposition::{Format, Item, Lines, Progress};
use crate::model::{Labels, MetricKind, NativeHistogram, Timestamp, histogram_nan};

use super::cache::{Cache, Entry};
use super::convert::Converter;
use super::labelling::Labelling;
use crate::scrape::config::global::{Limits, bound_of};
use crate::scrape::error::PageError;

/// A page may bring this many times its sample limit where relabelling drops the rest.
const DROPPED: usize = 10;

/// Stands for the raw bytes of a series: 96 bits of keyed hashes, so that nobody can make two
/// series look alike.
pub(in crate::scrape) type Fingerprint = [u32; 3];

/// Series of scraped pages by their raw bytes. Of pages that come often the bytes themselves stand
/// in the last sound one.
pub(in crate::scrape) struct PageCache {
    pub(in crate::scrape) series: Cache<Fingerprint, ()>,
    hashers: [ahash::RandomState; 2],
    last: Last,
    /// The body before the last, whose room the next one may have.
    before: Bytes,
    /// Room for the spans of the next page.
    spare: Vec<Span>,
}

/// The last sound page, where it is kept to be compared with the next one.
#[derive(Default)]
pub(in crate::scrape) struct Last {
    pub(in crate::scrape) body: Bytes,
    /// Where its series stand in it, by the index of their entries; for entries that are alive.
    pub(in crate::scrape) spans: Vec<Span>,
    /// What [`Cache::renumbered`] said when these indices were good.
    pub(in crate::scrape) numbered: u32,
}

/// Where a series stands in the last page; of no length where it is not text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::scrape) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    /// Where `part` stands in `body`, of which it is a slice.
    fn of(part: &[u8], body: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
        match (u32::try_from(start), u32::try_from(part.len())) {
            (Ok(start), Ok(length)) if start as usize + part.len() <= body.len() => {
                Span { start, length }
            }
            _ => Span::default(),
        }
    }

    fn bytes(self, body: &[u8]) -> &[u8] {
        body.get(self.start as usize..(self.start as usize).saturating_add(self.length as usize))
            .unwrap_or_default()
    }
}

impl PageCache {
    pub(in crate::scrape) fn new() -> Self {
        let hashers = [ahash::RandomState::new(), ahash::RandomState::new()];
        PageCache {
            series: Cache::new(),
            hashers,
            last: Last::default(),
            before: Bytes::new(),
            spare: Vec::new(),
        }
    }

    pub(in crate::scrape) fn fingerprint(&self, series: &[u8]) -> Fingerprint {
        let [one, other] = [
            self.hashers[0].hash_one(series),
            self.hashers[1].hash_one(series),
        ];
        [one as u32, (one >> 32) as u32, other as u32]
    }

    /// The entry that probably comes next, with what stands for its bytes, and these where they are
    /// there.
    fn probable(&self, previous: Option<usize>) -> Option<Probable<'_>> {
        let (index, fingerprint, entry) = self.series.probable(previous)?;
        let known = self.last.numbered == self.series.renumbered() && self.series.is_alive(entry);
        let span = self.last.spans.get(index).filter(|_| known);
        Some(Probable {
            index,
            fingerprint,
            entry,
            bytes: span.map_or(&[], |span| span.bytes(&self.last.body)),
        })
    }

    /// The last page, to be made over into the one that comes after it.
    pub(in crate::scrape) fn turn(&mut self) -> Last {
        self.before = std::mem::take(&mut self.last.body);
        self.last.numbered = self.series.renumbered();
        std::mem::take(&mut self.last)
    }

    /// Keeps the last page, and the room of its spans in the order of lines for the next one.
    pub(in crate::scrape) fn keep(&mut self, last: Last, spare: Vec<Span>) {
        (self.last, self.spare) = (last, spare);
    }

    /// Room for the spans of the next page.
    pub(in crate::scrape) fn spare(&mut self) -> Vec<Span> {
        let mut spare = std::mem::take(&mut self.spare);
        spare.clear();
        spare
    }

    /// Room for the next body: that of the page before the last, unless somebody still reads it.
    /// Memory that was used a moment ago costs nothing; of the kernel's each four kilobytes cost a
    /// fault.
    pub(in crate::scrape) fn room(&mut self) -> BytesMut {
        let mut room = std::mem::take(&mut self.before)
            .try_into_mut()
            .unwrap_or_default();
        room.clear();
        if room.capacity() / 2 > self.last.body.len() {
            BytesMut::new()
        } else {
            room
        }
    }
}

/// The entry that a page probably shows next.
#[derive(Clone, Copy)]
struct Probable<'a> {
    index: usize,
    fingerprint: &'a Fingerprint,
    entry: &'a Entry<()>,
    /// The bytes of its series; of no length where they are not there.
    bytes: &'a [u8],
}

/// One sample: of a line, or a native histogram.
#[derive(Clone, Copy, Debug)]
pub(in crate::scrape) struct Hit {
    /// Its series: an entry of the cache or, counted on from the last one, a new series.
    pub(in crate::scrape) series: u32,
    /// Of a native histogram the marker that stands for one.
    pub(in crate::scrape) value: f64,
}

/// A series that the cache does not know, or knows under another TYPE.
pub(in crate::scrape) struct NewSeries {
    pub(in crate::scrape) fingerprint: Fingerprint,
    pub(in crate::scrape) kind: MetricKind,
    /// `None` when relabelling drops it.
    pub(in crate::scrape) labels: Option<Labels>,
}

/// What a sound page brought, or the counts of an unsound one.
#[derive(Default)]
pub(in crate::scrape) struct Scanned {
    /// The lines in the order of the page, then the native histograms.
    pub(in crate::scrape) hits: Vec<Hit>,
    /// Where their series stand, if that was asked for.
    pub(in crate::scrape) spans: Vec<Span>,
    /// The timestamps of the first hits; those beyond have none.
    timestamps: Vec<Option<Timestamp>>,
    pub(in crate::scrape) new: Vec<NewSeries>,
    /// The values of the last hits, in their order.
    pub(in crate::scrape) histograms: Vec<NativeHistogram>,
    /// Samples on the page.
    pub(in crate::scrape) scraped: usize,
    /// Samples that relabelling kept.
    pub(in crate::scrape) kept: usize,
}

impl Scanned {
    /// The timestamps with which the hits came, by their position.
    pub(in crate::scrape) fn timestamps(&mut self) -> impl Fn(usize) -> Option<Timestamp> + use<> {
        let timestamps = std::mem::take(&mut self.timestamps);
        move |position| timestamps.get(position).copied().flatten()
    }
}

/// The series of a sample.
enum Series {
    Known { index: usize, kept: bool },
    New(Fingerprint),
}

impl Series {
    fn of(
        cache: &PageCache,
        bytes: &[u8],
        kind: MetricKind,
        probable: Option<Probable<'_>>,
    ) -> Self {
        let fingerprint = cache.fingerprint(bytes);
        let found = match probable {
            Some(probable) if *probable.fingerprint == fingerprint => {
                Some((probable.index, probable.entry))
            }
            _ => cache.series.find(&fingerprint),
        };
        // A known series stands for the same labels only under the same TYPE (SEMANTICS 40).
        match found.filter(|(_, entry)| entry.kind == kind) {
            Some((index, entry)) => Series::Known {
                index,
                kept: entry.id.is_some(),
            },
            None => Series::New(fingerprint),
        }
    }
}

/// Reads one page.
pub(in crate::scrape) struct Scanner<'a> {
    cache: &'a PageCache,
    labelling: &'a Labelling,
    format: Format,
    /// Whether spans are wanted, in a page that is there as a whole.
    placed: bool,
    /// Whether the page is not empty.
    begun: bool,
    progress: Progress,
    kind: MetricKind,
    previous: Option<usize>,
    native: Vec<Exposed>,
    converter: Option<Converter>,
    scanned: Scanned,
    done: Result<(), PageError>,
}

impl<'a> Scanner<'a> {
    /// `native`: the histograms of the page that its text cannot say; `hits` may bring the room of
    /// an earlier page.
    pub(in crate::scrape) fn new(
        cache: &'a PageCache,
        labelling: &'a Labelling,
        format: Format,
        native: Vec<Exposed>,
        mut hits: Vec<Hit>,
    ) -> Self {
        // What the target's report and its stale markers add is stored from the same room.
        hits.reserve(cache.series.len() + 16);
        Scanner {
            cache,
            labelling,
            format,
            placed: false,
            begun: false,
            progress: Progress::default(),
            kind: MetricKind::Untyped,
            previous: None,
            converter: labelling.native.convert.then(|| Converter::new(&native)),
            native,
            scanned: Scanned {
                hits,
                ..Scanned::default()
            },
            done: Ok(()),
        }
    }

    /// Whether all is well so far.
    pub(in crate::scrape) fn is_sound(&self) -> bool {
        self.done.is_ok()
    }

    /// Reads a whole page; with room for spans it is to be compared with the next one.
    pub(in crate::scrape) fn read_whole(&mut self, page: &[u8], spans: Option<Vec<Span>>) {
        self.placed = spans.is_some();
        self.scanned.spans = spans.unwrap_or_default();
        self.read(page, true);
    }

    /// Reads a part as far as it can be, and returns how far that is: what is left must stand
    /// before the next part. Of a page that is not sound the rest is passed over.
    pub(in crate::scrape) fn read(&mut self, part: &[u8], last: bool) -> usize {
        self.begun |= !part.is_empty();
        // An empty body is an empty page in every format (SEMANTICS 14).
        if !self.begun || !self.is_sound() {
            return part.len();
        }
        let mut lines = Lines::part(part, self.format, self.progress, last);
        self.done = self.lines(&mut lines, part);
        if !self.is_sound() {
            return part.len();
        }
        let (taken, progress) = lines.taken();
        self.progress = progress;
        taken
    }

    /// What the page brought, and whether it is sound: on an error the counts so far stand beside
    /// it; above the sample limit counting goes on (SEMANTICS 26).
    pub(in crate::scrape) fn finish(mut self) -> (Scanned, Result<(), PageError>) {
        let mut histograms = std::mem::take(&mut self.native);
        histograms.extend(
            self.converter
                .take()
                .into_iter()
                .flat_map(Converter::into_histograms),
        );
        let done = std::mem::replace(&mut self.done, Ok(()));
        let done = done.and_then(|()| self.histograms(histograms));
        (self.scanned, done)
    }

    fn lines(&mut self, lines: &mut Lines<'_>, part: &[u8]) -> Result<(), PageError> {
        let cache = self.cache;
        loop {
            let probable = cache
                .probable(self.previous)
                .filter(|probable| probable.entry.kind == self.kind);
            let hint = probable.map_or(&[][..], |probable| probable.bytes);
            let line = match lines.next(hint)? {
                None => return Ok(()),
                Some(Item::Help(..) | Item::Unit(..)) => continue,
                Some(Item::Type(family, declared)) => {
                    self.kind = declared;
                    if let Some(converter) = &mut self.converter {
                        converter.declare(&family, declared);
                    }
                    continue;
                }
                Some(Item::Sample(line)) => line,
            };
            let converts = self
                .converter
                .as_mut()
                .is_some_and(|c| c.take(line.series, line.value, line.timestamp));
            if converts && !self.labelling.native.classic {
                continue;
            }
            let series = match probable {
                Some(Probable { index, entry, .. }) if line.expected => Series::Known {
                    index,
                    kept: entry.id.is_some(),
                },
                _ => Series::of(cache, line.series, self.kind, probable),
            };
            if let Series::Known { index, .. } = series {
                self.previous = Some(index);
            }
            let taken = self.take(series, line.series, self.kind, (line.value, line.timestamp))?;
            if self.placed && taken {
                self.scanned.spans.push(Span::of(line.series, part));
            }
        }
    }

    /// The native histograms, after all lines.
    fn histograms(&mut self, histograms: Vec<Exposed>) -> Result<(), PageError> {
        let kind = MetricKind::Histogram;
        for Exposed {
            series,
            timestamp,
            histogram,
        } in histograms
        {
            let known = Series::of(self.cache, series.as_bytes(), kind, None);
            if self.take(known, series.as_bytes(), kind, (histogram_nan(), timestamp))? {
                self.scanned
                    .histograms
                    .push(self.labelling.native.fit(histogram)?);
            }
        }
        let (kept, limit) = (self.scanned.kept, limit(self.labelling));
        if kept > limit {
            Err(over(kept, limit))
        } else {
            Ok(())
        }
    }

    /// Takes one sample; returns whether it became a hit.
    fn take(
        &mut self,
        series: Series,
        bytes: &[u8],
        kind: MetricKind,
        (value, timestamp): (f64, Option<Timestamp>),
    ) -> Result<bool, PageError> {
        let (labelling, scanned, limit) =
            (self.labelling, &mut self.scanned, limit(self.labelling));
        scanned.scraped += 1;
        if scanned.scraped > limit.saturating_mul(DROPPED) {
            return Err(PageError::BeforeRelabelling(limit.saturating_mul(DROPPED)));
        }
        let (series, kept) = match series {
            Series::Known { index, kept } => (index, kept),
            // Over the limit the page is lost: only the count matters, and nothing more may pile
            // up.
            Series::New(_) if scanned.kept > limit && labelling.rules.is_empty() => {
                scanned.kept += 1;
                return Ok(false);
            }
            Series::New(fingerprint) => {
                let labels = labelling.of_text(bytes, kind).map_err(PageError::Series)?;
                let kept = labels.is_some();
                if scanned.kept <= limit {
                    scanned.new.push(NewSeries {
                        fingerprint,
                        kind,
                        labels,
                    });
                }
                (
                    self.cache.series.len() + scanned.new.len().saturating_sub(1),
                    kept,
                )
            }
        };
        scanned.kept += usize::from(kept);
        let fits = scanned.kept <= limit;
        if fits {
            if timestamp.is_some() {
                scanned.timestamps.resize(scanned.hits.len(), None);
                scanned.timestamps.push(timestamp);
            }
            scanned.hits.push(Hit {
                series: series as u32,
                value,
            });
        }
        Ok(fits)
    }
}

/// Why a page with so many samples is not taken.
pub(in crate::scrape) fn over(found: usize, limit: usize) -> PageError {
    PageError::SampleLimit {
        found,
        bound: bound_of("sample_limit", limit as u64, Limits::default().samples),
    }
}

fn limit(labelling: &Labelling) -> usize {
    usize::try_from(labelling.limits.samples).unwrap_or(usize::MAX)
}
