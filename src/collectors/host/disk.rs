//! `/proc/diskstats` and what udev knows of the disks (`Documentation/admin-guide/iostats.rst`).

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{lines, text, whole, words};

/// Block devices.
pub const PART: Part = Part {
    name: "diskstats",
    default: true,
    lane: Lane::Kernel,
    metrics: &METRICS,
    read,
};

/// Size of a sector in the kernel's counts, whatever the disk's own.
const SECTOR: f64 = 512.0;

const fn count(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    source: &'static str,
) -> MetricDesc {
    counter(name, unit, help, &["device"], source)
}

/// In the order of the columns of `/proc/diskstats`, then what is not in it.
const METRICS: [MetricDesc; 19] = [
    count(
        "node_disk_reads_completed_total",
        "",
        "Reads completed.",
        "/proc/diskstats field 4",
    ),
    count(
        "node_disk_reads_merged_total",
        "",
        "Reads merged with another.",
        "/proc/diskstats field 5",
    ),
    count(
        "node_disk_read_bytes_total",
        "bytes",
        "Bytes read.",
        "/proc/diskstats field 6",
    ),
    count(
        "node_disk_read_time_seconds_total",
        "seconds",
        "Time spent by all reads.",
        "/proc/diskstats field 7",
    ),
    count(
        "node_disk_writes_completed_total",
        "",
        "Writes completed.",
        "/proc/diskstats field 8",
    ),
    count(
        "node_disk_writes_merged_total",
        "",
        "Writes merged with another.",
        "/proc/diskstats field 9",
    ),
    count(
        "node_disk_written_bytes_total",
        "bytes",
        "Bytes written.",
        "/proc/diskstats field 10",
    ),
    count(
        "node_disk_write_time_seconds_total",
        "seconds",
        "Time spent by all writes.",
        "/proc/diskstats field 11",
    ),
    gauge(
        "node_disk_io_now",
        "",
        "Requests in flight.",
        &["device"],
        "/proc/diskstats field 12",
    ),
    count(
        "node_disk_io_time_seconds_total",
        "seconds",
        "Time in which requests were in flight.",
        "/proc/diskstats field 13",
    ),
    count(
        "node_disk_io_time_weighted_seconds_total",
        "seconds",
        "The same, times requests in flight.",
        "/proc/diskstats field 14",
    ),
    count(
        "node_disk_discards_completed_total",
        "",
        "Discards completed.",
        "/proc/diskstats field 15",
    ),
    count(
        "node_disk_discards_merged_total",
        "",
        "Discards merged with another.",
        "/proc/diskstats field 16",
    ),
    count(
        "node_disk_discarded_sectors_total",
        "",
        "Sectors discarded, of 512 bytes.",
        "/proc/diskstats field 17",
    ),
    count(
        "node_disk_discard_time_seconds_total",
        "seconds",
        "Time spent by all discards.",
        "/proc/diskstats field 18",
    ),
    count(
        "node_disk_flush_requests_total",
        "",
        "Flushes completed.",
        "/proc/diskstats field 19",
    ),
    count(
        "node_disk_flush_requests_time_seconds_total",
        "seconds",
        "Time spent by all flushes.",
        "/proc/diskstats field 20",
    ),
    INFO,
    FILESYSTEM,
];
/// What one unit of the column is worth, in the metric's unit.
const SCALES: [f64; 17] = [
    1.0, 1.0, SECTOR, 1e-3, 1.0, 1.0, SECTOR, 1e-3, 1.0, 1e-3, 1e-3, 1.0, 1.0, 1.0, 1e-3, 1.0, 1e-3,
];
const INFO: MetricDesc = gauge(
    "node_disk_info",
    "",
    "What the disk is, always 1.",
    &[
        "device",
        "major",
        "minor",
        "model",
        "path",
        "revision",
        "rotational",
        "serial",
        "wwn",
    ],
    "/run/udev/data, /sys/block/DEVICE/queue/rotational",
);
const FILESYSTEM: MetricDesc = gauge(
    "node_disk_filesystem_info",
    "",
    "The file system on the device, always 1.",
    &["device", "type", "usage", "uuid", "version"],
    "/run/udev/data",
);

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    let (mut devices, mut omitted) = (Vec::new(), 0);
    for line in lines(context.kernel.proc("diskstats")?) {
        let mut parts = words(line);
        let (Some(major), Some(minor), Some(device)) = (parts.next(), parts.next(), parts.next())
        else {
            context.memory.lines.odd += 1;
            continue;
        };
        let device = text(device).into_owned();
        if context.settings.disks_exclude.is_match(&device) {
            continue;
        }
        if devices.len() == context.settings.max_objects {
            omitted += 1;
            continue;
        }
        let values: Option<Vec<u64>> = parts.take(SCALES.len()).map(whole).collect();
        let Some(values) = context.memory.lines.take(values) else {
            continue;
        };
        for ((desc, scale), value) in METRICS.iter().zip(SCALES).zip(values) {
            let value = value as f64;
            // A division by a thousand rounds as decimal writing does; a multiplication by 0.001
            // does not.
            let value = if scale < 1.0 {
                value / 1000.0
            } else {
                value * scale
            };
            context.batch.push(desc, &[("device", &device)], value);
        }
        devices.push((text(major).into_owned(), text(minor).into_owned(), device));
    }
    context.memory.omitted = Some(omitted);
    for (major, minor, device) in devices {
        describe(context, &major, &minor, &device);
    }
    Ok(())
}

fn describe(context: &mut Context<'_>, major: &str, minor: &str, device: &str) {
    let queue = context
        .kernel
        .in_sys("block")
        .join(device)
        .join("queue/rotational");
    let rotational = context.kernel.text(&queue).unwrap_or_default().to_owned();
    let udev = context
        .kernel
        .in_root(&format!("run/udev/data/b{major}:{minor}"));
    let known = context.kernel.text(&udev).unwrap_or_default();
    let of = |key: &str| {
        known
            .lines()
            .find_map(|l| l.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or("")
    };
    let serial = [of("ID_SCSI_SERIAL"), of("ID_SERIAL_SHORT"), of("ID_SERIAL")]
        .into_iter()
        .find(|s| !s.is_empty())
        .unwrap_or("");
    let labels = [
        ("device", device),
        ("major", major),
        ("minor", minor),
        ("model", of("ID_MODEL")),
        ("path", of("ID_PATH")),
        ("revision", of("ID_REVISION")),
        ("rotational", &rotational),
        ("serial", serial),
        ("wwn", of("ID_WWN")),
    ];
    context.batch.push(&INFO, &labels, 1.0);
    if !of("ID_FS_TYPE").is_empty() {
        let labels = [
            ("device", device),
            ("type", of("ID_FS_TYPE")),
            ("usage", of("ID_FS_USAGE")),
            ("uuid", of("ID_FS_UUID")),
            ("version", of("ID_FS_VERSION")),
        ];
        context.batch.push(&FILESYSTEM, &labels, 1.0);
    }
}
