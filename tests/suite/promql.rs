//! Runs `tests/promql/*.test`, written in the script language of Prometheus's own `promqltest`
//! (<https://pkg.go.dev/github.com/prometheus/prometheus/promql/promqltest>): `clear`, `load STEP`,
//! `eval instant at T EXPR`, `eval range from A to B step S EXPR`, with `expect fail msg: TEXT`,
//! `expect ordered`, `expect warn` and `expect info` below. Native histograms stand as
//! `{{schema:0 sum:1 count:1 buckets:[1]}}`, their hints included.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nightbell::model::{
    HistogramSample, Labels, MatchOp, Matcher, NativeHistogram, STALE_NAN_BITS, Sample, Timestamp,
    parse_duration, stale_nan,
};
use nightbell::promql::{
    Engine, Expr, Interrupt, MatrixSeries, ParseOptions, SeriesValue, Severity, Value,
    parse_selector, parse_series, parse_with,
};
use nightbell::store::{Limits, Store};

/// The values of a series description with native histograms; `None` is a gap.
fn expand_all(text: &str) -> Vec<Option<Point>> {
    if !text.contains("{{") {
        return expand(text)
            .into_iter()
            .map(|value| value.map(Point::Float))
            .collect();
    }
    let point = |value: SeriesValue| match value {
        SeriesValue::Gap => None,
        SeriesValue::Float(value) => Some(Point::Float(value)),
        SeriesValue::Histogram(histogram) => Some(Point::Histogram(histogram)),
    };
    parse_series(&format!("x {}", text.trim()))
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .values
        .iter()
        .cloned()
        .map(point)
        .collect()
}

/// A sample of a script.
#[derive(Clone, Debug)]
enum Point {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
}

/// The values of a series description; `None` is a gap.
fn expand(text: &str) -> Vec<Option<f64>> {
    let number = |text: &str| match text {
        "stale" => stale_nan(),
        other => other
            .parse::<f64>()
            .unwrap_or_else(|_| panic!("not a value: {other:?}")),
    };
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        if let Some(times) = word.strip_prefix("_x") {
            out.extend(vec![None; times.parse().expect("a count of gaps")]);
            continue;
        }
        if word == "_" {
            out.push(None);
            continue;
        }
        let Some((series, times)) = word.split_once('x').filter(|(head, _)| !head.is_empty())
        else {
            out.push(Some(number(word)));
            continue;
        };
        let times: usize = times.parse().expect("a count of repetitions");
        let split = series
            .char_indices()
            .skip(1)
            .find(|(i, c)| matches!(c, '+' | '-') && !series[..*i].ends_with('e'))
            .map(|(i, _)| i);
        let (first, delta) = match split {
            Some(i) => (
                number(&series[..i]),
                number(series[i..].trim_start_matches('+')),
            ),
            None => (number(series), 0.0),
        };
        out.extend((0..=times).map(|n| Some(first + delta * n as f64)));
    }
    out
}

/// `name{a="b"}` and the text after it.
fn series(line: &str) -> (Labels, &str) {
    let end = match line.find(['{', ' ']) {
        Some(brace) if line[brace..].starts_with('{') => {
            line.find("} ").map_or(line.len(), |i| i + 1)
        }
        other => other.unwrap_or(line.len()),
    };
    let (metric, rest) = line.split_at(end);
    if metric == "{}" {
        return (Labels::empty(), rest);
    }
    let matchers: Vec<Matcher> = parse_selector(metric).unwrap_or_else(|e| panic!("{metric}: {e}"));
    assert!(
        matchers.iter().all(|m| m.op == MatchOp::Equal),
        "{metric}: only = describes a series"
    );
    (
        Labels::from_pairs(matchers.iter().map(|m| (m.name.as_str(), m.value.as_str()))),
        rest,
    )
}

fn millis(text: &str) -> i64 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let whole = text.parse::<f64>().map(|seconds| (seconds * 1000.0) as i64);
    sign * whole.unwrap_or_else(|_| {
        parse_duration(text)
            .unwrap_or_else(|e| panic!("{text}: {e}"))
            .as_millis() as i64
    })
}

/// One `eval` with what is expected of it.
#[derive(Default)]
struct Case {
    place: String,
    expr: String,
    instant: i64,
    range: Option<(i64, i64)>,
    fail: Option<String>,
    ordered: bool,
    annotations: Vec<(Severity, String)>,
    series: Vec<(Labels, Vec<Option<Point>>)>,
    scalar: Option<f64>,
}

impl Case {
    fn header(line: &str, place: String) -> Case {
        let mut case = Case {
            place,
            ..Case::default()
        };
        if let Some(rest) = line.strip_prefix("eval instant at ") {
            let (at, expr) = rest
                .split_once(' ')
                .expect("an expression after the instant");
            (case.instant, case.expr) = (millis(at), expr.trim().into());
        } else {
            let rest = line
                .strip_prefix("eval range from ")
                .unwrap_or_else(|| panic!("{}: {line}", case.place));
            let words: Vec<&str> = rest.splitn(6, ' ').collect();
            (case.instant, case.range, case.expr) = (
                millis(words[0]),
                Some((millis(words[2]), millis(words[4]))),
                words[5].trim().into(),
            );
        }
        case
    }

    fn expect(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("expect ") {
            let (what, text) = rest.split_once(" msg: ").unwrap_or((rest, ""));
            match what {
                "fail" => self.fail = Some(text.into()),
                "ordered" => self.ordered = true,
                "warn" => self.annotations.push((Severity::Warning, text.into())),
                "info" => self.annotations.push((Severity::Info, text.into())),
                other => panic!("{}: unknown expectation {other:?}", self.place),
            }
        } else if let Ok(value) = line.parse() {
            self.scalar = Some(value);
        } else {
            let (labels, values) = series(line);
            self.series.push((labels, expand_all(values)));
        }
    }

    fn check(&self, store: &Store) {
        let place = format!("{}: {}", self.place, self.expr);
        let engine = Engine::default();
        let result = parse_with(&self.expr, ParseOptions { experimental: true })
            .map_err(|e| e.to_string())
            .and_then(|expr| {
                let start = Timestamp(self.instant);
                match self.range {
                    None => engine.instant(store, &expr, start),
                    Some((end, step)) => engine.range(
                        store,
                        &expr,
                        start,
                        Timestamp(end),
                        Duration::from_millis(step as u64),
                    ),
                }
                .map_err(|e| e.to_string())
            });
        let evaluated = match (result, &self.fail) {
            (Err(error), Some(expected)) => {
                return assert!(
                    error.contains(expected.as_str()),
                    "{place}\n  fails with {error}"
                );
            }
            (Ok(evaluated), None) => evaluated,
            (result, _) => panic!("{place}\n  gives {result:?}"),
        };
        for severity in [Severity::Warning, Severity::Info] {
            let expected: Vec<&String> = self
                .annotations
                .iter()
                .filter(|(s, _)| *s == severity)
                .map(|(_, text)| text)
                .collect();
            let annotations = evaluated.annotations(severity, &self.expr);
            assert_eq!(
                annotations.len(),
                expected.len(),
                "{place}\n  annotations {annotations:?}"
            );
            assert!(
                expected
                    .iter()
                    .all(|text| annotations.iter().any(|r| r.contains(text.as_str()))),
                "{place}\n  annotations {annotations:?}"
            );
        }
        let point = |value: f64, histogram: Option<Arc<NativeHistogram>>| {
            histogram.map_or(Point::Float(value), Point::Histogram)
        };
        let rows: Vec<(Labels, Vec<(i64, Point)>)> = match evaluated.value {
            Value::Scalar(value) => return self.same(self.scalar, Some(value), &place),
            Value::String(text) => return assert_eq!(self.expr.trim_matches('"'), text),
            Value::Vector(samples) => samples
                .into_iter()
                .map(|s| (s.labels, vec![(self.instant, point(s.value, s.histogram))]))
                .collect(),
            Value::Matrix(all) => {
                let points = |s: MatrixSeries| {
                    let floats = s.points.into_iter().map(|(t, v)| (t.0, Point::Float(v)));
                    let mut all: Vec<(i64, Point)> = floats
                        .chain(
                            s.histograms
                                .into_iter()
                                .map(|(t, h)| (t.0, Point::Histogram(h))),
                        )
                        .collect();
                    all.sort_by_key(|(t, _)| *t);
                    (s.labels, all)
                };
                all.into_iter().map(points).collect()
            }
        };
        self.compare(rows, &place);
    }

    fn compare(&self, rows: Vec<(Labels, Vec<(i64, Point)>)>, place: &str) {
        let expected = || {
            self.series
                .iter()
                .map(|(labels, _)| labels.to_string())
                .collect::<Vec<_>>()
        };
        if self.ordered {
            let got: Vec<String> = rows.iter().map(|(labels, _)| labels.to_string()).collect();
            assert_eq!(got, expected(), "{place}");
        }
        let got: BTreeMap<String, Vec<(i64, Point)>> = rows
            .into_iter()
            .map(|(labels, points)| (labels.to_string(), points))
            .collect();
        assert_eq!(
            got.keys()
                .cloned()
                .collect::<std::collections::BTreeSet<_>>(),
            expected().into_iter().collect(),
            "{place}\n  {got:?}"
        );
        let step = self.range.map_or(0, |(_, step)| step);
        for (labels, values) in &self.series {
            let points = &got[&labels.to_string()];
            let wanted: Vec<(i64, Point)> = values
                .iter()
                .enumerate()
                .filter_map(|(n, v)| v.clone().map(|v| (self.instant + n as i64 * step, v)))
                .collect();
            let times =
                |points: &[(i64, Point)]| points.iter().map(|(t, _)| *t).collect::<Vec<_>>();
            assert_eq!(times(points), times(&wanted), "{place}\n  {labels}");
            points
                .iter()
                .zip(&wanted)
                .for_each(|(got, want)| match (&want.1, &got.1) {
                    (Point::Float(want), Point::Float(got)) => {
                        self.same(Some(*want), Some(*got), place)
                    }
                    (Point::Histogram(want), Point::Histogram(got)) => {
                        assert_eq!(got.notation(), want.notation(), "{place}\n  {labels}")
                    }
                    (want, got) => panic!("{place}\n  {labels}: wanted {want:?}, got {got:?}"),
                });
        }
    }

    fn same(&self, want: Option<f64>, got: Option<f64>, place: &str) {
        let (Some(want), Some(got)) = (want, got) else {
            panic!("{place}\n  wanted {want:?}, got {got:?}")
        };
        let equal = want == got
            || (want.is_nan() && got.is_nan())
            || (want - got).abs() <= 1e-12 * want.abs().max(got.abs());
        assert!(equal, "{place}\n  wanted {want}, got {got}");
    }
}

fn load(store: &Store, interval: i64, lines: &[&str]) {
    for line in lines {
        let (labels, values) = series(line);
        for (index, point) in expand_all(values).into_iter().enumerate() {
            let at = Timestamp(index as i64 * interval);
            let labels = labels.clone();
            let taken = match point {
                Some(Point::Float(value)) => store.append(
                    at,
                    &[Sample {
                        labels,
                        value,
                        timestamp: None,
                    }],
                ),
                Some(Point::Histogram(histogram)) => store.append_histograms(
                    at,
                    &[HistogramSample {
                        labels,
                        histogram,
                        timestamp: None,
                    }],
                ),
                None => continue,
            };
            assert_eq!(taken.appended, 1, "{line}: {taken:?}");
        }
    }
}

fn run(path: &PathBuf) -> usize {
    let text = fs::read_to_string(path).expect("the script can be read");
    let mut store = Store::new(Limits::default());
    let mut cases = 0;
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let mut block = Vec::new();
        while let Some((_, below)) =
            lines.next_if(|(_, l)| l.starts_with([' ', '\t']) && !l.trim().is_empty())
        {
            block.push(below.trim());
        }
        block.retain(|l| !l.starts_with('#'));
        if line == "clear" {
            store = Store::new(Limits::default());
        } else if let Some(interval) = line.strip_prefix("load ") {
            load(&store, millis(interval), &block);
        } else {
            let mut case = Case::header(line, format!("{}:{}", path.display(), number + 1));
            block.iter().for_each(|l| case.expect(l));
            case.check(&store);
            cases += 1;
        }
    }
    cases
}

/// SEMANTICS parts A.1, A.5 and B: each script names the rules it covers.
#[test]
fn every_script_gets_the_answers_it_expects() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/promql");
    let mut scripts: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder exists")
        .map(|e| e.expect("an entry").path())
        .collect();
    scripts.retain(|p| p.extension().is_some_and(|e| e == "test"));
    scripts.sort();
    assert!(!scripts.is_empty());
    for script in scripts {
        assert!(run(&script) > 0, "{} evaluates nothing", script.display());
    }
}

fn expr(text: &str) -> Expr {
    parse_with(text, ParseOptions { experimental: true }).expect("valid")
}

fn steady() -> Store {
    let store = Store::new(Limits::default());
    load(&store, 15_000, &["up{i=\"0\"} 1x400", "up{i=\"1\"} 1x400"]);
    store
}

/// SEMANTICS 52: limits and interrupts end a query with Prometheus's texts.
#[test]
fn a_query_ends_at_its_limits() {
    let store = steady();
    let small = Engine {
        max_samples: 100,
        ..Engine::default()
    };
    let error = small
        .instant(&store, &expr("sum_over_time(up[1h])"), Timestamp(6_000_000))
        .expect_err("too many samples");
    assert_eq!(
        error.to_string(),
        "query processing would load too many samples into memory in query execution"
    );
    // The limit is on what is held at once: series are read one after another, and operands are
    // free once the result is there.
    let many = Store::new(Limits::default());
    for time in 1..=60 {
        let batch: Vec<Sample> = (0..50)
            .map(|i| Sample {
                labels: Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())]),
                value: 1.0,
                timestamp: None,
            })
            .collect();
        many.append(Timestamp(time * 1000), &batch);
    }
    let enough = Engine {
        max_samples: 200,
        ..Engine::default()
    };
    let query =
        expr("sum(rate(m[1m])) + sum(rate(m[1m])) + sum(rate(m[1m])) + sum(rate(m[1m])) + sum(m)");
    assert!(enough.instant(&many, &query, Timestamp(60_000)).is_ok());
    let flag = std::sync::Arc::new(Interrupt::new());
    let engine = Engine {
        interrupt: Some(flag.clone()),
        ..Engine::default()
    };
    assert!(
        engine
            .instant(&store, &expr("up"), Timestamp(60_000))
            .is_ok()
    );
    flag.cancel();
    let error = engine
        .instant(&store, &expr("up"), Timestamp(60_000))
        .expect_err("cancelled");
    assert_eq!(
        error.to_string(),
        "query was canceled in expression evaluation"
    );
    flag.time_out();
    let error = engine
        .instant(&store, &expr("up"), Timestamp(60_000))
        .expect_err("timed out");
    assert_eq!(
        error.to_string(),
        "query timed out in expression evaluation"
    );
}

/// SEMANTICS 1, 2, 5: the stale marker is a bit pattern; another NaN is a value.
#[test]
fn only_the_marker_itself_ends_a_series() {
    let store = Store::new(Limits::default());
    let other = f64::from_bits(STALE_NAN_BITS | 0x0008_0000_0000_0000);
    for (name, value) in [("gone", stale_nan()), ("odd", other)] {
        store.append(
            Timestamp(0),
            &[Sample {
                labels: Labels::from_pairs([("__name__", name)]),
                value,
                timestamp: None,
            }],
        );
    }
    let count = |text: &str| match Engine::default()
        .instant(&store, &expr(text), Timestamp(1000))
        .expect("evaluates")
        .value
    {
        Value::Vector(samples) => samples.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((count("gone"), count("odd")), (0, 1));
}

/// Multi-line queries: an annotation names the line and the column in it.
#[test]
fn remarks_name_line_and_column() {
    let store = steady();
    let text = "1 +\n  rate(up[5m])";
    let evaluated = Engine::default()
        .instant(&store, &expr(text), Timestamp(600_000))
        .expect("evaluates");
    let annotations = evaluated.annotations(Severity::Info, text);
    assert_eq!(annotations.len(), 1);
    assert!(annotations[0].ends_with("\"up\" (2:8)"), "{annotations:?}");
}
