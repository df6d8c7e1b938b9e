//! What is in `deploy/`: the unit, the Compose file, the Kubernetes manifests and the Debian package
//! pass the tools that exist for them, and the package can be installed and removed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::servers::{Server, free_port, python_tool, wait_until};

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

/// What a dynamically linked program needs to run below another root: an image or a machine has it,
/// a test's folder does not.
fn give_libraries(root: &Path, program: &str) {
    for word in said(&run("ldd", &[program])).split_whitespace() {
        if word.starts_with('/') && !word.ends_with(':') {
            let to = root.join(&word[1..]);
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
            std::fs::copy(word, to).expect("copied");
        }
    }
}

/// The time zones of Debian's `tzdata`.
fn give_time_zones(root: &Path) {
    std::fs::create_dir_all(root.join("usr/share")).expect("made");
    let to = root.join("usr/share/zoneinfo").display().to_string();
    assert!(
        run("cp", &["-a", "/usr/share/zoneinfo", &to])
            .status
            .success()
    );
}

/// Runs a program below another root, where it finds devices and processes, as this user.
fn below(root: &Path, user: u32, program: &str) -> Command {
    for name in ["dev", "proc", "tmp"] {
        std::fs::create_dir_all(root.join(name)).expect("made");
    }
    let mounts = "mount --bind /dev \"$0/dev\" && mount --bind /proc \"$0/proc\" && exec chroot --userspec=$1:$1 \"$0\" \"${@:2}\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", mounts]);
    command.arg(root).arg(user.to_string()).arg(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn is_ready(port: u16) -> bool {
    run(
        "curl",
        &[
            "-sf",
            "-o",
            "/dev/null",
            &format!("http://127.0.0.1:{port}/-/ready"),
        ],
    )
    .status
    .success()
}

fn owned(path: &Path, user: u32) {
    std::fs::create_dir_all(path).expect("made");
    std::os::unix::fs::chown(path, Some(user), Some(user)).expect("chown");
}

/// The image holds one program, a configuration, certificates and time zones; it runs from them alone, as the user that the file
/// names, with what `deploy/compose.yml` gives it, and its health check is well. (A Docker that
/// could build it is not there: the program is the built one, which is not static.)
#[test]
fn the_image_runs_from_what_is_in_it_and_is_healthy() {
    let file = read("deploy/Containerfile");
    let last = file.split("\nFROM scratch\n").nth(1).expect("from scratch");
    let words = |key: &str| -> Vec<String> {
        let line = last.lines().find_map(|line| line.strip_prefix(key));
        let list = line.unwrap_or_else(|| panic!("{key} is missing"));
        serde_json::from_str(&list[list.find('[').expect("a list")..]).expect("a list")
    };
    assert!(last.contains("USER 9908:9908\n") && last.contains("VOLUME /var/lib/nightbell\n"));
    let image = tempfile::tempdir().expect("a folder");
    let at = |name: &str| image.path().join(name);
    for (from, to) in [
        (env!("CARGO_BIN_EXE_nightbell"), "usr/local/bin/nightbell"),
        ("deploy/nightbell.yml", "etc/nightbell/nightbell.yml"),
        (
            "/etc/ssl/certs/ca-certificates.crt",
            "etc/ssl/certs/ca-certificates.crt",
        ),
    ] {
        assert!(file.contains(&format!("/image/{to}")), "{to}");
        std::fs::create_dir_all(at(to).parent().expect("a folder")).expect("made");
        std::fs::copy(root().join(from), at(to)).expect("copied");
    }
    assert!(file.contains("cp -a /usr/share/zoneinfo /image/usr/share/zoneinfo"));
    give_time_zones(image.path());
    owned(&at("var/lib/nightbell"), 9908);
    give_libraries(image.path(), env!("CARGO_BIN_EXE_nightbell"));
    std::os::unix::fs::symlink("/", at("host")).expect("a link");

    let port = free_port();
    let (entry, arguments) = (words("ENTRYPOINT "), words("CMD "));
    let mut command = below(image.path(), 9908, &entry[0]);
    for word in &arguments {
        command.arg(word.replace("0.0.0.0:9908", &format!("127.0.0.1:{port}")));
    }
    let log = std::fs::File::create(at("log")).expect("a file");
    // Compose gives what is not set as empty.
    for name in [
        "DATABASE_URL",
        "REDIS_URL",
        "OPENAI_API_KEY",
        "LLM_PROVIDER",
    ] {
        command.env(name, "");
    }
    let child = command
        .env("HOST_ROOT", "/host")
        .stderr(log)
        .stdout(Stdio::null())
        .spawn();
    let _server = Server(child.expect("unshare runs"));
    wait_until("the container is ready", Duration::from_secs(60), || {
        is_ready(port)
    });
    let check = words("HEALTHCHECK ");
    let healthy = below(image.path(), 9908, &check[0])
        .args(&check[1..])
        .env("NIGHTBELL_LISTEN", format!("127.0.0.1:{port}"))
        .output()
        .expect("unshare runs");
    assert!(healthy.status.success(), "{}", said(&healthy));
    assert!(at("var/lib/nightbell/state.db").exists());
    std::fs::write(
        at("etc/nightbell/zone.yml"),
        "maintenance: [{name: audit, schedule: '0 3 1 * *', timezone: Asia/Shanghai}]\n",
    )
    .expect("written");
    let checked = below(image.path(), 9908, &entry[0])
        .args(["check", "config", "/etc/nightbell/zone.yml"])
        .output()
        .expect("unshare runs");
    assert!(checked.status.success(), "{}", said(&checked));
    let printed = std::fs::read_to_string(at("log")).expect("UTF-8");
    assert!(
        !printed.contains("ERROR") && !printed.contains("ermission denied"),
        "{printed}"
    );
}

/// The package's unit is enabled for the boot, and what it starts runs, as a user without rights,
/// with the configuration of the application's profile, again after `kill -9`.
///
/// Proves multi-agent: D2.
#[test]
fn the_package_starts_a_profile_at_boot_and_again_when_it_dies() {
    let packages = tempfile::tempdir().expect("a folder");
    let made = Command::new(root().join("deploy/debian/build"))
        .arg(env!("CARGO_BIN_EXE_nightbell"))
        .arg(packages.path())
        .env("COMPRESSION", "none")
        .output()
        .expect("the script runs");
    assert!(made.status.success(), "{}", said(&made));
    let package = std::fs::read_dir(packages.path())
        .expect("the folder")
        .next()
        .expect("a package")
        .expect("an entry");
    let machine = Machine::new();
    machine.dpkg(&["--install", &package.path().display().to_string()]);
    let enable = format!("--root={}", machine.folder.path().display());
    assert!(
        run("systemctl", &[&enable, "enable", "nightbell.service"])
            .status
            .success()
    );
    let link = machine.path("etc/systemd/system/multi-user.target.wants/nightbell.service");
    assert_eq!(
        std::fs::read_link(link).expect("it is wanted at boot"),
        Path::new("/lib/systemd/system/nightbell.service")
    );
    let unit = std::fs::read_to_string(machine.path("lib/systemd/system/nightbell.service"));
    let unit = unit.expect("the unit");
    for line in [
        "\nRestart=always\n",
        "\nWantedBy=multi-user.target\n",
        "\nDynamicUser=yes\n",
    ] {
        assert!(unit.contains(line), "{line}");
    }
    // What a user does by the page: the sample of the profile, and its variables.
    let examples = machine.path("usr/share/doc/nightbell/examples/profiles");
    let port = free_port();
    let config = std::fs::read_to_string(examples.join("multi-agent.yml")).expect("the sample");
    std::fs::write(
        machine.path("etc/nightbell/nightbell.yml"),
        format!("{config}\nweb: {{listen: '127.0.0.1:{port}'}}\n"),
    )
    .expect("written");
    let variables = std::fs::read_to_string(examples.join("multi-agent.env.example"));
    let variables = variables.expect("the variables");
    let user = 61_234;
    owned(&machine.path("var/lib/nightbell"), user);
    give_libraries(machine.folder.path(), env!("CARGO_BIN_EXE_nightbell"));
    assert!(read("deploy/debian/build").contains("\nRecommends: ca-certificates, tzdata\n"));
    give_time_zones(machine.folder.path());
    let started = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key));
        let mut words = line.expect("the line").split_whitespace();
        let mut command = below(
            machine.folder.path(),
            user,
            words.next().expect("a program"),
        );
        command.args(words);
        for line in variables.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, value)) = line.split_once('=') {
                command.env(name, value);
            }
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    for _ in 0..2 {
        let mut check = started("ExecStartPre=");
        let check = check.stdout(Stdio::piped()).stderr(Stdio::piped());
        let checked = check.output().expect("unshare runs");
        assert!(checked.status.success(), "{}", said(&checked));
        let server = Server(started("ExecStart=").spawn().expect("unshare runs"));
        wait_until("the service is ready", Duration::from_secs(60), || {
            is_ready(port)
        });
        // `kill -9`: systemd starts it again.
        drop(server);
    }
    assert!(machine.path("var/lib/nightbell/state.db").exists());
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
