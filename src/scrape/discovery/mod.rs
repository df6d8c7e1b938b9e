//! From jobs to targets: static groups, group files, target relabelling (SEMANTICS 21).

pub(super) mod group_files;

use std::time::Duration;

use url::Url;

use crate::model::{Labels, LabelsBuilder, parse_duration};

use super::config::global::Limits;
use super::config::job::{Job, TargetGroup};
use super::config::relabel;
use super::error::AddressError;
use super::page::fetch::url_of;
use super::target_info::TargetInfo;

/// A target of a job.
pub(super) struct HttpTarget {
    /// Equal for equal targets of equal jobs.
    pub(super) key: u64,
    pub(super) info: TargetInfo,
    /// Or why it cannot be scraped: the target is listed and down.
    pub(super) url: Result<Url, AddressError>,
}

/// What discovery made of a job.
#[derive(Default)]
pub(super) struct Found {
    pub(super) targets: Vec<HttpTarget>,
    /// Discovered labels of those that relabelling dropped.
    pub(super) dropped: Vec<Labels>,
    /// Why a target could not be made, without secrets.
    pub(super) errors: Vec<String>,
}

/// All targets of a job, from its own groups and those of its files.
pub(super) fn targets_of(job: &Job, from_files: &[TargetGroup]) -> Found {
    let mut found = Found::default();
    let (limit, own) = (job.limits.targets, Limits::default().targets);
    let most = usize::try_from(limit.max(own)).unwrap_or(usize::MAX);
    'groups: for group in job.groups.iter().chain(from_files) {
        for address in &group.targets {
            if found.targets.len() >= most {
                found.errors.push(format!(
                    "job {:?} has more than {most} targets; the rest is left out",
                    job.name
                ));
                break 'groups;
            }
            let discovered = discovered_labels(job, group, address);
            let mut labels = discovered.to_builder();
            if !relabel::apply(&job.relabel, &mut labels) {
                found.dropped.push(discovered);
                continue;
            }
            match target(job, discovered, labels) {
                Ok(target) if found.targets.iter().any(|other| other.key == target.key) => {}
                Ok(target) => found.targets.push(target),
                Err(problem) => found
                    .errors
                    .push(format!("job {:?}: target {address:?}: {problem}", job.name)),
            }
        }
    }
    // As in Prometheus, a limit that the file sets and that is exceeded is a failure of every
    // target of the job.
    if limit != own && found.targets.len() as u64 > limit {
        let reason = AddressError::TargetLimit {
            found: found.targets.len(),
            limit,
        };
        for target in &mut found.targets {
            target.key = super::config::identity::hash(&(target.key, reason.to_string()));
            target.url = Err(reason.clone());
        }
    }
    found
}

fn discovered_labels(job: &Job, group: &TargetGroup, address: &str) -> Labels {
    let mut labels = group.labels.to_builder();
    labels.set("__address__", address);
    let mut default = |name: &str, value: &str| {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    };
    default("job", &job.name);
    default("__scheme__", &job.scheme);
    default("__metrics_path__", &job.metrics_path);
    default(
        "__scrape_interval__",
        &crate::model::format_duration(job.interval),
    );
    default(
        "__scrape_timeout__",
        &crate::model::format_duration(job.timeout),
    );
    for (name, values) in &job.params {
        default(
            &format!("__param_{name}"),
            values.first().map_or("", String::as_str),
        );
    }
    labels.build()
}

fn target(
    job: &Job,
    discovered: Labels,
    mut labels: LabelsBuilder,
) -> Result<HttpTarget, AddressError> {
    let address = labels
        .get("__address__")
        .ok_or(AddressError::Missing)?
        .to_owned();
    let scheme = labels.get("__scheme__").unwrap_or("http").to_owned();
    let path = labels
        .get("__metrics_path__")
        .unwrap_or("/metrics")
        .to_owned();
    let mut params = job.params.clone();
    for (name, value) in labels.iter() {
        if let Some(name) = name.strip_prefix("__param_") {
            let values = params.entry(name.to_owned()).or_default();
            match values.first_mut() {
                Some(first) => value.clone_into(first),
                None => values.push(value.to_owned()),
            }
        }
    }
    let duration = |label: &'static str, default: Duration| match labels.get(label) {
        Some(text) => parse_duration(text).map_err(|error| AddressError::Duration { label, error }),
        None => Ok(default),
    };
    let times = duration("__scrape_interval__", job.interval).and_then(|interval| {
        let timeout = duration("__scrape_timeout__", job.timeout)?;
        let fit = !interval.is_zero() && !timeout.is_zero() && timeout <= interval;
        if fit {
            Ok((interval, timeout))
        } else {
            Err(AddressError::Times)
        }
    });
    let url = match &times {
        Err(problem) => Err(problem.clone()),
        Ok(_) if address.contains('/') => Err(AddressError::Path),
        Ok(_) if !matches!(scheme.as_str(), "http" | "https") => {
            Err(AddressError::Scheme(scheme.clone()))
        }
        Ok(_) => url_of(&scheme, &address, &path, &params),
    };
    let (interval, timeout) = times.unwrap_or((job.interval, job.timeout));
    if labels.get("instance").is_none() {
        labels.set("instance", &address);
    }
    let labels = labels.retain(|name, _| !name.starts_with("__")).build();
    let key = super::config::identity::hash(&(
        job.identity,
        &labels,
        url.as_ref().map(Url::as_str).map_err(ToString::to_string),
        interval,
        timeout,
    ));
    let address = match &url {
        Ok(url) => shown(url),
        // Userinfo is a secret.
        Err(_) => format!(
            "{scheme}://{}{path}",
            address.rsplit_once('@').map_or(&*address, |(_, host)| host)
        ),
    };
    let info = TargetInfo {
        kind: "app_metrics",
        pool: job.name.clone(),
        labels,
        discovered,
        address,
        interval,
        timeout,
    };
    Ok(HttpTarget { key, info, url })
}

/// A URL for people: userinfo is a secret.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs without a host, which this one has; then there is no userinfo either.
    let hidden = url.set_password(None).and_then(|()| url.set_username(""));
    if hidden.is_err() {
        return url.path().to_owned();
    }
    url.to_string()
}
