//! The words of the built-in texts, one row for each language.

use std::borrow::Cow;

use crate::model::{ActionOutcome, Language};

/// What came of a recovery action.
pub(super) struct Done<'a> {
    pub outcome: ActionOutcome,
    pub detail: &'a str,
    pub output: &'a str,
    pub helped: Option<bool>,
}

/// Every fixed word.
pub(in crate::notify) struct Words {
    pub alert: &'static str,
    pub firing: &'static str,
    pub resolved: &'static str,
    pub rule: &'static str,
    pub severity: &'static str,
    pub position: &'static str,
    pub value: &'static str,
    pub value_now: &'static str,
    pub threshold: &'static str,
    pub peak: &'static str,
    pub since: &'static str,
    pub began: &'static str,
    pub ended: &'static str,
    pub duration: &'static str,
    pub acknowledge: &'static str,
    pub runbook: &'static str,
    pub dashboard: &'static str,
    pub picture: &'static str,
    pub expression: &'static str,
    pub all_alerts: &'static str,
    pub evidence: &'static str,
    pub before: &'static str,
    pub newest_sample: &'static str,
    pub seen: &'static str,
    pub top_processes: &'static str,
    pub top_statements: &'static str,
    pub log: &'static str,
    pub recovery: &'static str,
    pub flapping: &'static str,
    pub escalated: &'static str,
    /// Between a word and what it names.
    pub colon: &'static str,
    language: Language,
}

static EN: Words = Words {
    alert: "Alert",
    firing: "FIRING",
    resolved: "RESOLVED",
    rule: "Alert",
    severity: "Severity",
    position: "Where",
    value: "Value",
    value_now: "Value now",
    threshold: "Threshold",
    peak: "Peak",
    since: "Since",
    began: "Began",
    ended: "Ended",
    duration: "Duration",
    acknowledge: "Acknowledge",
    runbook: "Runbook",
    dashboard: "Dashboard",
    picture: "Picture of the last hour",
    expression: "Expression",
    all_alerts: "All alerts",
    evidence: "Evidence",
    before: "Before",
    newest_sample: "Newest sample",
    seen: "Seen before",
    top_processes: "Top processes",
    top_statements: "Top statements",
    log: "Log",
    recovery: "Recovery",
    flapping: "Flapping",
    escalated: "Escalated",
    colon: ": ",
    language: Language::En,
};

static ZH: Words = Words {
    alert: "告警",
    firing: "告警",
    resolved: "恢复",
    rule: "告警名称",
    severity: "级别",
    position: "位置",
    value: "当前值",
    value_now: "当前值",
    threshold: "阈值",
    peak: "峰值",
    since: "开始时间",
    began: "开始时间",
    ended: "恢复时间",
    duration: "持续时间",
    acknowledge: "确认告警",
    runbook: "处理手册",
    dashboard: "看板",
    picture: "最近一小时曲线",
    expression: "表达式",
    all_alerts: "全部告警",
    evidence: "依据",
    before: "此前的值",
    newest_sample: "最新样本",
    seen: "历史触发",
    top_processes: "占用最多的进程",
    top_statements: "耗时最多的语句",
    log: "日志",
    recovery: "恢复动作",
    flapping: "反复抖动",
    escalated: "升级",
    colon: "：",
    language: Language::Zh,
};

impl Words {
    /// The words of a language.
    pub(super) fn of(language: Language) -> &'static Words {
        match language {
            Language::En => &EN,
            Language::Zh => &ZH,
        }
    }

    /// The severity as people of this language say it, the label's value kept beside it.
    pub(super) fn severity_in_words<'a>(&self, value: &'a str) -> Cow<'a, str> {
        let said = match (self.language, value) {
            (Language::Zh, "critical") => "严重",
            (Language::Zh, "warning") => "警告",
            (Language::Zh, "info") => "提示",
            _ => return value.into(),
        };
        format!("{said} ({value})").into()
    }

    /// A duration (`5m30s`) in this language's units.
    pub(super) fn duration_in_words(&self, text: String) -> String {
        if self.language == Language::En {
            return text;
        }
        text.replace('d', "天")
            .replace('h', "小时")
            .replace('m', "分")
            .replace('s', "秒")
    }

    /// What stands where `count` alerts were left out.
    pub(super) fn more_alerts(&self, count: usize) -> String {
        match self.language {
            Language::En => format!(
                "… and {count} more alert{}",
                if count == 1 { "" } else { "s" }
            ),
            Language::Zh => format!("……另有 {count} 条告警"),
        }
    }

    /// What a digest says of itself in its subject.
    pub(super) fn digest_of(&self, messages: usize) -> String {
        match self.language {
            Language::En => format!("digest of {messages} messages"),
            Language::Zh => format!("{messages} 条消息合并"),
        }
    }

    /// What stands where `count` characters were left out.
    pub(super) fn more_characters(&self, count: usize) -> String {
        match self.language {
            Language::En => format!("… [{count} characters cut]"),
            Language::Zh => format!("……[省略 {count} 个字符]"),
        }
    }

    /// How often an alert fired before, and when it did last.
    pub(super) fn seen_before(&self, count: i64, last: Option<String>) -> String {
        let last = last.filter(|_| count > 0);
        match (self.language, last) {
            (Language::En, None) => "never in 30 days".to_owned(),
            (Language::En, Some(last)) => format!(
                "{count} time{} in 30 days, last at {last}",
                if count == 1 { "" } else { "s" }
            ),
            (Language::Zh, None) => "30 天内首次".to_owned(),
            (Language::Zh, Some(last)) => format!("30 天内 {count} 次，最近一次 {last}"),
        }
    }

    /// What came of a recovery action: `failed, exit status 3; the alert fires on; output: …`.
    pub(super) fn done(&self, done: &Done<'_>) -> String {
        let (comma, separator, output) = if self.language == Language::En {
            (", ", "; ", "output: ")
        } else {
            ("，", "；", "输出：")
        };
        let said = if self.language == Language::En {
            done.outcome.english()
        } else {
            done.outcome.chinese()
        };
        let judged = match (self.language, done.helped) {
            (_, None) => "",
            (Language::En, Some(true)) => "the alert was over afterwards",
            (Language::En, Some(false)) => "it did not help, the alert fires on",
            (Language::Zh, Some(true)) => "之后告警已恢复",
            (Language::Zh, Some(false)) => "未见效，告警仍在触发",
        };
        let detail = if done.detail.is_empty() {
            String::new()
        } else {
            format!("{comma}{}", done.detail)
        };
        let judged = if judged.is_empty() {
            String::new()
        } else {
            format!("{separator}{judged}")
        };
        let printed = if done.output.is_empty() {
            String::new()
        } else {
            format!("{separator}{output}{}", done.output)
        };
        format!("{said}{detail}{judged}{printed}")
    }

    /// How often an alert that flaps fired, since when, until when if it has settled, whether it
    /// fires now, and its last values.
    pub(super) fn flaps(
        &self,
        firings: usize,
        (since, until): (&str, Option<String>),
        fires: bool,
        values: &[String],
    ) -> String {
        match self.language {
            Language::En => {
                let state = match &until {
                    Some(until) => format!(" until {until}, stable since"),
                    None => format!(
                        ", {} now; no further message until it is stable",
                        if fires { "firing" } else { "quiet" }
                    ),
                };
                let values = if values.is_empty() {
                    String::new()
                } else {
                    format!("; last values {}", values.join(", "))
                };
                format!("fired {firings} times since {since}{state}{values}")
            }
            Language::Zh => {
                let state = match &until {
                    Some(until) => format!("，至 {until}，此后稳定"),
                    None => format!(
                        "，目前{}；稳定之前不再通知",
                        if fires { "触发中" } else { "已恢复" }
                    ),
                };
                let values = if values.is_empty() {
                    String::new()
                } else {
                    format!("；最近的值 {}", values.join("、"))
                };
                format!("自 {since} 起触发 {firings} 次{state}{values}")
            }
        }
    }

    /// Why the next contact is notified.
    pub(super) fn unanswered(&self, receiver: &str, since: &str) -> String {
        match self.language {
            Language::En => {
                format!("{receiver} was notified at {since}, and nobody has acknowledged it")
            }
            Language::Zh => format!("已于 {since} 通知 {receiver}，至今无人确认"),
        }
    }

    /// How old something was when the alert began.
    pub(super) fn old(&self, age: &str) -> String {
        match self.language {
            Language::En => format!("{age} old when it fired"),
            Language::Zh => format!("触发时已有 {age}"),
        }
    }

    /// Why somebody is notified who is not meant.
    pub(super) fn stands_in(&self, receivers: &str) -> String {
        match self.language {
            Language::En => format!("(sent here because {receivers} cannot be reached)"),
            Language::Zh => format!("（因 {receivers} 无法送达，转发至此）"),
        }
    }

    /// Why the built-in text stands where a template was configured.
    pub(in crate::notify) fn template_failed(&self, key: &str, error: &str) -> String {
        match self.language {
            Language::En => {
                format!("(The template of {key:?} failed, so this is the built-in text: {error})")
            }
            Language::Zh => format!("（{key:?} 的模板出错，以上为内置文本：{error}）"),
        }
    }
}

impl Words {
    /// `2 firing, 1 resolved, 3 not shown`.
    pub(super) fn count(&self, firing: usize, resolved: usize, left_out: usize) -> String {
        let parts: [(usize, [&str; 2]); 3] = match self.language {
            Language::En => [
                (firing, ["", " firing"]),
                (resolved, ["", " resolved"]),
                (left_out, ["", " not shown"]),
            ],
            Language::Zh => [
                (firing, ["", " 条告警中"]),
                (resolved, ["", " 条已恢复"]),
                (left_out, ["", " 条未显示"]),
            ],
        };
        let separator = if self.language == Language::Zh {
            "，"
        } else {
            ", "
        };
        let said = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, [before, after])| format!("{before}{count}{after}"));
        said.collect::<Vec<_>>().join(separator)
    }
}
