//! A target whose series explode has a share of the store and then fails by itself; room for what
//! watches is never taken.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::servers::nightbell::Nightbell;
use crate::servers::page::serve_page;
use crate::servers::{free_port, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// A target each of whose pages has so many series that were never there before, beside one that
/// stays. Its thread ends with the process.
struct Exploding {
    port: u16,
    each: Arc<AtomicUsize>,
}

fn exploding(each: usize) -> Exploding {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = Exploding {
        port: listener.local_addr().expect("an address").port(),
        each: Arc::new(AtomicUsize::new(each)),
    };
    let each = target.each.clone();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let new = (0..each.load(Ordering::Relaxed))
                .map(|n| format!("new{{page=\"{number}\",n=\"{n}\"}} 1\n"));
            let page = new.chain(["stays 1\n".to_owned()]).collect::<String>();
            let length = page.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(format!("{head}{page}").as_bytes());
        }
    });
    target
}

fn job(name: &str, port: u16) -> String {
    format!(
        "- job_name: {name}\n  static_configs: [{{targets: ['127.0.0.1:{port}'], labels: {{instance: {name}}}}}]\n"
    )
}

fn config(jobs: &[String]) -> String {
    format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
         limits: {{series: 5000, series_per_target: 1500}}\nscrape_configs:\n{}",
        jobs.concat()
    )
}

/// The value of the only series that an expression finds.
fn value(nightbell: &Nightbell, query: &str) -> Option<String> {
    let query: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
    let answer = nightbell.json(&format!("/api/v1/query?query={query}"));
    answer["data"]["result"][0]["value"][1]
        .as_str()
        .map(str::to_owned)
}

fn is(nightbell: &Nightbell, query: &str, wanted: &str) -> bool {
    value(nightbell, query).as_deref() == Some(wanted)
}

/// What is wrong with the target of a job.
fn error_of(nightbell: &Nightbell, job: &str) -> String {
    let targets = nightbell.json("/api/v1/targets")["data"]["activeTargets"].clone();
    let found = targets
        .as_array()
        .and_then(|all| all.iter().find(|t| t["scrapePool"] == job))
        .cloned()
        .unwrap_or_default();
    found["lastError"].as_str().unwrap_or_default().to_owned()
}

fn alerts(nightbell: &Nightbell, name: &str) -> Vec<Value> {
    let alerts = nightbell.json("/api/v1/alerts")["data"]["alerts"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    alerts
        .into_iter()
        .filter(|alert| alert["labels"]["alertname"] == name)
        .collect()
}

#[test]
fn a_target_that_explodes_fails_by_itself_and_works_again_when_it_has_stopped() {
    let (target, healthy) = (exploding(400), serve_page("fine 1\n"));
    let nightbell = Nightbell::start(&config(&[
        job("explodes", target.port),
        job("healthy", healthy),
    ]));
    wait_until("the target fails", LONG, || {
        is(&nightbell, "up{job=\"explodes\"}", "0")
    });
    let error = error_of(&nightbell, "explodes");
    assert!(
        error.contains("a target may have 1500 series in memory (limits.series_per_target)"),
        "{error}"
    );
    wait_until("the alert names it", LONG, || {
        alerts(&nightbell, "NightbellTargetTooLarge")
            .iter()
            .any(|a| a["labels"]["target"] == "explodes" && a["state"] == "firing")
    });
    let number = |query: &str| {
        value(&nightbell, query)
            .and_then(|n| n.parse::<f64>().ok())
            .unwrap_or_default()
    };
    let exceeded =
        "nightbell_scrape_series_limit_exceeded_total{scrape_job=\"explodes\",target=\"explodes\"}";
    let before = number(exceeded);
    wait_until("it goes on failing", LONG, || {
        number(exceeded) > before + 3.0
    });
    let held = number("count(last_over_time({job=\"explodes\"}[5m]))");
    assert!((1000.0..1510.0).contains(&held), "{held} series");
    assert_eq!(
        nightbell.log().matches("series limit exceeded").count(),
        1,
        "logged once: {}",
        nightbell.log()
    );
    assert!(
        is(&nightbell, "min_over_time(up{job=\"healthy\"}[5m])", "1")
            && is(&nightbell, "fine", "1")
    );
    target.each.store(0, Ordering::Relaxed);
    wait_until("it works again", LONG, || {
        is(&nightbell, "up{job=\"explodes\"}", "1") && is(&nightbell, "stays", "1")
    });
    assert_eq!(error_of(&nightbell, "explodes"), "");
}

#[test]
fn a_job_that_is_added_when_the_store_is_full_has_its_up_and_its_alert() {
    let targets = [
        exploding(400),
        exploding(400),
        exploding(400),
        exploding(400),
    ];
    let mut jobs: Vec<String> = targets
        .iter()
        .enumerate()
        .map(|(n, target)| job(&format!("explodes{n}"), target.port))
        .collect();
    jobs.push(job("healthy", serve_page("fine 1\n")));
    let nightbell = Nightbell::start(&config(&jobs));
    let without_room = || {
        nightbell
            .metric("nightbell_scrape_samples_without_room_total")
            .unwrap_or_default()
    };
    wait_until("the store is full", LONG, || without_room() > 0.0);
    jobs.push(job("late", serve_page("recent 1\n")));
    jobs.push(job("dead", free_port()));
    nightbell.configure(&config(&jobs));
    assert_eq!(nightbell.request("POST", "/-/reload", "").0, 200);
    wait_until("the dead target is known", LONG, || {
        is(&nightbell, "up{job=\"dead\"}", "0")
    });
    wait_until("a small target is collected", LONG, || {
        is(&nightbell, "up{job=\"late\"}", "1") && is(&nightbell, "recent", "1")
    });
    wait_until(
        "its alert is pending, and so is that of the store",
        LONG,
        || {
            alerts(&nightbell, "TargetDown")
                .iter()
                .any(|a| a["labels"]["job"] == "dead")
                && !alerts(&nightbell, "NightbellStoreFull").is_empty()
        },
    );
    wait_until("the alert is a series too", LONG, || {
        value(&nightbell, "ALERTS{alertname=\"TargetDown\",job=\"dead\"}").is_some()
    });
    assert!(
        is(&nightbell, "min_over_time(up{job=\"healthy\"}[5m])", "1")
            && is(&nightbell, "fine", "1")
    );
    assert!(
        nightbell
            .log()
            .matches("The store has no room for new series")
            .count()
            <= targets.len(),
        "{}",
        nightbell.log()
    );
}
