//! What recovery actions inherit: nothing but what is listed.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::servers::{Server, free_port, wait_until};

/// The action writes down what it has. As root, nightbell is started as nobody with ambient
/// capabilities, as the systemd unit starts it.
#[test]
fn a_recovery_action_inherits_no_capability_no_descriptor_and_no_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report");
    let script = format!(
        "{{ grep -h '^Cap[IPEA]' /proc/self/status; umask; ls -l /proc/self/fd; env; head -c 20 /etc/shadow; }} > {0}.new 2>&1; mv {0}.new {0}",
        report.display()
    );
    std::fs::write(
        folder.path().join("rules.yml"),
        "groups: [{name: g, rules: [{alert: Always, expr: 'vector(1)'}]}]",
    )
    .expect("written");
    std::fs::write(
        folder.path().join("nightbell.yml"),
        format!(
            "global: {{evaluation_interval: 1s}}\nrules: {{shipped: false}}\nrule_files: ['{}/rules.yml']\n\
             route: {{receiver: act, group_wait: 0s}}\nreceivers: [{{name: act, command_configs: [{{command: [sh, -c, \"{script}\"]}}]}}]\n",
            folder.path().display()
        ),
    )
    .expect("written");
    // A file that whoever starts us left open.
    let left_open = std::fs::File::open("/etc/hostname").expect("a file");
    let is_root = rustix::process::geteuid().is_root();
    let mut command = if is_root {
        Command::new("setpriv")
    } else {
        Command::new(env!("CARGO_BIN_EXE_nightbell"))
    };
    if is_root {
        let chowned = Command::new("chown")
            .args(["-R", "nobody"])
            .arg(folder.path())
            .status()
            .expect("chown runs");
        assert!(chowned.success());
        let set = "+sys_ptrace,+dac_read_search";
        command.args([
            "--reuid",
            "65534",
            "--clear-groups",
            "--inh-caps",
            set,
            "--ambient-caps",
            set,
            "--",
        ]);
        // Where nobody may look.
        let copy = folder.path().join("nightbell");
        std::fs::copy(env!("CARGO_BIN_EXE_nightbell"), &copy).expect("copied");
        command.arg(copy);
    }
    let log = std::fs::File::create(folder.path().join("log")).expect("a log");
    command
        .args([
            "--listen",
            &format!("127.0.0.1:{}", free_port()),
            "--state-dir",
        ])
        .arg(folder.path().join("state"));
    command
        .arg("--config")
        .arg(folder.path().join("nightbell.yml"))
        .env("A_SECRET", "s3cr3t");
    command
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .process_group(0);
    let _ = rustix::io::fcntl_setfd(&left_open, rustix::io::FdFlags::empty());
    let _nightbell = Server(command.spawn().expect("it starts"));
    let _ = rustix::io::fcntl_setfd(&left_open, rustix::io::FdFlags::CLOEXEC);
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    wait_until(
        &format!("the action runs: {}", log()),
        Duration::from_secs(40),
        || report.exists(),
    );
    let report = std::fs::read_to_string(&report).expect("read");
    let capabilities = |name: &str| {
        let line = report
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("no {name}: {report}"));
        u64::from_str_radix(line.split_whitespace().nth(1).expect("a number"), 16)
            .expect("hexadecimal")
    };
    assert_eq!(
        (capabilities("CapInh"), capabilities("CapAmb")),
        (0, 0),
        "{report}"
    );
    if is_root {
        assert_eq!(
            (capabilities("CapPrm"), capabilities("CapEff")),
            (0, 0),
            "{report}"
        );
        assert!(!report.contains("root:"), "{report}");
    }
    assert!(
        !report.contains("/etc/hostname")
            && !report.contains("s3cr3t")
            && !report.contains("MALLOC"),
        "{report}"
    );
    assert!(
        report.lines().any(|line| line == "0022"
            || line == "022"
            || line.starts_with("00") && line != "0077"),
        "the umask: {report}"
    );
}
