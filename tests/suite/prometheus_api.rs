//! The HTTP API v1 as clients of a Prometheus see it: promtool, `nightbell query`, answers recorded from Prometheus 3.5.

use std::process::{Command, Output};
use std::time::Duration;

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
        nightbell.json("/api/v1/query?query=temp%20offset%201s")["data"]["result"].as_array().is_some_and(|r| r.len() == 3)
    });
    let url = format!("http://127.0.0.1:{}", nightbell.port);
    (nightbell, url)
}

fn output(program: &str, words: &[&str]) -> Output {
    Command::new(program).arg("query").args(words).output().expect("promtool: apt-get install prometheus")
}

/// SEMANTICS 198: `nightbell query` prints what promtool prints, for answers and for mistakes.
#[test]
fn queries_are_answered_as_promtool_prints_them() {
    let (nightbell, url) = started();
    // A second ago: no scrape is under way that belongs before it.
    let now = nightbell.json("/api/v1/query?query=time()-1")["data"]["result"][1].as_str().expect("a time").to_owned();
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
        vec!["range", "--start=1700000000", "--end=1700000010", "--step=5s", &url, "vector(1)"],
        vec!["-o", "json", "range", "--start=1700000000", "--end=1700002000", &url, "time()"],
        vec!["range", "--start=5", "--end=4", &url, "vector(1)"],
        vec!["series", "--match=temp", "--match=http_requests_total", &url],
        vec!["-o", "json", "series", "--match=temp", &url],
        vec!["series", "--match={", &url],
        vec!["labels", &url, "room"],
        vec!["-o", "json", "labels", &url, "path"],
        vec!["labels", &url, "nope"],
    ];
    for words in cases {
        let (ours, theirs) = (output(env!("CARGO_BIN_EXE_nightbell"), &words), output("promtool", &words));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{words:?}");
        assert_eq!(text(&ours.stderr), text(&theirs.stderr), "{words:?}");
        assert_eq!(ours.status.code(), theirs.status.code(), "{words:?}");
    }
}
