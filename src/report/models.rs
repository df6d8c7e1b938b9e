//! What language models did in a period and what they cost, by application and by model: the part
//! of the period's report for calls that `gen_ai_*` counts.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::Request;
use super::document::{Block, Chart, Section, table};
use super::hours::{Ask, Percentile, Series, Span, percentile};
use super::quantities::{self as q, Quantity};
use super::words::{number, percent, rounded, seconds};
use crate::model::{Labels, Language};

/// What is added up of one application, or of one model.
#[derive(Default)]
struct Sums {
    calls: f64,
    errors: f64,
    seconds: f64,
    timed: f64,
    /// By type: input, output, `cache_read`, …
    tokens: BTreeMap<String, f64>,
    /// By currency.
    cost: BTreeMap<String, f64>,
    /// Cumulative counts by upper bound as it is written.
    buckets: BTreeMap<String, f64>,
}

impl Sums {
    fn ratio(&self) -> Option<f64> {
        (self.calls > 0.0).then(|| self.errors / self.calls)
    }

    fn mean(&self) -> Option<f64> {
        (self.timed > 0.0).then(|| self.seconds / self.timed)
    }

    fn tail(&self) -> Option<Percentile> {
        let bound = |le: &str| match le {
            "+Inf" => Some(f64::INFINITY),
            le => le.parse().ok(),
        };
        let found = self.buckets.iter();
        let found = found.filter_map(|(le, count)| Some((bound(le)?, *count)));
        percentile(0.95, &found.collect::<Vec<_>>())
    }

    fn of_type(&self, kind: &str) -> f64 {
        self.tokens.get(kind).copied().unwrap_or(0.0)
    }

    /// Money, one currency after the other.
    fn money(&self) -> String {
        let all: Vec<String> = self
            .cost
            .iter()
            .filter(|(_, cost)| **cost > 0.0)
            .map(|(currency, cost)| format!("{} {currency}", money(*cost)))
            .collect();
        if all.is_empty() {
            "–".to_owned()
        } else {
            all.join(", ")
        }
    }
}

/// Two digits, or more where that would be nothing.
fn money(cost: f64) -> String {
    if cost < 0.1 {
        format!("{cost:.4}")
    } else if cost < 1000.0 {
        format!("{cost:.2}")
    } else {
        number(cost.round())
    }
}

/// Everything, by application, and by provider and model.
#[derive(Default)]
struct Period {
    all: Sums,
    applications: BTreeMap<Labels, Sums>,
    models: BTreeMap<Labels, Sums>,
}

impl Period {
    /// Adds up the hours of a span.
    fn of(request: &Request, ask: Ask<'_>, span: Span) -> Result<Self, String> {
        let mut period = Period::default();
        period.add(request, ask(&q::LLM_CALLS, span)?, |sums, _, n| {
            sums.calls += n;
            sums.timed += n;
        });
        period.add(request, ask(&q::LLM_ERRORS, span)?, |sums, _, n| {
            sums.errors += n;
        });
        period.add(request, ask(&q::LLM_SECONDS, span)?, |sums, _, n| {
            sums.seconds += n;
        });
        let by = |labels: &Labels, name: &str| labels.value(name).to_owned();
        period.add(request, ask(&q::LLM_TOKENS, span)?, |sums, labels, n| {
            *sums.tokens.entry(by(labels, "type")).or_default() += n;
        });
        period.add(request, ask(&q::LLM_COST, span)?, |sums, labels, n| {
            *sums.cost.entry(by(labels, "currency")).or_default() += n;
        });
        period.add(request, ask(&q::LLM_BUCKETS, span)?, |sums, labels, n| {
            *sums.buckets.entry(by(labels, "le")).or_default() += n;
        });
        Ok(period)
    }

    fn add(
        &mut self,
        request: &Request,
        series: Vec<Series>,
        mut take: impl FnMut(&mut Sums, &Labels, f64),
    ) {
        for one in series.iter().filter(|one| is_meant(request, one)) {
            let Some(sum) = one.sum() else { continue };
            let application = only(&one.labels, &["application"]);
            let model = only(&one.labels, &["provider", "model"]);
            take(&mut self.all, &one.labels, sum);
            let sums = self.applications.entry(application).or_default();
            take(sums, &one.labels, sum);
            take(self.models.entry(model).or_default(), &one.labels, sum);
        }
    }
}

fn only(labels: &Labels, names: &[&str]) -> Labels {
    labels.filtered(|name| names.contains(&name))
}

/// With a job, calls of the application or job of that name.
fn is_meant(request: &Request, series: &Series) -> bool {
    request.job.as_ref().is_none_or(|job| {
        ["application", "job"]
            .iter()
            .any(|name| series.labels.value(name) == job)
    })
}

/// The section, where models were called, and its figures for programs. `before` says whether the
/// period before is recorded well enough to stand beside.
///
/// # Errors
///
/// A question has no answer.
pub fn models(
    request: &Request,
    ask: Ask<'_>,
    span: Span,
    before: bool,
) -> Result<(Option<Section>, Vec<Json>), String> {
    let now = Period::of(request, ask, span)?;
    if now.all.calls <= 0.0 && now.all.tokens.is_empty() {
        return Ok((None, Vec::new()));
    }
    let before = if before {
        Some(Period::of(request, ask, span.before())?)
    } else {
        None
    };
    let pick = |en, zh| request.language.pick(en, zh);
    let mut figures = figures(
        &Labels::empty(),
        &now.all,
        before.as_ref().map(|before| &before.all),
    );
    let mut blocks = vec![Block::Text(words(
        request.language,
        &now.all,
        before.as_ref().map(|before| &before.all),
    ))];
    let unpriced: f64 = ask(&q::LLM_UNPRICED, span)?
        .iter()
        .filter_map(Series::sum)
        .sum();
    if unpriced > 0.0 {
        blocks.push(Block::Text(match request.language {
            Language::En => format!(
                "{} tokens of models without a price are not in the cost.",
                number(unpriced.round())
            ),
            Language::Zh => format!(
                "{} 个令牌的模型没有价格，不计入费用。",
                number(unpriced.round())
            ),
        }));
    }
    type Groups = fn(&Period) -> &BTreeMap<Labels, Sums>;
    let groups: [(&str, Groups); 2] = [
        (pick("Application", "应用"), |period| &period.applications),
        (pick("Model", "模型"), |period| &period.models),
    ];
    for (name, of) in groups {
        let mut rows: Vec<(&Labels, &Sums, Option<&Sums>)> = of(&now)
            .iter()
            .map(|(labels, sums)| {
                let earlier = before.as_ref().and_then(|before| of(before).get(labels));
                (labels, sums, earlier)
            })
            .collect();
        rows.sort_by(|a, b| b.1.calls.total_cmp(&a.1.calls));
        for (labels, sums, earlier) in &rows {
            figures.extend(self::figures(labels, sums, *earlier));
        }
        let head = [
            name,
            pick("Calls", "调用次数"),
            pick("Before", "上期"),
            pick("Failed", "失败"),
            pick("Tokens in", "输入令牌"),
            pick("From the cache", "其中缓存"),
            pick("Tokens out", "输出令牌"),
            pick("Cost", "费用"),
            pick("Mean", "平均耗时"),
            "P95",
        ];
        let rows = rows.into_iter().map(|(labels, sums, earlier)| {
            let words = ["application", "provider", "model"].map(|name| labels.value(name));
            let name = words.join(" ").trim().to_owned();
            vec![
                if name.is_empty() {
                    "–".to_owned()
                } else {
                    name
                },
                number(sums.calls.round()),
                earlier.map_or("–".to_owned(), |sums| number(sums.calls.round())),
                sums.ratio().map_or("–".to_owned(), percent),
                number(sums.of_type("input").round()),
                number(sums.of_type("cache_read").round()),
                number(sums.of_type("output").round()),
                sums.money(),
                sums.mean().map_or("–".to_owned(), seconds),
                match sums.tail() {
                    None => "–".to_owned(),
                    Some(Percentile::At(value)) => seconds(value),
                    Some(Percentile::Beyond(bound)) => format!("> {}", seconds(bound)),
                },
            ]
        });
        blocks.push(table(&head, rows.collect(), request.language));
    }
    blocks.extend(hourly(request, ask, span, &q::LLM_TOKENS)?.map(|series| {
        let title = pick("tokens an hour, in and out", "每小时令牌数（输入与输出）");
        Block::Chart(Chart::of(title.to_owned(), span, &series, 1.0))
    }));
    let heading = pick("Language models", "大语言模型").to_owned();
    Ok((Some(Section { heading, blocks }), figures))
}

/// The whole in a sentence.
fn words(language: Language, now: &Sums, before: Option<&Sums>) -> String {
    let calls = number(now.calls.round());
    let failed = now.ratio().map_or("–".to_owned(), percent);
    let (input, output) = (
        number(now.of_type("input").round()),
        number(now.of_type("output").round()),
    );
    let cost = now.money();
    let earlier = before.map(|before| (number(before.calls.round()), before.money()));
    match (language, earlier) {
        (Language::En, None) => format!(
            "{calls} calls, {failed} of them failed; {input} tokens in, {output} out; cost {cost}."
        ),
        (Language::En, Some((calls_before, cost_before))) => format!(
            "{calls} calls ({calls_before} before), {failed} of them failed; {input} tokens in, {output} out; cost {cost} ({cost_before} before)."
        ),
        (Language::Zh, None) => format!(
            "共调用 {calls} 次，失败 {failed}；输入 {input} 个令牌，输出 {output} 个；费用 {cost}。"
        ),
        (Language::Zh, Some((calls_before, cost_before))) => format!(
            "共调用 {calls} 次（上期 {calls_before} 次），失败 {failed}；输入 {input} 个令牌，输出 {output} 个；费用 {cost}（上期 {cost_before}）。"
        ),
    }
}

/// The figures for programs; those of everything have no labels.
fn figures(labels: &Labels, now: &Sums, before: Option<&Sums>) -> Vec<Json> {
    let mut found = Vec::new();
    let mut add = |name: &str, more: Option<(&str, &str)>, now: Json, before: Json| {
        let mut labels: BTreeMap<&str, &str> = labels.iter().collect();
        labels.extend(more);
        found.push(json!({ "name": name, "labels": labels, "value": now, "previous": before }));
    };
    let value = |value: Option<f64>| value.map_or(Json::Null, |value| json!(rounded(value)));
    let tail = |tail: Option<Percentile>| match tail {
        None => Json::Null,
        Some(Percentile::At(value)) => json!(rounded(value)),
        Some(Percentile::Beyond(bound)) => json!({ "beyond": bound }),
    };
    type Of = fn(&Sums) -> Option<f64>;
    let plain: [(&str, Of); 3] = [
        ("llm_calls", |sums| Some(sums.calls)),
        ("llm_error_ratio", Sums::ratio),
        ("llm_mean_seconds", Sums::mean),
    ];
    for (name, of) in plain {
        add(name, None, value(of(now)), value(before.and_then(of)));
    }
    add(
        "llm_p95_seconds",
        None,
        tail(now.tail()),
        tail(before.and_then(Sums::tail)),
    );
    for (kind, tokens) in &now.tokens {
        let earlier = before.map(|before| before.of_type(kind));
        let more = Some(("type", kind.as_str()));
        add("llm_tokens", more, value(Some(*tokens)), value(earlier));
    }
    for (currency, cost) in &now.cost {
        let earlier = before.map(|before| before.cost.get(currency).copied().unwrap_or(0.0));
        let more = Some(("currency", currency.as_str()));
        add("llm_cost", more, value(Some(*cost)), value(earlier));
    }
    found
}

/// Input and output of every model together, hour by hour.
fn hourly(
    request: &Request,
    ask: Ask<'_>,
    span: Span,
    quantity: &Quantity,
) -> Result<Option<Series>, String> {
    let mut hours = vec![f64::NAN; span.hours];
    for one in ask(quantity, span)?
        .iter()
        .filter(|one| is_meant(request, one))
        .filter(|one| ["input", "output"].contains(&one.labels.value("type")))
    {
        for (sum, value) in hours.iter_mut().zip(&one.hours) {
            if value.is_finite() {
                *sum = if sum.is_finite() {
                    *sum + value
                } else {
                    *value
                };
            }
        }
    }
    let is_known = hours.iter().any(|value| value.is_finite());
    Ok(is_known.then(|| Series {
        labels: Labels::empty(),
        hours,
    }))
}
