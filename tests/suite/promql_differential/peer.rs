//! A real Prometheus that holds the series of the experiment: they are written to it as by a remote
//! writer, so that stale markers and native histograms reach it bit for bit.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nightbell::model::NativeHistogram;
use nightbell::model::native_histogram::ResetHint;

use super::data::{Recorded, TURN, Value};

/// How long one batch of a remote writer is: Prometheus takes the samples of a series in their
/// order only.
const BATCH: i64 = TURN;

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
        std::fs::write(&config, "global: {evaluation_interval: 1m}\n")
            .expect("the folder is writable");
        let port = crate::servers::free_port();
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
        let deadline = Instant::now() + Duration::from_secs(90);
        while peer
            .ask("/api/v1/query", "query=1")
            .is_none_or(|answer| answer["status"] != "success")
        {
            assert!(Instant::now() < deadline, "Prometheus does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        peer.write(series);
        peer
    }

    fn write(&self, series: &[Recorded]) {
        let times = || {
            series
                .iter()
                .flat_map(|s| s.points.iter().map(|(time, _)| *time))
        };
        let (first, last) = (
            times().min().unwrap_or(0) / TURN * TURN,
            times().max().unwrap_or(0),
        );
        for start in (first..=last).step_by(BATCH as usize) {
            let mut request = Vec::new();
            for one in series {
                let points: Vec<_> = one
                    .points
                    .iter()
                    .filter(|(t, _)| (start..start + BATCH).contains(t))
                    .collect();
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
                let native = points
                    .iter()
                    .any(|(_, value)| matches!(value, Value::Histogram(_)));
                for (time, value) in points {
                    match value {
                        Value::Histogram(histogram) => {
                            bytes(&mut message, 4, &histogram_message(histogram, *time))
                        }
                        // The end of a series of histograms is a histogram, or its order among them
                        // would be lost.
                        Value::Float(value) if native => {
                            let end = NativeHistogram {
                                sum: *value,
                                ..NativeHistogram::default()
                            };
                            bytes(&mut message, 4, &histogram_message(&end, *time));
                        }
                        Value::Float(value) => {
                            let mut sample = Vec::new();
                            double(&mut sample, 1, *value);
                            number(&mut sample, 2, *time as u64);
                            bytes(&mut message, 2, &sample);
                        }
                    }
                }
                bytes(&mut request, 1, &message);
            }
            let (status, said) = self
                .post("/api/v1/write", "application/x-protobuf", &snappy(&request))
                .expect("it answers");
            assert!(
                status.contains(" 204"),
                "{status}: {}",
                String::from_utf8_lossy(&said)
            );
        }
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Option<(String, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .ok()?;
        let encoding = if kind.ends_with("protobuf") {
            "Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n"
        } else {
            ""
        };
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.0\r\nHost: x\r\n{encoding}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
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

/// A float of eight bytes.
fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend(value.to_bits().to_le_bytes());
}

/// A whole number.
fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// The message `Histogram` of remote write 1.0 with counts that are floats
/// (<https://github.com/prometheus/prometheus/blob/main/prompb/types.proto>).
fn histogram_message(histogram: &NativeHistogram, time: i64) -> Vec<u8> {
    let mut out = Vec::new();
    double(&mut out, 2, histogram.count);
    double(&mut out, 3, histogram.sum);
    number(&mut out, 4, zigzag(histogram.schema.into()));
    double(&mut out, 5, histogram.zero_threshold);
    double(&mut out, 7, histogram.zero_count);
    for (side, spans, counts) in [(&histogram.negative, 8, 10), (&histogram.positive, 11, 13)] {
        for span in side.spans() {
            let mut message = Vec::new();
            number(&mut message, 1, zigzag(span.offset.into()));
            number(&mut message, 2, span.length.into());
            bytes(&mut out, spans, &message);
        }
        bytes(
            &mut out,
            counts,
            &side
                .counts()
                .iter()
                .flat_map(|count| count.to_bits().to_le_bytes())
                .collect::<Vec<u8>>(),
        );
    }
    let hint = [
        ResetHint::Unknown,
        ResetHint::Reset,
        ResetHint::NotReset,
        ResetHint::Gauge,
    ]
    .iter()
    .position(|h| *h == histogram.hint);
    number(&mut out, 14, hint.unwrap_or(0) as u64);
    number(&mut out, 15, time as u64);
    bytes(
        &mut out,
        16,
        &histogram
            .bounds
            .iter()
            .flat_map(|bound| bound.to_bits().to_le_bytes())
            .collect::<Vec<u8>>(),
    );
    out
}

/// A length-delimited field of a protobuf message.
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Snappy's block format, everything as literals
/// (<https://github.com/google/snappy/blob/main/format_description.txt>).
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
