//! Any server that speaks OpenAI's form: vLLM, Ollama, llama.cpp, LiteLLM, a gateway. Its base URL
//! must be configured.

use super::provider::{KeyHeader, Provider, StreamForm};

/// The provider's row.
pub const PROVIDER: Provider = Provider {
    name: "compatible",
    base_url: None,
    key_header: KeyHeader::Bearer,
    completion_path: "chat/completions",
    balance_path: None,
    stream: StreamForm::OpenAi,
    quota_is_rate: false,
};
