//! What the kernel counts for one container: the files of cgroup v1
//! (<https://docs.kernel.org/admin-guide/cgroup-v1/>) and v2
//! (<https://docs.kernel.org/admin-guide/cgroup-v2.html>), and `stat` and `net/dev` of its first
//! process below `/proc`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::tree::Version;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 256 << 10;
/// Devices and interfaces of one container at most.
const MAX_PARTS: usize = 16;
/// A limit of cgroup v1 from here on is none.
const NO_LIMIT: f64 = (1u64 << 60) as f64;

/// What was read; `None` where the kernel has no such file. Times are seconds, sizes bytes.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// CPU time: all, in user mode, in the kernel.
    pub cpu: [Option<f64>; 3],
    /// Periods, throttled periods, throttled time of the CPU limit.
    pub throttling: [Option<f64>; 3],
    /// CPU time that it may take in a period, and the period, in microseconds.
    pub quota: Option<f64>,
    /// The period, in microseconds.
    pub period: Option<f64>,
    /// Memory in use.
    pub memory: Option<f64>,
    /// Anonymous memory, page cache, page cache that can go at once, swap.
    pub parts: [Option<f64>; 4],
    /// The limit; 0 for none.
    pub limit: Option<f64>,
    /// OOM kills.
    pub oom_kills: Option<f64>,
    /// Processes.
    pub processes: Option<f64>,
    /// When its first process began, Unix time.
    pub started: Option<f64>,
    /// By device: bytes read, bytes written, reads, writes.
    pub io: Vec<(String, [f64; 4])>,
    /// By interface: bytes, packets, errors, dropped packets received, then the same sent.
    pub network: Vec<(String, [f64; 8])>,
}

/// A cgroup to be read.
pub struct Cgroup<'a> {
    /// Where cgroups are.
    pub root: &'a Path,
    /// Which version.
    pub version: Version,
    /// Its path below.
    pub path: &'a str,
    /// Where processes are.
    pub procfs: &'a Path,
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn number(text: &str) -> Option<f64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

/// The number behind a name in a file of names and numbers.
fn field(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| number(line.strip_prefix(name)?.strip_prefix(' ')?))
}

impl Cgroup<'_> {
    /// Reads everything. Errs when it has gone or may not be read.
    pub fn usage(&self) -> io::Result<Usage> {
        let mut usage = match self.version {
            Version::Two => self.two()?,
            Version::One => self.one()?,
        };
        if let Some(pid) = self.first_process() {
            usage.started = self.started(&pid);
            usage.network = self.network(&pid);
        }
        Ok(usage)
    }

    /// Its folder, of one controller where each has its own.
    fn folder(&self, controller: &str) -> PathBuf {
        let below = self.path.trim_start_matches('/');
        let of = |name: &str| self.root.join(name).join(below);
        match self.version {
            Version::Two => self.root.join(below),
            Version::One if controller.starts_with("cpu") => ["cpu,cpuacct", "cpuacct,cpu"]
                .into_iter()
                .map(of)
                .find(|path| path.is_dir())
                .unwrap_or_else(|| of(controller)),
            Version::One => of(controller),
        }
    }

    fn two(&self) -> io::Result<Usage> {
        let folder = self.folder("");
        let file = |name: &str| read(&folder.join(name));
        // The one file that every cgroup has: without it this one has gone.
        let cpu = file("cpu.stat")?;
        let (memory, events) = (
            file("memory.stat").unwrap_or_default(),
            file("memory.events").unwrap_or_default(),
        );
        let single = |name: &str| file(name).ok().and_then(|text| number(&text));
        let micro = |name: &str| field(&cpu, name).map(|usec| usec / 1e6);
        let limit = file("memory.max").ok().and_then(|text| {
            if text.trim() == "max" {
                Some(0.0)
            } else {
                number(&text)
            }
        });
        let max = file("cpu.max").unwrap_or_default();
        let (quota, period) = max.split_once(' ').unwrap_or_default();
        let io = file("io.stat").unwrap_or_default();
        let device = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let device = words.next()?.to_owned();
            let words: Vec<&str> = words.collect();
            let of = |name: &str| {
                words
                    .iter()
                    .find_map(|word| number(word.strip_prefix(name)?.strip_prefix('=')?))
                    .unwrap_or(0.0)
            };
            Some((device, ["rbytes", "wbytes", "rios", "wios"].map(of)))
        };
        Ok(Usage {
            cpu: ["usage_usec", "user_usec", "system_usec"].map(micro),
            throttling: [
                field(&cpu, "nr_periods"),
                field(&cpu, "nr_throttled"),
                micro("throttled_usec"),
            ],
            quota: number(quota),
            period: number(period),
            memory: single("memory.current"),
            parts: [
                field(&memory, "anon"),
                field(&memory, "file"),
                field(&memory, "inactive_file"),
                single("memory.swap.current"),
            ],
            limit,
            oom_kills: field(&events, "oom_kill"),
            processes: single("pids.current"),
            io: io.lines().filter_map(device).take(MAX_PARTS).collect(),
            ..Usage::default()
        })
    }

    fn one(&self) -> io::Result<Usage> {
        let file = |controller: &str, name: &str| read(&self.folder(controller).join(name));
        let single = |controller: &str, name: &str| {
            file(controller, name).ok().and_then(|text| number(&text))
        };
        // One of them must be there: else the cgroup has gone.
        let usage = file("memory", "memory.usage_in_bytes");
        let time = file("cpuacct", "cpuacct.usage");
        let (usage, time) = match (usage, time) {
            (Err(error), Err(_)) => return Err(error),
            (usage, time) => (usage.ok(), time.ok()),
        };
        let memory = file("memory", "memory.stat").unwrap_or_default();
        let of =
            |name: &str| field(&memory, &format!("total_{name}")).or_else(|| field(&memory, name));
        let ticks = file("cpuacct", "cpuacct.stat").unwrap_or_default();
        let hertz = rustix::param::clock_ticks_per_second() as f64;
        let stat = file("cpu", "cpu.stat").unwrap_or_default();
        let oom = file("memory", "memory.oom_control").unwrap_or_default();
        let limit = single("memory", "memory.limit_in_bytes")
            .map(|limit| if limit >= NO_LIMIT { 0.0 } else { limit });
        Ok(Usage {
            cpu: [
                time.and_then(|text| number(&text)).map(|nanos| nanos / 1e9),
                field(&ticks, "user").map(|ticks| ticks / hertz),
                field(&ticks, "system").map(|ticks| ticks / hertz),
            ],
            throttling: [
                field(&stat, "nr_periods"),
                field(&stat, "nr_throttled"),
                field(&stat, "throttled_time").map(|n| n / 1e9),
            ],
            quota: single("cpu", "cpu.cfs_quota_us").filter(|quota| *quota > 0.0),
            period: single("cpu", "cpu.cfs_period_us"),
            memory: usage.and_then(|text| number(&text)),
            parts: [of("rss"), of("cache"), of("inactive_file"), of("swap")],
            limit,
            oom_kills: field(&oom, "oom_kill"),
            processes: single("pids", "pids.current"),
            io: self.blkio(),
            ..Usage::default()
        })
    }

    /// `8:0 Read 4096`, of bytes and of operations.
    fn blkio(&self) -> Vec<(String, [f64; 4])> {
        let mut found: Vec<(String, [f64; 4])> = Vec::new();
        for (base, name) in [
            "blkio.throttle.io_service_bytes",
            "blkio.throttle.io_serviced",
        ]
        .into_iter()
        .enumerate()
        {
            let text = read(&self.folder("blkio").join(name)).unwrap_or_default();
            for line in text.lines() {
                let mut words = line.split_ascii_whitespace();
                let (Some(device), Some(kind), Some(amount)) =
                    (words.next(), words.next(), words.next().and_then(number))
                else {
                    continue;
                };
                let Some(index) = ["Read", "Write"].iter().position(|known| *known == kind) else {
                    continue;
                };
                let at = found
                    .iter()
                    .position(|(known, _)| known == device)
                    .unwrap_or_else(|| {
                        found.push((device.to_owned(), [0.0; 4]));
                        found.len() - 1
                    });
                found[at].1[2 * base + index] = amount;
            }
        }
        found.truncate(MAX_PARTS);
        found
    }

    /// The process that came first, which is the container's own.
    fn first_process(&self) -> Option<String> {
        let procs = ["memory", "cpuacct"]
            .into_iter()
            .find_map(|controller| read(&self.folder(controller).join("cgroup.procs")).ok())?;
        let first = procs.lines().next()?;
        (!first.is_empty() && first.bytes().all(|b| b.is_ascii_digit()) && first != "0")
            .then(|| first.to_owned())
    }

    /// When a process began, Unix time: field 22 of `/proc/[pid]/stat`, and `btime` of
    /// `/proc/stat`. The times of the cgroup's folder change when the kernel needs memory.
    fn started(&self, pid: &str) -> Option<f64> {
        let text = read(&self.procfs.join(pid).join("stat")).ok()?;
        let ticks = number(
            text.get(text.rfind(')')? + 1..)?
                .split_ascii_whitespace()
                .nth(19)?,
        )?;
        let boot = field(&read(&self.procfs.join("stat")).ok()?, "btime")?;
        Some((boot + ticks / rustix::param::clock_ticks_per_second() as f64).round())
    }

    /// Counters of its own interfaces: those of a container in the host's network are the host's.
    fn network(&self, pid: &str) -> Vec<(String, [f64; 8])> {
        let space = |of: &str| fs::read_link(self.procfs.join(of).join("ns/net")).ok();
        if space(pid).is_some_and(|own| Some(own) == space("self")) {
            return Vec::new();
        }
        let text = read(&self.procfs.join(pid).join("net/dev")).unwrap_or_default();
        let interface = |line: &str| {
            let (name, rest) = line.split_once(':')?;
            let name = name.trim().to_owned();
            let numbers: Vec<f64> = rest.split_ascii_whitespace().filter_map(number).collect();
            let at = |index: usize| numbers.get(index).copied().unwrap_or(0.0);
            (name != "lo" && numbers.len() >= 12)
                .then(|| (name, [0, 1, 2, 3, 8, 9, 10, 11].map(at)))
        };
        text.lines()
            .skip(2)
            .filter_map(interface)
            .take(MAX_PARTS)
            .collect()
    }
}
