//! `discord_configs`: a channel's webhook (SEMANTICS 186).
//! <https://discord.com/developers/docs/resources/webhook#execute-webhook>. Nobody is pinged by
//! what an alert's text happens to say.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::config::Section;
use crate::http::Request;

use crate::notify::endpoint::{Endpoint, secret_url};
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{MARKDOWN, Style, body, cut_chars, cut_text, subject};
use crate::notify::notification::{AlertStatus, Notification};
use crate::notify::robot::Bucket;
use crate::notify::{Digest, Notifier, NotifierKind};

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "discord_configs",
    name: "discord",
    send_resolved: true,
    build,
};

/// Longest title, description and content, in characters; the bytes of the built-in text stay
/// below.
const MAX_TITLE: usize = 256;
const MAX_DESCRIPTION: usize = 4096;
const MAX_CONTENT: usize = 2000;

/// Messages that a channel takes in a minute.
const PER_MINUTE: usize = 30;

struct Discord {
    url: Option<Url>,
    title: Option<Field>,
    message: Option<Field>,
    content: Option<Field>,
    username: Option<Field>,
    avatar_url: Option<Field>,
    bucket: Bucket,
    endpoint: Endpoint,
    style: Style,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    let url = secret_url(section, "webhook_url", None);
    if section.node("webhook_url").is_none() && section.node("webhook_url_file").is_none() {
        section.error(
            "",
            "has neither webhook_url nor webhook_url_file",
            "add webhook_url: https://discord.com/api/webhooks/…",
        );
    }
    Box::new(Discord {
        url,
        title: Field::customised(section, "title", "discord.default.title"),
        message: Field::customised(section, "message", "discord.default.message"),
        content: Field::customised(section, "content", "discord.default.content"),
        username: Field::read(section, "username"),
        avatar_url: Field::read(section, "avatar_url"),
        bucket: Bucket::new(PER_MINUTE, Duration::from_secs(60)),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
    })
}

impl Notifier for Discord {
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
            let request =
                Request::post_json(url, &self.payload(notification), self.endpoint.timeout());
            self.endpoint.send(request).await?.accepted().map(drop)
        })
    }

    fn digest(&self) -> Digest {
        Digest::Names(MAX_DESCRIPTION / 8 * 6)
    }

    fn ready(&self) -> usize {
        self.bucket.ready(Instant::now())
    }

    fn deadline(&self) -> Duration {
        self.endpoint.deadline()
    }
}

/// Whom a literal text of the configuration may call; what an alert says calls nobody.
fn mentions(written: &str) -> Value {
    let ids = |prefixes: &[&str]| -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for prefix in prefixes {
            for piece in written.split(prefix).skip(1) {
                let id = piece.split('>').next().unwrap_or_default();
                if !id.is_empty()
                    && id.bytes().all(|b| b.is_ascii_digit())
                    && piece.contains('>')
                    && !out.iter().any(|known| known == id)
                {
                    out.push(id.to_owned());
                }
            }
        }
        out
    };
    let everyone = written.contains("@everyone") || written.contains("@here");
    let mut out = json!({"parse": if everyone { vec!["everyone"] } else { Vec::new() }});
    for (key, ids) in [("roles", ids(&["<@&"])), ("users", ids(&["<@!", "<@"]))] {
        if !ids.is_empty() {
            out[key] = ids.into();
        }
    }
    out
}

impl Discord {
    /// Discord allows `@here` and `@everyone` only together: where the configuration writes the
    /// one, an alert's text must not call the other.
    fn without_foreign_mention(&self, content: String) -> String {
        let is_written = self.content.as_ref().is_some_and(|field| {
            field
                .literals()
                .iter()
                .any(|text| text.contains("@everyone"))
        });
        if is_written {
            content
        } else {
            content.replace("@everyone", "@\u{200b}everyone")
        }
    }

    fn payload(&self, n: &Notification) -> Value {
        let mut rendering = Rendering::new(n, &self.style);
        let title = rendering.text(self.title.as_ref(), || subject(n, self.style.language));
        let content =
            self.without_foreign_mention(rendering.text(self.content.as_ref(), String::new));
        let built_in = || body(n, &self.style, &MARKDOWN, MAX_DESCRIPTION);
        // An embed that says nothing is refused.
        let message = if title.trim().is_empty()
            || self.message.as_ref().is_some_and(|field| !field.is_empty())
        {
            rendering.needed(self.message.as_ref(), built_in)
        } else {
            rendering.text(self.message.as_ref(), built_in)
        };
        let mut out = json!({
            "content": cut_text(&content, MAX_CONTENT, self.style.language),
            "embeds": [{
                "title": cut_chars(&title, MAX_TITLE),
                "description": "",
                // Dark red and green, as Alertmanager has them.
                "color": if n.status == AlertStatus::Firing { 0x99_2d_22 } else { 0x2e_cc_71 },
            }],
            "allowed_mentions": self.content.as_ref().map_or_else(|| json!({"parse": []}), |field| mentions(&field.literals().join(" "))),
        });
        for (name, field) in [
            ("username", &self.username),
            ("avatar_url", &self.avatar_url),
        ] {
            if let Some(text) = rendering.optional(field.as_ref()) {
                out[name] = text.into();
            }
        }
        let description = rendering.with_notes(message, MAX_DESCRIPTION);
        out["embeds"][0]["description"] = description.into();
        out
    }
}
