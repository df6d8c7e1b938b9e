//! The `json_api` collector against servers on real sockets that answer well, badly, late, without
//! end and not at all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nightbell::collectors::Collector;
use nightbell::model::{Batch, MetricKind};

use crate::collecting::{build, collect, try_build, value};
use crate::servers::free_port;
use crate::servers::hostile::{Hostile, Manner};
use crate::servers::http::HttpServer;

/// A server that answers everything with this body.
fn serving(body: impl Into<String>) -> HttpServer {
    let body = body.into();
    HttpServer::answering(move |_| ("200 OK", body.clone()))
}

fn url(server: &HttpServer) -> String {
    format!("url: http://127.0.0.1:{}/api?key=s3cret\n", server.port)
}

async fn once(yaml: &str) -> Batch {
    collect("json_api", &mut build("json_api", yaml)).await.0
}

fn of(batch: &Batch, name: &str) -> Option<f64> {
    value(batch, name, &[])
}

/// The reason why the endpoint is not up, `""` where it is.
fn reason(batch: &Batch) -> String {
    let reason = batch
        .families
        .get("json_api_failure_info")
        .map(|f| f.samples[0].labels.value("reason").to_owned())
        .unwrap_or_default();
    assert_eq!(
        of(batch, "json_api_up"),
        Some(f64::from(u8::from(reason.is_empty()))),
        "{reason}"
    );
    reason
}

/// The series of a metric as text, in the order of the answer.
fn series(batch: &Batch, name: &str) -> Vec<String> {
    let samples = batch
        .families
        .get(name)
        .map(|family| family.samples.as_slice())
        .unwrap_or_default();
    samples
        .iter()
        .map(|sample| format!("{} {}", sample.labels, sample.value))
        .collect()
}

/// What multi-agent's, aigc's and llmchat's endpoints answer, from one request each.
#[tokio::test(flavor = "multi_thread")]
async fn one_request_feeds_many_metrics() {
    let server = serving(
        r#"{"data":{"total_cost_usd":"12.75","total_sessions":42,"nested":{"deep":[1,{"x":-3}]}},
            "agents":[{"agent_id":"a-1","status":"active","load":0.5},{"agent_id":"a-2","status":"error","load":2}],
            "workflows":{"w1":{"state":"running"},"w2":{"state":"sleeping"}},"ok":true}"#,
    );
    let yaml = url(&server)
        + "headers: {X-Key: h3ader}
metrics:
- {name: app_cost_usd_total, path: data.total_cost_usd, type: counter, help: Cost.}
- {name: app_sessions, path: $.data.total_sessions}
- {name: app_deep, path: 'data.nested.deep[-1].x'}
- {name: app_agent_status, for_each: agents, labels: {agent: agent_id, status: status, zone: {literal: cn}}, value: 1}
- {name: app_agent_load, path: 'agents[*].load', labels: {agent: agent_id, place: $key}}
- {name: app_active_load, path: \"agents[?(@.status == 'active')].load\"}
- {name: app_workflow_up, for_each: workflows, labels: {workflow: $key}, value: state}
- {name: app_ok, path: ok, map: {true: 3}}
";
    let batch = once(&yaml).await;
    assert_eq!(reason(&batch), "");
    for (name, wanted) in [
        (
            "app_cost_usd_total",
            &[r"app_cost_usd_total 12.75"] as &[&str],
        ),
        ("app_sessions", &["app_sessions 42"]),
        ("app_deep", &["app_deep -3"]),
        (
            "app_agent_status",
            &[
                r#"app_agent_status{agent="a-1", status="active", zone="cn"} 1"#,
                r#"app_agent_status{agent="a-2", status="error", zone="cn"} 1"#,
            ],
        ),
        (
            "app_agent_load",
            &[
                r#"app_agent_load{agent="a-1", place="0"} 0.5"#,
                r#"app_agent_load{agent="a-2", place="1"} 2"#,
            ],
        ),
        ("app_active_load", &["app_active_load 0.5"]),
        (
            "app_workflow_up",
            &[
                r#"app_workflow_up{workflow="w1"} 1"#,
                r#"app_workflow_up{workflow="w2"} 0"#,
            ],
        ),
        ("app_ok", &["app_ok 3"]),
    ] {
        assert_eq!(series(&batch, name), wanted, "{name}");
    }
    assert_eq!(
        batch.families["app_cost_usd_total"].kind,
        MetricKind::Counter
    );
    assert_eq!(batch.families["app_cost_usd_total"].help, "Cost.");
    assert_eq!(of(&batch, "json_api_http_status_code"), Some(200.0));
    assert_eq!(of(&batch, "json_api_series"), Some(11.0));
    assert!(of(&batch, "json_api_body_bytes").expect("a size") > 290.0);
    assert!(of(&batch, "json_api_duration_seconds").expect("a time") > 0.0);
    assert_eq!(of(&batch, "probe_success"), None);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0].starts_with("GET /api?key=s3cret HTTP/1.1\r\n")
            && requests[0].contains("x-key: h3ader"),
        "{}",
        requests[0]
    );
}

/// T28: each component of a health answer, whatever it is there: a word, a flag, or a mapping;
/// degraded is neither up nor down.
#[tokio::test(flavor = "multi_thread")]
async fn each_component_of_a_health_answer_has_a_series() {
    let server = serving(
        r#"{"status":"degraded","services":{"database":{"status":"healthy"},"queue":{"status":"degraded"},"openai":{"status":"???"}}}"#,
    );
    let yaml = url(&server)
        + "probe: true\nmetrics: [{name: app_component_up, for_each: services, labels: {component: $key}, value: status}]\n";
    let batch = once(&yaml).await;
    let of_component =
        |component: &str| value(&batch, "app_component_up", &[("component", component)]);
    assert_eq!(
        ["database", "queue", "openai"].map(of_component),
        [Some(1.0), Some(0.5), Some(0.0)]
    );
    assert_eq!(
        ["probe_success", "probe_http_status_code"].map(|name| of(&batch, name)),
        [Some(1.0), Some(200.0)]
    );
    assert!(of(&batch, "probe_duration_seconds").is_some());
    // The whole answer is 503: it says what is wrong.
    let server = HttpServer::answering(|_| {
        (
            "503 Service Unavailable",
            r#"{"database":true,"vector_store":false,"openai":"up"}"#.into(),
        )
    });
    let yaml = url(&server)
        + "metrics:\n- {name: app_component_up, for_each: ., labels: {component: $key}}\n- {name: app_other, path: other}\n";
    let (batch, result) = collect("json_api", &mut build("json_api", &yaml)).await;
    result.expect("there was something to read");
    assert_eq!(reason(&batch), "status");
    let of_component =
        |component: &str| value(&batch, "app_component_up", &[("component", component)]);
    assert_eq!(
        ["database", "vector_store", "openai"].map(of_component),
        [Some(1.0), Some(0.0), Some(1.0)]
    );
    assert_eq!(
        value(&batch, "json_api_missing_total", &[("metric", "app_other")]),
        Some(0.0),
        "nobody promised it for a 503"
    );
}

/// Nothing is made up: what is missing, or is no number, is absent and counted.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_absent_and_counted() {
    let server = serving(
        r#"{"a":null,"b":[],"c":"many","d":NaN,"e":1e999,"f":"Infinity","g":"1e3","h":{"status":"sleeping"},"items":[{"v":1},{"v":2,"n":"x"}]}"#,
    );
    let mut yaml = url(&server)
        + "metrics:\n- {name: app_none, path: x.y.z}\n- {name: app_optional, path: x.y.z, optional: true}\n- {name: app_item, for_each: items, value: v, labels: {n: n}}\n";
    for key in ["a", "b", "c", "d", "e", "f", "g"] {
        yaml += &format!("- {{name: app_{key}, path: {key}}}\n");
    }
    yaml += "- {name: app_h, path: h.status}\n- {name: app_status, path: h.status, map: status}\n- {name: app_other, path: h.status, map: {gone: 2, '*': 9}}\n";
    let mut collector = build("json_api", &yaml);
    for round in 1..=2 {
        let (batch, result) = collect("json_api", &mut collector).await;
        result.expect("the rest is there");
        assert_eq!(reason(&batch), "");
        let counts = |name: &str| {
            let of = |family: &str| value(&batch, family, &[("metric", name)]).expect("a counter");
            (of("json_api_missing_total"), of("json_api_invalid_total"))
        };
        for (name, missing, invalid) in [
            ("app_none", 1, 0),
            ("app_optional", 0, 0),
            ("app_a", 1, 0),
            ("app_b", 0, 1),
            ("app_c", 0, 1),
            ("app_d", 0, 1),
            ("app_e", 0, 1),
            ("app_f", 0, 1),
            ("app_h", 0, 1),
        ] {
            assert!(!batch.families.contains_key(name), "{name}");
            assert_eq!(
                counts(name),
                (f64::from(missing * round), f64::from(invalid * round)),
                "{name}"
            );
        }
        assert_eq!(
            ["app_g", "app_status", "app_other"].map(|name| of(&batch, name)),
            [Some(1000.0), Some(0.0), Some(9.0)]
        );
        // A label that is missing costs no series.
        assert_eq!(
            series(&batch, "app_item"),
            ["app_item 1", r#"app_item{n="x"} 2"#]
        );
        assert_eq!(counts("app_item"), (f64::from(round), 0.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_keys_and_shapes_are_found() {
    let server = serving(
        r#"{"键.名":{"值":1,"a.b":2,"a b":3},"rows":[[1,2],[3]],"twice":1,"twice":2,"list":[{"id":7,"on":true},{"id":7,"on":true}],
            "names":{"x\u0000y":1,"emoji \ud83d\ude00":2}}"#,
    );
    let yaml = url(&server)
        + r#"metrics:
- {name: app_unicode, path: "['键.名'].值"}
- {name: app_dots, path: '["键.名"].a\.b'}
- {name: app_space, path: "'键.名'.a b"}
- {name: app_cell, path: "rows[*][*]", labels: {row: $1, column: $2}}
- {name: app_twice, path: twice}
- {name: app_list, for_each: list, value: on, labels: {id: id}}
- {name: app_name, for_each: names, labels: {name: $key}}
"#;
    let batch = once(&yaml).await;
    assert_eq!(
        ["app_unicode", "app_dots", "app_space", "app_twice"].map(|name| of(&batch, name)),
        [1.0, 2.0, 3.0, 2.0].map(Some)
    );
    let cell =
        |row: &str, column: &str| value(&batch, "app_cell", &[("row", row), ("column", column)]);
    assert_eq!(
        [
            cell("0", "0"),
            cell("0", "1"),
            cell("1", "0"),
            cell("1", "1")
        ],
        [Some(1.0), Some(2.0), Some(3.0), None]
    );
    assert_eq!(series(&batch, "app_list"), [r#"app_list{id="7"} 1"#]);
    assert_eq!(
        value(
            &batch,
            "json_api_series_dropped_total",
            &[("reason", "duplicate")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value(&batch, "app_name", &[("name", "emoji \u{1f600}")]),
        Some(2.0)
    );
}

/// Every way to fail has its reason, costs no more than the deadline, and shows no secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_why_and_shows_no_secret() {
    let hostile = |manner: Manner| Hostile::start(manner);
    let json = |body: Vec<u8>| hostile(Manner::Serve("application/json", body));
    let wide = format!("{{\"a\":[{}1]}}", "1,".repeat(1_000_000)).into_bytes();
    let html = b"<!DOCTYPE html><html><body>It works!</body></html>".to_vec();
    let truncated = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a\": 1, ".to_vec();
    for (server, wanted, message) in [
        (
            hostile(Manner::Serve("text/html", html)),
            "json",
            "the body is HTML, not JSON",
        ),
        (
            json(b"{\"a\": 1".to_vec()),
            "json",
            "the body is not JSON, or breaks off",
        ),
        (
            json(vec![0xff, 0xfe, 0x00]),
            "json",
            "the body is not JSON, or breaks off",
        ),
        (json(Vec::new()), "json", "the body is empty"),
        (
            json("[".repeat(1_000_000).into_bytes()),
            "json",
            "the JSON is nested too deeply",
        ),
        (
            json("{\"a\":".repeat(500_000).into_bytes()),
            "json",
            "the JSON is nested too deeply",
        ),
        (json(wide), "json", "the JSON has too many values"),
        (
            json(vec![b' '; 5 << 20]),
            "too_large",
            "answer is larger than 4194304 bytes",
        ),
        (
            hostile(Manner::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())),
            "protocol",
            "the answer is not HTTP, or broke off",
        ),
        (
            hostile(Manner::Raw(truncated)),
            "json",
            "the body is not JSON, or breaks off",
        ),
        (
            hostile(Manner::Raw(
                b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"a\": 1}".to_vec(),
            )),
            "protocol",
            "the answer is not HTTP, or broke off",
        ),
        (
            hostile(Manner::Truncated),
            "protocol",
            "the answer is not HTTP, or broke off",
        ),
        (
            hostile(Manner::RedirectLoop),
            "protocol",
            "the answer is not HTTP, or broke off",
        ),
        (
            hostile(Manner::Endless),
            "too_large",
            "answer is larger than 4194304 bytes",
        ),
        (
            hostile(Manner::Raw(
                b"HTTP/1.1 500 Internal\r\nContent-Length: 9\r\n\r\n{\"a\": 17}".to_vec(),
            )),
            "status",
            "status 500",
        ),
    ] {
        let yaml = format!(
            "url: http://user:hunter22@{}/x?token=s3cret\nmetrics: [{{name: app_a, path: a}}]\n",
            server.address
        );
        let (batch, result) = collect("json_api", &mut build("json_api", &yaml)).await;
        assert_eq!(reason(&batch), wanted, "{message}");
        let labels = &batch.families["json_api_failure_info"].samples[0].labels;
        assert_eq!(labels.value("message"), message);
        assert_eq!(labels.value("url"), format!("http://{}/x", server.address));
        assert_eq!(result.expect_err("nothing to read").reason, message);
        assert!(
            !batch.families.contains_key("app_a")
                && !format!("{batch:?}").contains("s3cret")
                && !format!("{batch:?}").contains("hunter22")
        );
    }
    let yaml = format!(
        "url: http://127.0.0.1:{}/\nprobe: true\nmetrics: [{{name: app_a, path: a}}]\n",
        free_port()
    );
    let (batch, result) = collect("json_api", &mut build("json_api", &yaml)).await;
    assert_eq!(reason(&batch), "connect");
    result.expect_err("refused");
    assert_eq!(
        ["json_api_http_status_code", "probe_success"].map(|name| of(&batch, name)),
        [Some(0.0); 2]
    );
    assert_eq!(
        batch.families["probe_failure_info"].samples[0]
            .labels
            .value("reason"),
        "connect"
    );
    assert_eq!(of(&batch, "json_api_series"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_or_dawdles_fails_at_the_deadline() {
    for manner in [Manner::Silent, Manner::SlowHead, Manner::Stalls] {
        let server = Hostile::start(manner.clone());
        let mut collector = build(
            "json_api",
            &format!(
                "url: http://{}/\nmetrics: [{{name: app_a, path: a}}]\n",
                server.address
            ),
        );
        let start = Instant::now();
        let (batch, _) = collect("json_api", &mut collector).await;
        assert_eq!(reason(&batch), "timeout", "{manner:?}");
        assert!(
            start.elapsed() >= Duration::from_secs(4),
            "the deadline is 5 s"
        );
        // It comes back with the server.
        server.become_(Manner::Serve("application/json", b"{\"a\": 1}".to_vec()));
        let (batch, result) = collect("json_api", &mut collector).await;
        result.expect("it is back");
        assert_eq!(
            (reason(&batch).as_str(), of(&batch, "app_a")),
            ("", Some(1.0))
        );
    }
}

/// 10,000 agents: a bounded number of series, the same ones each time, the rest counted.
#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_series_is_bounded() {
    let agents: Vec<String> = (0..10_000)
        .map(|n| format!(r#"{{"id":"agent-{n}","load":{n}}}"#))
        .collect();
    let server = serving(format!("{{\"agents\":[{}],\"n\":1}}", agents.join(",")));
    let yaml = url(&server)
        + "metrics: [{name: app_load, path: 'agents[*].load', labels: {agent: id}}, {name: app_n, path: n}]\n";
    let mut collector = build("json_api", &yaml);
    let mut before = None;
    for round in 1..=2 {
        let (batch, result) = collect("json_api", &mut collector).await;
        result.expect("the first ones are there");
        let kept: BTreeSet<String> = series(&batch, "app_load").into_iter().collect();
        assert_eq!(kept.len(), 1000);
        assert!(
            before
                .replace(kept.clone())
                .is_none_or(|before| before == kept)
        );
        assert_eq!(
            value(
                &batch,
                "json_api_series_dropped_total",
                &[("reason", "limit")]
            ),
            Some(f64::from(9001 * round))
        );
    }
    let batch = once(&(yaml + "max_series: 20000\n")).await;
    assert_eq!(
        (series(&batch, "app_load").len(), of(&batch, "app_n")),
        (10_000, Some(1.0))
    );
}

/// A label whose values are new each time does not fill the store.
#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_a_label_s_values_within_an_hour_is_bounded() {
    let calls = Arc::new(AtomicUsize::new(0));
    let server = HttpServer::answering(move |_| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        (
            "200 OK",
            format!(
                r#"{{"items":[{{"id":"request-{call}-a"}},{{"id":"request-{call}-b"}},{{"id":"same"}}]}}"#
            ),
        )
    });
    let yaml = url(&server)
        + "max_series: 5\nmetrics: [{name: app_item, for_each: items, labels: {id: id}, value: 1}]\n";
    let mut collector = build("json_api", &yaml);
    let mut all = BTreeSet::new();
    for _ in 0..10 {
        let (batch, _) = collect("json_api", &mut collector).await;
        let now = series(&batch, "app_item");
        assert!(
            now.contains(&r#"app_item{id="same"} 1"#.to_owned()),
            "what is known goes on"
        );
        all.extend(now);
    }
    assert_eq!(all.len(), 5);
    let (batch, _) = collect("json_api", &mut collector).await;
    assert_eq!(
        value(
            &batch,
            "json_api_series_dropped_total",
            &[("reason", "label_values")]
        ),
        Some(18.0)
    );
    let long = serving(format!(r#"[{{"id":"{}"}}]"#, "x".repeat(100_000)));
    let batch = once(
        &(url(&long) + "metrics: [{name: app_item, for_each: ., labels: {id: id}, value: 1}]\n"),
    )
    .await;
    assert_eq!(
        batch.families["app_item"].samples[0]
            .labels
            .value("id")
            .chars()
            .count(),
        257
    );
}

/// A server whose tokens end after some requests, and what it was asked.
fn guarded(lives: usize) -> HttpServer {
    let state = Arc::new(std::sync::Mutex::new((0_usize, 0_usize)));
    HttpServer::answering(move |request| {
        let mut state = state.lock().expect("not poisoned");
        let (token, used) = &mut *state;
        if request.starts_with("POST /login ") {
            if !request.ends_with(r#"{"user":"ops","password":"hunter22"}"#) {
                return (
                    "401 Unauthorized",
                    r#"{"detail":"hunter22 is wrong"}"#.into(),
                );
            }
            (*token, *used) = (*token + 1, 0);
            return (
                "200 OK",
                format!(r#"{{"data":{{"token":"t0ken-{token}","expires_in":3600}}}}"#),
            );
        }
        *used += 1;
        let is_known = *token > 0
            && *used <= lives
            && request.contains(&format!("authorization: Bearer t0ken-{token}\r\n"));
        if is_known {
            ("200 OK", r#"{"a":1}"#.into())
        } else {
            ("401 Unauthorized", r#"{"a":0}"#.into())
        }
    })
}

fn login(server: &HttpServer, password: &str) -> String {
    format!(
        "{}login: {{url: 'http://127.0.0.1:{}/login', json: {{user: ops, password: {password}}}, token: data.token, expires: data.expires_in}}\n\
         metrics: [{{name: app_a, path: a}}]\n",
        url(server),
        server.port
    )
}

/// A token that expires in mid-run is renewed once, and the request repeated: nothing is lost, and
/// nothing is reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_is_renewed_and_the_request_repeated() {
    let server = guarded(2);
    let mut collector = build("json_api", &login(&server, "hunter22"));
    for (round, renewals) in [1.0, 1.0, 2.0, 2.0, 3.0].into_iter().enumerate() {
        let (batch, result) = collect("json_api", &mut collector).await;
        result.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(
            (reason(&batch).as_str(), of(&batch, "app_a")),
            ("", Some(1.0)),
            "round {round}"
        );
        assert_eq!(
            of(&batch, "json_api_token_renewals_total"),
            Some(renewals),
            "round {round}"
        );
        assert_eq!(of(&batch, "json_api_token_refused"), Some(0.0));
        assert!(
            of(&batch, "json_api_token_expiry_timestamp_seconds").is_some_and(|end| end > 1.7e9)
        );
        assert!(!format!("{batch:?}").contains("t0ken"));
    }
    let logins = server
        .requests()
        .iter()
        .filter(|request| request.starts_with("POST /login"))
        .count();
    assert_eq!(
        (logins, server.requests().len()),
        (3, 10),
        "three logins, five answers, two refusals"
    );
}

/// Wrong credentials have a metric of their own, and are not tried again and again.
#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_distinguished_and_not_repeated() {
    let server = guarded(2);
    let mut collector = build("json_api", &login(&server, "hunter23"));
    for _ in 0..3 {
        let (batch, result) = collect("json_api", &mut collector).await;
        assert_eq!(reason(&batch), "token");
        assert_eq!(of(&batch, "json_api_token_refused"), Some(1.0));
        assert_eq!(result.expect_err("refused").reason, "login: status 401");
        assert!(!format!("{batch:?}").contains("hunter2"));
    }
    assert_eq!(
        server.requests().len(),
        1,
        "an account must not be locked by its monitor"
    );
    // A token that is new and refused: no third attempt.
    let server = guarded(0);
    let mut collector = build("json_api", &login(&server, "hunter22"));
    let (batch, _) = collect("json_api", &mut collector).await;
    assert_eq!(
        (
            reason(&batch).as_str(),
            of(&batch, "json_api_token_refused")
        ),
        ("status", Some(1.0))
    );
    assert!(
        !batch.families.contains_key("app_a"),
        "what a refusal says is no value"
    );
    assert_eq!(server.requests().len(), 2);
    let (batch, _) = collect("json_api", &mut collector).await;
    assert_eq!(
        (
            reason(&batch).as_str(),
            of(&batch, "json_api_token_refused")
        ),
        ("token", Some(1.0))
    );
    // A fixed token that was refused.
    for (line, status) in [
        ("authorization: {credentials: old}\n", "401 Unauthorized"),
        ("", "403 Forbidden"),
    ] {
        let server = HttpServer::answering(move |_| (status, "{}".into()));
        let batch = once(&(url(&server) + line + "metrics: [{name: app_a, path: a}]\n")).await;
        assert_eq!(
            (
                reason(&batch).as_str(),
                of(&batch, "json_api_token_refused")
            ),
            ("status", Some(1.0))
        );
    }
    // A login that is away is no refusal; one that says no with status 200 is.
    for (body, refused) in [
        ("", 0.0),
        (r#"{"code":401,"msg":"bad password"}"#, 1.0),
        ("<html>", 0.0),
    ] {
        let server = serving(body);
        let port = if body.is_empty() {
            free_port()
        } else {
            server.port
        };
        let yaml = format!(
            "url: http://127.0.0.1:1/\nlogin: {{url: 'http://127.0.0.1:{port}/', form: {{u: x}}}}\nmetrics: [{{name: app_a, path: a}}]\n"
        );
        let batch = once(&yaml).await;
        assert_eq!(
            (
                reason(&batch).as_str(),
                of(&batch, "json_api_token_refused")
            ),
            ("token", Some(refused)),
            "{body}"
        );
    }
}

/// A program gives the token, without a shell, for a bounded time.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_may_give_the_token() {
    let server =
        HttpServer::answering(
            |request| match request.contains("x-token: token fresh\r\n") {
                true => ("200 OK", r#"{"a":1}"#.into()),
                false => ("401 Unauthorized", "{}".into()),
            },
        );
    let rest = "token_header: 'X-Token: token {token}'\nmetrics: [{name: app_a, path: a}]\n";
    for (command, reason_wanted, message) in [
        ("[echo, fresh]", "", ""),
        ("[echo, old]", "status", "status 401"),
        (
            "[/no/such/program]",
            "token",
            "token_command: cannot be started: entity not found",
        ),
        (
            "[sh, -c, 'echo s3cret; exit 3']",
            "token",
            "token_command: exit status 3",
        ),
        ("['true']", "token", "token_command: printed no token"),
        (
            "[sleep, '600']",
            "token",
            "token_command: did not end in time",
        ),
    ] {
        let batch = once(&format!("{}token_command: {command}\n{rest}", url(&server))).await;
        assert_eq!(reason(&batch), reason_wanted, "{command}");
        if !message.is_empty() {
            assert_eq!(
                batch.families["json_api_failure_info"].samples[0]
                    .labels
                    .value("message"),
                message
            );
        }
        assert!(!format!("{batch:?}").contains("s3cret"));
    }
}

const MODULES: &str = r#"
modules:
  default:
    headers: {X-Dummy: my-test-header}
    body: {content: '{"q": 1}'}
    valid_status_codes: [200, 202]
    http_client_config: {basic_auth: {username: u, password: p}}
    metrics:
    - {name: app_global, path: '{ .counter }', valuetype: counter, help: A value., labels: {environment: beta, location: 'planet-{.location}'}}
    - name: app_stamped
      type: object
      path: '{ .values[?(@.state == "INACTIVE")] }'
      epochTimestamp: '{ .timestamp }'
      labels: {id: '{.id}'}
      values: {count: '{.count}'}
    - name: app_value
      type: object
      path: '{.values[?(@.state == "ACTIVE")]}'
      labels: {environment: beta, id: '{.id}'}
      values: {active: 1, count: '{.count}', boolean: '{.some_boolean}'}
    - {name: app_single, path: '{ .values[?(@.state == "INACTIVE")].count }', epochTimestamp: '{ .timestamp }', labels: {environment: beta}}
    - {name: app_missing_key, path: '{ .missing_key }', allow_missing_key: true}
"#;

/// The sample that json_exporter ships, with its own configuration: the same names and values.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_of_json_exporter_gives_the_same_metrics() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("json_exporter.yml");
    std::fs::write(&file, MODULES).expect("written");
    let server = serving(
        r#"{"counter":1234,"timestamp":1657568506,"values":[
            {"id":"id-A","count":1,"some_boolean":true,"state":"ACTIVE"},
            {"id":"id-B","count":2,"some_boolean":true,"state":"INACTIVE","timestamp":1657568506000},
            {"id":"id-C","count":3,"some_boolean":false,"state":"ACTIVE"}],"location":"mars"}"#,
    );
    let yaml = format!("{}modules_file: {}\n", url(&server), file.display());
    let batch = once(&yaml).await;
    assert_eq!(reason(&batch), "");
    for (name, wanted) in [
        (
            "app_global",
            &[r#"app_global{environment="beta", location="planet-mars"} 1234"#] as &[&str],
        ),
        ("app_stamped_count", &[r#"app_stamped_count{id="id-B"} 2"#]),
        (
            "app_value_active",
            &[
                r#"app_value_active{environment="beta", id="id-A"} 1"#,
                r#"app_value_active{environment="beta", id="id-C"} 1"#,
            ],
        ),
        (
            "app_value_count",
            &[
                r#"app_value_count{environment="beta", id="id-A"} 1"#,
                r#"app_value_count{environment="beta", id="id-C"} 3"#,
            ],
        ),
        (
            "app_value_boolean",
            &[
                r#"app_value_boolean{environment="beta", id="id-A"} 1"#,
                r#"app_value_boolean{environment="beta", id="id-C"} 0"#,
            ],
        ),
    ] {
        assert_eq!(series(&batch, name), wanted, "{name}");
    }
    assert_eq!(
        series(&batch, "app_single"),
        [r#"app_single{environment="beta"} 2"#]
    );
    assert_eq!(
        value(
            &batch,
            "json_api_missing_total",
            &[("metric", "app_missing_key")]
        ),
        Some(0.0)
    );
    let kinds = ["app_global", "app_value_count"].map(|name| batch.families[name].kind);
    assert_eq!(kinds, [MetricKind::Counter, MetricKind::Untyped]);
    assert_eq!(
        batch.families["app_stamped_count"].samples[0]
            .timestamp
            .map(|at| at.0),
        Some(1_657_568_506_000)
    );
    let request = &server.requests()[0];
    assert!(
        request.starts_with("POST ")
            && request.ends_with(r#"{"q": 1}"#)
            && request.contains("x-dummy: my-test-header"),
        "{request}"
    );
    assert!(request.contains("authorization: Basic dTpw"), "{request}");
}

#[test]
fn what_a_module_asks_for_and_is_not_known_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("json_exporter.yml");
    let text = "modules:
  default:
    body: {content: '{{ now }}', templatize: true}
    metrics:
    - {name: app_a, path: '{ ..price }'}
    - {name: app_b, path: '{.a}', engine: cel}
    - {name: app_c, path: '{.a}', type: object, values: {x: '{.a[0:2]}'}}
    - {name: app_d, path: '{range .a[*]}{.b}{end}'}
    - {name: app_e, path: '{.a}', valuetype: summary, speed: 1}
";
    std::fs::write(&file, text).expect("written");
    let yaml = format!("url: http://h/\nmodules_file: {}\n", file.display());
    let errors = try_build("json_api", &yaml)
        .err()
        .expect("mistakes")
        .to_string();
    for wanted in [
        "json_exporter.yml:3:46: modules.default.body.templatize: templates of a body are not known here; write the body as it is to be sent",
        "json_exporter.yml:5:27: modules.default.metrics[0].path: \"..price\" holds .. , which searches at every depth; name the whole way, step by step",
        "json_exporter.yml:6:43: modules.default.metrics[1].engine: \"cel\" is not known here; write the metric with engine: jsonpath",
        "modules.default.metrics[2].values.x: \".a[0:2]\" has [0:2], which is no index; give an index",
        "modules.default.metrics[3].path: \"range .a[*]\" is a template's command, which is not known here; give paths alone",
        "modules.default.metrics[4].valuetype: \"summary\" is not known; give gauge, counter or untyped",
        "modules.default.metrics[4].speed: unknown key",
    ] {
        assert!(errors.contains(wanted), "{wanted}\n{errors}");
    }
    let errors = try_build("json_api", &(yaml + "module: animals\nmetrics: []\n"))
        .err()
        .expect("mistakes")
        .to_string();
    assert!(
        errors.contains("has no module \"animals\"; known there: default"),
        "{errors}"
    );
    assert!(
        errors.contains("metrics: stands beside modules_file"),
        "{errors}"
    );
    let errors = try_build("json_api", "url: http://h/\nmodules_file: /no/such/file\n")
        .err()
        .expect("mistakes")
        .to_string();
    assert!(errors.contains("/no/such/file: cannot be read"), "{errors}");
}

#[test]
fn mistakes_in_its_configuration_are_named_and_no_secret_is_quoted() {
    let yaml = "url: 'ftp://u:s3cret@h/'
max_series: 0
login: {url: 'http://h/login', json: {a: s3cret}, body: s3cret, header: 'X-Token {token}'}
token_command: [token]
authorization: {credentials: s3cret}
metrics:
- {name: 'a-b', path: a}
- {name: app_a, path: 'a[0:1]'}
- {name: app_b, type: histogram, path: b}
- {name: app_c, for_each: c, value: 'x[*].y'}
- {name: app_d, path: d, labels: {k: $key}}
- {name: app_e, path: e, labels: {instance: e, le-x: e, ok: 'e[*]'}}
- {name: json_api_up, path: e}
- {name: app_f}
- {name: app_g, path: a, value: b, map: 3, max: 1}
- {name: app_h, path: $nonsense}
";
    let errors = try_build("json_api", yaml)
        .err()
        .expect("mistakes")
        .to_string();
    for wanted in [
        "nightbell.yml:1:6: url: is not an http or https URL",
        "max_series: is 0",
        "login.body: stands beside another body; keep one of json, form, body",
        "login.header: is not a header with {token} in it",
        "token_command: stands beside \"login\"",
        "login: stands beside another way to log in",
        "\"a-b\" is not the name of a metric",
        "metrics[1].path: \"a[0:1]\" has [0:1], which is no index",
        "metrics[2].type: \"histogram\" is not known; give gauge or counter",
        "metrics[3].value: finds several values for one series; name the way up to the last [*] in for_each",
        "metrics[4].labels: use $key without for_each",
        "\"app_e\" has the label \"instance\", which cannot be set here",
        "\"app_e\" has the label \"le-x\", which cannot be set here",
        "metrics[5].labels.ok: finds several values for one label",
        "\"json_api_up\" is a name that nightbell gives",
        "metrics[7]: key \"path\" is missing; add path: where the value is",
        "metrics[8].path: stands beside \"value\"",
        "metrics[8].map: is no mapping",
        "metrics[8].max: unknown key",
        "metrics[9].path: \"$nonsense\" begins with $",
    ] {
        assert!(errors.contains(wanted), "{wanted}\n{errors}");
    }
    assert!(!errors.contains("s3cret"), "{errors}");
    let errors = try_build("json_api", "{}\n")
        .err()
        .expect("mistakes")
        .to_string();
    assert!(
        errors.contains("url: key \"url\" is missing; add url:")
            && errors.contains("metrics: names no metric"),
        "{errors}"
    );
    let collector: Box<dyn Collector> = build(
        "json_api",
        "url: http://u:s3cret@h:8000/x?token=s3cret#y\nprobe: true\n",
    );
    assert_eq!(collector.address(), "http://h:8000/x");
}
