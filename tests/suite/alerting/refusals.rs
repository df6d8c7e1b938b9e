//! A notification that was refused does not count as sent, and holds up no other.

use std::sync::Arc;
use std::time::Duration;

use nightbell::alerting::delivery::deliverer::Deliverer;
use nightbell::alerting::delivery::task::Step;
use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::metrics::Metrics;
use nightbell::alerting::{Alerting, Incoming};
use nightbell::model::{MatchOp, Matcher, Timestamp};
use nightbell::notify::{AlertStatus, NotifyError, Reason};
use nightbell::state::State;
use nightbell::telemetry::Telemetry;

use super::delivery::{Answer, Scripted, scripted};
use super::{START, alert, read_config};

fn at(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

fn refused() -> Answer {
    Answer::Refuse(NotifyError::permanent(Reason::Rejected, "answered 404"))
}

struct World {
    state: State,
    dispatch: Dispatch,
    deliverer: Deliverer,
    telemetry: Telemetry,
}

impl World {
    async fn new(config: Alerting) -> Self {
        let state = State::in_memory().await.expect("a database");
        let telemetry = Telemetry::default();
        let dispatch = Dispatch::restore(
            Arc::new(config),
            state.clone(),
            Metrics::register(&telemetry),
            START,
        )
        .await;
        let deliverer = dispatch.deliverers().into_iter().next().expect("one");
        World {
            state,
            dispatch,
            deliverer,
            telemetry,
        }
    }

    async fn fire(&mut self, labels: &str, ended: Option<Timestamp>, now: Timestamp) {
        self.dispatch
            .put(vec![Incoming::from(alert(labels, START, ended, now))], now)
            .await;
    }

    /// Flushes what is due and delivers until there is nothing to do.
    async fn step(&mut self, now: Timestamp) -> Step {
        self.dispatch.flush(now).await;
        loop {
            match self.deliverer.step(now).await {
                Step::Done => {}
                other => return other,
            }
        }
    }

    /// Once for each second, both included.
    async fn run(&mut self, from: u64, to: u64) {
        for second in from..=to {
            self.step(at(second)).await;
        }
    }
}

/// What a receiver accepted, as status and second.
fn heard(ops: &Scripted) -> Vec<(AlertStatus, i64)> {
    ops.notified
        .lock()
        .iter()
        .map(|n| (n.status, (n.at_ms - START.0) / 1000))
        .collect()
}

#[tokio::test]
async fn a_refused_message_is_sent_again_at_the_next_flush_while_the_alert_fires() {
    let (config, ops, _) = scripted();
    let mut world = World::new(config).await;
    ops.script.lock().push_back(refused());
    world.fire("alertname=A n=1", None, at(0)).await;
    world.run(1, 20).await;
    assert_eq!(heard(&ops), [(AlertStatus::Firing, 6)]);
    world.fire("alertname=A n=1", Some(at(21)), at(21)).await;
    world.run(21, 30).await;
    assert_eq!(
        heard(&ops),
        [(AlertStatus::Firing, 6), (AlertStatus::Resolved, 21)]
    );
}

#[tokio::test]
async fn it_is_tried_ever_more_slowly_and_counted_as_lost_once() {
    let (config, ops, _) = scripted();
    let mut world = World::new(config).await;
    ops.script.lock().extend((0..5).map(|_| refused()));
    world.fire("alertname=A n=1", None, at(0)).await;
    let mut tries = Vec::new();
    let mut left = 5;
    for second in 1..200 {
        world.step(at(second)).await;
        let now = ops.script.lock().len();
        if now < left {
            (left, tries) = (now, [tries, vec![second]].concat());
        }
    }
    assert_eq!(tries, [1, 6, 16, 36, 76]);
    assert_eq!(heard(&ops), [(AlertStatus::Firing, 156)]);
    assert_eq!(
        world.state.dead_letters(10).await.expect("read").len(),
        1,
        "a retry takes the place of the one before it"
    );
    let metrics = world.telemetry.encode();
    let counted = "nightbell_notifications_dead_total{receiver=\"ops\",notifier=\"webhook\",reason=\"rejected\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn the_end_of_what_was_never_accepted_is_not_sent() {
    let (config, ops, _) = scripted();
    let mut world = World::new(config).await;
    ops.script.lock().push_back(refused());
    world.fire("alertname=A n=1", None, at(0)).await;
    world.step(at(1)).await;
    world.fire("alertname=A n=1", Some(at(3)), at(3)).await;
    world.run(3, 30).await;
    assert_eq!(heard(&ops), []);
    // Also where another alert of the group fires on.
    ops.script.lock().push_back(refused());
    world.fire("alertname=B n=1", None, at(40)).await;
    world.run(40, 43).await;
    world.fire("alertname=B n=1", Some(at(44)), at(44)).await;
    world.fire("alertname=B n=2", None, at(44)).await;
    world.run(44, 60).await;
    let notified = ops.notified.lock();
    let alerts: Vec<(AlertStatus, &str)> = notified
        .iter()
        .flat_map(|n| &n.alerts)
        .map(|a| (a.status, a.label("n")))
        .collect();
    assert_eq!(alerts, [(AlertStatus::Firing, "2")]);
}

#[tokio::test]
async fn a_refused_end_is_tried_again_by_itself() {
    let (config, ops, _) = scripted();
    let mut world = World::new(config).await;
    world.fire("alertname=A n=1", None, at(0)).await;
    world.step(at(1)).await;
    ops.script.lock().push_back(refused());
    world.fire("alertname=A n=1", Some(at(3)), at(3)).await;
    world.run(3, 40).await;
    assert_eq!(
        heard(&ops),
        [(AlertStatus::Firing, 1), (AlertStatus::Resolved, 6)]
    );
    assert_eq!(world.state.dead_letters(10).await.expect("read"), []);
}

/// A refusal of what is added does not undo what was accepted: its end is sent.
#[tokio::test]
async fn the_end_of_what_was_accepted_before_is_sent() {
    let (config, ops, _) = scripted();
    let mut world = World::new(config).await;
    world.fire("alertname=A n=1", None, at(0)).await;
    world.step(at(1)).await;
    ops.script.lock().push_back(refused());
    world.fire("alertname=A n=2", None, at(2)).await;
    world.run(2, 8).await;
    world.fire("alertname=A n=1", Some(at(9)), at(9)).await;
    world.fire("alertname=A n=2", Some(at(9)), at(9)).await;
    world.run(9, 30).await;
    let notified = ops.notified.lock();
    let alerts: Vec<(AlertStatus, &str)> = notified
        .iter()
        .flat_map(|n| &n.alerts)
        .map(|a| (a.status, a.label("n")))
        .collect();
    assert_eq!(
        alerts,
        [(AlertStatus::Firing, "1"), (AlertStatus::Resolved, "1")]
    );
}

/// The message of one group that its place will not take now does not delay another group.
#[tokio::test]
async fn a_message_that_is_refused_for_now_holds_up_no_other() {
    let (config, ops, _) = scripted();
    let mut world = World::new(config).await;
    let for_now = || {
        Answer::Refuse(NotifyError::retryable(
            Reason::Rejected,
            "answered 400: can't parse entities",
        ))
    };
    ops.script.lock().extend([for_now(), for_now()]);
    world.fire("alertname=A n=1", None, at(0)).await;
    assert_eq!(world.step(at(1)).await, Step::Idle, "it waits apart");
    world.fire("alertname=B n=2", None, at(2)).await;
    // The second refusal is for B; both come in their own time.
    assert_eq!(world.step(at(3)).await, Step::Idle);
    world.fire("alertname=C n=3", None, at(3)).await;
    assert_eq!(world.step(at(4)).await, Step::Idle);
    assert_eq!(heard(&ops), [(AlertStatus::Firing, 4)]);
    world.run(5, 20).await;
    assert_eq!(ops.notified.lock().len(), 3);
}

#[tokio::test]
async fn losing_a_message_about_lost_messages_raises_nothing_new() {
    let (config, ops, _) = scripted();
    let mut world = World::new(config).await;
    ops.script.lock().push_back(refused());
    world
        .fire(
            "alertname=NightbellNotificationsLost receiver=x",
            None,
            at(0),
        )
        .await;
    world.run(1, 3).await;
    assert_eq!(ops.script.lock().len(), 0);
    let metrics = world.telemetry.encode();
    for name in [
        "nightbell_notifications_dead_total",
        "nightbell_notifications_failed_total",
    ] {
        let counted = metrics
            .lines()
            .find(|line| line.starts_with(name) && !line.ends_with(" 0"));
        assert_eq!(counted, None);
    }
}

/// What was opened at a pager is closed there, though a silence mutes the alert by now.
#[tokio::test]
async fn an_incident_is_closed_at_a_pager_although_the_alert_is_silenced_meanwhile() {
    let sink =
        crate::servers::http_sink::HttpSink::start([crate::servers::http_sink::Reply::Answer(
            202, "", "{}",
        )]);
    let yaml = format!(
        "route: {{receiver: ops, group_by: [alertname], group_wait: 1s, group_interval: 5s}}\nreceivers:\n\
         - {{name: ops, pagerduty_configs: [{{routing_key: key, url: '{}'}}]}}\n",
        sink.url
    );
    let mut world = World::new(read_config(&yaml).expect("valid")).await;
    world.fire("alertname=A n=1", None, at(0)).await;
    world.step(at(1)).await;
    let silence = nightbell::alerting::Silence {
        id: String::new(),
        matchers: vec![
            Matcher::new("alertname", MatchOp::NotEqual, "Watchdog").expect("a matcher"),
        ],
        starts_at: at(2),
        ends_at: at(3600),
        updated_at: at(2),
        created_by: "me".into(),
        comment: "maintenance".into(),
        annotations: Default::default(),
    };
    world
        .dispatch
        .set_silence(silence, at(2))
        .await
        .expect("a silence of negative matchers alone");
    world.fire("alertname=A n=1", Some(at(4)), at(4)).await;
    world.run(4, 12).await;
    let actions: Vec<String> = sink
        .requests()
        .iter()
        .map(|r| {
            json(&r.body)["event_action"]
                .as_str()
                .unwrap_or_default()
                .into()
        })
        .collect();
    assert_eq!(actions, ["trigger", "resolve"]);
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

/// Who is served stands in the database: not even a reload or a new process sends twice, and a
/// mailbox that is gone holds up nobody.
#[tokio::test]
async fn a_recipient_who_is_refused_holds_up_nobody_and_nobody_is_served_twice() {
    use crate::servers::smtp::Smtp;
    let server =
        Smtp::start(&serde_json::json!({"refuse": ["gone@lab.test"], "busy": ["slow@lab.test"]}));
    let yaml = |to: &str| {
        read_config(&format!(
            "route: {{receiver: ops, group_by: [alertname], group_wait: 0s}}\nreceivers:\n- {{name: ops, email_configs: [{{to: '{to}', \
             from: bell@lab.test, smarthost: '127.0.0.1:{}', require_tls: false}}]}}\n",
            server.port
        ))
        .expect("valid")
    };
    let mut world = World::new(yaml("ok@lab.test, gone@lab.test")).await;
    for n in 0..7 {
        world.fire(&format!("alertname=A{n}"), None, at(0)).await;
    }
    assert_eq!(world.step(at(0)).await, Step::Idle);
    for _ in 0..7 {
        assert_eq!(server.mail()["to"], serde_json::json!(["ok@lab.test"]));
    }
    assert_eq!(
        (
            world.state.outbox(10).await.expect("read"),
            server.has_mail()
        ),
        (vec![], false)
    );

    let mut world = World::new(yaml("ok@lab.test, slow@lab.test")).await;
    world.fire("alertname=B", None, at(0)).await;
    assert_eq!(world.step(at(0)).await, Step::Idle, "the rest waits apart");
    assert_eq!(server.mail()["to"], serde_json::json!(["ok@lab.test"]));
    // As after a restart.
    let config = Arc::new(yaml("ok@lab.test, slow@lab.test"));
    let next = Dispatch::restore(config, world.state.clone(), Metrics::default(), at(1)).await;
    let mut deliverer = next.deliverers().into_iter().next().expect("one");
    assert_eq!(deliverer.step(at(1)).await, Step::Done);
    assert_eq!(server.mail()["to"], serde_json::json!(["slow@lab.test"]));
    assert!(!server.has_mail() && world.state.outbox(10).await.expect("read").is_empty());
}
