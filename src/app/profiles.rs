//! Profiles: what an application's guide demands, as figures of the standard rules and as rows that say which alert each demand is.

use std::collections::BTreeMap;
use std::path::Path;

use super::shipped::{PROFILE_SETTINGS, ShippedRules};
use crate::config::{ConfigErrors, Document, Environment, Loader};
use crate::rules::threshold::Thresholds;
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
        PROFILE_SETTINGS.iter().find(|settings| settings.name == name).map(Self::read)
    }

    fn read(settings: &ShippedRules) -> Result<Self, ConfigErrors> {
        let document = Document::parse(&format!("built-in rules/thresholds/{}.yml", settings.name), settings.text)?;
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let profile = {
            let root = loader.root();
            let thresholds = root.section("thresholds").map(|section| Thresholds::read(&section)).unwrap_or_default();
            let profile =
                Profile { thresholds: Thresholds { of_profile: true, ..thresholds }, rows: root.require("rows"), name: settings.name };
            root.finish();
            profile
        };
        loader.finish(profile)
    }

    /// Notes for each rule which row it is.
    pub fn want(&self, groups: &mut [RuleGroup]) {
        for (row, alerts) in &self.rows {
            for alert in alerts {
                let group = groups.iter_mut().find(|group| group.shipped && group.rules.iter().any(|rule| rule.name() == alert));
                let wanted = Wanted { row: format!("{row} of {}", self.name), alerts: alerts.clone() };
                // The first row stands for those that the same alert is.
                group.map(|group| group.wanted.entry(alert.clone()).or_insert(wanted));
            }
        }
    }
}
