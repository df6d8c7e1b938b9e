//! Why a request failed, in a closed set of kinds, never with a URL's query, userinfo or a body in
//! the text.

use std::error::Error as _;

/// What went wrong, as a metric label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum HttpErrorKind {
    /// The host name has no address.
    Dns,
    /// No connection (refused, unreachable).
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The deadline passed.
    Timeout,
    /// The body is larger than allowed.
    TooLarge,
    /// The connection broke, or the answer is not HTTP.
    Protocol,
    /// The request could not be made.
    Request,
    /// A file with credentials cannot be read.
    Credentials,
}

impl HttpErrorKind {
    /// The kind as a label value.
    pub fn as_str(self) -> &'static str {
        match self {
            HttpErrorKind::Dns => "dns",
            HttpErrorKind::Connect => "connect",
            HttpErrorKind::Tls => "tls",
            HttpErrorKind::Timeout => "timeout",
            HttpErrorKind::TooLarge => "too_large",
            HttpErrorKind::Protocol => "protocol",
            HttpErrorKind::Request => "request",
            HttpErrorKind::Credentials => "credentials",
        }
    }
}

/// A failed request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct HttpError {
    /// The kind.
    pub kind: HttpErrorKind,
    /// One line, without secrets.
    pub message: String,
    /// Whether the connection ended before an answer had come: where it was an old one, the other
    /// side may just have closed it.
    pub unanswered: bool,
}

impl HttpError {
    /// An error of this kind.
    pub fn new(kind: HttpErrorKind, message: impl Into<String>) -> Self {
        HttpError {
            kind,
            message: message.into(),
            unanswered: false,
        }
    }
}

impl From<reqwest::Error> for HttpError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        // The innermost cause says what happened; the layers above only say where.
        let mut cause = error.to_string();
        let mut chain = String::new();
        let mut is_tls = false;
        let mut ended = false;
        let mut source = error.source();
        while let Some(inner) = source {
            cause = inner.to_string();
            chain.push_str(&cause);
            chain.push(' ');
            is_tls |= is_tls_error(inner);
            ended |= is_end(inner);
            source = inner.source();
        }
        if is_tls && (cause.contains("HandshakeFailure") || cause.contains("ProtocolVersion")) {
            cause.push_str(" (spoken are TLS 1.2 and 1.3 with AES-GCM or ChaCha20; neither CBC nor keys on P-521)");
        }
        let lower = chain.to_lowercase();
        let kind = if error.is_timeout() || lower.contains("timed out") {
            HttpErrorKind::Timeout
        } else if lower.contains("dns error") || lower.contains("failed to lookup address") {
            HttpErrorKind::Dns
        } else if is_tls || lower.contains("tls handshake") {
            HttpErrorKind::Tls
        } else if error.is_connect() {
            HttpErrorKind::Connect
        } else if error.is_builder() {
            HttpErrorKind::Request
        } else {
            HttpErrorKind::Protocol
        };
        let unanswered = ended && kind == HttpErrorKind::Protocol && error.is_request();
        HttpError {
            unanswered,
            ..HttpError::new(
                kind,
                if kind == HttpErrorKind::Timeout {
                    "timed out".into()
                } else {
                    cause
                },
            )
        }
    }
}

/// Whether this layer of an error says that the other side has ended the connection.
fn is_end(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match (
        error.downcast_ref::<hyper::Error>(),
        error.downcast_ref::<std::io::Error>(),
    ) {
        (Some(error), _) => {
            error.is_incomplete_message() || error.is_canceled() || error.is_closed()
        }
        (_, Some(error)) => matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
        ),
        _ => false,
    }
}

/// Whether this layer of an error is one of TLS; I/O errors carry it inside, one within another.
fn is_tls_error(error: &(dyn std::error::Error + 'static)) -> bool {
    match error
        .downcast_ref::<std::io::Error>()
        .and_then(|e| e.get_ref())
    {
        Some(inner) => is_tls_error(inner),
        None => error.is::<rustls::Error>(),
    }
}
