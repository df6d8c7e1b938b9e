//! Delivery: retries, permanent errors, messages that pile up, a receiver that hangs, a database
//! that fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nightbell::alerting::delivery::deliverer::Deliverer;
use nightbell::alerting::delivery::task::Step;
use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::metrics::Metrics;
use nightbell::alerting::{Alerting, Incoming};
use nightbell::model::Timestamp;
use nightbell::notify::{AlertStatus, Notification, Notifier, NotifyError, Reason};
use nightbell::state::State;
use nightbell::telemetry::Telemetry;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{START, alert, heard, read_config};

/// What a scripted receiver does with the next message.
pub enum Answer {
    Refuse(NotifyError),
    /// Takes the message and never says so.
    Hang,
}

/// A receiver that follows a script, then accepts everything.
#[derive(Default)]
pub struct Scripted {
    pub notified: Mutex<Vec<Notification>>,
    pub script: Mutex<VecDeque<Answer>>,
    pub tried: tokio::sync::Notify,
}

impl Notifier for Scripted {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let answer = self.script.lock().pop_front();
            self.tried.notify_one();
            if let Some(Answer::Refuse(error)) = answer {
                return Err(error);
            }
            self.notified.lock().push(notification.clone());
            if answer.is_some() {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }

    fn digest(&self) -> nightbell::notify::Digest {
        nightbell::notify::Digest::Whole
    }
}

/// Receivers `ops` and `other`, each a scripted one; alerts with team=other go to `other`, all go
/// to `ops`.
pub fn scripted() -> (Alerting, Arc<Scripted>, Arc<Scripted>) {
    let mut config = read_config(
        "route:\n  receiver: ops\n  group_by: [alertname]\n  group_wait: 1s\n  group_interval: 5s\n  routes:\n    \
         - {receiver: other, matchers: [team=other], continue: true}\n    - {receiver: ops}\nreceivers:\n  \
         - {name: ops, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}\n  - {name: other, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}\n",
    )
    .expect("valid");
    let deliveries: Vec<Arc<Scripted>> = (0..2).map(|_| Arc::new(Scripted::default())).collect();
    for (receiver, notifier) in config.receivers.iter_mut().zip(&deliveries) {
        receiver.integrations[0].notifier = notifier.clone();
    }
    (config, deliveries[0].clone(), deliveries[1].clone())
}

async fn dispatch(config: &Alerting, state: &State) -> (Dispatch, Deliverer) {
    let dispatch = Dispatch::restore(
        Arc::new(config.clone()),
        state.clone(),
        Metrics::default(),
        START,
    )
    .await;
    let deliverer = dispatch.deliverers().into_iter().next().expect("one");
    (dispatch, deliverer)
}

fn firing(labels: &str, at: Timestamp) -> Vec<Incoming> {
    vec![alert(labels, at, None, at).into()]
}

fn busy() -> Answer {
    Answer::Refuse(NotifyError::retryable(Reason::ServerError, "503"))
}

fn at(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

/// SEMANTICS 171: the pauses grow from 500 ms by half, give or take half of them; the message
/// leaves the outbox once it is accepted.
#[tokio::test]
async fn a_message_is_tried_again_until_it_is_accepted() {
    let state = State::in_memory().await.expect("a database");
    let (config, ops, _) = scripted();
    let (mut dispatch, mut deliverer) = dispatch(&config, &state).await;
    assert_eq!(deliverer.step(START).await, Step::Idle);
    dispatch.put(firing("alertname=A n=1", at(0)), at(0)).await;
    dispatch.flush(at(1)).await;
    ops.script.lock().extend((0..12).map(|_| busy()));
    ops.script.lock().push_back(Answer::Refuse(NotifyError {
        reason: Reason::RateLimited,
        retryable: true,
        retry_after: Some(Duration::from_secs(90)),
        message: "429".into(),
    }));
    for attempt in 0..12 {
        let Step::Pause(pause) = deliverer.step(START).await else {
            panic!("attempt {attempt} failed, so there is a pause")
        };
        let middle = Duration::from_millis(500)
            .mul_f64(1.5f64.powi(attempt))
            .min(Duration::from_secs(60));
        let within = middle.mul_f64(0.5)..=middle.mul_f64(1.5).min(Duration::from_secs(60));
        assert!(within.contains(&pause), "attempt {attempt}: {pause:?}");
        assert_eq!(state.outbox(10).await.expect("read").len(), 1);
    }
    assert_eq!(
        deliverer.step(START).await,
        Step::Pause(Duration::from_secs(90)),
        "as the receiver asked"
    );
    assert_eq!(deliverer.step(START).await, Step::Done);
    assert_eq!(state.outbox(10).await.expect("read"), []);
    assert_eq!(ops.notified.lock().len(), 1);
}

#[tokio::test]
async fn a_refused_message_becomes_a_dead_letter_and_others_go_on() {
    let state = State::in_memory().await.expect("a database");
    let (config, ops, _) = scripted();
    let (mut dispatch, mut deliverer) = dispatch(&config, &state).await;
    dispatch
        .put(
            [
                firing("alertname=A n=1", at(0)),
                firing("alertname=B n=2", at(0)),
            ]
            .concat(),
            at(0),
        )
        .await;
    dispatch.flush(at(1)).await;
    ops.script
        .lock()
        .push_back(Answer::Refuse(NotifyError::permanent(
            Reason::Rejected,
            "400: no such room",
        )));
    assert_eq!(
        (
            deliverer.step(START).await,
            deliverer.step(START).await,
            deliverer.step(START).await
        ),
        (Step::Done, Step::Done, Step::Idle)
    );
    let letters = state.dead_letters(10).await.expect("read");
    assert_eq!(
        (letters.len(), letters[0].error.as_str()),
        (1, "400: no such room")
    );
    assert_eq!(
        heard(&ops.notified.lock(), AlertStatus::Firing)
            .into_iter()
            .collect::<Vec<_>>(),
        ["2"]
    );
}

/// A receiver that was away for hours hears the present truth once, and of every alert.
#[tokio::test]
async fn messages_of_one_group_that_pile_up_become_one() {
    let state = State::in_memory().await.expect("a database");
    let (config, ops, _) = scripted();
    let (mut dispatch, mut deliverer) = dispatch(&config, &state).await;
    dispatch.put(firing("alertname=A n=1", at(0)), at(0)).await;
    dispatch.put(firing("alertname=Z n=9", at(0)), at(0)).await;
    dispatch.flush(at(1)).await;
    ops.script.lock().push_back(busy());
    assert!(matches!(deliverer.step(START).await, Step::Pause(_)));
    dispatch
        .put(
            vec![alert("alertname=A n=1", at(0), Some(at(3)), at(3)).into()],
            at(3),
        )
        .await;
    dispatch.put(firing("alertname=A n=2", at(3)), at(3)).await;
    dispatch.flush(at(6)).await;
    dispatch.put(firing("alertname=A n=3", at(8)), at(8)).await;
    dispatch.flush(at(11)).await;
    assert_eq!(state.outbox(10).await.expect("read").len(), 4);
    let newest = state
        .outbox(10)
        .await
        .expect("read")
        .pop()
        .expect("a message")
        .delivery_id;
    while deliverer.step(START).await != Step::Idle {}
    let notified = ops.notified.lock().clone();
    let of_a: Vec<&Notification> = notified
        .iter()
        .filter(|m| m.group_key.contains("\"A\""))
        .collect();
    assert_eq!((notified.len(), of_a.len()), (2, 1), "one for each group");
    let signs: Vec<(&str, AlertStatus)> = of_a[0]
        .alerts
        .iter()
        .map(|a| (a.label("n"), a.status))
        .collect();
    assert_eq!(
        signs,
        [
            ("1", AlertStatus::Resolved),
            ("2", AlertStatus::Firing),
            ("3", AlertStatus::Firing)
        ]
    );
    assert_eq!(of_a[0].delivery_id, newest);
}

#[tokio::test]
async fn a_message_that_always_fails_does_not_hold_up_other_groups() {
    let state = State::in_memory().await.expect("a database");
    let (config, ops, _) = scripted();
    let (mut dispatch, mut deliverer) = dispatch(&config, &state).await;
    dispatch
        .put(
            [
                firing("alertname=A n=1", at(0)),
                firing("alertname=B n=2", at(0)),
            ]
            .concat(),
            at(0),
        )
        .await;
    dispatch.flush(at(1)).await;
    ops.script.lock().push_back(busy());
    assert!(matches!(deliverer.step(START).await, Step::Pause(_)));
    assert_eq!(deliverer.step(START).await, Step::Done);
    assert_eq!(
        heard(&ops.notified.lock(), AlertStatus::Firing)
            .into_iter()
            .collect::<Vec<_>>(),
        ["2"]
    );
}

/// In doubt, notify: without a database the message is sent from memory, once, and what was missed
/// is written when it is back.
#[tokio::test]
async fn a_broken_database_does_not_stop_a_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = State::open(&folder.path().join("state.db"))
        .await
        .expect("a state file");
    let (config, ops, _) = scripted();
    let (mut dispatch, mut deliverer) = dispatch(&config, &state).await;
    state.close().await;
    dispatch.put(firing("alertname=A n=1", at(0)), at(0)).await;
    dispatch.flush(at(1)).await;
    assert_eq!(deliverer.step(START).await, Step::Done);
    assert_eq!(ops.notified.lock().len(), 1);
    assert_eq!(
        deliverer.step(START).await,
        Step::Look,
        "the outbox cannot be read, so it is looked at again later"
    );
    assert_eq!(ops.notified.lock().len(), 1, "notified once");
}

/// A database that comes back is brought up to date, so that a restart after that forgets and
/// repeats nothing.
#[tokio::test]
async fn a_database_that_comes_back_is_brought_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let state = State::open(&path).await.expect("a state file");
    let (config, ops, _) = scripted();
    let (mut dispatch, mut deliverer) = dispatch(&config, &state).await;
    dispatch
        .put(firing("alertname=Gone n=0", at(0)), at(0))
        .await;
    dispatch.flush(at(1)).await;
    assert_eq!(deliverer.step(START).await, Step::Done);

    let saboteur =
        sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(&path))
            .await
            .expect("opens");
    sqlx::query("ALTER TABLE alerts RENAME TO hidden")
        .execute(&saboteur)
        .await
        .expect("renamed");
    dispatch
        .put(
            vec![alert("alertname=Gone n=0", at(0), Some(at(2)), at(2)).into()],
            at(2),
        )
        .await;
    dispatch.put(firing("alertname=A n=1", at(2)), at(2)).await;
    dispatch.flush(at(6)).await;
    assert!(!state.is_healthy());
    assert_eq!(
        state.outbox(10).await.expect("read"),
        [],
        "it could not be written"
    );
    assert_eq!(
        (
            deliverer.step(START).await,
            deliverer.step(START).await,
            deliverer.step(START).await
        ),
        (Step::Done, Step::Done, Step::Idle)
    );
    assert_eq!(
        heard(&ops.notified.lock(), AlertStatus::Firing)
            .into_iter()
            .collect::<Vec<_>>(),
        ["0", "1"]
    );

    sqlx::query("ALTER TABLE hidden RENAME TO alerts")
        .execute(&saboteur)
        .await
        .expect("renamed");
    saboteur.close().await;
    dispatch.flush(at(7)).await;
    assert!(state.is_healthy());
    let (alerts, _) = state.alerts().await.expect("read");
    assert_eq!(
        alerts
            .iter()
            .map(|row| row.alert.name().to_owned())
            .collect::<Vec<_>>(),
        ["A"],
        "what ended meanwhile is gone"
    );
    drop(dispatch);
    let (mut dispatch, mut deliverer) = self::dispatch(&config, &state).await;
    dispatch.flush(at(12)).await;
    assert_eq!(
        deliverer.step(START).await,
        Step::Idle,
        "nothing is notified twice"
    );
}

/// SEMANTICS 159: of two integrations one fails; the other, which was notified, is not notified
/// again when the message is tried anew.
#[tokio::test]
async fn an_integration_that_fails_repeats_no_message_of_another() {
    let mut config = read_config(
        "route: {receiver: ops, group_wait: 1s, group_interval: 5s}\n\
         receivers: [{name: ops, webhook_configs: [{url: 'http://127.0.0.1:9/'}, {url: 'http://127.0.0.1:9/'}]}]\n",
    )
    .expect("valid");
    let deliveries: Vec<Arc<Scripted>> = (0..2).map(|_| Arc::new(Scripted::default())).collect();
    for (integration, notifier) in config.receivers[0].integrations.iter_mut().zip(&deliveries) {
        integration.notifier = notifier.clone();
    }
    let state = State::in_memory().await.expect("a database");
    let mut dispatch =
        Dispatch::restore(Arc::new(config), state.clone(), Metrics::default(), START).await;
    let mut deliverers = dispatch.deliverers();
    deliveries[1].script.lock().extend((0..4).map(|_| busy()));
    dispatch.put(firing("alertname=A n=1", at(0)), at(0)).await;
    for second in [1, 6, 11, 16, 21] {
        dispatch.flush(at(second)).await;
        for deliverer in &mut deliverers {
            let step = deliverer.step(at(second)).await;
            assert!(
                matches!(step, Step::Done | Step::Idle | Step::Pause(_)),
                "{step:?}"
            );
        }
    }
    assert_eq!(
        deliveries
            .iter()
            .map(|notifier| notifier.notified.lock().len())
            .collect::<Vec<_>>(),
        [1, 1]
    );
}

/// A receiver that a reload removes has no gauge any more, whatever the last attempt under way
/// still does; one that stays has its own.
#[tokio::test]
async fn a_receiver_that_is_gone_has_no_gauge_of_waiting_messages() {
    let state = State::in_memory().await.expect("a database");
    let telemetry = Telemetry::new();
    let (config, ops, other) = scripted();
    let metrics = Metrics::register(&telemetry);
    let mut dispatch =
        Dispatch::restore(Arc::new(config.clone()), state.clone(), metrics, START).await;
    let mut deliverers = dispatch.deliverers();
    let shown = |name: &str| {
        let text = telemetry.encode();
        let start =
            format!("nightbell_outbox_messages{{receiver=\"{name}\",notifier=\"webhook\"}} ");
        text.lines().find_map(|line| {
            line.strip_prefix(&start)
                .map(|value| value.parse::<i64>().expect("a number"))
        })
    };
    dispatch
        .put(firing("alertname=A team=other n=1", at(0)), at(0))
        .await;
    dispatch.flush(at(1)).await;
    assert_eq!((shown("ops"), shown("other")), (Some(1), Some(1)));
    let mut fewer = config.clone();
    fewer.receivers.truncate(1);
    fewer.routes = read_config("route: {receiver: ops}\nreceivers: [{name: ops}]\n")
        .expect("valid")
        .routes;
    dispatch.reconfigure(Arc::new(fewer), at(2)).await;
    assert_eq!((shown("ops"), shown("other")), (Some(1), None));
    // The predecessors' last attempts.
    for deliverer in &mut deliverers {
        while deliverer.step(at(3)).await == Step::Done {}
    }
    assert_eq!(
        (
            shown("ops"),
            shown("other"),
            ops.notified.lock().len(),
            other.notified.lock().len()
        ),
        (Some(0), None, 1, 0)
    );
    dispatch.reconfigure(Arc::new(config), at(4)).await;
    assert_eq!((shown("ops"), shown("other")), (Some(0), Some(0)));
}

/// One receiver hangs, the other hears at once. The whole loop runs, on the real clock.
#[tokio::test]
async fn a_receiver_that_hangs_does_not_delay_another() {
    let state = State::in_memory().await.expect("a database");
    let (config, ops, other) = scripted();
    ops.script.lock().push_back(Answer::Hang);
    let telemetry = Telemetry::new();
    let (stop, stopped) = watch::channel(false);
    let (handle, run) =
        nightbell::alerting::start(config, state.clone(), &telemetry, stopped).await;
    let running = tokio::spawn(run);
    let now = Timestamp::now();
    // It fired a while ago, so group_wait is over.
    let old = now - Duration::from_secs(10);
    handle
        .put(vec![alert("alertname=A team=other n=1", old, None, now)])
        .await;
    tokio::time::timeout(Duration::from_secs(60), other.tried.notified())
        .await
        .expect("the other receiver hears within its time");
    tokio::time::timeout(Duration::from_secs(60), ops.tried.notified())
        .await
        .expect("the hanging one is tried too");
    let views = handle.alerts(Timestamp::now());
    assert_eq!(
        (views.len(), views[0].receivers.join(","), views[0].state()),
        (1, "other,ops".to_owned(), "active")
    );
    assert_eq!(handle.groups(Timestamp::now()).len(), 2);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let text = telemetry.encode();
        if text.contains("nightbell_outbox_messages{receiver=\"other\",notifier=\"webhook\"} 0")
            && text.contains("nightbell_outbox_messages{receiver=\"ops\",notifier=\"webhook\"} 1")
        {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.abort();
    drop(stop);
}

/// A robot that takes so many messages in a minute and answers 429 to more; its clock is the
/// test's.
struct Robot {
    most: usize,
    now: Mutex<Timestamp>,
    taken: Mutex<VecDeque<Timestamp>>,
    notified: Mutex<Vec<Notification>>,
    refused: Mutex<usize>,
}

const ROOM: usize = 4000;

impl Notifier for Robot {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let now = *self.now.lock();
            let mut taken = self.taken.lock();
            taken.retain(|at| now.since(*at) < Duration::from_secs(60));
            if taken.len() >= self.most {
                *self.refused.lock() += 1;
                let wait = Duration::from_secs(60) - now.since(taken[0]);
                return Err(NotifyError::retryable(Reason::RateLimited, "429").wait(Some(wait)));
            }
            taken.push_back(now);
            self.notified.lock().push(notification.clone());
            Ok(())
        })
    }

    fn digest(&self) -> nightbell::notify::Digest {
        nightbell::notify::Digest::Names(ROOM)
    }
}

/// 5,000 alerts in 10 s, each a group of its own, for a robot that takes 20 messages a minute:
/// every alert is named, in messages that hold what they name, and after the first refusal the
/// robot is never asked too often again.
#[tokio::test]
async fn more_messages_than_a_robot_takes_become_digests_that_name_every_alert() {
    let state = State::in_memory().await.expect("a database");
    let mut config = read_config(
        "route: {receiver: ops, group_by: ['...'], group_wait: 1s}\nreceivers: [{name: ops, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}]\n",
    )
    .expect("valid");
    let robot = Arc::new(Robot {
        most: 20,
        now: Mutex::new(START),
        taken: Mutex::default(),
        notified: Mutex::default(),
        refused: Mutex::new(0),
    });
    config.receivers[0].integrations[0].notifier = robot.clone();
    let (mut dispatch, mut deliverer) = dispatch(&config, &state).await;
    let mut clock = START;
    for second in 0..12 {
        if second < 10 {
            let names = (second * 500..(second + 1) * 500).map(|n| {
                alert(
                    &format!("alertname=Down job=node n={n}"),
                    at(second),
                    None,
                    at(second),
                )
            });
            dispatch
                .put(names.map(Incoming::from).collect(), at(second))
                .await;
        }
        dispatch.flush(at(second)).await;
        while clock < at(second + 1) {
            *robot.now.lock() = clock;
            clock = clock
                + match deliverer.step(clock).await {
                    Step::Done => Duration::from_millis(50),
                    Step::Idle | Step::Look => Duration::from_secs(1),
                    Step::Pause(pause) => pause,
                };
        }
    }
    loop {
        *robot.now.lock() = clock;
        match deliverer.step(clock).await {
            Step::Idle | Step::Look => break,
            Step::Done => clock = clock + Duration::from_millis(50),
            Step::Pause(pause) => clock = clock + pause,
        }
        assert!(
            clock < at(600),
            "{} wait",
            state.outbox_size("ops/webhook/0").await.expect("read")
        );
    }
    let notified = robot.notified.lock();
    assert_eq!(heard(&notified, AlertStatus::Firing).len(), 5000);
    assert!(
        *robot.refused.lock() <= 1,
        "{} refusals",
        robot.refused.lock()
    );
    assert!(
        notified
            .iter()
            .all(|m| nightbell::notify::named_size(&m.alerts) <= ROOM)
    );
    let ids: std::collections::BTreeSet<&str> =
        notified.iter().map(|m| m.delivery_id.as_str()).collect();
    assert_eq!(ids.len(), notified.len());
    assert!(notified.len() < 60, "{} messages", notified.len());
}

/// A group with more alerts than one message can name is notified in parts, one after the other;
/// other groups' messages stay as they are.
#[tokio::test]
async fn a_message_too_large_to_name_its_alerts_is_notified_in_parts() {
    let state = State::in_memory().await.expect("a database");
    let (mut config, _, _) = scripted();
    let robot = Arc::new(Robot {
        most: 1000,
        now: Mutex::new(START),
        taken: Mutex::default(),
        notified: Mutex::default(),
        refused: Mutex::new(0),
    });
    config.receivers[0].integrations[0].notifier = robot.clone();
    let (mut dispatch, mut deliverer) = dispatch(&config, &state).await;
    let many =
        (0..3000).map(|n| Incoming::from(alert(&format!("alertname=A n={n}"), at(0), None, at(0))));
    dispatch
        .put(
            many.chain(firing("alertname=B n=x", at(0))).collect(),
            at(0),
        )
        .await;
    dispatch.flush(at(1)).await;
    while deliverer.step(at(1)).await != Step::Idle {}
    let notified = robot.notified.lock();
    assert_eq!(heard(&notified, AlertStatus::Firing).len(), 3001);
    assert!(
        notified
            .iter()
            .all(|m| nightbell::notify::named_size(&m.alerts) <= ROOM)
    );
    let of_b: Vec<usize> = notified
        .iter()
        .enumerate()
        .filter(|(_, m)| m.group_key.contains("\"B\""))
        .map(|(i, _)| i)
        .collect();
    assert_eq!(
        of_b,
        [notified.len() - 1],
        "the parts come one after the other"
    );
    assert_eq!(
        (notified[0].digest, notified[notified.len() - 1].digest),
        (1, 0)
    );
}

/// SEMANTICS 152 [choice]: a message is tried beyond its flush, for `give_up_after`; then it
/// becomes a dead letter that says why.
#[tokio::test]
async fn a_message_that_is_refused_for_too_long_is_given_up_visibly() {
    let state = State::in_memory().await.expect("a database");
    let (config, ops, _) = scripted();
    let telemetry = Telemetry::new();
    let metrics = Metrics::register(&telemetry);
    let mut dispatch = Dispatch::restore(Arc::new(config), state.clone(), metrics, START).await;
    let mut deliverer = dispatch.deliverers().into_iter().next().expect("one");
    dispatch.put(firing("alertname=A n=1", at(0)), at(0)).await;
    dispatch.flush(at(1)).await;
    ops.script.lock().extend([busy(), busy()]);
    assert!(
        matches!(deliverer.step(at(86_400)).await, Step::Pause(_)),
        "a second less than a day old"
    );
    assert_eq!(deliverer.step(at(86_401)).await, Step::Done);
    let letters = state.dead_letters(10).await.expect("read");
    assert_eq!(
        (letters.len(), letters[0].error.as_str()),
        (1, "given up after 1d: 503")
    );
    assert_eq!(state.outbox(10).await.expect("read"), []);
    assert!(
        telemetry.encode().contains("nightbell_notifications_dead_total{receiver=\"ops\",notifier=\"webhook\",reason=\"server_error\"} 1")
    );
}
