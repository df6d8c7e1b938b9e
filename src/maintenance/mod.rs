//! The maintenance calendar (`maintenance`): tasks by schedule that people do by hand, or jobs do,
//! and planned windows.
//!
//! What was done is in the state database before anybody is answered, so that `kill -9` forgets
//! nothing. [`task`] says when a task is due; this file keeps the entries, shows them as metrics,
//! and looks at the jobs.

pub mod task;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tracing::warn;

use crate::model::text::hex;
use crate::model::{METRIC_NAME, Matcher, Timestamp};
use crate::state::{DoneRow, Error, State, WindowRow};
use crate::store::Store;
use crate::telemetry::Telemetry;

pub use task::{Standing, Task};

/// How often the jobs, and what other instances noted, are looked at.
const LOOK: Duration = Duration::from_secs(15);
/// The job's success is looked for so far back.
const LOOKBACK: Duration = Duration::from_secs(15 * 60);
/// Windows are shown as metrics from so long before they begin.
const DAY: Duration = Duration::from_secs(86_400);
/// Beginning of a task's name in the table of schedules.
const TASK: &str = "task:";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: String,
    of: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WindowLabels {
    window: String,
    comment: String,
    author: String,
}

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, Default)]
struct Metrics {
    done: Family<TaskLabels, Seconds>,
    due: Family<TaskLabels, Seconds>,
    overdue: Family<TaskLabels, Gauge>,
    window: Family<WindowLabels, Gauge>,
}

/// A planned window.
#[derive(Clone, Debug)]
pub struct Window {
    /// The id of its silence.
    pub id: String,
    /// When it begins.
    pub starts_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
    /// What else is known of it.
    pub about: WindowBody,
}

/// What a window is about, as the database keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowBody {
    /// Which alerts it mutes, as text.
    pub matchers: Vec<String>,
    /// Why.
    pub comment: String,
    /// Who planned it.
    pub author: String,
    /// Which entry of the configuration it comes from, with its time.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub planned: String,
}

impl Window {
    /// As a row of the database.
    pub fn row(&self) -> WindowRow {
        // Strings and lists of them always have a JSON form.
        let body = serde_json::to_string(&self.about).unwrap_or_default();
        WindowRow {
            id: self.id.clone(),
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            body,
        }
    }

    /// From a row of the database.
    pub fn of(row: WindowRow) -> Self {
        let about = serde_json::from_str(&row.body).unwrap_or_default();
        Window {
            id: row.id,
            starts_at: row.starts_at,
            ends_at: row.ends_at,
            about,
        }
    }
}

/// What is known of the tasks and windows.
#[derive(Default)]
struct Known {
    /// When each task was first seen.
    seen: BTreeMap<String, Timestamp>,
    /// When each was last done, and by whom.
    last: BTreeMap<String, DoneRow>,
    /// When the job of a task last succeeded.
    jobs: BTreeMap<String, Timestamp>,
    windows: Vec<Window>,
}

/// The calendar. Cheap to clone.
#[derive(Clone)]
pub struct Calendar(Arc<Inner>);

struct Inner {
    tasks: RwLock<Vec<Task>>,
    known: Mutex<Known>,
    metrics: Metrics,
    state: State,
    store: Arc<Store>,
    changed: Notify,
}

/// A task with how it stands.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// The task.
    pub task: Task,
    /// How it stands.
    pub standing: Standing,
    /// The last entry, where it was done by hand.
    pub entry: Option<DoneRow>,
}

/// Why a task cannot be noted as done.
#[derive(Debug, thiserror::Error)]
pub enum DoneError {
    /// No such task.
    #[error("there is no task {0:?}; there is {1}")]
    Unknown(String, String),
    /// It has not happened yet.
    #[error("{0} is in the future")]
    Future(String),
    /// The database failed.
    #[error(transparent)]
    State(#[from] Error),
}

impl Calendar {
    /// Begins with these tasks. What the database remembers comes with the first look.
    pub fn start(tasks: Vec<Task>, state: State, store: Arc<Store>, telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            registry.register(
                "maintenance_task_done_timestamp_seconds",
                "When a task was last done, Unix time.",
                metrics.done.clone(),
            );
            let help = "By when a task must be done next, grace included, Unix time.";
            registry.register(
                "maintenance_task_due_timestamp_seconds",
                help,
                metrics.due.clone(),
            );
            registry.register(
                "maintenance_task_overdue",
                "Whether a task is not done by its time and grace.",
                metrics.overdue.clone(),
            );
            registry.register(
                "maintenance_window",
                "1 while a planned window lasts, 0 from a day before.",
                metrics.window.clone(),
            );
        });
        let inner = Inner {
            tasks: RwLock::new(tasks),
            known: Mutex::default(),
            metrics,
            state,
            store,
            changed: Notify::new(),
        };
        let calendar = Calendar(Arc::new(inner));
        let before = calendar.clone();
        telemetry.before_reading(move || before.show(Timestamp::now()));
        calendar
    }

    /// Takes the tasks of a new configuration.
    pub fn replace(&self, tasks: Vec<Task>) {
        *self.0.tasks.write() = tasks;
        self.0.changed.notify_one();
    }

    /// Looks at the database and the jobs until the process ends.
    pub async fn run(self) -> Result<(), Infallible> {
        let mut failing = false;
        loop {
            let result = self.look(Timestamp::now()).await;
            if let Err(error) = &result
                && !failing
            {
                warn!(%error, "The maintenance calendar cannot be read; it is shown as it was known.");
            }
            failing = result.is_err();
            drop(tokio::time::timeout(LOOK, self.0.changed.notified()).await);
        }
    }

    /// Takes what the database and the history know at `now`.
    pub async fn look(&self, now: Timestamp) -> Result<(), Error> {
        let tasks = self.0.tasks.read().clone();
        let mut seen = self.seen().await?;
        for task in &tasks {
            if seen.contains_key(&task.name) {
                continue;
            }
            self.0
                .state
                .put_schedule(&format!("{TASK}{}", task.name), now, false)
                .await?;
            seen.insert(task.name.clone(), now);
        }
        let last = self
            .0
            .state
            .tasks_last_done()
            .await?
            .into_iter()
            .map(|row| (row.task.clone(), row))
            .collect();
        let windows = self
            .0
            .state
            .windows(now - DAY, now + DAY)
            .await?
            .into_iter()
            .map(Window::of)
            .collect();
        let jobs: Vec<(String, Timestamp)> = tasks
            .iter()
            .filter_map(|task| {
                Some((
                    task.name.clone(),
                    self.job_success(task.job.as_deref()?, now)?,
                ))
            })
            .collect();
        let mut known = self.0.known.lock();
        (known.seen, known.last, known.windows) = (seen, last, windows);
        // A job that is not collected at the moment has still succeeded before.
        known.jobs.extend(jobs);
        Ok(())
    }

    async fn seen(&self) -> Result<BTreeMap<String, Timestamp>, Error> {
        let rows = self.0.state.schedules().await?;
        Ok(rows
            .into_iter()
            .filter_map(|(name, at)| Some((name.strip_prefix(TASK)?.to_owned(), at)))
            .collect())
    }

    /// When the scheduled job of this name last succeeded, by its metric.
    fn job_success(&self, job: &str, now: Timestamp) -> Option<Timestamp> {
        let matchers = [
            Matcher::equal(METRIC_NAME, "job_last_success_timestamp_seconds"),
            Matcher::equal("instance", job),
        ];
        let mut found = None;
        let visit = |_: &crate::model::Labels, window: crate::store::Window<'_>| {
            let newest = window
                .values
                .last()
                .copied()
                .filter(|value| value.is_finite());
            found = found.max(newest.map(Timestamp::from_seconds));
            ControlFlow::Continue(())
        };
        // A history that cannot be read says nothing about the job.
        self.0
            .store
            .select(&matchers, now - LOOKBACK, now, visit)
            .ok()?;
        found
    }

    /// Every task as it stands at `now`, in the order of the configuration.
    pub fn tasks(&self, now: Timestamp) -> Vec<TaskView> {
        let known = self.0.known.lock();
        let view = |task: &Task| {
            let entry = known.last.get(&task.name).cloned();
            let done = entry
                .as_ref()
                .map(|row| row.at)
                .max(known.jobs.get(&task.name).copied());
            let seen = known.seen.get(&task.name).copied().unwrap_or(now);
            TaskView {
                standing: task.standing(done, seen, now),
                task: task.clone(),
                entry,
            }
        };
        self.0.tasks.read().iter().map(view).collect()
    }

    /// Notes that a task was done; when this returns, it is written down.
    ///
    /// # Errors
    ///
    /// There is no such task, the time has not come yet, or the database failed.
    pub async fn done(
        &self,
        task: &str,
        by: &str,
        at: Timestamp,
        note: &str,
        now: Timestamp,
    ) -> Result<DoneRow, DoneError> {
        if !self.0.tasks.read().iter().any(|known| known.name == task) {
            let names: Vec<String> = self
                .0
                .tasks
                .read()
                .iter()
                .map(|task| task.name.clone())
                .collect();
            let names = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            return Err(DoneError::Unknown(task.to_owned(), names));
        }
        if at > now + Duration::from_secs(60) {
            return Err(DoneError::Future(at.rfc3339()));
        }
        // The same entry sent twice is one.
        let id = hex(&Sha256::digest(format!("{task}\0{}\0{by}\0{note}", at.0))[..16]);
        let row = DoneRow {
            id,
            task: task.to_owned(),
            at,
            noted_at: now,
            by: by.to_owned(),
            note: note.to_owned(),
        };
        self.0.state.put_task_done(&row).await?;
        let mut known = self.0.known.lock();
        if known.last.get(task).is_none_or(|last| last.at <= at) {
            known.last.insert(task.to_owned(), row.clone());
        }
        Ok(row)
    }

    /// Entries of all tasks, newest first.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn entries(&self, limit: i64) -> Result<Vec<DoneRow>, Error> {
        self.0.state.tasks_done(limit).await
    }

    /// The windows that lie in this time, at least in part; the latest first.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn windows(&self, from: Timestamp, to: Timestamp) -> Result<Vec<Window>, Error> {
        Ok(self
            .0
            .state
            .windows(from, to)
            .await?
            .into_iter()
            .map(Window::of)
            .collect())
    }

    /// Keeps a window, whose silence is made already.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn keep(&self, window: &Window) -> Result<(), Error> {
        self.0.state.put_window(&window.row()).await?;
        self.0.changed.notify_one();
        Ok(())
    }

    /// Fills the metrics.
    fn show(&self, now: Timestamp) {
        let metrics = &self.0.metrics;
        metrics.done.clear();
        metrics.due.clear();
        metrics.overdue.clear();
        metrics.window.clear();
        for view in self.tasks(now) {
            let labels = TaskLabels {
                task: view.task.name.clone(),
                of: view.task.of.clone(),
            };
            if let Some(done) = view.standing.done {
                metrics.done.get_or_create(&labels).set(done.seconds());
            }
            if let Some(due) = view.standing.due {
                metrics.due.get_or_create(&labels).set(due.seconds());
            }
            metrics
                .overdue
                .get_or_create(&labels)
                .set(i64::from(view.standing.is_overdue));
        }
        for window in self
            .0
            .known
            .lock()
            .windows
            .iter()
            .filter(|window| window.ends_at > now)
        {
            let about = &window.about;
            let labels = WindowLabels {
                window: window.id.clone(),
                comment: about.comment.clone(),
                author: about.author.clone(),
            };
            metrics
                .window
                .get_or_create(&labels)
                .set(i64::from(window.starts_at <= now));
        }
    }
}
