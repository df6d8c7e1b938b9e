//! The timelines without `ours: true`, played against a real Alertmanager on the real clock: it
//! sends the same messages at the same times.
//!
//! Not part of the ordinary run, because it needs Alertmanager 0.33 (Debian 12 carries an older
//! one) and a minute of quiet:
//!
//! ```text
//! NIGHTBELL_TEST_ALERTMANAGER=/folder/with/prometheus-alertmanager cargo test --test suite alerting::peer -- --ignored --nocapture
//! ```

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nightbell::model::{Timestamp, format_duration};
use serde_json::{Value, json};

use super::{Event, Lives, Timeline, duration, timelines};
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::{Server, free_port, wait_until};

struct Peer {
    port: u16,
    _process: Server,
}

impl Peer {
    fn start(program: &std::path::Path, folder: &std::path::Path, config: &str) -> Self {
        let file = folder.join("alertmanager.yml");
        std::fs::write(&file, config).expect("written");
        let port = free_port();
        let process = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--cluster.listen-address=", "--log.level=error"])
            .stdout(Stdio::null())
            .spawn()
            .expect("alertmanager runs");
        let peer = Peer {
            port,
            _process: Server(process),
        };
        wait_until("Alertmanager answers", Duration::from_secs(30), || {
            peer.ask("GET", "/-/ready", "").contains(" 200 ")
        });
        peer
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        use std::io::{Read, Write};
        let ask = || -> std::io::Result<String> {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
            let head = format!(
                "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().unwrap_or_default()
    }

    fn post(&self, path: &str, body: &Value) {
        let answer = self.ask("POST", path, &body.to_string());
        assert!(answer.contains(" 200 "), "{path}: {answer}");
    }
}

/// What an event of a timeline is in requests.
fn happen(peer: &Peer, event: &Event, lives: &mut Lives) {
    let now = Timestamp::now();
    if let Some(labels) = event.fire.as_ref().or(event.resolve.as_ref()) {
        let (start, end) = event.life(lives, labels, now);
        let pairs: serde_json::Map<String, Value> = labels
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(n, v)| (n.to_owned(), json!(v)))
            .collect();
        let alert = json!([{ "labels": pairs, "annotations": { "text": event.text }, "startsAt": start.rfc3339(), "endsAt": end.rfc3339() }]);
        peer.post("/api/v2/alerts", &alert);
    }
    if let Some(matchers) = &event.silence {
        let matchers =
            nightbell::alerting::config::matchers::parse_matchers(matchers).expect("matchers");
        let matchers: Vec<Value> = matchers
            .iter()
            .map(|m| json!({ "name": m.name, "value": m.value, "isRegex": false, "isEqual": true }))
            .collect();
        let end = now + duration(event.lasting.as_deref().expect("for"));
        let silence = json!({ "matchers": matchers, "startsAt": now.rfc3339(), "endsAt": end.rfc3339(), "createdBy": "t", "comment": "t" });
        peer.post("/api/v2/silences", &silence);
    }
}

/// A message as a timeline writes it, its time in whole seconds.
fn line(body: &Value, at: Duration) -> String {
    let seconds = Duration::from_secs((at.as_secs_f64() - 0.2).round() as u64);
    let group: Vec<String> = body["groupLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    let alerts = body["alerts"].as_array().into_iter().flatten();
    let alerts: Vec<String> = alerts
        .map(|a| {
            format!(
                "{}{}",
                if a["status"] == "firing" { '+' } else { '-' },
                a["labels"]["n"].as_str().unwrap_or("")
            )
        })
        .collect();
    let (receiver, reason) = (
        body["receiver"].as_str().unwrap_or(""),
        body["notification_reason"].as_str().unwrap_or(""),
    );
    format!(
        "{} {receiver} {{{}}} {} ({reason})",
        format_duration(seconds),
        group.join(", "),
        alerts.join(" ")
    )
}

fn played(program: &std::path::Path, timeline: &Timeline) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = HttpSink::start([Reply::Answer(200, "", "ok")]);
    let peer = Peer::start(
        program,
        folder.path(),
        &timeline.config.replace("http://127.0.0.1:9/", &sink.url),
    );
    let (begin, mut lives, mut notified) = (Instant::now(), Lives::new(), Vec::new());
    let mut listen = |until: Duration| {
        while begin.elapsed() < until {
            std::thread::sleep(Duration::from_millis(20));
            let requests = sink.requests();
            let new = requests[notified.len()..].iter();
            let lines: Vec<String> = new
                .map(|r| {
                    line(
                        &serde_json::from_str(&r.body).expect("JSON"),
                        begin.elapsed(),
                    )
                })
                .collect();
            notified.extend(lines);
        }
    };
    for event in &timeline.events {
        listen(duration(&event.at));
        happen(&peer, event, &mut lives);
    }
    listen(duration(&timeline.until) + Duration::from_millis(500));
    notified.sort();
    notified
}

#[test]
#[ignore = "needs Alertmanager 0.33; run by hand"]
fn alertmanager_sends_what_the_timelines_say() {
    let folder = std::env::var_os("NIGHTBELL_TEST_ALERTMANAGER")
        .expect("NIGHTBELL_TEST_ALERTMANAGER names the folder");
    let program = std::path::Path::new(&folder).join("prometheus-alertmanager");
    let theirs: Vec<(String, Timeline)> = timelines()
        .into_iter()
        .filter(|(_, timeline)| !timeline.ours)
        .collect();
    std::thread::scope(|scope| {
        let players: Vec<_> = theirs
            .iter()
            .map(|(name, timeline)| (name, timeline, scope.spawn(|| played(&program, timeline))))
            .collect();
        let mut wrong = Vec::new();
        for (name, timeline, player) in players {
            let notified = player.join().expect("played");
            let mut wanted = timeline.expect.clone();
            wanted.sort();
            if notified != wanted {
                wrong.push(format!(
                    "{name}\ngot:\n  {}\nwanted:\n  {}",
                    notified.join("\n  "),
                    wanted.join("\n  ")
                ));
            }
        }
        println!("{} timelines, {} differ", theirs.len(), wrong.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    });
}
