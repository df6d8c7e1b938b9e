//! `/api/nightbell/why`: for an alert that was or was not notified, the one stage that decided it.
//!
//! What the rule decided comes from the rule, what became of the alert from the decisions that were
//! written down when they were taken.

pub mod words;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::Context;
use super::error::ApiError;
use crate::alerting::config::matchers::parse_matcher;
use crate::alerting::why::{Account, Delivery};
use crate::model::alert::stage::{instant, label_map};
use crate::model::{Labels, Language, Matcher, Stage, Timestamp, parse_duration};
use crate::rules::explain::no_alert::Standing;
use words::{About, sentence};

/// Most decisions of an alert's history that are shown.
const MAX_HISTORY: usize = 50;

pub(super) fn routes() -> Router<Context> {
    Router::new().route("/why", get(why))
}

/// The answer: one for each alert, or for each rule that has none.
#[derive(Serialize)]
struct Answer {
    alert: String,
    #[serde(with = "instant")]
    at: Timestamp,
    answers: Vec<Explanation>,
}

#[derive(Serialize)]
struct Explanation {
    labels: std::collections::BTreeMap<String, String>,
    /// Whether people have heard of it.
    notified: bool,
    text: String,
    #[serde(flatten)]
    stage: Stage,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<String>,
    receivers: Vec<Receiver>,
    history: Vec<Event>,
}

#[derive(Serialize)]
struct Receiver {
    receiver: String,
    integration: String,
    group_key: String,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_at: Option<String>,
    #[serde(flatten)]
    stage: Stage,
}

#[derive(Serialize)]
struct Event {
    #[serde(with = "instant")]
    at: Timestamp,
    text: String,
    #[serde(flatten)]
    stage: Stage,
}

struct Question {
    alert: String,
    matchers: Vec<Matcher>,
    at: Option<Timestamp>,
    language: Language,
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

impl Question {
    fn read(query: &str, now: Timestamp) -> Result<Self, ApiError> {
        let mut question = Question {
            alert: String::new(),
            matchers: Vec::new(),
            at: None,
            language: Language::En,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "alert" => question.alert = value.into_owned(),
                "filter" => {
                    let matcher = parse_matcher(&value)
                        .map_err(|e| bad(format!("filter {value:?}: {e}; give LABEL=VALUE")))?;
                    question.matchers.push(matcher);
                }
                "at" => {
                    let at = read_time(&value, now);
                    question.at = Some(at.ok_or_else(|| {
                        bad(format!(
                            "at {value:?}: give RFC 3339, Unix seconds or 10m for ten minutes ago"
                        ))
                    })?);
                }
                "language" => {
                    question.language = Language::parse(&value)
                        .ok_or_else(|| bad(format!("language {value:?}: give en or zh")))?;
                }
                other => {
                    return Err(bad(format!(
                        "unknown parameter {other:?}: give alert, filter, at, language"
                    )));
                }
            }
        }
        if question.alert.is_empty() {
            return Err(bad("alert is missing: give the alert's name"));
        }
        Ok(question)
    }
}

/// RFC 3339, Unix seconds, or a time ago.
fn read_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let seconds = || {
        text.parse::<f64>()
            .ok()
            .filter(|s| s.is_finite() && s.abs() < 1e12)
            .map(Timestamp::from_seconds)
    };
    let ago = || parse_duration(text).ok().map(|ago| now - ago);
    Timestamp::parse_rfc3339(text).or_else(seconds).or_else(ago)
}

async fn why(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Json<Answer>, ApiError> {
    let now = Timestamp::now();
    let question = Question::read(&query.unwrap_or_default(), now)?;
    let accounts = context
        .alerting
        .accounts(
            &context.state,
            &question.alert,
            &question.matchers,
            question.at,
        )
        .await;
    let accounts = accounts.map_err(|e| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the decisions cannot be read: {e}"),
        )
    })?;
    let standings = context
        .rules
        .standings(&question.alert, &question.matchers, question.at);
    let at = question.at.unwrap_or(now);
    let samples_kept = now - context.retention < at;
    let teller = Teller {
        at,
        language: question.language,
    };
    let mut answers = teller.answers(accounts, standings, question.at.is_some(), samples_kept);
    let matches = |labels: &Labels| {
        question
            .matchers
            .iter()
            .all(|matcher| matcher.matches_labels(labels))
    };
    if let Some((labels, refused_at)) = context.alerting.refused_lately(&question.alert, matches) {
        for explanation in answers
            .iter_mut()
            .filter(|explanation| matches!(explanation.stage, Stage::NoRule))
        {
            explanation.labels = label_map(&labels);
            explanation.decided_at = Some(refused_at.rfc3339());
            explanation.text = words::refused(refused_at, question.language);
        }
    }
    Ok(Json(Answer {
        alert: question.alert,
        at,
        answers,
    }))
}

struct Teller {
    at: Timestamp,
    language: Language,
}

impl Teller {
    fn answers(
        &self,
        mut accounts: Vec<Account>,
        standings: Vec<Standing>,
        past: bool,
        samples_kept: bool,
    ) -> Vec<Explanation> {
        let mut explanations = Vec::new();
        let has_rule = !standings.is_empty();
        for standing in standings {
            let expression = Some(standing.expression.clone());
            for (labels, pending) in &standing.alerts {
                let account = accounts
                    .iter()
                    .position(|a| a.labels == *labels)
                    .map(|index| accounts.remove(index));
                let is_held = pending.as_ref().is_some_and(Stage::is_hold);
                let explanation = match (pending, account) {
                    (stage, Some(account))
                        if (stage.is_none() || is_held) && !account.deliveries.is_empty() =>
                    {
                        // What holds it now the rule knows, not the record.
                        let noted = account.held.as_ref().map_or(self.at, |(_, at)| *at);
                        let held = stage
                            .clone()
                            .filter(|_| is_held)
                            .map(|stage| (stage, noted));
                        self.of_account(Account { held, ..account })
                    }
                    (stage, account) => {
                        // A rule's alert that fires has not reached its groups yet.
                        let stage = stage.clone().unwrap_or(Stage::Waiting {
                            until: self.at,
                            resolved: false,
                        });
                        self.of_stage(labels, stage, account.into_iter().collect())
                    }
                };
                explanations.push(Explanation {
                    expression: expression.clone(),
                    ..explanation
                });
            }
            let belongs = |a: &Account| {
                standing
                    .labels
                    .iter()
                    .all(|(name, value)| a.labels.value(name) == value)
            };
            let (own, others): (Vec<Account>, Vec<Account>) =
                std::mem::take(&mut accounts).into_iter().partition(belongs);
            accounts = others;
            let (open, over): (Vec<Account>, Vec<Account>) = own
                .into_iter()
                .partition(|account| (past && account.is_open()) || account.is_flapping());
            match standing.stage {
                Some(stage) if open.is_empty() => {
                    let stage = if samples_kept {
                        stage
                    } else {
                        Stage::NothingRecorded
                    };
                    let explanation = self.of_stage(&standing.labels, stage, over);
                    explanations.push(Explanation {
                        expression,
                        ..explanation
                    });
                }
                _ => {
                    let of_account = |account| Explanation {
                        expression: expression.clone(),
                        ..self.of_account(account)
                    };
                    explanations.extend(open.into_iter().map(of_account));
                }
            }
        }
        explanations.extend(accounts.into_iter().map(|account| self.of_account(account)));
        if explanations.is_empty() && !has_rule {
            explanations.push(self.of_stage(&Labels::empty(), Stage::NoRule, Vec::new()));
        }
        explanations
    }

    fn of_account(&self, account: Account) -> Explanation {
        let decisive = account.decisive().cloned();
        // Receivers that were notified that it fires wait for its end.
        let notified = decisive.as_ref().is_some_and(|d| d.stage.is_notified());
        if let Some((stage, at)) = account
            .held
            .clone()
            .filter(|_| notified || decisive.is_none())
        {
            let text = self.text(&stage, Some(at));
            return Explanation {
                stage,
                text,
                notified,
                decided_at: Some(at.rfc3339()),
                ..self.of_account(Account {
                    held: None,
                    ..account
                })
            };
        }
        let (stage, at) = decisive
            .as_ref()
            .map_or((account.last.clone(), Some(account.since)), |d| {
                (d.stage.clone(), d.at)
            });
        Explanation {
            labels: label_map(&account.labels),
            notified: stage.is_notified(),
            text: decisive
                .as_ref()
                .map_or_else(|| self.text(&stage, at), |d| self.delivery_text(d)),
            stage,
            decided_at: at.map(Timestamp::rfc3339),
            expression: None,
            receivers: account
                .deliveries
                .iter()
                .map(|d| self.receiver(d))
                .collect(),
            history: self.history(vec![account]),
        }
    }

    fn of_stage(&self, labels: &Labels, stage: Stage, earlier: Vec<Account>) -> Explanation {
        Explanation {
            labels: label_map(labels),
            notified: false,
            text: self.text(&stage, None),
            stage,
            decided_at: None,
            expression: None,
            receivers: Vec::new(),
            history: self.history(earlier),
        }
    }

    fn receiver(&self, delivery: &Delivery) -> Receiver {
        Receiver {
            receiver: delivery.receiver.clone(),
            integration: delivery.integration.clone(),
            group_key: delivery.group_key.clone(),
            text: self.delivery_text(delivery),
            decided_at: delivery.at.map(Timestamp::rfc3339),
            delivered_at: delivery.delivered_at.map(Timestamp::rfc3339),
            stage: delivery.stage.clone(),
        }
    }

    fn history(&self, accounts: Vec<Account>) -> Vec<Event> {
        let mut rows: Vec<_> = accounts
            .into_iter()
            .flat_map(|account| account.history)
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.at, row.stage.rank())));
        let event = |row: crate::state::DecisionRow| {
            let receiver = named(
                row.paths.first().map_or("", |p| &p.receiver),
                &row.integration,
            );
            let about = About {
                receiver: &receiver,
                at: Some(row.at),
                delivered_at: None,
                now: row.at,
            };
            Event {
                at: row.at,
                text: sentence(&row.stage, about, self.language),
                stage: row.stage,
            }
        };
        rows.into_iter().take(MAX_HISTORY).map(event).collect()
    }

    fn delivery_text(&self, delivery: &Delivery) -> String {
        let receiver = named(&delivery.receiver, &delivery.integration);
        let about = About {
            receiver: &receiver,
            at: delivery.at,
            delivered_at: delivery.delivered_at,
            now: self.at,
        };
        sentence(&delivery.stage, about, self.language)
    }

    fn text(&self, stage: &Stage, at: Option<Timestamp>) -> String {
        sentence(
            stage,
            About {
                receiver: "",
                at,
                delivered_at: None,
                now: self.at,
            },
            self.language,
        )
    }
}

/// `ops (webhook)`, from the receiver's name or from `ops/webhook/0`.
fn named(receiver: &str, integration: &str) -> String {
    let mut parts = integration.rsplitn(3, '/');
    let (_, notifier, name) = (parts.next(), parts.next(), parts.next());
    match (notifier, name) {
        (Some(notifier), Some(name)) => format!("{name} ({notifier})"),
        _ => receiver.to_owned(),
    }
}
