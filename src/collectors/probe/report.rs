//! What a probe has found so far. It is filled step by step, so that what was learnt before a
//! failure or the deadline is shown.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Batch, MetricKind};

use super::certificate::Chain;
use super::metrics;

/// What services say of themselves, by number.
pub const SERVING: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Why a probe failed: a closed set, the values of the `reason` label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The name has no address.
    Dns,
    /// No connection.
    Connect,
    /// The deadline passed.
    Timeout,
    /// The handshake failed, but not for a certificate.
    Tls,
    /// A certificate has ended, or does not hold yet.
    CertificateExpired,
    /// The certificate is for another name.
    CertificateName,
    /// The certificate is not trusted.
    CertificateUntrusted,
    /// The answer is not HTTP, or broke off.
    Protocol,
    /// Too many redirects, or one to nowhere.
    Redirect,
    /// A status code that is not wanted.
    Status,
    /// The body matches, or does not match, a pattern.
    Body,
    /// The JSON in the body does not have the wanted value.
    Json,
    /// The body is larger than allowed.
    TooLarge,
    /// A header matches, or does not match, a pattern.
    Header,
    /// Other bytes came than expected.
    Bytes,
    /// DNS records are not as they should be.
    Records,
    /// The kernel does not let us.
    Permission,
    /// A service says that it does not serve.
    Health,
}

impl Reason {
    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Dns => "dns",
            Reason::Connect => "connect",
            Reason::Timeout => "timeout",
            Reason::Tls => "tls",
            Reason::CertificateExpired => "certificate_expired",
            Reason::CertificateName => "certificate_name",
            Reason::CertificateUntrusted => "certificate_untrusted",
            Reason::Protocol => "protocol",
            Reason::Redirect => "redirect",
            Reason::Status => "status",
            Reason::Body => "body",
            Reason::Json => "json",
            Reason::TooLarge => "too_large",
            Reason::Header => "header",
            Reason::Bytes => "bytes",
            Reason::Records => "records",
            Reason::Permission => "permission",
            Reason::Health => "health",
        }
    }
}

/// A failed probe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.as_str())]
pub struct Failure {
    /// The kind.
    pub reason: Reason,
    /// One line, without secrets.
    pub message: String,
    brief: Option<String>,
}

/// Most characters of a text that labels a series.
const MAX_BRIEF: usize = 160;

impl Failure {
    /// A failure of this kind.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Failure {
            reason,
            message: message.into(),
            brief: None,
        }
    }

    /// The same with a text for the label, where the message would do in few variants.
    pub fn brief_as(mut self, brief: impl Into<String>) -> Self {
        let mut brief: String = brief.into();
        if let Some((end, _)) = brief.char_indices().nth(MAX_BRIEF) {
            brief.truncate(end);
            brief.push('…');
        }
        self.brief = Some(brief);
        self
    }

    /// The failure for an alert's text. It labels a series, so it holds neither times nor what the
    /// target chooses at will.
    pub fn brief(&self) -> &str {
        let of_reason = match self.reason {
            Reason::Dns => "the name cannot be resolved",
            Reason::Connect => "no connection",
            Reason::Timeout => "no answer in time",
            Reason::Tls => "the TLS handshake failed",
            Reason::CertificateExpired => "the certificate has expired or is not valid yet",
            Reason::CertificateName => "the certificate is for another name",
            Reason::CertificateUntrusted => "the certificate is not trusted",
            Reason::Protocol => "the answer is not HTTP, or broke off",
            Reason::Redirect => "redirected too often, or to nowhere",
            Reason::Status => "an unwanted status",
            Reason::Body => "the body is not as it should be",
            Reason::Json => "the JSON is not as it should be",
            Reason::TooLarge => "the body is too large",
            Reason::Header => "a header is not as it should be",
            Reason::Bytes => "other bytes came than expected",
            Reason::Records => "the records are not as they should be",
            Reason::Permission => "nightbell may not do this",
            Reason::Health => "the service does not serve",
        };
        self.brief.as_deref().unwrap_or(of_reason)
    }
}

/// Time in each phase.
#[derive(Default, Clone, Copy)]
pub struct Phases {
    /// Finding the address.
    pub resolve: Duration,
    /// Opening the connection.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// From the request to the first bytes of the answer.
    pub processing: Duration,
    /// From there to the end of the body.
    pub transfer: Duration,
}

/// What HTTP tells.
pub struct Answer {
    /// Status code, 0 without an answer.
    pub status: u16,
    /// `Content-Length`, -1 when there is none.
    pub declared: f64,
    /// Bytes read.
    pub length: usize,
    /// 1.0, 1.1.
    pub version: f64,
    /// `Last-Modified`.
    pub modified: Option<f64>,
    /// Redirects followed.
    pub redirects: u32,
    /// Whether the last connection used TLS.
    pub ssl: bool,
}

/// TLS as spoken.
pub struct TlsUsed {
    /// `TLS 1.3`.
    pub version: &'static str,
    /// `TLS_AES_128_GCM_SHA256`.
    pub cipher: String,
}

/// Everything found so far.
#[derive(Default)]
pub struct Report {
    /// Time in each phase.
    pub phases: Phases,
    /// Time that the first resolution took.
    pub lookup: Option<Duration>,
    /// The address.
    pub ip: Option<IpAddr>,
    /// Whether a text is read and compared over TCP.
    pub reads_text: bool,
    /// Labels of what lines over TCP said.
    pub expected: Vec<Vec<(String, String)>>,
    /// Present for DNS probes.
    pub dns: Option<DnsFound>,
    /// Present for ICMP probes.
    pub icmp: Option<IcmpFound>,
    /// Present for gRPC probes.
    pub grpc: Option<GrpcFound>,
    /// Present for HTTP probes.
    pub answer: Option<Answer>,
    /// TLS, when the handshake was done.
    pub tls: Option<TlsUsed>,
    /// The certificates that the server showed.
    pub chain: Option<Chain>,
    /// Whether they were verified.
    pub verified: bool,
    /// When the best chain ends that verifies, as Unix time in seconds.
    pub chain_end: Option<f64>,
}

impl Report {
    /// Pushes what is known, then the result.
    pub fn push(&self, failure: Option<&Failure>, url: &str, batch: &mut Batch) {
        let flag = |value: bool| f64::from(u8::from(value));
        batch.push(
            &metrics::DNS,
            &[],
            self.lookup.unwrap_or_default().as_secs_f64(),
        );
        batch.push(
            &metrics::IP_PROTOCOL,
            &[],
            self.ip
                .map_or(0.0, |ip| if ip.is_ipv4() { 4.0 } else { 6.0 }),
        );
        if let Some(ip) = self.ip {
            batch.push(&metrics::IP_HASH, &[], f64::from(hash(ip)));
        }
        let failed_for = |reason| flag(failure.is_some_and(|f| f.reason == reason));
        if let Some(answer) = &self.answer {
            let phases = self.phases;
            for (phase, time) in [
                ("resolve", phases.resolve),
                ("connect", phases.connect),
                ("tls", phases.tls),
                ("processing", phases.processing),
                ("transfer", phases.transfer),
            ] {
                batch.push(&metrics::PHASE, &[("phase", phase)], time.as_secs_f64());
            }
            batch.push(&metrics::STATUS, &[], f64::from(answer.status));
            batch.push(&metrics::CONTENT_LENGTH, &[], answer.declared);
            batch.push(&metrics::BODY_LENGTH, &[], answer.length as f64);
            batch.push(&metrics::REDIRECTS, &[], f64::from(answer.redirects));
            batch.push(&metrics::SSL, &[], flag(answer.ssl));
            batch.push(&metrics::VERSION, &[], answer.version);
            if let Some(modified) = answer.modified {
                batch.push(&metrics::LAST_MODIFIED, &[], modified);
            }
            batch.push(
                &metrics::REGEX,
                &[],
                failed_for(Reason::Body).max(failed_for(Reason::Header)),
            );
            batch.push(&metrics::JSON, &[], failed_for(Reason::Json));
        }
        if self.reads_text {
            batch.push(&metrics::REGEX, &[], failed_for(Reason::Body));
            batch.push(&metrics::BYTES, &[], failed_for(Reason::Bytes));
        }
        for labels in &self.expected {
            let labels: Vec<(&str, &str)> = labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            batch.push_named(
                "probe_expect_info",
                MetricKind::Gauge,
                "What lines of the dialogue said, always 1.",
                &labels,
                1.0,
            );
        }
        if let Some(dns) = &self.dns {
            for (phase, time) in [
                ("resolve", self.phases.resolve),
                ("connect", dns.connect),
                ("request", dns.request),
            ] {
                batch.push(&metrics::DNS_PHASE, &[("phase", phase)], time.as_secs_f64());
            }
            for (desc, count) in [
                &metrics::DNS_ANSWERS,
                &metrics::DNS_AUTHORITY,
                &metrics::DNS_ADDITIONAL,
            ]
            .into_iter()
            .zip(dns.records)
            {
                batch.push(desc, &[], count as f64);
            }
            batch.push(&metrics::DNS_SUCCEEDED, &[], flag(dns.succeeded));
            if let Some(serial) = dns.serial {
                batch.push(&metrics::DNS_SERIAL, &[], f64::from(serial));
            }
        }
        if let Some(grpc) = &self.grpc {
            for (phase, time) in [("resolve", self.phases.resolve), ("check", grpc.check)] {
                batch.push(
                    &metrics::GRPC_PHASE,
                    &[("phase", phase)],
                    time.as_secs_f64(),
                );
            }
            batch.push(&metrics::GRPC_SSL, &[], flag(grpc.ssl));
            batch.push(&metrics::GRPC_STATUS, &[], f64::from(grpc.code));
            for (number, name) in SERVING.into_iter().enumerate() {
                batch.push(
                    &metrics::GRPC_SERVING,
                    &[("serving_status", name)],
                    flag(grpc.serving == Some(number)),
                );
            }
        }
        if let Some(icmp) = &self.icmp {
            for (phase, time) in [
                ("resolve", self.phases.resolve),
                ("setup", icmp.setup),
                ("rtt", icmp.rtt),
            ] {
                batch.push(
                    &metrics::ICMP_PHASE,
                    &[("phase", phase)],
                    time.as_secs_f64(),
                );
            }
            if let Some(limit) = icmp.hop_limit {
                batch.push(&metrics::HOP_LIMIT, &[], f64::from(limit));
            }
        }
        if let Some(tls) = &self.tls {
            batch.push(&metrics::TLS_VERSION, &[("version", tls.version)], 1.0);
            batch.push(&metrics::CIPHER, &[("cipher", &tls.cipher)], 1.0);
        }
        if let Some(chain) = &self.chain {
            batch.push(&metrics::EARLIEST, &[], chain.earliest);
            batch.push(&metrics::TRUSTED, &[], flag(self.verified));
            if let Some(end) = self.chain_end.filter(|_| self.verified) {
                batch.push(&metrics::CHAIN, &[], end);
            }
            let labels = [
                ("fingerprint_sha256", chain.fingerprint.as_str()),
                ("issuer", &chain.issuer),
                ("serialnumber", &chain.serial),
                ("subject", &chain.subject),
                ("subjectalternative", &chain.names),
            ];
            batch.push(&metrics::LEAF, &labels, 1.0);
        }
        if let Some(failure) = failure {
            let labels = [
                ("reason", failure.reason.as_str()),
                ("url", url),
                ("message", failure.brief()),
            ];
            batch.push(&metrics::FAILURE, &labels, 1.0);
        }
        batch.push(&metrics::SUCCESS, &[], flag(failure.is_none()));
    }
}

/// FNV-1a, 32 bits, as blackbox_exporter hashes an address.
fn hash(ip: IpAddr) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    match ip {
        IpAddr::V4(ip) => ip.octets().iter().fold(0x811c_9dc5, step),
        IpAddr::V6(ip) => ip.octets().iter().fold(0x811c_9dc5, step),
    }
}

/// What a probe by DNS found.
#[derive(Default)]
pub struct DnsFound {
    /// Opening the socket or the connection.
    pub connect: Duration,
    /// From the question to the answer.
    pub request: Duration,
    /// Number of records in each section.
    pub records: [usize; 3],
    /// Whether an answer came.
    pub succeeded: bool,
    /// The serial number, where SOA was asked for: 0 without one.
    pub serial: Option<u32>,
}

/// What a probe by ICMP found.
#[derive(Default)]
pub struct IcmpFound {
    /// Opening the socket.
    pub setup: Duration,
    /// From the request to the reply.
    pub rtt: Duration,
    /// The reply's hop limit.
    pub hop_limit: Option<u8>,
}

/// What a probe by gRPC found.
pub struct GrpcFound {
    /// From the connection's beginning to the answer.
    pub check: Duration,
    /// Whether TLS was spoken.
    pub ssl: bool,
    /// The status of the call.
    pub code: u32,
    /// What the service says of itself, by number.
    pub serving: Option<usize>,
}
