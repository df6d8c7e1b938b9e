//! What only `webhook` does.

use nightbell::notify::Reason;
use serde_json::json;

use super::{all_resolved, build, firing, try_build};
use crate::servers::http_sink::{HttpSink, Reply};

const OK: Reply = Reply::Answer(200, "", "");

/// SEMANTICS 179: `max_alerts` keeps the first, counts the rest, and derives everything from what
/// is kept.
#[tokio::test]
async fn max_alerts_keeps_the_first_and_counts_the_rest() {
    let sink = HttpSink::start([OK]);
    let notifier = build(
        "webhook",
        &format!("receiver: {{url: '{}', max_alerts: 1}}", sink.url),
    );
    notifier.notify(&firing()).await.expect("accepted");
    let body: serde_json::Value = serde_json::from_str(&sink.last().body).expect("JSON");
    assert_eq!(body["truncatedAlerts"], 2);
    assert_eq!(body["alerts"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["commonLabels"]["instance"], "db1:9100");
}

/// Captured from Alertmanager 0.33.1 for the same alert: the same keys in the same order, the same
/// values.
#[tokio::test]
async fn the_body_is_alertmanagers() {
    let sink = HttpSink::start([OK]);
    build("webhook", &format!("receiver: {{url: '{}'}}", sink.url))
        .notify(&all_resolved())
        .await
        .expect("accepted");
    let body: serde_json::Value = serde_json::from_str(&sink.last().body).expect("JSON");
    let keys = |v: &serde_json::Value| {
        v.as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        keys(&body),
        "receiver status alerts notification_reason groupLabels commonLabels commonAnnotations externalURL version groupKey truncatedAlerts"
    );
    assert_eq!(
        keys(&body["alerts"][0]),
        "status labels annotations startsAt endsAt generatorURL fingerprint"
    );
    assert_eq!(body["receiver"], "ops\\.mail");
    assert_eq!(body["alerts"][0]["startsAt"], "2026-11-21T09:00:00.5Z");
    assert_eq!(body["alerts"][0]["endsAt"], "2026-11-21T09:05:30.5Z");
    assert_eq!(
        (&body["version"], &body["truncatedAlerts"]),
        (&json!("4"), &json!(0))
    );
}

#[tokio::test]
async fn every_attempt_at_a_delivery_carries_its_id() {
    let sink = HttpSink::start([Reply::Answer(503, "", ""), OK]);
    let notifier = build("webhook", &format!("receiver: {{url: '{}'}}", sink.url));
    let failed = notifier.notify(&firing()).await.expect_err("503");
    assert_eq!(failed.reason, Reason::ServerError);
    notifier.notify(&firing()).await.expect("accepted");
    let ids: Vec<String> = sink
        .requests()
        .iter()
        .map(|r| r.headers["x-nightbell-delivery"].clone())
        .collect();
    assert_eq!(ids, ["01JD-7F3A", "01JD-7F3A"]);
}

/// A service that accepts and then streams for ever has accepted.
#[tokio::test]
async fn the_status_decides_whatever_the_body_does() {
    let endless = Reply::Answer(200, "content-length: 1000000\r\nx: ", "short");
    let sink = HttpSink::start([endless, Reply::Reset]);
    build(
        "webhook",
        &format!("receiver: {{url: '{}', timeout: 200ms}}", sink.url),
    )
    .notify(&firing())
    .await
    .expect("accepted");
}

/// `http_config` of the integration or of `global`, and the URL from a file.
#[tokio::test]
async fn logging_in_works_and_the_url_may_stand_in_a_file() {
    let sink = HttpSink::start([OK]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("url");
    std::fs::write(&file, format!("{}/from-file\n", sink.url)).expect("written");
    let yaml = format!(
        "global: {{http_config: {{authorization: {{credentials: abc}}}}}}\nreceiver: {{url_file: '{}'}}",
        file.display()
    );
    build("webhook", &yaml)
        .notify(&firing())
        .await
        .expect("accepted");
    let request = sink.last();
    assert_eq!(
        (
            request.path.as_str(),
            request.headers["authorization"].as_str()
        ),
        ("/from-file", "Bearer abc")
    );
}

/// SEMANTICS 179: `payload` replaces the body.
#[tokio::test]
async fn an_own_payload_replaces_the_body() {
    let sink = HttpSink::start([OK]);
    let yaml = format!(
        "receiver: {{url: '{}', payload: {{a: text, b: [1, true, '2'], c: {{d: null}}, e: '[1]'}}}}",
        sink.url
    );
    build("webhook", &yaml)
        .notify(&firing())
        .await
        .expect("accepted");
    assert_eq!(
        sink.last().body,
        r#"{"a":"text","b":[1,true,"2"],"c":{"d":null},"e":"[1]"}"#
    );
    // What a template prints is read, as Alertmanager reads it.
    let payload = "{n: '{{ len .Alerts }}', b: '{{ eq .Status \"firing\" }}', l: '[{{ len .Alerts }}]', t: '{{ .Status }}', s: 'n {{ len .Alerts }}'}";
    build(
        "webhook",
        &format!("receiver: {{url: '{}', payload: {payload}}}", sink.url),
    )
    .notify(&firing())
    .await
    .expect("accepted");
    assert_eq!(
        sink.last().body,
        r#"{"n":3,"b":true,"l":[3],"t":"firing","s":"n 3"}"#
    );
}

#[test]
fn mistakes_are_found_before_anything_is_sent() {
    for (yaml, wanted) in [
        ("receiver: {}", "has neither url nor url_file"),
        (
            "receiver: {url: 'ftp://s3cr3t-T0KEN'}",
            "is not an http or https URL",
        ),
        (
            "receiver: {url: 'http://x', max_alert: 1}",
            "did you mean \"max_alerts\"?",
        ),
        ("receiver: {url: 'http://x', language: fr}", "give en or zh"),
        (
            "receiver: {url: 'http://x', timezone: Mars/Base}",
            "give an IANA name",
        ),
    ] {
        let Err(error) = try_build("webhook", yaml) else {
            panic!("{yaml} is accepted")
        };
        let text = error.to_string();
        assert!(
            text.contains(wanted) && !text.contains(super::SECRET),
            "{yaml}: {text}"
        );
    }
}
