//! A question or two to what listens on this machine: is it HTTP, has it metrics, a health page?
//! Only GET, only the loopback or the machine's own addresses, for a bounded time.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// So much of an answer is read, in bytes.
const MAX_ANSWER: usize = 256 << 10;
/// Pages that say whether a service is well, the best first.
const HEALTH: [&str; 5] = ["/health", "/healthz", "/api/health", "/api/v1/health", "/"];

/// What an HTTP service has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Metrics for Prometheus, at `/metrics`.
    pub has_metrics: bool,
    /// The first page that answers with success.
    pub health: Option<&'static str>,
    /// It answers as Chroma does.
    pub is_chroma: bool,
}

/// Asks; `None` when it does not speak HTTP.
pub fn pages(address: IpAddr, port: u16) -> Option<Pages> {
    let deadline = Instant::now() + 2 * PATIENCE;
    let (status, _) = get((address, port).into(), "/")?;
    let is_good = |status: u16| (200..300).contains(&status);
    let ask = |path: &str| {
        if Instant::now() < deadline {
            get((address, port).into(), path)
        } else {
            None
        }
    };
    let is_page = |body: &str| {
        body.lines()
            .take(50)
            .any(|line| line.starts_with("# TYPE ") || line.starts_with("# HELP "))
    };
    let has_metrics =
        ask("/metrics").is_some_and(|(status, body)| is_good(status) && is_page(&body));
    let is_chroma = ask("/api/v2/heartbeat")
        .is_some_and(|(status, body)| is_good(status) && body.contains("nanosecond heartbeat"));
    let answers = |path: &&str| {
        if *path == "/" {
            is_good(status)
        } else {
            ask(path).is_some_and(|(status, _)| is_good(status))
        }
    };
    Some(Pages {
        has_metrics,
        health: HEALTH.into_iter().find(answers),
        is_chroma,
    })
}

fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    request(stream, path)
}

/// As over TCP, over a socket that is a file: Docker's or Podman's.
pub fn get_by_socket(socket: &Path, path: &str) -> Option<String> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    request(stream, path)
        .filter(|(status, _)| *status == 200)
        .map(|(_, body)| body)
}

/// HTTP 1.0, so that the answer ends with the connection.
fn request(mut stream: impl Read + Write, path: &str) -> Option<(u16, String)> {
    let deadline = Instant::now() + PATIENCE;
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: nightbell-init\r\nAccept: */*\r\n\r\n").as_bytes())
        .ok()?;
    let (mut answer, mut piece) = (Vec::new(), [0; 8192]);
    while answer.len() < MAX_ANSWER && Instant::now() < deadline {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some((status, body.to_owned()))
}
