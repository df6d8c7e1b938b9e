//! nightbell: one binary that measures a host and its services, judges the measurements with
//! Prometheus rules, and rings the bell.
//!
//! The modules stand on floors; each imports only from floors below its own. See `ARCHITECTURE.md`.

pub mod alerting;
pub mod app;
pub mod chart;
pub mod cli;
pub mod collectors;
pub mod http;
pub mod maintenance;
pub mod net;
pub mod notify;
pub mod remote;
pub mod report;
pub mod rules;
pub mod scrape;
pub mod state;
pub mod template;
pub mod web;

pub use nightbell_engine::{config, exposition, model, promql, store, telemetry};
