//! The providers' own client libraries through the pass-through (OpenAI's with a real LiteLLM behind
//! it), and OpenTelemetry's own SDK as a sender: what they are served, and what is counted.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::program::encoded;
use crate::servers::litellm::LiteLlm;
use crate::servers::llm::{FakeLlm, Script};
use crate::servers::nightbell::Nightbell;
use crate::servers::{python_tool, wait_until};

/// Runs the script; what it printed.
fn run(words: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/call_models.py");
    let output = Command::new(python_tool("python"))
        .arg(script)
        .args(words)
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The sum of a query's series; 0 without any.
fn sum(nightbell: &Nightbell, query: &str) -> f64 {
    let query = encoded(&format!("sum({query})"));
    let answer = nightbell.json(&format!("/api/v1/query?query={query}"));
    let value = &answer["data"]["result"][0]["value"][1];
    value
        .as_str()
        .map_or(0.0, |text| text.parse().expect("a number"))
}

fn wait_for(nightbell: &Nightbell, query: &str, wanted: f64) {
    wait_until(query, Duration::from_secs(30), || {
        (sum(nightbell, query) - wanted).abs() < 1e-9
    });
}

fn proxied(name: &str, upstream: &str) -> Nightbell {
    Nightbell::start(&format!(
        "rules: {{shipped: false}}\ncollectors:\n  llm_proxy:\n  - {{name: {name}, upstream: '{upstream}', provider: {name}, caller_header: X-App, interval: 1s, timeout: 1s}}\n"
    ))
}

/// Streams, whole answers and refusals arrive as from the provider; each token is counted once.
#[test]
fn openai_s_library_calls_a_real_litellm_through_the_pass_through() {
    let litellm = LiteLlm::start();
    let nightbell = proxied("openai", &litellm.base_url());
    let base = format!("http://127.0.0.1:{}/llm/openai", nightbell.port);
    let got = run(&["openai", &base, &litellm.key]);
    assert_eq!(got["text"], "ding dong, the bell rings");
    assert_eq!(got["whole"], "ding dong, the bell rings");
    assert_eq!(got["limited"], 429);
    let of =
        |more: &str| format!("gen_ai_tokens_total{{source=\"proxy\",application=\"shop\",{more}}}");
    let number = |key: &str| got[key].as_f64().expect("a number");
    wait_for(&nightbell, &of("type=\"input\""), number("input"));
    wait_for(&nightbell, &of("type=\"output\""), number("output"));
    wait_for(
        &nightbell,
        "gen_ai_errors_total{error_class=\"rate_limited\"}",
        1.0,
    );
    // Of the stream alone.
    wait_for(&nightbell, "gen_ai_time_to_first_token_seconds_count", 1.0);
}

#[test]
fn anthropic_s_library_reads_its_stream_through_the_pass_through() {
    let fake = FakeLlm::start();
    let event = |name: &str, data: &str| format!("event: {name}\ndata: {data}\n\n");
    let stream = [
        event(
            "message_start",
            r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":1}}}"#,
        ),
        event(
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        ),
        event(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"ding "}}"#,
        ),
        event("ping", r#"{"type":"ping"}"#),
        event(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"dong"}}"#,
        ),
        event(
            "content_block_stop",
            r#"{"type":"content_block_stop","index":0}"#,
        ),
        event(
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5}}"#,
        ),
        event("message_stop", r#"{"type":"message_stop"}"#),
    ];
    let pieces: Vec<(u64, &str)> = stream.iter().map(|text| (0, text.as_str())).collect();
    fake.on("/v1/messages", Script::stream(&pieces));
    let nightbell = proxied("anthropic", &fake.url(""));
    let base = format!("http://127.0.0.1:{}/llm/anthropic", nightbell.port);
    let got = run(&["anthropic", &base]);
    assert_eq!(got["text"], "ding dong");
    assert_eq!((&got["input"], &got["output"]), (&12.into(), &5.into()));
    let of = |kind: &str| {
        format!(
            "gen_ai_tokens_total{{application=\"shop\",provider=\"anthropic\",type=\"{kind}\"}}"
        )
    };
    wait_for(&nightbell, &of("input"), 12.0);
    wait_for(&nightbell, &of("output"), 5.0);
}

/// A flush and the end of an SDK send the same points twice: they are set, not added.
#[test]
fn opentelemetry_s_sdk_is_understood() {
    let nightbell = Nightbell::start(
        "rules: {shipped: false}\ncollectors: {otlp: {interval: 1s, timeout: 1s}}\n",
    );
    let got = run(&["telemetry", &format!("http://127.0.0.1:{}", nightbell.port)]);
    assert_eq!(got["flushed"], true);
    wait_for(
        &nightbell,
        "app_orders_total{job=\"shop\",instance=\"one\",kind=\"book\"}",
        3.0,
    );
    wait_for(&nightbell, "app_wait_seconds_count{job=\"shop\"}", 1.0);
    wait_for(
        &nightbell,
        "gen_ai_tokens_total{application=\"shop\",model=\"gpt-4o\",type=\"input\"}",
        70.0,
    );
    wait_for(
        &nightbell,
        "gen_ai_call_duration_seconds_count{application=\"shop\"}",
        1.0,
    );
    assert!(!nightbell.log().contains("nobody may see"));
}
