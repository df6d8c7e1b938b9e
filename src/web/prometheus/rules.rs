//! `/rules`, `/alerts`: what is judged and what it says now.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value as Json, json};

use crate::model::text::{format_float, go_exponent};
use crate::model::{Labels, Matcher, Timestamp};
use crate::rules::active::ActiveAlert;
use crate::rules::snapshot::{AlertingSnapshot, GroupSnapshot, RuleSnapshot};

use super::super::Context;
use super::answer::{Answer, Problem, labels_json};
use super::parameters::Parameters;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new().route("/rules", get(rules)).route("/alerts", get(alerts))
}

async fn alerts(State(context): State<Context>) -> Answer {
    let groups = context.rules.snapshot();
    let alerts: Vec<Json> =
        groups.iter().flat_map(|g| &g.rules).filter_map(|r| r.alerting.as_ref()).flat_map(|a| &a.alerts).map(alert).collect();
    Answer::json(&json!({ "alerts": alerts }))
}

/// What `/rules` is asked to show.
struct Filter {
    kind: Option<String>,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    matchers: Vec<Vec<Matcher>>,
    exclude_alerts: bool,
}

impl Filter {
    fn read(parameters: &Parameters) -> Result<Self, Problem> {
        let list = |name: &str| parameters.all(name).map(str::to_owned).collect();
        let kind = parameters.get("type").map(str::to_lowercase);
        if let Some(kind) = kind.as_deref().filter(|k| !matches!(*k, "alert" | "record")) {
            return Err(Problem::parameter("type", format!("not supported value {kind:?}")));
        }
        let exclude = parameters.get("exclude_alerts").unwrap_or("false");
        let exclude_alerts =
            exclude.parse().map_err(|_| Problem::parameter("exclude_alerts", format!("error converting exclude_alerts: {exclude:?}")))?;
        Ok(Filter {
            kind,
            names: list("rule_name[]"),
            groups: list("rule_group[]"),
            files: list("file[]"),
            matchers: parameters.matchers()?,
            exclude_alerts,
        })
    }

    fn takes_group(&self, group: &GroupSnapshot) -> bool {
        (self.groups.is_empty() || self.groups.contains(&group.name)) && (self.files.is_empty() || self.files.contains(&group.file))
    }

    fn takes_rule(&self, rule: &RuleSnapshot) -> bool {
        let kind = if rule.alerting.is_some() { "alert" } else { "record" };
        let fits = |labels: &Labels| self.matchers.iter().any(|all| all.iter().all(|m| m.matches_labels(labels)));
        self.kind.as_deref().is_none_or(|k| k == kind)
            && (self.names.is_empty() || self.names.contains(&rule.name))
            && (self.matchers.is_empty() || fits(&rule.labels))
    }
}

async fn rules(State(context): State<Context>, parameters: Parameters) -> Result<Answer, Problem> {
    let filter = Filter::read(&parameters)?;
    let limit: usize =
        parameters.get("group_limit").map_or(Ok(0), str::parse).map_err(|_| Problem::parameter("group_limit", "must be a whole number"))?;
    let after = parameters.get("group_next_token");
    let mut shown: Vec<(String, Json)> = Vec::new();
    let mut next = None;
    for group in context.rules.snapshot().iter().filter(|g| filter.takes_group(g)) {
        let token = format!("{};{}", group.file, group.name);
        if after.is_some_and(|after| token.as_str() <= after) {
            continue;
        }
        let rules: Vec<Json> = group.rules.iter().filter(|r| filter.takes_rule(r)).map(|r| rule(r, filter.exclude_alerts)).collect();
        if rules.is_empty() {
            continue;
        }
        if limit > 0 && shown.len() == limit {
            next = shown.last().map(|(token, _)| token.clone());
            break;
        }
        shown.push((token, group_json(group, &rules)));
    }
    let mut data = json!({ "groups": shown.into_iter().map(|(_, json)| json).collect::<Vec<_>>() });
    if let Some(next) = next {
        data["groupNextToken"] = json!(next);
    }
    Ok(Answer::json(&data))
}

fn instant(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), Timestamp::rfc3339)
}

fn group_json(group: &GroupSnapshot, rules: &[Json]) -> Json {
    json!({
        "name": group.name, "file": group.file, "interval": group.interval.as_secs_f64(), "limit": group.limit, "rules": rules,
        "evaluationTime": group.evaluation_time.as_secs_f64(), "lastEvaluation": instant(group.last_evaluation),
    })
}

fn rule(rule: &RuleSnapshot, exclude_alerts: bool) -> Json {
    let health = match rule.health.ok {
        None => "unknown",
        Some(true) => "ok",
        Some(false) => "err",
    };
    let mut out = json!({
        "name": rule.name, "query": rule.query, "labels": labels_json(&rule.labels), "health": health,
        "evaluationTime": rule.health.evaluation_time.as_secs_f64(), "lastEvaluation": instant(rule.health.last_evaluation),
        "type": if rule.alerting.is_some() { "alerting" } else { "recording" },
    });
    if let Some(error) = &rule.health.last_error {
        out["lastError"] = json!(error);
    }
    if let Some(alerting) = &rule.alerting {
        add_alerting(&mut out, alerting, exclude_alerts);
    }
    out
}

fn add_alerting(out: &mut Json, alerting: &AlertingSnapshot, exclude_alerts: bool) {
    out["state"] = json!(alerting.state.map_or("unknown", |s| s.as_str()));
    out["duration"] = json!(alerting.hold.as_secs_f64());
    out["keepFiringFor"] = json!(alerting.keep_firing_for.as_secs_f64());
    out["annotations"] = labels_json(&alerting.annotations);
    out["alerts"] = json!(if exclude_alerts { Vec::new() } else { alerting.alerts.iter().map(alert).collect::<Vec<_>>() });
}

fn alert(alert: &ActiveAlert) -> Json {
    let mut out = json!({
        "labels": labels_json(&alert.labels), "annotations": labels_json(&alert.annotations), "state": alert.state.as_str(),
        "activeAt": alert.active_at.rfc3339(), "value": exponent(alert.value),
    });
    if let Some(since) = alert.keep_firing_since {
        out["keepFiringSince"] = json!(since.rfc3339());
    }
    out
}

/// A value in Go's exponent form: `1e+00` (SEMANTICS 205).
fn exponent(value: f64) -> String {
    if value.is_finite() { go_exponent(&format!("{value:e}")) } else { format_float(value) }
}
