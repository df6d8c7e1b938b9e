//! Agent-V3: health, databases, metrics, the container's log and a backup, told by e-mail and Slack
//! to those whose subject it is.

use std::cell::RefCell;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{People, Sample, StandIn, folder, rings, root, wait_for_input};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;
use crate::servers::wait_until;

struct Stage {
    people: People,
    postgres: Postgres,
    redis: Redis,
    app: StandIn,
    _nightbell: Nightbell,
    _folder: tempfile::TempDir,
}

const QUICK: &str = "rules:\n  profiles: [agent-v3]\n  thresholds: {error_rate: {warning: off, critical: {for: 0s}}, response_time_p95: {warning: off, critical: {for: 0s}}, \
                     log_errors: {warning: {window: 20s}, critical: {window: 20s}}, redis_memory: {warning: {for: 0s}}, \
                     postgres_connections: {warning: {figure: 20, for: 0s}}, requests_per_minute: {warning: {for: 0s}}}\n";

impl Stage {
    fn set() -> Self {
        let people = People::new();
        let (postgres, redis) = (Postgres::start(&[]), Redis::start(&[]));
        postgres.sql("postgres", "CREATE DATABASE agent_v3");
        let base = tempfile::tempdir().expect("a folder");
        let (backups, log) = (
            folder(base.path(), "backups"),
            base.path().join("container-json.log"),
        );
        std::fs::write(&log, "").expect("written");
        let app = StandIn::start("agent-v3", json!({"backups": backups, "log": log}));
        app.act(json!({"backup": "whole"}));
        let webhook = |severity: &str| {
            format!(
                "- name: team-ops-{severity}\n  webhook_configs: [{{url: '{}/hook'}}]\n",
                people.webhook.url
            )
        };
        let sample = Sample::of("agent-v3")
            .with("rules: {profiles: [agent-v3]}\n", QUICK)
            .with("127.0.0.1:8000", &format!("127.0.0.1:{}", app.port))
            .with(
                "docker: agent-v3,",
                &format!("path: '{}', envelope: docker,", log.display()),
            )
            .with("shrink: 50%", "shrink: 50%, settle: 1s")
            .with("- name: team-ops-critical\n", &webhook("critical"))
            .with("- name: team-ops-warning\n", &webhook("warning"))
            .with(
                "group_by: [alertname, cluster, service]",
                "group_by: [alertname, instance]",
            )
            .with("group_wait: 10s", "group_wait: 0s")
            .with("group_interval: 10s", "group_interval: 1s")
            .with("{after: 15m,", "{after: 2s,")
            .with("{after: 30m,", "{after: 5m,")
            .folder("/opt/backups/agent-v3", &backups)
            .plain_mail();
        let dsn = postgres.dsn("postgres", "agent_v3");
        let nightbell = Nightbell::start_with(
            Some(&sample.text),
            &[
                ("DATABASE_URL", &dsn),
                ("REDIS_URL", &redis.url()),
                ("DOCKER_SOCKET", "/nonexistent/docker.sock"),
                (
                    "PUBLIC_URL",
                    &format!("http://127.0.0.1:{}/health", app.port),
                ),
                ("SMTP_FROM", "alerts@your-company.com"),
                ("SMTP_USER", ""),
                ("SMTP_PASSWORD", ""),
                ("SMTP_SMARTHOST", &format!("127.0.0.1:{}", people.mail.port)),
                ("SLACK_WEBHOOK_URL", &format!("{}/slack", people.slack.url)),
            ],
        );
        let probe = "probe_success{instance=\"agent-v3\"} == 1";
        wait_for_input(
            &nightbell,
            &[
                "pg_up == 1",
                "redis_up == 1",
                probe,
                "log_readable == 1",
                "backup_valid == 1",
                "app:requests:rate5m",
            ],
        );
        Stage {
            people,
            postgres,
            redis,
            app,
            _nightbell: nightbell,
            _folder: base,
        }
    }
}

/// What fails is told to operations, to whose subject it is, and, unanswered, to the next one.
///
/// Proves agent-v3: C4, C7, C10, T3, T17, T18, T20, N1, N2, N3, N9.
#[test]
fn agent_v3_services_that_fail_are_told_to_operations_and_to_those_whose_subject_it_is() {
    let mut stage = Stage::set();
    let Stage { people, app, .. } = &stage;
    let down = || {
        app.switch(json!({"down": true}));
        people.is_mailed("oncall@your-company.com", "EndpointDown");
        people.is_mailed("tech@company.com", "EndpointDown");
        // Nobody acknowledges.
        people.is_mailed("devops@company.com", "EndpointDown");
    };
    let down = rings(people, "EndpointDown", "agent-v3", down, || {
        app.switch(json!({"down": false}))
    });
    assert_eq!(down["labels"]["severity"], "critical");
    wait_until("Slack hears of it", Duration::from_secs(30), || {
        !people.slack(&["EndpointDown", "#ops"]).is_empty()
    });
    let Stage {
        people,
        postgres,
        redis,
        ..
    } = &mut stage;
    let sessions = RefCell::new(Vec::new());
    let open = || {
        sessions
            .borrow_mut()
            .extend((0..25).map(|_| postgres.session("agent_v3")))
    };
    let many = rings(people, "PostgresConnectionsMany", "postgres", open, || {
        sessions.borrow_mut().clear()
    });
    assert_eq!(
        (
            &many["labels"]["severity"],
            &many["annotations"]["threshold"]
        ),
        (&json!("warning"), &json!("> 20"))
    );
    people.is_mailed("dba@company.com", "PostgresConnectionsMany");
    let used: u64 = redis.info("used_memory").trim().parse().expect("a number");
    let narrow = || {
        drop(redis.cli(&[
            "CONFIG",
            "SET",
            "maxmemory",
            &(used * 102 / 100).to_string(),
        ]))
    };
    let full = rings(people, "RedisMemoryHigh", "redis", narrow, || {
        drop(redis.cli(&["CONFIG", "SET", "maxmemory", "100mb"]))
    });
    assert_eq!(full["labels"]["severity"], "warning");
    people.is_mailed("devops@company.com", "RedisMemoryHigh");
    let postgres = RefCell::new(postgres);
    rings(
        people,
        "PostgresDown",
        "postgres",
        || postgres.borrow_mut().stop(),
        || postgres.borrow_mut().resume(),
    );
    people.is_mailed("dba@company.com", "PostgresDown");
    let redis = RefCell::new(redis);
    rings(
        people,
        "RedisDown",
        "redis",
        || redis.borrow_mut().stop(),
        || redis.borrow_mut().resume(),
    );
    people.is_mailed("devops@company.com", "RedisDown");
}

/// Errors, slow answers, missing requests, lines of the container's log, a dump that was cut.
///
/// Proves agent-v3: C13, C15, C21, T2, T11, T16, T24.
#[test]
fn agent_v3_figures_logs_and_backups_that_go_wrong_are_told() {
    let stage = Stage::set();
    let Stage { people, app, .. } = &stage;
    let instance = format!("127.0.0.1:{}", app.port);
    let failing = || app.switch(json!({"failed": 0.5, "requests": 1000}));
    let failed = rings(people, "AppErrorRateHigh", &instance, failing, || {
        app.switch(json!({"failed": 0, "requests": 1_000_000}))
    });
    assert_eq!(
        (
            &failed["labels"]["severity"],
            &failed["annotations"]["threshold"]
        ),
        (&json!("critical"), &json!("> 5 %"))
    );
    let slow = || app.switch(json!({"duration": 8, "requests": 100_000_000}));
    let fast = || app.switch(json!({"duration": 0.05, "requests": 100_000_000_000u64}));
    let slow = rings(people, "AppResponseVerySlow", &instance, slow, fast);
    assert_eq!(slow["annotations"]["threshold"], "P95 > 5 s");
    rings(
        people,
        "LogErrorsMany",
        "agent-v3",
        || app.act(json!({"errors": 30})),
        || (),
    );
    let cut = || app.act(json!({"backup": "cut"}));
    rings(people, "BackupInvalid", "postgres", cut, || {
        app.act(json!({"backup": "whole"}))
    });
    people.is_mailed("dba@company.com", "BackupInvalid");
}

/// The manual's alertmanager.yml, unchanged.
///
/// Proves agent-v3: N6.
#[test]
fn agent_v3_alertmanager_file_works_as_it_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = root().join("tests/applications/agent-v3/alertmanager.yml");
    std::fs::write(
        folder.path().join("n.yml"),
        format!(
            "rules: {{profiles: [agent-v3]}}\nalertmanager: '{}'\n",
            file.display()
        ),
    )
    .expect("written");
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(words)
            .current_dir(folder.path())
            .output()
            .expect("it runs");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{words:?}: {said}");
        said
    };
    assert!(run(&["check", "config", "n.yml"]).contains("SUCCESS"));
    let file = file.display().to_string();
    for (severity, receiver) in [
        ("critical", "team-ops-critical"),
        ("warning", "team-ops-warning"),
        ("info", "team-ops"),
    ] {
        let said = run(&[
            "routes",
            "test",
            "--config",
            &file,
            &format!("severity={severity}"),
        ]);
        assert_eq!(said.trim(), receiver);
    }
}
