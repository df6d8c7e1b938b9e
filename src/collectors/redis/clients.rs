//! CLIENT LIST: <https://redis.io/docs/latest/commands/client-list/>. Names as redis_exporter has
//! them with `-export-client-list`.
//!
//! Only on request: a series for each client and figure, and a command that the server needs longer
//! for the more clients it has.

use crate::model::{Batch, MetricDesc, MetricKind, Timestamp};

use super::client::Reply;
use super::connect::CLIENT_NAME;

/// Clients that are shown at most.
const MAX_SHOWN: usize = 500;
/// Clients with which the list is not asked for: its text would take megabytes, and the server's
/// time.
pub const MAX_LISTED: f64 = 5000.0;

const CLIENT: &[&str] = &["id", "name"];

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> MetricDesc {
    MetricDesc {
        name,
        kind: MetricKind::Gauge,
        unit,
        help,
        labels: CLIENT,
        source: "CLIENT LIST",
    }
}

/// Metrics made here.
pub static METRICS: [MetricDesc; FIELDS.len() + 4] = [
    gauge(
        "redis_connected_client_channel_subscriptions_count",
        "",
        "Channels that the client has subscribed to; on request.",
    ),
    gauge(
        "redis_connected_client_pattern_matching_subscriptions_count",
        "",
        "Patterns that the client has subscribed to; on request.",
    ),
    gauge(
        "redis_connected_client_shard_channel_subscriptions_count",
        "",
        "Shard channels that the client has subscribed to; on request.",
    ),
    gauge(
        "redis_connected_client_query_buffer_length_bytes",
        "bytes",
        "Query buffer of the client in use; on request.",
    ),
    gauge(
        "redis_connected_client_query_buffer_free_space_bytes",
        "bytes",
        "Query buffer of the client not in use; on request.",
    ),
    gauge(
        "redis_connected_client_output_buffer_length_bytes",
        "bytes",
        "Fixed output buffer of the client in use; on request.",
    ),
    gauge(
        "redis_connected_client_output_list_length",
        "",
        "Replies queued for the client because its buffer is full; on request.",
    ),
    gauge(
        "redis_connected_client_output_buffer_memory_usage_bytes",
        "bytes",
        "Memory of the client's output buffers; on request.",
    ),
    gauge(
        "redis_connected_client_total_memory_consumed_bytes",
        "bytes",
        "Memory of the client in all its buffers; on request.",
    ),
    gauge(
        "redis_connected_client_created_at_timestamp",
        "seconds",
        "When the client connected, Unix time; on request.",
    ),
    gauge(
        "redis_connected_client_idle_since_timestamp",
        "seconds",
        "When the client last sent a command, Unix time; on request.",
    ),
    MetricDesc {
        name: "redis_connected_client_info",
        kind: MetricKind::Gauge,
        unit: "",
        help: "Who the client is, always 1; on request.",
        labels: &["db", "flags", "host", "id", "name", "resp", "user"],
        source: "CLIENT LIST",
    },
    MetricDesc {
        name: "redis_connected_clients_omitted",
        kind: MetricKind::Gauge,
        unit: "",
        help: "Clients that are not shown one by one because there are too many; on request.",
        labels: &[],
        source: "CLIENT LIST",
    },
];

/// The numbers of a client, in the order of [`METRICS`].
const FIELDS: [&str; 9] = [
    "sub",
    "psub",
    "ssub",
    "qbuf",
    "qbuf-free",
    "obl",
    "oll",
    "omem",
    "tot-mem",
];
const AGES: [&str; 2] = ["age", "idle"];

/// Reads the list. The collector itself is left out.
pub fn read(list: &Reply, now: Timestamp, batch: &mut Batch) {
    let clients = list
        .text()
        .unwrap_or_default()
        .lines()
        .filter(|line| line.starts_with("id="));
    let mut count = 0_usize;
    for client in clients.filter(|line| field(line, "name") != CLIENT_NAME) {
        count += 1;
        if count <= MAX_SHOWN {
            show(client, now, batch);
        }
    }
    batch.push(&METRICS[12], &[], count.saturating_sub(MAX_SHOWN) as f64);
}

fn show(client: &str, now: Timestamp, batch: &mut Batch) {
    let (id, name) = (field(client, "id"), field(client, "name"));
    let labels = [("id", id), ("name", name)];
    for (desc, key) in METRICS.iter().zip(FIELDS) {
        // Older servers know fewer.
        if let Ok(value) = field(client, key).parse() {
            batch.push(desc, &labels, value);
        }
    }
    for (desc, key) in METRICS[FIELDS.len()..].iter().zip(AGES) {
        if let Ok(age) = field(client, key).parse::<f64>() {
            batch.push(desc, &labels, (now.0 as f64 / 1000.0).floor() - age);
        }
    }
    // The port is that of one connection and of no use.
    let host = field(client, "addr")
        .rsplit_once(':')
        .map_or("", |(host, _)| host);
    let of = |key| field(client, key);
    let about = [
        ("db", of("db")),
        ("flags", of("flags")),
        ("host", host),
        ("id", id),
        ("name", name),
        ("resp", of("resp")),
        ("user", of("user")),
    ];
    batch.push(&METRICS[11], &about, 1.0);
}

/// The text behind `key=`; empty when there is none. No value holds a space: the server refuses
/// such names.
fn field<'a>(client: &'a str, key: &str) -> &'a str {
    client
        .split(' ')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_default()
}
