//! A part of the host collector: one kernel source, its metrics, and the function that reads it.

use crate::model::{Batch, MetricDesc, MetricKind};

use super::kernel::{Kernel, PartError};
use super::remembered::{CpuTimes, Groups, Links, Used};
use super::settings::Settings;

/// One part. Its name is that of node_exporter's collector where there is one: it is the
/// `collector` label of `node_scrape_collector_*`.
pub struct Part {
    /// The name.
    pub name: &'static str,
    /// Whether it runs without being asked for.
    pub default: bool,
    /// The thread it runs on.
    pub lane: Lane,
    /// All metrics it can emit, except those named by the kernel.
    pub metrics: &'static [MetricDesc],
    /// Reads and pushes.
    pub read: fn(&mut Context<'_>) -> Result<(), PartError>,
}

/// Parts that may hang together. A broken sensor stops the device lane, and no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// Files that the kernel answers from memory.
    Kernel,
    /// Files whose reading asks a device: sensors, batteries, memory controllers, and textfiles on
    /// any file system.
    Device,
    /// Files of single processes, which wait for the process's memory lock.
    Process,
}

/// What a part reads from, and writes to.
pub struct Context<'a> {
    /// The kernel's files.
    pub kernel: &'a mut Kernel,
    /// The configuration.
    pub settings: &'a Settings,
    /// What is remembered from one collection to the next.
    pub memory: &'a mut Memory,
    /// Where samples go.
    pub batch: &'a mut Batch,
}

/// What is remembered from one collection to the next.
#[derive(Default)]
pub struct Memory {
    /// CPU times, which must not fall.
    pub cpu: CpuTimes,
    /// Process groups.
    pub groups: Groups,
    /// What processes had used.
    pub used: Used,
    /// How many objects (disks, interfaces, …) the part that is being read left out for its cap;
    /// `None` where it has none.
    pub omitted: Option<usize>,
    /// How the lines fared of the file that is being read.
    pub lines: LineCount,
    /// Text files that could not be taken, and why, as last logged.
    pub textfiles: std::collections::BTreeMap<String, String>,
    /// Drivers and links of the network interfaces.
    pub links: Links,
}

/// Lines of a file: one that is not as documented costs itself, is counted, and no other.
#[derive(Default)]
pub struct LineCount {
    /// Lines that were used.
    pub good: usize,
    /// Lines that are not as documented.
    pub odd: usize,
}

impl LineCount {
    /// Counts a line and hands its content on.
    pub fn take<T>(&mut self, line: Option<T>) -> Option<T> {
        match line {
            Some(_) => self.good += 1,
            None => self.odd += 1,
        }
        line
    }

    /// How many were odd; `None` where no line was counted. Errs when not one line could be used.
    pub fn finish(self, path: &'static str) -> Result<Option<usize>, PartError> {
        match self {
            LineCount { good: 0, odd: 0 } => Ok(None),
            LineCount { good: 0, .. } => Err(PartError::Malformed { path }),
            LineCount { odd, .. } => Ok(Some(odd)),
        }
    }
}

/// A gauge.
pub const fn gauge(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    source: &'static str,
) -> MetricDesc {
    MetricDesc {
        name,
        kind: MetricKind::Gauge,
        unit,
        help,
        labels,
        source,
    }
}

/// A counter.
pub const fn counter(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    source: &'static str,
) -> MetricDesc {
    MetricDesc {
        name,
        kind: MetricKind::Counter,
        unit,
        help,
        labels,
        source,
    }
}

/// A number whose type node_exporter leaves open.
pub const fn untyped(name: &'static str, help: &'static str, source: &'static str) -> MetricDesc {
    MetricDesc {
        name,
        kind: MetricKind::Untyped,
        unit: "",
        help,
        labels: &[],
        source,
    }
}

/// The description with this name in a table sorted by name.
pub fn find(sorted: &'static [MetricDesc], name: &str) -> Option<&'static MetricDesc> {
    sorted
        .binary_search_by(|desc| desc.name.cmp(name))
        .ok()
        .map(|index| &sorted[index])
}

#[cfg(test)]
mod tests {
    use super::super::PARTS;
    use super::find;

    /// The parts that look names up have sorted tables.
    #[test]
    fn every_metric_of_a_sorted_table_is_found() {
        for part in PARTS
            .iter()
            .filter(|p| ["meminfo", "vmstat", "netstat", "sockstat", "hwmon"].contains(&p.name))
        {
            for desc in part.metrics {
                assert_eq!(
                    find(part.metrics, desc.name).map(|d| d.name),
                    Some(desc.name),
                    "{}",
                    part.name
                );
            }
        }
    }
}
