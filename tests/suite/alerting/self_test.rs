//! The daily self-test: every receiver gets a marked message that alarms nobody; a way that fails
//! is an alert, notified by those that work.

use std::time::Duration;

use nightbell::alerting::self_test::{ALERT, Metrics, test_all};
use nightbell::alerting::{Handle, start};
use nightbell::model::Timestamp;
use nightbell::state::State;
use nightbell::telemetry::Telemetry;
use serde_json::Value;
use tokio::sync::watch;

use super::read_config;
use crate::servers::http_sink::{HttpSink, Reply};

async fn until(what: &str, ready: impl Fn() -> bool) {
    let waited = async {
        while !ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), waited)
        .await
        .unwrap_or_else(|_| panic!("{what}: not in time"));
}

fn bodies(sink: &HttpSink) -> Vec<Value> {
    sink.requests()
        .iter()
        .map(|r| serde_json::from_str(&r.body).expect("JSON"))
        .collect()
}

struct World {
    handle: Handle,
    metrics: Metrics,
    telemetry: Telemetry,
    stop: watch::Sender<bool>,
}

impl World {
    async fn new(yaml: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let telemetry = Telemetry::new();
        let state = State::in_memory().await.expect("a database");
        let (handle, run) = start(
            read_config(yaml).expect("valid"),
            state,
            &telemetry,
            stopped,
        )
        .await;
        tokio::spawn(run);
        World {
            handle,
            metrics: Metrics::register(&telemetry),
            telemetry,
            stop,
        }
    }

    async fn test(&self, except: &[&str]) {
        let except: Vec<String> = except.iter().map(|name| (*name).to_owned()).collect();
        test_all(&self.handle, &except, &self.metrics).await;
    }

    fn fires(&self) -> Vec<String> {
        let alerts = self
            .handle
            .alerts(Timestamp::now())
            .into_iter()
            .filter(|view| view.alert.name() == ALERT);
        alerts
            .map(|view| view.alert.labels.value("integration").to_owned())
            .collect()
    }
}

/// The routes of the alert lead to a receiver that failed itself, so one that works is notified;
/// the failure ends with the next test.
#[tokio::test]
async fn a_way_that_fails_is_an_alert_that_those_that_work_tell() {
    let (good, bad, pager) = (
        HttpSink::start([Reply::Answer(200, "", "")]),
        HttpSink::start([
            Reply::Answer(403, "", ""),
            Reply::Answer(403, "", ""),
            Reply::Answer(200, "", ""),
        ]),
        HttpSink::start([Reply::Answer(202, "", r#"{"status":"success"}"#)]),
    );
    let world = World::new(&format!(
        "route: {{receiver: bad, group_wait: 0s, group_interval: 1s}}\nreceivers:\n- {{name: bad, webhook_configs: [{{url: '{}'}}]}}\n\
         - {{name: act, command_configs: [{{command: ['true']}}]}}\n- {{name: left, webhook_configs: [{{url: 'http://127.0.0.1:9/'}}]}}\n\
         - {{name: good, webhook_configs: [{{url: '{}'}}]}}\n- {{name: pager, pagerduty_configs: [{{routing_key: k, url: '{}'}}]}}\n",
        bad.url, good.url, pager.url
    ))
    .await;
    world.test(&["left"]).await;
    let notified = bodies(&good);
    assert_eq!(
        (
            &notified[0]["status"],
            &notified[0]["commonLabels"]["alertname"]
        ),
        (&"resolved".into(), &"NightbellTest".into()),
        "{notified:?}"
    );
    assert_eq!(
        bodies(&pager)[0]["event_action"],
        "resolve",
        "no incident is opened"
    );
    assert_eq!(world.fires(), ["bad/webhook/0"]);
    until("the receiver that works is notified", || {
        bodies(&good).iter().any(|body| {
            body["commonLabels"]["alertname"] == ALERT && body["commonLabels"]["receiver"] == "bad"
        })
    })
    .await;
    let metrics = world.telemetry.encode();
    for line in [
        "nightbell_self_test_success{receiver=\"bad\",notifier=\"webhook\"} 0",
        "nightbell_self_test_success{receiver=\"good\",notifier=\"webhook\"} 1",
        "nightbell_self_test_success{receiver=\"act\",notifier=\"command\"} 1",
        "nightbell_self_tests_failed_total{receiver=\"bad\",notifier=\"webhook\",reason=\"auth\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // It was notified of its own failure, too, which it refused.
    until("the bad one was tried", || bad.requests().len() >= 2).await;
    world.test(&["left"]).await;
    assert!(world.fires().is_empty(), "it works again");
    assert!(
        world
            .telemetry
            .encode()
            .contains("nightbell_self_test_success{receiver=\"bad\",notifier=\"webhook\"} 1")
    );
    world.stop.send(true).expect("it runs");
}
