//! The HTTP API v1 rule by rule (SEMANTICS part E), asked of the built binary.

use std::time::Duration;

use serde_json::{Value, json};

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
    std::fs::write(nightbell.config_file().with_file_name("two.yml"), RULES).expect("the folder is writable");
    nightbell.configure(&format!(
        "rules: {{shipped: false}}\nrule_files: [two.yml]\nglobal: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - job_name: page\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    ));
    nightbell.restart();
    wait_until("an alert fires and a sum is recorded", Duration::from_secs(30), || {
        let recorded = nightbell.json("/api/v1/query?query=jobs:sum");
        let alerts = nightbell.json("/api/v1/alerts");
        let count = |json: &Value| json.as_array().map_or(0, Vec::len);
        count(&recorded["data"]["result"]) == 1 && count(&alerts["data"]["alerts"]) == 1
    });
    nightbell
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// SEMANTICS 196, 197, 199: the envelope, remarks only where there are some, an error type for each status.
#[test]
fn answers_and_mistakes_have_prometheus_envelopes() {
    let nightbell = started();
    let good = nightbell.json("/api/v1/query?query=1%2B1&time=1.5");
    assert_eq!(good, json!({"status": "success", "data": {"resultType": "scalar", "result": [1.5, "2"]}}));
    let remarked = nightbell.json("/api/v1/query?query=quantile(2,jobs_total)");
    assert_eq!(keys(&remarked), ["status", "data", "warnings"]);
    let counted = nightbell.json("/api/v1/query?query=jobs_total&stats=all");
    assert_eq!(keys(&counted["data"]), ["resultType", "result", "stats"], "SEMANTICS 200");
    assert_eq!(counted["data"]["stats"]["samples"]["totalQueryableSamples"], 2, "{counted}");
    assert!(counted["data"]["stats"]["timings"]["evalTotalTime"].as_f64().is_some_and(|seconds| seconds > 0.0), "{counted}");
    assert_eq!(nightbell.json("/api/v1/label/U__/values")["error"], "invalid label name: \"\"");
    assert_eq!(nightbell.json("/api/v1/status/walreplay")["data"], json!({"min": 0, "max": 0, "current": 0}));
    let cut = nightbell.json("/api/v1/series?match[]=jobs_total&limit=1");
    assert_eq!((cut["data"].as_array().map(Vec::len), &cut["warnings"]), (Some(1), &json!(["results truncated due to limit"])));
    assert_eq!(nightbell.json("/api/v1/series?match[]=jobs_total&limit=0")["data"].as_array().map(Vec::len), Some(2));
    for (path, status, kind, error) in [
        ("/query?query=1%2B", 400, "bad_data", "invalid parameter \"query\": 1:3: parse error: unexpected end of input"),
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
        ("/query?query=topk(NaN,jobs_total)", 422, "execution", "Scalar value NaN overflows int64"),
        ("/series", 400, "bad_data", "no match[] parameter provided"),
        ("/labels?limit=-1", 400, "bad_data", "invalid parameter \"limit\": limit must be non-negative"),
    ] {
        let (got, body) = nightbell.get(&format!("/api/v1{path}"));
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((got, &body["status"], &body["errorType"]), (status, &json!("error"), &json!(kind)), "{path}: {body}");
        assert_eq!(body["error"], json!(error), "{path}");
    }
    let same = |a: &str, b: &str| {
        let ask = |time: &str| nightbell.json(&format!("/api/v1/query?query=time()&time={time}"))["data"]["result"].clone();
        assert_eq!(ask(a), ask(b));
    };
    same("1700000000.123", "2023-11-14T22:13:20.123Z");
    same("1700000000", "2023-11-14T23:13:20%2B01:00");
}

/// SEMANTICS 203, 204, 206: metadata, rules with their filters, targets.
#[test]
fn rules_targets_and_metadata_are_listed_as_prometheus_lists_them() {
    let nightbell = started();
    let metadata = nightbell.json("/api/v1/metadata?metric=jobs_total")["data"].clone();
    assert_eq!(metadata, json!({"jobs_total": [{"type": "counter", "help": "Jobs done.", "unit": ""}]}));

    let groups = |query: &str| nightbell.json(&format!("/api/v1/rules{query}"))["data"]["groups"].clone();
    let all = groups("");
    assert_eq!((&all[0]["name"], &all[1]["name"], &all[2]), (&json!("one"), &json!("two"), &Value::Null));
    assert_eq!((all[0]["interval"].as_f64(), all[0]["limit"].as_f64()), (Some(1.0), Some(0.0)));
    let (many, never, sum) = (&all[0]["rules"][0], &all[0]["rules"][1], &all[1]["rules"][0]);
    assert_eq!((&many["name"], &many["query"], &many["type"]), (&json!("Many"), &json!("jobs_total > 3"), &json!("alerting")));
    assert_eq!((&many["state"], &many["health"]), (&json!("firing"), &json!("ok")));
    assert_eq!((many["keepFiringFor"].as_f64(), never["duration"].as_f64()), (Some(300.0), Some(300.0)));
    assert_eq!(many["annotations"], json!({"summary": "is {{ $value }}"}));
    assert_eq!((&many["alerts"][0]["value"], &many["alerts"][0]["annotations"]["summary"]), (&json!("4e+00"), &json!("is 4")));
    assert_eq!((&never["state"], &never["alerts"]), (&json!("inactive"), &json!([])));
    assert_eq!((&sum["query"], &sum["type"], &sum["labels"]), (&json!("sum(jobs_total)"), &json!("recording"), &json!({"by": "rule"})));

    let names = |query: &str| -> Vec<String> {
        let found = groups(query);
        let rules = found.as_array().into_iter().flatten().flat_map(|g| g["rules"].as_array().cloned().unwrap_or_default());
        rules.map(|r| r["name"].as_str().unwrap_or("").to_owned()).collect()
    };
    assert_eq!(names("?type=record"), ["jobs:sum"]);
    assert_eq!(names("?type=alert&rule_name[]=Never"), ["Never"]);
    assert_eq!(names("?rule_group[]=two"), ["jobs:sum"]);
    assert_eq!(names("?match[]=%7Bseverity%3D%22page%22%7D"), ["Many"]);
    assert!(names("?file[]=other.yml").is_empty());
    assert!(groups("?exclude_alerts=true")[0]["rules"][0]["alerts"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(nightbell.get("/api/v1/rules?type=x").0, 400);
    let first = nightbell.json("/api/v1/rules?group_limit=1")["data"].clone();
    let token = first["groupNextToken"].as_str().expect("there is more");
    assert_eq!(names(&format!("?group_limit=1&group_next_token={}", token.replace('/', "%2F").replace(';', "%3B"))), ["jobs:sum"]);

    let targets = nightbell.json("/api/v1/targets?state=active&scrapePool=page")["data"].clone();
    let target = &targets["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"], &target["scrapeInterval"]), (&json!("up"), &json!(""), &json!("1s")));
    assert_eq!((&target["labels"]["job"], &target["scrapePool"]), (&json!("page"), &json!("page")));
    assert!(target["scrapeUrl"].as_str().is_some_and(|url| url.ends_with("/metrics")), "{target}");
    assert_eq!((&targets["droppedTargets"], &targets["activeTargets"][1]), (&json!([]), &Value::Null));
}

/// SEMANTICS 207, 208, 209: what Grafana asks before it asks anything else, and the paths of health and reload.
#[test]
fn a_data_source_finds_a_plain_prometheus() {
    let nightbell = started();
    let build = nightbell.json("/api/v1/status/buildinfo")["data"].clone();
    assert_eq!(keys(&build), ["version", "revision", "branch", "buildUser", "buildDate", "goVersion"]);
    let version: Vec<u32> = build["version"].as_str().expect("a version").split('.').filter_map(|part| part.parse().ok()).collect();
    assert!(version.len() == 3 && (version[0], version[1]) >= (2, 24), "{build}");
    assert!(nightbell.json("/api/v1/status/config")["data"]["yaml"].as_str().is_some_and(|yaml| yaml.contains("job_name: page")));
    for path in ["flags", "runtimeinfo", "tsdb"] {
        assert_eq!(nightbell.json(&format!("/api/v1/status/{path}"))["status"], "success", "{path}");
    }
    assert_eq!((nightbell.get("/api/v1/label//values").0, nightbell.get("/api/v1/label/job/values").0), (404, 200));
    // Grafana's test of a data source.
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 11\r\n\r\nquery=1%2B1";
    let (status, body) = nightbell.request("POST", "/api/v1/query", form);
    assert!(status == 200 && body.contains("\"2\""), "{status}: {body}");
    assert_eq!((nightbell.get("/-/healthy").0, nightbell.get("/-/ready").0, nightbell.get("/-/reload").0), (200, 200, 405));
}
