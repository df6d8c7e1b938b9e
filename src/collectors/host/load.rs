//! `/proc/loadavg` and `/proc/pressure/*`: how much work waits (proc(5),
//! `Documentation/accounting/psi.rst`).

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{decimal, lines, whole, words};

/// Load averages.
pub const LOAD: Part = Part {
    name: "loadavg",
    default: true,
    lane: Lane::Kernel,
    metrics: &LOADS,
    read: read_load,
};
/// Pressure stall information.
pub const PRESSURE: Part = Part {
    name: "pressure",
    default: true,
    lane: Lane::Kernel,
    metrics: &PRESSURES,
    read: read_pressure,
};

const LOADS: [MetricDesc; 3] = [
    gauge(
        "node_load1",
        "",
        "Load average over 1 minute.",
        &[],
        "/proc/loadavg",
    ),
    gauge(
        "node_load5",
        "",
        "Load average over 5 minutes.",
        &[],
        "/proc/loadavg",
    ),
    gauge(
        "node_load15",
        "",
        "Load average over 15 minutes.",
        &[],
        "/proc/loadavg",
    ),
];
const PRESSURES: [MetricDesc; 6] = [
    counter(
        "node_pressure_cpu_waiting_seconds_total",
        "seconds",
        "Time tasks waited for a CPU.",
        &[],
        "/proc/pressure/cpu some",
    ),
    counter(
        "node_pressure_io_waiting_seconds_total",
        "seconds",
        "Time some tasks waited for I/O.",
        &[],
        "/proc/pressure/io some",
    ),
    counter(
        "node_pressure_io_stalled_seconds_total",
        "seconds",
        "Time all tasks waited for I/O.",
        &[],
        "/proc/pressure/io full",
    ),
    counter(
        "node_pressure_memory_waiting_seconds_total",
        "seconds",
        "Time some tasks waited for memory.",
        &[],
        "/proc/pressure/memory some",
    ),
    counter(
        "node_pressure_memory_stalled_seconds_total",
        "seconds",
        "Time all tasks waited for memory.",
        &[],
        "/proc/pressure/memory full",
    ),
    counter(
        "node_pressure_irq_stalled_seconds_total",
        "seconds",
        "Time tasks waited for interrupts.",
        &[],
        "/proc/pressure/irq full",
    ),
];
/// File, then the metrics of its `some` and its `full` line.
const PRESSURE_FILES: [(&str, Option<usize>, Option<usize>); 4] = [
    ("pressure/cpu", Some(0), None),
    ("pressure/io", Some(1), Some(2)),
    ("pressure/memory", Some(3), Some(4)),
    ("pressure/irq", None, Some(5)),
];

fn read_load(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut parts = words(context.kernel.proc("loadavg")?);
    for desc in &LOADS {
        let value = parts
            .next()
            .and_then(decimal)
            .ok_or(PartError::Malformed { path: "loadavg" })?;
        context.batch.push(desc, &[], value);
    }
    Ok(())
}

fn read_pressure(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut found = false;
    for (path, some, full) in PRESSURE_FILES {
        let content = match context.kernel.proc(path) {
            Ok(content) => content,
            Err(PartError::Absent) => continue,
            Err(error) => return Err(error),
        };
        found = true;
        for line in lines(content) {
            let mut parts = words(line);
            let index = match parts.next() {
                Some(b"some") => some,
                Some(b"full") => full,
                _ => None,
            };
            let total = parts
                .find_map(|word| word.strip_prefix(b"total="))
                .and_then(whole);
            if let (Some(index), Some(microseconds)) = (index, total) {
                context
                    .batch
                    .push(&PRESSURES[index], &[], microseconds as f64 / 1e6);
            }
        }
    }
    if found {
        Ok(())
    } else {
        Err(PartError::Absent)
    }
}
