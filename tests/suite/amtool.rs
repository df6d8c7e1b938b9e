//! Alertmanager's API v2 as its clients meet it: Debian's amtool, a real Prometheus that posts its
//! alerts, and the answers to wrong requests.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::servers::hostile::{Hostile, Manner};
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::{Server, free_port, wait_until};

const CONFIG: &str = "\
rules: {shipped: false}
global: {resolve_timeout: 10m}
route:
  receiver: default
  group_by: [alertname]
  routes:
  - {matchers: ['team=~\"db|dba\"', 'severity!=\"info\"'], receiver: team-db, continue: true, mute_time_intervals: [night]}
  - {match: {severity: page}, receiver: pager, group_by: ['...']}
receivers:
- {name: default}
- {name: team-db}
- {name: pager, webhook_configs: [{url: 'http://127.0.0.1:1/?token=s3cret'}]}
inhibit_rules: [{source_match: {severity: page}, target_match_re: {severity: warning|info}, equal: [instance]}]
time_intervals: [{name: night, time_intervals: [{times: [{start_time: '00:00', end_time: '00:01'}], years: ['2020'], location: Asia/Shanghai}]}]
";

fn amtool_with(nightbell: &Nightbell, words: &[&str], input: &str) -> Output {
    let mut child = Command::new("amtool")
        .arg(format!(
            "--alertmanager.url=http://127.0.0.1:{}",
            nightbell.port
        ))
        .args(words)
        .env("HOME", nightbell.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("amtool: apt-get install prometheus-alertmanager");
    child
        .stdin
        .take()
        .expect("its input")
        .write_all(input.as_bytes())
        .expect("written");
    child.wait_with_output().expect("amtool ends")
}

/// What amtool prints; it must succeed.
fn amtool(nightbell: &Nightbell, words: &[&str]) -> String {
    let output = amtool_with(nightbell, words, "");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn amtool_json(nightbell: &Nightbell, words: &[&str]) -> Value {
    serde_json::from_str(&amtool(nightbell, &[&["--output=json"], words].concat())).expect("JSON")
}

fn post(nightbell: &Nightbell, path: &str, body: &str) -> (u16, String) {
    send(nightbell, "POST", path, "", body)
}

fn send(
    nightbell: &Nightbell,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let headers = format!(
        "{headers}Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    nightbell.request_with(method, path, &headers, body)
}

fn silence(matcher: &Value) -> Value {
    json!({ "matchers": [matcher], "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "me", "comment": "c" })
}

/// SEMANTICS 195: the commands about the server and its routes.
#[test]
fn amtool_shows_the_configuration_and_tests_routes() {
    let nightbell = Nightbell::start(CONFIG);
    assert!(amtool(&nightbell, &["cluster", "show"]).contains("disabled"));
    let shown = amtool(&nightbell, &["config", "show"]);
    assert!(
        shown.contains("resolve_timeout: 10m")
            && shown.contains("- name: pager")
            && !shown.contains("s3cret"),
        "{shown}"
    );
    let tree = amtool(&nightbell, &["config", "routes", "show"]);
    for line in [
        "default-route  receiver: default",
        "{severity!=\"info\",team=~\"db|dba\"}  continue: true  receiver: team-db",
        "{severity=\"page\"}  receiver: pager",
    ] {
        assert!(tree.contains(line), "{line}: {tree}");
    }
    for (labels, receivers) in [
        (&["severity=info"] as &[&str], "default"),
        (&["team=db"], "team-db"),
        (&["team=db", "severity=page"], "team-db,pager"),
        (&["team=db", "severity=info"], "default"),
    ] {
        let words = [
            &["config", "routes", "test", "--verify.receivers", receivers],
            labels,
        ]
        .concat();
        assert_eq!(amtool(&nightbell, &words), receivers, "{labels:?}");
    }
    let wrong = amtool_with(
        &nightbell,
        &[
            "config",
            "routes",
            "test",
            "--verify.receivers=pager",
            "team=db",
        ],
        "",
    );
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
}

/// SEMANTICS 188, 189, 191, 195: alerts that amtool adds are shown with who mutes them, in their
/// groups, and the receivers are listed.
#[test]
fn amtool_adds_and_queries_alerts() {
    let nightbell = Nightbell::start(CONFIG);
    amtool(
        &nightbell,
        &[
            "alert",
            "add",
            "Down",
            "instance=a",
            "severity=page",
            "--annotation=summary=gone",
            "--generator-url=http://x/g",
        ],
    );
    amtool(
        &nightbell,
        &[
            "alert",
            "add",
            "alertname=Slow",
            "instance=a",
            "severity=warning",
        ],
    );
    amtool(
        &nightbell,
        &[
            "alert",
            "add",
            "alertname=Over",
            "--start=2020-01-01T00:00:00Z",
            "--end=2020-01-01T01:00:00Z",
        ],
    );
    let active = amtool_json(&nightbell, &["alert"]);
    assert_eq!(active.as_array().map(Vec::len), Some(1), "{active}");
    let down = &active[0];
    assert_eq!(
        down["labels"],
        json!({ "alertname": "Down", "instance": "a", "severity": "page" })
    );
    assert_eq!(
        (&down["annotations"], &down["generatorURL"]),
        (&json!({ "summary": "gone" }), &json!("http://x/g"))
    );
    assert_eq!(
        (&down["receivers"], &down["status"]["state"]),
        (&json!([{ "name": "pager" }]), &json!("active"))
    );
    let inhibited = amtool_json(
        &nightbell,
        &["alert", "query", "--inhibited", "alertname=Slow"],
    );
    assert_eq!(
        inhibited[0]["status"]["inhibitedBy"],
        json!([down["fingerprint"]]),
        "{inhibited}"
    );
    assert_eq!(
        amtool_json(&nightbell, &["alert", "query", "Slow"]),
        json!([]),
        "amtool asks for active ones"
    );
    assert!(
        amtool(
            &nightbell,
            &["--output=extended", "alert", "query", "severity=~p.+"]
        )
        .contains("summary=\"gone\"")
    );

    let groups = nightbell.json("/api/v2/alerts/groups?inhibited=false");
    assert_eq!(groups.as_array().map(Vec::len), Some(1), "{groups}");
    assert_eq!(
        (
            &groups[0]["receiver"]["name"],
            &groups[0]["alerts"][0]["fingerprint"]
        ),
        (&json!("pager"), &down["fingerprint"])
    );
    assert_eq!(
        groups[0]["labels"], down["labels"],
        "grouped by every label"
    );
    // SEMANTICS 191: groups by fewer labels first, as Alertmanager sorts label sets.
    let all = nightbell.json("/api/v2/alerts/groups");
    let sizes: Vec<usize> = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|g| g["labels"].as_object().map_or(0, |l| l.len()))
        .collect();
    assert_eq!(sizes, [1, 3], "{all}");
    let of = |query: &str| {
        nightbell
            .json(&format!("/api/v2/alerts?{query}"))
            .as_array()
            .map_or(0, Vec::len)
    };
    assert_eq!(
        [
            "receiver=page.*",
            "receiver=page",
            "receiver_matchers=name%3Ddefault",
            ""
        ]
        .map(of),
        [1, 0, 1, 2]
    );
    let receivers = nightbell.json("/api/v2/receivers");
    assert_eq!(
        receivers
            .as_array()
            .map(|r| r.iter().map(|r| r["name"].clone()).collect()),
        Some(json!(["default", "team-db", "pager"]))
    );
}

/// SEMANTICS 164 to 167, 192, 193, 195: silences of amtool mute, outlive `kill -9`, are changed,
/// ended and imported.
#[test]
fn amtool_silences_outlive_kill_9_and_are_updated_expired_and_imported() {
    let mut nightbell = Nightbell::start(CONFIG);
    amtool(&nightbell, &["alert", "add", "Down", "instance=a"]);
    let id = amtool(
        &nightbell,
        &[
            "silence",
            "add",
            "--author=me",
            "--comment=work",
            "--duration=1h",
            "Down",
            "instance=~[ab]",
            "x!=y",
        ],
    );
    let later = amtool(
        &nightbell,
        &[
            "silence",
            "add",
            "-a",
            "me",
            "-c",
            "later",
            "--start=2098-01-01T00:00:00Z",
            "--end=2099-01-01T00:00:00Z",
            "a=b",
        ],
    );
    nightbell.kill();
    nightbell.restart();
    let known = amtool_json(&nightbell, &["silence", "query"]);
    let ids: Vec<&str> = known
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|s| s["id"].as_str())
        .collect();
    assert_eq!(ids, [id.as_str(), later.as_str()]);
    assert_eq!(
        (&known[0]["status"]["state"], &known[1]["status"]["state"]),
        (&json!("active"), &json!("pending"))
    );
    let muted = amtool_json(&nightbell, &["alert", "query", "--silenced"]);
    assert_eq!(muted[0]["status"]["silencedBy"], json!([id]), "{muted}");
    assert_eq!(amtool_json(&nightbell, &["alert", "query"]), json!([]));
    assert_eq!(
        amtool(&nightbell, &["silence", "query", "-q", "instance=~[ab]"]),
        id,
        "matchers are compared as texts"
    );
    assert_eq!(
        amtool(&nightbell, &["silence", "query", "-q", "instance=a"]),
        ""
    );

    amtool(
        &nightbell,
        &[
            "silence",
            "update",
            "--duration=5h",
            "--comment=longer",
            &id,
        ],
    );
    assert_eq!(
        amtool_json(&nightbell, &["silence", "query", "--within=6h"])[0]["comment"],
        "longer"
    );
    assert_eq!(
        amtool(&nightbell, &["silence", "query", "-q", "--within=2h"]),
        ""
    );

    // Ids that are unknown here make new silences; with --force so do the known ones.
    let mut foreign = known.clone();
    foreign[0]["id"] = json!("00000000-0000-4000-8000-000000000000");
    let imported = amtool_with(&nightbell, &["silence", "import"], &foreign.to_string());
    assert!(imported.status.success(), "{imported:?}");
    assert_eq!(
        amtool_json(&nightbell, &["silence", "query"])
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    let forced = amtool_with(
        &nightbell,
        &["silence", "import", "--force"],
        &known.to_string(),
    );
    assert!(forced.status.success(), "{forced:?}");
    let all = amtool(&nightbell, &["silence", "query", "-q"]);
    let all: Vec<&str> = all.lines().collect();
    assert_eq!(all.len(), 5);
    amtool(
        &nightbell,
        &[&["silence", "expire"], all.as_slice()].concat(),
    );
    assert_eq!(amtool(&nightbell, &["silence", "query", "-q"]), "");
    assert_eq!(
        amtool_json(
            &nightbell,
            &["silence", "query", "--expired", "--within=1h"]
        )
        .as_array()
        .map(Vec::len),
        Some(5)
    );
    assert_eq!(
        amtool_json(&nightbell, &["alert"])[0]["labels"]["alertname"],
        "Down",
        "heard again"
    );
    amtool(&nightbell, &["silence", "expire", &id]);
    let unknown = amtool_with(
        &nightbell,
        &["silence", "expire", "00000000-0000-4000-8000-000000000001"],
        "",
    );
    assert!(!unknown.status.success(), "{unknown:?}");
}

/// SEMANTICS 187, 194: no answer of the API may be kept by a proxy; without a cluster there is none
/// to show; a reload takes a POST.
#[test]
fn answers_are_not_cached_and_the_program_says_that_it_lives() {
    use std::io::Read;
    let nightbell = Nightbell::start(CONFIG);
    for path in [
        "status",
        "alerts",
        "alerts/groups",
        "silences",
        "receivers",
        "silence/nope",
    ] {
        let mut stream =
            std::net::TcpStream::connect(("127.0.0.1", nightbell.port)).expect("it listens");
        stream
            .write_all(format!("GET /api/v2/{path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(
            answer
                .to_lowercase()
                .contains("cache-control: no-store\r\n"),
            "{path}: {answer}"
        );
    }
    assert_eq!(
        nightbell.json("/api/v2/status")["cluster"],
        json!({ "status": "disabled", "peers": [] })
    );
    assert_eq!(
        ["/-/healthy", "/-/ready"].map(|path| nightbell.get(path).0),
        [200, 200]
    );
    assert_eq!(
        (
            nightbell.request("POST", "/-/reload", "").0,
            nightbell.get("/-/reload").0
        ),
        (200, 405)
    );
}

/// Changes need the token where one is configured; amtool sends it from its HTTP configuration.
#[test]
fn changes_need_the_administrators_token_where_there_is_one() {
    let nightbell = Nightbell::start(&format!("{CONFIG}web: {{admin_token: t0ken}}\n"));
    let (body, alert) = (
        silence(&json!({ "name": "a", "value": "b", "isRegex": false })).to_string(),
        r#"[{"labels":{"a":"b"}}]"#,
    );
    let id = "00000000-0000-4000-8000-000000000000";
    for (method, path, body) in [
        ("POST", "/api/v2/silences", body.as_str()),
        ("POST", "/api/v2/alerts", alert),
        ("DELETE", &format!("/api/v2/silence/{id}"), ""),
        ("POST", "/-/reload", ""),
    ] {
        assert_eq!(send(&nightbell, method, path, "", body).0, 401, "{path}");
        assert_eq!(
            send(
                &nightbell,
                method,
                path,
                "Authorization: Bearer wrong\r\n",
                body
            )
            .0,
            401,
            "{path}"
        );
        let wanted = if method == "DELETE" { 404 } else { 200 };
        assert_eq!(
            send(
                &nightbell,
                method,
                path,
                "Authorization: Bearer t0ken\r\n",
                body
            )
            .0,
            wanted,
            "{path}"
        );
    }
    let file = nightbell.folder.path().join("http.yml");
    std::fs::write(&file, "authorization: {credentials: t0ken}\n").expect("written");
    let flag = format!("--http.config.file={}", file.display());
    amtool(
        &nightbell,
        &[&flag, "silence", "add", "-a", "me", "-c", "c", "x=y"],
    );
    assert_eq!(
        nightbell.json("/api/v2/silences").as_array().map(Vec::len),
        Some(2),
        "reading is open"
    );
    let open = Nightbell::start(CONFIG);
    assert_eq!(
        send(
            &open,
            "POST",
            "/api/v2/alerts",
            "X-Forwarded-For: 192.0.2.1\r\n",
            alert
        )
        .0,
        403,
        "not from this machine"
    );
    assert_eq!(open.json("/api/v2/alerts"), json!([]));
}

/// SEMANTICS 137, 190, 193: status and answer of wrong requests, as Alertmanager 0.33 gives them.
#[test]
fn wrong_requests_get_alertmanagers_answers() {
    let nightbell = Nightbell::start(CONFIG);
    let missing =
        |name: &str| json!({ "code": 602, "message": format!("{name} in body is required") });
    let without = |key: &str| {
        let mut body = silence(&json!({ "name": "a", "value": "b", "isRegex": false }));
        body.as_object_mut().expect("an object").remove(key);
        body.to_string()
    };
    let with = |matcher: Value| silence(&matcher).to_string();
    for (path, body, status, answer) in [
        (
            "alerts",
            r#"[{"annotations":{}}]"#.to_owned(),
            422,
            missing("0.labels"),
        ),
        (
            "alerts",
            r#"[{"labels":{"a":"b"},"generatorURL":"not a url"}]"#.to_owned(),
            422,
            json!({"code": 601, "message": "0.generatorURL in body must be of type uri: \"not a url\""}),
        ),
        (
            "alerts",
            r#"[{"labels":{"gone":""}},{"labels":{"good":"1"}}]"#.into(),
            400,
            json!("at least one label pair required"),
        ),
        ("silences", without("comment"), 422, missing("comment")),
        ("silences", without("createdBy"), 422, missing("createdBy")),
        ("silences", without("endsAt"), 422, missing("endsAt")),
        ("silences", without("matchers"), 422, missing("matchers")),
        ("silences", without("startsAt"), 422, missing("startsAt")),
        (
            "silences",
            with(json!({ "name": "a", "value": "b" })),
            422,
            missing("matchers.0.isRegex"),
        ),
    ] {
        let (got, said) = post(&nightbell, &format!("/api/v2/{path}"), &body);
        assert_eq!(
            (got, serde_json::from_str(&said).ok()),
            (status, Some(answer)),
            "{path} {body}"
        );
    }
    assert_eq!(
        nightbell.json("/api/v2/alerts")[0]["labels"],
        json!({ "good": "1" }),
        "the valid alert of a batch is taken"
    );
    let past = json!({ "name": "a", "value": "b", "isRegex": false });
    let mut unknown = silence(&past);
    unknown["id"] = json!("00000000-0000-4000-8000-000000000000");
    let mut over = silence(&past);
    over["endsAt"] = json!("2020-01-02T00:00:00Z");
    for (path, body, status) in [
        ("alerts", "{", 400),
        ("alerts", "{}", 400),
        ("alerts", r#"[{"labels":{"a":1}}]"#, 400),
        (
            "alerts",
            r#"[{"labels":{"a":"b"},"startsAt":"yesterday"}]"#,
            400,
        ),
        (
            "alerts",
            r#"[{"labels":{"a":"b"},"startsAt":"2030-01-01T00:00:00Z","endsAt":"2029-01-01T00:00:00Z"}]"#,
            400,
        ),
        ("alerts", "[]", 200),
        (
            "alerts",
            r#"[{"labels":{"a":"b","empty":null},"annotations":{"x":null}}]"#,
            200,
        ),
        (
            "silences",
            &with(json!({ "name": "a", "value": ".*", "isRegex": true })),
            400,
        ),
        (
            "silences",
            &with(json!({ "name": "a", "value": "(", "isRegex": true })),
            400,
        ),
        ("silences", &over.to_string(), 400),
        ("silences", &unknown.to_string(), 404),
    ] {
        let (got, said) = post(&nightbell, &format!("/api/v2/{path}"), body);
        assert_eq!(got, status, "{path} {body}: {said}");
    }
    for (path, status) in [
        ("alerts?filter=x", 400),
        ("alerts?filter=%7Ba=b%7D", 400),
        ("alerts?receiver=(", 400),
        ("silence/x", 422),
        ("silence/00000000-0000-4000-8000-000000000000", 404),
        ("nothing", 404),
    ] {
        assert_eq!(
            nightbell.get(&format!("/api/v2/{path}")).0,
            status,
            "{path}"
        );
    }
    let (status, _) = nightbell.request_with(
        "POST",
        "/api/v2/alerts",
        "Content-Type: text/plain\r\nContent-Length: 2\r\n",
        "[]",
    );
    assert_eq!(status, 415, "a form of a web page cannot write here");
}

/// SEMANTICS 136, 139: an alert without an end ends by `resolve_timeout`, one that names its end
/// then; both are notified.
#[test]
fn posted_alerts_end_when_they_said_or_when_nobody_renews_them() {
    let sink = HttpSink::start([Reply::Answer(200, "", "")]);
    let nightbell = Nightbell::start(&format!(
        "rules: {{shipped: false}}\nglobal: {{resolve_timeout: 1s}}\n\
         route: {{receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1s}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: '{}'}}]}}]\n",
        sink.url
    ));
    let (status, said) = post(
        &nightbell,
        "/api/v2/alerts",
        r#"[{"labels":{"alertname":"Short","job":"x"},"annotations":{"a":"b"}}]"#,
    );
    assert_eq!((status, said.as_str()), (200, ""));
    let notified = |name: &str| -> Vec<String> {
        let bodies = sink
            .requests()
            .into_iter()
            .filter_map(|r| serde_json::from_str::<Value>(&r.body).ok());
        bodies
            .filter(|b| b["commonLabels"]["alertname"] == name)
            .map(|b| b["status"].as_str().unwrap_or("").to_owned())
            .collect()
    };
    wait_until("both are notified", Duration::from_secs(20), || {
        notified("Short") == ["firing", "resolved"]
    });
    let first: Value = serde_json::from_str(&sink.requests()[0].body).expect("JSON");
    assert_eq!(
        first["alerts"][0]["labels"],
        json!({ "alertname": "Short", "job": "x" }),
        "its own labels and no others"
    );
    assert_eq!(first["alerts"][0]["annotations"], json!({ "a": "b" }));
    let long = r#"[{"labels":{"alertname":"Long"},"endsAt":"2099-01-01T00:00:00Z"}]"#;
    assert_eq!(post(&nightbell, "/api/v2/alerts", long).0, 200);
    wait_until("it is notified", Duration::from_secs(20), || {
        notified("Long") == ["firing"]
    });
    assert_eq!(
        nightbell.json("/api/v2/alerts")[0]["endsAt"],
        "2099-01-01T00:00:00.000Z"
    );
    assert_eq!(
        post(&nightbell, "/api/v2/alerts", &long.replace("2099", "2020")).0,
        200
    );
    wait_until("its end is notified", Duration::from_secs(20), || {
        notified("Long") == ["firing", "resolved"]
    });
}

/// A Prometheus whose `alerting` points here has its alerts delivered, with their labels, to their
/// end.
#[test]
fn a_real_prometheus_posts_its_alerts_here() {
    let sink = HttpSink::start([Reply::Answer(200, "", "")]);
    let nightbell = Nightbell::start(&format!(
        "rules: {{shipped: false}}\nroute: {{receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: '{}'}}]}}]\nweb: {{admin_token: t0ken}}\n",
        sink.url
    ));
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let page = Hostile::page("fault 7\n");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write(
        "rules.yml",
        "groups: [{name: g, rules: [{alert: Outside, expr: 'fault > 0', labels: {severity: page}, annotations: {summary: 'is {{ $value }}'}}]}]\n",
    );
    write(
        "prometheus.yml",
        &format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{site: here}}}}\nrule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
             alerting: {{alertmanagers: [{{authorization: {{credentials: t0ken}}, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]}}\n",
            page.address, nightbell.port
        ),
    );
    let child = Command::new("prometheus")
        .args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            &format!("--web.listen-address=127.0.0.1:{port}"),
        ])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _server = Server(child.expect("prometheus: apt-get install prometheus"));
    let notified = || -> Vec<Value> {
        sink.requests()
            .iter()
            .filter_map(|r| serde_json::from_str(&r.body).ok())
            .collect()
    };
    wait_until("the alert is notified", Duration::from_secs(40), || {
        !notified().is_empty()
    });
    let alert = &notified()[0]["alerts"][0];
    let labels = json!({ "alertname": "Outside", "instance": page.address, "job": "app", "severity": "page", "site": "here" });
    assert_eq!(
        (&alert["labels"], &alert["status"]),
        (&labels, &json!("firing"))
    );
    assert_eq!(alert["annotations"], json!({ "summary": "is 7" }));
    assert!(
        alert["generatorURL"]
            .as_str()
            .is_some_and(|url| url.contains(&format!(":{port}/graph"))),
        "{alert}"
    );
    assert_eq!(
        amtool_json(&nightbell, &["alert", "query", "Outside"])[0]["labels"],
        labels
    );
    page.become_(Manner::Serve(
        "text/plain; version=0.0.4",
        b"fault 0\n".to_vec(),
    ));
    wait_until("its end is notified", Duration::from_secs(40), || {
        notified()
            .last()
            .is_some_and(|body| body["status"] == "resolved")
    });
    assert_eq!(
        amtool_json(&nightbell, &["alert", "query", "Outside"]),
        json!([])
    );
}

fn own(nightbell: &Nightbell, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
    command
        .args(words)
        .env(
            "NIGHTBELL_URL",
            format!("http://127.0.0.1:{}", nightbell.port),
        )
        .env("NIGHTBELL_ADMIN_TOKEN", "t0ken");
    command.output().expect("the binary runs")
}

/// What nightbell's own command prints; it must succeed.
fn own_text(nightbell: &Nightbell, words: &[&str]) -> String {
    let output = own(nightbell, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Silences through nightbell's own commands, with a preview, and a guard against one that hides
/// everything.
#[test]
fn own_commands_make_preview_change_end_and_import_silences() {
    let nightbell = Nightbell::start(&format!("{CONFIG}web: {{admin_token: t0ken}}\n"));
    own_text(
        &nightbell,
        &[
            "alert",
            "add",
            "Down",
            "instance=a",
            "severity=page",
            "--annotation",
            "summary=gone",
        ],
    );
    own_text(
        &nightbell,
        &["alert", "add", "alertname=Slow", "instance=b"],
    );
    let preview = own_text(&nightbell, &["silence", "preview", "instance=~[ac]"]);
    assert!(
        preview.contains("would hide 1 of 2 alerts")
            && preview.contains("Down")
            && !preview.contains("Slow"),
        "{preview}"
    );
    assert_eq!(
        own_text(&nightbell, &["silence", "query", "-q"]),
        "",
        "a preview makes nothing"
    );

    let everything = own(
        &nightbell,
        &["silence", "add", "alertname=~.+", "--comment=quiet"],
    );
    assert!(
        !everything.status.success()
            && String::from_utf8_lossy(&everything.stderr).contains("--force"),
        "{everything:?}"
    );
    let forced = own_text(&nightbell, &["silence", "add", "--force", "alertname=~.+"]);
    assert_eq!(
        amtool_json(&nightbell, &["alert", "query", "--silenced"])
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    own_text(&nightbell, &["silence", "expire", &forced]);

    let id = own_text(
        &nightbell,
        &[
            "silence",
            "add",
            "Down",
            "instance=~[ac]",
            "-a",
            "me",
            "-c",
            "work",
            "-d",
            "2h",
        ],
    );
    let known = amtool_json(&nightbell, &["silence", "query"]);
    assert_eq!(
        (
            &known[0]["id"],
            &known[0]["createdBy"],
            &known[0]["comment"]
        ),
        (&json!(id), &json!("me"), &json!("work"))
    );
    assert!(
        own_text(&nightbell, &["alert", "query"]).contains("Slow")
            && !own_text(&nightbell, &["alert", "query"]).contains("Down")
    );
    assert!(own_text(&nightbell, &["alert", "query", "--silenced"]).contains("gone"));
    assert_eq!(
        own_text(&nightbell, &["silence", "query", "-q", "--within=1h"]),
        ""
    );
    assert_eq!(
        own_text(
            &nightbell,
            &["silence", "update", "-q", "-d", "30m", "-c", "shorter", &id]
        ),
        id
    );
    assert_eq!(
        own_text(
            &nightbell,
            &[
                "silence",
                "query",
                "-q",
                "--within=1h",
                "--created-by=me",
                "Down"
            ]
        ),
        id
    );

    let file = nightbell.folder.path().join("silences.json");
    std::fs::write(
        &file,
        own_text(&nightbell, &["silence", "query", "-o", "json"]),
    )
    .expect("written");
    let path = file.display().to_string();
    assert_eq!(
        own_text(&nightbell, &["silence", "import", &path]),
        "1 silences imported."
    );
    assert_eq!(
        own_text(&nightbell, &["silence", "query", "-q"]),
        id,
        "the known one"
    );
    let other = Nightbell::start(CONFIG);
    assert_eq!(
        own_text(&other, &["silence", "import", &path]),
        "1 silences imported."
    );
    assert_eq!(
        amtool_json(&other, &["silence", "query"])[0]["comment"],
        "shorter",
        "a new one elsewhere"
    );

    own_text(&nightbell, &["silence", "expire", &id]);
    assert_eq!(
        own_text(&nightbell, &["silence", "query", "-q", "--expired"])
            .lines()
            .count(),
        2
    );
    for words in [
        &["silence", "expire", "00000000-0000-4000-8000-000000000000"] as &[&str],
        &["silence", "add", "a=~("],
        &["silence", "add"],
    ] {
        assert!(!own(&nightbell, words).status.success(), "{words:?}");
    }
    assert_eq!(
        own_text(&nightbell, &["routes", "test", "team=db", "severity=page"]),
        "team-db,pager",
        "of the running one"
    );
}
