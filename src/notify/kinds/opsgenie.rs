//! `opsgenie_configs`: the Alert API, one alert for each group, closed when the group is over
//! (SEMANTICS 183). <https://docs.opsgenie.com/docs/alert-api>.

use std::collections::BTreeMap;

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use url::Url;

use crate::config::Section;
use crate::http::{HeaderName, HeaderValue, Method, Request};

use crate::notify::endpoint::Endpoint;
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{PLAIN, Style, body, cut_bytes, cut_chars, link, subject};
use crate::notify::notification::{AlertStatus, Notification};
use crate::notify::{Notifier, NotifierKind};

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "opsgenie_configs",
    name: "opsgenie",
    send_resolved: true,
    build,
};

/// Longest message, in characters.
const MAX_MESSAGE: usize = 130;
/// Largest description, in bytes; Opsgenie takes 15000 characters.
const MAX_DESCRIPTION: usize = 15_000;

struct Opsgenie {
    base: Option<Url>,
    key: Option<HeaderValue>,
    message: Option<Field>,
    description: Option<Field>,
    source: Option<Field>,
    tags: Option<Field>,
    actions: Option<Field>,
    /// Texts without a built-in one.
    others: Vec<(&'static str, Field)>,
    details: Vec<(String, Field)>,
    responders: Vec<Vec<(&'static str, Field)>>,
    /// Whether message and description of an alert that is open already are replaced: a further
    /// message only counts up.
    update: bool,
    endpoint: Endpoint,
    style: Style,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    let inherited = global.and_then(|g| g.secret("opsgenie_api_key"));
    let key = section.secret("api_key").or(inherited);
    let key = key.and_then(|key| {
        match HeaderValue::from_str(&format!("GenieKey {}", key.expose().trim())) {
            Ok(mut value) => {
                value.set_sensitive(true);
                Some(value)
            }
            Err(_) => None,
        }
    });
    if key.is_none() {
        section.error(
            "",
            "has no usable api_key",
            "add api_key: …, or set global.opsgenie_api_key",
        );
    }
    let inherited = global.and_then(|g| g.get::<Url>("opsgenie_api_url"));
    let base = section
        .get::<Url>("api_url")
        .or(inherited)
        .or_else(|| Url::parse("https://api.opsgenie.com/").ok());
    let details: BTreeMap<String, String> = section.get("details").unwrap_or_default();
    let read = |section: &Section<'_>, keys: &[&'static str]| -> Vec<(&'static str, Field)> {
        keys.iter()
            .filter_map(|key| Some((*key, Field::read(section, key)?)))
            .collect()
    };
    let responders = section.sections("responders").into_iter().map(|responder| {
        let fields = read(&responder, &["id", "name", "username", "type"]);
        if responder.node("type").is_none() {
            responder.error(
                "",
                "has no type",
                "give one of team, user, escalation, schedule",
            );
        }
        responder.finish();
        fields
    });
    let responders = responders.collect();
    Box::new(Opsgenie {
        base,
        key,
        message: Field::customised(section, "message", "opsgenie.default.message"),
        description: Field::customised(section, "description", "opsgenie.default.description"),
        source: Field::customised(section, "source", "opsgenie.default.source"),
        tags: Field::read(section, "tags"),
        actions: Field::read(section, "actions"),
        others: read(section, &["note", "priority", "entity"]),
        details: details
            .into_iter()
            .map(|(name, text)| (name, Field::new(section, "details", text)))
            .collect(),
        responders,
        update: section.or("update_alerts", false),
        endpoint: Endpoint::read(section, global),
        style: Style::read(section, global),
    })
}

impl Notifier for Opsgenie {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let missing =
                || NotifyError::permanent(Reason::Rejected, "no URL or key is configured");
            let (mut url, key) = (
                self.base.clone().ok_or_else(missing)?,
                self.key.clone().ok_or_else(missing)?,
            );
            let alias = notification.group_key_hash();
            let base = url.path().trim_end_matches('/').to_owned();
            let body = if notification.status == AlertStatus::Firing {
                url.set_path(&format!("{base}/v2/alerts"));
                self.open(notification, &alias)
            } else {
                url.set_path(&format!("{base}/v2/alerts/{alias}/close"));
                url.set_query(Some("identifierType=alias"));
                self.close(notification)
            };
            let authorization = HeaderName::from_static("authorization");
            let request = Request::post_json(url.clone(), &body, self.endpoint.timeout());
            self.endpoint
                .send(request.header(authorization.clone(), key.clone()))
                .await?
                .accepted()?;
            if self.update && notification.status == AlertStatus::Firing {
                for part in ["message", "description"] {
                    url.set_path(&format!("{base}/v2/alerts/{alias}/{part}"));
                    url.set_query(Some("identifierType=alias"));
                    let mut change = Map::new();
                    change.insert(part.into(), body[part].clone());
                    let mut request = Request::post_json(
                        url.clone(),
                        &Value::Object(change),
                        self.endpoint.timeout(),
                    );
                    request.method = Method::PUT;
                    self.endpoint
                        .send(request.header(authorization.clone(), key.clone()))
                        .await?
                        .accepted()?;
                }
            }
            Ok(())
        })
    }

    fn deadline(&self) -> Duration {
        self.endpoint.deadline()
    }
}

/// A responder as the API takes it: none without anybody in it, and each of a list of teams.
fn expanded(mut responder: Map<String, Value>) -> Vec<Map<String, Value>> {
    let text = |responder: &Map<String, Value>, key: &str| {
        responder
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    responder.retain(|_, value| value.as_str().is_none_or(|text| !text.is_empty()));
    if ["id", "name", "username"]
        .iter()
        .all(|key| text(&responder, key).is_empty())
    {
        return Vec::new();
    }
    if text(&responder, "type") != "teams" {
        return vec![responder];
    }
    let names = text(&responder, "name");
    let team = |name: &str| {
        Map::from_iter([
            ("name".to_owned(), name.trim().into()),
            ("type".to_owned(), "team".into()),
        ])
    };
    names
        .split(',')
        .filter(|name| !name.trim().is_empty())
        .map(team)
        .collect()
}

impl Opsgenie {
    fn open(&self, n: &Notification, alias: &str) -> Value {
        let mut rendering = Rendering::new(n, &self.style);
        let mut out = Map::new();
        let message = rendering.needed(self.message.as_ref(), || subject(n, self.style.language));
        let mut details: Map<String, Value> = n
            .common_labels
            .iter()
            .map(|(k, v)| (k.clone(), v.clone().into()))
            .collect();
        for (name, field) in &self.details {
            details.insert(
                name.clone(),
                rendering.text(Some(field), String::new).into(),
            );
        }
        out.insert("alias".into(), alias.into());
        out.insert(
            "message".into(),
            cut_chars(&message, MAX_MESSAGE).into_owned().into(),
        );
        out.insert("details".into(), Value::Object(details));
        out.insert(
            "source".into(),
            rendering.text(self.source.as_ref(), || link(n)).into(),
        );
        if !self.responders.is_empty() {
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
            out.insert(
                "responders".into(),
                self.responders.iter().map(one).flat_map(expanded).collect(),
            );
        }
        for (name, field) in [("tags", &self.tags), ("actions", &self.actions)] {
            if let Some(list) = rendering.optional(field.as_ref()) {
                out.insert(
                    name.into(),
                    list.split(',')
                        .map(str::trim)
                        .filter(|t| !t.is_empty())
                        .map(Value::from)
                        .collect(),
                );
            }
        }
        for (name, field) in &self.others {
            if let Some(text) = rendering.optional(Some(field)) {
                out.insert((*name).into(), text.into());
            }
        }
        let description = rendering.text(self.description.as_ref(), || {
            body(n, &self.style, &PLAIN, MAX_DESCRIPTION)
        });
        let description = rendering.with_notes(description, MAX_DESCRIPTION);
        out.insert(
            "description".into(),
            cut_bytes(&description, MAX_DESCRIPTION, self.style.language)
                .into_owned()
                .into(),
        );
        Value::Object(out)
    }

    fn close(&self, n: &Notification) -> Value {
        let mut rendering = Rendering::new(n, &self.style);
        let mut out = Map::new();
        out.insert(
            "source".into(),
            rendering.text(self.source.as_ref(), || link(n)).into(),
        );
        let note = self
            .others
            .iter()
            .find(|(name, _)| *name == "note")
            .map(|(_, field)| field);
        let note = rendering.text(note, || body(n, &self.style, &PLAIN, MAX_DESCRIPTION));
        out.insert(
            "note".into(),
            rendering.with_notes(note, MAX_DESCRIPTION).into(),
        );
        Value::Object(out)
    }
}
