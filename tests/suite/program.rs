//! The built binary as its users meet it: start without configuration, environment, reload, health,
//! secrets, exit codes, a real Prometheus.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::servers::chroma::Chroma;
use crate::servers::hostile::{Hostile, Manner};
use crate::servers::http::HttpServer;
use crate::servers::llm::{FakeLlm, Script};
use crate::servers::mariadb::MariaDb;
use crate::servers::nightbell::Nightbell;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;
use crate::servers::smtp::Certificate;
use crate::servers::{Server, free_port, listens, vectors, wait_until};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn command(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(words)
        .current_dir(root())
        .output()
        .expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A URL in percent-encoding, as a query parameter.
pub fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Without a configuration it watches this host and what the environment names, and says so.
#[test]
fn without_configuration_it_watches_the_host_and_what_the_environment_names() {
    let (postgres, redis, chroma, llm) = (
        Postgres::start(&[]),
        Redis::start(&[]),
        Chroma::start(),
        FakeLlm::start(),
    );
    llm.on(
        "/v1/models",
        Script::json("200 OK", r#"{"data":[{"id":"m"}]}"#),
    );
    let nightbell = Nightbell::start_with(
        None,
        &[
            (
                "DATABASE_URL",
                &postgres
                    .dsn("postgres", "postgres")
                    .replace("postgres://", "postgresql+asyncpg://"),
            ),
            ("REDIS_URL", &redis.url()),
            ("CHROMA_URL", &chroma.url()),
            ("OPENAI_API_KEY", "sk-very-secret-key"),
            ("OPENAI_BASE_URL", &llm.url("/v1")),
            ("LLM_PROVIDER", "openai"),
        ],
    );
    wait_until("every target is up", Duration::from_secs(20), || {
        [
            "pg_up",
            "redis_up",
            "vectorstore_up",
            "llm_up",
            "node_load1",
        ]
        .iter()
        .all(|m| {
            nightbell
                .metric(m)
                .is_some_and(|v| v > 0.0 || *m == "node_load1")
        })
    });
    assert_eq!(nightbell.metric("llm_provider_selected"), Some(1.0));
    let said = nightbell.log();
    for word in [
        "postgres",
        "redis",
        "chroma",
        "openai",
        "DEEPSEEK_API_KEY",
        "rules every 15s",
        "/metrics",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let everything = [
        said,
        nightbell.get("/metrics").1,
        nightbell.get("/api/v1/targets").1,
        nightbell.get("/api/v1/status/config").1,
    ]
    .join("\n");
    assert!(
        !everything.contains("sk-very-secret-key"),
        "the key is shown"
    );
}

/// An invalid file changes nothing and is visible; a valid one takes effect by HTTP and by SIGHUP.
#[test]
fn an_invalid_reload_changes_nothing_and_is_visible() {
    let page = Hostile::page("good 1\n");
    let config = |job: &str| {
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: {job}, static_configs: [{{targets: ['{}']}}]}}]\n",
            page.address
        )
    };
    let nightbell = Nightbell::start(&config("first"));
    let has = |job: &str| {
        nightbell
            .get("/metrics")
            .1
            .contains(&format!("job=\"{job}\""))
    };
    wait_until("the first job is there", Duration::from_secs(10), || {
        has("first")
    });
    let reloaded = || nightbell.metric("nightbell_config_last_reload_successful");
    wait_until(
        "the reload metric is there",
        Duration::from_secs(20),
        || reloaded() == Some(1.0),
    );
    nightbell.configure("scrape_config: []\nglobal: {scrape_interval: soon}\n");
    let (status, body) = nightbell.request("POST", "/-/reload", "Content-Length: 0\r\n");
    assert_eq!(status, 500);
    assert!(
        body.contains("failed to reload config:")
            && body.contains("did you mean \"scrape_configs\"?")
            && body.contains("\"soon\" is not valid here"),
        "{body}"
    );
    wait_until("the refusal is visible", Duration::from_secs(20), || {
        reloaded() == Some(0.0)
    });
    let info = nightbell.json("/api/v1/status/runtimeinfo")["data"].clone();
    assert_eq!(
        (&info["reloadConfigSuccess"], &info["lastConfigTime"]),
        (&false.into(), &info["startTime"]),
        "{info}"
    );
    let notified = nightbell.json("/api/v1/notifications")["data"].clone();
    assert!(
        notified[0]["text"] == "Configuration reload has failed." && notified[0]["active"] == true,
        "{notified}"
    );
    assert!(has("first"));
    nightbell.configure(&config("second"));
    nightbell.signal("-HUP");
    wait_until("the second job is there", Duration::from_secs(10), || {
        has("second") && !has("first")
    });
    wait_until("the success is visible", Duration::from_secs(20), || {
        reloaded() == Some(1.0)
    });
    let info = nightbell.json("/api/v1/status/runtimeinfo")["data"].clone();
    assert!(
        info["reloadConfigSuccess"] == true && info["lastConfigTime"] != info["startTime"],
        "{info}"
    );
    assert_eq!(
        nightbell.json("/api/v1/notifications")["data"],
        serde_json::json!([])
    );
    let flags = nightbell.json("/api/v1/status/flags")["data"].clone();
    assert_eq!(
        flags["config.file"],
        nightbell.config_file().display().to_string()
    );
    let tsdb = nightbell.json("/api/v1/status/tsdb?limit=3")["data"].clone();
    assert!(
        tsdb["headStats"]["numSeries"].as_u64() > Some(20)
            && tsdb["headStats"]["minTime"].as_i64() > Some(0),
        "{tsdb}"
    );
    assert_eq!(
        tsdb["seriesCountByMetricName"].as_array().map(Vec::len),
        Some(3),
        "{tsdb}"
    );
    assert_eq!(nightbell.get("/-/reload").0, 405);
}

/// A `prometheus.yml` as it stands: jobs in files of their own are scraped, and a rule file that is
/// not there is notified but does not keep it from starting, as in Prometheus; `check config`
/// refuses it, as promtool does.
#[test]
fn jobs_in_files_of_their_own_are_scraped_and_an_absent_rule_file_is_notified() {
    let page = Hostile::page("good 1\n");
    let nightbell = Nightbell::start(
        "global: {scrape_interval: 1s}\nscrape_config_files: ['jobs/*.yml']\nrule_files: [absent.yml, 'none/*.yml']\n",
    );
    let folder = nightbell
        .config_file()
        .parent()
        .expect("a folder")
        .to_owned();
    assert!(
        nightbell.log().contains("rule_files[0]:")
            && nightbell.log().contains("absent.yml does not exist"),
        "{}",
        nightbell.log()
    );
    assert!(
        !nightbell.log().contains("none/"),
        "a pattern may match nothing"
    );
    std::fs::create_dir(folder.join("jobs")).expect("made");
    let job = format!(
        "scrape_configs: [{{job_name: apart, static_configs: [{{targets: ['{}']}}]}}]\n",
        page.address
    );
    std::fs::write(folder.join("jobs/a.yml"), &job).expect("written");
    nightbell.signal("-HUP");
    wait_until("the job is scraped", Duration::from_secs(20), || {
        nightbell.get("/metrics").1.contains("job=\"apart\"")
    });
    std::fs::write(folder.join("jobs/b.yml"), job).expect("written");
    let config = nightbell.config_file().display().to_string();
    let refused = command(&["check", "config", &config]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("b.yml:1:") && said.contains("another job is named \"apart\" already"),
        "{said}"
    );
    std::fs::remove_file(folder.join("jobs/b.yml")).expect("removed");
    let refused = command(&["check", "config", &config]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("absent.yml does not exist"));
}

/// A signal to stop ends it at once with status 0, and it starts again on the same state.
#[test]
fn a_signal_to_stop_ends_it_with_status_0() {
    let mut nightbell = Nightbell::start("collectors: {host: {}}\n");
    assert_eq!(nightbell.stop(), Some(0));
    nightbell.restart();
    assert_eq!(nightbell.stop(), Some(0), "{}", nightbell.log());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let refused = command(&[
        "--listen",
        &address,
        "--state-dir",
        &folder.path().display().to_string(),
    ]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("another nightbell?"),
        "{}",
        stderr(&refused)
    );
}

/// Where no folder for its state is known it goes on in memory, and says so.
#[test]
fn without_a_home_it_goes_on_in_memory_and_says_so() {
    let listen = format!("127.0.0.1:{}", free_port());
    let child = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["--listen", &listen])
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut server = Server(child);
    let mut said = String::new();
    let mut lines = std::io::BufReader::new(server.0.stdout.take().expect("piped"));
    while !said.contains("  state ") {
        assert!(
            std::io::BufRead::read_line(&mut lines, &mut said).expect("readable") > 0,
            "it ended: {said}"
        );
    }
    assert!(said.contains("in memory only: state.db: HOME is not set, so no folder is known for it; pass --state-dir"), "{said}");
}

/// Health of the whole and of its parts.
#[test]
fn health_tells_the_whole_its_parts_and_only_an_administrator_the_details() {
    let mut postgres = Postgres::start(&[]);
    let nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\ncollectors: {{postgres: [{{name: main, dsn: '{}'}}], host: {{}}}}\nweb: {{admin_token: t0ken}}\n",
        postgres.dsn("postgres", "postgres")
    ));
    let status = |path: &str| {
        nightbell.json(path)["status"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    wait_until("healthy", Duration::from_secs(10), || {
        status("/health") == "healthy" && status("/health/db") == "healthy"
    });
    assert_eq!(nightbell.get("/health/redis").0, 404);
    assert_eq!(nightbell.get("/health/detailed").0, 401);
    let (code, body) =
        nightbell.request("GET", "/health/detailed", "Authorization: Bearer t0ken\r\n");
    assert!(
        code == 200 && body.contains("\"response_time_ms\"") && body.contains("\"main\""),
        "{body}"
    );
    postgres.stop();
    wait_until("degraded", Duration::from_secs(10), || {
        status("/health") == "degraded"
    });
    assert_eq!(nightbell.get("/health/db").0, 503);
    let asked = command(&[
        "health",
        "--url",
        &format!("http://127.0.0.1:{}", nightbell.port),
    ]);
    assert!(
        asked.status.success()
            && String::from_utf8_lossy(&asked.stdout).starts_with("degraded: 1 of 3"),
        "{asked:?}"
    );
}

/// An endpoint that fails its probe is a failed check of the whole.
#[test]
fn a_failing_endpoint_is_a_failed_check() {
    let nightbell = Nightbell::start(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\ncollectors: {probe: [{name: api, url: 'http://127.0.0.1:1/'}]}\n",
    );
    wait_until("unhealthy", Duration::from_secs(10), || {
        nightbell.get("/health").0 == 503
    });
    assert_eq!(
        nightbell.json("/health")["status"],
        "unhealthy",
        "one of two checks failed"
    );
}

/// `nightbell … | head`: a reader that has seen enough is no error, and no panic.
#[test]
fn a_reader_that_goes_away_ends_a_command_without_a_word() {
    let corpus = root().join("tests/config/alertmanager/accepted");
    let files: Vec<PathBuf> = std::fs::read_dir(corpus)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let routes = root().join("tests/config/alertmanager/accepted/routes.yml");
    let mut check = Command::new(env!("CARGO_BIN_EXE_nightbell"));
    check.args(["check", "alertmanager"]).args(
        files
            .iter()
            .filter(|file| file.extension().is_some_and(|e| e == "yml")),
    );
    let mut show = Command::new(env!("CARGO_BIN_EXE_nightbell"));
    show.args(["routes", "show"]).arg(routes);
    for mut command in [check, show] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .expect("the binary runs");
        let said = stderr(&output);
        assert!(
            !said.contains("panicked") && !said.contains("Broken pipe"),
            "{said}"
        );
        assert_eq!(output.status.code(), Some(141), "{said}");
    }
}

/// The broken configurations again, through the command: place, key, remedy, and exit status 1.
#[test]
fn check_config_names_the_place_and_the_remedy() {
    let folder = root().join("tests/config/broken");
    let mut checked = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "yml") {
            continue;
        }
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(["check", "config", &name])
            .env("API_TOKEN", "hunter2")
            .current_dir(&folder)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stderr(&output));
        let said = stderr(&output);
        let expected = std::fs::read_to_string(path.with_extension("err")).expect("its messages");
        // The goldens were made below another folder, which only messages about named files show.
        for line in expected.lines().filter(|l| !l.contains("/etc/nightbell")) {
            assert!(said.contains(line), "{name}: missing\n{line}\nin\n{said}");
        }
        checked += 1;
    }
    assert!(checked >= 20, "{checked} files");
    assert!(
        command(&["check", "config", "deploy/nightbell.yml"])
            .status
            .success()
    );
    assert!(
        command(&["check", "config", "deploy/prometheus.yml"])
            .status
            .success()
    );
    assert!(command(&["check", "config"]).status.success());
}

/// The tests of the shipped rules pass here and in Debian's promtool.
#[test]
fn shipped_rule_tests_pass_here_and_in_promtool() {
    let entries = std::fs::read_dir(root().join("tests/rules")).expect("the folder");
    let files: Vec<_> = entries
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yml"))
        .collect();
    assert!(files.len() >= 12, "{files:?}");
    for program in ["promtool", env!("CARGO_BIN_EXE_nightbell")] {
        let output = Command::new(program)
            .args(["test", "rules"])
            .args(&files)
            .current_dir(root())
            .output()
            .expect("promtool: apt-get install prometheus");
        assert!(
            output.status.success(),
            "{program}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            stderr(&output)
        );
    }
}

/// Everything is scraped by a real Prometheus, whose values agree with ours.
#[test]
fn a_real_prometheus_scrapes_everything() {
    let (postgres, redis) = (Postgres::start(&[]), Redis::start(&[]));
    let nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\ncollectors: {{host: {{}}, postgres: [{{name: pg, dsn: '{}'}}], redis: [{{name: cache, url: '{}'}}]}}\n",
        postgres.dsn("postgres", "postgres"),
        redis.url()
    ));
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: nightbell, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]\n",
        nightbell.port
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).expect("written");
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
    wait_until("Prometheus listens", Duration::from_secs(30), || {
        listens(port)
    });
    let theirs = |query: &str| -> Option<String> {
        let output = Command::new("promtool")
            .args([
                "query",
                "instant",
                "-o",
                "json",
                &format!("http://127.0.0.1:{port}"),
                query,
            ])
            .output()
            .expect("promtool");
        let json: Value = serde_json::from_slice(&output.stdout).ok()?;
        json[0]["value"][1].as_str().map(str::to_owned)
    };
    let ours = |query: &str| {
        nightbell.json(&format!("/api/v1/query?query={}", encoded(query)))["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    wait_until("Prometheus has scraped", Duration::from_secs(30), || {
        theirs("up{job=\"nightbell\", instance!=\"nightbell\"}") == Some("1".into())
            && theirs("pg_up") == Some("1".into())
    });
    let queries = [
        "pg_up{job=\"postgres\", instance=\"pg\"}",
        "pg_settings_max_connections",
        "redis_up",
        "redis_memory_max_bytes",
        "node_memory_MemTotal_bytes",
        "count(node_cpu_seconds_total)",
        "count(pg_settings_max_connections)",
        "node_uname_info",
    ];
    for query in queries {
        assert_eq!(theirs(query), ours(query), "{query}");
        assert!(ours(query).is_some(), "{query} is empty");
    }
    // promtool asks us as it asks a Prometheus.
    let asked = Command::new("promtool")
        .args([
            "query",
            "instant",
            &format!("http://127.0.0.1:{}", nightbell.port),
            "pg_up",
        ])
        .output()
        .expect("promtool");
    assert!(
        String::from_utf8_lossy(&asked.stdout).contains("pg_up"),
        "{asked:?}"
    );
}

/// Every expression of every dashboard gives data in a nightbell that watches everything; those of
/// the applications' own dashboards do in `applications`.
#[test]
fn every_dashboard_expression_gives_data() {
    let all = Everything::start();
    let mut expressions = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("dashboards")).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "json") {
            let dashboard: Value =
                serde_json::from_str(&std::fs::read_to_string(&path).expect("readable"))
                    .expect("JSON");
            let tags = dashboard["tags"].as_array().expect("tags");
            if !tags.contains(&"application".into()) {
                panel_expressions(&dashboard["panels"], &mut expressions);
            }
        }
    }
    assert!(expressions.len() > 120, "{}", expressions.len());
    let pressure = Path::new("/proc/pressure/cpu").exists();
    let wanted: Vec<&String> = expressions
        .iter()
        .filter(|e| pressure || !e.contains("node_pressure"))
        .collect();
    all.nightbell
        .gives_data(wanted.into_iter().map(String::as_str));
}

/// Servers of language models by the first part of the path, a Qdrant, and an application that is
/// asked questions.
fn stand_ins() -> HttpServer {
    HttpServer::answering(|request| {
        let (_, path, body) = vectors::parts(request);
        let (first, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        let page = |name: &str| {
            let folder = root().join("tests/collectors/llm_server");
            std::fs::read_to_string(folder.join(format!("{name}.txt"))).expect("a page")
        };
        match (first, rest) {
            ("qdrant", _) => vectors::qdrant(&request.replacen("/qdrant/", "/", 1)),
            ("ask", _) if body["question"] == "gone?" => ("503 Service Unavailable", String::new()),
            ("ask", _) => ("200 OK", r#"{"sources":["a.md"],"answer":"yes"}"#.into()),
            ("embed", _) => (
                "200 OK",
                r#"{"data":[{"index":0,"embedding":[1,0]}]}"#.into(),
            ),
            (kind, "metrics") => ("200 OK", page(kind)),
            (_, "v1/models") => ("200 OK", r#"{"data":[{"id":"m"}]}"#.into()),
            (_, "api/tags") => ("200 OK", r#"{"models":[{"name":"m"}]}"#.into()),
            (_, "api/ps") => (
                "200 OK",
                r#"{"models":[{"name":"m","size":8,"size_vram":8}]}"#.into(),
            ),
            _ => ("200 OK", r#"{"version":"1.0"}"#.into()),
        }
    })
}

/// The queries of panels, for all jobs and instances.
pub fn panel_expressions(json: &Value, found: &mut BTreeSet<String>) {
    match json {
        Value::Object(map) => {
            if let Some(expr) = map.get("expr").and_then(Value::as_str) {
                found.insert(expr.replace("$job", ".*").replace("$instance", ".*"));
            }
            map.values().for_each(|v| panel_expressions(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| panel_expressions(v, found)),
        _ => {}
    }
}

/// A nightbell that watches one of everything, some of it broken.
struct Everything {
    nightbell: Nightbell,
    _parts: (
        Postgres,
        [MariaDb; 2],
        Redis,
        Chroma,
        FakeLlm,
        Hostile,
        Server,
        [tempfile::TempDir; 2],
        crate::collectors_supervisor::Supervisord,
    ),
}

impl Everything {
    fn start() -> Self {
        let (postgres, redis, chroma, llm) = (
            Postgres::start(&[]),
            Redis::start(&["--maxmemory", "100mb"]),
            Chroma::start(),
            FakeLlm::start(),
        );
        let (source, replica) = (
            MariaDb::start(&["--log-bin", "--server-id=1"]),
            MariaDb::start(&["--server-id=2"]),
        );
        replica.sql(&format!("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='root'; START SLAVE", source.port));
        tokio::runtime::Runtime::new()
            .expect("a runtime")
            .block_on(chroma.collection("books", 20));
        let word = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
        let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":9,\"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\ndata: [DONE]\n\n";
        let balance = r#"{"is_available":true,"balance_infos":[{"currency":"CNY","total_balance":"20.00","granted_balance":"0","topped_up_balance":"20.00"}]}"#;
        let stream = Script::stream(&[(0, word), (50, word), (50, end)])
            .header("x-ratelimit-limit-tokens", "1000")
            .header("x-ratelimit-remaining-tokens", "900");
        llm.on(
            "/models",
            Script::json("200 OK", r#"{"data":[{"id":"m"}]}"#),
        )
        .on("/user/balance", Script::json("200 OK", balance))
        .on("/chat/completions", stream);
        llm.on(
            "/embeddings",
            Script::json("200 OK", r#"{"data":[{"embedding":[1,0]}]}"#),
        )
        .on(
            "/status.json",
            Script::json("200 OK", r#"{"status":{"indicator":"none"}}"#),
        );
        llm.on(
            "/bad/models",
            Script::json(
                "401 Unauthorized",
                r#"{"error":{"code":"invalid_api_key"}}"#,
            ),
        );
        let application = Hostile::page(
            "# TYPE http_requests_total counter\nhttp_requests_total{status=\"200\"} 900\nhttp_requests_total{status=\"500\"} 10\n\
             # TYPE http_request_duration_seconds histogram\nhttp_request_duration_seconds_bucket{le=\"0.5\"} 90\nhttp_request_duration_seconds_bucket{le=\"+Inf\"} 100\n\
             http_request_duration_seconds_sum 30\nhttp_request_duration_seconds_count 100\n\
             # TYPE tool_execution_duration_seconds histogram\ntool_execution_duration_seconds_bucket{tool=\"search\",le=\"+Inf\"} 10\n\
             tool_execution_duration_seconds_sum{tool=\"search\"} 3\ntool_execution_duration_seconds_count{tool=\"search\"} 10\n",
        );
        let folder = tempfile::tempdir().expect("a folder");
        let certificate = Certificate::make(folder.path());
        let tls = free_port();
        let server = Command::new("openssl")
            .args([
                "s_server",
                "-www",
                "-accept",
                &format!("127.0.0.1:{tls}"),
                "-cert",
            ])
            .arg(&certificate.cert)
            .arg("-key")
            .arg(&certificate.key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = Server(server.expect("openssl: apt-get install openssl"));
        wait_until("openssl listens", Duration::from_secs(10), || listens(tls));
        let (log, logins, backup) = (
            folder.path().join("app.log"),
            folder.path().join("auth.log"),
            folder.path().join("backup.txt"),
        );
        let append = |path: &std::path::Path, line: &str| {
            let mut file = std::fs::File::options()
                .create(true)
                .append(true)
                .open(path)
                .expect("a file");
            std::io::Write::write_all(&mut file, line.as_bytes()).expect("written");
        };
        append(&log, "INFO begins\n");
        append(&folder.path().join("access.log"), "");
        append(
            &logins,
            "Dec  1 00:00:00 host sshd[1]: Accepted password for a from 10.0.0.1 port 1 ssh2\n",
        );
        append(&backup, "all of it\n");
        let before = folder.path().join("backup0.txt");
        append(&before, "all of it\n");
        let database = folder.path().join("data.db");
        crate::servers::sqlite(&database, "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
        let archived = Command::new("tar")
            .args(["cf", "backup.tar", "backup.txt"])
            .current_dir(folder.path())
            .status()
            .expect("tar runs");
        assert!(archived.success());
        let cgroups = folder.path().join("cgroup");
        let container = cgroups.join(format!("docker/{}", "a".repeat(64)));
        std::fs::create_dir_all(&container).expect("made");
        for (name, text) in [
            ("../../cgroup.controllers", "cpu"),
            ("cpu.stat", "usage_usec 9\nnr_periods 9\nnr_throttled 1"),
            ("memory.current", "10"),
            ("memory.max", "100"),
            ("memory.events", "oom_kill 0"),
            ("io.stat", "8:0 rbytes=1 wbytes=1"),
        ] {
            std::fs::write(container.join(name), text).expect("written");
        }
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        for (path, time) in [
            (&backup, long_ago),
            (&before, long_ago - Duration::from_secs(60)),
        ] {
            std::fs::File::options()
                .append(true)
                .open(path)
                .and_then(|file| file.set_modified(time))
                .expect("dated back");
        }
        postgres.sql("postgres", "CREATE TABLE t AS SELECT 1 AS a");
        let place = folder.path().display();
        let updates = crate::collectors_updates::System::new();
        let objects = "<ListBucketResult><Contents><LastModified>2024-01-01T00:00:00Z</LastModified><Size>9</Size></Contents></ListBucketResult>";
        let bucket = HttpServer::answering(move |_| ("200 OK", objects.into())).port;
        let bucket = format!("http://127.0.0.1:{bucket}");
        let supervisord = crate::collectors_supervisor::Supervisord::start();
        let supervisor = format!("http://127.0.0.1:{}", supervisord.port);
        let system = updates.folder.path().display();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\ncollectors:\n  host: {{}}\n\
             \x20 log_file: [{{name: log, path: '{}', count: {{failed: {{contains: failed}}}}}}]\n  access_log: [{{name: logins, path: '{}', format: auth}}, {{name: nginx, path: '{place}/access.log', format: combined, clients: {{above: 100}}}}]\n\
             \x20 sqlite: [{{name: sqlite, path: '{place}/data.db', queries: [{{name: rows, sql: SELECT count(*) AS n FROM t}}]}}]\n\
             \x20 object_storage: [{{name: bucket, url: '{bucket}', bucket: b, max_size: 1GB}}]\n  supervisor: [{{name: supervisor, url: '{supervisor}/RPC2', basic_auth: {{username: watch, password: s3cret}}}}]\n\
             \x20 updates: [{{name: updates, root: '{system}'}}]\n\
             \x20 directory: [{{name: folder, path: '{place}'}}]\n  file_integrity: [{{name: files, path: '{place}', files: '*.db'}}]\n\
             \x20 backup: [{{name: backup, files: '{place}/backup*.txt', kind: any, every: 1d, settle: 0s}}]\n  restore_test: [{{name: restore, files: '{place}/backup.tar', scratch: '{place}/scratch', settle: 0s, every: 1d}}]\n  container: {{root: '{}'}}\n  job: [{{name: nightly, every: 1h}}, {{name: pushes, pushgateway: true}}]\n  postgres: [{{name: pg, dsn: '{}'}}]\n  redis: [{{name: cache, url: '{}'}}]\n\
             \x20 mysql: [{{name: replica, dsn: '{}', queries: [{{name: tables, sql: SELECT count(*) AS n FROM innodb_table_stats}}]}}]\n\
             \x20 vector_store:\n  - {{name: chroma, url: '{}', path: '{}'}}\n  - {{name: gone, url: 'http://127.0.0.1:1'}}\n\
             \x20 llm_provider:\n  - {{name: deepseek, provider: deepseek, base_url: '{}', api_key: k, models: [m], embedding: {{model: e}}, watch_status_page: true, status_page: '{}', completion: {{model: m, interval: 1s, daily_token_budget: 1000000}}}}\n\
             \x20 - {{name: bad, provider: openai, base_url: '{}', api_key: k}}\n\
             \x20 probe:\n  - {{name: tls, url: 'https://127.0.0.1:{tls}/', tls_config: {{insecure_skip_verify: true}}}}\n  - {{name: broken, url: 'http://127.0.0.1:1/'}}\n\
             scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
             route: {{receiver: nobody, group_wait: 0s}}\nreceivers: [{{name: nobody, webhook_configs: [{{url: 'http://127.0.0.1:1/'}}]}}]\n",
            log.display(),
            logins.display(),
            cgroups.display(),
            postgres.dsn("postgres", "postgres"),
            redis.url(),
            replica.dsn("root", "mysql"),
            chroma.url(),
            chroma.data.path().display(),
            llm.url(""),
            llm.url("/status.json"),
            llm.url("/bad"),
            application.address
        );
        let json = r#"{"token":"t","seconds":3600,"services":{"db":"up"},"odd":"neither"}"#;
        let json = HttpServer::answering(move |_| ("200 OK", json.into())).port;
        let config = config.replace(
            "\x20 probe:\n",
            &format!(
                "\x20 json_api: [{{name: json, url: 'http://127.0.0.1:{json}/', login: {{url: 'http://127.0.0.1:{json}/', token: token, expires: seconds}}, \
                 metrics: [{{name: app_component_up, for_each: services, labels: {{component: $key}}}}, {{name: app_odd, path: odd}}, \
                 {{name: app_gone, path: gone}}]}}]\n  probe:\n"
            ),
        );
        let models = stand_ins().port;
        let lance = root().join("tests/collectors/lancedb");
        let servers: String = ["vllm", "sglang", "litellm", "ollama"]
            .iter()
            .map(|kind| format!("\x20 - {{name: {kind}, kind: {kind}, url: 'http://127.0.0.1:{models}/{kind}', models: [m]}}\n"))
            .collect();
        let config = config.replace(
            "\x20 llm_provider:\n",
            &format!(
                "\x20 - {{name: lance, store: lancedb, path: '{}'}}\n\x20 - {{name: qdrant, store: qdrant, url: 'http://127.0.0.1:{models}/qdrant', token: secret, dimension: 4, recall: {{interval: 1s}}}}\n\
                 \x20 llm_server:\n{servers}\
                 \x20 llm_proxy: [{{name: m, upstream: '{}', provider: openai, budget: {{day: 9, month: 90}}}}]\n\
                 \x20 retrieval:\n  - {{name: docs, url: 'http://127.0.0.1:{models}/ask', question: a, expect_source: a.md, must_contain: 'yes', \
                 questions: [{{name: gone, question: 'gone?', expect_source: b}}], embeddings: {{url: 'http://127.0.0.1:{models}/embed', model: e, texts: [t]}}}}\n\
                 \x20 llm_provider:\n",
                lance.display(),
                llm.url("")
            ),
        );
        let nightbell = Nightbell::start(&config);
        nightbell.request(
            "POST",
            "/api/nightbell/job/nightly?duration_seconds=3",
            "Content-Length: 0\r\n",
        );
        nightbell.request("PUT", "/metrics/job/batch", "Content-Length: 0\r\n");
        let alert = r#"[{"labels":{"alertname":"Test","severity":"info"}}]"#;
        nightbell.request_with(
            "POST",
            "/api/v2/alerts",
            "Content-Type: application/json\r\n",
            alert,
        );
        // Counters must move for a rate to be above zero.
        for request in 1..4 {
            std::thread::sleep(Duration::from_millis(1100));
            let ask = r#"{"model":"gpt-4o","stream":true,"messages":[]}"#;
            for path in ["/llm/m/chat/completions", "/llm/m/gone/chat/completions"] {
                let headers = format!(
                    "Content-Type: application/json\r\nContent-Length: {}\r\n",
                    ask.len()
                );
                nightbell.request_with("POST", path, &headers, ask);
            }
            let text = format!(
                "# TYPE http_requests_total counter\nhttp_requests_total{{status=\"200\"}} {}\nhttp_requests_total{{status=\"500\"}} {}\n\
                 # TYPE http_request_duration_seconds histogram\nhttp_request_duration_seconds_bucket{{le=\"0.5\"}} {}\nhttp_request_duration_seconds_bucket{{le=\"+Inf\"}} {}\n\
                 http_request_duration_seconds_sum {}\nhttp_request_duration_seconds_count {}\n\
                 # TYPE tool_execution_duration_seconds histogram\ntool_execution_duration_seconds_bucket{{tool=\"search\",le=\"+Inf\"}} {}\n\
                 tool_execution_duration_seconds_sum{{tool=\"search\"}} {}\ntool_execution_duration_seconds_count{{tool=\"search\"}} {}\n",
                900 + 50 * request,
                10 + request,
                90 + 9 * request,
                100 + 10 * request,
                30 + 3 * request,
                100 + 10 * request,
                10 + request,
                3 + request,
                10 + request
            );
            application.become_(Manner::Serve(
                "text/plain; version=0.0.4",
                text.into_bytes(),
            ));
            append(&log, "ERROR it failed\n");
            append(
                &folder.path().join("access.log"),
                "10.0.0.3 - - [01/Dec/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200 12 \"-\" \"x\"\n",
            );
            append(
                &logins,
                "Dec  1 00:00:01 host sshd[1]: Failed password for root from 10.0.0.2 port 1 ssh2\n",
            );
            postgres.sql("postgres", "SELECT * FROM t");
            redis.cli(&["set", "key", "value"]);
            redis.cli(&["get", "key"]);
            redis.cli(&["get", "missing"]);
        }
        Everything {
            nightbell,
            _parts: (
                postgres,
                [source, replica],
                redis,
                chroma,
                llm,
                application,
                server,
                [folder, updates.folder],
                supervisord,
            ),
        }
    }
}

/// Somebody outside notices when the program is gone, because it says all the time that it is
/// there.
#[test]
fn the_heartbeat_reaches_the_outside_and_its_address_is_shown_nowhere() {
    use crate::servers::http_sink::{HttpSink, Reply};
    let sink = HttpSink::start([Reply::Answer(503, "", ""), Reply::Answer(200, "", "")]);
    let bell = Nightbell::start(&format!(
        "heartbeat: {{url: '{}/ping/s3cr3t', interval: 1s}}\n",
        sink.url
    ));
    crate::servers::wait_until("two heartbeats", std::time::Duration::from_secs(20), || {
        sink.requests().len() >= 2
    });
    let first = &sink.requests()[0];
    assert_eq!(
        (first.method.as_str(), first.path.as_str()),
        ("GET", "/ping/s3cr3t")
    );
    crate::servers::wait_until(
        "the end of the failure",
        std::time::Duration::from_secs(20),
        || bell.log().contains("taken again"),
    );
    assert!(
        bell.log().contains("The heartbeat is not taken.") && !bell.log().contains("s3cr3t"),
        "{}",
        bell.log()
    );
    assert!(!bell.get("/api/v1/status/config").1.contains("s3cr3t"));
}
