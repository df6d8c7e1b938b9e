//! Seats: whatever answers a request by work that takes time does it off the runtime's threads, a
//! bounded number of each kind at once, within a deadline that counts the wait as well, and with
//! memory that is counted.
//!
//! [`seated`] is a layer over routes. It reads the body, waits for a seat, and runs the handler on
//! a thread where it may compute as long as it looks at its [`Interrupt`] from time to time. The
//! seat is taken until the answer has been sent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::model::matcher::{COMPILED_BYTE, MOST_COMPILED};
use crate::model::{Budget, Holder, OverBudget, Reservation, parse_duration};
use crate::promql::{EvalError, Interrupt};
use crate::telemetry::Sparing;

use super::error::ApiError;
use super::server::stream::query_of;

/// Queries of the API that are evaluated at once, as many as a Prometheus evaluates.
pub const QUERIES: usize = 20;
/// Other reading requests that are answered at once.
const LOOKUPS: usize = 8;
/// Requests of people and of other servers that are answered at once: federation, pages of metrics,
/// health, queries by this program's commands.
const OPERATORS: usize = 8;
/// Requests for alerts, groups and silences that are answered at once.
const ALERTS: usize = 8;
/// Requests that bring telemetry of applications, and are read at once.
const TELEMETRY: usize = 4;
/// Requests that change something, and are answered at once: posted alerts, silences.
const CHANGES: usize = 8;

/// How the commands of this program name themselves.
const COMMAND: &[u8] = b"nightbell/";

/// Deadline of a query that names none, and the longest that it may name.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(120);
/// Deadline of everything else.
const TIMEOUT: Duration = Duration::from_secs(30);
/// About the memory of one compiled regular expression, in bytes, beside what grows with its text.
const REGEX: usize = 256 << 10;
/// The type of a body that holds parameters.
const FORM: &[u8] = b"application/x-www-form-urlencoded";
/// How often one who waits for memory looks whether there is some.
const FULL_AGAIN: Duration = Duration::from_millis(20);
/// How long a handler whose time is up may take to notice.
const GRACE: Duration = Duration::from_secs(5);

/// Greatest body of a request, in bytes: what Go takes for a form.
pub const MAX_BODY: usize = 10 << 20;
/// What a body takes in memory: itself, and what is read from it.
const BODY_COPIES: usize = 3;
/// The first bytes of a body are the connection's own: small requests are taken whatever the others
/// hold.
const SMALL_BODY: usize = 16 << 10;
/// How long a body may take to come, and how fast it must come in the long run, in bytes a second.
const BODY_TIME: Duration = Duration::from_secs(10);
const BODY_RATE: u64 = 256 << 10;
/// Answers up to so many bytes, which the kernel takes at once, free the seat before they are sent.
const SMALL_ANSWER: u64 = 64 << 10;

/// What a request is about; each kind has seats of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// An expression is evaluated.
    Query,
    /// Something is looked up, or an expression is read.
    Lookup,
    /// What people and other servers need while dashboards are busy.
    Operator,
    /// Something is changed.
    Change,
    /// Telemetry of applications arrives.
    Telemetry,
    /// Alerts, groups and silences are shown.
    Alerts,
    /// The one or the other, by the request's method.
    AlertsOrChange,
}

impl Class {
    fn of(self, parts: &Parts) -> Self {
        let reads = parts.method == Method::GET || parts.method == Method::HEAD;
        match self {
            Class::AlertsOrChange if reads => Class::Alerts,
            Class::AlertsOrChange => Class::Change,
            // An operator who asks from a terminal does not wait behind dashboards.
            Class::Query | Class::Lookup if is_command(parts) => Class::Operator,
            class => class,
        }
    }
}

/// Whether a command of this program asks.
fn is_command(parts: &Parts) -> bool {
    parts
        .headers
        .get(header::USER_AGENT)
        .is_some_and(|agent| agent.as_bytes().starts_with(COMMAND))
}

/// The seats of all kinds. Cheap to clone.
#[derive(Clone)]
pub struct Seats(Arc<All>);

struct All {
    queries: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    operators: Arc<Semaphore>,
    alerts: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    telemetry: Arc<Semaphore>,
    budget: Arc<Budget>,
    dashboards: Handle,
    refused: Counter,
    line: Sparing,
}

impl Seats {
    /// Empty seats; queries and lookups are computed in `dashboards`, everything else in the
    /// runtime that serves it. `refused` counts the requests that get none.
    pub fn new(budget: Arc<Budget>, dashboards: Handle, refused: Counter) -> Self {
        let seats = |count| Arc::new(Semaphore::new(count));
        Seats(Arc::new(All {
            queries: seats(QUERIES),
            lookups: seats(LOOKUPS),
            operators: seats(OPERATORS),
            alerts: seats(ALERTS),
            changes: seats(CHANGES),
            telemetry: seats(TELEMETRY),
            budget,
            dashboards,
            refused,
            line: Sparing::default(),
        }))
    }

    fn of(&self, class: Class) -> Arc<Semaphore> {
        Arc::clone(match class {
            Class::Query => &self.0.queries,
            Class::Lookup => &self.0.lookups,
            Class::Operator => &self.0.operators,
            Class::Alerts => &self.0.alerts,
            Class::Change | Class::AlertsOrChange => &self.0.changes,
            Class::Telemetry => &self.0.telemetry,
        })
    }

    /// Where a request of this kind is answered.
    fn threads(&self, class: Class, served: &Handle) -> Handle {
        match class {
            Class::Query | Class::Lookup => self.0.dashboards.clone(),
            Class::Operator
            | Class::Alerts
            | Class::Change
            | Class::Telemetry
            | Class::AlertsOrChange => served.clone(),
        }
    }

    /// Puts routes behind seats of one kind.
    pub fn over<S: Clone + Send + Sync + 'static>(
        &self,
        class: Class,
        routes: Router<S>,
    ) -> Router<S> {
        routes.route_layer(from_fn_with_state((self.clone(), class), seated))
    }

    /// Counts a request that is turned away; logs it once a minute.
    fn refuse(&self, class: Class, reason: &str) {
        self.0.refused.inc();
        if let Some(count) = self.0.line.due() {
            warn!(
                ?class,
                count, reason, "Requests were turned away because too much is asked at once."
            );
        }
    }
}

/// What a handler gets: the flag that ends its work, when it was asked, and memory for what it
/// computes with.
#[derive(Clone)]
pub struct Seat {
    /// Raised when the time is up or the client has gone.
    pub interrupt: Arc<Interrupt>,
    /// How long it waited for its seat.
    pub waited: Duration,
    budget: Arc<Budget>,
    /// Bytes that its request holds already until its end, counted with queries.
    held: Arc<AtomicUsize>,
}

impl Seat {
    /// Memory for what is computed, counted as held by queries. Waits for it until the time is up.
    ///
    /// # Errors
    /// More than one piece of work may have, or others hold the memory until the deadline.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, OverBudget> {
        let mut reservation = self.budget.reserve(Holder::Queries);
        loop {
            match reservation.grow(bytes) {
                Err(OverBudget::Full { .. })
                    if self.can_have(bytes) && self.waits_for_room(bytes) => {}
                result => {
                    self.held.fetch_add(reservation.bytes(), Ordering::Relaxed);
                    return result.map(|()| reservation);
                }
            }
        }
    }

    /// Evaluates, and evaluates again where others held the memory for it and have given enough of
    /// it back. Nothing is held during the wait: two that wait for each other's memory would wait
    /// without end.
    ///
    /// # Errors
    /// Those of the evaluation; [`EvalError::NoMemory`] when the time is up.
    pub fn evaluate<T>(
        &self,
        mut evaluation: impl FnMut() -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        loop {
            match evaluation() {
                Err(EvalError::NoMemory(OverBudget::Full { wanted, .. }))
                    if !self.can_have(wanted) =>
                {
                    return Err(OverBudget::TooLarge(self.budget.most(Holder::Queries)).into());
                }
                Err(EvalError::NoMemory(OverBudget::Full { wanted, .. }))
                    if self.waits_for_room(wanted) => {}
                result => return result,
            }
        }
    }

    /// Whether the request could have so many bytes more if no other held any.
    fn can_have(&self, bytes: usize) -> bool {
        self.held.load(Ordering::Relaxed).saturating_add(bytes) <= self.budget.most(Holder::Queries)
    }

    /// Waits until there is room for so many bytes. Returns whether there is some before the time
    /// is up.
    fn waits_for_room(&self, bytes: usize) -> bool {
        while self.interrupt.check().is_ok() {
            std::thread::sleep(FULL_AGAIN);
            if self.budget.has_room(Holder::Queries, bytes) {
                return true;
            }
        }
        false
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Seat {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let missing =
            || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "this route has no seats");
        parts.extensions.get::<Seat>().cloned().ok_or_else(missing)
    }
}

/// Ends the work when the client goes away.
struct Guard(Option<Arc<Interrupt>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(interrupt) = &self.0 {
            interrupt.cancel();
        }
    }
}

/// The layer: see the module's documentation.
async fn seated(
    State((seats, class)): State<(Seats, Class)>,
    request: Request,
    next: Next,
) -> Response {
    let asked = Instant::now();
    let (mut parts, body) = request.into_parts();
    let (form, class) = (class, class.of(&parts));
    let holder = if class == Class::Change {
        Holder::Alerts
    } else {
        Holder::Bodies
    };
    let (body, held) = match read_body(body, seats.0.budget.reserve(holder)).await {
        Ok(read) => read,
        Err(unread) => {
            if matches!(unread, Unread::Full(_)) {
                seats.refuse(class, "the memory for requests is used up");
            }
            return refusal(form, unread.status(), "unavailable", &unread.to_string());
        }
    };
    let deadline = asked + deadline(form, &parts, &body);
    let Ok(Ok(permit)) = timeout_at(deadline, seats.of(class).acquire_owned()).await else {
        seats.refuse(class, "no seat was free in time");
        return refusal(
            form,
            StatusCode::SERVICE_UNAVAILABLE,
            "timeout",
            "query timed out in query queue",
        );
    };
    let mut compiled = seats.0.budget.reserve(Holder::Queries);
    while let Err(refused) = compiled.grow(regexes(&parts, &body)) {
        let (status, kind) = match refused {
            OverBudget::TooLarge(_) => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            OverBudget::Full { .. } if Instant::now() < deadline => {
                tokio::time::sleep(FULL_AGAIN).await;
                continue;
            }
            OverBudget::Full { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        return refusal(
            form,
            status,
            kind,
            &format!("too many regular expressions: {refused}"),
        );
    }
    let interrupt = Arc::new(Interrupt::new());
    let mut guard = Guard(Some(Arc::clone(&interrupt)));
    let seat = Seat {
        interrupt: Arc::clone(&interrupt),
        waited: asked.elapsed(),
        budget: Arc::clone(&seats.0.budget),
        held: Arc::new(compiled.bytes().into()),
    };
    parts.extensions.insert(seat);
    let (request, handle) = (
        Request::from_parts(parts, Body::from(body)),
        Handle::current(),
    );
    let mut work = seats.threads(class, &handle).spawn_blocking(move || {
        let response = handle.block_on(next.run(request));
        drop((held, compiled));
        (response, permit)
    });
    let done = match timeout_at(deadline, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            interrupt.time_out();
            match timeout_at(deadline + GRACE, work).await {
                Ok(done) => done,
                Err(_) => {
                    return refusal(
                        form,
                        StatusCode::SERVICE_UNAVAILABLE,
                        "timeout",
                        "query timed out in expression evaluation",
                    );
                }
            }
        }
    };
    guard.0 = None;
    match done {
        Ok((response, permit)) => hold(response, permit),
        Err(_) => refusal(
            form,
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the request could not be answered: see the log",
        ),
    }
}

/// An answer without data, in the form that the clients of this kind of request expect.
fn refusal(class: Class, status: StatusCode, kind: &str, message: &str) -> Response {
    match class {
        Class::Operator | Class::Alerts | Class::Change | Class::AlertsOrChange => {
            ApiError::new(status, message).into_response()
        }
        // Exporters try again when they hear when.
        Class::Telemetry => {
            ([(header::RETRY_AFTER, "5")], ApiError::new(status, message)).into_response()
        }
        Class::Query | Class::Lookup => {
            let body = json!({ "status": "error", "errorType": kind, "error": message });
            (
                status,
                [(header::CONTENT_TYPE, "application/json")],
                body.to_string(),
            )
                .into_response()
        }
    }
}

/// How long a request may take in all. A `timeout` that cannot be read is the handler's to refuse.
fn deadline(class: Class, parts: &Parts, body: &[u8]) -> Duration {
    let most = if class == Class::Query {
        QUERY_TIMEOUT
    } else {
        TIMEOUT
    };
    let named = [body, query_of(parts).as_bytes()]
        .into_iter()
        .find_map(timeout_of);
    named
        .and_then(|text| seconds(&text))
        .filter(|named| !named.is_zero())
        .map_or(most, |named| named.min(most))
}

/// Most bytes that the regular expressions of a request take: each follows a tilde or stands in a
/// `label_replace`.
fn regexes(parts: &Parts, body: &[u8]) -> usize {
    let is_form = parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(FORM));
    let body = if is_form { body } else { b"" };
    let texts = [body, query_of(parts).as_bytes()].map(|text| {
        [&b"~"[..], b"%7E", b"%7e", b"label_replace"]
            .iter()
            .map(|sign| memchr::memmem::find_iter(text, sign).count())
            .sum::<usize>()
    });
    let (count, length) = (
        texts.iter().sum::<usize>(),
        body.len() + query_of(parts).len(),
    );
    let text = length
        .saturating_mul(COMPILED_BYTE)
        .min(count.saturating_mul(MOST_COMPILED));
    count.saturating_mul(REGEX).saturating_add(text)
}

/// The parameter `timeout` of a form or of a URL, found without reading the others.
fn timeout_of(pairs: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"timeout=";
    let begins = |at: &usize| *at == 0 || pairs[*at - 1] == b'&';
    let start = memchr::memmem::find_iter(pairs, NAME).find(begins)?;
    let value = pairs[start..].split(|byte| *byte == b'&').next()?;
    url::form_urlencoded::parse(value)
        .next()
        .map(|(_, value)| value.into_owned())
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.or_else(|| parse_duration(text).ok())
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("the body is longer than {} MiB", MAX_BODY >> 20)]
    TooLong,
    #[error("the body comes too slowly")]
    TooSlow,
    #[error("the body cannot be read to its end")]
    Broken,
    #[error("{0}")]
    Full(OverBudget),
}

impl Unread {
    fn status(&self) -> StatusCode {
        match self {
            Unread::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Unread::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Unread::Broken => StatusCode::BAD_REQUEST,
            Unread::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A whole body, and the memory that it holds.
async fn read_body(mut body: Body, mut held: Reservation) -> Result<(Bytes, Reservation), Unread> {
    if body.is_end_stream() {
        return Ok((Bytes::new(), held));
    }
    let announced = body.size_hint().exact().unwrap_or(0);
    if announced > MAX_BODY as u64 {
        return Err(Unread::TooLong);
    }
    let begun = Instant::now();
    let mut all = Vec::new();
    loop {
        let until = begun + BODY_TIME + Duration::from_millis(all.len() as u64 * 1000 / BODY_RATE);
        let frame = match timeout_at(until, body.frame()).await {
            Err(_) => return Err(Unread::TooSlow),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Unread::Broken),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = all.len() + data.len();
        if length > MAX_BODY {
            return Err(Unread::TooLong);
        }
        let wanted = length
            .saturating_sub(SMALL_BODY)
            .saturating_mul(BODY_COPIES);
        if wanted > held.bytes() {
            held.grow(wanted - held.bytes()).map_err(Unread::Full)?;
        }
        all.extend_from_slice(&data);
    }
    Ok((all.into(), held))
}

/// Leaves the seat taken until the answer has been sent, where that may last.
fn hold(response: Response, permit: OwnedSemaphorePermit) -> Response {
    if response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|size| size <= SMALL_ANSWER)
    {
        return response;
    }
    response.map(|body| {
        Body::new(Held {
            body,
            permit: Some(permit),
        })
    })
}

/// An answer with the seat that it holds.
struct Held {
    body: Body,
    permit: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(task);
        if matches!(polled, Poll::Ready(None)) {
            self.permit = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_found_among_other_parameters() {
        let found = |pairs: &str| timeout_of(pairs.as_bytes());
        assert_eq!(found("query=1&timeout=2s&x=1").as_deref(), Some("2s"));
        assert_eq!(found("timeout=1%2E5").as_deref(), Some("1.5"));
        assert_eq!(found("mytimeout=2s"), None);
        assert_eq!(seconds("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(seconds("2m"), Some(Duration::from_secs(120)));
        assert_eq!(seconds("-1"), None);
    }
}
