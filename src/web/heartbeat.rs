//! `POST /api/nightbell/heartbeat`: the signed heartbeats of instances that are watched. Their
//! signature is what lets them in.

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};

use super::Context;
use super::error::ApiError;
use crate::model::Timestamp;
use crate::remote::peer::{Heartbeat, Refusal};

/// Largest heartbeat, in bytes: its sender is not authenticated yet.
const MAX_BODY: usize = 4096;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new().route(
        "/heartbeat",
        post(take).layer(DefaultBodyLimit::max(MAX_BODY)),
    )
}

async fn take(
    State(context): State<Context>,
    Json(heartbeat): Json<Heartbeat>,
) -> Result<StatusCode, ApiError> {
    context
        .peers
        .take(&heartbeat, Timestamp::now())
        .map_err(|refusal| {
            let (status, message) = match refusal {
                Refusal::Signature => (
                    StatusCode::FORBIDDEN,
                    "the signature is not right: do both have the same secret?",
                ),
                Refusal::Unknown => (
                    StatusCode::FORBIDDEN,
                    "this is not a peer that is watched here: compare the names on both sides",
                ),
                Refusal::Clock => (
                    StatusCode::CONFLICT,
                    "its time is more than a minute from ours: set the clocks",
                ),
                Refusal::Replay => (StatusCode::CONFLICT, "it is not newer than the last one"),
            };
            ApiError::new(status, message)
        })?;
    Ok(StatusCode::NO_CONTENT)
}
