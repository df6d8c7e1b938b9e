//! `msteams_configs`: a connector of Microsoft Teams, which takes a MessageCard (SEMANTICS 186);
//! new installations use `msteamsv2_configs`. A connector answers 200 and says in the body that
//! Teams refused: only `1` is success.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use url::Url;

use crate::config::Section;
use crate::http::Request;

use crate::notify::endpoint::{Endpoint, secret_url};
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{ROBOT, Style, body, cut_bytes, cut_chars, subject};
use crate::notify::notification::{AlertStatus, Notification};
use crate::notify::robot::within;
use crate::notify::{Digest, Notifier, NotifierKind};

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "msteams_configs",
    name: "msteams",
    send_resolved: true,
    build,
};

/// Largest body, in bytes (28 KB).
pub(in crate::notify) const MAX_BODY: usize = 28 << 10;
/// Longest title, in characters.
pub(in crate::notify) const MAX_TITLE: usize = 256;

struct Teams {
    url: Option<Url>,
    title: Option<Field>,
    summary: Option<Field>,
    text: Option<Field>,
    endpoint: Endpoint,
    style: Style,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    Box::new(Teams {
        url: webhook_url(section),
        title: Field::customised(section, "title", "msteams.default.title"),
        summary: Field::customised(section, "summary", "msteams.default.summary"),
        text: Field::customised(section, "text", "msteams.default.text"),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
    })
}

/// `webhook_url` or `webhook_url_file`, one of which must be there.
pub(in crate::notify) fn webhook_url(section: &Section<'_>) -> Option<Url> {
    let url = secret_url(section, "webhook_url", None);
    if section.node("webhook_url").is_none() && section.node("webhook_url_file").is_none() {
        section.error(
            "",
            "has neither webhook_url nor webhook_url_file",
            "add webhook_url: the URL that Teams shows",
        );
    }
    url
}

impl Notifier for Teams {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let url = self
                .url
                .clone()
                .ok_or_else(|| NotifyError::permanent(Reason::Rejected, "no URL is configured"))?;
            let body = within(MAX_BODY, |limit| self.payload(notification, limit));
            let answer = self
                .endpoint
                .send(Request::post_json(url, &body, self.endpoint.timeout()))
                .await?
                .accepted()?;
            let text = answer.text()?;
            match text.trim() {
                "1" | "" => Ok(()),
                text if text.contains("429") => Err(NotifyError::retryable(
                    Reason::RateLimited,
                    "Teams takes no more messages for now",
                )),
                _ => Err(NotifyError::permanent(
                    Reason::Rejected,
                    "the connector took the message, Teams refused it",
                )),
            }
        })
    }

    fn digest(&self) -> Digest {
        Digest::Names(MAX_BODY / 8 * 6)
    }

    fn deadline(&self) -> Duration {
        self.endpoint.deadline()
    }
}

impl Teams {
    fn payload(&self, n: &Notification, limit: usize) -> Value {
        let mut rendering = Rendering::new(n, &self.style);
        let title = rendering.text(self.title.as_ref(), || subject(n, self.style.language));
        let title = cut_chars(&title, MAX_TITLE);
        let summary = rendering.needed(self.summary.as_ref(), || subject(n, self.style.language));
        let summary = cut_chars(&summary, MAX_TITLE);
        let text = rendering.needed(self.text.as_ref(), || body(n, &self.style, &ROBOT, limit));
        let text = rendering.with_notes(text, limit);
        json!({
            "@context": "http://schema.org/extensions",
            "type": "MessageCard",
            "title": title,
            "summary": summary,
            "text": cut_bytes(&text, limit, self.style.language),
            "themeColor": if n.status == AlertStatus::Firing { "8C1A1A" } else { "2DC72D" },
        })
    }
}
