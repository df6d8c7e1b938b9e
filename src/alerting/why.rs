//! Why people heard of an alert, or did not: read from the decisions that were written down when
//! they were taken.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::Handle;
use super::dispatch::Dispatch;
use super::flush::pipeline::escalation_key;
use super::memory::dispatcher::Dispatcher;
use crate::model::{Labels, Matcher, Stage, Timestamp};
use crate::state::{AlertPath, DecisionRow, Error, State};

/// Most decisions of one alert's name that are looked at, and most of one alert in one group.
const LOOK_BACK: (i64, i64) = (10_000, 50);
/// Most alerts that are accounted for.
const MAX_ALERTS: usize = 50;

/// Where one receiver stands with one alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The receiver's name.
    pub receiver: String,
    /// `receiver/notifier/index`; empty where the decision is about all of them.
    pub integration: String,
    /// The group it is sent in.
    pub group_key: String,
    /// The decision that counts.
    pub stage: Stage,
    /// When it was taken; `None`: it is still to be taken.
    pub at: Option<Timestamp>,
    /// When the receiver accepted the last message about it.
    pub delivered_at: Option<Timestamp>,
}

/// What was decided about one alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Its labels.
    pub labels: Labels,
    /// The last thing that happened to the alert itself: pending, pending no more, or on its way to
    /// its groups.
    pub last: Stage,
    /// When that was.
    pub since: Timestamp,
    /// What keeps the alert as it is, though its rule has no result for it, and since when that was
    /// known.
    pub held: Option<(Stage, Timestamp)>,
    /// Where its receivers stand; empty for one that never came so far.
    pub deliveries: Vec<Delivery>,
    /// Everything that was decided, youngest first.
    pub history: Vec<DecisionRow>,
}

impl Account {
    /// The decision that counts: the first one that keeps a receiver from being notified, else the
    /// last one.
    pub fn decisive(&self) -> Option<&Delivery> {
        let class = |d: &Delivery| (d.stage.is_notified(), d.stage.is_unwanted());
        self.deliveries.iter().min_by_key(|d| match class(d) {
            (false, false) => (0, d.stage.rank()),
            (true, _) => (1, d.stage.rank()),
            (false, true) => (2, d.stage.rank()),
        })
    }

    /// Whether somebody is not notified of the alert's beginnings and ends because it flaps.
    pub fn is_flapping(&self) -> bool {
        self.deliveries
            .iter()
            .any(|delivery| matches!(delivery.stage, Stage::Flapping { .. }))
    }

    /// Whether the alert was pending or fired.
    pub fn is_open(&self) -> bool {
        matches!(
            self.last,
            Stage::Waiting {
                resolved: false,
                ..
            } | Stage::Pending { .. }
        )
    }
}

impl Handle {
    /// What was decided about the alerts called `name` that match; see [`accounts`].
    pub async fn accounts(
        &self,
        state: &State,
        name: &str,
        matchers: &[Matcher],
        at: Option<Timestamp>,
    ) -> Result<Vec<Account>, Error> {
        accounts(&self.memory, state, name, matchers, at).await
    }
}

/// What was decided about the alerts called `name` that match, youngest first: up to now (`at` is
/// `None`), or up to an instant.
pub async fn accounts(
    memory: &Mutex<Dispatcher>,
    state: &State,
    name: &str,
    matchers: &[Matcher],
    at: Option<Timestamp>,
) -> Result<Vec<Account>, Error> {
    let until = at.unwrap_or(Timestamp::MAX);
    let mut rows = state.decisions(name, None, until, LOOK_BACK.0).await?;
    if at.is_none() {
        // Alerts that came before decisions were written down, or while the database failed.
        let unwritten = memory
            .lock()
            .arrivals(name)
            .into_iter()
            .filter(|row| rows.iter().all(|known| known.labels != row.labels));
        rows.extend(unwritten.collect::<Vec<_>>());
    }
    rows.retain(|row| matchers.iter().all(|m| m.matches_labels(&row.labels)));
    let mut accounts: Vec<Account> = Vec::new();
    for row in &rows {
        if accounts.len() >= MAX_ALERTS {
            break;
        }
        if accounts.iter().any(|account| account.labels == row.labels) {
            continue;
        }
        let own: Vec<DecisionRow> = rows
            .iter()
            .filter(|other| other.labels == row.labels)
            .cloned()
            .collect();
        let live = if at.is_none() {
            memory.lock().paths(&row.labels)
        } else {
            Vec::new()
        };
        accounts.push(account(state, own, live, until).await?);
    }
    Ok(accounts)
}

/// `own`: what was decided about the alert itself, youngest first, at least one row. `live`: the
/// groups that it is in now.
async fn account(
    state: &State,
    own: Vec<DecisionRow>,
    live: Vec<AlertPath>,
    until: Timestamp,
) -> Result<Account, Error> {
    // What holds an alert says nothing about where it is sent.
    let on_its_way =
        |row: &&DecisionRow| !row.stage.is_hold() && !matches!(row.stage, Stage::HoldEnded { .. });
    let latest = own.iter().find(on_its_way).unwrap_or(&own[0]).clone();
    let held = Some(&own[0])
        .filter(|row| row.stage.is_hold())
        .map(|row| (row.stage.clone(), row.at));
    let fingerprint = latest.labels.fingerprint();
    let recorded = own
        .iter()
        .find(|row| !row.paths.is_empty())
        .map(|row| row.paths.clone())
        .unwrap_or_default();
    let mut history = own;
    let mut deliveries = Vec::new();
    // Further contacts, each notified by its own integration.
    let contacts = AlertPath {
        group_key: escalation_key(fingerprint),
        receiver: String::new(),
        due: until,
    };
    let groups = if live.is_empty() { recorded } else { live };
    for path in groups.into_iter().chain([contacts]) {
        let rows = state
            .decisions(&path.group_key, Some(fingerprint), until, LOOK_BACK.1)
            .await?;
        let decided = standing(rows.iter().filter(|row| row.at >= latest.at));
        let delivery = |integration: &str, stage: Stage, at: Option<Timestamp>| Delivery {
            receiver: if path.receiver.is_empty() {
                receiver_of(integration)
            } else {
                &path.receiver
            }
            .to_owned(),
            integration: integration.to_owned(),
            group_key: path.group_key.clone(),
            stage,
            at,
            delivered_at: None,
        };
        if let Stage::Waiting { resolved, .. } = latest.stage {
            if decided.is_empty() && !path.receiver.is_empty() {
                deliveries.push(delivery(
                    "",
                    Stage::Waiting {
                        until: path.due,
                        resolved,
                    },
                    None,
                ));
            }
            for row in decided {
                let mut delivery = delivery(&row.integration, row.stage.clone(), Some(row.at));
                follow(state, &mut delivery, fingerprint, until).await?;
                deliveries.push(delivery);
            }
        }
        history.extend(outcomes(state, &rows, fingerprint, until).await?);
        history.extend(rows);
    }
    // Rows of one instant stay in the order in which a decision leads to the next.
    history.sort_by_key(|row| std::cmp::Reverse((row.at, row.stage.rank())));
    history.dedup();
    Ok(Account {
        labels: latest.labels,
        last: latest.stage,
        since: latest.at,
        held,
        deliveries,
        history,
    })
}

/// `ops` of `ops/webhook/0`.
fn receiver_of(integration: &str) -> &str {
    integration.rsplitn(3, '/').last().unwrap_or_default()
}

/// What became of the messages of the integrations that these rows name.
async fn outcomes(
    state: &State,
    rows: &[DecisionRow],
    fingerprint: u64,
    until: Timestamp,
) -> Result<Vec<DecisionRow>, Error> {
    let integrations: BTreeSet<&str> = rows
        .iter()
        .map(|r| r.integration.as_str())
        .filter(|i| !i.is_empty())
        .collect();
    let mut found = Vec::new();
    for integration in integrations {
        found.extend(
            state
                .decisions(integration, Some(fingerprint), until, LOOK_BACK.1)
                .await?,
        );
    }
    Ok(found)
}

/// Those decisions of a flush that still hold, of rows youngest first: one for all integrations, or
/// the last one of each.
fn standing<'a>(rows: impl Iterator<Item = &'a DecisionRow>) -> Vec<&'a DecisionRow> {
    let mut found: Vec<&DecisionRow> = Vec::new();
    for row in rows {
        match (row.integration.is_empty(), found.is_empty()) {
            (true, true) => return vec![row],
            (true, false) => return found,
            (false, _) if found.iter().all(|f| f.integration != row.integration) => found.push(row),
            (false, _) => {}
        }
    }
    found
}

/// Replaces the decision to send a message by what became of it.
async fn follow(
    state: &State,
    delivery: &mut Delivery,
    fingerprint: u64,
    until: Timestamp,
) -> Result<(), Error> {
    let sent_at = match &delivery.stage {
        Stage::Sending { .. } | Stage::Held { .. } => delivery.at.unwrap_or(Timestamp::MIN),
        Stage::Deduplicated { notified_at, .. } | Stage::Flapping { notified_at, .. } => {
            *notified_at
        }
        _ => return Ok(()),
    };
    let told_before = matches!(
        delivery.stage,
        Stage::Deduplicated { .. } | Stage::Flapping { .. }
    );
    let outcome = async |integration: &str| -> Result<Option<DecisionRow>, Error> {
        let rows = state
            .decisions(integration, Some(fingerprint), until, 1)
            .await?;
        Ok(rows.into_iter().find(|row| row.at >= sent_at))
    };
    let mut latest = outcome(&delivery.integration).await?;
    if let Some(Stage::HandedOver { to }) = latest.as_ref().map(|row| row.stage.clone()) {
        for integration in &to {
            latest = outcome(integration).await?.or(latest);
        }
    }
    match latest {
        Some(DecisionRow {
            stage: Stage::Delivered { resolved },
            at,
            integration,
            ..
        }) => {
            delivery.delivered_at = Some(at);
            if !told_before {
                (delivery.stage, delivery.at, delivery.integration) =
                    (Stage::Delivered { resolved }, Some(at), integration);
            }
        }
        Some(row) => (delivery.stage, delivery.at) = (row.stage, Some(row.at)),
        // Its turn has not come: what keeps the receiver busy?
        None if matches!(delivery.stage, Stage::Sending { .. }) => {
            let others = state
                .decisions(&delivery.integration, None, until, 1)
                .await?;
            let busy = others
                .into_iter()
                .find(|row| matches!(row.stage, Stage::Failing { .. } | Stage::RateLimited { .. }));
            if let Some(row) = busy {
                (delivery.stage, delivery.at) = (row.stage, Some(row.at));
            }
        }
        None => {}
    }
    Ok(())
}

impl Dispatch {
    /// What was decided about the alerts called `name`; see [`accounts`].
    pub async fn accounts(
        &self,
        state: &State,
        name: &str,
        at: Option<Timestamp>,
    ) -> Result<Vec<Account>, Error> {
        accounts(&self.memory, state, name, &[], at).await
    }
}

impl Dispatcher {
    /// The alerts of this name that fire, as if they came now.
    fn arrivals(&self, name: &str) -> Vec<DecisionRow> {
        let named = self
            .alerts
            .iter()
            .map(|row| &row.alert)
            .filter(|alert| alert.name() == name);
        named
            .map(|alert| self.arrival(alert, alert.updated_at))
            .collect()
    }
}
