//! Escalation: a critical alert that nobody acknowledges in time goes to the next contact. Pure: it
//! decides, the dispatcher tells.
//!
//! An acknowledgement ends the escalation of that firing; the next firing begins a new one. A
//! contact that was notified hears of the end.

use std::collections::BTreeMap;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::config::Section;
use crate::model::text::hex;
use crate::model::{Alert, Timestamp};
use crate::state::EscalationRow;

/// The next contact, and when it is notified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Time since the first message.
    pub after: Duration,
    /// The receiver.
    pub receiver: String,
}

impl Step {
    /// Reads `escalation: [{after: 15m, receiver: deputy}, …]`.
    pub fn read_all(section: &Section<'_>) -> Vec<Self> {
        let steps = section.sections("escalation").into_iter().map(|step| {
            let read = Step {
                after: step.require("after"),
                receiver: step.require("receiver"),
            };
            step.finish();
            read
        });
        let steps: Vec<Step> = steps.collect();
        if steps.windows(2).any(|pair| pair[1].after < pair[0].after) {
            section.error(
                "escalation",
                "a later step comes before an earlier one",
                "give the times since the first message, growing",
            );
        }
        steps
    }
}

/// Whether somebody must acknowledge this alert.
pub fn is_critical(alert: &Alert) -> bool {
    alert.labels.get("severity") == Some("critical")
}

/// The alerts that wait for an acknowledgement, or have one.
#[derive(Clone, Debug, Default)]
pub struct Escalations(BTreeMap<(u64, String), EscalationRow>);

impl Escalations {
    /// Takes back what the database remembered, as far as it is not known.
    pub fn restore(&mut self, rows: Vec<EscalationRow>) {
        for row in rows {
            self.0
                .entry((row.fingerprint, row.receiver.clone()))
                .or_insert(row);
        }
    }

    /// A receiver was notified of this alert; gives the row when that begins an escalation.
    pub fn notified(
        &mut self,
        alert: &Alert,
        receiver: &str,
        now: Timestamp,
    ) -> Option<EscalationRow> {
        let key = (alert.fingerprint(), receiver.to_owned());
        if self
            .0
            .get(&key)
            .is_some_and(|row| row.starts_at == alert.starts_at)
        {
            return None;
        }
        let row = EscalationRow {
            fingerprint: key.0,
            receiver: key.1.clone(),
            starts_at: alert.starts_at,
            notified_at: now,
            level: 0,
            acknowledged: None,
        };
        self.0.insert(key, row.clone());
        Some(row)
    }

    /// Notes who took an alert on; gives the changed rows. Who came first stays.
    pub fn acknowledge(
        &mut self,
        fingerprint: u64,
        by: &str,
        now: Timestamp,
    ) -> Vec<EscalationRow> {
        let rows = self
            .0
            .values_mut()
            .filter(|row| row.fingerprint == fingerprint && row.acknowledged.is_none());
        rows.map(|row| {
            row.acknowledged = Some((now, by.to_owned()));
            row.clone()
        })
        .collect()
    }

    /// Who acknowledged this alert, and when; the outer `None`: it waits for nobody.
    pub fn acknowledged(&self, fingerprint: u64) -> Option<Option<&(Timestamp, String)>> {
        let mut rows = self
            .0
            .values()
            .filter(|row| row.fingerprint == fingerprint)
            .peekable();
        rows.peek()?;
        Some(rows.find_map(|row| row.acknowledged.as_ref()))
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = &EscalationRow> {
        self.0.values()
    }

    /// When the row's next contact is notified, if nothing happens.
    pub fn due(row: &EscalationRow, steps: &[Step]) -> Option<Timestamp> {
        let step = steps
            .get(row.level)
            .filter(|_| row.acknowledged.is_none())?;
        Some(row.notified_at + step.after)
    }

    /// Changes all rows; not what they are found by.
    pub(in crate::alerting) fn for_each(&mut self, change: impl FnMut(&mut EscalationRow)) {
        self.0.values_mut().for_each(change);
    }

    /// Puts a changed row in place.
    pub fn put(&mut self, row: EscalationRow) {
        self.0.insert((row.fingerprint, row.receiver.clone()), row);
    }

    /// Forgets a row.
    pub fn remove(&mut self, row: &EscalationRow) {
        self.0.remove(&(row.fingerprint, row.receiver.clone()));
    }
}

/// Signs the links of messages (to acknowledge, to see a picture): only those who have the message
/// may follow them.
#[derive(Clone, Default)]
pub struct Signer(String);

impl Signer {
    /// With this key.
    pub fn new(key: String) -> Self {
        Signer(key)
    }

    /// The link to acknowledge one firing of an alert.
    pub fn link(&self, external_url: &str, alert: &Alert) -> String {
        let (fingerprint, starts) = (alert.fingerprint(), alert.starts_at.0);
        let token = self.token(
            "acknowledge",
            &[format!("{fingerprint:016x}"), starts.to_string()],
        );
        format!("{external_url}/acknowledge?alert={fingerprint:016x}&since={starts}&token={token}")
    }

    /// The link to the picture of one firing of an alert, which can be opened until `until`.
    pub fn picture_link(&self, external_url: &str, alert: &Alert, until: Timestamp) -> String {
        let (fingerprint, starts) = (alert.fingerprint(), alert.starts_at.0);
        let token = self.token(
            "picture",
            &[
                format!("{fingerprint:016x}"),
                starts.to_string(),
                until.0.to_string(),
            ],
        );
        format!(
            "{external_url}/picture?alert={fingerprint:016x}&since={starts}&until={}&token={token}",
            until.0
        )
    }

    /// Whether the token is that of the link to acknowledge this firing.
    pub fn verify(&self, fingerprint: u64, since_ms: i64, token: &str) -> bool {
        self.signed(
            "acknowledge",
            &[format!("{fingerprint:016x}"), since_ms.to_string()],
            token,
        )
    }

    /// Whether the token is that of the link to the picture of this firing, to be opened until
    /// then.
    pub fn verify_picture(
        &self,
        fingerprint: u64,
        since_ms: i64,
        until_ms: i64,
        token: &str,
    ) -> bool {
        self.signed(
            "picture",
            &[
                format!("{fingerprint:016x}"),
                since_ms.to_string(),
                until_ms.to_string(),
            ],
            token,
        )
    }

    fn signed(&self, purpose: &str, of: &[String], token: &str) -> bool {
        !self.0.is_empty() && bool::from(self.token(purpose, of).as_bytes().ct_eq(token.as_bytes()))
    }

    /// HMAC-SHA256 in hexadecimal: what is signed for one purpose serves no other.
    fn token(&self, purpose: &str, of: &[String]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(format!("{purpose}\0{}", of.join("\0")).as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

/// A new key: 256 bits of the kernel's randomness. Without them there are no links, which is better
/// than links that anybody can make.
pub fn fresh_key() -> String {
    use std::io::Read as _;
    let mut bytes = [0u8; 32];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if read.is_ok() {
        hex(&bytes)
    } else {
        String::new()
    }
}
