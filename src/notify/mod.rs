//! Notifiers: each kind sends one message to one destination, in one attempt, and says whether
//! another attempt can help.
//!
//! They know no routes, silences or retries. To add one, copy the nearest file of `kinds`, export
//! `KIND`, and list it in [`NOTIFIERS`].

mod endpoint;
mod error;
mod field;
mod kinds;
mod message;
mod notification;
mod picture;
mod robot;
mod served;

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::config::Section;

pub use error::{NotifyError, Reason};
pub use field::counting_failed_templates;
pub use kinds::command::{Action, Ended, Limits, Order, close_inheritance};
pub use message::{named_size, picture};
pub use notification::{AlertStatus, Notification, NotifiedAlert, Report, common};
pub use served::{Recipients, remembering};

/// Longest attempt where a notifier has no deadline of its own.
const DEADLINE: Duration = Duration::from_secs(30);

/// A kind of notifier.
pub struct NotifierKind {
    /// The key inside a receiver: `email_configs`, `slack_configs`, …
    pub key: &'static str,
    /// The `notifier` label, the file and the test folder: `email`, `slack`, …
    pub name: &'static str,
    /// Whether resolved alerts are sent when `send_resolved` is not written (SEMANTICS 174).
    pub send_resolved: bool,
    /// Reads its keys (not `send_resolved`) and records mistakes in the section. `global` is
    /// Alertmanager's `global` block, if there is one.
    pub build: fn(&Section<'_>, Option<&Section<'_>>) -> Box<dyn Notifier>,
}

/// How messages of several groups may become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Digest {
    /// A machine reads them, and a group is an incident of its own.
    Never,
    /// A list of alerts with all that is known of them.
    Whole,
    /// The names of the alerts, in so many bytes of JSON.
    Names(usize),
}

/// One integration of a receiver.
pub trait Notifier: Send + Sync {
    /// One attempt. Drops nothing and retries nothing: the delivery loop owns both.
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>>;

    /// How messages of several groups may become one when there are more than the service takes.
    fn digest(&self) -> Digest {
        Digest::Never
    }

    /// How many messages the service takes now, as far as its own limit is known.
    fn ready(&self) -> usize {
        usize::MAX
    }

    /// How long one attempt may take at most.
    fn deadline(&self) -> Duration {
        DEADLINE
    }

    /// Whether a delivery goes to several recipients one by one, so that it is to be remembered who
    /// has it.
    fn has_recipients(&self) -> bool {
        false
    }

    /// What is wrong with its configuration although it can be used.
    fn advice(&self) -> Option<String> {
        None
    }

    /// What is done instead of notifying somebody, where it is a recovery action.
    fn action(&self) -> Option<&Action> {
        None
    }
}

/// Every kind there is.
pub const NOTIFIERS: &[NotifierKind] = &[
    kinds::email::KIND,
    kinds::slack::KIND,
    kinds::webhook::KIND,
    kinds::dingtalk::KIND,
    kinds::wecom::KIND,
    kinds::feishu::KIND,
    kinds::sms::KIND,
    kinds::pagerduty::KIND,
    kinds::telegram::KIND,
    kinds::discord::KIND,
    kinds::msteams::KIND,
    kinds::msteamsv2::KIND,
    kinds::opsgenie::KIND,
    kinds::command::KIND,
];
