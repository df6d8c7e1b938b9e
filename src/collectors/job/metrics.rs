//! Every metric of the collector; what is pushed has names of its own.

use crate::model::MetricKind::{Counter, Gauge};

metrics! {
    LAST_SUCCESS "job_last_success_timestamp_seconds" Gauge "seconds" &[], "When a run last ended well, Unix time.", "file, log, report, push";
    LAST_FAILURE "job_last_failure_timestamp_seconds" Gauge "seconds" &[], "When a run last failed, Unix time.", "log, report";
    LAST_RUN "job_last_run_timestamp_seconds" Gauge "seconds" &[], "When a run last ended, Unix time.", "file, log, report, push";
    LAST_RUN_SUCCESS "job_last_run_success" Gauge "" &[], "1 when the last run ended well, 0 when it failed.", "file, log, report, push";
    LAST_DURATION "job_last_duration_seconds" Gauge "seconds" &[], "How long the last run took.", "log, report";
    LAST_EXIT_CODE "job_last_exit_code" Gauge "" &[], "Exit status of the last run; 128 and the number of the signal that ended it.", "log, report";
    RUNS "job_runs_total" Counter "" &["result"], "Runs by result: success, failed, timeout, lost (its process has gone without a word), skipped (another one was under way).", "file, log, report, push";
    RUNNING "job_running" Gauge "" &[], "Runs under way.", "report";
    RUNNING_SINCE "job_running_since_timestamp_seconds" Gauge "seconds" &[], "When the oldest run under way began, Unix time.", "report";
    OVERLAPS "job_overlaps_total" Counter "" &[], "Runs that began while another one was under way.", "report";
    OVERDUE "job_overdue" Gauge "" &[], "1 when a run that the schedule asks for is not over by its time and grace.", "configuration";
    DUE "job_next_due_timestamp_seconds" Gauge "seconds" &[], "By when the next run must have ended well, grace included, Unix time.", "configuration";
    MISSED "job_missed_runs" Gauge "" &[], "Times of the schedule that have passed, grace included, since the last success; 100 at most.", "configuration";
    MAX_DURATION "job_max_duration_seconds" Gauge "seconds" &[], "How long a run may take (max_duration).", "configuration";
    FILE_READABLE "job_file_readable" Gauge "" &[], "1 when the file, or one that fits the pattern, is there.", "stat";
    PUSHED_AT "push_time_seconds" Gauge "seconds" &["job"], "Last Unix time when changing this group in the Pushgateway succeeded.", "push";
    FAILED_AT "push_failure_time_seconds" Gauge "seconds" &["job"], "Last Unix time when changing this group in the Pushgateway failed.", "push";
    PUSH_GROUPS "job_push_groups" Gauge "" &[], "Groups of pushed metrics.", "nightbell";
    PUSH_REFUSED "job_push_refused_total" Counter "" &[], "Pushes refused since the start, for a mistake or because there was no room.", "nightbell";
}
