//! A container engine's socket, as far as it is read: what it answers is set path by path, or it
//! misbehaves.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it answers.
#[derive(Clone)]
pub enum Engine {
    /// These bodies as JSON, by path; 404 for others.
    Serves(HashMap<String, String>),
    /// These bytes, then it closes.
    Raw(Vec<u8>),
    /// It accepts and says nothing.
    Silent,
    /// A list without end.
    Endless,
}

/// A socket that is served until it is dropped.
pub struct Socket {
    pub path: PathBuf,
    manner: Arc<Mutex<Engine>>,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Socket {
    pub fn start(folder: &Path, manner: Engine) -> Self {
        let path = folder.join("engine.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        listener.set_nonblocking(true).expect("not blocking");
        let socket = Socket {
            path,
            manner: Arc::new(Mutex::new(manner)),
            asked: Arc::default(),
            stop: Arc::default(),
        };
        let (manner, asked, stop) = (
            socket.manner.clone(),
            socket.asked.clone(),
            socket.stop.clone(),
        );
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (manner, asked, stop) = (
                            manner.lock().expect("not poisoned").clone(),
                            asked.clone(),
                            stop.clone(),
                        );
                        // A client that hangs up ends the connection's thread.
                        std::thread::spawn(move || drop(serve(stream, &manner, &asked, &stop)));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(2))
                    }
                    Err(_) => return,
                }
            }
        });
        socket
    }

    /// Behaves otherwise from the next connection on.
    pub fn become_(&self, manner: Engine) {
        *self.manner.lock().expect("not poisoned") = manner;
    }

    /// The first line of each request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(
    mut stream: UnixStream,
    manner: &Engine,
    asked: &Mutex<Vec<String>>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < 65_536 {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap_or_default().to_owned();
    asked.lock().expect("not poisoned").push(line.clone());
    match manner {
        Engine::Serves(bodies) => {
            let body = line.split(' ').nth(1).and_then(|path| bodies.get(path));
            let (status, body) = body.map_or(
                ("404 Not Found", r#"{"message":"no such container"}"#),
                |body| ("200 OK", body),
            );
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        }
        Engine::Raw(bytes) => stream.write_all(bytes),
        Engine::Silent => {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        }
        Engine::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[")?;
            while !stop.load(Ordering::Relaxed) {
                stream.write_all("{\"Id\":\"a\"},".repeat(1000).as_bytes())?;
            }
            Ok(())
        }
    }
}
