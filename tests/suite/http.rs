//! The HTTP client against servers that misbehave: deadlines, bounds, kinds of errors, and no
//! secret in any of them.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nightbell::config::{Document, Environment, Loader, Secret};
use nightbell::http::{Client, HttpConfig, HttpErrorKind, Request, TlsConfig};
use url::Url;

use crate::servers::hostile::{Hostile, Manner, fields};
use crate::servers::http::{HttpServer, Signer};
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::{Server, free_port, listens, wait_until};

fn get(url: &str) -> Request {
    let mut request = Request::get(Url::parse(url).expect("a URL"), Duration::from_millis(500));
    request.max_body = 1 << 20;
    request
}

/// An error says what happened, in a closed set of kinds, within the deadline, and never quotes the
/// URL or a header.
#[tokio::test]
async fn each_failure_has_its_kind_and_no_secret() {
    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&vec![0; 4 << 20]).expect("in memory");
        encoder.finish().expect("in memory")
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );
    let broken_gzip =
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd".to_vec();
    let cases = [
        (Manner::Silent, HttpErrorKind::Timeout),
        (Manner::SlowHead, HttpErrorKind::Timeout),
        (Manner::Stalls, HttpErrorKind::Timeout),
        (Manner::Endless, HttpErrorKind::TooLarge),
        (
            Manner::Raw([head.into_bytes(), bomb].concat()),
            HttpErrorKind::TooLarge,
        ),
        (Manner::Raw(broken_gzip), HttpErrorKind::Protocol),
        (
            Manner::Raw(b"hello\r\n\r\n".to_vec()),
            HttpErrorKind::Protocol,
        ),
        (Manner::Raw(Vec::new()), HttpErrorKind::Protocol),
        (
            Manner::Raw([b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat()),
            HttpErrorKind::Protocol,
        ),
        (Manner::Truncated, HttpErrorKind::Protocol),
        (Manner::RedirectLoop, HttpErrorKind::Protocol),
    ];
    let config = HttpConfig {
        basic_auth: Some((Secret::new("user").into(), Secret::new("hunter2").into())),
        ..HttpConfig::default()
    };
    let client = Client::build(&config).expect("usable");
    for (manner, kind) in cases {
        let shown: String = format!("{manner:?}").chars().take(40).collect();
        let server = Hostile::start(manner);
        let start = Instant::now();
        let Err(error) = client
            .send(get(&format!(
                "http://{}/metrics?token=hunter2",
                server.address
            )))
            .await
        else {
            panic!("{shown}: an error expected")
        };
        assert_eq!(error.kind, kind, "{shown}: {error}");
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{shown}: {:?}",
            start.elapsed()
        );
        assert!(
            !error.to_string().contains("hunter2") && !error.to_string().contains(&server.address),
            "{shown}: {error}"
        );
        assert!(fields(&server.heads()[0])["authorization"].starts_with("Basic "));
    }
}

/// What failed before any HTTP: the name, the connection, the handshake.
#[tokio::test]
async fn names_connections_and_handshakes_fail_as_such() {
    let client = Client::plain();
    // A server without TLS: it answers the first bytes of a handshake with an HTTP error.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let plain = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.read_exact(&mut [0]).expect("a byte");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .expect("written");
    });
    for (url, kind) in [
        (
            "http://nightbell.invalid/?token=hunter2".to_owned(),
            HttpErrorKind::Dns,
        ),
        (
            format!("http://127.0.0.1:{}/", free_port()),
            HttpErrorKind::Connect,
        ),
        (format!("https://{plain}/"), HttpErrorKind::Tls),
    ] {
        let mut request = get(&url);
        request.timeout = Duration::from_secs(5);
        let Err(error) = client.send(request).await else {
            panic!("{url}: an error expected")
        };
        assert_eq!(error.kind, kind, "{url}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

/// A self-signed certificate for a name, and a TLS server that shows it.
struct TlsServer {
    port: u16,
    certificate: String,
    _folder: tempfile::TempDir,
    _server: Server,
}

fn openssl(arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

impl TlsServer {
    fn start(name: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |file: &str| folder.path().join(file).display().to_string();
        let (key, cert) = (path("key.pem"), path("cert.pem"));
        let subject = format!("/CN={name}");
        let names = format!("subjectAltName=DNS:{name}");
        let request = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ];
        let made = openssl(&request)
            .args([
                "-keyout", &key, "-out", &cert, "-subj", &subject, "-addext", &names,
            ])
            .status();
        assert!(
            made.expect("openssl is installed: run `tests/run` once")
                .success()
        );
        let port = free_port();
        let child = openssl(&[
            "s_server",
            "-accept",
            &port.to_string(),
            "-cert",
            &cert,
            "-key",
            &key,
            "-www",
        ])
        .args(more)
        .spawn();
        let server = Server(child.expect("openssl is installed: run `tests/run` once"));
        wait_until("the TLS server", Duration::from_secs(10), || listens(port));
        TlsServer {
            port,
            certificate: read(&cert),
            _folder: folder,
            _server: server,
        }
    }

    async fn get(&self, tls: TlsConfig) -> Result<u16, (HttpErrorKind, String)> {
        let client = Client::build(&HttpConfig {
            tls,
            ..HttpConfig::default()
        })
        .expect("usable");
        let mut request = get(&format!("https://localhost:{}/", self.port));
        request.timeout = Duration::from_secs(5);
        client
            .send(request)
            .await
            .map(|r| r.status)
            .map_err(|e| (e.kind, e.to_string()))
    }
}

fn read(path: impl AsRef<Path>) -> String {
    let path = PathBuf::from(path.as_ref());
    std::fs::read_to_string(&path).expect("written by openssl")
}

/// `tls_config` decides whom to trust and under which name.
#[tokio::test]
async fn certificates_are_verified_as_configured() {
    let server = TlsServer::start("internal.example", &[]);
    let ca = Some(Secret::new(server.certificate.clone()));
    let name = Some("internal.example".to_owned());
    let (kind, error) = server
        .get(TlsConfig::default())
        .await
        .expect_err("not trusted");
    assert_eq!(kind, HttpErrorKind::Tls, "{error}");
    let (kind, error) = server
        .get(TlsConfig {
            ca: ca.clone(),
            ..TlsConfig::default()
        })
        .await
        .expect_err("another name");
    assert_eq!(kind, HttpErrorKind::Tls, "{error}");
    assert!(error.contains("internal.example"), "{error}");
    assert_eq!(
        server
            .get(TlsConfig {
                ca: ca.clone(),
                server_name: name.clone(),
                ..TlsConfig::default()
            })
            .await,
        Ok(200)
    );
    assert_eq!(
        server
            .get(TlsConfig {
                insecure_skip_verify: true,
                ..TlsConfig::default()
            })
            .await,
        Ok(200)
    );
    assert!(
        Client::build(&HttpConfig {
            tls: TlsConfig {
                ca: Some(Secret::new("no PEM")),
                ..TlsConfig::default()
            },
            ..HttpConfig::default()
        })
        .is_err()
    );
}

/// An `http_config` as it stands in a file.
fn read_config(text: &str) -> Result<HttpConfig, String> {
    let document = Document::parse("http.yml", text).expect("YAML");
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, Path::new("."));
    let section = loader.root();
    let config = HttpConfig::read(&section);
    section.finish();
    drop(section);
    loader.finish(config).map_err(|errors| errors.to_string())
}

/// `oauth2` gets an access token, in the way that its server wants, keeps it, and gets another one
/// when it is refused.
#[tokio::test]
async fn oauth2_brings_an_access_token_and_another_one_when_it_is_refused() {
    let token = |text| Reply::Answer(200, "Content-Type: application/json\r\n", text);
    let tokens = HttpSink::start([
        Reply::Answer(401, "", "not in the header"),
        token(r#"{"access_token":"first","token_type":"bearer","expires_in":3600}"#),
        token(r#"{"access_token":"second","expires_in":3600}"#),
        Reply::Answer(500, "", "hunter2"),
    ]);
    let place =
        HttpSink::start([200, 200, 401, 200, 401].map(|status| Reply::Answer(status, "", "ok")));
    let config = read_config(&format!(
        "oauth2: {{client_id: 'me & you', client_secret: hunter2, token_url: '{}', scopes: [a, b], endpoint_params: {{audience: x}}}}",
        tokens.url
    ));
    let client = Client::build(&config.expect("valid")).expect("usable");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(
            client
                .send(get(&place.url))
                .await
                .expect("an answer")
                .status,
        );
    }
    let Err(error) = client.send(get(&place.url)).await else {
        panic!("no token, no request")
    };
    assert_eq!(statuses, [200, 200, 200]);
    assert_eq!(
        (error.kind, error.message.as_str()),
        (HttpErrorKind::Protocol, "oauth2: token_url answered 500")
    );
    let sent: Vec<String> = place
        .requests()
        .iter()
        .map(|r| r.headers["authorization"].clone())
        .collect();
    assert_eq!(
        sent,
        [
            "Bearer first",
            "Bearer first",
            "Bearer first",
            "Bearer second",
            "Bearer second"
        ]
    );
    let asked = tokens.requests();
    let basic = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        "me+%26+you:hunter2",
    );
    assert_eq!(asked[0].headers["authorization"], format!("Basic {basic}"));
    assert_eq!(
        asked[0].body,
        "grant_type=client_credentials&scope=a+b&audience=x"
    );
    assert!(!asked[1].headers.contains_key("authorization"));
    assert_eq!(
        asked[1].body,
        "grant_type=client_credentials&scope=a+b&audience=x&client_id=me+%26+you&client_secret=hunter2"
    );
    assert_eq!(
        (asked.len(), &asked[1].body, &asked[1].body),
        (4, &asked[2].body, &asked[3].body),
        "what was accepted is kept"
    );
}

/// A header has all its values; a proxy is notified what `proxy_connect_header` says, and may speak
/// SOCKS.
#[tokio::test]
async fn headers_have_all_values_and_proxies_are_asked_as_configured() {
    let place = Hostile::start(Manner::Serve("text/plain", b"ok".to_vec()));
    let client = |text: &str| Client::build(&read_config(text).expect("valid")).expect("usable");
    client("http_headers: {X-Team: {values: [a], secrets: [b]}}")
        .send(get(&format!("http://{}/", place.address)))
        .await
        .expect("ok");
    assert_eq!(
        place.heads()[0].to_lowercase().matches("x-team: ").count(),
        2,
        "{}",
        place.heads()[0]
    );
    let proxy = Hostile::start(Manner::Raw(b"HTTP/1.1 502 Bad Gateway\r\n\r\n".to_vec()));
    let through = format!(
        "proxy_url: 'http://{}'\nproxy_connect_header: {{X-Team: [a, b]}}",
        proxy.address
    );
    assert!(
        client(&through)
            .send(get("https://nightbell.invalid/"))
            .await
            .is_err()
    );
    let head = proxy.heads()[0].to_lowercase();
    assert!(
        head.starts_with("connect nightbell.invalid:443")
            && head.contains("x-team: a")
            && head.contains("x-team: b"),
        "{head}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let socks = listener.local_addr().expect("its address");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).expect("a greeting");
        stream.write_all(&[5, 0]).expect("written");
        let mut request = [0; 10];
        stream
            .read_exact(&mut request)
            .expect("a request for a connection");
        stream
            .write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80])
            .expect("written");
        stream.read_exact(&mut [0; 3]).expect("GET");
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .expect("written");
        (greeting, request)
    });
    let answer = client(&format!("proxy_url: 'socks5://{socks}'"))
        .send(get("http://192.0.2.7:81/"))
        .await
        .expect("an answer");
    assert_eq!(answer.status, 204);
    assert_eq!(
        server.join().expect("no panic"),
        ([5, 1, 0], [5, 1, 0, 1, 192, 0, 2, 7, 0, 81])
    );
}

/// What Prometheus refuses in an `http_config` is refused, with the place.
#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (text, problem) in [
        (
            "no_proxy: a.b",
            "1:11: no_proxy: is of no use without a proxy",
        ),
        (
            "{proxy_from_environment: true, proxy_url: 'http://p/'}",
            "1:43: proxy_url: stands beside proxy_from_environment",
        ),
        (
            "proxy_url: proxy:3128",
            "1:12: proxy_url: is not the URL of a proxy",
        ),
        (
            "http_headers: {Authorization: {values: [a]}}",
            "http_headers.Authorization: may not be set here; use the key that is there for it",
        ),
        (
            "oauth2: {client_id: a}",
            "oauth2: key \"token_url\" is missing",
        ),
        (
            "oauth2: {token_url: 'http://t/'}",
            "oauth2: key \"client_id\" is missing",
        ),
        (
            "{oauth2: {client_id: a, token_url: 'http://t/'}, basic_auth: {username: u}}",
            "stands beside another way to log in",
        ),
        (
            "oauth2: {client_id: a, token_url: 'http://t/', scope: x}",
            "oauth2.scope: unknown key; did you mean \"scopes\"?",
        ),
    ] {
        let said = read_config(text).expect_err(text);
        assert!(said.contains(problem), "{text}: {said}");
    }
}

/// Heads as large and as odd as Go's client takes.
#[tokio::test]
async fn a_folded_line_and_many_fields_are_read() {
    let fields: String = (0..150).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let head =
        format!("HTTP/1.1 200 OK\r\nX-Long: one\r\n two\r\n{fields}Content-Length: 2\r\n\r\nok");
    let server = Hostile::start(Manner::Raw(head.into_bytes()));
    let answer = Client::plain()
        .send(get(&format!("http://{}/", server.address)))
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status, &answer.body[..], answer.header("x-149")),
        (200, &b"ok"[..], Some("149"))
    );
}

/// A renewed authority, client certificate and key are used in the next request, without a reload;
/// what cannot be used changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_tls_are_read_again_when_they_change() {
    let (old, new) = (Signer::new("Old"), Signer::new("New"));
    let (before, after) = (
        HttpServer::start(Some(old.server_for(&old))),
        HttpServer::start(Some(new.server_for(&new))),
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
    let issue = |signer: &Signer| {
        let (certificate, key) = signer.client();
        write("ca", &signer.certificate(None, 2060).pem());
        write("cert", &certificate);
        write("key", &key);
    };
    issue(&old);
    let [ca, cert, key] = ["ca", "cert", "key"].map(|name| path(name).display().to_string());
    let text = format!("tls_config: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}}}\n");
    let config = read_http_config(&text);
    for client in [
        Client::build(&config).expect("usable"),
        Client::keeping_body(&config).expect("usable"),
    ] {
        issue(&old);
        let reaches = async |server: &HttpServer, fresh: bool| {
            let request = Request::get(
                Url::parse(&format!("https://localhost:{}/ok", server.port)).expect("a URL"),
                Duration::from_secs(20),
            );
            if fresh {
                client.start_fresh(request).await.is_ok()
            } else {
                client.send(request).await.is_ok()
            }
        };
        assert!(reaches(&before, false).await && reaches(&before, true).await);
        assert!(!reaches(&after, false).await);
        write(
            "ca",
            "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n",
        );
        assert!(
            reaches(&before, false).await,
            "what cannot be used changes nothing"
        );
        issue(&new);
        assert!(reaches(&after, false).await && reaches(&after, true).await);
        assert!(
            !reaches(&before, true).await,
            "the former authority is trusted no more"
        );
    }
}

fn read_http_config(text: &str) -> HttpConfig {
    let document = Document::parse("http.yml", text).expect("YAML");
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, Path::new("."));
    let config = HttpConfig::read(&loader.root());
    loader.finish(config).expect("valid")
}
