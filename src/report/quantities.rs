//! What reports are made of: a table of quantities, each a number for an hour and a series, by an
//! expression that is evaluated at the hour's end.
//!
//! The same table feeds the rollups, so that an hour means the same however old it is. Every
//! expression looks back over one hour and no further, and gives nothing where nothing was
//! recorded.

/// A number for each hour.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// Its name, the same in the rollups for good.
    pub name: &'static str,
    /// The expression at the end of the hour.
    pub expression: &'static str,
    /// Most series of it.
    pub most: usize,
}

/// Most series of a quantity unless it says otherwise.
const SERIES: usize = 100;

macro_rules! quantities {
    ($($constant:ident $name:literal $most:expr, $expression:expr;)*) => {
        $(#[doc = concat!("The quantity `", $name, "`.")]
        pub const $constant: Quantity = Quantity { name: $name, expression: $expression, most: $most };)*
        /// Every quantity.
        pub const QUANTITIES: &[Quantity] = &[$($constant),*];
    };
}

/// The three usual names of a histogram of response times.
macro_rules! durations {
    ($suffix:literal, $by:literal) => {
        concat!(
            "sum by (",
            $by,
            ") (increase(http_request_duration_seconds_",
            $suffix,
            "[1h]))",
            " or sum by (",
            $by,
            ") (increase(llmchat_http_request_duration_seconds_",
            $suffix,
            "[1h]))",
            " or sum by (",
            $by,
            ") (increase(api_request_duration_seconds_",
            $suffix,
            "[1h]))"
        )
    };
}

/// The usual names of the counter of requests, by the first digit of the status.
macro_rules! answers {
    ($class:literal) => {
        concat!(
            "sum by (job, instance) (increase(http_requests_total{status=~\"",
            $class,
            "\"}[1h]))",
            " or sum by (job, instance) (increase(http_requests_total{code=~\"",
            $class,
            "\"}[1h]))",
            " or sum by (job, instance) (increase(http_requests_total{status_code=~\"",
            $class,
            "\"}[1h]))",
            " or sum by (job, instance) (increase(llmchat_http_requests_total{status_code=~\"",
            $class,
            "\"}[1h]))"
        )
    };
}

macro_rules! over_hour {
    ($function:literal, $expression:expr) => {
        concat!($function, "_over_time((", $expression, ")[1h:5m])")
    };
}

macro_rules! cpu {
    () => {
        "1 - avg by (job, instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m]))"
    };
}

macro_rules! memory {
    () => {
        "1 - max by (job, instance) (node_memory_MemAvailable_bytes) / max by (job, instance) (node_memory_MemTotal_bytes)"
    };
}

macro_rules! disk {
    () => {
        "max by (job, instance, mountpoint) (1 - node_filesystem_avail_bytes{fstype!~\"tmpfs|squashfs|iso9660|ramfs|devtmpfs|hugetlbfs|autofs|nsfs\"} / (node_filesystem_size_bytes > 0) and on (job, instance, device, mountpoint) node_filesystem_readonly == 0)"
    };
}

macro_rules! connections {
    () => {
        "sum by (job, instance) (pg_stat_activity_count) or sum by (job, instance) (mysql_global_status_threads_connected)"
    };
}

macro_rules! pool {
    () => {
        "sum by (job, instance) (pg_stat_activity_count) / max by (job, instance) (pg_settings_max_connections) or max by (job, instance) (mysql_global_status_threads_connected) / max by (job, instance) (mysql_global_variables_max_connections)"
    };
}

macro_rules! top_statements {
    () => {
        "topk(20, sum by (job, instance, datname, queryid) (increase(pg_stat_statements_seconds_total[1h])) > 0)"
    };
}

/// Calls of models, without the tools and agents around them.
macro_rules! calls {
    ($by:literal, $metric:literal) => {
        concat!(
            "sum by (job, application, provider, model",
            $by,
            ") (increase(",
            $metric,
            "{operation!~\"execute_tool|invoke_agent\"}[1h]))"
        )
    };
}

quantities! {
    // A place of five minutes counts when a sample is in it.
    WATCHED "watched" 500, "max by (job, instance) (count_over_time(max_over_time(up[5m])[1h:5m])) / 12";
    ANSWERED "answered" 500, "max by (job, instance) (count_over_time((max_over_time(up[5m]) == 1)[1h:5m])) / 12";
    REQUESTS "requests" SERIES, "sum by (job, instance) (increase(http_requests_total[1h])) or sum by (job, instance) (increase(llmchat_http_requests_total[1h]))";
    CLIENT_ERRORS "requests_4xx" SERIES, answers!("4..");
    SERVER_ERRORS "requests_5xx" SERIES, answers!("5..");
    DURATION_SUM "duration_sum" SERIES, durations!("sum", "job, instance");
    DURATION_COUNT "duration_count" SERIES, durations!("count", "job, instance");
    DURATION_BUCKETS "duration_buckets" 1000, durations!("bucket", "job, instance, le");
    CPU "cpu_mean" SERIES, over_hour!("avg", cpu!());
    CPU_PEAK "cpu_peak" SERIES, over_hour!("max", cpu!());
    MEMORY "memory_mean" SERIES, over_hour!("avg", memory!());
    MEMORY_PEAK "memory_peak" SERIES, over_hour!("max", memory!());
    DISK "disk_mean" 200, over_hour!("avg", disk!());
    DISK_PEAK "disk_peak" 200, over_hour!("max", disk!());
    CONNECTIONS "connections_mean" SERIES, over_hour!("avg", connections!());
    CONNECTIONS_PEAK "connections_peak" SERIES, over_hour!("max", connections!());
    POOL "pool_mean" SERIES, over_hour!("avg", pool!());
    POOL_PEAK "pool_peak" SERIES, over_hour!("max", pool!());
    REDIS_MEMORY "redis_memory_mean" SERIES, over_hour!("avg", "max by (job, instance) (redis_memory_used_bytes / (redis_memory_max_bytes > 0))");
    BALANCE "balance" SERIES, over_hour!("avg", "min by (job, instance, currency) (llm_account_balance{kind=\"total\"})");
    LLM_CALLS "llm_calls" 300, calls!("", "gen_ai_call_duration_seconds_count");
    LLM_SECONDS "llm_seconds" 300, calls!("", "gen_ai_call_duration_seconds_sum");
    LLM_BUCKETS "llm_buckets" 1500, calls!(", le", "gen_ai_call_duration_seconds_bucket");
    LLM_ERRORS "llm_errors" 300, calls!("", "gen_ai_errors_total");
    LLM_TOKENS "llm_tokens" 1000, calls!(", type", "gen_ai_tokens_total");
    LLM_COST "llm_cost" 300, calls!(", currency", "gen_ai_cost_total");
    LLM_UNPRICED "llm_unpriced" SERIES, "sum by (job, instance) (increase(gen_ai_unpriced_tokens_total[1h])) > 0";
    STATEMENT_SECONDS "statement_seconds" SERIES, "sum by (job, instance) (increase(pg_stat_statements_seconds_total[1h]))";
    STATEMENT_CALLS "statement_calls" SERIES, "sum by (job, instance) (increase(pg_stat_statements_calls_total[1h]))";
    TOP_SECONDS "statement_top_seconds" SERIES, top_statements!();
    TOP_CALLS "statement_top_calls" SERIES, concat!("sum by (job, instance, datname, queryid) (increase(pg_stat_statements_calls_total[1h])) and ", top_statements!());
    ALERT_SECONDS "alert_seconds" 300, "60 * sum by (alertname, severity) (count_over_time(ALERTS{alertstate=\"firing\"}[1h:1m]))";
    ALERT_BEGINS "alert_begins" 300, "sum by (alertname, severity) (count_over_time((ALERTS{alertstate=\"firing\"} unless ALERTS{alertstate=\"firing\"} offset 1m)[1h:1m]))";
    LOG_LINES "log_lines" 200, "sum by (job, instance, level) (increase(log_lines_total[1h]))";
    LOG_TYPES "log_errors" 300, "sum by (job, instance, type) (increase(log_errors_total[1h])) > 0";
    LOG_REQUESTS "log_requests" SERIES, "sum by (job, instance) (increase(log_matches_total{pattern=\"requests\"}[1h]))";
    LOG_SECONDS "log_field_sum" SERIES, "sum by (job, instance, field) (increase(log_field_seconds_sum[1h]))";
    LOG_COUNT "log_field_count" SERIES, "sum by (job, instance, field) (increase(log_field_seconds_count[1h]))";
    LOG_SLOW "log_slow" SERIES, "sum by (job, instance) (increase(log_slow_lines_total[1h]))";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantity_is_an_expression_of_its_own_name() {
        let mut names: Vec<&str> = QUANTITIES.iter().map(|quantity| quantity.name).collect();
        for quantity in QUANTITIES {
            let parsed = crate::promql::parse(quantity.expression);
            assert!(parsed.is_ok(), "{}: {parsed:?}", quantity.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), QUANTITIES.len());
    }
}
