//! How one attempt ended.

use std::time::Duration;

use crate::http::{HttpError, HttpErrorKind};

/// Why an attempt failed: a closed set, because it labels a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    /// The service could not be reached, or the connection broke.
    Unreachable,
    /// No answer before the deadline.
    Timeout,
    /// The service asks us to slow down.
    RateLimited,
    /// Credentials were refused.
    Auth,
    /// The message was refused.
    Rejected,
    /// The service has a fault of its own (5xx).
    ServerError,
    /// The answer is not what the service documents.
    InvalidResponse,
    /// The message could not be made.
    Template,
}

impl Reason {
    /// Every reason, so that counters can start at zero.
    pub const ALL: [Reason; 8] = [
        Reason::Unreachable,
        Reason::Timeout,
        Reason::RateLimited,
        Reason::Auth,
        Reason::Rejected,
        Reason::ServerError,
        Reason::InvalidResponse,
        Reason::Template,
    ];

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
    /// How long the service asks us to wait, where it does.
    pub retry_after: Option<Duration>,
    /// What happened, in words.
    pub message: String,
}

impl NotifyError {
    /// A failure that another attempt may cure.
    pub fn retryable(reason: Reason, message: impl Into<String>) -> Self {
        NotifyError {
            reason,
            retryable: true,
            retry_after: None,
            message: message.into(),
        }
    }

    /// A failure that no attempt with this message can cure.
    pub fn permanent(reason: Reason, message: impl Into<String>) -> Self {
        NotifyError {
            reason,
            retryable: false,
            retry_after: None,
            message: message.into(),
        }
    }
}

impl NotifyError {
    /// The same error with the wait that the service asked for.
    #[must_use]
    pub fn wait(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }
}

impl From<HttpError> for NotifyError {
    /// Transport errors are retryable (SEMANTICS 172); a request that cannot be made is not.
    fn from(error: HttpError) -> Self {
        match error.kind {
            HttpErrorKind::Timeout => NotifyError::retryable(Reason::Timeout, error.message),
            HttpErrorKind::TooLarge => {
                NotifyError::retryable(Reason::InvalidResponse, error.message)
            }
            HttpErrorKind::Request => NotifyError::permanent(Reason::Rejected, error.message),
            HttpErrorKind::Dns
            | HttpErrorKind::Connect
            | HttpErrorKind::Tls
            | HttpErrorKind::Protocol
            | HttpErrorKind::Credentials => {
                NotifyError::retryable(Reason::Unreachable, error.message)
            }
        }
    }
}
