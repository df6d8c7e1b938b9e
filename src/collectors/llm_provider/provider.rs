//! What differs between providers, as data; one file per provider holds its row.

use serde_json::{Value, json};

/// How the key travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `x-api-key: KEY` with a version header.
    ApiKey,
}

/// How a streamed answer is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamForm {
    /// `data: {choices:[{delta}]}` … `data: [DONE]`.
    OpenAi,
    /// Typed events from `message_start` to `message_stop`.
    Anthropic,
}

/// One provider.
#[derive(Debug)]
pub struct Provider {
    /// The value of the `provider` key and label.
    pub name: &'static str,
    /// Base URL when none is configured; `None` where it must be.
    pub base_url: Option<&'static str>,
    /// How the key travels.
    pub key_header: KeyHeader,
    /// Path of a completion below the base URL.
    pub completion_path: &'static str,
    /// Path of the account balance below the base URL, where there is one.
    pub balance_path: Option<&'static str>,
    /// How a stream is written.
    pub stream: StreamForm,
    /// Whether `insufficient_quota` is a rate rather than money.
    pub quota_is_rate: bool,
}

impl Provider {
    /// The body of a small streamed completion. `max_tokens_key` is `max_tokens` or
    /// `max_completion_tokens`.
    pub fn completion(
        &self,
        model: &str,
        prompt: &str,
        max_tokens_key: &str,
        max_tokens: u32,
    ) -> Value {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": prompt }], "stream": true });
        body[max_tokens_key] = json!(max_tokens);
        if self.stream == StreamForm::OpenAi {
            body["stream_options"] = json!({ "include_usage": true });
        }
        body
    }
}
