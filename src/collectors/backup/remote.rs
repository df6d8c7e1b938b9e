//! Backups in object storage (`bucket`): whether the newest one is there in time and as large as
//! those before it, by listing alone. No object is read, so nothing is said of what it holds; an
//! upload that was cut short leaves no object.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant as Deadline;

use super::finding::Reason;
use super::settings::Settings;
use super::{
    CUT, DUE, FILES, INVALID, Kept, LAST_SUCCESS, NEWEST, OLDEST, RATIO, SIZE, VALID, report_limits,
};
use crate::collectors::memory::Saving;
use crate::collectors::object_storage::{Found, Watched};
use crate::collectors::{CollectError, Collector, Target};
use crate::config::Section;
use crate::model::{Batch, Timestamp};

/// Part of the deadline in which pages are asked for.
const WAITING: f64 = 0.9;

/// Backups under a prefix of a bucket.
pub struct Remote {
    settings: Arc<Settings>,
    target: Target,
    bucket: Watched,
    kept: Option<Kept>,
    saving: Saving,
}

impl Remote {
    /// Reads the section `bucket`.
    pub fn build(section: &Section<'_>, settings: Arc<Settings>, target: &Target) -> Self {
        let remote = Remote {
            settings,
            target: target.clone(),
            bucket: Watched::read(section, "look_every", target.timeout),
            kept: None,
            saving: Saving::default(),
        };
        section.finish();
        remote
    }

    /// Reads when this backup was first looked for, the first time.
    async fn hold(&mut self) -> Result<(), CollectError> {
        if self.kept.is_some() {
            return Ok(());
        }
        let memory = self.target.memory.clone();
        let load = tokio::task::spawn_blocking(move || memory.load());
        let text = tokio::time::timeout(self.target.timeout.mul_f64(WAITING), load)
            .await
            .map_err(|_| CollectError::new("timed out: the state folder does not answer"))?
            .map_err(|_| CollectError::new("ended early"))?;
        let kept: Option<Kept> = text.and_then(|text| serde_json::from_str(&text).ok());
        let mut kept = kept.unwrap_or_default();
        if kept.since == 0 {
            kept.since = Timestamp::now().0;
            self.saving.note_change();
        }
        self.kept = Some(kept);
        Ok(())
    }

    fn show(&self, found: &Found, batch: &mut Batch) {
        let sums = &found.sums;
        batch.push(&FILES, &[], sums.objects as f64);
        batch.push(&CUT, &[], f64::from(u8::from(found.is_truncated)));
        if let Some(oldest) = sums.oldest {
            batch.push(&OLDEST, &[], oldest);
        }
        let why = |size: u64| match size {
            0 => Some(Reason::Empty),
            size if size < self.settings.min_size => Some(Reason::TooSmall),
            _ => None,
        };
        if let Some((at, size)) = sums.newest.first() {
            batch.push(&NEWEST, &[], *at);
            batch.push(&SIZE, &[], *size as f64);
            batch.push(&VALID, &[], f64::from(u8::from(why(*size).is_none())));
            if let Some(reason) = why(*size) {
                batch.push(&INVALID, &[("reason", reason.as_str())], 1.0);
            }
            let mut older: Vec<u64> = sums.newest[1..].iter().map(|(_, size)| *size).collect();
            older.sort_unstable();
            if let Some(median) = older.get(older.len() / 2).filter(|median| **median > 0) {
                batch.push(&RATIO, &[], *size as f64 / *median as f64);
            }
        }
        let last = sums.newest.iter().find(|(_, size)| why(*size).is_none());
        if let Some((at, _)) = last {
            batch.push(&LAST_SUCCESS, &[], *at);
        }
        let (Some(schedule), Some(kept)) = (&self.settings.schedule, &self.kept) else {
            return;
        };
        let last = last.map_or(Timestamp(kept.since), |(at, _)| {
            Timestamp::from_seconds(*at)
        });
        if let Some(due) = schedule.next(last) {
            batch.push(&DUE, &[], due.seconds() + self.settings.grace.as_secs_f64());
        }
    }
}

impl Collector for Remote {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let deadline = Deadline::now() + self.target.timeout.mul_f64(WAITING);
            self.hold().await?;
            self.bucket.look(deadline).await;
            if let Some(found) = &self.bucket.last {
                self.show(found, batch);
            }
            report_limits(&self.settings, batch);
            if let Some(kept) = &self.kept {
                self.saving.save(
                    kept,
                    &self.target,
                    "backup",
                    "When a backup was first looked for cannot be kept.",
                );
            }
            self.bucket.outcome()
        }
        .boxed()
    }

    fn address(&self) -> String {
        self.bucket.address()
    }
}
