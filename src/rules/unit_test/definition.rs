//! The test file: what is set up, and what is expected.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::config::{Document, Node};
use crate::model::{Labels, Timestamp};
use crate::promql::{ParseError, SeriesDescription, SeriesValue, parse_metric, parse_series};
use crate::rules::file::RuleFileErrors;
use crate::rules::file::reading::Reading;

/// A test file.
#[derive(Clone, Debug, PartialEq)]
pub struct TestFile {
    /// Rule files or globs, relative to the test file.
    pub rule_files: Vec<String>,
    /// Time between evaluations of all groups.
    pub evaluation_interval: Duration,
    /// Names of groups in the order of their evaluation; others rank with the first.
    pub group_eval_order: Vec<String>,
    /// Whether values may differ in the last bit.
    pub fuzzy_compare: bool,
    /// The tests.
    pub tests: Vec<TestGroup>,
}

/// One test: series, and what rules make of them.
#[derive(Clone, Debug, PartialEq)]
pub struct TestGroup {
    /// Its name, or empty.
    pub name: String,
    /// Distance of the values of a series.
    pub interval: Duration,
    /// When the first value stands.
    pub start: Timestamp,
    /// The series.
    pub series: Vec<SeriesDescription>,
    /// Why a series could not be read; the test then fails with this.
    pub broken_series: Option<String>,
    /// Expected alerts.
    pub alerts: Vec<AlertTest>,
    /// Expected values of expressions.
    pub exprs: Vec<ExprTest>,
    /// Labels for templates and alerts handed on.
    pub external_labels: Labels,
    /// URL for templates.
    pub external_url: String,
}

/// The alerts of one name at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertTest {
    /// Time after the start.
    pub eval_time: Duration,
    /// The alerts' name.
    pub alertname: String,
    /// All that fire.
    pub expected: Vec<ExpectedAlert>,
}

/// Names and values; unlike [`Labels`] with those whose value is empty, because promtool tells an
/// empty annotation from none.
pub type Pairs = BTreeMap<String, String>;

/// An alert that must fire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpectedAlert {
    /// Its labels, `alertname` included.
    pub labels: Pairs,
    /// Its annotations.
    pub annotations: Pairs,
}

/// The value of one expression at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct ExprTest {
    /// The expression as written.
    pub expr: String,
    /// Time after the start.
    pub eval_time: Duration,
    /// All samples; an error stands for one whose labels or histogram could not be read.
    pub expected: Vec<Result<ExpectedSample, SampleError>>,
}

/// One sample that an expression must have.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedSample {
    /// Its labels.
    pub labels: Labels,
    /// Its value; 0 of a native histogram.
    pub value: f64,
    /// The notation of the native histogram, if it is one.
    pub histogram: Option<String>,
}

impl TestFile {
    /// Reads a test file.
    pub fn read(path: &Path) -> Result<TestFile, RuleFileErrors> {
        let document = Document::read(path).map_err(Reading::refused)?;
        Self::check(&document)
    }

    /// Reads the text of a test file; `file` is its name for messages.
    pub fn parse(file: &str, text: &str) -> Result<TestFile, RuleFileErrors> {
        let document = Document::parse(file, text).map_err(Reading::refused)?;
        Self::check(&document)
    }

    fn check(document: &Document) -> Result<TestFile, RuleFileErrors> {
        const MINUTE: Duration = Duration::from_secs(60);
        let (mut reading, root) = (Reading::new(document), &document.root);
        reading.known_keys(
            root,
            &[
                "rule_files",
                "evaluation_interval",
                "group_eval_order",
                "fuzzy_compare",
                "tests",
            ],
        );
        let rule_files = texts(&mut reading, root, "rule_files");
        let group_eval_order = texts(&mut reading, root, "group_eval_order");
        if let Some(name) = repeated(&group_eval_order) {
            let position = root
                .get("group_eval_order")
                .map_or(root.position, |n| n.position);
            reading.error(
                position,
                format!("group name repeated in evaluation order: {name}"),
            );
        }
        let evaluation_interval = reading
            .duration(root, "evaluation_interval")
            .filter(|d| !d.is_zero())
            .unwrap_or(MINUTE);
        let fuzzy_compare = reading
            .text(root, "fuzzy_compare")
            .is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let nodes = reading.list(root, "tests");
        let tests = nodes
            .iter()
            .map(|node| read_group(&mut reading, node, evaluation_interval))
            .collect();
        reading.finish(TestFile {
            rule_files,
            evaluation_interval,
            group_eval_order,
            fuzzy_compare,
            tests,
        })
    }
}

const GROUP_KEYS: [&str; 8] = [
    "name",
    "interval",
    "start_timestamp",
    "input_series",
    "alert_rule_test",
    "promql_expr_test",
    "external_labels",
    "external_url",
];

fn read_group(reading: &mut Reading<'_>, node: &Node, default_interval: Duration) -> TestGroup {
    reading.known_keys(node, &GROUP_KEYS);
    let mut broken_series = None;
    let mut series = Vec::new();
    for (index, input) in reading.list(node, "input_series").iter().enumerate() {
        reading.known_keys(input, &["series", "values"]);
        let metric = reading.text(input, "series").unwrap_or_default();
        let values = reading.text(input, "values").unwrap_or_default();
        match parse_series(&format!("{} {}", metric.trim(), values.trim())) {
            Ok(description) => {
                // Of the same series twice, promtool takes the second.
                series.retain(|earlier: &SeriesDescription| earlier.labels != description.labels);
                series.push(description);
            }
            // promtool reads the series as lines of a script whose first line is its own.
            Err(mut error) => {
                error.line += index + 1;
                broken_series.get_or_insert(error.to_string());
            }
        }
    }
    TestGroup {
        name: reading.text(node, "name").unwrap_or_default(),
        interval: reading
            .duration(node, "interval")
            .filter(|d| !d.is_zero())
            .unwrap_or(default_interval),
        start: read_start(reading, node),
        series,
        broken_series,
        alerts: reading
            .list(node, "alert_rule_test")
            .iter()
            .map(|n| read_alert_test(reading, n))
            .collect(),
        exprs: reading
            .list(node, "promql_expr_test")
            .iter()
            .map(|n| read_expr_test(reading, n))
            .collect(),
        external_labels: Labels::from_pairs(read_pairs(reading, node, "external_labels")),
        external_url: reading.text(node, "external_url").unwrap_or_default(),
    }
}

fn read_start(reading: &mut Reading<'_>, node: &Node) -> Timestamp {
    let Some(text) = reading.text(node, "start_timestamp") else {
        return Timestamp(0);
    };
    let unix = text
        .parse::<f64>()
        .ok()
        .filter(|seconds| seconds.abs() < 1e12)
        .map(Timestamp::from_seconds);
    let time = unix.or_else(|| Timestamp::parse_rfc3339(&text));
    reading
        .parsed(
            node,
            "start_timestamp",
            time.ok_or(format!("{text:?} is neither Unix seconds nor RFC 3339")),
        )
        .unwrap_or_default()
}

fn read_alert_test(reading: &mut Reading<'_>, node: &Node) -> AlertTest {
    reading.known_keys(node, &["eval_time", "alertname", "exp_alerts"]);
    let alertname = reading.text(node, "alertname").unwrap_or_default();
    let mut expected: Vec<ExpectedAlert> = Vec::new();
    for alert in reading.list(node, "exp_alerts") {
        reading.known_keys(alert, &["exp_labels", "exp_annotations"]);
        let mut labels = read_pairs(reading, alert, "exp_labels");
        labels.insert("alertname".to_owned(), alertname.clone());
        expected.push(ExpectedAlert {
            labels,
            annotations: read_pairs(reading, alert, "exp_annotations"),
        });
    }
    expected.sort();
    AlertTest {
        eval_time: reading.duration(node, "eval_time").unwrap_or_default(),
        alertname,
        expected,
    }
}

fn read_expr_test(reading: &mut Reading<'_>, node: &Node) -> ExprTest {
    reading.known_keys(node, &["expr", "eval_time", "exp_samples"]);
    let mut expected = Vec::new();
    for sample in reading.list(node, "exp_samples") {
        reading.known_keys(sample, &["labels", "value", "histogram"]);
        let written = reading.text(sample, "labels").unwrap_or_default();
        let value = reading.text(sample, "value").unwrap_or_else(|| "0".into());
        let value = read_float(&value).ok_or(format!(
            "{value:?} is not a number; YAML writes .inf and .nan"
        ));
        let value = reading.parsed(sample, "value", value).unwrap_or(f64::NAN);
        let refused = |problem| SampleError {
            labels: written.clone(),
            problem,
        };
        let labels = parse_metric(&written).map_err(|error| refused(error.into()));
        let histogram = reading
            .text(sample, "histogram")
            .filter(|text| !text.is_empty())
            .map(|text| read_histogram(&text))
            .transpose();
        let histogram = histogram.map_err(refused);
        expected.push(labels.and_then(|labels| {
            Ok(ExpectedSample {
                labels,
                value,
                histogram: histogram?,
            })
        }));
    }
    let expr = reading.text(node, "expr").unwrap_or_default();
    ExprTest {
        expr,
        eval_time: reading.duration(node, "eval_time").unwrap_or_default(),
        expected,
    }
}

/// Why an expected sample is none, in promtool's words.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("labels {labels:?}: {problem}")]
pub struct SampleError {
    labels: String,
    problem: SampleProblem,
}

/// Why a text is neither a sample's labels nor a native histogram.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
enum SampleProblem {
    #[error(transparent)]
    Notation(#[from] ParseError),
    #[error("expected histogram, got {0:.6}")]
    Float(f64),
    #[error("expected histogram, got _")]
    Gap,
    #[error("expected 1 value, got {0}")]
    Values(usize),
}

/// A native histogram in the one way that it is printed.
fn read_histogram(text: &str) -> Result<String, SampleProblem> {
    let values = parse_series(&format!("{{}} {text}"))?.values;
    match values.get(0).filter(|_| values.len() == 1) {
        Some(SeriesValue::Histogram(histogram)) => Ok(histogram.notation()),
        Some(SeriesValue::Float(value)) => Err(SampleProblem::Float(*value)),
        Some(SeriesValue::Gap) => Err(SampleProblem::Gap),
        None => Err(SampleProblem::Values(values.len())),
    }
}

/// A number as YAML spells it: `1e3`, `0x1f`, `.inf`, `-.Inf`, `.nan`; without the dot those are
/// words, for promtool too.
fn read_float(text: &str) -> Option<f64> {
    let plain = text.replace('_', "");
    let sign = if plain.starts_with('-') { -1.0 } else { 1.0 };
    let digits = plain.strip_prefix(['-', '+']).unwrap_or(&plain);
    match digits {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    let based = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, base)| Some((digits.strip_prefix(prefix)?, base)));
    match based {
        Some((digits, base)) => u64::from_str_radix(digits, base)
            .ok()
            .map(|n| sign * n as f64),
        None => plain.parse().ok().filter(|n: &f64| n.is_finite()),
    }
}

fn read_pairs(reading: &mut Reading<'_>, node: &Node, key: &str) -> Pairs {
    let pairs = reading.mapping(node, key);
    pairs
        .iter()
        .map(|(name, _, value)| {
            (
                name.to_owned(),
                reading.scalar(value, name).unwrap_or_default(),
            )
        })
        .collect()
}

fn repeated(names: &[String]) -> Option<&String> {
    names
        .iter()
        .enumerate()
        .find(|(index, name)| names[..*index].contains(name))
        .map(|(_, name)| name)
}

fn texts(reading: &mut Reading<'_>, node: &Node, key: &str) -> Vec<String> {
    let items = reading.list(node, key);
    items
        .iter()
        .filter_map(|item| reading.scalar(item, key))
        .collect()
}
