//! `email_configs`: SMTP as Alertmanager speaks it (SEMANTICS 181): TLS at once on port 465, else
//! STARTTLS, which must be offered unless `require_tls: false`; never opportunistic.
//!
//! One connection for each message. A recipient that is refused does not keep the mail from the
//! others; who already has it is remembered for the next attempt. Message-ID and Date come from the
//! delivery, so a repeated attempt is the same mail.

mod addresses;
mod compose;
mod greeting;
mod session;
mod tls;

use std::time::Duration;

use futures_util::future::BoxFuture;
use lettre::Address;

use crate::config::{Section, Value};

use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::Style;
use crate::notify::notification::Notification;
use crate::notify::served::Served;
use crate::notify::{Digest, Notifier, NotifierKind};
use compose::Composer;
use session::Server;

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "email_configs",
    name: "email",
    send_resolved: false,
    build,
};

/// Longest attempt where `timeout` is not written or 0: each step of it has a deadline of its own.
const LONGEST: Duration = Duration::from_secs(3600);
/// How much later than its own deadline an attempt is cut.
const MARGIN: Duration = Duration::from_secs(30);

struct Email {
    to: Field,
    server: Server,
    composer: Composer,
    style: Style,
    timeout: Option<Duration>,
    /// Recipients that already have a delivery that others refused.
    served: Served,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    let to = recipients(section);
    if to.is_empty() {
        section.error("", "has no recipient", "add to: someone@example.org");
    }
    let composer = Composer::read(section, global);
    if !to.contains("{{")
        && let Err(address) = addresses::parse(&to)
    {
        section.error(
            "to",
            format!("{address:?} is not an address"),
            "give addresses such as someone@example.org, separated by commas",
        );
    }
    Box::new(Email {
        to: Field::new(section, "to", to),
        server: Server::read(section, global),
        composer,
        style: Style::read(section, global),
        timeout: section.get::<Duration>("timeout").filter(|t| !t.is_zero()),
        served: Served::default(),
    })
}

/// `to` as Alertmanager writes it (text with commas) or as a list.
fn recipients(section: &Section<'_>) -> String {
    match section.node("to").map(|n| &n.value) {
        Some(Value::List(_)) => section.or("to", Vec::<String>::new()).join(", "),
        _ => section.or("to", String::new()),
    }
}

impl Notifier for Email {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let mut rendering = Rendering::new(notification, &self.style);
            let to = compose::mailboxes("to", &rendering.address(&self.to)?)
                .map_err(|error| self.to.unusable(error))?;
            let delivery = &notification.delivery_id;
            let waiting = self
                .served
                .waiting(delivery, to.iter().map(|m| m.email.to_string()));
            let tried: Vec<Address> = to
                .iter()
                .map(|m| m.email.clone())
                .filter(|a| waiting.contains(&a.to_string()))
                .collect();
            let (from, mail) =
                self.composer
                    .compose(notification, &self.style, &to, &mut rendering)?;
            if tried.is_empty() {
                self.served.complete(delivery);
                return Ok(());
            }
            let sent = self.server.send(&from, &tried, &mail);
            let refused = match self.timeout {
                Some(timeout) => tokio::time::timeout(timeout, sent)
                    .await
                    .map_err(|_| NotifyError::retryable(Reason::Timeout, "timed out"))??,
                None => sent.await?,
            };
            for address in tried
                .iter()
                .filter(|address| refused.iter().all(|r| r.address != **address))
            {
                self.served.has_it(delivery, address.as_ref());
            }
            let (for_good, later): (Vec<_>, Vec<_>) =
                refused.iter().partition(|refused| refused.for_good);
            // Where nobody is left, the mail as a whole was refused.
            if for_good.len() == to.len() {
                let first = for_good
                    .first()
                    .map_or("", |refused| refused.reason.as_str());
                return Err(NotifyError::permanent(Reason::Rejected, first));
            }
            for refused in for_good {
                self.served.is_refused(
                    delivery,
                    refused.address.as_ref(),
                    &notification.receiver,
                    &refused.reason,
                );
            }
            let Some(first) = later.first() else {
                self.served.complete(delivery);
                return Ok(());
            };
            let text = format!(
                "{} of {} recipients refused: {}",
                later.len(),
                tried.len(),
                first.reason
            );
            Err(NotifyError::retryable(Reason::Rejected, text))
        })
    }

    fn deadline(&self) -> Duration {
        // Without a timeout of its own each step has one.
        self.timeout
            .map_or(LONGEST, |timeout| timeout.saturating_add(MARGIN))
    }

    fn has_recipients(&self) -> bool {
        true
    }

    fn digest(&self) -> Digest {
        Digest::Whole
    }
}
