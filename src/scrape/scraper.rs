//! The set of running targets: what a reload starts, keeps and stops, and what others may see of it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::exposition::{EncodedFamily, Page};
use crate::model::Labels;
use crate::store::Store;
use crate::telemetry::Telemetry;

use super::cache::Cache;
use super::collecting::CollectorTarget;
use super::collection::{Collection, Source, Stamps};
use super::discovery::{GroupFiles, HttpTarget, targets_of};
use super::fetch::Fetch;
use super::job::Job;
use super::labelling::Labelling;
use super::metrics::{Metrics, Refusals};
use super::report::Report;
use super::scan::PageCache;
use super::schedule;
use super::target::{Shared, TargetInfo, TargetSnapshot};

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
    store: Arc<Store>,
    telemetry: Telemetry,
    metrics: Metrics,
    /// Counts collections whose samples are stored.
    arrivals: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    files: GroupFiles,
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
    /// Nothing runs until [`Scraper::apply`].
    pub fn new(store: Arc<Store>, telemetry: &Telemetry) -> Self {
        Scraper {
            store,
            telemetry: telemetry.clone(),
            metrics: Metrics::register(telemetry),
            arrivals: watch::Sender::new(0),
            state: Mutex::default(),
        }
    }

    /// Changes whenever the samples of a collection have been stored.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// Makes the running targets those of the plan: equal ones keep running untouched, others stop, new ones start at once. Must be called
    /// inside the runtime; does no I/O but reading group files.
    pub fn apply(&self, plan: Plan) {
        let mut state = self.state.lock();
        let own = plan.own.map(|(instance, interval)| own_info(instance, interval));
        let own_key = own.as_ref().map(|info| super::identity::hash(&(&info.labels, info.interval, "own")));
        let wanted: Vec<u64> = plan.collectors.iter().map(|c| c.identity).chain(own_key).collect();
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
            state.running.push(self.start(key, info, source, labelling, Stamps { honor: false, track: false }, false));
        }
        state.jobs = plan.jobs;
        self.discover(&mut state);
    }

    /// Looks at group files every few seconds; returns only when a target's task ended by itself.
    pub async fn run(&self) -> TaskEnded {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let mut state = self.state.lock();
            if let Some(ended) = state.running.iter().find(|r| r.task.is_finished()) {
                let info = &ended.shared.info;
                return TaskEnded { job: info.pool.clone(), target: info.labels.value("instance").to_owned() };
            }
            if state.jobs.iter().any(|job| !job.files.is_empty()) {
                self.discover(&mut state);
            }
        }
    }

    /// Ends all collections at once and writes no markers: a restart within the lookback window shows no gap (SEMANTICS 16).
    pub fn stop(&self) {
        for running in self.state.lock().running.drain(..) {
            running.task.abort();
        }
    }

    /// Every running target, in the order in which they were started.
    pub fn targets(&self) -> Vec<TargetSnapshot> {
        self.state.lock().running.iter().map(|r| r.shared.snapshot()).collect()
    }

    /// Targets that relabelling dropped.
    pub fn dropped(&self) -> Vec<DroppedTarget> {
        self.state.lock().dropped.clone()
    }

    /// The last page of every target; [`crate::exposition::encode::render`] makes one of them. Never waits for a target.
    pub fn pages(&self) -> Vec<Arc<Page>> {
        let shared: Vec<Arc<Shared>> = self.state.lock().running.iter().map(|r| r.shared.clone()).collect();
        shared.iter().map(|s| s.page()).collect()
    }

    /// Every running target with its last page.
    pub fn target_pages(&self) -> Vec<(Arc<TargetInfo>, Arc<Page>)> {
        let shared: Vec<Arc<Shared>> = self.state.lock().running.iter().map(|r| r.shared.clone()).collect();
        shared.iter().map(|s| (s.info.clone(), s.page())).collect()
    }

    /// HELP and type of every family that is exposed now, for the metadata API.
    pub fn families(&self) -> Vec<EncodedFamily> {
        let bare = |f: &EncodedFamily| EncodedFamily::new(f.name.clone(), f.kind, f.help.clone());
        self.pages().iter().flat_map(|page| page.families().iter().map(bare).collect::<Vec<_>>()).collect()
    }

    fn discover(&self, state: &mut State) {
        let (mut wanted, mut problems, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        let mut starts: Vec<(usize, HttpTarget)> = Vec::new();
        let State { jobs, files, .. } = state;
        for (number, job) in jobs.iter().enumerate() {
            let groups = files.groups(&job.files, &mut problems);
            let found = targets_of(job, &groups);
            problems.extend(found.errors);
            dropped.extend(found.dropped.into_iter().map(|discovered| DroppedTarget { pool: job.name.clone(), discovered }));
            wanted.extend(found.targets.iter().map(|t| t.key));
            starts.extend(found.targets.into_iter().map(|t| (number, t)));
        }
        for problem in problems.iter().filter(|p| !state.problems.contains(p)) {
            warn!(error = problem, "Discovery found a mistake.");
        }
        (state.problems, state.dropped) = (problems, dropped);
        state.stop_unless(|running| !running.scraped || wanted.contains(&running.key));
        for (number, target) in starts {
            if !state.runs(target.key) {
                let running = self.start_http(&state.jobs[number], target);
                state.running.push(running);
            }
        }
        self.metrics.targets.set(state.running.len() as i64);
    }

    fn start_collector(&self, target: CollectorTarget) -> Running {
        let labels = target.labels.with("job", &target.job).with("instance", &target.target.name);
        let info = TargetInfo {
            kind: target.kind,
            pool: target.job,
            labels: labels.clone(),
            discovered: labels.clone(),
            address: target.collector.address(),
            interval: target.target.interval,
            timeout: target.target.timeout,
        };
        let source = Source::Collector(target.collector, Cache::new());
        self.start(target.identity, info, source, Labelling::plain(labels), Stamps { honor: true, track: false }, false)
    }

    fn start_http(&self, job: &Job, target: HttpTarget) -> Running {
        let fetch = Fetch::new(job.client.clone(), target.url, job, target.info.timeout);
        let labelling = Labelling {
            target: target.info.labels.clone(),
            honor_labels: job.honor_labels,
            rules: job.metric_relabel.clone(),
            limits: job.limits,
            native: job.native,
        };
        let stamps = Stamps { honor: job.honor_timestamps, track: job.track_timestamps_staleness };
        self.start(target.key, target.info, Source::Http(Box::new(fetch), PageCache::new()), labelling, stamps, true)
    }

    fn start(&self, key: u64, info: TargetInfo, source: Source, labelling: Labelling, stamps: Stamps, scraped: bool) -> Running {
        let kind = matches!(source, Source::Collector(..)).then_some(info.kind);
        let report = Report::new(&info.labels, kind, &self.store);
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
        Running { key, shared, stop, task: tokio::spawn(schedule::run(collection, stopped)), scraped }
    }
}

impl State {
    fn runs(&self, key: u64) -> bool {
        self.running.iter().any(|r| r.key == key)
    }

    /// Tells every target that `keep` refuses to stop; its task ends by itself after its markers are written.
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
