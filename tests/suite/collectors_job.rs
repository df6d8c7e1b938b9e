//! The `job` collector (C18): runs by file, log, report and push; `nightbell job run` and the API
//! of Pushgateway against the built binary.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nightbell::collectors::{Collector, Memory};
use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, try_build_with, value};
use crate::servers::hostile::{Hostile, Manner};
use crate::servers::nightbell::Nightbell;
use crate::servers::{free_port, python_tool, wait_until};

/// A collector that remembers in `folder`, as after a start.
fn start(folder: &Path, yaml: &str) -> Box<dyn Collector> {
    try_build_with("job", yaml, Memory::of(folder, "job", "job", "t"))
        .unwrap_or_else(|errors| panic!("{errors}"))
}

async fn look(collector: &mut Box<dyn Collector>) -> Batch {
    collect("job", collector).await.0
}

/// Runs that ended: well, and not.
fn runs(batch: &Batch) -> (f64, f64) {
    let of = |result| value(batch, "job_runs_total", &[("result", result)]).expect("counted");
    (of("success"), of("failed"))
}

fn overdue(batch: &Batch) -> bool {
    value(batch, "job_overdue", &[]) == Some(1.0)
}

fn dated(path: &Path, ago: i64) {
    let file = fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("a file");
    let (now, span) = (SystemTime::now(), Duration::from_secs(ago.unsigned_abs()));
    file.set_modified(if ago < 0 { now + span } else { now - span })
        .expect("dated");
}

#[tokio::test]
async fn each_new_modification_of_the_newest_file_is_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let yaml = format!(
        "file: '{}'\nevery: 1h\ngrace: 1s\n",
        at("out-*.csv").display()
    );
    let mut job = start(folder.path(), &yaml);
    let (batch, result) = collect("job", &mut job).await;
    assert!(result.is_err_and(|error| error.to_string().contains("no file fits")));
    assert_eq!(value(&batch, "job_file_readable", &[]), Some(0.0));
    dated(&at("out-1.csv"), 3000);
    dated(&at("other.csv"), 1);
    let batch = look(&mut job).await;
    assert_eq!(
        (runs(&batch), overdue(&batch)),
        ((0.0, 0.0), false),
        "what was there is no run"
    );
    dated(&at("out-2.csv"), 2000);
    assert_eq!(runs(&look(&mut job).await), (1.0, 0.0));
    assert_eq!(runs(&look(&mut job).await), (1.0, 0.0));
    // After a restart it is known; a file that is removed is no run.
    drop(job);
    let mut job = start(folder.path(), &yaml);
    wait_for_save(&mut job).await;
    dated(&at("out-1.csv"), 4000);
    fs::remove_file(at("out-2.csv")).expect("removed");
    let batch = look(&mut job).await;
    assert_eq!(runs(&batch), (1.0, 0.0));
    // A time that lies ahead is taken for now.
    dated(&at("out-3.csv"), -900_000);
    let batch = look(&mut job).await;
    let last = value(&batch, "job_last_success_timestamp_seconds", &[]).expect("a success");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64();
    assert!((now - last).abs() < 60.0, "{last}");
    assert_eq!(
        last,
        value(
            &look(&mut job).await,
            "job_last_success_timestamp_seconds",
            &[]
        )
        .expect("a success"),
        "and stays"
    );
}

/// What is known is written beside the collection.
async fn wait_for_save(job: &mut Box<dyn Collector>) {
    for _ in 0..10 {
        look(job).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_file_or_cannot_be_reached_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    dated(&folder.path().join("plain"), 1);
    for path in ["plain/below", "gone", "loop", "gone/*.x"] {
        let _ = std::os::unix::fs::symlink(folder.path().join("loop"), folder.path().join("loop"));
        let mut job = build(
            "job",
            &format!(
                "file: '{}'\nevery: 1h\n",
                folder.path().join(path).display()
            ),
        );
        let (batch, result) = collect("job", &mut job).await;
        assert!(
            result.is_err_and(|error| error
                .to_string()
                .contains(path.split('/').next().unwrap_or(path))),
            "{path}"
        );
        assert_eq!(
            (value(&batch, "job_file_readable", &[]), overdue(&batch)),
            (Some(0.0), false),
            "{path}"
        );
    }
}

fn append(path: &Path, text: &[u8]) {
    let mut file = fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("the log opens");
    file.write_all(text).expect("written");
}

#[tokio::test]
async fn lines_of_a_log_are_runs_and_count_once_across_rotation_and_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("cron.log");
    let yaml = format!(
        "every: 1h\ntimezone: UTC\nlog:\n  path: '{}'\n  regex: 'sync ended (?P<exit_code>\\d+) in (?P<duration>[0-9.]+)s'\n  failed: 'sync died'\n",
        log.display()
    );
    append(&log, b"2026-11-01 00:00:00 sync ended 0 in 1s\n");
    let mut job = start(folder.path(), &yaml);
    assert_eq!(
        runs(&look(&mut job).await),
        (0.0, 0.0),
        "it begins at the end"
    );
    append(
        &log,
        b"2026-11-30 02:00:00,250 sync begins\n2026-11-30 02:00:07,250 sync ended 0 in 7.25s\n",
    );
    let batch = look(&mut job).await;
    assert_eq!(runs(&batch), (1.0, 0.0));
    assert_eq!(
        value(&batch, "job_last_success_timestamp_seconds", &[]),
        Some(1_796_004_007.25),
        "the time of the line"
    );
    assert_eq!(value(&batch, "job_last_duration_seconds", &[]), Some(7.25));
    drop(job);
    // Meanwhile: a failure, rotation, half a line.
    append(&log, b"2026-11-30 03:00:00 sync died\n");
    fs::rename(&log, folder.path().join("cron.log.1")).expect("rotated");
    append(&log, b"\xff\xfe\0 garbage\n[2026-11-30T04:00:00Z] sync ended 3 in 1s\n2026-11-30T05:00:00Z sync end");
    let mut job = start(folder.path(), &yaml);
    let batch = look(&mut job).await;
    assert_eq!(runs(&batch), (1.0, 2.0));
    assert_eq!(
        (
            value(&batch, "job_last_exit_code", &[]),
            value(&batch, "job_last_run_success", &[])
        ),
        (Some(3.0), Some(0.0))
    );
    append(&log, b"ed 0 in 2s\n");
    append(&log, &[b'x'; 600_000]);
    append(&log, b"\nno time: sync ended 0 in 2s\n");
    let batch = look(&mut job).await;
    assert_eq!(runs(&batch), (3.0, 2.0));
    assert!(
        value(&batch, "log_last_line_timestamp_seconds", &[]).is_none(),
        "a log that is silent between runs is no fault"
    );
    fs::remove_file(&log).expect("removed");
    let (batch, result) = collect("job", &mut job).await;
    assert!(result.is_err());
    assert_eq!(
        (runs(&batch), value(&batch, "log_readable", &[])),
        ((3.0, 2.0), Some(0.0))
    );
}

#[test]
fn mistakes_of_a_job_say_what_to_do() {
    for (yaml, said) in [
        (
            "every: 1h\nschedule: '@daily'",
            "schedule: stands beside \"every\"",
        ),
        ("every: 0s", "every: is zero"),
        ("schedule: '61 * * * *'", "is no time"),
        (
            "schedule: '0 2 * * *'\ntimezone: Mars/Base",
            "is not a time zone",
        ),
        ("file: /x\nlog: {path: /y, contains: z}", "more than one of"),
        ("file: /x", "neither \"every\" nor \"schedule\""),
        ("log: {path: /y}", "does not say which line"),
        ("log: {path: /y, regex: '('}", "is no regular expression"),
        ("log: {path: /y, contains: z, start: never}", "is not known"),
        ("pushgateway: true\nevery: 1h", "belongs to a job"),
        ("every: 1h\nfile: /x\nsql: {query: q}", "more than one of"),
        ("sql: {query: q}", "neither \"every\" nor \"schedule\""),
        ("every: 1h\nsql: {column: c}", "query"),
        (
            "every: 1h\nfile: /x\ntoken: t",
            "belongs to a job that reports",
        ),
        ("every: 1h\nevry: 1h", "unknown key"),
    ] {
        let error = try_build("job", yaml)
            .err()
            .map(|errors| errors.to_string())
            .unwrap_or_else(|| panic!("{yaml} is taken"));
        assert!(error.contains(said), "{yaml}: {error}");
    }
}

const CONFIG: &str = "global: {scrape_interval: 1s, scrape_timeout: 1s}\ncollectors:\n  job:\n  - {name: nightly, every: 1h}\n  - {name: '夜 a/b', every: 1h, token: own}\n  - {name: pushes, pushgateway: true, token: pushing}\n";

/// `nightbell job run` for a shell script.
fn wrapper(folder: &Path, url: &str, words: &[&str], script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
    command
        .args(["job", "run", "nightly", "--url", url, "--dir"])
        .arg(folder.join("jobs"));
    command.args(words).args(["--", "sh", "-c", script]);
    for name in [
        "NIGHTBELL_ADMIN_TOKEN",
        "NIGHTBELL_URL",
        "NIGHTBELL_JOB_TOKEN_FILE",
    ] {
        command.env_remove(name);
    }
    command
}

fn run(folder: &Path, url: &str, script: &str) -> Output {
    wrapper(folder, url, &[], script)
        .output()
        .expect("the binary runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn url(nightbell: &Nightbell) -> String {
    format!("http://127.0.0.1:{}", nightbell.port)
}

/// The value of a job's metric once it is there.
fn of(nightbell: &Nightbell, series: &str) -> Option<f64> {
    let page = nightbell.get("/metrics").1;
    let line = page.lines().find(|line| {
        let Some((name, rest)) = line.split_once('{') else {
            return false;
        };
        let (wanted, labels) = series.split_once('{').unwrap_or((series, "}"));
        name == wanted
            && labels
                .trim_end_matches('}')
                .split(',')
                .all(|label| rest.contains(label))
    });
    line?.rsplit(' ').next()?.parse().ok()
}

fn comes(nightbell: &Nightbell, series: &str, wanted: f64) {
    wait_until(
        &format!("{series} is {wanted}"),
        Duration::from_secs(20),
        || of(nightbell, series) == Some(wanted),
    );
}

/// The command's streams, exit status and signals are its own, and each end is reported.
#[test]
fn a_command_runs_as_it_would_alone_and_its_end_is_reported() {
    let nightbell = Nightbell::start(CONFIG);
    let (folder, url) = (tempfile::tempdir().expect("a folder"), url(&nightbell));
    let mut child = wrapper(folder.path(), &url, &[], "cat; echo err >&2; exit 7");
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(b"in\0\xff")
        .expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(
        (
            output.status.code(),
            output.stdout.as_slice(),
            output.stderr.as_slice()
        ),
        (Some(7), &b"in\0\xff"[..], &b"err\n"[..])
    );
    comes(&nightbell, "job_last_exit_code{instance=\"nightly\"}", 7.0);
    comes(
        &nightbell,
        "job_last_run_success{instance=\"nightly\"}",
        0.0,
    );
    for (script, code) in [
        ("exit 0", 0),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("exit 255", 255),
    ] {
        let output = run(folder.path(), &url, script);
        assert_eq!(
            (output.status.code(), said(&output).as_str()),
            (Some(code), ""),
            "{script}"
        );
        comes(
            &nightbell,
            "job_last_exit_code{instance=\"nightly\"}",
            f64::from(code),
        );
    }
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"success\"}",
        1.0,
    );
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"failed\"}",
        4.0,
    );
    let plain = folder.path().join("plain");
    fs::write(&plain, "x").expect("written");
    for (command, code) in [
        ("/no/such/command".to_owned(), 127),
        (plain.display().to_string(), 126),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(["job", "run", "nightly", "--url", &url, "--dir"])
            .arg(folder.path())
            .args(["--", &command])
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(&command));
        comes(
            &nightbell,
            "job_last_exit_code{instance=\"nightly\"}",
            f64::from(code),
        );
    }
}

/// Nothing about nightbell keeps a command from running, changes its exit status, or holds up its
/// end for long.
#[test]
fn whatever_nightbell_answers_the_command_runs_and_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let hostile = [
        Manner::Silent,
        Manner::SlowHead,
        Manner::Endless,
        Manner::Stalls,
        Manner::RedirectLoop,
        Manner::Truncated,
        Manner::Raw(b"\0\0\0garbage".to_vec()),
        Manner::Raw(Vec::new()),
    ];
    for manner in hostile {
        let server = Hostile::start(manner.clone());
        let start = Instant::now();
        let output = run(
            folder.path(),
            &format!("http://{}", server.address),
            "echo out; exit 3",
        );
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(3), &b"out\n"[..]),
            "{manner:?}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{manner:?} held it up"
        );
    }
    let closed = format!("http://127.0.0.1:{}", free_port());
    for url in [
        &closed,
        "::",
        "",
        "mailto:x",
        "ftp://x/",
        "http://no.such.name.invalid/",
    ] {
        let output = run(folder.path(), url, "exit 3");
        assert_eq!(output.status.code(), Some(3), "{url}: {}", said(&output));
    }
    // Settings of the daemon and of others, all of them wrong; a folder that cannot be made; nobody
    // reads standard error.
    let mut broken = wrapper(
        folder.path(),
        &closed,
        &["--token-file", "/no/such/file"],
        "exit 3",
    );
    let environment = [
        ("NIGHTBELL_LISTEN", "nowhere"),
        ("NIGHTBELL_CONFIG", "/no/such/file"),
        ("NIGHTBELL_HTTP_CONFIG_FILE", "/no/such/file"),
        ("NIGHTBELL_JOB_DIR", "/proc/no"),
        ("NIGHTBELL_LOG", "%%%"),
        ("HTTP_PROXY", "::"),
        ("HOME", ""),
    ];
    let output = broken.envs(environment).output().expect("it runs");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let output = wrapper(Path::new("/proc/no"), &closed, &[], "exit 3")
        .output()
        .expect("it runs");
    assert!(
        output.status.code() == Some(3) && said(&output).contains("nor kept"),
        "{}",
        said(&output)
    );
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = wrapper(folder.path(), &closed, &[], "exit 3")
        .stderr(writer)
        .status()
        .expect("it runs");
    assert_eq!(status.code(), Some(3));
}

/// A job that is not configured, and a token that is not right.
#[test]
fn an_unknown_job_or_a_wrong_token_is_said_and_the_command_has_run() {
    let nightbell = Nightbell::start(&format!("{CONFIG}web: {{admin_token: secret}}\n"));
    let (folder, url) = (tempfile::tempdir().expect("a folder"), url(&nightbell));
    let output = run(folder.path(), &url, "exit 4");
    assert!(
        output.status.code() == Some(4) && said(&output).contains("status 401"),
        "{}",
        said(&output)
    );
    let token = folder.path().join("token");
    fs::write(&token, "secret\n").expect("written");
    let token = token.display().to_string();
    let output = wrapper(folder.path(), &url, &["--token-file", &token], "exit 4")
        .output()
        .expect("it runs");
    assert!(
        output.status.code() == Some(4) && said(&output).is_empty(),
        "{}",
        said(&output)
    );
    // The one that could not be delivered came with it.
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"failed\"}",
        2.0,
    );
    let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args([
            "job",
            "run",
            "unknown",
            "--url",
            &url,
            "--token-file",
            &token,
            "--dir",
        ])
        .arg(folder.path())
        .args(["--", "sh", "-c", "exit 5"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(5));
    assert!(
        said(&output).contains("no job \"unknown\" takes reports"),
        "{}",
        said(&output)
    );
    assert!(
        !folder.path().join("jobs").exists()
            || fs::read_dir(folder.path().join("jobs"))
                .expect("a folder")
                .count()
                == 0
    );
}

/// What cannot be delivered waits on disk, comes with the next run, and counts once, also over
/// `kill -9`.
#[test]
fn reports_wait_until_nightbell_is_there_and_count_once() {
    let mut nightbell = Nightbell::start(CONFIG);
    let (folder, url) = (tempfile::tempdir().expect("a folder"), url(&nightbell));
    assert!(run(folder.path(), &url, "exit 0").status.success());
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"success\"}",
        1.0,
    );
    // Accepted a moment ago, and killed.
    assert!(run(folder.path(), &url, "exit 0").status.success());
    nightbell.kill();
    for code in [1, 2] {
        let output = run(folder.path(), &url, &format!("exit {code}"));
        assert_eq!(output.status.code(), Some(code));
        assert!(
            said(&output).contains("the next run reports this one, too"),
            "{}",
            said(&output)
        );
    }
    let waiting = || {
        fs::read_dir(folder.path().join("jobs"))
            .expect("a folder")
            .count()
    };
    assert_eq!(waiting(), 2);
    // One of somebody else's, and one that is damaged.
    fs::write(folder.path().join("jobs/0.report"), "{").expect("written");
    nightbell.restart();
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"success\"}",
        2.0,
    );
    let output = run(folder.path(), &url, "exit 0");
    assert_eq!(
        (output.status.code(), waiting(), said(&output)),
        (Some(0), 0, String::new())
    );
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"failed\"}",
        2.0,
    );
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"success\"}",
        3.0,
    );
    assert_eq!(
        of(&nightbell, "job_last_exit_code{instance=\"nightly\"}"),
        Some(0.0),
        "older reports do not replace newer ones"
    );
    nightbell.kill();
    nightbell.restart();
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"failed\"}",
        2.0,
    );
    comes(
        &nightbell,
        "job_last_run_success{instance=\"nightly\"}",
        1.0,
    );
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

/// Waits for a file that the command makes when it is ready.
fn made(path: &Path) {
    wait_until("the command has begun", Duration::from_secs(20), || {
        path.exists()
    });
}

#[test]
fn signals_reach_the_command_and_a_time_limit_ends_it() {
    let nightbell = Nightbell::start(CONFIG);
    let (folder, url) = (tempfile::tempdir().expect("a folder"), url(&nightbell));
    // The suite itself may run where signals are ignored, as they are in the background of a script.
    let plain = |inner: &Command| {
        let mut command = Command::new("env");
        command.arg("--default-signal");
        command.arg(inner.get_program()).args(inner.get_args());
        command
    };
    for (number, signal) in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"]
        .iter()
        .enumerate()
    {
        let ready = folder.path().join(signal);
        let script = format!(
            "trap 'exit 4{number}' {signal}; touch {}; while :; do sleep 0.05; done",
            ready.display()
        );
        let mut child = spawn(&mut plain(&wrapper(folder.path(), &url, &[], &script)));
        made(&ready);
        comes(&nightbell, "job_running{instance=\"nightly\"}", 1.0);
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success());
        assert_eq!(
            child.wait().expect("it ends").code(),
            Some(40 + i32::try_from(number).expect("few")),
            "{signal}"
        );
    }
    comes(&nightbell, "job_running{instance=\"nightly\"}", 0.0);
    assert_eq!(
        of(&nightbell, "job_overlaps_total{instance=\"nightly\"}"),
        Some(0.0)
    );
    // What nohup ignores stays ignored.
    let ready = folder.path().join("nohup");
    let script = format!(
        "touch {}; while [ -e {0} ]; do sleep 0.05; done; exit 6",
        ready.display()
    );
    let inner = wrapper(folder.path(), &url, &[], &script);
    let mut nohup = Command::new("nohup");
    nohup.arg(inner.get_program()).args(inner.get_args());
    let mut child = spawn(&mut nohup);
    made(&ready);
    assert!(
        Command::new("kill")
            .args(["-HUP", &child.id().to_string()])
            .status()
            .expect("kill runs")
            .success()
    );
    fs::remove_file(&ready).expect("removed");
    assert_eq!(child.wait().expect("it ends").code(), Some(6));
    let output = wrapper(
        folder.path(),
        &url,
        &["--timeout", "200ms"],
        "exec sleep 60",
    )
    .output()
    .expect("it runs");
    assert_eq!(output.status.code(), Some(143));
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"timeout\"}",
        1.0,
    );
}

#[test]
fn a_lock_lets_one_run_in_and_the_other_is_reported_as_skipped() {
    let nightbell = Nightbell::start(CONFIG);
    let (folder, url) = (tempfile::tempdir().expect("a folder"), url(&nightbell));
    let ready = folder.path().join("ready");
    let script = format!(
        "touch {}; while [ -e {0} ]; do sleep 0.05; done",
        ready.display()
    );
    let mut first = spawn(&mut wrapper(folder.path(), &url, &["--lock"], &script));
    made(&ready);
    let output = wrapper(folder.path(), &url, &["--lock"], "echo ran")
        .output()
        .expect("it runs");
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(75), &b""[..]),
        "{}",
        said(&output)
    );
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"skipped\"}",
        1.0,
    );
    // Without a lock it runs beside it, which is seen.
    assert!(run(folder.path(), &url, "exit 0").status.success());
    comes(&nightbell, "job_overlaps_total{instance=\"nightly\"}", 1.0);
    // The wrapper dies; its command holds the lock on.
    first.kill().expect("killed");
    first.wait().expect("it ends");
    assert_eq!(
        wrapper(folder.path(), &url, &["--lock"], "exit 0")
            .status()
            .expect("it runs")
            .code(),
        Some(75)
    );
    fs::remove_file(&ready).expect("removed");
    wait_until("the lock is free", Duration::from_secs(20), || {
        wrapper(folder.path(), &url, &["--lock"], "exit 0")
            .status()
            .expect("it runs")
            .code()
            == Some(0)
    });
    let output = wrapper(Path::new("/proc/no"), &url, &["--lock"], "echo ran")
        .output()
        .expect("it runs");
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(73), &b""[..]),
        "{}",
        said(&output)
    );
}

fn post(
    nightbell: &Nightbell,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    nightbell.request_with(
        method,
        path,
        &format!("Content-Length: {}\r\n{headers}", body.len()),
        body,
    )
}

/// The API: by query, by JSON; who may; what is wrong.
#[test]
fn reports_by_http_need_a_token_or_this_machine_as_itself() {
    let nightbell = Nightbell::start(CONFIG);
    let ask = |path: &str, headers: &str, body: &str| {
        post(
            &nightbell,
            "POST",
            &format!("/api/nightbell/job/{path}"),
            headers,
            body,
        )
    };
    assert_eq!(ask("nightly", "", "").0, 200);
    assert_eq!(ask("nightly?exit_code=3", "", "").0, 200);
    assert_eq!(ask("nightly", "", r#"{"event":"start","id":"x"}"#).0, 200);
    assert_eq!(
        ask(
            "nightly",
            "",
            r#"{"id":"x","exit_code":0,"duration_seconds":1.5}"#
        )
        .0,
        200
    );
    assert_eq!(ask("%E5%A4%9C%20a%2Fb", "", "").0, 200, "any name");
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"success\"}",
        2.0,
    );
    comes(
        &nightbell,
        "job_runs_total{instance=\"夜 a/b\",result=\"success\"}",
        1.0,
    );
    comes(
        &nightbell,
        "job_last_duration_seconds{instance=\"nightly\"}",
        1.5,
    );
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(200));
    let huge = format!(r#"{{"id":"{}"}}"#, "x".repeat(100_000));
    let wrong = [
        "{",
        "[]",
        "null",
        r#"{"evnt":"start"}"#,
        r#"{"exit_code":1e99}"#,
        r#"{"duration_seconds":-1}"#,
        &long,
    ];
    for (body, status) in wrong
        .into_iter()
        .map(|body| (body, 400))
        .chain([(huge.as_str(), 413)])
    {
        assert_eq!(
            ask("nightly", "", body).0,
            status,
            "{}",
            &body[..body.len().min(40)]
        );
    }
    assert_eq!(ask("nightly?exit_code=x", "", "").0, 400);
    assert_eq!(ask("unknown", "", "").0, 404);
    assert_eq!(ask("nightly", "Origin: http://evil.example\r\n", "").0, 403);
    assert_eq!(ask("nightly", "X-Forwarded-For: 192.0.2.1\r\n", "").0, 403);
    assert_eq!(nightbell.get("/api/nightbell/job/nightly").0, 405);
    nightbell.configure(&format!("{CONFIG}web: {{admin_token: secret}}\n"));
    assert_eq!(
        nightbell
            .request("POST", "/-/reload", "Content-Length: 0\r\n")
            .0,
        200
    );
    assert_eq!(ask("nightly", "", "").0, 401);
    assert_eq!(
        ask("nightly", "Authorization: Bearer own\r\n", "").0,
        401,
        "the token of another job"
    );
    assert_eq!(
        ask("%E5%A4%9C%20a%2Fb", "Authorization: Bearer own\r\n", "").0,
        200
    );
    assert_eq!(
        ask("nightly", "Authorization: Bearer secret\r\n", "").0,
        200
    );
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"success\"}",
        3.0,
    );
    let push = |headers: &str| post(&nightbell, "PUT", "/metrics/job/x", headers, "a 1\n").0;
    assert_eq!(
        (
            push(""),
            push("Authorization: Bearer own\r\n"),
            push("Authorization: Bearer pushing\r\n")
        ),
        (401, 401, 200)
    );
}

/// Pushes in Pushgateway's way, also by the Python client; they are exposed, queried and kept.
#[test]
fn what_is_pushed_is_exposed_as_pushgateway_does_it_and_kept() {
    let mut nightbell = Nightbell::start(CONFIG);
    let script = format!(
        "from prometheus_client import CollectorRegistry, Counter, Gauge, push_to_gateway, pushadd_to_gateway, delete_from_gateway\n\
         at = '127.0.0.1:{}'\n\
         r = CollectorRegistry()\nGauge('batch_last_success_unixtime', 'When.', registry=r).set(5)\nCounter('batch_rows', 'Rows.', ['table'], registry=r).labels('a').inc(3)\n\
         push_to_gateway(at, job='batch', registry=r)\n\
         push_to_gateway(at, job='batch', registry=r, grouping_key={{'path': '/var/tmp', 'instance': 'i1'}})\n\
         s = CollectorRegistry()\nGauge('batch_extra', 'More.', registry=s).set(7)\npushadd_to_gateway(at, job='batch', registry=s)\n\
         push_to_gateway(at, job='gone', registry=s)\ndelete_from_gateway(at, job='gone')\n",
        nightbell.port
    );
    let output = Command::new(python_tool("python3"))
        .args(["-c", &script])
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", said(&output));
    let check = |nightbell: &Nightbell| {
        comes(nightbell, "batch_extra{job=\"batch\"}", 7.0);
        let page = nightbell.get("/metrics").1;
        for line in [
            "# TYPE batch_rows_total counter",
            "batch_last_success_unixtime{job=\"batch\"} 5",
            "batch_last_success_unixtime{instance=\"i1\",job=\"batch\",path=\"/var/tmp\"} 5",
            "batch_rows_total{job=\"batch\",table=\"a\"} 3",
            "push_failure_time_seconds{job=\"batch\"} 0",
        ] {
            assert!(
                page.contains(line),
                "{line}:\n{}",
                page.lines()
                    .filter(|l| l.contains("batch"))
                    .collect::<Vec<_>>()
                    .join("\n")
            );
        }
        assert!(of(nightbell, "push_time_seconds{job=\"batch\"}").is_some_and(|time| time > 1.7e9));
        assert!(!page.contains("job=\"gone\""));
    };
    check(&nightbell);
    let answer = nightbell.json("/api/v1/query?query=batch_rows_total%7Binstance%3D%22%22%7D");
    assert_eq!(
        answer["data"]["result"].as_array().map(Vec::len),
        Some(1),
        "{answer}"
    );
    nightbell.kill();
    nightbell.restart();
    check(&nightbell);
    let ask = |method: &str, path: &str, headers: &str, body: &str| {
        post(&nightbell, method, path, headers, body).0
    };
    assert_eq!(ask("PUT", "/metrics/job/batch", "", "broken{\n"), 400);
    assert_eq!(
        ask(
            "POST",
            "/metrics/job/batch",
            "",
            "stamped 1 1700000000000\n"
        ),
        400
    );
    assert_eq!(ask("PUT", "/metrics/job/", "", "a 1\n"), 404);
    assert_eq!(ask("PUT", "/metrics/job/a/odd", "", "a 1\n"), 400);
    assert_eq!(
        ask(
            "PUT",
            "/metrics/job/batch",
            "Content-Encoding: gzip\r\n",
            "no gzip"
        ),
        400
    );
    assert_eq!(
        ask("PUT", "/metrics/job/batch", "Content-Encoding: br\r\n", "x"),
        415
    );
    assert_eq!(
        ask(
            "PUT",
            "/metrics/job/batch",
            "Content-Type: application/vnd.google.protobuf; encoding=delimited\r\n",
            "x"
        ),
        400
    );
    let many: String = (0..20_000)
        .map(|n| format!("many{{n=\"{n}\"}} 1\n"))
        .collect();
    assert_eq!(ask("PUT", "/metrics/job/batch", "", &many), 413);
    wait_until("the failure is shown", Duration::from_secs(20), || {
        nightbell
            .get("/metrics")
            .1
            .lines()
            .any(|line| line.starts_with("push_failure_time_seconds{job=\"batch\"} 1"))
    });
    check_unchanged(&nightbell);
    assert_eq!(ask("DELETE", "/metrics/job/batch", "", ""), 202);
    wait_until("the group has gone", Duration::from_secs(20), || {
        !nightbell.get("/metrics").1.contains("batch_extra")
    });
}

fn check_unchanged(nightbell: &Nightbell) {
    assert_eq!(of(nightbell, "batch_extra{job=\"batch\"}"), Some(7.0));
}

/// A push is a run where the configuration says so; a reload loses no report; a state folder that
/// cannot be written costs no answer.
#[test]
fn a_push_may_be_a_run_and_a_reload_loses_nothing() {
    let config = format!("{CONFIG}  - {{name: batch, push: true, every: 1h}}\n");
    let nightbell = Nightbell::start(&config);
    assert_eq!(
        post(&nightbell, "PUT", "/metrics/job/batch/shard/1", "", "a 1\n").0,
        200
    );
    comes(
        &nightbell,
        "job_runs_total{instance=\"batch\",result=\"success\"}",
        1.0,
    );
    for round in 0..5 {
        nightbell.configure(&config.replace("every: 1h", &format!("every: {}h", round + 2)));
        assert_eq!(
            post(&nightbell, "POST", "/api/nightbell/job/nightly", "", "").0,
            200
        );
        assert_eq!(
            nightbell
                .request("POST", "/-/reload", "Content-Length: 0\r\n")
                .0,
            200
        );
    }
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"success\"}",
        5.0,
    );
    comes(
        &nightbell,
        "job_runs_total{instance=\"batch\",result=\"success\"}",
        1.0,
    );
    let folder = nightbell.folder.path().join("state/collectors");
    fs::remove_dir_all(&folder).expect("removed");
    fs::write(&folder, "a file in its way").expect("written");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o0)).expect("chmod");
    assert_eq!(
        post(&nightbell, "POST", "/api/nightbell/job/nightly", "", "").0,
        200
    );
    comes(
        &nightbell,
        "job_runs_total{instance=\"nightly\",result=\"success\"}",
        6.0,
    );
    assert!(
        nightbell.log().contains("cannot be saved"),
        "{}",
        nightbell.log()
    );
}

/// C18: a time that a query gives is that of a run, whichever row has it; a query that fails or does
/// not exist is said.
#[test]
fn a_time_in_a_database_tells_when_a_job_last_ran() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.db");
    let change = |sql: &str| {
        let script = format!(
            "import sqlite3\nc = sqlite3.connect({:?})\nc.executescript({sql:?})\n",
            path.display().to_string()
        );
        let status = Command::new("python3").args(["-c", &script]).status();
        assert!(status.expect("python3 runs").success());
    };
    change("CREATE TABLE learned (at INTEGER, kind TEXT)");
    let config = format!(
        "global: {{scrape_interval: 1s}}\ncollectors:\n  sqlite:\n  - name: app\n    path: '{}'\n    queries:\n    - {{name: learned, sql: 'SELECT kind, max(at) AS newest, count(*) AS rows FROM learned GROUP BY kind', labels: [kind]}}\n  job:\n  - {{name: learning, every: 1h, sql: {{query: learned, column: newest}}}}\n  - {{name: nobody, every: 1h, sql: {{query: other}}}}\n",
        path.display()
    );
    let nightbell = Nightbell::start(&config);
    comes(&nightbell, "up{instance=\"nobody\"}", 0.0);
    comes(&nightbell, "up{instance=\"learning\"}", 1.0);
    comes(&nightbell, "job_overdue{instance=\"learning\"}", 0.0);
    let last = "job_last_success_timestamp_seconds{instance=\"learning\"}";
    assert_eq!(of(&nightbell, last), None, "no row yet");
    let success = "job_runs_total{instance=\"learning\",result=\"success\"}";
    change("INSERT INTO learned VALUES (1700000000, 'a'), (1690000000, 'b')");
    comes(&nightbell, last, 1_700_000_000.0);
    let before = of(&nightbell, success).expect("shown");
    change("UPDATE learned SET at = 1700003600 WHERE kind = 'b'");
    comes(&nightbell, last, 1_700_003_600.0);
    comes(&nightbell, success, before + 1.0);
    change("DROP TABLE learned");
    comes(&nightbell, "up{instance=\"learning\"}", 0.0);
}
