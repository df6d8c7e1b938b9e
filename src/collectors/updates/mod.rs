//! Pending updates: of the system's packages by dpkg's state and apt's lists, of Python
//! environments by their index; whether a restart is due, and how old the lists are.
//!
//! Names are those of the textfile collectors for node_exporter
//! (<https://github.com/prometheus-community/node-exporter-textfile-collector-scripts>) where they
//! have one. Nothing is fetched for apt and no lock is taken: that lists are not renewed is seen by
//! their age.

mod apt;
mod python;
mod stanza;
mod version;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant as Deadline;
use tracing::warn;
use url::Url;

use crate::config::Section;
use crate::http::{Client, HttpConfig};
use crate::model::Batch;
use crate::model::MetricKind::Gauge;

use super::log_file::reader::Thread;
use super::memory::Saving;
use super::{CollectError, Collector, CollectorKind, Target};
use apt::Apt;
use python::{Environment, Index, Installed, Kept, Said};

/// The collector `updates`.
pub const KIND: CollectorKind = CollectorKind {
    name: "updates",
    about: "pending updates, those of security apart: apt's packages, Python environments; restart required, age of the package lists",
    metrics: &[METRICS],
    build,
};

/// Packages that are shown by name.
const MAX_NAMED: usize = 20;
const INDEX: &str = "https://pypi.org/";
const EVERY: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Parts of the deadline: for files, and for the index after them.
const FILES: f64 = 0.6;
const ALL: f64 = 0.9;
const OF: &[&str] = &["manager", "environment"];

metrics! {
    APT_PENDING "apt_upgrades_pending" Gauge "" &["origin", "arch"], "Packages with a newer version in apt's lists, by who offers it; those held back are left out.", "/var/lib/dpkg/status, /var/lib/apt/lists";
    APT_HELD "apt_upgrades_held" Gauge "" &["origin", "arch"], "Packages with a newer version that are held back.", "/var/lib/dpkg/status, /var/lib/apt/lists";
    APT_FETCHED "apt_package_cache_timestamp_seconds" Gauge "seconds" &[], "When apt's lists were last fetched, Unix time.", "stat(2) of /var/lib/apt/lists/partial";
    REBOOT "node_reboot_required" Gauge "" &[], "1 when an update asked for a restart of the machine.", "/run/reboot-required";
    KERNEL "updates_newer_kernel_installed" Gauge "" &[], "1 when a newer kernel than the running one is installed; absent where the running one is no package of this system.", "/var/lib/dpkg/status, /proc/sys/kernel/osrelease";
    READABLE "updates_readable" Gauge "" OF, "1 when it is known what is installed and what is offered, 0 when not.", "nightbell";
    INSTALLED "updates_installed_packages" Gauge "" OF, "Packages that are installed.", "/var/lib/dpkg/status, *.dist-info";
    PENDING "updates_pending" Gauge "" OF, "Packages with a newer version.", "apt's lists, the index";
    SECURITY "updates_security_pending" Gauge "" OF, "apt: packages that a list of security updates has a newer version of. python: packages whose installed version has known vulnerabilities.", "apt's lists, the index";
    NAMED "updates_security_info" Gauge "" &["manager", "environment", "package", "installed", "available"], "Always 1: a package with a security update; the first twenty by name.", "apt's lists, the index";
    LISTS_UNREADABLE "updates_unreadable_lists" Gauge "" &[], "Package lists of apt that could not be read: what they offer is missing.", "/var/lib/apt/lists";
    UNCHECKED "updates_unchecked_packages" Gauge "" OF, "Packages that the index was not asked for yet.", "nightbell";
    UNKNOWN "updates_unknown_packages" Gauge "" OF, "Packages that the index does not know, or that were not installed from one.", "*.dist-info/direct_url.json, the index";
    INDEX_UP "updates_index_up" Gauge "" &[], "1 when the index answered the last time it was asked, 0 when not.", "the index";
    LOOKED "updates_last_look_timestamp_seconds" Gauge "seconds" &[], "When the files were last looked at, Unix time.", "nightbell";
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let python: Vec<PathBuf> = section.or("python", Vec::new());
    let root = section.or("root", PathBuf::from("/"));
    for (key, path) in python
        .iter()
        .map(|path| ("python", path))
        .chain([("root", &root)])
    {
        if !path.is_absolute() {
            section.error(
                key,
                format!("{:?} is not absolute", path.display()),
                "give a path that begins with /",
            );
        }
    }
    let is_apt = section.or("apt", true);
    if !is_apt && python.is_empty() {
        section.error(
            "apt",
            "is false, and there is no Python environment to look at",
            "add python: [/opt/app/.venv], or leave apt out",
        );
    }
    let client = Client::build(&HttpConfig::read(section)).unwrap_or_else(|error| {
        section.error(
            "tls_config",
            error.to_string(),
            "check the HTTP settings of the index",
        );
        Client::plain()
    });
    let url = section.get::<Url>("index").or_else(|| INDEX.parse().ok());
    let index = url.filter(|_| !python.is_empty()).map(|url| Index {
        url,
        client,
        every: section.or("index_every", DAY),
        kept: Kept::default(),
        is_changed: false,
        failure: None,
        is_asked: false,
    });
    let work = Work {
        root: root.clone(),
        apt: is_apt.then(apt::Reader::default),
        python,
        has_loaded: false,
        target: target.clone(),
    };
    Box::new(Updates {
        target: target.clone(),
        root,
        every: section.or("every", EVERY),
        files: Thread::new(work),
        looked: None,
        last: Found::default(),
        index,
        saving: Saving::default(),
    })
}

/// What a look at the files works with.
struct Work {
    root: PathBuf,
    apt: Option<apt::Reader>,
    python: Vec<PathBuf>,
    /// What the index said before a restart was read.
    has_loaded: bool,
    target: Target,
}

/// What a look at the files found.
#[derive(Clone, Default)]
struct Found {
    apt: Option<Result<Apt, String>>,
    python: Vec<(String, Result<Environment, String>)>,
    at: f64,
}

struct Updates {
    target: Target,
    root: PathBuf,
    every: Duration,
    files: Thread<Work, (Found, Option<Kept>)>,
    /// When the files were last looked at.
    looked: Option<Instant>,
    last: Found,
    index: Option<Index>,
    saving: Saving,
}

impl Work {
    fn look(&mut self) -> (Found, Option<Kept>) {
        let root = &self.root;
        let apt = self.apt.as_mut().map(|apt| apt.look(root));
        let python = self.python.iter().map(|path| {
            let found = python::installed(path).map_err(|error| error.to_string());
            (path.display().to_string(), found)
        });
        let found = Found {
            apt: apt.map(|found| found.map_err(|error| error.to_string())),
            python: python.collect(),
            at: crate::model::Timestamp::now().seconds(),
        };
        let is_first = !std::mem::replace(&mut self.has_loaded, true);
        let kept = Some(is_first && !self.python.is_empty())
            .filter(|wanted| *wanted)
            .and_then(|_| serde_json::from_str(&self.target.memory.load()?).ok());
        (found, kept)
    }
}

impl Collector for Updates {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let begun = Deadline::now();
            let is_due = self
                .looked
                .is_none_or(|looked| looked.elapsed() >= self.every);
            let mut hangs = None;
            if is_due {
                let run = self
                    .files
                    .run(self.target.timeout.mul_f64(FILES), Work::look);
                match run.await {
                    Ok((found, kept)) => {
                        (self.last, self.looked) = (found, Some(Instant::now()));
                        if let (Some(index), Some(kept)) = (&mut self.index, kept) {
                            index.kept = kept;
                        }
                    }
                    // What was found before is still shown.
                    Err(problem) => hangs = Some(format!("{}: {problem}", self.root.display())),
                }
            }
            self.ask(begun + self.target.timeout.mul_f64(ALL)).await;
            self.show(batch);
            hangs
                .or_else(|| self.problem())
                .map_or(Ok(()), |problem| Err(CollectError::new(problem)))
        }
        .boxed()
    }

    fn address(&self) -> String {
        format!("file://{}", self.root.display())
    }
}

impl Updates {
    /// Asks the index for what is due.
    async fn ask(&mut self, deadline: Deadline) {
        let Some(index) = &mut self.index else {
            return;
        };
        let was_failing = index.failure.is_some();
        let environments = self.last.python.iter();
        let packages = environments
            .filter_map(|(_, found)| found.as_ref().ok())
            .flat_map(|found| &found.packages);
        index.ask(packages, deadline).await;
        if let Some((_, error)) = index.failure.as_ref().filter(|_| !was_failing) {
            let target = &self.target.name;
            warn!(
                collector = "updates",
                target, error, "The index of Python packages does not answer."
            );
        }
        if std::mem::take(&mut index.is_changed) {
            self.saving.note_change();
        }
        self.saving.save(
            &index.kept,
            &self.target,
            "updates",
            "What the index of Python packages said cannot be saved.",
        );
    }

    /// What could not be read first.
    fn problem(&self) -> Option<String> {
        let apt = self.last.apt.as_ref();
        let apt = apt.and_then(|found| Some(format!("apt: {}", found.as_ref().err()?)));
        apt.or_else(|| {
            let mut environments = self.last.python.iter();
            environments
                .find_map(|(path, found)| Some(format!("{path}: {}", found.as_ref().err()?)))
        })
    }

    fn show(&self, batch: &mut Batch) {
        if self.looked.is_none() {
            return;
        }
        batch.push(&LOOKED, &[], self.last.at);
        if let Some(found) = &self.last.apt {
            let is_readable = found.is_ok();
            batch.push(&READABLE, &of("apt", ""), f64::from(u8::from(is_readable)));
            found.iter().for_each(|apt| show_apt(apt, batch));
        }
        let Some(index) = &self.index else {
            return;
        };
        if index.is_asked || index.failure.is_some() {
            let is_up = index.failure.is_none();
            batch.push(&INDEX_UP, &[], f64::from(u8::from(is_up)));
        }
        for (path, found) in &self.last.python {
            let labels = of("python", path);
            batch.push(&READABLE, &labels, f64::from(u8::from(found.is_ok())));
            found
                .iter()
                .for_each(|environment| show_python(path, environment, &index.kept, batch));
        }
    }
}

/// The labels of a package manager and its environment.
fn of<'a>(manager: &'a str, environment: &'a str) -> [(&'a str, &'a str); 2] {
    [("manager", manager), ("environment", environment)]
}

/// A package by its name.
fn name(manager: &str, environment: &str, package: [&str; 3], batch: &mut Batch) {
    let [package, installed, available] = package;
    let labels = [
        ("manager", manager),
        ("environment", environment),
        ("package", package),
        ("installed", installed),
        ("available", available),
    ];
    batch.push(&NAMED, &labels, 1.0);
}

fn show_apt(apt: &Apt, batch: &mut Batch) {
    let labels = of("apt", "");
    for (desc, counts) in [(&APT_PENDING, &apt.pending), (&APT_HELD, &apt.held)] {
        for ((origin, arch), count) in counts {
            batch.push(desc, &[("origin", origin), ("arch", arch)], *count as f64);
        }
        // As the scripts have it: a series of 0 says that it was looked.
        if counts.is_empty() {
            batch.push(desc, &[("origin", ""), ("arch", "")], 0.0);
        }
    }
    let pending: u64 = apt.pending.values().chain(apt.held.values()).sum();
    batch.push(&INSTALLED, &labels, apt.installed as f64);
    batch.push(&PENDING, &labels, pending as f64);
    batch.push(&SECURITY, &labels, apt.security as f64);
    batch.push(&LISTS_UNREADABLE, &[], apt.unreadable as f64);
    apt.fetched
        .iter()
        .for_each(|at| batch.push(&APT_FETCHED, &[], *at));
    batch.push(&REBOOT, &[], f64::from(u8::from(apt.is_reboot_required)));
    apt.is_newer_kernel
        .iter()
        .for_each(|newer| batch.push(&KERNEL, &[], f64::from(u8::from(*newer))));
    for (package, installed, available) in &apt.named {
        name("apt", "", [package, installed, available], batch);
    }
}

fn show_python(path: &str, environment: &Environment, kept: &Kept, batch: &mut Batch) {
    let labels = of("python", path);
    let said: Vec<(&Installed, &Said)> = environment
        .packages
        .iter()
        .filter_map(|package| Some((package, kept.said(package)?)))
        .collect();
    let count = |wanted: fn(&Installed, &Said) -> bool| {
        said.iter()
            .filter(|(package, said)| wanted(package, said))
            .count() as f64
    };
    let unknown = count(|_, said| said.latest.is_empty()) + environment.others as f64;
    let unchecked = environment.packages.len() - said.len();
    let installed = environment.packages.len() + environment.others;
    batch.push(&INSTALLED, &labels, installed as f64);
    batch.push(&UNCHECKED, &labels, unchecked as f64);
    batch.push(&UNKNOWN, &labels, unknown);
    // Before the first answer nothing is known, and a 0 would end an alert.
    if said.is_empty() && unchecked > 0 {
        return;
    }
    let pending = count(|package, said| said.is_outdated(&package.1));
    batch.push(&PENDING, &labels, pending);
    let security = count(|_, said| said.vulnerabilities > 0);
    batch.push(&SECURITY, &labels, security);
    let named = said
        .iter()
        .filter(|(_, said)| said.vulnerabilities > 0)
        .take(MAX_NAMED);
    for ((package, installed), said) in named {
        name("python", path, [package, installed, &said.latest], batch);
    }
}
