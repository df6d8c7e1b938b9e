//! The daily check: each thing that somebody looks at in the morning is one line with a mark, a
//! value, a limit and a hint.
//!
//! The limits are those of the standard rules, so that the check and the alerts agree.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value as Json, json};

use super::words::{number, percent, span};
use crate::model::Language;
use crate::model::{Labels, Timestamp};

/// Stands in an expression for how far the check looks back: an hour, a day with `--daily`.
const WINDOW: &str = "WINDOW";
/// Most lines about one subject; those beyond are counted in one more.
const MAX_LINES: usize = 50;

/// What is asked: a name, and the expression.
pub const QUESTIONS: &[(&str, &str)] = &[
    ("up", "up"),
    ("why", "nightbell_target_failure_info"),
    ("probe", "probe_success"),
    ("probe_why", "probe_failure_info"),
    (
        "disk",
        r#"1 - node_filesystem_avail_bytes{fstype!~"tmpfs|squashfs|iso9660|ramfs|devtmpfs|hugetlbfs|autofs|nsfs"} / node_filesystem_size_bytes > 0 and on (instance, job, device, mountpoint) node_filesystem_readonly == 0"#,
    ),
    (
        "memory",
        "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
    ),
    (
        "cpu",
        r#"1 - avg by (job, instance) (rate(node_cpu_seconds_total{mode="idle"}[5m]))"#,
    ),
    (
        "log_errors",
        r#"sum by (job, instance) (increase(log_lines_total{level=~"error|critical"}[WINDOW])) or 0 * log_readable"#,
    ),
    ("log_readable", "log_readable"),
    ("backup_due", "backup_next_due_timestamp_seconds - time()"),
    (
        "backup_age",
        "time() - backup_last_success_timestamp_seconds",
    ),
    ("backup_valid", "backup_valid"),
    ("backup_why", "backup_invalid_info"),
    (
        "certificate",
        "(probe_ssl_last_chain_expiry_timestamp_seconds or on (job, instance) probe_ssl_earliest_cert_expiry) - time()",
    ),
    ("job_overdue", "job_overdue"),
    ("job_success", "job_last_run_success"),
    ("job_age", "time() - job_last_success_timestamp_seconds"),
    ("task_overdue", "nightbell_maintenance_task_overdue"),
    (
        "task_due",
        "nightbell_maintenance_task_due_timestamp_seconds - time()",
    ),
    ("canary", "vectorstore_canary_self_match"),
    ("retrieval", "retrieval_hit_ratio"),
    ("llm_server", "llm_server_ready"),
    (
        "dead",
        "sum(increase(nightbell_notifications_dead_total[WINDOW]))",
    ),
    (
        "fired",
        r#"sum by (alertname, severity) (count_over_time(ALERTS{alertstate="firing"}[WINDOW:1m]))"#,
    ),
];

/// The expression of a question, looking back an hour or a day.
pub fn expression(question: &str, daily: bool) -> String {
    question.replace(WINDOW, if daily { "24h" } else { "1h" })
}

/// The answer to a question: a value for each series, or why there is none.
pub type Answer = Result<Vec<(Labels, f64)>, String>;

/// An alert that fires.
#[derive(Clone, Debug)]
pub struct Firing {
    /// Its labels.
    pub labels: Labels,
    /// What it says, in the language of the check.
    pub summary: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Whether somebody has silenced it, or another alert explains it.
    pub muted: bool,
}

/// How something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mark {
    /// Not watched, or not to be known now.
    Unknown,
    /// As it ought to be.
    Good,
    /// Somebody should look at it.
    Look,
    /// Unhealthy.
    Bad,
}

impl Mark {
    /// The mark as it is printed.
    pub fn sign(self) -> &'static str {
        match self {
            Mark::Unknown => "-",
            Mark::Good => "✓",
            Mark::Look => "!",
            Mark::Bad => "✗",
        }
    }

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Mark::Unknown => "unknown",
            Mark::Good => "good",
            Mark::Look => "look",
            Mark::Bad => "bad",
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Check {
    /// How it is.
    pub mark: Mark,
    /// What is looked at, the same in every language: `disk`, `memory`, …
    pub subject: &'static str,
    /// Which one, in words.
    pub name: String,
    /// How it is, in words.
    pub value: String,
    /// From where on it is too much; may be empty.
    pub limit: String,
    /// What to do, where something is to be done.
    pub hint: String,
}

impl Check {
    /// The line as JSON.
    pub fn json(&self) -> Json {
        json!({
            "mark": self.mark.as_str(), "subject": self.subject, "name": self.name, "value": self.value, "limit": self.limit, "hint": self.hint,
        })
    }
}

/// The exit status of them all: 0, 1 for something to look at, 2 for unhealthy.
pub fn status(checks: &[Check]) -> u8 {
    match checks.iter().map(|check| check.mark).max() {
        Some(Mark::Bad) => 2,
        Some(Mark::Look) => 1,
        _ => 0,
    }
}

/// What is known.
pub struct Facts<'a> {
    /// The answers to [`QUESTIONS`], by name.
    pub answers: &'a HashMap<&'static str, Answer>,
    /// The alerts that fire; `None` where nobody judges.
    pub alerts: Option<&'a [Firing]>,
    /// Whether it looks back a day.
    pub daily: bool,
    /// The time of the check.
    pub now: Timestamp,
    /// In which language it is.
    pub language: Language,
}

impl Facts<'_> {
    /// Every line, subject by subject.
    pub fn checks(&self) -> Vec<Check> {
        let subjects = [
            self.failed_questions(),
            self.targets(),
            self.alerts(),
            self.usage(
                "disk",
                self.pick("disk", "磁盘"),
                0.80,
                0.90,
                self.pick("free space, or enlarge the disk", "清理或扩容磁盘"),
            ),
            self.usage(
                "memory",
                self.pick("memory", "内存"),
                0.85,
                0.95,
                self.pick(
                    "see `top`; restart what leaks",
                    "查看 top，重启内存泄漏的进程",
                ),
            ),
            self.usage(
                "cpu",
                self.pick("CPU", "CPU"),
                0.80,
                f64::INFINITY,
                self.pick("see `top`", "查看 top"),
            ),
            self.logs(),
            self.backups(),
            self.certificates(),
            self.jobs(),
            self.tasks(),
            self.searching(),
            self.notifications(),
            self.fired(),
        ];
        subjects
            .into_iter()
            .flat_map(|lines| self.bounded(lines))
            .collect()
    }

    /// The gravest first, and no more than a page of them.
    fn bounded(&self, mut lines: Vec<Check>) -> Vec<Check> {
        lines.sort_by_key(|line| std::cmp::Reverse(line.mark));
        let beyond: Vec<Check> = lines.split_off(lines.len().min(MAX_LINES));
        if let (Some(first), Some(worst)) =
            (lines.first(), beyond.iter().map(|check| check.mark).max())
        {
            let name = first.name.split(' ').next().unwrap_or_default().to_owned();
            let value = self.pick("more", "更多").to_owned();
            let more = Check {
                mark: worst,
                subject: first.subject,
                name,
                value: format!("{} {value}", beyond.len()),
                limit: String::new(),
                hint: String::new(),
            };
            lines.push(more);
        }
        lines
    }

    pub(super) fn pick<'a>(&self, en: &'a str, zh: &'a str) -> &'a str {
        self.language.pick(en, zh)
    }

    pub(super) fn answer(&self, key: &str) -> &[(Labels, f64)] {
        self.answers
            .get(key)
            .and_then(|answer| answer.as_ref().ok())
            .map_or(&[], Vec::as_slice)
    }

    /// The value of the series of the same target.
    fn beside(&self, key: &str, labels: &Labels) -> Option<&(Labels, f64)> {
        let same = |other: &Labels| {
            ["job", "instance"]
                .iter()
                .all(|name| other.value(name) == labels.value(name))
        };
        self.answer(key).iter().find(|(other, _)| same(other))
    }

    pub(super) fn line(
        &self,
        mark: Mark,
        subject: &'static str,
        name: String,
        value: String,
    ) -> Check {
        Check {
            mark,
            subject,
            name,
            value,
            limit: String::new(),
            hint: String::new(),
        }
    }

    /// Nothing of a kind is watched: how it would be.
    fn unwatched(&self, subject: &'static str, name: &str, key: &str) -> Vec<Check> {
        let hint = match self.language {
            Language::En => format!("add collectors.{key}"),
            Language::Zh => format!("添加 collectors.{key}"),
        };
        vec![Check {
            hint,
            ..self.line(
                Mark::Unknown,
                subject,
                name.to_owned(),
                self.pick("not watched", "未监控").to_owned(),
            )
        }]
    }

    fn failed_questions(&self) -> Vec<Check> {
        let failed = QUESTIONS
            .iter()
            .filter_map(|(key, _)| Some((*key, self.answers.get(key)?.as_ref().err()?)));
        failed
            .map(|(key, error)| {
                self.line(
                    Mark::Look,
                    "check",
                    format!("{} {key}", self.pick("question", "查询")),
                    error.clone(),
                )
            })
            .collect()
    }

    /// Each target that does not answer, each endpoint that fails, and how many do.
    fn targets(&self) -> Vec<Check> {
        let up = self.answer("up");
        let mut lines = Vec::new();
        let healthy = up.iter().filter(|(_, value)| *value == 1.0).count();
        for (labels, _) in up.iter().filter(|(_, value)| *value != 1.0) {
            let why = self
                .beside("why", labels)
                .map_or("", |(labels, _)| labels.value("message"));
            let value = format!("{} {why}", self.pick("does not answer", "无响应"));
            let hint = self
                .pick("is it running? see its own log", "检查服务是否运行及其日志")
                .to_owned();
            let limit = self.pick("answers", "正常响应").to_owned();
            let line = self.line(
                Mark::Bad,
                "target",
                named(self.pick("target", "目标"), labels),
                value.trim_end().to_owned(),
            );
            lines.push(Check {
                hint,
                limit,
                ..line
            });
        }
        for (labels, value) in self.answer("probe") {
            let name = named(self.pick("endpoint", "健康端点"), labels);
            if *value == 1.0 {
                lines.push(self.line(
                    Mark::Good,
                    "endpoint",
                    name,
                    self.pick("healthy", "健康").to_owned(),
                ));
                continue;
            }
            let why = self.beside("probe_why", labels);
            let why = why.map_or("", |(labels, _)| {
                [labels.value("message"), labels.value("reason")]
                    .into_iter()
                    .find(|t| !t.is_empty())
                    .unwrap_or("")
            });
            let value = format!("{} {why}", self.pick("fails", "检查失败"));
            lines.push(Check {
                hint: self
                    .pick(
                        "open its address; see the application's log",
                        "访问该地址并查看应用日志",
                    )
                    .to_owned(),
                limit: self.pick("healthy", "健康").to_owned(),
                ..self.line(Mark::Bad, "endpoint", name, value.trim_end().to_owned())
            });
        }
        let (mark, value) = match (up.len(), healthy) {
            (0, _) => (Mark::Look, self.pick("none", "无").to_owned()),
            (all, well) => (
                if well == all { Mark::Good } else { Mark::Bad },
                self.language.pick(
                    format!("{well} of {all} answer"),
                    format!("{well}/{all} 正常响应"),
                ),
            ),
        };
        lines.push(self.line(
            mark,
            "target",
            self.pick("targets", "监控目标").to_owned(),
            value,
        ));
        lines
    }

    fn alerts(&self) -> Vec<Check> {
        let name = self.pick("alerts", "告警");
        let Some(alerts) = self.alerts else {
            let value = self
                .pick(
                    "nobody judges: no nightbell runs here",
                    "本机没有运行中的 nightbell，未评估规则",
                )
                .to_owned();
            return vec![self.line(Mark::Unknown, "alert", name.to_owned(), value)];
        };
        if alerts.is_empty() {
            return vec![self.line(
                Mark::Good,
                "alert",
                name.to_owned(),
                self.pick("none fires", "无触发").to_owned(),
            )];
        }
        let line = |alert: &Firing| {
            let severity = alert.labels.value("severity");
            let mark = match severity {
                _ if alert.muted => Mark::Good,
                "critical" | "page" => Mark::Bad,
                "info" | "none" => Mark::Good,
                _ => Mark::Look,
            };
            let muted = if alert.muted {
                self.pick(" (muted)", "（已静默）")
            } else {
                ""
            };
            let since = alert.since.map_or(String::new(), |since| {
                format!(" ({})", span(self.now.since(since).as_secs_f64()))
            });
            let alertname = alert.labels.value("alertname");
            Check {
                limit: severity.to_owned(),
                hint: format!("nightbell why {alertname}"),
                ..self.line(
                    mark,
                    "alert",
                    format!("{name} {alertname}"),
                    format!("{}{since}{muted}", alert.summary),
                )
            }
        };
        alerts.iter().map(line).collect()
    }

    fn usage(
        &self,
        subject: &'static str,
        name: &str,
        look: f64,
        bad: f64,
        hint: &str,
    ) -> Vec<Check> {
        let mut lines: Vec<Check> = Vec::new();
        for (labels, share) in self.answer(subject) {
            let mark = match *share {
                share if share > bad => Mark::Bad,
                share if share > look => Mark::Look,
                share if share.is_nan() => Mark::Unknown,
                _ => Mark::Good,
            };
            let limit = if mark == Mark::Bad { bad } else { look };
            lines.push(Check {
                limit: format!("{:.0} %", limit * 100.0),
                hint: if mark > Mark::Good {
                    hint.to_owned()
                } else {
                    String::new()
                },
                ..self.line(mark, subject, named(name, labels), percent(*share))
            });
        }
        match (lines.is_empty(), self.answer("memory").is_empty()) {
            (false, _) => lines,
            (true, true) => self.unwatched(subject, name, "host"),
            // A rate needs two collections.
            (true, false) => vec![self.line(
                Mark::Unknown,
                subject,
                name.to_owned(),
                self.pick("not known yet", "尚无数据").to_owned(),
            )],
        }
    }

    fn logs(&self) -> Vec<Check> {
        let name = self.pick("log errors", "日志错误");
        let within = if self.daily { "24 h" } else { "1 h" };
        let mut lines = Vec::new();
        for (labels, readable) in self.answer("log_readable") {
            if *readable == 0.0 {
                let value = self
                    .pick("the log cannot be read", "日志无法读取")
                    .to_owned();
                let hint = self
                    .pick("check its path and permissions", "检查路径和权限")
                    .to_owned();
                lines.push(Check {
                    hint,
                    ..self.line(Mark::Bad, "log", named(name, labels), value)
                });
                continue;
            }
            // Somebody who has only just looked at a log has counted nothing.
            let Some((_, errors)) = self
                .beside("log_errors", labels)
                .filter(|_| self.alerts.is_some())
            else {
                lines.push(
                    self.line(
                        Mark::Unknown,
                        "log",
                        named(name, labels),
                        self.pick(
                            "counted by a running nightbell only",
                            "仅由运行中的 nightbell 统计",
                        )
                        .to_owned(),
                    ),
                );
                continue;
            };
            let errors = errors.round();
            let mark = match errors {
                0.0 => Mark::Good,
                ..=10.0 => Mark::Look,
                _ => Mark::Bad,
            };
            let hint = if mark > Mark::Good {
                "nightbell report errors"
            } else {
                ""
            };
            let value = self.language.pick(
                format!("{} in {within}", number(errors)),
                format!("{within} 内 {} 条", number(errors)),
            );
            let limit = if mark == Mark::Bad { "10" } else { "0" };
            lines.push(Check {
                hint: hint.to_owned(),
                limit: limit.to_owned(),
                ..self.line(mark, "log", named(name, labels), value)
            });
        }
        if lines.is_empty() {
            self.unwatched("log", name, "log_file")
        } else {
            lines
        }
    }

    fn backups(&self) -> Vec<Check> {
        let name = self.pick("backup", "备份");
        let mut found: BTreeMap<String, Check> = BTreeMap::new();
        let seen = ["backup_age", "backup_due", "backup_valid"]
            .iter()
            .flat_map(|key| self.answer(key));
        for (labels, _) in seen {
            let label = named(name, labels);
            let due = self.beside("backup_due", labels).map(|(_, due)| *due);
            let age = self.beside("backup_age", labels).map(|(_, age)| *age);
            let value = age.map_or(
                self.pick("none is complete", "没有完整的备份").to_owned(),
                |age| {
                    self.language
                        .pick(format!("{} old", span(age)), format!("{} 前", span(age)))
                },
            );
            let line = if self
                .beside("backup_valid", labels)
                .is_some_and(|(_, valid)| *valid == 0.0)
            {
                let why = self
                    .beside("backup_why", labels)
                    .map_or("", |(labels, _)| labels.value("reason"));
                Check {
                    limit: self.pick("complete", "完整").to_owned(),
                    hint: self
                        .pick(
                            "make one by hand; see the log of its job",
                            "手动备份，并查看备份任务日志",
                        )
                        .to_owned(),
                    ..self.line(
                        Mark::Bad,
                        "backup",
                        label.clone(),
                        format!(
                            "{} {why}",
                            self.pick("the newest is of no use:", "最新备份不可用：")
                        ),
                    )
                }
            } else if due.is_some_and(|due| due < 0.0) || (due.is_none() && age.is_none()) {
                let late = due.map_or(String::new(), |due| span(-due));
                Check {
                    limit: self
                        .language
                        .pick(format!("due {late} ago"), format!("已超期 {late}")),
                    hint: self
                        .pick(
                            "make one by hand; see the log of its job",
                            "手动备份，并查看备份任务日志",
                        )
                        .to_owned(),
                    ..self.line(
                        if due.is_some() {
                            Mark::Bad
                        } else {
                            Mark::Unknown
                        },
                        "backup",
                        label.clone(),
                        value,
                    )
                }
            } else {
                let limit = due.map_or(String::new(), |due| {
                    self.language.pick(
                        format!("next due in {}", span(due)),
                        format!("{} 后到期", span(due)),
                    )
                });
                Check {
                    limit,
                    ..self.line(Mark::Good, "backup", label.clone(), value)
                }
            };
            found.insert(label, line);
        }
        if found.is_empty() {
            self.unwatched("backup", name, "backup")
        } else {
            found.into_values().collect()
        }
    }

    fn certificates(&self) -> Vec<Check> {
        const DAY: f64 = 86_400.0;
        let name = self.pick("certificate", "证书");
        let line = |(labels, left): &(Labels, f64)| {
            let mark = match left / DAY {
                days if days < 7.0 => Mark::Bad,
                days if days < 30.0 => Mark::Look,
                _ => Mark::Good,
            };
            let days = number((left / DAY).floor());
            Check {
                limit: self
                    .pick(
                        if mark == Mark::Bad {
                            "7 days"
                        } else {
                            "30 days"
                        },
                        if mark == Mark::Bad { "7 天" } else { "30 天" },
                    )
                    .to_owned(),
                hint: if mark > Mark::Good {
                    self.pick("renew it", "续期证书").to_owned()
                } else {
                    String::new()
                },
                ..self.line(
                    mark,
                    "certificate",
                    named(name, labels),
                    self.language
                        .pick(format!("{days} days left"), format!("剩余 {days} 天")),
                )
            }
        };
        let lines: Vec<Check> = self.answer("certificate").iter().map(line).collect();
        if lines.is_empty() {
            self.unwatched("certificate", name, "probe")
        } else {
            lines
        }
    }

    fn jobs(&self) -> Vec<Check> {
        let name = self.pick("job", "任务");
        let mut found: BTreeMap<String, Check> = BTreeMap::new();
        for (labels, _) in ["job_overdue", "job_success", "job_age"]
            .iter()
            .flat_map(|key| self.answer(key))
        {
            let label = named(name, labels);
            let overdue = self
                .beside("job_overdue", labels)
                .is_some_and(|(_, flag)| *flag == 1.0);
            let failed = self
                .beside("job_success", labels)
                .is_some_and(|(_, flag)| *flag == 0.0);
            let age = self.beside("job_age", labels).map(|(_, age)| *age);
            let value = age.map_or(
                self.pick("has not succeeded yet", "尚无成功记录")
                    .to_owned(),
                |age| {
                    self.language.pick(
                        format!("succeeded {} ago", span(age)),
                        format!("{} 前成功", span(age)),
                    )
                },
            );
            let (mark, value) = match (overdue, failed) {
                (true, _) => (
                    Mark::Bad,
                    format!("{}; {value}", self.pick("overdue", "已超期")),
                ),
                (false, true) => (
                    Mark::Look,
                    format!(
                        "{}; {value}",
                        self.pick("the last run failed", "最近一次失败")
                    ),
                ),
                _ => (Mark::Good, value),
            };
            let hint = if mark > Mark::Good {
                self.pick("see its log; run it by hand", "查看任务日志并手动执行")
                    .to_owned()
            } else {
                String::new()
            };
            let limit = if self.beside("job_overdue", labels).is_some() {
                self.pick("its schedule", "按计划").to_owned()
            } else {
                String::new()
            };
            found.insert(
                label.clone(),
                Check {
                    limit,
                    hint,
                    ..self.line(mark, "job", label, value)
                },
            );
        }
        if found.is_empty() {
            self.unwatched("job", name, "job")
        } else {
            found.into_values().collect()
        }
    }

    fn tasks(&self) -> Vec<Check> {
        let name = self.pick("maintenance", "维护");
        let line = |(labels, overdue): &(Labels, f64)| {
            let task = labels.value("task");
            let due = self
                .answer("task_due")
                .iter()
                .find(|(other, _)| other.value("task") == task)
                .map(|(_, due)| *due);
            let value = match due {
                Some(due) if due < 0.0 => self.language.pick(
                    format!("due {} ago", span(-due)),
                    format!("已到期 {}", span(-due)),
                ),
                Some(due) => self.language.pick(
                    format!("due in {}", span(due)),
                    format!("{} 后到期", span(due)),
                ),
                None => String::new(),
            };
            let is_overdue = *overdue == 1.0;
            Check {
                limit: self.pick("its schedule", "按计划").to_owned(),
                hint: if is_overdue {
                    format!("nightbell maintenance done {task} --by …")
                } else {
                    String::new()
                },
                ..self.line(
                    if is_overdue { Mark::Look } else { Mark::Good },
                    "maintenance",
                    format!("{name} {task}"),
                    value,
                )
            }
        };
        let lines: Vec<Check> = self.answer("task_overdue").iter().map(line).collect();
        if lines.is_empty() {
            let hint = self.pick("add maintenance", "添加 maintenance").to_owned();
            let value = self.pick("no calendar", "没有维护日历").to_owned();
            return vec![Check {
                hint,
                ..self.line(Mark::Unknown, "maintenance", name.to_owned(), value)
            }];
        }
        lines
    }

    /// Messages that were given up.
    fn notifications(&self) -> Vec<Check> {
        let lost: f64 = self
            .answer("dead")
            .iter()
            .map(|(_, lost)| lost.round())
            .sum();
        if lost <= 0.0 {
            return Vec::new();
        }
        let value = self.language.pick(
            format!("{} could not be delivered", number(lost)),
            format!("{} 条通知未能送达", number(lost)),
        );
        let name = self.pick("notifications", "通知").to_owned();
        vec![Check {
            limit: "0".into(),
            hint: "nightbell dead-letters".into(),
            ..self.line(Mark::Look, "notification", name, value)
        }]
    }

    /// With `daily`: what fired within the day and is over.
    fn fired(&self) -> Vec<Check> {
        if !self.daily {
            return Vec::new();
        }
        let fires = |name: &str| {
            self.alerts.is_some_and(|alerts| {
                alerts
                    .iter()
                    .any(|alert| alert.labels.value("alertname") == name)
            })
        };
        let over = self
            .answer("fired")
            .iter()
            .filter(|(labels, _)| !fires(labels.value("alertname")));
        over.map(|(labels, minutes)| {
            let lasted = span(minutes * 60.0);
            let value = self.language.pick(
                format!("fired for {lasted} within 24 h, is over"),
                format!("24 小时内触发 {lasted}，已恢复"),
            );
            let mark = if labels.value("severity") == "critical" {
                Mark::Look
            } else {
                Mark::Good
            };
            Check {
                limit: labels.value("severity").to_owned(),
                hint: format!("nightbell why {} --history", labels.value("alertname")),
                ..self.line(
                    mark,
                    "fired",
                    format!(
                        "{} {}",
                        self.pick("fired", "曾触发"),
                        labels.value("alertname")
                    ),
                    value,
                )
            }
        })
        .collect()
    }
}

/// A subject with the target that it is about, and with the disk.
pub(super) fn named(subject: &str, labels: &Labels) -> String {
    let parts = [
        subject,
        labels.value("instance"),
        labels.value("mountpoint"),
    ];
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels and values of a question.
    type Given<'a> = &'a [(&'a [(&'a str, &'a str)], f64)];

    fn answers(given: &[(&'static str, Given<'_>)]) -> HashMap<&'static str, Answer> {
        let series = |list: Given<'_>| -> Answer {
            Ok(list
                .iter()
                .map(|(pairs, value)| (Labels::from_pairs(pairs.iter().copied()), *value))
                .collect())
        };
        given
            .iter()
            .map(|(key, list)| (*key, series(list)))
            .collect()
    }

    fn lines(
        answers: &HashMap<&'static str, Answer>,
        alerts: Option<&[Firing]>,
        language: Language,
    ) -> (u8, Vec<String>) {
        let checks = Facts {
            answers,
            alerts,
            daily: true,
            now: Timestamp(0),
            language,
        }
        .checks();
        let text = |c: &Check| {
            format!(
                "{} {} | {} | {} | {}",
                c.mark.sign(),
                c.name,
                c.value,
                c.limit,
                c.hint
            )
        };
        (status(&checks), checks.iter().map(text).collect())
    }

    #[test]
    fn a_machine_that_is_well_is_status_0_and_what_is_not_watched_is_said() {
        let host: &[(&str, &str)] = &[("job", "host"), ("instance", "h")];
        let root: &[(&str, &str)] = &[("job", "host"), ("instance", "h"), ("mountpoint", "/")];
        let known = answers(&[
            ("up", &[(host, 1.0)]),
            ("disk", &[(root, 0.5)]),
            ("memory", &[(host, 0.3)]),
        ]);
        let (status, lines) = lines(&known, Some(&[]), Language::En);
        assert_eq!(status, 0, "{lines:?}");
        assert!(
            lines.contains(&"✓ disk h / | 50.0 % | 80 % | ".to_owned()),
            "{lines:?}"
        );
        assert!(
            lines.contains(&"- backup | not watched |  | add collectors.backup".to_owned()),
            "{lines:?}"
        );
    }

    #[test]
    fn warnings_are_status_1_and_what_is_down_is_status_2() {
        let root: &[(&str, &str)] = &[("job", "host"), ("instance", "h"), ("mountpoint", "/")];
        let log: &[(&str, &str)] = &[("job", "log_file"), ("instance", "app")];
        let known = answers(&[
            ("up", &[(log, 1.0)]),
            ("disk", &[(root, 0.81)]),
            ("log_readable", &[(log, 1.0)]),
            ("log_errors", &[(log, 3.2)]),
        ]);
        let (status, found) = lines(&known, Some(&[]), Language::Zh);
        assert_eq!(status, 1);
        assert!(
            found.contains(&"! 磁盘 h / | 81.0 % | 80 % | 清理或扩容磁盘".to_owned()),
            "{found:?}"
        );
        assert!(
            found.contains(
                &"! 日志错误 app | 24 h 内 3 条 | 0 | nightbell report errors".to_owned()
            ),
            "{found:?}"
        );
        let alert = Firing {
            labels: Labels::from_pairs([("alertname", "X"), ("severity", "critical")]),
            summary: "x is down".into(),
            since: None,
            muted: false,
        };
        assert_eq!(
            lines(&known, Some(std::slice::from_ref(&alert)), Language::En).0,
            2
        );
        assert_eq!(
            lines(
                &known,
                Some(&[Firing {
                    muted: true,
                    ..alert
                }]),
                Language::En
            )
            .0,
            1,
            "a silenced alert does not count"
        );
        let gone = answers(&[("up", &[(log, 0.0)])]);
        assert_eq!(lines(&gone, None, Language::En).0, 2);
    }
}
