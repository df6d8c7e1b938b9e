//! Every notifier against a local server on a real socket: golden request, refusals, silence, broken connections, no secret in any error.
//! Golden requests are `tests/notify/<name>/<case>.txt`.

mod email;
mod slack;
mod webhook;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nightbell::config::{ConfigErrors, Document, Environment, Loader};
use nightbell::notify::{AlertStatus, NOTIFIERS, Notification, NotifiedAlert, Notifier, NotifyError, Reason};

use crate::servers::free_port;
use crate::servers::http_sink::{HttpSink, Reply};

/// Stands in every URL and key of these tests and must never come out in an error.
const SECRET: &str = "s3cr3t-T0KEN";

/// Builds the notifier of a receiver's list `key` from a file with `global` and `receiver`.
pub fn try_build(name: &str, yaml: &str) -> Result<Box<dyn Notifier>, ConfigErrors> {
    let document = Document::parse("notify.yml", yaml).expect("YAML");
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, Path::new("."));
    let kind = NOTIFIERS.iter().find(|k| k.name == name).expect("the table lists it");
    let notifier = {
        let root = loader.root();
        let global = root.section("global");
        let section = root.section("receiver").expect("a receiver");
        let notifier = (kind.build)(&section, global.as_ref());
        section.finish();
        if let Some(global) = global {
            global.finish();
        }
        root.finish();
        notifier
    };
    loader.finish(notifier)
}

pub fn build(name: &str, yaml: &str) -> Box<dyn Notifier> {
    try_build(name, yaml).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

/// 2026-11-21 09:00:00 UTC.
pub const NINE: i64 = 1_795_251_600_000;

pub fn alert(instance: &str) -> NotifiedAlert {
    NotifiedAlert {
        status: AlertStatus::Firing,
        labels: pairs(&[("alertname", "DiskFull"), ("instance", instance), ("mountpoint", "/data"), ("severity", "critical")]),
        annotations: pairs(&[
            ("description", "Less than 5 % of /data is free <now> & here."),
            ("runbook_url", "https://runbooks.example.org/disk?a=1&b=2"),
            ("summary", "磁盘将满 on the \"data\" volume"),
            ("threshold", "95 %"),
        ]),
        starts_at_ms: NINE + 500,
        ends_at_ms: None,
        generator_url: "http://bell.example.org/graph?g0.expr=disk".into(),
        fingerprint: "e9838f5e00149bed".into(),
        value: Some(96.437),
        peak: None,
    }
}

fn resolved(instance: &str) -> NotifiedAlert {
    NotifiedAlert {
        status: AlertStatus::Resolved,
        ends_at_ms: Some(NINE + 330_500),
        value: Some(80.0),
        peak: Some(99.25),
        ..alert(instance)
    }
}

fn notification(alerts: Vec<NotifiedAlert>) -> Notification {
    let common = |list: fn(&NotifiedAlert) -> &[(String, String)]| nightbell::notify::common(alerts.iter().map(list));
    let firing = alerts.iter().any(|a| a.status == AlertStatus::Firing);
    Notification {
        delivery_id: "01JD-7F3A".into(),
        receiver: "ops.mail".into(),
        group_key: "{}:{alertname=\"DiskFull\"}".into(),
        status: if firing { AlertStatus::Firing } else { AlertStatus::Resolved },
        truncated_alerts: 0,
        group_labels: pairs(&[("alertname", "DiskFull")]),
        common_labels: common(|a| &a.labels),
        common_annotations: common(|a| &a.annotations),
        external_url: "http://bell.example.org".into(),
        reason: if firing { "first notification" } else { "all alerts resolved" }.into(),
        at_ms: NINE + 360_500,
        alerts,
    }
}

/// Two alerts in trouble, one over.
pub fn firing() -> Notification {
    notification(vec![alert("db1:9100"), alert("db2:9100"), resolved("db3:9100")])
}

/// Everything over.
pub fn all_resolved() -> Notification {
    notification(vec![resolved("db1:9100"), resolved("db2:9100")])
}

/// Compares with `tests/notify/<name>/<case>`; `NIGHTBELL_UPDATE=1` writes it.
pub fn golden(name: &str, case: &str, got: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/notify").join(name);
    let path = folder.join(case);
    if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::write(&path, got).expect("the file can be written");
    }
    let want = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}; NIGHTBELL_UPDATE=1 writes it", path.display()));
    assert!(got == want, "{} differs; got:\n{got}\nwant:\n{want}", path.display());
}

/// One notifier that speaks HTTP: its name, its configuration with `{url}` for the sink, and what its place answers on success.
struct Place {
    name: &'static str,
    yaml: &'static str,
    accepts: Reply,
}

const PLACES: &[Place] = &[
    Place {
        name: "slack",
        yaml: "receiver: {api_url: '{url}/services/s3cr3t-T0KEN', channel: '#ops', timeout: 300ms}",
        accepts: Reply::Answer(200, "", "ok"),
    },
    Place { name: "webhook", yaml: "receiver: {url: '{url}/hook?key=s3cr3t-T0KEN', timeout: 300ms}", accepts: Reply::Answer(204, "", "") },
];

impl Place {
    fn build(&self, url: &str) -> Box<dyn Notifier> {
        build(self.name, &self.yaml.replace("{url}", url))
    }
}

/// The error of one attempt, which must not tell the secret, the address or what the place answered.
async fn failure(place: &Place, url: &str) -> NotifyError {
    let error = place.build(url).notify(&firing()).await.expect_err("it fails");
    let told = format!("{error} {error:?}");
    for hidden in [SECRET, "127.0.0.1", "http://", "echoed"] {
        assert!(!told.contains(hidden), "{}: {told}", place.name);
    }
    error
}

#[test]
fn every_http_notifier_stands_in_these_tests() {
    let tested: Vec<&str> = PLACES.iter().map(|p| p.name).chain(["email"]).collect();
    for kind in NOTIFIERS {
        assert!(tested.contains(&kind.name), "{} has no row in PLACES", kind.name);
    }
}

/// SEMANTICS 179-186: what goes over the wire, for alerts in trouble and for alerts that are over.
#[tokio::test]
async fn requests_are_what_the_place_documents() {
    for place in PLACES {
        let sink = HttpSink::start([place.accepts.clone()]);
        let notifier = place.build(&sink.url);
        for (case, notification) in [("firing.txt", firing()), ("resolved.txt", all_resolved())] {
            notifier.notify(&notification).await.unwrap_or_else(|e| panic!("{}: {e}", place.name));
            let request = sink.last();
            assert!(request.headers["user-agent"].starts_with("nightbell/"), "{}", place.name);
            golden(place.name, case, &request.golden());
        }
    }
}

/// SEMANTICS 172, and 429 with the wait that the place asks for.
#[tokio::test]
async fn refusals_are_classified() {
    let cases = [
        (Reply::Answer(429, "retry-after: 7\r\n", "echoed s3cr3t-T0KEN"), Reason::RateLimited, true, Some(7)),
        (Reply::Answer(429, "", ""), Reason::RateLimited, true, None),
        (Reply::Answer(500, "", "echoed s3cr3t-T0KEN"), Reason::ServerError, true, None),
        (Reply::Answer(503, "retry-after: 3\r\n", ""), Reason::ServerError, true, Some(3)),
        (Reply::Answer(401, "", "echoed s3cr3t-T0KEN"), Reason::Auth, false, None),
        (Reply::Answer(404, "", "echoed s3cr3t-T0KEN"), Reason::Rejected, false, None),
        (Reply::Silence, Reason::Timeout, true, None),
        (Reply::Reset, Reason::Unreachable, true, None),
    ];
    for place in PLACES {
        for (reply, reason, retryable, wait) in cases.clone() {
            let sink = HttpSink::start([reply]);
            let error = failure(place, &sink.url).await;
            let got = (error.reason, error.retryable, error.retry_after);
            assert_eq!(got, (reason, retryable, wait.map(Duration::from_secs)), "{}: {error}", place.name);
        }
    }
}

#[tokio::test]
async fn a_place_that_is_not_there_is_tried_again() {
    for place in PLACES {
        let error = failure(place, &format!("http://127.0.0.1:{}", free_port())).await;
        assert_eq!((error.reason, error.retryable), (Reason::Unreachable, true), "{}: {error}", place.name);
    }
}
