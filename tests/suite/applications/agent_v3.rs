//! Agent-V3: health, databases, metrics, the container's log and a backup, told by e-mail and Slack
//! to those whose subject it is.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::{
    People, Sample, StandIn, append, asked, dashboard_shows, folder, rings, root, wait_for_input,
};
use crate::servers::engine::{Engine, Socket};
use crate::servers::llm::{FakeLlm, Script};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;
use crate::servers::smtp::Certificate;
use crate::servers::{Server, free_port, listens, wait_until};

struct Stage {
    people: People,
    postgres: Postgres,
    redis: Redis,
    llm: FakeLlm,
    app: StandIn,
    nightbell: Nightbell,
    folder: tempfile::TempDir,
    _containers: Socket,
    _https: Server,
}

const MODELS: &str = r#"{"data":[{"id":"gpt-4o"}]}"#;

const QUICK: &str = "rules:\n  profiles: [agent-v3]\n  thresholds: {error_rate: {warning: off, critical: {for: 0s}}, response_time_p95: {warning: off, critical: {for: 0s}}, \
                     log_errors: {warning: {window: 20s}, critical: {window: 20s}}, redis_memory: {warning: {for: 0s}}, container_memory: {warning: off, critical: {for: 0s}}, \
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
        postgres.sql("postgres", "CREATE ROLE nightbell_restore LOGIN CREATEDB");
        let llm = FakeLlm::start();
        llm.on("/v1/models", Script::json("200 OK", MODELS));
        let logins = base.path().join("auth.log");
        std::fs::write(&logins, "").expect("written");
        let cgroups = container(base.path(), 500_000);
        let containers = Socket::start(base.path(), engine());
        let certificate = Certificate::make(&folder(base.path(), "tls"));
        let (https, port) = serve(&certificate);
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
            .folder("/var/log/auth.log", &logins)
            .with("at: \"Sun 03:00\"", "every: 1d, settle: 0s")
            .with(
                "provider: openai,",
                &format!("provider: openai, base_url: '{}',", llm.url("/v1")),
            )
            .with(
                "compose_project: agent-v3",
                &format!("compose_project: agent-v3, root: '{}'", cgroups.display()),
            )
            .with(
                "url: \"${PUBLIC_URL}\"",
                &format!(
                    "url: \"${{PUBLIC_URL}}\", tls_config: {{ca_file: '{}'}}",
                    certificate.cert.display()
                ),
            )
            .plain_mail();
        let dsn = postgres.dsn("postgres", "agent_v3");
        let nightbell = Nightbell::start_with(
            Some(&sample.text),
            &[
                ("DATABASE_URL", &dsn),
                ("REDIS_URL", &redis.url()),
                (
                    "RESTORE_DATABASE_URL",
                    &postgres.dsn("nightbell_restore", "postgres"),
                ),
                ("OPENAI_API_KEY", "sk-x"),
                ("DOCKER_SOCKET", &containers.path.display().to_string()),
                ("PUBLIC_URL", &format!("https://127.0.0.1:{port}/")),
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
            llm,
            app,
            nightbell,
            folder: base,
            _containers: containers,
            _https: https,
        }
    }
}

/// A tree of cgroups with the application's container, which uses so much of its 1 MB.
fn container(base: &Path, used: u64) -> PathBuf {
    let root = base.join("cgroup");
    let own = root.join(format!("docker/{}", "a".repeat(64)));
    std::fs::create_dir_all(&own).expect("a folder");
    std::fs::write(root.join("cgroup.controllers"), "cpu memory").expect("written");
    for (name, text) in [
        ("cpu.stat", "usage_usec 9\nnr_periods 9\nnr_throttled 1"),
        ("memory.current", &used.to_string()),
        ("memory.max", "1000000"),
        ("memory.events", "oom_kill 0"),
    ] {
        std::fs::write(own.join(name), text).expect("written");
    }
    root
}

/// What Docker says of that container.
fn engine() -> Engine {
    let id = "a".repeat(64);
    let labels =
        json!({"com.docker.compose.project": "agent-v3", "com.docker.compose.service": "agent-v3"});
    let list = json!([{"Id": id, "Names": ["/agent-v3"], "Image": "agent-v3", "State": "running", "Labels": labels}]);
    let one = json!({
        "Id": id, "Name": "/agent-v3", "RestartCount": 0, "Config": {"Image": "agent-v3", "Labels": labels},
        "State": {"Status": "running", "Running": true, "ExitCode": 0, "StartedAt": "2026-01-01T00:00:00Z"},
    });
    Engine::Serves(
        [
            ("/containers/json?all=1".to_owned(), list.to_string()),
            (format!("/containers/{id}/json"), one.to_string()),
        ]
        .into(),
    )
}

/// A web server with this certificate, and its port.
fn serve(certificate: &Certificate) -> (Server, u16) {
    let port = free_port();
    let child = Command::new("openssl")
        .args(["s_server", "-www", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-cert")
        .arg(&certificate.cert)
        .arg("-key")
        .arg(&certificate.key)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl: apt-get install openssl");
    let server = Server(child);
    wait_until("openssl listens", Duration::from_secs(30), || listens(port));
    (server, port)
}

/// What fails is told to operations, to whose subject it is, and, unanswered, to the next one.
///
/// Proves agent-v3: C4, C7, C10, T3, T17, T18, T20, N1, N2, N3, N9.
#[test]
fn agent_v3_services_that_fail_reach_operations_and_those_whose_subject_it_is() {
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
fn agent_v3_figures_logs_and_backups_that_go_wrong_are_notified() {
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

/// The container, the certificate, logins, the provider and the restore of the newest backup.
///
/// Proves agent-v3: C1, C3, C9, C14, C16, C17, T8, T25, P2, P3, P7.
#[test]
fn agent_v3_container_certificate_logins_provider_and_restore_are_watched() {
    let stage = Stage::set();
    let Stage {
        people,
        redis,
        llm,
        nightbell,
        folder,
        ..
    } = &stage;
    wait_until(
        "the certificate's end is told",
        Duration::from_secs(60),
        || !people.posted("CertificateExpiresVerySoon").is_empty(),
    );
    people.is_mailed("devops@company.com", "CertificateExpiresVerySoon");
    wait_for_input(
        nightbell,
        &["restore_test_success == 1", "restore_test_tables == 1"],
    );
    let full = || drop(container(folder.path(), 970_000));
    let full = rings(people, "ContainerMemoryCritical", "container", full, || {
        drop(container(folder.path(), 500_000))
    });
    assert_eq!(
        (&full["labels"]["severity"], &full["labels"]["name"]),
        (&json!("critical"), &json!("agent-v3"))
    );
    let refused = Script::json(
        "401 Unauthorized",
        r#"{"error":{"code":"invalid_api_key"}}"#,
    );
    let answers = |script: Script| {
        llm.on("/v1/models", script);
    };
    rings(
        people,
        "LLMAuthFailed",
        "openai",
        || answers(refused),
        || answers(Script::json("200 OK", MODELS)),
    );
    for client in 0..30 {
        append(
            &folder.path().join("auth.log"),
            &format!(
                "Dec  1 00:00:01 host sshd[1]: Failed password for root from 203.0.113.{client} port 1 ssh2"
            ),
        );
    }
    wait_for_input(nightbell, &["login_failures_total >= 30"]);
    redis.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    let before = nightbell.metric("redis_keyspace_misses_total");
    redis.cli(&["GET", "missing"]);
    wait_until("the miss is collected", Duration::from_secs(30), || {
        nightbell.metric("redis_keyspace_misses_total") > before
    });
    dashboard_shows(nightbell, "agent-v3");
    let (status, said) = asked(nightbell, &["check", "health", "--daily"]);
    assert_eq!(status, Some(2), "a critical alert fires: {said}");
    assert!(said.contains("CertificateExpiresVerySoon"), "{said}");
    let (status, said) = asked(nightbell, &["maintenance", "list"]);
    assert!(
        status == Some(0) && said.contains("vulnerability-scan"),
        "{status:?} {said}"
    );
}

/// An upgrade that was announced silences, is drawn, and ends.
///
/// Proves agent-v3: N10.
#[test]
fn agent_v3_planned_work_silences_and_is_drawn() {
    let stage = Stage::set();
    let Stage {
        people,
        app,
        nightbell,
        ..
    } = &stage;
    let now = nightbell::model::Timestamp::now().rfc3339();
    let (status, said) = asked(
        nightbell,
        &[
            "maintenance",
            "window",
            "add",
            "--start",
            &now,
            "--duration",
            "30m",
            "--matchers",
            "alertname=EndpointDown",
            "--comment",
            "upgrade",
            "--by",
            "ops",
        ],
    );
    assert_eq!(status, Some(0), "{said}");
    app.switch(json!({"down": true}));
    wait_until("it is suppressed", Duration::from_secs(60), || {
        let alerts = nightbell.json("/api/v2/alerts?filter=alertname%3DEndpointDown");
        alerts[0]["status"]["state"] == "suppressed"
    });
    wait_for_input(
        nightbell,
        &["nightbell_maintenance_window{comment=\"upgrade\"} == 1"],
    );
    assert!(people.posted("EndpointDown").is_empty(), "nobody is paged");
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
