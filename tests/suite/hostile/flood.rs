//! Floods of posted alerts.

use std::time::Duration;

use serde_json::{Value, json};

use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

fn post(nightbell: &Nightbell, alerts: &Value) -> (u16, String) {
    let body = alerts.to_string();
    let headers = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    nightbell.request_with("POST", "/api/v2/alerts", &headers, &body)
}

/// Posted alerts have a share; whoever posts more hears 429 with what was refused, and our own
/// rules are heard all the same.
#[test]
fn a_flood_of_posted_alerts_does_not_keep_our_own_from_people() {
    let sink = HttpSink::start([Reply::Answer(200, "", "")]);
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules.yml");
    std::fs::write(&rules, "groups: []").expect("written");
    let nightbell = Nightbell::start(&format!(
        "global: {{evaluation_interval: 1s}}\nrules: {{shipped: false}}\nrule_files: ['{}']\nweb: {{posted_alerts: 50}}\n\
         route: {{receiver: all, group_by: [alertname], group_wait: 0s}}\nreceivers: [{{name: all, webhook_configs: [{{url: '{}'}}]}}]\n",
        rules.display(),
        sink.url
    ));
    let flood: Vec<Value> = (0..60)
        .map(|n| json!({ "labels": { "alertname": "Flood", "n": n.to_string() } }))
        .collect();
    let (status, body) = post(&nightbell, &json!(flood));
    let answer: Value =
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(status, 429, "{body}");
    assert_eq!(
        (&answer["refused"], &answer["accepted"], &answer["limit"]),
        (&json!(10), &json!(50), &json!(50)),
        "{body}"
    );
    assert!(
        answer["alerts"][0]["alertname"] == "Flood"
            && answer["error"]
                .as_str()
                .is_some_and(|text| text.contains("web.posted_alerts"))
    );
    assert_eq!(
        post(&nightbell, &json!([{ "labels": { "alertname": "Other" } }])).0,
        429
    );
    assert_eq!(
        post(&nightbell, &json!(flood[..50])).0,
        200,
        "what is known is renewed"
    );
    let why = nightbell.get("/api/nightbell/why?alert=Other").1;
    assert!(why.contains("refused"), "{why}");
    std::fs::write(&rules, "groups: [{name: g, rules: [{alert: RealCritical, expr: 'vector(1)', labels: {severity: critical}}]}]")
        .expect("written");
    nightbell.signal("-HUP");
    wait_until("our own alert is heard", Duration::from_secs(40), || {
        sink.requests()
            .iter()
            .any(|request| request.body.contains("RealCritical"))
    });
    assert!(
        nightbell
            .log()
            .matches("Posted alerts were refused")
            .count()
            <= 1,
        "logged once: {}",
        nightbell.log()
    );
    let counted = |line: &&str| {
        line.starts_with("nightbell_alerts_refused_total{") && line.contains("reason=\"share\"")
    };
    wait_until("the refusals are counted", Duration::from_secs(40), || {
        nightbell
            .get("/metrics")
            .1
            .lines()
            .filter(counted)
            .any(|line| line.ends_with(" 11"))
    });
}

/// What no database keeps, and what is too much, is refused at the door; the rest of the batch is
/// taken.
#[test]
fn a_posted_alert_with_a_byte_that_a_database_refuses_is_refused_at_the_door() {
    let nightbell = Nightbell::start("rules: {shipped: false}\n");
    for (bad, why) in [
        (json!({ "labels": { "alertname": "a\u{0}b" } }), "byte 0"),
        (
            json!({ "labels": { "alertname": "x".repeat(5000) } }),
            "longer than",
        ),
        (
            json!({ "labels": { "alertname": "a" }, "annotations": { "summary": "x".repeat(70_000) } }),
            "longer than",
        ),
    ] {
        let (status, body) = post(
            &nightbell,
            &json!([bad, { "labels": { "alertname": "Fine" } }]),
        );
        assert!(status == 400 && body.contains(why), "{status} {body}");
    }
    assert!(nightbell.get("/api/v2/alerts").1.contains("Fine"));
    assert_eq!(nightbell.get("/health").0, 200);
}
