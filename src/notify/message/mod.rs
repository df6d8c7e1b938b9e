//! The built-in texts, in English and Chinese: what, where, value, threshold, severity, since when,
//! links; for a resolved alert also the peak and the duration. Pure functions of a
//! [`Notification`]; no text is ever empty.

mod evidence;
mod html;
mod markup;
mod names;
mod shorten;
mod words;

use std::borrow::Cow;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::config::Section;
use crate::model::format_duration;

use super::notification::{AlertStatus, Notification, NotifiedAlert};

pub(super) use crate::model::Language;
pub use evidence::picture;
pub(super) use evidence::pictures;
pub(super) use html::html;
pub(super) use markup::{MARKDOWN, PLAIN, ROBOT, SLACK, TELEGRAM, body, brief, escape_angles};
pub(super) use shorten::{cut_bytes, cut_chars, cut_text, units};
use words::Words;

/// How a receiver wants to be spoken to.
#[derive(Clone, Debug)]
pub(super) struct Style {
    /// `language`: `en` or `zh`.
    pub language: Language,
    /// `timezone`: an IANA name, UTC by default.
    zone: TimeZone,
}

impl Style {
    /// Reads `language` and `timezone`, the integration's or the global ones.
    pub(super) fn read(section: &Section<'_>, global: Option<&Section<'_>>) -> Self {
        let text = |key: &str| {
            let inherited = global.and_then(|g| g.get::<String>(key));
            section.get::<String>(key).or(inherited)
        };
        let language = match text("language").as_deref() {
            None | Some("en") => Language::En,
            Some("zh") => Language::Zh,
            Some(_) => {
                section.error(
                    "language",
                    "is not a language of the built-in texts",
                    "give en or zh",
                );
                Language::En
            }
        };
        let zone = text("timezone").map_or(TimeZone::UTC, |name| {
            TimeZone::get(&name).unwrap_or_else(|_| {
                section.error(
                    "timezone",
                    "is not a known time zone",
                    "give an IANA name such as Asia/Shanghai",
                );
                TimeZone::UTC
            })
        });
        Style { language, zone }
    }

    pub(super) fn words(&self) -> &'static Words {
        Words::of(self.language)
    }

    /// What its times add to UTC at an instant, in seconds.
    fn utc_offset(&self, ms: i64) -> i32 {
        jiff::Timestamp::from_millisecond(ms)
            .map_or(0, |instant| self.zone.to_offset(instant).seconds())
    }

    /// `2026-11-21 17:00:00 +08:00`, or ` UTC` at the end.
    fn time(&self, ms: i64) -> String {
        let Ok(instant) = jiff::Timestamp::from_millisecond(ms) else {
            return "?".into();
        };
        let zoned = instant.to_zoned(self.zone.clone());
        let form = if self.zone == TimeZone::UTC {
            "%Y-%m-%d %H:%M:%S UTC"
        } else {
            "%Y-%m-%d %H:%M:%S %:z"
        };
        zoned.strftime(form).to_string()
    }
}

/// Alertmanager's default subject (SEMANTICS 178): `[FIRING:2] HighCPU node1 (critical)`; in
/// Chinese the same in its words.
pub(super) fn subject(n: &Notification, language: Language) -> String {
    if let Some(report) = &n.report {
        return report.title.clone();
    }
    let (firing, words) = (n.count(AlertStatus::Firing), Words::of(language));
    let mut out = if firing > 0 {
        format!("[{}:{firing}] ", words.firing)
    } else {
        format!("[{}] ", words.resolved)
    };
    if n.digest > 1 {
        out.push_str(&format!("{} ", Words::of(language).digest_of(n.digest)));
    }
    let values = |pairs: &[(String, String)], keep: &dyn Fn(&str) -> bool| {
        let mut kept: Vec<&(String, String)> =
            pairs.iter().filter(|(name, _)| keep(name)).collect();
        // Template pairs put alertname first (SEMANTICS 176); the sort is stable, the input sorted
        // by name.
        kept.sort_by_key(|(name, _)| name != "alertname");
        kept.iter()
            .map(|(_, value)| value.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    out.push_str(&values(&n.group_labels, &|_| true));
    let rest = values(&n.common_labels, &|name| {
        n.group_labels.iter().all(|(group, _)| group != name)
    });
    if n.common_labels.len() > n.group_labels.len() && !rest.is_empty() {
        out.push_str(&format!(" ({rest})"));
    }
    out
}

/// How many bytes of JSON the names of these alerts take: what decides how many alerts a digest
/// holds.
pub fn named_size(alerts: &[NotifiedAlert]) -> usize {
    // Every language's words are about as long; those of English are the longest ones.
    let text = names::names(
        alerts.iter(),
        Words::of(Language::En),
        str::to_owned,
        "  \n",
    );
    text.len()
        + text
            .bytes()
            .filter(|b| matches!(b, b'"' | b'\\' | b'\n'))
            .count()
}

/// Where a person sees the group: `<external URL>/#/alerts?receiver=<receiver>`.
pub(super) fn link(n: &Notification) -> String {
    let receiver: String =
        url::form_urlencoded::byte_serialize(n.quoted_receiver().as_bytes()).collect();
    format!("{}/#/alerts?receiver={receiver}", n.external_url)
}

/// What a reader must see first: what fires before what is over, and the gravest first; else in the
/// order of the message. A severity that is not known may be a grave one.
fn gravest_first(n: &Notification) -> Vec<&NotifiedAlert> {
    let mut alerts: Vec<&NotifiedAlert> = n.alerts.iter().collect();
    alerts.sort_by_key(|alert| (alert.status == AlertStatus::Resolved, Gravity::of(alert)));
    alerts
}

/// How grave an alert is by its severity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Gravity {
    Critical,
    Warning,
    Info,
}

impl Gravity {
    fn of(alert: &NotifiedAlert) -> Self {
        match alert.label("severity") {
            "warning" => Gravity::Warning,
            "info" | "none" | "debug" => Gravity::Info,
            _ => Gravity::Critical,
        }
    }
}

/// One alert, ready for any markup.
struct Entry<'a> {
    status: AlertStatus,
    gravity: Gravity,
    headline: Cow<'a, str>,
    text: Cow<'a, str>,
    facts: Vec<(&'static str, Cow<'a, str>)>,
    links: Vec<(&'static str, &'a str)>,
}

/// The first of these annotations that is there.
fn annotation<'a>(alert: &'a NotifiedAlert, names: &[&str]) -> &'a str {
    names
        .iter()
        .map(|name| alert.annotation(name))
        .find(|text| !text.is_empty())
        .unwrap_or("")
}

/// As [`annotation`], for a text: in Chinese the one that is written for it (`summary_zh`) where
/// there is one.
fn text_of<'a>(alert: &'a NotifiedAlert, language: Language, names: &[&str]) -> &'a str {
    let chinese = names
        .iter()
        .filter(|_| language == Language::Zh)
        .map(|name| alert.annotation(&format!("{name}_zh")));
    chinese
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| annotation(alert, names))
}

/// An alert in words. `limit` is the size of the whole message in bytes: no single text takes more
/// than a part of it, so that cutting happens inside texts and not inside markup.
fn entry<'a>(alert: &'a NotifiedAlert, style: &Style, now_ms: i64, limit: usize) -> Entry<'a> {
    let words = style.words();
    let cut =
        |text: &'a str, share: usize| cut_bytes(text, (limit / share).max(60), style.language);
    let summary = text_of(alert, style.language, &["summary", "title"]);
    let name = alert.label("alertname");
    let headline = [summary, name, words.alert]
        .into_iter()
        .find(|t| !t.is_empty())
        .unwrap_or_default();
    let mut facts: Vec<(&'static str, Cow<'a, str>)> = Vec::with_capacity(8);
    let mut add = |word: &'static str, text: Cow<'a, str>| {
        if !text.is_empty() {
            facts.push((word, text));
        }
    };
    if let Some((receiver, since_ms)) = evidence::unanswered(alert) {
        add(
            words.escalated,
            style
                .words()
                .unanswered(receiver, &style.time(since_ms))
                .into(),
        );
    }
    if !summary.is_empty() {
        add(words.rule, cut(name, 16));
    }
    add(
        words.severity,
        style.words().severity_in_words(alert.label("severity")),
    );
    add(
        words.position,
        cut_bytes(&position(alert), (limit / 8).max(60), style.language)
            .into_owned()
            .into(),
    );
    let value = match annotation(alert, &["value"]) {
        "" => alert.value.map(format_value).unwrap_or_default().into(),
        text if alert.status == AlertStatus::Firing || alert.value.is_none() => cut(text, 16),
        _ => alert.value.map(format_value).unwrap_or_default().into(),
    };
    add(
        if alert.status == AlertStatus::Firing {
            words.value
        } else {
            words.value_now
        },
        value,
    );
    match annotation(alert, &["threshold"]) {
        "" => add(
            words.threshold,
            evidence::threshold(alert).unwrap_or_default().into(),
        ),
        text => add(words.threshold, cut(text, 16)),
    }
    // At the beginning the value is the peak.
    if let Some(peak) = alert
        .peak
        .filter(|peak| alert.status == AlertStatus::Resolved || alert.value != Some(*peak))
    {
        add(words.peak, format_value(peak).into());
    }
    let lasted = |end: i64| {
        style
            .words()
            .duration_in_words(elapsed(alert.starts_at_ms, end))
    };
    match alert.ends_at_ms {
        None => add(
            words.since,
            format!("{} ({})", style.time(alert.starts_at_ms), lasted(now_ms)).into(),
        ),
        Some(end) => {
            add(words.began, style.time(alert.starts_at_ms).into());
            add(words.ended, style.time(end).into());
            add(words.duration, lasted(end).into());
        }
    }
    for (word, text) in evidence::facts(alert, style) {
        add(
            word,
            cut_bytes(&text, (limit / 12).max(60), style.language)
                .into_owned()
                .into(),
        );
    }
    // A description speaks of the trouble in the present tense: once it is over, the headline says
    // what it was.
    let described = alert.status == AlertStatus::Firing || summary.is_empty();
    let description = if described {
        text_of(alert, style.language, &["description", "message"]).trim()
    } else {
        ""
    };
    let links = [
        (words.acknowledge, annotation(alert, &["acknowledge_url"])),
        (
            words.runbook,
            annotation(alert, &["runbook_url", "runbook"]),
        ),
        (
            words.dashboard,
            annotation(alert, &["dashboard_url", "dashboard"]),
        ),
        (words.picture, evidence::picture_url(alert)),
        (words.expression, alert.generator_url.as_str()),
    ];
    Entry {
        status: alert.status,
        gravity: Gravity::of(alert),
        headline: cut(headline, 8),
        text: cut(description, 4),
        facts,
        // A link that is cut leads nowhere.
        links: links
            .into_iter()
            .filter(|(_, url)| !url.is_empty() && url.len() <= (limit / 8).max(200))
            .collect(),
    }
}

/// Every label that says where, the instance first.
fn position(alert: &NotifiedAlert) -> String {
    let mut labels: Vec<&(String, String)> = alert
        .labels
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "alertname" | "severity"))
        .collect();
    labels.sort_by_key(|(name, _)| name != "instance");
    labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `2 firing, 1 resolved`, how many were left out, and for whom this one stands in.
fn headcount(n: &Notification, style: &Style) -> String {
    let count = style.words().count(
        n.count(AlertStatus::Firing),
        n.count(AlertStatus::Resolved),
        n.truncated_alerts,
    );
    match n.stands_in_for.as_slice() {
        [] => count,
        receivers => format!("{count} {}", style.words().stands_in(&receivers.join(", "))),
    }
}

/// A value for people: whole numbers in full, others to four significant digits.
fn format_value(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() || (magnitude != 0.0 && !(1e-4..1e15).contains(&magnitude)) {
        return crate::model::text::format_float(value);
    }
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let before_point = if magnitude >= 1.0 {
        magnitude.log10() as usize + 1
    } else {
        0
    };
    let leading_zeros = if magnitude < 1.0 {
        (-magnitude.log10()).floor() as usize
    } else {
        0
    };
    let text = format!(
        "{value:.*}",
        4usize.saturating_sub(before_point).max(1) + leading_zeros
    );
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Time between two instants to the second, days and weeks spelled out as hours only below a day:
/// `2d3h`, `5m30s`.
fn elapsed(from_ms: i64, to_ms: i64) -> String {
    let seconds = u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0) / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    match (days, rest) {
        (0, _) => format_duration(Duration::from_secs(rest)),
        // Beyond a day nobody counts seconds.
        (_, 0..=59) => format!("{days}d"),
        _ => format!(
            "{days}d{}",
            format_duration(Duration::from_secs(rest - rest % 60))
        ),
    }
}

#[cfg(test)]
mod tests;
