//! Pages for /metrics: from a collector's batch, from a scraped body, and the report series of each
//! target.

use super::body::Body;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use memchr::{memchr2, memmem};

use crate::exposition::encode::series_text;
use crate::exposition::parse::help_text;
use crate::exposition::{EncodedFamily, Format, Item, Lines, Metadata, Page};
use crate::model::{Labels, MetricKind};

use super::labelling::Labelling;

/// A scraped body, with what is needed to write it again under its target's labels.
pub(in crate::scrape) struct ScrapedPage {
    pub(in crate::scrape) body: Body,
    pub(in crate::scrape) format: Format,
    pub(in crate::scrape) labelling: Arc<Labelling>,
    pub(in crate::scrape) report: Page,
    /// Unless the body is deflated: what was made of it would lie there until the next page comes.
    pub(in crate::scrape) encoded: OnceLock<Arc<Page>>,
}

/// Writes a scraped page again, under its target's labels. The page was read without mistake
/// before.
///
/// A series that comes twice is shown once, with its first sample: that is the one that was stored,
/// and a page that repeats a series is none that can be scraped.
pub(in crate::scrape) fn encode_scraped(scraped: &ScrapedPage) -> Page {
    let mut families = Families::default();
    let body = scraped.body.text();
    let mut lines = Lines::new(&body, scraped.format);
    let mut kind = MetricKind::Untyped;
    let mut series = String::new();
    let splice = Splice::of(&scraped.labelling);
    let hasher = ahash::RandomState::new();
    let mut seen: HashSet<u64, ahash::RandomState> = HashSet::default();
    while let Ok(Some(item)) = lines.next(b"") {
        match item {
            Item::Help(family, text) => {
                families.declared(&family).help = help_text(text, scraped.format)
            }
            Item::Type(family, declared) => {
                kind = declared;
                families.declared(&family).kind = declared;
            }
            Item::Unit(family, unit) => families.declared(&family).unit = unit.to_owned(),
            Item::Sample(line) => {
                series.clear();
                let name = match splice
                    .as_ref()
                    .and_then(|s| s.write(line.series, &mut series))
                {
                    Some(name) => Cow::Borrowed(name),
                    None => {
                        let Ok(Some(labels)) = scraped.labelling.of_text(line.series, kind) else {
                            continue;
                        };
                        series_text(&mut series, &labels);
                        Cow::Owned(labels.metric_name().to_owned())
                    }
                };
                if seen.insert(hasher.hash_one(&series)) {
                    families.of(&name).push(&series, line.value, line.timestamp);
                }
            }
        }
    }
    for family in scraped.report.families() {
        // Of a target that shows an `up` of its own.
        let series = family
            .lines
            .rsplit_once(' ')
            .map_or("", |(series, _)| series);
        if seen.insert(hasher.hash_one(series)) {
            families.list.push(family.clone());
        }
    }
    families.finish(scraped.format)
}

/// The usual case in one copy: the target's labels are put behind the opening brace of the series
/// as the page wrote it.
struct Splice {
    /// `instance="…",job="…"`.
    labels: String,
    names: Vec<memmem::Finder<'static>>,
}

impl Splice {
    /// `None` where relabelling or honoured labels make each series a case of its own.
    fn of(labelling: &Labelling) -> Option<Self> {
        if labelling.honor_labels || !labelling.rules.is_empty() {
            return None;
        }
        let mut text = String::new();
        series_text(&mut text, &labelling.target);
        let labels = text.split_once('{')?.1.strip_suffix('}')?.to_owned();
        let names = labelling
            .target
            .iter()
            .map(|(name, _)| memmem::Finder::new(name).into_owned())
            .collect();
        Some(Splice { labels, names })
    }

    /// Writes the series and returns its name; `None`, and nothing written, for a series that must
    /// be read: escapes, line breaks, quoted names, or the text of a target label's name anywhere
    /// in it.
    fn write<'a>(&self, series: &'a [u8], out: &mut String) -> Option<&'a str> {
        if memchr2(b'\\', b'\n', series).is_some()
            || self.names.iter().any(|name| name.find(series).is_some())
        {
            return None;
        }
        // Without escapes quotes come in pairs. What stands outside must hold no blank, which
        // OpenMetrics forbids, and each opening quote stands behind an equals sign, or it opens a
        // quoted name.
        let text = std::str::from_utf8(series).ok()?;
        let mut outside = text.split('"').step_by(2).peekable();
        while let Some(part) = outside.next() {
            if part.contains([' ', '\t']) || (outside.peek().is_some() && !part.ends_with('=')) {
                return None;
            }
        }
        let (name, inner) = match text.split_once('{') {
            Some((name, inner)) => (name, inner.strip_suffix('}')?),
            None => (text, ""),
        };
        out.extend([
            name,
            "{",
            &self.labels,
            if inner.is_empty() { "" } else { "," },
            inner,
            "}",
        ]);
        (!name.is_empty()).then_some(name)
    }
}

/// Families in the order of their first appearance.
#[derive(Default)]
struct Families {
    list: Vec<EncodedFamily>,
    index: HashMap<String, usize, ahash::RandomState>,
    declared: HashMap<String, Declared, ahash::RandomState>,
}

/// What the page says of a family so far; the last line of each sort holds, also behind the
/// samples.
struct Declared {
    kind: MetricKind,
    help: String,
    unit: String,
}

impl Families {
    fn declared(&mut self, family: &str) -> &mut Declared {
        let none = || Declared {
            kind: MetricKind::Untyped,
            help: String::new(),
            unit: String::new(),
        };
        self.declared.entry(family.to_owned()).or_insert_with(none)
    }

    /// The family of a sample's name: the declared one that it belongs to by its suffix, or one of
    /// its own.
    fn of(&mut self, sample: &str) -> &mut EncodedFamily {
        let owner = self.owner(sample);
        let at = match self.index.get(owner) {
            Some(at) => *at,
            None => {
                self.list.push(EncodedFamily::new(
                    Cow::Owned(owner.to_owned()),
                    MetricKind::Untyped,
                    Cow::Borrowed(""),
                ));
                self.index.insert(owner.to_owned(), self.list.len() - 1);
                self.list.len() - 1
            }
        };
        &mut self.list[at]
    }

    /// The page, with the types and texts that were declared.
    fn finish(mut self, format: Format) -> Page {
        for family in self
            .list
            .iter_mut()
            .filter(|family| self.index.contains_key(&*family.name))
        {
            // OpenMetrics declares a counter without `_total`, text with it.
            let declared = self
                .declared
                .get(&*family.name)
                .or_else(|| self.declared.get(family.name.strip_suffix("_total")?));
            if let Some(declared) = declared {
                (family.kind, family.help) = (declared.kind, Cow::Owned(declared.help.clone()));
            }
        }
        let mut all = Vec::with_capacity(self.declared.len());
        for (mut name, Declared { kind, help, unit }) in self.declared {
            // Histograms without lines: their samples are native ones, of which text can say only
            // this.
            if kind == MetricKind::Histogram && !self.index.contains_key(&name) {
                self.list.push(EncodedFamily::new(
                    Cow::Owned(name.clone()),
                    kind,
                    Cow::Owned(help.clone()),
                ));
            }
            if format == Format::OpenMetrics
                && kind == MetricKind::Counter
                && !name.ends_with("_total")
            {
                name.push_str("_total");
            }
            all.push(Metadata {
                name: name.into(),
                kind,
                help: help.into(),
                unit: unit.into(),
            });
        }
        Page::new(self.list).with_declared(all)
    }

    fn owner<'a>(&self, sample: &'a str) -> &'a str {
        for suffix in ["_bucket", "_sum", "_count"] {
            let family = sample.strip_suffix(suffix);
            let declared = family.and_then(|name| self.declared.get(name));
            if let (Some(family), Some(MetricKind::Histogram | MetricKind::Summary)) =
                (family, declared.map(|d| d.kind))
            {
                return family;
            }
        }
        sample
    }
}

/// A family of one sample, for report series.
pub(in crate::scrape) fn single(
    name: &'static str,
    help: &'static str,
    labels: &Labels,
    value: f64,
) -> EncodedFamily {
    let mut family =
        EncodedFamily::new(Cow::Borrowed(name), MetricKind::Gauge, Cow::Borrowed(help));
    let mut series = String::new();
    series_text(&mut series, labels);
    family.push(&series, value, None);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is spliced must read back as the labels that are stored.
    #[test]
    fn spliced_series_are_the_stored_ones() {
        let labelling = Labelling::plain(Labels::from_pairs([("instance", "a\"b"), ("job", "j")]));
        let splice = Splice::of(&labelling).expect("the usual case");
        let mut spliced = 0;
        for series in [
            "a",
            "a{}",
            "a { }",
            "a{x=\"1\"}",
            "a{x=\"1\",y=\"{2} = \",}",
            "a{ x=\"1\", y=\"{2}\", }",
            "a{x=\"\"}",
            "a{job=\"1\"}",
            "a{x=\"cronjob\"}",
            "a{x=\"b\\\\c\"}",
            "{\"a\",x=\"1\"}",
            "a{\"x\"=\"1\"}",
            "a{x=\"1\",\"y z\"=\"2\"}",
        ] {
            let want = labelling
                .of_text(series.as_bytes(), MetricKind::Untyped)
                .expect("sound")
                .expect("kept");
            let mut out = String::new();
            let Some(name) = splice.write(series.as_bytes(), &mut out) else {
                assert_eq!(out, "", "{series}");
                continue;
            };
            spliced += 1;
            assert_eq!(name, want.metric_name(), "{series}");
            let got = Labelling::plain(Labels::empty())
                .of_text(out.as_bytes(), MetricKind::Untyped)
                .expect("sound")
                .expect("kept");
            assert_eq!(got, want, "{series}: {out}");
        }
        assert_eq!(spliced, 5);
    }
}
