//! `nightbell why` against the built binary: the stages that its rules decide, what became of a
//! message, languages and exit codes.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::servers::hostile::{Hostile, Manner};
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

const RULES: &str = r#"groups:
- name: g
  interval: 200ms
  rules:
  - {alert: Hot, expr: temperature > 90, labels: {severity: page}}
  - {alert: Cold, expr: 10 > temperature, labels: {severity: page}}
  - {alert: Uneven, expr: 'temperature{side="left"} > ignoring (side) temperature{side="right"} * 2'}
  - {alert: Ghost, expr: unheard_of > 1}
  - {alert: HalfGhost, expr: temperature > 1 and on () unheard_of}
  - {alert: Gone, expr: absent(temperature)}
  - {alert: Slow, expr: temperature > 1, for: 1h}
  - {alert: Broken, expr: temperature * on (instance) temperature > 0}
  - {alert: Up, expr: 'temperature{side="left"} > 50', labels: {severity: page}}
"#;

struct Watched {
    nightbell: Nightbell,
    _page: Hostile,
    sink: HttpSink,
    _rules: tempfile::TempDir,
}

impl Watched {
    fn start() -> Self {
        let page =
            Hostile::page("temperature{side=\"left\"} 62\ntemperature{side=\"right\"} 41.5\n");
        let sink = HttpSink::start([Reply::Answer(200, "", "{}")]);
        let rules = tempfile::tempdir().expect("a folder");
        let file = rules.path().join("rules.yml");
        std::fs::write(&file, RULES).expect("written");
        let nightbell = Nightbell::start(&format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 200ms}}\nrules: {{shipped: false}}\nrule_files: ['{}']\n\
             scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
             route: {{receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 5m, repeat_interval: 1h}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: '{}'}}]}}]\n",
            file.display(),
            page.address,
            sink.url
        ));
        Watched {
            nightbell,
            _page: page,
            sink,
            _rules: rules,
        }
    }

    /// Exit status, standard output, standard error.
    fn why(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
        command.arg("why").args(arguments).args([
            "--url",
            &format!("http://127.0.0.1:{}", self.nightbell.port),
        ]);
        let output = command.output().expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn answer(&self, arguments: &[&str]) -> Value {
        let (_, output, error) = self.why(&[arguments, &["--json"]].concat());
        let json: Value =
            serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e}: {output}{error}"));
        json["answers"][0].clone()
    }
}

/// Each stage that a rule decides, with its sentence; then a delivery, its language, its history
/// and the exit codes.
#[test]
fn each_alert_says_which_stage_decided() {
    let watched = Watched::start();
    wait_until(
        "the first alert was delivered",
        Duration::from_secs(20),
        || {
            watched
                .sink
                .requests()
                .iter()
                .any(|r| r.body.contains("\"Up\""))
                && watched.answer(&["Up"])["stage"] == "delivered"
        },
    );
    let labels = |side: &str| {
        let instance = watched.answer(&["Up"])["labels"]["instance"]
            .as_str()
            .expect("an instance")
            .to_owned();
        format!("{{instance=\"{instance}\", job=\"app\", side=\"{side}\"}}")
    };
    let (left, right) = (labels("left"), labels("right"));
    let cases: [(&[&str], &str, String); 10] = [
        (&["Nothing"], "no_rule", "There is no such alert: no rule has this name and these labels, and none came from outside.".into()),
        (&["Ghost"], "no_series", "There is no series: unheard_of finds nothing.".into()),
        (&["HalfGhost"], "no_series", "There is no series: unheard_of finds nothing.".into()),
        (&["Hot", "side=nowhere"], "no_series", "There is no series: temperature finds nothing.".into()),
        (
            &["Hot"],
            "below_threshold",
            format!("The value is 62 and would have to be > 90: below the threshold by 28. Series: {left}, the nearest of 2 series."),
        ),
        (
            &["Hot", "side=right", "severity=page"],
            "below_threshold",
            format!("The value is 41.5 and would have to be > 90: below the threshold by 48.5. Series: {right}."),
        ),
        (
            &["Cold", "side=left"],
            "below_threshold",
            format!("The value is 62 and would have to be < 10: above the threshold by 52. Series: {left}."),
        ),
        (&["Uneven"], "below_threshold", format!("The value is 62 and would have to be > 83: below the threshold by 21. Series: {left}.")),
        (&["Gone"], "condition_false", "The condition does not hold: absent(temperature).".into()),
        (
            &["Hot", "severity=info"],
            "no_rule",
            "There is no such alert: no rule has this name and these labels, and none came from outside.".into(),
        ),
    ];
    for (arguments, stage, text) in cases {
        let answer = watched.answer(arguments);
        assert_eq!(
            (answer["stage"].as_str(), answer["text"].as_str()),
            (Some(stage), Some(text.as_str())),
            "{arguments:?}"
        );
    }
    let broken = watched.answer(&["Broken"]);
    assert_eq!(broken["stage"], "rule_failing");
    assert!(
        broken["text"].as_str().is_some_and(
            |t| t.starts_with("The rule cannot be evaluated: ") && t.contains("many-to-many")
        ),
        "{broken}"
    );
    let pending = watched.answer(&["Slow", "side=left"]);
    assert_eq!(
        (&pending["stage"], &pending["for_seconds"]),
        (&Value::from("pending"), &Value::from(3600.0))
    );
    let text = pending["text"].as_str().expect("a text");
    assert!(
        text.starts_with("Pending ") && text.contains("s of 1h: the condition has held since "),
        "{text}"
    );

    let (status, english, _) = watched.why(&["Up", "side=left", "--history"]);
    assert_eq!(status, 0, "{english}\n{}", watched.nightbell.log());
    assert!(
        english.lines().nth(1).is_some_and(
            |l| l.starts_with("  Delivered at ") && l.ends_with(" UTC to hook (webhook).")
        ),
        "{english}"
    );
    assert!(
        english.contains("A message to hook (webhook) was written"),
        "its history: {english}"
    );
    let (status, chinese, _) = watched.why(&["Up", "--language", "zh"]);
    assert!(
        status == 0 && chinese.contains("送达 hook (webhook)。"),
        "{chinese}"
    );
    assert_eq!(watched.why(&["Hot"]).0, 3, "not notified");
    assert_eq!(watched.why(&["Nothing"]).0, 1);
    assert_eq!(watched.why(&["Up", "--at", "yesterday"]).0, 2);
    assert_eq!(watched.why(&["Up", "=x"]).0, 2);
    assert_eq!(watched.why(&[]).0, 2);
    // Long ago nothing was recorded; at the alert's own instant the decision was.
    let then = watched.answer(&["Up"])["decided_at"]
        .as_str()
        .expect("an instant")
        .to_owned();
    assert_eq!(watched.answer(&["Up", "--at", &then])["stage"], "delivered");
    assert_eq!(
        watched.answer(&["Up", "--at", "400d"])["stage"],
        "nothing_recorded"
    );
}

/// Item 7: what speaks for an alert stands in its first message: parts of the expression,
/// threshold, age of the samples, earlier firings.
#[test]
fn the_first_message_carries_the_evidence() {
    let page = Hostile::page("temperature{side=\"left\"} 62\n");
    let sink = HttpSink::start([Reply::Answer(200, "", "{}")]);
    let rules = tempfile::tempdir().expect("a folder");
    let file = rules.path().join("rules.yml");
    let rule =
        "groups:\n- name: g\n  rules:\n  - {alert: Warm, expr: temperature / 2 > 30, for: 400ms}\n";
    std::fs::write(&file, rule).expect("written");
    let _nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 200ms}}\nrules: {{shipped: false}}\nrule_files: ['{}']\n\
         scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
         route: {{receiver: room, group_by: [alertname], group_wait: 0s}}\n\
         receivers: [{{name: room, discord_configs: [{{webhook_url: '{}/room'}}]}}]\n",
        file.display(),
        page.address,
        sink.url
    ));
    wait_until("a message", Duration::from_secs(20), || {
        !sink.requests().is_empty()
    });
    let body: Value = serde_json::from_str(&sink.requests()[0].body).expect("JSON");
    // Discord's escapes aside.
    let text = body["embeds"][0]["description"]
        .as_str()
        .unwrap_or_else(|| panic!("{body}"))
        .replace('\\', "");
    for line in [
        "Threshold: > 30\n",
        "Evidence: temperature / 2 = 31; temperature = 62\n",
        "Newest sample: 0s old",
        "Seen before: never in 30 days\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

/// An alert about a log brings the newest lines of the errors that it is about, without secrets;
/// one about slow lines brings the slowest.
#[test]
fn an_alert_about_a_log_brings_its_lines() {
    let sink = HttpSink::start([Reply::Answer(200, "", "{}")]);
    let folder = tempfile::tempdir().expect("a folder");
    let (file, log) = (
        folder.path().join("rules.yml"),
        folder.path().join("app.log"),
    );
    let rule = "groups:\n- name: g\n  rules:\n\
                \x20 - {alert: Errors, expr: 'sum by (job, instance) (log_lines_total{level=\"error\"}) > 1'}\n\
                \x20 - {alert: OneType, expr: 'log_errors_total{type=~\"disk.*\"} > 0'}\n\
                \x20 - {alert: Slow, expr: 'log_slow_lines_total > 0'}\n\
                \x20 - {alert: Readable, expr: 'log_readable > 0'}\n";
    std::fs::write(&file, rule).expect("written");
    let error = |message: &str| format!("{{\"level\":\"error\",\"message\":\"{message}\"}}\n");
    let slow = "{\"level\":\"info\",\"message\":\"asked\",\"took\":7.5,\"url\":\"/slow\"}\n";
    let text = error("disk full on sda")
        + &error("Bearer sk-abcdefghijklmnopqrstuvwxyz012345 was refused")
        + slow;
    std::fs::write(&log, text).expect("written");
    let nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 200ms}}\nrules: {{shipped: false}}\nrule_files: ['{}']\n\
         collectors: {{log_file: {{name: app, path: '{}', format: json, level: level, type: message, start: beginning,\n\
         slow: {{field: took, above: 5, show: [url]}}}}}}\n\
         route: {{receiver: room, group_by: [alertname], group_wait: 0s}}\n\
         receivers: [{{name: room, discord_configs: [{{webhook_url: '{}/room'}}]}}]\n",
        file.display(),
        log.display(),
        sink.url
    ));
    wait_until("a message for each", Duration::from_secs(20), || {
        sink.requests().len() >= 4
    });
    let of = |alert: &str| {
        let texts = sink
            .requests()
            .into_iter()
            .map(|request| request.body.replace('\\', ""));
        texts
            .into_iter()
            .find(|text| text.contains(alert))
            .unwrap_or_else(|| panic!("{alert}: {}", nightbell.log()))
    };
    let errors = of("Errors");
    assert!(
        errors.contains("disk full on sda") && errors.contains("was refused"),
        "{errors}"
    );
    assert!(!errors.contains("abcdefghijklmnop"), "{errors}");
    let one = of("OneType");
    assert!(
        one.contains("disk full on sda") && !one.contains("was refused"),
        "{one}"
    );
    let slow = of("Slow");
    assert!(
        slow.contains("7.5 url=/slow") && !slow.contains("disk full"),
        "{slow}"
    );
    assert!(!of("Readable").contains("disk full"));
}

/// An alert that fires on, because it has not recovered or because its target fails, says so;
/// nobody was notified of an end.
#[test]
fn an_alert_that_is_held_says_what_holds_it() {
    let page = Hostile::page("temperature{side=\"left\"} 62\n");
    let sink = HttpSink::start([Reply::Answer(200, "", "{}")]);
    let rules = tempfile::tempdir().expect("a folder");
    let file = rules.path().join("rules.yml");
    let rule = "groups:\n- name: g\n  interval: 200ms\n  rules:\n  - {alert: Warm, expr: temperature > 60, recover_expr: temperature < 50}\n";
    std::fs::write(&file, rule).expect("written");
    let nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\nrules: {{shipped: false}}\n\
         rule_files: ['{}']\nscrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
         route: {{receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 200ms, repeat_interval: 1h}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: '{}'}}]}}]\n",
        file.display(),
        page.address,
        sink.url
    ));
    let watched = Watched {
        nightbell,
        _page: page,
        sink,
        _rules: rules,
    };
    let stage = || watched.answer(&["Warm"])["stage"].clone();
    let notified = || stage() == "delivered" || stage() == "deduplicated";
    wait_until("the alert was notified", Duration::from_secs(20), notified);
    let serve = |text: &str| Manner::Serve("text/plain; version=0.0.4", text.as_bytes().to_vec());
    watched
        ._page
        .become_(serve("temperature{side=\"left\"} 55\n"));
    wait_until("it waits for its recovery", Duration::from_secs(20), || {
        stage() == "not_recovered"
    });
    let answer = watched.answer(&["Warm"]);
    assert_eq!(answer["notified"], true);
    let text = answer["text"].as_str().expect("a text");
    assert!(
        text.ends_with(" UTC, but recover_expr does not hold yet: temperature < 50."),
        "{text}"
    );
    let then = answer["decided_at"]
        .as_str()
        .expect("an instant")
        .to_owned();
    watched._page.become_(Manner::Silent);
    wait_until("its target fails", Duration::from_secs(20), || {
        stage() == "held_no_data"
    });
    let chinese = watched.why(&["Warm", "--language", "zh"]).1;
    assert!(
        chinese.contains("保持原状：自 ") && chinese.contains("缺少数据（temperature{"),
        "{chinese}"
    );
    assert_eq!(
        watched.answer(&["Warm", "--at", &then])["stage"],
        "not_recovered"
    );
    assert!(
        !watched
            .sink
            .requests()
            .iter()
            .any(|r| r.body.contains("\"resolved\"")),
        "no end was notified"
    );
    watched
        ._page
        .become_(serve("temperature{side=\"left\"} 40\n"));
    wait_until("its end is notified", Duration::from_secs(20), || {
        watched
            .sink
            .requests()
            .iter()
            .any(|r| r.body.contains("\"resolved\""))
    });
}

/// That an alert flaps is notified once, and shown by the API, the metrics and `why`; the keys may
/// stand beside `alertmanager`.
#[test]
fn an_alert_that_flaps_is_notified_once_and_shown() {
    let page = Hostile::page("temperature 62\n");
    let sink = HttpSink::start([Reply::Answer(200, "", "{}")]);
    let rules = tempfile::tempdir().expect("a folder");
    let file = rules.path().join("rules.yml");
    std::fs::write(&file, "groups:\n- name: g\n  rules:\n  - {alert: Warm, expr: temperature > 60, labels: {severity: critical}}\n")
        .expect("written");
    let routing = rules.path().join("alertmanager.yml");
    let notified_by = format!(
        "route: {{receiver: hook, group_wait: 0s, group_interval: 200ms}}\nreceivers: [{{name: hook, webhook_configs: [{{url: '{}'}}]}}]\n",
        sink.url
    );
    std::fs::write(&routing, notified_by).expect("written");
    let nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\nrules: {{shipped: false}}\n\
         rule_files: ['{}']\nscrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
         alertmanager: '{}'\nflapping: {{firings: 2, stable_for: 1d}}\n",
        file.display(),
        page.address,
        routing.display()
    ));
    let watched = Watched {
        nightbell,
        _page: page,
        sink,
        _rules: rules,
    };
    let serve = |text: &str| {
        watched._page.become_(Manner::Serve(
            "text/plain; version=0.0.4",
            text.as_bytes().to_vec(),
        ))
    };
    let firing = || {
        let answer: Value =
            serde_json::from_str(&watched.nightbell.get("/api/v2/alerts").1).expect("JSON");
        answer.as_array().expect("a list").first().cloned()
    };
    wait_until("it fires", Duration::from_secs(20), || firing().is_some());
    serve("temperature 50\n");
    wait_until("it ended", Duration::from_secs(20), || firing().is_none());
    serve("temperature 70\n");
    wait_until("it flaps", Duration::from_secs(20), || {
        firing().is_some_and(|alert| alert["flapping"]["firings"] == 2)
    });
    wait_until("the metric says so", Duration::from_secs(20), || {
        watched.nightbell.metric("nightbell_alerts_flapping") == Some(1.0)
    });
    let notified = || {
        watched
            .sink
            .requests()
            .iter()
            .filter(|r| r.body.contains("\"flapping\":\"2 firings since "))
            .count()
    };
    wait_until("that is notified", Duration::from_secs(60), || {
        notified() == 1
    });
    serve("temperature 50\n");
    wait_until(
        "it says that it flaps, and that people know",
        Duration::from_secs(60),
        || {
            let answer = watched.answer(&["Warm"]);
            answer["stage"] == "flapping" && answer["notified"] == true
        },
    );
    assert_eq!(notified(), 1);
}
