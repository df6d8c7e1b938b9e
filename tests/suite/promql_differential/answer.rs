//! An answer in a form that both sides can be brought to, and when two answers agree.

use nightbell::model::{Labels, NativeHistogram};
use nightbell::promql::{Evaluated, Severity, Value};

/// A sample of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    Float(f64),
    /// Count, sum, and of each populated bucket its rule, bounds and count.
    Histogram(f64, f64, Vec<(i64, [f64; 3])>),
}

/// Samples of one series in an answer.
pub type Row = (String, Vec<(i64, Point)>);

/// An answer.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Error(String),
    /// Series in the order of the answer; warnings and infos.
    Series(Vec<Row>, Vec<String>),
}

fn number(value: &serde_json::Value) -> f64 {
    value
        .as_str()
        .and_then(|v| v.parse().ok())
        .unwrap_or(f64::NAN)
}

/// What Prometheus answered.
pub fn theirs(answer: &serde_json::Value) -> Answer {
    if answer["status"] != "success" {
        return Answer::Error(answer["error"].as_str().unwrap_or("no answer").to_owned());
    }
    let texts = |key: &str| {
        answer[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|t| t.as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let mut annotations = [texts("warnings"), texts("infos")].concat();
    annotations.sort();
    let time = |p: &serde_json::Value| (p[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
    let point = |p: &serde_json::Value| (time(p), Point::Float(number(&p[1])));
    let histogram = |p: &serde_json::Value| {
        let buckets = p[1]["buckets"].as_array().into_iter().flatten();
        let bucket = |b: &serde_json::Value| {
            (
                b[0].as_i64().unwrap_or(-1),
                [number(&b[1]), number(&b[2]), number(&b[3])],
            )
        };
        (
            time(p),
            Point::Histogram(
                number(&p[1]["count"]),
                number(&p[1]["sum"]),
                buckets.map(bucket).collect(),
            ),
        )
    };
    let result = &answer["data"]["result"];
    if answer["data"]["resultType"] == "scalar" {
        return Answer::Series(vec![("{}".into(), vec![point(result)])], annotations);
    }
    let rows = result
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .map(|row| {
            let pairs = row["metric"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(n, v)| (n.clone(), v.as_str().unwrap_or("").to_owned()));
            let list = |key: &str| row[key].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut points: Vec<(i64, Point)> = list("values")
                .iter()
                .map(point)
                .chain(list("histograms").iter().map(histogram))
                .collect();
            points.extend(row.get("value").map(point));
            points.extend(row.get("histogram").map(histogram));
            points.sort_by_key(|(time, _)| *time);
            (Labels::from_pairs(pairs).braced(), points)
        });
    Answer::Series(rows.collect(), annotations)
}

fn shown(histogram: &NativeHistogram) -> Point {
    let rule = |lower: bool, upper: bool| [[2, 0], [1, 3]][usize::from(lower)][usize::from(upper)];
    let buckets = histogram.buckets().into_iter().filter(|b| b.count != 0.0);
    let buckets = buckets
        .map(|b| {
            (
                rule(b.lower_inclusive, b.upper_inclusive),
                [b.lower, b.upper, b.count],
            )
        })
        .collect();
    Point::Histogram(histogram.count, histogram.sum, buckets)
}

/// What the engine answered.
pub fn ours(value: Result<Evaluated, String>, at: i64, text: &str) -> Answer {
    let evaluated = match value {
        Err(error) => return Answer::Error(error),
        Ok(evaluated) => evaluated,
    };
    let mut annotations = [
        evaluated.annotations(Severity::Warning, text),
        evaluated.annotations(Severity::Info, text),
    ]
    .concat();
    annotations.sort();
    let rows = match evaluated.value {
        Value::Scalar(v) => vec![("{}".into(), vec![(at, Point::Float(v))])],
        Value::String(_) => Vec::new(),
        Value::Vector(samples) => {
            let point = |value: f64, histogram: Option<&NativeHistogram>| {
                histogram.map_or(Point::Float(value), shown)
            };
            samples
                .into_iter()
                .map(|s| {
                    (
                        s.labels.braced(),
                        vec![(at, point(s.value, s.histogram.as_deref()))],
                    )
                })
                .collect()
        }
        Value::Matrix(series) => {
            let row = |s: nightbell::promql::MatrixSeries| {
                let floats = s.points.into_iter().map(|(t, v)| (t.0, Point::Float(v)));
                let mut points: Vec<(i64, Point)> = floats
                    .chain(s.histograms.iter().map(|(t, h)| (t.0, shown(h))))
                    .collect();
                points.sort_by_key(|(time, _)| *time);
                (s.labels.braced(), points)
            };
            series.into_iter().map(row).collect()
        }
    };
    Answer::Series(rows, annotations)
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * a.abs().max(b.abs())
}

/// Whether two samples agree. What cancels out in a bucket may leave nothing, or next to nothing.
pub fn alike(a: &Point, b: &Point, tolerance: f64) -> bool {
    match (a, b) {
        (Point::Float(a), Point::Float(b)) => near(*a, *b, tolerance),
        (
            Point::Histogram(count, sum, buckets),
            Point::Histogram(other_count, other_sum, others),
        ) => {
            let all = || buckets.iter().chain(others);
            let greatest = all()
                .map(|(_, b)| b[2].abs())
                .filter(|c| c.is_finite())
                .fold(count.abs(), f64::max);
            let of = |list: &[(i64, [f64; 3])], one: &(i64, [f64; 3])| {
                list.iter()
                    .find(|b| b.0 == one.0 && b.1[..2] == one.1[..2])
                    .map_or(0.0, |b| b.1[2])
            };
            near(*count, *other_count, tolerance.max(0.0))
                && (near(*sum, *other_sum, tolerance)
                    || (sum - other_sum).abs() <= tolerance * greatest)
                && all().all(|one| {
                    let (x, y) = (of(buckets, one), of(others, one));
                    near(x, y, tolerance) || (x - y).abs() <= tolerance * greatest
                })
        }
        _ => false,
    }
}

/// Whether two answers agree.
pub fn agree(a: &Answer, b: &Answer, ordered: bool, tolerance: f64) -> bool {
    match (a, b) {
        // Newer versions than 3.5 name colliding series in the order of their labels, as this one
        // does; and which ones collide first depends on the order of operands that have none.
        (Answer::Error(a), Answer::Error(b)) => {
            let plain = |text: &str| {
                text.find(" for the match group")
                    .map_or(text.len(), |end| end)
            };
            a[..plain(a)] == b[..plain(b)]
        }
        (Answer::Series(a, a_remarks), Answer::Series(b, b_remarks)) => {
            let sorted = |rows: &[Row]| {
                let mut order: Vec<usize> = (0..rows.len()).collect();
                if !ordered {
                    order.sort_by(|x, y| rows[*x].0.cmp(&rows[*y].0));
                }
                order
            };
            // Prometheus shows ten of a kind and says how many more there were.
            let omitted = b_remarks.iter().any(|r| r.contains("annotations omitted"));
            (a_remarks == b_remarks || omitted)
                && a.len() == b.len()
                && sorted(a).into_iter().zip(sorted(b)).all(|(x, y)| {
                    let (x, y) = (&a[x], &b[y]);
                    x.0 == y.0
                        && x.1.len() == y.1.len()
                        && x.1
                            .iter()
                            .zip(&y.1)
                            .all(|(p, q)| p.0 == q.0 && alike(&p.1, &q.1, tolerance))
                })
        }
        _ => false,
    }
}

/// Shows where two answers first part.
pub fn first_difference(ours: &[Row], theirs: &[Row]) {
    for (labels, points) in ours {
        let Some((_, other)) = theirs.iter().find(|(l, _)| l == labels) else {
            return println!("  ours only: {labels} {:?}", points.first());
        };
        let here = points.iter().find(|(time, value)| {
            !other
                .iter()
                .any(|(t, v)| t == time && alike(value, v, 1e-12))
        });
        if let Some((time, value)) = here {
            return println!(
                "  {labels} at {time}: {value:?}, theirs {:?}",
                other.iter().find(|(t, _)| t == time).map(|(_, v)| v)
            );
        }
        if let Some(more) = other
            .iter()
            .find(|(time, _)| !points.iter().any(|(t, _)| t == time))
        {
            return println!("  {labels} theirs only: {more:?}");
        }
    }
    if let Some(row) = theirs
        .iter()
        .find(|(labels, _)| !ours.iter().any(|(l, _)| l == labels))
    {
        println!("  theirs only: {} {:?}", row.0, row.1.first());
    }
}
