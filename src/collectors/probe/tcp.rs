//! The TCP and TLS prober: whether something accepts a connection, with TLS what certificate it
//! shows, and whether it says what is expected (`query_response`, as blackbox_exporter has it).

use std::time::Duration;

use regex::bytes::Regex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::connection::{Connector, Stream};
use super::report::{Failure, Reason, Report};

/// Most bytes that are read for one expectation.
const MAX_READ: usize = 1 << 20;
/// A line that has not ended counts as it is when nothing more came for so long: a prompt.
const PROMPT: Duration = Duration::from_millis(200);

/// Most characters of a label's value.
const MAX_LABEL: usize = 256;

/// What to connect to.
#[derive(Clone)]
pub struct TcpProbe {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether to speak TLS (`tls://`).
    pub encrypted: bool,
    /// What is said and heard then, in this order.
    pub dialogue: Vec<Exchange>,
}

/// One step of a dialogue: what is waited for, then what is sent, then TLS.
#[derive(Clone)]
pub struct Exchange {
    /// Lines are read until one matches.
    pub expect: Option<Regex>,
    /// Labels of `probe_expect_info`, with what groups of `expect` found in place of `${1}`.
    pub labels: Vec<(String, String)>,
    /// The next bytes must be these.
    pub expect_bytes: Option<Vec<u8>>,
    /// Sent with a line feed; `${1}` stands for what a group of `expect` found.
    pub send: Option<Vec<u8>>,
    /// Whether TLS begins after that.
    pub starttls: bool,
}

impl TcpProbe {
    /// Opens the connection, holds the dialogue, and closes it.
    pub async fn run(&self, connector: &Connector, report: &mut Report) -> Result<(), Failure> {
        report.reads_text = true;
        let mut stream = connector
            .open(&self.host, self.port, self.encrypted, report)
            .await?;
        let mut unread = Vec::new();
        for exchange in &self.dialogue {
            let mut found = None;
            if let Some(pattern) = &exchange.expect {
                let line = matching(pattern, &mut stream, &mut unread).await?;
                let groups = pattern.captures(&line);
                found = groups
                    .as_ref()
                    .map(|groups| expanded(groups, exchange.send.as_deref().unwrap_or_default()));
                if let Some(groups) = groups.filter(|_| !exchange.labels.is_empty()) {
                    report.expected.push(labels(&groups, &exchange.labels));
                }
            }
            if let Some(bytes) = &exchange.expect_bytes {
                same(bytes, &mut stream, &mut unread).await?;
            }
            let text = found.or_else(|| exchange.send.clone());
            if let Some(mut text) = text.filter(|_| exchange.send.is_some()) {
                text.push(b'\n');
                stream
                    .write_all(&text)
                    .await
                    .map_err(|error| broken(&error))?;
                stream.flush().await.map_err(|error| broken(&error))?;
            }
            if exchange.starttls {
                // What was said in the clear counts no more.
                unread.clear();
                stream = connector
                    .encrypt_on(stream, &self.host, self.port, report)
                    .await?;
            }
        }
        Ok(())
    }
}

fn expanded(groups: &regex::bytes::Captures<'_>, send: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    groups.expand(send, &mut text);
    text
}

fn labels(
    groups: &regex::bytes::Captures<'_>,
    wanted: &[(String, String)],
) -> Vec<(String, String)> {
    let value = |template: &String| {
        let mut text = Vec::new();
        groups.expand(template.as_bytes(), &mut text);
        String::from_utf8_lossy(&text)
            .chars()
            .take(MAX_LABEL)
            .collect()
    };
    wanted
        .iter()
        .map(|(name, template)| (name.clone(), value(template)))
        .collect()
}

/// Reads as many bytes as are wanted, and compares them.
async fn same(
    wanted: &[u8],
    stream: &mut Box<dyn Stream>,
    unread: &mut Vec<u8>,
) -> Result<(), Failure> {
    let mut room = [0; 4096];
    while unread.len() < wanted.len() {
        let came = stream
            .read(&mut room)
            .await
            .map_err(|error| broken(&error))?;
        if came == 0 {
            return Err(Failure::new(Reason::Protocol, "the connection ended early")
                .brief_as("the connection ended early"));
        }
        unread.extend_from_slice(&room[..came]);
    }
    let came: Vec<u8> = unread.drain(..wanted.len()).collect();
    if came == wanted {
        return Ok(());
    }
    Err(
        Failure::new(Reason::Bytes, "other bytes came than expected")
            .brief_as("other bytes came than expected"),
    )
}

/// The first line that matches; `unread` is what came after the line before.
async fn matching(
    pattern: &Regex,
    stream: &mut Box<dyn Stream>,
    unread: &mut Vec<u8>,
) -> Result<Vec<u8>, Failure> {
    let mut read = unread.len();
    loop {
        while let Some(end) = memchr::memchr(b'\n', unread) {
            let mut line: Vec<u8> = unread.drain(..=end).collect();
            line.pop();
            line.pop_if(|last| *last == b'\r');
            if pattern.is_match(&line) {
                return Ok(line);
            }
        }
        let mut room = [0; 4096];
        let came = match timeout(PROMPT, stream.read(&mut room)).await {
            Ok(came) => came.map_err(|error| broken(&error))?,
            Err(_) if !unread.is_empty() && pattern.is_match(unread) => {
                return Ok(std::mem::take(unread));
            }
            Err(_) => continue,
        };
        read += came;
        if came == 0 && pattern.is_match(unread) {
            return Ok(std::mem::take(unread));
        }
        if came == 0 || read > MAX_READ {
            let why = if came == 0 {
                "the connection ended and no line matched"
            } else {
                "none of the first lines matched"
            };
            return Err(
                Failure::new(Reason::Body, format!("{why} {:?}", pattern.as_str())).brief_as(why),
            );
        }
        unread.extend_from_slice(&room[..came]);
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::new(Reason::Protocol, error.to_string()).brief_as("the connection broke off")
}
