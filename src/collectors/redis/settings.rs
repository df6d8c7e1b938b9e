//! CONFIG GET, SLOWLOG and LATENCY: <https://redis.io/docs/latest/commands/config-get/>,
//! slowlog-get, latency-latest, latency-histogram.
//!
//! Names as redis_exporter. The arguments of slow commands are not kept: they may hold data.

use crate::model::{Batch, MetricDesc, MetricKind};

use super::client::Reply;
use super::info::Learned;
use super::samples;

const fn gauge(
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

/// Metrics made here.
pub static METRICS: [MetricDesc; 14] = [
    gauge(
        "redis_config_maxmemory",
        "bytes",
        "Limit of the memory; 0 without one.",
        &[],
        "CONFIG GET maxmemory",
    ),
    gauge(
        "redis_config_maxclients",
        "",
        "Clients that the server admits.",
        &[],
        "CONFIG GET maxclients",
    ),
    gauge(
        "redis_config_io_threads",
        "",
        "I/O threads.",
        &[],
        "CONFIG GET io-threads",
    ),
    gauge(
        "redis_config_repl_backlog_size",
        "bytes",
        "Size of the replication backlog.",
        &[],
        "CONFIG GET repl-backlog-size",
    ),
    gauge(
        "redis_config_client_output_buffer_limit_bytes",
        "bytes",
        "Output buffer at which a client is cut off; 0 without a limit.",
        &["class", "limit"],
        "CONFIG GET client-output-buffer-limit",
    ),
    gauge(
        "redis_config_client_output_buffer_limit_overcome_seconds",
        "seconds",
        "How long a client may be over the soft limit.",
        &["class", "limit"],
        "CONFIG GET client-output-buffer-limit",
    ),
    gauge(
        "redis_slowlog_length",
        "",
        "Entries in the slow log.",
        &[],
        "SLOWLOG LEN",
    ),
    gauge(
        "redis_slowlog_last_id",
        "",
        "Number of the last entry of the slow log.",
        &[],
        "SLOWLOG GET 1",
    ),
    gauge(
        "redis_last_slow_execution_duration_seconds",
        "seconds",
        "Time of the last slow command.",
        &[],
        "SLOWLOG GET 1",
    ),
    gauge(
        "redis_latency_spike_last",
        "seconds",
        "When the event last took long, Unix time.",
        &["event_name"],
        "LATENCY LATEST",
    ),
    gauge(
        "redis_latency_spike_duration_seconds",
        "seconds",
        "How long it took then.",
        &["event_name"],
        "LATENCY LATEST",
    ),
    MetricDesc {
        name: "redis_commands_latencies_usec",
        kind: MetricKind::Histogram,
        unit: "microseconds",
        help: "Time of the command's calls.",
        labels: &["cmd"],
        source: "LATENCY HISTOGRAM",
    },
    gauge(
        "redis_config_key_value",
        "",
        "A setting and its value, always 1; on request.",
        &["key", "value"],
        "CONFIG GET *",
    ),
    gauge(
        "redis_config_value",
        "",
        "A setting that is a number; on request.",
        &["key"],
        "CONFIG GET *",
    ),
];

/// The settings asked for, those that are one number first, in the order of [`METRICS`].
pub const SETTINGS: [&str; 6] = [
    "maxmemory",
    "maxclients",
    "io-threads",
    "repl-backlog-size",
    "client-output-buffer-limit",
    "databases",
];

/// Histograms at most.
const MAX_COMMANDS: usize = 200;
/// Latency events at most.
const MAX_EVENTS: usize = 100;

/// Reads one answer of CONFIG GET. The number of databases is returned.
pub fn read_setting(reply: &Reply, batch: &mut Batch) -> Option<usize> {
    let [name, value] = reply.list()? else {
        return None;
    };
    let (name, value) = (name.text()?, value.text()?);
    match SETTINGS.iter().position(|setting| *setting == name)? {
        4 => read_buffer_limits(value, batch),
        5 => return value.parse().ok(),
        index => batch.push(&METRICS[index], &[], value.parse().ok()?),
    }
    None
}

/// `normal 0 0 0 slave 268435456 67108864 60 …`: class, hard limit, soft limit, seconds.
fn read_buffer_limits(value: &str, batch: &mut Batch) {
    let words: Vec<&str> = value.split_whitespace().collect();
    for class in words.chunks_exact(4) {
        let amounts = [
            (4, "hard", class[1]),
            (4, "soft", class[2]),
            (5, "soft", class[3]),
        ];
        for (metric, limit, amount) in amounts {
            if let Ok(amount) = amount.parse() {
                batch.push(
                    &METRICS[metric],
                    &[("class", class[0]), ("limit", limit)],
                    amount,
                );
            }
        }
    }
}

/// Settings at most, and the longest value of one that is shown as a label.
const MAX_SETTINGS: usize = 500;
const MAX_VALUE: usize = 200;

/// Reads the answer of CONFIG GET *: names and values in turn. What may be a secret is left out.
pub fn read_all(reply: &Reply, batch: &mut Batch) {
    for pair in reply
        .list()
        .unwrap_or_default()
        .chunks_exact(2)
        .take(MAX_SETTINGS)
    {
        let (Some(key), Some(value)) = (pair[0].text(), pair[1].text()) else {
            continue;
        };
        let is_secret = ["pass", "auth", "user", "secret", "token"]
            .iter()
            .any(|word| key.contains(word));
        if is_secret {
            continue;
        }
        if value.len() <= MAX_VALUE {
            batch.push(&METRICS[12], &[("key", key), ("value", value)], 1.0);
        }
        if let Ok(number) = value.parse::<f64>() {
            batch.push(&METRICS[13], &[("key", key)], number);
        }
    }
}

/// Reads the answers of SLOWLOG LEN and SLOWLOG GET 1.
pub fn read_slow_log(length: Option<&Reply>, last: Option<&Reply>, batch: &mut Batch) {
    if let Some(length) = length.and_then(Reply::number) {
        batch.push(&METRICS[6], &[], length);
    }
    let Some(entries) = last.and_then(Reply::list) else {
        return;
    };
    let entry = entries.first().and_then(Reply::list).unwrap_or_default();
    let number = |index: usize| entry.get(index).and_then(Reply::number).unwrap_or_default();
    batch.push(&METRICS[7], &[], number(0));
    batch.push(&METRICS[8], &[], number(2) / 1e6);
}

/// Reads the answer of LATENCY LATEST.
pub fn read_spikes(reply: &Reply, batch: &mut Batch) {
    for event in reply
        .list()
        .unwrap_or_default()
        .iter()
        .filter_map(Reply::list)
        .take(MAX_EVENTS)
    {
        if let [name, time, milliseconds, ..] = event
            && let (Some(name), Some(time), Some(milliseconds)) =
                (name.text(), time.number(), milliseconds.number())
        {
            batch.push(&METRICS[9], &[("event_name", name)], time);
            batch.push(&METRICS[10], &[("event_name", name)], milliseconds / 1000.0);
        }
    }
}

/// Reads the answer of LATENCY HISTOGRAM: command, then `calls`, n, `histogram_usec`, and bounds
/// with cumulative counts.
pub fn read_histograms(reply: &Reply, learned: &Learned, batch: &mut Batch) {
    for pair in reply
        .list()
        .unwrap_or_default()
        .chunks_exact(2)
        .take(MAX_COMMANDS)
    {
        let (Some(command), Some([_, calls, _, buckets])) = (pair[0].text(), pair[1].list()) else {
            continue;
        };
        let (Some(calls), Some(buckets)) = (calls.number(), buckets.list()) else {
            continue;
        };
        let buckets: Vec<(f64, f64)> = buckets
            .chunks_exact(2)
            .filter_map(|b| Some((b[0].number()?, b[1].number()?)))
            .collect();
        let sum = learned
            .microseconds
            .get(command)
            .copied()
            .unwrap_or_default();
        samples::histogram(&METRICS[11], ("cmd", command), &buckets, sum, calls, batch);
    }
}
