//! Reports on a schedule (`reports`): made like those that somebody asks for, and sent to a
//! receiver through the outbox like any message. What was due while nightbell did not run is made
//! once at its start.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tracing::{info, warn};

use crate::alerting::{Alerting, Handle, report_messages};
use crate::collectors::schedule::{self, Schedule};
use crate::config::Section;
use crate::model::{Timestamp, parse_duration};
use crate::notify::Report;
use crate::promql::Engine;
use crate::report::{Kind, Language, Last};
use crate::state::State;
use crate::telemetry::Telemetry;
use crate::web::report::{PERIOD, Reporter, Wanted};

/// How often it is looked whether one is due, and how often one that failed is tried again.
const LOOK: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_secs(300);
/// Beginning of a report's name in the table of schedules.
const REPORT: &str = "report:";
/// Largest text of a message, and largest page, in bytes.
const MAX_TEXT: usize = 64 << 10;
const MAX_PAGE: usize = 2 << 20;

/// An entry of `reports`.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// What distinguishes it from the others, and is remembered.
    name: String,
    wanted: Wanted,
    schedule: Schedule,
    receiver: String,
}

impl Scheduled {
    /// Reads the list.
    pub fn read_all(root: &Section<'_>, alerting: &Alerting) -> Vec<Self> {
        let mut found: Vec<Scheduled> = Vec::new();
        for section in root.sections("reports") {
            let written: String = section.require("kind");
            let kind = Kind::parse(&written);
            if kind.is_none() && !written.is_empty() {
                section.error(
                    "kind",
                    format!("{written:?} is no report"),
                    "there is period, capacity, errors",
                );
            }
            let language: String = section.or("language", "en".to_owned());
            let language = Language::parse(&language).unwrap_or_else(|| {
                section.error(
                    "language",
                    format!("{language:?} is not known"),
                    "there is en, zh",
                );
                Language::En
            });
            let last = read_last(&section, kind);
            let zone = read_zone(&section);
            let schedule = read_schedule(&section, &zone);
            let receiver: String = section.require("receiver");
            if !receiver.is_empty() && alerting.receiver(&receiver).is_none() {
                let known: Vec<&str> = alerting
                    .receivers
                    .iter()
                    .map(|receiver| receiver.name.as_str())
                    .collect();
                section.error(
                    "receiver",
                    format!("{receiver:?} is not a receiver"),
                    format!("there is {}", known.join(", ")),
                );
            }
            let job: Option<String> = section.get("job");
            let name = format!(
                "{written} {} {} {receiver}",
                job.as_deref().unwrap_or("*"),
                language.as_str()
            );
            let name = section.get("name").unwrap_or(name);
            if found.iter().any(|report| report.name == name) {
                section.error(
                    "",
                    format!("there is another report {name:?}"),
                    "give each a name of its own",
                );
            }
            section.finish();
            if let (Some(kind), Some(schedule)) = (kind, schedule) {
                found.push(Scheduled {
                    name,
                    wanted: Wanted {
                        kind,
                        last,
                        zone,
                        job,
                        language,
                    },
                    schedule,
                    receiver,
                });
            }
        }
        found
    }
}

/// `last`; else the day, week or month that `every` names, and 30 days for the capacity.
fn read_last(section: &Section<'_>, kind: Option<Kind>) -> Last {
    match (
        section.get::<String>("last"),
        section.get::<String>("every").as_deref(),
    ) {
        (Some(text), _) => Last::parse(&text).unwrap_or_else(|problem| {
            section.error("last", problem, "give for example 30d");
            PERIOD
        }),
        (None, Some(word @ ("day" | "week" | "month"))) if kind != Some(Kind::Capacity) => {
            Last::parse(word).unwrap_or(PERIOD)
        }
        (None, _) => PERIOD,
    }
}

fn read_zone(section: &Section<'_>) -> TimeZone {
    match section.get::<String>("timezone").as_deref() {
        None | Some("Local") => TimeZone::system(),
        Some(name) => TimeZone::get(name).unwrap_or_else(|_| {
            section.error(
                "timezone",
                format!("{name:?} is not a time zone"),
                "give an IANA name such as Asia/Shanghai, UTC or Local",
            );
            TimeZone::UTC
        }),
    }
}

/// `schedule`, or `every`: a duration, or hour, day, week, month.
fn read_schedule(section: &Section<'_>, zone: &TimeZone) -> Option<Schedule> {
    let (word, written): (Option<String>, Option<String>) =
        (section.get("every"), section.get("schedule"));
    let cron = match (word.as_deref(), written.as_deref()) {
        (None, None) => {
            section.error(
                "",
                "has no time",
                "add schedule: \"0 8 1 * *\" with a timezone, or every: month",
            );
            return None;
        }
        (Some(_), Some(_)) => {
            section.error("schedule", "stands beside \"every\"", "keep one of the two");
            return None;
        }
        (None, Some(cron)) => cron,
        (Some("hour"), None) => "0 * * * *",
        (Some("day"), None) => "0 8 * * *",
        (Some("week"), None) => "0 8 * * 1",
        (Some("month"), None) => "0 8 1 * *",
        (Some(text), None) => {
            let every = parse_duration(text).ok().filter(|every| !every.is_zero());
            if every.is_none() {
                section.error(
                    "every",
                    format!("{text:?} is no time"),
                    "give hour, day, week, month, or a duration such as 7d",
                );
            }
            return every.map(Schedule::Every);
        }
    };
    let parsed = schedule::Cron::parse(cron);
    if parsed.is_none() {
        section.error(
            "schedule",
            format!("{cron:?} is no time"),
            "give \"Mon 08:00\" or five fields of cron such as \"0 8 1 * *\"",
        );
    }
    Some(Schedule::At(parsed?, zone.clone()))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReportLabels {
    report: String,
}

/// What is counted.
#[derive(Clone, Default)]
pub(in crate::app) struct Metrics {
    sent: Family<ReportLabels, Counter>,
    failed: Family<ReportLabels, Counter>,
}

impl Metrics {
    pub(in crate::app) fn register(telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            registry.register(
                "reports_sent",
                "Scheduled reports that were made and put into the outbox.",
                metrics.sent.clone(),
            );
            registry.register(
                "reports_failed",
                "Attempts to make a scheduled report that failed.",
                metrics.failed.clone(),
            );
        });
        metrics
    }
}

/// What the loop needs.
pub(in crate::app) struct Post {
    pub(in crate::app) settings: Arc<RwLock<Vec<Scheduled>>>,
    pub(in crate::app) reporter: Reporter,
    pub(in crate::app) engine: Engine,
    pub(in crate::app) alerting: Handle,
    pub(in crate::app) state: State,
    pub(in crate::app) metrics: Metrics,
}

impl Post {
    /// Sends what is due until the process ends.
    pub(in crate::app) async fn run(self) -> Result<(), Infallible> {
        // When each was last made, or first seen.
        let mut last: BTreeMap<String, Timestamp> = BTreeMap::new();
        let mut failed: BTreeMap<String, Timestamp> = BTreeMap::new();
        loop {
            let now = Timestamp::now();
            let settings = self.settings.read().clone();
            for report in settings {
                let seen = match last.get(&report.name) {
                    Some(seen) => *seen,
                    None => match self.seen(&report.name, now).await {
                        Some(seen) => *last.entry(report.name.clone()).or_insert(seen),
                        None => continue,
                    },
                };
                let due = report.schedule.after(seen).filter(|due| *due <= now);
                if due.is_none()
                    || failed
                        .get(&report.name)
                        .is_some_and(|at| now.since(*at) < RETRY && *at <= now)
                {
                    continue;
                }
                if self.send(&report, due.unwrap_or(now), now).await {
                    failed.remove(&report.name);
                    last.insert(report.name.clone(), now);
                } else {
                    failed.insert(report.name.clone(), now);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// When it was last made, or first seen; `None` while the database does not answer.
    async fn seen(&self, name: &str, now: Timestamp) -> Option<Timestamp> {
        let key = format!("{REPORT}{name}");
        self.state.put_schedule(&key, now, false).await.ok()?;
        self.state
            .schedules()
            .await
            .ok()?
            .into_iter()
            .find(|(known, _)| *known == key)
            .map(|(_, at)| at)
    }

    async fn send(&self, report: &Scheduled, due: Timestamp, now: Timestamp) -> bool {
        let labels = ReportLabels {
            report: report.name.clone(),
        };
        let (reporter, request) = (
            self.reporter.clone(),
            self.reporter.gather(&report.wanted, true, now).await,
        );
        let engine = self.engine.clone();
        let made = tokio::task::spawn_blocking(move || reporter.make(&request, &engine)).await;
        let document = match made.unwrap_or_else(|error| Err(format!("it ended early: {error}"))) {
            Ok(document) => document,
            Err(error) => {
                warn!(
                    report = report.name,
                    error, "A scheduled report cannot be made; it is tried again."
                );
                self.metrics.failed.get_or_create(&labels).inc();
                return false;
            }
        };
        let page = Some(document.html(true)).filter(|page| page.len() <= MAX_PAGE);
        let body = Some(document.html(false)).filter(|page| page.len() <= MAX_TEXT);
        let text = cut(document.markdown());
        let message = Report {
            title: document.title.clone(),
            text,
            body,
            page,
        };
        let config = self.alerting.config();
        let Some(receiver) = config.receiver(&report.receiver) else {
            return false;
        };
        let rows = report_messages(
            receiver,
            &report.name,
            &message,
            &config.external_url,
            due,
            now,
        );
        self.alerting.tell(rows).await;
        // After the outbox has it: a stop in between sends it again, under the same delivery id.
        if let Err(error) = self
            .state
            .put_schedule(&format!("{REPORT}{}", report.name), now, true)
            .await
        {
            warn!(report = report.name, %error, "That a report was sent cannot be written down; after a restart it may be sent again.");
        }
        self.metrics.sent.get_or_create(&labels).inc();
        info!(
            report = report.name,
            receiver = report.receiver,
            "A scheduled report is on its way."
        );
        true
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let at = text.floor_char_boundary(MAX_TEXT);
        text.truncate(at);
        text.push_str("…\n");
    }
    text
}
