//! What differs between providers, as data; the rows are in `providers`.

use serde_json::{Value, json};

/// How the key travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// A header of this name, beside `anthropic-version`.
    Versioned(&'static str),
    /// A header of this name.
    Named(&'static str),
}

/// How an answer about money is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BalanceForm {
    /// `balance_infos`, by currency, amounts as text.
    DeepSeek,
    /// `data.available_balance`, in CNY.
    Moonshot,
    /// `data.totalBalance`, in CNY, as text.
    SiliconFlow,
    /// `data.limit_remaining` of the key, in USD; `null` without a limit.
    OpenRouter,
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
    /// Path of the account balance below the base URL and how it is written, where there is one.
    pub balance: Option<(&'static str, BalanceForm)>,
    /// How a stream is written.
    pub stream: StreamForm,
    /// Whether `insufficient_quota` is a rate rather than money.
    pub quota_is_rate: bool,
    /// Its page of incidents, as Statuspage writes it.
    pub status_page: Option<&'static str>,
}

/// The tool that a probe offers.
pub const TOOL: &str = "ring_bell";

impl Provider {
    /// The body of a small streamed completion. `max_tokens_key` is `max_tokens` or
    /// `max_completion_tokens`.
    pub fn completion(
        &self,
        model: &str,
        prompt: &str,
        max_tokens_key: &str,
        max_tokens: u32,
        with_tool: bool,
    ) -> Value {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": prompt }], "stream": true });
        body[max_tokens_key] = json!(max_tokens);
        if self.stream == StreamForm::OpenAi {
            body["stream_options"] = json!({ "include_usage": true });
        }
        if with_tool {
            let about = "Rings the bell so many times.";
            let takes = json!({
                "type": "object", "properties": {"times": {"type": "integer"}}, "required": ["times"],
            });
            let (tool, choice) = match self.stream {
                StreamForm::OpenAi => (
                    json!({"type": "function", "function": {"name": TOOL, "description": about, "parameters": takes}}),
                    json!({"type": "function", "function": {"name": TOOL}}),
                ),
                StreamForm::Anthropic => (
                    json!({"name": TOOL, "description": about, "input_schema": takes}),
                    json!({"type": "tool", "name": TOOL}),
                ),
            };
            body["tools"] = json!([tool]);
            body["tool_choice"] = choice;
        }
        body
    }
}
