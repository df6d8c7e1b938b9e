//! Files of Alertmanager: `check alertmanager` and `routes` beside Debian's amtool, on the corpus
//! in `tests/config/alertmanager`.
//!
//! The folder of a file is the verdict of amtool 0.33; `newer.txt` names the files about
//! which 0.25, Debian 12's, thinks otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NIGHTBELL: &str = env!("CARGO_BIN_EXE_nightbell");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/alertmanager")
}

fn run(program: &str, words: &[&str]) -> Output {
    let output = Command::new(program)
        .args(words)
        .current_dir(folder())
        .output();
    output.unwrap_or_else(|e| panic!("{program}: {e}: apt-get install prometheus-alertmanager"))
}

/// The files of the corpus, with whether Alertmanager takes them.
fn corpus() -> BTreeMap<String, bool> {
    let mut files = BTreeMap::new();
    for (name, good) in [("accepted", true), ("refused", false)] {
        for entry in std::fs::read_dir(folder().join(name)).expect("the folder") {
            let file = entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned();
            if file.ends_with(".yml") {
                files.insert(format!("{name}/{file}"), good);
            }
        }
    }
    files
}

fn newer() -> BTreeSet<String> {
    std::fs::read_to_string(folder().join("newer.txt"))
        .expect("readable")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// What a checker prints about each file.
fn verdicts(output: &Output) -> BTreeMap<String, bool> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let verdict = |line: &str| {
        let (file, verdict) = line.strip_prefix("Checking '")?.split_once("'  ")?;
        Some((file.to_owned(), verdict.starts_with("SUCCESS")))
    };
    let mut verdicts: BTreeMap<String, bool> = text.lines().filter_map(verdict).collect();
    // A template that cannot be read is notified after the configuration that is right.
    for block in text
        .split("Checking '")
        .filter(|block| block.contains("SUCCESS\n") && block.contains("FAILED: "))
    {
        if let Some((file, _)) = block.split_once('\'') {
            verdicts.insert(file.to_owned(), false);
        }
    }
    verdicts
}

/// Every verdict is amtool's, and so is the exit status.
#[test]
fn check_alertmanager_gives_amtools_verdict() {
    let (corpus, newer) = (corpus(), newer());
    assert!(corpus.len() > 330, "{} files", corpus.len());
    let words: Vec<&str> = corpus.keys().map(String::as_str).collect();
    let ours = run(
        NIGHTBELL,
        &[&["check", "alertmanager"], words.as_slice()].concat(),
    );
    let wrong = |verdicts: &BTreeMap<String, bool>, but: &BTreeSet<String>| -> Vec<String> {
        corpus
            .iter()
            .filter(|(file, good)| !but.contains(*file) && verdicts.get(*file) != Some(good))
            .map(|(file, _)| file.clone())
            .collect()
    };
    let differ = wrong(&verdicts(&ours), &BTreeSet::new());
    assert!(
        differ.is_empty(),
        "{differ:?}\n{}",
        String::from_utf8_lossy(&ours.stdout)
    );
    let theirs = run("amtool", &[&["check-config"], words.as_slice()].concat());
    let differ = wrong(&verdicts(&theirs), &newer);
    assert!(
        differ.is_empty(),
        "amtool itself: {differ:?}\n{}",
        String::from_utf8_lossy(&theirs.stdout)
    );
    for (file, status) in [
        ("accepted/agent_v3_guide.yml", 0),
        ("refused/undefined_receiver.yml", 1),
        ("accepted/no_such_file.yml", 1),
    ] {
        for (program, command) in [
            (NIGHTBELL, &["check", "alertmanager"] as &[&str]),
            ("amtool", &["check-config"]),
        ] {
            assert_eq!(
                run(program, &[command, &[file]].concat()).status.code(),
                Some(status),
                "{program} {file}"
            );
        }
    }
    let said = run(
        NIGHTBELL,
        &["check", "alertmanager", "accepted/agent_v3_guide.yml"],
    );
    let amtools = run("amtool", &["check-config", "accepted/agent_v3_guide.yml"]);
    assert_eq!(
        String::from_utf8_lossy(&said.stdout).trim(),
        String::from_utf8_lossy(&amtools.stdout).trim()
    );
}

/// A mistake names its place; what nightbell itself would refuse in a valid file is a warning.
#[test]
fn a_verdict_names_the_place_and_what_nightbell_would_refuse() {
    let refused = run(
        NIGHTBELL,
        &["check", "alertmanager", "refused/undefined_receiver.yml"],
    );
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(
        said.contains("refused/undefined_receiver.yml:1:") && said.contains("\"b\" is not defined"),
        "{said}"
    );
    let taken = run(
        NIGHTBELL,
        &["check", "alertmanager", "accepted/victorops.yml"],
    );
    let warned = String::from_utf8_lossy(&taken.stderr);
    assert!(
        taken.status.success()
            && warned.contains("WARNING")
            && warned.contains("victorops_configs"),
        "{warned}"
    );
}

/// SEMANTICS 195: the tree and the receivers of a label set are printed as amtool prints them.
#[test]
fn routes_are_shown_and_tested_as_amtool_does() {
    let newer = newer();
    let files = corpus()
        .into_iter()
        .filter(|(file, good)| *good && !newer.contains(file))
        .map(|(file, _)| file);
    let flag = |file: &str| format!("--config.file={file}");
    // Debian's amtool draws with spaces that do not break, 0.33 with ordinary ones.
    let printed = |output: &Output| {
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .replace('\u{a0}', " ")
    };
    let mut compared = 0;
    for file in files.filter(|f| {
        [
            "route", "matcher", "match_", "agent", "group", "root", "child",
        ]
        .iter()
        .any(|part| f.contains(part))
    }) {
        let ours = run(NIGHTBELL, &["routes", "show", &file]);
        let theirs = run("amtool", &["config", "routes", "show", &flag(&file)]);
        assert_eq!(
            (printed(&ours), ours.status.code()),
            (printed(&theirs), theirs.status.code()),
            "{file}"
        );
        compared += 1;
    }
    assert!(compared > 30, "{compared}");
    let file = "accepted/routes.yml";
    let mut receivers = BTreeSet::new();
    for labels in [
        &[] as &[&str],
        &["severity=page"],
        &["team=db"],
        &["team=db", "severity=info"],
        &["team=dba", "severity=page", "region=eu-west"],
        &["team=db", "replica=2"],
        &["team=db", "replica=2", "severity=page", "region=us"],
        &["owner=me"],
        &["owner=nobody"],
        &["team=dbb", "severity=page", "owner=me"],
    ] {
        for options in [&["--tree"] as &[&str], &["--verify.receivers=pager"]] {
            let words = [options, labels].concat();
            let ours = run(
                NIGHTBELL,
                &[&["routes", "test", "--config", file], words.as_slice()].concat(),
            );
            let theirs = run(
                "amtool",
                &[&["config", "routes", "test", &flag(file)], words.as_slice()].concat(),
            );
            assert_eq!(
                (printed(&ours), ours.status.code()),
                (printed(&theirs), theirs.status.code()),
                "{words:?}"
            );
            receivers.insert(printed(&ours));
        }
    }
    assert!(receivers.len() > 6, "{receivers:?}");
    let own = tempfile::tempdir().expect("a folder");
    let path = own.path().join("nightbell.yml").display().to_string();
    let routes = std::fs::read_to_string(folder().join(file)).expect("readable");
    std::fs::write(&path, format!("collectors: {{host: {{}}}}\n{routes}")).expect("written");
    let ours = run(
        NIGHTBELL,
        &["routes", "test", &path, "team=db", "severity=page"],
    );
    assert_eq!(
        (printed(&ours).as_str(), ours.status.code()),
        ("pager,pager", Some(0)),
        "{ours:?}"
    );
}

/// Templates are a finding of their own, as in amtool; what Alertmanager takes and its author may
/// not expect is a note that changes nothing.
#[test]
fn templates_are_found_and_receivers_that_never_hear_of_an_end_are_noted() {
    let temporary = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(temporary.path().join(name), text).expect("writable")
    };
    write("a.tmpl", "{{ define \"a\" }}x{{ end }}");
    let mail = "email_configs: [{to: a@b.c, from: d@e.f, smarthost: 'h:25'";
    let head = "route: {receiver: mail}\nreceivers:\n";
    write(
        "plain.yml",
        &format!("{head}- {{name: mail, {mail}, send_resolved: false}}]}}\n"),
    );
    write(
        "templates.yml",
        &format!(
            "templates: ['*.tmpl', 'none/*.tmpl']\n{head}- {{name: mail, {mail}, send_resolved: true}}]}}\n"
        ),
    );
    write(
        "quiet.yml",
        &format!(
            "{head}- {{name: mail, {mail}}}]}}\n- {{name: both, {mail}}}], webhook_configs: [{{url: 'http://h/'}}]}}\n- {{name: none}}\n"
        ),
    );
    write(
        "old.yml",
        "route: {receiver: hook}\nreceivers: [{name: hook, webhook_configs: [{url: 'http://h/', http_config: {tls_config: {min_version: TLS10}}}]}]\n",
    );
    for (file, note) in [
        ("plain.yml", ""),
        ("templates.yml", ""),
        (
            "quiet.yml",
            "  NOTE: quiet.yml:3:3: receivers[0]: receiver \"mail\" never hears that an alert is over; write send_resolved: true for it, or false \
             to keep it so\n",
        ),
        (
            "old.yml",
            "  NOTE: old.yml:2:103: receivers[0].webhook_configs[0].http_config.tls_config.min_version: TLS10 is not spoken; what holds is TLS12, the oldest version here; give TLS12, \
             or remove it\n",
        ),
    ] {
        let run = |program: &str, words: &[&str]| {
            let output = Command::new(program)
                .args(words)
                .arg(file)
                .current_dir(temporary.path())
                .output();
            output.unwrap_or_else(|e| {
                panic!("{program}: {e}: apt-get install prometheus-alertmanager")
            })
        };
        let (theirs, ours) = (
            run("amtool", &["check-config"]),
            run(NIGHTBELL, &["check", "alertmanager"]),
        );
        assert_eq!(
            String::from_utf8_lossy(&ours.stdout),
            String::from_utf8_lossy(&theirs.stdout),
            "{file}"
        );
        assert_eq!(ours.status.code(), theirs.status.code(), "{file}");
        assert_eq!(String::from_utf8_lossy(&ours.stderr), note, "{file}");
    }
}

/// The same notes of what nightbell runs with, its own file's and an Alertmanager's.
#[test]
fn check_config_notes_what_holds_in_the_place_of_a_setting() {
    let temporary = tempfile::tempdir().expect("a folder");
    let check = |text: &str| {
        std::fs::write(temporary.path().join("nightbell.yml"), text).expect("writable");
        let output = Command::new(NIGHTBELL)
            .args(["check", "config", "nightbell.yml"])
            .current_dir(temporary.path())
            .output();
        let output = output.expect("nightbell runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let job = |tls: &str| {
        format!(
            "scrape_configs:\n- job_name: a\n  static_configs: [{{targets: ['h:1']}}]\n  tls_config: {{{tls}}}\n"
        )
    };
    let (status, said) = check(&job("min_version: TLS11"));
    let note = "  WARNING: nightbell.yml:4:29: scrape_configs[0].tls_config.min_version: TLS11 is not spoken; what holds is TLS12, the oldest version here";
    assert!(status == Some(0) && said.contains(note), "{said}");
    let (status, said) = check(&job("min_version: TLS10, max_version: TLS11"));
    assert!(
        status == Some(1)
            && said.contains("scrape_configs[0].tls_config.max_version: is older than TLS 1.2"),
        "{said}"
    );
    assert_eq!(
        check(&job("min_version: TLS12, max_version: TLS13")).0,
        Some(0)
    );
    let alertmanager = "route: {receiver: mail}\nreceivers: [{name: mail, email_configs: [{to: a@b.c, from: d@e.f, smarthost: 'h:25'}]}]\n";
    std::fs::write(temporary.path().join("am.yml"), alertmanager).expect("writable");
    let (status, said) = check("alertmanager: am.yml\n");
    assert!(
        status == Some(0)
            && said.contains(
                "am.yml:2:13: receivers[0]: receiver \"mail\" never hears that an alert is over"
            ),
        "{said}"
    );
    let (status, said) = check(alertmanager);
    assert!(
        status == Some(0)
            && said.contains("nightbell.yml:2:13: receivers[0]: receiver \"mail\" never hears"),
        "{said}"
    );
}
