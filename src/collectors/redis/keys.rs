//! Keys that the configuration names: patterns counted with SCAN, sizes of single keys, streams,
//! and a running search for the biggest keys.
//!
//! SCAN goes on where the last collection stopped, a bounded number of steps each time, so that a
//! large database costs no more than a small one; a count is shown once its first round through the
//! database is complete. No value is ever read.

use std::io;

use crate::model::Batch;
use crate::model::MetricKind::Gauge;

use super::client::{Connection, Reply};
use super::config::Config;
use super::parts::Parts;

const KEY: &[&str] = &["db", "key"];
const STREAM: &[&str] = &["db", "stream"];
const GROUP: &[&str] = &["db", "stream", "group"];

metrics! {
    KEYS_COUNT "redis_keys_count" Gauge "" KEY, "Keys that match the pattern.", "SCAN";
    KEY_SIZE "redis_key_size" Gauge "" KEY, "Length or number of elements of the key; 0 when it does not exist.", "STRLEN, LLEN, SCARD, ZCARD, HLEN, XLEN";
    KEY_MEMORY_USAGE_BYTES "redis_key_memory_usage_bytes" Gauge "bytes" KEY, "Memory of the key.", "MEMORY USAGE";
    STREAM_LENGTH "redis_stream_length" Gauge "" STREAM, "Entries of the stream.", "XINFO STREAM";
    STREAM_RADIX_TREE_KEYS "redis_stream_radix_tree_keys" Gauge "" STREAM, "Keys of the stream's tree.", "XINFO STREAM";
    STREAM_RADIX_TREE_NODES "redis_stream_radix_tree_nodes" Gauge "" STREAM, "Nodes of the stream's tree.", "XINFO STREAM";
    STREAM_GROUPS "redis_stream_groups" Gauge "" STREAM, "Consumer groups of the stream.", "XINFO STREAM";
    STREAM_LAST_GENERATED_ID "redis_stream_last_generated_id" Gauge "milliseconds" STREAM, "Time part of the last id given out.", "XINFO STREAM";
    STREAM_GROUP_CONSUMERS "redis_stream_group_consumers" Gauge "" GROUP, "Consumers of the group.", "XINFO GROUPS";
    STREAM_GROUP_MESSAGES_PENDING "redis_stream_group_messages_pending" Gauge "" GROUP, "Messages delivered and not acknowledged.", "XINFO GROUPS";
    STREAM_GROUP_ENTRIES_READ "redis_stream_group_entries_read" Gauge "" GROUP, "Entries that the group has read.", "XINFO GROUPS";
    STREAM_GROUP_LAG "redis_stream_group_lag" Gauge "" GROUP, "Entries that the group has yet to read.", "XINFO GROUPS";
}

/// Steps of one SCAN in one collection, and how many keys each looks at.
const STEPS: usize = 10;
const STEP: &str = "1000";
/// Keys whose memory is asked for in one collection of the search for big keys.
const BIG_STEP: &str = "200";
/// Groups of one stream at most.
const MAX_GROUPS: usize = 50;

/// Where the SCANs stand.
pub struct Keys {
    patterns: Vec<Scan>,
    big: Big,
}

struct Scan {
    database: u32,
    pattern: String,
    cursor: String,
    counted: u64,
    last: Option<u64>,
}

/// The search for the biggest keys: this round's and the last complete round's, biggest first.
#[derive(Default)]
struct Big {
    cursor: Option<String>,
    found: Vec<(f64, String)>,
    last: Vec<(f64, String)>,
}

impl Keys {
    /// At the beginning.
    pub fn new(config: &Config) -> Self {
        let scan = |(database, pattern): &(u32, String)| Scan {
            database: *database,
            pattern: pattern.clone(),
            cursor: "0".into(),
            counted: 0,
            last: None,
        };
        Keys {
            patterns: config.count_keys.iter().map(scan).collect(),
            big: Big::default(),
        }
    }

    /// Measures everything that is configured.
    pub async fn measure(
        &mut self,
        config: &Config,
        connection: &mut Connection,
        parts: &mut Parts,
        batch: &mut Batch,
    ) -> io::Result<()> {
        for scan in &mut self.patterns {
            scan.step(connection, parts).await?;
            if let Some(count) = scan.last {
                batch.push(
                    &KEYS_COUNT,
                    &[
                        ("db", &format!("db{}", scan.database)),
                        ("key", &scan.pattern),
                    ],
                    count as f64,
                );
            }
        }
        for (database, key) in &config.keys {
            size(*database, key, connection, parts, batch).await?;
        }
        for (database, stream) in &config.streams {
            measure_stream(*database, stream, connection, parts, batch).await?;
        }
        if config.big_keys > 0 {
            self.big.step(config, connection, parts).await?;
            let database = format!("db{}", config.database);
            let shown = if self.big.last.is_empty() {
                &self.big.found
            } else {
                &self.big.last
            };
            for (bytes, key) in shown
                .iter()
                .filter(|(_, key)| !config.keys.contains(&(config.database, key.clone())))
            {
                batch.push(
                    &KEY_MEMORY_USAGE_BYTES,
                    &[("db", &database), ("key", key)],
                    *bytes,
                );
            }
        }
        Ok(())
    }
}

/// Runs commands in a database; `None` when one was refused.
async fn run(
    database: u32,
    commands: &[&[&str]],
    connection: &mut Connection,
    parts: &mut Parts,
) -> io::Result<Option<Vec<Reply>>> {
    let number = database.to_string();
    let select: &[&str] = &["SELECT", &number];
    let all: Vec<&[&str]> = std::iter::once(select)
        .chain(commands.iter().copied())
        .collect();
    let replies = connection.call(&all).await?;
    let accepted: Vec<Reply> = replies
        .into_iter()
        .filter_map(|reply| parts.accept("keys", reply))
        .collect();
    Ok((accepted.len() == all.len()).then(|| accepted.into_iter().skip(1).collect()))
}

/// The cursor and the keys of a SCAN's reply.
fn scanned(reply: &Reply) -> Option<(&str, &[Reply])> {
    match reply.list()? {
        [cursor, keys] => Some((cursor.text()?, keys.list()?)),
        _ => None,
    }
}

impl Scan {
    async fn step(&mut self, connection: &mut Connection, parts: &mut Parts) -> io::Result<()> {
        for _ in 0..STEPS {
            let command: &[&str] = &["SCAN", &self.cursor, "MATCH", &self.pattern, "COUNT", STEP];
            let Some(replies) = run(self.database, &[command], connection, parts).await? else {
                return Ok(());
            };
            let Some((cursor, keys)) = replies.first().and_then(scanned) else {
                return Ok(());
            };
            self.counted += keys.len() as u64;
            cursor.clone_into(&mut self.cursor);
            if self.cursor == "0" {
                self.last = Some(std::mem::take(&mut self.counted));
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Big {
    async fn step(
        &mut self,
        config: &Config,
        connection: &mut Connection,
        parts: &mut Parts,
    ) -> io::Result<()> {
        let cursor = self.cursor.take().unwrap_or_else(|| "0".into());
        let command: &[&str] = &["SCAN", &cursor, "COUNT", BIG_STEP];
        let Some(replies) = run(config.database, &[command], connection, parts).await? else {
            return Ok(());
        };
        let Some((cursor, keys)) = replies.first().and_then(scanned) else {
            return Ok(());
        };
        let keys: Vec<&str> = keys.iter().filter_map(Reply::text).collect();
        let words: Vec<[&str; 3]> = keys.iter().map(|key| ["MEMORY", "USAGE", key]).collect();
        let commands: Vec<&[&str]> = words.iter().map(<[&str; 3]>::as_slice).collect();
        if let Some(sizes) = run(config.database, &commands, connection, parts).await? {
            self.found.extend(
                keys.iter()
                    .zip(&sizes)
                    .filter_map(|(key, size)| Some((size.number()?, (*key).to_owned()))),
            );
        }
        self.found
            .sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        // SCAN may name a key twice.
        self.found.dedup();
        self.found.truncate(config.big_keys);
        if cursor == "0" {
            self.last = std::mem::take(&mut self.found);
        } else {
            self.cursor = Some(cursor.to_owned());
        }
        Ok(())
    }
}

async fn size(
    database: u32,
    key: &str,
    connection: &mut Connection,
    parts: &mut Parts,
    batch: &mut Batch,
) -> io::Result<()> {
    let Some(replies) = run(
        database,
        &[&["TYPE", key], &["MEMORY", "USAGE", key]],
        connection,
        parts,
    )
    .await?
    else {
        return Ok(());
    };
    let db = format!("db{database}");
    let labels = [("db", db.as_str()), ("key", key)];
    if let Some(bytes) = replies[1].number() {
        batch.push(&KEY_MEMORY_USAGE_BYTES, &labels, bytes);
    }
    let command = match replies[0].text().unwrap_or_default() {
        "string" => "STRLEN",
        "list" => "LLEN",
        "set" => "SCARD",
        "zset" => "ZCARD",
        "hash" => "HLEN",
        "stream" => "XLEN",
        "none" => {
            batch.push(&KEY_SIZE, &labels, 0.0);
            return Ok(());
        }
        _ => return Ok(()),
    };
    let Some(replies) = run(database, &[&[command, key]], connection, parts).await? else {
        return Ok(());
    };
    if let Some(length) = replies[0].number() {
        batch.push(&KEY_SIZE, &labels, length);
    }
    Ok(())
}

/// The value after `name` in a flat list of names and values.
fn field<'a>(list: &'a [Reply], name: &str) -> Option<&'a Reply> {
    list.chunks_exact(2)
        .find(|pair| pair[0].text() == Some(name))
        .map(|pair| &pair[1])
}

async fn measure_stream(
    database: u32,
    stream: &str,
    connection: &mut Connection,
    parts: &mut Parts,
    batch: &mut Batch,
) -> io::Result<()> {
    let commands: [&[&str]; 2] = [&["XINFO", "STREAM", stream], &["XINFO", "GROUPS", stream]];
    let Some(replies) = run(database, &commands, connection, parts).await? else {
        return Ok(());
    };
    let db = format!("db{database}");
    let about = replies[0].list().unwrap_or_default();
    let labels = [("db", db.as_str()), ("stream", stream)];
    for (desc, name) in [
        (&STREAM_LENGTH, "length"),
        (&STREAM_RADIX_TREE_KEYS, "radix-tree-keys"),
        (&STREAM_RADIX_TREE_NODES, "radix-tree-nodes"),
        (&STREAM_GROUPS, "groups"),
    ] {
        if let Some(amount) = field(about, name).and_then(Reply::number) {
            batch.push(desc, &labels, amount);
        }
    }
    let last = field(about, "last-generated-id")
        .and_then(Reply::text)
        .and_then(|id| id.split('-').next()?.parse().ok());
    if let Some(time) = last {
        batch.push(&STREAM_LAST_GENERATED_ID, &labels, time);
    }
    for group in replies[1]
        .list()
        .unwrap_or_default()
        .iter()
        .filter_map(Reply::list)
        .take(MAX_GROUPS)
    {
        let name = field(group, "name")
            .and_then(Reply::text)
            .unwrap_or_default();
        let labels = [labels[0], labels[1], ("group", name)];
        for (desc, name) in [
            (&STREAM_GROUP_CONSUMERS, "consumers"),
            (&STREAM_GROUP_MESSAGES_PENDING, "pending"),
            (&STREAM_GROUP_ENTRIES_READ, "entries-read"),
            (&STREAM_GROUP_LAG, "lag"),
        ] {
            if let Some(amount) = field(group, name).and_then(Reply::number) {
                batch.push(desc, &labels, amount);
            }
        }
    }
    Ok(())
}
