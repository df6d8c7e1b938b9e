//! `/rules`, `/alerts`: what is judged and what it says now. `/rules/dead`, which Prometheus has
//! not: rules that can never say anything.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value as Json, json};

use crate::model::text::{format_float, go_exponent, quote};
use crate::model::{Labels, Matcher, Timestamp};
use crate::rules::evaluate::active::ActiveAlert;
use crate::rules::explain::dead::DeadSelector;
use crate::rules::snapshot::{AlertingSnapshot, GroupSnapshot, RuleSnapshot};

use super::super::Context;
use super::answer::{Answer, Problem, labels_json, seconds_json};
use super::parameters::{Parameters, go_reason};

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/rules", get(rules))
        .route("/rules/dead", get(dead))
        .route("/alerts", get(alerts))
}

async fn alerts(State(context): State<Context>) -> Answer {
    let groups = context.rules.snapshot();
    let alerts: Vec<Json> = groups
        .iter()
        .flat_map(|g| &g.rules)
        .filter_map(|r| r.alerting.as_ref())
        .flat_map(|a| &a.alerts)
        .map(alert)
        .collect();
    Answer::json(&json!({ "alerts": alerts }))
}

async fn dead(State(context): State<Context>) -> Answer {
    let found = context.dead_rules.found();
    let one = |dead: &DeadSelector| {
        json!({
            "file": dead.file, "line": dead.position.line, "column": dead.position.column, "group": dead.group, "rule": dead.rule,
            "selector": dead.selector, "hint": dead.hint,
        })
    };
    Answer::json(&json!({ "deadSelectors": found.iter().map(one).collect::<Vec<_>>() }))
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
        if let Some(kind) = kind
            .as_deref()
            .filter(|k| !matches!(*k, "alert" | "record"))
        {
            return Err(Problem::parameter(
                "type",
                format!("not supported value {kind:?}"),
            ));
        }
        Ok(Filter {
            kind,
            names: list("rule_name[]"),
            groups: list("rule_group[]"),
            files: list("file[]"),
            matchers: parameters.matchers().map_err(Problem::bad_data)?,
            exclude_alerts: parameters.flag("exclude_alerts")?,
        })
    }

    fn takes_group(&self, group: &GroupSnapshot) -> bool {
        (self.groups.is_empty() || self.groups.contains(&group.name))
            && (self.files.is_empty() || self.files.contains(&group.file))
    }

    fn takes_rule(&self, rule: &RuleSnapshot) -> bool {
        let kind = if rule.alerting.is_some() {
            "alert"
        } else {
            "record"
        };
        let fits = |labels: &Labels| {
            self.matchers
                .iter()
                .any(|all| all.iter().all(|m| m.matches_labels(labels)))
        };
        self.kind.as_deref().is_none_or(|k| k == kind)
            && (self.names.is_empty() || self.names.contains(&rule.name))
            && (self.matchers.is_empty() || fits(&rule.labels))
    }
}

async fn rules(State(context): State<Context>, parameters: Parameters) -> Result<Answer, Problem> {
    let filter = Filter::read(&parameters)?;
    let limit = group_limit(&parameters)?;
    let first = parameters.get("group_next_token");
    if first.is_some() && limit == 0 {
        return Err(Problem::parameter(
            "group_next_token",
            "group_limit needs to be present in order to paginate over the groups",
        ));
    }
    let mut found = first.is_none();
    let mut shown: Vec<Json> = Vec::new();
    let mut next = None;
    for group in context
        .rules
        .snapshot()
        .iter()
        .filter(|g| filter.takes_group(g))
    {
        let token = format!("{};{}", group.file, group.name);
        found |= first == Some(token.as_str());
        if !found {
            continue;
        }
        let rules: Vec<Json> = group
            .rules
            .iter()
            .filter(|r| filter.takes_rule(r))
            .map(|r| rule(r, filter.exclude_alerts))
            .collect();
        if rules.is_empty() {
            continue;
        }
        if limit > 0 && shown.len() == limit {
            next = Some(token);
            break;
        }
        shown.push(group_json(group, &rules));
    }
    if let Some(token) = first.filter(|_| !found) {
        let problem = format!("invalid group_next_token '{token}'. were rule groups changed?");
        return Err(Problem::parameter("group_next_token", problem));
    }
    let mut data = json!({ "groups": shown });
    if let Some(next) = next {
        data["groupNextToken"] = json!(next);
    }
    Ok(Answer::json(&data))
}

/// `group_limit`: 0 when it is not given.
fn group_limit(parameters: &Parameters) -> Result<usize, Problem> {
    let Some(text) = parameters.get("group_limit") else {
        return Ok(0);
    };
    let refused = |problem: String| Problem::parameter("group_limit", problem);
    let limit: i64 = text.parse().map_err(|error| {
        let reason = format!(
            "strconv.ParseInt: parsing {}: {}",
            quote(text),
            go_reason(&error)
        );
        refused(format!("group_limit needs to be a valid number: {reason}"))
    })?;
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| refused("group_limit needs to be greater than 0".to_owned()))
}

fn instant(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), Timestamp::rfc3339)
}

fn group_json(group: &GroupSnapshot, rules: &[Json]) -> Json {
    json!({
        "name": group.name, "file": group.file, "interval": seconds_json(group.interval), "limit": group.limit, "rules": rules,
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
        "name": rule.name, "query": rule.query, "health": health,
        "evaluationTime": rule.health.evaluation_time.as_secs_f64(), "lastEvaluation": instant(rule.health.last_evaluation),
        "type": if rule.alerting.is_some() { "alerting" } else { "recording" },
    });
    // A recording rule without labels has no such member in Prometheus's answer.
    if rule.alerting.is_some() || !rule.labels.is_empty() {
        out["labels"] = labels_json(&rule.labels);
    }
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
    out["duration"] = seconds_json(alerting.hold);
    out["keepFiringFor"] = seconds_json(alerting.keep_firing_for);
    if let Some(query) = &alerting.recover_query {
        out["recoverQuery"] = json!(query);
    }
    if let Some(no_data) = alerting.no_data {
        out["noData"] = json!(no_data.as_str());
    }
    out["annotations"] = labels_json(&alerting.annotations);
    out["alerts"] =
        json!((!exclude_alerts).then(|| alerting.alerts.iter().map(alert).collect::<Vec<_>>()));
}

fn alert(alert: &ActiveAlert) -> Json {
    let mut out = json!({
        "labels": labels_json(&alert.labels), "annotations": labels_json(&alert.annotations), "state": alert.state.as_str(),
        "activeAt": alert.active_at.rfc3339(), "value": exponent(alert.value),
    });
    if let Some(since) = alert.keep_firing_since {
        out["keepFiringSince"] = json!(since.rfc3339());
    }
    if let Some(held) = &alert.held {
        out["heldSince"] = json!(held.since.rfc3339());
        out["heldBy"] = json!(held.why);
    }
    out
}

/// A value in Go's exponent form: `1e+00` (SEMANTICS 205).
fn exponent(value: f64) -> String {
    if value.is_finite() {
        go_exponent(&format!("{value:e}"))
    } else {
        format_float(value)
    }
}
