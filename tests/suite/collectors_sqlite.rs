//! The `sqlite` collector against real files, made and held through sqlx as another client would.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nightbell::collectors::Collector;
use nightbell::model::Batch;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{Connection, Executor, Row};

use crate::collecting::{build, collect, value};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

async fn database(path: &Path, mode: SqliteJournalMode) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(mode);
    let mut connection = SqliteConnection::connect_with(&options)
        .await
        .expect("a database");
    let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO t (v) SELECT hex(randomblob(40)) FROM n";
    for sql in [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
        "CREATE INDEX t_v ON t (v)",
        rows,
        "DELETE FROM t WHERE id > 2000",
    ] {
        connection.execute(sql).await.expect(sql);
    }
    connection
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.db");
    (folder, path)
}

/// Collects until a check has been completed.
async fn until_checked(collector: &mut Box<dyn Collector>) -> (Batch, String) {
    let started = Instant::now();
    loop {
        let (batch, result) = collect("sqlite", collector).await;
        if value(&batch, "sqlite_integrity_ok", &[]).is_some() {
            return (batch, result.err().map(|e| e.reason).unwrap_or_default());
        }
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "no check within 20 s"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sizes, pages and mode are the file's own; the check comes after the first collection; nothing is
/// left behind or changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_measured_without_being_touched() {
    let (_folder, path) = folder();
    let mut owner = database(&path, SqliteJournalMode::Wal).await;
    let mut collector = build("sqlite", &format!("path: {}\n", path.display()));
    let (batch, result) = collect("sqlite", &mut collector).await;
    result.expect("all is well");
    let wal = path.with_extension("db-wal");
    let of = |name: &str| value(&batch, name, &[]).unwrap_or_else(|| panic!("no {name}"));
    for (metric, pragma) in [
        ("sqlite_page_size_bytes", "page_size"),
        ("sqlite_pages", "page_count"),
        ("sqlite_free_pages", "freelist_count"),
    ] {
        let sql = format!("PRAGMA {pragma}");
        let row = owner
            .fetch_one(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
            .await
            .expect("a number");
        assert_eq!(of(metric), row.get::<i64, _>(0) as f64, "{metric}");
    }
    assert!(of("sqlite_free_pages") > 0.0 && of("sqlite_query_duration_seconds") > 0.0);
    assert_eq!(
        of("sqlite_wal_size_bytes"),
        wal.metadata().expect("a log").len() as f64
    );
    assert_eq!(
        of("sqlite_file_size_bytes"),
        path.metadata().expect("a file").len() as f64
    );
    assert_eq!(
        (
            of("sqlite_up"),
            of("sqlite_schema_objects"),
            of("sqlite_write_lock_held")
        ),
        (1.0, 2.0, 0.0)
    );
    assert_eq!(
        value(&batch, "sqlite_journal_mode", &[("mode", "wal")]),
        Some(1.0)
    );
    let (batch, problem) = until_checked(&mut collector).await;
    assert_eq!(
        (value(&batch, "sqlite_integrity_ok", &[]), problem.as_str()),
        (Some(1.0), "")
    );
    assert!(
        wal.metadata().expect("the log is still there").len() > 0,
        "a reader must not checkpoint"
    );
}

/// Contention in both journal modes: who holds the write lock is seen, and an exclusive lock makes
/// the file busy, not the collector stuck.
#[tokio::test(flavor = "multi_thread")]
async fn locks_are_seen() {
    for (mode, other_mode) in [
        (SqliteJournalMode::Wal, "wal"),
        (SqliteJournalMode::Delete, "delete"),
    ] {
        let (_folder, path) = folder();
        let owner = database(&path, mode).await;
        let mut collector = build("sqlite", &format!("path: {}\n", path.display()));
        // Locks of our own process do not exclude each other's view: a child holds them.
        owner.close().await.expect("closed");
        let mut holder = hold(&path);
        let started = Instant::now();
        loop {
            let (batch, result) = collect("sqlite", &mut collector).await;
            result.expect("readers may read beside a writer");
            assert_eq!(
                value(&batch, "sqlite_journal_mode", &[("mode", other_mode)]),
                Some(1.0)
            );
            if value(&batch, "sqlite_write_lock_held", &[]) == Some(1.0) {
                break;
            }
            assert!(
                started.elapsed() < Duration::from_secs(90),
                "the lock is not seen in mode {other_mode}"
            );
        }
        holder.0.kill().expect("killed");
    }
}

/// Another process that begins a write transaction and keeps it.
fn hold(path: &Path) -> crate::servers::Server {
    let script = "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\ntime.sleep(60)\n";
    let child = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .spawn()
        .expect("python3 starts: apt-get install python3");
    crate::servers::Server(child)
}

/// A damaged file is found by the check, a file that is none or is missing by the first query.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found() {
    let (_folder, path) = folder();
    database(&path, SqliteJournalMode::Delete)
        .await
        .close()
        .await
        .expect("closed");
    let mut bytes = std::fs::read(&path).expect("the file");
    // The second page is the root of the table.
    bytes[4096..8192].fill(0x5a);
    std::fs::write(&path, &bytes).expect("damaged");
    let (batch, problem) =
        until_checked(&mut build("sqlite", &format!("path: {}\n", path.display()))).await;
    assert_eq!(
        (
            value(&batch, "sqlite_up", &[]),
            value(&batch, "sqlite_integrity_ok", &[])
        ),
        (Some(1.0), Some(0.0))
    );
    assert!(problem.starts_with("integrity check: "), "{problem}");
    std::fs::write(&path, "x".repeat(8192)).expect("written");
    let mut collector = build(
        "sqlite",
        &format!("path: {}\nintegrity_interval: 0\n", path.display()),
    );
    let (batch, result) = collect("sqlite", &mut collector).await;
    assert_eq!(value(&batch, "sqlite_up", &[]), Some(0.0));
    assert_eq!(
        result.expect_err("garbage").reason,
        "file is not a database"
    );
    std::fs::remove_file(&path).expect("removed");
    let (batch, result) = collect("sqlite", &mut collector).await;
    assert_eq!(value(&batch, "sqlite_up", &[]), Some(0.0));
    assert!(result.expect_err("missing").reason.contains("No such file"));
    assert!(!path.exists(), "a missing file is not created");
}

/// The files beside a database, with sizes.
fn beside(path: &Path) -> Vec<(String, u64)> {
    let mut files: Vec<(String, u64)> = std::fs::read_dir(path.parent().expect("a folder"))
        .expect("readable")
        .flatten()
        .map(|entry| {
            (
                entry.file_name().into_string().expect("text"),
                entry.metadata().expect("a file").len(),
            )
        })
        .collect();
    files.sort();
    files
}

/// Another process that has the database open, and has read it.
fn reader(path: &Path) -> crate::servers::Server {
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('select count(*) from t').fetchall()\nprint('open', flush=True)\nsys.stdin.read()\nc.close()\n";
    let mut command = std::process::Command::new("python3");
    command
        .args(["-c", script])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut server = crate::servers::Server(command.spawn().expect("python3 starts"));
    let mut said = [0; 5];
    std::io::Read::read_exact(server.0.stdout.as_mut().expect("piped"), &mut said)
        .expect("it is open");
    server
}

/// F2: while the application has a WAL database closed, no file is made beside it; with it open,
/// its own stay until it closes.
#[tokio::test(flavor = "multi_thread")]
async fn no_file_is_made_or_kept_beside_a_database() {
    for (mode, name) in [
        (SqliteJournalMode::Wal, "wal"),
        (SqliteJournalMode::Delete, "delete"),
        (SqliteJournalMode::Truncate, "delete"),
    ] {
        let (_folder, path) = folder();
        database(&path, mode).await.close().await.expect("closed");
        let (files, bytes) = (beside(&path), std::fs::read(&path).expect("the file"));
        let mut collector = build("sqlite", &format!("path: {}\n", path.display()));
        let (batch, problem) = until_checked(&mut collector).await;
        assert_eq!(
            (problem.as_str(), value(&batch, "sqlite_integrity_ok", &[])),
            ("", Some(1.0))
        );
        assert_eq!(
            (
                value(&batch, "sqlite_up", &[]),
                value(&batch, "sqlite_schema_objects", &[])
            ),
            (Some(1.0), Some(2.0))
        );
        assert_eq!(
            value(&batch, "sqlite_journal_mode", &[("mode", name)]),
            Some(1.0)
        );
        assert_eq!(beside(&path), files, "{name}");
        let mut application = reader(&path);
        let (batch, result) = collect("sqlite", &mut collector).await;
        result.expect("a reader beside another");
        assert_eq!(value(&batch, "sqlite_schema_objects", &[]), Some(2.0));
        drop(application.0.stdin.take());
        assert!(application.0.wait().expect("it ends").success());
        assert_eq!(
            beside(&path),
            files,
            "{name}: what the application removed stays removed"
        );
        assert_eq!(std::fs::read(&path).expect("the file"), bytes);
    }
}

/// What runs a program as this user; tests that are not run by root cannot change theirs.
fn run_as(user: u32) -> Vec<String> {
    let id = user.to_string();
    let words = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]
        .map(str::to_owned)
        .to_vec();
    if rustix::process::geteuid().is_root() {
        words
    } else {
        vec!["env".into()]
    }
}

/// F2: nightbell runs as another user than the application, in whose folder it may write: the
/// application writes on, while it has the database closed, open, and closed again.
#[test]
fn an_application_of_another_user_writes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let permissions = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(folder.path(), permissions(0o755)).expect("chmod");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("made");
    std::fs::set_permissions(&data, permissions(0o777)).expect("chmod");
    let (application, path) = (run_as(1), data.join("app.db"));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&data, Some(1), Some(1)).expect("chown");
    }
    let write = |sql: &str| {
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('pragma journal_mode=wal')\nc.execute(sys.argv[2])\nc.commit()\nc.close()";
        let written = std::process::Command::new(&application[0])
            .args(&application[1..])
            .args(["/usr/bin/python3", "-c", script])
            .arg(&path)
            .arg(sql)
            .output();
        let written = written.expect("python3 runs");
        assert!(
            written.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&written.stderr)
        );
    };
    write("create table t(a)");
    let config = format!(
        "rules: {{shipped: false}}\ncollectors: {{sqlite: [{{name: a, path: '{}', interval: 1s, timeout: 900ms}}]}}\n",
        path.display()
    );
    let starter = run_as(65534);
    let nightbell = Nightbell::start_by(
        &starter.iter().map(String::as_str).collect::<Vec<_>>(),
        &config,
    );
    let collected = || {
        let answer = nightbell.json("/api/v1/query?query=count_over_time(sqlite_up%5B5m%5D)");
        answer["data"]["result"][0]["value"][1]
            .as_str()
            .and_then(|n| n.parse::<u32>().ok())
            .unwrap_or(0)
    };
    let looks = || {
        let before = collected();
        wait_until("two more looks", Duration::from_secs(60), || {
            collected() >= before + 2
        });
    };
    for round in 0..2 {
        looks();
        assert_eq!(beside(&path).len(), 1, "closed: {:?}", beside(&path));
        write(&format!("insert into t values({round})"));
        let mut open = reader(&path);
        looks();
        write("insert into t values(9)");
        drop(open.0.stdin.take());
        assert!(open.0.wait().expect("it ends").success());
    }
    looks();
    write("insert into t values(10)");
    let answer = nightbell.json("/api/v1/query?query=min_over_time(sqlite_up%5B5m%5D)");
    assert_eq!(
        answer["data"]["result"][0]["value"][1],
        "1",
        "{}",
        nightbell.log()
    );
}

/// F2: a log that a crash left behind is neither used nor removed: the header has the figures.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_index_is_left_alone() {
    let (_folder, path) = folder();
    let owner = database(&path, SqliteJournalMode::Wal).await;
    let (_other, copy) = folder();
    for suffix in ["", "-wal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(name(&path), name(&copy)).expect("copied");
    }
    drop(owner);
    let files = beside(&copy);
    let mut collector = build("sqlite", &format!("path: {}\n", copy.display()));
    for _ in 0..2 {
        let (batch, result) = collect("sqlite", &mut collector).await;
        result.expect("the file is there");
        assert_eq!(
            (
                value(&batch, "sqlite_up", &[]),
                value(&batch, "sqlite_page_size_bytes", &[])
            ),
            (Some(1.0), Some(4096.0))
        );
        assert_eq!(
            value(&batch, "sqlite_journal_mode", &[("mode", "wal")]),
            Some(1.0)
        );
        assert_eq!(beside(&copy), files);
    }
}

/// A5: a file that something else than SQLite wrote to is checked again at once.
#[tokio::test(flavor = "multi_thread")]
async fn damage_that_comes_later_is_found_without_waiting_for_the_next_check() {
    let (_folder, path) = folder();
    database(&path, SqliteJournalMode::Delete)
        .await
        .close()
        .await
        .expect("closed");
    let mut collector = build("sqlite", &format!("path: {}\n", path.display()));
    until_checked(&mut collector).await;
    let mut bytes = std::fs::read(&path).expect("the file");
    bytes[4096..8192].fill(0x5a);
    std::fs::write(&path, &bytes).expect("damaged");
    let started = Instant::now();
    loop {
        let (batch, _) = collect("sqlite", &mut collector).await;
        if value(&batch, "sqlite_integrity_ok", &[]) == Some(0.0) {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "the damage is not found"
        );
        // As long as the application writes on, in a way that looks like nothing else.
        std::fs::write(&path, &bytes).expect("written");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An empty file is an empty database, and a journal beside it stays where it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_left_alone() {
    let (_folder, path) = folder();
    std::fs::write(&path, "").expect("written");
    std::fs::write(path.with_extension("db-journal"), "x").expect("written");
    let files = beside(&path);
    let (batch, result) = collect(
        "sqlite",
        &mut build("sqlite", &format!("path: {}\n", path.display())),
    )
    .await;
    result.expect("an empty database");
    assert_eq!(value(&batch, "sqlite_up", &[]), Some(1.0));
    assert_eq!(beside(&path), files);
}
