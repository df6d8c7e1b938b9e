//! Answers of `nightbell query` in promtool's two forms.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::model::text::{format_float_f, quote, visible};
use crate::model::{Labels, METRIC_NAME};

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As promtool writes it.
    Promql,
    /// One line of JSON.
    Json,
}

/// The value of a query: scalar, string, vector or matrix.
pub fn print_value(data: &Json, form: Form) -> Result<String, String> {
    let result = &data["result"];
    let series = result.as_array().map(Vec::as_slice).unwrap_or_default();
    let kind = data["resultType"].as_str().unwrap_or_default();
    let text = match (kind, form) {
        ("scalar", Form::Promql) => {
            let (at, value) = pair(result);
            format!("scalar: {value} @[{at}]")
        }
        ("string", Form::Promql) => quote(result[1].as_str().unwrap_or_default()),
        ("scalar", Form::Json) => sample(result),
        ("string", Form::Json) => go_json(result),
        ("vector", Form::Promql) => lines(series.iter().map(|one| {
            let value = if one["value"].is_array() {
                plain(&one["value"])
            } else {
                histogram(&one["histogram"])
            };
            format!("{} => {value}", labels(&one["metric"]))
        })),
        ("matrix", Form::Promql) => lines(series.iter().map(|one| {
            let values = one["values"].as_array().into_iter().flatten().map(plain);
            let histograms = one["histograms"]
                .as_array()
                .into_iter()
                .flatten()
                .map(histogram);
            format!(
                "{} =>\n{}",
                labels(&one["metric"]),
                lines(values.chain(histograms))
            )
        })),
        ("vector" | "matrix", Form::Json) => {
            let all: Vec<String> = series.iter().map(series_json).collect();
            format!("[{}]", all.join(","))
        }
        (other, _) => {
            return Err(format!(
                "query error: bad_response: unexpected value type {}",
                quote(other)
            ));
        }
    };
    Ok(text + "\n")
}

/// A list of label sets.
pub fn print_series(data: &Json, form: Form) -> String {
    match form {
        Form::Json => go_json(data) + "\n",
        Form::Promql => data
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| all_labels(one) + "\n")
            .collect(),
    }
}

/// A list of label values.
pub fn print_labels(data: &Json, form: Form) -> String {
    match form {
        Form::Json => go_json(data) + "\n",
        Form::Promql => data
            .as_array()
            .into_iter()
            .flatten()
            .map(|value| visible(value.as_str().unwrap_or_default()).into_owned() + "\n")
            .collect(),
    }
}

fn lines(items: impl Iterator<Item = String>) -> String {
    joined(items, "\n")
}

fn joined(items: impl Iterator<Item = String>, between: &str) -> String {
    items.collect::<Vec<_>>().join(between)
}

/// A label set as promtool writes it: the name before the braces, no label name quoted.
fn labels(metric: &Json) -> String {
    let pairs = metric.as_object().into_iter().flatten();
    let pair = |(name, value): (&String, &Json)| {
        format!(
            "{}={}",
            visible(name),
            quote(value.as_str().unwrap_or_default())
        )
    };
    let inner = joined(
        pairs.filter(|(name, _)| *name != METRIC_NAME).map(pair),
        ", ",
    );
    let name = visible(metric[METRIC_NAME].as_str().unwrap_or_default());
    if !name.is_empty() && inner.is_empty() {
        name.into_owned()
    } else {
        format!("{name}{{{inner}}}")
    }
}

/// A label set with the name inside the braces.
fn all_labels(set: &Json) -> String {
    let pairs = set.as_object().into_iter().flatten();
    Labels::from_pairs(
        pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())),
    )
    .braced()
}

/// Time and value of `[1700000000.5, "1"]`, both without exponent.
fn pair(sample: &Json) -> (String, String) {
    let value = sample[1]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(f64::NAN);
    (
        format_float_f(sample[0].as_f64().unwrap_or(f64::NAN)),
        format_float_f(value),
    )
}

fn plain(sample: &Json) -> String {
    let (at, value) = pair(sample);
    format!("{value} @[{at}]")
}

fn number(text: &Json) -> f64 {
    text.as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(f64::NAN)
}

/// A native histogram: count, sum, and the buckets with their bounds.
fn histogram(sample: &Json) -> String {
    let (at, body) = (
        format_float_f(sample[0].as_f64().unwrap_or(f64::NAN)),
        &sample[1],
    );
    let buckets = body["buckets"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|bucket| {
            let bounds = bucket[0].as_i64().unwrap_or(0);
            let (open, close) = (
                if matches!(bounds, 1 | 3) { '[' } else { '(' },
                if matches!(bounds, 0 | 3) { ']' } else { ')' },
            );
            let [lower, upper, count] =
                [1, 2, 3].map(|index| format_float_f(number(&bucket[index])));
            format!("{open}{lower},{upper}{close}:{count}")
        });
    let buckets = buckets.collect::<Vec<_>>().join(" ");
    format!(
        "Count: {:.6}, Sum: {:.6}, Buckets: [{buckets}] @[{at}]",
        number(&body["count"]),
        number(&body["sum"])
    )
}

fn sample(sample: &Json) -> String {
    let (at, value) = pair(sample);
    format!("[{at},\"{value}\"]")
}

fn series_json(one: &Json) -> String {
    let mut out = format!("{{\"metric\":{}", go_json(&one["metric"]));
    let list = |values: &Json| {
        values
            .as_array()
            .into_iter()
            .flatten()
            .map(sample)
            .collect::<Vec<_>>()
            .join(",")
    };
    if one["value"].is_array() {
        let _ = write!(out, ",\"value\":{}", sample(&one["value"]));
    }
    if one["values"].is_array() {
        let _ = write!(out, ",\"values\":[{}]", list(&one["values"]));
    }
    if one["histogram"].is_array() {
        let _ = write!(out, ",\"histogram\":{}", histogram_json(&one["histogram"]));
    }
    if let Some(histograms) = one["histograms"].as_array() {
        let _ = write!(
            out,
            ",\"histograms\":[{}]",
            histograms
                .iter()
                .map(histogram_json)
                .collect::<Vec<_>>()
                .join(",")
        );
    }
    out + "}"
}

fn histogram_json(sample: &Json) -> String {
    let body = &sample[1];
    let at = format_float_f(sample[0].as_f64().unwrap_or(f64::NAN));
    let quoted = |value: &Json| format!("\"{}\"", format_float_f(number(value)));
    let bucket = |bucket: &Json| {
        format!(
            "[{},{},{},{}]",
            bucket[0],
            quoted(&bucket[1]),
            quoted(&bucket[2]),
            quoted(&bucket[3])
        )
    };
    // What has no bucket has none, not an empty list of them.
    let buckets = body["buckets"]
        .as_array()
        .map(|all| format!("[{}]", all.iter().map(bucket).collect::<Vec<_>>().join(",")));
    let (count, sum) = (quoted(&body["count"]), quoted(&body["sum"]));
    format!(
        "[{at},{{\"count\":{count},\"sum\":{sum},\"buckets\":{}}}]",
        buckets.as_deref().unwrap_or("null")
    )
}

/// JSON as Go's encoder writes it: safe inside HTML.
fn go_json(value: &Json) -> String {
    let mut out = String::new();
    for character in value.to_string().chars() {
        match character {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// SEMANTICS 85: recorded from promtool 3.5 on the same answer.
    #[test]
    fn native_histograms_are_printed_as_promtool_prints_them() {
        let buckets = json!([
            [1, "-2", "-1", "3"],
            [3, "-0.1", "0.1", "2"],
            [2, "4", "8", "0.5"],
            [0, "8", "+Inf", "1e+21"]
        ]);
        let full =
            json!([1_435_781_451.781, {"count": "10.5", "sum": "-3.25", "buckets": buckets}]);
        let empty = json!([1_435_781_452, {"count": "0", "sum": "0"}]);
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "h", "a": "b"}, "histogram": full}, {"metric": {}, "histogram": empty},
        ]});
        let shown = "Count: 10.500000, Sum: -3.250000, Buckets: [[-2,-1):3 [-0.1,0.1]:2 (4,8):0.5 (8,+Inf]:1000000000000000000000] \
                     @[1435781451.781]";
        let nothing = "Count: 0.000000, Sum: 0.000000, Buckets: [] @[1435781452]";
        assert_eq!(
            print_value(&vector, Form::Promql),
            Ok(format!("h{{a=\"b\"}} => {shown}\n{{}} => {nothing}\n"))
        );
        let buckets = r#"[[1,"-2","-1","3"],[3,"-0.1","0.1","2"],[2,"4","8","0.5"],[0,"8","+Inf","1000000000000000000000"]]"#;
        let json = format!(
            r#"[{{"metric":{{"__name__":"h","a":"b"}},"histogram":[1435781451.781,{{"count":"10.5","sum":"-3.25","buckets":{buckets}}}]}},{{"metric":{{}},"histogram":[1435781452,{{"count":"0","sum":"0","buckets":null}}]}}]"#
        );
        assert_eq!(print_value(&vector, Form::Json), Ok(json + "\n"));
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {"__name__": "h"}, "values": [[1_435_781_441, "1"]], "histograms": [full, empty]},
        ]});
        assert_eq!(
            print_value(&matrix, Form::Promql),
            Ok(format!("h =>\n1 @[1435781441]\n{shown}\n{nothing}\n"))
        );
    }
}
