//! `wecom_configs`: a group robot of WeCom, 企业微信 (SEMANTICS 222-223).
//! <https://developer.work.weixin.qq.com/document/path/91770>.
//!
//! A message is Markdown; where people are called by mobile number, or all are, it is text, because
//! only text can do that. A picture follows as a message of its own (`picture: false` does
//! without), while the robot's limit leaves room for texts.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::BoxFuture;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::config::Section;
use crate::http::Request;
use crate::model::text::hex;

use crate::notify::endpoint::Endpoint;
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{PLAIN, ROBOT, Style, body, cut_bytes, subject};
use crate::notify::notification::{AlertStatus, Notification};
use crate::notify::picture;
use crate::notify::robot::{Bucket, Codes, Mention, Mentions, address};
use crate::notify::{Digest, Notifier, NotifierKind};

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "wecom_configs",
    name: "wecom",
    send_resolved: true,
    build,
};

/// Largest content of a text message, in bytes.
const MAX_TEXT: usize = 2048;
/// Largest content of a Markdown message, in bytes.
const MAX_MARKDOWN: usize = 4096;

/// Messages a minute that pictures leave to texts.
const FOR_TEXTS: usize = 10;

const CODES: Codes = Codes {
    keys: &["errcode"],
    rate_limited: (&[45_009, 45_033], 60),
    auth: &[93_000],
    busy: &[-1],
};

struct WeCom {
    url: Option<Url>,
    text: Option<Field>,
    mentions: Mentions,
    picture: bool,
    bucket: Bucket,
    endpoint: Endpoint,
    style: Style,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    Box::new(WeCom {
        url: address(
            section,
            "key",
            "https://qyapi.weixin.qq.com/cgi-bin/webhook/send",
        ),
        text: Field::read(section, "text"),
        mentions: Mentions::read(section),
        picture: picture::wanted(section),
        bucket: Bucket::new(20, Duration::from_secs(60)),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
    })
}

impl Notifier for WeCom {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let url = self
                .url
                .clone()
                .ok_or_else(|| NotifyError::permanent(Reason::Rejected, "no URL is configured"))?;
            let started = Instant::now();
            self.bucket.take(started)?;
            let request = Request::post_json(
                url.clone(),
                &self.payload(notification),
                self.endpoint.timeout(),
            );
            CODES.check(self.endpoint.send(request).await?)?;
            if let Some(png) = Some(notification)
                .filter(|_| self.picture)
                .and_then(|n| picture::of(n, &self.style))
            {
                drop(picture::send(notification, started, self.send_picture(url, &png)).await);
            }
            Ok(())
        })
    }

    fn digest(&self) -> Digest {
        Digest::Names(
            if self.mentions.are_any() {
                MAX_TEXT
            } else {
                MAX_MARKDOWN
            } / 8
                * 6,
        )
    }

    fn ready(&self) -> usize {
        self.bucket.ready(Instant::now())
    }

    fn deadline(&self) -> Duration {
        self.endpoint.deadline()
    }
}

impl WeCom {
    /// The picture as a message of its own, where enough of the robot's limit is left for texts.
    async fn send_picture(&self, url: Url, png: &[u8]) -> Result<(), NotifyError> {
        let now = Instant::now();
        if self.bucket.ready(now) <= FOR_TEXTS || self.bucket.take(now).is_err() {
            return Ok(());
        }
        let md5 = hex(&Md5::digest(png));
        let body = json!({"msgtype": "image", "image": {"base64": BASE64_STANDARD.encode(png), "md5": md5}});
        CODES.check(
            self.endpoint
                .send(Request::post_json(url, &body, self.endpoint.timeout()))
                .await?,
        )
    }

    fn payload(&self, n: &Notification) -> Value {
        let mentions = self.mentions.of(n);
        let as_text = mentions.iter().any(|m| !matches!(m, Mention::Id(_)));
        let (limit, markup) = if as_text {
            (MAX_TEXT, &PLAIN)
        } else {
            (MAX_MARKDOWN, &ROBOT)
        };
        let colour = if n.status == AlertStatus::Firing {
            "warning"
        } else {
            "info"
        };
        let title = subject(n, self.style.language);
        let title = cut_bytes(&title, limit / 8, self.style.language);
        let title = if as_text {
            title.into_owned()
        } else {
            format!(
                "### <font color=\"{colour}\">{}</font>",
                (ROBOT.escape)(&title)
            )
        };
        let mut rendering = Rendering::new(n, &self.style);
        let text = rendering.needed(self.text.as_ref(), || {
            format!(
                "{title}\n{}",
                body(n, &self.style, markup, limit - title.len() - 1)
            )
        });
        let text = rendering.with_notes(text, limit);
        if as_text {
            let ids: Vec<&str> = mentions
                .iter()
                .filter_map(|m| match m {
                    Mention::All => Some("@all"),
                    Mention::Id(id) => Some(id.as_str()),
                    Mention::Mobile(_) => None,
                })
                .collect();
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
            let content = cut_bytes(&text, limit, self.style.language);
            return json!({"msgtype": "text", "text": {"content": content, "mentioned_list": ids, "mentioned_mobile_list": mobiles}});
        }
        let calls: String = mentions
            .iter()
            .filter_map(|m| {
                if let Mention::Id(id) = m {
                    Some(format!("<@{id}>"))
                } else {
                    None
                }
            })
            .collect();
        let content = format!(
            "{}{calls}",
            cut_bytes(
                &text,
                limit.saturating_sub(calls.len()),
                self.style.language
            )
        );
        json!({"msgtype": "markdown", "markdown": {"content": content}})
    }
}
