//! The verdict on one attempt.

use std::time::Duration;

/// Why an attempt failed: a closed set, because it labels a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    /// The place could not be reached, or the connection broke.
    Unreachable,
    /// No answer before the deadline.
    Timeout,
    /// The place asks us to slow down.
    RateLimited,
    /// Credentials were refused.
    Auth,
    /// The message was refused.
    Rejected,
    /// The place has a fault of its own (5xx).
    ServerError,
    /// The answer is not what the place documents.
    InvalidResponse,
    /// The message could not be made.
    Template,
}

impl Reason {
    /// The reason as a label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unreachable => "unreachable",
            Reason::Timeout => "timeout",
            Reason::RateLimited => "rate_limited",
            Reason::Auth => "auth",
            Reason::Rejected => "rejected",
            Reason::ServerError => "server_error",
            Reason::InvalidResponse => "invalid_response",
            Reason::Template => "template",
        }
    }
}

/// A failed attempt. The text is one line without secrets.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct NotifyError {
    /// The class of the failure.
    pub reason: Reason,
    /// Whether another attempt with the same message can succeed.
    pub retryable: bool,
    /// How long the place asks us to wait, where it does.
    pub retry_after: Option<Duration>,
    /// What happened, in words.
    pub message: String,
}

impl NotifyError {
    /// A failure that another attempt may cure.
    pub fn retryable(reason: Reason, message: impl Into<String>) -> Self {
        NotifyError { reason, retryable: true, retry_after: None, message: message.into() }
    }

    /// A failure that no attempt with this message can cure.
    pub fn permanent(reason: Reason, message: impl Into<String>) -> Self {
        NotifyError { reason, retryable: false, retry_after: None, message: message.into() }
    }
}
