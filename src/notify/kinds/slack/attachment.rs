//! The attachment of a Slack message: title, text, colour, fields, buttons.
//! <https://api.slack.com/reference/messaging/attachments>.

use serde_json::{Map, Value};

use crate::config::Section;
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{SLACK, Style, body, cut_chars, escape_angles, link, subject};
use crate::notify::notification::{AlertStatus, Notification};

/// Longest title, in characters (SEMANTICS 180).
const MAX_TITLE: usize = 1024;
/// Longest text, in bytes; Slack folds it long before.
pub(super) const MAX_TEXT: usize = 8000;

pub(super) struct Attachment {
    title: Option<Field>,
    text: Option<Field>,
    fallback: Option<Field>,
    color: Option<Field>,
    title_link: Option<Field>,
    /// Texts without a built-in one, under the names Slack gives them.
    others: Vec<(&'static str, Field)>,
    mrkdwn_in: Vec<String>,
    fields: Vec<Row>,
    actions: Vec<Row>,
}

/// A field or a button: its texts in order, its own flag, and for a button the confirmation.
struct Row {
    texts: Vec<(&'static str, Field)>,
    short: Option<bool>,
    confirm: Vec<(&'static str, Field)>,
}

impl Attachment {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let short_fields = section.or("short_fields", false);
        let fields = section.sections("fields").into_iter().map(|field| {
            let short = Some(field.or("short", short_fields));
            required(&field, &["title", "value"]);
            let row = Row {
                texts: texts(&field, &["title", "value"]),
                short,
                confirm: Vec::new(),
            };
            field.finish();
            row
        });
        let actions = section.sections("actions").into_iter().map(|action| {
            required(&action, &["type", "text"]);
            let texts_of = texts(&action, &["type", "text", "url", "style", "name", "value"]);
            let confirm = action.section("confirm").map(|confirm| {
                let read = texts(&confirm, &["title", "text", "ok_text", "dismiss_text"]);
                confirm.finish();
                read
            });
            action.finish();
            Row {
                texts: texts_of,
                short: None,
                confirm: confirm.unwrap_or_default(),
            }
        });
        let customised = |key: &'static str, default: &str| {
            Field::customised(section, key, default).map(|field| (key, field))
        };
        let mut others: Vec<(&'static str, Field)> = customised("pretext", "slack.default.pretext")
            .into_iter()
            .collect();
        others.extend(texts(section, &["callback_id", "image_url", "thumb_url"]));
        others.extend(customised("footer", "slack.default.footer"));
        Attachment {
            fields: fields.collect(),
            actions: actions.collect(),
            title: Field::customised(section, "title", "slack.default.title"),
            text: Field::customised(section, "text", "slack.default.text"),
            fallback: Field::customised(section, "fallback", "slack.default.fallback"),
            color: Field::customised(section, "color", "slack.default.color"),
            title_link: Field::customised(section, "title_link", "slack.default.titlelink"),
            others,
            mrkdwn_in: section.or(
                "mrkdwn_in",
                vec![
                    "fallback".to_owned(),
                    "pretext".to_owned(),
                    "text".to_owned(),
                ],
            ),
        }
    }

    pub(super) fn render(
        &self,
        n: &Notification,
        style: &Style,
        rendering: &mut Rendering<'_>,
    ) -> Value {
        let mut out = Map::new();
        let title = rendering.text(self.title.as_ref(), || {
            escape_angles(&subject(n, style.language))
        });
        let title_link = rendering.text(self.title_link.as_ref(), || link(n));
        let mut text = rendering.text(self.text.as_ref(), || body(n, style, &SLACK, MAX_TEXT));
        let fallback = rendering.text(self.fallback.as_ref(), || {
            format!(
                "{} | {}",
                escape_angles(&subject(n, style.language)),
                link(n)
            )
        });
        let colour = rendering.text(self.color.as_ref(), || {
            if n.status == AlertStatus::Firing {
                "danger"
            } else {
                "good"
            }
            .to_owned()
        });
        put(&mut out, "title", cut_chars(&title, MAX_TITLE).into_owned());
        put(&mut out, "title_link", title_link);
        put(&mut out, "fallback", fallback);
        put(&mut out, "color", colour);
        for (name, field) in &self.others {
            put(&mut out, name, rendering.text(Some(field), String::new));
        }
        for (name, rows) in [("fields", &self.fields), ("actions", &self.actions)] {
            if !rows.is_empty() {
                out.insert(
                    name.into(),
                    rows.iter().map(|row| row.render(rendering)).collect(),
                );
            }
        }
        out.insert(
            "mrkdwn_in".into(),
            self.mrkdwn_in.iter().cloned().map(Value::String).collect(),
        );
        let says = |name: &str| {
            out.get(name)
                .and_then(Value::as_str)
                .is_some_and(|text| !text.trim().is_empty())
        };
        let shows =
            says("title") || says("pretext") || says("image_url") || out.contains_key("fields");
        if text.trim().is_empty() && !shows {
            // Slack refuses an attachment that says nothing.
            text = rendering.needed(self.text.as_ref().or(self.title.as_ref()), || {
                body(n, style, &SLACK, MAX_TEXT)
            });
        }
        // Last, so that what failed anywhere is listed here.
        let text = rendering.with_notes(text, MAX_TEXT);
        out.insert("text".into(), text.into());
        Value::Object(out)
    }
}

impl Row {
    fn render(&self, rendering: &mut Rendering<'_>) -> Value {
        let mut out = Map::new();
        for (name, field) in &self.texts {
            put(&mut out, name, rendering.text(Some(field), String::new));
        }
        if let Some(short) = self.short {
            out.insert("short".into(), short.into());
        }
        if !self.confirm.is_empty() {
            let mut confirm = Map::new();
            for (name, field) in &self.confirm {
                put(&mut confirm, name, rendering.text(Some(field), String::new));
            }
            out.insert("confirm".into(), Value::Object(confirm));
        }
        Value::Object(out)
    }
}

fn texts(section: &Section<'_>, keys: &[&'static str]) -> Vec<(&'static str, Field)> {
    keys.iter()
        .filter_map(|key| Some((*key, Field::read(section, key)?)))
        .collect()
}

fn required(section: &Section<'_>, keys: &[&str]) {
    for key in keys {
        section.require::<String>(key);
    }
}

fn put(out: &mut Map<String, Value>, name: &str, text: String) {
    if !text.is_empty() {
        out.insert(name.into(), text.into());
    }
}
