//! A fake LLM provider on a real socket, for what no installable server does: money errors, stalls,
//! cuts, keep-alives, typed streams. Paid providers cannot be had in a test. Forms: the providers'
//! published API references.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What to send for one path: pieces with a pause before each.
#[derive(Clone, Debug)]
pub struct Script {
    pub status: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub pieces: Vec<(Duration, String)>,
    /// Whether the connection stays open and silent after the last piece.
    pub hang: bool,
}

impl Script {
    pub fn json(status: &'static str, body: &str) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Script {
            status,
            headers,
            pieces: vec![(Duration::ZERO, body.to_owned())],
            hang: false,
        }
    }

    pub fn stream(pieces: &[(u64, &str)]) -> Self {
        let pieces = pieces
            .iter()
            .map(|(ms, text)| (Duration::from_millis(*ms), (*text).to_owned()))
            .collect();
        Script {
            status: "200 OK",
            headers: vec![("content-type", "text/event-stream".to_owned())],
            pieces,
            hang: false,
        }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn hanging(mut self) -> Self {
        self.hang = true;
        self
    }
}

#[derive(Default)]
struct Shared {
    scripts: HashMap<String, Script>,
    requests: Vec<String>,
}

/// The fake. Paths without a script answer 404.
pub struct FakeLlm {
    pub port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl FakeLlm {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let served = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = served.clone();
                thread::spawn(move || serve(stream, &shared));
            }
        });
        FakeLlm { port, shared }
    }

    pub fn on(&self, path: &str, script: Script) -> &Self {
        self.shared
            .lock()
            .expect("no panic")
            .scripts
            .insert(path.to_owned(), script);
        self
    }

    /// Heads and bodies of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.lock().expect("no panic").requests.clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn serve(stream: TcpStream, shared: &Mutex<Shared>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head
        .lines()
        .find_map(|l| {
            l.to_lowercase()
                .strip_prefix("content-length: ")?
                .trim()
                .parse::<usize>()
                .ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = head.split_whitespace().nth(1)?.to_owned();
    let script = {
        let mut shared = shared.lock().ok()?;
        shared
            .requests
            .push(format!("{head}{}", String::from_utf8_lossy(&body)));
        shared
            .scripts
            .get(&path)
            .cloned()
            .unwrap_or_else(|| Script::json("404 Not Found", "not here"))
    };
    play(stream, &script)
}

fn play(mut stream: TcpStream, script: &Script) -> Option<()> {
    let mut head = format!(
        "HTTP/1.1 {}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n",
        script.status
    );
    script
        .headers
        .iter()
        .for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    for (pause, text) in &script.pieces {
        thread::sleep(*pause);
        stream
            .write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
            .ok()?;
        stream.flush().ok()?;
    }
    if script.hang {
        thread::sleep(Duration::from_secs(60));
    }
    stream.write_all(b"0\r\n\r\n").ok()
}
