//! Where reports and pushes arrive: the jobs that are configured, by name, and the groups that were
//! pushed. The web puts in, collectors take out.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;

use crate::collectors::Memory;
use crate::config::SecretSource;
use crate::model::Timestamp;

use super::disk::Disk;
use super::kept::Kept;
use super::pushed::{Grouping, Groups, Method, PushError};
use super::report::Report;

/// How long an answer waits for the disk.
const DISK: Duration = Duration::from_secs(2);
/// Pushed metrics up to so many bytes are written at each push, more at each collection.
const SMALL: usize = 256 << 10;

/// Everything that arrives. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Inbox(Arc<Shared>);

#[derive(Default)]
struct Shared {
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    gateway: Mutex<Option<Arc<Gateway>>>,
    /// The last successful push of each job, Unix milliseconds; as many as there are groups.
    pushes: Mutex<HashMap<String, i64>>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

/// A job that takes reports.
pub struct Job {
    /// What is known of its runs.
    pub kept: Mutex<Kept>,
    disk: Arc<Disk>,
    token: Mutex<Option<SecretSource>>,
    holders: AtomicUsize,
}

/// What was pushed.
pub struct Gateway {
    /// The groups.
    pub groups: Mutex<Groups>,
    disk: Arc<Disk>,
    /// The groups have changed since they were saved.
    is_dirty: AtomicBool,
    token: Mutex<Option<SecretSource>>,
    holders: AtomicUsize,
}

/// Why a report is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No job of this name is configured.
    Job,
    /// Nothing takes pushes.
    Gateway,
}

impl Job {
    /// A job that nobody reports to.
    pub fn alone(memory: Memory) -> Arc<Self> {
        let disk = Disk::new(memory);
        let kept = disk
            .load()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        Arc::new(Job {
            kept: Mutex::new(kept),
            disk,
            token: Mutex::default(),
            holders: AtomicUsize::new(0),
        })
    }

    /// Writes what is known.
    pub fn save(&self) -> Option<tokio::task::JoinHandle<()>> {
        let text = serde_json::to_string(&*self.kept.lock()).ok()?;
        self.disk.write(text)
    }
}

impl Gateway {
    /// Writes what was pushed, if it is new.
    pub fn save_if_changed(&self) -> Option<tokio::task::JoinHandle<()>> {
        if !self.is_dirty.swap(false, Ordering::AcqRel) {
            return None;
        }
        let text = self.groups.lock().saved()?;
        self.disk.write(text)
    }
}

/// A collector's hold of its job: reports are taken as long as one holds it.
pub struct JobHeld {
    inbox: Inbox,
    name: String,
    /// The job.
    pub job: Arc<Job>,
}

/// A collector's hold of what is pushed.
pub struct GatewayHeld {
    inbox: Inbox,
    /// What was pushed.
    pub gateway: Arc<Gateway>,
}

impl Drop for JobHeld {
    fn drop(&mut self) {
        let mut jobs = self.inbox.0.jobs.lock();
        if self.job.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            jobs.remove(&self.name);
        }
    }
}

impl Drop for GatewayHeld {
    fn drop(&mut self) {
        let mut gateway = self.inbox.0.gateway.lock();
        if self.gateway.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            *gateway = None;
        }
    }
}

impl Inbox {
    /// Takes reports for a job from now on. What a collector of the same name holds is shared, so
    /// that a reload loses none; else it is read from disk, which may take its time.
    pub fn hold_job(&self, name: &str, memory: Memory, token: Option<SecretSource>) -> JobHeld {
        let is_known = self.0.jobs.lock().contains_key(name);
        let loaded = (!is_known).then(|| Job::alone(memory.clone()));
        let mut jobs = self.0.jobs.lock();
        let job = jobs
            .entry(name.to_owned())
            .or_insert_with(|| loaded.unwrap_or_else(|| Job::alone(memory)));
        let job = Arc::clone(job);
        job.holders.fetch_add(1, Ordering::AcqRel);
        *job.token.lock() = token;
        drop(jobs);
        JobHeld {
            inbox: self.clone(),
            name: name.to_owned(),
            job,
        }
    }

    /// Takes pushes from now on, likewise.
    pub fn hold_gateway(&self, memory: Memory, token: Option<SecretSource>) -> GatewayHeld {
        let mut held = self.0.gateway.lock();
        let gateway = match &*held {
            Some(gateway) => Arc::clone(gateway),
            None => {
                let disk = Disk::new(memory);
                let groups = disk
                    .load()
                    .map(|text| Groups::load(&text))
                    .unwrap_or_default();
                *self.0.pushes.lock() = groups.last_pushes();
                let groups = Mutex::new(groups);
                let gateway = Arc::new(Gateway {
                    groups,
                    disk,
                    is_dirty: AtomicBool::new(false),
                    token: Mutex::default(),
                    holders: AtomicUsize::new(0),
                });
                *held = Some(Arc::clone(&gateway));
                gateway
            }
        };
        gateway.holders.fetch_add(1, Ordering::AcqRel);
        *gateway.token.lock() = token;
        drop(held);
        GatewayHeld {
            inbox: self.clone(),
            gateway,
        }
    }

    /// Whether a token is the one of this job. The file that it stands in is read.
    pub fn lets_in(&self, name: &str, token: &str) -> bool {
        let source = self
            .0
            .jobs
            .lock()
            .get(name)
            .and_then(|job| job.token.lock().clone());
        is_right(source, token)
    }

    /// Whether a token is the one for pushes.
    pub fn lets_push(&self, token: &str) -> bool {
        let source = self
            .0
            .gateway
            .lock()
            .as_ref()
            .and_then(|gateway| gateway.token.lock().clone());
        is_right(source, token)
    }

    /// Takes a report, and waits a moment until it is on disk.
    pub async fn report(&self, name: &str, report: &Report, now: Timestamp) -> Result<(), Unknown> {
        let job = self.0.jobs.lock().get(name).cloned().ok_or(Unknown::Job)?;
        let is_new = job.kept.lock().report(report, now);
        if is_new && let Some(written) = job.save() {
            // A disk that hangs must not hold up who reports.
            let _ = tokio::time::timeout(DISK, written).await;
        }
        Ok(())
    }

    /// Takes a push, and waits a moment until it is on disk.
    pub async fn push(
        &self,
        grouping: &Grouping,
        method: Method,
        body: &[u8],
        is_protobuf: bool,
        now: Timestamp,
    ) -> Result<Result<(), PushError>, Unknown> {
        let gateway = self.0.gateway.lock().clone().ok_or(Unknown::Gateway)?;
        let (result, is_small) = {
            let mut groups = gateway.groups.lock();
            let result = groups.push(grouping, method, body, is_protobuf, now);
            *self.0.pushes.lock() = groups.last_pushes();
            (result, groups.bytes() <= SMALL)
        };
        gateway.is_dirty.store(true, Ordering::Release);
        if is_small && let Some(written) = gateway.save_if_changed() {
            let _ = tokio::time::timeout(DISK, written).await;
        }
        Ok(result)
    }

    /// The last successful push of a job, Unix milliseconds.
    pub fn last_push(&self, job: &str) -> Option<i64> {
        self.0.pushes.lock().get(job).copied()
    }
}

/// Whether a token is the one of a source, whose file is read.
pub fn is_right(source: Option<SecretSource>, token: &str) -> bool {
    let Some(secret) = source
        .and_then(|source| source.current().ok())
        .filter(|secret| !secret.is_empty())
    else {
        return false;
    };
    bool::from(secret.expose().as_bytes().ct_eq(token.as_bytes()))
}
