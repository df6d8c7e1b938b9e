//! Reloading the configuration while running, as Prometheus does it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Router, routing::post};

use super::Context;
use super::admin::Writer;
use super::error::ApiError;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new().route("/-/reload", post(reload).put(reload))
}

async fn reload(State(context): State<Context>, _: Writer) -> Result<&'static str, ApiError> {
    match (context.reload)().await {
        Ok(()) => Ok("OK\n"),
        Err(message) => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed to reload config: {message}"),
        )),
    }
}
