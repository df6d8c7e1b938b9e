//! One HTTP attempt of a notifier: its `http_config`, its deadline, and whether the answer accepts
//! the message (SEMANTICS 172).
//!
//! 2xx is success; 429, 5xx and transport errors may be tried again, with the wait of `Retry-After`
//! where there is one; everything else is permanent. Of the answer's body at most 64 KiB are read;
//! what explains a refusal is quoted, without secrets. A redirect that would lose the body is not
//! followed.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::config::{FromNode, Node, Secret, Section, Value as Yaml};
use crate::http::{Client, HttpConfig, HttpError, HttpErrorKind, Request};
use crate::model::{Timestamp, parse_go_duration};

use super::error::{NotifyError, Reason};

/// Deadline of one attempt where `timeout` is not written or 0: Alertmanager's flush is as patient.
/// Who is cut off before may have acted on the message already, and would act again.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// What an attempt may take beside its request: a second one, a picture.
const MARGIN: Duration = Duration::from_secs(30);
/// Greatest wait that a service may ask for.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Longest part of a service's own words that is quoted, in characters.
const MAX_QUOTE: usize = 200;
/// What is shorter guards nothing, and is part of many words.
const SHORTEST_SECRET: usize = 8;
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
        let timeout = section
            .get::<Timeout>("timeout")
            .map(|timeout| timeout.0)
            .filter(|t| !t.is_zero())
            .unwrap_or(DEFAULT_TIMEOUT);
        Endpoint {
            config,
            client,
            timeout,
        }
    }

    /// The deadline of one attempt.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long a whole attempt may take.
    pub(super) fn deadline(&self) -> Duration {
        self.timeout.saturating_mul(2).saturating_add(MARGIN)
    }

    /// What it logs in with.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        self.config.secrets()
    }

    /// Sends once. Errs where no status came back; whether the answer accepts the message says
    /// [`Answer::accepted`].
    pub(super) async fn send(&self, request: Request) -> Result<Answer, NotifyError> {
        let deadline = Instant::now() + self.timeout;
        let timed_out = |_| HttpError::new(HttpErrorKind::Timeout, "timed out");
        let client = self.client()?;
        let secrets = self.confidential(&request);
        let mut incoming = timeout_at(deadline, client.start(request))
            .await
            .map_err(timed_out)??;
        let mut body = Vec::new();
        // The status is what counts for most services, so a body that breaks off does not undo it.
        let complete = loop {
            match timeout_at(deadline, incoming.next()).await {
                Ok(Ok(Some(part))) if body.len() + part.len() <= MAX_BODY => {
                    body.extend_from_slice(&part)
                }
                Ok(Ok(None)) => break true,
                _ => break false,
            }
        };
        let header = |name: &str| incoming.headers.get(name).and_then(|v| v.to_str().ok());
        let retry_after = header("retry-after").and_then(|text| retry_after(text, header("date")));
        let moved_to = header("location")
            .and_then(|to| Url::parse(to).ok())
            .and_then(|to| to.host_str().map(str::to_owned));
        Ok(Answer {
            status: incoming.status,
            retry_after,
            body: complete.then_some(body),
            secrets,
            moved_to,
        })
    }

    /// What a request tells in confidence: a service may repeat it.
    fn confidential(&self, request: &Request) -> Vec<Secret> {
        let url = &request.url;
        let path = url.path_segments().into_iter().flatten().map(str::to_owned);
        let mut texts: Vec<String> = path
            .chain(url.query_pairs().map(|(_, value)| value.into_owned()))
            .collect();
        texts.extend(url.password().map(str::to_owned));
        for value in request
            .headers
            .values()
            .filter(|value| value.is_sensitive())
            .filter_map(|value| value.to_str().ok())
        {
            texts.extend([
                value.to_owned(),
                value.rsplit(' ').next().unwrap_or_default().to_owned(),
            ]);
        }
        if let Ok(body) = serde_json::from_slice::<Value>(&request.body) {
            texts.extend(
                ["routing_key", "service_key", "sign"]
                    .iter()
                    .filter_map(|key| body[*key].as_str().map(str::to_owned)),
            );
        }
        let long = texts
            .into_iter()
            .filter(|text| text.len() >= SHORTEST_SECRET)
            .map(Secret::new);
        self.secrets()
            .into_iter()
            .filter(|secret| !secret.is_empty())
            .chain(long)
            .collect()
    }

    fn client(&self) -> Result<&Client, NotifyError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // A client holds parsed root certificates: one that is never used is never built.
        let client = Client::keeping_body(&self.config)?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// A duration as anything in Prometheus's family of files writes it: `1m`, `1.5s`.
struct Timeout(Duration);

impl FromNode for Timeout {
    const TYPE: &'static str = "duration";

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        let written = match &node.value {
            Yaml::Scalar { text, .. } => parse_go_duration(text).ok(),
            _ => None,
        };
        written
            .or_else(|| Duration::from_node(section, key, node))
            .map(Timeout)
    }
}

fn built(block: &Section<'_>) -> (HttpConfig, OnceLock<Client>) {
    let config = HttpConfig::read(block);
    block.finish();
    let client = OnceLock::new();
    match Client::keeping_body(&config) {
        Ok(built) => drop(client.set(built)),
        Err(error) => block.error("", error.to_string(), "check the HTTP settings"),
    }
    (config, client)
}

/// `Retry-After`: seconds or an HTTP date, relative to the answer's own `Date` so that the clocks
/// need not agree.
fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds)
            .ok()
            .map(|d| d.min(MAX_WAIT));
    }
    let instant = |text: &str| {
        jiff::fmt::rfc2822::parse(text.trim())
            .ok()
            .map(|z| Timestamp(z.timestamp().as_millisecond()))
    };
    Some(instant(text)?.since(instant(date?)?).min(MAX_WAIT))
}

/// What a service answered.
pub(super) struct Answer {
    /// Status code.
    pub status: u16,
    /// The wait it asks for.
    pub retry_after: Option<Duration>,
    body: Option<Vec<u8>>,
    /// What must not be quoted.
    secrets: Vec<Secret>,
    /// The host that a redirect names.
    moved_to: Option<String>,
}

impl Answer {
    /// Whether the status alone accepts the message.
    pub(super) fn accepted(self) -> Result<Self, NotifyError> {
        let text = match (self.status, &self.moved_to) {
            (300..=399, Some(host)) => format!(
                "answered {}: redirected to {host}, which would lose the message",
                self.status
            ),
            _ => self.said().map_or_else(
                || format!("answered {}", self.status),
                |said| format!("answered {}: {said}", self.status),
            ),
        };
        Err(match self.status {
            200..=299 => return Ok(self),
            429 => NotifyError::retryable(Reason::RateLimited, text),
            401 | 403 => NotifyError::permanent(Reason::Auth, text),
            500..=599 => NotifyError::retryable(Reason::ServerError, text),
            _ => NotifyError::permanent(Reason::Rejected, text),
        }
        .wait(self.retry_after))
    }

    /// Why the service refused, in its own words, where it says so in one of the usual ways;
    /// without secrets, on one line.
    fn said(&self) -> Option<String> {
        let text = self.text().ok()?;
        // Any other text, a gateway's page for example, may repeat what was sent in confidence.
        let said = explained(&serde_json::from_str::<Value>(&text).ok()?)?;
        Some(self.quote(&said)).filter(|said| !said.is_empty())
    }

    /// Words of the service as they may stand in an error: on one line, without what was sent to it
    /// in confidence.
    pub(super) fn quote(&self, words: &str) -> String {
        let text = self.secrets.iter().fold(words.to_owned(), |text, secret| {
            secret.redact(&text).to_string()
        });
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        text.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .take(MAX_QUOTE)
            .collect()
    }

    /// The whole body as text; errs when it broke off or is larger than 64 KiB.
    pub(super) fn text(&self) -> Result<String, NotifyError> {
        let body = self
            .body
            .as_deref()
            .ok_or_else(|| unreadable("the answer broke off or is too large"))?;
        Ok(String::from_utf8_lossy(body).into_owned())
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, NotifyError> {
        serde_json::from_str(&self.text()?).map_err(|_| unreadable("the answer is not JSON"))
    }
}

/// The explanation in an error's JSON: Telegram's `description`, PagerDuty's `message` and
/// `errors`, Slack's `error`, a robot's `errmsg`, …
fn explained(json: &Value) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Array(list) => Some(
            list.iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join("; "),
        )
        .filter(|text| !text.is_empty()),
        Value::Object(fields) => fields
            .get("message")
            .and_then(Value::as_str)
            .map(str::to_owned),
        _ => None,
    };
    let keys = [
        "description",
        "message",
        "errmsg",
        "msg",
        "Message",
        "error",
        "detail",
        "errors",
    ];
    let said: Vec<String> = keys.iter().filter_map(|key| text(&json[*key])).collect();
    (!said.is_empty()).then(|| said.join(": "))
}

fn unreadable(text: &str) -> NotifyError {
    NotifyError::retryable(Reason::InvalidResponse, text)
}

/// A documented error code (`channel_not_found`, `isv.BUSINESS_LIMIT_CONTROL`, `310000`) as it may
/// stand in an error; anything else is not quoted.
pub(super) fn quotable(code: &str) -> &str {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !code.is_empty() && code.len() <= 64 && code.bytes().all(plain) {
        code
    } else {
        "an undocumented code"
    }
}

/// Reads a secret URL from `key` or `key_file`, the integration's or the global one.
pub(super) fn secret_url(
    section: &Section<'_>,
    key: &str,
    global: Option<(&Section<'_>, &str)>,
) -> Option<Url> {
    let own = section.secret(key);
    let inherited = global.and_then(|(g, key)| g.secret(key));
    parse_url(section, key, own.or(inherited)?)
}

/// Services that have a kind of receiver of their own.
pub(super) const OF_ITS_OWN: [(&str, &str); 8] = [
    ("hooks.slack.com", "slack_configs"),
    ("oapi.dingtalk.com", "dingtalk_configs"),
    ("qyapi.weixin.qq.com", "wecom_configs"),
    ("open.feishu.cn", "feishu_configs"),
    ("open.larksuite.com", "feishu_configs"),
    ("discord.com", "discord_configs"),
    ("api.telegram.org", "telegram_configs"),
    ("events.pagerduty.com", "pagerduty_configs"),
];

/// A secret as an http or https URL; records a mistake that does not quote it.
pub(super) fn parse_url(section: &Section<'_>, key: &str, text: Secret) -> Option<Url> {
    match Url::parse(text.expose().trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            note_if_foreign(section, key, &url);
            Some(url)
        }
        _ => {
            section.error(
                key,
                "is not an http or https URL",
                "give a URL such as https://example.org/path",
            );
            None
        }
    }
}

/// Says when the address of one service stands below the keys of another one, which would refuse
/// each message. A webhook has its own advice.
fn note_if_foreign(section: &Section<'_>, key: &str, url: &Url) {
    let path = section.path().rsplit('.').next().unwrap_or_default();
    let kind = path
        .split('[')
        .next()
        .unwrap_or_default()
        .trim_end_matches("_configs");
    let name = |keys: &str| keys.trim_end_matches("_configs") == kind;
    let host = url.host_str().unwrap_or_default();
    // Discord takes Slack's form at an address of its own.
    let takes_slack = kind == "slack" && host == "discord.com" && url.path().ends_with("/slack");
    if let Some((service, keys)) = OF_ITS_OWN.iter().find(|(service, _)| *service == host)
        && !takes_slack
        && OF_ITS_OWN.iter().any(|(_, keys)| name(keys))
        && !name(keys)
    {
        section.note(
            key,
            format!("{service} does not take what {kind} sends"),
            format!("use {keys}"),
        );
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
        assert_eq!(
            retry_after("Sat, 21 Nov 2026 09:01:30 GMT", date),
            Some(Duration::from_secs(90))
        );
        assert_eq!(
            retry_after("Sat, 21 Nov 2026 08:00:00 GMT", date),
            Some(Duration::ZERO)
        );
        for wrong in ["soon", "-5", "NaN", ""] {
            assert_eq!(retry_after(wrong, date), None, "{wrong}");
        }
    }

    #[test]
    fn only_codes_are_quoted() {
        assert_eq!(
            quotable("isv.BUSINESS_LIMIT_CONTROL"),
            "isv.BUSINESS_LIMIT_CONTROL"
        );
        assert_eq!(
            quotable("token https://hooks.example/secret refused"),
            "an undocumented code"
        );
    }
}
