//! The monitoring that two of the guides run already, Prometheus, Alertmanager, Grafana and
//! node-exporter in Docker Compose: joined, in part replaced, or replaced.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{StandIn, folder, root, wait_for_input};
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;
use crate::servers::{Server, free_port, listens, wait_until};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A server in a folder of its own, which ends with this.
fn server(folder: &std::path::Path, program: &str, arguments: &[String]) -> Server {
    let child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Server(child.unwrap_or_else(|error| panic!("{program}: {error}")))
}

/// The alerts that a receiver was sent by somebody whose messages carry this receiver's name.
fn alerts(sink: &HttpSink, name: &str) -> Vec<Value> {
    let bodies = sink.requests().into_iter();
    let bodies = bodies.filter_map(|request| serde_json::from_str::<Value>(&request.body).ok());
    let alerts = bodies.flat_map(|body| body["alerts"].as_array().cloned().unwrap_or_default());
    alerts
        .filter(|alert| alert["labels"]["alertname"] == name)
        .collect()
}

/// LLMChat with its databases.
struct Application {
    app: StandIn,
    _servers: (Postgres, Redis, tempfile::TempDir),
}

impl Application {
    fn start() -> Self {
        let (postgres, redis) = (Postgres::start(&[]), Redis::start(&[]));
        let base = tempfile::tempdir().expect("a folder");
        let [logs, backups] = ["logs", "backups"].map(|name| folder(base.path(), name));
        let dsn = postgres.dsn("postgres", "postgres");
        let options = json!({"dsn": dsn, "redis": redis.url(), "logs": logs, "backups": backups});
        Application {
            app: StandIn::start("llmchat", options),
            _servers: (postgres, redis, base),
        }
    }
}

/// nightbell's service fits beside the services of llmchat's own Compose file, and stands alone.
///
/// Proves llmchat: D1.
#[test]
fn llmchat_compose_services_stand_beside_nightbell_and_can_be_left_out() {
    let ours: Value = serde_yaml::from_str(&read("deploy/compose.yml")).expect("YAML");
    let theirs: Value =
        serde_yaml::from_str(&read("tests/applications/llmchat/monitoring.yml")).expect("YAML");
    let nightbell = &ours["services"]["nightbell"];
    assert!(nightbell["image"].is_string() && nightbell["depends_on"].is_null());
    let ports = |service: &Value| -> Vec<String> {
        let ports = service["ports"].as_array().cloned().unwrap_or_default();
        let host = |port: &Value| {
            let parts: Vec<&str> = port.as_str().expect("a text").rsplit(':').collect();
            parts[1].to_owned()
        };
        ports.iter().map(host).collect()
    };
    let mut taken = Vec::new();
    for (name, service) in theirs["services"].as_object().expect("services") {
        assert_ne!(name, "nightbell");
        taken.extend(ports(service));
    }
    assert_eq!(taken, ["9090", "3000", "9093", "9100"]);
    assert_eq!(ports(nightbell), ["9908"], "no port of theirs");
    // Each volume that it names is declared, or is a path of the project.
    for volume in nightbell["volumes"].as_array().expect("volumes") {
        let source = volume.as_str().expect("a text").split(':').next();
        let source = source.expect("a source");
        assert!(
            source.starts_with(['.', '/']) || ours["volumes"].get(source).is_some(),
            "{source}"
        );
    }

    // In place of all four: the application's page, its rules and its receivers by nightbell alone.
    let Application { app, _servers } = &Application::start();
    let sink = HttpSink::start([Reply::Answer(200, "", "{}")]);
    let alone = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrules: {{profiles: [llmchat]}}\n\
         scrape_configs: [{{job_name: llmchat, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n\
         collectors: {{host: {{}}, probe: [{{name: llmchat, url: 'http://127.0.0.1:{port}/health', timeout: 1s}}]}}\n\
         route: {{receiver: hook, group_wait: 0s, group_interval: 1s}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: '{}'}}]}}]\n",
        sink.url,
        port = app.port,
    ));
    wait_for_input(
        &alone,
        &["probe_success == 1", "llmchat_http_requests_total"],
    );
    app.switch(json!({"down": true}));
    wait_until("it is notified", Duration::from_secs(60), || {
        !alerts(&sink, "EndpointDown").is_empty()
    });
}

/// A real Prometheus scrapes nightbell by the configuration that is shipped for it, with the shipped
/// rules; a real Alertmanager with agent-v3's own file gets the alerts of nightbell's rules and
/// sends them.
///
/// Proves agent-v3: D1.
#[test]
fn agent_v3_prometheus_and_alertmanager_go_on_beside_nightbell() {
    let sink = HttpSink::start([Reply::Answer(200, "", "{}")]);
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    let (prometheus, alertmanager) = (free_port(), free_port());
    // Its mail server is not there, which stops no webhook.
    write(
        "alertmanager.yml",
        &read("tests/applications/agent-v3/alertmanager.yml")
            .replace("https://your-slack-webhook-url", &sink.url)
            .replace("smtp.gmail.com:587", "127.0.0.1:1"),
    );
    let _alertmanager = server(
        folder.path(),
        "prometheus-alertmanager",
        &[
            "--config.file=alertmanager.yml".to_owned(),
            "--storage.path=alertmanager".to_owned(),
            "--cluster.listen-address=".to_owned(),
            format!("--web.listen-address=127.0.0.1:{alertmanager}"),
        ],
    );
    wait_until("Alertmanager listens", Duration::from_secs(30), || {
        listens(alertmanager)
    });
    let Application { app, _servers } = &Application::start();
    let nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrules: {{profiles: [agent-v3]}}\n\
         collectors: {{host: {{}}, probe: [{{name: agent-v3, url: 'http://127.0.0.1:{}/health', timeout: 1s}}]}}\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n",
        app.port
    ));
    write(
        "prometheus.yml",
        &format!(
            "{}rule_files: ['{}/rules/*.yml']\n",
            read("deploy/prometheus.yml")
                .replace("nightbell:9908", &format!("127.0.0.1:{}", nightbell.port))
                .replace(": 15s", ": 1s"),
            root().display()
        ),
    );
    let _prometheus = server(
        folder.path(),
        "prometheus",
        &[
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            format!("--web.listen-address=127.0.0.1:{prometheus}"),
        ],
    );
    wait_until("Prometheus listens", Duration::from_secs(60), || {
        listens(prometheus)
    });
    let theirs = |query: &str| -> Value {
        let url = format!("http://127.0.0.1:{prometheus}");
        let output = Command::new("promtool")
            .args(["query", "instant", "-o", "json", &url, query])
            .output()
            .expect("promtool");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    // Exporter: what it measures is there under the exporters' names.
    wait_until("Prometheus has scraped", Duration::from_secs(60), || {
        theirs("node_load1 and on() probe_success == 1")[0]["value"].is_array()
    });
    app.switch(json!({"down": true}));
    // Rule engine: Alertmanager sends what nightbell found, to whom its file says.
    wait_until("Alertmanager has sent it", Duration::from_secs(90), || {
        !alerts(&sink, "EndpointDown").is_empty()
    });
    let sent = sink.requests().into_iter().find_map(|request| {
        let body: Value = serde_json::from_str(&request.body).ok()?;
        (body["groupLabels"]["alertname"] == "EndpointDown").then_some(body)
    });
    let sent = sent.expect("it was there");
    assert_eq!(sent["receiver"], "team-ops-critical");
    assert!(
        sent["externalURL"]
            .as_str()
            .is_some_and(|url| url.ends_with(&format!(":{alertmanager}"))),
        "it is Alertmanager's own message: {sent}"
    );
    assert_eq!(
        alerts(&sink, "EndpointDown")[0]["labels"]["instance"],
        "agent-v3"
    );
    // Prometheus's own rules, the same files, find it as well.
    wait_until("Prometheus has found it", Duration::from_secs(90), || {
        theirs("ALERTS{alertname=\"EndpointDown\"}")[0]["value"].is_array()
    });
}
