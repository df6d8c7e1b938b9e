//! `/alerts`: what is active, and alerts from outside, which enter the same pipeline as those of
//! nightbell's own rules.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tracing::debug;

use crate::alerting::PostedAlert;
use crate::model::Timestamp;

use super::super::Context;
use super::super::admin::Writer;
use super::answer::{Body, Problem, alert_json, labels_json, time, uri};
use super::filter::Filter;
use crate::web::server::slash::with_or_without;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    with_or_without("/alerts", get(list).post(post))
}

async fn list(State(context): State<Context>, filter: Filter) -> axum::Json<Vec<Json>> {
    let (views, config) = (
        context.alerting.alerts(Timestamp::now()),
        context.alerting.config(),
    );
    let shown = views.iter().filter(|view| {
        filter.takes(view)
            && view
                .receivers
                .iter()
                .any(|name| filter.takes_receiver(&config, name))
    });
    axum::Json(shown.map(alert_json).collect())
}

/// Labels or annotations; `null` is an empty text, as for Go.
type Pairs = BTreeMap<String, Option<String>>;

fn texts(pairs: Pairs) -> impl Iterator<Item = (String, String)> {
    pairs
        .into_iter()
        .map(|(name, value)| (name, value.unwrap_or_default()))
}

/// An alert as it is posted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: Option<Pairs>,
    #[serde(default)]
    annotations: Option<Pairs>,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

impl Posted {
    fn read(self, index: usize) -> Result<PostedAlert, Problem> {
        Ok(PostedAlert {
            labels: texts(
                self.labels
                    .ok_or_else(|| Problem::missing(&format!("{index}.labels")))?,
            )
            .collect(),
            annotations: texts(self.annotations.unwrap_or_default()).collect(),
            starts_at: time(&format!("{index}.startsAt"), self.starts_at.as_deref())?,
            ends_at: time(&format!("{index}.endsAt"), self.ends_at.as_deref())?,
            generator_url: self.generator_url.map_or(Ok(String::new()), |url| {
                uri(&format!("{index}.generatorURL"), url)
            })?,
        })
    }
}

/// SEMANTICS 136 and 137: the valid alerts of a batch are taken even when others are not.
async fn post(
    State(context): State<Context>,
    _: Writer,
    Body(posted): Body<Option<Vec<Posted>>>,
) -> Result<(), Problem> {
    let posted: Vec<PostedAlert> = posted
        .unwrap_or_default()
        .into_iter()
        .enumerate()
        .map(|(i, alert)| alert.read(i))
        .collect::<Result<_, _>>()?;
    let (now, resolve_timeout) = (Timestamp::now(), context.alerting.config().resolve_timeout);
    let (mut accepted, mut refusals) = (Vec::new(), Vec::new());
    for alert in posted {
        match alert.accept(now, resolve_timeout) {
            Ok(incoming) => accepted.push(incoming),
            Err(refused) => refusals.push(refused.to_string()),
        }
    }
    let count = accepted.len() as u64;
    let refused = context.alerting.post(accepted).await;
    if refused.count > 0 {
        let alerts: Vec<Json> = refused.first.iter().map(labels_json).collect();
        return Err(Problem::TooMany(json!({
            "error": format!(
                "{} of {} alerts were refused: the share of {} posted alerts is used up; end or merge some, or raise web.posted_alerts",
                refused.count,
                count + refusals.len() as u64,
                refused.share
            ),
            "refused": refused.count,
            "accepted": count - refused.count,
            "limit": refused.share,
            "alerts": alerts,
            "invalid": refusals,
        })));
    }
    if refusals.is_empty() {
        return Ok(());
    }
    context.alerting.count_invalid(refusals.len());
    // The client gets the reason, and the metric counts it.
    debug!(
        refused = refusals.len(),
        error = refusals[0],
        "Posted alerts are invalid."
    );
    Err(Problem::bad(refusals.join("\n")))
}
