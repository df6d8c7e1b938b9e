//! What was pushed, as Pushgateway keeps it (<https://github.com/prometheus/pushgateway>): groups
//! of metrics by job and further labels.
//!
//! PUT replaces a group, POST the metrics of the same names in it, DELETE removes it. A push with a
//! mistake changes nothing but the time of the last failure. All groups together are bounded.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::exposition::{self, Format, Item, Lines, parse::help_text, protobuf};
use crate::model::text::{is_legacy_label_name, is_legacy_metric_name};
use crate::model::{Batch, Labels, LabelsBuilder, METRIC_NAME, MetricKind, Sample, Timestamp};
use crate::telemetry::Sparing;

use super::metrics::{FAILED_AT, PUSHED_AT};

/// Groups at most.
pub const MAX_GROUPS: usize = 1000;
/// Series of all groups at most.
pub const MAX_SERIES: usize = 10_000;
/// Bytes of all groups at most, about as text.
pub const MAX_BYTES: usize = 4 << 20;
/// Labels of a grouping key at most, and bytes of it.
const MAX_KEY: usize = 30;
const MAX_KEY_BYTES: usize = 2048;

/// What is done with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Replace it.
    Put,
    /// Replace metrics of the same names.
    Post,
    /// Remove it.
    Delete,
}

/// The labels of a group, `job` among them, by name.
pub type Grouping = BTreeMap<String, String>;

/// Why a push is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// There is a mistake in it.
    #[error("{0}")]
    Invalid(String),
    /// There is no room for it.
    #[error("{0}")]
    Full(String),
}

fn invalid(problem: impl Into<String>) -> PushError {
    PushError::Invalid(problem.into())
}

/// Reads the labels of a path behind `/metrics/`: `job/NAME{/label/value}`, with `@base64` behind a
/// name whose value is in base64.
pub fn grouping(path: &str) -> Result<Grouping, PushError> {
    let mut labels = Grouping::new();
    if path.len() > MAX_KEY_BYTES {
        return Err(invalid(format!(
            "the grouping key is longer than {MAX_KEY_BYTES} bytes"
        )));
    }
    let parts: Vec<&str> = path
        .strip_suffix('/')
        .filter(|rest| rest.split('/').count() % 2 == 0)
        .unwrap_or(path)
        .split('/')
        .collect();
    let (pairs, rest) = parts.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(invalid(format!(
            "odd number of components in label string {path:?}"
        )));
    }
    for [name, value] in pairs {
        let (name, value) = (decoded(name)?, decoded(value)?);
        let (name, value) = match name.strip_suffix("@base64") {
            Some(name) => (name.to_owned(), in_base64(&value)?),
            None => (name, value),
        };
        if !is_legacy_label_name(&name) || name.starts_with("__") {
            return Err(invalid(format!("improper label name {name:?}")));
        }
        if labels.insert(name.clone(), value).is_some() {
            return Err(invalid(format!(
                "label {name:?} stands twice in the grouping key"
            )));
        }
    }
    if labels.get("job").is_none_or(String::is_empty) {
        return Err(invalid("job name is required"));
    }
    if labels.len() > MAX_KEY {
        return Err(invalid(format!(
            "more than {MAX_KEY} labels in the grouping key"
        )));
    }
    Ok(labels)
}

fn decoded(part: &str) -> Result<String, PushError> {
    // A plus stands for itself in a path.
    let query = format!("v={}", part.replace('+', "%2B").replace('&', "%26"));
    let text = url::form_urlencoded::parse(query.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    if text.contains('\u{fffd}') {
        Err(invalid("the path is not UTF-8"))
    } else {
        Ok(text)
    }
}

/// Base64 for URLs, with padding or without; `=` alone is the empty text.
fn in_base64(text: &str) -> Result<String, PushError> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
    let bytes = engine
        .decode(text.trim_end_matches('='))
        .map_err(|_| invalid(format!("invalid base64 encoding {text:?}")))?;
    String::from_utf8(bytes).map_err(|_| invalid("a label value is not UTF-8"))
}

/// All groups.
#[derive(Default)]
pub struct Groups {
    groups: BTreeMap<Grouping, Group>,
    series: usize,
    bytes: usize,
    /// Pushes that were refused.
    pub refused: u64,
    full: Sparing,
}

#[derive(Default)]
struct Group {
    /// Unix milliseconds; 0 for never.
    pushed: i64,
    failed: i64,
    families: BTreeMap<String, Family>,
}

struct Family {
    kind: MetricKind,
    help: String,
    samples: Vec<(Labels, f64)>,
}

impl Family {
    fn bytes(&self) -> usize {
        let of = |(labels, _): &(Labels, f64)| {
            24 + labels
                .iter()
                .map(|(name, value)| name.len() + value.len() + 4)
                .sum::<usize>()
        };
        self.help.len() + 64 + self.samples.iter().map(of).sum::<usize>()
    }
}

impl Group {
    fn series(&self) -> usize {
        self.families
            .values()
            .map(|family| family.samples.len())
            .sum::<usize>()
            + 2
    }

    fn bytes(&self) -> usize {
        self.families
            .iter()
            .map(|(name, family)| name.len() + family.bytes())
            .sum::<usize>()
            + 256
    }
}

/// A group as it is saved.
#[derive(Serialize, Deserialize)]
struct Saved {
    labels: Grouping,
    pushed: i64,
    failed: i64,
    text: String,
}

impl Groups {
    /// Reads what was saved. What cannot be read is left out.
    pub fn load(text: &str) -> Self {
        let mut groups = Groups::default();
        let saved: Vec<Saved> = serde_json::from_str(text).unwrap_or_else(|error| {
            warn!(%error, "What was pushed is damaged on disk; it is forgotten.");
            Vec::new()
        });
        for one in saved.into_iter().take(MAX_GROUPS) {
            let families = parse(one.text.as_bytes(), &one.labels).unwrap_or_default();
            let group = Group {
                pushed: one.pushed,
                failed: one.failed,
                families,
            };
            groups.add(one.labels, group);
        }
        groups
    }

    /// All as a text; `None` when it cannot be written.
    pub fn saved(&self) -> Option<String> {
        let text = |group: &Group| {
            let mut batch = Batch::new();
            group.show(&mut batch);
            exposition::encode::text(&batch)
        };
        let saved = |(labels, group): (&Grouping, &Group)| Saved {
            labels: labels.clone(),
            pushed: group.pushed,
            failed: group.failed,
            text: text(group),
        };
        serde_json::to_string(&self.groups.iter().map(saved).collect::<Vec<_>>()).ok()
    }

    /// The last successful push of each job, Unix milliseconds.
    pub fn last_pushes(&self) -> HashMap<String, i64> {
        let mut last = HashMap::new();
        for (labels, group) in self.groups.iter().filter(|(_, group)| group.pushed > 0) {
            let newest = last.entry(labels["job"].clone()).or_insert(group.pushed);
            *newest = group.pushed.max(*newest);
        }
        last
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// About the bytes of all, as text.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Does what a request asks for.
    pub fn push(
        &mut self,
        labels: &Grouping,
        method: Method,
        body: &[u8],
        is_protobuf: bool,
        now: Timestamp,
    ) -> Result<(), PushError> {
        if method == Method::Delete {
            self.remove(labels);
            return Ok(());
        }
        let text = if is_protobuf {
            as_text(body)
        } else {
            Ok(Cow::Borrowed(body))
        };
        let result = text
            .and_then(|text| parse(&text, labels))
            .and_then(|families| self.put(labels, method, families, now));
        if let Err(error) = &result {
            self.refused += 1;
            if matches!(error, PushError::Full(_))
                && let Some(count) = self.full.due()
            {
                warn!(count, %error, "Pushed metrics were refused.");
            }
            if let Some(group) = self.groups.get_mut(labels) {
                group.failed = now.0;
            } else if self.groups.len() < MAX_GROUPS && matches!(error, PushError::Invalid(_)) {
                self.add(
                    labels.clone(),
                    Group {
                        failed: now.0,
                        ..Group::default()
                    },
                );
            }
        }
        result
    }

    fn put(
        &mut self,
        labels: &Grouping,
        method: Method,
        families: BTreeMap<String, Family>,
        now: Timestamp,
    ) -> Result<(), PushError> {
        for (name, family) in &families {
            let other = self
                .groups
                .iter()
                .filter(|(key, _)| *key != labels)
                .find_map(|(_, group)| group.families.get(name));
            if let Some(other) = other.filter(|other| other.kind != family.kind) {
                let (is, was) = (family.kind.as_str(), other.kind.as_str());
                return Err(invalid(format!(
                    "pushed metrics are inconsistent: {name} is a {is} here and a {was} in another group"
                )));
            }
        }
        let new = Group {
            families,
            ..Group::default()
        };
        let old = self.groups.get(labels);
        // What a POST leaves of a group counts, too.
        let stays = old.iter().flat_map(|group| &group.families);
        let stays =
            stays.filter(|(name, _)| method == Method::Post && !new.families.contains_key(*name));
        let (stay_series, stay_bytes) = stays.fold((0, 0), |(series, bytes), (name, family)| {
            (
                series + family.samples.len(),
                bytes + name.len() + family.bytes(),
            )
        });
        let series = self.series - old.map_or(0, Group::series) + new.series() + stay_series;
        let bytes = self.bytes - old.map_or(0, Group::bytes) + new.bytes() + stay_bytes;
        if old.is_none() && self.groups.len() >= MAX_GROUPS {
            return Err(PushError::Full(format!(
                "there are {MAX_GROUPS} groups already: delete some, or push fewer"
            )));
        }
        if series > MAX_SERIES {
            return Err(PushError::Full(format!(
                "{series} series would be more than {MAX_SERIES}: delete groups, or push fewer"
            )));
        }
        if bytes > MAX_BYTES {
            return Err(PushError::Full(format!(
                "{bytes} bytes would be more than {MAX_BYTES}: delete groups, or push less"
            )));
        }
        let mut group = self.remove(labels).unwrap_or_default();
        if method == Method::Put {
            group.families.clear();
        }
        group.families.extend(new.families);
        group.pushed = now.0;
        self.add(labels.clone(), group);
        Ok(())
    }

    fn add(&mut self, labels: Grouping, group: Group) {
        self.series += group.series();
        self.bytes += group.bytes();
        self.groups.insert(labels, group);
    }

    fn remove(&mut self, labels: &Grouping) -> Option<Group> {
        let group = self.groups.remove(labels)?;
        self.series = self.series.saturating_sub(group.series());
        self.bytes = self.bytes.saturating_sub(group.bytes());
        Some(group)
    }

    /// Everything as it is exposed.
    pub fn show(&self, batch: &mut Batch) {
        for (labels, group) in &self.groups {
            group.show(batch);
            for (desc, time) in [(&PUSHED_AT, group.pushed), (&FAILED_AT, group.failed)] {
                let mut series = LabelsBuilder::new();
                series.set(METRIC_NAME, desc.name);
                for (label, value) in labels {
                    series.set(label, value);
                }
                let sample = Sample {
                    labels: series.build(),
                    value: time as f64 / 1000.0,
                    timestamp: None,
                };
                batch.push_sample(desc.name, desc.kind, desc.help, sample);
            }
        }
    }
}

impl Group {
    fn show(&self, batch: &mut Batch) {
        for (name, family) in &self.families {
            for (labels, value) in &family.samples {
                let sample = Sample {
                    labels: labels.clone(),
                    value: *value,
                    timestamp: None,
                };
                batch.push_sample(name, family.kind, &family.help, sample);
            }
        }
    }
}

/// The text of a page in protobuf, which Go's client pushes; of native histograms their classic
/// buckets.
fn as_text(body: &[u8]) -> Result<Cow<'static, [u8]>, PushError> {
    let options = protobuf::Options {
        native: false,
        classic: true,
        bound: 2 * MAX_BYTES,
    };
    let expanded = protobuf::expand(body, &options).map_err(|error| invalid(error.to_string()))?;
    Ok(Cow::Owned(expanded.text.into_bytes()))
}

/// Reads a page and gives each series the labels of the group.
fn parse(body: &[u8], grouping: &Grouping) -> Result<BTreeMap<String, Family>, PushError> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut current, mut count, mut seen): (String, usize, HashSet<Labels>) =
        (String::new(), 0, HashSet::new());
    let mut lines = Lines::new(body, Format::Text);
    let of = |families: &mut BTreeMap<String, Family>, name: &str| {
        if !families.contains_key(name) {
            families.insert(
                name.to_owned(),
                Family {
                    kind: MetricKind::Untyped,
                    help: String::new(),
                    samples: Vec::new(),
                },
            );
        }
    };
    loop {
        let item = lines
            .next(b"")
            .map_err(|error| invalid(format!("text format parsing error: {error}")))?;
        let line = match item {
            None => break,
            Some(Item::Help(name, text)) => {
                own(&name)?;
                of(&mut families, &name);
                families
                    .entry(name.into_owned())
                    .and_modify(|family| family.help = help_text(text, Format::Text));
                continue;
            }
            Some(Item::Type(name, kind)) => {
                own(&name)?;
                of(&mut families, &name);
                current = name.into_owned();
                if let Some(family) = families.get_mut(&current) {
                    if !family.samples.is_empty() {
                        return Err(invalid(format!(
                            "TYPE of {current} stands behind its samples"
                        )));
                    }
                    family.kind = kind;
                }
                continue;
            }
            Some(Item::Unit(..)) => continue,
            Some(Item::Sample(line)) => line,
        };
        if line.timestamp.is_some() {
            return Err(invalid(format!(
                "line {}: pushed metrics must not have timestamps",
                lines.line().saturating_sub(1)
            )));
        }
        count += 1;
        if count > MAX_SERIES {
            return Err(PushError::Full(format!(
                "more than {MAX_SERIES} series in one push"
            )));
        }
        let kind = families
            .get(&current)
            .map_or(MetricKind::Untyped, |family| family.kind);
        let mut labels = LabelsBuilder::new();
        exposition::labels(line.series, kind, &mut labels).map_err(invalid)?;
        let name = labels.get(METRIC_NAME).unwrap_or_default().to_owned();
        own(&name)?;
        for (label, value) in grouping {
            labels.set(label, value);
        }
        let labels = labels.build();
        if !seen.insert(labels.clone()) {
            return Err(invalid(format!(
                "collected metric {name} was collected before with the same name and label values"
            )));
        }
        let family = if is_part(&current, kind, &name) {
            Cow::Borrowed(&current)
        } else {
            Cow::Owned(name)
        };
        of(&mut families, &family);
        if let Some(family) = families.get_mut(&**family) {
            family.samples.push((labels, line.value));
        }
    }
    families.retain(|_, family| !family.samples.is_empty());
    Ok(families)
}

/// Refuses names that are ours.
fn own(name: &str) -> Result<(), PushError> {
    if name == PUSHED_AT.name || name == FAILED_AT.name {
        return Err(invalid(format!("{name} is set by the server")));
    }
    if !is_legacy_metric_name(name) {
        return Err(invalid(format!("{name:?} is no metric name")));
    }
    Ok(())
}

/// Whether a sample of this name belongs to the family.
fn is_part(family: &str, kind: MetricKind, name: &str) -> bool {
    let ends: &[&str] = match kind {
        MetricKind::Histogram => &["_bucket", "_sum", "_count"],
        MetricKind::Summary => &["", "_sum", "_count"],
        _ => &[""],
    };
    !family.is_empty()
        && name
            .strip_prefix(family)
            .is_some_and(|end| ends.contains(&end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(groups: &Groups) -> Vec<String> {
        let mut batch = Batch::new();
        groups.show(&mut batch);
        batch
            .samples()
            .map(|s| format!("{} {}", s.labels, s.value))
            .collect()
    }

    fn push(
        groups: &mut Groups,
        path: &str,
        method: Method,
        body: &str,
        at: i64,
    ) -> Result<(), PushError> {
        groups.push(
            &grouping(path).expect(path),
            method,
            body.as_bytes(),
            false,
            Timestamp(at),
        )
    }

    #[test]
    fn paths_name_groups_as_in_pushgateway() {
        let of = |path: &str| {
            grouping(path).map(|labels| {
                labels
                    .into_iter()
                    .map(|(n, v)| format!("{n}={v}"))
                    .collect::<Vec<_>>()
                    .join(",")
            })
        };
        for (path, labels) in [
            ("job/a", "job=a"),
            ("job/a/", "job=a"),
            ("job/a/instance/b", "instance=b,job=a"),
            ("job@base64/L3Zhci90bXA", "job=/var/tmp"),
            ("job/a/path@base64/L3Zhci90bXA=", "job=a,path=/var/tmp"),
            ("job/a/first@base64/=", "first=,job=a"),
            ("job/a/x/%E6%97%A5%2F+%26", "job=a,x=日/+&"),
        ] {
            assert_eq!(of(path).as_deref(), Ok(labels), "{path}");
        }
        let long = format!("job/{}", "a".repeat(3000));
        for wrong in [
            "job",
            "job/",
            "job/a/b",
            "job/a/1x/b",
            "job/a/__x/b",
            "job/a/job/b",
            "job@base64/%%%",
            "job/a/x@base64/_w",
            &long,
        ] {
            assert!(grouping(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn put_replaces_a_group_post_its_names_and_delete_removes_it() {
        let mut groups = Groups::default();
        let two = "# TYPE a counter\na{instance=\"i\",job=\"other\"} 1\n# TYPE b gauge\nb 2\n";
        push(&mut groups, "job/j", Method::Put, two, 1000).expect("taken");
        push(&mut groups, "job/j/shard/1", Method::Put, "b 5", 1500)
            .expect_err("b is a gauge in the other group");
        push(
            &mut groups,
            "job/j/shard/1",
            Method::Put,
            "# TYPE b gauge\nb 5",
            2000,
        )
        .expect("taken");
        push(
            &mut groups,
            "job/j",
            Method::Post,
            "# TYPE b gauge\nb 3\n# TYPE c untyped\nc 4\n",
            3000,
        )
        .expect("taken");
        let all = [
            r#"a{instance="i", job="j"} 1"#,
            r#"b{job="j"} 3"#,
            r#"b{job="j", shard="1"} 5"#,
            r#"c{job="j"} 4"#,
            r#"push_time_seconds{job="j"} 3"#,
            r#"push_time_seconds{job="j", shard="1"} 2"#,
            r#"push_failure_time_seconds{job="j"} 0"#,
            r#"push_failure_time_seconds{job="j", shard="1"} 1.5"#,
        ];
        assert_eq!(shown(&groups), all);
        assert_eq!(groups.last_pushes()["j"], 3000);
        let again = Groups::load(&groups.saved().expect("text"));
        assert_eq!(shown(&again), all, "after a restart");
        assert_eq!((again.series, again.bytes), (groups.series, groups.bytes));
        push(&mut groups, "job/j", Method::Put, "c 4\n", 4000).expect("taken");
        assert_eq!(
            shown(&groups)
                .iter()
                .filter(|line| line.contains(r#"{job="j"}"#))
                .count(),
            3,
            "the rest is replaced"
        );
        push(&mut groups, "job/j", Method::Delete, "", 5000).expect("removed");
        push(&mut groups, "job/j/shard/1", Method::Delete, "", 5000).expect("removed");
        assert_eq!(
            (
                shown(&groups).len(),
                groups.series,
                groups.bytes,
                groups.refused
            ),
            (0, 0, 0, 1)
        );
    }

    #[test]
    fn a_push_with_a_mistake_changes_nothing_but_the_time_of_the_failure() {
        let mut groups = Groups::default();
        push(&mut groups, "job/j", Method::Put, "a 1\n", 1000).expect("taken");
        for wrong in [
            "a 1 1700000000000\n",
            "a{\n",
            "a 1\na 2\n",
            "push_time_seconds 1\n",
            "a one\n",
            "# TYPE a counter\n# TYPE a gauge x\na 1",
        ] {
            assert!(
                matches!(
                    push(&mut groups, "job/j", Method::Put, wrong, 2000),
                    Err(PushError::Invalid(_))
                ),
                "{wrong}"
            );
        }
        assert_eq!(
            shown(&groups),
            [
                r#"a{job="j"} 1"#,
                r#"push_time_seconds{job="j"} 1"#,
                r#"push_failure_time_seconds{job="j"} 2"#
            ]
        );
        push(&mut groups, "job/new", Method::Put, "a{", 2000).expect_err("a mistake");
        assert!(shown(&groups).contains(&r#"push_time_seconds{job="new"} 0"#.to_owned()));
    }

    #[test]
    fn histograms_and_summaries_stay_whole() {
        let mut groups = Groups::default();
        let page = "# HELP h A histogram.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
        push(&mut groups, "job/j", Method::Put, page, 1000).expect("taken");
        let text = exposition::encode::text(&{
            let mut batch = Batch::new();
            groups.show(&mut batch);
            batch
        });
        assert!(
            text.starts_with("# HELP h A histogram.\n# TYPE h histogram\nh_bucket"),
            "{text}"
        );
        assert_eq!(
            shown(&Groups::load(&groups.saved().expect("text"))),
            shown(&groups)
        );
    }

    #[test]
    fn all_groups_together_are_bounded() {
        let mut groups = Groups::default();
        let many: String = (0..MAX_SERIES / 2)
            .map(|n| format!("a{{n=\"{n}\"}} 1\n"))
            .collect();
        push(&mut groups, "job/a", Method::Put, &many, 1000).expect("taken");
        assert!(matches!(
            push(&mut groups, "job/b", Method::Put, &many, 1000),
            Err(PushError::Full(_))
        ));
        push(&mut groups, "job/a", Method::Put, &many, 2000).expect("in place of itself");
        let more: String = (0..MAX_SERIES / 2)
            .map(|n| format!("b{{n=\"{n}\"}} 1\n"))
            .collect();
        assert!(
            matches!(
                push(&mut groups, "job/a", Method::Post, &more, 1000),
                Err(PushError::Full(_))
            ),
            "what stays counts"
        );
        let long = format!("a{{x=\"{}\"}} 1\n", "x".repeat(MAX_BYTES));
        assert!(matches!(
            push(&mut groups, "job/a", Method::Put, &long, 1000),
            Err(PushError::Full(_))
        ));
        assert_eq!(groups.last_pushes()["a"], 2000);
        for n in 0..MAX_GROUPS * 2 {
            // Half of them have mistakes.
            let _ = push(
                &mut groups,
                &format!("job/a/n/{n}"),
                Method::Put,
                ["c 1\n", "c"][n % 2],
                1000,
            );
        }
        assert_eq!(groups.len(), MAX_GROUPS);
        assert!(
            groups.series <= MAX_SERIES + 2 * MAX_GROUPS
                && groups.bytes <= MAX_BYTES + 256 * MAX_GROUPS
        );
    }

    #[test]
    fn what_is_damaged_on_disk_is_forgotten() {
        for text in ["", "[]", "{", "[{\"labels\":{}}]", "\u{0}"] {
            assert_eq!(Groups::load(text).len(), 0, "{text}");
        }
    }
}
