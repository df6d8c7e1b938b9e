//! One entry of `scrape_configs`, key for key as Prometheus documents it
//! (<https://prometheus.io/docs/prometheus/latest/configuration/configuration/#scrape_config>).
//!
//! Discovery other than static and file is refused with a remedy.

use super::protocol::{
    Encoding, Protocol, accept_header, default_protocols, protocol, read_protocols,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Document, Loader, Section, glob};
use crate::http::{Client, HttpConfig};
use crate::model::Labels;

use super::global::{Global, Limits, check_interval, check_timeout, written};
use super::names::Names;
use super::native::NativeHistograms;
use super::relabel::{RelabelRule, read_rules};
use crate::scrape::Format;

/// One job.
#[derive(Clone)]
pub struct Job {
    /// `job_name`.
    pub name: String,
    /// Time between scrapes.
    pub interval: Duration,
    /// Deadline of one scrape.
    pub timeout: Duration,
    /// `metrics_path`.
    pub metrics_path: String,
    /// `scheme`.
    pub scheme: String,
    /// `params`: URL parameters.
    pub params: BTreeMap<String, Vec<String>>,
    /// `honor_labels`: exposed labels win over the target's.
    pub honor_labels: bool,
    /// `honor_timestamps`: exposed timestamps are kept.
    pub honor_timestamps: bool,
    /// `track_timestamps_staleness`: series with exposed timestamps get stale markers too.
    pub track_timestamps_staleness: bool,
    /// `enable_compression`.
    pub compression: bool,
    /// The `Accept` header.
    pub accept: String,
    /// `fallback_scrape_protocol`: the format of a page whose Content-Type says nothing.
    pub fallback: Option<Encoding>,
    /// Which names are taken.
    pub names: Names,
    /// What is made of histograms.
    pub native: NativeHistograms,
    /// Targets written in the file.
    pub groups: Vec<TargetGroup>,
    /// `file_sd_configs`: path patterns.
    pub files: Vec<PathBuf>,
    /// `relabel_configs`.
    pub relabel: Vec<RelabelRule>,
    /// `metric_relabel_configs`.
    pub metric_relabel: Vec<RelabelRule>,
    /// Bounds.
    pub limits: Limits,
    /// The client that reaches the targets.
    pub client: Client,
    /// The same for equal settings, across reloads within this process.
    pub identity: u64,
}

/// Targets that share labels.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetGroup {
    /// Addresses, `host:port`.
    pub targets: Vec<String>,
    /// Their labels, `__meta_*` included.
    pub labels: Labels,
    /// Where the group comes from, for the API.
    pub source: String,
}

/// Discovery mechanisms of Prometheus that nightbell does not have.
const OTHER_DISCOVERY: [&str; 29] = [
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dns_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "http_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "openstack_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

/// Keys that change nothing here.
const WITHOUT_EFFECT: [&str; 2] = ["keep_dropped_targets", "scrape_failure_log_file"];

/// Reads `scrape_configs` from the file's root, and from the files that `scrape_config_files`
/// names. A pattern may match nothing.
pub fn read_jobs(root: &Section<'_>, global: &Global) -> Vec<Job> {
    let mut jobs = jobs_of(root, global, &[]);
    for pattern in root.or("scrape_config_files", Vec::<PathBuf>::new()) {
        let files = glob(&pattern).unwrap_or_else(|problem| {
            root.error(
                "scrape_config_files",
                problem.to_string(),
                "check the pattern",
            );
            Vec::new()
        });
        for file in files.iter().filter(|file| file.is_file()) {
            let more = jobs_of_file(file, root, global, &jobs);
            jobs.extend(more);
        }
    }
    jobs
}

/// The jobs of a file that holds nothing but `scrape_configs`; its relative paths start in its own
/// folder.
fn jobs_of_file(file: &Path, root: &Section<'_>, global: &Global, known: &[Job]) -> Vec<Job> {
    let document = match Document::read(file) {
        Ok(document) => document,
        Err(error) => {
            root.include(error);
            return Vec::new();
        }
    };
    let loader = Loader::new(
        &document,
        root.environment(),
        file.parent().unwrap_or(Path::new(".")),
    );
    let jobs = {
        let section = loader.root();
        let jobs = jobs_of(&section, global, known);
        section.finish();
        jobs
    };
    for error in loader.into_errors().0 {
        root.include(error);
    }
    jobs
}

fn jobs_of(root: &Section<'_>, global: &Global, known: &[Job]) -> Vec<Job> {
    // Prometheus expands no variable here: a password may hold `${`.
    let sections: Vec<Section<'_>> = root
        .sections("scrape_configs")
        .into_iter()
        .map(Section::as_written)
        .collect();
    let jobs: Vec<Job> = sections
        .iter()
        .map(|section| Job::read(section, global))
        .collect();
    for (index, job) in jobs.iter().enumerate() {
        if !job.name.is_empty()
            && jobs[..index]
                .iter()
                .chain(known)
                .any(|other| other.name == job.name)
        {
            sections[index].error(
                "job_name",
                format!("another job is named {:?} already", job.name),
                "give each job its own name",
            );
        }
    }
    jobs
}

impl Job {
    fn read(section: &Section<'_>, global: &Global) -> Self {
        let interval = written(section, "scrape_interval").unwrap_or(global.scrape_interval);
        check_interval(section, "scrape_interval", interval);
        let timeout = written(section, "scrape_timeout");
        check_timeout(section, timeout, interval);
        let native = NativeHistograms::read(section, &global.native);
        let protocols = [
            read_protocols(section),
            global.scrape_protocols.clone(),
            default_protocols(native.scrape),
        ];
        let protocols = protocols
            .iter()
            .find(|protocols| !protocols.is_empty())
            .map_or(&[][..], Vec::as_slice);
        let names = Names::read(section, &global.names);
        let client = Client::build(&HttpConfig::read(section)).unwrap_or_else(|error| {
            section.error(
                "",
                error.to_string(),
                "check tls_config, http_headers and proxy_url",
            );
            Client::plain()
        });
        let relabel = read_rules(section, "relabel_configs");
        let groups = section.sections("static_configs");
        let job = Job {
            name: section.require("job_name"),
            interval,
            timeout: timeout.unwrap_or(global.scrape_timeout).min(interval),
            metrics_path: section.or("metrics_path", "/metrics".into()),
            scheme: section.or("scheme", "http".into()),
            params: section.or("params", BTreeMap::new()),
            honor_labels: section.or("honor_labels", false),
            honor_timestamps: section.or("honor_timestamps", true),
            track_timestamps_staleness: section.or("track_timestamps_staleness", false),
            compression: section.or("enable_compression", true),
            accept: accept_header(protocols, names.escaping),
            fallback: section
                .get::<String>("fallback_scrape_protocol")
                .and_then(
                    |word| match protocol(section, "fallback_scrape_protocol", &word)? {
                        Protocol::OpenMetrics1 | Protocol::OpenMetrics0 => {
                            Some(Encoding::Text(Format::OpenMetrics))
                        }
                        Protocol::Text1 | Protocol::Text0 => Some(Encoding::Text(Format::Text)),
                        Protocol::Protobuf => Some(Encoding::Protobuf),
                    },
                ),
            names,
            native,
            // As in Prometheus: with relabelling a URL may be meant (a prober's target), without it
            // is the commonest slip.
            groups: groups
                .iter()
                .map(|s| TargetGroup::read(s, relabel.is_empty()))
                .collect(),
            files: section
                .sections("file_sd_configs")
                .iter()
                .flat_map(read_files)
                .collect(),
            relabel,
            metric_relabel: read_rules(section, "metric_relabel_configs"),
            limits: Limits::read(section, &global.limits),
            client,
            identity: super::identity::of(
                section,
                &(
                    global.scrape_interval,
                    global.scrape_timeout,
                    protocols,
                    native.identity(),
                    names,
                ),
            ),
        };
        if !matches!(job.scheme.as_str(), "http" | "https") {
            section.error("scheme", "is neither http nor https", "give http or https");
        }
        for key in OTHER_DISCOVERY
            .into_iter()
            .filter(|key| section.node(key).is_some())
        {
            section.error(
                key,
                "this service discovery is not supported",
                "list the targets under static_configs, or let a script write them to a file for file_sd_configs",
            );
        }
        for key in WITHOUT_EFFECT {
            section.node(key);
        }
        section.finish();
        job
    }
}

impl TargetGroup {
    fn read(section: &Section<'_>, only_addresses: bool) -> Self {
        let group = TargetGroup {
            targets: section.or("targets", Vec::new()),
            labels: section.or("labels", Labels::empty()),
            source: "static".into(),
        };
        for (index, target) in group.targets.iter().enumerate() {
            if only_addresses && target.contains('/') {
                section.error(
                    "targets",
                    format!("target {index} is not host:port"),
                    "write host:port here, the scheme under scheme: and the path under metrics_path:",
                );
            }
        }
        section.finish();
        group
    }
}

fn read_files(section: &Section<'_>) -> Vec<PathBuf> {
    let files: Vec<PathBuf> = section.or("files", Vec::new());
    // Files are looked at every few seconds, so the interval has no effect; a wrong one is still
    // reported.
    section.get::<Duration>("refresh_interval");
    for path in &files {
        if !matches!(
            path.extension().and_then(|e| e.to_str()),
            Some("json" | "yml" | "yaml")
        ) {
            section.error(
                "files",
                format!("{} is neither .json nor .yml nor .yaml", path.display()),
                "give it one of these endings",
            );
        }
    }
    section.finish();
    files
}
