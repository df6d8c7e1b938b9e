//! Dashboards and rules as files: what they ask for exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

mod source;

use nightbell::collectors::COLLECTORS;
use nightbell::model::{METRIC_NAME, MatchOp, MetricKind};
use nightbell::promql::parse;
use nightbell::promql::syntax::ast::{Expr, VectorSelector};
use nightbell::rules::Rule;
use nightbell::rules::file::read;
use regex::Regex;
use serde_json::Value;

/// Series that Prometheus semantics make beside those of targets, and metrics that applications
/// expose: see the profiles of `rules/`.
const KNOWN: [&str; 12] = [
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "up",
    "app_component_up",
    "ALERTS",
    "ALERTS_FOR_STATE",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "http_requests_total",
];
/// Beginnings of names: our own health, applications, and what the settings of a server are called.
const FAMILIES: [&str; 9] = [
    "nightbell_",
    "llmchat_",
    "http_request_duration_seconds_",
    "api_request_duration_seconds",
    "nodejs_heap_size_",
    "minio_cluster_",
    "tool_execution_duration_seconds_",
    "pg_settings_",
    "redis_config_",
];

/// The files of a folder with this extension, by name.
fn files(folder: &str, extension: &str) -> BTreeMap<String, std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths = fs::read_dir(&root)
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path());
    let files: BTreeMap<_, _> = paths
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| {
            (
                format!(
                    "{folder}/{}",
                    path.file_name().expect("a name").to_string_lossy()
                ),
                path,
            )
        })
        .collect();
    assert!(!files.is_empty(), "{folder} holds no .{extension}");
    files
}

fn dashboards() -> Vec<(String, Value)> {
    let load = |(name, path)| {
        let text = fs::read_to_string(path).expect("the file can be read");
        let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, json)
    };
    files("dashboards", "json").into_iter().map(load).collect()
}

/// All panels, those in collapsed rows included.
fn panels(parent: &Value) -> Vec<&Value> {
    let own = parent["panels"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    own.iter()
        .flat_map(|panel| std::iter::once(panel).chain(panels(panel)))
        .collect()
}

/// Every text that is PromQL.
fn expressions<'a>(json: &'a Value, found: &mut Vec<&'a str>) {
    match json {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str));
            // A variable's values: `label_values(selector, label)`.
            let variable = fields.get("definition").and_then(Value::as_str);
            found
                .extend(variable.and_then(|text| {
                    Some(text.strip_prefix("label_values(")?.rsplit_once(',')?.0)
                }));
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// The expression with Grafana's variables replaced as Grafana would: intervals by a duration, the
/// others by a pattern.
fn filled(text: &str) -> String {
    let interval = Regex::new(
        r"\$(__rate_interval|__interval|__range)\b|\$\{(__rate_interval|__interval|__range)\}",
    )
    .expect("a pattern");
    let variable = Regex::new(r"\$\{[A-Za-z_]\w*(:\w+)?\}|\$[A-Za-z_]\w*").expect("a pattern");
    variable
        .replace_all(&interval.replace_all(text, "5m"), ".*")
        .into_owned()
}

fn selectors<'a>(expr: &'a Expr, found: &mut Vec<&'a VectorSelector>) {
    match expr {
        Expr::VectorSelector(selector) => found.push(selector),
        Expr::MatrixSelector(matrix) => found.push(&matrix.selector),
        _ => expr
            .children()
            .into_iter()
            .for_each(|child| selectors(child, found)),
    }
}

/// The metric names that an expression asks for; of a pattern, its alternatives.
fn names(text: &str) -> Vec<String> {
    let expr = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut found = Vec::new();
    selectors(&expr, &mut found);
    let asked = found
        .iter()
        .flat_map(|selector| selector.matchers.iter().filter(|m| m.name == METRIC_NAME));
    asked
        .flat_map(|matcher| match matcher.op {
            MatchOp::Equal => vec![matcher.value.clone()],
            MatchOp::Regex => matcher.value.split('|').map(str::to_owned).collect(),
            MatchOp::NotEqual | MatchOp::NotRegex => Vec::new(),
        })
        .collect()
}

fn rules() -> Vec<(String, Rule)> {
    let all = files("rules", "yml")
        .into_iter()
        .chain(files("rules/profiles", "yml"));
    all.flat_map(|(name, path)| {
        let file = read(&path).unwrap_or_else(|errors| panic!("{errors}"));
        file.groups
            .into_iter()
            .flat_map(|group| group.rules)
            .map(move |rule| (name.clone(), rule))
    })
    .collect()
}

/// Names of series that a metric of the collectors or a recording rule makes.
fn declared() -> BTreeSet<String> {
    let mut declared = BTreeSet::new();
    for desc in COLLECTORS
        .iter()
        .flat_map(|kind| kind.metrics.iter().copied().flatten())
    {
        declared.insert(desc.name.to_owned());
        let parts: &[&str] = match desc.kind {
            MetricKind::Histogram => &["_bucket", "_sum", "_count"],
            MetricKind::Summary => &["_sum", "_count"],
            _ => &[],
        };
        declared.extend(parts.iter().map(|part| format!("{}{part}", desc.name)));
    }
    declared.extend(
        rules()
            .iter()
            .filter(|(_, rule)| matches!(rule, Rule::Recording(_)))
            .map(|(_, rule)| rule.name().to_owned()),
    );
    declared.extend(configured());
    declared
}

/// Metrics that the sample configurations of the applications name: own queries, paths into JSON.
fn configured() -> BTreeSet<String> {
    let column = Regex::new(r"(?i)\bAS (\w+)").expect("a pattern");
    let mut names = BTreeSet::new();
    for (file, path) in files("deploy/profiles", "yml") {
        let text = fs::read_to_string(path).expect("the file can be read");
        let root: Value = serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
        let sections = root["collectors"].as_object().expect("collectors").values();
        let targets = sections.flat_map(|section| match section {
            Value::Array(targets) => targets.iter().collect(),
            target => vec![target],
        });
        for target in targets {
            let list = |key: &str| target[key].as_array().cloned().unwrap_or_default();
            let name = |item: &Value| item["name"].as_str().expect("a name").to_owned();
            names.extend(list("metrics").iter().map(name));
            for query in list("queries") {
                let sql = query["sql"].as_str().expect("a statement");
                for found in column.captures_iter(sql) {
                    names.insert(format!("sql_{}_{}", name(&query), &found[1]));
                }
            }
        }
    }
    names
}

fn exists(name: &str, declared: &BTreeSet<String>) -> bool {
    declared.contains(name)
        || KNOWN.contains(&name)
        || FAMILIES.iter().any(|family| name.starts_with(family))
}

#[test]
fn panels_have_their_own_numbers_and_do_not_overlap() {
    for (name, dashboard) in dashboards() {
        assert!(
            dashboard["uid"].is_string() && dashboard["title"].is_string(),
            "{name} has no uid or title"
        );
        let mut ids = BTreeSet::new();
        for panel in panels(&dashboard) {
            let id = panel["id"]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: the panel {} has no id", panel["title"]));
            assert!(ids.insert(id), "{name}: the panel id {id} stands twice");
        }
        // A collapsed row's panels take no room: the uppermost level only.
        let mut cells = BTreeMap::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| {
                panel["gridPos"][key].as_u64().unwrap_or_else(|| {
                    panic!("{name}: the panel {} has no gridPos.{key}", panel["title"])
                })
            });
            assert!(
                w > 0 && h > 0 && x + w <= 24,
                "{name}: the panel {} does not fit the grid of 24 columns",
                panel["title"]
            );
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                if let Some(other) = cells.insert(cell, &panel["title"]) {
                    panic!(
                        "{name}: the panels {other} and {} overlap at {cell:?}",
                        panel["title"]
                    );
                }
            }
        }
    }
}

#[test]
fn every_expression_of_a_dashboard_parses_and_asks_for_what_exists() {
    let declared = declared();
    let mut missing = Vec::new();
    for (name, dashboard) in dashboards() {
        let mut found = Vec::new();
        expressions(&dashboard, &mut found);
        assert!(!found.is_empty(), "{name} asks for nothing");
        for text in found {
            missing.extend(
                names(&filled(text))
                    .into_iter()
                    .filter(|n| !exists(n, &declared))
                    .map(|metric| format!("{name}: {metric}")),
            );
        }
    }
    assert!(
        missing.is_empty(),
        "no collector declares and no rule records:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_rule_asks_for_what_exists() {
    let declared = declared();
    let asked = rules().into_iter().flat_map(|(file, rule)| {
        let place = format!("{file}: {}", rule.name());
        names(rule.expr_text())
            .into_iter()
            .map(move |metric| (place.clone(), metric))
    });
    let missing: Vec<String> = asked
        .filter(|(_, m)| !exists(m, &declared))
        .map(|(place, m)| format!("{place}: {m}"))
        .collect();
    assert!(
        missing.is_empty(),
        "no collector declares and no rule records:\n{}",
        missing.join("\n")
    );
}

/// The checks above can fail.
#[test]
fn variables_are_filled_and_unknown_names_are_noticed() {
    assert_eq!(
        filled(r#"rate(a{b=~"$instance", c=~"${x:regex}"}[$__rate_interval])"#),
        r#"rate(a{b=~".*", c=~".*"}[5m])"#
    );
    assert_eq!(
        names(r#"sum(rate(a_total[5m])) / on () {__name__=~"b|c"} offset 5m"#),
        ["a_total", "b", "c"]
    );
    let declared = declared();
    assert!(
        [
            "node_load1",
            "llm_time_to_first_token_seconds_bucket",
            "pg_up",
            "ALERTS"
        ]
        .iter()
        .all(|name| exists(name, &declared))
    );
    assert!(!exists("node_load2", &declared));
}
