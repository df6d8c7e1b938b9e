//! `/receivers`: the names that routes send to.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value as Json, json};

use super::super::Context;
use super::answer::labels_json;
use crate::web::server::slash::with_or_without;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    with_or_without("/receivers", get(list))
}

async fn list(State(context): State<Context>) -> axum::Json<Vec<Json>> {
    axum::Json(
        context
            .alerting
            .config()
            .receivers
            .iter()
            .map(|receiver| json!({ "name": receiver.name, "labels": labels_json(&receiver.labels) }))
            .collect(),
    )
}
