//! Random expressions over random samples, answered by the engine and by a real Prometheus; every
//! answer, error and remark must agree.
//!
//! Not part of the ordinary run, because it needs Prometheus 3.5 (Debian 12 carries an older one,
//! which differs):
//!
//! ```text
//! NIGHTBELL_TEST_PROMETHEUS=/folder/with/prometheus cargo test --test suite promql_differential -- --ignored --nocapture
//! ```
//!
//! `NIGHTBELL_TEST_SEED` and `NIGHTBELL_TEST_COUNT` choose what is generated;
//! `NIGHTBELL_TEST_EXPRESSIONS` names a file with an expression a line to ask instead;
//! `NIGHTBELL_TEST_STRICT=1` wants every bit equal. A difference becomes a case in `tests/promql/`.
//!
//! Some of the differences that remain are Prometheus's own: where native histograms follow a stale
//! marker in a range it shows buckets of another sample (their sum is not the count, or it fails
//! with "index out of range"), a bucket that came later in a chunk stands empty in the samples
//! before it (seen by `* NaN`, by quantiles in the zero bucket and by `changes`), `info` takes the
//! labels of another series at a step at which one is missing, and `timestamp(x @ t offset d)`
//! looks at `t`, where the samples of `t - d` were fetched.

mod answer;
mod data;
pub mod generator;
mod peer;
pub mod random;

use std::path::PathBuf;
use std::time::Duration;

use nightbell::model::{HistogramSample, Sample, Timestamp};
use nightbell::promql::{Engine, ParseOptions, parse_with};
use nightbell::store::{Limits, Store};

use answer::{Answer, agree, first_difference, ours, theirs};
use data::{START, Value};
use generator::Generator;
use peer::Peer;
use random::Random;

/// SEMANTICS part B as a whole.
#[test]
#[ignore = "needs Prometheus 3.5 in the folder NIGHTBELL_TEST_PROMETHEUS"]
fn random_expressions_have_prometheus_answers() {
    let binaries = PathBuf::from(
        std::env::var("NIGHTBELL_TEST_PROMETHEUS")
            .expect("NIGHTBELL_TEST_PROMETHEUS names the folder of the binary"),
    );
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .ok()
            .and_then(|v| v.parse().ok())
            .unwrap_or(default)
    };
    let given = std::env::var("NIGHTBELL_TEST_EXPRESSIONS")
        .ok()
        .map(|path| std::fs::read_to_string(path).expect("the file can be read"));
    let given: Option<Vec<&str>> = given
        .as_deref()
        .map(|text| text.lines().filter(|l| !l.trim().is_empty()).collect());
    let strict = number("NIGHTBELL_TEST_STRICT", 0) == 1;
    let mut random = Random(number("NIGHTBELL_TEST_SEED", 1));
    let series = data::series(&mut random);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let peer = Peer::start(&binaries, folder.path(), &series);
    let store = Store::new(Limits::default());
    for one in &series {
        for (time, value) in &one.points {
            let labels = one.labels.clone();
            match value {
                Value::Float(value) => drop(store.append(
                    Timestamp(*time),
                    &[Sample {
                        labels,
                        value: *value,
                        timestamp: None,
                    }],
                )),
                Value::Histogram(histogram) => {
                    let histogram = histogram.clone();
                    drop(store.append_histograms(
                        Timestamp(*time),
                        &[HistogramSample {
                            labels,
                            histogram,
                            timestamp: None,
                        }],
                    ));
                }
            }
        }
    }
    let engine = Engine::default();
    let options = ParseOptions { experimental: true };
    let total = given
        .as_ref()
        .map_or(number("NIGHTBELL_TEST_COUNT", 3000), |lines| {
            lines.len() as u64
        });
    let mut wrong = 0;
    for index in 0..total {
        let depth = 1 + random.below(3);
        let text = match &given {
            Some(lines) => lines[index as usize].to_owned(),
            None => Generator {
                random: &mut random,
            }
            .query(depth),
        };
        let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
        let at = START + 300_000 + random.below(3_300) as i64 * 1000;
        let expr = parse_with(&text, options);
        let (path, form, mine) = if random.chance(50) {
            let mine = expr.map_err(|e| e.to_string()).and_then(|e| {
                engine
                    .instant(&store, &e, Timestamp(at))
                    .map_err(|e| e.to_string())
            });
            (
                "/api/v1/query",
                format!("query={encoded}&time={}", at as f64 / 1000.0),
                mine,
            )
        } else {
            let (step, end) = ([15, 60, 77][random.below(3)], at + 1_200_000);
            let mine = expr.map_err(|e| e.to_string()).and_then(|e| {
                engine
                    .range(
                        &store,
                        &e,
                        Timestamp(at),
                        Timestamp(end),
                        Duration::from_secs(step),
                    )
                    .map_err(|e| e.to_string())
            });
            let form = format!(
                "query={encoded}&start={}&end={}&step={step}",
                at as f64 / 1000.0,
                end as f64 / 1000.0
            );
            ("/api/v1/query_range", form, mine)
        };
        let mut theirs = theirs(&peer.ask(path, &form).unwrap_or_default());
        if let Answer::Error(error) = &mut theirs
            && let Some(rest) = error.strip_prefix("invalid parameter \"query\": ")
        {
            *error = rest.to_owned();
        }
        let mine = ours(mine, at, &text);
        let ordered = path.ends_with("query")
            && ["sort", "topk", "bottomk"]
                .iter()
                .any(|word| text.starts_with(word));
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
            println!(
                "--- {text}\n    {path} {times}\n  ours:   {}\n  theirs: {}",
                show(&mine),
                show(&theirs)
            );
            if let (Answer::Series(a, x), Answer::Series(b, y)) = (&mine, &theirs) {
                x.iter()
                    .filter(|r| !y.contains(r))
                    .for_each(|r| println!("  ours only: {r}"));
                y.iter()
                    .filter(|r| !x.contains(r))
                    .for_each(|r| println!("  theirs only: {r}"));
                first_difference(a, b);
            }
        }
    }
    assert_eq!(wrong, 0, "of {total} expressions");
}
