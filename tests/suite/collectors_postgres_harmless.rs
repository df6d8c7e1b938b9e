//! The `postgres` collector neither changes nor hinders what it watches, gives nobody its rights,
//! and loses no more than what fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nightbell::model::Batch;

use crate::collecting::{build, collect, value};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::wait_until;

/// The parts that failed.
fn failed(batch: &Batch) -> Vec<String> {
    let parts = &batch.families["pg_scrape_collector_success"].samples;
    parts
        .iter()
        .filter(|s| s.value == 0.0)
        .map(|s| s.labels.value("collector").to_owned())
        .collect()
}

/// F1: behind PgBouncer, in each of its modes and with its own settings, every part is read,
/// applications write meanwhile, and what they find in the pool is as it would be without
/// nightbell.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_everything_is_read_and_nothing_is_left_in_the_pool() {
    let postgres = Postgres::start(&["shared_preload_libraries=pg_stat_statements"]);
    postgres.sql("postgres", "CREATE EXTENSION pg_stat_statements");
    postgres.sql("postgres", "CREATE TABLE orders (t text)");
    postgres.sql("postgres", "CREATE DATABASE other");
    for mode in ["transaction", "statement", "session"] {
        let (_pooler, port) = postgres.pooled(mode);
        let over = |sql: &str| {
            postgres
                .sql_over(port, "postgres", sql)
                .unwrap_or_else(|error| panic!("{mode}: {sql}: {error}"))
        };
        let yaml = format!(
            "dsn: postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable\ntable_interval: 15s\n"
        );
        let mut collector = build("postgres", &yaml);
        let ended = AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut written = 0;
                while !ended.load(Ordering::Relaxed) || written < 5 {
                    over("INSERT INTO orders VALUES ('x')");
                    written += 1;
                }
                written
            });
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    for _ in 0..4 {
                        let (batch, result) = collect("postgres", &mut collector).await;
                        result.unwrap_or_else(|error| panic!("{mode}: {error}"));
                        assert_eq!(failed(&batch), Vec::<String>::new(), "{mode}");
                        assert_eq!(value(&batch, "pg_up", &[]), Some(1.0));
                        assert_eq!(
                            value(
                                &batch,
                                "pg_collector_databases_skipped",
                                &[("reason", "failed")]
                            ),
                            Some(0.0),
                            "{mode}"
                        );
                        assert!(
                            batch
                                .families
                                .contains_key("pg_stat_statements_calls_total"),
                            "{mode}"
                        );
                    }
                });
            });
            ended.store(true, Ordering::Relaxed);
            writer.join().expect("every row was written")
        });
        assert!(written >= 5);
        drop(collector);
        for (setting, wanted) in [
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("default_transaction_read_only", "off"),
            ("transaction_read_only", "off"),
            ("search_path", "\"$user\", public"),
            ("extra_float_digits", "1"),
        ] {
            for _ in 0..3 {
                assert_eq!(
                    over(&format!("SHOW {setting}")),
                    wanted,
                    "{mode}: {setting}"
                );
            }
        }
        assert_eq!(
            over("SELECT count(*) FROM pg_prepared_statements"),
            "0",
            "{mode}"
        );
    }
}

/// F6, A2: no session stays in a database that the DSN does not name.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_can_be_renamed_copied_and_dropped_between_looks() {
    let postgres = Postgres::start(&[]);
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.sql("shop", "CREATE TABLE items (id int)");
    let mut collector = build(
        "postgres",
        &format!(
            "dsn: {}\ntable_interval: 15s\n",
            postgres.dsn("postgres", "postgres")
        ),
    );
    for round in 0..3 {
        let (batch, result) = collect("postgres", &mut collector).await;
        result.expect("all is well");
        let items = [("datname", "shop"), ("relname", "items")];
        assert_eq!(
            value(&batch, "pg_stat_user_tables_n_live_tup", &items),
            Some(0.0),
            "round {round}"
        );
        postgres.sql("postgres", "ALTER DATABASE shop RENAME TO store");
        postgres.sql("postgres", "CREATE DATABASE shop TEMPLATE store");
        postgres.sql("postgres", "DROP DATABASE store");
    }
}

/// F3: whoever owns a database, or may create in `public`, runs nothing with our role's rights:
/// neither by views, functions and operators that are named like the system's, nor by a search_path
/// of the database.
#[tokio::test(flavor = "multi_thread")]
async fn traps_in_a_database_do_not_run_with_our_rights() {
    for postgres in Postgres::each(&[]) {
        let marker = postgres.socket_folder().join("marker");
        postgres.sql("postgres", "CREATE ROLE tenant LOGIN");
        postgres.sql("postgres", "CREATE DATABASE tenantdb OWNER tenant");
        for database in ["postgres", "tenantdb"] {
            let own = format!(
                "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO public; CREATE TABLE evil.t (a int);
                 CREATE FUNCTION evil.own() RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN
                    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN
                        COPY (SELECT 1) TO PROGRAM 'touch {}';
                    END IF; RETURN 0; END $$;",
                marker.display()
            );
            postgres.sql(database, &own);
            for view in [
                "pg_stat_user_tables",
                "pg_stat_user_indexes",
                "pg_stat_activity",
                "pg_locks",
                "pg_settings",
                "pg_database",
            ] {
                postgres.sql(database, &format!("CREATE VIEW evil.{view} AS SELECT * FROM pg_catalog.{view} WHERE evil.own() >= 0"));
                postgres.sql(database, &format!("GRANT SELECT ON evil.{view} TO public"));
            }
            for (name, arguments, result) in [
                ("has_database_privilege", "name, text", "bool"),
                ("has_database_privilege", "oid, text", "bool"),
                ("quote_ident", "name", "text"),
                ("current_setting", "text", "text"),
                ("pg_has_role", "name, text", "bool"),
                ("pg_table_size", "oid", "int8"),
                ("version", "", "text"),
                ("lower", "name", "text"),
            ] {
                for schema in ["evil", "public"] {
                    let body = format!("SELECT CASE WHEN evil.own() >= 0 THEN NULL::{result} END");
                    let sql = format!(
                        "CREATE FUNCTION {schema}.{name}({arguments}) RETURNS {result} LANGUAGE sql AS $$ {body} $$"
                    );
                    postgres.sql(database, &sql);
                }
            }
            for (operator, left, right) in [
                ("=", "name", "name"),
                ("=", "oid", "oid"),
                ("<>", "name", "name"),
                ("-", "pg_lsn", "pg_lsn"),
            ] {
                let function = format!(
                    "evil.op_{left}_{}",
                    if operator == "=" { "eq" } else { "other" }
                );
                let result = if operator == "-" { "numeric" } else { "bool" };
                let body = format!("SELECT CASE WHEN evil.own() >= 0 THEN NULL::{result} END");
                postgres.sql(
                    database,
                    &format!(
                        "CREATE FUNCTION {function}({left}, {right}) RETURNS {result} LANGUAGE sql AS $$ {body} $$;
                         CREATE OPERATOR evil.{operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {function})"
                    ),
                );
            }
            postgres.sql(
                "postgres",
                &format!("ALTER DATABASE {database} SET search_path = evil, public, pg_catalog"),
            );
        }
        // The trap works: an administrator who looks is caught.
        postgres.sql("tenantdb", "SELECT count(*) FROM pg_stat_user_tables");
        assert!(marker.exists());
        std::fs::remove_file(&marker).expect("it is there");
        let mut collector = build(
            "postgres",
            &format!("dsn: {}\n", postgres.dsn("postgres", "postgres")),
        );
        let (batch, result) = collect("postgres", &mut collector).await;
        result.expect("all is well");
        assert_eq!(failed(&batch), Vec::<String>::new());
        assert!(
            value(
                &batch,
                "pg_stat_user_tables_n_live_tup",
                &[("datname", "tenantdb"), ("relname", "t")]
            )
            .is_some()
        );
        assert!(!marker.exists(), "a trap was sprung");
    }
}

/// F3: types, casts and operators of a role that may create in `public`, or owns the database, do
/// nothing with our role's rights, whatever role that is and whatever search_path its sessions
/// begin with. Casts that an administrator has added change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn types_casts_and_operators_of_others_do_not_run_with_our_rights() {
    for postgres in Postgres::each(&[]) {
        let version = postgres.sql("postgres", "SHOW server_version");
        postgres.sql(
            "postgres",
            "CREATE ROLE tenant LOGIN; CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor",
        );
        postgres.sql("postgres", "GRANT CREATE ON SCHEMA public TO PUBLIC");
        postgres.sql("postgres", "CREATE DATABASE tenantdb OWNER tenant");
        postgres.sql("tenantdb", "GRANT ALL ON SCHEMA public TO tenant");
        let marker = postgres.socket_folder().join("cast");
        for database in ["postgres", "tenantdb"] {
            let mut traps = vec![format!(
                "CREATE FUNCTION public.spring() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
                    IF NOT current_user OPERATOR(pg_catalog.=) 'tenant'::pg_catalog.name THEN
                        RAISE WARNING 'a trap was sprung';
                        IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN
                            COPY (SELECT 1) TO PROGRAM 'cat > {}';
                        END IF;
                    END IF; RETURN true; END $$",
                marker.display()
            )];
            traps.push("CREATE TYPE public.trap AS (a text)".into());
            for system in ["text", "name", "int4", "int8", "oid", "bool"] {
                let body = |value: &str| {
                    format!(
                        "LANGUAGE plpgsql AS $$ BEGIN PERFORM public.spring(); RETURN {value}; END $$"
                    )
                };
                traps.push(format!("CREATE FUNCTION public.to_{system}(public.trap) RETURNS pg_catalog.{system} {}", body("NULL")));
                traps.push(format!("CREATE FUNCTION public.of_{system}(pg_catalog.{system}) RETURNS public.trap {}", body("NULL")));
                traps.push(format!(
                    "CREATE CAST (public.trap AS pg_catalog.{system}) WITH FUNCTION public.to_{system}(public.trap) AS IMPLICIT"
                ));
                traps.push(format!("CREATE CAST (pg_catalog.{system} AS public.trap) WITH FUNCTION public.of_{system} AS ASSIGNMENT"));
                // A type that is named like the system's.
                traps.push(format!(
                    "CREATE DOMAIN public.{system} AS pg_catalog.{system} CHECK (public.spring())"
                ));
            }
            let pairs = [
                ("name", "text"),
                ("text", "name"),
                ("name", "name"),
                ("text", "text"),
                ("int4", "int4"),
                ("int8", "int8"),
                ("int8", "int4"),
                ("int4", "int8"),
                ("oid", "oid"),
                ("oid", "int4"),
                ("\"char\"", "\"char\""),
                ("float8", "float8"),
                ("bool", "bool"),
            ];
            for (number, (left, right)) in pairs.into_iter().enumerate() {
                let both = format!("LEFTARG = pg_catalog.{left}, RIGHTARG = pg_catalog.{right}");
                for (kind, result, operators) in [
                    ("c", "bool", ["=", "<>", ">", "<"].as_slice()),
                    ("v", left, &["-", "||", "+", "/"]),
                ] {
                    let function = format!("public.op_{kind}{number}");
                    traps.push(format!(
                        "CREATE FUNCTION {function}(pg_catalog.{left}, pg_catalog.{right}) RETURNS pg_catalog.{result} LANGUAGE plpgsql AS $$
                         BEGIN PERFORM public.spring(); RETURN NULL; END $$"
                    ));
                    traps.extend(operators.iter().map(|o| {
                        format!("CREATE OPERATOR public.{o} ({both}, FUNCTION = {function})")
                    }));
                }
            }
            let tenant = format!(
                "SET ROLE tenant; SET search_path = pg_catalog; {}",
                traps.join("; ")
            );
            postgres.sql(database, &tenant);
            postgres.sql(database, "CREATE TABLE public.t (a pg_catalog.int4)");
            // Without this the system's names would be found first anyway.
            postgres.sql(
                "postgres",
                &format!("ALTER DATABASE {database} SET search_path = public, pg_catalog"),
            );
        }
        for role in ["postgres", "monitor"] {
            postgres.sql(
                "postgres",
                &format!("ALTER ROLE {role} SET search_path = public, pg_catalog"),
            );
        }
        // The traps work.
        postgres.sql(
            "tenantdb",
            "SELECT 1 WHERE 'a'::pg_catalog.name = 'b'::pg_catalog.text",
        );
        assert!(marker.exists(), "{version}");
        std::fs::remove_file(&marker).expect("it is there");
        let sprung = postgres.log().matches("a trap was sprung").count();
        assert!(sprung > 0);
        let clean = |who: &str| {
            assert!(!marker.exists(), "{version}: {who}");
            assert_eq!(
                postgres.log().matches("a trap was sprung").count(),
                sprung,
                "{version}: {who}: {}",
                postgres.log()
            );
        };
        for (role, database) in [
            ("postgres", "postgres"),
            ("monitor", "postgres"),
            ("monitor", "tenantdb"),
        ] {
            let mut collector = build(
                "postgres",
                &format!("dsn: {}\n", postgres.dsn(role, database)),
            );
            let (batch, result) = collect("postgres", &mut collector).await;
            result.expect("all is well");
            assert_eq!(failed(&batch), Vec::<String>::new(), "{version}, {role}");
            assert!(
                value(
                    &batch,
                    "pg_stat_user_tables_n_live_tup",
                    &[("datname", "tenantdb"), ("relname", "t")]
                )
                .is_some(),
                "{version}"
            );
            clean(role);
        }
        // What an administrator adds to the system's types is no trap.
        for cast in [
            "int4 AS text",
            "int8 AS text",
            "oid AS text",
            "text AS int4",
            "text AS int8",
            "name AS int4",
        ] {
            for database in ["postgres", "tenantdb"] {
                let (of, to) = cast.split_once(" AS ").expect("two types");
                let sql = format!(
                    "SET search_path = pg_catalog; CREATE CAST (pg_catalog.{of} AS pg_catalog.{to}) WITH INOUT AS IMPLICIT"
                );
                postgres.sql(database, &sql);
            }
        }
        let mut collector = build(
            "postgres",
            &format!("dsn: {}\n", postgres.dsn("monitor", "postgres")),
        );
        let (batch, result) = collect("postgres", &mut collector).await;
        result.expect("all is well");
        assert_eq!(
            failed(&batch),
            Vec::<String>::new(),
            "{version}: with an administrator's casts"
        );
    }
}

/// F4: a database that refuses us, or is half dropped, is counted and costs nothing else; the
/// server is up.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_us_costs_only_itself() {
    let postgres = Postgres::start(&[]);
    postgres.sql(
        "postgres",
        "CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor",
    );
    for name in ["closed", "dropped", "shop"] {
        postgres.sql("postgres", &format!("CREATE DATABASE {name}"));
    }
    postgres.sql("shop", "CREATE TABLE items (id int)");
    postgres.sql(
        "postgres",
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'dropped'",
    );
    postgres.authenticate("host closed monitor 127.0.0.1/32 reject");
    let mut collector = build(
        "postgres",
        &format!(
            "dsn: {}\ntable_interval: 15s\n",
            postgres.dsn("monitor", "postgres")
        ),
    );
    for _ in 0..2 {
        let (batch, result) = collect("postgres", &mut collector).await;
        result.expect("the server answers");
        assert_eq!(failed(&batch), Vec::<String>::new());
        assert_eq!(
            value(&batch, "pg_exporter_last_scrape_error", &[]),
            Some(0.0)
        );
        assert_eq!(
            value(
                &batch,
                "pg_collector_databases_skipped",
                &[("reason", "permission")]
            ),
            Some(1.0)
        );
        assert!(
            value(
                &batch,
                "pg_stat_user_tables_n_live_tup",
                &[("datname", "shop")]
            )
            .is_some()
        );
    }
    let log = postgres.log();
    assert_eq!(
        log.matches("pg_hba.conf rejects").count(),
        1,
        "it is not asked again at once: {log}"
    );
    assert!(!log.contains("invalid database"), "{log}");
    // A role with one connection looks into one database after the other, and is not refused.
    postgres.sql("postgres", "ALTER ROLE monitor CONNECTION LIMIT 1");
    drop(collector);
    wait_until("the session has ended", Duration::from_secs(10), || {
        postgres.sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'monitor'",
        ) == "0"
    });
    let mut collector = build(
        "postgres",
        &format!(
            "dsn: {}\ntable_interval: 15s\n",
            postgres.dsn("monitor", "postgres")
        ),
    );
    for _ in 0..2 {
        let (batch, result) = collect("postgres", &mut collector).await;
        result.expect("the server answers");
        assert!(
            value(
                &batch,
                "pg_stat_user_tables_n_live_tup",
                &[("datname", "shop")]
            )
            .is_some(),
            "{}",
            postgres.log()
        );
        // The server counts a session for a moment after it has said goodbye.
        wait_until("the session has ended", Duration::from_secs(10), || {
            postgres.sql(
                "postgres",
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'monitor'",
            ) == "0"
        });
    }
    // On a busy machine the server may count a session for longer than it is waited for; more than
    // that is no courtesy.
    assert!(
        postgres.log().matches("too many connections").count() < 20,
        "{}",
        postgres.log()
    );
}

/// F35: connecting, reading, leaving and being refused leave no error of ours in the log of a
/// server with TLS.
#[tokio::test(flavor = "multi_thread")]
async fn no_connection_leaves_an_error_in_the_server_s_log() {
    let mut postgres = Postgres::start(&[]);
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.make_certificate();
    postgres.stop();
    postgres.set(&["ssl=on"]);
    postgres.resume();
    let before = postgres.log().len();
    for mode in ["disable", "prefer", "require"] {
        let mut collector = build(
            "postgres",
            &format!(
                "dsn: {}?sslmode={mode}\n",
                postgres.dsn("postgres", "postgres")
            ),
        );
        for _ in 0..2 {
            collect("postgres", &mut collector)
                .await
                .1
                .expect("all is well");
        }
        drop(collector);
        wait_until("the session has ended", Duration::from_secs(10), || {
            postgres.sql(
                "postgres",
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nightbell'",
            ) == "0"
        });
    }
    let log = postgres.log();
    assert_eq!(
        log[before..]
            .lines()
            .filter(|l| ["SSL", "ERROR", "FATAL", "reset", "EOF"]
                .iter()
                .any(|w| l.contains(w)))
            .count(),
        0,
        "{log}"
    );
}

/// A table whose name the server cannot turn into UTF-8 is there, and so are its neighbours.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_text_cost_no_neighbour() {
    let postgres = Postgres::start(&[]);
    postgres.sql(
        "postgres",
        "CREATE DATABASE raw ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    postgres.sql("raw", "DO $$ BEGIN EXECUTE 'CREATE TABLE \"caf' || chr(233) || '\" (a int)'; END $$; CREATE TABLE plain (a int)");
    for database in ["postgres", "raw"] {
        let (batch, result) = collect(
            "postgres",
            &mut build(
                "postgres",
                &format!("dsn: {}\n", postgres.dsn("postgres", database)),
            ),
        )
        .await;
        result.expect("all is well");
        assert_eq!(failed(&batch), Vec::<String>::new(), "{database}");
        for table in ["plain", "caf\u{fffd}"] {
            assert!(
                value(
                    &batch,
                    "pg_stat_user_tables_n_live_tup",
                    &[("datname", "raw"), ("relname", table)]
                )
                .is_some(),
                "{table}"
            );
        }
    }
}

/// It measures others, not itself; a transaction counts from its first moment on.
#[tokio::test(flavor = "multi_thread")]
async fn its_own_sessions_and_statements_are_not_in_what_it_measures() {
    let postgres = Postgres::start(&["shared_preload_libraries=pg_stat_statements"]);
    postgres.sql("postgres", "CREATE EXTENSION pg_stat_statements");
    let mut collector = build(
        "postgres",
        &format!(
            "dsn: {}\ntable_interval: 15s\n",
            postgres.dsn("postgres", "postgres")
        ),
    );
    let mut last = Batch::new();
    for _ in 0..3 {
        let (batch, result) = collect("postgres", &mut collector).await;
        result.expect("all is well");
        last = batch;
    }
    let own = postgres.sql(
        "postgres",
        "SELECT queryid FROM pg_stat_statements WHERE query LIKE '%/* nightbell */%'",
    );
    assert!(
        own.lines().count() > 10,
        "its statements are known by their comment"
    );
    for id in own.lines() {
        assert_eq!(
            value(&last, "pg_stat_statements_calls_total", &[("queryid", id)]),
            None,
            "{id}"
        );
    }
    let sessions: f64 = last.families["pg_stat_activity_count"]
        .samples
        .iter()
        .map(|s| s.value)
        .sum();
    assert_eq!(
        (sessions, value(&last, "pg_long_running_transactions", &[])),
        (0.0, Some(0.0))
    );
    assert_eq!(
        value(
            &last,
            "pg_locks_count",
            &[("datname", "postgres"), ("mode", "accesssharelock")]
        ),
        Some(0.0)
    );
    for setting in [
        "transaction_read_only",
        "statement_timeout_seconds",
        "lock_timeout_seconds",
    ] {
        assert_eq!(
            value(&last, &format!("pg_settings_{setting}"), &[]),
            Some(0.0),
            "{setting}"
        );
    }
    assert_eq!(
        value(&last, "pg_settings_data_directory_mode", &[]),
        Some(700.0)
    );
    let mut session = postgres.session("postgres");
    std::io::Write::write_all(
        session.0.stdin.as_mut().expect("piped"),
        b"BEGIN; SELECT 1;\n",
    )
    .expect("psql reads");
    wait_until("it is open", Duration::from_secs(10), || {
        postgres.sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'",
        ) == "1"
    });
    let (batch, _) = collect("postgres", &mut collector).await;
    assert_eq!(
        value(&batch, "pg_long_running_transactions", &[]),
        Some(1.0)
    );
}

/// F19: before the first transaction that a replica replays it is not known how long that is ago.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_replayed_nothing_has_no_time_of_the_last_replay() {
    let primary = Postgres::start(&[]);
    let standby = primary.standby();
    let known = standby.sql("postgres", "SELECT pg_last_xact_replay_timestamp()");
    let (batch, result) = collect(
        "postgres",
        &mut build(
            "postgres",
            &format!("dsn: {}\n", standby.dsn("postgres", "postgres")),
        ),
    )
    .await;
    result.expect("a replica answers");
    assert_eq!(
        value(&batch, "pg_replication_last_replay_seconds", &[]).is_none(),
        known.is_empty()
    );
    assert_eq!(
        value(&batch, "pg_settings_transaction_read_only", &[]),
        Some(1.0),
        "a replica takes no writes"
    );
}

/// F4, F37: what fails is one line in the log with the remedy; `up` stays 1.
#[test]
fn a_part_that_fails_is_logged_once_and_the_target_is_up() {
    let postgres = Postgres::start(&["shared_preload_libraries=pg_stat_statements"]);
    postgres.sql(
        "postgres",
        "CREATE SCHEMA mon; CREATE EXTENSION pg_stat_statements SCHEMA mon",
    );
    postgres.sql(
        "postgres",
        "CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor",
    );
    postgres.sql("postgres", "CREATE DATABASE closed");
    postgres.authenticate("host closed monitor 127.0.0.1/32 reject");
    let collectors = format!(
        "collectors: {{postgres: [{{name: p, dsn: '{}', interval: 3s, timeout: 3s, table_interval: 3s}}]}}\nrules: {{shipped: false}}\n",
        postgres.dsn("monitor", "postgres")
    );
    let nightbell = Nightbell::start(&collectors);
    for text in [
        "GRANT USAGE ON SCHEMA mon TO",
        "A database refuses nightbell",
    ] {
        wait_until(text, Duration::from_secs(30), || {
            nightbell.log().contains(text)
        });
    }
    let up = || {
        nightbell.json("/api/v1/query?query=up%7Bjob%3D%22postgres%22%7D")["data"]["result"][0]["value"][1].clone()
    };
    wait_until("it is up", Duration::from_secs(20), || up() == "1");
    let rounds = || {
        nightbell.json("/api/v1/query?query=count_over_time(pg_up%5B1m%5D)")["data"]["result"][0]["value"][1].clone()
    };
    wait_until("four rounds", Duration::from_secs(30), || {
        rounds()
            .as_str()
            .is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n >= 4))
    });
    assert_eq!(up(), "1");
    for text in [
        "GRANT USAGE ON SCHEMA mon TO",
        "A database refuses nightbell",
    ] {
        assert_eq!(
            nightbell.log().matches(text).count(),
            1,
            "{}",
            nightbell.log()
        );
    }
}
