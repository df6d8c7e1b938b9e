//! A fake of VictoriaMetrics' `/api/v1/export`, as its documentation has it: a JSON object for each
//! series and line with what it has of `start <= timestamp <= end`, both inclusive.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The label `i` of a series `m`, milliseconds, and the value; none for a stale marker.
pub type Samples = Vec<(String, i64, Option<f64>)>;

/// How it fails once it has begun to answer with samples.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The connection ends before the answer does.
    Cut,
    /// The answer ends in the midst of a line.
    HalfALine,
    /// It refuses.
    Status,
}

pub struct Victoria {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Victoria {
    pub fn start(samples: Samples) -> Self {
        Victoria::failing(samples, Fault::None)
    }

    pub fn failing(samples: Samples, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(&stream, &samples, fault, &heard);
            }
        });
        Victoria { port, asked }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The paths that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

fn answer(stream: &TcpStream, samples: &Samples, fault: Fault, heard: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let number = |name: &str| {
        let value = path
            .split(['?', '&'])
            .find_map(|pair| pair.strip_prefix(name));
        let seconds: f64 = value.expect("a time").parse().expect("a number");
        (seconds * 1000.0).round() as i64
    };
    let (start, end) = (number("start="), number("end="));
    heard.lock().expect("not poisoned").push(path);
    let mut body = String::new();
    for series in ["a", "b"] {
        let found: Vec<_> = samples
            .iter()
            .filter(|(name, at, _)| name == series && (start..=end).contains(at))
            .collect();
        if !found.is_empty() {
            let values: Vec<Option<f64>> = found.iter().map(|(.., value)| *value).collect();
            let times: Vec<i64> = found.iter().map(|(_, at, _)| *at).collect();
            let line = serde_json::json!({
                "metric": {"__name__": "m", "i": series}, "values": values, "timestamps": times,
            });
            body.push_str(&format!("{line}\n"));
        }
    }
    let mut stream = stream;
    // Whoever asked may have gone.
    let _ = match fault {
        _ if body.is_empty() => stream.write_all(head(200, 0).as_bytes()),
        Fault::Status => {
            let said = "too many samples";
            stream.write_all(format!("{}{said}", head(422, said.len())).as_bytes())
        }
        Fault::Cut => stream.write_all(format!("{}{body}", head(200, body.len() + 100)).as_bytes()),
        Fault::HalfALine => {
            body.truncate(body.len() - 20);
            stream.write_all(format!("{}{body}", head(200, body.len())).as_bytes())
        }
        Fault::None => stream.write_all(format!("{}{body}", head(200, body.len())).as_bytes()),
    };
}

fn head(status: u16, length: usize) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/stream+json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}
