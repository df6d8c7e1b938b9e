//! One sentence for each stage, in English and Chinese.

use std::collections::BTreeMap;

use crate::model::{Language, Stage, Timestamp, format_duration};

/// What a sentence is about besides its stage.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The receiver, with its notifier: `ops (webhook)`.
    pub receiver: &'a str,
    /// When it was decided.
    pub at: Option<Timestamp>,
    /// When the receiver accepted the last message.
    pub delivered_at: Option<Timestamp>,
    /// The instant of the question.
    pub now: Timestamp,
}

/// `2026-11-24 20:05:03 UTC`.
pub fn instant(at: Timestamp) -> String {
    let text = at.rfc3339();
    format!(
        "{} {} UTC",
        text.get(..10).unwrap_or(&text),
        text.get(11..19).unwrap_or("")
    )
}

/// A number as people read it: at most four digits after the point.
fn number(value: f64) -> String {
    let rounded = (value * 10_000.0).round() / 10_000.0;
    if value != 0.0 && rounded == 0.0 || value.abs() >= 1e15 {
        format!("{value:e}")
    } else {
        format!("{rounded}")
    }
}

fn labels(set: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = set
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Whole seconds.
fn span(from: Timestamp, to: Timestamp) -> String {
    format_duration(std::time::Duration::from_secs(to.since(from).as_secs()))
}

fn list(items: impl Iterator<Item = String>, language: Language) -> String {
    let items: Vec<String> = items.collect();
    items.join(if language == Language::Zh {
        "；"
    } else {
        "; "
    })
}

/// The first of some series.
fn few(series: &[String]) -> String {
    let shown: Vec<&str> = series.iter().take(3).map(String::as_str).collect();
    let more = if series.len() > shown.len() {
        ", …"
    } else {
        ""
    };
    format!("{}{more}", shown.join(", "))
}

/// The sentence of a stage.
pub fn sentence(stage: &Stage, about: About<'_>, language: Language) -> String {
    match language {
        Language::En => english(stage, about),
        Language::Zh => chinese(stage, about),
    }
}

/// What is said of a posted alert that was not taken.
pub fn refused(at: Timestamp, language: Language) -> String {
    match language {
        Language::En => format!(
            "It was posted at {} and refused: the share of posted alerts is used up (web.posted_alerts).",
            instant(at)
        ),
        Language::Zh => format!(
            "它在 {} 提交时被拒绝：外部告警的份额已用完（web.posted_alerts）。",
            instant(at)
        ),
    }
}

/// ` (in 30s)`, or nothing for what is past.
fn ahead(until: Timestamp, now: Timestamp, open: &str, close: &str) -> String {
    if until > now {
        format!("{open}{}{close}", span(now, until))
    } else {
        String::new()
    }
}

/// `text` between brackets, or nothing where there is none.
fn in_words(text: &str, open: &str, close: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("{open}{text}{close}")
    }
}

fn english(stage: &Stage, about: About<'_>) -> String {
    let (to, now) = (about.receiver, about.now);
    let when = about
        .at
        .map(|at| format!(" at {}", instant(at)))
        .unwrap_or_default();
    match stage {
        Stage::NoRule => "There is no such alert: no rule has this name and these labels, and none came from outside.".to_owned(),
        Stage::NotEvaluated => "The rule has not judged this yet.".to_owned(),
        Stage::NothingRecorded => "Nothing was recorded at that time, and the samples of that time are gone.".to_owned(),
        Stage::RuleFailing { error } => format!("The rule cannot be evaluated: {error}."),
        Stage::NoSeries { expression } => format!("There is no series: {expression} finds nothing."),
        Stage::BelowThreshold { value, operator, threshold, by, series, compared } => {
            let (value, limit, by) = (number(*value), number(*threshold), number(*by));
            let side = match operator.as_str() {
                ">" | ">=" => format!("below the threshold by {by}"),
                "<" | "<=" => format!("above the threshold by {by}"),
                _ => format!("away from the threshold by {by}"),
            };
            let nearest = if *compared > 1 { format!(", the nearest of {compared} series") } else { String::new() };
            format!("The value is {value} and would have to be {operator} {limit}: {side}. Series: {}{nearest}.", labels(series))
        }
        Stage::ConditionFalse { expression } => format!("The condition does not hold: {expression}."),
        Stage::Pending { since, hold } => format!(
            "Pending {} of {}: the condition has held since {}, the alert fires at {}.",
            span(*since, now),
            format_duration(*hold),
            instant(*since),
            instant(*since + *hold)
        ),
        Stage::PendingEnded { since } => {
            format!("The condition held from {} and ended{when}, before the alert fired.", instant(*since))
        }
        Stage::HeldNoData { since, missing } => {
            format!("Held: its data are missing since {} ({}); it stays as it was until they are back.", instant(*since), few(missing))
        }
        Stage::NotRecovered { since, expression } => format!(
            "Waiting for its recovery: the condition holds no longer since {}, but recover_expr does not hold yet: {expression}.",
            instant(*since)
        ),
        Stage::HoldEnded { since } => format!("What held it since {} ended{when}.", instant(*since)),
        Stage::Inhibited { by } => format!("Inhibited by {}.", list(by.iter().map(|i| labels(&i.labels)), Language::En)),
        Stage::Muted { intervals } => format!("Muted: its route is quiet because of the time interval {}.", intervals.join(", ")),
        Stage::Silenced { by } => {
            let silence = |s: &crate::model::alert::stage::Silencer| {
                format!("{} until {} (silence {}: {})", s.created_by, instant(s.ends_at), s.id, s.comment)
            };
            format!("Silenced by {}.", list(by.iter().map(silence), Language::En))
        }
        Stage::Waiting { until, resolved } => {
            let what = if *resolved { "Its end is" } else { "It is" };
            format!(
                "{what} waiting for the next message of its group to {to}, due at {}{}.",
                instant(*until),
                ahead(*until, now, " (in ", ")")
            )
        }
        Stage::NoIntegration => format!("Its receiver {to} has no integration: it is meant for nobody."),
        Stage::EndedUnnotified => format!("It ended before {to} was notified of it, so there was nothing to take back."),
        Stage::EndNotWanted => format!("It has ended, and {to} does not want to hear of ends (send_resolved: false)."),
        Stage::Flapping { since, notified_at, stable_for } => {
            let delivered = about.delivered_at.map(|at| format!(", delivered at {}", instant(at))).unwrap_or_default();
            format!(
                "Flapping since {}: {to} was notified of that at {}{delivered}; it is notified again when the alert has been stable for {}.",
                instant(*since),
                instant(*notified_at),
                format_duration(*stable_for)
            )
        }
        Stage::Deduplicated { notified_at, until } => {
            let delivered = about.delivered_at.map(|at| format!(", delivered at {}", instant(at))).unwrap_or_default();
            format!(
                "Deduplicated: {to} was notified at {}{delivered}; nothing has changed, and it is repeated after {}.",
                instant(*notified_at),
                instant(*until)
            )
        }
        Stage::Sending { reason, .. } => format!("A message to {to} was written{when} ({reason}) and is on its way."),
        Stage::Held { .. } => format!("Held: a message was written{when} and waits for the end of the quiet hours of {to}."),
        Stage::HandedOver { to: fallback } => format!("{to} is down; its message went{when} to the fallback {}.", fallback.join(", ")),
        Stage::RateLimited { error } => format!("Rate-limited: {to} takes no more messages for now{when}: {error}."),
        Stage::Failing { error } => format!("Receiver failing: {to} did not accept the message{when}: {error}. It is tried again."),
        Stage::GivenUp { error } => format!("Given up{when}: {to} will not accept the message: {error}. It is kept as a dead letter."),
        Stage::Acted { action, outcome, detail, helped } => {
            let judged = match helped {
                Some(true) => "; the alert was over afterwards",
                Some(false) => "; it did not help: the alert fired on",
                None => "",
            };
            format!(
                "Recovery action of {to}{when}: {action}: {}{}{judged}.",
                outcome.as_str().replace('_', " "),
                in_words(detail, " (", ")")
            )
        }
        Stage::Delivered { resolved: false } => format!("Delivered{when} to {to}."),
        Stage::Delivered { resolved: true } => format!("Its end was delivered{when} to {to}."),
    }
}

fn chinese(stage: &Stage, about: About<'_>) -> String {
    let (to, now) = (about.receiver, about.now);
    let when = about
        .at
        .map(|at| format!("于 {} ", instant(at)))
        .unwrap_or_default();
    match stage {
        Stage::NoRule => "没有这个告警：没有这个名称和标签的规则，外部也没有发来过。".to_owned(),
        Stage::NotEvaluated => "规则尚未对此求值。".to_owned(),
        Stage::NothingRecorded => "当时没有记录，当时的样本也已不在。".to_owned(),
        Stage::RuleFailing { error } => format!("规则无法求值：{error}。"),
        Stage::NoSeries { expression } => format!("没有序列：{expression} 没有结果。"),
        Stage::BelowThreshold {
            value,
            operator,
            threshold,
            by,
            series,
            compared,
        } => {
            let (value, limit, by) = (number(*value), number(*threshold), number(*by));
            let side = match operator.as_str() {
                ">" | ">=" => format!("比阈值低 {by}"),
                "<" | "<=" => format!("比阈值高 {by}"),
                _ => format!("与阈值相差 {by}"),
            };
            let nearest = if *compared > 1 {
                format!("（{compared} 个序列中最接近的）")
            } else {
                String::new()
            };
            format!(
                "当前值为 {value}，需要 {operator} {limit}：{side}。序列：{}{nearest}。",
                labels(series)
            )
        }
        Stage::ConditionFalse { expression } => format!("条件不成立：{expression}。"),
        Stage::Pending { since, hold } => format!(
            "等待中，已持续 {}，共需 {}：条件自 {} 起成立，将于 {} 触发。",
            span(*since, now),
            format_duration(*hold),
            instant(*since),
            instant(*since + *hold)
        ),
        Stage::PendingEnded { since } => format!(
            "条件自 {} 起成立，{when}在触发之前已恢复。",
            instant(*since)
        ),
        Stage::HeldNoData { since, missing } => {
            format!(
                "保持原状：自 {} 起缺少数据（{}），数据恢复之前告警不变。",
                instant(*since),
                few(missing)
            )
        }
        Stage::NotRecovered { since, expression } => {
            format!(
                "等待恢复：条件自 {} 起不再成立，但恢复条件 recover_expr 尚未成立：{expression}。",
                instant(*since)
            )
        }
        Stage::HoldEnded { since } => format!("自 {} 起的保持已{when}结束。", instant(*since)),
        Stage::Inhibited { by } => format!(
            "被抑制，抑制它的告警：{}。",
            list(by.iter().map(|i| labels(&i.labels)), Language::Zh)
        ),
        Stage::Muted { intervals } => format!(
            "处于静音时段：其路由因时间段 {} 不发送。",
            intervals.join("、")
        ),
        Stage::Silenced { by } => {
            let silence = |s: &crate::model::alert::stage::Silencer| {
                format!(
                    "由 {} 静默至 {}（静默 {}：{}）",
                    s.created_by,
                    instant(s.ends_at),
                    s.id,
                    s.comment
                )
            };
            format!("已静默：{}。", list(by.iter().map(silence), Language::Zh))
        }
        Stage::Waiting { until, resolved } => {
            let what = if *resolved {
                "恢复通知正在等待"
            } else {
                "正在等待"
            };
            format!(
                "{what}本组发往 {to} 的下一条消息，时间为 {}{}。",
                instant(*until),
                ahead(*until, now, "（还有 ", "）")
            )
        }
        Stage::NoIntegration => format!("接收者 {to} 没有任何集成，不通知任何人。"),
        Stage::EndedUnnotified => format!("在通知 {to} 之前已恢复，无需再发送。"),
        Stage::EndNotWanted => format!("已恢复，而 {to} 不接收恢复通知（send_resolved: false）。"),
        Stage::Flapping {
            since,
            notified_at,
            stable_for,
        } => {
            let delivered = about
                .delivered_at
                .map(|at| format!("，于 {} 送达", instant(at)))
                .unwrap_or_default();
            format!(
                "自 {} 起反复抖动：已于 {} 通知 {to}{delivered}；稳定 {} 之后再通知。",
                instant(*since),
                instant(*notified_at),
                format_duration(*stable_for)
            )
        }
        Stage::Deduplicated { notified_at, until } => {
            let delivered = about
                .delivered_at
                .map(|at| format!("，于 {} 送达", instant(at)))
                .unwrap_or_default();
            format!(
                "已去重：已于 {} 通知 {to}{delivered}；此后没有变化，{} 之后才会重复发送。",
                instant(*notified_at),
                instant(*until)
            )
        }
        Stage::Sending { reason, .. } => {
            format!("发往 {to} 的消息已{when}写出（{reason}），正在发送。")
        }
        Stage::Held { .. } => format!("暂缓：消息已{when}写出，等待 {to} 的安静时段结束。"),
        Stage::HandedOver { to: fallback } => format!(
            "{to} 不可用，消息已{when}转交备用接收者 {}。",
            fallback.join("、")
        ),
        Stage::RateLimited { error } => format!("被限流：{to} {when}暂不接收更多消息：{error}。"),
        Stage::Failing { error } => format!("接收者故障：{to} {when}未接受消息：{error}。将重试。"),
        Stage::GivenUp { error } => {
            format!("已放弃：{to} {when}拒绝了消息：{error}。消息保留为死信。")
        }
        Stage::Acted {
            action,
            outcome,
            detail,
            helped,
        } => {
            let judged = match helped {
                Some(true) => "；之后告警已恢复",
                Some(false) => "；未见效：告警仍在触发",
                None => "",
            };
            let when = when.trim_end();
            format!(
                "{to} 的恢复动作{when}：{action}：{}{}{judged}。",
                outcome.chinese(),
                in_words(detail, "（", "）")
            )
        }
        Stage::Delivered { resolved: false } => format!("已{when}送达 {to}。"),
        Stage::Delivered { resolved: true } => format!("恢复通知已{when}送达 {to}。"),
    }
}
