//! A small HTTP/1.1 server whose paths say how it answers, with or without TLS, and the
//! certificates for it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A server on a loopback port; its threads end with the test process.
pub struct HttpServer {
    pub port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

/// An authority, and certificates that it signed.
pub struct Authority {
    key: KeyPair,
    params: CertificateParams,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Test Authority");
        params.not_after = date_time_ymd(2060, 1, 1);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { key, params, pem }
    }

    /// A server configuration for `localhost` (or another name) whose certificate ends on the first
    /// of January of that year.
    pub fn server(&self, name: &str, ends: i32) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(ends, 1, 1));
        let issuer = Issuer::from_params(&self.params, &self.key);
        config_of(
            &params.signed_by(&key, &issuer).expect("a certificate"),
            &key,
        )
    }
}

/// A server configuration for `localhost` whose certificate nobody signed but itself, and that
/// certificate as PEM. It is valid from and until the first of January of those years.
pub fn self_signed(from: i32, until: i32) -> (Arc<rustls::ServerConfig>, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    let certificate = params.self_signed(&key).expect("a certificate");
    (config_of(&certificate, &key), certificate.pem())
}

/// Somebody who signs certificates, under a name and with a key of their own.
pub struct Signer {
    key: KeyPair,
    params: CertificateParams,
}

impl Signer {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        Signer {
            key: KeyPair::generate().expect("a key"),
            params,
        }
    }

    /// The certificate of this signer that `by` signed, or it itself, until the first of January of
    /// that year.
    pub fn certificate(&self, by: Option<&Signer>, until: i32) -> rcgen::Certificate {
        let mut params = self.params.clone();
        params.not_after = date_time_ymd(until, 1, 1);
        let by = by.unwrap_or(self);
        params
            .signed_by(&self.key, &Issuer::from_params(&by.params, &by.key))
            .expect("a certificate")
    }

    /// The certificate and key of a client that this signer signed, as PEM.
    pub fn client(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["client".to_owned()]).expect("parameters");
        let certificate = params
            .signed_by(&key, &Issuer::from_params(&self.params, &self.key))
            .expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// As [`Signer::server`], for clients that have a certificate of `clients`.
    pub fn server_for(&self, clients: &Signer) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.not_after = date_time_ymd(2060, 1, 1);
        let leaf = params
            .signed_by(&key, &Issuer::from_params(&self.params, &self.key))
            .expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(clients.certificate(None, 2060).der().clone())
            .expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            roots.into(),
            provider.clone(),
        )
        .build();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.expect("a verifier"))
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            );
        Arc::new(config.expect("a pair"))
    }

    /// A server for `localhost` with a certificate of this signer's, which sends `more` after it.
    pub fn server(&self, until: i32, more: &[rcgen::Certificate]) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
        let leaf = params
            .signed_by(&key, &Issuer::from_params(&self.params, &self.key))
            .expect("a certificate");
        chain_config(
            std::iter::once(&leaf)
                .chain(more)
                .map(|certificate| certificate.der().clone())
                .collect(),
            &key,
        )
    }
}

fn config_of(certificate: &rcgen::Certificate, key: &KeyPair) -> Arc<rustls::ServerConfig> {
    chain_config(vec![certificate.der().clone()], key)
}

fn chain_config(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: &KeyPair,
) -> Arc<rustls::ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_no_client_auth()
    .with_single_cert(chain, key);
    Arc::new(config.expect("a pair"))
}

/// What a server of a test's own answers to a request, head and body: a status line's end such as
/// `200 OK`, and a body.
type Handler = dyn Fn(&str) -> (&'static str, String) + Send + Sync;

impl HttpServer {
    /// A server that answers as `handler` says.
    pub fn answering(
        handler: impl Fn(&str) -> (&'static str, String) + Send + Sync + 'static,
    ) -> Self {
        Self::serving(None, Some(Arc::new(handler)))
    }

    pub fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self::serving(tls, None)
    }

    fn serving(tls: Option<Arc<rustls::ServerConfig>>, handler: Option<Arc<Handler>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("its address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, log, handler) = (tls.clone(), log.clone(), handler.clone());
                // A client that goes away in the middle is part of some tests.
                thread::spawn(move || match tls {
                    None => drop(serve(stream, &log, handler.as_deref())),
                    Some(config) => {
                        let connection =
                            rustls::ServerConnection::new(config).expect("a connection");
                        drop(serve(
                            rustls::StreamOwned::new(connection, stream),
                            &log,
                            handler.as_deref(),
                        ));
                    }
                });
            }
        });
        HttpServer { port, requests }
    }

    /// The requests so far, head and body.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

fn serve(
    mut stream: impl Read + Write,
    log: &Mutex<Vec<String>>,
    handler: Option<&Handler>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let mut text = String::from_utf8_lossy(&head).into_owned();
    let length = text
        .to_lowercase()
        .lines()
        .find_map(|l| {
            l.strip_prefix("content-length:")?
                .trim()
                .parse::<usize>()
                .ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    text.push_str(&String::from_utf8_lossy(&body));
    let path = text.split(' ').nth(1).unwrap_or("/").to_owned();
    log.lock().expect("not poisoned").push(text.clone());
    let answer = |status: &str, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
            body.len()
        )
    };
    if let Some(handler) = handler {
        let (status, body) = handler(&text);
        stream.write_all(answer(status, "Content-Type: application/json\r\n", &body).as_bytes())?;
        return stream.flush();
    }
    let json = r#"{"status":"healthy","checks":{"db":true},"items":[1,2]}"#;
    match path.as_str() {
        "/health" => stream.write_all(answer("200 OK", "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n", json).as_bytes())?,
        "/slow" => {
            thread::sleep(Duration::from_millis(150));
            stream.write_all(answer("200 OK", "", "slow").as_bytes())?;
        }
        "/slow-body" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
            stream.flush()?;
            thread::sleep(Duration::from_millis(150));
            stream.write_all(b"slow")?;
        }
        "/hang" => thread::sleep(Duration::from_secs(30)),
        "/redirect" => stream.write_all(answer("302 Found", "Location: /health\r\n", "").as_bytes())?,
        "/circle" => stream.write_all(answer("302 Found", "Location: /circle\r\n", "").as_bytes())?,
        "/chunked" => stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")?,
        "/large" => stream.write_all(answer("200 OK", "", &"x".repeat(100_000)).as_bytes())?,
        "/big" => stream.write_all(answer("200 OK", "", &format!("{}the end", "x".repeat(1_500_000))).as_bytes())?,
        "/garbage" => stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n")?,
        "/broken" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")?,
        _ => stream.write_all(answer("503 Service Unavailable", "", "down").as_bytes())?,
    }
    stream.flush()
}
