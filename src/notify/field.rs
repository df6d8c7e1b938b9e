//! The texts of a receiver that may hold a Go template, and what stands where one fails: the
//! built-in text with the error, never nothing.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::config::{self, Node, Position, ScalarStyle, Section};
use crate::template::{AlertData, Library, Mistake, NotificationData, RenderError, Template};

use super::error::{NotifyError, Reason};
use super::message::{Style, cut_bytes};
use super::notification::{Notification, NotifiedAlert};

/// Longest part of a template error that is shown, in characters.
const MAX_ERROR: usize = 300;

/// A text of the configuration that may hold a template.
#[derive(Clone, Debug)]
pub(super) struct Field {
    key: &'static str,
    /// What is wrong with it, where it cannot be read.
    template: Result<Template, Mistake>,
    source: String,
    /// Whether what a template prints stands in HTML and is escaped for it.
    html: bool,
}

impl Field {
    /// The text under `key`, if it is there.
    pub(super) fn read(section: &Section<'_>, key: &'static str) -> Option<Self> {
        section
            .get::<String>(key)
            .map(|source| Field::new(section, key, source))
    }

    /// The text under `key`; where there is none, Alertmanager's default template `default`, if a
    /// file of the user's redefines it.
    pub(super) fn customised(
        section: &Section<'_>,
        key: &'static str,
        default: &str,
    ) -> Option<Self> {
        Field::read(section, key).or_else(|| Field::redefined(section, key, default))
    }

    /// Alertmanager's default template `default`, if a file of the user's redefines it.
    pub(super) fn redefined(
        section: &Section<'_>,
        key: &'static str,
        default: &str,
    ) -> Option<Self> {
        let redefined = section
            .given::<Library>()
            .is_some_and(|library| library.redefines(default));
        redefined.then(|| Field::new(section, key, format!("{{{{ template \"{default}\" . }}}}")))
    }

    /// A text that stands under `key`.
    pub(super) fn new(section: &Section<'_>, key: &'static str, source: String) -> Self {
        Field::at(section, section.position(key), key, source)
    }

    /// A text of `key` that stands at `position`. A template that cannot be read is a mistake of
    /// the configuration; who runs with it anyway has a template that fails.
    pub(super) fn at(
        section: &Section<'_>,
        position: Position,
        key: &'static str,
        source: String,
    ) -> Self {
        let library = section.given::<Library>().unwrap_or_default();
        let template = Template::notification(&source, &library).inspect_err(|problem| {
            section.non_fatal_at(
                position,
                key,
                problem.to_string(),
                "write it as Alertmanager's templates are written".into(),
            );
        });
        for name in template.iter().flat_map(Template::undefined) {
            tracing::warn!(
                file = section.file(),
                line = position.line,
                key,
                template = name,
                "A template that is called does not exist."
            );
        }
        Field {
            key,
            template,
            source,
            html: key == "html",
        }
    }

    /// The field with another text instead of its own, of which nothing is said.
    pub(super) fn variant(&self, section: &Section<'_>, source: String) -> Self {
        let library = section.given::<Library>().unwrap_or_default();
        let template = Template::notification(&source, &library);
        Field {
            key: self.key,
            template,
            source,
            html: self.html,
        }
    }

    /// The same field, its values escaped for HTML where the message is HTML.
    pub(super) fn escaped(mut self, html: bool) -> Self {
        self.html = html;
        self
    }

    /// The text itself, a template or not.
    pub(super) fn written(&self) -> &str {
        &self.source
    }

    /// The words of it that are no template, each once: a robot may want one of them in every
    /// message.
    pub(super) fn literals(&self) -> Vec<&str> {
        let mut out: Vec<&str> = Vec::new();
        for (index, piece) in self.source.split("{{").enumerate() {
            let outside = if index == 0 {
                Some(piece)
            } else {
                piece.split_once("}}").map(|(_, outside)| outside)
            };
            for line in outside.unwrap_or_default().lines().map(str::trim) {
                if line.chars().any(char::is_alphanumeric) && !out.contains(&line) {
                    out.push(line);
                }
            }
        }
        out
    }

    /// Whether nothing is written.
    pub(super) fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// Whether it holds a template.
    pub(super) fn is_template(&self) -> bool {
        self.source.contains("{{")
    }

    /// An address that cannot be used: where a template made it, that is the template's failure.
    pub(super) fn unusable(&self, error: NotifyError) -> NotifyError {
        if self.is_template() {
            NotifyError {
                reason: Reason::Template,
                ..error
            }
        } else {
            error
        }
    }

    fn render(&self, notification: &Notification) -> Result<Cow<'_, str>, Unrendered> {
        if !self.is_template() {
            return Ok(Cow::Borrowed(&self.source));
        }
        let template = self.template.as_ref().map_err(Clone::clone)?;
        let text = template.notify(
            &data(notification, &notification.quoted_receiver()),
            self.html,
        )?;
        Ok(Cow::Owned(text))
    }
}

/// Why a field has no text.
#[derive(Debug, thiserror::Error)]
enum Unrendered {
    #[error(transparent)]
    Unreadable(#[from] Mistake),
    #[error(transparent)]
    Failed(#[from] RenderError),
}

fn data<'a>(notification: &'a Notification, receiver: &'a str) -> NotificationData<'a> {
    let alert = |alert: &'a NotifiedAlert| AlertData {
        status: alert.status.as_str(),
        labels: &alert.labels,
        annotations: &alert.annotations,
        starts_at_ms: alert.starts_at_ms,
        ends_at_ms: alert.ends_at_ms,
        generator_url: &alert.generator_url,
        fingerprint: &alert.fingerprint,
    };
    NotificationData {
        receiver,
        status: notification.status.as_str(),
        alerts: notification.alerts.iter().map(alert).collect(),
        group_labels: &notification.group_labels,
        common_labels: &notification.common_labels,
        common_annotations: &notification.common_annotations,
        external_url: &notification.external_url,
        reason: &notification.reason,
        at_ms: notification.at_ms,
    }
}

tokio::task_local! {
    /// How many templates failed in the attempt that runs.
    static FAILED: Arc<AtomicU64>;
}

/// Makes an attempt and counts into `failed` the templates that fail in it, also when the attempt
/// is given up.
pub async fn counting_failed_templates<T>(
    failed: Arc<AtomicU64>,
    attempt: impl Future<Output = T>,
) -> T {
    FAILED.scope(failed, attempt).await
}

/// Renders the fields of one message and remembers what failed.
pub(super) struct Rendering<'a> {
    notification: &'a Notification,
    style: &'a Style,
    notes: Vec<String>,
}

impl<'a> Rendering<'a> {
    pub(super) fn new(notification: &'a Notification, style: &'a Style) -> Self {
        Rendering {
            notification,
            style,
            notes: Vec::new(),
        }
    }

    /// The field's text; the built-in one where it is absent or fails.
    pub(super) fn text(
        &mut self,
        field: Option<&Field>,
        built_in: impl FnOnce() -> String,
    ) -> String {
        if self.notification.digest > 0 {
            // A digest has a form of its own, which names every alert; a template that is written
            // for one group may not.
            let text = built_in();
            return if text.is_empty() {
                field
                    .and_then(|f| f.render(self.notification).ok())
                    .unwrap_or_default()
                    .into_owned()
            } else {
                text
            };
        }
        match field.map(|f| (f.key, f.render(self.notification))) {
            None => built_in(),
            Some((_, Ok(text))) => text.into_owned(),
            Some((key, Err(error))) => {
                self.failed(key, &error.to_string());
                built_in()
            }
        }
    }

    /// As [`Rendering::text`], for a text without which the receiver takes no message: nothing but
    /// blanks is a failure, too.
    pub(super) fn needed(
        &mut self,
        field: Option<&Field>,
        built_in: impl Fn() -> String,
    ) -> String {
        let text = self.text(field, &built_in);
        match field {
            Some(field) if text.trim().is_empty() => {
                self.failed(field.key, "it printed nothing");
                built_in()
            }
            _ => text,
        }
    }

    /// Notes that a template printed what the receiver does not know; gives what stands for it.
    pub(super) fn unknown(&mut self, key: &str, printed: &str, instead: &str) -> String {
        let printed = if printed.trim().is_empty() {
            "nothing".to_owned()
        } else {
            format!("{printed:?}, which is not known")
        };
        self.failed(key, &format!("it printed {printed}"));
        instead.to_owned()
    }

    /// Notes a failure, logs and counts it.
    fn failed(&mut self, key: &str, error: &str) {
        let error: String = error.to_string().chars().take(MAX_ERROR).collect();
        tracing::warn!(
            receiver = self.notification.receiver,
            key,
            error,
            "A template failed: the built-in text stands for it."
        );
        // Outside of an attempt, as in a test of a receiver, nobody counts.
        let _ = FAILED.try_with(|failed| failed.fetch_add(1, Ordering::Relaxed));
        // Angle brackets would be markup in half of the receivers.
        self.notes.push(
            self.style
                .words()
                .template_failed(key, &error.replace('<', "‹").replace('>', "›")),
        );
    }

    /// The field's text, `None` where it is absent or empty; the built-in text is empty.
    pub(super) fn optional(&mut self, field: Option<&Field>) -> Option<String> {
        field?;
        Some(self.text(field, String::new)).filter(|t| !t.is_empty())
    }

    /// A field without which there is nowhere to send to.
    pub(super) fn address(&self, field: &Field) -> Result<String, NotifyError> {
        let text = field.render(self.notification).map_err(|error| {
            let _ = FAILED.try_with(|failed| failed.fetch_add(1, Ordering::Relaxed));
            let error: String = error.to_string().chars().take(MAX_ERROR).collect();
            NotifyError::permanent(
                Reason::Template,
                format!("template of {:?}: {error}", field.key),
            )
        })?;
        Ok(text.into_owned())
    }

    /// What failed, as sentences that go into the message.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// `text` with the failures below it, in at most `limit` bytes: the text is cut so that they
    /// are seen, and they take no more than half.
    pub(super) fn with_notes(&self, text: String, limit: usize) -> String {
        let notes: String = self
            .notes
            .iter()
            .map(|note| format!("\n\n{note}"))
            .collect();
        let notes = cut_bytes(&notes, limit / 2, self.style.language);
        format!(
            "{}{notes}",
            cut_bytes(&text, limit - notes.len(), self.style.language)
        )
    }
}

/// A tree of the configuration whose texts may hold templates: `payload` of a webhook, `details` of
/// PagerDuty.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    /// A text.
    Text(Field),
    /// A number or a boolean, as it was written.
    Plain(Value),
    /// A list.
    List(Vec<Tree>),
    /// A mapping, in file order.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// The tree under `key`, if it is there.
    pub(super) fn read(section: &Section<'_>, key: &'static str) -> Option<Self> {
        section
            .node(key)
            .filter(|node| !node.is_null())
            .map(|node| Tree::of(section, key, node))
    }

    fn of(section: &Section<'_>, key: &'static str, node: &Node) -> Self {
        match &node.value {
            config::Value::List(items) => Tree::List(
                items
                    .iter()
                    .map(|item| Tree::of(section, key, item))
                    .collect(),
            ),
            config::Value::Map(entries) => Tree::Map(
                entries
                    .iter()
                    .map(|(k, _, v)| (k.clone(), Tree::of(section, key, v)))
                    .collect(),
            ),
            config::Value::Scalar { text, style } => {
                let plain = || {
                    serde_json::from_str::<Value>(text)
                        .ok()
                        .filter(|v| v.is_number() || v.is_boolean())
                };
                match Some(())
                    .filter(|()| *style == ScalarStyle::Plain)
                    .and_then(|()| plain())
                {
                    Some(value) => Tree::Plain(value),
                    None if node.is_null() => Tree::Plain(Value::Null),
                    None => {
                        let text = section.environment().expand(text).unwrap_or_else(|unset| {
                            section.error_at(node.position, key, unset.to_string(), unset.remedy());
                            String::new()
                        });
                        Tree::Text(Field::at(section, node.position, key, text))
                    }
                }
            }
        }
    }

    /// The tree with its texts rendered; a template that gives JSON of any kind but a text becomes
    /// that, a number for example (SEMANTICS 179).
    pub(super) fn render(&self, rendering: &mut Rendering<'_>) -> Value {
        match self {
            Tree::Plain(value) => value.clone(),
            Tree::List(items) => items.iter().map(|item| item.render(rendering)).collect(),
            Tree::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(name, tree)| (name.clone(), tree.render(rendering)))
                    .collect(),
            ),
            Tree::Text(field) => {
                let text = rendering.text(Some(field), String::new);
                let structure = serde_json::from_str::<Value>(&text)
                    .ok()
                    .filter(|value| !value.is_string());
                structure
                    .filter(|_| field.is_template())
                    .unwrap_or(Value::String(text))
            }
        }
    }
}
