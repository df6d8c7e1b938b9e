//! The `restore_test` collector (C16, T24) with the real pg_dump, psql, pg_restore, PostgreSQL, tar
//! and SQLite.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nightbell::collectors::{Collector, Memory};
use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, try_build_with, value};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::wait_until;

/// Runs a shell script in a folder.
fn shell(folder: &Path, script: &str) {
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .output()
        .expect("sh runs");
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn number(batch: &Batch, name: &str) -> Option<f64> {
    value(batch, &format!("restore_test_{name}"), &[])
}

fn reason(batch: &Batch) -> String {
    batch
        .families
        .get("restore_test_failure_info")
        .map(|family| family.samples[0].labels.value("reason").to_owned())
        .unwrap_or_default()
}

/// Collects until a restore has ended.
async fn ended(collector: &mut Box<dyn Collector>) -> Batch {
    let started = Instant::now();
    loop {
        let (batch, result) = collect("restore_test", collector).await;
        result.expect("a restore is possible");
        if number(&batch, "last_run_timestamp_seconds").is_some() {
            return batch;
        }
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "no restore has ended"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What one restore of `file` gives, with these further keys.
async fn restored(file: &Path, scratch: &Path, database: &str, more: &str) -> Batch {
    let yaml = format!(
        "files: {}\nsettle: 0s\nevery: 1d\nscratch: {}/{database}\ndatabase: {database}\n{more}",
        file.display(),
        scratch.display()
    );
    ended(&mut build("restore_test", &yaml)).await
}

/// A server with a role that may make databases and nothing else, and what it is asked by.
fn target() -> (Postgres, String) {
    let postgres = Postgres::start(&[]);
    postgres.sql(
        "postgres",
        "CREATE ROLE restorer LOGIN CREATEDB; CREATE TABLE live AS SELECT 1 AS n",
    );
    let dsn = format!("dsn: {}\n", postgres.dsn("restorer", "postgres"));
    (postgres, dsn)
}

fn databases(postgres: &Postgres) -> String {
    postgres.sql(
        "postgres",
        "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE NOT datistemplate",
    )
}

/// C16: each of pg_dump's formats, packed or not, is restored on a server that has neither the
/// roles nor the extension of the source.
#[tokio::test(flavor = "multi_thread")]
async fn dumps_of_every_format_are_restored_and_the_copies_removed() {
    let source = Postgres::start(&[]);
    source.sql("postgres", "CREATE ROLE app; CREATE ROLE reader");
    source.sql("postgres", "CREATE DATABASE shop OWNER app");
    source.sql(
        "shop",
        r"CREATE SCHEMA s AUTHORIZATION app; SET ROLE app; SET search_path = s;
          CREATE TABLE orders (id serial PRIMARY KEY, note text);
          INSERT INTO orders (note) SELECT E'\\connect postgres\nDROP TABLE live; -- \\. $$ ''' || i FROM generate_series(1, 500) i;
          INSERT INTO orders (note) VALUES (repeat('long''; ', 400000)), (E'\\.'), ('\.');
          CREATE TABLE items (id int REFERENCES orders, price numeric);
          INSERT INTO items SELECT i, i FROM generate_series(1, 300) i;
          CREATE VIEW v AS SELECT count(*) FROM items;
          CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN RETURN $$1$$::int; /* ; */ END $f$;
          ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON orders FOR SELECT TO app, reader USING (true);
          GRANT SELECT ON items TO reader;",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let script = "set -e; export PGDATABASE=shop
        pg_dump > plain.sql; pg_dump -C > create.sql; pg_dump --clean > clean.sql; pg_dump -C --clean --if-exists > all.sql
        pg_dump --inserts > inserts.sql; pg_dump | gzip > packed.sql.gz; pg_dump | xz > packed.sql.xz; pg_dump | zstd -q > packed.sql.zst
        pg_dump -Fc > custom.dump; pg_dump -Fc | gzip > custom.dump.gz; pg_dump -Ft > tar.dump; pg_dump -Fd -f directory
        { head -20 plain.sql; echo 'CREATE EXTENSION IF NOT EXISTS nosuch WITH SCHEMA public;'; echo 'SET from_the_future = 0;'; tail -n +21 plain.sql; } > extension.sql";
    assert!(source.shell(folder, script), "a dump failed");
    drop(source);
    let (postgres, dsn) = target();
    let scratch = tempfile::tempdir().expect("a folder");
    let names = [
        "plain.sql",
        "create.sql",
        "clean.sql",
        "all.sql",
        "inserts.sql",
        "packed.sql.gz",
        "packed.sql.xz",
        "packed.sql.zst",
        "custom.dump",
        "custom.dump.gz",
        "tar.dump",
        "directory",
        "extension.sql",
    ];
    let more = format!(
        "{dsn}expect: [{{sql: 'SELECT sum(price) FROM s.items', min: 45150, max: 45150}}, {{name: few, sql: 'SELECT 1;', max: 3}}]\n"
    );
    // A few at a time: each is a server session and three programs.
    for some in names.chunks(4) {
        let runs = some.iter().map(|name| {
            let database = format!("scratch_{}", name.replace('.', "_"));
            let (scratch, more, path) = (scratch.path(), &more, folder.join(name));
            async move { restored(&path, scratch, &database, more).await }
        });
        for (name, batch) in some.iter().zip(join_all(runs).await) {
            assert_eq!(
                (number(&batch, "success"), reason(&batch).as_str()),
                (Some(1.0), ""),
                "{name}"
            );
            assert_eq!(
                (number(&batch, "tables"), number(&batch, "rows")),
                (Some(2.0), Some(803.0)),
                "{name}"
            );
            assert_eq!(
                value(&batch, "restore_test_check_value", &[("check", "1")]),
                Some(45150.0),
                "{name}"
            );
            assert_eq!(
                value(&batch, "restore_test_check_success", &[("check", "few")]),
                Some(1.0),
                "{name}"
            );
            assert!(
                number(&batch, "size_bytes") > Some(1e6)
                    && number(&batch, "left_behind") == Some(0.0),
                "{name}"
            );
            assert!(
                value(&batch, "restore_test_left_out", &[("what", "privileges")]) >= Some(1.0),
                "{name}: the policy of roles that are missing"
            );
            let extensions = if *name == "extension.sql" { 1.0 } else { 0.0 };
            for what in ["extensions", "settings"] {
                assert_eq!(
                    value(&batch, "restore_test_left_out", &[("what", what)]),
                    Some(extensions),
                    "{name}: {what}"
                );
            }
        }
    }
    assert_eq!(databases(&postgres), "postgres");
    assert_eq!(postgres.sql("postgres", "SELECT n FROM live"), "1");
    assert_eq!(
        std::fs::read_dir(scratch.path()).expect("there").count(),
        names.len(),
        "folders of the targets' folders"
    );
    for folder in std::fs::read_dir(scratch.path()).expect("there").flatten() {
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("there").count(),
            0,
            "nothing is left of a run"
        );
    }
}

/// T24: what is damaged, cut, of another kind, or leads elsewhere has failed, says why, and has
/// touched nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_says_why_and_touches_nothing() {
    let (postgres, dsn) = target();
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.sql(
        "shop",
        "CREATE TABLE t AS SELECT i, repeat('x' || i, 20) AS v FROM generate_series(1, 2000) i; ALTER TABLE t ADD PRIMARY KEY (i)",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let script = r"set -e; export PGDATABASE=shop
        pg_dump > plain.sql; pg_dump -Fc > custom.dump; pg_dumpall > cluster.sql; pg_dump | gzip > packed.sql.gz
        head -c 30000 plain.sql > cut.sql; sed '/complete/,$d' plain.sql > no-end.sql; head -c 2000 packed.sql.gz > cut.sql.gz
        head -c 10000 custom.dump > cut.dump; : | gzip > dead.sql.gz
        { cat plain.sql; printf '%s\n' '\! touch pwned'; } > command.sql
        { cat plain.sql; printf '%s\n' '\connect postgres' 'DROP TABLE live;'; } > elsewhere.sql
        { cat plain.sql; echo 'ALTER ROLE restorer SUPERUSER;'; } > role.sql
        { cat plain.sql; echo 'COPY t TO PROGRAM $$touch pwned$$;'; } > program.sql
        sed 's/^7\t/8\t/' plain.sql > twice.sql
        { echo 'CREATE EXTENSION nosuch;'; echo 'CREATE TABLE e (v nosuchtype);'; cat plain.sql; } > extension.sql
        printf -- '--\n-- PostgreSQL database dump\n--\nSET x.y = 1;\n--\n-- PostgreSQL database dump complete\n--\n' > empty.sql
        echo 'nothing of the kind' > text.sql; { printf '\0'; head -c 3000 /dev/urandom; } > noise.sql; seq 9 > a; tar cf plain.tar a";
    assert!(postgres.shell(folder, script), "a dump failed");
    postgres.sql("postgres", "DROP DATABASE shop");
    let scratch = tempfile::tempdir().expect("a folder");
    let cases = [
        ("cut.sql", "damaged"),
        ("no-end.sql", "damaged"),
        ("cut.sql.gz", "damaged"),
        ("cut.dump", "damaged"),
        ("dead.sql.gz", "damaged"),
        ("cluster.sql", "unsupported"),
        ("command.sql", "unsupported"),
        ("elsewhere.sql", "unsupported"),
        ("role.sql", "unsupported"),
        ("program.sql", "unsupported"),
        ("twice.sql", "refused"),
        ("extension.sql", "extension_missing"),
        ("empty.sql", "empty"),
        ("text.sql", "damaged"),
        ("noise.sql", "unsupported"),
    ];
    for some in cases.chunks(4) {
        let runs = some.iter().map(|(name, _)| {
            let database = format!("scratch_{}", name.replace(['.', '-'], "_"));
            let (scratch, dsn, path) = (scratch.path(), &dsn, folder.join(name));
            async move { restored(&path, scratch, &database, dsn).await }
        });
        for ((name, expected), batch) in some.iter().zip(join_all(runs).await) {
            assert_eq!(
                (number(&batch, "success"), reason(&batch).as_str()),
                (Some(0.0), *expected),
                "{name}"
            );
            assert_eq!(
                (
                    number(&batch, "left_behind"),
                    number(&batch, "last_success_timestamp_seconds")
                ),
                (Some(0.0), None),
                "{name}"
            );
        }
    }
    let plain = |more: &'static str| {
        let (path, scratch, more) = (
            folder.join("plain.sql"),
            scratch.path(),
            format!("{dsn}{more}"),
        );
        async move { restored(&path, scratch, "scratch_plain", &more).await }
    };
    for (more, expected) in [
        (
            "expect: [{sql: 'SELECT count(*) FROM t', min: 2001}]\n",
            "check_failed",
        ),
        (
            "expect: [{sql: 'SELECT count(*) FROM gone'}]\n",
            "check_failed",
        ),
        ("max_size: 1KB\n", "too_large"),
        ("max_size: 1MB\n", "too_large"),
        ("max_duration: 1ms\n", "timed_out"),
        ("read_rate: 1KB\nmax_duration: 3s\n", "timed_out"),
    ] {
        let batch = plain(more).await;
        assert_eq!(
            (number(&batch, "success"), reason(&batch).as_str()),
            (Some(0.0), expected),
            "{more}"
        );
    }
    assert_eq!(databases(&postgres), "postgres");
    assert_eq!(postgres.sql("postgres", "SELECT n FROM live"), "1");
    assert!(!folder.join("pwned").exists());
    assert_eq!(
        postgres.sql(
            "postgres",
            "SELECT rolsuper FROM pg_roles WHERE rolname = 'restorer'"
        ),
        "f"
    );
}

/// A database of the name that nightbell has not made stays; one that a killed nightbell left goes,
/// unless somebody uses it.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_database_that_nightbell_made_is_removed() {
    let (postgres, dsn) = target();
    let folder = tempfile::tempdir().expect("a folder");
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.sql("shop", "CREATE TABLE t AS SELECT 1 AS n");
    assert!(
        postgres.shell(folder.path(), "pg_dump shop > plain.sql"),
        "a dump failed"
    );
    let file = folder.path().join("plain.sql");
    let yaml = format!(
        "files: {}\nsettle: 0s\nevery: 1d\nscratch: {}\n{dsn}",
        file.display(),
        folder.path().join("scratch").display()
    );
    // The name is the default one.
    postgres.sql(
        "postgres",
        "CREATE DATABASE nightbell_restore_test OWNER restorer",
    );
    let (_, result) = collect("restore_test", &mut build("restore_test", &yaml)).await;
    let error = result.expect_err("refused").to_string();
    assert!(error.contains("nightbell has not made it"), "{error}");
    assert!(databases(&postgres).contains("nightbell_restore_test"));

    let marker = "nightbell restore_test: made for a restore and removed after it";
    postgres.sql(
        "postgres",
        &format!("COMMENT ON DATABASE nightbell_restore_test IS '{marker}'"),
    );
    postgres.sql("nightbell_restore_test", "CREATE TABLE left_over (n int)");
    let session = postgres.session("nightbell_restore_test");
    wait_until("the session is there", Duration::from_secs(20), || {
        postgres.sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'nightbell_restore_test'",
        ) == "1"
    });
    let mut collector = build("restore_test", &yaml);
    let (_, result) = collect("restore_test", &mut collector).await;
    result.expect("another one that restores is no obstacle");
    assert!(
        databases(&postgres).contains("nightbell_restore_test"),
        "somebody uses it"
    );
    drop(session);
    wait_until("the session has gone", Duration::from_secs(20), || {
        postgres.sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'nightbell_restore_test'",
        ) == "0"
    });
    let (_, result) = collect("restore_test", &mut build("restore_test", &yaml)).await;
    result.expect("possible");
    assert_eq!(databases(&postgres), "postgres shop");

    // One that was made and not marked yet.
    postgres.sql(
        "postgres",
        "CREATE DATABASE nightbell_restore_test OWNER restorer CONNECTION LIMIT 9908",
    );
    let batch = ended(&mut build("restore_test", &yaml)).await;
    assert_eq!(
        (number(&batch, "success"), number(&batch, "rows")),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(databases(&postgres), "postgres shop");
}

/// Passwords reach psql by a file that its owner alone may read, and that is gone after the run; a
/// role that may not make databases is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_used_and_what_a_role_lacks_is_named() {
    let (postgres, _) = target();
    postgres.sql(
        "postgres",
        r"ALTER ROLE restorer PASSWORD 'p:w\x'; CREATE ROLE weak LOGIN",
    );
    let folder = tempfile::tempdir().expect("a folder");
    assert!(
        postgres.shell(folder.path(), "psql -qc 'CREATE DATABASE shop' && psql -qc 'CREATE TABLE t ()' shop && pg_dump -Fc shop > a.dump")
    );
    postgres.authenticate("host all restorer 127.0.0.1/32 scram-sha-256");
    let secret = folder.path().join("dsn");
    std::fs::write(
        &secret,
        format!(
            "postgres://restorer:p%3Aw%5Cx@127.0.0.1:{}/postgres\n",
            postgres.port
        ),
    )
    .expect("written");
    let file = folder.path().join("a.dump");
    let scratch = folder.path().join("scratch");
    let batch = restored(
        &file,
        &scratch,
        "scratch",
        &format!("dsn_file: {}\n", secret.display()),
    )
    .await;
    assert_eq!(
        (number(&batch, "success"), reason(&batch).as_str()),
        (Some(1.0), "")
    );
    assert_eq!(
        std::fs::read_dir(scratch.join("scratch"))
            .expect("there")
            .count(),
        0
    );

    let refused = |yaml: String| async move {
        let (_, result) = collect("restore_test", &mut build("restore_test", &yaml)).await;
        result.expect_err("refused").to_string()
    };
    let keys = format!(
        "every: 1d\nsettle: 0s\nscratch: {}\nfiles: {}\n",
        scratch.display(),
        file.display()
    );
    let error = refused(format!("{keys}dsn: {}\n", postgres.dsn("weak", "postgres"))).await;
    assert!(error.contains("ALTER ROLE \"weak\" CREATEDB"), "{error}");
    let error = refused(format!(
        "{keys}dsn: postgres://restorer:wrong-secret@127.0.0.1:{}/postgres\n",
        postgres.port
    ))
    .await;
    assert!(
        error.contains("password authentication failed") && !error.contains("wrong-secret"),
        "{error}"
    );
    let error = refused(format!(
        "{keys}programs: /nowhere\ndsn: {}\n",
        postgres.dsn("restorer", "postgres")
    ))
    .await;
    assert!(error.contains("psql is not installed"), "{error}");
    let mut collector = build(
        "restore_test",
        &format!("{keys}dsn: {}\n", postgres.dsn("postgres", "postgres")),
    );
    let (_, result) = collect("restore_test", &mut collector).await;
    result.expect("possible");
    assert!(
        collector.report().findings[0].text.contains("superuser"),
        "{:?}",
        collector.report()
    );
}

/// SQLite copies and archives, such as Chroma's, are restored into a scratch folder; what leads out
/// of it or is too large is refused.
#[tokio::test(flavor = "multi_thread")]
async fn copies_and_archives_are_restored_into_a_folder_that_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "set -e; mkdir -p chroma/uuid
        cat > make.py <<'END'
import sqlite3, tarfile, io
c = sqlite3.connect('sessions.db'); c.execute('CREATE TABLE t (v)'); c.executemany('INSERT INTO t VALUES (?)', [('x' * 500,)] * 700); c.commit()
c = sqlite3.connect('chroma/chroma.sqlite3'); c.execute('PRAGMA journal_mode=WAL'); c.execute('CREATE TABLE embeddings (id)')
c.executemany('INSERT INTO embeddings VALUES (?)', [(i,) for i in range(40)]); c.commit()
import shutil; shutil.copy('chroma/chroma.sqlite3-wal', 'wal'); shutil.copy('chroma/chroma.sqlite3', 'main'); c.close()
shutil.copy('wal', 'chroma/chroma.sqlite3-wal'); shutil.copy('main', 'chroma/chroma.sqlite3')
def archive(name, *members):
    with tarfile.open(name, 'w') as t:
        for member in members:
            info = tarfile.TarInfo(member[0]); info.size = len(member[1]); info.type = member[2] if len(member) > 2 else b'0'
            info.linkname = member[3] if len(member) > 3 else ''; t.addfile(info, io.BytesIO(member[1]))
archive('up.tar', ('../../escaped', b'x')); archive('root.tar', ('/tmp/nightbell-escaped', b'x'))
archive('link.tar', ('d', b'', b'2', '/tmp'), ('d/nightbell-escaped', b'x'))
END
        python3 make.py; head -c 30000 /dev/urandom > chroma/uuid/data_level0.bin
        name=$(printf 'n%.0s' $(seq 150)); echo long > chroma/$name
        tar czf chroma.tar.gz chroma; tar czf pax.tar.gz --format=pax chroma; gzip -k sessions.db
        cp sessions.db broken.db; dd if=/dev/urandom of=broken.db bs=4096 seek=2 count=3 conv=notrunc status=none
        head -c 20000 chroma.tar.gz > cut.tar.gz; truncate -s 30M zeros; tar czf bomb.tar.gz zeros; gzip -k zeros";
    shell(folder.path(), script);
    let of = |name: &'static str, more: &'static str| {
        let (path, scratch) = (folder.path().join(name), folder.path().join("scratch"));
        async move { restored(&path, &scratch, "x", more).await }
    };
    for name in ["sessions.db", "sessions.db.gz"] {
        let batch = of(name, "expect: [{sql: SELECT count(*) FROM t, min: 700}]\n").await;
        assert_eq!(
            (
                number(&batch, "success"),
                number(&batch, "rows"),
                number(&batch, "files")
            ),
            (Some(1.0), Some(700.0), Some(1.0)),
            "{name}"
        );
    }
    for name in ["chroma.tar.gz", "pax.tar.gz"] {
        let batch = of(name, "expect: [{sql: SELECT count(*) FROM embeddings, file: chroma.sqlite3, min: 40, max: 40}]\n").await;
        assert_eq!(
            (number(&batch, "success"), reason(&batch).as_str()),
            (Some(1.0), ""),
            "{name}"
        );
        // chroma.sqlite3 with its -wal and perhaps -shm, the index, the long name.
        assert!(
            number(&batch, "files") >= Some(4.0) && number(&batch, "rows") == Some(40.0),
            "{name}: {:?}",
            number(&batch, "rows")
        );
    }
    for (name, more, expected) in [
        ("broken.db", "", "damaged"),
        ("cut.tar.gz", "", "damaged"),
        ("up.tar", "", "unsafe_path"),
        ("root.tar", "", "unsafe_path"),
        ("bomb.tar.gz", "max_size: 1MB\n", "too_large"),
        (
            "sessions.db",
            "expect: [{sql: SELECT count(*) FROM t, min: 701}]\n",
            "check_failed",
        ),
        (
            "sessions.db",
            "expect: [{sql: SELECT count(*) FROM t, file: other.db}]\n",
            "check_failed",
        ),
    ] {
        let batch = of(name, more).await;
        assert_eq!(
            (number(&batch, "success"), reason(&batch).as_str()),
            (Some(0.0), expected),
            "{name}"
        );
    }
    let batch = of("link.tar", "").await;
    assert_eq!(
        (
            number(&batch, "success"),
            value(&batch, "restore_test_left_out", &[("what", "other")])
        ),
        (Some(1.0), Some(1.0))
    );
    assert!(
        !Path::new("/tmp/nightbell-escaped").exists() && !folder.path().join("escaped").exists()
    );
    assert_eq!(
        std::fs::read_dir(folder.path().join("scratch/x"))
            .expect("there")
            .count(),
        0
    );
}

/// A schedule that is not due restores nothing; what came of the last one is there after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_a_restore_outlives_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    shell(
        folder.path(),
        "python3 -c \"import sqlite3; c = sqlite3.connect('a.db'); c.execute('CREATE TABLE t (v)'); c.commit()\"",
    );
    let memory = || {
        Memory::of(
            &folder.path().join("state"),
            "restore_test",
            "restore_test",
            "t",
        )
    };
    let keys = format!(
        "files: {0}/a.db\nsettle: 0s\nscratch: {0}/scratch\n",
        folder.path().display()
    );
    let with = |when: &str| {
        try_build_with("restore_test", &format!("{keys}{when}\n"), memory())
            .unwrap_or_else(|errors| panic!("{errors}"))
    };
    let first = ended(&mut with("every: 1d")).await;
    assert_eq!(number(&first, "success"), Some(1.0));
    let last = |batch: &Batch| {
        [
            "last_run_timestamp_seconds",
            "last_success_timestamp_seconds",
            "rows",
        ]
        .map(|name| number(batch, name))
    };
    wait_until("it is kept", Duration::from_secs(20), || {
        memory()
            .load()
            .is_some_and(|text| text.contains("\"succeeded\":1"))
    });
    let mut again = with("every: 1d");
    for _ in 0..3 {
        let (batch, result) = collect("restore_test", &mut again).await;
        result.expect("possible");
        assert_eq!(
            (
                last(&batch),
                number(&batch, "running_since_timestamp_seconds")
            ),
            (last(&first), None)
        );
    }
    let due = number(&ended(&mut again).await, "next_due_timestamp_seconds").expect("due");
    let succeeded = number(&first, "last_success_timestamp_seconds").expect("a success");
    assert_eq!(
        due,
        succeeded + 86_400.0 * 1.2 + 1800.0,
        "a fifth of the interval, and how long one may take"
    );
}

/// `kill -9` in the middle: neither psql nor the database outlives it for long; the next start
/// removes what is left and restores again.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_is_cleaned_up_and_done_again() {
    let (postgres, _) = target();
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.sql(
        "shop",
        "CREATE TABLE t AS SELECT i, repeat('x', 100) AS v FROM generate_series(1, 30000) i",
    );
    let mut nightbell = Nightbell::start("collectors: {}\n");
    assert!(
        postgres.shell(nightbell.folder.path(), "pg_dump shop > plain.sql"),
        "a dump failed"
    );
    let config = |rate: &str| {
        format!(
            "global: {{scrape_interval: 1s}}\ncollectors:\n  backup: {{name: shop, files: {}, settle: 0s, interval: 1s}}\n  \
             restore_test: {{name: shop, backup: shop, every: 1d, interval: 1s, read_rate: {rate}, dsn: '{}'}}\n",
            nightbell.folder.path().join("plain.sql").display(),
            postgres.dsn("restorer", "postgres")
        )
    };
    let (slow, fast) = (config("100KB"), config("50MB"));
    nightbell.stop();
    nightbell.configure(&slow);
    nightbell.restart();
    let sessions = || {
        postgres.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'nightbell_restore_test' AND query LIKE 'COPY%'")
    };
    wait_until("rows are being restored", Duration::from_secs(60), || {
        sessions() != "0"
    });
    nightbell.kill();
    wait_until("psql has gone with it", Duration::from_secs(30), || {
        sessions() == "0"
    });
    assert!(
        databases(&postgres).contains("nightbell_restore_test"),
        "nobody could remove it"
    );
    nightbell.configure(&fast);
    nightbell.restart();
    wait_until("it is restored", Duration::from_secs(60), || {
        nightbell.metric("restore_test_success") == Some(1.0)
    });
    assert_eq!(nightbell.metric("restore_test_rows"), Some(30000.0));
    assert_eq!(databases(&postgres), "postgres shop");
    assert!(
        !nightbell
            .folder
            .path()
            .join("state/restore_test/shop")
            .exists()
    );
    nightbell.stop();
}

#[test]
fn wrong_settings_are_named_with_the_remedy() {
    for (yaml, part) in [
        ("files: /a\n", "says not when; add every: 7d"),
        ("every: 1d\n", "neither \"backup\" nor \"files\" is given"),
        (
            "backup: b\nfiles: /a\nevery: 1d\n",
            "stands beside \"backup\"",
        ),
        ("backup: b\nevery: 1d\n", "no backup is named \"b\""),
        (
            "files: /a\nevery: 1d\ndatabase: postgres\n",
            "cannot be a scratch database",
        ),
        (
            "files: /a\nevery: 1d\ndsn: postgres://u:hunter2@h/nightbell_restore_test\n",
            "is the one that the DSN names",
        ),
        (
            "files: /a\nevery: 1d\ndsn: mysql://u:hunter2@h/d\n",
            "is not a PostgreSQL URL",
        ),
        (
            "files: /a\nevery: 1d\nexpect: [{sql: DELETE FROM t}]\n",
            "begins with DELETE",
        ),
        (
            "files: /a\nevery: 1d\nexpect: [{min: 1}]\n",
            "\"sql\" is missing",
        ),
        ("files: /a\nat: 25:00\n", "is no time"),
        ("files: /a\nevery: 1d\nkeep: 3\n", "unknown key"),
    ] {
        let errors = try_build("restore_test", yaml)
            .err()
            .unwrap_or_else(|| panic!("{yaml}"))
            .to_string();
        assert!(
            errors.contains(part) && !errors.contains("hunter2"),
            "{yaml}: {errors}"
        );
    }
}
