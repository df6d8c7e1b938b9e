//! The set of running targets: what a reload starts, keeps and stops, and what others may see of
//! it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::exposition::{Metadata, Page};
use crate::model::{Labels, Note, clock};
use crate::store::Store;
use crate::telemetry::Telemetry;

use super::collection::{Collection, Source, Stamps};
use super::config::collecting::CollectorTarget;
use super::config::job::Job;
use super::discovery::group_files::GroupFiles;
use super::discovery::{HttpTarget, targets_of};
use super::metrics::{Metrics, Refusals};
use super::page::cache::Cache;
use super::page::fetch::Fetch;
use super::page::labelling::Labelling;
use super::page::scan::PageCache;
use super::report::Report;
use super::schedule::{self, Grid};
use super::target::{Shared, TargetSnapshot};
use super::target_info::TargetInfo;

/// How often group files are looked at, and tasks checked.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Everything that shall be collected.
#[derive(Default)]
pub struct Plan {
    /// The collectors.
    pub collectors: Vec<CollectorTarget>,
    /// The jobs of `scrape_configs`.
    pub jobs: Vec<Job>,
    /// Our own registry as a target: its `instance` label and interval.
    pub own: Option<(String, Duration)>,
}

/// A target that relabelling dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct DroppedTarget {
    /// The job's name.
    pub pool: String,
    /// Its labels before relabelling.
    pub discovered: Labels,
}

/// A target's task ended by itself: a bug, after which the process must not live on quietly.
#[derive(Debug, thiserror::Error)]
#[error("the task of target {target:?} of job {job:?} ended unexpectedly")]
pub struct TaskEnded {
    /// The target's job.
    pub job: String,
    /// Its instance.
    pub target: String,
}

/// Runs one task for each target.
pub struct Scraper {
    runtime: Handle,
    store: Arc<Store>,
    telemetry: Telemetry,
    metrics: Metrics,
    /// Counts collections whose samples are stored.
    arrivals: watch::Sender<u64>,
    /// Changes when all targets are to be collected at once.
    at_once: watch::Sender<u64>,
    /// Tells the positions of this host's targets from those of others.
    host: u32,
    state: Mutex<State>,
    /// Apart from the state, which nobody shall wait for because a folder hangs.
    files: Mutex<GroupFiles>,
}

#[derive(Default)]
struct State {
    jobs: Arc<Vec<Job>>,
    running: Vec<Running>,
    dropped: Vec<DroppedTarget>,
    problems: Vec<String>,
}

struct Running {
    key: u64,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// Whether a job's discovery owns it.
    scraped: bool,
}

impl Scraper {
    /// Nothing runs until [`Scraper::apply`], and then in `runtime`.
    pub fn new(store: Arc<Store>, telemetry: &Telemetry, runtime: Handle) -> Self {
        Scraper {
            runtime,
            store,
            telemetry: telemetry.clone(),
            metrics: Metrics::register(telemetry),
            arrivals: watch::Sender::new(0),
            at_once: watch::Sender::new(0),
            host: crc32fast::hash(rustix::system::uname().nodename().to_bytes()),
            state: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// Changes whenever the samples of a collection have been stored.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// Collects every target now, not at its next tick: the clock has jumped, or the machine was
    /// suspended.
    pub fn collect_at_once(&self) {
        self.state
            .lock()
            .running
            .iter()
            .for_each(|running| running.shared.is_due_by(i64::MIN));
        self.at_once
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Whether a target should have been collected a while ago: the process stood still, or the
    /// clock has jumped.
    pub fn is_overdue(&self) -> bool {
        let now = clock::monotonic();
        self.state
            .lock()
            .running
            .iter()
            .any(|running| running.shared.is_overdue(now))
    }

    /// Makes the running targets those of the plan: equal ones keep running untouched, others stop,
    /// new ones start at once. Does no I/O but reading group files.
    pub fn apply(&self, plan: Plan) {
        let mut state = self.state.lock();
        let own = plan
            .own
            .map(|(instance, interval)| own_info(instance, interval));
        let own_key = own
            .as_ref()
            .map(|info| super::config::identity::hash(&(&info.labels, info.interval, "own")));
        let wanted: Vec<u64> = plan
            .collectors
            .iter()
            .map(|c| c.identity)
            .chain(own_key)
            .collect();
        state.stop_unless(|running| running.scraped || wanted.contains(&running.key));
        for target in plan.collectors {
            if !state.runs(target.identity) {
                let running = self.start_collector(target);
                state.running.push(running);
            }
        }
        if let (Some(info), Some(key)) = (own, own_key)
            && !state.runs(key)
        {
            let labelling = Labelling::plain(info.labels.clone());
            let source = Source::Own(self.telemetry.clone(), PageCache::new());
            state.running.push(self.start(
                key,
                info,
                source,
                labelling,
                Stamps {
                    honor: false,
                    track: false,
                },
                false,
            ));
        }
        state.jobs = Arc::new(plan.jobs);
        drop(state);
        self.discover();
    }

    /// Looks at group files every few seconds, on a thread that may hang in their folder; returns
    /// only when a target's task ended by itself.
    pub async fn run(self: Arc<Self>) -> TaskEnded {
        let mut look: Option<JoinHandle<()>> = None;
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let reads_files = {
                let state = self.state.lock();
                if let Some(ended) = state.running.iter().find(|r| r.task.is_finished()) {
                    let info = &ended.shared.info;
                    return TaskEnded {
                        job: info.pool.clone(),
                        target: info.labels.value("instance").to_owned(),
                    };
                }
                state.jobs.iter().any(|job| !job.files.is_empty())
            };
            if reads_files && look.as_ref().is_none_or(JoinHandle::is_finished) {
                let this = self.clone();
                look = Some(tokio::task::spawn_blocking(move || this.discover()));
            }
        }
    }

    /// Ends all collections at once and writes no markers: a restart within the lookback window
    /// shows no gap (SEMANTICS 16).
    pub fn stop(&self) {
        for running in self.state.lock().running.drain(..) {
            running.task.abort();
        }
    }

    /// Every running target, in the order in which they were started.
    pub fn targets(&self) -> Vec<TargetSnapshot> {
        self.state
            .lock()
            .running
            .iter()
            .map(|r| r.shared.snapshot())
            .collect()
    }

    /// Targets that relabelling dropped.
    pub fn dropped(&self) -> Vec<DroppedTarget> {
        self.state.lock().dropped.clone()
    }

    /// The last page of every target; [`crate::exposition::encode::render`] makes one of them.
    /// Never waits for a target.
    pub fn pages(&self) -> Vec<Arc<Page>> {
        let shared: Vec<Arc<Shared>> = self
            .state
            .lock()
            .running
            .iter()
            .map(|r| r.shared.clone())
            .collect();
        shared.iter().map(|s| s.page()).collect()
    }

    /// Every running target with its last page.
    pub fn target_pages(&self) -> Vec<(Arc<TargetInfo>, Arc<Page>)> {
        let shared: Vec<Arc<Shared>> = self
            .state
            .lock()
            .running
            .iter()
            .map(|r| r.shared.clone())
            .collect();
        shared.iter().map(|s| (s.info.clone(), s.page())).collect()
    }

    /// What the collector of a target has to say in alerts with the target's labels `job` and
    /// `instance`.
    pub fn notes(&self, labels: &Labels) -> Vec<Note> {
        let is_meant = |info: &TargetInfo| {
            ["job", "instance"]
                .iter()
                .all(|name| info.labels.value(name) == labels.value(name))
        };
        self.state
            .lock()
            .running
            .iter()
            .filter(|running| is_meant(&running.shared.info))
            .flat_map(|running| running.shared.notes())
            .collect()
    }

    /// What is declared of every family that is exposed now, for the metadata API.
    pub fn metadata(&self) -> Vec<Metadata> {
        self.pages()
            .iter()
            .flat_map(|page| page.metadata())
            .collect()
    }

    fn discover(&self) {
        let mut files = self.files.lock();
        let jobs = self.state.lock().jobs.clone();
        let (mut wanted, mut problems, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        let mut starts: Vec<(usize, HttpTarget)> = Vec::new();
        files.look(
            &jobs.iter().flat_map(|job| &job.files).collect(),
            &mut problems,
        );
        for (number, job) in jobs.iter().enumerate() {
            let found = targets_of(job, &files.groups(&job.files));
            problems.extend(found.errors);
            dropped.extend(found.dropped.into_iter().map(|discovered| DroppedTarget {
                pool: job.name.clone(),
                discovered,
            }));
            wanted.extend(found.targets.iter().map(|t| t.key));
            starts.extend(found.targets.into_iter().map(|t| (number, t)));
        }
        let state = &mut *self.state.lock();
        if !Arc::ptr_eq(&state.jobs, &jobs) {
            // A reload came between; it looks for itself.
            return;
        }
        for problem in problems.iter().filter(|p| !state.problems.contains(p)) {
            warn!(error = problem, "Discovery found a mistake.");
        }
        (state.problems, state.dropped) = (problems, dropped);
        state.stop_unless(|running| !running.scraped || wanted.contains(&running.key));
        for (number, target) in starts {
            if !state.runs(target.key) {
                let running = self.start_http(&jobs[number], target);
                state.running.push(running);
            }
        }
        self.metrics.targets.set(state.running.len() as i64);
    }

    fn start_collector(&self, target: CollectorTarget) -> Running {
        let labels = target
            .labels
            .with("job", &target.job)
            .with("instance", &target.target.name);
        let info = TargetInfo {
            kind: target.kind,
            pool: target.job,
            labels: labels.clone(),
            discovered: labels.clone(),
            address: target.collector.address(),
            interval: target.target.interval,
            timeout: target.target.timeout,
        };
        let labelling = Labelling {
            honor_labels: target.collector.honors_labels(),
            ..Labelling::plain(labels)
        };
        let source = Source::Collector(target.collector, Cache::new());
        self.start(
            target.identity,
            info,
            source,
            labelling,
            Stamps {
                honor: true,
                track: false,
            },
            false,
        )
    }

    fn start_http(&self, job: &Job, target: HttpTarget) -> Running {
        let fetch = Fetch::new(job.client.clone(), target.url, job, target.info.timeout);
        let labelling = Labelling::of(job, &target.info);
        let stamps = Stamps {
            honor: job.honor_timestamps,
            track: job.track_timestamps_staleness,
        };
        self.start(
            target.key,
            target.info,
            Source::Http(Box::new(fetch), PageCache::new()),
            labelling,
            stamps,
            true,
        )
    }

    fn start(
        &self,
        key: u64,
        info: TargetInfo,
        source: Source,
        labelling: Labelling,
        stamps: Stamps,
        scraped: bool,
    ) -> Running {
        let kind = matches!(source, Source::Collector(..)).then_some(info.kind);
        let report = Report::new(&info.labels, kind, &self.store);
        let grid = Grid::new(info.interval, seed(self.host, &info));
        let (owner, departures) = (self.store.owner(&info.labels), self.store.departures());
        let shared = Arc::new(Shared::new(info));
        let collection = Collection {
            shared: shared.clone(),
            source,
            labelling: Arc::new(labelling),
            stamps,
            report,
            store: self.store.clone(),
            owner,
            departures,
            metrics: self.metrics.clone(),
            arrivals: self.arrivals.clone(),
            room: Vec::new(),
            refusals: Refusals::default(),
        };
        let (stop, stopped) = watch::channel(false);
        let task = self.runtime.spawn(schedule::run(
            collection,
            grid,
            stopped,
            self.at_once.subscribe(),
        ));
        Running {
            key,
            shared,
            stop,
            task,
            scraped,
        }
    }
}

impl State {
    fn runs(&self, key: u64) -> bool {
        self.running.iter().any(|r| r.key == key)
    }

    /// Tells every target that `keep` refuses to stop; its task ends by itself after its markers
    /// are written.
    fn stop_unless(&mut self, keep: impl Fn(&Running) -> bool) {
        self.running.retain(|running| {
            let kept = keep(running);
            if !kept {
                running.stop.send_replace(true);
            }
            kept
        });
    }
}

/// What the position of a target on its grid follows from: the same after a restart, another one
/// for a target that differs in its address alone.
fn seed(host: u32, info: &TargetInfo) -> u64 {
    u64::from(crc32fast::hash(
        format!("{host}\n{}\n{}\n{}", info.pool, info.labels, info.address).as_bytes(),
    ))
}

fn own_info(instance: String, interval: Duration) -> TargetInfo {
    let labels = Labels::from_pairs([("job", "nightbell"), ("instance", instance.as_str())]);
    TargetInfo {
        kind: "nightbell",
        pool: "nightbell".into(),
        labels: labels.clone(),
        discovered: labels,
        address: instance,
        interval,
        timeout: interval,
    }
}
