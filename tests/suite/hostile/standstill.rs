//! The built binary is stopped, or gets no processor time, while it collects: what was late because
//! of that says nothing of the targets.

use std::time::Duration;

use serde_json::Value;

use crate::servers::hostile::{Hostile, Manner};
use crate::servers::nightbell::Nightbell;
use crate::servers::{free_port, wait_until};

/// How long a test waits for what must come about; the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

fn target(nightbell: &Nightbell, job: &str) -> Value {
    let targets = nightbell.json("/api/v1/targets")["data"]["activeTargets"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    targets
        .into_iter()
        .find(|target| target["labels"]["job"] == job)
        .unwrap_or_default()
}

/// The values of a series since the start, without those that say that it ended.
fn values(nightbell: &Nightbell, selector: &str) -> Vec<f64> {
    let query: String =
        url::form_urlencoded::byte_serialize(format!("{selector}[10m]").as_bytes()).collect();
    let found =
        nightbell.json(&format!("/api/v1/query?query={query}"))["data"]["result"][0]["values"]
            .clone();
    let number = |pair: &Value| pair[1].as_str().and_then(|value| value.parse().ok());
    found
        .as_array()
        .map(|all| all.iter().filter_map(number).collect())
        .unwrap_or_default()
}

/// The number of targets that wait for an answer.
fn asked(server: &Hostile) -> usize {
    server.heads().len()
}

/// Each kind of collection is in flight when the process is stopped for longer than its deadline;
/// its target answers as soon as that goes on. Nothing is said to be down, what was missed is a
/// gap, and that is counted, logged, shown and an alert.
#[test]
fn what_was_late_because_nightbell_stood_still_is_a_gap_and_no_target_is_down() {
    let silent = Hostile::start(Manner::Silent);
    let probed = Hostile::start(Manner::Silent);
    let database = Hostile::start(Manner::Silent);
    let provider = Hostile::start(Manner::Silent);
    let config = format!(
        "global: {{scrape_interval: 6s, scrape_timeout: 5s, evaluation_interval: 1s}}\n\
         scrape_configs: [{{job_name: page, static_configs: [{{targets: ['{}']}}]}}]\n\
         collectors:\n  probe: [{{name: p, url: 'http://{}/', interval: 6s, timeout: 5s}}]\n  \
         redis: [{{name: r, url: 'redis://{}', interval: 6s, timeout: 5s}}]\n  \
         llm_provider: [{{name: l, provider: compatible, base_url: 'http://{}/v1', interval: 6s, timeout: 5s}}]\n",
        silent.address, probed.address, database.address, provider.address
    );
    let nightbell = Nightbell::start(&config);
    wait_until("they are asked", DEADLINE, || {
        [&silent, &probed, &provider]
            .iter()
            .all(|server| asked(server) == 1)
    });
    nightbell.signal("-STOP");
    for server in [&silent, &probed] {
        server.become_(Manner::Serve(
            "text/plain; version=0.0.4",
            b"m 1\n".to_vec(),
        ));
    }
    provider.become_(Manner::Serve(
        "application/json",
        br#"{"object":"list","data":[{"id":"m","object":"model"}]}"#.to_vec(),
    ));
    std::thread::sleep(Duration::from_secs(6));
    nightbell.signal("-CONT");
    // Until it has waited in vain once more.
    wait_until("it is shown", DEADLINE, || {
        target(&nightbell, "redis")["lastError"]
            .as_str()
            .is_some_and(|error| error.contains("nightbell itself stood still"))
    });
    wait_until("they are asked again, and answer", DEADLINE, || {
        [
            r#"up{job="page"}"#,
            r#"probe_success{job="probe"}"#,
            r#"llm_up{job="llm_provider"}"#,
        ]
        .iter()
        .all(|series| values(&nightbell, series).contains(&1.0))
    });
    assert!(
        !values(&nightbell, r#"up{job="page"}"#).contains(&0.0),
        "{}",
        nightbell.log()
    );
    assert!(
        !values(&nightbell, r#"probe_success{job="probe"}"#).contains(&0.0),
        "{}",
        nightbell.log()
    );
    assert!(
        !values(&nightbell, r#"llm_up{job="llm_provider"}"#).contains(&0.0),
        "{}",
        nightbell.log()
    );
    let errors = values(
        &nightbell,
        r#"llm_probe_errors_total{job="llm_provider",error_type="timeout",probe="models"}"#,
    );
    assert!(errors.iter().all(|count| *count == 0.0), "{errors:?}");
    let alerts = values(
        &nightbell,
        r#"ALERTS{alertname=~"EndpointDown|LLMDown",alertstate="firing"}"#,
    );
    assert!(alerts.is_empty(), "{}", nightbell.log());
    let log = nightbell.log();
    assert_eq!(log.matches("A collection was missed").count(), 1, "{log}");
    let counted = |job: &str| {
        let page = nightbell.get("/metrics").1;
        page.lines().any(|line| {
            line.starts_with("nightbell_scrape_collections_missed_total{")
                && line.contains(&format!("scrape_job=\"{job}\""))
        })
    };
    for job in ["page", "probe", "redis", "llm_provider"] {
        wait_until(&format!("{job}: it is counted"), DEADLINE, || counted(job));
    }
    wait_until("it is an alert", DEADLINE, || {
        let alerts = nightbell.json("/api/v1/alerts")["data"]["alerts"].clone();
        let names: Vec<&Value> = alerts
            .as_array()
            .map(|all| {
                all.iter()
                    .map(|alert| &alert["labels"]["alertname"])
                    .collect()
            })
            .unwrap_or_default();
        names.iter().any(|name| *name == "NightbellStarved")
    });
    // It is silent still, and nothing holds nightbell up any more.
    wait_until("a target that is down is found down", DEADLINE, || {
        values(&nightbell, r#"redis_up{job="redis"}"#).contains(&0.0)
            && target(&nightbell, "redis")["health"] == "down"
    });
}

/// A target that is down is named with its address and the reason, in the series and in what people
/// read.
#[test]
fn a_target_that_is_down_says_where_it_is_and_why() {
    let port = free_port();
    let config = format!(
        "global: {{scrape_interval: 2s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         scrape_configs: [{{job_name: page, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n\
         collectors:\n  postgres: [{{name: db, dsn: 'postgres://u:secret@127.0.0.1:{port}/app', interval: 2s, timeout: 1s}}]\n  \
         sqlite: [{{name: file, path: /nowhere/app.db, interval: 2s, timeout: 1s}}]\n"
    );
    let nightbell = Nightbell::start(&config);
    let failure = |job: &str| {
        let query: String = url::form_urlencoded::byte_serialize(
            format!("nightbell_target_failure_info{{job={job:?}}}").as_bytes(),
        )
        .collect();
        nightbell.json(&format!("/api/v1/query?query={query}"))["data"]["result"][0]["metric"]
            .clone()
    };
    wait_until("the reason is a series", DEADLINE, || {
        let page = failure("page");
        page["url"] == format!("http://127.0.0.1:{port}/metrics")
            && page["message"]
                .as_str()
                .is_some_and(|m| m.contains("Connection refused"))
    });
    for (alert, url, reason) in [
        ("PostgresDown", format!("127.0.0.1:{port}"), "refused"),
        ("SqliteDown", "/nowhere/app.db".to_owned(), ""),
    ] {
        wait_until(&format!("{alert} says it"), DEADLINE, || {
            let alerts = nightbell.json("/api/v1/alerts")["data"]["alerts"].clone();
            let alert = alerts
                .as_array()
                .and_then(|all| {
                    all.iter()
                        .find(|a| a["labels"]["alertname"] == alert)
                        .cloned()
                })
                .unwrap_or_default();
            alert["annotations"]["summary"]
                .as_str()
                .is_some_and(|text| {
                    text.contains(&url) && text.contains(reason) && !text.contains("secret")
                })
        });
    }
}

/// An instance that stood still for longer than its peer may be silent hears of it again before it
/// judges.
#[test]
fn an_instance_that_stood_still_does_not_take_its_peer_for_silent() {
    let config = |own: &str, other: &str, port: u16| {
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             peers: {{name: {own}, secret: sixteen-bytes-and-more, interval: 1s, grace: 6s, watch: [{{name: {other}, url: 'http://127.0.0.1:{port}'}}]}}\n"
        )
    };
    let a = Nightbell::start("{}\n");
    let b = Nightbell::start(&config("bell-b", "bell-a", a.port));
    a.configure(&config("bell-a", "bell-b", b.port));
    assert_eq!(a.request("POST", "/-/reload", "").0, 200, "{}", a.log());
    let heard = |who: &Nightbell| {
        let page = who.get("/metrics").1;
        let line = page
            .lines()
            .find(|line| line.starts_with("nightbell_peer_heartbeats_received_total"))
            .map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let silent =
        |who: &Nightbell| !values(who, r#"ALERTS{alertname="NightbellPeerSilent"}"#).is_empty();
    wait_until("both hear of each other", DEADLINE, || {
        heard(&a) >= 2.0 && heard(&b) >= 2.0
    });
    let before = heard(&a);
    a.signal("-STOP");
    wait_until("the other one notices the silence", DEADLINE, || silent(&b));
    std::thread::sleep(Duration::from_secs(2));
    a.signal("-CONT");
    wait_until("it hears of its peer again", DEADLINE, || {
        heard(&a) >= before + 4.0
    });
    assert!(!silent(&a), "{}", a.log());
}
