//! TLS for outgoing connections from a `tls_config` block: one store of the system's roots for all
//! clients, read when the first handshake needs it, so that a process that speaks no TLS pays
//! nothing for it.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::chain::Anchors;
use super::config::TlsConfig;
use super::error::{HttpError, HttpErrorKind};

/// A client configuration for these settings; errs on unusable certificates, keys or names.
pub fn client_config(tls: &TlsConfig) -> Result<ClientConfig, HttpError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        trust: match (&tls.ca, tls.insecure_skip_verify) {
            (_, true) => Trust::Anyone,
            (Some(pem), false) => {
                let certificates = certificates_of(pem.expose())?;
                let verifier = verifier_of(roots_of(&certificates)?.into())
                    .map_err(|_| invalid("ca holds no certificate"))?;
                Trust::These(verifier, certificates)
            }
            (None, false) => Trust::System,
        },
        server_name: match &tls.server_name {
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| invalid("server_name is not a host name"))?,
            ),
            None => None,
        },
        provider: provider.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(tls.versions.rustls())
        .map_err(|_| invalid("min_version is above max_version"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let pair = || invalid("cert and key are not a PEM pair");
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(cert.expose().as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| pair())?;
            builder
                .with_client_auth_cert(chain.map_err(|_| pair())?, key)
                .map_err(|_| pair())
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn invalid(what: &str) -> HttpError {
    HttpError::new(HttpErrorKind::Request, format!("tls_config: {what}"))
}

fn certificates_of(pem: &str) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| invalid("ca is not PEM"))
}

fn roots_of(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .map_err(|_| invalid("ca holds something that is not a certificate"))?;
    }
    Ok(roots)
}

/// What these settings trust, to judge a chain by; `None` when they verify nothing. Errs when `ca`
/// is not PEM.
pub fn anchors(tls: &TlsConfig) -> Result<Option<Anchors>, HttpError> {
    match (&tls.ca, tls.insecure_skip_verify) {
        (_, true) => Ok(None),
        (Some(pem), false) => {
            let certificates = certificates_of(pem.expose())?;
            Ok(Some(Anchors::new(certificates.clone(), certificates)))
        }
        (None, false) => Ok(Some(roots().clone())),
    }
}

/// The system's roots, read once for the process.
fn roots() -> &'static Anchors {
    static ROOTS: OnceLock<Anchors> = OnceLock::new();
    ROOTS.get_or_init(|| Anchors::new(rustls_native_certs::load_native_certs().certs, Vec::new()))
}

fn verifier_of(roots: Arc<RootCertStore>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    WebPkiServerVerifier::builder_with_provider(roots, Arc::new(ring::default_provider()))
        .build()
        .map_err(|_| Error::General("no trusted root certificates are installed".into()))
}

/// The verifier with the system's roots, made once for the process.
fn system() -> Result<&'static WebPkiServerVerifier, Error> {
    static SYSTEM: OnceLock<Result<Arc<WebPkiServerVerifier>, Error>> = OnceLock::new();
    let made = SYSTEM.get_or_init(|| verifier_of(roots().store()));
    made.as_deref().map_err(Clone::clone)
}

/// Errs outside the time for which a certificate was issued.
fn verify_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let (validity, now) = (
        certificate.validity(),
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
    );
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

#[derive(Debug)]
enum Trust {
    System,
    /// The certificates of `ca`, as roots, and as they are.
    These(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>),
    /// `insecure_skip_verify`. The handshake's signature is not checked either: a machine in the
    /// middle could sign with a key of his own, and a certificate too old in form to be read for
    /// its key (X.509 version 1) would be refused.
    Anyone,
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    server_name: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = self.server_name.as_ref().unwrap_or(server_name);
        let verifier = match &self.trust {
            Trust::System => system()?,
            // A self-signed server certificate is often its own `ca`. Go accepts that; here too it
            // is trusted as it stands, for its names.
            Trust::These(_, certificates)
                if certificates.contains(&end_entity.clone().into_owned()) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                verify_validity(end_entity, now)?;
                return Ok(ServerCertVerified::assertion());
            }
            Trust::These(verifier, _) => verifier,
            Trust::Anyone => return Ok(ServerCertVerified::assertion()),
        };
        verifier.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if matches!(self.trust, Trust::Anyone) {
            return Ok(HandshakeSignatureValid::assertion());
        }
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
        if matches!(self.trust, Trust::Anyone) {
            return Ok(HandshakeSignatureValid::assertion());
        }
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
