//! Files that hold one number, or few in a row: file handles, entropy, hung tasks, SELinux.

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{signed, words};

/// Open file handles.
pub const FILEFD: Part = Part {
    name: "filefd",
    default: true,
    lane: Lane::Kernel,
    metrics: &[ALLOCATED, MAXIMUM],
    read: read_filefd,
};
/// The random number generator.
pub const ENTROPY: Part = Part {
    name: "entropy",
    default: true,
    lane: Lane::Kernel,
    metrics: &[AVAILABLE, POOL],
    read: read_entropy,
};
/// Tasks that hung.
pub const HUNG: Part = Part {
    name: "kernel_hung",
    default: true,
    lane: Lane::Kernel,
    metrics: &[HUNG_TASKS],
    read: read_hung,
};
/// SELinux.
pub const SELINUX: Part = Part {
    name: "selinux",
    default: true,
    lane: Lane::Kernel,
    metrics: &[ENABLED, CURRENT_MODE],
    read: read_selinux,
};

const ALLOCATED: MetricDesc = gauge(
    "node_filefd_allocated",
    "",
    "File handles in use.",
    &[],
    "/proc/sys/fs/file-nr field 1",
);
const MAXIMUM: MetricDesc = gauge(
    "node_filefd_maximum",
    "",
    "File handles there can be.",
    &[],
    "/proc/sys/fs/file-nr field 3",
);
const AVAILABLE: MetricDesc = gauge(
    "node_entropy_available_bits",
    "bits",
    "Entropy at hand.",
    &[],
    "/proc/sys/kernel/random/entropy_avail",
);
const POOL: MetricDesc = gauge(
    "node_entropy_pool_size_bits",
    "bits",
    "Entropy there can be.",
    &[],
    "/proc/sys/kernel/random/poolsize",
);
const HUNG_TASKS: MetricDesc = counter(
    "node_kernel_hung_tasks_total",
    "",
    "Tasks found hanging since the start.",
    &[],
    "/proc/sys/kernel/hung_task_detect_count",
);
const ENABLED: MetricDesc = gauge(
    "node_selinux_enabled",
    "",
    "1 when SELinux is on, else 0.",
    &[],
    "/sys/fs/selinux",
);
const CURRENT_MODE: MetricDesc = gauge(
    "node_selinux_current_mode",
    "",
    "1 when SELinux enforces, 0 when it only warns.",
    &[],
    "/sys/fs/selinux/enforce",
);

fn one(context: &mut Context<'_>, path: &'static str) -> Result<f64, PartError> {
    words(context.kernel.proc(path)?)
        .next()
        .and_then(signed)
        .ok_or(PartError::Malformed { path })
}

fn read_filefd(context: &mut Context<'_>) -> Result<(), PartError> {
    let path = "sys/fs/file-nr";
    let mut parts = words(context.kernel.proc(path)?).map(signed);
    let (Some(Some(allocated)), Some(_), Some(Some(maximum))) =
        (parts.next(), parts.next(), parts.next())
    else {
        return Err(PartError::Malformed { path });
    };
    context.batch.push(&ALLOCATED, &[], allocated);
    context.batch.push(&MAXIMUM, &[], maximum);
    Ok(())
}

fn read_entropy(context: &mut Context<'_>) -> Result<(), PartError> {
    let available = one(context, "sys/kernel/random/entropy_avail")?;
    context.batch.push(&AVAILABLE, &[], available);
    let pool = one(context, "sys/kernel/random/poolsize")?;
    context.batch.push(&POOL, &[], pool);
    Ok(())
}

fn read_hung(context: &mut Context<'_>) -> Result<(), PartError> {
    let count = one(context, "sys/kernel/hung_task_detect_count")?;
    context.batch.push(&HUNG_TASKS, &[], count);
    Ok(())
}

fn read_selinux(context: &mut Context<'_>) -> Result<(), PartError> {
    let enforce = context.kernel.in_sys("fs/selinux/enforce");
    let mode = context.kernel.number(&enforce);
    context
        .batch
        .push(&ENABLED, &[], f64::from(u8::from(mode.is_some())));
    if let Some(mode) = mode {
        context.batch.push(&CURRENT_MODE, &[], mode);
    }
    Ok(())
}
