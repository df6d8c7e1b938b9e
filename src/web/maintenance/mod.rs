//! `/api/nightbell/maintenance`: the calendar's tasks and who did them, planned windows, and
//! annotations for charts.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use super::admin::Writer;
use super::error::ApiError;
use crate::alerting::config::matchers::parse_matchers;
use crate::alerting::{Handle, Silence, SilenceError};
use crate::maintenance::WindowBody;
use crate::maintenance::{Calendar, DoneError, TaskView, Window};
use crate::model::{Matcher, Timestamp, parse_duration};
use crate::state::DoneRow;

/// Entries that are shown.
const ENTRIES: i64 = 500;
/// How far back windows are shown unless the request says otherwise, and how far ahead.
const BACK: Duration = Duration::from_secs(30 * 86_400);
const AHEAD: Duration = Duration::from_secs(366 * 86_400);
/// Longest texts that are taken, in bytes.
const MAX_NAME: usize = 200;
const MAX_TEXT: usize = 4096;
/// The annotation of a silence that is a planned window.
const PLANNED: &str = "planned";

/// The routes that show something.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/maintenance", get(list))
        .route("/maintenance/windows", get(windows))
        .route("/annotations", get(annotations))
}

/// The routes that change something.
pub fn changes() -> Router<Context> {
    Router::new()
        .route("/maintenance/done", post(done))
        .route("/maintenance/windows", post(add))
        .route("/maintenance/windows/{id}", delete(end))
}

fn bad(text: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, text)
}

fn unavailable(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("the state database does not answer: {error}"),
    )
}

async fn list(State(context): State<Context>) -> Result<Json<Value>, ApiError> {
    let now = Timestamp::now();
    let entries = context
        .calendar
        .entries(ENTRIES)
        .await
        .map_err(unavailable)?;
    // Another instance may have noted something since the last look.
    drop(context.calendar.look(now).await);
    let tasks: Vec<Value> = context.calendar.tasks(now).iter().map(task_json).collect();
    let entries: Vec<Value> = entries.iter().map(entry_json).collect();
    Ok(Json(
        json!({ "status": "success", "data": { "tasks": tasks, "entries": entries } }),
    ))
}

fn task_json(view: &TaskView) -> Value {
    let time = |at: Option<Timestamp>| at.map(Timestamp::rfc3339);
    let by = view
        .entry
        .as_ref()
        .filter(|entry| Some(entry.at) == view.standing.done)
        .map(|entry| entry.by.clone());
    json!({
        "task": view.task.name, "of": view.task.of, "hint": view.task.hint, "job": view.task.job, "lastDone": time(view.standing.done),
        "by": by, "next": time(view.standing.next), "due": time(view.standing.due), "overdue": view.standing.is_overdue,
    })
}

fn entry_json(entry: &DoneRow) -> Value {
    json!({ "task": entry.task, "at": entry.at.rfc3339(), "notedAt": entry.noted_at.rfc3339(), "by": entry.by, "note": entry.note })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    task: String,
    by: String,
    at: Option<String>,
    #[serde(default)]
    note: String,
}

async fn done(
    State(context): State<Context>,
    _: Writer,
    Json(posted): Json<Done>,
) -> Result<Json<Value>, ApiError> {
    let now = Timestamp::now();
    let at = posted.at.as_deref().map_or(Ok(now), moment)?;
    check_text("by", &posted.by, MAX_NAME, true)?;
    check_text("note", &posted.note, MAX_TEXT, false)?;
    let row = context
        .calendar
        .done(&posted.task, posted.by.trim(), at, &posted.note, now)
        .await
        .map_err(|error| match error {
            DoneError::Unknown(..) => ApiError::new(StatusCode::NOT_FOUND, error.to_string()),
            DoneError::Future(_) => bad(error.to_string()),
            DoneError::State(error) => unavailable(error),
        })?;
    Ok(Json(
        json!({ "status": "success", "data": entry_json(&row) }),
    ))
}

fn check_text(key: &str, text: &str, most: usize, needed: bool) -> Result<(), ApiError> {
    match text.trim() {
        "" if needed => Err(bad(format!("{key} is missing"))),
        _ if text.len() > most => Err(bad(format!("{key} is longer than {most} bytes"))),
        _ => Ok(()),
    }
}

fn moment(text: &str) -> Result<Timestamp, ApiError> {
    let unix = || {
        text.parse::<f64>()
            .ok()
            .filter(|at| at.abs() < 1e11)
            .map(Timestamp::from_seconds)
    };
    Timestamp::parse_rfc3339(text).or_else(unix).ok_or_else(|| {
        bad(format!(
            "{text:?} is not a time such as 2026-01-31T08:00:00Z"
        ))
    })
}

#[derive(Deserialize)]
struct Span {
    from: Option<String>,
    to: Option<String>,
}

impl Span {
    /// Grafana gives milliseconds.
    fn read(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), ApiError> {
        let read = |text: &String| match text.parse::<i64>() {
            Ok(number) if number.abs() > 100_000_000_000 => Ok(Timestamp(number)),
            _ => moment(text),
        };
        let from = self.from.as_ref().map_or(Ok(now - BACK), read)?;
        Ok((from, self.to.as_ref().map_or(Ok(now + AHEAD), read)?))
    }
}

async fn windows(
    State(context): State<Context>,
    Query(span): Query<Span>,
) -> Result<Json<Value>, ApiError> {
    let now = Timestamp::now();
    let (from, to) = span.read(now)?;
    let windows = context
        .calendar
        .windows(from, to)
        .await
        .map_err(unavailable)?;
    let shown: Vec<Value> = windows
        .iter()
        .map(|window| window_json(window, now))
        .collect();
    Ok(Json(json!({ "status": "success", "data": shown })))
}

fn window_json(window: &Window, now: Timestamp) -> Value {
    let state = match now {
        now if window.ends_at <= now => "over",
        now if window.starts_at <= now => "active",
        _ => "pending",
    };
    let about = &window.about;
    json!({
        "id": window.id, "startsAt": window.starts_at.rfc3339(), "endsAt": window.ends_at.rfc3339(), "state": state,
        "matchers": about.matchers, "comment": about.comment, "author": about.author,
    })
}

/// A list that Grafana draws: times in milliseconds, a text, tags.
async fn annotations(
    State(context): State<Context>,
    Query(span): Query<Span>,
) -> Result<Json<Value>, ApiError> {
    let (from, to) = span.read(Timestamp::now())?;
    let windows = context
        .calendar
        .windows(from, to)
        .await
        .map_err(unavailable)?;
    let shown = windows.iter().map(|window| {
        let about = &window.about;
        json!({
            "time": window.starts_at.0, "timeEnd": window.ends_at.0, "isRegion": true, "title": "maintenance",
            "text": about.comment, "tags": ["maintenance", about.author],
        })
    });
    Ok(Json(Value::Array(shown.collect())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    start: Option<String>,
    duration: String,
    matchers: Vec<String>,
    #[serde(default)]
    comment: String,
    by: String,
}

async fn add(
    State(context): State<Context>,
    _: Writer,
    Json(posted): Json<Planned>,
) -> Result<Json<Value>, ApiError> {
    let now = Timestamp::now();
    let starts_at = posted.start.as_deref().map_or(Ok(now), moment)?.max(now);
    let duration =
        parse_duration(&posted.duration).map_err(|error| bad(format!("duration: {error}")))?;
    check_text("by", &posted.by, MAX_NAME, true)?;
    check_text("comment", &posted.comment, MAX_TEXT, false)?;
    let about = WindowBody {
        matchers: posted.matchers,
        comment: posted.comment,
        author: posted.by,
        planned: String::new(),
    };
    let window = plan(
        &context.alerting,
        &context.calendar,
        starts_at,
        duration,
        about,
    )
    .await
    .map_err(|error| match error {
        PlanError::Silence(SilenceError::Invalid(text)) => bad(text),
        PlanError::Matcher(text) => bad(text),
        PlanError::Silence(error) => unavailable(error),
        PlanError::State(error) => unavailable(error),
    })?;
    Ok(Json(
        json!({ "status": "success", "data": window_json(&window, now) }),
    ))
}

/// Why a window cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A matcher cannot be read, or there is none.
    #[error("{0}")]
    Matcher(String),
    /// Its silence was refused.
    #[error(transparent)]
    Silence(SilenceError),
    /// The database failed; the silence was taken back.
    #[error(transparent)]
    State(crate::state::Error),
}

/// Makes the silence of a window beforehand, and keeps the window for charts and reports.
///
/// # Errors
///
/// A matcher is none, the silence is refused, or the database failed; then nothing is muted.
pub async fn plan(
    alerting: &Handle,
    calendar: &Calendar,
    starts_at: Timestamp,
    duration: Duration,
    about: WindowBody,
) -> Result<Window, PlanError> {
    let silence = Silence {
        id: String::new(),
        matchers: read_matchers(&about.matchers)?,
        starts_at,
        ends_at: starts_at + duration,
        updated_at: starts_at,
        created_by: about.author.clone(),
        comment: if about.comment.is_empty() {
            "planned maintenance".to_owned()
        } else {
            about.comment.clone()
        },
        annotations: vec![(PLANNED.to_owned(), "maintenance".to_owned())],
    };
    let id = alerting
        .set_silence(silence)
        .await
        .map_err(PlanError::Silence)?;
    let window = Window {
        id,
        starts_at,
        ends_at: starts_at + duration,
        about,
    };
    if let Err(error) = calendar.keep(&window).await {
        // A window that nobody sees must not mute.
        drop(alerting.expire_silence(&window.id).await);
        return Err(PlanError::State(error));
    }
    Ok(window)
}

/// The matchers of a window: each text one or several, at least one in all.
///
/// # Errors
///
/// One cannot be read, or there is none.
pub fn read_matchers(texts: &[String]) -> Result<Vec<Matcher>, PlanError> {
    let mut matchers = Vec::new();
    for text in texts {
        matchers.extend(
            parse_matchers(text)
                .map_err(|error| PlanError::Matcher(format!("{text:?}: {error}")))?,
        );
    }
    if matchers.is_empty() {
        return Err(PlanError::Matcher(
            "a window needs at least one matcher, such as instance=db1".into(),
        ));
    }
    Ok(matchers)
}

async fn end(
    State(context): State<Context>,
    _: Writer,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let now = Timestamp::now();
    let windows = context
        .calendar
        .windows(now, Timestamp::MAX)
        .await
        .map_err(unavailable)?;
    let unknown = || {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "there is no window of this id that is not over",
        )
    };
    let window = windows
        .into_iter()
        .find(|window| window.id == id)
        .ok_or_else(unknown)?;
    match context.alerting.expire_silence(&id).await {
        // Somebody has ended the silence by itself, and it is forgotten.
        Ok(()) | Err(SilenceError::NotFound(_)) => {}
        Err(error) => return Err(unavailable(error)),
    }
    let ended = Window {
        starts_at: window.starts_at.min(now),
        ends_at: now,
        ..window
    };
    context.calendar.keep(&ended).await.map_err(unavailable)?;
    Ok(Json(
        json!({ "status": "success", "data": window_json(&ended, now) }),
    ))
}
