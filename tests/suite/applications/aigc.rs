//! The AIGC platform: health, statistics behind a token, SQLite, the hourly job, MinIO, Anthropic,
//! log and backup.

use serde_json::json;

use super::{People, Sample, StandIn, dashboard_shows, folder, rings, wait_for_input};
use crate::servers::llm::{FakeLlm, Script};
use crate::servers::nightbell::Nightbell;

const QUICK: &str = "rules:\n  profiles: [aigc]\n  thresholds: {log_errors: {warning: {window: 20s}, critical: {window: 20s}}, \
                     object_storage_free: {warning: {for: 0s}}, SqliteWriteLockHeld: {warning: {for: 0s, window: 4s}}}\n";
const MODELS: &str = r#"{"data":[{"id":"claude-sonnet-4-5"}]}"#;

/// Everything that the guide names can fail, and is told.
///
/// Proves aigc: C1, C5, C6, C8, C9, C10, C11, C13, C15, C18, C19, T20, T24, T26, N1, D3.
#[test]
fn aigc_faults_are_notified() {
    let (people, llm) = (People::new(), FakeLlm::start());
    llm.on("/v1/models", Script::json("200 OK", MODELS));
    let base = tempfile::tempdir().expect("a folder");
    for name in ["data", "logs", "work_dir"] {
        folder(base.path(), name);
    }
    let app = StandIn::start("aigc", json!({"home": base.path(), "token": "secret"}));
    app.act(json!({"backup": "whole", "job": "finished"}));
    let anthropic = format!("provider: anthropic, base_url: '{}'", llm.url("/v1"));
    let sample = Sample::of("aigc")
        .with("rules: {profiles: [aigc]}\n", QUICK)
        .with("127.0.0.1:8000", &format!("127.0.0.1:{}", app.port))
        .with(
            "127.0.0.1:9000/minio",
            &format!("127.0.0.1:{}/minio", app.port),
        )
        .with(
            "[\"127.0.0.1:9000\"]",
            &format!("[\"127.0.0.1:{}\"]", app.port),
        )
        .with("provider: anthropic", &anthropic)
        .with("kind: sqlite,", "kind: sqlite, settle: 1s,")
        .plain_mail()
        .at_once();
    let nightbell = Nightbell::start_with(
        Some(&sample.text),
        &[
            ("AIGC_HOME", &base.path().display().to_string()),
            ("AIGC_TOKEN", "secret"),
            ("ANTHROPIC_API_KEY", "sk-ant-x"),
            ("ALERT_EMAIL", "ops@example.org"),
            ("SMTP_FROM", "aigc@example.org"),
            ("SMTP_SMARTHOST", &format!("127.0.0.1:{}", people.mail.port)),
            ("ALERT_WEBHOOK_URL", &format!("{}/hook", people.webhook.url)),
        ],
    );
    let valid = "backup_valid{instance=\"sessions-copy\"} == 1";
    let rows = "sql_user_behavior_rows";
    let input = [
        "sqlite_up == 1",
        rows,
        "aigc_cost_usd == 12.5",
        "probe_success == 1",
        "llm_up == 1",
        "log_readable",
        valid,
    ];
    wait_for_input(&nightbell, &input);

    let down = rings(
        &people,
        "EndpointDown",
        "aigc",
        || app.switch(json!({"down": true})),
        || app.switch(json!({"down": false})),
    );
    assert_eq!(down["labels"]["severity"], "critical");
    people.is_mailed("ops@example.org", "EndpointDown");
    let token = || app.switch(json!({"token": false}));
    rings(
        &people,
        "JsonApiTokenRefused",
        "sessions-stats",
        token,
        || app.switch(json!({"token": true})),
    );
    rings(
        &people,
        "EndpointDown",
        "minio",
        || app.switch(json!({"minio": false})),
        || app.switch(json!({"minio": true})),
    );
    let instance = format!("127.0.0.1:{}", app.port);
    let full = rings(
        &people,
        "ObjectStorageLow",
        &instance,
        || app.switch(json!({"free": 0.05})),
        || app.switch(json!({"free": 0.5})),
    );
    assert_eq!(
        (
            &full["labels"]["severity"],
            &full["annotations"]["threshold"]
        ),
        (&json!("warning"), &json!("free < 10 %"))
    );
    rings(
        &people,
        "LogErrorsMany",
        "backend",
        || app.act(json!({"errors": 30})),
        || (),
    );
    let failed = || app.act(json!({"job": "failed"}));
    rings(&people, "JobFailed", "preference-learning", failed, || {
        app.act(json!({"job": "finished"}))
    });
    rings(
        &people,
        "SqliteWriteLockHeld",
        "sessions",
        || app.act(json!({"lock": true})),
        || app.act(json!({"lock": false})),
    );
    rings(
        &people,
        "BackupInvalid",
        "sessions-copy",
        || app.act(json!({"backup": "cut"})),
        || app.act(json!({"backup": "whole"})),
    );
    people.is_mailed("ops@example.org", "BackupInvalid");
    let refused = Script::json(
        "401 Unauthorized",
        r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
    );
    let answers = |script: Script| {
        llm.on("/v1/models", script);
    };
    rings(
        &people,
        "LLMAuthFailed",
        "anthropic",
        || answers(refused),
        || answers(Script::json("200 OK", MODELS)),
    );
    dashboard_shows(&nightbell, "aigc");
    let shown = nightbell.log() + &nightbell.get("/api/v1/status/config").1;
    assert!(!shown.contains("sk-ant-x"), "a secret is shown");
}
