//! The protobuf exposition in: classic series as text would give them, native histograms into the
//! store, and what is refused.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nightbell::config::{Document, Environment, Loader};
use nightbell::exposition::encode::render;
use nightbell::exposition::protobuf::{Expanded, Options, expand};
use nightbell::exposition::{Format, Item, Lines, labels};
use nightbell::model::native_histogram::ResetHint;
use nightbell::model::{LabelsBuilder, MetricKind, Timestamp, is_histogram, is_stale};
use nightbell::scrape::{Global, Plan, Scraper, read_jobs};
use nightbell::store::{Limits, Store};
use nightbell::telemetry::Telemetry;

use serde_json::Value;

use crate::servers::hostile::{Hostile, Manner, fields};
use crate::servers::nightbell::Nightbell;
use crate::servers::protobuf::{
    GAUGE, HISTOGRAM, Proto, delimited, everything, family, integer_histogram,
};
use crate::servers::{Server, free_port, wait_until};

const TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

fn options(native: bool, classic: bool) -> Options {
    Options {
        native,
        classic,
        bound: 1 << 20,
    }
}

fn read(body: &[u8], native: bool, classic: bool) -> Expanded {
    expand(body, &options(native, classic)).unwrap_or_else(|e| panic!("{e}"))
}

/// Every sample of a text page, `series value [timestamp]`.
fn samples(page: &str) -> Vec<String> {
    let mut lines = Lines::new(page.as_bytes(), Format::Text);
    let mut kind = MetricKind::Untyped;
    let mut out = Vec::new();
    while let Some(item) = lines.next(b"").unwrap_or_else(|e| panic!("{e} in {page}")) {
        match item {
            Item::Type(_, declared) => kind = declared,
            Item::Help(..) | Item::Unit(..) => {}
            Item::Sample(line) => {
                let mut builder = LabelsBuilder::new();
                labels(line.series, kind, &mut builder).expect("a series");
                out.push(format!(
                    "{} {} {:?}",
                    builder.build(),
                    line.value,
                    line.timestamp
                ));
            }
        }
    }
    out
}

/// SEMANTICS 38, 40: what text can say reads as the same series, spelled alike, missing `+Inf`
/// buckets added.
#[test]
fn classic_metrics_are_the_series_of_the_text_format() {
    let text = "# HELP requests_total Requests \"served\",\\nby code.\n# TYPE requests_total counter\nrequests_total{code=\"200\"} 1027\n\
                requests_total{code=\"a\\\"b\\\\c\\nd\"} NaN\n# TYPE depth gauge\ndepth -Inf\n# TYPE \"dotted.name\" untyped\n\
                {\"dotted.name\",\"utf8.name\"=\"ü\"} 12.75\n# TYPE rpc_seconds summary\nrpc_seconds_count{service=\"db\"} 3\n\
                rpc_seconds_sum{service=\"db\"} 17.5\nrpc_seconds{service=\"db\",quantile=\"0.5\"} 2\n\
                rpc_seconds{service=\"db\",quantile=\"1\"} 9.5\n# TYPE classic_seconds histogram\nclassic_seconds_count{path=\"/\"} 9\n\
                classic_seconds_sum{path=\"/\"} 33.5\nclassic_seconds_bucket{path=\"/\",le=\"0.1\"} 2\n\
                classic_seconds_bucket{path=\"/\",le=\"5\"} 7\nclassic_seconds_bucket{path=\"/\",le=\"+Inf\"} 9\n\
                classic_seconds_count{path=\"/x\"} 4\nclassic_seconds_sum{path=\"/x\"} 1\nclassic_seconds_bucket{path=\"/x\",le=\"1\"} 1\n\
                classic_seconds_bucket{path=\"/x\",le=\"+Inf\"} 4\n# TYPE stack_seconds untyped\nstack_seconds_count{path=\"/c\"} 9\n\
                stack_seconds_sum{path=\"/c\"} 33.5\nstack_seconds_bucket{path=\"/c\",le=\"0.1\"} 2\n\
                stack_seconds_bucket{path=\"/c\",le=\"5.0\"} 7\nstack_seconds_bucket{path=\"/c\",le=\"+Inf\"} 9\n";
    let expanded = read(&everything(), true, false);
    assert_eq!(samples(&expanded.text), samples(text));
    assert!(expanded.text.starts_with(
        "# HELP requests_total Requests \"served\",\\nby code.\n# TYPE requests_total counter\n"
    ));
    let stamped = Proto::new()
        .message(2, &Proto::new().double(1, 2.0))
        .uint(6, 1_700_000_000_123);
    assert_eq!(
        read(&family("a", "", GAUGE, &[stamped]), false, false).text,
        "# TYPE a gauge\na 2 1700000000123\n"
    );
    assert_eq!(
        read(b"", true, true).text,
        "",
        "an empty body is an empty page"
    );
}

#[test]
fn native_histograms_are_read_with_all_their_parts() {
    let expanded = read(&everything(), true, false);
    let shown: Vec<String> = expanded
        .histograms
        .iter()
        .map(|e| format!("{} {}", e.series, e.histogram))
        .collect();
    let integer = "{count:15, sum:20.5, [-0.7071067811865475,-0.5):1, [-0.001,0.001]:2, (0.7071067811865475,1]:3, \
                   (1,1.414213562373095]:5, (2.82842712474619,4]:4}";
    assert_eq!(
        shown,
        [
            format!("native_seconds{{path=\"/\"}} {integer}"),
            format!("native_seconds{{path=\"/both\"}} {integer}"),
            "float_seconds{path=\"/\"} {count:7.5, sum:NaN, [-1e-09,1e-09]:0.5, (16,64]:2.5, (64,256]:4.5}".to_owned(),
            format!("queue_seconds{{path=\"/\"}} {integer}"),
        ]
    );
    let hints: Vec<ResetHint> = expanded
        .histograms
        .iter()
        .map(|e| e.histogram.hint)
        .collect();
    assert_eq!(
        hints,
        [
            ResetHint::Unknown,
            ResetHint::Unknown,
            ResetHint::Unknown,
            ResetHint::Gauge
        ]
    );
    assert!(!is_stale(expanded.histograms[2].histogram.sum));
    let span = Proto::new().message(7, &Proto::new().span(12, 0, 0));
    assert_eq!(
        read(&family("fresh", "", HISTOGRAM, &[span]), true, false)
            .histograms
            .len(),
        1,
        "a span of length zero says native"
    );
}

/// `always_scrape_classic_histograms`, and a job that wants no native histograms.
#[test]
fn the_classic_side_of_a_native_histogram_is_kept_on_demand() {
    let body = family(
        "h",
        "",
        HISTOGRAM,
        &[Proto::new().message(7, &integer_histogram(true))],
    );
    let classic = [
        "h_count 15 None",
        "h_sum 20.5 None",
        "h_bucket{le=\"1.0\"} 5 None",
        "h_bucket{le=\"2.5\"} 11 None",
        "h_bucket{le=\"+Inf\"} 15 None",
    ];
    let both = read(&body, true, true);
    assert_eq!(
        (samples(&both.text), both.histograms.len()),
        (classic.map(str::to_owned).to_vec(), 1)
    );
    let neither = read(&body, false, false);
    assert_eq!(
        (samples(&neither.text), neither.histograms.len()),
        (classic.map(str::to_owned).to_vec(), 0)
    );
    let native = read(&body, true, false);
    assert_eq!(
        (samples(&native.text), native.histograms.len()),
        (vec![], 1)
    );
}

/// What Prometheus 3.5 exposes of itself, in both formats: the same series.
#[test]
fn a_real_page_reads_as_its_text_does() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exposition");
    let body = std::fs::read(format!("{folder}/prometheus.pb")).expect("recorded");
    let text = std::fs::read_to_string(format!("{folder}/prometheus.txt")).expect("recorded");
    let names = |page: &str| -> BTreeSet<String> {
        samples(page)
            .iter()
            .map(|s| s.rsplitn(3, ' ').nth(2).unwrap_or("").to_owned())
            .collect()
    };
    assert_eq!(names(&read(&body, false, false).text), names(&text));
    let native = read(&body, true, false).histograms;
    assert!(native.len() > 2, "{} native histograms", native.len());
    assert!(
        native
            .iter()
            .all(|e| e.histogram.count == 0.0 || !e.histogram.positive.is_empty())
    );
}

/// Whatever does not hold together is refused, and says where.
#[test]
fn broken_pages_are_refused() {
    let good = everything();
    let cut = |length: usize| expand(&good[..length], &options(true, true));
    assert!(
        cut(good.len() - 1).is_err_and(|e| e.to_string().contains("ends before the family does"))
    );
    let metric = |metric: Proto| family("a", "", GAUGE, &[metric]);
    let histogram =
        |histogram: Proto| family("a", "", HISTOGRAM, &[Proto::new().message(7, &histogram)]);
    let named = |unit: &str| {
        delimited(
            &Proto::new()
                .text(1, "a_bytes")
                .text(5, unit)
                .message(4, &Proto::new()),
        )
    };
    for (body, problem) in [
        (vec![0xff; 12], "ends before the family does"),
        (
            vec![0xff, 0xff, 0xff, 0xff, 0x0f],
            "ends before the family does",
        ),
        (family("", "", GAUGE, &[Proto::new()]), "it has no name"),
        (family("a", "", 9, &[Proto::new()]), "unknown metric type"),
        (
            delimited(&Proto::new().bytes(1, &[0xff]).message(4, &Proto::new())),
            "a text is not UTF-8",
        ),
        (named("seconds"), "does not end with its unit"),
        (metric(Proto::new().bytes(6, b"x")), "wrong type"),
        (metric(Proto::new().uint(6, -5_i64 as u64)), "before 1970"),
        (metric(Proto(vec![0x0b])), "wire type"),
        (metric(Proto(vec![0x00])), "no valid number"),
        (metric(Proto(vec![0x12, 0x7f])), "ends before its value"),
        (
            histogram(Proto::new().uint(1, 1).span(12, 0, 2).sints(13, &[1])),
            "spans need 2 buckets, have 1",
        ),
        (
            histogram(Proto::new().uint(1, 1).span(12, 0, 1).sints(13, &[-1])),
            "less than no observations",
        ),
        (
            histogram(Proto::new().uint(1, 2).span(12, 0, 1).sints(13, &[1])),
            "as many observations as its count",
        ),
        (
            histogram(Proto::new().sint(5, 9).span(12, 0, 0)),
            "unknown schema",
        ),
        (
            histogram(
                Proto::new()
                    .span(12, i64::from(i32::MAX), 1)
                    .span(12, 5, 1)
                    .sints(13, &[0, 0]),
            ),
            "range of bucket indexes",
        ),
        (
            histogram(Proto::new().span(12, 0, 0).sints(13, &vec![0; 100_001])),
            "more than 100,000 buckets",
        ),
        (
            histogram(Proto::new().span(12, 0, 0).double(6, f64::NAN)),
            "zero threshold",
        ),
        (
            histogram(Proto::new().span(12, 0, 0).message(16, &Proto(vec![0xff]))),
            "no whole key",
        ),
    ] {
        let error = expand(&body, &options(true, true))
            .expect_err(problem)
            .to_string();
        assert!(
            error.starts_with("metric family 1: ") && error.contains(problem),
            "{error} for {problem}"
        );
    }
}

/// A family name of a megabyte in front of a million samples, and a million tiny histograms, stay
/// within the bound.
#[test]
fn a_page_that_would_grow_is_refused_within_its_bound() {
    let long = "n".repeat(100_000);
    let many = vec![Proto::new(); 5000];
    let labels = Proto([0x0a, 0].repeat(400_000));
    for body in [
        family("l", "", GAUGE, &[labels]),
        family(&long, "", GAUGE, &many),
        family(
            "h",
            "",
            HISTOGRAM,
            &vec![Proto::new().message(7, &Proto::new().span(12, 0, 0)); 20_000],
        ),
    ] {
        let error = expand(&body, &options(true, false))
            .expect_err("too much")
            .to_string();
        assert!(
            error.contains("more memory than body_size_limit allows"),
            "{error}"
        );
    }
}

/// A scraper, its store, and what is there.
struct Run {
    scraper: Scraper,
    store: Arc<Store>,
    telemetry: Telemetry,
}

impl Run {
    fn new(configuration: &str) -> Self {
        let (store, telemetry) = (Arc::new(Store::new(Limits::default())), Telemetry::new());
        let run = Run {
            scraper: Scraper::new(store.clone(), &telemetry, tokio::runtime::Handle::current()),
            store,
            telemetry,
        };
        let document = Document::parse("nightbell.yml", configuration).expect("YAML");
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, std::path::Path::new("."));
        let root = loader.root();
        let block = root.section("global");
        let global = Global::read(block.as_ref());
        let plan = Plan {
            collectors: Vec::new(),
            jobs: read_jobs(&root, &global),
            own: None,
        };
        if let Some(block) = &block {
            block.finish();
        }
        root.finish();
        drop((block, root));
        run.scraper
            .apply(loader.finish(plan).unwrap_or_else(|e| panic!("{e}")));
        run
    }

    /// Series, and its samples as text: floats, `stale`, or histograms.
    fn content(&self) -> Vec<(String, Vec<String>)> {
        let mut found = Vec::new();
        let visit = |labels: &nightbell::model::Labels, window: nightbell::store::Window<'_>| {
            let shown = window.times.iter().zip(window.values).map(|(time, value)| {
                match window.histogram(*time) {
                    Some(histogram) => histogram.to_string(),
                    None if is_stale(*value) => "stale".into(),
                    None => {
                        assert!(!is_histogram(*value), "a marker without its histogram");
                        value.to_string()
                    }
                }
            });
            let labels = labels.to_builder().remove("instance").remove("job").build();
            found.push((labels.to_string(), shown.collect()));
            ControlFlow::Continue(())
        };
        self.store
            .select(&[], Timestamp::MIN, Timestamp::MAX, visit)
            .expect("readable");
        found.sort();
        found
    }

    fn of(&self, series: &str) -> Vec<String> {
        self.content()
            .into_iter()
            .find(|(name, _)| name == series)
            .map(|(_, samples)| samples)
            .unwrap_or_default()
    }

    async fn until(&self, what: &str, mut ready: impl FnMut(&Self) -> bool) {
        let start = std::time::Instant::now();
        while !ready(self) {
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "{what}: {:?} {:?}",
                self.content(),
                self.scraper.targets()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn config(server: &Hostile, more: &str) -> String {
    format!(
        "global: {{scrape_native_histograms: true}}\nscrape_configs:\n- {{job_name: fake, scrape_interval: 200ms, scrape_timeout: 200ms, \
         static_configs: [{{targets: [\"{}\"]}}]{more}}}\n",
        server.address
    )
}

fn serve(body: Vec<u8>) -> Manner {
    Manner::Serve(TYPE, body)
}

fn one(metrics: &[Proto]) -> Vec<u8> {
    family("h", "", HISTOGRAM, metrics)
}

const INTEGER: &str = "{count:15, sum:20.5, [-0.7071067811865475,-0.5):1, [-0.001,0.001]:2, (0.7071067811865475,1]:3, \
                       (1,1.414213562373095]:5, (2.82842712474619,4]:4}";

/// SEMANTICS 12, 13, 20, 22, 31: a native histogram is a sample like any other: labelled, counted,
/// marked when it goes or the scrape fails.
#[tokio::test]
async fn native_histograms_are_scraped_and_marked_as_floats_are() {
    let labelled = Proto::new()
        .label("job", "own")
        .message(7, &integer_histogram(true));
    let server = Hostile::start(serve(
        [one(&[labelled]), family("a", "", GAUGE, &[Proto::new()])].concat(),
    ));
    let run = Run::new(&config(&server, ""));
    let series = "h{exported_job=\"own\"}";
    run.until("two scrapes", |run| run.of(series).len() > 1)
        .await;
    assert!(run.of(series).iter().all(|sample| sample == INTEGER));
    assert_eq!(run.of("scrape_samples_scraped")[0], "2");
    assert_eq!(run.of("scrape_samples_post_metric_relabeling")[0], "2");
    assert_eq!(run.of("scrape_series_added")[..2], ["2", "0"]);
    let accept = fields(&server.heads()[0])["accept"].clone();
    assert_eq!(
        accept,
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
         application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    );
    server.become_(serve(family("a", "", GAUGE, &[Proto::new()])));
    run.until("it is marked", |run| {
        run.of(series).last().is_some_and(|s| s == "stale")
    })
    .await;
    assert_eq!(run.of("a").last().map(String::as_str), Some("0"));
    server.become_(serve(one(&[Proto::new()
        .label("job", "own")
        .message(7, &integer_histogram(false))])));
    run.until("it is back", |run| {
        run.of(series).last().is_some_and(|s| s == INTEGER)
    })
    .await;
    server.become_(serve(vec![0x7f]));
    run.until("a broken page", |run| {
        run.of("up").last().is_some_and(|s| s == "0")
    })
    .await;
    run.until("everything is marked", |run| {
        run.of(series).last().is_some_and(|s| s == "stale")
    })
    .await;
    let targets = run.scraper.targets();
    assert_eq!(
        targets[0].status.error,
        "metric family 1: the page ends before the family does"
    );
}

/// SEMANTICS 22, 25, 26, 27: honoured labels, relabelling, limits and duplicates hold for
/// histograms.
#[tokio::test]
async fn labels_limits_and_duplicates_hold_for_histograms() {
    let labelled = |job: &str| {
        Proto::new()
            .label("job", job)
            .message(7, &integer_histogram(false))
    };
    let server = Hostile::start(serve(one(&[labelled("x"), labelled("y"), labelled("x")])));
    let run = Run::new(&config(
        &server,
        ", honor_labels: true, metric_relabel_configs: [{source_labels: [job], regex: y, action: drop}, {target_label: job, replacement: z}]",
    ));
    run.until("a scrape", |run| run.of("up").len() > 1).await;
    assert_eq!(run.of("h")[0], INTEGER);
    assert_eq!(
        run.content()
            .iter()
            .filter(|(name, _)| name.starts_with('h'))
            .count(),
        1
    );
    assert_eq!(run.of("scrape_samples_scraped")[0], "3");
    assert!(
        run.telemetry
            .encode()
            .contains("nightbell_scrape_samples_repeated_total"),
        "{}",
        run.telemetry.encode()
    );
    for (more, error) in [
        (
            ", sample_limit: 2",
            "sample limit exceeded: 3 samples, at most 2 allowed (sample_limit of the configuration)",
        ),
        (
            ", label_limit: 2",
            "a sample of \"h\" has 4 labels, at most 2 allowed (label_limit of the configuration)",
        ),
        (
            ", body_size_limit: 20B",
            "too_large: answer is larger than 20 bytes",
        ),
        (
            ", native_histogram_bucket_limit: 1",
            "histogram bucket limit exceeded: 3 buckets, at most 1 allowed",
        ),
    ] {
        let run = Run::new(&config(&server, more));
        run.until(error, |run| {
            run.scraper
                .targets()
                .iter()
                .any(|t| t.status.error == error)
        })
        .await;
        assert!(run.of("h").is_empty(), "all or nothing");
    }
}

/// SEMANTICS 10, 11, 17, 24: histograms keep their own timestamps, get no markers then, and are
/// refused when they are too far ahead; `honor_timestamps: false` stamps them with the time of the
/// scrape.
#[tokio::test]
async fn timestamps_of_histograms_are_honoured() {
    let now = Timestamp::now().0;
    let stamped = |name: &str, at: i64| {
        family(
            name,
            "",
            HISTOGRAM,
            &[Proto::new()
                .message(7, &integer_histogram(false))
                .uint(6, at as u64)],
        )
    };
    let server = Hostile::start(serve(
        [stamped("past", now - 5000), stamped("far", now + 3_600_000)].concat(),
    ));
    let (honours, ignores) = (
        Run::new(&config(&server, "")),
        Run::new(&config(&server, ", honor_timestamps: false")),
    );
    for run in [&honours, &ignores] {
        run.until("two scrapes", |run| run.of("up").len() > 2).await;
    }
    assert_eq!(
        (honours.of("past"), honours.of("far")),
        (vec![INTEGER.to_owned()], vec![])
    );
    assert!(ignores.of("past").len() > 1 && ignores.of("far").len() > 1);
    assert!(honours.telemetry.encode().lines().any(|l| {
        l.starts_with("nightbell_scrape_samples_out_of_bounds_total ") && !l.ends_with(" 0")
    }));
    server.become_(serve(Vec::new()));
    for run in [&honours, &ignores] {
        run.until("an empty page", |run| {
            run.of("scrape_samples_scraped")
                .last()
                .is_some_and(|s| s == "0")
        })
        .await;
    }
    assert_eq!(honours.of("past"), [INTEGER], "it fades out");
    assert_eq!(ignores.of("past").last().map(String::as_str), Some("stale"));
}

/// SEMANTICS 15: the series of a target that is removed are marked, histograms too.
#[tokio::test]
async fn the_histograms_of_a_removed_target_are_marked() {
    let server = Hostile::start(serve(one(&[
        Proto::new().message(7, &integer_histogram(false))
    ])));
    let run = Run::new(&config(&server, ""));
    run.until("a scrape", |run| !run.of("h").is_empty()).await;
    run.scraper.apply(Plan {
        collectors: Vec::new(),
        jobs: Vec::new(),
        own: None,
    });
    run.until("it is marked", |run| {
        run.of("h").last().is_some_and(|s| s == "stale")
    })
    .await;
}

/// A job that wants coarser histograms gets them; one that does not want native ones asks for text,
/// and takes protobuf for classic ones.
#[tokio::test]
async fn a_job_says_what_it_wants_of_histograms() {
    let server = Hostile::start(serve(one(&[
        Proto::new().message(7, &integer_histogram(true))
    ])));
    let run = Run::new(&config(
        &server,
        ", native_histogram_min_bucket_factor: 2, always_scrape_classic_histograms: true",
    ));
    run.until("a scrape", |run| run.of("up").len() > 1).await;
    assert_eq!(
        run.of("h")[0],
        "{count:15, sum:20.5, [-1,-0.5):1, [-0.001,0.001]:2, (0.5,1]:3, (1,2]:5, (2,4]:4}"
    );
    assert_eq!(run.of("h_bucket{le=\"2.5\"}")[0], "11");
    let run = Run::new(&config(
        &server,
        ", scrape_native_histograms: false, scrape_protocols: [PrometheusProto]",
    ));
    run.until("a scrape", |run| run.of("up").len() > 1).await;
    assert!(run.of("h").is_empty());
    assert_eq!(run.of("h_count")[0], "15");
    assert!(
        fields(server.heads().last().expect("a request"))["accept"]
            .starts_with("application/vnd.google.protobuf;")
    );
    let run = Run::new(&config(&server, ", scrape_native_histograms: false"));
    run.until("a scrape", |run| run.of("up").len() > 1).await;
    // The job before it goes on asking, too.
    let text = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,";
    assert!(
        server
            .heads()
            .iter()
            .any(|head| fields(head)["accept"].starts_with(text))
    );
}

/// `convert_classic_histograms_to_nhcb`: from protobuf and from text; a page that shows what text
/// cannot carry leaves it out.
#[tokio::test]
async fn classic_histograms_become_native_ones_with_custom_bounds() {
    let classic = Proto::new()
        .uint(1, 9)
        .double(2, 33.5)
        .bucket(0.1, 2)
        .bucket(5.0, 7);
    let page = "# TYPE h histogram\nh_bucket{le=\"0.1\"} 2\nh_bucket{le=\"5\"} 7\nh_bucket{le=\"+Inf\"} 9\nh_sum 33.5\nh_count 9\n";
    for manner in [
        serve(one(&[Proto::new().message(7, &classic)])),
        Manner::Serve("text/plain", page.into()),
    ] {
        let server = Hostile::start(manner);
        let run = Run::new(&config(
            &server,
            ", convert_classic_histograms_to_nhcb: true",
        ));
        run.until("a scrape", |run| run.of("up").len() > 1).await;
        assert_eq!(
            run.of("h")[0],
            "{count:9, sum:33.5, [-Inf,0.1]:2, (0.1,5]:5, (5,+Inf]:2}"
        );
        assert!(run.of("h_count").is_empty());
        assert_eq!(run.of("scrape_samples_scraped")[0], "1");
        let run = Run::new(&config(
            &server,
            ", convert_classic_histograms_to_nhcb: true, always_scrape_classic_histograms: true",
        ));
        run.until("a scrape", |run| run.of("up").len() > 1).await;
        assert_eq!(
            (
                run.of("h").len() > 1,
                run.of("h_count")[0].as_str(),
                run.of("scrape_samples_scraped")[0].as_str()
            ),
            (true, "9", "6")
        );
    }
    let server = Hostile::start(serve(everything()));
    let run = Run::new(&config(&server, ""));
    run.until("a scrape", |run| run.of("up").len() > 1).await;
    let pages = run.scraper.pages();
    let shown = render(pages.iter().map(|page| &**page), Format::Text);
    assert!(
        shown.contains("classic_seconds_bucket") && !shown.contains("native_seconds"),
        "{shown}"
    );
    let metadata = run.scraper.metadata();
    let native = metadata
        .iter()
        .find(|family| family.name == "native_seconds")
        .expect("type and help are known");
    assert_eq!(native.kind, MetricKind::Histogram);
    let own = run.telemetry.encode();
    let counted = own.lines().find_map(|line| {
        line.strip_prefix("nightbell_scrape_native_histograms_total ")?
            .parse::<u64>()
            .ok()
    });
    assert!(
        counted.is_some_and(|count| count >= 4 && count % 4 == 0),
        "{own}"
    );
}

/// What is asked of both servers after they have scraped [`everything`] and Prometheus's own page.
/// The instant does not matter.
const QUESTIONS: &[&str] = &[
    "{job=\"fake\", __name__!~\"scrape_duration_seconds|scrape_series_added\"}",
    "histogram_count(native_seconds{job=\"fake\"})",
    "histogram_quantile(0.9, native_seconds{job=\"fake\"})",
    "{job=\"both\", __name__=~\"native_seconds.*|queue_seconds.*|stack.*|scrape_samples.*\"}",
    "{job=\"custom\", __name__=~\"(native|classic|rpc|queue|stack)_seconds.*|scrape_samples.*\"}",
    "{job=\"coarse\", __name__=~\"native_seconds|float_seconds\"}",
    "{job=\"real\", __name__=~\"prometheus_.*\"}",
];

/// The scrape configuration of both: `fake` and `real` are addresses.
fn scraped_twice(fake: &str, real: &str) -> String {
    let job = |name: &str, address: &str, more: &str| {
        format!(
            "- {{job_name: {name}, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{{targets: ['{address}'], labels: {{instance: i}}}}]{more}}}\n"
        )
    };
    [
        "scrape_configs:\n".to_owned(),
        job("fake", fake, ""),
        job("both", fake, ", always_scrape_classic_histograms: true"),
        job("custom", fake, ", convert_classic_histograms_to_nhcb: true"),
        job(
            "coarse",
            fake,
            ", native_histogram_bucket_limit: 3, native_histogram_min_bucket_factor: 1.2",
        ),
        job("real", real, ""),
    ]
    .concat()
}

/// An instant vector without its instants, in order.
fn timeless(answer: &Value) -> Vec<String> {
    let series = answer["data"]["result"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    let mut lines: Vec<String> = series
        .iter()
        .map(|series| {
            let sample = if series["value"].is_array() {
                &series["value"][1]
            } else {
                &series["histogram"][1]
            };
            format!("{} {}", series["metric"], sample)
        })
        .collect();
    lines.sort();
    lines
}

fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}

/// Both kinds of target, for as long as they are held.
fn targets() -> (Hostile, Hostile) {
    let real = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/exposition/prometheus.pb"
    ))
    .expect("recorded");
    (
        Hostile::start(serve(everything())),
        Hostile::start(serve(real)),
    )
}

/// The same target, scraped by Prometheus 3.5 and by nightbell, gives the same answers. What
/// Prometheus said is recorded in `tests/exposition/answers.json` by the test after this one.
#[test]
fn scraped_histograms_answer_as_in_prometheus() {
    let recorded = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/exposition/answers.json"
    ))
    .expect("recorded");
    let recorded: Vec<(String, Vec<String>)> = serde_json::from_slice(&recorded).expect("JSON");
    let (fake, real) = targets();
    let config = scraped_twice(&fake.address, &real.address);
    let nightbell = Nightbell::start(&format!(
        "rules: {{shipped: false}}\nglobal: {{scrape_native_histograms: true}}\n{config}"
    ));
    wait_until(
        "all targets are scraped twice",
        Duration::from_secs(30),
        || {
            let asked = nightbell.json(&format!(
                "/api/v1/query?query={}",
                percent("count_over_time(up{instance=\"i\"}[1h]) > 1")
            ));
            asked["data"]["result"]
                .as_array()
                .is_some_and(|found| found.len() == 5)
        },
    );
    assert_eq!(recorded.len(), QUESTIONS.len());
    for (question, want) in recorded {
        let got = timeless(&nightbell.json(&format!("/api/v1/query?query={}", percent(&question))));
        let different: Vec<_> = got
            .iter()
            .filter(|line| !want.contains(line))
            .chain(want.iter().filter(|line| !got.contains(line)))
            .collect();
        assert!(different.is_empty(), "{question}: {different:#?}");
        assert!(!want.is_empty(), "{question}");
    }
}

/// Asks Prometheus 3.5 and records its answers.
#[test]
#[ignore = "needs Prometheus 3.5 in the folder NIGHTBELL_TEST_PROMETHEUS"]
fn record_the_answers_of_prometheus() {
    let binary = std::path::PathBuf::from(
        std::env::var("NIGHTBELL_TEST_PROMETHEUS").expect("the folder of the binary"),
    )
    .join("prometheus");
    let folder = tempfile::tempdir().expect("a folder");
    let (fake, real) = targets();
    std::fs::write(
        folder.path().join("prometheus.yml"),
        scraped_twice(&fake.address, &real.address),
    )
    .expect("written");
    let port = free_port();
    let log = std::fs::File::create(folder.path().join("log")).expect("a file");
    let mut command = Command::new(binary);
    command.arg(format!(
        "--config.file={}",
        folder.path().join("prometheus.yml").display()
    ));
    command.arg(format!(
        "--storage.tsdb.path={}",
        folder.path().join("data").display()
    ));
    command.args([
        "--enable-feature=native-histograms",
        &format!("--web.listen-address=127.0.0.1:{port}"),
    ]);
    let _server = Server(command.stderr(log).spawn().expect("it starts"));
    let get = |path: &str| -> Option<Value> {
        let output = Command::new("curl")
            .args(["-s", &format!("http://127.0.0.1:{port}/api/v1/{path}")])
            .output()
            .expect("curl runs");
        serde_json::from_slice(&output.stdout).ok()
    };
    let ask = |query: &str| get(&format!("query?query={}", percent(query)));
    wait_until(
        "all targets are scraped twice",
        Duration::from_secs(60),
        || {
            let asked = ask("count_over_time(up{instance=\"i\"}[1h]) > 1");
            asked.is_some_and(|a| {
                a["data"]["result"]
                    .as_array()
                    .is_some_and(|found| found.len() == 5)
            })
        },
    );
    let targets = get("targets").expect("an answer");
    for target in targets["data"]["activeTargets"]
        .as_array()
        .expect("targets")
    {
        assert_eq!(target["lastError"], "", "{}", target["scrapePool"]);
    }
    let answers: Vec<(&str, Vec<String>)> = QUESTIONS
        .iter()
        .map(|q| (*q, timeless(&ask(q).expect("an answer"))))
        .collect();
    let text = serde_json::to_string_pretty(&answers).expect("JSON");
    std::fs::write(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exposition/answers.json"),
        text + "\n",
    )
    .expect("written");
}
