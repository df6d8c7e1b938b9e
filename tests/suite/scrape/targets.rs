//! Targets that cannot be asked, bodies that are no gzip, names that are not taken: each is seen,
//! with its reason.

use super::hostile::gzip;
use super::*;

fn gzipped(body: &[u8]) -> Manner {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Manner::Raw([head.as_bytes(), body].concat())
}

/// All members of a gzip body are read, whether the page is kept or read while it comes; whatever
/// else stands behind one, and no body at all, is a failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gzip_body_is_read_to_its_end_or_fails() {
    let member = |text: &str| gzip(text.as_bytes());
    let many: String = (0..2000)
        .map(|n| format!("many{{n=\"{n}\"}} 1\n"))
        .collect();
    let two = [
        member("a_metric 1\n"),
        member(""),
        member(&many),
        member("b_metric 1\n"),
    ]
    .concat();
    let cases = [
        ("two", two, ""),
        (
            "zeros",
            [member("a 1\n"), vec![0; 20]].concat(),
            "protocol: the gzip body is damaged",
        ),
        (
            "zero",
            [member("a 1\n"), vec![0]].concat(),
            "protocol: the gzip body ",
        ),
        (
            "text",
            [member("a 1\n"), b"b 1\n".to_vec()].concat(),
            "protocol: the gzip body is damaged",
        ),
        (
            "cut",
            [member("a 1\n"), member("b 1\n")[..12].to_vec()].concat(),
            "protocol: the gzip body ends too early",
        ),
        ("empty", Vec::new(), "protocol: the gzip body is empty"),
    ];
    let servers: Vec<Hostile> = cases
        .iter()
        .map(|(_, body, _)| Hostile::start(gzipped(body)))
        .collect();
    let mut text = String::from("scrape_configs:\n");
    for ((name, ..), server) in cases.iter().zip(&servers) {
        text += &format!(
            "- {{job_name: {name}, scrape_interval: 2s, static_configs: [{{targets: [\"{}\"]}}]}}\n",
            server.address
        );
        text += &format!(
            "- {{job_name: {name}_seldom, scrape_interval: 60s, static_configs: [{{targets: [\"{}\"]}}]}}\n",
            server.address
        );
    }
    let run = Loop::new();
    run.apply(&text);
    for (name, _, error) in cases {
        for job in [name.to_owned(), format!("{name}_seldom")] {
            let status = || {
                run.scraper
                    .targets()
                    .into_iter()
                    .find(|t| t.info.pool == job)
                    .map(|t| t.status)
                    .unwrap_or_default()
            };
            until(&format!("{job} was asked"), || {
                status().health != Health::Unknown
            })
            .await;
            assert_eq!(
                status().health == Health::Up,
                error.is_empty(),
                "{job}: {}",
                status().error
            );
            assert!(
                status().error.starts_with(error),
                "{job}: {}",
                status().error
            );
            let series = run.written.series();
            let has = |metric: &str| {
                series
                    .iter()
                    .any(|s| s.starts_with(metric) && s.contains(&format!("job=\"{job}\"")))
            };
            assert_eq!(
                has("a_metric") && has("b_metric") && has("many{"),
                error.is_empty(),
                "{job}"
            );
        }
    }
}

/// What is no address, has another scheme, or is beyond the job's limit is listed, down, and says
/// why; so is its `up`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_cannot_be_asked_is_listed_and_down() {
    let run = Loop::new();
    let addresses = [
        "::1:21100",
        "fe80::1",
        "127.0.0.1:99999",
        "no such host:80",
        " 127.0.0.1:21100",
        "127.0.0.1: 21100",
        "a%b:80",
        "a^b:80",
    ];
    let listed = addresses.map(|address| format!("{address:?}")).join(", ");
    let relabel = |target: &str, value: &str| {
        format!("relabel_configs: [{{target_label: {target}, replacement: \"{value}\"}}]")
    };
    run.apply(&format!(
        "scrape_configs:\n- {{job_name: odd, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{{targets: [{listed}]}}]}}\n{}{}{}{}",
        job("ftp", "127.0.0.1:1", &format!(", {}", relabel("__scheme__", "ftp"))),
        job("path", "127.0.0.1:1", &format!(", {}", relabel("__address__", "http://u:hunter2@127.0.0.1/x"))),
        job("time", "127.0.0.1:1", &format!(", {}", relabel("__scrape_timeout__", "1h"))),
        job("many", "127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3", ", target_limit: 2"),
    ));
    for address in addresses {
        let error = run.health(address, Health::Down).await;
        assert!(
            error.starts_with("the address is not host:port"),
            "{address}: {error}"
        );
        let up = format!("up{{instance=\"{address}\", job=\"odd\"}}");
        until(&up, || run.written.values(&up).first() == Some(&Some(0.0))).await;
    }
    assert_eq!(
        run.failure("ftp").await,
        "unsupported scheme \"ftp\": neither http nor https"
    );
    assert_eq!(run.failure("path").await, "the address is not host:port");
    assert_eq!(
        run.failure("time").await,
        "the timeout must be above 0 and at most the interval"
    );
    for number in 1..=3 {
        let error = run
            .health(&format!("127.0.0.1:{number}"), Health::Down)
            .await;
        assert!(
            number < 3 || error == "target_limit exceeded (number of targets: 3, limit: 2)",
            "{error}"
        );
    }
    let shown: Vec<String> = run
        .scraper
        .targets()
        .iter()
        .map(|t| t.info.address.clone())
        .collect();
    assert!(
        shown.iter().all(|address| !address.contains("hunter2")),
        "{shown:?}"
    );
}

/// A target is asked for names as the job wants them, and one that sends others all the same is
/// refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schemes_of_names_are_obeyed() {
    let server = Hostile::page("{\"http.server\"} 1\n");
    let run = Loop::new();
    run.apply(&format!(
        "global: {{metric_name_validation_scheme: legacy}}\nscrape_configs:\n{}{}{}",
        job(
            "utf8",
            &server.address,
            ", metric_name_validation_scheme: utf8, metric_name_escaping_scheme: allow-utf-8"
        ),
        job(
            "dots",
            &server.address,
            ", metric_name_validation_scheme: utf8, metric_name_escaping_scheme: dots"
        ),
        job("legacy", &server.address, ""),
    ));
    let error = run.failure("legacy").await;
    assert!(
        error.starts_with("invalid metric name or label names: {\"http.server\", instance="),
        "{error}"
    );
    let series = |job: &str| {
        format!(
            "{{\"http.server\", instance=\"{}\", job=\"{job}\"}}",
            server.address
        )
    };
    until("both others", || {
        ["utf8", "dots"]
            .iter()
            .all(|job| !run.written.values(&series(job)).is_empty())
    })
    .await;
    let asked: Vec<String> = server
        .heads()
        .iter()
        .map(|head| fields(head)["accept"].clone())
        .collect();
    for scheme in ["allow-utf-8", "dots", "underscores"] {
        let wanted = format!(
            "version=1.0.0;escaping={scheme};q=0.6,application/openmetrics-text;version=0.0.1;q=0.5"
        );
        assert!(
            asked.iter().any(|accept| accept.contains(&wanted)),
            "{scheme}: {asked:?}"
        );
    }
    let wrong = plan(
        "scrape_configs: [{job_name: a, metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8}]\n",
    );
    let wrong = wrong.err().expect("a contradiction").to_string();
    assert!(wrong.contains("metric_name_escaping_scheme"), "{wrong}");
}

/// As in Prometheus, nothing is replaced in a job: a password may hold `${`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_holds_its_texts_as_they_are_written() {
    let server = Hostile::page("a 1\n");
    let run = Loop::new();
    run.apply(&format!(
        "scrape_configs:\n{}",
        job(
            "app",
            &server.address,
            ", basic_auth: {username: u, password: \"a${b}c\"}, params: {q: [\"${b}\"]}"
        )
    ));
    run.health(&server.address, Health::Up).await;
    let head = server.heads()[0].clone();
    assert!(
        head.starts_with("GET /metrics?q=%24%7Bb%7D HTTP/1.1\r\n"),
        "{head}"
    );
    assert_eq!(fields(&head)["authorization"], "Basic dTphJHtifWM=");
}

/// Two targets with the same labels are collected at different times, so that what each says of
/// itself is stored, as in Prometheus.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_with_equal_labels_are_both_stored() {
    let (one, other) = (Hostile::page("a 1\n"), Hostile::page("b 1\n"));
    let run = Loop::new();
    let targets = format!(
        "static_configs: [{{targets: [\"{}\", \"{}\"]}}]",
        one.address, other.address
    );
    let relabel = "relabel_configs: [{target_label: instance, replacement: twin}]";
    run.apply(&format!("scrape_configs:\n- {{job_name: twins, scrape_interval: 500ms, scrape_timeout: 500ms, {targets}, {relabel}}}\n"));
    until("four collections of each", || {
        one.heads().len() >= 4 && other.heads().len() >= 4
    })
    .await;
    let asked = one.heads().len() + other.heads().len();
    let up = || {
        run.written
            .values("up{instance=\"twin\", job=\"twins\"}")
            .len()
    };
    // The last ones may be on their way.
    until("the samples of both", || up() + 2 >= asked).await;
    assert!(["a", "b"].iter().all(|name| {
        run.written
            .series()
            .contains(&format!("{name}{{instance=\"twin\", job=\"twins\"}}"))
    }));
}
