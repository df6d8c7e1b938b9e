//! Running tests: a store of its own for each, every group once at each instant, then the
//! comparison.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::coverage::Coverage;
use super::definition::{
    AlertTest, ExpectedAlert, ExpectedSample, ExprTest, Pairs, SampleError, TestFile, TestGroup,
};
use super::diff;
use crate::model::text::{format_float_f, go_exponent, is_legacy_label_name, quote};
use crate::model::{HistogramSample, Sample, Timestamp, format_duration};
use crate::promql::{
    Engine, Expr, Plan, Results, SeriesValue, Sharing, Value, VectorSample, parse,
};
use crate::rules::backend::{Backend, Hits, hits};
use crate::rules::error::RuleError;
use crate::rules::evaluate::active::AlertState;
use crate::rules::evaluate::group::{Group, Settings};
use crate::rules::{Rule, RuleGroup};
use crate::store::{Limits, SeriesId, Store};

/// Samples that one query of a test may load.
const MAX_SAMPLES: usize = 10_000;

/// How much a run tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Alerts that differ are shown member by member, in colours.
    pub diff: bool,
    /// All samples are shown at the end.
    pub dump: bool,
}

/// What became of a test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What failed, each as promtool prints it.
    pub failures: Vec<String>,
    /// All samples at the end, if that was wished and the rules could be evaluated.
    pub dump: Option<String>,
}

/// Runs one test of a file over the groups of its rule files; `coverage` looks on.
pub fn run(
    file: &TestFile,
    test: &TestGroup,
    groups: &[RuleGroup],
    options: Options,
    coverage: Option<&mut Coverage>,
) -> Outcome {
    let mut groups: Vec<&RuleGroup> = groups.iter().collect();
    groups.sort_by_key(|g| {
        file.group_eval_order
            .iter()
            .position(|name| *name == g.name)
            .unwrap_or(0)
    });
    Run::new(file, test, &groups, options, coverage).outcome()
}

/// The store of a test, queried as the rules of a running instance query theirs.
struct TestBackend {
    store: Store,
    engine: Engine,
}

impl TestBackend {
    fn value(&self, engine: &Engine, expr: &Expr, at: Timestamp) -> Hits {
        hits(engine.instant(&self.store, expr, at)?.value)
    }
}

impl Backend for TestBackend {
    fn query(&self, expr: &Expr, at: Timestamp) -> Hits {
        self.value(&self.engine, expr, at)
    }

    fn query_sharing(&self, expr: &Expr, at: Timestamp, sharing: Sharing) -> Hits {
        self.value(
            &Engine {
                sharing: Some(sharing),
                ..self.engine.clone()
            },
            expr,
            at,
        )
    }

    fn query_text(&self, text: &str, at: Timestamp) -> Hits {
        self.value(&self.engine, &parse(text)?, at)
    }

    fn append(&self, at: Timestamp, samples: &[Sample]) {
        self.store.append(at, samples);
    }

    fn append_histograms(&self, at: Timestamp, samples: &[HistogramSample]) {
        self.store.append_histograms(at, samples);
    }
}

struct Run<'a> {
    file: &'a TestFile,
    test: &'a TestGroup,
    options: Options,
    coverage: Option<&'a mut Coverage>,
    groups: Vec<Group>,
    /// All their expressions.
    plan: Arc<Plan>,
    settings: Settings,
    backend: Arc<TestBackend>,
    /// The input series in the store; `None` where it has no room.
    ids: Vec<Option<SeriesId>>,
    /// For each series, how many of its values are in the store.
    loaded: usize,
}

impl<'a> Run<'a> {
    fn new(
        file: &'a TestFile,
        test: &'a TestGroup,
        groups: &[&RuleGroup],
        options: Options,
        coverage: Option<&'a mut Coverage>,
    ) -> Self {
        let settings = Settings {
            interval: file.evaluation_interval,
            // Annotations are expanded anew when an alert is sent; a test sees those of the
            // instant, so every instant sends.
            resend_delay: Duration::ZERO,
            external_labels: test.external_labels.clone(),
            external_url: test.external_url.clone(),
            // As promtool judges: a rule that is to hold its alerts says so.
            hold_gaps: false,
            ..Settings::default()
        };
        let engine = Engine {
            max_samples: MAX_SAMPLES,
            default_step: file.evaluation_interval,
            ..Engine::default()
        };
        let mut groups: Vec<Group> = groups
            .iter()
            .map(|g| Group::new((*g).clone(), &settings))
            .collect();
        let mut plan = Plan::default();
        groups.iter_mut().for_each(|group| group.plan(&mut plan));
        plan.finish();
        groups.iter_mut().for_each(|group| group.planned(&plan));
        let backend = Arc::new(TestBackend {
            store: Store::new(Limits::default()),
            engine,
        });
        Run {
            file,
            test,
            options,
            coverage,
            groups,
            plan: Arc::new(plan),
            settings,
            backend,
            ids: Vec::new(),
            loaded: 0,
        }
    }

    fn outcome(mut self) -> Outcome {
        let only = |failure: String| Outcome {
            failures: vec![failure],
            dump: None,
        };
        if let Some(problem) = &self.test.broken_series {
            return only(problem.clone());
        }
        let mut values = self
            .test
            .series
            .iter()
            .flat_map(|series| series.values.runs());
        let invalid = |value: &SeriesValue| {
            if let SeriesValue::Histogram(histogram) = value {
                histogram.validate().err()
            } else {
                None
            }
        };
        if let Some(error) = values.find_map(invalid) {
            return only(error.to_string());
        }
        if let Some(test) = self.test.alerts.iter().find(|t| t.alertname.is_empty()) {
            let time = format_duration(test.eval_time);
            let group = if self.test.name.is_empty() {
                String::new()
            } else {
                format!(" (in TestGroup {})", self.test.name)
            };
            return only(format!(
                "an item under alert_rule_test misses required attribute alertname at eval_time {time}{group}"
            ));
        }
        let mut failures = Vec::new();
        let times = self
            .test
            .alerts
            .iter()
            .map(|t| t.eval_time)
            .chain(self.test.exprs.iter().map(|t| t.eval_time));
        let last = times.max().unwrap_or_default();
        let mut alerts: Vec<&AlertTest> = self.test.alerts.iter().collect();
        alerts.sort_by_key(|t| t.eval_time);
        let mut elapsed = Duration::ZERO;
        while elapsed <= last {
            let now = self.test.start + elapsed;
            self.load(now);
            let errors = self.evaluate(now);
            if !errors.is_empty() {
                failures.extend(errors);
                return Outcome {
                    failures,
                    dump: None,
                };
            }
            let next = elapsed + self.file.evaluation_interval;
            let due = alerts
                .iter()
                .filter(|t| (elapsed..next).contains(&t.eval_time));
            failures.extend(due.filter_map(|t| self.check_alerts(t)));
            elapsed = next;
        }
        // What lies after the last evaluation stays unseen.
        failures.extend(self.test.exprs.iter().filter_map(|t| self.check_expr(t)));
        let dump = self.options.dump.then(|| self.dump(last));
        Outcome { failures, dump }
    }

    /// All samples up to the second after `last`, the first instant excepted, as promtool's
    /// `--debug` prints them.
    fn dump(&self, last: Duration) -> String {
        let last = Duration::from_secs(last.as_secs() + 1);
        let text = format!("{{__name__=~\".+\"}}[{}]", format_duration(last));
        let value = parse(&text).map_err(|e| e.to_string()).and_then(|expr| {
            self.backend
                .engine
                .instant(&self.backend.store, &expr, self.test.start + last)
                .map_err(|e| e.to_string())
        });
        match value.map(|evaluated| evaluated.value) {
            Err(error) => format!(
                "DEBUG: Failed query exec, expr: {}, err: {error}\n",
                quote(&text)
            ),
            Ok(Value::Matrix(mut series)) => {
                series.sort_by(|a, b| a.labels.cmp(&b.labels));
                let at = go_duration(Timestamp(0) + last);
                let mut out =
                    format!("DEBUG: Dump of all data (input_series and rules) at {at}:\n");
                for one in &series {
                    let _ = writeln!(out, "{} =>", one.labels.braced());
                    for (at, value) in &one.points {
                        let _ = writeln!(out, "{} @[{}]", format_float_f(*value), at.0);
                    }
                    for (at, histogram) in &one.histograms {
                        let _ = writeln!(out, "{histogram} @[{}]", at.0);
                    }
                }
                if series.is_empty() {
                    out.push('\n');
                }
                out
            }
            Ok(_) => String::new(),
        }
    }

    /// Makes the values up to `now` visible.
    fn load(&mut self, now: Timestamp) {
        let longest = self
            .test
            .series
            .iter()
            .map(|s| s.values.len())
            .max()
            .unwrap_or(0);
        while self.loaded < longest {
            let ahead = self
                .test
                .interval
                .saturating_mul(u32::try_from(self.loaded).unwrap_or(u32::MAX));
            let at = self.test.start + ahead;
            if at > now {
                return;
            }
            if self.ids.is_empty() {
                self.ids = self
                    .test
                    .series
                    .iter()
                    .map(|s| self.backend.store.series_id(&s.labels).ok())
                    .collect();
            }
            let (mut floats, mut histograms) = (Vec::new(), Vec::new());
            for (id, series) in self.ids.iter().zip(&self.test.series) {
                match (id, series.values.get(self.loaded)) {
                    (Some(id), Some(SeriesValue::Float(value))) => floats.push((*id, *value)),
                    (Some(id), Some(SeriesValue::Histogram(histogram))) => {
                        histograms.push((*id, Arc::clone(histogram)))
                    }
                    _ => {}
                }
            }
            self.backend.store.append_ids(at, &floats);
            if !histograms.is_empty() {
                self.backend.store.append_histogram_ids(at, &histograms);
            }
            self.loaded += 1;
        }
    }

    /// Evaluates every group; returns the errors of rules.
    fn evaluate(&mut self, now: Timestamp) -> Vec<String> {
        let backend: Arc<dyn Backend> = self.backend.clone();
        let since_epoch = go_duration(now);
        let mut errors = Vec::new();
        let results = Arc::new(Results::new(self.plan.clone(), now));
        for group in &mut self.groups {
            group.eval_sharing(&backend, now, &self.settings, &results);
            for rule in &group.rules {
                if let Some(error) = &rule.health.last_error {
                    errors.push(format!(
                        "    rule: {}, time: {since_epoch}, err: {error}",
                        rule.rule.name()
                    ));
                }
            }
        }
        if let Some(coverage) = &mut self.coverage {
            coverage.observe(&self.groups, &self.backend.engine, &self.backend.store, now);
        }
        errors
    }

    fn check_alerts(&self, test: &AlertTest) -> Option<String> {
        let rules = self.groups.iter().flat_map(|g| &g.rules);
        let mut firing: Vec<ExpectedAlert> = Vec::new();
        for running in rules {
            let (Rule::Alerting(rule), Some(state)) = (&*running.rule, &running.alerting) else {
                continue;
            };
            for alert in state
                .alerts()
                .filter(|alert| rule.name == test.alertname && alert.state == AlertState::Firing)
            {
                let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                let annotations = rule
                    .annotations
                    .iter()
                    .map(|(name, _)| pair((name, alert.annotations.value(name))))
                    .collect();
                firing.push(ExpectedAlert {
                    labels: alert.labels.iter().map(pair).collect(),
                    annotations,
                });
            }
        }
        firing.sort();
        if firing == test.expected {
            return None;
        }
        let (name, time) = (&test.alertname, format_duration(test.eval_time));
        if self.options.diff {
            let diff = diff::alerts(&test.expected, &firing).replace('\n', "\n            ");
            return Some(format!(
                "{}    alertname: {name}, time: {time}, \n        diff: {diff}",
                self.title()
            ));
        }
        let (expected, got) = (alert_list(&test.expected), alert_list(&firing));
        Some(format!(
            "{}    alertname: {name}, time: {time}, \n        exp:{expected}, \n        got:{got}",
            self.title()
        ))
    }

    fn title(&self) -> String {
        if self.test.name.is_empty() {
            String::new()
        } else {
            format!("    name: {},\n", self.test.name)
        }
    }

    fn check_expr(&self, test: &ExprTest) -> Option<String> {
        let head = format!(
            "    expr: {}, time: {},",
            quote(&test.expr),
            format_duration(test.eval_time)
        );
        let query = || -> Result<Vec<ExpectedSample>, RuleError> {
            let expr = parse(&test.expr)?;
            let found = self
                .backend
                .query(&expr, self.test.start + test.eval_time)?;
            let shown = |sample: VectorSample| ExpectedSample {
                labels: sample.labels,
                value: sample.value,
                histogram: sample.histogram.map(|histogram| histogram.notation()),
            };
            Ok(found.into_iter().map(shown).collect())
        };
        let wanted: Result<Vec<ExpectedSample>, &SampleError> = test
            .expected
            .iter()
            .map(|sample| sample.as_ref().cloned())
            .collect();
        let (mut got, mut wanted) = match (query(), wanted) {
            (Ok(got), Ok(wanted)) => (got, wanted),
            (Err(error), _) => return Some(format!("{head} err: {error}")),
            (_, Err(error)) => return Some(format!("{head} err: {error}")),
        };
        got.sort_by(|a, b| a.labels.cmp(&b.labels));
        wanted.sort_by(|a, b| a.labels.cmp(&b.labels));
        let same = |(a, b): (&ExpectedSample, &ExpectedSample)| {
            a.labels == b.labels && self.equal(a.value, b.value) && a.histogram == b.histogram
        };
        if got.len() == wanted.len() && got.iter().zip(&wanted).all(same) {
            return None;
        }
        Some(format!(
            "{head}\n        exp: {}\n        got: {}",
            sample_list(&wanted),
            sample_list(&got)
        ))
    }

    /// Whether two values are equal; with `fuzzy_compare`, or neighbours.
    fn equal(&self, a: f64, b: f64) -> bool {
        a == b || (self.file.fuzzy_compare && (a.next_up() == b || a.next_down() == b))
    }
}

/// Time since the epoch as Go writes a duration: `1m0s`, `1h0m0s`.
fn go_duration(at: Timestamp) -> String {
    let (sign, ms) = (if at.0 < 0 { "-" } else { "" }, at.0.unsigned_abs());
    let (hours, minutes, seconds) = (
        ms / 3_600_000,
        ms / 60_000 % 60,
        (ms % 60_000) as f64 / 1000.0,
    );
    match (hours, minutes) {
        (0, 0) if seconds > 0.0 && seconds < 1.0 => format!("{sign}{ms}ms"),
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `{a="b", c=""}`.
fn braced(pairs: &Pairs) -> String {
    let name = |name: &str| {
        if is_legacy_label_name(name) {
            name.to_owned()
        } else {
            quote(name)
        }
    };
    let parts: Vec<String> = pairs
        .iter()
        .map(|(n, value)| format!("{}={}", name(n), quote(value)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

fn alert_list(alerts: &[ExpectedAlert]) -> String {
    if alerts.is_empty() {
        return "[]".into();
    }
    let mut out = String::from("[");
    for (index, alert) in alerts.iter().enumerate() {
        let (comma, labels, annotations) = (
            if index > 0 { "," } else { "" },
            braced(&alert.labels),
            braced(&alert.annotations),
        );
        let pad = "              ";
        let _ = write!(
            out,
            "{comma}\n            {index}:\n{pad}Labels:{labels}\n{pad}Annotations:{annotations}"
        );
    }
    out.push_str("\n            ]");
    out
}

fn sample_list(samples: &[ExpectedSample]) -> String {
    if samples.is_empty() {
        return "nil".into();
    }
    let shown = |sample: &ExpectedSample| {
        let value = sample
            .histogram
            .clone()
            .unwrap_or_else(|| scientific(sample.value));
        format!("{} {value}", sample.labels.braced())
    };
    samples.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Go's `FormatFloat(v, 'E', -1, 64)`: `1E+00`.
fn scientific(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".into(),
        v if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.into(),
        v => go_exponent(&format!("{v:e}")).replace('e', "E"),
    }
}
