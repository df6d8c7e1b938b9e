//! Overflow: messages of several groups become one that names every alert, where there are more
//! than the service takes. A message with more alerts than one message can name becomes several.
//! Pure: rows in, rows out.

use std::collections::HashMap;

use crate::alerting::flush::message::{derived_id, summarise};
use crate::notify::{Digest, Notification, NotifiedAlert, named_size};
use crate::state::OutboxRow;

/// Most messages that one digest takes up.
pub const MAX_MESSAGES: usize = 1000;
/// Most alerts that a digest with all that is known of them holds.
const MAX_WHOLE: usize = 1000;
/// What a name takes in a line at most, beside its labels.
const OVERHEAD: usize = 64;

/// Messages folded into one.
pub struct Folded {
    /// The digest.
    pub row: OutboxRow,
    /// The same, read.
    pub notification: Notification,
    /// Ids of the messages that it replaces, oldest first.
    pub superseded: Vec<String>,
    /// What it has no room for: the alerts behind those it names, where the first message alone is
    /// too large.
    pub rest: Option<OutboxRow>,
}

/// Gathers messages, oldest first, until there is no more room.
pub struct Fold {
    form: Digest,
    alerts: Vec<NotifiedAlert>,
    /// Where an alert stands, and when that was decided.
    positions: HashMap<String, (usize, i64)>,
    /// No smaller than the names of the alerts.
    size: usize,
    taken: Vec<OutboxRow>,
    newest: Option<Notification>,
    rest: Vec<NotifiedAlert>,
}

impl Fold {
    /// An empty one.
    pub fn new(form: Digest) -> Self {
        Fold {
            form,
            alerts: Vec::new(),
            positions: HashMap::new(),
            size: 0,
            taken: Vec::new(),
            newest: None,
            rest: Vec::new(),
        }
    }

    /// Takes a message in; false when there is no room for it. The first one always finds room, if
    /// need be for a part of its alerts. A digest stays what it is, unless it is the first and too
    /// large.
    pub fn add(&mut self, row: OutboxRow, mut message: Notification) -> bool {
        let first = self.taken.is_empty();
        if self.taken.len() >= MAX_MESSAGES
            || !self.rest.is_empty()
            || (message.digest > 0 && !first)
        {
            return false;
        }
        // A report goes alone: in a digest only its name would be left.
        if !first
            && (message.report.is_some()
                || self
                    .newest
                    .as_ref()
                    .is_some_and(|newest| newest.report.is_some()))
        {
            return false;
        }
        let before = self.alerts.len();
        let alerts = std::mem::take(&mut message.alerts);
        for (index, alert) in alerts.iter().enumerate() {
            if self.put(alert, message.at_ms) {
                continue;
            }
            if !first {
                self.alerts.truncate(before);
                self.positions.retain(|_, (position, _)| *position < before);
                return false;
            }
            self.rest = alerts[index..].to_vec();
            break;
        }
        // Up to a thousand of them: their bodies are read already.
        self.taken.push(OutboxRow {
            body: String::new(),
            ..row
        });
        self.newest = Some(message);
        true
    }

    /// The newer report of an alert replaces the older one.
    fn put(&mut self, alert: &NotifiedAlert, at_ms: i64) -> bool {
        let mut alert = alert.clone();
        if let Digest::Names(_) = self.form {
            alert.annotations = Vec::new();
            alert.generator_url = String::new();
        }
        if let Some((position, known_at)) = self.positions.get_mut(&alert.fingerprint) {
            if at_ms >= *known_at {
                *known_at = at_ms;
                self.alerts[*position] = alert;
            }
            return true;
        }
        let cost = named_size(std::slice::from_ref(&alert)) + OVERHEAD;
        self.alerts.push(alert);
        let room = match self.form {
            Digest::Names(bytes) => {
                self.size += cost;
                if self.size > bytes {
                    // What alerts share is said once, so the sum is far too high as a rule.
                    self.size = named_size(&self.alerts);
                }
                self.size <= bytes || self.alerts.len() == 1
            }
            Digest::Whole | Digest::Never => self.alerts.len() <= MAX_WHOLE,
        };
        if room {
            let position = self.alerts.len() - 1;
            self.positions
                .insert(self.alerts[position].fingerprint.clone(), (position, at_ms));
        } else {
            self.alerts.pop();
        }
        room
    }

    /// The digest; `None` where nothing has to change.
    pub fn finish(self) -> Option<Folded> {
        let newest = self.newest?;
        if self.taken.len() == 1 && self.rest.is_empty() {
            return None;
        }
        let ids: Vec<String> = self
            .taken
            .iter()
            .map(|row| row.delivery_id.clone())
            .collect();
        let (several, last) = (ids.len() > 1, self.taken.last()?);
        let mut notification = Notification {
            alerts: self.alerts,
            digest: ids.len(),
            ..newest
        };
        if several {
            notification.group_labels = Vec::new();
            notification.reason = "digest".into();
        }
        let row = |mut n: Notification, id: String| {
            n.delivery_id.clone_from(&id);
            // Unlike messages of a group, digests and parts are never merged.
            let group_key = format!("digest:{id}");
            if several {
                n.group_key.clone_from(&group_key);
            }
            summarise(&mut n);
            // Strings, numbers and lists of them always have a JSON form.
            let body = serde_json::to_string(&n).unwrap_or_default();
            (
                OutboxRow {
                    delivery_id: id,
                    group_key,
                    body,
                    ..last.clone()
                },
                n,
            )
        };
        let rest = (!self.rest.is_empty()).then(|| {
            row(
                Notification {
                    alerts: self.rest,
                    ..notification.clone()
                },
                derived_id("rest", &ids),
            )
            .0
        });
        let (row, notification) = row(notification, derived_id("digest", &ids));
        Some(Folded {
            row,
            notification,
            superseded: ids,
            rest,
        })
    }
}

/// Whether a message has more alerts than one message of this service can name.
pub fn is_too_large(form: Digest, notification: &Notification) -> bool {
    match form {
        Digest::Names(bytes) => {
            notification.alerts.len() > 1 && named_size(&notification.alerts) > bytes
        }
        Digest::Whole | Digest::Never => false,
    }
}
