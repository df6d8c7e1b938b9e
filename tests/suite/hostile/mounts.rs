//! File systems that do not answer: whoever looks at a file there waits in the kernel, for ever.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::servers::nightbell::Nightbell;
use crate::servers::page::serve_page;
use crate::servers::wait_until;

/// How long a test waits for what must come about; the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);
/// Mounts of a file server, of which more hang than threads may.
const MOUNTS: usize = 12;
/// Databases that lie there.
const DATABASES: usize = 6;

/// What starts a program in a mount namespace of its own, where a file system that nobody serves is
/// mounted on `folder`; `None` where this user may not mount one.
fn starter(folder: &Path) -> Option<Vec<String>> {
    let mount = format!(
        "exec 3<>/dev/fuse && mount -i -t fuse nobody '{}' -o fd=3,rootmode=40000,user_id=0,group_id=0 && exec \"$@\"",
        folder.display()
    );
    let rights = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let words = [
        "unshare",
        rights,
        "--propagation",
        "private",
        "sh",
        "-c",
        &mount,
        "sh",
    ]
    .map(str::to_owned)
    .to_vec();
    let tried = Command::new(&words[0])
        .args(&words[1..])
        .arg("true")
        .output();
    tried
        .is_ok_and(|tried| tried.status.success())
        .then_some(words)
}

fn value(nightbell: &Nightbell, query: &str) -> Option<f64> {
    let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let answer: Value = nightbell.json(&format!("/api/v1/query?query={query}"));
    answer["data"]["result"][0]["value"][1]
        .as_str()?
        .parse()
        .ok()
}

fn threads(nightbell: &Nightbell) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", nightbell.id()))
        .expect("it runs")
        .count()
}

fn fixtures() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["hangs", "proc/1", "data"] {
        std::fs::create_dir_all(folder.path().join(name)).expect("made");
    }
    let made = Command::new("mkfifo")
        .arg(folder.path().join("data/pipe.db"))
        .status()
        .expect("mkfifo runs");
    assert!(made.success());
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('create table t(a)'); c.commit()";
    let made = Command::new("python3")
        .args(["-c", script])
        .arg(folder.path().join("data/good.db"))
        .status()
        .expect("python3 runs");
    assert!(made.success());
    let hangs = folder.path().join("hangs");
    let mounts: String = (0..MOUNTS)
        .map(|n| {
            format!(
                "{} 1 0:{n} / {}/m{n} rw - nfs4 server:/m{n} rw\n",
                100 + n,
                hangs.display()
            )
        })
        .collect();
    std::fs::write(
        folder.path().join("proc/1/mountinfo"),
        format!("{mounts}99 1 8:1 / / rw - ext4 /dev/sda1 rw\n"),
    )
    .expect("written");
    folder
}

/// Databases and mounts on a file system that hangs cost themselves: other databases, this
/// machine's own disk and other targets are measured on, the threads that hang are few, whatever a
/// reload changes, and the end does not wait for them.
#[test]
fn a_file_system_that_hangs_costs_only_what_lies_on_it() {
    let folder = fixtures();
    let (hangs, data) = (folder.path().join("hangs"), folder.path().join("data"));
    let (mounted, page) = (starter(&hangs), serve_page("m 1\n"));
    // Without the right to mount, pipes are what can block.
    let lost = |n: usize| {
        if mounted.is_some() {
            hangs.join(format!("{n}.db"))
        } else {
            data.join("pipe.db")
        }
    };
    let each = "interval: 1s, timeout: 900ms";
    let databases: String = (0..DATABASES)
        .map(|n| {
            format!(
                "  - {{name: lost{n}, path: '{}', {each}}}\n",
                lost(n).display()
            )
        })
        .collect();
    let config = |timeout: u32| {
        format!(
            "rules: {{shipped: false}}\nscrape_configs: [{{job_name: page, scrape_interval: 1s, scrape_timeout: 900ms, static_configs: [{{targets: ['127.0.0.1:{page}']}}]}}]\n\
             collectors:\n  sqlite:\n{databases}  - {{name: good, path: '{}', {each}}}\n  - {{name: pipe, path: '{}', {each}}}\n  \
             log_file:\n  - {{name: good, path: '{}', {each}}}\n  - {{name: lost, path: '{}', {each}}}\n  \
             host: {{interval: 1s, timeout: 900ms, mount_timeout: {timeout}ms, procfs: '{}'}}\n",
            data.join("good.db").display(),
            data.join("pipe.db").display(),
            data.join("good.db").display(),
            lost(0).display(),
            folder.path().join("proc").display()
        )
    };
    let words = mounted.clone().unwrap_or_else(|| vec!["env".into()]);
    let mut nightbell = Nightbell::start_by(
        &words.iter().map(String::as_str).collect::<Vec<_>>(),
        &config(100),
    );
    let goes_on = |nightbell: &Nightbell, when: &str| {
        for query in [
            "up{job=\"page\"} == 1 and time() - timestamp(up{job=\"page\"}) < 3",
            "sqlite_up{instance=\"good\"} == 1 and time() - timestamp(sqlite_up{instance=\"good\"}) < 3",
            "node_filesystem_size_bytes{mountpoint=\"/\"} > 0 and time() - timestamp(node_filesystem_size_bytes{mountpoint=\"/\"}) < 3",
            "log_readable{instance=\"good\"} == 1 and time() - timestamp(log_readable{instance=\"good\"}) < 3",
            "log_readable{instance=\"lost\"} == 0",
            "sqlite_up{instance=\"pipe\"} == 0",
            "sqlite_up{instance=\"lost0\"} == 0",
        ] {
            wait_until(&format!("{when}: {query}"), DEADLINE, || {
                value(nightbell, query).is_some()
            });
        }
    };
    goes_on(&nightbell, "at the start");
    if mounted.is_some() {
        wait_until("each mount is marked", DEADLINE, || {
            value(&nightbell, "count(node_filesystem_device_error == 1)") == Some(MOUNTS as f64)
        });
    }
    let rounds = |n: u32| format!("count_over_time(up{{job=\"page\"}}[5m]) >= {n}");
    wait_until("some rounds", DEADLINE, || {
        value(&nightbell, &rounds(6)).is_some()
    });
    goes_on(&nightbell, "after some rounds");
    let before = threads(&nightbell);
    for timeout in [110, 120, 130] {
        nightbell.configure(&config(timeout));
        assert_eq!(
            nightbell.request("POST", "/-/reload", "").0,
            200,
            "{}",
            nightbell.log()
        );
        goes_on(&nightbell, "after a reload");
    }
    wait_until("more rounds", DEADLINE, || {
        value(&nightbell, &rounds(12)).is_some()
    });
    goes_on(&nightbell, "at the end");
    assert!(
        threads(&nightbell) <= before + 4,
        "{} threads, and {before} before the reloads",
        threads(&nightbell)
    );
    assert_eq!(nightbell.stop(), Some(0));
}
