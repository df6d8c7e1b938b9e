//! The `access_log` collector (C14): a real nginx, own formats, clients above a limit, failed
//! logins, and the rules for applications.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, value};
use crate::servers::nightbell::Nightbell;
use crate::servers::{Server, free_port, wait_until};

async fn read(yaml: &str) -> Batch {
    let (batch, result) = collect("access_log", &mut build("access_log", yaml)).await;
    result.expect("it can be read");
    batch
}

/// An nginx that logs in this format.
fn nginx(folder: &Path, format: &str) -> (Server, u16) {
    let port = free_port();
    let at = folder.display();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\nhttp {{\n  {format}\n  \
         client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n  \
         server {{\n    listen 127.0.0.1:{port};\n    location /ok {{ return 200 fine; }}\n    location /bad {{ return 502; }}\n  }}\n}}\n"
    );
    fs::write(folder.join("nginx.conf"), config).expect("written");
    let mut command = Command::new("/usr/sbin/nginx");
    command
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        .arg("-p")
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let server = Server(
        command
            .spawn()
            .expect("nginx starts: apt-get install nginx-light"),
    );
    wait_until("nginx answers", Duration::from_secs(20), || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    (server, port)
}

fn ask(port: u16, method: &str, path: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let headers = "Host: x\r\nConnection: close\r\nContent-Length: 0\r\nX-Forwarded-For: 9.9.9.9, 198.51.100.7\r\nUser-Agent: a \"quoted\" one";
    write!(stream, "{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n").expect("asked");
    stream.read_to_end(&mut Vec::new()).expect("answered");
}

/// C14: requests of a real nginx in `combined`, JSON and an own format, with durations and whom
/// they were forwarded for.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_nginx_are_counted_by_method_and_status() {
    let json = r#"log_format own escape=json '{"remote_addr":"$remote_addr","http_x_forwarded_for":"$http_x_forwarded_for","request_method":"$request_method","status":"$status","body_bytes_sent":"$body_bytes_sent","request_time":"$request_time"}';"#;
    let own = "log_format own '$remote_addr [$time_iso8601] \"$request\" $status $body_bytes_sent rt=$request_time xff=\"$http_x_forwarded_for\"';";
    let own_key = r#"'$remote_addr [$time_iso8601] "$request" $status $body_bytes_sent rt=$request_time xff="$http_x_forwarded_for"'"#;
    for (definition, name, format) in [
        ("", "combined", "combined"),
        (json, "own", "json"),
        (own, "own", own_key),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let (_nginx, port) = nginx(
            folder.path(),
            &format!("{definition}\n  access_log {} {name};", log.display()),
        );
        for _ in 0..3 {
            ask(port, "GET", "/ok");
        }
        (0..5).for_each(|_| ask(port, "POST", "/bad"));
        wait_until("all is logged", Duration::from_secs(20), || {
            fs::read_to_string(&log).unwrap_or_default().lines().count() >= 8
        });
        let batch = read(&format!(
            "path: {}\nstart: beginning\nformat: {format}\ntrusted_proxies: [127.0.0.0/8]\nclients: {{above: 4, addresses: full}}\n",
            log.display()
        ))
        .await;
        let requests = |method, status| {
            value(
                &batch,
                "http_requests_total",
                &[("method", method), ("status", status)],
            )
        };
        assert_eq!(
            [
                requests("GET", "200"),
                requests("POST", "502"),
                requests("GET", "500")
            ],
            [3.0, 5.0, 0.0].map(Some),
            "{format}"
        );
        assert_eq!(
            value(&batch, "http_response_bytes_total", &[]).map(|bytes| bytes >= 12.0),
            Some(true)
        );
        assert_eq!(
            value(&batch, "access_log_clients_above_limit", &[]),
            Some(1.0)
        );
        // `combined` has no X-Forwarded-For.
        let (client, timed) = if name == "combined" {
            ("127.0.0.1", None)
        } else {
            ("198.51.100.7", Some(8.0))
        };
        assert_eq!(
            value(&batch, "access_log_client_requests", &[("client", client)]),
            Some(5.0),
            "{format}"
        );
        assert_eq!(
            value(&batch, "http_request_duration_seconds_count", &[]),
            timed,
            "{format}"
        );
    }
}

/// C14: strange methods, lines and a million addresses make few series; of an address its network
/// is shown; logins that fail are counted.
#[tokio::test(flavor = "multi_thread")]
async fn strange_requests_and_many_clients_are_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let line = |client: &str, request: &str, status: u32| {
        format!("{client} - - [30/Nov/2026:12:00:00 +0000] \"{request}\" {status} 1 \"-\" \"-\"\n")
    };
    let mut text = String::from("garbage\n\u{fffd}\n");
    text.extend((0..50_000_u32).map(|n| {
        line(
            &std::net::Ipv4Addr::from(n + 0x0b00_0000).to_string(),
            &format!("METHOD{n} / HTTP/1.1"),
            200,
        )
    }));
    text.extend(
        (0..150).map(|n| line(&format!("2001:db8:1:2::{n:x}"), "POST /login HTTP/1.1", 401)),
    );
    fs::write(&path, text).expect("written");
    let batch = read(&format!(
        "path: {}\nstart: beginning\nclients: {{above: 100, methods: []}}\n",
        path.display()
    ))
    .await;
    assert!(batch.len() < 40, "{} series", batch.len());
    assert_eq!(
        value(
            &batch,
            "http_requests_total",
            &[("method", "other"), ("status", "200")]
        ),
        Some(50_000.0)
    );
    assert_eq!(value(&batch, "access_log_odd_lines_total", &[]), Some(2.0));
    assert!(
        value(
            &batch,
            "access_log_client_requests",
            &[("client", "2001:db8:1::/48")]
        )
        .is_some_and(|n| n > 100.0)
    );
    fs::write(
        &path,
        "Nov 30 12:00:00 h sshd[7]: Failed password for root from 203.0.113.9 port 5 ssh2\n"
            .repeat(3),
    )
    .expect("written");
    let batch = read(&format!(
        "path: {}\nstart: beginning\nformat: auth\n",
        path.display()
    ))
    .await;
    assert_eq!(
        value(&batch, "login_failures_total", &[("source", "sshd")]),
        Some(3.0)
    );
}

#[test]
fn mistakes_in_the_settings_are_explained() {
    for (yaml, wanted) in [
        ("format: xml", "give combined, common, json, auth"),
        ("format: '$request'", "has no $status"),
        ("trusted_proxies: [home]", "is no network"),
        ("clients: {window: 30d}", "addresses are personal data"),
        ("clients: {addresses: all}", "give network or full"),
        ("clients: {abov: 3}", "did you mean"),
    ] {
        let errors = try_build("access_log", &format!("path: /x\n{yaml}\n"))
            .err()
            .unwrap_or_else(|| panic!("{yaml} was accepted"));
        assert!(errors.to_string().contains(wanted), "{yaml}: {errors}");
    }
}

/// C14, T2: for an application without metrics the shipped rules speak from its access log.
#[test]
fn the_rules_for_applications_work_from_an_access_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    fs::write(&path, "").expect("written");
    let config = format!(
        "collectors: {{access_log: [{{name: web, path: '{}', interval: 1s, labels: {{}}}}]}}\n",
        path.display()
    );
    let nightbell = Nightbell::start(&config);
    let ratio = || {
        let answer = nightbell
            .json("/api/v1/query?query=app:request_errors:ratio5m%7Binstance=%22web%22%7D");
        answer["data"]["result"][0]["value"][1]
            .as_str()
            .and_then(|n| n.parse::<f64>().ok())
    };
    wait_until("half of the requests fail", Duration::from_secs(60), || {
        let mut log = fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("opened");
        for status in [200, 500] {
            let line = format!(
                "203.0.113.7 - - [30/Nov/2026:12:00:00 +0000] \"POST /x HTTP/1.1\" {status} 1 \"-\" \"-\"\n"
            );
            log.write_all(line.as_bytes()).expect("written");
        }
        std::thread::sleep(Duration::from_millis(200));
        ratio().is_some_and(|ratio| (0.3..=0.7).contains(&ratio))
    });
}
