//! The built binary with real servers on both sides: what breaks is notified once, what comes back
//! is notified once.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kill::Watch;
use crate::servers::chroma::Chroma;
use crate::servers::hostile::{Hostile, Manner};
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::llm::{FakeLlm, Script};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;
use crate::servers::smtp::Smtp;
use crate::servers::wait_until;

/// Interval of collection and evaluation in these tests.
const INTERVAL: Duration = Duration::from_secs(2);

/// The three ways to tell people.
struct Ears {
    mail: Smtp,
    slack: HttpSink,
    webhook: HttpSink,
}

impl Ears {
    fn new() -> Self {
        Ears {
            mail: Smtp::start(&json!({})),
            slack: HttpSink::start([Reply::Answer(200, "", "ok")]),
            webhook: HttpSink::start([Reply::Answer(200, "", "{}")]),
        }
    }

    /// Everything goes to all three at once.
    fn config(&self, rest: &str) -> String {
        format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s, smtp_smarthost: '127.0.0.1:{}', smtp_from: bell@example.org, smtp_require_tls: false}}\n\
             route: {{receiver: all, group_by: [alertname, instance, mountpoint], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers:\n- name: all\n  email_configs: [{{to: ops@example.org, send_resolved: true}}]\n  slack_configs: [{{api_url: '{}/slack', send_resolved: true}}]\n  webhook_configs: [{{url: '{}/hook'}}]\n{rest}",
            self.mail.port, self.slack.url, self.webhook.url
        )
    }

    /// The webhook's messages about `alert`: status of each.
    fn notified(&self, alert: &str) -> Vec<String> {
        let about = |body: &Value| body["commonLabels"]["alertname"] == alert;
        let bodies = self
            .webhook
            .requests()
            .into_iter()
            .filter_map(|r| serde_json::from_str::<Value>(&r.body).ok());
        bodies
            .filter(about)
            .map(|b| b["status"].as_str().unwrap_or("").to_owned())
            .collect()
    }

    fn slack_notified(&self, alert: &str) -> usize {
        self.slack
            .requests()
            .iter()
            .filter(|r| r.body.contains(alert))
            .count()
    }
}

/// Breaks something, waits for the one firing message, mends it, waits for the one resolved
/// message.
fn tells_once(ears: &Ears, alert: &str, mut breaks: impl FnMut(), mut mends: impl FnMut()) {
    let mails = |count: usize| {
        for _ in 0..count {
            let mail = ears.mail.mail();
            assert!(mail.to_string().contains(alert), "{mail}");
        }
    };
    breaks();
    wait_until(
        &format!("{alert} is notified"),
        Duration::from_secs(20),
        || !ears.notified(alert).is_empty(),
    );
    mails(1);
    wait_until(
        &format!("{alert} is notified to Slack"),
        Duration::from_secs(5),
        || ears.slack_notified(alert) == 1,
    );
    std::thread::sleep(INTERVAL + Duration::from_secs(1));
    assert_eq!(ears.notified(alert), ["firing"], "one message");
    mends();
    wait_until(
        &format!("the end of {alert} is notified"),
        Duration::from_secs(30),
        || ears.notified(alert).len() == 2,
    );
    mails(1);
    wait_until(
        &format!("the end of {alert} is notified to Slack"),
        Duration::from_secs(5),
        || ears.slack_notified(alert) == 2,
    );
    assert_eq!(ears.notified(alert), ["firing", "resolved"]);
    assert!(!ears.mail.has_mail(), "{alert}: one mail for each");
}

/// A database that stops is notified once by mail, Slack and webhook within two intervals, and its
/// return once.
#[test]
fn databases_that_stop_are_notified_once_and_so_is_their_return() {
    let (mut postgres, mut redis, mut chroma) =
        (Postgres::start(&[]), Redis::start(&[]), Chroma::start());
    let ears = Ears::new();
    let config = ears.config(&format!(
        "collectors:\n  postgres: [{{name: pg, dsn: '{}'}}]\n  redis: [{{name: cache, url: '{}'}}]\n  vector_store: [{{name: vectors, url: '{}'}}]\n",
        postgres.dsn("postgres", "postgres"),
        redis.url(),
        chroma.url()
    ));
    let nightbell = Nightbell::start(&config);
    wait_until("all are up", Duration::from_secs(20), || {
        ["pg_up", "redis_up", "vectorstore_up"]
            .iter()
            .all(|m| nightbell.metric(m) == Some(1.0))
    });
    let postgres = std::cell::RefCell::new(&mut postgres);
    tells_once(
        &ears,
        "PostgresDown",
        || postgres.borrow_mut().stop(),
        || postgres.borrow_mut().resume(),
    );
    let redis = std::cell::RefCell::new(&mut redis);
    tells_once(
        &ears,
        "RedisDown",
        || redis.borrow_mut().stop(),
        || redis.borrow_mut().resume(),
    );
    let chroma = std::cell::RefCell::new(&mut chroma);
    tells_once(
        &ears,
        "VectorStoreDown",
        || chroma.borrow_mut().stop(),
        || chroma.borrow_mut().restart(),
    );
    assert_eq!(
        ears.webhook.requests().len(),
        6,
        "nothing else was notified"
    );
}

/// A failing health endpoint, a full disk and a refused key.
#[test]
fn endpoints_disks_and_keys_are_notified_once() {
    let endpoint = Hostile::start(Manner::Raw(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".to_vec(),
    ));
    let llm = FakeLlm::start();
    let models = r#"{"data":[{"id":"m"}]}"#;
    llm.on("/v1/models", Script::json("200 OK", models));
    let disk = Disk::mount();
    let ears = Ears::new();
    let config = ears.config(&format!(
        "collectors:\n  host: {{}}\n  probe: [{{name: api, url: 'http://{}/health'}}]\n  llm_provider: [{{name: llm, provider: openai, base_url: '{}', api_key: sk-x}}]\n\
         rules: {{shipped: false}}\nrule_files: ['{}']\n",
        endpoint.address,
        llm.url("/v1"),
        disk.rules.display(),
    ));
    let nightbell = Nightbell::start(&config);
    wait_until("all are up", Duration::from_secs(20), || {
        nightbell.metric("probe_success") == Some(1.0)
            && nightbell.metric("llm_up") == Some(1.0)
            && nightbell.get("/metrics").1.contains(&disk.mountpoint())
    });
    let down = || {
        endpoint.become_(Manner::Raw(
            b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
        ))
    };
    let up = || {
        endpoint.become_(Manner::Raw(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".to_vec(),
        ))
    };
    tells_once(&ears, "EndpointDown", down, up);
    tells_once(
        &ears,
        "HostDiskSpaceCritical",
        || disk.fill(),
        || disk.empty(),
    );
    let refuse = || {
        llm.on(
            "/v1/models",
            Script::json(
                "401 Unauthorized",
                r#"{"error":{"code":"invalid_api_key"}}"#,
            ),
        );
    };
    let accept = || {
        llm.on("/v1/models", Script::json("200 OK", models));
    };
    tells_once(&ears, "LLMAuthFailed", refuse, accept);
}

/// A small file system of its own, and the shipped rules narrowed to it (the machine's own disks
/// may be full too).
struct Disk {
    folder: tempfile::TempDir,
    rules: std::path::PathBuf,
    _rules_folder: tempfile::TempDir,
}

impl Disk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "nightbell-test"])
            .arg(folder.path())
            .status()
            .expect("mount runs");
        assert!(
            mounted.success(),
            "a tmpfs cannot be mounted: run the tests as root"
        );
        let rules_folder = tempfile::tempdir().expect("a folder");
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
        let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("a rule file");
        // A file system in memory, which the rules leave out otherwise, is one that a test can
        // fill.
        let wanted = format!(
            "mountpoint=\"{}\", fstype!~\"squashfs",
            folder.path().display()
        );
        let host = read("host.yml").replace("fstype!~\"tmpfs|squashfs", &wanted);
        for (name, text) in [
            ("host.yml", host),
            ("probe.yml", read("probe.yml")),
            ("llm_provider.yml", read("llm_provider.yml")),
        ] {
            std::fs::write(rules_folder.path().join(name), text).expect("written");
        }
        let rules = rules_folder.path().join("*.yml");
        Disk {
            folder,
            rules,
            _rules_folder: rules_folder,
        }
    }

    fn mountpoint(&self) -> String {
        format!("mountpoint=\"{}\"", self.folder.path().display())
    }

    fn fill(&self) {
        std::fs::write(self.folder.path().join("big"), vec![1u8; 3_900_000]).expect("room for it");
    }

    fn empty(&self) {
        std::fs::remove_file(self.folder.path().join("big")).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A mount that stays would keep the folder from being removed; the test's result does not
        // depend on it.
        drop(
            Command::new("umount")
                .arg("-l")
                .arg(self.folder.path())
                .status(),
        );
    }
}

/// A target that does not answer for a while ends no alert, not even one that is judged whenever
/// samples arrive.
#[test]
fn a_target_that_hangs_for_a_while_ends_no_alert() {
    let mut watch = Watch::start(
        HttpSink::start([Reply::Answer(200, "", "{}")]),
        "rules: {shipped: false}\n",
    );
    watch.trouble(0);
    wait_until("it is notified", Duration::from_secs(20), || {
        watch.notified() == [0]
    });
    for n in 1..5 {
        watch.page_hangs();
        wait_until("its target is down", Duration::from_secs(20), || {
            let page = watch.nightbell.get("/metrics").1;
            page.lines().any(|line| {
                line.starts_with("up{") && line.contains("job=\"app\"") && line.ends_with(" 0")
            })
        });
        watch.trouble(n);
        wait_until("the next one is notified", Duration::from_secs(20), || {
            watch.notified().contains(&n)
        });
    }
    assert_eq!(watch.notified(), [0, 1, 2, 3, 4], "each once, and no end");
}

/// A target that hangs, streams without end, sends too many series or garbage: only its own `up`
/// falls, and /metrics stays fast.
#[test]
fn hostile_targets_hurt_only_themselves() {
    let many: String = (0..300_000)
        .map(|i| format!("m{{i=\"{i}\"}} 1\n"))
        .collect();
    let targets = [
        ("good", Hostile::page("good 1\n")),
        ("silent", Hostile::start(Manner::Silent)),
        ("endless", Hostile::start(Manner::Endless)),
        (
            "many",
            Hostile::start(Manner::Serve("text/plain", many.into_bytes())),
        ),
        (
            "garbage",
            Hostile::start(Manner::Serve("text/plain", vec![0xff; 4096])),
        ),
    ];
    let mut config =
        String::from("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n");
    for (name, target) in &targets {
        config.push_str(&format!(
            "- {{job_name: {name}, static_configs: [{{targets: ['{}']}}]}}\n",
            target.address
        ));
    }
    let nightbell = Nightbell::start(&config);
    let up = |name: &str| {
        let body = nightbell.get("/metrics").1;
        body.lines()
            .find(|l| l.starts_with("up{") && l.contains(&format!("job=\"{name}\"")))
            .map(|l| l.ends_with(" 1"))
    };
    wait_until("every target was asked", Duration::from_secs(20), || {
        targets.iter().all(|(name, _)| up(name).is_some())
    });
    for _ in 0..5 {
        let start = Instant::now();
        assert!(nightbell.get("/metrics").1.contains("good"));
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "/metrics took {:?}",
            start.elapsed()
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(
        targets.iter().map(|(name, _)| up(name)).collect::<Vec<_>>(),
        [
            Some(true),
            Some(false),
            Some(false),
            Some(false),
            Some(false)
        ]
    );
}

/// Files under `templates` are read beside the configuration; what fails in one is notified in the
/// message, in the log and in a metric, and the message comes all the same. A file that cannot be
/// read is refused at its line and column.
#[test]
fn named_templates_of_files_are_used_and_a_broken_one_does_not_keep_the_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("it can be written")
    };
    write(
        "one.tmpl",
        "{{ define \"mine.title\" }}{{ .Status | toUpper }} {{ template \"mine.what\" . }}{{ end }}",
    );
    write(
        "two.tmpl",
        "{{ define \"mine.what\" }}{{ .CommonLabels.alertname }}{{ end }}\n{{ define \"mine.bad\" }}\n{{ .Nope }}{{ end }}",
    );
    write(
        "rules.yml",
        "groups: [{name: g, rules: [{alert: Always, expr: vector(1), annotations: {summary: It is so}}]}]",
    );
    let slack = HttpSink::start([Reply::Answer(200, "", "ok")]);
    let folder_name = folder.path().display();
    let config = format!(
        "global: {{evaluation_interval: 1s}}\nrules: {{shipped: false}}\nrule_files: ['{folder_name}/rules.yml']\ntemplates: ['{folder_name}/*.tmpl']\n\
         route: {{receiver: all, group_wait: 0s, group_interval: 1s}}\nreceivers:\n- name: all\n  slack_configs:\n  - api_url: '{}'\n    title: '{{{{ template \"mine.title\" . }}}}'\n    \
         text: '{{{{ template \"mine.bad\" . }}}}'\n    footer: '{{{{ template \"slack.default.username\" . }}}}'\n",
        slack.url
    );
    let nightbell = Nightbell::start(&config);
    wait_until("the alert is notified", Duration::from_secs(20), || {
        !slack.requests().is_empty()
    });
    let body: Value = serde_json::from_str(&slack.last().body).expect("JSON");
    let message = &body["attachments"][0];
    assert_eq!(
        (&message["title"], &message["footer"]),
        (&json!("FIRING Always"), &json!("Alertmanager"))
    );
    let text = message["text"].as_str().expect("a text");
    assert!(text.contains("It is so"), "the built-in text: {text}");
    let error = "template: two.tmpl:3:3: executing \"mine.bad\" at ‹.Nope›: can't evaluate field Nope in type template.Data";
    assert!(text.contains(error), "{text}");
    wait_until("it is counted", Duration::from_secs(20), || {
        nightbell.metric("nightbell_notification_template_failures_total") == Some(1.0)
    });
    assert!(
        nightbell
            .log()
            .contains("A template failed: the built-in text stands for it."),
        "{}",
        nightbell.log()
    );
    write("two.tmpl", "{{ define \"x\" }}\n  {{ nope }}{{ end }}");
    let refused = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["check", "config"])
        .arg(nightbell.config_file())
        .output()
        .expect("it runs");
    let notified = String::from_utf8_lossy(&refused.stderr).into_owned()
        + &String::from_utf8_lossy(&refused.stdout);
    assert!(
        !refused.status.success()
            && notified.contains("two.tmpl:2:6: function \"nope\" not defined"),
        "{notified}"
    );
    // A reload with it is refused; a start tells people all the same, and says why it does not do
    // so in the configured words.
    let mut nightbell = nightbell;
    let (status, why) = nightbell.request("POST", "/-/reload", "");
    assert!(
        status == 500 && why.contains("two.tmpl:2:6"),
        "{status} {why}"
    );
    write(
        "rules.yml",
        "groups: [{name: g, rules: [{alert: Again, expr: vector(1), annotations: {summary: So it is}}]}]",
    );
    nightbell.configure(&config.replace("{{ template \"mine.title\" . }}", "{{ .Status"));
    nightbell.kill();
    nightbell.restart();
    let again = |request: &&crate::servers::http_sink::Recorded| request.body.contains("So it is");
    wait_until(
        "the other alert is notified",
        Duration::from_secs(20),
        || slack.requests().iter().any(|request| again(&request)),
    );
    let body: Value =
        serde_json::from_str(&slack.requests().iter().find(again).expect("it came").body)
            .expect("JSON");
    let message = &body["attachments"][0];
    assert_eq!(
        message["title"],
        json!("[FIRING:1]  (Again)"),
        "the built-in title"
    );
    let text = message["text"].as_str().expect("a text");
    for error in [
        "The template of \"title\" failed",
        "template: :1: unclosed action",
        "template \"mine.bad\" not defined",
    ] {
        assert!(text.contains(error), "{error}: {text}");
    }
    assert!(
        nightbell.log().contains("unclosed action"),
        "{}",
        nightbell.log()
    );
}

/// Two instances that watch each other, and what each needs to be asked.
struct Pair {
    a: Nightbell,
    b: Nightbell,
}

const PEER_SECRET: &str = "a-secret-that-nobody-may-see";

impl Pair {
    fn config(own: &str, other: &str, port: u16, sink: &HttpSink) -> String {
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             peers: {{name: {own}, secret: {PEER_SECRET}, interval: 1s, grace: 6s, watch: [{{name: {other}, url: 'http://127.0.0.1:{port}'}}]}}\n\
             route: {{receiver: hook, group_by: [alertname, peer], group_wait: 0s, group_interval: 1s}}\nreceivers: [{{name: hook, webhook_configs: [{{url: '{}'}}]}}]\n",
            sink.url
        )
    }

    fn start(sink: &HttpSink) -> Self {
        let a = Nightbell::start("rules: {shipped: true}\n");
        let b = Nightbell::start(&Self::config("bell-b", "bell-a", a.port, sink));
        a.configure(&Self::config("bell-a", "bell-b", b.port, sink));
        assert_eq!(a.request("POST", "/-/reload", "").0, 200, "{}", a.log());
        Pair { a, b }
    }
}

/// Two instances watch each other by signed heartbeats; the one that is left tells of the other's
/// silence and of its return. What is not signed is refused, and the secret is nowhere to be seen.
#[test]
fn two_instances_watch_each_other() {
    let sink = HttpSink::start([Reply::Answer(200, "", "{}")]);
    let Pair { a, mut b } = Pair::start(&sink);
    let received = |who: &Nightbell| {
        let body = who.get("/metrics").1;
        let line = body
            .lines()
            .find(|l| l.starts_with("nightbell_peer_heartbeats_received_total"))
            .map(str::to_owned);
        line.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    wait_until("both hear of each other", Duration::from_secs(20), || {
        received(&a) >= 2.0 && received(&b) >= 2.0
    });
    // The other one may have been heard of late: it was started first, and notified of its peer
    // afterwards.
    let notified = || -> Vec<String> {
        let bodies = sink
            .requests()
            .into_iter()
            .filter_map(|r| serde_json::from_str::<Value>(&r.body).ok());
        let about = |b: &Value| {
            b["commonLabels"]["alertname"] == "NightbellPeerSilent"
                && b["commonLabels"]["peer"] == "bell-b"
        };
        bodies
            .filter(about)
            .map(|b| b["status"].as_str().unwrap_or("").to_owned())
            .collect()
    };
    assert!(notified().is_empty(), "{:?}", notified());
    let forged = r#"{"from":"bell-b","to":"bell-a","at_ms":1,"signature":"00"}"#;
    let headers = format!(
        "content-type: application/json\r\ncontent-length: {}\r\n",
        forged.len()
    );
    let (status, answer) = a.request_with("POST", "/api/nightbell/heartbeat", &headers, forged);
    assert_eq!(status, 403, "{answer}");
    b.kill();
    wait_until("the silence is notified", Duration::from_secs(30), || {
        notified() == ["firing"]
    });
    b.restart();
    wait_until("the return is notified", Duration::from_secs(30), || {
        notified() == ["firing", "resolved"]
    });
    wait_until("the refusal is counted", Duration::from_secs(10), || {
        a.get("/metrics").1.lines().any(|l| {
            l.starts_with("nightbell_peer_heartbeats_refused_total")
                && l.contains("signature")
                && l.ends_with(" 1")
        })
    });
    for bell in [&a, &b] {
        for path in [
            "/metrics",
            "/api/v1/status/config",
            "/api/v2/status",
            "/health",
        ] {
            assert!(!bell.get(path).1.contains(PEER_SECRET), "{path}");
        }
        assert!(!bell.log().contains(PEER_SECRET));
    }
}

/// With the real process: `kill -9` while an action runs, three times; it is not run again within
/// its cool-down, the record says that nobody knows what came of it, and no answer shows what
/// stands in the action's environment.
#[test]
fn a_recovery_action_survives_kill_without_a_second_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let runs = folder.path().join("runs");
    let page = Hostile::page("trouble 1\n");
    let rule_file = folder.path().join("trouble.yml");
    std::fs::write(&rule_file, "groups:\n- name: trouble\n  interval: 200ms\n  rules:\n  - alert: Trouble\n    expr: trouble == 1\n")
        .expect("written");
    let mut nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\nrules: {{shipped: false}}\nrule_files: ['{}']\n\
         scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
         route: {{receiver: act, group_wait: 0s, group_interval: 1s, repeat_interval: 1s}}\n\
         receivers:\n- name: act\n  command_configs:\n  - {{command: [sh, -c, 'echo \"$TOKEN\" >> {}; sleep 5'], environment: {{TOKEN: s3cr3t-T0KEN}}, cool_down: 10m}}\n",
        rule_file.display(),
        page.address,
        runs.display()
    ));
    for _ in 0..3 {
        wait_until("the action has begun", Duration::from_secs(20), || {
            runs.exists()
        });
        nightbell.kill();
        nightbell.restart();
    }
    let actions = || {
        nightbell.json("/api/nightbell/actions")["data"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    wait_until("it is asked for again", Duration::from_secs(20), || {
        actions().iter().any(|a| a["outcome"] == "cooling_down")
    });
    assert!(
        actions()
            .iter()
            .any(|a| a["outcome"] == "unknown" && a["alert"] == "Trouble"),
        "{:?}",
        actions()
    );
    assert_eq!(
        std::fs::read_to_string(&runs).expect("it ran"),
        "s3cr3t-T0KEN\n",
        "once"
    );
    let shown = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args([
            "actions",
            "Trouble",
            "--url",
            &format!("http://127.0.0.1:{}", nightbell.port),
        ])
        .output()
        .expect("it runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("act/command/0")
            && shown.contains("unknown")
            && shown.contains("cooling_down"),
        "{shown}"
    );
    for path in [
        "/metrics",
        "/api/v1/status/config",
        "/api/v2/status",
        "/api/nightbell/actions",
        "/api/nightbell/why?alert=Trouble",
    ] {
        let (status, body) = nightbell.get(path);
        assert!(
            status == 200 && !body.contains("s3cr3t-T0KEN"),
            "{path}: {body}"
        );
    }
    assert!(!nightbell.log().contains("s3cr3t-T0KEN"));
}

/// A message that was refused for good is listed and sent again, by the command and only for
/// whoever may.
#[test]
fn dead_letters_are_listed_and_sent_again() {
    let sink = HttpSink::start([Reply::Answer(403, "", ""), Reply::Answer(200, "", "")]);
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules.yml");
    std::fs::write(
        &rules,
        "groups: [{name: g, rules: [{alert: Always, expr: vector(1)}]}]",
    )
    .expect("written");
    let nightbell = Nightbell::start(&format!(
        "global: {{evaluation_interval: 1s}}\nrules: {{shipped: false}}\nrule_files: ['{}']\nweb: {{admin_token: t0ken}}\n\
         route: {{receiver: hook, group_wait: 0s}}\nreceivers: [{{name: hook, webhook_configs: [{{url: '{}/s3cr3t'}}]}}]\n",
        rules.display(),
        sink.url
    ));
    let command = |arguments: &[&str], token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
        let url = format!("http://127.0.0.1:{}", nightbell.port);
        let output = command
            .arg("dead-letters")
            .args(arguments)
            .args(["--url", &url, "--admin-token", token])
            .output()
            .expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        )
    };
    wait_until("the message is given up", Duration::from_secs(20), || {
        command(&[], "t0ken").1.contains("Always")
    });
    let (_, listed) = command(&["list"], "t0ken");
    assert!(
        listed.contains("hook/webhook/0")
            && listed.contains("answered 403")
            && !listed.contains("s3cr3t"),
        "{listed}"
    );
    assert_eq!(command(&["list"], "wrong").0, Some(1));
    assert_eq!(nightbell.get("/api/nightbell/dead-letters").0, 401);
    let id = listed
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().next())
        .expect("an id")
        .to_owned();
    assert!(
        command(&["send", "nothing"], "t0ken")
            .1
            .contains("there is no dead letter of this id")
    );
    assert_eq!(
        command(&["send", &id], "t0ken"),
        (Some(0), format!("{id}: is sent again\n"))
    );
    wait_until("it is delivered", Duration::from_secs(20), || {
        sink.requests().len() == 2
    });
    assert_eq!(
        sink.requests()[1].headers.get("x-nightbell-delivery"),
        Some(&id),
        "under its own delivery id"
    );
    let body: Value = serde_json::from_str(&sink.requests()[1].body).expect("JSON");
    assert_eq!(
        body["externalURL"],
        format!("http://127.0.0.1:{}", nightbell.port),
        "links lead to where it listens"
    );
    assert_eq!(
        command(&["send", "--all"], "t0ken"),
        (Some(0), "0 messages are sent again\n".into())
    );
}

/// Where people reach nightbell from elsewhere, a message links to the picture of the last hour.
/// The link is signed: another alert, another time or another token shows nothing.
#[test]
fn a_message_links_to_a_picture_that_only_its_link_shows() {
    let slack = HttpSink::start([Reply::Answer(200, "", "ok")]);
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules.yml");
    std::fs::write(&rules, "groups: [{name: g, rules: [{alert: Wave, expr: 'vector(60 + 30 * scalar(sin(vector(time() / 300)))) > 1'}]}]")
        .expect("written");
    let nightbell = Nightbell::start(&format!(
        "global: {{evaluation_interval: 1s}}\nrules: {{shipped: false}}\nrule_files: ['{}']\nweb: {{external_url: 'https://bell.example.org', admin_token: t}}\n\
         route: {{receiver: all, group_wait: 0s}}\nreceivers: [{{name: all, slack_configs: [{{api_url: '{}'}}]}}]\n",
        rules.display(),
        slack.url
    ));
    wait_until("the alert is notified", Duration::from_secs(20), || {
        !slack.requests().is_empty()
    });
    let body: Value = serde_json::from_str(&slack.last().body).expect("JSON");
    let text = body["attachments"][0]["text"].as_str().expect("a text");
    let link = text
        .split("https://bell.example.org")
        .find(|part| part.starts_with("/picture?"))
        .unwrap_or_else(|| panic!("no link: {text}"));
    let path = link
        .split('|')
        .next()
        .expect("a path")
        .replace("&amp;", "&");
    let (status, answer) = nightbell.get(&path);
    assert!(
        status == 200 && answer.contains("PNG") && answer.len() < 30_000,
        "{path}: {status}"
    );
    let (start, token) = path.rsplit_once('=').expect("a token");
    let until = path
        .split("until=")
        .nth(1)
        .and_then(|rest| rest.split('&').next())
        .expect("a time");
    for forged in [
        format!(
            "{start}={}{}",
            &token[..token.len() - 1],
            if token.ends_with('0') { 1 } else { 0 }
        ),
        format!("{start}="),
        path.replace(until, "9999999999999"),
        path.replacen("since=1", "since=2", 1),
        path.replace("/picture", "/acknowledge"),
        "/picture".to_owned(),
    ] {
        let (status, answer) = nightbell.get(&forged);
        assert!(
            matches!(status, 400 | 403) && !answer.contains("PNG"),
            "{forged}: {status}"
        );
    }
}

/// A message that tells of the end has the value now, not the last one that was too much; and who
/// began to collect a moment ago has a picture, too.
#[test]
fn the_end_comes_with_the_value_now_and_a_young_series_with_a_picture() {
    let page = |value: f64| {
        Reply::Answer(
            200,
            "Content-Type: text/plain; version=0.0.4\r\n",
            format!("queue {value}\n").leak(),
        )
    };
    let (app, slack) = (
        HttpSink::start([page(3.0)]),
        HttpSink::start([Reply::Answer(200, "", "ok")]),
    );
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("rules.yml"),
        "groups: [{name: g, rules: [{alert: Long, expr: 'queue * 2 > 40'}]}]",
    )
    .expect("written");
    let nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrules: {{shipped: false}}\nrule_files: ['{}/rules.yml']\n\
         web: {{external_url: 'https://bell.example.org'}}\nscrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
         route: {{receiver: all, group_wait: 0s, group_interval: 1s}}\nreceivers: [{{name: all, slack_configs: [{{api_url: '{}', send_resolved: true}}]}}]\n",
        folder.path().display(),
        app.url.trim_start_matches("http://"),
        slack.url
    ));
    wait_until("it was collected", Duration::from_secs(30), || {
        app.requests().len() > 3
    });
    app.answer(page(30.0));
    let notified = |what: &str| {
        slack
            .requests()
            .into_iter()
            .find(|request| request.body.contains(what))
            .map(|request| request.body)
    };
    wait_until("the alert is notified", Duration::from_secs(30), || {
        notified("Value: 60").is_some()
    });
    let firing = notified("Value: 60").expect("notified");
    assert!(
        firing.contains("Before: 6 (") && firing.contains("/picture?"),
        "{firing}\n{}",
        nightbell.log()
    );
    app.answer(page(1.5));
    wait_until("the end is notified", Duration::from_secs(30), || {
        notified("RESOLVED").is_some()
    });
    let over = notified("RESOLVED").expect("notified");
    assert!(
        over.contains("Value now: 3\\n") && over.contains("Peak: 60\\n"),
        "{over}"
    );
}

/// No secret of any receiver is seen in a log (of every level), in an error, a metric or an answer
/// of the API, whatever the places answer.
#[test]
fn no_secret_of_any_receiver_is_seen_anywhere() {
    const SECRET: &str = "s3cr3t-T0KEN";
    let sink = HttpSink::start([Reply::Answer(403, "", "echoed s3cr3t-T0KEN")]);
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules.yml");
    std::fs::write(&rules, "groups: [{name: g, rules: [{alert: Always, expr: vector(1), labels: {severity: critical}}]}]")
        .expect("written");
    let url = &sink.url;
    let receivers = [
        format!(
            "email_configs: [{{to: a@b.c, from: d@e.f, smarthost: '127.0.0.1:9', auth_username: u, auth_password: {SECRET}}}]"
        ),
        format!(
            "slack_configs: [{{api_url: '{url}/{SECRET}'}}, {{app_token: {SECRET}, app_url: '{url}/chat.postMessage', channel: c}}]"
        ),
        format!(
            "webhook_configs: [{{url: '{url}/hook?key={SECRET}', http_config: {{authorization: {{credentials: {SECRET}}}}}}}]"
        ),
        format!("dingtalk_configs: [{{url: '{url}', access_token: {SECRET}, secret: {SECRET}}}]"),
        format!("wecom_configs: [{{url: '{url}', key: {SECRET}}}]"),
        format!("feishu_configs: [{{url: '{url}/{SECRET}', secret: {SECRET}}}]"),
        format!(
            "sms_configs: [{{provider: twilio, api_url: '{url}', account_sid: AC1, auth_token: {SECRET}, from: '+1', to: ['+2']}}, {{provider: aliyun, api_url: '{url}', access_key_id: AK1, access_key_secret: {SECRET}, sign_name: s, template_code: t, to: '1'}}]"
        ),
        format!("pagerduty_configs: [{{routing_key: {SECRET}, url: '{url}'}}]"),
        format!("telegram_configs: [{{bot_token: {SECRET}, chat_id: 1, api_url: '{url}'}}]"),
        format!("discord_configs: [{{webhook_url: '{url}/{SECRET}'}}]"),
        format!("msteams_configs: [{{webhook_url: '{url}/{SECRET}'}}]"),
        format!("msteamsv2_configs: [{{webhook_url: '{url}/{SECRET}'}}]"),
        format!("opsgenie_configs: [{{api_key: {SECRET}, api_url: '{url}/'}}]"),
        format!(
            "command_configs: [{{url: '{url}/{SECRET}'}}, {{command: [nothing-of-this-name, '${{TOKEN}}'], environment: {{TOKEN: '${{TOKEN}}'}}}}]"
        ),
    ];
    let kinds = nightbell::notify::NOTIFIERS.iter().map(|kind| kind.key);
    kinds.for_each(|key| {
        assert!(
            receivers.iter().any(|text| text.starts_with(key)),
            "{key} is missing here"
        )
    });
    let config = format!(
        "global: {{evaluation_interval: 1s}}\nrules: {{shipped: false}}\nrule_files: ['{}']\nheartbeat: {{url: '{url}/{SECRET}', interval: 1s}}\n\
         peers: {{name: a, secret: {SECRET}-of-peers, interval: 1s, watch: [{{name: b, url: '{url}'}}]}}\n\
         route: {{receiver: all, group_wait: 0s}}\nreceivers:\n- name: all\n  {}\n",
        rules.display(),
        receivers.join("\n  ")
    );
    let nightbell = Nightbell::start_with(
        Some(&config),
        &[("NIGHTBELL_LOG", "trace"), ("TOKEN", SECRET)],
    );
    let integrations = 17;
    let settled = || {
        let letters = nightbell.json("/api/nightbell/dead-letters")["data"]
            .as_array()
            .map_or(0, Vec::len);
        let actions = nightbell.json("/api/nightbell/actions")["data"]
            .as_array()
            .map_or(0, Vec::len);
        // Mail and Telegram are tried again.
        letters + actions >= integrations - 2
    };
    wait_until("every place was tried", Duration::from_secs(40), settled);
    let log = nightbell.log();
    assert!(
        log.contains(" TRACE ") && log.contains("kept as a dead letter"),
        "the whole log is on"
    );
    for (place, line) in log.lines().enumerate() {
        assert!(!line.contains(SECRET), "log line {place}: {line}");
    }
    for path in [
        "/metrics",
        "/health",
        "/api/v1/status/config",
        "/api/v1/status/flags",
        "/api/v1/rules",
        "/api/v1/alerts",
        "/api/v2/status",
        "/api/v2/receivers",
        "/api/v2/alerts",
        "/api/v2/alerts/groups",
        "/api/nightbell/why?alert=Always",
        "/api/nightbell/dead-letters",
    ] {
        let (status, body) = nightbell.get(path);
        assert!(
            status == 200 && !body.contains(SECRET),
            "{path}: {status}: {body}"
        );
    }
    let actions = nightbell.get("/api/nightbell/actions").1;
    // What an endpoint answers is its output, as what a program prints is; nothing else may tell.
    assert!(
        !actions.replace("echoed s3cr3t-T0KEN", "").contains(SECRET),
        "{actions}"
    );
}
