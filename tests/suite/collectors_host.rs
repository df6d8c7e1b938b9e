//! The `host` collector against captured kernel files and what node_exporter 1.11 makes of the same
//! files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nightbell::exposition::{Format, Item, Lines, labels};
use nightbell::model::{Batch, LabelsBuilder, MetricKind};

use crate::collecting::{build, collect, kind, try_build, value};
use crate::servers::Server;
use crate::servers::bus::Bus;

fn captured() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/collectors/host")
}

/// The collector on the captured files; the file systems of a capture cannot be asked.
fn on_captured(more: &str) -> Box<dyn nightbell::collectors::Collector> {
    let root = captured();
    let root = root.display();
    build(
        "host",
        &format!(
            "procfs: {root}/proc\nsysfs: {root}/sys\nrootfs: {root}/root\ndisable: [filesystem]\n{more}"
        ),
    )
}

/// Series to value, and family to type.
type Seen = (BTreeMap<String, f64>, BTreeMap<String, MetricKind>);

fn of_page(page: &str) -> Seen {
    let (mut values, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    let mut lines = Lines::new(page.as_bytes(), Format::Text);
    let mut kind = MetricKind::Untyped;
    while let Some(item) = lines
        .next(b"")
        .expect("the golden file is in the text format")
    {
        match item {
            Item::Help(..) | Item::Unit(..) => {}
            Item::Type(name, k) => {
                kind = k;
                kinds.insert(name.into_owned(), k);
            }
            Item::Sample(line) => {
                let mut builder = LabelsBuilder::new();
                labels(line.series, kind, &mut builder).expect("a series");
                values.insert(builder.build().to_string(), line.value);
            }
        }
    }
    (values, kinds)
}

fn of_batch(batch: &Batch) -> Seen {
    let values = batch
        .samples()
        .map(|s| (s.labels.to_string(), s.value))
        .collect();
    (
        values,
        batch
            .families
            .iter()
            .map(|(name, family)| (name.to_string(), family.kind))
            .collect(),
    )
}

/// Families that nightbell has beyond node_exporter's, or that it measures itself.
const OURS: [&str; 20] = [
    "host_",
    // From netlink in node_exporter, from sysfs here.
    "node_network_receive_nohandler_total",
    // Fields of meminfo that node_exporter showed until 1.7.
    "node_memory_Balloon_bytes",
    "node_memory_FileHugePages_bytes",
    "node_memory_FilePmdMapped_bytes",
    "node_memory_SecPageTables_bytes",
    "node_memory_Hugetlb_bytes",
    "node_memory_KReclaimable_bytes",
    "node_scrape_",
    "node_exporter_build_info",
    "node_uname_",
    "node_time_seconds",
    "node_time_zone",
    "node_selinux",
    "node_netstat_",
    "node_vmstat_",
    "node_textfile",
    // A call, not a file: it tells this machine's clock.
    "node_timex_",
    "node_tcp_connection",
    "node_zfs_",
];
/// Families of node_exporter's that nightbell leaves out.
const LEFT_OUT: [&str; 2] = ["node_md_raid_disks", "node_md_degraded"];

/// Every family, label, value and type that node_exporter reads from the same files.
#[tokio::test]
async fn captured_kernel_files_become_what_node_exporter_makes_of_them() {
    let golden =
        std::fs::read_to_string(captured().join("node_exporter.prom")).expect("the golden file");
    let (wanted, wanted_kinds) = of_page(&golden);
    let mut collector = on_captured(
        "enable: [interrupts, buddyinfo, zoneinfo, slabinfo, ksmd, cgroups, lnstat, xfrm, threads]\n",
    );
    let (batch, result) = collect("host", &mut collector).await;
    result.expect("read");
    let (got, kinds) = of_batch(&batch);
    let mut wrong = Vec::new();
    for (series, value) in wanted
        .iter()
        .filter(|(s, _)| !LEFT_OUT.iter().any(|p| s.starts_with(p)))
    {
        match got.get(series) {
            Some(ours) if (ours - value).abs() <= value.abs() * 1e-12 => {}
            Some(ours) => wrong.push(format!("{series} is {ours}, not {value}")),
            None => wrong.push(format!("{series} is missing")),
        }
    }
    for series in got
        .keys()
        .filter(|s| !wanted.contains_key(*s) && !OURS.iter().any(|p| s.starts_with(p)))
    {
        wrong.push(format!("{series} is too much"));
    }
    for (family, kind) in &kinds {
        if wanted_kinds
            .get(family)
            .is_some_and(|wanted| wanted != kind)
        {
            wrong.push(format!("{family} is a {}", kind.as_str()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        wanted.len() > 500,
        "the golden file has only {} series",
        wanted.len()
    );
}

/// What node_exporter shows on request of CPUs and software interrupts.
#[tokio::test]
async fn cpus_and_software_interrupts_are_shown_on_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let cpu = |n: u32| {
        format!(
            "processor\t: {n}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Xeon(R)\nmicrocode\t: 0x1\ncache size\t: 260096 KB\nphysical id\t: 0\ncore id\t\t: {n}\n\n"
        )
    };
    std::fs::write(folder.path().join("cpuinfo"), cpu(0) + &cpu(1)).expect("written");
    std::fs::write(
        folder.path().join("softirqs"),
        "      CPU0   CPU1\n  HI:  1 2\nTIMER:  30 12\nNET_RX: x 1\n",
    )
    .expect("written");
    let on = |keys: &str| {
        build(
            "host",
            &format!("procfs: {0}\nsysfs: {0}\n{keys}", folder.path().display()),
        )
    };
    let (batch, _) = collect("host", &mut on("enable: [cpu_info, softirqs]\n")).await;
    let second = [
        ("cpu", "1"),
        ("core", "1"),
        ("package", "0"),
        ("model_name", "Xeon(R)"),
        ("cachesize", "260096 KB"),
        ("stepping", ""),
    ];
    assert_eq!(
        (
            value(&batch, "node_cpu_info", &second),
            batch.families["node_cpu_info"].samples.len()
        ),
        (Some(1.0), 2)
    );
    assert_eq!(
        value(&batch, "node_softirqs_total", &[("vector", "timer")]),
        Some(42.0)
    );
    assert_eq!(
        value(
            &batch,
            "node_softirqs_functions_total",
            &[("cpu", "1"), ("type", "TIMER")]
        ),
        Some(12.0)
    );
    assert_eq!(
        batch.families["node_softirqs_total"].samples.len(),
        2,
        "a line that is not as documented is left out"
    );
    let (batch, _) = collect("host", &mut on("")).await;
    assert!(
        !batch.families.contains_key("node_cpu_info")
            && !batch.families.contains_key("node_softirqs_total")
    );
}

/// Listening ports, connections to them, sockets by state, from captured tables.
#[tokio::test]
async fn ports_that_listen_and_ports_that_should_are_shown_with_their_connections() {
    let mut collector = on_captured("ports: [22, 8000]\n");
    let (batch, _) = collect("host", &mut collector).await;
    let of = |name: &str, port: &str| value(&batch, name, &[("port", port)]);
    assert_eq!(
        (
            of("host_tcp_listening", "22"),
            of("host_tcp_connections", "22")
        ),
        (Some(1.0), Some(2.0))
    );
    assert_eq!(
        (
            of("host_tcp_listening", "80"),
            of("host_tcp_connections", "80")
        ),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(
        (
            of("host_tcp_listening", "5432"),
            of("host_tcp_connections", "5432")
        ),
        (Some(1.0), Some(0.0))
    );
    assert_eq!(
        (
            of("host_tcp_listening", "8000"),
            of("host_tcp_connections", "8000")
        ),
        (Some(0.0), Some(0.0))
    );
    assert_eq!(of("host_tcp_listening", "53920"), None);
    let state = |state: &str| value(&batch, "node_tcp_connection_states", &[("state", state)]);
    assert_eq!(
        (state("established"), state("listen"), state("time_wait")),
        (Some(3.0), Some(3.0), Some(1.0))
    );
    assert_eq!(
        (state("tx_queued_bytes"), state("rx_queued_bytes")),
        (Some(21.0), Some(1.0))
    );
    assert_eq!(
        value(
            &batch,
            "node_zfs_zpool_state",
            &[("zpool", "tank"), ("state", "degraded")]
        ),
        Some(1.0)
    );
}

/// What a kernel lacks brings nothing and is no failure; what cannot be read is named, and costs
/// only its part.
#[tokio::test]
async fn a_part_that_is_missing_is_silent_and_a_part_that_is_broken_fails_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("loadavg"), "0.43 0.50 0.43 2/180 411\n").expect("written");
    std::fs::write(folder.path().join("stat"), "cpu0 garbage\n").expect("written");
    let yaml = format!(
        "procfs: {0}\nsysfs: {0}\nrootfs: {0}\n",
        folder.path().display()
    );
    let (batch, result) = collect("host", &mut build("host", &yaml)).await;
    result.expect("the load is there");
    let success = |part: &str| {
        value(
            &batch,
            "node_scrape_collector_success",
            &[("collector", part)],
        )
    };
    assert_eq!(
        (
            success("loadavg"),
            success("cpu"),
            success("meminfo"),
            success("hwmon")
        ),
        (Some(1.0), Some(0.0), None, None)
    );
    assert_eq!(value(&batch, "node_load1", &[]), Some(0.43));
    assert_eq!(value(&batch, "node_memory_MemTotal_bytes", &[]), None);
}

/// One line that is not as documented costs only itself, and is counted; a shifted column is never
/// shown under another's name.
#[tokio::test]
async fn one_odd_line_costs_only_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
    };
    write(
        "1/mountinfo",
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n30 22 0:40 / /mnt rw\n31 22 0:41 / /srv rw - 9p  rw,size=100k\n",
    );
    write(
        "stat",
        "cpu  1 2\ncpu0 100 0 0 5 0 0 0 0 0 0\ncpu1 2568500776029407000000 0 0 0 0 0 0 0 0 0\ncpu2 -1 0 0\ncpu3 7 0 0 1 0 0 0 0 0 0\n\
         ctxt 5\nbtime 1700000000\nprocesses -2049562273\nprocs_running 3\nprocs_blocked 1\n",
    );
    write(
        "diskstats",
        "8 0 sda 1 0 2 0 0 0 0 0 -1 0 0\n8 16 sdb 4 0 2 0 0 0 0 0 0 0 0\nbroken\n",
    );
    write(
        "net/dev",
        "Inter-|\n face |\neth0: 99999999999999999999 1 2 3 0 0 0 0 8 9 0 0 0 0 0 0\nnonsense\neth1: 7 1 0 0 0 0 0 0 8 9 0 0 0 0 0 0\n",
    );
    write("meminfo", "MemTotal: many kB\nMemFree: 2 kB\n");
    write(
        "net/netstat",
        "TcpExt: SyncookiesSent TW\nTcpExt: x 1\nIpExt: InOctets OutOctets\nIpExt: 5 6\n",
    );
    write("net/snmp", "Ip: Forwarding\nTcp: ActiveOpens\nTcp: 4\n");
    let yaml = format!(
        "procfs: {0}\nsysfs: {0}\nrootfs: /\n",
        folder.path().display()
    );
    let (batch, result) = collect("host", &mut build("host", &yaml)).await;
    result.expect("much is there");
    let of = |name: &str, labels: &[(&str, &str)]| value(&batch, name, labels);
    let odd = |part: &str| of("host_unreadable_lines", &[("collector", part)]);
    for part in [
        "filesystem",
        "cpu",
        "stat",
        "diskstats",
        "netdev",
        "meminfo",
        "netstat",
    ] {
        assert_eq!(
            of("node_scrape_collector_success", &[("collector", part)]),
            Some(1.0),
            "{part}"
        );
    }
    assert_eq!(
        [
            "filesystem",
            "cpu",
            "stat",
            "diskstats",
            "netdev",
            "meminfo",
            "netstat"
        ]
        .map(odd),
        [1.0, 2.0, 1.0, 2.0, 2.0, 1.0, 2.0].map(Some)
    );
    assert!(of("node_filesystem_size_bytes", &[("mountpoint", "/")]).is_some());
    let srv = batch.families["node_filesystem_readonly"]
        .samples
        .iter()
        .find(|s| s.labels.value("mountpoint") == "/srv");
    assert_eq!(
        srv.expect("the mount without a source")
            .labels
            .value("device"),
        ""
    );
    let user = |cpu: &str| of("node_cpu_seconds_total", &[("cpu", cpu), ("mode", "user")]);
    assert_eq!(
        ["0", "1", "2", "3"].map(user),
        [Some(1.0), None, None, Some(0.07)]
    );
    assert_eq!(
        (
            of("node_boot_time_seconds", &[]),
            of("node_forks_total", &[])
        ),
        (Some(1.7e9), None)
    );
    assert_eq!(
        (of("node_procs_running", &[]), of("node_procs_blocked", &[])),
        (Some(3.0), Some(1.0))
    );
    let reads = |disk: &str| of("node_disk_reads_completed_total", &[("device", disk)]);
    assert_eq!((reads("sda"), reads("sdb")), (None, Some(4.0)));
    let received = |device: &str| of("node_network_receive_bytes_total", &[("device", device)]);
    assert_eq!(
        (received("eth0"), received("eth1")),
        (None, Some(7.0)),
        "the next column is not shown as bytes"
    );
    assert_eq!(
        (
            of("node_memory_MemTotal_bytes", &[]),
            of("node_memory_MemFree_bytes", &[])
        ),
        (None, Some(2048.0))
    );
    assert_eq!(
        (
            of("node_netstat_IpExt_OutOctets", &[]),
            of("node_netstat_Tcp_ActiveOpens", &[])
        ),
        (Some(6.0), Some(4.0))
    );
    assert_eq!(
        of(
            "node_exporter_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))]
        ),
        Some(1.0)
    );
}

/// Two chips of one device are two chips.
#[tokio::test]
async fn two_chips_of_one_device_keep_their_sensors() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("devices/pci/nvme0")).expect("made");
    for (number, name, temperature) in [
        (0, "nvme", "30000"),
        (1, "drivetemp", "31000"),
        (2, "drivetemp", "32000"),
    ] {
        let chip = folder.path().join(format!("class/hwmon/hwmon{number}"));
        std::fs::create_dir_all(&chip).expect("made");
        std::os::unix::fs::symlink(folder.path().join("devices/pci/nvme0"), chip.join("device"))
            .expect("linked");
        std::fs::write(chip.join("name"), name).expect("written");
        std::fs::write(chip.join("temp1_input"), temperature).expect("written");
    }
    let (batch, _) = collect(
        "host",
        &mut build("host", &format!("sysfs: {}\n", folder.path().display())),
    )
    .await;
    let of = |chip: &str| value(&batch, "node_hwmon_temp_celsius", &[("chip", chip)]);
    assert_eq!(
        ["pci_nvme0", "pci_nvme0_drivetemp", "pci_nvme0_hwmon2"].map(of),
        [30.0, 31.0, 32.0].map(Some)
    );
}

/// On the machine of the test, with its real kernel.
#[tokio::test]
async fn this_machine_is_measured() {
    let (batch, result) = collect("host", &mut build("host", "")).await;
    result.expect("a Linux machine");
    assert!(value(&batch, "node_memory_MemTotal_bytes", &[]).expect("memory") > 1e8);
    assert!(
        value(
            &batch,
            "node_cpu_seconds_total",
            &[("cpu", "0"), ("mode", "idle")]
        )
        .expect("a CPU")
            > 0.0
    );
    assert!(value(&batch, "node_time_seconds", &[]).expect("a clock") > 1.7e9);
    assert!(
        value(&batch, "node_filesystem_size_bytes", &[("mountpoint", "/")])
            .is_none_or(|size| size > 0.0)
    );
    let failed = batch.families["node_scrape_collector_success"]
        .samples
        .iter()
        .find(|s| s.value != 1.0);
    assert!(failed.is_none(), "{failed:?}");
}

/// A group is counted, its CPU time stays counted when a member ends, and a group without member is
/// 0, not absent.
#[tokio::test]
async fn groups_of_processes_are_found_by_command_line_and_their_counters_never_fall() {
    let mark = format!("nightbell-test-{}", std::process::id());
    let spawn = || {
        let script = format!(": {mark}; while :; do :; done");
        Server(
            Command::new("sh")
                .args(["-c", &script])
                .stdout(Stdio::null())
                .spawn()
                .expect("sh is everywhere"),
        )
    };
    let yaml = format!(
        "processes:\n- name: busy\n  comm: (ba|da)?sh\n  cmdline: {mark}\n- name: nobody\n  comm: no-such-program\n"
    );
    let mut collector = build("host", &yaml);
    let group = |batch: &Batch, name: &str, labels: &[(&str, &str)]| {
        let labels: Vec<(&str, &str)> = [("groupname", "busy")]
            .iter()
            .chain(labels)
            .copied()
            .collect();
        value(batch, name, &labels)
    };
    let processes = [spawn(), spawn()];
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(90);
    let busy = loop {
        let (batch, result) = collect("host", &mut collector).await;
        result.expect("read");
        let cpu = group(
            &batch,
            "namedprocess_namegroup_cpu_seconds_total",
            &[("mode", "user")],
        )
        .expect("a counter");
        if cpu > 0.1 {
            break batch;
        }
        assert!(std::time::Instant::now() < limit, "no CPU time is seen");
    };
    assert_eq!(
        group(&busy, "namedprocess_namegroup_num_procs", &[]),
        Some(2.0)
    );
    assert!(
        group(
            &busy,
            "namedprocess_namegroup_memory_bytes",
            &[("memtype", "resident")]
        )
        .expect("memory")
            > 1e5
    );
    assert!(group(&busy, "namedprocess_namegroup_open_filedesc", &[]).expect("files") >= 2.0);
    assert!(
        group(
            &busy,
            "namedprocess_namegroup_oldest_start_time_seconds",
            &[]
        )
        .expect("a start")
            > 1.7e9
    );
    assert_eq!(
        value(
            &busy,
            "namedprocess_namegroup_num_procs",
            &[("groupname", "nobody")]
        ),
        Some(0.0)
    );
    let before = group(
        &busy,
        "namedprocess_namegroup_cpu_seconds_total",
        &[("mode", "user")],
    );
    drop(processes);
    let (batch, _) = collect("host", &mut collector).await;
    assert_eq!(
        group(&batch, "namedprocess_namegroup_num_procs", &[]),
        Some(0.0)
    );
    assert!(
        group(
            &batch,
            "namedprocess_namegroup_cpu_seconds_total",
            &[("mode", "user")]
        ) >= before
    );
}

/// Text files of jobs are shown as they are; a broken one is left out and seen.
#[tokio::test]
async fn text_files_are_shown_and_a_broken_one_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = "# TYPE backup_last_success_timestamp_seconds gauge\nbackup_last_success_timestamp_seconds{job=\"nightly\"} 1.7e+09\n";
    std::fs::write(folder.path().join("backup.prom"), page).expect("written");
    let mut collector = build(
        "host",
        &format!("textfile_directory: {}\n", folder.path().display()),
    );
    let mut batch = Batch::new();
    collector.collect(&mut batch).await.expect("read");
    assert_eq!(
        value(
            &batch,
            "backup_last_success_timestamp_seconds",
            &[("job", "nightly")]
        ),
        Some(1.7e9)
    );
    assert_eq!(
        batch.families["backup_last_success_timestamp_seconds"].kind,
        MetricKind::Gauge
    );
    assert_eq!(value(&batch, "node_textfile_scrape_error", &[]), Some(0.0));
    // The same series twice: the first stays, the error is said, the file's other series are there.
    let more = "# HELP other_seconds Of another job.\n# TYPE other_seconds gauge\nother_seconds 4\n\
                backup_last_success_timestamp_seconds{job=\"nightly\"} 5\n";
    std::fs::write(folder.path().join("copy.prom"), more).expect("written");
    let mut batch = Batch::new();
    collector.collect(&mut batch).await.expect("read");
    assert_eq!(value(&batch, "node_textfile_scrape_error", &[]), Some(1.0));
    assert_eq!(
        value(
            &batch,
            "backup_last_success_timestamp_seconds",
            &[("job", "nightly")]
        ),
        Some(1.7e9)
    );
    assert_eq!(value(&batch, "other_seconds", &[]), Some(4.0));
    assert_eq!(batch.families["other_seconds"].help, "Of another job.");
    std::fs::remove_file(folder.path().join("copy.prom")).expect("removed");
    std::fs::write(folder.path().join("broken.prom"), "half{a=\"").expect("written");
    let mut batch = Batch::new();
    collector.collect(&mut batch).await.expect("read");
    assert_eq!(value(&batch, "node_textfile_scrape_error", &[]), Some(1.0));
    assert_eq!(
        value(
            &batch,
            "backup_last_success_timestamp_seconds",
            &[("job", "nightly")]
        ),
        Some(1.7e9)
    );
}

/// Units of systemd, on a real bus. What has failed comes first where there are too many.
#[tokio::test]
async fn units_of_systemd_are_shown_by_state_on_request() {
    let bus = Bus::start().with_systemd(
        r#"{"manager": {"SystemState": "degraded", "Version": "252.38-1~deb12u1"}, "units": {
            "nginx.service": {"state": "active", "properties": {"Type": "forking", "NRestarts": 3}},
            "worker.service": {"state": "failed", "properties": {"Type": "simple", "NRestarts": 0}},
            "gone.service": {"state": "inactive", "loaded": "not-found"},
            "app.socket": {"state": "active", "properties": {"NAccepted": 7, "NConnections": 2}},
            "backup.timer": {"state": "active", "properties": {"LastTriggerUSec": 1796094513000000}},
            "-.mount": {"state": "active"}}}"#,
    );
    let only = |more: &str| {
        format!(
            "enable: [systemd]\nsystemd_bus: {}\n{more}",
            bus.socket().display()
        )
    };
    let (batch, result) = collect("host", &mut on_captured(&only(""))).await;
    result.expect("read");
    let of = |name: &str, labels: &[(&str, &str)]| value(&batch, name, labels);
    let state = |name: &str, state: &str, kind: &str| {
        of(
            "node_systemd_unit_state",
            &[("name", name), ("state", state), ("type", kind)],
        )
    };
    assert_eq!(
        (
            state("nginx.service", "active", "forking"),
            state("nginx.service", "failed", "forking")
        ),
        (Some(1.0), Some(0.0))
    );
    assert_eq!(
        (
            state("worker.service", "failed", "simple"),
            state("app.socket", "active", "")
        ),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(
        batch.families["node_systemd_unit_state"].samples.len(),
        4 * 5,
        "no mount, and none that is not loaded"
    );
    let counts = ["active", "failed", "inactive", "activating"]
        .map(|state| of("node_systemd_units", &[("state", state)]));
    assert_eq!(counts, [Some(4.0), Some(1.0), Some(1.0), Some(0.0)]);
    assert_eq!(of("node_systemd_system_running", &[]), Some(0.0));
    assert_eq!(
        of("node_systemd_version", &[("version", "252.38-1~deb12u1")]),
        Some(252.38)
    );
    assert_eq!(
        of(
            "node_systemd_service_restart_total",
            &[("name", "nginx.service")]
        ),
        Some(3.0)
    );
    assert_eq!(
        of(
            "node_systemd_socket_accepted_connections_total",
            &[("name", "app.socket")]
        ),
        Some(7.0)
    );
    assert_eq!(
        of(
            "node_systemd_socket_current_connections",
            &[("name", "app.socket")]
        ),
        Some(2.0)
    );
    assert_eq!(
        of("node_systemd_socket_refused_connections_total", &[]),
        None,
        "a property that this version lacks"
    );
    assert_eq!(
        of(
            "node_systemd_timer_last_trigger_seconds",
            &[("name", "backup.timer")]
        ),
        Some(1_796_094_513.0)
    );
    let (batch, _) = collect(
        "host",
        &mut on_captured(&only("max_objects: 1\nunits_exclude: '^$'\n")),
    )
    .await;
    assert_eq!(
        value(
            &batch,
            "node_systemd_unit_state",
            &[("name", "worker.service"), ("state", "failed")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value(&batch, "host_omitted_objects", &[("collector", "systemd")]),
        Some(4.0)
    );
}

/// A bus without systemd, one that hangs, one that sends nonsense, and none at all: the part fails,
/// and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_does_not_answer_costs_only_its_part() {
    let bus = Bus::start();
    let folder = tempfile::tempdir().expect("a folder");
    let (silent, nonsense) = (folder.path().join("silent"), folder.path().join("nonsense"));
    let _silent = std::os::unix::net::UnixListener::bind(&silent).expect("a socket");
    let listener = std::os::unix::net::UnixListener::bind(&nonsense).expect("a socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // It may have gone already.
            drop(std::io::Write::write_all(
                &mut stream,
                &[b"OK 1\r\n".as_slice(), &[0xff; 4096]].concat(),
            ));
        }
    });
    for socket in [bus.socket(), silent, nonsense, folder.path().join("absent")] {
        let yaml = format!("enable: [systemd]\nsystemd_bus: {}\n", socket.display());
        let (batch, _) = collect("host", &mut on_captured(&yaml)).await;
        assert_eq!(
            value(
                &batch,
                "node_scrape_collector_success",
                &[("collector", "systemd")]
            ),
            Some(0.0),
            "{}",
            socket.display()
        );
        assert_eq!(
            value(
                &batch,
                "node_scrape_collector_success",
                &[("collector", "processes")]
            ),
            Some(1.0)
        );
        assert!(!batch.families.contains_key("node_systemd_units"));
    }
}

#[test]
fn mistakes_in_its_configuration_are_named() {
    let yaml = "disks_exclude: '('\nenable: [cpus]\nprocesses:\n- name: web\n";
    let errors = try_build("host", yaml).err().expect("mistakes").to_string();
    assert!(
        errors.contains("disks_exclude: \"(\" is not a regular expression"),
        "{errors}"
    );
    assert!(
        errors.contains("there is no part \"cpus\"; known: filesystem, cpu, stat"),
        "{errors}"
    );
    assert!(
        errors.contains("processes[0]: says nothing about its processes"),
        "{errors}"
    );
}

/// The lookups by name rely on it, and one name has one description.
#[test]
fn no_metric_is_declared_twice() {
    let mut names: Vec<&str> = kind("host")
        .metrics
        .iter()
        .flat_map(|m| m.iter())
        .map(|d| d.name)
        .collect();
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// A script that ends in `exec` is another program from then on, with the number of before.
#[tokio::test]
async fn a_process_is_found_by_the_command_line_that_it_has_after_exec() {
    let mark = format!("nightbell-exec-{}", std::process::id());
    let script = format!("read -r line; exec sh -c 'read -r line' {mark}-then");
    let mut child = Command::new("sh")
        .args(["-c", &script, "first"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh is everywhere");
    let mut input = child.stdin.take().expect("piped");
    let _ends = Server(child);
    let yaml = format!("processes:\n- name: app\n  cmdline: ' {mark}-then$'\n");
    let mut collector = build("host", &yaml);
    let count = |batch: &Batch| {
        let group = [("groupname", "app")];
        value(batch, "namedprocess_namegroup_num_procs", &group)
    };
    let (batch, _) = collect("host", &mut collector).await;
    assert_eq!(count(&batch), Some(0.0), "it is still the script");
    std::io::Write::write_all(&mut input, b"go\n").expect("it reads");
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let (batch, _) = collect("host", &mut collector).await;
        if count(&batch) == Some(1.0) {
            break;
        }
        assert!(std::time::Instant::now() < limit, "{:?}", count(&batch));
    }
}

/// What node_exporter asks the kernel for over netlink and by `ioctl`.
#[tokio::test]
async fn queueing_disciplines_and_drivers_of_interfaces_are_shown_on_request() {
    let mut collector = build("host", "enable: [qdisc, ethtool, processes]\n");
    let (batch, _) = collect("host", &mut collector).await;
    for part in ["qdisc", "ethtool", "threads"] {
        let success = value(
            &batch,
            "node_scrape_collector_success",
            &[("collector", part)],
        );
        assert_eq!(success, Some(1.0), "{part}");
    }
    let loopback = &batch.families["node_qdisc_backlog"].samples;
    assert!(
        loopback.iter().any(|s| s.labels.value("device") == "lo"
            && !s.labels.value("kind").is_empty()
            && s.value == 0.0),
        "{loopback:?}"
    );
}
