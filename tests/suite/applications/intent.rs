//! The intent system: health, its parts, PostgreSQL, the embedded Chroma, its log and backups, told
//! by e-mail, DingTalk and WeCom in Chinese.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    People, Sample, StandIn, append, asked, dashboard_shows, folder, rings, wait_for_input,
};
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::llm::{FakeLlm, Script};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;
use crate::servers::wait_until;

const QUICK: &str = "rules:\n  profiles: [intent]\n  thresholds: {endpoint_time: {critical: {figure: 500ms, for: 0s}}, \
                     log_errors: {warning: {window: 20s}, critical: {window: 20s}}, AppComponentDown: {warning: {for: 0s}}}\n";
const MODELS: &str = r#"{"data":[{"id":"deepseek-chat"}]}"#;

struct Stage {
    people: People,
    sms: HttpSink,
    robots: HttpSink,
    llm: FakeLlm,
    postgres: Postgres,
    redis: Redis,
    app: StandIn,
    nightbell: Nightbell,
    folder: tempfile::TempDir,
}

impl Stage {
    fn set() -> Self {
        let people = People::new();
        let sms = HttpSink::start([Reply::Answer(
            200,
            "",
            r#"{"Code":"OK","Message":"OK","BizId":"1"}"#,
        )]);
        let llm = FakeLlm::start();
        llm.on("/models", Script::json("200 OK", MODELS))
            .on("/v1/models", Script::json("200 OK", MODELS));
        let robots = HttpSink::start([Reply::Answer(200, "", r#"{"errcode":0,"errmsg":"ok"}"#)]);
        let (postgres, redis) = (Postgres::start(&[]), Redis::start(&[]));
        postgres.sql("postgres", "CREATE DATABASE intent_system");
        postgres.sql(
            "intent_system",
            "CREATE TABLE results (id int, fresh_until timestamptz)",
        );
        postgres.sql(
            "intent_system",
            "INSERT INTO results VALUES (1, now() - interval '8 days'), (2, now())",
        );
        postgres.sql(
            "intent_system",
            "CREATE TABLE workflow_runs (id int, ended_at timestamptz, status text)",
        );
        let base = tempfile::tempdir().expect("a folder");
        let (home, backups) = (folder(base.path(), "home"), folder(base.path(), "backups"));
        folder(&home, "data/chroma");
        folder(&home, "logs");
        postgres.sql("postgres", "CREATE ROLE nightbell_restore LOGIN CREATEDB");
        redis.cli(&["RPUSH", "celery", "{}", "{}"]);
        let logins = base.path().join("auth.log");
        std::fs::write(&logins, "").expect("written");
        let dsn = postgres.dsn("postgres", "intent_system");
        let app = StandIn::start(
            "intent",
            json!({"dsn": dsn, "home": home, "backups": backups}),
        );
        app.act(json!({"backup": "whole"}));
        let sample = Sample::of("intent")
            .with("rules: {profiles: [intent]}\n", QUICK)
            .with("127.0.0.1:8000", &format!("127.0.0.1:{}", app.port))
            .with("shrink: 50%", "shrink: 50%, settle: 1s")
            .folder("/var/log/auth.log", &logins)
            .with("at: \"0 3 1 1,4,7,10 *\"", "every: 1d, settle: 0s")
            .with(
                "- name: team\n",
                &format!(
                    "- name: team\n  webhook_configs: [{{url: '{}/hook'}}]\n",
                    people.webhook.url
                ),
            )
            .with(
                "access_token: \"${DINGTALK_TOKEN}\"",
                &format!("url: '{}/robot/send?access_token=x'", robots.url),
            )
            .with(
                "key: \"${WECOM_KEY}\"",
                &format!("url: '{}/cgi-bin/webhook/send?key=x'", robots.url),
            )
            .with(
                "provider: aliyun\n",
                &format!("provider: aliyun\n    api_url: '{}'\n", sms.url),
            )
            .plain_mail()
            .at_once();
        let nightbell = Nightbell::start_with(
            Some(&sample.text),
            &[
                ("INTENT_HOME", &home.display().to_string()),
                ("INTENT_DATABASE_URL", &dsn),
                ("INTENT_REDIS_URL", &redis.url()),
                (
                    "RESTORE_DATABASE_URL",
                    &postgres.dsn("nightbell_restore", "postgres"),
                ),
                ("BACKUP_DIR", &backups.display().to_string()),
                ("ALERT_EMAIL", "ops@example.org"),
                ("SMTP_FROM", "intent@example.org"),
                ("SMTP_SMARTHOST", &format!("127.0.0.1:{}", people.mail.port)),
                ("DINGTALK_SECRET", "SECx"),
                ("ALIYUN_KEY_ID", "AK1"),
                ("ALIYUN_KEY_SECRET", "s"),
                ("ALIYUN_SIGN", "intent"),
                ("ALIYUN_TEMPLATE", "SMS_1"),
                ("ALERT_PHONE", "13800000000"),
                // As the application's own .env has them.
                ("LLM_PROVIDER", "deepseek"),
                ("DEEPSEEK_API_KEY", "sk-x"),
                ("DEEPSEEK_BASE_URL", &llm.url("/v1")),
            ],
        );
        let (vectors, expired) = (
            "sql_chroma_vectors_value == 250",
            "sql_results_expired_value == 1",
        );
        let valid = "backup_valid{instance=\"database\"} == 1";
        let input = [
            "pg_up == 1",
            "redis_up == 1",
            "probe_success == 1",
            "sqlite_up == 1",
            vectors,
            expired,
            "app_component_up",
            "log_readable",
            valid,
        ];
        wait_for_input(&nightbell, &input);
        Stage {
            people,
            sms,
            robots,
            llm,
            postgres,
            redis,
            app,
            nightbell,
            folder: base,
        }
    }
}

/// Whatever fails, the team hears of it in its groups.
///
/// Proves intent: C4, C6, C7, C8, C9, C10, C11, C13, C15, T1, T3, T20, T24, T26, T28, N1, N4.
#[test]
fn intent_faults_are_notified_by_mail_and_to_the_groups_in_chinese() {
    let Stage {
        people,
        sms,
        robots,
        llm,
        mut postgres,
        mut redis,
        app,
        nightbell: _nightbell,
        folder: _folder,
    } = Stage::set();
    // Mail and both groups hear of everything, an SMS says what is critical.
    let heard = |words: &str, alert: &str, critical: bool| {
        for robot in ["/robot/send", "/cgi-bin/webhook/send"] {
            let is_there = || {
                robots
                    .requests()
                    .iter()
                    .any(|request| request.path.starts_with(robot) && request.body.contains(words))
            };
            wait_until(
                &format!("{robot} hears {words}"),
                Duration::from_secs(30),
                is_there,
            );
        }
        wait_until("a mail says it", Duration::from_secs(30), || {
            !people.mailed(&[words]).is_empty()
        });
        let is_sms = || {
            sms.requests()
                .iter()
                .any(|request| format!("{}{}", request.path, request.body).contains(alert))
        };
        match critical {
            true => wait_until("an SMS says it", Duration::from_secs(30), is_sms),
            false => assert!(!is_sms(), "a warning is no SMS"),
        }
    };
    let severity = |alert: &Value| {
        alert["labels"]["severity"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let down = rings(
        &people,
        "EndpointDown",
        "intent",
        || app.switch(json!({"down": true})),
        || app.switch(json!({"down": false})),
    );
    assert_eq!(severity(&down), "critical");
    heard("intent 健康检查失败", "EndpointDown", true);
    let slow = rings(
        &people,
        "EndpointSlow",
        "intent",
        || app.switch(json!({"slow": 1})),
        || app.switch(json!({"slow": 0})),
    );
    assert_eq!(
        (severity(&slow).as_str(), &slow["annotations"]["threshold"]),
        ("critical", &json!("> 500 ms"))
    );
    heard("intent 响应耗时", "EndpointSlow", true);
    let part = || app.switch(json!({"vector_store": false}));
    let part = rings(&people, "AppComponentDown", "intent-detailed", part, || {
        app.switch(json!({"vector_store": true}))
    });
    assert_eq!(
        (severity(&part).as_str(), &part["labels"]["component"]),
        ("warning", &json!("vector_store"))
    );
    heard("组件 vector_store 不可用", "AppComponentDown", false);
    rings(
        &people,
        "LogErrors",
        "intent-log",
        || app.act(json!({"errors": 1})),
        || (),
    );
    heard("行错误日志", "LogErrors", false);
    rings(
        &people,
        "BackupInvalid",
        "database",
        || app.act(json!({"backup": "cut"})),
        || app.act(json!({"backup": "whole"})),
    );
    heard("最新的备份不可用", "BackupInvalid", true);
    let refused = Script::json(
        "401 Unauthorized",
        r#"{"error":{"code":"invalid_api_key"}}"#,
    );
    let answers = |script: &Script| {
        llm.on("/models", script.clone())
            .on("/v1/models", script.clone());
    };
    rings(
        &people,
        "LLMAuthFailed",
        "deepseek",
        || answers(&refused),
        || answers(&Script::json("200 OK", MODELS)),
    );
    heard("拒绝密钥", "LLMAuthFailed", true);
    let (postgres, redis) = (RefCell::new(&mut postgres), RefCell::new(&mut redis));
    rings(
        &people,
        "PostgresDown",
        "intent-db",
        || postgres.borrow_mut().stop(),
        || postgres.borrow_mut().resume(),
    );
    heard("PostgreSQL intent-db 无法连接", "PostgresDown", true);
    rings(
        &people,
        "RedisDown",
        "intent-redis",
        || redis.borrow_mut().stop(),
        || redis.borrow_mut().resume(),
    );
    heard("Redis intent-redis 无法连接", "RedisDown", true);
}

/// The host, logins, the queue, the restore of the newest backup, and what its people look at.
///
/// Proves intent: C1, C14, C16, C18, C21, P1, P7, D3.
#[test]
fn intent_key_metrics_logins_queue_and_restore_are_watched() {
    let stage = Stage::set();
    let Stage {
        redis,
        app,
        nightbell,
        folder,
        ..
    } = &stage;
    append(
        &folder.path().join("auth.log"),
        "Dec  1 00:00:01 host sshd[1]: Failed password for root from 203.0.113.7 port 1 ssh2",
    );
    app.act(json!({"errors": 1}));
    wait_for_input(
        nightbell,
        &[
            "restore_test_success == 1",
            "login_failures_total >= 1",
            "redis_key_size{key=\"celery\"} == 2",
            // Its key metrics: response time, LLM, database, vector store, cache.
            "probe_duration_seconds",
            "llm_probe_last_duration_seconds",
            "pg_query_duration_seconds",
            "sql_query_duration_seconds{query=\"chroma_vectors\"}",
        ],
    );
    redis.cli(&["GET", "missing"]);
    let (status, _) = nightbell.request(
        "POST",
        "/api/nightbell/job/cleanup",
        "Content-Length: 0\r\n",
    );
    assert_eq!(status, 200);
    dashboard_shows(nightbell, "intent");
    assert!(nightbell.json("/health")["checks_total"].as_u64() > Some(10));
    let shown = nightbell.log() + &nightbell.get("/api/v1/status/config").1;
    for secret in ["SECx", "sk-x"] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
    assert_eq!(nightbell.json("/health/db")["status"], "healthy");
    let (status, said) = asked(nightbell, &["maintenance", "list"]);
    assert!(
        status == Some(0) && said.contains("security-audit"),
        "{status:?} {said}"
    );
}
