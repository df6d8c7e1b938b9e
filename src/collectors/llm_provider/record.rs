//! What is known about one provider between collections, and how it becomes samples.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::http::HeaderMap;
use crate::model::{Batch, Timestamp, sample::Histogram};

use super::Settings;
use super::completion::{CompletionConfig, CompletionOutcome};
use super::errors::ErrorType;
use super::free::{Balance, FreeOutcome};
use super::limits::{Allowance, allowances, retry_after};
use super::metrics;
use super::stream::Usage;

/// Milliseconds in a day, for the budget's day (UTC).
const DAY_MS: i64 = 86_400_000;
/// What an answer said of limits is shown for two intervals of its probe, but at least for this
/// time.
const SHORTEST_TRUST: Duration = Duration::from_secs(120);

/// Tokens that completion probes have used on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Days since 1970 (UTC).
    day: i64,
    tokens: u64,
}

/// The history of one kind of probe.
#[derive(Clone)]
struct Probe {
    name: &'static str,
    model: String,
    success: Option<bool>,
    last_error: Option<ErrorType>,
    /// Kinds of failure since the start: each that is over is shown as 0, so that what was said of
    /// it ends at once.
    past_errors: BTreeSet<ErrorType>,
    last_duration: Option<Duration>,
    durations: Histogram,
    errors: BTreeMap<ErrorType, u64>,
    responses: BTreeMap<u16, u64>,
    skipped: BTreeMap<&'static str, u64>,
    last_at: Option<Timestamp>,
    last_success: Option<Timestamp>,
}

impl Probe {
    /// `skips`: why a probe of this kind may be left out; each is counted from zero.
    fn new(name: &'static str, model: &str, skips: &[&'static str]) -> Self {
        Probe {
            name,
            model: model.to_owned(),
            success: None,
            last_error: None,
            past_errors: BTreeSet::new(),
            last_duration: None,
            durations: Histogram::new(metrics::BOUNDS),
            errors: ErrorType::ALL.into_iter().map(|e| (e, 0)).collect(),
            responses: BTreeMap::new(),
            skipped: skips.iter().map(|reason| (*reason, 0)).collect(),
            last_at: None,
            last_success: None,
        }
    }

    fn note(
        &mut self,
        error: Option<ErrorType>,
        status: Option<u16>,
        duration: Duration,
        now: Timestamp,
    ) {
        self.success = Some(error.is_none());
        self.last_error = error;
        self.past_errors.extend(error);
        self.last_duration = Some(duration);
        self.durations.observe(duration.as_secs_f64());
        self.last_at = Some(now);
        match error {
            None => self.last_success = Some(now),
            Some(error) => *self.errors.entry(error).or_default() += 1,
        }
        if let Some(status) = status {
            *self.responses.entry(status).or_default() += 1;
        }
    }
}

/// Everything known about one provider.
#[derive(Clone)]
pub struct Record {
    target: String,
    provider: &'static str,
    selected: Option<bool>,
    probes: Vec<Probe>,
    reachable: Option<bool>,
    models: Option<usize>,
    available: Vec<(String, bool)>,
    balance: Option<Balance>,
    /// Durations by phase of the last way to the provider.
    pub phases: Vec<(&'static str, Duration)>,
    first_byte: Option<Duration>,
    /// Model and dimension of the last embedding.
    embedding: Option<(String, usize)>,
    /// What the page of incidents says.
    pub incidents: Option<String>,
    /// By model, and until when they say something of the present.
    allowances: Vec<(String, Allowance, Timestamp)>,
    retry_after: Option<(String, Duration, Timestamp)>,
    /// Time between two answers that may tell allowances: of the list of models, of a completion.
    intervals: [Duration; 2],
    completion: Option<Completions>,
}

#[derive(Clone)]
struct Completions {
    model: String,
    first_tokens: Histogram,
    last_first_token: Option<Duration>,
    max_gap: Option<Duration>,
    tokens_per_second: Option<f64>,
    tokens: [(&'static str, u64); 3],
    budget: u64,
    used: u64,
    reserved: u64,
    day: i64,
}

impl Record {
    /// An empty record.
    pub fn new(
        settings: &Settings,
        completion: Option<&CompletionConfig>,
        selected: Option<bool>,
    ) -> Self {
        let mut probes = vec![Probe::new("models", "", &["backoff"])];
        if settings.provider.balance.is_some() {
            probes.push(Probe::new("balance", "", &[]));
        }
        if let Some(model) = &settings.embedding_model {
            probes.push(Probe::new("embedding", model, &[]));
        }
        probes.extend(completion.map(|c| {
            Probe::new(
                "completion",
                &c.model,
                &["backoff", "quota_exhausted", "token_budget"],
            )
        }));
        Record {
            target: settings.target.clone(),
            provider: settings.provider.name,
            selected,
            probes,
            reachable: None,
            models: None,
            available: Vec::new(),
            balance: None,
            phases: Vec::new(),
            first_byte: None,
            embedding: None,
            incidents: None,
            allowances: Vec::new(),
            retry_after: None,
            intervals: [
                settings.interval,
                completion.map(|c| c.interval).unwrap_or_default(),
            ],
            completion: completion.map(|c| Completions {
                model: c.model.clone(),
                first_tokens: Histogram::new(metrics::BOUNDS),
                last_first_token: None,
                max_gap: None,
                tokens_per_second: None,
                tokens: [("input", 0), ("output", 0), ("reasoning", 0)],
                budget: c.daily_token_budget,
                used: 0,
                reserved: 0,
                day: 0,
            }),
        }
    }

    /// Notes a list of models; returns the wait that the provider asks for.
    pub fn models(
        &mut self,
        settings: &Settings,
        outcome: &FreeOutcome<Vec<String>>,
        now: Timestamp,
    ) -> Option<Duration> {
        self.reachable = Some(outcome.status.is_some());
        self.first_byte = outcome.first_byte;
        if let Ok(models) = &outcome.result {
            self.models = Some(models.len());
            // Some lists write a model as `models/NAME`.
            let listed = |name: &String| {
                models
                    .iter()
                    .any(|m| m == name || m.rsplit('/').next() == Some(name))
            };
            self.available = settings
                .models
                .iter()
                .map(|m| (m.clone(), listed(m)))
                .collect();
        }
        self.note_free("models", outcome, now)
    }

    /// Notes an embedding.
    pub fn embedding(&mut self, model: &str, outcome: &FreeOutcome<usize>, now: Timestamp) {
        self.embedding = outcome
            .result
            .ok()
            .map(|dimension| (model.to_owned(), dimension));
        self.note_free("embedding", outcome, now);
    }

    /// Notes a balance.
    pub fn balance(&mut self, outcome: &FreeOutcome<Balance>, now: Timestamp) {
        if let Ok(balance) = &outcome.result {
            self.balance = Some(Balance {
                available: balance.available,
                amounts: balance.amounts.clone(),
            });
        }
        self.note_free("balance", outcome, now);
    }

    /// Notes a finished completion; returns the wait that the provider asks for.
    pub fn completion(
        &mut self,
        config: &CompletionConfig,
        outcome: &CompletionOutcome,
        now: Timestamp,
    ) -> Option<Duration> {
        if let Some(probe) = self.probe("completion") {
            probe.note(outcome.error, outcome.status, outcome.duration, now);
        }
        if let Some(record) = &mut self.completion {
            record.settle(config, outcome);
        }
        let wait = self.note_limits(
            &config.model,
            outcome.status.is_some(),
            &outcome.headers,
            now,
        );
        // The model answered: what is asked of others is not asked of us.
        wait.filter(|_| outcome.error.is_some())
    }

    /// Notes a completion that counts for nothing but what it cost.
    pub fn missed_completion(&mut self, config: &CompletionConfig, outcome: &CompletionOutcome) {
        if let Some(record) = &mut self.completion {
            record.spend(config, outcome);
        }
    }

    /// Whether the last free probe got any answer.
    pub fn is_reachable(&self) -> bool {
        self.reachable == Some(true)
    }

    /// The failure of the last completion.
    pub fn completion_error(&self) -> Option<ErrorType> {
        self.probes
            .iter()
            .find(|p| p.name == "completion")?
            .last_error
    }

    /// Whether the account has money, as far as the provider says: by its balance where there is
    /// one.
    pub fn has_money(&self) -> bool {
        let last_works = |name: &str| {
            self.probes
                .iter()
                .find(|p| p.name == name)
                .is_none_or(|p| p.success == Some(true))
        };
        let balance = self
            .balance
            .as_ref()
            .is_none_or(|balance| balance.available);
        balance && last_works("balance") && last_works("models")
    }

    /// Sets tokens of today's budget aside for one probe; false when they do not suffice.
    pub fn reserve(&mut self, config: &CompletionConfig, now: Timestamp) -> bool {
        let Some(record) = &mut self.completion else {
            return false;
        };
        let today = now.0.div_euclid(DAY_MS);
        if record.day != today {
            (record.day, record.used) = (today, 0);
        }
        let cost = worst_cost(config);
        if record.used + cost > record.budget {
            return false;
        }
        record.used += cost;
        record.reserved = cost;
        true
    }

    /// What is spent of the day's budget, as it is kept across restarts: what is set aside counts,
    /// since it may be spent by now.
    pub fn spent(&self) -> Option<Spent> {
        self.completion.as_ref().map(|record| Spent {
            day: record.day,
            tokens: record.used,
        })
    }

    /// Takes what an earlier process has spent.
    pub fn remember(&mut self, spent: Spent) {
        let Some(record) = &mut self.completion else {
            return;
        };
        if spent.day > record.day {
            (record.day, record.used) = (spent.day, spent.tokens);
        } else if spent.day == record.day {
            record.used = record.used.saturating_add(spent.tokens);
        }
    }

    /// Counts a probe that was left out.
    pub fn skip(&mut self, probe: &'static str, reason: &'static str) {
        if let Some(probe) = self.probe(probe) {
            *probe.skipped.entry(reason).or_default() += 1;
        }
    }

    /// The result of the last list of models, for a collection that leaves it out.
    pub fn last_models_result(&self) -> Result<(), ErrorType> {
        self.probes
            .first()
            .and_then(|p| p.last_error)
            .map_or(Ok(()), Err)
    }

    fn probe(&mut self, name: &str) -> Option<&mut Probe> {
        self.probes.iter_mut().find(|p| p.name == name)
    }

    fn note_free<T>(
        &mut self,
        name: &str,
        outcome: &FreeOutcome<T>,
        now: Timestamp,
    ) -> Option<Duration> {
        if let Some(probe) = self.probe(name) {
            probe.note(
                outcome.result.as_ref().err().copied(),
                outcome.status,
                outcome.duration,
                now,
            );
        }
        self.note_limits(
            "",
            outcome.status.is_some() && name == "models",
            &outcome.headers,
            now,
        )
        .filter(|_| outcome.result.is_err())
    }

    /// What an answer says of limits replaces what the one before said.
    fn note_limits(
        &mut self,
        model: &str,
        answered: bool,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<Duration> {
        if answered {
            self.allowances.retain(|(of, ..)| of != model);
        }
        let interval = self.intervals[usize::from(!model.is_empty())];
        let until = now + (interval * 2).max(SHORTEST_TRUST);
        self.allowances.extend(
            allowances(headers, now)
                .into_iter()
                .map(|allowance| (model.to_owned(), allowance, until)),
        );
        let wait = retry_after(headers, now)?;
        self.retry_after = Some((model.to_owned(), wait, now + wait.max(SHORTEST_TRUST)));
        Some(wait)
    }

    /// Writes everything known that still holds.
    pub fn write(&self, batch: &mut Batch, now: Timestamp) {
        let (target, provider) = (
            ("target", self.target.as_str()),
            ("provider", self.provider),
        );
        let both = [target, provider];
        let flag = |value: bool| f64::from(u8::from(value));
        if let Some(probe) = self.probes.first().filter(|p| p.success.is_some()) {
            batch.push(&metrics::UP, &both, flag(probe.success == Some(true)));
        }
        if let Some(reachable) = self.reachable {
            batch.push(&metrics::REACHABLE, &both, flag(reachable));
        }
        if let Some(selected) = self.selected {
            batch.push(&metrics::SELECTED, &both, flag(selected));
        }
        if let Some(models) = self.models {
            batch.push(&metrics::MODELS, &both, models as f64);
        }
        for (model, available) in &self.available {
            batch.push(
                &metrics::MODEL_AVAILABLE,
                &[target, provider, ("model", model)],
                flag(*available),
            );
        }
        if let Some(balance) = &self.balance {
            batch.push(&metrics::AVAILABLE, &both, flag(balance.available));
            for (currency, kind, amount) in &balance.amounts {
                batch.push(
                    &metrics::BALANCE,
                    &[target, provider, ("currency", currency), ("kind", kind)],
                    *amount,
                );
            }
        }
        self.write_way(batch);
        for probe in &self.probes {
            self.write_probe(batch, probe);
        }
        self.write_limits(batch, now);
        if let Some(completion) = &self.completion {
            completion.write(batch, target, provider);
        }
    }

    /// Phases of the way, the last embedding, the page of incidents.
    fn write_way(&self, batch: &mut Batch) {
        let labels = [
            ("target", self.target.as_str()),
            ("provider", self.provider),
        ];
        let first_byte = self.first_byte.map(|time| ("first_byte", time));
        for (phase, time) in self.phases.iter().copied().chain(first_byte) {
            let labels = [labels[0], labels[1], ("phase", phase)];
            batch.push(&metrics::PHASE, &labels, time.as_secs_f64());
        }
        if let Some((model, dimension)) = &self.embedding {
            let labels = [labels[0], labels[1], ("model", model.as_str())];
            batch.push(&metrics::EMBEDDING, &labels, *dimension as f64);
        }
        if let Some(said) = &self.incidents {
            for indicator in ["none", "minor", "major", "critical", "maintenance"] {
                let labels = [labels[0], labels[1], ("indicator", indicator)];
                let is_so = f64::from(u8::from(indicator == said));
                batch.push(&metrics::INCIDENT, &labels, is_so);
            }
        }
    }

    fn write_probe(&self, batch: &mut Batch, probe: &Probe) {
        let (target, provider) = (
            ("target", self.target.as_str()),
            ("provider", self.provider),
        );
        let labels = [
            target,
            provider,
            ("model", probe.model.as_str()),
            ("probe", probe.name),
        ];
        if let (Some(success), Some(duration)) = (probe.success, probe.last_duration) {
            batch.push(&metrics::SUCCESS, &labels, f64::from(u8::from(success)));
            batch.push(&metrics::LAST_DURATION, &labels, duration.as_secs_f64());
        }
        batch.push_histogram(&metrics::DURATION, &labels, &probe.durations);
        for (error, count) in &probe.errors {
            let labels = [
                labels[0],
                labels[1],
                labels[2],
                labels[3],
                ("error_type", error.as_str()),
            ];
            batch.push(&metrics::ERRORS, &labels, *count as f64);
        }
        for error in &probe.past_errors {
            let now = f64::from(u8::from(probe.last_error == Some(*error)));
            batch.push(
                &metrics::LAST_ERROR,
                &[
                    labels[0],
                    labels[1],
                    labels[2],
                    labels[3],
                    ("error_type", error.as_str()),
                ],
                now,
            );
        }
        for (code, count) in &probe.responses {
            batch.push(
                &metrics::RESPONSES,
                &[
                    target,
                    provider,
                    ("probe", probe.name),
                    ("code", &code.to_string()),
                ],
                *count as f64,
            );
        }
        for (reason, count) in &probe.skipped {
            batch.push(
                &metrics::SKIPPED,
                &[target, ("probe", probe.name), ("reason", reason)],
                *count as f64,
            );
        }
        if let Some(at) = probe.last_at {
            batch.push(
                &metrics::LAST_PROBE,
                &[target, ("probe", probe.name)],
                at.seconds(),
            );
        }
        if let Some(at) = probe.last_success {
            batch.push(
                &metrics::LAST_SUCCESS,
                &[target, ("probe", probe.name)],
                at.seconds(),
            );
        }
    }

    fn write_limits(&self, batch: &mut Batch, now: Timestamp) {
        let (target, provider) = (
            ("target", self.target.as_str()),
            ("provider", self.provider),
        );
        for (model, allowance, _) in self.allowances.iter().filter(|(.., until)| *until > now) {
            let labels = [
                target,
                provider,
                ("model", model.as_str()),
                ("kind", allowance.kind),
            ];
            for (desc, value) in [
                (&metrics::LIMIT, allowance.limit),
                (&metrics::REMAINING, allowance.remaining),
                (&metrics::RESET, allowance.reset_seconds),
            ] {
                if let Some(value) = value {
                    batch.push(desc, &labels, value);
                }
            }
        }
        if let Some((model, wait, _)) = self.retry_after.as_ref().filter(|(.., until)| *until > now)
        {
            batch.push(
                &metrics::RETRY_AFTER,
                &[target, provider, ("model", model)],
                wait.as_secs_f64(),
            );
        }
    }
}

/// What one probe can cost at most: the capped answer, and the prompt counted generously.
fn worst_cost(config: &CompletionConfig) -> u64 {
    u64::from(config.max_tokens) + 16 + config.prompt.len() as u64
}

impl Completions {
    /// Replaces the reserved tokens by those that were used. Some models ignore the cap while they
    /// think, so the sum can exceed the reservation; then the budget is simply spent sooner.
    fn spend(&mut self, config: &CompletionConfig, outcome: &CompletionOutcome) {
        let Usage {
            input,
            output,
            reasoning,
        } = outcome.usage;
        let is_counted = input.is_some() || output.is_some();
        // A refused request costs nothing; an answer that hides its usage costs what was set aside.
        let spent = match (is_counted, outcome.status) {
            (true, _) => input.unwrap_or(0) + output.unwrap_or(0),
            (false, Some(200)) => worst_cost(config),
            (false, _) => 0,
        };
        self.used = self.used.saturating_sub(self.reserved) + spent;
        self.reserved = 0;
        for ((_, total), count) in self.tokens.iter_mut().zip([input, output, reasoning]) {
            *total += count.unwrap_or(0);
        }
    }

    fn settle(&mut self, config: &CompletionConfig, outcome: &CompletionOutcome) {
        self.spend(config, outcome);
        if let Some(first) = outcome.first_token {
            self.first_tokens.observe(first.as_secs_f64());
        }
        // A wrong time to first token is worse than none: an answer that was not streamed removes
        // the last one.
        self.last_first_token = outcome.first_token;
        self.max_gap = outcome.max_gap;
        self.tokens_per_second = outcome.tokens_per_second;
    }

    fn write(&self, batch: &mut Batch, target: (&str, &str), provider: (&str, &str)) {
        let labels = [target, provider, ("model", self.model.as_str())];
        batch.push_histogram(&metrics::FIRST_TOKEN, &labels, &self.first_tokens);
        if let Some(first) = self.last_first_token {
            batch.push(&metrics::LAST_FIRST_TOKEN, &labels, first.as_secs_f64());
        }
        if let Some(gap) = self.max_gap {
            batch.push(&metrics::MAX_GAP, &labels, gap.as_secs_f64());
        }
        if let Some(rate) = self.tokens_per_second {
            batch.push(&metrics::TOKENS_PER_SECOND, &labels, rate);
        }
        for (kind, count) in self.tokens {
            batch.push(
                &metrics::TOKENS,
                &[labels[0], labels[1], labels[2], ("type", kind)],
                count as f64,
            );
        }
        batch.push(
            &metrics::BUDGET,
            &[target],
            self.budget.saturating_sub(self.used) as f64,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeaderName, HeaderValue};

    /// An allowance of half an hour ago says nothing of now.
    #[test]
    fn allowances_and_waits_are_shown_as_long_as_they_hold() {
        let mut record = Record {
            target: "t".into(),
            provider: "openai",
            selected: None,
            probes: Vec::new(),
            reachable: None,
            models: None,
            available: Vec::new(),
            balance: None,
            phases: Vec::new(),
            first_byte: None,
            embedding: None,
            incidents: None,
            allowances: Vec::new(),
            retry_after: None,
            intervals: [Duration::from_secs(60), Duration::from_secs(300)],
            completion: None,
        };
        let pairs = [
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "9"),
            ("retry-after", "30"),
        ];
        let headers: HeaderMap = pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect();
        let start = Timestamp(1_700_000_000_000);
        assert_eq!(
            record.note_limits("m", true, &headers, start),
            Some(Duration::from_secs(30))
        );
        let shown = |record: &Record, seconds: u64| {
            let mut batch = Batch::new();
            record.write_limits(&mut batch, start + Duration::from_secs(seconds));
            batch
                .families
                .keys()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shown(&record, 60),
            [
                "llm_ratelimit_limit",
                "llm_ratelimit_remaining",
                "llm_retry_after_seconds"
            ]
        );
        assert_eq!(
            shown(&record, 599),
            ["llm_ratelimit_limit", "llm_ratelimit_remaining"]
        );
        assert_eq!(shown(&record, 600), Vec::<String>::new());
        record.note_limits("m", true, &HeaderMap::new(), start);
        assert_eq!(
            shown(&record, 200),
            Vec::<String>::new(),
            "the next answer tells none"
        );
    }
}
