//! `/status/*`: what Grafana looks at to learn what it talks to, and what people ask.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use serde_json::{Map, Value as Json, json};

use crate::model::{Timestamp, format_duration};

use super::super::Context;
use super::super::admin::Writer;
use super::super::error::ApiError;
use super::answer::{Answer, Problem};
use super::parameters::Parameters;

/// The Prometheus whose API this is: clients choose requests by it.
const API_VERSION: &str = "3.5.0";
/// Entries of each list of `/status/tsdb` where the request names no `limit`.
const LIMIT: usize = 10;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/status/buildinfo", get(build))
        .route("/status/runtimeinfo", get(runtime))
        .route("/notifications", get(notifications))
        .route("/status/config", get(config))
        .route("/status/flags", get(flags))
        .route("/status/tsdb", get(tsdb))
        .route("/status/walreplay", get(replay))
        .route("/status/active_queries", get(active))
        .route("/status/active_queries/{id}", delete(stop))
        .route("/admin/tsdb/snapshot", post(snapshot).put(snapshot))
}

async fn build() -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    Answer::json(
        &json!({ "version": API_VERSION, "revision": format!("nightbell-{version}"), "branch": "", "buildUser": "", "buildDate": "", "goVersion": "" }),
    )
}

async fn runtime(State(context): State<Context>) -> Answer {
    let last_reload = *context.last_reload.read();
    let folder = std::env::current_dir()
        .map(|p| p.display().to_string())
        .unwrap_or_default();
    Answer::json(&json!({
        "startTime": context.started_at.rfc3339(),
        "serverTime": Timestamp::now().rfc3339(),
        "CWD": folder,
        "reloadConfigSuccess": last_reload.successful,
        "lastConfigTime": last_reload.at.rfc3339(),
        "storageRetention": format_duration(context.retention),
    }))
}

/// What Prometheus's page shows above everything else, in its words.
async fn notifications(State(context): State<Context>) -> Answer {
    let last_reload = *context.last_reload.read();
    let failed = json!({ "text": "Configuration reload has failed.", "date": last_reload.tried_at.rfc3339(), "active": true });
    Answer::json(&if last_reload.successful {
        json!([])
    } else {
        json!([failed])
    })
}

async fn config(State(context): State<Context>) -> Answer {
    Answer::json(&json!({ "yaml": *context.config_text.read() }))
}

/// How far the log has been read, in segments: it is read while everything else goes on.
async fn replay(State(context): State<Context>) -> Answer {
    let (read, all) = context.store.segments_read();
    // The numbers of segments, the first being 0.
    let number = |segments: usize| segments.saturating_sub(1);
    Answer::json(&json!({ "min": 0, "max": number(all), "current": number(read) }))
}

/// Makes a copy of the history for a backup.
async fn snapshot(State(context): State<Context>, _: Writer) -> Result<Answer, Problem> {
    let store = context.store.clone();
    let made = tokio::task::spawn_blocking(move || store.snapshot(Timestamp::now())).await;
    match made.map_err(|error| Problem::internal(error.to_string()))? {
        Some(Ok(name)) => Ok(Answer::json(&json!({ "name": name }))),
        Some(Err(error)) => Err(Problem::internal(error.to_string())),
        None => Err(Problem::internal(
            "samples live in memory only; there is no history on disk to copy",
        )),
    }
}

async fn flags(State(context): State<Context>) -> Answer {
    let flags: Map<String, Json> = context
        .flags
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    Answer::json(&Json::Object(flags))
}

/// The queries that run, the oldest first; as VictoriaMetrics names things.
async fn active(State(context): State<Context>) -> Answer {
    let list: Vec<Json> = context
        .running
        .list()
        .iter()
        .map(|query| {
            json!({
                "id": query.id.to_string(),
                "query": query.asked.text,
                "start": query.asked.start.0,
                "end": query.asked.end.0,
                "step": query.asked.step.as_millis() as u64,
                "duration": format!("{:.3}s", query.since.elapsed().as_secs_f64()),
                "waited": format!("{:.3}s", query.waited.as_secs_f64()),
            })
        })
        .collect();
    Answer::json(&Json::Array(list))
}

/// Stops one of them.
async fn stop(
    State(context): State<Context>,
    _: Writer,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let stopped = id.parse().is_ok_and(|id| context.running.stop(id));
    if stopped {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::new(
        StatusCode::NOT_FOUND,
        format!("no query {id:?} runs"),
    ))
}

async fn tsdb(State(context): State<Context>, parameters: Parameters) -> Result<Answer, Problem> {
    let limit = match parameters.get("limit") {
        None => LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| Problem::bad_data("limit must be a positive number"))?,
    };
    let found = context.store.cardinality(limit);
    let list = |entries: &[(String, usize)]| -> Vec<Json> {
        entries
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect()
    };
    let (oldest, newest) = found.span.map_or((i64::MAX, i64::MIN), |(oldest, newest)| {
        (oldest.0, newest.0)
    });
    Ok(Answer::json(&json!({
        "headStats": {
            "numSeries": found.series, "numLabelPairs": found.label_pairs, "chunkCount": found.chunks, "minTime": oldest, "maxTime": newest,
        },
        "seriesCountByMetricName": list(&found.series_by_metric),
        "labelValueCountByLabelName": list(&found.values_by_label),
        "memoryInBytesByLabelName": list(&found.bytes_by_label),
        "seriesCountByLabelValuePair": list(&found.series_by_pair),
    })))
}
