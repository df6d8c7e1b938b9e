//! `dingtalk_configs`: a custom robot of a DingTalk group (SEMANTICS 218-221).
//! <https://open.dingtalk.com/document/robots/custom-robot-access>.

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

use crate::notify::endpoint::Endpoint;
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{ROBOT, Style, body, cut_chars, subject};
use crate::notify::notification::Notification;
use crate::notify::robot::{Bucket, Codes, Mention, Mentions, address, with_words, within};
use crate::notify::{Digest, Notifier, NotifierKind};

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "dingtalk_configs",
    name: "dingtalk",
    send_resolved: true,
    build,
};

/// Largest body, in bytes.
const MAX_BODY: usize = 20_000;
/// Longest title, in characters: it is what the phone shows first.
const MAX_TITLE: usize = 256;

const CODES: Codes = Codes {
    keys: &["errcode"],
    // Who exceeds the limit is shut out for ten minutes.
    rate_limited: (&[130_101, 410_100], 600),
    auth: &[310_000, 300_001, 300_005],
    busy: &[-1],
};

struct DingTalk {
    url: Option<Url>,
    secret: Option<Secret>,
    keyword: String,
    title: Option<Field>,
    text: Option<Field>,
    mentions: Mentions,
    bucket: Bucket,
    endpoint: Endpoint,
    style: Style,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    Box::new(DingTalk {
        url: address(
            section,
            "access_token",
            "https://oapi.dingtalk.com/robot/send",
        ),
        secret: section.secret("secret").filter(|s| !s.is_empty()),
        keyword: section.or("keyword", String::new()),
        title: Field::read(section, "title"),
        text: Field::read(section, "text"),
        mentions: Mentions::read(section),
        bucket: Bucket::new(20, Duration::from_secs(60)),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
    })
}

impl Notifier for DingTalk {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let mut url = self
                .url
                .clone()
                .ok_or_else(|| NotifyError::permanent(Reason::Rejected, "no URL is configured"))?;
            self.bucket.take(Instant::now())?;
            if let Some(secret) = &self.secret {
                let now = Timestamp::now().0;
                url.query_pairs_mut()
                    .append_pair("timestamp", &now.to_string())
                    .append_pair("sign", &sign(secret, now));
            }
            let body = within(MAX_BODY, |limit| self.payload(notification, limit));
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

impl DingTalk {
    fn payload(&self, n: &Notification, limit: usize) -> Value {
        let mut rendering = Rendering::new(n, &self.style);
        let title = rendering.needed(self.title.as_ref(), || subject(n, self.style.language));
        let title = cut_chars(&title, MAX_TITLE);
        let text = rendering.needed(self.text.as_ref(), || {
            format!(
                "### {}\n\n{}",
                (ROBOT.escape)(&title),
                body(n, &self.style, &ROBOT, limit)
            )
        });
        let mut text = rendering.with_notes(text, limit);
        let own = n.digest == 0 && rendering.notes().is_empty();
        // The title is shown beside the text, not checked for the keyword for certain.
        text = with_words(
            text,
            "",
            &self.keyword,
            own,
            [self.title.as_ref(), self.text.as_ref()],
        );
        let mentions = self.mentions.of(n);
        let mobiles: Vec<&String> = mentions
            .iter()
            .filter_map(|m| {
                if let Mention::Mobile(m) = m {
                    Some(m)
                } else {
                    None
                }
            })
            .collect();
        let ids: Vec<&String> = mentions
            .iter()
            .filter_map(|m| {
                if let Mention::Id(m) = m {
                    Some(m)
                } else {
                    None
                }
            })
            .collect();
        // A mention works only where the text names it, too.
        for name in mobiles.iter().chain(&ids) {
            text.push_str(&format!(" @{name}"));
        }
        json!({
            "msgtype": "markdown",
            "markdown": {"title": title, "text": text},
            "at": {"atMobiles": mobiles, "atUserIds": ids, "isAtAll": mentions.contains(&&Mention::All)},
        })
    }
}

/// base64(HMAC-SHA256(secret, `timestamp\nsecret`)), SEMANTICS 219; the query encodes it.
fn sign(secret: &Secret, timestamp_ms: i64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(format!("{timestamp_ms}\n{}", secret.expose()).as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEMANTICS 219.
    #[test]
    fn the_signature_is_dingtalks() {
        assert_eq!(
            sign(&Secret::new("SECdemo"), 1_700_000_000_000),
            "lOvVf9TQCVugV68mGbSZCg0gzOl1SVjxWi1MyVZCUuA="
        );
    }
}
