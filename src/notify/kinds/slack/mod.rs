//! `slack_configs`: an incoming webhook (`api_url`) or a bot token with `chat.postMessage`
//! (SEMANTICS 180). <https://api.slack.com/messaging/webhooks>,
//! <https://api.slack.com/methods/chat.postMessage>.
//!
//! HTTP 200 proves nothing: the body must be `ok`, or JSON with `ok: true`. With `update_message`
//! (bot token only) a group's later notifications change its first message; which message that is,
//! is remembered in memory, so a restart begins a new one. A bot that may also puts the picture of
//! an alert into the message's thread (`picture: false` does without).

mod attachment;
mod upload;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use url::Url;

use crate::config::{Secret, Section};
use crate::http::{HeaderValue, Request};

use crate::notify::endpoint::{Answer, Endpoint, parse_url, quotable, secret_url};
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::Style;
use crate::notify::notification::{AlertStatus, Notification};
use crate::notify::picture;
use crate::notify::robot::Bucket;
use crate::notify::{Digest, Notifier, NotifierKind};
use attachment::Attachment;
use upload::Thread;

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "slack_configs",
    name: "slack",
    send_resolved: false,
    build,
};

/// Slack's method to post a message.
const POST_MESSAGE: &str = "https://slack.com/api/chat.postMessage";
/// Most groups whose message is remembered.
const MAX_POSTED: usize = 1000;
/// Messages that a channel takes in a minute.
const PER_MINUTE: usize = 60;

/// A message that later notifications of its group change.
struct Posted {
    group_key: String,
    channel: String,
    ts: String,
}

struct Slack {
    url: Option<Url>,
    token: Option<HeaderValue>,
    update: bool,
    /// Whether pictures are wanted, and whether the bot may upload them as far as we know.
    picture: bool,
    may_upload: AtomicBool,
    channel: Option<Field>,
    username: Option<Field>,
    icon_emoji: Option<Field>,
    icon_url: Option<Field>,
    message_text: Option<Field>,
    link_names: bool,
    attachment: Attachment,
    bucket: Bucket,
    endpoint: Endpoint,
    style: Style,
    posted: Mutex<VecDeque<Posted>>,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    let (own_url, own_token) = (section.secret("api_url"), section.secret("app_token"));
    let global_token = global.and_then(|g| g.secret("slack_app_token"));
    if own_url.is_some() && own_token.is_some() {
        section.error("app_token", "stands beside api_url", "keep one of the two");
    }
    // What the integration itself says wins over what is global, whichever way it is
    // (Alertmanager).
    let token = if own_url.is_some() {
        None
    } else {
        own_token.or(global_token)
    };
    let app_url = secret_url(section, "app_url", global.map(|g| (g, "slack_app_url")));
    let url = match (&token, own_url) {
        (Some(_), _) => app_url.or_else(|| Url::parse(POST_MESSAGE).ok()),
        (None, Some(own)) => parse_url(section, "api_url", own),
        (None, None) => {
            let inherited = global.and_then(|g| g.secret("slack_api_url"));
            let written = ["api_url", "api_url_file", "app_token", "app_token_file"]
                .iter()
                .any(|key| section.node(key).is_some());
            if inherited.is_none() && !written {
                section.error(
                    "",
                    "has neither api_url nor app_token",
                    "add api_url: https://hooks.slack.com/services/…, or set global.slack_api_url",
                );
            }
            inherited.and_then(|text| parse_url(section, "api_url", text))
        }
    };
    let update = section.or("update_message", false);
    if update && token.is_none() {
        section.error(
            "update_message",
            "needs a bot token",
            "set app_token, or remove update_message",
        );
    }
    Box::new(Slack {
        url,
        token: token.and_then(|t| bearer(section, &t)),
        update,
        picture: picture::wanted(section),
        may_upload: AtomicBool::new(true),
        channel: Field::read(section, "channel"),
        username: Field::customised(section, "username", "slack.default.username"),
        icon_emoji: Field::customised(section, "icon_emoji", "slack.default.iconemoji"),
        icon_url: Field::customised(section, "icon_url", "slack.default.iconurl"),
        message_text: Field::read(section, "message_text"),
        link_names: section.or("link_names", false),
        attachment: Attachment::read(section),
        bucket: Bucket::new(PER_MINUTE, Duration::from_secs(60)),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
        posted: Mutex::new(VecDeque::new()),
    })
}

fn bearer(section: &Section<'_>, token: &Secret) -> Option<HeaderValue> {
    match HeaderValue::from_str(&format!("Bearer {}", token.expose())) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Some(value)
        }
        Err(_) => {
            section.error(
                "app_token",
                "holds characters that a header cannot carry",
                "check for a line break at the end of the token",
            );
            None
        }
    }
}

impl Notifier for Slack {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let started = Instant::now();
            self.bucket.take(started)?;
            let payload = self.payload(notification);
            if self.token.is_some() && self.channel.is_some() && !payload["channel"].is_string() {
                // A bot has no channel of its own.
                return Err(NotifyError::permanent(
                    Reason::Template,
                    "template of \"channel\" failed, or it printed nothing",
                ));
            }
            if let Some((channel, ts)) = self.posted(&notification.group_key) {
                match self.update(payload.clone(), channel, ts).await {
                    // The message may have been deleted: then a new one is right.
                    Err(error) if !error.retryable => self.forget(&notification.group_key),
                    outcome => {
                        self.forget_resolved(notification, outcome.is_ok());
                        return outcome;
                    }
                }
            }
            let answer = self.send(self.url.clone(), &payload).await?;
            if self.update && notification.status == AlertStatus::Firing {
                self.remember(notification, &answer);
            }
            self.send_picture(notification, &answer, started).await;
            Ok(())
        })
    }

    fn digest(&self) -> Digest {
        Digest::Names(attachment::MAX_TEXT / 8 * 6)
    }

    fn ready(&self) -> usize {
        self.bucket.ready(Instant::now())
    }

    fn deadline(&self) -> Duration {
        self.endpoint.deadline()
    }
}

impl Slack {
    fn payload(&self, n: &Notification) -> Value {
        let mut rendering = Rendering::new(n, &self.style);
        let mut payload = Map::new();
        let fields = [
            ("channel", &self.channel),
            ("username", &self.username),
            ("icon_emoji", &self.icon_emoji),
            ("icon_url", &self.icon_url),
            ("text", &self.message_text),
        ];
        for (name, field) in fields {
            if let Some(text) = rendering.optional(field.as_ref()) {
                payload.insert(name.into(), text.into());
            }
        }
        payload
            .entry("username")
            .or_insert_with(|| "nightbell".into());
        if self.link_names {
            payload.insert("link_names".into(), true.into());
        }
        // A message of its own (`message_text`) replaces the attachment only in Slack's words: both
        // are sent.
        payload.insert(
            "attachments".into(),
            json!([self.attachment.render(n, &self.style, &mut rendering)]),
        );
        Value::Object(payload)
    }

    async fn send(&self, url: Option<Url>, payload: &Value) -> Result<Value, NotifyError> {
        let url =
            url.ok_or_else(|| NotifyError::permanent(Reason::Rejected, "no URL is configured"))?;
        self.ask(Request::post_json(url, payload, self.endpoint.timeout()))
            .await
    }

    async fn update(
        &self,
        mut payload: Value,
        channel: String,
        ts: String,
    ) -> Result<(), NotifyError> {
        payload["channel"] = channel.into();
        payload["ts"] = ts.into();
        self.send(
            self.method("chat.update").or_else(|| self.url.clone()),
            &payload,
        )
        .await
        .map(drop)
    }

    /// The picture, into the thread of a bot's new message. A bot that may not upload is not asked
    /// to again.
    async fn send_picture(&self, n: &Notification, answer: &Value, started: Instant) {
        let (Some(channel), Some(ts)) = (answer["channel"].as_str(), answer["ts"].as_str()) else {
            return;
        };
        if self.token.is_none() || !self.picture || !self.may_upload.load(Ordering::Relaxed) {
            return;
        }
        let Some(png) = picture::of(n, &self.style) else {
            return;
        };
        if let Err(error) =
            picture::send(n, started, self.upload(png, Thread { channel, ts })).await
            && error.reason == Reason::Auth
        {
            self.may_upload.store(false, Ordering::Relaxed);
        }
    }

    fn posted(&self, group_key: &str) -> Option<(String, String)> {
        let posted = self.posted.lock();
        posted
            .iter()
            .find(|p| p.group_key == group_key)
            .map(|p| (p.channel.clone(), p.ts.clone()))
    }

    fn forget(&self, group_key: &str) {
        self.posted.lock().retain(|p| p.group_key != group_key);
    }

    /// A group that is over begins a new message when it fires again.
    fn forget_resolved(&self, n: &Notification, delivered: bool) {
        if delivered && n.status == AlertStatus::Resolved {
            self.forget(&n.group_key);
        }
    }

    fn remember(&self, n: &Notification, answer: &Value) {
        let (Some(channel), Some(ts)) = (answer["channel"].as_str(), answer["ts"].as_str()) else {
            return;
        };
        let mut posted = self.posted.lock();
        if posted.len() == MAX_POSTED {
            posted.pop_front();
        }
        posted.push_back(Posted {
            group_key: n.group_key.clone(),
            channel: channel.to_owned(),
            ts: ts.to_owned(),
        });
    }
}

/// Slack's own success: `ok`, or JSON with `ok: true`.
fn check_answer(answer: Answer) -> Result<Value, NotifyError> {
    let refusal = answer.text().unwrap_or_default();
    let answer = answer.accepted().map_err(|mut error| {
        // `no_service`, `channel_not_found`: Slack's codes are lower-case words, which no token is.
        if refusal.len() <= 40
            && !refusal.is_empty()
            && refusal.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            error.message = format!("{}: {refusal}", error.message);
        }
        error
    })?;
    let text = answer.text()?;
    if text.trim() == "ok" {
        return Ok(Value::Null);
    }
    let Ok(json) = serde_json::from_str::<Value>(&text) else {
        return Err(NotifyError::permanent(
            Reason::InvalidResponse,
            "answered neither ok nor JSON",
        ));
    };
    if json["ok"] == Value::Bool(true) {
        return Ok(json);
    }
    let code = json["error"].as_str().unwrap_or("");
    let text = format!("answered {}", quotable(code));
    Err(match code {
        "ratelimited" | "rate_limited" => {
            NotifyError::retryable(Reason::RateLimited, text).wait(answer.retry_after)
        }
        "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
            NotifyError::retryable(Reason::ServerError, text)
        }
        "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive"
        | "missing_scope" => NotifyError::permanent(Reason::Auth, text),
        "" => NotifyError::permanent(
            Reason::InvalidResponse,
            "the answer has neither ok nor error",
        ),
        _ => NotifyError::permanent(Reason::Rejected, text),
    })
}
