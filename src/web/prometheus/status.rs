//! `/status/*`: what Grafana looks at to learn what it talks to, and what people ask.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::json;

use super::super::Context;
use super::answer::Answer;

/// The Prometheus whose API this is: clients choose requests by it.
const API_VERSION: &str = "3.5.0";

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/status/buildinfo", get(build))
        .route("/status/runtimeinfo", get(runtime))
        .route("/status/config", get(config))
        .route("/status/flags", get(flags))
        .route("/status/tsdb", get(tsdb))
}

async fn build() -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    Answer::json(
        &json!({ "version": API_VERSION, "revision": format!("nightbell-{version}"), "branch": "", "buildUser": "", "buildDate": "", "goVersion": "" }),
    )
}

async fn runtime(State(context): State<Context>) -> Answer {
    Answer::json(&json!({
        "startTime": context.started_at.rfc3339(),
        "reloadConfigSuccess": true,
        "lastConfigTime": context.started_at.rfc3339(),
        "storageRetention": crate::model::format_duration(context.retention),
    }))
}

async fn config(State(context): State<Context>) -> Answer {
    Answer::json(&json!({ "yaml": *context.config_text.read() }))
}

async fn flags() -> Answer {
    Answer::json(&json!({}))
}

async fn tsdb(State(context): State<Context>) -> Answer {
    let stats = context.store.stats();
    Answer::json(&json!({ "headStats": {
        "numSeries": stats.series, "numLabelPairs": 0, "chunkCount": 0, "minTime": 0, "maxTime": 0,
    }, "samples": stats.head_samples + stats.sealed_samples, "sealedBytes": stats.sealed_bytes, "bytes": stats.bytes,
        "seriesCountByMetricName": [], "labelValueCountByLabelName": [], "memoryInBytesByLabelName": [], "seriesCountByLabelValuePair": [] }))
}
