//! The keys of a job.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};

use crate::collectors::log_file::settings::Files;
use crate::collectors::schedule::{self, Schedule};
use crate::collectors::sql::Latest;
use crate::config::{SecretSource, Section};

/// The shortest grace that follows from a schedule, and the longest.
const MIN_GRACE: Duration = Duration::from_secs(60);
const MAX_GRACE: Duration = Duration::from_secs(3600);
/// Longest expression, in bytes of its program.
const MAX_REGEX: usize = 4 << 20;

/// Where runs are learned from.
#[derive(Debug)]
pub enum Source {
    /// `nightbell job run` and whatever else reports to the API.
    Reports,
    /// The newest modification of a file, or of those that fit a pattern.
    File(PathBuf),
    /// Lines of a log.
    Log(Box<Log>),
    /// A time that a query of `postgres`, `mysql` or `sqlite` gives: each new one is a run that ended
    /// well.
    Sql(SqlTime),
    /// Pushes to the path of Pushgateway with the name of the job.
    Push,
    /// No job: what is pushed, whatever its job is called.
    Pushgateway,
}

/// A log, and which of its lines say that a run ended.
#[derive(Debug)]
pub struct Log {
    /// What is followed.
    pub files: Files,
    /// A run ended well.
    pub success: Pattern,
    /// A run failed; looked for first.
    pub failed: Option<Regex>,
    /// The zone of times without one at the beginning of lines.
    pub zone: TimeZone,
}

/// Which query says when a job last ran.
#[derive(Debug)]
pub struct SqlTime {
    /// Its name under `queries`.
    pub query: String,
    /// The column that holds the time, in seconds since the epoch; `None` for the only one.
    pub column: Option<String>,
    /// The target whose query it is; `None` for whichever has it.
    pub target: Option<String>,
    /// What the queries say.
    pub latest: Arc<Latest>,
}

/// A text or an expression.
#[derive(Debug)]
pub enum Pattern {
    /// The text stands somewhere in the line.
    Contains(Box<memmem::Finder<'static>>),
    /// The expression matches; a group `duration` holds seconds, a group `exit_code` the status.
    Regex(Regex),
}

/// One job's settings.
#[derive(Debug)]
pub struct Settings {
    /// Where runs are learned from.
    pub source: Source,
    /// When it must run; `None` when only failures count.
    pub schedule: Option<Schedule>,
    /// How much later a run may be over; `None` follows from the schedule.
    grace: Option<Duration>,
    /// How long a run may take.
    pub max_duration: Option<Duration>,
    /// A token that lets reports of this job in, beside the administrator's.
    pub token: Option<SecretSource>,
}

impl Settings {
    /// Reads the section and records its mistakes.
    pub fn read(section: &Section<'_>) -> Self {
        let schedule = schedule::read(section, "schedule");
        let source = source(section);
        let settings = Settings {
            source,
            schedule,
            grace: section.get("grace"),
            max_duration: section.get("max_duration"),
            token: section.secret_source("token"),
        };
        match &settings.source {
            Source::Pushgateway => {
                for key in ["every", "schedule", "grace", "max_duration"] {
                    if section.node(key).is_some() {
                        section.error(
                            key,
                            "belongs to a job",
                            "give it to an entry with push: true and the name of the job",
                        );
                    }
                }
            }
            Source::File(_) | Source::Sql(_) | Source::Push
                if settings.schedule.is_none() && !has(section, &["every", "schedule"]) =>
            {
                let remedy =
                    "add every: 1d, or schedule: \"0 2 * * *\"; without it nothing is ever late";
                section.error("", "neither \"every\" nor \"schedule\" is given", remedy);
            }
            _ => {}
        }
        if settings.token.is_some()
            && matches!(
                settings.source,
                Source::File(_) | Source::Log(_) | Source::Sql(_)
            )
        {
            section.error(
                "token",
                "belongs to a job that reports",
                "remove it, or remove file:, log: or sql:",
            );
        }
        settings
    }

    /// How much later than its time a run may be over: what is configured, or a fifth of the time
    /// between two, an hour at most.
    pub fn grace(&self, between: Duration) -> Duration {
        self.grace.unwrap_or_else(|| match &self.schedule {
            Some(Schedule::Every(every)) => *every / 5,
            _ => (between / 5).clamp(MIN_GRACE, MAX_GRACE),
        })
    }
}

fn has(section: &Section<'_>, keys: &[&str]) -> bool {
    keys.iter().any(|key| section.node(key).is_some())
}

fn source(section: &Section<'_>) -> Source {
    let file = section.get::<PathBuf>("file");
    let log = section.section("log").map(|log| read_log(section, &log));
    let sql = section.section("sql").map(|sql| {
        let time = SqlTime {
            query: sql.require("query"),
            column: sql.get("column"),
            target: sql.get("target"),
            latest: section
                .given::<Latest>()
                .unwrap_or_else(|| section.give(Latest::default())),
        };
        sql.finish();
        Source::Sql(time)
    });
    let push = section.or("push", false).then_some(Source::Push);
    let gateway = section
        .or("pushgateway", false)
        .then_some(Source::Pushgateway);
    let mut given: Vec<Source> = [
        file.map(Source::File),
        log.map(|log| Source::Log(Box::new(log))),
        sql,
        push,
        gateway,
    ]
    .into_iter()
    .flatten()
    .collect();
    if given.len() > 1 {
        section.error(
            "",
            "runs are learned from more than one of file, log, sql, push, pushgateway",
            "keep one of them",
        );
    }
    given.pop().unwrap_or(Source::Reports)
}

fn read_log(section: &Section<'_>, log: &Section<'_>) -> Log {
    let zone = section
        .get::<String>("timezone")
        .filter(|name| name != "Local");
    let zone = zone
        .and_then(|name| TimeZone::get(&name).ok())
        .unwrap_or_else(TimeZone::system);
    let (contains, regex) = (log.get::<String>("contains"), log.get::<String>("regex"));
    let success = match (contains, regex) {
        (Some(text), None) if !text.is_empty() => Some(Pattern::Contains(Box::new(
            memmem::Finder::new(&text).into_owned(),
        ))),
        (None, Some(text)) => compile(log, "regex", &text).map(Pattern::Regex),
        _ => {
            log.error(
                "",
                "does not say which line ends a run",
                "give contains: \"some text\", or regex: EXPRESSION",
            );
            None
        }
    };
    let failed = log
        .get::<String>("failed")
        .filter(|text| !text.is_empty())
        .and_then(|text| compile(log, "failed", &text));
    let files = Files::read(log);
    log.finish();
    let nothing = || Pattern::Contains(Box::new(memmem::Finder::new("\0").into_owned()));
    Log {
        files,
        success: success.unwrap_or_else(nothing),
        failed,
        zone,
    }
}

fn compile(section: &Section<'_>, key: &str, text: &str) -> Option<Regex> {
    let built = RegexBuilder::new(text)
        .size_limit(MAX_REGEX)
        .dfa_size_limit(MAX_REGEX)
        .build();
    let wrong = |error: regex::Error| {
        section.error(
            key,
            format!("is no regular expression: {error}"),
            "use RE2 syntax",
        )
    };
    built.map_err(wrong).ok()
}
