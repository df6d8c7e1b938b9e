//! Targets that hang, stream without end, send too much or garbage.

use super::*;

/// SEMANTICS 32, 33: a target that hangs, streams without end, sends too much or garbage loses its
/// own `up` and nothing else; so does one that is scraped so seldom that its page is read while it
/// comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_target_loses_only_its_own_up() {
    let good = Hostile::page("fine 1\n");
    let million: String = (0..250_000)
        .map(|n| format!("m{{n=\"{n}\"}} 1\n"))
        .collect();
    let bomb = gzip(&vec![b'#'; 80 << 20]);
    let gzipped = [
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len())
            .into_bytes(),
        bomb,
    ]
    .concat();
    let cases = [
        ("silent", Manner::Silent, "timeout: timed out", ""),
        ("slow_head", Manner::SlowHead, "timeout: timed out", ""),
        ("stalls", Manner::Stalls, "timeout: timed out", ""),
        (
            "endless",
            Manner::Endless,
            "too_large: answer is larger than 1048576 bytes",
            ", body_size_limit: 1MB",
        ),
        (
            "million",
            Manner::Serve("text/plain", million.into_bytes()),
            "sample limit exceeded: 250000 samples, at most 200000 allowed",
            "",
        ),
        (
            "bomb",
            Manner::Raw(gzipped),
            "too_large: answer is larger than 67108864 bytes",
            "",
        ),
        (
            "few",
            Manner::Serve("text/plain", b"a 1\nb 1\nc 1\n".to_vec()),
            "sample limit exceeded: 3 samples, at most 2 allowed",
            ", sample_limit: 2",
        ),
        (
            "garbage",
            Manner::Serve("text/plain", b"\x00\xff{{{".to_vec()),
            "line 1: expected a metric name",
            "",
        ),
        (
            "page_of_html",
            Manner::Serve("text/html", b"<html>".to_vec()),
            "unsupported Content-Type \"text/html\" and no fallback_scrape_protocol",
            "",
        ),
        (
            "no_http",
            Manner::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
            "protocol: ",
            "",
        ),
        ("truncated", Manner::Truncated, "protocol: ", ""),
        (
            "loops",
            Manner::RedirectLoop,
            "protocol: too many redirects",
            "",
        ),
        (
            "long_label",
            Manner::Serve(
                "text/plain",
                format!("a{{l=\"{}\"}} 1\n", "x".repeat(20_000)).into_bytes(),
            ),
            "a sample of \"a\" has a value of 20000 bytes in label \"l\", at most 16384 allowed (nightbell's default; \
             label_value_length_limit: 0 sets no bound)",
            "",
        ),
    ];
    let servers: Vec<Hostile> = cases
        .iter()
        .map(|(_, manner, _, _)| Hostile::start(manner.clone()))
        .collect();
    let mut text = format!(
        "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\nscrape_configs:\n{}",
        job("good", &good.address, "").replace("200ms", "1s")
    );
    for ((name, manner, error, more), server) in cases.iter().zip(&servers) {
        // What ends by itself has long on a busy machine; only what hangs runs into its deadline.
        let timeout = if error.starts_with("timeout") {
            "2s"
        } else {
            "60s"
        };
        let target = format!(
            "scrape_timeout: {timeout}, static_configs: [{{targets: [\"{}\"]}}]{more}",
            server.address
        );
        text += &format!("- {{job_name: {name}, scrape_interval: {timeout}, {target}}}\n");
        if !is_large(manner) {
            text += &format!("- {{job_name: {name}_seldom, scrape_interval: 90s, {target}}}\n");
        }
    }
    let run = Loop::new();
    run.apply(&text);
    for ((name, manner, error, _), server) in cases.iter().zip(&servers) {
        for job in [(*name).to_owned(), format!("{name}_seldom")]
            .iter()
            .take(if is_large(manner) { 1 } else { 2 })
        {
            let got = run.failure(job).await;
            assert!(got.starts_with(error), "{job}: {got}");
            assert!(!got.contains("hunter2"), "{job}: {got}");
            let up = format!("up{{instance=\"{}\", job=\"{job}\"}}", server.address);
            assert!(
                run.written.values(&up).iter().all(|v| *v == Some(0.0)),
                "{job}"
            );
        }
    }
    let good_up = || {
        run.written.values(&format!(
            "up{{instance=\"{}\", job=\"good\"}}",
            good.address
        ))
    };
    until("the good target was collected", || good_up().len() >= 3).await;
    assert!(good_up().iter().all(|v| *v == Some(1.0)), "{:?}", good_up());
    let page = run.metrics();
    assert!(page.contains("fine{") && !page.contains("endless{"));
    assert!(
        !run.written
            .series()
            .iter()
            .any(|s| s.starts_with("m{") || s.starts_with("endless{")),
        "an unsound page leaves no series"
    );
}

/// Whether what comes is so much that once must do.
fn is_large(manner: &Manner) -> bool {
    match manner {
        Manner::Serve(_, bytes) | Manner::Raw(bytes) => bytes.len() > 50_000,
        _ => matches!(manner, Manner::Endless),
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}
