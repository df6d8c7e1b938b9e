//! Table `rule_alerts`: every pending, firing and lately resolved alert of every rule, as JSON text
//! that `rules` writes and reads.

use std::collections::HashSet;

use super::decisions;
use crate::state::statement::{Statement, statement};
use crate::state::{DecisionRow, Error, State, on_pool};

/// An alert of a rule as it lies in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleAlertRow {
    /// The rule: file, group, name and labels.
    pub rule: String,
    /// The alert within the rule.
    pub fingerprint: u64,
    /// Its state as JSON.
    pub body: String,
}

/// What one evaluation changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleAlertChanges {
    /// Alerts that are new or have changed.
    pub put: Vec<RuleAlertRow>,
    /// Rule and fingerprint of alerts that are forgotten.
    pub gone: Vec<(String, u64)>,
    /// What was decided about pending alerts.
    pub decisions: Vec<DecisionRow>,
}

impl RuleAlertChanges {
    /// Adds what another evaluation changed after these.
    pub fn absorb(&mut self, later: RuleAlertChanges) {
        let newer = later
            .put
            .iter()
            .map(|row| (row.rule.as_str(), row.fingerprint));
        let newer: HashSet<(&str, u64)> = newer
            .chain(
                later
                    .gone
                    .iter()
                    .map(|(rule, alert)| (rule.as_str(), *alert)),
            )
            .collect();
        self.put
            .retain(|row| !newer.contains(&(row.rule.as_str(), row.fingerprint)));
        self.gone
            .retain(|(rule, alert)| !newer.contains(&(rule.as_str(), *alert)));
        self.put.extend(later.put);
        self.gone.extend(later.gone);
        self.decisions.extend(later.decisions);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.gone.is_empty() && self.decisions.is_empty()
    }
}

impl State {
    /// Every alert of every rule. A row whose fingerprint cannot be read is left out.
    pub async fn rule_alerts(&self) -> Result<Vec<RuleAlertRow>, Error> {
        let rows: Vec<(String, String, String)> =
            on_pool!(self, "read rule alerts", |pool| async {
                sqlx::query_as(
                    "SELECT rule, fingerprint, body FROM rule_alerts ORDER BY rule, fingerprint",
                )
                .fetch_all(pool)
                .await
            })?;
        let row = |(rule, fingerprint, body): (String, String, String)| {
            u64::from_str_radix(&fingerprint, 16)
                .ok()
                .map(|fingerprint| RuleAlertRow {
                    rule,
                    fingerprint,
                    body,
                })
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// Writes what evaluations changed, all or none; durable when it returns `Ok`.
    pub async fn record_rule_alerts(&self, changes: &RuleAlertChanges) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut statements: Vec<Statement> = changes
            .gone
            .iter()
            .map(|(rule, fingerprint)| remove(rule, *fingerprint))
            .collect();
        statements.extend(changes.put.iter().map(put));
        statements.extend(changes.decisions.iter().map(decisions::put));
        self.write("write rule alerts", &statements).await
    }
}

fn put(row: &RuleAlertRow) -> Statement {
    statement(
        "INSERT INTO rule_alerts (rule, fingerprint, body) VALUES ($1, $2, $3) \
         ON CONFLICT (rule, fingerprint) DO UPDATE SET body = excluded.body",
        [
            row.rule.as_str().into(),
            format!("{:016x}", row.fingerprint).into(),
            row.body.as_str().into(),
        ],
    )
}

fn remove(rule: &str, fingerprint: u64) -> Statement {
    statement(
        "DELETE FROM rule_alerts WHERE rule = $1 AND fingerprint = $2",
        [rule.into(), format!("{fingerprint:016x}").into()],
    )
}
