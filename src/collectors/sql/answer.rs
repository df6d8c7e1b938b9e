//! From columns and rows to samples.

use std::collections::BTreeSet;

use crate::model::{Batch, MetricKind};

use super::{Column, MAX_LABEL, Query};

/// Columns at most.
const MAX_COLUMNS: usize = 100;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// None, or one that is no number where one is wanted.
    Null,
    /// A number.
    Number(f64),
    /// A label's value.
    Text(String),
}

/// What a column becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A label.
    Label,
    /// A metric.
    Value,
}

/// The columns that are used, before any row is read.
#[derive(Debug)]
pub struct Shape {
    /// Index in the statement's own columns, and what becomes of it.
    pub used: Vec<(usize, Role)>,
    /// Names of the used columns.
    names: Vec<String>,
    /// Text columns that are no labels.
    pub unused: Vec<String>,
}

/// What a run gave: a cell for each used column, at most one row more than are wanted.
#[derive(Debug)]
pub struct Answer {
    /// The columns.
    pub shape: Shape,
    /// The rows.
    pub rows: Vec<Vec<Cell>>,
}

/// What becomes of an answer.
#[derive(Debug, Default)]
pub struct Results {
    /// The samples.
    pub batch: Batch,
    /// Rows that were used.
    pub rows: usize,
    /// Whether there were more.
    pub truncated: bool,
    /// Text columns that are no labels.
    pub unused: Vec<String>,
}

impl Query {
    /// What becomes of the columns: their names, and whether they can be numbers.
    pub fn shape(&self, columns: Vec<(String, bool)>) -> Result<Shape, String> {
        if columns.len() > MAX_COLUMNS {
            return Err(format!(
                "gives {} columns, more than {MAX_COLUMNS}: select those that are needed",
                columns.len()
            ));
        }
        let mut shape = Shape {
            used: Vec::new(),
            names: Vec::new(),
            unused: Vec::new(),
        };
        for label in &self.labels {
            if !columns
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(label))
            {
                let known: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
                return Err(format!(
                    "has no column {label:?}, which labels lists; its columns: {}",
                    known.join(", ")
                ));
            }
        }
        let mut metrics = BTreeSet::new();
        for (index, (name, numeric)) in columns.into_iter().enumerate() {
            let role = if self
                .labels
                .iter()
                .any(|label| label.eq_ignore_ascii_case(&name))
            {
                Role::Label
            } else if !self.is_wanted(&name) {
                continue;
            } else if numeric {
                Role::Value
            } else {
                shape.unused.push(name);
                continue;
            };
            let key = match role {
                Role::Label => (name.to_ascii_lowercase(), None),
                Role::Value => (
                    self.metric(&name),
                    self.column(&name).and_then(|column| column.label.clone()),
                ),
            };
            if !metrics.insert(key) {
                return Err(format!(
                    "has two columns {name:?}: give each a name of its own with AS"
                ));
            }
            shape.used.push((index, role));
            shape.names.push(name);
        }
        if !shape.used.iter().any(|(_, role)| *role == Role::Value) {
            return Err("has no column that is a number".to_owned());
        }
        Ok(shape)
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(name))
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.column(name)
            .map_or(self.others, |column| column.metric.as_deref() != Some(""))
    }

    /// The metric that a column becomes: what no metric's name may hold becomes `_`.
    fn metric(&self, name: &str) -> String {
        if let Some(metric) = self.column(name).and_then(|column| column.metric.clone()) {
            return metric;
        }
        let mut metric = self.prefix.clone();
        for c in name.chars() {
            if c.is_ascii_alphanumeric() || c == '_' {
                metric.push(c);
            } else if !metric.ends_with('_') {
                metric.push('_');
            }
        }
        metric.trim_end_matches('_').to_owned()
    }

    /// The samples of an answer.
    pub fn results(&self, mut answer: Answer) -> Result<Results, String> {
        let truncated = answer.rows.len() > self.max_rows;
        answer.rows.truncate(self.max_rows);
        let mut results = Results {
            rows: answer.rows.len(),
            truncated,
            unused: answer.shape.unused,
            batch: Batch::new(),
        };
        let mut seen = BTreeSet::new();
        for row in &answer.rows {
            let columns = || answer.shape.names.iter().zip(&answer.shape.used).zip(row);
            let mut labels: Vec<(&str, &str)> = self
                .fixed
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            for ((name, (_, role)), cell) in columns() {
                // An empty label is none: a row with an empty text and one without are the same
                // series.
                if let (Role::Label, Cell::Text(text)) = (role, cell)
                    && !text.is_empty()
                {
                    let label = self
                        .labels
                        .iter()
                        .find(|label| label.eq_ignore_ascii_case(name));
                    labels.push((label.map_or(name, String::as_str), text));
                }
            }
            if !seen.insert(labels.clone()) {
                return Err(match self.labels.is_empty() {
                    true => {
                        format!(
                            "gives {} rows, and no column is a label: aggregate them, or list columns under labels",
                            answer.rows.len()
                        )
                    }
                    false => {
                        format!(
                            "gives several rows with the labels {}: list a further column under labels, or aggregate",
                            shown(&labels)
                        )
                    }
                });
            }
            for ((name, (_, role)), cell) in columns() {
                let (Role::Value, Cell::Number(value)) = (role, cell) else {
                    continue;
                };
                let column = self.column(name);
                let help = column
                    .map(|column| column.help.as_str())
                    .filter(|help| !help.is_empty());
                let help = help.map_or_else(
                    || format!("Column {name} of the query {}.", self.name),
                    str::to_owned,
                );
                let of_column = column
                    .and_then(|column| column.label.as_ref())
                    .map(|(name, value)| (name.as_str(), value.as_str()));
                let labels: Vec<(&str, &str)> = labels.iter().copied().chain(of_column).collect();
                let kind = column.map_or(MetricKind::Gauge, |column| column.kind);
                results
                    .batch
                    .push_named(&self.metric(name), kind, &help, &labels, *value);
            }
            for ((name, (_, role)), cell) in columns() {
                // SQLite knows of each value only what it is.
                if let (Role::Value, Cell::Text(_)) = (role, cell)
                    && !results.unused.contains(name)
                {
                    results.unused.push(name.clone());
                }
            }
        }
        Ok(results)
    }
}

/// Labels for a message.
fn shown(labels: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={:?}", value.chars().take(40).collect::<String>()))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// A label's value, no longer than one may be.
pub fn label(text: &str) -> Cell {
    Cell::Text(text.chars().take(MAX_LABEL).collect())
}
