//! What a provider's refusal means. Status alone does not say it: OpenAI answers 429 both for
//! "wait" and for "pay", gateways answer 400 or 500 for a wrong key, and an error may come inside a
//! 200 stream. Sources: the providers' error pages (OpenAI error codes, DeepSeek quick start,
//! Anthropic errors, Model Studio error codes).

use serde_json::Value;

use crate::http::{HttpError, HttpErrorKind};

/// Kinds of failure: a closed set, because it labels `llm_probe_errors_total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum ErrorType {
    /// The host name has no address.
    Dns,
    /// No connection.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The whole probe took too long.
    Timeout,
    /// The stream began, but no content came in time.
    FirstTokenTimeout,
    /// Content stopped in the middle of the stream.
    StreamStalled,
    /// The stream ended without its end mark.
    StreamTruncated,
    /// The key was refused.
    Auth,
    /// The key may not do this.
    Permission,
    /// No such model.
    ModelNotFound,
    /// The request was refused.
    BadRequest,
    /// Too many requests: waiting helps.
    RateLimited,
    /// No money or allowance: waiting does not help.
    QuotaExhausted,
    /// The provider has too much to do.
    Overloaded,
    /// The provider has a fault.
    ServerError,
    /// The answer is not what the provider documents.
    InvalidResponse,
    /// The answer is well-formed and brought nothing.
    EmptyAnswer,
    /// The answer lacks what it must hold.
    WrongAnswer,
    /// The answer is no call of the tool that was offered, or one whose arguments cannot be read.
    NoToolCall,
}

impl ErrorType {
    /// Every kind, so that counters can start at zero.
    pub const ALL: [ErrorType; 19] = [
        ErrorType::Dns,
        ErrorType::Connect,
        ErrorType::Tls,
        ErrorType::Timeout,
        ErrorType::FirstTokenTimeout,
        ErrorType::StreamStalled,
        ErrorType::StreamTruncated,
        ErrorType::Auth,
        ErrorType::Permission,
        ErrorType::ModelNotFound,
        ErrorType::BadRequest,
        ErrorType::RateLimited,
        ErrorType::QuotaExhausted,
        ErrorType::Overloaded,
        ErrorType::ServerError,
        ErrorType::InvalidResponse,
        ErrorType::EmptyAnswer,
        ErrorType::WrongAnswer,
        ErrorType::NoToolCall,
    ];

    /// The kind as a label value.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorType::Dns => "dns",
            ErrorType::Connect => "connect",
            ErrorType::Tls => "tls",
            ErrorType::Timeout => "timeout",
            ErrorType::FirstTokenTimeout => "first_token_timeout",
            ErrorType::StreamStalled => "stream_stalled",
            ErrorType::StreamTruncated => "stream_truncated",
            ErrorType::Auth => "auth",
            ErrorType::Permission => "permission",
            ErrorType::ModelNotFound => "model_not_found",
            ErrorType::BadRequest => "bad_request",
            ErrorType::RateLimited => "rate_limited",
            ErrorType::QuotaExhausted => "quota_exhausted",
            ErrorType::Overloaded => "overloaded",
            ErrorType::ServerError => "server_error",
            ErrorType::InvalidResponse => "invalid_response",
            ErrorType::EmptyAnswer => "empty_answer",
            ErrorType::WrongAnswer => "wrong_answer",
            ErrorType::NoToolCall => "no_tool_call",
        }
    }
}

impl From<&HttpError> for ErrorType {
    fn from(error: &HttpError) -> Self {
        match error.kind {
            HttpErrorKind::Dns => ErrorType::Dns,
            HttpErrorKind::Connect => ErrorType::Connect,
            HttpErrorKind::Tls => ErrorType::Tls,
            HttpErrorKind::Timeout => ErrorType::Timeout,
            HttpErrorKind::TooLarge
            | HttpErrorKind::Protocol
            | HttpErrorKind::Request
            | HttpErrorKind::Credentials => ErrorType::InvalidResponse,
        }
    }
}

/// Words in `type` or `code` that mean money at every provider.
const MONEY: [&str; 14] = [
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "enforced_spend_limit_reached",
    "billing_error",
    "billing_not_active",
    "arrearage",
    "budget_exceeded",
    "allocationquota.freetieronly",
    "exceeded_current_quota_error",
    "accountoverdueerror",
    "insufficient_balance",
    "insufficient_credits",
];

/// Parts of messages that mean money, in lower case, for providers and gateways that have no word
/// of their own for it.
const MONEY_TEXTS: [&str; 11] = [
    "credit balance is too low",
    "spend limit",
    "budget has been exceeded",
    "exceededbudget",
    "over budget",
    "insufficient balance",
    "balance is insufficient",
    "insufficient account balance",
    "insufficient credits",
    "余额不足",
    "欠费",
];

/// Parts of messages that mean a wrong key, in lower case: Gemini's compatible endpoint and others
/// answer 400 with no word for it.
const KEY_TEXTS: [&str; 6] = [
    "api key not valid",
    "api_key_invalid",
    "api key expired",
    "invalid api key",
    "incorrect api key",
    "api key is invalid",
];

/// The part of an answer that describes the error: Gemini wraps it in a list, FastAPI in `detail`,
/// some write only a text.
fn described(json: &Value) -> (String, &Value) {
    let json = json.get(0).unwrap_or(json);
    let inner = ["error", "detail"]
        .iter()
        .filter_map(|key| json.get(key))
        .find(|inner| inner.is_object() || inner.is_string());
    let error = inner.filter(|inner| inner.is_object()).unwrap_or(json);
    let text = |value: &Value| value.as_str().map(str::to_lowercase);
    let message = ["message", "msg", "error_msg"]
        .iter()
        .find_map(|key| error.get(key).and_then(text));
    (
        message.or_else(|| inner.and_then(text)).unwrap_or_default(),
        error,
    )
}

/// Sorts an answer that is not a success. `quota_is_rate`: at DashScope `insufficient_quota` is an
/// allocation rate, not money.
pub fn classify(status: u16, body: &[u8], quota_is_rate: bool) -> ErrorType {
    let json = serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    let (message, error) = described(&json);
    let word = |key: &str| {
        error
            .get(key)
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_lowercase))
            .unwrap_or_default()
    };
    let (kind, code) = (word("type"), word("code"));
    let says = |word: &str| kind == word || code == word;
    // An error inside a success carries the status that it would have had.
    let inner = code.parse().ok().filter(|inner| (400..600).contains(inner));
    let status = inner
        .filter(|_| (200..400).contains(&status))
        .unwrap_or(status);
    if MONEY.iter().any(|m| says(m))
        || status == 402
        || MONEY_TEXTS.iter().any(|text| message.contains(text))
    {
        return ErrorType::QuotaExhausted;
    }
    if says("insufficient_quota") || code.ends_with("allocationquota") {
        return if quota_is_rate || code.ends_with("allocationquota") {
            ErrorType::RateLimited
        } else {
            ErrorType::QuotaExhausted
        };
    }
    // LiteLLM without a database looks a key that it does not know up there, and answers 400 with
    // the second word.
    let key = [
        "invalid_api_key",
        "no_db_connection",
        "invalidapikey",
        "authentication_error",
    ]
    .iter()
    .any(|word| says(word));
    if key || status == 401 || (status < 500 && KEY_TEXTS.iter().any(|text| message.contains(text)))
    {
        return ErrorType::Auth;
    }
    if says("overloaded_error") || says("server_is_overloaded") || matches!(status, 503 | 529) {
        return ErrorType::Overloaded;
    }
    if says("rate_limit_error")
        || says("rate_limit_exceeded")
        || says("slow_down")
        || code.starts_with("throttling")
        || status == 429
    {
        return ErrorType::RateLimited;
    }
    if says("model_not_found")
        || says("modelnotfound")
        || says("not_found_error")
        || (status == 404 && json.is_object())
    {
        return ErrorType::ModelNotFound;
    }
    match status {
        403 if json.is_object() || json.is_array() => ErrorType::Permission,
        // No provider speaks so: a firewall or a proxy between us refuses, whatever the key.
        403 => ErrorType::InvalidResponse,
        500..=599 => ErrorType::ServerError,
        200..=399 | 404 if says("api_error") || says("server_error") => ErrorType::ServerError,
        200..=399 | 404 => ErrorType::InvalidResponse,
        _ => ErrorType::BadRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Money, waiting, keys and overload are distinguished.
    #[test]
    fn refusals_are_sorted_by_what_helps() {
        let cases: [(u16, &str, bool, ErrorType); 33] = [
            (
                401,
                r#"{"error":{"code":"invalid_api_key","type":"invalid_request_error"}}"#,
                false,
                ErrorType::Auth,
            ),
            (
                403,
                r#"{"error":{"message":"Country not supported"}}"#,
                false,
                ErrorType::Permission,
            ),
            (
                429,
                r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#,
                false,
                ErrorType::QuotaExhausted,
            ),
            (
                429,
                r#"{"error":{"type":"requests","code":"rate_limit_exceeded"}}"#,
                false,
                ErrorType::RateLimited,
            ),
            (
                429,
                r#"{"error":{"code":"organization_spend_limit_exceeded"}}"#,
                false,
                ErrorType::QuotaExhausted,
            ),
            (
                429,
                r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#,
                true,
                ErrorType::RateLimited,
            ),
            (
                429,
                r#"{"code":"Throttling.AllocationQuota","message":"x"}"#,
                true,
                ErrorType::RateLimited,
            ),
            (
                400,
                r#"{"code":"Arrearage","message":"Access denied"}"#,
                true,
                ErrorType::QuotaExhausted,
            ),
            (
                402,
                r#"{"error":{"message":"Insufficient Balance"}}"#,
                false,
                ErrorType::QuotaExhausted,
            ),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                false,
                ErrorType::Overloaded,
            ),
            (
                200,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                false,
                ErrorType::Overloaded,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#,
                false,
                ErrorType::QuotaExhausted,
            ),
            (
                400,
                r#"{"error":{"message":"bad"}}"#,
                false,
                ErrorType::BadRequest,
            ),
            (
                404,
                r#"{"error":{"code":"model_not_found"}}"#,
                false,
                ErrorType::ModelNotFound,
            ),
            (404, "<html>nginx</html>", false, ErrorType::InvalidResponse),
            (500, "Internal Server Error", false, ErrorType::ServerError),
            (
                503,
                r#"{"error":{"code":"server_is_overloaded"}}"#,
                false,
                ErrorType::Overloaded,
            ),
            (502, "<html>", false, ErrorType::ServerError),
            (
                200,
                "<html>block page</html>",
                false,
                ErrorType::InvalidResponse,
            ),
            // LiteLLM's own budgets, by whichever status.
            (
                429,
                r#"{"error":{"message":"Budget has been exceeded! Current cost: 2","type":"budget_exceeded","code":"429"}}"#,
                false,
                ErrorType::QuotaExhausted,
            ),
            (
                400,
                r#"{"error":{"message":"x","type":"budget_exceeded","code":"400"}}"#,
                false,
                ErrorType::QuotaExhausted,
            ),
            (
                429,
                r#"{"error":{"message":"ExceededBudget: End User=x over budget.","type":"auth_error"}}"#,
                false,
                ErrorType::QuotaExhausted,
            ),
            (
                403,
                r#"{"error":{"code":"AllocationQuota.FreeTierOnly","type":"AllocationQuota.FreeTierOnly"}}"#,
                true,
                ErrorType::QuotaExhausted,
            ),
            (
                403,
                r#"{"code":30001,"message":"Sorry, your account balance is insufficient"}"#,
                false,
                ErrorType::QuotaExhausted,
            ),
            (
                429,
                r#"{"error":{"code":"1113","message":"您的账户已欠费，请充值后重试。"}}"#,
                false,
                ErrorType::QuotaExhausted,
            ),
            (
                429,
                r#"{"error":{"type":"exceeded_current_quota_error"}}"#,
                false,
                ErrorType::QuotaExhausted,
            ),
            (
                400,
                r#"{"error":{"message":"No connected db.","type":"no_db_connection","code":"400"}}"#,
                false,
                ErrorType::Auth,
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid one."}}]"#,
                false,
                ErrorType::Auth,
            ),
            (
                400,
                r#"{"detail":"Invalid API key"}"#,
                false,
                ErrorType::Auth,
            ),
            (
                403,
                "<html><title>Attention Required! | Cloudflare</title>",
                false,
                ErrorType::InvalidResponse,
            ),
            (403, "error code: 1020", false, ErrorType::InvalidResponse),
            (
                200,
                r#"{"error":{"message":"Upstream error","code":502},"choices":[]}"#,
                false,
                ErrorType::ServerError,
            ),
            (
                200,
                r#"{"error":{"message":"x","code":429}}"#,
                false,
                ErrorType::RateLimited,
            ),
        ];
        for (status, body, rate, wanted) in cases {
            assert_eq!(
                classify(status, body.as_bytes(), rate),
                wanted,
                "{status} {body}"
            );
        }
    }
}
