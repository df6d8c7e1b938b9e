//! CONFIG GET, SLOWLOG and LATENCY: <https://redis.io/docs/latest/commands/config-get/>,
//! slowlog-get, latency-latest, latency-histogram.
//!
//! Names as redis_exporter. The arguments of slow commands are not kept: they may hold data.

use crate::model::Batch;
use crate::model::MetricKind::{Gauge, Histogram};

use super::client::Reply;
use super::info::Learned;
use super::samples;

metrics! {
    CONFIG_MAXMEMORY "redis_config_maxmemory" Gauge "bytes" &[], "Limit of the memory; 0 without one.", "CONFIG GET maxmemory";
    CONFIG_MAXCLIENTS "redis_config_maxclients" Gauge "" &[], "Clients that the server admits.", "CONFIG GET maxclients";
    CONFIG_IO_THREADS "redis_config_io_threads" Gauge "" &[], "I/O threads.", "CONFIG GET io-threads";
    CONFIG_REPL_BACKLOG_SIZE "redis_config_repl_backlog_size" Gauge "bytes" &[], "Size of the replication backlog.", "CONFIG GET repl-backlog-size";
    CONFIG_CLIENT_OUTPUT_BUFFER_LIMIT_BYTES "redis_config_client_output_buffer_limit_bytes" Gauge "bytes" &["class", "limit"], "Output buffer at which a client is cut off; 0 without a limit.", "CONFIG GET client-output-buffer-limit";
    CONFIG_CLIENT_OUTPUT_BUFFER_LIMIT_OVERCOME_SECONDS "redis_config_client_output_buffer_limit_overcome_seconds" Gauge "seconds" &["class", "limit"], "How long a client may be over the soft limit.", "CONFIG GET client-output-buffer-limit";
    SLOWLOG_LENGTH "redis_slowlog_length" Gauge "" &[], "Entries in the slow log.", "SLOWLOG LEN";
    SLOWLOG_LAST_ID "redis_slowlog_last_id" Gauge "" &[], "Number of the last entry of the slow log.", "SLOWLOG GET 1";
    LAST_SLOW_EXECUTION_DURATION_SECONDS "redis_last_slow_execution_duration_seconds" Gauge "seconds" &[], "Time of the last slow command.", "SLOWLOG GET 1";
    LATENCY_SPIKE_LAST "redis_latency_spike_last" Gauge "seconds" &["event_name"], "When the event last took long, Unix time.", "LATENCY LATEST";
    LATENCY_SPIKE_DURATION_SECONDS "redis_latency_spike_duration_seconds" Gauge "seconds" &["event_name"], "How long it took then.", "LATENCY LATEST";
    COMMANDS_LATENCIES_USEC "redis_commands_latencies_usec" Histogram "microseconds" &["cmd"], "Time of the command's calls.", "LATENCY HISTOGRAM";
    CONFIG_KEY_VALUE "redis_config_key_value" Gauge "" &["key", "value"], "A setting and its value, always 1; on request.", "CONFIG GET *";
    CONFIG_VALUE "redis_config_value" Gauge "" &["key"], "A setting that is a number; on request.", "CONFIG GET *";
}

/// The settings asked for.
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
    let desc = match name {
        "databases" => return value.parse().ok(),
        "client-output-buffer-limit" => {
            read_buffer_limits(value, batch);
            return None;
        }
        "maxmemory" => &CONFIG_MAXMEMORY,
        "maxclients" => &CONFIG_MAXCLIENTS,
        "io-threads" => &CONFIG_IO_THREADS,
        "repl-backlog-size" => &CONFIG_REPL_BACKLOG_SIZE,
        _ => return None,
    };
    batch.push(desc, &[], value.parse().ok()?);
    None
}

/// `normal 0 0 0 slave 268435456 67108864 60 …`: class, hard limit, soft limit, seconds.
fn read_buffer_limits(value: &str, batch: &mut Batch) {
    let words: Vec<&str> = value.split_whitespace().collect();
    for class in words.chunks_exact(4) {
        let amounts = [
            (&CONFIG_CLIENT_OUTPUT_BUFFER_LIMIT_BYTES, "hard", class[1]),
            (&CONFIG_CLIENT_OUTPUT_BUFFER_LIMIT_BYTES, "soft", class[2]),
            (
                &CONFIG_CLIENT_OUTPUT_BUFFER_LIMIT_OVERCOME_SECONDS,
                "soft",
                class[3],
            ),
        ];
        for (desc, limit, amount) in amounts {
            if let Ok(amount) = amount.parse() {
                batch.push(desc, &[("class", class[0]), ("limit", limit)], amount);
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
            batch.push(&CONFIG_KEY_VALUE, &[("key", key), ("value", value)], 1.0);
        }
        if let Ok(number) = value.parse::<f64>() {
            batch.push(&CONFIG_VALUE, &[("key", key)], number);
        }
    }
}

/// Reads the answers of SLOWLOG LEN and SLOWLOG GET 1.
pub fn read_slow_log(length: Option<&Reply>, last: Option<&Reply>, batch: &mut Batch) {
    if let Some(length) = length.and_then(Reply::number) {
        batch.push(&SLOWLOG_LENGTH, &[], length);
    }
    let Some(entries) = last.and_then(Reply::list) else {
        return;
    };
    let entry = entries.first().and_then(Reply::list).unwrap_or_default();
    let number = |index: usize| entry.get(index).and_then(Reply::number).unwrap_or_default();
    batch.push(&SLOWLOG_LAST_ID, &[], number(0));
    batch.push(&LAST_SLOW_EXECUTION_DURATION_SECONDS, &[], number(2) / 1e6);
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
            batch.push(&LATENCY_SPIKE_LAST, &[("event_name", name)], time);
            batch.push(
                &LATENCY_SPIKE_DURATION_SECONDS,
                &[("event_name", name)],
                milliseconds / 1000.0,
            );
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
        samples::histogram(
            &COMMANDS_LATENCIES_USEC,
            ("cmd", command),
            &buckets,
            sum,
            calls,
            batch,
        );
    }
}
