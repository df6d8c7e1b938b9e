//! `/v1/metrics`, `/v1/traces`, `/v1/logs`: what exporters of OpenTelemetry send
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>), and `/api/v1/otlp/v1/metrics`, where
//! Prometheus takes the first of them. Off unless `otlp` is configured below `collectors`.
//!
//! It takes the administrator's token, that of the entry `otlp`, or this machine as itself.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::json;

use crate::collectors::job;
use crate::collectors::otlp::Taken;
use crate::exposition::otlp::json::{Signal, to_protobuf};
use crate::model::Timestamp;
use crate::model::bytes::put_uint;
use crate::web::Context;
use crate::web::admin::{self, Writer};
use crate::web::seats::Seat;

/// When a sender that was turned away may come again, in seconds.
const AGAIN: &str = "5";
/// JSON becomes at most so many times longer as Protocol Buffers: a number of two bytes takes nine.
const LONGER: usize = 5;
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// The routes of this file, with their whole paths.
pub fn routes() -> Router<Context> {
    let take = |signal| {
        post(move |context, sender, seat, headers, body| {
            take(signal, context, sender, seat, headers, body)
        })
    };
    Router::new()
        .route("/v1/metrics", take(Signal::Metrics))
        .route("/v1/traces", take(Signal::Traces))
        .route("/v1/logs", take(Signal::Logs))
        .route("/api/v1/otlp/v1/metrics", take(Signal::Metrics))
        // The body has been read within the bound of all requests.
        .layer(DefaultBodyLimit::disable())
}

/// Who sends: the refusal of [`Writer`], which the token of `otlp` makes up for, and that token.
struct Sender {
    refusal: Option<crate::web::error::ApiError>,
    token: Option<String>,
}

impl FromRequestParts<Context> for Sender {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        context: &Context,
    ) -> Result<Self, Self::Rejection> {
        let refusal = Writer::from_request_parts(parts, context).await.err();
        Ok(Sender {
            refusal,
            token: admin::token(&parts.headers).map(str::to_owned),
        })
    }
}

/// How a sender writes and is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

impl Form {
    fn answer(self, status: StatusCode, protobuf: Vec<u8>, json: &serde_json::Value) -> Response {
        let (kind, body) = match self {
            Form::Protobuf => (PROTOBUF, protobuf),
            Form::Json => (JSON, json.to_string().into_bytes()),
        };
        (status, [(CONTENT_TYPE, kind)], body).into_response()
    }

    /// A refusal as `google.rpc.Status`.
    fn refusal(self, status: StatusCode, message: &str) -> Response {
        let mut response = self.answer(
            status,
            text_field(2, message),
            &json!({ "message": message }),
        );
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static(AGAIN));
        }
        response
    }

    /// `Export…ServiceResponse`, with what was not taken.
    fn success(self, signal: Signal, taken: &Taken) -> Response {
        if taken.rejected == 0 {
            return self.answer(StatusCode::OK, Vec::new(), &json!({}));
        }
        let mut inner = Vec::new();
        put_uint(&mut inner, 1 << 3);
        put_uint(&mut inner, taken.rejected);
        inner.extend(text_field(2, &taken.problem));
        let mut outer = Vec::new();
        put_uint(&mut outer, 1 << 3 | 2);
        put_uint(&mut outer, inner.len() as u64);
        outer.extend(inner);
        let rejected = match signal {
            Signal::Metrics => "rejectedDataPoints",
            Signal::Traces => "rejectedSpans",
            Signal::Logs => "rejectedLogRecords",
        };
        self.answer(
            StatusCode::OK,
            outer,
            &json!({ "partialSuccess": { rejected: taken.rejected.to_string(), "errorMessage": taken.problem } }),
        )
    }
}

fn text_field(number: u64, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_uint(&mut out, number << 3 | 2);
    put_uint(&mut out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
    out
}

async fn take(
    signal: Signal,
    State(context): State<Context>,
    sender: Sender,
    seat: Seat,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
            .unwrap_or_default()
            .trim()
    };
    let kind = header(CONTENT_TYPE)
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let form = if kind == JSON {
        Form::Json
    } else {
        Form::Protobuf
    };
    let Some(receiver) = context.otlp.receiver() else {
        return form.refusal(
            StatusCode::NOT_FOUND,
            "OpenTelemetry's protocol is not taken: add otlp: {} below collectors:",
        );
    };
    if let Some(refusal) = sender.refusal {
        let lets_in = |token: &str| job::is_right(receiver.token(), token);
        if !sender.token.as_deref().is_some_and(lets_in) {
            return form.refusal(refusal.status, &refusal.message);
        }
    }
    if kind != JSON && kind != PROTOBUF && kind != "application/protobuf" {
        receiver.refuse(signal, "media_type");
        return form.refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send application/x-protobuf or application/json",
        );
    }
    let most = receiver.most_bytes();
    let is_gzip = match header(CONTENT_ENCODING).to_ascii_lowercase().as_str() {
        "" | "identity" => false,
        "gzip" => true,
        _ => {
            receiver.refuse(signal, "media_type");
            return form.refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the encoding is not known: send gzip or none",
            );
        }
    };
    let room = if is_gzip { most } else { body.len() };
    let Ok(_held) = seat.reserve(if form == Form::Json {
        room.saturating_mul(2)
    } else {
        room
    }) else {
        receiver.refuse(signal, "memory");
        return form.refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "the memory for requests is used up: try again",
        );
    };
    let too_large = |receiver: &crate::collectors::otlp::Receiver| {
        receiver.refuse(signal, "too_large");
        form.refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body has more than {most} bytes without its compression"),
        )
    };
    let unreadable = |receiver: &crate::collectors::otlp::Receiver, problem: &str| {
        receiver.refuse(signal, "unreadable");
        form.refusal(StatusCode::BAD_REQUEST, problem)
    };
    let body = match is_gzip.then(|| crate::http::gunzipped(&body, most)) {
        None => body,
        Some(Ok(plain)) => plain.into(),
        Some(Err(problem)) if problem.contains("more than") => return too_large(&receiver),
        Some(Err(problem)) => return unreadable(&receiver, &problem),
    };
    if body.len() > most {
        return too_large(&receiver);
    }
    let body = match form {
        Form::Protobuf => body,
        Form::Json => match to_protobuf(
            &body,
            signal,
            most.saturating_mul(LONGER)
                .min(body.len().saturating_mul(LONGER)),
        ) {
            Ok(body) => body.into(),
            Err(problem) => return unreadable(&receiver, &problem),
        },
    };
    match receiver.take(signal, &body, Timestamp::now()) {
        Ok(taken) => form.success(signal, &taken),
        Err(problem) => unreadable(&receiver, problem),
    }
}
