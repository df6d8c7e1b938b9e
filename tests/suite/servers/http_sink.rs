//! A receiver of HTTP notifications: it records each request and answers as the test scripts it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::wait_until;

/// What the sink does with one request, after it has read all of it.
#[derive(Clone)]
pub enum Reply {
    /// Status, extra header lines (each with its line end), body.
    Answer(u16, &'static str, &'static str),
    /// The same with no header lines, after so many milliseconds.
    Late(u64, u16, &'static str),
    /// Keeps the connection open and says nothing.
    Silence,
    /// Closes the connection without a word.
    Reset,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// Status of the answer, once the peer was given it.
    pub answered: Option<u16>,
    /// The same as it came, where it is no text.
    pub bytes: Vec<u8>,
}

impl Recorded {
    /// For a golden file: request line, the headers that mean something, the body (JSON pretty).
    pub fn golden(&self) -> String {
        let noise = [
            "host",
            "content-length",
            "accept",
            "accept-encoding",
            "user-agent",
        ];
        let headers: String = self
            .headers
            .iter()
            .filter(|(n, _)| !noise.contains(&n.as_str()))
            .map(|(n, v)| format!("{n}: {v}\n"))
            .collect();
        let body = match serde_json::from_str::<serde_json::Value>(&self.body) {
            Ok(json) => serde_json::to_string_pretty(&json).expect("JSON prints"),
            Err(_) => self.body.clone(),
        };
        format!("{} {}\n{headers}\n{body}\n", self.method, self.path)
    }
}

/// Listens until it is dropped.
pub struct HttpSink {
    pub url: String,
    requests: Arc<Mutex<Vec<Recorded>>>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
}

impl HttpSink {
    /// Answers with `replies` in order; the last one stays.
    pub fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let (seen, script) = (Arc::clone(&requests), Arc::clone(&replies));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Only the sink's owner and this loop hold the script: alone, the loop ends.
                if Arc::strong_count(&script) == 1 {
                    break;
                }
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                thread::spawn(move || serve(stream, &seen, &script));
            }
        });
        HttpSink {
            url,
            requests,
            replies,
        }
    }

    /// All requests so far, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().expect("no poison").clone()
    }

    /// Answers with this from now on.
    pub fn answer(&self, reply: Reply) {
        *self.replies.lock().expect("no poison") = VecDeque::from([reply]);
    }

    /// The newest request; waits for one.
    pub fn last(&self) -> Recorded {
        wait_until("a request", Duration::from_secs(5), || {
            !self.requests().is_empty()
        });
        self.requests().pop().expect("one came")
    }
}

impl Drop for HttpSink {
    fn drop(&mut self) {
        self.replies = Arc::default();
        // Wakes the accepting loop, which sees that nobody wants it any more.
        drop(TcpStream::connect(self.url.trim_start_matches("http://")));
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Recorded>>, script: &Mutex<VecDeque<Reply>>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let number = {
            let mut seen = seen.lock().expect("no poison");
            seen.push(request);
            seen.len() - 1
        };
        let reply = {
            let mut script = script.lock().expect("no poison");
            if script.len() > 1 {
                script.pop_front()
            } else {
                script.front().cloned()
            }
        };
        let reply = match reply {
            Some(Reply::Late(wait, status, body)) => {
                thread::sleep(Duration::from_millis(wait));
                Some(Reply::Answer(status, "", body))
            }
            reply => reply,
        };
        match reply {
            Some(Reply::Late(..)) => unreachable!("it has waited"),
            Some(Reply::Answer(status, headers, body)) => {
                let text = format!(
                    "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                // Before the peer can know it, so that a test that reads now misses nothing.
                seen.lock().expect("no poison")[number].answered = Some(status);
                if reader.get_mut().write_all(text.as_bytes()).is_err() {
                    seen.lock().expect("no poison")[number].answered = None;
                    return;
                }
            }
            // The peer gives up and closes; then the read ends.
            Some(Reply::Silence) => drop(reader.read(&mut [0])),
            Some(Reply::Reset) | None => return,
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Recorded> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|l| l.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Recorded {
        method,
        path,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        bytes: body,
        answered: None,
    })
}
