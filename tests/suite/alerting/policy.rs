//! A receiver's own keys: `fallback`, `quiet_hours`. The clock is the test's.

use std::sync::Arc;
use std::time::Duration;

use nightbell::alerting::delivery::deliverer::Deliverer;
use nightbell::alerting::delivery::task::Step;
use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::metrics::Metrics;
use nightbell::alerting::{Alerting, Incoming};
use nightbell::model::Timestamp;
use nightbell::notify::{AlertStatus, Notification, NotifyError, Reason};
use nightbell::state::State;

use super::delivery::{Answer, Scripted};
use super::{START, alert, heard, read_config};

/// Each integration a scripted receiver, in file order.
fn deliveries(yaml: &str) -> (Alerting, Vec<Arc<Scripted>>) {
    let mut config = read_config(yaml).unwrap_or_else(|e| panic!("{e}"));
    let mut deliveries = Vec::new();
    for integration in config
        .receivers
        .iter_mut()
        .flat_map(|r| &mut r.integrations)
    {
        let notifier = Arc::new(Scripted::default());
        integration.notifier = notifier.clone();
        deliveries.push(notifier);
    }
    (config, deliveries)
}

struct World {
    state: State,
    dispatch: Dispatch,
    deliverers: Vec<Deliverer>,
}

impl World {
    async fn new(config: &Alerting) -> Self {
        let state = State::in_memory().await.expect("a database");
        let dispatch = Dispatch::restore(
            Arc::new(config.clone()),
            state.clone(),
            Metrics::default(),
            START,
        )
        .await;
        let deliverers = dispatch.deliverers();
        World {
            state,
            dispatch,
            deliverers,
        }
    }

    async fn fire(&mut self, labels: &[&str], ended: Option<Timestamp>, now: Timestamp) {
        let alerts = labels
            .iter()
            .map(|labels| Incoming::from(alert(labels, START, ended, now)))
            .collect();
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

fn firing(notified: &[Notification]) -> Vec<String> {
    heard(notified, AlertStatus::Firing).into_iter().collect()
}

const FALLBACK: &str = "\
route: {receiver: ops, group_by: [alertname], group_wait: 0s}
receivers:
- {name: ops, fallback: boss, fallback_after: 5m, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
- {name: boss, fallback: ops, fallback_after: 5m, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
";

/// A receiver that is down for `fallback_after` loses its messages to its fallback, once each; when
/// it is back, it is notified itself.
#[tokio::test]
async fn the_fallback_is_notified_when_the_receiver_is_down_for_the_set_time() {
    let (config, notified) = deliveries(FALLBACK);
    let mut world = World::new(&config).await;
    world
        .fire(&["alertname=A n=1", "alertname=B n=2"], None, at(0))
        .await;
    notified[0].script.lock().extend((0..4).map(|_| busy()));
    assert!(matches!(world.deliver(0, at(0)).await, Step::Pause(_)));
    assert!(matches!(world.deliver(0, at(299)).await, Step::Pause(_)));
    assert_eq!(world.deliver(1, at(299)).await, Step::Idle, "not yet");
    assert!(
        matches!(world.deliver(0, at(300)).await, Step::Pause(_)),
        "it is still tried with care"
    );
    assert_eq!(world.deliver(1, at(300)).await, Step::Idle);
    assert_eq!(firing(&notified[1].notified.lock()), ["1", "2"]);
    assert_eq!(notified[1].notified.lock()[0].stands_in_for, ["ops"]);
    assert_eq!(world.state.outbox(10).await.expect("read"), []);

    world.fire(&["alertname=C n=3"], None, at(310)).await;
    assert!(
        matches!(world.deliver(0, at(310)).await, Step::Pause(_)),
        "one attempt, which fails"
    );
    assert_eq!(world.deliver(1, at(310)).await, Step::Idle);
    assert_eq!(firing(&notified[1].notified.lock()), ["1", "2", "3"]);

    world.fire(&["alertname=D n=4"], None, at(400)).await;
    assert_eq!(world.deliver(0, at(400)).await, Step::Idle);
    assert_eq!(firing(&notified[0].notified.lock()), ["4"]);
}

/// A refusal for good needs no waiting; and a message that went round all receivers stays with the
/// last one.
#[tokio::test]
async fn a_permanent_refusal_goes_to_the_fallback_at_once_and_never_back() {
    let (config, notified) = deliveries(FALLBACK);
    let mut world = World::new(&config).await;
    world.fire(&["alertname=A n=1"], None, at(0)).await;
    let gone = || Answer::Refuse(NotifyError::permanent(Reason::Auth, "403"));
    notified[0].script.lock().push_back(gone());
    notified[1].script.lock().push_back(gone());
    assert_eq!(world.deliver(0, at(0)).await, Step::Idle);
    assert_eq!(world.deliver(1, at(0)).await, Step::Idle);
    let letters = world.state.dead_letters(10).await.expect("read");
    assert_eq!(
        (letters.len(), letters[0].message.integration.as_str()),
        (1, "boss/webhook/0")
    );
    assert_eq!(world.state.outbox(10).await.expect("read"), []);
}

/// Warnings of the night come as one digest in the morning, ended ones as ended; what is critical,
/// or of no known severity, comes at once.
#[tokio::test]
async fn quiet_hours_hold_what_is_not_critical_and_one_digest_follows() {
    let (config, notified) = deliveries(
        "\
route: {receiver: ops, group_by: [alertname], group_wait: 0s, group_interval: 1m}
time_intervals: [{name: night, time_intervals: [{times: [{start_time: '00:00', end_time: '06:00'}]}]}]
receivers: [{name: ops, quiet_hours: [night], webhook_configs: [{url: 'http://127.0.0.1:9/'}]}]
",
    );
    let mut world = World::new(&config).await;
    let all = [
        "alertname=A n=1 severity=warning",
        "alertname=B n=2 severity=info",
        "alertname=C n=3 severity=critical",
        "alertname=D n=4",
    ];
    world.fire(&all, None, at(0)).await;
    assert_eq!(world.deliver(0, at(1)).await, Step::Idle);
    assert_eq!(firing(&notified[0].notified.lock()), ["3", "4"]);
    world.fire(&all[..1], Some(at(60)), at(60)).await;
    assert_eq!(world.deliver(0, at(6 * 3600 - 1)).await, Step::Idle);
    assert_eq!(notified[0].notified.lock().len(), 2, "still night");
    assert_eq!(world.deliver(0, at(6 * 3600)).await, Step::Idle);
    let notified = notified[0].notified.lock();
    assert_eq!((notified.len(), notified[2].digest), (3, 2));
    let signs: Vec<(&str, AlertStatus)> = notified[2]
        .alerts
        .iter()
        .map(|a| (a.label("n"), a.status))
        .collect();
    assert_eq!(
        signs,
        [("1", AlertStatus::Resolved), ("2", AlertStatus::Firing)]
    );
}

#[test]
fn mistakes_in_a_receivers_own_keys_are_notified_at_load() {
    for (keys, wanted) in [
        (
            "fallback: nobody",
            "fallback \"nobody\" of receiver \"ops\" is not another receiver; there is other",
        ),
        (
            "fallback: ops",
            "fallback \"ops\" of receiver \"ops\" is not another receiver; there is other",
        ),
        (
            "quiet_hours: [night]",
            "time interval \"night\" is not defined",
        ),
        (
            "quiet_hours: [{times: [{start_time: '25:00', end_time: '26:00'}]}]",
            "25:00",
        ),
        ("fallback_after: soon", "give a duration"),
    ] {
        let yaml = format!(
            "route: {{receiver: ops}}\nreceivers:\n- {{name: ops, {keys}, webhook_configs: [{{url: 'http://127.0.0.1:9/'}}]}}\n- {{name: other}}\n"
        );
        let error = read_config(&yaml)
            .err()
            .unwrap_or_else(|| panic!("{keys} is accepted"))
            .to_string();
        assert!(error.contains(wanted), "{keys}: {error}");
    }
}

/// `test notify` tells each integration of one receiver, says what came of it, and exits
/// accordingly.
#[test]
fn test_notify_sends_a_marked_message_and_tells_the_verdict() {
    use crate::servers::http_sink::{HttpSink, Reply};
    let good = HttpSink::start([Reply::Answer(200, "", "")]);
    let bad = HttpSink::start([Reply::Answer(403, "", "")]);
    let pager = HttpSink::start([Reply::Answer(202, "", "{}")]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("nightbell.yml");
    let yaml = format!(
        "route: {{receiver: ops}}\nreceivers:\n- {{name: ops, webhook_configs: [{{url: '{0}'}}]}}\n- {{name: both, webhook_configs: [{{url: '{0}'}}, {{url: '{1}'}}]}}\n- {{name: nobody}}\n\
         - {{name: pager, pagerduty_configs: [{{routing_key: k, url: '{2}'}}], command_configs: [{{command: ['true']}}, {{command: [no-such-program]}}]}}\n",
        good.url, bad.url, pager.url
    );
    std::fs::write(&file, yaml).expect("written");
    let run = |receiver: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(["test", "notify", receiver, "--config"])
            .arg(&file)
            .output()
            .expect("it runs");
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.code(), text)
    };
    assert_eq!(run("ops"), (Some(0), "ops/webhook/0: accepted\n".into()));
    let sent = good.last().body;
    assert!(
        sent.contains("NightbellTest") && sent.contains("TEST: nightbell reaches you"),
        "{sent}"
    );
    assert_eq!(
        run("both"),
        (
            Some(1),
            "both/webhook/0: accepted\nboth/webhook/1: FAILED: auth: answered 403\n".into()
        )
    );
    assert_eq!(run("nobody").0, Some(2));
    assert_eq!(
        run("opps"),
        (
            Some(2),
            "nightbell: there is no receiver \"opps\"; there is ops, both, nobody, pager\n".into()
        )
    );
    // An incident is opened and closed; an action is looked at, not taken.
    let (status, said) = run("pager");
    assert_eq!(status, Some(1));
    assert!(
        said.starts_with(
            "pager/pagerduty/0: accepted\npager/command/0: can be taken; nothing was done\npager/command/1: FAILED: rejected: "
        ),
        "{said}"
    );
    let kinds = pager
        .requests()
        .iter()
        .map(|r| r.body.contains("\"event_action\":\"resolve\""))
        .collect::<Vec<_>>();
    assert_eq!(kinds, [false, true]);
}

const ESCALATION: &str = "\
route: {receiver: oncall, group_by: [alertname], group_wait: 0s, group_interval: 1m, repeat_interval: 4h}
receivers:
- name: oncall
  escalation: [{after: 15m, receiver: deputy}, {after: 30m, receiver: boss}]
  webhook_configs: [{url: 'http://127.0.0.1:9/'}]
- {name: deputy, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
- {name: boss, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
";

impl World {
    /// Flushes on every tick up to `until`, every message delivered at once: what each integration
    /// was notified, and when.
    async fn play(&mut self, until: u64) -> Vec<(u64, String, String, usize)> {
        let mut notified = Vec::new();
        while let Some(due) = self.dispatch.next_due().filter(|due| *due <= at(until)) {
            self.dispatch.flush(due).await;
            for row in self.state.outbox(100).await.expect("read") {
                let message: Notification = serde_json::from_str(&row.body).expect("a message");
                notified.push((
                    due.since(START).as_secs(),
                    message.receiver,
                    message.reason,
                    message.alerts.len(),
                ));
                self.state
                    .remove_message(&row.delivery_id)
                    .await
                    .expect("removed");
            }
        }
        notified
    }

    /// Another process goes on from the same database.
    async fn restart(&mut self, config: &Alerting, now: Timestamp) {
        self.dispatch = Dispatch::restore(
            Arc::new(config.clone()),
            self.state.clone(),
            Metrics::default(),
            now,
        )
        .await;
    }
}

fn said(notified: &[(u64, String, String, usize)]) -> Vec<String> {
    notified
        .iter()
        .map(|(at, receiver, reason, _)| format!("{at} {receiver}: {reason}"))
        .collect()
}

/// A critical alert that nobody acknowledges goes to the next contact, and to the next; a restart
/// between them changes nothing; all who were notified hear of its end. A warning goes nowhere
/// else.
#[tokio::test]
async fn an_unacknowledged_critical_alert_goes_to_the_next_contact() {
    let (config, _) = deliveries(ESCALATION);
    let mut world = World::new(&config).await;
    let both = [
        "alertname=A n=1 severity=critical",
        "alertname=B n=2 severity=warning",
    ];
    world
        .dispatch
        .put(
            both.map(|labels| alert(labels, START, None, START).into())
                .to_vec(),
            START,
        )
        .await;
    assert_eq!(
        said(&world.play(899).await),
        [
            "0 oncall: first notification",
            "0 oncall: first notification"
        ]
    );
    world.restart(&config, at(899)).await;
    world
        .dispatch
        .put(
            both.map(|labels| alert(labels, START, None, at(899)).into())
                .to_vec(),
            at(899),
        )
        .await;
    assert_eq!(
        said(&world.play(1000).await),
        ["900 deputy: not acknowledged in time"]
    );
    world.restart(&config, at(1790)).await;
    world
        .dispatch
        .put(
            both.map(|labels| alert(labels, START, None, at(1790)).into())
                .to_vec(),
            at(1790),
        )
        .await;
    assert_eq!(
        said(&world.play(1900).await),
        ["1800 boss: not acknowledged in time"]
    );
    world
        .dispatch
        .put(
            vec![alert(both[0], START, Some(at(2000)), at(2000)).into()],
            at(2000),
        )
        .await;
    let mut end = said(&world.play(3000).await);
    end.iter_mut()
        .for_each(|line| *line = line.split_once(' ').expect("a time").1.to_owned());
    end.sort();
    assert_eq!(
        end,
        [
            "boss: all alerts resolved",
            "deputy: all alerts resolved",
            "oncall: all alerts resolved"
        ]
    );
    assert_eq!(world.state.escalations().await.expect("read"), []);
}

/// An acknowledgement ends it, for this firing; the next firing begins anew.
#[tokio::test]
async fn an_acknowledgement_ends_the_escalation_of_this_firing() {
    let (config, _) = deliveries(ESCALATION);
    let mut world = World::new(&config).await;
    let labels = "alertname=A n=1 severity=critical";
    let fire = |starts: u64, ends: Option<u64>, now: u64| {
        vec![Incoming::from(alert(
            labels,
            at(starts),
            ends.map(at),
            at(now),
        ))]
    };
    let fingerprint = alert(labels, START, None, START).fingerprint();
    world.dispatch.put(fire(0, None, 0), at(0)).await;
    assert_eq!(
        said(&world.play(500).await),
        ["0 oncall: first notification"]
    );
    assert_eq!(
        world
            .dispatch
            .acknowledge(&[fingerprint, 7], "li", at(500))
            .await,
        1
    );
    world.restart(&config, at(600)).await;
    world.dispatch.put(fire(0, None, 600), at(600)).await;
    assert_eq!(said(&world.play(4000).await), [] as [&str; 0]);
    world
        .dispatch
        .put(fire(0, Some(4000), 4000), at(4000))
        .await;
    assert_eq!(world.play(4200).await.len(), 1, "the end");
    world.dispatch.put(fire(5000, None, 5000), at(5000)).await;
    assert_eq!(
        said(&world.play(6000).await),
        [
            "5000 oncall: first notification",
            "5900 deputy: not acknowledged in time"
        ]
    );
}

/// A silenced alert is nobody's to wake; when the silence is over, the next contact is notified.
#[tokio::test]
async fn a_silenced_alert_is_not_escalated() {
    let (config, _) = deliveries(ESCALATION);
    let mut world = World::new(&config).await;
    world
        .dispatch
        .put(
            vec![alert("alertname=A n=1 severity=critical", START, None, START).into()],
            START,
        )
        .await;
    assert_eq!(world.play(100).await.len(), 1);
    let silence = nightbell::alerting::Silence {
        id: String::new(),
        matchers: nightbell::alerting::config::matchers::parse_matchers("n=1").expect("matchers"),
        starts_at: at(100),
        ends_at: at(1500),
        updated_at: at(100),
        created_by: "test".into(),
        comment: "test".into(),
        annotations: Vec::new(),
    };
    world
        .dispatch
        .set_silence(silence, at(100))
        .await
        .expect("silenced");
    let notified = world.play(1700).await;
    assert_eq!(notified.len(), 1);
    assert!(
        (1500..1520).contains(&notified[0].0) && notified[0].1 == "deputy",
        "{notified:?}"
    );
}

/// Acknowledgement with the program itself: the message has a link that only its holder can make;
/// opening it changes nothing, its button does; so does the command.
#[test]
fn alerts_are_acknowledged_by_link_and_by_command() {
    use crate::servers::http_sink::{HttpSink, Reply};
    use crate::servers::nightbell::Nightbell;
    let sink = HttpSink::start([Reply::Answer(200, "", "")]);
    let bell = Nightbell::start(&format!(
        "route: {{receiver: oncall, group_wait: 0s, group_by: [alertname]}}\nreceivers:\n- name: oncall\n  escalation: [{{after: 1h, receiver: boss}}]\n  \
         webhook_configs: [{{url: '{0}'}}]\n- {{name: boss, webhook_configs: [{{url: '{0}'}}]}}\nweb: {{external_url: 'http://bell.localhost'}}\n",
        sink.url
    ));
    let client = |method: &str, path: &str, body: &str| {
        let mut command = std::process::Command::new("curl");
        command.args([
            "-s",
            "-w",
            "%{http_code}",
            "-X",
            method,
            "-H",
            "content-type: application/json",
        ]);
        if method == "POST" {
            command.args(["-d", body]);
        }
        let output = command
            .arg(format!("http://127.0.0.1:{}{path}", bell.port))
            .output()
            .expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    client(
        "POST",
        "/api/v2/alerts",
        r#"[{"labels":{"alertname":"Down","severity":"critical","n":"<1>"}}]"#,
    );
    let body: serde_json::Value = serde_json::from_str(&sink.last().body).expect("JSON");
    let link = body["alerts"][0]["annotations"]["acknowledge_url"]
        .as_str()
        .expect("a link")
        .to_owned();
    let path = link
        .strip_prefix("http://bell.localhost")
        .expect("the external URL");
    let state = || {
        let connection = bell.folder.path().join("state/state.db");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            State::open(&connection)
                .await
                .expect("opens")
                .escalations()
                .await
                .expect("read")
        })
    };
    let page = client("GET", path, "");
    assert!(
        page.ends_with("200")
            && page.contains("<form method=\"post\">")
            && page.contains("&lt;1&gt;"),
        "{page}"
    );
    assert_eq!(state()[0].acknowledged, None, "looking changes nothing");
    assert!(client("POST", &path.replace("token=", "token=0"), "").ends_with("403"));
    assert!(client("POST", path, "").ends_with("200"));
    assert_eq!(
        state()[0].acknowledged.as_ref().map(|(_, by)| by.as_str()),
        Some("link")
    );

    let run = |name: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args([
                "ack",
                name,
                "severity=critical",
                "--by",
                "li",
                "--url",
                &format!("http://127.0.0.1:{}", bell.port),
            ])
            .output()
            .expect("it runs");
        (
            output.status.code(),
            format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
        )
    };
    let (status, text) = run("Down");
    assert!(
        status == Some(0) && text.starts_with("acknowledged by li: {alertname=\"Down\""),
        "{text}"
    );
    assert_eq!(
        run("Up"),
        (
            Some(1),
            "nightbell: no alert fires that has these labels\n".into()
        )
    );
}

/// A template that fails in an address leaves nowhere to send to. Then the fallback is notified,
/// without one the default receiver; and where that is the receiver itself, the message stays as a
/// dead letter and raises an alert.
#[tokio::test]
async fn an_address_that_a_template_fails_to_make_does_not_swallow_the_message() {
    let receiver = |name: &str, more: &str, url: &str| {
        format!("- {{name: {name}, {more} webhook_configs: [{{url: '{url}'}}]}}\n")
    };
    let broken = "http://127.0.0.1:9/{{ .Nope }}";
    for (fallback, notified) in [("fallback: boss,", "boss"), ("", "ops"), ("root", "")] {
        let root = if fallback == "root" { "team" } else { "ops" };
        let fallback = fallback.trim_start_matches("root");
        let yaml = format!(
            "route: {{receiver: {root}, routes: [{{receiver: team, group_wait: 0s, matchers: [team=a]}}]}}\nreceivers:\n{}{}{}",
            receiver("team", fallback, broken),
            receiver("ops", "", "http://127.0.0.1:9/"),
            receiver("boss", "", "http://127.0.0.1:9/"),
        );
        let (mut config, scripted) = deliveries(&yaml);
        config.receivers[0].integrations[0].notifier =
            read_config(&yaml).expect("valid").receivers[0].integrations[0]
                .notifier
                .clone();
        let mut world = World::new(&config).await;
        world.fire(&["alertname=A team=a n=1"], None, at(0)).await;
        for index in 0..3 {
            assert_eq!(world.deliver(index, at(0)).await, Step::Idle);
        }
        let by: Vec<&str> = ["team", "ops", "boss"]
            .into_iter()
            .zip(&scripted)
            .filter(|(_, s)| !s.notified.lock().is_empty())
            .map(|(n, _)| n)
            .collect();
        assert_eq!(
            by,
            notified.split_terminator(' ').collect::<Vec<_>>(),
            "{yaml}"
        );
        for message in scripted.iter().flat_map(|s| s.notified.lock().clone()) {
            assert_eq!(message.stands_in_for, ["team"], "it says for whom");
        }
        let letters = world.state.dead_letters(10).await.expect("read");
        assert_eq!(letters.len(), usize::from(notified.is_empty()));
        assert!(
            letters
                .iter()
                .all(|letter| letter.error.starts_with("template of \"url\": ")),
            "{letters:?}"
        );
    }
}

/// A dead letter can be sent again: under its own delivery id, with the present truth where a newer
/// message of its group waits.
#[tokio::test]
async fn a_dead_letter_is_sent_again_on_request() {
    use nightbell::alerting::SendAgainError;
    let (config, notified) = deliveries(
        "route: {receiver: ops, group_by: [alertname], group_wait: 0s, group_interval: 1s}\nreceivers:\n- {name: ops, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}\n",
    );
    let mut world = World::new(&config).await;
    world
        .fire(&["alertname=A n=1", "alertname=B n=2"], None, at(0))
        .await;
    let gone = || Answer::Refuse(NotifyError::permanent(Reason::Auth, "403"));
    notified[0].script.lock().extend([gone(), gone()]);
    assert_eq!(world.deliver(0, at(0)).await, Step::Idle);
    let letters = world.state.dead_letters(10).await.expect("read");
    assert_eq!(letters.len(), 2);
    assert!(matches!(
        world.dispatch.send_again(Some("nothing"), at(5)).await,
        Err(SendAgainError::Unknown)
    ));
    // The alert of the first one is over, and that waits to be notified.
    let name = |letter: &nightbell::state::DeadLetter| letter.message.group_key.contains("\"A\"");
    let first = letters
        .iter()
        .find(|letter| name(letter))
        .expect("of A")
        .message
        .delivery_id
        .clone();
    world.fire(&["alertname=A n=1"], Some(at(4)), at(5)).await;
    assert_eq!(
        world
            .dispatch
            .send_again(Some(&first), at(6))
            .await
            .expect("sent"),
        1
    );
    assert_eq!(world.deliver(0, at(6)).await, Step::Idle);
    let message = notified[0].notified.lock().pop().expect("one message");
    assert_eq!(
        (message.status, message.alerts.len()),
        (AlertStatus::Resolved, 1),
        "the end is younger than the dead letter"
    );
    assert_eq!(
        world.dispatch.send_again(None, at(7)).await.expect("sent"),
        1
    );
    assert_eq!(world.deliver(0, at(7)).await, Step::Idle);
    let second = letters
        .iter()
        .find(|letter| !name(letter))
        .expect("of B")
        .message
        .delivery_id
        .clone();
    assert_eq!(
        notified[0].notified.lock().pop().map(|m| m.delivery_id),
        Some(second)
    );
    assert_eq!(
        (
            world.state.dead_letters(10).await.expect("read"),
            world.state.outbox(10).await.expect("read")
        ),
        (vec![], vec![])
    );
    // Nobody could send what belongs to no integration.
    world.fire(&["alertname=C n=3"], None, at(8)).await;
    notified[0].script.lock().push_back(gone());
    assert_eq!(world.deliver(0, at(8)).await, Step::Idle);
    let id = world
        .state
        .dead_letters(10)
        .await
        .expect("read")
        .remove(0)
        .message
        .delivery_id;
    let other = read_config("route: {receiver: x}\nreceivers: [{name: x}]\n").expect("valid");
    world.dispatch.reconfigure(Arc::new(other), at(9)).await;
    assert!(matches!(
        world.dispatch.send_again(Some(&id), at(9)).await,
        Err(SendAgainError::Unconfigured(_))
    ));
    assert_eq!(
        world
            .dispatch
            .send_again(None, at(9))
            .await
            .expect("nothing"),
        0
    );
}
