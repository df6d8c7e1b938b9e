//! The `redis` collector against a real Redis, with redis-cli as the second opinion.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, value};
use crate::servers::redis::Redis;
use crate::servers::wait_until;

fn golden(path: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/collectors")
        .join(path);
    if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
        std::fs::write(&path, got).expect("the golden file can be written");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        got,
        wanted,
        "{} (NIGHTBELL_UPDATE=1 rewrites it)",
        path.display()
    );
}

/// Names and types of families, one a line.
fn families(batch: &Batch) -> String {
    let mut lines: Vec<String> = batch
        .families
        .iter()
        .map(|(name, family)| format!("{name} {}\n", family.kind.as_str()))
        .collect();
    lines.sort();
    lines.concat()
}

fn filled() -> Redis {
    let redis = Redis::start(&[
        "--maxmemory",
        "64mb",
        "--latency-monitor-threshold",
        "1",
        "--slowlog-log-slower-than",
        "0",
    ]);
    for index in 0..30 {
        redis.cli(&["SET", &format!("session:{index}"), "x", "EX", "1000"]);
    }
    redis.cli(&["RPUSH", "queue", "a", "b", "c"]);
    redis.cli(&["GET", "session:1"]);
    redis.cli(&["GET", "nothing"]);
    redis.cli(&["LPUSH", "session:1", "wrong type"]);
    redis
}

/// Every family of redis_exporter that this server offers, and no other; see
/// tests/collectors/redis/families.txt.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_brings_the_families_of_the_established_exporter() {
    let redis = filled();
    redis.cli(&["DEBUG", "SLEEP", "0.01"]);
    redis.cli(&["CONFIG", "SET", "latency-monitor-threshold", "1"]);
    let yaml = format!(
        "url: {}\ncount_keys: ['session:*']\nkeys: [queue]\n",
        redis.url()
    );
    let mut collector = build("redis", &yaml);
    let (batch, result) = collect("redis", &mut collector).await;
    result.expect("all is well");
    // Whether the kernel was ever slow is not ours to say.
    golden(
        "redis/families.txt",
        &families(&batch).replace(
            "redis_latency_spike_duration_seconds gauge\nredis_latency_spike_last gauge\n",
            "",
        ),
    );
    assert_eq!(collector.address(), redis.url());
}

/// The values are the server's own, asked through another client.
#[tokio::test(flavor = "multi_thread")]
async fn values_agree_with_what_redis_cli_reads() {
    let redis = filled();
    let (batch, result) = collect(
        "redis",
        &mut build("redis", &format!("url: {}\n", redis.url())),
    )
    .await;
    result.expect("all is well");
    let of = |name: &str, labels: &[(&str, &str)]| {
        value(&batch, name, labels).unwrap_or_else(|| panic!("no {name}"))
    };
    for (metric, field) in [
        ("redis_memory_max_bytes", "maxmemory"),
        ("redis_keyspace_hits_total", "keyspace_hits"),
        ("redis_keyspace_misses_total", "keyspace_misses"),
        ("redis_process_id", "process_id"),
        ("redis_connected_slaves", "connected_slaves"),
        (
            "redis_rdb_changes_since_last_save",
            "rdb_changes_since_last_save",
        ),
        ("redis_evicted_keys_total", "evicted_keys"),
        ("redis_memory_used_startup_bytes", "used_memory_startup"),
        ("redis_total_system_memory_bytes", "total_system_memory"),
    ] {
        assert_eq!(
            of(metric, &[]),
            redis.info(field).parse::<f64>().expect("a number"),
            "{metric}"
        );
    }
    assert_eq!(of("redis_up", &[]), 1.0);
    assert_eq!(
        (
            of("redis_db_keys", &[("db", "db0")]),
            of("redis_db_keys_expiring", &[("db", "db0")])
        ),
        (31.0, 30.0)
    );
    assert_eq!(of("redis_db_keys", &[("db", "db15")]), 0.0);
    assert!((900.0..=1000.0).contains(&of("redis_db_avg_ttl_seconds", &[("db", "db0")])));
    assert_eq!(of("redis_commands_total", &[("cmd", "set")]), 30.0);
    assert_eq!(
        of("redis_commands_failed_calls_total", &[("cmd", "lpush")]),
        1.0
    );
    assert_eq!(of("redis_errors_total", &[("err", "WRONGTYPE")]), 1.0);
    assert_eq!(of("redis_config_maxmemory", &[]), 64.0 * 1024.0 * 1024.0);
    assert_eq!(
        of("redis_config_maxclients", &[]).to_string(),
        redis
            .cli(&["CONFIG", "GET", "maxclients"])
            .lines()
            .nth(1)
            .expect("a value")
    );
    assert_eq!(
        of(
            "redis_config_client_output_buffer_limit_bytes",
            &[("class", "pubsub"), ("limit", "soft")]
        ),
        8_388_608.0
    );
    assert_eq!(
        of("redis_commands_latencies_usec_count", &[("cmd", "set")]),
        30.0
    );
    assert_eq!(
        of(
            "redis_commands_latencies_usec_bucket",
            &[("cmd", "set"), ("le", "+Inf")]
        ),
        30.0
    );
    let seconds = of("redis_commands_duration_seconds_total", &[("cmd", "set")]);
    assert_eq!(
        of("redis_commands_latencies_usec_sum", &[("cmd", "set")]),
        (seconds * 1e6).round()
    );
    assert_eq!(
        of("redis_latency_percentiles_usec_count", &[("cmd", "set")]),
        30.0
    );
    assert!(
        of(
            "redis_latency_percentiles_usec",
            &[("cmd", "set"), ("quantile", "99")]
        ) > 0.0
    );
    assert!(of("redis_slowlog_length", &[]) > 30.0 && of("redis_slowlog_last_id", &[]) > 30.0);
    let started = of("redis_start_time_seconds", &[]);
    let server_now = redis
        .info("server_time_usec")
        .parse::<f64>()
        .expect("a number")
        / 1e6;
    assert!(
        (server_now
            - started
            - redis
                .info("uptime_in_seconds")
                .parse::<f64>()
                .expect("a number"))
        .abs()
            < 2.0
    );
    let info = &batch.families["redis_instance_info"].samples[0].labels;
    assert_eq!(
        (
            info.value("role"),
            info.value("redis_mode"),
            info.value("maxmemory_policy")
        ),
        ("master", "standalone", "noeviction")
    );
    assert_eq!(info.value("run_id"), redis.info("run_id"));
}

/// Both ends of a replication.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_and_its_primary_are_seen_from_both_ends() {
    let primary = Redis::start(&["--repl-diskless-sync-delay", "0"]);
    let port = primary.port.to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]);
    wait_until("the replica is online", Duration::from_secs(20), || {
        primary
            .cli(&["INFO", "replication"])
            .contains("state=online")
    });
    wait_until("the link is up", Duration::from_secs(20), || {
        replica.info("master_link_status") == "up"
    });
    let (batch, _) = collect(
        "redis",
        &mut build("redis", &format!("url: {}\n", primary.url())),
    )
    .await;
    assert_eq!(value(&batch, "redis_connected_slaves", &[]), Some(1.0));
    let labels = [
        ("slave_ip", "127.0.0.1"),
        ("slave_port", &replica.port.to_string()),
        ("slave_state", "online"),
    ];
    assert!(value(&batch, "redis_connected_slave_offset_bytes", &labels).is_some());
    assert!(value(&batch, "redis_connected_slave_lag_seconds", &labels).expect("a lag") <= 2.0);
    let (batch, _) = collect(
        "redis",
        &mut build("redis", &format!("url: {}\n", replica.url())),
    )
    .await;
    let labels = [("master_host", "127.0.0.1"), ("master_port", port.as_str())];
    assert_eq!(value(&batch, "redis_master_link_up", &labels), Some(1.0));
    assert_eq!(
        value(&batch, "redis_master_sync_in_progress", &labels),
        Some(0.0)
    );
    assert!(value(&batch, "redis_slave_repl_offset", &labels).is_some());
    assert_eq!(
        value(
            &batch,
            "redis_slave_info",
            &[labels[0], labels[1], ("read_only", "1")]
        ),
        Some(1.0)
    );
}

/// A node of a cluster and a sentinel say what they are.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_nodes_and_sentinels_are_understood() {
    let node = Redis::start(&["--cluster-enabled", "yes"]);
    node.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "99"]);
    let (batch, result) = collect(
        "redis",
        &mut build("redis", &format!("url: {}\n", node.url())),
    )
    .await;
    result.expect("all is well");
    let of = |name: &str| value(&batch, name, &[]);
    assert_eq!(
        (of("redis_cluster_enabled"), of("redis_cluster_state")),
        (Some(1.0), Some(0.0))
    );
    assert_eq!(
        (
            of("redis_cluster_slots_assigned"),
            of("redis_cluster_known_nodes")
        ),
        (Some(100.0), Some(1.0))
    );
    let primary = Redis::start(&[]);
    let sentinel = Redis::start_sentinel(&primary);
    let (batch, result) = collect(
        "redis",
        &mut build("redis", &format!("url: {}\n", sentinel.url())),
    )
    .await;
    result.expect("all is well");
    assert_eq!(value(&batch, "redis_sentinel_masters", &[]), Some(1.0));
    let address = format!("127.0.0.1:{}", primary.port);
    let labels = [
        ("master_name", "main"),
        ("master_address", address.as_str()),
    ];
    assert_eq!(
        value(
            &batch,
            "redis_sentinel_master_status",
            &[labels[0], labels[1], ("master_status", "ok")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value(&batch, "redis_sentinel_master_sentinels", &labels),
        Some(1.0)
    );
}

/// Patterns, single keys, streams, and the biggest keys; a large database is counted in bounded
/// steps.
#[tokio::test(flavor = "multi_thread")]
async fn configured_keys_are_counted_and_measured() {
    let redis = filled();
    redis.cli(&["XGROUP", "CREATE", "events", "workers", "$", "MKSTREAM"]);
    for _ in 0..3 {
        redis.cli(&["XADD", "events", "*", "f", "v"]);
    }
    redis.cli(&[
        "XREADGROUP",
        "GROUP",
        "workers",
        "w1",
        "COUNT",
        "2",
        "STREAMS",
        "events",
        ">",
    ]);
    redis.cli(&["-n", "3", "SET", "session:other", "x"]);
    redis.cli(&["SETRANGE", "whale", "100000", "x"]);
    redis.cli(&[
        "EVAL",
        "for i = 1, 25000 do redis.call('SET', 'bulk:' .. i, i) end",
        "0",
    ]);
    let yaml = format!(
        "url: {}\ncount_keys: ['session:*', 'db3=session:*', 'bulk:*']\nkeys: [queue, missing]\nstreams: [events]\nbig_keys: 2\n",
        redis.url()
    );
    let mut collector = build("redis", &yaml);
    let (batch, result) = collect("redis", &mut collector).await;
    result.expect("all is well");
    let counted = |batch: &Batch, db, pattern| {
        value(batch, "redis_keys_count", &[("db", db), ("key", pattern)])
    };
    assert_eq!(counted(&batch, "db3", "session:*"), Some(1.0));
    assert_eq!(
        counted(&batch, "db0", "bulk:*"),
        None,
        "25 000 keys take more than one collection"
    );
    let size = |key| value(&batch, "redis_key_size", &[("db", "db0"), ("key", key)]);
    assert_eq!((size("queue"), size("missing")), (Some(3.0), Some(0.0)));
    assert!(
        value(
            &batch,
            "redis_key_memory_usage_bytes",
            &[("db", "db0"), ("key", "queue")]
        )
        .expect("bytes")
            > 10.0
    );
    assert_eq!(
        value(&batch, "redis_stream_length", &[("stream", "events")]),
        Some(3.0)
    );
    let group = [("db", "db0"), ("stream", "events"), ("group", "workers")];
    let of = |name: &str| value(&batch, name, &group);
    assert_eq!(
        (
            of("redis_stream_group_messages_pending"),
            of("redis_stream_group_lag")
        ),
        (Some(2.0), Some(1.0))
    );
    assert_eq!(of("redis_stream_group_consumers"), Some(1.0));
    let mut last = batch;
    for _ in 0..200 {
        if counted(&last, "db0", "bulk:*").is_some()
            && value(&last, "redis_key_memory_usage_bytes", &[("key", "whale")]).is_some()
        {
            break;
        }
        last = collect("redis", &mut collector).await.0;
    }
    assert_eq!(
        (
            counted(&last, "db0", "bulk:*"),
            counted(&last, "db0", "session:*")
        ),
        (Some(25_000.0), Some(30.0))
    );
    assert!(
        value(
            &last,
            "redis_key_memory_usage_bytes",
            &[("db", "db0"), ("key", "whale")]
        )
        .expect("the biggest")
            > 100_000.0
    );
}

/// Every setting of the server is shown where that is asked for; no password is.
#[tokio::test(flavor = "multi_thread")]
async fn settings_are_shown_on_request_and_no_password_is() {
    let redis = filled();
    redis.cli(&["CONFIG", "SET", "masterauth", "hunter2"]);
    redis.cli(&["CONFIG", "SET", "masteruser", "hunter3"]);
    let (batch, result) = collect(
        "redis",
        &mut build(
            "redis",
            &format!("url: {}\nconfig_metrics: true\n", redis.url()),
        ),
    )
    .await;
    result.expect("all is well");
    let policy = [("key", "maxmemory-policy"), ("value", "noeviction")];
    assert_eq!(value(&batch, "redis_config_key_value", &policy), Some(1.0));
    let hz = redis
        .cli(&["CONFIG", "GET", "hz"])
        .lines()
        .nth(1)
        .and_then(|hz| hz.parse().ok());
    assert_eq!(value(&batch, "redis_config_value", &[("key", "hz")]), hz);
    assert!(!format!("{batch:?}").contains("hunter"));
    let (batch, _) = collect(
        "redis",
        &mut build("redis", &format!("url: {}\n", redis.url())),
    )
    .await;
    assert!(
        !batch.families.contains_key("redis_config_key_value")
            && !batch.families.contains_key("redis_config_value")
    );
}

/// Each client is shown where that is asked for; the collector itself is not.
#[tokio::test(flavor = "multi_thread")]
async fn clients_are_shown_one_by_one_on_request() {
    let redis = filled();
    redis.cli(&[
        "ACL",
        "SETUSER",
        "narrow",
        "on",
        ">s3cret-pass",
        "+ping",
        "+info",
    ]);
    let _waiting = redis.blocked("some-queue");
    let mut collector = build(
        "redis",
        &format!("url: {}\nclient_metrics: true\n", redis.url()),
    );
    let (batch, result) = collect("redis", &mut collector).await;
    result.expect("all is well");
    let info = &batch.families["redis_connected_client_info"].samples;
    assert_eq!(info.len(), 1, "{info:?}");
    let id = info[0].labels.value("id").to_owned();
    let client = [
        ("db", "0"),
        ("flags", "b"),
        ("host", "127.0.0.1"),
        ("name", ""),
        ("user", "default"),
        ("resp", "2"),
    ];
    assert_eq!(
        value(&batch, "redis_connected_client_info", &client),
        Some(1.0)
    );
    let of = |name: &str| {
        value(
            &batch,
            &format!("redis_connected_client_{name}"),
            &[("id", &id), ("name", "")],
        )
    };
    assert!(of("total_memory_consumed_bytes").expect("known") > 1000.0);
    let (created, idle) = (
        of("created_at_timestamp").expect("known"),
        of("idle_since_timestamp").expect("known"),
    );
    assert!(
        created > 1.7e9 && (idle - created).abs() < 90.0,
        "{created} {idle}"
    );
    assert_eq!(
        (
            of("channel_subscriptions_count"),
            value(&batch, "redis_connected_clients_omitted", &[])
        ),
        (Some(0.0), Some(0.0))
    );
    let narrow = format!(
        "url: redis://narrow:s3cret-pass@127.0.0.1:{}\nclient_metrics: true\n",
        redis.port
    );
    let (batch, result) = collect("redis", &mut build("redis", &narrow)).await;
    result.expect("a missing rule is no failure");
    assert_eq!(
        value(
            &batch,
            "redis_collector_permission_denied",
            &[("part", "clients")]
        ),
        Some(1.0)
    );
    let (batch, _) = collect(
        "redis",
        &mut build("redis", &format!("url: {}\n", redis.url())),
    )
    .await;
    assert!(!batch.families.contains_key("redis_connected_client_info"));
}

/// An ACL user with few rules sees what they allow, and the rest is named.
#[tokio::test(flavor = "multi_thread")]
async fn an_acl_user_costs_parts_and_says_so() {
    let redis = filled();
    redis.cli(&[
        "ACL",
        "SETUSER",
        "watcher",
        "on",
        ">s3cret-pass",
        "+ping",
        "+info",
        "+client|setname",
        "+slowlog|len",
        "+slowlog|get",
    ]);
    let url = format!("redis://watcher:s3cret-pass@127.0.0.1:{}", redis.port);
    let (batch, result) = collect(
        "redis",
        &mut build("redis", &format!("url: {url}\ncount_keys: ['a*']\n")),
    )
    .await;
    result.expect("a missing rule is no failure");
    assert_eq!(value(&batch, "redis_up", &[]), Some(1.0));
    let denied = |part| {
        value(
            &batch,
            "redis_collector_permission_denied",
            &[("part", part)],
        )
    };
    assert_eq!(
        ["info", "slowlog", "config", "latency", "keys"].map(denied),
        [0.0, 0.0, 1.0, 1.0, 1.0].map(Some)
    );
    assert_eq!(value(&batch, "redis_config_maxmemory", &[]), None);
    // A wrong password: down, and no secret in the message.
    let yaml = format!(
        "url: redis://127.0.0.1:{}\nusername: watcher\npassword: other-pass\n",
        redis.port
    );
    let (batch, result) = collect("redis", &mut build("redis", &yaml)).await;
    assert_eq!(value(&batch, "redis_up", &[]), Some(0.0));
    let reason = result.expect_err("refused").reason;
    assert!(
        reason.starts_with("connect: WRONGPASS")
            && !reason.contains("pass@")
            && !reason.contains("other-pass"),
        "{reason}"
    );
}

/// TLS with the server's own authority, and refused without it.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified() {
    let redis = Redis::start_with_tls();
    let url = format!("rediss://127.0.0.1:{}", redis.tls_port.expect("TLS"));
    let yaml = format!(
        "url: {url}\ntls_config: {{ca_file: {}, server_name: localhost}}\n",
        redis.certificate().display()
    );
    let mut collector = build("redis", &yaml);
    let (batch, result) = collect("redis", &mut collector).await;
    result.expect("all is well");
    assert_eq!(value(&batch, "redis_up", &[]), Some(1.0));
    assert_eq!(collector.address(), url);
    let (batch, result) = collect("redis", &mut build("redis", &format!("url: {url}\n"))).await;
    assert_eq!(value(&batch, "redis_up", &[]), Some(0.0));
    assert!(
        result
            .expect_err("not trusted")
            .reason
            .contains("certificate")
    );
    let (batch, _) = collect(
        "redis",
        &mut build(
            "redis",
            &format!("url: {url}\ntls_config: {{insecure_skip_verify: true}}\n"),
        ),
    )
    .await;
    assert_eq!(value(&batch, "redis_up", &[]), Some(1.0));
}

/// A socket file, with a password and redis-py's way to name the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_file_is_as_good_as_a_port() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("redis.sock");
    let redis = Redis::start(&["--unixsocket", &socket.display().to_string()]);
    redis.cli(&["-n", "3", "SET", "a", "x"]);
    redis.cli(&["CONFIG", "SET", "requirepass", "s3cret-pass"]);
    let yaml = format!(
        "url: unix://{}?db=3&password=s3cret-pass\nkeys: [a]\n",
        socket.display()
    );
    let mut collector = build("redis", &yaml);
    let (batch, result) = collect("redis", &mut collector).await;
    result.expect("all is well");
    assert_eq!(
        value(&batch, "redis_key_size", &[("db", "db3"), ("key", "a")]),
        Some(1.0)
    );
    assert_eq!(collector.address(), format!("unix://{}", socket.display()));
}

/// A server that stops is down at once, and up again in the first collection after it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_is_down_and_comes_back() {
    let mut redis = Redis::start(&[]);
    let mut collector = build("redis", &format!("url: {}\n", redis.url()));
    assert_eq!(
        value(&collect("redis", &mut collector).await.0, "redis_up", &[]),
        Some(1.0)
    );
    redis.stop();
    let (batch, result) = collect("redis", &mut collector).await;
    assert_eq!(value(&batch, "redis_up", &[]), Some(0.0));
    assert_eq!(
        batch.len(),
        6,
        "nothing old is repeated while the server is down"
    );
    assert!(result.expect_err("stopped").reason.starts_with("connect: "));
    redis.resume();
    let (batch, result) = collect("redis", &mut collector).await;
    result.expect("it is back");
    assert_eq!(value(&batch, "redis_up", &[]), Some(1.0));
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let (batch, result) = collect("redis", &mut collector).await;
    result.expect("a new connection");
    assert_eq!(value(&batch, "redis_up", &[]), Some(1.0));
}

/// A part that cannot be read is named, and costs neither the others nor `redis_up`: INFO renamed
/// away, a database that does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_cannot_be_read_costs_only_itself() {
    let redis = Redis::start(&[
        "--rename-command",
        "INFO",
        "",
        "--rename-command",
        "CONFIG",
        "",
    ]);
    redis.cli(&["SET", "a", "xyz"]);
    let yaml = format!(
        "url: {}\nkeys: [a, 'db99=b', 'db1=c']\ncount_keys: ['db99=*', 'a*']\n",
        redis.url()
    );
    let (batch, result) = collect("redis", &mut build("redis", &yaml)).await;
    result.expect("the server answers");
    let of = |name: &str, labels: &[(&str, &str)]| value(&batch, name, labels);
    assert_eq!(
        (
            of("redis_up", &[]),
            of("redis_exporter_last_scrape_error", &[])
        ),
        (Some(1.0), Some(1.0))
    );
    let part = |part: &str| of("redis_collector_part_success", &[("part", part)]);
    assert_eq!(
        (part("info"), part("keys"), part("slowlog"), part("config")),
        (Some(0.0), Some(0.0), Some(1.0), None)
    );
    assert_eq!(
        of("redis_key_size", &[("db", "db0"), ("key", "a")]),
        Some(3.0)
    );
    assert_eq!(
        of("redis_key_size", &[("db", "db1"), ("key", "c")]),
        Some(0.0)
    );
    assert_eq!(of("redis_key_size", &[("db", "db99")]), None);
    assert_eq!(
        of("redis_keys_count", &[("db", "db0"), ("key", "a*")]),
        Some(1.0)
    );
    assert_eq!(
        of(
            "redis_exporter_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))]
        ),
        Some(1.0)
    );
}

/// A server that runs a long script answers BUSY: it is up, and its parts are lost until the script
/// ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_up_and_its_parts_are_lost() {
    let redis = Redis::start(&["--lua-time-limit", "20"]);
    let port = redis.port.to_string();
    let mut collector = build("redis", &format!("url: {}\n", redis.url()));
    let mut script = std::process::Command::new("redis-cli")
        .args(["-p", &port, "EVAL", "while true do end", "0"])
        .spawn()
        .expect("redis-cli runs");
    wait_until("the script runs", Duration::from_secs(20), || {
        redis.cli(&["PING"]).contains("BUSY")
    });
    let (batch, result) = collect("redis", &mut collector).await;
    let of = |name: &str, labels: &[(&str, &str)]| value(&batch, name, labels);
    result.expect("it answers");
    assert_eq!(
        (
            of("redis_up", &[]),
            of("redis_exporter_last_scrape_error", &[])
        ),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(
        of("redis_collector_part_success", &[("part", "info")]),
        Some(0.0)
    );
    redis.cli(&["SCRIPT", "KILL"]);
    script.wait().expect("it ended");
    let (batch, result) = collect("redis", &mut collector).await;
    result.expect("it answers");
    assert_eq!(
        value(&batch, "redis_exporter_last_scrape_error", &[]),
        Some(0.0)
    );
}

/// What a server says unasked before it closes is the reason; a user without a password logs in
/// with an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_keeps_the_servers_reason() {
    let redis = Redis::start(&["--maxclients", "1"]);
    let mut held = std::net::TcpStream::connect(("127.0.0.1", redis.port)).expect("connected");
    held.write_all(b"PING\r\n")
        .and_then(|()| held.read_exact(&mut [0; 7]))
        .expect("the one address is taken");
    let protected = fake(|mut stream| {
        drop(stream.write_all(
            b"-DENIED Redis is running in protected mode because no password is set.\r\n",
        ))
    });
    for (port, wanted) in [
        (redis.port, "max number of clients reached"),
        (protected, "DENIED Redis is running in protected mode"),
    ] {
        let (batch, result) = collect(
            "redis",
            &mut build("redis", &format!("url: redis://127.0.0.1:{port}\n")),
        )
        .await;
        assert_eq!(value(&batch, "redis_up", &[]), Some(0.0));
        let reason = result.expect_err("refused").reason;
        assert!(reason.contains(wanted), "{reason}");
        let why = &batch.families["redis_failure_info"].samples[0].labels;
        assert!(
            why.value("message").contains(wanted) && why.value("url").ends_with(&port.to_string()),
            "{why}"
        );
    }
    drop(held);
    let redis = Redis::start(&[]);
    redis.cli(&["ACL", "SETUSER", "free", "on", "nopass", "~*", "+@all"]);
    redis.cli(&["ACL", "SETUSER", "default", "-@all", "+ping"]);
    let (batch, result) = collect(
        "redis",
        &mut build(
            "redis",
            &format!("url: redis://free@127.0.0.1:{}\n", redis.port),
        ),
    )
    .await;
    result.expect("logged in");
    assert!(
        value(&batch, "redis_memory_used_bytes", &[]).is_some(),
        "as the user that may see it"
    );
}

/// A server that accepts one connection after another and does `behave` with each.
fn fake(behave: fn(std::net::TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(behave));
    port
}

/// Never answering, streaming without end, answering garbage: only its own redis_up falls, within
/// the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_servers_cost_one_deadline_and_a_bounded_buffer() {
    let silent = fake(|mut stream| {
        let mut sink = [0; 1024];
        while stream.read(&mut sink).is_ok_and(|n| n > 0) {}
    });
    let endless =
        fake(|mut stream| while stream.write_all(b"+OK\r\n*1000000\r\n:1\r\n:1\r\n").is_ok() {});
    let garbage = fake(|mut stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n<html>")));
    let deep = fake(|mut stream| while stream.write_all(&b"*1\r\n".repeat(1000)).is_ok() {});
    let long = fake(|mut stream| while stream.write_all(&[b'+'; 4096]).is_ok() {});
    for (port, wanted) in [
        (silent, "timed out"),
        (endless, ""),
        (garbage, "connect: not a RESP reply"),
        (deep, "connect: not a RESP reply"),
        (long, "connect: a reply is larger than 8 MiB"),
    ] {
        let (batch, result) = collect(
            "redis",
            &mut build("redis", &format!("url: redis://127.0.0.1:{port}\n")),
        )
        .await;
        assert_eq!(value(&batch, "redis_up", &[]), Some(0.0));
        let reason = result.expect_err("hostile").reason;
        assert!(reason.contains(wanted), "{reason}");
    }
}

#[test]
fn mistakes_in_its_configuration_are_named() {
    let errors = try_build("redis", "url: http://x\ncount_key: [a]\n")
        .err()
        .expect("two mistakes")
        .to_string();
    assert!(errors.contains("url: is not a Redis URL"), "{errors}");
    assert!(errors.contains("did you mean \"count_keys\"?"), "{errors}");
    let errors = try_build(
        "redis",
        "url: redis://x\ntls_config: {insecure_skip_verify: true}\n",
    )
    .err()
    .expect("a mistake")
    .to_string();
    assert!(errors.contains("write rediss:// in the URL"), "{errors}");
}
