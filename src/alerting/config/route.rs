//! The routing tree: which receivers hear of an alert, grouped how and how often
//! (<https://prometheus.io/docs/alerting/latest/configuration/#route>).

use std::collections::BTreeSet;
use std::time::Duration;

use super::matchers::{canonical, parse_matchers};
use crate::alerting::mute::flapping::FlappingKeys;
use crate::config::{FromNode, Node, Section, Value};
use crate::model::{Labels, MatchOp, Matcher};

/// Which labels make a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// `['...']`: every label, so each alert is its own group.
    All,
    /// These; none means one group for all.
    Labels(BTreeSet<String>),
}

impl GroupBy {
    /// The labels of the group that `labels` belongs to: only those it really has.
    pub fn of(&self, labels: &Labels) -> Labels {
        match self {
            GroupBy::All => labels.clone(),
            GroupBy::Labels(names) => labels.filtered(|name| names.contains(name)),
        }
    }
}

/// One node of the tree, with everything it inherited.
#[derive(Clone, Debug)]
pub struct Route {
    /// Unique in the tree: the key with the node's position, `{}/{severity="page"}/0`.
    pub id: String,
    /// The matchers of each level joined by `/`: the first part of the group key.
    pub key: String,
    /// All must match.
    pub matchers: Vec<Matcher>,
    /// Who is notified.
    pub receiver: String,
    /// How alerts are grouped.
    pub group_by: GroupBy,
    /// Wait before a new group's first message.
    pub group_wait: Duration,
    /// Least time between two messages about one group.
    pub group_interval: Duration,
    /// Time after which an unchanged message is sent again.
    pub repeat_interval: Duration,
    /// When an alert flaps, where the route says so itself.
    pub flapping: FlappingKeys,
    /// Names of time intervals during which nothing is sent.
    pub mute_time_intervals: Vec<String>,
    /// Names of time intervals outside of which nothing is sent; empty: always active.
    pub active_time_intervals: Vec<String>,
    /// Whether the siblings after this one are tried too.
    pub continues: bool,
    /// Indices of the children in [`Routes`].
    pub children: Vec<usize>,
}

/// The tree; the root is the first node.
#[derive(Clone, Debug)]
pub struct Routes {
    nodes: Vec<Route>,
    /// Routes of their own, which take alerts whatever the tree does with them.
    beside: Vec<usize>,
}

impl Routes {
    /// A tree of a root and its children, for a routing that no file wrote.
    pub fn of(root: Route, children: Vec<Route>) -> Self {
        let mut nodes = vec![root];
        for (index, mut child) in children.into_iter().enumerate() {
            child.key = format!("{}/{}", nodes[0].key, canonical(&child.matchers));
            child.id = format!("{}/{index}", child.key);
            let index = nodes.len();
            nodes[0].children.push(index);
            nodes.push(child);
        }
        Routes {
            nodes,
            beside: Vec::new(),
        }
    }

    /// Reads the `route` block and records its mistakes.
    pub fn read(section: &Section<'_>) -> Self {
        let mut nodes = vec![Route::root(section.require("receiver"))];
        if nodes[0].receiver.is_empty()
            && section.node("receiver").is_some_and(|node| !node.is_null())
        {
            section.error(
                "receiver",
                "names nobody",
                "name a receiver: the root route takes what no other route takes",
            );
        }
        if ["match", "match_re", "matchers"]
            .iter()
            .any(|key| section.node(key).is_some_and(says_something))
        {
            section.error(
                "",
                "the root route has matchers",
                "move them to a child under routes: the root takes every alert",
            );
        }
        for key in ["continue", "mute_time_intervals", "active_time_intervals"] {
            if section.node(key).is_some_and(says_something) {
                section.error(
                    key,
                    "is not allowed in the root route",
                    "move it to a child under routes",
                );
            }
        }
        nodes[0].read_settings(section);
        read_children(section, &mut nodes, 0);
        section.finish();
        Routes {
            nodes,
            beside: Vec::new(),
        }
    }

    /// All nodes, the root first.
    pub fn nodes(&self) -> &[Route] {
        &self.nodes
    }

    /// The node with this index.
    pub fn get(&self, index: usize) -> Option<&Route> {
        self.nodes.get(index)
    }

    /// Adds a route that stands beside the tree; `name` makes its group keys.
    pub fn add_beside(&mut self, name: &str, route: Route) {
        self.beside.push(self.nodes.len());
        let key = format!("{name}/{}", canonical(&route.matchers));
        self.nodes.push(Route {
            id: key.clone(),
            key,
            ..route
        });
    }

    /// The nodes that take an alert with these labels, in the order of the tree; never empty.
    pub fn matching(&self, labels: &Labels) -> Vec<usize> {
        let mut found = Vec::new();
        self.visit(0, labels, &mut found);
        for index in &self.beside {
            self.visit(*index, labels, &mut found);
        }
        found
    }

    fn visit(&self, index: usize, labels: &Labels, found: &mut Vec<usize>) -> bool {
        let Some(route) = self.nodes.get(index) else {
            return false;
        };
        if !route.matchers.iter().all(|m| m.matches_labels(labels)) {
            return false;
        }
        let before = found.len();
        for child in &route.children {
            if self.visit(*child, labels, found) && !self.nodes[*child].continues {
                break;
            }
        }
        if found.len() == before {
            found.push(index);
        }
        true
    }
}

impl Route {
    /// A root with Alertmanager's defaults.
    pub fn root(receiver: String) -> Self {
        Route {
            id: "{}".into(),
            key: "{}".into(),
            matchers: Vec::new(),
            receiver,
            group_by: GroupBy::Labels(BTreeSet::new()),
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(5 * 60),
            repeat_interval: Duration::from_secs(4 * 3600),
            flapping: FlappingKeys::default(),
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
            continues: false,
            children: Vec::new(),
        }
    }

    /// A child that inherits this node's settings: not its matchers, `continue` or time intervals.
    pub fn child(&self, matchers: Vec<Matcher>) -> Route {
        Route {
            matchers,
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
            continues: false,
            children: Vec::new(),
            ..self.clone()
        }
    }

    fn read_settings(&mut self, section: &Section<'_>) {
        if let Some(group_by) = read_group_by(section) {
            self.group_by = group_by;
        }
        self.group_wait = section.or("group_wait", self.group_wait);
        self.group_interval = section.or("group_interval", self.group_interval);
        self.repeat_interval = section.or("repeat_interval", self.repeat_interval);
        self.flapping = FlappingKeys::read(section, self.flapping);
        for (key, value) in [
            ("group_interval", self.group_interval),
            ("repeat_interval", self.repeat_interval),
        ] {
            if value.is_zero() && section.node(key).is_some() {
                section.error(key, "is zero", "give a duration such as 5m");
            }
        }
    }
}

/// Whether a value is more than nothing, an empty list or `false`.
fn says_something(node: &Node) -> bool {
    match &node.value {
        Value::Scalar { text, .. } => !node.is_null() && text != "false",
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
    }
}

fn read_children(section: &Section<'_>, nodes: &mut Vec<Route>, parent: usize) {
    for (index, child) in section.sections("routes").iter().enumerate() {
        let mut route = nodes[parent].child(read_matchers(child, "match", "match_re", "matchers"));
        route.key = format!("{}/{}", nodes[parent].key, canonical(&route.matchers));
        route.id = format!(
            "{}/{}/{index}",
            nodes[parent].id,
            canonical(&route.matchers)
        );
        route.receiver = child
            .get::<String>("receiver")
            .filter(|r| !r.is_empty())
            .unwrap_or(route.receiver);
        route.continues = child.or("continue", false);
        route.mute_time_intervals = child.or("mute_time_intervals", Vec::new());
        route.active_time_intervals = child.or("active_time_intervals", Vec::new());
        route.read_settings(child);
        let index = nodes.len();
        nodes[parent].children.push(index);
        nodes.push(route);
        read_children(child, nodes, index);
        child.finish();
    }
}

fn read_group_by(section: &Section<'_>) -> Option<GroupBy> {
    let names: Vec<String> = section.get("group_by")?;
    let unique: BTreeSet<String> = names.iter().cloned().collect();
    if unique.len() < names.len() {
        section.error("group_by", "names a label twice", "name each label once");
    }
    if !unique.contains("...") {
        return Some(GroupBy::Labels(unique));
    }
    if unique.len() > 1 {
        section.error(
            "group_by",
            "mixes '...' with other labels",
            "'...' already means every label: let it stand alone",
        );
    }
    Some(GroupBy::All)
}

/// Reads matchers in the three ways a route or an inhibition writes them: equality pairs, patterns,
/// and a list of texts. All are ANDed.
pub fn read_matchers(section: &Section<'_>, equal: &str, regex: &str, list: &str) -> Vec<Matcher> {
    let mut matchers = Vec::new();
    for (key, op) in [(equal, MatchOp::Equal), (regex, MatchOp::Regex)] {
        let Some(Node {
            value: Value::Map(entries),
            ..
        }) = section.node(key)
        else {
            section.get::<std::collections::BTreeMap<String, String>>(key);
            continue;
        };
        for (name, position, node) in entries {
            if op == MatchOp::Regex && node.is_null() {
                let remedy =
                    "give a regular expression; ^$ is one that only a missing label matches".into();
                section.error_at(
                    *position,
                    &format!("{key}.{name}"),
                    "has no pattern".into(),
                    remedy,
                );
                continue;
            }
            let Some(value) = String::from_node(section, &format!("{key}.{name}"), node) else {
                continue;
            };
            // Alertmanager's group keys show the anchors of such a pattern.
            let value = if op == MatchOp::Regex {
                format!("^(?:{value})$")
            } else {
                value
            };
            match Matcher::new(name, op, &value) {
                Ok(matcher) => matchers.push(matcher),
                Err(error) => section.error_at(
                    *position,
                    key,
                    error.to_string(),
                    "correct the pattern".into(),
                ),
            }
        }
    }
    for text in section.or::<Vec<String>>(list, Vec::new()) {
        match parse_matchers(&text) {
            Ok(found) => matchers.extend(found),
            Err(reason) => section.error(
                list,
                reason,
                "write matchers as name=\"value\", with = != =~ or !~",
            ),
        }
    }
    matchers
}
