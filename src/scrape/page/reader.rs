//! From the bytes of an answer to a page that was read: as a whole, or part by part while they
//! come.
//!
//! Pages that come often are read as a whole: they are kept as they came and compared with the next
//! one, which is the quickest. Of others only the line that is not there to its end is held, so
//! that a page of megabytes passes through little room.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use crate::exposition::Format;
use crate::exposition::protobuf::{Options, expand};

use super::body::{Body, Writer};
use super::labelling::Labelling;
use super::scan::{Hit, PageCache, Scanned, Scanner};
use crate::scrape::config::protocol::Encoding;
use crate::scrape::error::PageError;

/// A protobuf body may become so many times its size limit: text is longer, and a histogram takes
/// more room in memory.
const EXPANDED: u64 = 2;

/// A page that was read: what it brought so far, and the page itself or why it is not sound.
pub(in crate::scrape) struct Fetched {
    pub(in crate::scrape) scanned: Scanned,
    pub(in crate::scrape) format: Format,
    pub(in crate::scrape) body: Result<Body, PageError>,
}

/// What reads the next page of a target.
pub(in crate::scrape) struct Reader<'a> {
    pub(in crate::scrape) cache: &'a mut PageCache,
    pub(in crate::scrape) labelling: &'a Labelling,
    /// Whether pages come so often that each is compared with the next one.
    pub(in crate::scrape) often: bool,
    /// Room for its hits.
    pub(in crate::scrape) hits: Vec<Hit>,
}

impl<'a> Reader<'a> {
    /// Room for a page that is read as a whole.
    pub(in crate::scrape) fn room(&mut self) -> BytesMut {
        self.cache.room()
    }

    /// Reads a page that is there as a whole.
    ///
    /// # Errors
    /// When what is no text cannot be read at all.
    pub(in crate::scrape) fn whole(
        self,
        body: Bytes,
        encoding: Encoding,
    ) -> Result<Fetched, PageError> {
        let Reader {
            cache,
            labelling,
            often,
            hits,
        } = self;
        let (text, format, native) = match encoding {
            Encoding::Text(format) => (body, format, Vec::new()),
            Encoding::Protobuf => {
                let bound = usize::try_from(labelling.limits.body_size.saturating_mul(EXPANDED))
                    .unwrap_or(usize::MAX);
                let options = Options {
                    native: labelling.native.scrape,
                    classic: labelling.native.classic,
                    bound,
                };
                let expanded = expand(&body, &options)?;
                (
                    Bytes::from(expanded.text),
                    Format::Text,
                    expanded.histograms,
                )
            }
        };
        let positions = often.then(|| cache.spare());
        let mut scanner = Scanner::new(cache, labelling, format, native, hits);
        scanner.read_whole(&text, positions);
        let (scanned, done) = scanner.finish();
        let body = done.and_then(|()| {
            if often {
                Ok(Body::Plain(text))
            } else {
                Ok(Body::of(text)?)
            }
        });
        Ok(Fetched {
            scanned,
            format,
            body,
        })
    }

    /// Reads a page of text while it comes.
    pub(in crate::scrape) fn parts(self, format: Format) -> Parts<'a> {
        let scanner = Scanner::new(self.cache, self.labelling, format, Vec::new(), self.hits);
        Parts {
            scanner,
            format,
            left: Vec::new(),
            enough: 0,
            writer: Ok(Writer::default()),
        }
    }
}

/// A page of text that is on its way.
pub(in crate::scrape) struct Parts<'a> {
    scanner: Scanner<'a>,
    format: Format,
    /// The line whose end has not come.
    left: Vec<u8>,
    /// How long it must become before it is read again.
    enough: usize,
    writer: Result<Writer, PageError>,
}

impl Parts<'_> {
    /// Takes what came next.
    pub(in crate::scrape) fn take(&mut self, mut part: &[u8]) {
        if !self.scanner.is_sound() {
            return;
        }
        if let Ok(writer) = &mut self.writer
            && let Err(error) = writer.write(part)
        {
            self.writer = Err(error.into());
        }
        if !self.left.is_empty() {
            let Some(end) = memchr(b'\n', part) else {
                return self.left.extend_from_slice(part);
            };
            let rest;
            (rest, part) = part.split_at(end + 1);
            self.left.extend_from_slice(rest);
            if self.left.len() >= self.enough {
                let taken = self.scanner.read(&self.left, false);
                self.left.drain(..taken);
                // Quotes are open over its line end: reading it after every line that follows would
                // take time without bound.
                self.enough = self.left.len() * 2;
            }
            if !self.left.is_empty() {
                return self.left.extend_from_slice(part);
            }
        }
        let taken = self.scanner.read(part, false);
        self.left.extend_from_slice(&part[taken..]);
    }

    /// The page, at its end.
    pub(in crate::scrape) fn finish(mut self) -> Fetched {
        self.scanner.read(&self.left, true);
        let (scanned, done) = self.scanner.finish();
        let body = done
            .and(self.writer)
            .and_then(|writer| Ok(writer.finish()?));
        Fetched {
            scanned,
            format: self.format,
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Labels, MetricKind};
    use crate::scrape::page::cache::Entry;

    const TEXT: &[&str] = &[
        "",
        "\n",
        "a 1\nb 2",
        "# HELP a A \\n b.\n# TYPE a counter\na{x=\"1\",y=\"}\"} 1 1234\na{x=\"2\"}\t2\n\n  \nb 3\n",
        "a{x=\"1\n2\",y=\"\\\"\n\\\\\"} 1\nb{z=\"\n\n\n\"} 2\nc 3\n",
        "a 1\na 2\nb 1\r\n",
        "a 1\nb{x=\"1\" 2\nc{y=\"2\"} 3\nd 4\n",
        "a 1\nb{x=\"1} 2\nc 3\nd 4\n",
        "a 1\nb{x=\"1\",\ny=\"2\"} 2\n",
        "a 1\n# HELP \"b c\nd 2\n",
        "a 1\n# TYPE b nothing\nd 2\n",
        "a 1\nb 2\nc x\nd 2\n",
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\nh_x 1\n",
        "a 1\nb 2\nc 3\nd 4\ne 5\nf 6\ng 7\n",
    ];

    const OPEN: &[&str] = &[
        "# EOF",
        "# EOF\n",
        "# EOF\n\n",
        "# TYPE a counter\n# UNIT a \na_total 1 # {t=\"x\ny\"} 2 3\na_total{b=\"\\\"c\"} 1 5.5\n# EOF\n",
        "a 1\nb 2\n# EOFF\n# EOF\n",
        "a 1\n# EOF\nb 2\n",
        "a 1\nb 2\n",
        "a 1\nb{x=\"1\n\"} 2\nc 3\n# EOF\n",
        "a 1\nb{x=\"1\" 2\nc 3\n# EOF\n",
        "a 1 # {t=\"x} 2\nb 2\n# EOF\n",
        "a 1\n# HELP b",
        "a 1\nb 2",
    ];

    /// The seldom way, with parts of these lengths in turn.
    fn in_parts(
        cache: &mut PageCache,
        labelling: &Labelling,
        format: Format,
        page: &[u8],
        lengths: &[usize],
    ) -> String {
        let mut parts = Reader {
            cache,
            labelling,
            often: false,
            hits: Vec::new(),
        }
        .parts(format);
        let (mut rest, mut turn) = (page, lengths.iter().cycle());
        while !rest.is_empty() {
            let part;
            (part, rest) = rest.split_at((*turn.next().expect("endless")).clamp(1, rest.len()));
            parts.take(part);
        }
        shown(parts.finish())
    }

    /// The other way, for pages that come often and for those that are kept deflated.
    fn whole(
        cache: &mut PageCache,
        labelling: &Labelling,
        format: Format,
        page: &[u8],
        often: bool,
    ) -> String {
        let reader = Reader {
            cache,
            labelling,
            often,
            hits: Vec::new(),
        };
        shown(
            reader
                .whole(Bytes::copy_from_slice(page), Encoding::Text(format))
                .expect("text"),
        )
    }

    fn shown(page: Fetched) -> String {
        let Fetched {
            mut scanned, body, ..
        } = page;
        let new: Vec<_> = scanned
            .new
            .iter()
            .map(|n| format!("{:?} {:?} {:?}", n.fingerprint, n.kind, n.labels))
            .collect();
        let stamps = scanned.timestamps();
        let stamps: Vec<_> = (0..scanned.hits.len()).map(stamps).collect();
        let counts = (
            scanned.scraped,
            scanned.kept,
            &scanned.hits,
            &scanned.histograms,
        );
        let body = body
            .map(|body| String::from_utf8_lossy(&body.text()).into_owned())
            .map_err(|error| error.to_string());
        format!("{counts:?} {stamps:?} {new:?} {body:?}")
    }

    fn labelling(samples: u64, convert: bool) -> Labelling {
        let mut labelling = Labelling::plain(Labels::from_pairs([("instance", "i"), ("job", "j")]));
        (labelling.limits.samples, labelling.native.convert) = (samples, convert);
        labelling
    }

    /// A cache that knows `a` and `b` with and without some labels.
    fn cache() -> PageCache {
        let mut cache = PageCache::new();
        for series in ["a", "a{x=\"2\"}", "b"] {
            let fingerprint = cache.fingerprint(series.as_bytes());
            cache
                .series
                .put(fingerprint, Entry::new(None, MetricKind::Untyped, ()));
        }
        cache
    }

    /// SEMANTICS 13, 14, 26, 36, 42: wherever the network cuts a page, it brings the same samples,
    /// or the same mistake in the same line.
    #[test]
    fn a_page_in_parts_is_the_page_as_a_whole() {
        let pages = [(Format::Text, TEXT), (Format::OpenMetrics, OPEN)]
            .into_iter()
            .flat_map(|(f, pages)| pages.iter().map(move |p| (f, p)));
        let mut mistakes = std::collections::HashSet::new();
        for (format, page) in pages {
            for labelling in [
                labelling(1000, false),
                labelling(1000, true),
                labelling(3, false),
            ] {
                let (cache, page) = (&mut cache(), page.as_bytes());
                let want = whole(cache, &labelling, format, page, false);
                assert_eq!(whole(cache, &labelling, format, page, true), want);
                for length in 1..=page.len().max(1) {
                    let cut = [length, page.len()];
                    for lengths in [&cut[..1], &cut, &[length, 1], &[length, 2, 5]] {
                        assert_eq!(
                            in_parts(cache, &labelling, format, page, lengths),
                            want,
                            "{page:?} by {lengths:?}"
                        );
                    }
                }
                mistakes.extend(
                    want.split_once("Err(")
                        .map(|(_, mistake)| mistake.to_owned()),
                );
            }
        }
        assert!(mistakes.len() > 12, "{mistakes:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_in_parts_are_read_as_a_whole(page in "([ab#1 ,=}{\"\\\\\n]|a 1\n|a\\{b=\"|\"} 1\n|# EOF|# HELP ){0,24}", lengths in prop::collection::vec(1usize..9, 1..4)) {
            let (cache, labelling) = (&mut cache(), labelling(1000, false));
            for format in [Format::Text, Format::OpenMetrics] {
                let want = whole(cache, &labelling, format, page.as_bytes(), true);
                prop_assert_eq!(in_parts(cache, &labelling, format, page.as_bytes(), &lengths), want);
            }
        }
    }

    /// What is left of a page without line ends, or with quotes that never close, is not read again
    /// and again.
    #[test]
    fn a_line_without_end_takes_time_in_proportion_to_its_length() {
        for endless in ["x", "x\n"] {
            let (cache, labelling) = (&mut cache(), labelling(1000, false));
            let mut parts = Reader {
                cache,
                labelling: &labelling,
                often: false,
                hits: Vec::new(),
            }
            .parts(Format::Text);
            parts.take(b"a 1\nb{c=\"\n");
            let mut reads = 0;
            for _ in 0..10_000 {
                let before = parts.enough;
                parts.take(endless.as_bytes());
                reads += usize::from(parts.enough != before);
            }
            assert!(reads < 20, "{reads}");
            assert_eq!(
                parts.finish().body.expect_err("unsound").to_string(),
                "line 2: quoted text without closing quote"
            );
        }
    }
}
