//! What ends a run early: nightbell's own end, `max_duration`, a restored copy that grows too
//! large, a disk that fills.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::failure::{Failure, Reason};
use super::scratch::free_space;
use crate::collectors::backup::read::Progress;
use crate::collectors::programs::Group;

/// How often it is looked.
const STEP: Duration = Duration::from_millis(250);

/// One run's watch, shared by its threads.
pub struct Watch {
    /// Stops what reads the backup.
    pub progress: Arc<Progress>,
    deadline: Instant,
    /// A folder whose file system must not fill.
    disk: Mutex<Option<PathBuf>>,
    groups: Mutex<Vec<Group>>,
    trouble: Mutex<Option<Failure>>,
    is_over: AtomicBool,
}

impl Watch {
    /// Begins to watch, on a thread of its own that ends with the run.
    pub fn begin(progress: Arc<Progress>, max_duration: Duration) -> Arc<Self> {
        let watch = Arc::new(Watch {
            progress,
            deadline: Instant::now() + max_duration,
            disk: Mutex::default(),
            groups: Mutex::default(),
            trouble: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let watching = Arc::clone(&watch);
        let _thread = std::thread::Builder::new()
            .name("restore-watch".into())
            .spawn(move || {
                while !watching.is_over.load(Ordering::Relaxed) {
                    if let Err(failure) = watching.look() {
                        watching.end(failure);
                    }
                    std::thread::sleep(STEP);
                }
            });
        watch
    }

    fn look(&self) -> Result<(), Failure> {
        if self.progress.stop.load(Ordering::Relaxed) {
            return Err(Failure::of(
                Reason::Interrupted,
                "nightbell ends, or no longer watches this",
            ));
        }
        if Instant::now() >= self.deadline {
            return Err(Failure::of(
                Reason::TimedOut,
                "it takes longer than max_duration",
            ));
        }
        let space = self.disk.lock().as_deref().and_then(free_space);
        match space {
            Some((free, reserve)) if free < reserve => {
                Err(Failure::of(Reason::NoSpace, "the disk fills up"))
            }
            _ => Ok(()),
        }
    }

    /// Ends the run for this reason, unless it has one already.
    pub fn end(&self, failure: Failure) {
        self.trouble.lock().get_or_insert(failure);
        self.progress.stop.store(true, Ordering::Relaxed);
        self.groups.lock().drain(..).for_each(Group::kill);
    }

    /// Looks after the file system of a folder too.
    pub fn look_after(&self, disk: PathBuf) {
        *self.disk.lock() = Some(disk);
    }

    /// The programs of this group end with the run.
    pub fn add(&self, group: Group) {
        self.groups.lock().push(group);
        if self.trouble.lock().is_some() {
            group.kill();
        }
    }

    /// The programs have ended by themselves: their numbers may be those of others soon.
    pub fn forget_programs(&self) {
        self.groups.lock().clear();
    }

    /// Why the run ends early, if it does.
    pub fn goes_on(&self) -> Result<(), Failure> {
        self.trouble.lock().clone().map_or(Ok(()), Err)
    }

    /// Waits for an answer no longer than the run goes on.
    pub async fn within<T>(&self, answer: impl Future<Output = T>) -> Result<T, Failure> {
        let mut answer = std::pin::pin!(answer);
        loop {
            match tokio::time::timeout(STEP, &mut answer).await {
                Ok(answer) => return Ok(answer),
                Err(_) => self.goes_on()?,
            }
        }
    }

    /// Whether the run is over, or ends.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.trouble.lock().is_some()
    }

    /// Waits for so long, or until the run is over.
    pub async fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.is_over() {
            tokio::time::sleep(STEP).await;
        }
    }

    /// The run is over.
    pub fn over(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.groups.lock().drain(..).for_each(Group::kill);
    }
}
