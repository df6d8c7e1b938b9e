//! The `updates` collector: the state and the lists of apt as they lie on disk, beside what apt
//! itself says of the same files; Python environments beside an index on a real socket.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nightbell::collectors::{Memory, Target};
use nightbell::model::Batch;

use crate::collecting::{build, build_for, build_patient, collect, try_build, value};
use crate::servers::free_port;
use crate::servers::hostile::{Hostile, Manner};
use crate::servers::llm::{FakeLlm, Script};

const APT: [(&str, &str); 2] = [("manager", "apt"), ("environment", "")];

fn stanza(name: &str, version: &str, rest: &str) -> String {
    format!(
        "Package: {name}\n{rest}Maintainer: x <x@example.org>\nArchitecture: amd64\nVersion: {version}\nDescription: {name}\n a paragraph\n\n"
    )
}

fn release(origin: &str, codename: &str, suite: &str, rest: &str) -> String {
    format!(
        "Origin: {origin}\nLabel: {origin}\nSuite: {suite}\nCodename: {codename}\n{rest}SHA256:\n x\n"
    )
}

/// A system below a folder: a list of Debian, one of its security, one that is not automatic and
/// one that lets upgrades through.
pub struct System {
    pub folder: tempfile::TempDir,
}

impl System {
    pub fn new() -> Self {
        let system = System {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let installed =
            |name: &str, version: &str| stanza(name, version, "Status: install ok installed\n");
        let status = [
            installed("dpkg", "1.21.22"),
            installed("openssl", "3.0.14-1~deb12u1"),
            installed("curl", "7.88.1-10+deb12u5"),
            installed("tzdata", "2024a-0+deb12u1"),
            installed("own", "9.0"),
            installed("ported", "2.0-1~bpo12+1"),
            installed("linux-image-6.1.0-18-amd64", "6.1.76-1"),
            stanza("nginx", "1.22.1-9", "Status: hold ok installed\n"),
            stanza("gone", "1.0", "Status: deinstall ok config-files\n"),
        ];
        system.write("var/lib/dpkg/status", &status.concat());
        system.list(
            "d_dists_bookworm",
            &release("Debian", "bookworm", "stable", ""),
            &[
                ("dpkg", "1.21.22"),
                ("openssl", "3.0.14-1~deb12u1"),
                ("curl", "7.88.1-10+deb12u5"),
                ("tzdata", "2024b-0+deb12u1"),
                ("ported", "1.0-1"),
                ("nginx", "1.22.1-9+deb12u1"),
                ("gone", "2.0"),
            ],
        );
        system.list(
            "s_dists_bookworm-security",
            &release("Debian", "bookworm-security", "stable-security", ""),
            &[
                ("openssl", "3.0.15-1~deb12u1"),
                ("openssl", "3.0.14-1~deb12u2"),
            ],
        );
        let automatic = "NotAutomatic: yes\nButAutomaticUpgrades: yes\n";
        system.list(
            "b_dists_bookworm-backports",
            &release(
                "Debian Backports",
                "bookworm-backports",
                "stable-backports",
                automatic,
            ),
            &[("ported", "2.1-1~bpo12+1"), ("curl", "8.9.0-1~bpo12+1")],
        );
        system.list(
            "e_dists_experimental",
            &release("Debian", "rc-buggy", "experimental", "NotAutomatic: yes\n"),
            &[("openssl", "4.0"), ("own", "10.0")],
        );
        fs::create_dir_all(system.path("var/lib/apt/lists/partial")).expect("made");
        system
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn list(&self, name: &str, release: &str, packages: &[(&str, &str)]) {
        self.write(&format!("var/lib/apt/lists/{name}_InRelease"), release);
        let text: String = packages
            .iter()
            .map(|(name, version)| stanza(name, version, ""))
            .collect();
        self.write(
            &format!("var/lib/apt/lists/{name}_main_binary-amd64_Packages"),
            &text,
        );
    }

    fn yaml(&self) -> String {
        format!("root: {}\nevery: 0s\n", self.folder.path().display())
    }
}

fn of(batch: &Batch, name: &str) -> Option<f64> {
    value(batch, name, &APT)
}

fn origins(batch: &Batch, name: &str) -> Vec<(String, f64)> {
    let family = batch.families.get(name).expect("it is there");
    family
        .samples
        .iter()
        .map(|sample| (sample.labels.value("origin").to_owned(), sample.value))
        .collect()
}

/// What is pending, held, of security and from where; what is not automatic changes nothing, and
/// what came from backports is followed there.
#[tokio::test]
async fn pending_updates_are_counted_as_apt_would_choose_them() {
    let system = System::new();
    let mut collector = build("updates", &system.yaml());
    let (batch, result) = collect("updates", &mut collector).await;
    result.expect("read");
    let pair = |origin: &str, count: f64| (origin.to_owned(), count);
    assert_eq!(
        origins(&batch, "apt_upgrades_pending"),
        [
            pair("Debian Backports:bookworm-backports/stable-backports", 1.0),
            pair("Debian:bookworm-security/stable-security", 1.0),
            pair("Debian:bookworm/stable", 1.0),
        ]
    );
    assert_eq!(
        origins(&batch, "apt_upgrades_held"),
        [pair("Debian:bookworm/stable", 1.0)]
    );
    assert_eq!(
        [
            of(&batch, "updates_pending"),
            of(&batch, "updates_security_pending"),
            of(&batch, "updates_installed_packages"),
            of(&batch, "updates_readable"),
            value(&batch, "updates_unreadable_lists", &[]),
            value(&batch, "node_reboot_required", &[]),
            value(&batch, "updates_newer_kernel_installed", &[]),
        ],
        [
            Some(4.0),
            Some(1.0),
            Some(8.0),
            Some(1.0),
            Some(0.0),
            Some(0.0),
            None
        ]
    );
    let named = &batch.families["updates_security_info"].samples[0].labels;
    assert_eq!(
        ["package", "installed", "available"].map(|label| named.value(label)),
        ["openssl", "3.0.14-1~deb12u1", "3.0.15-1~deb12u1"]
    );
    assert!(value(&batch, "apt_package_cache_timestamp_seconds", &[]).expect("known") > 1e9);

    // A restart is due: an update says so, or a newer kernel is installed.
    system.write("run/reboot-required", "*** System restart required ***\n");
    system.write("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
    let kernel = |batch: &Batch| value(batch, "updates_newer_kernel_installed", &[]);
    let (batch, _) = collect("updates", &mut collector).await;
    assert_eq!(
        (value(&batch, "node_reboot_required", &[]), kernel(&batch)),
        (Some(1.0), Some(0.0))
    );
    let status = fs::read_to_string(system.path("var/lib/dpkg/status")).expect("read");
    let newer = [
        "linux-image-6.1.0-25-amd64",
        "linux-image-6.10.0-1-cloud-amd64",
    ]
    .map(|name| stanza(name, "6.1.106-3", "Status: install ok installed\n"));
    system.write("var/lib/dpkg/status", &format!("{status}{}", newer[1]));
    let (batch, _) = collect("updates", &mut collector).await;
    assert_eq!(kernel(&batch), Some(0.0));
    system.write("var/lib/dpkg/status", &format!("{status}{}", newer[0]));
    let (batch, _) = collect("updates", &mut collector).await;
    assert_eq!(kernel(&batch), Some(1.0));
    // After the upgrade nothing is pending, which a series of 0 says.
    let upgraded = status
        .replace("3.0.14-1~deb12u1", "3.0.15-1~deb12u1")
        .replace("2024a-0", "2024b-0")
        .replace("2.0-1~bpo", "2.1-1~bpo");
    system.write("var/lib/dpkg/status", &upgraded);
    let (batch, _) = collect("updates", &mut collector).await;
    assert_eq!(origins(&batch, "apt_upgrades_pending"), [pair("", 0.0)]);
    assert_eq!(of(&batch, "updates_security_pending"), Some(0.0));
}

/// Lists as Debian's images have them, and as other settings of apt leave them.
#[tokio::test]
async fn compressed_lists_are_read_and_what_cannot_be_is_counted() {
    let system = System::new();
    let plain = |name: &str| {
        system.path(&format!(
            "var/lib/apt/lists/{name}_main_binary-amd64_Packages"
        ))
    };
    let pack = |path: &Path, program: &str, ending: &str| {
        let packed = Command::new(program)
            .arg("-c")
            .arg(path)
            .output()
            .expect("it runs");
        assert!(packed.status.success(), "{program}");
        fs::write(format!("{}.{ending}", path.display()), packed.stdout).expect("written");
        fs::remove_file(path).expect("removed");
    };
    pack(&plain("s_dists_bookworm-security"), "gzip", "gz");
    let debian = plain("d_dists_bookworm");
    let text = fs::read(&debian).expect("read");
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(&text).expect("packed");
    let packed = encoder.finish().expect("packed");
    fs::write(format!("{}.lz4", debian.display()), &packed).expect("written");
    fs::remove_file(&debian).expect("removed");
    let mut collector = build("updates", &system.yaml());
    let (batch, result) = collect("updates", &mut collector).await;
    result.expect("read");
    let unreadable = |batch: &Batch| value(batch, "updates_unreadable_lists", &[]);
    assert_eq!(
        (
            of(&batch, "updates_pending"),
            of(&batch, "updates_security_pending"),
            unreadable(&batch)
        ),
        (Some(4.0), Some(1.0), Some(0.0))
    );
    // Truncated, of a kind that is not read, no list at all.
    fs::write(
        format!("{}.lz4", debian.display()),
        &packed[..packed.len() / 2],
    )
    .expect("written");
    pack(&plain("e_dists_experimental"), "xz", "xz");
    let backports = plain("b_dists_bookworm-backports");
    fs::remove_file(&backports).expect("removed");
    assert!(
        Command::new("mkfifo")
            .arg(&backports)
            .status()
            .expect("it runs")
            .success()
    );
    let (batch, result) = collect("updates", &mut collector).await;
    result.expect("the others are read");
    assert_eq!(
        (unreadable(&batch), of(&batch, "updates_security_pending")),
        (Some(3.0), Some(1.0))
    );
}

/// Without lists nothing is known, and 0 would be a lie; the same for a state that is no state.
#[tokio::test]
async fn a_system_that_cannot_be_read_has_no_figures() {
    let system = System::new();
    fs::remove_dir_all(system.path("var/lib/apt/lists")).expect("removed");
    let mut collector = build("updates", &system.yaml());
    let fails = async |collector: &mut _, words: &str| {
        let (batch, result) = collect("updates", collector).await;
        let error = result.expect_err("unreadable").to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(
            (
                of(&batch, "updates_readable"),
                of(&batch, "updates_pending")
            ),
            (Some(0.0), None)
        );
    };
    fails(&mut collector, "apt-get update").await;
    system.list("d_dists_bookworm", "", &[("openssl", "4")]);
    for garbage in [
        "",
        "\u{0}\u{1}\n\nx",
        "Package: openssl\nStatus: install ok installed\n",
    ] {
        system.write("var/lib/dpkg/status", garbage);
        fails(&mut collector, "no installed package").await;
    }
    fs::remove_file(system.path("var/lib/dpkg/status")).expect("removed");
    fails(&mut collector, "No such file").await;
}

/// The machine of this test: apt's own simulation of an upgrade, which takes no lock, names the
/// same number of packages.
#[tokio::test]
async fn the_figures_are_those_of_apt_on_this_machine() {
    let mut collector = build_patient("updates", "every: 1h\n");
    let (batch, result) = collect("updates", &mut collector).await;
    let apt = Command::new("apt-get")
        .args([
            "--just-print",
            "-o",
            "Debug::NoLocking=true",
            "dist-upgrade",
        ])
        .env("LC_ALL", "C")
        .output()
        .expect("apt-get runs");
    let apt = String::from_utf8_lossy(&apt.stdout).into_owned();
    // A package that is new, for the sake of another one, has no installed version in brackets.
    let upgrades = |words: &str| {
        apt.lines()
            .filter(|line| {
                line.starts_with("Inst ")
                    && line
                        .split_whitespace()
                        .nth(2)
                        .is_some_and(|word| word.starts_with('['))
                    && line.contains(words)
            })
            .count() as f64
    };
    match result {
        Ok(()) => {
            let pending: f64 = origins(&batch, "apt_upgrades_pending")
                .iter()
                .map(|(_, n)| n)
                .sum();
            assert_eq!(pending, upgrades(""), "{apt}");
            let of_security: f64 = origins(&batch, "apt_upgrades_pending")
                .iter()
                .filter(|(origin, _)| origin.contains("-security"))
                .map(|(_, count)| count)
                .sum();
            assert_eq!(of_security, upgrades("-security"), "{apt}");
            // A fix may have come first by a list of security and then, newer, by another one.
            assert!(of(&batch, "updates_security_pending") >= Some(of_security));
        }
        // Without lists apt can say nothing either.
        Err(error) => {
            assert!(error.to_string().contains("package list"), "{error}");
            assert_eq!(upgrades(""), 0.0, "{apt}");
        }
    }
}

/// An environment with these packages.
pub fn environment(folder: &Path, packages: &[(&str, &str)]) {
    for (name, version) in packages {
        let path = folder.join(format!(
            "lib/python3.11/site-packages/{name}-{version}.dist-info"
        ));
        fs::create_dir_all(path).expect("made");
    }
}

/// The index knows this newest version of a package, and vulnerabilities of the installed one.
pub fn knows(index: &FakeLlm, name: &str, installed: &str, latest: &str, open: usize) {
    let answer = |version: &str, open: usize| {
        let open = vec![r#"{"id":"PYSEC-1","withdrawn":null}"#; open].join(",");
        let gone = r#"{"id":"PYSEC-2","withdrawn":"2024-01-01T00:00:00Z"}"#;
        let comma = if open.is_empty() { "" } else { "," };
        Script::json(
            "200 OK",
            &format!(
                r#"{{"info":{{"name":"x","version":"{version}"}},"releases":{{}},"vulnerabilities":[{gone}{comma}{open}]}}"#
            ),
        )
    };
    let is_newest = installed == latest;
    index.on(
        &format!("/pypi/{name}/json"),
        answer(latest, if is_newest { open } else { 0 }),
    );
    index.on(
        &format!("/pypi/{name}/{installed}/json"),
        answer(installed, open),
    );
}

/// Packages with newer versions and with vulnerabilities; what did not come from an index is not
/// asked for; answers outlive a restart.
#[tokio::test]
async fn a_python_environment_is_compared_with_its_index() {
    let (folder, index) = (tempfile::tempdir().expect("a folder"), FakeLlm::start());
    let venv = folder.path().join("venv");
    environment(
        &venv,
        &[
            ("Jinja2", "3.1.2"),
            ("fast_API.core", "0.110.0"),
            ("secret_app", "1.0"),
            ("unknown", "1.0"),
            ("torch", "2.3.0+cu121"),
            ("a?b", "1"),
        ],
    );
    let own = venv.join("lib/python3.11/site-packages/secret_app-1.0.dist-info/direct_url.json");
    fs::write(own, "{}").expect("written");
    knows(&index, "jinja2", "3.1.2", "3.1.4", 2);
    knows(&index, "fast-api-core", "0.110.0", "0.110.0", 0);
    knows(&index, "torch", "2.3.0+cu121", "2.3.0", 0);
    let yaml = format!(
        "apt: false\npython: ['{}']\nindex: {}\n",
        venv.display(),
        index.url("/")
    );
    let path = venv.display().to_string();
    let target = Target {
        name: "t".into(),
        interval: Duration::from_secs(15),
        timeout: Duration::from_secs(10),
        memory: Memory::of(folder.path(), "updates", "updates", "t"),
    };
    let figures = |batch: &Batch| {
        [
            "pending",
            "security_pending",
            "installed_packages",
            "unchecked_packages",
            "unknown_packages",
        ]
        .map(|name| {
            value(
                batch,
                &format!("updates_{name}"),
                &[("manager", "python"), ("environment", &path)],
            )
        })
    };
    let wanted = [Some(1.0), Some(1.0), Some(6.0), Some(0.0), Some(3.0)];
    let (batch, result) = collect("updates", &mut build_for("updates", &yaml, &target)).await;
    result.expect("read");
    assert_eq!(figures(&batch), wanted);
    assert_eq!(value(&batch, "updates_index_up", &[]), Some(1.0));
    let named = &batch.families["updates_security_info"].samples[0].labels;
    assert_eq!(
        ["package", "installed", "available"].map(|label| named.value(label)),
        ["jinja2", "3.1.2", "3.1.4"]
    );
    let asked = index.requests();
    assert!(
        asked
            .iter()
            .all(|head| !head.contains("secret") && !head.contains("a?b")),
        "{asked:?}"
    );
    let kept = folder.path().join("collectors");
    crate::servers::wait_until("it is saved", Duration::from_secs(90), || {
        fs::read_dir(&kept).is_ok_and(|mut files| files.next().is_some())
    });
    // Anew, it asks nothing again.
    let (batch, _) = collect("updates", &mut build_for("updates", &yaml, &target)).await;
    assert_eq!(figures(&batch), wanted);
    assert_eq!(index.requests().len(), asked.len());
}

/// An index that refuses, is silent, breaks off, sends garbage or without end is one figure and no
/// failure of the rest.
#[tokio::test]
async fn an_index_that_fails_costs_only_what_it_would_say() {
    let (system, folder) = (System::new(), tempfile::tempdir().expect("a folder"));
    environment(folder.path(), &[("jinja2", "3.1.2")]);
    let hostile = [
        Manner::Silent,
        Manner::Truncated,
        Manner::Endless,
        Manner::SlowHead,
    ]
    .map(Hostile::start);
    let closed = format!("http://127.0.0.1:{}/", free_port());
    let fake = FakeLlm::start();
    let answers = |status: &'static str, body: &str| {
        let fake = FakeLlm::start();
        fake.on("/pypi/jinja2/json", Script::json(status, body));
        fake
    };
    fake.on(
        "/pypi/jinja2/json",
        Script::json("200 OK", "{\"info\"").hanging(),
    );
    let others = [
        answers("500 Internal Server Error", "{}"),
        answers("401 Unauthorized", "{}"),
        answers("200 OK", "[1, 2"),
        answers("200 OK", &"x".repeat(30 << 20)),
    ];
    let mut urls = vec![closed, fake.url("/")];
    urls.extend(hostile.iter().map(|one| format!("http://{}/", one.address)));
    urls.extend(others.iter().map(|other| other.url("/")));
    for url in urls {
        let yaml = format!(
            "{}python: ['{}']\nindex: '{url}'\n",
            system.yaml(),
            folder.path().display()
        );
        let (batch, result) = collect("updates", &mut build("updates", &yaml)).await;
        result.expect("files are read");
        let path = folder.path().display().to_string();
        let python = [("manager", "python"), ("environment", path.as_str())];
        assert_eq!(
            [
                value(&batch, "updates_index_up", &[]),
                of(&batch, "updates_security_pending"),
                value(&batch, "updates_readable", &python),
                value(&batch, "updates_unchecked_packages", &python),
                value(&batch, "updates_security_pending", &python),
            ],
            [Some(0.0), Some(1.0), Some(1.0), Some(1.0), None],
            "{url}"
        );
    }
    let gone = format!("{}python: [/nonexistent/venv]\n", system.yaml());
    let (batch, result) = collect("updates", &mut build("updates", &gone)).await;
    assert!(
        result
            .expect_err("unreadable")
            .to_string()
            .contains("/nonexistent/venv")
    );
    assert_eq!(of(&batch, "updates_pending"), Some(4.0));
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    for (yaml, words) in [
        ("apt: false\n", "Python environment"),
        ("python: [venv]\n", "not absolute"),
        ("root: x\n", "not absolute"),
        ("roots: /\n", "roots"),
    ] {
        let errors = try_build("updates", yaml)
            .err()
            .expect("a mistake")
            .to_string();
        assert!(errors.contains(words), "{errors}");
    }
}
