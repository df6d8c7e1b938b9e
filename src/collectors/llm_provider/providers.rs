//! The table of providers. A new one of OpenAI's form is a row here.
//!
//! Sources: the providers' own documents; of Azure OpenAI and Amazon Bedrock their paths of OpenAI's
//! form, whose base URL names a resource or a region and so must be configured.

use super::provider::{BalanceForm, KeyHeader, Provider, StreamForm};

/// What holds unless a row says otherwise: OpenAI's form.
const OPENAI_FORM: Provider = Provider {
    name: "compatible",
    base_url: None,
    key_header: KeyHeader::Bearer,
    completion_path: "chat/completions",
    balance: None,
    stream: StreamForm::OpenAi,
    quota_is_rate: false,
    status_page: None,
};

const fn of_openai_form(name: &'static str, base_url: Option<&'static str>) -> Provider {
    Provider {
        name,
        base_url,
        ..OPENAI_FORM
    }
}

/// Every provider; the last one is any server of OpenAI's form: vLLM, Ollama, llama.cpp, LiteLLM, a
/// gateway.
pub const PROVIDERS: [Provider; 13] = [
    Provider {
        status_page: Some("https://status.openai.com/api/v2/status.json"),
        ..of_openai_form("openai", Some("https://api.openai.com/v1"))
    },
    // Keep-alive comments come while a request waits.
    Provider {
        balance: Some(("user/balance", BalanceForm::DeepSeek)),
        status_page: Some("https://status.deepseek.com/api/v2/status.json"),
        ..of_openai_form("deepseek", Some("https://api.deepseek.com"))
    },
    // Typed events; errors are possible after a 200.
    Provider {
        key_header: KeyHeader::Versioned("x-api-key"),
        completion_path: "messages",
        stream: StreamForm::Anthropic,
        status_page: Some("https://status.anthropic.com/api/v2/status.json"),
        ..of_openai_form("anthropic", Some("https://api.anthropic.com/v1"))
    },
    // Allocation quotas are rates, `Arrearage` is money.
    Provider {
        quota_is_rate: true,
        ..of_openai_form(
            "dashscope",
            Some("https://dashscope.aliyuncs.com/compatible-mode/v1"),
        )
    },
    of_openai_form(
        "gemini",
        Some("https://generativelanguage.googleapis.com/v1beta/openai"),
    ),
    Provider {
        balance: Some(("users/me/balance", BalanceForm::Moonshot)),
        ..of_openai_form("moonshot", Some("https://api.moonshot.cn/v1"))
    },
    of_openai_form("zhipu", Some("https://open.bigmodel.cn/api/paas/v4")),
    of_openai_form("mistral", Some("https://api.mistral.ai/v1")),
    // base_url: https://RESOURCE.openai.azure.com/openai/v1
    Provider {
        key_header: KeyHeader::Named("api-key"),
        ..of_openai_form("azure", None)
    },
    // base_url: https://bedrock-mantle.REGION.api.aws/v1
    of_openai_form("bedrock", None),
    // Its list of models is open to all: what is left of the key shows whether it is valid.
    Provider {
        balance: Some(("key", BalanceForm::OpenRouter)),
        ..of_openai_form("openrouter", Some("https://openrouter.ai/api/v1"))
    },
    Provider {
        balance: Some(("user/info", BalanceForm::SiliconFlow)),
        ..of_openai_form("siliconflow", Some("https://api.siliconflow.cn/v1"))
    },
    OPENAI_FORM,
];
