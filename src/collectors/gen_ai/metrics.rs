//! The metrics of calls, which several collectors share.

use crate::model::MetricKind::{Counter, Gauge, Histogram};

const CALL: &[&str] = &[
    "source",
    "application",
    "provider",
    "model",
    "operation",
    "agent",
    "tool",
];

metrics! {
    DURATION "gen_ai_call_duration_seconds" Histogram "seconds" CALL, "Duration of whole calls: of models, tools, agents and retrieval, failed ones too.", "spans, metrics of OpenTelemetry, or the pass-through";
    FIRST_TOKEN "gen_ai_time_to_first_token_seconds" Histogram "seconds" CALL, "Time from the request to the first part of the answer with content, streamed answers only.", "spans, metrics of OpenTelemetry, or the pass-through";
    GAP "gen_ai_time_between_chunks_seconds" Histogram "seconds" CALL, "Time between neighbouring parts of streamed answers.", "metrics of OpenTelemetry, or the pass-through";
    TOKENS "gen_ai_tokens_total" Counter "" &["source", "application", "provider", "model", "operation", "agent", "tool", "type"],
        "Tokens: input and output; cache_read and cache_write are parts of the input, reasoning is one of the output.", "usage as the provider reports it";
    ERRORS "gen_ai_errors_total" Counter "" &["source", "application", "provider", "model", "operation", "agent", "tool", "error_class"],
        "Failed calls by class of error.", "status and type of the error, never its text";
    COST "gen_ai_cost_total" Counter "" &["source", "application", "provider", "model", "operation", "agent", "tool", "currency"],
        "Money that the tokens cost by the price table, in units of the currency.", "usage and the price table";
    UNPRICED "gen_ai_unpriced_tokens_total" Counter "" &[], "Tokens of models that the price table does not know.", "the price table";
    FOLDED "gen_ai_calls_folded_total" Counter "" &[], "Calls whose model, application, agent and tool are shown as \"other\", because there are too many of them.", "key `calls`";
    PRICES_DATE "gen_ai_price_table_timestamp_seconds" Gauge "seconds" &[], "The day of the price table, Unix time.", "key `date` of the price table";
}

/// Bounds in seconds: OpenTelemetry's for operations of clients, and beyond.
pub const BOUNDS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68,
];
/// Bounds in seconds between parts of an answer.
pub const GAP_BOUNDS: &[f64] = &[
    0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96,
];
