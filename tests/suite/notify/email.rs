//! E-mail against a real SMTP server, each mail parsed back by Python's email package
//! (SEMANTICS 181).

use nightbell::notify::{NotifyError, Reason};
use serde_json::{Value, json};

use super::{SECRET, all_resolved, build, firing, golden, try_build, with_series};
use crate::servers::free_port;
use crate::servers::smtp::{Certificate, Smtp};

/// A receiver for the server on `port`, with more keys.
fn yaml(port: u16, keys: &str) -> String {
    format!(
        "receiver: {{smarthost: '127.0.0.1:{port}', from: 'Nightbell <bell@example.org>', to: ops@example.org, {keys}}}"
    )
}

fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    let headers = mail["headers"].as_array().expect("headers");
    headers
        .iter()
        .find(|h| h[0].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)))
        .and_then(|h| h[1].as_str())
        .unwrap_or("")
}

async fn failure(yaml: &str) -> NotifyError {
    let error = build("email", yaml)
        .notify(&firing())
        .await
        .expect_err("it fails");
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
    error
}

/// Text and HTML, in English and in Chinese, survive the way through SMTP and MIME.
#[tokio::test]
async fn a_mail_arrives_with_text_and_html_in_both_languages() {
    let server = Smtp::start(&json!({}));
    for (language, case) in [("en", "en"), ("zh, timezone: Asia/Shanghai", "zh")] {
        let notifier = build(
            "email",
            &yaml(
                server.port,
                &format!("require_tls: false, language: {language}"),
            ),
        );
        for (state, notification) in [("firing", firing()), ("resolved", all_resolved())] {
            notifier.notify(&notification).await.expect("accepted");
            let mail = server.mail();
            assert_eq!(mail["type"], "multipart/alternative");
            assert_eq!(mail["defects"], json!([]));
            let types: Vec<&str> = mail["parts"]
                .as_array()
                .expect("parts")
                .iter()
                .filter_map(|p| p["type"].as_str())
                .collect();
            assert_eq!(types, ["text/plain", "text/html"]);
            for (index, extension) in [(0, "txt"), (1, "html")] {
                golden(
                    "email",
                    &format!("{state}.{case}.{extension}"),
                    mail["parts"][index]["text"].as_str().expect("text"),
                );
            }
        }
    }
}

/// Item 7: the picture of the last hour stands inside the mail, named by the document that shows
/// it.
#[tokio::test]
async fn a_mail_shows_the_picture_of_an_alert_that_has_one() {
    let server = Smtp::start(&json!({}));
    let notification = with_series();
    build("email", &yaml(server.port, "require_tls: false"))
        .notify(&notification)
        .await
        .expect("accepted");
    let mail = server.mail();
    assert_eq!(
        (&mail["type"], &mail["defects"]),
        (&json!("multipart/alternative"), &json!([]))
    );
    let types: Vec<&str> = mail["parts"]
        .as_array()
        .expect("parts")
        .iter()
        .filter_map(|p| p["type"].as_str())
        .collect();
    assert_eq!(types, ["text/plain", "text/html", "image/png"]);
    let id = format!("picture-{}@nightbell", notification.alerts[0].fingerprint);
    assert_eq!(mail["parts"][2]["id"], format!("<{id}>"));
    assert!(
        mail["parts"][1]["text"]
            .as_str()
            .expect("text")
            .contains(&format!("<img src=\"cid:{id}\""))
    );
    let size = mail["parts"][2]["size"].as_u64().expect("a size");
    assert!((500..30_000).contains(&size), "{size}");
}

/// The headers of a mail: one thread for a group and a day, one Message-ID for a delivery, no
/// answers from holiday robots.
#[tokio::test]
async fn headers_name_thread_and_delivery() {
    let server = Smtp::start(&json!({}));
    let notifier = build(
        "email",
        &yaml(
            server.port,
            "require_tls: false, hello: bell.example.org, headers: {Reply-To: 值班@example.org, X-Team: 'a\r\nBcc: b'}",
        ),
    );
    notifier.notify(&firing()).await.expect("accepted");
    notifier.notify(&firing()).await.expect("accepted");
    let (first, second) = (server.mail(), server.mail());
    assert_eq!(
        header(&first, "Subject"),
        "[FIRING:2] DiskFull (/data critical)"
    );
    assert_eq!(header(&first, "From"), "Nightbell <bell@example.org>");
    assert_eq!(header(&first, "To"), "ops@example.org");
    assert_eq!(header(&first, "Message-ID"), "<01JD-7F3A@example.org>");
    assert_eq!(header(&second, "Message-ID"), header(&first, "Message-ID"));
    assert_eq!(header(&first, "Date"), "Sat, 21 Nov 2026 09:06:00 +0000");
    assert_eq!(header(&first, "References"), header(&first, "In-Reply-To"));
    assert!(
        header(&first, "References").starts_with("<alert-"),
        "{first}"
    );
    assert!(
        header(&first, "References").ends_with("-2026-11-21@nightbell>"),
        "{first}"
    );
    assert_eq!(header(&first, "Auto-Submitted"), "auto-generated");
    assert!(header(&first, "Reply-To").contains("值班"), "{first}");
    assert_eq!(header(&first, "X-Team"), "a Bcc: b");
    assert_eq!(header(&first, "Bcc"), "");
    assert_eq!(first["hello"], "bell.example.org");
}

#[tokio::test]
async fn several_recipients_come_as_text_or_as_a_list() {
    let server = Smtp::start(&json!({}));
    for to in [
        "'a@example.org, B <b@example.org>'",
        "[a@example.org, 'B <b@example.org>']",
    ] {
        let yaml = yaml(server.port, "require_tls: false")
            .replace("to: ops@example.org", &format!("to: {to}"));
        build("email", &yaml)
            .notify(&firing())
            .await
            .expect("accepted");
        let mail = server.mail();
        assert_eq!(mail["to"], json!(["a@example.org", "b@example.org"]));
        assert_eq!(header(&mail, "To"), "a@example.org, B <b@example.org>");
    }
}

/// SEMANTICS 181: STARTTLS by default, with a certificate that must be right.
#[tokio::test]
async fn starttls_is_required_and_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = Certificate::make(folder.path());
    let server = Smtp::start(&certificate.options("starttls"));
    let trusted = format!("tls_config: {{ca_file: '{}'}}", certificate.cert.display());
    build("email", &yaml(server.port, &trusted))
        .notify(&firing())
        .await
        .expect("accepted");
    assert_eq!(server.mail()["tls"], true);
    build(
        "email",
        &yaml(server.port, "tls_config: {insecure_skip_verify: true}"),
    )
    .notify(&firing())
    .await
    .expect("accepted");
    assert_eq!(server.mail()["tls"], true);
    let error = failure(&yaml(server.port, "")).await;
    assert_eq!(
        (error.reason, error.retryable),
        (Reason::Unreachable, true),
        "{error}"
    );
    assert!(error.to_string().contains("certificate"), "{error}");
    let wrong_name = format!(
        "tls_config: {{ca_file: '{}', server_name: other.example.org}}",
        certificate.cert.display()
    );
    assert!(
        failure(&yaml(server.port, &wrong_name))
            .await
            .to_string()
            .contains("certificate")
    );
    let plain = Smtp::start(&json!({}));
    let error = failure(&yaml(plain.port, "")).await;
    assert_eq!(
        error.to_string(),
        "smtp: STARTTLS is required (require_tls) but not offered"
    );
    assert!(error.retryable && !plain.has_mail());
}

#[tokio::test]
async fn implicit_tls_speaks_tls_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = Certificate::make(folder.path());
    let server = Smtp::start(&certificate.options("tls"));
    let keys = format!(
        "force_implicit_tls: true, tls_config: {{ca_file: '{}'}}",
        certificate.cert.display()
    );
    build("email", &yaml(server.port, &keys))
        .notify(&firing())
        .await
        .expect("accepted");
    assert_eq!(server.mail()["tls"], true);
}

/// Every way to log in, over TLS; and the password never leaves in the clear to another machine.
#[tokio::test]
async fn logging_in_works_by_each_mechanism() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = Certificate::make(folder.path());
    for (mechanism, key) in [
        ("PLAIN", "auth_password"),
        ("LOGIN", "auth_password"),
        ("CRAM-MD5", "auth_secret"),
    ] {
        let mut options = certificate.options("starttls");
        options["user"] = "bell".into();
        options["password"] = SECRET.into();
        options["mechanisms"] = json!([mechanism]);
        let server = Smtp::start(&options);
        let keys = |password: &str| {
            format!(
                "auth_username: bell, {key}: {password}, tls_config: {{ca_file: '{}'}}",
                certificate.cert.display()
            )
        };
        build("email", &yaml(server.port, &keys(SECRET)))
            .notify(&firing())
            .await
            .unwrap_or_else(|e| panic!("{mechanism}: {e}"));
        assert_eq!(server.mail()["login"], format!("{mechanism} bell"));
        let error = failure(&yaml(server.port, &keys("s3cr3t-T0KEN-wrong"))).await;
        assert_eq!(
            (error.reason, error.retryable),
            (Reason::Auth, true),
            "{mechanism}: {error}"
        );
        assert!(!server.has_mail());
    }
}

/// A server that wants a login and gets none says so.
#[tokio::test]
async fn a_missing_login_is_an_auth_error() {
    let server = Smtp::start(&json!({"user": "bell", "password": SECRET}));
    let error = failure(&yaml(server.port, "require_tls: false")).await;
    assert_eq!(error.reason, Reason::Auth, "{error}");
}

/// One bad address keeps the mail from nobody else, and nobody gets it twice.
#[tokio::test]
async fn a_refused_recipient_does_not_keep_the_mail_from_the_others() {
    let server = Smtp::start(&json!({"busy": ["slow@example.org"]}));
    let yaml = yaml(server.port, "require_tls: false").replace(
        "to: ops@example.org",
        "to: 'a@example.org, slow@example.org'",
    );
    let notifier = build("email", &yaml);
    let error = notifier.notify(&firing()).await.expect_err("one is busy");
    assert_eq!((error.reason, error.retryable), (Reason::Rejected, true));
    assert!(
        error
            .to_string()
            .starts_with("1 of 2 recipients refused: smtp: RCPT: "),
        "{error}"
    );
    assert_eq!(server.mail()["to"], json!(["a@example.org"]));
    notifier.notify(&firing()).await.expect("accepted");
    assert_eq!(server.mail()["to"], json!(["slow@example.org"]));
    assert!(!server.has_mail());
}

#[tokio::test]
async fn a_mailbox_that_does_not_exist_is_named_by_the_servers_code() {
    let server = Smtp::start(&json!({"refuse": ["ops@example.org"]}));
    let error = failure(&yaml(server.port, "require_tls: false")).await;
    assert_eq!(error.reason, Reason::Rejected);
    assert!(error.to_string().contains("550"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_is_tried_again() {
    let error = failure(&yaml(free_port(), "require_tls: false")).await;
    assert_eq!(
        (error.reason, error.retryable),
        (Reason::Unreachable, true),
        "{error}"
    );
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port();
    let error = failure(&yaml(port, "require_tls: false, timeout: 200ms")).await;
    assert_eq!(
        (error.reason, error.retryable),
        (Reason::Timeout, true),
        "{error}"
    );
}

/// Alertmanager's `global` block serves every receiver.
#[tokio::test]
async fn global_settings_stand_in_for_the_receivers_own() {
    let server = Smtp::start(&json!({"user": "bell", "password": SECRET}));
    let yaml = format!(
        "global: {{smtp_smarthost: 'localhost:{}', smtp_from: bell@example.org, smtp_hello: h.example.org, smtp_auth_username: bell, \
         smtp_auth_password: {SECRET}, smtp_require_tls: false, language: zh}}\nreceiver: {{to: ops@example.org}}",
        server.port
    );
    build("email", &yaml)
        .notify(&firing())
        .await
        .expect("accepted");
    let mail = server.mail();
    assert_eq!(
        (&mail["hello"], &mail["from"]),
        (&json!("h.example.org"), &json!("bell@example.org"))
    );
    assert!(
        mail["parts"][0]["text"]
            .as_str()
            .is_some_and(|t| t.contains("级别：严重 (critical)")),
        "{mail}"
    );
}

/// `html: ''` leaves the HTML part out, own texts replace the built-in ones.
#[tokio::test]
async fn own_texts_replace_the_built_in_ones() {
    let server = Smtp::start(&json!({}));
    build(
        "email",
        &yaml(
            server.port,
            "require_tls: false, html: '', text: only this, headers: {subject: Mine}",
        ),
    )
    .notify(&firing())
    .await
    .expect("accepted");
    let mail = server.mail();
    assert_eq!(header(&mail, "Subject"), "Mine");
    assert_eq!(
        mail["parts"],
        json!([{"type": "text/plain", "text": "only this"}])
    );
}

#[test]
fn mistakes_are_found_before_anything_is_sent() {
    for (yaml, wanted) in [
        ("receiver: {to: a@b.c, from: d@e.f}", "has no SMTP server"),
        (
            "receiver: {to: a@b.c, from: d@e.f, smarthost: nowhere}",
            "is not of the form host:port",
        ),
        (
            "receiver: {to: nobody, from: d@e.f, smarthost: 'h:25'}",
            "is not an address",
        ),
        (
            "receiver: {from: d@e.f, smarthost: 'h:25'}",
            "has no recipient",
        ),
        ("receiver: {to: a@b.c, smarthost: 'h:25'}", "has no sender"),
        (
            "receiver: {to: a@b.c, from: d@e.f, smarthost: 'h:25', headers: {subject: a, Subject: b}}",
            "stands there twice",
        ),
        (
            "receiver: {to: a@b.c, from: d@e.f, smarthost: 'h:25', tls_config: {ca: nonsense, cert: x}}",
            "needs its key",
        ),
    ] {
        let Err(error) = try_build("email", yaml) else {
            panic!("{yaml} is accepted")
        };
        assert!(error.to_string().contains(wanted), "{yaml}: {error}");
    }
}
