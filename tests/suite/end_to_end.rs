//! The built binary with real servers on both sides: what breaks is told once, what comes back is told once.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

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
    fn told(&self, alert: &str) -> Vec<String> {
        let about = |body: &Value| body["commonLabels"]["alertname"] == alert;
        let bodies = self.webhook.requests().into_iter().filter_map(|r| serde_json::from_str::<Value>(&r.body).ok());
        bodies.filter(about).map(|b| b["status"].as_str().unwrap_or("").to_owned()).collect()
    }

    fn slack_told(&self, alert: &str) -> usize {
        self.slack.requests().iter().filter(|r| r.body.contains(alert)).count()
    }
}

/// Breaks something, waits for the one firing message, mends it, waits for the one resolved message.
fn tells_once(ears: &Ears, alert: &str, mut breaks: impl FnMut(), mut mends: impl FnMut()) {
    let mails = |count: usize| {
        for _ in 0..count {
            let mail = ears.mail.mail();
            assert!(mail.to_string().contains(alert), "{mail}");
        }
    };
    breaks();
    let broken = Instant::now();
    wait_until(&format!("{alert} is told"), Duration::from_secs(20), || !ears.told(alert).is_empty());
    assert!(broken.elapsed() < 2 * INTERVAL, "{alert}: told after {:?}", broken.elapsed());
    mails(1);
    wait_until(&format!("{alert} is told to Slack"), Duration::from_secs(5), || ears.slack_told(alert) == 1);
    std::thread::sleep(INTERVAL + Duration::from_secs(1));
    assert_eq!(ears.told(alert), ["firing"], "one message");
    mends();
    wait_until(&format!("the end of {alert} is told"), Duration::from_secs(30), || ears.told(alert).len() == 2);
    mails(1);
    wait_until(&format!("the end of {alert} is told to Slack"), Duration::from_secs(5), || ears.slack_told(alert) == 2);
    assert_eq!(ears.told(alert), ["firing", "resolved"]);
    assert!(!ears.mail.has_mail(), "{alert}: one mail for each");
}

/// T3, C4, C7, C8, N1, N2, N3: a database that stops is told once by mail, Slack and webhook within two intervals, and its return once.
#[test]
fn databases_that_stop_are_told_once_and_so_is_their_return() {
    let (mut postgres, mut redis, mut chroma) = (Postgres::start(&[]), Redis::start(&[]), Chroma::start());
    let ears = Ears::new();
    let config = ears.config(&format!(
        "collectors:\n  postgres: [{{name: pg, dsn: '{}'}}]\n  redis: [{{name: cache, url: '{}'}}]\n  vector_store: [{{name: vectors, url: '{}'}}]\n",
        postgres.dsn("postgres", "postgres"),
        redis.url(),
        chroma.url()
    ));
    let nightbell = Nightbell::start(&config);
    wait_until("all are up", Duration::from_secs(20), || {
        ["pg_up", "redis_up", "vectorstore_up"].iter().all(|m| nightbell.metric(m) == Some(1.0))
    });
    let postgres = std::cell::RefCell::new(&mut postgres);
    tells_once(&ears, "PostgresDown", || postgres.borrow_mut().stop(), || postgres.borrow_mut().resume());
    let redis = std::cell::RefCell::new(&mut redis);
    tells_once(&ears, "RedisDown", || redis.borrow_mut().stop(), || redis.borrow_mut().resume());
    let chroma = std::cell::RefCell::new(&mut chroma);
    tells_once(&ears, "VectorStoreDown", || chroma.borrow_mut().stop(), || chroma.borrow_mut().restart());
    assert_eq!(ears.webhook.requests().len(), 6, "nothing else was told");
}

/// T5, T20, T26, C1, C9, C10: a failing health endpoint, a full disk and a refused key.
#[test]
fn endpoints_disks_and_keys_are_told_once() {
    let endpoint = Hostile::start(Manner::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".to_vec()));
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
    let down = || endpoint.become_(Manner::Raw(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()));
    let up = || endpoint.become_(Manner::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".to_vec()));
    tells_once(&ears, "EndpointDown", down, up);
    tells_once(&ears, "HostDiskSpaceCritical", || disk.fill(), || disk.empty());
    let refuse = || {
        llm.on("/v1/models", Script::json("401 Unauthorized", r#"{"error":{"code":"invalid_api_key"}}"#));
    };
    let accept = || {
        llm.on("/v1/models", Script::json("200 OK", models));
    };
    tells_once(&ears, "LLMAuthFailed", refuse, accept);
}

/// A small file system of its own, and the shipped rules narrowed to it (the machine's own disks may be full too).
struct Disk {
    folder: tempfile::TempDir,
    rules: std::path::PathBuf,
    _rules_folder: tempfile::TempDir,
}

impl Disk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "nightbell-test"]).arg(folder.path()).status().expect("mount runs");
        assert!(mounted.success(), "a tmpfs cannot be mounted: run the tests as root");
        let rules_folder = tempfile::tempdir().expect("a folder");
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
        let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("a rule file");
        let host =
            read("host.yml").replace("fstype!~\"squashfs", &format!("mountpoint=\"{}\", fstype!~\"squashfs", folder.path().display()));
        for (name, text) in [("host.yml", host), ("probe.yml", read("probe.yml")), ("llm_provider.yml", read("llm_provider.yml"))] {
            std::fs::write(rules_folder.path().join(name), text).expect("written");
        }
        let rules = rules_folder.path().join("*.yml");
        Disk { folder, rules, _rules_folder: rules_folder }
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
        // A mount that stays would keep the folder from being removed; the test's result does not depend on it.
        drop(Command::new("umount").arg("-l").arg(self.folder.path()).status());
    }
}

/// A target that hangs, streams without end, sends too many series or garbage: only its own `up` falls, and /metrics stays fast.
#[test]
fn hostile_targets_hurt_only_themselves() {
    let many: String = (0..300_000).map(|i| format!("m{{i=\"{i}\"}} 1\n")).collect();
    let targets = [
        ("good", Hostile::page("good 1\n")),
        ("silent", Hostile::start(Manner::Silent)),
        ("endless", Hostile::start(Manner::Endless)),
        ("many", Hostile::start(Manner::Serve("text/plain", many.into_bytes()))),
        ("garbage", Hostile::start(Manner::Serve("text/plain", vec![0xff; 4096]))),
    ];
    let mut config = String::from("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n");
    for (name, target) in &targets {
        config.push_str(&format!("- {{job_name: {name}, static_configs: [{{targets: ['{}']}}]}}\n", target.address));
    }
    let nightbell = Nightbell::start(&config);
    let up = |name: &str| {
        let body = nightbell.get("/metrics").1;
        body.lines().find(|l| l.starts_with("up{") && l.contains(&format!("job=\"{name}\""))).map(|l| l.ends_with(" 1"))
    };
    wait_until("every target was asked", Duration::from_secs(20), || targets.iter().all(|(name, _)| up(name).is_some()));
    for _ in 0..5 {
        let start = Instant::now();
        assert!(nightbell.get("/metrics").1.contains("good"));
        assert!(start.elapsed() < Duration::from_secs(1), "/metrics took {:?}", start.elapsed());
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(
        targets.iter().map(|(name, _)| up(name)).collect::<Vec<_>>(),
        [Some(true), Some(false), Some(false), Some(false), Some(false)]
    );
}

/// Issue 4, items 1 and 5: files under `templates` are read beside the configuration; what fails in one is told in the message, in the log
/// and in a metric, and the message comes all the same. A file that cannot be read is refused at its line and column.
#[test]
fn named_templates_of_files_are_used_and_a_broken_one_does_not_keep_the_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it can be written");
    write("one.tmpl", "{{ define \"mine.title\" }}{{ .Status | toUpper }} {{ template \"mine.what\" . }}{{ end }}");
    write("two.tmpl", "{{ define \"mine.what\" }}{{ .CommonLabels.alertname }}{{ end }}\n{{ define \"mine.bad\" }}\n{{ .Nope }}{{ end }}");
    write("rules.yml", "groups: [{name: g, rules: [{alert: Always, expr: vector(1), annotations: {summary: It is so}}]}]");
    let slack = HttpSink::start([Reply::Answer(200, "", "ok")]);
    let folder_name = folder.path().display();
    let config = format!(
        "global: {{evaluation_interval: 1s}}\nrules: {{shipped: false}}\nrule_files: ['{folder_name}/rules.yml']\ntemplates: ['{folder_name}/*.tmpl']\n\
         route: {{receiver: all, group_wait: 0s}}\nreceivers:\n- name: all\n  slack_configs:\n  - api_url: '{}'\n    title: '{{{{ template \"mine.title\" . }}}}'\n    \
         text: '{{{{ template \"mine.bad\" . }}}}'\n    footer: '{{{{ template \"slack.default.username\" . }}}}'\n",
        slack.url
    );
    let nightbell = Nightbell::start(&config);
    wait_until("the alert is told", Duration::from_secs(20), || !slack.requests().is_empty());
    let body: Value = serde_json::from_str(&slack.last().body).expect("JSON");
    let message = &body["attachments"][0];
    assert_eq!((&message["title"], &message["footer"]), (&json!("FIRING Always"), &json!("Alertmanager")));
    let text = message["text"].as_str().expect("a text");
    assert!(text.contains("It is so"), "the built-in text: {text}");
    let error = "template: two.tmpl:3:3: executing \"mine.bad\" at ‹.Nope›: can't evaluate field Nope in type template.Data";
    assert!(text.contains(error), "{text}");
    wait_until("it is counted", Duration::from_secs(20), || {
        nightbell.metric("nightbell_notification_template_failures_total") == Some(1.0)
    });
    assert!(nightbell.log().contains("A template failed: the built-in text stands for it."), "{}", nightbell.log());
    write("two.tmpl", "{{ define \"x\" }}\n  {{ nope }}{{ end }}");
    let refused =
        Command::new(env!("CARGO_BIN_EXE_nightbell")).args(["check", "config"]).arg(nightbell.config_file()).output().expect("it runs");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && told.contains("two.tmpl:2:6: function \"nope\" not defined"), "{told}");
}
