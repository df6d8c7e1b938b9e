//! OpenAI: `GET /models`, chat completions, rate limits in `x-ratelimit-*`; no balance for an API
//! key.

use super::provider::{KeyHeader, Provider, StreamForm};

/// The provider's row.
pub const PROVIDER: Provider = Provider {
    name: "openai",
    base_url: Some("https://api.openai.com/v1"),
    key_header: KeyHeader::Bearer,
    completion_path: "chat/completions",
    balance_path: None,
    stream: StreamForm::OpenAi,
    quota_is_rate: false,
};
