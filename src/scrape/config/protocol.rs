//! `scrape_protocols`: the formats that a target is asked for, and how a page is written.

use crate::config::Section;
use crate::model::text::nearest;
use crate::scrape::Format;

use super::names::Escaping;

/// A format by the name that `scrape_protocols` gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Protocol {
    /// `OpenMetricsText1.0.0`
    OpenMetrics1,
    /// `OpenMetricsText0.0.1`
    OpenMetrics0,
    /// `PrometheusText1.0.0`
    Text1,
    /// `PrometheusText0.0.4`
    Text0,
    /// `PrometheusProto`, the only one that carries native histograms.
    Protobuf,
}

/// How a page is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// As text.
    Text(Format),
    /// As delimited protobuf.
    Protobuf,
}

const PROTOCOLS: [(&str, Protocol, &str); 5] = [
    (
        "OpenMetricsText1.0.0",
        Protocol::OpenMetrics1,
        "application/openmetrics-text;version=1.0.0",
    ),
    (
        "OpenMetricsText0.0.1",
        Protocol::OpenMetrics0,
        "application/openmetrics-text;version=0.0.1",
    ),
    (
        "PrometheusText1.0.0",
        Protocol::Text1,
        "text/plain;version=1.0.0",
    ),
    (
        "PrometheusText0.0.4",
        Protocol::Text0,
        "text/plain;version=0.0.4",
    ),
    (
        "PrometheusProto",
        Protocol::Protobuf,
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ),
];

/// The order where none is configured: protobuf first where native histograms are wanted, else not
/// at all.
pub(super) fn default_protocols(native: bool) -> Vec<Protocol> {
    let text = [
        Protocol::OpenMetrics1,
        Protocol::OpenMetrics0,
        Protocol::Text1,
        Protocol::Text0,
    ];
    native
        .then_some(Protocol::Protobuf)
        .into_iter()
        .chain(text)
        .collect()
}

/// The `Accept` header for these protocols, falling weights from the first on (SEMANTICS 31).
pub(super) fn accept_header(protocols: &[Protocol], escaping: Escaping) -> String {
    let types = protocols
        .iter()
        .flat_map(|p| PROTOCOLS.iter().find(|(_, q, _)| p == q))
        .map(|(_, p, name)| match p {
            Protocol::OpenMetrics1 | Protocol::Text1 => {
                format!("{name};escaping={}", escaping.as_str())
            }
            _ => (*name).to_owned(),
        });
    let weights = (1..=PROTOCOLS.len() + 1).rev();
    types
        .chain(["*/*".to_owned()])
        .zip(weights)
        .map(|(name, weight)| format!("{name};q=0.{weight}"))
        .collect::<Vec<_>>()
        .join(",")
}

pub(in crate::scrape) fn read_protocols(section: &Section<'_>) -> Vec<Protocol> {
    let words: Vec<String> = section.or("scrape_protocols", Vec::new());
    words
        .iter()
        .filter_map(|word| protocol(section, "scrape_protocols", word))
        .collect()
}

pub(super) fn protocol(section: &Section<'_>, key: &str, word: &str) -> Option<Protocol> {
    let found = PROTOCOLS
        .iter()
        .find(|(name, _, _)| *name == word)
        .map(|(_, p, _)| *p);
    if found.is_none() {
        let remedy = match nearest(word, PROTOCOLS.iter().map(|(n, _, _)| *n)) {
            Some(name) => format!("did you mean {name:?}?"),
            None => format!("known here: {}", PROTOCOLS.map(|(n, _, _)| n).join(", ")),
        };
        section.error(key, format!("unknown protocol {word:?}"), remedy);
    }
    found
}
