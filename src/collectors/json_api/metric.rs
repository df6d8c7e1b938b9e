//! One configured metric: where its values and labels are in an answer, and what number a word is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::model::{MetricKind, Timestamp};

use super::document::Json;
use super::path::{Found, Path};

/// Words that are 1, 0.5 and 0 wherever no mapping says otherwise.
const GOOD: [&str; 13] = [
    "healthy",
    "ok",
    "up",
    "true",
    "active",
    "running",
    "pass",
    "passed",
    "success",
    "online",
    "connected",
    "available",
    "ready",
];
const HALF: [&str; 4] = ["degraded", "warning", "warn", "partial"];
const BAD: [&str; 16] = [
    "unhealthy",
    "down",
    "false",
    "inactive",
    "stopped",
    "fail",
    "failed",
    "failure",
    "error",
    "critical",
    "offline",
    "disconnected",
    "unavailable",
    "unreachable",
    "not_ready",
    "timeout",
];

/// Most characters of a label's value.
const MAX_LABEL: usize = 256;

/// One metric of the configuration.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its help.
    pub help: String,
    /// Its type.
    pub kind: MetricKind,
    /// What a series is made for; `None` for one series.
    pub elements: Option<Elements>,
    /// Where its value is, from the element.
    pub value: Value,
    /// Label names, and what they are.
    pub labels: Vec<(String, Vec<Part>)>,
    /// What words mean.
    pub words: Words,
    /// Whether it may be missing without being counted.
    pub is_optional: bool,
    /// Where the time of the value is, in milliseconds since 1970, from the element.
    pub time: Option<Path>,
}

/// What a series is made for.
#[derive(Debug, Clone)]
pub struct Elements {
    /// Where they are.
    pub path: Path,
    /// Whether a list or mapping that the path leads to stands for its members.
    pub opens: bool,
}

/// The value of a series.
#[derive(Debug, Clone)]
pub enum Value {
    /// The same number always.
    Fixed(f64),
    /// What stands there.
    At(Path),
}

/// A part of a label's value.
#[derive(Debug, Clone)]
pub enum Part {
    /// As it stands in the configuration.
    Text(String),
    /// What stands there in the answer.
    At(Path),
    /// The key or index of the element: 0 for the innermost, else counted from the outermost.
    Key(usize),
}

/// What words mean.
#[derive(Debug, Clone, Default)]
pub enum Words {
    /// The usual words have their numbers; others are not valid.
    #[default]
    Usual,
    /// The usual words have their numbers; all others are 0.
    Status,
    /// These first, in lower case, then the usual ones; others are the last number, if there is
    /// one.
    Own(BTreeMap<String, f64>, Option<f64>),
}

/// Why there is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// Nothing is there.
    Missing,
    /// It is no finite number, and no known word.
    Invalid,
}

/// One series of a metric.
pub struct Series<'m> {
    /// Its labels in the order of the configuration; those that are missing are left out.
    pub labels: Vec<(&'m str, Cow<'m, str>)>,
    /// Its number.
    pub value: Result<f64, Odd>,
    /// How many labels are missing.
    pub missing: u64,
    /// Its own time.
    pub time: Option<Timestamp>,
}

impl Words {
    /// The number of a value.
    pub fn number(&self, value: &Json<'_>) -> Result<f64, Odd> {
        let number = match value {
            Json::Null => return Err(Odd::Missing),
            Json::List(_) | Json::Map(_) => return Err(Odd::Invalid),
            Json::Number(number) => self.own(&number.to_string()).unwrap_or(*number),
            Json::Bool(flag) => self
                .own(if *flag { "true" } else { "false" })
                .unwrap_or(f64::from(u8::from(*flag))),
            Json::Text(text) => self.of_text(text.trim())?,
        };
        if number.is_finite() {
            Ok(number)
        } else {
            Err(Odd::Invalid)
        }
    }

    fn own(&self, word: &str) -> Option<f64> {
        match self {
            Words::Own(words, _) => words.get(word).copied(),
            _ => None,
        }
    }

    fn of_text(&self, text: &str) -> Result<f64, Odd> {
        let word = text.to_lowercase();
        if let Some(number) = self.own(&word).or_else(|| text.parse().ok()) {
            return Ok(number);
        }
        let is_in = |words: &[&str]| words.contains(&word.as_str());
        match self {
            _ if is_in(&GOOD) => Ok(1.0),
            _ if is_in(&HALF) => Ok(0.5),
            _ if is_in(&BAD) => Ok(0.0),
            Words::Status => Ok(0.0),
            Words::Own(_, Some(other)) => Ok(*other),
            _ => Err(Odd::Invalid),
        }
    }
}

impl Metric {
    /// Calls `take` for each series that the answer gives, in the order of the answer, until it
    /// returns false.
    pub fn series<'m, 'j>(&'m self, root: &'j Json<'j>, mut take: impl FnMut(Series<'m>) -> bool)
    where
        'j: 'm,
    {
        let elements = match &self.elements {
            None => vec![Found {
                value: root,
                keys: Vec::new(),
            }],
            Some(Elements { path, opens: true }) => path.elements(root),
            Some(Elements { path, opens: false }) => path.select(root),
        };
        for element in elements {
            if !take(self.one(&element)) {
                return;
            }
        }
    }

    fn one<'m, 'j: 'm>(&'m self, element: &Found<'j>) -> Series<'m> {
        let value = match &self.value {
            Value::Fixed(number) => Ok(*number),
            Value::At(path) if path.is_many() && path.select(element.value).len() > 1 => {
                Err(Odd::Invalid)
            }
            Value::At(path) => path
                .find(element.value)
                .ok_or(Odd::Missing)
                .and_then(|value| self.words.number(value)),
        };
        let mut missing = 0;
        let mut labels = Vec::with_capacity(self.labels.len());
        for (name, parts) in &self.labels {
            match label(parts, element) {
                Some(value) => labels.push((name.as_str(), shortened(value))),
                None => missing += 1,
            }
        }
        let time = self
            .time
            .as_ref()
            .and_then(|path| match path.find(element.value)? {
                Json::Number(millis) if millis.is_finite() => Some(Timestamp(*millis as i64)),
                Json::Text(text) => text.trim().parse().ok().map(Timestamp),
                _ => None,
            });
        Series {
            labels,
            value,
            missing,
            time,
        }
    }
}

fn label<'m, 'j: 'm>(parts: &'m [Part], element: &Found<'j>) -> Option<Cow<'m, str>> {
    let one = |part: &'m Part| -> Option<Cow<'m, str>> {
        match part {
            Part::Text(text) => Some(Cow::Borrowed(text.as_str())),
            Part::Key(0) => element.keys.last().map(|key| Cow::Owned(key.clone())),
            Part::Key(n) => element.keys.get(n - 1).map(|key| Cow::Owned(key.clone())),
            Part::At(path) => match path.find(element.value)? {
                Json::Text(text) => Some(text.clone()),
                Json::Number(number) => Some(Cow::Owned(number.to_string())),
                Json::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
                Json::Null | Json::List(_) | Json::Map(_) => None,
            },
        }
    };
    match parts {
        [part] => one(part),
        parts => parts
            .iter()
            .map(one)
            .collect::<Option<String>>()
            .map(Cow::Owned),
    }
}

fn shortened(value: Cow<'_, str>) -> Cow<'_, str> {
    match value.char_indices().nth(MAX_LABEL) {
        Some((end, _)) => Cow::Owned(format!("{}…", &value[..end])),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_texts_have_their_numbers() {
        let text = |text: &str| Json::Text(text.to_owned().into());
        let own = Words::Own(
            BTreeMap::from([
                ("busy".into(), 2.0),
                ("ok".into(), 7.0),
                ("true".into(), 3.0),
            ]),
            None,
        );
        let other = Words::Own(BTreeMap::new(), Some(-1.0));
        for (words, value, wanted) in [
            (&Words::Usual, text("Healthy"), Ok(1.0)),
            (&Words::Usual, text(" degraded "), Ok(0.5)),
            (&Words::Usual, text("down"), Ok(0.0)),
            (&Words::Usual, text("sleeping"), Err(Odd::Invalid)),
            (&Words::Status, text("sleeping"), Ok(0.0)),
            (&Words::Status, Json::Null, Err(Odd::Missing)),
            (&Words::Usual, text("12.5"), Ok(12.5)),
            (&Words::Status, text("NaN"), Err(Odd::Invalid)),
            (&Words::Usual, text("1e999"), Err(Odd::Invalid)),
            (&Words::Usual, text(""), Err(Odd::Invalid)),
            (
                &Words::Usual,
                Json::Number(f64::INFINITY),
                Err(Odd::Invalid),
            ),
            (&Words::Usual, Json::Bool(true), Ok(1.0)),
            (&Words::Usual, Json::List(vec![]), Err(Odd::Invalid)),
            (&own, text("BUSY"), Ok(2.0)),
            (&own, text("ok"), Ok(7.0)),
            (&own, Json::Bool(true), Ok(3.0)),
            (&own, text("warn"), Ok(0.5)),
            (&own, text("sleeping"), Err(Odd::Invalid)),
            (&other, text("sleeping"), Ok(-1.0)),
        ] {
            assert_eq!(words.number(&value), wanted, "{words:?} {value:?}");
        }
    }
}
