//! Containers: CPU, memory, I/O and network by cgroups, without an engine; names, state, health and
//! restarts by Docker's or Podman's socket where one is given. Only reads: of the engine, GET
//! alone.
//!
//! Names and labels are cAdvisor's
//! (<https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md>).

mod cgroup;
mod engine;
mod metrics;
mod settings;
mod tree;

use std::collections::{BTreeMap, HashSet};
use std::io;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tracing::warn;

use super::log_file::reader::Thread;
use super::{CollectError, Collector, CollectorKind, Target};
use crate::config::Section;
use crate::model::{Batch, MetricDesc, Timestamp};
use cgroup::{Cgroup, Usage};
use engine::{Engine, Known};
use metrics as m;
use settings::Settings;
use tree::Found;

/// The collector `container`.
pub const KIND: CollectorKind = CollectorKind {
    name: "container",
    about: "containers: CPU, memory against the limit, I/O, network, OOM kills, state, health, restarts",
    metrics: &[m::METRICS],
    build,
};

/// How long one that has gone is shown, in milliseconds, and how many of them. Without a name it
/// may run again under another id.
const GONE: i64 = 3_600_000;
const GONE_UNNAMED: i64 = 300_000;
const MAX_GONE: usize = 200;
/// Characters of an id that stand for a name that is not known.
const SHORT: usize = 12;
/// Parts of the deadline: for the engine, and for the file system.
const ENGINE: f64 = 0.45;
const FILES: f64 = 0.45;

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let settings = Settings::read(section);
    Box::new(Containers {
        settings,
        target: target.clone(),
        engine: Engine::default(),
        files: Thread::new(()),
        seen: BTreeMap::new(),
        is_over: false,
    })
}

struct Containers {
    settings: Settings,
    target: Target,
    engine: Engine,
    files: Thread<(), io::Result<Measured>>,
    /// Those that ran, by name: their labels, and when they were last seen.
    seen: BTreeMap<String, (Shown, Timestamp)>,
    /// There are more than are shown, which is logged.
    is_over: bool,
}

/// The labels of one container.
#[derive(Clone, Debug, Default)]
struct Shown {
    path: String,
    known: Known,
}

/// What a look at the file system found.
#[derive(Default)]
struct Measured {
    running: Vec<(Found, Option<Usage>)>,
    omitted: usize,
    problem: Option<String>,
}

impl Collector for Containers {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let mut problem = None;
            if let Some(socket) = &self.settings.socket {
                let asked = self
                    .engine
                    .ask(socket, self.target.timeout.mul_f64(ENGINE))
                    .await;
                batch.push(&m::SOCKET_UP, &[], f64::from(u8::from(asked.is_ok())));
                problem = asked.err().map(|error| error.to_string());
            }
            let measured = self.measure().await.map_err(CollectError::new)?;
            problem = problem.or(measured.problem.clone());
            self.report(measured, batch);
            problem.map_or(Ok(()), |problem| Err(CollectError::new(problem)))
        }
        .boxed()
    }

    fn address(&self) -> String {
        format!("file://{}", self.settings.root.display())
    }
}

impl Containers {
    async fn measure(&mut self) -> Result<Measured, String> {
        let (settings, known) = (self.settings.clone(), self.engine.known.clone());
        let look = move |(): &mut ()| measure(&settings, &known);
        match self
            .files
            .run(self.target.timeout.mul_f64(FILES), look)
            .await
        {
            Ok(measured) => measured.map_err(|error| error.to_string()),
            Err(problem) => Err(format!("{}: {problem}", self.settings.root.display())),
        }
    }

    fn report(&mut self, measured: Measured, batch: &mut Batch) {
        let now = Timestamp::now();
        let mut unreadable = 0;
        let mut running = Vec::new();
        let mut running_names = HashSet::new();
        for (found, usage) in &measured.running {
            let shown = Shown {
                path: found.path.clone(),
                known: known_of(&self.engine.known, &found.id),
            };
            running.push(found.id.as_str());
            unreadable += usize::from(usage.is_none());
            shown.push(&m::UP, None, 1.0, batch);
            shown.push(&m::LAST_SEEN, None, now.seconds(), batch);
            usage.iter().for_each(|usage| shown.usage(usage, batch));
            shown.engine(batch);
            running_names.insert(shown.known.name.clone());
            self.seen.insert(shown.known.name.clone(), (shown, now));
        }
        // What the engine knows and does not run.
        let mut stopped: Vec<(&String, &Known)> = self.engine.known.iter().collect();
        stopped.retain(|(id, known)| {
            !running.contains(&id.as_str()) && self.settings.shows(&known.name, &known.project)
        });
        stopped.sort_by_key(|(id, _)| *id);
        let room = self.settings.limit.saturating_sub(running.len());
        let omitted = measured.omitted + stopped.len().saturating_sub(room);
        let count = running.len() + stopped.len() + measured.omitted;
        for (id, known) in stopped.into_iter().take(room) {
            let shown = Shown {
                path: format!("/{id}"),
                known: known.clone(),
            };
            // In a virtual machine of its own it runs where no cgroup of ours shows it.
            shown.push(
                &m::UP,
                None,
                f64::from(u8::from(known.state == "running")),
                batch,
            );
            shown.engine(batch);
            self.seen.remove(&known.name);
        }
        self.seen.retain(|_, (shown, at)| {
            now.0 - at.0
                < if shown.known.state.is_empty() {
                    GONE_UNNAMED
                } else {
                    GONE
                }
        });
        let gone = self
            .seen
            .iter()
            .filter(|(name, _)| !running_names.contains(*name));
        for (_, (shown, at)) in gone.take(MAX_GONE) {
            shown.push(&m::UP, None, 0.0, batch);
            shown.push(&m::LAST_SEEN, None, at.seconds(), batch);
        }
        if self.seen.len() > self.settings.limit + MAX_GONE {
            self.seen.retain(|name, _| running_names.contains(name));
        }
        batch.push(&m::FOUND, &[], count as f64);
        batch.push(&m::OMITTED, &[], omitted as f64);
        batch.push(&m::UNREADABLE, &[], unreadable as f64);
        let was_over = std::mem::replace(&mut self.is_over, omitted > 0);
        if self.is_over && !was_over {
            let (target, limit) = (&self.target.name, self.settings.limit);
            warn!(
                collector = "container",
                target, limit, omitted, "There are more containers than are shown."
            );
        }
    }
}

/// What the engine knows of an id, or what stands for it.
fn known_of(known: &std::collections::HashMap<String, Known>, id: &str) -> Known {
    let mut known = known.get(id).cloned().unwrap_or_default();
    if known.name.is_empty() {
        known.name = id.chars().take(SHORT).collect();
    }
    known
}

/// Finds and reads all that are shown.
fn measure(
    settings: &Settings,
    known: &std::collections::HashMap<String, Known>,
) -> io::Result<Measured> {
    let (version, base) = tree::hierarchy(&settings.root)?;
    let mut found = tree::containers(&base)?;
    found.retain(|one| {
        let known = known_of(known, &one.id);
        settings.shows(&known.name, &known.project)
    });
    let mut measured = Measured {
        omitted: found.len().saturating_sub(settings.limit),
        ..Measured::default()
    };
    found.truncate(settings.limit);
    for one in found {
        let cgroup = Cgroup {
            root: &settings.root,
            version,
            path: &one.path,
            procfs: &settings.procfs,
        };
        match cgroup.usage() {
            Ok(usage) => measured.running.push((one, Some(usage))),
            // It ended meanwhile: ENOENT, or ENODEV for a file that is open.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(19) => {}
            Err(error) => {
                measured
                    .problem
                    .get_or_insert_with(|| format!("{}: {error}", one.path));
                measured.running.push((one, None));
            }
        }
    }
    Ok(measured)
}

impl Shown {
    fn push(&self, desc: &MetricDesc, more: Option<(&str, &str)>, value: f64, batch: &mut Batch) {
        let known = &self.known;
        let labels = [
            ("id", self.path.as_str()),
            ("name", &known.name),
            ("image", &known.image),
            ("container_label_com_docker_compose_project", &known.project),
            ("container_label_com_docker_compose_service", &known.service),
            more.unwrap_or_default(),
        ];
        // The last one stands for none.
        batch.push(
            desc,
            if more.is_some() {
                &labels
            } else {
                &labels[..5]
            },
            value,
        );
    }

    fn usage(&self, usage: &Usage, batch: &mut Batch) {
        let Usage {
            cpu,
            throttling,
            parts,
            ..
        } = usage;
        let working_set = usage
            .memory
            .map(|memory| (memory - parts[2].unwrap_or(0.0)).max(0.0));
        if let Some(seconds) = cpu[0] {
            self.push(&m::CPU, Some(("cpu", "total")), seconds, batch);
        }
        let single = [
            (&m::CPU_USER, cpu[1]),
            (&m::CPU_SYSTEM, cpu[2]),
            (&m::PERIODS, throttling[0]),
            (&m::THROTTLED, throttling[1]),
            (&m::THROTTLED_TIME, throttling[2]),
            (&m::QUOTA, usage.quota),
            (&m::PERIOD, usage.period),
            (&m::MEMORY, usage.memory),
            (&m::WORKING_SET, working_set),
            (&m::RSS, parts[0]),
            (&m::CACHE, parts[1]),
            (&m::SWAP, parts[3]),
            (&m::LIMIT, usage.limit),
            (&m::OOM, usage.oom_kills),
            (&m::PROCESSES, usage.processes),
            (&m::STARTED, usage.started),
        ];
        for (desc, value) in single {
            value
                .into_iter()
                .for_each(|value| self.push(desc, None, value, batch));
        }
        for (device, amounts) in &usage.io {
            for (desc, amount) in [&m::READ_BYTES, &m::WRITTEN_BYTES, &m::READS, &m::WRITES]
                .into_iter()
                .zip(amounts)
            {
                self.push(desc, Some(("device", device)), *amount, batch);
            }
        }
        let received = [
            &m::RECEIVED,
            &m::RECEIVED_PACKETS,
            &m::RECEIVE_ERRORS,
            &m::RECEIVE_DROPPED,
        ];
        let sent = [
            &m::SENT,
            &m::SENT_PACKETS,
            &m::SEND_ERRORS,
            &m::SEND_DROPPED,
        ];
        for (interface, amounts) in &usage.network {
            for (desc, amount) in received.into_iter().chain(sent).zip(amounts) {
                self.push(desc, Some(("interface", interface)), *amount, batch);
            }
        }
    }

    fn engine(&self, batch: &mut Batch) {
        let known = &self.known;
        if !known.state.is_empty() {
            self.push(&m::STATE, Some(("state", &known.state)), 1.0, batch);
        }
        if let Some(is_healthy) = known.is_healthy {
            self.push(&m::HEALTHY, None, f64::from(u8::from(is_healthy)), batch);
        }
        for (desc, value) in [
            (&m::RESTARTS, known.restarts),
            (&m::EXIT_CODE, known.exit_code),
        ] {
            value
                .into_iter()
                .for_each(|value| self.push(desc, None, value, batch));
        }
    }
}
