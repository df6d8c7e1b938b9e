//! `nightbell check config --connect` with the built binary: what it says of targets that answer,
//! and of those that do not.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Executor as _};

use crate::servers::free_port;
use crate::servers::page::serve_page;
use crate::servers::postgres::Postgres;

/// Exit status, standard output, standard error.
fn check(folder: &Path, yaml: &str) -> (i32, String, String) {
    let file = folder.join("nightbell.yml");
    std::fs::write(&file, yaml).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
    command.args(["check", "config", "--connect"]).arg(&file);
    command
        .env("HOME", folder.join("home"))
        .env_remove("STATE_DIRECTORY")
        .env_remove("XDG_STATE_HOME");
    let output = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("it exits"),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_answer_are_shown_with_what_queries_give() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.db");
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options)
        .await
        .expect("a database");
    connection
        .execute("CREATE TABLE t AS SELECT 'a' AS kind, 5 AS n, 'x' AS note")
        .await
        .expect("made");
    connection.close().await.expect("closed");
    let port = serve_page("up_here 1\n");
    let yaml = format!(
        "collectors:\n  sqlite:\n    path: {}\n    queries: [{{name: t, sql: SELECT kind, n, note FROM t, labels: [kind]}}]\n\
         scrape_configs:\n- job_name: app\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        path.display(),
        port
    );
    let yaml = yaml.replace(
        "sql: SELECT kind, n, note FROM t",
        "sql: 'SELECT kind, n, note FROM t'",
    );
    let (status, out, err) = check(folder.path(), &yaml);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("  sqlite sqlite (sqlite://") && out.contains("    sql_t_n{kind=\"a\"} 5\n"),
        "{out}"
    );
    assert!(
        out.contains("    NOTE: query t: text columns that are no labels are left out: note\n"),
        "{out}"
    );
    assert!(
        out.contains(&format!(
            "  app 127.0.0.1:{0} (http://127.0.0.1:{0}/metrics): 1 samples in ",
            port
        )),
        "{out}"
    );
    assert!(
        !folder.path().join("home").exists(),
        "a trial remembers nothing"
    );
}

/// Rules on what queries give have something to read; those on what none gives are named, without
/// `--connect` too.
#[test]
fn a_rule_on_a_query_s_metric_has_something_to_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = "groups: [{name: g, rules: [{alert: Good, expr: sql_results_n > 1}, {alert: Lost, expr: sql_result_n > 1}]}]\n";
    std::fs::write(folder.path().join("rules.yml"), rules).expect("written");
    let file = folder.path().join("nightbell.yml");
    let yaml = "rule_files: [rules.yml]\ncollectors: {sqlite: {path: app.db, queries: [{name: results, sql: SELECT 1 AS n}]}}\n";
    std::fs::write(&file, yaml).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["check", "config"])
        .arg(&file)
        .output()
        .expect("it runs");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(out.contains("rule \"Lost\" has nothing to read: a query of that name under queries of postgres, mysql or sqlite"), "{out}");
    assert!(!out.contains("Good"), "{out}");
}

/// One of each kind of trouble: each is named with its reason, the exit status says that there is
/// one, and no line holds a secret.
#[tokio::test(flavor = "multi_thread")]
async fn targets_that_do_not_answer_say_why_and_the_exit_status_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = Postgres::start(&[]);
    postgres.sql(
        "postgres",
        "CREATE TABLE results (n int); CREATE ROLE mon LOGIN PASSWORD 'hunter2-hunter2'",
    );
    // It accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent
        .local_addr()
        .map(|address| (silent, address.port()))
        .expect("its port");
    let (closed, page) = (free_port(), free_port());
    let yaml = format!(
        "collectors:
  postgres:
  - name: main
    dsn: postgres://mon:hunter2-hunter2@127.0.0.1:{}/postgres
    queries:
    - {{name: results, sql: SELECT count(*) AS n FROM results}}
    - {{name: one, sql: SELECT 1 AS n}}
  redis: {{url: 'redis://:hunter2-hunter2@127.0.0.1:{closed}'}}
  sqlite: {{path: {}/nowhere.db}}
  mysql: {{dsn: 'mysql://u:hunter2-hunter2@127.0.0.1:{}/d', timeout: 4s}}
scrape_configs: [{{job_name: app, static_configs: [{{targets: ['127.0.0.1:{page}']}}]}}]\n",
        postgres.port,
        folder.path().display(),
        silent.1
    );
    let (status, out, err) = check(folder.path(), &yaml);
    assert_eq!(status, 1, "{out}{err}");
    for wanted in [
        format!("  postgres main (postgres://127.0.0.1:{}/postgres): ", postgres.port),
        "    FAILED: query results: permission denied for table results; GRANT SELECT ON results TO mon\n".to_owned(),
        "    sql_one_n 1\n".to_owned(),
        "    NOTE: a privilege is missing: GRANT pg_monitor TO \"mon\"".to_owned(),
        format!("  redis redis (redis://127.0.0.1:{closed}"),
        "nowhere.db): FAILED: ".to_owned(),
        format!("  mysql mysql (mysql://127.0.0.1:{}/d): FAILED: connect: timed out\n", silent.1),
        format!("  app 127.0.0.1:{page} (http://127.0.0.1:{page}/metrics): FAILED: "),
    ] {
        assert!(out.contains(&wanted), "{wanted}\n{out}");
    }
    assert!(
        err.contains(&format!(
            "  waiting for mysql mysql (mysql://127.0.0.1:{}/d) …\n",
            silent.1
        )),
        "{err}"
    );
    assert!(!(out + &err).contains("hunter2"));
}
