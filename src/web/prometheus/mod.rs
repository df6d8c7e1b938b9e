//! Prometheus's HTTP API v1 (<https://prometheus.io/docs/prometheus/latest/querying/api/>), so that Grafana and promtool can use nightbell
//! as a Prometheus.

mod answer;
mod metadata;
mod parameters;
mod query;
mod rules;
mod series;
mod status;
mod targets;

use axum::Router;

use super::Context;

/// Every route below `/api/v1`.
pub fn routes() -> Router<Context> {
    Router::new()
        .merge(query::routes())
        .merge(series::routes())
        .merge(metadata::routes())
        .merge(targets::routes())
        .merge(rules::routes())
        .merge(status::routes())
}
