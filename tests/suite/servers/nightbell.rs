//! The program itself, as its users start it: the built binary, a configuration file, a state
//! folder.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{Server, free_port, wait_until};

pub struct Nightbell {
    pub port: u16,
    pub folder: TempDir,
    environment: Vec<(String, String)>,
    /// A program with arguments that starts it, and becomes it.
    starter: Vec<String>,
    server: Option<Server>,
}

impl Nightbell {
    /// Starts it with this configuration; waits until it is ready.
    pub fn start(config: &str) -> Self {
        Self::start_with(Some(config), &[])
    }

    /// Starts it with a configuration or with the built-in one, and these variables.
    pub fn start_with(config: Option<&str>, environment: &[(&str, &str)]) -> Self {
        let environment = environment
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let mut nightbell = Self::prepared(environment, Vec::new());
        if let Some(config) = config {
            nightbell.configure(config);
        }
        nightbell.restart();
        nightbell
    }

    /// Starts it by a program that becomes it: under another user, or in a mount namespace of its
    /// own.
    pub fn start_by(starter: &[&str], config: &str) -> Self {
        let mut nightbell = Self::prepared(
            Vec::new(),
            starter.iter().map(|word| (*word).to_owned()).collect(),
        );
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(nightbell.folder.path(), everybody).expect("chmod");
        nightbell.configure(config);
        nightbell.restart();
        nightbell
    }

    fn prepared(environment: Vec<(String, String)>, starter: Vec<String>) -> Self {
        Nightbell {
            port: free_port(),
            folder: tempfile::tempdir().expect("a folder"),
            environment,
            starter,
            server: None,
        }
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("nightbell.yml")
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("log.txt")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn configure(&self, config: &str) {
        std::fs::write(self.config_file(), config).expect("written");
    }

    /// Starts it again after [`Nightbell::kill`] or [`Nightbell::stop`].
    pub fn restart(&mut self) {
        let log = || {
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.log_file())
                .expect("a log file")
        };
        let words: Vec<&str> = self
            .starter
            .iter()
            .map(String::as_str)
            .chain([env!("CARGO_BIN_EXE_nightbell")])
            .collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
            .args([
                "--listen",
                &format!("127.0.0.1:{}", self.port),
                "--state-dir",
            ])
            .arg(self.folder.path().join("state"));
        if self.config_file().exists() {
            command.arg("--config").arg(self.config_file());
        }
        for name in [
            "DATABASE_URL",
            "REDIS_URL",
            "CHROMA_URL",
            "OPENAI_API_KEY",
            "DEEPSEEK_API_KEY",
            "ANTHROPIC_API_KEY",
            "DASHSCOPE_API_KEY",
            "LLM_PROVIDER",
        ] {
            command.env_remove(name);
        }
        let child = command
            .envs(self.environment.iter().cloned())
            .stdout(Stdio::from(log()))
            .stderr(Stdio::from(log()))
            .spawn();
        self.server = Some(Server(child.expect("the binary starts")));
        let start = Instant::now();
        while self.get("/-/ready").0 != 200 {
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "nightbell is not ready: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.server.as_ref().map(|s| s.0.id()).expect("it runs")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill")
            .args([name, &id])
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    /// SIGTERM, then waits for its end; returns the exit status.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.stop_signalled()
    }

    /// Waits for its end after a signal; returns the exit status.
    pub fn stop_signalled(&mut self) -> Option<i32> {
        let mut server = self.server.take()?;
        let mut status = None;
        wait_until("nightbell stops", Duration::from_secs(20), || {
            status = server.0.try_wait().expect("its status");
            status.is_some()
        });
        status.and_then(|s| s.code())
    }

    /// GET; status 0 when nobody answers.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, "")
    }

    pub fn request(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        self.request_with(method, path, headers, "")
    }

    /// A request with a body, whose length and type stand in `headers`.
    pub fn request_with(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String) {
        let ask = || -> Option<(u16, String)> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .ok()?;
            stream
                .write_all(
                    format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n{body}")
                        .as_bytes(),
                )
                .ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).ok()?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let (head, body) = answer.split_once("\r\n\r\n")?;
            Some((
                head.split_whitespace().nth(1)?.parse().ok()?,
                body.to_owned(),
            ))
        };
        ask().unwrap_or((0, String::new()))
    }

    /// The answer of an API as JSON.
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        serde_json::from_str(&body)
            .unwrap_or_else(|e| panic!("{path}: status {status}: {e}: {body}"))
    }

    /// The value of the one series of /metrics whose line starts with `series`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let body = self.get("/metrics").1;
        let found: Vec<&str> = body
            .lines()
            .filter(|l| {
                l.strip_prefix(series)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            })
            .collect();
        found.first()?.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until every one of these queries gives data; after three minutes it fails with those that
    /// give none.
    pub fn gives_data<'a>(&self, expressions: impl IntoIterator<Item = &'a str>) {
        let mut empty: Vec<&str> = expressions.into_iter().collect();
        let start = Instant::now();
        loop {
            empty.retain(|expr| {
                let query: String = url::form_urlencoded::byte_serialize(expr.as_bytes()).collect();
                let answer = self.json(&format!("/api/v1/query?query={query}"));
                assert_eq!(answer["status"], "success", "{expr}: {answer}");
                answer["data"]["result"]
                    .as_array()
                    .is_none_or(Vec::is_empty)
            });
            if empty.is_empty() {
                return;
            }
            let list = empty.join("\n");
            assert!(
                start.elapsed() < Duration::from_secs(180),
                "no data for:\n{list}"
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}
