//! What is known of calls: for each kind of call how many there were, how long they took, what they
//! used and cost, and how they failed. Kinds of calls are bounded; beyond the bound their names
//! become `other`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::config::Section;
use crate::model::{Batch, Timestamp};

use super::metrics::{
    self, COST, DURATION, ERRORS, FIRST_TOKEN, FOLDED, GAP, PRICES_DATE, TOKENS, UNPRICED,
};
use super::price::{Cost, Prices};
use super::tokens::Tokens;

/// Kinds of calls that are kept apart unless the configuration says otherwise, and most that it may
/// say.
const KINDS: usize = 200;
const MOST_KINDS: usize = 5_000;
/// A kind of which nothing came for so long is forgotten.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// Longest label, in characters.
const LONGEST: usize = 80;
/// In place of names beyond the bound.
const OTHER: &str = "other";

/// Where a call was seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// A span of the application.
    Spans,
    /// Metrics of the application.
    Metrics,
    /// It went through here.
    Proxy,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Source::Spans => "spans",
            Source::Metrics => "metrics",
            Source::Proxy => "proxy",
        }
    }
}

/// The names of a call; those that are not known are empty.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Call {
    /// Where it was seen.
    pub source: Source,
    /// Who makes it: a service, or what a caller says it is.
    pub application: String,
    /// `openai`, `anthropic`.
    pub provider: String,
    /// The model.
    pub model: String,
    /// `chat`, `embeddings`, `retrieval`, `execute_tool`: one of few.
    pub operation: &'static str,
    /// The agent.
    pub agent: String,
    /// The tool.
    pub tool: String,
}

impl Call {
    /// A call by source and operation, without names.
    pub fn of(source: Source, operation: &'static str) -> Self {
        let empty = String::new;
        Call {
            source,
            application: empty(),
            provider: empty(),
            model: empty(),
            operation,
            agent: empty(),
            tool: empty(),
        }
    }

    /// With names that are fit to be labels.
    fn cleaned(mut self) -> Self {
        for name in [
            &mut self.application,
            &mut self.provider,
            &mut self.model,
            &mut self.agent,
            &mut self.tool,
        ] {
            if name.chars().count() > LONGEST || name.contains(char::is_control) {
                *name = name
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(LONGEST)
                    .collect();
            }
        }
        self
    }

    fn folded(self) -> Self {
        let fold = |name: String| {
            if name.is_empty() {
                name
            } else {
                OTHER.to_owned()
            }
        };
        Call {
            application: fold(self.application),
            model: fold(self.model),
            agent: fold(self.agent),
            tool: fold(self.tool),
            ..self
        }
    }

    fn labels(&self) -> [(&str, &str); 7] {
        [
            ("source", self.source.as_str()),
            ("application", &self.application),
            ("provider", &self.provider),
            ("model", &self.model),
            ("operation", self.operation),
            ("agent", &self.agent),
            ("tool", &self.tool),
        ]
    }
}

/// What one call was like.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// How long it took, in seconds.
    pub duration: Option<f64>,
    /// Until the first part of the answer, in seconds.
    pub first_token: Option<f64>,
    /// What it used.
    pub tokens: Tokens,
    /// The class of its error.
    pub error: Option<&'static str>,
}

/// A histogram of an application that has grown.
#[derive(Clone, Debug)]
pub struct Grown {
    /// Upper bounds in seconds.
    pub bounds: Vec<f64>,
    /// New observations in each bucket, one more than bounds.
    pub counts: Vec<u64>,
    /// Their sum.
    pub sum: f64,
}

/// Observations of several calls.
#[derive(Clone, Debug)]
struct Observed {
    bounds: Vec<f64>,
    counts: Vec<u64>,
    sum: f64,
}

impl Observed {
    fn new(bounds: &[f64]) -> Self {
        Observed {
            bounds: bounds.to_vec(),
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    fn observe(&mut self, value: f64) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        self.counts[self.bounds.partition_point(|bound| *bound < value)] += 1;
        self.sum += value;
    }

    /// Adds what has grown; other bounds begin anew.
    fn add(&mut self, grown: &Grown) {
        if self.bounds != grown.bounds || self.counts.len() != grown.counts.len() {
            *self = Observed::new(&grown.bounds);
        }
        self.counts
            .iter_mut()
            .zip(&grown.counts)
            .for_each(|(count, more)| *count += more);
        self.sum += grown.sum;
    }
}

/// Which observations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// Whole calls.
    Duration,
    /// Until the first token.
    FirstToken,
    /// Between parts of an answer.
    Gap,
}

#[derive(Debug, Default)]
struct Account {
    durations: Option<Observed>,
    first_tokens: Option<Observed>,
    gaps: Option<Observed>,
    tokens: Tokens,
    errors: BTreeMap<&'static str, u64>,
    costs: BTreeMap<String, f64>,
    last: Timestamp,
}

/// The keys of a collector that are about calls.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The price table.
    pub prices: Prices,
    /// Kinds of calls that are kept apart.
    pub kinds: usize,
}

impl Settings {
    /// Reads the keys `prices_file` and `calls`.
    pub fn read(section: &Section<'_>) -> Self {
        let kinds = section.or("calls", KINDS);
        if !(1..=MOST_KINDS).contains(&kinds) {
            section.error(
                "calls",
                format!("is not a number from 1 to {MOST_KINDS}"),
                "leave it out: 200 kinds of calls are kept apart",
            );
        }
        Settings {
            prices: Prices::read(section),
            kinds: kinds.min(MOST_KINDS),
        }
    }
}

/// What is known of all calls.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: HashMap<Call, Account>,
    unpriced: u64,
    folded: u64,
}

impl Ledger {
    /// Notes one call. Returns what its tokens cost.
    pub fn note(
        &mut self,
        settings: &Settings,
        call: Call,
        measured: &Measured,
        now: Timestamp,
    ) -> Option<Cost> {
        let cost = self.spend(settings, &call, &measured.tokens);
        let account = self.account(settings, call, now);
        if let Some(cost) = &cost {
            *account.costs.entry(cost.currency.clone()).or_default() += cost.amount;
        }
        for (value, observed, bounds) in [
            (measured.duration, &mut account.durations, metrics::BOUNDS),
            (
                measured.first_token,
                &mut account.first_tokens,
                metrics::BOUNDS,
            ),
        ] {
            value.into_iter().for_each(|value| {
                observed
                    .get_or_insert_with(|| Observed::new(bounds))
                    .observe(value)
            });
        }
        for (sum, more) in account.tokens.0.iter_mut().zip(measured.tokens.0) {
            *sum = sum.saturating_add(more);
        }
        measured
            .error
            .into_iter()
            .for_each(|class| *account.errors.entry(class).or_default() += 1);
        cost
    }

    /// Notes how a histogram of an application has grown.
    pub fn grow(&mut self, settings: &Settings, call: Call, of: Of, grown: &Grown, now: Timestamp) {
        let account = self.account(settings, call, now);
        let (observed, bounds) = match of {
            Of::Duration => (&mut account.durations, metrics::BOUNDS),
            Of::FirstToken => (&mut account.first_tokens, metrics::BOUNDS),
            Of::Gap => (&mut account.gaps, metrics::GAP_BOUNDS),
        };
        observed
            .get_or_insert_with(|| Observed::new(bounds))
            .add(grown);
    }

    /// Notes further errors of a class.
    pub fn fail(
        &mut self,
        settings: &Settings,
        call: Call,
        class: &'static str,
        count: u64,
        now: Timestamp,
    ) {
        *self
            .account(settings, call, now)
            .errors
            .entry(class)
            .or_default() += count;
    }

    fn spend(&mut self, settings: &Settings, call: &Call, tokens: &Tokens) -> Option<Cost> {
        if tokens.is_none() {
            return None;
        }
        let cost = settings.prices.cost(&call.provider, &call.model, tokens);
        if cost.is_none() {
            self.unpriced = self.unpriced.saturating_add(tokens.total());
        }
        cost
    }

    fn account(&mut self, settings: &Settings, call: Call, now: Timestamp) -> &mut Account {
        let mut call = call.cleaned();
        if !self.accounts.contains_key(&call) && self.accounts.len() >= settings.kinds {
            self.accounts
                .retain(|_, account| now.since(account.last) < IDLE);
            if self.accounts.len() >= settings.kinds {
                self.folded += 1;
                call = call.folded();
                if !self.accounts.contains_key(&call) && self.accounts.len() >= 2 * settings.kinds {
                    // So many providers there are not.
                    call.provider = OTHER.to_owned();
                }
            }
        }
        let account = self.accounts.entry(call).or_default();
        account.last = now;
        account
    }

    /// Shows everything.
    pub fn show(&mut self, settings: &Settings, now: Timestamp, batch: &mut Batch) {
        self.accounts
            .retain(|_, account| now.since(account.last) < IDLE);
        for (call, account) in &self.accounts {
            let labels = call.labels();
            let with = |name: &'static str, value| -> Vec<(&str, &str)> {
                labels.iter().copied().chain([(name, value)]).collect()
            };
            for (desc, observed) in [
                (&DURATION, &account.durations),
                (&FIRST_TOKEN, &account.first_tokens),
                (&GAP, &account.gaps),
            ] {
                if let Some(observed) = observed {
                    batch.push_buckets(
                        desc,
                        &labels,
                        &observed.bounds,
                        &observed.counts,
                        observed.sum,
                    );
                }
            }
            for (kind, count) in Tokens::TYPES.iter().zip(account.tokens.0) {
                if count > 0 || (!account.tokens.is_none() && matches!(*kind, "input" | "output")) {
                    batch.push(&TOKENS, &with("type", kind), count as f64);
                }
            }
            for (class, count) in &account.errors {
                batch.push(&ERRORS, &with("error_class", class), *count as f64);
            }
            for (currency, amount) in &account.costs {
                batch.push(&COST, &with("currency", currency), *amount);
            }
        }
        batch.push(&UNPRICED, &[], self.unpriced as f64);
        batch.push(&FOLDED, &[], self.folded as f64);
        batch.push(&PRICES_DATE, &[], settings.prices.date().seconds());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kinds: usize) -> Settings {
        Settings {
            prices: Prices::default(),
            kinds,
        }
    }

    fn call(model: &str) -> Call {
        Call {
            model: model.into(),
            provider: "openai".into(),
            ..Call::of(Source::Spans, "chat")
        }
    }

    #[test]
    fn kinds_beyond_the_bound_are_other_and_their_tokens_are_counted() {
        let (mut ledger, settings) = (Ledger::default(), settings(3));
        let measured = Measured {
            tokens: Tokens([2, 1, 0, 0, 0]),
            duration: Some(1.0),
            ..Measured::default()
        };
        for n in 0..50 {
            ledger.note(
                &settings,
                call(&format!("unknown{n}")),
                &measured,
                Timestamp(1000),
            );
        }
        assert_eq!(
            (ledger.accounts.len(), ledger.folded, ledger.unpriced),
            (4, 47, 150)
        );
        let mut batch = Batch::new();
        ledger.show(&settings, Timestamp(2000), &mut batch);
        let sum: f64 = batch
            .samples()
            .filter(|s| s.labels.metric_name() == "gen_ai_tokens_total")
            .map(|s| s.value)
            .sum();
        assert_eq!(sum, 150.0);
        ledger.show(&settings, Timestamp(1000 + 86_400_000), &mut Batch::new());
        assert!(ledger.accounts.is_empty(), "they are forgotten after a day");
    }

    #[test]
    fn nothing_that_is_no_number_gets_into_a_histogram() {
        let (mut ledger, settings) = (Ledger::default(), settings(3));
        for value in [f64::NAN, f64::INFINITY, -1.0, 0.5] {
            ledger.note(
                &settings,
                call("m"),
                &Measured {
                    duration: Some(value),
                    ..Measured::default()
                },
                Timestamp(1),
            );
        }
        let account = ledger.accounts.values().next().expect("one");
        assert_eq!(
            account
                .durations
                .as_ref()
                .map(|observed| (observed.counts.iter().sum::<u64>(), observed.sum)),
            Some((1, 0.5))
        );
    }
}
