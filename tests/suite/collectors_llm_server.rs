//! The `llm_server` collector: pages as each kind of server writes them become one set of names,
//! and what is refused says what helps. One real server: LiteLLM.

use std::collections::BTreeMap;
use std::path::Path;

use nightbell::collectors::Collector;
use nightbell::model::Batch;

use crate::collecting::{build, build_patient, collect, try_build, value};
use crate::servers::free_port;
use crate::servers::http::HttpServer;
use crate::servers::litellm::LiteLlm;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/collectors/llm_server")
        .join(format!("{name}.txt"));
    std::fs::read_to_string(path).expect("a page")
}

/// A server with these bodies by path; everything else is 404.
fn server(bodies: &[(&'static str, String)]) -> HttpServer {
    let bodies: BTreeMap<&'static str, String> = bodies.iter().cloned().collect();
    HttpServer::answering(move |request| {
        let path = request.split(' ').nth(1).unwrap_or("/");
        match bodies.get(path) {
            Some(body) => ("200 OK", body.clone()),
            None => ("404 Not Found", "no such path".into()),
        }
    })
}

/// A collector of a server of this kind that has this page.
fn of_kind(kind: &str, name: &str) -> (HttpServer, Box<dyn Collector>) {
    let models = r#"{"object":"list","data":[{"id":"qwen3"},{"id":"org/llama"}]}"#.to_owned();
    let server = server(&[
        ("/metrics", page(name)),
        ("/health", String::new()),
        ("/v2/health/ready", String::new()),
        ("/v2", r#"{"name":"triton","version":"2.50.0"}"#.into()),
        (
            "/health/readiness",
            r#"{"status":"healthy","litellm_version":"1.106.2"}"#.into(),
        ),
        ("/version", r#"{"version":"0.11.0"}"#.into()),
        ("/info", r#"{"model_id":"m","version":"3.3.0"}"#.into()),
        ("/v1/models", models),
    ]);
    // Triton's page is at a port of its own.
    let yaml = format!(
        "kind: {kind}\nurl: http://127.0.0.1:{0}/v1\nmetrics_url: http://127.0.0.1:{0}/metrics\nmodels: [qwen3, llama, gone]\n",
        server.port
    );
    (server, build("llm_server", &yaml))
}

async fn measured(kind: &str, name: &str) -> Batch {
    let (_server, mut collector) = of_kind(kind, name);
    let (batch, result) = collect("llm_server", &mut collector).await;
    result.expect("all is well");
    for (name, wanted) in [("up", 1.0), ("ready", 1.0), ("metrics_readable", 1.0)] {
        let got = value(&batch, &format!("llm_server_{name}"), &[("kind", kind)]);
        assert_eq!(got, Some(wanted), "{kind} {name}");
    }
    assert_eq!(
        value(&batch, "llm_server_failure_info", &[]),
        None,
        "{kind}"
    );
    batch
}

/// A metric's name without its beginning, labels, the value.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

#[track_caller]
fn expect(batch: &Batch, cases: &[Case<'_>]) {
    for (name, labels, wanted) in cases {
        let got = value(batch, &format!("llm_server_{name}"), labels);
        assert!(
            got.is_some_and(|got| (got - wanted).abs() < 1e-9),
            "{name}{labels:?}: {got:?}, not {wanted}"
        );
    }
}

/// Engines of a model are added up, of shares the fullest counts, and a name that stands beside its
/// successor does not count twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_vllm_is_described_whatever_its_version_calls_things() {
    let batch = measured("vllm", "vllm").await;
    let qwen = ("model", "qwen3");
    expect(
        &batch,
        &[
            ("requests_running", &[qwen], 3.0),
            ("requests_waiting", &[qwen], 4.0),
            ("kv_cache_usage_ratio", &[qwen], 0.9),
            ("tokens_total", &[qwen, ("type", "input")], 1000.0),
            ("tokens_total", &[qwen, ("type", "output")], 500.0),
            (
                "prefix_cache_tokens_total",
                &[("result", "queried")],
                1000.0,
            ),
            ("prefix_cache_tokens_total", &[("result", "hit")], 250.0),
            ("requests_total", &[("outcome", "success")], 42.0),
            ("preemptions_total", &[qwen], 3.0),
            ("time_to_first_token_seconds_bucket", &[("le", "0.1")], 11.0),
            ("time_to_first_token_seconds_bucket", &[("le", "0.5")], 17.0),
            (
                "time_to_first_token_seconds_bucket",
                &[("le", "+Inf")],
                18.0,
            ),
            ("time_to_first_token_seconds_count", &[qwen], 18.0),
            ("time_to_first_token_seconds_sum", &[qwen], 5.0),
            ("time_per_output_token_seconds_count", &[qwen], 100.0),
            ("request_duration_seconds_count", &[qwen], 42.0),
            ("queue_duration_seconds_count", &[qwen], 42.0),
            ("models", &[], 2.0),
            ("model_available", &[("model", "qwen3")], 1.0),
            ("model_available", &[("model", "llama")], 1.0),
            ("model_available", &[("model", "gone")], 0.0),
            ("info", &[("version", "0.11.0")], 1.0),
            (
                "metric_found",
                &[("metric", "llm_server_requests_running")],
                1.0,
            ),
        ],
    );
    let old = measured("vllm", "vllm_old").await;
    expect(
        &old,
        &[
            ("requests_running", &[qwen], 2.0),
            ("kv_cache_usage_ratio", &[qwen], 0.5),
            ("prefix_cache_tokens_total", &[("result", "hit")], 7.0),
            ("time_per_output_token_seconds_sum", &[qwen], 3.0),
            (
                "metric_found",
                &[("metric", "llm_server_requests_waiting")],
                0.0,
            ),
        ],
    );
    assert_eq!(value(&old, "llm_server_requests_waiting", &[]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_every_kind_become_one_set_of_names() {
    let llama = ("model", "llama");
    expect(
        &measured("sglang", "sglang").await,
        &[
            ("requests_running", &[llama], 5.0),
            ("requests_waiting", &[llama], 1.0),
            ("kv_cache_usage_ratio", &[llama], 0.28),
            ("prefix_cache_hit_ratio", &[llama], 0.75),
            ("prefix_cache_tokens_total", &[("result", "hit")], 4064.0),
            ("output_tokens_per_second", &[llama], 86.5),
            ("tokens_total", &[("type", "output")], 7557.0),
            ("requests_total", &[("outcome", "all")], 50.0),
            ("requests_total", &[("outcome", "error")], 2.0),
            ("time_to_first_token_seconds_count", &[llama], 2.0),
        ],
    );
    expect(
        &measured("tgi", "tgi").await,
        &[
            ("requests_running", &[], 3.0),
            ("requests_waiting", &[], 2.0),
            ("tokens_total", &[("type", "input")], 4000.0),
            ("tokens_total", &[("type", "output")], 900.0),
            ("requests_total", &[("outcome", "success")], 95.0),
            ("requests_total", &[("outcome", "error")], 5.0),
            ("errors_total", &[("reason", "overloaded")], 4.0),
            ("request_duration_seconds_sum", &[], 30.5),
            ("time_per_output_token_seconds_count", &[], 95.0),
            ("queue_duration_seconds_sum", &[], 0.5),
            ("info", &[("version", "3.3.0")], 1.0),
        ],
    );
    expect(
        &measured("tei", "tei").await,
        &[
            ("requests_waiting", &[], 7.0),
            ("requests_total", &[("outcome", "success")], 15.0),
            ("errors_total", &[("reason", "overloaded")], 2.0),
            ("tokens_total", &[("type", "input")], 640.0),
            ("request_duration_seconds_count", &[], 15.0),
        ],
    );
    expect(
        &measured("llama.cpp", "llama.cpp").await,
        &[
            ("requests_running", &[], 1.0),
            ("requests_waiting", &[], 0.0),
            ("tokens_total", &[("type", "output")], 800.0),
            ("busy_seconds_total", &[("phase", "output")], 20.25),
            ("output_tokens_per_second", &[], 39.5),
        ],
    );
    expect(
        &measured("triton", "triton").await,
        &[
            ("requests_waiting", &[("model", "bert")], 6.0),
            ("requests_total", &[("outcome", "success")], 8192.0),
            ("requests_total", &[("outcome", "error")], 12.0),
            ("errors_total", &[("reason", "REJECTED")], 12.0),
            ("busy_seconds_total", &[("phase", "request")], 2.5),
            ("busy_seconds_total", &[("phase", "queue")], 0.5),
            ("info", &[("version", "2.50.0")], 1.0),
        ],
    );
    expect(
        &measured("xinference", "xinference").await,
        &[
            ("requests_running", &[("model", "qwen")], 2.0),
            ("tokens_total", &[("type", "output")], 200.0),
            ("requests_total", &[("outcome", "all")], 30.0),
            ("requests_total", &[("outcome", "error")], 3.0),
            ("last_time_to_first_token_seconds", &[], 0.35),
        ],
    );
    let gpt = ("model", "gpt-4o");
    expect(
        &measured("litellm", "litellm").await,
        &[
            ("requests_total", &[("outcome", "all")], 100.0),
            ("requests_total", &[("outcome", "error")], 10.0),
            ("errors_total", &[gpt, ("reason", "429")], 10.0),
            ("tokens_total", &[gpt, ("type", "input")], 900.0),
            ("cost_total", &[gpt], 0.75),
            ("request_duration_seconds_count", &[gpt], 90.0),
            ("deployment_state", &[gpt], 2.0),
            ("deployment_cooldowns_total", &[gpt], 4.0),
            ("budget_remaining", &[("scope", "api_key")], 3.5),
            ("ratelimit_remaining", &[gpt, ("of", "requests")], 20.0),
            ("info", &[("version", "1.106.2")], 1.0),
        ],
    );
}

/// Ollama has no page of metrics; its list of loaded models says what is in memory.
#[tokio::test(flavor = "multi_thread")]
async fn an_ollama_is_described_by_its_loaded_models() {
    let loaded = r#"{"models":[{"name":"qwen3:8b","size":8000,"size_vram":6000,"expires_at":"2026-01-02T03:04:05.5Z"}]}"#;
    let server = server(&[
        ("/api/version", r#"{"version":"0.12.3"}"#.into()),
        ("/api/ps", loaded.into()),
        (
            "/api/tags",
            r#"{"models":[{"name":"qwen3:8b"},{"name":"nomic:latest"}]}"#.into(),
        ),
    ]);
    let yaml = format!(
        "kind: ollama\nurl: http://127.0.0.1:{}\nmodels: [nomic]\n",
        server.port
    );
    let mut collector = build("llm_server", &yaml);
    let (batch, result) = collect("llm_server", &mut collector).await;
    result.expect("all is well");
    expect(
        &batch,
        &[
            ("up", &[], 1.0),
            ("model_memory_bytes", &[("where", "total")], 8000.0),
            ("model_memory_bytes", &[("where", "gpu")], 6000.0),
            ("model_expires_timestamp_seconds", &[], 1_767_323_045.5),
            ("model_available", &[("model", "nomic")], 1.0),
            ("info", &[("version", "0.12.3")], 1.0),
        ],
    );
}

/// A release of llama.cpp wrote its page as one JSON string; models beyond the bound are added up;
/// a page that is none, or is switched off, says so, and the server is still up.
#[tokio::test(flavor = "multi_thread")]
async fn odd_pages_are_read_or_explained() {
    let quoted = serde_json::to_string(&page("llama.cpp")).expect("a string");
    let many: String = (0..7)
        .map(|i| format!("vllm:num_requests_running{{model_name=\"m{i}\"}} 1\n"))
        .collect();
    let cases = [
        ("llama.cpp", quoted, None),
        ("vllm", many, None),
        (
            "vllm",
            "<html>a proxy's page</html>".into(),
            Some("no page of metrics: line 1"),
        ),
        ("llama.cpp", "vllm:x{le=\"1\" 1\n".into(), Some("--metrics")),
    ];
    for (kind, body, complaint) in cases {
        let server = server(&[
            ("/metrics", body),
            ("/health", String::new()),
            ("/v1/models", r#"{"data":[]}"#.into()),
        ]);
        let yaml = format!(
            "kind: {kind}\nurl: http://127.0.0.1:{}\nmax_models: 3\n",
            server.port
        );
        let mut collector = build("llm_server", &yaml);
        let (batch, result) = collect("llm_server", &mut collector).await;
        result.expect("the server is up");
        expect(&batch, &[("up", &[], 1.0)]);
        let readable = value(&batch, "llm_server_metrics_readable", &[]);
        assert_eq!(
            readable,
            Some(if complaint.is_some() { 0.0 } else { 1.0 }),
            "{kind}"
        );
        if let Some(complaint) = complaint {
            let message = nightbell_message(&batch);
            assert!(message.contains(complaint), "{message}");
        } else if kind == "vllm" {
            expect(
                &batch,
                &[
                    ("models_omitted", &[], 4.0),
                    ("requests_running", &[("model", "other")], 4.0),
                    ("requests_running", &[("model", "m0")], 1.0),
                ],
            );
        } else {
            expect(&batch, &[("tokens_total", &[("type", "output")], 800.0)]);
        }
    }
}

fn nightbell_message(batch: &Batch) -> String {
    let family = &batch.families["llm_server_failure_info"];
    family.samples[0].labels.value("message").to_owned()
}

/// Each way in which it fails has a message of its own: nobody there, a model that is being loaded, a key that
/// is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_says_how() {
    let mut gone = build(
        "llm_server",
        &format!("kind: vllm\nurl: http://127.0.0.1:{}\n", free_port()),
    );
    let (batch, result) = collect("llm_server", &mut gone).await;
    assert!(result.expect_err("nobody").reason.contains("refused"));
    expect(&batch, &[("up", &[], 0.0)]);
    assert!(nightbell_message(&batch).contains("refused"));
    let loading = HttpServer::answering(|request| {
        if request.contains(" /v1/models ") {
            ("401 Unauthorized", "{}".into())
        } else {
            (
                "503 Service Unavailable",
                r#"{"error":{"message":"Loading model"}}"#.into(),
            )
        }
    });
    let mut collector = build(
        "llm_server",
        &format!(
            "kind: llama.cpp\nurl: http://127.0.0.1:{}\napi_key: sk-secret\n",
            loading.port
        ),
    );
    let (batch, result) = collect("llm_server", &mut collector).await;
    result.expect("it answers");
    expect(
        &batch,
        &[
            ("up", &[], 1.0),
            ("ready", &[], 0.0),
            ("metrics_readable", &[], 0.0),
        ],
    );
    assert!(!nightbell_message(&batch).contains("sk-secret"));
    assert!(
        loading
            .requests()
            .iter()
            .all(|r| r.contains("authorization: Bearer sk-secret"))
    );
    // Nothing but GET is ever sent.
    assert!(loading.requests().iter().all(|r| r.starts_with("GET ")));
}

#[test]
fn a_kind_that_is_not_known_is_refused() {
    let error = try_build("llm_server", "kind: vlm\nurl: http://a:1\n").err();
    assert!(
        error
            .expect("refused")
            .to_string()
            .contains("did you mean \"vllm\"?")
    );
    let error = try_build("llm_server", "kind: vllm\n").err();
    assert!(error.expect("refused").to_string().contains("add url"));
}

/// A real LiteLLM: it answers, lists its models, and its page needs what the message says.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_litellm_is_read() {
    let proxy = LiteLlm::start_with_metrics();
    let yaml = format!(
        "kind: litellm\nurl: {}\napi_key: {}\nmodels: [mock-fast]\n",
        proxy.base_url(),
        proxy.key
    );
    let body =
        serde_json::json!({"model": "mock-fast", "messages": [{"role": "user", "content": "hi"}]});
    let url = format!("{}/chat/completions", proxy.base_url())
        .parse()
        .expect("a URL");
    let mut ask =
        nightbell::http::Request::post_json(url, &body, std::time::Duration::from_secs(60));
    let bearer = format!("Bearer {}", proxy.key).parse().expect("a header");
    ask.headers.insert("authorization", bearer);
    let answer = nightbell::http::Client::plain()
        .send(ask)
        .await
        .expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut collector = build_patient("llm_server", &yaml);
    // What was called is counted a moment later.
    let batch = loop {
        let (batch, result) = collect("llm_server", &mut collector).await;
        result.expect("all is well");
        let tokens = value(&batch, "llm_server_tokens_total", &[("type", "output")]);
        if tokens.is_some_and(|tokens| tokens > 0.0) {
            break batch;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    expect(
        &batch,
        &[
            ("up", &[], 1.0),
            ("metrics_readable", &[], 1.0),
            ("models", &[], 3.0),
            ("model_available", &[("model", "mock-fast")], 1.0),
            ("requests_total", &[("outcome", "all")], 1.0),
            (
                "request_duration_seconds_count",
                &[("model", "mock-fast")],
                1.0,
            ),
        ],
    );
}
