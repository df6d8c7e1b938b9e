//! What the pass-through shows of itself, beside the calls.

use crate::model::MetricKind::{Counter, Gauge};

metrics! {
    RESPONSES "llm_proxy_responses_total" Counter "" &["provider", "code"], "Answers that were passed on, by status; code 0: the provider could not be reached.", "status line of the provider";
    REFUSED "llm_proxy_refused_total" Counter "" &["reason"], "Calls that were refused here: budget, access.", "keys `budget` and `token`";
    RUNNING "llm_proxy_running" Gauge "" &[], "Calls under way.", "the pass-through";
    BYTES "llm_proxy_bytes_total" Counter "bytes" &["direction"], "Bytes of bodies that were passed on: sent to the provider, received from it.", "the pass-through";
    UNREAD "llm_proxy_answers_unread_total" Counter "" &[], "Answers whose tokens are not known because of their compression; key `plain` asks for none.", "Content-Encoding of answers";
    SPENT "llm_proxy_spent" Gauge "" &["period", "currency"], "Money spent on this day and in this month (UTC) by the price table.", "usage and the price table";
    BUDGET "llm_proxy_budget" Gauge "" &["period", "currency"], "Money that may be spent in a day and in a month.", "key `budget`";
}
