//! `email_configs`: SMTP as Alertmanager speaks it (SEMANTICS 181): TLS at once on port 465, else STARTTLS, which must be offered unless
//! `require_tls: false`; never opportunistic.
//!
//! One connection for each message. A recipient that is refused does not keep the mail from the others; who already has it is remembered
//! for the next attempt. Message-ID and Date come from the delivery, so a repeated attempt is the same mail.

mod compose;
mod session;
mod tls;

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lettre::Address;
use parking_lot::Mutex;

use crate::config::{Section, Value};

use super::error::{NotifyError, Reason};
use super::field::{Field, Rendering};
use super::message::Style;
use super::notification::Notification;
use super::{Notifier, NotifierKind};
use compose::Composer;
use session::Server;

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind { key: "email_configs", name: "email", send_resolved: false, build };

/// Deadline of one attempt where `timeout` is not written or 0.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Most deliveries whose served recipients are remembered.
const MAX_PARTIAL: usize = 64;

struct Email {
    to: Field,
    server: Server,
    composer: Composer,
    style: Style,
    timeout: Duration,
    /// Recipients that already have a delivery that others refused.
    served: Mutex<VecDeque<(String, Vec<Address>)>>,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    let to = recipients(section);
    if to.is_empty() {
        section.error("", "has no recipient", "add to: someone@example.org");
    }
    let composer = Composer::read(section, global);
    if !to.contains("{{") {
        for address in to.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            if address.parse::<lettre::message::Mailbox>().is_err() {
                section.error(
                    "to",
                    format!("{address:?} is not an address"),
                    "give addresses such as someone@example.org, separated by commas",
                );
            }
        }
    }
    Box::new(Email {
        to: Field::new("to", to),
        server: Server::read(section, global),
        composer,
        style: Style::read(section, global),
        timeout: section.get::<Duration>("timeout").filter(|t| !t.is_zero()).unwrap_or(DEFAULT_TIMEOUT),
        served: Mutex::new(VecDeque::new()),
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
    fn notify<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let mut rendering = Rendering::new(notification, &self.style);
            let to = compose::mailboxes("to", &rendering.address(&self.to)?)?;
            let served = self.served(&notification.delivery_id);
            let waiting: Vec<Address> = to.iter().map(|m| m.email.clone()).filter(|a| !served.contains(a)).collect();
            let (from, mail) = self.composer.compose(notification, &self.style, &to, &mut rendering)?;
            let sent = tokio::time::timeout(self.timeout, self.server.send(&from, &waiting, &mail));
            let refused = sent.await.map_err(|_| NotifyError::retryable(Reason::Timeout, "timed out"))??;
            self.settle(&notification.delivery_id, waiting, refused)
        })
    }
}

impl Email {
    fn served(&self, delivery: &str) -> Vec<Address> {
        self.served.lock().iter().find(|(id, _)| id == delivery).map(|(_, a)| a.clone()).unwrap_or_default()
    }

    /// Success if nobody was refused; else remembers who has the mail, and errs.
    fn settle(&self, delivery: &str, tried: Vec<Address>, refused: Vec<session::Refused>) -> Result<(), NotifyError> {
        let mut served = self.served.lock();
        let mut done =
            served.iter().position(|(id, _)| id == delivery).and_then(|at| served.remove(at)).map(|(_, a)| a).unwrap_or_default();
        let Some(first) = refused.first() else { return Ok(()) };
        let text = format!("{} of {} recipients refused: {}", refused.len(), tried.len(), first.reason);
        done.extend(tried.into_iter().filter(|address| refused.iter().all(|r| r.address != *address)));
        if served.len() == MAX_PARTIAL {
            served.pop_front();
        }
        served.push_back((delivery.to_owned(), done));
        Err(NotifyError::retryable(Reason::Rejected, text))
    }
}
