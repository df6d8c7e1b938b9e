//! Restore tests: the newest backup is restored into a scratch database or folder, looked at, and
//! the copy is removed (C16, T24).
//!
//! Dumps of PostgreSQL go through psql into a database that nightbell makes for the run; SQLite
//! files and tar archives, such as Chroma's, into a scratch folder. Nothing that nightbell has not
//! made is touched: a database or folder of the name without its marker is refused. A run lasts
//! minutes, on threads of its own that have the lowest priority; a collection shows what the last
//! one gave, also after a restart.

mod bytes;
mod contents;
mod failure;
mod kept;
mod pipeline;
mod restore;
mod scratch;
mod script;
mod server;
mod settings;
mod source;
mod statement;
mod unpack;
mod watch;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::config::Section;
use crate::model::MetricKind::Gauge;
use crate::model::{Batch, Timestamp};

use super::backup::read::Progress;
use super::memory::Saving;
use super::{CollectError, Collector, CollectorKind, Finding, Report, Target};
use failure::{Failure, Reason};
use kept::{Kept, Run};
use restore::{Outcome, prepare, run};
use settings::Settings;
use statement::Left;

/// The collector `restore_test`.
pub const KIND: CollectorKind = CollectorKind {
    name: "restore_test",
    about: "backups restored into a scratch database or folder on a schedule: success, duration, tables, rows",
    metrics: &[METRICS],
    build,
};

metrics! {
    SUCCESS "restore_test_success" Gauge "" &[], "1 when the last restore was complete and as expected, 0 when not.", "nightbell";
    FAILURE "restore_test_failure_info" Gauge "" &["reason"], "1; why the last restore failed.", "nightbell";
    LAST_SUCCESS "restore_test_last_success_timestamp_seconds" Gauge "seconds" &[], "When the last restore ended that succeeded, Unix time.", "nightbell";
    LAST_RUN "restore_test_last_run_timestamp_seconds" Gauge "seconds" &[], "When the last restore ended, Unix time.", "nightbell";
    BACKUP "restore_test_backup_timestamp_seconds" Gauge "seconds" &[], "When the backup was written that was restored last, Unix time.", "stat";
    DURATION "restore_test_duration_seconds" Gauge "seconds" &[], "Time that the last restore took, its checks included.", "nightbell";
    SIZE "restore_test_size_bytes" Gauge "bytes" &[], "Size of what was restored last.", "pg_database_size(), contents";
    TABLES "restore_test_tables" Gauge "" &[], "Tables that were restored last.", "pg_class, sqlite_master";
    ROWS "restore_test_rows" Gauge "" &[], "Rows that were restored last, counted.", "count(*)";
    FILES "restore_test_files" Gauge "" &[], "Files that were restored last; 0 for a dump of PostgreSQL.", "contents";
    LEFT "restore_test_left_out" Gauge "" &["what"], "Statements and members that the last restore left out: privileges, extensions and settings that the server does not have, other.", "contents";
    CHECK "restore_test_check_success" Gauge "" &["check"], "1 when this check of expect gave a number within its bounds.", "configuration";
    VALUE "restore_test_check_value" Gauge "" &["check"], "The number that this check gave.", "configuration";
    DUE "restore_test_next_due_timestamp_seconds" Gauge "seconds" &[], "When the next success must be there, grace included, Unix time.", "configuration";
    RUNNING "restore_test_running_since_timestamp_seconds" Gauge "seconds" &[], "Since when a restore is running; absent while none is.", "nightbell";
    BEHIND "restore_test_left_behind" Gauge "" &[], "1 when the scratch database or folder of the last restore could not be removed; it is tried again before the next one.", "nightbell";
}

/// What is in the way of a run, or used by another nightbell, is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(60);

struct RestoreTest {
    settings: Option<Arc<Settings>>,
    target: Target,
    kept: Option<Kept>,
    /// What the first look found, once it found no obstacle.
    notes: Option<Vec<String>>,
    /// Why no run is possible.
    obstacle: Option<Failure>,
    preparing: Option<oneshot::Receiver<Prepared>>,
    running: Option<Running>,
    /// Nothing is begun before.
    not_before: Option<Instant>,
    saving: Saving,
}

/// What the first look gives: what is kept comes with it the first time.
type Prepared = (Option<Kept>, Result<Vec<String>, Failure>);

/// A run under way.
struct Running {
    began: Timestamp,
    progress: Arc<Progress>,
    outcome: oneshot::Receiver<Outcome>,
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    Box::new(RestoreTest {
        settings: Settings::read(section, target).map(Arc::new),
        target: target.clone(),
        kept: None,
        notes: None,
        obstacle: None,
        preparing: None,
        running: None,
        not_before: None,
        saving: Saving::default(),
    })
}

impl Drop for RestoreTest {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.progress.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Collector for RestoreTest {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let Some(settings) = self.settings.clone() else {
                return Ok(());
            };
            self.take_outcome();
            if self.notes.is_none() {
                self.prepare(&settings).await;
            } else {
                self.begin_if_due(&settings);
            }
            if let Some(kept) = &self.kept {
                self.saving.save(
                    kept,
                    &self.target,
                    "restore_test",
                    "What came of restores cannot be kept.",
                );
            }
            self.report(&settings, batch);
            self.obstacle.as_ref().map_or(Ok(()), |failure| {
                Err(CollectError::new(failure.detail.clone()))
            })
        }
        .boxed()
    }

    fn address(&self) -> String {
        let Some(settings) = &self.settings else {
            return String::new();
        };
        let from = format!("file://{}", settings.backup.source.pattern().display());
        match &settings.server {
            Some(server) => format!("{from} into {} of {}", server.scratch, server.address),
            None => from,
        }
    }

    fn report(&self) -> Report {
        let notes = self.notes.iter().flatten().map(|text| Finding {
            failed: false,
            text: text.clone(),
        });
        Report {
            findings: notes.collect(),
            results: Batch::new(),
        }
    }
}

impl RestoreTest {
    fn is_waiting(&self) -> bool {
        self.not_before.is_some_and(|time| Instant::now() < time)
    }

    /// Looks whether a run is possible, on a thread of its own; what a killed process left is
    /// removed.
    async fn prepare(&mut self, settings: &Arc<Settings>) {
        if self.preparing.is_none() {
            if self.is_waiting() {
                return;
            }
            let (send, receive) = oneshot::channel();
            let (settings, memory) = (
                Arc::clone(settings),
                self.kept.is_none().then(|| self.target.memory.clone()),
            );
            let work = move || {
                let load = |memory: super::Memory| {
                    memory
                        .load()
                        .and_then(|text| serde_json::from_str(&text).ok())
                        .unwrap_or_default()
                };
                let kept = memory.map(load);
                // Nobody waits any longer: then nothing is to be done.
                let _nobody = send.send((kept, prepare(&settings)));
            };
            match std::thread::Builder::new()
                .name("restore-look".into())
                .spawn(work)
            {
                Ok(_) => self.preparing = Some(receive),
                Err(error) => self.obstacle = Some(Failure::of(Reason::Failed, error.to_string())),
            }
        }
        let Some(preparing) = &mut self.preparing else {
            return;
        };
        let Ok(answer) = tokio::time::timeout(self.target.timeout.mul_f64(0.9), preparing).await
        else {
            self.obstacle = Some(Failure::of(
                Reason::Failed,
                "timed out: the server or the file system does not answer",
            ));
            return;
        };
        self.preparing = None;
        let (kept, result) = answer.unwrap_or_else(|_| {
            (
                None,
                Err(Failure::of(Reason::Failed, "the look ended early")),
            )
        });
        if let Some(mut kept) = kept {
            kept.resume(Timestamp::now());
            self.kept = Some(kept);
            self.saving.note_change();
        }
        let target = &self.target.name;
        match result {
            Ok(notes) => {
                if self.obstacle.take().is_some() {
                    info!(
                        collector = "restore_test",
                        target, "Restores are possible again."
                    );
                }
                notes.iter().for_each(|note| {
                    warn!(
                        collector = "restore_test",
                        target, note, "A restore is possible."
                    )
                });
                self.notes = Some(notes);
            }
            Err(failure) => {
                if self.obstacle.as_ref() != Some(&failure) {
                    warn!(
                        collector = "restore_test",
                        target,
                        reason = failure.reason.as_str(),
                        error = failure.detail,
                        "No restore is possible."
                    );
                }
                (self.obstacle, self.not_before) = (Some(failure), Some(Instant::now() + AGAIN));
            }
        }
    }

    fn begin_if_due(&mut self, settings: &Arc<Settings>) {
        let now = Timestamp::now();
        let Some(kept) = &mut self.kept else { return };
        if self.running.is_some()
            || kept.next(&settings.schedule).is_none_or(|next| next > now)
            || self.is_waiting()
        {
            return;
        }
        let Some(kept) = &mut self.kept else { return };
        kept.begin(now);
        self.saving.note_change();
        let (send, outcome) = oneshot::channel();
        let (settings, progress) = (Arc::clone(settings), Arc::<Progress>::default());
        let reading = Arc::clone(&progress);
        let work = move || {
            let _nobody = send.send(run(&settings, &reading));
        };
        if std::thread::Builder::new()
            .name("restore-test".into())
            .spawn(work)
            .is_ok()
        {
            self.running = Some(Running {
                began: now,
                progress,
                outcome,
            });
        }
    }

    /// Takes over what a run gave, if it has ended.
    fn take_outcome(&mut self) {
        let (Some(running), Some(kept)) = (&mut self.running, &mut self.kept) else {
            return;
        };
        let outcome = match running.outcome.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => Outcome {
                failure: Some(Failure::of(Reason::Failed, "the run ended early")),
                ..Outcome::default()
            },
            Ok(outcome) => outcome,
        };
        let (target, began) = (&self.target.name, running.began);
        self.running = None;
        match &outcome.failure {
            // Another nightbell does it just now: nothing is known of this one.
            Some(failure) if failure.reason == Reason::InUse => {
                info!(
                    collector = "restore_test",
                    target,
                    reason = failure.detail,
                    "The restore waits."
                );
                kept.forget();
                self.not_before = Some(Instant::now() + AGAIN);
                self.saving.note_change();
                return;
            }
            Some(failure) => {
                warn!(
                    collector = "restore_test",
                    target,
                    reason = failure.reason.as_str(),
                    error = failure.detail,
                    "Restore failed."
                );
            }
            None => info!(
                collector = "restore_test",
                target,
                tables = outcome.tables,
                rows = outcome.rows,
                "Restored."
            ),
        }
        kept.finish(Run {
            began: began.0,
            ended: Timestamp::now().0,
            outcome,
        });
        self.saving.note_change();
    }

    fn report(&self, settings: &Settings, batch: &mut Batch) {
        let flag = |is: bool| f64::from(u8::from(is));
        if let Some(running) = &self.running {
            batch.push(&RUNNING, &[], running.began.seconds());
        }
        let Some(kept) = &self.kept else { return };
        if let Some(due) = kept.due(&settings.schedule, settings.grace) {
            batch.push(&DUE, &[], due);
        }
        if let Some(succeeded) = kept.succeeded {
            batch.push(&LAST_SUCCESS, &[], Timestamp(succeeded).seconds());
        }
        let Some(Run {
            began,
            ended,
            outcome,
        }) = &kept.last
        else {
            return;
        };
        batch.push(&SUCCESS, &[], flag(outcome.failure.is_none()));
        if let Some(failure) = &outcome.failure {
            batch.push(&FAILURE, &[("reason", failure.reason.as_str())], 1.0);
        }
        if let Some(written) = outcome.written {
            batch.push(&BACKUP, &[], Timestamp(written).seconds());
        }
        let numbers = [
            (&LAST_RUN, Timestamp(*ended).seconds()),
            (
                &DURATION,
                Timestamp(*ended).since(Timestamp(*began)).as_secs_f64(),
            ),
            (&SIZE, outcome.bytes as f64),
            (&TABLES, outcome.tables as f64),
            (&ROWS, outcome.rows as f64),
            (&FILES, outcome.files as f64),
            (&BEHIND, flag(outcome.is_left_behind)),
        ];
        numbers
            .into_iter()
            .for_each(|(desc, value)| batch.push(desc, &[], value));
        for (at, (_, what)) in Left::ALL.iter().enumerate() {
            batch.push(&LEFT, &[("what", what)], outcome.left[at] as f64);
        }
        for (name, value, is_right) in &outcome.checks {
            batch.push(&CHECK, &[("check", name)], flag(*is_right));
            if let Some(value) = value {
                batch.push(&VALUE, &[("check", name)], *value);
            }
        }
    }
}
