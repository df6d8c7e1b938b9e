//! The report of the capacity: the trend of each disk, memory, CPU, pool and budget, the forecast
//! for seven days, and the day on which each reaches its limit; or why there is no forecast.

use serde_json::{Value as Json, json};

use super::Request;
use super::advice::{Advice, Point};
use super::document::{Block, Chart, Document, Section, table};
use super::hours::{Ask, HOUR, Series};
use super::period::recorded;
use super::quantities::{self as q, Quantity};
use super::trend::{Line, MIN_FIT, MIN_HOURS, Outlook, outlook};
use super::words::{number, percent, rounded};
use crate::model::Language;
use crate::model::Timestamp;

const DAY: i64 = 24 * HOUR;
/// Days that a value is forecast for.
const FORECAST: f64 = 7.0;
/// From where on a forecast is advised against.
const HIGH: f64 = 0.8;
/// A limit within so many days is near.
const NEAR: usize = 30;

/// What has a limit.
struct Resource {
    quantity: &'static Quantity,
    name: &'static str,
    en: &'static str,
    zh: &'static str,
    /// Whether it falls to nothing rather than rising to the whole.
    is_budget: bool,
}

const RESOURCES: [Resource; 6] = [
    Resource {
        quantity: &q::DISK,
        name: "disk",
        en: "Disk",
        zh: "磁盘",
        is_budget: false,
    },
    Resource {
        quantity: &q::MEMORY,
        name: "memory",
        en: "Memory",
        zh: "内存",
        is_budget: false,
    },
    Resource {
        quantity: &q::CPU,
        name: "cpu",
        en: "CPU",
        zh: "CPU",
        is_budget: false,
    },
    Resource {
        quantity: &q::POOL,
        name: "pool",
        en: "Connections",
        zh: "数据库连接",
        is_budget: false,
    },
    Resource {
        quantity: &q::REDIS_MEMORY,
        name: "redis_memory",
        en: "Redis memory",
        zh: "Redis 内存",
        is_budget: false,
    },
    Resource {
        quantity: &q::BALANCE,
        name: "balance",
        en: "Balance",
        zh: "账户余额",
        is_budget: true,
    },
];

/// Makes the report.
///
/// # Errors
///
/// A question has no answer.
pub fn capacity(request: &Request, ask: Ask<'_>) -> Result<Document, String> {
    let (span, language) = (request.span(), request.language);
    let recorded = recorded(ask, span)?;
    let mut advice = Advice::new(language);
    advice.note(Point::DataMissing, recorded < 0.9, || {
        percent(1.0 - recorded)
    });
    let (mut rows, mut charts, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    for resource in &RESOURCES {
        let mut found = ask(resource.quantity, span)?;
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        for series in &found {
            let days = daily_means(series);
            let Some((last_day, last)) = days.last().copied() else {
                continue;
            };
            let name = [
                series.labels.value("instance"),
                series.labels.value("mountpoint"),
                series.labels.value("currency"),
            ];
            let name = name
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" ");
            let scale = if resource.is_budget {
                days.first()
                    .map_or(1.0, |(_, first)| *first)
                    .abs()
                    .max(f64::MIN_POSITIVE)
            } else {
                1.0
            };
            let outlook = outlook(&days, scale);
            let shown = Shown {
                resource,
                language,
                outlook,
                from: span.from,
                last_day,
                zone: &request.zone,
            };
            rows.push(vec![
                language.pick(resource.en, resource.zh).to_owned(),
                name.clone(),
                shown.value(last),
                shown.trend(),
                shown.fit(),
                shown.week(),
                shown.limit(),
            ]);
            let labels: std::collections::BTreeMap<&str, &str> = series.labels.iter().collect();
            figures.push(json!({ "name": resource.name, "labels": labels, "value": rounded(last), "outlook": shown.json() }));
            if let Outlook::Trend(line) = outlook {
                let what = format!("{} {name}", language.pick(resource.en, resource.zh));
                let week = line.at(last_day + FORECAST);
                advice.note(
                    Point::ForecastHigh,
                    !resource.is_budget && week > HIGH,
                    || format!("{what}: {}", shown.week()),
                );
                let (limit, rising) = shown.goal();
                advice.note(
                    Point::LimitNear,
                    line.reaches(limit, rising, 0.0)
                        .is_some_and(|day| day <= NEAR),
                    || format!("{what}: {}", shown.limit()),
                );
            }
            let (title, factor) = match resource.is_budget {
                true => (
                    format!("{} {name}", language.pick(resource.en, resource.zh)),
                    1.0,
                ),
                false => (
                    format!("{} {name}, %", language.pick(resource.en, resource.zh)),
                    100.0,
                ),
            };
            charts.push(Block::Chart(Chart {
                threshold: (!resource.is_budget).then_some(HIGH * 100.0),
                ..Chart::of(title, span, series, factor)
            }));
        }
    }
    let pick = |en: &'static str, zh: &'static str| language.pick(en, zh);
    let head = [
        pick("What", "资源"),
        pick("Which", "对象"),
        pick("Last day", "最近一天"),
        pick("A week", "每周变化"),
        "R²",
        pick("In 7 days (95 %)", "7 天后（95%）"),
        pick("Reaches its limit", "达到上限"),
    ];
    let explanation = match language {
        Language::En => format!(
            "Straight lines through daily means of the last {} days; R² is the share of the variation that a line explains. Intervals hold with \
             95 % confidence, if things go on as they did. There is no forecast from less than 7 days, or with R² below {MIN_FIT}.",
            span.hours / 24
        ),
        Language::Zh => format!(
            "对最近 {} 天的日均值做线性拟合；R² 为拟合优度，区间置信度 95%，前提是趋势保持不变。数据不足 7 天或 R² 低于 {MIN_FIT} 时不做预测。",
            span.hours / 24
        ),
    };
    let text = match language {
        Language::En => format!("{} of the period is recorded.", percent(recorded)),
        Language::Zh => format!("本期 {} 的时间有数据。", percent(recorded)),
    };
    let nothing = rows.is_empty().then(|| {
        Block::Text(
            pick(
                "Nothing with a limit was recorded.",
                "没有记录到有上限的资源。",
            )
            .to_owned(),
        )
    });
    let rows = (!rows.is_empty()).then(|| table(&head, rows, language));
    let blocks = [Block::Text(text), Block::Text(explanation)]
        .into_iter()
        .chain(nothing)
        .chain(rows)
        .chain(charts)
        .collect();
    let sections = vec![
        Section {
            heading: pick("Trend and forecast", "趋势与预测").to_owned(),
            blocks,
        },
        advice.section(),
    ];
    Ok(Document {
        zone: request.zone.clone(),
        title: request.title(pick("Capacity report", "容量报告")),
        language,
        preface: request.preface(span, None),
        sections,
        json: json!({
            "kind": "capacity", "from": span.from.rfc3339(), "to": span.to().rfc3339(), "recorded": rounded(recorded), "figures": figures,
            "advice": advice.json(),
        }),
    })
}

/// The mean of each day that is known well enough: the middle of the day, in days from the
/// beginning, and the value.
fn daily_means(series: &Series) -> Vec<(f64, f64)> {
    // Days are counted from the end, so that the last one is whole.
    let skipped = series.hours.len() % 24;
    let days = series.hours[skipped..].chunks(24).enumerate();
    days.filter_map(|(day, hours)| {
        let known: Vec<f64> = hours
            .iter()
            .copied()
            .filter(|value| value.is_finite())
            .collect();
        let middle = day as f64 + 0.5 + skipped as f64 / 24.0;
        (known.len() >= MIN_HOURS).then(|| (middle, known.iter().sum::<f64>() / known.len() as f64))
    })
    .collect()
}

/// What is said of an outlook.
struct Shown<'a> {
    resource: &'a Resource,
    language: Language,
    outlook: Outlook,
    from: Timestamp,
    last_day: f64,
    zone: &'a jiff::tz::TimeZone,
}

impl Shown<'_> {
    fn value(&self, value: f64) -> String {
        if self.resource.is_budget {
            number(value)
        } else {
            percent(value)
        }
    }

    /// The limit, and whether it is reached from below.
    fn goal(&self) -> (f64, bool) {
        if self.resource.is_budget {
            (0.0, false)
        } else {
            (1.0, true)
        }
    }

    fn line(&self) -> Option<&Line> {
        match &self.outlook {
            Outlook::TooShort(_) => None,
            Outlook::Steady(line) | Outlook::PoorFit(line) | Outlook::Trend(line) => Some(line),
        }
    }

    fn trend(&self) -> String {
        match self.line() {
            None => "–".into(),
            Some(line) if self.resource.is_budget => format!(
                "{}{}",
                if line.slope > 0.0 { "+" } else { "" },
                number(line.slope * 7.0)
            ),
            Some(line) => format!("{:+.2} %", line.slope * 700.0),
        }
    }

    fn fit(&self) -> String {
        self.line()
            .map_or("–".into(), |line| format!("{:.2}", line.fit))
    }

    fn week(&self) -> String {
        let day = self.last_day + FORECAST;
        match &self.outlook {
            Outlook::TooShort(days) => self.language.pick(
                format!("no forecast: only {days} of 7 days"),
                format!("不预测：仅有 {days} 天数据（至少 7 天）"),
            ),
            Outlook::PoorFit(line) => self.language.pick(
                format!("no forecast: poor fit (R² {:.2})", line.fit),
                format!("不预测：拟合较差（R² {:.2}）", line.fit),
            ),
            Outlook::Steady(line) | Outlook::Trend(line) => {
                let (value, margin) = (line.at(day), line.margin(day));
                match self.resource.is_budget {
                    true => format!(
                        "{} ({} – {})",
                        number(value.max(0.0)),
                        number((value - margin).max(0.0)),
                        number((value + margin).max(0.0))
                    ),
                    false => {
                        let bounded = |share: f64| percent(share.clamp(0.0, 1.0));
                        format!(
                            "{} ({} – {})",
                            bounded(value),
                            bounded(value - margin),
                            bounded(value + margin)
                        )
                    }
                }
            }
        }
    }

    fn date(&self, ahead: usize) -> String {
        let at = self.from.0 + ((self.last_day + ahead as f64) * DAY as f64) as i64;
        super::local(Timestamp(at), self.zone)
            .map_or_else(String::new, |time| time.date().to_string())
    }

    /// The day on which the limit is reached: by the line, the earliest and the latest by its
    /// margin.
    fn days(&self) -> Option<(usize, Option<usize>, Option<usize>)> {
        let Outlook::Trend(line) = &self.outlook else {
            return None;
        };
        let (limit, rising) = self.goal();
        let sign = if rising { 1.0 } else { -1.0 };
        Some((
            line.reaches(limit, rising, 0.0)?,
            line.reaches(limit, rising, sign),
            line.reaches(limit, rising, -sign),
        ))
    }

    fn limit(&self) -> String {
        match (&self.outlook, self.days()) {
            (Outlook::TooShort(_) | Outlook::PoorFit(_), _) => "–".into(),
            (Outlook::Steady(_), _) => self.language.pick("does not change", "保持稳定").into(),
            (_, None) => self.language.pick("not within a year", "一年内不会").into(),
            (_, Some((day, earliest, latest))) => {
                let (earliest, latest) = (
                    earliest.map(|day| self.date(day)),
                    latest.map(|day| self.date(day)),
                );
                let (earliest, latest) = (
                    earliest.unwrap_or_else(|| "–".into()),
                    latest.unwrap_or_else(|| self.language.pick("later", "更晚").into()),
                );
                format!("{} ({earliest} – {latest})", self.date(day))
            }
        }
    }

    fn json(&self) -> Json {
        let day = self.last_day + FORECAST;
        let state = match &self.outlook {
            Outlook::TooShort(_) => "too_short",
            Outlook::PoorFit(_) => "poor_fit",
            Outlook::Steady(_) => "steady",
            Outlook::Trend(_) => "trend",
        };
        let line = self.line();
        let forecast = line
            .filter(|_| !matches!(self.outlook, Outlook::PoorFit(_)))
            .map(|line| json!({ "value": rounded(line.at(day)), "low": rounded(line.at(day) - line.margin(day)), "high": rounded(line.at(day) + line.margin(day)) }));
        json!({
            "state": state, "slopePerDay": line.map(|line| rounded(line.slope)), "fit": line.map(|line| rounded(line.fit)), "days": line.map(|line| line.days),
            "in7Days": forecast, "reachesLimit": self.days().map(|(day, ..)| self.date(day)),
            "earliest": self.days().and_then(|(_, day, _)| day).map(|day| self.date(day)),
            "latest": self.days().and_then(|(.., day)| day).map(|day| self.date(day)),
        })
    }
}
