//! The pass-through to providers of language models, with the built binary between a client and a
//! fake provider (paid ones cannot be had in a test): what passes is unchanged and comes at once,
//! what is measured is right, budgets hold, calls outlive reloads and end before a stop.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::servers::llm::{FakeLlm, Script};
use super::servers::nightbell::Nightbell;
use super::servers::wait_until;

const USAGE: &str = r#""usage":{"prompt_tokens":1000,"completion_tokens":100,"prompt_tokens_details":{"cached_tokens":400}}"#;
const PROMPT: &str = "the prompt that nobody may see";
const KEY: &str = "sk-secret-0123456789";

fn config(port: u16, more: &str) -> String {
    format!(
        "rules: {{shipped: false}}\ncollectors:\n  llm_proxy:\n  - {{name: openai, upstream: \"http://127.0.0.1:{port}\", provider: openai, caller_header: X-App, \
         interval: 1s, timeout: 1s{more}}}\n"
    )
}

/// A call with a key and a prompt.
fn head(path: &str, more: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         X-App: shop\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn body() -> String {
    format!(
        "{{\"model\": \"gpt-4o\",\n \"stream\": true, \"messages\": [{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}]}}"
    )
}

/// Sends a call; status, head and body of the whole answer.
fn call(nightbell: &Nightbell, path: &str, more: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", nightbell.port)).expect("connected");
    // A provider whose gate stays closed never answers.
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("set");
    stream
        .write_all(head(path, more, &body()).as_bytes())
        .expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let head = head.to_lowercase();
    let body = if head.contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    (status, head, body)
}

fn unchunked(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else {
            return body.to_owned();
        };
        out.push_str(after.get(..size).unwrap_or(after));
        rest = after.get(size + 2..).unwrap_or("");
    }
    out
}

fn value(nightbell: &Nightbell, series: &str) -> f64 {
    let query: String = url::form_urlencoded::byte_serialize(series.as_bytes()).collect();
    let answer = nightbell.json(&format!("/api/v1/query?query={query}"));
    let results = answer["data"]["result"].as_array().expect("results");
    assert!(results.len() < 2, "{answer}");
    results
        .first()
        .and_then(|result| result["value"][1].as_str()?.parse().ok())
        .unwrap_or(f64::NAN)
}

fn wait_for(nightbell: &Nightbell, series: &str, wanted: f64) {
    wait_until(
        &format!("{series} is {wanted}"),
        Duration::from_secs(30),
        || value(nightbell, series) == wanted,
    );
}

fn of(name: &str, more: &str) -> String {
    format!(
        "{name}{{source=\"proxy\",application=\"shop\",provider=\"openai\",model=\"gpt-4o\",operation=\"chat\"{more}}}"
    )
}

/// A provider whose pieces come when the test says so. The first message on its channel is the
/// request.
struct Gated {
    port: u16,
    pieces: Sender<Option<String>>,
    requests: Receiver<String>,
}

impl Gated {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (pieces, next) = channel::<Option<String>>();
        let (asked, requests) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = Vec::new();
                let mut space = [0; 4096];
                while !request.ends_with(b"}]}") {
                    match stream.read(&mut space) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => request.extend_from_slice(&space[..count]),
                    }
                }
                let _ = asked.send(String::from_utf8_lossy(&request).into_owned());
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
                // `None` cuts the answer off; an empty piece ends it.
                while let Ok(Some(piece)) = next.recv() {
                    if stream
                        .write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
                        .is_err()
                        || piece.is_empty()
                    {
                        break;
                    }
                }
            }
        });
        Gated {
            port,
            pieces,
            requests,
        }
    }

    fn send(&self, piece: &str) {
        self.pieces
            .send(Some(piece.to_owned()))
            .expect("it listens");
    }

    fn request(&self) -> String {
        self.requests
            .recv_timeout(Duration::from_secs(90))
            .expect("the provider is asked")
    }
}

/// A client of a stream.
struct Client {
    stream: TcpStream,
    read: String,
}

impl Client {
    fn call(nightbell: &Nightbell) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", nightbell.port)).expect("connected");
        stream
            .set_read_timeout(Some(Duration::from_secs(90)))
            .expect("set");
        stream
            .write_all(head("/llm/openai/v1/chat/completions", "", &body()).as_bytes())
            .expect("sent");
        Client {
            stream,
            read: String::new(),
        }
    }

    /// Reads until this has come.
    fn until(&mut self, text: &str) -> &str {
        let mut space = [0; 4096];
        while !self.read.contains(text) {
            let count = self.stream.read(&mut space).expect("the stream goes on");
            assert!(count > 0, "the stream ended before {text:?}: {}", self.read);
            self.read
                .push_str(&String::from_utf8_lossy(&space[..count]));
        }
        &self.read
    }

    fn whole(mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        self.read + &String::from_utf8_lossy(&rest)
    }
}

fn piece(text: &str) -> String {
    format!(
        "data: {{\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
    )
}

#[test]
fn what_passes_is_unchanged_comes_at_once_and_is_measured() {
    let provider = Gated::start();
    let mut nightbell = Nightbell::start(&config(provider.port, ""));
    let mut client = Client::call(&nightbell);
    let asked = provider.request();
    let (head, sent) = asked.split_once("\r\n\r\n").expect("a head");
    assert_eq!(sent, body(), "the body");
    assert!(
        head.starts_with("POST /v1/chat/completions HTTP/1.1"),
        "{head}"
    );
    let head = head.to_lowercase();
    assert!(
        head.contains(&format!("authorization: bearer {KEY}")) && head.contains("x-app: shop"),
        "{head}"
    );
    assert!(
        head.contains(&format!("content-length: {}", sent.len()))
            && head.contains(&format!("host: 127.0.0.1:{}", provider.port)),
        "{head}"
    );
    // The second piece is not sent before the first has arrived.
    let first = format!(
        "data: {{\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{{\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}}}}]}}\n\n{}",
        piece("Hi")
    );
    provider.send(&first);
    client.until("Hi");
    provider.send(&piece("there"));
    client.until("there");
    wait_for(&nightbell, "llm_proxy_running", 1.0);
    let last = format!("data: {{\"choices\":[],{USAGE}}}\n\ndata: [DONE]\n\n");
    provider.send(&last);
    provider.send("");
    let answer = client.whole();
    let (head, chunks) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(
        head.to_lowercase()
            .contains("content-type: text/event-stream"),
        "{head}"
    );
    assert_eq!(unchunked(chunks), [first, piece("there"), last].concat());
    wait_for(
        &nightbell,
        &of("gen_ai_call_duration_seconds_count", ""),
        1.0,
    );
    wait_for(
        &nightbell,
        &of("gen_ai_time_to_first_token_seconds_count", ""),
        1.0,
    );
    wait_for(
        &nightbell,
        &of("gen_ai_time_between_chunks_seconds_count", ""),
        1.0,
    );
    for (kind, count) in [("input", 1000.0), ("output", 100.0), ("cache_read", 400.0)] {
        wait_for(
            &nightbell,
            &of("gen_ai_tokens_total", &format!(",type=\"{kind}\"")),
            count,
        );
    }
    let cost = value(&nightbell, &of("gen_ai_cost_total", ",currency=\"USD\""));
    assert!(
        (cost - (600.0 * 2.5 + 400.0 * 1.25 + 100.0 * 10.0) / 1e6).abs() < 1e-12,
        "{cost}"
    );
    wait_for(&nightbell, "llm_proxy_running", 0.0);
    wait_for(&nightbell, "llm_proxy_responses_total{code=\"200\"}", 1.0);
    wait_for(
        &nightbell,
        "llm_proxy_bytes_total{direction=\"sent\"}",
        body().len() as f64,
    );
    assert_eq!(nightbell.stop(), Some(0));
    // Nothing of it is anywhere.
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
            for text in [PROMPT, KEY] {
                assert!(
                    memchr::memmem::find(&bytes, text.as_bytes()).is_none(),
                    "{} holds {text}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn a_stream_outlives_reloads_and_ends_before_a_stop() {
    let provider = Gated::start();
    let mut nightbell = Nightbell::start(&config(provider.port, ""));
    let mut client = Client::call(&nightbell);
    provider.request();
    provider.send(&piece("one"));
    client.until("one");
    // Other settings, then none at all.
    for (changed, known) in [
        (config(provider.port, ", agent_header: X-Agent"), true),
        ("rules: {shipped: false}\ncollectors: {}\n".into(), false),
    ] {
        nightbell.configure(&changed);
        nightbell.signal("-HUP");
        wait_until(
            "the configuration is in force",
            Duration::from_secs(30),
            || {
                let config = nightbell.json("/api/v1/status/config").to_string();
                config.contains("agent_header") == known && (known || !config.contains("llm_proxy"))
            },
        );
        provider.send(&piece(if known { "two" } else { "three" }));
        client.until(if known { "two" } else { "three" });
    }
    wait_until("no call begins any more", Duration::from_secs(30), || {
        call(&nightbell, "/llm/openai/v1/chat/completions", "").0 == 404
    });
    nightbell.configure(&config(provider.port, ""));
    nightbell.signal("-TERM");
    wait_until("nobody is let in any more", Duration::from_secs(30), || {
        TcpStream::connect(("127.0.0.1", nightbell.port)).is_err()
    });
    provider.send(&piece("four"));
    client.until("four");
    provider.send("data: [DONE]\n\n");
    provider.send("");
    assert!(client.whole().ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));
    assert_eq!(nightbell.stop_signalled(), Some(0));
}

#[test]
fn failures_are_passed_on_and_counted_by_their_class() {
    let provider = FakeLlm::start();
    let refusal = |status, body: &str| Script::json(status, body).header("retry-after", "7");
    provider.on(
        "/a/chat/completions",
        refusal(
            "429 Too Many Requests",
            r#"{"error":{"type":"requests","code":"rate_limit_exceeded"}}"#,
        ),
    );
    provider.on(
        "/b/chat/completions",
        refusal(
            "401 Unauthorized",
            &format!(r#"{{"error":{{"message":"wrong {KEY}","code":"invalid_api_key"}}}}"#),
        ),
    );
    provider.on(
        "/c/chat/completions",
        refusal(
            "529 Overloaded",
            r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
        ),
    );
    provider.on(
        "/d/chat/completions",
        Script::stream(&[(0, "data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n")]),
    );
    let nightbell = Nightbell::start(&config(provider.port, ""));
    for (path, status) in [("a", 429), ("b", 401), ("c", 529), ("d", 200)] {
        let (got, head, body) = call(
            &nightbell,
            &format!("/llm/openai/{path}/chat/completions?x=%20y"),
            "",
        );
        // A query is passed on, and belongs to the path of the fake.
        assert_eq!(got, 404, "{head} {body}");
        let (got, head, body) = call(
            &nightbell,
            &format!("/llm/openai/{path}/chat/completions"),
            "",
        );
        assert_eq!(got, status, "{head} {body}");
        assert!(status == 200 || head.contains("retry-after: 7"), "{head}");
    }
    assert!(
        provider
            .requests()
            .iter()
            .any(|request| request.starts_with("POST /a/chat/completions?x=%20y HTTP/1.1"))
    );
    for (class, count) in [("rate_limited", 1.0), ("auth", 1.0), ("overloaded", 2.0)] {
        wait_for(
            &nightbell,
            &of("gen_ai_errors_total", &format!(",error_class=\"{class}\"")),
            count,
        );
    }
    wait_for(&nightbell, "llm_proxy_responses_total{code=\"429\"}", 1.0);
    assert_eq!(call(&nightbell, "/llm/openai/../../etc", "").0, 400);
    assert_eq!(call(&nightbell, "/llm/other/v1/models", "").0, 404);
    assert!(!nightbell.log().contains(KEY) && !nightbell.get("/metrics").1.contains(KEY));
}

#[test]
fn a_stream_that_breaks_off_a_caller_that_goes_and_a_provider_that_is_away_are_distinguished() {
    let provider = Gated::start();
    let nightbell = Nightbell::start(&config(provider.port, ""));
    let mut client = Client::call(&nightbell);
    provider.request();
    provider.send(&piece("one"));
    client.until("one");
    provider.pieces.send(None).expect("it listens");
    client.whole();
    wait_for(
        &nightbell,
        &of("gen_ai_errors_total", ",error_class=\"stream_truncated\""),
        1.0,
    );
    let mut client = Client::call(&nightbell);
    provider.request();
    provider.send(&piece("one"));
    client.until("one");
    drop(client);
    wait_until("the call ends", Duration::from_secs(30), || {
        // The caller's end is noticed when the next piece is written.
        provider.send(&piece("more"));
        value(
            &nightbell,
            &of("gen_ai_errors_total", ",error_class=\"cancelled\""),
        ) == 1.0
    });
    nightbell.configure(&config(super::servers::free_port(), ""));
    nightbell.signal("-HUP");
    wait_until("the provider is away", Duration::from_secs(30), || {
        call(&nightbell, "/llm/openai/v1/chat/completions", "").0 == 502
    });
    wait_until("it is counted", Duration::from_secs(30), || {
        value(
            &nightbell,
            "sum(gen_ai_errors_total{error_class=\"connect\"})",
        ) >= 1.0
    });
}

#[test]
fn a_budget_refuses_and_is_remembered_across_a_restart() {
    let provider = FakeLlm::start();
    let answer = format!(
        "{{\"model\":\"gpt-4o\",\"choices\":[{{\"message\":{{\"content\":\"x\"}}}}],{USAGE}}}"
    );
    provider.on("/v1/chat/completions", Script::json("200 OK", &answer));
    let mut nightbell = Nightbell::start(&config(
        provider.port,
        ", budget: {day: 0.005, refuse: true}",
    ));
    let path = "/llm/openai/v1/chat/completions";
    // A call costs 0.003.
    for _ in 0..2 {
        let (status, _, body) = call(&nightbell, path, "");
        assert_eq!((status, body.as_str()), (200, answer.as_str()));
    }
    let (status, head, body) = call(&nightbell, path, "");
    assert_eq!(status, 429, "{body}");
    assert!(
        head.contains("retry-after:")
            && head.contains("x-should-retry: false")
            && body.contains("budget_exceeded"),
        "{head} {body}"
    );
    wait_for(&nightbell, "llm_proxy_spent{period=\"day\"}", 0.006);
    wait_for(
        &nightbell,
        "llm_proxy_refused_total{reason=\"budget\"}",
        1.0,
    );
    nightbell.kill();
    nightbell.restart();
    wait_for(&nightbell, "llm_proxy_spent{period=\"month\"}", 0.006);
    assert_eq!(call(&nightbell, path, "").0, 429);
    assert_eq!(provider.requests().len(), 2);
}

#[test]
fn others_than_this_machine_need_the_token_of_the_entry() {
    let provider = FakeLlm::start();
    provider.on("/v1/chat/completions", Script::json("200 OK", "{}"));
    let nightbell = Nightbell::start(&config(provider.port, ", token: t0ken"));
    let path = "/llm/openai/v1/chat/completions";
    assert_eq!(call(&nightbell, path, "").0, 200);
    assert_eq!(
        call(&nightbell, path, "Origin: http://evil.example\r\n").0,
        403
    );
    assert_eq!(
        call(
            &nightbell,
            path,
            "X-Forwarded-For: 192.0.2.1\r\nX-Nightbell-Token: other\r\n"
        )
        .0,
        403
    );
    assert_eq!(
        call(
            &nightbell,
            path,
            "X-Forwarded-For: 192.0.2.1\r\nX-Nightbell-Token: t0ken\r\n"
        )
        .0,
        200
    );
    assert!(
        !provider
            .requests()
            .iter()
            .any(|request| request.contains("t0ken")),
        "the token is not passed on"
    );
}
