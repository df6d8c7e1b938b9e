//! One alert of one rule, and its form in the state database.

use std::time::Duration;

use crate::template::url_encode;
use serde::{Deserialize, Serialize};

use super::context::Context;
use crate::model::clock::Jump;
use crate::model::{Alert, Labels, Stage, Timestamp};
use crate::rules::AlertingRule;

/// Where an alert is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Resolved; kept for a while so that its end is sent again.
    Inactive,
    /// The expression holds, but not for long enough.
    Pending,
    /// It fires.
    Firing,
}

impl AlertState {
    /// The word that `ALERTS` and the API use.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Inactive => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }
}

/// What keeps an alert as it is although its expression has no result for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// Its input is missing.
    NoData,
    /// `recover_expr` is not true yet.
    Recovery,
}

/// An alert that stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Why.
    pub why: HeldBy,
    /// Since when.
    pub since: Timestamp,
    /// The series that are missing, or the labels of their target; some of them, when there are
    /// many.
    pub missing: Vec<Labels>,
    /// Since when this process has looked for them.
    pub watched_since: Option<Timestamp>,
}

/// One alert of one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveAlert {
    /// Final labels, `alertname` included, external labels not.
    pub labels: Labels,
    /// The labels of the result that raised it.
    pub source: Labels,
    /// Annotations as they were last expanded: when it began, or when it was last sent.
    pub annotations: Labels,
    /// Where it is in its life.
    pub state: AlertState,
    /// When the expression began to hold.
    pub active_at: Timestamp,
    /// When it began to fire.
    pub fired_at: Option<Timestamp>,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// When it was last handed on.
    pub last_sent_at: Option<Timestamp>,
    /// When the expression ceased to hold while the alert goes on firing.
    pub keep_firing_since: Option<Timestamp>,
    /// The last evaluation that found its input.
    pub fed_at: Timestamp,
    /// What keeps it as it is, though its expression has no result for it.
    pub held: Option<Box<Held>>,
    /// Whether it was raised because there is no data.
    pub no_data: bool,
    /// Whether it comes from before a restart and was not found since.
    pub restored: bool,
    /// The value at the last evaluation that had it.
    pub value: f64,
    /// The worst value so far: the least where the rule asks for `<`, otherwise the greatest.
    pub peak: f64,
}

#[derive(Serialize, Deserialize)]
struct Body {
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    state: AlertState,
    active_at: i64,
    fired_at: Option<i64>,
    resolved_at: Option<i64>,
    last_sent_at: Option<i64>,
    keep_firing_since: Option<i64>,
    #[serde(default)]
    source: Option<Vec<(String, String)>>,
    #[serde(default)]
    fed_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<HeldBody>,
    #[serde(default)]
    no_data: bool,
    /// The bits of the value: JSON has neither NaN nor infinities.
    value: u64,
    peak: u64,
}

#[derive(Serialize, Deserialize)]
struct HeldBody {
    why: HeldBy,
    since: i64,
    missing: Vec<Vec<(String, String)>>,
}

impl HeldBody {
    fn of(held: &Held) -> Self {
        HeldBody {
            why: held.why,
            since: held.since.0,
            missing: held.missing.iter().map(pairs).collect(),
        }
    }

    fn read(self) -> Held {
        let missing = self.missing.into_iter().map(Labels::from_pairs).collect();
        Held {
            why: self.why,
            since: Timestamp(self.since),
            missing,
            watched_since: None,
        }
    }
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels
        .iter()
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect()
}

impl ActiveAlert {
    /// The clock has jumped: what waits goes on waiting as long as it would have. When it fired
    /// stays: that names the firing.
    pub fn clock_jumped(&mut self, jump: Jump) {
        if self.state == AlertState::Pending {
            self.active_at = jump.moved(self.active_at);
        }
        self.fed_at = jump.moved(self.fed_at);
        for at in [
            &mut self.resolved_at,
            &mut self.last_sent_at,
            &mut self.keep_firing_since,
        ]
        .into_iter()
        .flatten()
        {
            *at = jump.moved(*at);
        }
        if let Some(held) = &mut self.held {
            held.since = jump.moved(held.since);
            held.watched_since = held.watched_since.map(|at| jump.moved(at));
        }
    }

    /// It comes from a process whose clock may have been ahead: nothing lies after `now`.
    pub fn not_after(mut self, now: Timestamp) -> Self {
        self.active_at = self.active_at.min(now);
        self.fed_at = self.fed_at.min(now);
        for at in [&mut self.last_sent_at, &mut self.keep_firing_since]
            .into_iter()
            .flatten()
        {
            *at = (*at).min(now);
        }
        if let Some(held) = &mut self.held {
            held.since = held.since.min(now);
        }
        self
    }

    /// A pending alert that began at `now`.
    pub fn new(
        labels: Labels,
        source: Labels,
        annotations: Labels,
        value: f64,
        now: Timestamp,
    ) -> Self {
        ActiveAlert {
            labels,
            source,
            annotations,
            state: AlertState::Pending,
            active_at: now,
            fired_at: None,
            resolved_at: None,
            last_sent_at: None,
            keep_firing_since: None,
            fed_at: now,
            held: None,
            no_data: false,
            restored: false,
            value,
            peak: value,
        }
    }

    /// Its text for the state database.
    pub fn to_json(&self) -> String {
        let body = Body {
            labels: pairs(&self.labels),
            annotations: pairs(&self.annotations),
            state: self.state,
            active_at: self.active_at.0,
            fired_at: self.fired_at.map(|t| t.0),
            resolved_at: self.resolved_at.map(|t| t.0),
            last_sent_at: self.last_sent_at.map(|t| t.0),
            keep_firing_since: self.keep_firing_since.map(|t| t.0),
            source: Some(pairs(&self.source)),
            fed_at: Some(self.fed_at.0),
            held: self.held.as_deref().map(HeldBody::of),
            no_data: self.no_data,
            value: self.value.to_bits(),
            peak: self.peak.to_bits(),
        };
        // Strings, numbers and lists of them always have a JSON form.
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// Reads what [`ActiveAlert::to_json`] wrote.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let body: Body = serde_json::from_str(text)?;
        // A version that did not keep the source: the labels are the nearest to it.
        let labels = Labels::from_pairs(body.labels);
        let source = body.source.map_or_else(
            || labels.filtered(|name| name != "alertname"),
            Labels::from_pairs,
        );
        Ok(ActiveAlert {
            labels,
            source,
            annotations: Labels::from_pairs(body.annotations),
            state: body.state,
            active_at: Timestamp(body.active_at),
            fired_at: body.fired_at.map(Timestamp),
            resolved_at: body.resolved_at.map(Timestamp),
            last_sent_at: body.last_sent_at.map(Timestamp),
            keep_firing_since: body.keep_firing_since.map(Timestamp),
            fed_at: Timestamp(body.fed_at.unwrap_or(body.active_at)),
            held: body.held.map(|held| Box::new(held.read())),
            no_data: body.no_data,
            restored: true,
            value: f64::from_bits(body.value),
            peak: f64::from_bits(body.peak),
        })
    }

    /// What keeps it as it is, as `why` tells it.
    pub(in crate::rules) fn held_stage(&self, rule: &AlertingRule) -> Option<Stage> {
        let held = self.held.as_ref()?;
        Some(match held.why {
            HeldBy::NoData => Stage::HeldNoData {
                since: held.since,
                missing: held
                    .missing
                    .iter()
                    .map(|series| {
                        if series.metric_name().is_empty() {
                            series.braced()
                        } else {
                            series.to_string()
                        }
                    })
                    .collect(),
            },
            HeldBy::Recovery => Stage::NotRecovered {
                since: held.since,
                expression: rule
                    .recover_expr
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            },
        })
    }

    /// Whether it is to be handed on: it fires or has ended, and was never handed on as such, or
    /// not lately.
    pub(in crate::rules) fn is_due(&self, now: Timestamp, resend_delay: Duration) -> bool {
        if self.state == AlertState::Pending {
            return false;
        }
        self.last_sent_at.is_none_or(|sent| {
            self.resolved_at.is_some_and(|end| end > sent) || sent + resend_delay < now
        })
    }

    /// Its labels as the alerting side knows them.
    pub(in crate::rules) fn outgoing_labels(&self, context: &Context<'_>) -> Labels {
        let mut labels = self.labels.to_builder();
        for (name, value) in context
            .external_labels
            .iter()
            .filter(|(name, _)| self.labels.get(name).is_none())
        {
            labels.set(name, value);
        }
        labels.build()
    }

    /// The alert as the alerting side knows it. It fires until it is ended: no end is guessed.
    pub(in crate::rules) fn to_model(
        &self,
        now: Timestamp,
        context: &Context<'_>,
        expr: &str,
    ) -> Alert {
        Alert {
            labels: self.outgoing_labels(context),
            annotations: self.annotations.clone(),
            // An alert does not end before it began, though the clock was set back between.
            starts_at: self
                .fired_at
                .unwrap_or(self.active_at)
                .min(self.resolved_at.unwrap_or(Timestamp::MAX)),
            ends_at: self.resolved_at,
            updated_at: now,
            generator_url: format!(
                "{}/graph?g0.expr={}&g0.tab=1",
                context.external_url.trim_end_matches('/'),
                url_encode(expr)
            ),
            // The last value of one that is over is not the value now.
            value: self.resolved_at.is_none().then_some(self.value),
            peak: Some(self.peak),
            evidence: Vec::new(),
            shipped: context.shipped,
        }
    }
}
