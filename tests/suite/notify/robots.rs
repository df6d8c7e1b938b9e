//! What the group robots, SMS services and pagers do beside the common cases: codes, signatures,
//! limits.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use nightbell::notify::{NotifyError, Reason};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{NINE, Notification, alert, all_resolved, build, firing, notification, try_build};
use crate::servers::http_sink::{HttpSink, Reply};

const DINGTALK: &str = "url: '{url}/robot/send', access_token: t, secret: SECdemo";
const WECOM: &str = "url: '{url}/send', key: t";
const FEISHU: &str = "url: '{url}/hook/t', secret: demo";
const TWILIO: &str = "provider: twilio, api_url: '{url}', account_sid: AC1, auth_token: t, from: '+1', to: ['+2', '+3']";
const ALIYUN: &str = "provider: aliyun, api_url: '{url}', access_key_id: AK1, access_key_secret: s, sign_name: 值班, template_code: SMS_1, to: '138'";
const TELEGRAM: &str = "bot_token: t, chat_id: 5, api_url: '{url}'";

async fn attempt(
    name: &str,
    keys: &str,
    sink: &HttpSink,
    notification: &Notification,
) -> Result<(), NotifyError> {
    build(
        name,
        &format!("receiver: {{{}}}", keys.replace("{url}", &sink.url)),
    )
    .notify(notification)
    .await
}

fn body(sink: &HttpSink) -> Value {
    serde_json::from_str(&sink.last().body).expect("JSON")
}

fn query(path: &str, name: &str) -> String {
    let url = url::Url::parse(&format!("http://x{path}")).expect("a path");
    url.query_pairs()
        .find(|(n, _)| n == name)
        .map(|(_, v)| v.into_owned())
        .unwrap_or_default()
}

fn hmac(key: &str, message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any key");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Fifty alerts whose texts are long, Chinese and full of quotes.
fn flood() -> Notification {
    let mut one = alert("db");
    one.annotations[0].1 = "\"磁盘\"\n".repeat(2000);
    notification(vec![one; 50])
}

/// SEMANTICS 217, 221, 223, 226-228, 184: HTTP 200 proves nothing; each service's own code decides.
#[tokio::test]
async fn the_services_own_code_decides() {
    let permanent = |reason| Some((reason, false));
    let later = |reason| Some((reason, true));
    for (name, keys, status, answer, wanted) in [
        ("dingtalk", DINGTALK, 200, r#"{"errcode":0}"#, None),
        (
            "dingtalk",
            DINGTALK,
            200,
            r#"{"errcode":310000,"errmsg":"sign not match"}"#,
            permanent(Reason::Auth),
        ),
        (
            "dingtalk",
            DINGTALK,
            200,
            r#"{"errcode":130101}"#,
            later(Reason::RateLimited),
        ),
        (
            "dingtalk",
            DINGTALK,
            200,
            r#"{"errcode":300001}"#,
            permanent(Reason::Auth),
        ),
        (
            "dingtalk",
            DINGTALK,
            200,
            r#"{"errcode":40035}"#,
            permanent(Reason::Rejected),
        ),
        (
            "dingtalk",
            DINGTALK,
            200,
            r#"{"errcode":-1}"#,
            later(Reason::ServerError),
        ),
        (
            "dingtalk",
            DINGTALK,
            200,
            r#"{"status":1111,"punish":"deny"}"#,
            later(Reason::InvalidResponse),
        ),
        (
            "dingtalk",
            DINGTALK,
            200,
            "<html>blocked</html>",
            later(Reason::InvalidResponse),
        ),
        (
            "dingtalk",
            DINGTALK,
            200,
            "",
            later(Reason::InvalidResponse),
        ),
        (
            "wecom",
            WECOM,
            200,
            r#"{"errcode":93000}"#,
            permanent(Reason::Auth),
        ),
        (
            "wecom",
            WECOM,
            200,
            r#"{"errcode":40058}"#,
            permanent(Reason::Rejected),
        ),
        (
            "wecom",
            WECOM,
            200,
            r#"{"errcode":45009}"#,
            later(Reason::RateLimited),
        ),
        ("feishu", FEISHU, 200, r#"{"code":0}"#, None),
        (
            "feishu",
            FEISHU,
            200,
            r#"{"code":19021,"StatusCode":0}"#,
            permanent(Reason::Auth),
        ),
        (
            "feishu",
            FEISHU,
            200,
            r#"{"code":9499}"#,
            permanent(Reason::Rejected),
        ),
        (
            "feishu",
            FEISHU,
            200,
            r#"{"code":11232}"#,
            later(Reason::RateLimited),
        ),
        (
            "sms",
            TWILIO,
            201,
            r#"{"sid":"SM","status":"accepted"}"#,
            None,
        ),
        (
            "sms",
            TWILIO,
            201,
            r#"{"sid":"SM","status":"failed"}"#,
            permanent(Reason::Rejected),
        ),
        ("sms", TWILIO, 200, "{}", later(Reason::InvalidResponse)),
        (
            "sms",
            TWILIO,
            400,
            r#"{"code":21211}"#,
            permanent(Reason::Rejected),
        ),
        (
            "sms",
            TWILIO,
            401,
            r#"{"code":20003}"#,
            permanent(Reason::Auth),
        ),
        (
            "sms",
            TWILIO,
            429,
            r#"{"code":20429}"#,
            later(Reason::RateLimited),
        ),
        ("sms", ALIYUN, 200, r#"{"Code":"OK"}"#, None),
        (
            "sms",
            ALIYUN,
            200,
            r#"{"Code":"isv.BUSINESS_LIMIT_CONTROL"}"#,
            later(Reason::RateLimited),
        ),
        (
            "sms",
            ALIYUN,
            200,
            r#"{"Code":"isv.AMOUNT_NOT_ENOUGH"}"#,
            permanent(Reason::Rejected),
        ),
        (
            "sms",
            ALIYUN,
            400,
            r#"{"Code":"SignatureDoesNotMatch"}"#,
            permanent(Reason::Auth),
        ),
        ("sms", ALIYUN, 200, "{}", later(Reason::InvalidResponse)),
        (
            "telegram",
            TELEGRAM,
            200,
            r#"{"ok":false}"#,
            later(Reason::InvalidResponse),
        ),
        (
            "telegram",
            TELEGRAM,
            400,
            r#"{"ok":false,"error_code":400}"#,
            later(Reason::Rejected),
        ),
        (
            "pagerduty",
            "service_key: k, url: '{url}'",
            403,
            "",
            later(Reason::RateLimited),
        ),
        (
            "msteams",
            "webhook_url: '{url}'",
            200,
            "Webhook message delivery failed: HTTP error 429",
            later(Reason::RateLimited),
        ),
        (
            "msteams",
            "webhook_url: '{url}'",
            200,
            "Bad payload",
            permanent(Reason::Rejected),
        ),
    ] {
        let sink = HttpSink::start([Reply::Answer(status, "", answer)]);
        let outcome = attempt(name, keys, &sink, &firing()).await;
        assert_eq!(
            outcome.err().map(|e| (e.reason, e.retryable)),
            wanted,
            "{name} {status} {answer}"
        );
    }
}

#[tokio::test]
async fn waits_that_stand_in_the_body_are_honoured() {
    let sink = HttpSink::start([Reply::Answer(
        429,
        "",
        r#"{"ok":false,"error_code":429,"parameters":{"retry_after":5}}"#,
    )]);
    let error = attempt("telegram", TELEGRAM, &sink, &firing())
        .await
        .expect_err("429");
    assert_eq!(
        (error.reason, error.retry_after.map(|w| w.as_secs())),
        (Reason::RateLimited, Some(5))
    );
    let sink = HttpSink::start([Reply::Answer(200, "", r#"{"errcode":130101}"#)]);
    let error = attempt("dingtalk", DINGTALK, &sink, &firing())
        .await
        .expect_err("too many");
    assert_eq!(error.retry_after.map(|w| w.as_secs()), Some(600));
}

/// SEMANTICS 219 and 225 on the wire, computed here once more.
#[tokio::test]
async fn dingtalk_and_feishu_sign_with_the_present_time() {
    let now = || {
        std::time::UNIX_EPOCH
            .elapsed()
            .expect("after 1970")
            .as_secs()
    };
    let base64 = |bytes: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
    let sink = HttpSink::start([Reply::Answer(200, "", r#"{"errcode":0}"#)]);
    attempt("dingtalk", DINGTALK, &sink, &firing())
        .await
        .expect("accepted");
    let path = sink.last().path;
    let timestamp = query(&path, "timestamp");
    assert_eq!(query(&path, "access_token"), "t");
    assert_eq!(
        query(&path, "sign"),
        base64(hmac("SECdemo", &format!("{timestamp}\nSECdemo")))
    );
    assert!(now().abs_diff(timestamp.parse::<u64>().expect("a number") / 1000) < 60);

    let sink = HttpSink::start([Reply::Answer(200, "", r#"{"code":0}"#)]);
    attempt("feishu", FEISHU, &sink, &firing())
        .await
        .expect("accepted");
    let body = body(&sink);
    let timestamp = body["timestamp"].as_str().expect("a string");
    assert_eq!(
        body["sign"].as_str(),
        Some(base64(hmac(&format!("{timestamp}\ndemo"), "")).as_str())
    );
    assert!(now().abs_diff(timestamp.parse().expect("a number")) < 60);
}

/// SEMANTICS 229 on the wire: the server's side of the signature, from what arrived.
#[tokio::test]
async fn aliyun_verifies_the_signature_of_what_arrives() {
    let sink = HttpSink::start([Reply::Answer(200, "", r#"{"Code":"OK"}"#)]);
    attempt("sms", ALIYUN, &sink, &firing())
        .await
        .expect("accepted");
    let request = sink.last();
    let authorization = &request.headers["authorization"];
    let names = authorization
        .split("SignedHeaders=")
        .nth(1)
        .and_then(|t| t.split(',').next())
        .expect("names");
    let lines: String = names
        .split(';')
        .map(|name| format!("{name}:{}\n", request.headers[name]))
        .collect();
    let query = request.path.split_once('?').expect("a query").1;
    let canonical = format!(
        "{}\n/\n{query}\n{lines}\n{names}\n{}",
        request.method,
        hex(&Sha256::digest(&request.body))
    );
    let signature = hex(&hmac(
        "s",
        &format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(canonical))),
    ));
    assert_eq!(
        authorization,
        &format!("ACS3-HMAC-SHA256 Credential=AK1,SignedHeaders={names},Signature={signature}")
    );
}

/// Limits are bytes of UTF-8 (SEMANTICS 217-226, 182-186); what is cut is counted; JSON and markup
/// stay whole.
#[tokio::test]
async fn every_limit_is_respected() {
    type Part = fn(&Value) -> &Value;
    type Case = (&'static str, &'static str, usize, Option<(Part, usize)>);
    let ok = [Reply::Answer(
        200,
        "",
        r#"{"errcode":0,"code":0,"ok":true}"#,
    )];
    let cases: [Case; 8] = [
        ("dingtalk", DINGTALK, 20_000, None),
        (
            "wecom",
            WECOM,
            usize::MAX,
            Some((|b| &b["markdown"]["content"], 4096)),
        ),
        (
            "wecom",
            "url: '{url}', mentions: {critical: [all]}",
            usize::MAX,
            Some((|b| &b["text"]["content"], 2048)),
        ),
        ("feishu", FEISHU, 20_000, None),
        (
            "discord",
            "webhook_url: '{url}'",
            usize::MAX,
            Some((|b| &b["embeds"][0]["description"], 4096)),
        ),
        (
            "opsgenie",
            "api_key: k, api_url: '{url}'",
            usize::MAX,
            Some((|b| &b["description"], 15_000)),
        ),
        ("msteamsv2", "webhook_url: '{url}'", 28 << 10, None),
        ("pagerduty", "routing_key: k, url: '{url}'", 512_000, None),
    ];
    for (name, keys, most, part) in cases {
        let sink = HttpSink::start(ok.clone());
        attempt(name, keys, &sink, &flood())
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let sent = sink.last().body;
        assert!(sent.len() <= most, "{name}: {} bytes", sent.len());
        if let Some((part, most)) = part {
            let length = part(&body(&sink)).as_str().expect("a text").len();
            assert!(
                length <= most && length > most / 3,
                "{name}: {length} of {most} bytes"
            );
        }
        assert!(
            sent.contains("more alert") || sent.contains("left out"),
            "{name} counts what it cut: {sent}"
        );
    }
    let sink = HttpSink::start(ok.clone());
    attempt("telegram", TELEGRAM, &sink, &flood())
        .await
        .expect("accepted");
    let text = body(&sink)["text"].as_str().expect("a text").to_owned();
    assert!(
        (1000..=4096).contains(&text.chars().count())
            && text.matches("<b>").count() == text.matches("</b>").count(),
        "{text}"
    );
}

/// SEMANTICS 220, 223: a robot is never asked for more than its own limit, so it never shuts us
/// out.
#[tokio::test]
async fn the_21st_message_of_a_minute_is_held_back_before_it_is_sent() {
    for (name, keys, most) in [
        ("dingtalk", DINGTALK, 20),
        ("wecom", WECOM, 20),
        ("feishu", FEISHU, 100),
    ] {
        let sink = HttpSink::start([Reply::Answer(200, "", r#"{"errcode":0,"code":0}"#)]);
        let notifier = build(
            name,
            &format!("receiver: {{{}}}", keys.replace("{url}", &sink.url)),
        );
        for _ in 0..most {
            notifier.notify(&all_resolved()).await.expect("accepted");
        }
        let error = notifier
            .notify(&all_resolved())
            .await
            .expect_err("held back");
        assert_eq!((error.reason, error.retryable), (Reason::RateLimited, true));
        assert!(error.retry_after.is_some_and(|w| w.as_secs() <= 60));
        assert_eq!(sink.requests().len(), most);
    }
}

/// One bad number keeps the message from nobody else, and nobody gets it twice.
#[tokio::test]
async fn only_who_has_no_text_message_yet_is_tried_again() {
    let sent = Reply::Answer(201, "", r#"{"sid":"SM","status":"queued"}"#);
    let sink = HttpSink::start([sent.clone(), Reply::Answer(429, "", ""), sent]);
    let notifier = build(
        "sms",
        &format!("receiver: {{{}}}", TWILIO.replace("{url}", &sink.url)),
    );
    let error = notifier
        .notify(&firing())
        .await
        .expect_err("the second is limited");
    assert!(error.retryable);
    notifier.notify(&firing()).await.expect("accepted");
    let to: Vec<String> = sink
        .requests()
        .iter()
        .map(|r| query(&format!("/?{}", r.body), "To"))
        .collect();
    assert_eq!(to, ["+2", "+3", "+3"]);
}

/// SEMANTICS 182, 183: one incident for a group, closed when the group is over; the key is
/// Alertmanager's (its own capture).
#[tokio::test]
async fn an_incident_is_named_as_alertmanager_names_it() {
    let mut captured = firing();
    captured.group_key = "{}:{alertname=\"HighCPU\"}".into();
    let sink = HttpSink::start([Reply::Answer(202, "", "{}")]);
    attempt(
        "pagerduty",
        "routing_key: k, url: '{url}'",
        &sink,
        &captured,
    )
    .await
    .expect("accepted");
    assert_eq!(
        body(&sink)["dedup_key"],
        "9f2a099adf99adbf3e1d24abbd84835468e75b8b96fca010db3f2b763340e4c1"
    );
    assert_eq!(body(&sink)["event_action"], "trigger");
    attempt(
        "pagerduty",
        "service_key: k, url: '{url}'",
        &sink,
        &all_resolved(),
    )
    .await
    .expect("accepted");
    assert_eq!(body(&sink)["event_type"], "resolve");
}

#[test]
fn mistakes_are_found_before_anything_is_sent() {
    assert_eq!(NINE % 1000, 0);
    for (name, keys, wanted) in [
        ("dingtalk", "secret: x", "has neither access_token nor url"),
        ("wecom", "text: x", "has neither key nor url"),
        ("feishu", "text: x", "has neither url nor url_file"),
        ("sms", "provider: pigeon, to: '+1'", "give twilio or aliyun"),
        (
            "sms",
            "provider: twilio, account_sid: a, auth_token: b, to: '+1'",
            "needs one of from and messaging_service_sid",
        ),
        (
            "sms",
            "provider: aliyun, to: '+1'",
            "\"template_code\" is missing",
        ),
        (
            "pagerduty",
            "url: 'http://x'",
            "has neither routing_key nor service_key",
        ),
        (
            "telegram",
            "bot_token: t, chat_id: me",
            "is not the number of a chat",
        ),
        (
            "telegram",
            "bot_token: t, chat_id: 1, parse_mode: TeX",
            "is not known to Telegram",
        ),
        ("discord", "title: x", "has neither webhook_url"),
        ("msteams", "title: x", "has neither webhook_url"),
        ("msteamsv2", "title: x", "has neither webhook_url"),
        ("opsgenie", "api_url: 'http://x'", "has no usable api_key"),
        (
            "opsgenie",
            "api_key: k, responders: [{name: a}]",
            "has no type",
        ),
    ] {
        let Err(error) = try_build(name, &format!("receiver: {{{keys}}}")) else {
            panic!("{name} {keys} is accepted")
        };
        assert!(error.to_string().contains(wanted), "{name}: {error}");
    }
}

/// @mentions by severity: who is named for a severity is called by its firing alerts, nobody by
/// another one's or by an end.
#[tokio::test]
async fn people_are_called_by_the_severity_of_what_fires() {
    let mentions = "mentions: {critical: [all], warning: ['13800000000', zhang]}";
    for (name, keys) in [("dingtalk", DINGTALK), ("wecom", WECOM), ("feishu", FEISHU)] {
        for (severity, all, zhang) in [
            ("critical", true, false),
            ("warning", false, true),
            ("info", false, false),
        ] {
            let mut one = alert("db1");
            one.labels.retain(|(label, _)| label != "severity");
            one.labels.push(("severity".into(), severity.into()));
            let over = all_resolved();
            for (message, fires) in [(notification(vec![one]), true), (over, false)] {
                let sink = HttpSink::start([Reply::Answer(200, "", r#"{"errcode":0,"code":0}"#)]);
                attempt(name, &format!("{keys}, {mentions}"), &sink, &message)
                    .await
                    .expect("accepted");
                let sent = sink.last().body;
                let calls_all = [
                    "\"isAtAll\":true",
                    "@all",
                    "id=all",
                    "user_id=\\\"all\\\"",
                    "\"user_id\":\"all\"",
                ]
                .iter()
                .any(|sign| sent.contains(sign));
                assert_eq!(
                    (calls_all, sent.contains("zhang")),
                    (all && fires, zhang && fires),
                    "{name} {severity}: {sent}"
                );
            }
        }
    }
}
