//! A picture beside a message that its destination has accepted: whatever becomes of the picture,
//! the message is delivered.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Section;

use super::error::NotifyError;
use super::message::{Style, pictures};
use super::notification::Notification;

/// Longest time that a picture may take, and the time after the beginning of an attempt beyond
/// which none is begun: the attempt as a whole has a deadline, and a message that was accepted must
/// not miss it because of its picture.
const LONGEST: Duration = Duration::from_secs(8);
const TOO_LATE: Duration = Duration::from_secs(20);

/// `picture`: whether one is wanted, which it is unless the file says no.
pub(super) fn wanted(section: &Section<'_>) -> bool {
    section.or("picture", true)
}

/// The picture of a message: that of its first firing alert that has one. A digest has none.
pub(super) fn of(n: &Notification, style: &Style) -> Option<Vec<u8>> {
    if n.digest > 0 {
        None
    } else {
        pictures(n, style).into_iter().next().map(|(_, png)| png)
    }
}

/// Sends it. A failure is logged and returned, for those who then do without.
pub(super) async fn send(
    n: &Notification,
    started: Instant,
    send: impl Future<Output = Result<(), NotifyError>>,
) -> Result<(), NotifyError> {
    if started.elapsed() > TOO_LATE {
        return Ok(());
    }
    let late = |_| {
        Err(NotifyError::retryable(
            super::Reason::Timeout,
            "the picture took too long",
        ))
    };
    let result = tokio::time::timeout(LONGEST, send)
        .await
        .unwrap_or_else(late);
    if let Err(error) = &result {
        tracing::warn!(receiver = n.receiver, %error, "The picture of a message could not be sent; the message was.");
    }
    result
}
