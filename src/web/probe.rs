//! `/probe?target=…&module=…`, as blackbox_exporter has it: probes a target that the client names,
//! in one of the configured ways.
//!
//! Who may ask can make this machine connect to whatever it reaches, so it is off unless `probe`
//! names modules, and it is asked by those who may change something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;

use super::Context;
use super::admin::Writer;
use super::error::ApiError;
use crate::collectors::ProbeModules;
use crate::config::Section;
use crate::exposition::{Format, Page, encode};

/// The module of a request that names none.
const DEFAULT_MODULE: &str = "http_2xx";
/// Probes at once.
const MOST: usize = 20;
/// The time of a probe where neither the client nor the module says one.
const LONGEST: Duration = Duration::from_secs(120);
/// How much earlier than the client's deadline a probe ends, so that its result arrives.
const EARLY: Duration = Duration::from_millis(500);

/// The block `probe`.
#[derive(Clone, Debug)]
pub struct ProbeConfig {
    modules: ProbeModules,
    seats: Arc<Semaphore>,
}

impl ProbeConfig {
    /// Reads the block.
    pub fn read(section: &Section<'_>) -> Self {
        let most = section.or("max_concurrent", MOST);
        if !(1..=1000).contains(&most) {
            section.error(
                "max_concurrent",
                "is not a number of probes",
                "give a number from 1 to 1000",
            );
        }
        let config = ProbeConfig {
            modules: ProbeModules::read(section),
            seats: Arc::new(Semaphore::new(most.min(1000))),
        };
        section.finish();
        config
    }
}

/// The routes of this file; `refused` counts what is turned away because too many probes run.
pub fn routes(refused: Counter) -> Router<Context> {
    let answer = move |writer, context, parameters, headers| {
        probe(writer, context, parameters, headers, refused.clone())
    };
    Router::new().route("/probe", get(answer))
}

async fn probe(
    _: Writer,
    State(context): State<Context>,
    Query(parameters): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    refused: Counter,
) -> Result<Response, ApiError> {
    let wrong = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
    let Some(config) = context.settings().probe else {
        let message = "probes are off: name a file of modules in probe.modules_file, in the format of blackbox_exporter's";
        return Err(ApiError::new(StatusCode::NOT_FOUND, message));
    };
    let parameter = |name: &str| {
        parameters
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let name = parameter("module").unwrap_or(DEFAULT_MODULE);
    let shown = || name.chars().take(100).collect::<String>();
    let module = config
        .modules
        .get(name)
        .ok_or_else(|| wrong(format!("Unknown module {:?}", shown())))?;
    let target = parameter("target").ok_or_else(|| wrong("Target parameter is missing".into()))?;
    if parameter("hostname").is_some() {
        return Err(wrong(
            "the parameter hostname is not known here: set the header Host, or tls_config.server_name, in the module".into(),
        ));
    }
    let limit = limit(&headers).map_err(wrong)?;
    let Ok(_seat) = config.seats.try_acquire() else {
        refused.inc();
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many probes run: raise probe.max_concurrent, or ask less often",
        ));
    };
    let batch = module
        .probe(target, limit)
        .await
        .map_err(|problem| wrong(format!("the target {problem}")))?;
    let accept = headers
        .get(axum::http::header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let format = Format::negotiate(accept);
    let text = encode::render([&Page::of(&batch)], format);
    Ok(([(CONTENT_TYPE, format.content_type())], text).into_response())
}

/// How long the probe may take, as the client's deadline leaves it.
fn limit(headers: &HeaderMap) -> Result<Duration, String> {
    let Some(value) = headers.get("x-prometheus-scrape-timeout-seconds") else {
        return Ok(LONGEST - EARLY);
    };
    let seconds = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<f64>().ok())
        .filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    let seconds =
        seconds.ok_or("X-Prometheus-Scrape-Timeout-Seconds is not a number of seconds")?;
    let given = Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64()));
    // Of a short deadline a half.
    Ok(given.saturating_sub(EARLY).max(given.mul_f64(0.5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_ends_before_the_client_s_deadline() {
        let limit = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                "X-Prometheus-Scrape-Timeout-Seconds",
                text.parse().expect("a header"),
            );
            limit(&headers).ok().map(|limit| limit.as_millis())
        };
        for (text, wanted) in [
            ("10", Some(9500)),
            ("10.000000", Some(9500)),
            ("0.6", Some(300)),
            ("1e9", Some(119_500)),
            ("0", None),
            ("x", None),
            ("NaN", None),
            ("-1", None),
        ] {
            assert_eq!(limit(text), wanted, "{text}");
        }
        assert_eq!(
            super::limit(&HeaderMap::new()).map(|limit| limit.as_millis()),
            Ok(119_500)
        );
    }
}
