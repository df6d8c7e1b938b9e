//! Templates in the texts of receivers: the data, fields and functions of Alertmanager
//! (<https://prometheus.io/docs/alerting/latest/notifications/>, SEMANTICS 175-177).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use gotmpl::{SafeKind, Value};

use super::functions::{common_and, expected, string, string_of, texts};
use super::go::call::{Arity, Context, Functions, Outcome, Row, fail, misuse};
use super::go::typed;
use super::go::typed::{DURATION, Dialect};
use super::go::{dot, json, time, title};
use super::{Library, Mistake, Template, text};
use crate::model::Timestamp;

use Arity::{AtLeast, Exactly};

/// Pairs of a name and a value.
pub type Pairs = [(String, String)];

/// What a notification's template sees.
pub struct NotificationData<'a> {
    /// The receiver's name, quoted for a regular expression.
    pub receiver: &'a str,
    /// `firing` or `resolved`.
    pub status: &'a str,
    /// The alerts, in order.
    pub alerts: Vec<AlertData<'a>>,
    /// The labels the group was made by.
    pub group_labels: &'a Pairs,
    /// Labels that all alerts share.
    pub common_labels: &'a Pairs,
    /// Annotations that all alerts share.
    pub common_annotations: &'a Pairs,
    /// Where people reach this nightbell.
    pub external_url: &'a str,
    /// Why it is sent.
    pub reason: &'a str,
    /// When it was decided to send it, milliseconds since the Unix epoch: what `now` gives.
    pub at_ms: i64,
}

/// One alert of it. Times are milliseconds since the Unix epoch.
pub struct AlertData<'a> {
    /// `firing` or `resolved`.
    pub status: &'a str,
    /// Its labels.
    pub labels: &'a Pairs,
    /// Its annotations.
    pub annotations: &'a Pairs,
    /// When it began.
    pub starts_at_ms: i64,
    /// When it ended; `None` while it fires.
    pub ends_at_ms: Option<i64>,
    /// Link to the expression.
    pub generator_url: &'a str,
    /// 16 hexadecimal digits.
    pub fingerprint: &'a str,
}

/// The zero time of Go, which an alert that fires has as its end.
const ZERO_SECOND: i64 = -62_135_596_800;

/// What the templates of notifications have beyond the common functions. Those from `routeLabels` on came after Alertmanager 0.33;
/// the routes here have no labels.
const NOTIFICATION: &[Row] = &[
    ("title", Exactly(1), |context, args| string(context, args, |s| title::title(s, true))),
    ("trimSpace", Exactly(1), |context, args| string(context, args, |s| s.trim().to_owned())),
    ("join", Exactly(2), join),
    ("safeHtml", Exactly(1), |context, args| safe(context, args, SafeKind::Html)),
    ("safeUrl", Exactly(1), |context, args| safe(context, args, SafeKind::Url)),
    ("urlUnescape", Exactly(1), unescaped),
    ("stringSlice", AtLeast(0), |context, args| {
        args.iter().try_for_each(|arg| string_of(context, arg).map(drop))?;
        Ok(Value::List(args.iter().filter_map(typed::as_text).map(|s| Value::String(Arc::clone(s))).collect()))
    }),
    ("date", Exactly(2), |context, args| {
        let layout = string_of(context, &args[0])?;
        match typed::as_moment(&args[1]) {
            Some(moment) => Ok(text(&time::format(layout, &moment))),
            None => expected("time.Time", context, &args[1]),
        }
    }),
    ("tz", Exactly(2), |context, args| {
        let zone = dot::zone(string_of(context, &args[0])?)?;
        match typed::as_moment(&args[1]) {
            Some(moment) => Ok(typed::moment(&moment.with_time_zone(zone))),
            None => expected("time.Time", context, &args[1]),
        }
    }),
    ("now", Exactly(0), |context, _| now(context).map(typed::utc).map_or_else(|| fail("the time is out of range"), Ok)),
    ("since", Exactly(1), |context, args| match (now(context), typed::as_moment(&args[0])) {
        (Some(now), Some(then)) => Ok(typed::number(DURATION, time::between(now, then.timestamp()))),
        _ => expected("time.Time", context, &args[0]),
    }),
    ("toJson", Exactly(1), |_, args| match json::encode(&args[0]) {
        Ok(written) => Ok(text(&written)),
        Err(problem) => fail(problem),
    }),
    ("list", AtLeast(0), |_, args| held(Value::List(args.into()))),
    ("append", AtLeast(1), |context, args| {
        let Value::List(items) = &args[0] else { return expected("[]interface {}", context, &args[0]) };
        held(Value::List(items.iter().chain(&args[1..]).cloned().collect()))
    }),
    ("dict", AtLeast(0), dict),
    ("routeLabels", AtLeast(0), |_, _| Ok(Value::Map(Arc::default()))),
    ("base64encode", Exactly(1), |context, args| string(context, args, |s| URL_SAFE.encode(s))),
    ("base64decode", Exactly(1), |context, args| {
        let [written] = texts(context, args)?;
        let Ok(bytes) = URL_SAFE.decode(written) else { return fail("illegal base64 data") };
        Ok(text(&String::from_utf8_lossy(&bytes)))
    }),
    ("toDate", Exactly(2), |context, args| {
        let [layout, written] = texts(context, args)?;
        Ok(time::parse(layout, written).map_or_else(zero_time, |moment| typed::moment(&moment)))
    }),
    ("mustToDate", Exactly(2), |context, args| {
        let [layout, written] = texts(context, args)?;
        match time::parse(layout, written) {
            Some(moment) => Ok(typed::moment(&moment)),
            None => fail(format!("parsing time {written:?} as {layout:?}: cannot be read")),
        }
    }),
];

pub(super) static NOTIFICATIONS: LazyLock<Functions> = LazyLock::new(|| common_and(NOTIFICATION));

impl Template {
    /// Reads the text of a receiver's field, which may call the templates of `library`.
    pub fn notification(written: &str, library: &Library) -> Result<Self, Mistake> {
        Template::parse("", "", written, &NOTIFICATIONS, Some(library))
    }

    /// The text for this data; in `html` each value is escaped for the position where it stands. Errs with what failed, in Go's words.
    pub fn notify(&self, data: &NotificationData<'_>, html: bool) -> Result<String, String> {
        let context = Context::new(self, &NOTIFICATIONS, Dialect::Notification, Timestamp(data.at_ms), data.external_url, None);
        self.execute(&context, &values(data), html)
    }
}

fn now(context: &Context) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(context.now.0).ok()
}

fn safe(context: &Context, args: &[Value], kind: SafeKind) -> Outcome {
    let [written] = texts(context, args)?;
    Ok(Value::Safe { kind, s: written.into() })
}

fn join(context: &Context, args: &[Value]) -> Outcome {
    let separator = string_of(context, &args[0])?;
    let Value::List(parts) = &args[1] else { return expected("[]string", context, &args[1]) };
    let parts: Result<Vec<&str>, _> = parts.iter().map(|part| string_of(context, part)).collect();
    Ok(text(&parts?.join(separator)))
}

/// Go's `url.QueryUnescape`.
fn unescaped(context: &Context, args: &[Value]) -> Outcome {
    let [written] = texts(context, args)?;
    let bytes = written.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
                let byte = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())).and_then(|d| u8::from_str_radix(d, 16).ok());
                let Some(byte) = byte else {
                    let shown: String = written[at..].chars().take(3).collect();
                    return fail(format!("invalid URL escape {shown:?}"));
                };
                out.push(byte);
                at += 2;
            }
            other => out.push(other),
        }
        at += 1;
    }
    Ok(text(&String::from_utf8_lossy(&out)))
}

fn dict(_: &Context, args: &[Value]) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return fail("dict requires an even number of arguments");
    }
    let mut entries = BTreeMap::new();
    for pair in args.chunks_exact(2) {
        let Some(name) = typed::as_text(&pair[0]) else { return fail("dict keys must be strings") };
        entries.insert(Arc::clone(name), pair[1].clone());
    }
    held(typed::dict(entries))
}

/// A list or map that a template made, if it is not too much.
fn held(value: Value) -> Outcome {
    match typed::weight(&value, super::MAX_OUTPUT) {
        Some(_) => Ok(value),
        None => misuse("a list or dict holds too much"),
    }
}

fn set(pairs: &Pairs) -> Value {
    let set: BTreeMap<Arc<str>, Value> = pairs.iter().map(|(name, value)| (name.as_str().into(), text(value))).collect();
    Value::Map(Arc::new(set))
}

fn zero_time() -> Value {
    jiff::Timestamp::from_second(ZERO_SECOND).map_or(Value::Nil, typed::utc)
}

fn moment(ms: Option<i64>) -> Value {
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map_or_else(zero_time, typed::utc)
}

fn alert(alert: &AlertData<'_>) -> Value {
    let fields = [
        ("Status", text(alert.status)),
        ("Labels", set(alert.labels)),
        ("Annotations", set(alert.annotations)),
        ("StartsAt", moment(Some(alert.starts_at_ms))),
        ("EndsAt", moment(alert.ends_at_ms)),
        ("GeneratorURL", text(alert.generator_url)),
        ("Fingerprint", text(alert.fingerprint)),
    ];
    typed::structure("template.Alert", fields)
}

fn values(data: &NotificationData<'_>) -> Value {
    let fields = [
        ("Receiver", text(data.receiver)),
        ("Status", text(data.status)),
        ("Alerts", Value::List(data.alerts.iter().map(alert).collect())),
        ("NotificationReason", text(data.reason)),
        ("GroupLabels", set(data.group_labels)),
        ("CommonLabels", set(data.common_labels)),
        ("CommonAnnotations", set(data.common_annotations)),
        ("ExternalURL", text(data.external_url)),
    ];
    typed::structure("template.Data", fields)
}

#[cfg(test)]
mod tests {
    use super::{AlertData, NotificationData, Template};
    use crate::template::Library;

    /// SEMANTICS 175-177.
    #[test]
    fn a_receivers_text_sees_what_alertmanager_gives_it() {
        let labels = [("alertname".to_owned(), "Down".to_owned()), ("a".to_owned(), "<b>".to_owned())];
        let one = |status, ends_at_ms| AlertData {
            status,
            labels: &labels,
            annotations: &[],
            starts_at_ms: 1_435_781_451_000,
            ends_at_ms,
            generator_url: "",
            fingerprint: "00",
        };
        let library = Library::default();
        let data = NotificationData {
            receiver: "ops",
            status: "firing",
            alerts: vec![one("firing", None), one("resolved", Some(0))],
            group_labels: &[],
            common_labels: &labels,
            common_annotations: &[],
            external_url: "http://x",
            reason: "",
            at_ms: 1_435_781_511_000,
        };
        for (written, expected) in [
            ("{{ .Status | toUpper }} {{ .Alerts.Firing | len }}/{{ len .Alerts }}", "FIRING 1/2"),
            ("{{ range .CommonLabels.SortedPairs }}{{ .Name }}={{ .Value }};{{ end }}", "alertname=Down;a=<b>;"),
            ("{{ .CommonLabels.SortedPairs.Values | join \",\" }}", "Down,<b>"),
            ("{{ (.CommonLabels.Remove (stringSlice \"a\")).Names | join \",\" }}", "alertname"),
            ("{{ (index .Alerts 0).StartsAt.Format \"15:04\" }} {{ (index .Alerts 0).EndsAt.IsZero }}", "20:10 true"),
            ("{{ range .Alerts.Resolved }}{{ .EndsAt | tz \"Europe/Paris\" | date \"15:04\" }}{{ end }}", "01:00"),
            ("[{{ .CommonLabels.missing }}{{ .GroupLabels.x }}]", "[]"),
            // What amtool 0.33 does not know, or what depends on the time.
            ("{{ now.Unix }} {{ (index .Alerts 0).StartsAt | since }}", "1435781511 1m0s"),
            ("{{ (index .Alerts 0).StartsAt | since | humanizeDuration }}", "1m 0s"),
            ("{{ base64encode \"a?>\" }} {{ base64decode \"YT8-\" }}", "YT8- a?>"),
            ("{{ (toDate \"2006-01-02 15:04\" \"2026-11-24 18:30\").Unix }} {{ (toDate \"2006\" \"x\").IsZero }}", "1795545000 true"),
            ("{{ mustToDate \"2006-01-02T15:04:05Z07:00\" \"2026-11-24T18:30:00+08:00\" | date \"15:04 MST\" }}", "10:30 UTC"),
            ("[{{ .RouteLabels }}{{ routeLabels.team }}]", "[]"),
        ] {
            let template = Template::notification(written, &library).expect(written);
            assert_eq!(template.notify(&data, false).as_deref(), Ok(expected), "{written}");
        }
        let template = Template::notification("<i>{{ .CommonLabels.a }}</i>", &library).expect("it is sound");
        assert_eq!(template.notify(&data, true).as_deref(), Ok("<i>&lt;b&gt;</i>"));
        assert!(Template::notification("{{ nope }}", &library).is_err());
        let failing = Template::notification("{{ .Nothing }}", &library).expect("it is read");
        assert!(failing.notify(&data, false).is_err());
    }
}
