//! Opening a connection: TCP, TLS or a socket file, then login. The caller sets the deadline.
//!
//! The stream is opened here and not by the crate `redis`, because there it could not be metered, and TLS not be given a `server_name`.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::http::TlsConfig;

use super::client::{Connection, Reply, Stream};
use super::config::{Config, Place};

/// Connects and logs in.
pub async fn open(config: &Config, tls: Option<&Arc<ClientConfig>>) -> io::Result<Connection> {
    let stream: Box<dyn Stream> = match (&config.place, tls) {
        (Place::Unix(path), _) => Box::new(UnixStream::connect(path).await?),
        (Place::Tcp(host, port), None) => Box::new(tcp(host, *port).await?),
        (Place::Tcp(host, port), Some(tls)) => {
            let name = config.tls.as_ref().and_then(|t| t.server_name.clone()).unwrap_or_else(|| host.clone());
            let name = ServerName::try_from(name).map_err(|_| other("the host is no valid server name"))?;
            Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, tcp(host, *port).await?).await?)
        }
    };
    let mut connection = Connection::new(stream).await?;
    if !config.password.is_empty() {
        let password = config.password.expose();
        let login: &[&str] = match &config.user {
            Some(user) => &["AUTH", user, password],
            None => &["AUTH", password],
        };
        if let [Reply::Error(error), ..] = connection.call(&[login]).await?.as_slice() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, config.password.redact(error)));
        }
    }
    // A server that knows no names, or does not let us have one, is watched all the same.
    let _name = connection.call(&[&["CLIENT", "SETNAME", "nightbell"]]).await?;
    Ok(connection)
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn other(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem.to_owned())
}

/// The TLS settings: the system's certificates or those of `ca`, and a client certificate.
pub fn tls(config: &TlsConfig) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let invalid = |e: rustls::Error| other(&format!("tls: {e}"));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().map_err(invalid)?;
    let builder = if config.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        builder.with_root_certificates(roots(config)?)
    };
    let client = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| other("tls: key is not PEM"))?;
            builder.with_client_auth_cert(certificates(cert.expose())?, key).map_err(invalid)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(client))
}

fn certificates(pem: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| other("tls: a certificate is not PEM"))
}

fn roots(config: &TlsConfig) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match &config.ca {
        Some(pem) => {
            for certificate in certificates(pem.expose())? {
                store.add(certificate).map_err(|e| other(&format!("tls: ca: {e}")))?;
            }
        }
        None => drop(store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(store)
}

/// For `insecure_skip_verify`: any certificate will do, but the handshake must still be signed with it.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
