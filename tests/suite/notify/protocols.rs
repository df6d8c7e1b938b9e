//! What services document beside the request itself: what they refuse, what they take amiss, and
//! what they say.

use nightbell::notify::{Notification, Reason};
use serde_json::{Value, json};

use super::{alert, build, firing, notification, try_build};
use crate::servers::http_sink::{HttpSink, Reply};

const OK: Reply = Reply::Answer(200, "", "{}");

async fn sent(name: &str, yaml: &str, reply: Reply, message: &Notification) -> Value {
    let sink = HttpSink::start([reply]);
    build(name, &yaml.replace("{url}", &sink.url))
        .notify(message)
        .await
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_json::from_str(&sink.last().body).expect("JSON")
}

/// An annotation that two alerts do not share prints nothing.
const BLANK: &str = "'{{ .CommonAnnotations.nothing }}'";

#[tokio::test]
async fn a_text_that_prints_nothing_becomes_the_built_in_one() {
    for (name, yaml, at) in [
        (
            "pagerduty",
            "receiver: {routing_key: k, url: '{url}', description: BLANK}",
            "/payload/summary",
        ),
        (
            "pagerduty",
            "receiver: {service_key: k, url: '{url}', description: BLANK}",
            "/description",
        ),
        (
            "opsgenie",
            "receiver: {api_key: k, api_url: '{url}/', message: BLANK}",
            "/message",
        ),
        (
            "discord",
            "receiver: {webhook_url: '{url}', title: BLANK, message: BLANK}",
            "/embeds/0/description",
        ),
        (
            "slack",
            "receiver: {api_url: '{url}', channel: c, title: BLANK, text: BLANK}",
            "/attachments/0/text",
        ),
        (
            "dingtalk",
            "receiver: {url: '{url}', access_token: t, title: BLANK}",
            "/markdown/title",
        ),
        (
            "msteamsv2",
            "receiver: {webhook_url: '{url}', text: BLANK}",
            "/attachments/0/content/body/1/text",
        ),
    ] {
        let reply = if name == "slack" {
            Reply::Answer(200, "", "ok")
        } else {
            Reply::Answer(200, "", r#"{"errcode":0}"#)
        };
        let body = sent(name, &yaml.replace("BLANK", BLANK), reply, &firing()).await;
        let text = body.pointer(at).and_then(Value::as_str).unwrap_or_default();
        assert!(text.contains("DiskFull"), "{name}: {body}");
    }
}

#[tokio::test]
async fn a_severity_that_pagerduty_does_not_know_is_an_error() {
    for (written, wanted) in [("page", "error"), (BLANK, "error"), ("warning", "warning")] {
        let yaml = format!("receiver: {{routing_key: k, url: '{{url}}', severity: {written}}}");
        assert_eq!(
            sent("pagerduty", &yaml, OK, &firing()).await["payload"]["severity"],
            wanted,
            "{written}"
        );
    }
}

#[tokio::test]
async fn links_images_and_responders_are_filtered_and_expanded_as_alertmanager_does() {
    let yaml = format!(
        "receiver: {{routing_key: k, url: '{{url}}', links: [{{href: {BLANK}, text: Runbook}}, {{href: 'http://x'}}], images: [{{src: {BLANK}}}]}}"
    );
    let body = sent("pagerduty", &yaml, OK, &firing()).await;
    assert_eq!(
        (&body["links"], &body["images"]),
        (&json!([{"href": "http://x"}]), &Value::Null)
    );
    let yaml = format!(
        "receiver: {{api_key: k, api_url: '{{url}}/', responders: [{{name: {BLANK}, type: team}}, {{name: 'a, b', type: teams}}, {{name: ops, type: team}}]}}"
    );
    let body = sent("opsgenie", &yaml, OK, &firing()).await;
    let team = |name: &str| json!({"name": name, "type": "team"});
    assert_eq!(
        body["responders"],
        json!([team("a"), team("b"), team("ops")])
    );
}

#[tokio::test]
async fn opsgenie_replaces_message_and_description_where_it_is_asked_to() {
    let sink = HttpSink::start([OK]);
    build(
        "opsgenie",
        &format!(
            "receiver: {{api_key: k, api_url: '{}/', update_alerts: true}}",
            sink.url
        ),
    )
    .notify(&firing())
    .await
    .expect("accepted");
    let requests = sink.requests();
    let lines: Vec<String> = requests
        .iter()
        .map(|r| {
            format!(
                "{} {}",
                r.method,
                r.path.rsplit('/').next().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "POST alerts",
            "PUT message?identifierType=alias",
            "PUT description?identifierType=alias"
        ]
    );
}

#[tokio::test]
async fn discord_calls_whom_the_configuration_names_and_nobody_whom_an_alert_names() {
    let yaml = "receiver: {webhook_url: '{url}', content: '<@&4242> <@7> @here {{ .CommonLabels.alertname }}'}";
    let mut message = firing();
    message
        .common_labels
        .push(("alertname".into(), "<@&666> @everyone".into()));
    let body = sent("discord", yaml, OK, &message).await;
    let content = body["content"].as_str().unwrap_or_default();
    assert!(
        content.contains("@here") && !content.contains("@everyone"),
        "{content}"
    );
    assert_eq!(
        body["allowed_mentions"],
        json!({"parse": ["everyone"], "roles": ["4242"], "users": ["7"]})
    );
    let body = sent("discord", "receiver: {webhook_url: '{url}'}", OK, &firing()).await;
    assert_eq!(body["allowed_mentions"], json!({"parse": []}));
}

#[tokio::test]
async fn a_redirect_that_would_lose_the_body_is_a_failure_and_one_that_keeps_it_is_followed() {
    for status in [301, 302, 303] {
        let sink = HttpSink::start([
            Reply::Answer(
                status,
                "location: https://login.lab.test/in?next=s3cr3t\r\n",
                "",
            ),
            OK,
        ]);
        let error = build("webhook", &format!("receiver: {{url: '{}'}}", sink.url))
            .notify(&firing())
            .await
            .expect_err("not delivered");
        assert_eq!(
            error.to_string(),
            format!(
                "answered {status}: redirected to login.lab.test, which would lose the message"
            )
        );
    }
    let sink = HttpSink::start([Reply::Answer(307, "location: /elsewhere\r\n", ""), OK]);
    build("webhook", &format!("receiver: {{url: '{}'}}", sink.url))
        .notify(&firing())
        .await
        .expect("accepted");
    assert_eq!(
        (sink.last().method.as_str(), sink.last().path.as_str()),
        ("POST", "/elsewhere")
    );
    assert!(sink.last().body.contains("DiskFull"));
}

#[tokio::test]
async fn an_error_says_what_the_service_says_without_secrets() {
    for (name, yaml, status, answer, wanted) in [
        (
            "telegram",
            "receiver: {bot_token: '1234:abcdefgh', chat_id: 1, api_url: '{url}'}",
            400,
            r#"{"ok":false,"description":"Bad Request: can't parse entities at byte offset 7 in bot1234:abcdefgh"}"#,
            "answered 400: Bad Request: can't parse entities at byte offset 7 in <secret>",
        ),
        (
            "pagerduty",
            "receiver: {routing_key: 0123456789abcdef, url: '{url}'}",
            400,
            r#"{"status":"invalid event","message":"Event object is invalid","errors":["'payload.severity' is invalid","0123456789abcdef"]}"#,
            "answered 400: Event object is invalid: 'payload.severity' is invalid; <secret>",
        ),
        (
            "dingtalk",
            "receiver: {url: '{url}', access_token: 0123456789abcdef}",
            200,
            r#"{"errcode":310000,"errmsg":"description:机器人发送签名不匹配;solution:0123456789abcdef"}"#,
            "answered errcode 310000: description:机器人发送签名不匹配;solution:<secret>",
        ),
    ] {
        let sink = HttpSink::start([Reply::Answer(status, "", answer)]);
        let error = build(name, &yaml.replace("{url}", &sink.url))
            .notify(&firing())
            .await
            .expect_err("refused");
        assert_eq!(error.to_string(), wanted, "{name}");
    }
}

#[tokio::test]
async fn too_many_messages_have_more_than_one_code() {
    for (name, yaml, answer) in [
        (
            "wecom",
            "receiver: {url: '{url}', key: k}",
            r#"{"errcode":45033,"errmsg":"api concurrent out of limit"}"#,
        ),
        (
            "feishu",
            "receiver: {url: '{url}'}",
            r#"{"code":9499,"msg":"too many request"}"#,
        ),
    ] {
        let sink = HttpSink::start([Reply::Answer(200, "", answer)]);
        let error = build(name, &yaml.replace("{url}", &sink.url))
            .notify(&firing())
            .await
            .expect_err("refused");
        assert_eq!(
            (error.reason, error.retryable),
            (Reason::RateLimited, true),
            "{name}"
        );
    }
}

/// A robot that wants a keyword in every message gets it in a digest and in the text for a template
/// that failed.
#[tokio::test]
async fn the_words_of_the_configured_texts_stand_in_every_message_to_a_robot() {
    let digest = Notification {
        digest: 150,
        ..firing()
    };
    let ok = Reply::Answer(200, "", r#"{"code":0,"errcode":0}"#);
    let feishu = "receiver: {url: '{url}', title: '生产监控 {{ .CommonLabels.alertname }}', text: '{{ range .Alerts }}x {{ end }}'}";
    assert!(
        sent("feishu", feishu, ok.clone(), &digest)
            .await
            .to_string()
            .contains("生产监控")
    );
    let dingtalk =
        "receiver: {url: '{url}', access_token: t, text: '告警 {{ (index .Alerts 30).Labels.x }}'}";
    assert!(
        sent("dingtalk", dingtalk, ok.clone(), &firing()).await["markdown"]["text"]
            .as_str()
            .is_some_and(|t| t.contains("告警"))
    );
    let keyword = "receiver: {url: '{url}', keyword: 值班}";
    assert!(
        sent("feishu", keyword, ok, &firing())
            .await
            .to_string()
            .contains("值班")
    );
}

#[tokio::test]
async fn durations_with_an_exponent_are_read_as_go_reads_them() {
    let message = notification(vec![alert("db1:9100")]);
    let yaml = r#"receiver: {webhook_url: '{url}', message: '{{ range .Alerts }}{{ (.StartsAt.Add 28800e9).Format "15:04" }} {{ (.StartsAt.Add -3.6e12).Format "15:04" }} {{ (.StartsAt.Truncate 86400e9).Format "15:04" }} {{ (.StartsAt.AddDate 0 1 2).Format "2006-01-02" }}{{ end }}'}"#;
    let body = sent("discord", yaml, OK, &message).await;
    assert_eq!(
        body["embeds"][0]["description"],
        "17:00 08:00 00:00 2026-12-23"
    );
}

/// A receiver that takes its time has acted on the message: it is not sent again.
#[tokio::test]
async fn a_written_timeout_is_honoured_and_the_default_is_minutes() {
    for (name, yaml) in [
        ("webhook", "receiver: {url: 'http://127.0.0.1:9'}"),
        (
            "email",
            "receiver: {to: a@b.c, from: d@e.f, smarthost: 'h:25'}",
        ),
        (
            "webhook",
            "receiver: {url: 'http://127.0.0.1:9', timeout: 20m}",
        ),
    ] {
        let deadline = build(name, yaml).deadline();
        let least = if yaml.contains("20m") { 1200 } else { 300 };
        assert!(deadline.as_secs() > least, "{name}: {deadline:?}");
    }
}

#[test]
fn addresses_are_read_as_alertmanager_reads_them() {
    for to in [
        r#"'"Doe, John" <john@lab.test>'"#,
        "'Team: a@lab.test, b@lab.test;'",
        "'ops@lab.test (on call)'",
        "'ops@[127.0.0.1]'",
        r#"'"a b"@lab.test'"#,
        r#"['"a b"@lab.test', 'ops@lab.test (on call)']"#,
        "'=?utf-8?B?5byg5LiJ?= <z@lab.test>'",
        r#"['"Doe, John" <john@lab.test>', b@lab.test]"#,
    ] {
        if let Err(error) = try_build(
            "email",
            &format!("receiver: {{to: {to}, from: d@e.f, smarthost: 'h:25'}}"),
        ) {
            panic!("{to}: {error}");
        }
    }
}

/// A rotated token is used in the next message, without a reload.
#[tokio::test]
async fn files_of_secrets_are_read_again_when_they_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let sink = HttpSink::start([OK]);
    let (token, key) = (
        file("token", "old-token"),
        file("key", "old-key-of-pagerduty"),
    );
    let yaml = format!(
        "route: {{receiver: ops}}\nreceivers:\n- name: ops\n  webhook_configs: [{{url: '{0}', http_config: {{authorization: \
         {{credentials_file: {token}}}}}}}]\n  pagerduty_configs: [{{routing_key_file: {key}, url: '{0}'}}]\n",
        sink.url
    );
    let config = crate::alerting::read_config(&yaml).expect("valid");
    let said = || {
        sink.last()
            .headers
            .get("authorization")
            .cloned()
            .unwrap_or_else(|| sink.last().body)
    };
    for (wanted, keys) in [("old", "old-key"), ("new", "new-key")] {
        let deliveries: Vec<_> = config.receivers[0]
            .integrations
            .iter()
            .map(|i| i.notifier.clone())
            .collect();
        for notifier in deliveries {
            notifier.notify(&firing()).await.expect("accepted");
            assert!(
                said().contains(&format!("{wanted}-token")) || said().contains(keys),
                "{}",
                said()
            );
        }
        file("token", "new-token-that-is-longer");
        file("key", "new-key-of-pagerduty-too");
    }
}

/// `openssl req -x509` makes an authority that stands for a server: it is trusted where `ca_file`
/// names that very one.
#[tokio::test]
async fn a_mail_server_may_show_the_trusted_certificate_itself() {
    use crate::servers::smtp::{Certificate, Smtp};
    let (folder, other) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let (certificate, stranger) = (
        Certificate::authority(folder.path()),
        Certificate::authority(other.path()),
    );
    for mode in ["starttls", "tls"] {
        let server = Smtp::start(&certificate.options(mode));
        let yaml = |trusted: &Certificate| {
            format!(
                "receiver: {{to: a@b.c, from: d@e.f, smarthost: '127.0.0.1:{}', force_implicit_tls: {}, tls_config: {{ca_file: '{}'}}}}",
                server.port,
                mode == "tls",
                trusted.cert.display()
            )
        };
        build("email", &yaml(&certificate))
            .notify(&firing())
            .await
            .expect("accepted");
        assert_eq!(server.mail()["tls"], true);
        assert!(
            build("email", &yaml(&stranger))
                .notify(&firing())
                .await
                .is_err()
        );
        assert!(!server.has_mail());
    }
}

/// A file that redefines a default template customises the message as if it were written.
#[tokio::test]
async fn a_redefined_default_template_counts_as_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("own.tmpl");
    std::fs::write(
        &path,
        "{{ define \"__subject\" }}MINE {{ .Status }}{{ end }}",
    )
    .expect("written");
    let sink = HttpSink::start([Reply::Answer(200, "", "ok")]);
    let yaml = format!(
        "templates: ['{}']\nroute: {{receiver: ops}}\nreceivers:\n- name: ops\n  slack_configs: [{{api_url: '{}', channel: c}}]\n",
        path.display(),
        sink.url
    );
    let config = crate::alerting::read_config(&yaml).expect("valid");
    config.receivers[0].integrations[0]
        .notifier
        .notify(&firing())
        .await
        .expect("accepted");
    let body: Value = serde_json::from_str(&sink.last().body).expect("JSON");
    assert_eq!(body["attachments"][0]["title"], "MINE firing");
}

#[test]
fn a_webhook_at_a_service_that_needs_another_kind_of_receiver_is_named() {
    for (host, key) in [
        ("hooks.slack.com", "slack_configs"),
        ("oapi.dingtalk.com", "dingtalk_configs"),
        ("open.feishu.cn", "feishu_configs"),
    ] {
        let advice = build(
            "webhook",
            &format!("receiver: {{url: 'https://{host}/x/s3cr3t'}}"),
        )
        .advice()
        .expect("advice");
        assert_eq!(
            advice,
            format!("notify.yml:1: webhook_configs: {host} refuses Alertmanager's JSON; use {key}")
        );
    }
    assert_eq!(
        build(
            "webhook",
            "receiver: {url: 'https://hooks.slack.com/x', payload: {text: hi}}"
        )
        .advice(),
        None
    );
    assert_eq!(
        build("webhook", "receiver: {url: 'https://example.org/x'}").advice(),
        None
    );
}
