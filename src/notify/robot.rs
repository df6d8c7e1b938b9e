//! What the group robots of chat programs share: an answer's own code, mentions by severity, a
//! robot's own rate limit, a body within a size.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use crate::config::Section;

use super::endpoint::{Answer, secret_url};
use super::error::{NotifyError, Reason};
use super::field::Field;
use super::notification::{AlertStatus, Notification};

/// What a service's own codes mean; a code that stands nowhere is a refusal.
pub(super) struct Codes {
    /// Where the code stands, the first that is there.
    pub keys: &'static [&'static str],
    /// Too many messages; how long to wait, in seconds.
    pub rate_limited: (&'static [i64], u64),
    /// Key, signature or origin refused.
    pub auth: &'static [i64],
    /// A fault of the service.
    pub busy: &'static [i64],
}

/// Longest list of words that is added to a message, in characters.
const MAX_WORDS: usize = 200;

/// `text` with the words that the robot may want in every message: its `keyword`, and where the
/// text is not the configured one (a digest, a part, the text for a template that failed) the
/// literal words of the configured ones.
pub(super) fn with_words(
    mut text: String,
    title: &str,
    keyword: &str,
    own: bool,
    fields: [Option<&Field>; 2],
) -> String {
    if !own {
        let missing = fields
            .into_iter()
            .flatten()
            .flat_map(Field::literals)
            .filter(|words| !text.contains(words) && !title.contains(words));
        let missing: Vec<&str> = missing.collect();
        if !missing.is_empty() {
            let words: String = missing.join(" · ").chars().take(MAX_WORDS).collect();
            text = format!("{text}\n\n{words}");
        }
    }
    if !keyword.is_empty() && !text.contains(keyword) && !title.contains(keyword) {
        text = format!("{keyword}  \n{text}");
    }
    text
}

impl Codes {
    /// HTTP 200 proves nothing (SEMANTICS 217): the code must be there and be 0.
    pub(super) fn check(&self, answer: Answer) -> Result<(), NotifyError> {
        let answer = answer.accepted()?;
        let json = answer.json()?;
        let Some(code) = self.keys.iter().find_map(|key| json[*key].as_i64()) else {
            // A gateway's block page, for example: it passes.
            return Err(NotifyError::retryable(
                Reason::InvalidResponse,
                format!("the answer has no {}", self.keys.join(" or ")),
            ));
        };
        if code == 0 {
            return Ok(());
        }
        let text = ["errmsg", "msg"]
            .iter()
            .find_map(|key| json[*key].as_str())
            .unwrap_or_default();
        let text = answer.quote(text);
        let reason = if text.is_empty() {
            String::new()
        } else {
            format!(": {text}")
        };
        let text = format!("answered {} {code}{reason}", self.keys[0]);
        let (limited, wait) = self.rate_limited;
        // Feishu says it with a code that it has for other mistakes, too.
        Err(
            if limited.contains(&code) || reason.contains("too many request") {
                NotifyError::retryable(Reason::RateLimited, text).wait(Some(
                    answer.retry_after.unwrap_or(Duration::from_secs(wait)),
                ))
            } else if self.busy.contains(&code) {
                NotifyError::retryable(Reason::ServerError, text)
            } else if self.auth.contains(&code) {
                NotifyError::permanent(Reason::Auth, text)
            } else {
                NotifyError::permanent(Reason::Rejected, text)
            },
        )
    }
}

/// A robot's address: the whole `url` (or `url_file`), or its token under `key`, which becomes the
/// parameter `key` of `base`.
pub(super) fn address(section: &Section<'_>, key: &str, base: &str) -> Option<Url> {
    let token = section.secret(key);
    let written = secret_url(section, "url", None);
    let Some(token) = token else {
        if section.node("url").is_none() && section.node("url_file").is_none() {
            section.error(
                "",
                format!("has neither {key} nor url"),
                format!("add {key}: …, or the robot's whole url"),
            );
        }
        return written;
    };
    let mut url = written.or_else(|| Url::parse(base).ok())?;
    url.query_pairs_mut().append_pair(key, token.expose());
    Some(url)
}

/// Whom a message calls by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Mention {
    /// `all`: everybody in the group.
    All,
    /// A mobile number.
    Mobile(String),
    /// The service's own user id.
    Id(String),
}

/// `mentions`: a list of people for each severity.
pub(super) struct Mentions(BTreeMap<String, Vec<Mention>>);

impl Mentions {
    /// Reads `mentions: {critical: [all], warning: ["13800000000", zhang]}`.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let written: BTreeMap<String, Vec<String>> = section.get("mentions").unwrap_or_default();
        let mention = |text: String| match text.as_str() {
            "all" | "@all" => Mention::All,
            _ if text
                .trim_start_matches('+')
                .bytes()
                .all(|b| b.is_ascii_digit() || b == b'-') =>
            {
                Mention::Mobile(text)
            }
            _ => Mention::Id(text),
        };
        Mentions(
            written
                .into_iter()
                .map(|(severity, list)| (severity, list.into_iter().map(mention).collect()))
                .collect(),
        )
    }

    /// Whether anybody is called at all.
    pub(super) fn are_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Those whom the firing alerts call; nobody is called because something is over.
    pub(super) fn of(&self, n: &Notification) -> Vec<&Mention> {
        let mut out: Vec<&Mention> = Vec::new();
        for alert in n.alerts.iter().filter(|a| a.status == AlertStatus::Firing) {
            for mention in self.0.get(alert.label("severity")).into_iter().flatten() {
                if !out.contains(&mention) {
                    out.push(mention);
                }
            }
        }
        out
    }
}

/// The way to the robot takes a message longer than the one before it by at most this.
const MARGIN: Duration = Duration::from_secs(1);

/// A robot's own limit: so many messages in a time. What is beyond it is not sent and has to wait.
pub(super) struct Bucket {
    most: usize,
    within: Duration,
    sent: Mutex<VecDeque<Instant>>,
}

impl Bucket {
    pub(super) fn new(most: usize, within: Duration) -> Self {
        Bucket {
            most,
            within: within + MARGIN,
            sent: Mutex::new(VecDeque::with_capacity(most)),
        }
    }

    /// How many messages the robot takes now.
    pub(super) fn ready(&self, now: Instant) -> usize {
        let sent = self.sent.lock();
        self.most.saturating_sub(
            sent.iter()
                .filter(|at| now.duration_since(**at) < self.within)
                .count(),
        )
    }

    /// Takes room for one message.
    pub(super) fn take(&self, now: Instant) -> Result<(), NotifyError> {
        let mut sent = self.sent.lock();
        while sent
            .front()
            .is_some_and(|first| now.duration_since(*first) >= self.within)
        {
            sent.pop_front();
        }
        if let Some(first) = sent.front().filter(|_| sent.len() >= self.most) {
            let wait = self.within.saturating_sub(now.duration_since(*first));
            let text = format!(
                "held back: the robot takes {} messages in {:?}",
                self.most,
                self.within - MARGIN
            );
            return Err(NotifyError::retryable(Reason::RateLimited, text).wait(Some(wait)));
        }
        sent.push_back(now);
        Ok(())
    }
}

/// A body of at most `limit` bytes of JSON: `build` gets how many bytes its text may have, less
/// each time the escapes make it too large.
pub(super) fn within(limit: usize, build: impl Fn(usize) -> Value) -> Value {
    let mut text = limit.saturating_sub(limit / 8);
    loop {
        let body = build(text);
        let size = body.to_string().len();
        if size <= limit || text < 64 {
            return body;
        }
        // A little below the proportion, so that every round gains.
        text = (text * limit / size).saturating_sub(16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_robot_is_never_asked_for_more_than_it_takes() {
        let bucket = Bucket::new(2, Duration::from_secs(60));
        let start = Instant::now();
        assert!(bucket.take(start).is_ok() && bucket.take(start + Duration::from_secs(10)).is_ok());
        let refused = bucket
            .take(start + Duration::from_secs(30))
            .expect_err("the third within a minute");
        assert_eq!(
            (refused.reason, refused.retry_after),
            (Reason::RateLimited, Some(Duration::from_secs(31)))
        );
        assert_eq!(
            (
                bucket.ready(start + Duration::from_secs(60)),
                bucket.ready(start + Duration::from_secs(61))
            ),
            (0, 1)
        );
        assert!(bucket.take(start + Duration::from_secs(61)).is_ok());
    }

    #[test]
    fn a_body_shrinks_until_its_escapes_fit() {
        let body = within(1000, |text| Value::String("\"".repeat(text)));
        assert!(
            (500..=1000).contains(&body.to_string().len()),
            "{}",
            body.to_string().len()
        );
    }
}
