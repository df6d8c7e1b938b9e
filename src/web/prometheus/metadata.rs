//! `/metadata`: type and help of every family that is exposed now.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Map, Value as Json, json};

use crate::model::MetricKind;

use super::super::Context;
use super::answer::{Answer, Problem};
use super::parameters::Parameters;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new().route("/metadata", get(metadata))
}

async fn metadata(State(context): State<Context>, parameters: Parameters) -> Result<Answer, Problem> {
    let limit = parameters.limit()?;
    let wanted = parameters.get("metric");
    let mut found = Map::new();
    for family in context.scraper.families() {
        if wanted.is_some_and(|w| w != family.name) || (limit > 0 && found.len() >= limit) {
            continue;
        }
        let kind = if family.kind == MetricKind::Untyped { "unknown" } else { family.kind.as_str() };
        let entry = json!({ "type": kind, "help": family.help, "unit": "" });
        if let Json::Array(list) = found.entry(family.name.to_string()).or_insert_with(|| json!([]))
            && !list.contains(&entry)
        {
            list.push(entry);
        }
    }
    Ok(Answer::json(&Json::Object(found)))
}
