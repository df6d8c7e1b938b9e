//! The block `alerting` of a prometheus.yml: Alertmanagers elsewhere that get every alert too.

use std::time::Duration;

use url::Url;

use crate::config::Section;
use crate::http::{Client, HttpConfig};
use crate::remote::alertmanager::Endpoint;
use crate::scrape::{self, RelabelRule};

/// Who else is told.
#[derive(Clone, Default)]
pub struct OutsideAlertmanagers {
    /// Each server.
    pub endpoints: Vec<Endpoint>,
    /// `alert_relabel_configs`.
    pub relabel: Vec<RelabelRule>,
}

/// Reads the block from the root.
pub fn read_alerting(root: &Section<'_>) -> OutsideAlertmanagers {
    let Some(section) = root.section("alerting") else { return OutsideAlertmanagers::default() };
    let relabel = scrape::read_rules(&section, "alert_relabel_configs");
    let endpoints = section.sections("alertmanagers").iter().flat_map(read_servers).collect();
    section.finish();
    OutsideAlertmanagers { endpoints, relabel }
}

fn read_servers(section: &Section<'_>) -> Vec<Endpoint> {
    let scheme = section.or("scheme", "http".to_owned());
    if !matches!(scheme.as_str(), "http" | "https") {
        section.error("scheme", format!("{scheme:?} is not known"), "give http or https");
    }
    let version = section.or("api_version", "v2".to_owned());
    if version != "v2" {
        section.error("api_version", format!("{version:?} is gone"), "give v2");
    }
    let prefix = section.or("path_prefix", "/".to_owned());
    let timeout = section.or("timeout", Duration::from_secs(10));
    let http = HttpConfig::read(section);
    let client = Client::build(&http).unwrap_or_else(|e| {
        section.error("tls_config", e.to_string(), "check the HTTP settings");
        Client::plain()
    });
    let mut endpoints = Vec::new();
    for group in section.sections("static_configs") {
        for address in group.or("targets", Vec::<String>::new()) {
            match Url::parse(&format!("{scheme}://{address}{}/api/v2/alerts", prefix.trim_end_matches('/'))) {
                Ok(url) if url.has_host() => endpoints.push(Endpoint { url, client: client.clone(), timeout }),
                _ => group.error("targets", format!("{address:?} is not host:port"), "give alertmanager:9093"),
            }
        }
        group.node("labels");
        group.finish();
    }
    for key in ["relabel_configs", "alert_relabel_configs"] {
        if section.node(key).is_some_and(|n| !n.is_null()) {
            section.error(key, "is not supported for a single Alertmanager", "use alerting.alert_relabel_configs");
        }
    }
    section.finish();
    endpoints
}
