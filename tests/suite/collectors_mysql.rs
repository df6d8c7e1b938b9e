//! The `mysql` collector and its queries against a real MariaDB, with its own client as the second
//! opinion.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use nightbell::collectors::{Collector, Memory, Target};
use nightbell::model::{Batch, MetricKind};

use crate::collecting::{build, build_for, collect, try_build, value};
use crate::servers::mariadb::MariaDb;
use crate::servers::wait_until;

const SCHEMA: &str =
    "CREATE DATABASE app; CREATE TABLE app.results (id INT PRIMARY KEY AUTO_INCREMENT, status VARCHAR(10), score DECIMAL(10, 2),
    made DATETIME(3) NULL, seen TIMESTAMP NULL, took TIME, ok BOOLEAN, bits BIT(4), big BIGINT UNSIGNED, note TEXT, kind ENUM('x', 'y'));
    SET time_zone = '+00:00';
    INSERT INTO app.results (status, score, made, seen, took, ok, bits, big, note, kind) VALUES
        ('new', 1.5, '2026-01-01 00:00:00.5', '2026-01-01 00:00:00', '26:00:00', true, b'101', 18446744073709551615, '42', 'y'),
        ('old', NULL, NULL, NULL, '-00:00:30', false, NULL, 0, NULL, NULL);
    CREATE USER mon@'%'; GRANT SELECT ON app.* TO mon@'%'";

fn server() -> MariaDb {
    let server = MariaDb::start(&["--default-time-zone=+08:00", "--max-connections=50"]);
    server.sql(SCHEMA);
    server
}

fn mysql(server: &MariaDb, user: &str, queries: &str) -> Box<dyn Collector> {
    build(
        "mysql",
        &format!("dsn: {}\nqueries:\n{queries}", server.dsn(user, "app")),
    )
}

fn success(batch: &Batch, query: &str) -> Option<f64> {
    value(batch, "sql_query_success", &[("query", query)])
}

fn findings(collector: &dyn Collector) -> String {
    collector
        .report()
        .findings
        .iter()
        .map(|finding| finding.text.clone() + "\n")
        .collect()
}

/// Names, types and values are those of the established exporter; nothing of the sessions stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_measured_under_the_established_exporter_s_names() {
    let server = server();
    let mut collector = build("mysql", &format!("dsn: {}\n", server.dsn("root", "")));
    let (batch, result) = collect("mysql", &mut collector).await;
    result.expect("all is well");
    let of = |name: &str| value(&batch, name, &[]).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(
        (of("mysql_up"), of("mysql_global_variables_max_connections")),
        (1.0, 50.0)
    );
    let pool: f64 = server
        .sql("SELECT @@innodb_buffer_pool_size")
        .parse()
        .expect("a number");
    assert_eq!(of("mysql_global_variables_innodb_buffer_pool_size"), pool);
    for name in [
        "threads_connected",
        "threads_running",
        "max_used_connections",
        "connections",
        "aborted_connects",
        "aborted_clients",
        "slow_queries",
        "questions",
        "queries",
        "bytes_received",
        "bytes_sent",
        "innodb_buffer_pool_read_requests",
        "innodb_buffer_pool_reads",
        "innodb_row_lock_waits",
        "innodb_row_lock_time",
        "table_locks_waited",
        "opened_tables",
        "uptime",
    ] {
        assert_eq!(
            batch.families[format!("mysql_global_status_{name}").as_str()].kind,
            MetricKind::Untyped,
            "{name}"
        );
    }
    assert_eq!(
        batch.families["mysql_global_status_commands_total"].kind,
        MetricKind::Counter
    );
    assert!(
        value(
            &batch,
            "mysql_global_status_commands_total",
            &[("command", "insert")]
        )
        .is_some_and(|count| count > 0.0)
    );
    assert!(
        value(
            &batch,
            "mysql_global_status_buffer_pool_pages",
            &[("state", "free")]
        )
        .is_some_and(|pages| pages > 0.0)
    );
    let version = server.sql("SELECT VERSION()");
    assert_eq!(
        value(&batch, "mysql_version_info", &[("version", &version)]),
        Some(1.0)
    );
    assert_eq!(
        collector.address(),
        format!("mysql://127.0.0.1:{}/", server.port)
    );
    for _ in 0..3 {
        collect("mysql", &mut collector)
            .await
            .1
            .expect("all is well");
    }
    wait_until("its sessions are gone", Duration::from_secs(10), || {
        server.sql("SELECT count(*) FROM information_schema.processlist WHERE user = 'root'") == "1"
    });
    assert_eq!(server.sql("SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'aborted_clients'"), "0");
    // Over its socket, too.
    let (batch, result) = collect(
        "mysql",
        &mut build(
            "mysql",
            &format!("dsn: 'root@unix({})/app'\n", server.socket().display()),
        ),
    )
    .await;
    result.expect("all is well");
    assert_eq!(value(&batch, "mysql_up", &[]), Some(1.0));
}

/// Replication that was set up and does not run; without the privilege only that is missing, and
/// what gives it is named.
#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_replication_is_read_where_that_is_allowed() {
    let server = server();
    server.sql("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=1, MASTER_USER='none', MASTER_CONNECT_RETRY=1; START SLAVE");
    let (batch, result) = collect(
        "mysql",
        &mut build("mysql", &format!("dsn: {}\n", server.dsn("root", ""))),
    )
    .await;
    result.expect("all is well");
    let of = |name: &str| {
        value(
            &batch,
            &format!("mysql_slave_status_{name}"),
            &[("master_host", "127.0.0.1")],
        )
    };
    assert_eq!(
        (
            of("slave_io_running"),
            of("slave_sql_running"),
            of("seconds_behind_master")
        ),
        (Some(0.0), Some(1.0), None)
    );
    let mut collector = mysql(
        &server,
        "mon",
        "- {name: n, sql: SELECT count(*) AS n FROM results}\n",
    );
    let (batch, result) = collect("mysql", &mut collector).await;
    result.expect("the rest is read");
    assert!(
        batch.families.contains_key("mysql_global_status_uptime")
            && !batch
                .families
                .contains_key("mysql_slave_status_slave_io_running")
    );
    assert_eq!(
        value(
            &batch,
            "mysql_exporter_collector_success",
            &[("collector", "collect.slave_status")]
        ),
        Some(0.0)
    );
    assert!(
        findings(&*collector).contains("GRANT SLAVE MONITOR ON *.* TO 'mon'@'…'"),
        "{}",
        findings(&*collector)
    );
    assert_eq!(value(&batch, "sql_n_n", &[]), Some(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_every_type_become_numbers_and_listed_texts_labels() {
    let server = server();
    let mut collector = mysql(
        &server,
        "mon",
        "- {name: results, sql: \"SELECT status, score, made, seen, took, ok, bits, big, note, kind, 1 + 1, id FROM results; -- all\", labels: [status]}
- {name: joined, sql: 'SELECT count(*) AS n, max(score) AS most, 0 || 1 AS either FROM results'}\n",
    );
    let (batch, result) = collect("mysql", &mut collector).await;
    result.expect("all is well");
    let of = |metric: &str, status: &str| {
        value(
            &batch,
            &format!("sql_results_{metric}"),
            &[("status", status)],
        )
    };
    for (column, new, old) in [
        ("score", Some(1.5), None),
        ("made", Some(1_767_225_600.5), None),
        ("seen", Some(1_767_225_600.0), None),
        ("took", Some(93_600.0), Some(-30.0)),
        ("ok", Some(1.0), Some(0.0)),
        ("bits", Some(5.0), None),
        ("big", Some(18_446_744_073_709_551_615.0), Some(0.0)),
        ("1_1", Some(2.0), Some(2.0)),
    ] {
        assert_eq!(
            (of(column, "new"), of(column, "old")),
            (new, old),
            "{column}"
        );
    }
    // || is what it is to the server.
    assert_eq!(
        (
            value(&batch, "sql_joined_n", &[]),
            value(&batch, "sql_joined_either", &[])
        ),
        (Some(2.0), Some(1.0))
    );
    assert!(
        findings(&*collector)
            .contains("query results: text columns that are no labels are left out: note, kind")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_would_write_or_takes_too_long_changes_nothing() {
    let server = server();
    // The client ends a statement at its delimiter, which the body of a function may not hold.
    server.sql("DELIMITER //\nCREATE FUNCTION app.sneaky() RETURNS INT MODIFIES SQL DATA BEGIN DELETE FROM app.results; RETURN 1; END//\n");
    server
        .sql("GRANT ALL ON app.* TO mon@'%'; GRANT FILE ON *.* TO mon@'%'; CREATE SEQUENCE app.s");
    let file = tempfile::tempdir()
        .expect("a folder")
        .path()
        .join("out.txt");
    let mut collector = mysql(
        &server,
        "mon",
        &format!(
            "- {{name: function, sql: SELECT app.sneaky() AS n}}
- {{name: sequence, sql: SELECT NEXTVAL(app.s) AS n}}
- {{name: file, sql: \"SELECT 1 AS n INTO OUTFILE '{}'\"}}
- {{name: sleeps, sql: SELECT SLEEP(60) AS n, timeout: 200ms}}
- {{name: slow, sql: \"SELECT sum(SHA1(CONCAT(a.seq, b.seq)) = 'x') AS n FROM seq_1_to_100000 a, seq_1_to_100000 b\", timeout: 300ms}}
- {{name: many, sql: 'SELECT seq AS id, seq AS n FROM seq_1_to_1000000', labels: [id]}}
- {{name: syntax, sql: \"SELECT n n n 'hunter2-hunter2'\"}}
- {{name: well, sql: SELECT 7 AS n}}\n",
            file.display()
        ),
    );
    let started = Instant::now();
    let (batch, result) = collect("mysql", &mut collector).await;
    result.expect("a query costs only itself");
    assert!(started.elapsed() < Duration::from_secs(60));
    let said = findings(&*collector);
    for query in ["function", "sequence", "file", "slow", "syntax"] {
        assert_eq!(success(&batch, query), Some(0.0), "{query}: {said}");
    }
    assert!(
        said.contains("query function: Cannot execute statement in a READ ONLY transaction"),
        "{said}"
    );
    assert!(
        said.contains("query slow: timed out after 0.3 s; make it faster, or raise its timeout:"),
        "{said}"
    );
    assert!(
        said.contains("query syntax: its syntax is wrong at line 1") && !said.contains("hunter2"),
        "{said}"
    );
    assert_eq!(batch.families["sql_many_n"].samples.len(), 100);
    assert_eq!(
        (
            value(&batch, "sql_well_n", &[]),
            value(&batch, "sql_query_truncated", &[("query", "many")])
        ),
        (Some(7.0), Some(1.0))
    );
    assert_eq!(server.sql("SELECT next_not_cached_value FROM app.s"), "1");
    assert_eq!(
        (
            server.sql("SELECT count(*) FROM app.results").as_str(),
            file.exists()
        ),
        ("2", false)
    );
    for sql in [
        "SELECT 1; DROP TABLE results",
        "SELECT id FROM results FOR UPDATE",
        "SELECT GET_LOCK('a', 1)",
        "SELECT 1 /*! ; */",
        "CALL p()",
    ] {
        let yaml = format!("dsn: mysql://u@h/d\nqueries: [{{name: a, sql: {sql:?}}}]\n");
        assert!(try_build("mysql", &yaml).is_err(), "{sql}");
    }
}

/// TLS by the DSN: with what nobody vouches for where that is not asked for, and refused where it
/// is.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_secured_as_the_dsn_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=db.example",
    ]);
    openssl.args([
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-keyout",
        &path("key"),
        "-out",
        &path("cert"),
    ]);
    assert!(openssl.output().expect("openssl runs").status.success());
    let server = MariaDb::start(&[
        &format!("--ssl-cert={}", path("cert")),
        &format!("--ssl-key={}", path("key")),
    ]);
    let query = "queries: [{name: tls, sql: \"SELECT variable_value AS cipher, 1 AS n FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'\", labels: [cipher]}]";
    let dsn = |parameters: &str| {
        format!(
            "dsn: 'mysql://root@127.0.0.1:{}/mysql?{parameters}'\n{query}\n",
            server.port
        )
    };
    for (parameters, is_secured) in [
        ("ssl-mode=REQUIRED", true),
        ("tls=skip-verify", true),
        ("", true),
        ("ssl-mode=DISABLED", false),
    ] {
        let (batch, result) = collect("mysql", &mut build("mysql", &dsn(parameters))).await;
        result.unwrap_or_else(|error| panic!("{parameters}: {error}"));
        let cipher = batch.families["sql_tls_n"].samples[0]
            .labels
            .value("cipher")
            .to_owned();
        assert_eq!(!cipher.is_empty(), is_secured, "{parameters}: {cipher}");
    }
    let (_, result) = collect(
        "mysql",
        &mut build("mysql", &dsn("ssl-mode=VERIFY_IDENTITY")),
    )
    .await;
    let error = result.expect_err("nobody vouches for it").reason;
    assert!(error.contains("certificate"), "{error}");
}

/// Wrong password, refused, hanging, a privilege that is taken away: each says so, within its time,
/// and holds no secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_down_and_says_why() {
    let mut server = server();
    server.sql("SET PASSWORD FOR mon@'%' = PASSWORD('s3cret-s3cret')");
    let dsn = |password: &str| {
        format!(
            "dsn: mysql://mon:{password}@127.0.0.1:{}/app\nqueries: [{{name: n, sql: SELECT count(*) AS n FROM results}}]\n",
            server.port
        )
    };
    let (batch, result) = collect("mysql", &mut build("mysql", &dsn("wrong-wrong"))).await;
    let error = result.expect_err("refused").reason;
    assert!(
        error.starts_with("connect: Access denied for user 'mon'")
            && !error.contains("wrong-wrong"),
        "{error}"
    );
    assert_eq!(
        (value(&batch, "mysql_up", &[]), success(&batch, "n")),
        (Some(0.0), Some(0.0))
    );
    // It was looked at once before, and then only let in or not: looks without a login would make
    // the server refuse this host.
    let mut collector = build("mysql", &dsn("wrong-wrong"));
    let aborted = || {
        server.sql("SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'aborted_connects'")
    };
    collect("mysql", &mut collector)
        .await
        .1
        .expect_err("refused");
    let before: u32 = aborted().parse().expect("a number");
    for _ in 0..3 {
        collect("mysql", &mut collector)
            .await
            .1
            .expect_err("refused");
    }
    assert_eq!(aborted().parse(), Ok(before + 3));
    let mut collector = build("mysql", &dsn("s3cret-s3cret"));
    assert_eq!(
        value(&collect("mysql", &mut collector).await.0, "sql_n_n", &[]),
        Some(2.0)
    );
    server.sql("REVOKE SELECT ON app.* FROM mon@'%'; GRANT INSERT ON app.* TO mon@'%'");
    let (batch, result) = collect("mysql", &mut collector).await;
    result.expect("the server answers");
    assert_eq!(
        (
            value(&batch, "mysql_up", &[]),
            value(&batch, "sql_n_n", &[]),
            success(&batch, "n")
        ),
        (Some(1.0), None, Some(0.0))
    );
    assert!(
        findings(&*collector).contains("; GRANT SELECT ON `app`.`results` TO 'mon'@'"),
        "{}",
        findings(&*collector)
    );
    let signal = |name: &str| {
        assert!(
            Command::new("kill")
                .arg(name)
                .arg(server.process().to_string())
                .status()
                .expect("kill runs")
                .success()
        )
    };
    signal("-STOP");
    let started = Instant::now();
    let (batch, result) = collect("mysql", &mut collector).await;
    signal("-CONT");
    result.expect_err("it hangs");
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(value(&batch, "mysql_up", &[]), Some(0.0));
    server.stop();
    let (batch, result) = collect("mysql", &mut collector).await;
    let error = result.expect_err("refused").reason;
    assert!(
        error.contains("refused") && !error.contains("s3cret"),
        "{error}"
    );
    assert_eq!(value(&batch, "mysql_up", &[]), Some(0.0));
    server.resume();
    assert_eq!(
        value(&collect("mysql", &mut collector).await.0, "mysql_up", &[]),
        Some(1.0)
    );
}

/// Whatever else listens on the port: an error within the time, no panic.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_mysql_server_is_refused() {
    let greeting = b"\x4a\0\0\0\x0a8.0.0\0\x01\0\0\0abcdefgh\0\xff\xff\x21\x02\0\xff\xff\x15";
    let answers: [&'static [u8]; 9] = [
        b"",
        b"\0\0\0\0",
        b"\x01\0\0\0\x0a",
        b"\x01\0\0\0\xff",
        b"\xff\xff\xff\0\x0a",
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"N",
        greeting,
    ];
    for answer in answers {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                if stream.write_all(answer).is_ok() && !answer.is_empty() {
                    // Then silence, until the other side has had enough.
                    while stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
                }
            }
        });
        let yaml = format!(
            "dsn: mysql://u:hunter2-hunter2@127.0.0.1:{port}/d\nqueries: [{{name: a, sql: SELECT 1 AS n}}]\n"
        );
        let target = Target {
            name: "t".into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            memory: Memory::none(),
        };
        let (batch, result) = collect("mysql", &mut build_for("mysql", &yaml, &target)).await;
        let error = result.expect_err("refused").reason;
        assert!(
            error.starts_with("connect: ") && !error.contains("hunter2"),
            "{answer:?}: {error}"
        );
        assert_eq!(
            (value(&batch, "mysql_up", &[]), success(&batch, "a")),
            (Some(0.0), Some(0.0)),
            "{answer:?}"
        );
    }
}
