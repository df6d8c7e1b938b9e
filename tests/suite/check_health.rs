//! `nightbell check health` and `nightbell health`, with the built binary: marks, values, limits,
//! hints, exit status.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::{free_port, wait_until};

/// Runs a command of the built binary, without what the environment of the test says.
pub fn run(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
    for name in [
        "NIGHTBELL_URL",
        "NIGHTBELL_CONFIG",
        "NIGHTBELL_LISTEN",
        "NIGHTBELL_ADMIN_TOKEN",
    ] {
        command.env_remove(name);
    }
    command.args(words).output().expect("the binary starts")
}

/// Exit status and standard output.
pub fn said(words: &[&str]) -> (i32, String) {
    let output = run(words);
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

#[test]
fn the_check_of_a_running_nightbell_is_0_then_1_then_2_as_things_get_worse() {
    let endpoint = HttpSink::start([Reply::Answer(200, "", "ok")]);
    let mut nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         maintenance: [{{name: reindex, every: 1h, grace: 0s, of: intent}}]\n\
         collectors:\n  probe: [{{name: api, url: '{}/health'}}]\n",
        endpoint.url
    ));
    let url = format!("http://127.0.0.1:{}", nightbell.port);
    let check = |more: &[&str]| said(&[&["check", "health", "--url", &url], more].concat());
    wait_until("all is well", Duration::from_secs(30), || check(&[]).0 == 0);
    let (_, text) = check(&[]);
    assert!(
        text.contains("✓ endpoint api") && text.contains("✓ maintenance reindex"),
        "{text}"
    );
    assert!(
        text.contains("- backup") && text.contains("add collectors.backup"),
        "what is not watched is said: {text}"
    );

    // Something to look at: a task that is overdue.
    let done = nightbell::model::Timestamp::now() - Duration::from_secs(7200);
    let (status, text) = said(&[
        "maintenance",
        "done",
        "reindex",
        "--by",
        "li",
        "--at",
        &done.rfc3339(),
        "--url",
        &url,
    ]);
    assert_eq!(status, 0, "{text}");
    wait_until("the task is overdue", Duration::from_secs(30), || {
        check(&[]).0 == 1
    });
    wait_until("and its alert fires", Duration::from_secs(30), || {
        check(&["--language", "zh"])
            .1
            .contains("告警 MaintenanceOverdue")
    });
    let (_, text) = check(&["--language", "zh"]);
    assert!(
        text.contains("! 维护 reindex") && text.contains("nightbell maintenance done reindex"),
        "{text}"
    );

    // Unhealthy: the endpoint fails, a critical alert fires.
    endpoint.answer(Reply::Answer(500, "", "no"));
    wait_until("it is unhealthy", Duration::from_secs(30), || {
        check(&["--daily"]).1.contains("alerts EndpointDown")
    });
    let (status, text) = check(&["--daily"]);
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("✗ endpoint api"), "{text}");
    let (_, json) = check(&["--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["status"], &json["exitStatus"]),
        (&Value::from("unhealthy"), &Value::from(2))
    );
    let bad = json["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .find(|c| c["subject"] == "endpoint")
        .expect("the endpoint");
    assert_eq!(
        (&bad["mark"], &bad["name"]),
        (&Value::from("bad"), &Value::from("endpoint api"))
    );

    // `nightbell health` finds it by its configuration, and does not call this healthy.
    nightbell.configure(&format!(
        "web: {{listen: '127.0.0.1:{}'}}\n",
        nightbell.port
    ));
    let file = nightbell.config_file().display().to_string();
    let (_, text) = said(&["health", "--config", &file]);
    assert!(
        !text.starts_with("healthy") && text.contains("critical alert"),
        "{text}"
    );
    assert_eq!(nightbell.stop(), Some(0));
}

#[test]
fn the_check_collects_by_itself_where_no_nightbell_runs() {
    let endpoint = HttpSink::start([Reply::Answer(200, "", "ok")]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("nightbell.yml");
    let (port, closed) = (free_port(), free_port());
    let config = |url: &str| {
        format!(
            "web: {{listen: '127.0.0.1:{port}'}}\ncollectors:\n  probe: [{{name: api, url: '{url}/health'}}]\n"
        )
    };
    std::fs::write(&file, config(&endpoint.url)).expect("written");
    let check = || said(&["check", "health", "--config", &file.display().to_string()]);
    let (status, text) = check();
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("looked by itself")
            && text.contains("✓ endpoint api")
            && text.contains("- alerts"),
        "{text}"
    );
    std::fs::write(&file, config(&format!("http://127.0.0.1:{closed}"))).expect("written");
    let (status, text) = check();
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("✗ endpoint api"), "{text}");
    // Who names a server wants that one.
    let (status, text) = said(&[
        "check",
        "health",
        "--url",
        &format!("http://127.0.0.1:{port}"),
    ]);
    assert_eq!(status, 2);
    assert!(text.contains("does not answer"), "{text}");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("readable").count(),
        1,
        "nothing is left behind"
    );
}
