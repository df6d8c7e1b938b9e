//! Every metric of the collector.

use crate::model::MetricKind::{Counter, Gauge, Histogram};

metrics! {
    LINES "log_lines_total" Counter "" &["level"], "Events by level; a traceback belongs to the event before it.", "the log";
    CONTINUATIONS "log_continuation_lines_total" Counter "" &[], "Lines that go on with the event before: indented ones and tracebacks.", "the log";
    MATCHES "log_matches_total" Counter "" &["pattern"], "Lines that a named pattern of the configuration is in.", "the log";
    ERRORS "log_errors_total" Counter "" &["type"], "Events of level error or critical by type: ids, numbers, paths and quoted text replaced; types beyond the bound are other.", "the log";
    FIELD_SECONDS "log_field_seconds" Histogram "seconds" &["field"], "Durations from a field of the log.", "the log";
    FIELD "log_field" Gauge "" &["field"], "Last value of a field of the log.", "the log";
    FIELD_TOTAL "log_field_total" Counter "" &["field"], "Sum of the values of a field of the log.", "the log";
    FIELD_ODD "log_field_errors_total" Counter "" &["field"], "Values of a field that are no numbers.", "the log";
    SLOW "log_slow_lines_total" Counter "" &[], "Lines whose field is above the bound of slow.", "the log";
}
