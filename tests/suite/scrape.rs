//! The collection loop: labels, staleness, limits, hostile targets, reload; and the configuration
//! that drives it.

mod credentials;
mod hostile;
mod targets;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use nightbell::collectors::{CollectError, Collector, CollectorKind};
use nightbell::config::{ConfigErrors, Document, Environment, Loader};
use nightbell::exposition::Format;
use nightbell::exposition::encode::render;
use nightbell::model::{Batch, Labels, MetricKind, Sample, Timestamp, is_stale};
use nightbell::scrape::{Global, Health, Plan, Scraper, TargetSnapshot, read_jobs, read_kinds};
use nightbell::store::{HistorySettings, Limits, Store};
use nightbell::telemetry::Telemetry;

use crate::servers::hostile::{Hostile, Manner, fields};

/// Reads the store as the loop filled it.
struct Written(Arc<Store>);

impl Written {
    fn samples(&self) -> Vec<(String, Vec<(i64, f64)>)> {
        let mut found = Vec::new();
        let all = self
            .0
            .select(&[], Timestamp::MIN, Timestamp::MAX, |labels, window| {
                found.push((
                    labels.to_string(),
                    window
                        .times
                        .iter()
                        .copied()
                        .zip(window.values.iter().copied())
                        .collect(),
                ));
                ControlFlow::Continue(())
            });
        all.expect("no damaged chunk");
        found
    }

    fn of(&self, series: &str) -> Vec<(i64, f64)> {
        self.samples()
            .into_iter()
            .find(|(name, _)| name == series)
            .map(|(_, samples)| samples)
            .unwrap_or_default()
    }

    /// Values of a series in order; a stale marker is `None`.
    fn values(&self, series: &str) -> Vec<Option<f64>> {
        self.of(series)
            .into_iter()
            .map(|(_, value)| (!is_stale(value)).then_some(value))
            .collect()
    }

    fn series(&self) -> Vec<String> {
        self.samples().into_iter().map(|(name, _)| name).collect()
    }
}

struct Loop {
    scraper: Arc<Scraper>,
    written: Written,
    telemetry: Telemetry,
}

impl Loop {
    fn new() -> Self {
        let (store, telemetry) = (Arc::new(Store::new(Limits::default())), Telemetry::new());
        Loop {
            scraper: Arc::new(Scraper::new(
                store.clone(),
                &telemetry,
                tokio::runtime::Handle::current(),
            )),
            written: Written(store),
            telemetry,
        }
    }

    fn apply(&self, text: &str) {
        self.scraper
            .apply(plan(text).expect("a valid configuration"));
    }

    fn target(&self, instance: &str) -> Option<TargetSnapshot> {
        self.scraper
            .targets()
            .into_iter()
            .find(|t| t.info.labels.value("instance") == instance)
    }

    /// Waits until a target was collected and says whether it is up, with its error.
    async fn health(&self, instance: &str, wanted: Health) -> String {
        let mut error = String::new();
        until(&format!("{instance} is {wanted:?}"), || {
            let status = self.target(instance).map(|t| t.status).unwrap_or_default();
            error.clone_from(&status.error);
            status.health == wanted
        })
        .await;
        error
    }

    /// Waits until the target of a job is down, and says why.
    async fn failure(&self, job: &str) -> String {
        let status = || {
            self.scraper
                .targets()
                .into_iter()
                .find(|t| t.info.pool == job)
                .map(|t| t.status)
                .unwrap_or_default()
        };
        until(&format!("{job} is down"), || {
            status().health == Health::Down
        })
        .await;
        status().error
    }

    fn metrics(&self) -> String {
        let pages = self.scraper.pages();
        render(pages.iter().map(|p| &**p), Format::Text)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.scraper.stop();
    }
}

async fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "{what}: not in time"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn plan(text: &str) -> Result<Plan, ConfigErrors> {
    plan_in(text, Path::new("."))
}

fn plan_in(text: &str, folder: &Path) -> Result<Plan, ConfigErrors> {
    let document = Document::parse("nightbell.yml", text)?;
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, folder);
    let root = loader.root();
    let block = root.section("global");
    let global = Global::read(block.as_ref());
    if let Some(block) = &block {
        block.finish();
    }
    let plan = Plan {
        collectors: read_kinds(&root, &global, &[COUNTING]),
        jobs: read_jobs(&root, &global),
        own: None,
    };
    root.finish();
    drop((block, root));
    loader.finish(plan)
}

fn job(name: &str, address: &str, more: &str) -> String {
    format!(
        "- {{job_name: {name}, scrape_interval: 200ms, scrape_timeout: 200ms, static_configs: [{{targets: [\"{address}\"]}}]{more}}}\n"
    )
}

/// A collector that counts its collections and misbehaves where it is sent to.
const COUNTING: CollectorKind = CollectorKind {
    name: "counting",
    about: "counts its own collections",
    metrics: &[],
    build: |section, _| {
        Box::new(Counting {
            count: 0,
            manner: section.or("manner", String::new()),
        })
    },
};

struct Counting {
    count: u32,
    manner: String,
}

impl Collector for Counting {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        Box::pin(async move {
            self.count += 1;
            batch.push_named(
                "count_total",
                MetricKind::Counter,
                "Collections.",
                &[],
                f64::from(self.count),
            );
            match self.manner.as_str() {
                "fails" => return Err(CollectError::new("no luck")),
                "hangs" => std::future::pending().await,
                "panics" => panic!("on purpose"),
                "alternates" if self.count % 2 == 1 => {
                    batch.push_named("odd", MetricKind::Gauge, "Odd.", &[("n", "1")], 1.0)
                }
                _ => {}
            }
            Ok(())
        })
    }
}

/// SEMANTICS 20, 21, 22, 31: samples get the target's labels, report series come with them, the
/// request is Prometheus's.
#[tokio::test]
async fn a_scraped_page_is_stored_under_its_targets_labels() {
    let server =
        Hostile::page("# HELP a_total Things.\n# TYPE a_total counter\na_total{job=\"x\"} 5\n");
    let run = Loop::new();
    run.apply(&format!(
        "scrape_configs:\n{}",
        job(
            "app",
            &server.address,
            ", params: {q: [\"1\", \"2\"]}, metrics_path: /m"
        )
    ));
    run.health(&server.address, Health::Up).await;
    let instance = &server.address;
    let series = format!("a_total{{exported_job=\"x\", instance=\"{instance}\", job=\"app\"}}");
    until("two scrapes", || run.written.values(&series).len() > 1).await;
    assert!(run.written.values(&series).iter().all(|v| *v == Some(5.0)));
    for (name, value) in [
        ("up", 1.0),
        ("scrape_samples_scraped", 1.0),
        ("scrape_samples_post_metric_relabeling", 1.0),
    ] {
        assert_eq!(
            run.written
                .values(&format!("{name}{{instance=\"{instance}\", job=\"app\"}}"))[0],
            Some(value),
            "{name}"
        );
    }
    let added = run.written.values(&format!(
        "scrape_series_added{{instance=\"{instance}\", job=\"app\"}}"
    ));
    assert_eq!(added[..2], [Some(1.0), Some(0.0)]);
    let head = server.heads()[0].clone();
    assert!(head.starts_with("GET /m?q=1&q=2 HTTP/1.1\r\n"), "{head}");
    let fields = fields(&head);
    assert!(
        fields["accept"]
            .starts_with("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0."),
        "{head}"
    );
    assert_eq!(
        (
            fields["accept-encoding"].as_str(),
            fields["x-prometheus-scrape-timeout-seconds"].as_str()
        ),
        ("gzip", "0.2")
    );
    let page = run.metrics();
    assert!(
        page.contains(&format!(
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{{exported_job=\"x\",instance=\"{instance}\",job=\"app\"}} 5\n"
        )),
        "{page}"
    );
    assert!(
        page.contains(&format!(
            "# TYPE up gauge\nup{{instance=\"{instance}\",job=\"app\"}} 1\n"
        )),
        "{page}"
    );
}

/// SEMANTICS 12, 13, 14: what goes is marked once; a failed scrape ends everything at once.
#[tokio::test]
async fn series_that_go_are_marked_and_a_failure_marks_all() {
    let server = Hostile::page("a 1\nb 2\n");
    let run = Loop::new();
    run.apply(&format!(
        "scrape_configs:\n{}",
        job("app", &server.address, "")
    ));
    let name = |metric: &str| format!("{metric}{{instance=\"{}\", job=\"app\"}}", server.address);
    run.health(&server.address, Health::Up).await;
    server.become_(Manner::Serve("text/plain", b"a 1\n".to_vec()));
    until("b is marked", || {
        run.written.values(&name("b")).last() == Some(&None)
    })
    .await;
    assert_eq!(run.written.values(&name("a")).last(), Some(&Some(1.0)));
    server.become_(Manner::Raw(
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ));
    let error = run.health(&server.address, Health::Down).await;
    assert_eq!(error, "server returned HTTP status 503");
    assert_eq!(run.written.values(&name("a")).last(), Some(&None));
    assert_eq!(run.written.values(&name("up")).last(), Some(&Some(0.0)));
    assert!(!run.metrics().contains("\na{"));
    let failures = run.written.values(&name("up")).len();
    until("another failure", || {
        run.written.values(&name("up")).len() > failures
    })
    .await;
    assert_eq!(
        run.written
            .values(&name("b"))
            .iter()
            .filter(|v| v.is_none())
            .count(),
        1,
        "a marker is written once"
    );
    // An empty page is a success with nothing on it.
    server.become_(Manner::Serve("text/plain", Vec::new()));
    run.health(&server.address, Health::Up).await;
}

/// SEMANTICS 19: a collector's failure keeps what it pushed; a hang and a panic end only that
/// collection.
#[tokio::test]
async fn a_collector_that_fails_hangs_or_panics_is_collected_again() {
    let run = Loop::new();
    let entry = |manner: &str| {
        format!(
            "  - {{name: {manner}, manner: {manner}, interval: 1s, timeout: 1s, labels: {{zone: eu}}}}\n"
        )
    };
    run.apply(&format!(
        "collectors:\n  counting:\n{}{}{}{}",
        entry("fails"),
        entry("hangs"),
        entry("panics"),
        entry("alternates")
    ));
    for (manner, error) in [
        ("fails", "no luck"),
        ("hangs", "timed out after 1s"),
        ("panics", "the collector panicked"),
    ] {
        assert_eq!(run.health(manner, Health::Down).await, error);
        let count = format!("count_total{{instance=\"{manner}\", job=\"counting\", zone=\"eu\"}}");
        until("collected again", || run.written.values(&count).len() > 1).await;
        // A collection during which this process itself stood still is a gap: the count goes on,
        // and need not begin at 1.
        let values = run.written.values(&count);
        assert!(values[0] < values[1], "{values:?}");
        let labels = format!(
            "{{collector=\"counting\", instance=\"{manner}\", job=\"counting\", target=\"{manner}\", zone=\"eu\"}}"
        );
        assert_eq!(
            run.written
                .values(&format!("nightbell_collector_success{labels}"))[0],
            Some(0.0)
        );
        assert!(
            run.written
                .values(&format!("nightbell_collector_duration_seconds{labels}"))[0]
                .is_some()
        );
    }
    let odd = "odd{instance=\"alternates\", job=\"counting\", n=\"1\", zone=\"eu\"}";
    until("odd came, went and came", || {
        run.written.values(odd).len() > 2
    })
    .await;
    assert_eq!(run.written.values(odd)[..3], [Some(1.0), None, Some(1.0)]);
    assert!(
        run.telemetry
            .encode()
            .contains("nightbell_scrape_collector_panics_total")
    );
    let page = run.metrics();
    assert!(
        page.contains(
            "# HELP count_total Collections.
# TYPE count_total counter
count_total{instance=\"fails\""
        ),
        "{page}"
    );
    assert!(
        page.contains(
            "
count_total{instance=\"alternates\",job=\"counting\",zone=\"eu\"} "
        ),
        "{page}"
    );
}

/// SEMANTICS 15: a reload leaves equal targets alone, and marks the series of those it removes.
#[tokio::test]
async fn a_reload_keeps_equal_targets_and_marks_the_removed() {
    let (kept, removed) = (Hostile::page("a 1\n"), Hostile::page("b 1\n"));
    let run = Loop::new();
    let both = format!(
        "collectors: {{counting: {{interval: 200ms}}}}\nscrape_configs:\n{}{}",
        job("kept", &kept.address, ""),
        job("removed", &removed.address, "")
    );
    run.apply(&both);
    run.health(&kept.address, Health::Up).await;
    run.health(&removed.address, Health::Up).await;
    run.apply(&format!(
        "collectors: {{counting: {{interval: 200ms}}}}\nscrape_configs:\n{}",
        job("kept", &kept.address, "")
    ));
    assert!(run.target(&removed.address).is_none());
    let series = format!("b{{instance=\"{}\", job=\"removed\"}}", removed.address);
    until("b is marked", || {
        run.written.values(&series).last() == Some(&None)
    })
    .await;
    let up = format!("up{{instance=\"{}\", job=\"removed\"}}", removed.address);
    assert_eq!(run.written.values(&up).last(), Some(&None));
    let counts: Vec<f64> = run
        .written
        .values("count_total{instance=\"counting\", job=\"counting\"}")
        .into_iter()
        .flatten()
        .collect();
    assert!(
        counts.windows(2).all(|w| w[1] == w[0] + 1.0),
        "the collector was not built anew: {counts:?}"
    );
}

/// `file_sd_configs`: groups come and go with their files; a broken file keeps its last good
/// groups.
#[tokio::test]
async fn group_files_are_followed() {
    let (one, two) = (Hostile::page("a 1\n"), Hostile::page("a 1\n"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("web.json");
    std::fs::write(
        &file,
        format!(
            "[\n\t{{\"targets\": [\"{}\"], \"labels\": {{\"env\": \"prod\"}}}}\n]",
            one.address
        ),
    )
    .expect("written");
    let run = Arc::new(Loop::new());
    let text = "scrape_configs: [{job_name: files, scrape_interval: 200ms, scrape_timeout: 200ms, file_sd_configs: [{files: [\"*.json\"]}]}]\n";
    run.scraper
        .apply(plan_in(text, folder.path()).expect("valid"));
    run.health(&one.address, Health::Up).await;
    let info = run.target(&one.address).expect("running").info;
    assert_eq!(info.labels.value("env"), "prod");
    assert_eq!(
        info.discovered.value("__meta_filepath"),
        file.display().to_string()
    );
    let watching = run.clone();
    let watch = tokio::spawn(async move { watching.scraper.clone().run().await });
    std::fs::write(
        &file,
        format!(
            "[{{\"targets\": [\"{}\", \"{}\"]}}]",
            one.address, two.address
        ),
    )
    .expect("written");
    run.health(&two.address, Health::Up).await;
    std::fs::write(&file, "[{").expect("written");
    let three = Hostile::page("a 1\n");
    std::fs::write(
        folder.path().join("more.json"),
        format!("[{{\"targets\": [\"{}\"]}}]", three.address),
    )
    .expect("written");
    run.health(&three.address, Health::Up).await;
    assert!(
        run.target(&two.address).is_some(),
        "a broken file keeps its last good groups"
    );
    watch.abort();
}

/// The actions of relabelling, on targets as discovery sees them.
#[tokio::test]
async fn relabelling_rewrites_and_drops_targets_as_prometheus_does() {
    let rules = [
        (
            "{source_labels: [__address__], regex: '(.*):(\\d+)', target_label: host, replacement: '${1}-$2'}",
            "host",
            "web-80",
        ),
        (
            "{source_labels: [a, b], target_label: joined}",
            "joined",
            "1;x Y",
        ),
        (
            "{source_labels: [a, b], separator: '', target_label: joined}",
            "joined",
            "1x Y",
        ),
        (
            "{source_labels: [b], action: lowercase, target_label: l}",
            "l",
            "x y",
        ),
        (
            "{source_labels: [b], action: Uppercase, target_label: u}",
            "u",
            "X Y",
        ),
        // The last eight bytes of the MD5 sum of "web:80", modulo 8, as Prometheus computes it.
        (
            "{source_labels: [__address__], action: hashmod, modulus: 8, target_label: shard}",
            "shard",
            "6",
        ),
        (
            "{action: labelmap, regex: '__meta_(.+)', replacement: 'm_$1'}",
            "m_zone",
            "eu",
        ),
        ("{action: labeldrop, regex: 'a|b'}", "a", ""),
        (
            "{source_labels: [a], regex: '(2)', target_label: a, replacement: other}",
            "a",
            "1",
        ),
        (
            "{regex: '', source_labels: [none], target_label: a, replacement: ''}",
            "a",
            "",
        ),
        (
            "{target_label: instance, replacement: fixed}",
            "instance",
            "fixed",
        ),
        (
            "{source_labels: [a], target_label: 'x_${1}', replacement: v}",
            "x_1",
            "v",
        ),
        (
            "{source_labels: [a], action: keepequal, target_label: a}",
            "a",
            "1",
        ),
    ];
    for (rule, label, want) in rules {
        let run = Loop::new();
        run.apply(&format!(
            "scrape_configs:\n- job_name: j\n  static_configs: [{{targets: ['web:80'], labels: {{a: '1', b: x Y, __meta_zone: eu}}}}]\n  relabel_configs:\n  - {rule}\n"
        ));
        let targets = run.scraper.targets();
        assert_eq!(targets[0].info.labels.value(label), want, "{rule}");
    }
    for rule in [
        "{source_labels: [a], action: drop, regex: '1'}",
        "{source_labels: [a], action: keep, regex: '2'}",
        "{source_labels: [a], action: dropequal, target_label: a}",
        "{source_labels: [a], action: keepequal, target_label: b}",
    ] {
        let run = Loop::new();
        run.apply(&format!(
            "scrape_configs:\n- job_name: j\n  static_configs: [{{targets: ['web:80'], labels: {{a: '1', b: x Y}}}}]\n  relabel_configs:\n  - {rule}\n"
        ));
        assert_eq!(
            (run.scraper.targets().len(), run.scraper.dropped().len()),
            (0, 1),
            "{rule}"
        );
    }
}

/// `metric_relabel_configs`, `honor_labels`, `honor_timestamps`; SEMANTICS 17, 22, 24, 26.
#[tokio::test]
async fn jobs_shape_what_they_store() {
    let now = Timestamp::now();
    let page = format!(
        "a{{job=\"own\"}} 1\nb 2 {}\nfar 1 {}\nsecret{{x=\"1\"}} 3\n",
        now.0 - 1000,
        now.0 + 3_600_000
    );
    let server = Hostile::page(&page);
    let run = Loop::new();
    let more = ", honor_labels: true, metric_relabel_configs: [{source_labels: [__name__], regex: 'sec.*', action: drop}]";
    run.apply(&format!(
        "scrape_configs:\n{}{}",
        job("x", &server.address, more),
        job("y", &server.address, ", honor_timestamps: false")
    ));
    let instance = &server.address;
    until("both scraped twice", || {
        ["x", "y"].iter().all(|j| {
            run.written
                .values(&format!("up{{instance=\"{instance}\", job=\"{j}\"}}"))
                .len()
                > 1
        })
    })
    .await;
    assert!(
        !run.written
            .values(&format!("a{{instance=\"{instance}\", job=\"own\"}}"))
            .is_empty()
    );
    assert!(
        !run.written
            .series()
            .iter()
            .any(|s| s.starts_with("secret{") && s.contains("job=\"x\""))
    );
    let counted = run.written.values(&format!(
        "scrape_samples_post_metric_relabeling{{instance=\"{instance}\", job=\"x\"}}"
    ));
    assert_eq!(counted[0], Some(3.0));
    assert!(
        run.written
            .values(&format!("far{{instance=\"{instance}\", job=\"x\"}}"))
            .is_empty(),
        "too far in the future"
    );
    let times = |job: &str| {
        run.written
            .of(&format!("b{{instance=\"{instance}\", job=\"{job}\"}}"))
    };
    assert!(
        times("x").iter().all(|(at, _)| *at == now.0 - 1000),
        "{:?}",
        times("x")
    );
    assert!(
        times("y").iter().all(|(at, _)| *at >= now.0),
        "{:?}",
        times("y")
    );
}

/// SEMANTICS 28: samples lie on the grid of the interval, at the target's place, whatever the
/// instant at which a target was added or answers; only the first collection starts at once.
#[tokio::test]
async fn scrapes_lie_on_the_grid_of_their_interval() {
    let server = Hostile::page("a 1\n");
    let run = Loop::new();
    run.apply(&format!(
        "scrape_configs:\n{}",
        job("g", &server.address, "")
    ));
    let series = format!("a{{instance=\"{}\", job=\"g\"}}", server.address);
    until("some scrapes", || run.written.of(&series).len() > 4).await;
    let times: Vec<i64> = run.written.of(&series).iter().map(|(at, _)| *at).collect();
    assert!(
        times[1..].iter().all(|at| at % 200 == times[1] % 200),
        "{times:?}"
    );
}

/// SEMANTICS 16: the end of the process writes no markers, so that a restart shows no gap; the
/// removal of a target (15) does.
#[tokio::test]
async fn the_end_of_the_process_writes_no_markers() {
    let server = Hostile::page("a 1\n");
    let run = Loop::new();
    run.apply(&format!(
        "scrape_configs:\n{}",
        job("s", &server.address, "")
    ));
    run.health(&server.address, Health::Up).await;
    let (series, up) = (
        format!("a{{instance=\"{}\", job=\"s\"}}", server.address),
        format!("up{{instance=\"{}\", job=\"s\"}}", server.address),
    );
    until("a second scrape", || run.written.of(&series).len() > 1).await;
    run.scraper.stop();
    // Longer than the wait after which a removed target's series are marked.
    tokio::time::sleep(Duration::from_millis(600)).await;
    for series in [&series, &up] {
        assert!(
            run.written.values(series).iter().all(Option::is_some),
            "{series}: {:?}",
            run.written.values(series)
        );
    }
}

/// SEMANTICS 23, 25: relabelling that leaves no label drops a sample; one without a name, or over a
/// limit on labels, fails the scrape.
#[tokio::test]
async fn relabelling_drops_samples_and_label_limits_fail_scrapes() {
    let server = Hostile::page("a{l=\"1\"} 1\nb{l=\"long value\"} 2\n");
    let empty = "metric_relabel_configs: [{regex: none, action: labelkeep}]";
    let cases = [
        (empty, ""),
        (
            "metric_relabel_configs: [{regex: '__name__', action: labeldrop}]",
            "a sample has no metric name after relabelling",
        ),
        (
            "label_value_length_limit: 5",
            "a sample of \"a\" has a value of 15 bytes in label \"instance\", at most 5 allowed (label_value_length_limit of the configuration)",
        ),
        (
            "label_name_length_limit: 3",
            "a sample of \"a\" has a label name of 8 bytes, \"__name__\", at most 3 allowed (label_name_length_limit of the configuration)",
        ),
        (
            "label_limit: 3",
            "a sample of \"a\" has 4 labels, at most 3 allowed (label_limit of the configuration)",
        ),
    ];
    for (number, (more, error)) in cases.iter().enumerate() {
        let run = Loop::new();
        run.apply(&format!(
            "scrape_configs:\n{}",
            job(&format!("r{number}"), &server.address, &format!(", {more}"))
        ));
        let wanted = if error.is_empty() {
            Health::Up
        } else {
            Health::Down
        };
        assert_eq!(run.health(&server.address, wanted).await, *error, "{more}");
        assert!(
            run.written
                .series()
                .iter()
                .all(|s| !s.starts_with('a') && !s.starts_with('b')),
            "{more}: {:?}",
            run.written.series()
        );
    }
}

/// SEMANTICS 27: the first sample of a series that comes twice is kept, the others are counted, the
/// scrape succeeds.
#[tokio::test]
async fn the_first_of_two_samples_of_a_series_is_kept() {
    let server = Hostile::page("a 1\na 2\na{} 3\n");
    let run = Loop::new();
    run.apply(&format!(
        "scrape_configs:\n{}",
        job("d", &server.address, "")
    ));
    run.health(&server.address, Health::Up).await;
    let series = format!("a{{instance=\"{}\", job=\"d\"}}", server.address);
    until("a second scrape", || run.written.of(&series).len() > 1).await;
    assert!(
        run.written
            .values(&series)
            .iter()
            .all(|value| *value == Some(1.0)),
        "{:?}",
        run.written.values(&series)
    );
    let own = run.telemetry.encode();
    let counted = |name: &str| {
        own.lines()
            .find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok())
            .unwrap_or(0)
    };
    let (repeated, duplicate) = (
        counted("nightbell_scrape_samples_repeated_total"),
        counted("nightbell_scrape_samples_duplicate_total"),
    );
    assert!(repeated + duplicate >= 4, "{own}");
}

/// SEMANTICS 10, 11: samples that the store refuses for their timestamps are counted, those whose
/// time is in a block already among them.
#[tokio::test]
async fn samples_refused_for_their_timestamps_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let now = Timestamp::now();
    let settings = HistorySettings {
        path: folder.path().to_owned(),
        retention: Duration::from_secs(86_400),
        max_size: None,
    };
    let store = Arc::new(Store::open(Limits::default(), &settings, now).expect("opens"));
    let hours = |count: u64| Duration::from_secs(count * 3600);
    let stored = Sample {
        labels: Labels::from_pairs([("__name__", "b")]),
        value: 1.0,
        timestamp: None,
    };
    assert_eq!(store.append(now - hours(4), &[stored]).appended, 1);
    store.maintain(now);
    let server = Hostile::page(&format!(
        "early 1 {}\nlate 1 {}\nright 1 {}\n",
        (now + hours(1)).0,
        (now - hours(4)).0,
        now.0
    ));
    let telemetry = Telemetry::new();
    let run = Loop {
        scraper: Arc::new(Scraper::new(
            store.clone(),
            &telemetry,
            tokio::runtime::Handle::current(),
        )),
        written: Written(store),
        telemetry,
    };
    run.apply(&format!(
        "scrape_configs:\n{}",
        job("d", &server.address, "")
    ));
    run.health(&server.address, Health::Up).await;
    let own = run.telemetry.encode();
    let counted = own.lines().find_map(|l| {
        l.strip_prefix("nightbell_scrape_samples_out_of_bounds_total ")?
            .parse::<u64>()
            .ok()
    });
    assert!(
        counted >= Some(2) && counted.is_some_and(|count| count % 2 == 0),
        "{own}"
    );
    let names = run.written.series();
    assert!(
        names.iter().any(|n| n.starts_with("right{"))
            && !names.iter().any(|n| n.starts_with("early{")),
        "{names:?}"
    );
}

/// `promtool check metrics` finds nothing in what /metrics serves: collectors, a scraped page, our
/// own registry, in both formats.
#[tokio::test]
async fn promtool_finds_nothing_in_the_served_page() {
    let page = "# HELP h_seconds A.\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"1\"} 1\nh_seconds_bucket{le=\"+Inf\"} 2\nh_seconds_sum 3\nh_seconds_count 2\n\
                # HELP s_seconds B.\n# TYPE s_seconds summary\ns_seconds{quantile=\"0.5\"} 1\ns_seconds_sum 3\ns_seconds_count 2\n";
    let (one, two) = (Hostile::page(page), Hostile::page(page));
    let run = Loop::new();
    let text = format!(
        "collectors: {{counting: {{interval: 200ms}}}}\nscrape_configs:\n{}{}",
        job("one", &one.address, ""),
        job("two", &two.address, "")
    );
    run.scraper.apply(Plan {
        own: Some(("me".into(), Duration::from_millis(200))),
        ..plan(&text).expect("valid")
    });
    for instance in [&one.address, &two.address, "counting", "me"] {
        run.health(instance, Health::Up).await;
    }
    let served = run.metrics();
    assert_eq!(
        served.matches("# TYPE h_seconds histogram\n").count(),
        1,
        "{served}"
    );
    assert!(
        served.contains(
            "# TYPE nightbell_scrape_collections_failed_total counter\nnightbell_scrape_collections_failed_total{instance=\"me\""
        ),
        "{served}"
    );
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: run `tests/run` once");
    promtool
        .stdin
        .take()
        .expect("piped")
        .write_all(served.as_bytes())
        .expect("written");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{said}\n{served}"
    );
    let pages = run.scraper.pages();
    let open = render(pages.iter().map(|p| &**p), Format::OpenMetrics);
    let mut lines = nightbell::exposition::Lines::new(open.as_bytes(), Format::OpenMetrics);
    while lines.next(b"").expect("sound OpenMetrics").is_some() {}
}

/// A page that repeats a series, or shows an `up` of its own, is served once and with the sample
/// that was stored: the first.
#[tokio::test]
async fn a_repeated_series_is_served_once() {
    let server = Hostile::page("a 1\na 2\nb{x=\"1\"} 1\nb{x=\"1\"} 2\nb{x=\"2\"} 3\nup 7\n");
    let run = Loop::new();
    run.apply(&format!(
        "scrape_configs:\n{}",
        job("twice", &server.address, "")
    ));
    run.health(&server.address, Health::Up).await;
    let served = run.metrics();
    let of = |name: &str| {
        served
            .lines()
            .filter(|l| l.starts_with(name))
            .map(|l| l.rsplit_once(' ').expect("a value").1)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of("a{"), of("b{"), of("up{")),
        (vec!["1"], vec!["1", "3"], vec!["7"]),
        "{served}"
    );
}

/// Nightbell's own bounds are named as such, and 0 lifts them, in `global` too.
#[tokio::test]
async fn a_limit_of_0_is_no_bound_and_a_message_says_whose_a_bound_is() {
    let value = "x".repeat(20_000);
    let labels = (0..150)
        .map(|n| format!("l{n}=\"{n}\","))
        .collect::<String>();
    let cases = [
        (
            format!("m{{l=\"{value}\"}} 1\n"),
            "label_value_length_limit",
            "a value of 20000 bytes in label \"l\", at most 16384 allowed",
        ),
        (
            format!("m{{{labels}}} 1\n"),
            "label_limit",
            "153 labels, at most 128 allowed",
        ),
        (
            format!("m{{{}=\"1\"}} 1\n", "n".repeat(1100)),
            "label_name_length_limit",
            "at most 1024 allowed",
        ),
    ];
    for (number, (page, key, message)) in cases.into_iter().enumerate() {
        let server = Hostile::start(Manner::Serve("text/plain", page.into_bytes()));
        let run = Loop::new();
        run.apply(&format!(
            "scrape_configs:\n{}",
            job(&format!("own{number}"), &server.address, "")
        ));
        let error = run.health(&server.address, Health::Down).await;
        assert!(
            error.starts_with("a sample of \"m\" has ") && error.contains(message),
            "{error}"
        );
        assert!(
            error.ends_with(&format!("(nightbell's default; {key}: 0 sets no bound)")),
            "{error}"
        );
        for (global, more) in [
            (String::new(), format!(", {key}: 0")),
            (format!("global: {{{key}: 0}}\n"), String::new()),
        ] {
            let run = Loop::new();
            run.apply(&format!(
                "{global}scrape_configs:\n{}",
                job(&format!("none{number}"), &server.address, &more)
            ));
            assert_eq!(
                run.health(&server.address, Health::Up).await,
                "",
                "{key}: 0"
            );
        }
        // As in Prometheus, 0 in a job leaves what `global` sets.
        let run = Loop::new();
        run.apply(&format!(
            "global: {{{key}: 2}}\nscrape_configs:\n{}",
            job(
                &format!("global{number}"),
                &server.address,
                &format!(", {key}: 0")
            )
        ));
        let error = run.health(&server.address, Health::Down).await;
        assert!(
            error.ends_with(&format!("at most 2 allowed ({key} of the configuration)")),
            "{error}"
        );
    }
}
