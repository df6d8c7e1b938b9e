//! The metrics of a probe, under blackbox_exporter's names.

use crate::model::{MetricDesc, MetricKind};

const fn gauge(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDesc {
    MetricDesc {
        name,
        kind: MetricKind::Gauge,
        unit,
        help,
        labels,
        source: "the probe",
    }
}

/// 1 when everything was as it should be.
pub const SUCCESS: MetricDesc = gauge("probe_success", "", "1 when the probe succeeded.", &[]);
/// How long it took.
pub const DURATION: MetricDesc = gauge(
    "probe_duration_seconds",
    "seconds",
    "Time that the whole probe took.",
    &[],
);
/// Why it failed.
pub const FAILURE: MetricDesc = gauge(
    "probe_failure_info",
    "",
    "Why the probe failed and of what URL, always 1; absent when it succeeded.",
    &["reason", "url", "message"],
);
/// The deadline.
pub const TIMEOUT: MetricDesc = gauge(
    "probe_timeout_seconds",
    "seconds",
    "Time that the probe may take.",
    &[],
);
/// Resolving.
pub const DNS: MetricDesc = gauge(
    "probe_dns_lookup_time_seconds",
    "seconds",
    "Time that resolving the first name took.",
    &[],
);
/// 4 or 6.
pub const IP_PROTOCOL: MetricDesc = gauge(
    "probe_ip_protocol",
    "",
    "4 or 6: the address family used; 0 when there was none.",
    &[],
);
/// A fingerprint of the address.
pub const IP_HASH: MetricDesc = gauge(
    "probe_ip_addr_hash",
    "",
    "Hash of the address, to see that it changed.",
    &[],
);
/// Phases of HTTP.
pub const PHASE: MetricDesc = gauge(
    "probe_http_duration_seconds",
    "seconds",
    "Time in each phase, of all redirects together.",
    &["phase"],
);
/// The status.
pub const STATUS: MetricDesc = gauge(
    "probe_http_status_code",
    "",
    "Status code of the last answer, 0 without one.",
    &[],
);
/// Redirects.
pub const REDIRECTS: MetricDesc = gauge("probe_http_redirects", "", "Redirects followed.", &[]);
/// Declared length.
pub const CONTENT_LENGTH: MetricDesc = gauge(
    "probe_http_content_length",
    "",
    "Length of the body as declared, in bytes; -1 when it is not.",
    &[],
);
/// Real length.
pub const BODY_LENGTH: MetricDesc = gauge(
    "probe_http_uncompressed_body_length",
    "",
    "Length of the body as read, in bytes.",
    &[],
);
/// Version.
pub const VERSION: MetricDesc = gauge("probe_http_version", "", "HTTP version of the answer.", &[]);
/// Whether TLS was used.
pub const SSL: MetricDesc = gauge(
    "probe_http_ssl",
    "",
    "1 when the last redirect used TLS.",
    &[],
);
/// Last-Modified.
pub const LAST_MODIFIED: MetricDesc = gauge(
    "probe_http_last_modified_timestamp_seconds",
    "seconds",
    "The Last-Modified header, as Unix time.",
    &[],
);
/// The body's text was wrong.
pub const REGEX: MetricDesc = gauge(
    "probe_failed_due_to_regex",
    "",
    "1 when the probe failed for a pattern of the body.",
    &[],
);
/// The body's JSON was wrong.
pub const JSON: MetricDesc = gauge(
    "probe_failed_due_to_json",
    "",
    "1 when the probe failed for a value in the body's JSON.",
    &[],
);
/// The certificate that ends first.
pub const EARLIEST: MetricDesc = gauge(
    "probe_ssl_earliest_cert_expiry",
    "seconds",
    "When the first of the certificates that the server showed ends, as Unix time; known even if it is not trusted.",
    &[],
);
/// The end of the chain.
pub const CHAIN: MetricDesc = gauge(
    "probe_ssl_last_chain_expiry_timestamp_seconds",
    "seconds",
    "When the chain ends that verifies, the best of several, as Unix time; absent when none was verified.",
    &[],
);
/// The server's certificate.
pub const LEAF: MetricDesc = gauge(
    "probe_ssl_last_chain_info",
    "",
    "The server's certificate, always 1.",
    &[
        "fingerprint_sha256",
        "issuer",
        "serialnumber",
        "subject",
        "subjectalternative",
    ],
);
/// Whether the chain is valid.
pub const TRUSTED: MetricDesc = gauge(
    "probe_ssl_chain_valid",
    "",
    "1 when the certificates were verified and are trusted, else 0.",
    &[],
);
/// TLS version.
pub const TLS_VERSION: MetricDesc = gauge(
    "probe_tls_version_info",
    "",
    "TLS version spoken, always 1.",
    &["version"],
);
/// TLS cipher.
pub const CIPHER: MetricDesc = gauge(
    "probe_tls_cipher_info",
    "",
    "TLS cipher suite, always 1.",
    &["cipher"],
);
/// The bytes were wrong.
pub const BYTES: MetricDesc = gauge(
    "probe_failed_due_to_bytes",
    "",
    "1 when the probe failed for bytes that were expected.",
    &[],
);
/// Phases of DNS.
pub const DNS_PHASE: MetricDesc = gauge(
    "probe_dns_duration_seconds",
    "seconds",
    "Time in each phase of a DNS question.",
    &["phase"],
);
/// Records of the answer.
pub const DNS_ANSWERS: MetricDesc = gauge(
    "probe_dns_answer_rrs",
    "",
    "Records in the answer section.",
    &[],
);
/// Records of the authority.
pub const DNS_AUTHORITY: MetricDesc = gauge(
    "probe_dns_authority_rrs",
    "",
    "Records in the authority section.",
    &[],
);
/// Further records.
pub const DNS_ADDITIONAL: MetricDesc = gauge(
    "probe_dns_additional_rrs",
    "",
    "Records in the additional section.",
    &[],
);
/// Whether an answer came.
pub const DNS_SUCCEEDED: MetricDesc = gauge(
    "probe_dns_query_succeeded",
    "",
    "1 when an answer came, whatever it says.",
    &[],
);
/// The zone's serial number.
pub const DNS_SERIAL: MetricDesc = gauge(
    "probe_dns_serial",
    "",
    "Serial number of the zone, where SOA was asked for.",
    &[],
);
/// Phases of ICMP.
pub const ICMP_PHASE: MetricDesc = gauge(
    "probe_icmp_duration_seconds",
    "seconds",
    "Time in each phase of an echo.",
    &["phase"],
);
/// The reply's hop limit.
pub const HOP_LIMIT: MetricDesc = gauge(
    "probe_icmp_reply_hop_limit",
    "",
    "Hop limit of the reply (TTL with IPv4).",
    &[],
);
/// Phases of gRPC.
pub const GRPC_PHASE: MetricDesc = gauge(
    "probe_grpc_duration_seconds",
    "seconds",
    "Time in each phase of a health check.",
    &["phase"],
);
/// Whether TLS was used.
pub const GRPC_SSL: MetricDesc = gauge(
    "probe_grpc_ssl",
    "",
    "1 when the health check used TLS.",
    &[],
);
/// The call's status.
pub const GRPC_STATUS: MetricDesc = gauge(
    "probe_grpc_status_code",
    "",
    "gRPC status of the health check: 4 at the deadline, 14 without an answer.",
    &[],
);
/// What the service says.
pub const GRPC_SERVING: MetricDesc = gauge(
    "probe_grpc_healthcheck_response",
    "",
    "1 for what the service says of itself, 0 for the others.",
    &["serving_status"],
);

/// All of them.
pub const METRICS: &[MetricDesc] = &[
    SUCCESS,
    DURATION,
    FAILURE,
    TIMEOUT,
    DNS,
    IP_PROTOCOL,
    IP_HASH,
    PHASE,
    STATUS,
    REDIRECTS,
    CONTENT_LENGTH,
    BODY_LENGTH,
    VERSION,
    SSL,
    LAST_MODIFIED,
    REGEX,
    JSON,
    EARLIEST,
    CHAIN,
    LEAF,
    TRUSTED,
    TLS_VERSION,
    CIPHER,
    BYTES,
    DNS_PHASE,
    DNS_ANSWERS,
    DNS_AUTHORITY,
    DNS_ADDITIONAL,
    DNS_SUCCEEDED,
    DNS_SERIAL,
    ICMP_PHASE,
    HOP_LIMIT,
    GRPC_PHASE,
    GRPC_SSL,
    GRPC_STATUS,
    GRPC_SERVING,
];
