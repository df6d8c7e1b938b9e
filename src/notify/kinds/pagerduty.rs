//! `pagerduty_configs`: the Events API v2 (`routing_key`), or v1 (`service_key`) (SEMANTICS 182).
//! One incident for each group.
//! <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use url::Url;

use crate::config::{Secret, Section};
use crate::http::Request;

use super::webhook;
use crate::notify::endpoint::Endpoint;
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering, Tree};
use crate::notify::message::{PLAIN, Style, body, cut_chars, link, subject};
use crate::notify::notification::{AlertStatus, Notification};
use crate::notify::{Notifier, NotifierKind};

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "pagerduty_configs",
    name: "pagerduty",
    send_resolved: true,
    build,
};

/// Longest summary, in characters.
const MAX_SUMMARY: usize = 1024;
/// Largest built-in text among the details, in bytes.
const MAX_TEXT: usize = 8 << 10;
/// The severities that PagerDuty knows.
const SEVERITIES: [&str; 4] = ["critical", "error", "warning", "info"];
/// Largest event, in bytes.
const MAX_EVENT: usize = 512_000;

/// Which of the two interfaces, and its key.
enum Key {
    V1(Secret),
    V2(Secret),
}

struct PagerDuty {
    url: Option<Url>,
    key: Key,
    description: Option<Field>,
    client: Option<Field>,
    client_url: Option<Field>,
    source: Option<Field>,
    severity: Option<Field>,
    /// `class`, `component`, `group`.
    others: Vec<(&'static str, Field)>,
    details: Option<Tree>,
    images: Vec<Vec<(&'static str, Field)>>,
    links: Vec<Vec<(&'static str, Field)>>,
    endpoint: Endpoint,
    style: Style,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    let key = match (section.secret("routing_key"), section.secret("service_key")) {
        // Of two keys Alertmanager takes the older one.
        (_, Some(key)) => Key::V1(key),
        (Some(key), None) => Key::V2(key),
        (None, None) => {
            section.error(
                "",
                "has neither routing_key nor service_key",
                "add routing_key: …",
            );
            Key::V2(Secret::default())
        }
    };
    let inherited = global.and_then(|g| g.get::<Url>("pagerduty_url"));
    let default = match key {
        Key::V1(_) => "https://events.pagerduty.com/generic/2010-04-15/create_event.json",
        Key::V2(_) => "https://events.pagerduty.com/v2/enqueue",
    };
    let read = |section: &Section<'_>, keys: &[&'static str]| -> Vec<(&'static str, Field)> {
        keys.iter()
            .filter_map(|key| Some((*key, Field::read(section, key)?)))
            .collect()
    };
    let list = |key: &str, keys: &[&'static str]| {
        let one = |item: Section<'_>| {
            let fields = read(&item, keys);
            item.finish();
            fields
        };
        section
            .sections(key)
            .into_iter()
            .map(one)
            .collect::<Vec<_>>()
    };
    Box::new(PagerDuty {
        url: section
            .get::<Url>("url")
            .or(inherited)
            .or_else(|| Url::parse(default).ok()),
        key,
        description: Field::customised(section, "description", "pagerduty.default.description"),
        client: Field::customised(section, "client", "pagerduty.default.client"),
        client_url: Field::customised(section, "client_url", "pagerduty.default.clientURL"),
        source: Field::read(section, "source"),
        severity: Field::read(section, "severity"),
        others: read(section, &["class", "component", "group"]),
        details: Tree::read(section, "details"),
        images: list("images", &["src", "alt", "href"]),
        links: list("links", &["href", "text"]),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
    })
}

impl Notifier for PagerDuty {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let url = self
                .url
                .clone()
                .ok_or_else(|| NotifyError::permanent(Reason::Rejected, "no URL is configured"))?;
            let body = match &self.key {
                Key::V1(key) => self.v1(notification, key),
                Key::V2(key) => self.v2(notification, key),
            };
            let outcome = self
                .endpoint
                .send(Request::post_json(url, &body, self.endpoint.timeout()))
                .await?
                .accepted();
            match (&self.key, outcome) {
                (_, Ok(_)) => Ok(()),
                // Version 1 says "slow down" with 403 (SEMANTICS 172).
                (Key::V1(_), Err(error)) if error.message.starts_with("answered 403") => {
                    Err(NotifyError {
                        reason: Reason::RateLimited,
                        retryable: true,
                        ..error
                    })
                }
                (_, Err(error)) => Err(error),
            }
        })
    }

    fn deadline(&self) -> Duration {
        self.endpoint.deadline()
    }
}

impl PagerDuty {
    fn v2(&self, n: &Notification, key: &Secret) -> Value {
        let mut rendering = Rendering::new(n, &self.style);
        let summary = rendering.needed(self.description.as_ref(), || {
            subject(n, self.style.language)
        });
        let mut payload = Map::new();
        payload.insert(
            "summary".into(),
            cut_chars(&summary, MAX_SUMMARY).into_owned().into(),
        );
        // PagerDuty knows four severities; an alert's own is used where it is one of them.
        payload.insert(
            "source".into(),
            rendering
                .needed(self.source.as_ref(), || "nightbell".to_owned())
                .into(),
        );
        let own = rendering.text(self.severity.as_ref(), || severity(n).to_owned());
        let own = if SEVERITIES.contains(&own.as_str()) {
            own
        } else {
            rendering.unknown("severity", &own, "error")
        };
        payload.insert("severity".into(), own.into());
        for (name, field) in &self.others {
            if let Some(text) = rendering.optional(Some(field)) {
                payload.insert((*name).into(), text.into());
            }
        }
        payload.insert("custom_details".into(), self.details(n, &mut rendering));
        let mut out = Map::new();
        out.insert("routing_key".into(), key.expose().into());
        out.insert("dedup_key".into(), n.group_key_hash().into());
        out.insert(
            "event_action".into(),
            if n.status == AlertStatus::Firing {
                "trigger"
            } else {
                "resolve"
            }
            .into(),
        );
        out.insert("payload".into(), Value::Object(payload));
        out.insert(
            "client".into(),
            rendering
                .text(self.client.as_ref(), || "nightbell".to_owned())
                .into(),
        );
        out.insert(
            "client_url".into(),
            rendering.text(self.client_url.as_ref(), || link(n)).into(),
        );
        for (name, list) in [("images", &self.images), ("links", &self.links)] {
            if !list.is_empty() {
                let one = |fields: &Vec<(&'static str, Field)>| -> Map<String, Value> {
                    fields
                        .iter()
                        .map(|(name, field)| {
                            (
                                (*name).to_owned(),
                                rendering.text(Some(field), String::new).into(),
                            )
                        })
                        .collect()
                };
                // Without an address there is nothing to show.
                let address = if name == "images" { "src" } else { "href" };
                let shown = list.iter().map(one).filter(|one| {
                    one.get(address)
                        .and_then(Value::as_str)
                        .is_some_and(|to| !to.trim().is_empty())
                });
                let shown: Vec<Value> = shown.map(Value::Object).collect();
                if !shown.is_empty() {
                    out.insert(name.into(), shown.into());
                }
            }
        }
        let mut out = Value::Object(out);
        if out.to_string().len() > MAX_EVENT {
            let note = format!(
                "{} alerts: the details are larger than PagerDuty takes and were left out",
                n.alerts.len()
            );
            out["payload"]["custom_details"] = json!({ "error": note });
        }
        out
    }

    fn v1(&self, n: &Notification, key: &Secret) -> Value {
        let mut rendering = Rendering::new(n, &self.style);
        let description = rendering.needed(self.description.as_ref(), || {
            subject(n, self.style.language)
        });
        json!({
            "service_key": key.expose(),
            "incident_key": n.group_key_hash(),
            "event_type": if n.status == AlertStatus::Firing { "trigger" } else { "resolve" },
            "description": cut_chars(&description, MAX_SUMMARY),
            "client": rendering.text(self.client.as_ref(), || "nightbell".to_owned()),
            "client_url": rendering.text(self.client_url.as_ref(), || link(n)),
            "details": self.details(n, &mut rendering),
        })
    }

    /// Alertmanager's default details and the built-in text, or the configured ones over the
    /// former, and what failed.
    fn details(&self, n: &Notification, rendering: &mut Rendering<'_>) -> Value {
        let of = |status| {
            n.alerts
                .iter()
                .filter(|a| a.status == status)
                .map(webhook::alert)
                .collect::<Vec<_>>()
        };
        let mut out = json!({
            "firing": of(AlertStatus::Firing),
            "resolved": of(AlertStatus::Resolved),
            "num_firing": n.count(AlertStatus::Firing),
            "num_resolved": n.count(AlertStatus::Resolved),
        });
        if let (Some(Value::Object(own)), Some(all)) = (
            self.details.as_ref().map(|d| d.render(rendering)),
            out.as_object_mut(),
        ) {
            all.extend(own);
        }
        // What the on-call person reads on a phone. Over its limit an event loses all details, so
        // this part is bounded.
        if self.details.is_none() {
            out["message"] = body(n, &self.style, &PLAIN, MAX_TEXT).into();
        }
        if !rendering.notes().is_empty() {
            out["template_errors"] = rendering.notes().join("\n").into();
        }
        out
    }
}

/// The severity all firing alerts share, if PagerDuty knows it; else `error`, as Alertmanager has
/// it.
fn severity(n: &Notification) -> &'static str {
    let shared = n
        .common_labels
        .iter()
        .find(|(name, _)| name == "severity")
        .map_or("", |(_, value)| value);
    SEVERITIES
        .into_iter()
        .find(|k| *k == shared)
        .unwrap_or("error")
}
