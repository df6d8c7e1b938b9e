//! `/federate`: the newest sample of each chosen series, as text 0.0.4, for another Prometheus to
//! scrape (<https://prometheus.io/docs/prometheus/latest/federation/>).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::exposition::Format;
use crate::model::text::{format_float_g, is_legacy_label_name, is_legacy_metric_name, quote};
use crate::model::{Labels, METRIC_NAME, Timestamp, is_histogram, is_stale};
use crate::promql::parse_selector;
use crate::store::{ChunkError, Store};

use super::super::Context;
use super::super::error::ApiError;
use super::super::seats::Seat;
use super::parameters::Parameters;

/// About what a line takes beside its labels, in bytes.
const LINE: usize = 128;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new().route("/federate", get(federate))
}

async fn federate(
    State(context): State<Context>,
    seat: Seat,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let refused =
        |error: &dyn std::fmt::Display| ApiError::new(StatusCode::BAD_REQUEST, error.to_string());
    parameters
        .check_matches()
        .map_err(|error| refused(&error))?;
    let selectors: Result<Vec<_>, _> = parameters.all("match[]").map(parse_selector).collect();
    let selectors = selectors.map_err(|e| refused(&e))?;
    let (now, lookback) = (Timestamp::now(), context.engine.lookback);
    let unavailable = |error: String| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error);
    let mut newest = BTreeMap::new();
    for (position, matchers) in selectors.iter().enumerate() {
        seat.interrupt
            .check()
            .map_err(|error| unavailable(error.to_string()))?;
        if !selectors[..position].contains(matchers) {
            let collected = collect(&context.store, matchers, now - lookback, now, &mut newest);
            collected.map_err(|error| {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            })?;
        }
    }
    // The text, and the lines that are sorted for it.
    let bytes = newest
        .keys()
        .map(|labels| 2 * labels.heap_size() + LINE)
        .sum();
    let _held = seat
        .reserve(bytes)
        .map_err(|error| unavailable(error.to_string()))?;
    let text = page(&newest, &context.rules.external_labels());
    Ok(([(CONTENT_TYPE, Format::Text.content_type())], text).into_response())
}

fn collect(
    store: &Store,
    matchers: &[crate::model::Matcher],
    from: Timestamp,
    to: Timestamp,
    newest: &mut BTreeMap<Labels, (i64, f64)>,
) -> Result<(), ChunkError> {
    store.select(matchers, from, to, |labels, window| {
        if let (Some(at), Some(value)) = (window.times.last(), window.values.last())
            // The text format has no native histograms; Prometheus leaves them out of it as well.
            && !is_stale(*value)
            && !is_histogram(*value)
        {
            newest.insert(labels.clone(), (*at, *value));
        }
        ControlFlow::Continue(())
    })
}

/// The page: a family for each name, labels of this instance behind those of the series.
fn page(newest: &BTreeMap<Labels, (i64, f64)>, external: &Labels) -> String {
    let mut added: BTreeMap<&str, &str> = external.iter().collect();
    added.entry("instance").or_insert("");
    let (mut out, mut family) = (String::new(), None);
    let mut all: Vec<_> = newest.iter().collect();
    all.sort_by(|a, b| (a.0.metric_name(), a.0).cmp(&(b.0.metric_name(), b.0)));
    for (labels, (at, value)) in all {
        let name = labels.metric_name();
        let bare = is_legacy_metric_name(name);
        if family != Some(name) {
            let shown = if bare { name.to_owned() } else { quote(name) };
            let _ = writeln!(out, "# TYPE {shown} untyped");
            family = Some(name);
        }
        let own = labels.iter().filter(|(label, _)| *label != METRIC_NAME);
        let here = added
            .iter()
            .filter(|(label, _)| labels.get(label).is_none())
            .map(|(label, value)| (*label, *value));
        let pairs = own.chain(here).map(|(label, value)| {
            let label = if is_legacy_label_name(label) {
                label.to_owned()
            } else {
                quote(label)
            };
            format!(
                "{label}=\"{}\"",
                value
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n")
            )
        });
        let quoted = (!bare).then(|| quote(name));
        let pairs: Vec<String> = quoted.into_iter().chain(pairs).collect();
        let _ = writeln!(
            out,
            "{}{{{}}} {} {at}",
            if bare { name } else { "" },
            pairs.join(","),
            format_float_g(*value)
        );
    }
    out
}
