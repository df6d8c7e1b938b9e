//! The metrics of the `retrieval` collector.

use crate::model::MetricKind::{Counter, Gauge, Histogram};

const TARGET: &[&str] = &["target"];
const QUESTION: &[&str] = &["target", "question"];
const TEXT: &[&str] = &["target", "model", "text"];

metrics! {
    SUCCESS "retrieval_success" Gauge "" QUESTION, "Whether the last question was answered, with sources that could be read.", "status and body of the answer";
    HIT "retrieval_hit" Gauge "" QUESTION, "Whether the expected source was among the first `max_rank` sources of the last answer.", "keys `sources`, `expect_source`";
    RANK "retrieval_rank" Gauge "" QUESTION, "Position of the expected source in the last answer, from 1; absent when it is missing, or the answer has no order.", "keys `sources`, `expect_source`";
    RESULTS "retrieval_results" Gauge "" QUESTION, "Sources of the last answer.", "key `sources`";
    CONTAINS "retrieval_answer_contains" Gauge "" QUESTION, "Whether the last answer holds the text that it must hold; only where one is configured.", "key `must_contain`";
    DURATION "retrieval_duration_seconds" Histogram "seconds" QUESTION, "Duration of questions, those that failed included.", "request sent to last byte";
    LAST_DURATION "retrieval_last_duration_seconds" Gauge "seconds" QUESTION, "Duration of the last question.", "request sent to last byte";
    ASKED "retrieval_questions_total" Counter "" QUESTION, "Questions asked.", "the collector's own schedule";
    HITS "retrieval_hits_total" Counter "" QUESTION, "Answers with the expected source among the first `max_rank`.", "keys `sources`, `expect_source`";
    ERRORS "retrieval_errors_total" Counter "" &["target", "question", "error_type"], "Questions without an answer, or with one that could not be read, by kind.", "transport, status, body";
    RATIO "retrieval_hit_ratio" Gauge "" TARGET, "Share of all questions whose last answer had the expected source.", "last answers";
    RECIPROCAL "retrieval_mean_reciprocal_rank" Gauge "" TARGET, "Mean of 1 / rank over all questions, 0 for a missing source; only where answers have an order.", "last answers";
    AT "retrieval_last_round_timestamp_seconds" Gauge "seconds" TARGET, "When the last round of questions ended, Unix time.", "clock";
    SIMILARITY "retrieval_embedding_similarity" Gauge "" TEXT, "Cosine between the embedding of a fixed text now and when it was embedded first: 1 while model and settings are the same. Texts have numbers, from 1.", "key `embeddings`";
    DIMENSION "retrieval_embedding_dimension" Gauge "" TEXT, "Dimension of the embedding of a fixed text.", "key `embeddings`";
    EMBED_SUCCESS "retrieval_embedding_success" Gauge "" &["target", "model"], "Whether the fixed texts, or a question, could be embedded the last time.", "key `embeddings`";
    EMBED_DURATION "retrieval_embedding_last_duration_seconds" Gauge "seconds" &["target", "model"], "Duration of the last request for embeddings of the fixed texts.", "request sent to last byte";
    BASELINE "retrieval_embedding_baseline_timestamp_seconds" Gauge "seconds" &["target", "model"], "When the fixed texts were embedded first, Unix time; kept across restarts.", "state folder";
}

/// Bounds in seconds: an application may think before it answers.
pub const BOUNDS: &[f64] = &[
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];
