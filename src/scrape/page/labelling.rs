//! From an exposed series to the stored one: target labels, `honor_labels`,
//! `metric_relabel_configs`, limits (SEMANTICS 22, 23, 25).

use std::borrow::Cow;

use crate::exposition;
use crate::model::text::{is_legacy_label_name, is_legacy_metric_name};
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MetricKind};

use crate::scrape::config::global::{Limits, bound_of};
use crate::scrape::config::job::Job;
use crate::scrape::config::native::NativeHistograms;
use crate::scrape::config::relabel;
use crate::scrape::config::relabel::RelabelRule;
use crate::scrape::target_info::TargetInfo;

/// How one target's series are labelled, and what is read of them.
#[derive(Debug, Clone)]
pub(in crate::scrape) struct Labelling {
    /// The target's labels: `job`, `instance` and configured ones.
    pub(in crate::scrape) target: Labels,
    /// Exposed labels win.
    pub(in crate::scrape) honor_labels: bool,
    /// `metric_relabel_configs`.
    pub(in crate::scrape) rules: Vec<RelabelRule>,
    /// Bounds on labels.
    pub(in crate::scrape) limits: Limits,
    /// What is made of histograms.
    pub(in crate::scrape) native: NativeHistograms,
    /// `metric_name_validation_scheme: legacy`.
    pub(in crate::scrape) legacy_names: bool,
}

impl Labelling {
    /// For a collector: its target's labels win, nothing is relabelled.
    pub(in crate::scrape) fn plain(target: Labels) -> Self {
        Labelling {
            target,
            honor_labels: false,
            rules: Vec::new(),
            limits: Limits::default(),
            native: NativeHistograms::default(),
            legacy_names: false,
        }
    }

    /// For a target of a job.
    pub(in crate::scrape) fn of(job: &Job, info: &TargetInfo) -> Self {
        Labelling {
            target: info.labels.clone(),
            honor_labels: job.honor_labels,
            rules: job.metric_relabel.clone(),
            limits: job.limits,
            native: job.native,
            legacy_names: job.names.legacy,
        }
    }

    /// The stored labels of a series as a page writes it; `None` when relabelling drops it.
    pub(in crate::scrape) fn of_text(
        &self,
        series: &[u8],
        kind: MetricKind,
    ) -> Result<Option<Labels>, Cow<'static, str>> {
        // With honor_labels an exposed empty label removes the target's, so the target's labels
        // must be there before.
        let mut labels = if self.honor_labels {
            self.target.to_builder()
        } else {
            LabelsBuilder::new()
        };
        exposition::labels(series, kind, &mut labels)?;
        self.finish(labels)
    }

    /// The stored labels of a collected series.
    pub(in crate::scrape) fn of_labels(
        &self,
        labels: &Labels,
    ) -> Result<Option<Labels>, Cow<'static, str>> {
        let mut builder = labels.to_builder();
        if self.honor_labels {
            // What names its own job was pushed: it has the labels that it was pushed with, and no
            // instance of ours.
            let is_pushed = labels.get("job").is_some();
            for (name, value) in self.target.iter().filter(|(name, _)| {
                labels.get(name).is_none() && !(is_pushed && *name == "instance")
            }) {
                builder.set(name, value);
            }
        }
        self.finish(builder)
    }

    fn finish(&self, mut labels: LabelsBuilder) -> Result<Option<Labels>, Cow<'static, str>> {
        if !self.honor_labels {
            self.add_target_labels(&mut labels);
        }
        if !relabel::apply(&self.rules, &mut labels) || labels.iter().next().is_none() {
            return Ok(None);
        }
        if labels.get(METRIC_NAME).is_none() {
            return Err("a sample has no metric name after relabelling".into());
        }
        if self.legacy_names && !has_legacy_names(&labels) {
            return Err(format!(
                "invalid metric name or label names: {}",
                shortened(&labels.build().to_string())
            )
            .into());
        }
        let limits = &self.limits;
        let count = labels.iter().count() as u64;
        if count > limits.labels {
            return Err(too_large(
                &labels,
                format!("{count} labels"),
                "label_limit",
                limits.labels,
                Limits::default().labels,
            ));
        }
        for (name, value) in labels.iter() {
            if name.is_empty() {
                return Err("a label has no name".into());
            }
            if name.len() as u64 > limits.label_name_length {
                let (what, default) = (
                    format!(
                        "a label name of {} bytes, {:?}",
                        name.len(),
                        shortened(name)
                    ),
                    Limits::default(),
                );
                return Err(too_large(
                    &labels,
                    what,
                    "label_name_length_limit",
                    limits.label_name_length,
                    default.label_name_length,
                ));
            }
            if value.len() as u64 > limits.label_value_length {
                let (what, default) = (
                    format!(
                        "a value of {} bytes in label {:?}",
                        value.len(),
                        shortened(name)
                    ),
                    Limits::default(),
                );
                return Err(too_large(
                    &labels,
                    what,
                    "label_value_length_limit",
                    limits.label_value_length,
                    default.label_value_length,
                ));
            }
        }
        Ok(Some(labels.build()))
    }

    /// Target labels win; an exposed one of the same name is kept as `exported_<name>`.
    fn add_target_labels(&self, labels: &mut LabelsBuilder) {
        let exposed: Vec<(String, String)> = self
            .target
            .iter()
            .filter_map(|(name, _)| labels.get(name).map(|v| (name.to_owned(), v.to_owned())))
            .collect();
        for (name, value) in self.target.iter() {
            labels.set(name, value);
        }
        for (name, value) in exposed {
            let mut free = format!("exported_{name}");
            while labels.get(&free).is_some() {
                free.insert_str(0, "exported_");
            }
            labels.set(&free, &value);
        }
    }
}

/// Why a series is not taken.
#[cold]
fn has_legacy_names(labels: &LabelsBuilder) -> bool {
    labels.iter().all(|(name, value)| {
        if name == METRIC_NAME {
            is_legacy_metric_name(value)
        } else {
            is_legacy_label_name(name)
        }
    })
}

fn too_large(
    labels: &LabelsBuilder,
    what: String,
    key: &str,
    most: u64,
    default: u64,
) -> Cow<'static, str> {
    let metric = labels.get(METRIC_NAME).unwrap_or_default();
    format!(
        "a sample of {:?} has {what}, {}",
        shortened(metric),
        bound_of(key, most, default)
    )
    .into()
}

/// The beginning of a text that may be very long.
fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelling(honor_labels: bool) -> Labelling {
        Labelling {
            honor_labels,
            ..Labelling::plain(Labels::from_pairs([("instance", "i"), ("job", "j")]))
        }
    }

    /// SEMANTICS 22.
    #[test]
    fn target_labels_win_and_exposed_ones_are_kept_aside() {
        let series = br#"m{job="x",exported_job="y",other="z"}"#;
        let got = labelling(false)
            .of_text(series, MetricKind::Untyped)
            .expect("valid")
            .expect("kept");
        assert_eq!(
            got.to_string(),
            r#"m{exported_exported_job="x", exported_job="y", instance="i", job="j", other="z"}"#
        );
    }

    /// SEMANTICS 22: the way to drop `instance`.
    #[test]
    fn honoured_labels_win_and_an_empty_one_removes() {
        let got = labelling(true)
            .of_text(br#"m{job="x",instance=""}"#, MetricKind::Untyped)
            .expect("valid")
            .expect("kept");
        assert_eq!(got.to_string(), r#"m{job="x"}"#);
    }

    /// SEMANTICS 25.
    #[test]
    fn limits_on_labels_are_kept() {
        let mut labelling = labelling(false);
        labelling.limits.label_value_length = 3;
        assert!(
            labelling
                .of_text(br#"m{a="long"}"#, MetricKind::Untyped)
                .is_err()
        );
        labelling.limits.labels = 3;
        assert!(
            labelling
                .of_text(br#"m{a="x"}"#, MetricKind::Untyped)
                .is_err()
        );
    }
}
