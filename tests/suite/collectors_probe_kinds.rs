//! The `probe` collector beyond HTTP: DNS, dialogues over TCP, ICMP, gRPC, modules of
//! blackbox_exporter's file, and `/probe`.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, value};
use crate::servers::dns::{Manner, name_server};
use crate::servers::free_port;
use crate::servers::grpc::health_server;
use crate::servers::http::{Authority, HttpServer};
use crate::servers::nightbell::Nightbell;

async fn probe(yaml: &str) -> Batch {
    let (batch, result) = collect("probe", &mut build("probe", yaml)).await;
    result.expect("a target that fails is a measurement");
    batch
}

fn of(batch: &Batch, name: &str) -> Option<f64> {
    value(batch, name, &[])
}

/// The reason and the message, both empty for success.
fn failure(batch: &Batch) -> (String, String) {
    let labels = batch
        .families
        .get("probe_failure_info")
        .map(|family| family.samples[0].labels.clone());
    assert_eq!(
        of(batch, "probe_success"),
        Some(f64::from(u8::from(labels.is_none()))),
        "{labels:?}"
    );
    labels
        .map(|labels| {
            (
                labels.value("reason").to_owned(),
                labels.value("message").to_owned(),
            )
        })
        .unwrap_or_default()
}

fn dns(port: u16, settings: &str) -> String {
    format!("url: dns://127.0.0.1:{port}\ndns: {{{settings}}}\n")
}

/// What blackbox_exporter shows of a question to a name server, over UDP, TCP and TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_is_asked_over_every_transport() {
    let plain = name_server(Manner::Zone, None);
    let authority = Authority::new();
    let encrypted = name_server(Manner::Zone, Some(authority.server("localhost", 2050)));
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("written");
    let tls = format!(
        "url: dns://localhost:{encrypted}\nip_protocol: ip4\ndns: {{query_name: example.org, query_type: A, transport_protocol: tcp, dns_over_tls: true}}\n\
         tls_config: {{ca_file: '{}'}}\n",
        ca.display()
    );
    for yaml in [
        dns(plain, "query_name: example.org, query_type: A"),
        dns(
            plain,
            "query_name: example.org., query_type: A, transport_protocol: tcp",
        ),
        tls.clone(),
    ] {
        let batch = probe(&yaml).await;
        assert_eq!(failure(&batch), (String::new(), String::new()), "{yaml}");
        let records = [
            "probe_dns_answer_rrs",
            "probe_dns_authority_rrs",
            "probe_dns_additional_rrs",
        ]
        .map(|name| of(&batch, name));
        assert_eq!(records, [Some(2.0), Some(0.0), Some(0.0)]);
        assert_eq!(of(&batch, "probe_dns_query_succeeded"), Some(1.0));
        assert_eq!(of(&batch, "probe_dns_serial"), None);
        assert_eq!(of(&batch, "probe_ip_protocol"), Some(4.0));
        for phase in ["resolve", "connect", "request"] {
            assert!(
                value(&batch, "probe_dns_duration_seconds", &[("phase", phase)]).is_some(),
                "{phase}"
            );
        }
        assert_eq!(
            of(&batch, "probe_ssl_earliest_cert_expiry").is_some(),
            yaml == tls
        );
    }
    let batch = probe(&dns(plain, "query_name: example.org, query_type: SOA")).await;
    assert_eq!(
        (failure(&batch).0.as_str(), of(&batch, "probe_dns_serial")),
        ("", Some(2_024_012_785.0))
    );
    let batch = probe(&dns(plain, "query_name: example.org")).await;
    assert_eq!(
        (
            failure(&batch).0.as_str(),
            of(&batch, "probe_dns_answer_rrs")
        ),
        ("", Some(5.0)),
        "ANY"
    );
}

/// Every way in which an answer is not the wanted one.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_dns_is_judged_by_its_code_and_its_records() {
    let zone = name_server(Manner::Zone, None);
    let named = "query_name: example.org, query_type";
    for (yaml, reason, message) in [
        (
            dns(
                zone,
                &format!(
                    "{named}: A, validate_answer_rrs: {{fail_if_not_matches_regexp: ['IN\\tA\\t192\\.0\\.2\\.']}}"
                ),
            ),
            "",
            "",
        ),
        (
            dns(
                zone,
                &format!(
                    "{named}: A, validate_answer_rrs: {{fail_if_none_matches_regexp: ['192\\.0\\.2\\.2$']}}"
                ),
            ),
            "",
            "",
        ),
        (
            dns(
                zone,
                &format!(
                    "{named}: TXT, validate_answer_rrs: {{fail_if_not_matches_regexp: ['\"v=spf1 -all\"$']}}"
                ),
            ),
            "",
            "",
        ),
        (
            dns(
                zone,
                &format!("{named}: A, validate_answer_rrs: {{fail_if_not_matches_regexp: ['2$']}}"),
            ),
            "records",
            "records of the answer section: not all match \"2$\"",
        ),
        (
            dns(
                zone,
                &format!("{named}: MX, validate_answer_rrs: {{fail_if_matches_regexp: [mail]}}"),
            ),
            "records",
            "records of the answer section: one matches \"mail\"",
        ),
        (
            dns(
                zone,
                &format!(
                    "{named}: A, validate_authority_rrs: {{fail_if_none_matches_regexp: [ns]}}"
                ),
            ),
            "records",
            "records of the authority section: none matches",
        ),
        (
            dns(
                zone,
                &format!(
                    "{named}: AAAA, validate_answer_rrs: {{fail_if_not_matches_regexp: ['.*']}}"
                ),
            ),
            "records",
            "records of the answer section: not all match \".*\"",
        ),
        (
            dns(zone, "query_name: other.org, query_type: A"),
            "status",
            "response code NXDOMAIN",
        ),
        (
            dns(
                zone,
                "query_name: other.org, query_type: A, valid_rcodes: [NOERROR, NXDOMAIN]",
            ),
            "",
            "",
        ),
        (
            dns(name_server(Manner::Refuses, None), &format!("{named}: A")),
            "status",
            "response code REFUSED",
        ),
        (
            dns(name_server(Manner::Garbage, None), &format!("{named}: A")),
            "protocol",
            "the answer is no DNS message",
        ),
        (
            dns(name_server(Manner::LateFirst, None), &format!("{named}: A")),
            "",
            "",
        ),
        (
            dns(
                name_server(Manner::LateFirst, None),
                &format!("{named}: A, transport_protocol: tcp"),
            ),
            "protocol",
            "the answer is to another question",
        ),
        (
            dns(free_port(), &format!("{named}: A")),
            "connect",
            "connection refused",
        ),
        (
            dns(free_port(), &format!("{named}: A, transport_protocol: tcp")),
            "connect",
            "connection refused",
        ),
    ] {
        let batch = probe(&yaml).await;
        assert_eq!(
            failure(&batch),
            (reason.to_owned(), message.to_owned()),
            "{yaml}"
        );
    }
    let batch = probe(&dns(
        name_server(Manner::Silent, None),
        &format!("{named}: A"),
    ))
    .await;
    assert_eq!(
        (
            failure(&batch).0.as_str(),
            of(&batch, "probe_dns_query_succeeded")
        ),
        ("timeout", Some(0.0))
    );
}

#[test]
fn mistakes_in_the_settings_of_dns_icmp_and_dialogues_are_named() {
    let errors = |yaml: &str| {
        try_build("probe", yaml)
            .err()
            .expect("mistakes")
            .to_string()
    };
    let text = errors(
        "url: dns://ns\ndns: {query_name: 'a..b', query_type: AAA, query_class: XX, transport_protocol: quic, valid_rcodes: [OK], \
         validate_answer_rrs: {fail_if_matches_regexp: ['('], other: 1}, speed: 2}\n",
    );
    for part in [
        "dns.query_name: \"a..b\" is not a name that DNS knows",
        "dns.query_type: \"AAA\" is not known; give one such as ANY",
        "dns.query_class: \"XX\" is not known",
        "dns.transport_protocol: \"quic\" is not known; give udp or tcp",
        "dns.valid_rcodes: \"OK\" is not a response code",
        "\"(\" is not a regular expression",
        "dns.validate_answer_rrs.other: unknown key",
        "dns.speed: unknown key",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(errors("url: dns://ns\n").contains("key \"dns\" is missing; add dns:"));
    assert!(
        errors("url: dns://ns\ndns: {query_name: a, dns_over_tls: true}\n")
            .contains("needs TCP; add transport_protocol: tcp")
    );
    let text =
        errors("url: icmp://h\nicmp: {payload_size: 70000, ttl: 256, dont_fragment: true}\n");
    for part in [
        "payload_size: is more than a packet holds",
        "ttl: is not a hop limit",
        "dont_fragment: is not known here; remove it",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let text = errors(
        "url: tcp://h:1\nquery_response: [{send: x, labels: [{name: a-b, value: x}]}, {expect: a, expect_bytes: b}]\n",
    );
    for part in [
        "labels: need \"expect\"",
        "\"a-b\" cannot be a label here",
        "expect_bytes: stands beside \"expect\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

/// A server that greets without the end of a line, then answers each line with another.
fn prompting() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> std::io::Result<()> {
                stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian login: ")?;
                let _ = stream.read(&mut [0; 64])?;
                stream.write_all(b"\x00\x01\xffOK\r\n")?;
                let _ = stream.read(&mut [0; 64]);
                Ok(())
            });
        }
    });
    port
}

/// Labels show what a line said, bytes are compared, and a prompt needs no end of a line.
#[tokio::test(flavor = "multi_thread")]
async fn a_dialogue_gives_labels_compares_bytes_and_takes_prompts() {
    let yaml = |more: &str| {
        format!(
            "url: tcp://127.0.0.1:{}\nquery_response: [{{expect: '^SSH-([0-9.]+)-(\\S+) ', send: hi, \
             labels: [{{name: protocol, value: '${{1}}'}}, {{name: server, value: 'is ${{2}}'}}]}}, {more}]\n",
            prompting()
        )
    };
    let batch = probe(&yaml("{expect_bytes: \"\\x00\\x01\"}")).await;
    assert_eq!(failure(&batch).0, "");
    let labels = &batch.families["probe_expect_info"].samples[0].labels;
    assert_eq!(
        (labels.value("protocol"), labels.value("server")),
        ("2.0", "is OpenSSH_9.2p1")
    );
    assert_eq!(
        (
            of(&batch, "probe_failed_due_to_bytes"),
            of(&batch, "probe_failed_due_to_regex")
        ),
        (Some(0.0), Some(0.0))
    );
    let batch = probe(&yaml("{expect_bytes: \"\\x00\\x02\"}")).await;
    assert_eq!(failure(&batch).0, "bytes");
    assert_eq!(
        (
            of(&batch, "probe_failed_due_to_bytes"),
            of(&batch, "probe_failed_due_to_regex")
        ),
        (Some(1.0), Some(0.0))
    );
    let batch = probe(&yaml("{expect_bytes: !!binary AAH/}")).await;
    assert_eq!(failure(&batch).0, "", "bytes that are no text");
    let batch = probe(&yaml("{expect: '^never$'}")).await;
    assert_eq!(failure(&batch).0, "timeout");
}

/// What blackbox_exporter shows of a health check over gRPC, with TLS and without.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_over_grpc_whether_it_serves() {
    let plain = health_server(None).await;
    let authority = Authority::new();
    let encrypted = health_server(Some(authority.server("localhost", 2050))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("written");
    let of_service =
        |service: &str| format!("url: grpc://127.0.0.1:{plain}\ngrpc: {{service: '{service}'}}\n");
    let with_tls = format!("url: grpcs://localhost:{encrypted}\nip_protocol: ip4\n");
    let trusted = format!("{with_tls}tls_config: {{ca_file: '{}'}}\n", ca.display());
    for (yaml, reason, message, code, serving, ssl) in [
        (of_service(""), "", "", 0.0, "SERVING", 0.0),
        (of_service("up"), "", "", 0.0, "SERVING", 0.0),
        (
            of_service("down"),
            "health",
            "the service is NOT_SERVING",
            0.0,
            "NOT_SERVING",
            0.0,
        ),
        (of_service("other"), "status", "gRPC status 5", 5.0, "", 0.0),
        (
            of_service("odd"),
            "protocol",
            "the answer is not gRPC",
            13.0,
            "",
            0.0,
        ),
        (of_service("html"), "status", "status 503", 14.0, "", 0.0),
        (trusted, "", "", 0.0, "SERVING", 1.0),
        (
            with_tls,
            "certificate_untrusted",
            "the certificate is not trusted",
            14.0,
            "",
            0.0,
        ),
        (
            format!("url: grpc://127.0.0.1:{}\n", free_port()),
            "connect",
            "connection refused",
            14.0,
            "",
            0.0,
        ),
        (
            format!("url: grpc://127.0.0.1:{}\n", HttpServer::start(None).port),
            "protocol",
            "the answer is not HTTP/2, or broke off",
            14.0,
            "",
            0.0,
        ),
    ] {
        let batch = probe(&yaml).await;
        assert_eq!(
            failure(&batch),
            (reason.to_owned(), message.to_owned()),
            "{yaml}"
        );
        assert_eq!(
            (
                of(&batch, "probe_grpc_status_code"),
                of(&batch, "probe_grpc_ssl")
            ),
            (Some(code), Some(ssl)),
            "{yaml}"
        );
        for status in ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"] {
            let shown = value(
                &batch,
                "probe_grpc_healthcheck_response",
                &[("serving_status", status)],
            );
            assert_eq!(
                shown,
                Some(f64::from(u8::from(status == serving))),
                "{yaml} {status}"
            );
        }
        for phase in ["resolve", "check"] {
            assert!(
                value(&batch, "probe_grpc_duration_seconds", &[("phase", phase)]).is_some(),
                "{phase}"
            );
        }
        assert_eq!(
            of(&batch, "probe_ssl_earliest_cert_expiry").is_some(),
            yaml.contains("grpcs"),
            "{yaml}"
        );
    }
    let batch = probe(&of_service("hangs")).await;
    assert_eq!(
        (
            failure(&batch).0.as_str(),
            of(&batch, "probe_grpc_status_code")
        ),
        ("timeout", Some(4.0))
    );
}

/// This machine answers its own echo where the kernel lets us ask; where it does not, that is said,
/// with what would help.
#[tokio::test(flavor = "multi_thread")]
async fn an_echo_is_answered_or_its_refusal_names_the_remedy() {
    let may = std::process::Command::new("sh")
        .args(["-c", "grep -q '^CapEff:.*[2367abefABEF]...$' /proc/self/status || awk '{exit !($1 <= 0 && $2 >= 0)}' /proc/sys/net/ipv4/ping_group_range"])
        .status()
        .expect("sh runs")
        .success();
    for url in ["icmp://127.0.0.1", "icmp://localhost"] {
        let batch = probe(&format!(
            "url: {url}\nip_protocol: ip4\nicmp: {{payload_size: 100, ttl: 9}}\n"
        ))
        .await;
        let (reason, message) = failure(&batch);
        match reason.as_str() {
            "" => {
                assert!(
                    value(&batch, "probe_icmp_duration_seconds", &[("phase", "rtt")])
                        .expect("a time")
                        > 0.0
                );
                assert_eq!(of(&batch, "probe_icmp_reply_hop_limit"), Some(64.0));
            }
            reason => {
                assert!(!may, "{reason}: {message}");
                assert_eq!(reason, "permission");
                assert!(
                    message.contains("net.ipv4.ping_group_range")
                        && message.contains("CAP_NET_RAW"),
                    "{message}"
                );
            }
        }
        for phase in ["resolve", "setup", "rtt"] {
            assert!(
                value(&batch, "probe_icmp_duration_seconds", &[("phase", phase)]).is_some(),
                "{phase}"
            );
        }
    }
    let batch = probe("url: icmp://no-such-host.invalid\n").await;
    assert_eq!(failure(&batch).0, "dns");
}

const MODULES: &str = r#"
modules:
  http_2xx: {prober: http, timeout: 5s, http: {preferred_ip_protocol: ip4}}
  http_header:
    prober: http
    http:
      valid_http_versions: ["HTTP/1.1"]
      fail_if_ssl: true
      fail_if_header_matches: [{header: Content-Type, regexp: html, allow_missing: true}]
      fail_if_header_not_matches: [{header: Last-Modified, regexp: ^Wed}]
  http_tls: {prober: http, http: {fail_if_not_ssl: true}}
  http_version: {prober: http, http: {valid_http_versions: ["HTTP/1.0", "HTTP/2.0"]}}
  http_small: {prober: http, http: {body_size_limit: 10B}}
  http_any: {prober: http, http: {accept_any_response: true}}
  http_post: {prober: http, http: {method: POST, headers: {X-A: b, Host: example.test}, body: '{"a": 1}', basic_auth: {username: u, password: p}}}
  tcp: {prober: tcp}
  ssh: {prober: tcp, timeout: 5s, tcp: {query_response: [{expect: '^SSH-2.0-', send: hello}]}}
  dns_a: {prober: dns, dns: {query_name: example.org, query_type: A, preferred_ip_protocol: ip4}}
  icmp: {prober: icmp}
  grpc: {prober: grpc, grpc: {service: up, preferred_ip_protocol: ip4}}
"#;

fn modules(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("blackbox.yml");
    std::fs::write(&file, text).expect("written");
    let path = file.display().to_string();
    (folder, path)
}

/// A probe may say what it does by a module, with a target as that prober wants it.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_of_blackbox_exporter_says_how_a_target_is_probed() {
    let (_folder, file) = modules(MODULES);
    let server = HttpServer::start(None);
    let port = server.port;
    let of_module = |module: &str, target: &str| {
        format!("target: '{target}'\nmodules_file: {file}\nmodule: {module}\n")
    };
    for (module, target, wanted) in [
        ("http_2xx", format!("127.0.0.1:{port}/health"), ""),
        (
            "http_2xx",
            format!("http://127.0.0.1:{port}/down"),
            "status",
        ),
        ("http_any", format!("http://127.0.0.1:{port}/down"), ""),
        ("http_header", format!("http://127.0.0.1:{port}/health"), ""),
        (
            "http_header",
            format!("http://127.0.0.1:{port}/chunked"),
            "header",
        ),
        ("http_tls", format!("http://127.0.0.1:{port}/health"), "tls"),
        (
            "http_version",
            format!("http://127.0.0.1:{port}/health"),
            "protocol",
        ),
        (
            "http_small",
            format!("http://127.0.0.1:{port}/health"),
            "too_large",
        ),
        ("http_post", format!("http://127.0.0.1:{port}/health"), ""),
        ("tcp", format!("127.0.0.1:{port}"), ""),
        ("tcp", format!("localhost:{}", free_port()), "connect"),
        ("ssh", format!("127.0.0.1:{}", prompting()), ""),
        (
            "dns_a",
            format!("127.0.0.1:{}", name_server(Manner::Zone, None)),
            "",
        ),
        (
            "grpc",
            format!("localhost:{}", health_server(None).await),
            "",
        ),
        (
            "grpc",
            format!("http://127.0.0.1:{}", health_server(None).await),
            "",
        ),
    ] {
        let batch = probe(&of_module(module, &target)).await;
        assert_eq!(failure(&batch).0, wanted, "{module} {target}");
    }
    let posted = server
        .requests()
        .into_iter()
        .find(|request| request.starts_with("POST"))
        .expect("a POST")
        .to_lowercase();
    assert!(
        posted.contains("x-a: b\r\n")
            && posted.matches("host:").count() == 1
            && posted.contains("host: example.test\r\n")
            && posted.contains("authorization: basic dtpw\r\n")
            && posted.ends_with(r#"{"a": 1}"#),
        "{posted}"
    );
    let errors = |module: &str, target: &str| {
        try_build("probe", &of_module(module, target))
            .err()
            .expect("a mistake")
            .to_string()
    };
    assert!(
        errors("other", "h")
            .contains("has no module \"other\"; known there: dns_a, grpc, http_2xx")
    );
    assert!(errors("tcp", "h").contains("target: has no port: give HOST:PORT"));
    assert!(errors("icmp", "h:1").contains("target: is not a host"));
}

/// What a module asks for and is not done here is refused with its place in that file, not passed
/// over.
#[test]
fn a_module_with_what_is_not_known_is_refused() {
    let (_folder, file) = modules(
        "modules:
  a: {prober: http, http: {compression: gzip, fail_if_body_json_matches_cel: 'x', proxy_url: 'http://p:1', valid_codes: [200]}}
  b: {prober: unix}
  c: {prober: tcp, tcp: {source_ip_address: 127.0.0.1, query_response: [{expect: '('}]}}
  d: {prober: dns}
  e: {prober: icmp, icmp: {dont_fragment: true, preferred_ip_protocol: ip5}, speed: 1}
  f: {timeout: 5s}
  g: {prober: http, http: {valid_http_versions: ['HTTP/2.0']}}
",
    );
    let errors = try_build(
        "probe",
        &format!("target: h\nmodules_file: {file}\nmodule: a\n"),
    )
    .err()
    .expect("mistakes")
    .to_string();
    for wanted in [
        "blackbox.yml:2:41: modules.a.http.compression: is not known here; remove it",
        "modules.a.http.fail_if_body_json_matches_cel: is not known here; use fail_if_body_matches_regexp",
        "modules.a.http.proxy_url: a probe goes straight to its target; remove it",
        "modules.a.http.valid_codes: unknown key",
        "blackbox.yml:3:15: modules.b.prober: \"unix\" is not known here; give http, tcp, dns, icmp or grpc",
        "modules.c.tcp.source_ip_address: is not known here",
        "\"(\" is not a regular expression",
        "modules.d.dns: key \"dns\" is missing",
        "modules.e.icmp.dont_fragment: is not known here",
        "modules.e.icmp.preferred_ip_protocol: \"ip5\" is not an address family; give ip4 or ip6",
        "modules.e.speed: unknown key",
        "modules.g.http.valid_http_versions: names no version that is spoken here; add HTTP/1.1",
        "modules.f: key \"prober\" is missing",
    ] {
        assert!(errors.contains(wanted), "{wanted}\n{errors}");
    }
}

/// `/probe` is off until modules are configured; then it answers as blackbox_exporter does, within
/// the client's deadline, a bounded number at once, and only to those who may change something.
#[test]
fn a_target_that_a_client_names_is_probed_by_a_configured_module() {
    let off = Nightbell::start("collectors: {}\n");
    let (status, text) = off.get("/probe?target=127.0.0.1:1&module=tcp");
    assert_eq!(status, 404);
    assert!(text.contains("probe.modules_file"), "{text}");
    drop(off);
    let (_folder, file) = modules(MODULES);
    let nightbell = Nightbell::start(&format!(
        "collectors: {{}}\nprobe: {{modules_file: {file}, max_concurrent: 2}}\n"
    ));
    let server = HttpServer::start(None);
    let (status, text) = nightbell.get(&format!(
        "/probe?target=http%3A%2F%2F127.0.0.1:{}%2Fhealth",
        server.port
    ));
    assert_eq!(status, 200, "{text}");
    for line in [
        "probe_success 1",
        "probe_http_status_code 200",
        "probe_failed_due_to_regex 0",
        "# TYPE probe_success gauge",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    let (status, text) = nightbell.get(&format!(
        "/probe?module=tcp&target=127.0.0.1:{}",
        free_port()
    ));
    assert_eq!(status, 200);
    assert!(
        text.contains("\nprobe_success 0\n") && text.contains("reason=\"connect\""),
        "{text}"
    );
    for (query, wanted, part) in [
        ("target=h&module=other", 400, "Unknown module \"other\""),
        ("module=tcp", 400, "Target parameter is missing"),
        ("module=tcp&target=h", 400, "has no port"),
        ("module=tcp&target=h:1%0d%0aHost", 400, "is not a target"),
        (
            "module=http_2xx&target=file:///etc/passwd",
            400,
            "is not a URL of http or https",
        ),
        ("module=http_2xx&target=h&hostname=x", 400, "hostname"),
    ] {
        let (status, text) = nightbell.get(&format!("/probe?{query}"));
        assert!(
            status == wanted && text.contains(part),
            "{query}: {status} {text}"
        );
    }
    let foreign = nightbell.request(
        "GET",
        "/probe?module=tcp&target=127.0.0.1:1",
        "X-Forwarded-For: 192.0.2.1\r\n",
    );
    assert_eq!(foreign.0, 403, "{}", foreign.1);
    // The deadline of the client counts, and the seats are bounded.
    let slow = format!("/probe?target=127.0.0.1:{}/hang", server.port);
    let begin = Instant::now();
    let (status, text) =
        nightbell.request("GET", &slow, "X-Prometheus-Scrape-Timeout-Seconds: 1.5\r\n");
    assert!(
        status == 200
            && text.contains("reason=\"timeout\"")
            && text.contains("\nprobe_timeout_seconds 1\n"),
        "{text}"
    );
    assert!(begin.elapsed() >= Duration::from_millis(900));
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    nightbell
                        .request("GET", &slow, "X-Prometheus-Scrape-Timeout-Seconds: 4\r\n")
                        .0
                })
            })
            .collect();
        let mut statuses: Vec<u16> = asked
            .into_iter()
            .map(|one| one.join().expect("an answer"))
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 503, 503, 503, 503]);
    });
    // A reload that finds a mistake changes nothing.
    std::fs::write(&file, "modules: {x: {prober: telnet}}\n").expect("written");
    let (status, text) = nightbell.request("POST", "/-/reload", "");
    assert!(
        status >= 400 && text.contains("\"telnet\" is not known here"),
        "{status} {text}"
    );
    assert_eq!(
        nightbell
            .get(&format!(
                "/probe?module=tcp&target=127.0.0.1:{}",
                server.port
            ))
            .0,
        200
    );
}
