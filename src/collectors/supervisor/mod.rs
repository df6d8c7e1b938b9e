//! Supervisor's programs: one question, `supervisor.getAllProcessInfo`, over its Unix socket or its
//! port; nothing is started, stopped or cleared.
//!
//! Names are those of node_exporter's collector `supervisord`
//! (<https://github.com/prometheus/node_exporter/blob/master/collector/supervisord.go>).

mod answer;

use std::path::PathBuf;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use url::Url;

use crate::config::{SecretSource, Section};
use crate::http::{Client, HeaderName, HeaderValue, HttpConfig, Method, Request, send_by_socket};
use crate::model::Batch;
use crate::model::MetricKind::Gauge;

use super::{CollectError, Collector, CollectorKind, Target};
use answer::Program;

/// The collector `supervisor`.
pub const KIND: CollectorKind = CollectorKind {
    name: "supervisor",
    about: "Supervisor's programs: state, start, exit status",
    metrics: &[METRICS],
    build,
};

const SOCKET: &str = "/var/run/supervisor.sock";
const QUESTION: &str = "<?xml version='1.0'?><methodCall><methodName>supervisor.getAllProcessInfo</methodName><params></params></methodCall>";
/// Largest answer, in bytes: a program takes 2 kB.
const MAX_BODY: usize = 8 << 20;
/// Programs that are shown.
const MAX_PROGRAMS: usize = 500;
/// Part of the deadline for the answer.
const WAITING: f64 = 0.9;
/// States in which there is a process: starting, running, stopping.
const RUNNING: [f64; 3] = [10.0, 20.0, 40.0];
const OF: &[&str] = &["name", "group"];

metrics! {
    UP "supervisor_up" Gauge "" &[], "1 when Supervisor answers, 0 when not.", "getAllProcessInfo";
    FAILURE "supervisor_failure_info" Gauge "" &["reason", "message"], "Why Supervisor is not up, always 1; absent while it is.", "getAllProcessInfo";
    PROGRAM_UP "node_supervisord_up" Gauge "" OF, "1 while the program has a process: it starts, runs or stops.", "getAllProcessInfo: state";
    STATE "node_supervisord_state" Gauge "" OF, "The number of its state: 0 stopped, 10 starting, 20 running, 30 backoff, 40 stopping, 100 exited, 200 fatal, 1000 unknown.", "getAllProcessInfo: state";
    EXIT_STATUS "node_supervisord_exit_status" Gauge "" OF, "Its last exit status.", "getAllProcessInfo: exitstatus";
    START "node_supervisord_start_time_seconds" Gauge "seconds" OF, "When it was started, Unix time; absent while it has no process.", "getAllProcessInfo: start";
    UPTIME "node_supervisord_uptime" Gauge "seconds" OF, "Since when it has a process, as older versions of node_exporter have it.", "getAllProcessInfo: start, now";
    PROGRAMS "supervisor_programs" Gauge "" &[], "Programs there are.", "getAllProcessInfo";
    OMITTED "supervisor_omitted_programs" Gauge "" &[], "Programs beyond the first 500, which are not shown.", "nightbell";
}

/// Where Supervisor answers.
enum Way {
    Socket(PathBuf),
    Http(Box<Client>, Url),
}

struct Supervisor {
    way: Way,
    http: HttpConfig,
    target: Target,
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let http = HttpConfig::read(section);
    let (socket, url) = (section.get::<PathBuf>("socket"), section.get::<Url>("url"));
    if socket.is_some() && url.is_some() {
        section.error("url", "stands beside \"socket\"", "keep one of the two");
    }
    let way = match url {
        Some(url) => {
            let client = Client::build(&http).unwrap_or_else(|error| {
                section.error(
                    "tls_config",
                    error.to_string(),
                    "check the HTTP settings of Supervisor",
                );
                Client::plain()
            });
            Way::Http(Box::new(client), url)
        }
        None => Way::Socket(socket.unwrap_or_else(|| SOCKET.into())),
    };
    Box::new(Supervisor {
        way,
        http,
        target: target.clone(),
    })
}

/// Why there is no answer: one of a few words, and a text.
type Failure = (&'static str, String);

impl Collector for Supervisor {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let programs = match self.ask().await {
                Ok(programs) => programs,
                Err((reason, message)) => {
                    batch.push(&UP, &[], 0.0);
                    let labels = [("reason", reason), ("message", &message)];
                    batch.push(&FAILURE, &labels, 1.0);
                    return Err(CollectError::new(message));
                }
            };
            batch.push(&UP, &[], 1.0);
            batch.push(&PROGRAMS, &[], programs.len() as f64);
            let omitted = programs.len().saturating_sub(MAX_PROGRAMS);
            batch.push(&OMITTED, &[], omitted as f64);
            let now = crate::model::Timestamp::now().seconds();
            programs
                .iter()
                .take(MAX_PROGRAMS)
                .for_each(|program| show(program, now, batch));
            Ok(())
        }
        .boxed()
    }

    fn address(&self) -> String {
        match &self.way {
            Way::Socket(path) => format!("unix://{}", path.display()),
            Way::Http(_, url) => {
                let mut url = url.clone();
                let _no_host = url.set_username("");
                let _no_host = url.set_password(None);
                url.to_string()
            }
        }
    }
}

impl Supervisor {
    async fn ask(&self) -> Result<Vec<Program>, Failure> {
        let timeout = self.target.timeout.mul_f64(WAITING);
        let (status, body) = match &self.way {
            Way::Socket(path) => {
                let mut request = http::Request::post("/RPC2").header("Content-Type", "text/xml");
                if let Some(login) = self.login().map_err(|error| ("credentials", error))? {
                    request = request.header("Authorization", login);
                }
                let request = request
                    .body(Bytes::from_static(QUESTION.as_bytes()))
                    .map_err(|error| ("request", error.to_string()))?;
                send_by_socket(path, request, timeout, MAX_BODY)
                    .await
                    .map_err(|error| {
                        let kind = if error.is_timeout() {
                            "timeout"
                        } else {
                            "connect"
                        };
                        (kind, error.to_string())
                    })?
            }
            Way::Http(client, url) => {
                let mut request = Request::get(url.clone(), timeout);
                request.method = Method::POST;
                request.body = Bytes::from_static(QUESTION.as_bytes());
                request.max_body = MAX_BODY;
                let name = HeaderName::from_static("content-type");
                let request = request.header(name, HeaderValue::from_static("text/xml"));
                let response = client.send(request).await;
                let response =
                    response.map_err(|error| (error.kind.as_str(), error.to_string()))?;
                (response.status, response.body)
            }
        };
        match status {
            200 => {
                answer::programs(&String::from_utf8_lossy(&body)).map_err(|error| ("answer", error))
            }
            401 | 403 => Err(("refused", format!("status {status}: user name or password"))),
            status => Err(("status", format!("status {status}"))),
        }
    }

    /// `basic_auth` for the socket.
    fn login(&self) -> Result<Option<HeaderValue>, String> {
        let Some((name, password)) = &self.http.basic_auth else {
            return Ok(None);
        };
        let current = |source: &SecretSource| source.current().map_err(|error| error.to_string());
        let (name, password) = (current(name)?, current(password)?);
        let pair = format!("{}:{}", name.expose(), password.expose());
        let text = base64::engine::general_purpose::STANDARD.encode(pair);
        let mut value = HeaderValue::from_str(&format!("Basic {text}"))
            .map_err(|_| "they cannot stand in a header".to_owned())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn show(program: &Program, now: f64, batch: &mut Batch) {
    let labels = [
        ("name", program.name.as_str()),
        ("group", program.group.as_str()),
    ];
    let is_running = RUNNING.contains(&program.state);
    batch.push(&STATE, &labels, program.state);
    batch.push(&EXIT_STATUS, &labels, program.exit_status);
    batch.push(&PROGRAM_UP, &labels, f64::from(u8::from(is_running)));
    if is_running {
        batch.push(&START, &labels, program.start);
        batch.push(&UPTIME, &labels, (now - program.start).max(0.0));
    }
}
