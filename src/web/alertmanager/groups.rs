//! `/alerts/groups`: the aggregation groups with their alerts.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value as Json, json};

use crate::model::Timestamp;

use super::super::Context;
use super::answer::{alert_json, labels_json};
use super::filter::Filter;
use crate::web::server::slash::with_or_without;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    with_or_without("/alerts/groups", get(list))
}

async fn list(State(context): State<Context>, filter: Filter) -> axum::Json<Vec<Json>> {
    let (mut shown, config) = (Vec::new(), context.alerting.config());
    for mut group in context.alerting.groups(Timestamp::now()) {
        if !filter.takes_receiver(&config, &group.receiver) {
            continue;
        }
        group.alerts.retain(|view| filter.takes(view));
        let muted = group.alerts.iter().any(|view| !view.muted_by.is_empty());
        if group.alerts.is_empty() || (muted && !filter.muted) {
            continue;
        }
        let alerts: Vec<Json> = group.alerts.iter().map(alert_json).collect();
        shown.push(json!({ "alerts": alerts, "labels": labels_json(&group.labels), "receiver": { "name": group.receiver } }));
    }
    axum::Json(shown)
}
