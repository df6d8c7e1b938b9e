//! The report of errors: how many, of which types, at which hours, and the slowest requests.

use std::collections::BTreeMap;

use serde_json::json;

use super::Request;
use super::advice::{Advice, Point};
use super::document::{Block, Chart, Document, Section, table};
use super::hours::{Ask, HOUR, Series, Span};
use super::period::recorded;
use super::quantities::{self as q, Quantity};
use super::words::{number, percent, rounded, seconds};
use crate::model::Language;
use crate::model::{Labels, Timestamp};

/// Types that are listed of a log.
const TOP: usize = 20;

/// Makes the report.
///
/// # Errors
///
/// A question has no answer.
pub fn errors(request: &Request, ask: Ask<'_>) -> Result<Document, String> {
    let (span, language) = (request.span(), request.language);
    let pick = |en: &'static str, zh: &'static str| language.pick(en, zh);
    let of_job = |quantity: &Quantity, span: Span| -> Result<Vec<Series>, String> {
        let mut found = ask(quantity, span)?;
        found.retain(|one| {
            request.job.as_ref().is_none_or(|job| {
                one.labels.value("job") == job || one.labels.value("instance") == job
            })
        });
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(found)
    };
    let recorded = recorded(ask, span)?;
    let mut advice = Advice::new(language);
    advice.note(Point::DataMissing, recorded < 0.9, || {
        percent(1.0 - recorded)
    });
    let (lines, lines_before) = (
        of_job(&q::LOG_LINES, span)?,
        of_job(&q::LOG_LINES, span.before())?,
    );
    let (types, requests) = (
        of_job(&q::LOG_TYPES, span)?,
        of_job(&q::LOG_REQUESTS, span)?,
    );
    let (slow, sums, counts) = (
        of_job(&q::LOG_SLOW, span)?,
        of_job(&q::LOG_SECONDS, span)?,
        of_job(&q::LOG_COUNT, span)?,
    );
    let mut figures = Vec::new();
    let data = match language {
        Language::En => format!(
            "{} of the period is recorded. Lines are counted, not messages.",
            percent(recorded)
        ),
        Language::Zh => format!("本期 {} 的时间有数据。按日志行统计。", percent(recorded)),
    };
    let mut sections = vec![Section {
        heading: pick("Data", "数据完整性").to_owned(),
        blocks: vec![Block::Text(data)],
    }];
    for (target, hours) in wrong(&lines) {
        let total: f64 = hours.iter().filter(|value| value.is_finite()).sum();
        let before = wrong(&lines_before)
            .get(&target)
            .map(|hours| hours.iter().filter(|value| value.is_finite()).sum::<f64>());
        let asked = requests
            .iter()
            .find(|one| one.labels == target)
            .and_then(Series::sum);
        let share = asked
            .filter(|asked| *asked > 0.0)
            .map(|asked| total / asked);
        let above = slow
            .iter()
            .find(|one| one.labels == target)
            .and_then(Series::sum);
        let name = format!("{} {}", target.value("job"), target.value("instance"));
        let labels: BTreeMap<&str, &str> = target.iter().collect();
        figures.push(json!({ "name": "errors", "labels": labels, "value": rounded(total), "previous": before.map(rounded) }));
        figures.push(json!({ "name": "errors_per_request", "labels": labels, "value": share.map(rounded), "previous": null }));
        figures.push(json!({ "name": "slow_requests", "labels": labels, "value": above.map(rounded), "previous": null }));
        advice.note(
            Point::LogErrorRate,
            share.is_some_and(|share| share > 0.05),
            || format!("{name}: {}", share.map_or_else(String::new, percent)),
        );
        advice.note(
            Point::SlowRequests,
            above.is_some_and(|above| above >= 0.5),
            || format!("{name}: {}", number(above.unwrap_or(0.0).round())),
        );
        let written =
            |value: Option<f64>| value.map_or("–".to_owned(), |value| number(value.round()));
        let mut rows = vec![
            vec![
                pick("Error lines", "错误日志").to_owned(),
                number(total.round()),
                written(before),
            ],
            vec![
                pick("Requests", "请求数").to_owned(),
                written(asked),
                String::new(),
            ],
            vec![
                pick("Errors to a request", "错误率").to_owned(),
                share.map_or("–".to_owned(), percent),
                String::new(),
            ],
            vec![
                pick("Slow requests", "慢请求").to_owned(),
                written(above),
                String::new(),
            ],
        ];
        for sum in sums.iter().filter(|one| same_target(&one.labels, &target)) {
            let count = counts
                .iter()
                .find(|one| one.labels == sum.labels)
                .and_then(Series::sum)
                .filter(|count| *count > 0.0);
            let mean = sum.sum().zip(count).map(|(sum, count)| sum / count);
            let text = format!("{} {}", pick("Mean of", "平均"), sum.labels.value("field"));
            rows.push(vec![
                text,
                mean.map_or("–".to_owned(), seconds),
                String::new(),
            ]);
        }
        let mut blocks = vec![table(
            &[
                pick("Figure", "指标"),
                pick("This period", "本期"),
                pick("Before", "上期"),
            ],
            rows,
            language,
        )];
        blocks.extend(top_types(
            &types,
            &target,
            total,
            language,
            &mut advice,
            &mut figures,
        ));
        blocks.push(by_hour(&hours, span, request));
        let curve = Series {
            labels: target.clone(),
            hours,
        };
        blocks.push(Block::Chart(Chart::of(
            format!("{name}: {}", pick("errors an hour", "每小时错误")),
            span,
            &curve,
            1.0,
        )));
        sections.push(Section {
            heading: format!("{} {name}", pick("Log", "日志")),
            blocks,
        });
    }
    if sections.len() == 1 {
        let text = pick(
            "No log is counted: add collectors.log_file.",
            "没有统计日志：添加 collectors.log_file。",
        )
        .to_owned();
        sections.push(Section {
            heading: pick("Log", "日志").to_owned(),
            blocks: vec![Block::Text(text)],
        });
    }
    sections.push(answers(request, &of_job, span)?);
    let slowest: Vec<Vec<String>> = request
        .slowest
        .iter()
        .map(|(target, line)| vec![target.clone(), line.clone()])
        .collect();
    if !slowest.is_empty() {
        let heading = pick("Slowest requests lately", "最近最慢的请求").to_owned();
        sections.push(Section {
            heading,
            blocks: vec![table(
                &[pick("Log", "日志"), pick("Line", "内容")],
                slowest,
                language,
            )],
        });
    }
    sections.push(advice.section());
    Ok(Document {
        zone: request.zone.clone(),
        title: request.title(pick("Error analysis", "错误分析报告")),
        language,
        preface: request.preface(span, Some(span.before())),
        sections,
        json: json!({
            "kind": "errors", "from": span.from.rfc3339(), "to": span.to().rfc3339(), "recorded": rounded(recorded), "figures": figures,
            "advice": advice.json(),
        }),
    })
}

fn same_target(a: &Labels, b: &Labels) -> bool {
    ["job", "instance"]
        .iter()
        .all(|name| a.value(name) == b.value(name))
}

/// The lines of levels error and critical of each log, hour by hour.
fn wrong(lines: &[Series]) -> BTreeMap<Labels, Vec<f64>> {
    let mut found: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
    for one in lines {
        let target = one.labels.with("level", "");
        let counts = matches!(one.labels.value("level"), "error" | "critical");
        let sum = found
            .entry(target)
            .or_insert_with(|| vec![f64::NAN; one.hours.len()]);
        for (sum, value) in sum
            .iter_mut()
            .zip(&one.hours)
            .filter(|(_, value)| value.is_finite())
        {
            // An hour in which only other lines were counted is an hour without errors.
            let before = if sum.is_finite() { *sum } else { 0.0 };
            *sum = before + if counts { *value } else { 0.0 };
        }
    }
    found
}

fn top_types(
    types: &[Series],
    target: &Labels,
    total: f64,
    language: Language,
    advice: &mut Advice,
    figures: &mut Vec<serde_json::Value>,
) -> Option<Block> {
    let mine = types.iter().filter(|one| same_target(&one.labels, target));
    let mut found: Vec<(f64, &str)> = mine
        .filter_map(|one| Some((one.sum()?, one.labels.value("type"))))
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let (most, kind) = *found.first()?;
    for (count, kind) in &found {
        let labels = json!({ "job": target.value("job"), "instance": target.value("instance"), "type": kind });
        figures.push(json!({ "name": "errors_by_type", "labels": labels, "value": rounded(*count), "previous": null }));
    }
    advice.note(
        Point::OneError,
        found.len() > 1 && total >= 10.0 && most > total / 2.0,
        || format!("{}: {kind}", target.value("instance")),
    );
    let share = |count: f64| {
        if total > 0.0 {
            percent(count / total)
        } else {
            "–".to_owned()
        }
    };
    let rows = found
        .iter()
        .take(TOP)
        .map(|(count, kind)| vec![(*kind).to_owned(), number(count.round()), share(*count)]);
    let head = [
        language.pick("Type of error", "错误类型"),
        language.pick("Lines", "行数"),
        language.pick("Share", "占比"),
    ];
    Some(table(&head, rows.collect(), language))
}

/// How many errors fell into each hour of the day.
fn by_hour(hours: &[f64], span: Span, request: &Request) -> Block {
    let mut sums = [0.0; 24];
    for (hour, value) in hours
        .iter()
        .enumerate()
        .filter(|(_, value)| value.is_finite())
    {
        let begin = Timestamp(span.from.0 + hour as i64 * HOUR);
        let of_day = super::local(begin, &request.zone).map_or(0, |time| time.hour());
        sums[usize::try_from(of_day).unwrap_or(0)] += value;
    }
    let most = sums.iter().copied().fold(0.0, f64::max);
    let bar = |sum: f64| {
        if most > 0.0 {
            "█".repeat((sum / most * 20.0).round() as usize)
        } else {
            String::new()
        }
    };
    let rows = sums
        .iter()
        .enumerate()
        .map(|(hour, sum)| vec![format!("{hour:02}:00"), number(sum.round()), bar(*sum)]);
    let language = request.language;
    table(
        &[
            language.pick("Hour", "小时"),
            language.pick("Errors", "错误数"),
            "",
        ],
        rows.collect(),
        language,
    )
}

/// The answers with 4xx and 5xx, where an application or an access log counts them.
fn answers(request: &Request, of_job: Ask<'_>, span: Span) -> Result<Section, String> {
    let language = request.language;
    let (all, client, server) = (
        of_job(&q::REQUESTS, span)?,
        of_job(&q::CLIENT_ERRORS, span)?,
        of_job(&q::SERVER_ERRORS, span)?,
    );
    let heading = language.pick("HTTP answers", "HTTP 应答").to_owned();
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|one| {
            let total = one.sum().unwrap_or(0.0);
            let part = |list: &[Series]| {
                list.iter()
                    .find(|other| other.labels == one.labels)
                    .and_then(Series::sum)
                    .unwrap_or(0.0)
            };
            let written = |part: f64| {
                if total > 0.0 {
                    format!("{} ({})", number(part.round()), percent(part / total))
                } else {
                    "–".to_owned()
                }
            };
            let name = format!(
                "{} {}",
                one.labels.value("job"),
                one.labels.value("instance")
            );
            vec![
                name,
                number(total.round()),
                written(part(&client)),
                written(part(&server)),
            ]
        })
        .collect();
    if rows.is_empty() {
        let text = language
            .pick("No requests were counted.", "没有请求统计。")
            .to_owned();
        return Ok(Section {
            heading,
            blocks: vec![Block::Text(text)],
        });
    }
    let head = [
        language.pick("Application", "应用"),
        language.pick("Requests", "请求数"),
        "4xx",
        "5xx",
    ];
    Ok(Section {
        heading,
        blocks: vec![table(&head, rows, language)],
    })
}
