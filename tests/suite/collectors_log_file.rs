//! The `log_file` collector over real files (C13): every kind of rotation, restarts and `kill -9`,
//! and what a log may hold.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nightbell::collectors::{Collector, Memory};
use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, try_build_with, value};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

/// A collector that remembers in `folder`, as after a start.
fn start(folder: &Path, yaml: &str) -> Box<dyn Collector> {
    let memory = Memory::of(folder, "log_file", "log_file", "t");
    try_build_with("log_file", yaml, memory).unwrap_or_else(|errors| panic!("{errors}"))
}

async fn look(collector: &mut Box<dyn Collector>) -> Batch {
    collect("log_file", collector).await.0
}

/// Lines that were counted so far, of whatever level.
fn counted(batch: &Batch) -> f64 {
    let all = batch
        .samples()
        .filter(|s| s.labels.metric_name() == "log_lines_total")
        .map(|s| s.value);
    all.sum::<f64>() + value(batch, "log_continuation_lines_total", &[]).unwrap_or(0.0)
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("the log opens");
    file.write_all(text.as_bytes()).expect("written");
}

fn lines(from: usize, count: usize) -> String {
    (from..from + count)
        .map(|n| format!("2026-11-30 12:00:00,000 INFO line number {n} of a log that rotates\n"))
        .collect()
}

struct Log {
    folder: tempfile::TempDir,
    path: PathBuf,
    written: usize,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log").join("app.log");
        fs::create_dir(folder.path().join("log")).expect("made");
        File::create(&path).expect("made");
        Log {
            folder,
            path,
            written: 0,
        }
    }

    fn write(&mut self, count: usize) {
        append(&self.path, &lines(self.written, count));
        self.written += count;
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.path.display()))
    }

    fn start(&self) -> Box<dyn Collector> {
        start(
            self.folder.path(),
            &format!("path: {}\n", self.path.display()),
        )
    }

    /// As RotatingFileHandler does it.
    fn shift(&self) {
        for n in (1..9).rev() {
            for packed in ["", ".gz"] {
                let _ = fs::rename(
                    self.beside(&format!(".{n}{packed}")),
                    self.beside(&format!(".{}{packed}", n + 1)),
                );
            }
        }
    }

    fn rotate(&self, how: &str) {
        match how {
            "rename" => fs::rename(&self.path, self.beside(&format!("-{:020}", self.written)))
                .expect("renamed"),
            "numbered" => {
                self.shift();
                fs::rename(&self.path, self.beside(".1")).expect("renamed");
                File::create(&self.path).expect("made");
            }
            "copytruncate" => {
                self.shift();
                fs::copy(&self.path, self.beside(".1")).expect("copied");
                OpenOptions::new()
                    .write(true)
                    .truncate(true)
                    .open(&self.path)
                    .expect("truncated");
            }
            "compressed" => {
                self.shift();
                for n in 2..9 {
                    let plain = self.beside(&format!(".{n}"));
                    if plain.exists() {
                        assert!(
                            Command::new("gzip")
                                .arg(&plain)
                                .status()
                                .expect("gzip runs")
                                .success()
                        );
                    }
                }
                fs::rename(&self.path, self.beside(".1")).expect("renamed");
                File::create(&self.path).expect("made");
            }
            other => panic!("{other}"),
        }
    }
}

/// C13: in each kind of rotation each line counts once: looked at before and after, seldom, over
/// restarts, several rotations at once.
#[tokio::test(flavor = "multi_thread")]
async fn each_line_counts_once_in_every_kind_of_rotation() {
    for how in ["rename", "numbered", "copytruncate", "compressed"] {
        for looks_in_between in [true, false] {
            let mut log = Log::new();
            log.write(5);
            let before = log.written;
            let mut collector = log.start();
            assert_eq!(
                counted(&look(&mut collector).await),
                0.0,
                "it begins at the end"
            );
            for round in 0..6 {
                log.write(10 + round);
                if looks_in_between {
                    look(&mut collector).await;
                    log.write(3);
                }
                if round % 2 == 1 {
                    // Gone, without a word: what was looked at is saved.
                    collector = log.start();
                }
                // In the same instant the order of files could not be seen by their times.
                std::thread::sleep(Duration::from_millis(8));
                log.rotate(how);
                log.write(2);
            }
            let batch = look(&mut collector).await;
            assert_eq!(
                counted(&batch),
                (log.written - before) as f64,
                "{how}, looks in between: {looks_in_between}"
            );
            let figures = [
                "log_files_lost_total",
                "log_bytes_behind",
                "log_readable",
                "log_position_saved",
            ];
            assert_eq!(
                figures.map(|name| value(&batch, name, &[])),
                [0.0, 0.0, 1.0, 1.0].map(Some),
                "{how}"
            );
            assert_eq!(
                counted(&look(&mut log.start()).await),
                (log.written - before) as f64,
                "{how}: after another restart"
            );
        }
    }
}

/// C13: one rotation after another of whatever kinds between two looks, as after a restart: what
/// copying and truncating leaves behind has another file's inode, and an inode that compression freed
/// is given to the next file.
#[tokio::test(flavor = "multi_thread")]
async fn each_line_counts_once_over_several_kinds_of_rotation_at_once() {
    let kinds = ["rename", "numbered", "copytruncate", "compressed"];
    for number in 0..kinds.len().pow(3) {
        let hows = [number / 16, number / 4, number].map(|n| kinds[n % kinds.len()]);
        let mut log = Log::new();
        log.write(5);
        let mut collector = log.start();
        look(&mut collector).await;
        let before = log.written;
        log.write(20);
        look(&mut collector).await;
        drop(collector);
        for how in hows {
            // In the same instant the order of files could not be seen by their times.
            std::thread::sleep(Duration::from_millis(8));
            log.write(7);
            log.rotate(how);
            log.write(30);
        }
        let batch = look(&mut log.start()).await;
        assert_eq!(
            (counted(&batch), value(&batch, "log_files_lost_total", &[])),
            ((log.written - before) as f64, Some(0.0)),
            "{hows:?}"
        );
    }
}

/// C13: a copy that is met while it is being made, before its original is truncated.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_being_made_counts_once() {
    let mut log = Log::new();
    let mut collector = log.start();
    look(&mut collector).await;
    log.write(30);
    look(&mut collector).await;
    drop(collector);
    std::thread::sleep(Duration::from_millis(8));
    log.rotate("numbered");
    log.write(60);
    let whole = fs::read(&log.path).expect("read");
    std::thread::sleep(Duration::from_millis(8));
    log.shift();
    fs::write(log.beside(".1"), &whole[..whole.len() / 2]).expect("written");
    assert_eq!(counted(&look(&mut log.start()).await), 90.0);
    log.write(1);
    fs::copy(&log.path, log.beside(".1")).expect("copied");
    File::create(&log.path).expect("truncated");
    log.write(5);
    assert_eq!(counted(&look(&mut log.start()).await), 96.0);
}

/// C13: the file that Debian's logrotate left, while nightbell was down, is read to its end, also
/// when it was compressed at once.
#[tokio::test(flavor = "multi_thread")]
async fn logrotate_loses_no_line() {
    for options in [
        "create",
        "copytruncate",
        "create\n  compress",
        "create\n  compress\n  delaycompress",
        "create\n  dateext\n  dateformat -%s",
    ] {
        let mut log = Log::new();
        let mut collector = log.start();
        look(&mut collector).await;
        let config = log.folder.path().join("logrotate.conf");
        fs::write(
            &config,
            format!("{} {{\n  rotate 9\n  {options}\n}}\n", log.path.display()),
        )
        .expect("written");
        for round in 0..3 {
            log.write(40);
            look(&mut collector).await;
            log.write(7);
            collector = log.start();
            // With -%s the names are seconds.
            std::thread::sleep(Duration::from_millis(if options.contains("%s") {
                1100
            } else {
                10
            }));
            let mut logrotate = Command::new("/usr/sbin/logrotate");
            logrotate
                .arg("-f")
                .arg("-s")
                .arg(log.folder.path().join("status"))
                .arg(&config);
            let rotated = logrotate
                .output()
                .expect("logrotate runs: apt-get install logrotate");
            assert!(
                rotated.status.success(),
                "{}",
                String::from_utf8_lossy(&rotated.stderr)
            );
            log.write(round);
            let batch = look(&mut collector).await;
            assert_eq!(
                counted(&batch),
                log.written as f64,
                "{options}, round {round}"
            );
        }
    }
}

/// C13: what a slow writer still writes to the renamed file counts; a half line waits for its end;
/// a deleted file is read to its end.
#[tokio::test(flavor = "multi_thread")]
async fn half_lines_late_lines_and_deleted_files_are_read() {
    let mut log = Log::new();
    let mut collector = log.start();
    look(&mut collector).await;
    append(&log.path, "INFO half");
    assert_eq!(counted(&look(&mut collector).await), 0.0);
    append(&log.path, " a line\n");
    assert_eq!(counted(&look(&mut collector).await), 1.0);
    let mut late = OpenOptions::new()
        .append(true)
        .open(&log.path)
        .expect("opened");
    fs::rename(&log.path, log.beside(".1")).expect("renamed");
    let batch = look(&mut collector).await;
    assert_eq!(
        value(&batch, "log_readable", &[]),
        Some(0.0),
        "there is no log now"
    );
    log.write(2);
    assert_eq!(counted(&look(&mut collector).await), 3.0);
    late.write_all(b"INFO late\n").expect("written");
    assert_eq!(
        counted(&look(&mut collector).await),
        4.0,
        "its writer went on in the old file"
    );
    log.write(2);
    fs::remove_file(&log.path).expect("deleted");
    log.write(1);
    let batch = look(&mut collector).await;
    assert_eq!(
        (counted(&batch), value(&batch, "log_files_lost_total", &[])),
        (7.0, Some(0.0))
    );
}

/// C13: a deleted file that has more than is read at once is read to its end by the next looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_deleted_file_is_read_to_its_end() {
    let mut log = Log::new();
    let yaml = format!("path: {}\nmax_bytes: 2MB\n", log.path.display());
    let mut collector = start(log.folder.path(), &yaml);
    look(&mut collector).await;
    log.write(1);
    look(&mut collector).await;
    log.write(60_000);
    fs::remove_file(&log.path).expect("deleted");
    log.write(1);
    for _ in 0..5 {
        look(&mut collector).await;
    }
    let batch = look(&mut collector).await;
    assert_eq!(
        (counted(&batch), value(&batch, "log_files_lost_total", &[])),
        (60_002.0, Some(0.0))
    );
}

/// C13: JSON, logfmt, plain columns and a regular expression: levels, patterns, types, durations
/// with a condition, slow lines, times.
#[tokio::test(flavor = "multi_thread")]
async fn formats_have_levels_patterns_types_and_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.log");
    let json = concat!(
        r#"{"timestamp":"2026-11-30T20:00:00","level":"INFO","message":"Request started","context":{}}"#,
        "\n",
        r#"{"timestamp":"2026-11-30T20:00:01","level":"INFO","message":"api.request_duration","context":{"execution_time":0.3,"url":"/a"}}"#,
        "\n",
        r#"{"timestamp":"2026-11-30T20:00:02","level":"INFO","message":"api.request_duration","context":{"execution_time":7.5,"url":"/b?token=sk-abcdefgh12345"}}"#,
        "\n",
        r#"{"timestamp":"2026-11-30T20:00:03","level":"INFO","message":"other","context":{"execution_time":1000}}"#,
        "\n",
        r#"{"timestamp":"2026-11-30T20:00:04","level":"ERROR","message":"Model API error 429 for 'u1'","context":{}}"#,
        "\n",
        r#"{"timestamp":"2026-11-30T20:00:05","level":"CRITICAL","message":"Model API error 503 for 'u2'","context":{}}"#,
        "\n",
        "Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\nValueError: ERROR in b\n",
    );
    fs::write(&path, json).expect("written");
    let mut collector = build(
        "log_file",
        &format!(
            "path: {}
format: json
start: beginning
level: level
time: {{field: timestamp, zone: Asia/Shanghai}}
type: message
count:
  requests: {{contains: \"Request started\"}}
  model_error: {{regex: 'Model API error \\d+'}}
observe:
  request_duration: {{where: {{message: api.request_duration}}, field: context.execution_time, buckets: [0.1, 0.5, 5]}}
  newest: {{field: context.execution_time, metric: gauge, unit: ms}}
slow: {{field: context.execution_time, above: 5, keep: 1, show: [timestamp, context.url]}}
",
            path.display()
        ),
    );
    let batch = look(&mut collector).await;
    let of = |name: &str, labels: &[(&str, &str)]| {
        value(&batch, name, labels).unwrap_or_else(|| panic!("no {name}{labels:?}"))
    };
    assert_eq!(
        ["info", "error", "critical", "unknown"]
            .map(|level| of("log_lines_total", &[("level", level)])),
        [4.0, 1.0, 1.0, 0.0]
    );
    assert_eq!(
        of("log_continuation_lines_total", &[]),
        3.0,
        "a traceback is part of the event before it"
    );
    assert_eq!(
        ["requests", "model_error"].map(|pattern| of("log_matches_total", &[("pattern", pattern)])),
        [1.0, 2.0]
    );
    assert_eq!(
        of(
            "log_errors_total",
            &[("type", "Model API error <n> for <text>")]
        ),
        2.0
    );
    let buckets = ["0.1", "0.5", "5.0", "+Inf"].map(|le| {
        of(
            "log_field_seconds_bucket",
            &[("field", "request_duration"), ("le", le)],
        )
    });
    assert_eq!(
        (buckets, of("log_field_seconds_sum", &[])),
        ([0.0, 1.0, 1.0, 2.0], 7.8)
    );
    assert_eq!(
        (
            of("log_field", &[("field", "newest")]),
            of("log_slow_lines_total", &[])
        ),
        (1.0, 2.0)
    );
    assert_eq!(of("log_last_line_timestamp_seconds", &[]), 1_796_040_005.0);
    fs::write(
        &path,
        "t=1 level=warn msg=\"x y\"\nt=2 level=error msg=\"user 7 lost\" took=250\n",
    )
    .expect("written");
    let yaml = format!(
        "path: {}\nformat: logfmt\nstart: beginning\nobserve: {{took: {{field: took, unit: ms}}}}\n",
        path.display()
    );
    let batch = look(&mut build("log_file", &yaml)).await;
    assert_eq!(
        value(&batch, "log_errors_total", &[("type", "user <n> lost")]),
        Some(1.0)
    );
    assert_eq!(
        value(&batch, "log_field_seconds_sum", &[("field", "took")]),
        Some(0.25)
    );
    fs::write(
        &path,
        "2026-11-30 12:00:00 ERROR app.db TimeoutError after 5 s\n<E> disk: full\n",
    )
    .expect("written");
    let batch = look(&mut build(
        "log_file",
        &format!("path: {}\nstart: beginning\ntype: 5\n", path.display()),
    ))
    .await;
    assert_eq!(
        value(&batch, "log_errors_total", &[("type", "TimeoutError")]),
        Some(1.0),
        "grep ERROR | awk '{{print $5}}'"
    );
    let yaml = format!(
        "path: {}\nstart: beginning\nformat: 'regex: ^<(?P<level>\\w+)> (?P<kind>\\w+)'\ntype: kind\nlevel: level\n",
        path.display()
    );
    let yaml = yaml.replace("<E>", "");
    fs::write(&path, "<ERROR> disk: full\n").expect("written");
    let batch = look(&mut build("log_file", &yaml)).await;
    assert_eq!(
        value(&batch, "log_errors_total", &[("type", "disk")]),
        Some(1.0)
    );
}

/// C13: a hundred thousand types of errors become twenty and the rest; no secret becomes a label;
/// bytes that are no text are borne.
#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_of_error_types_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.log");
    let word = |n: usize| -> String {
        (0..4)
            .map(|i| char::from(b'g' + (n / 17_usize.pow(i) % 17) as u8))
            .collect()
    };
    let mut bytes: Vec<u8> =
        b"ERROR key sk-abcdefgh1234567 and Bearer abcdefghij\nERROR \xff\xfe broken\n".to_vec();
    bytes.extend((0..83_000).flat_map(|n| format!("ERROR fault {}\n", word(n)).into_bytes()));
    fs::write(&path, bytes).expect("written");
    let mut collector = build(
        "log_file",
        &format!("path: {}\nstart: beginning\n", path.display()),
    );
    let started = Instant::now();
    let batch = loop {
        let batch = look(&mut collector).await;
        if value(&batch, "log_bytes_behind", &[]) == Some(0.0) {
            break batch;
        }
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "it does not catch up"
        );
    };
    let errors: Vec<_> = batch
        .samples()
        .filter(|s| s.labels.metric_name() == "log_errors_total")
        .collect();
    assert_eq!(errors.len(), 21);
    assert_eq!(errors.iter().map(|s| s.value).sum::<f64>(), 83_002.0);
    assert!(
        errors
            .iter()
            .all(|s| !s.labels.value("type").contains("sk-")
                && !s.labels.value("type").contains("abcdefghij"))
    );
}

/// C13: a line of 100 MB is one line, cut; and one collection reads so much and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_hundred_megabytes_is_one_cut_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.log");
    let mut file = File::create(&path).expect("made");
    file.write_all(b"ERROR long ").expect("written");
    let part = vec![b'x'; 1 << 20];
    (0..100).for_each(|_| file.write_all(&part).expect("written"));
    file.write_all(b"\nINFO after\n").expect("written");
    let mut collector = start(
        folder.path(),
        &format!(
            "path: {}\nstart: beginning\nmax_bytes: 40MB\n",
            path.display()
        ),
    );
    let batch = look(&mut collector).await;
    assert!(
        value(&batch, "log_bytes_behind", &[]).is_some_and(|behind| behind > 50e6),
        "the rest comes later"
    );
    let started = Instant::now();
    let batch = loop {
        // Also in the middle of the line a restart changes nothing.
        collector = start(
            folder.path(),
            &format!(
                "path: {}\nstart: beginning\nmax_bytes: 40MB\n",
                path.display()
            ),
        );
        let batch = look(&mut collector).await;
        if value(&batch, "log_bytes_behind", &[]) == Some(0.0) {
            break batch;
        }
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "it does not catch up"
        );
    };
    assert_eq!(
        (counted(&batch), value(&batch, "log_lines_cut_total", &[])),
        (2.0, Some(1.0))
    );
    assert_eq!(
        value(&batch, "log_lines_total", &[("level", "error")]),
        Some(1.0)
    );
}

/// C13: a folder and a pattern follow their files, not what rotation makes of them; a new file is
/// read from its beginning.
#[tokio::test(flavor = "multi_thread")]
async fn folders_and_patterns_follow_files_that_come() {
    for path in ["", "/*.log*"] {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        append(&at("a.log"), "INFO old\n");
        append(&at("a.log.1"), "INFO older\n");
        let mut collector = build(
            "log_file",
            &format!("path: '{}{path}'\n", folder.path().display()),
        );
        assert_eq!(counted(&look(&mut collector).await), 0.0);
        append(&at("a.log"), "INFO new\n");
        append(&at("b.log"), "INFO first\nINFO second\n");
        let batch = look(&mut collector).await;
        assert_eq!(
            (counted(&batch), value(&batch, "log_files", &[])),
            (3.0, Some(2.0)),
            "{path:?}"
        );
    }
}

/// C13: a container by its name, its Compose service or project: the lines in Docker's envelopes; a
/// new container of the name is followed too.
#[tokio::test(flavor = "multi_thread")]
async fn containers_are_followed_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let container = |id: &str, name: &str, service: &str| {
        let at = folder.path().join(id);
        fs::create_dir(&at).expect("made");
        let config = serde_json::json!({"Name": format!("/{name}"), "Config": {"Labels": {"com.docker.compose.service": service}}});
        fs::write(at.join("config.v2.json"), config.to_string()).expect("written");
        append(&at.join(format!("{id}-json.log")), "");
        at.join(format!("{id}-json.log"))
    };
    let log = |path: &Path, line: &str| {
        let line = serde_json::json!({"log": format!("{line}\n"), "stream": "stderr", "time": "2026-11-30T12:00:00.1Z"});
        append(path, &format!("{line}\n"));
    };
    let (own, other) = (
        container("aa", "agent-v3", "web"),
        container("bb", "other", "db"),
    );
    for name in ["agent-v3", "web"] {
        let mut collector = build(
            "log_file",
            &format!("docker: {name}\ndocker_root: {}\n", folder.path().display()),
        );
        look(&mut collector).await;
        log(&own, "ERROR user \"x\" is gone");
        log(&other, "ERROR not ours");
        let batch = look(&mut collector).await;
        assert_eq!(
            value(
                &batch,
                "log_errors_total",
                &[("type", "user <text> is gone")]
            ),
            Some(1.0),
            "{name}"
        );
        assert_eq!(counted(&batch), 1.0, "{name}");
        if name == "web" {
            log(&container("cc", "agent-v3-2", "web"), "INFO the new one");
            assert_eq!(counted(&look(&mut collector).await), 2.0);
        }
    }
    let (_, result) = collect(
        "log_file",
        &mut build(
            "log_file",
            &format!("docker: none\ndocker_root: {}\n", folder.path().display()),
        ),
    )
    .await;
    assert!(
        result
            .expect_err("no such container")
            .reason
            .contains("docker none: there is no log file")
    );
}

/// C13: what cannot be read is said and counts as not readable: no file, a FIFO without a writer, a
/// missing folder; it ends with the fault.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.log");
    let mut collector = build("log_file", &format!("path: {}\n", path.display()));
    let (batch, result) = collect("log_file", &mut collector).await;
    assert_eq!(value(&batch, "log_readable", &[]), Some(0.0));
    assert!(
        result
            .expect_err("missing")
            .reason
            .contains("entity not found"),
        "it names the file"
    );
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .expect("mkfifo runs")
            .success()
    );
    let (batch, result) = collect("log_file", &mut collector).await;
    assert_eq!(value(&batch, "log_readable", &[]), Some(0.0));
    assert!(
        result
            .expect_err("a FIFO")
            .reason
            .contains("is not a regular file")
    );
    fs::remove_file(&path).expect("removed");
    append(&path, "INFO one\n");
    let (batch, result) = collect("log_file", &mut collector).await;
    result.expect("a file");
    assert_eq!(
        (value(&batch, "log_readable", &[]), counted(&batch)),
        (Some(1.0), 1.0),
        "it came later: from its beginning"
    );
}

/// A full disk, or a state folder that cannot be written: counting goes on, and it is said that a
/// restart would count twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_cannot_be_saved_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, blocked) = (folder.path().join("app.log"), folder.path().join("state"));
    append(&path, "INFO one\n");
    fs::write(&blocked, "").expect("a file in the way");
    let mut collector = start(
        &blocked,
        &format!("path: {}\nstart: beginning\n", path.display()),
    );
    let batch = look(&mut collector).await;
    assert_eq!(
        (counted(&batch), value(&batch, "log_position_saved", &[])),
        (1.0, Some(0.0))
    );
    fs::remove_file(&blocked).expect("removed");
    append(&path, "INFO two\n");
    let batch = look(&mut collector).await;
    assert_eq!(
        (counted(&batch), value(&batch, "log_position_saved", &[])),
        (2.0, Some(1.0))
    );
}

/// Mistakes in the configuration name the key and the remedy.
#[test]
fn mistakes_in_the_settings_are_explained() {
    for (yaml, wanted) in [
        ("format: xml", "give plain, json, logfmt"),
        ("format: 'regex: ('", "is no regular expression"),
        ("type: message", "is no column"),
        ("format: 'regex: (?P<a>x)'\nlevel: b", "has no group"),
        ("start: middle", "give end or beginning"),
        ("count: {x: {}}", "give contains"),
        ("count: {'a b': {contains: x}}", "use letters, digits and _"),
        (
            "format: json\nobserve: {x: {field: a, buckets: [2, 1]}}",
            "each greater than the one before",
        ),
        (
            "format: json\nobserve: {x: {field: a, unit: h}}",
            "give s, ms, us or ns",
        ),
        (
            "format: json\ntime: {field: t, zone: Mars}",
            "is no time zone",
        ),
        ("max_types: 5000", "each is a series"),
        ("docker: x", "keep one of the two"),
        ("envelope: x", "give docker, cri or none"),
        ("nonsense: 1", "unknown key"),
    ] {
        let errors = try_build("log_file", &format!("path: /x\n{yaml}\n"))
            .err()
            .unwrap_or_else(|| panic!("{yaml} was accepted"));
        assert!(errors.to_string().contains(wanted), "{yaml}: {errors}");
    }
}

/// C13: `kill -9` at any instant while a log is written and rotated: every line counts once, and
/// what is shown never goes back.
#[test]
fn killed_at_any_instant_every_line_counts_once() {
    let mut log = Log::new();
    let config = format!(
        "rules: {{shipped: false}}\ncollectors: {{log_file: [{{name: a, path: '{}', interval: 1s, start: beginning, count: {{n: {{contains: number}}}}}}]}}\n",
        log.path.display()
    );
    let mut nightbell = Nightbell::start(&config);
    let shown = |nightbell: &Nightbell, metric: &str| -> f64 {
        let page = nightbell.get("/metrics").1;
        let line = page.lines().find(|line| line.starts_with(metric));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0.0)
    };
    let mut highest = 0.0;
    for round in 0..8_u64 {
        for _ in 0..20 {
            log.write(8_000);
        }
        // Some instant: while it starts, reads, or saves.
        std::thread::sleep(Duration::from_millis(round * 137 % 700));
        nightbell.kill();
        let how = ["rename", "numbered", "compressed", "copytruncate"][round as usize % 4];
        if how == "numbered" {
            log.write(4_000);
        }
        log.rotate(how);
        log.write(1_000);
        nightbell.restart();
        let metric = "log_matches_total{";
        wait_until("it has been shown", Duration::from_secs(30), || {
            shown(&nightbell, metric) > 0.0
        });
        let now = shown(&nightbell, metric);
        assert!(now >= highest, "round {round}: {now} after {highest}");
        highest = now;
    }
    let wanted = log.written as f64;
    wait_until("all lines are counted", Duration::from_secs(60), || {
        shown(&nightbell, "log_matches_total{") >= wanted
    });
    assert_eq!(shown(&nightbell, "log_matches_total{"), wanted);
    assert_eq!(shown(&nightbell, "log_files_lost_total{"), 0.0);
}

/// A log of others that our user may not read: it is said, and nothing else suffers.
#[test]
fn a_log_that_may_not_be_read_is_not_readable() {
    let folder = tempfile::tempdir().expect("a folder");
    let permissions = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(folder.path(), permissions(0o755)).expect("chmod");
    let path = folder.path().join("app.log");
    append(&path, "INFO one\n");
    fs::set_permissions(&path, permissions(0o000)).expect("chmod");
    let words: Vec<&str> = match rustix::process::geteuid().is_root() {
        true => "setpriv --reuid 65534 --regid 65534 --clear-groups"
            .split(' ')
            .collect(),
        false => vec!["env"],
    };
    let config = format!(
        "rules: {{shipped: false}}\ncollectors: {{log_file: [{{path: '{}', interval: 1s}}]}}\n",
        path.display()
    );
    let nightbell = Nightbell::start_by(&words, &config);
    let shows = |text: &str| {
        nightbell
            .get("/metrics")
            .1
            .lines()
            .any(|line| line.starts_with("log_readable{") && line.ends_with(text))
    };
    wait_until("it is not readable", Duration::from_secs(30), || {
        shows(" 0")
    });
    assert!(
        nightbell.log().contains("Permission denied"),
        "{}",
        nightbell.log()
    );
    fs::set_permissions(&path, permissions(0o644)).expect("chmod");
    wait_until("it is readable", Duration::from_secs(30), || shows(" 1"));
}
