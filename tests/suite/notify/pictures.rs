//! The picture of the last hour: an image in WeCom, a file in Slack's thread by bot token, a link
//! elsewhere. It never stops the text.

use base64::Engine as _;
use md5::{Digest as _, Md5};
use nightbell::model::alert::evidence::Clue;
use nightbell::notify::Notification;
use serde_json::Value;

use super::{all_resolved, build, firing, golden, with_series};
use crate::servers::http_sink::{HttpSink, Recorded, Reply};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const OK: &str = r#"{"errcode":0,"errmsg":"ok"}"#;

fn json(request: &Recorded) -> Value {
    serde_json::from_str(&request.body).expect("JSON")
}

fn wecom(sink: &HttpSink, keys: &str) -> Box<dyn nightbell::notify::Notifier> {
    build(
        "wecom",
        &format!("receiver: {{url: '{}/send', key: t{keys}}}", sink.url),
    )
}

/// <https://developer.work.weixin.qq.com/document/path/91770>: base64 of the file, and the MD5 of
/// the file before that; PNG, 2 MB at most.
#[tokio::test]
async fn wecom_gets_the_picture_after_the_text() {
    let sink = HttpSink::start([Reply::Answer(200, "", OK)]);
    wecom(&sink, "")
        .notify(&with_series())
        .await
        .expect("accepted");
    let requests = sink.requests();
    assert_eq!(
        requests
            .iter()
            .map(|r| json(r)["msgtype"].clone())
            .collect::<Vec<_>>(),
        ["markdown", "image"]
    );
    let image = &json(&requests[1])["image"];
    let png = base64::prelude::BASE64_STANDARD
        .decode(image["base64"].as_str().expect("a text"))
        .expect("base64");
    assert!(png.starts_with(PNG) && png.len() < 30_000, "{}", png.len());
    assert_eq!(
        image["md5"],
        Md5::digest(&png)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    );
    let mut shown = requests[1].clone();
    shown.body = shown
        .body
        .replace(image["base64"].as_str().expect("a text"), "…")
        .replace(image["md5"].as_str().expect("a text"), "…");
    golden("wecom", "picture.txt", &shown.golden());
}

/// Twenty messages a minute are the robot's limit: pictures leave half of them to texts.
#[tokio::test]
async fn pictures_leave_a_robots_limit_to_texts() {
    let sink = HttpSink::start([Reply::Answer(200, "", OK)]);
    let robot = wecom(&sink, "");
    for _ in 0..15 {
        robot.notify(&with_series()).await.expect("accepted");
    }
    let kinds: Vec<Value> = sink
        .requests()
        .iter()
        .map(|r| json(r)["msgtype"].clone())
        .collect();
    assert_eq!(
        (
            kinds.len(),
            kinds.iter().filter(|kind| **kind == "image").count()
        ),
        (20, 5),
        "{kinds:?}"
    );
    assert!(
        robot
            .notify(&with_series())
            .await
            .is_err_and(|error| error.retryable)
    );
}

#[tokio::test]
async fn where_there_is_no_picture_or_none_is_wanted_only_the_text_is_sent() {
    let digest = Notification {
        digest: 3,
        ..with_series()
    };
    for (keys, notification) in [
        ("", firing()),
        ("", all_resolved()),
        ("", digest),
        (", picture: false", with_series()),
    ] {
        let sink = HttpSink::start([Reply::Answer(200, "", OK)]);
        wecom(&sink, keys)
            .notify(&notification)
            .await
            .expect("accepted");
        assert_eq!(sink.requests().len(), 1, "{keys}");
    }
}

#[tokio::test]
async fn a_picture_that_is_refused_does_not_repeat_the_text() {
    for reply in [
        Reply::Answer(200, "", r#"{"errcode":40009}"#),
        Reply::Answer(500, "", ""),
        Reply::Reset,
        Reply::Silence,
    ] {
        let sink = HttpSink::start([Reply::Answer(200, "", OK), reply]);
        wecom(&sink, ", timeout: 2s")
            .notify(&with_series())
            .await
            .expect("the text was accepted");
        assert_eq!(sink.requests().len(), 2);
    }
}

/// A sink for files and one for Slack's methods, which names the first.
fn slack(
    answers: impl Fn(&'static str) -> Vec<Reply>,
    files: Reply,
) -> (HttpSink, HttpSink, Box<dyn nightbell::notify::Notifier>) {
    let files = HttpSink::start([files]);
    let service = format!(
        r#"{{"ok":true,"upload_url":"{}/upload/v1/ABC","file_id":"F1"}}"#,
        files.url
    );
    let sink = HttpSink::start(answers(Box::leak(service.into_boxed_str())));
    let yaml = format!(
        "receiver: {{app_token: xoxb-s3cr3t, app_url: '{}/api/chat.postMessage', channel: '#ops', timeout: 2s}}",
        sink.url
    );
    let notifier = build("slack", &yaml);
    (sink, files, notifier)
}

const POSTED: Reply = Reply::Answer(200, "", r#"{"ok":true,"channel":"C1","ts":"17.5"}"#);

/// The three steps as Slack documents them:
/// <https://docs.slack.dev/reference/methods/files.getUploadURLExternal>, then the file to the URL
/// that was named, then <https://docs.slack.dev/reference/methods/files.completeUploadExternal>.
/// The token goes to Slack's methods alone.
#[tokio::test]
async fn slack_gets_the_picture_as_a_file_in_the_messages_thread() {
    let done = Reply::Answer(200, "", r#"{"ok":true,"files":[{"id":"F1"}]}"#);
    let (sink, files, notifier) = slack(
        |service| vec![POSTED, Reply::Answer(200, "", service), done.clone()],
        Reply::Answer(200, "", "OK - 1"),
    );
    notifier.notify(&with_series()).await.expect("accepted");
    let requests = sink.requests();
    let paths: Vec<&str> = requests.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/api/chat.postMessage",
            "/api/files.getUploadURLExternal",
            "/api/files.completeUploadExternal"
        ]
    );
    assert!(
        requests
            .iter()
            .all(|r| r.headers["authorization"] == "Bearer xoxb-s3cr3t")
    );
    let file = files.last();
    assert!(file.bytes.starts_with(PNG) && !file.headers.contains_key("authorization"));
    assert_eq!(
        requests[1].body,
        format!("filename=alert.png&length={}", file.bytes.len())
    );
    let mut upload = file.clone();
    upload.body = "(the PNG)".into();
    let mut asked = requests[1].clone();
    asked.body = "filename=alert.png&length=…".into();
    golden(
        "slack",
        "upload.txt",
        &[asked, upload, requests[2].clone()]
            .map(|r| r.golden())
            .join("\n")
            .replace(" xoxb-s3cr3t", " …"),
    );
}

#[tokio::test]
async fn whatever_goes_wrong_with_slacks_file_the_message_is_notified_once() {
    let refused = || Reply::Answer(200, "", r#"{"ok":false,"error":"internal_error"}"#);
    let elsewhere = || {
        Reply::Answer(
            200,
            "",
            r#"{"ok":true,"upload_url":"http://192.0.2.1/x","file_id":"F1"}"#,
        )
    };
    let cases: Vec<(Vec<Reply>, Reply)> = vec![
        (vec![refused()], Reply::Reset),
        (vec![Reply::Answer(200, "", r#"{"ok":true}"#)], Reply::Reset),
        (vec![elsewhere()], Reply::Reset),
        (vec![Reply::Silence], Reply::Reset),
    ];
    for (answers, file) in cases {
        let (sink, _files, notifier) = slack(|_| [vec![POSTED], answers.clone()].concat(), file);
        notifier
            .notify(&with_series())
            .await
            .expect("the text was accepted");
        assert_eq!(sink.requests().len(), 2);
    }
    for file in [Reply::Answer(500, "", ""), Reply::Silence] {
        let (sink, _files, notifier) = slack(
            |service| vec![POSTED, Reply::Answer(200, "", service), refused()],
            file,
        );
        notifier
            .notify(&with_series())
            .await
            .expect("the text was accepted");
        assert_eq!(
            sink.requests().len(),
            2,
            "a file that is not there is not completed"
        );
    }
}

/// A bot without the scope `files:write` is not asked again with every message.
#[tokio::test]
async fn a_bot_that_may_not_upload_is_asked_once() {
    let scope = Reply::Answer(200, "", r#"{"ok":false,"error":"missing_scope"}"#);
    let (sink, _files, notifier) = slack(|_| vec![POSTED, scope.clone(), POSTED], Reply::Reset);
    for _ in 0..2 {
        notifier.notify(&with_series()).await.expect("accepted");
    }
    assert_eq!(sink.requests().len(), 3);
}

/// Elsewhere the message has a link, where one was made.
#[tokio::test]
async fn other_services_get_a_link() {
    let mut notification = with_series();
    let url = "https://bell.example.org/picture?alert=1&since=2&until=3&token=4";
    notification.alerts[0]
        .evidence
        .push(Clue::Picture { url: url.into() });
    for (name, keys, answer) in [
        ("discord", "webhook_url: '{url}'", ""),
        ("dingtalk", "url: '{url}', access_token: t", OK),
        ("feishu", "url: '{url}', language: zh", r#"{"code":0}"#),
        ("slack", "api_url: '{url}'", "ok"),
    ] {
        let sink = HttpSink::start([Reply::Answer(200, "", answer)]);
        build(
            name,
            &format!("receiver: {{{}}}", keys.replace("{url}", &sink.url)),
        )
        .notify(&notification)
        .await
        .expect("accepted");
        assert!(
            sink.last().body.contains(url),
            "{name}: {}",
            sink.last().body
        );
    }
}
