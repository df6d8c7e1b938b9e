//! What the binary carries: the rule files of `rules/`, as they were at build time, and which of
//! their alerts explain which.

use crate::alerting::mute::inhibit::InhibitRule;

/// A rule file inside the binary.
pub struct ShippedRules {
    /// The collector, or the application's profile, that it is for.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

macro_rules! shipped {
    ($folder:literal, $($name:literal),*) => {
        &[$(ShippedRules { name: $name, text: include_str!(concat!("../../rules/", $folder, $name, ".yml")) }),*]
    };
}

/// Rules that are loaded unless the configuration says otherwise.
pub const RULES: &[ShippedRules] = shipped!(
    "",
    "access_log",
    "app_metrics",
    "backup",
    "container",
    "directory",
    "file_integrity",
    "gen_ai",
    "host",
    "job",
    "json_api",
    "llm_provider",
    "llm_proxy",
    "llm_server",
    "log_file",
    "maintenance",
    "mysql",
    "nightbell",
    "object_storage",
    "otlp",
    "postgres",
    "probe",
    "redis",
    "restore_test",
    "retrieval",
    "sql",
    "sqlite",
    "supervisor",
    "updates",
    "vector_store"
);

/// Rules that an application needs beside the standard ones, loaded when `rules.profiles` names it.
pub const PROFILES: &[ShippedRules] = shipped!("profiles/", "aigc", "llmchat", "multi-agent");

/// What a profile sets, for each application: figures of the rules, and the rows of its demands.
pub const PROFILE_SETTINGS: &[ShippedRules] = shipped!(
    "thresholds/",
    "agent-v3",
    "aigc",
    "intent",
    "llmchat",
    "multi-agent"
);

/// A cause among the alerts of the shipped rules, and what it explains.
pub struct ShippedInhibition {
    /// Matchers of the cause.
    pub cause: &'static str,
    /// Matchers of what is muted while the cause fires.
    pub hides: &'static str,
    /// Labels that both have, with the same value; `host` is the label, or `instance` without its
    /// port.
    pub equal: &'static [&'static str],
}

const TARGET: &[&str] = &["job", "instance"];

const fn hides(
    cause: &'static str,
    hides: &'static str,
    equal: &'static [&'static str],
) -> ShippedInhibition {
    ShippedInhibition {
        cause,
        hides,
        equal,
    }
}

/// What the shipped rules know of each other: who is notified that a database is down need not hear
/// that it is slow.
pub const INHIBITIONS: &[ShippedInhibition] = &[
    // A host that cannot be measured and services on it that cannot be reached: the host it is.
    // What can still be reached is notified.
    hides(
        r#"alertname="TargetDown", job=~"host|node|node[-_]?exporter""#,
        r#"alertname=~"TargetDown|MysqlDown|PostgresDown|RedisDown|VectorStoreDown|LLMDown|LLMServerDown|EndpointDown|JsonApiDown", job!~"host|node|node[-_]?exporter""#,
        &["host"],
    ),
    hides(
        r#"alertname="TargetDown""#,
        r#"alertname!="TargetDown""#,
        TARGET,
    ),
    hides(
        r#"alertname="PostgresDown""#,
        r#"alertname=~"Postgres.+|SqlQuery.+", alertname!="PostgresDown""#,
        TARGET,
    ),
    hides(
        r#"alertname="MysqlDown""#,
        r#"alertname=~"Mysql.+|SqlQuery.+", alertname!="MysqlDown""#,
        TARGET,
    ),
    hides(
        r#"alertname="RedisDown""#,
        r#"alertname=~"Redis.+", alertname!="RedisDown""#,
        TARGET,
    ),
    hides(
        r#"alertname="SqliteDown""#,
        r#"alertname=~"Sqlite.+|SqlQuery.+", alertname!="SqliteDown""#,
        TARGET,
    ),
    hides(
        r#"alertname="VectorStoreDown""#,
        r#"alertname=~"Vector.+", alertname!="VectorStoreDown""#,
        TARGET,
    ),
    hides(
        r#"alertname="LLMServerDown""#,
        r#"alertname=~"LLMServer.+", alertname!="LLMServerDown""#,
        TARGET,
    ),
    hides(
        r#"alertname="VectorStoreNotReady""#,
        r#"alertname=~"VectorQuerySlow|VectorCanaryWrong""#,
        TARGET,
    ),
    // A certificate that has expired may be why an endpoint is down: that is notified.
    hides(
        r#"alertname="EndpointDown""#,
        r#"alertname="EndpointSlow""#,
        TARGET,
    ),
    hides(
        r#"alertname="LLMDown""#,
        r#"alertname=~"LLMUnhealthy|LLMRateLimited|LLMRateLimitNear|LLMFirstTokenSlow|LLMSlow|LLMStreamStalled|LLMOverloaded|LLMCompletionFails|LLMModelMissing|LLMNoRecentSuccess""#,
        TARGET,
    ),
    hides(
        r#"alertname=~"LLMAuthFailed|LLMQuotaExhausted|LLMAccountUnavailable""#,
        r#"alertname=~"LLMUnhealthy|LLMCompletionFails|LLMModelMissing|LLMNoRecentSuccess""#,
        TARGET,
    ),
    hides(
        r#"alertname="LLMUnhealthy""#,
        r#"alertname=~"LLMFirstTokenSlow|LLMSlow|LLMStreamStalled|LLMCompletionFails|LLMModelMissing|LLMNoRecentSuccess""#,
        TARGET,
    ),
    hides(
        r#"alertname=~"GenAiQuotaExhausted|GenAiRetryStorm""#,
        r#"alertname="GenAiErrorsMany""#,
        &["job", "instance", "application", "provider"],
    ),
    hides(
        r#"alertname="LLMBudgetUsed""#,
        r#"alertname=~"LLMBudgetNear|LLMBudgetBurnsFast|LLMBudgetBurns""#,
        TARGET,
    ),
    hides(
        r#"alertname="LLMBudgetBurnsFast""#,
        r#"alertname="LLMBudgetBurns""#,
        TARGET,
    ),
    // The same, but worse.
    hides(
        r#"alertname="HostDiskSpaceCritical""#,
        r#"alertname=~"HostDiskSpaceLow|HostDiskFillsUp""#,
        &["job", "instance", "mountpoint"],
    ),
    hides(
        r#"alertname="HostMemoryCritical""#,
        r#"alertname=~"HostMemoryHigh|HostMemoryForecastHigh""#,
        TARGET,
    ),
    hides(
        r#"alertname="HostMemoryHigh""#,
        r#"alertname="HostMemoryForecastHigh""#,
        TARGET,
    ),
    hides(
        r#"alertname="ContainerMemoryCritical""#,
        r#"alertname="ContainerMemoryHigh""#,
        &["job", "instance", "name"],
    ),
    hides(
        r#"alertname="ContainerGone""#,
        r#"alertname="ContainerUnhealthy""#,
        &["job", "instance", "name"],
    ),
    hides(
        r#"alertname="HostCpuHigh""#,
        r#"alertname="HostCpuForecastHigh""#,
        TARGET,
    ),
    hides(
        r#"alertname="PostgresConnectionsNearLimit""#,
        r#"alertname="PostgresConnectionsMany""#,
        TARGET,
    ),
    hides(
        r#"alertname="AppErrorRateHigh""#,
        r#"alertname="AppErrorRateRaised""#,
        TARGET,
    ),
    hides(
        r#"alertname="AppResponseVerySlow""#,
        r#"alertname="AppResponseSlow""#,
        TARGET,
    ),
    hides(
        r#"alertname=~"AppResponseVerySlow|AppResponseSlow""#,
        r#"alertname="AppResponseBeyondBuckets""#,
        TARGET,
    ),
    hides(
        r#"alertname="CertificateExpiresVerySoon""#,
        r#"alertname="CertificateExpiresSoon""#,
        TARGET,
    ),
    hides(
        r#"alertname="MysqlReplicationBroken""#,
        r#"alertname="MysqlReplicationLag""#,
        TARGET,
    ),
    hides(
        r#"alertname="MysqlConnectionsRefused""#,
        r#"alertname="MysqlConnectionsNearLimit""#,
        TARGET,
    ),
    hides(
        r#"alertname="PostgresReplicaAlone""#,
        r#"alertname="PostgresReplicationLag""#,
        TARGET,
    ),
    hides(
        r#"alertname="RestoreTestFailed""#,
        r#"alertname="RestoreTestOverdue""#,
        TARGET,
    ),
    hides(
        r#"alertname="LogErrorsMany""#,
        r#"alertname="LogErrors""#,
        TARGET,
    ),
    hides(
        r#"alertname="LogUnreadable""#,
        r#"alertname=~"LogSilent|JobOverdue""#,
        TARGET,
    ),
    hides(
        r#"alertname="SqliteWriteLockHeld""#,
        r#"alertname="SqliteBusy""#,
        TARGET,
    ),
];

/// The rules of [`INHIBITIONS`]. A test reads every one; should one be none, more is notified, not
/// less.
pub fn inhibit_rules() -> impl Iterator<Item = InhibitRule> {
    INHIBITIONS
        .iter()
        .filter_map(|one| InhibitRule::shipped(one.cause, one.hides, one.equal).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_file_of_the_project_is_in_the_binary() {
        for (folder, shipped) in [
            ("rules", RULES),
            ("rules/profiles", PROFILES),
            ("rules/thresholds", PROFILE_SETTINGS),
        ] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            let mut names: Vec<String> = std::fs::read_dir(path)
                .expect("the folder can be read")
                .filter_map(|entry| {
                    let path = entry.expect("an entry").path();
                    path.is_file().then(|| {
                        path.file_stem()
                            .expect("a name")
                            .to_string_lossy()
                            .into_owned()
                    })
                })
                .collect();
            names.sort();
            assert_eq!(shipped.iter().map(|s| s.name).collect::<Vec<_>>(), names);
        }
    }
}
