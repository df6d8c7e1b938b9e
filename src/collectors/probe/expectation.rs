//! What an HTTP answer must be like: status, text of the body, values in its JSON.

use hyper::header::HeaderName;
use hyper::{Response, Version};
use regex::bytes::Regex;
use serde_json::Value;

use super::report::{Failure, Reason};

/// What a header must be, or must not be.
#[derive(Clone)]
pub struct HeaderRule {
    /// The header.
    pub name: HeaderName,
    /// What its values are compared with.
    pub pattern: Regex,
    /// Whether an answer without it is fine.
    pub allow_missing: bool,
}

/// The expectations of one probe.
#[derive(Clone, Default)]
pub struct Expectation {
    /// Allowed status codes; empty for 200 to 299.
    pub statuses: Vec<u16>,
    /// Whether every status code will do.
    pub any_status: bool,
    /// Wanted versions of HTTP, such as `HTTP/1.1`; empty for all.
    pub versions: Vec<String>,
    /// None of them may match a header.
    pub forbidden_headers: Vec<HeaderRule>,
    /// Each of them must match a header.
    pub required_headers: Vec<HeaderRule>,
    /// Whether the last connection must have TLS (true), or must not (false).
    pub encrypted: Option<bool>,
    /// None of them may match the body.
    pub forbidden: Vec<Regex>,
    /// Each of them must match the body.
    pub required: Vec<Regex>,
    /// Each of them must hold.
    pub json: Vec<JsonRule>,
    /// Greatest size of the body, in bytes: a larger one is a failure. `None`: it may have any
    /// size.
    pub max_body: Option<usize>,
}

/// A value in the body's JSON.
#[derive(Clone)]
pub struct JsonRule {
    /// Keys and indexes from the root.
    pub path: Vec<String>,
    /// The wanted value as text; `None`: the value must only be there.
    pub equals: Option<String>,
}

impl JsonRule {
    /// A path is a JSON pointer (RFC 6901, `/checks/0/status`) or names with dots
    /// (`checks.0.status`).
    pub fn new(path: &str, equals: Option<String>) -> Self {
        let path = match path.strip_prefix('/') {
            Some(pointer) => pointer
                .split('/')
                .map(|part| part.replace("~1", "/").replace("~0", "~"))
                .collect(),
            None => path
                .split('.')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        };
        JsonRule { path, equals }
    }

    fn check(&self, root: &Value) -> Result<(), String> {
        let name = self.path.join(".");
        let step = |value: &'_ Value, part: &String| -> Option<Value> {
            match value {
                Value::Object(map) => map.get(part).cloned(),
                Value::Array(list) => list.get(part.parse::<usize>().ok()?).cloned(),
                _ => None,
            }
        };
        let found = self
            .path
            .iter()
            .try_fold(root.clone(), |value, part| step(&value, part));
        let Some(found) = found else {
            return Err(format!("`{name}` is not in the JSON"));
        };
        let text = match &found {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match &self.equals {
            Some(wanted) if text != *wanted => Err(format!("`{name}` is not {wanted:?}")),
            _ => Ok(()),
        }
    }
}

/// A failure whose message comes from the configuration alone.
fn shown(reason: Reason, message: String) -> Failure {
    Failure::new(reason, message.clone()).brief_as(message)
}

impl Expectation {
    /// Whether the body's text matters.
    pub fn reads_body(&self) -> bool {
        !(self.forbidden.is_empty() && self.required.is_empty() && self.json.is_empty())
    }

    /// Judges a whole answer; the first disappointment is the reason.
    pub fn judge_all(
        &self,
        head: &Response<()>,
        body: &[u8],
        encrypted: bool,
    ) -> Result<(), Failure> {
        self.judge_head(head, encrypted)?;
        self.judge(head.status().as_u16(), body)
    }

    fn judge_head(&self, head: &Response<()>, encrypted: bool) -> Result<(), Failure> {
        let version = if head.version() == Version::HTTP_10 {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        };
        if !self.versions.is_empty() && !self.versions.iter().any(|wanted| wanted == version) {
            return Err(shown(Reason::Protocol, format!("the answer is {version}")));
        }
        match self.encrypted {
            Some(true) if !encrypted => {
                return Err(shown(Reason::Tls, "the last connection has no TLS".into()));
            }
            Some(false) if encrypted => {
                return Err(shown(Reason::Tls, "the last connection has TLS".into()));
            }
            _ => {}
        }
        let values = |rule: &HeaderRule| {
            head.headers()
                .get_all(&rule.name)
                .iter()
                .map(|value| value.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        for rule in &self.forbidden_headers {
            let values = values(rule);
            if values.is_empty() && !rule.allow_missing {
                return Err(shown(
                    Reason::Header,
                    format!("the header {:?} is missing", rule.name.as_str()),
                ));
            }
            if values.iter().any(|value| rule.pattern.is_match(value)) {
                return Err(shown(
                    Reason::Header,
                    format!(
                        "the header {:?} matches {:?}",
                        rule.name.as_str(),
                        rule.pattern.as_str()
                    ),
                ));
            }
        }
        for rule in &self.required_headers {
            let values = values(rule);
            if values.is_empty() && !rule.allow_missing {
                return Err(shown(
                    Reason::Header,
                    format!("the header {:?} is missing", rule.name.as_str()),
                ));
            }
            if !values.is_empty() && !values.iter().any(|value| rule.pattern.is_match(value)) {
                return Err(shown(
                    Reason::Header,
                    format!(
                        "the header {:?} does not match {:?}",
                        rule.name.as_str(),
                        rule.pattern.as_str()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Judges status and body.
    pub fn judge(&self, status: u16, body: &[u8]) -> Result<(), Failure> {
        let fine = self.any_status
            || if self.statuses.is_empty() {
                (200..300).contains(&status)
            } else {
                self.statuses.contains(&status)
            };
        if !fine {
            return Err(Failure::new(Reason::Status, format!("status {status}"))
                .brief_as(format!("status {status}")));
        }
        if let Some(pattern) = self.forbidden.iter().find(|pattern| pattern.is_match(body)) {
            return Err(shown(
                Reason::Body,
                format!("the body matches {:?}", pattern.as_str()),
            ));
        }
        if let Some(pattern) = self.required.iter().find(|pattern| !pattern.is_match(body)) {
            return Err(shown(
                Reason::Body,
                format!("the body does not match {:?}", pattern.as_str()),
            ));
        }
        if self.json.is_empty() {
            return Ok(());
        }
        let root: Value = serde_json::from_slice(body)
            .map_err(|_| shown(Reason::Json, "the body is not JSON".to_owned()))?;
        self.json.iter().try_for_each(|rule| {
            rule.check(&root)
                .map_err(|message| shown(Reason::Json, message))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_values_are_found_by_dots_and_by_pointer() {
        let body = br#"{"status":"healthy","checks":[{"name":"db","up":true}],"a/b":3}"#;
        let judge = |path: &str, equals: &str| {
            let rule = JsonRule::new(path, Some(equals.to_owned()));
            let all = Expectation {
                json: vec![rule],
                ..Expectation::default()
            };
            all.judge(200, body).map_err(|f| f.to_string())
        };
        assert_eq!(judge("status", "healthy"), Ok(()));
        assert_eq!(judge("checks.0.up", "true"), Ok(()));
        assert_eq!(judge("/a~1b", "3"), Ok(()));
        assert_eq!(
            judge("status", "degraded"),
            Err("json: `status` is not \"degraded\"".into())
        );
        assert_eq!(
            judge("checks.1.up", "true"),
            Err("json: `checks.1.up` is not in the JSON".into())
        );
    }
}
