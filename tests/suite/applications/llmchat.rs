//! LLMChat: health, databases, the application's metrics, logs and backups, told by e-mail, Slack
//! and webhook.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    People, Sample, StandIn, asked, dashboard_shows, folder, guide_script, rings, value,
    wait_for_input,
};
use crate::servers::http_sink::Reply;
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;
use crate::servers::wait_until;

struct Stage {
    people: People,
    postgres: Postgres,
    redis: Redis,
    app: StandIn,
    logs: PathBuf,
    nightbell: Nightbell,
    folder: tempfile::TempDir,
}

/// What waits for minutes or covers a day waits for nothing, or covers seconds.
const QUICK: &str = "rules:\n  profiles: [llmchat]\n  thresholds: {error_rate: {critical: {for: 0s}}, response_time_mean: {warning: {for: 0s}}, \
                     heap: {warning: {for: 0s}}, log_errors: {warning: {window: 20s}, critical: {window: 20s}}, log_silence: {warning: {figure: 15s, for: 0s}}, \
                     AppComponentDown: {warning: {for: 0s}}, LogUnreadable: {critical: {for: 0s}}}\n";

impl Stage {
    fn set() -> Self {
        let people = People::new();
        let (postgres, redis) = (Postgres::start(&[]), Redis::start(&[]));
        postgres.sql("postgres", "CREATE DATABASE llmchat");
        postgres.sql(
            "llmchat",
            "CREATE TABLE chat_sessions (id int, user_id int, updated_at timestamptz)",
        );
        postgres.sql(
            "llmchat",
            "CREATE TABLE messages (id int, session_id int, created_at timestamptz)",
        );
        let base = tempfile::tempdir().expect("a folder");
        let [logs, nginx, backups, uploads] =
            ["logs", "logs", "backups", "uploads"].map(|name| folder(base.path(), name));
        for file in ["app.log", "error.log", "access.log"] {
            std::fs::write(logs.join(file), "").expect("written");
        }
        let dsn = postgres.dsn("postgres", "llmchat");
        let app = StandIn::start(
            "llmchat",
            json!({"dsn": dsn, "redis": redis.url(), "logs": logs, "backups": backups}),
        );
        app.act(json!({"backup": "whole"}));
        let action = format!(
            "recovery: [{{name: restart, matchers: ['alertname=\"LLMChatHeapFull\"'], command: [touch, '{}']}}]\n",
            base.path().join("restarted").display()
        );
        let sample = Sample::of("llmchat")
            .with(
                "rules: {profiles: [llmchat]}\n",
                &format!("{QUICK}{action}"),
            )
            .with("127.0.0.1:3001", &format!("127.0.0.1:{}", app.port))
            .with(
                "keep_days: 30, shrink: 50%",
                "keep_days: 30, shrink: 50%, settle: 1s",
            )
            .folder("/var/log/llmchat", &logs)
            .folder("/var/log/nginx", &nginx)
            .folder("/backups/llmchat", &backups)
            .folder("/var/uploads", &uploads)
            .plain_mail()
            .at_once();
        let nightbell = Nightbell::start_with(
            Some(&sample.text),
            &[
                ("DATABASE_URL", &dsn),
                ("REDIS_URL", &redis.url()),
                ("ALERT_EMAIL", "ops@example.org"),
                ("SMTP_FROM", "llmchat@example.org"),
                ("SMTP_SMARTHOST", &format!("127.0.0.1:{}", people.mail.port)),
                ("SLACK_WEBHOOK_URL", &format!("{}/slack", people.slack.url)),
                ("ALERT_WEBHOOK_URL", &format!("{}/hook", people.webhook.url)),
            ],
        );
        let database = "probe_success{instance=\"llmchat-database\"} == 1";
        let file = "log_readable{instance=\"llmchat-app\"} == 1";
        let heap = "llmchat_nodejs_heap_size_used_bytes";
        wait_for_input(
            &nightbell,
            &[
                "pg_up == 1",
                "redis_up == 1",
                database,
                file,
                heap,
                "app:request_errors:ratio5m",
                "backup_valid == 1",
            ],
        );
        Stage {
            people,
            postgres,
            redis,
            app,
            logs,
            nightbell,
            folder: base,
        }
    }

    /// A critical alert has reached all three channels, under Slack's channel for it.
    fn is_critical_everywhere(&self, alert: &Value, words: &[&str]) {
        assert_eq!(alert["labels"]["severity"], "critical", "{alert}");
        let slack = [&["#llmchat-critical"], words].concat();
        wait_until("Slack hears of it", Duration::from_secs(30), || {
            !self.people.slack(&slack).is_empty()
        });
        wait_until("a mail tells it", Duration::from_secs(30), || {
            !self.people.mailed(words).is_empty()
        });
    }

    /// A warning has reached Slack, in its own channel, and the webhook; nobody got a mail.
    fn is_warning(&self, alert: &Value, words: &[&str]) {
        assert_eq!(alert["labels"]["severity"], "warning", "{alert}");
        let slack = [&["#llmchat-alerts"], words].concat();
        wait_until("Slack hears of it", Duration::from_secs(30), || {
            !self.people.slack(&slack).is_empty()
        });
        assert!(self.people.mailed(words).is_empty(), "a warning is no mail");
    }
}

/// The service, its databases and its parts fail one after another: who is told what, and that it
/// is over.
///
/// Proves llmchat: C4, C7, C10, C11, T3, T20, T28, N1, N2, N3, N5, N8.
#[test]
fn llmchat_services_that_fail_reach_those_whom_the_severity_concerns() {
    let mut stage = Stage::set();
    let down = rings(
        &stage.people,
        "EndpointDown",
        "llmchat",
        || stage.app.switch(json!({"down": true})),
        || stage.app.switch(json!({"down": false})),
    );
    // In Chinese: what, where, and why.
    let said = down["annotations"]["summary_zh"]
        .as_str()
        .unwrap_or_default();
    assert!(
        said.starts_with("llmchat 健康检查失败") && said.contains("500"),
        "{said}"
    );
    stage.is_critical_everywhere(&down, &["llmchat 健康检查失败"]);
    let external = || stage.app.switch(json!({"external": false}));
    let degraded = rings(
        &stage.people,
        "AppComponentDown",
        "llmchat-checks",
        external,
        || stage.app.switch(json!({"external": true})),
    );
    assert_eq!(degraded["labels"]["component"], "external");
    stage.is_warning(&degraded, &["组件 external 不可用"]);
    let Stage {
        people,
        postgres,
        redis,
        ..
    } = &mut stage;
    let postgres = std::cell::RefCell::new(postgres);
    let down = rings(
        people,
        "PostgresDown",
        "llmchat-db",
        || postgres.borrow_mut().stop(),
        || postgres.borrow_mut().resume(),
    );
    let redis = std::cell::RefCell::new(redis);
    let lost = rings(
        people,
        "RedisDown",
        "llmchat-redis",
        || redis.borrow_mut().stop(),
        || redis.borrow_mut().resume(),
    );
    stage.is_critical_everywhere(&down, &["PostgreSQL llmchat-db 无法连接"]);
    stage.is_critical_everywhere(&lost, &["Redis llmchat-redis 无法连接"]);
}

/// Requests, the heap, the logs and a backup go wrong.
///
/// Proves llmchat: C12, C13, C15, T2, T12, T19, T24, T27, N5, N8.
#[test]
fn llmchat_figures_logs_and_backups_that_go_wrong_are_notified_with_value_and_threshold() {
    let stage = Stage::set();
    let instance = format!("127.0.0.1:{}", stage.app.port);
    let Stage {
        people, app, logs, ..
    } = &stage;
    // Many good requests bring the share of five minutes down again.
    let failing = || app.switch(json!({"failed": 0.5, "requests": 100}));
    let failed = rings(people, "AppErrorRateHigh", &instance, failing, || {
        app.switch(json!({"failed": 0, "requests": 100_000}))
    });
    assert_eq!(failed["annotations"]["threshold"], "> 5 %");
    stage.is_critical_everywhere(&failed, &["请求错误率", "5 %"]);
    let slow = || app.switch(json!({"duration": 4, "requests": 1_000_000}));
    let slow = rings(people, "LLMChatMeanResponseSlow", &instance, slow, || {
        app.switch(json!({"duration": 0.01, "requests": 100_000_000}))
    });
    stage.is_warning(&slow, &["平均响应时间", "2 s"]);
    let full = rings(
        people,
        "LLMChatHeapFull",
        &instance,
        || app.switch(json!({"heap": 0.95})),
        || app.switch(json!({"heap": 0.5})),
    );
    assert_eq!(
        full["annotations"]["summary_zh"],
        format!("{instance}：堆内存使用率 95%")
    );
    stage.is_warning(&full, &["堆内存使用率 95%"]);

    // One ERROR line is a warning, more than ten are critical.
    let one = rings(
        people,
        "LogErrors",
        "llmchat-app",
        || app.act(json!({"errors": 1})),
        || (),
    );
    stage.is_warning(&one, &["行错误日志"]);
    let many = rings(
        people,
        "LogErrorsMany",
        "llmchat-app",
        || app.act(json!({"errors": 30})),
        || (),
    );
    assert_eq!(many["annotations"]["threshold"], "> 10 in 20s");
    stage.is_critical_everywhere(&many, &["行错误日志", "10 in 20s"]);
    let silent = || app.switch(json!({"silent": true}));
    let silent = rings(people, "LogSilent", "llmchat-app", silent, || {
        app.switch(json!({"silent": false}))
    });
    stage.is_warning(&silent, &["未更新"]);
    // Root reads every file: one that is a folder nobody can read.
    let (file, away) = (logs.join("error.log"), logs.join("error.log.1"));
    let unreadable = || {
        app.switch(json!({"error_log": false}));
        std::fs::rename(&file, &away).expect("moved");
        std::fs::create_dir(&file).expect("made");
    };
    let readable = || {
        std::fs::remove_dir(&file).expect("removed");
        std::fs::rename(&away, &file).expect("moved");
        app.switch(json!({"error_log": true}));
    };
    let unread = rings(
        people,
        "LogUnreadable",
        "llmchat-error",
        unreadable,
        readable,
    );
    stage.is_critical_everywhere(&unread, &["日志无法读取"]);
    let cut = || app.act(json!({"backup": "cut"}));
    let invalid = rings(people, "BackupInvalid", "llmchat-database", cut, || {
        app.act(json!({"backup": "whole"}))
    });
    stage.is_critical_everywhere(&invalid, &["最新的备份不可用"]);
}

/// The host, rows and folders, nginx's log, the month's report, the daily check, and an action that
/// restarts the service.
///
/// Proves llmchat: C1, C6, C8, C14, C18, P1, P2, P4, P7.
#[test]
fn llmchat_rows_folders_requests_of_nginx_reports_and_the_daily_check() {
    let stage = Stage::set();
    let Stage {
        app,
        nightbell,
        postgres,
        ..
    } = &stage;
    postgres.sql(
        "llmchat",
        "INSERT INTO chat_sessions VALUES (1, 1, now() - interval '31 days')",
    );
    app.act(json!({"errors": 1}));
    wait_for_input(
        nightbell,
        &[
            "sql_sessions_expired_value",
            "directory_size_bytes{instance=\"llmchat-uploads-folder\"}",
            "http_requests_total{instance=\"llmchat-nginx\"} > 0",
            "nightbell_maintenance_task_overdue{task=\"weekly-cleanup\"} == 0",
            "ALERTS{alertname=\"LogErrors\"}",
        ],
    );
    dashboard_shows(nightbell, "llmchat");
    let health = nightbell.json("/health");
    assert!(
        health["uptime_seconds"].is_number() && health["version"].is_string(),
        "{health}"
    );
    for path in ["/health/db", "/health/redis"] {
        assert_eq!(nightbell.json(path)["status"], "healthy", "{path}");
    }
    let (status, said) = asked(nightbell, &["check", "health", "--daily"]);
    assert!(
        matches!(status, Some(1 | 2)) && said.contains("LogErrors"),
        "an ERROR line is something to look at: {status:?} {said}"
    );
    let (status, said) = asked(
        nightbell,
        &["report", "period", "--last", "1h", "--language", "zh"],
    );
    assert!(
        status == Some(0) && said.starts_with("# 性能分析报告"),
        "{status:?} {said}"
    );
}

/// Slack is away: mail and webhook hear of it all the same, and the action is run.
///
/// Proves llmchat: N7, R1.
#[test]
fn llmchat_without_slack_the_others_hear_of_it_and_the_action_runs() {
    let stage = Stage::set();
    let Stage {
        people,
        app,
        nightbell,
        folder,
        ..
    } = &stage;
    people.slack.answer(Reply::Answer(500, "", "down"));
    let down = rings(
        people,
        "EndpointDown",
        "llmchat",
        || app.switch(json!({"down": true})),
        || app.switch(json!({"down": false})),
    );
    assert_eq!(down["labels"]["severity"], "critical");
    wait_until("a mail says it", Duration::from_secs(30), || {
        !people.mailed(&["llmchat 健康检查失败"]).is_empty()
    });
    wait_for_input(
        nightbell,
        &["nightbell_notifications_failed_total{notifier=\"slack\"} > 0"],
    );
    app.switch(json!({"heap": 0.95}));
    wait_until("the service is restarted", Duration::from_secs(60), || {
        folder.path().join("restarted").exists()
    });
}

/// The guide's daily check, run beside nightbell's, agrees with it: on a day without trouble, with
/// an error in the log, without the database, without the service.
///
/// Proves llmchat: P2.
#[test]
fn llmchat_daily_check_of_its_guide_agrees() {
    let stage = Stage::set();
    let Stage { app, nightbell, .. } = &stage;
    let port = format!("localhost:{}", app.port);
    let log = stage.logs.join("app.log").display().to_string();
    let changes = [
        ("localhost:3001", port.as_str()),
        ("/var/log/llmchat/app.log", &log),
    ];
    let theirs = || guide_script("llmchat/daily-health-check.sh", &changes);
    let ours = || -> (Option<i32>, Vec<Value>) {
        let (status, text) = asked(nightbell, &["check", "health", "--daily", "--json"]);
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        (status, json["checks"].as_array().cloned().expect("lines"))
    };
    // The mark of the line that is about this.
    let mark = |lines: &[Value], subject: &str, name: &str| -> String {
        let line = lines.iter().find(|line| {
            line["subject"] == subject && line["name"].as_str().is_some_and(|n| n.contains(name))
        });
        let line = line.unwrap_or_else(|| panic!("{subject} {name}: {lines:#?}"));
        line["mark"].as_str().expect("a word").to_owned()
    };
    let (status, said) = theirs();
    assert!(
        status == Some(0) && !said.contains("个错误"),
        "a day without trouble: {said}"
    );
    let (_, lines) = ours();
    for endpoint in ["llmchat", "llmchat-database", "llmchat-redis"] {
        assert_eq!(mark(&lines, "endpoint", endpoint), "good");
    }
    assert_eq!(mark(&lines, "log", "llmchat-app"), "good");
    // Both look at the root's disk against 80 %, df with what is kept for root left out.
    let full = said.contains("磁盘使用率过高");
    let used = value(
        nightbell,
        "max(1 - node_filesystem_avail_bytes{mountpoint=\"/\"} / node_filesystem_size_bytes)",
    );
    if used.is_some_and(|used| (used - 0.8).abs() > 0.1) {
        assert_eq!(mark(&lines, "disk", "/") != "good", full, "{used:?} {said}");
    }

    app.act(json!({"errors": 2}));
    let (status, said) = theirs();
    assert!(
        status == Some(0) && said.contains("发现 2 个错误"),
        "{said}"
    );
    wait_until("the log is read", Duration::from_secs(60), || {
        let (status, lines) = ours();
        status != Some(0) && mark(&lines, "log", "llmchat-app") == "look"
    });

    for (switch, endpoint, word) in [
        ("database", "llmchat-database", "数据库连接异常"),
        ("redis", "llmchat-redis", "Redis连接异常"),
        ("down", "llmchat", "主服务异常"),
    ] {
        let broken = switch == "down";
        app.switch(json!({switch: broken}));
        let (status, said) = theirs();
        assert!(status == Some(1) && said.contains(word), "{switch}: {said}");
        wait_until(
            &format!("{endpoint} is unhealthy"),
            Duration::from_secs(60),
            || {
                let (status, lines) = ours();
                status == Some(2) && mark(&lines, "endpoint", endpoint) == "bad"
            },
        );
        app.switch(json!({switch: !broken}));
    }
}
