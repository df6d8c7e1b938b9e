//! Each application from end to end: its stand-in, real databases, the sample configuration of its
//! profile, the built binary, and those who are notified. What waits for minutes or covers a day is
//! in the profiles' rule tests, where time is virtual.
//!
//! `Proves NAME: ROW, ROW.` in a test's comment says which demands of an application it shows;
//! `docs/coverage.md` is made of these lines.

mod agent_v3;
mod aigc;
mod coverage;
mod intent;
mod llmchat;
mod monitoring;
mod multi_agent;
mod updates;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::smtp::Smtp;
use crate::servers::{Server, free_port, python_tool, wait_until};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A stand-in of `tests/applications/`.
struct StandIn {
    port: u16,
    _server: Server,
    /// It ends with this.
    _input: ChildStdin,
}

impl StandIn {
    /// Starts it with the options that its file documents, beside `port`.
    fn start(name: &str, mut options: Value) -> Self {
        let port = free_port();
        options["port"] = json!(port);
        let mut child = Command::new(python_tool("python"))
            .arg(root().join("tests/applications").join(name).join("app.py"))
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let (input, output) = (
            child.stdin.take().expect("it is piped"),
            child.stdout.take().expect("it is piped"),
        );
        let server = Server(child);
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says that it is ready");
        assert_eq!(line.trim(), "ready", "{name}");
        StandIn {
            port,
            _server: server,
            _input: input,
        }
    }

    /// Throws switches.
    fn switch(&self, switches: Value) {
        self.post("switch", &switches);
    }

    /// Has it do something.
    fn act(&self, what: Value) {
        self.post("do", &what);
    }

    fn post(&self, path: &str, body: &Value) {
        let body = body.to_string();
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.port)).expect("the stand-in listens");
        let head = format!(
            "POST /standin/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Every panel of the application's own dashboard has something to show.
fn dashboard_shows(nightbell: &Nightbell, name: &str) {
    let path = root().join(format!("dashboards/{name}.json"));
    let text = std::fs::read_to_string(&path).expect("the dashboard can be read");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let mut expressions = std::collections::BTreeSet::new();
    crate::program::panel_expressions(&dashboard["panels"], &mut expressions);
    assert!(expressions.len() > 20, "{name}: {}", expressions.len());
    nightbell.gives_data(expressions.iter().map(String::as_str));
}

/// Runs a command of the program about this instance: its exit status and what it printed.
fn asked(nightbell: &Nightbell, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(words)
        .args(["--url", &format!("http://127.0.0.1:{}", nightbell.port)])
        .output()
        .expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Runs a script of an application's guide, unchanged but for addresses and paths: its exit status
/// and what it printed.
fn guide_script(name: &str, changes: &[(&str, &str)]) -> (Option<i32>, String) {
    let path = root().join("tests/applications").join(name);
    let mut text = std::fs::read_to_string(path).expect("the script");
    for (old, new) in changes {
        assert!(text.contains(old), "{name} does not have {old:?}");
        text = text.replace(old, new);
    }
    let output = Command::new("bash")
        .args(["-c", &text])
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), said)
}

/// The first value of an answer.
fn value(nightbell: &Nightbell, query: &str) -> Option<f64> {
    let query = crate::program::encoded(query);
    let answer = nightbell.json(&format!("/api/v1/query?query={query}"));
    answer["data"]["result"][0]["value"][1]
        .as_str()?
        .parse()
        .ok()
}

/// Adds a line to a log.
fn append(path: &Path, line: &str) {
    let mut file = std::fs::File::options()
        .append(true)
        .open(path)
        .expect("the log is there");
    writeln!(file, "{line}").expect("written");
}

/// Those who are notified.
struct People {
    mail: Smtp,
    slack: HttpSink,
    webhook: HttpSink,
    mails: std::cell::RefCell<Vec<Value>>,
}

impl People {
    fn new() -> Self {
        People {
            mail: Smtp::start(&json!({})),
            slack: HttpSink::start([Reply::Answer(200, "", "ok")]),
            webhook: HttpSink::start([Reply::Answer(200, "", "{}")]),
            mails: std::cell::RefCell::default(),
        }
    }

    /// The webhook's alerts of this name: status, severity and annotations of each.
    fn posted(&self, alert: &str) -> Vec<Value> {
        let bodies = self
            .webhook
            .requests()
            .into_iter()
            .filter_map(|request| serde_json::from_str::<Value>(&request.body).ok());
        let alerts = bodies.flat_map(|body| body["alerts"].as_array().cloned().unwrap_or_default());
        alerts
            .filter(|one| one["labels"]["alertname"] == alert)
            .collect()
    }

    fn slack(&self, words: &[&str]) -> Vec<String> {
        let bodies = self
            .slack
            .requests()
            .into_iter()
            .map(|request| request.body);
        bodies
            .filter(|body| words.iter().all(|word| body.contains(word)))
            .collect()
    }

    /// The mails so far that contain these words.
    fn mailed(&self, words: &[&str]) -> Vec<Value> {
        while let Some(mail) = self.mail.next() {
            self.mails.borrow_mut().push(mail);
        }
        let mails = self.mails.borrow();
        mails
            .iter()
            .filter(|mail| words.iter().all(|word| mail.to_string().contains(word)))
            .cloned()
            .collect()
    }

    /// Waits until somebody got a mail whose subject contains these words.
    fn is_mailed(&self, address: &str, subject: &str) {
        let start = std::time::Instant::now();
        let is_it = |mail: &Value| {
            let headers = mail["headers"].as_array().cloned().unwrap_or_default();
            let is_meant = headers.iter().any(|header| {
                header[0] == "Subject"
                    && header[1]
                        .as_str()
                        .is_some_and(|text| text.contains(subject))
            });
            is_meant
                && mail["to"]
                    .as_array()
                    .is_some_and(|to| to.iter().any(|one| one == address))
        };
        while !self.mailed(&[]).iter().any(is_it) {
            let subjects: Vec<String> = self
                .mailed(&[])
                .iter()
                .map(|mail| format!("{} {}", mail["to"], mail["headers"]))
                .collect();
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "{address} got no mail {subject:?}, but {subjects:#?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The sample configuration of a profile, with what a test needs in place of what its application
/// has.
struct Sample {
    text: String,
}

impl Sample {
    fn of(profile: &str) -> Self {
        let path = root()
            .join("deploy/profiles")
            .join(format!("{profile}.yml"));
        let text = std::fs::read_to_string(path).expect("the sample");
        let quick = "  scrape_interval: 3s\n  scrape_timeout: 3s\n  evaluation_interval: 1s\n";
        // The machine of the test has pending updates of its own: `updates` tests this part.
        let text: String = text
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("  updates: {"))
            .collect();
        Sample {
            text: text.replace("timeout: 10s", "timeout: 5s"),
        }
        .with("  scrape_interval: 15s\n", quick)
        .with("timeout: 5s", "timeout: 3s")
    }

    /// Mail goes without TLS.
    fn plain_mail(self) -> Self {
        self.with("email_configs: [{", "email_configs: [{require_tls: false, ")
    }

    /// Replaces something that is there.
    fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "the sample does not have {old:?}");
        self.text = self.text.replace(old, new);
        self
    }

    /// Groups wait for nothing.
    fn at_once(self) -> Self {
        self.with(
            "group_by: [alertname, instance]\n",
            "group_by: [alertname, instance]\n  group_wait: 0s\n  group_interval: 1s\n",
        )
    }

    /// A folder in place of one of the application's.
    fn folder(self, old: &str, new: &Path) -> Self {
        self.with(old, &new.display().to_string())
    }
}

/// A folder below the test's own.
fn folder(base: &Path, name: &str) -> PathBuf {
    let path = base.join(name);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

/// Waits until the series that these expressions name are there.
fn wait_for_input(nightbell: &Nightbell, metrics: &[&str]) {
    for metric in metrics {
        wait_until(
            &format!("{metric} is collected"),
            Duration::from_secs(60),
            || {
                let query = metric
                    .replace('=', "%3D")
                    .replace('"', "%22")
                    .replace('{', "%7B")
                    .replace('}', "%7D")
                    .replace(' ', "%20");
                let answer = nightbell.get(&format!("/api/v1/query?query={query}")).1;
                serde_json::from_str::<Value>(&answer).is_ok_and(|answer| {
                    !answer["data"]["result"]
                        .as_array()
                        .is_none_or(Vec::is_empty)
                })
            },
        );
    }
}

/// Breaks something, waits for the alert, mends it, waits for its end; gives the alert as the
/// webhook was notified of it.
///
/// A busy machine may have raised it before: then its end is waited for first.
fn rings(
    people: &People,
    alert: &str,
    instance: &str,
    breaks: impl FnOnce(),
    mends: impl FnOnce(),
) -> Value {
    let notified = || -> Vec<Value> {
        people
            .posted(alert)
            .into_iter()
            .filter(|one| one["labels"]["instance"] == instance)
            .collect()
    };
    let count = |status: &str| {
        notified()
            .iter()
            .filter(|one| one["status"] == status)
            .count()
    };
    wait_until(
        &format!("an earlier {alert} is over"),
        Duration::from_secs(60),
        || {
            notified()
                .last()
                .is_none_or(|one| one["status"] == "resolved")
        },
    );
    let (fired, ended) = (count("firing"), count("resolved"));
    breaks();
    wait_until(
        &format!("{alert} is notified"),
        Duration::from_secs(60),
        || count("firing") > fired,
    );
    mends();
    wait_until(
        &format!("the end of {alert} is notified"),
        Duration::from_secs(60),
        || count("resolved") > ended,
    );
    notified()
        .into_iter()
        .rfind(|one| one["status"] == "firing")
        .expect("it was there")
}
