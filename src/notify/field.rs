//! The texts of a receiver that may hold a Go template, and what stands where one fails: the built-in text with the error, never nothing.

use std::borrow::Cow;

use crate::config::Section;

use super::error::{NotifyError, Reason};
use super::message::Style;
use super::notification::Notification;

/// Longest part of a template error that is shown, in characters.
const MAX_ERROR: usize = 300;

/// A text of the configuration that may hold a template.
#[derive(Clone, Debug)]
pub(super) struct Field {
    key: &'static str,
    source: String,
}

impl Field {
    /// The text under `key`, if it is there.
    pub(super) fn read(section: &Section<'_>, key: &'static str) -> Option<Self> {
        section.get::<String>(key).map(|source| Field::new(key, source))
    }

    /// A text that stands under `key`.
    pub(super) fn new(key: &'static str, source: String) -> Self {
        Field { key, source }
    }

    /// Whether nothing is written.
    pub(super) fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    fn render(&self, _: &Notification) -> Result<Cow<'_, str>, String> {
        if !self.source.contains("{{") {
            return Ok(Cow::Borrowed(&self.source));
        }
        Err("templates of notifications are not supported yet".into())
    }
}

/// Renders the fields of one message and remembers what failed.
pub(super) struct Rendering<'a> {
    notification: &'a Notification,
    style: &'a Style,
    notes: Vec<String>,
}

impl<'a> Rendering<'a> {
    pub(super) fn new(notification: &'a Notification, style: &'a Style) -> Self {
        Rendering { notification, style, notes: Vec::new() }
    }

    /// The field's text; the built-in one where it is absent or fails.
    pub(super) fn text(&mut self, field: Option<&Field>, built_in: impl FnOnce() -> String) -> String {
        match field.map(|f| (f.key, f.render(self.notification))) {
            None => built_in(),
            Some((_, Ok(text))) => text.into_owned(),
            Some((key, Err(error))) => {
                let error: String = error.chars().take(MAX_ERROR).collect();
                self.notes.push(self.style.language.template_failed(key, &error));
                built_in()
            }
        }
    }

    /// The field's text, `None` where it is absent or empty; the built-in text is empty.
    pub(super) fn optional(&mut self, field: Option<&Field>) -> Option<String> {
        field?;
        Some(self.text(field, String::new)).filter(|t| !t.is_empty())
    }

    /// A field without which there is nowhere to send to.
    pub(super) fn address(&self, field: &Field) -> Result<String, NotifyError> {
        let text = field.render(self.notification).map_err(|error| {
            let error: String = error.chars().take(MAX_ERROR).collect();
            NotifyError::permanent(Reason::Template, format!("template of {:?}: {error}", field.key))
        })?;
        Ok(text.into_owned())
    }

    /// What failed, as sentences that go into the message.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// `text` with the failures below it.
    pub(super) fn with_notes(&self, mut text: String) -> String {
        for note in &self.notes {
            text.push_str("\n\n");
            text.push_str(note);
        }
        text
    }
}
