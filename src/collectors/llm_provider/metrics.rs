//! The metrics of the `llm_provider` collector.

use crate::model::MetricKind::{Counter, Gauge, Histogram};

const PROBE: &[&str] = &["target", "provider", "model", "probe"];
const MODEL: &[&str] = &["target", "provider", "model"];
const TARGET: &[&str] = &["target", "provider"];

metrics! {
    UP "llm_up" Gauge "" TARGET, "Whether the last free probe got a 2xx answer with parseable JSON.", "GET of the model list";
    REACHABLE "llm_reachable" Gauge "" TARGET, "Whether the last free probe got any HTTP answer at all.", "GET of the model list";
    SELECTED "llm_provider_selected" Gauge "" TARGET, "Whether the application is configured to use this provider.", "key `selected`, or LLM_PROVIDER";
    SUCCESS "llm_probe_success" Gauge "" PROBE, "Whether the last probe of this kind succeeded.", "last probe";
    DURATION "llm_probe_duration_seconds" Histogram "seconds" PROBE, "Duration of whole probes.", "request sent to last byte";
    LAST_DURATION "llm_probe_last_duration_seconds" Gauge "seconds" PROBE, "Duration of the last probe.", "request sent to last byte";
    FIRST_TOKEN "llm_time_to_first_token_seconds" Histogram "seconds" MODEL, "Time from the request to the first chunk with content, streamed answers only.", "completion probe";
    LAST_FIRST_TOKEN "llm_last_time_to_first_token_seconds" Gauge "seconds" MODEL, "Time to the first chunk with content in the last streamed answer.", "completion probe";
    MAX_GAP "llm_stream_max_gap_seconds" Gauge "seconds" MODEL, "Longest silence between chunks with content in the last streamed answer.", "completion probe";
    TOKENS_PER_SECOND "llm_output_tokens_per_second" Gauge "" MODEL, "Output tokens a second after the first one, in the last streamed answer.", "usage of the completion probe";
    ERRORS "llm_probe_errors_total" Counter "" &["target", "provider", "model", "probe", "error_type"], "Failed probes by kind of failure.", "status, body and timing of each probe";
    LAST_ERROR "llm_probe_last_error" Gauge "" &["target", "provider", "model", "probe", "error_type"],
        "1 with the kind of failure of the last probe, 0 with each kind that there was since the start.", "status, body and timing of the last probe";
    RESPONSES "llm_probe_http_responses_total" Counter "" &["target", "provider", "probe", "code"], "HTTP answers to probes by status code.", "status line";
    TOKENS "llm_probe_tokens_total" Counter "" &["target", "provider", "model", "type"], "Tokens that the probes themselves consumed; reasoning tokens are part of the output.", "usage of the completion probe";
    SKIPPED "llm_probe_skipped_total" Counter "" &["target", "probe", "reason"], "Probes left out: token_budget, backoff or quota_exhausted.", "the collector's own decisions";
    BUDGET "llm_probe_token_budget_remaining" Gauge "" &["target"], "Tokens that completion probes may still consume today (UTC).", "key `completion.daily_token_budget`";
    MODEL_AVAILABLE "llm_model_available" Gauge "" MODEL, "Whether a configured model is in the provider's list.", "GET of the model list";
    MODELS "llm_models" Gauge "" TARGET, "Number of models in the provider's list.", "GET of the model list";
    LIMIT "llm_ratelimit_limit" Gauge "" &["target", "provider", "model", "kind"], "Allowance in the provider's window.", "rate limit headers";
    REMAINING "llm_ratelimit_remaining" Gauge "" &["target", "provider", "model", "kind"], "What is left of the allowance.", "rate limit headers";
    RESET "llm_ratelimit_reset_seconds" Gauge "seconds" &["target", "provider", "model", "kind"], "Time until the allowance is full again, at the last answer that stated it.", "rate limit headers";
    RETRY_AFTER "llm_retry_after_seconds" Gauge "seconds" MODEL, "Wait that the provider asks for, while it lasts.", "retry-after, retry-after-ms";
    BALANCE "llm_account_balance" Gauge "" &["target", "provider", "currency", "kind"], "Account balance in units of the currency: total, granted, topped_up.", "GET of the balance: DeepSeek, Moonshot, SiliconFlow, OpenRouter";
    AVAILABLE "llm_account_available" Gauge "" TARGET, "Whether the provider says that the account can be used.", "GET of the balance: DeepSeek, Moonshot, SiliconFlow, OpenRouter";
    PHASE "llm_probe_phase_seconds" Gauge "seconds" &["target", "provider", "phase"], "Duration of the last way to the provider by phase: dns, connect, tls of a connection of its own, once a minute; first_byte of the list of models.", "name lookup, TCP and TLS handshakes, head of the answer";
    EMBEDDING "llm_embedding_dimension" Gauge "" MODEL, "Dimension of the last embedding.", "key `embedding`: POST /embeddings";
    INCIDENT "llm_status_page" Gauge "" &["target", "provider", "indicator"], "1 for what the provider's page of incidents says, 0 for the others: none, minor, major, critical, maintenance.", "key `watch_status_page`";
    LAST_PROBE "llm_last_probe_timestamp_seconds" Gauge "seconds" &["target", "probe"], "When the last probe of this kind ended, Unix time.", "clock";
    LAST_SUCCESS "llm_last_success_timestamp_seconds" Gauge "seconds" &["target", "probe"], "When a probe of this kind last succeeded, Unix time.", "clock";
}

/// Bounds in seconds: OpenTelemetry's for GenAI client operations, and 160.
pub const BOUNDS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 160.0,
];
