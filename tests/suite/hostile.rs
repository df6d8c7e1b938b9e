//! The built binary against those who mean harm, and against bad luck, beside a healthy target of
//! one second. Each module names its kind.

mod actions;
mod browsers;
mod clocks;
mod connections;
mod encrypted;
mod flood;
mod folders;
mod mounts;
mod names;
mod query;
mod shares;
mod standstill;
mod terminals;
mod web;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::servers::nightbell::Nightbell;
use crate::servers::page::serve_page;
use crate::servers::wait_until;

/// A nightbell with these limits that collects `series` series named `m` from a target every
/// second.
fn collecting(series: usize, limits: &str) -> Nightbell {
    let lines: String = (0..series)
        .map(|i| format!("m{{i=\"{i}\"}} {i}\n"))
        .collect();
    let port = serve_page(Box::leak(
        format!("# TYPE m gauge\n{lines}").into_boxed_str(),
    ));
    let nightbell = Nightbell::start(&format!(
        "rules: {{shipped: false}}\nlimits: {{{limits}}}\nglobal: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - job_name: page\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    ));
    wait_until("the target is collected", Duration::from_secs(60), || {
        number(&nightbell, "count(m)") == series as f64
    });
    nightbell
}

/// The value of a query that has one; NaN otherwise.
fn number(nightbell: &Nightbell, query: &str) -> f64 {
    let escaped: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let answer = nightbell.json(&format!("/api/v1/query?query={escaped}"));
    answer["data"]["result"][0]["value"][1]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(f64::NAN)
}

/// Waits until what a holder of memory has of a metric is as it should be.
fn wait_for(nightbell: &Nightbell, metric: &str, holder: &str, is_right: impl Fn(f64) -> bool) {
    wait_until(
        &format!("{metric} of {holder}"),
        Duration::from_secs(60),
        || of_holder(nightbell, metric, holder).is_some_and(&is_right),
    );
}

/// The value of a metric of one holder of memory.
fn of_holder(nightbell: &Nightbell, metric: &str, holder: &str) -> Option<f64> {
    let label = format!("holder=\"{holder}\"");
    let page = nightbell.get("/metrics").1;
    let line = page
        .lines()
        .find(|line| line.starts_with(metric) && line.contains(&label))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// A connection from this address of this machine, whose kernel takes few bytes that are not read.
fn connected(from: &str, port: u16) -> TcpStream {
    let (to, from) = (
        SocketAddr::from(([127, 0, 0, 1], port)),
        SocketAddr::new(from.parse().expect("an address"), 0),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 << 10).expect("a size");
        socket.bind(from).expect("an address of this machine");
        let stream = socket
            .connect(to)
            .await
            .expect("connected")
            .into_std()
            .expect("a stream");
        stream.set_nonblocking(false).expect("blocking");
        stream
    })
}

/// A line of /proc/PID/status in megabytes.
fn megabytes(nightbell: &Nightbell, name: &str) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", nightbell.id())).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .expect("such a line");
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse::<u64>().ok())
        .expect("a number")
        / 1024
}

/// Collections go on: two more samples come.
fn is_collecting(nightbell: &Nightbell) {
    let newest = || number(nightbell, "max(timestamp(up{job=\"page\"}))");
    let before = newest();
    wait_until(
        "the target is collected twice more",
        Duration::from_secs(30),
        || newest() >= before + 2.0,
    );
}
