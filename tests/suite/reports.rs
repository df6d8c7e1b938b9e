//! Reports: their figures are those of the raw samples, computed apart by a few lines of Python;
//! their texts are golden; they are sent on a schedule and survive `kill -9`; a month is there when
//! the history has forgotten it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nightbell::model::{Labels, METRIC_NAME, Sample, Timestamp};
use nightbell::report::hours::{HOUR, Series, Span};
use nightbell::report::quantities::Quantity;
use nightbell::report::{Kind, Language, Last, Planned, Request, make};
use nightbell::store::{HistorySettings, Limits, Store};
use serde_json::{Value, json};

use crate::check_health::said;
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::smtp::Smtp;
use crate::servers::{python_tool, wait_until};

/// Seconds between two samples.
const STEP: i64 = 120;

fn labels(metric: &str, pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs([(METRIC_NAME, metric)].iter().chain(pairs).copied())
}

/// The series of the recorded history: a short name for Python, and the labels.
fn recorded_series() -> Vec<(&'static str, Labels)> {
    let app = [("job", "shop"), ("instance", "api")];
    let with = |metric: &str, more: (&str, &str)| labels(metric, &[app[0], app[1], more]);
    let host = [("job", "host"), ("instance", "db1")];
    let disk = [
        host[0],
        host[1],
        ("mountpoint", "/"),
        ("device", "sda1"),
        ("fstype", "ext4"),
    ];
    vec![
        ("up", labels("up", &app)),
        (
            "own",
            labels("up", &[("job", "nightbell"), ("instance", "n")]),
        ),
        (
            "requests_ok",
            with("http_requests_total", ("status", "200")),
        ),
        (
            "requests_404",
            with("http_requests_total", ("status", "404")),
        ),
        (
            "requests_500",
            with("http_requests_total", ("status", "500")),
        ),
        ("sum", labels("http_request_duration_seconds_sum", &app)),
        (
            "bucket_0.1",
            with("http_request_duration_seconds_bucket", ("le", "0.1")),
        ),
        (
            "bucket_0.5",
            with("http_request_duration_seconds_bucket", ("le", "0.5")),
        ),
        (
            "bucket_1",
            with("http_request_duration_seconds_bucket", ("le", "1")),
        ),
        (
            "bucket_+Inf",
            with("http_request_duration_seconds_bucket", ("le", "+Inf")),
        ),
        ("count", labels("http_request_duration_seconds_count", &app)),
        (
            "idle",
            labels(
                "node_cpu_seconds_total",
                &[host[0], host[1], ("mode", "idle"), ("cpu", "0")],
            ),
        ),
        ("available", labels("node_memory_MemAvailable_bytes", &host)),
        ("whole", labels("node_memory_MemTotal_bytes", &host)),
        ("free", labels("node_filesystem_avail_bytes", &disk)),
        ("size", labels("node_filesystem_size_bytes", &disk)),
        ("readonly", labels("node_filesystem_readonly", &disk)),
        ("log_error", with("log_lines_total", ("level", "error"))),
        ("llm_shop", model("count", "shop", "gpt-4o", None)),
        ("llm_agents", model("count", "agents", "gpt-4o", None)),
        ("llm_small", model("count", "agents", "gpt-4o-mini", None)),
        ("llm_seconds", model("sum", "agents", "gpt-4o-mini", None)),
        (
            "llm_tokens",
            model("tokens", "agents", "gpt-4o-mini", Some(("type", "input"))),
        ),
        (
            "llm_cost",
            model("cost", "agents", "gpt-4o-mini", Some(("currency", "USD"))),
        ),
        (
            "llm_errors",
            model("errors", "shop", "gpt-4o", Some(("error_class", "timeout"))),
        ),
    ]
}

/// A series of calls to a model.
fn model(what: &str, application: &str, model: &str, more: Option<(&str, &str)>) -> Labels {
    let metric = match what {
        "count" | "sum" => format!("gen_ai_call_duration_seconds_{what}"),
        _ => format!("gen_ai_{what}_total"),
    };
    let pairs = [
        ("job", "llm_proxy"),
        ("application", application),
        ("provider", "openai"),
        ("model", model),
        ("operation", "chat"),
    ];
    labels(&metric, &pairs.into_iter().chain(more).collect::<Vec<_>>())
}

/// Writes a history of `days` before `end`, with a gap and a restart of the counters, into
/// `folder`, and the same samples into a file.
fn record(folder: &Path, file: &Path, end: Timestamp, days: i64) {
    let settings = HistorySettings {
        path: folder.to_owned(),
        retention: Duration::from_secs(30 * 86_400),
        max_size: None,
    };
    let store = Store::open(Limits::default(), &settings, end).expect("opens");
    let series = recorded_series();
    let mut counters: BTreeMap<&str, f64> = BTreeMap::new();
    let mut text = String::new();
    let begin = end.0 / 1000 - days * 86_400;
    let mut noise: u64 = 0x9E37_79B9_7F4A_7C15;
    for at in (begin..=end.0 / 1000).step_by(STEP as usize) {
        let age = (end.0 / 1000 - at) as f64 / 86_400.0;
        // Twenty hours are missing, three days before the end.
        if (3.0..3.0 + 20.0 / 24.0).contains(&age) {
            continue;
        }
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let dice = (noise >> 33) as f64 / f64::from(1u32 << 31);
        let of_day = (at % 86_400) as f64 / 86_400.0 * std::f64::consts::TAU;
        let requests = (40.0 + 20.0 * of_day.sin() + 10.0 * dice).floor();
        if (5.0..5.0 + 1.0 / 24.0 / 30.0).contains(&age) {
            // The application starts anew.
            counters.retain(|name, _| *name == "idle");
        }
        let slow = (requests * 0.07).floor();
        let mut add = |name: &'static str, value: f64| {
            let counter = counters.entry(name).or_default();
            *counter += value;
            *counter
        };
        let used = 600.0 - 15.0 * age + 4.0 * dice;
        let values: Vec<(&str, f64)> = vec![
            ("up", 1.0),
            ("own", 1.0),
            ("requests_ok", add("requests_ok", requests - 3.0)),
            ("requests_404", add("requests_404", 2.0)),
            ("requests_500", add("requests_500", 1.0)),
            ("sum", add("sum", (requests - slow) * 0.2 + slow * 3.0)),
            ("bucket_0.1", add("bucket_0.1", (requests * 0.5).floor())),
            ("bucket_0.5", add("bucket_0.5", (requests * 0.8).floor())),
            ("bucket_1", add("bucket_1", requests - slow)),
            ("bucket_+Inf", add("bucket_+Inf", requests)),
            ("count", add("count", requests)),
            (
                "idle",
                add("idle", STEP as f64 * (0.6 + 0.2 * of_day.cos())),
            ),
            ("available", 40.0 + 10.0 * of_day.sin()),
            ("whole", 100.0),
            ("free", 1000.0 - used),
            ("size", 1000.0),
            ("readonly", 0.0),
            (
                "log_error",
                add("log_error", f64::from(u8::from(dice > 0.9))),
            ),
            ("llm_shop", add("llm_shop", requests)),
            ("llm_agents", add("llm_agents", 2.0)),
            ("llm_small", add("llm_small", (requests * 0.5).floor())),
            ("llm_seconds", add("llm_seconds", requests * 0.7)),
            ("llm_tokens", add("llm_tokens", requests * 100.0)),
            ("llm_cost", add("llm_cost", requests * 0.001)),
            (
                "llm_errors",
                add("llm_errors", f64::from(u8::from(dice > 0.8))),
            ),
        ];
        let samples: Vec<Sample> = series
            .iter()
            .map(|(name, labels)| {
                let value = values
                    .iter()
                    .find(|(known, _)| known == name)
                    .expect("a value")
                    .1;
                writeln!(text, "{name}\t{at}\t{value}").expect("a string");
                Sample {
                    labels: labels.clone(),
                    value,
                    timestamp: None,
                }
            })
            .collect();
        store.append(Timestamp(at * 1000), &samples);
    }
    assert!(store.flush(), "the history is written");
    drop(store);
    std::fs::write(file, text).expect("written");
}

/// What Python makes of the same samples.
fn computed(file: &Path, span: Span) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports/figures.py");
    let (start, end) = (span.from.0 / 1000, span.to().0 / 1000);
    let run = Command::new(python_tool("python"))
        .arg(script)
        .arg(file)
        .args([start.to_string(), end.to_string(), STEP.to_string()])
        .output()
        .expect("Python runs");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    serde_json::from_slice(&run.stdout).expect("JSON")
}

fn figure<'a>(report: &'a Value, name: &str) -> &'a Value {
    let figures = report["figures"]["figures"].as_array().expect("figures");
    figures
        .iter()
        .find(|figure| figure["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

fn near(name: &str, got: &Value, wanted: &Value, tolerance: f64) {
    match (got.as_f64(), wanted.as_f64()) {
        (Some(got), Some(wanted)) => {
            assert!(
                (got - wanted).abs() <= tolerance * wanted.abs(),
                "{name}: the report says {got}, the samples say {wanted}"
            );
        }
        _ => assert_eq!(got, wanted, "{name}"),
    }
}

#[test]
fn figures_of_reports_are_those_of_the_raw_samples_also_when_only_rollups_have_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("samples.tsv");
    let now = Timestamp(Timestamp::now().0 / 120_000 * 120_000 - 240_000);
    let history = folder.path().join("history");
    record(&history, &file, now, 20);
    let config = |path: &Path| {
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nstorage: {{path: '{}'}}\nrules: {{shipped: false}}\ncollectors: {{}}\n",
            path.display()
        )
    };
    let mut nightbell = Nightbell::start(&config(&history));
    let url = format!("http://127.0.0.1:{}", nightbell.port);
    let report = |kind: &str| -> Value {
        let (status, text) = said(&[
            "report", kind, "--last", "10d", "--format", "json", "--url", &url,
        ]);
        assert_eq!(status, 0, "{kind}: {text}");
        serde_json::from_str(&text).expect("JSON")
    };
    let check = |what: &str| {
        let period = report("period");
        let from = Timestamp::parse_rfc3339(period["figures"]["from"].as_str().expect("a time"))
            .expect("a time");
        let wanted = computed(&file, Span { from, hours: 240 });
        for name in [
            "requests",
            "requests_per_day",
            "requests_4xx",
            "requests_5xx_ratio",
            "response_mean_seconds",
            "response_p95_seconds",
            "cpu_mean_ratio",
            "memory_mean_ratio",
            "disk_mean_ratio",
            "disk_peak_ratio",
        ] {
            let got = figure(&period, name);
            near(
                &format!("{what}: {name}"),
                &got["value"],
                &wanted["now"][name],
                0.01,
            );
            near(
                &format!("{what}: {name} before"),
                &got["previous"],
                &wanted["before"][name],
                0.01,
            );
        }
        assert_eq!(
            figure(&period, "response_p95_seconds")["value"],
            json!({"beyond": 1.0}),
            "the buckets end at 1 s"
        );
        near(
            &format!("{what}: recorded"),
            &period["figures"]["recorded"],
            &wanted["now"]["recorded"],
            0.01,
        );
        near(
            &format!("{what}: errors"),
            &figure(&report("errors"), "errors")["value"],
            &wanted["now"]["errors"],
            0.02,
        );
        for (name, labels, key) in [
            (
                "llm_calls",
                json!({"application": "agents"}),
                "llm_of_agents",
            ),
            (
                "llm_calls",
                json!({"provider": "openai", "model": "gpt-4o"}),
                "llm_of_model",
            ),
            ("llm_calls", json!({}), "llm_calls"),
            (
                "llm_error_ratio",
                json!({"application": "shop"}),
                "llm_error_ratio",
            ),
            (
                "llm_mean_seconds",
                json!({"provider": "openai", "model": "gpt-4o-mini"}),
                "llm_mean_seconds",
            ),
            (
                "llm_tokens",
                json!({"application": "agents", "type": "input"}),
                "llm_tokens",
            ),
            ("llm_cost", json!({"currency": "USD"}), "llm_cost"),
        ] {
            let figures = period["figures"]["figures"].as_array().expect("figures");
            let got = figures
                .iter()
                .find(|figure| figure["name"] == name && figure["labels"] == labels)
                .unwrap_or_else(|| panic!("no {name} of {labels}"));
            let of = |when: &str| &wanted[when][key];
            near(&format!("{what}: {key}"), &got["value"], of("now"), 0.02);
            near(
                &format!("{what}: {key} before"),
                &got["previous"],
                of("before"),
                0.02,
            );
        }
        let capacity = report("capacity");
        let figures = capacity["figures"]["figures"].as_array().expect("figures");
        let disk = &figures
            .iter()
            .find(|figure| figure["name"] == "disk")
            .expect("the disk")["outlook"];
        assert_eq!(disk["state"], "trend", "{disk:#}");
        near(
            &format!("{what}: slope"),
            &disk["slopePerDay"],
            &wanted["disk"]["slope"],
            0.03,
        );
        near(
            &format!("{what}: fit"),
            &disk["fit"],
            &wanted["disk"]["fit"],
            0.01,
        );
    };
    check("from the history");
    let rolled = |nightbell: &Nightbell| {
        nightbell
            .metric("nightbell_rollups_until_timestamp_seconds")
            .unwrap_or(0.0)
    };
    let hour = |now: Timestamp| ((now.0 - 120_000) / HOUR * HOUR / 1000) as f64;
    wait_until("everything is rolled up", Duration::from_secs(60), || {
        rolled(&nightbell) >= hour(Timestamp::now())
    });
    check("from the rollups");
    // A history that has forgotten everything.
    nightbell.kill();
    nightbell.configure(&config(&folder.path().join("empty")));
    nightbell.restart();
    check("from the rollups alone, after kill -9");
    let (status, page) = said(&[
        "report",
        "period",
        "--last",
        "10d",
        "--format",
        "html",
        "--language",
        "zh",
        "--url",
        &url,
    ]);
    assert_eq!(status, 0, "{page}");
    assert!(
        page.contains("<svg")
            && page.contains("&gt; 1.00 s")
            && page.contains("性能分析报告")
            && !page.contains("<script"),
        "{page}"
    );
    let (status, text) = said(&["report", "period", "--last", "5m", "--url", &url]);
    assert_ne!(status, 0, "{text}");
    assert!(text.contains("an hour at least"), "{text}");
}

const CHAT: [(&str, &str); 4] = [
    ("job", "llm_proxy"),
    ("application", "shop"),
    ("provider", "openai"),
    ("model", "gpt-4o"),
];
const AGENT: [(&str, &str); 4] = [
    ("job", "otlp"),
    ("application", "agents"),
    ("provider", "deepseek"),
    ("model", "deepseek-chat"),
];
const EMBEDDING: [(&str, &str); 4] = [
    ("job", "llm_proxy"),
    ("application", "shop"),
    ("provider", "openai"),
    ("model", "text-embedding-3-small"),
];

/// A source with a few plain series, among them hostile labels.
fn plain(quantity: &Quantity, span: Span) -> Result<Vec<Series>, String> {
    let series = |pairs: &[(&str, &str)], value: &dyn Fn(usize) -> f64| Series {
        labels: Labels::from_pairs(pairs.iter().copied()),
        // Twelve hours of every period are missing.
        hours: (0..span.hours)
            .map(|hour| {
                if (30..42).contains(&hour) {
                    f64::NAN
                } else {
                    value(hour)
                }
            })
            .collect(),
    };
    let api = [("job", "shop"), ("instance", "api")];
    let earlier = span.to() < Timestamp::parse_rfc3339("2026-11-25T00:00:00Z").expect("a time");
    let requests = if earlier { 60.0 } else { 100.0 };
    let evil = "<img src=x onerror=alert(1)>|**b**";
    Ok(match quantity.name {
        "watched" => vec![
            series(&[("job", "nightbell"), ("instance", "n")], &|_| 1.0),
            series(&api, &|_| 1.0),
        ],
        "answered" => vec![series(&api, &|hour| if hour < 2 { 0.5 } else { 1.0 })],
        "requests" | "duration_count" => vec![series(&api, &|_| requests)],
        "requests_4xx" => vec![series(&api, &|_| 1.0)],
        "requests_5xx" => vec![series(&api, &|_| 2.0)],
        "duration_sum" => vec![series(&api, &|_| requests * 0.6)],
        "duration_buckets" => [("0.1", 0.5), ("1", 0.96), ("+Inf", 1.0)]
            .into_iter()
            .map(|(le, share)| series(&[api[0], api[1], ("le", le)], &|_| requests * share))
            .collect(),
        "cpu_mean" | "cpu_peak" => {
            vec![series(&[("job", "host"), ("instance", "db1")], &|hour| {
                0.3 + 0.4 * ((hour / 24 * 7919) % 11) as f64 / 11.0
            })]
        }
        "memory_mean" | "memory_peak" => {
            vec![series(&[("job", "host"), ("instance", "db1")], &|_| 0.5)]
        }
        "disk_mean" | "disk_peak" => {
            vec![series(
                &[
                    ("job", "host"),
                    ("instance", "db1"),
                    ("mountpoint", "/data"),
                ],
                &|hour| 0.6 + 0.0008 * hour as f64 + 0.01 * (hour / 24 * 7 % 5) as f64,
            )]
        }
        "connections_mean" | "connections_peak" => {
            vec![series(&[("job", "postgres"), ("instance", "pg")], &|_| {
                85.0
            })]
        }
        "pool_mean" | "pool_peak" => {
            vec![series(&[("job", "postgres"), ("instance", "pg")], &|_| {
                0.85
            })]
        }
        "balance" => vec![series(
            &[
                ("job", "llm"),
                ("instance", "deepseek"),
                ("currency", "CNY"),
            ],
            &|hour| 200.0 - hour as f64 * 0.5 + (hour / 24 % 3) as f64,
        )],
        "statement_seconds" => vec![series(&[("job", "postgres"), ("instance", "pg")], &|_| {
            50.0
        })],
        "statement_calls" => vec![series(&[("job", "postgres"), ("instance", "pg")], &|_| {
            1000.0
        })],
        "statement_top_seconds" | "statement_top_calls" => {
            let value = if quantity.name.ends_with("seconds") {
                30.0
            } else {
                10.0
            };
            vec![series(
                &[
                    ("job", "postgres"),
                    ("instance", "pg"),
                    ("datname", "shop"),
                    ("queryid", "-42"),
                ],
                &|_| value,
            )]
        }
        "alert_seconds" => vec![
            series(
                &[("alertname", "AppSlow"), ("severity", "warning")],
                &|hour| if hour < 12 { 120.0 } else { f64::NAN },
            ),
            series(&[("alertname", evil), ("severity", "critical")], &|hour| {
                if hour == 3 { 1800.0 } else { f64::NAN }
            }),
        ],
        "alert_begins" => vec![
            series(
                &[("alertname", "AppSlow"), ("severity", "warning")],
                &|hour| if hour < 12 { 1.0 } else { f64::NAN },
            ),
            series(&[("alertname", evil), ("severity", "critical")], &|hour| {
                if hour == 3 { 1.0 } else { f64::NAN }
            }),
        ],
        "log_lines" => vec![
            series(
                &[("job", "log_file"), ("instance", "app"), ("level", "error")],
                &|hour| if hour % 24 == 9 { 12.0 } else { 1.0 },
            ),
            series(
                &[("job", "log_file"), ("instance", "app"), ("level", "info")],
                &|_| 500.0,
            ),
        ],
        "log_errors" => vec![
            series(
                &[
                    ("job", "log_file"),
                    ("instance", "app"),
                    ("type", "Model API error"),
                ],
                &|_| 1.0,
            ),
            series(
                &[("job", "log_file"), ("instance", "app"), ("type", evil)],
                &|hour| if hour % 24 == 9 { 11.0 } else { f64::NAN },
            ),
        ],
        "llm_calls" | "llm_seconds" | "llm_errors" => {
            let factor = match quantity.name {
                "llm_calls" => 1.0,
                "llm_seconds" => 2.5,
                _ => 0.02,
            };
            let calls = requests * factor;
            vec![
                series(&CHAT, &|_| 3.0 * calls),
                series(&AGENT, &|_| calls),
                series(&EMBEDDING, &|_| 0.5 * calls),
            ]
        }
        "llm_tokens" => [("input", 900.0), ("output", 200.0), ("cache_read", 300.0)]
            .iter()
            .flat_map(|(kind, tokens)| {
                [CHAT, AGENT].map(|of| {
                    let of = [of[0], of[1], of[2], of[3], ("type", *kind)];
                    series(&of, &|_| tokens * requests)
                })
            })
            .collect(),
        "llm_cost" => vec![
            series(
                &[CHAT[0], CHAT[1], CHAT[2], CHAT[3], ("currency", "USD")],
                &|_| 0.25,
            ),
            series(
                &[AGENT[0], AGENT[1], AGENT[2], AGENT[3], ("currency", "CNY")],
                &|_| 3.0,
            ),
        ],
        "llm_buckets" => [("1", 0.4), ("5", 0.9), ("+Inf", 1.0)]
            .into_iter()
            .map(|(le, share)| {
                let of = [AGENT[0], AGENT[1], AGENT[2], AGENT[3], ("le", le)];
                series(&of, &|_| requests * share)
            })
            .collect(),
        "llm_unpriced" => vec![series(&[("job", "llm_proxy"), ("instance", "n")], &|_| 7.0)],
        "log_requests" => vec![series(&[("job", "log_file"), ("instance", "app")], &|_| {
            20.0
        })],
        "log_slow" => vec![series(
            &[("job", "log_file"), ("instance", "app")],
            &|hour| f64::from(u8::from(hour == 5)),
        )],
        _ => Vec::new(),
    })
}

fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reports")
        .join(name);
    if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, wanted,
        "{name}: NIGHTBELL_UPDATE=1 rewrites it; review the difference"
    );
}

#[test]
fn reports_are_as_they_were_agreed_on_in_both_languages() {
    let now = Timestamp::parse_rfc3339("2026-12-01T00:10:00Z").expect("a time");
    let tags = regex::Regex::new("<([a-zA-Z!/][a-zA-Z0-9]*)").expect("a pattern");
    for kind in [Kind::Period, Kind::Capacity, Kind::Errors] {
        for language in [Language::En, Language::Zh] {
            let zone =
                jiff::tz::TimeZone::get(language.pick("UTC", "Asia/Shanghai")).expect("a zone");
            let mut request = Request::new(
                kind,
                Last::parse("10d").expect("a time"),
                zone,
                language,
                now,
            );
            let (from, to) = (
                now - Duration::from_secs(90_000),
                now - Duration::from_secs(86_400),
            );
            request.windows = vec![Planned {
                from,
                to,
                comment: "upgrade <b>".into(),
                author: "li".into(),
            }];
            request.statements = BTreeMap::from([(
                "-42".to_owned(),
                "SELECT * FROM chat WHERE id = $1 | 2".to_owned(),
            )]);
            request.slowest = vec![(
                "app".into(),
                "2026-11-30 09:00:01 GET /chat?q=<script>alert(1)</script> 7.2 s".into(),
            )];
            let document = make(&request, &plain).expect("a report");
            let name = format!("{}.{}", kind.as_str(), language.as_str());
            golden(&format!("{name}.md"), &document.markdown());
            golden(
                &format!("{name}.json"),
                &format!("{:#}\n", document.json()["figures"]),
            );
            let page = document.html(true);
            let known = "!DOCTYPE html head meta title style body h1 h2 p br ul li table tr th td figure svg text line path rect";
            for tag in tags.captures_iter(&page) {
                assert!(
                    known
                        .split(' ')
                        .any(|known| tag[1].trim_start_matches('/') == known),
                    "{name}: {}",
                    &tag[0]
                );
            }
            assert!(
                !page.contains("@import") && !page.contains("url("),
                "{name}: it loads nothing"
            );
            assert!(
                page.matches("<svg").count() > 0 && !document.html(false).contains("<svg"),
                "{name}"
            );
        }
    }
}

#[test]
fn a_report_on_a_schedule_reaches_webhook_and_mail_although_the_process_is_killed() {
    let (hook, mail) = (
        HttpSink::start([Reply::Answer(503, "", "not now")]),
        Smtp::start(&json!({})),
    );
    let mut nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s, smtp_smarthost: '127.0.0.1:{}', smtp_from: bell@example.org, smtp_require_tls: false}}\n\
         route: {{receiver: nobody}}\nreceivers:\n- name: nobody\n- name: ops\n  webhook_configs: [{{url: '{}/hook'}}]\n  email_configs: [{{to: ops@example.org}}]\n\
         reports: [{{kind: period, every: 1s, last: 7d, language: zh, receiver: ops}}]\ncollectors: {{}}\n",
        mail.port, hook.url
    ));
    let first = mail.mail();
    let text = first.to_string();
    assert!(text.contains(r#"["Subject","性能分析报告"]"#), "{text}");
    assert!(text.contains("数据完整性"), "{text}");
    assert_eq!(
        text.matches(r#""type":"text/html""#).count(),
        2,
        "the same as HTML, and the page with charts: {text}"
    );
    wait_until("the webhook is asked", Duration::from_secs(60), || {
        !hook.requests().is_empty()
    });
    let refused: Value = serde_json::from_str(&hook.requests()[0].body).expect("JSON");
    nightbell.kill();
    hook.answer(Reply::Answer(200, "", "{}"));
    nightbell.restart();
    let accepted = || {
        let requests = hook.requests();
        let bodies = requests
            .iter()
            .filter(|request| request.answered == Some(200));
        bodies
            .filter_map(|request| serde_json::from_str::<Value>(&request.body).ok())
            .collect::<Vec<_>>()
    };
    wait_until(
        "the report that was refused comes after the restart",
        Duration::from_secs(90),
        || {
            accepted()
                .iter()
                .any(|body| body["groupKey"] == refused["groupKey"])
        },
    );
    let report = &accepted()[0]["report"];
    assert_eq!(report["title"], "性能分析报告");
    assert!(
        report["markdown"]
            .as_str()
            .expect("Markdown")
            .starts_with("# 性能分析报告"),
        "{report:#}"
    );
    assert!(
        report["html"]
            .as_str()
            .expect("HTML")
            .starts_with("<!DOCTYPE html>"),
        "{report:#}"
    );
}

#[test]
fn mistakes_in_scheduled_reports_are_said_by_check_config() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("n.yml");
    let text = "route: {receiver: ops}\nreceivers: [{name: ops}]\nreports:\n- {kind: weekly, every: week, receiver: ops}\n\
                - {kind: period, receiver: nobody}\n- {kind: errors, every: fortnight, receiver: ops, last: 2y}\n- {kind: capacity, every: month, receiver: ops, language: fr}\n";
    std::fs::write(&file, text).expect("written");
    let (status, said) = said(&["check", "config", &file.display().to_string()]);
    assert_eq!(status, 1, "{said}");
    for expected in [
        "\"weekly\" is no report",
        "has no time",
        "\"nobody\" is not a receiver",
        "\"fortnight\" is no time",
        "400d at most",
        "\"fr\" is not known",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
