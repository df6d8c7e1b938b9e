//! The `container` collector (C3, T8) over trees of cgroup v1 and v2 that the test writes, over
//! this machine's own cgroups, and with a fake engine on a real socket.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nightbell::collectors::Collector;
use nightbell::model::Batch;
use serde_json::json;

use crate::collecting::{build, collect, try_build, value};
use crate::servers::engine::{Engine, Socket};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

/// The id of the container with this number.
fn id(number: usize) -> String {
    format!("{number:064x}")
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
}

/// A container in a tree of cgroup v2.
fn two(root: &Path, folder: &str) -> PathBuf {
    write(
        root,
        &[
            ("cgroup.controllers", "cpu io memory pids\n"),
            ("system.slice/cron.service/cpu.stat", "usage_usec 1\n"),
        ],
    );
    let scope = root.join(folder);
    let files = [
        (
            "cpu.stat",
            "usage_usec 2500000\nuser_usec 1500000\nsystem_usec 1000000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 300000\n",
        ),
        ("cpu.max", "50000 100000\n"),
        ("memory.current", "1000000\n"),
        ("memory.max", "2000000\n"),
        ("memory.swap.current", "4096\n"),
        (
            "memory.stat",
            "anon 600000\nfile 300000\nkernel 100000\ninactive_file 200000\nactive_file 100000\n",
        ),
        (
            "memory.events",
            "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
        ),
        (
            "io.stat",
            "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n259:0 \n",
        ),
        ("pids.current", "7\n"),
        ("cgroup.procs", "4321\n4322\n"),
    ];
    write(&scope, &files);
    scope
}

const NET: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0\n";

fn yaml(root: &Path, more: &str) -> String {
    format!(
        "root: '{0}/cgroup'\nprocfs: '{0}/proc'\n{more}",
        root.display()
    )
}

async fn look(collector: &mut Box<dyn Collector>) -> (Batch, Option<String>) {
    let (batch, result) = collect("container", collector).await;
    (batch, result.err().map(|error| error.to_string()))
}

fn of(batch: &Batch, name: &str, container: &str) -> Option<f64> {
    value(batch, name, &[("name", container)])
}

fn expect(batch: &Batch, container: &str, figures: &[(&str, f64)]) {
    for (name, wanted) in figures {
        assert_eq!(of(batch, name, container), Some(*wanted), "{name}");
    }
}

#[tokio::test]
async fn a_tree_of_version_2_is_read_as_cadvisor_shows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let scope = two(
        &folder.path().join("cgroup"),
        &format!("system.slice/docker-{}.scope", id(1)),
    );
    let stat = format!("4321 (odd) name) S {}500 0\n", "1 ".repeat(18));
    write(
        folder.path(),
        &[
            ("proc/4321/net/dev", NET),
            ("proc/4321/stat", &stat),
            ("proc/stat", "cpu 1\nbtime 1700000000\n"),
        ],
    );
    let mut collector = build("container", &yaml(folder.path(), ""));
    let (batch, problem) = look(&mut collector).await;
    assert_eq!(problem, None);
    let name = &id(1)[..12];
    let figures = [
        ("container_cpu_usage_seconds_total", 2.5),
        ("container_cpu_user_seconds_total", 1.5),
        ("container_cpu_system_seconds_total", 1.0),
        ("container_cpu_cfs_periods_total", 10.0),
        ("container_cpu_cfs_throttled_periods_total", 4.0),
        ("container_cpu_cfs_throttled_seconds_total", 0.3),
        ("container_spec_cpu_quota", 50_000.0),
        ("container_spec_cpu_period", 100_000.0),
        ("container_memory_usage_bytes", 1_000_000.0),
        ("container_memory_working_set_bytes", 800_000.0),
        ("container_memory_rss", 600_000.0),
        ("container_memory_cache", 300_000.0),
        ("container_memory_swap", 4096.0),
        ("container_spec_memory_limit_bytes", 2_000_000.0),
        ("container_oom_events_total", 2.0),
        ("container_processes", 7.0),
        ("container_start_time_seconds", 1_700_000_005.0),
        ("container_network_receive_bytes_total", 100.0),
        ("container_network_receive_errors_total", 3.0),
        ("container_network_transmit_bytes_total", 500.0),
        ("container_network_transmit_packets_dropped_total", 8.0),
        ("container_up", 1.0),
    ];
    expect(&batch, name, &figures);
    assert_eq!(
        value(
            &batch,
            "container_fs_writes_bytes_total",
            &[("device", "8:0")]
        ),
        Some(8192.0)
    );
    assert_eq!(
        value(
            &batch,
            "container_memory_rss",
            &[("id", &format!("/system.slice/docker-{}.scope", id(1)))]
        ),
        Some(600_000.0)
    );
    write(
        &scope,
        &[("memory.max", "max\n"), ("cpu.max", "max 100000\n")],
    );
    let (batch, _) = look(&mut collector).await;
    expect(&batch, name, &[("container_spec_memory_limit_bytes", 0.0)]);
    assert_eq!(of(&batch, "container_spec_cpu_quota", name), None);
    // It ends: it is shown as gone, with its labels.
    fs::remove_dir_all(&scope).expect("removed");
    let (batch, problem) = look(&mut collector).await;
    assert_eq!(problem, None);
    expect(&batch, name, &[("container_up", 0.0)]);
    assert!(of(&batch, "container_last_seen", name).is_some_and(|at| at > 1.7e9));
    assert_eq!(of(&batch, "container_memory_rss", name), None);
}

#[tokio::test]
async fn a_tree_of_version_1_is_read_controller_by_controller() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = format!("docker/{}", id(1));
    let file = |controller: &str, name: &str| format!("cgroup/{controller}/{path}/{name}");
    let all = [
        (file("memory", "memory.usage_in_bytes"), "1000000\n"),
        (
            file("memory", "memory.limit_in_bytes"),
            "9223372036854771712\n",
        ),
        (
            file("memory", "memory.stat"),
            "rss 1\ncache 1\ntotal_rss 600000\ntotal_cache 300000\ntotal_inactive_file 200000\ntotal_swap 0\n",
        ),
        (
            file("memory", "memory.oom_control"),
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
        (file("cpu,cpuacct", "cpuacct.usage"), "2500000000\n"),
        (
            file("cpu,cpuacct", "cpuacct.stat"),
            "user 150\nsystem 100\n",
        ),
        (file("cpu,cpuacct", "cpu.cfs_quota_us"), "-1\n"),
        (file("cpu,cpuacct", "cpu.cfs_period_us"), "100000\n"),
        (
            file("cpu,cpuacct", "cpu.stat"),
            "nr_periods 10\nnr_throttled 4\nthrottled_time 300000000\n",
        ),
        (
            file("blkio", "blkio.throttle.io_service_bytes"),
            "8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\nTotal 12288\n",
        ),
        (file("pids", "pids.current"), "7\n"),
    ];
    write(
        folder.path(),
        &all.iter()
            .map(|(name, text)| (name.as_str(), *text))
            .collect::<Vec<_>>(),
    );
    let (batch, problem) = look(&mut build("container", &yaml(folder.path(), ""))).await;
    assert_eq!(problem, None);
    let name = &id(1)[..12];
    let figures = [
        ("container_cpu_usage_seconds_total", 2.5),
        ("container_cpu_cfs_throttled_seconds_total", 0.3),
        ("container_memory_usage_bytes", 1_000_000.0),
        ("container_memory_working_set_bytes", 800_000.0),
        ("container_memory_rss", 600_000.0),
        ("container_spec_memory_limit_bytes", 0.0),
        ("container_oom_events_total", 2.0),
        ("container_processes", 7.0),
        ("container_fs_reads_bytes_total", 4096.0),
        ("container_fs_writes_bytes_total", 8192.0),
    ];
    expect(&batch, name, &figures);
    assert_eq!(of(&batch, "container_spec_cpu_quota", name), None);
    assert_eq!(
        value(
            &batch,
            "container_memory_rss",
            &[("id", &format!("/docker/{}", id(1)))]
        ),
        Some(600_000.0)
    );
}

#[tokio::test]
async fn files_that_are_broken_huge_or_missing_cost_only_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("cgroup");
    let mut collector = build("container", &yaml(folder.path(), ""));
    let (_, problem) = look(&mut collector).await;
    assert!(problem.is_some_and(
        |problem| problem.contains("No such file") || problem.contains("there are no cgroups")
    ));
    for number in 1..=4 {
        two(&root, &format!("system.slice/docker-{}.scope", id(number)));
    }
    let at = |number: usize| root.join(format!("system.slice/docker-{}.scope", id(number)));
    write(
        &at(1),
        &[
            ("memory.current", "\u{0}\u{1}garbage"),
            ("memory.max", "-"),
            ("cpu.stat", "usage_usec 1e999\nuser_usec NaN\n"),
        ],
    );
    fs::File::options()
        .write(true)
        .open(at(2).join("memory.stat"))
        .and_then(|file| file.set_len(1 << 40))
        .expect("made huge");
    fs::remove_file(at(3).join("memory.stat")).expect("removed");
    fs::remove_file(at(4).join("cpu.stat")).expect("removed");
    fs::create_dir(at(4).join("cpu.stat")).expect("made");
    std::os::unix::fs::symlink(&root, root.join("loop")).expect("linked");
    let (batch, problem) = look(&mut collector).await;
    let name = |number: usize| id(number)[..12].to_owned();
    let short = "0".repeat(12);
    assert_eq!(name(1), short, "the ids of this test differ at their end");
    let of = |metric: &str, number: usize| {
        value(
            &batch,
            metric,
            &[("id", &format!("/system.slice/docker-{}.scope", id(number)))],
        )
    };
    assert_eq!(
        (
            of("container_memory_usage_bytes", 1),
            of("container_cpu_usage_seconds_total", 1),
            of("container_up", 1)
        ),
        (None, None, Some(1.0))
    );
    assert_eq!(
        (
            of("container_memory_rss", 2),
            of("container_memory_usage_bytes", 2)
        ),
        (Some(600_000.0), Some(1_000_000.0))
    );
    assert_eq!(
        (
            of("container_memory_rss", 3),
            of("container_memory_usage_bytes", 3)
        ),
        (None, Some(1_000_000.0))
    );
    assert_eq!(
        (
            of("container_up", 4),
            value(&batch, "container_unreadable", &[])
        ),
        (Some(1.0), Some(1.0))
    );
    assert!(problem.is_some_and(|problem| problem.contains(&id(4))));
}

/// Containers begin and end while they are read: no collection fails.
#[tokio::test(flavor = "multi_thread")]
async fn containers_that_vanish_while_they_are_read_are_no_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("cgroup");
    two(&root, &format!("docker/{}", id(0)));
    let (stop, rounds) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let churn = {
        let (root, stop, rounds) = (root.clone(), stop.clone(), rounds.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let made = two(
                    &root,
                    &format!("docker/{}", id(1 + rounds.load(Ordering::Relaxed) % 5)),
                );
                fs::remove_dir_all(made).expect("removed");
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut collector = build("container", &yaml(folder.path(), ""));
    let start = Instant::now();
    while rounds.load(Ordering::Relaxed) < 20 {
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "nothing came and went"
        );
        let (batch, problem) = look(&mut collector).await;
        assert_eq!(problem, None);
        assert_eq!(
            value(
                &batch,
                "container_memory_rss",
                &[("id", &format!("/docker/{}", id(0)))]
            ),
            Some(600_000.0)
        );
    }
    stop.store(true, Ordering::Relaxed);
    churn.join().expect("it ends");
}

#[test]
fn a_thousand_containers_are_capped_counted_and_logged_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("cgroup");
    for number in 0..1000 {
        write(
            &root,
            &[(&format!("docker/{}/cpu.stat", id(number)), "usage_usec 1\n")],
        );
    }
    write(&root, &[("cgroup.controllers", "cpu\n")]);
    let nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\ncollectors: {{container: {{name: box, root: '{}', procfs: '{}', limit: 50}}}}\n",
        root.display(),
        folder.path().display()
    ));
    wait_until("some collections are done", Duration::from_secs(20), || {
        nightbell.metric("container_omitted") == Some(950.0)
            && nightbell.metric("container_count") == Some(1000.0)
    });
    let up = || {
        nightbell
            .get("/metrics")
            .1
            .lines()
            .filter(|line| line.starts_with("container_up{"))
            .count()
    };
    assert_eq!(up(), 50);
    let collections = || {
        nightbell
            .get("/api/v1/query?query=count_over_time(container_omitted%5B1h%5D)")
            .1
    };
    wait_until("it goes on", Duration::from_secs(20), || {
        collections().contains("\"3\"")
    });
    assert_eq!(
        nightbell
            .log()
            .matches("There are more containers than are shown.")
            .count(),
        1,
        "{}",
        nightbell.log()
    );
}

/// What the fake engine knows of the containers 1 to 3.
fn bodies() -> HashMap<String, String> {
    let list = json!([
        {"Id": id(1), "Names": ["/shop-web-1"], "Image": "web:1", "State": "running", "Status": "Up 2 hours (healthy)",
         "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}},
        {"Id": id(2), "Names": ["/shop-db-1"], "Image": "db", "State": "exited", "Status": "Exited (137) 2 minutes ago",
         "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "db"}},
        {"Id": id(3), "Names": ["/other"], "Image": "o", "State": "running", "Status": "Up 1 second (unhealthy)", "Labels": null},
    ]);
    let one = |restarts: u64, running: bool, code: i64| {
        json!({"RestartCount": restarts, "State": {"Running": running, "ExitCode": code}, "Name": "/x"}).to_string()
    };
    HashMap::from([
        ("/containers/json?all=1".to_owned(), list.to_string()),
        (format!("/containers/{}/json", id(1)), one(4, true, 0)),
        (format!("/containers/{}/json", id(2)), one(0, false, 137)),
    ])
}

#[tokio::test]
async fn the_engine_gives_names_state_health_restarts_and_is_only_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("cgroup");
    two(&root, &format!("docker/{}", id(1)));
    two(&root, &format!("docker/{}", id(3)));
    let socket = Socket::start(folder.path(), Engine::Serves(bodies()));
    let with = |more: &str| {
        build(
            "container",
            &yaml(
                folder.path(),
                &format!("socket: '{}'\n{more}", socket.path.display()),
            ),
        )
    };
    let (batch, problem) = look(&mut with("")).await;
    assert_eq!(problem, None);
    expect(
        &batch,
        "shop-web-1",
        &[
            ("container_up", 1.0),
            ("container_healthy", 1.0),
            ("container_restarts_total", 4.0),
            ("container_memory_rss", 600_000.0),
        ],
    );
    expect(
        &batch,
        "shop-db-1",
        &[("container_up", 0.0), ("container_exit_code", 137.0)],
    );
    expect(
        &batch,
        "other",
        &[("container_up", 1.0), ("container_healthy", 0.0)],
    );
    let compose = ("container_label_com_docker_compose_service", "web");
    assert_eq!(
        value(&batch, "container_up", &[compose, ("image", "web:1")]),
        Some(1.0)
    );
    assert_eq!(
        value(
            &batch,
            "container_state",
            &[("name", "shop-db-1"), ("state", "exited")]
        ),
        Some(1.0)
    );
    assert_eq!(
        (
            of(&batch, "container_restarts_total", "other"),
            value(&batch, "container_engine_up", &[])
        ),
        (None, Some(1.0))
    );
    assert!(
        socket
            .asked()
            .iter()
            .all(|line| line.starts_with("GET /containers/")),
        "{:?}",
        socket.asked()
    );
    for (more, shown) in [
        ("compose_project: shop", vec!["shop-db-1", "shop-web-1"]),
        ("names: ['oth*']", vec!["other"]),
    ] {
        let (batch, _) = look(&mut with(more)).await;
        let family = batch.families.get("container_up").expect("shown");
        let mut names: Vec<&str> = family
            .samples
            .iter()
            .map(|sample| sample.labels.value("name"))
            .collect();
        names.sort_unstable();
        assert_eq!(names, shown, "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_misbehaves_costs_no_figure_of_the_kernel() {
    let folder = tempfile::tempdir().expect("a folder");
    two(&folder.path().join("cgroup"), &format!("docker/{}", id(1)));
    let socket = Socket::start(folder.path(), Engine::Serves(bodies()));
    let mut collector = build(
        "container",
        &yaml(
            folder.path(),
            &format!("socket: '{}'\n", socket.path.display()),
        ),
    );
    assert_eq!(look(&mut collector).await.1, None);
    let json = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let hostile = [
        Engine::Silent,
        Engine::Endless,
        Engine::Raw(Vec::new()),
        Engine::Raw(b"garbage\0\xff".to_vec()),
        Engine::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[{".to_vec()),
        Engine::Raw(json("{}")),
        Engine::Raw(json("[{\"Id\": 3}]")),
        Engine::Raw(json(&"[".repeat(100_000))),
        Engine::Raw(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ];
    for (number, manner) in hostile.into_iter().enumerate() {
        socket.become_(manner);
        let start = Instant::now();
        let (batch, problem) = look(&mut collector).await;
        assert!(
            problem.is_some_and(|problem| problem.contains("engine.sock")),
            "{number}"
        );
        assert_eq!(
            value(&batch, "container_engine_up", &[]),
            Some(0.0),
            "{number}"
        );
        // By the name that is known.
        expect(
            &batch,
            "shop-web-1",
            &[("container_memory_rss", 600_000.0), ("container_up", 1.0)],
        );
        assert!(start.elapsed() < Duration::from_secs(30), "{number}");
    }
    drop(socket);
    fs::remove_file(folder.path().join("engine.sock")).expect("removed");
    let (batch, problem) = look(&mut collector).await;
    assert!(problem.is_some_and(|problem| problem.contains("No such file")));
    expect(&batch, "shop-web-1", &[("container_up", 1.0)]);
}

#[test]
fn mistakes_of_a_container_section_say_what_to_do() {
    for (yaml, said) in [
        ("names: [a]", "add socket:"),
        ("compose_project: a", "add socket:"),
        ("limit: 0", "give 1 to 2000"),
        ("limit: 5000", "give 1 to 2000"),
        ("sockt: /x", "unknown key"),
    ] {
        let error = try_build("container", yaml)
            .err()
            .map(|errors| errors.to_string())
            .unwrap_or_else(|| panic!("{yaml} is taken"));
        assert!(error.contains(said), "{yaml}: {error}");
    }
}

/// Cgroups of this machine, removed on drop.
struct Real(Vec<PathBuf>);

impl Drop for Real {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let deadline = Instant::now() + Duration::from_secs(10);
            while fs::remove_dir(path).is_err() && path.exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// This machine's own cgroups with a real limit, where they can be made: a process that wants more
/// is killed, which is counted.
#[tokio::test]
async fn a_real_limit_and_a_real_oom_kill_are_seen() {
    let base = Path::new("/sys/fs/cgroup");
    let is_two = base.join("cgroup.controllers").exists();
    let tree = if is_two {
        base.to_owned()
    } else {
        base.join("memory")
    };
    let (limit_file, kind) = if is_two {
        ("memory.max", "v2")
    } else {
        ("memory.limit_in_bytes", "v1")
    };
    let id = id(std::process::id() as usize);
    let mut made = Real(Vec::new());
    let own = tree.join(format!("nightbell-test-{}", std::process::id()));
    for folder in [
        own.clone(),
        own.join("docker"),
        own.join("docker").join(&id),
    ] {
        if fs::create_dir(&folder).is_err() {
            break;
        }
        made.0.push(folder.clone());
        // Where it is version 2, the controller is handed down.
        let _ = fs::write(
            folder
                .parent()
                .expect("a parent")
                .join("cgroup.subtree_control"),
            "+memory",
        );
    }
    let scope = own.join("docker").join(&id);
    if fs::write(scope.join(limit_file), (24 << 20).to_string()).is_err() {
        eprintln!("cgroups cannot be made here: the trees that the other tests write have to do");
        return;
    }
    let _ = fs::write(scope.join("memory.swap.max"), "0");
    let _ = fs::write(
        scope.join("memory.memsw.limit_in_bytes"),
        (24 << 20).to_string(),
    );
    let _ = fs::write(scope.join("memory.swappiness"), "0");
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec python3 -c \"b'x' * (200 << 20)\"",
        scope.display()
    );
    let status = Command::new("sh")
        .args(["-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("sh runs");
    assert!(!status.success(), "{kind}: it was not killed");
    let mut collector = build("container", "");
    let (batch, _) = look(&mut collector).await;
    let of = |name: &str| {
        value(
            &batch,
            name,
            &[(
                "id",
                &format!("/nightbell-test-{}/docker/{id}", std::process::id()),
            )],
        )
    };
    assert_eq!(
        of("container_spec_memory_limit_bytes"),
        Some((24 << 20) as f64),
        "{kind}"
    );
    assert!(
        of("container_oom_events_total").is_some_and(|count| count >= 1.0),
        "{kind}: {:?}",
        of("container_oom_events_total")
    );
    assert!(
        of("container_memory_usage_bytes").is_some_and(|bytes| bytes <= (24 << 20) as f64),
        "{kind}"
    );
}
