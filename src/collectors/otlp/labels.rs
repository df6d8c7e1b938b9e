//! Attributes as labels, as Prometheus's receiver makes them: names that become equal share one
//! label, `service.*` become `job` and `instance`, what else a resource has stands in
//! `target_info`.

use crate::exposition::otlp::Attributes;
use crate::model::{Labels, LabelsBuilder, METRIC_NAME};

use super::names::label_name;

/// Attributes of a resource that say who it is.
const IDENTIFYING: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];
/// Most labels of a series, longest name and longest value in bytes: within what a scraped page may
/// have.
const MOST: usize = 120;
const LONGEST_NAME: usize = 1 << 10;
const LONGEST_VALUE: usize = 16 << 10;

/// What a resource gives to all of its series.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// The service, with its namespace before a slash.
    pub job: Option<String>,
    /// Which of its processes.
    pub instance: Option<String>,
    /// The labels of `target_info`, where there are any.
    pub info: Option<Labels>,
}

impl Resource {
    /// Reads the attributes of a resource.
    pub fn of(attributes: &Attributes<'_>) -> Self {
        let text = |name: &str| attributes.get(name).map(|value| value.text().into_owned());
        let name = text(IDENTIFYING[1]);
        let job = match (text(IDENTIFYING[0]), name) {
            (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
            (_, name) => name,
        };
        let mut resource = Resource {
            job,
            instance: text(IDENTIFYING[2]),
            info: None,
        };
        let is_known = resource.job.is_some() || resource.instance.is_some();
        if is_known
            && attributes
                .iter()
                .any(|(name, _)| !IDENTIFYING.contains(&name))
        {
            resource.info = resource.labels("target_info", attributes, &IDENTIFYING);
        }
        resource
    }

    /// The labels of a series with these attributes; `None` where they are too many or too long.
    pub fn series(&self, name: &str, attributes: &Attributes<'_>) -> Option<Labels> {
        self.labels(name, attributes, &[])
    }

    fn labels(&self, name: &str, attributes: &Attributes<'_>, without: &[&str]) -> Option<Labels> {
        if attributes.excess > 0 || attributes.len() > MOST {
            return None;
        }
        let mut pairs: Vec<_> = attributes
            .iter()
            .filter(|(name, _)| !without.contains(name))
            .collect();
        pairs.sort_by_key(|(name, _)| *name);
        let mut labels = LabelsBuilder::new();
        let mut joined: Vec<(String, String)> = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let (name, value) = (label_name(name), value.text());
            match joined.iter_mut().find(|(known, _)| *known == name) {
                Some((_, text)) => {
                    text.push(';');
                    text.push_str(&value);
                }
                None => joined.push((name, value.into_owned())),
            }
        }
        for (name, value) in &joined {
            if name.len() > LONGEST_NAME || value.len() > LONGEST_VALUE {
                return None;
            }
            if !name.is_empty() {
                labels.set(name, value);
            }
        }
        for (name, value) in [("job", &self.job), ("instance", &self.instance)] {
            if let Some(value) = value {
                if value.len() > LONGEST_VALUE {
                    return None;
                }
                labels.set(name, value);
            }
        }
        labels.set(METRIC_NAME, name);
        Some(labels.build())
    }
}
