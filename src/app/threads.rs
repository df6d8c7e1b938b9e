//! Who runs where: collection, rules, delivery, the web and upkeep each have threads of their own,
//! so that whatever holds up one of them (a query, a flood of requests, a file system that hangs, a
//! compaction) never holds up another.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tracing::debug;

/// Threads for collecting: a page that takes long to read must not hold up the next target.
const COLLECTORS: usize = 2;
/// Threads that answer requests; what takes long goes to further ones, whose number the seats of
/// the web bound.
const ANSWERERS: usize = 2;
/// Threads that read files and statistics for collectors. Each collector leaves at most a few
/// behind in a file system that hangs.
const COLLECTING_BLOCKED: usize = 64;
/// Threads for requests of people and of other servers, and for what is changed.
const ANSWERING_BLOCKED: usize = 32;
/// Threads for queries and lookups.
const QUERYING_BLOCKED: usize = 32;
/// Beyond the interval of most scrapes: each finds the thread of the one before.
const ANSWERING_IDLE: Duration = Duration::from_secs(70);
/// How much queries and upkeep yield to everything else, as `nice` counts: rules get their time
/// while all seats are taken.
const QUERIES_NICE: i32 = 10;
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
    /// Computes what dashboards ask; it has no thread as long as nobody does.
    pub queries: Kept,
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
            collection: Kept::start(
                named("collection", COLLECTORS).max_blocking_threads(COLLECTING_BLOCKED),
            )?,
            rules: Kept::start(&mut named("rules", 1))?,
            delivery: Kept::start(&mut named("delivery", 1))?,
            web: Kept::start(
                named("web", ANSWERERS)
                    .max_blocking_threads(ANSWERING_BLOCKED)
                    .thread_keep_alive(ANSWERING_IDLE),
            )?,
            queries: Kept::start(
                named_by(&mut Builder::new_current_thread(), "query")
                    .max_blocking_threads(QUERYING_BLOCKED)
                    .on_thread_start(|| yield_to_others(QUERIES_NICE)),
            )?,
            upkeep: Kept::start(
                named("upkeep", 1)
                    .max_blocking_threads(4)
                    .on_thread_start(|| yield_to_others(UPKEEP_NICE)),
            )?,
        })
    }
}

fn named(name: &str, workers: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers);
    named_by(&mut builder, name);
    builder
}

fn named_by<'a>(builder: &'a mut Builder, name: &str) -> &'a mut Builder {
    builder
        .thread_name(name)
        .thread_keep_alive(Duration::from_secs(10))
        .enable_all()
}

/// Lowers the priority of the thread that calls it. A kernel that refuses costs nothing but the
/// politeness.
fn yield_to_others(nice: i32) {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice) {
        debug!(%error, "The priority of a thread cannot be lowered.");
    }
}

/// A runtime whose end waits for nobody: a thread that hangs in a file system must not keep the
/// process.
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
