//! `/api/nightbell/report`: a report of a period, of the capacity or of errors, as a page, as
//! Markdown or as JSON. The same makes what is sent on a schedule.

mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::Context;
use super::admin::Writer;
use super::error::ApiError;
use super::seats::Seat;
use crate::collectors::STATEMENT_TEXT as TEXT;
use crate::maintenance::Calendar;
use crate::model::{Holder, Labels, Timestamp};
use crate::promql::{Engine, Memory};
use crate::report::{self, Document, Kind, Language, Last, Planned, Request};
use crate::scrape::Scraper;

pub use source::{Points, Source, evaluate};

/// The period of a report that names none.
pub const PERIOD: Last = Last::Time(Duration::from_secs(30 * 86_400));
/// Lines of slow requests that a report shows.
const SLOWEST: usize = 50;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new().route("/report", get(show))
}

/// What a report is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What it is about.
    pub kind: Kind,
    /// Its period.
    pub last: Last,
    /// The zone of its days and of its times.
    pub zone: TimeZone,
    /// Of which job.
    pub job: Option<String>,
    /// Its language.
    pub language: Language,
}

/// Makes reports. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    /// The history and the rollups.
    pub source: Source,
    /// Planned windows.
    pub calendar: Calendar,
    /// What the collectors of logs know of slow requests.
    pub scraper: Arc<Scraper>,
}

impl Reporter {
    /// What is known of a report beside the history; lines of logs and texts of statements only
    /// where `texts` may be shown.
    pub async fn gather(&self, wanted: &Wanted, texts: bool, now: Timestamp) -> Request {
        let mut request = Request {
            job: wanted.job.clone(),
            ..Request::new(
                wanted.kind,
                wanted.last,
                wanted.zone.clone(),
                wanted.language,
                now,
            )
        };
        let span = request.span();
        // Without the database a report has no windows, and is a report still.
        let windows = self
            .calendar
            .windows(span.from, span.to())
            .await
            .unwrap_or_default();
        request.windows = windows
            .into_iter()
            .map(|window| Planned {
                from: window.starts_at,
                to: window.ends_at,
                comment: window.about.comment,
                author: window.about.author,
            })
            .collect();
        match wanted.kind {
            _ if !texts => {}
            Kind::Errors => request.slowest = self.slowest(wanted.job.as_deref()),
            Kind::Period => request.statements = self.statements(),
            Kind::Capacity => {}
        }
        request
    }

    /// Makes a report with this engine, on a thread that may compute.
    ///
    /// # Errors
    ///
    /// The history cannot be read, or is asked for too much.
    pub fn make(&self, request: &Request, engine: &Engine) -> Result<Document, String> {
        let span = request.span();
        let loaded = self.source.load(span.before().from, span.to());
        report::make(request, &|quantity, span| {
            loaded.hours(quantity, span, engine, request.now)
        })
    }

    /// The texts of statements by `queryid`, where collectors of PostgreSQL may read them.
    fn statements(&self) -> BTreeMap<String, String> {
        let targets = self.scraper.targets();
        let notes = targets
            .iter()
            .filter(|target| target.info.kind == "postgres")
            .flat_map(|target| self.scraper.notes(&target.info.labels));
        let texts = notes
            .filter(|note| note.metrics.contains(&TEXT))
            .flat_map(|note| note.lines);
        texts
            .filter_map(|line| {
                line.split_once('\t')
                    .map(|(id, text)| (id.to_owned(), text.to_owned()))
            })
            .collect()
    }

    /// The slowest requests that logs showed lately.
    fn slowest(&self, job: Option<&str>) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for target in self
            .scraper
            .targets()
            .iter()
            .filter(|target| target.info.kind == "log_file")
        {
            let labels: &Labels = &target.info.labels;
            if job.is_some_and(|job| labels.value("job") != job && labels.value("instance") != job)
            {
                continue;
            }
            let notes = self.scraper.notes(labels);
            let slow = notes
                .iter()
                .filter(|note| note.metrics.contains(&"log_slow_lines_total"))
                .flat_map(|note| &note.lines);
            found.extend(slow.map(|line| (labels.value("instance").to_owned(), line.clone())));
        }
        found.truncate(SLOWEST);
        found
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    kind: String,
    last: Option<String>,
    timezone: Option<String>,
    job: Option<String>,
    language: Option<String>,
    format: Option<String>,
}

/// Figures are for everybody who may ask for samples; texts from logs and databases are for those
/// who may change something.
async fn show(
    State(context): State<Context>,
    seat: Seat,
    writer: Result<Writer, ApiError>,
    Query(question): Query<Question>,
) -> Result<Response, ApiError> {
    let bad = |text: String| ApiError::new(StatusCode::BAD_REQUEST, text);
    let kind = Kind::parse(&question.kind)
        .ok_or_else(|| bad("kind: there is period, capacity, errors".into()))?;
    let last = question
        .last
        .as_deref()
        .map_or(Ok(PERIOD), Last::parse)
        .map_err(|error| bad(format!("last: {error}")))?;
    let zone = question.timezone.as_deref().unwrap_or("UTC");
    let zone = TimeZone::get(zone).map_err(|_| {
        bad(format!(
            "timezone: {zone:?} is not a time zone such as Asia/Shanghai"
        ))
    })?;
    let language = question.language.as_deref().unwrap_or("en");
    let language =
        Language::parse(language).ok_or_else(|| bad("language: there is en, zh".into()))?;
    let wanted = Wanted {
        kind,
        last,
        zone,
        job: question.job,
        language,
    };
    let mut engine = context.engine.clone();
    engine.interrupt = Some(seat.interrupt.clone());
    engine.memory = Some(Memory::new(context.budget.clone(), Holder::Queries));
    engine.keeps_selections = false;
    let request = context
        .reporter
        .gather(&wanted, writer.is_ok(), Timestamp::now())
        .await;
    let document = context
        .reporter
        .make(&request, &engine)
        .map_err(|e| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, e))?;
    let text =
        |kind: &'static str, text: String| ([(header::CONTENT_TYPE, kind)], text).into_response();
    match question.format.as_deref().unwrap_or("html") {
        "html" => Ok(text("text/html; charset=utf-8", document.html(true))),
        "md" => Ok(text("text/markdown; charset=utf-8", document.markdown())),
        "json" => Ok(Json(document.json()).into_response()),
        _ => Err(bad("format: there is html, md, json".into())),
    }
}
