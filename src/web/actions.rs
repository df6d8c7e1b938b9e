//! `/api/nightbell/actions`: what recovery actions did, for an administrator, because it shows what
//! programs printed.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use super::admin::Writer;
use super::error::ApiError;
use crate::model::Timestamp;
use crate::state::ActionRow;

/// Most actions of an answer, and how many there are without a word about it.
const MAX: i64 = 1000;
const DEFAULT: i64 = 100;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new().route("/actions", get(list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    alert: Option<String>,
    receiver: Option<String>,
    limit: Option<i64>,
}

async fn list(
    State(context): State<Context>,
    _: Writer,
    Query(question): Query<Question>,
) -> Result<Json<Value>, ApiError> {
    let rows = context
        .state
        .actions(Timestamp::MIN, crate::state::MAX_ACTIONS)
        .await;
    let rows = rows.map_err(|e| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the record cannot be read: {e}"),
        )
    })?;
    let receiver = |row: &ActionRow| {
        row.integration
            .rsplitn(3, '/')
            .nth(2)
            .unwrap_or_default()
            .to_owned()
    };
    let wanted = |row: &&ActionRow| {
        question
            .alert
            .as_ref()
            .is_none_or(|name| row.body.alert == *name)
            && question
                .receiver
                .as_ref()
                .is_none_or(|name| receiver(row) == *name)
    };
    let limit =
        usize::try_from(question.limit.unwrap_or(DEFAULT).clamp(1, MAX)).unwrap_or_default();
    let actions: Vec<Value> = rows.iter().filter(wanted).take(limit).map(shown).collect();
    Ok(Json(json!({ "status": "success", "data": actions })))
}

fn shown(row: &ActionRow) -> Value {
    json!({
        "id": row.id,
        "integration": row.integration,
        "action": row.target,
        "alert": row.body.alert,
        "fingerprints": row.body.alerts.iter().map(|f| format!("{f:016x}")).collect::<Vec<_>>(),
        "begunAt": row.begun_at.rfc3339(),
        "endedAt": row.body.ended_ms.map(|ms| Timestamp(ms).rfc3339()),
        "outcome": row.outcome.as_str(),
        "detail": row.body.detail,
        "output": row.body.output,
        "helped": row.body.helped,
    })
}
