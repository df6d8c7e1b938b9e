//! The `backup` collector (C15, T24) against what the real pg_dump, tar, gzip, xz, zstd and SQLite
//! wrote.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use nightbell::collectors::{Collector, Memory};
use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, try_build_with, value};
use crate::servers::postgres::Postgres;

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

/// Gives a file, or a folder and what is in it, an age.
fn age(path: &Path, seconds: u64) {
    let find = Command::new("find")
        .arg(path)
        .args([
            "-exec",
            "touch",
            "-h",
            "-d",
            &format!("{seconds} seconds ago"),
            "{}",
            "+",
        ])
        .status();
    assert!(find.expect("find runs").success());
}

fn reason(batch: &Batch) -> String {
    batch
        .families
        .get("backup_invalid_info")
        .map(|family| family.samples[0].labels.value("reason").to_owned())
        .unwrap_or_default()
}

/// Collects until nothing is left to be read, and `done` holds.
async fn until(collector: &mut Box<dyn Collector>, done: impl Fn(&Batch) -> bool) -> Batch {
    let started = Instant::now();
    loop {
        let (batch, result) = collect("backup", collector).await;
        result.expect("the folder is readable");
        if done(&batch) && value(&batch, "backup_reading_since_timestamp_seconds", &[]).is_none() {
            return batch;
        }
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "not within 60 s: {:?}",
            batch.families.keys()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What is said of one file or folder: `ok`, or the reason.
async fn judged(path: &Path, kind: &str) -> String {
    age(path, 100);
    let mut collector = build(
        "backup",
        &format!("files: {}\nkind: {kind}\n", path.display()),
    );
    let batch = until(&mut collector, |batch| {
        value(batch, "backup_valid", &[]).is_some()
    })
    .await;
    match value(&batch, "backup_valid", &[]) {
        Some(1.0) => "ok".into(),
        _ => reason(&batch),
    }
}

/// C15: dumps in each of pg_dump's formats, packed or not, are complete; cut short or of a dead
/// database they are not, however intact the archive around them.
#[tokio::test(flavor = "multi_thread")]
async fn dumps_are_judged_by_their_real_end() {
    dumps_of(Postgres::start(&[])).await;
    dumps_of(Postgres::start_newest(&[])).await;
}

async fn dumps_of(mut postgres: Postgres) {
    postgres.sql(
        "postgres",
        "CREATE TABLE t AS SELECT i, repeat('-- PostgreSQL database dump complete' || i, 5) AS v FROM generate_series(1, 3000) i",
    );
    postgres.sql(
        "postgres",
        "CREATE TABLE u AS TABLE t; CREATE INDEX ON t (i); SELECT lo_from_bytea(0, 'large');",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let script = "set -e
        pg_dump postgres > plain.sql; pg_dumpall > all.sql; pg_dump postgres | gzip > packed.sql.gz; pg_dump -a postgres > data.sql
        pg_dump -Fc postgres > custom.dump; pg_dump -Fc -f seekable.dump postgres; pg_dump -Fc postgres | gzip > custom.dump.gz
        pg_dump -Ft postgres > tar.dump; pg_dump -Fd -f directory postgres; pg_dump -Fd -Z0 -f unpacked postgres
        pg_dump postgres | xz > packed.sql.xz; pg_dump postgres | zstd -q > packed.sql.zst
        head -c 200000 plain.sql > cut.sql; head -c 200000 plain.sql | gzip > cut-inside.sql.gz
        head -c 200000 plain.sql | xz > cut-inside.sql.xz; head -c 200000 plain.sql | zstd -q > cut-inside.sql.zst; head -c 20000 packed.sql.gz > cut.sql.gz
        head -c 20000 custom.dump > cut.dump; head -c 20000 seekable.dump > cut-seekable.dump; head -c 20000 tar.dump > cut-tar.dump
        head -c 5000 packed.sql.xz > cut.sql.xz; head -c 5000 packed.sql.zst > cut.sql.zst
        cp -r directory no-toc; rm no-toc/toc.dat; cp -r directory no-member; rm \"$(ls -d no-member/*.dat* | head -1)\"
        cp packed.sql.gz damaged.sql.gz; printf xxxx | dd of=damaged.sql.gz bs=1 seek=9000 conv=notrunc
        : > empty.sql; echo error > text.sql";
    assert!(postgres.shell(folder, script), "a dump failed");
    postgres.stop();
    assert!(
        postgres.shell(folder, "pg_dump postgres | gzip > dead.sql.gz"),
        "a pipe's status is gzip's"
    );
    assert_eq!(
        folder.join("dead.sql.gz").metadata().expect("there").len(),
        20
    );
    let mut wrong = Vec::new();
    for (name, expected) in [
        ("plain.sql", "ok"),
        ("all.sql", "ok"),
        ("data.sql", "ok"),
        ("packed.sql.gz", "ok"),
        ("packed.sql.xz", "ok"),
        ("packed.sql.zst", "ok"),
        ("custom.dump", "ok"),
        ("seekable.dump", "ok"),
        ("custom.dump.gz", "ok"),
        ("tar.dump", "ok"),
        ("directory", "ok"),
        ("unpacked", "ok"),
        ("dead.sql.gz", "empty"),
        ("cut.sql", "no_end"),
        ("cut-inside.sql.gz", "no_end"),
        ("cut-inside.sql.xz", "no_end"),
        ("cut-inside.sql.zst", "no_end"),
        ("cut.sql.gz", "truncated"),
        ("cut.dump", "truncated"),
        ("cut-seekable.dump", "truncated"),
        ("cut-tar.dump", "truncated"),
        ("cut.sql.xz", "truncated"),
        ("cut.sql.zst", "truncated"),
        ("no-toc", "no_end"),
        ("no-member", "member_missing"),
        ("damaged.sql.gz", "damaged"),
        ("empty.sql", "empty"),
        ("text.sql", "no_end"),
    ] {
        for kind in ["pg_dump", "any"] {
            // By itself, what has no beginning of a dump is a text like any other.
            if kind == "any" && (name == "text.sql" || name == "no-toc") {
                continue;
            }
            let got = judged(&folder.join(name), kind).await;
            if got != expected {
                wrong.push(format!("{name} as {kind}: {got}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Dumps of MySQL and MariaDB end with a line of their own, packed or not; a set's dump may be of
/// either kind of server.
#[tokio::test(flavor = "multi_thread")]
async fn dumps_of_mysql_are_judged_by_their_last_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let script = r"set -e
        rows() { echo 'CREATE TABLE `t` (`a` int);'; seq 3000 | sed 's/.*/INSERT INTO `t` VALUES (&);/'; }
        { echo '-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)'; rows; echo; echo '-- Dump completed on 2026-12-01  2:00:01'; } > mysql.sql
        { echo '/*M!999999\- enable the sandbox mode */ '; echo '-- MariaDB dump 10.19  Distrib 10.11.11-MariaDB'; rows; echo; echo '-- Dump completed on 2026-12-01  2:00:01'; } > maria.sql
        gzip -c maria.sql > maria.sql.gz; zstd -q mysql.sql -o mysql.sql.zst; head -c 20000 maria.sql > cut.sql; gzip -c cut.sql > cut.sql.gz
        xz -c cut.sql > cut.sql.xz; { rows; echo '-- Dump completed'; } > bare.sql; : | gzip > dead.sql.gz";
    shell(folder, script);
    let mut wrong = Vec::new();
    for (name, expected) in [
        ("mysql.sql", "ok"),
        ("maria.sql", "ok"),
        ("maria.sql.gz", "ok"),
        ("mysql.sql.zst", "ok"),
        ("cut.sql", "no_end"),
        ("cut.sql.gz", "no_end"),
        ("cut.sql.xz", "no_end"),
        ("bare.sql", "ok"),
        ("dead.sql.gz", "empty"),
    ] {
        for kind in ["mysqldump", "any"] {
            let got = judged(&folder.join(name), kind).await;
            if got != expected {
                wrong.push(format!("{name} as {kind}: {got}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut members = Vec::new();
    for dump in ["maria.sql.gz", "cut.sql.gz"] {
        let run = folder.join(format!("run-{dump}"));
        fs::create_dir(&run).expect("made");
        fs::copy(folder.join(dump), run.join("database.sql.gz")).expect("copied");
        age(&run, 1000);
        let yaml = format!("set: {}\nneeds: [database.sql.gz]\n", run.display());
        let mut collector = build("backup", &yaml);
        let batch = until(&mut collector, |batch| {
            value(batch, "backup_valid", &[]).is_some()
        })
        .await;
        members.push(value(&batch, "backup_valid", &[]));
    }
    assert_eq!(members, [Some(1.0), Some(0.0)]);
}

/// C15: tar archives end with their last blocks, SQLite copies are sound; nothing is made beside
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn archives_and_copies_are_judged_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let script = "set -e
        mkdir work; seq 30000 > work/a; ln -s a work/b; ln work/a work/c; truncate -s 300K work/sparse; echo x >> work/sparse
        name=$(printf 'n%.0s' $(seq 150)); echo long > work/$name
        tar -cf plain.tar work; tar -czf gnu.tar.gz work; tar -czf pax.tar.gz --format=pax work; tar -Sczf sparse.tar.gz work
        tar -cJf packed.tar.xz work; tar -czf nothing.tar.gz -T /dev/null
        head -c 100000 plain.tar > cut.tar; gzip -c cut.tar > cut-inside.tar.gz; head -c 30000 gnu.tar.gz > cut.tar.gz
        seq 10 | gzip > no.tar.gz
        cat > make.py <<END
import sqlite3, shutil
c = sqlite3.connect('live.db'); c.execute('PRAGMA journal_mode=WAL')
c.execute('CREATE TABLE t (v)'); c.executemany('INSERT INTO t VALUES (?)', [('x' * 500,)] * 2000); c.execute('CREATE INDEX i ON t (v)'); c.commit()
c.execute('PRAGMA wal_checkpoint(TRUNCATE)'); shutil.copy('live.db', 'sessions.db.backup')
END
        python3 make.py; cp sessions.db.backup broken.db; dd if=/dev/urandom of=broken.db bs=4096 seek=2 count=3 conv=notrunc
        head -c 100000 sessions.db.backup > cut.db";
    shell(folder, script);
    let before = fs::read_dir(folder).expect("a folder").count();
    let mut wrong = Vec::new();
    for (name, kind, expected) in [
        ("plain.tar", "tar", "ok"),
        ("gnu.tar.gz", "tar.gz", "ok"),
        ("pax.tar.gz", "tar", "ok"),
        ("sparse.tar.gz", "any", "ok"),
        ("packed.tar.xz", "tar", "ok"),
        ("work", "folder", "ok"),
        ("nothing.tar.gz", "tar", "empty"),
        ("cut.tar", "tar", "truncated"),
        ("cut-inside.tar.gz", "any", "truncated"),
        ("cut.tar.gz", "tar", "truncated"),
        ("no.tar.gz", "tar", "wrong_format"),
        ("no.tar.gz", "any", "ok"),
        ("sessions.db.backup", "sqlite", "ok"),
        ("broken.db", "sqlite", "damaged"),
        ("cut.db", "any", "damaged"),
        ("plain.tar", "sqlite", "wrong_format"),
    ] {
        let got = judged(&folder.join(name), kind).await;
        if got != expected {
            wrong.push(format!("{name} as {kind}: {got}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(
        fs::read_dir(folder).expect("a folder").count(),
        before,
        "something was made"
    );
}

/// C15: the newest by time counts, not by name; an invalid one leaves the last success where it
/// was; sizes are compared with those before.
#[tokio::test(flavor = "multi_thread")]
async fn a_ring_is_judged_by_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    for hour in 0..5 {
        shell(
            folder,
            &format!("seq $((20000 + {hour})) | gzip -n > db_0{hour}.gz"),
        );
        age(&folder.join(format!("db_0{hour}.gz")), 36_000 - hour * 3600);
    }
    shell(folder, "seq 10 | gzip > db_01.gz");
    age(&folder.join("db_01.gz"), 3600);
    let yaml = format!(
        "files: {}/db_*.gz\nevery: 1h\nkeep: 24\nshrink: 50%\n",
        folder.display()
    );
    let mut collector = build("backup", &yaml);
    let batch = until(&mut collector, |batch| {
        value(batch, "backup_valid", &[]).is_some()
    })
    .await;
    let of =
        |batch: &Batch, name: &str| value(batch, name, &[]).unwrap_or_else(|| panic!("no {name}"));
    let modified = |name: &str| folder.join(name).metadata().expect("there").mtime() as f64;
    assert_eq!(
        (
            of(&batch, "backup_files"),
            of(&batch, "backup_valid"),
            of(&batch, "backup_keep_files")
        ),
        (5.0, 1.0, 24.0)
    );
    assert_eq!(
        of(&batch, "backup_last_success_timestamp_seconds").floor(),
        modified("db_01.gz")
    );
    assert_eq!(
        of(&batch, "backup_oldest_timestamp_seconds").floor(),
        modified("db_00.gz")
    );
    assert_eq!(
        (of(&batch, "backup_next_due_timestamp_seconds") - 4320.0).floor(),
        modified("db_01.gz")
    );
    assert!(
        of(&batch, "backup_size_ratio") < of(&batch, "backup_size_ratio_min"),
        "ten lines after twenty thousand"
    );
    // The next run dies.
    fs::write(
        folder.join("db_02.gz"),
        &fs::read(folder.join("db_03.gz")).expect("read")[..500],
    )
    .expect("written");
    age(&folder.join("db_02.gz"), 100);
    let batch = until(&mut collector, |batch| {
        value(batch, "backup_valid", &[]) == Some(0.0)
    })
    .await;
    assert_eq!(reason(&batch), "truncated");
    assert_eq!(
        of(&batch, "backup_last_success_timestamp_seconds").floor(),
        modified("db_01.gz")
    );
    assert_eq!(
        (of(&batch, "backup_next_due_timestamp_seconds") - 4320.0).floor(),
        modified("db_01.gz")
    );
}

/// C15: what still grows, or was written a moment ago, is not judged; nor is it read again after a
/// restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_read_once_and_not_while_it_grows() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.tar.gz");
    shell(folder.path(), "seq 50000 > a; tar -cf sessions.tar.gz a");
    let memory = Memory::of(folder.path(), "backup", "backup", "t");
    let yaml = format!("files: {}\nkind: tar\nevery: 1d\n", path.display());
    let start = || {
        try_build_with("backup", &yaml, memory.clone()).unwrap_or_else(|errors| panic!("{errors}"))
    };
    let mut collector = start();
    for _ in 0..3 {
        let (batch, _) = collect("backup", &mut collector).await;
        assert_eq!(
            (
                value(&batch, "backup_valid", &[]),
                value(&batch, "backup_read_bytes_total", &[])
            ),
            (None, Some(0.0)),
            "it is fresh"
        );
    }
    // An old time that a copy brings along: its size says that it grows.
    for size in 1..4 {
        let file = fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("opened");
        file.set_len(path.metadata().expect("there").len() + size * 512)
            .expect("longer");
        age(&path, 3000);
        let (batch, _) = collect("backup", &mut collector).await;
        assert_eq!(
            value(&batch, "backup_read_bytes_total", &[]),
            Some(0.0),
            "it grows"
        );
    }
    let batch = until(&mut collector, |batch| {
        value(batch, "backup_valid", &[]).is_some()
    })
    .await;
    let size = path.metadata().expect("there").len() as f64;
    assert_eq!(
        (
            value(&batch, "backup_valid", &[]),
            value(&batch, "backup_read_bytes_total", &[])
        ),
        (Some(1.0), Some(size))
    );
    let success = value(&batch, "backup_last_success_timestamp_seconds", &[]);
    for _ in 0..3 {
        let (batch, _) = collect("backup", &mut collector).await;
        assert_eq!(
            value(&batch, "backup_read_bytes_total", &[]),
            Some(size),
            "it was read already"
        );
    }
    crate::servers::wait_until("the memory", Duration::from_secs(20), || {
        memory.load().is_some_and(|text| text.contains("size"))
    });
    drop(collector);
    let mut collector = start();
    let (batch, _) = collect("backup", &mut collector).await;
    assert_eq!(
        (
            value(&batch, "backup_valid", &[]),
            value(&batch, "backup_read_bytes_total", &[])
        ),
        (Some(1.0), Some(0.0))
    );
    assert_eq!(
        value(&batch, "backup_last_success_timestamp_seconds", &[]),
        success
    );
    // Overwritten by a smaller one: compared with what it was.
    shell(folder.path(), "seq 50 > a; tar -b1 -cf sessions.tar.gz a");
    age(&path, 100);
    let batch = until(&mut collector, |batch| {
        value(batch, "backup_last_success_timestamp_seconds", &[]) != success
    })
    .await;
    assert!(value(&batch, "backup_size_ratio", &[]).is_some_and(|ratio| ratio < 0.1));
}

/// C15: a set is a folder of each run; one that misses a member is of no use, unless it is still
/// being made.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_needs_its_members() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    for (run, seconds) in [("20261128_020000", 90_000), ("20261129_020000", 4000)] {
        shell(
            folder,
            &format!(
                "mkdir {run}; cd {run}; echo x > x; tar -czf application.tar.gz x; echo Date > manifest.txt; rm x"
            ),
        );
        age(&folder.join(run), seconds);
    }
    let yaml = format!(
        "set: {}/*/\nneeds: [application.tar.gz, manifest.txt]\nat: '02:00'\ntimezone: Asia/Shanghai\nkeep_days: 7\n",
        folder.display()
    );
    let mut collector = build("backup", &yaml);
    let batch = until(&mut collector, |batch| {
        value(batch, "backup_valid", &[]).is_some()
    })
    .await;
    assert_eq!(
        (
            value(&batch, "backup_files", &[]),
            value(&batch, "backup_valid", &[])
        ),
        (Some(2.0), Some(1.0))
    );
    let due = value(&batch, "backup_next_due_timestamp_seconds", &[]).expect("a schedule");
    assert_eq!(
        due as i64 % 86_400,
        19 * 3600,
        "02:00 in Shanghai and an hour of grace"
    );
    // The next run: first it is being made, then it has ended.
    shell(
        folder,
        "mkdir 20261130_020000; cp 20261129_020000/manifest.txt 20261130_020000",
    );
    age(&folder.join("20261130_020000"), 100);
    let (batch, _) = collect("backup", &mut collector).await;
    let (again, _) = collect("backup", &mut collector).await;
    assert_eq!(
        [&batch, &again].map(|batch| value(batch, "backup_valid", &[])),
        [Some(1.0); 2]
    );
    age(&folder.join("20261130_020000"), 1000);
    let batch = until(&mut collector, |batch| {
        value(batch, "backup_valid", &[]) == Some(0.0)
    })
    .await;
    assert_eq!(reason(&batch), "member_missing");
}

/// A folder that is not there is an error, no backups in one that is are not; a pipe is not waited
/// for; the rate is kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_and_holds_up_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut collector = build(
        "backup",
        &format!("files: {}/none/*.gz\nevery: 1d\n", folder.path().display()),
    );
    let (batch, result) = collect("backup", &mut collector).await;
    assert!(
        result
            .expect_err("no folder")
            .reason
            .contains("none: No such file or directory")
    );
    assert_eq!(value(&batch, "backup_files", &[]), None);
    shell(folder.path(), "mkfifo pipe.gz");
    let mut collector = build(
        "backup",
        &format!("files: {}/*.gz\nevery: 1d\n", folder.path().display()),
    );
    let (batch, result) = collect("backup", &mut collector).await;
    result.expect("a folder");
    assert_eq!(value(&batch, "backup_files", &[]), Some(0.0));
    let due = value(&batch, "backup_next_due_timestamp_seconds", &[]).expect("a schedule");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("now")
        .as_secs_f64();
    assert!(
        (due - now - 86_400.0 * 1.2).abs() < 60.0,
        "nothing is late at the first look"
    );
    shell(folder.path(), "head -c 3000000 /dev/urandom > slow.bin");
    age(&folder.path().join("slow.bin"), 100);
    let mut collector = build(
        "backup",
        &format!(
            "files: {}/slow.bin\nread_rate: 1MB\n",
            folder.path().display()
        ),
    );
    let begun = Instant::now();
    until(&mut collector, |batch| {
        value(batch, "backup_valid", &[]).is_some()
    })
    .await;
    assert!(
        begun.elapsed() > Duration::from_secs(2),
        "faster than 1 MB/s: {:?}",
        begun.elapsed()
    );
}

#[test]
fn wrong_keys_are_refused_with_the_remedy() {
    for (yaml, problem) in [
        (
            "kind: tar\n",
            "none of \"files\", \"set\" and \"bucket\" is given",
        ),
        ("files: a\nset: b\n", "stands beside \"files\""),
        ("set: b\n", "has no members"),
        (
            "files: a\nkind: zip\n",
            "\"zip\" is not known; give pg_dump, mysqldump, sqlite, tar, folder or any",
        ),
        (
            "files: a\nevery: 1h\nat: '02:00'\n",
            "stands beside \"every\"",
        ),
        ("files: a\nat: '2 o clock'\n", "is no time; give \"02:00\""),
        (
            "files: a\nat: '02:00'\ntimezone: Mars\n",
            "is not a time zone",
        ),
        ("files: a\nshrink: half\n", "give a share such as 50%"),
    ] {
        let Err(errors) = try_build("backup", yaml) else {
            panic!("{yaml} is taken")
        };
        assert!(errors.to_string().contains(problem), "{errors}");
    }
}
