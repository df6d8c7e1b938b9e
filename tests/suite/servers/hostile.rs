//! HTTP servers that misbehave, each in one way, to see that only their own target suffers.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a hostile server does with a connection after it has read the request's head.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Answers 200 with this Content-Type and body.
    Serve(&'static str, Vec<u8>),
    /// Answers with these raw bytes and closes.
    Raw(Vec<u8>),
    /// Accepts and never answers.
    Silent,
    /// Sends the head one byte at a time, for ever.
    SlowHead,
    /// Sends samples without end.
    Endless,
    /// Sends a few samples, then nothing, and keeps the connection.
    Stalls,
    /// Redirects to itself.
    RedirectLoop,
    /// Announces more than it sends, then closes.
    Truncated,
}

/// A server of one manner, stopped on drop. The manner may change while it runs.
pub struct Hostile {
    /// Its address, `127.0.0.1:port`.
    pub address: String,
    manner: Arc<Mutex<Manner>>,
    heads: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Hostile {
    /// Starts listening.
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("not blocking");
        let address = listener.local_addr().expect("its address").to_string();
        let server = Hostile {
            address,
            manner: Arc::new(Mutex::new(manner)),
            heads: Arc::default(),
            stop: Arc::default(),
        };
        let (manner, heads, stop) = (
            server.manner.clone(),
            server.heads.clone(),
            server.stop.clone(),
        );
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (manner, stop) =
                            (manner.lock().expect("not poisoned").clone(), stop.clone());
                        let heads = heads.clone();
                        thread::spawn(move || serve(stream, &manner, &heads, &stop));
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(2))
                    }
                    Err(_) => break,
                }
            }
        });
        server
    }

    /// Serves a page as text 0.0.4.
    pub fn page(text: &str) -> Self {
        Hostile::start(Manner::Serve(
            "text/plain; version=0.0.4",
            text.as_bytes().to_vec(),
        ))
    }

    /// Behaves otherwise from the next connection on.
    pub fn become_(&self, manner: Manner) {
        *self.manner.lock().expect("not poisoned") = manner;
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("not poisoned").clone()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(mut stream: TcpStream, manner: &Manner, heads: &Mutex<Vec<String>>, stop: &AtomicBool) {
    stream.set_nonblocking(false).expect("blocking");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    stream
        .set_write_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 65536 {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    heads
        .lock()
        .expect("not poisoned")
        .push(String::from_utf8_lossy(&head).into_owned());
    // A client that hangs up ends the connection's thread; that is what is hoped for.
    drop(answer(&mut stream, manner, stop));
}

fn answer(stream: &mut TcpStream, manner: &Manner, stop: &AtomicBool) -> std::io::Result<()> {
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
    let wait = || {
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
    };
    match manner {
        Manner::Serve(content_type, body) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            )?;
            stream.write_all(body)?;
        }
        Manner::Raw(bytes) => stream.write_all(bytes)?,
        Manner::Silent => wait(),
        Manner::SlowHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Slow: ")?;
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(50));
            }
        }
        Manner::Endless => {
            stream.write_all(HEAD)?;
            stream.write_all(b"\r\n")?;
            let mut number = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let block: String = (0..1000)
                    .map(|i| format!("endless{{n=\"{}\"}} 1\n", number + i))
                    .collect();
                stream.write_all(block.as_bytes())?;
                number += 1000;
            }
        }
        Manner::Stalls => {
            stream.write_all(HEAD)?;
            stream.write_all(b"\r\na 1\nb 2\n")?;
            wait();
        }
        Manner::RedirectLoop => {
            stream
                .write_all(b"HTTP/1.1 302 Found\r\nLocation: /metrics?token=hunter2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        }
        Manner::Truncated => {
            stream.write_all(HEAD)?;
            stream.write_all(b"Content-Length: 1000\r\n\r\na 1\n")?;
        }
    }
    Ok(())
}

/// The fields of one request head by lower-case name.
pub fn fields(head: &str) -> HashMap<String, String> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect()
}
