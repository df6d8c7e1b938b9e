//! What speaks for an alert that begins to fire: the values of the parts of its expression, the
//! threshold, the age of the samples, the value when all was well, and what used most of the
//! machine or the database. It is gathered within a budget: an alert waits for no card.

use std::time::{Duration, Instant};

use crate::model::alert::evidence::{Clue, Top};
use crate::model::time::millis;
use crate::model::{Alert, Labels, Timestamp};
use crate::promql::syntax::ast::ValueType;
use crate::promql::{Expr, VectorSample, deep};
use crate::rules::AlertingRule;
use crate::rules::backend::Backend;

/// No query is begun after this time.
const BUDGET: Duration = Duration::from_millis(50);
/// Most alerts of one rule and evaluation that get evidence.
const MAX_ALERTS: usize = 5;
/// Most parts of an expression that are shown.
const MAX_PARTS: usize = 6;
/// The picture: how far it looks back and how far its points are apart, closer where less than
/// `PICTURE_POINTS` are known: a series that is new has a curve, too. And of how many series one is
/// drawn.
const PICTURES: [(Duration, Duration); 3] = [
    (Duration::from_secs(3600), Duration::from_secs(60)),
    (Duration::from_secs(600), Duration::from_secs(10)),
    (Duration::from_secs(60), Duration::from_secs(1)),
];
const PICTURE_POINTS: usize = 8;
const PICTURE_SERIES: usize = 200;
/// Most users of something that are named.
const MAX_ITEMS: usize = 3;

/// The evaluation in which alerts began to fire.
pub(in crate::rules) struct Scene<'a> {
    /// Answers expressions.
    pub backend: &'a dyn Backend,
    /// The instant of the samples.
    pub at: Timestamp,
    /// The instant of the evaluation.
    pub now: Timestamp,
    /// Time between evaluations.
    pub interval: Duration,
}

impl Scene<'_> {
    /// Adds evidence to those of `alerts` that began to fire at this evaluation, and to those that
    /// are over the value that all is well with.
    pub(in crate::rules) fn add(&self, rule: &AlertingRule, alerts: &mut [Alert]) {
        let mut ended: Vec<&mut Alert> = alerts
            .iter_mut()
            .filter(|alert| alert.ends_at.is_some())
            .collect();
        if !ended.is_empty()
            && let Ok(found) = self.backend.query(sides(&rule.expr).0, self.at)
        {
            for alert in &mut ended {
                alert.value = at_labels(&found, &alert.labels).and_then(finite);
            }
        }
        let mut fresh: Vec<&mut Alert> = alerts
            .iter_mut()
            .filter(|a| a.starts_at == self.now && a.ends_at.is_none())
            .take(MAX_ALERTS)
            .collect();
        if fresh.is_empty() {
            return;
        }
        let begun = Instant::now();
        let in_time = || begun.elapsed() < BUDGET;
        let (left, limit) = sides(&rule.expr);
        for part in parts(&rule.expr) {
            let Some(found) = in_time()
                .then(|| self.backend.query(part, self.at).ok())
                .flatten()
            else {
                continue;
            };
            for alert in &mut fresh {
                let value = at_labels(&found, &alert.labels);
                if value.is_some() {
                    alert.evidence.push(Clue::Part {
                        expression: part.to_string(),
                        value: value.and_then(finite),
                    });
                }
            }
        }
        if let Some((operator, limit)) = limit
            && let Some(found) = in_time()
                .then(|| self.backend.query(limit, self.at).ok())
                .flatten()
        {
            for alert in &mut fresh {
                if let Some(value) = at_labels(&found, &alert.labels) {
                    alert.evidence.push(Clue::Threshold {
                        operator: operator.to_owned(),
                        value: finite(value),
                    });
                }
            }
        }
        let well = self.at - rule.hold - self.interval;
        if let Some(found) = in_time()
            .then(|| self.backend.query(left, well).ok())
            .flatten()
        {
            for alert in &mut fresh {
                if let Some(value) = at_labels(&found, &alert.labels) {
                    alert.evidence.push(Clue::Before {
                        value: finite(value),
                        at_ms: well.0,
                    });
                }
            }
            if found.len() <= PICTURE_SERIES && in_time() {
                self.picture(left, &mut fresh, &in_time);
            }
        }
        if let Some(selector) = first_selector(&rule.expr)
            && let Some(found) = in_time()
                .then(|| {
                    self.backend
                        .query_text(&format!("timestamp({selector})"), self.at)
                        .ok()
                })
                .flatten()
        {
            for alert in &mut fresh {
                let newest = found
                    .iter()
                    .filter(|hit| fits(&hit.labels, &alert.labels))
                    .map(|hit| hit.value)
                    .max_by(f64::total_cmp);
                let age = newest
                    .map(|newest| (self.at.seconds() - newest).max(0.0))
                    .and_then(finite);
                alert
                    .evidence
                    .extend(age.map(|seconds| Clue::SampleAge { seconds }));
            }
        }
        let text = rule.expr.to_string();
        for alert in fresh {
            let Some((of, queries)) = users(&text, alert.labels.value("instance")) else {
                continue;
            };
            for query in queries {
                let Some(found) = in_time()
                    .then(|| self.backend.query_text(&query, self.at).ok())
                    .flatten()
                else {
                    break;
                };
                let mut items: Vec<(String, f64)> = found
                    .iter()
                    .map(|hit| (name(&hit.labels), hit.value))
                    .collect();
                items.retain(|(_, value)| value.is_finite() && *value > 0.0);
                items.sort_by(|a, b| b.1.total_cmp(&a.1));
                items.truncate(MAX_ITEMS);
                if !items.is_empty() {
                    alert.evidence.push(Clue::Top { of, items });
                    break;
                }
            }
        }
    }
}

impl Scene<'_> {
    /// The series of the last hour, or of the time that is known of it, for a picture.
    fn picture(&self, expr: &Expr, alerts: &mut [&mut Alert], in_time: &dyn Fn() -> bool) {
        let mut drawn: Vec<Option<Clue>> = vec![None; alerts.len()];
        let mut most = vec![1; alerts.len()];
        for (span, step) in PICTURES {
            if !in_time() || most.iter().all(|points| *points >= PICTURE_POINTS) {
                break;
            }
            let (from, step_ms) = (self.at - span, millis(step));
            let Ok(found) = self.backend.range(expr, from, self.at, step) else {
                break;
            };
            for (index, alert) in alerts
                .iter()
                .enumerate()
                .filter(|(index, _)| most[*index] < PICTURE_POINTS)
                .collect::<Vec<_>>()
            {
                let mut fitting = found
                    .iter()
                    .filter(|(labels, _)| fits(labels, &alert.labels));
                let (Some((_, points)), None) = (fitting.next(), fitting.next()) else {
                    continue;
                };
                let at = |index: i64| {
                    let instant = Timestamp(from.0 + index * step_ms);
                    points
                        .iter()
                        .find(|(at, _)| *at == instant)
                        .and_then(|(_, value)| finite(*value))
                };
                let values: Vec<Option<f64>> = (0..=millis(span) / step_ms).map(at).collect();
                let known = values.iter().flatten().count();
                if known > most[index] {
                    most[index] = known;
                    drawn[index] = Some(Clue::Series {
                        from_ms: from.0,
                        step_ms,
                        values,
                    });
                }
            }
        }
        for (alert, clue) in alerts.iter_mut().zip(drawn) {
            alert.evidence.extend(clue);
        }
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// What is compared, and with which operator and limit.
fn sides(expr: &Expr) -> (&Expr, Option<(&'static str, &Expr)>) {
    match expr.without_parens() {
        Expr::Binary(b) if b.op.is_comparison() && b.lhs.value_type() != ValueType::Scalar => {
            (&b.lhs, Some((b.op.as_str(), &b.rhs)))
        }
        Expr::Binary(b) if b.op.is_set() => deep(|| sides(&b.lhs)),
        other => (other, None),
    }
}

/// The parts of an expression whose values are worth showing: neither the whole nor plain numbers,
/// each once, in the order of the text.
fn parts(expr: &Expr) -> Vec<&Expr> {
    let mut found: Vec<&Expr> = Vec::new();
    collect(expr.without_parens(), true, &mut found);
    found.truncate(MAX_PARTS);
    found
}

fn collect<'e>(expr: &'e Expr, whole: bool, found: &mut Vec<&'e Expr>) {
    let shown = matches!(expr.value_type(), ValueType::Vector | ValueType::Scalar)
        && !matches!(expr, Expr::Number(_) | Expr::Paren(_));
    if shown
        && !whole
        && !found
            .iter()
            .any(|known| known.to_string() == expr.to_string())
    {
        found.push(expr);
    }
    if found.len() < MAX_PARTS {
        deep(|| {
            expr.children()
                .into_iter()
                .for_each(|child| collect(child, false, found))
        });
    }
}

fn first_selector(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::VectorSelector(_) => Some(expr),
        other => deep(|| other.children().into_iter().find_map(first_selector)),
    }
}

/// Whether a series speaks of the alert: what both name is equal.
fn fits(series: &Labels, alert: &Labels) -> bool {
    series
        .without_name()
        .iter()
        .all(|(name, value)| alert.get(name).is_none_or(|own| own == value))
}

/// The value of the one series that speaks of the alert.
fn at_labels(found: &[VectorSample], alert: &Labels) -> Option<f64> {
    let mut fitting = found
        .iter()
        .filter(|hit| hit.histogram.is_none() && fits(&hit.labels, alert));
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first.value)
}

/// The queries for those who use most of what an expression is about, on the alert's instance; the
/// first with an answer counts. Of a host, the collector tells the names of processes; another
/// exporter may tell groups of them.
fn users(expression: &str, instance: &str) -> Option<(Top, Vec<String>)> {
    let on = if instance.is_empty() {
        String::new()
    } else {
        format!("instance={instance:?}")
    };
    let about = |names: &[&str]| names.iter().any(|name| expression.contains(name));
    if about(&["pg_"]) {
        let query = format!(
            "topk({MAX_ITEMS}, sum by (datname, queryid) (rate(pg_stat_statements_seconds_total{{{on}}}[5m])))"
        );
        return Some((Top::Statements, vec![query]));
    }
    if about(&["node_memory", "node_vmstat", "memory"]) {
        let names = format!(
            "topk({MAX_ITEMS}, sum by (process) (host_top_process_resident_memory_bytes{{{on}}}))"
        );
        let groups = format!(
            "topk({MAX_ITEMS}, sum by (groupname) (namedprocess_namegroup_memory_bytes{{memtype=\"resident\", {on}}}))"
        );
        return Some((Top::ProcessMemory, vec![names, groups]));
    }
    if about(&["node_", "namedprocess_"]) {
        let names =
            format!("topk({MAX_ITEMS}, sum by (process) (host_top_process_cpu_ratio{{{on}}}))");
        let groups = format!(
            "topk({MAX_ITEMS}, sum by (groupname) (rate(namedprocess_namegroup_cpu_seconds_total{{{on}}}[5m])))"
        );
        return Some((Top::ProcessCpu, vec![names, groups]));
    }
    None
}

fn name(labels: &Labels) -> String {
    let values: Vec<&str> = labels.iter().map(|(_, value)| value).collect();
    values.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parse;

    #[test]
    fn parts_are_neither_the_whole_nor_numbers_and_each_is_shown_once() {
        let expr = parse("(a / b > 0.9) and on (x) (a > 2 * 3)").expect("valid");
        let shown: Vec<String> = parts(&expr).iter().map(|p| p.to_string()).collect();
        assert_eq!(
            shown,
            ["a / b > 0.9", "a / b", "a", "b", "a > 2 * 3", "2 * 3"]
        );
        let (left, limit) = sides(&expr);
        assert_eq!(
            (left.to_string(), limit.map(|(op, e)| (op, e.to_string()))),
            ("a / b".into(), Some((">", "0.9".into())))
        );
    }

    #[test]
    fn a_value_is_shown_where_one_series_speaks_of_the_alert() {
        let found = [("a", 1.0), ("b", 2.0)].map(|(host, value)| {
            VectorSample::from((
                Labels::from_pairs([("__name__", "m"), ("host", host)]),
                value,
            ))
        });
        let alert = |host: &str| Labels::from_pairs([("alertname", "X"), ("host", host)]);
        assert_eq!(
            (
                at_labels(&found, &alert("b")),
                at_labels(&found, &alert("c"))
            ),
            (Some(2.0), None)
        );
        assert_eq!(
            at_labels(&found, &Labels::from_pairs([("alertname", "X")])),
            None,
            "which of the two?"
        );
    }
}
