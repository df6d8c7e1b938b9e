//! `POST /api/nightbell/job/NAME`: what runs of jobs report; and `/metrics/job/NAME{/label/value}`,
//! the API of Pushgateway.
//!
//! Both take the administrator's token, that of the job (or of the entry `pushgateway`), or this
//! machine as itself.

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, OriginalUri, Path, Query, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::{post, put};
use serde_json::{Value, json};

use crate::collectors::job::{self, PushError, Report, Unknown, grouping};
use crate::model::Timestamp;
use crate::web::Context;
use crate::web::admin::{self, Writer};
use crate::web::error::ApiError;
use crate::web::seats::MAX_BODY;

/// Largest report, in bytes.
const MAX_REPORT: usize = 16 << 10;

/// The routes of this file, with their whole paths.
pub fn routes() -> Router<Context> {
    let group = || put(push).post(push).delete(push);
    Router::new()
        .route("/api/nightbell/job/{name}", post(report))
        .route("/metrics/job/{*group}", group())
        .route("/metrics/job@base64/{*group}", group())
        // The body has been read within the bound of all requests.
        .layer(DefaultBodyLimit::disable())
}

/// Who asks: the refusal of [`Writer`], which a token of the job's own makes up for, and that
/// token.
struct Reporter {
    refusal: Option<ApiError>,
    token: Option<String>,
}

impl FromRequestParts<Context> for Reporter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        let refusal = Writer::from_request_parts(parts, context).await.err();
        Ok(Reporter {
            refusal,
            token: admin::token(&parts.headers).map(str::to_owned),
        })
    }
}

impl Reporter {
    fn check(self, is_right: impl FnOnce(&str) -> bool) -> Result<(), ApiError> {
        match (self.refusal, self.token) {
            (None, _) => Ok(()),
            (Some(_), Some(token)) if is_right(&token) => Ok(()),
            (Some(refusal), _) => Err(refusal),
        }
    }
}

async fn report(
    State(context): State<Context>,
    reporter: Reporter,
    Path(name): Path<String>,
    Query(asked): Query<Report>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    reporter.check(|token| context.inbox.lets_in(&name, token))?;
    let wrong = |problem: String| ApiError::new(StatusCode::BAD_REQUEST, problem);
    if body.len() > MAX_REPORT {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a report has {MAX_REPORT} bytes at most"),
        ));
    }
    let report = match body.trim_ascii() {
        [] => asked,
        // A list would be read as the fields in their order.
        text if !text.starts_with(b"{") => return Err(wrong("the body is no JSON object".into())),
        text => serde_json::from_slice(text)
            .map_err(|error| wrong(format!("the body is no report: {error}")))?,
    };
    if let Some(problem) = report.problem() {
        return Err(wrong(problem));
    }
    match context.inbox.report(&name, &report, Timestamp::now()).await {
        Ok(()) => Ok(Json(json!({ "status": "success" }))),
        // The collector of the job may not have begun.
        Err(_) if !context.is_ready() => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "nightbell starts: try again",
        )),
        Err(_) => {
            let shown: String = name.chars().take(100).collect();
            let problem = format!(
                "no job {shown:?} takes reports: add {{name: {shown:?}, every: 1d}} to job: below collectors:"
            );
            Err(ApiError::new(StatusCode::NOT_FOUND, problem))
        }
    }
}

async fn push(
    State(context): State<Context>,
    reporter: Reporter,
    method: Method,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    reporter.check(|token| context.inbox.lets_push(token))?;
    let refused = |error: PushError| {
        let status = if matches!(error, PushError::Full(_)) {
            StatusCode::PAYLOAD_TOO_LARGE
        } else {
            StatusCode::BAD_REQUEST
        };
        ApiError::new(status, error.to_string())
    };
    // As it was sent: an encoded slash belongs to a value.
    let group =
        grouping(uri.path().strip_prefix("/metrics/").unwrap_or_default()).map_err(refused)?;
    let (method, done) = match method {
        Method::PUT => (job::Method::Put, StatusCode::OK),
        Method::POST => (job::Method::Post, StatusCode::OK),
        _ => (job::Method::Delete, StatusCode::ACCEPTED),
    };
    let header = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let body = match header(CONTENT_ENCODING) {
        "" | "identity" => body.to_vec(),
        "gzip" => crate::http::gunzipped(&body, MAX_BODY)
            .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error))?,
        other => {
            let shown: String = other.chars().take(50).collect();
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("the encoding {shown:?} is not known: send gzip or none"),
            ));
        }
    };
    let is_protobuf = header(CONTENT_TYPE).starts_with("application/vnd.google.protobuf");
    match context
        .inbox
        .push(&group, method, &body, is_protobuf, Timestamp::now())
        .await
    {
        Ok(result) => result.map(|()| done).map_err(refused),
        Err(Unknown::Gateway) if !context.is_ready() => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "nightbell starts: try again",
        )),
        Err(_) => {
            let remedy = "pushes are not taken: add {name: pushgateway, pushgateway: true} to job: below collectors:";
            Err(ApiError::new(StatusCode::NOT_FOUND, remedy))
        }
    }
}
