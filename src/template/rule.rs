//! Templates in the labels and annotations of rules: the variables and functions that Prometheus gives them.

use std::sync::{Arc, LazyLock};

use gotmpl::{FuncMap, Value};

use super::{Template, failed, functions, text};
use crate::model::{Labels, Timestamp};

/// Answers an expression at the evaluation's time: samples with their labels, or an error's text.
pub type Query = Arc<dyn Fn(&str) -> Result<Vec<(Labels, f64)>, String> + Send + Sync>;

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
    /// The evaluation's time.
    pub now: Timestamp,
    /// Answers the function `query`.
    pub query: &'a Query,
}

/// Names of the functions that need the data; the others are in [`functions`].
const WITH_DATA: [&str; 4] = ["query", "now", "externalURL", "pathPrefix"];

static KNOWN: LazyLock<FuncMap> = LazyLock::new(|| {
    let mut known = functions::functions();
    for name in WITH_DATA {
        known.insert(name.to_owned(), Arc::new(|_: &[Value]| failed("not now")));
    }
    known
});

impl Template {
    /// Reads a label or annotation of the rule `alert`. Errs as Prometheus does when it loads rules.
    pub fn rule(alert: &str, written: &str) -> Result<Self, String> {
        Template::parse(&format!("__alert_{alert}"), PRELUDE, written, &KNOWN)
    }

    /// As [`Template::rule`]; a text that cannot be read becomes one that prints the error.
    pub fn rule_or_error(alert: &str, written: &str) -> Self {
        Template::rule(alert, written).unwrap_or_else(|error| {
            let text = format!("<error expanding template: error parsing template __alert_{alert}: {error}>");
            Template { name: String::new(), body: super::Body::Plain(text.into()) }
        })
    }

    /// The text for this data, or `<error expanding template: …>`.
    pub fn expand(&self, data: &RuleData<'_>) -> String {
        if self.is_plain() {
            return self.execute(FuncMap::new(), &Value::Nil).unwrap_or_default();
        }
        match self.execute(with_data(data), &values(data)) {
            Ok(expanded) => expanded,
            Err(error) => format!("<error expanding template: error executing template {}: {error}>", self.name),
        }
    }
}

/// Whether the text is a template that a rule may hold; the error in Prometheus's words. `alert` is the rule's name.
pub fn check(alert: &str, written: &str) -> Result<(), String> {
    Template::rule(alert, written).map(drop)
}

/// Reads and expands in one go; a text that cannot be read becomes the error's text, too.
pub fn expand(alert: &str, written: &str, data: &RuleData<'_>) -> String {
    Template::rule_or_error(alert, written).expand(data)
}

fn with_data(data: &RuleData<'_>) -> FuncMap {
    let mut map = KNOWN.clone();
    let query = Arc::clone(data.query);
    map.insert(
        "query".into(),
        Arc::new(move |args: &[Value]| match args {
            [Value::String(expression)] => match query(expression) {
                Ok(samples) => Ok(Value::List(samples.iter().map(|(labels, value)| sample(labels, *value)).collect())),
                Err(error) => failed(format!("error calling query: {error}")),
            },
            _ => failed("query wants one expression"),
        }),
    );
    let now = data.now.seconds();
    map.insert("now".into(), Arc::new(move |_: &[Value]| Ok(Value::Float(now))));
    let url: Arc<str> = data.external_url.into();
    let path: Arc<str> = url::Url::parse(&url).map_or_else(|_| Arc::from(""), |url| url.path().into());
    map.insert("externalURL".into(), Arc::new(move |_: &[Value]| Ok(Value::String(Arc::clone(&url)))));
    map.insert("pathPrefix".into(), Arc::new(move |_: &[Value]| Ok(Value::String(Arc::clone(&path)))));
    map
}

fn set(labels: &Labels) -> Value {
    Value::Map(Arc::new(labels.iter().map(|(name, value)| (Arc::from(name), text(value))).collect()))
}

fn sample(labels: &Labels, value: f64) -> Value {
    Value::Map(Arc::new([(Arc::from("Labels"), set(labels)), (Arc::from("Value"), Value::Float(value))].into()))
}

fn values(data: &RuleData<'_>) -> Value {
    let fields = [
        ("Labels", set(data.labels)),
        ("ExternalLabels", set(data.external_labels)),
        ("ExternalURL", text(data.external_url)),
        ("Value", Value::Float(data.value)),
    ];
    Value::Map(Arc::new(fields.into_iter().map(|(name, value)| (Arc::from(name), value)).collect()))
}
