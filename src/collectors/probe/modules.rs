//! blackbox_exporter's file of modules: how a target is probed that somebody names later. What
//! cannot be done here is refused, with its place.

use super::icmp::IcmpProbe;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::{ByteSize, Document, Environment, Loader, Section};
use crate::http::{HttpConfig, TlsConfig};
use crate::model::Batch;

use super::connection::{Connector, Family};
use super::grpc::GrpcProbe;
use super::http::HttpProbe;
use super::settings::{H2, dns_probe, exchange, http_probe, icmp_probe, no_detours};
use super::tcp::TcpProbe;
use super::{Probe, Prober};

/// Most characters of a target.
const MAX_TARGET: usize = 2048;

/// Modules by name.
#[derive(Clone, Default)]
pub struct Modules(Arc<BTreeMap<String, Module>>);

/// One module.
pub struct Module {
    prober: Prober,
    connector: Arc<Connector>,
    timeout: Option<Duration>,
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Modules {
    /// Reads the file that the section's `modules_file` names.
    pub fn read(section: &Section<'_>) -> Self {
        let file: PathBuf = section.require("modules_file");
        if file.as_os_str().is_empty() {
            Modules::default()
        } else {
            Modules::read_file(section, &file)
        }
    }

    /// Reads a file; mistakes are recorded in `section`, which names it.
    pub(super) fn read_file(section: &Section<'_>, file: &Path) -> Self {
        let document = match Document::read(file) {
            Ok(document) => document,
            Err(error) => {
                section.include(error);
                return Modules::default();
            }
        };
        let environment = Environment::literal();
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let loader = Loader::new(&document, &environment, folder);
        let modules = {
            let root = loader.root();
            let modules = root.section("modules");
            root.finish();
            if modules
                .as_ref()
                .is_none_or(|modules| modules.keys().is_empty())
            {
                root.error(
                    "modules",
                    "names no module",
                    "add modules: {http_2xx: {prober: http}}",
                );
            }
            let read = |modules: &Section<'_>| {
                let one = |name: &&str| {
                    modules
                        .section(name)
                        .and_then(|module| Some(((*name).to_owned(), read_module(&module)?)))
                };
                modules
                    .keys()
                    .iter()
                    .filter_map(one)
                    .collect::<BTreeMap<_, _>>()
            };
            modules.as_ref().map(read).unwrap_or_default()
        };
        loader
            .into_errors()
            .0
            .into_iter()
            .for_each(|error| section.include(error));
        Modules(Arc::new(modules))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names, for people.
    pub fn names(&self) -> String {
        self.0
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// A module by its name.
    pub fn get(&self, name: &str) -> Option<&Module> {
        self.0.get(name)
    }
}

impl Module {
    /// Probes a target once, for so long at most; the error says what is wrong with the target
    /// itself.
    pub async fn probe(&self, target: &str, limit: Duration) -> Result<Batch, String> {
        let (prober, address) = self.aim(target)?;
        let mut batch = Batch::new();
        // A target that fails is a measurement.
        let _failed = prober
            .run(&self.connector, self.deadline(limit), &address, &mut batch)
            .await;
        Ok(batch)
    }

    /// The module's own time, where it is shorter.
    pub(super) fn deadline(&self, limit: Duration) -> Duration {
        self.timeout
            .filter(|own| !own.is_zero())
            .map_or(limit, |own| own.min(limit))
    }

    pub(super) fn connector(&self) -> Arc<Connector> {
        Arc::clone(&self.connector)
    }

    /// The prober for a target, and the target's address for people.
    pub(super) fn aim(&self, target: &str) -> Result<(Prober, String), String> {
        if target.len() > MAX_TARGET || target.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return Err("is not a target".into());
        }
        let mut prober = self.prober.clone();
        match &mut prober {
            Prober::Http(probe) => {
                let has_scheme = target.starts_with("http://") || target.starts_with("https://");
                if !has_scheme && target.contains("://") {
                    return Err("is not a URL of http or https".into());
                }
                let text = if has_scheme {
                    target.to_owned()
                } else {
                    format!("http://{target}")
                };
                let url = Url::parse(&text)
                    .ok()
                    .filter(Url::has_host)
                    .ok_or("is not a URL")?;
                if !url.username().is_empty() || url.password().is_some() {
                    return Err("holds a user or a password: they belong into the module".into());
                }
                probe.url = url.clone();
                let mut address = url;
                // A query may hold a secret.
                address.set_query(None);
                return Ok((prober, address.to_string()));
            }
            Prober::Tcp(probe) => {
                let (host, port) = host_and_port(target).ok_or("is not HOST:PORT")?;
                (probe.host, probe.port) = (host, port.ok_or("has no port: give HOST:PORT")?);
            }
            Prober::Dns(probe) => {
                let (host, port) =
                    host_and_port(target).ok_or("is not a name server: give HOST or HOST:PORT")?;
                (probe.host, probe.port) = (host, port.unwrap_or(probe.port));
            }
            Prober::Grpc(probe) => {
                let bare = target
                    .strip_prefix("http://")
                    .or_else(|| target.strip_prefix("https://"))
                    .unwrap_or(target);
                let (host, port) = host_and_port(bare.trim_end_matches('/'))
                    .ok_or("is not a server: give HOST or HOST:PORT")?;
                (probe.host, probe.port) = (host, port.unwrap_or(probe.port));
            }
            Prober::Icmp(probe) => {
                let host = host_and_port(target)
                    .filter(|(_, port)| port.is_none())
                    .ok_or("is not a host")?;
                probe.host = host.0;
            }
        }
        Ok((prober, target.to_owned()))
    }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`, or an IPv6 address alone.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (
                host,
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':')?)
                },
            )
        }
        None => match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0)?),
        None => None,
    };
    (!host.is_empty() && !host.contains(['/', '@', '?', '#'])).then(|| (host.to_owned(), port))
}

fn read_module(section: &Section<'_>) -> Option<Module> {
    let timeout = section.get::<Duration>("timeout");
    let kind: String = section.require("prober");
    // Blocks of other probers may stand there, and mean nothing.
    for key in ["http", "tcp", "dns", "icmp", "grpc"] {
        section.node(key);
    }
    let block = section.section(&kind);
    let known = matches!(kind.as_str(), "http" | "tcp" | "dns" | "icmp" | "grpc");
    if !known && !kind.is_empty() {
        section.error(
            "prober",
            format!("{kind:?} is not known here"),
            "give http, tcp, dns, icmp or grpc, or remove the module",
        );
    }
    section.finish();
    if !known {
        return None;
    }
    // A module without its block is read as one that is empty.
    let empty = Document::parse(section.file(), "").ok()?;
    let environment = Environment::literal();
    let nothing = Loader::new(&empty, &environment, Path::new("."));
    let fallback = nothing.root();
    let (prober, tls, family, at) = match block.as_ref().filter(|block| !block.own_node().is_null())
    {
        Some(block) => {
            let read = read_block(block, &kind);
            block.finish();
            (read.0, read.1, read.2, block)
        }
        None if kind == "dns" => {
            section.error(
                "dns",
                "key \"dns\" is missing",
                "add dns: {query_name: example.org, query_type: A}",
            );
            return None;
        }
        None => {
            let read = read_block(&fallback, &kind);
            (read.0, read.1, read.2, section)
        }
    };
    let connector =
        Connector::new(tls, family, if kind == "grpc" { H2 } else { &[] }).map_err(|problem| {
            at.error(
                "tls_config",
                problem,
                "check the TLS settings of this module",
            )
        });
    Some(Module {
        prober,
        connector: Arc::new(connector.ok()?),
        timeout,
    })
}

fn read_block(block: &Section<'_>, kind: &str) -> (Prober, TlsConfig, Family) {
    let family = family(block);
    let unknown = |key: &str, remedy: &str| {
        if block.node(key).is_some_and(|node| !node.is_null()) {
            block.error(key, "is not known here", remedy);
        }
    };
    unknown(
        "source_ip_address",
        "remove it: the kernel's routes choose the source",
    );
    let tls = |block: &Section<'_>| {
        block
            .section("tls_config")
            .map(|tls| TlsConfig::read(&tls))
            .unwrap_or_default()
    };
    match kind {
        "http" => {
            unknown("compression", "remove it: the body is asked for as it is");
            for key in [
                "fail_if_body_json_matches_cel",
                "fail_if_body_json_not_matches_cel",
            ] {
                unknown(
                    key,
                    "use fail_if_body_matches_regexp, or the collector probe with json: {path, equals}",
                );
            }
            for key in [
                "enable_http3",
                "skip_resolve_phase_with_proxy",
                "use_proxy_dns",
            ] {
                if block.or(key, false) {
                    block.error(key, "is not known here", "remove it");
                }
            }
            let mut http = HttpConfig::read(block);
            no_detours(block, &http);
            if block.or("no_follow_redirects", false) {
                http.follow_redirects = false;
            }
            let nowhere = Url::parse("http://localhost/").expect("a literal URL parses");
            let mut probe: HttpProbe = http_probe(block, &nowhere, &http);
            let limit = block
                .get::<ByteSize>("body_size_limit")
                .map(|size| size.0)
                .filter(|size| *size > 0);
            if let Some(limit) = limit {
                probe.expectation.max_body = usize::try_from(limit).ok();
            }
            (Prober::Http(Box::new(probe)), http.tls, family)
        }
        "tcp" => {
            let dialogue = block
                .sections("query_response")
                .iter()
                .map(exchange)
                .collect();
            let probe = TcpProbe {
                host: String::new(),
                port: 0,
                encrypted: block.or("tls", false),
                dialogue,
            };
            (Prober::Tcp(probe), tls(block), family)
        }
        "dns" => {
            let tls = tls(block);
            (
                Prober::Dns(Box::new(dns_probe(block, String::new(), None))),
                tls,
                family,
            )
        }
        "grpc" => {
            let encrypted = block.or("tls", false);
            let (service, port) = (
                block.or("service", String::new()),
                if encrypted { 443 } else { 80 },
            );
            (
                Prober::Grpc(GrpcProbe {
                    host: String::new(),
                    port,
                    encrypted,
                    service,
                }),
                tls(block),
                family,
            )
        }
        _ => (
            Prober::Icmp(icmp_probe(Some(block))),
            TlsConfig::default(),
            family,
        ),
    }
}

/// `preferred_ip_protocol` (ip6 by default) and `ip_protocol_fallback` (true).
fn family(block: &Section<'_>) -> Family {
    let falls_back = block.or("ip_protocol_fallback", true);
    match (
        block.or("preferred_ip_protocol", "ip6".to_owned()).as_str(),
        falls_back,
    ) {
        ("ip4", true) => Family::PreferV4,
        ("ip4", false) => Family::V4,
        ("ip6" | "", true) => Family::PreferV6,
        ("ip6" | "", false) => Family::V6,
        (other, _) => {
            block.error(
                "preferred_ip_protocol",
                format!("{other:?} is not an address family"),
                "give ip4 or ip6",
            );
            Family::PreferV6
        }
    }
}

/// A target and a module of blackbox_exporter's file.
pub(super) fn probe(section: &Section<'_>, file: &Path, deadline: Duration) -> Probe {
    let name = section.or("module", "http_2xx".to_owned());
    let key = if section.node("target").is_some() {
        "target"
    } else {
        "url"
    };
    let target: String = section.require(key);
    let modules = Modules::read_file(section, file);
    if !modules.is_empty() && modules.get(&name).is_none() {
        section.error(
            "module",
            format!("{} has no module {name:?}", file.display()),
            format!("known there: {}", modules.names()),
        );
    }
    let aimed = modules
        .get(&name)
        .filter(|_| !target.is_empty())
        .map(|module| (module, module.aim(&target)));
    let nothing = Prober::Icmp(IcmpProbe {
        host: String::new(),
        payload: 0,
        ttl: None,
    });
    let mut probe = Probe {
        address: String::new(),
        prober: nothing,
        connector: None,
        deadline,
        failing: None,
    };
    match aimed {
        Some((module, Ok((prober, address)))) => {
            probe = Probe {
                address,
                prober,
                connector: Some(module.connector()),
                deadline: module.deadline(deadline),
                ..probe
            };
        }
        Some((_, Err(problem))) => section.error(
            key,
            problem,
            "give a target as this module's prober wants it",
        ),
        None => {}
    }
    probe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        let some = |host: &str, port| Some((host.to_owned(), port));
        for (text, wanted) in [
            ("h", some("h", None)),
            ("h:53", some("h", Some(53))),
            ("[::1]:53", some("::1", Some(53))),
            ("[::1]", some("::1", None)),
            ("::1", some("::1", None)),
            ("h:", None),
            ("h:0", None),
            ("h:70000", None),
            (":53", None),
            ("[::1]53", None),
            ("u@h:1", None),
            ("h/x", None),
            ("", None),
        ] {
            assert_eq!(host_and_port(text), wanted, "{text}");
        }
    }
}
