//! `/metrics`: the last batch of every target, as text 0.0.4 or OpenMetrics by content negotiation.
//! Never waits for a target.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};

use crate::exposition::{Format, encode};

use super::Context;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(context): State<Context>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let format = Format::negotiate(accept);
    let pages = context.scraper.pages();
    let text = encode::render(pages.iter().map(AsRef::as_ref), format);
    ([(CONTENT_TYPE, format.content_type())], text).into_response()
}
