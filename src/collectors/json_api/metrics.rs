//! Metrics of the collector itself. Those of the answers have the names that the configuration
//! gives them.

use crate::model::MetricKind::{Counter, Gauge};

metrics! {
    UP "json_api_up" Gauge "" &[], "1 when the endpoint answered with a wanted status and with JSON.", "the request";
    STATUS "json_api_http_status_code" Gauge "" &[], "Status code of the answer, 0 without one.", "the request";
    DURATION "json_api_duration_seconds" Gauge "seconds" &[], "Time that the collection took, with a login where there was one.", "the request";
    BODY "json_api_body_bytes" Gauge "bytes" &[], "Size of the answer's body, decompressed.", "the request";
    FAILURE "json_api_failure_info" Gauge "" &["reason", "url", "message"], "Why the endpoint is not up and where it is, always 1; absent while it is up.", "the request";
    SERIES "json_api_series" Gauge "" &[], "Series that the last answer gave.", "the answer";
    DROPPED "json_api_series_dropped_total" Counter "" &["reason"], "Series left out: beyond max_series (limit), with a label's value beyond it within an hour (label_values), the same labels twice (duplicate).", "the answer";
    MISSING "json_api_missing_total" Counter "" &["metric"], "Values and labels that were not where their path leads, by the metric that wants them.", "the answer";
    INVALID "json_api_invalid_total" Counter "" &["metric"], "Values that are no finite number and no known word, by the metric that wants them.", "the answer";
    REFUSED "json_api_token_refused" Gauge "" &[], "1 when the credentials were refused: status 401 or 403, or a login that gave no token.", "the request";
    RENEWALS "json_api_token_renewals_total" Counter "" &[], "Tokens that a login or token_command gave.", "the login";
    TOKEN_END "json_api_token_expiry_timestamp_seconds" Gauge "seconds" &[], "When the token expires, Unix time; absent where that is not known.", "the login";
    PROBE_SUCCESS "probe_success" Gauge "" &[], "1 when the endpoint answered as json_api_up wants it; with probe: true.", "the request";
    PROBE_STATUS "probe_http_status_code" Gauge "" &[], "Status code of the answer, 0 without one; with probe: true.", "the request";
    PROBE_FAILURE "probe_failure_info" Gauge "" &["reason", "url", "message"], "Why the endpoint is not up, always 1; absent while it is; with probe: true.", "the request";
    PROBE_DURATION "probe_duration_seconds" Gauge "seconds" &[], "Time that the collection took; with probe: true.", "the request";
}
