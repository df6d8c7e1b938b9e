//! The `probe` collector against local servers that answer well, badly, late and never.

use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, value};
use crate::servers::free_port;
use crate::servers::http::{Authority, HttpServer, Signer, self_signed};

async fn probe(yaml: &str) -> Batch {
    let (batch, result) = collect("probe", &mut build("probe", yaml)).await;
    result.expect("a target that fails is a measurement");
    batch
}

fn of(batch: &Batch, name: &str) -> f64 {
    value(batch, name, &[]).unwrap_or_else(|| panic!("{name} is missing"))
}

/// The reason, `""` for success; the two metrics that tell it agree.
fn reason(batch: &Batch) -> String {
    let reason = batch
        .families
        .get("probe_failure_info")
        .map(|f| f.samples[0].labels.value("reason").to_owned())
        .unwrap_or_default();
    assert_eq!(
        of(batch, "probe_success"),
        f64::from(u8::from(reason.is_empty())),
        "{reason}"
    );
    reason
}

fn phase(batch: &Batch, phase: &str) -> f64 {
    value(batch, "probe_http_duration_seconds", &[("phase", phase)]).expect("a phase")
}

/// The port of a server that speaks first, and no TLS.
fn greeter() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            drop(std::io::Write::write_all(
                &mut stream,
                b"220 mail.example ESMTP\r\n",
            ));
        }
    });
    port
}

/// What blackbox_exporter tells of a good answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_endpoint_is_described_in_full() {
    let server = HttpServer::start(None);
    let batch = probe(&format!("url: http://127.0.0.1:{}/health\n", server.port)).await;
    assert_eq!(reason(&batch), "");
    for (name, wanted) in [
        ("probe_http_status_code", 200.0),
        ("probe_http_content_length", 55.0),
        ("probe_http_uncompressed_body_length", 55.0),
        ("probe_http_redirects", 0.0),
        ("probe_http_ssl", 0.0),
        ("probe_http_version", 1.1),
        (
            "probe_http_last_modified_timestamp_seconds",
            1_445_412_480.0,
        ),
        ("probe_failed_due_to_regex", 0.0),
        ("probe_ip_protocol", 4.0),
        // What blackbox_exporter makes of 127.0.0.1.
        ("probe_ip_addr_hash", 3_668_918_509.0),
    ] {
        assert_eq!(of(&batch, name), wanted, "{name}");
    }
    assert!(of(&batch, "probe_duration_seconds") > 0.0);
    assert!(
        !batch
            .families
            .contains_key("probe_ssl_earliest_cert_expiry")
    );
    let request = &server.requests()[0];
    assert!(request.starts_with("GET /health HTTP/1.1\r\n"), "{request}");
    assert!(
        request
            .to_lowercase()
            .contains(&format!("host: 127.0.0.1:{}\r\n", server.port)),
        "{request}"
    );
}

/// Each phase is measured where the time went.
#[tokio::test(flavor = "multi_thread")]
async fn time_is_shown_in_the_phase_that_took_it() {
    let server = HttpServer::start(None);
    let batch = probe(&format!(
        "url: http://localhost:{}/slow\nip_protocol: ip4\n",
        server.port
    ))
    .await;
    assert!(
        phase(&batch, "processing") >= 0.15 && phase(&batch, "transfer") < 0.1,
        "{}",
        phase(&batch, "processing")
    );
    assert!(of(&batch, "probe_dns_lookup_time_seconds") > 0.0);
    let batch = probe(&format!(
        "url: http://127.0.0.1:{}/slow-body\n",
        server.port
    ))
    .await;
    assert!(
        phase(&batch, "transfer") >= 0.1 && phase(&batch, "processing") < 0.1,
        "{}",
        phase(&batch, "transfer")
    );
    assert_eq!(phase(&batch, "tls"), 0.0);
}

/// Every way to fail has its reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_why() {
    let server = HttpServer::start(None);
    let url = |path: &str| format!("url: http://127.0.0.1:{}{path}\n", server.port);
    for (yaml, wanted) in [
        (url("/down"), "status"),
        (url("/down") + "valid_status_codes: [503]\n", ""),
        (
            url("/health") + "fail_if_body_not_matches_regexp: healthy\n",
            "",
        ),
        (
            url("/health") + "fail_if_body_not_matches_regexp: [healthy, absent]\n",
            "body",
        ),
        (
            url("/health") + "fail_if_body_matches_regexp: ['\"status\":\"h']\n",
            "body",
        ),
        (
            url("/health") + "json: {path: status, equals: healthy}\n",
            "",
        ),
        (
            url("/health")
                + "json:\n- {path: checks.db, equals: true}\n- {path: /items/1, equals: 2}\n",
            "",
        ),
        (
            url("/health") + "json: {path: status, equals: degraded}\n",
            "json",
        ),
        (
            url("/chunked") + "fail_if_body_not_matches_regexp: ^hello world$\n",
            "",
        ),
        (url("/chunked") + "json: {path: status}\n", "json"),
        (url("/large"), ""),
        (url("/large") + "max_body: 50000\n", "too_large"),
        (url("/big"), ""),
        (
            url("/big") + "fail_if_body_not_matches_regexp: the end$\n",
            "",
        ),
        (url("/big") + "max_body: 1500000\n", "too_large"),
        (url("/garbage"), "protocol"),
        (url("/broken"), "protocol"),
        (url("/circle"), "redirect"),
        (url("/redirect"), ""),
        (url("/redirect") + "follow_redirects: false\n", "status"),
        (
            format!("url: http://127.0.0.1:{}/\n", free_port()),
            "connect",
        ),
        ("url: http://no-such-host.invalid/\n".into(), "dns"),
        (format!("url: tcp://127.0.0.1:{}\n", server.port), ""),
        (
            format!("target: tcp://127.0.0.1:{}\n", free_port()),
            "connect",
        ),
        (format!("url: tls://127.0.0.1:{}\n", greeter()), "tls"),
    ] {
        let batch = probe(&yaml).await;
        assert_eq!(reason(&batch), wanted, "{yaml}");
    }
    let batch = probe(&url("/redirect")).await;
    assert_eq!(
        (
            of(&batch, "probe_http_redirects"),
            of(&batch, "probe_http_status_code")
        ),
        (1.0, 200.0)
    );
    let batch = probe(&(url("/health") + "fail_if_body_matches_regexp: healthy\n")).await;
    assert_eq!(
        (
            of(&batch, "probe_failed_due_to_regex"),
            of(&batch, "probe_http_status_code")
        ),
        (1.0, 200.0)
    );
}

/// What an alert says of a failure: the URL without secrets, and the reason in words that do not
/// change.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_names_its_url_and_its_reason_for_the_alert() {
    let (server, closed) = (HttpServer::start(None), free_port());
    for (yaml, url, message) in [
        (
            format!(
                "url: http://u:hunter2@127.0.0.1:{}/down?token=hunter2\n",
                server.port
            ),
            format!("http://127.0.0.1:{}/down", server.port),
            "status 503",
        ),
        (
            format!("url: http://127.0.0.1:{closed}/\n"),
            format!("http://127.0.0.1:{closed}/"),
            "connection refused",
        ),
        (
            format!(
                "url: http://127.0.0.1:{}/health\njson: {{path: status, equals: degraded}}\n",
                server.port
            ),
            format!("http://127.0.0.1:{}/health", server.port),
            "`status` is not \"degraded\"",
        ),
        (
            format!("url: tls://127.0.0.1:{}\n", greeter()),
            String::new(),
            "the TLS handshake failed",
        ),
    ] {
        let batch = probe(&yaml).await;
        let labels = &batch.families["probe_failure_info"].samples[0].labels;
        assert_eq!(labels.value("message"), message, "{yaml}");
        assert!(url.is_empty() || labels.value("url") == url, "{labels}");
        assert!(!labels.to_string().contains("hunter2"), "{labels}");
    }
}

/// A user and a password in the URL are sent, or refused where nothing sends them.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_password_in_the_url_are_sent_or_refused() {
    let server = HttpServer::start(None);
    let batch = probe(&format!(
        "url: http://u:p%40ss@127.0.0.1:{}/health\n",
        server.port
    ))
    .await;
    assert_eq!(reason(&batch), "");
    let request = server.requests()[0].clone();
    assert!(
        request.contains("Basic dTpwQHNz\r\n") || request.contains("basic dTpwQHNz\r\n"),
        "{request}"
    );
    for (yaml, wanted) in [
        (
            "url: tcp://u:hunter2@127.0.0.1:80\n",
            "which a TCP probe cannot send",
        ),
        (
            "url: http://u:hunter2@h/\nbasic_auth: {username: a, password: b}\n",
            "beside basic_auth or authorization",
        ),
        ("target: http://u:hunter%zz2@h/\n", "with a wrong %"),
    ] {
        let text = try_build("probe", yaml)
            .err()
            .expect("a mistake")
            .to_string();
        assert!(text.contains(wanted) && !text.contains("hunter"), "{text}");
    }
}

/// A server may send several chains, and certificates of none. The best chain that verifies says
/// when it ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_chain_that_verifies_says_when_it_ends() {
    let [x, y, i] = ["X", "Y", "I"].map(Signer::new);
    let folder = tempfile::tempdir().expect("a folder");
    let year =
        |year: i32| 1_609_459_200.0 + ((year - 2021) * 365 + (year - 2021) / 4) as f64 * 86_400.0;
    for (number, (sent, trusted, until, ends)) in [
        // The way of an old signer: ended, or to end before the rest.
        (
            vec![i.certificate(Some(&x), 2055), x.certificate(Some(&y), 2021)],
            vec![x.certificate(None, 2060)],
            2050,
            2050,
        ),
        (
            vec![i.certificate(Some(&x), 2055), x.certificate(Some(&y), 2040)],
            vec![x.certificate(None, 2060)],
            2050,
            2050,
        ),
        (
            vec![i.certificate(Some(&y), 2040), i.certificate(Some(&x), 2055)],
            vec![x.certificate(None, 2060)],
            2050,
            2050,
        ),
        // Both ways are trusted: the better one counts.
        (
            vec![i.certificate(Some(&y), 2040), i.certificate(Some(&x), 2055)],
            vec![y.certificate(None, 2060), x.certificate(None, 2060)],
            2050,
            2050,
        ),
        // Only one way is: the intermediate or the root ends first.
        (
            vec![i.certificate(Some(&y), 2040), i.certificate(Some(&x), 2055)],
            vec![y.certificate(None, 2060)],
            2050,
            2040,
        ),
        (
            vec![i.certificate(Some(&x), 2055)],
            vec![x.certificate(None, 2045)],
            2050,
            2045,
        ),
        // Trusted through the old signer, whose root alone is known.
        (
            vec![i.certificate(Some(&x), 2055), x.certificate(Some(&y), 2041)],
            vec![y.certificate(None, 2060)],
            2050,
            2041,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let ca = folder.path().join("ca.pem");
        std::fs::write(
            &ca,
            trusted
                .iter()
                .map(rcgen::Certificate::pem)
                .collect::<String>(),
        )
        .expect("written");
        let server = HttpServer::start(Some(i.server(until, &sent)));
        let url = format!("https://localhost:{}/health", server.port);
        let batch = probe(&format!(
            "url: {url}\nip_protocol: ip4\ntls_config: {{ca_file: {}}}\n",
            ca.display()
        ))
        .await;
        assert_eq!(reason(&batch), "", "chain {number}");
        assert_eq!(
            of(&batch, "probe_ssl_last_chain_expiry_timestamp_seconds"),
            year(ends),
            "chain {number}"
        );
    }
}

/// A target that accepts and never answers fails at the deadline, and says what it learnt.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_never_answers_fails_at_the_deadline() {
    let server = HttpServer::start(None);
    let batch = probe(&format!("url: http://127.0.0.1:{}/hang\n", server.port)).await;
    assert_eq!(reason(&batch), "timeout");
    let deadline = of(&batch, "probe_timeout_seconds");
    assert!(
        (deadline..5.0).contains(&of(&batch, "probe_duration_seconds")),
        "{}",
        of(&batch, "probe_duration_seconds")
    );
    assert_eq!(
        (
            of(&batch, "probe_ip_protocol"),
            of(&batch, "probe_http_status_code")
        ),
        (4.0, 0.0)
    );
}

/// Method, headers, body and credentials reach the target; credentials do not follow a redirect to
/// another host.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_is_what_the_configuration_says() {
    let server = HttpServer::start(None);
    let yaml = "method: POST\nheaders: {X-Check: deep}\nbody: '{\"a\":1}'\nbasic_auth: {username: u, password: p}\n";
    let batch = probe(&format!(
        "url: http://127.0.0.1:{}/health?detailed=true\n{yaml}valid_status_codes: [200, 503]\n",
        server.port
    ))
    .await;
    assert_eq!(reason(&batch), "");
    let request = server.requests()[0].to_lowercase();
    for part in [
        "post /health?detailed=true http/1.1\r\n",
        "x-check: deep\r\n",
        "authorization: basic dtpw\r\n",
        "\r\n\r\n{\"a\":1}",
    ] {
        assert!(request.contains(part), "{part} is not in {request}");
    }
}

/// A good certificate: TLS version, cipher, expiry, chain, subject.
#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_certificate_is_described() {
    let authority = Authority::new();
    let server = HttpServer::start(Some(authority.server("localhost", 2050)));
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("written");
    let tls = format!(
        "ip_protocol: ip4\ntls_config: {{ca_file: {}}}\n",
        ca.display()
    );
    for scheme in ["https", "tls"] {
        let path = if scheme == "tls" { "" } else { "/health" };
        let batch = probe(&format!(
            "url: {scheme}://localhost:{}{path}\n{tls}",
            server.port
        ))
        .await;
        assert_eq!(reason(&batch), "");
        // 2050-01-01T00:00:00Z
        assert_eq!(
            of(&batch, "probe_ssl_earliest_cert_expiry"),
            2_524_608_000.0
        );
        assert_eq!(
            of(&batch, "probe_ssl_last_chain_expiry_timestamp_seconds"),
            2_524_608_000.0
        );
        assert_eq!(of(&batch, "probe_ssl_chain_valid"), 1.0);
        assert_eq!(
            value(&batch, "probe_tls_version_info", &[("version", "TLS 1.3")]),
            Some(1.0)
        );
        let leaf = &batch.families["probe_ssl_last_chain_info"].samples[0].labels;
        assert_eq!(
            (leaf.value("subject"), leaf.value("subjectalternative")),
            ("CN=localhost", "localhost")
        );
        assert!(leaf.value("issuer").contains("CN=Test Authority"), "{leaf}");
        assert_eq!(leaf.value("fingerprint_sha256").len(), 64);
        let cipher = batch.families["probe_tls_cipher_info"].samples[0]
            .labels
            .value("cipher")
            .to_owned();
        assert!(cipher.starts_with("TLS_"), "{cipher}");
        if scheme == "https" {
            assert!(phase(&batch, "tls") > 0.0);
            assert_eq!(of(&batch, "probe_http_ssl"), 1.0);
        }
    }
}

/// A certificate that is refused still tells when it ends, and the reason is exact.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_refused_still_shows_its_end() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("written");
    let trusted = format!("tls_config: {{ca_file: {}}}\n", ca.display());
    for (name, year, tls, wanted, expiry) in [
        (
            "localhost",
            2021,
            trusted.as_str(),
            "certificate_expired",
            1_609_459_200.0,
        ),
        (
            "elsewhere.example",
            2050,
            &trusted,
            "certificate_name",
            2_524_608_000.0,
        ),
        (
            "localhost",
            2050,
            "",
            "certificate_untrusted",
            2_524_608_000.0,
        ),
        (
            "localhost",
            2050,
            "tls_config: {insecure_skip_verify: true}\n",
            "",
            2_524_608_000.0,
        ),
    ] {
        let server = HttpServer::start(Some(authority.server(name, year)));
        let batch = probe(&format!(
            "url: https://localhost:{}/health\nip_protocol: ip4\n{tls}",
            server.port
        ))
        .await;
        assert_eq!(reason(&batch), wanted);
        assert_eq!(
            of(&batch, "probe_ssl_earliest_cert_expiry"),
            expiry,
            "{wanted}"
        );
        assert_eq!(of(&batch, "probe_ssl_chain_valid"), 0.0, "{wanted}");
        assert!(
            !batch
                .families
                .contains_key("probe_ssl_last_chain_expiry_timestamp_seconds"),
            "{wanted}"
        );
    }
}

/// A server certificate that is its own `ca` is trusted for its names, and only for the time it was
/// issued for.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_its_own_authority_expires_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    for (from, until, wanted) in [
        (2020, 2050, ""),
        (2020, 2021, "certificate_expired"),
        (2050, 2051, "certificate_expired"),
    ] {
        let (config, pem) = self_signed(from, until);
        std::fs::write(&ca, &pem).expect("written");
        let server = HttpServer::start(Some(config));
        let url = format!("https://localhost:{}/health", server.port);
        let batch = probe(&format!(
            "url: {url}\nip_protocol: ip4\ntls_config: {{ca_file: {}}}\n",
            ca.display()
        ))
        .await;
        assert_eq!(reason(&batch), wanted);
        assert_eq!(
            of(&batch, "probe_success"),
            f64::from(u8::from(wanted.is_empty())),
            "{from} to {until}"
        );
    }
}

#[test]
fn mistakes_in_its_configuration_are_named_and_no_secret_is_quoted() {
    let errors = |yaml: &str| {
        try_build("probe", yaml)
            .err()
            .expect("mistakes")
            .to_string()
    };
    let text = errors(
        "url: ftp://user:hunter2@host/\nmethod: 'GE T'\nip_protocol: ip5\nfail_if_body_matches_regexp: '('\njson: {equals: x}\n",
    );
    for part in [
        "url: is not a URL that can be probed",
        "method: is not an HTTP method",
        "ip_protocol: \"ip5\"",
        "not a regular expression",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(
        text.contains("key \"path\" is missing") && !text.contains("hunter2"),
        "{text}"
    );
    assert!(errors("method: GET\n").contains("key \"url\" is missing"));
    assert!(errors("url: tcp://db\n").contains("is not a URL that can be probed"));
    assert!(
        errors("url: http://a/\nproxy_url: http://b:1/\n")
            .contains("a probe goes straight to its target")
    );
}

/// The series that blackbox_exporter 0.28 shows for the same kinds of target, each with its labels'
/// names and its type.
#[tokio::test(flavor = "multi_thread")]
async fn every_series_of_blackbox_exporter_is_there() {
    let (plain, authority) = (HttpServer::start(None), Authority::new());
    let encrypted = HttpServer::start(Some(authority.server("localhost", 2050)));
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("written");
    for (golden, yaml) in [
        (
            include_str!("../collectors/probe/http.prom"),
            format!("url: http://127.0.0.1:{}/health\n", plain.port),
        ),
        (
            include_str!("../collectors/probe/https.prom"),
            format!(
                "url: https://localhost:{}/health\nip_protocol: ip4\ntls_config: {{ca_file: {}}}\n",
                encrypted.port,
                ca.display()
            ),
        ),
        (
            include_str!("../collectors/probe/refused.prom"),
            format!("url: http://127.0.0.1:{}/\n", free_port()),
        ),
    ] {
        let batch = probe(&yaml).await;
        let mut series = 0;
        for line in golden.lines().filter(|line| !line.is_empty()) {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                let (name, kind) = head.split_once(' ').expect("a type");
                let family = batch
                    .families
                    .get(name)
                    .unwrap_or_else(|| panic!("{name} is missing for {yaml}"));
                assert_eq!(family.kind.as_str(), kind, "{name}");
            } else {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                let family = &batch.families[name];
                let phase = line
                    .split("phase=\"")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .unwrap_or_default();
                assert!(
                    family
                        .samples
                        .iter()
                        .any(|s| s.labels.value("phase") == phase),
                    "{line}"
                );
                series += 1;
            }
        }
        assert!(series > 10, "{series} series");
    }
}

/// A mail server that greets, answers one word, and may begin TLS.
fn mail(encrypts: bool) -> (u16, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let (tls, authority) = self_signed(2020, 2090);
    std::thread::spawn(move || {
        use std::io::{BufRead as _, BufReader, Read as _, Write as _};
        for stream in listener.incoming().flatten() {
            let tls = tls.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut said = BufReader::new(stream.try_clone()?);
                (&stream).write_all(b"220-mail.example waits\r\n220 mail.example ready\r\n")?;
                let mut line = String::new();
                said.read_line(&mut line)?;
                if line.trim() != "EHLO mail.example" {
                    return (&stream).write_all(b"500 who?\r\n");
                }
                (&stream).write_all(b"250-mail.example\r\n250 STARTTLS\r\n")?;
                line.clear();
                said.read_line(&mut line)?;
                if line.trim() == "STARTTLS" && encrypts {
                    (&stream).write_all(b"220 go\r\n")?;
                    let connection = rustls::ServerConnection::new(tls).expect("a connection");
                    let mut stream = rustls::StreamOwned::new(connection, stream);
                    stream.write_all(b"250 encrypted\r\n")?;
                    let _ = stream.read(&mut [0; 64]);
                }
                Ok(())
            });
        }
    });
    (port, authority)
}

/// A dialogue over TCP as blackbox_exporter has it: what is expected, what is sent with what was
/// found, and TLS in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_dialogue_is_held_over_tcp() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, authority) = mail(true);
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority).expect("written");
    let greeting = "{expect: '^220 ([^ ]+) ready$', send: 'EHLO ${1}'}";
    let yaml =
        |more: &str| format!("url: tcp://localhost:{port}\nquery_response: [{greeting}, {more}]\n");
    let batch = probe(&yaml("{expect: '^250 STARTTLS', send: QUIT}")).await;
    assert_eq!(
        (
            reason(&batch).as_str(),
            of(&batch, "probe_failed_due_to_regex")
        ),
        ("", 0.0)
    );
    let batch = probe(&yaml(
        "{expect: '^250 STARTTLS', send: QUIT}, {expect: '^221 '}",
    ))
    .await;
    assert_eq!(
        (
            reason(&batch).as_str(),
            of(&batch, "probe_failed_due_to_regex")
        ),
        ("body", 1.0),
        "the server ends"
    );
    let begin = "{expect: '^250 STARTTLS', send: STARTTLS}, {expect: '^220', starttls: true}";
    let trusted = format!("tls_config: {{ca_file: '{}'}}\n", ca.display());
    let batch = probe(&(yaml(&format!("{begin}, {{expect: ^250 encrypted$}}")) + &trusted)).await;
    assert_eq!(reason(&batch), "", "{batch:?}");
    assert!(of(&batch, "probe_ssl_earliest_cert_expiry") > 0.0);
    let batch = probe(&yaml(begin)).await;
    assert_eq!(reason(&batch), "certificate_untrusted");
    let errors = |yaml: &str| format!("{:?}", try_build("probe", yaml).err());
    assert!(
        errors("url: tcp://h:1\nquery_response: [{}]\n").contains("does nothing"),
        "{}",
        errors("url: tcp://h:1\nquery_response: [{}]\n")
    );
}
