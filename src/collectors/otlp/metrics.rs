//! What the receiver shows of itself.

use crate::model::MetricKind::{Counter, Gauge};

metrics! {
    ITEMS "otlp_items_total" Counter "" &["signal"], "Data points, spans and log records that applications have sent and that were taken.", "requests to /v1/…";
    REJECTED "otlp_items_rejected_total" Counter "" &["signal", "reason"], "Data points that were not taken: invalid, temporality, series_limit; the sender hears of it.", "requests to /v1/…";
    REFUSED "otlp_requests_refused_total" Counter "" &["signal", "reason"], "Requests of which nothing was taken: unreadable, too_large.", "requests to /v1/…";
    SERIES "otlp_series" Gauge "" &[], "Series of applications that are held.", "requests to /v1/metrics";
    SERIES_LIMIT "otlp_series_limit" Gauge "" &[], "Series of applications that may be held.", "key `series`";
    LAST "otlp_last_received_timestamp_seconds" Gauge "seconds" &["signal"], "When something was last taken, Unix time.", "clock";
    LOGS "otlp_log_records_total" Counter "" &["application", "level"], "Log records by application and level; their texts are not looked at.", "requests to /v1/logs";
}
