//! `/proc/interrupts` and `/proc/buddyinfo`: many series for little news, so only on request.

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{lines, split_once, text, whole, words};

/// Interrupts by line and CPU: on a large machine more series than all other parts together.
pub const INTERRUPTS: Part = Part { name: "interrupts", default: false, lane: Lane::Kernel, metrics: &[TOTAL], read: read_interrupts };
/// Free memory by size of block.
pub const BUDDYINFO: Part = Part { name: "buddyinfo", default: false, lane: Lane::Kernel, metrics: &[BLOCKS], read: read_buddyinfo };

/// Series of interrupts at most.
const MAX_SERIES: usize = 5000;
const TOTAL: MetricDesc =
    counter("node_interrupts_total", "", "Interrupts served.", &["cpu", "devices", "info", "type"], "/proc/interrupts");
const BLOCKS: MetricDesc =
    gauge("node_buddyinfo_blocks", "", "Free blocks of two to the power of size pages.", &["node", "size", "zone"], "/proc/buddyinfo");

fn read_interrupts(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut all = lines(context.kernel.proc("interrupts")?);
    let cpus = all.next().map_or(0, |line| words(line).count());
    let (mut pushed, mut omitted) = (0, 0);
    for line in all {
        let Some((kind, rest)) = split_once(line, b':') else { continue };
        let kind = text(kind.trim_ascii());
        let counts: Vec<u64> = words(rest).map_while(whole).take(cpus).collect();
        // ERR and MIS have one number for the whole machine.
        if counts.len() < cpus {
            continue;
        }
        let mut tail = words(rest).skip(cpus).map(text);
        let (info, devices) = if whole(kind.as_bytes()).is_some() {
            (tail.next().unwrap_or_default().into_owned(), tail.collect::<Vec<_>>().join(" "))
        } else {
            (tail.collect::<Vec<_>>().join(" "), String::new())
        };
        for (cpu, count) in counts.iter().enumerate() {
            if pushed == MAX_SERIES {
                omitted += 1;
                continue;
            }
            pushed += 1;
            let labels = [("cpu", cpu.to_string()), ("devices", devices.clone()), ("info", info.clone()), ("type", kind.to_string())];
            context.batch.push(&TOTAL, &labels.each_ref().map(|(name, value)| (*name, value.as_str())), *count as f64);
        }
    }
    context.memory.omitted = Some(omitted);
    Ok(())
}

fn read_buddyinfo(context: &mut Context<'_>) -> Result<(), PartError> {
    for line in lines(context.kernel.proc("buddyinfo")?) {
        let Some((node, rest)) = split_once(line, b',') else { continue };
        let node = text(node.strip_prefix(b"Node ").unwrap_or(node).trim_ascii());
        let mut parts = words(rest).skip(1);
        let Some(zone) = parts.next().map(text) else { continue };
        for (size, blocks) in parts.filter_map(whole).enumerate() {
            context.batch.push(&BLOCKS, &[("node", &node), ("size", &size.to_string()), ("zone", &zone)], blocks as f64);
        }
    }
    Ok(())
}
