//! The block `alerting` of a prometheus.yml: Alertmanagers elsewhere that get every alert too.

use std::time::Duration;

use url::Url;

use crate::config::{Section, shown_url};
use crate::http::{Client, HttpConfig};
use crate::model::Labels;
use crate::remote::alertmanager::{Endpoint, Known};
use crate::scrape::{self, RelabelRule, apply_relabelling};

/// Who else gets alerts.
#[derive(Clone, Default)]
pub struct OutsideAlertmanagers {
    /// Each entry of `alertmanagers`.
    pub groups: Vec<OutsideGroup>,
    /// `alert_relabel_configs`, for all of them.
    pub relabel: Vec<RelabelRule>,
    /// The servers, for people.
    pub known: Known,
}

/// Servers that are reached alike.
#[derive(Clone, Default)]
pub struct OutsideGroup {
    /// Each server.
    pub endpoints: Vec<Endpoint>,
    /// Its own `alert_relabel_configs`.
    pub relabel: Vec<RelabelRule>,
}

/// Reads the block from the root.
pub fn read_alerting(root: &Section<'_>) -> OutsideAlertmanagers {
    let Some(section) = root.section("alerting") else {
        return OutsideAlertmanagers::default();
    };
    let relabel = scrape::read_rules(&section, "alert_relabel_configs");
    let mut known = Known::default();
    let groups = section
        .sections("alertmanagers")
        .iter()
        .map(|servers| read_servers(servers, &mut known))
        .collect();
    section.finish();
    OutsideAlertmanagers {
        groups,
        relabel,
        known,
    }
}

fn read_servers(section: &Section<'_>, known: &mut Known) -> OutsideGroup {
    let scheme = section.or("scheme", "http".to_owned());
    if !matches!(scheme.as_str(), "http" | "https") {
        section.error(
            "scheme",
            format!("{scheme:?} is not known"),
            "give http or https",
        );
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
    let rules = scrape::read_rules(section, "relabel_configs");
    let mut endpoints = Vec::new();
    for group in section.sections("static_configs") {
        let more = group.or("labels", Labels::empty());
        for address in group.or("targets", Vec::<String>::new()) {
            let mut labels = more.to_builder();
            labels
                .set("__address__", &address)
                .set("__scheme__", &scheme);
            labels.set(
                "__alerts_path__",
                &format!("{}/api/v2/alerts", prefix.trim_end_matches('/')),
            );
            let kept = apply_relabelling(&rules, &mut labels);
            let part = |name: &str| labels.get(name).unwrap_or_default();
            match Url::parse(&format!(
                "{}://{}{}",
                part("__scheme__"),
                part("__address__"),
                part("__alerts_path__")
            )) {
                Ok(url) if url.has_host() => {
                    let shown = shown_url(url.as_str());
                    if kept {
                        known.active.push(shown);
                        endpoints.push(Endpoint {
                            url,
                            client: client.clone(),
                            timeout,
                        });
                    } else {
                        known.dropped.push(shown);
                    }
                }
                _ => group.error(
                    "targets",
                    format!("{address:?} is not host:port"),
                    "give alertmanager:9093",
                ),
            }
        }
        group.finish();
    }
    let relabel = scrape::read_rules(section, "alert_relabel_configs");
    section.finish();
    OutsideGroup { endpoints, relabel }
}
