//! The HTTP API v1 rule by rule (SEMANTICS part E), asked of the built binary.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::servers::hostile::{Hostile, Manner};
use crate::servers::nightbell::Nightbell;
use crate::servers::page::serve_page;
use crate::servers::wait_until;

const PAGE: &str = "# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\njobs_total{queue=\"a\"} 3\njobs_total{queue=\"b\"} 4\n";

const RULES: &str = r#"groups:
- name: one
  interval: 1s
  rules:
  - {alert: Many, expr: 'jobs_total>3', keep_firing_for: 5m, labels: {severity: page}, annotations: {summary: 'is {{ $value }}'}}
  - {alert: Never, expr: 'jobs_total > 9', for: 5m}
- name: two
  interval: 1s
  rules:
  - {record: 'jobs:sum', expr: 'sum( jobs_total )', labels: {by: rule}}
"#;

/// A nightbell with two groups of rules and one target that has been scraped and judged.
fn started() -> Nightbell {
    let port = serve_page(PAGE);
    let mut nightbell = Nightbell::start("rules: {shipped: false}\n");
    nightbell.kill();
    std::fs::write(nightbell.config_file().with_file_name("two.yml"), RULES)
        .expect("the folder is writable");
    nightbell.configure(&format!(
        "rules: {{shipped: false}}\nrule_files: [two.yml]\nglobal: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - job_name: page\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    ));
    nightbell.restart();
    wait_until(
        "an alert fires and a sum is recorded",
        Duration::from_secs(30),
        || {
            let recorded = nightbell.json("/api/v1/query?query=jobs:sum");
            let alerts = nightbell.json("/api/v1/alerts");
            let count = |json: &Value| json.as_array().map_or(0, Vec::len);
            count(&recorded["data"]["result"]) == 1 && count(&alerts["data"]["alerts"]) == 1
        },
    );
    nightbell
}

fn keys(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .map(|o| o.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

/// SEMANTICS 196, 197, 199: the envelope, remarks only where there are some, an error type for each
/// status.
#[test]
fn answers_and_mistakes_have_prometheus_envelopes() {
    let nightbell = started();
    let good = nightbell.json("/api/v1/query?query=1%2B1&time=1.5");
    assert_eq!(
        good,
        json!({"status": "success", "data": {"resultType": "scalar", "result": [1.5, "2"]}})
    );
    let remarked = nightbell.json("/api/v1/query?query=quantile(2,jobs_total)");
    assert_eq!(keys(&remarked), ["status", "data", "warnings"]);
    let counted = nightbell.json("/api/v1/query?query=jobs_total&stats=all");
    assert_eq!(
        keys(&counted["data"]),
        ["resultType", "result", "stats"],
        "SEMANTICS 200"
    );
    assert_eq!(
        counted["data"]["stats"]["samples"]["totalQueryableSamples"], 2,
        "{counted}"
    );
    assert!(
        counted["data"]["stats"]["timings"]["evalTotalTime"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0),
        "{counted}"
    );
    assert_eq!(
        nightbell.json("/api/v1/label/U__/values")["error"],
        "invalid label name: \"\""
    );
    assert_eq!(
        nightbell.json("/api/v1/status/walreplay")["data"],
        json!({"min": 0, "max": 0, "current": 0})
    );
    let cut = nightbell.json("/api/v1/series?match[]=jobs_total&limit=1");
    assert_eq!(
        (cut["data"].as_array().map(Vec::len), &cut["warnings"]),
        (Some(1), &json!(["results truncated due to limit"]))
    );
    assert_eq!(
        nightbell.json("/api/v1/series?match[]=jobs_total&limit=0")["data"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    for (path, status, kind, error) in [
        (
            "/query?query=1%2B",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:3: parse error: unexpected end of input",
        ),
        (
            "/query?query=1&time=x",
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
        ),
        (
            "/query_range?query=1&start=0&end=1&step=x",
            400,
            "bad_data",
            "invalid parameter \"step\": cannot parse \"x\" to a valid duration",
        ),
        (
            "/query?query=topk(NaN,jobs_total)",
            422,
            "execution",
            "Scalar value NaN overflows int64",
        ),
        ("/series", 400, "bad_data", "no match[] parameter provided"),
        (
            "/labels?limit=-1",
            400,
            "bad_data",
            "invalid parameter \"limit\": limit must be non-negative",
        ),
    ] {
        let (got, body) = nightbell.get(&format!("/api/v1{path}"));
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            (got, &body["status"], &body["errorType"]),
            (status, &json!("error"), &json!(kind)),
            "{path}: {body}"
        );
        assert_eq!(body["error"], json!(error), "{path}");
    }
    let same = |a: &str, b: &str| {
        let ask = |time: &str| {
            nightbell.json(&format!("/api/v1/query?query=time()&time={time}"))["data"]["result"]
                .clone()
        };
        assert_eq!(ask(a), ask(b));
    };
    same("1700000000.123", "2023-11-14T22:13:20.123Z");
    same("1700000000", "2023-11-14T23:13:20%2B01:00");
}

/// A slash at the end of a path leads where Prometheus's router leads; in Alertmanager's API it
/// makes no difference.
#[test]
fn a_slash_at_the_end_of_a_path_leads_to_the_path_without_it() {
    let nightbell = Nightbell::start("rules: {shipped: false}\n");
    let location = |method: &str, path: &str| -> (u16, Option<String>) {
        let mut stream = TcpStream::connect(("127.0.0.1", nightbell.port)).expect("connected");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        (
            status,
            answer
                .lines()
                .find_map(|line| line.strip_prefix("location: "))
                .map(str::to_owned),
        )
    };
    for (method, path, status, to) in [
        (
            "GET",
            "/api/v1/query/?query=1&time=5",
            301,
            Some("/api/v1/query?query=1&time=5"),
        ),
        ("POST", "/api/v1/query/", 307, Some("/api/v1/query")),
        ("GET", "/api/v1/labels/", 301, Some("/api/v1/labels")),
        (
            "GET",
            "/api/v1/label/job/values/",
            301,
            Some("/api/v1/label/job/values"),
        ),
        (
            "GET",
            "/api/v1/status/config/",
            301,
            Some("/api/v1/status/config"),
        ),
        ("GET", "/federate/", 301, Some("/federate")),
        ("GET", "/metrics/", 301, Some("/metrics")),
        ("GET", "/-/healthy/", 301, Some("/-/healthy")),
        ("GET", "/graph/", 301, Some("/graph")),
        ("POST", "/api/v1/metadata/", 404, None),
        ("PUT", "/api/v1/query/", 404, None),
        ("GET", "/api/v1/nosuch/", 404, None),
        ("GET", "/api/v1/query//", 404, None),
        ("GET", "//metrics/", 404, None),
        ("GET", "//elsewhere.example/api/v1/query/", 404, None),
        ("GET", "/api/v2/alerts/", 200, None),
        ("GET", "/api/v2/alerts/groups/", 200, None),
        ("GET", "/api/v2/silences/", 200, None),
        ("GET", "/api/v2/status/", 200, None),
        ("GET", "/api/v2/receivers/", 200, None),
        (
            "GET",
            "/api/v2/silence/0f9a7e64-8d4f-4b5e-8e7c-0b0b0b0b0b0b/",
            404,
            None,
        ),
        ("DELETE", "/api/v2/alerts/", 405, None),
        ("GET", "/api/v2/nosuch/", 404, None),
    ] {
        assert_eq!(
            location(method, path),
            (status, to.map(str::to_owned)),
            "{method} {path}"
        );
    }
    let json = "Content-Type: application/json\r\nContent-Length: 4\r\n";
    assert_eq!(
        nightbell
            .request_with("POST", "/api/v2/alerts/", json, "null")
            .0,
        200
    );
}

/// What a page declares is listed as Prometheus 3.5 lists it: under its types, with its units, the
/// last line of each sort wherever it stands, and nothing that is not declared.
#[test]
fn metadata_is_what_the_page_declares() {
    let page = "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds A.\na_seconds_total 1\n\
                # TYPE build info\n# HELP build B.\nbuild_info{v=\"1\"} 1\n# TYPE st stateset\nst{st=\"a\"} 1\n\
                # TYPE gh gaugehistogram\ngh_bucket{le=\"+Inf\"} 1\ngh_gcount 1\ngh_gsum 1\nnaked 1\n\
                late 1\n# TYPE late gauge\n# HELP late L.\n\
                # TYPE two counter\n# HELP two one.\n# TYPE two gauge\n# HELP two two.\ntwo 1\n\
                # TYPE unk unknown\nunk 1\n# HELP onlyhelp O.\nonlyhelp 1\n# TYPE nosample gauge\n# EOF\n";
    let open = Hostile::start(Manner::Serve(
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        page.into(),
    ));
    let text = Hostile::page(
        "# TYPE t untyped\nt 1\nbare 1\n# TYPE again counter\nagain 1\n# TYPE again gauge\n# HELP again H.\n",
    );
    let nightbell = Nightbell::start(&format!(
        "rules: {{shipped: false}}\nglobal: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - {{job_name: open, static_configs: [{{targets: ['{}']}}]}}\n- {{job_name: text, static_configs: [{{targets: ['{}']}}]}}\n",
        open.address, text.address
    ));
    let of = |path: &str| nightbell.json(path)["data"].clone();
    wait_until("both were asked", Duration::from_secs(30), || {
        of("/api/v1/query?query=naked%20or%20bare")["result"]
            .as_array()
            .is_some_and(|r| r.len() == 2)
    });
    let listed = |job: &str| -> Vec<String> {
        let all = of(&format!(
            "/api/v1/targets/metadata?match_target=%7Bjob%3D%22{job}%22%7D"
        ));
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or("?").to_owned();
        let line = |e: &Value| {
            format!(
                "{} {} {} {}",
                text(e, "metric"),
                text(e, "type"),
                text(e, "help"),
                text(e, "unit")
            )
        };
        all.as_array().expect("a list").iter().map(line).collect()
    };
    assert_eq!(
        listed("open"),
        [
            "a_seconds_total counter A. seconds",
            "build info B. ",
            "gh gaugehistogram  ",
            "late gauge L. ",
            "nosample gauge  ",
            "onlyhelp unknown O. ",
            "st stateset  ",
            "two gauge two. ",
            "unk unknown  "
        ]
    );
    assert_eq!(listed("text"), ["again gauge H. ", "t unknown  "]);
    assert_eq!(
        of("/api/v1/metadata?metric=build"),
        json!({"build": [{"type": "info", "help": "B.", "unit": ""}]})
    );
    assert_eq!(
        of("/api/v1/metadata?metric=build_info"),
        of("/api/v1/metadata?metric=build")
    );
    assert_eq!(
        of("/api/v1/metadata?metric=a_seconds")["a_seconds_total"][0]["unit"],
        "seconds"
    );
    assert_eq!(of("/api/v1/metadata?metric=naked"), json!({}));
}

/// SEMANTICS 203, 204, 206: metadata, rules with their filters, targets.
#[test]
fn rules_targets_and_metadata_are_listed_as_prometheus_lists_them() {
    let nightbell = started();
    let metadata = nightbell.json("/api/v1/metadata?metric=jobs_total")["data"].clone();
    assert_eq!(
        metadata,
        json!({"jobs_total": [{"type": "counter", "help": "Jobs done.", "unit": ""}]})
    );

    let groups =
        |query: &str| nightbell.json(&format!("/api/v1/rules{query}"))["data"]["groups"].clone();
    let all = groups("");
    assert_eq!(
        (&all[0]["name"], &all[1]["name"], &all[2]),
        (&json!("one"), &json!("two"), &Value::Null)
    );
    assert_eq!(
        (all[0]["interval"].as_f64(), all[0]["limit"].as_f64()),
        (Some(1.0), Some(0.0))
    );
    let (many, never, sum) = (
        &all[0]["rules"][0],
        &all[0]["rules"][1],
        &all[1]["rules"][0],
    );
    assert_eq!(
        (&many["name"], &many["query"], &many["type"]),
        (&json!("Many"), &json!("jobs_total > 3"), &json!("alerting"))
    );
    assert_eq!(
        (&many["state"], &many["health"]),
        (&json!("firing"), &json!("ok"))
    );
    assert_eq!(
        (many["keepFiringFor"].as_f64(), never["duration"].as_f64()),
        (Some(300.0), Some(300.0))
    );
    assert_eq!(many["annotations"], json!({"summary": "is {{ $value }}"}));
    assert_eq!(
        (
            &many["alerts"][0]["value"],
            &many["alerts"][0]["annotations"]["summary"]
        ),
        (&json!("4e+00"), &json!("is 4"))
    );
    assert_eq!(
        (&never["state"], &never["alerts"]),
        (&json!("inactive"), &json!([]))
    );
    assert_eq!(
        (&sum["query"], &sum["type"], &sum["labels"]),
        (
            &json!("sum(jobs_total)"),
            &json!("recording"),
            &json!({"by": "rule"})
        )
    );

    let names = |query: &str| -> Vec<String> {
        let found = groups(query);
        let rules = found
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|g| g["rules"].as_array().cloned().unwrap_or_default());
        rules
            .map(|r| r["name"].as_str().unwrap_or("").to_owned())
            .collect()
    };
    assert_eq!(names("?type=record"), ["jobs:sum"]);
    assert_eq!(names("?type=alert&rule_name[]=Never"), ["Never"]);
    assert_eq!(names("?rule_group[]=two"), ["jobs:sum"]);
    assert_eq!(names("?match[]=%7Bseverity%3D%22page%22%7D"), ["Many"]);
    assert!(names("?file[]=other.yml").is_empty());
    assert!(
        groups("?exclude_alerts=true")[0]["rules"][0]["alerts"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
    assert_eq!(nightbell.get("/api/v1/rules?type=x").0, 400);
    let first = nightbell.json("/api/v1/rules?group_limit=1")["data"].clone();
    let token = first["groupNextToken"].as_str().expect("there is more");
    assert_eq!(
        names(&format!(
            "?group_limit=1&group_next_token={}",
            token.replace('/', "%2F").replace(';', "%3B")
        )),
        ["jobs:sum"]
    );

    let targets = nightbell.json("/api/v1/targets?state=active&scrapePool=page")["data"].clone();
    let target = &targets["activeTargets"][0];
    assert_eq!(
        (
            &target["health"],
            &target["lastError"],
            &target["scrapeInterval"]
        ),
        (&json!("up"), &json!(""), &json!("1s"))
    );
    assert_eq!(
        (&target["labels"]["job"], &target["scrapePool"]),
        (&json!("page"), &json!("page"))
    );
    assert!(
        target["scrapeUrl"]
            .as_str()
            .is_some_and(|url| url.ends_with("/metrics")),
        "{target}"
    );
    assert_eq!(
        (&targets["droppedTargets"], &targets["activeTargets"][1]),
        (&json!([]), &Value::Null)
    );
}

/// SEMANTICS 207, 208, 209: what Grafana asks before it asks anything else, and the paths of health
/// and reload.
#[test]
fn a_data_source_finds_a_plain_prometheus() {
    let nightbell = started();
    let build = nightbell.json("/api/v1/status/buildinfo")["data"].clone();
    assert_eq!(
        keys(&build),
        [
            "version",
            "revision",
            "branch",
            "buildUser",
            "buildDate",
            "goVersion"
        ]
    );
    let version: Vec<u32> = build["version"]
        .as_str()
        .expect("a version")
        .split('.')
        .filter_map(|part| part.parse().ok())
        .collect();
    assert!(
        version.len() == 3 && (version[0], version[1]) >= (2, 24),
        "{build}"
    );
    assert!(
        nightbell.json("/api/v1/status/config")["data"]["yaml"]
            .as_str()
            .is_some_and(|yaml| yaml.contains("job_name: page"))
    );
    for path in ["flags", "runtimeinfo", "tsdb"] {
        assert_eq!(
            nightbell.json(&format!("/api/v1/status/{path}"))["status"],
            "success",
            "{path}"
        );
    }
    assert_eq!(
        (
            nightbell.get("/api/v1/label//values").0,
            nightbell.get("/api/v1/label/job/values").0
        ),
        (404, 200)
    );
    // Grafana's test of a data source.
    let form =
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 11\r\n\r\nquery=1%2B1";
    let (status, body) = nightbell.request("POST", "/api/v1/query", form);
    assert!(status == 200 && body.contains("\"2\""), "{status}: {body}");
    assert_eq!(
        (
            nightbell.get("/-/healthy").0,
            nightbell.get("/-/ready").0,
            nightbell.get("/-/reload").0
        ),
        (200, 200, 405)
    );
}

/// A query that takes long is listed, can be stopped by those who may change something, and is
/// logged with what it cost.
#[test]
fn a_query_that_runs_is_listed_and_can_be_stopped() {
    let nightbell = Nightbell::start("rules: {shipped: false}\n");
    let long = "/api/v1/query_range?query=stddev_over_time(vector(time()/7)[90000s:1s])\
                &start=1700000000&end=1700010999&step=1";
    let list = || {
        let listed = nightbell.json("/api/v1/status/active_queries");
        listed["data"].as_array().cloned().unwrap_or_default()
    };
    assert_eq!(list(), Vec::<Value>::new());
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| nightbell.get(long));
        let mut running = Value::Null;
        wait_until("it has run for a second", Duration::from_secs(60), || {
            running = list().first().cloned().unwrap_or_default();
            running["duration"]
                .as_str()
                .is_some_and(|took| !took.starts_with("0."))
        });
        assert_eq!(
            (&running["start"], &running["step"]),
            (&json!(1_700_000_000_000_i64), &json!(1000))
        );
        let text = running["query"].as_str().unwrap_or_default();
        assert!(text.starts_with("stddev_over_time("), "{text}");
        let path = format!(
            "/api/v1/status/active_queries/{}",
            running["id"].as_str().unwrap_or_default()
        );
        let foreign = nightbell.request("DELETE", &path, "Origin: http://example.com\r\n");
        assert_eq!(foreign.0, 403, "{}", foreign.1);
        assert_eq!(nightbell.request("DELETE", &path, "").0, 204);
        let (status, body) = asking.join().expect("it is answered");
        assert!(
            status != 200 && body.contains("query was canceled"),
            "{status} {body}"
        );
        assert_eq!(nightbell.request("DELETE", &path, "").0, 404);
    });
    assert_eq!(list(), Vec::<Value>::new());
    let log = nightbell.log();
    let line = log.lines().find(|line| line.contains("A query was slow."));
    let line = line.expect("it is logged");
    assert!(
        line.contains("stddev_over_time(") && line.contains("canceled"),
        "{line}"
    );
}
