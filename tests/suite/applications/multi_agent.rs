//! The multi-agent service: health, databases, its log of JSON lines, nginx, backups and code, told
//! by mail under the guide's subjects.

use std::time::Duration;

use serde_json::json;

use super::{
    People, Sample, StandIn, asked, dashboard_shows, folder, guide_script, rings, value,
    wait_for_input,
};
use crate::servers::llm::{FakeLlm, Script};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;
use crate::servers::wait_until;

struct Stage {
    people: People,
    postgres: Postgres,
    redis: Redis,
    llm: FakeLlm,
    app: StandIn,
    nightbell: Nightbell,
    folder: tempfile::TempDir,
}

const QUICK: &str = "rules:\n  profiles: [multi-agent]\n  thresholds: {log_error_rate: {critical: {window: 20s, for: 0s}}, \
                     log_response_time: {warning: {window: 20s, for: 0s}}, AppComponentDown: {warning: {for: 0s}}}\n";
const MODELS: &str = r#"{"data":[{"id":"gpt-4o"}]}"#;

impl Stage {
    fn set() -> Self {
        let people = People::new();
        let (postgres, redis, llm) = (Postgres::start(&[]), Redis::start(&[]), FakeLlm::start());
        postgres.sql("postgres", "CREATE DATABASE multiagent");
        llm.on("/v1/models", Script::json("200 OK", MODELS));
        let base = tempfile::tempdir().expect("a folder");
        let [logs, nginx, hourly, code] =
            ["logs", "nginx", "hourly", "code"].map(|name| folder(base.path(), name));
        for file in [
            logs.join("app.log"),
            nginx.join("multi-agent-service.access.log"),
        ] {
            std::fs::write(file, "").expect("written");
        }
        let dsn = postgres.dsn("postgres", "multiagent");
        let options = json!({"dsn": dsn, "redis": redis.url(), "logs": logs, "nginx": nginx, "hourly": hourly, "code": code});
        let app = StandIn::start("multi-agent", options);
        app.act(json!({"backup": "whole", "hour": 1, "code": "print(1)"}));
        let webhook = format!(
            "- name: administrator\n  webhook_configs: [{{url: '{}/hook'}}]\n",
            people.webhook.url
        );
        let openai = format!("provider: openai, base_url: '{}'", llm.url("/v1"));
        let sample = Sample::of("multi-agent")
            .with("rules: {profiles: [multi-agent]}\n", QUICK)
            .with("- name: administrator\n", &webhook)
            .with("provider: openai", &openai)
            .with("127.0.0.1:8000", &format!("127.0.0.1:{}", app.port))
            .with("ports: [8000]", &format!("ports: [{}]", app.port))
            .with("every: 1h, keep: 24", "every: 1h, keep: 24, settle: 1s")
            .with("files: \"*.py\",", "files: \"*.py\", every: 3s,")
            .folder("/var/log/multi-agent-service", &logs)
            .folder("/var/log/nginx", &nginx)
            .folder("/backup/hourly", &hourly)
            .folder("/opt/multi-agent-service", &code)
            .folder("/run/multi-agent-deployed", &base.path().join("deployed"))
            .at_once();
        let nightbell = Nightbell::start_with(
            Some(&sample.text),
            &[
                ("HOSTNAME", "app-1"),
                // The log has the server's own time.
                ("TIME_ZONE", "UTC"),
                ("DATABASE_URL", &dsn),
                ("REDIS_URL", &redis.url()),
                ("OPENAI_API_KEY", "sk-x"),
                ("ALERT_EMAIL", "admin@company.com"),
                ("ALERT_FROM", "nightbell@company.com"),
                ("SMTP_SMARTHOST", &format!("127.0.0.1:{}", people.mail.port)),
            ],
        );
        let agents = "agent_up{agent=\"router\"} == 1";
        let files = "file_integrity_files{instance=\"code\"}";
        let gauge = "api_request_duration_seconds";
        let valid = "backup_valid{instance=\"hourly\"} == 1";
        let input = [
            "pg_up == 1",
            "redis_up == 1",
            "llm_up == 1",
            "probe_success == 1",
            "app_component_up",
            "log_readable",
            agents,
            files,
            gauge,
            valid,
        ];
        wait_for_input(&nightbell, &input);
        Stage {
            people,
            postgres,
            redis,
            llm,
            app,
            nightbell,
            folder: base,
        }
    }

    /// A mail under this subject has told it, and another one its end.
    fn is_mailed(&self, subject: &str) {
        for end in ["", " (resolved)"] {
            self.people
                .is_mailed("admin@company.com", &format!("{subject} - app-1{end}"));
        }
    }
}

/// The service, its databases, a part of it and its provider fail one after another.
///
/// Proves multi-agent: C4, C7, C9, C10, C11, C12, T3, T20, T26, T28, N1.
#[test]
fn multi_agent_services_that_fail_are_mailed_under_the_subjects_of_its_guide() {
    let mut stage = Stage::set();
    let Stage {
        people, app, llm, ..
    } = &stage;
    let down = || app.switch(json!({"down": true}));
    let down = rings(people, "EndpointDown", "multi-agent", down, || {
        app.switch(json!({"down": false}))
    });
    assert_eq!(down["labels"]["severity"], "critical");
    stage.is_mailed("Service Alert");
    let part = || app.switch(json!({"component": "agents"}));
    let part = rings(
        people,
        "AppComponentDown",
        "multi-agent-detailed",
        part,
        || app.switch(json!({"component": ""})),
    );
    assert_eq!(
        (&part["labels"]["component"], &part["labels"]["severity"]),
        (&json!("agents"), &json!("warning"))
    );
    let refused = Script::json(
        "401 Unauthorized",
        r#"{"error":{"code":"invalid_api_key"}}"#,
    );
    let answers = |script: Script| {
        llm.on("/v1/models", script);
    };
    let refused = rings(
        people,
        "LLMAuthFailed",
        "openai",
        || answers(refused),
        || answers(Script::json("200 OK", MODELS)),
    );
    assert_eq!(refused["labels"]["severity"], "critical");
    let Stage {
        people,
        postgres,
        redis,
        ..
    } = &mut stage;
    let postgres = std::cell::RefCell::new(postgres);
    rings(
        people,
        "PostgresDown",
        "multiagent-db",
        || postgres.borrow_mut().stop(),
        || postgres.borrow_mut().resume(),
    );
    let redis = std::cell::RefCell::new(redis);
    rings(
        people,
        "RedisDown",
        "multiagent-redis",
        || redis.borrow_mut().stop(),
        || redis.borrow_mut().resume(),
    );
    for subject in [
        "AppComponentDown",
        "LLMAuthFailed",
        "PostgresDown",
        "RedisDown",
    ] {
        stage.is_mailed(subject);
    }
}

/// The error rate and the response time of its log, a client that posts too much, a backup, and a
/// file that was changed.
///
/// Proves multi-agent: C13, C14, C15, C20, T2, T14, T22, T24, N1, N8.
#[test]
fn multi_agent_figures_of_its_logs_backups_and_files_are_mailed() {
    let stage = Stage::set();
    let Stage { people, app, .. } = &stage;
    let errors = || app.act(json!({"requests": 100, "errors": 10}));
    let rate = rings(people, "LogErrorRateHigh", "multi-agent", errors, || ());
    assert_eq!(
        (
            &rate["labels"]["severity"],
            &rate["annotations"]["threshold"]
        ),
        (&json!("critical"), &json!("> 5 %"))
    );
    assert!(
        rate["annotations"]["summary"]
            .as_str()
            .is_some_and(|said| said.ends_with("% error lines to a request in 20s")),
        "{rate}"
    );
    stage.is_mailed("Error Rate Alert");
    let slow = rings(
        people,
        "LogResponseSlow",
        "multi-agent",
        || app.act(json!({"requests": 400, "seconds": 8.0})),
        || (),
    );
    assert_eq!(
        (
            &slow["labels"]["severity"],
            &slow["annotations"]["threshold"]
        ),
        (&json!("warning"), &json!("mean > 5 s"))
    );
    assert!(
        slow["annotations"]["summary"]
            .as_str()
            .is_some_and(|said| said.starts_with("multi-agent: a request took ")),
        "{slow}"
    );
    stage.is_mailed("Response Time Alert");
    // The gauge says the same, and the log has said it.
    assert!(people.posted("MultiAgentMeanResponseSlow").is_empty());
    app.act(json!({"posts": 101}));
    wait_until("the busy client is told", Duration::from_secs(60), || {
        !people.posted("AccessClientBusy").is_empty()
    });
    let empty = || app.act(json!({"backup": "empty", "hour": 2}));
    let useless = rings(people, "BackupInvalid", "hourly", empty, || {
        app.act(json!({"backup": "whole", "hour": 3}))
    });
    assert_eq!(useless["labels"]["severity"], "critical");
    stage.is_mailed("BackupInvalid");
    let changed = || app.act(json!({"code": "print(2)"}));
    rings(people, "FilesChanged", "code", changed, || {
        app.act(json!({"code": "print(1)"}))
    });
    stage.is_mailed("FilesChanged");
}

/// The host, processes and ports, agents, slow requests in the reports on capacity and errors.
///
/// Proves multi-agent: C1, C2, T23, P3, P5, P6.
#[test]
fn multi_agent_processes_agents_and_reports_are_shown() {
    let stage = Stage::set();
    let Stage { app, nightbell, .. } = &stage;
    // It counts from its first look on.
    wait_for_input(
        nightbell,
        &["log_bytes_behind{instance=\"multi-agent\"} == 0"],
    );
    app.act(json!({"requests": 3, "seconds": 7.5, "errors": 2, "posts": 1}));
    wait_for_input(
        nightbell,
        &[
            "namedprocess_namegroup_num_procs{groupname=\"nginx\"}",
            "host_tcp_listening == 1",
            "log_slow_lines_total == 3",
            "log_errors_total",
        ],
    );
    dashboard_shows(nightbell, "multi-agent");
    let (status, said) = asked(nightbell, &["report", "errors", "--last", "1h"]);
    assert!(
        status == Some(0) && said.contains("/api/v1/chat") && said.contains("7.5"),
        "slow requests with time and URL: {status:?} {said}"
    );
    let (status, said) = asked(nightbell, &["report", "capacity", "--last", "1h"]);
    assert_eq!(status, Some(0), "{said}");
}

/// The guide's scripts on errors and response times, run beside it on the same log, say what it
/// says.
///
/// Proves multi-agent: P6, T14, T23.
#[test]
fn multi_agent_scripts_of_its_guide_agree_with_what_is_measured() {
    let stage = Stage::set();
    let Stage { app, nightbell, .. } = &stage;
    // It counts from its first look on, and so far the log is empty.
    wait_for_input(
        nightbell,
        &["log_bytes_behind{instance=\"multi-agent\"} == 0"],
    );
    app.act(json!({"requests": 7, "seconds": 0.3, "errors": 3}));
    app.act(json!({"requests": 2, "seconds": 6.5}));
    let of = |what: &str| value(nightbell, &format!("{what} or vector(-1)"));
    wait_until("the log is read", Duration::from_secs(60), || {
        of("sum(log_slow_lines_total{instance=\"multi-agent\"})") == Some(2.0)
            && of("sum(log_field_seconds_count{instance=\"multi-agent\"})") == Some(9.0)
    });
    let log = stage.folder.path().join("logs/app.log");
    let log = log.display().to_string();
    let place = [("/var/log/multi-agent-service/app.log", log.as_str())];
    let after = |text: &str, word: &str| -> f64 {
        let rest = text.split(word).nth(1).expect("the word is there");
        let number = rest.split_whitespace().next().expect("a number");
        number.parse().unwrap_or_else(|_| panic!("{text}"))
    };
    let (status, said) = guide_script("multi-agent/error_analysis.sh", &place);
    assert_eq!(status, Some(0), "{said}");
    let total = after(&said, "Total errors:");
    let counted = "sum(log_lines_total{instance=\"multi-agent\",level=~\"error|critical\"})";
    assert_eq!((total, of(counted)), (3.0, Some(total)), "{said}");
    // Its top type with its number; here the digits, which are ever new ones, are left out.
    assert_eq!(after(&said, "Top error types:"), total);
    let counted = "max(log_errors_total{instance=\"multi-agent\",type=~\"Model API error.*\"})";
    assert_eq!(of(counted), Some(total));

    let (status, said) = guide_script("multi-agent/performance_analysis.sh", &place);
    assert_eq!(status, Some(0), "{said}");
    let mean = "sum(log_field_seconds_sum{instance=\"multi-agent\"}) / sum(log_field_seconds_count{instance=\"multi-agent\"})";
    let (theirs, ours) = (after(&said, "Average:"), of(mean).expect("a mean"));
    assert!((theirs - ours).abs() < 1e-4, "{theirs} {ours}");
    assert_eq!(after(&said, "Max:"), 6.5);
    assert_eq!(said.matches("\"duration\": 6.5").count(), 2, "{said}");
    let (status, report) = asked(nightbell, &["report", "errors", "--last", "1h"]);
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report.matches("6.5").count(), 2, "the same two: {report}");
}
