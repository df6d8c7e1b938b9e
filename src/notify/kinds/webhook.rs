//! `webhook_configs`: Alertmanager's JSON, version 4 (SEMANTICS 179), to any HTTP server.
//!
//! Each request carries `X-Nightbell-Delivery`, the same for every attempt at one delivery, so that
//! a receiver can drop repeats.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::config::Section;
use crate::http::{HeaderName, HeaderValue, Request};
use crate::model::Timestamp;

use crate::notify::endpoint::Endpoint;
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering, Tree};
use crate::notify::message::Style;
use crate::notify::notification::{AlertStatus, Notification, NotifiedAlert};
use crate::notify::{Digest, Notifier, NotifierKind};

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "webhook_configs",
    name: "webhook",
    send_resolved: true,
    build,
};

/// Names one delivery across its attempts.
const DELIVERY: HeaderName = HeaderName::from_static("x-nightbell-delivery");

struct Webhook {
    advice: Option<String>,
    url: Field,
    max_alerts: usize,
    /// Replaces Alertmanager's body.
    payload: Option<Tree>,
    endpoint: Endpoint,
    style: Style,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    let url = section.secret("url").unwrap_or_default();
    // A file that cannot be read was notified of already.
    if url.expose().trim().is_empty() && section.node("url_file").is_none_or(|node| node.is_null())
    {
        section.error("", "has neither url nor url_file", "add url: https://…");
    }
    let written = url.expose().trim();
    let mut advice = None;
    if !written.is_empty() && !written.contains("{{") {
        let parsed = crate::notify::endpoint::parse_url(section, "url", url.clone());
        let host = parsed
            .as_ref()
            .and_then(|url| url.host_str())
            .unwrap_or_default();
        let own = crate::notify::endpoint::OF_ITS_OWN
            .iter()
            .find(|(service, _)| host == *service);
        advice = own.filter(|_| section.node("payload").is_none()).map(|(service, key)| {
            let (file, line) = (section.file(), section.position("url").line);
            format!("{file}:{line}: webhook_configs: {service} refuses Alertmanager's JSON; use {key}")
        });
    }
    Box::new(Webhook {
        advice,
        url: Field::new(section, "url", written.to_owned()),
        max_alerts: section.or("max_alerts", 0),
        payload: Tree::read(section, "payload"),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
    })
}

impl Notifier for Webhook {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let kept = notification.first_alerts(self.max_alerts);
            let address = Rendering::new(&kept, &self.style).address(&self.url)?;
            let url = address
                .trim()
                .parse()
                .map_err(|_| NotifyError::permanent(Reason::Template, "url is not a URL"))?;
            let body = self.body(&kept);
            let mut request = Request::post_json(url, &body, self.endpoint.timeout());
            if let Ok(id) = HeaderValue::from_str(&kept.delivery_id) {
                request = request.header(DELIVERY, id);
            }
            self.endpoint.send(request).await?.accepted().map(drop)
        })
    }

    fn digest(&self) -> Digest {
        Digest::Whole
    }

    fn advice(&self) -> Option<String> {
        self.advice.clone()
    }

    fn deadline(&self) -> Duration {
        self.endpoint.deadline()
    }
}

impl Webhook {
    /// The configured body, or Alertmanager's; where a template fails, Alertmanager's with what
    /// failed in `templateErrors`.
    fn body(&self, n: &Notification) -> Value {
        let Some(own) = &self.payload else {
            return payload(n);
        };
        let mut rendering = Rendering::new(n, &self.style);
        let body = own.render(&mut rendering);
        if rendering.notes().is_empty() {
            return body;
        }
        let mut built_in = payload(n);
        built_in["templateErrors"] = rendering.notes().into();
        built_in
    }
}

/// The body, keys in Alertmanager's order.
pub(in crate::notify) fn payload(n: &Notification) -> Value {
    let mut body = json!({
        "receiver": n.quoted_receiver(),
        "status": n.status.as_str(),
        "alerts": n.alerts.iter().map(alert).collect::<Vec<_>>(),
        "notification_reason": n.reason,
        "groupLabels": pairs(&n.group_labels),
        "commonLabels": pairs(&n.common_labels),
        "commonAnnotations": pairs(&n.common_annotations),
        "externalURL": n.external_url,
        "version": "4",
        "groupKey": n.group_key,
        "truncatedAlerts": n.truncated_alerts,
    });
    if let Some(report) = &n.report {
        body["report"] = json!({ "title": report.title, "markdown": report.text, "html": report.page.as_ref().or(report.body.as_ref()) });
    }
    body
}

/// One alert in Alertmanager's JSON.
pub(in crate::notify) fn alert(alert: &NotifiedAlert) -> Value {
    let ends_at = match (alert.status, alert.ends_at_ms) {
        (AlertStatus::Resolved, Some(end)) => go_time(end),
        // Go's zero time.
        _ => "0001-01-01T00:00:00Z".to_owned(),
    };
    json!({
        "status": alert.status.as_str(),
        "labels": pairs(&alert.labels),
        "annotations": pairs(&alert.annotations),
        "startsAt": go_time(alert.starts_at_ms),
        "endsAt": ends_at,
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint,
    })
}

pub(in crate::notify) fn pairs(pairs: &[(String, String)]) -> Value {
    Value::Object(
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), Value::String(value.clone())))
            .collect::<Map<_, _>>(),
    )
}

/// RFC 3339 as Go prints it: no zeros at the end of the fraction.
fn go_time(ms: i64) -> String {
    let text = Timestamp(ms).rfc3339();
    let trimmed = text
        .trim_end_matches('Z')
        .trim_end_matches('0')
        .trim_end_matches('.');
    // Without a fraction, the zeros of the seconds belong to the time.
    if ms % 1000 == 0 {
        text.replace(".000Z", "Z")
    } else {
        format!("{trimmed}Z")
    }
}
