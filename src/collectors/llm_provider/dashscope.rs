//! DashScope (Qwen) in its OpenAI-compatible mode: allocation quotas are rates, `Arrearage` is
//! money.

use super::provider::{KeyHeader, Provider, StreamForm};

/// The provider's row.
pub const PROVIDER: Provider = Provider {
    name: "dashscope",
    base_url: Some("https://dashscope.aliyuncs.com/compatible-mode/v1"),
    key_header: KeyHeader::Bearer,
    completion_path: "chat/completions",
    balance_path: None,
    stream: StreamForm::OpenAi,
    quota_is_rate: true,
};
