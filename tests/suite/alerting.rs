//! Alerting from alerts to messages: timelines in `tests/alerting/*.yml` with a virtual clock,
//! restarts, crashes, deliveries.
//!
//! The timelines without `ours: true` were compared with Alertmanager 0.33, which sends exactly the
//! same messages.

mod configuration;
pub mod crash;
mod delivery;
mod peer;
mod policy;
mod recovery;
mod refusals;
mod restarts;
mod self_test;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::metrics::Metrics;
use nightbell::alerting::{Alerting, Incoming, Silence};
use nightbell::config::{ConfigErrors, Document, Environment, Loader};
use nightbell::model::{Alert, Labels, Timestamp, format_duration, parse_duration};
use nightbell::notify::{AlertStatus, Notification};
use nightbell::state::State;
use serde::Deserialize;

/// Thursday 2026-01-01 00:00 UTC.
pub const START: Timestamp = Timestamp(1_767_225_600_000);

pub fn read_config(yaml: &str) -> Result<Alerting, ConfigErrors> {
    let document = Document::parse("alertmanager.yml", yaml)?;
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, Path::new("."));
    let alerting = {
        let root = loader.root();
        let global = root.section("global");
        let alerting = Alerting::read(&root, global.as_ref());
        if let Some(global) = global {
            global.finish();
        }
        root.finish();
        alerting
    };
    loader.finish(alerting)
}

pub fn config(yaml: &str) -> Arc<Alerting> {
    Arc::new(read_config(yaml).unwrap_or_else(|errors| panic!("{errors}")))
}

pub fn alert(
    labels: &str,
    starts_at: Timestamp,
    ends_at: Option<Timestamp>,
    now: Timestamp,
) -> Alert {
    Alert {
        labels: Labels::from_pairs(
            labels
                .split_whitespace()
                .map(|pair| pair.split_once('=').expect("name=value")),
        ),
        annotations: Labels::empty(),
        starts_at,
        ends_at,
        updated_at: now,
        generator_url: String::new(),
        value: Some(1.0),
        peak: Some(2.0),
        evidence: Vec::new(),
        shipped: false,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timeline {
    about: String,
    #[serde(default)]
    ours: bool,
    config: String,
    events: Vec<Event>,
    until: String,
    expect: Vec<String>,
}

/// One thing that happens: `fire` and `resolve` name labels, `silence` matchers, `restart` a time
/// without a process after a `kill -9`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Event {
    at: String,
    fire: Option<String>,
    since: Option<String>,
    text: String,
    resolve: Option<String>,
    silence: Option<String>,
    #[serde(rename = "for")]
    lasting: Option<String>,
    restart: Option<String>,
    /// The clock is set to `at`, which may be earlier than before.
    set_clock: bool,
}

/// Since when each alert fires, and when it ended.
type Lives = BTreeMap<String, (Timestamp, Option<Timestamp>)>;

impl Event {
    /// Since when and until when the alert with these labels fires, now that this happens.
    fn life(&self, lives: &mut Lives, labels: &str, now: Timestamp) -> (Timestamp, Timestamp) {
        let life = lives.entry(labels.to_owned()).or_insert((now, None));
        match (&self.resolve, life.1) {
            (Some(_), None) => life.1 = Some(now),
            (None, Some(_)) => *life = (now, None),
            _ => {}
        }
        if let Some(since) = &self.since {
            life.0 = now - duration(since);
        }
        (life.0, life.1.unwrap_or(now + Duration::from_secs(600)))
    }
}

fn duration(text: &str) -> Duration {
    parse_duration(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

struct Player {
    path: PathBuf,
    config: Arc<Alerting>,
    state: State,
    dispatch: Dispatch,
    lives: Lives,
    notified: Vec<String>,
}

impl Player {
    async fn new(path: PathBuf, config: Arc<Alerting>) -> Self {
        let state = State::open(&path).await.expect("a state file");
        let dispatch =
            Dispatch::restore(config.clone(), state.clone(), Metrics::default(), START).await;
        Player {
            path,
            config,
            state,
            dispatch,
            lives: Lives::new(),
            notified: Vec::new(),
        }
    }

    /// Flushes on every tick up to `until`, and delivers at once what each flush decided.
    async fn run_to(&mut self, until: Timestamp) {
        while let Some(due) = self.dispatch.next_due().filter(|due| *due <= until) {
            self.dispatch.flush(due).await;
            for row in self.state.outbox(1000).await.expect("read") {
                let message: Notification = serde_json::from_str(&row.body).expect("a message");
                self.notified.push(line(&message));
                self.state
                    .remove_message(&row.delivery_id)
                    .await
                    .expect("removed");
            }
        }
    }

    async fn happen(&mut self, event: &Event, now: Timestamp) {
        if let Some(labels) = event.fire.as_ref().or(event.resolve.as_ref()) {
            let (start, end) = event.life(&mut self.lives, labels, now);
            let mut alert = alert(labels, start, Some(end), now);
            alert.annotations = Labels::from_pairs([("text", event.text.as_str())]);
            // A rule that fires names no end.
            alert.ends_at = alert.ends_at.filter(|_| event.resolve.is_some());
            self.dispatch.put(vec![Incoming::from(alert)], now).await;
        }
        if let Some(matchers) = &event.silence {
            let silence = Silence {
                id: String::new(),
                matchers: nightbell::alerting::config::matchers::parse_matchers(matchers)
                    .expect("matchers"),
                starts_at: now,
                ends_at: now + duration(event.lasting.as_deref().expect("for")),
                updated_at: now,
                created_by: "test".into(),
                comment: "test".into(),
                annotations: Vec::new(),
            };
            self.dispatch
                .set_silence(silence, now)
                .await
                .expect("silenced");
        }
        if event.set_clock {
            self.dispatch.flush(now).await;
        }
        if let Some(downtime) = &event.restart {
            let now = now + duration(downtime);
            self.state = State::open(&self.path).await.expect("a state file");
            self.dispatch = Dispatch::restore(
                self.config.clone(),
                self.state.clone(),
                Metrics::default(),
                now,
            )
            .await;
        }
    }
}

/// `2s ops {alertname="A"} +1 -2 (new alerts added)`: when, to whom, about which group, which
/// alerts fire (+) and have ended (-).
fn line(message: &Notification) -> String {
    let at = format_duration(Timestamp(message.at_ms).since(START));
    let group: Vec<String> = message
        .group_labels
        .iter()
        .map(|(n, v)| format!("{n}={v:?}"))
        .collect();
    let sign = |status| {
        if status == AlertStatus::Firing {
            '+'
        } else {
            '-'
        }
    };
    let alerts: Vec<String> = message
        .alerts
        .iter()
        .map(|a| format!("{}{}", sign(a.status), a.label("n")))
        .collect();
    format!(
        "{at} {} {{{}}} {} ({})",
        message.receiver,
        group.join(", "),
        alerts.join(" "),
        message.reason
    )
}

/// Every timeline with the name of its file.
fn timelines() -> Vec<(String, Timeline)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerting");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder")
        .map(|e| e.expect("an entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "yml"));
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("the file can be read");
        let timeline =
            serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (
            path.file_name().unwrap_or_default().display().to_string(),
            timeline,
        )
    };
    paths.iter().map(read).collect()
}

/// SEMANTICS part D, each file naming its rules: at these times these alerts, at those times
/// exactly those messages.
#[tokio::test]
async fn timelines_lead_to_exactly_the_messages_they_name() {
    let timelines = timelines();
    assert!(timelines.len() > 10, "timelines are missing");
    let scratch = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for (name, timeline) in timelines {
        let mut player = Player::new(
            scratch.path().join(format!("{name}.db")),
            config(&timeline.config),
        )
        .await;
        for event in &timeline.events {
            let now = START + duration(&event.at);
            player.run_to(now - Duration::from_millis(1)).await;
            player.happen(event, now).await;
        }
        player.run_to(START + duration(&timeline.until)).await;
        player.notified.sort();
        let mut wanted = timeline.expect.clone();
        wanted.sort();
        if player.notified != wanted {
            wrong.push(format!(
                "{name}: {}\ngot:\n  {}\nwanted:\n  {}",
                timeline.about,
                player.notified.join("\n  "),
                wanted.join("\n  ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Every alert that is notified of, at least once firing and, after its end, once resolved.
fn heard(notified: &[Notification], status: AlertStatus) -> BTreeSet<String> {
    notified
        .iter()
        .flat_map(|m| &m.alerts)
        .filter(|a| a.status == status)
        .map(|a| a.label("n").to_owned())
        .collect()
}
