//! Profiles: what an application's guide demands, as figures of the standard rules and as rows that
//! say which alert each demand is.

use std::collections::BTreeMap;
use std::path::Path;

use super::shipped::{PROFILE_SETTINGS, ShippedRules};
use crate::config::{ConfigErrors, Document, Environment, Loader};
use crate::rules::threshold::{Setting, Thresholds};
use crate::rules::{RuleGroup, Wanted};

/// What one profile says.
pub struct Profile {
    /// Figures, severities and windows of rules.
    pub thresholds: Thresholds,
    /// The alerts that can be each row of the demands.
    rows: BTreeMap<String, Vec<String>>,
    name: &'static str,
}

impl Profile {
    /// The one of this name; the error is a mistake in the binary's own text.
    pub fn named(name: &str) -> Option<Result<Self, ConfigErrors>> {
        PROFILE_SETTINGS
            .iter()
            .find(|settings| settings.name == name)
            .map(Self::read)
    }

    fn read(settings: &ShippedRules) -> Result<Self, ConfigErrors> {
        let document = Document::parse(
            &format!("built-in rules/thresholds/{}.yml", settings.name),
            settings.text,
        )?;
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let profile = {
            let root = loader.root();
            let thresholds = root
                .section("thresholds")
                .map(|section| Thresholds::read(&section))
                .unwrap_or_default();
            let profile = Profile {
                thresholds: Thresholds {
                    of_profile: true,
                    ..thresholds
                },
                rows: root.require("rows"),
                name: settings.name,
            };
            root.finish();
            profile
        };
        loader.finish(profile)
    }

    /// What of these profiles stands in place of what an earlier one of them says, for people.
    pub fn disagreements(names: &[String]) -> Vec<String> {
        let profiles: Vec<Profile> = names
            .iter()
            .filter_map(|name| Self::named(name)?.ok())
            .collect();
        let settings = profiles.iter().flat_map(|profile| {
            profile
                .thresholds
                .settings
                .iter()
                .map(move |setting| (profile.name, setting))
        });
        let settings: Vec<(&str, &Setting)> = settings.collect();
        let mut found = Vec::new();
        for (index, (later, one)) in settings.iter().enumerate() {
            let about = |other: &Setting| {
                other.name == one.name
                    && (other.severity == one.severity
                        || other.severity.is_none()
                        || one.severity.is_none())
            };
            let before = settings[..index]
                .iter()
                .rev()
                .find(|(earlier, other)| earlier != later && about(other));
            let severity = one
                .severity
                .map(|severity| format!(".{}", severity.as_str()))
                .unwrap_or_default();
            if let Some((earlier, _)) = before.filter(|(_, other)| other.change != one.change) {
                found.push(format!(
                    "rules.profiles: {}{severity} is what {later} says, not what {earlier} says; write it under thresholds to decide",
                    one.name
                ));
            }
        }
        found
    }

    /// Notes for each rule which row it is.
    pub fn want(&self, groups: &mut [RuleGroup]) {
        for (row, alerts) in &self.rows {
            for alert in alerts {
                let group = groups.iter_mut().find(|group| {
                    group.shipped && group.rules.iter().any(|rule| rule.name() == alert)
                });
                let wanted = Wanted {
                    row: format!("{row} of {}", self.name),
                    alerts: alerts.clone(),
                };
                // The first row stands for those that the same alert is.
                group.map(|group| group.wanted.entry(alert.clone()).or_insert(wanted));
            }
        }
    }
}
