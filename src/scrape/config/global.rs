//! The `global` block of prometheus.yml, and the limits that every job inherits.

use std::time::Duration;

use super::native::NativeHistograms;
use crate::config::{ByteSize, Section};
use crate::model::Labels;

/// Time between collections when the file names none (Prometheus's default is 1m; see
/// [`Global::collector_interval`]).
const SCRAPE_INTERVAL: Duration = Duration::from_secs(60);
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between collections of nightbell's own collectors when the file names none.
const COLLECTOR_INTERVAL: Duration = Duration::from_secs(15);

/// Bounds on what one scrape may bring. One that is absent in the file is nightbell's own: a target
/// must not be able to fill the memory. 0 in the file is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `body_size_limit`: bytes after decompression; 64 MiB by default.
    pub body_size: u64,
    /// `sample_limit`: samples after relabelling; 200,000 by default.
    pub samples: u64,
    /// `label_limit`: labels of a sample; 128 by default.
    pub labels: u64,
    /// `label_name_length_limit`: bytes; 1 KiB by default.
    pub label_name_length: u64,
    /// `label_value_length_limit`: bytes; 16 KiB by default.
    pub label_value_length: u64,
    /// `target_limit`: targets of a job; 10,000 by default.
    pub targets: u64,
}

/// No bound.
const NONE: u64 = u64::MAX;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_size: 64 << 20,
            samples: 200_000,
            labels: 128,
            label_name_length: 1 << 10,
            label_value_length: 16 << 10,
            targets: 10_000,
        }
    }
}

impl Limits {
    /// Reads the limits of a block; those it does not name are `inherited`. As in Prometheus, 0 in
    /// a job leaves what `global` sets.
    pub fn read(section: &Section<'_>, inherited: &Limits) -> Self {
        let defaults = Limits::default();
        let bound = |given: Option<u64>, inherited: u64, default: u64| match given {
            Some(0) if inherited == default => NONE,
            Some(0) | None => inherited,
            Some(most) => most,
        };
        let whole = |key: &str, inherited: u64, default: u64| {
            bound(section.get::<u64>(key), inherited, default)
        };
        let body_size = section
            .get::<ByteSize>("body_size_limit")
            .map(|size| size.0);
        Limits {
            body_size: bound(body_size, inherited.body_size, defaults.body_size),
            samples: whole("sample_limit", inherited.samples, defaults.samples),
            labels: whole("label_limit", inherited.labels, defaults.labels),
            label_name_length: whole(
                "label_name_length_limit",
                inherited.label_name_length,
                defaults.label_name_length,
            ),
            label_value_length: whole(
                "label_value_length_limit",
                inherited.label_value_length,
                defaults.label_value_length,
            ),
            targets: whole("target_limit", inherited.targets, defaults.targets),
        }
    }
}

/// A bound and whose it is, for a message: what the file sets, or nightbell's own.
pub(in crate::scrape) fn bound_of(key: &str, most: u64, default: u64) -> String {
    if most == default {
        format!("at most {most} allowed (nightbell's default; {key}: 0 sets no bound)")
    } else {
        format!("at most {most} allowed ({key} of the configuration)")
    }
}

/// What holds for all jobs unless they say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// `scrape_interval`, 1m by default.
    pub scrape_interval: Duration,
    /// `scrape_timeout`, 10s by default, never above the interval.
    pub scrape_timeout: Duration,
    /// Interval of nightbell's own collectors: `scrape_interval` where the file names it, else 15s.
    pub collector_interval: Duration,
    /// `evaluation_interval`, 1m by default; `None` when the file does not name it.
    pub evaluation_interval: Option<Duration>,
    /// `rule_query_offset`.
    pub rule_query_offset: Duration,
    /// `external_labels`: added to what leaves for other servers, and to alerts.
    pub external_labels: Labels,
    /// `scrape_protocols`, in order of preference; empty for the default.
    pub scrape_protocols: Vec<crate::scrape::Protocol>,
    /// Limits that jobs inherit.
    pub limits: Limits,
    /// Which names are taken, unless a job says otherwise.
    pub names: super::names::Names,
    /// What is made of histograms, unless a job says otherwise.
    pub native: NativeHistograms,
}

impl Default for Global {
    fn default() -> Self {
        Global {
            scrape_interval: SCRAPE_INTERVAL,
            scrape_timeout: SCRAPE_TIMEOUT,
            collector_interval: COLLECTOR_INTERVAL,
            evaluation_interval: None,
            rule_query_offset: Duration::ZERO,
            external_labels: Labels::empty(),
            scrape_protocols: Vec::new(),
            limits: Limits::default(),
            names: super::names::Names::default(),
            native: NativeHistograms::default(),
        }
    }
}

/// Keys of `global` that change nothing here: log files are the log.
const WITHOUT_EFFECT: [&str; 4] = [
    "query_log_file",
    "scrape_failure_log_file",
    "keep_dropped_targets",
    "extra_scrape_metrics",
];

impl Global {
    /// Reads the block `global`; absent, it is the default. Does not finish it: Alertmanager's
    /// settings may stand there too.
    pub fn read(section: Option<&Section<'_>>) -> Self {
        let Some(section) = section else {
            return Global::default();
        };
        let interval = written(section, "scrape_interval");
        let timeout = written(section, "scrape_timeout");
        let scrape_interval = interval.unwrap_or(SCRAPE_INTERVAL);
        check_interval(section, "scrape_interval", scrape_interval);
        check_timeout(section, timeout, scrape_interval);
        let evaluation_interval = written(section, "evaluation_interval");
        if let Some(interval) = evaluation_interval {
            check_interval(section, "evaluation_interval", interval);
        }
        let global = Global {
            scrape_interval,
            scrape_timeout: timeout.unwrap_or(SCRAPE_TIMEOUT).min(scrape_interval),
            collector_interval: interval.unwrap_or(COLLECTOR_INTERVAL),
            evaluation_interval,
            rule_query_offset: section.or("rule_query_offset", Duration::ZERO),
            external_labels: external_labels(section),
            scrape_protocols: super::protocol::read_protocols(section),
            limits: Limits::read(section, &Limits::default()),
            names: super::names::Names::read(section, &super::names::Names::default()),
            native: NativeHistograms::read(section, &NativeHistograms::default()),
        };
        for key in WITHOUT_EFFECT {
            section.node(key);
        }
        global
    }
}

/// `$NAME`, `${NAME}` and `$$` in the values as Prometheus's shell-like expansion has them: what is
/// not set is empty.
fn external_labels(section: &Section<'_>) -> Labels {
    let written: Labels = section
        .get_as_written("external_labels")
        .unwrap_or_else(Labels::empty);
    let mut labels = written.to_builder();
    for (name, value) in written.iter() {
        labels.set(name, &section.environment().expand_as_shell(value));
    }
    labels.build()
}

/// Shortest interval accepted: below it a target would be asked without pause.
const SHORTEST: Duration = Duration::from_millis(100);

/// A time that the file gives; 0 is Prometheus's way to say: the default.
pub(in crate::scrape) fn written(section: &Section<'_>, key: &str) -> Option<Duration> {
    section.get(key).filter(|time: &Duration| !time.is_zero())
}

/// Records an error for an interval that is too short to keep.
pub(in crate::scrape) fn check_interval(section: &Section<'_>, key: &str, interval: Duration) {
    if interval < SHORTEST {
        section.error(
            key,
            "is shorter than 100ms",
            "give at least 100ms; 15s is usual",
        );
    }
}

/// SEMANTICS 29: a written timeout must not exceed the interval.
pub(in crate::scrape) fn check_timeout(
    section: &Section<'_>,
    timeout: Option<Duration>,
    interval: Duration,
) {
    if let Some(timeout) = timeout
        && (timeout > interval || timeout.is_zero())
    {
        let key = if section.own_node().get("timeout").is_some() {
            "timeout"
        } else {
            "scrape_timeout"
        };
        let interval = crate::model::format_duration(interval);
        section.error(
            key,
            format!("must be above 0 and at most the interval, {interval}"),
            format!("give at most {interval}"),
        );
    }
}
