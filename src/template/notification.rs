//! Templates in the texts of receivers: the data, fields and functions of Alertmanager
//! (<https://prometheus.io/docs/alerting/latest/notifications/>). Refused: Alertmanager's own named templates and those of other files.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use gotmpl::{FuncMap, TemplateError, Value};

use super::{Template, failed, functions, text, time};

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
const ZERO_TIME: &str = "0001-01-01 00:00:00 +0000 UTC";

/// Functions of Alertmanager that are known at load and fail when they run.
const UNSUPPORTED: [&str; 15] = [
    "safeUrl",
    "urlUnescape",
    "now",
    "since",
    "toDate",
    "mustToDate",
    "toJson",
    "base64encode",
    "base64decode",
    "base64Encode",
    "base64Decode",
    "list",
    "append",
    "dict",
    "routeLabels",
];

static KNOWN: LazyLock<FuncMap> = LazyLock::new(|| {
    let mut known = functions::functions();
    // Functions of rules only.
    for name in ["first", "label", "value", "strvalue", "sortByLabel", "graphLink", "tableLink", "args", "stripPort", "stripDomain"] {
        known.remove(name);
    }
    let mut add = |name: &str, function: fn(&[Value]) -> Result<Value, TemplateError>| drop(known.insert(name.into(), Arc::new(function)));
    add("trimSpace", |args| match args {
        [Value::String(written)] => Ok(text(written.trim())),
        _ => failed("trimSpace wants a text"),
    });
    add("join", join);
    add("stringSlice", |args| Ok(Value::List(args.to_vec().into())));
    add("date", |args| match args {
        [Value::String(layout), Value::String(moment)] => match time::parse(moment) {
            Some(moment) => Ok(text(&time::format(layout, &moment.to_zoned(jiff::tz::TimeZone::UTC)))),
            None => failed("date wants a layout and a time"),
        },
        [layout, zoned] => match zoned.field("Format") {
            Some(Value::Function(format)) => format(std::slice::from_ref(layout)),
            _ => failed("date wants a layout and a time"),
        },
        _ => failed("date wants a layout and a time"),
    });
    add("tz", zoned);
    // Alertmanager has these, so a configuration that names them is sound; the message then has the built-in text and this note.
    for name in UNSUPPORTED {
        add(name, |_| failed("a function that is not supported yet"));
    }
    known
});

/// The functions of a field of HTML: every value that is printed is escaped, whatever it is.
static ESCAPING: LazyLock<FuncMap> = LazyLock::new(|| {
    let mut known = KNOWN.clone();
    known.insert(
        super::rewrite::SHOWN.into(),
        Arc::new(|args: &[Value]| {
            let shown = args.first().map(ToString::to_string).unwrap_or_default();
            let escaped = shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            Ok(text(&escaped.replace('"', "&#34;").replace('\'', "&#39;")))
        }),
    );
    known
});

impl Template {
    /// Reads the text of a receiver's field. Errs in Go's words.
    pub fn notification(field: &str, written: &str) -> Result<Self, String> {
        Template::parse(field, "", written, &KNOWN)
    }

    /// The text for this data; `html` escapes each value. Errs with what failed.
    pub fn notify(&self, data: &NotificationData<'_>, html: bool) -> Result<String, String> {
        let functions = if html { ESCAPING.clone() } else { KNOWN.clone() };
        self.execute(functions, &values(data))
    }
}

fn join(args: &[Value]) -> Result<Value, TemplateError> {
    let [Value::String(separator), Value::List(parts)] = args else { return failed("join wants a separator and a list") };
    let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
    Ok(text(&parts.join(separator)))
}

/// A time in a zone; it has the method `Format` and goes into `date`.
fn zoned(args: &[Value]) -> Result<Value, TemplateError> {
    let [Value::String(name), Value::String(moment)] = args else { return failed("tz wants a zone and a time") };
    let Some(moment) = time::parse(moment) else { return failed("tz wants a zone and a time") };
    let Ok(zone) = jiff::tz::TimeZone::get(name) else { return failed(format!("unknown time zone {name}")) };
    let moment = moment.to_zoned(zone);
    let format = move |args: &[Value]| match args {
        [Value::String(layout)] => Ok(text(&time::format(layout, &moment))),
        _ => failed("Format wants a layout"),
    };
    Ok(map([("Format", Value::Function(Arc::new(format)))]))
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(Arc::new(fields.into_iter().map(|(name, value)| (Arc::from(name), value)).collect()))
}

fn set(pairs: &Pairs) -> Value {
    let set: BTreeMap<Arc<str>, Value> = pairs.iter().map(|(name, value)| (name.as_str().into(), text(value))).collect();
    Value::Map(Arc::new(set))
}

fn moment(ms: Option<i64>) -> Value {
    let written = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map(time::go_text);
    text(written.as_deref().unwrap_or(ZERO_TIME))
}

fn alert(alert: &AlertData<'_>) -> Value {
    map([
        ("Status", text(alert.status)),
        ("Labels", set(alert.labels)),
        ("Annotations", set(alert.annotations)),
        ("StartsAt", moment(Some(alert.starts_at_ms))),
        ("EndsAt", moment(alert.ends_at_ms)),
        ("GeneratorURL", text(alert.generator_url)),
        ("Fingerprint", text(alert.fingerprint)),
    ])
}

fn values(data: &NotificationData<'_>) -> Value {
    map([
        ("Receiver", text(data.receiver)),
        ("Status", text(data.status)),
        ("Alerts", Value::List(data.alerts.iter().map(alert).collect())),
        ("GroupLabels", set(data.group_labels)),
        ("CommonLabels", set(data.common_labels)),
        ("CommonAnnotations", set(data.common_annotations)),
        ("ExternalURL", text(data.external_url)),
        ("NotificationReason", text(data.reason)),
    ])
}

#[cfg(test)]
mod tests {
    use super::{AlertData, NotificationData, Template};

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
        let data = NotificationData {
            receiver: "ops",
            status: "firing",
            alerts: vec![one("firing", None), one("resolved", Some(0))],
            group_labels: &[],
            common_labels: &labels,
            common_annotations: &[],
            external_url: "http://x",
            reason: "",
        };
        for (written, expected) in [
            ("{{ .Status | toUpper }} {{ .Alerts.Firing | len }}/{{ len .Alerts }}", "FIRING 1/2"),
            ("{{ range .CommonLabels.SortedPairs }}{{ .Name }}={{ .Value }};{{ end }}", "alertname=Down;a=<b>;"),
            ("{{ .CommonLabels.SortedPairs.Values | join \",\" }}", "Down,<b>"),
            ("{{ (.CommonLabels.Remove (stringSlice \"a\")).Names | join \",\" }}", "alertname"),
            ("{{ (index .Alerts 0).StartsAt.Format \"15:04\" }} {{ (index .Alerts 0).EndsAt.IsZero }}", "20:10 true"),
            ("{{ range .Alerts.Resolved }}{{ .EndsAt | tz \"Europe/Paris\" | date \"15:04\" }}{{ end }}", "01:00"),
            ("[{{ .CommonLabels.missing }}{{ .GroupLabels.x }}]", "[]"),
        ] {
            let template = Template::notification("title", written).expect(written);
            assert_eq!(template.notify(&data, false).as_deref(), Ok(expected), "{written}");
        }
        let template = Template::notification("html", "<i>{{ .CommonLabels.a }}</i>").expect("it is sound");
        assert_eq!(template.notify(&data, true).as_deref(), Ok("<i>&lt;b&gt;</i>"));
        assert!(Template::notification("title", "{{ nope }}").is_err());
        let failing = Template::notification("title", "{{ .Nothing }}").expect("it is read");
        assert!(failing.notify(&data, false).is_err());
    }
}
