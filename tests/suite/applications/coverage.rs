//! `docs/coverage.md`: which demand of which application which test shows. `NIGHTBELL_UPDATE=1`
//! writes it.
//!
//! What a test shows stands in its comment (`Proves NAME: ROW, ROW.`), or begins the name of a rule
//! test in `tests/rules/profiles/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use nightbell::app::PROFILE_SETTINGS;
use regex::Regex;
use serde_json::Value;

use super::root;

const ALL: &[&str] = &["intent", "llmchat", "agent-v3", "multi-agent", "aigc"];

/// The demands on monitoring, and the applications that have them.
const DEMANDS: &[(&str, &str, &[&str])] = &[
    ("C1", "host: CPU, memory, disks, network, load", ALL),
    ("C2", "processes and ports", &["multi-agent"]),
    ("C3", "containers", &["agent-v3"]),
    (
        "C4",
        "PostgreSQL",
        &["intent", "llmchat", "agent-v3", "multi-agent"],
    ),
    ("C5", "SQLite", &["aigc"]),
    (
        "C6",
        "rows of queries as metrics",
        &["intent", "llmchat", "aigc"],
    ),
    (
        "C7",
        "Redis",
        &["intent", "llmchat", "agent-v3", "multi-agent"],
    ),
    (
        "C8",
        "vector store, sizes of folders",
        &["intent", "llmchat", "aigc"],
    ),
    (
        "C9",
        "LLM providers",
        &["intent", "agent-v3", "multi-agent", "aigc"],
    ),
    ("C10", "health endpoints", ALL),
    (
        "C11",
        "JSON endpoints as metrics",
        &["intent", "llmchat", "multi-agent", "aigc"],
    ),
    (
        "C12",
        "the application's own metrics",
        &["llmchat", "multi-agent"],
    ),
    ("C13", "log files", ALL),
    (
        "C14",
        "access logs, failed logins",
        &["intent", "llmchat", "agent-v3", "multi-agent"],
    ),
    ("C15", "backups", ALL),
    ("C16", "restore test", &["intent", "agent-v3"]),
    ("C17", "certificates", &["agent-v3"]),
    (
        "C18",
        "queues and scheduled jobs",
        &["intent", "llmchat", "aigc"],
    ),
    ("C19", "object storage", &["aigc"]),
    ("C20", "file integrity", &["multi-agent"]),
    (
        "C21",
        "key metrics of each application",
        &["intent", "agent-v3"],
    ),
    (
        "C22",
        "pending updates",
        &["intent", "agent-v3", "multi-agent"],
    ),
    ("T1", "response time > 5 s", &["intent"]),
    (
        "T2",
        "error rate > 5 %",
        &["intent", "llmchat", "agent-v3", "multi-agent"],
    ),
    (
        "T3",
        "database connection fails",
        &["intent", "llmchat", "agent-v3", "multi-agent"],
    ),
    (
        "T4",
        "disk space left < 20 %",
        &["intent", "llmchat", "agent-v3", "multi-agent"],
    ),
    ("T5", "disk space left < 10 %", &["agent-v3"]),
    ("T6", "disk used > 85 %", &["llmchat"]),
    ("T7", "memory > 80 %", &["llmchat", "multi-agent"]),
    ("T8", "memory > 85 / 95 %", &["agent-v3"]),
    ("T9", "memory > 90 %", &["llmchat"]),
    ("T10", "CPU > 80 %", &["agent-v3", "multi-agent"]),
    ("T11", "P95 > 2 / 5 s", &["agent-v3"]),
    ("T12", "mean > 2 s", &["llmchat"]),
    ("T13", "mean of the month > 500 ms", &["llmchat"]),
    ("T14", "mean > 5 s", &["multi-agent"]),
    ("T15", "error rate > 1 %", &["llmchat", "agent-v3"]),
    ("T16", "requests < 10 a minute", &["agent-v3"]),
    ("T17", "Redis memory > 90 %", &["agent-v3"]),
    ("T18", "PostgreSQL connections > 80", &["agent-v3"]),
    (
        "T19",
        "ERROR lines, silent and unreadable logs",
        &["llmchat"],
    ),
    ("T20", "health endpoint fails", ALL),
    ("T21", "forecast > 80 %", &["multi-agent"]),
    (
        "T22",
        "an address with more than 100 POSTs",
        &["multi-agent"],
    ),
    (
        "T23",
        "requests slower than 5 s are listed",
        &["multi-agent"],
    ),
    ("T24", "backups", ALL),
    ("T25", "certificate close to its end", &["agent-v3"]),
    ("T26", "LLM provider", &["intent", "multi-agent", "aigc"]),
    ("T27", "Node's heap > 90 %", &["llmchat"]),
    (
        "T28",
        "a component is down",
        &["intent", "llmchat", "multi-agent"],
    ),
    ("N1", "e-mail", ALL),
    ("N2", "Slack, channel by severity", &["llmchat", "agent-v3"]),
    ("N3", "webhook", &["llmchat", "agent-v3"]),
    ("N4", "DingTalk, WeCom, SMS", &["intent"]),
    ("N5", "severity decides the channels", &["llmchat"]),
    ("N6", "its alertmanager.yml as it stands", &["agent-v3"]),
    (
        "N8",
        "what, where, value, threshold, in Chinese or English",
        &["llmchat", "multi-agent"],
    ),
    (
        "N9",
        "contacts by role and subject, escalation",
        &["agent-v3"],
    ),
    ("N7", "a channel that fails stops no other", &["llmchat"]),
    ("N10", "maintenance windows", &["agent-v3"]),
    (
        "P1",
        "health of the whole and its parts",
        &["llmchat", "intent"],
    ),
    ("P2", "daily check", &["llmchat", "agent-v3"]),
    ("P3", "dashboards", &["agent-v3", "multi-agent"]),
    ("P4", "report for a period", &["llmchat"]),
    ("P5", "capacity report", &["multi-agent"]),
    ("P6", "error analysis", &["multi-agent"]),
    (
        "P7",
        "maintenance calendar",
        &["intent", "llmchat", "agent-v3"],
    ),
    ("R1", "recovery action", &["llmchat"]),
    (
        "D1",
        "in Docker Compose, beside Prometheus or alone",
        &["llmchat", "agent-v3"],
    ),
    ("D2", "a system service", &["multi-agent"]),
    (
        "D3",
        "settings and secrets from the environment",
        &["intent", "aigc"],
    ),
];

type Proofs = BTreeMap<(String, String), BTreeSet<String>>;

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
    {
        match path.is_dir() {
            true => rust_files(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => {
                found.push(path)
            }
            false => {}
        }
    }
}

/// What the comments of tests claim.
fn of_tests(proofs: &mut Proofs) {
    let test =
        Regex::new(r"((?:///[^\n]*\n)+)(?:#\[[^\n]*\n)+(?:async )?fn ([a-z0-9_]+)").expect("valid");
    let claim = Regex::new(r"(?m)^/// Proves ([a-z0-9-]+): ([A-Z0-9, \n/]+?)\.$").expect("valid");
    let mut files = Vec::new();
    rust_files(&root().join("tests/suite"), &mut files);
    for file in files {
        let text = std::fs::read_to_string(file).expect("a file");
        for test in test.captures_iter(&text) {
            for found in claim.captures_iter(&test[1]) {
                for row in found[2].replace("///", "").split(',') {
                    proofs
                        .entry((row.trim().to_owned(), found[1].to_owned()))
                        .or_default()
                        .insert(test[2].to_owned());
                }
            }
        }
    }
}

/// What the names of rule tests claim: `T4 and T6: …`.
fn of_rule_tests(proofs: &mut Proofs) {
    let row = Regex::new(r"^[CTNPRD]\d+$").expect("valid");
    for path in std::fs::read_dir(root().join("tests/rules/profiles"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
    {
        let file = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let stem = file.trim_end_matches(".yml");
        let profile = PROFILE_SETTINGS
            .iter()
            .map(|one| one.name)
            .find(|name| stem == *name || stem.starts_with(&format!("{name}_")));
        let profile = profile.unwrap_or_else(|| panic!("{file} is of no profile"));
        let tests: Value =
            serde_yaml::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("YAML");
        for test in tests["tests"].as_array().expect("tests") {
            let name = test["name"].as_str().unwrap_or_default();
            let Some((rows, _)) = name.split_once(':') else {
                continue;
            };
            for row in rows.split(" and ").filter(|text| row.is_match(text)) {
                proofs
                    .entry((row.to_owned(), profile.to_owned()))
                    .or_default()
                    .insert(format!("rules/profiles/{file}"));
            }
        }
    }
}

#[test]
fn the_table_of_demands_and_their_tests_is_up_to_date() {
    let mut proofs = Proofs::new();
    of_tests(&mut proofs);
    of_rule_tests(&mut proofs);
    let mut text = String::from(
        "# Demands and their tests\n\nWhich test shows which demand of which application. Made by the tests, never by hand; a name is a test of `tests/suite/`, a path is a\n\
         rule test below `tests/`. Many demands are tested for each collector besides; here stands what is shown with the application.\n\n\
         | demand | | application | shown by |\n|---|---|---|---|\n",
    );
    let (mut shown, mut demanded) = (0, 0);
    for (row, what, applications) in DEMANDS {
        for application in *applications {
            let tests = proofs
                .remove(&((*row).to_owned(), (*application).to_owned()))
                .unwrap_or_default();
            (shown, demanded) = (shown + usize::from(!tests.is_empty()), demanded + 1);
            let names: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
            let names = if names.is_empty() {
                "–".to_owned()
            } else {
                names.join(", ")
            };
            let _ = writeln!(text, "| {row} | {what} | {application} | {names} |");
        }
    }
    let _ = writeln!(text, "\n{shown} of {demanded} are shown.");
    assert!(
        proofs.is_empty(),
        "nobody demands what these tests claim to show: {proofs:?}"
    );
    let path = root().join("docs/coverage.md");
    if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    assert_eq!(
        text,
        std::fs::read_to_string(&path).unwrap_or_default(),
        "docs/coverage.md: NIGHTBELL_UPDATE=1 writes it"
    );
}
