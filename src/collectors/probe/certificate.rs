//! What the certificates say that a server showed (RFC 5280): when they end, for whom they are, who
//! signed them.

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{OidEntry, OidRegistry};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use crate::model::text::hex;

/// The certificates of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// When the first of all of them ends, as Unix time in seconds.
    pub earliest: f64,
    /// SHA-256 of the server's own, in hexadecimal.
    pub fingerprint: String,
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Its number, in hexadecimal.
    pub serial: String,
    /// The host names that it is for, with commas.
    pub names: String,
}

impl Chain {
    /// Reads the certificates in the order in which the server showed them; `None` when the first
    /// is not a certificate.
    pub fn read(certificates: &[CertificateDer<'_>]) -> Option<Self> {
        let parsed: Vec<X509Certificate<'_>> = certificates
            .iter()
            .filter_map(|der| X509Certificate::from_der(der).ok())
            .map(|(_, certificate)| certificate)
            .collect();
        let leaf = parsed.first()?;
        let end = |c: &X509Certificate<'_>| c.validity().not_after.timestamp() as f64;
        let names = leaf
            .subject_alternative_name()
            .ok()
            .flatten()
            .map(|extension| {
                let dns = |name: &GeneralName<'_>| match name {
                    GeneralName::DNSName(name) => Some((*name).to_owned()),
                    _ => None,
                };
                extension
                    .value
                    .general_names
                    .iter()
                    .filter_map(dns)
                    .collect::<Vec<_>>()
                    .join(",")
            });
        Some(Chain {
            earliest: parsed.iter().map(end).fold(f64::INFINITY, f64::min),
            fingerprint: certificates
                .first()
                .map(|der| hex(&Sha256::digest(der)))
                .unwrap_or_default(),
            subject: distinguished(leaf.subject()),
            issuer: distinguished(leaf.issuer()),
            serial: serial(leaf.raw_serial()),
            names: names.unwrap_or_default(),
        })
    }
}

/// A number as whole bytes, without those that say only that it is not negative.
fn serial(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    hex(&bytes[zeros..])
}

/// A name as RFC 2253 writes it: `CN=example.org,O=Example`.
fn distinguished(name: &X509Name<'_>) -> String {
    let registry = OidRegistry::default().with_x509();
    let mut parts: Vec<String> = Vec::new();
    for attribute in name.iter_attributes() {
        let kind = registry
            .get(attribute.attr_type())
            .map(OidEntry::sn)
            .map_or_else(|| attribute.attr_type().to_id_string(), short);
        parts.push(format!("{kind}={}", attribute.as_str().unwrap_or_default()));
    }
    parts.reverse();
    parts.join(",")
}

fn short(name: &str) -> String {
    match name {
        "commonName" => "CN",
        "countryName" => "C",
        "localityName" => "L",
        "stateOrProvinceName" => "ST",
        "organizationName" => "O",
        "organizationalUnit" | "organizationalUnitName" => "OU",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn a_serial_number_is_written_in_whole_bytes_as_blackbox_exporter_writes_it() {
        assert_eq!(serial(&[0x00, 0x0f, 0x15, 0xd0]), "0f15d0");
        assert_eq!(serial(&[0xf1, 0x5d]), "f15d");
    }

    /// The labels and the time that blackbox_exporter shows for the same certificate.
    #[test]
    fn a_certificate_reads_as_blackbox_exporter_reads_it() {
        let pem = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/collectors/probe/leaf.pem"
        ));
        let golden = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/collectors/probe/https.prom"
        ));
        let chain = Chain::read(&[CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")])
            .expect("a certificate");
        let labels = format!(
            r#"probe_ssl_last_chain_info{{fingerprint_sha256="{}",issuer="{}",serialnumber="{}",subject="{}",subjectalternative="{}"}} 1"#,
            chain.fingerprint, chain.issuer, chain.serial, chain.subject, chain.names
        );
        assert!(golden.lines().any(|line| line == labels), "{labels}");
        let expiry = golden
            .lines()
            .find_map(|line| line.strip_prefix("probe_ssl_earliest_cert_expiry "))
            .expect("an expiry");
        assert_eq!(chain.earliest, expiry.parse::<f64>().expect("a number"));
    }
}
