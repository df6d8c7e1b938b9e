//! `/sys/devices/system/cpu`: clock frequencies and thermal throttling
//! (`Documentation/admin-guide/pm/cpufreq.rst`).

use std::collections::BTreeSet;

use crate::model::MetricDesc;

use super::kernel::{PartError, names};
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::whole;

/// Frequencies and governors.
pub const FREQUENCY: Part = Part {
    name: "cpufreq",
    default: true,
    lane: Lane::Kernel,
    metrics: &FREQUENCIES,
    read: read_frequency,
};
/// Throttling.
pub const THROTTLE: Part = Part {
    name: "cpu_throttle",
    default: true,
    lane: Lane::Kernel,
    metrics: &[CORE, PACKAGE],
    read: read_throttle,
};

const GOVERNOR: MetricDesc = gauge(
    "node_cpu_scaling_governor",
    "",
    "1 for the frequency governor in force, 0 for the others.",
    &["cpu", "governor"],
    "/sys/devices/system/cpu/cpuN/cpufreq/scaling_governor",
);
const FREQUENCIES: [MetricDesc; 7] = [
    gauge(
        "node_cpu_frequency_hertz",
        "hertz",
        "Clock frequency now, as the hardware tells.",
        &["cpu"],
        "cpufreq/cpuinfo_cur_freq",
    ),
    gauge(
        "node_cpu_frequency_min_hertz",
        "hertz",
        "Lowest clock frequency of the hardware.",
        &["cpu"],
        "cpufreq/cpuinfo_min_freq",
    ),
    gauge(
        "node_cpu_frequency_max_hertz",
        "hertz",
        "Highest clock frequency of the hardware.",
        &["cpu"],
        "cpufreq/cpuinfo_max_freq",
    ),
    gauge(
        "node_cpu_scaling_frequency_hertz",
        "hertz",
        "Clock frequency now, as the governor set it.",
        &["cpu"],
        "cpufreq/scaling_cur_freq",
    ),
    gauge(
        "node_cpu_scaling_frequency_min_hertz",
        "hertz",
        "Lowest allowed clock frequency.",
        &["cpu"],
        "cpufreq/scaling_min_freq",
    ),
    gauge(
        "node_cpu_scaling_frequency_max_hertz",
        "hertz",
        "Highest allowed clock frequency.",
        &["cpu"],
        "cpufreq/scaling_max_freq",
    ),
    GOVERNOR,
];
const FREQUENCY_FILES: [&str; 6] = [
    "cpuinfo_cur_freq",
    "cpuinfo_min_freq",
    "cpuinfo_max_freq",
    "scaling_cur_freq",
    "scaling_min_freq",
    "scaling_max_freq",
];
const CORE: MetricDesc = counter(
    "node_cpu_core_throttles_total",
    "",
    "How often the core was slowed down for heat.",
    &["core", "package"],
    "cpuN/thermal_throttle/core_throttle_count",
);
const PACKAGE: MetricDesc = counter(
    "node_cpu_package_throttles_total",
    "",
    "How often the package was slowed down for heat.",
    &["package"],
    "cpuN/thermal_throttle/package_throttle_count",
);

/// The numbers of the CPUs below `/sys/devices/system/cpu`.
fn cpus(context: &Context<'_>) -> Result<Vec<String>, PartError> {
    let all = names(&context.kernel.in_sys("devices/system/cpu"))?;
    Ok(all
        .into_iter()
        .filter_map(|name| {
            name.strip_prefix("cpu")
                .filter(|id| whole(id.as_bytes()).is_some())
                .map(str::to_owned)
        })
        .collect())
}

fn read_frequency(context: &mut Context<'_>) -> Result<(), PartError> {
    if names(&context.kernel.in_sys("devices/system/cpu/cpufreq"))?.is_empty() {
        return Err(PartError::Absent);
    }
    for cpu in cpus(context)? {
        let folder = context
            .kernel
            .in_sys(&format!("devices/system/cpu/cpu{cpu}/cpufreq"));
        for (desc, file) in FREQUENCIES.iter().zip(FREQUENCY_FILES) {
            // The kernel counts in kilohertz.
            if let Some(value) = context.kernel.number(&folder.join(file)) {
                context.batch.push(desc, &[("cpu", &cpu)], value * 1000.0);
            }
        }
        let Some(now) = context
            .kernel
            .text(&folder.join("scaling_governor"))
            .map(str::to_owned)
        else {
            continue;
        };
        let Some(all) = context
            .kernel
            .text(&folder.join("scaling_available_governors"))
        else {
            continue;
        };
        for governor in all.split_ascii_whitespace() {
            context.batch.push(
                &GOVERNOR,
                &[("cpu", &cpu), ("governor", governor)],
                f64::from(u8::from(governor == now)),
            );
        }
    }
    Ok(())
}

fn read_throttle(context: &mut Context<'_>) -> Result<(), PartError> {
    let (mut cores, mut packages) = (BTreeSet::new(), BTreeSet::new());
    for cpu in cpus(context)? {
        let folder = context
            .kernel
            .in_sys(&format!("devices/system/cpu/cpu{cpu}"));
        let throttle = folder.join("thermal_throttle");
        let Some(count) = context.kernel.number(&throttle.join("core_throttle_count")) else {
            continue;
        };
        let topology = folder.join("topology");
        let Some(core) = context
            .kernel
            .text(&topology.join("core_id"))
            .map(str::to_owned)
        else {
            continue;
        };
        let Some(package) = context
            .kernel
            .text(&topology.join("physical_package_id"))
            .map(str::to_owned)
        else {
            continue;
        };
        if cores.insert((core.clone(), package.clone())) {
            context
                .batch
                .push(&CORE, &[("core", &core), ("package", &package)], count);
        }
        if packages.insert(package.clone())
            && let Some(count) = context
                .kernel
                .number(&throttle.join("package_throttle_count"))
        {
            context
                .batch
                .push(&PACKAGE, &[("package", &package)], count);
        }
    }
    if cores.is_empty() {
        Err(PartError::Absent)
    } else {
        Ok(())
    }
}
