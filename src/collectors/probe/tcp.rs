//! The TCP and TLS prober: whether something accepts a connection, with TLS what certificate it shows, and whether it says what is expected
//! (`query_response`, as blackbox_exporter has it).

use regex::bytes::Regex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::config::Secret;

use super::connection::{Connector, Stream};
use super::report::{Failure, Reason, Report};

/// Most bytes that are read for one expectation.
const MAX_READ: usize = 1 << 20;

/// What to connect to.
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
pub struct Exchange {
    /// Lines are read until one matches.
    pub expect: Option<Regex>,
    /// Sent with a line feed; `${1}` stands for what a group of `expect` found.
    pub send: Option<Secret>,
    /// Whether TLS begins after that.
    pub starttls: bool,
}

impl TcpProbe {
    /// Opens the connection, holds the dialogue, and closes it.
    pub async fn run(&self, connector: &Connector, report: &mut Report) -> Result<(), Failure> {
        report.reads_text = true;
        let mut stream = connector.open(&self.host, self.port, self.encrypted, report).await?;
        let mut unread = Vec::new();
        for exchange in &self.dialogue {
            let mut found = None;
            if let Some(pattern) = &exchange.expect {
                let line = matching(pattern, &mut stream, &mut unread).await?;
                found = pattern.captures(&line).map(|groups| expanded(&groups, exchange.send.as_ref()));
            }
            let text = found.or_else(|| exchange.send.as_ref().map(|send| send.expose().as_bytes().to_vec()));
            if let Some(mut text) = text.filter(|_| exchange.send.is_some()) {
                text.push(b'\n');
                stream.write_all(&text).await.map_err(|error| broken(&error))?;
                stream.flush().await.map_err(|error| broken(&error))?;
            }
            if exchange.starttls {
                // What was said in the clear counts no more.
                unread.clear();
                stream = connector.encrypt_on(stream, &self.host, self.port, report).await?;
            }
        }
        Ok(())
    }
}

fn expanded(groups: &regex::bytes::Captures<'_>, send: Option<&Secret>) -> Vec<u8> {
    let mut text = Vec::new();
    groups.expand(send.map(|send| send.expose().as_bytes()).unwrap_or_default(), &mut text);
    text
}

/// The first line that matches; `unread` is what came after the line before.
async fn matching(pattern: &Regex, stream: &mut Box<dyn Stream>, unread: &mut Vec<u8>) -> Result<Vec<u8>, Failure> {
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
        let came = stream.read(&mut room).await.map_err(|error| broken(&error))?;
        read += came;
        if came == 0 && pattern.is_match(unread) {
            return Ok(std::mem::take(unread));
        }
        if came == 0 || read > MAX_READ {
            let why = if came == 0 { "the connection ended and no line matched" } else { "none of the first lines matched" };
            return Err(Failure::new(Reason::Body, format!("{why} {:?}", pattern.as_str())).brief_as(why));
        }
        unread.extend_from_slice(&room[..came]);
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::new(Reason::Protocol, error.to_string()).brief_as("the connection broke off")
}
