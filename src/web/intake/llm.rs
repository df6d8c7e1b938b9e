//! `/llm/NAME/…`: passes calls on to a provider of language models, and its answers back as they
//! come. These routes stand beside all others: no seat, no bound on bodies, no compression, no
//! deadline but the provider's, and no login, since `Authorization` carries the provider's key.
//!
//! This machine as itself may call; others need the entry's token in `X-Nightbell-Token`, unless
//! the entry is open.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use futures_util::Stream;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use serde_json::json;

use crate::collectors::job;
use crate::collectors::llm_proxy::{Passing, Proxy, Scanner};
use crate::http::{HttpErrorKind, RelayedBody};
use crate::model::Timestamp;
use crate::web::Context;
use crate::web::admin;
use crate::web::server::stream::{Head, query_of};

/// The header for callers from elsewhere; it is not passed on.
const TOKEN: HeaderName = HeaderName::from_static("x-nightbell-token");
/// Tells the clients of OpenAI and Anthropic not to try again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The routes of this file, with their whole paths.
pub fn routes() -> Router<Context> {
    Router::new().route("/llm/{name}/{*rest}", any(pass))
}

async fn pass(State(context): State<Context>, request: Request) -> Response {
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    let Some((name, path)) = parts
        .uri
        .path()
        .strip_prefix("/llm/")
        .and_then(|rest| rest.split_once('/'))
    else {
        return refusal(
            StatusCode::NOT_FOUND,
            "not_found",
            "no pass-through is named",
        );
    };
    let Some((proxy, settings)) = context
        .llm
        .get(name)
        .and_then(|proxy| Some((proxy.clone(), proxy.settings()?)))
    else {
        return refusal(
            StatusCode::NOT_FOUND,
            "not_found",
            "no pass-through of this name: add it to llm_proxy: below collectors:",
        );
    };
    let (token, is_open) = proxy.access();
    let sent = parts.headers.remove(TOKEN);
    let has_token = || {
        sent.as_ref()
            .and_then(|sent| sent.to_str().ok())
            .is_some_and(|sent| job::is_right(token, sent))
    };
    if !is_open
        && let Err(why) = admin::from_here(&parts, &context)
        && !has_token()
    {
        proxy.refuse("access");
        let message = format!(
            "calls are taken from this machine only, and {why}: set token_file for the pass-through, and send X-Nightbell-Token"
        );
        return refusal(StatusCode::FORBIDDEN, "access", &message);
    }
    if let Some(period) = proxy.over_budget(&settings, Timestamp::now()) {
        proxy.refuse("budget");
        let message = format!(
            "the budget of this {} for {name} is used up (nightbell)",
            period.as_str()
        );
        let mut response = refusal(StatusCode::TOO_MANY_REQUESTS, "budget_exceeded", &message);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("3600"));
        response
            .headers_mut()
            .insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        return response;
    }
    let query = query_of(&parts);
    let target = settings.target(path, Some(&*query).filter(|query| !query.is_empty()));
    let (Some(relay), Some(target)) = (&settings.relay, target) else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "the path leads out of the provider's",
        );
    };
    if let Some(head) = parts.extensions.get::<Arc<Head>>() {
        head.may_be_slow();
    }
    if settings.is_plain {
        parts
            .headers
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let is_head = parts.method == axum::http::Method::HEAD;
    let mut passing = Passing::begin(
        Arc::clone(&proxy),
        Arc::clone(&settings),
        path,
        &parts.headers,
        began,
    );
    let body = (!body.is_end_stream()).then(|| Sent {
        body,
        scanner: passing.request(),
        proxy: Arc::clone(&proxy),
    });
    match relay.pass(parts.method, target, &parts.headers, body).await {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            passing.answered(head.status.as_u16(), &head.headers);
            if is_head || body.is_end_stream() {
                passing.ended(false);
            }
            let mut response = Response::new(Body::new(Received { body, passing }));
            (*response.status_mut(), *response.headers_mut()) = (head.status, head.headers);
            response
        }
        Err(error) => {
            passing.failed(&error);
            let status = if error.kind == HttpErrorKind::Timeout {
                StatusCode::GATEWAY_TIMEOUT
            } else {
                StatusCode::BAD_GATEWAY
            };
            refusal(
                status,
                "upstream_unreachable",
                &format!(
                    "the provider cannot be reached: {} (nightbell)",
                    error.kind.as_str()
                ),
            )
        }
    }
}

/// An answer of this server, in the form of the providers.
fn refusal(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({ "error": { "message": message, "type": kind, "code": kind } });
    (
        status,
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
        body.to_string(),
    )
        .into_response()
}

/// The body of a request on its way to the provider.
struct Sent {
    body: Body,
    scanner: Arc<Mutex<Scanner>>,
    proxy: Arc<Proxy>,
}

impl Stream for Sent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(
                match std::task::ready!(Pin::new(&mut self.body).poll_frame(task)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            self.scanner.lock().look(&data);
                            self.proxy.sent(data.len());
                            Some(Ok(data))
                        }
                        Err(_) => continue,
                    },
                    Some(Err(error)) => Some(Err(error)),
                    None => None,
                },
            );
        }
    }
}

/// The body of an answer on its way to the caller; when it is dropped before its end, the caller
/// has gone.
struct Received {
    body: RelayedBody,
    passing: Passing,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(task));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.passing.saw(data, Instant::now());
                }
                if self.body.is_end_stream() || self.passing.is_complete() {
                    self.passing.ended(false);
                }
            }
            Some(Err(_)) => self.passing.ended(true),
            None => self.passing.ended(false),
        }
        Poll::Ready(polled.map(|frame| frame.map_err(axum::Error::new)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
