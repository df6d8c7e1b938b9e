//! `/api/nightbell/dead-letters`: the messages that no attempt could bring, and sending them again;
//! for an administrator.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Context;
use super::admin::Writer;
use super::error::ApiError;
use crate::alerting::SendAgainError;
use crate::notify::Notification;
use crate::state::{DeadLetter, MAX_DEAD_LETTERS};

/// Most alerts that are shown of one message.
const MAX_ALERTS: usize = 20;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/send", post(send_all))
        .route("/dead-letters/{id}/send", post(send_one))
}

async fn list(State(context): State<Context>, _: Writer) -> Result<Json<Value>, ApiError> {
    let letters = context.state.dead_letters(MAX_DEAD_LETTERS).await;
    let letters = letters.map_err(|e| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("dead letters cannot be read: {e}"),
        )
    })?;
    Ok(Json(
        json!({ "status": "success", "data": letters.iter().map(shown).collect::<Vec<_>>() }),
    ))
}

async fn send_all(State(context): State<Context>, _: Writer) -> Result<Json<Value>, ApiError> {
    sent(context.alerting.send_again(None).await)
}

async fn send_one(
    State(context): State<Context>,
    _: Writer,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    sent(context.alerting.send_again(Some(id)).await)
}

fn sent(result: Result<usize, SendAgainError>) -> Result<Json<Value>, ApiError> {
    let count = result.map_err(|error| {
        let status = match error {
            SendAgainError::Unknown => StatusCode::NOT_FOUND,
            SendAgainError::Unconfigured(_) => StatusCode::CONFLICT,
            SendAgainError::State(_) | SendAgainError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        ApiError::new(status, error.to_string())
    })?;
    Ok(Json(
        json!({ "status": "success", "data": { "sent": count } }),
    ))
}

fn shown(letter: &DeadLetter) -> Value {
    let message = &letter.message;
    let read = serde_json::from_str::<Notification>(&message.body).ok();
    let pairs = |labels: &[(String, String)]| {
        labels
            .iter()
            .cloned()
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let alerts = read.iter().flat_map(|n| &n.alerts).take(MAX_ALERTS);
    let alerts: Vec<Value> = alerts
        .map(|alert| json!({ "status": alert.status.as_str(), "labels": pairs(&alert.labels) }))
        .collect();
    json!({
        "id": message.delivery_id,
        "integration": message.integration,
        "groupKey": message.group_key,
        "decidedAt": message.created_at.rfc3339(),
        "givenUpAt": letter.died_at.rfc3339(),
        "error": letter.error,
        "alertCount": read.as_ref().map_or(0, |n| n.alerts.len()),
        "alerts": alerts,
    })
}
