//! The envelope of every answer, and how values look in JSON.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use serde_json::{Map, Value as Json, json};

use super::super::seats::Seat;
use crate::model::text::{format_float_f, write_float};
use crate::model::{Holder, Labels, NativeHistogram, OverBudget, Reservation, Timestamp};
use crate::promql::{EvalError, Evaluated, MatrixSeries, Severity, Value, VectorSample};

/// Most warnings, and most infos, in one answer.
const MAX_ANNOTATIONS: usize = 10;

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
        Problem {
            status: StatusCode::BAD_REQUEST,
            kind: "bad_data",
            message: message.into(),
        }
    }

    /// A parameter is wrong.
    pub fn parameter(name: &str, message: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {message}"))
    }

    /// The process cannot serve this now.
    pub fn internal(message: impl Into<String>) -> Self {
        Problem {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            kind: "internal",
            message: message.into(),
        }
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
            EvalError::Canceled => (
                StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
                "canceled",
            ),
            EvalError::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            EvalError::NoMemory(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            EvalError::RangeType(_) => (StatusCode::BAD_REQUEST, "bad_data"),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
        };
        Problem {
            status,
            kind,
            message,
        }
    }
}

impl From<OverBudget> for Problem {
    fn from(refusal: OverBudget) -> Self {
        let (status, kind) = match refusal {
            OverBudget::TooLarge(_) => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            OverBudget::Full { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Problem {
            status,
            kind,
            message: refusal.to_string(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "status": "error", "errorType": self.kind, "error": self.message });
        (
            self.status,
            [(CONTENT_TYPE, "application/json")],
            body.to_string(),
        )
            .into_response()
    }
}

/// The beginning of every success.
const SUCCESS: &str = "{\"status\":\"success\",\"data\":";

/// About how many bytes of an answer are written before they are sent.
const CHUNK: usize = 32 << 10;

/// A success.
pub struct Answer {
    data: Data,
    /// Figures about the query, as a member of its data.
    stats: Option<Json>,
    warnings: Vec<String>,
    infos: Vec<String>,
}

enum Data {
    /// As JSON, and what it holds of the memory of all requests.
    Text(String, Option<Reservation>),
    /// The value of a query, of this instant: written while it is sent.
    Value(Box<Evaluated>, Timestamp),
}

impl Answer {
    /// With this data.
    pub fn json(data: &Json) -> Self {
        Self::text(data.to_string(), None)
    }

    /// With this JSON, and the memory that it was counted with.
    pub fn text(json: String, held: Option<Reservation>) -> Self {
        Answer {
            data: Data::Text(json, held),
            stats: None,
            warnings: Vec::new(),
            infos: Vec::new(),
        }
    }

    /// With a list that was cut at `limit`, 0 for no limit.
    pub fn limited<T: serde::Serialize>(
        seat: &Seat,
        mut list: Vec<T>,
        limit: usize,
        size: impl Fn(&T) -> usize,
    ) -> Result<Self, Problem> {
        let cut = limit > 0 && list.len() > limit;
        if cut {
            list.truncate(limit);
        }
        // The list and its text.
        let bytes = list
            .iter()
            .map(|entry| size(entry) + size_of::<T>())
            .sum::<usize>();
        let mut held = seat.reserve(2 * bytes)?;
        let text =
            serde_json::to_string(&list).map_err(|error| Problem::internal(error.to_string()))?;
        drop(list);
        let length = text.len();
        let mut answer = Self::text(text, Some(held.hand_over(length, Holder::Answers)));
        answer.warn_if(cut, "results truncated due to limit");
        Ok(answer)
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
        if let Some(held) = evaluated.memory.as_mut().and_then(Arc::get_mut) {
            let bytes = held.bytes();
            let answer = held.hand_over(bytes, Holder::Answers);
            *held = answer;
        }
        let (warnings, infos) = (
            evaluated.annotations(Severity::Warning, query),
            evaluated.annotations(Severity::Info, query),
        );
        let mut answer = Answer {
            data: Data::Value(Box::new(evaluated), at),
            stats: None,
            warnings,
            infos,
        };
        answer.warn_if(cut, "results truncated due to limit");
        answer
    }

    /// With figures about the query.
    pub fn with_stats(self, stats: Json) -> Self {
        Answer {
            stats: Some(stats),
            ..self
        }
    }

    fn warn_if(&mut self, condition: bool, text: &str) {
        if condition {
            self.warnings.push(text.to_owned());
        }
    }

    /// What follows the data.
    fn end(&mut self) -> String {
        let mut out = String::new();
        let annotations = [
            ("warnings", std::mem::take(&mut self.warnings)),
            ("infos", std::mem::take(&mut self.infos)),
        ];
        for (name, mut annotations) in annotations {
            if !annotations.is_empty() {
                annotations.truncate(MAX_ANNOTATIONS);
                out.push_str(&format!(",\"{name}\":{}", json!(annotations)));
            }
        }
        out.push('}');
        out
    }
}

impl IntoResponse for Answer {
    fn into_response(mut self) -> Response {
        let end = self.end();
        let body = match self.data {
            Data::Text(data, held) => {
                let whole = Bytes::from(format!("{SUCCESS}{data}{end}"));
                match held {
                    None => Body::from(whole),
                    // In pieces, which the memory outlives.
                    Some(held) => Body::new(Pieces { whole, _held: held }),
                }
            }
            Data::Value(evaluated, at) => {
                let stats = self
                    .stats
                    .map_or_else(String::new, |stats| format!(",\"stats\":{stats}"));
                let mut writing = Writing {
                    evaluated,
                    at,
                    series: 0,
                    point: 0,
                    begun: false,
                    end: Some(format!("{stats}}}{end}")),
                };
                let mut first = String::from(SUCCESS);
                writing.fill(&mut first);
                match writing.end {
                    None => Body::from(first),
                    Some(_) => Body::new(Written {
                        first: Some(first),
                        writing,
                    }),
                }
            }
        };
        ([(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// A long text on its way.
struct Pieces {
    whole: Bytes,
    _held: Reservation,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.whole.len().min(CHUNK);
        let piece = (length > 0).then(|| self.whole.split_to(length));
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.whole.len() as u64)
    }
}

/// The value of a query on its way: written piece by piece, because its text takes twice the memory
/// of the value.
struct Written {
    first: Option<String>,
    writing: Writing,
}

impl HttpBody for Written {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.first.take().or_else(|| {
            let mut piece = String::with_capacity(CHUNK + CHUNK / 8);
            self.writing.fill(&mut piece);
            (!piece.is_empty()).then_some(piece)
        });
        Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.writing.end.is_none()
    }
}

/// How far a value has been written.
struct Writing {
    evaluated: Box<Evaluated>,
    at: Timestamp,
    /// The series that is being written, and how many points of it are.
    series: usize,
    point: usize,
    begun: bool,
    /// What follows the value; `None` when all is written.
    end: Option<String>,
}

impl Writing {
    /// Writes on until the piece is long enough or everything is written.
    fn fill(&mut self, out: &mut String) {
        if self.end.is_none() {
            return;
        }
        if !self.begun {
            self.begun = true;
            out.push_str(&format!(
                "{{\"resultType\":\"{}\",\"result\":",
                self.evaluated.value.value_type().as_str()
            ));
            if matches!(self.evaluated.value, Value::Vector(_) | Value::Matrix(_)) {
                out.push('[');
            }
        }
        let done = match &mut self.evaluated.value {
            Value::Scalar(number) => {
                out.push('[');
                seconds(out, self.at);
                out.push_str(&format!(",\"{}\"]", format_float_f(*number)));
                true
            }
            Value::String(text) => {
                out.push('[');
                seconds(out, self.at);
                out.push_str(&format!(",{}]", Json::from(text.as_str())));
                true
            }
            Value::Vector(samples) => {
                while out.len() < CHUNK && self.series < samples.len() {
                    sample_json(out, &samples[self.series], self.series == 0, self.at);
                    self.series += 1;
                }
                self.series == samples.len()
            }
            Value::Matrix(series) => {
                while out.len() < CHUNK && self.series < series.len() {
                    self.point =
                        series_json(out, &series[self.series], self.series == 0, self.point);
                    if self.point == 0 {
                        // What is written is given back.
                        series[self.series] = MatrixSeries {
                            labels: Labels::empty(),
                            points: Vec::new(),
                            histograms: Vec::new(),
                        };
                        self.series += 1;
                    }
                }
                self.series == series.len()
            }
        };
        if done {
            if matches!(self.evaluated.value, Value::Vector(_) | Value::Matrix(_)) {
                out.push(']');
            }
            out.push_str(&self.end.take().unwrap_or_default());
        }
    }
}

/// A number of seconds as Go writes it: whole ones without a decimal point.
pub fn seconds_json(duration: std::time::Duration) -> Json {
    if duration.subsec_nanos() == 0 {
        Json::from(duration.as_secs())
    } else {
        Json::from(duration.as_secs_f64())
    }
}

/// Labels as a JSON object.
pub fn labels_json(labels: &Labels) -> Json {
    Json::Object(
        labels
            .iter()
            .map(|(n, v)| (n.to_owned(), Json::from(v)))
            .collect::<Map<_, _>>(),
    )
}

/// A timestamp in seconds, with three decimals where it has any.
fn seconds(out: &mut String, at: Timestamp) {
    let (whole, rest) = (at.0.unsigned_abs() / 1000, at.0.unsigned_abs() % 1000);
    out.push_str(if at.0 < 0 { "-" } else { "" });
    out.push_str(itoa::Buffer::new().format(whole));
    if rest > 0 {
        out.push('.');
        out.extend(
            [rest / 100, rest / 10 % 10, rest % 10].map(|digit| char::from(b'0' + digit as u8)),
        );
    }
}

fn point(out: &mut String, at: Timestamp, value: f64) {
    out.push('[');
    seconds(out, at);
    out.push_str(",\"");
    write_float(out, value);
    out.push_str("\"]");
}

/// `[1.5,{"count":"4","sum":"10","buckets":[[0,"0.5","1","4"]]}]`: of a bucket which bounds it
/// includes, the bounds, and its count.
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
    for bucket in histogram
        .buckets()
        .iter()
        .filter(|bucket| bucket.count != 0.0)
    {
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

fn sample_json(out: &mut String, sample: &VectorSample, first: bool, at: Timestamp) {
    out.push_str(if first {
        "{\"metric\":"
    } else {
        ",{\"metric\":"
    });
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

/// Writes on at a point of a series, floats before histograms; returns the point at which to go on,
/// 0 when the series is written.
fn series_json(out: &mut String, one: &MatrixSeries, first: bool, from: usize) -> usize {
    if from == 0 {
        out.push_str(if first {
            "{\"metric\":"
        } else {
            ",{\"metric\":"
        });
        out.push_str(&labels_json(&one.labels).to_string());
    }
    let (floats, all) = (one.points.len(), one.points.len() + one.histograms.len());
    let mut next = from;
    // Of floats and histograms, only what there is.
    while next < floats {
        out.push_str(if next == 0 { ",\"values\":[" } else { "," });
        let (at, value) = one.points[next];
        point(out, at, value);
        next += 1;
        if next == floats {
            out.push(']');
        }
        if out.len() >= CHUNK && next < all {
            return next;
        }
    }
    while next < all {
        out.push_str(if next == floats {
            ",\"histograms\":["
        } else {
            ","
        });
        let (at, histogram) = &one.histograms[next - floats];
        histogram_point(out, *at, histogram);
        next += 1;
        if next == all {
            out.push(']');
        }
        if out.len() >= CHUNK && next < all {
            return next;
        }
    }
    if all == 0 {
        out.push_str(",\"values\":[]");
    }
    out.push('}');
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::native_histogram::{Buckets, Span};

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
            let spans: Vec<_> = spans
                .iter()
                .map(|(offset, length)| Span {
                    offset: *offset,
                    length: *length,
                })
                .collect();
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
        let sample = VectorSample {
            labels: labels.clone(),
            value: 0.0,
            histogram: Some(full.clone().into()),
        };
        let value_json = |value: Value, at: i64| {
            let evaluated = Evaluated {
                value,
                annotations: Vec::new(),
                samples_read: 0,
                samples_held: 0,
                memory: None,
            };
            let mut writing = Writing {
                evaluated: Box::new(evaluated),
                at: Timestamp(at),
                series: 0,
                point: 0,
                begun: false,
                end: Some("}".into()),
            };
            let mut out = String::new();
            writing.fill(&mut out);
            out
        };
        let out = value_json(Value::Vector(vec![sample]), 1_500);
        let shown = r#"{"count":"7.5","sum":"-1.25","buckets":[[1,"-1","-0.5","1"],[3,"-0.1","0.1","2"],[0,"2","4","4.5"]]}"#;
        assert_eq!(
            out,
            format!(
                r#"{{"resultType":"vector","result":[{{"metric":{{"__name__":"h"}},"histogram":[1.500,{shown}]}}]}}"#
            )
        );
        let histograms = vec![
            (Timestamp(2_000), full.into()),
            (Timestamp(3_000), NativeHistogram::default().into()),
        ];
        let mixed = MatrixSeries {
            labels: labels.clone(),
            points: vec![(Timestamp(1_000), 4.0)],
            histograms: histograms.clone(),
        };
        let alone = MatrixSeries {
            labels: Labels::empty(),
            points: Vec::new(),
            histograms: histograms[1..].to_vec(),
        };
        let out = value_json(Value::Matrix(vec![mixed, alone]), 0);
        let empty = r#"[3,{"count":"0","sum":"0"}]"#;
        assert_eq!(
            out,
            format!(
                r#"{{"resultType":"matrix","result":[{{"metric":{{"__name__":"h"}},"values":[[1,"4"]],"histograms":[[2,{shown}],{empty}]}},{{"metric":{{}},"histograms":[{empty}]}}]}}"#
            )
        );
    }
}
