//! Backups on disk, and in object storage: whether the newest one is there in time, complete to its
//! real end, and as large as those before it.
//!
//! Read-only. A look lists names, sizes and times, on a thread of its own; what nobody writes to
//! any longer is read through once for each version, newest first until one is complete, at a
//! bounded rate on one further thread. What was found is kept across restarts. A file system that
//! hangs holds up these two threads and nothing else.

mod archive;
mod check;
pub(super) mod finding;
pub(super) mod read;
mod remote;
pub(super) mod settings;
pub(super) mod survey;
mod unpack;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::warn;

use crate::config::Section;
use crate::model::MetricKind::{Counter, Gauge};
use crate::model::{Batch, Timestamp};

use super::memory::Saving;
use super::{CollectError, Collector, CollectorKind, Target};
use finding::{Finding, Reason};
use read::Progress;
use remote::Remote;
use settings::Settings;
use survey::{Backup, Found, Version};

/// The collector `backup`.
pub const KIND: CollectorKind = CollectorKind {
    name: "backup",
    about: "backups on disk: newest, count, size, in time, complete to their end",
    metrics: &[METRICS],
    build,
};

metrics! {
    LAST_SUCCESS "backup_last_success_timestamp_seconds" Gauge "seconds" &[], "Time of the newest backup that is complete, Unix time.", "stat, contents";
    NEWEST "backup_newest_timestamp_seconds" Gauge "seconds" &[], "Time of the newest backup, whatever it holds, Unix time.", "stat";
    OLDEST "backup_oldest_timestamp_seconds" Gauge "seconds" &[], "Time of the oldest backup, Unix time.", "stat";
    FILES "backup_files" Gauge "" &[], "Backups that are there; a set is one.", "stat";
    SIZE "backup_size_bytes" Gauge "bytes" &[], "Size of the newest backup that nobody writes to.", "stat";
    RATIO "backup_size_ratio" Gauge "ratio" &[], "Its size by the median of its predecessors, seven at most.", "stat";
    RATIO_MIN "backup_size_ratio_min" Gauge "ratio" &[], "The ratio below which it has shrunk (1 - shrink).", "configuration";
    VALID "backup_valid" Gauge "" &[], "1 when the newest backup that was read is complete, 0 when not.", "contents";
    INVALID "backup_invalid_info" Gauge "" &["reason"], "1; why the newest backup that was read is of no use.", "contents";
    DUE "backup_next_due_timestamp_seconds" Gauge "seconds" &[], "When the next backup must be there, grace included, Unix time.", "configuration";
    KEEP "backup_keep_files" Gauge "" &[], "How many backups are to be kept (keep).", "configuration";
    KEEP_SECONDS "backup_keep_seconds" Gauge "seconds" &[], "How long backups are to be kept (keep_days).", "configuration";
    READ "backup_read_bytes_total" Counter "bytes" &[], "Bytes of backups read.", "nightbell";
    READING "backup_reading_since_timestamp_seconds" Gauge "seconds" &[], "Since when a backup is being read; absent while none is.", "nightbell";
    CUT "backup_files_cut" Gauge "" &[], "1 when there are more backups than are looked at.", "nightbell";
}

/// Predecessors that sizes are compared with.
const PREDECESSORS: usize = 7;
/// Findings that are kept.
const MAX_FINDINGS: usize = 256;
/// What could not be read is tried again after this time.
const RETRY: Duration = Duration::from_secs(600);

/// What survives a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// When this backup was first looked for, in milliseconds since 1970.
    since: i64,
    /// What each version was found to be; `None` when it is complete.
    findings: Vec<(Version, Option<Finding>)>,
    /// Complete versions, oldest first: the size of a file that is overwritten.
    complete: Vec<Version>,
}

struct Backups {
    settings: Arc<Settings>,
    target: Target,
    kept: Option<Kept>,
    before: HashMap<PathBuf, Version>,
    looking: Option<oneshot::Receiver<Looked>>,
    reading: Option<Reading>,
    progress: Arc<Progress>,
    saving: Saving,
    /// When a version could not be read.
    unreadable: Option<(Version, Finding, Instant)>,
}

/// A backup that is being read.
struct Reading {
    version: Version,
    since: Timestamp,
    result: oneshot::Receiver<(Result<(), Finding>, bool)>,
}

/// What comes back from the thread that looks: what is kept too, the first time.
type Looked = (std::io::Result<Found>, Option<Kept>);

/// The backups of a configuration by their names, for what is read after them.
#[derive(Default)]
pub(super) struct Named(pub Mutex<BTreeMap<String, Arc<Settings>>>);

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let settings = Arc::new(Settings::read(section));
    if let Some(bucket) = section.section("bucket") {
        return Box::new(Remote::build(&bucket, settings, target));
    }
    let named = section
        .given::<Named>()
        .unwrap_or_else(|| section.give(Named::default()));
    named
        .0
        .lock()
        .insert(target.name.clone(), Arc::clone(&settings));
    Box::new(Backups {
        settings,
        target: target.clone(),
        kept: None,
        before: HashMap::new(),
        looking: None,
        reading: None,
        progress: Arc::default(),
        saving: Saving::default(),
        unreadable: None,
    })
}

impl Drop for Backups {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
    }
}

impl Collector for Backups {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            self.take_result();
            let found = self.look().await;
            if let Ok(found) = &found {
                self.report(found, batch);
            }
            self.report_settings(batch);
            if let Some(kept) = &self.kept {
                self.saving.save(
                    kept,
                    &self.target,
                    "backup",
                    "What was found of backups cannot be kept.",
                );
            }
            found.map(drop).map_err(CollectError::new)
        }
        .boxed()
    }

    fn address(&self) -> String {
        format!("file://{}", self.settings.source.pattern().display())
    }
}

impl Backups {
    /// One look, on a thread of its own: of a file system that hangs, one thread waits, however
    /// long.
    async fn look(&mut self) -> Result<Found, String> {
        if self.looking.is_none() {
            let (send, receive) = oneshot::channel();
            let (settings, before) = (Arc::clone(&self.settings), std::mem::take(&mut self.before));
            let memory = self.kept.is_none().then(|| self.target.memory.clone());
            let look = move || {
                let kept = memory.map(|memory| {
                    memory
                        .load()
                        .and_then(|text| serde_json::from_str(&text).ok())
                        .unwrap_or_default()
                });
                // Nobody waits any longer: then nothing is to be done.
                let _nobody = send.send((survey::look(&settings, &before), kept));
            };
            std::thread::Builder::new()
                .name("backup-look".into())
                .spawn(look)
                .map_err(|error| error.to_string())?;
            self.looking = Some(receive);
        }
        let Some(looking) = &mut self.looking else {
            return Err("ended early".into());
        };
        let answer = tokio::time::timeout(self.target.timeout.mul_f64(0.9), looking).await;
        let Ok(answer) = answer else {
            return Err("timed out: the file system does not answer".into());
        };
        self.looking = None;
        let (found, kept) = answer.map_err(|_| "ended early".to_owned())?;
        if let Some(kept) = kept {
            self.kept = Some(kept);
        }
        let found = found.map_err(|error| error.to_string().replace('\n', " "))?;
        self.before = found
            .newest
            .iter()
            .map(|backup| (backup.path.clone(), backup.version))
            .collect();
        let now = Timestamp::now();
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.since == 0) {
            kept.since = now.0;
            self.saving.note_change();
        }
        self.read_next(&found, now);
        Ok(found)
    }

    fn finding(&self, version: &Version) -> Option<&Option<Finding>> {
        self.kept
            .as_ref()?
            .findings
            .iter()
            .find(|(other, _)| other == version)
            .map(|(_, finding)| finding)
    }

    /// Begins to read the newest backup that is not known, unless a newer one is complete.
    fn read_next(&mut self, found: &Found, now: Timestamp) {
        if self.reading.is_some() {
            return;
        }
        for backup in found.newest.iter().filter(|backup| backup.is_settled) {
            match self.finding(&backup.version) {
                Some(None) => return,
                Some(Some(_)) => continue,
                None => {}
            }
            if self.unreadable.as_ref().is_some_and(|(version, _, when)| {
                *version == backup.version && when.elapsed() < RETRY
            }) {
                continue;
            }
            let early = match &backup.missing {
                Some(name) => Some(Finding::of(
                    Reason::MemberMissing,
                    format!("{name} is missing or empty"),
                )),
                None if backup.version.size == 0 => Some(Finding::of(Reason::Empty, "is empty")),
                None if backup.version.size < self.settings.min_size => Some(Finding::of(
                    Reason::TooSmall,
                    format!("{} bytes, less than min_size", backup.version.size),
                )),
                None => None,
            };
            match early {
                Some(finding) => self.note(backup.version, Err(finding)),
                None => return self.read(backup, now),
            }
        }
    }

    fn read(&mut self, backup: &Backup, now: Timestamp) {
        let (send, receive) = oneshot::channel();
        let (settings, progress, backup) = (
            Arc::clone(&self.settings),
            Arc::clone(&self.progress),
            backup.clone(),
        );
        let version = backup.version;
        let work = move || {
            let reading = check::Reading {
                rate: settings.read_rate,
                progress: &progress,
            };
            let result = backup.parts.iter().try_for_each(|(part, kind)| {
                reading.judge(part, *kind).map_err(|finding| {
                    let name = part.file_name().unwrap_or_default().to_string_lossy();
                    Finding {
                        detail: format!("{name}: {}", finding.detail),
                        ..finding
                    }
                })
            });
            // What was written meanwhile is another version.
            let is_same = survey::look_at(&settings, backup.path).is_ok_and(|now| now == version);
            let _nobody = send.send((result, is_same));
        };
        if std::thread::Builder::new()
            .name("backup-read".into())
            .spawn(work)
            .is_ok()
        {
            self.reading = Some(Reading {
                version,
                since: now,
                result: receive,
            });
        }
    }

    /// Takes over what the reading thread found, if it has ended.
    fn take_result(&mut self) {
        let Some(reading) = &mut self.reading else {
            return;
        };
        match reading.result.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => {}
            Err(oneshot::error::TryRecvError::Closed) => self.reading = None,
            Ok((result, is_same)) => {
                let version = reading.version;
                self.reading = None;
                if is_same {
                    self.note(version, result);
                }
            }
        }
    }

    fn note(&mut self, version: Version, result: Result<(), Finding>) {
        let target = &self.target.name;
        if let Err(finding) = &result {
            warn!(
                collector = "backup",
                target,
                reason = finding.reason.as_str(),
                error = finding.detail,
                "Backup is of no use."
            );
        }
        self.unreadable = None;
        match result {
            // Permissions and media may change without the file.
            Err(finding) if finding.reason == Reason::Unreadable => {
                self.unreadable = Some((version, finding, Instant::now()))
            }
            result => {
                let Some(kept) = &mut self.kept else { return };
                if result.is_ok() {
                    kept.complete.push(version);
                    let over = kept.complete.len().saturating_sub(PREDECESSORS + 1);
                    kept.complete.drain(..over);
                }
                kept.findings.push((version, result.err()));
                let over = kept.findings.len().saturating_sub(MAX_FINDINGS);
                kept.findings.drain(..over);
                self.saving.note_change();
            }
        }
    }

    fn report(&self, found: &Found, batch: &mut Batch) {
        let seconds = |millis: i64| millis as f64 / 1000.0;
        batch.push(&FILES, &[], found.count as f64);
        batch.push(&CUT, &[], f64::from(u8::from(found.is_cut)));
        if let Some(oldest) = found.oldest {
            batch.push(&OLDEST, &[], seconds(oldest));
        }
        if let Some(newest) = found.newest.first() {
            batch.push(&NEWEST, &[], seconds(newest.version.millis()));
        }
        let settled: Vec<&Backup> = found
            .newest
            .iter()
            .filter(|backup| backup.is_settled)
            .collect();
        self.report_size(&settled, batch);
        // The newest one that is known: while a newer one is read, what was said of the last
        // stands.
        let known = |backup: &&Backup| -> Option<Option<Finding>> {
            let unreadable = self
                .unreadable
                .as_ref()
                .filter(|(version, _, _)| *version == backup.version);
            self.finding(&backup.version)
                .cloned()
                .or_else(|| unreadable.map(|(_, finding, _)| Some(finding.clone())))
        };
        let newest_known = found.newest.iter().find_map(|backup| known(&backup));
        if let Some(finding) = &newest_known {
            batch.push(&VALID, &[], f64::from(u8::from(finding.is_none())));
        }
        if let Some(Some(finding)) = &newest_known {
            batch.push(&INVALID, &[("reason", finding.reason.as_str())], 1.0);
        }
        // A file that is overwritten: its last complete version counts until the next one is read.
        let here = found
            .newest
            .iter()
            .filter(|backup| self.finding(&backup.version) == Some(&None))
            .map(|b| b.version.millis())
            .max();
        let overwritten = self
            .kept
            .as_ref()
            .and_then(|kept| kept.complete.last())
            .map(Version::millis)
            .filter(|_| found.count == 1);
        if let Some(success) = here.or(overwritten) {
            batch.push(&LAST_SUCCESS, &[], seconds(success));
        }
        let (Some(schedule), Some(kept)) = (&self.settings.schedule, &self.kept) else {
            return;
        };
        // One that waits to be read is in time; one that is of no use is none.
        let waiting = settled
            .iter()
            .filter(|backup| !matches!(known(backup), Some(Some(_))))
            .map(|b| b.version.millis())
            .max();
        let last = waiting
            .into_iter()
            .chain(here)
            .chain(overwritten)
            .max()
            .unwrap_or(kept.since);
        if let Some(due) = schedule.next(Timestamp(last)) {
            batch.push(&DUE, &[], due.seconds() + self.settings.grace.as_secs_f64());
        }
    }

    fn report_size(&self, settled: &[&Backup], batch: &mut Batch) {
        let Some((newest, older)) = settled.split_first() else {
            return;
        };
        batch.push(&SIZE, &[], newest.version.size as f64);
        let mut sizes: Vec<u64> = older
            .iter()
            .take(PREDECESSORS)
            .map(|backup| backup.version.size)
            .collect();
        if sizes.is_empty() {
            let kept = self.kept.iter().flat_map(|kept| &kept.complete);
            sizes = kept
                .filter(|version| **version != newest.version)
                .map(|version| version.size)
                .collect();
        }
        sizes.sort_unstable();
        if let Some(median) = sizes.get(sizes.len() / 2).filter(|median| **median > 0) {
            batch.push(&RATIO, &[], newest.version.size as f64 / *median as f64);
        }
    }

    fn report_settings(&self, batch: &mut Batch) {
        batch.push(
            &READ,
            &[],
            self.progress.bytes.load(Ordering::Relaxed) as f64,
        );
        if let Some(reading) = &self.reading {
            batch.push(&READING, &[], reading.since.seconds());
        }
        report_limits(&self.settings, batch);
    }
}

/// Shows what the configuration asks of a backup.
fn report_limits(settings: &Settings, batch: &mut Batch) {
    batch.push(&RATIO_MIN, &[], settings.min_ratio);
    if let Some(keep) = settings.keep {
        batch.push(&KEEP, &[], keep as f64);
    }
    if let Some(days) = settings.keep_days {
        batch.push(&KEEP_SECONDS, &[], days as f64 * 86_400.0);
    }
}
