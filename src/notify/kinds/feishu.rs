//! `feishu_configs`: a custom bot of a Feishu or Lark group (SEMANTICS 224-226).
//! <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot>.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::Instant;
use url::Url;

use crate::config::{Secret, Section};
use crate::http::Request;
use crate::model::Timestamp;

use crate::notify::endpoint::{Endpoint, secret_url};
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{ROBOT, Style, body, cut_chars, subject};
use crate::notify::notification::{AlertStatus, Notification};
use crate::notify::robot::{Bucket, Codes, Mention, Mentions, with_words, within};
use crate::notify::{Digest, Notifier, NotifierKind};

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "feishu_configs",
    name: "feishu",
    send_resolved: true,
    build,
};

/// Largest body, in bytes.
const MAX_BODY: usize = 20_000;
/// Time from one message to the next: a bot takes five in a second, and the way takes a little.
const PACE: Duration = Duration::from_millis(220);
/// Longest title, in characters: it is what the phone shows first.
const MAX_TITLE: usize = 256;

const CODES: Codes = Codes {
    keys: &["code", "StatusCode"],
    rate_limited: (&[11_232], 60),
    auth: &[19_021, 19_022, 19_001],
    busy: &[],
};

struct Feishu {
    url: Option<Url>,
    secret: Option<Secret>,
    keyword: String,
    title: Option<Field>,
    text: Option<Field>,
    mentions: Mentions,
    bucket: Bucket,
    /// When the next message may go: at most five in a second.
    next: tokio::sync::Mutex<Instant>,
    endpoint: Endpoint,
    style: Style,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    let url = secret_url(section, "url", None);
    if section.node("url").is_none() && section.node("url_file").is_none() {
        section.error(
            "",
            "has neither url nor url_file",
            "add url: https://open.feishu.cn/open-apis/bot/v2/hook/…",
        );
    }
    Box::new(Feishu {
        url,
        secret: section.secret("secret").filter(|s| !s.is_empty()),
        keyword: section.or("keyword", String::new()),
        title: Field::read(section, "title"),
        text: Field::read(section, "text"),
        mentions: Mentions::read(section),
        bucket: Bucket::new(100, Duration::from_secs(60)),
        next: tokio::sync::Mutex::new(Instant::now()),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
    })
}

impl Notifier for Feishu {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let url = self
                .url
                .clone()
                .ok_or_else(|| NotifyError::permanent(Reason::Rejected, "no URL is configured"))?;
            self.bucket.take(Instant::now())?;
            let mut next = self.next.lock().await;
            tokio::time::sleep_until(*next).await;
            *next = Instant::now() + PACE;
            drop(next);
            let now = Timestamp::now().0.div_euclid(1000);
            let body = within(MAX_BODY, |limit| self.payload(notification, limit, now));
            CODES.check(
                self.endpoint
                    .send(Request::post_json(url, &body, self.endpoint.timeout()))
                    .await?,
            )
        })
    }

    fn digest(&self) -> Digest {
        Digest::Names(MAX_BODY / 8 * 6)
    }

    fn ready(&self) -> usize {
        self.bucket.ready(Instant::now())
    }

    fn deadline(&self) -> Duration {
        self.endpoint.deadline()
    }
}

impl Feishu {
    fn payload(&self, n: &Notification, limit: usize, now: i64) -> Value {
        let mut rendering = Rendering::new(n, &self.style);
        let title = rendering.needed(self.title.as_ref(), || subject(n, self.style.language));
        let title = cut_chars(&title, MAX_TITLE);
        let text = rendering.needed(self.text.as_ref(), || body(n, &self.style, &ROBOT, limit));
        let mut text = rendering.with_notes(text, limit);
        let own = n.digest == 0 && rendering.notes().is_empty();
        text = with_words(
            text,
            &title,
            &self.keyword,
            own,
            [self.title.as_ref(), self.text.as_ref()],
        );
        for mention in self.mentions.of(n) {
            match mention {
                Mention::All => text.push_str("\n<at id=all></at>"),
                Mention::Id(id) => text.push_str(&format!("\n<at id={id}></at>")),
                // A custom bot knows ids only; the number still tells who is meant.
                Mention::Mobile(number) => text.push_str(&format!("\n@{number}")),
            }
        }
        let colour = if n.status == AlertStatus::Firing {
            "red"
        } else {
            "green"
        };
        let mut out = json!({
            "msg_type": "interactive",
            "card": {
                "config": {"wide_screen_mode": true},
                "header": {"template": colour, "title": {"tag": "plain_text", "content": title}},
                "elements": [{"tag": "markdown", "content": text}],
            },
        });
        if let Some(secret) = &self.secret {
            out["timestamp"] = now.to_string().into();
            out["sign"] = sign(secret, now).into();
        }
        out
    }
}

/// base64(HMAC-SHA256(`timestamp\nsecret`, nothing)), SEMANTICS 225: key and message are not
/// DingTalk's.
fn sign(secret: &Secret, timestamp_seconds: i64) -> String {
    let key = format!("{timestamp_seconds}\n{}", secret.expose());
    let mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEMANTICS 225.
    #[test]
    fn the_signature_is_feishus() {
        assert_eq!(
            sign(&Secret::new("demo"), 1_700_000_000),
            "8oT2n3SMKFfEnDoiwer8BUM/SjKLwe9SqoEIHlhDTKo="
        );
    }
}
