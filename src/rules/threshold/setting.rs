//! What a configuration says of figures: the block `thresholds`.

use std::time::Duration;

use super::{FIGURES, Figure, Unit};
use crate::config::{ConfigError, FromNode as _, Position, ScalarStyle, Section, Value};
use crate::model::text::nearest;

/// The severities that the standard rules have, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say what they are")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    /// Every one.
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// The block `thresholds` of a configuration or of a profile.
#[derive(Clone, Debug, Default)]
pub struct Thresholds {
    /// In the order of the text.
    pub settings: Vec<Setting>,
    /// Whether a profile says it: what it speaks of and is not loaded is passed over.
    pub of_profile: bool,
}

/// What is said of one severity of one figure.
#[derive(Clone, Debug)]
pub struct Setting {
    /// A name of [`FIGURES`], or of an alert.
    pub name: String,
    /// Whose rule; `None`: `off` for all of them.
    pub severity: Option<Severity>,
    /// What becomes of it; `None`: the rule goes.
    pub change: Option<Change>,
    /// Where it stands.
    pub place: Place,
}

/// What is to be different in a rule; `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    /// The constant.
    pub figure: Option<f64>,
    /// `for`.
    pub hold: Option<Duration>,
    /// Every range of the expression.
    pub window: Option<Duration>,
}

/// Where a setting stands, for a mistake that shows only when the rules are there.
#[derive(Clone, Debug)]
pub struct Place {
    file: String,
    position: Position,
    key: String,
}

impl Place {
    pub(super) fn error(&self, problem: String, remedy: String) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            position: Some(self.position),
            key: self.key.clone(),
            problem,
            remedy,
            non_fatal: false,
        }
    }
}

impl Figure {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Figure> {
        FIGURES.iter().find(|figure| figure.name == name)
    }
}

impl Thresholds {
    /// Reads the block.
    pub fn read(section: &Section<'_>) -> Self {
        let mut settings = Vec::new();
        for name in section.keys() {
            let figure = Figure::named(name);
            // Alerts are checked when the rules are there.
            if figure.is_none() && !name.starts_with(char::is_uppercase) {
                let remedy = match nearest(name, FIGURES.iter().map(|figure| figure.name)) {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => format!(
                        "there is {}",
                        FIGURES
                            .iter()
                            .map(|figure| figure.name)
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                };
                section.error(name, "is not the name of a figure or of an alert", remedy);
                continue;
            }
            let Some(node) = section.node(name) else {
                continue;
            };
            let place = |key: String, position| Place {
                file: section.file().to_owned(),
                position,
                key,
            };
            if let Value::Scalar { text, .. } = &node.value {
                let key = format!("{}.{name}", section.path());
                match text.as_str() {
                    "off" => settings.push(Setting {
                        name: name.into(),
                        severity: None,
                        change: None,
                        place: place(key, node.position),
                    }),
                    _ => section.error(
                        name,
                        "does not say for which severity",
                        format!("write {name}: {{warning: …, critical: …}}, or off"),
                    ),
                }
                continue;
            }
            let Some(levels) = section.section(name) else {
                continue;
            };
            for severity in Severity::ALL {
                let Some(node) = levels
                    .node(severity.as_str())
                    .filter(|node| !node.is_null())
                else {
                    continue;
                };
                let place = place(
                    format!("{}.{}", levels.path(), severity.as_str()),
                    node.position,
                );
                if let Some(change) =
                    read_level(&levels, severity.as_str(), figure.map(|figure| figure.unit))
                {
                    settings.push(Setting {
                        name: name.into(),
                        severity: Some(severity),
                        change,
                        place,
                    });
                }
            }
            levels.finish();
        }
        Thresholds {
            settings,
            of_profile: false,
        }
    }
}

/// What one severity says: `off`, `on`, a figure, or a mapping; `None` is a mistake, `Some(None)`
/// is `off`.
fn read_level(levels: &Section<'_>, key: &str, unit: Option<Unit>) -> Option<Option<Change>> {
    let node = levels.node(key)?;
    if matches!(node.value, Value::Map(_)) {
        let level = levels.section(key)?;
        let figure = level
            .node("figure")
            .and_then(|_| read_figure(&level, "figure", unit));
        let (hold, window) = (level.get("for"), level.get("window"));
        level.finish();
        return Some(Some(Change {
            figure,
            hold,
            window,
        }));
    }
    match &node.value {
        Value::Scalar {
            text,
            style: ScalarStyle::Plain,
        } if text == "off" => Some(None),
        Value::Scalar {
            text,
            style: ScalarStyle::Plain,
        } if text == "on" => Some(Some(Change::default())),
        _ => read_figure(levels, key, unit).map(|figure| {
            Some(Change {
                figure: Some(figure),
                ..Change::default()
            })
        }),
    }
}

fn read_figure(section: &Section<'_>, key: &str, unit: Option<Unit>) -> Option<f64> {
    let text = String::from_node(section, key, section.node(key)?)?;
    let Some(unit) = unit else {
        section.error(
            key,
            "names an alert, whose figure has no name",
            "write on, off, or {for: 5m}",
        );
        return None;
    };
    let figure = unit.parse(&text);
    if figure.is_none() {
        section.error(
            key,
            format!("{text:?} is not valid here"),
            format!("give {}, or off", unit.wanted()),
        );
    }
    figure
}
