//! Random expressions over random samples, answered by the engine and by a real Prometheus; every answer, error and remark must agree.
//!
//! Not part of the ordinary run, because it needs Prometheus 3.5 (Debian 12 carries an older one, which differs):
//!
//! ```text
//! NIGHTBELL_TEST_PROMETHEUS=/folder/with/prometheus cargo test --test suite promql_differential -- --ignored --nocapture
//! ```
//!
//! `NIGHTBELL_TEST_SEED` and `NIGHTBELL_TEST_COUNT` choose what is generated; `NIGHTBELL_TEST_EXPRESSIONS` names a file with an expression a
//! line to ask instead; `NIGHTBELL_TEST_STRICT=1` wants every bit equal. A difference becomes a case in `tests/promql/`.

mod data;
pub mod generator;
mod peer;
pub mod random;

use std::path::PathBuf;
use std::time::Duration;

use nightbell::model::{Labels, Sample, Timestamp};
use nightbell::promql::{Engine, Evaluated, ParseOptions, Severity, Value, parse_with};
use nightbell::store::{Limits, Store};

use data::START;
use generator::Generator;
use peer::Peer;
use random::Random;

/// Samples of one series in an answer.
type Row = (String, Vec<(i64, f64)>);

/// An answer in a form that both sides can be brought to.
#[derive(Debug, PartialEq)]
enum Answer {
    Error(String),
    /// Series in the order of the answer; warnings and infos.
    Series(Vec<Row>, Vec<String>),
}

fn theirs(answer: &serde_json::Value) -> Answer {
    if answer["status"] != "success" {
        return Answer::Error(answer["error"].as_str().unwrap_or("no answer").to_owned());
    }
    let texts = |key: &str| answer[key].as_array().into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)).collect::<Vec<_>>();
    let mut remarks = [texts("warnings"), texts("infos")].concat();
    remarks.sort();
    let point = |p: &serde_json::Value| {
        let time = (p[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
        (time, p[1].as_str().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN))
    };
    let result = &answer["data"]["result"];
    if answer["data"]["resultType"] == "scalar" {
        return Answer::Series(vec![("{}".into(), vec![point(result)])], remarks);
    }
    let rows = result.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|row| {
        let pairs = row["metric"].as_object().into_iter().flatten().map(|(n, v)| (n.clone(), v.as_str().unwrap_or("").to_owned()));
        let points = match row["values"].as_array() {
            Some(values) => values.iter().map(point).collect(),
            None => vec![point(&row["value"])],
        };
        (Labels::from_pairs(pairs).braced(), points)
    });
    Answer::Series(rows.collect(), remarks)
}

fn ours(value: Result<Evaluated, String>, at: i64, text: &str) -> Answer {
    let evaluated = match value {
        Err(error) => return Answer::Error(error),
        Ok(evaluated) => evaluated,
    };
    let mut remarks = [evaluated.remarks(Severity::Warning, text), evaluated.remarks(Severity::Info, text)].concat();
    remarks.sort();
    let rows = match evaluated.value {
        Value::Scalar(v) => vec![("{}".into(), vec![(at, v)])],
        Value::String(_) => Vec::new(),
        Value::Vector(samples) => samples.into_iter().map(|s| (s.labels.braced(), vec![(at, s.value)])).collect(),
        Value::Matrix(series) => {
            series.into_iter().map(|s| (s.labels.braced(), s.points.into_iter().map(|(t, v)| (t.0, v)).collect())).collect()
        }
    };
    Answer::Series(rows, remarks)
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * a.abs().max(b.abs())
}

fn agree(a: &Answer, b: &Answer, ordered: bool, tolerance: f64) -> bool {
    match (a, b) {
        // Newer versions than 3.5 name colliding series in the order of their labels, as this one does; and which ones collide first depends
        // on the order of operands that have none.
        (Answer::Error(a), Answer::Error(b)) => {
            let plain = |text: &str| text.find(" for the match group").map_or(text.len(), |end| end);
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
                    x.0 == y.0 && x.1.len() == y.1.len() && x.1.iter().zip(&y.1).all(|(p, q)| p.0 == q.0 && near(p.1, q.1, tolerance))
                })
        }
        _ => false,
    }
}

/// Shows where two answers first part.
fn first_difference(ours: &[Row], theirs: &[Row]) {
    for (labels, points) in ours {
        let Some((_, other)) = theirs.iter().find(|(l, _)| l == labels) else {
            return println!("  ours only: {labels} {:?}", points.first());
        };
        let here = points.iter().find(|(time, value)| !other.iter().any(|(t, v)| t == time && near(*value, *v, 1e-12)));
        if let Some((time, value)) = here {
            return println!("  {labels} at {time}: {value:?}, theirs {:?}", other.iter().find(|(t, _)| t == time).map(|(_, v)| *v));
        }
        if let Some(more) = other.iter().find(|(time, _)| !points.iter().any(|(t, _)| t == time)) {
            return println!("  {labels} theirs only: {more:?}");
        }
    }
    if let Some(row) = theirs.iter().find(|(labels, _)| !ours.iter().any(|(l, _)| l == labels)) {
        println!("  theirs only: {} {:?}", row.0, row.1.first());
    }
}

/// SEMANTICS part B as a whole.
#[test]
#[ignore = "needs Prometheus 3.5 in the folder NIGHTBELL_TEST_PROMETHEUS"]
fn random_expressions_have_prometheus_answers() {
    let binaries =
        PathBuf::from(std::env::var("NIGHTBELL_TEST_PROMETHEUS").expect("NIGHTBELL_TEST_PROMETHEUS names the folder of the binary"));
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let given = std::env::var("NIGHTBELL_TEST_EXPRESSIONS").ok().map(|path| std::fs::read_to_string(path).expect("the file can be read"));
    let given: Option<Vec<&str>> = given.as_deref().map(|text| text.lines().filter(|l| !l.trim().is_empty()).collect());
    let strict = number("NIGHTBELL_TEST_STRICT", 0) == 1;
    let mut random = Random(number("NIGHTBELL_TEST_SEED", 1));
    let series = data::series(&mut random);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let peer = Peer::start(&binaries, folder.path(), &series);
    let store = Store::new(Limits::default());
    for one in &series {
        for (time, value) in &one.points {
            store.append(Timestamp(*time), &[Sample { labels: one.labels.clone(), value: *value, timestamp: None }]);
        }
    }
    let engine = Engine::default();
    let options = ParseOptions { experimental: true };
    let total = given.as_ref().map_or(number("NIGHTBELL_TEST_COUNT", 3000), |lines| lines.len() as u64);
    let mut wrong = 0;
    for index in 0..total {
        let depth = 1 + random.below(3);
        let text = match &given {
            Some(lines) => lines[index as usize].to_owned(),
            None => Generator { random: &mut random }.query(depth),
        };
        let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
        let at = START + 300_000 + random.below(3_300) as i64 * 1000;
        let expr = parse_with(&text, options);
        let (path, form, mine) = if random.chance(50) {
            let mine = expr.map_err(|e| e.to_string()).and_then(|e| engine.instant(&store, &e, Timestamp(at)).map_err(|e| e.to_string()));
            ("/api/v1/query", format!("query={encoded}&time={}", at as f64 / 1000.0), mine)
        } else {
            let (step, end) = ([15, 60, 77][random.below(3)], at + 1_200_000);
            let mine = expr.map_err(|e| e.to_string()).and_then(|e| {
                engine.range(&store, &e, Timestamp(at), Timestamp(end), Duration::from_secs(step)).map_err(|e| e.to_string())
            });
            let form = format!("query={encoded}&start={}&end={}&step={step}", at as f64 / 1000.0, end as f64 / 1000.0);
            ("/api/v1/query_range", form, mine)
        };
        let mut theirs = theirs(&peer.ask(path, &form).unwrap_or_default());
        if let Answer::Error(error) = &mut theirs
            && let Some(rest) = error.strip_prefix("invalid parameter \"query\": ")
        {
            *error = rest.to_owned();
        }
        let mine = ours(mine, at, &text);
        let ordered = path.ends_with("query") && ["sort", "topk", "bottomk"].iter().any(|word| text.starts_with(word));
        // The variance of large values is what cancellation leaves: the order of operands shows.
        let loose = text.contains("std");
        if !agree(
            &mine,
            &theirs,
            ordered,
            if strict {
                0.0
            } else if loose {
                1e-6
            } else {
                1e-12
            },
        ) {
            wrong += 1;
            let show = |a: &Answer| format!("{a:?}").chars().take(900).collect::<String>();
            let times = form.split_once("&").map_or("", |f| f.1);
            println!("--- {text}\n    {path} {times}\n  ours:   {}\n  theirs: {}", show(&mine), show(&theirs));
            if let (Answer::Series(a, x), Answer::Series(b, y)) = (&mine, &theirs) {
                x.iter().filter(|r| !y.contains(r)).for_each(|r| println!("  ours only: {r}"));
                y.iter().filter(|r| !x.contains(r)).for_each(|r| println!("  theirs only: {r}"));
                first_difference(a, b);
            }
        }
    }
    assert_eq!(wrong, 0, "of {total} expressions");
}
