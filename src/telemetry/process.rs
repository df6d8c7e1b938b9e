//! What nightbell's own process uses, under the names that Prometheus's client libraries give it
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>), from
//! `/proc/self` (proc_pid_stat(5)).

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Reads them at each collection.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = ConstCounter::new(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
        let help = "Total user and system CPU time spent in seconds";
        seconds.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            help,
            None,
            MetricType::Counter,
        )?)?;
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            Some(value) => ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?),
            None => Ok(()),
        };
        // A resource without a limit is shown as Go's client shows it: the greatest number.
        let limit = |resource| {
            getrlimit(resource)
                .current
                .map_or(u64::MAX as f64, |limit| limit as f64)
        };
        let descriptors = fs::read_dir("/proc/self/fd")
            .ok()
            .map(|listed| listed.count().saturating_sub(1) as f64);
        gauge(
            "process_open_fds",
            "Number of open file descriptors",
            descriptors,
        )?;
        gauge(
            "process_max_fds",
            "Maximum number of open file descriptors",
            Some(limit(Resource::Nofile)),
        )?;
        let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let mut pages = pages.split_whitespace().map(|count| {
            count
                .parse::<f64>()
                .ok()
                .map(|count| count * page_size() as f64)
        });
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes",
            pages.next().flatten(),
        )?;
        gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes",
            pages.next().flatten(),
        )?;
        gauge(
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes",
            Some(limit(Resource::As)),
        )?;
        gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds",
            started(),
        )
    }
}

/// Field 22 of the process's statistics, in ticks since the machine started, which field `btime` of
/// the kernel's says.
fn started() -> Option<f64> {
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name may hold anything but ends with the last parenthesis; after it comes
    // field 3.
    let ticks: f64 = own
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let kernel = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = kernel
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(boot + ticks / clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::Telemetry;

    #[test]
    fn the_process_is_measured_under_the_names_of_the_client_libraries() {
        let page = Telemetry::new().encode();
        let value = |name: &str| -> f64 {
            let line = page
                .lines()
                .find(|line| line.split(' ').next() == Some(name))
                .unwrap_or_else(|| panic!("{name}: {page}"));
            line.rsplit(' ')
                .next()
                .and_then(|v| v.parse().ok())
                .expect("a number")
        };
        assert!(
            value("process_resident_memory_bytes") > 1e6
                && value("process_virtual_memory_bytes") > value("process_resident_memory_bytes")
        );
        assert!(
            value("process_open_fds") >= 3.0
                && value("process_max_fds") > value("process_open_fds")
        );
        assert!(
            value("process_cpu_seconds_total") > 0.0
                && value("process_virtual_memory_max_bytes") > 0.0
        );
        let age = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs_f64()
            - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "started {age} s ago");
        assert!(page.ends_with("# EOF\n") && page.matches("# EOF").count() == 1);
    }
}
