//! All files of a target: which they are, how far each was read, and what is remembered of them.
//! The reading happens on a thread of its own, at most one a target: while a file system hangs, it
//! alone waits.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::collectors::Memory;
use crate::config::glob;
use crate::model::Timestamp;

use super::envelope::docker_logs;
use super::follow::{Follower, Look, Sink};
use super::journal::{Journal, Place};
use super::settings::Files;
use super::siblings::is_rotation;

/// Files of one target at most; of more, the newest.
const MAX_FILES: usize = 100;
/// Threads of all targets at most, those included that hang.
static THREADS: Semaphore = Semaphore::const_new(32);

/// Reads all that is new into a sink.
pub type ReadInto<'r> = dyn FnMut(&mut dyn Sink) + 'r;

/// What a look at all files found.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Whether every file could be read.
    pub readable: bool,
    /// Files that are followed.
    pub files: usize,
    /// Files beyond the bound.
    pub omitted: usize,
    /// Bytes that are there and not read yet.
    pub behind: u64,
    /// Bytes that were read.
    pub read: u64,
    /// When the newest file was written, Unix seconds; 0 when there is none.
    pub written: f64,
    /// Files that vanished before they were read to their end.
    pub lost: u64,
    /// What went wrong first.
    pub problem: Option<String>,
    /// Whether what was read is on disk.
    pub saved: bool,
}

/// What is added up over all looks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Lines that were longer than is read.
    pub cut: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Files that vanished before they were read to their end.
    pub lost: u64,
    /// When the last line was written, Unix seconds.
    pub last_line: f64,
}

impl Totals {
    /// Adds a look; `by_file`: the files say when the last line was written.
    pub fn add(&mut self, seen: &Seen, by_file: bool) {
        self.bytes += seen.read;
        self.lost += seen.lost;
        if by_file {
            self.last_line = self.last_line.max(seen.written);
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Saved<C> {
    files: Vec<Follower>,
    /// How far the journal was read.
    #[serde(default)]
    place: Option<Place>,
    counts: C,
}

/// A target's files and its counts `C`, saved together.
pub struct Reader<C> {
    files: Files,
    memory: Memory,
    followers: Vec<Follower>,
    place: Option<Place>,
    /// What was counted.
    pub counts: C,
    /// Whether files were looked at before: then a new one is read from its beginning.
    is_known: bool,
    is_loaded: bool,
    saved: String,
    save_failed: bool,
}

impl<C: Serialize + DeserializeOwned + Default> Reader<C> {
    /// Reads nothing yet.
    pub fn new(files: Files, memory: Memory) -> Self {
        let (followers, saved) = (Vec::new(), String::new());
        Reader {
            files,
            memory,
            followers,
            place: None,
            counts: C::default(),
            is_known: false,
            is_loaded: false,
            saved,
            save_failed: false,
        }
    }

    /// Reads what is new, and saves how far that is. `sink` makes of the counts what takes the
    /// lines.
    pub fn look(
        &mut self,
        time: Duration,
        sink: &mut dyn FnMut(&mut C, &mut ReadInto<'_>),
    ) -> Seen {
        let deadline = Instant::now() + time;
        self.load();
        if let Some(journal) = self.files.journal.clone() {
            return self.look_at(&journal, deadline, sink);
        }
        let (mut seen, mut is_known) = (
            Seen {
                readable: true,
                ..Seen::default()
            },
            true,
        );
        let (paths, omitted) = match paths(&self.files) {
            Ok(found) => {
                if found.0.is_empty() {
                    (seen.readable, seen.problem) =
                        (false, Some(format!("{}: there is no log file", self.files)));
                }
                found
            }
            Err(problem) => {
                (seen.readable, seen.problem, is_known) = (false, Some(problem), self.is_known);
                (Vec::new(), 0)
            }
        };
        seen.omitted = omitted;
        for path in &paths {
            if !self.followers.iter().any(|follower| follower.path == *path) {
                self.followers.push(Follower::new(path.clone()));
            }
        }
        self.followers
            .retain(|follower| paths.contains(&follower.path) || !follower.is_done());
        let (from_end, now_ms) = (self.files.from_end && !self.is_known, Timestamp::now().0);
        let mut left = self.files.max_bytes;
        let count = self.followers.len() as u64;
        let followers = &mut self.followers;
        sink(&mut self.counts, &mut |sink| {
            for (index, follower) in followers.iter_mut().enumerate() {
                // Each file has its share, so that one that grows fast does not keep the others
                // from being read.
                let share = left / (count - index as u64);
                let mut look = Look {
                    bytes: share,
                    deadline,
                    now_ms,
                    from_end,
                    read: 0,
                    behind: 0,
                    written: 0.0,
                    lost: 0,
                };
                let result = follower.look(sink, &mut look);
                left = left.saturating_sub(look.read);
                seen.read += look.read;
                seen.behind += look.behind;
                seen.written = seen.written.max(look.written);
                seen.lost += look.lost;
                let problem = match result {
                    Ok(true) => {
                        seen.files += 1;
                        None
                    }
                    Ok(false) if paths.contains(&follower.path) => {
                        Some(io::Error::from(io::ErrorKind::NotFound))
                    }
                    Ok(false) => None,
                    Err(error) => Some(error),
                };
                if let Some(error) = problem {
                    seen.readable = false;
                    seen.problem
                        .get_or_insert_with(|| format!("{}: {error}", follower.path.display()));
                }
            }
        });
        if seen.lost > 0 {
            info!(files = seen.lost, path = %self.files, "A log file vanished before it was read to its end.");
        }
        self.is_known = is_known;
        seen
    }

    /// Reads what is new in the journal.
    fn look_at(
        &mut self,
        journal: &Journal,
        deadline: Instant,
        sink: &mut dyn FnMut(&mut C, &mut ReadInto<'_>),
    ) -> Seen {
        let mut seen = Seen {
            readable: true,
            files: 1,
            ..Seen::default()
        };
        if self.files.from_end && self.place.is_none() {
            self.place = Some(Place::Since(Timestamp::now().0.saturating_mul(1000)));
        }
        let (place, bytes) = (&mut self.place, self.files.max_bytes);
        sink(
            &mut self.counts,
            &mut |sink| match journal.look(place, sink, bytes, deadline) {
                Ok(run) => (seen.read, seen.written) = (run.read, run.written),
                Err(error) => {
                    (seen.readable, seen.files, seen.problem) =
                        (false, 0, Some(format!("{journal}: {error}")))
                }
            },
        );
        self.is_known = true;
        seen
    }

    /// Saves positions and counts; true when they are on disk.
    pub fn save(&mut self) -> bool {
        let Ok(text) = serde_json::to_string(&SavedRef {
            files: &self.followers,
            place: &self.place,
            counts: &self.counts,
        }) else {
            return false;
        };
        if text == self.saved {
            return !self.save_failed;
        }
        match self.memory.save(&text) {
            Ok(()) => {
                if std::mem::take(&mut self.save_failed) {
                    info!(path = %self.files, "What was read of a log is saved again.");
                }
                self.saved = text;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.save_failed, true) {
                    warn!(path = %self.files, %error, "What was read of a log cannot be saved; after a restart it is read again.");
                }
            }
        }
        !self.save_failed
    }

    fn load(&mut self) {
        if std::mem::replace(&mut self.is_loaded, true) {
            return;
        }
        let Some(text) = self.memory.load() else {
            return;
        };
        match serde_json::from_str::<Saved<C>>(&text) {
            Ok(saved) => {
                self.place = saved.place;
                (self.followers, self.counts, self.is_known, self.saved) =
                    (saved.files, saved.counts, true, text);
            }
            Err(error) => {
                warn!(path = %self.files, %error, "What is remembered of a log is damaged; it is read anew.")
            }
        }
    }
}

#[derive(Serialize)]
struct SavedRef<'a, C> {
    files: &'a [Follower],
    #[serde(skip_serializing_if = "Option::is_none")]
    place: &'a Option<Place>,
    counts: &'a C,
}

/// The files that a path names, and how many beyond the bound: itself, what is in the folder, or
/// what fits the pattern. What rotation made of another one is none.
fn paths(files: &Files) -> Result<(Vec<PathBuf>, usize), String> {
    let path = files.path.as_path();
    if let Some(name) = &files.docker {
        return docker_logs(path, name).map(bounded);
    }
    let is_pattern = path.to_string_lossy().contains(['*', '?', '[']);
    let mut found = if is_pattern {
        glob(path).map_err(|error| error.to_string())?
    } else if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
        entries.flatten().map(|entry| entry.path()).collect()
    } else {
        return Ok((vec![path.to_owned()], 0));
    };
    let packed = |name: &str| {
        [".gz", ".bz2", ".xz", ".zst"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    found.retain(|path| {
        path.file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|name| !name.starts_with('.') && !packed(name))
            && path.is_file()
    });
    let names: BTreeSet<PathBuf> = found.iter().cloned().collect();
    let is_base = |base: &Path, path: &Path| {
        let name = |path: &Path| {
            path.file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default()
                .to_owned()
        };
        base != path && base.parent() == path.parent() && is_rotation(&name(base), &name(path))
    };
    found.retain(|path| !names.iter().any(|base| is_base(base, path)));
    Ok(bounded(found))
}

/// So many as there may be, the newest, and how many there are beyond.
fn bounded(mut found: Vec<PathBuf>) -> (Vec<PathBuf>, usize) {
    let omitted = found.len().saturating_sub(MAX_FILES);
    if omitted > 0 {
        found
            .sort_by_key(|path| std::cmp::Reverse(path.metadata().and_then(|m| m.modified()).ok()));
        found.truncate(MAX_FILES);
        found.sort();
    }
    (found, omitted)
}

/// Work that blocks, on a thread of its own; it comes back with what it found.
pub struct Thread<W, F> {
    work: Option<W>,
    running: Option<JoinHandle<(W, F)>>,
}

impl<W: Send + 'static, F: Send + 'static> Thread<W, F> {
    /// Nothing runs yet.
    pub fn new(work: W) -> Self {
        Thread {
            work: Some(work),
            running: None,
        }
    }

    /// Runs it once, or waits for the run that has not come back; errs with why there is no result.
    pub async fn run(
        &mut self,
        timeout: Duration,
        run: impl FnOnce(&mut W) -> F + Send + 'static,
    ) -> Result<F, &'static str> {
        if self.running.is_none() {
            let Ok(permit) = THREADS.try_acquire() else {
                return Err("too many other logs hang");
            };
            let Some(mut work) = self.work.take() else {
                return Err("the reader ended");
            };
            self.running = Some(tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let found = run(&mut work);
                (work, found)
            }));
        }
        let Some(running) = &mut self.running else {
            return Err("the reader ended");
        };
        match tokio::time::timeout(timeout, running).await {
            Ok(Ok((work, found))) => {
                (self.running, self.work) = (None, Some(work));
                Ok(found)
            }
            Ok(Err(_)) => {
                self.running = None;
                Err("the reader ended")
            }
            Err(_) => Err("timed out: the file system does not answer"),
        }
    }
}
