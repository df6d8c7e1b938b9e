//! The `collectors` block: kind → one mapping or a list of them.
//!
//! The loop reads the keys that all kinds share (`name`, `job`, `interval`, `timeout`, `labels`,
//! `enabled`); the kind reads its own.

use std::time::Duration;

use crate::collectors::{COLLECTORS, Collector, CollectorKind, Memory, StateFolder, Target};
use crate::config::Section;
use crate::model::Labels;
use crate::model::text::{is_legacy_label_name, nearest};

use super::global::{Global, check_interval, check_timeout};

/// A collector with what the loop must know about it.
pub struct CollectorTarget {
    /// The kind's name.
    pub kind: &'static str,
    /// `job`, the kind by default.
    pub job: String,
    /// Name, interval, timeout.
    pub target: Target,
    /// `labels`: added to every sample.
    pub labels: Labels,
    /// The collector itself.
    pub collector: Box<dyn Collector>,
    /// The same for equal settings, across reloads within this process.
    pub identity: u64,
}

/// Reads `collectors` from the file's root, with the kinds of [`COLLECTORS`].
pub fn read_collectors(root: &Section<'_>, global: &Global) -> Vec<CollectorTarget> {
    read_kinds(root, global, COLLECTORS)
}

/// Reads `collectors` with these kinds.
pub fn read_kinds(
    root: &Section<'_>,
    global: &Global,
    kinds: &[CollectorKind],
) -> Vec<CollectorTarget> {
    let Some(block) = root.section("collectors") else {
        return Vec::new();
    };
    let mut found: Vec<CollectorTarget> = Vec::new();
    for kind in kinds {
        let entries = if block.own_node().get(kind.name).is_some() {
            block.one_or_many(kind.name)
        } else {
            Vec::new()
        };
        let many = entries.len() > 1;
        for (index, section) in entries.iter().enumerate() {
            let default = if many {
                format!("{}-{}", kind.name, index + 1)
            } else {
                only_name(kind)
            };
            let Some(target) = read_one(section, kind, global, default) else {
                continue;
            };
            let twin = |other: &CollectorTarget| {
                (&other.job, &other.target.name) == (&target.job, &target.target.name)
            };
            if found.iter().any(twin) {
                let problem = format!(
                    "another target of job {:?} is named {:?} already",
                    target.job, target.target.name
                );
                section.error("name", problem, "give each target its own name");
            }
            found.push(target);
        }
    }
    for key in block.keys() {
        if !kinds.iter().any(|kind| kind.name == key) {
            let remedy = match nearest(key, kinds.iter().map(|k| k.name)) {
                Some(name) => format!("did you mean {name:?}?"),
                None => format!(
                    "known here: {}",
                    kinds.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")
                ),
            };
            block.error(key, "no collector of this kind", remedy);
        }
    }
    found
}

/// The name of a kind's only target: the machine's own name for the host, so that several
/// nightbells can be distinguished.
fn only_name(kind: &CollectorKind) -> String {
    let machine = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if kind.name == "host" && !machine.is_empty() {
        machine
    } else {
        kind.name.to_owned()
    }
}

fn read_one(
    section: &Section<'_>,
    kind: &CollectorKind,
    global: &Global,
    default_name: String,
) -> Option<CollectorTarget> {
    let interval: Duration = section.or("interval", global.collector_interval);
    check_interval(section, "interval", interval);
    let timeout = section.get("timeout");
    check_timeout(section, timeout, interval);
    let name = section.or("name", default_name);
    let labels = section.or("labels", Labels::empty());
    for (name, _) in labels.iter() {
        if !is_legacy_label_name(name)
            || name.starts_with("__")
            || matches!(name, "job" | "instance")
        {
            let remedy = "use letters, digits and _; job and instance have keys of their own, job: and name:";
            section.error("labels", format!("{name:?} cannot be set here"), remedy);
        }
    }
    let job = section.or("job", kind.name.to_owned());
    let state = section.given::<StateFolder>();
    let memory = state
        .and_then(|state| Some(Memory::of(state.0.as_deref()?, kind.name, &job, &name)))
        .unwrap_or_default();
    let target = Target {
        name,
        interval,
        timeout: timeout.unwrap_or(global.scrape_timeout).min(interval),
        memory,
    };
    let enabled = section.or("enabled", true);
    let collector = (kind.build)(section, &target);
    // What it measures may stand in another block, which its address shows.
    let identity = super::identity::of(
        section,
        &(
            kind.name,
            &target.name,
            interval,
            target.timeout,
            collector.address(),
        ),
    );
    section.finish();
    enabled.then_some(CollectorTarget {
        kind: kind.name,
        job,
        target,
        labels,
        collector,
        identity,
    })
}
