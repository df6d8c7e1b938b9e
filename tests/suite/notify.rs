//! Every notifier against a local server on a real socket: golden request, refusals, silence,
//! broken connections, no secret in any error. Golden requests are
//! `tests/notify/<name>/<case>.txt`.

mod email;
mod neighbours;
mod pictures;
mod protocols;
mod robots;
mod slack;
mod templates;
mod webhook;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nightbell::config::{ConfigErrors, Document, Environment, Loader};
use nightbell::model::alert::evidence::Clue;
use nightbell::notify::{
    AlertStatus, NOTIFIERS, Notification, NotifiedAlert, Notifier, NotifyError, Reason,
};

use crate::servers::free_port;
use crate::servers::http_sink::{HttpSink, Reply};

/// Stands in every URL and key of these tests and must never come out in an error.
const SECRET: &str = "s3cr3t-T0KEN";

/// Builds the notifier of a receiver's list `key` from a file with `global` and `receiver`.
pub fn try_build(name: &str, yaml: &str) -> Result<Box<dyn Notifier>, ConfigErrors> {
    let document = Document::parse("notify.yml", yaml).expect("YAML");
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, Path::new("."));
    let kind = NOTIFIERS
        .iter()
        .find(|k| k.name == name)
        .expect("the table lists it");
    let notifier = {
        let root = loader.root();
        let global = root.section("global");
        let section = root.section("receiver").expect("a receiver");
        // The routing reads this one.
        section.node("send_resolved");
        let notifier = (kind.build)(&section, global.as_ref());
        section.finish();
        if let Some(global) = global {
            global.finish();
        }
        root.finish();
        notifier
    };
    loader.finish(notifier)
}

pub fn build(name: &str, yaml: &str) -> Box<dyn Notifier> {
    try_build(name, yaml).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

/// 2026-11-21 09:00:00 UTC.
pub const NINE: i64 = 1_795_251_600_000;

pub fn alert(instance: &str) -> NotifiedAlert {
    NotifiedAlert {
        status: AlertStatus::Firing,
        labels: pairs(&[
            ("alertname", "DiskFull"),
            ("instance", instance),
            ("mountpoint", "/data"),
            ("severity", "critical"),
        ]),
        annotations: pairs(&[
            (
                "description",
                "Less than 5 % of /data is free <now> & here.",
            ),
            ("runbook_url", "https://runbooks.example.org/disk?a=1&b=2"),
            ("summary", "磁盘将满 on the \"data\" volume"),
            ("threshold", "95 %"),
        ]),
        starts_at_ms: NINE + 500,
        ends_at_ms: None,
        generator_url: "http://bell.example.org/graph?g0.expr=disk".into(),
        fingerprint: "e9838f5e00149bed".into(),
        value: Some(96.437),
        peak: None,
        evidence: Vec::new(),
    }
}

fn resolved(instance: &str) -> NotifiedAlert {
    NotifiedAlert {
        status: AlertStatus::Resolved,
        ends_at_ms: Some(NINE + 330_500),
        value: Some(80.0),
        peak: Some(99.25),
        evidence: Vec::new(),
        ..alert(instance)
    }
}

fn notification(alerts: Vec<NotifiedAlert>) -> Notification {
    let common = |list: fn(&NotifiedAlert) -> &[(String, String)]| {
        nightbell::notify::common(alerts.iter().map(list))
    };
    let firing = alerts.iter().any(|a| a.status == AlertStatus::Firing);
    Notification {
        delivery_id: "01JD-7F3A".into(),
        receiver: "ops.mail".into(),
        group_key: "{}:{alertname=\"DiskFull\"}".into(),
        status: if firing {
            AlertStatus::Firing
        } else {
            AlertStatus::Resolved
        },
        stands_in_for: Vec::new(),
        report: None,
        digest: 0,
        truncated_alerts: 0,
        group_labels: pairs(&[("alertname", "DiskFull")]),
        common_labels: common(|a| &a.labels),
        common_annotations: common(|a| &a.annotations),
        external_url: "http://bell.example.org".into(),
        reason: if firing {
            "first notification"
        } else {
            "all alerts resolved"
        }
        .into(),
        at_ms: NINE + 360_500,
        alerts,
    }
}

/// Two alerts in trouble, one over.
pub fn firing() -> Notification {
    notification(vec![
        alert("db1:9100"),
        alert("db2:9100"),
        resolved("db3:9100"),
    ])
}

/// The same, with what the first one's picture is drawn from.
pub fn with_series() -> Notification {
    let mut notification = firing();
    let values = (0..=60).map(|minute| Some(f64::from(minute))).collect();
    notification.alerts[0].evidence = vec![
        Clue::Threshold {
            operator: ">".into(),
            value: Some(50.0),
        },
        Clue::Series {
            from_ms: notification.at_ms - 3_600_000,
            step_ms: 60_000,
            values,
        },
    ];
    notification
}

/// Everything over.
pub fn all_resolved() -> Notification {
    notification(vec![resolved("db1:9100"), resolved("db2:9100")])
}

/// Compares with `tests/notify/<name>/<case>`; `NIGHTBELL_UPDATE=1` writes it.
pub fn golden(name: &str, case: &str, got: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/notify")
        .join(name);
    let path = folder.join(case);
    if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::write(&path, got).expect("the file can be written");
    }
    let want = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; NIGHTBELL_UPDATE=1 writes it", path.display()));
    assert!(
        got == want,
        "{} differs; got:\n{got}\nwant:\n{want}",
        path.display()
    );
}

/// One notifier that speaks HTTP: its name, its configuration with `{url}` for the sink, and what
/// its service answers on success.
struct Service {
    name: &'static str,
    /// Before the names of its golden files, where a notifier speaks to several services.
    case: &'static str,
    yaml: &'static str,
    accepts: Reply,
    /// SEMANTICS 172: Telegram's errors may all be tried again.
    always_retryable: bool,
}

const fn service(
    name: &'static str,
    case: &'static str,
    yaml: &'static str,
    body: &'static str,
) -> Service {
    Service {
        name,
        case,
        yaml,
        accepts: Reply::Answer(200, "", body),
        always_retryable: false,
    }
}

const SERVICES: &[Service] = &[
    service(
        "slack",
        "",
        "receiver: {api_url: '{url}/services/s3cr3t-T0KEN', channel: '#ops', timeout: 2s}",
        "ok",
    ),
    service(
        "webhook",
        "",
        "receiver: {url: '{url}/hook?key=s3cr3t-T0KEN', timeout: 2s}",
        "",
    ),
    service(
        "dingtalk",
        "",
        "receiver: {url: '{url}/robot/send', access_token: s3cr3t-T0KEN, keyword: 值班, mentions: {critical: ['13800000000', zhang, all]}, timeout: 2s, language: zh}",
        r#"{"errcode":0,"errmsg":"ok"}"#,
    ),
    service(
        "wecom",
        "",
        "receiver: {url: '{url}/cgi-bin/webhook/send', key: s3cr3t-T0KEN, mentions: {critical: [zhang]}, timeout: 2s, language: zh}",
        r#"{"errcode":0,"errmsg":"ok"}"#,
    ),
    service(
        "wecom",
        "text.",
        "receiver: {url: '{url}/cgi-bin/webhook/send?key=s3cr3t-T0KEN', mentions: {critical: ['13800000000', zhang, all]}, timeout: 2s}",
        r#"{"errcode":0,"errmsg":"ok"}"#,
    ),
    service(
        "feishu",
        "",
        "receiver: {url: '{url}/open-apis/bot/v2/hook/s3cr3t-T0KEN', mentions: {critical: [ou_1, all]}, timeout: 2s, language: zh}",
        r#"{"code":0,"msg":"success","StatusCode":0}"#,
    ),
    service(
        "sms",
        "twilio.",
        "receiver: {provider: twilio, api_url: '{url}', account_sid: AC1, auth_token: s3cr3t-T0KEN, from: '+15005550006', to: ['+8613800000000'], timeout: 2s}",
        r#"{"sid":"SM1","status":"queued"}"#,
    ),
    service(
        "sms",
        "aliyun.",
        "receiver: {provider: aliyun, api_url: '{url}', access_key_id: AK1, access_key_secret: s3cr3t-T0KEN, sign_name: 值班, template_code: SMS_1, to: '13800000000, 13900000000', timeout: 2s, language: zh}",
        r#"{"Code":"OK","Message":"OK","BizId":"1","RequestId":"2"}"#,
    ),
    service(
        "pagerduty",
        "",
        "receiver: {routing_key: s3cr3t-T0KEN, url: '{url}/v2/enqueue', timeout: 2s}",
        r#"{"status":"success"}"#,
    ),
    Service {
        always_retryable: true,
        ..service(
            "telegram",
            "",
            "receiver: {bot_token: s3cr3t-T0KEN, chat_id: -100123, message_thread_id: 7, api_url: '{url}', timeout: 2s}",
            r#"{"ok":true,"result":{}}"#,
        )
    },
    service(
        "discord",
        "",
        "receiver: {webhook_url: '{url}/api/webhooks/1/s3cr3t-T0KEN', username: bell, timeout: 2s}",
        "",
    ),
    service(
        "msteams",
        "",
        "receiver: {webhook_url: '{url}/webhook/s3cr3t-T0KEN', timeout: 2s}",
        "1",
    ),
    service(
        "msteamsv2",
        "",
        "receiver: {webhook_url: '{url}/workflows/s3cr3t-T0KEN', timeout: 2s}",
        "",
    ),
    service(
        "opsgenie",
        "",
        "receiver: {api_key: s3cr3t-T0KEN, api_url: '{url}/', tags: 'db, disk', responders: [{name: dba, type: team}], priority: P1, timeout: 2s}",
        r#"{"result":"Request will be processed"}"#,
    ),
];

impl Service {
    fn build(&self, url: &str) -> Box<dyn Notifier> {
        build(self.name, &self.yaml.replace("{url}", url))
    }
}

/// The error of one attempt, which must not tell the secret, the address or what the service
/// answered.
async fn failure(service: &Service, url: &str) -> NotifyError {
    let error = service
        .build(url)
        .notify(&firing())
        .await
        .expect_err("it fails");
    let notified = format!("{error} {error:?}");
    for hidden in [SECRET, "127.0.0.1", "http://", "echoed"] {
        assert!(!notified.contains(hidden), "{}: {notified}", service.name);
    }
    error
}

#[test]
fn every_http_notifier_stands_in_these_tests() {
    let tested: Vec<&str> = SERVICES
        .iter()
        .map(|p| p.name)
        .chain(["email", "command"])
        .collect();
    for kind in NOTIFIERS {
        assert!(
            tested.contains(&kind.name),
            "{} has no row in SERVICES",
            kind.name
        );
    }
}

/// D.10: every key that Alertmanager 0.33 documents for a receiver is read, so that its files are
/// valid here.
#[test]
fn every_key_of_alertmanager_is_known() {
    let common = "send_resolved: true, http_config: {follow_redirects: false}";
    for (name, keys) in [
        (
            "webhook",
            "url: 'http://x', max_alerts: 3, timeout: 5s, payload: {a: b}",
        ),
        (
            "slack",
            "api_url: 'http://x', channel: c, username: u, color: c, title: t, title_link: l, pretext: p, text: t, message_text: m, \
             fields: [{title: a, value: b, short: true}], short_fields: true, footer: f, fallback: f, callback_id: c, icon_emoji: e, icon_url: u, \
             image_url: u, thumb_url: u, link_names: true, mrkdwn_in: [text], actions: [{type: button, text: t, url: u, style: s, name: n, \
             value: v, confirm: {text: t, title: t, ok_text: o, dismiss_text: d}}], timeout: 5s",
        ),
        (
            "slack",
            "app_token: t, app_url: 'http://x', channel: c, update_message: true",
        ),
        (
            "pagerduty",
            "routing_key: k, url: 'http://x', client: c, client_url: u, description: d, details: {a: b, c: {d: [e]}}, \
             images: [{href: h, src: s, alt: a}], links: [{href: h, text: t}], source: s, severity: s, class: c, component: c, group: g, timeout: 5s",
        ),
        (
            "opsgenie",
            "api_key: k, api_url: 'http://x', message: m, description: d, source: s, details: {a: b}, entity: e, \
             responders: [{id: i, name: n, username: u, type: team}], actions: 'a,b', tags: 'a,b', note: n, priority: P1, update_alerts: true",
        ),
        (
            "telegram",
            "bot_token: t, api_url: 'http://x', chat_id: 1, message_thread_id: 2, message: m, disable_notifications: true, parse_mode: Markdown",
        ),
        (
            "discord",
            "webhook_url: 'http://x', content: c, title: t, message: m, username: u, avatar_url: a",
        ),
        (
            "msteams",
            "webhook_url: 'http://x', title: t, summary: s, text: t",
        ),
        ("msteamsv2", "webhook_url: 'http://x', title: t, text: t"),
    ] {
        build(name, &format!("receiver: {{{common}, {keys}}}"));
    }
    let email = "to: a@b.c, from: d@e.f, hello: h, smarthost: 'h:25', auth_username: u, auth_password: p, auth_secret: s, auth_identity: i, \
                 headers: {A: b}, html: h, text: t, require_tls: false, force_implicit_tls: false, tls_config: {insecure_skip_verify: true}, \
                 threading: {enabled: true, thread_by_date: none}";
    build(
        "email",
        &format!("receiver: {{send_resolved: true, {email}}}"),
    );
}

/// What depends on the clock is checked by a test of its own.
fn without_clock(request: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some((name @ ("x-acs-date" | "x-acs-signature-nonce"), _)) => format!("{name}: …\n"),
        Some((name @ "authorization", value)) => format!(
            "{name}: {}\n",
            value.split("Signature=").next().unwrap_or("")
        ),
        _ => format!("{line}\n"),
    };
    request.lines().map(line).collect()
}

/// SEMANTICS 179-186: what goes over the wire, for alerts in trouble and for alerts that are over.
#[tokio::test]
async fn requests_are_what_the_service_documents() {
    for service in SERVICES {
        let sink = HttpSink::start([service.accepts.clone()]);
        let notifier = service.build(&sink.url);
        for (case, notification) in [("firing.txt", firing()), ("resolved.txt", all_resolved())] {
            notifier
                .notify(&notification)
                .await
                .unwrap_or_else(|e| panic!("{}: {e}", service.name));
            let request = sink.last();
            assert!(
                request.headers["user-agent"].starts_with("nightbell/"),
                "{}",
                service.name
            );
            golden(
                service.name,
                &format!("{}{case}", service.case),
                &without_clock(&request.golden()),
            );
        }
    }
}

/// SEMANTICS 172: also status 429 with the wait that the service asks for.
#[tokio::test]
async fn refusals_are_classified() {
    let cases = [
        (
            Reply::Answer(429, "retry-after: 7\r\n", "echoed s3cr3t-T0KEN"),
            Reason::RateLimited,
            true,
            Some(7),
        ),
        (Reply::Answer(429, "", ""), Reason::RateLimited, true, None),
        (
            Reply::Answer(500, "", "echoed s3cr3t-T0KEN"),
            Reason::ServerError,
            true,
            None,
        ),
        (
            Reply::Answer(503, "retry-after: 3\r\n", ""),
            Reason::ServerError,
            true,
            Some(3),
        ),
        (
            Reply::Answer(401, "", "echoed s3cr3t-T0KEN"),
            Reason::Auth,
            false,
            None,
        ),
        (
            Reply::Answer(404, "", "echoed s3cr3t-T0KEN"),
            Reason::Rejected,
            false,
            None,
        ),
        (Reply::Silence, Reason::Timeout, true, None),
        (Reply::Reset, Reason::Unreachable, true, None),
    ];
    for service in SERVICES {
        for (reply, reason, retryable, wait) in cases.clone() {
            let sink = HttpSink::start([reply]);
            let error = failure(service, &sink.url).await;
            let got = (error.reason, error.retryable, error.retry_after);
            let wanted = (
                reason,
                retryable || service.always_retryable,
                wait.map(Duration::from_secs),
            );
            assert_eq!(got, wanted, "{}: {error}", service.name);
        }
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_tried_again() {
    for service in SERVICES {
        let error = failure(service, &format!("http://127.0.0.1:{}", free_port())).await;
        assert_eq!(
            (error.reason, error.retryable),
            (Reason::Unreachable, true),
            "{}: {error}",
            service.name
        );
    }
}

/// SEMANTICS 173: `timeout` bounds one attempt, which says nothing of the address; 0 means none of
/// its own.
#[tokio::test]
async fn a_timeout_bounds_one_attempt() {
    for service in SERVICES {
        let sink = HttpSink::start([Reply::Silence]);
        let started = std::time::Instant::now();
        let error = failure(service, &sink.url).await;
        assert_eq!(
            (error.reason, error.retryable),
            (Reason::Timeout, true),
            "{}",
            service.name
        );
        assert!(
            started.elapsed() < Duration::from_secs(8),
            "{}: the default of 10s was taken",
            service.name
        );
    }
    // With 0 it is the default that bounds, and an answer within that is an answer.
    let sink = HttpSink::start([Reply::Answer(200, "", "")]);
    build(
        "webhook",
        &format!("receiver: {{url: '{}', timeout: 0s}}", sink.url),
    )
    .notify(&firing())
    .await
    .expect("accepted");
}

/// SEMANTICS 174: e-mail and Slack hear of ends only when asked to, every other service by default;
/// an action never.
#[test]
fn who_hears_of_ends_is_as_alertmanager_has_it() {
    let silent: Vec<&str> = NOTIFIERS
        .iter()
        .filter(|kind| !kind.send_resolved)
        .map(|kind| kind.name)
        .collect();
    assert_eq!(silent, ["email", "slack", "command"]);
}
