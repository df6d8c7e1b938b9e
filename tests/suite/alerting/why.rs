//! Why an alert was notified or not: a fixture for each stage of alerting, with the sentence in
//! both languages.

use std::sync::Arc;
use std::time::Duration;

use nightbell::alerting::delivery::deliverer::Deliverer;
use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::metrics::Metrics;
use nightbell::alerting::why::Account;
use nightbell::alerting::{Alerting, Incoming, Silence};
use nightbell::model::Language;
use nightbell::model::Timestamp;
use nightbell::notify::{NotifyError, Reason};
use nightbell::state::State;
use nightbell::web::why::words::{About, sentence};

use super::delivery::{Answer, Scripted};
use super::{START, alert, read_config};

struct Stage {
    config: Arc<Alerting>,
    state: State,
    dispatch: Dispatch,
    notifier: Option<Deliverer>,
    ops: Arc<Scripted>,
}

fn at(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

impl Stage {
    /// `route`: the rest of the root route; `rest`: the rest of the file.
    async fn set(route: &str, rest: &str) -> Self {
        Self::set_with("", route, rest).await
    }

    /// `receiver`: further keys of the receiver `ops`.
    async fn set_with(receiver: &str, route: &str, rest: &str) -> Self {
        let mut config: Alerting = read_config(&format!(
            "route: {{receiver: ops, group_by: [alertname], group_wait: 10s, group_interval: 1m, repeat_interval: 4h{route}}}\n\
             receivers:\n- {{name: ops{receiver}, webhook_configs: [{{url: 'http://127.0.0.1:9/', send_resolved: false}}]}}\n- name: nobody\n{rest}"
        ))
        .unwrap_or_else(|errors| panic!("{errors}"));
        let ops = Arc::new(Scripted::default());
        config.receivers[0].integrations[0].notifier = ops.clone();
        let state = State::in_memory().await.expect("a database");
        let config = Arc::new(config);
        let dispatch =
            Dispatch::restore(config.clone(), state.clone(), Metrics::default(), START).await;
        let notifier = dispatch.deliverers().into_iter().next();
        Stage {
            config,
            state,
            dispatch,
            notifier,
            ops,
        }
    }

    async fn fire(&mut self, labels: &str, seconds: u64) {
        self.dispatch
            .put(
                vec![Incoming::from(alert(
                    labels,
                    at(seconds),
                    None,
                    at(seconds),
                ))],
                at(seconds),
            )
            .await;
    }

    async fn end(&mut self, labels: &str, began: u64, seconds: u64) {
        self.dispatch
            .put(
                vec![Incoming::from(alert(
                    labels,
                    at(began),
                    Some(at(seconds)),
                    at(seconds),
                ))],
                at(seconds),
            )
            .await;
    }

    async fn flush(&mut self, seconds: u64) {
        self.dispatch.flush(at(seconds)).await;
    }

    async fn deliver(&mut self, seconds: u64) {
        self.notifier
            .as_mut()
            .expect("ops has an integration")
            .step(at(seconds))
            .await;
    }

    fn refuse(&self, reason: Reason, retryable: bool, text: &str) {
        let error = NotifyError {
            reason,
            retryable,
            retry_after: None,
            message: text.into(),
        };
        self.ops.script.lock().push_back(Answer::Refuse(error));
    }

    async fn silence(&mut self, matchers: &str, seconds: u64, lasting: u64) {
        let silence = Silence {
            id: String::new(),
            matchers: nightbell::alerting::config::matchers::parse_matchers(matchers)
                .expect("matchers"),
            starts_at: at(seconds),
            ends_at: at(seconds + lasting),
            updated_at: at(seconds),
            created_by: "mei".into(),
            comment: "disk swap".into(),
            annotations: Vec::new(),
        };
        self.dispatch
            .set_silence(silence, at(seconds))
            .await
            .expect("silenced");
    }

    async fn account(&self, instant: Option<u64>) -> Account {
        let accounts = self
            .dispatch
            .accounts(&self.state, "A", instant.map(at))
            .await
            .expect("read");
        assert_eq!(accounts.len(), 1, "one alert has this name");
        accounts.into_iter().next().expect("one")
    }

    /// The stage that counts for the alert `A` and its sentence in both languages, asked at
    /// `seconds`.
    async fn why(&self, seconds: u64) -> (String, String, String) {
        notified(&self.account(None).await, seconds)
    }
}

fn notified(account: &Account, seconds: u64) -> (String, String, String) {
    let delivery = account.decisive().expect("somebody is to be notified");
    let about = About {
        receiver: "ops",
        at: delivery.at,
        delivered_at: delivery.delivered_at,
        now: at(seconds),
    };
    let name = serde_json::to_value(&delivery.stage).expect("JSON")["stage"]
        .as_str()
        .expect("a name")
        .to_owned();
    (
        name,
        sentence(&delivery.stage, about, Language::En),
        sentence(&delivery.stage, about, Language::Zh),
    )
}

#[track_caller]
fn is(got: (String, String, String), stage: &str, english: &str, chinese: &str) {
    assert_eq!(
        (got.0.as_str(), got.1.as_str(), got.2.as_str()),
        (stage, english, chinese)
    );
}

#[tokio::test]
async fn an_alert_whose_group_is_not_due_waits_for_it() {
    let mut stage = Stage::set("", "").await;
    stage.fire("alertname=A", 0).await;
    is(
        stage.why(4).await,
        "waiting",
        "It is waiting for the next message of its group to ops, due at 2026-01-01 00:00:10 UTC (in 6s).",
        "正在等待本组发往 ops 的下一条消息，时间为 2026-01-01 00:00:10 UTC（还有 6s）。",
    );
}

#[tokio::test]
async fn a_message_goes_from_written_to_delivered_to_deduplicated() {
    let mut stage = Stage::set("", "").await;
    stage.fire("alertname=A", 0).await;
    stage.flush(10).await;
    is(
        stage.why(10).await,
        "sending",
        "A message to ops was written at 2026-01-01 00:00:10 UTC (first notification) and is on its way.",
        "发往 ops 的消息已于 2026-01-01 00:00:10 UTC 写出（first notification），正在发送。",
    );
    stage.deliver(11).await;
    is(
        stage.why(12).await,
        "delivered",
        "Delivered at 2026-01-01 00:00:11 UTC to ops.",
        "已于 2026-01-01 00:00:11 UTC 送达 ops。",
    );
    stage.flush(70).await;
    is(
        stage.why(71).await,
        "deduplicated",
        "Deduplicated: ops was notified at 2026-01-01 00:00:10 UTC, delivered at 2026-01-01 00:00:11 UTC; nothing has changed, and it is repeated \
         after 2026-01-01 04:00:10 UTC.",
        "已去重：已于 2026-01-01 00:00:10 UTC 通知 ops，于 2026-01-01 00:00:11 UTC 送达；此后没有变化，2026-01-01 04:00:10 UTC 之后才会重复发送。",
    );
    // What was decided then.
    for (instant, wanted) in [
        (5, "waiting"),
        (10, "sending"),
        (60, "delivered"),
        (70, "deduplicated"),
    ] {
        assert_eq!(
            notified(&stage.account(Some(instant)).await, instant).0,
            wanted,
            "at {instant}s"
        );
    }
    let history: Vec<u64> = stage
        .account(None)
        .await
        .history
        .iter()
        .map(|row| row.at.since(START).as_secs())
        .collect();
    assert_eq!(history, [70, 11, 10, 0]);
    let flushes = |row: &&nightbell::state::DecisionRow| {
        matches!(row.stage, nightbell::model::Stage::Deduplicated { .. })
    };
    stage.flush(130).await;
    stage.flush(190).await;
    assert_eq!(
        stage
            .account(None)
            .await
            .history
            .iter()
            .filter(flushes)
            .count(),
        1,
        "a decision that stays the same is written down once"
    );
}

#[tokio::test]
async fn an_inhibited_alert_names_the_one_that_inhibits_it() {
    let rules = "inhibit_rules: [{source_matchers: [alertname=Down], target_matchers: [alertname=A], equal: [host]}]\n";
    let mut stage = Stage::set("", rules).await;
    stage.fire("alertname=Down host=db1", 0).await;
    stage.fire("alertname=A host=db1", 0).await;
    // Silenced too: the first one that blocks is named.
    stage.silence("alertname=A", 1, 3600).await;
    stage.flush(10).await;
    is(
        stage.why(12).await,
        "inhibited",
        "Inhibited by {alertname=\"Down\", host=\"db1\"}.",
        "被抑制，抑制它的告警：{alertname=\"Down\", host=\"db1\"}。",
    );
}

#[tokio::test]
async fn an_alert_in_a_muted_interval_names_the_interval() {
    let night = "time_intervals: [{name: night, time_intervals: [{times: [{start_time: '00:00', end_time: '06:00'}]}]}]\n";
    let mut stage = Stage::set(
        ", routes: [{matchers: [alertname=A], mute_time_intervals: [night]}]",
        night,
    )
    .await;
    stage.fire("alertname=A", 0).await;
    stage.silence("alertname=A", 1, 3600).await;
    stage.flush(10).await;
    is(
        stage.why(12).await,
        "muted",
        "Muted: its route is quiet because of the time interval night.",
        "处于静音时段：其路由因时间段 night 不发送。",
    );
}

#[tokio::test]
async fn a_silenced_alert_names_who_until_when_and_why() {
    let mut stage = Stage::set("", "").await;
    stage.fire("alertname=A", 0).await;
    stage.silence("alertname=A", 1, 3600).await;
    stage.flush(10).await;
    let (name, english, chinese) = stage.why(12).await;
    let id = english
        .split("(silence ")
        .nth(1)
        .and_then(|t| t.split(':').next())
        .expect("an id")
        .to_owned();
    is(
        (name, english, chinese),
        "silenced",
        &format!("Silenced by mei until 2026-01-01 01:00:01 UTC (silence {id}: disk swap)."),
        &format!("已静默：由 mei 静默至 2026-01-01 01:00:01 UTC（静默 {id}：disk swap）。"),
    );
}

#[tokio::test]
async fn a_receiver_that_fails_is_named_even_when_the_group_was_flushed_again() {
    let mut stage = Stage::set("", "").await;
    stage.fire("alertname=A", 0).await;
    stage.flush(10).await;
    stage.refuse(Reason::Unreachable, true, "connection refused");
    stage.deliver(11).await;
    let wanted = "Receiver failing: ops did not accept the message at 2026-01-01 00:00:11 UTC: connection refused. It is tried again.";
    is(
        stage.why(12).await,
        "failing",
        wanted,
        "接收者故障：ops 于 2026-01-01 00:00:11 UTC 未接受消息：connection refused。将重试。",
    );
    stage.flush(70).await;
    assert_eq!(
        stage.why(71).await.1,
        wanted,
        "the log says notified, but it was not"
    );
    stage.deliver(72).await;
    assert_eq!(stage.why(73).await.0, "deduplicated");
}

#[tokio::test]
async fn a_receiver_that_slows_us_down_is_rate_limited_for_what_waits_behind_it_too() {
    let mut stage = Stage::set("", "").await;
    stage.fire("alertname=Before", 0).await;
    stage.flush(10).await;
    stage.refuse(Reason::RateLimited, true, "429 Too Many Requests");
    stage.deliver(11).await;
    stage.fire("alertname=A", 12).await;
    stage.flush(22).await;
    is(
        stage.why(23).await,
        "rate_limited",
        "Rate-limited: ops takes no more messages for now at 2026-01-01 00:00:11 UTC: 429 Too Many Requests.",
        "被限流：ops 于 2026-01-01 00:00:11 UTC 暂不接收更多消息：429 Too Many Requests。",
    );
}

#[tokio::test]
async fn a_message_that_was_refused_for_good_is_given_up() {
    let mut stage = Stage::set("", "").await;
    stage.fire("alertname=A", 0).await;
    stage.flush(10).await;
    stage.refuse(Reason::Rejected, false, "400: no such room");
    stage.deliver(11).await;
    is(
        stage.why(12).await,
        "given_up",
        "Given up at 2026-01-01 00:00:11 UTC: ops will not accept the message: 400: no such room. It is kept as a dead letter.",
        "已放弃：ops 于 2026-01-01 00:00:11 UTC 拒绝了消息：400: no such room。消息保留为死信。",
    );
}

#[tokio::test]
async fn ends_that_nobody_needs_to_hear_of_say_so() {
    let mut stage = Stage::set("", "").await;
    stage.fire("alertname=A", 0).await;
    stage.flush(10).await;
    stage.deliver(11).await;
    stage.end("alertname=A", 0, 30).await;
    assert_eq!(
        stage.why(31).await.1,
        "Its end is waiting for the next message of its group to ops, due at 2026-01-01 00:01:10 UTC (in 39s)."
    );
    stage.flush(70).await;
    is(
        stage.why(71).await,
        "end_not_wanted",
        "It has ended, and ops does not want to hear of ends (send_resolved: false).",
        "已恢复，而 ops 不接收恢复通知（send_resolved: false）。",
    );
}

/// Who is notified next because nobody acknowledged the alert is accounted for as all others are.
#[tokio::test]
async fn the_next_contact_of_an_alert_is_accounted_for() {
    let deputy = "- {name: deputy, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}\n";
    let mut stage =
        Stage::set_with(", escalation: [{after: 20s, receiver: deputy}]", "", deputy).await;
    stage.fire("alertname=A severity=critical", 0).await;
    stage.flush(10).await;
    stage.deliver(11).await;
    assert_eq!(stage.why(12).await.0, "delivered");
    stage.flush(30).await;
    let account = stage.account(None).await;
    let of: Vec<(&str, &str)> = account
        .deliveries
        .iter()
        .map(|d| {
            (
                d.receiver.as_str(),
                d.group_key.split(':').next().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(of, [("ops", "{}"), ("deputy", "escalation")]);
    is(
        stage.why(30).await,
        "sending",
        "A message to ops was written at 2026-01-01 00:00:30 UTC (not acknowledged in time) and is on its way.",
        "发往 ops 的消息已于 2026-01-01 00:00:30 UTC 写出（not acknowledged in time），正在发送。",
    );
    // Nothing listens at its address.
    let deliveries = stage.dispatch.deliverers();
    for mut notifier in deliveries.into_iter().skip(1) {
        notifier.step(at(31)).await;
    }
    assert_eq!(stage.why(32).await.0, "failing");
    let account = stage.account(None).await;
    assert_eq!(
        account
            .decisive()
            .map(|delivery| delivery.receiver.as_str()),
        Some("deputy")
    );
    assert!(
        account
            .history
            .iter()
            .any(|row| row.integration == "deputy/webhook/0" && row.at == at(31)),
        "{:?}",
        account.history
    );
}

#[tokio::test]
async fn an_alert_that_flaps_says_when_it_is_notified_again() {
    let mut stage = Stage::set("", "flapping: {firings: 2, within: 1m, stable_for: 5m}\n").await;
    stage.fire("alertname=A", 0).await;
    stage.end("alertname=A", 0, 3).await;
    stage.fire("alertname=A", 6).await;
    stage.flush(10).await;
    stage.deliver(11).await;
    assert_eq!(stage.why(12).await.0, "delivered", "that it flaps");
    let since = stage.account(None).await.history.len();
    stage.end("alertname=A", 6, 20).await;
    stage.flush(70).await;
    is(
        stage.why(71).await,
        "flapping",
        "Flapping since 2026-01-01 00:00:00 UTC: ops was notified of that at 2026-01-01 00:00:10 UTC, delivered at 2026-01-01 00:00:11 UTC; it is notified \
         again when the alert has been stable for 5m.",
        "自 2026-01-01 00:00:00 UTC 起反复抖动：已于 2026-01-01 00:00:10 UTC 通知 ops，于 2026-01-01 00:00:11 UTC 送达；稳定 5m 之后再通知。",
    );
    assert_eq!(
        stage.account(None).await.history.len(),
        since + 2,
        "its end, and that it flaps"
    );
    // A silence comes first.
    stage.silence("alertname=A", 100, 3600).await;
    stage.flush(130).await;
    assert_eq!(stage.why(131).await.0, "silenced");
}

#[tokio::test]
async fn a_message_in_quiet_hours_is_held() {
    let night = "time_intervals: [{name: night, time_intervals: [{times: [{start_time: '00:00', end_time: '06:00'}]}]}]\n";
    let mut stage = Stage::set_with(", quiet_hours: [night]", "", night).await;
    stage.fire("alertname=A severity=info", 0).await;
    stage.flush(10).await;
    stage.deliver(11).await;
    is(
        stage.why(12).await,
        "held",
        "Held: a message was written at 2026-01-01 00:00:10 UTC and waits for the end of the quiet hours of ops.",
        "暂缓：消息已于 2026-01-01 00:00:10 UTC 写出，等待 ops 的安静时段结束。",
    );
}

#[tokio::test]
async fn a_message_of_a_receiver_that_is_down_is_followed_to_its_fallback() {
    let backup = "- {name: backup, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}\n";
    let mut stage = Stage::set_with(", fallback: backup, fallback_after: 1s", "", backup).await;
    stage.fire("alertname=A", 0).await;
    stage.flush(10).await;
    stage.refuse(Reason::Unreachable, true, "connection refused");
    stage.deliver(20).await;
    is(
        stage.why(21).await,
        "handed_over",
        "ops is down; its message went at 2026-01-01 00:00:20 UTC to the fallback backup/webhook/0.",
        "ops 不可用，消息已于 2026-01-01 00:00:20 UTC 转交备用接收者 backup/webhook/0。",
    );
}

#[tokio::test]
async fn a_receiver_without_integrations_is_meant_for_nobody() {
    let mut stage = Stage::set(
        ", routes: [{matchers: [alertname=A], receiver: nobody}]",
        "",
    )
    .await;
    stage.fire("alertname=A", 0).await;
    stage.flush(10).await;
    is(
        stage.why(12).await,
        "no_integration",
        "Its receiver ops has no integration: it is meant for nobody.",
        "接收者 ops 没有任何集成，不通知任何人。",
    );
}

#[tokio::test]
async fn decisions_survive_a_restart_and_are_forgotten_after_their_time() {
    let mut stage = Stage::set("", "").await;
    stage.fire("alertname=A", 0).await;
    stage.flush(10).await;
    stage.deliver(11).await;
    let (config, state) = (stage.config.clone(), stage.state.clone());
    stage.dispatch = Dispatch::restore(config, state, Metrics::default(), at(20)).await;
    assert_eq!(stage.why(21).await.0, "delivered");
    stage.state.prune_decisions(at(11)).await.expect("pruned");
    assert_eq!(
        stage
            .dispatch
            .accounts(&stage.state, "A", Some(at(100)))
            .await
            .expect("read"),
        []
    );
}

#[tokio::test]
async fn an_alert_that_ended_before_anyone_was_notified_says_so() {
    let other = "- {name: other, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}\n";
    let mut stage = Stage::set(
        ", routes: [{matchers: [alertname=A], receiver: other}]",
        other,
    )
    .await;
    stage.fire("alertname=A", 0).await;
    stage.end("alertname=A", 0, 5).await;
    stage.flush(10).await;
    is(
        stage.why(12).await,
        "ended_unnotified",
        "It ended before ops was notified of it, so there was nothing to take back.",
        "在通知 ops 之前已恢复，无需再发送。",
    );
}

/// Item 8: the sentences of the stages that a rule decides, and of those that no other fixture here
/// asserts, in both languages.
#[test]
fn every_stage_of_a_rule_has_its_sentence_in_both_languages() {
    use nightbell::model::Stage;
    let text = |text: &str| text.to_owned();
    let cases = [
        (
            Stage::NoRule,
            "There is no such alert: no rule has this name and these labels, and none came from outside.",
            "没有这个告警：没有这个名称和标签的规则，外部也没有发来过。",
        ),
        (
            Stage::NotEvaluated,
            "The rule has not judged this yet.",
            "规则尚未对此求值。",
        ),
        (
            Stage::NothingRecorded,
            "Nothing was recorded at that time, and the samples of that time are gone.",
            "当时没有记录，当时的样本也已不在。",
        ),
        (
            Stage::RuleFailing { error: text("no") },
            "The rule cannot be evaluated: no.",
            "规则无法求值：no。",
        ),
        (
            Stage::NoSeries {
                expression: text("a > 1"),
            },
            "There is no series: a > 1 finds nothing.",
            "没有序列：a > 1 没有结果。",
        ),
        (
            Stage::BelowThreshold {
                value: 62.0,
                operator: text(">"),
                threshold: 90.0,
                by: 28.0,
                series: [(text("i"), text("x"))].into(),
                compared: 2,
            },
            "The value is 62 and would have to be > 90: below the threshold by 28. Series: {i=\"x\"}, the nearest of 2 series.",
            "当前值为 62，需要 > 90：比阈值低 28。序列：{i=\"x\"}（2 个序列中最接近的）。",
        ),
        (
            Stage::BelowThreshold {
                value: 9.0,
                operator: text("<"),
                threshold: 5.0,
                by: 4.0,
                series: [].into(),
                compared: 1,
            },
            "The value is 9 and would have to be < 5: above the threshold by 4. Series: {}.",
            "当前值为 9，需要 < 5：比阈值高 4。序列：{}。",
        ),
        (
            Stage::ConditionFalse {
                expression: text("a and b"),
            },
            "The condition does not hold: a and b.",
            "条件不成立：a and b。",
        ),
        (
            Stage::Pending {
                since: at(10),
                hold: Duration::from_secs(300),
            },
            "Pending 3m of 5m: the condition has held since 2026-01-01 00:00:10 UTC, the alert fires at 2026-01-01 00:05:10 UTC.",
            "等待中，已持续 3m，共需 5m：条件自 2026-01-01 00:00:10 UTC 起成立，将于 2026-01-01 00:05:10 UTC 触发。",
        ),
        (
            Stage::PendingEnded { since: at(10) },
            "The condition held from 2026-01-01 00:00:10 UTC and ended at 2026-01-01 00:01:00 UTC, before the alert fired.",
            "条件自 2026-01-01 00:00:10 UTC 起成立，于 2026-01-01 00:01:00 UTC 在触发之前已恢复。",
        ),
        (
            Stage::HeldNoData {
                since: at(10),
                missing: ["a", "b", "c", "d"].map(str::to_owned).into(),
            },
            "Held: its data are missing since 2026-01-01 00:00:10 UTC (a, b, c, …); it stays as it was until they are back.",
            "保持原状：自 2026-01-01 00:00:10 UTC 起缺少数据（a, b, c, …），数据恢复之前告警不变。",
        ),
        (
            Stage::NotRecovered {
                since: at(10),
                expression: text("cpu < 70"),
            },
            "Waiting for its recovery: the condition holds no longer since 2026-01-01 00:00:10 UTC, but recover_expr does not hold yet: cpu < 70.",
            "等待恢复：条件自 2026-01-01 00:00:10 UTC 起不再成立，但恢复条件 recover_expr 尚未成立：cpu < 70。",
        ),
        (
            Stage::HoldEnded { since: at(10) },
            "What held it since 2026-01-01 00:00:10 UTC ended at 2026-01-01 00:01:00 UTC.",
            "自 2026-01-01 00:00:10 UTC 起的保持已于 2026-01-01 00:01:00 UTC 结束。",
        ),
        (
            Stage::NoIntegration,
            "Its receiver ops has no integration: it is meant for nobody.",
            "接收者 ops 没有任何集成，不通知任何人。",
        ),
        (
            Stage::Delivered { resolved: true },
            "Its end was delivered at 2026-01-01 00:01:00 UTC to ops.",
            "恢复通知已于 2026-01-01 00:01:00 UTC 送达 ops。",
        ),
    ];
    for (stage, english, chinese) in cases {
        let about = About {
            receiver: "ops",
            at: Some(at(60)),
            delivered_at: None,
            now: at(190),
        };
        assert_eq!(
            (
                sentence(&stage, about, Language::En).as_str(),
                sentence(&stage, about, Language::Zh).as_str()
            ),
            (english, chinese)
        );
        let json = serde_json::to_value(&stage).expect("JSON");
        assert_eq!(
            serde_json::from_value::<Stage>(json).expect("read back"),
            stage
        );
    }
}

/// Item 8: a stage that no test speaks of by its name is a stage without a fixture.
#[test]
fn every_stage_has_a_fixture() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let source = read("src/model/alert/stage.rs");
    let (_, source) = source.split_once("pub enum Stage {").expect("the enum");
    let (source, _) = source.split_once("\n}\n").expect("its end");
    let stages = source.lines().filter_map(|line| {
        line.strip_prefix("    ")?
            .strip_suffix([',', '{'])
            .map(str::trim)
    });
    let stages: Vec<&str> = stages
        .filter(|name| {
            name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric)
        })
        .collect();
    assert!(stages.len() > 25, "{stages:?}");
    let tests = ["alerting/why.rs", "why.rs", "alerting/recovery.rs"]
        .map(|name| read(&format!("tests/suite/{name}")))
        .concat();
    for stage in stages {
        let snake = stage.chars().fold(String::new(), |out, c| {
            match c.is_uppercase() && !out.is_empty() {
                true => format!("{out}_{}", c.to_ascii_lowercase()),
                false => format!("{out}{}", c.to_ascii_lowercase()),
            }
        });
        let spoken = tests.contains(&format!("\"{snake}\""))
            || tests.contains(&format!("Stage::{stage} "))
            || tests.contains(&format!("Stage::{stage},"));
        assert!(spoken, "no test speaks of {stage}");
    }
}
