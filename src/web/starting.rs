//! Answers while the log is read at start, which may take long: alive, and not ready yet.
//!
//! It needs nothing of what is being built: a thread takes one connection after another, for a moment each.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a connection may take for its request, and for its answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked for a connection.
const LOOK: Duration = Duration::from_millis(20);

/// Answers until it is dropped; connections that come later wait for the server.
pub struct Starting {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Starting {
    /// Begins to answer at a listener that does not block.
    pub fn answer(listener: &impl AsFd) -> io::Result<Self> {
        let listener = TcpListener::from(listener.as_fd().try_clone_to_owned()?);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let answer = move || {
            while !stopping.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that has gone needs no answer.
                    Ok((stream, _)) => drop(reply(stream)),
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        };
        let thread = std::thread::Builder::new().name("starting".into()).stack_size(64 << 10).spawn(answer)?;
        Ok(Starting { stop, thread: Some(thread) })
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn reply(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = [0; 2048];
    let length = stream.read(&mut head)?;
    let path = head[..length].split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let (status, text) = match path {
        b"/-/healthy" => ("200 OK", "nightbell is alive: it reads its log.\n"),
        _ => ("503 Service Unavailable", "nightbell is not ready: it reads its log.\n"),
    };
    let length = text.len();
    let head = "Content-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\nConnection: close";
    write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the listener's owner answers.
    fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("connects");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    #[test]
    fn a_start_that_takes_long_answers_that_it_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("possible");
        let address = listener.local_addr().expect("an address");
        let starting = Starting::answer(&listener).expect("a thread");
        // One that says nothing holds up the others for a moment only.
        let _silent = TcpStream::connect(address).expect("connects");
        assert!(get(address, "/-/ready").starts_with("HTTP/1.1 503 "));
        assert!(get(address, "/api/v1/query?query=up").ends_with("nightbell is not ready: it reads its log.\n"));
        assert!(get(address, "/-/healthy").starts_with("HTTP/1.1 200 "));
        drop(starting);
        let _later = TcpStream::connect(address).expect("connects");
        std::thread::sleep(LOOK);
        assert!(listener.accept().is_ok(), "later ones are for the server");
    }
}
