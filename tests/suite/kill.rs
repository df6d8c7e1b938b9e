//! `kill -9` at random instants while a receiver misbehaves at random: nothing is lost, at most one
//! repeat for each kill.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::alerting::crash::Dice;
use crate::servers::hostile::{Hostile, Manner};
use crate::servers::http_sink::{HttpSink, Recorded, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::wait_until;

/// Deaths of each of the four instances.
const KILLS: usize = 50;

/// Six of ten are accepted; the others are refused, notified to wait, left without an answer, or
/// dropped after they were read.
fn reply(dice: &mut Dice) -> Reply {
    match dice.roll(10) {
        0 => Reply::Answer(503, "", "overloaded"),
        1 => Reply::Answer(429, "Retry-After: 1\r\n", "slowly"),
        2 => Reply::Silence,
        3 => Reply::Reset,
        _ => Reply::Answer(200, "", "{}"),
    }
}

/// A program that watches a page of troubles and tells a receiver of each in a message of its own.
pub struct Watch {
    pub nightbell: Nightbell,
    pub sink: HttpSink,
    page: Hostile,
    text: String,
    _rules: tempfile::TempDir,
}

impl Watch {
    /// `rest` is added to the configuration.
    pub fn start(sink: HttpSink, rest: &str) -> Self {
        let page = Hostile::page("trouble{n=\"start\"} 0\n");
        let rules = tempfile::tempdir().expect("a folder");
        let file = rules.path().join("trouble.yml");
        let text = "groups:\n- name: trouble\n  interval: 200ms\n  rules:\n  - {alert: Trouble, expr: trouble == 1, labels: {severity: critical}}\n";
        std::fs::write(&file, text).expect("written");
        let nightbell = Nightbell::start(&format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\nrule_files: ['{}']\n\
             scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
             route: {{receiver: hook, group_by: [alertname, n], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: '{}', timeout: 300ms}}]}}]\n{rest}",
            file.display(),
            page.address,
            sink.url
        ));
        Watch {
            nightbell,
            sink,
            page,
            text: String::new(),
            _rules: rules,
        }
    }

    /// One more trouble.
    pub fn trouble(&mut self, n: usize) {
        self.text.push_str(&format!("trouble{{n=\"{n}\"}} 1\n"));
        self.page.become_(Manner::Serve(
            "text/plain; version=0.0.4",
            self.text.clone().into_bytes(),
        ));
    }

    /// The page is not answered until the next trouble.
    pub fn page_hangs(&self) {
        self.page.become_(Manner::Silent);
    }

    /// What the receiver got about troubles: which one, the delivery id, whether the sender was
    /// notified that it was accepted.
    pub fn requests(&self) -> Vec<(usize, String, bool)> {
        self.requests_that(|_| true)
    }

    /// Those of messages that `wanted` picks.
    pub fn requests_that(&self, wanted: impl Fn(&Value) -> bool) -> Vec<(usize, String, bool)> {
        let read = |r: &Recorded| -> Vec<(usize, String, bool)> {
            let body: Value = serde_json::from_str(&r.body).expect("JSON");
            if !wanted(&body) {
                return Vec::new();
            }
            let id = r
                .headers
                .get("x-nightbell-delivery")
                .expect("a delivery id")
                .clone();
            let alerts = body["alerts"].as_array().expect("alerts").iter();
            let numbers = alerts.filter_map(|alert| alert["labels"]["n"].as_str()?.parse().ok());
            numbers
                .map(|n| (n, id.clone(), r.answered == Some(200)))
                .collect()
        };
        self.sink.requests().iter().flat_map(read).collect()
    }

    /// The troubles that were accepted, each as often as a message of another delivery id notified
    /// of it.
    pub fn notified(&self) -> Vec<usize> {
        let accepted = self
            .requests()
            .into_iter()
            .filter(|(_, _, accepted)| *accepted);
        let distinct: BTreeSet<(usize, String)> = accepted.map(|(n, id, _)| (n, id)).collect();
        distinct.into_iter().map(|(n, _)| n).collect()
    }
}

/// One trouble for each life of the process, which ends at some instant between the sample and its
/// delivery.
fn killed_again_and_again(seed: u64, state: &str) {
    let mut dice = Dice(seed);
    let sink = HttpSink::start((0..5000).map(|_| reply(&mut dice)).collect::<Vec<_>>());
    let mut watch = Watch::start(sink, &format!("rules: {{shipped: false}}\n{state}"));
    for n in 0..KILLS {
        watch.trouble(n);
        std::thread::sleep(Duration::from_millis(dice.roll(500)));
        watch.nightbell.kill();
        watch.nightbell.restart();
    }
    watch.sink.answer(Reply::Answer(200, "", "{}"));
    let all: BTreeSet<usize> = (0..KILLS).collect();
    wait_until(
        &format!("seed {seed}: every alert was notified"),
        Duration::from_secs(60),
        || watch.notified().into_iter().collect::<BTreeSet<_>>() == all,
    );
    let requests = watch.requests();
    let mut ids: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    // What waits while the receiver wants no more becomes one digest, which is a message of its
    // own.
    for (n, id, _) in watch.requests_that(|message| message["notification_reason"] != "digest") {
        ids.entry(n).or_default().insert(id);
    }
    assert!(
        ids.values().all(|ids| ids.len() == 1),
        "seed {seed}: each alert has one delivery id, however often it was tried: {ids:?}"
    );
    let repeats = requests.iter().filter(|(_, _, accepted)| *accepted).count() - KILLS;
    assert!(
        repeats <= KILLS,
        "seed {seed}: {repeats} repeats for {KILLS} kills"
    );
    assert!(
        requests.len() > KILLS + repeats + 10,
        "seed {seed}: the receiver misbehaved"
    );
}

/// 200 `kill -9`, a fourth of them with the state in PostgreSQL.
#[test]
fn two_hundred_kills_and_a_receiver_that_misbehaves_lose_nothing() {
    let postgres = Postgres::start(&[]);
    let shared = format!(
        "state: {{url: '{}'}}\n",
        postgres.dsn("postgres", "postgres")
    );
    std::thread::scope(|scope| {
        for (seed, state) in [(1, ""), (2, ""), (3, ""), (4, shared.as_str())] {
            scope.spawn(move || killed_again_and_again(seed, state));
        }
    });
}
