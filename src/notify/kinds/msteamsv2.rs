//! `msteamsv2_configs`: a workflow of Microsoft Teams, which takes an Adaptive Card 1.2
//! (SEMANTICS 186). <https://adaptivecards.io/explorer/>.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use url::Url;

use crate::config::Section;
use crate::http::Request;

use super::msteams::{MAX_BODY, MAX_TITLE, webhook_url};
use crate::notify::endpoint::Endpoint;
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{ROBOT, Style, body, cut_bytes, cut_chars, subject};
use crate::notify::notification::{AlertStatus, Notification};
use crate::notify::robot::within;
use crate::notify::{Digest, Notifier, NotifierKind};

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "msteamsv2_configs",
    name: "msteamsv2",
    send_resolved: true,
    build,
};

struct Teams {
    url: Option<Url>,
    title: Option<Field>,
    text: Option<Field>,
    endpoint: Endpoint,
    style: Style,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    Box::new(Teams {
        url: webhook_url(section),
        title: Field::customised(section, "title", "msteamsv2.default.title"),
        text: Field::customised(section, "text", "msteamsv2.default.text"),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
    })
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
            self.endpoint
                .send(Request::post_json(url, &body, self.endpoint.timeout()))
                .await?
                .accepted()
                .map(drop)
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
        let text = rendering.needed(self.text.as_ref(), || body(n, &self.style, &ROBOT, limit));
        let text = rendering.with_notes(text, limit);
        let colour = if n.status == AlertStatus::Firing {
            "Attention"
        } else {
            "Good"
        };
        json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.2",
                    "body": [
                        {"type": "TextBlock", "text": title, "weight": "Bolder", "size": "Medium", "wrap": true, "style": "heading", "color": colour},
                        {"type": "TextBlock", "text": cut_bytes(&text, limit, self.style.language), "wrap": true},
                    ],
                    "msteams": {"width": "full"},
                },
            }],
        })
    }
}
