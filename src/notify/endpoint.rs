//! One HTTP attempt of a courier: its `http_config`, its deadline, and the verdict on the answer (SEMANTICS 172).
//!
//! 2xx is success; 429, 5xx and transport errors may be tried again, with the wait of `Retry-After` where there is one; everything else is
//! permanent. Of the answer's body at most 64 KiB are read, and never quoted in an error.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::config::{FromNode, Node, Secret, Section, Value as Yaml};
use crate::http::{Client, HttpConfig, HttpError, HttpErrorKind, Request};
use crate::model::{Timestamp, parse_go_duration};

use super::error::{NotifyError, Reason};

/// Deadline of one attempt where `timeout` is not written or 0.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Greatest wait that a place may ask for.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Most of an answer's body that is read, in bytes.
const MAX_BODY: usize = 64 << 10;

/// How one integration sends HTTP requests.
pub(super) struct Endpoint {
    config: HttpConfig,
    client: OnceLock<Client>,
    timeout: Duration,
}

impl Endpoint {
    /// Reads `http_config` (the integration's, else the global one) and `timeout`.
    pub(super) fn read(section: &Section<'_>, global: Option<&Section<'_>>) -> Self {
        let block = section.section("http_config");
        let inherited = global.and_then(|g| g.section("http_config"));
        let (config, client) = match (&block, &inherited) {
            (Some(own), _) => built(own),
            (None, Some(global)) => built(global),
            (None, None) => (HttpConfig::default(), OnceLock::new()),
        };
        let timeout = section.get::<Timeout>("timeout").map(|timeout| timeout.0).filter(|t| !t.is_zero()).unwrap_or(DEFAULT_TIMEOUT);
        Endpoint { config, client, timeout }
    }

    /// The deadline of one attempt.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What it logs in with.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        self.config.secrets()
    }

    /// Sends once. Errs where no status came back; the answer's own verdict is [`Answer::accepted`].
    pub(super) async fn send(&self, request: Request) -> Result<Answer, NotifyError> {
        let deadline = Instant::now() + self.timeout;
        let timed_out = |_| HttpError::new(HttpErrorKind::Timeout, "timed out");
        let client = self.client()?;
        let mut incoming = timeout_at(deadline, client.start(request)).await.map_err(timed_out)??;
        let mut body = Vec::new();
        // The status is what counts for most places, so a body that breaks off does not undo it.
        let complete = loop {
            match timeout_at(deadline, incoming.next()).await {
                Ok(Ok(Some(part))) if body.len() + part.len() <= MAX_BODY => body.extend_from_slice(&part),
                Ok(Ok(None)) => break true,
                _ => break false,
            }
        };
        let header = |name: &str| incoming.headers.get(name).and_then(|v| v.to_str().ok());
        let retry_after = header("retry-after").and_then(|text| retry_after(text, header("date")));
        Ok(Answer { status: incoming.status, retry_after, body: complete.then_some(body) })
    }

    fn client(&self) -> Result<&Client, NotifyError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // A client holds parsed root certificates: one that is never used is never built.
        let client = Client::build(&self.config)?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// A duration as anything in Prometheus's family of files writes it: `1m`, `1.5s`.
struct Timeout(Duration);

impl FromNode for Timeout {
    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        let written = match &node.value {
            Yaml::Scalar { text, .. } => parse_go_duration(text).ok(),
            _ => None,
        };
        written.or_else(|| Duration::from_node(section, key, node)).map(Timeout)
    }
}

fn built(block: &Section<'_>) -> (HttpConfig, OnceLock<Client>) {
    let config = HttpConfig::read(block);
    block.finish();
    let client = OnceLock::new();
    match Client::build(&config) {
        Ok(built) => drop(client.set(built)),
        Err(error) => block.error("", error.to_string(), "check the HTTP settings"),
    }
    (config, client)
}

/// `Retry-After`: seconds or an HTTP date, relative to the answer's own `Date` so that the clocks need not agree.
fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok().map(|d| d.min(MAX_WAIT));
    }
    let instant = |text: &str| jiff::fmt::rfc2822::parse(text.trim()).ok().map(|z| Timestamp(z.timestamp().as_millisecond()));
    Some(instant(text)?.since(instant(date?)?).min(MAX_WAIT))
}

/// What a place answered.
pub(super) struct Answer {
    /// Status code.
    pub status: u16,
    /// The wait it asks for.
    pub retry_after: Option<Duration>,
    body: Option<Vec<u8>>,
}

impl Answer {
    /// The verdict of the status alone.
    pub(super) fn accepted(self) -> Result<Self, NotifyError> {
        let text = format!("answered {}", self.status);
        Err(match self.status {
            200..=299 => return Ok(self),
            429 => NotifyError::retryable(Reason::RateLimited, text),
            401 | 403 => NotifyError::permanent(Reason::Auth, text),
            500..=599 => NotifyError::retryable(Reason::ServerError, text),
            _ => NotifyError::permanent(Reason::Rejected, text),
        }
        .wait(self.retry_after))
    }

    /// The whole body as text; errs when it broke off or is larger than 64 KiB.
    pub(super) fn text(&self) -> Result<String, NotifyError> {
        let body = self.body.as_deref().ok_or_else(|| unreadable("the answer broke off or is too large"))?;
        Ok(String::from_utf8_lossy(body).into_owned())
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, NotifyError> {
        serde_json::from_str(&self.text()?).map_err(|_| unreadable("the answer is not JSON"))
    }
}

fn unreadable(text: &str) -> NotifyError {
    NotifyError::retryable(Reason::InvalidResponse, text)
}

/// A documented error code (`channel_not_found`, `isv.BUSINESS_LIMIT_CONTROL`, `310000`) as it may stand in an error; anything else is not quoted.
pub(super) fn quotable(code: &str) -> &str {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !code.is_empty() && code.len() <= 64 && code.bytes().all(plain) { code } else { "an undocumented code" }
}

/// Reads a secret URL from `key` or `key_file`, the integration's or the global one.
pub(super) fn secret_url(section: &Section<'_>, key: &str, global: Option<(&Section<'_>, &str)>) -> Option<Url> {
    let own = section.secret(key);
    let inherited = global.and_then(|(g, key)| g.secret(key));
    parse_url(section, key, own.or(inherited)?)
}

/// A secret as an http or https URL; records a mistake that does not quote it.
pub(super) fn parse_url(section: &Section<'_>, key: &str, text: Secret) -> Option<Url> {
    match Url::parse(text.expose().trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
        _ => {
            section.error(key, "is not an http or https URL", "give a URL such as https://example.org/path");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        assert_eq!(retry_after("120", None), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("0.5", None), Some(Duration::from_millis(500)));
        assert_eq!(retry_after("999999", None), Some(MAX_WAIT));
        let date = Some("Sat, 21 Nov 2026 09:00:00 GMT");
        assert_eq!(retry_after("Sat, 21 Nov 2026 09:01:30 GMT", date), Some(Duration::from_secs(90)));
        assert_eq!(retry_after("Sat, 21 Nov 2026 08:00:00 GMT", date), Some(Duration::ZERO));
        for wrong in ["soon", "-5", "NaN", ""] {
            assert_eq!(retry_after(wrong, date), None, "{wrong}");
        }
    }

    #[test]
    fn only_codes_are_quoted() {
        assert_eq!(quotable("isv.BUSINESS_LIMIT_CONTROL"), "isv.BUSINESS_LIMIT_CONTROL");
        assert_eq!(quotable("token https://hooks.example/secret refused"), "an undocumented code");
    }
}
