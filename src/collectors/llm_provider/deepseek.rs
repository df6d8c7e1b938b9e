//! DeepSeek: OpenAI's form, a balance at `GET /user/balance`, keep-alive comments while a request
//! waits.

use super::provider::{KeyHeader, Provider, StreamForm};

/// The provider's row.
pub const PROVIDER: Provider = Provider {
    name: "deepseek",
    base_url: Some("https://api.deepseek.com"),
    key_header: KeyHeader::Bearer,
    completion_path: "chat/completions",
    balance_path: Some("user/balance"),
    stream: StreamForm::OpenAi,
    quota_is_rate: false,
};
