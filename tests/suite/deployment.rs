//! What is in `deploy/`: the unit, the Compose file, the Kubernetes manifests and the Debian package
//! pass the tools that exist for them, and the package can be installed and removed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::servers::python_tool;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program in the project's folder; it must be installed.
fn run(program: &str, words: &[&str]) -> Output {
    Command::new(program)
        .args(words)
        .current_dir(root())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"))
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_unit_is_right_and_confined() {
    let unit = "deploy/nightbell.service";
    let verify = run(
        "systemd-analyze",
        &["verify", "--recursive-errors=no", unit],
    );
    // The binary is not installed here; everything else must be right.
    let text = said(&verify);
    let complaints: Vec<&str> = text
        .lines()
        .filter(|l| l.contains("nightbell.service") && !l.contains("is not executable"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    // In tenths: below 2.0.
    let exposure = run(
        "systemd-analyze",
        &[
            "security",
            "--no-pager",
            "--offline=yes",
            "--threshold=19",
            unit,
        ],
    );
    assert!(exposure.status.success(), "{}", said(&exposure));
}

#[test]
fn prometheus_and_compose_files_are_right() {
    let promtool = run("promtool", &["check", "config", "deploy/prometheus.yml"]);
    assert!(promtool.status.success(), "{}", said(&promtool));
    let compose: Value = serde_yaml::from_str(&read("deploy/compose.yml")).expect("YAML");
    for volume in compose["services"]
        .as_object()
        .expect("services")
        .values()
        .flat_map(|s| s["volumes"].as_array().cloned().unwrap_or_default())
    {
        let source = volume
            .as_str()
            .unwrap_or("")
            .split(':')
            .next()
            .unwrap_or("")
            .to_owned();
        assert!(
            !source.starts_with('.') || root().join("deploy").join(&source).exists(),
            "{source} does not exist"
        );
    }
}

/// The manifests fit Kubernetes' schemas, and the configurations in them nightbell's.
#[test]
fn kubernetes_manifests_fit_the_schemas() {
    let manifest = "deploy/kubernetes/nightbell.yml";
    let validate = Command::new(python_tool("kubernetes-validate"))
        .args(["--strict", "--kubernetes-version", "1.31", manifest])
        .current_dir(root())
        .output()
        .expect("kubernetes-validate is installed");
    let text = said(&validate);
    assert!(validate.status.success(), "{text}");
    assert_eq!(text.matches(" passed ").count(), 6, "{text}");
    let documents = read(manifest);
    let map = documents.split("\n---\n").next().expect("the first one");
    let map: Value = serde_yaml::from_str(map).expect("YAML");
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["nightbell.yml", "node.yml"] {
        let path = folder.path().join(name);
        std::fs::write(&path, map["data"][name].as_str().expect("a text")).expect("written");
        let checked = Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(["check", "config", &path.display().to_string()])
            .env("NIGHTBELL_TOKEN", "t0ken")
            .env("ALERT_WEBHOOK_URL", "http://127.0.0.1:9/")
            .output()
            .expect("it runs");
        assert!(checked.status.success(), "{name}: {}", said(&checked));
    }
    // Its kind comes with the operator: that it selects the services is all that can be said here.
    let monitor: Value =
        serde_yaml::from_str(&read("deploy/kubernetes/servicemonitor.yml")).expect("YAML");
    let label = "app.kubernetes.io/name: nightbell";
    assert_eq!(
        monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"],
        "nightbell"
    );
    assert!(documents.matches(&format!("labels: {{{label}")).count() >= 6);
}

/// A root folder for dpkg, in which nothing else is installed.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["var/lib/dpkg/updates", "var/lib/dpkg/info"] {
            std::fs::create_dir_all(folder.path().join(name)).expect("made");
        }
        for name in ["status", "available"] {
            std::fs::write(folder.path().join("var/lib/dpkg").join(name), "").expect("written");
        }
        Machine { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs dpkg; maintainer scripts run outside of the folder and know it as `DPKG_ROOT`.
    fn dpkg(&self, words: &[&str]) {
        let root = format!("--root={}", self.folder.path().display());
        let options = [
            &root,
            "--force-script-chrootless",
            "--force-not-root",
            "--force-depends",
            "--force-confold",
            "--log=/dev/null",
        ];
        let output = run("dpkg", &[&options, words].concat());
        assert!(output.status.success(), "{words:?}: {}", said(&output));
    }
}

/// Installed, upgraded with a configuration that was edited, removed, purged.
#[test]
fn the_debian_package_is_installed_upgraded_removed_and_purged() {
    let packages = tempfile::tempdir().expect("a folder");
    let built = |version: &str| {
        let folder = packages.path().display().to_string();
        let binary = env!("CARGO_BIN_EXE_nightbell");
        let made = Command::new(root().join("deploy/debian/build"))
            .args([binary, &folder, version])
            .env("COMPRESSION", "none")
            .output()
            .expect("the script runs");
        assert!(made.status.success(), "{}", said(&made));
        let file = std::fs::read_dir(packages.path())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.to_string_lossy().contains(&format!("_{version}_")));
        file.expect("a package").display().to_string()
    };
    let machine = Machine::new();
    machine.dpkg(&["--install", &built("0.1.0")]);
    let config = machine.path("etc/nightbell/nightbell.yml");
    let program = machine.path("usr/bin/nightbell").display().to_string();
    assert!(
        run(
            &program,
            &["check", "config", &config.display().to_string()]
        )
        .status
        .success()
    );
    for file in [
        "lib/systemd/system/nightbell.service",
        "usr/share/man/man1/nightbell.1.gz",
        "usr/share/bash-completion/completions/nightbell",
        "usr/share/doc/nightbell/examples/profiles/intent.yml",
        "etc/nightbell/env",
    ] {
        assert!(machine.path(file).exists(), "{file}");
    }
    let unit = std::fs::read_to_string(machine.path("lib/systemd/system/nightbell.service"));
    let unit = unit.expect("the unit");
    assert!(unit.contains("ExecStart=/usr/bin/nightbell ") && !unit.contains("/usr/local"));

    std::fs::write(&config, "collectors: {host: {}}\n").expect("written");
    machine.dpkg(&["--install", &built("0.1.1")]);
    assert_eq!(
        std::fs::read_to_string(&config).expect("it is there"),
        "collectors: {host: {}}\n",
        "what was edited stays"
    );

    std::fs::create_dir_all(machine.path("var/lib/private/nightbell")).expect("made");
    machine.dpkg(&["--remove", "nightbell"]);
    assert!(!machine.path("usr/bin/nightbell").exists());
    assert!(config.exists() && machine.path("var/lib/private/nightbell").exists());
    machine.dpkg(&["--purge", "nightbell"]);
    for file in [
        "etc/nightbell",
        "var/lib/private/nightbell",
        "usr/share/doc/nightbell",
    ] {
        assert!(!machine.path(file).exists(), "{file} is left");
    }
}
