//! Who runs where: collection, rules, delivery, the web and upkeep each have threads of their own, so that whatever holds up one of them
//! (a query, a flood of requests, a file system that hangs, a compaction) never holds up another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tracing::debug;

/// Threads for collecting: a page that takes long to read must not hold up the next target.
const COLLECTORS: usize = 2;
/// Threads that answer requests; what takes long goes to further ones, whose number the seats of the web bound.
const ANSWERERS: usize = 2;
/// Threads that read files and statistics for collectors. Each collector leaves at most a few behind in a file system that hangs.
const COLLECTING_BLOCKED: usize = 64;
/// Threads for queries and the like.
const ANSWERING_BLOCKED: usize = 64;
/// Beyond the interval of most scrapes: each finds the thread of the one before.
const ANSWERING_IDLE: Duration = Duration::from_secs(70);
/// How much queries and upkeep yield to everything else, as `nice` counts: rules get their time while all seats are taken.
const QUERIES_NICE: i32 = 5;
const UPKEEP_NICE: i32 = 10;

/// The runtimes of a running nightbell. Dropping them abandons what still runs in them.
pub(super) struct Threads {
    /// Collects from targets.
    pub collection: Kept,
    /// Evaluates rules, one group at a time, on its one thread.
    pub rules: Kept,
    /// Routes alerts, sends messages and heartbeats; connections to the state database live here.
    pub delivery: Kept,
    /// Answers requests.
    pub web: Kept,
    /// Writes and merges blocks, looks at files of targets, and whatever else may wait.
    pub upkeep: Kept,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// When the kernel refuses a thread.
    pub fn start() -> std::io::Result<Self> {
        Ok(Threads {
            collection: Kept::start(named("collection", COLLECTORS).max_blocking_threads(COLLECTING_BLOCKED))?,
            rules: Kept::start(&mut named("rules", 1))?,
            delivery: Kept::start(&mut named("delivery", 1))?,
            web: Kept::start(
                named("web", ANSWERERS)
                    .max_blocking_threads(ANSWERING_BLOCKED)
                    .thread_keep_alive(ANSWERING_IDLE)
                    .on_thread_start(yields_beyond(ANSWERERS)),
            )?,
            upkeep: Kept::start(named("upkeep", 1).max_blocking_threads(4).on_thread_start(|| yield_to_others(UPKEEP_NICE)))?,
        })
    }
}

fn named(name: &str, workers: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers).thread_name(name).thread_keep_alive(Duration::from_secs(10)).enable_all();
    builder
}

/// What each thread of a runtime begins with: those after the first `workers`, which are the runtime's own, yield to everything else.
fn yields_beyond(workers: usize) -> impl Fn() + Send + Sync + 'static {
    let started = AtomicUsize::new(0);
    move || {
        if started.fetch_add(1, Ordering::Relaxed) >= workers {
            yield_to_others(QUERIES_NICE);
        }
    }
}

/// Lowers the priority of the thread that calls it. A kernel that refuses costs nothing but the politeness.
fn yield_to_others(nice: i32) {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice) {
        debug!(%error, "The priority of a thread cannot be lowered.");
    }
}

/// A runtime whose end waits for nobody: a thread that hangs in a file system must not keep the process.
pub(super) struct Kept(Option<Runtime>);

impl Kept {
    fn start(builder: &mut Builder) -> std::io::Result<Self> {
        builder.build().map(|runtime| Kept(Some(runtime)))
    }
}

impl std::ops::Deref for Kept {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
