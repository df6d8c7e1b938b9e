//! Expressions that want all the memory, all the time or all the seats.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::{collecting, connected, is_collecting, megabytes, number, of_holder, wait_for};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

/// Far below what the attacks would take, far above what the program needs.
const MOST_MEGABYTES: u64 = 350;

fn form(nightbell: &Nightbell, path: &str, pairs: &[(&str, &str)]) -> (u16, String) {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    let head = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
        body.len()
    );
    nightbell.request_with("POST", path, &head, &body)
}

#[test]
fn an_expression_that_would_take_the_memory_is_refused_before_it_does() {
    let nightbell = collecting(300, "memory: 64MB");
    let long = "x".repeat(100_000);
    let wide = format!(
        "count(label_replace(m, \"a\", \"{long}\", \"i\", \".*\") or label_replace(m, \"b\", \"{long}y\", \"i\", \".*\"))"
    );
    let joined = format!("label_join(m, \"a\", \"{long}\", \"i\", \"i\", \"i\")");
    // What is pinned has a value at every step, however short its history.
    let at = number(&nightbell, "max(timestamp(up{job=\"page\"}))").ceil() as i64;
    for query in [
        "max_over_time(({__name__=\"m\"} @ NOW)[1h:1ms])",
        "count_over_time(vector(1)[40000s:1ms])",
        "sum_over_time(sin(vector(time()))[30h:10ms])",
        "max_over_time(sum by (i) (m @ NOW)[1h:1ms])",
        "max_over_time((m @ NOW + 1)[1h:1ms])",
        "max_over_time((m @ NOW and on (i) m @ NOW)[1h:1ms])",
        "max_over_time((m @ NOW * on (i) group_left m @ NOW)[1h:1ms])",
        "max_over_time(topk(300, m @ NOW)[1h:1ms])",
        "max_over_time(count_values(\"v\", m @ NOW)[1h:1ms])",
        "quantile_over_time(0.5, vector(scalar(m{i=\"1\"} @ NOW))[40000s:1ms])",
        &wide,
        &joined,
    ] {
        let query = &query.replace("NOW", &at.to_string());
        let (status, body) = form(&nightbell, "/api/v1/query", &[("query", query)]);
        let shown = &query[..query.len().min(80)];
        // What one query may have, or what is left for all of them.
        let words = "query processing would load too many samples into memory in query execution";
        assert!(
            (status == 422 && body.contains(words)) || (status == 503 && query.len() > 1000),
            "{shown}: {status} {body}"
        );
        assert!(
            body.contains("limits.memory"),
            "{shown}: the remedy: {body}"
        );
    }
    assert!(
        megabytes(&nightbell, "VmHWM") < MOST_MEGABYTES,
        "{} MB",
        megabytes(&nightbell, "VmHWM")
    );
    assert_eq!(
        number(&nightbell, "count(m)"),
        300.0,
        "small queries are answered as before"
    );
    let (status, _) = form(
        &nightbell,
        "/api/v1/query",
        &[("query", "max_over_time({__name__=~\".+\"}[1h:1ms])")],
    );
    assert_eq!(
        status, 422,
        "the series without their names are the same, or they are too many"
    );
    wait_for(
        &nightbell,
        "nightbell_memory_reserved_bytes",
        "queries",
        |bytes| bytes == 0.0,
    );
    wait_for(
        &nightbell,
        "nightbell_memory_refused_total",
        "queries",
        |count| count >= 12.0,
    );
    is_collecting(&nightbell);
}

/// What has data at a few of many steps takes the memory of these few.
#[test]
fn a_range_with_little_data_is_answered() {
    let nightbell = collecting(3_000, "memory: 64MB");
    let end = number(&nightbell, "max(timestamp(up{job=\"page\"}))") as i64;
    let (start, end) = ((end - 100_000).to_string(), end.to_string());
    let ask = |query: &str| {
        form(
            &nightbell,
            "/api/v1/query_range",
            &[
                ("query", query),
                ("start", &start),
                ("end", &end),
                ("step", "10"),
            ],
        )
    };
    for query in [
        "{__name__=~\"m\"}",
        "rate(m[1m]) + 1",
        "count(m) or vector(0)",
        "max_over_time(m[1m:10s])",
    ] {
        let (status, body) = ask(query);
        assert_eq!(status, 200, "{query}: {}", &body[..body.len().min(300)]);
    }
    let dense = serde_json::from_str::<Value>(&ask("count(m) or vector(0)").1).expect("JSON");
    let values = dense["data"]["result"][0]["values"]
        .as_array()
        .map_or(0, Vec::len)
        + dense["data"]["result"][1]["values"]
            .as_array()
            .map_or(0, Vec::len);
    assert_eq!(values, 10_001, "every step has a value");
    assert!(
        megabytes(&nightbell, "VmHWM") < MOST_MEGABYTES,
        "{} MB",
        megabytes(&nightbell, "VmHWM")
    );
}

/// The path of a query whose answer is long.
fn long_query(nightbell: &Nightbell) -> String {
    let at = number(nightbell, "max(timestamp(up{job=\"page\"}))").ceil() as i64;
    format!(
        "/api/v1/query_range?query=m%20@%20{at}/3e7&start=1700000000.123&end=1700010999.123&step=1"
    )
}

/// Such a query whose answer is not read.
fn unread(nightbell: &Nightbell) -> TcpStream {
    let mut stream = connected("127.0.0.1", nightbell.port);
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    let query = long_query(nightbell);
    stream
        .write_all(format!("GET {query} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
        .expect("sent");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("the answer begins");
    assert_eq!(String::from_utf8_lossy(&head), "HTTP/1.1 200");
    stream
}

#[test]
fn unread_answers_hold_their_seats_and_nobody_else_waits_longer_than_he_said() {
    let nightbell = collecting(40, "memory: 512MB");
    let readers: Vec<TcpStream> = (0..20).map(|_| unread(&nightbell)).collect();
    let (status, body) = nightbell.get("/api/v1/query?query=1&timeout=1s");
    assert_eq!(status, 503, "{body}");
    assert!(
        body.contains("\"errorType\":\"timeout\"")
            && body.contains("query timed out in query queue"),
        "{body}"
    );
    for path in [
        "/federate?match[]=m",
        "/metrics",
        "/-/healthy",
        "/api/v1/labels",
        "/api/v2/alerts",
    ] {
        assert_eq!(
            nightbell.get(path).0,
            200,
            "{path} does not wait for queries"
        );
    }
    let url = format!("http://127.0.0.1:{}", nightbell.port);
    let command = std::process::Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["query", "instant", &url, "1 + 1"])
        .output();
    let command = command.expect("it runs");
    let answer = String::from_utf8_lossy(&command.stdout).into_owned();
    assert!(
        command.status.success() && answer.contains("scalar: 2"),
        "an operator does not wait for dashboards: {command:?}"
    );
    wait_for(
        &nightbell,
        "nightbell_memory_reserved_bytes",
        "answers",
        |bytes| bytes > 20.0 * 16.0 * 11_000.0,
    );
    drop(readers);
    wait_until("the seats are free again", Duration::from_secs(60), || {
        nightbell.get("/api/v1/query?query=1&timeout=5s").0 == 200
    });
    assert!(
        megabytes(&nightbell, "VmHWM") < 2 * MOST_MEGABYTES,
        "{} MB",
        megabytes(&nightbell, "VmHWM")
    );
}

/// Two answers do not fit at once: the second waits for the end of the first, as long as it said,
/// and holds nothing meanwhile.
#[test]
fn a_query_waits_for_the_memory_that_others_hold() {
    let nightbell = collecting(40, "memory: 24MB");
    let reader = unread(&nightbell);
    let long =
        |timeout: &str| nightbell.get(&format!("{}&timeout={timeout}", long_query(&nightbell)));
    let (status, body) = long("1s");
    assert!(
        status == 503 && body.contains("limits.memory is 24 MiB"),
        "{status} {}",
        &body[..body.len().min(300)]
    );
    let refused = || of_holder(&nightbell, "nightbell_memory_refused_total", "queries");
    let before = refused();
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| long("80s"));
        wait_until("it finds no memory", Duration::from_secs(60), || {
            refused() > before
        });
        drop(reader);
        let (status, body) = patient.join().expect("no panic");
        assert_eq!(status, 200, "{}", &body[..body.len().min(300)]);
    });
}

#[test]
fn selections_of_regular_expressions_are_not_kept() {
    let nightbell = collecting(10, "memory: 64MB");
    let alternatives = |salt: usize| {
        (0..8_000)
            .map(|i| format!("{salt}_{i}"))
            .collect::<Vec<_>>()
            .join("|")
    };
    let ask = |pattern: &str| {
        form(
            &nightbell,
            "/api/v1/query",
            &[("query", &format!("count(m{{i=~\"{pattern}\"}})"))],
        )
    };
    for salt in 0..20 {
        let (status, body) = ask(&alternatives(salt));
        assert_eq!(status, 200, "{body}");
    }
    wait_for(
        &nightbell,
        "nightbell_memory_reserved_bytes",
        "caches",
        |bytes| bytes < 1e6,
    );
    // Alternatives of plain text need no compiling: a dashboard's list of every pod is answered.
    let pods: Vec<String> = (0..60_000).map(|i| format!("pod-{i:015}")).collect();
    let (status, body) = ask(&pods.join("|"));
    assert_eq!(status, 200, "{}", &body[body.len().saturating_sub(300)..]);
    let (status, body) = ask(&"a.|".repeat(400_000));
    assert!(
        status == 400 && body.contains("it is longer than"),
        "{status} {}",
        &body[body.len().saturating_sub(200)..]
    );
    assert!(
        megabytes(&nightbell, "VmHWM") < MOST_MEGABYTES,
        "{} MB",
        megabytes(&nightbell, "VmHWM")
    );
}

#[test]
fn floods_of_lookups_leave_collection_and_health_alone() {
    let nightbell = collecting(500, "memory: 64MB");
    let many: Vec<(&str, &str)> =
        std::iter::repeat_n(("match[]", "{__name__=~\".+\"}"), 3_000).collect();
    let (status, body) = form(&nightbell, "/api/v1/series", &many);
    assert!(
        [400, 422].contains(&status) && body.contains("too many"),
        "{status} {body}"
    );
    let selectors: Vec<String> = (0..60)
        .map(|i| format!("{{__name__=~\".+\", i!~\"{i}x.*\"}}"))
        .collect();
    let pairs: Vec<(&str, &str)> = selectors.iter().map(|s| ("match[]", s.as_str())).collect();
    let pattern = format!(
        "m{{i=~\"{}\"}}",
        (0..20_000)
            .map(|i| i.to_string())
            .collect::<Vec<_>>()
            .join("|")
    );
    std::thread::scope(|scope| {
        let attacks: Vec<_> = (0..8)
            .map(|i| {
                let (nightbell, pairs, pattern) = (&nightbell, &pairs, &pattern);
                scope.spawn(move || match i % 2 {
                    0 => form(nightbell, "/api/v1/series", pairs).0,
                    _ => form(nightbell, "/api/v1/format_query", &[("query", pattern)]).0,
                })
            })
            .collect();
        for _ in 0..5 {
            let begun = std::time::Instant::now();
            assert_eq!(nightbell.get("/-/healthy").0, 200);
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "health waits for lookups: {:?}",
                begun.elapsed()
            );
        }
        is_collecting(&nightbell);
        for attack in attacks {
            let status = attack.join().expect("no panic");
            assert!([200, 503].contains(&status), "{status}");
        }
    });
}

#[test]
fn far_ends_fine_steps_and_negative_timeouts_are_answered_as_prometheus_does() {
    let nightbell = Nightbell::start("rules: {shipped: false}\n");
    assert_eq!(
        nightbell
            .get("/api/v1/query_range?query=1&start=0&end=9999999999&step=1e8")
            .0,
        200
    );
    let (status, body) = nightbell.get("/api/v1/query_range?query=1&start=0&end=99&step=0.0001");
    assert!(
        status == 400 && body.contains("exceeded maximum resolution of 11,000 points"),
        "{status} {body}"
    );
    let (status, body) = nightbell.get("/api/v1/query?query=1&timeout=-1");
    assert!(
        status == 503 && body.contains("query timed out"),
        "{status} {body}"
    );
}

/// What Prometheus takes is taken, by every route that reads an expression and by the rules; what
/// is too high says so and harms nobody.
#[test]
fn expressions_of_a_thousand_levels_are_answered() {
    let chain = |count: usize| vec!["vector(1)"; count].join(" or ");
    let nest = |open: &str, count: usize, close: &str| {
        format!("{}vector(1){}", open.repeat(count), close.repeat(count))
    };
    let high = [
        chain(1900),
        nest("(", 1900, ")"),
        nest("-", 1000, ""),
        nest("sum(", 1000, ")"),
        nest("abs(", 1000, ")"),
        nest("vector(1) + (", 900, ")"),
        nest("vector(1) and on () (", 600, ")"),
        nest("max_over_time(", 300, "[2s:1s])"),
    ];
    let mut nightbell = Nightbell::start("rules: {shipped: false}\n");
    nightbell.kill();
    let rules: String = high
        .iter()
        .enumerate()
        .map(|(n, text)| format!("  - {{record: 'high:{n}', expr: '{text}'}}\n"))
        .collect();
    let alert = format!(
        "  - {{alert: High, expr: '{}'}}\n  - {{alert: Low, expr: '{} < 0'}}\n",
        chain(700),
        nest("(", 700, ")")
    );
    let file = nightbell.config_file().with_file_name("high.yml");
    std::fs::write(
        file,
        format!("groups:\n- name: g\n  interval: 1s\n  rules:\n{rules}{alert}"),
    )
    .expect("written");
    nightbell.configure("rules: {shipped: false}\nrule_files: [high.yml]\n");
    nightbell.restart();
    for text in &high {
        let shown = &text[..40];
        for (path, more) in [
            ("/api/v1/query", &[][..]),
            (
                "/api/v1/query_range",
                &[("start", "0"), ("end", "1000"), ("step", "5")][..],
            ),
            ("/api/v1/format_query", &[][..]),
            ("/api/v1/parse_query", &[][..]),
        ] {
            let (status, body) = form(
                &nightbell,
                path,
                &[&[("query", text.as_str())], more].concat(),
            );
            assert_eq!(
                status,
                200,
                "{path} {shown}: {}",
                &body[..body.len().min(300)]
            );
        }
    }
    wait_until("the rules were evaluated", Duration::from_secs(60), || {
        let body = nightbell.json("/api/v1/query?query=count(%7B__name__%3D~%22high%3A.%2B%22%7D)");
        body["data"]["result"][0]["value"][1] == "8"
    });
    assert_eq!(nightbell.get("/api/v1/rules").0, 200);
    assert_eq!(nightbell.get("/api/nightbell/why?alert=Low").0, 200);
    let (status, body) = form(
        &nightbell,
        "/api/v1/query",
        &[("query", &nest("(", 100_000, ")"))],
    );
    assert!(
        status == 400 && body.contains("expression nests deeper than 4000 levels"),
        "{status} {}",
        &body[..body.len().min(300)]
    );
    assert_eq!(nightbell.get("/-/healthy").0, 200);
}
