//! Scheduled jobs: whether each ran when it ought to, how it ended, how long it took, and whether
//! runs overlap. Runs are learned from the age of a file, from lines of a log, from reports
//! (`nightbell job run`, the API), and from pushes in the way of Pushgateway, whose metrics are
//! kept.
//!
//! It only listens: nothing is started or stopped here.

pub(super) mod disk;
mod file;
mod inbox;
mod kept;
mod log;
mod metrics;
mod process;
mod pushed;
mod report;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::log_file::collector::{LogCollector, Looked};
use super::log_file::reader::{Reader, Thread};
use super::log_file::reading;
use super::sql::Said;
use super::{CollectError, Collector, CollectorKind, Target};
use crate::config::Section;
use crate::model::{Batch, Timestamp};
use file::Newest;
use inbox::{GatewayHeld, Job, JobHeld};
use kept::{Ended, Kept, Outcome};
use metrics::{
    DUE, FILE_READABLE, LAST_DURATION, LAST_EXIT_CODE, LAST_FAILURE, LAST_RUN, LAST_RUN_SUCCESS,
    LAST_SUCCESS, MAX_DURATION, MISSED, OVERDUE, OVERLAPS, PUSH_GROUPS, PUSH_REFUSED, RUNNING,
    RUNNING_SINCE, RUNS,
};
use settings::{Settings, Source};

pub use inbox::{Inbox, Unknown, is_right};
pub use process::Process;
pub use pushed::{Method, PushError, grouping};
pub use report::{Event, MAX_ID, Report};

/// The collector `job`.
pub const KIND: CollectorKind = CollectorKind {
    name: "job",
    about: "scheduled jobs: last success, overdue by schedule, failures, durations, overlapping runs; Pushgateway's API",
    metrics: &[metrics::METRICS, reading::METRICS],
    build,
};

/// Part of the deadline for a file system to answer.
const WAITING: f64 = 0.9;
/// What is known is saved so often, although nothing happened, so that a start knows how long
/// nobody looked.
const SAVE: Duration = Duration::from_secs(300);

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let settings = Settings::read(section);
    let inbox = section
        .given::<Inbox>()
        .map(|inbox| (*inbox).clone())
        .unwrap_or_default();
    if let Source::Log(log) = &settings.source {
        let (files, interval) = (log.files.clone(), target.interval);
        return Box::new(LogCollector::new(files, target, move |reader, time| {
            measure(reader, &settings, interval, time)
        }));
    }
    let files = match &settings.source {
        Source::File(path) => Some((path.clone(), Thread::new(()))),
        _ => None,
    };
    Box::new(Jobs {
        settings: Arc::new(settings),
        target: target.clone(),
        inbox,
        held: Held::Nothing,
        files,
        saved: Timestamp::MIN,
    })
}

/// A job whose runs are learned from anything but a log, or what is pushed.
struct Jobs {
    settings: Arc<Settings>,
    target: Target,
    inbox: Inbox,
    held: Held,
    files: Option<(PathBuf, Look)>,
    /// When what is known was last saved.
    saved: Timestamp,
}

/// A look at files, on a thread of its own.
type Look = Thread<(), Result<Newest, String>>;

enum Held {
    Nothing,
    /// One that takes reports.
    Job(JobHeld),
    /// One that takes none.
    Alone(Arc<Job>),
    Gateway(GatewayHeld),
}

impl Collector for Jobs {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            self.hold().await?;
            if let Held::Gateway(held) = &self.held {
                let groups = held.gateway.groups.lock();
                groups.show(batch);
                batch.push(&PUSH_GROUPS, &[], groups.len() as f64);
                batch.push(&PUSH_REFUSED, &[], groups.refused as f64);
                drop(groups);
                drop(held.gateway.save_if_changed());
                return Ok(());
            }
            let looked = self.look_at_files().await;
            let said = self.ask_query();
            let now = Timestamp::now();
            let job = match &self.held {
                Held::Job(held) => &held.job,
                Held::Alone(job) => job,
                Held::Nothing | Held::Gateway(_) => return Ok(()),
            };
            let mut kept = job.kept.lock();
            let before = (kept.runs, kept.is_overdue);
            kept.look(now, self.target.interval);
            if let Some(found) = &looked {
                batch.push(&FILE_READABLE, &[], f64::from(u8::from(found.is_ok())));
                if let Ok(newest) = found {
                    newest.note(&mut kept, now);
                }
            }
            if let Some(Ok(Some(newest))) = &said {
                newest.note(&mut kept, now);
            }
            if matches!(self.settings.source, Source::Push)
                && let Some(pushed) = self
                    .inbox
                    .last_push(&self.target.name)
                    .filter(|pushed| *pushed > kept.pushed)
            {
                kept.pushed = pushed;
                kept.ended(Ended {
                    outcome: Outcome::Success,
                    at: pushed,
                    duration: None,
                    exit_code: None,
                });
            }
            kept.end_lost(now, Process::is_gone);
            show(&mut kept, &self.settings, now, batch);
            let is_new = before != (kept.runs, kept.is_overdue);
            drop(kept);
            if is_new || now.since(self.saved) >= SAVE {
                self.saved = now;
                // It is written on a thread of its own.
                drop(job.save());
            }
            let failed = looked.and_then(Result::err).or(said.and_then(Result::err));
            failed.map_or(Ok(()), |reason| Err(CollectError::new(reason)))
        }
        .boxed()
    }

    fn honors_labels(&self) -> bool {
        matches!(self.settings.source, Source::Pushgateway)
    }

    fn address(&self) -> String {
        match &self.settings.source {
            Source::File(path) => format!("file://{}", path.display()),
            Source::Reports => format!("/api/nightbell/job/{}", self.target.name),
            Source::Sql(time) => format!("the query {}", time.query),
            Source::Push => format!("/metrics/job/{}", self.target.name),
            Source::Pushgateway => "/metrics/job/".to_owned(),
            Source::Log(log) => log.files.to_string(),
        }
    }
}

impl Jobs {
    /// Reads what is known, the first time.
    async fn hold(&mut self) -> Result<(), CollectError> {
        if !matches!(self.held, Held::Nothing) {
            return Ok(());
        }
        let (inbox, settings) = (self.inbox.clone(), Arc::clone(&self.settings));
        let (name, memory) = (self.target.name.clone(), self.target.memory.clone());
        let hold = move || match &settings.source {
            Source::Pushgateway => {
                Held::Gateway(inbox.hold_gateway(memory, settings.token.clone()))
            }
            Source::Reports => Held::Job(inbox.hold_job(&name, memory, settings.token.clone())),
            Source::File(_) | Source::Log(_) | Source::Sql(_) | Source::Push => {
                Held::Alone(Job::alone(memory))
            }
        };
        let held = tokio::time::timeout(
            self.target.timeout.mul_f64(WAITING),
            tokio::task::spawn_blocking(hold),
        )
        .await;
        let held =
            held.map_err(|_| CollectError::new("timed out: the state folder does not answer"))?;
        self.held = held.map_err(|_| CollectError::new("ended early"))?;
        Ok(())
    }

    /// The time that a query says, when one is asked; none while it says none.
    fn ask_query(&self) -> Option<Result<Option<Newest>, String>> {
        let Source::Sql(time) = &self.settings.source else {
            return None;
        };
        let (query, column) = (&time.query, time.column.as_deref());
        Some(
            match time.latest.say(time.target.as_deref(), query, column) {
                Said::Value(seconds) => Newest::of_seconds(seconds).map(Some).ok_or_else(|| {
                    format!("the query {query} gives {seconds}, which is no time in seconds")
                }),
                Said::Nothing | Said::NotYet => Ok(None),
                Said::Failed => Err(format!("the query {query} failed")),
                Said::Unknown => Err(format!(
                    "there is no query {query} of postgres, mysql or sqlite that could be meant, or it has several columns and none is named"
                )),
            },
        )
    }

    /// The newest file, when files are looked at.
    async fn look_at_files(&mut self) -> Option<Result<Newest, String>> {
        let (path, thread) = self.files.as_mut()?;
        let (timeout, pattern) = (self.target.timeout.mul_f64(WAITING), path.clone());
        let found = thread.run(timeout, move |()| file::newest(&pattern)).await;
        Some(found.unwrap_or_else(|problem| Err(format!("{}: {problem}", path.display()))))
    }
}

/// Reads what is new in a log, and shows what follows.
fn measure(
    reader: &mut Reader<Kept>,
    settings: &Settings,
    interval: Duration,
    time: Duration,
) -> Looked {
    let Source::Log(log) = &settings.source else {
        return (Batch::new(), None);
    };
    let now = Timestamp::now();
    let mut seen = reader.look(time, &mut |kept, read| {
        read(&mut log::Lines {
            log,
            kept,
            now: now.0,
        })
    });
    let mut batch = Batch::new();
    reader.counts.totals.add(&seen, true);
    reader.counts.look(now, interval);
    show(&mut reader.counts, settings, now, &mut batch);
    seen.saved = reader.save();
    reading::show(&reader.counts.totals, &seen, &mut batch);
    // A log of a job is silent between its runs: that is no fault.
    batch.families.shift_remove(reading::LAST.name);
    (batch, seen.problem)
}

fn show(kept: &mut Kept, settings: &Settings, now: Timestamp, batch: &mut Batch) {
    let due = kept.due(settings, now);
    let seconds = |millis: i64| millis as f64 / 1000.0;
    let flag = |set: bool| f64::from(u8::from(set));
    for (desc, time) in [
        (&LAST_SUCCESS, kept.success),
        (&LAST_FAILURE, kept.failure),
        (&LAST_RUN, kept.end),
    ] {
        time.into_iter()
            .for_each(|time| batch.push(desc, &[], seconds(time)));
    }
    if kept.end.is_some() {
        batch.push(&LAST_RUN_SUCCESS, &[], flag(kept.is_success));
    }
    kept.duration
        .into_iter()
        .for_each(|took| batch.push(&LAST_DURATION, &[], took));
    kept.exit_code
        .into_iter()
        .for_each(|code| batch.push(&LAST_EXIT_CODE, &[], f64::from(code)));
    for outcome in Outcome::ALL {
        batch.push(
            &RUNS,
            &[("result", outcome.as_str())],
            kept.runs[outcome as usize] as f64,
        );
    }
    if matches!(settings.source, Source::Reports) {
        batch.push(&RUNNING, &[], kept.open.len() as f64);
        batch.push(&OVERLAPS, &[], kept.overlaps as f64);
        kept.open
            .iter()
            .map(|run| run.started)
            .min()
            .into_iter()
            .for_each(|since| batch.push(&RUNNING_SINCE, &[], seconds(since)));
    }
    if settings.schedule.is_some() {
        batch.push(&OVERDUE, &[], flag(due.is_overdue));
        batch.push(&MISSED, &[], f64::from(due.missed));
        due.at
            .into_iter()
            .for_each(|at| batch.push(&DUE, &[], at.seconds()));
    }
    if let Some(most) = settings.max_duration {
        batch.push(&MAX_DURATION, &[], most.as_secs_f64());
    }
}
