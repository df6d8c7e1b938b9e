//! The clock: time now, time zone, clock source (`/sys/devices/system/clocksource`).

use crate::model::{MetricDesc, Timestamp};

use super::kernel::{PartError, names};
use super::part::{Context, Lane, Part, gauge};
use super::scan::whole;

/// The clock.
pub const PART: Part = Part {
    name: "time",
    default: true,
    lane: Lane::Kernel,
    metrics: &[NOW, ZONE, AVAILABLE, CURRENT],
    read,
};

const NOW: MetricDesc = gauge(
    "node_time_seconds",
    "seconds",
    "The clock, as Unix time.",
    &[],
    "clock_gettime(2)",
);
const ZONE: MetricDesc = gauge(
    "node_time_zone_offset_seconds",
    "seconds",
    "Offset of the time zone from UTC.",
    &["time_zone"],
    "/etc/localtime",
);
const AVAILABLE: MetricDesc = gauge(
    "node_time_clocksource_available_info",
    "",
    "A clock source there is, always 1.",
    &["clocksource", "device"],
    "clocksourceN/available_clocksource",
);
const CURRENT: MetricDesc = gauge(
    "node_time_clocksource_current_info",
    "",
    "The clock source in use, always 1.",
    &["clocksource", "device"],
    "clocksourceN/current_clocksource",
);

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    context.batch.push(&NOW, &[], Timestamp::now().seconds());
    let now = jiff::Zoned::now();
    let zone = now.strftime("%Z").to_string();
    context.batch.push(
        &ZONE,
        &[("time_zone", &zone)],
        f64::from(now.offset().seconds()),
    );
    let folder = context.kernel.in_sys("devices/system/clocksource");
    let sources = match names(&folder) {
        Ok(sources) => sources,
        Err(PartError::Absent) => return Ok(()),
        Err(error) => return Err(error),
    };
    for device in sources
        .iter()
        .filter_map(|name| name.strip_prefix("clocksource"))
        .filter(|id| whole(id.as_bytes()).is_some())
    {
        let own = folder.join(format!("clocksource{device}"));
        for (desc, file) in [
            (&AVAILABLE, "available_clocksource"),
            (&CURRENT, "current_clocksource"),
        ] {
            for source in context
                .kernel
                .text(&own.join(file))
                .unwrap_or_default()
                .split_ascii_whitespace()
            {
                context
                    .batch
                    .push(desc, &[("clocksource", source), ("device", device)], 1.0);
            }
        }
    }
    Ok(())
}
