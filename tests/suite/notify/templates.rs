//! Templates of receivers that fail: the built-in text is delivered with the error, whatever the
//! template tries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nightbell::notify::{Reason, counting_failed_templates};
use serde_json::{Value, json};

use super::{alert, build, firing, notification, try_build};
use crate::servers::http_sink::{HttpSink, Reply};

/// A template and what its error says.
const BROKEN: [(&str, &str); 40] = [
    // Fields and methods that are not there.
    (
        "{{ .Nope }}",
        "can't evaluate field Nope in type template.Data",
    ),
    ("{{ .StartsAt }}", "can't evaluate field StartsAt"),
    (
        "{{ .CommonLabels.alertname.y }}",
        "can't evaluate field y in type string",
    ),
    ("{{ .Alerts.First }}", "can't evaluate field First"),
    (
        "{{ (index .Alerts 0).StartsAt.Tomorrow }}",
        "can't evaluate field Tomorrow in type time.Time",
    ),
    (
        "{{ (dict \"a\" 1).b.c }}",
        "nil pointer evaluating interface {}.c",
    ),
    (
        "{{ range .Alerts }}{{ .CommonLabels }}{{ end }}",
        "can't evaluate field CommonLabels in type template.Alert",
    ),
    // Arguments.
    (
        "{{ toUpper }}",
        "wrong number of args for toUpper: want 1 got 0",
    ),
    (
        "{{ join \",\" }}",
        "wrong number of args for join: want 2 got 1",
    ),
    ("{{ join \",\" .Status }}", "expected []string"),
    ("{{ title 3 }}", "expected string"),
    ("{{ append .Status 1 }}", "expected []interface {}"),
    ("{{ 1 2 }}", "can't give argument to non-function 1"),
    ("{{ nil }}", "nil is not a command"),
    (
        "{{ dict \"a\" }}",
        "dict requires an even number of arguments",
    ),
    ("{{ dict 1 2 }}", "dict keys must be strings"),
    ("{{ index .Alerts 99 }}", "index out of range: 99"),
    (
        "{{ (index .Alerts 99).Labels.instance }}",
        "index out of range: 99",
    ),
    ("{{ slice \"abc\" 3 1 }}", "invalid slice index: 3 > 1"),
    ("{{ len 3 }}", "len of type int"),
    ("{{ eq 1 \"a\" }}", "incompatible types for comparison"),
    (
        "{{ range .Status }}{{ end }}",
        "range can't iterate over firing",
    ),
    ("{{ reReplaceAll \"(\" \"\" .Status }}", "missing closing )"),
    ("{{ match \"[\" .Status }}", "missing closing ]"),
    (
        "{{ (index .Alerts 0).StartsAt | tz \"Mars/Olympus\" }}",
        "unknown time zone Mars/Olympus",
    ),
    ("{{ urlUnescape \"%zz\" }}", "invalid URL escape"),
    (
        "{{ humanizeDuration \"soon\" }}",
        "parsing \"soon\": invalid syntax",
    ),
    ("{{ base64decode \"%\" }}", "illegal base64 data"),
    (
        "{{ mustToDate \"2006-01-02\" \"soon\" }}",
        "parsing time \"soon\"",
    ),
    // Templates that are not there, or call themselves for ever.
    (
        "{{ template \"no.such\" . }}",
        "template \"no.such\" not defined",
    ),
    (
        "{{ define \"r\" }}{{ template \"r\" . }}{{ end }}{{ template \"r\" . }}",
        "exceeded maximum template depth",
    ),
    (
        "{{ define \"a\" }}{{ template \"b\" . }}{{ end }}{{ define \"b\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}",
        "exceeded maximum template depth",
    ),
    (
        "{{ define \"b\" }}{{ if lt (len .) 60 }}{{ template \"b\" (print . \"x\") }}{{ template \"b\" (print . \"x\") }}{{ end }}{{ end }}\
         {{ template \"b\" \"\" }}",
        "the template takes too long",
    ),
    // Too much of everything.
    (
        "{{ range 90000 }}{{ $.CommonAnnotations.description }}{{ end }}",
        "output is longer than 1048576 bytes",
    ),
    (
        "{{ range 1000000000 }}{{ end }}",
        "a range takes too many turns",
    ),
    (
        "{{ range 50000 }}{{ range 50000 }}{{ end }}{{ end }}",
        "a range takes too many turns",
    ),
    (
        "{{ $x := \"x\" }}{{ range 64 }}{{ $x = print $x $x }}{{ end }}",
        "a text is longer than 1048576 bytes",
    ),
    (
        "{{ $x := list 1 }}{{ range 64 }}{{ $x = list $x $x }}{{ end }}{{ $x }}",
        "a list or dict holds too much",
    ),
    (
        "{{ $x := list }}{{ range 90000 }}{{ $x = list $x }}{{ end }}{{ $x }}",
        "a list or dict holds too much",
    ),
    (
        "{{ range $i := 90000 }}{{ match (printf \"(a|b|%d){1,500}\" $i) \"x\" }}{{ end }}",
        "the template takes too long",
    ),
];

/// "a template that fails sends the built-in text with the error"; each is counted.
#[tokio::test]
async fn forty_broken_templates_deliver_the_built_in_text_with_the_error() {
    let sink = HttpSink::start([Reply::Answer(200, "", "ok")]);
    let failed = Arc::new(AtomicU64::new(0));
    for (number, (template, error)) in BROKEN.iter().enumerate() {
        let notifier = build(
            "slack",
            &json!({"receiver": {"api_url": sink.url, "text": template}}).to_string(),
        );
        counting_failed_templates(Arc::clone(&failed), notifier.notify(&firing()))
            .await
            .expect(template);
        let body: Value = serde_json::from_str(&sink.last().body).expect("JSON");
        let text = body["attachments"][0]["text"].as_str().expect("a text");
        assert!(
            text.contains("db1:9100") && text.contains("db3:9100"),
            "{template}: no built-in text: {text}"
        );
        assert!(
            text.contains("The template of \"text\" failed")
                && text.contains(&error.replace('>', "›")),
            "{template}: {text}"
        );
        assert_eq!(
            failed.load(Ordering::Relaxed),
            number as u64 + 1,
            "{template} is counted once"
        );
    }
}

/// One field of every kind of receiver: the message comes, and names what failed.
#[tokio::test]
async fn every_receiver_tells_of_a_template_that_failed() {
    for (name, keys) in [
        ("slack", "api_url: '{url}', title: '{{ .Nope }}'"),
        ("slack", "api_url: '{url}', channel: '{{ .Nope }}'"),
        (
            "slack",
            "api_url: '{url}', fields: [{title: '{{ .Nope }}', value: x}]",
        ),
        (
            "webhook",
            "url: '{url}', payload: {a: {b: ['{{ .Nope }}']}}",
        ),
        (
            "dingtalk",
            "url: '{url}', access_token: t, text: '{{ .Nope }}'",
        ),
        (
            "dingtalk",
            "url: '{url}', access_token: t, title: '{{ .Nope }}'",
        ),
        ("wecom", "url: '{url}', key: t, text: '{{ .Nope }}'"),
        ("feishu", "url: '{url}', title: '{{ .Nope }}'"),
        ("feishu", "url: '{url}', text: '{{ .Nope }}'"),
        (
            "sms",
            "provider: twilio, api_url: '{url}', account_sid: AC1, auth_token: t, from: '+1', to: ['+2'], text: '{{ .Nope }}'",
        ),
        (
            "pagerduty",
            "routing_key: k, url: '{url}', description: '{{ .Nope }}'",
        ),
        (
            "pagerduty",
            "routing_key: k, url: '{url}', details: {x: '{{ .Nope }}'}",
        ),
        (
            "telegram",
            "bot_token: t, chat_id: 5, api_url: '{url}', message: '{{ .Nope }}'",
        ),
        ("discord", "webhook_url: '{url}', title: '{{ .Nope }}'"),
        ("discord", "webhook_url: '{url}', message: '{{ .Nope }}'"),
        ("msteams", "webhook_url: '{url}', text: '{{ .Nope }}'"),
        ("msteamsv2", "webhook_url: '{url}', title: '{{ .Nope }}'"),
        (
            "opsgenie",
            "api_key: k, api_url: '{url}', message: '{{ .Nope }}'",
        ),
        (
            "opsgenie",
            "api_key: k, api_url: '{url}', details: {x: '{{ .Nope }}'}",
        ),
    ] {
        let answer = match name {
            "slack" => "ok",
            _ => r#"{"errcode":0,"code":0,"ok":true,"StatusCode":0}"#,
        };
        let sink = HttpSink::start([Reply::Answer(200, "", answer)]);
        let sent = build(
            name,
            &format!("receiver: {{{}}}", keys.replace("{url}", &sink.url)),
        )
        .notify(&firing())
        .await;
        let body = sink.last().body.replace('+', " ").replace("%27", "'");
        assert!(
            body.contains("can't evaluate field Nope"),
            "{name} {keys}: {body}\n{sent:?}"
        );
        assert!(body.contains("DiskFull"), "{name} {keys}: {body}");
    }
}

/// Where a template fails in an address there is nowhere to send to: that is notified as a
/// template's failure, so that others are notified instead.
#[tokio::test]
async fn forty_broken_templates_in_addresses_are_notified_as_such() {
    for (name, keys) in [
        ("webhook", "url: 'http://127.0.0.1:9/TEMPLATE'"),
        (
            "email",
            "to: 'TEMPLATE', from: a@b.c, smarthost: '127.0.0.1:9'",
        ),
        (
            "sms",
            "provider: twilio, api_url: 'http://127.0.0.1:9', account_sid: AC1, auth_token: t, from: '+1', to: 'TEMPLATE'",
        ),
        (
            "slack",
            "app_token: t, app_url: 'http://127.0.0.1:9/', channel: 'TEMPLATE'",
        ),
    ] {
        // One that does not fail but finds nothing to print leaves nowhere to send to just the
        // same.
        for template in BROKEN
            .iter()
            .map(|(template, _)| *template)
            .chain(["{{ .CommonLabels.owner }}"])
        {
            if name == "webhook" && template.contains("owner") {
                continue;
            }
            let notifier = build(
                name,
                &format!(
                    "receiver: {{{}}}",
                    keys.replace("TEMPLATE", &template.replace('\'', "''"))
                ),
            );
            let error = notifier
                .notify(&firing())
                .await
                .expect_err("there is nowhere to send to");
            assert_eq!(
                (error.reason, error.retryable),
                (Reason::Template, false),
                "{name}: {template}: {error}"
            );
        }
    }
}

/// A message as long as its service takes still ends with what failed; where a service takes no
/// empty text, nothing printed is a failure.
#[tokio::test]
async fn the_error_is_seen_below_a_long_text_and_nothing_printed_is_an_error() {
    let mut one = alert("db1");
    one.annotations[0].1 = "磁盘 is full. ".repeat(2000);
    let long = notification(vec![one; 20]);
    for (template, error) in [
        ("{{ .Nope }}", "can't evaluate field Nope"),
        ("{{ if false }}x{{ end }} ", "it printed nothing"),
    ] {
        let sink = HttpSink::start([Reply::Answer(200, "", r#"{"errcode":0}"#)]);
        let notifier = build(
            "wecom",
            &json!({"receiver": {"url": sink.url, "key": "t", "text": template}}).to_string(),
        );
        notifier.notify(&long).await.expect("it is delivered");
        let body: Value = serde_json::from_str(&sink.last().body).expect("JSON");
        let content = body["markdown"]["content"].as_str().expect("a text");
        assert!(
            content.len() <= 4096 && content.contains(error) && content.contains("db1"),
            "{content}"
        );
    }
}

/// What cannot be read is refused when the file is: with where it stands, in Go's words.
#[test]
fn a_template_that_cannot_be_read_is_refused_with_its_place() {
    for (template, problem) in [
        ("{{ if .Status }}x", "template: :1: unexpected EOF"),
        ("{{ end }}", "template: :1: unexpected {{end}}"),
        (
            "{{ nope .Status }}",
            "template: :1: function \"nope\" not defined",
        ),
        ("{{ .Status", "template: :1: unclosed action"),
        ("{{ \"x }}", "template: :1: unterminated quoted string"),
        ("{{ $x }}", "template: :1: undefined variable \"$x\""),
        ("{{ if }}x{{ end }}", "template: :1: missing value for if"),
        ("{{ else }}", "template: :1: unexpected {{else}}"),
        ("{{ define \"a\" }}", "template: :1: unexpected EOF"),
        ("{{ break }}", "template: :1: {{break}} outside {{range}}"),
        (
            "{{ 1 | 2 }}",
            "template: :1: non executable command in pipeline stage 2",
        ),
        (
            "{{ query \"up\" }}",
            "template: :1: function \"query\" not defined",
        ),
    ] {
        let yaml = format!("receiver:\n  api_url: http://127.0.0.1:1\n  text: '{template}'\n");
        let errors = try_build("slack", &yaml).err().expect(template).to_string();
        assert!(
            errors.starts_with("notify.yml:3:9: ") && errors.contains(problem),
            "{template}: {errors}"
        );
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
    let yaml = json!({"receiver": {"api_url": "http://127.0.0.1:1", "text": deep}}).to_string();
    assert!(
        try_build("slack", &yaml)
            .err()
            .expect("too deep")
            .to_string()
            .contains("depth")
    );
}
