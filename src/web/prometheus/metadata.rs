//! `/metadata`, `/targets/metadata`: type, help and unit of every family that is declared now, for
//! all targets or by target.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Map, Value as Json, json};

use crate::model::Matcher;
use crate::promql::parse_selector;

use super::super::Context;
use super::answer::{Answer, Problem, labels_json};
use super::parameters::Parameters;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/metadata", get(metadata))
        .route("/targets/metadata", get(target_metadata))
}

async fn metadata(
    State(context): State<Context>,
    parameters: Parameters,
) -> Result<Answer, Problem> {
    let (limit, per_metric) = (
        parameters.count("limit")?,
        parameters
            .count("limit_per_metric")?
            .filter(|count| *count > 0),
    );
    let wanted = parameters.get("metric");
    let mut found = Map::new();
    for family in context.scraper.metadata() {
        let is_known = found.contains_key(&*family.name);
        if wanted.is_some_and(|wanted| !family.is_of(wanted))
            || (!is_known && limit.is_some_and(|limit| found.len() >= limit))
        {
            continue;
        }
        let entry = json!({ "type": family.kind.name(), "help": family.help, "unit": family.unit });
        if let Json::Array(list) = found
            .entry(family.name.to_string())
            .or_insert_with(|| json!([]))
            && !list.contains(&entry)
            && per_metric.is_none_or(|count| list.len() < count)
        {
            list.push(entry);
        }
    }
    Ok(Answer::json(&Json::Object(found)))
}

/// Of the targets that `match_target` chooses: one metric, or all.
async fn target_metadata(
    State(context): State<Context>,
    parameters: Parameters,
) -> Result<Answer, Problem> {
    let limit = parameters.count("limit")?;
    let matchers: Vec<Matcher> = match parameters.get("match_target") {
        Some(text) => parse_selector(text).map_err(|e| Problem::parameter("match_target", e))?,
        None => Vec::new(),
    };
    let wanted = parameters.get("metric");
    let mut found = Vec::new();
    for (target, page) in context.scraper.target_pages() {
        if !matchers.iter().all(|m| m.matches_labels(&target.labels)) {
            continue;
        }
        if limit.is_some_and(|limit| found.len() >= limit) {
            break;
        }
        for family in page
            .metadata()
            .iter()
            .filter(|family| wanted.is_none_or(|wanted| family.is_of(wanted)))
        {
            let (kind, target) = (family.kind.name(), labels_json(&target.labels));
            let mut entry =
                json!({ "target": target, "type": kind, "help": family.help, "unit": family.unit });
            if wanted.is_none() {
                entry["metric"] = json!(family.name);
            }
            found.push(entry);
        }
    }
    Ok(Answer::json(&Json::Array(found)))
}
