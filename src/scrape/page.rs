//! Pages for /metrics: from a collector's batch, from a scraped body, and the report series of each target.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::exposition::encode::series_text;
use crate::exposition::parse::help_text;
use crate::exposition::{EncodedFamily, Item, Lines, Page};
use crate::model::{Labels, MetricKind};

use super::target::ScrapedPage;

/// Writes a scraped page again, under its target's labels. The page was read without mistake before.
pub(super) fn encode_scraped(scraped: &ScrapedPage) -> Page {
    let mut families = Families::default();
    let mut lines = Lines::new(&scraped.body, scraped.format);
    let mut kind = MetricKind::Untyped;
    let mut series = String::new();
    while let Ok(Some(item)) = lines.next(b"") {
        match item {
            Item::Help(family, text) => families.declare(&family, None, Some(help_text(text, scraped.format))),
            Item::Type(family, declared) => {
                kind = declared;
                families.declare(&family, Some(declared), None);
            }
            Item::Sample(line) => {
                let Ok(Some(labels)) = scraped.labelling.of_text(line.series, kind) else { continue };
                series.clear();
                series_text(&mut series, &labels);
                families.of(labels.metric_name()).push(&series, line.value, line.timestamp);
            }
        }
    }
    let mut all = families.list;
    all.extend(scraped.report.families().iter().cloned());
    Page::new(all)
}

/// Families in the order of their first appearance.
#[derive(Default)]
struct Families {
    list: Vec<EncodedFamily>,
    index: HashMap<String, usize, ahash::RandomState>,
    declared: HashMap<String, (MetricKind, String), ahash::RandomState>,
}

impl Families {
    fn declare(&mut self, family: &str, kind: Option<MetricKind>, help: Option<String>) {
        let entry = self.declared.entry(family.to_owned()).or_insert((MetricKind::Untyped, String::new()));
        entry.0 = kind.unwrap_or(entry.0);
        if let Some(help) = help {
            entry.1 = help;
        }
    }

    /// The family of a sample's name: the declared one that it belongs to by its suffix, or one of its own.
    fn of(&mut self, sample: &str) -> &mut EncodedFamily {
        let owner = self.owner(sample);
        let at = match self.index.get(owner) {
            Some(at) => *at,
            None => {
                // OpenMetrics declares a counter without `_total`, text with it.
                let declared = self.declared.get(owner).or_else(|| self.declared.get(owner.strip_suffix("_total")?));
                let (kind, help) = declared.cloned().unwrap_or((MetricKind::Untyped, String::new()));
                self.list.push(EncodedFamily::new(Cow::Owned(owner.to_owned()), kind, Cow::Owned(help)));
                self.index.insert(owner.to_owned(), self.list.len() - 1);
                self.list.len() - 1
            }
        };
        &mut self.list[at]
    }

    fn owner<'a>(&self, sample: &'a str) -> &'a str {
        for suffix in ["_bucket", "_sum", "_count"] {
            let family = sample.strip_suffix(suffix);
            let declared = family.and_then(|name| self.declared.get(name));
            if let (Some(family), Some((MetricKind::Histogram | MetricKind::Summary, _))) = (family, declared) {
                return family;
            }
        }
        sample
    }
}

/// A family of one sample, for report series.
pub(super) fn single(name: &'static str, help: &'static str, labels: &Labels, value: f64) -> EncodedFamily {
    let mut family = EncodedFamily::new(Cow::Borrowed(name), MetricKind::Gauge, Cow::Borrowed(help));
    let mut series = String::new();
    series_text(&mut series, labels);
    family.push(&series, value, None);
    family
}
