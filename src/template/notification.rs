//! Templates in the texts of receivers: the data, fields and functions of Alertmanager
//! (<https://prometheus.io/docs/alerting/latest/notifications/>, SEMANTICS 175-177).

use super::notification_functions::{NOTIFICATIONS, zero_time};
use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::go::call::Context;
use super::go::typed;
use super::go::typed::Dialect;
use super::{Library, Mistake, RenderError, Template, text};
use crate::model::Timestamp;

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

impl Template {
    /// Reads the text of a receiver's field, which may call the templates of `library`.
    pub fn notification(written: &str, library: &Library) -> Result<Self, Mistake> {
        Template::parse("", "", written, &NOTIFICATIONS, Some(library))
    }

    /// The text for this data; in `html` each value is escaped for the position where it stands.
    ///
    /// # Errors
    /// When something in it fails, in Go's words.
    pub fn notify(&self, data: &NotificationData<'_>, html: bool) -> Result<String, RenderError> {
        let context = Context::new(
            self,
            &NOTIFICATIONS,
            Dialect::Notification,
            Timestamp(data.at_ms),
            data.external_url,
            None,
        );
        self.execute(&context, &values(data), html)
    }
}

fn set(pairs: &Pairs) -> Value {
    let set: BTreeMap<Arc<str>, Value> = pairs
        .iter()
        .map(|(name, value)| (name.as_str().into(), text(value)))
        .collect();
    Value::Map(Arc::new(set))
}

fn moment(ms: Option<i64>) -> Value {
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(zero_time, typed::utc)
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
        (
            "Alerts",
            Value::List(data.alerts.iter().map(alert).collect()),
        ),
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
        let labels = [
            ("alertname".to_owned(), "Down".to_owned()),
            ("a".to_owned(), "<b>".to_owned()),
        ];
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
            (
                "{{ .Status | toUpper }} {{ .Alerts.Firing | len }}/{{ len .Alerts }}",
                "FIRING 1/2",
            ),
            (
                "{{ range .CommonLabels.SortedPairs }}{{ .Name }}={{ .Value }};{{ end }}",
                "alertname=Down;a=<b>;",
            ),
            (
                "{{ .CommonLabels.SortedPairs.Values | join \",\" }}",
                "Down,<b>",
            ),
            (
                "{{ (.CommonLabels.Remove (stringSlice \"a\")).Names | join \",\" }}",
                "alertname",
            ),
            (
                "{{ (index .Alerts 0).StartsAt.Format \"15:04\" }} {{ (index .Alerts 0).EndsAt.IsZero }}",
                "20:10 true",
            ),
            (
                "{{ range .Alerts.Resolved }}{{ .EndsAt | tz \"Europe/Paris\" | date \"15:04\" }}{{ end }}",
                "01:00",
            ),
            ("[{{ .CommonLabels.missing }}{{ .GroupLabels.x }}]", "[]"),
            // What amtool 0.33 does not know, or what depends on the time.
            (
                "{{ now.Unix }} {{ (index .Alerts 0).StartsAt | since }}",
                "1435781511 1m0s",
            ),
            (
                "{{ (index .Alerts 0).StartsAt | since | humanizeDuration }}",
                "1m 0s",
            ),
            (
                "{{ base64encode \"a?>\" }} {{ base64decode \"YT8-\" }}",
                "YT8- a?>",
            ),
            (
                "{{ (toDate \"2006-01-02 15:04\" \"2026-11-24 18:30\").Unix }} {{ (toDate \"2006\" \"x\").IsZero }}",
                "1795545000 true",
            ),
            (
                "{{ mustToDate \"2006-01-02T15:04:05Z07:00\" \"2026-11-24T18:30:00+08:00\" | date \"15:04 MST\" }}",
                "10:30 UTC",
            ),
            ("[{{ .RouteLabels }}{{ routeLabels.team }}]", "[]"),
        ] {
            let template = Template::notification(written, &library).expect(written);
            assert_eq!(
                template.notify(&data, false).as_deref(),
                Ok(expected),
                "{written}"
            );
        }
        let template =
            Template::notification("<i>{{ .CommonLabels.a }}</i>", &library).expect("it is sound");
        assert_eq!(
            template.notify(&data, true).as_deref(),
            Ok("<i>&lt;b&gt;</i>")
        );
        assert!(Template::notification("{{ nope }}", &library).is_err());
        let failing = Template::notification("{{ .Nothing }}", &library).expect("it is read");
        assert!(failing.notify(&data, false).is_err());
    }
}
