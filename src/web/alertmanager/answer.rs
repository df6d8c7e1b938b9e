//! How a refusal looks, how a request's body is read, and how labels and alerts look in JSON.

use std::fmt::Display;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use super::uri::is_request_uri;
use crate::alerting::AlertView;
use crate::model::{Labels, Timestamp};

/// Greatest request body, in bytes.
const MAX_BODY: usize = super::super::seats::MAX_BODY;
/// Go's zero time: no time.
pub const NO_TIME: &str = "0001-01-01T00:00:00.000Z";

/// A request that is not granted.
#[derive(Debug)]
pub enum Problem {
    /// With a text as JSON.
    Refused(StatusCode, String),
    /// The form of the request is wrong: `{"code":…,"message":…}`.
    Malformed(StatusCode, u16, String),
    /// More than is taken; what of it, as JSON.
    TooMany(Json),
    /// There is no such thing; no text.
    NotFound,
}

impl Problem {
    /// The request asks for what cannot be.
    pub fn bad(message: impl Display) -> Self {
        Problem::Refused(StatusCode::BAD_REQUEST, message.to_string())
    }

    /// The body is not what it should be.
    pub fn unreadable(message: impl Into<String>) -> Self {
        Problem::Malformed(StatusCode::BAD_REQUEST, 400, message.into())
    }

    /// A value that the API's schema demands is missing.
    pub fn missing(name: &str) -> Self {
        Problem::Malformed(
            StatusCode::UNPROCESSABLE_ENTITY,
            602,
            format!("{name} in body is required"),
        )
    }

    /// A value does not have the form that the API's schema demands; `code` is the one of
    /// <https://github.com/go-openapi/errors>.
    pub fn form(code: u16, message: impl Into<String>) -> Self {
        Problem::Malformed(StatusCode::UNPROCESSABLE_ENTITY, code, message.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match self {
            Problem::Refused(status, message) => (status, axum::Json(message)).into_response(),
            Problem::Malformed(status, code, message) => (
                status,
                axum::Json(json!({ "code": code, "message": message })),
            )
                .into_response(),
            Problem::TooMany(what) => (
                StatusCode::TOO_MANY_REQUESTS,
                [(RETRY_AFTER, "60")],
                axum::Json(what),
            )
                .into_response(),
            Problem::NotFound => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

/// The body of a request, read as JSON. Any other type is refused, which also keeps a web page of
/// strangers from writing here.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
            .to_owned();
        if kind.split(';').next().map(str::trim) != Some("application/json") {
            let message =
                format!("unsupported media type {kind:?}, only [application/json] are allowed");
            return Err(Problem::Malformed(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                415,
                message,
            ));
        }
        let body = to_bytes(request.into_body(), MAX_BODY)
            .await
            .map_err(|_| Problem::unreadable("the body cannot be read to its end"))?;
        serde_json::from_slice(&body)
            .map(Body)
            .map_err(|e| Problem::unreadable(format!("parsing body failed: {e}")))
    }
}

/// Reads an RFC 3339 time; Go's zero time and an empty text mean none.
pub fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text.filter(|t| !t.is_empty()) else {
        return Ok(None);
    };
    if text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    let unreadable = || {
        Problem::unreadable(format!(
            "{name} in body must be of type date-time: {text:?}"
        ))
    };
    Timestamp::parse_rfc3339(text)
        .map(Some)
        .ok_or_else(unreadable)
}

/// Reads a URI; an empty text means none.
pub fn uri(name: &str, text: String) -> Result<String, Problem> {
    if text.is_empty() || is_request_uri(&text) {
        return Ok(text);
    }
    Err(Problem::form(
        601,
        format!("{name} in body must be of type uri: {text:?}"),
    ))
}

/// Labels or annotations as a JSON object.
pub fn labels_json(labels: &Labels) -> Json {
    Json::Object(
        labels
            .iter()
            .map(|(n, v)| (n.to_owned(), Json::from(v)))
            .collect::<Map<_, _>>(),
    )
}

/// An alert with who mutes it.
pub fn alert_json(view: &AlertView) -> Json {
    let alert = &view.alert;
    let names: Vec<Json> = view
        .receivers
        .iter()
        .map(|name| json!({ "name": name }))
        .collect();
    let mut shown = json!({
        "annotations": labels_json(&alert.annotations),
        "endsAt": alert.ends_at.map_or_else(|| NO_TIME.to_owned(), Timestamp::rfc3339),
        "fingerprint": format!("{:016x}", alert.fingerprint()),
        "receivers": names,
        "startsAt": alert.starts_at.rfc3339(),
        "status": {
            "inhibitedBy": view.inhibited_by, "mutedBy": view.muted_by, "silencedBy": view.silenced_by, "state": view.state(),
        },
        "updatedAt": alert.updated_at.rfc3339(),
        "labels": labels_json(&alert.labels),
    });
    if let Some(flap) = &view.flapping {
        shown["flapping"] = json!({ "since": flap.since.map(Timestamp::rfc3339), "firings": flap.firings, "values": flap.values });
    }
    if !alert.generator_url.is_empty() {
        shown["generatorURL"] = json!(alert.generator_url);
    }
    shown
}
