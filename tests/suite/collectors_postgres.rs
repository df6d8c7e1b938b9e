//! The `postgres` collector against a real PostgreSQL, with psql as the second opinion.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use nightbell::model::{Batch, MetricKind};

use crate::collecting::{build, collect, kind, try_build, value};
use crate::servers::postgres::Postgres;
use crate::servers::wait_until;

const SCHEMA: &str = "CREATE TABLE items (id serial PRIMARY KEY, v text); CREATE INDEX items_v ON items (v);
    INSERT INTO items (v) SELECT md5(g::text) FROM generate_series(1, 2000) g; DELETE FROM items WHERE id % 4 = 0; ANALYZE items;
    CREATE TABLE other (id int)";

fn server() -> Postgres {
    let postgres = Postgres::start(&[
        "shared_preload_libraries=pg_stat_statements",
        "max_connections=40",
        "autovacuum=off",
    ]);
    postgres.sql("postgres", "CREATE DATABASE app");
    postgres.sql("postgres", "CREATE EXTENSION pg_stat_statements");
    postgres.sql("app", SCHEMA);
    inserted(&postgres, "items", 2000);
    postgres
}

/// Waits until the statistics say so: a session publishes its own when it ends, which is after psql
/// has gone.
fn inserted(postgres: &Postgres, table: &str, rows: u32) {
    let sql = format!("SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = '{table}'");
    wait_until("the rows are counted", Duration::from_secs(20), || {
        postgres.sql("app", &sql) == rows.to_string()
    });
}

/// A session of another client that is connected and idle.
fn idle_session(postgres: &Postgres) -> crate::servers::Server {
    let mut session = postgres.session("app");
    session
        .0
        .stdin
        .as_mut()
        .expect("piped")
        .write_all(b"SELECT 1;\n")
        .expect("psql reads");
    wait_until("it is connected", Duration::from_secs(10), || {
        postgres.sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND state = 'idle'",
        ) == "1"
    });
    session
}

/// Names and types of families, one a line, settings folded into one.
fn families(batch: &Batch) -> String {
    let mut lines: Vec<String> = batch
        .families
        .iter()
        .filter(|(name, _)| !name.starts_with("pg_settings_"))
        .map(|(name, family)| format!("{name} {}\n", family.kind.as_str()))
        .collect();
    lines.sort();
    lines.concat()
}

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

/// Asserts that each line `label values|number` of psql's answer is what the metric says.
fn agrees(batch: &Batch, metric: &str, labels: &[&str], answer: &str) {
    assert!(!answer.is_empty(), "{metric}: the server has no answer");
    for line in answer.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let pairs: Vec<(&str, &str)> = labels.iter().copied().zip(fields.iter().copied()).collect();
        let wanted: f64 = fields[labels.len()].parse().expect("a number");
        assert_eq!(
            value(batch, metric, &pairs),
            Some(wanted),
            "{metric} {line}"
        );
    }
}

/// Every family of postgres_exporter that this server offers, and no other; see
/// tests/collectors/postgres/families.txt.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_brings_the_families_of_the_established_exporter() {
    let postgres = server();
    postgres.sql(
        "postgres",
        "SELECT pg_create_physical_replication_slot('standby', true)",
    );
    let _idle = idle_session(&postgres);
    let mut collector = build(
        "postgres",
        &format!("dsn: {}\n", postgres.dsn("postgres", "postgres")),
    );
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("all is well");
    golden("postgres/families.txt", &families(&batch));
    let settings = batch
        .families
        .keys()
        .filter(|name| name.starts_with("pg_settings_"))
        .count();
    let wanted = postgres.sql(
        "postgres",
        "SELECT count(*) FROM pg_settings WHERE vartype IN ('bool', 'integer', 'real')",
    );
    assert_eq!(settings.to_string(), wanted);
    assert!(
        batch
            .families
            .iter()
            .filter(|(n, _)| n.starts_with("pg_settings_"))
            .all(|(_, f)| f.kind == MetricKind::Gauge)
    );
    assert_eq!(
        collector.address(),
        format!("postgres://127.0.0.1:{}/postgres", postgres.port)
    );
    // Over its socket, too.
    let socket = format!(
        "dsn: postgres:///postgres?host={}&port={}&user=postgres\n",
        postgres.socket_folder().display(),
        postgres.port
    );
    let (batch, result) = collect("postgres", &mut build("postgres", &socket)).await;
    result.expect("all is well");
    assert_eq!(value(&batch, "pg_up", &[]), Some(1.0));
}

/// The values are the server's own, asked through another client.
#[tokio::test(flavor = "multi_thread")]
async fn values_agree_with_what_psql_reads() {
    let postgres = server();
    let mut collector = build(
        "postgres",
        &format!("dsn: {}\n", postgres.dsn("postgres", "postgres")),
    );
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("all is well");
    let of = |metric: &str, labels: &[&str], sql: &str, database: &str| {
        agrees(&batch, metric, labels, &postgres.sql(database, sql))
    };
    of(
        "pg_settings_shared_buffers_bytes",
        &[],
        "SELECT pg_size_bytes(current_setting('shared_buffers'))",
        "postgres",
    );
    of(
        "pg_settings_max_connections",
        &[],
        "SHOW max_connections",
        "postgres",
    );
    of(
        "pg_settings_deadlock_timeout_seconds",
        &[],
        "SELECT extract(epoch FROM current_setting('deadlock_timeout')::interval)",
        "postgres",
    );
    of(
        "pg_settings_statement_timeout_seconds",
        &[],
        "SELECT 0",
        "postgres",
    );
    of(
        "pg_database_size_bytes",
        &["datname"],
        "SELECT 'app', pg_database_size('app')",
        "postgres",
    );
    of(
        "pg_database_connection_limit",
        &["datname"],
        "SELECT datname, datconnlimit FROM pg_database",
        "postgres",
    );
    of(
        "pg_roles_connection_limit",
        &["rolname"],
        "SELECT rolname, rolconnlimit FROM pg_roles",
        "postgres",
    );
    of(
        "pg_stat_database_tup_inserted",
        &["datname"],
        "SELECT datname, tup_inserted FROM pg_stat_database WHERE datname = 'app'",
        "postgres",
    );
    of(
        "pg_stat_database_deadlocks",
        &["datid", "datname"],
        "SELECT datid, datname, deadlocks FROM pg_stat_database WHERE datid <> 0",
        "postgres",
    );
    let tables = "SELECT current_database(), schemaname, relname,";
    let labels = ["datname", "schemaname", "relname"];
    for column in [
        "n_live_tup",
        "n_dead_tup",
        "n_tup_ins",
        "n_tup_del",
        "n_tup_upd",
        "seq_scan",
        "analyze_count",
    ] {
        of(
            &format!("pg_stat_user_tables_{column}"),
            &labels,
            &format!("{tables} {column} FROM pg_stat_user_tables"),
            "app",
        );
    }
    of(
        "pg_stat_user_tables_last_analyze",
        &labels,
        &format!(
            "{tables} extract(epoch FROM last_analyze) FROM pg_stat_user_tables WHERE last_analyze IS NOT NULL"
        ),
        "app",
    );
    of(
        "pg_stat_user_tables_table_size_bytes",
        &labels,
        &format!("{tables} pg_table_size(relid) FROM pg_stat_user_tables"),
        "app",
    );
    of(
        "pg_statio_user_tables_heap_blocks_hit",
        &labels,
        &format!("{tables} heap_blks_hit FROM pg_statio_user_tables"),
        "app",
    );
    of(
        "pg_stat_user_indexes_size_bytes",
        &["datname", "schemaname", "relname", "indexrelname"],
        "SELECT current_database(), schemaname, relname, indexrelname, pg_relation_size(indexrelid) FROM pg_stat_user_indexes",
        "app",
    );
    of(
        "pg_unused_indexes",
        &["datname"],
        "SELECT 'app', count(*) FROM pg_stat_user_indexes JOIN pg_index USING (indexrelid) WHERE idx_scan = 0 AND NOT indisunique",
        "app",
    );
    of(
        "pg_postmaster_start_time_seconds",
        &[],
        "SELECT extract(epoch FROM pg_postmaster_start_time())",
        "postgres",
    );
    of(
        "pg_stat_bgwriter_checkpoints_timed_total",
        &[],
        "SELECT checkpoints_timed FROM pg_stat_bgwriter",
        "postgres",
    );
    of(
        "pg_stat_archiver_failed_count",
        &[],
        "SELECT failed_count FROM pg_stat_archiver",
        "postgres",
    );
    of(
        "pg_wal_segments",
        &[],
        "SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'",
        "postgres",
    );
    of("pg_replication_is_replica", &[], "SELECT 0", "postgres");
    let statement = "SELECT 'postgres', 'app', queryid, calls FROM pg_stat_statements WHERE query LIKE 'INSERT INTO items%'";
    of(
        "pg_stat_statements_calls_total",
        &["user", "datname", "queryid"],
        statement,
        "postgres",
    );
    let max_mode = value(
        &batch,
        "pg_locks_count",
        &[("datname", "app"), ("mode", "accessexclusivelock")],
    );
    assert_eq!(max_mode, Some(0.0));
    assert_eq!(value(&batch, "pg_up", &[]), Some(1.0));
}

/// Sessions by state, a long transaction, a lock that is not granted.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_waiting_locks_are_counted() {
    let postgres = server();
    let mut holder = postgres.session("app");
    let mut waiter = postgres.session("app");
    let lock =
        b"SET application_name = 'lock-test'; BEGIN; LOCK TABLE other IN ACCESS EXCLUSIVE MODE;\n";
    let asked = |count: &str| {
        let sql = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE relname = 'other'";
        wait_until("the lock is asked for", Duration::from_secs(10), || {
            postgres.sql("app", sql) == count
        });
    };
    for (session, count) in [(&mut holder, "1"), (&mut waiter, "2")] {
        session
            .0
            .stdin
            .as_mut()
            .expect("piped")
            .write_all(lock)
            .expect("psql reads");
        asked(count);
    }
    wait_until("one waits", Duration::from_secs(10), || {
        postgres.sql("app", "SELECT count(*) FROM pg_locks WHERE NOT granted") == "1"
    });
    let mut collector = build(
        "postgres",
        &format!("dsn: {}\n", postgres.dsn("postgres", "postgres")),
    );
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("all is well");
    let sessions = |state| {
        value(
            &batch,
            "pg_stat_activity_count",
            &[
                ("datname", "app"),
                ("state", state),
                ("application_name", "lock-test"),
            ],
        )
    };
    assert_eq!(sessions("idle in transaction"), Some(1.0));
    assert_eq!(sessions("active"), Some(1.0));
    assert_eq!(
        value(
            &batch,
            "pg_stat_activity_count",
            &[("datname", "app"), ("state", "disabled")]
        ),
        Some(0.0)
    );
    assert_eq!(value(&batch, "pg_locks_not_granted", &[]), Some(1.0));
    assert_eq!(
        value(
            &batch,
            "pg_locks_count",
            &[("datname", "app"), ("mode", "accessexclusivelock")]
        ),
        Some(2.0)
    );
    assert!(
        value(&batch, "pg_locks_oldest_wait_start_timestamp_seconds", &[]).expect("one waits")
            > 1e9
    );
    assert!(
        value(
            &batch,
            "pg_long_running_transactions_oldest_timestamp_seconds",
            &[]
        )
        .expect("an age")
            > 0.0
    );
    let size = |table| {
        value(
            &batch,
            "pg_stat_user_tables_table_size_bytes",
            &[("datname", "app"), ("relname", table)],
        )
    };
    assert_eq!(
        size("other"),
        None,
        "the size of a table under an exclusive lock is not waited for"
    );
    assert!(size("items").is_some());
    let total: f64 = batch.families["pg_stat_activity_count"]
        .samples
        .iter()
        .map(|s| s.value)
        .sum();
    assert_eq!(
        total, 2.0,
        "the two of ours; the collector does not count itself"
    );
}

/// With no privilege at all it still works, and says which part lacks what.
#[tokio::test(flavor = "multi_thread")]
async fn least_privilege_costs_parts_and_says_so() {
    let postgres = server();
    postgres.sql("postgres", "CREATE ROLE watcher LOGIN");
    let _idle = idle_session(&postgres);
    let yaml = format!("dsn: {}\n", postgres.dsn("watcher", "postgres"));
    let (batch, result) = collect("postgres", &mut build("postgres", &yaml)).await;
    result.expect("a missing privilege is no failure");
    let denied =
        |batch: &Batch, part| value(batch, "pg_collector_permission_denied", &[("part", part)]);
    assert_eq!(
        ["stat_activity", "wal", "stat_statements", "settings"].map(|p| denied(&batch, p)),
        [Some(1.0); 4]
    );
    assert_eq!(denied(&batch, "locks"), None, "locks need no privilege");
    assert_eq!(
        value(
            &batch,
            "pg_scrape_collector_success",
            &[("collector", "wal")]
        ),
        Some(0.0)
    );
    assert_eq!(
        value(
            &batch,
            "pg_scrape_collector_success",
            &[("collector", "locks")]
        ),
        Some(1.0)
    );
    assert_eq!(value(&batch, "pg_wal_segments", &[]), None);
    assert_eq!(
        value(
            &batch,
            "pg_stat_activity_count",
            &[("datname", "app"), ("state", "unknown")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value(
            &batch,
            "pg_stat_user_tables_n_live_tup",
            &[("datname", "app"), ("relname", "items")]
        ),
        Some(1500.0)
    );
    postgres.sql("postgres", "GRANT pg_monitor TO watcher");
    let (batch, result) = collect("postgres", &mut build("postgres", &yaml)).await;
    result.expect("all is well");
    assert_eq!(
        ["stat_activity", "wal", "stat_statements", "settings"].map(|p| denied(&batch, p)),
        [Some(0.0); 4]
    );
    assert_eq!(
        value(
            &batch,
            "pg_stat_activity_count",
            &[
                ("datname", "app"),
                ("state", "idle"),
                ("usename", "postgres")
            ]
        ),
        Some(1.0)
    );
    assert!(value(&batch, "pg_wal_segments", &[]).is_some());
    // A database that the role may not enter is counted, not tried.
    postgres.sql("postgres", "REVOKE CONNECT ON DATABASE app FROM public");
    let (batch, result) = collect("postgres", &mut build("postgres", &yaml)).await;
    result.expect("all is well");
    assert_eq!(
        value(
            &batch,
            "pg_collector_databases_skipped",
            &[("reason", "permission")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value(
            &batch,
            "pg_stat_user_tables_n_live_tup",
            &[("datname", "app"), ("relname", "items")]
        ),
        None
    );
}

/// Both ends of a replication: the replica and its slot on the primary, lag and receiver on the
/// replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_and_its_primary_are_seen_from_both_ends() {
    let primary = server();
    let standby = primary.standby();
    wait_until("it streams", Duration::from_secs(20), || {
        primary.sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'",
        ) == "1"
    });
    primary.sql("app", "INSERT INTO other VALUES (1)");
    let position = primary.sql("postgres", "SELECT pg_current_wal_lsn()");
    wait_until("it has replayed", Duration::from_secs(20), || {
        standby.sql(
            "postgres",
            &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"),
        ) == "t"
    });
    let (batch, result) = collect(
        "postgres",
        &mut build(
            "postgres",
            &format!("dsn: {}\n", primary.dsn("postgres", "postgres")),
        ),
    )
    .await;
    result.expect("all is well");
    assert_eq!(value(&batch, "pg_replication_is_replica", &[]), Some(0.0));
    let replica = [
        ("application_name", "walreceiver"),
        ("client_addr", "127.0.0.1"),
        ("slot_name", "standby"),
        ("state", "streaming"),
    ];
    assert!(
        value(&batch, "pg_stat_replication_pg_wal_lsn_diff", &replica).expect("a replica") >= 0.0
    );
    let written = value(
        &batch,
        "pg_stat_replication_pg_current_wal_lsn_bytes",
        &replica,
    )
    .expect("a position");
    let known: f64 = primary
        .sql("postgres", &format!("SELECT '{position}'::pg_lsn - '0/0'"))
        .parse()
        .expect("a number");
    assert!(written >= known);
    assert_eq!(
        value(
            &batch,
            "pg_replication_slots_active",
            &[("slot_name", "standby")]
        ),
        Some(1.0)
    );
    assert!(
        value(
            &batch,
            "pg_replication_slots_pg_wal_lsn_diff",
            &[("slot_name", "standby")]
        )
        .is_some()
    );
    let typed = [("slot_name", "standby"), ("slot_type", "physical")];
    assert_eq!(
        value(&batch, "pg_replication_slots_slot_is_active", &typed),
        Some(1.0)
    );
    assert_eq!(
        value(
            &batch,
            "pg_replication_slots_wal_status",
            &[typed[0], typed[1], ("wal_status", "reserved")]
        ),
        Some(1.0)
    );
    let mut collector = build(
        "postgres",
        &format!("dsn: {}\n", standby.dsn("postgres", "app")),
    );
    let started = std::time::Instant::now();
    let batch = loop {
        let (batch, result) = collect("postgres", &mut collector).await;
        result.expect("a replica answers all of it");
        // The primary writes a record of its own now and then: for a moment more has been received
        // than replayed.
        if value(&batch, "pg_replication_lag_seconds", &[]) == Some(0.0) {
            break batch;
        }
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "it has replayed all that it received, and still lags"
        );
    };
    assert_eq!(value(&batch, "pg_replication_is_replica", &[]), Some(1.0));
    assert!(value(&batch, "pg_replication_last_replay_seconds", &[]).expect("a time") < 60.0);
    let receiver = [
        ("upstream_host", "127.0.0.1"),
        ("slot_name", "standby"),
        ("status", "streaming"),
    ];
    assert_eq!(
        value(&batch, "pg_stat_wal_receiver_received_tli", &receiver),
        Some(1.0)
    );
    assert!(
        value(&batch, "pg_stat_wal_receiver_flushed_lsn", &receiver).expect("a position") >= known
    );
    assert!(
        value(
            &batch,
            "pg_stat_user_tables_n_live_tup",
            &[("datname", "app"), ("relname", "other")]
        )
        .is_some()
    );
}

/// The extension may live in any schema, and may be installed without being loaded: that costs its
/// part only.
#[tokio::test(flavor = "multi_thread")]
async fn statements_are_found_wherever_the_extension_lives() {
    let mut postgres = Postgres::start(&["shared_preload_libraries=pg_stat_statements"]);
    postgres.sql("postgres", "CREATE SCHEMA \"Ext\"");
    postgres.sql(
        "postgres",
        "CREATE EXTENSION pg_stat_statements SCHEMA \"Ext\"",
    );
    let yaml = format!("dsn: {}\n", postgres.dsn("postgres", "postgres"));
    let (batch, result) = collect("postgres", &mut build("postgres", &yaml)).await;
    result.expect("all is well");
    assert!(
        batch
            .families
            .contains_key("pg_stat_statements_calls_total")
    );
    postgres.stop();
    postgres.set(&[]);
    postgres.resume();
    let (batch, result) = collect("postgres", &mut build("postgres", &yaml)).await;
    result.expect("an extension that is not loaded is no failure");
    assert_eq!(
        value(
            &batch,
            "pg_scrape_collector_success",
            &[("collector", "stat_statements")]
        ),
        Some(0.0)
    );
}

/// The texts of statements are read on request only, with constants replaced, and never those that
/// the server stores as they are.
#[tokio::test(flavor = "multi_thread")]
async fn texts_of_statements_are_read_on_request_without_constants_and_without_secrets() {
    let postgres = server();
    postgres.sql(
        "app",
        "SELECT count(*) FROM items WHERE v = 'a secret value'",
    );
    postgres.sql("app", "CREATE ROLE somebody LOGIN PASSWORD 'hunter2'");
    let dsn = postgres.dsn("postgres", "postgres");
    let (batch, result) =
        collect("postgres", &mut build("postgres", &format!("dsn: {dsn}\n"))).await;
    result.expect("all is well");
    assert!(batch.notes.is_empty(), "not unless it is asked for");
    let (batch, result) = collect(
        "postgres",
        &mut build(
            "postgres",
            &format!("dsn: {dsn}\nstatements: {{text: true}}\n"),
        ),
    )
    .await;
    result.expect("all is well");
    let lines = batch
        .notes
        .iter()
        .flat_map(|note| &note.lines)
        .cloned()
        .collect::<Vec<String>>()
        .join("\n");
    assert!(
        lines.contains("\tSELECT count(*) FROM items WHERE v = $1"),
        "{lines}"
    );
    assert!(
        !lines.contains("secret") && !lines.contains("hunter2") && !lines.contains("nightbell"),
        "{lines}"
    );
}

/// A server that stops is down at once, and up again in the first collection after it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_is_down_and_comes_back() {
    let mut postgres = server();
    let mut collector = build(
        "postgres",
        &format!("dsn: {}\n", postgres.dsn("postgres", "app")),
    );
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("all is well");
    let first = batch.len();
    postgres.stop();
    let (batch, result) = collect("postgres", &mut collector).await;
    assert_eq!(value(&batch, "pg_up", &[]), Some(0.0));
    assert_eq!(
        value(&batch, "pg_exporter_last_scrape_error", &[]),
        Some(1.0)
    );
    assert_eq!(
        batch.len(),
        5,
        "nothing old is repeated while the server is down"
    );
    assert!(result.expect_err("stopped").reason.starts_with("connect: "));
    postgres.resume();
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("it is back");
    assert_eq!(value(&batch, "pg_up", &[]), Some(1.0));
    assert!(
        batch.len().abs_diff(first) < 100,
        "{first} samples before, {} after",
        batch.len()
    );
    // A session that the server ended in between is replaced without a gap.
    postgres.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nightbell'");
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("a new session");
    assert_eq!(value(&batch, "pg_up", &[]), Some(1.0));
}

/// What changes slowly is repeated, not asked again; the samples are complete each time.
#[tokio::test(flavor = "multi_thread")]
async fn slow_parts_are_repeated_between_readings() {
    let postgres = server();
    let mut collector = build(
        "postgres",
        &format!("dsn: {}\n", postgres.dsn("postgres", "app")),
    );
    let steady = |batch: &Batch| families(batch).replace("pg_process_idle_seconds histogram\n", "");
    let live = |batch: &Batch| {
        value(
            batch,
            "pg_stat_user_tables_n_tup_ins",
            &[("datname", "app"), ("relname", "other")],
        )
    };
    let (batch, _) = collect("postgres", &mut collector).await;
    assert_eq!(live(&batch), Some(0.0));
    postgres.sql("app", "INSERT INTO other VALUES (1)");
    inserted(&postgres, "other", 1);
    let (again, _) = collect("postgres", &mut collector).await;
    assert_eq!((live(&again), steady(&again)), (Some(0.0), steady(&batch)));
    // 60 s at 15 s: read again the fifth time.
    for _ in 0..2 {
        collect("postgres", &mut collector)
            .await
            .1
            .expect("all is well");
    }
    let (batch, _) = collect("postgres", &mut collector).await;
    assert_eq!(live(&batch), Some(1.0));
}

/// Rows beyond a limit are left out and counted.
#[tokio::test(flavor = "multi_thread")]
async fn limits_bound_the_series_and_are_visible() {
    let postgres = server();
    for index in 0..5 {
        postgres.sql("app", &format!("CREATE TABLE extra_{index} (id int)"));
    }
    postgres.sql("postgres", "CREATE DATABASE second");
    let yaml = format!(
        "dsn: {}\nmax_tables: 3\nmax_indexes: 1\nstatements: {{limit: 2}}\ndatabases: {{max: 2}}\n",
        postgres.dsn("postgres", "postgres")
    );
    let (batch, result) = collect("postgres", &mut build("postgres", &yaml)).await;
    result.expect("all is well");
    let series = |name: &str| batch.families[name].samples.len();
    assert_eq!(
        (
            series("pg_stat_user_tables_n_live_tup"),
            series("pg_stat_user_indexes_idx_scan"),
            series("pg_stat_statements_calls_total")
        ),
        (3, 1, 2)
    );
    let dropped = |part| value(&batch, "pg_collector_rows_dropped", &[("part", part)]);
    assert_eq!(
        (dropped("stat_user_tables"), dropped("stat_user_indexes")),
        (Some(4.0), Some(1.0))
    );
    assert!(dropped("stat_statements").expect("a limit") > 0.0);
    assert_eq!(
        value(
            &batch,
            "pg_collector_databases_skipped",
            &[("reason", "limit")]
        ),
        Some(1.0)
    );
    // The largest table is the one that is kept.
    assert!(
        value(
            &batch,
            "pg_stat_user_tables_n_live_tup",
            &[("relname", "items")]
        )
        .is_some()
    );
}

/// A server that answers, but not to everything, is up: only the part that waits for a lock is
/// missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_part_does_not_make_the_server_down() {
    let postgres = server();
    let mut holder = postgres.session("postgres");
    let lock = b"BEGIN; LOCK TABLE pg_stat_statements IN ACCESS EXCLUSIVE MODE;\n";
    holder
        .0
        .stdin
        .as_mut()
        .expect("piped")
        .write_all(lock)
        .expect("psql reads");
    wait_until("the lock is held", Duration::from_secs(20), || {
        let sql = "SELECT count(*) FROM pg_locks WHERE relation = 'pg_stat_statements'::regclass AND mode = 'AccessExclusiveLock' AND granted";
        postgres.sql("postgres", sql) == "1"
    });
    let mut collector = build(
        "postgres",
        &format!("dsn: {}\n", postgres.dsn("postgres", "postgres")),
    );
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("the server answers");
    assert_eq!(
        value(&batch, "pg_exporter_last_scrape_error", &[]),
        Some(1.0)
    );
    assert_eq!(value(&batch, "pg_up", &[]), Some(1.0));
    assert_eq!(
        value(
            &batch,
            "pg_scrape_collector_success",
            &[("collector", "stat_statements")]
        ),
        Some(0.0)
    );
    assert_eq!(
        value(
            &batch,
            "pg_scrape_collector_success",
            &[("collector", "settings")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value(
            &batch,
            "pg_stat_user_tables_n_live_tup",
            &[("datname", "app"), ("relname", "items")]
        ),
        Some(1500.0)
    );
}

/// A server that accepts and never answers costs one deadline, and only its own pg_up.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let mut collector = build(
        "postgres",
        &format!("dsn: postgres://u:hunter2@127.0.0.1:{port}/x\n"),
    );
    let (batch, result) = collect("postgres", &mut collector).await;
    assert_eq!(value(&batch, "pg_up", &[]), Some(0.0));
    let reason = result.expect_err("no answer").reason;
    assert_eq!(reason, "connect: timed out");
}

/// A server that streams without end, or is something else, is refused before anything is buffered.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_postgres_is_refused_at_once() {
    for (bytes, wanted) in [
        (&b"NNNNNNNNNNNNNNNN"[..], "connect: not a PostgreSQL server"),
        (
            b"HTTP/1.1 400 Bad Request\r\n",
            "connect: not a PostgreSQL server",
        ),
        (b"", "connect: the server closed the connection"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // What was asked is read first: a close with unread bytes would be a reset.
                let _asked = std::io::Read::read(&mut stream, &mut [0; 64]);
                while !bytes.is_empty() && stream.write_all(bytes).is_ok() {}
            }
        });
        let mut collector = build(
            "postgres",
            &format!("dsn: postgres://u@127.0.0.1:{port}/x\n"),
        );
        let (batch, result) = collect("postgres", &mut collector).await;
        assert_eq!(
            (
                value(&batch, "pg_up", &[]),
                result.expect_err("refused").reason.as_str()
            ),
            (Some(0.0), wanted)
        );
    }
}

/// A refused login names the role, never the password.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_shows_no_secret() {
    let postgres = server();
    let dsn = format!(
        "postgres://nobody:hunter2-secret@127.0.0.1:{}/hunter2-secret",
        postgres.port
    );
    let (batch, result) =
        collect("postgres", &mut build("postgres", &format!("dsn: {dsn}\n"))).await;
    assert_eq!(value(&batch, "pg_up", &[]), Some(0.0));
    let reason = result.expect_err("refused").reason;
    assert!(
        reason.contains("nobody") && !reason.contains("hunter2"),
        "{reason}"
    );
}

#[test]
fn mistakes_in_its_configuration_are_named() {
    let errors = try_build("postgres", "dsn: http://x\nmax_table: 3\n")
        .err()
        .expect("two mistakes")
        .to_string();
    assert!(errors.contains("dsn: is not a PostgreSQL URL"), "{errors}");
    assert!(errors.contains("did you mean \"max_tables\"?"), "{errors}");
    assert!(kind("postgres").metrics.len() > 20);
}
