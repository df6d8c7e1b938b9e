//! The host: what the kernel tells in `/proc` and `/sys`, under node_exporter's names
//! (<https://github.com/prometheus/node_exporter>).
//!
//! Names, types, labels and values are node_exporter's, so that its dashboards and rules work
//! unchanged. A part that this kernel or machine lacks brings nothing and is no failure. On top of
//! node_exporter's defaults it shows the fields of vmstat and netstat that dashboards use,
//! `processes`, and where configured listening ports and groups of processes. Not offered: routes,
//! the counters of XFS, Btrfs, ZFS, NFS and InfiniBand.
//!
//! Parts run in lanes, each on one thread: a sensor that does not answer costs the sensors, not the
//! memory.

mod cpu;
mod cpufreq;
mod disk;
mod ethtool;
mod filesystem;
mod hardware;
mod hwmon;
mod identity;
mod interrupts;
mod kernel;
mod lane;
mod load;
mod memory;
mod netstat;
mod network;
mod numbers;
mod part;
mod process;
mod qdisc;
mod raid;
mod remembered;
mod scan;
mod settings;
mod socket;
mod sockstat;
mod softnet;
mod systemd;
mod tables;
mod textfile;
mod time;
mod timex;
mod vmstat;
mod zones;

use std::time::Instant;

use futures_util::future::{BoxFuture, join, join_all};

use crate::config::Section;
use crate::model::{Batch, MetricDesc};

use super::{CollectError, Collector, CollectorKind, Target};
use filesystem::Filesystem;
use kernel::PartError;
use lane::{Outcome, Worker};
use part::{Lane, Part, gauge};
use settings::Settings;

/// The kind's row in the table of collectors.
pub const KIND: CollectorKind = CollectorKind {
    name: "host",
    about: "this machine: CPU, memory, disks, file systems, network, load, pressure, sensors, processes, ports",
    metrics: &METRICS,
    build,
};

/// The part that is not in a lane: each mount has a deadline of its own.
const FILESYSTEM: &str = "filesystem";

/// Every part, in the order of the reference.
const PARTS: &[Part] = &[
    cpu::CPU,
    cpu::STAT,
    cpu::INFO,
    cpu::SCHEDSTAT,
    cpufreq::FREQUENCY,
    cpufreq::THROTTLE,
    memory::PART,
    vmstat::PART,
    load::LOAD,
    load::PRESSURE,
    disk::PART,
    network::NETDEV,
    network::NETCLASS,
    network::BONDING,
    netstat::PART,
    sockstat::PART,
    socket::TCP,
    socket::UDP,
    softnet::SOFTNET,
    softnet::CONNTRACK,
    softnet::ARP,
    numbers::FILEFD,
    numbers::ENTROPY,
    numbers::HUNG,
    numbers::SELINUX,
    time::PART,
    timex::PART,
    identity::UNAME,
    identity::OS,
    raid::MDADM,
    raid::ZFS,
    identity::DMI,
    hwmon::HWMON,
    hwmon::THERMAL,
    hardware::POWER,
    hardware::EDAC,
    hardware::NVME,
    textfile::PART,
    process::PROCESSES,
    process::GROUPS,
    memory::NUMA,
    interrupts::INTERRUPTS,
    interrupts::SOFTIRQS,
    interrupts::BUDDYINFO,
    zones::ZONEINFO,
    zones::SLABINFO,
    zones::KSMD,
    tables::CGROUPS,
    tables::LNSTAT,
    tables::XFRM,
    qdisc::PART,
    ethtool::PART,
    process::THREADS,
    systemd::PART,
];

const SUCCESS: MetricDesc = gauge(
    "node_scrape_collector_success",
    "",
    "1 when the part could be read; absent where the kernel lacks it.",
    &["collector"],
    "nightbell",
);
const DURATION: MetricDesc = gauge(
    "node_scrape_collector_duration_seconds",
    "seconds",
    "Time that reading the part took.",
    &["collector"],
    "nightbell",
);
const OMITTED: MetricDesc = gauge(
    "host_omitted_objects",
    "",
    "Disks, interfaces, mounts, ports or files left out because there are too many.",
    &["collector"],
    "nightbell",
);
const ODD: MetricDesc = gauge(
    "host_unreadable_lines",
    "",
    "Lines of the part's file that are not as documented and were left out.",
    &["collector"],
    "nightbell",
);
const BUILD: MetricDesc = gauge(
    "node_exporter_build_info",
    "",
    "The version of this collector, always 1.",
    &["goarch", "goos", "version"],
    "nightbell",
);
/// What belongs to no part.
const OWN: &[MetricDesc] = &[SUCCESS, DURATION, OMITTED, ODD, BUILD];
/// This processor as Go names it.
const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    std::env::consts::ARCH
};

/// The tables of all parts, of the file systems, and our own.
const METRICS: [&[MetricDesc]; PARTS.len() + 2] = {
    let mut all: [&[MetricDesc]; PARTS.len() + 2] = [&[]; PARTS.len() + 2];
    let mut index = 0;
    while index < PARTS.len() {
        all[index] = PARTS[index].metrics;
        index += 1;
    }
    all[index] = filesystem::METRICS;
    all[index + 1] = OWN;
    all
};

struct Host {
    address: String,
    lanes: Vec<Worker>,
    filesystem: Option<Filesystem>,
    failing: Vec<(&'static str, String)>,
    /// Parts that leave out lines or objects, and how many of both, as last logged.
    lacking: Vec<(&'static str, [usize; 2])>,
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let settings = Settings::read(section, target.timeout);
    let lanes =
        [Lane::Kernel, Lane::Device, Lane::Process].map(|lane| Worker::new(lane, &settings));
    Box::new(Host {
        address: settings.roots.procfs.display().to_string(),
        lanes: lanes.into(),
        filesystem: settings.filesystem.then(|| Filesystem::new(settings)),
        failing: Vec::new(),
        lacking: Vec::new(),
    })
}

impl Collector for Host {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        Box::pin(async move {
            let mut mounts = Batch::new();
            let filesystem = async {
                let filesystem = self.filesystem.as_mut()?;
                let start = Instant::now();
                let result = filesystem.read(&mut mounts).await;
                let (omitted, odd) = result
                    .as_ref()
                    .map_or((None, None), |(omitted, odd)| (Some(*omitted), *odd));
                Some(Outcome {
                    part: FILESYSTEM,
                    took: start.elapsed(),
                    result: result.map(drop),
                    omitted,
                    odd,
                })
            };
            let (lanes, filesystem) =
                join(join_all(self.lanes.iter_mut().map(Worker::run)), filesystem).await;
            let (mut outcomes, mut stuck) = (Vec::from_iter(filesystem), Vec::new());
            for (lane, done) in self.lanes.iter().zip(lanes) {
                match done {
                    Some(done) => {
                        batch.append(done.batch);
                        outcomes.extend(done.outcomes);
                    }
                    None => stuck.push(lane.describe()),
                }
            }
            batch.append(mounts);
            let read = outcomes
                .iter()
                .filter(|outcome| outcome.result.is_ok())
                .count();
            self.report(outcomes, batch);
            let labels = [
                ("goarch", ARCHITECTURE),
                ("goos", "linux"),
                ("version", env!("CARGO_PKG_VERSION")),
            ];
            batch.push(&BUILD, &labels, 1.0);
            if read == 0 {
                return Err(CollectError::new(format!(
                    "`{}`: nothing could be read",
                    self.address
                )));
            }
            if stuck.is_empty() {
                Ok(())
            } else {
                Err(CollectError::new(format!(
                    "no answer from the kernel in time: {}",
                    stuck.join(", ")
                )))
            }
        })
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

impl Host {
    /// Shows how each part fared. A part that begins to fail, or fails in another way, is logged
    /// once.
    fn report(&mut self, outcomes: Vec<Outcome>, batch: &mut Batch) {
        for outcome in outcomes {
            let labels = [("collector", outcome.part)];
            let known = self
                .failing
                .iter()
                .position(|(part, _)| *part == outcome.part);
            match outcome.result {
                Err(PartError::Absent) => continue,
                Err(error) => {
                    batch.push(&SUCCESS, &labels, 0.0);
                    let text = error.to_string();
                    if known.is_none_or(|index| self.failing[index].1 != text) {
                        tracing::warn!(collector = "host", part = outcome.part, error = %text, "Part of the host cannot be read.");
                    }
                    known.map(|index| self.failing.swap_remove(index));
                    self.failing.push((outcome.part, text));
                }
                Ok(()) => {
                    batch.push(&SUCCESS, &labels, 1.0);
                    if let Some(index) = known {
                        tracing::info!(
                            collector = "host",
                            part = outcome.part,
                            "Part of the host can be read again."
                        );
                        self.failing.swap_remove(index);
                    }
                }
            }
            batch.push(&DURATION, &labels, outcome.took.as_secs_f64());
            if let Some(count) = outcome.omitted {
                batch.push(&OMITTED, &labels, count as f64);
            }
            if let Some(count) = outcome.odd {
                batch.push(&ODD, &labels, count as f64);
            }
            self.log_lacking(
                outcome.part,
                [outcome.odd.unwrap_or(0), outcome.omitted.unwrap_or(0)],
            );
        }
    }

    /// Says once when a part begins to leave something out: other numbers of the same are no news.
    fn log_lacking(&mut self, part: &'static str, [odd, omitted]: [usize; 2]) {
        let known = self.lacking.iter().position(|(of, _)| *of == part);
        let [knew_odd, knew_omitted] =
            known.map_or([0, 0], |index| self.lacking.swap_remove(index).1);
        if odd > 0 && knew_odd == 0 {
            tracing::warn!(
                collector = "host",
                part,
                lines = odd,
                "Lines are not as documented and were left out."
            );
        }
        if omitted > 0 && knew_omitted == 0 {
            tracing::warn!(
                collector = "host",
                part,
                objects = omitted,
                "Objects beyond the cap were left out."
            );
        }
        if odd + omitted > 0 {
            self.lacking.push((part, [odd, omitted]));
        }
    }
}
