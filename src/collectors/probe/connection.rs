//! From a name to an open connection, each step timed: resolve, connect, TLS.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::{Anchors, Followed, HttpError, TlsConfig, anchors, client_config};
use crate::model::Timestamp;
use crate::net;

use super::certificate::Chain;
use super::report::{Failure, Reason, Report, TlsUsed};

/// An open connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Which address family to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// What the resolver names first.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// IPv4 where there is such an address, else IPv6.
    PreferV4,
    /// IPv6 where there is such an address, else IPv4.
    PreferV6,
}

/// How long to wait for the second look at a certificate that was refused.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Opens connections with one TLS configuration.
pub struct Connector {
    tls: Mutex<Arc<Tls>>,
    followed: Arc<Mutex<Followed>>,
    has_files: bool,
    family: Family,
    /// What TLS asks for beside it: `h2` for gRPC.
    protocols: &'static [&'static [u8]],
}

/// A TLS configuration that is ready for use.
struct Tls {
    settings: TlsConfig,
    config: Arc<rustls::ClientConfig>,
    /// Accepts any certificate: only to read one that was refused.
    lenient: Arc<rustls::ClientConfig>,
    /// What is trusted, read when a chain is judged first: a probe that speaks no TLS pays nothing
    /// for it.
    anchors: OnceLock<Option<Anchors>>,
}

impl Tls {
    fn new(settings: &TlsConfig, protocols: &[&[u8]]) -> Result<Self, HttpError> {
        let mut config = client_config(settings)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let lenient = client_config(&TlsConfig {
            insecure_skip_verify: true,
            ..settings.clone()
        })?;
        Ok(Tls {
            settings: settings.clone(),
            config: config.into(),
            lenient: lenient.into(),
            anchors: OnceLock::new(),
        })
    }

    fn chain_end(&self, connection: &rustls::ClientConnection) -> Option<f64> {
        // The settings have made a client already.
        let anchors = self
            .anchors
            .get_or_init(|| anchors(&self.settings).ok().flatten())
            .as_ref()?;
        Some(anchors.chain_end(
            connection.peer_certificates()?,
            Timestamp::now().0.div_euclid(1000),
        )? as f64)
    }

    /// Reads the certificates that were just refused, so that their end is known.
    async fn look_again(
        &self,
        address: SocketAddr,
        name: ServerName<'static>,
        report: &mut Report,
    ) {
        let look = async {
            let stream = TcpStream::connect(address).await?;
            TlsConnector::from(self.lenient.clone())
                .connect(name, stream)
                .await
        };
        if let Ok(Ok(stream)) = tokio::time::timeout(SECOND_LOOK, look).await {
            learn(stream.get_ref().1, report);
        }
    }
}

impl Connector {
    /// Connects with these settings.
    ///
    /// # Errors
    /// When the TLS settings cannot be used.
    pub fn new(
        tls: TlsConfig,
        family: Family,
        protocols: &'static [&'static [u8]],
    ) -> Result<Self, HttpError> {
        let followed = Followed::new(tls.clone());
        let has_files = followed.has_files();
        let tls = Mutex::new(Arc::new(Tls::new(&tls, protocols)?));
        Ok(Connector {
            tls,
            followed: Arc::new(Mutex::new(followed)),
            has_files,
            family,
            protocols,
        })
    }

    /// What its files make of it now.
    async fn tls(&self) -> Arc<Tls> {
        if self.has_files {
            let followed = Arc::clone(&self.followed);
            let protocols = self.protocols;
            let look = move || {
                followed
                    .lock()
                    .look(|settings| Tls::new(settings, protocols))
            };
            let looked = tokio::task::spawn_blocking(look).await;
            if let Ok(Some(renewed)) = looked {
                *self.tls.lock() = Arc::new(renewed);
            }
        }
        Arc::clone(&self.tls.lock())
    }

    /// Resolves and connects, with TLS when `encrypted`.
    pub async fn open(
        &self,
        host: &str,
        port: u16,
        encrypted: bool,
        report: &mut Report,
    ) -> Result<Box<dyn Stream>, Failure> {
        self.open_as(None, host, port, encrypted, report).await
    }

    /// The same, with the name that the certificate must be for, where that is not the host.
    pub async fn open_as(
        &self,
        name: Option<&str>,
        host: &str,
        port: u16,
        encrypted: bool,
        report: &mut Report,
    ) -> Result<Box<dyn Stream>, Failure> {
        let addresses = self.resolve(host, port, report).await?;
        let start = Instant::now();
        let connected = net::connect_any(&addresses).await;
        report.phases.connect += start.elapsed();
        let (stream, address) = connected.map_err(|error| not_connected(&error))?;
        report.ip = Some(address.ip());
        if encrypted {
            self.encrypt(stream, address, name.unwrap_or(host), report)
                .await
        } else {
            Ok(Box::new(stream))
        }
    }

    /// Begins TLS on a connection that is open.
    pub async fn encrypt_on(
        &self,
        stream: Box<dyn Stream>,
        host: &str,
        port: u16,
        report: &mut Report,
    ) -> Result<Box<dyn Stream>, Failure> {
        let address = SocketAddr::new(
            report.ip.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()),
            port,
        );
        self.encrypt(stream, address, host, report).await
    }

    /// The addresses of the wanted family.
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        report: &mut Report,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let start = Instant::now();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = match net::resolve_now(bare).await {
            Ok(found) => found,
            Err(error) => {
                return Err(Failure::new(
                    Reason::Dns,
                    format!("`{bare}` cannot be resolved: {error}"),
                ));
            }
        };
        let took = start.elapsed();
        report.phases.resolve += took;
        report.lookup.get_or_insert(took);
        let has = |is_wanted: fn(&std::net::IpAddr) -> bool| found.iter().any(is_wanted);
        let fits = |address: &SocketAddr| match self.family {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
            Family::PreferV4 => address.is_ipv4() == has(std::net::IpAddr::is_ipv4),
            Family::PreferV6 => address.is_ipv6() == has(std::net::IpAddr::is_ipv6),
        };
        let wanted: Vec<SocketAddr> = found
            .iter()
            .map(|ip| SocketAddr::new(*ip, port))
            .filter(fits)
            .collect();
        let first = wanted.first().ok_or_else(|| {
            Failure::new(
                Reason::Dns,
                format!("`{bare}` has no address of the wanted family"),
            )
        })?;
        report.ip = Some(first.ip());
        Ok(wanted)
    }

    async fn encrypt(
        &self,
        stream: impl Stream + 'static,
        address: SocketAddr,
        host: &str,
        report: &mut Report,
    ) -> Result<Box<dyn Stream>, Failure> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let tls = self.tls().await;
        let name = tls
            .settings
            .server_name
            .clone()
            .unwrap_or_else(|| bare.to_owned());
        let name = ServerName::try_from(name)
            .map_err(|_| Failure::new(Reason::Tls, "the host is not a name that TLS can verify"))?;
        let start = Instant::now();
        let result = TlsConnector::from(tls.config.clone())
            .connect(name.clone(), stream)
            .await;
        report.phases.tls += start.elapsed();
        match result {
            Ok(stream) => {
                learn(stream.get_ref().1, report);
                report.verified = !tls.settings.insecure_skip_verify;
                report.chain_end = tls.chain_end(stream.get_ref().1);
                Ok(Box::new(stream))
            }
            Err(error) => {
                let failure = of_handshake(&error);
                if is_certificate(failure.reason) {
                    report.verified = false;
                    tls.look_again(address, name, report).await;
                }
                Err(failure)
            }
        }
    }
}

fn learn(connection: &rustls::ClientConnection, report: &mut Report) {
    report.chain = connection.peer_certificates().and_then(Chain::read);
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "unknown",
    };
    let cipher = connection
        .negotiated_cipher_suite()
        .map(|suite| format!("{:?}", suite.suite()))
        .unwrap_or_default();
    report.tls = Some(TlsUsed {
        version,
        cipher: cipher.replace("TLS13_", "TLS_"),
    });
}

/// The kernel's reason stands in few variants; the text of another error might not.
fn not_connected(error: &std::io::Error) -> Failure {
    let failure = Failure::new(Reason::Connect, error.to_string());
    match error.kind() {
        std::io::ErrorKind::Other => failure,
        kind => failure.brief_as(kind.to_string()),
    }
}

fn is_certificate(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::CertificateExpired | Reason::CertificateName | Reason::CertificateUntrusted
    )
}

fn of_handshake(error: &std::io::Error) -> Failure {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    let reason = match inner {
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Reason::CertificateExpired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Reason::CertificateName
            }
            _ => Reason::CertificateUntrusted,
        },
        _ => Reason::Tls,
    };
    Failure::new(
        reason,
        inner.map_or_else(|| error.to_string(), ToString::to_string),
    )
}
