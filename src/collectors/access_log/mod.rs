//! Access logs: requests by method and status under the names of a metrics endpoint, so that the
//! rules for applications work for one that has none; bytes, durations where they are logged,
//! clients that send more than a limit, and logins that failed (`format: auth`).
//!
//! Files are followed as by [`super::log_file`]. Addresses are personal data: they are kept for the
//! window of `clients` at most, a day, and what is shown of one is its network unless the
//! configuration asks for more.

mod clients;
mod format;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use memchr::memchr;
use serde::{Deserialize, Serialize};

use crate::config::Section;
use crate::model::MetricKind::{Counter, Gauge, Histogram};
use crate::model::{Batch, Timestamp};

use super::log_file::collector::{LogCollector, Looked};
use super::log_file::follow::Sink;
use super::log_file::journal::Style;
use super::log_file::reader::{Reader, Totals};
use super::log_file::reading;
use super::log_file::settings::Files;
use super::{Collector, CollectorKind, Target};
use clients::{Clients, Network, sender};
use format::{Format, failed_login, method_label};

/// The collector `access_log`.
pub const KIND: CollectorKind = CollectorKind {
    name: "access_log",
    about: "access logs of nginx and its like, and auth.log: requests by method and status, durations, busy clients, failed logins",
    metrics: &[METRICS, reading::METRICS],
    build,
};

metrics! {
    REQUESTS "http_requests_total" Counter "" &["method", "status"], "Requests by method and status.", "the access log";
    DURATION "http_request_duration_seconds" Histogram "seconds" &[], "How long requests took, where the log says so.", "$request_time";
    BYTES "http_response_bytes_total" Counter "bytes" &[], "Bytes of the answers' bodies.", "$body_bytes_sent";
    ODD "access_log_odd_lines_total" Counter "" &[], "Lines that are not in the format.", "the access log";
    CLIENTS "access_log_clients_above_limit" Gauge "" &[], "Clients that sent more than the limit in the window that runs.", "the access log";
    CLIENT "access_log_client_requests" Gauge "" &["client"], "Requests of a client above the limit in the window that runs, at least; IPv6 by /64. Of an address its network is shown unless addresses is full.", "the access log";
    LOGINS "login_failures_total" Counter "" &["source"], "Logins that failed, by program.", "auth.log, the journal";
}

/// Upper bounds of durations, in seconds.
const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Clients that have a series at most.
const MAX_CLIENTS: usize = 20;
/// Addresses are kept no longer.
const DAY: Duration = Duration::from_secs(86_400);

struct Settings {
    files: Files,
    format: Format,
    trusted: Vec<Network>,
    limit: u64,
    window: Duration,
    /// Methods that count for a client; none for all.
    methods: Vec<String>,
    full: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Counts {
    requests: BTreeMap<String, BTreeMap<u16, u64>>,
    bytes: u64,
    buckets: Vec<u64>,
    seconds: f64,
    odd: u64,
    logins: BTreeMap<String, u64>,
    clients: Clients,
    totals: Totals,
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let text = section.or("format", "combined".to_owned());
    let format = Format::parse(&text).unwrap_or_else(|problem| {
        section.error(
            "format",
            problem,
            "give combined, common, json, auth, or nginx's log_format as it is",
        );
        Format::Logins
    });
    let mut trusted = Vec::new();
    for proxy in section.or("trusted_proxies", Vec::<String>::new()) {
        match Network::parse(&proxy) {
            Some(network) => trusted.push(network),
            None => section.error(
                "trusted_proxies",
                format!("{proxy:?} is no network"),
                "give addresses or networks: [127.0.0.1, 10.0.0.0/8]",
            ),
        }
    }
    let clients = section.section("clients");
    let of = clients.as_ref();
    let window = of.map_or(DAY, |s| s.or("window", DAY));
    let addresses = of.map_or_else(String::new, |s| s.or("addresses", "network".to_owned()));
    if let Some(section) = of {
        if window > DAY || window < Duration::from_secs(60) {
            section.error(
                "window",
                "is not between a minute and a day",
                "give 24h at most: addresses are personal data",
            );
        }
        if !matches!(addresses.as_str(), "network" | "full") {
            section.error(
                "addresses",
                format!("{addresses:?} is not known"),
                "give network or full",
            );
        }
    }
    let mut files = Files::read(section);
    if let (Some(journal), Format::Logins) = (&mut files.journal, &format) {
        journal.style = Style::Syslog;
    }
    let settings = Settings {
        files,
        trusted,
        limit: of.map_or(100, |s| s.or("above", 100)),
        window,
        methods: of.map_or_else(
            || vec!["POST".into()],
            |s| s.or("methods", vec!["POST".to_owned()]),
        ),
        full: addresses == "full",
        format,
    };
    clients.iter().for_each(Section::finish);
    let files = settings.files.clone();
    Box::new(LogCollector::new(files, target, move |reader, time| {
        measure(reader, &settings, time)
    }))
}

struct Requests<'a> {
    settings: &'a Settings,
    counts: &'a mut Counts,
}

impl Sink for Requests<'_> {
    fn lines(&mut self, lines: &[u8], _: &mut bool) {
        let mut inner = Vec::new();
        let mut rest = lines;
        if let Some(envelope) = self.settings.files.envelope {
            envelope.open(lines, &mut inner);
            rest = &inner;
        }
        while let Some(end) = memchr(b'\n', rest) {
            self.line(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]));
            rest = &rest[end + 1..];
        }
    }

    fn cut(&mut self, begin: &[u8], _: &mut bool) {
        self.counts.totals.cut += 1;
        self.line(&begin[..begin.len().min(4096)]);
    }
}

impl Requests<'_> {
    fn line(&mut self, line: &[u8]) {
        let counts = &mut *self.counts;
        if line.is_empty() {
            return;
        }
        if matches!(self.settings.format, Format::Logins) {
            if let Some((source, client)) = failed_login(line) {
                *counts.logins.entry(source.to_owned()).or_default() += 1;
                sender(client.as_bytes(), b"", &[])
                    .into_iter()
                    .for_each(|client| counts.clients.add(client));
            }
            return;
        }
        let Some(request) = self.settings.format.read(line) else {
            counts.odd += 1;
            return;
        };
        let method = method_label(request.method);
        if !counts.requests.contains_key(method) {
            counts.requests.insert(method.to_owned(), BTreeMap::new());
        }
        if let Some(by_status) = counts.requests.get_mut(method) {
            *by_status.entry(request.status).or_default() += 1;
        }
        counts.bytes += request.bytes;
        if let Some(seconds) = request
            .seconds
            .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
        {
            counts.buckets.resize(BUCKETS.len() + 1, 0);
            counts.buckets[BUCKETS.partition_point(|bound| *bound < seconds)] += 1;
            counts.seconds += seconds;
        }
        let methods = &self.settings.methods;
        if (methods.is_empty()
            || methods
                .iter()
                .any(|wanted| wanted.as_bytes() == request.method))
            && let Some(client) = sender(request.client, request.forwarded, &self.settings.trusted)
        {
            counts.clients.add(client);
        }
    }
}

fn measure(reader: &mut Reader<Counts>, settings: &Settings, time: Duration) -> Looked {
    let (now_ms, window_ms) = (
        Timestamp::now().0,
        i64::try_from(settings.window.as_millis()).unwrap_or(i64::MAX),
    );
    let mut seen = reader.look(time, &mut |counts, read| {
        counts.clients.turn(now_ms, window_ms);
        read(&mut Requests { settings, counts });
    });
    reader.counts.totals.add(&seen, true);
    seen.saved = reader.save();
    let (counts, mut batch) = (&reader.counts, Batch::new());
    if matches!(settings.format, Format::Logins) {
        for source in ["sshd", "sudo", "su", "login", "other"] {
            batch.push(
                &LOGINS,
                &[("source", source)],
                counts.logins.get(source).copied().unwrap_or(0) as f64,
            );
        }
    } else {
        // A series that is there from the first look on: its first failure is an increase.
        for (method, status) in [("GET", 200), ("POST", 200), ("GET", 500), ("POST", 500)] {
            if counts
                .requests
                .get(method)
                .is_none_or(|by| !by.contains_key(&status))
            {
                batch.push(
                    &REQUESTS,
                    &[("method", method), ("status", &status.to_string())],
                    0.0,
                );
            }
        }
        for (method, by_status) in &counts.requests {
            for (status, count) in by_status {
                batch.push(
                    &REQUESTS,
                    &[("method", method), ("status", &status.to_string())],
                    *count as f64,
                );
            }
        }
        batch.push(&BYTES, &[], counts.bytes as f64);
        batch.push(&ODD, &[], counts.odd as f64);
        if !counts.buckets.is_empty() {
            batch.push_buckets(&DURATION, &[], &BUCKETS, &counts.buckets, counts.seconds);
        }
    }
    let above = counts.clients.above(settings.limit);
    batch.push(&CLIENTS, &[], above.len() as f64);
    let mut shown: BTreeMap<String, u64> = BTreeMap::new();
    for (client, count) in above.into_iter().take(MAX_CLIENTS) {
        let most = shown
            .entry(client_label(client, settings.full))
            .or_default();
        *most = count.max(*most);
    }
    for (client, count) in shown {
        batch.push(&CLIENT, &[("client", &client)], count as f64);
    }
    reading::show(&counts.totals, &seen, &mut batch);
    (batch, seen.problem)
}

/// What is shown of an address.
fn client_label(client: IpAddr, full: bool) -> String {
    match client {
        IpAddr::V4(v4) if full => v4.to_string(),
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) if full => format!("{v6}/64"),
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}
