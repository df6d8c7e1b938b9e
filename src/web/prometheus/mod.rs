//! Prometheus's HTTP API v1 (<https://prometheus.io/docs/prometheus/latest/querying/api/>), so that
//! Grafana and promtool can use nightbell as a Prometheus.

mod answer;
mod cors;
mod federate;
mod metadata;
mod parameters;
mod query;
mod rules;
mod series;
mod status;
mod targets;
mod tree;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::IntoResponse as _;

use super::Context;
use super::seats::{Class, Seats};
use super::server::slash;

/// The route outside `/api/v1`: `/federate`.
pub fn federation() -> Router<Context> {
    federate::routes()
}

/// Every route below `/api/v1`.
pub fn routes(seats: &Seats) -> Router<Context> {
    let lookups = || {
        let lookups = Router::new()
            .merge(query::lookups())
            .merge(tree::routes())
            .merge(series::routes())
            .merge(metadata::routes());
        lookups
            .merge(targets::routes())
            .merge(rules::routes())
            .merge(status::routes())
    };
    let slashes = slash::redirecting(lookups().merge(query::routes()), || {
        not_found().into_response()
    });
    Router::new()
        .merge(seats.over(Class::Query, query::routes()))
        .merge(seats.over(Class::Lookup, lookups()))
        .fallback(slashes)
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
        })
        .layer(from_fn(cors::allow))
}

fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}
