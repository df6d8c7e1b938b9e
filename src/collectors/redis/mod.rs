//! Redis 2.8 and later, Valkey and KeyDB: INFO, configuration, slow log, latency, and the keys that
//! the configuration names.
//!
//! Names, types and labels are those of redis_exporter 1.86, so that its dashboards and rules work.
//! It needs an ACL user with `+ping +info`; what other missing rules cost is a metric and one line
//! in the log. It reads no value of any key. One connection stays open; every collection has one
//! deadline.

mod client;
mod clients;
mod config;
mod connect;
mod fields;
mod info;
mod keys;
mod parts;
mod samples;
mod settings;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use crate::config::Section;
use crate::http::{Followed, TlsConfig, client_config};
use crate::model::MetricKind::{Counter, Gauge};
use crate::model::{Batch, Timestamp};

use super::{CollectError, Collector, CollectorKind, Target};
pub(super) use client::{Connection, Reply};
pub(super) use config::Config;
pub(super) use connect::open;
use info::Learned;
use keys::Keys;
use parts::Parts;

/// The collector `redis`.
pub const KIND: CollectorKind = CollectorKind {
    name: "redis",
    about: "a Redis or Valkey server: memory, clients, commands, keyspace, persistence, replication, slow log, latency",
    metrics: &[
        METRICS,
        &fields::METRICS,
        &info::METRICS,
        settings::METRICS,
        keys::METRICS,
        &clients::METRICS,
    ],
    build,
};

metrics! {
    UP "redis_up" Gauge "" &[], "1 when the server answered.", "nightbell";
    PING_DURATION_SECONDS "redis_ping_duration_seconds" Gauge "seconds" &[], "Time that PING took.", "nightbell";
    LAST_SCRAPE_PING_TIME_SECONDS "redis_exporter_last_scrape_ping_time_seconds" Gauge "seconds" &[], "The established name of redis_ping_duration_seconds.", "nightbell";
    LAST_SCRAPE_CONNECT_TIME_SECONDS "redis_exporter_last_scrape_connect_time_seconds" Gauge "seconds" &[], "Time the last connect took, login included.", "nightbell";
    LAST_SCRAPE_DURATION_SECONDS "redis_exporter_last_scrape_duration_seconds" Gauge "seconds" &[], "Time the last collection took.", "nightbell";
    LAST_SCRAPE_ERROR "redis_exporter_last_scrape_error" Gauge "" &[], "1 when the last collection failed, in whole or in part.", "nightbell";
    PERMISSION_DENIED "redis_collector_permission_denied" Gauge "" &["part"], "1 when the access rules refuse this part.", "nightbell";
    PART_SUCCESS "redis_collector_part_success" Gauge "" &["part"], "1 when this part could be read.", "nightbell";
    FAILURE_INFO "redis_failure_info" Gauge "" &["url", "message"], "Why the server is down and where it is, always 1; absent while it is up.", "nightbell";
    BUILD_INFO "redis_exporter_build_info" Gauge "" &["version"], "The version of this collector, always 1.", "nightbell";
    SCRAPES_TOTAL "redis_exporter_scrapes_total" Counter "" &[], "Collections since the start.", "nightbell";
}

/// How long settings are repeated before they are read again.
const SETTINGS_INTERVAL: Duration = Duration::from_secs(60);

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let config = Config::read(section);
    Box::new(Redis {
        keys: config.as_ref().map(Keys::new),
        config: config.map(Arc::new),
        target: target.clone(),
        tls: None,
        followed: None,
        connection: None,
        connected: Duration::ZERO,
        reader: info::Reader::new(),
        round: 0,
        collections: 0,
        settings: Batch::new(),
        databases: 0,
        warned: None,
        failing: None,
        served: false,
    })
}

struct Redis {
    config: Option<Arc<Config>>,
    target: Target,
    tls: Option<Arc<ClientConfig>>,
    /// The files of its TLS.
    followed: Option<Followed>,
    /// Taken out while in use: a collection that is cut off leaves no half-read connection behind.
    connection: Option<Connection>,
    /// How long the last connect took.
    connected: Duration,
    reader: info::Reader,
    keys: Option<Keys>,
    /// Collections since the settings were read first on this connection.
    round: u32,
    /// Collections since the start.
    collections: u64,
    /// What CONFIG GET said, repeated until it is asked again.
    settings: Batch,
    databases: usize,
    /// The missing rules that were last logged.
    warned: Option<(String, String)>,
    /// What failed, as it was last logged.
    failing: Option<String>,
    /// Whether this collection has what INFO answers, or why not.
    served: bool,
}

impl Collector for Redis {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let Some(config) = self.config.clone() else {
                return Err(CollectError::new("not configured: url is missing"));
            };
            let started = Instant::now();
            // A tenth is kept back so that redis_up can still be said before the loop's own
            // deadline.
            let deadline = started + self.target.timeout.mul_f64(0.9);
            let mut parts = Parts::default();
            self.served = false;
            let measured = timeout_at(deadline, self.measure(&config, batch, &mut parts)).await;
            let result = match measured {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string().replace('\n', " ")),
                // It answered what matters most: what the deadline cut off is a part.
                Err(_) if self.served => {
                    parts.fail("keys", "timed out");
                    Ok(())
                }
                Err(_) => Err("timed out".to_owned()),
            };
            let flag = |value: bool| f64::from(u8::from(value));
            batch.push(&UP, &[], flag(result.is_ok()));
            // A server that answers is up; what it does not answer is said of the part.
            let failure = parts.failure().filter(|_| result.is_ok());
            for (part, read) in parts.read().filter(|_| result.is_ok()) {
                batch.push(&PART_SUCCESS, &[("part", part)], flag(read));
            }
            batch.push(
                &LAST_SCRAPE_DURATION_SECONDS,
                &[],
                started.elapsed().as_secs_f64(),
            );
            batch.push(
                &LAST_SCRAPE_ERROR,
                &[],
                flag(result.is_err() || failure.is_some()),
            );
            if let Err(error) = &result {
                batch.push(
                    &FAILURE_INFO,
                    &[("url", &config.address()), ("message", brief(error))],
                    1.0,
                );
            }
            batch.push(&BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
            self.collections += 1;
            batch.push(&SCRAPES_TOTAL, &[], self.collections as f64);
            self.log(failure);
            result.map_err(CollectError::new)
        }
        .boxed()
    }

    fn address(&self) -> String {
        self.config
            .as_ref()
            .map(|c| c.address())
            .unwrap_or_default()
    }
}

impl Redis {
    async fn measure(
        &mut self,
        config: &Config,
        batch: &mut Batch,
        parts: &mut Parts,
    ) -> io::Result<()> {
        let (mut connection, ping) = self.reach(config).await?;
        batch.push(&PING_DURATION_SECONDS, &[], ping.as_secs_f64());
        batch.push(&LAST_SCRAPE_PING_TIME_SECONDS, &[], ping.as_secs_f64());
        batch.push(
            &LAST_SCRAPE_CONNECT_TIME_SECONDS,
            &[],
            self.connected.as_secs_f64(),
        );
        let rounds = (SETTINGS_INTERVAL.as_secs_f64()
            / self.target.interval.as_secs_f64().max(0.001))
        .round()
        .clamp(1.0, 1e6) as u32;
        if self.round.is_multiple_of(rounds) {
            self.read_settings(config, &mut connection, parts).await?;
        }
        self.round = self.round.wrapping_add(1);
        batch.append(self.settings.clone());
        let learned = self.read_server(&mut connection, parts, batch).await?;
        self.served = true;
        if learned.cluster {
            let replies = connection.call(&[&["CLUSTER", "INFO"]]).await?;
            for reply in replies
                .into_iter()
                .filter_map(|reply| parts.accept("cluster", reply))
            {
                self.reader
                    .read_cluster(reply.text().unwrap_or_default(), batch);
            }
        }
        if config.client_metrics {
            list_clients(&mut connection, parts, batch).await?;
        }
        if let Some(keys) = &mut self.keys {
            keys.measure(config, &mut connection, parts, batch).await?;
        }
        for (part, denied) in parts.denied() {
            batch.push(
                &PERMISSION_DENIED,
                &[("part", part)],
                f64::from(u8::from(denied)),
            );
        }
        self.warn(config, parts);
        self.connection = Some(connection);
        Ok(())
    }

    /// An open connection that has answered a PING, and how long that took. One that has died since
    /// the last time is replaced at once.
    async fn reach(&mut self, config: &Config) -> io::Result<(Connection, Duration)> {
        if let Some(mut connection) = self.connection.take() {
            let asked = Instant::now();
            // A connection that a firewall has forgotten is silent: then there is time for a new
            // one.
            if let Ok(Ok(replies)) = tokio::time::timeout(
                self.target.timeout.mul_f64(0.3),
                connection.call(&[&["PING"]]),
            )
            .await
            {
                check(replies.first(), config)?;
                return Ok((connection, asked.elapsed()));
            }
        }
        self.round = 0;
        if let Some(tls) = &config.tls {
            let made = |tls: &TlsConfig| client_config(tls).map(Arc::new);
            let followed = self
                .followed
                .get_or_insert_with(|| Followed::new(tls.clone()));
            if let Some(renewed) = followed.look(made) {
                self.tls = Some(renewed);
            } else if self.tls.is_none() {
                self.tls = Some(
                    made(tls)
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
                );
            }
        }
        let started = Instant::now();
        let mut connection = connect::open(config, self.tls.as_ref())
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("connect: {e}")))?;
        self.connected = started.elapsed();
        let asked = Instant::now();
        check(connection.call(&[&["PING"]]).await?.first(), config)?;
        Ok((connection, asked.elapsed()))
    }

    async fn read_settings(
        &mut self,
        config: &Config,
        connection: &mut Connection,
        parts: &mut Parts,
    ) -> io::Result<()> {
        // One command each: before Redis 7 CONFIG GET takes one name only.
        let words = settings::SETTINGS.map(|name| ["CONFIG", "GET", name]);
        let commands: Vec<&[&str]> = words.iter().map(<[&str; 3]>::as_slice).collect();
        let mut batch = Batch::new();
        for reply in connection.call(&commands).await? {
            if let Some(databases) = parts
                .accept("config", reply)
                .and_then(|reply| settings::read_setting(&reply, &mut batch))
            {
                // A server may be built for many thousands; beyond these only those with keys are
                // shown.
                self.databases = if databases <= 64 { databases } else { 0 };
            }
        }
        if config.config_metrics {
            let replies = connection.call(&[&["CONFIG", "GET", "*"]]).await?;
            for all in replies
                .into_iter()
                .filter_map(|reply| parts.accept("config", reply))
            {
                settings::read_all(&all, &mut batch);
            }
        }
        self.settings = batch;
        Ok(())
    }

    async fn read_server(
        &mut self,
        connection: &mut Connection,
        parts: &mut Parts,
        batch: &mut Batch,
    ) -> io::Result<Learned> {
        let commands: [&[&str]; 5] = [
            &["INFO", "ALL"],
            &["SLOWLOG", "LEN"],
            &["SLOWLOG", "GET", "1"],
            &["LATENCY", "LATEST"],
            &["LATENCY", "HISTOGRAM"],
        ];
        let replies = connection.call(&commands).await?;
        let names = ["info", "slowlog", "slowlog", "latency", "latency"];
        let accepted: Vec<Option<Reply>> = names
            .iter()
            .zip(replies)
            .map(|(part, reply)| parts.accept(part, reply))
            .collect();
        let [info, length, slow, spikes, histograms] = accepted.as_slice() else {
            return Ok(Learned::default());
        };
        let text = info.as_ref().and_then(Reply::text);
        if info.is_some() && text.is_none() {
            parts.fail("info", "the answer is not a text");
        }
        let learned = text
            .map(|text| self.reader.read(text, self.databases, batch))
            .unwrap_or_default();
        settings::read_slow_log(length.as_ref(), slow.as_ref(), batch);
        if let Some(spikes) = spikes {
            settings::read_spikes(spikes, batch);
        }
        if let Some(histograms) = histograms {
            settings::read_histograms(histograms, &learned, batch);
        }
        Ok(learned)
    }

    /// One line in the log when parts begin to fail, fail in another way, and are there again.
    fn log(&mut self, failure: Option<String>) {
        match &failure {
            Some(error) if self.failing != failure => {
                tracing::warn!(collector = "redis", target = %self.target.name, %error, "Part of the server cannot be read.");
            }
            None if self.failing.is_some() => {
                tracing::info!(collector = "redis", target = %self.target.name, "Every part of the server can be read again.");
            }
            _ => {}
        }
        self.failing = failure;
    }

    /// One line in the log when the missing rules are not those that were last logged.
    fn warn(&mut self, config: &Config, parts: &Parts) {
        let missing = parts.missing_rules(config.user.as_deref().unwrap_or("default"));
        if missing != self.warned {
            if let Some((grant, cost)) = &missing {
                tracing::warn!(collector = "redis", target = %self.target.name, %grant, %cost, "A privilege is missing.");
            }
            self.warned = missing;
        }
    }
}

/// Shows the clients one by one, unless there are so many that asking for them would be felt.
async fn list_clients(
    connection: &mut Connection,
    parts: &mut Parts,
    batch: &mut Batch,
) -> io::Result<()> {
    let connected = batch
        .families
        .get("redis_connected_clients")
        .and_then(|family| family.samples.first())
        .map(|sample| sample.value);
    if connected.is_some_and(|connected| connected > clients::MAX_LISTED) {
        parts.fail(
            "clients",
            &format!("there are more than {} clients", clients::MAX_LISTED),
        );
        return Ok(());
    }
    for list in connection.call(&[&["CLIENT", "LIST"]]).await? {
        if let Some(list) = parts.accept("clients", list) {
            clients::read(&list, Timestamp::now(), batch);
        }
    }
    Ok(())
}

/// A failure for an alert's text. It labels a series, so it holds nothing that is different each
/// time.
fn brief(error: &str) -> &str {
    // It names the time of the check.
    if error.contains("certificate") {
        return "connect: the certificate is not trusted or has expired";
    }
    error
        .char_indices()
        .nth(160)
        .map_or(error, |(end, _)| &error[..end])
}

/// Whether the answer to PING says that we may go on. A server that is loading its data, or a
/// replica without its primary, answers too.
fn check(reply: Option<&Reply>, config: &Config) -> io::Result<()> {
    match reply {
        Some(Reply::Error(error))
            if !["LOADING", "MASTERDOWN", "BUSY", "NOPERM"]
                .iter()
                .any(|word| error.starts_with(word)) =>
        {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("ping: {}", config.password.redact(error)),
            ))
        }
        _ => Ok(()),
    }
}
