//! Expected and found alerts side by side, in promtool's colours: red is missing, green is too
//! much, yellow differs.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::definition::ExpectedAlert;
use crate::model::text::quote;

const RED: &str = "\u{1b}[0;31m";
const GREEN: &str = "\u{1b}[0;32m";
const YELLOW: &str = "\u{1b}[0;33m";
const PLAIN: &str = "\u{1b}[0m";

/// The difference of two lists of alerts; an empty list stands as one alert without labels.
pub(super) fn alerts(expected: &[ExpectedAlert], got: &[ExpectedAlert]) -> String {
    let mut painter = Painter {
        out: String::new(),
        level: 0,
        colour: None,
    };
    painter.lists(&to_json(expected), &to_json(got));
    painter.paint(None);
    painter.out
}

fn to_json(alerts: &[ExpectedAlert]) -> Vec<Json> {
    if alerts.is_empty() {
        return vec![json!({ "Labels": {}, "Annotations": {} })];
    }
    alerts
        .iter()
        .map(|a| json!({ "Labels": a.labels, "Annotations": a.annotations }))
        .collect()
}

struct Painter {
    out: String,
    level: usize,
    colour: Option<&'static str>,
}

impl Painter {
    fn paint(&mut self, colour: Option<&'static str>) {
        if self.colour == colour {
            return;
        }
        self.out
            .push_str(if self.colour.is_some() { PLAIN } else { "" });
        self.out.push_str(colour.unwrap_or(""));
        self.colour = colour;
    }

    /// Ends a line; a colour does not run on over the indentation of the next one.
    fn line(&mut self, end: &str) {
        self.out.push_str(end);
        let colour = self.colour;
        self.paint(None);
        self.out.push('\n');
        self.out.push_str(&"    ".repeat(self.level));
        self.paint(colour);
    }

    /// Members between brackets, each written by `member`.
    fn block(
        &mut self,
        open: &str,
        close: &str,
        count: usize,
        mut member: impl FnMut(&mut Self, usize),
    ) {
        if count == 0 {
            self.out.push_str(open);
        } else {
            self.level += 1;
            self.line(open);
        }
        for index in 0..count {
            member(self, index);
            if index + 1 == count {
                self.level -= 1;
                self.line("");
            } else {
                self.line(",");
            }
        }
        self.out.push_str(close);
    }

    fn lists(&mut self, expected: &[Json], got: &[Json]) {
        self.paint(None);
        self.block("[", "]", expected.len().max(got.len()), |painter, index| {
            painter.pair(None, expected.get(index), got.get(index));
            painter.paint(None);
        });
    }

    fn objects(&mut self, expected: &Map<String, Json>, got: &Map<String, Json>) {
        let keys: Vec<&String> = expected
            .keys()
            .chain(got.keys())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        self.paint(None);
        self.block("{", "}", keys.len(), |painter, index| {
            let key = keys[index];
            painter.pair(Some(key), expected.get(key), got.get(key));
            painter.paint(None);
        });
    }

    fn pair(&mut self, key: Option<&str>, expected: Option<&Json>, got: Option<&Json>) {
        match (expected, got) {
            (Some(expected), Some(got)) => {
                self.key(key);
                self.both(expected, got);
            }
            (Some(only), None) => {
                self.paint(Some(RED));
                self.key(key);
                self.whole(only);
            }
            (None, Some(only)) => {
                self.paint(Some(GREEN));
                self.key(key);
                self.whole(only);
            }
            (None, None) => {}
        }
    }

    fn both(&mut self, expected: &Json, got: &Json) {
        match (expected, got) {
            (Json::Object(expected), Json::Object(got)) => self.objects(expected, got),
            _ if expected == got => self.whole(expected),
            _ => {
                self.paint(Some(YELLOW));
                self.whole(expected);
                self.out.push_str(" => ");
                self.whole(got);
            }
        }
    }

    fn key(&mut self, key: Option<&str>) {
        if let Some(key) = key {
            self.out.push_str(&quote(key));
            self.out.push_str(": ");
        }
    }

    fn whole(&mut self, value: &Json) {
        match value {
            Json::Object(members) => {
                let members: Vec<(&String, &Json)> = members.iter().collect();
                self.block("{", "}", members.len(), |painter, index| {
                    painter.key(Some(members[index].0));
                    painter.whole(members[index].1);
                });
            }
            Json::String(text) => self.out.push_str(&quote(text)),
            other => self.out.push_str(&other.to_string()),
        }
    }
}
