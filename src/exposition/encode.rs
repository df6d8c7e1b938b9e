//! Batches as text: Prometheus 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>) and OpenMetrics 1.0.
//!
//! A [`Page`] holds one target's families as finished lines; [`render`] merges the pages of all
//! targets so that each family has one HELP and TYPE. Names never change with the format: a counter
//! whose name lacks `_total` is `unknown` in OpenMetrics, instead of getting another name there. A
//! name outside the legacy alphabet is written with underscores, as a client that did not negotiate
//! UTF-8 names expects.

use std::borrow::Cow;
use std::fmt::Write;

use crate::model::text::{format_float, is_legacy_label_name, is_legacy_metric_name};
use crate::model::{Batch, Labels, METRIC_NAME, MetricKind, Timestamp};

/// Which text format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// Prometheus text 0.0.4.
    #[default]
    Text,
    /// OpenMetrics text 1.0.
    OpenMetrics,
}

impl Format {
    /// The Content-Type that says so.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a client wants by its `Accept` header: OpenMetrics where it is named with a weight at
    /// least that of text.
    pub fn negotiate(accept: &str) -> Format {
        let weight = |wanted: &str| {
            let quality = |range: &str| {
                let mut parts = range.split(';').map(str::trim);
                let named = parts.next().is_some_and(|t| t.eq_ignore_ascii_case(wanted));
                let weight = parts
                    .find_map(|p| p.strip_prefix("q="))
                    .and_then(|q| q.parse::<f64>().ok())
                    .unwrap_or(1.0);
                named.then_some(weight)
            };
            accept.split(',').filter_map(quality).fold(0.0, f64::max)
        };
        let open = weight("application/openmetrics-text");
        if open > 0.0 && open >= weight("text/plain") {
            Format::OpenMetrics
        } else {
            Format::Text
        }
    }
}

/// The sample lines of one family, without HELP and TYPE.
#[derive(Clone, Debug)]
pub struct EncodedFamily {
    /// The family's name, with `_total` where its samples have it.
    pub name: Cow<'static, str>,
    /// Its type.
    pub kind: MetricKind,
    /// HELP text, unescaped; may be empty.
    pub help: Cow<'static, str>,
    /// Lines of text 0.0.4, each with its line break.
    pub lines: String,
    /// The same lines for OpenMetrics, only where they differ (explicit timestamps).
    pub open_lines: Option<String>,
}

impl EncodedFamily {
    /// A family without lines.
    pub fn new(name: Cow<'static, str>, kind: MetricKind, help: Cow<'static, str>) -> Self {
        EncodedFamily {
            name,
            kind,
            help,
            lines: String::new(),
            open_lines: None,
        }
    }

    /// Adds a sample; `series` is what [`series_text`] wrote.
    pub fn push(&mut self, series: &str, value: f64, timestamp: Option<Timestamp>) {
        if let (None, Some(_)) = (&self.open_lines, timestamp) {
            self.open_lines = Some(self.lines.clone());
        }
        let line = |lines: &mut String, format| {
            lines.push_str(series);
            lines.push(' ');
            push_float(lines, value);
            match (timestamp, format) {
                (None, _) => {}
                (Some(at), Format::Text) => lines.push_str(&format!(" {}", at.0)),
                (Some(at), Format::OpenMetrics) => lines.push_str(&format!(" {}", at.seconds())),
            }
            lines.push('\n');
        };
        line(&mut self.lines, Format::Text);
        if let Some(lines) = &mut self.open_lines {
            line(lines, Format::OpenMetrics);
        }
    }
}

/// What a target says of a metric family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The family's name, with `_total` where its samples have it.
    pub name: Cow<'static, str>,
    /// Its type.
    pub kind: MetricKind,
    /// HELP text, unescaped; may be empty.
    pub help: Cow<'static, str>,
    /// UNIT; may be empty.
    pub unit: Cow<'static, str>,
}

impl Metadata {
    /// Whether the family, or a sample of it that its type names, is called so.
    pub fn is_of(&self, name: &str) -> bool {
        match self.kind {
            MetricKind::Counter => {
                self.name == name || self.name.strip_suffix("_total") == Some(name)
            }
            MetricKind::Info => {
                self.name == name || name.strip_suffix("_info") == Some(&*self.name)
            }
            _ => self.name == name,
        }
    }
}

/// What one target shows on /metrics: its families, sorted by name.
#[derive(Clone, Debug, Default)]
pub struct Page {
    families: Vec<EncodedFamily>,
    /// What a scraped page declares itself, sorted by name; the families of others tell all there
    /// is.
    declared: Option<Vec<Metadata>>,
}

impl Page {
    /// Sorts the families by name; families without lines vanish, but for histograms: native ones
    /// have a type and a help, and no lines.
    pub fn new(mut families: Vec<EncodedFamily>) -> Self {
        families.retain(|f| !f.lines.is_empty() || f.kind == MetricKind::Histogram);
        families.sort_by(|a, b| a.name.cmp(&b.name));
        Page {
            families,
            declared: None,
        }
    }

    /// The same page with what the target declared of its families.
    pub fn with_declared(mut self, mut declared: Vec<Metadata>) -> Self {
        declared.sort_by(|a, b| a.name.cmp(&b.name));
        self.declared = Some(declared);
        self
    }

    /// What is declared of the families, sorted by name.
    pub fn metadata(&self) -> Vec<Metadata> {
        let of = |f: &EncodedFamily| Metadata {
            name: f.name.clone(),
            kind: f.kind,
            help: f.help.clone(),
            unit: Cow::Borrowed(""),
        };
        self.declared
            .clone()
            .unwrap_or_else(|| self.families.iter().map(of).collect())
    }

    /// Encodes a batch as it stands.
    pub fn of(batch: &Batch) -> Self {
        let mut series = String::new();
        let encode = |(name, family): (&Cow<'static, str>, &crate::model::Family)| {
            let mut encoded = EncodedFamily::new(name.clone(), family.kind, family.help.clone());
            for sample in &family.samples {
                series.clear();
                series_text(&mut series, &sample.labels);
                encoded.push(&series, sample.value, sample.timestamp);
            }
            encoded
        };
        Page::new(batch.families.iter().map(encode).collect())
    }

    /// The families, sorted by name.
    pub fn families(&self) -> &[EncodedFamily] {
        &self.families
    }
}

/// A batch as text 0.0.4, sorted by family: what collectors' golden files hold.
pub fn text(batch: &Batch) -> String {
    render([&Page::of(batch)], Format::Text)
}

/// A batch as OpenMetrics 1.0, sorted by family.
pub fn openmetrics(batch: &Batch) -> String {
    render([&Page::of(batch)], Format::OpenMetrics)
}

/// All pages as one exposition: families sorted by name, each with one HELP and TYPE. Where targets
/// disagree about a type it is untyped.
pub fn render<'a>(pages: impl IntoIterator<Item = &'a Page>, format: Format) -> String {
    let mut families: Vec<&EncodedFamily> = pages
        .into_iter()
        .flat_map(|p| &p.families)
        .filter(|f| !f.lines.is_empty())
        .collect();
    families.sort_by(|a, b| a.name.cmp(&b.name));
    let size = families
        .iter()
        .map(|f| f.lines.len() + f.name.len() + 40)
        .sum::<usize>();
    let mut out = String::with_capacity(size + size / 4);
    for group in families.chunk_by(|a, b| a.name == b.name) {
        let taken = |name: &str| families.binary_search_by(|f| (*f.name).cmp(name)).is_ok();
        push_head(&mut out, group, format, taken);
        for family in group {
            match (&family.open_lines, format, family.kind) {
                (Some(lines), Format::OpenMetrics, _) => out.push_str(lines),
                (_, Format::Text, MetricKind::Histogram) => {
                    push_brief(&mut out, &family.lines, "le=\"")
                }
                (_, Format::Text, MetricKind::Summary) => {
                    push_brief(&mut out, &family.lines, "quantile=\"")
                }
                _ => out.push_str(&family.lines),
            }
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

/// Lines of text 0.0.4, where whole numbers stand in this label as Go's exporters write them:
/// `le="16"`, not `le="16.0"`, as OpenMetrics and the store have it. Prometheus 2 takes them as
/// they are.
fn push_brief(out: &mut String, lines: &str, label: &str) {
    let mut rest = lines;
    while let Some(at) = rest.find(label) {
        let (before, value) = rest.split_at(at + label.len());
        out.push_str(before);
        rest = value;
        // Within a value the quote would be escaped.
        let is_label = before
            .as_bytes()
            .get(at.wrapping_sub(1))
            .is_some_and(|b| matches!(b, b'{' | b','));
        let digits = value.bytes().take_while(u8::is_ascii_digit).count();
        if is_label && digits > 0 && value[digits..].starts_with(".0\"") {
            out.push_str(&value[..digits]);
            rest = &value[digits + 2..];
        }
    }
    out.push_str(rest);
}

/// HELP and TYPE of one family; `taken` tells whether another family has a name already.
fn push_head(
    out: &mut String,
    group: &[&EncodedFamily],
    format: Format,
    taken: impl Fn(&str) -> bool,
) {
    let mut kinds = group
        .iter()
        .map(|f| f.kind)
        .filter(|k| *k != MetricKind::Untyped);
    let first = kinds.next().unwrap_or(MetricKind::Untyped);
    let kind = if kinds.all(|k| k == first) {
        first
    } else {
        MetricKind::Untyped
    };
    let help = group
        .iter()
        .map(|f| &*f.help)
        .find(|h| !h.is_empty())
        .unwrap_or("");
    let name = legacy_metric_name(&group[0].name);
    let stripped = name.strip_suffix("_total");
    let (name, kind) = match (format, kind, stripped) {
        (Format::Text, kind, _) => (&*name, kind.as_str()),
        (Format::OpenMetrics, MetricKind::Counter, Some(family)) if !taken(family) => {
            (family, "counter")
        }
        (
            Format::OpenMetrics,
            MetricKind::Counter | MetricKind::Untyped | MetricKind::GaugeHistogram,
            _,
        ) => (&*name, "unknown"),
        (Format::OpenMetrics, kind, _) => (&*name, kind.as_str()),
    };
    if !help.is_empty() {
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(out, help, format == Format::OpenMetrics);
        out.push('\n');
    }
    out.extend(["# TYPE ", name, " ", kind, "\n"]);
}

/// Writes `name{label="value",…}`, the part of a sample line before its value.
pub fn series_text(out: &mut String, labels: &Labels) {
    out.push_str(&legacy_metric_name(labels.metric_name()));
    let mut separator = '{';
    for (name, value) in labels.iter().filter(|(n, _)| *n != METRIC_NAME) {
        out.push(separator);
        separator = ',';
        if is_legacy_label_name(name) {
            out.push_str(name);
        } else {
            out.push_str(&underscored(name, is_legacy_label_name));
        }
        out.push_str("=\"");
        escape(out, value, true);
        out.push('"');
    }
    if separator == ',' {
        out.push('}');
    }
}

fn legacy_metric_name(name: &str) -> Cow<'_, str> {
    if is_legacy_metric_name(name) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(underscored(name, is_legacy_metric_name))
    }
}

/// Every character that `allowed` refuses at its position becomes `_`.
fn underscored(name: &str, allowed: fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(name.len().max(1));
    for c in name.chars() {
        out.push(c);
        if !allowed(&out) {
            out.pop();
            out.push('_');
        }
    }
    if out.is_empty() { "_".into() } else { out }
}

pub(super) fn escape(out: &mut String, text: &str, quotes: bool) {
    let mut rest = text;
    while let Some(at) = rest.find(|c| matches!(c, '\\' | '\n') || (quotes && c == '"')) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            _ => "\\\"",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// Greatest magnitude up to which every whole number is written through the integer path.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

fn push_float(out: &mut String, value: f64) {
    // Most samples are whole numbers; integers print several times faster than floats. A negative
    // zero keeps its sign.
    if value.abs() < MAX_EXACT
        && value.trunc() == value
        && (value != 0.0 || value.is_sign_positive())
    {
        write!(out, "{}", value as i64).expect("writing into a String cannot fail");
    } else {
        out.push_str(&format_float(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::Histogram;
    use crate::model::{MetricDesc, Sample};

    const fn desc(name: &'static str, kind: MetricKind) -> MetricDesc {
        MetricDesc {
            name,
            kind,
            unit: "",
            help: "Says \"hi\" \\ and\nmore.",
            labels: &[],
            source: "test",
        }
    }
    const REQUESTS: MetricDesc = desc("requests_total", MetricKind::Counter);
    const XACT: MetricDesc = desc("xact_commit", MetricKind::Counter);
    const LATENCY: MetricDesc = desc("latency_seconds", MetricKind::Histogram);

    fn batch() -> Batch {
        let mut batch = Batch::new();
        batch.push(&XACT, &[], 1e21);
        batch.push(&REQUESTS, &[("path", "a\"b\\c\nd"), ("code", "200")], 3.0);
        let mut histogram = Histogram::new(&[1.0]);
        histogram.observe(0.25);
        batch.push_histogram(&LATENCY, &[], &histogram);
        batch.push_named(
            "odd name",
            MetricKind::Untyped,
            "",
            &[("a.b", "x")],
            f64::NAN,
        );
        let stamped = Sample {
            labels: Labels::from_pairs([("__name__", "z")]),
            value: -0.0,
            timestamp: Some(Timestamp(1500)),
        };
        batch.push_sample("z", MetricKind::Gauge, "Z.", stamped);
        batch
    }

    #[test]
    fn text_is_sorted_by_family_and_escaped() {
        assert_eq!(
            text(&batch()),
            "# HELP latency_seconds Says \"hi\" \\\\ and\\nmore.\n# TYPE latency_seconds histogram\n\
             latency_seconds_bucket{le=\"1\"} 1\nlatency_seconds_bucket{le=\"+Inf\"} 1\nlatency_seconds_sum 0.25\nlatency_seconds_count 1\n\
             # TYPE odd_name untyped\nodd_name{a_b=\"x\"} NaN\n\
             # HELP requests_total Says \"hi\" \\\\ and\\nmore.\n# TYPE requests_total counter\n\
             requests_total{code=\"200\",path=\"a\\\"b\\\\c\\nd\"} 3\n\
             # HELP xact_commit Says \"hi\" \\\\ and\\nmore.\n# TYPE xact_commit counter\nxact_commit 1e+21\n\
             # HELP z Z.\n# TYPE z gauge\nz -0 1500\n"
        );
    }

    #[test]
    fn whole_bounds_are_written_as_each_format_has_them() {
        let series = "h_bucket{a=\"x,le=\\\"3.0\\\"\",le=\"16.0\"}";
        let mut family = EncodedFamily::new("h".into(), MetricKind::Histogram, "".into());
        for (series, value) in [
            (series, 1.0),
            ("h_bucket{le=\"0.5\"}", 1.0),
            ("h_bucket{le=\"+Inf\"}", 2.0),
            ("h_bucket{le=\"1e+06\"}", 2.0),
        ] {
            family.push(series, value, None);
        }
        let page = Page::new(vec![family]);
        let open = "h_bucket{a=\"x,le=\\\"3.0\\\"\",le=\"16.0\"} 1\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_bucket{le=\"1e+06\"} 2\n";
        assert_eq!(
            render([&page], Format::OpenMetrics),
            format!("# TYPE h histogram\n{open}# EOF\n")
        );
        assert_eq!(
            render([&page], Format::Text),
            format!("# TYPE h histogram\n{}", open.replace("\"16.0\"", "\"16\""))
        );
    }

    #[test]
    fn openmetrics_keeps_the_names_of_samples() {
        let got = openmetrics(&batch());
        assert!(
            got.contains("# TYPE requests counter\nrequests_total{"),
            "{got}"
        );
        assert!(
            got.contains("# TYPE xact_commit unknown\nxact_commit 1e+21\n"),
            "{got}"
        );
        assert!(got.contains("# TYPE odd_name unknown\n"), "{got}");
        assert!(
            got.contains("# HELP requests Says \\\"hi\\\" \\\\ and\\nmore.\n"),
            "{got}"
        );
        assert!(got.ends_with("z -0 1.5\n# EOF\n"), "{got}");
    }

    #[test]
    fn a_counter_whose_bare_name_is_taken_keeps_its_whole_name() {
        let mut batch = Batch::new();
        batch.push_named("a", MetricKind::Gauge, "", &[], 1.0);
        batch.push_named("a_total", MetricKind::Counter, "", &[], 2.0);
        assert_eq!(
            openmetrics(&batch),
            "# TYPE a gauge\na 1\n# TYPE a_total unknown\na_total 2\n# EOF\n"
        );
    }

    #[test]
    fn targets_share_one_head_and_disagreement_makes_untyped() {
        let page = |name: &str, kind, instance: &str| {
            let mut batch = Batch::new();
            batch.push_named(name, kind, "", &[("instance", instance)], 1.0);
            Page::of(&batch)
        };
        let pages = [
            page("up", MetricKind::Gauge, "a"),
            page("up", MetricKind::Untyped, "b"),
            page("x", MetricKind::Gauge, "a"),
            page("x", MetricKind::Counter, "b"),
        ];
        assert_eq!(
            render(&pages, Format::Text),
            "# TYPE up gauge\nup{instance=\"a\"} 1\nup{instance=\"b\"} 1\n# TYPE x untyped\nx{instance=\"a\"} 1\nx{instance=\"b\"} 1\n"
        );
    }

    /// SEMANTICS 31: what Prometheus asks for gets OpenMetrics, a browser gets text.
    #[test]
    fn the_format_follows_the_accept_header() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
                          text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(Format::negotiate(prometheus), Format::OpenMetrics);
        for accept in [
            "",
            "text/html,*/*;q=0.8",
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            "application/openmetrics-text;q=0.2,text/plain",
        ] {
            assert_eq!(Format::negotiate(accept), Format::Text, "{accept}");
        }
    }
}
