//! The page at `/` and `/graph`: what is up, what fires, where the rest is. One file without
//! outside parts; it reads the HTTP API.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use axum::response::{Html, IntoResponse, Response};
use axum::{Router, routing::get};

use super::Context;

const PAGE: &str = include_str!("index.html");
/// Nothing is loaded from elsewhere, and nothing that a label holds can run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The routes of this file.
pub fn routes() -> Router<Context> {
    // The links of alerts lead to /graph, as Prometheus's do; the page asks what their `g0.expr`
    // says.
    Router::new()
        .route("/", get(page))
        .route("/graph", get(page))
        .route("/query", get(page))
}

async fn page() -> Response {
    (
        [
            (CONTENT_SECURITY_POLICY, POLICY),
            (CACHE_CONTROL, "no-cache"),
        ],
        Html(PAGE),
    )
        .into_response()
}
