//! The `llm_provider` collector against a real LiteLLM proxy and against a fake of what only paid
//! providers do.

use std::time::{Duration, Instant};

use nightbell::collectors::{Collector, Memory};
use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, try_build_with, value};
use crate::servers::litellm::LiteLlm;
use crate::servers::llm::{FakeLlm, Script};
use crate::servers::wait_until;

const MODELS: &str = r#"{"data":[{"id":"m-1"},{"id":"models/m-2"}]}"#;

/// Collects until the completion probe has been counted.
async fn after_completion(collector: &mut Box<dyn Collector>) -> Batch {
    let start = Instant::now();
    loop {
        let (batch, _) = collect("llm_provider", collector).await;
        if value(&batch, "llm_probe_success", &[("probe", "completion")]).is_some() {
            return batch;
        }
        assert!(start.elapsed() < Duration::from_secs(90), "no completion");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn errors(batch: &Batch, probe: &str) -> Vec<String> {
    let counted = |s: &&nightbell::model::Sample| {
        s.labels.metric_name() == "llm_probe_errors_total"
            && s.labels.value("probe") == probe
            && s.value > 0.0
    };
    batch
        .samples()
        .filter(counted)
        .map(|s| s.labels.value("error_type").to_owned())
        .collect()
}

/// Models, key, first token, tokens and the error of a limited model, from a real proxy.
#[tokio::test(flavor = "multi_thread")]
async fn a_litellm_proxy_is_measured_to_its_first_token() {
    let proxy = LiteLlm::start();
    let yaml = |model: &str, key: &str| {
        format!(
            "provider: compatible\nbase_url: {}\napi_key: {key}\nmodels: [mock-fast, gone]\ncompletion: {{model: {model}}}\n",
            proxy.base_url()
        )
    };
    let mut collector = build("llm_provider", &yaml("mock-slow", &proxy.key));
    let batch = after_completion(&mut collector).await;
    let of = |name: &str, labels: &[(&str, &str)]| value(&batch, name, labels);
    assert_eq!(
        (of("llm_up", &[]), of("llm_reachable", &[])),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(of("llm_models", &[]), Some(3.0));
    assert_eq!(
        of("llm_model_available", &[("model", "mock-fast")]),
        Some(1.0)
    );
    assert_eq!(of("llm_model_available", &[("model", "gone")]), Some(0.0));
    assert_eq!(
        of("llm_probe_success", &[("probe", "completion")]),
        Some(1.0)
    );
    let first = of("llm_last_time_to_first_token_seconds", &[]).expect("streamed");
    assert!((0.5..5.0).contains(&first), "{first}");
    assert!(of("llm_probe_tokens_total", &[("type", "output")]).expect("notified") > 0.0);
    let mut limited = build("llm_provider", &yaml("mock-limited", &proxy.key));
    let batch = after_completion(&mut limited).await;
    assert_eq!(errors(&batch, "completion"), ["rate_limited"]);
    let mut refused = build(
        "llm_provider",
        &format!(
            "provider: compatible\nbase_url: {}\napi_key: sk-wrong\n",
            proxy.base_url()
        ),
    );
    let (batch, result) = collect("llm_provider", &mut refused).await;
    assert_eq!(
        (
            value(&batch, "llm_up", &[]),
            value(&batch, "llm_reachable", &[])
        ),
        (Some(0.0), Some(1.0))
    );
    result.expect("a proxy that refuses a key is there");
    assert_eq!(
        errors(&batch, "models"),
        ["auth"],
        "without a database it answers 400, no_db_connection"
    );
}

/// What a stream can do wrong, each distinguished.
#[tokio::test(flavor = "multi_thread")]
async fn broken_streams_are_notified_apart() {
    let word = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let cases = [
        (
            Script::stream(&[
                (0, ": keep-alive\n\n"),
                (
                    0,
                    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n",
                ),
            ])
            .hanging(),
            "first_token_timeout",
        ),
        (Script::stream(&[(0, word)]).hanging(), "stream_stalled"),
        (Script::stream(&[(0, word)]), "stream_truncated"),
        (
            Script::stream(&[
                (0, word),
                (0, "data: {\"error\":{\"code\":\"insufficient_quota\"}}\n\n"),
            ]),
            "quota_exhausted",
        ),
        (
            Script::stream(&[(0, "data: <html>\n\n")]),
            "invalid_response",
        ),
        (
            Script::json(
                "402 Payment Required",
                r#"{"error":{"message":"Insufficient Balance"}}"#,
            ),
            "quota_exhausted",
        ),
        (
            Script::json("500 Internal Server Error", "oops"),
            "server_error",
        ),
        (
            Script::json(
                "400 Bad Request",
                r#"{"error":{"message":"max_tokens too small"}}"#,
            ),
            "bad_request",
        ),
    ];
    for (script, wanted) in cases {
        let fake = FakeLlm::start();
        fake.on("/v1/models", Script::json("200 OK", MODELS))
            .on("/v1/chat/completions", script);
        let yaml = format!(
            "provider: openai\nbase_url: {}\napi_key: k\ncompletion: {{model: m-1, first_token_timeout: 400ms, stall_timeout: 400ms}}\n",
            fake.url("/v1")
        );
        let mut collector = build("llm_provider", &yaml);
        let batch = after_completion(&mut collector).await;
        assert_eq!(errors(&batch, "completion"), [wanted]);
        assert_eq!(
            value(&batch, "llm_up", &[]),
            Some(1.0),
            "the free probe is not touched"
        );
    }
}

/// Anthropic's typed stream, headers and limits; the first token is the first text, not the first
/// event.
#[tokio::test(flavor = "multi_thread")]
async fn anthropic_streams_are_read_by_their_events() {
    let fake = FakeLlm::start();
    let stream = Script::stream(&[
        (0, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n"),
        (0, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
        (300, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n"),
        (200, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\" you\"}}\n\n"),
        (0, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":12}}\n\n"),
        (0, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
    ])
    .header("anthropic-ratelimit-tokens-limit", "50000")
    .header("anthropic-ratelimit-tokens-remaining", "49000");
    fake.on("/v1/models", Script::json("200 OK", MODELS))
        .on("/v1/messages", stream);
    let yaml = format!(
        "provider: anthropic\nbase_url: {}\napi_key: sk-ant-secret\ncompletion: {{model: m-1}}\n",
        fake.url("/v1")
    );
    let mut collector = build("llm_provider", &yaml);
    let batch = after_completion(&mut collector).await;
    assert_eq!(
        value(&batch, "llm_probe_success", &[("probe", "completion")]),
        Some(1.0)
    );
    let first = value(&batch, "llm_last_time_to_first_token_seconds", &[]).expect("streamed");
    assert!((0.3..1.5).contains(&first), "{first}");
    assert!(value(&batch, "llm_stream_max_gap_seconds", &[]).expect("two pieces") >= 0.15);
    assert_eq!(
        value(&batch, "llm_probe_tokens_total", &[("type", "input")]),
        Some(9.0)
    );
    assert_eq!(
        value(&batch, "llm_probe_tokens_total", &[("type", "output")]),
        Some(12.0)
    );
    assert_eq!(
        value(&batch, "llm_ratelimit_remaining", &[("kind", "tokens")]),
        Some(49000.0)
    );
    let sent = fake.requests().join("\n").to_lowercase();
    assert!(
        sent.contains("x-api-key: sk-ant-secret") && sent.contains("anthropic-version: 2023-06-01"),
        "{sent}"
    );
    assert!(!format!("{batch:?}").contains("sk-ant-secret"));
}

/// DeepSeek's balance, and a provider that asks for a pause gets it.
#[tokio::test(flavor = "multi_thread")]
async fn deepseek_tells_its_balance_and_pauses_are_kept() {
    let fake = FakeLlm::start();
    let balance = r#"{"is_available":true,"balance_infos":[{"currency":"CNY","total_balance":"4.20","granted_balance":"0.00","topped_up_balance":"4.20"}]}"#;
    fake.on("/models", Script::json("200 OK", MODELS))
        .on("/user/balance", Script::json("200 OK", balance));
    let mut collector = build(
        "llm_provider",
        &format!(
            "provider: deepseek\nbase_url: {}\napi_key: k\n",
            fake.url("")
        ),
    );
    let (batch, result) = collect("llm_provider", &mut collector).await;
    result.expect("all is well");
    assert_eq!(
        value(
            &batch,
            "llm_account_balance",
            &[("kind", "total"), ("currency", "CNY")]
        ),
        Some(4.2)
    );
    assert_eq!(value(&batch, "llm_account_available", &[]), Some(1.0));
    fake.on(
        "/models",
        Script::json(
            "429 Too Many Requests",
            r#"{"error":{"message":"slow down"}}"#,
        )
        .header("retry-after", "30"),
    );
    let (batch, result) = collect("llm_provider", &mut collector).await;
    result.expect("a provider that limits us is there");
    assert_eq!(
        value(
            &batch,
            "llm_probe_last_error",
            &[("probe", "models"), ("error_type", "rate_limited")]
        ),
        Some(1.0)
    );
    let before = fake.requests().len();
    let (batch, result) = collect("llm_provider", &mut collector).await;
    assert_eq!(fake.requests().len(), before, "no request during the pause");
    result.expect("it was there");
    assert_eq!(
        value(&batch, "llm_up", &[]),
        Some(0.0),
        "the last answer stands"
    );
    assert_eq!(value(&batch, "llm_retry_after_seconds", &[]), Some(30.0));
    assert_eq!(
        value(
            &batch,
            "llm_probe_skipped_total",
            &[("probe", "models"), ("reason", "backoff")]
        ),
        Some(1.0)
    );
}

/// A probe that would exceed the day's tokens is left out and counted.
#[tokio::test(flavor = "multi_thread")]
async fn the_daily_token_cap_holds() {
    let fake = FakeLlm::start();
    let answer = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":16}}\n\ndata: [DONE]\n\n";
    fake.on("/v1/models", Script::json("200 OK", MODELS))
        .on("/v1/chat/completions", Script::stream(&[(0, answer)]));
    let yaml = format!(
        "provider: openai\nbase_url: {}\napi_key: k\ncompletion: {{model: m-1, interval: 1ms, daily_token_budget: 100}}\n",
        fake.url("/v1")
    );
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Memory::of(folder.path(), "llm_provider", "llm_provider", "t");
    let built = || {
        try_build_with("llm_provider", &yaml, memory.clone())
            .unwrap_or_else(|errors| panic!("{errors}"))
    };
    let mut collector = built();
    let start = Instant::now();
    let batch = loop {
        let (batch, _) = collect("llm_provider", &mut collector).await;
        if value(
            &batch,
            "llm_probe_skipped_total",
            &[("probe", "completion"), ("reason", "token_budget")],
        ) > Some(0.0)
        {
            break batch;
        }
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "the cap never held"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let completions = fake
        .requests()
        .iter()
        .filter(|r| r.contains("chat/completions"))
        .count();
    assert_eq!(
        completions, 2,
        "two probes of 36 tokens fit into 100, a third with its worst case of 36 does not"
    );
    assert_eq!(
        value(&batch, "llm_probe_token_budget_remaining", &[]),
        Some(28.0)
    );
    // After a restart the day's budget is what is left of it.
    wait_until("what is spent is saved", Duration::from_secs(30), || {
        memory.load().is_some_and(|text| text.contains("72"))
    });
    let mut collector = built();
    let (batch, _) = collect("llm_provider", &mut collector).await;
    assert_eq!(
        value(&batch, "llm_probe_token_budget_remaining", &[]),
        Some(28.0)
    );
    assert_eq!(
        value(
            &batch,
            "llm_probe_skipped_total",
            &[("probe", "completion"), ("reason", "token_budget")]
        ),
        Some(1.0)
    );
}

/// A provider whose completions are `script`, collected until the first has been counted; the
/// failure, if it was one.
async fn completed(provider: &str, script: Script) -> Option<String> {
    let fake = FakeLlm::start();
    fake.on("/v1/models", Script::json("200 OK", MODELS));
    fake.on("/v1/chat/completions", script.clone())
        .on("/v1/messages", script);
    let yaml = format!(
        "provider: {provider}\nbase_url: {}\napi_key: k\ncompletion: {{model: m-1}}\n",
        fake.url("/v1")
    );
    let batch = after_completion(&mut build("llm_provider", &yaml)).await;
    let error = errors(&batch, "completion").pop();
    assert_eq!(
        value(&batch, "llm_probe_success", &[("probe", "completion")]),
        Some(f64::from(u8::from(error.is_none())))
    );
    error
}

/// An answer that brings nothing is a failure, whatever its status; what any official client takes
/// for an answer is a success.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_brings_nothing_is_a_failure_and_every_kind_of_answer_is_a_success() {
    let stream = |chunks: &[&str]| {
        let text: String = chunks
            .iter()
            .map(|chunk| format!("data: {chunk}\n\n"))
            .collect();
        Script::stream(&[(0, &text)])
    };
    let json = |body: &str| Script::json("200 OK", body);
    let untyped = |chunks: &[&str]| {
        let mut script = stream(chunks);
        script.headers = vec![("content-type", "text/plain".to_owned())];
        script
    };
    for (script, wanted) in [
        (stream(&["[DONE]"]), Some("empty_answer")),
        (
            stream(&[r#"{"choices":[]}"#, "[DONE]"]),
            Some("empty_answer"),
        ),
        (
            stream(&[
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
                "[DONE]",
            ]),
            Some("empty_answer"),
        ),
        (
            stream(&[
                r#"{"choices":[{"delta":{"content":""},"finish_reason":"error","error":{"code":502}}]}"#,
                "[DONE]",
            ]),
            Some("server_error"),
        ),
        (
            stream(&[
                r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#,
                "[DONE]",
            ]),
            Some("server_error"),
        ),
        (json(r#"{"choices":[]}"#), Some("empty_answer")),
        (
            json(r#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#),
            Some("empty_answer"),
        ),
        (
            json(r#"{"error":{"message":"Upstream error","code":502},"choices":[]}"#),
            Some("server_error"),
        ),
        (
            stream(&[
                r#"{"error":{},"choices":[{"delta":{"content":"hi"}}]}"#,
                "[DONE]",
            ]),
            None,
        ),
        (
            stream(&[r#"{"choices":[{"delta":{"reasoning":"hm"}}]}"#, "[DONE]"]),
            None,
        ),
        (
            stream(&[
                r#"{"choices":[{"delta":{"refusal":"I cannot"}}]}"#,
                "[DONE]",
            ]),
            None,
        ),
        (
            stream(&[
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
                "[DONE]",
            ]),
            None,
        ),
        (
            stream(&[
                r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#,
                "[DONE]",
            ]),
            None,
        ),
        (
            json(r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#),
            None,
        ),
        (
            json(r#"{"choices":[{"message":{"content":null},"finish_reason":"length"}]}"#),
            None,
        ),
        (
            untyped(&[r#"{"choices":[{"delta":{"content":"hi"}}]}"#, "[DONE]"]),
            None,
        ),
        (untyped(&["[DONE]"]), Some("empty_answer")),
        (
            untyped(&[r#"{"choices":[{"delta":{"content":"hi"}}]}"#]),
            Some("stream_truncated"),
        ),
    ] {
        assert_eq!(
            completed("openai", script.clone()).await.as_deref(),
            wanted,
            "{:?}",
            script.pieces
        );
    }
    let block = |text: &str| {
        format!(
            r#"{{"type":"content_block_delta","delta":{{"type":"text_delta","text":"{text}"}}}}"#
        )
    };
    let stop = |reason: &str| {
        format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}}}}"#)
    };
    let end = r#"{"type":"message_stop"}"#;
    for (script, wanted) in [
        (stream(&[&stop("end_turn"), end]), Some("empty_answer")),
        (stream(&[&block("hi"), &stop("end_turn"), end]), None),
        (stream(&[&stop("max_tokens"), end]), None),
        (
            stream(&[
                r#"{"type":"content_block_start","content_block":{"type":"tool_use"}}"#,
                &stop("tool_use"),
                end,
            ]),
            None,
        ),
        (
            json(r#"{"content":[],"stop_reason":"end_turn"}"#),
            Some("empty_answer"),
        ),
        (
            json(r#"{"content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#),
            None,
        ),
    ] {
        assert_eq!(
            completed("anthropic", script.clone()).await.as_deref(),
            wanted,
            "{:?}",
            script.pieces
        );
    }
}

/// Once there is money again, the model is asked again at once and not an hour later; kinds of
/// failure that are over are 0.
#[tokio::test(flavor = "multi_thread")]
async fn money_that_came_back_is_seen_at_the_next_look() {
    let answer = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let balance = |available: bool| {
        let infos = r#"[{"currency":"CNY","total_balance":"1.00","granted_balance":"0.00","topped_up_balance":"1.00"}]"#;
        Script::json(
            "200 OK",
            &format!(r#"{{"is_available":{available},"balance_infos":{infos}}}"#),
        )
    };
    let broke = || {
        Script::json(
            "402 Payment Required",
            r#"{"error":{"message":"Insufficient Balance"}}"#,
        )
    };
    for provider in ["deepseek", "openai"] {
        let fake = FakeLlm::start();
        fake.on("/models", Script::json("200 OK", MODELS))
            .on("/user/balance", balance(false))
            .on("/chat/completions", broke());
        let yaml = format!(
            "provider: {provider}\nbase_url: {}\napi_key: k\ncompletion: {{model: m-1, interval: 1ms}}\n",
            fake.url("")
        );
        let mut collector = build("llm_provider", &yaml);
        let batch = after_completion(&mut collector).await;
        assert_eq!(errors(&batch, "completion"), ["quota_exhausted"]);
        if provider == "deepseek" {
            let before = fake
                .requests()
                .iter()
                .filter(|r| r.contains("chat/completions"))
                .count();
            for _ in 0..3 {
                drop(collect("llm_provider", &mut collector).await);
            }
            let after = fake
                .requests()
                .iter()
                .filter(|r| r.contains("chat/completions"))
                .count();
            assert_eq!(before, after, "an empty account is not asked");
        }
        fake.on("/user/balance", balance(true))
            .on("/chat/completions", Script::stream(&[(0, answer)]));
        let start = Instant::now();
        let batch = loop {
            let (batch, _) = collect("llm_provider", &mut collector).await;
            if value(&batch, "llm_probe_success", &[("probe", "completion")]) == Some(1.0) {
                break batch;
            }
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "{provider}: not asked again"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let labels = [("probe", "completion"), ("error_type", "quota_exhausted")];
        assert_eq!(
            value(&batch, "llm_probe_last_error", &labels),
            Some(0.0),
            "what was said of it ends at once"
        );
    }
}

/// A pause that a success asks for is not kept: the next look shows whether all is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_success_with_retry_after_is_asked_again_at_the_usual_time() {
    let fake = FakeLlm::start();
    fake.on(
        "/v1/models",
        Script::json("200 OK", MODELS).header("retry-after", "3600"),
    );
    let mut collector = build(
        "llm_provider",
        &format!(
            "provider: openai\nbase_url: {}\napi_key: k\n",
            fake.url("/v1")
        ),
    );
    for _ in 0..3 {
        collect("llm_provider", &mut collector)
            .await
            .1
            .expect("all is well");
    }
    assert_eq!(fake.requests().len(), 3);
}

#[test]
fn mistakes_in_its_configuration_are_named() {
    let errors = try_build(
        "llm_provider",
        "provider: compatible\napi_key: abc\nbase_url: http://u:hunter2@h/v1\n",
    )
    .err()
    .expect("a mistake");
    let errors = errors.to_string();
    assert!(
        errors.contains("base_url: holds a user or a password beside a key")
            && !errors.contains("hunter2"),
        "{errors}"
    );
    let errors = try_build(
        "llm_provider",
        "provider: compatible\napi_key: abc\ncompletion: {max_tokens: 1}\n",
    )
    .err()
    .expect("mistakes")
    .to_string();
    assert!(
        errors.contains("provider: has no base URL of its own; add base_url"),
        "{errors}"
    );
    assert!(
        errors.contains("completion: key \"model\" is missing"),
        "{errors}"
    );
    assert!(
        errors.contains("completion.max_tokens: is below 2"),
        "{errors}"
    );
}

/// Errors, `probe_success` and what else a completion with these settings brings, for this script.
async fn completed_with(script: Script, settings: &str) -> (Batch, FakeLlm) {
    let fake = FakeLlm::start();
    fake.on("/models", Script::json("200 OK", MODELS))
        .on("/chat/completions", script.clone())
        .on("/messages", script);
    let yaml = settings.replace("URL", &fake.url(""));
    let batch = after_completion(&mut build("llm_provider", &yaml)).await;
    (batch, fake)
}

/// The answer is guarded: it must hold a text, wherever the stream cuts it; reasoning does not count.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_must_hold_what_is_asked_for() {
    let part = |key: &str, text: &str| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"{key}\":\"{text}\"}}}}]}}\n\n")
    };
    let settings =
        "provider: compatible\nbase_url: URL\ncompletion: {model: m-1, must_contain: the bell}\n";
    let cases = [
        (
            part("content", "rings th") + &part("content", "e bell"),
            None,
        ),
        (part("content", "nothing"), Some("wrong_answer")),
        (
            part("reasoning_content", "the bell") + &part("content", "no"),
            Some("wrong_answer"),
        ),
    ];
    for (text, failure) in cases {
        let script = Script::stream(&[(0, &text), (0, "data: [DONE]\n\n")]);
        let (batch, _fake) = completed_with(script, settings).await;
        assert_eq!(
            errors(&batch, "completion"),
            failure.into_iter().collect::<Vec<_>>()
        );
    }
}

/// A tool that is offered must be called, at both forms of streams; its arguments come in pieces.
#[tokio::test(flavor = "multi_thread")]
async fn a_tool_must_be_called_with_arguments_that_can_be_read() {
    let piece = |json: &str| format!("data: {json}\n\n");
    let open_ai = |arguments: [&str; 2]| {
        let call = |function: String| {
            piece(&format!(
                "{{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{{function}}}}}]}}}}]}}"
            ))
        };
        call("\"name\":\"ring_bell\",\"arguments\":\"\"".into())
            + &arguments
                .map(|text| call(format!("\"arguments\":\"{text}\"")))
                .concat()
            + "data: [DONE]\n\n"
    };
    let anthropic = piece(
        r#"{"type":"content_block_start","content_block":{"type":"tool_use","name":"ring_bell","input":{}}}"#,
    ) + &piece(
        r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{\"times\""}}"#,
    ) + &piece(
        r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":":3}"}}"#,
    ) + &piece(r#"{"type":"message_stop"}"#);
    let talk = piece(r#"{"choices":[{"delta":{"content":"I cannot"}}]}"#) + "data: [DONE]\n\n";
    let of = |provider: &str| {
        format!(
            "provider: {provider}\nbase_url: URL\ncompletion: {{model: m-1, tool_call: true}}\n"
        )
    };
    let cases = [
        ("compatible", open_ai(["{\\\"times\\\"", ": 3}"]), None),
        (
            "compatible",
            open_ai(["{\\\"times\\\"", ": "]),
            Some("no_tool_call"),
        ),
        ("compatible", talk, Some("no_tool_call")),
        ("anthropic", anthropic, None),
    ];
    for (provider, text, failure) in cases {
        let script = Script::stream(&[(0, &text)]);
        let (batch, fake) = completed_with(script, &of(provider)).await;
        let wanted: Vec<&str> = failure.into_iter().collect();
        assert_eq!(errors(&batch, "completion"), wanted, "{provider}: {text}");
        assert!(fake.requests().iter().any(|r| r.contains("ring_bell")));
    }
}

/// The way to the provider by phase, embeddings, what is left of a key, the page of incidents.
#[tokio::test(flavor = "multi_thread")]
async fn further_free_probes_are_measured() {
    let fake = FakeLlm::start();
    fake.on("/models", Script::json("200 OK", MODELS))
        .on(
            "/key",
            Script::json("200 OK", r#"{"data":{"limit_remaining":7.5,"usage":1}}"#),
        )
        .on(
            "/embeddings",
            Script::json("200 OK", r#"{"data":[{"embedding":[0.1,0.2,0.3]}]}"#),
        )
        .on(
            "/status.json",
            Script::json("200 OK", r#"{"status":{"indicator":"major"}}"#),
        );
    let yaml = format!(
        "provider: openrouter\nbase_url: {0}\napi_key: sk-or\nembedding: {{model: e}}\nwatch_status_page: true\nstatus_page: {0}/status.json\n",
        fake.url("")
    );
    let mut collector = build("llm_provider", &yaml);
    let (batch, result) = collect("llm_provider", &mut collector).await;
    result.expect("all is well");
    let of = |name: &str, labels: &[(&str, &str)]| value(&batch, name, labels);
    for phase in ["dns", "connect", "first_byte"] {
        let took = of("llm_probe_phase_seconds", &[("phase", phase)]);
        assert!(
            took.is_some_and(|took| (0.0..60.0).contains(&took)),
            "{phase}"
        );
    }
    assert_eq!(of("llm_probe_phase_seconds", &[("phase", "tls")]), None);
    assert_eq!(of("llm_embedding_dimension", &[("model", "e")]), Some(3.0));
    assert_eq!(
        of("llm_probe_success", &[("probe", "embedding")]),
        Some(1.0)
    );
    assert_eq!(of("llm_account_balance", &[("currency", "USD")]), Some(7.5));
    assert_eq!(of("llm_account_available", &[]), Some(1.0));
    assert_eq!(of("llm_status_page", &[("indicator", "major")]), Some(1.0));
    assert_eq!(of("llm_status_page", &[("indicator", "none")]), Some(0.0));
    // The key is the provider's alone.
    let asked = fake.requests();
    let page = asked
        .iter()
        .find(|r| r.contains("/status.json"))
        .expect("asked");
    assert!(!page.contains("sk-or"), "{page}");
}

/// Every provider of the table is taken, with the header that its key travels in.
#[tokio::test(flavor = "multi_thread")]
async fn keys_travel_as_each_provider_wants_them() {
    let cases = [
        ("gemini", "authorization: Bearer k"),
        ("moonshot", "authorization: Bearer k"),
        ("zhipu", "authorization: Bearer k"),
        ("mistral", "authorization: Bearer k"),
        ("siliconflow", "authorization: Bearer k"),
        ("bedrock", "authorization: Bearer k"),
        ("azure", "api-key: k"),
        ("anthropic", "x-api-key: k"),
    ];
    for (provider, header) in cases {
        let fake = FakeLlm::start();
        fake.on("/models", Script::json("200 OK", MODELS));
        let yaml = format!(
            "provider: {provider}\nbase_url: {}\napi_key: k\n",
            fake.url("")
        );
        let (batch, _) = collect("llm_provider", &mut build("llm_provider", &yaml)).await;
        assert_eq!(value(&batch, "llm_up", &[]), Some(1.0), "{provider}");
        let asked = fake.requests();
        assert!(asked[0].contains(header), "{provider}: {}", asked[0]);
    }
    for provider in ["azure", "bedrock"] {
        let error = try_build("llm_provider", &format!("provider: {provider}\n")).err();
        assert!(
            error.expect("refused").to_string().contains("base URL"),
            "{provider}"
        );
    }
    let error = try_build(
        "llm_provider",
        "provider: mistral\nwatch_status_page: true\n",
    )
    .err();
    assert!(
        error
            .expect("refused")
            .to_string()
            .contains("add status_page")
    );
}
