//! What only Slack does.

use nightbell::notify::Reason;
use serde_json::Value;

use super::{all_resolved, build, firing, try_build};
use crate::servers::http_sink::{HttpSink, Reply};

/// SEMANTICS 180: after a 2xx the body must be `ok`, or JSON with `ok: true`.
#[tokio::test]
async fn http_200_alone_is_not_success() {
    for (body, wanted) in [
        ("ok", None),
        ("{\"ok\":true}", None),
        (
            "<html>blocked</html>",
            Some((Reason::InvalidResponse, false)),
        ),
        ("", Some((Reason::InvalidResponse, false))),
        ("{\"status\":1111}", Some((Reason::InvalidResponse, false))),
        (
            "{\"ok\":false,\"error\":\"channel_not_found\"}",
            Some((Reason::Rejected, false)),
        ),
        (
            "{\"ok\":false,\"error\":\"invalid_auth\"}",
            Some((Reason::Auth, false)),
        ),
        (
            "{\"ok\":false,\"error\":\"ratelimited\"}",
            Some((Reason::RateLimited, true)),
        ),
        (
            "{\"ok\":false,\"error\":\"internal_error\"}",
            Some((Reason::ServerError, true)),
        ),
    ] {
        let sink = HttpSink::start([Reply::Answer(200, "", body)]);
        let outcome = build("slack", &format!("receiver: {{api_url: '{}'}}", sink.url))
            .notify(&firing())
            .await;
        assert_eq!(
            outcome.err().map(|e| (e.reason, e.retryable)),
            wanted,
            "{body}"
        );
    }
}

/// Slack's own words say what is wrong with the configuration.
#[tokio::test]
async fn a_refusal_names_slacks_code() {
    let sink = HttpSink::start([Reply::Answer(404, "", "no_service")]);
    let error = build("slack", &format!("receiver: {{api_url: '{}'}}", sink.url))
        .notify(&firing())
        .await
        .expect_err("404");
    assert_eq!(error.to_string(), "answered 404: no_service");
}

#[tokio::test]
async fn a_long_title_is_cut_to_1024_characters() {
    let sink = HttpSink::start([Reply::Answer(200, "", "ok")]);
    let notifier = build(
        "slack",
        &format!(
            "receiver: {{api_url: '{}', title: '{}', text: '{}'}}",
            sink.url,
            "长".repeat(2000),
            "字".repeat(9000)
        ),
    );
    notifier.notify(&firing()).await.expect("accepted");
    let body: Value = serde_json::from_str(&sink.last().body).expect("JSON");
    let title = body["attachments"][0]["title"].as_str().expect("a title");
    assert_eq!(
        (title.chars().count(), title.chars().last()),
        (1024, Some('…'))
    );
    let text = body["attachments"][0]["text"].as_str().expect("a text");
    assert!(
        text.len() <= 8000 && text.ends_with("characters cut]"),
        "{}",
        text.len()
    );
}

/// Alertmanager's keys all arrive under Slack's names; global values stand in.
#[tokio::test]
async fn fields_buttons_and_global_settings_arrive() {
    let sink = HttpSink::start([Reply::Answer(200, "", "ok")]);
    let yaml = format!(
        "global: {{slack_api_url: '{}/global'}}
receiver:
  channel: '#c'
  username: bell
  icon_emoji: ':bell:'
  link_names: true
  message_text: hello
  short_fields: true
  fields: [{{title: a, value: b}}, {{title: c, value: d, short: false}}]
  actions: [{{type: button, text: Open, url: 'http://x', confirm: {{text: sure}}}}]
  pretext: before
  footer: below
  image_url: http://x/i.png
  thumb_url: http://x/t.png
  callback_id: cb
  mrkdwn_in: [text]
  color: '#123456'
  fallback: plain
  title_link: http://x/link
",
        sink.url
    );
    build("slack", &yaml)
        .notify(&firing())
        .await
        .expect("accepted");
    let request = sink.last();
    assert_eq!(request.path, "/global");
    super::golden("slack", "every_key.txt", &request.golden());
}

/// With a bot token, `update_message` changes the group's first message instead of posting another.
#[tokio::test]
async fn a_bot_updates_the_groups_message() {
    let posted = Reply::Answer(200, "", "{\"ok\":true,\"channel\":\"C1\",\"ts\":\"17.5\"}");
    let sink = HttpSink::start([posted.clone()]);
    let yaml = format!(
        "receiver: {{app_token: xoxb-1, app_url: '{}/api/chat.postMessage', channel: '#c', update_message: true}}",
        sink.url
    );
    let notifier = build("slack", &yaml);
    for notification in [firing(), firing(), all_resolved(), firing()] {
        notifier.notify(&notification).await.expect("accepted");
    }
    let requests = sink.requests();
    let paths: Vec<&str> = requests.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/api/chat.postMessage",
            "/api/chat.update",
            "/api/chat.update",
            "/api/chat.postMessage"
        ]
    );
    assert!(
        requests
            .iter()
            .all(|r| r.headers["authorization"] == "Bearer xoxb-1")
    );
    let update: Value = serde_json::from_str(&requests[1].body).expect("JSON");
    assert_eq!(
        (update["channel"].as_str(), update["ts"].as_str()),
        (Some("C1"), Some("17.5"))
    );
}

/// A message that was deleted in Slack is posted anew.
#[tokio::test]
async fn a_message_that_is_gone_is_posted_again() {
    let posted = Reply::Answer(200, "", "{\"ok\":true,\"channel\":\"C1\",\"ts\":\"17.5\"}");
    let gone = Reply::Answer(200, "", "{\"ok\":false,\"error\":\"message_not_found\"}");
    let sink = HttpSink::start([posted.clone(), gone, posted]);
    let yaml = format!(
        "receiver: {{app_token: t, app_url: '{}/api/chat.postMessage', update_message: true}}",
        sink.url
    );
    let notifier = build("slack", &yaml);
    notifier.notify(&firing()).await.expect("accepted");
    notifier.notify(&firing()).await.expect("accepted");
    assert_eq!(sink.requests().len(), 3);
}

#[test]
fn a_receiver_without_an_address_is_a_mistake() {
    for (yaml, wanted) in [
        (
            "receiver: {channel: '#a'}",
            "has neither api_url nor app_token",
        ),
        (
            "receiver: {api_url: 'http://x', app_token: t}",
            "keep one of the two",
        ),
        (
            "receiver: {api_url: 'http://x', update_message: true}",
            "needs a bot token",
        ),
        (
            "receiver: {api_url: 'http://x', fields: [{title: a}]}",
            "key \"value\" is missing",
        ),
    ] {
        let Err(error) = try_build("slack", yaml) else {
            panic!("{yaml} is accepted")
        };
        assert!(error.to_string().contains(wanted), "{yaml}: {error}");
    }
}
