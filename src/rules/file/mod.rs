//! Rule files in Prometheus's form
//! (<https://prometheus.io/docs/prometheus/latest/configuration/recording_rules/>), every mistake
//! of a file at once.
//!
//! A message begins as promtool's does (`rules.yml: 12:9: group "g", rule 3, "Name": …`); a mistake
//! inside an expression also names the line and column of the offending token in the file, whatever
//! way the YAML scalar is written. Unknown keys are errors; further YAML documents are ignored and
//! reported by [`RuleFile::has_more`].

pub(super) mod reading;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::{AlertingRule, NoData, RecordingRule, Rule, RuleGroup};
use crate::config::{Document, Node, Position, Value};
use crate::model::text::nearest;
use crate::model::{Labels, LabelsBuilder, METRIC_NAME};
use crate::promql::{Expr, Foreign, ValueType, parse_noting};
use crate::template;
pub use reading::UnknownKeys;
use reading::{Reading, scalar_position};

/// A rule file that was read without a mistake.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleFile {
    /// Its groups, in file order.
    pub groups: Vec<RuleGroup>,
    /// Whether further YAML documents follow, which are ignored.
    pub has_more: bool,
    /// Where it uses what a Prometheus refuses, in file order: keys of our own, newer or
    /// experimental parts of the language.
    pub unportable: Vec<Unportable>,
}

/// A part of a rule that a Prometheus refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unportable {
    /// The file as the user named it.
    pub file: String,
    /// Where it stands.
    pub position: Position,
    /// The rule that has it.
    pub rule: RuleLocation,
    /// Which Prometheus refuses what.
    pub problem: String,
}

impl fmt::Display for Unportable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (group, number, name) = (&self.rule.group, self.rule.number, &self.rule.name);
        write!(
            f,
            "{}: {}: group {group:?}, rule {number}, {name:?}: {}",
            self.file, self.position, self.problem
        )
    }
}

/// The rule in which a mistake stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleLocation {
    /// The group's name.
    pub group: String,
    /// The rule's number in its group, from 1.
    pub number: usize,
    /// The value of `alert` or `record`.
    pub name: String,
}

/// A mistake in a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFileError {
    /// The file as the user named it.
    pub file: String,
    /// Where the field or the rule begins; `None` where the file as a whole is meant.
    pub position: Option<Position>,
    /// The rule, where one is concerned.
    pub rule: Option<RuleLocation>,
    /// What is wrong.
    pub problem: String,
    /// The offending token inside an expression.
    pub token: Option<Position>,
}

impl fmt::Display for RuleFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        if let Some(rule) = &self.rule {
            write!(
                f,
                "group {:?}, rule {}, {:?}: ",
                rule.group, rule.number, rule.name
            )?;
        }
        f.write_str(&self.problem)?;
        match self.token {
            Some(token) => write!(f, " (at {}:{token})", self.file),
            None => Ok(()),
        }
    }
}

/// All mistakes of a file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFileErrors(pub Vec<RuleFileError>);

impl fmt::Display for RuleFileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            f.write_str(if index > 0 { "\n" } else { "" })?;
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for RuleFileErrors {}

/// Reads and checks a rule file.
pub fn read(path: &Path) -> Result<RuleFile, RuleFileErrors> {
    read_with(path, UnknownKeys::Refused)
}

/// The same for a file that may hold other people's keys.
pub fn read_with(path: &Path, unknown_keys: UnknownKeys) -> Result<RuleFile, RuleFileErrors> {
    let document = Document::read(path).map_err(Reading::refused)?;
    check(&document, unknown_keys)
}

/// Checks the text of a rule file; `file` is its name for messages and in [`RuleGroup::file`].
pub fn parse_text(file: &str, text: &str) -> Result<RuleFile, RuleFileErrors> {
    parse_text_with(file, text, UnknownKeys::Refused)
}

/// The same for a text that may hold other people's keys.
pub fn parse_text_with(
    file: &str,
    text: &str,
    unknown_keys: UnknownKeys,
) -> Result<RuleFile, RuleFileErrors> {
    let document = Document::parse(file, text).map_err(Reading::refused)?;
    check(&document, unknown_keys)
}

fn check(document: &Document, unknown_keys: UnknownKeys) -> Result<RuleFile, RuleFileErrors> {
    let mut reading = Reading::with(document, unknown_keys);
    reading.known_keys(&document.root, &["groups"]);
    let mut groups: Vec<RuleGroup> = Vec::new();
    for node in reading.list(&document.root, "groups") {
        let group = read_group(&mut reading, node);
        if group.name.is_empty() {
            reading.error(node.position, "Groupname must not be empty");
        } else if groups.iter().any(|g| g.name == group.name) {
            reading.error(
                node.position,
                format!("groupname: {:?} is repeated in the same file", group.name),
            );
        }
        groups.push(group);
    }
    let unportable = std::mem::take(&mut reading.unportable);
    reading.finish(RuleFile {
        groups,
        has_more: document.has_more,
        unportable,
    })
}

fn read_group(reading: &mut Reading<'_>, node: &Node) -> RuleGroup {
    reading.known_keys(
        node,
        &[
            "name",
            "interval",
            "query_offset",
            "limit",
            "labels",
            "rules",
        ],
    );
    let name = reading.text(node, "name").unwrap_or_default();
    let interval = reading.duration(node, "interval").filter(|d| !d.is_zero());
    let query_offset = reading.duration(node, "query_offset");
    let limit = reading
        .integer(node, "limit")
        .map_or(0, |limit| usize::try_from(limit).unwrap_or(0));
    let labels = labels(reading, node, "labels", "invalid label name");
    let rules = reading.list(node, "rules").into_iter().enumerate();
    let mut rules: Vec<Rule> = rules
        .filter_map(|(index, rule)| read_rule(reading, &name, index + 1, rule, &labels))
        .collect();
    rules.shrink_to_fit();
    RuleGroup {
        name,
        file: reading.file().to_owned(),
        interval,
        query_offset,
        limit,
        labels,
        shipped: false,
        wanted: BTreeMap::new(),
        rules,
    }
}

/// Keys of rules that Prometheus does not know.
const OWN_KEYS: [&str; 2] = ["recover_expr", "no_data"];
const RULE_KEYS: [&str; 9] = [
    "record",
    "alert",
    "expr",
    "for",
    "keep_firing_for",
    OWN_KEYS[0],
    OWN_KEYS[1],
    "labels",
    "annotations",
];

/// The rule, or `None` when something is wrong with it; what, is recorded.
fn read_rule(
    reading: &mut Reading<'_>,
    group: &str,
    number: usize,
    node: &Node,
    group_labels: &Labels,
) -> Option<Rule> {
    let record = reading.text(node, "record").unwrap_or_default();
    let alert = reading.text(node, "alert").unwrap_or_default();
    let name = if alert.is_empty() {
        record.clone()
    } else {
        alert.clone()
    };
    reading.enter(RuleLocation {
        group: group.to_owned(),
        number,
        name: name.clone(),
    });
    reading.known_keys(node, &RULE_KEYS);
    if let Value::Map(entries) = &node.value {
        for (key, position, _) in entries
            .iter()
            .filter(|(key, _, _)| OWN_KEYS.contains(&key.as_str()))
        {
            reading.is_unportable(*position, format!("Prometheus does not know {key}"));
        }
    }
    let at = |key: &str| node.get(key).map_or(node.position, |n| n.position);
    match (record.is_empty(), alert.is_empty()) {
        (false, false) => {
            reading.error(at("record"), "only one of 'record' and 'alert' must be set")
        }
        (true, true) => reading.error(node.position, "one of 'record' or 'alert' must be set"),
        _ => {}
    }
    let expr = if reading
        .text(node, "expr")
        .unwrap_or_default()
        .trim()
        .is_empty()
    {
        reading.error(at("expr"), "field 'expr' must be set in rule");
        None
    } else {
        read_expr(reading, node, "expr")
    };
    let hold = reading.duration(node, "for").unwrap_or_default();
    let keep_firing_for = reading
        .duration(node, "keep_firing_for")
        .unwrap_or_default();
    let (recover_expr, no_data) = (read_recovery(reading, node), read_no_data(reading, node));
    if !record.is_empty() {
        check_recording(reading, node, &record, hold, keep_firing_for);
    }
    let own_labels = labels(reading, node, "labels", "invalid label name");
    let annotations = labels(reading, node, "annotations", "invalid annotation name");
    if !alert.is_empty() {
        check_templates(reading, node, &alert, &own_labels, &annotations);
    }
    reading.leave();
    let (expr, position, labels) = (expr?, node.position, merged(group_labels, &own_labels));
    let places = |key: &str, expr: &Expr| selector_places(reading, node, key, expr);
    let expr_text = expr.to_string();
    let of_recovery = recover_expr
        .as_ref()
        .map(|recovery| places("recover_expr", recovery))
        .unwrap_or_default();
    let selectors = [places("expr", &expr), of_recovery].concat();
    Some(if alert.is_empty() {
        Rule::Recording(RecordingRule {
            name,
            expr,
            expr_text,
            labels,
            position,
            selectors,
        })
    } else {
        Rule::Alerting(AlertingRule {
            name,
            expr,
            expr_text,
            hold,
            keep_firing_for,
            recover_expr: recover_expr.map(Box::new),
            no_data,
            labels,
            annotations,
            position,
            selectors,
        })
    })
}

fn read_expr(reading: &mut Reading<'_>, rule: &Node, key: &str) -> Option<Expr> {
    let node = rule.get(key)?;
    let Value::Scalar { text, .. } = &node.value else {
        return None;
    };
    match parse_noting(text) {
        Ok((expr, foreign)) => {
            for Foreign { span, problem } in foreign.into_iter().filter(|_| key == "expr") {
                reading.is_unportable(
                    scalar_position(reading.source(), node, text, span.start),
                    problem.into_owned(),
                );
            }
            Some(expr)
        }
        Err(e) => {
            let token = scalar_position(reading.source(), node, text, e.span.start);
            let whose = if key == "expr" {
                String::new()
            } else {
                format!("{key}: ")
            };
            reading.error_with_token(
                node.position,
                format!("{whose}could not parse expression: {e}"),
                token,
            );
            None
        }
    }
}

/// `recover_expr`: an expression that has labels to compare, or says yes or no to all.
fn read_recovery(reading: &mut Reading<'_>, rule: &Node) -> Option<Expr> {
    let node = rule.get("recover_expr")?;
    if reading
        .text(rule, "recover_expr")
        .is_none_or(|text| text.trim().is_empty())
    {
        reading.error(
            node.position,
            "recover_expr: is empty; write when the alert has recovered, or leave it out",
        );
        return None;
    }
    let expr = read_expr(reading, rule, "recover_expr")?;
    if matches!(expr.value_type(), ValueType::Vector | ValueType::Scalar) {
        return Some(expr);
    }
    let problem = format!(
        "recover_expr: is a {}; write an instant vector or a scalar",
        expr.value_type().documented()
    );
    reading.error(node.position, problem);
    None
}

fn read_no_data(reading: &mut Reading<'_>, rule: &Node) -> Option<NoData> {
    let node = rule.get("no_data")?;
    let text = reading.text(rule, "no_data").unwrap_or_default();
    let found = NoData::ALL.into_iter().find(|one| one.as_str() == text);
    if found.is_none() {
        let meant = nearest(&text, NoData::ALL.into_iter().map(NoData::as_str))
            .map(|name| format!("; did you mean {name:?}?"));
        let remedy = meant.unwrap_or_else(|| "; write hold, alert or resolve".to_owned());
        reading.error(
            node.position,
            format!("no_data: {text:?} is not known{remedy}"),
        );
    }
    found
}

/// Where the selectors of a rule's expression stand in the file.
fn selector_places(reading: &Reading<'_>, rule: &Node, key: &str, expr: &Expr) -> Vec<Position> {
    let Some(node) = rule.get(key) else {
        return Vec::new();
    };
    let Value::Scalar { text, .. } = &node.value else {
        return Vec::new();
    };
    expr.selectors()
        .into_iter()
        .map(|selector| scalar_position(reading.source(), node, text, selector.span.start))
        .collect()
}

fn check_recording(
    reading: &mut Reading<'_>,
    node: &Node,
    record: &str,
    hold: Duration,
    keep: Duration,
) {
    let position = node.get("record").map_or(node.position, |n| n.position);
    let has_annotations = node
        .get("annotations")
        .is_some_and(|n| matches!(&n.value, Value::Map(entries) if !entries.is_empty()));
    let has = |key: &str| node.get(key).is_some();
    let fields = [
        (has_annotations, "annotations"),
        (!hold.is_zero(), "for"),
        (!keep.is_zero(), "keep_firing_for"),
        (has(OWN_KEYS[0]), OWN_KEYS[0]),
        (has(OWN_KEYS[1]), OWN_KEYS[1]),
    ];
    for (wrong, field) in fields {
        if wrong {
            reading.error(
                position,
                format!("invalid field '{field}' in recording rule"),
            );
        }
    }
    if record.contains(['{', '}']) {
        reading.error(
            position,
            format!("braces present in the recording rule name; should it be in expr?: {record}"),
        );
    }
}

/// Templates are read, not run: what they give depends on samples.
fn check_templates(
    reading: &mut Reading<'_>,
    rule: &Node,
    alert: &str,
    labels: &Labels,
    annotations: &Labels,
) {
    for (key, kind, texts) in [
        ("labels", "label", labels),
        ("annotations", "annotation", annotations),
    ] {
        for (name, text) in texts {
            if let Err(error) = template::check(alert, text) {
                let position = rule
                    .get(key)
                    .and_then(|set| set.get(name))
                    .map_or(rule.position, |n| n.position);
                reading.error(position, format!("{kind} {name:?}: {error}"));
            }
        }
    }
}

/// A mapping of names to texts; names must not be empty, nor the metric name's.
fn labels(reading: &mut Reading<'_>, node: &Node, key: &str, complaint: &str) -> Labels {
    let mut builder = LabelsBuilder::new();
    for (name, position, value) in reading.mapping(node, key) {
        if name.is_empty() || (name == METRIC_NAME && key == "labels") {
            reading.error(*position, format!("{complaint}: {name}"));
        }
        builder.put(name, &reading.scalar(value, name).unwrap_or_default());
    }
    builder.build()
}

/// Group labels under rule labels. An empty value stays: it takes the label away from what the rule
/// finds.
fn merged(group: &Labels, own: &Labels) -> Labels {
    let mut builder = group.to_builder();
    for (name, value) in own {
        builder.put(name, value);
    }
    builder.build()
}
