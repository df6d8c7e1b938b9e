//! Texts from outside on the terminal of who asks, and in the log.

use std::process::Command;

use serde_json::json;

use crate::servers::nightbell::Nightbell;

const HOSTILE: &str = "\u{1b}]0;pwned\u{7}\nFORGED row  \u{9b}2J\u{202e}drow\r";

/// Alerts, silences and names that steer a terminal or forge a line are shown escaped by every
/// command.
#[test]
fn control_characters_of_others_are_shown_escaped_by_every_command() {
    let nightbell =
        Nightbell::start("rules: {shipped: false}\nroute: {receiver: r}\nreceivers: [{name: r}]\n");
    let post = |path: &str, body: serde_json::Value| {
        let body = body.to_string();
        let headers = format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        let (status, answer) = nightbell.request_with("POST", path, &headers, &body);
        assert_eq!(status, 200, "{answer}");
    };
    let name = format!("A{HOSTILE}");
    post(
        "/api/v2/alerts",
        json!([{ "labels": { "alertname": name, HOSTILE: HOSTILE }, "annotations": { "summary": HOSTILE } }]),
    );
    post(
        "/api/v2/silences",
        json!({ "matchers": [{ "name": "a", "value": HOSTILE, "isRegex": false }], "startsAt": "2020-01-01T00:00:00Z",
                "endsAt": "2099-01-01T00:00:00Z", "createdBy": HOSTILE, "comment": HOSTILE }),
    );
    let url = format!("http://127.0.0.1:{}", nightbell.port);
    for arguments in [
        vec!["alert", "query"],
        vec!["alert", "query", "-o", "json"],
        vec!["silence", "query"],
        vec!["silence", "query", "-o", "json"],
        vec!["why", &name],
        vec!["why", &name, "--json"],
        vec!["why", &name, "--history"],
        vec!["ack", &name],
        vec![
            "query",
            "instant",
            "label_replace(vector(1), \"a\", \"\\u001b]0;x\\n\\u202e\", \"\", \"\")",
        ],
        vec!["actions", &name],
        vec!["health"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(&arguments)
            .env("NIGHTBELL_URL", &url)
            .output()
            .expect("it runs");
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text);
            assert!(
                !text.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\r']),
                "{arguments:?}: {text:?}"
            );
            assert!(
                !text
                    .lines()
                    .any(|line| line.trim_start().starts_with("FORGED")),
                "{arguments:?}: {text:?}"
            );
        }
    }
    let log = nightbell.log();
    assert!(
        !log.contains(['\u{1b}', '\u{7}', '\u{202e}'])
            && !log.lines().any(|line| line.starts_with("FORGED")),
        "{log}"
    );
}
