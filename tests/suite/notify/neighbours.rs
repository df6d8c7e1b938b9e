//! Neighbours of what was once found wrong: older mail servers, foreign addresses, chats that move,
//! slow services, keywords, files of secrets.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nightbell::notify::{Notification, Notifier, Reason};
use serde_json::Value;

use super::{alert, build, firing, notification};
use crate::servers::http_sink::{HttpSink, Reply};

const OK: Reply = Reply::Answer(
    200,
    "",
    r#"{"ok":true,"code":0,"errcode":0,"status":"success"}"#,
);

/// A mail server that answers each line by `answer`, after a greeting; gives what it was notified
/// in each connection.
fn mail_server(answer: fn(&str) -> &'static str) -> (u16, Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, notified) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().expect("a second handle");
                let mut said = Vec::new();
                let mut in_data = false;
                let _ = writer.write_all(b"220 old.example.org ready\r\n");
                for line in BufReader::new(stream).lines() {
                    let Ok(line) = line else { break };
                    if in_data {
                        in_data = line != ".";
                        if !in_data {
                            let _ = writer.write_all(b"250 taken\r\n");
                        }
                        continue;
                    }
                    let reply = answer(&line);
                    in_data = reply.starts_with("354");
                    said.push(line);
                    if writer.write_all(format!("{reply}\r\n").as_bytes()).is_err()
                        || reply.starts_with("221")
                    {
                        break;
                    }
                }
                let _ = tell.send(said);
            });
        }
    });
    (port, notified)
}

fn mail(port: u16, keys: &str) -> Box<dyn Notifier> {
    build(
        "email",
        &format!(
            "receiver: {{smarthost: '127.0.0.1:{port}', from: bell@example.org, hello: me.test, require_tls: false, {keys}}}"
        ),
    )
}

fn conversation(notified: &Receiver<Vec<String>>) -> Vec<String> {
    notified
        .recv_timeout(Duration::from_secs(90))
        .expect("a conversation")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_knows_no_ehlo_is_greeted_the_older_way() {
    let (port, notified) = mail_server(|line| match line.split(' ').next().unwrap_or("") {
        "EHLO" => "502 5.5.1 not implemented",
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "250 old.example.org",
    });
    mail(port, "to: ops@example.org")
        .notify(&firing())
        .await
        .expect("delivered");
    let all = [conversation(&notified), conversation(&notified)].concat();
    let commands: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|line| !line.starts_with("QUIT"))
        .collect();
    assert_eq!(
        commands,
        [
            "EHLO me.test",
            "HELO me.test",
            "MAIL FROM:<bell@example.org>",
            "RCPT TO:<ops@example.org>",
            "DATA"
        ]
    );
    let strict = build(
        "email",
        &format!("receiver: {{smarthost: '127.0.0.1:{port}', from: a@b.c, to: d@e.f}}"),
    );
    let error = strict
        .notify(&firing())
        .await
        .expect_err("nothing is sent without TLS")
        .to_string();
    assert!(error.contains("STARTTLS is required"), "{error}");
}

/// A domain has a form that every server knows; a name before the `@` that is not ASCII has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_domains_go_out_in_ascii_and_foreign_names_only_where_they_may() {
    let (port, notified) = mail_server(|line| match line.split(' ').next().unwrap_or("") {
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "250 mx.example.org",
    });
    mail(port, "to: 'ops@bücher.test, jürgen@lab.test'")
        .notify(&firing())
        .await
        .expect("the one who can be notified is notified");
    let said = conversation(&notified);
    assert_eq!(
        said[1..4],
        [
            "MAIL FROM:<bell@example.org>",
            "RCPT TO:<ops@xn--bcher-kva.test>",
            "DATA"
        ]
    );
    let error = mail(port, "to: jürgen@lab.test")
        .notify(&firing())
        .await
        .expect_err("nobody is left");
    assert!(
        !error.retryable
            && error.reason == Reason::Rejected
            && error.to_string().contains("SMTPUTF8"),
        "{error}"
    );
    assert_eq!(
        conversation(&notified).last().map(String::as_str),
        Some("QUIT")
    );

    let (port, notified) = mail_server(|line| match line.split(' ').next().unwrap_or("") {
        "EHLO" => "250-mx.example.org\r\n250 SMTPUTF8",
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "250 ok",
    });
    mail(port, "to: jürgen@bücher.test")
        .notify(&firing())
        .await
        .expect("delivered");
    assert_eq!(
        conversation(&notified)[1..3],
        [
            "MAIL FROM:<bell@example.org> SMTPUTF8",
            "RCPT TO:<jürgen@xn--bcher-kva.test>"
        ]
    );
    mail(port, "to: ops@bücher.test")
        .notify(&firing())
        .await
        .expect("delivered");
    assert_eq!(
        conversation(&notified)[1..3],
        [
            "MAIL FROM:<bell@example.org>",
            "RCPT TO:<ops@xn--bcher-kva.test>"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_is_left_with_a_farewell() {
    for refused in ["MAIL", "RCPT", "DATA"] {
        let answer: fn(&str) -> &'static str = match refused {
            "MAIL" => |line| {
                if line.starts_with("MAIL") {
                    "550 no"
                } else if line == "QUIT" {
                    "221 bye"
                } else {
                    "250 ok"
                }
            },
            "RCPT" => |line| {
                if line.starts_with("RCPT") {
                    "550 no"
                } else if line == "QUIT" {
                    "221 bye"
                } else {
                    "250 ok"
                }
            },
            _ => |line| {
                if line.starts_with("DATA") {
                    "554 no"
                } else if line == "QUIT" {
                    "221 bye"
                } else {
                    "250 ok"
                }
            },
        };
        let (port, notified) = mail_server(answer);
        mail(port, "to: ops@example.org")
            .notify(&firing())
            .await
            .expect_err("refused");
        assert_eq!(
            conversation(&notified).last().map(String::as_str),
            Some("QUIT"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_chat_that_became_a_supergroup_gets_the_message_under_its_new_number() {
    let moved = r#"{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-1001234567890}}"#;
    let sink = HttpSink::start([Reply::Answer(400, "", moved), OK]);
    let chat = build(
        "telegram",
        &format!(
            "receiver: {{bot_token: t, chat_id: -42, api_url: '{}'}}",
            sink.url
        ),
    );
    let ids = || -> Vec<String> {
        let id = |body: &str| {
            serde_json::from_str::<Value>(body).expect("JSON")["chat_id"]
                .as_str()
                .unwrap_or("?")
                .to_owned()
        };
        sink.requests()
            .iter()
            .map(|request| id(&request.body))
            .collect()
    };
    chat.notify(&firing()).await.expect("delivered at once");
    assert_eq!(ids(), ["-42", "-1001234567890"]);
    chat.notify(&firing()).await.expect("delivered");
    assert_eq!(ids(), ["-42", "-1001234567890", "-1001234567890"]);
    // A service that sends on for ever is not followed for ever.
    sink.answer(Reply::Answer(400, "", moved));
    assert!(chat.notify(&firing()).await.expect_err("refused").retryable);
    assert_eq!(ids().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_services_are_asked_once_and_the_last_recipients_are_served() {
    let slow = HttpSink::start([Reply::Late(3000, 200, "{}")]);
    build("webhook", &format!("receiver: {{url: '{}'}}", slow.url))
        .notify(&firing())
        .await
        .expect("it has taken it");
    assert_eq!(slow.requests().len(), 1);
    let api = HttpSink::start([Reply::Late(200, 201, r#"{"sid":"SM","status":"queued"}"#)]);
    let numbers: Vec<String> = (1..=8).map(|n| format!("'+{n}'")).collect();
    let sms = format!(
        "receiver: {{provider: twilio, account_sid: AC1, auth_token: t, from: '+1', to: [{}], timeout: 1s, api_url: '{}'}}",
        numbers.join(", "),
        api.url
    );
    // All of them take longer than the timeout, which is one request's.
    build("sms", &sms)
        .notify(&firing())
        .await
        .expect("all are served");
    let to: Vec<String> = api
        .requests()
        .iter()
        .filter_map(|r| {
            r.body
                .split('&')
                .find(|p| p.starts_with("To="))
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(
        to,
        (1..=8).map(|n| format!("To=%2B{n}")).collect::<Vec<_>>()
    );
}

/// Whatever stands for the configured text, and whatever part of a group it is, the robot finds the
/// word it wants.
#[tokio::test]
async fn the_keyword_stands_in_digests_parts_and_what_replaces_a_failed_template() {
    let many = notification(
        (0..2500)
            .map(|n| alert(&format!("host-{n}.example.org:9100")))
            .collect(),
    );
    let digest = Notification {
        digest: 150,
        ..firing()
    };
    let part = Notification {
        truncated_alerts: 2400,
        ..firing()
    };
    for (name, keys) in [
        (
            "feishu",
            "title: '生产监控 {{ .CommonLabels.alertname }}', text: '{{ range .Alerts }}{{ .Labels.instance }} {{ end }}'",
        ),
        (
            "feishu",
            "title: '{{ (index .Alerts 9999).Labels.x }}', text: '生产监控 {{ .Status }}'",
        ),
        ("feishu", "keyword: 生产监控"),
        (
            "feishu",
            "keyword: 生产监控, text: '{{ (index .Alerts 9999).Labels.x }}'",
        ),
        (
            "dingtalk",
            "access_token: t, title: 生产监控, text: '生产监控 {{ range .Alerts }}{{ .Labels.instance }} {{ end }}'",
        ),
        (
            "dingtalk",
            "access_token: t, text: '生产监控 {{ (index .Alerts 9999).Labels.x }}'",
        ),
        ("dingtalk", "access_token: t, keyword: 生产监控"),
    ] {
        for (case, message) in [
            ("group", &many),
            ("digest", &digest),
            ("part", &part),
            ("plain", &firing()),
        ] {
            let sink = HttpSink::start([OK]);
            build(name, &format!("receiver: {{url: '{}', {keys}}}", sink.url))
                .notify(message)
                .await
                .expect("accepted");
            assert!(
                sink.last().body.contains("生产监控"),
                "{name} {case} {keys}: {}",
                sink.last().body
            );
        }
    }
}

/// Every file that stands for a secret is read again when it changes, for each kind of receiver
/// that has such a key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_file_of_a_secret_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        (
            "webhook_configs",
            "url: 'URL', http_config: {authorization: {credentials_file: FILE}}",
        ),
        (
            "webhook_configs",
            "url: 'URL', http_config: {basic_auth: {username: u, password_file: FILE}}",
        ),
        (
            "webhook_configs",
            "url: 'URL', http_config: {http_headers: {X-Key: {files: [FILE]}}}",
        ),
        ("webhook_configs", "url_file: FILE"),
        ("slack_configs", "channel: c, api_url_file: FILE"),
        ("discord_configs", "webhook_url_file: FILE"),
        ("pagerduty_configs", "url: 'URL', routing_key_file: FILE"),
        ("pagerduty_configs", "url: 'URL', service_key_file: FILE"),
        ("opsgenie_configs", "api_url: 'URL', api_key_file: FILE"),
        (
            "telegram_configs",
            "api_url: 'URL', chat_id: 1, bot_token_file: FILE",
        ),
    ];
    let written = |file: &Path, word: &str, sink: &HttpSink, is_url: bool| {
        std::fs::write(
            file,
            if is_url {
                format!("{}/{word}", sink.url)
            } else {
                word.to_owned()
            },
        )
        .expect("written");
    };
    for (number, (kind, keys)) in cases.into_iter().enumerate() {
        let sink = HttpSink::start([OK]);
        let (file, is_url) = (
            folder.path().join(number.to_string()),
            keys.contains("url_file"),
        );
        written(&file, "0ld-secret-word", &sink, is_url);
        let keys = keys
            .replace("URL", &sink.url)
            .replace("FILE", &file.display().to_string());
        let config = crate::alerting::read_config(&format!(
            "route: {{receiver: ops}}\nreceivers:\n- name: ops\n  {kind}: [{{{keys}}}]\n"
        ));
        let notifier = config
            .unwrap_or_else(|error| panic!("{keys}: {error}"))
            .receivers[0]
            .integrations[0]
            .notifier
            .clone();
        for word in ["0ld-secret-word", "a-newer-secret-word"] {
            written(&file, word, &sink, is_url);
            // A service that answers otherwise than wanted has been asked all the same.
            let _ = notifier.notify(&firing()).await;
            let asked = sink.last();
            let basic = base64::Engine::encode(
                &base64::engine::general_purpose::STANDARD,
                format!("u:{word}"),
            );
            let said = format!("{} {:?} {}", asked.path, asked.headers, asked.body);
            assert!(
                said.contains(word) || said.contains(&basic),
                "{kind} {keys}: {said}"
            );
        }
    }
}
