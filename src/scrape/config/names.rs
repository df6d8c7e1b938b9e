//! Which metric and label names are taken, and how a target is asked to write the others
//! (`metric_name_validation_scheme`, `metric_name_escaping_scheme`), in `global` and in a job as in
//! Prometheus.

use crate::config::Section;

/// The two settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Names {
    /// `metric_name_validation_scheme: legacy`: a page with any other name than
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*` is refused.
    pub legacy: bool,
    /// `metric_name_escaping_scheme`.
    pub escaping: Escaping,
}

/// What a target is asked to make of other characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// Nothing: all of UTF-8 is taken.
    #[default]
    AllowUtf8,
    /// Each becomes `_`.
    Underscores,
    /// `.` becomes `_dot_`.
    Dots,
    /// Each becomes its code point.
    Values,
}

const SCHEMES: [(&str, Escaping); 4] = [
    ("allow-utf-8", Escaping::AllowUtf8),
    ("underscores", Escaping::Underscores),
    ("dots", Escaping::Dots),
    ("values", Escaping::Values),
];

impl Escaping {
    /// The word of the setting and of the `Accept` header.
    pub fn as_str(self) -> &'static str {
        SCHEMES
            .iter()
            .find(|(_, scheme)| *scheme == self)
            .map_or("", |(name, _)| name)
    }
}

impl Names {
    /// Reads the keys of a block; those it does not name are `inherited`.
    pub fn read(section: &Section<'_>, inherited: &Names) -> Self {
        let written = |key: &str| section.get::<String>(key).filter(|word| !word.is_empty());
        let legacy = match written("metric_name_validation_scheme").as_deref() {
            None => inherited.legacy,
            Some("legacy") => true,
            Some("utf8") => false,
            Some(other) => {
                section.error(
                    "metric_name_validation_scheme",
                    format!("{other:?} is not known"),
                    "give utf8 or legacy",
                );
                inherited.legacy
            }
        };
        let escaping = match written("metric_name_escaping_scheme") {
            None if legacy && !inherited.legacy && inherited.escaping == Escaping::AllowUtf8 => {
                Escaping::Underscores
            }
            None => inherited.escaping,
            Some(word) => SCHEMES.iter().find(|(name, _)| *name == word).map_or_else(
                || {
                    let remedy = "give allow-utf-8, underscores, dots or values";
                    section.error(
                        "metric_name_escaping_scheme",
                        format!("{word:?} is not known"),
                        remedy,
                    );
                    inherited.escaping
                },
                |(_, scheme)| *scheme,
            ),
        };
        if legacy && escaping == Escaping::AllowUtf8 {
            let problem = "allows names of all of UTF-8, which metric_name_validation_scheme: legacy does not";
            section.error(
                "metric_name_escaping_scheme",
                problem,
                "give underscores, dots or values",
            );
        }
        Names { legacy, escaping }
    }
}
