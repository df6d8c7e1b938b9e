//! Figures of the standard rules that a configuration sets by name: `rules: {thresholds: {memory:
//! {warning: 80%, critical: off}}}`.
//!
//! Nothing is marked in the rule files: the figure of a rule is the constant that its expression is
//! compared with ([`figure`]), and the annotation `threshold` says it in words ([`Unit`]), so that
//! both follow what is set ([`apply()`]). [`FIGURES`] says what each is called.

mod apply;
mod figure;
mod setting;
mod unit;

pub use apply::apply;
pub use figure::{Comparison, comparisons};
pub use setting::{Setting, Severity, Thresholds};
pub use unit::Unit;

/// A figure with a name.
#[derive(Debug)]
pub struct Figure {
    /// What it is called in a configuration.
    pub name: &'static str,
    /// How it is written.
    pub unit: Unit,
    /// What is compared with it.
    pub meaning: &'static str,
    /// The alerts that compare it, the mildest first.
    pub alerts: &'static [&'static str],
}

const fn figure_of(
    name: &'static str,
    unit: Unit,
    meaning: &'static str,
    alerts: &'static [&'static str],
) -> Figure {
    Figure {
        name,
        unit,
        meaning,
        alerts,
    }
}

/// Every figure that has a name, by subject. The default of each stands in its rule.
pub const FIGURES: &[Figure] = &[
    // The host
    figure_of(
        "memory",
        Unit::Share,
        "memory of the host in use",
        &["HostMemoryHigh", "HostMemoryCritical"],
    ),
    figure_of(
        "cpu",
        Unit::Share,
        "time that the CPUs are busy",
        &["HostCpuHigh"],
    ),
    figure_of(
        "disk_free",
        Unit::Share,
        "free space of a file system",
        &["HostDiskSpaceLow", "HostDiskSpaceCritical"],
    ),
    figure_of(
        "inodes_free",
        Unit::Share,
        "free inodes of a file system",
        &["HostInodesLow"],
    ),
    figure_of(
        "disk_busy",
        Unit::Share,
        "time that a disk is busy",
        &["HostDiskBusy"],
    ),
    figure_of(
        "load",
        Unit::Number,
        "15-minute load for each CPU",
        &["HostLoadHigh"],
    ),
    figure_of(
        "file_descriptors",
        Unit::Share,
        "file descriptors of the host in use",
        &["HostFileDescriptorsLow"],
    ),
    figure_of(
        "connection_table",
        Unit::Share,
        "connection tracking table in use",
        &["HostConntrackFull"],
    ),
    figure_of(
        "cpu_forecast",
        Unit::Share,
        "time that the CPUs will be busy in 7 days",
        &["HostCpuForecastHigh"],
    ),
    figure_of(
        "memory_forecast",
        Unit::Share,
        "memory that will be in use in 7 days",
        &["HostMemoryForecastHigh"],
    ),
    figure_of(
        "container_memory",
        Unit::Share,
        "memory of a container against its limit",
        &["ContainerMemoryHigh", "ContainerMemoryCritical"],
    ),
    // The application
    figure_of(
        "error_rate",
        Unit::Share,
        "requests that fail (5xx)",
        &["AppErrorRateRaised", "AppErrorRateHigh"],
    ),
    figure_of(
        "response_time_p95",
        Unit::Seconds,
        "95th percentile of the response time",
        &["AppResponseSlow", "AppResponseVerySlow"],
    ),
    figure_of(
        "beyond_buckets",
        Unit::Share,
        "requests that are slower than the last bucket of their histogram",
        &["AppResponseBeyondBuckets"],
    ),
    figure_of(
        "response_time_mean",
        Unit::Seconds,
        "mean response time; of profiles",
        &["LLMChatMeanResponseSlow", "MultiAgentMeanResponseSlow"],
    ),
    figure_of(
        "requests_per_minute",
        Unit::Number,
        "requests a minute, at least",
        &["AppRequestsFew"],
    ),
    figure_of(
        "endpoint_time",
        Unit::Seconds,
        "time that a health check takes",
        &["EndpointSlow"],
    ),
    figure_of(
        "certificate",
        Unit::Seconds,
        "time left of a certificate",
        &["CertificateExpiresSoon", "CertificateExpiresVerySoon"],
    ),
    figure_of(
        "heap",
        Unit::Share,
        "Node's heap in use; of the profile llmchat",
        &["LLMChatHeapFull"],
    ),
    figure_of(
        "monthly_response_time",
        Unit::Seconds,
        "mean response time of 30 days; of the profile llmchat",
        &["LLMChatMonthlyMeanSlow"],
    ),
    figure_of(
        "monthly_error_rate",
        Unit::Share,
        "requests of 30 days that fail (4xx, 5xx); of the profile llmchat",
        &["LLMChatMonthlyErrorRateHigh"],
    ),
    figure_of(
        "monthly_memory",
        Unit::Share,
        "mean memory in use of 30 days; of the profile llmchat",
        &["LLMChatMonthlyMemoryHigh"],
    ),
    // Logs
    figure_of(
        "log_errors",
        Unit::Number,
        "lines of level error or critical",
        &["LogErrors", "LogErrorsMany"],
    ),
    figure_of(
        "log_error_rate",
        Unit::Share,
        "such lines for each request of the log",
        &["LogErrorRateHigh"],
    ),
    figure_of(
        "log_response_time",
        Unit::Seconds,
        "mean of the log's field request_duration",
        &["LogResponseSlow"],
    ),
    figure_of(
        "log_silence",
        Unit::Seconds,
        "time since the last line of a log",
        &["LogSilent"],
    ),
    figure_of(
        "login_failures",
        Unit::Number,
        "logins that failed",
        &["LoginFailuresMany"],
    ),
    // Databases
    figure_of(
        "postgres_connections",
        Unit::Number,
        "connections of a PostgreSQL server",
        &["PostgresConnectionsMany"],
    ),
    figure_of(
        "postgres_connections_used",
        Unit::Share,
        "connections against max_connections",
        &["PostgresConnectionsNearLimit"],
    ),
    figure_of(
        "postgres_query_time",
        Unit::Seconds,
        "time of a trivial query",
        &["PostgresQuerySlow"],
    ),
    figure_of(
        "postgres_transaction_time",
        Unit::Seconds,
        "age of the oldest transaction",
        &["PostgresLongTransaction"],
    ),
    figure_of(
        "postgres_cache_hits",
        Unit::Share,
        "block reads that the cache answers",
        &["PostgresCacheHitLow"],
    ),
    figure_of(
        "postgres_rollbacks",
        Unit::Share,
        "transactions that are rolled back",
        &["PostgresRollbacksMany"],
    ),
    figure_of(
        "postgres_replication_lag",
        Unit::Seconds,
        "lag of a replica",
        &["PostgresReplicationLag"],
    ),
    figure_of(
        "mysql_connections_used",
        Unit::Share,
        "connections against max_connections",
        &["MysqlConnectionsNearLimit"],
    ),
    figure_of(
        "mysql_replication_lag",
        Unit::Seconds,
        "lag of a replica",
        &["MysqlReplicationLag"],
    ),
    figure_of(
        "redis_memory",
        Unit::Share,
        "memory of Redis against maxmemory",
        &["RedisMemoryHigh"],
    ),
    figure_of(
        "redis_hit_rate",
        Unit::Share,
        "look-ups that hit",
        &["RedisHitRateLow"],
    ),
    figure_of(
        "sqlite_wal_size",
        Unit::Bytes,
        "size of SQLite's write-ahead log",
        &["SqliteWalLarge"],
    ),
    figure_of(
        "vector_query_time",
        Unit::Seconds,
        "time of the canary's similarity query",
        &["VectorQuerySlow"],
    ),
    figure_of(
        "object_storage_free",
        Unit::Share,
        "free space of MinIO; of the profile aigc",
        &["ObjectStorageLow"],
    ),
    // LLM providers
    figure_of(
        "llm_balance",
        Unit::Number,
        "balance of an account, in its currency",
        &["LLMBalanceLow"],
    ),
    figure_of(
        "llm_allowance",
        Unit::Share,
        "allowance of a rate limit that is left",
        &["LLMRateLimitNear"],
    ),
    figure_of(
        "llm_first_token_time",
        Unit::Seconds,
        "time to the first token",
        &["LLMFirstTokenSlow"],
    ),
    figure_of(
        "llm_answer_time",
        Unit::Seconds,
        "time of a short answer",
        &["LLMSlow"],
    ),
];
