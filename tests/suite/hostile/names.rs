//! Name servers that do not answer: a library in front of the system's resolver makes lookups take
//! a minute.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

const PATIENCE: Duration = Duration::from_secs(50);

/// Builds the library; the README asks for a C compiler.
fn library(folder: &Path) -> String {
    let (source, built) = (
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/hostile/names.c"),
        folder.join("names.so"),
    );
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&built)
        .arg(source)
        .arg("-ldl")
        .status()
        .expect("cc runs");
    assert!(status.success());
    built.display().to_string()
}

/// Page of one gauge, on a connection that is closed after each answer, so that each scrape looks
/// the name up.
fn target() -> HttpSink {
    HttpSink::start([Reply::Answer(
        200,
        "connection: close\r\ncontent-type: text/plain\r\n",
        "healthy 1\n",
    )])
}

#[test]
fn names_that_cannot_be_resolved_hold_up_neither_rules_nor_messages_nor_other_targets() {
    let folder = tempfile::tempdir().expect("a folder");
    let (page, sink) = (target(), HttpSink::start([Reply::Answer(200, "", "")]));
    let rules = folder.path().join("rules.yml");
    std::fs::write(
        &rules,
        "groups:\n- name: g\n  interval: 1s\n  rules:\n  - {record: tick, expr: vector(time())}\n  - {alert: Always, expr: healthy == 1, labels: {severity: critical}}\n",
    )
    .expect("written");
    let dead: String = (0..24)
        .map(|n| format!("- {{job_name: dead{n}, scrape_interval: 5s, static_configs: [{{targets: ['host{n}.hang:80']}}]}}\n"))
        .collect();
    let address = page.url.trim_start_matches("http://");
    let config = format!(
        "rules: {{shipped: false}}\nrule_files: ['{}']\nglobal: {{evaluation_interval: 1s}}\nscrape_configs:\n{dead}\
         - {{job_name: healthy, scrape_interval: 1s, static_configs: [{{targets: ['{address}']}}]}}\n\
         route: {{receiver: w, group_wait: 0s}}\nreceivers: [{{name: w, webhook_configs: [{{url: '{}'}}]}}]\n",
        rules.display(),
        sink.url
    );
    let nightbell =
        Nightbell::start_with(Some(&config), &[("LD_PRELOAD", &library(folder.path()))]);
    let lookups = |result: &str| {
        nightbell
            .metric(&format!(
                "nightbell_name_lookups_total{{result=\"{result}\"}}"
            ))
            .unwrap_or(0.0)
    };
    wait_until("every lookup hangs", PATIENCE, || {
        nightbell.metric("nightbell_name_lookups_running") == Some(24.0)
    });
    let seen = page.requests().len();
    wait_until("the healthy target is collected on", PATIENCE, || {
        page.requests().len() >= seen + 10
    });
    let query = "/api/v1/query?query=count_over_time(tick%5B1m%5D)%20%3E%3D%2010";
    wait_until("the rules are evaluated on", PATIENCE, || {
        !nightbell.json(query)["data"]["result"]
            .as_array()
            .expect("a vector")
            .is_empty()
    });
    assert_eq!(sink.last().path, "/", "the alert was delivered");
    // All of that within the minute that the first lookups take.
    assert_eq!(lookups("failed"), 0.0);
}

#[test]
fn a_name_that_was_known_goes_on_while_name_servers_are_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let (page, switch) = (target(), folder.path().join("hang"));
    let port = page.url.rsplit(':').next().expect("a port");
    let config = format!(
        "rules: {{shipped: false}}\nscrape_configs: [{{job_name: named, scrape_interval: 2s, static_configs: [{{targets: ['cached.test:{port}']}}]}}]\n"
    );
    let variables = [
        ("LD_PRELOAD", library(folder.path())),
        ("NAMES_HANG", switch.display().to_string()),
    ];
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let nightbell = Nightbell::start_with(Some(&config), &variables);
    wait_until("the target is collected", PATIENCE, || {
        page.requests().len() >= 2
    });
    std::fs::write(&switch, "").expect("written");
    wait_until("an old address serves", PATIENCE, || {
        nightbell
            .metric("nightbell_name_lookups_stale_total")
            .is_some_and(|count| count >= 2.0)
    });
    let seen = page.requests().len();
    wait_until("the target is still collected", PATIENCE, || {
        page.requests().len() >= seen + 3
    });
}
