//! Queries of the configuration, against real PostgreSQL and SQLite; those of MySQL are in
//! collectors_mysql.rs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nightbell::collectors::{Collector, Memory, Target};
use nightbell::config::{Document, Environment, Loader};
use nightbell::model::{Batch, MetricKind};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{Connection as _, Executor as _};

use crate::collecting::{build, collect, kind, try_build, value};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::wait_until;

const SCHEMA: &str =
    "CREATE TABLE results (id serial PRIMARY KEY, status text, score numeric, made timestamptz, took interval, ok boolean, note text);
    INSERT INTO results (status, score, made, took, ok, note) VALUES
        ('new', 1.5, '2026-01-01 00:00:00+00', '1 day 02:00:00', true, '42'), ('old', 'NaN', NULL, '-30 seconds', false, NULL)";

fn server() -> Postgres {
    let postgres = Postgres::start(&["timezone=Asia/Shanghai"]);
    postgres.sql("postgres", SCHEMA);
    postgres
}

fn postgres(postgres: &Postgres, user: &str, queries: &str) -> Box<dyn Collector> {
    build(
        "postgres",
        &format!(
            "dsn: {}\nqueries:\n{queries}",
            postgres.dsn(user, "postgres")
        ),
    )
}

fn success(batch: &Batch, query: &str) -> Option<f64> {
    value(batch, "sql_query_success", &[("query", query)])
}

/// What the collector says of a query that failed.
fn said(collector: &dyn Collector, query: &str) -> String {
    let report = collector.report();
    let line = report
        .findings
        .iter()
        .find(|finding| finding.text.starts_with(&format!("query {query}: ")));
    line.map(|finding| finding.text.clone())
        .unwrap_or_else(|| panic!("nothing of {query}: {:?}", report.findings))
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_every_type_become_numbers_and_listed_texts_labels() {
    let server = server();
    let mut collector = postgres(
        &server,
        "postgres",
        "- name: results
  sql: \"SELECT status, score, made, took, ok, note, made::date AS day, 'a'::name AS named, id, NULL::int AS nothing FROM results; -- all\"
  labels: [status]
  columns: {score: {help: 'How good they are.'}, id: {type: counter}}
- {name: since, sql: \"SELECT made, 7::oid AS o, 'infinity'::float8 AS far, 12.5::numeric(10,2) AS cost, 9007199254740993 AS big FROM results WHERE ok\"}
- {name: mine, sql: \"SELECT count(*) AS \\\"Count (All)\\\" FROM results\"}\n",
    );
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("all is well");
    let of = |metric: &str, status: &str| value(&batch, metric, &[("status", status)]);
    assert_eq!(
        (
            of("sql_results_score", "new"),
            of("sql_results_ok", "new"),
            of("sql_results_ok", "old")
        ),
        (Some(1.5), Some(1.0), Some(0.0))
    );
    assert_eq!(
        (of("sql_results_made", "new"), of("sql_results_made", "old")),
        (Some(1_767_225_600.0), None)
    );
    assert_eq!(
        (of("sql_results_took", "new"), of("sql_results_took", "old")),
        (Some(93_600.0), Some(-30.0))
    );
    assert!(of("sql_results_score", "old").is_some_and(f64::is_nan));
    assert_eq!(
        success(&batch, "since"),
        Some(1.0),
        "{:?}",
        collector.report().findings
    );
    // A date is its midnight without a zone; a text is no number, whatever it looks like; NULL is
    // nothing.
    assert_eq!(of("sql_results_day", "new"), Some(1_767_225_600.0));
    assert!(!batch.families.keys().any(|name| {
        [
            "sql_results_note",
            "sql_results_named",
            "sql_results_nothing",
        ]
        .contains(&&**name)
    }));
    assert_eq!(
        (
            batch.families["sql_results_id"].kind,
            batch.families["sql_results_score"].kind
        ),
        (MetricKind::Counter, MetricKind::Gauge)
    );
    assert_eq!(
        batch.families["sql_results_score"].help,
        "How good they are."
    );
    let one = |metric: &str| value(&batch, metric, &[]);
    assert_eq!(
        (
            one("sql_since_o"),
            one("sql_since_far"),
            one("sql_since_cost")
        ),
        (Some(7.0), Some(f64::INFINITY), Some(12.5))
    );
    assert_eq!(
        (one("sql_mine_Count_All"), one("sql_since_big")),
        (Some(2.0), Some(9_007_199_254_740_992.0))
    );
    for query in ["results", "since", "mine"] {
        assert_eq!(success(&batch, query), Some(1.0), "{query}");
    }
    assert_eq!(
        value(&batch, "sql_query_rows", &[("query", "results")]),
        Some(2.0)
    );
    assert!(
        value(
            &batch,
            "sql_query_duration_seconds",
            &[("query", "results")]
        )
        .is_some_and(|took| took > 0.0)
    );
    assert_eq!(
        said(&*collector, "results"),
        "query results: text columns that are no labels are left out: note, named"
    );
}

/// Whatever a statement tries, nothing is written, no lock stays, no setting changes; each costs
/// only itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_would_write_or_lock_changes_nothing() {
    let server = server();
    server.sql(
        "postgres",
        "CREATE SEQUENCE s; CREATE FUNCTION sneaky() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM results; RETURN 1; END $$",
    );
    server.sql("postgres", "CREATE FUNCTION ends() RETURNS int LANGUAGE plpgsql AS $$ BEGIN COMMIT; DELETE FROM results; RETURN 1; END $$");
    let statements = [
        "SELECT id FROM results FOR UPDATE",
        "SELECT nextval('s') AS n",
        "SELECT setval('s', 5) AS n",
        "SELECT sneaky() AS n",
        "SELECT ends() AS n",
        "WITH gone AS (DELETE FROM results RETURNING id) SELECT count(*) AS n FROM gone",
        "SELECT id INTO copy FROM results",
        "SELECT set_config('transaction_read_only', 'off', false)::text = '' AS n",
        "SELECT 1 AS a) AS nightbell (a) ON true LEFT JOIN (SELECT 1 AS a",
        "SELECT $1::int AS n",
    ];
    let queries: Vec<String> = statements
        .iter()
        .enumerate()
        .map(|(index, sql)| format!("- {{name: q{index}, sql: {sql:?}, max_rows: 1000}}\n"))
        .collect();
    let more = "- {name: set, sql: \"SELECT length(set_config('work_mem', '123MB', false)) AS n, pg_advisory_xact_lock(1)::text\"}\n- {name: well, sql: SELECT 7 AS n}\n";
    let mut collector = postgres(&server, "postgres", &(queries.concat() + more));
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("a query costs only itself");
    for (index, sql) in statements.iter().enumerate() {
        assert_eq!(success(&batch, &format!("q{index}")), Some(0.0), "{sql}");
    }
    assert!(
        said(&*collector, "q0")
            .contains("cannot execute SELECT FOR UPDATE in a read-only transaction"),
        "{}",
        said(&*collector, "q0")
    );
    assert_eq!(
        (
            value(&batch, "sql_well_n", &[]),
            value(&batch, "pg_up", &[])
        ),
        (Some(7.0), Some(1.0))
    );
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM results"), "2");
    assert_eq!(
        server.sql("postgres", "SELECT last_value, is_called FROM s"),
        "1|f"
    );
    assert_eq!(
        server.sql(
            "postgres",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        ),
        "0"
    );
    assert_eq!(
        server.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nightbell' AND xact_start IS NOT NULL"),
        "0"
    );
    // What was set for the session is undone with the transaction.
    let mut collector = postgres(
        &server,
        "postgres",
        "- {name: set, sql: \"SELECT set_config('work_mem', '123MB', false) = '' AS n\"}\n- {name: get, sql: \"SELECT current_setting('work_mem') = '123MB' AS n\"}\n",
    );
    let (batch, _) = collect("postgres", &mut collector).await;
    assert_eq!(value(&batch, "sql_get_n", &[]), Some(0.0));
}

/// The same on every version that there is. What functions say on the way is not heard: it would be
/// a line in the log each.
#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_the_server_gives_the_same() {
    for server in Postgres::each(&[]) {
        server.sql("postgres", SCHEMA);
        server.sql(
            "postgres",
            "CREATE DOMAIN price AS numeric; CREATE TYPE mood AS ENUM ('sad', 'glad')",
        );
        server.sql("postgres", "CREATE FUNCTION loud() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'hear me'; RETURN 1; END $$");
        let mut collector = postgres(
            &server,
            "postgres",
            "- {name: all, sql: \"SELECT 'glad'::mood AS mood, 2.5::price AS price, took, ok, loud() AS loud FROM results WHERE ok\", labels: [mood]}
- {name: writes, sql: WITH gone AS (DELETE FROM results RETURNING id) SELECT count(*) AS n FROM gone}
- {name: locks, sql: SELECT id FROM results FOR SHARE}
- {name: counts, sql: SELECT count(*) AS n FROM results}\n",
        );
        let (batch, result) = collect("postgres", &mut collector).await;
        result.expect("all is well");
        let of = |metric: &str| value(&batch, metric, &[("mood", "glad")]);
        assert_eq!(
            (
                of("sql_all_price"),
                of("sql_all_took"),
                of("sql_all_ok"),
                of("sql_all_loud")
            ),
            (Some(2.5), Some(93_600.0), Some(1.0), Some(1.0))
        );
        assert_eq!(
            (
                success(&batch, "writes"),
                success(&batch, "locks"),
                value(&batch, "sql_counts_n", &[])
            ),
            (Some(0.0), Some(0.0), Some(2.0))
        );
    }
}

/// Neither the configuration as others may see it nor a mistake's message holds a statement.
#[test]
fn a_statement_is_shown_nowhere() {
    let yaml =
        "dsn: postgres://u@h/d\nqueries:\n- {name: a, sql: \"SELECT f('hunter2-hunter2') AS n\"}\n";
    let (environment, document) = (
        Environment::default(),
        Document::parse("nightbell.yml", yaml).expect("YAML"),
    );
    let loader = Loader::new(&document, &environment, Path::new("."));
    let root = loader.root();
    let target = Target {
        name: "t".into(),
        interval: Duration::from_secs(15),
        timeout: Duration::from_secs(5),
        memory: Memory::none(),
    };
    drop((kind("postgres").build)(&root, &target));
    let shown = root.redacted();
    assert!(
        shown.contains("name: a") && !shown.contains("hunter2") && !shown.contains("SELECT"),
        "{shown}"
    );
    let error = try_build("postgres", &yaml.replace("AS n", "AS n; DELETE"))
        .err()
        .expect("refused")
        .to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_statement_that_is_not_one_select_is_refused_when_the_configuration_is_read() {
    for (sql, wanted) in [
        (
            "SELECT 1; COMMIT; DROP TABLE t",
            "queries[0].sql: holds several statements; give each a query of its own",
        ),
        (
            "COMMIT",
            "queries[0].sql: begins with COMMIT: only what reads is run; give one SELECT; WITH, VALUES and TABLE may begin it, too",
        ),
        (
            "SET TRANSACTION READ WRITE",
            "queries[0].sql: begins with SET",
        ),
        (
            "SELECT pg_advisory_lock(1)",
            "queries[0].sql: calls pg_advisory_lock, which a read-only transaction does not keep from changing",
        ),
        (
            "SELECT pg_terminate_backend(1)",
            "queries[0].sql: calls pg_terminate_backend",
        ),
    ] {
        let yaml = format!("dsn: postgres://u@h/d\nqueries:\n- {{name: a, sql: {sql:?}}}\n");
        let error = try_build("postgres", &yaml)
            .err()
            .unwrap_or_else(|| panic!("{sql}"))
            .to_string();
        assert!(
            error.starts_with("nightbell.yml:3:") && error.contains(wanted),
            "{error}"
        );
    }
    for (keys, wanted) in [
        (
            "name: query_rows, sql: SELECT 1",
            "name: would make metrics that are nightbell's own",
        ),
        (
            "name: a b, sql: SELECT 1",
            "name: cannot be a part of a metric's name",
        ),
        ("name: a", "sql: is missing; add sql: SELECT …"),
        ("name: a, sql: ''", "sql: is missing; add sql: SELECT …"),
        (
            "name: a, sql_file: /nowhere.sql",
            "sql_file: /nowhere.sql: cannot be read",
        ),
        (
            "name: a, sql: SELECT 1, timeout: 1m",
            "timeout: is longer than a collection may take",
        ),
        (
            "name: a, sql: SELECT 1, max_rows: 0",
            "max_rows: is out of range",
        ),
        (
            "name: a, sql: SELECT 1, labels: [instance]",
            "labels: \"instance\" cannot be a label",
        ),
        (
            "name: a, sql: SELECT 1, columns: {b: {type: summary}}",
            "columns.b.type: is no type of a metric; give gauge, counter or untyped",
        ),
        (
            "name: a, sql: SELECT 1, lables: [b]",
            "lables: unknown key; did you mean \"labels\"?",
        ),
        (
            "name: a, sql: SELECT 1}\n- {name: a, sql: SELECT 2",
            "name: another query is named \"a\" already",
        ),
    ] {
        let error = try_build(
            "postgres",
            &format!("dsn: postgres://u@h/d\nqueries:\n- {{{keys}}}\n"),
        )
        .err()
        .expect(keys)
        .to_string();
        assert!(error.contains(wanted), "{keys}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_are_cut_and_a_statement_that_sleeps_is_ended() {
    let server = server();
    let mut collector = postgres(
        &server,
        "postgres",
        "- {name: many, sql: \"SELECT g::text AS id, g AS n, repeat('x', 100000) AS unused FROM generate_series(1, 1000000) g\", labels: [id]}
- {name: sleeps, sql: SELECT pg_sleep(60)::text AS t, timeout: 200ms}
- {name: sleeps_as_number, sql: 'SELECT 1 AS n, pg_sleep(60)', timeout: 200ms, labels: [pg_sleep]}
- {name: after, sql: SELECT 1 AS n}\n",
    );
    let started = Instant::now();
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("all is well");
    assert!(started.elapsed() < Duration::from_secs(60));
    let many: Vec<f64> = batch.families["sql_many_n"]
        .samples
        .iter()
        .map(|sample| sample.value)
        .collect();
    assert_eq!((many.len(), many[99]), (100, 100.0));
    assert_eq!(
        value(&batch, "sql_query_truncated", &[("query", "many")]),
        Some(1.0)
    );
    assert_eq!(
        (
            success(&batch, "many"),
            success(&batch, "sleeps_as_number"),
            success(&batch, "after")
        ),
        (Some(1.0), Some(0.0), Some(1.0))
    );
    let line = said(&*collector, "sleeps_as_number");
    assert_eq!(
        line,
        "query sleeps_as_number: canceling statement due to statement timeout; make it faster, or raise its timeout:"
    );
    assert_eq!(
        said(&*collector, "sleeps"),
        "query sleeps: has no column that is a number"
    );
}

/// Duplicates, columns that are missing or meant twice: never merged, never guessed.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_would_be_one_series_are_reported() {
    let server = server();
    let mut collector = postgres(
        &server,
        "postgres",
        "- {name: twice, sql: \"VALUES ('a', 1), ('a', 2)\", labels: [column1]}
- {name: unlabelled, sql: SELECT id FROM results}
- {name: empty, sql: \"VALUES ('', 1), (NULL, 2)\", labels: [column1]}
- {name: same, sql: 'SELECT 1 AS a, 2 AS a'}
- {name: missing, sql: SELECT id FROM results, labels: [status]}
- {name: texts, sql: \"SELECT '42' AS n\"}
- {name: none, sql: SELECT id FROM results WHERE false}
- {name: a_b, sql: SELECT 1 AS c}
- {name: a, sql: SELECT 1 AS b_c}\n",
    );
    let (batch, _) = collect("postgres", &mut collector).await;
    for (query, wanted) in [
        (
            "twice",
            "gives several rows with the labels {column1=\"a\"}: list a further column under labels, or aggregate",
        ),
        (
            "unlabelled",
            "gives 2 rows, and no column is a label: aggregate them, or list columns under labels",
        ),
        (
            "empty",
            "gives several rows with the labels {}: list a further column under labels, or aggregate",
        ),
        (
            "same",
            "has two columns \"a\": give each a name of its own with AS",
        ),
        (
            "missing",
            "has no column \"status\", which labels lists; its columns: id",
        ),
        ("texts", "has no column that is a number"),
        (
            "a",
            "gives the metric sql_a_b_c, which the query a_b gives already; give one of them another name",
        ),
    ] {
        assert_eq!(said(&*collector, query), format!("query {query}: {wanted}"));
        assert_eq!(success(&batch, query), Some(0.0));
    }
    // No row is an answer.
    assert_eq!(
        (
            success(&batch, "none"),
            value(&batch, "sql_query_rows", &[("query", "none")])
        ),
        (Some(1.0), Some(0.0))
    );
}

/// The message names the statement that helps; what stands between quotes in the query, and its
/// text, are nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_privilege_names_its_grant_and_no_message_holds_the_query() {
    let server = server();
    server.sql(
        "postgres",
        "CREATE ROLE \"mon itor\" LOGIN; CREATE SCHEMA app; CREATE TABLE app.t (n int); GRANT SELECT ON results TO \"mon itor\"",
    );
    let yaml = format!(
        "dsn: postgres://mon%20itor@127.0.0.1:{}/postgres\nqueries:
- {{name: rows, sql: SELECT count(*) AS n FROM results}}
- {{name: schema, sql: SELECT n FROM app.t}}
- {{name: secret, sql: \"SELECT 'hunter2-hunter2'::int AS n\"}}
- {{name: syntax, sql: \"SELECT n n n 'hunter2-hunter2'\"}}\n",
        server.port
    );
    let mut collector = build("postgres", &yaml);
    let (batch, _) = collect("postgres", &mut collector).await;
    assert_eq!(value(&batch, "sql_rows_n", &[]), Some(2.0));
    assert!(
        said(&*collector, "schema").ends_with(
            "permission denied for schema app; GRANT USAGE ON SCHEMA app TO \"mon itor\""
        )
    );
    let texts: String = collector
        .report()
        .findings
        .iter()
        .map(|finding| finding.text.clone() + "\n")
        .collect();
    assert!(
        !texts.contains("hunter2")
            && texts.contains("invalid input syntax for type integer: \"<secret>\""),
        "{texts}"
    );
    // Revoked while it runs: its rows are gone at once, nothing else is.
    server.sql("postgres", "REVOKE SELECT ON results FROM \"mon itor\"");
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("the server answers");
    assert_eq!(
        (
            value(&batch, "sql_rows_n", &[]),
            success(&batch, "rows"),
            value(&batch, "pg_up", &[])
        ),
        (None, Some(0.0), Some(1.0))
    );
    assert_eq!(
        said(&*collector, "rows"),
        "query rows: permission denied for table results; GRANT SELECT ON results TO \"mon itor\""
    );
    server.sql("postgres", "GRANT SELECT ON results TO \"mon itor\"");
    assert_eq!(
        value(
            &collect("postgres", &mut collector).await.0,
            "sql_rows_n",
            &[]
        ),
        Some(2.0)
    );
}

/// Between two runs the last rows are shown; a server that is away shows none, and is asked at once
/// when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_shown_until_the_next_run_and_gone_with_the_server() {
    let mut server = server();
    let mut collector = postgres(
        &server,
        "postgres",
        "- {name: results, sql: SELECT count(*) AS n FROM results, interval: 1h}\n- {name: now, sql: SELECT count(*) AS n FROM results}\n",
    );
    collect("postgres", &mut collector)
        .await
        .1
        .expect("all is well");
    server.sql("postgres", "DELETE FROM results WHERE status = 'old'");
    let (batch, _) = collect("postgres", &mut collector).await;
    assert_eq!(
        (
            value(&batch, "sql_results_n", &[]),
            value(&batch, "sql_now_n", &[])
        ),
        (Some(2.0), Some(1.0))
    );
    server.stop();
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect_err("it is away");
    assert_eq!(
        (
            value(&batch, "sql_results_n", &[]),
            success(&batch, "results")
        ),
        (None, Some(0.0))
    );
    server.resume();
    let (batch, _) = collect("postgres", &mut collector).await;
    assert_eq!(
        (
            value(&batch, "sql_results_n", &[]),
            success(&batch, "results")
        ),
        (Some(1.0), Some(1.0))
    );
}

/// A role that may have one connection: it is given up for another database, and had again.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_one_connection_runs_queries_everywhere() {
    let server = server();
    server.sql("postgres", "CREATE DATABASE other");
    server.sql("postgres", "CREATE ROLE lone LOGIN CONNECTION LIMIT 1");
    server.sql("postgres", "GRANT SELECT ON results TO lone");
    let queries = "- {name: here, sql: SELECT count(*) AS n FROM results}\n- {name: there, database: other, sql: SELECT 1 AS n}
- {name: nowhere, database: nowhere, sql: SELECT 1 AS n}\n";
    let mut collector = postgres(&server, "lone", queries);
    for _ in 0..3 {
        let (batch, result) = collect("postgres", &mut collector).await;
        result.expect("all is well");
        assert_eq!(
            (success(&batch, "here"), success(&batch, "there")),
            (Some(1.0), Some(1.0)),
            "{:?}",
            collector.report().findings
        );
        assert_eq!(
            said(&*collector, "nowhere"),
            "query nowhere: connect: database \"nowhere\" does not exist"
        );
    }
}

/// In another database, and behind a pooler that hands out sessions by the transaction; its own
/// work is in no measurement.
#[tokio::test(flavor = "multi_thread")]
async fn queries_run_in_other_databases_and_behind_a_pooler() {
    let server = Postgres::start(&[
        "shared_preload_libraries=pg_stat_statements",
        "pg_stat_statements.track=all",
    ]);
    server.sql("postgres", "CREATE EXTENSION pg_stat_statements");
    server.sql("postgres", "CREATE TYPE mood AS ENUM ('sad', 'glad')");
    server.sql("postgres", "CREATE DATABASE app");
    server.sql("app", "CREATE TABLE t AS SELECT 5 AS n");
    let (_pooler, port) = server.pooled("transaction");
    let yaml = format!(
        "dsn: postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable\ntable_interval: 15s\nqueries:
- {{name: there, database: app, sql: SELECT n FROM t}}
- {{name: here, sql: \"SELECT 1 AS n, 'glad'::mood AS mood, set_config('lock_timeout', '5s', false)\", labels: [mood]}}\n"
    );
    let mut collector = build("postgres", &yaml);
    for _ in 0..3 {
        let (batch, result) = collect("postgres", &mut collector).await;
        result.expect("all is well");
        assert_eq!(
            (
                value(&batch, "sql_there_n", &[]),
                value(&batch, "sql_here_n", &[("mood", "glad")])
            ),
            (Some(5.0), Some(1.0))
        );
    }
    assert_eq!(
        server
            .sql_over(port, "postgres", "SHOW lock_timeout")
            .as_deref(),
        Ok("0")
    );
    let unmarked = "SELECT string_agg(query, ' // ') FROM pg_stat_statements WHERE query LIKE '%nightbell%' AND query NOT LIKE '%/* nightbell */%' AND query NOT LIKE 'SET application_name%' AND query NOT LIKE '%pg_stat_statements%'";
    assert_eq!(server.sql("postgres", unmarked), "");
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.db");
    (folder, path)
}

async fn file(path: &Path, mode: SqliteJournalMode) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(mode);
    let mut connection = SqliteConnection::connect_with(&options)
        .await
        .expect("a database");
    for sql in [
        "CREATE TABLE t (kind TEXT, n, ok BOOLEAN)",
        "INSERT INTO t VALUES ('a', 1, 1), ('b', 2.5, 0), ('c', '42', NULL), ('d', NULL, 1), ('e', x'00', 1)",
    ] {
        connection.execute(sql).await.expect(sql);
    }
    connection
}

fn sqlite(path: &Path, queries: &str) -> Box<dyn Collector> {
    build(
        "sqlite",
        &format!(
            "path: {}\nintegrity_interval: 0\nqueries:\n{queries}",
            path.display()
        ),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_s_rows_become_metrics_and_the_file_stays_as_it_is() {
    for mode in [SqliteJournalMode::Delete, SqliteJournalMode::Wal] {
        let (_folder, path) = folder();
        let owner = file(&path, mode).await;
        let before = std::fs::read(&path).expect("the file");
        let mut collector = sqlite(
            &path,
            "- {name: t, sql: 'SELECT kind, n, ok FROM t', labels: [kind]}
- {name: counted, sql: 'SELECT count(*) AS \"n;1\" FROM t; -- the end'}
- {name: when, sql: \"SELECT unixepoch('2026-01-01') AS seconds\"}
- {name: endless, sql: 'WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT count(*) AS n FROM c', timeout: 200ms}
- {name: many, sql: 'WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 1000000) SELECT i, i AS id FROM c', labels: [id], max_rows: 3}
- {name: hidden, sql: \"SELECT name AS n FROM pragma_table_info('t'), no_such_table\"}
- {name: out, sql: \"SELECT 1) SELECT 1 FROM (SELECT 1\"}
- {name: switched, sql: \"SELECT * FROM pragma_journal_mode\"}\n",
        );
        let (batch, result) = collect("sqlite", &mut collector).await;
        result.expect("all is well");
        let of = |metric: &str, kind: &str| value(&batch, metric, &[("kind", kind)]);
        assert_eq!(
            ["a", "b", "c", "d", "e"].map(|kind| of("sql_t_n", kind)),
            [Some(1.0), Some(2.5), None, None, None]
        );
        assert_eq!(
            ["a", "b", "c"].map(|kind| of("sql_t_ok", kind)),
            [Some(1.0), Some(0.0), None]
        );
        assert_eq!(value(&batch, "sql_counted_n_1", &[]), Some(5.0));
        assert_eq!(
            value(&batch, "sql_when_seconds", &[]),
            Some(1_767_225_600.0)
        );
        assert_eq!(
            (
                batch.families["sql_many_i"].samples.len(),
                value(&batch, "sql_query_truncated", &[("query", "many")])
            ),
            (3, Some(1.0))
        );
        assert_eq!(
            said(&*collector, "endless"),
            "query endless: timed out after 0.2 s; make it faster, or raise its timeout:"
        );
        for query in ["endless", "hidden", "out"] {
            assert_eq!(success(&batch, query), Some(0.0), "{query}");
        }
        assert_eq!(
            said(&*collector, "t"),
            "query t: text columns that are no labels are left out: n"
        );
        assert_eq!(std::fs::read(&path).expect("the file"), before);
        drop(owner);
    }
    for sql in [
        "PRAGMA journal_mode = DELETE",
        "ATTACH 'other.db' AS o",
        "DELETE FROM t",
        "SELECT 1; DELETE FROM t",
        "SELECT load_extension('x')",
    ] {
        let yaml = format!("path: app.db\nqueries: [{{name: a, sql: {sql:?}}}]\n");
        assert!(try_build("sqlite", &yaml).is_err(), "{sql}");
    }
}

/// A file whose index is not there is left alone; one that is written meanwhile, and one that is
/// locked, cost only the queries.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_without_a_trace_is_not_read() {
    let (_folder, path) = folder();
    let mut owner = file(&path, SqliteJournalMode::Wal).await;
    owner
        .execute("PRAGMA wal_autocheckpoint = 0")
        .await
        .expect("set");
    let copy = path.with_file_name("copy.db");
    std::fs::copy(&path, &copy).expect("copied");
    std::fs::copy(path.with_extension("db-wal"), copy.with_extension("db-wal")).expect("copied");
    let mut collector = sqlite(&copy, "- {name: t, sql: SELECT count(*) AS n FROM t}\n");
    let (batch, result) = collect("sqlite", &mut collector).await;
    result.expect("the file is there");
    assert_eq!(
        (success(&batch, "t"), value(&batch, "sqlite_up", &[])),
        (Some(0.0), Some(1.0))
    );
    assert!(said(&*collector, "t").contains("would have to make the files -wal or -shm beside it"));
    assert!(!copy.with_extension("db-shm").exists());
}

/// In the running program: a query that fails is one line in the log and costs nothing else; the
/// target is up.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_fails_is_logged_once_and_the_target_is_up() {
    let (_folder, path) = folder();
    file(&path, SqliteJournalMode::Delete)
        .await
        .close()
        .await
        .expect("closed");
    let config = format!(
        "rules: {{shipped: false}}\ncollectors: {{sqlite: [{{name: a, path: '{}', interval: 1s, timeout: 900ms, queries: [{{name: t, sql: SELECT \
         count(*) AS n FROM t}}, {{name: lost, sql: SELECT n FROM missing WHERE v = 'hunter2-hunter2'}}]}}]}}\n",
        path.display()
    );
    let nightbell = Nightbell::start(&config);
    let number = |query: &str| {
        let answer = nightbell.json(&format!("/api/v1/query?query={query}"));
        answer["data"]["result"][0]["value"][1]
            .as_str()
            .and_then(|number| number.parse::<f64>().ok())
    };
    wait_until("four collections", Duration::from_secs(30), || {
        number("count_over_time(sql_t_n%5B5m%5D)").is_some_and(|count| count >= 4.0)
    });
    assert_eq!(
        (
            number("sql_t_n"),
            number("up"),
            number("sql_query_success%7Bquery=%22lost%22%7D")
        ),
        (Some(5.0), Some(1.0), Some(0.0))
    );
    let log = nightbell.log();
    assert_eq!(
        log.matches("A query of the configuration failed.").count(),
        1,
        "{log}"
    );
    assert!(
        log.contains("no such table: missing") && !log.contains("hunter2"),
        "{log}"
    );
}

/// Files of the exporters, with the names that they give.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_exporters_are_read() {
    let server = server();
    let (folder, _) = folder();
    let with = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        format!(
            "dsn: {}\nqueries_file: {}\n",
            server.dsn("postgres", "postgres"),
            path.display()
        )
    };
    let queries = "file_results:
  query: \"SELECT status, count(*) AS rows, 5 AS other, now() AS ignored FROM results GROUP BY status\"
  master: true
  cache_seconds: 30
  metrics:
    - status:
        usage: \"LABEL\"
        description: \"Status\"
    - rows:
        usage: \"GAUGE\"
        description: \"Rows by status\"
    - ignored:
        usage: DISCARD
pg_stat_user_tables:
  query: SELECT relname, n_live_tup FROM pg_stat_user_tables
  metrics:
    - relname: {usage: LABEL, description: Table}
    - n_live_tup: {usage: GAUGE, description: Rows}
";
    let mut collector = build("postgres", &with("queries.yaml", queries));
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("all is well");
    assert_eq!(
        value(&batch, "file_results_rows", &[("status", "new")]),
        Some(1.0)
    );
    assert_eq!(batch.families["file_results_rows"].help, "Rows by status");
    assert!(
        !batch
            .families
            .keys()
            .any(|name| name.starts_with("file_results_other")
                || name.starts_with("file_results_ignored"))
    );
    let file = "collector_name: app
min_interval: 1m
metrics:
- metric_name: file_scores
  type: gauge
  help: 'Scores.'
  key_labels: [status]
  static_labels: {team: a}
  value_label: which
  values: [low, high]
  query: SELECT status, min(id) AS low, max(id) AS high FROM results GROUP BY status
- {metric_name: file_total, type: counter, help: All., values: [n], query_ref: total}
queries:
- {query_name: total, query: 'SELECT count(*) AS n FROM results'}
";
    let mut collector = build("postgres", &with("app.collector.yml", file));
    let (batch, result) = collect("postgres", &mut collector).await;
    result.expect("all is well");
    let of = |which: &str| {
        value(
            &batch,
            "file_scores",
            &[("status", "old"), ("team", "a"), ("which", which)],
        )
    };
    assert_eq!(
        (of("low"), of("high"), value(&batch, "file_total", &[])),
        (Some(2.0), Some(2.0), Some(2.0))
    );
    assert_eq!(batch.families["file_total"].kind, MetricKind::Counter);
    for (text, wanted) in [
        (
            "a: {query: SELECT 1, runonserver: '>=10', metrics: [{b: {usage: GAUGE}}]}",
            "q.yml:1:35: a.runonserver: cannot be taken",
        ),
        (
            "a: {query: SELECT 1, metrics: [{b: {usage: HISTOGRAM}}]}",
            "a.metrics[0].b.usage: HISTOGRAM is not made of a query here; give",
        ),
        (
            "a: {query: SELECT 1, metrics: [{b: {usage: MAPPEDMETRIC, metric_mapping: {x: 1}}}]}",
            "MAPPEDMETRIC is not done here",
        ),
        (
            "a: {query: 'SELECT 1; DELETE FROM t', metrics: [{b: {usage: GAUGE}}]}",
            "q.yml:1:12: a.query: holds several statements",
        ),
        (
            "collector_name: a\nmetrics: [{metric_name: b, type: gauge, help: c, static_value: 1, query: SELECT 1}]",
            "q.yml:2:64: metrics[0].static_value",
        ),
        (
            "collector_name: a\nmetrics: [{metric_name: b, type: gauge, values: [c, d], query: SELECT 1}]",
            "add value_label:",
        ),
        (
            "target: {data_source_name: x}",
            "is the configuration of an sql_exporter, not a file of queries",
        ),
        (
            "- a",
            "is neither postgres_exporter's queries.yaml nor a collector file of sql_exporter",
        ),
        ("a: [", "q.yml"),
    ] {
        let error = try_build("postgres", &with("q.yml", text))
            .err()
            .unwrap_or_else(|| panic!("{text}"))
            .to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    let error = try_build(
        "postgres",
        "dsn: postgres://u@h/d\nqueries_file: /nowhere/q.yml\n",
    )
    .err()
    .expect("refused")
    .to_string();
    assert!(
        error.contains("nightbell.yml:2:15: queries_file: /nowhere/q.yml: cannot be read"),
        "{error}"
    );
}

/// A server that hangs costs the collection's time and no more, and every query is reported as not
/// run.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_costs_no_more_than_the_collection_s_time() {
    let server = server();
    let mut collector = postgres(
        &server,
        "postgres",
        "- {name: a, sql: SELECT 1 AS n}\n- {name: b, sql: SELECT 2 AS n}\n",
    );
    collect("postgres", &mut collector)
        .await
        .1
        .expect("all is well");
    server.signal("-STOP");
    let started = Instant::now();
    let (batch, result) = collect("postgres", &mut collector).await;
    server.signal("-CONT");
    result.expect_err("it hangs");
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(
        (
            success(&batch, "a"),
            value(&batch, "sql_a_n", &[]),
            value(&batch, "pg_up", &[])
        ),
        (Some(0.0), None, Some(0.0))
    );
    wait_until("it answers again", Duration::from_secs(20), || {
        server.sql("postgres", "SELECT 1") == "1"
    });
    let (batch, _) = collect("postgres", &mut collector).await;
    assert_eq!(
        (value(&batch, "sql_a_n", &[]), value(&batch, "sql_b_n", &[])),
        (Some(1.0), Some(2.0))
    );
}
