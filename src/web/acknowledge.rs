//! Acknowledging alerts: `POST /api/v1/acknowledge` for programs, and the page behind the signed
//! link of a message.
//!
//! Opening the link changes nothing, because mail programs and chats open links to look at them;
//! the page's button does.

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use std::collections::BTreeMap;

use super::Context;
use super::admin::Writer;
use super::error::ApiError;
use crate::alerting::AlertView;
use crate::model::Timestamp;

/// Longest name of a person, in characters.
const MAX_NAME: usize = 200;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/api/v1/acknowledge", post(acknowledge))
        .route("/acknowledge", get(page).post(confirm))
}

/// Which alerts, and who takes them on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Every one of these labels must be the alert's.
    labels: BTreeMap<String, String>,
    #[serde(default)]
    by: String,
}

async fn acknowledge(
    State(context): State<Context>,
    _: Writer,
    Json(request): Json<Request>,
) -> Result<Json<serde_json::Value>, ApiError> {
    if request.labels.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "labels is empty: that would acknowledge everything",
        ));
    }
    let matches = |view: &AlertView| {
        request
            .labels
            .iter()
            .all(|(name, value)| view.alert.labels.get(name) == Some(value))
    };
    let found: Vec<AlertView> = context
        .alerting
        .alerts(Timestamp::now())
        .into_iter()
        .filter(matches)
        .collect();
    if found.is_empty() {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "no alert fires that has these labels",
        ));
    }
    let by: String = if request.by.is_empty() {
        "api".into()
    } else {
        request.by.chars().take(MAX_NAME).collect()
    };
    context
        .alerting
        .acknowledge(
            found.iter().map(|view| view.alert.fingerprint()).collect(),
            by.clone(),
        )
        .await;
    let alerts: Vec<_> = found
        .iter()
        .map(|view| view.alert.labels.braced())
        .collect();
    Ok(Json(
        serde_json::json!({"status": "success", "data": {"acknowledgedBy": by, "alerts": alerts}}),
    ))
}

/// The parts of a signed link.
#[derive(Deserialize)]
struct Link {
    alert: String,
    since: i64,
    token: String,
}

impl Link {
    fn verified(&self, context: &Context) -> Result<u64, ApiError> {
        let fingerprint = u64::from_str_radix(&self.alert, 16).ok();
        fingerprint
            .filter(|f| {
                context
                    .alerting
                    .may_acknowledge(*f, self.since, &self.token)
            })
            .ok_or_else(|| {
                ApiError::new(
                    StatusCode::FORBIDDEN,
                    "this link is not valid: open the one of the message",
                )
            })
    }
}

async fn page(
    State(context): State<Context>,
    Query(link): Query<Link>,
) -> Result<Response, ApiError> {
    let alert = find(&context, link.verified(&context)?, link.since)?;
    Ok(html(&format!(
        "<p>{}</p><form method=\"post\"><button>Acknowledge · 确认告警</button></form>",
        escape(&alert.alert.labels.braced())
    )))
}

async fn confirm(
    State(context): State<Context>,
    Query(link): Query<Link>,
) -> Result<Response, ApiError> {
    let fingerprint = link.verified(&context)?;
    let alert = find(&context, fingerprint, link.since)?;
    context
        .alerting
        .acknowledge(vec![fingerprint], "link".into())
        .await;
    Ok(html(&format!(
        "<p>Acknowledged · 已确认: {}</p>",
        escape(&alert.alert.labels.braced())
    )))
}

fn find(context: &Context, fingerprint: u64, since: i64) -> Result<AlertView, ApiError> {
    let mut alerts = context.alerting.alerts(Timestamp::now()).into_iter();
    let over = || ApiError::new(StatusCode::GONE, "this alert no longer fires");
    alerts
        .find(|view| view.alert.fingerprint() == fingerprint && view.alert.starts_at.0 == since)
        .ok_or_else(over)
}

fn html(body: &str) -> Response {
    let text = format!(
        "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"referrer\" content=\"no-referrer\"><title>nightbell</title></head><body>{body}</body></html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    ];
    (headers, text).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
