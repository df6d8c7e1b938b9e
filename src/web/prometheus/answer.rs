//! The envelope of every answer, and how values look in JSON.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value as Json, json};

use crate::model::text::{format_float_f, write_float};
use crate::model::{Labels, NativeHistogram, Timestamp};
use crate::promql::{EvalError, Evaluated, Severity, Value};

/// Most warnings, and most infos, in one answer.
const MAX_REMARKS: usize = 10;

/// A request that gets no data.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Problem {
    /// The request is wrong.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Problem { status: StatusCode::BAD_REQUEST, kind: "bad_data", message: message.into() }
    }

    /// A parameter is wrong.
    pub fn parameter(name: &str, message: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {message}"))
    }

    /// The process cannot serve this now.
    pub fn internal(message: impl Into<String>) -> Self {
        Problem { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "internal", message: message.into() }
    }
}

impl From<EvalError> for Problem {
    fn from(error: EvalError) -> Self {
        let mut message = error.to_string();
        if matches!(error, EvalError::RangeType(_)) {
            message = format!("invalid parameter \"query\": {message}");
        }
        let (status, kind) = match error {
            EvalError::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            EvalError::Canceled => (StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST), "canceled"),
            EvalError::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            EvalError::RangeType(_) => (StatusCode::BAD_REQUEST, "bad_data"),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
        };
        Problem { status, kind, message }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "status": "error", "errorType": self.kind, "error": self.message });
        (self.status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    }
}

/// The beginning of every success.
const SUCCESS: &str = "{\"status\":\"success\",\"data\":";

/// About how many bytes a point of a matrix takes: room is made at once.
const POINT: usize = 34;

/// A success.
pub struct Answer {
    /// The body up to the end of the data; written once, because a matrix can be long.
    body: String,
    warnings: Vec<String>,
    infos: Vec<String>,
}

impl Answer {
    /// With this data.
    pub fn json(data: &Json) -> Self {
        Answer { body: format!("{SUCCESS}{data}"), warnings: Vec::new(), infos: Vec::new() }
    }

    /// With a list that was cut at `limit`, 0 for no limit.
    pub fn limited<T: serde::Serialize>(mut list: Vec<T>, limit: usize) -> Self {
        let cut = limit > 0 && list.len() > limit;
        if cut {
            list.truncate(limit);
        }
        let mut answer = Self::json(&json!(list));
        answer.warn_if(cut, "results truncated due to limit");
        answer
    }

    /// With the value of a query.
    pub fn evaluated(mut evaluated: Evaluated, query: &str, at: Timestamp, limit: usize) -> Self {
        let cut = limit > 0
            && match &mut evaluated.value {
                Value::Vector(samples) if samples.len() > limit => {
                    samples.truncate(limit);
                    true
                }
                Value::Matrix(series) if series.len() > limit => {
                    series.truncate(limit);
                    true
                }
                _ => false,
            };
        let (warnings, infos) = (evaluated.remarks(Severity::Warning, query), evaluated.remarks(Severity::Info, query));
        let mut body = String::from(SUCCESS);
        value_json(&mut body, &evaluated.value, at);
        let mut answer = Answer { body, warnings, infos };
        answer.warn_if(cut, "results truncated due to limit");
        answer
    }

    /// With figures about the query, as a member of its data.
    pub fn with_stats(mut self, stats: &Json) -> Self {
        if self.body.ends_with('}') {
            self.body.pop();
            self.body.push_str(&format!(",\"stats\":{stats}}}"));
        }
        self
    }

    fn warn_if(&mut self, condition: bool, text: &str) {
        if condition {
            self.warnings.push(text.to_owned());
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut body = self.body;
        for (name, mut remarks) in [("warnings", self.warnings), ("infos", self.infos)] {
            if !remarks.is_empty() {
                remarks.truncate(MAX_REMARKS);
                body.push_str(&format!(",\"{name}\":{}", json!(remarks)));
            }
        }
        body.push('}');
        ([(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// A number of seconds as Go writes it: whole ones without a decimal point.
pub fn seconds_json(duration: std::time::Duration) -> Json {
    if duration.subsec_nanos() == 0 { Json::from(duration.as_secs()) } else { Json::from(duration.as_secs_f64()) }
}

/// Labels as a JSON object.
pub fn labels_json(labels: &Labels) -> Json {
    Json::Object(labels.iter().map(|(n, v)| (n.to_owned(), Json::from(v))).collect::<Map<_, _>>())
}

/// A timestamp in seconds, with three decimals where it has any.
fn seconds(out: &mut String, at: Timestamp) {
    let (whole, rest) = (at.0.unsigned_abs() / 1000, at.0.unsigned_abs() % 1000);
    out.push_str(if at.0 < 0 { "-" } else { "" });
    out.push_str(itoa::Buffer::new().format(whole));
    if rest > 0 {
        out.push('.');
        out.extend([rest / 100, rest / 10 % 10, rest % 10].map(|digit| char::from(b'0' + digit as u8)));
    }
}

fn point(out: &mut String, at: Timestamp, value: f64) {
    out.push('[');
    seconds(out, at);
    out.push_str(",\"");
    write_float(out, value);
    out.push_str("\"]");
}

/// `[1.5,{"count":"4","sum":"10","buckets":[[0,"0.5","1","4"]]}]`: of a bucket which bounds it includes, the bounds, and its count.
fn histogram_point(out: &mut String, at: Timestamp, histogram: &NativeHistogram) {
    out.push('[');
    seconds(out, at);
    let quoted = |out: &mut String, value: f64| {
        out.push('"');
        write_float(out, value);
        out.push('"');
    };
    out.push_str(",{\"count\":");
    quoted(out, histogram.count);
    out.push_str(",\"sum\":");
    quoted(out, histogram.sum);
    let mut opened = false;
    for bucket in histogram.buckets().iter().filter(|bucket| bucket.count != 0.0) {
        out.push_str(if opened { "," } else { ",\"buckets\":[" });
        opened = true;
        out.push_str(match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => "[0",
            (true, false) => "[1",
            (false, false) => "[2",
            (true, true) => "[3",
        });
        for value in [bucket.lower, bucket.upper, bucket.count] {
            out.push(',');
            quoted(out, value);
        }
        out.push(']');
    }
    out.push_str(if opened { "]}]" } else { "}]" });
}

/// `{"resultType":…,"result":…}`, written directly: a matrix can hold millions of points.
fn value_json(out: &mut String, value: &Value, at: Timestamp) {
    out.push_str(&format!("{{\"resultType\":\"{}\",\"result\":", value.value_type().as_str()));
    match value {
        Value::Scalar(number) => {
            out.push('[');
            seconds(out, at);
            out.push_str(&format!(",\"{}\"]", format_float_f(*number)));
        }
        Value::String(text) => {
            out.push('[');
            seconds(out, at);
            out.push_str(&format!(",{}]", Json::from(text.as_str())));
        }
        Value::Vector(samples) => {
            out.push('[');
            for (index, sample) in samples.iter().enumerate() {
                out.push_str(if index > 0 { ",{\"metric\":" } else { "{\"metric\":" });
                out.push_str(&labels_json(&sample.labels).to_string());
                match &sample.histogram {
                    Some(histogram) => {
                        out.push_str(",\"histogram\":");
                        histogram_point(out, at, histogram);
                    }
                    None => {
                        out.push_str(",\"value\":");
                        point(out, at, sample.value);
                    }
                }
                out.push('}');
            }
            out.push(']');
        }
        Value::Matrix(series) => {
            out.reserve(series.iter().map(|one| one.points.len() * POINT).sum());
            out.push('[');
            for (index, one) in series.iter().enumerate() {
                out.push_str(if index > 0 { ",{\"metric\":" } else { "{\"metric\":" });
                out.push_str(&labels_json(&one.labels).to_string());
                // Of floats and histograms, only what there is.
                if !one.points.is_empty() || one.histograms.is_empty() {
                    out.push_str(",\"values\":[");
                    for (index, (at, value)) in one.points.iter().enumerate() {
                        out.push_str(if index > 0 { "," } else { "" });
                        point(out, *at, *value);
                    }
                    out.push(']');
                }
                if !one.histograms.is_empty() {
                    out.push_str(",\"histograms\":[");
                    for (index, (at, histogram)) in one.histograms.iter().enumerate() {
                        out.push_str(if index > 0 { "," } else { "" });
                        histogram_point(out, *at, histogram);
                    }
                    out.push(']');
                }
                out.push('}');
            }
            out.push(']');
        }
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::native_histogram::{Buckets, Span};
    use crate::promql::{MatrixSeries, VectorSample};

    /// SEMANTICS 201: as Prometheus writes them.
    #[test]
    fn timestamps_are_seconds_with_three_decimals_or_none() {
        let texts = [0, 1_000, 1_500, 1_234_567, -1_500, 10].map(|ms| {
            let mut text = String::new();
            seconds(&mut text, Timestamp(ms));
            text
        });
        assert_eq!(texts, ["0", "1", "1.500", "1234.567", "-1.500", "0.010"]);
    }

    /// SEMANTICS 85 and 201: native histograms as Prometheus 3.5 answers with them.
    #[test]
    fn native_histograms_are_answered_with_bounds_and_counts() {
        let spans = |spans: &[(i32, u32)], counts: &[f64]| {
            let spans: Vec<_> = spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect();
            Buckets::new(&spans, counts.to_vec()).expect("valid")
        };
        let full = NativeHistogram {
            count: 7.5,
            sum: -1.25,
            zero_threshold: 0.1,
            zero_count: 2.0,
            positive: spans(&[(1, 2)], &[0.0, 4.5]),
            negative: spans(&[(0, 1)], &[1.0]),
            ..NativeHistogram::default()
        };
        let labels = Labels::from_pairs([("__name__", "h")]);
        let sample = VectorSample { labels: labels.clone(), value: 0.0, histogram: Some(full.clone().into()) };
        let mut out = String::new();
        value_json(&mut out, &Value::Vector(vec![sample]), Timestamp(1_500));
        let shown = r#"{"count":"7.5","sum":"-1.25","buckets":[[1,"-1","-0.5","1"],[3,"-0.1","0.1","2"],[0,"2","4","4.5"]]}"#;
        assert_eq!(out, format!(r#"{{"resultType":"vector","result":[{{"metric":{{"__name__":"h"}},"histogram":[1.500,{shown}]}}]}}"#));
        let histograms = vec![(Timestamp(2_000), full.into()), (Timestamp(3_000), NativeHistogram::default().into())];
        let mixed = MatrixSeries { labels: labels.clone(), points: vec![(Timestamp(1_000), 4.0)], histograms: histograms.clone() };
        let alone = MatrixSeries { labels: Labels::empty(), points: Vec::new(), histograms: histograms[1..].to_vec() };
        out.clear();
        value_json(&mut out, &Value::Matrix(vec![mixed, alone]), Timestamp(0));
        let empty = r#"[3,{"count":"0","sum":"0"}]"#;
        assert_eq!(
            out,
            format!(
                r#"{{"resultType":"matrix","result":[{{"metric":{{"__name__":"h"}},"values":[[1,"4"]],"histograms":[[2,{shown}],{empty}]}},{{"metric":{{}},"histograms":[{empty}]}}]}}"#
            )
        );
    }
}
