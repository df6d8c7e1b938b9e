//! `telegram_configs`: `sendMessage` of the Bot API (SEMANTICS 184).
//! <https://core.telegram.org/bots/api#sendmessage>. Every error of the API may be tried again
//! (SEMANTICS 172); what is about one message or one chat holds up no other.

use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use crate::config::{Secret, Section};
use crate::http::Request;

use crate::notify::endpoint::Endpoint;
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{PLAIN, Style, TELEGRAM, body, cut_chars, cut_text, subject, units};
use crate::notify::notification::Notification;
use crate::notify::robot::Bucket;
use crate::notify::{Digest, Notifier, NotifierKind};

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "telegram_configs",
    name: "telegram",
    send_resolved: true,
    build,
};

/// Longest message, in units of UTF-16.
const MAX_MESSAGE: usize = 4096;

/// Messages that a group takes in a minute.
const PER_MINUTE: usize = 20;

struct Telegram {
    url: Option<Url>,
    chat_id: String,
    /// The number that the chat has now, where the API said so.
    moved: Mutex<Option<String>>,
    thread_id: Option<i64>,
    message: Option<Field>,
    parse_mode: String,
    silent: bool,
    bucket: Bucket,
    endpoint: Endpoint,
    style: Style,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    let inherited = global.and_then(|g| g.secret("telegram_bot_token"));
    let token = section
        .secret("bot_token")
        .or(inherited)
        .unwrap_or_else(|| {
            section.error(
                "",
                "has neither bot_token nor bot_token_file",
                "add bot_token: …",
            );
            Secret::default()
        });
    let inherited = global.and_then(|g| g.get::<Url>("telegram_api_url"));
    let base = section
        .get::<Url>("api_url")
        .or(inherited)
        .or_else(|| Url::parse("https://api.telegram.org").ok());
    let url = base.map(|mut url| {
        url.set_path(&format!(
            "{}/bot{}/sendMessage",
            url.path().trim_end_matches('/'),
            token.expose()
        ));
        url
    });
    let chat_id = section
        .secret("chat_id")
        .map(|s| s.expose().trim().to_owned())
        .unwrap_or_default();
    if chat_id.parse::<i64>().is_err() && !chat_id.starts_with('@') {
        section.error(
            "chat_id",
            "is not the number of a chat",
            "give for example chat_id: -1001234567890",
        );
    }
    let parse_mode = section.or("parse_mode", "HTML".to_owned());
    if !matches!(parse_mode.as_str(), "" | "HTML" | "Markdown" | "MarkdownV2") {
        section.error(
            "parse_mode",
            "is not known to Telegram",
            "give HTML, Markdown, MarkdownV2 or ''",
        );
    }
    Box::new(Telegram {
        url,
        chat_id,
        moved: Mutex::default(),
        thread_id: section.get("message_thread_id"),
        message: Field::customised(section, "message", "telegram.default.message")
            .map(|field| field.escaped(parse_mode == "HTML")),
        parse_mode,
        silent: section.or("disable_notifications", false),
        bucket: Bucket::new(PER_MINUTE, Duration::from_secs(60)),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
    })
}

impl Notifier for Telegram {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            self.bucket.take(Instant::now())?;
            let url = self
                .url
                .clone()
                .ok_or_else(|| NotifyError::permanent(Reason::Rejected, "no URL is configured"))?;
            let send = async |chat: &str| {
                let payload = self.payload(notification, chat);
                let answer = self
                    .endpoint
                    .send(Request::post_json(
                        url.clone(),
                        &payload,
                        self.endpoint.timeout(),
                    ))
                    .await?;
                // The API explains itself in JSON, whatever the status.
                let answered = answer.json().ok();
                Ok::<_, NotifyError>((answer, answered))
            };
            let known = self.moved.lock().clone();
            let (mut answer, mut answered) =
                send(known.as_deref().unwrap_or(&self.chat_id)).await?;
            // A group that became a supergroup has another number from then on.
            if let Some(new) = answered
                .as_ref()
                .and_then(|answered| answered["parameters"]["migrate_to_chat_id"].as_i64())
                .map(|id| id.to_string())
            {
                if self.moved.lock().replace(new.clone()).as_ref() != Some(&new) {
                    let receiver = &notification.receiver;
                    warn!(
                        receiver,
                        notifier = KIND.name,
                        chat_id = new,
                        "The chat has become a supergroup; write this chat_id into the configuration."
                    );
                }
                (answer, answered) = send(&new).await?;
            }
            let wait = answered
                .as_ref()
                .and_then(|t| t["parameters"]["retry_after"].as_u64())
                .map(|s| Duration::from_secs(s.min(3600)));
            let outcome =
                answer
                    .accepted()
                    .and_then(|_| match answered.as_ref().map(|t| &t["ok"]) {
                        Some(Value::Bool(true)) => Ok(()),
                        _ => Err(NotifyError::retryable(
                            Reason::InvalidResponse,
                            "the answer is not ok",
                        )),
                    });
            outcome.map_err(|error| {
                // A chat that blocked the bot says 403: it is one chat's matter.
                let reason = if error.message.starts_with("answered 403") {
                    Reason::Rejected
                } else {
                    error.reason
                };
                NotifyError {
                    reason,
                    retryable: true,
                    retry_after: wait.or(error.retry_after),
                    ..error
                }
            })
        })
    }

    fn digest(&self) -> Digest {
        Digest::Names(MAX_MESSAGE / 8 * 6)
    }

    fn ready(&self) -> usize {
        self.bucket.ready(Instant::now())
    }

    fn deadline(&self) -> Duration {
        self.endpoint.deadline()
    }
}

impl Telegram {
    fn payload(&self, n: &Notification, chat: &str) -> Value {
        let (text, mode) = self.text(n);
        let mut out = Map::new();
        out.insert("chat_id".into(), chat.into());
        out.insert("text".into(), text.into());
        if !mode.is_empty() {
            out.insert("parse_mode".into(), mode.into());
        }
        if let Some(thread) = self.thread_id {
            out.insert("message_thread_id".into(), thread.into());
        }
        out.insert("disable_web_page_preview".into(), true.into());
        if self.silent {
            out.insert("disable_notification".into(), true.into());
        }
        Value::Object(out)
    }

    /// The text and its parse mode. An own text that is too long is cut, except HTML, which would
    /// break: the built-in text replaces it.
    fn text(&self, n: &Notification) -> (String, &str) {
        let mut rendering = Rendering::new(n, &self.style);
        let own = self
            .message
            .as_ref()
            .map(|field| rendering.needed(Some(field), String::new))
            .filter(|_| rendering.notes().is_empty());
        match own {
            Some(text) if units(&text) <= MAX_MESSAGE => return (text, &self.parse_mode),
            Some(text) if self.parse_mode != "HTML" => {
                return (
                    cut_text(&text, MAX_MESSAGE, self.style.language).into_owned(),
                    &self.parse_mode,
                );
            }
            _ => {}
        }
        let notes: String = rendering
            .notes()
            .iter()
            .map(|note| format!("\n\n{note}"))
            .collect();
        let title = subject(n, self.style.language);
        let built = |markup, bold: &dyn Fn(&str) -> String, room: usize| {
            let head = bold(&cut_chars(&title, 256));
            format!(
                "{head}\n{}{notes}",
                body(
                    n,
                    &self.style,
                    markup,
                    room.saturating_sub(head.len() + notes.len() + 1)
                )
            )
        };
        let html = |text: &str| (TELEGRAM.bold)(&(TELEGRAM.escape)(text));
        // Bytes are at least characters: three times the room first, for Chinese.
        let fitting = [3 * MAX_MESSAGE, MAX_MESSAGE].map(|room| built(&TELEGRAM, &html, room));
        if notes.is_empty() {
            for text in fitting {
                if units(&text) <= MAX_MESSAGE
                    && text.matches('<').count() == text.matches('>').count()
                {
                    return (text, "HTML");
                }
            }
        }
        (
            cut_text(
                &built(&PLAIN, &str::to_owned, MAX_MESSAGE),
                MAX_MESSAGE,
                self.style.language,
            )
            .into_owned(),
            "",
        )
    }
}
