//! The messages of OTLP as a table: for each field its number, its name in JSON, and how it is
//! written. Fields that are not read are left out.

/// How a field is written.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// Bytes, base64 in JSON.
    Base64,
    /// Bytes, hexadecimal in JSON: identifiers of traces and spans.
    Hex,
    /// `bool`, `int64`, `uint64`, `uint32` and enumerations: variable length.
    Varint,
    /// `sint32`.
    Zigzag,
    /// `fixed64` and `sfixed64`.
    Fixed64,
    /// `double`.
    Double,
    /// A message.
    Message(&'static [Field]),
}

/// One field of a message.
pub(super) struct Field(pub(super) u32, pub(super) &'static str, pub(super) Kind);

use Kind::{Base64, Double, Fixed64, Hex, Message, Text, Varint, Zigzag};

pub(super) static METRICS: [Field; 1] = [Field(1, "resourceMetrics", Message(&RESOURCE_METRICS))];
pub(super) static TRACES: [Field; 1] = [Field(1, "resourceSpans", Message(&RESOURCE_SPANS))];
pub(super) static LOGS: [Field; 1] = [Field(1, "resourceLogs", Message(&RESOURCE_LOGS))];

static RESOURCE: [Field; 1] = [Field(1, "attributes", Message(&PAIR))];
static PAIR: [Field; 2] = [Field(1, "key", Text), Field(2, "value", Message(&ANY))];
static ANY: [Field; 7] = [
    Field(1, "stringValue", Text),
    Field(2, "boolValue", Varint),
    Field(3, "intValue", Varint),
    Field(4, "doubleValue", Double),
    Field(5, "arrayValue", Message(&VALUES)),
    Field(6, "kvlistValue", Message(&PAIRS)),
    Field(7, "bytesValue", Base64),
];
static VALUES: [Field; 1] = [Field(1, "values", Message(&ANY))];
static PAIRS: [Field; 1] = [Field(1, "values", Message(&PAIR))];

static RESOURCE_METRICS: [Field; 2] = [
    Field(1, "resource", Message(&RESOURCE)),
    Field(2, "scopeMetrics", Message(&SCOPE_METRICS)),
];
static SCOPE_METRICS: [Field; 1] = [Field(2, "metrics", Message(&METRIC))];
static METRIC: [Field; 8] = [
    Field(1, "name", Text),
    Field(2, "description", Text),
    Field(3, "unit", Text),
    Field(5, "gauge", Message(&NUMBERS)),
    Field(7, "sum", Message(&NUMBERS)),
    Field(9, "histogram", Message(&HISTOGRAMS)),
    Field(10, "exponentialHistogram", Message(&EXPONENTIALS)),
    Field(11, "summary", Message(&SUMMARIES)),
];
static NUMBERS: [Field; 3] = [
    Field(1, "dataPoints", Message(&NUMBER)),
    Field(2, "aggregationTemporality", Varint),
    Field(3, "isMonotonic", Varint),
];
static NUMBER: [Field; 6] = [
    Field(2, "startTimeUnixNano", Fixed64),
    Field(3, "timeUnixNano", Fixed64),
    Field(4, "asDouble", Double),
    Field(6, "asInt", Fixed64),
    Field(7, "attributes", Message(&PAIR)),
    Field(8, "flags", Varint),
];
static HISTOGRAMS: [Field; 2] = [
    Field(1, "dataPoints", Message(&HISTOGRAM)),
    Field(2, "aggregationTemporality", Varint),
];
static HISTOGRAM: [Field; 8] = [
    Field(2, "startTimeUnixNano", Fixed64),
    Field(3, "timeUnixNano", Fixed64),
    Field(4, "count", Fixed64),
    Field(5, "sum", Double),
    Field(6, "bucketCounts", Fixed64),
    Field(7, "explicitBounds", Double),
    Field(9, "attributes", Message(&PAIR)),
    Field(10, "flags", Varint),
];
static EXPONENTIALS: [Field; 2] = [
    Field(1, "dataPoints", Message(&EXPONENTIAL)),
    Field(2, "aggregationTemporality", Varint),
];
static EXPONENTIAL: [Field; 10] = [
    Field(1, "attributes", Message(&PAIR)),
    Field(2, "startTimeUnixNano", Fixed64),
    Field(3, "timeUnixNano", Fixed64),
    Field(4, "count", Fixed64),
    Field(5, "sum", Double),
    Field(6, "scale", Zigzag),
    Field(7, "zeroCount", Fixed64),
    Field(8, "positive", Message(&SIDE)),
    Field(9, "negative", Message(&SIDE)),
    Field(10, "flags", Varint),
];
static SIDE: [Field; 2] = [Field(1, "offset", Zigzag), Field(2, "bucketCounts", Varint)];
static SUMMARIES: [Field; 1] = [Field(1, "dataPoints", Message(&SUMMARY))];
static SUMMARY: [Field; 7] = [
    Field(2, "startTimeUnixNano", Fixed64),
    Field(3, "timeUnixNano", Fixed64),
    Field(4, "count", Fixed64),
    Field(5, "sum", Double),
    Field(6, "quantileValues", Message(&QUANTILE)),
    Field(7, "attributes", Message(&PAIR)),
    Field(8, "flags", Varint),
];
static QUANTILE: [Field; 2] = [Field(1, "quantile", Double), Field(2, "value", Double)];

static RESOURCE_SPANS: [Field; 2] = [
    Field(1, "resource", Message(&RESOURCE)),
    Field(2, "scopeSpans", Message(&SCOPE_SPANS)),
];
static SCOPE_SPANS: [Field; 1] = [Field(2, "spans", Message(&SPAN))];
static SPAN: [Field; 9] = [
    Field(1, "traceId", Hex),
    Field(2, "spanId", Hex),
    Field(4, "parentSpanId", Hex),
    Field(5, "name", Text),
    Field(7, "startTimeUnixNano", Fixed64),
    Field(8, "endTimeUnixNano", Fixed64),
    Field(9, "attributes", Message(&PAIR)),
    Field(11, "events", Message(&EVENT)),
    Field(15, "status", Message(&STATUS)),
];
static EVENT: [Field; 2] = [Field(1, "timeUnixNano", Fixed64), Field(2, "name", Text)];
static STATUS: [Field; 1] = [Field(3, "code", Varint)];

static RESOURCE_LOGS: [Field; 2] = [
    Field(1, "resource", Message(&RESOURCE)),
    Field(2, "scopeLogs", Message(&SCOPE_LOGS)),
];
static SCOPE_LOGS: [Field; 1] = [Field(2, "logRecords", Message(&RECORD))];
static RECORD: [Field; 1] = [Field(2, "severityNumber", Varint)];
