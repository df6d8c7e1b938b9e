//! Processes: all of them by state (`/proc/PID/stat`), and groups of them by name or command line,
//! under process-exporter's names.
//!
//! sysinfo keeps the process table; what it does not know of a group's members (user and system
//! time, threads, faults) is read here. A group's counters never fall: what an ended process had
//! used stays counted.

use super::remembered::{Stat, USER_HZ};
use std::collections::HashMap;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use crate::model::{Batch, MetricDesc};

use super::kernel::{Kernel, PartError};
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{lines, whole, words};
use super::settings::GroupRule;

/// Command lines are read afresh at every so many looks.
const LINES: u64 = 4;

/// All processes by state.
pub const PROCESSES: Part = Part {
    name: "processes",
    default: true,
    lane: Lane::Process,
    metrics: &ALL,
    read: read_processes,
};
/// All threads by state: a file for each thread.
pub const THREADS: Part = Part {
    name: "threads",
    default: false,
    lane: Lane::Process,
    metrics: &[THREAD_STATE],
    read: read_threads,
};
/// Configured groups.
pub const GROUPS: Part = Part {
    name: "process_groups",
    default: true,
    lane: Lane::Process,
    metrics: &GROUP,
    read: read_groups,
};

const ALL: [MetricDesc; 7] = [
    gauge("node_processes_pids", "", "Processes.", &[], "/proc"),
    gauge(
        "node_processes_threads",
        "",
        "Threads of all processes.",
        &[],
        "/proc/PID/stat num_threads",
    ),
    gauge(
        "node_processes_max_processes",
        "",
        "Processes there can be.",
        &[],
        "/proc/sys/kernel/pid_max",
    ),
    gauge(
        "node_processes_max_threads",
        "",
        "Threads there can be.",
        &[],
        "/proc/sys/kernel/threads-max",
    ),
    STATE,
    TOP_CPU,
    TOP_MEMORY,
];
const STATE: MetricDesc = gauge(
    "node_processes_state",
    "",
    "Processes in each state, by the kernel's letter.",
    &["state"],
    "/proc/PID/stat state",
);
const THREAD_STATE: MetricDesc = gauge(
    "node_processes_threads_state",
    "",
    "Threads in each state, by the kernel's letter.",
    &["thread_state"],
    "/proc/PID/task/TID/stat state",
);
/// Who uses most, by name: what an alert's evidence shows, whether groups are configured or not.
const TOP_CPU: MetricDesc = gauge(
    "host_top_process_cpu_ratio",
    "ratio",
    "CPUs used by the processes of a name since the last collection, of the five names that used most.",
    &["process"],
    "/proc/PID/stat utime, stime; /proc/uptime",
);
const TOP_MEMORY: MetricDesc = gauge(
    "host_top_process_resident_memory_bytes",
    "bytes",
    "Memory in RAM of the processes of a name, of the five names that have most.",
    &["process"],
    "/proc/PID/stat rss",
);

const NAME: &[&str] = &["groupname"];
const GROUP: [MetricDesc; 11] = [
    gauge(
        "namedprocess_namegroup_num_procs",
        "",
        "Processes of the group.",
        NAME,
        "/proc",
    ),
    gauge(
        "namedprocess_namegroup_num_threads",
        "",
        "Threads of the group.",
        NAME,
        "/proc/PID/stat num_threads",
    ),
    gauge(
        "namedprocess_namegroup_open_filedesc",
        "",
        "Open files of the group.",
        NAME,
        "/proc/PID/fd",
    ),
    gauge(
        "namedprocess_namegroup_worst_fd_ratio",
        "ratio",
        "Open files of the process nearest to its limit, as a share of the limit.",
        NAME,
        "/proc/PID/fd, limits",
    ),
    gauge(
        "namedprocess_namegroup_oldest_start_time_seconds",
        "seconds",
        "When the oldest process of the group started, as Unix time.",
        NAME,
        "/proc/PID/stat starttime",
    ),
    MEMORY,
    CPU,
    FAULTS,
    MINOR_FAULTS,
    READ,
    WRITTEN,
];
const MEMORY: MetricDesc = gauge(
    "namedprocess_namegroup_memory_bytes",
    "bytes",
    "Memory of the group: in RAM (resident), as addressed (virtual) or moved to swap (swapped).",
    &["groupname", "memtype"],
    "/proc/PID/statm; status VmSwap",
);
const CPU: MetricDesc = counter(
    "namedprocess_namegroup_cpu_seconds_total",
    "seconds",
    "CPU time of the group, processes that have ended since included.",
    &["groupname", "mode"],
    "/proc/PID/stat utime, stime",
);
const FAULTS: MetricDesc = counter(
    "namedprocess_namegroup_major_page_faults_total",
    "",
    "Page faults of the group that needed the disk.",
    NAME,
    "/proc/PID/stat majflt",
);

const MINOR_FAULTS: MetricDesc = counter(
    "namedprocess_namegroup_minor_page_faults_total",
    "",
    "Page faults of the group that needed no disk.",
    NAME,
    "/proc/PID/stat minflt",
);
const READ: MetricDesc = counter(
    "namedprocess_namegroup_read_bytes_total",
    "bytes",
    "Bytes that the group read from disks, as far as its processes may be asked.",
    NAME,
    "/proc/PID/io read_bytes",
);
const WRITTEN: MetricDesc = counter(
    "namedprocess_namegroup_write_bytes_total",
    "bytes",
    "Bytes that the group wrote to disks, as far as its processes may be asked.",
    NAME,
    "/proc/PID/io write_bytes",
);

/// `PID (name) S …`; the name may hold anything, so the last parenthesis counts.
fn stat_of(content: &[u8]) -> Option<Stat> {
    let tail = &content[memchr::memrchr(b')', content)? + 1..];
    let mut parts = words(tail);
    let state = *parts.next()?.first()?;
    let mut rest = parts.map(whole);
    let mut field = |skip: usize| rest.nth(skip)?;
    // Fields 10, 12, 14, 15, 20, 22 and 24 of proc(5); tpgid (8) may be -1, which is skipped like the
    // others.
    let (minor_faults, faults) = (field(6)?, field(1)?);
    let (user, system) = (field(1)?, field(0)?);
    let threads = field(4)?;
    let (start, resident) = (field(1)?, field(1)?);
    Some(Stat {
        state,
        threads,
        user,
        system,
        minor_faults,
        faults,
        start,
        resident,
        ..Stat::default()
    })
}

/// The name between the parentheses.
fn name_of(content: &[u8]) -> Option<String> {
    let (begin, end) = (
        memchr::memchr(b'(', content)?,
        memchr::memrchr(b')', content)?,
    );
    Some(String::from_utf8_lossy(content.get(begin + 1..end)?).into_owned())
}

/// Tells who uses most.
fn push_top(context: &mut Context<'_>, processes: &[(u64, String, Stat)]) {
    let uptime = context.kernel.proc("uptime").ok().and_then(|text| {
        std::str::from_utf8(text)
            .ok()?
            .split(' ')
            .next()?
            .parse::<f64>()
            .ok()
    });
    let [cpu, memory] = context.memory.used.top(uptime, processes);
    for (name, cpus) in cpu {
        context.batch.push(&TOP_CPU, &[("process", name)], cpus);
    }
    for (name, pages) in memory {
        context.batch.push(
            &TOP_MEMORY,
            &[("process", name)],
            pages * rustix::param::page_size() as f64,
        );
    }
}

fn read_processes(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut states = [0_u32; 128];
    let (mut pids, mut threads, mut processes) = (0_u64, 0, Vec::new());
    let folder = context.kernel.in_proc("");
    let entries = std::fs::read_dir(&folder).map_err(|e| PartError::of_read(&folder, e))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = whole(name.as_encoded_bytes()) else {
            continue;
        };
        // It may have ended meanwhile.
        let Ok(content) = context.kernel.once(&entry.path().join("stat")) else {
            continue;
        };
        let Some(stat) = stat_of(content) else {
            continue;
        };
        processes.extend(name_of(content).map(|name| (pid, name, stat)));
        pids += 1;
        threads += stat.threads;
        states[usize::from(stat.state & 127)] += 1;
    }
    for (desc, value) in ALL.iter().zip([pids, threads]) {
        context.batch.push(desc, &[], value as f64);
    }
    for (desc, path) in ALL[2..]
        .iter()
        .zip(["sys/kernel/pid_max", "sys/kernel/threads-max"])
    {
        let value =
            whole(context.kernel.proc(path)?.trim_ascii()).ok_or(PartError::Malformed { path })?;
        context.batch.push(desc, &[], value as f64);
    }
    push_states(context.batch, &STATE, "state", states);
    push_top(context, &processes);
    Ok(())
}

fn read_threads(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut states = [0_u32; 128];
    let folder = context.kernel.in_proc("");
    let entries = std::fs::read_dir(&folder).map_err(|e| PartError::of_read(&folder, e))?;
    for process in entries
        .flatten()
        .filter(|entry| whole(entry.file_name().as_encoded_bytes()).is_some())
    {
        // A process or a thread may have ended meanwhile.
        for thread in std::fs::read_dir(process.path().join("task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(content) = context.kernel.once(&thread.path().join("stat")) else {
                continue;
            };
            let Some(stat) = stat_of(content) else {
                continue;
            };
            states[usize::from(stat.state & 127)] += 1;
        }
    }
    push_states(context.batch, &THREAD_STATE, "thread_state", states);
    Ok(())
}

/// How many there are in each state.
fn push_states(batch: &mut Batch, desc: &MetricDesc, label: &str, states: [u32; 128]) {
    for (letter, count) in (0_u8..).zip(states).filter(|(_, count)| *count > 0) {
        batch.push(
            desc,
            &[(label, char::from(letter).encode_utf8(&mut [0; 4]))],
            f64::from(count),
        );
    }
}

/// One group at one instant.
#[derive(Default)]
struct Sum {
    processes: u64,
    threads: u64,
    files: u64,
    worst: f64,
    oldest: Option<u64>,
    resident: u64,
    virtual_memory: u64,
    swapped: u64,
}

fn read_groups(context: &mut Context<'_>) -> Result<(), PartError> {
    let rules = &context.settings.processes;
    if rules.is_empty() {
        return Err(PartError::Absent);
    }
    let groups = &mut context.memory.groups;
    if groups.table.is_none() {
        groups.table = System::new().ok();
    }
    let Some(table) = &mut groups.table else {
        return Err(PartError::Absent);
    };
    // A process has another command line after `exec`, with the same number and start.
    let lines = if groups.looks.is_multiple_of(LINES) {
        UpdateKind::Always
    } else {
        UpdateKind::OnlyIfNotSet
    };
    groups.looks += 1;
    let wanted = ProcessRefreshKind::nothing()
        .without_tasks()
        .with_memory()
        .with_cmd(lines);
    table.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    let mut sums: Vec<Sum> = rules.iter().map(|_| Sum::default()).collect();
    let mut alive = HashMap::new();
    for (pid, process) in table.processes() {
        let Some(index) = group_of(rules, process) else {
            continue;
        };
        let sum = &mut sums[index];
        sum.add(process);
        let key = (pid.as_u32(), process.start_time());
        let mut now = stat_at(context.kernel, key.0).unwrap_or_default();
        sum.threads += now.threads;
        sum.swapped += swapped(context.kernel, key.0);
        (now.read, now.written) = disk_bytes(context.kernel, key.0);
        let before = groups.seen.get(&key).copied().unwrap_or_default();
        let total = groups.totals.entry(rules[index].name.clone()).or_default();
        total.user += now.user.saturating_sub(before.user);
        total.system += now.system.saturating_sub(before.system);
        total.faults += now.faults.saturating_sub(before.faults);
        total.minor_faults += now.minor_faults.saturating_sub(before.minor_faults);
        total.read += now.read.saturating_sub(before.read);
        total.written += now.written.saturating_sub(before.written);
        alive.insert(key, now);
    }
    groups.seen = alive;
    for (rule, sum) in rules.iter().zip(&sums) {
        let total = groups.totals.get(&rule.name).copied().unwrap_or_default();
        push(&rule.name, sum, &total, context.batch);
    }
    Ok(())
}

/// The first rule that fits.
fn group_of(rules: &[GroupRule], process: &sysinfo::Process) -> Option<usize> {
    let name = process.name().to_string_lossy();
    let mut line = String::new();
    if rules.iter().any(|rule| rule.cmdline.is_some()) {
        for word in process.cmd() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word.to_string_lossy());
        }
    }
    rules.iter().position(|rule| rule.fits(&name, &line))
}

/// Bytes of a process in swap.
fn swapped(kernel: &mut Kernel, pid: u32) -> u64 {
    let path = kernel.in_proc(&format!("{pid}/status"));
    let Ok(text) = kernel.once(&path) else {
        return 0;
    };
    number_behind(text, b"VmSwap:").unwrap_or(0) * 1024
}

/// Bytes that a process read from disks and wrote to them; 0 where it may not be asked.
fn disk_bytes(kernel: &mut Kernel, pid: u32) -> (u64, u64) {
    let path = kernel.in_proc(&format!("{pid}/io"));
    let Ok(text) = kernel.once(&path) else {
        return (0, 0);
    };
    let of = |key| number_behind(text, key).unwrap_or(0);
    (of(b"read_bytes:"), of(b"write_bytes:"))
}

/// The number behind a key at the beginning of a line.
fn number_behind(text: &[u8], key: &[u8]) -> Option<u64> {
    let line = lines(text).find_map(|line| line.strip_prefix(key))?;
    whole(words(line).next()?)
}

fn stat_at(kernel: &mut Kernel, pid: u32) -> Option<Stat> {
    let path = kernel.in_proc(&format!("{pid}/stat"));
    stat_of(kernel.once(&path).ok()?)
}

impl Sum {
    fn add(&mut self, process: &sysinfo::Process) {
        self.processes += 1;
        self.resident += process.memory();
        self.virtual_memory += process.virtual_memory();
        self.oldest = Some(self.oldest.unwrap_or(u64::MAX).min(process.start_time()));
        if let Some(files) = process.open_files() {
            self.files += files as u64;
            if let Some(limit) = process.open_files_limit().filter(|limit| *limit > 0) {
                self.worst = self.worst.max(files as f64 / limit as f64);
            }
        }
    }
}

fn push(name: &str, sum: &Sum, total: &Stat, batch: &mut Batch) {
    let group = ("groupname", name);
    let numbers = [
        sum.processes as f64,
        sum.threads as f64,
        sum.files as f64,
        sum.worst,
    ];
    for (desc, value) in GROUP.iter().zip(numbers) {
        batch.push(desc, &[group], value);
    }
    if let Some(start) = sum.oldest {
        batch.push(&GROUP[4], &[group], start as f64);
    }
    batch.push(
        &MEMORY,
        &[group, ("memtype", "resident")],
        sum.resident as f64,
    );
    batch.push(
        &MEMORY,
        &[group, ("memtype", "virtual")],
        sum.virtual_memory as f64,
    );
    batch.push(
        &MEMORY,
        &[group, ("memtype", "swapped")],
        sum.swapped as f64,
    );
    batch.push(
        &CPU,
        &[group, ("mode", "user")],
        total.user as f64 / USER_HZ,
    );
    batch.push(
        &CPU,
        &[group, ("mode", "system")],
        total.system as f64 / USER_HZ,
    );
    batch.push(&FAULTS, &[group], total.faults as f64);
    batch.push(&MINOR_FAULTS, &[group], total.minor_faults as f64);
    batch.push(&READ, &[group], total.read as f64);
    batch.push(&WRITTEN, &[group], total.written as f64);
}

#[cfg(test)]
mod tests {
    use super::super::remembered::{TOP, Used};
    use super::*;

    /// Who uses most is known of every host, by name, with a number of series that does not grow.
    #[test]
    fn the_names_that_use_most_are_notified_since_the_last_collection() {
        let process = |pid, name: &str, ticks, start, resident| {
            (
                pid,
                name.to_owned(),
                Stat {
                    user: ticks,
                    system: ticks,
                    start,
                    resident,
                    ..Stat::default()
                },
            )
        };
        let mut used = Used::default();
        let first = [
            process(1, "init", 5000, 0, 10),
            process(2, "db", 100, 7, 500),
            process(3, "db", 100, 8, 500),
        ];
        assert_eq!(
            used.top(Some(100.0), &first),
            [vec![], vec![("db", 1000.0), ("init", 10.0)]],
            "since when?"
        );
        // Two seconds later: one worker used a CPU, 1 did nothing, and number 3 is another process
        // by now.
        let second = [
            process(1, "init", 5000, 0, 10),
            process(2, "db", 200, 7, 600),
            process(3, "cron", 50, 99, 1),
        ];
        assert_eq!(
            used.top(Some(102.0), &second)[0],
            [("db", 1.0), ("cron", 0.5)]
        );
        let many: Vec<_> = (0..50)
            .map(|pid| process(pid, &format!("p{pid}"), pid, 0, pid))
            .collect();
        assert_eq!(
            used.top(Some(103.0), &many).map(|top| top.len()),
            [TOP, TOP]
        );
    }

    #[test]
    fn a_process_may_carry_any_name() {
        let line = b"12 (a) S b) S 1 12 12 0 -1 4194560 100 0 7 0 250 50 0 0 20 0 3 0 500 1 20";
        let line: Vec<u8> = line.iter().copied().chain(*b"\n").collect();
        // tpgid is -1: it is no number here, and nothing asks for it.
        let stat = stat_of(&line).expect("read");
        assert_eq!(
            stat,
            Stat {
                state: b'S',
                threads: 3,
                user: 250,
                system: 50,
                minor_faults: 100,
                faults: 7,
                start: 500,
                resident: 20,
                ..Stat::default()
            }
        );
        assert_eq!(name_of(&line).as_deref(), Some("a) S b"));
        assert_eq!(stat_of(b"12 (a"), None);
    }
}
