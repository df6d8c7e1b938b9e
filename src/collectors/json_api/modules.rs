//! json_exporter's files (<https://github.com/prometheus-community/json_exporter>): a module says
//! what is asked and what is read. What cannot be done here is refused, with its place in that
//! file.

use std::collections::BTreeMap;
use std::path::Path as File;

use crate::config::{Document, Environment, Loader, Section};
use crate::http::HttpConfig;
use crate::model::MetricKind;

use super::asked::Asked;
use super::metric::{Elements, Metric, Part, Value, Words};
use super::path::Path;

/// Reads one module of a file; mistakes are recorded in `section`, which names the file.
pub fn read(section: &Section<'_>, file: &File, name: &str) -> Asked {
    let document = match Document::read(file) {
        Ok(document) => document,
        Err(error) => {
            section.include(error);
            return Asked::default();
        }
    };
    let environment = Environment::literal();
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(File::new("."));
    let loader = Loader::new(&document, &environment, folder);
    let asked = {
        let root = loader.root();
        let modules = root.section("modules");
        let module = modules.as_ref().and_then(|modules| modules.section(name));
        let known = modules
            .as_ref()
            .map(|modules| modules.keys().join(", "))
            .unwrap_or_default();
        root.finish();
        if module.is_none() {
            let remedy = if known.is_empty() {
                "it has none; write modules: {default: …}".into()
            } else {
                format!("known there: {known}")
            };
            section.error(
                "module",
                format!("{} has no module {name:?}", file.display()),
                remedy,
            );
        }
        module
            .map(|module| read_module(&module))
            .unwrap_or_default()
    };
    loader
        .into_errors()
        .0
        .into_iter()
        .for_each(|error| section.include(error));
    asked
}

fn read_module(section: &Section<'_>) -> Asked {
    let body = section.section("body").and_then(|body| {
        let content = body.secret("content");
        let is_template = body.or("templatize", false)
            && content
                .as_ref()
                .is_some_and(|text| text.expose().contains("{{"));
        if is_template {
            body.error(
                "templatize",
                "templates of a body are not known here",
                "write the body as it is to be sent",
            );
        }
        body.finish();
        content
    });
    let http = section.section("http_client_config").map(|http| {
        let config = HttpConfig::read(&http);
        http.finish();
        config
    });
    let asked = Asked {
        http: http.unwrap_or_default(),
        headers: section.or("headers", BTreeMap::new()),
        body,
        statuses: section.or("valid_status_codes", Vec::new()),
        metrics: section
            .sections("metrics")
            .iter()
            .flat_map(read_metric)
            .collect(),
    };
    section.finish();
    asked
}

/// One metric, or of type `object` one for each of its values.
fn read_metric(section: &Section<'_>) -> Vec<Metric> {
    let name: String = section.require("name");
    let engine = section.or("engine", "jsonpath".to_owned());
    if engine != "jsonpath" {
        section.error(
            "engine",
            format!("{engine:?} is not known here"),
            "write the metric with engine: jsonpath",
        );
    }
    let kind = match section.or("valuetype", "untyped".to_owned()).as_str() {
        "gauge" => MetricKind::Gauge,
        "counter" => MetricKind::Counter,
        "untyped" => MetricKind::Untyped,
        other => {
            section.error(
                "valuetype",
                format!("{other:?} is not known"),
                "give gauge, counter or untyped",
            );
            MetricKind::Untyped
        }
    };
    let is_object = match section.or("type", "value".to_owned()).as_str() {
        "value" => false,
        "object" => true,
        other => {
            section.error(
                "type",
                format!("{other:?} is not known"),
                "give value or object",
            );
            false
        }
    };
    let help = section.or("help", name.clone());
    let is_optional = section.or("allow_missing_key", false);
    let place: String = section.require("path");
    let path = template_path(section, "path", &place);
    let time = section
        .get::<String>("epochTimestamp")
        .map(|text| template_path(section, "epochTimestamp", &text));
    let labels = section.section("labels").map(|labels| {
        labels
            .keys()
            .iter()
            .map(|name| {
                (
                    (*name).to_owned(),
                    parts(&labels, name, &labels.or(name, String::new())),
                )
            })
            .collect::<Vec<_>>()
    });
    let metric = |name: String, elements, value| Metric {
        name,
        help: help.clone(),
        kind,
        elements,
        value,
        labels: labels.clone().unwrap_or_default(),
        words: Words::Usual,
        is_optional,
        time: time.clone(),
    };
    let values = section.section("values");
    let metrics = match &values {
        Some(values) if is_object => {
            let of_value = |key: &&str| {
                let text = values.or(key, String::new());
                let value = match text.trim().parse::<f64>() {
                    Ok(number) => Value::Fixed(number),
                    Err(_) => Value::At(template_path(values, key, &text)),
                };
                metric(
                    format!("{name}_{key}"),
                    Some(Elements {
                        path: path.clone(),
                        opens: false,
                    }),
                    value,
                )
            };
            values.keys().iter().map(of_value).collect()
        }
        None if is_object => {
            section.error(
                "values",
                "key \"values\" is missing",
                "add values: {name: '{.path}'}",
            );
            Vec::new()
        }
        Some(_) => {
            section.error(
                "values",
                "belongs to type: object",
                "add type: object, or remove it",
            );
            Vec::new()
        }
        None => vec![metric(name.clone(), None, Value::At(path))],
    };
    section.finish();
    metrics
}

/// A text that is one `{path}` and nothing else.
fn template_path(section: &Section<'_>, key: &str, text: &str) -> Path {
    match parts(section, key, text).as_slice() {
        [Part::At(path)] => path.clone(),
        // A mistake that was recorded, or a text that is no path.
        [] => Path::default(),
        _ => {
            section.error(
                key,
                format!("{text:?} is not one path"),
                "give one path in braces, such as '{ .values[*] }'",
            );
            Path::default()
        }
    }
}

/// The parts of a text with `{path}` in it, as Kubernetes's JSONPath templates have it.
fn parts(section: &Section<'_>, key: &str, text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while let Some(begin) = rest.find('{') {
        if begin > 0 {
            parts.push(Part::Text(rest[..begin].to_owned()));
        }
        let Some(end) = end_of(&rest[begin..]) else {
            section.error(
                key,
                format!("{text:?} has a {{ that does not end"),
                "close it",
            );
            return Vec::new();
        };
        let inner = rest[begin + 1..begin + end].trim();
        if ["range", "end", "\"", "'"].iter().any(|word| {
            inner == *word
                || inner.starts_with(&format!("{word} "))
                || word.len() == 1 && inner.starts_with(word)
        }) {
            section.error(
                key,
                format!("{inner:?} is a template's command, which is not known here"),
                "give paths alone; type: object goes over a list",
            );
            return Vec::new();
        }
        match Path::parse(inner) {
            Ok(path) => parts.push(Part::At(path)),
            Err((problem, remedy)) => {
                section.error(key, format!("{inner:?} {problem}"), remedy);
                return Vec::new();
            }
        }
        rest = &rest[begin + end + 1..];
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    parts
}

/// Where the brace that opens `text` is closed, outside of quotes.
fn end_of(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('}', None) => return Some(at),
            _ => {}
        }
    }
    None
}
