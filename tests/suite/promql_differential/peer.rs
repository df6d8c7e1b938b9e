//! A real Prometheus that holds the series of the experiment: they are written to it as by a remote writer, so that stale markers and
//! native histograms reach it bit for bit.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::data::Recorded;

/// How long one batch of a remote writer is: Prometheus takes the samples of a series in their order only.
const BATCH: i64 = 600_000;

/// A running Prometheus; ends with the value.
pub struct Peer {
    process: Child,
    port: u16,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Peer {
    /// Starts `prometheus` of the folder `binaries` with these series.
    pub fn start(binaries: &Path, folder: &Path, series: &[Recorded]) -> Peer {
        let (data, config) = (folder.join("data"), folder.join("prometheus.yml"));
        std::fs::write(&config, "global: {evaluation_interval: 1m}\n").expect("the folder is writable");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let process = Command::new(binaries.join("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--storage.tsdb.retention.time=100y", "--log.level=error", "--web.enable-remote-write-receiver"])
            .arg("--enable-feature=promql-experimental-functions,promql-duration-expr,native-histograms")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus runs");
        let peer = Peer { process, port };
        let deadline = Instant::now() + Duration::from_secs(30);
        while peer.ask("/api/v1/query", "query=1").is_none_or(|answer| answer["status"] != "success") {
            assert!(Instant::now() < deadline, "Prometheus does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        peer.write(series);
        peer
    }

    fn write(&self, series: &[Recorded]) {
        let times = || series.iter().flat_map(|s| s.points.iter().map(|(time, _)| *time));
        let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        for start in (first..=last).step_by(BATCH as usize) {
            let mut request = Vec::new();
            for one in series {
                let points: Vec<_> = one.points.iter().filter(|(t, _)| (start..start + BATCH).contains(t)).collect();
                if points.is_empty() {
                    continue;
                }
                let mut message = Vec::new();
                for (name, value) in one.labels.iter() {
                    let mut label = Vec::new();
                    bytes(&mut label, 1, name.as_bytes());
                    bytes(&mut label, 2, value.as_bytes());
                    bytes(&mut message, 1, &label);
                }
                for (time, value) in points {
                    let mut sample = vec![0x09];
                    sample.extend(value.to_bits().to_le_bytes());
                    sample.push(0x10);
                    varint(&mut sample, *time as u64);
                    bytes(&mut message, 2, &sample);
                }
                bytes(&mut request, 1, &message);
            }
            let (status, said) = self.post("/api/v1/write", "application/x-protobuf", &snappy(&request)).expect("it answers");
            assert!(status.contains(" 204"), "{status}: {}", String::from_utf8_lossy(&said));
        }
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Option<(String, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let encoding =
            if kind.ends_with("protobuf") { "Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n" } else { "" };
        let length = body.len();
        let head = format!("POST {path} HTTP/1.0\r\nHost: x\r\n{encoding}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
        let mut reader = BufReader::new(stream);
        let (mut status, mut line) = (String::new(), String::new());
        reader.read_line(&mut status).ok()?;
        while reader.read_line(&mut line).ok()? > 2 {
            line.clear();
        }
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).ok()?;
        Some((status, answer))
    }

    /// The answer to a query.
    pub fn ask(&self, path: &str, form: &str) -> Option<serde_json::Value> {
        let (_, body) = self.post(path, "application/x-www-form-urlencoded", form.as_bytes())?;
        serde_json::from_slice(&body).ok()
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited field of a protobuf message.
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Snappy's block format, everything as literals (<https://github.com/google/snappy/blob/main/format_description.txt>).
fn snappy(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, plain.len() as u64);
    for part in plain.chunks(0x1_0000) {
        out.push(61 << 2);
        out.extend(((part.len() - 1) as u16).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}
