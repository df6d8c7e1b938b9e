//! What an endpoint is asked for, by its own keys or by a module of json_exporter.

use std::collections::BTreeMap;

use crate::config::Secret;
use crate::http::HttpConfig;

use super::Metric;

/// What is asked and read, whether our own keys or a module of json_exporter say so.
#[derive(Default)]
pub struct Asked {
    /// How to reach the server.
    pub http: HttpConfig,
    /// Headers of the request.
    pub headers: BTreeMap<String, Secret>,
    /// Its body.
    pub body: Option<Secret>,
    /// Wanted status codes.
    pub statuses: Vec<u16>,
    /// Metrics.
    pub metrics: Vec<Metric>,
}
