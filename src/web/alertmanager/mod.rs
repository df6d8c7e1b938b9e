//! Alertmanager's HTTP API v2 (<https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>), so that amtool, Grafana and
//! a Prometheus that sends its alerts here can use nightbell as an Alertmanager. API v1, which Alertmanager itself dropped, is refused.

mod alerts;
mod answer;
mod filter;
mod groups;
mod receivers;
mod silences;
mod status;
mod uri;

use axum::Router;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Response};

use super::Context;

/// Every route below `/api/v2`.
pub fn routes() -> Router<Context> {
    let fresh = axum::middleware::map_response(async |mut response: Response<axum::body::Body>| {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    });
    Router::new()
        .merge(alerts::routes())
        .merge(groups::routes())
        .merge(silences::routes())
        .merge(receivers::routes())
        .merge(status::routes())
        .layer(fresh)
}
