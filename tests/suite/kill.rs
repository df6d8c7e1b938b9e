//! `kill -9` at random instants while a receiver misbehaves at random: nothing is lost, at most one repeat for each kill.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::alerting::crash::Dice;
use crate::servers::hostile::{Hostile, Manner};
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::wait_until;

/// Deaths of each of the four instances.
const KILLS: usize = 50;

/// Six of ten are accepted; the others are refused, told to wait, left without an answer, or dropped after they were read.
fn reply(dice: &mut Dice) -> Reply {
    match dice.roll(10) {
        0 => Reply::Answer(503, "", "overloaded"),
        1 => Reply::Answer(429, "Retry-After: 1\r\n", "slowly"),
        2 => Reply::Silence,
        3 => Reply::Reset,
        _ => Reply::Answer(200, "", "{}"),
    }
}

/// What the receiver got: the alert, its delivery id, whether it was told that it was accepted.
fn requests(sink: &HttpSink) -> Vec<(usize, String, bool)> {
    let read = |r: &crate::servers::http_sink::Recorded| -> Vec<(usize, String, bool)> {
        let body: Value = serde_json::from_str(&r.body).expect("JSON");
        let id = r.headers.get("x-nightbell-delivery").expect("a delivery id").clone();
        let alerts = body["alerts"].as_array().expect("alerts").iter();
        let number = |alert: &Value| alert["labels"]["n"].as_str().and_then(|n| n.parse().ok()).expect("a number");
        alerts.map(|alert| (number(alert), id.clone(), r.answered == Some(200))).collect()
    };
    sink.requests().iter().flat_map(read).collect()
}

/// One alert for each life of the process, which ends at some instant between the sample and its delivery.
fn killed_again_and_again(seed: u64, state: &str) {
    let mut dice = Dice(seed);
    let page = Hostile::page("trouble{n=\"start\"} 0\n");
    let sink = HttpSink::start((0..5000).map(|_| reply(&mut dice)).collect::<Vec<_>>());
    let rules = tempfile::tempdir().expect("a folder");
    let rule_file = rules.path().join("trouble.yml");
    std::fs::write(&rule_file, "groups:\n- name: trouble\n  interval: 200ms\n  rules:\n  - alert: Trouble\n    expr: trouble == 1\n")
        .expect("written");
    let mut nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\nrules: {{shipped: false}}\nrule_files: ['{}']\n\
         {state}scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
         route: {{receiver: hook, group_by: [n], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: '{}', timeout: 300ms}}]}}]\n",
        rule_file.display(),
        page.address,
        sink.url
    ));
    let mut text = String::new();
    for n in 0..KILLS {
        text.push_str(&format!("trouble{{n=\"{n}\"}} 1\n"));
        page.become_(Manner::Serve("text/plain; version=0.0.4", text.clone().into_bytes()));
        std::thread::sleep(Duration::from_millis(dice.roll(500)));
        nightbell.kill();
        nightbell.restart();
    }
    sink.answer(Reply::Answer(200, "", "{}"));
    let accepted = || requests(&sink).into_iter().filter(|(_, _, accepted)| *accepted).collect::<Vec<_>>();
    wait_until(&format!("seed {seed}: every alert was told"), Duration::from_secs(60), || {
        accepted().iter().map(|(n, _, _)| *n).collect::<BTreeSet<_>>() == (0..KILLS).collect()
    });
    let mut ids: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for (n, id, _) in requests(&sink) {
        ids.entry(n).or_default().insert(id);
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "seed {seed}: each alert has one delivery id, however often it was tried: {ids:?}");
    let (all, distinct) = (accepted().len(), accepted().into_iter().collect::<BTreeSet<_>>().len());
    assert!(all - distinct <= KILLS, "seed {seed}: {} repeats for {KILLS} kills", all - distinct);
    assert!(requests(&sink).len() > all + 10, "seed {seed}: the receiver misbehaved");
}

/// Issue 4, proof: 200 `kill -9`, a fourth of them with the state in PostgreSQL.
#[test]
fn two_hundred_kills_and_a_receiver_that_misbehaves_lose_nothing() {
    let postgres = Postgres::start(&[]);
    let shared = format!("state: {{url: '{}'}}\n", postgres.dsn("postgres", "postgres"));
    std::thread::scope(|scope| {
        for (seed, state) in [(1, ""), (2, ""), (3, ""), (4, shared.as_str())] {
            scope.spawn(move || killed_again_and_again(seed, state));
        }
    });
}
