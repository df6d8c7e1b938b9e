//! `/status`: what answers here, since when, and with what configuration.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value as Json, json};

use super::super::Context;
use crate::web::server::slash::with_or_without;

/// The Alertmanager whose API this is: clients choose requests by it.
const API_VERSION: &str = "0.33.0";

/// The routes of this file.
pub fn routes() -> Router<Context> {
    with_or_without("/status", get(status))
}

async fn status(State(context): State<Context>) -> axum::Json<Json> {
    let revision = format!("nightbell-{}", env!("CARGO_PKG_VERSION"));
    axum::Json(json!({
        "cluster": { "peers": [], "status": "disabled" },
        "config": { "original": context.alerting.config().as_alertmanager_yml() },
        "uptime": context.started_at.rfc3339(),
        "versionInfo": { "branch": "", "buildDate": "", "buildUser": "", "goVersion": "", "revision": revision, "version": API_VERSION },
    }))
}
