//! The history of the built binary: `kill -9`, a disk that is full, no folder to write into.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::process::Command;
use std::time::Duration;

use nightbell::exposition::protobuf::{Options, expand};
use nightbell::model::{Labels, MatchOp, Matcher, NativeHistogram, Timestamp};
use nightbell::store::Window;

use super::{files, open};
use crate::servers::hostile::{Hostile, Manner};
use crate::servers::nightbell::Nightbell;
use crate::servers::page::serve_page;
use crate::servers::protobuf::everything;
use crate::servers::wait_until;

/// The samples of one series as the API tells them.
fn samples_of(nightbell: &Nightbell, selector: &str) -> Vec<(i64, String)> {
    let query: String = selector.bytes().map(|b| format!("%{b:02x}")).collect();
    let (status, body) = nightbell.get(&format!("/api/v1/query?query={query}"));
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let values = answer["data"]["result"][0]["values"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let time = |v: &serde_json::Value| (v[0].as_f64().unwrap_or(0.0) * 1000.0).round() as i64;
    values
        .iter()
        .map(|v| (time(v), v[1].as_str().unwrap_or("").to_owned()))
        .collect()
}

/// `kill -9` at any instant loses at most the last scrape, again and again.
#[test]
fn kill_9_loses_at_most_the_last_scrape() {
    let mut nightbell =
        Nightbell::start("global: {scrape_interval: 500ms}\ncollectors:\n  host: {}\n");
    let counter = "node_cpu_seconds_total{cpu=\"0\",mode=\"user\"}[1h]";
    let mut before = Vec::new();
    for round in 0..4_u64 {
        wait_until("further samples", Duration::from_secs(20), || {
            samples_of(&nightbell, counter).len() >= before.len() + 3
        });
        // Any instant between two scrapes.
        std::thread::sleep(Duration::from_millis(round * 271 % 500));
        let held = samples_of(&nightbell, counter);
        nightbell.kill();
        nightbell.restart();
        before = samples_of(&nightbell, counter);
        let kept = &held[..held.len() - 1];
        assert!(
            before.starts_with(kept),
            "round {round}: {held:?} became {before:?}"
        );
    }
    assert!(nightbell.log().contains("Log read."), "{}", nightbell.log());
}

/// Native histograms that were scraped survive `kill -9`, bit for bit.
#[test]
fn scraped_native_histograms_survive_kill_9() {
    let body = everything();
    let server = Hostile::start(Manner::Serve("application/vnd.google.protobuf", body));
    let mut nightbell = Nightbell::start(&format!(
        "rules: {{shipped: false}}\nglobal: {{scrape_interval: 500ms, scrape_timeout: 500ms, scrape_native_histograms: true}}\nscrape_configs:\n\
         - job_name: fake\n  static_configs: [{{targets: ['{}'], labels: {{instance: i}}}}]\n",
        server.address
    ));
    wait_until("scrapes", Duration::from_secs(30), || {
        samples_of(&nightbell, "up{job=\"fake\"}[1h]").len() > 4
    });
    nightbell.kill();
    let store = open(
        &nightbell.folder.path().join("state/history"),
        Timestamp::now().0,
    );
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let native = [
        Matcher::new("__name__", MatchOp::Regex, "(native|float|queue)_seconds").expect("valid"),
    ];
    let visit = |labels: &Labels, window: Window<'_>| {
        assert_eq!(window.histograms.len(), window.times.len());
        let notified = |histogram: &NativeHistogram| {
            histogram
                .notation()
                .replace(" counter_reset_hint:not_reset", "")
        };
        found.insert(
            labels.to_string(),
            window
                .histograms
                .iter()
                .map(|(_, histogram)| notified(histogram))
                .collect(),
        );
        ControlFlow::Continue(())
    };
    store
        .select(&native, Timestamp::MIN, Timestamp::MAX, visit)
        .expect("readable");
    assert_eq!(found.len(), 4, "{found:?}");
    let options = Options {
        native: true,
        classic: false,
        bound: 1 << 20,
    };
    for exposed in expand(&everything(), &options)
        .expect("a sound page")
        .histograms
    {
        let series = exposed
            .series
            .replace('}', "\"")
            .replace("{path=", "{instance=\"i\", job=\"fake\", path=")
            .replace("\"\"", "\"")
            + "}";
        let kept = found
            .get(&series)
            .unwrap_or_else(|| panic!("{series} of {:?}", found.keys()));
        assert!(
            kept.len() >= 4 && kept.iter().all(|one| *one == exposed.histogram.notation()),
            "{series}: {kept:?}"
        );
    }
}

/// Without a folder that can be written nightbell goes on in memory, and says so.
#[test]
fn without_a_writable_folder_samples_live_in_memory_and_that_is_said() {
    let nightbell = Nightbell::start("storage: {path: /proc/nightbell}\ncollectors:\n  host: {}\n");
    wait_until("samples", Duration::from_secs(20), || {
        !samples_of(&nightbell, "node_load1[1h]").is_empty()
    });
    assert!(
        nightbell.log().contains("in memory only: /proc/nightbell"),
        "{}",
        nightbell.log()
    );
}

/// A folder that could not be used at the start is used once it can be, without a restart; until
/// then an alert says so.
#[test]
fn a_history_folder_that_becomes_usable_is_used_without_a_restart() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("history");
    fs::write(&folder, "a file is no folder").expect("written");
    let mut nightbell = Nightbell::start(&format!(
        "global: {{evaluation_interval: 500ms}}\nstorage: {{path: {}}}\ncollectors:\n  host: {{interval: 500ms}}\n",
        folder.display()
    ));
    wait_until("samples", Duration::from_secs(20), || {
        samples_of(&nightbell, "node_load1[1h]").len() > 1
    });
    assert!(
        nightbell.log().contains("in memory only: "),
        "{}",
        nightbell.log()
    );
    wait_until("an alert is pending", Duration::from_secs(30), || {
        let alerts = nightbell.json("/api/v1/alerts")["data"]["alerts"].clone();
        alerts.as_array().is_some_and(|all| {
            all.iter()
                .any(|a| a["labels"]["alertname"] == "NightbellHistoryNotWritten")
        })
    });
    let before = samples_of(&nightbell, "node_load1[1h]");
    fs::remove_file(&folder).expect("removed");
    wait_until("it is written", Duration::from_secs(60), || {
        nightbell.metric("nightbell_history_writable") == Some(1.0)
    });
    wait_until("further samples", Duration::from_secs(30), || {
        samples_of(&nightbell, "node_load1[1h]").len() > before.len() + 3
    });
    let held = samples_of(&nightbell, "node_load1[1h] offset 3s");
    // What the writer's queue holds is on disk within a moment; `offset` leaves out what may still
    // be there.
    nightbell.kill();
    nightbell.restart();
    let kept = samples_of(&nightbell, "node_load1[1h]");
    assert!(
        held.iter().all(|sample| kept.contains(sample)),
        "{held:?} became {kept:?}"
    );
}

/// When files cannot grow any more, which is what a full disk is to a program and needs no mounted
/// one, nightbell goes on in memory, says so and raises an alert; when they can, all is written,
/// and survives `kill -9`.
#[test]
fn what_a_full_disk_refuses_is_written_when_there_is_room() {
    let page: String = (0..4000)
        .map(|n| format!("m{{n=\"{n}\"}} {}\n", f64::from(n) * 0.123_456_789))
        .collect();
    let port = serve_page(page.leak());
    let mut nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\nscrape_configs:\n- job_name: page\n  \
         static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    ));
    let count = |nightbell: &Nightbell| samples_of(nightbell, "m{n=\"7\"}[1h]").len();
    wait_until("samples", Duration::from_secs(30), || count(&nightbell) > 2);
    let segment = files(&nightbell.folder.path().join("state/history/wal"))
        .last()
        .expect("a segment")
        .clone();
    let limit = |bytes: &str| {
        let done = Command::new("prlimit")
            .args([
                "--pid",
                &nightbell.id().to_string(),
                &format!("--fsize={bytes}:unlimited"),
            ])
            .status();
        assert!(done.expect("prlimit runs").success());
    };
    limit(&fs::metadata(&segment).expect("a file").len().to_string());
    wait_until("the failure is notified", Duration::from_secs(30), || {
        nightbell.metric("nightbell_history_writable") == Some(0.0)
    });
    wait_until("an alert is pending", Duration::from_secs(30), || {
        let alerts = nightbell.json("/api/v1/alerts")["data"]["alerts"].clone();
        alerts.as_array().is_some_and(|all| {
            all.iter()
                .any(|a| a["labels"]["alertname"] == "NightbellHistoryNotWritten")
        })
    });
    let before = count(&nightbell);
    wait_until("samples in memory", Duration::from_secs(30), || {
        count(&nightbell) > before + 3
    });
    let held = samples_of(&nightbell, "m{n=\"7\"}[1h]");
    limit("unlimited");
    wait_until("it is written", Duration::from_secs(30), || {
        nightbell.metric("nightbell_history_writable") == Some(1.0)
    });
    assert!(
        nightbell.log().contains("The history is written again."),
        "{}",
        nightbell.log()
    );
    nightbell.kill();
    nightbell.restart();
    let kept = samples_of(&nightbell, "m{n=\"7\"}[1h]");
    assert!(kept.starts_with(&held), "{held:?} became {kept:?}");
}
