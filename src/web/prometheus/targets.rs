//! `/targets`, `/scrape_pools`, `/alertmanagers`.

use std::collections::BTreeSet;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Map, Value as Json, json};

use crate::config::{shown_url, sounds_secret};
use crate::model::{Labels, Timestamp, format_duration};
use crate::scrape::TargetSnapshot;

use super::super::Context;
use super::answer::{Answer, Problem, labels_json};
use super::parameters::Parameters;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/targets", get(targets))
        .route("/scrape_pools", get(pools))
        .route("/alertmanagers", get(alertmanagers))
}

async fn targets(
    State(context): State<Context>,
    parameters: Parameters,
) -> Result<Answer, Problem> {
    let state = parameters.get("state").unwrap_or("any").to_lowercase();
    let pool = parameters.get("scrapePool");
    let mut data =
        json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": null });
    if matches!(state.as_str(), "any" | "active") {
        let all = context.scraper.targets();
        let wanted = all.iter().filter(|t| pool.is_none_or(|p| p == t.info.pool));
        data["activeTargets"] = wanted.map(active).collect();
    }
    if matches!(state.as_str(), "any" | "dropped") {
        data["droppedTargetCounts"] = context
            .scraper
            .targets()
            .iter()
            .map(|t| (t.info.pool.clone(), json!(0)))
            .collect::<Map<_, _>>()
            .into();
        let dropped = context.scraper.dropped();
        for target in &dropped {
            let count = data["droppedTargetCounts"][&target.pool]
                .as_u64()
                .unwrap_or(0);
            data["droppedTargetCounts"][&target.pool] = json!(count + 1);
        }
        data["droppedTargets"] = dropped
            .iter()
            .filter(|t| pool.is_none_or(|p| p == t.pool))
            .map(|t| json!({ "discoveredLabels": discovered(&t.discovered), "scrapePool": t.pool }))
            .collect();
    }
    Ok(Answer::json(&data))
}

fn active(target: &TargetSnapshot) -> Json {
    let (info, status) = (&target.info, &target.status);
    json!({
        "discoveredLabels": discovered(&info.discovered),
        "labels": labels_json(&info.labels),
        "scrapePool": info.pool,
        "scrapeUrl": shown_url(&info.address),
        "globalUrl": shown_url(&info.address),
        "lastError": status.error,
        "lastScrape": status.at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), Timestamp::rfc3339),
        "lastScrapeDuration": status.duration.as_secs_f64(),
        "health": status.health.as_str(),
        "scrapeInterval": format_duration(info.interval),
        "scrapeTimeout": format_duration(info.timeout),
    })
}

/// The labels before relabelling, without parameters that sound like secrets.
fn discovered(labels: &Labels) -> Json {
    let mut shown = labels_json(labels);
    for (name, value) in shown.as_object_mut().into_iter().flatten() {
        if name.strip_prefix("__param_").is_some_and(sounds_secret) {
            *value = "<secret>".into();
        }
    }
    shown
}

async fn pools(State(context): State<Context>) -> Answer {
    let active = context
        .scraper
        .targets()
        .into_iter()
        .map(|t| t.info.pool.clone());
    let pools: BTreeSet<String> = active
        .chain(context.scraper.dropped().into_iter().map(|t| t.pool))
        .collect();
    Answer::json(&json!({ "scrapePools": pools }))
}

async fn alertmanagers(State(context): State<Context>) -> Answer {
    let known = context.alertmanagers.read().clone();
    let list = |urls: &[String]| {
        urls.iter()
            .map(|url| json!({ "url": url }))
            .collect::<Vec<_>>()
    };
    Answer::json(
        &json!({ "activeAlertmanagers": list(&known.active), "droppedAlertmanagers": list(&known.dropped) }),
    )
}
