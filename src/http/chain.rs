//! Until when the certificates of a server lead to a trusted root. A server may send more than one
//! chain, and certificates of none: what counts is the chain that verifies, and of several the one
//! that ends last, as blackbox_exporter judges it.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// Most certificates of a server that are looked at; the server's own is the first.
const MAX_SENT: usize = 16;

/// Trusted roots, and when each of them ends.
#[derive(Clone, Debug)]
pub struct Anchors {
    store: Arc<RootCertStore>,
    /// Unix time in seconds, in the order of the store.
    ends: Arc<[i64]>,
    /// Server certificates that are trusted as they stand.
    own: Arc<[CertificateDer<'static>]>,
}

/// When a certificate begins and ends, as Unix time in seconds.
fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some((
        certificate.validity().not_before.timestamp(),
        certificate.validity().not_after.timestamp(),
    ))
}

/// Whose certificate it is that signed this one, as it stands in the certificate.
fn issuer(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.issuer().as_raw().to_vec())
}

impl Anchors {
    /// Takes those that can be a root, and `own`, which are trusted as they stand.
    pub fn new(
        certificates: Vec<CertificateDer<'static>>,
        own: Vec<CertificateDer<'static>>,
    ) -> Self {
        let (mut store, mut ends) = (RootCertStore::empty(), Vec::new());
        for certificate in certificates {
            let end = validity(&certificate).map_or(i64::MAX, |(_, end)| end);
            if store.add(certificate).is_ok() {
                ends.push(end);
            }
        }
        Anchors {
            store: store.into(),
            ends: ends.into(),
            own: own.into(),
        }
    }

    /// The roots, for a verifier.
    pub(super) fn store(&self) -> Arc<RootCertStore> {
        self.store.clone()
    }

    /// When the best chain ends that leads from the first of `sent` to a root and holds at `now`,
    /// both as Unix time in seconds: a chain ends with the first of its certificates. A root that
    /// has ended counts only where no other will do. `None` when no chain verifies.
    pub fn chain_end(&self, sent: &[CertificateDer<'_>], now: i64) -> Option<i64> {
        let (leaf, more) = sent.split_first()?;
        let leaf_end = validity(leaf)
            .filter(|(from, until)| (*from..=*until).contains(&now))?
            .1;
        if self.own.iter().any(|own| own == leaf) {
            return Some(leaf_end);
        }
        let holding = |certificate: &&CertificateDer<'_>| {
            validity(certificate).is_some_and(|(from, to)| (from..=to).contains(&now))
        };
        let more: Vec<CertificateDer<'_>> = more
            .iter()
            .take(MAX_SENT)
            .filter(holding)
            .cloned()
            .collect();
        let wanted: Vec<Vec<u8>> = std::iter::once(leaf)
            .chain(&more)
            .filter_map(issuer)
            .collect();
        // The name of a root stands there without the head of its sequence.
        let anchors: Vec<(&TrustAnchor<'static>, i64)> =
            (self.store.roots.iter().zip(self.ends.iter().copied()))
                .filter(|(anchor, _)| {
                    wanted
                        .iter()
                        .any(|name| name.ends_with(anchor.subject.as_ref()))
                })
                .collect();
        let ends = more
            .iter()
            .filter_map(validity)
            .map(|(_, end)| end)
            .chain(anchors.iter().map(|(_, end)| *end));
        let mut ends: Vec<i64> = ends
            .chain([leaf_end])
            .filter(|end| (now..=leaf_end).contains(end))
            .collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.dedup();
        let verifies = |at: i64, roots: &[TrustAnchor<'static>]| verifies(leaf, &more, roots, at);
        let lasting = |at: i64| {
            anchors
                .iter()
                .filter(|(_, end)| *end >= at)
                .map(|(anchor, _)| (*anchor).clone())
                .collect::<Vec<_>>()
        };
        let all = || {
            anchors
                .iter()
                .map(|(anchor, _)| (*anchor).clone())
                .collect::<Vec<_>>()
        };
        // The last instant at which a chain still holds is the end of its first certificate that
        // ends.
        ends.iter()
            .copied()
            .find(|at| verifies(*at, &lasting(*at)))
            .or_else(|| ends.iter().copied().find(|at| verifies(*at, &all())))
    }
}

fn verifies(
    leaf: &CertificateDer<'_>,
    more: &[CertificateDer<'_>],
    roots: &[TrustAnchor<'static>],
    at: i64,
) -> bool {
    let (Ok(leaf), Ok(at)) = (EndEntityCert::try_from(leaf), u64::try_from(at)) else {
        return false;
    };
    let algorithms = ring::default_provider()
        .signature_verification_algorithms
        .all;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    leaf.verify_for_usage(
        algorithms,
        roots,
        more,
        at,
        KeyUsage::server_auth(),
        None,
        None,
    )
    .is_ok()
}
