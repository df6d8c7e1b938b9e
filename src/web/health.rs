//! Health of the whole and of its parts, from the last collection of every target; nothing is asked
//! anew, so a slow target cannot make this slow.

use std::ops::ControlFlow;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use serde::Serialize;

use crate::model::time::millis;
use crate::model::{Labels, METRIC_NAME, Matcher, Timestamp, clock, format_duration};
use crate::scrape::{Health, TargetSnapshot};

use super::error::ApiError;
use super::{Context, admin};

/// How long after a jump of the clock its time is in doubt.
const CLOCK_IN_DOUBT: Duration = Duration::from_secs(15 * 60);
/// Names of alerts that are listed.
const MAX_NAMES: usize = 10;

/// One check as `/health/detailed` shows it.
#[derive(Serialize)]
struct Check {
    name: String,
    kind: &'static str,
    status: &'static str,
    response_time_ms: f64,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    checked_at: Option<String>,
}

/// The whole.
#[derive(Serialize)]
struct Report {
    status: &'static str,
    version: &'static str,
    uptime_seconds: f64,
    timestamp: String,
    checks_total: usize,
    checks_failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<String>,
    /// The critical alerts that fire and are not muted.
    #[serde(skip_serializing_if = "Option::is_none")]
    alerts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Vec<Check>>,
}

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/health", get(whole))
        .route("/health/detailed", get(detailed))
        .route("/health/db", get(databases))
        .route("/health/redis", get(redis))
}

/// The routes that say whether the process lives: they wait for nothing.
pub fn life() -> Router<Context> {
    Router::new()
        .route("/-/healthy", get(alive))
        .route("/-/ready", get(ready))
}

/// The process lives, whatever the clock does; that its times are in doubt is said in the text.
async fn alive() -> String {
    clock_text().map_or_else(
        || "nightbell is healthy.\n".to_owned(),
        |doubt| format!("nightbell is alive; {doubt}.\n"),
    )
}

async fn ready(State(context): State<Context>) -> Response {
    if context.is_ready() {
        "nightbell is ready.\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "nightbell is starting.\n").into_response()
    }
}

async fn whole(State(context): State<Context>) -> Response {
    answer(
        &context,
        all_checks(&context),
        false,
        critical_alerts(&context, false),
    )
}

async fn detailed(
    State(context): State<Context>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    admin::check(context.settings().admin_token.as_ref(), &headers)?;
    Ok(answer(
        &context,
        all_checks(&context),
        true,
        critical_alerts(&context, true),
    ))
}

async fn databases(State(context): State<Context>) -> Result<Response, ApiError> {
    part(
        &context,
        &["mysql", "postgres", "sqlite"],
        "DATABASE_URL or collectors.postgres",
    )
}

async fn redis(State(context): State<Context>) -> Result<Response, ApiError> {
    part(&context, &["redis"], "REDIS_URL or collectors.redis")
}

fn part(context: &Context, kinds: &[&str], remedy: &str) -> Result<Response, ApiError> {
    let now = Timestamp::now();
    let targets = context.scraper.targets();
    let checks: Vec<Check> = targets
        .iter()
        .filter(|t| kinds.contains(&t.info.kind))
        .map(|t| check(context, t, now))
        .collect();
    if checks.is_empty() {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("nothing of this kind is watched: set {remedy}"),
        ));
    }
    Ok(answer(context, checks, false, None))
}

fn all_checks(context: &Context) -> Vec<Check> {
    let (now, targets) = (Timestamp::now(), context.scraper.targets());
    let mut checks: Vec<Check> = targets
        .iter()
        .filter(|t| t.info.kind != "nightbell")
        .map(|t| check(context, t, now))
        .collect();
    let in_memory = context.state.is_instead();
    let healthy = context.state.is_healthy() && !in_memory;
    checks.push(Check {
        name: "state database".into(),
        kind: "nightbell",
        status: if healthy { "healthy" } else { "unhealthy" },
        response_time_ms: 0.0,
        error: match (healthy, in_memory) {
            (true, _) => String::new(),
            (false, true) => {
                "it cannot be opened, and is tried again; alerts are kept in memory alone".into()
            }
            (false, false) => "the last operation failed; see the log".into(),
        },
        checked_at: None,
    });
    checks.extend(clock_text().map(|error| Check {
        name: "clock".into(),
        kind: "nightbell",
        status: "degraded",
        response_time_ms: 0.0,
        error,
        checked_at: None,
    }));
    checks
}

/// The critical alerts that fire and that nobody has muted: while there is one, all is not well.
/// Their names are for an administrator.
fn critical_alerts(context: &Context, named: bool) -> Option<String> {
    let alerts = context.alerting.alerts(Timestamp::now());
    let heard = alerts.iter().filter(|view| {
        view.alert.labels.value("severity") == "critical" && view.state() == "active"
    });
    let names: std::collections::BTreeSet<&str> = heard
        .map(|view| view.alert.labels.value("alertname"))
        .collect();
    let shown: Vec<&str> = names.iter().copied().take(MAX_NAMES).collect();
    let more = names.len().saturating_sub(MAX_NAMES);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    let which = if named {
        format!(": {}{more}", shown.join(", "))
    } else {
        String::new()
    };
    match names.len() {
        0 => None,
        1 => Some(format!("one critical alert fires{which}")),
        count => Some(format!("{count} critical alerts fire{which}")),
    }
}

/// What is said of the clock for a while after it has jumped.
fn clock_text() -> Option<String> {
    let (jump, ago) = clock::last_jump().filter(|(_, ago)| *ago < millis(CLOCK_IN_DOUBT))?;
    let size = format_duration(Duration::from_millis(jump.millis().unsigned_abs()));
    let direction = if jump.is_back() { "back" } else { "forward" };
    let ago = format_duration(Duration::from_secs(ago.unsigned_abs() / 1000));
    Some(format!(
        "the clock has jumped {direction} by {size}, {ago} ago"
    ))
}

fn check(context: &Context, target: &TargetSnapshot, now: Timestamp) -> Check {
    let failed = (target.info.kind == "probe" && target.status.health == Health::Up)
        .then(|| failed_probe(context, target, now))
        .flatten();
    Check {
        name: target.info.labels.value("instance").to_owned(),
        kind: target.info.kind,
        status: match target.status.health {
            Health::Up if failed.is_some() => "unhealthy",
            Health::Up => "healthy",
            Health::Down => "unhealthy",
            Health::Unknown => "unknown",
        },
        response_time_ms: (target.status.duration.as_secs_f64() * 1e6).round() / 1e3,
        error: failed.unwrap_or_else(|| target.status.error.clone()),
        checked_at: target.status.at.map(Timestamp::rfc3339),
    }
}

/// Why the endpoint that a probe looks at is not well; `None` when it is. A probe that finds a
/// failing endpoint is a successful collection: the endpoint's health is its value.
fn failed_probe(context: &Context, target: &TargetSnapshot, now: Timestamp) -> Option<String> {
    let newest = |metric: &str| -> Result<Vec<(String, f64)>, ()> {
        let own =
            ["job", "instance"].map(|name| Matcher::equal(name, target.info.labels.value(name)));
        let matchers = [
            Matcher::equal(METRIC_NAME, metric),
            own[0].clone(),
            own[1].clone(),
        ];
        let mut found = Vec::new();
        let visit = |labels: &Labels, window: crate::store::Window<'_>| {
            // A series that ended ends with a stale marker, which is not a number.
            found.extend(
                window
                    .values
                    .last()
                    .filter(|v| !v.is_nan())
                    .map(|v| (labels.value("reason").to_owned(), *v)),
            );
            ControlFlow::Continue(())
        };
        context
            .store
            .select(&matchers, now - target.info.interval * 3, now, visit)
            .map_err(drop)?;
        Ok(found)
    };
    match newest("probe_success") {
        Ok(values) if values.iter().all(|(_, value)| *value == 1.0) => None,
        Ok(_) => {
            let reason = newest("probe_failure_info")
                .ok()
                .and_then(|mut found| found.pop());
            let reason = reason.map_or_else(|| "unknown".to_owned(), |(reason, _)| reason);
            Some(format!("the probe fails: {reason}"))
        }
        // Unreadable samples are no reason to call an endpoint healthy.
        Err(()) => Some("the probe's samples cannot be read".to_owned()),
    }
}

/// Healthy with no failed check, degraded with fewer than half or where something is in doubt, else
/// unhealthy (503).
fn overall(failed: usize, total: usize, in_doubt: bool) -> (&'static str, StatusCode) {
    match failed {
        0 if in_doubt => ("degraded", StatusCode::OK),
        0 => ("healthy", StatusCode::OK),
        _ if failed * 2 < total => ("degraded", StatusCode::OK),
        _ => ("unhealthy", StatusCode::SERVICE_UNAVAILABLE),
    }
}

fn answer(
    context: &Context,
    checks: Vec<Check>,
    detailed: bool,
    alerts: Option<String>,
) -> Response {
    let failed = checks.iter().filter(|c| c.status == "unhealthy").count();
    let in_doubt = checks.iter().filter(|c| c.status == "degraded").count();
    let (status, code) = overall(failed, checks.len(), in_doubt > 0 || alerts.is_some());
    let now = Timestamp::now();
    let report = Report {
        status,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: now.since(context.started_at).as_secs_f64(),
        timestamp: now.rfc3339(),
        checks_total: checks.len(),
        checks_failed: failed + in_doubt,
        clock: clock_text(),
        alerts,
        checks: detailed.then_some(checks),
    };
    (code, Json(report)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Healthy with no failed check, degraded with fewer than half, else unhealthy.
    #[test]
    fn the_overall_status_follows_the_share_of_failed_checks() {
        let words = [(0, 4), (1, 4), (2, 4), (4, 4), (1, 1), (0, 0)]
            .map(|(failed, total)| overall(failed, total, false).0);
        assert_eq!(
            words,
            [
                "healthy",
                "degraded",
                "unhealthy",
                "unhealthy",
                "unhealthy",
                "healthy"
            ]
        );
        assert_eq!(
            [overall(0, 4, true).0, overall(4, 4, true).0],
            ["degraded", "unhealthy"]
        );
    }
}
