//! `web.config.file` as Prometheus has it
//! (<https://prometheus.io/docs/prometheus/latest/configuration/https/>): TLS, client certificates,
//! logging in with a password, headers. The file and those that it names are read again when they
//! change, without a reload; a new file that cannot be used leaves the old one in force. HTTP/2 is
//! not spoken, and nothing older than TLS 1.2.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use parking_lot::{Mutex, RwLock};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::config::{Document, Environment, Loader, Secret, Section};
use crate::http::TlsVersions;
use crate::web::admin::{LoggedIn, carries};

/// How often it is looked whether the files have changed.
const LOOK: Duration = Duration::from_secs(1);
/// Passwords whose check is remembered, as many as Prometheus remembers.
const REMEMBERED: usize = 100;
/// Passwords that are checked at once: each takes a tenth of a second of a processor.
const CHECKS: usize = 1;
/// A hash of nothing that anybody knows: checking a password takes as long for a user who is not
/// there.
const NOBODY: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// The ways in which a client's certificate is asked for, by Go's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientAuth {
    No,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

const CLIENT_AUTH: [(&str, ClientAuth); 6] = [
    ("", ClientAuth::No),
    ("NoClientCert", ClientAuth::No),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
];

/// Headers that the file may set on every answer.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];

/// What the file says.
#[derive(Default)]
struct Settings {
    tls: Option<Arc<ServerConfig>>,
    /// Whether a certificate that a client shows was checked.
    verifies: bool,
    users: BTreeMap<String, Secret>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The files that it was read from, as they were then.
    files: Vec<(PathBuf, Stamp)>,
}

/// What shows that a file has changed.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let file = path.metadata().ok()?;
    Some((file.modified().ok()?, file.len(), file.ino()))
}

/// The way in: what a connection must speak, and who may ask.
pub struct Gate {
    path: Option<PathBuf>,
    settings: RwLock<Arc<Settings>>,
    looked_at: Mutex<Instant>,
    /// Passwords that were checked, as digests, and whether they were right.
    known: Mutex<HashMap<[u8; 32], bool>>,
    checks: Semaphore,
}

/// A connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Says what is wrong with a file.
pub fn check(path: &Path) -> Result<bool, String> {
    read(path).map(|settings| settings.logs_in())
}

impl Gate {
    /// The gate that a file describes; without a file everybody comes in, unencrypted.
    pub fn open(path: Option<PathBuf>) -> Result<Arc<Self>, String> {
        let settings = path.as_deref().map_or(Ok(Settings::default()), read)?;
        Ok(Arc::new(Gate {
            path,
            settings: RwLock::new(Arc::new(settings)),
            looked_at: Mutex::new(Instant::now()),
            known: Mutex::default(),
            checks: Semaphore::new(CHECKS),
        }))
    }

    /// Whether TLS is spoken.
    pub fn is_encrypted(&self) -> bool {
        self.settings.read().tls.is_some()
    }

    /// Whether only those come in who log in.
    pub fn logs_in(&self) -> bool {
        self.settings.read().logs_in()
    }

    /// What a connection carries, and whether its client has shown a certificate that was checked.
    /// Errs when the handshake fails or takes longer than `limit`.
    pub async fn enter(
        self: &Arc<Self>,
        stream: TcpStream,
        limit: Duration,
    ) -> std::io::Result<(Box<dyn Stream>, bool)> {
        let settings = self.current().await;
        let Some(tls) = settings.tls.clone() else {
            return Ok((Box::new(stream), false));
        };
        let stream = tokio::time::timeout(limit, TlsAcceptor::from(tls).accept(stream)).await??;
        let identified = settings.verifies
            && stream
                .get_ref()
                .1
                .peer_certificates()
                .is_some_and(|chain| !chain.is_empty());
        Ok((Box::new(stream), identified))
    }

    /// Lets a request in, or answers 401; adds the headers that the file names. `token` is the
    /// administrator's, which opens this, too.
    pub async fn pass(
        self: Arc<Self>,
        token: Option<Secret>,
        mut request: Request,
        next: Next,
    ) -> Response {
        let settings = self.current().await;
        if !settings.users.is_empty() {
            let is_administrator =
                token.is_some_and(|token| !token.is_empty() && carries(&token, request.headers()));
            // A certificate alone does not do where passwords are asked for.
            request.extensions_mut().remove::<LoggedIn>();
            if !is_administrator {
                if !self.knows(&settings, request.headers()).await {
                    let answer = (
                        StatusCode::UNAUTHORIZED,
                        [(WWW_AUTHENTICATE, "Basic")],
                        "Unauthorized\n",
                    );
                    return with(&settings.headers, answer.into_response());
                }
                request.extensions_mut().insert(LoggedIn);
            }
        }
        with(&settings.headers, next.run(request).await)
    }

    /// Whether the user and password of a request are right.
    async fn knows(&self, settings: &Settings, headers: &HeaderMap) -> bool {
        let Some((user, password)) = headers.get(AUTHORIZATION).and_then(credentials) else {
            return false;
        };
        let hash = settings
            .users
            .get(&user)
            .map_or_else(|| Secret::new(NOBODY), Clone::clone);
        let is_there = settings.users.contains_key(&user);
        let digest = Sha256::new()
            .chain_update(hash.expose())
            .chain_update([0])
            .chain_update(&user)
            .chain_update([0])
            .chain_update(&password);
        let digest: [u8; 32] = digest.finalize().into();
        if let Some(known) = self.known.lock().get(&digest) {
            return *known;
        }
        let Ok(_turn) = self.checks.acquire().await else {
            return false;
        };
        let checked = tokio::task::spawn_blocking(move || {
            bcrypt::verify(password, hash.expose()).unwrap_or(false)
        })
        .await;
        let right = checked.unwrap_or(false) && is_there;
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            // Guessed passwords must not evict verified ones.
            known.retain(|_, right| *right);
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        known.insert(digest, right);
        right
    }

    /// What is in force, read anew where a file has changed.
    async fn current(self: &Arc<Self>) -> Arc<Settings> {
        let is_due = self.path.is_some() && {
            let mut looked_at = self.looked_at.lock();
            let is_due = looked_at.elapsed() >= LOOK;
            if is_due {
                *looked_at = Instant::now();
            }
            is_due
        };
        if is_due {
            let gate = self.clone();
            // A panic there leaves what is in force.
            let _ = tokio::task::spawn_blocking(move || gate.look()).await;
        }
        self.settings.read().clone()
    }

    fn look(&self) {
        let Some(path) = &self.path else { return };
        let old = self.settings.read().clone();
        let files: Vec<(PathBuf, Stamp)> = old
            .files
            .iter()
            .map(|(path, _)| (path.clone(), stamp(path)))
            .collect();
        if files == old.files {
            return;
        }
        match read(path) {
            Ok(settings) => {
                *self.settings.write() = Arc::new(settings);
                self.known.lock().clear();
                info!(file = %path.display(), "The settings of the web server have changed and are in force.");
            }
            Err(error) => {
                error!(file = %path.display(), error, "The settings of the web server have changed and cannot be used; the old ones stay.");
                let old = &*old;
                let kept = Settings {
                    tls: old.tls.clone(),
                    verifies: old.verifies,
                    users: old.users.clone(),
                    headers: old.headers.clone(),
                    files,
                };
                *self.settings.write() = Arc::new(kept);
            }
        }
    }
}

fn with(headers: &[(HeaderName, HeaderValue)], mut response: Response) -> Response {
    for (name, value) in headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

/// User and password of `Basic …` (RFC 7617).
fn credentials(header: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, text) = header.to_str().ok()?.split_once(' ')?;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .ok()
        .filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some((
        String::from_utf8(decoded[..colon].to_vec()).ok()?,
        decoded[colon + 1..].to_vec(),
    ))
}

impl Settings {
    fn logs_in(&self) -> bool {
        !self.users.is_empty() || self.verifies
    }
}

fn read(path: &Path) -> Result<Settings, String> {
    // Before what they hold: a change meanwhile is seen the next time.
    let mut files = vec![(path.to_owned(), stamp(path))];
    let document = Document::read(path).map_err(|error| error.to_string())?;
    let environment = Environment::default();
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let loader = Loader::new(&document, &environment, folder);
    let settings = read_root(&loader.root(), &mut files);
    let mut settings = loader
        .finish(settings)
        .map_err(|errors| errors.to_string())?;
    settings.files = files;
    Ok(settings)
}

fn read_root(root: &Section<'_>, files: &mut Vec<(PathBuf, Stamp)>) -> Settings {
    let mut settings = Settings::default();
    if let Some(section) = root
        .section("tls_server_config")
        .filter(|section| !section.own_node().is_null())
    {
        (settings.tls, settings.verifies) = read_tls(&section, files);
    }
    if let Some(section) = root
        .section("http_server_config")
        .filter(|section| !section.own_node().is_null())
    {
        section.get::<bool>("http2");
        for (name, value) in section.or("headers", BTreeMap::<String, String>::new()) {
            match (
                HEADERS
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(&name)),
                name.parse(),
                value.parse(),
            ) {
                (true, Ok(name), Ok(value)) => settings.headers.push((name, value)),
                (true, ..) => section.error(
                    "headers",
                    format!("the value of {name:?} cannot be sent"),
                    "use plain text",
                ),
                (false, ..) => section.error(
                    "headers",
                    format!("{name:?} cannot be set"),
                    format!("there is {}", HEADERS.join(", ")),
                ),
            }
        }
        section.finish();
    }
    for (user, hash) in root.or("basic_auth_users", BTreeMap::<String, Secret>::new()) {
        if hash.expose().parse::<bcrypt::HashParts>().is_err() {
            root.error(
                "basic_auth_users",
                format!("what stands beside {user:?} is not a bcrypt hash"),
                "make one with htpasswd -nBC 10 ''",
            );
        }
        settings.users.insert(user, hash);
    }
    root.finish();
    settings
}

fn read_tls(
    section: &Section<'_>,
    files: &mut Vec<(PathBuf, Stamp)>,
) -> (Option<Arc<ServerConfig>>, bool) {
    for key in ["cert_file", "key_file", "client_ca_file"] {
        files.extend(
            section
                .get::<PathBuf>(key)
                .map(|path| (path.clone(), stamp(&path))),
        );
    }
    let (cert, key, ca) = (
        section.secret("cert"),
        section.secret("key"),
        section.secret("client_ca"),
    );
    let word = section.or("client_auth_type", String::new());
    let auth = CLIENT_AUTH
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, auth)| *auth);
    let auth = auth.unwrap_or_else(|| {
        let known: Vec<&str> = CLIENT_AUTH.iter().skip(1).map(|(name, _)| *name).collect();
        section.error(
            "client_auth_type",
            format!("{word:?} is not known"),
            format!("give one of {}", known.join(", ")),
        );
        ClientAuth::No
    });
    let sans: Vec<String> = section.or("client_allowed_sans", Vec::new());
    let versions = TlsVersions::read(section);
    // Our own order of suites is used either way.
    section.get::<bool>("prefer_server_cipher_suites");
    let provider = Arc::new(provider(section));
    if matches!(
        auth,
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify
    ) && ca.is_none()
    {
        section.error(
            "client_auth_type",
            "needs something to verify with",
            "give client_ca_file",
        );
    }
    if auth == ClientAuth::No && ca.is_some() {
        section.error(
            "client_ca_file",
            "is of no use without client_auth_type",
            "give client_auth_type: RequireAndVerifyClientCert",
        );
    }
    if cert.is_none() {
        section.error("cert_file", "is missing", "give cert_file and key_file");
    }
    if key.is_none() {
        section.error("key_file", "is missing", "give cert_file and key_file");
    }
    section.finish();
    let (Some(cert), Some(key)) = (cert, key) else {
        return (None, false);
    };
    let verifies = matches!(
        auth,
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify
    );
    match server_config(
        &cert,
        &key,
        ca.as_ref().filter(|_| verifies),
        auth,
        sans,
        versions,
        provider,
    ) {
        Ok(config) => (Some(Arc::new(config)), verifies),
        Err((key, problem)) => {
            section.error(key, problem, "give PEM files that belong together");
            (None, false)
        }
    }
}

/// The cipher suites and curves that the file names, by Go's names; all where it names none. Those
/// of TLS 1.3 are not to be chosen, as in Go.
fn provider(section: &Section<'_>) -> CryptoProvider {
    let mut provider = ring::default_provider();
    let suites: Vec<String> = section.or("cipher_suites", Vec::new());
    if !suites.is_empty() {
        let name = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite());
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() || suites.contains(&name(suite)));
        if provider
            .cipher_suites
            .iter()
            .all(|suite| suite.tls13().is_some())
        {
            let known: Vec<String> = ring::default_provider()
                .cipher_suites
                .iter()
                .filter(|s| s.tls13().is_none())
                .map(name)
                .collect();
            section.error(
                "cipher_suites",
                "names none that is spoken",
                format!("there is {}", known.join(", ")),
            );
        }
    }
    let curves: Vec<String> = section.or("curve_preferences", Vec::new());
    if !curves.is_empty() {
        let name = |group: rustls::NamedGroup| match group {
            rustls::NamedGroup::secp256r1 => "CurveP256",
            rustls::NamedGroup::secp384r1 => "CurveP384",
            rustls::NamedGroup::X25519 => "X25519",
            _ => "",
        };
        provider
            .kx_groups
            .retain(|group| curves.iter().any(|curve| curve == name(group.name())));
        if provider.kx_groups.is_empty() {
            section.error(
                "curve_preferences",
                "names none that is spoken",
                "there is CurveP256, CurveP384, X25519",
            );
        }
    }
    provider
}

type Problem = (&'static str, String);

fn server_config(
    cert: &Secret,
    key: &Secret,
    ca: Option<&Secret>,
    auth: ClientAuth,
    sans: Vec<String>,
    versions: TlsVersions,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, Problem> {
    let pem = |pem: &Secret| {
        CertificateDer::pem_slice_iter(pem.expose().as_bytes()).collect::<Result<Vec<_>, _>>()
    };
    let chain = pem(cert)
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or(("cert_file", "holds no PEM certificate".to_owned()))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| ("key_file", "holds no PEM key".to_owned()))?;
    let mut roots = RootCertStore::empty();
    for certificate in ca
        .map(pem)
        .transpose()
        .map_err(|_| ("client_ca_file", "is not PEM".to_owned()))?
        .into_iter()
        .flatten()
    {
        roots
            .add(certificate)
            .map_err(|error| ("client_ca_file", format!("cannot be used: {error}")))?;
    }
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions.rustls())
        .map_err(|error| ("cipher_suites", format!("cannot be used: {error}")))?;
    let builder = if auth == ClientAuth::No {
        builder.with_no_client_auth()
    } else {
        let chain = if ca.is_some() {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build();
            Some(verifier.map_err(|error| ("client_ca_file", format!("cannot be used: {error}")))?)
        } else {
            None
        };
        let mandatory = matches!(auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
        builder.with_client_cert_verifier(Arc::new(Clients {
            chain,
            mandatory,
            sans,
            provider,
        }))
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| ("key_file", format!("does not fit cert_file: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What is asked of a client's certificate.
#[derive(Debug)]
struct Clients {
    /// Who must have signed it; nobody where any certificate does.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    mandatory: bool,
    /// `client_allowed_sans`: one of these must be among its names, where there are any.
    sans: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl Clients {
    fn is_allowed(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        let Ok(Some(names)) = certificate.subject_alternative_name() else {
            return false;
        };
        let text = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
                Some((*text).to_owned())
            }
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes)
                    .ok()
                    .map(|bytes| IpAddr::from(bytes).to_string()),
                16 => <[u8; 16]>::try_from(*bytes)
                    .ok()
                    .map(|bytes| IpAddr::from(bytes).to_string()),
                _ => None,
            },
            _ => None,
        };
        names
            .value
            .general_names
            .iter()
            .filter_map(text)
            .any(|name| self.sans.contains(&name))
    }
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain
            .as_ref()
            .map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        if !self.sans.is_empty() && !self.is_allowed(end_entity) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
