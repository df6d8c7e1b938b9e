//! The built binary while its state database is away, hangs, is full or was removed: it goes on
//! telling from memory, says so, and is up to date when the database is back, so that `kill -9`
//! after that neither loses nor repeats anything.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nightbell::state::State;
use serde_json::{Value, json};

use crate::kill::Watch;
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::postgres::Postgres;
use crate::servers::wait_until;

fn watch(rest: &str) -> Watch {
    // The shipped rules tell of the database.
    Watch::start(HttpSink::start([Reply::Answer(200, "", "{}")]), rest)
}

fn tells(watch: &Watch, n: usize) {
    wait_until(
        &format!("trouble {n} is notified"),
        Duration::from_secs(20),
        || watch.notified().contains(&n),
    );
}

fn says(watch: &Watch, text: &str) {
    wait_until(
        &format!("the log says {text:?}"),
        Duration::from_secs(30),
        || watch.nightbell.log().contains(text),
    );
}

fn measures(watch: &Watch, metric: &str, is_right: impl Fn(f64) -> bool) {
    wait_until(metric, Duration::from_secs(30), || {
        watch.nightbell.metric(metric).is_some_and(&is_right)
    });
}

/// How many messages wait in the database.
fn outbox(file: &Path) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        State::open(file)
            .await
            .expect("it opens")
            .outbox(1000)
            .await
            .expect("read")
            .len()
    })
}

/// A silence, as it is made and as the API gives it back.
fn silence(watch: &Watch) {
    let silence = json!({ "matchers": [{ "name": "n", "value": "99", "isRegex": false }], "startsAt": "2020-01-01T00:00:00Z",
                          "endsAt": "2099-01-01T00:00:00Z", "createdBy": "li", "comment": "work" });
    let body = silence.to_string();
    let headers = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    assert_eq!(
        watch
            .nightbell
            .request_with("POST", "/api/v2/silences", &headers, &body)
            .0,
        200
    );
}

fn silences(watch: &Watch) -> usize {
    watch
        .nightbell
        .json("/api/v2/silences")
        .as_array()
        .map_or(0, Vec::len)
}

/// After death, the next process knows all: each trouble was notified once, and the silence is
/// there.
fn remembers_all(watch: &mut Watch, troubles: usize) {
    watch.nightbell.kill();
    watch.nightbell.restart();
    watch.trouble(troubles);
    tells(watch, troubles);
    // Two flushes of every group.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(
        watch.notified(),
        (0..=troubles).collect::<Vec<_>>(),
        "{}",
        watch.nightbell.log()
    );
    assert_eq!(silences(watch), 1);
}

/// Whether people were notified that the state is not kept.
fn alerted(watch: &Watch) -> bool {
    let broken = |body: &Value| body["commonLabels"]["alertname"] == "NightbellStateBroken";
    watch
        .sink
        .requests()
        .iter()
        .filter_map(|r| serde_json::from_str(&r.body).ok())
        .any(|body| broken(&body))
}

#[test]
fn a_postgres_that_stops_hangs_and_comes_back_costs_no_message() {
    let mut postgres = Postgres::start(&[]);
    let mut watch = watch(&format!(
        "state: {{url: '{}'}}\n",
        postgres.dsn("postgres", "postgres")
    ));
    silence(&watch);
    watch.trouble(0);
    tells(&watch, 0);
    postgres.stop();
    watch.trouble(1);
    tells(&watch, 1);
    says(
        &watch,
        "State database failed; messages are sent from memory.",
    );
    wait_until("people are notified", Duration::from_secs(30), || {
        alerted(&watch)
    });
    measures(&watch, "nightbell_state_errors_total", |value| value > 0.0);
    postgres.resume();
    says(&watch, "State database is up to date again.");
    says(&watch, "Alert state of the rules is written again.");
    // The next one hangs: it takes connections and answers nothing.
    postgres.signal("-STOP");
    watch.trouble(2);
    tells(&watch, 2);
    postgres.signal("-CONT");
    wait_until("it is up to date again", Duration::from_secs(30), || {
        watch.nightbell.log().matches("up to date again").count() == 2
    });
    remembers_all(&mut watch, 3);
}

#[test]
fn a_postgres_that_is_away_at_the_start_is_used_once_it_answers() {
    let mut postgres = Postgres::start(&[]);
    let mut watch = watch(&format!(
        "state: {{url: '{}'}}\n",
        postgres.dsn("postgres", "postgres")
    ));
    silence(&watch);
    watch.trouble(0);
    tells(&watch, 0);
    watch.nightbell.kill();
    postgres.stop();
    watch.nightbell.restart();
    measures(&watch, "nightbell_state_in_memory", |value| value == 1.0);
    assert!(
        watch.nightbell.log().contains(
            "The state database does not answer; alerts are kept in memory until it does."
        )
    );
    watch.trouble(1);
    tells(&watch, 1);
    postgres.resume();
    says(&watch, "State database is up to date again.");
    measures(&watch, "nightbell_state_in_memory", |value| value == 0.0);
    assert_eq!(silences(&watch), 1, "what it held is known again");
    watch.nightbell.kill();
    watch.nightbell.restart();
    watch.trouble(2);
    tells(&watch, 2);
    std::thread::sleep(Duration::from_secs(2));
    // Without its memory it may tell again what it notified before, once.
    let notified = watch.notified();
    assert_eq!(
        [1, 2].map(|n| notified.iter().filter(|m| **m == n).count()),
        [1, 1],
        "{notified:?}"
    );
    assert!(
        notified.iter().filter(|n| **n == 0).count() <= 2,
        "{notified:?}"
    );
}

#[test]
fn a_state_file_that_is_removed_is_written_anew_with_all_that_it_held() {
    let mut watch = watch("");
    silence(&watch);
    watch.trouble(0);
    tells(&watch, 0);
    let folder = watch.nightbell.folder.path().join("state");
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        std::fs::remove_file(folder.join(name)).expect("it is there");
    }
    watch.trouble(1);
    tells(&watch, 1);
    says(
        &watch,
        "The file of the state database was removed; it was written anew, with all that it held.",
    );
    measures(
        &watch,
        "nightbell_state_replaced_timestamp_seconds",
        |value| value > 0.0,
    );
    wait_until("people are notified", Duration::from_secs(20), || {
        alerted(&watch)
    });
    remembers_all(&mut watch, 2);
}

/// A small file system, with something in it that takes up all of it.
struct Full(PathBuf);

impl Full {
    fn mount(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "nightbell-test"])
            .arg(&folder)
            .status()
            .expect("mount runs");
        assert!(
            mounted.success(),
            "a tmpfs cannot be mounted: run the tests as root"
        );
        Full(folder)
    }

    fn fill(&self) {
        // Until nothing more goes in.
        let refused = std::fs::write(self.0.join("big"), vec![1u8; 16_000_000]);
        assert!(refused.is_err());
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("big")).expect("it is there");
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        // A mount that stays would keep the folder from being removed; the test's result does not
        // depend on it.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_costs_no_message() {
    let history = tempfile::tempdir().expect("a folder");
    let mut watch = watch(&format!(
        "storage: {{path: '{}'}}\n",
        history.path().display()
    ));
    watch.nightbell.kill();
    let disk = Full::mount(watch.nightbell.folder.path().join("state"));
    watch.nightbell.restart();
    silence(&watch);
    watch.trouble(0);
    tells(&watch, 0);
    disk.fill();
    for n in 1..40 {
        watch.trouble(n);
    }
    tells(&watch, 39);
    says(
        &watch,
        "State database failed; messages are sent from memory.",
    );
    wait_until("people are notified", Duration::from_secs(20), || {
        alerted(&watch)
    });
    disk.empty();
    says(&watch, "State database is up to date again.");
    says(&watch, "Alert state of the rules is written again.");
    let file = watch.nightbell.folder.path().join("state/state.db");
    wait_until(
        "what was sent from memory has left the outbox",
        Duration::from_secs(30),
        || outbox(&file) == 0,
    );
    remembers_all(&mut watch, 40);
    watch.nightbell.kill();
}
