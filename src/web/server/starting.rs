//! Answers while the state and the history are opened at start: alive, and not ready yet; encrypted
//! where the server will be.
//!
//! It needs nothing of what is being built, and runs on the web server's threads.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::tls::Gate;

/// How long a connection may take for its handshake, and for its request and the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are answered at once; further ones wait.
const AT_ONCE: usize = 64;
/// Pause after a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a request that are read.
const LONGEST_HEAD: usize = 8 << 10;

/// Answers until it is stopped; connections that come later wait for the server.
pub struct Starting(JoinHandle<()>);

impl Starting {
    /// Begins to answer at a listener that does not block.
    pub fn answer(listener: &impl AsFd, gate: Arc<Gate>, runtime: &Handle) -> io::Result<Self> {
        let listener = std::net::TcpListener::from(listener.as_fd().try_clone_to_owned()?);
        let _there = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        Ok(Starting(runtime.spawn(answer(listener, gate))))
    }

    /// Takes no further connections. Those that were taken get their answers.
    pub async fn stop(self) {
        self.0.abort();
        // It ends by being stopped.
        drop(self.0.await);
    }
}

async fn answer(listener: TcpListener, gate: Arc<Gate>) {
    let seats = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        // The semaphore is never closed.
        let Ok(seat) = seats.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let gate = gate.clone();
                tokio::spawn(async move {
                    // A client that has gone needs no answer.
                    drop(reply(stream, &gate).await);
                    drop(seat);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn reply(stream: TcpStream, gate: &Arc<Gate>) -> io::Result<()> {
    let (mut stream, _) = gate.enter(stream, PATIENCE).await?;
    let conversation = async {
        // All of the head: a connection that is closed with something unread may take its answer along.
        let mut head = Vec::new();
        while head.len() < LONGEST_HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        let path = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let (status, text) = match path {
            b"/-/healthy" => ("200 OK", "nightbell is alive: it reads its log.\n"),
            _ => (
                "503 Service Unavailable",
                "nightbell is not ready: it reads its log.\n",
            ),
        };
        let length = text.len();
        let head = "Content-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\nConnection: close";
        let answer =
            format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{text}");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    tokio::time::timeout(PATIENCE, conversation).await?
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net;

    use super::*;

    /// What the listener's owner answers.
    fn get(address: net::SocketAddr, path: &str) -> String {
        let mut stream = net::TcpStream::connect(address).expect("connects");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    #[test]
    fn a_start_that_takes_long_answers_that_it_is_not_ready() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("possible");
        let address = listener.local_addr().expect("an address");
        let gate = Gate::open(None).expect("everybody comes in");
        let starting = Starting::answer(&listener, gate, runtime.handle()).expect("it answers");
        // One that says nothing holds up nobody.
        let _silent = net::TcpStream::connect(address).expect("connects");
        assert!(get(address, "/-/ready").starts_with("HTTP/1.1 503 "));
        assert!(
            get(address, "/api/v1/query?query=up")
                .ends_with("nightbell is not ready: it reads its log.\n")
        );
        assert!(get(address, "/-/healthy").starts_with("HTTP/1.1 200 "));
        runtime.block_on(starting.stop());
        let _later = net::TcpStream::connect(address).expect("connects");
        let begun = std::time::Instant::now();
        while listener.accept().is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "later ones are for the server"
            );
        }
    }
}
