//! Templates in the labels and annotations of rules: the variables and functions that Prometheus
//! gives them.

use std::cell::OnceCell;
use std::sync::Arc;

use gotmpl::Value;

use super::functions::RULES;
use super::go::call::Context;
use super::go::typed;
use super::go::typed::Dialect;
use super::{Mistake, Template, text};
use crate::model::{Labels, NativeHistogram, Timestamp};

/// Answers an expression at the evaluation's time: samples with their labels.
pub type Query = Arc<dyn Fn(&str) -> Result<Vec<Queried>, QueryError> + Send + Sync>;

/// Why an expression of a template has no answer.
pub type QueryError = Box<dyn std::error::Error + Send + Sync>;

/// A sample that a template asked for.
#[derive(Clone, Debug)]
pub struct Queried {
    /// Its labels, the metric name included.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// The sample, if it is a native histogram: then it is the value.
    pub histogram: Option<Arc<NativeHistogram>>,
}

/// What stands before every template, so that `$labels` and `$value` exist.
const PRELUDE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// What a rule's template sees.
pub struct RuleData<'a> {
    /// Labels of the sample, the metric name included.
    pub labels: &'a Labels,
    /// Labels that this instance adds to everything it sends.
    pub external_labels: &'a Labels,
    /// Where this instance's pages are.
    pub external_url: &'a str,
    /// The sample's value.
    pub value: f64,
    /// The sample, if it is a native histogram: then it is the value.
    pub histogram: Option<&'a NativeHistogram>,
    /// The evaluation's time.
    pub now: Timestamp,
    /// Answers the function `query`.
    pub query: &'a Query,
}

impl Template {
    /// Reads a label or annotation of the rule `alert`.
    ///
    /// # Errors
    /// As Prometheus does when it loads rules.
    pub fn rule(alert: &str, written: &str) -> Result<Self, Mistake> {
        Template::parse(&format!("__alert_{alert}"), PRELUDE, written, &RULES, None)
    }

    /// As [`Template::rule`]; a text that cannot be read becomes one that prints the error.
    pub fn rule_or_error(alert: &str, written: &str) -> Self {
        Template::rule(alert, written).unwrap_or_else(|error| {
            let text = format!(
                "<error expanding template: error parsing template __alert_{alert}: {error}>"
            );
            Template {
                name: String::new(),
                body: super::Body::Plain(text.into()),
            }
        })
    }

    /// The text for this data, or `<error expanding template: …>`.
    pub fn expand(&self, data: &RuleData<'_>) -> String {
        if self.is_plain() {
            return self.plain().to_owned();
        }
        let context = Context::new(
            self,
            &RULES,
            Dialect::Rule,
            data.now,
            data.external_url,
            Some(Arc::clone(data.query)),
        );
        match self.execute(&context, &values(data), false) {
            Ok(expanded) => expanded,
            Err(error) => format!(
                "<error expanding template: error executing template {}: {error}>",
                self.name
            ),
        }
    }
}

/// A label or annotation of a rule for the length of one evaluation, read when the first alert
/// needs it: to read a text anew takes about as long as to expand it once, and its tree is fifty
/// times as large.
pub struct RuleText<'a> {
    alert: &'a str,
    written: &'a str,
    read: OnceCell<Template>,
}

impl<'a> RuleText<'a> {
    /// The text `written` of the rule `alert`.
    pub fn new(alert: &'a str, written: &'a str) -> Self {
        RuleText {
            alert,
            written,
            read: OnceCell::new(),
        }
    }

    /// The text for this data, or what [`Template::expand`] and [`Template::rule_or_error`] print
    /// for an error.
    pub fn expand(&self, data: &RuleData<'_>) -> String {
        if !self.written.contains("{{") {
            return self.written.to_owned();
        }
        self.read
            .get_or_init(|| Template::rule_or_error(self.alert, self.written))
            .expand(data)
    }
}

/// Whether the text is a template that a rule may hold. `alert` is the rule's name.
///
/// # Errors
/// Where it is none, in Prometheus's words.
pub fn check(alert: &str, written: &str) -> Result<(), Mistake> {
    Template::rule(alert, written).map(drop)
}

/// Reads and expands in one go; a text that cannot be read becomes the error's text, too.
pub fn expand(alert: &str, written: &str, data: &RuleData<'_>) -> String {
    Template::rule_or_error(alert, written).expand(data)
}

fn set(labels: &Labels) -> Value {
    Value::Map(Arc::new(
        labels
            .iter()
            .map(|(name, value)| (Arc::from(name), text(value)))
            .collect(),
    ))
}

pub(super) fn sample(sample: &Queried) -> Value {
    typed::structure(
        "template.sample",
        [
            ("Labels", set(&sample.labels)),
            ("Value", measured(sample.value, sample.histogram.as_deref())),
        ],
    )
}

/// A value, which may be a native histogram.
fn measured(value: f64, histogram: Option<&NativeHistogram>) -> Value {
    histogram.map_or(Value::Float(value), |histogram| {
        typed::histogram(&histogram.to_string())
    })
}

fn values(data: &RuleData<'_>) -> Value {
    let fields = [
        ("Labels", set(data.labels)),
        ("ExternalLabels", set(data.external_labels)),
        ("ExternalURL", text(data.external_url)),
        ("Value", measured(data.value, data.histogram)),
    ];
    typed::structure(DATA, fields)
}

/// Go's name for the type of what a rule's template sees.
const DATA: &str = "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }";
