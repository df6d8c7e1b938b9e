//! Probes from outside: HTTP, TCP and TLS endpoints, under blackbox_exporter's names
//! (<https://github.com/prometheus/blackbox_exporter>).
//!
//! A target that fails is a measurement, not a failure of the collector: `probe_success` is 0, and
//! `probe_failure_info` says why.

mod certificate;
mod connection;
mod dns;
mod dns_message;
mod expectation;
mod grpc;
mod http;
mod icmp;
mod metrics;
mod modules;
mod report;
mod settings;
mod tcp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use crate::config::Section;
use crate::model::Batch;

use super::{CollectError, Collector, CollectorKind, Target};
use connection::Connector;
use report::{Failure, Reason, Report};

pub use modules::{Module, Modules};

/// The kind's row in the table of collectors.
pub const KIND: CollectorKind = CollectorKind {
    name: "probe",
    about: "endpoints seen from outside: HTTP status, body, JSON, phases, TLS certificates; TCP ports and dialogues; DNS; ICMP; gRPC health",
    metrics: &[metrics::METRICS],
    build,
};

/// How the target is asked.
#[derive(Clone)]
enum Prober {
    Http(Box<http::HttpProbe>),
    Tcp(tcp::TcpProbe),
    Dns(Box<dns::DnsProbe>),
    Icmp(icmp::IcmpProbe),
    Grpc(grpc::GrpcProbe),
}

impl Prober {
    /// Asks once, and pushes what was found; the error says why the probe failed.
    async fn run(
        &self,
        connector: &Connector,
        deadline: Duration,
        address: &str,
        batch: &mut Batch,
    ) -> Result<(), Failure> {
        let mut report = Report::default();
        let start = Instant::now();
        let run = async {
            match self {
                Prober::Http(probe) => probe.run(connector, &mut report).await,
                Prober::Tcp(probe) => probe.run(connector, &mut report).await,
                Prober::Dns(probe) => probe.run(connector, &mut report).await,
                Prober::Icmp(probe) => probe.run(connector, &mut report).await,
                Prober::Grpc(probe) => probe.run(connector, &mut report).await,
            }
        };
        let late = || Failure::new(Reason::Timeout, "no answer in time");
        let result = tokio::time::timeout(deadline, run)
            .await
            .unwrap_or_else(|_| Err(late()));
        batch.push(&metrics::DURATION, &[], start.elapsed().as_secs_f64());
        batch.push(&metrics::TIMEOUT, &[], deadline.as_secs_f64());
        report.push(result.as_ref().err(), address, batch);
        result
    }
}

struct Probe {
    address: String,
    prober: Prober,
    /// `None` only after a mistake in the configuration.
    connector: Option<Arc<Connector>>,
    deadline: Duration,
    /// The failure that was logged last.
    failing: Option<Failure>,
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    // A little less than the loop allows, so that the result is not lost.
    let deadline = target.timeout.mul_f64(0.95);
    Box::new(match section.get::<PathBuf>("modules_file") {
        Some(file) => modules::probe(section, &file, deadline),
        None => settings::read(section, deadline),
    })
}

impl Collector for Probe {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        Box::pin(async move {
            let connector = self
                .connector
                .as_ref()
                .ok_or_else(|| CollectError::new("the TLS settings cannot be used"))?;
            let result = self
                .prober
                .run(connector, self.deadline, &self.address, batch)
                .await;
            self.log(result.err());
            Ok(())
        })
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

impl Probe {
    /// Says once when the target begins to fail, fails for another reason, and is well again.
    fn log(&mut self, failure: Option<Failure>) {
        let target = &self.address;
        match (&failure, &self.failing) {
            (Some(now), before)
                if before
                    .as_ref()
                    .is_none_or(|before| before.reason != now.reason) =>
            {
                tracing::warn!(collector = "probe", target, error = %now, "Probe failed.");
            }
            (None, Some(_)) => tracing::info!(collector = "probe", target, "Probe succeeds again."),
            _ => {}
        }
        self.failing = failure;
    }
}
