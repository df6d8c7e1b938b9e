//! Calls of models, tools, agents and stores, from spans and from metrics of applications.

use std::collections::{HashSet, VecDeque};

use crate::collectors::gen_ai::{Call, Grown, Measured, Source, Tokens, class_of};
use crate::exposition::otlp::{Attributes, Span};

use super::convention::{
    ATTRIBUTES, FIRST_TOKEN_EVENTS, Fact, LOOKUPS, METRICS, OPERATIONS, PROVIDERS, Role, STORES,
    USES_TOKENS,
};
use super::series::Growth;
use super::worth::Worth;

/// Spans that are remembered, so that one that is sent again is not counted again.
const REMEMBERED: usize = 1 << 16;

/// The value of a fact, where one of its attributes is there.
fn text(attributes: &Attributes<'_>, fact: Fact) -> Option<String> {
    let names = ATTRIBUTES.iter().filter(|(known, _)| *known == fact);
    names
        .filter_map(|(_, name)| attributes.get(name))
        .map(|value| value.text().into_owned())
        .find(|text| !text.is_empty())
}

fn number(attributes: &Attributes<'_>, fact: Fact) -> Option<f64> {
    let names = ATTRIBUTES.iter().filter(|(known, _)| *known == fact);
    names
        .filter_map(|(_, name)| attributes.get(name)?.as_number())
        .find(|number| *number >= 0.0 && number.is_finite())
}

/// The operation that attributes name; `None` where it is no call.
fn operation(attributes: &Attributes<'_>) -> Option<&'static str> {
    let named = text(attributes, Fact::Operation).map(|name| name.to_lowercase());
    if let Some(name) = &named {
        return OPERATIONS
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, operation)| *operation);
    }
    let store = text(attributes, Fact::Store)?.to_lowercase();
    let does = text(attributes, Fact::StoreOperation)?.to_lowercase();
    (STORES.contains(&store.as_str()) && LOOKUPS.iter().any(|part| does.contains(part)))
        .then_some("retrieval")
}

/// The names of a call.
fn call(
    source: Source,
    application: &str,
    operation: &'static str,
    attributes: &Attributes<'_>,
) -> Call {
    let name = |fact| text(attributes, fact).unwrap_or_default();
    let provider = name(if operation == "retrieval" {
        Fact::Store
    } else {
        Fact::Provider
    })
    .to_lowercase();
    let provider = PROVIDERS
        .iter()
        .find(|(other, _)| *other == provider)
        .map_or(provider, |(_, usual)| (*usual).to_owned());
    let provider = if provider.is_empty() {
        name(Fact::Provider).to_lowercase()
    } else {
        provider
    };
    let model = name(Fact::Model);
    let model = model
        .strip_prefix("models/")
        .map_or(model.clone(), str::to_owned);
    Call {
        application: application.to_owned(),
        provider,
        model,
        agent: name(Fact::Agent),
        tool: name(Fact::Tool),
        ..Call::of(source, operation)
    }
}

/// What a span says of a call; `None` where it is none.
pub fn of_span(application: &str, span: &Span<'_>) -> Option<(Call, Measured)> {
    let operation = operation(&span.attributes)?;
    let seconds =
        |end: u64| (end >= span.start && span.start > 0).then(|| (end - span.start) as f64 / 1e9);
    let first = || {
        let event = span
            .events
            .iter()
            .find(|event| FIRST_TOKEN_EVENTS.contains(&event.name))?;
        seconds(event.at)
    };
    let error = text(&span.attributes, Fact::Error);
    let measured = Measured {
        duration: seconds(span.end),
        first_token: number(&span.attributes, Fact::FirstToken).or_else(first),
        tokens: if USES_TOKENS.contains(&operation) {
            tokens(&span.attributes)
        } else {
            Tokens::default()
        },
        error: (span.is_error || error.is_some()).then(|| class_of(&error.unwrap_or_default())),
    };
    Some((
        call(Source::Spans, application, operation, &span.attributes),
        measured,
    ))
}

fn tokens(attributes: &Attributes<'_>) -> Tokens {
    let count = |fact| number(attributes, fact).unwrap_or(0.0) as u64;
    let (input, read, write) = (
        count(Fact::Input),
        count(Fact::CacheRead),
        count(Fact::CacheWrite),
    );
    // Anthropic counts what caches hold beside the input, and some libraries pass that on.
    let input = if read.saturating_add(write) > input {
        input.saturating_add(read).saturating_add(write)
    } else {
        input
    };
    Tokens([
        input,
        count(Fact::Output),
        read,
        write,
        count(Fact::Reasoning),
    ])
}

/// What a metric says of calls, and the operation where it names none.
pub fn role_of(metric: &str) -> Option<(Role, &'static str)> {
    METRICS
        .iter()
        .find(|(name, _, _)| *name == metric)
        .map(|(_, role, operation)| (*role, *operation))
}

/// What a point of such a metric adds.
pub enum Added {
    /// Observations, in seconds.
    Observed(Grown),
    /// Tokens.
    Tokens(Tokens),
    /// Failed calls of a class.
    Failed(&'static str, u64),
}

/// What is new in a point, by the role of its metric. `unit` is that of the metric.
pub fn of_point(
    application: &str,
    (role, default): (Role, &'static str),
    attributes: &Attributes<'_>,
    growth: &Growth,
    unit: &str,
) -> Option<(Call, Vec<Added>)> {
    let operation = operation(attributes).unwrap_or(default);
    let error = text(attributes, Fact::Error);
    let mut added = Vec::new();
    match role {
        Role::Duration | Role::FirstToken | Role::Gap => {
            let mut grown = histogram(growth)?;
            let scale = if unit == "ms" { 1e-3 } else { 1.0 };
            grown.bounds.iter_mut().for_each(|bound| *bound *= scale);
            grown.sum *= scale;
            let calls = grown.counts.iter().sum::<u64>();
            if let (Role::Duration, Some(error)) = (role, &error) {
                added.push(Added::Failed(class_of(error), calls));
            }
            added.push(Added::Observed(grown));
        }
        Role::Tokens => {
            let count = histogram(growth)
                .map(|grown| grown.sum)
                .or_else(|| counter(growth))?
                .max(0.0) as u64;
            let mut tokens = Tokens::default();
            let kind = text(attributes, Fact::TokenType)?;
            let place = ["input", "output"]
                .iter()
                .position(|known| *known == kind)
                .or_else(|| {
                    [("prompt", 0), ("completion", 1)]
                        .iter()
                        .find(|(known, _)| *known == kind)
                        .map(|(_, place)| *place)
                })?;
            tokens.0[place] = count;
            added.push(Added::Tokens(tokens));
        }
        Role::Errors => {
            let count = counter(growth)?.max(0.0) as u64;
            added.push(Added::Failed(class_of(&error.unwrap_or_default()), count));
        }
    }
    Some((
        call(Source::Metrics, application, operation, attributes),
        added,
    ))
}

fn histogram(growth: &Growth) -> Option<Grown> {
    match growth {
        Growth::Nothing => None,
        Growth::Whole(worth) => worth.grown_since(None),
        Growth::From(earlier, worth) => worth.grown_since(Some(earlier)),
    }
}

fn counter(growth: &Growth) -> Option<f64> {
    match growth {
        Growth::Whole(Worth::Number(value)) => Some(*value),
        Growth::From(Worth::Number(earlier), Worth::Number(value)) => Some(if value < earlier {
            *value
        } else {
            value - earlier
        }),
        _ => None,
    }
}

/// The spans that were counted lately, and those that calls were counted in.
#[derive(Debug, Default)]
pub struct Seen {
    hasher: ahash::RandomState,
    counted: Recent,
    around: Recent,
}

/// Numbers that came lately.
#[derive(Debug, Default)]
struct Recent {
    order: VecDeque<u64>,
    all: HashSet<u64>,
}

impl Recent {
    fn add(&mut self, number: u64) -> bool {
        if !self.all.insert(number) {
            return false;
        }
        self.order.push_back(number);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
        true
    }
}

impl Seen {
    /// Notes a span with the operation that it is, if any. Whether its call counts: it was not
    /// counted before, and the same call was not counted in a span within it, which ends first.
    pub fn counts(&mut self, span: &Span<'_>, operation: Option<&'static str>) -> bool {
        let (Some(trace), Some(id)) = (span.trace, span.id) else {
            return true;
        };
        let of = |id: [u8; 8]| self.hasher.hash_one((trace, id));
        let (own, parent) = (of(id), span.parent.map(of));
        let is_around = self.around.all.contains(&own);
        let uses_tokens = operation.is_some_and(|operation| USES_TOKENS.contains(&operation));
        if (uses_tokens || is_around)
            && let Some(parent) = parent
        {
            self.around.add(parent);
        }
        operation.is_some() && self.counted.add(own) && !(uses_tokens && is_around)
    }
}
