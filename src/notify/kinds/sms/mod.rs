//! `sms_configs`: text messages through Twilio or Aliyun (SEMANTICS 227-229).
//!
//! Neither service drops repeats, so who has a message is remembered, and only the others are tried
//! again.

mod aliyun;
mod twilio;

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::config::{Section, Value};

use crate::notify::endpoint::Endpoint;
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{Style, brief};
use crate::notify::notification::Notification;
use crate::notify::served::Served;
use crate::notify::{Digest, Notifier, NotifierKind};
use aliyun::Aliyun;
use twilio::Twilio;

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "sms_configs",
    name: "sms",
    send_resolved: true,
    build,
};

/// Largest built-in text, in bytes: three messages of the network.
const MAX_TEXT: usize = 400;
/// Largest text that names more than a few alerts, or is somebody's own: Twilio takes 1600
/// characters.
const MAX_LONG_TEXT: usize = 1600;
const FEW: usize = 3;
/// More recipients than one list has as a rule.
const MANY: u32 = 64;

enum Provider {
    Twilio(Twilio),
    Aliyun(Aliyun),
}

struct Sms {
    provider: Provider,
    to: Field,
    text: Option<Field>,
    endpoint: Endpoint,
    style: Style,
    served: Served,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    let provider = match section.require::<String>("provider").as_str() {
        "aliyun" => Provider::Aliyun(Aliyun::read(section)),
        "twilio" => Provider::Twilio(Twilio::read(section)),
        other => {
            if !other.is_empty() {
                section.error(
                    "provider",
                    format!("{other:?} is not known"),
                    "give twilio or aliyun",
                );
            }
            Provider::Twilio(Twilio::read(section))
        }
    };
    let to = match section.node("to").map(|n| &n.value) {
        Some(Value::List(_)) => section.or("to", Vec::<String>::new()).join(","),
        _ => section.or("to", String::new()),
    };
    if to.is_empty() {
        section.error("", "has no recipient", "add to: ['+8613800000000']");
    }
    Box::new(Sms {
        provider,
        to: Field::new(section, "to", to),
        text: Field::read(section, "text"),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
        served: Served::default(),
    })
}

impl Notifier for Sms {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let mut rendering = Rendering::new(notification, &self.style);
            let room = if notification.alerts.len() > FEW || self.text.is_some() {
                MAX_LONG_TEXT
            } else {
                MAX_TEXT
            };
            let text = rendering.needed(self.text.as_ref(), || {
                brief(notification, &self.style, room)
            });
            let text = rendering.with_notes(text, room);
            let all = rendering.address(&self.to)?;
            let all: Vec<String> = all
                .split(',')
                .map(|n| n.trim().to_owned())
                .filter(|n| !n.is_empty())
                .collect();
            if all.is_empty() {
                return Err(self.to.unusable(NotifyError::permanent(
                    Reason::Rejected,
                    "there is no recipient",
                )));
            }
            let delivery = &notification.delivery_id;
            let waiting = self.served.waiting(delivery, all);
            match &self.provider {
                Provider::Aliyun(aliyun) => {
                    aliyun
                        .send(
                            &self.endpoint,
                            notification,
                            &mut rendering,
                            &waiting,
                            &text,
                        )
                        .await
                }
                Provider::Twilio(twilio) => {
                    let outcome = twilio
                        .send_each(&self.endpoint, &waiting, &text, &self.served, notification)
                        .await;
                    if outcome.is_ok() {
                        self.served.complete(delivery);
                    }
                    outcome
                }
            }
        })
    }

    fn deadline(&self) -> Duration {
        // One request for each recipient.
        self.endpoint.deadline().saturating_mul(MANY)
    }

    fn has_recipients(&self) -> bool {
        matches!(self.provider, Provider::Twilio(_))
    }

    fn digest(&self) -> Digest {
        match self.provider {
            Provider::Twilio(_) => Digest::Names(MAX_LONG_TEXT / 8 * 6),
            // A variable of a template carries no list, and each further message costs money.
            Provider::Aliyun(_) => Digest::Names(usize::MAX),
        }
    }
}
