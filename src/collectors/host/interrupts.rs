//! `/proc/interrupts`, `/proc/softirqs` and `/proc/buddyinfo`: many series for little news, so only
//! on request.

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{lines, split_once, text, whole, words};

/// Interrupts by line and CPU: on a large machine more series than all other parts together.
pub const INTERRUPTS: Part = Part {
    name: "interrupts",
    default: false,
    lane: Lane::Kernel,
    metrics: &[TOTAL],
    read: read_interrupts,
};
/// Free memory by size of block.
pub const BUDDYINFO: Part = Part {
    name: "buddyinfo",
    default: false,
    lane: Lane::Kernel,
    metrics: &[BLOCKS],
    read: read_buddyinfo,
};

/// Software interrupts, by vector and by vector and CPU.
pub const SOFTIRQS: Part = Part {
    name: "softirqs",
    default: false,
    lane: Lane::Kernel,
    metrics: &[SOFT_TOTAL, SOFT_FUNCTIONS],
    read: read_softirqs,
};

/// Series of interrupts at most.
const MAX_SERIES: usize = 5000;
const TOTAL: MetricDesc = counter(
    "node_interrupts_total",
    "",
    "Interrupts served.",
    &["cpu", "devices", "info", "type"],
    "/proc/interrupts",
);
const SOFT_TOTAL: MetricDesc = counter(
    "node_softirqs_total",
    "",
    "Software interrupts served.",
    &["vector"],
    "/proc/softirqs",
);
const SOFT_FUNCTIONS: MetricDesc = counter(
    "node_softirqs_functions_total",
    "",
    "Software interrupts served by each CPU.",
    &["cpu", "type"],
    "/proc/softirqs",
);
const BLOCKS: MetricDesc = gauge(
    "node_buddyinfo_blocks",
    "",
    "Free blocks of two to the power of size pages.",
    &["node", "size", "zone"],
    "/proc/buddyinfo",
);

fn read_interrupts(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut all = lines(context.kernel.proc("interrupts")?);
    let cpus = all.next().map_or(0, |line| words(line).count());
    let (mut pushed, mut omitted) = (0, 0);
    for line in all {
        let Some((kind, rest)) = split_once(line, b':') else {
            continue;
        };
        let kind = text(kind.trim_ascii());
        let counts: Vec<u64> = words(rest).map_while(whole).take(cpus).collect();
        // ERR and MIS have one number for the whole machine.
        if counts.len() < cpus {
            continue;
        }
        let mut tail = words(rest).skip(cpus).map(text);
        let (info, devices) = if whole(kind.as_bytes()).is_some() {
            (
                tail.next().unwrap_or_default().into_owned(),
                tail.collect::<Vec<_>>().join(" "),
            )
        } else {
            (tail.collect::<Vec<_>>().join(" "), String::new())
        };
        for (cpu, count) in counts.iter().enumerate() {
            if pushed == MAX_SERIES {
                omitted += 1;
                continue;
            }
            pushed += 1;
            let labels = [
                ("cpu", cpu.to_string()),
                ("devices", devices.clone()),
                ("info", info.clone()),
                ("type", kind.to_string()),
            ];
            context.batch.push(
                &TOTAL,
                &labels
                    .each_ref()
                    .map(|(name, value)| (*name, value.as_str())),
                *count as f64,
            );
        }
    }
    context.memory.omitted = Some(omitted);
    Ok(())
}

fn read_softirqs(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut all = lines(context.kernel.proc("softirqs")?);
    // Its columns are the CPUs that there can be, of which some may never come.
    let cpus: Vec<_> = all
        .next()
        .map(|line| {
            words(line)
                .map(|cpu| text(cpu.strip_prefix(b"CPU").unwrap_or(cpu)).into_owned())
                .collect()
        })
        .unwrap_or_default();
    let (mut pushed, mut omitted) = (0, 0);
    for line in all {
        let Some((kind, rest)) = split_once(line, b':') else {
            continue;
        };
        let kind = text(kind.trim_ascii()).into_owned();
        let counts: Option<Vec<u64>> = words(rest).map(whole).collect();
        let Some(counts) = context
            .memory
            .lines
            .take(counts.filter(|counts| counts.len() == cpus.len()))
        else {
            continue;
        };
        let total: u64 = counts.iter().fold(0, |sum, count| sum.wrapping_add(*count));
        context.batch.push(
            &SOFT_TOTAL,
            &[("vector", &kind.to_ascii_lowercase())],
            total as f64,
        );
        for (cpu, count) in cpus.iter().zip(counts) {
            if pushed == MAX_SERIES {
                omitted += 1;
                continue;
            }
            pushed += 1;
            context.batch.push(
                &SOFT_FUNCTIONS,
                &[("cpu", cpu), ("type", &kind)],
                count as f64,
            );
        }
    }
    context.memory.omitted = Some(omitted);
    Ok(())
}

fn read_buddyinfo(context: &mut Context<'_>) -> Result<(), PartError> {
    for line in lines(context.kernel.proc("buddyinfo")?) {
        let Some((node, rest)) = split_once(line, b',') else {
            continue;
        };
        let node = text(node.strip_prefix(b"Node ").unwrap_or(node).trim_ascii());
        let mut parts = words(rest).skip(1);
        let Some(zone) = parts.next().map(text) else {
            continue;
        };
        for (size, blocks) in parts.filter_map(whole).enumerate() {
            context.batch.push(
                &BLOCKS,
                &[
                    ("node", &node),
                    ("size", &size.to_string()),
                    ("zone", &zone),
                ],
                blocks as f64,
            );
        }
    }
    Ok(())
}
