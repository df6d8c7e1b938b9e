//! OpenTelemetry's protocol: payloads as an SDK writes them, in Protocol Buffers and in JSON,
//! posted to the built binary; what becomes of them, and how it answers. The payloads are made by
//! `tests/tools/record_otlp.py`.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::servers::nightbell::Nightbell;
use super::servers::wait_until;

const CONFIG: &str =
    "rules: {shipped: false}\ncollectors:\n  otlp: {interval: 1s, timeout: 1s, max_body: 8MiB}\n";
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// Posts a body; status, head in lower case, and body of the answer.
fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    headers
        .iter()
        .for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream
        .write_all(format!("{head}\r\n").as_bytes())
        .expect("sent");
    // A refusal may come before all is read.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    (
        status,
        head,
        answer.get(end + 4..).unwrap_or_default().to_vec(),
    )
}

/// Starts with this configuration; waits until it takes something.
fn started(config: &str) -> Nightbell {
    let nightbell = Nightbell::start(config);
    wait_until("the collector has begun", Duration::from_secs(30), || {
        post(nightbell.port, "/v1/logs", &[("Content-Type", JSON)], b"{}").0 == 200
    });
    nightbell
}

fn sent(nightbell: &Nightbell, signal: &str, body: &Value) -> Value {
    let (status, head, answer) = post(
        nightbell.port,
        &format!("/v1/{signal}"),
        &[("Content-Type", JSON)],
        body.to_string().as_bytes(),
    );
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    assert!(head.contains("content-type: application/json"), "{head}");
    serde_json::from_slice(&answer).expect("JSON")
}

/// The value of an expression that has one result; NaN where it has none.
fn value(nightbell: &Nightbell, query: &str) -> f64 {
    let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let answer = nightbell.json(&format!("/api/v1/query?query={query}"));
    let results = answer["data"]["result"].as_array().expect("results");
    assert!(results.len() < 2, "{answer}");
    results
        .first()
        .and_then(|result| result["value"][1].as_str()?.parse().ok())
        .unwrap_or(f64::NAN)
}

fn wait_for(nightbell: &Nightbell, query: &str, wanted: f64) {
    wait_until(
        &format!("{query} is {wanted}"),
        Duration::from_secs(30),
        || value(nightbell, query) == wanted,
    );
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/collectors/otlp")
}

/// What applications have sent, one series a line. What names no service gets the labels of the
/// target here, and none at Prometheus.
fn received(nightbell: &Nightbell) -> BTreeSet<String> {
    let answer = nightbell.json("/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D");
    let mut lines = BTreeSet::new();
    for result in answer["data"]["result"].as_array().expect("results") {
        let mut labels = result["metric"].as_object().expect("labels").clone();
        let name = labels["__name__"].as_str().expect("a name").to_owned();
        let own = [
            "otlp_",
            "gen_ai_",
            "nightbell_",
            "scrape_",
            "up",
            "process_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix));
        if own {
            continue;
        }
        labels.retain(|name, value| {
            !(["job", "instance"].contains(&name.as_str()) && value == "otlp")
        });
        let pairs: std::collections::BTreeMap<_, _> = labels.iter().collect();
        let shown: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let number = |value: &Value| {
            format!(
                "{:?}",
                value
                    .as_str()
                    .and_then(|text| text.parse::<f64>().ok())
                    .unwrap_or(f64::NAN)
            )
        };
        let worth = match result.get("histogram") {
            None => number(&result["value"][1]),
            Some(histogram) => {
                let histogram = &histogram[1];
                let buckets = histogram["buckets"].as_array().cloned().unwrap_or_default();
                let buckets: Vec<String> = buckets
                    .iter()
                    .map(|b| format!("{}..{}={}", number(&b[1]), number(&b[2]), number(&b[3])))
                    .collect();
                format!(
                    "count={} sum={} {}",
                    number(&histogram["count"]),
                    number(&histogram["sum"]),
                    buckets.join(" ")
                )
                .trim_end()
                .to_owned()
            }
        };
        lines.insert(format!("{{{}}} {worth}", shown.join(", ")));
    }
    lines
}

#[test]
fn payloads_become_the_series_that_prometheus_makes_of_them_in_both_forms() {
    let files = |extension: &str| {
        let mut found: Vec<PathBuf> = std::fs::read_dir(folder())
            .expect("the folder")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        found.retain(|path| path.extension().is_some_and(|known| known == extension));
        found.sort();
        assert!(found.len() >= 8, "{found:?}");
        found
    };
    let expected = folder().join("payloads.expected");
    for (extension, kind) in [("pb", PROTOBUF), ("json", JSON)] {
        let nightbell = started(CONFIG);
        for file in files(extension) {
            let (status, head, answer) = post(
                nightbell.port,
                "/v1/metrics",
                &[("Content-Type", kind)],
                &std::fs::read(&file).expect("readable"),
            );
            assert_eq!(
                status,
                200,
                "{}: {}",
                file.display(),
                String::from_utf8_lossy(&answer)
            );
            assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        }
        wait_for(&nightbell, "lat_seconds_count", 4.0);
        wait_for(&nightbell, "here", 1.0);
        let lines = received(&nightbell);
        if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
            std::fs::write(
                &expected,
                lines
                    .iter()
                    .map(|line| format!("{line}\n"))
                    .collect::<String>(),
            )
            .expect("written");
        }
        let wanted: BTreeSet<String> = std::fs::read_to_string(&expected)
            .expect("readable")
            .lines()
            .map(str::to_owned)
            .collect();
        let (missing, more): (Vec<_>, Vec<_>) = (
            wanted.difference(&lines).collect(),
            lines.difference(&wanted).collect(),
        );
        assert!(
            missing.is_empty() && more.is_empty(),
            "{extension}: missing {missing:#?}, more {more:#?}"
        );
    }
}

fn number(name: &str, worth: f64, time: u64, temporality: u8) -> Value {
    let start = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos() as u64;
    let point = json!({"asDouble": worth, "timeUnixNano": (start + time).to_string(), "startTimeUnixNano": "1735689600000000000"});
    let sum =
        json!({"dataPoints": [point], "aggregationTemporality": temporality, "isMonotonic": true});
    json!({"resourceMetrics": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]},
        "scopeMetrics": [{"metrics": [{"name": name, "sum": sum}]}]}]})
}

#[test]
fn what_is_sent_again_is_set_and_what_came_since_the_last_time_is_added() {
    let nightbell = started(CONFIG);
    let cumulative = number("c", 7.0, 0, 2);
    let delta = number("d", 3.0, 0, 1);
    for _ in 0..3 {
        sent(&nightbell, "metrics", &cumulative);
        sent(&nightbell, "metrics", &delta);
    }
    sent(&nightbell, "metrics", &number("d", 4.0, 10, 1));
    wait_for(&nightbell, "d_total", 7.0);
    wait_for(&nightbell, "c_total", 7.0);
    // An export that was overtaken changes nothing; a restart of the application sets the counter
    // back.
    sent(&nightbell, "metrics", &number("c", 1.0, 1_000_000_000, 2));
    wait_for(&nightbell, "c_total", 1.0);
    sent(&nightbell, "metrics", &cumulative);
    let refused = sent(&nightbell, "metrics", &number("u", 1.0, 0, 0));
    assert_eq!(
        refused["partialSuccess"]["rejectedDataPoints"], "1",
        "{refused}"
    );
    assert!(
        refused["partialSuccess"]["errorMessage"]
            .as_str()
            .is_some_and(|text| text.contains("temporality")),
        "{refused}"
    );
    wait_for(
        &nightbell,
        "otlp_items_rejected_total{reason=\"temporality\"}",
        1.0,
    );
    assert_eq!(value(&nightbell, "c_total"), 1.0);
}

#[test]
fn a_series_of_which_nothing_comes_ends() {
    let nightbell = started(&CONFIG.replace("max_body: 8MiB", "stale_after: 2s"));
    sent(&nightbell, "metrics", &number("c", 7.0, 0, 2));
    wait_for(&nightbell, "c_total", 7.0);
    wait_until("it ends", Duration::from_secs(30), || {
        value(&nightbell, "c_total").is_nan()
    });
}

#[test]
fn answers_are_those_of_the_specification() {
    let nightbell = started(CONFIG);
    let ask = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        post(nightbell.port, path, headers, body)
    };
    for signal in ["metrics", "traces", "logs"] {
        let path = format!("/v1/{signal}");
        assert_eq!(
            ask(&path, &[("Content-Type", PROTOBUF)], b"").0,
            200,
            "an empty request succeeds"
        );
        assert_eq!(
            ask(&path, &[("Content-Type", PROTOBUF)], b"\xff\xff\xff").0,
            400
        );
        let (status, head, body) = ask(
            &path,
            &[("Content-Type", JSON)],
            b"{\"resourceMetrics\": [{\"x\": sk-secret",
        );
        assert_eq!(status, 400);
        assert!(
            head.contains("content-type: application/json")
                && !String::from_utf8_lossy(&body).contains("secret"),
            "{head}"
        );
        assert!(serde_json::from_slice::<Value>(&body).expect("JSON")["message"].is_string());
        assert_eq!(ask(&path, &[("Content-Type", "text/plain")], b"x").0, 415);
        assert_eq!(
            ask(
                &path,
                &[("Content-Type", PROTOBUF), ("Content-Encoding", "br")],
                b"x"
            )
            .0,
            415
        );
        assert_eq!(
            ask(
                &path,
                &[("Content-Type", PROTOBUF), ("Content-Encoding", "gzip")],
                b"no gzip"
            )
            .0,
            400
        );
    }
    assert_eq!(nightbell.get("/v1/metrics").0, 405);
    let elsewhere = [("Content-Type", JSON), ("Origin", "http://evil.example")];
    assert_eq!(
        ask("/v1/metrics", &elsewhere, b"{}").0,
        403,
        "a page of another site"
    );
    let whole = std::fs::read(folder().join("sums.pb")).expect("readable");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&whole).expect("in memory");
    let gzip = gzip.finish().expect("in memory");
    assert_eq!(
        ask(
            "/v1/metrics",
            &[("Content-Type", PROTOBUF), ("Content-Encoding", "gzip")],
            &gzip
        )
        .0,
        200
    );
    wait_for(&nightbell, "queue{job=\"chat\"}", 3.0);
}

#[test]
fn it_is_off_unless_configured_and_takes_its_own_token() {
    let nightbell = Nightbell::start("rules: {shipped: false}\ncollectors: {}\n");
    assert_eq!(
        post(
            nightbell.port,
            "/v1/metrics",
            &[("Content-Type", JSON)],
            b"{}"
        )
        .0,
        404
    );
    let config = "web: {admin_token: administrator}\nrules: {shipped: false}\ncollectors:\n  otlp: {interval: 1s, timeout: 1s, token: sender}\n";
    nightbell.configure(config);
    nightbell.signal("-HUP");
    wait_until("it takes something", Duration::from_secs(30), || {
        let sends = |token: &str| {
            post(
                nightbell.port,
                "/v1/logs",
                &[("Content-Type", JSON), ("Authorization", token)],
                b"{}",
            )
            .0
        };
        sends("Bearer sender") == 200 && sends("") == 401
    });
    for (token, status) in [("administrator", 200), ("other", 401), ("", 401)] {
        let headers = [
            ("Content-Type", JSON),
            ("Authorization", &*format!("Bearer {token}")),
        ];
        assert_eq!(
            post(nightbell.port, "/v1/metrics", &headers, b"{}").0,
            status,
            "{token}"
        );
    }
}

#[test]
fn hostile_payloads_cost_the_sender_only() {
    let nightbell = started(&CONFIG.replace("max_body", "series: 500, max_body"));
    let gzip = |body: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(body).expect("in memory");
        gzip.finish().expect("in memory")
    };
    let bomb = gzip(&vec![0; 30 << 20]);
    let (status, _, _) = post(
        nightbell.port,
        "/v1/traces",
        &[("Content-Type", PROTOBUF), ("Content-Encoding", "gzip")],
        &bomb,
    );
    assert_eq!(status, 413);
    assert!(
        [413, 0].contains(
            &post(
                nightbell.port,
                "/v1/metrics",
                &[("Content-Type", JSON)],
                &vec![b' '; 11 << 20]
            )
            .0
        )
    );
    // A million attributes on one span, and on one point.
    let attributes = "{\"key\":\"a\"},".repeat(500_000);
    let attributes = attributes.trim_end_matches(',');
    let spans = format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"attributes\":[{attributes}]}}]}}]}}]}}"
    );
    assert_eq!(
        post(
            nightbell.port,
            "/v1/traces",
            &[("Content-Type", JSON), ("Content-Encoding", "gzip")],
            &gzip(spans.as_bytes())
        )
        .0,
        200
    );
    let points = format!(
        "{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{{\"name\":\"m\",\"gauge\":{{\"dataPoints\":[{{\"asInt\":1,\"attributes\":[{attributes}]}}]}}}}]}}]}}]}}"
    );
    let (status, _, body) = post(
        nightbell.port,
        "/v1/metrics",
        &[("Content-Type", JSON), ("Content-Encoding", "gzip")],
        &gzip(points.as_bytes()),
    );
    assert_eq!(
        (
            status,
            String::from_utf8_lossy(&body).contains("\"rejectedDataPoints\":\"1\"")
        ),
        (200, true)
    );
    // Deep nesting.
    let deep = format!("{{\"resourceMetrics\":{}", "[".repeat(100_000));
    assert_eq!(
        post(
            nightbell.port,
            "/v1/metrics",
            &[("Content-Type", JSON)],
            deep.as_bytes()
        )
        .0,
        400
    );
    // More series than there is room for: what fits is taken, the sender hears of the rest.
    let points: Vec<Value> =
        (0..2000).map(|n| json!({"asInt": n, "attributes": [{"key": "n", "value": {"intValue": n.to_string()}}]})).collect();
    let many = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "many", "gauge": {"dataPoints": points}}]}]}]});
    let answer = sent(&nightbell, "metrics", &many);
    assert_eq!(
        answer["partialSuccess"]["rejectedDataPoints"], "1500",
        "{answer}"
    );
    wait_for(&nightbell, "otlp_series", 500.0);
    wait_for(&nightbell, "count(many)", 500.0);
    wait_for(
        &nightbell,
        "otlp_items_rejected_total{reason=\"series_limit\"}",
        1500.0,
    );
    assert!(
        value(&nightbell, "up{job=\"otlp\"}") == 1.0,
        "the collector itself is well"
    );
}

/// A span in JSON, a second long; identifiers from numbers.
fn span(id: u64, parent: u64, attributes: &[(&str, Value)], more: &Value) -> Value {
    let attributes: Vec<Value> = attributes
        .iter()
        .map(|(key, value)| match value {
            Value::String(text) => json!({"key": key, "value": {"stringValue": text}}),
            Value::Number(number) => json!({"key": key, "value": {"intValue": number.to_string()}}),
            other => json!({"key": key, "value": {"arrayValue": {"values": [{"stringValue": other.to_string()}]}}}),
        })
        .collect();
    let mut span = json!({"traceId": format!("{:032x}", 1), "spanId": format!("{id:016x}"), "parentSpanId": format!("{parent:016x}"), "name": "x",
        "startTimeUnixNano": "1735689600000000000", "endTimeUnixNano": "1735689601000000000", "attributes": attributes});
    if let Some(more) = more.as_object() {
        more.iter()
            .for_each(|(key, value)| span[key] = value.clone());
    }
    span
}

fn trace(service: &str, spans: Vec<Value>) -> Value {
    json!({"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"spans": spans}]}]})
}

#[test]
fn spans_of_old_and_new_conventions_become_one_set_of_series_without_their_texts() {
    const SECRET: &str = "the prompt that nobody may see";
    let mut nightbell = started(CONFIG);
    let texts = [
        ("gen_ai.prompt.0.content", json!(SECRET)),
        ("gen_ai.input.messages", json!(SECRET)),
        ("traceloop.entity.input", json!(SECRET)),
        ("input.value", json!(SECRET)),
        ("llm.headers", json!("Bearer sk-secret-key")),
    ];
    let with = |more: &[(&'static str, Value)]| -> Vec<(&'static str, Value)> {
        texts.iter().cloned().chain(more.iter().cloned()).collect()
    };
    let new = with(&[
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("openai")),
        ("gen_ai.request.model", json!("gpt-4o")),
        ("gen_ai.usage.input_tokens", json!(100)),
        ("gen_ai.usage.output_tokens", json!(10)),
    ]);
    let old = with(&[
        ("llm.request.type", json!("chat")),
        ("gen_ai.system", json!("OpenAI")),
        ("gen_ai.request.model", json!("gpt-4o")),
        ("gen_ai.usage.prompt_tokens", json!(100)),
        ("gen_ai.usage.completion_tokens", json!(10)),
    ]);
    let inference = with(&[
        ("openinference.span.kind", json!("LLM")),
        ("llm.provider", json!("openai")),
        ("llm.model_name", json!("gpt-4o")),
        ("llm.token_count.prompt", json!(100)),
        ("llm.token_count.completion", json!(10)),
    ]);
    let failed = json!({"status": {"code": 2, "message": SECRET},
        "events": [{"name": "exception", "timeUnixNano": "1735689600500000000", "attributes": [{"key": "exception.message", "value": {"stringValue": SECRET}}]}]});
    let first = json!({"events": [{"name": "llm.content.completion.chunk", "timeUnixNano": "1735689600250000000"}]});
    let failing = with(&[
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.system", json!("openai")),
        ("gen_ai.request.model", json!("gpt-4o")),
        ("error.type", json!("RateLimitError")),
    ]);
    let tool = with(&[
        ("gen_ai.operation.name", json!("execute_tool")),
        ("gen_ai.tool.name", json!("search")),
        ("gen_ai.agent.name", json!("planner")),
    ]);
    let lookup = with(&[
        ("db.system", json!("chroma")),
        ("db.operation", json!("query")),
    ]);
    let step = with(&[("traceloop.span.kind", json!("task"))]);
    let spans = trace(
        "shop",
        vec![
            span(1, 0, &new, &first),
            span(2, 0, &old, &json!({})),
            span(3, 0, &inference, &json!({})),
            span(4, 0, &failing, &failed),
            span(5, 0, &tool, &json!({})),
            span(6, 0, &lookup, &json!({})),
            span(7, 0, &step, &json!({})),
            // A library's span around the client's own, with a step between them: one call.
            span(12, 11, &new, &json!({})),
            span(11, 10, &step, &json!({})),
            span(10, 0, &inference, &json!({})),
        ],
    );
    sent(&nightbell, "traces", &spans);
    // An exporter that heard no answer sends the same again.
    sent(&nightbell, "traces", &spans);
    let of = |name: &str, more: &str| {
        format!(
            "{name}{{source=\"spans\",application=\"shop\",provider=\"openai\",model=\"gpt-4o\",operation=\"chat\"{more}}}"
        )
    };
    wait_for(
        &nightbell,
        &of("gen_ai_call_duration_seconds_count", ""),
        5.0,
    );
    wait_for(
        &nightbell,
        &of("gen_ai_tokens_total", ",type=\"input\""),
        400.0,
    );
    wait_for(
        &nightbell,
        &of("gen_ai_tokens_total", ",type=\"output\""),
        40.0,
    );
    wait_for(
        &nightbell,
        &of("gen_ai_errors_total", ",error_class=\"rate_limited\""),
        1.0,
    );
    wait_for(
        &nightbell,
        &of("gen_ai_time_to_first_token_seconds_sum", ""),
        0.25,
    );
    wait_for(
        &nightbell,
        &of("gen_ai_call_duration_seconds_bucket", ",le=\"1.28\""),
        5.0,
    );
    wait_for(
        &nightbell,
        &of("gen_ai_call_duration_seconds_bucket", ",le=\"0.64\""),
        0.0,
    );
    let cost = value(&nightbell, &of("gen_ai_cost_total", ",currency=\"USD\""));
    assert!(
        (cost - (400.0 * 2.5 + 40.0 * 10.0) / 1e6).abs() < 1e-12,
        "{cost}"
    );
    wait_for(
        &nightbell,
        "gen_ai_call_duration_seconds_count{operation=\"execute_tool\",tool=\"search\",agent=\"planner\"}",
        1.0,
    );
    wait_for(
        &nightbell,
        "gen_ai_call_duration_seconds_count{operation=\"retrieval\",provider=\"chroma\"}",
        1.0,
    );
    let log = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"severityNumber": 17, "body": {"stringValue": SECRET}}]}]}]});
    sent(&nightbell, "logs", &log);
    wait_for(&nightbell, "otlp_log_records_total{level=\"error\"}", 1.0);
    assert!(!nightbell.get("/metrics").1.contains(SECRET));
    assert_eq!(nightbell.stop(), Some(0));
    let mut files = vec![nightbell.folder.path().to_owned()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(&path)
                    .expect("readable")
                    .flatten()
                    .map(|entry| entry.path()),
            );
        } else if let Ok(bytes) = std::fs::read(&path) {
            for text in [SECRET, "sk-secret-key"] {
                assert!(
                    memchr::memmem::find(&bytes, text.as_bytes()).is_none(),
                    "{} holds a text",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn metrics_of_an_application_without_spans_become_the_same_series() {
    let nightbell = started(CONFIG);
    let start = (std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos() as u64)
        .to_string();
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let call = [
        text("gen_ai.system", "openai"),
        text("gen_ai.request.model", "gpt-4o"),
        text("gen_ai.operation.name", "chat"),
    ];
    let export = |calls: u64, time: u64| {
        let time = (start.parse::<u64>().expect("a number") + time).to_string();
        let mut failed = call.to_vec();
        failed.push(text("error.type", "APITimeoutError"));
        let durations = json!({"name": "gen_ai.client.operation.duration", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"startTimeUnixNano": start, "timeUnixNano": time, "count": calls.to_string(), "sum": calls as f64 * 0.5,
                "bucketCounts": [calls.to_string(), "0"], "explicitBounds": [5.0], "attributes": call},
            {"startTimeUnixNano": start, "timeUnixNano": time, "count": "1", "sum": 5.0, "bucketCounts": ["1", "0"], "explicitBounds": [5.0],
                "attributes": failed}]}});
        let mut input = call.to_vec();
        input.push(text("gen_ai.token.type", "input"));
        let tokens = json!({"name": "gen_ai.client.token.usage", "unit": "{token}", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"startTimeUnixNano": start, "timeUnixNano": time, "count": calls.to_string(), "sum": calls as f64 * 20.0,
                "bucketCounts": [calls.to_string()], "explicitBounds": [], "attributes": input}]}});
        json!({"resourceMetrics": [{"resource": {"attributes": [text("service.name", "shop")]}, "scopeMetrics": [{"metrics": [durations, tokens]}]}]})
    };
    sent(&nightbell, "metrics", &export(2, 0));
    sent(&nightbell, "metrics", &export(2, 0));
    sent(&nightbell, "metrics", &export(5, 10));
    let of = |name: &str, more: &str| {
        format!(
            "{name}{{source=\"metrics\",application=\"shop\",provider=\"openai\",model=\"gpt-4o\",operation=\"chat\"{more}}}"
        )
    };
    wait_for(
        &nightbell,
        &of("gen_ai_call_duration_seconds_count", ""),
        6.0,
    );
    wait_for(
        &nightbell,
        &of("gen_ai_tokens_total", ",type=\"input\""),
        100.0,
    );
    wait_for(
        &nightbell,
        &of("gen_ai_errors_total", ",error_class=\"timeout\""),
        1.0,
    );
    wait_for(
        &nightbell,
        "gen_ai_client_operation_duration_seconds_count{job=\"shop\",error_type=\"\"}",
        5.0,
    );
}
