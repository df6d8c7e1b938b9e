//! A folder that is looked through now and then, on a thread of its own: a file system that hangs
//! holds up this thread and nothing else.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::config::Section;
use crate::model::{Batch, MetricDesc};

use super::{CollectError, Target};

/// The key `path` of a section: where the folder is.
pub fn path_of(section: &Section<'_>) -> PathBuf {
    let path: PathBuf = section.require("path");
    if !path.as_os_str().is_empty() && !path.is_absolute() {
        section.error(
            "path",
            format!("{:?} is not absolute", path.display()),
            "give a path that begins with /",
        );
    }
    path
}

/// The looks at one folder: `W` is what a look works with, `F` what it finds.
pub struct Folder<W, F> {
    kind: &'static str,
    name: String,
    path: PathBuf,
    /// Time between two looks.
    every: Duration,
    timeout: Duration,
    /// Whether the first look may outlast a collection without being called a failure.
    is_first_slow: bool,
    look: fn(&mut W) -> io::Result<F>,
    work: Arc<Mutex<W>>,
    running: Option<JoinHandle<io::Result<F>>>,
    /// What the last look found; forgotten when a look fails.
    last: Option<F>,
    /// When the last look ended.
    looked: Option<Instant>,
    failing: Option<String>,
}

impl<W: Send + 'static, F: Send + 'static> Folder<W, F> {
    /// Nothing is looked at yet.
    pub fn new(
        kind: &'static str,
        target: &Target,
        path: PathBuf,
        every: Duration,
        work: W,
        look: fn(&mut W) -> io::Result<F>,
    ) -> Self {
        Folder {
            kind,
            name: target.name.clone(),
            path,
            every,
            timeout: target.timeout,
            is_first_slow: false,
            look,
            work: Arc::new(Mutex::new(work)),
            running: None,
            last: None,
            looked: None,
            failing: None,
        }
    }

    /// The same, where the first look reads so much that it may outlast a collection.
    pub fn with_slow_first_look(mut self) -> Self {
        self.is_first_slow = true;
        self
    }

    /// Where it is, for people.
    pub fn address(&self) -> String {
        self.path.display().to_string()
    }

    /// Looks where it is time to; says in `readable` whether that was possible, and lets `show`
    /// show what is known.
    pub async fn collect(
        &mut self,
        readable: &MetricDesc,
        batch: &mut Batch,
        show: fn(&F, &mut Batch),
    ) -> Result<(), CollectError> {
        let result = self.look().await;
        self.log(result.as_ref().err());
        batch.push(readable, &[], f64::from(u8::from(result.is_ok())));
        if let Some(found) = &self.last {
            show(found, batch);
        }
        result.map_err(|reason| CollectError::new(format!("{}: {reason}", self.path.display())))
    }

    /// Looks again where it is time to, and waits for a look that is under way.
    async fn look(&mut self) -> Result<(), String> {
        let is_due = self
            .looked
            .is_none_or(|looked| looked.elapsed() >= self.every);
        if self.running.is_none() && !is_due {
            return self.failing.clone().map_or(Ok(()), Err);
        }
        let running = self.running.get_or_insert_with(|| {
            let (work, look) = (Arc::clone(&self.work), self.look);
            tokio::task::spawn_blocking(move || look(&mut work.lock()))
        });
        let Ok(ended) = tokio::time::timeout(self.timeout.mul_f64(0.9), running).await else {
            // A large folder takes longer than one collection: what was found before is still
            // shown.
            return match (&self.last, self.is_first_slow, self.looked) {
                (Some(_), ..) | (None, true, None) => Ok(()),
                (None, true, Some(_)) => Err("the folder does not answer".into()),
                (None, false, _) => Err("it has not been looked through yet".into()),
            };
        };
        (self.running, self.looked) = (None, Some(Instant::now()));
        let found = ended
            .map_err(|_| "the look ended early".to_owned())
            .and_then(|found| found.map_err(|error| error.to_string()));
        let (last, result) =
            found.map_or_else(|error| (None, Err(error)), |found| (Some(found), Ok(())));
        self.last = last;
        result
    }

    /// One line in the log when it begins to fail, fails in another way, and works again.
    fn log(&mut self, error: Option<&String>) {
        match error {
            Some(error) if self.failing.as_ref() != Some(error) => {
                warn!(collector = self.kind, target = %self.name, path = %self.path.display(), %error, "The folder cannot be read.");
            }
            None if self.failing.is_some() => {
                info!(collector = self.kind, target = %self.name, "The folder can be read again.")
            }
            _ => {}
        }
        self.failing = error.cloned();
    }
}
