//! What people read at their leisure: the daily check now, and reports of a period, of the
//! capacity, of errors.
//!
//! Everything here is computed from answers to questions in PromQL that a caller asks, and from the
//! time that it gives: the daily check from one answer to each of [`checks::QUESTIONS`], a report
//! from hours of [`quantities::QUANTITIES`], which come from the history or from rollups. Nothing
//! here asks anybody, or looks at a clock.

mod advice;
mod capacity;
pub mod checks;
mod document;
mod errors;
pub mod hours;
mod last;
mod models;
mod period;
pub mod quantities;
mod searching;
pub mod trend;
pub mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::model::Timestamp;
use hours::{Ask, Span};

pub use crate::model::Language;
pub use document::Document;
pub use last::Last;

/// What a report is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// What an application did in a period, and with what.
    Period,
    /// When disks, memory, pools and budgets reach their limits.
    Capacity,
    /// What went wrong in logs and answers.
    Errors,
}

impl Kind {
    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        [Kind::Period, Kind::Capacity, Kind::Errors]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Period => "period",
            Kind::Capacity => "capacity",
            Kind::Errors => "errors",
        }
    }
}

/// A planned window that lay in the period.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Why.
    pub comment: String,
    /// Who planned it.
    pub author: String,
}

/// Which report is wanted, and what is known beside the quantities.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it is about.
    pub kind: Kind,
    /// When the period ends, and how long it is; whole hours count.
    pub until: Timestamp,
    /// How long it is.
    pub last: Duration,
    /// The zone of the times that are shown.
    pub zone: TimeZone,
    /// The job whose requests and logs are meant; none: every one.
    pub job: Option<String>,
    /// In which language it is.
    pub language: Language,
    /// The time of the report.
    pub now: Timestamp,
    /// Planned windows of the period.
    pub windows: Vec<Planned>,
    /// Texts of statements by `queryid`, where they may be shown.
    pub statements: BTreeMap<String, String>,
    /// The slowest requests that logs showed lately: target and line.
    pub slowest: Vec<(String, String)>,
}

impl Request {
    /// Only the question, of which nothing else is known.
    pub fn new(kind: Kind, last: Last, zone: TimeZone, language: Language, now: Timestamp) -> Self {
        let (until, last) = last.period(&zone, now);
        let (windows, statements, slowest) = (Vec::new(), BTreeMap::new(), Vec::new());
        Request {
            kind,
            until,
            last,
            zone,
            job: None,
            language,
            now,
            windows,
            statements,
            slowest,
        }
    }

    /// The whole hours that it is about.
    pub fn span(&self) -> Span {
        Span::last(
            usize::try_from(self.last.as_secs() / 3600)
                .unwrap_or(1)
                .max(1),
            self.until,
        )
    }

    /// A time of the zone, to the minute.
    fn minute(&self, at: Timestamp) -> String {
        local(at, &self.zone).map_or_else(String::new, |time| {
            time.strftime("%Y-%m-%d %H:%M").to_string()
        })
    }

    fn title(&self, title: &str) -> String {
        self.job
            .as_ref()
            .map_or_else(|| title.to_owned(), |job| format!("{title}: {job}"))
    }

    fn preface(&self, span: Span, before: Option<Span>) -> Vec<String> {
        let zone = self.zone.iana_name().unwrap_or("UTC");
        let written = |span: Span| {
            format!(
                "{} – {} {zone}",
                self.minute(span.from),
                self.minute(span.to())
            )
        };
        let mut lines = vec![match self.language {
            Language::En => format!("Period: {}", written(span)),
            Language::Zh => format!("本期：{}", written(span)),
        }];
        lines.extend(before.map(|before| match self.language {
            Language::En => format!("Before: {}", written(before)),
            Language::Zh => format!("上期：{}", written(before)),
        }));
        lines
    }
}

/// A time as clocks of a zone show it.
fn local(at: Timestamp, zone: &TimeZone) -> Option<jiff::civil::DateTime> {
    jiff::Timestamp::from_millisecond(at.0)
        .ok()
        .map(|instant| zone.to_datetime(instant))
}

/// Makes the report from what `ask` answers.
///
/// # Errors
///
/// A question has no answer; the text says why.
pub fn make(request: &Request, ask: Ask<'_>) -> Result<Document, String> {
    match request.kind {
        Kind::Period => period::period(request, ask),
        Kind::Capacity => capacity::capacity(request, ask),
        Kind::Errors => errors::errors(request, ask),
    }
}
