//! Targets that close a kept connection just as it is used again.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::servers::nightbell::Nightbell;
use crate::servers::page::serve_page;
use crate::servers::wait_until;

/// Answers the first `answered` requests of each connection and closes it, without a word, when the
/// next one comes.
struct Closing {
    address: String,
    connections: Arc<AtomicUsize>,
    answers: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Closing {
    fn start(answered: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("its address").to_string();
        let closing = Closing {
            address,
            connections: Arc::default(),
            answers: Arc::default(),
            refused: Arc::default(),
        };
        let (connections, answers, refused) = (
            closing.connections.clone(),
            closing.answers.clone(),
            closing.refused.clone(),
        );
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::Relaxed);
                let (answers, refused) = (answers.clone(), refused.clone());
                thread::spawn(move || serve(stream, answered, &answers, &refused));
            }
        });
        closing
    }
}

fn serve(stream: TcpStream, answered: usize, answers: &AtomicUsize, refused: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    for number in 0.. {
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).is_ok_and(|length| length > 0) {
                if line.trim_end().is_empty() {
                    break;
                }
            } else {
                return;
            }
        }
        if number >= answered {
            refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let body = "m 1\n";
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        answers.fetch_add(1, Ordering::Relaxed);
        if reader.get_mut().write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn config(targets: &[Closing]) -> String {
    let addresses: Vec<String> = targets
        .iter()
        .map(|target| format!("'{}'", target.address))
        .collect();
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: c, static_configs: [{{targets: [{}]}}]}}]\n",
        addresses.join(", ")
    )
}

fn value(nightbell: &Nightbell, query: &str) -> Option<f64> {
    let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    nightbell.json(&format!("/api/v1/query?query={query}"))["data"]["result"][0]["value"][1]
        .as_str()?
        .parse()
        .ok()
}

/// Go's client tries such a request once more, on a fresh connection; so no scrape fails.
#[test]
fn a_kept_connection_that_is_closed_when_it_is_used_again_fails_no_scrape() {
    let targets: Vec<Closing> = (0..5).map(|_| Closing::start(1)).collect();
    let nightbell = Nightbell::start(&config(&targets));
    wait_until(
        "each target has been asked several times",
        Duration::from_secs(30),
        || {
            targets
                .iter()
                .all(|target| target.answers.load(Ordering::Relaxed) >= 5)
        },
    );
    assert!(
        targets
            .iter()
            .any(|target| target.refused.load(Ordering::Relaxed) > 0),
        "connections are used again"
    );
    assert_eq!(
        value(&nightbell, r#"min(min_over_time(up{job="c"}[1m]))"#),
        Some(1.0)
    );
}

/// A target that never answers is asked once: what is tried again is only what an old connection
/// may have lost.
#[test]
fn a_fresh_connection_that_is_closed_without_an_answer_is_not_tried_again() {
    let targets = [Closing::start(0)];
    let nightbell = Nightbell::start(&config(&targets));
    let scrapes = || value(&nightbell, r#"count_over_time(up{job="c"}[1m])"#).unwrap_or(0.0);
    wait_until("some scrapes have failed", Duration::from_secs(30), || {
        scrapes() >= 4.0
    });
    let (scrapes, connections) = (scrapes(), targets[0].connections.load(Ordering::Relaxed));
    assert!(
        connections as f64 <= scrapes + 2.0,
        "{connections} connections for {scrapes} scrapes"
    );
    assert_eq!(
        value(&nightbell, r#"max_over_time(up{job="c"}[1m])"#),
        Some(0.0)
    );
}

/// Beside the measured targets stand no others: each is collected at a place of its own in the
/// interval, the same at each turn.
#[test]
fn targets_are_spread_over_their_interval() {
    let targets: Vec<Closing> = (0..6).map(|_| Closing::start(usize::MAX)).collect();
    let nightbell = Nightbell::start(&config(&targets));
    wait_until(
        "each target has been collected several times",
        Duration::from_secs(30),
        || {
            value(&nightbell, r#"min(count_over_time(up{job="c"}[1m]))"#)
                .is_some_and(|count| count >= 4.0)
        },
    );
    let found = nightbell.json("/api/v1/query?query=up%7Bjob%3D%22c%22%7D%5B1m%5D");
    let mut places = std::collections::BTreeSet::new();
    for series in found["data"]["result"].as_array().expect("series") {
        let times: Vec<i64> = series["values"]
            .as_array()
            .expect("samples")
            .iter()
            .map(|sample| (sample[0].as_f64().expect("a time") * 1000.0).round() as i64 % 1000)
            .collect();
        // The first one came at once.
        assert!(
            times[1..].windows(2).all(|pair| pair[0] == pair[1]),
            "{times:?}"
        );
        places.insert(times[1]);
    }
    assert!(places.len() >= 4, "{places:?}");
}

/// A soft limit of open files that is lower than the hard one is raised at the start.
#[test]
fn the_limit_of_open_files_is_raised_at_the_start() {
    let nightbell = Nightbell::start_by(
        &["prlimit", "--nofile=64:4096"],
        "rules: {shipped: false}\n",
    );
    assert_eq!(nightbell.metric("process_max_fds"), Some(4096.0));
}

/// A group file that never answers, here a pipe that nobody writes, holds up neither the start nor
/// the other targets nor a reload.
#[test]
fn a_group_file_that_hangs_holds_up_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("targets.yml");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("mkfifo runs")
            .success()
    );
    let port = serve_page("a 1\n");
    let nightbell = Nightbell::start(&format!(
        "rules: {{shipped: false}}\nglobal: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - job_name: page\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n\
         - job_name: hangs\n  file_sd_configs: [{{files: ['{}'], refresh_interval: 1s}}]\n",
        pipe.display()
    ));
    wait_until(
        "the other target is collected",
        Duration::from_secs(60),
        || value(&nightbell, "sum(up{job=\"page\"})") == Some(1.0),
    );
    let (status, answer) = nightbell.request("POST", "/-/reload", "Content-Length: 0\r\n");
    assert_eq!(status, 200, "{answer}");
    let newest = || value(&nightbell, "max(timestamp(up{job=\"page\"}))").unwrap_or(0.0);
    let before = newest();
    wait_until("it is still collected", Duration::from_secs(60), || {
        newest() >= before + 3.0
    });
    assert!(
        nightbell.log().contains("does not answer"),
        "{}",
        nightbell.log()
    );
}
