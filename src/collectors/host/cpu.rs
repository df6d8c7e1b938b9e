//! `/proc/stat`: CPU time by mode, interrupts, context switches, forks, start of the machine
//! (proc(5)); `/proc/schedstat`; `/proc/cpuinfo` on request.

use super::remembered::{FIELDS, USER_HZ};
use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{lines, split_once, text, whole, words};

/// CPU time.
pub const CPU: Part = Part {
    name: "cpu",
    default: true,
    lane: Lane::Kernel,
    metrics: &[SECONDS, GUEST],
    read: read_cpu,
};
/// The rest of `/proc/stat`.
pub const STAT: Part = Part {
    name: "stat",
    default: true,
    lane: Lane::Kernel,
    metrics: &STATS,
    read: read_stat,
};
/// What CPUs these are.
pub const INFO: Part = Part {
    name: "cpu_info",
    default: false,
    lane: Lane::Kernel,
    metrics: &[CPU_INFO],
    read: read_info,
};
/// The scheduler's statistics.
pub const SCHEDSTAT: Part = Part {
    name: "schedstat",
    default: true,
    lane: Lane::Kernel,
    metrics: &SCHED,
    read: read_schedstat,
};

const MODES: [&str; 8] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
];

const SECONDS: MetricDesc = counter(
    "node_cpu_seconds_total",
    "seconds",
    "Time the CPUs spent in each mode.",
    &["cpu", "mode"],
    "/proc/stat cpuN",
);
const GUEST: MetricDesc = counter(
    "node_cpu_guest_seconds_total",
    "seconds",
    "Time the CPUs spent running virtual machines, for each mode; it is part of the mode's time.",
    &["cpu", "mode"],
    "/proc/stat cpuN guest, guest_nice",
);
const CPU_INFO: MetricDesc = gauge(
    "node_cpu_info",
    "",
    "What CPU this is, always 1.",
    &[
        "cachesize",
        "core",
        "cpu",
        "family",
        "microcode",
        "model",
        "model_name",
        "package",
        "stepping",
        "vendor",
    ],
    "/proc/cpuinfo",
);
/// The labels of [`CPU_INFO`] and the fields that they are.
const INFO_FIELDS: [(&str, &[u8]); 10] = [
    ("cachesize", b"cache size"),
    ("core", b"core id"),
    ("cpu", b"processor"),
    ("family", b"cpu family"),
    ("microcode", b"microcode"),
    ("model", b"model"),
    ("model_name", b"model name"),
    ("package", b"physical id"),
    ("stepping", b"stepping"),
    ("vendor", b"vendor_id"),
];
const STATS: [MetricDesc; 6] = [
    counter(
        "node_intr_total",
        "",
        "Interrupts served since the start.",
        &[],
        "/proc/stat intr",
    ),
    counter(
        "node_context_switches_total",
        "",
        "Context switches since the start.",
        &[],
        "/proc/stat ctxt",
    ),
    gauge(
        "node_boot_time_seconds",
        "seconds",
        "When the machine started, as Unix time.",
        &[],
        "/proc/stat btime",
    ),
    counter(
        "node_forks_total",
        "",
        "Processes and threads made since the start.",
        &[],
        "/proc/stat processes",
    ),
    gauge(
        "node_procs_running",
        "",
        "Tasks that are running or ready to.",
        &[],
        "/proc/stat procs_running",
    ),
    gauge(
        "node_procs_blocked",
        "",
        "Tasks that wait for a disk or the like.",
        &[],
        "/proc/stat procs_blocked",
    ),
];
const STAT_FIELDS: [&[u8]; 6] = [
    b"intr",
    b"ctxt",
    b"btime",
    b"processes",
    b"procs_running",
    b"procs_blocked",
];
const SCHED: [MetricDesc; 3] = [
    counter(
        "node_schedstat_running_seconds_total",
        "seconds",
        "Time tasks ran on the CPU.",
        &["cpu"],
        "/proc/schedstat cpuN field 7",
    ),
    counter(
        "node_schedstat_waiting_seconds_total",
        "seconds",
        "Time tasks waited for the CPU.",
        &["cpu"],
        "/proc/schedstat cpuN field 8",
    ),
    counter(
        "node_schedstat_timeslices_total",
        "",
        "Time slices run on the CPU.",
        &["cpu"],
        "/proc/schedstat cpuN field 9",
    ),
];

fn read_cpu(context: &mut Context<'_>) -> Result<(), PartError> {
    for line in lines(context.kernel.proc("stat")?) {
        let mut parts = words(line);
        let Some(cpu) = parts
            .next()
            .and_then(|word| word.strip_prefix(b"cpu"))
            .filter(|id| !id.is_empty())
        else {
            continue;
        };
        let cpu = text(cpu);
        let mut times = [0; FIELDS];
        let read = times.iter_mut().try_for_each(|time| {
            parts
                .next()
                .map_or(Some(0), whole)
                .map(|ticks| *time = ticks)
        });
        if context.memory.lines.take(read).is_none() {
            continue;
        }
        let times = context
            .memory
            .cpu
            .settle(&cpu, times)
            .map(|ticks| ticks as f64 / USER_HZ);
        for (mode, seconds) in MODES.iter().zip(times) {
            context
                .batch
                .push(&SECONDS, &[("cpu", &cpu), ("mode", mode)], seconds);
        }
        for (mode, seconds) in [("user", times[8]), ("nice", times[9])] {
            context
                .batch
                .push(&GUEST, &[("cpu", &cpu), ("mode", mode)], seconds);
        }
    }
    Ok(())
}

fn read_stat(context: &mut Context<'_>) -> Result<(), PartError> {
    for line in lines(context.kernel.proc("stat")?) {
        let mut parts = words(line);
        let Some(index) = parts
            .next()
            .and_then(|word| STAT_FIELDS.iter().position(|f| *f == word))
        else {
            continue;
        };
        let Some(value) = context.memory.lines.take(parts.next().and_then(whole)) else {
            continue;
        };
        context.batch.push(&STATS[index], &[], value as f64);
    }
    Ok(())
}

fn read_info(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut labels = INFO_FIELDS.map(|(name, _)| (name, String::new()));
    let push = |labels: &mut [(&'static str, String); 10], batch: &mut crate::model::Batch| {
        if !labels[2].1.is_empty() {
            batch.push(
                &CPU_INFO,
                &labels
                    .each_ref()
                    .map(|(name, value)| (*name, value.as_str())),
                1.0,
            );
        }
        labels.iter_mut().for_each(|(_, value)| value.clear());
    };
    for line in lines(context.kernel.proc("cpuinfo")?) {
        let Some((field, value)) = split_once(line, b':') else {
            continue;
        };
        let Some(index) = INFO_FIELDS
            .iter()
            .position(|(_, name)| *name == field.trim_ascii())
        else {
            continue;
        };
        // Each CPU begins with its number.
        if INFO_FIELDS[index].0 == "cpu" {
            push(&mut labels, context.batch);
        }
        labels[index].1 = text(value.trim_ascii()).into_owned();
    }
    push(&mut labels, context.batch);
    Ok(())
}

fn read_schedstat(context: &mut Context<'_>) -> Result<(), PartError> {
    for line in lines(context.kernel.proc("schedstat")?) {
        let mut parts = words(line);
        let Some(cpu) = parts.next().and_then(|word| word.strip_prefix(b"cpu")) else {
            continue;
        };
        let cpu = text(cpu);
        let values: Option<Vec<u64>> = parts.skip(6).take(SCHED.len()).map(whole).collect();
        let Some(values) = context.memory.lines.take(values) else {
            continue;
        };
        for (desc, (value, scale)) in SCHED.iter().zip(values.into_iter().zip([1e9, 1e9, 1.0])) {
            context
                .batch
                .push(desc, &[("cpu", &cpu)], value as f64 / scale);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::remembered::CpuTimes;

    #[test]
    fn idle_time_that_falls_a_little_stands_still_and_a_cpu_that_was_away_starts_again() {
        let mut times = CpuTimes::default();
        let at = |idle| [0, 0, 0, idle, 7, 0, 0, 0, 0, 0];
        assert_eq!(times.settle("0", at(1000))[3], 1000);
        assert_eq!(times.settle("0", at(990))[3], 1000);
        assert_eq!(times.settle("0", at(1010))[3], 1010);
        assert_eq!(times.settle("0", at(5))[3], 5);
    }
}
