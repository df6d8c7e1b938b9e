//! The wall clock of the built binary is set back and forward under it, by Debian's libfaketime;
//! its monotonic clock runs on.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use crate::servers::hostile::{Hostile, Manner};
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

/// How long a test waits for what must come about; the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// The wall clock of one nightbell.
struct Clock {
    folder: TempDir,
}

impl Clock {
    fn new(offset: &str) -> Self {
        let clock = Clock {
            folder: tempfile::tempdir().expect("a folder"),
        };
        clock.set(offset);
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// From now on the clock is off by this much: `-10m`, `+3y`, `+0`.
    fn set(&self, offset: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{offset}\n")).expect("written");
        std::fs::rename(new, self.file()).expect("renamed");
    }
}

/// A nightbell with one target that is collected each second, rules that are evaluated each second,
/// an alert that always fires and is repeated, and a heartbeat.
struct Watched {
    clock: Clock,
    page: Hostile,
    hook: HttpSink,
    beat: HttpSink,
    nightbell: Nightbell,
}

fn page(value: u32) -> Manner {
    Manner::Serve(
        "text/plain; version=0.0.4",
        format!("m {value}\n").into_bytes(),
    )
}

impl Watched {
    fn start(offset: &str) -> Self {
        let library = ["x86_64", "aarch64"]
            .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
            .expect("the Debian package libfaketime is installed");
        let (clock, page) = (Clock::new(offset), Hostile::start(page(10)));
        let (hook, beat) = (
            HttpSink::start([Reply::Answer(200, "", "{}")]),
            HttpSink::start([Reply::Answer(200, "", "ok")]),
        );
        let rules = clock.folder.path().join("rules.yml");
        std::fs::write(
            &rules,
            "groups:\n- name: g\n  interval: 1s\n  rules:\n  - {record: tick, expr: vector(1)}\n  \
             - {alert: Always, expr: vector(1), labels: {severity: critical}}\n  \
             - {alert: Hot, expr: m > 5, labels: {severity: warning}}\n  \
             - {alert: Old, expr: time() - timestamp(m) > 4, labels: {severity: warning}}\n",
        )
        .expect("written");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\nscrape_configs: [{{job_name: t, static_configs: [{{targets: ['{}']}}]}}]\n\
             heartbeat: {{url: '{}', interval: 1s}}\n\
             route: {{receiver: w, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 2s, flapping: {{firings: 0}}}}\n\
             receivers: [{{name: w, webhook_configs: [{{url: '{}', send_resolved: true}}]}}]\n",
            rules.display(),
            page.address,
            beat.url,
            hook.url
        );
        let file = clock.file();
        let environment = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().expect("a path")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        let nightbell = Nightbell::start_with(Some(&config), &environment);
        Watched {
            clock,
            page,
            hook,
            beat,
            nightbell,
        }
    }

    fn result(&self, query: &str, at: Option<f64>) -> Option<f64> {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let time = at.map(|at| format!("&time={at}")).unwrap_or_default();
        self.nightbell
            .json(&format!("/api/v1/query?query={query}{time}"))["data"]["result"][0]["value"][1]
            .as_str()?
            .parse()
            .ok()
    }

    fn now(&self, query: &str) -> Option<f64> {
        self.result(query, None)
    }

    /// Messages about this alert with this status.
    fn notified(&self, alert: &str, status: &str) -> usize {
        let bodies = self
            .hook
            .requests()
            .into_iter()
            .filter_map(|request| serde_json::from_str::<Value>(&request.body).ok());
        bodies
            .filter(|body| body["commonLabels"]["alertname"] == alert && body["status"] == status)
            .count()
    }

    /// Waits until the process's time is off by so many seconds.
    fn follows(&self, offset: f64) {
        wait_until("the new time is followed", DEADLINE, || {
            let time: Option<f64> =
                self.nightbell.json("/api/v1/query?query=time()")["data"]["result"][1]
                    .as_str()
                    .and_then(|t| t.parse().ok());
            time.is_some_and(|time| (time - true_time() - offset).abs() < 30.0)
        });
    }

    /// Everything goes on: collection, rules, messages, repeats, heartbeats; and a value that
    /// changes is seen.
    fn goes_on(&self, why: &str) {
        let (asked, notified, beats) = (
            self.page.heads().len(),
            self.notified("Always", "firing"),
            self.beat.requests().len(),
        );
        wait_until(&format!("{why}: the target is collected"), DEADLINE, || {
            self.page.heads().len() >= asked + 3
        });
        wait_until(&format!("{why}: its samples are current"), DEADLINE, || {
            self.now(r#"time() - timestamp(up{job="t"})"#)
                .is_some_and(|age| (0.0..3.0).contains(&age))
        });
        wait_until(&format!("{why}: rules are evaluated"), DEADLINE, || {
            self.now("count_over_time(tick[4s])") >= Some(2.0)
        });
        wait_until(&format!("{why}: messages are repeated"), DEADLINE, || {
            self.notified("Always", "firing") >= notified + 2
        });
        wait_until(&format!("{why}: the heartbeat goes on"), DEADLINE, || {
            self.beat.requests().len() >= beats + 2
        });
        let (hot, cooled) = (
            self.notified("Hot", "firing"),
            self.notified("Hot", "resolved"),
        );
        self.page.become_(page(1));
        wait_until(&format!("{why}: an alert ends"), DEADLINE, || {
            self.notified("Hot", "resolved") > cooled
        });
        self.page.become_(page(10));
        wait_until(&format!("{why}: and begins again"), DEADLINE, || {
            self.notified("Hot", "firing") > hot
        });
        self.page.become_(Manner::Raw(
            b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ));
        wait_until(&format!("{why}: a dead target is seen"), DEADLINE, || {
            self.now(r#"up{job="t"}"#) == Some(0.0)
        });
        self.page.become_(page(10));
        wait_until(
            &format!("{why}: and one that lives again"),
            DEADLINE,
            || self.now(r#"up{job="t"}"#) == Some(1.0),
        );
    }

    /// It is said that the clock has jumped: in the log, as metrics, as an alert and by `/health`.
    fn says(&self, direction: &str) {
        let log = self.nightbell.log();
        assert!(
            log.contains("The clock has jumped") && log.contains(direction),
            "{log}"
        );
        wait_until("the metric counts it", DEADLINE, || {
            self.now(&format!(
                "nightbell_clock_jumps_total{{direction=\"{direction}\"}}"
            )) >= Some(1.0)
        });
        wait_until("the alert is notified", DEADLINE, || {
            self.notified("NightbellClockJumped", "firing") > 0
        });
        let health = self.nightbell.json("/health");
        assert!(
            health["status"] == "degraded"
                && health["clock"]
                    .as_str()
                    .is_some_and(|text| text.contains("clock")),
            "{health}"
        );
        let (status, life) = self.nightbell.get("/-/healthy");
        assert!(
            status == 200 && life.contains("the clock has jumped"),
            "{status} {life}"
        );
    }

    fn blocks(&self) -> Vec<String> {
        let folder = self.nightbell.folder.path().join("state/history/blocks");
        let files = std::fs::read_dir(folder)
            .expect("the folder of blocks")
            .flatten();
        files
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .collect()
    }
}

fn true_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64()
}

#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let watched = Watched::start("+0");
    watched.goes_on("before");
    for (offset, seconds) in [
        ("-10m", -600.0),
        ("-8h", -8.0 * 3600.0),
        ("-3y", -3.0 * 31_536_000.0),
    ] {
        watched.clock.set(offset);
        watched.follows(seconds);
        watched.goes_on(offset);
    }
    watched.says("back");
    assert_eq!(
        watched.notified("Always", "resolved"),
        0,
        "what fires goes on firing"
    );
}

#[test]
fn a_clock_that_is_set_forward_stops_nothing() {
    let watched = Watched::start("+0");
    watched.goes_on("before");
    for (offset, seconds) in [("+1h", 3600.0), ("+10y", 10.0 * 31_536_000.0), ("+0", 0.0)] {
        watched.clock.set(offset);
        watched.follows(seconds);
        watched.goes_on(offset);
    }
    watched.says("forward");
    assert_eq!(
        watched.notified("Always", "resolved"),
        0,
        "what fires goes on firing"
    );
}

/// What was sampled at the right time is kept while the clock is years behind, and served when that
/// is mended; both between stop and start.
#[test]
fn a_start_with_a_wrong_clock_forgets_nothing() {
    let mut watched = Watched::start("+0");
    wait_until("some samples", DEADLINE, || {
        watched.now(r#"count_over_time(up{job="t"}[1m])"#) >= Some(3.0)
    });
    let then = true_time();
    let silence = r#"{"matchers":[{"name":"a","value":"b","isRegex":false,"isEqual":true}],"startsAt":"2026-01-01T00:00:00Z","endsAt":"2099-01-01T00:00:00Z","createdBy":"me","comment":"why"}"#;
    let head = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        silence.len()
    );
    assert_eq!(
        watched
            .nightbell
            .request_with("POST", "/api/v2/silences", &head, silence)
            .0,
        200
    );
    for (offset, seconds) in [
        ("-3y", -3.0 * 31_536_000.0),
        ("+10y", 10.0 * 31_536_000.0),
        ("-8h", -8.0 * 3600.0),
    ] {
        assert_eq!(watched.nightbell.stop(), Some(0));
        watched.clock.set(offset);
        watched.nightbell.restart();
        watched.follows(seconds);
        watched.goes_on(offset);
    }
    assert_eq!(
        watched.result(r#"count_over_time(up{job="t"}[1m])"#, Some(then)),
        None,
        "its time has not come yet"
    );
    watched.says("back");
    let blocks = watched.blocks();
    assert!(
        !blocks.is_empty() && !blocks.iter().any(|name| name.ends_with("damaged")),
        "{blocks:?}"
    );
    assert_eq!(watched.nightbell.stop(), Some(0));
    let wrong = true_time() - 8.0 * 3600.0;
    watched.clock.set("+0");
    watched.nightbell.restart();
    watched.goes_on("right again");
    let served = |at: f64| watched.result(r#"count_over_time(up{job="t"}[1m])"#, Some(at));
    assert!(
        served(then) >= Some(3.0),
        "{:?} {:?}",
        served(then),
        watched.blocks()
    );
    assert!(
        served(wrong) >= Some(1.0),
        "{:?} {:?}",
        served(wrong),
        watched.blocks()
    );
    let after = watched.blocks();
    assert!(
        blocks.iter().all(|name| after.contains(name)),
        "{blocks:?} {after:?}"
    );
    assert!(watched.nightbell.json("/api/v2/silences")[0]["comment"] == "why");
}

/// The same while it runs: what lies ahead waits, and is served at once when the clock is right
/// again.
#[test]
fn what_was_sampled_before_the_clock_was_set_back_is_served_when_its_time_has_come() {
    let watched = Watched::start("+0");
    wait_until("some samples", DEADLINE, || {
        watched.now(r#"count_over_time(up{job="t"}[1m])"#) >= Some(3.0)
    });
    let then = true_time();
    watched.clock.set("-8h");
    watched.follows(-8.0 * 3600.0);
    wait_until("samples of the wrong time", DEADLINE, || {
        watched.now(r#"count_over_time(up{job="t"}[1m])"#) >= Some(3.0)
    });
    let wrong = true_time() - 8.0 * 3600.0;
    watched.clock.set("+0");
    watched.follows(0.0);
    let served = |at: f64| watched.result(r#"count_over_time(up{job="t"}[1m])"#, Some(at));
    wait_until("both are served", DEADLINE, || {
        served(then) >= Some(3.0) && served(wrong) >= Some(3.0)
    });
    watched.goes_on("right again");
}

/// After a pause the targets are collected before rules judge what is known of them.
#[test]
fn after_a_pause_the_first_collection_comes_before_the_first_judgement() {
    let watched = Watched::start("+0");
    wait_until("some samples", DEADLINE, || {
        watched.now(r#"count_over_time(up{job="t"}[1m])"#) >= Some(3.0)
    });
    for _ in 0..2 {
        watched.nightbell.signal("-STOP");
        std::thread::sleep(Duration::from_secs(6));
        watched.nightbell.signal("-CONT");
        watched.goes_on("after the pause");
    }
    assert_eq!(watched.notified("Old", "firing"), 0);
}

/// A clock that shows another year for a moment is said, and not followed.
#[test]
fn a_clock_that_is_wrong_for_a_moment_is_not_followed() {
    let watched = Watched::start("+0");
    watched.clock.set("+10y");
    wait_until("it is noticed", DEADLINE, || {
        watched.nightbell.log().contains("The clock has jumped")
    });
    watched.clock.set("+0");
    watched.goes_on("after a moment");
    watched.follows(0.0);
}
