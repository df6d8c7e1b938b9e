//! How tests build a collector from YAML and look at what it brought.

use std::path::Path;
use std::time::Duration;

use nightbell::collectors::{COLLECTORS, CollectError, Collector, CollectorKind, Memory, Target};
use nightbell::config::{ConfigErrors, Document, Environment, Loader};
use nightbell::model::{Batch, Labels, MetricDesc};

/// Names that the server's, the kernel's, a driver's own list, a query or a test's configuration
/// makes, where they are not declared.
const DYNAMIC: &[&str] = &[
    "pg_settings_",
    "node_hwmon_",
    "node_ethtool_",
    "node_memory_",
    "app_",
    "probe_expect_info",
    "sql_",
    "file_",
];

pub fn kind(name: &str) -> &'static CollectorKind {
    COLLECTORS
        .iter()
        .find(|k| k.name == name)
        .unwrap_or_else(|| panic!("no collector {name}"))
}

/// Builds a collector from its part of a configuration file.
pub fn try_build(name: &str, yaml: &str) -> Result<Box<dyn Collector>, ConfigErrors> {
    try_build_with(name, yaml, Memory::none())
}

/// As [`try_build`], for a collector that remembers.
pub fn try_build_with(
    name: &str,
    yaml: &str,
    memory: Memory,
) -> Result<Box<dyn Collector>, ConfigErrors> {
    let target = Target {
        name: "t".into(),
        interval: Duration::from_secs(15),
        timeout: Duration::from_secs(5),
        memory,
    };
    try_build_for(name, yaml, &target)
}

fn try_build_for(
    name: &str,
    yaml: &str,
    target: &Target,
) -> Result<Box<dyn Collector>, ConfigErrors> {
    let document = Document::parse("nightbell.yml", yaml).expect("YAML");
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, Path::new("."));
    let collector = {
        let section = loader.root();
        let collector = (kind(name).build)(&section, target);
        section.finish();
        collector
    };
    loader.finish(collector)
}

/// As [`build`], with the loop's own keys.
pub fn build_for(name: &str, yaml: &str, target: &Target) -> Box<dyn Collector> {
    try_build_for(name, yaml, target).unwrap_or_else(|errors| panic!("{errors}"))
}

/// As [`build`], for a real server that a busy machine makes slow.
pub fn build_patient(name: &str, yaml: &str) -> Box<dyn Collector> {
    let target = Target {
        name: "t".into(),
        interval: Duration::from_secs(120),
        timeout: Duration::from_secs(60),
        memory: Memory::none(),
    };
    build_for(name, yaml, &target)
}

pub fn build(name: &str, yaml: &str) -> Box<dyn Collector> {
    try_build(name, yaml).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Collects once; checks that everything emitted is declared, with its kind.
pub async fn collect(
    name: &str,
    collector: &mut Box<dyn Collector>,
) -> (Batch, Result<(), CollectError>) {
    let mut batch = Batch::new();
    let result = tokio::time::timeout(Duration::from_secs(90), collector.collect(&mut batch))
        .await
        .expect("within the deadline");
    let declared: Vec<&MetricDesc> = kind(name).metrics.iter().flat_map(|m| m.iter()).collect();
    for (family, content) in &batch.families {
        let Some(desc) = declared.iter().find(|d| d.name == family) else {
            assert!(
                DYNAMIC.iter().any(|prefix| family.starts_with(prefix)),
                "{family} is not declared"
            );
            continue;
        };
        assert_eq!(desc.kind, content.kind, "{family}");
        for sample in &content.samples {
            let known = |label: &str| {
                label == "__name__"
                    || label == "le"
                    || label == "quantile"
                    || desc.labels.contains(&label)
            };
            assert!(
                sample.labels.iter().all(|(label, _)| known(label)),
                "{} has a label that is not declared",
                sample.labels
            );
        }
    }
    (batch, result)
}

/// The value of the one series of `name` that carries these labels.
pub fn value(batch: &Batch, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |l: &Labels| l.metric_name() == name && labels.iter().all(|(n, v)| l.value(n) == *v);
    let found: Vec<f64> = batch
        .samples()
        .filter(|s| fits(&s.labels))
        .map(|s| s.value)
        .collect();
    assert!(
        found.len() < 2,
        "{name}{labels:?} names {} series",
        found.len()
    );
    found.first().copied()
}
