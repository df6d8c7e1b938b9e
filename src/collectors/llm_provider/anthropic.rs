//! Anthropic: `x-api-key` with `anthropic-version`, `POST /v1/messages`, typed stream events,
//! errors possible after a 200.

use super::provider::{KeyHeader, Provider, StreamForm};

/// The provider's row.
pub const PROVIDER: Provider = Provider {
    name: "anthropic",
    base_url: Some("https://api.anthropic.com/v1"),
    key_header: KeyHeader::ApiKey,
    completion_path: "messages",
    balance_path: None,
    stream: StreamForm::Anthropic,
    quota_is_rate: false,
};
