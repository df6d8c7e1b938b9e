//! The HTTP API v1 as clients of a Prometheus see it: promtool, `nightbell query`, answers recorded
//! from Prometheus 3.5.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::servers::nightbell::Nightbell;
use crate::servers::page::serve_page;
use crate::servers::wait_until;

const PAGE: &str = "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\",path=\"/a\"} 10\n\
                    http_requests_total{code=\"500\",path=\"/a\"} 3\nhttp_requests_total{code=\"200\",path=\"/b \\\"q\\\"\"} 7.5\n\
                    # HELP temp Temperature.\n# TYPE temp gauge\ntemp{room=\"x\"} 1e21\ntemp{room=\"y\"} 1e-7\ntemp{room=\"z\"} -Inf\n";

/// A nightbell that has scraped the page, and its URL.
fn started() -> (Nightbell, String) {
    let port = serve_page(PAGE);
    let nightbell = Nightbell::start(&format!(
        "rules: {{shipped: false}}\nglobal: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: page\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    ));
    wait_until("the page is scraped", Duration::from_secs(30), || {
        nightbell.json("/api/v1/query?query=temp%20offset%201s")["data"]["result"]
            .as_array()
            .is_some_and(|r| r.len() == 3)
    });
    let url = format!("http://127.0.0.1:{}", nightbell.port);
    (nightbell, url)
}

fn output(program: &str, words: &[&str]) -> Output {
    Command::new(program)
        .arg("query")
        .args(words)
        .output()
        .expect("promtool: apt-get install prometheus")
}

/// SEMANTICS 198: `nightbell query` prints what promtool prints, for answers and for mistakes.
#[test]
fn queries_are_answered_as_promtool_prints_them() {
    let (nightbell, url) = started();
    // A second ago: no scrape is under way that belongs before it.
    let now = nightbell.json("/api/v1/query?query=time()-1")["data"]["result"][1]
        .as_str()
        .expect("a time")
        .to_owned();
    let at = format!("--time={now}");
    let cases: Vec<Vec<&str>> = vec![
        vec!["instant", &at, &url, "temp"],
        vec!["-o", "json", "instant", &at, &url, "temp"],
        vec!["instant", &at, &url, "http_requests_total"],
        vec!["-o", "json", "instant", &at, &url, "http_requests_total"],
        vec!["instant", &at, &url, "1e21"],
        vec!["-o", "json", "instant", &at, &url, "1e-7"],
        vec!["instant", &at, &url, "nope"],
        vec!["-o", "json", "instant", &at, &url, "nope"],
        vec!["instant", &at, &url, "temp[1m]"],
        vec!["-o", "json", "instant", &at, &url, "temp[1m]"],
        vec!["instant", "--time=x", &url, "temp"],
        vec!["instant", &url, "foo("],
        vec![
            "range",
            "--start=1700000000",
            "--end=1700000010",
            "--step=5s",
            &url,
            "vector(1)",
        ],
        vec![
            "-o",
            "json",
            "range",
            "--start=1700000000",
            "--end=1700002000",
            &url,
            "time()",
        ],
        vec!["range", "--start=5", "--end=4", &url, "vector(1)"],
        vec![
            "series",
            "--match=temp",
            "--match=http_requests_total",
            &url,
        ],
        vec!["-o", "json", "series", "--match=temp", &url],
        vec!["series", "--match={", &url],
        vec!["labels", &url, "room"],
        vec!["-o", "json", "labels", &url, "path"],
        vec!["labels", &url, "nope"],
    ];
    for words in cases {
        let (ours, theirs) = (
            output(env!("CARGO_BIN_EXE_nightbell"), &words),
            output("promtool", &words),
        );
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{words:?}");
        assert_eq!(text(&ours.stderr), text(&theirs.stderr), "{words:?}");
        assert_eq!(ours.status.code(), theirs.status.code(), "{words:?}");
    }
}

/// SEMANTICS 197 to 208: syntax trees, errors, codes and spellings, recorded from Prometheus 3.5.
#[test]
fn requests_are_answered_as_prometheus_answers_them() {
    let (nightbell, _) = started();
    let recorded = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/prometheus_api/answers.jsonl"
    ))
    .expect("recorded");
    let mut wrong = Vec::new();
    for line in recorded.lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let request = case["request"].as_str().expect("a request");
        let (status, body) = nightbell.get(&format!("/api/v1{request}"));
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        if (Value::from(status), &body) != (case["status"].clone(), &case["body"]) {
            wrong.push(format!(
                "{request}\n  wanted {} {}\n  got    {status} {body}",
                case["status"], case["body"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Other origins may ask; another Prometheus may take the newest samples.
#[test]
fn other_origins_and_other_servers_are_served() {
    let (nightbell, _) = started();
    let ask = |method: &str, path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", nightbell.port);
        let output = Command::new("curl")
            .args([
                "-si",
                "-X",
                method,
                "-H",
                "Origin: http://page.example",
                &url,
            ])
            .output()
            .expect("curl");
        String::from_utf8_lossy(&output.stdout).to_lowercase()
    };
    for (method, status) in [("OPTIONS", "204"), ("GET", "200"), ("PUT", "405")] {
        let answer = ask(method, "/api/v1/query?query=1");
        assert!(
            answer.starts_with(&format!("http/1.1 {status}")),
            "{answer}"
        );
        assert!(
            answer.contains("\r\naccess-control-allow-origin: http://page.example\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains("\r\naccess-control-allow-methods: get, post, options\r\n"),
            "{answer}"
        );
    }
    let page = nightbell.get("/federate?match[]=temp&match[]=nope").1;
    let lines: Vec<&str> = page
        .lines()
        .map(|line| line.rsplit_once(' ').map_or(line, |(head, _)| head))
        .collect();
    assert_eq!(lines[0], "# TYPE temp");
    assert_eq!(lines.len(), 4, "{page}");
    assert!(
        lines[1].starts_with("temp{instance=\"127.0.0.1:")
            && lines[1].ends_with("job=\"page\",room=\"x\"} 1e+21"),
        "{page}"
    );
    assert_eq!(
        nightbell.get("/federate?match[]={"),
        (
            400,
            "1:2: parse error: unexpected end of input inside braces\n".into()
        )
    );
    let one = nightbell.json("/api/v1/targets/metadata?metric=temp");
    assert_eq!(one["data"][0]["help"], "Temperature.");
    assert_eq!(
        nightbell.json("/api/v1/scrape_pools")["data"]["scrapePools"],
        serde_json::json!(["nightbell", "page"])
    );
}
