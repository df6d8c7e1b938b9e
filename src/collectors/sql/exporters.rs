//! The key `queries_file`: queries as other exporters read them, postgres_exporter's `queries.yaml`
//! (<https://github.com/prometheus-community/postgres_exporter>, `--extend.query-path`) and
//! collector files of sql_exporter (<https://github.com/burningalchemist/sql_exporter>,
//! `*.collector.yml`). Metrics keep the names that they have there.
//!
//! What they say and cannot be done here is refused, with what to do instead. `${NAME}` stands for
//! itself, as it does there.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{ConfigError, Document, Environment, Loader, Section, Value};
use crate::model::MetricKind;
use crate::model::text::is_legacy_metric_name;

use super::reader::{MAX_ROWS, Reader, is_label};
use super::{Column, Query};

/// Reads the file that `queries_file` names. Its mistakes name it, and the lines in it.
pub fn read(section: &Section<'_>, path: PathBuf, reader: &Reader<'_>) -> Vec<Query> {
    const KEY: &str = "queries_file";
    let name = path.display().to_string();
    let text = match section.content(&path) {
        Ok(text) => text,
        Err(error) => {
            section.error(
                KEY,
                format!("{name}: cannot be read: {error}"),
                "check the path and its permissions",
            );
            return Vec::new();
        }
    };
    let document = match Document::parse(&name, &text) {
        Ok(document) => document,
        Err(error) => {
            section.include(error);
            return Vec::new();
        }
    };
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, path.parent().unwrap_or(&path));
    let queries = {
        let root = loader.root().as_written();
        let is_map =
            |key: &&str| matches!(root.node(key).map(|node| &node.value), Some(Value::Map(_)));
        let keys = root.keys();
        if keys.contains(&"collector_name")
            || matches!(
                root.node("metrics").map(|node| &node.value),
                Some(Value::List(_))
            )
        {
            collector_file(&root, reader)
        } else if keys
            .iter()
            .any(|key| ["target", "jobs", "collector_files", "collectors", "global"].contains(key))
        {
            let problem =
                "is the configuration of an sql_exporter, not a file of queries".to_owned();
            root.error_at(
                root.own_node().position,
                "",
                problem,
                "name its *.collector.yml; the server is this collector's dsn".into(),
            );
            Vec::new()
        } else if !keys.is_empty() && keys.iter().all(is_map) {
            queries_yaml(&root, reader, section)
        } else {
            let problem =
                "is neither postgres_exporter's queries.yaml nor a collector file of sql_exporter"
                    .to_owned();
            let remedy =
                "write the queries under queries: instead, each with name and sql".to_owned();
            root.error_at(root.own_node().position, "", problem, remedy);
            Vec::new()
        }
    };
    let errors: Vec<ConfigError> = loader.into_errors().0;
    if !errors.is_empty() {
        errors.into_iter().for_each(|error| section.include(error));
        return Vec::new();
    }
    queries
}

/// `namespace: {query, metrics: [column: {usage, description}], cache_seconds, master, primary,
/// runonserver}`.
fn queries_yaml(root: &Section<'_>, reader: &Reader<'_>, outer: &Section<'_>) -> Vec<Query> {
    let mut queries = Vec::new();
    for namespace in root.keys() {
        let Some(entry) = root.section(namespace) else {
            continue;
        };
        let text: String = entry.require("query");
        // Which of several servers it is asked of: there is one here.
        let _one_server: (Option<bool>, Option<bool>) = (entry.get("master"), entry.get("primary"));
        if entry
            .node("runonserver")
            .is_some_and(|node| !node.is_null())
        {
            let remedy =
                "remove it, and the entries that are for other versions than this server's";
            entry.error(
                "runonserver",
                "cannot be taken: which version a server has is not known here",
                remedy,
            );
        }
        let interval = Duration::from_secs(entry.or("cache_seconds", 0));
        let (mut labels, mut columns, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for metric in entry.sections("metrics") {
            for column in metric.keys() {
                let Some(settings) = metric.section(column) else {
                    continue;
                };
                let usage: String = settings.require("usage");
                let help: String = settings.or("description", String::new());
                settings.or("metric_mapping", String::new());
                settings.finish();
                let whole = format!("{namespace}_{column}");
                let mut add = |kind, metric| {
                    columns.push(Column {
                        name: column.to_owned(),
                        kind,
                        help: help.clone(),
                        metric,
                        label: None,
                    })
                };
                match usage.to_ascii_uppercase().as_str() {
                    "LABEL" if is_label(column) => labels.push(column.to_owned()),
                    "LABEL" => metric.error(
                        column,
                        "cannot be a label",
                        "give the column another name with AS",
                    ),
                    "DISCARD" => add(MetricKind::Gauge, Some(String::new())),
                    "COUNTER" | "GAUGE"
                        if reader
                            .own
                            .iter()
                            .copied()
                            .flatten()
                            .any(|own| own.name == whole) =>
                    {
                        taken.push(whole);
                        add(MetricKind::Gauge, Some(String::new()));
                    }
                    "COUNTER" | "GAUGE" if is_legacy_metric_name(&whole) => {
                        add(
                            if usage.eq_ignore_ascii_case("counter") {
                                MetricKind::Counter
                            } else {
                                MetricKind::Gauge
                            },
                            Some(whole),
                        );
                    }
                    "COUNTER" | "GAUGE" => metric.error(
                        column,
                        format!("makes the metric {whole:?}, which is no name"),
                        "rename it with AS",
                    ),
                    "DURATION" => {
                        let remedy = "select seconds: extract(epoch from …), as GAUGE";
                        settings.error(
                            "usage",
                            "DURATION reads a text, which is not done here",
                            remedy,
                        );
                    }
                    "HISTOGRAM" => settings.error(
                        "usage",
                        "HISTOGRAM is not made of a query here",
                        "give the columns as GAUGE or COUNTER",
                    ),
                    "MAPPEDMETRIC" => settings.error(
                        "usage",
                        "MAPPEDMETRIC is not done here",
                        "map with CASE … END in the query",
                    ),
                    _ => settings.error(
                        "usage",
                        "is not known",
                        "give LABEL, GAUGE, COUNTER or DISCARD",
                    ),
                }
            }
        }
        entry.finish();
        if !taken.is_empty() {
            outer.note(
                "queries_file",
                format!(
                    "{namespace}: this collector measures {} itself",
                    taken.join(", ")
                ),
                "the column is left out",
            );
        }
        let Some((sql, literals)) = reader.statement(&entry, "query", &text) else {
            continue;
        };
        if !taken.is_empty()
            && columns
                .iter()
                .all(|column: &Column| column.metric.as_deref() == Some(""))
        {
            continue;
        }
        let timeout = reader.timeout(None);
        let (name, prefix, max_rows) =
            (namespace.to_owned(), format!("{namespace}_"), MAX_ROWS * 10);
        let fixed = Vec::new();
        queries.push(Query {
            name,
            sql,
            literals,
            interval,
            timeout,
            max_rows,
            labels,
            fixed,
            prefix,
            columns,
            others: false,
            database: None,
        });
    }
    queries
}

/// `collector_name, min_interval, metrics: [{metric_name, type, help, key_labels, static_labels,
/// value_label, values, query | query_ref}], queries: [{query_name, query}]`.
fn collector_file(root: &Section<'_>, reader: &Reader<'_>) -> Vec<Query> {
    root.get::<String>("collector_name");
    let interval = root.or("min_interval", Duration::ZERO);
    let named: Vec<(String, String)> = root
        .sections("queries")
        .into_iter()
        .map(|query| {
            let found = (query.require("query_name"), query.require("query"));
            query.finish();
            found
        })
        .collect();
    let mut queries: Vec<Query> = Vec::new();
    for entry in root.sections("metrics") {
        let name: String = entry.require("metric_name");
        if !is_legacy_metric_name(&name) {
            entry.error(
                "metric_name",
                "is no name of a metric",
                "use letters, digits, _ and :",
            );
        }
        let kind = match entry
            .require::<String>("type")
            .to_ascii_lowercase()
            .as_str()
        {
            "counter" => MetricKind::Counter,
            "gauge" => MetricKind::Gauge,
            _ => {
                entry.error("type", "is not known", "give gauge or counter");
                MetricKind::Gauge
            }
        };
        let help: String = entry.or("help", String::new());
        let labels: Vec<String> = entry.or("key_labels", Vec::new());
        let fixed: Vec<(String, String)> = entry
            .get::<std::collections::BTreeMap<String, String>>("static_labels")
            .unwrap_or_default()
            .into_iter()
            .collect();
        let value_label: Option<String> = entry.get("value_label");
        for label in labels
            .iter()
            .chain(fixed.iter().map(|(name, _)| name))
            .chain(&value_label)
        {
            if !is_label(label) {
                entry.error_at(
                    entry.own_node().position,
                    "",
                    format!("{label:?} cannot be a label"),
                    "give it another name".into(),
                );
            }
        }
        let values: Vec<String> = entry.or("values", Vec::new());
        for key in ["static_value", "timestamp_value", "no_prepared_statement"] {
            if entry.node(key).is_some_and(|node| !node.is_null()) {
                let remedy = if key == "static_value" {
                    "select the number as a column, and name it under values"
                } else {
                    "remove it"
                };
                entry.error(key, "is not done here", remedy);
            }
        }
        if values.is_empty() && entry.node("static_value").is_none() {
            entry.error("values", "is missing", "name the columns that are numbers");
        }
        if values.len() > 1 && value_label.is_none() {
            entry.error(
                "values",
                "names several columns",
                "add value_label: with the label that tells them apart",
            );
        }
        let text: Option<String> = entry.get("query");
        let reference: Option<String> = entry.get("query_ref");
        entry.finish();
        let (key, text) = match (&text, &reference) {
            (Some(text), None) => ("query", text),
            (None, Some(reference)) => match named.iter().find(|(name, _)| name == reference) {
                Some((_, text)) => ("query_ref", text),
                None => {
                    entry.error(
                        "query_ref",
                        "names no query of this file",
                        "add it under queries:, with query_name and query",
                    );
                    continue;
                }
            },
            _ => {
                entry.error(
                    "query",
                    "is missing, or stands beside query_ref",
                    "give one of query and query_ref",
                );
                continue;
            }
        };
        let Some((sql, literals)) = reader.statement(&entry, key, text) else {
            continue;
        };
        let column = |value: &String| Column {
            name: value.clone(),
            kind,
            help: help.clone(),
            metric: Some(name.clone()),
            label: value_label
                .as_ref()
                .map(|label| (label.clone(), value.clone())),
        };
        let columns = values.iter().map(column).collect();
        let (timeout, max_rows, prefix) = (reader.timeout(None), MAX_ROWS * 10, String::new());
        if queries.iter().any(|other| other.name == name)
            || reader
                .own
                .iter()
                .copied()
                .flatten()
                .any(|own| own.name == name)
        {
            entry.error(
                "metric_name",
                "is another metric's already",
                "give each metric its own name",
            );
        }
        queries.push(Query {
            name,
            sql,
            literals,
            interval,
            timeout,
            max_rows,
            labels,
            fixed,
            prefix,
            columns,
            others: false,
            database: None,
        });
    }
    root.finish();
    queries
}
