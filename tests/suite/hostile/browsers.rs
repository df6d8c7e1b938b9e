//! Pages of others in a browser on this machine, names that are made to lead here, proxies.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::{free_port, wait_until};

const QUIET: &str = "rules: {shipped: false}\n";

/// Every route that changes something, or shows what is not for everybody.
const ROUTES: [(&str, &str); 8] = [
    ("POST", "/-/reload"),
    ("PUT", "/-/reload"),
    ("POST", "/api/nightbell/dead-letters/send"),
    ("GET", "/api/nightbell/dead-letters"),
    ("GET", "/api/nightbell/actions"),
    ("POST", "/api/v1/acknowledge"),
    ("POST", "/api/v2/silences"),
    ("POST", "/api/v2/alerts"),
];

/// One request as a browser or a proxy would send it.
fn ask(nightbell: &Nightbell, method: &str, path: &str, version: &str, headers: &str) -> u16 {
    use std::io::{Read as _, Write as _};
    let mut stream =
        std::net::TcpStream::connect(("127.0.0.1", nightbell.port)).expect("connected");
    let json = "Content-Type: application/json\r\nContent-Length: 2\r\n";
    stream
        .write_all(format!("{method} {path} HTTP/{version}\r\n{headers}{json}\r\n[]").as_bytes())
        .expect("sent");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("set");
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.contains(&b'\n') {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8_lossy(&answer)
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

#[test]
fn no_route_takes_a_change_from_a_foreign_page_a_rebound_name_or_a_proxy() {
    let nightbell = Nightbell::start(QUIET);
    let own = format!("Host: localhost:{}\r\n", nightbell.port);
    for (method, path) in ROUTES {
        let fine = ask(&nightbell, method, path, "1.1", &own);
        assert!(
            fine != 403 && fine != 401 && fine != 0,
            "{method} {path}: {fine}"
        );
        let page = format!(
            "{own}Origin: http://localhost:{}\r\nSec-Fetch-Site: same-origin\r\n",
            nightbell.port
        );
        assert_eq!(
            ask(&nightbell, method, path, "1.1", &page),
            fine,
            "{method} {path}: our own page"
        );
        for hostile in [
            "Host: evil.example\r\n".to_owned(),
            "Host: evil.example\r\nOrigin: http://evil.example\r\nSec-Fetch-Site: same-origin\r\n"
                .to_owned(),
            format!("{own}Origin: http://localhost:1\r\n"),
            format!("{own}Origin: null\r\n"),
            format!("{own}Sec-Fetch-Site: same-site\r\n"),
            format!("{own}Sec-Fetch-Site: cross-site\r\n"),
            format!("{own}X-Forwarded-For: 192.0.2.1\r\n"),
            format!("{own}X-Forwarded-Host: bell.example\r\n"),
            format!("{own}Via: 1.1 x\r\n"),
        ] {
            assert_eq!(
                ask(&nightbell, method, path, "1.1", &hostile),
                403,
                "{method} {path}: {hostile}"
            );
        }
        // As nginx asks what is behind it.
        assert_eq!(
            ask(
                &nightbell,
                method,
                path,
                "1.0",
                &format!("{own}Connection: close\r\n")
            ),
            403,
            "{method} {path}: nginx"
        );
    }
    nightbell.configure(&format!("{QUIET}web: {{admin_token: t0ken}}\n"));
    nightbell.signal("-HUP");
    wait_until("the token is in force", Duration::from_secs(20), || {
        ask(&nightbell, "POST", "/-/reload", "1.1", &own) == 401
    });
    let token =
        "Host: bell.example\r\nX-Forwarded-For: 192.0.2.1\r\nAuthorization: Bearer t0ken\r\n";
    assert_eq!(
        ask(&nightbell, "POST", "/-/reload", "1.1", token),
        200,
        "the token opens it from everywhere"
    );
}

/// A page on another port of this machine, in a real browser: its requests arrive, and nothing is
/// changed.
#[test]
fn a_page_in_a_browser_cannot_reload_or_send_anything() {
    let nightbell = Nightbell::start(QUIET);
    let script = format!(
        "<!DOCTYPE html><script>(async () => {{ const to = 'http://localhost:{}';\
         for (const path of ['/-/reload', '/api/nightbell/dead-letters/send']) {{\
         try {{ await fetch(to + path, {{mode: 'no-cors', method: 'POST'}}) }} catch (e) {{}} }}\
         await fetch('/done') }})()</script>",
        nightbell.port
    );
    let page = HttpSink::start([Reply::Answer(
        200,
        "Content-Type: text/html\r\n",
        script.leak(),
    )]);
    let profile = tempfile::tempdir().expect("a folder");
    let port = page
        .url
        .rsplit(':')
        .next()
        .expect("a port")
        .trim_end_matches('/')
        .to_owned();
    let mut browser = Command::new("chromium");
    browser.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",
    ]);
    browser
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://localhost:{port}/"));
    let browser = browser
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium starts: tests/run installs it");
    let _browser = crate::servers::Server(browser);
    wait_until("the page is done", Duration::from_secs(60), || {
        page.requests()
            .iter()
            .any(|request| request.path == "/done")
    });
    assert!(
        !nightbell.log().contains("reloaded") && !nightbell.log().contains("sent again"),
        "{}",
        nightbell.log()
    );
}

#[test]
fn external_url_of_another_host_needs_a_token_and_check_config_says_so() {
    let config = format!("{QUIET}web: {{external_url: 'https://bell.example.org'}}\n");
    let nightbell = Nightbell::start(&config);
    let own = format!("Host: localhost:{}\r\n", nightbell.port);
    assert_eq!(ask(&nightbell, "POST", "/-/reload", "1.1", &own), 403);
    let check = |config: &str| {
        nightbell.configure(config);
        let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(["check", "config"])
            .arg(nightbell.config_file())
            .output();
        let output = output.expect("it runs");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(check(&config).contains("set web.admin_token_file"));
    assert!(
        check(&format!("{QUIET}web: {{listen: '0.0.0.0:9908'}}\n"))
            .contains("set web.admin_token_file")
    );
    assert!(
        !check(&format!(
            "{QUIET}web: {{external_url: 'https://bell.example.org', admin_token: t}}\n"
        ))
        .contains("WARNING")
    );
    assert!(!check(QUIET).contains("WARNING"));
}

/// Every page, and errors too.
#[test]
fn every_answer_says_how_a_browser_may_show_it() {
    let nightbell = Nightbell::start(QUIET);
    for path in [
        "/",
        "/metrics",
        "/acknowledge?alert=1&since=1&token=x",
        "/api/v1/query?query=1",
        "/api/v2/status",
        "/-/healthy",
        "/nothing",
        "/picture",
    ] {
        let url = format!("http://127.0.0.1:{}{path}", nightbell.port);
        let output = Command::new("curl")
            .args(["-s", "-D", "-", "-o", "/dev/null", &url])
            .output()
            .expect("curl runs");
        let head = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert!(
            head.contains("x-content-type-options: nosniff")
                && head.contains("x-frame-options: deny"),
            "{path}: {head}"
        );
        assert!(
            head.contains("content-security-policy: ") && head.contains("frame-ancestors 'none'"),
            "{path}: {head}"
        );
    }
}

/// Secrets of parameters, headers and defaults are not shown anywhere.
#[test]
fn no_answer_shows_a_secret_of_the_configuration() {
    let nightbell = Nightbell::start(&format!(
        "{QUIET}scrape_configs:\n- job_name: app\n  params: {{token: [SECRET1], module: [http_2xx]}}\n  http_headers: {{X-Scope: {{values: [SECRET2]}}}}\n  \
         static_configs: [{{targets: ['127.0.0.1:{}'], labels: {{__param_api_key: SECRET3}}}}]\n\
         web: {{external_url: 'http://${{HOST_OF_ME:-SECRET4}}.localhost'}}\n",
        free_port()
    ));
    for path in [
        "/api/v1/targets",
        "/api/v1/status/config",
        "/api/v2/status",
        "/api/v1/status/flags",
        "/",
        "/health",
    ] {
        let answer = nightbell.get(path).1;
        assert!(
            !["SECRET1", "SECRET2", "SECRET3"]
                .iter()
                .any(|secret| answer.contains(secret)),
            "{path}: {answer}"
        );
    }
    assert!(!nightbell.get("/api/v1/status/config").1.contains("SECRET4"));
    assert!(
        nightbell
            .get("/api/v1/targets")
            .1
            .contains("module=http_2xx")
    );
    assert!(
        !nightbell.log().contains("SECRET1") && !nightbell.log().contains("SECRET3"),
        "{}",
        nightbell.log()
    );
}
