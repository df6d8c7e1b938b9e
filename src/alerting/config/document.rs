//! The configuration in force as an `alertmanager.yml`: what amtool and Grafana read from the API
//! to show and to test routes.
//!
//! Receivers are named and no more: their settings hold secrets, and some are kinds that
//! Alertmanager does not know.

use serde_json::{Map, Value as Json, json};

use super::Alerting;
use super::route::{GroupBy, Route, Routes};
use crate::config::to_yaml;
use crate::model::{Matcher, format_duration};

impl Alerting {
    /// The routing tree, the names of receivers, inhibition rules and time intervals as YAML that
    /// Alertmanager accepts.
    pub fn as_alertmanager_yml(&self) -> String {
        let mut document = json!({
            "global": { "resolve_timeout": format_duration(self.resolve_timeout) },
            "route": route_json(&self.routes, &self.routes.nodes()[0], None),
            "receivers": self.receivers.iter().map(|receiver| json!({ "name": receiver.name })).collect::<Vec<_>>(),
        });
        if !self.inhibit_rules.is_empty() {
            let rule = |rule: &crate::alerting::mute::inhibit::InhibitRule| json!({ "source_matchers": texts(&rule.source), "target_matchers": texts(&rule.target), "equal": rule.equal });
            document["inhibit_rules"] = self.inhibit_rules.iter().map(rule).collect();
        }
        if !self.time_intervals.is_empty() {
            let interval = |(name, elements): (
                &String,
                &Vec<super::time_interval::TimeInterval>,
            )| json!({ "name": name, "time_intervals": elements.iter().map(|element| element.to_json()).collect::<Vec<_>>() });
            document["time_intervals"] = self.time_intervals.iter().map(interval).collect();
        }
        to_yaml(&document)
    }
}

fn texts(matchers: &[Matcher]) -> Vec<String> {
    matchers.iter().map(ToString::to_string).collect()
}

/// A node of the tree with what it does not inherit.
fn route_json(routes: &Routes, route: &Route, parent: Option<&Route>) -> Json {
    let mut node = Map::new();
    let mut put = |key: &str, value: Json, inherited: bool| {
        if !inherited {
            node.insert(key.to_owned(), value);
        }
    };
    put(
        "receiver",
        json!(route.receiver),
        parent.is_some_and(|p| p.receiver == route.receiver),
    );
    let group_by = match &route.group_by {
        GroupBy::All => json!(["..."]),
        GroupBy::Labels(names) => json!(names),
    };
    put(
        "group_by",
        group_by,
        parent.is_some_and(|p| p.group_by == route.group_by),
    );
    put(
        "matchers",
        json!(texts(&route.matchers)),
        route.matchers.is_empty(),
    );
    put("continue", json!(true), !route.continues);
    put(
        "mute_time_intervals",
        json!(route.mute_time_intervals),
        route.mute_time_intervals.is_empty(),
    );
    put(
        "active_time_intervals",
        json!(route.active_time_intervals),
        route.active_time_intervals.is_empty(),
    );
    for (key, wait, inherited) in [
        ("group_wait", route.group_wait, parent.map(|p| p.group_wait)),
        (
            "group_interval",
            route.group_interval,
            parent.map(|p| p.group_interval),
        ),
        (
            "repeat_interval",
            route.repeat_interval,
            parent.map(|p| p.repeat_interval),
        ),
    ] {
        put(key, json!(format_duration(wait)), inherited == Some(wait));
    }
    let children: Vec<Json> = route
        .children
        .iter()
        .filter_map(|child| routes.get(*child))
        .map(|child| route_json(routes, child, Some(route)))
        .collect();
    put("routes", json!(children), children.is_empty());
    Json::Object(node)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Document, Environment, Loader};

    fn read(yaml: &str) -> Alerting {
        let document = Document::parse("a.yml", yaml).expect("YAML");
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let alerting = {
            let root = loader.root();
            let global = root.section("global");
            let alerting = Alerting::read(&root, global.as_ref());
            root.finish();
            alerting
        };
        loader.finish(alerting).expect("a valid configuration")
    }

    /// SEMANTICS 187: what is shown reads back as the same configuration, and holds no secret.
    #[test]
    fn what_is_shown_reads_back_as_the_same_configuration() {
        let alerting = read(concat!(
            "global: {resolve_timeout: 90s}\n",
            "route:\n  receiver: default\n  group_by: [alertname, 'weird label']\n  group_wait: 1s\n  routes:\n",
            "  - matchers: ['team=~\"a|b\"', 'x!=\"q\\\"uote\"']\n    receiver: hook\n    group_by: ['...']\n    continue: true\n",
            "    mute_time_intervals: [night]\n    routes: [{match: {severity: page}, group_by: [], repeat_interval: 1h30m}]\n",
            "  - active_time_intervals: [night]\n",
            "receivers: [{name: default}, {name: hook, webhook_configs: [{url: 'http://127.0.0.1/?token=s3cret'}]}]\n",
            "inhibit_rules: [{source_match: {severity: critical}, target_matchers: ['severity=~\"warning|info\"'], equal: [instance]}]\n",
            "time_intervals:\n- name: night\n  time_intervals:\n",
            "  - {times: [{start_time: '22:00', end_time: '24:00'}], weekdays: ['monday:friday', sunday], days_of_month: ['-3:-1', '1'],",
            " months: ['january:march', '5'], years: ['2026:2027'], location: Europe/Berlin}\n",
        ));
        let shown = alerting.as_alertmanager_yml();
        assert!(!shown.contains("s3cret"), "{shown}");
        let again = read(&shown);
        assert_eq!(again.as_alertmanager_yml(), shown);
        assert_eq!(
            format!("{:?}", again.routes),
            format!("{:?}", alerting.routes)
        );
        assert_eq!(
            format!("{:?}", again.time_intervals),
            format!("{:?}", alerting.time_intervals)
        );
        assert_eq!(
            format!("{:?}", again.inhibit_rules),
            format!("{:?}", alerting.inhibit_rules)
        );
        assert_eq!(again.resolve_timeout, alerting.resolve_timeout);
    }
}
