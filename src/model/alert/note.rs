//! What a collector has to say about its target beside numbers: texts for the alerts about it.

use crate::model::labels::Labels;

/// Lines that speak of some of a target's series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Alerts whose expression names one of these metrics are meant.
    pub metrics: &'static [&'static str],
    /// Labels of the series that are meant, those of the target aside. An alert that has one of
    /// them with another value is about others.
    pub labels: Vec<(&'static str, String)>,
    /// The lines, without secrets, the oldest first.
    pub lines: Vec<String>,
}

impl Note {
    /// Whether it is about an alert with these labels, of which these texts are parts of its
    /// expression.
    pub fn is_about<'a>(&self, labels: &Labels, mut parts: impl Iterator<Item = &'a str>) -> bool {
        let fits =
            |(name, value): &(&'static str, String)| ["", value].contains(&labels.value(name));
        self.labels.iter().all(fits)
            && parts.any(|part| self.metrics.iter().any(|metric| part.contains(metric)))
    }
}
