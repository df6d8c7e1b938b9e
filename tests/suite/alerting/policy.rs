//! A receiver's own keys: `fallback`, `quiet_hours`. The clock is the test's.

use std::sync::Arc;
use std::time::Duration;

use nightbell::alerting::deliver::{Deliverer, Step};
use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::metrics::Metrics;
use nightbell::alerting::{Alerting, Incoming};
use nightbell::model::Timestamp;
use nightbell::notify::{AlertStatus, Notification, NotifyError, Reason};
use nightbell::state::State;

use super::delivery::{Answer, Scripted};
use super::{START, alert, heard, read_config};

/// Each integration a scripted receiver, in file order.
fn couriers(yaml: &str) -> (Alerting, Vec<Arc<Scripted>>) {
    let mut config = read_config(yaml).unwrap_or_else(|e| panic!("{e}"));
    let mut couriers = Vec::new();
    for integration in config.receivers.iter_mut().flat_map(|r| &mut r.integrations) {
        let courier = Arc::new(Scripted::default());
        integration.courier = courier.clone();
        couriers.push(courier);
    }
    (config, couriers)
}

struct World {
    state: State,
    dispatch: Dispatch,
    deliverers: Vec<Deliverer>,
}

impl World {
    async fn new(config: &Alerting) -> Self {
        let state = State::in_memory().await.expect("a database");
        let dispatch = Dispatch::restore(Arc::new(config.clone()), state.clone(), Metrics::default(), START).await;
        let deliverers = dispatch.deliverers();
        World { state, dispatch, deliverers }
    }

    async fn fire(&mut self, labels: &[&str], ended: Option<Timestamp>, now: Timestamp) {
        let alerts = labels.iter().map(|labels| Incoming::from(alert(labels, START, ended, now))).collect();
        self.dispatch.put(alerts, now).await;
        self.dispatch.flush(now).await;
    }

    /// Lets one integration deliver until it has nothing to do or pauses.
    async fn deliver(&mut self, index: usize, now: Timestamp) -> Step {
        loop {
            match self.deliverers[index].step(now).await {
                Step::Done => {}
                other => return other,
            }
        }
    }
}

fn at(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

fn busy() -> Answer {
    Answer::Refuse(NotifyError::retryable(Reason::ServerError, "503"))
}

fn firing(told: &[Notification]) -> Vec<String> {
    heard(told, AlertStatus::Firing).into_iter().collect()
}

const FALLBACK: &str = "\
route: {receiver: ops, group_by: [alertname], group_wait: 0s}
receivers:
- {name: ops, fallback: boss, fallback_after: 5m, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
- {name: boss, fallback: ops, fallback_after: 5m, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
";

/// A receiver that is down for `fallback_after` loses its messages to its fallback, once each; when it is back, it is told itself.
#[tokio::test]
async fn the_fallback_is_told_when_the_receiver_is_down_for_the_set_time() {
    let (config, told) = couriers(FALLBACK);
    let mut world = World::new(&config).await;
    world.fire(&["alertname=A n=1", "alertname=B n=2"], None, at(0)).await;
    told[0].script.lock().extend((0..4).map(|_| busy()));
    assert!(matches!(world.deliver(0, at(0)).await, Step::Pause(_)));
    assert!(matches!(world.deliver(0, at(299)).await, Step::Pause(_)));
    assert_eq!(world.deliver(1, at(299)).await, Step::Idle, "not yet");
    assert!(matches!(world.deliver(0, at(300)).await, Step::Pause(_)), "it is still tried with care");
    assert_eq!(world.deliver(1, at(300)).await, Step::Idle);
    assert_eq!(firing(&told[1].told.lock()), ["1", "2"]);
    assert_eq!(told[1].told.lock()[0].stands_in_for, ["ops"]);
    assert_eq!(world.state.outbox(10).await.expect("read"), []);

    world.fire(&["alertname=C n=3"], None, at(310)).await;
    assert!(matches!(world.deliver(0, at(310)).await, Step::Pause(_)), "one attempt, which fails");
    assert_eq!(world.deliver(1, at(310)).await, Step::Idle);
    assert_eq!(firing(&told[1].told.lock()), ["1", "2", "3"]);

    world.fire(&["alertname=D n=4"], None, at(400)).await;
    assert_eq!(world.deliver(0, at(400)).await, Step::Idle);
    assert_eq!(firing(&told[0].told.lock()), ["4"]);
}

/// A refusal for good needs no waiting; and a message that went round all receivers stays with the last one.
#[tokio::test]
async fn a_permanent_refusal_goes_to_the_fallback_at_once_and_never_back() {
    let (config, told) = couriers(FALLBACK);
    let mut world = World::new(&config).await;
    world.fire(&["alertname=A n=1"], None, at(0)).await;
    let gone = || Answer::Refuse(NotifyError::permanent(Reason::Auth, "403"));
    told[0].script.lock().push_back(gone());
    told[1].script.lock().push_back(gone());
    assert_eq!(world.deliver(0, at(0)).await, Step::Idle);
    assert_eq!(world.deliver(1, at(0)).await, Step::Idle);
    let letters = world.state.dead_letters(10).await.expect("read");
    assert_eq!((letters.len(), letters[0].message.integration.as_str()), (1, "boss/webhook/0"));
    assert_eq!(world.state.outbox(10).await.expect("read"), []);
}

/// Warnings of the night come as one digest in the morning, ended ones as ended; what is critical, or of no known severity, comes at once.
#[tokio::test]
async fn quiet_hours_hold_what_is_not_critical_and_one_digest_follows() {
    let (config, told) = couriers(
        "\
route: {receiver: ops, group_by: [alertname], group_wait: 0s, group_interval: 1m}
time_intervals: [{name: night, time_intervals: [{times: [{start_time: '00:00', end_time: '06:00'}]}]}]
receivers: [{name: ops, quiet_hours: [night], webhook_configs: [{url: 'http://127.0.0.1:9/'}]}]
",
    );
    let mut world = World::new(&config).await;
    let all = ["alertname=A n=1 severity=warning", "alertname=B n=2 severity=info", "alertname=C n=3 severity=critical", "alertname=D n=4"];
    world.fire(&all, None, at(0)).await;
    assert_eq!(world.deliver(0, at(1)).await, Step::Idle);
    assert_eq!(firing(&told[0].told.lock()), ["3", "4"]);
    world.fire(&all[..1], Some(at(60)), at(60)).await;
    assert_eq!(world.deliver(0, at(6 * 3600 - 1)).await, Step::Idle);
    assert_eq!(told[0].told.lock().len(), 2, "still night");
    assert_eq!(world.deliver(0, at(6 * 3600)).await, Step::Idle);
    let told = told[0].told.lock();
    assert_eq!((told.len(), told[2].digest), (3, 2));
    let signs: Vec<(&str, AlertStatus)> = told[2].alerts.iter().map(|a| (a.label("n"), a.status)).collect();
    assert_eq!(signs, [("1", AlertStatus::Resolved), ("2", AlertStatus::Firing)]);
}

#[test]
fn mistakes_in_a_receivers_own_keys_are_told_at_load() {
    for (keys, wanted) in [
        ("fallback: nobody", "fallback \"nobody\" of receiver \"ops\" is not another receiver; there is other"),
        ("fallback: ops", "fallback \"ops\" of receiver \"ops\" is not another receiver; there is other"),
        ("quiet_hours: [night]", "time interval \"night\" is not defined"),
        ("quiet_hours: [{times: [{start_time: '25:00', end_time: '26:00'}]}]", "25:00"),
        ("fallback_after: soon", "give a duration"),
    ] {
        let yaml = format!(
            "route: {{receiver: ops}}\nreceivers:\n- {{name: ops, {keys}, webhook_configs: [{{url: 'http://127.0.0.1:9/'}}]}}\n- {{name: other}}\n"
        );
        let error = read_config(&yaml).err().unwrap_or_else(|| panic!("{keys} is accepted")).to_string();
        assert!(error.contains(wanted), "{keys}: {error}");
    }
}

/// `test notify` tells each integration of one receiver, says what came of it, and exits accordingly.
#[test]
fn test_notify_sends_a_marked_message_and_tells_the_verdict() {
    use crate::servers::http_sink::{HttpSink, Reply};
    let good = HttpSink::start([Reply::Answer(200, "", "")]);
    let bad = HttpSink::start([Reply::Answer(403, "", "")]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("nightbell.yml");
    let yaml = format!(
        "route: {{receiver: ops}}\nreceivers:\n- {{name: ops, webhook_configs: [{{url: '{0}'}}]}}\n- {{name: both, webhook_configs: [{{url: '{0}'}}, {{url: '{1}'}}]}}\n- {{name: nobody}}\n",
        good.url, bad.url
    );
    std::fs::write(&file, yaml).expect("written");
    let run = |receiver: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(["test", "notify", receiver, "--config"])
            .arg(&file)
            .output()
            .expect("it runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), text)
    };
    assert_eq!(run("ops"), (Some(0), "ops/webhook/0: accepted\n".into()));
    let sent = good.last().body;
    assert!(sent.contains("NightbellTest") && sent.contains("TEST: nightbell reaches you"), "{sent}");
    assert_eq!(run("both"), (Some(1), "both/webhook/0: accepted\nboth/webhook/1: FAILED: auth: answered 403\n".into()));
    assert_eq!(run("nobody").0, Some(2));
    assert_eq!(run("opps"), (Some(2), "nightbell: there is no receiver \"opps\"; there is ops, both, nobody\n".into()));
}
