//! Reading the answer of INFO, <https://redis.io/docs/latest/commands/info/>: lines `key:value` in
//! sections headed by `# Section`.
//!
//! Fields that are one number are in [`super::fields`]; here are those with labels: commands,
//! errors, latencies, databases, replicas. Unknown fields are passed over: every version adds some.

use std::collections::HashMap;

use crate::model::{Batch, MetricDesc, MetricKind};

use super::fields::{FIELDS, Field};
use super::samples::summary;

const fn desc(
    kind: MetricKind,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDesc {
    MetricDesc {
        name,
        kind,
        unit,
        help,
        labels,
        source: "INFO",
    }
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDesc {
    desc(MetricKind::Counter, name, unit, help, labels)
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDesc {
    desc(MetricKind::Gauge, name, unit, help, labels)
}

const REPLICA: &[&str] = &["slave_ip", "slave_port", "slave_state"];
const PRIMARY: &[&str] = &["master_host", "master_port"];
const INSTANCE: [&str; 11] = [
    "role",
    "redis_version",
    "redis_build_id",
    "redis_mode",
    "os",
    "maxmemory_policy",
    "tcp_port",
    "run_id",
    "process_id",
    "master_replid",
    "valkey_version",
];

const CALLS: MetricDesc = counter(
    "redis_commands_total",
    "",
    "Calls of the command.",
    &["cmd"],
);
const SECONDS: MetricDesc = counter(
    "redis_commands_duration_seconds_total",
    "seconds",
    "Time spent in the command.",
    &["cmd"],
);
const REJECTED: MetricDesc = counter(
    "redis_commands_rejected_calls_total",
    "",
    "Calls refused before execution.",
    &["cmd"],
);
const FAILED: MetricDesc = counter(
    "redis_commands_failed_calls_total",
    "",
    "Calls that failed in execution.",
    &["cmd"],
);
const PERCENTILES: MetricDesc = desc(
    MetricKind::Summary,
    "redis_latency_percentiles_usec",
    "microseconds",
    "Percentiles of the command's time.",
    &["cmd"],
);
const ERRORS: MetricDesc = counter(
    "redis_errors_total",
    "",
    "Errors answered, by their first word.",
    &["err"],
);
const KEYS: MetricDesc = gauge("redis_db_keys", "", "Keys in the database.", &["db"]);
const EXPIRING: MetricDesc = gauge(
    "redis_db_keys_expiring",
    "",
    "Keys that will expire.",
    &["db"],
);
const TTL: MetricDesc = gauge(
    "redis_db_avg_ttl_seconds",
    "seconds",
    "Mean time that these keys have left.",
    &["db"],
);
const CACHED: MetricDesc = gauge(
    "redis_db_keys_cached",
    "",
    "Keys of the database held in memory (KeyDB).",
    &["db"],
);
const REPLICA_OFFSET: MetricDesc = gauge(
    "redis_connected_slave_offset_bytes",
    "bytes",
    "Replication offset of the replica.",
    REPLICA,
);
const REPLICA_LAG: MetricDesc = gauge(
    "redis_connected_slave_lag_seconds",
    "seconds",
    "Time since the replica last reported.",
    REPLICA,
);
const LINK_UP: MetricDesc = gauge(
    "redis_master_link_up",
    "",
    "1 when this replica is connected to its primary.",
    PRIMARY,
);
const LAST_IO: MetricDesc = gauge(
    "redis_master_last_io_seconds_ago",
    "seconds",
    "Time since the primary was last heard.",
    PRIMARY,
);
const SYNCING: MetricDesc = gauge(
    "redis_master_sync_in_progress",
    "",
    "1 while this replica loads everything anew.",
    PRIMARY,
);
const OWN_OFFSET: MetricDesc = gauge(
    "redis_slave_repl_offset",
    "bytes",
    "Replication offset of this replica.",
    PRIMARY,
);
const SLAVE_INFO: MetricDesc = gauge(
    "redis_slave_info",
    "",
    "1 on a replica; the labels name its primary.",
    &["master_host", "master_port", "read_only"],
);
const FORK: MetricDesc = gauge(
    "redis_latest_fork_seconds",
    "seconds",
    "Time the last fork took.",
    &[],
);
const STARTED: MetricDesc = gauge(
    "redis_start_time_seconds",
    "seconds",
    "When the server started, Unix time.",
    &[],
);
const INFO: MetricDesc = gauge(
    "redis_instance_info",
    "",
    "1; the labels say what the server is.",
    &INSTANCE,
);
const IO_THREAD: MetricDesc = counter(
    "redis_active_time_io_thread_seconds_total",
    "seconds",
    "Time that the I/O thread was busy.",
    &["thread"],
);

const MASTER: &[&str] = &["master_name", "master_address"];
const MASTER_STATUS: MetricDesc = gauge(
    "redis_sentinel_master_status",
    "",
    "1; the label says how the sentinel sees the primary.",
    &["master_name", "master_address", "master_status"],
);
const MASTER_REPLICAS: MetricDesc = gauge(
    "redis_sentinel_master_slaves",
    "",
    "Replicas of the primary.",
    MASTER,
);
const MASTER_SENTINELS: MetricDesc = gauge(
    "redis_sentinel_master_sentinels",
    "",
    "Sentinels that watch the primary.",
    MASTER,
);

/// Metrics made here.
pub static METRICS: [MetricDesc; 24] = [
    MASTER_STATUS,
    MASTER_REPLICAS,
    MASTER_SENTINELS,
    CALLS,
    SECONDS,
    REJECTED,
    FAILED,
    PERCENTILES,
    ERRORS,
    KEYS,
    EXPIRING,
    TTL,
    CACHED,
    REPLICA_OFFSET,
    REPLICA_LAG,
    LINK_UP,
    LAST_IO,
    SYNCING,
    OWN_OFFSET,
    SLAVE_INFO,
    FORK,
    STARTED,
    INFO,
    IO_THREAD,
];

/// Commands and errors beyond these numbers are left out: the server knows a few hundred commands
/// and 128 errors.
const MAX_COMMANDS: usize = 400;
const MAX_ERRORS: usize = 128;
/// Primaries that a sentinel watches, at most.
const MAX_MASTERS: usize = 100;

/// Reads answers; keeps what it needs for looking fields up.
pub struct Reader {
    fields: HashMap<&'static str, &'static Field, ahash::RandomState>,
}

/// What the rest of the collection wants to know.
#[derive(Default)]
pub struct Learned {
    /// Whether the server is part of a cluster.
    pub cluster: bool,
    /// Microseconds spent in each command, for the histograms.
    pub microseconds: HashMap<String, f64, ahash::RandomState>,
}

/// What is gathered while reading.
#[derive(Default)]
struct Seen<'a> {
    named: HashMap<&'a str, &'a str, ahash::RandomState>,
    commands: HashMap<&'a str, (f64, f64), ahash::RandomState>,
    errors: usize,
    databases: Vec<&'a str>,
}

impl Reader {
    /// Ready to read.
    pub fn new() -> Self {
        Reader {
            fields: FIELDS.iter().map(|field| (field.key, field)).collect(),
        }
    }

    /// Reads the answer of `CLUSTER INFO`.
    pub fn read_cluster(&self, text: &str, batch: &mut Batch) {
        for (key, value) in text
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'))
        {
            self.plain(key, value, batch);
        }
    }

    /// Reads the answer of `INFO ALL`. `databases` is how many there are; those that INFO leaves
    /// out are empty.
    pub fn read(&self, text: &str, databases: usize, batch: &mut Batch) -> Learned {
        let mut seen = Seen::default();
        let mut section = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# ") {
                section = name.trim_end();
            } else if let Some((key, value)) = line.trim_end().split_once(':') {
                match section {
                    "Commandstats" => command(key, value, &mut seen, batch),
                    "Latencystats" => percentiles(key, value, &seen, batch),
                    "Errorstats" => error(key, value, &mut seen, batch),
                    "Keyspace" => database(key, value, &mut seen, batch),
                    "Sentinel" if value.starts_with("name=") => watched_master(key, value, batch),
                    // CLUSTER INFO is asked for by itself.
                    "Cluster Info" => {}
                    _ => {
                        self.plain(key, value, batch);
                        seen.named.insert(key, value);
                    }
                }
            }
        }
        whole_server(&seen, batch);
        for name in (0..databases)
            .map(|n| format!("db{n}"))
            .filter(|n| !seen.databases.contains(&n.as_str()))
        {
            batch.push(&KEYS, &[("db", &name)], 0.0);
            batch.push(&EXPIRING, &[("db", &name)], 0.0);
        }
        Learned {
            cluster: seen.named.get("cluster_enabled") == Some(&"1"),
            microseconds: seen
                .commands
                .iter()
                .map(|(name, (_, usec))| ((*name).to_owned(), *usec))
                .collect(),
        }
    }

    fn plain(&self, key: &str, value: &str, batch: &mut Batch) {
        if let Some(field) = self.fields.get(key) {
            if let Some(number) = truth(value) {
                batch.push(&field.desc, &[], number);
            }
        } else if let Some(thread) = key.strip_prefix("used_active_time_io_thread_")
            && let Ok(seconds) = value.parse()
        {
            batch.push(&IO_THREAD, &[("thread", thread)], seconds);
        }
    }
}

fn truth(value: &str) -> Option<f64> {
    match value {
        "ok" | "true" => Some(1.0),
        "err" | "fail" | "false" => Some(0.0),
        number => number.parse().ok(),
    }
}

/// The value of `name` in `a=1,b=2`.
fn part<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(',')
        .find_map(|pair| pair.split_once('=').filter(|(n, _)| *n == name))
        .map(|(_, value)| value)
}

fn number(text: &str, name: &str) -> Option<f64> {
    part(text, name)?.parse().ok()
}

fn command<'a>(key: &'a str, value: &str, seen: &mut Seen<'a>, batch: &mut Batch) {
    let Some(name) = key.strip_prefix("cmdstat_") else {
        return;
    };
    let (Some(calls), Some(usec)) = (number(value, "calls"), number(value, "usec")) else {
        return;
    };
    if seen.commands.len() >= MAX_COMMANDS {
        return;
    }
    seen.commands.insert(name, (calls, usec));
    let labels = [("cmd", name)];
    batch.push(&CALLS, &labels, calls);
    batch.push(&SECONDS, &labels, usec / 1e6);
    for (desc, field) in [(&REJECTED, "rejected_calls"), (&FAILED, "failed_calls")] {
        if let Some(count) = number(value, field) {
            batch.push(desc, &labels, count);
        }
    }
}

fn percentiles(key: &str, value: &str, seen: &Seen<'_>, batch: &mut Batch) {
    let Some(name) = key.strip_prefix("latency_percentiles_usec_") else {
        return;
    };
    let Some((calls, usec)) = seen.commands.get(name) else {
        return;
    };
    let quantiles = value.split(',').filter_map(|pair| {
        let (quantile, value) = pair.split_once('=')?;
        Some((quantile.strip_prefix('p')?, value.parse().ok()?))
    });
    summary(&PERCENTILES, ("cmd", name), quantiles, *usec, *calls, batch);
}

fn error(key: &str, value: &str, seen: &mut Seen<'_>, batch: &mut Batch) {
    let Some(name) = key.strip_prefix("errorstat_") else {
        return;
    };
    if let Some(count) = number(value, "count")
        && seen.errors < MAX_ERRORS
    {
        seen.errors += 1;
        batch.push(&ERRORS, &[("err", name)], count);
    }
}

fn database<'a>(key: &'a str, value: &str, seen: &mut Seen<'a>, batch: &mut Batch) {
    let labels = [("db", key)];
    for (desc, field, unit) in [
        (&KEYS, "keys", 1.0),
        (&EXPIRING, "expires", 1.0),
        (&TTL, "avg_ttl", 1000.0),
        (&CACHED, "cached_keys", 1.0),
    ] {
        if let Some(amount) = number(value, field) {
            batch.push(desc, &labels, amount / unit);
        }
    }
    seen.databases.push(key);
}

/// `master0:name=mymaster,status=ok,address=127.0.0.1:6379,slaves=1,sentinels=3`.
fn watched_master(key: &str, value: &str, batch: &mut Batch) {
    let number_of = key
        .strip_prefix("master")
        .and_then(|n| n.parse::<usize>().ok());
    if number_of.is_none_or(|n| n >= MAX_MASTERS) {
        return;
    }
    let text = |name: &str| part(value, name).unwrap_or_default();
    let labels = [
        ("master_name", text("name")),
        ("master_address", text("address")),
    ];
    batch.push(
        &MASTER_STATUS,
        &[labels[0], labels[1], ("master_status", text("status"))],
        1.0,
    );
    for (desc, field) in [
        (&MASTER_REPLICAS, "slaves"),
        (&MASTER_SENTINELS, "sentinels"),
    ] {
        if let Some(count) = number(value, field) {
            batch.push(desc, &labels, count);
        }
    }
}

fn whole_server(seen: &Seen<'_>, batch: &mut Batch) {
    let text = |key: &str| seen.named.get(key).copied().unwrap_or_default();
    let value = |key: &str| seen.named.get(key).and_then(|v| v.parse::<f64>().ok());
    let mode = if text("redis_mode").is_empty() {
        text("server_mode")
    } else {
        text("redis_mode")
    };
    batch.push(
        &INFO,
        &INSTANCE.map(|label| {
            (
                label,
                if label == "redis_mode" {
                    mode
                } else {
                    text(label)
                },
            )
        }),
        1.0,
    );
    if let (Some(now), Some(uptime)) = (value("server_time_usec"), value("uptime_in_seconds")) {
        batch.push(&STARTED, &[], (now / 1e6).floor() - uptime);
    }
    if let Some(microseconds) = value("latest_fork_usec") {
        batch.push(&FORK, &[], microseconds / 1e6);
    }
    for (_, replica) in seen.named.iter().filter(|(key, _)| {
        key.strip_prefix("slave")
            .is_some_and(|n| n.parse::<u32>().is_ok())
    }) {
        let labels = [
            ("slave_ip", "ip"),
            ("slave_port", "port"),
            ("slave_state", "state"),
        ];
        let labels = labels.map(|(label, field)| (label, part(replica, field).unwrap_or_default()));
        for (desc, field) in [(&REPLICA_OFFSET, "offset"), (&REPLICA_LAG, "lag")] {
            if let Some(amount) = number(replica, field).filter(|n| *n >= 0.0) {
                batch.push(desc, &labels, amount);
            }
        }
    }
    if text("role") == "slave" {
        let primary = [
            ("master_host", text("master_host")),
            ("master_port", text("master_port")),
        ];
        batch.push(
            &SLAVE_INFO,
            &[
                primary[0],
                primary[1],
                ("read_only", text("slave_read_only")),
            ],
            1.0,
        );
        batch.push(
            &LINK_UP,
            &primary,
            f64::from(u8::from(text("master_link_status") == "up")),
        );
        for (desc, key) in [
            (&LAST_IO, "master_last_io_seconds_ago"),
            (&SYNCING, "master_sync_in_progress"),
            (&OWN_OFFSET, "slave_repl_offset"),
        ] {
            if let Some(amount) = value(key) {
                batch.push(desc, &primary, amount);
            }
        }
    }
}
