//! Sensors: each kind measures one sort of thing and fills a [`Batch`]. They know neither the store
//! nor each other.
//!
//! To add one, copy the nearest file, export `KIND`, and list it in [`COLLECTORS`].

/// Constants for a table of metrics, and `METRICS`, the table: identifier, name, kind, unit,
/// labels, help, source.
macro_rules! metrics {
    ($($id:ident $name:literal $kind:ident $unit:literal $labels:expr, $help:literal, $source:literal;)*) => {
        $(pub const $id: $crate::model::MetricDesc =
            $crate::model::MetricDesc { name: $name, kind: $kind, unit: $unit, help: $help, labels: $labels, source: $source };)*
        /// Every metric of this collector.
        pub const METRICS: &[$crate::model::MetricDesc] = &[$($id),*];
    };
}

mod access_log;
mod backup;
mod container;
mod directory;
mod file_integrity;
mod folder;
mod gen_ai;
mod host;
pub mod job;
mod json_api;
mod llm_provider;
pub mod llm_proxy;
mod llm_server;
mod log_file;
mod memory;
mod mysql;
mod object_storage;
pub mod otlp;
mod postgres;
mod probe;
mod programs;
mod redis;
mod restore_test;
mod retrieval;
pub mod schedule;
mod sql;
mod sqlite;
mod supervisor;
mod updates;
mod vector_store;
mod walk;

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::config::Section;
use crate::model::{Batch, MetricDesc};

pub use memory::{Memory, StateFolder};
pub use postgres::STATEMENT_TEXT;
pub use probe::{Module as ProbeModule, Modules as ProbeModules};

/// A kind of collector: data plus one function. `build` does no I/O beyond reading files that the
/// section names.
pub struct CollectorKind {
    /// The configuration key, the `collector` label, the name of the file, of `rules/<name>.yml`
    /// and `dashboards/<name>.json`.
    pub name: &'static str,
    /// One sentence: what it watches.
    pub about: &'static str,
    /// Every metric it can emit; empty only where the configuration chooses the names.
    pub metrics: &'static [&'static [MetricDesc]],
    /// Reads its keys from the section (not `name`, `interval`, `timeout`, `labels`, which the
    /// scrape loop reads) and records mistakes there.
    pub build: fn(&Section<'_>, &Target) -> Box<dyn Collector>,
}

/// What the scrape loop tells a collector about the target it is built for.
#[derive(Clone, Debug)]
pub struct Target {
    /// The configured (or derived) name: the `target` label of our own metrics, the `instance`
    /// label of all.
    pub name: String,
    /// Time between collections.
    pub interval: Duration,
    /// Deadline of one collection; the loop enforces it, a collector uses it for its own calls.
    pub timeout: Duration,
    /// What the collector remembers across restarts.
    pub memory: Memory,
}

/// One target being measured. The loop owns it, so it keeps state without a lock.
pub trait Collector: Send {
    /// Measures once. Samples pushed before an error are kept; the error makes
    /// `nightbell_collector_success` 0. The loop drops the future at the deadline: what was pushed
    /// until then is kept, and no state may be left half-changed.
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>>;

    /// The last collection counts for nothing, since nightbell itself stood still meanwhile: what
    /// is remembered of its failure is forgotten.
    fn missed(&mut self) {}

    /// Whether samples with a label `job` bring all their labels along, as what was pushed does:
    /// then `job` and `instance` of the target do not replace theirs.
    fn honors_labels(&self) -> bool {
        false
    }

    /// Where the target is, without secrets, for people: `postgres://db1:5432/app`.
    fn address(&self) -> String {
        String::new()
    }

    /// Beginnings of the names of metrics that the configuration, or the target itself, chooses.
    fn chosen(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the last collection found, for people who try the configuration.
    fn report(&self) -> Report {
        Report::default()
    }
}

/// What one collection found beside its samples.
#[derive(Debug, Default)]
pub struct Report {
    /// What could not be read, or not as the configuration's author may expect.
    pub findings: Vec<Finding>,
    /// What the configuration alone asked for: a query's rows.
    pub results: Batch,
}

/// One line about a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether something was not measured that the configuration asks for.
    pub failed: bool,
    /// What, and what helps. One line without secrets.
    pub text: String,
}

/// What collectors say of their target: 0 when it is down.
const UP: [&str; 12] = [
    "json_api_up",
    "llm_server_up",
    "llm_up",
    "log_readable",
    "mysql_up",
    "object_storage_up",
    "pg_up",
    "probe_success",
    "redis_up",
    "sqlite_up",
    "supervisor_up",
    "vectorstore_up",
];

/// Whether a collection found its target down.
pub fn found_down(batch: &Batch) -> bool {
    UP.iter().any(|up| {
        batch
            .families
            .get(*up)
            .is_some_and(|family| family.samples.iter().any(|sample| sample.value == 0.0))
    })
}

/// Why a target is down, as its collector's `*_failure_info` has it.
pub fn why_down(batch: &Batch) -> Option<&str> {
    let info = batch
        .families
        .iter()
        .find(|(name, _)| name.ends_with("_failure_info"))
        .map(|(_, family)| family)?;
    info.samples
        .first()
        .map(|sample| sample.labels.value("message"))
}

/// Why a collection failed. The text is one line without secrets.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct CollectError {
    /// What happened, in words.
    pub reason: String,
}

impl CollectError {
    /// An error with this text.
    pub fn new(reason: impl Into<String>) -> Self {
        CollectError {
            reason: reason.into(),
        }
    }
}

/// Every kind there is, in the order of the reference.
pub const COLLECTORS: &[CollectorKind] = &[
    access_log::KIND,
    backup::KIND,
    container::KIND,
    directory::KIND,
    file_integrity::KIND,
    host::KIND,
    job::KIND,
    json_api::KIND,
    llm_provider::KIND,
    llm_proxy::KIND,
    llm_server::KIND,
    log_file::KIND,
    mysql::KIND,
    object_storage::KIND,
    otlp::KIND,
    postgres::KIND,
    probe::KIND,
    redis::KIND,
    restore_test::KIND,
    retrieval::KIND,
    sqlite::KIND,
    supervisor::KIND,
    updates::KIND,
    vector_store::KIND,
];
