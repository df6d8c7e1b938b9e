//! Groups that the scheduler runs: slots, restarts, reloads.

use nightbell::rules::scheduler::Scheduler;
use nightbell::state::State;
use nightbell::telemetry::Telemetry;
use tokio::sync::mpsc;

use super::*;

fn scheduler(
    script: &Arc<Script>,
    state: &State,
) -> (Scheduler, mpsc::Receiver<Vec<Alert>>, Telemetry) {
    let (sender, receiver) = mpsc::channel(16);
    let telemetry = Telemetry::new();
    let backend: Arc<dyn Backend> = script.clone();
    (
        Scheduler::new(backend, state.clone(), sender, &telemetry),
        receiver,
        telemetry,
    )
}

/// SEMANTICS 103, 105, 125 to 128: slots missed are counted; alerts and their ages outlive the
/// process, whole instead of estimated; an unchanged group goes on untouched; alerts of a rule that
/// went while the process was down are resolved.
#[tokio::test]
async fn the_scheduler_keeps_alerts_across_restarts_and_counts_missed_slots() {
    let state = State::in_memory().await.expect("a database");
    let script = Arc::new(Script::default());
    script.set("m", Ok(vec![hit("x", 1.0)]));
    let definition = || vec![group(vec![Rule::Alerting(alert("A", 120, 0))])];
    let (first, mut notified, telemetry) = scheduler(&script, &state);
    first
        .reload(definition(), Settings::default(), Timestamp(1))
        .await
        .expect("reload");
    let standing = first.standings("A", &[], None);
    assert_eq!(
        (standing.len(), standing[0].stage.clone()),
        (1, Some(Stage::NotEvaluated)),
        "nobody has looked yet"
    );
    first.tick(Timestamp(60_000)).await.expect("tick");
    first
        .reload(definition(), Settings::default(), Timestamp(70_000))
        .await
        .expect("reload");
    first.tick(Timestamp(240_500)).await.expect("tick");
    assert!(
        telemetry
            .encode()
            .contains(r#"nightbell_rule_group_iterations_missed_total{rule_group="f.yml;g"} 2"#),
        "{}",
        telemetry.encode()
    );
    let alerts = notified.recv().await.expect("alerts");
    assert_eq!((alerts[0].name(), alerts[0].starts_at.0), ("A", 240_000));

    let (second, mut notified, _telemetry) = scheduler(&script, &state);
    second
        .reload(definition(), Settings::default(), Timestamp(300_001))
        .await
        .expect("reload");
    second.restore(Timestamp(300_001)).await.expect("restore");
    let snapshot = second.snapshot();
    let rule = snapshot[0].rules[0]
        .alerting
        .as_ref()
        .expect("an alerting rule");
    assert_eq!(
        (rule.alerts[0].state, rule.alerts[0].active_at.0),
        (AlertState::Firing, 60_000)
    );
    script.set("m", Ok(Vec::new()));
    second.tick(Timestamp(360_000)).await.expect("tick");
    let alerts = notified.recv().await.expect("the end");
    assert_eq!(
        (alerts[0].starts_at.0, alerts[0].ends_at),
        (240_000, Some(Timestamp(360_000)))
    );

    script.set("m", Ok(vec![hit("x", 1.0)]));
    second.tick(Timestamp(420_000)).await.expect("tick");
    second.tick(Timestamp(540_000)).await.expect("tick");
    notified.recv().await.expect("firing again");
    let (third, mut notified, _telemetry) = scheduler(&script, &state);
    third
        .reload(Vec::new(), Settings::default(), Timestamp(600_000))
        .await
        .expect("reload");
    third.restore(Timestamp(600_000)).await.expect("restore");
    let alerts = notified
        .recv()
        .await
        .expect("the end of a rule that is gone");
    assert_eq!(alerts[0].ends_at, Some(Timestamp(600_000)));
    assert!(state.rule_alerts().await.expect("rows").is_empty());
}

/// What the first collections brought is judged at once; the slot that lies before that instant is
/// not judged after it, or what has just begun would end. The next slot is.
#[tokio::test]
async fn a_slot_before_the_first_evaluation_is_not_judged_after_it() {
    let script = Arc::new(Script::default());
    let state = State::in_memory().await.expect("a database");
    let (scheduler, mut notified, _telemetry) = scheduler(&script, &state);
    let settings = Settings {
        phase: Duration::from_millis(500),
        ..Settings::default()
    };
    // The slot 60.0 is judged at 60.5; the first collection ended at 60.3.
    scheduler
        .reload(
            vec![group(vec![Rule::Alerting(alert("A", 0, 0))])],
            settings,
            Timestamp(60_100),
        )
        .await
        .expect("reload");
    scheduler.restore(Timestamp(60_100)).await.expect("restore");
    script.set("m", Ok(vec![hit("x", 1.0)]));
    scheduler
        .evaluate_all(Timestamp(60_300))
        .await
        .expect("evaluate");
    assert_eq!(
        notified.try_recv().expect("it fires")[0].starts_at.0,
        60_300
    );
    script.set("m", Ok(Vec::new()));
    scheduler.tick(Timestamp(60_500)).await.expect("tick");
    assert!(
        notified.try_recv().is_err(),
        "at 60.0 nothing was known of it"
    );
    scheduler.tick(Timestamp(120_500)).await.expect("tick");
    assert_eq!(
        notified.try_recv().expect("its end")[0].ends_at,
        Some(Timestamp(120_000))
    );
}

/// Answers like a [`Script`], but holds the answer to one expression until it is let go.
struct Held {
    script: Arc<Script>,
    hold: &'static str,
    asked: Mutex<Vec<String>>,
    reached: std::sync::mpsc::SyncSender<()>,
    go: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Backend for Held {
    fn query(&self, expr: &Expr, at: Timestamp) -> backend::Hits {
        if let Expr::VectorSelector(selector) = expr {
            self.asked.lock().push(selector.name.clone());
            if selector.name == self.hold {
                self.reached.send(()).expect("somebody waits");
                self.go.lock().recv().expect("it is let go");
            }
        }
        self.script.query(expr, at)
    }

    fn query_text(&self, text: &str, at: Timestamp) -> backend::Hits {
        self.script.query_text(text, at)
    }

    fn append(&self, at: Timestamp, samples: &[Sample]) {
        self.script.append(at, samples);
    }
}

/// SEMANTICS 104, 105: a reload, or the end, waits for the rule in progress, not for the rest of
/// its group; a group that stays as it is is evaluated to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reload_and_stop_wait_for_one_rule_only() {
    fn record(name: &str, source: &str) -> Rule {
        Rule::Recording(RecordingRule {
            name: name.into(),
            expr: selector(source),
            expr_text: source.into(),
            labels: Labels::empty(),
            position: Position::default(),
            selectors: Vec::new(),
        })
    }
    let three = |last: &str| {
        group(vec![
            record("r:one", "first"),
            record("r:two", "second"),
            record("r:three", last),
        ])
    };
    let other = || RuleGroup {
        name: "h".into(),
        ..group(vec![record("o:one", "fourth"), record("o:two", "fifth")])
    };
    for stops in [false, true] {
        let (reached, is_reached) = std::sync::mpsc::sync_channel(1);
        let (let_go, go) = std::sync::mpsc::channel();
        let script = Arc::new(Script::default());
        script.set("first", Ok(vec![hit("x", 1.0)]));
        let held = Arc::new(Held {
            script: script.clone(),
            hold: "first",
            asked: Mutex::default(),
            reached,
            go: Mutex::new(go),
        });
        let state = State::in_memory().await.expect("a database");
        let (sender, _notified) = mpsc::channel(16);
        let backend: Arc<dyn Backend> = held.clone();
        let scheduler = Arc::new(Scheduler::new(backend, state, sender, &Telemetry::new()));
        scheduler
            .reload(
                vec![three("third"), other()],
                Settings::default(),
                Timestamp(1),
            )
            .await
            .expect("reload");
        let running = scheduler.clone();
        let tick = tokio::spawn(async move { running.tick(Timestamp(60_000)).await });
        tokio::task::spawn_blocking(move || {
            is_reached.recv().expect("the first rule is evaluated")
        })
        .await
        .expect("waits");
        let waiting = scheduler.clone();
        let mut change = tokio::spawn(async move {
            match stops {
                true => waiting.stop().await,
                false => waiting
                    .reload(
                        vec![three("sixth"), other()],
                        Settings::default(),
                        Timestamp(60_001),
                    )
                    .await
                    .expect("reload"),
            }
        });
        let early = tokio::time::timeout(Duration::from_millis(50), &mut change).await;
        assert!(early.is_err(), "the rule in progress is waited for");
        let_go.send(()).expect("somebody waits");
        change.await.expect("done");
        tick.await.expect("done").expect("tick");
        let asked = held.asked.lock().clone();
        let rest: &[&str] = if stops { &[] } else { &["fourth", "fifth"] };
        assert_eq!(asked, [&["first"], rest].concat(), "stops: {stops}");
        assert_eq!(
            script.stored("r:one", 60_000).len(),
            1,
            "what was evaluated is written"
        );
    }
}
