//! How each part fared: our own metrics about the collection, and what missing privileges cost.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Batch, MetricDesc, MetricKind};

use super::part::Part;
use super::session::Server;

const fn desc(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDesc {
    MetricDesc {
        name,
        kind: MetricKind::Gauge,
        unit,
        help,
        labels,
        source: "nightbell",
    }
}

/// Metrics about the collection itself.
pub static METRICS: [MetricDesc; 12] = [
    desc(
        "pg_up",
        "",
        "1 when the server accepted the connection and answered a query.",
        &[],
    ),
    desc(
        "pg_connect_duration_seconds",
        "seconds",
        "Time the last connect took, login included.",
        &[],
    ),
    desc(
        "pg_query_duration_seconds",
        "seconds",
        "Time that SELECT 1 took.",
        &[],
    ),
    desc(
        "pg_scrape_collector_success",
        "",
        "1 when this part was read.",
        &["collector"],
    ),
    desc(
        "pg_scrape_collector_duration_seconds",
        "seconds",
        "Time that reading this part took.",
        &["collector"],
    ),
    desc(
        "pg_collector_permission_denied",
        "",
        "1 when a missing privilege costs some or all of this part.",
        &["part"],
    ),
    desc(
        "pg_collector_rows_dropped",
        "",
        "Rows that the limit of this part left out.",
        &["part"],
    ),
    desc(
        "pg_collector_databases_skipped",
        "",
        "Databases not looked into for tables and indexes: beyond the limit, not allowed or refused, failed.",
        &["reason"],
    ),
    desc(
        "pg_exporter_last_scrape_error",
        "",
        "1 when the last collection failed, in whole or in part.",
        &[],
    ),
    desc(
        "pg_exporter_last_scrape_duration_seconds",
        "seconds",
        "Time the last collection took.",
        &[],
    ),
    desc(
        "postgres_exporter_build_info",
        "",
        "1; the labels are nightbell's, under the name that dashboards of postgres_exporter ask for.",
        &[
            "branch",
            "goarch",
            "goos",
            "goversion",
            "revision",
            "tags",
            "version",
        ],
    ),
    MetricDesc {
        name: "pg_exporter_scrapes_total",
        kind: MetricKind::Counter,
        unit: "",
        help: "Collections since the start.",
        labels: &[],
        source: "nightbell",
    },
];

/// The labels of `postgres_exporter_build_info`.
pub const BUILD: [(&str, &str); 7] = [
    ("branch", ""),
    ("goarch", std::env::consts::ARCH),
    ("goos", std::env::consts::OS),
    ("goversion", ""),
    ("revision", ""),
    ("tags", "nightbell"),
    ("version", env!("CARGO_PKG_VERSION")),
];

/// How one part fared the last time it was asked.
#[derive(Clone, Copy, Debug)]
pub struct PartHealth {
    /// Whether it was read; a part that is denied is not.
    pub success: bool,
    /// How long that took, over all databases.
    pub duration: Duration,
    /// Whether a privilege is missing; `None` for a part that needs none.
    pub denied: Option<bool>,
    /// Rows left out; `None` for a part without a limit.
    pub dropped: Option<f64>,
}

impl PartHealth {
    /// Before the first query of a round.
    pub fn new(part: &Part) -> Self {
        PartHealth {
            success: true,
            duration: Duration::ZERO,
            denied: part.grant.map(|_| false),
            dropped: part.limit.map(|_| 0.0),
        }
    }
}

/// How every part fared.
pub type Health = BTreeMap<&'static str, PartHealth>;

/// Emits [`METRICS`] about the parts.
pub fn push(health: &Health, batch: &mut Batch) {
    let [_, _, _, success, duration, denied, dropped, ..] = &METRICS;
    for (part, state) in health {
        batch.push(
            success,
            &[("collector", part)],
            f64::from(u8::from(state.success)),
        );
        batch.push(
            duration,
            &[("collector", part)],
            state.duration.as_secs_f64(),
        );
        if let Some(value) = state.denied {
            batch.push(denied, &[("part", part)], f64::from(u8::from(value)));
        }
        if let Some(value) = state.dropped {
            batch.push(dropped, &[("part", part)], value);
        }
    }
}

/// The statement that would complete the picture and what is missing without it; `None` when
/// nothing is.
pub fn missing_grant(parts: &[&'static Part], server: &Server) -> Option<(String, String)> {
    let costs: Vec<String> = parts
        .iter()
        .filter_map(|part| {
            part.grant
                .filter(|grant| !server.holds(grant))
                .map(|grant| format!("{}: {}", part.name, grant.cost))
        })
        .collect();
    if costs.is_empty() {
        return None;
    }
    Some((
        format!(
            "GRANT pg_monitor TO \"{}\"",
            server.role.replace('"', "\"\"")
        ),
        costs.join("; "),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::PARTS;
    use super::*;

    #[test]
    fn a_role_without_privileges_learns_the_one_grant_it_needs() {
        let mut server = Server::default();
        server.role = "we\"ird".into();
        let (grant, cost) = missing_grant(PARTS, &server).expect("something is missing");
        assert_eq!(grant, "GRANT pg_monitor TO \"we\"\"ird\"");
        assert!(
            cost.contains("wal: number and size of the log's files"),
            "{cost}"
        );
    }
}
