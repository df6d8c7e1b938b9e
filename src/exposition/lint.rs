//! What is unusual in a page's metrics: the findings of promtool's `check metrics`, in its words
//! (<https://prometheus.io/docs/practices/naming/>).
//!
//! The page is read more strictly than a scrape reads it: a family's HELP and TYPE stand once and
//! before its samples, names keep to the old alphabet, and the last line is complete.

use std::collections::{BTreeMap, BTreeSet};

use super::parse::{Item, Lines, help_text};
use super::series::labels;
use super::{Format, Line};
use crate::model::text::{is_legacy_label_name, is_legacy_metric_name, quote};
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MetricKind};

/// Units that are their own base, as promtool knows them.
const BASE_UNITS: [&str; 10] = [
    "amperes", "bytes", "celsius", "grams", "joules", "kelvin", "meters", "metres", "seconds",
    "volts",
];
/// Units with the base to use in their position.
const OTHER_UNITS: [(&str, &str); 14] = [
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kelvins", "kelvin"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("pounds", "grams"),
    ("ounces", "grams"),
];
const PREFIXES: [&str; 18] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega",
    "mibi", "giga", "gibi", "tera", "tebi", "peta", "pebi",
];
const ABBREVIATIONS: [&str; 14] = [
    "s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d",
];

/// A mistake that makes the page unreadable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("text format parsing error in line {line}: {problem}")]
pub struct LintError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: LintProblem,
}

/// What is wrong with a line of a page, in the words of Go's parser.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LintProblem {
    /// It is no line of the format.
    #[error("{0}")]
    Line(&'static str),
    /// A second text for a metric.
    #[error("second HELP line for metric name {}", quote(.0))]
    SecondHelp(String),
    /// A second type, or one that comes late.
    #[error("second TYPE line for metric name {}, or TYPE reported after samples", quote(.0))]
    LateType(String),
    /// A backslash before a character that needs none.
    #[error("invalid escape sequence '\\{0}'")]
    Escape(char),
    /// A name that is none.
    #[error("invalid metric name {}", quote(.0))]
    MetricName(String),
    /// A label of this metric whose name is none.
    #[error("invalid label name for metric {}", quote(.0))]
    LabelName(String),
    /// A bound or a quantile that is no number.
    #[error("expected float as value for '{label}' label, got {}", quote(value))]
    Bound {
        /// `le` or `quantile`.
        label: &'static str,
        /// What stands there.
        value: String,
    },
    /// The last line has no end.
    #[error("unexpected end of input stream")]
    End,
}

/// Something unusual.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The family.
    pub metric: String,
    /// What is unusual.
    pub text: String,
}

/// A family as the linter sees it.
#[derive(Debug, Default)]
pub struct Family {
    has_help: bool,
    kind: Option<MetricKind>,
    /// Label sets in the order of the page: a histogram's without `le`, a summary's without
    /// `quantile`.
    metrics: Vec<Labels>,
    seen: BTreeSet<Labels>,
    repeated: usize,
    /// Buckets or quantiles of the first label set.
    parts: usize,
}

/// The families of a page, by name.
pub type Families = BTreeMap<String, Family>;

/// Reads a page in text format 0.0.4.
pub fn families(page: &[u8]) -> Result<Families, LintError> {
    let mut families = Families::new();
    let mut lines = Lines::new(page, Format::Text);
    loop {
        let item = lines.next(b"").map_err(|e| LintError {
            line: e.line,
            problem: LintProblem::Line(e.problem),
        })?;
        let Some(item) = item else { break };
        take(&mut families, item).map_err(|problem| LintError {
            line: lines.line().saturating_sub(1),
            problem,
        })?;
    }
    if !page.is_empty() && !page.ends_with(b"\n") {
        return Err(LintError {
            line: lines.line(),
            problem: LintProblem::End,
        });
    }
    families.retain(|_, family| !family.metrics.is_empty());
    Ok(families)
}

fn take(families: &mut Families, item: Item<'_>) -> Result<(), LintProblem> {
    match item {
        Item::Help(name, text) => {
            let family = families.entry(name.to_string()).or_default();
            if family.has_help {
                return Err(LintProblem::SecondHelp(name.to_string()));
            }
            family.has_help = !help_text(text.trim_start(), Format::Text).is_empty();
        }
        Item::Type(name, kind) => {
            let family = families.entry(name.to_string()).or_default();
            if family.kind.is_some() || !family.metrics.is_empty() {
                return Err(LintProblem::LateType(name.to_string()));
            }
            family.kind = Some(kind);
        }
        Item::Unit(..) => {}
        Item::Sample(line) => sample(families, &line)?,
    }
    Ok(())
}

fn sample(families: &mut Families, line: &Line<'_>) -> Result<(), LintProblem> {
    if let Some(escaped) = bad_escape(line.series) {
        return Err(LintProblem::Escape(escaped));
    }
    let mut builder = LabelsBuilder::new();
    labels(line.series, MetricKind::Untyped, &mut builder).map_err(LintProblem::Line)?;
    let all = builder.build();
    let name = all.metric_name().to_owned();
    if !is_legacy_metric_name(&name) {
        return Err(LintProblem::MetricName(name));
    }
    if all
        .iter()
        .any(|(label, _)| label != METRIC_NAME && !is_legacy_label_name(label))
    {
        return Err(LintProblem::LabelName(name));
    }
    let owner = owner(families, &name).to_owned();
    let family = families.entry(owner).or_default();
    builder.remove(METRIC_NAME);
    let part = match family.kind {
        Some(MetricKind::Histogram) => "le",
        Some(MetricKind::Summary) => "quantile",
        _ => {
            family.add(builder.build(), true);
            return Ok(());
        }
    };
    let value = all.get(part).map(str::to_owned);
    if let Some(text) = value.as_deref().filter(|text| text.parse::<f64>().is_err()) {
        return Err(LintProblem::Bound {
            label: part,
            value: text.to_owned(),
        });
    }
    builder.remove(part);
    family.add(builder.build(), false);
    family.parts += usize::from(value.is_some() && family.metrics.len() == 1);
    Ok(())
}

/// The first character behind a backslash that may not stand there.
fn bad_escape(series: &[u8]) -> Option<char> {
    let text = String::from_utf8_lossy(series);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            let escaped = characters.next().filter(|c| !matches!(c, '\\' | '"' | 'n'));
            if escaped.is_some() {
                return escaped;
            }
        }
    }
    None
}

/// The family of a sample: its own name's, or that of the histogram or summary which it is a part
/// of.
fn owner<'a>(families: &Families, name: &'a str) -> &'a str {
    let declared =
        |stem: &str, kind: MetricKind| families.get(stem).is_some_and(|f| f.kind == Some(kind));
    let plain = ["_count", "_sum"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    match (plain, name.strip_suffix("_bucket")) {
        _ if families.contains_key(name) => name,
        (Some(stem), _)
            if declared(stem, MetricKind::Summary) || declared(stem, MetricKind::Histogram) =>
        {
            stem
        }
        (_, Some(stem)) if declared(stem, MetricKind::Histogram) => stem,
        _ => name,
    }
}

impl Family {
    fn add(&mut self, labels: Labels, must_be_new: bool) {
        if self.seen.insert(labels.clone()) {
            self.metrics.push(labels);
        } else if must_be_new {
            self.repeated += 1;
        }
    }

    /// Series that the family makes.
    pub fn cardinality(&self) -> usize {
        match self.kind {
            Some(MetricKind::Histogram | MetricKind::Summary) => {
                self.metrics.len() * (2 + self.parts)
            }
            _ => self.metrics.len() + self.repeated,
        }
    }
}

/// Everything unusual, by metric and text.
pub fn lint(families: &Families) -> Vec<Finding> {
    let mut findings: Vec<Finding> = families
        .iter()
        .flat_map(|(name, family)| {
            about(name, family).into_iter().map(|text| Finding {
                metric: name.clone(),
                text,
            })
        })
        .collect();
    findings.sort();
    findings
}

fn about(name: &str, family: &Family) -> Vec<String> {
    let mut texts = Vec::new();
    let mut note = |condition: bool, text: &str| {
        if condition {
            texts.push(text.to_owned());
        }
    };
    let kind = family.kind.unwrap_or(MetricKind::Untyped);
    let (untyped, counter) = (kind == MetricKind::Untyped, kind == MetricKind::Counter);
    let (histogram, summary) = (kind == MetricKind::Histogram, kind == MetricKind::Summary);
    note(!family.has_help, "no help text");
    note(
        counter && !name.ends_with("_total"),
        "counter metrics should have \"_total\" suffix",
    );
    note(
        !untyped && !counter && name.ends_with("_total"),
        "non-counter metrics should not have \"_total\" suffix",
    );
    if !untyped {
        note(
            !histogram && name.ends_with("_bucket"),
            "non-histogram metrics should not have \"_bucket\" suffix",
        );
        let plain = !histogram && !summary;
        note(
            plain && name.ends_with("_count"),
            "non-histogram and non-summary metrics should not have \"_count\" suffix",
        );
        note(
            plain && name.ends_with("_sum"),
            "non-histogram and non-summary metrics should not have \"_sum\" suffix",
        );
        for labels in &family.metrics {
            note(
                !histogram && labels.get("le").is_some(),
                "non-histogram metrics should not have \"le\" label",
            );
            note(
                !summary && labels.get("quantile").is_some(),
                "non-summary metrics should not have \"quantile\" label",
            );
        }
    }
    note(name.contains(':'), "metric names should not contain ':'");
    note(
        is_camel_case(name),
        "metric names should be written in 'snake_case' not 'camelCase'",
    );
    for (label, _) in family.metrics.iter().flatten() {
        note(
            is_camel_case(label),
            "label names should be written in 'snake_case' not 'camelCase'",
        );
    }
    let lower = name.to_lowercase();
    let has_word =
        |word: &str| lower.contains(&format!("_{word}_")) || lower.ends_with(&format!("_{word}"));
    for abbreviation in ABBREVIATIONS {
        note(
            has_word(abbreviation),
            "metric names should not contain abbreviated units",
        );
    }
    (0..family.repeated).for_each(|_| note(true, "metric not unique"));
    if !untyped && has_word(kind.as_str()) {
        texts.push(format!(
            "metric name should not include type '{}'",
            kind.as_str()
        ));
    }
    if let Some((unit, base)) = name
        .split('_')
        .find_map(unit)
        .filter(|(unit, base)| unit != base)
    {
        texts.push(format!(
            "use base unit {} instead of {}",
            quote(base),
            quote(unit)
        ));
    }
    texts
}

/// Whether a lower-case letter meets an upper-case one.
fn is_camel_case(name: &str) -> bool {
    name.as_bytes()
        .windows(2)
        .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

/// A word that is a unit, with a prefix or without, and its base.
fn unit(word: &str) -> Option<(&str, &'static str)> {
    let known = |word: &str| {
        let base = BASE_UNITS.into_iter().find(|unit| *unit == word);
        base.or_else(|| {
            OTHER_UNITS
                .into_iter()
                .find(|(unit, _)| *unit == word)
                .map(|(_, base)| base)
        })
    };
    let prefixed = || {
        PREFIXES
            .iter()
            .find_map(|prefix| known(word.strip_prefix(prefix)?))
    };
    known(word).or_else(prefixed).map(|base| (word, base))
}
