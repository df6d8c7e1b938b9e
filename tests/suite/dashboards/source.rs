//! Dashboards are made of `dashboards/source/*.yml`: titles, queries and units, from which Grafana's
//! JSON follows. `NIGHTBELL_UPDATE=1 cargo test --test suite dashboards` writes it.
//!
//! Thresholds name rules, so that a colour in a panel and an alert never differ.

use std::collections::BTreeMap;
use std::fs;

use nightbell::promql::parse;
use nightbell::promql::syntax::ast::{BinaryOp, Expr};
use nightbell::rules::Rule;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{files, rules};

/// A dashboard as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dashboard {
    title: String,
    description: String,
    /// Beside `nightbell`.
    tags: Vec<String>,
    /// The series whose jobs and instances the variables offer.
    variables_of: String,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    title: String,
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Panel {
    title: String,
    description: String,
    /// Grafana's name of the visualization.
    #[serde(default = "time_series")]
    kind: String,
    /// Columns of 24, and rows.
    #[serde(default = "usual_size")]
    size: String,
    /// Grafana's name of the unit.
    #[serde(default = "plain_number")]
    unit: String,
    min: Option<f64>,
    max: Option<f64>,
    decimals: Option<u8>,
    /// Colour and word of each value.
    #[serde(default)]
    states: BTreeMap<String, String>,
    /// Of `warning` and `critical`: the rule whose figure it is, or a number.
    #[serde(default)]
    thresholds: BTreeMap<Level, Figure>,
    #[serde(default)]
    stacked: bool,
    #[serde(default)]
    bars: bool,
    /// Columns of a table that are not shown, beside the time.
    #[serde(default)]
    hidden: Vec<String>,
    /// Queries by legend.
    series: BTreeMap<String, String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum Level {
    Warning,
    Critical,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Figure {
    Number(f64),
    Rule(String),
}

fn time_series() -> String {
    "timeseries".to_owned()
}

fn usual_size() -> String {
    "8x8".to_owned()
}

fn plain_number() -> String {
    "short".to_owned()
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// What a rule compares with, and whether what is above it is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Limit {
    figure: f64,
    is_upper: bool,
}

/// The first comparison with a constant, from the outside inwards.
fn limit(expr: &Expr) -> Option<Limit> {
    if let Expr::Binary(binary) = expr
        && binary.op.is_comparison()
        && let Some(figure) = constant(&binary.rhs)
    {
        let is_upper = matches!(binary.op, BinaryOp::Greater | BinaryOp::GreaterOrEqual);
        return Some(Limit { figure, is_upper });
    }
    expr.children().into_iter().find_map(limit)
}

fn constant(expr: &Expr) -> Option<f64> {
    match expr.without_parens() {
        Expr::Number(number) => Some(number.value),
        Expr::Binary(binary) => {
            let (left, right) = (constant(&binary.lhs)?, constant(&binary.rhs)?);
            match binary.op {
                BinaryOp::Mul => Some(left * right),
                BinaryOp::Div => Some(left / right),
                BinaryOp::Add => Some(left + right),
                BinaryOp::Sub => Some(left - right),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The limits of every rule that has one.
fn limits() -> BTreeMap<String, Limit> {
    let alerts = rules()
        .into_iter()
        .filter(|(_, rule)| matches!(rule, Rule::Alerting(_)));
    alerts
        .filter_map(|(_, rule)| {
            let expr = parse(rule.expr_text()).expect("a shipped rule parses");
            Some((rule.name().to_owned(), limit(&expr)?))
        })
        .collect()
}

impl Panel {
    fn width_and_height(&self) -> (u64, u64) {
        let (width, height) = self.size.split_once('x').expect("WIDTHxHEIGHT");
        (
            width.parse().expect("columns"),
            height.parse().expect("rows"),
        )
    }

    /// Grafana's steps: each colour begins at its value, the first one below all.
    fn steps(&self, limits: &BTreeMap<String, Limit>) -> Value {
        let of = |level: Level| {
            self.thresholds.get(&level).map(|figure| match figure {
                Figure::Number(figure) => Limit {
                    figure: *figure,
                    is_upper: true,
                },
                Figure::Rule(name) => *limits
                    .get(name)
                    .unwrap_or_else(|| panic!("{}: no rule {name} has a figure", self.title)),
            })
        };
        let (warning, critical) = (of(Level::Warning), of(Level::Critical));
        let is_upper = warning.or(critical).is_none_or(|limit| limit.is_upper);
        let step = |color: &str, value: Value| json!({"color": color, "value": value});
        let figure = |limit: Limit| json!(limit.figure);
        let mut steps = Vec::new();
        if is_upper {
            steps.push(step("green", Value::Null));
            steps.extend(warning.map(|limit| step("orange", figure(limit))));
            steps.extend(critical.map(|limit| step("red", figure(limit))));
        } else {
            let lowest = if critical.is_some() { "red" } else { "orange" };
            steps.push(step(lowest, Value::Null));
            if let Some(limit) = critical {
                let above = if warning.is_some() { "orange" } else { "green" };
                steps.push(step(above, figure(limit)));
            }
            steps.extend(warning.map(|limit| step("green", figure(limit))));
        }
        Value::Array(steps)
    }

    /// Words and colours of values.
    fn mappings(&self) -> Value {
        if self.states.is_empty() {
            return json!([]);
        }
        let states = self
            .states
            .iter()
            .enumerate()
            .map(|(index, (value, state))| {
                let (color, text) = state.split_once(' ').expect("a colour and a word");
                (
                    value.clone(),
                    json!({"color": color, "text": text, "index": index}),
                )
            });
        json!([{"type": "value", "options": states.collect::<Map<String, Value>>()}])
    }

    fn options(&self) -> Value {
        let last = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
        match self.kind.as_str() {
            "timeseries" => json!({
                "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            "state-timeline" => json!({
                "alignValue": "left", "mergeValues": true, "rowHeight": 0.8, "showValue": "never",
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "single", "sort": "none"},
            }),
            "table" => json!({"cellHeight": "sm", "footer": {"show": false}, "showHeader": true}),
            "stat" => json!({
                "colorMode": "background", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
                "reduceOptions": last, "textMode": "auto", "wideLayout": true,
            }),
            "bargauge" => json!({
                "displayMode": "basic", "orientation": "horizontal", "reduceOptions": last, "showUnfilled": true,
                "valueMode": "color", "minVizHeight": 16, "minVizWidth": 8, "namePlacement": "auto", "sizing": "auto",
            }),
            other => panic!("{}: no panel is a {other}", self.title),
        }
    }

    fn field_config(&self, limits: &BTreeMap<String, Limit>) -> Value {
        let is_lines = self.kind == "timeseries";
        let color = if is_lines {
            "palette-classic"
        } else {
            "thresholds"
        };
        let mut defaults = json!({
            "color": {"mode": color},
            "unit": self.unit,
            "mappings": self.mappings(),
            "thresholds": {"mode": "absolute", "steps": self.steps(limits)},
        });
        if let Some(min) = self.min {
            defaults["min"] = json!(min);
        }
        if let Some(max) = self.max {
            defaults["max"] = json!(max);
        }
        if let Some(decimals) = self.decimals {
            defaults["decimals"] = json!(decimals);
        }
        if is_lines {
            let fill = match (self.bars, self.stacked) {
                (true, _) => 60,
                (false, true) => 30,
                (false, false) => 8,
            };
            defaults["custom"] = json!({
                "drawStyle": if self.bars { "bars" } else { "line" },
                "lineWidth": 1,
                "fillOpacity": fill,
                "showPoints": "never",
                "spanNulls": false,
                "axisPlacement": "auto",
                "lineInterpolation": "linear",
                "thresholdsStyle": {"mode": if self.thresholds.is_empty() { "off" } else { "dashed" }},
                "stacking": {"mode": if self.stacked { "normal" } else { "none" }, "group": "A"},
            });
        }
        json!({"defaults": defaults, "overrides": []})
    }

    fn targets(&self) -> Vec<Value> {
        let is_table = self.kind == "table";
        assert!(
            self.series.len() <= 26,
            "{} has too many queries",
            self.title
        );
        let names = 'A'..='Z';
        let target = |(name, (legend, expr)): (char, (&String, &String))| {
            let mut target = json!({
                "datasource": datasource(),
                "editorMode": "code",
                "expr": expr.trim(),
                "legendFormat": legend,
                "range": !is_table,
                "instant": is_table,
                "refId": name.to_string(),
            });
            if is_table {
                target["format"] = json!("table");
            }
            target
        };
        names.zip(&self.series).map(target).collect()
    }

    fn grafana(&self, id: u64, x: u64, y: u64, limits: &BTreeMap<String, Limit>) -> Value {
        let (w, h) = self.width_and_height();
        let mut panel = json!({
            "datasource": datasource(),
            "description": self.description,
            "fieldConfig": self.field_config(limits),
            "gridPos": {"h": h, "w": w, "x": x, "y": y},
            "id": id,
            "options": self.options(),
            "pluginVersion": "12.0.0",
            "targets": self.targets(),
            "title": self.title,
            "type": self.kind,
        });
        if self.kind == "table" {
            let hidden = self
                .hidden
                .iter()
                .map(String::as_str)
                .chain(["Time", "__name__"]);
            let hidden: Map<String, Value> =
                hidden.map(|name| (name.to_owned(), json!(true))).collect();
            panel["transformations"] = json!([{
                "id": "organize",
                "options": {"excludeByName": hidden, "indexByName": {}, "renameByName": {}},
            }]);
        }
        panel
    }
}

impl Dashboard {
    fn panels(&self, limits: &BTreeMap<String, Limit>) -> Vec<Value> {
        let mut panels = Vec::new();
        let mut y = 0;
        for row in &self.rows {
            panels.push(json!({
                "collapsed": false,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
                "id": panels.len() + 1,
                "panels": [],
                "title": row.title,
                "type": "row",
            }));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in &row.panels {
                let (width, height) = panel.width_and_height();
                if x + width > 24 {
                    (x, y, tallest) = (0, y + tallest, 0);
                }
                panels.push(panel.grafana(panels.len() as u64 + 1, x, y, limits));
                x += width;
                tallest = tallest.max(height);
            }
            y += tallest;
        }
        panels
    }

    fn variable(&self, name: &str, label: &str, series: &str) -> Value {
        let definition = format!("label_values({series}, {name})");
        json!({
            "allValue": ".*",
            "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
            "datasource": datasource(),
            "definition": definition,
            "includeAll": true,
            "label": label,
            "multi": true,
            "name": name,
            "options": [],
            "query": {"qryType": 1, "query": definition, "refId": "V"},
            "refresh": 2,
            "regex": "",
            "sort": 1,
            "type": "query",
        })
    }

    fn grafana(&self, name: &str, limits: &BTreeMap<String, Limit>) -> Value {
        let of = &self.variables_of;
        let of_job = match of.strip_suffix('}') {
            Some(selector) => format!("{selector}, job=~\"$job\"}}"),
            None => format!("{of}{{job=~\"$job\"}}"),
        };
        let annotation = |name: &str, color: &str, expr: &str, title: &str| {
            json!({
                "datasource": datasource(),
                "enable": true,
                "expr": expr,
                "iconColor": color,
                "name": name,
                "step": "60s",
                "tagKeys": "alertname,job,instance",
                "titleFormat": title,
                "textFormat": "{{job}} {{instance}}",
            })
        };
        let mut tags = vec!["nightbell".to_owned()];
        tags.extend(self.tags.iter().cloned());
        json!({
            "annotations": {"list": [
                {
                    "builtIn": 1,
                    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
                    "enable": true,
                    "hide": true,
                    "iconColor": "rgba(0, 211, 255, 1)",
                    "name": "Annotations & Alerts",
                    "type": "dashboard",
                },
                annotation("Critical alerts", "red", CRITICAL, "{{alertname}}"),
                annotation("Warnings", "orange", WARNING, "{{alertname}}"),
                annotation("Restarts and deployments", "blue", RESTARTED, "restarted"),
                annotation("Maintenance", "purple", MAINTENANCE, "{{window}}"),
            ]},
            "description": self.description,
            "editable": true,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": null,
            "links": [{
                "asDropdown": true, "icon": "external link", "includeVars": true, "keepTime": true,
                "tags": ["nightbell"], "targetBlank": false, "title": "nightbell", "type": "dashboards",
            }],
            "liveNow": false,
            "panels": self.panels(limits),
            "preload": false,
            "refresh": "30s",
            "schemaVersion": 41,
            "tags": tags,
            "templating": {"list": [
                {
                    "current": {}, "hide": 0, "includeAll": false, "label": "Data source", "multi": false,
                    "name": "datasource", "options": [], "query": "prometheus", "refresh": 1, "regex": "",
                    "type": "datasource",
                },
                self.variable("job", "Job", of),
                self.variable("instance", "Instance", &of_job),
            ]},
            "time": {"from": "now-6h", "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "title": self.title,
            "uid": format!("nightbell-{}", name.replace('_', "-")),
            "version": 1,
            "weekStart": "",
        })
    }
}

/// What happened is drawn into every panel.
const CRITICAL: &str =
    r#"ALERTS{alertstate="firing", severity="critical", job=~"$job|", instance=~"$instance|"}"#;
const WARNING: &str =
    r#"ALERTS{alertstate="firing", severity="warning", job=~"$job|", instance=~"$instance|"}"#;
const RESTARTED: &str = r#"changes(process_start_time_seconds{job=~"$job"}[2m]) > 0"#;
const MAINTENANCE: &str = "nightbell_maintenance_window == 1";

/// The shipped JSON is what the sources give.
#[test]
fn the_shipped_dashboards_are_made_of_their_sources() {
    let limits = limits();
    let mut made = BTreeMap::new();
    for (path, file) in files("dashboards/source", "yml") {
        let text = fs::read_to_string(&file).expect("the file can be read");
        let dashboard: Dashboard =
            serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let name = file
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let mut json = serde_json::to_string_pretty(&dashboard.grafana(&name, &limits))
            .expect("it can be written");
        json.push('\n');
        made.insert(format!("dashboards/{name}.json"), json);
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
        for (path, json) in &made {
            fs::write(root.join(path), json).expect("written");
        }
    }
    let shipped: Vec<String> = files("dashboards", "json").into_keys().collect();
    assert_eq!(
        shipped,
        made.keys().cloned().collect::<Vec<_>>(),
        "one source each"
    );
    for (path, json) in made {
        let is = fs::read_to_string(root.join(&path)).expect("the file can be read");
        assert!(
            is == json,
            "{path} is not what its source gives: NIGHTBELL_UPDATE=1 cargo test --test suite dashboards"
        );
    }
}

/// Limits are found inside conditions, computed, with their direction.
#[test]
fn a_rule_s_figure_is_found() {
    let of = |text: &str| limit(&parse(text).expect("PromQL"));
    let upper = |figure| {
        Some(Limit {
            figure,
            is_upper: true,
        })
    };
    assert_eq!(of("1 - a / b > 0.85"), upper(0.85));
    assert_eq!(of("(a > 5 and b == 1)"), upper(5.0));
    assert_eq!(of("time() - a > 2 * 3600"), upper(7200.0));
    assert_eq!(
        of("(a or b) - time() < 30 * 86400"),
        Some(Limit {
            figure: 2_592_000.0,
            is_upper: false
        })
    );
    assert_eq!(of("a > b"), None);
}
