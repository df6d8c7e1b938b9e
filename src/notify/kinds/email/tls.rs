//! `tls_config` for SMTP.

use lettre::transport::smtp::client::{Certificate, CertificateStore, Identity, TlsParameters};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::http::TlsConfig;

/// Parameters for one connection; errs with what is unusable. Made anew each time: mails are rare,
/// root certificates are large.
///
/// With `pinned` any certificate of the right name passes: the caller compares it with those of
/// `ca`.
pub(super) fn parameters(
    config: &TlsConfig,
    host: &str,
    pinned: bool,
) -> Result<TlsParameters, &'static str> {
    let mut builder = TlsParameters::builder(
        config
            .server_name
            .clone()
            .unwrap_or_else(|| host.to_owned()),
    )
    .dangerous_accept_invalid_certs(config.insecure_skip_verify || pinned)
    .dangerous_accept_invalid_hostnames(config.insecure_skip_verify);
    if let Some(ca) = &config.ca {
        let certificate = Certificate::from_pem(ca.expose().as_bytes())
            .map_err(|_| "tls_config: ca is not PEM")?;
        builder = builder
            .certificate_store(CertificateStore::None)
            .add_root_certificate(certificate);
    }
    if let (Some(cert), Some(key)) = (&config.cert, &config.key) {
        // lettre takes the certificate's DER bytes, whatever its parameter is called.
        let der = CertificateDer::from_pem_slice(cert.expose().as_bytes())
            .map_err(|_| "tls_config: cert is not PEM")?;
        let identity = Identity::from_pem(&der, key.expose().as_bytes())
            .map_err(|_| "tls_config: key is not PEM")?;
        builder = builder.identify_with(identity);
    }
    builder
        .build_rustls()
        .map_err(|_| "tls_config: cert and key do not fit")
}

/// Whether a server's certificate is itself one of those that are trusted, as one that signs itself
/// is.
pub(super) fn is_trusted_itself(config: &TlsConfig, certificate: &[u8]) -> bool {
    let Some(ca) = &config.ca else { return false };
    CertificateDer::pem_slice_iter(ca.expose().as_bytes())
        .flatten()
        .any(|trusted| trusted.as_ref() == certificate)
}
