//! The report of a period: what an application did and what it did it with, the period before
//! beside it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::Request;
use super::advice::{Advice, Point};
use super::document::{Block, Chart, Document, Section, table};
use super::hours::{Ask, Percentile, Series, Span, buckets, percentile};
use super::models::models;
use super::quantities::{self as q, Quantity};
use super::words::{number, percent, rounded, seconds, span};
use crate::model::Labels;
use crate::model::Language;

/// Share of a period that must be recorded for its figures to be judged, or compared with.
pub const ENOUGH: f64 = 0.5;

/// How a figure is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A time.
    Seconds,
    /// A part of one.
    Share,
    /// A number.
    Count,
}

/// A figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name for programs.
    pub name: &'static str,
    /// Its name for people.
    pub text: String,
    /// How it is written.
    pub unit: Unit,
    /// Now, and in the period before.
    pub now: Option<Percentile>,
    before: Option<Percentile>,
}

impl Figure {
    fn new(
        name: &'static str,
        text: &str,
        unit: Unit,
        now: Option<f64>,
        before: Option<f64>,
    ) -> Self {
        Figure {
            name,
            text: text.to_owned(),
            unit,
            now: now.map(Percentile::At),
            before: before.map(Percentile::At),
        }
    }

    fn written(&self, value: Option<Percentile>) -> String {
        match (value, self.unit) {
            (None, _) => "–".into(),
            (Some(Percentile::Beyond(bound)), _) => format!("> {}", seconds(bound)),
            (Some(Percentile::At(value)), Unit::Seconds) => seconds(value),
            (Some(Percentile::At(value)), Unit::Share) => percent(value),
            (Some(Percentile::At(value)), Unit::Count) => number(value),
        }
    }

    fn row(&self) -> Vec<String> {
        let change = match (self.now, self.before) {
            (Some(Percentile::At(now)), Some(Percentile::At(before))) if before != 0.0 => {
                let change = (now / before - 1.0) * 100.0;
                if change.abs() < 0.05 {
                    "0 %".to_owned()
                } else {
                    format!("{change:+.1} %")
                }
            }
            _ => "–".to_owned(),
        };
        vec![
            self.text.clone(),
            self.written(self.now),
            self.written(self.before),
            change,
        ]
    }

    fn json(&self, labels: &Labels) -> Json {
        let value = |value: Option<Percentile>| match value {
            None => Json::Null,
            Some(Percentile::At(value)) => json!(rounded(value)),
            Some(Percentile::Beyond(bound)) => json!({ "beyond": bound }),
        };
        let labels: BTreeMap<&str, &str> = labels.iter().collect();
        json!({ "name": self.name, "labels": labels, "value": value(self.now), "previous": value(self.before) })
    }
}

/// A quantity in the period and in the one before.
struct Pair {
    now: Vec<Series>,
    before: Vec<Series>,
}

fn of<'a>(series: &'a [Series], labels: &Labels) -> Option<&'a Series> {
    series.iter().find(|one| one.labels == *labels)
}

struct Reporter<'a> {
    request: &'a Request,
    span: Span,
    ask: Ask<'a>,
    /// Share of the period that was recorded, and of the one before.
    recorded: (f64, f64),
    advice: Advice,
    figures: Vec<Json>,
}

/// Makes the report.
///
/// # Errors
///
/// A question has no answer.
pub fn period(request: &Request, ask: Ask<'_>) -> Result<Document, String> {
    let span = request.span();
    let recorded = (recorded(ask, span)?, recorded(ask, span.before())?);
    let mut reporter = Reporter {
        request,
        span,
        ask,
        recorded,
        advice: Advice::new(request.language),
        figures: Vec::new(),
    };
    let mut sections = vec![reporter.data()?];
    sections.extend(reporter.applications()?);
    let (models, figures) = models(request, ask, span, recorded.1 >= ENOUGH)?;
    sections.extend(models);
    reporter.figures.extend(figures);
    sections.extend(reporter.machines()?);
    sections.extend(reporter.databases()?);
    sections.extend(reporter.alerts()?);
    sections.push(reporter.advice.section());
    let language = request.language;
    Ok(Document {
        zone: request.zone.clone(),
        title: request.title(language.pick("Performance report", "性能分析报告")),
        language,
        preface: request.preface(span, Some(span.before())),
        sections,
        json: json!({
            "kind": "period", "from": span.from.rfc3339(), "to": span.to().rfc3339(), "recorded": rounded(recorded.0), "recordedBefore": rounded(recorded.1),
            "figures": reporter.figures, "advice": reporter.advice.json(),
        }),
    })
}

/// Which share of a span nightbell recorded at all: of the target that was there most.
pub fn recorded(ask: Ask<'_>, span: Span) -> Result<f64, String> {
    let watched = ask(&q::WATCHED, span)?;
    let most = watched.iter().filter_map(Series::sum).fold(0.0, f64::max);
    Ok((most / span.hours.max(1) as f64).min(1.0))
}

impl Reporter<'_> {
    fn pick<'t>(&self, en: &'t str, zh: &'t str) -> &'t str {
        self.request.language.pick(en, zh)
    }

    /// A quantity now and before; of the job, where one is asked for.
    fn pair(&self, quantity: &Quantity, of_job: bool) -> Result<Pair, String> {
        let keep = |mut series: Vec<Series>| {
            if let (true, Some(job)) = (of_job, &self.request.job) {
                series.retain(|one| one.labels.value("job") == job);
            }
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            series
        };
        let before = if self.recorded.1 >= ENOUGH {
            (self.ask)(quantity, self.span.before())?
        } else {
            Vec::new()
        };
        Ok(Pair {
            now: keep((self.ask)(quantity, self.span)?),
            before: keep(before),
        })
    }

    fn head(&self) -> [&str; 4] {
        [
            self.pick("Figure", "指标"),
            self.pick("This period", "本期"),
            self.pick("Before", "上期"),
            self.pick("Change", "变化"),
        ]
    }

    fn figures_table(&mut self, labels: &Labels, figures: &[Figure]) -> Block {
        self.figures
            .extend(figures.iter().map(|figure| figure.json(labels)));
        let shown = figures
            .iter()
            .filter(|figure| figure.now.is_some() || figure.before.is_some());
        table(
            &self.head(),
            shown.map(Figure::row).collect(),
            self.request.language,
        )
    }

    /// How much was recorded, and which targets were away.
    fn data(&mut self) -> Result<Section, String> {
        let (watched, answered) = (
            self.pair(&q::WATCHED, false)?,
            self.pair(&q::ANSWERED, false)?,
        );
        let hours = self.span.hours as f64;
        let missing = |share: f64| span((1.0 - share) * hours * 3600.0);
        let mut blocks = vec![Block::Text(match self.request.language {
            Language::En => format!(
                "{} of the period is recorded; {} are missing and count nowhere.",
                percent(self.recorded.0),
                missing(self.recorded.0)
            ),
            Language::Zh => format!(
                "本期 {} 的时间有数据；缺失 {}，不计入任何指标。",
                percent(self.recorded.0),
                missing(self.recorded.0)
            ),
        })];
        if self.recorded.1 < ENOUGH {
            blocks.push(Block::Text(match self.request.language {
                Language::En => format!(
                    "Of the period before only {} is recorded: nothing is compared with it.",
                    percent(self.recorded.1)
                ),
                Language::Zh => format!(
                    "上期仅 {} 的时间有数据，不做对比。",
                    percent(self.recorded.1)
                ),
            }));
        }
        let mut rows = Vec::new();
        for series in watched
            .now
            .iter()
            .filter(|series| series.labels.value("job") != "nightbell")
        {
            let there = series.sum().unwrap_or(0.0);
            let answers = of(&answered.now, &series.labels)
                .and_then(Series::sum)
                .unwrap_or(0.0);
            self.figures.push(json!({
                "name": "answered_ratio", "labels": { "job": series.labels.value("job"), "instance": series.labels.value("instance") },
                "value": rounded(answers / hours), "previous": null,
            }));
            if answers < hours * 0.999 {
                let (job, instance) = (series.labels.value("job"), series.labels.value("instance"));
                let away = span((there - answers).max(0.0) * 3600.0);
                rows.push(vec![
                    job.to_owned(),
                    instance.to_owned(),
                    percent(answers / hours),
                    away,
                    span((hours - there).max(0.0) * 3600.0),
                ]);
            }
        }
        if !rows.is_empty() {
            let head = [
                self.pick("Job", "任务"),
                self.pick("Target", "目标"),
                self.pick("Measured", "有效数据"),
                self.pick("Did not answer", "无响应"),
                self.pick("Not looked at", "未采集"),
            ];
            blocks.push(table(&head, rows, self.request.language));
        }
        self.advice
            .note(Point::DataMissing, self.recorded.0 < 0.9, || {
                percent(1.0 - self.recorded.0)
            });
        Ok(Section {
            heading: self.pick("Data", "数据完整性").to_owned(),
            blocks,
        })
    }

    fn applications(&mut self) -> Result<Vec<Section>, String> {
        let requests = self.pair(&q::REQUESTS, true)?;
        let (client, server) = (
            self.pair(&q::CLIENT_ERRORS, true)?,
            self.pair(&q::SERVER_ERRORS, true)?,
        );
        let (sum, count) = (
            self.pair(&q::DURATION_SUM, true)?,
            self.pair(&q::DURATION_COUNT, true)?,
        );
        let histograms = self.pair(&q::DURATION_BUCKETS, true)?;
        let (quantiles, quantiles_before) = (buckets(&histograms.now), buckets(&histograms.before));
        let answered = self.pair(&q::ANSWERED, true)?;
        let every: BTreeSet<Labels> = [&requests, &count]
            .into_iter()
            .flat_map(|pair| pair.now.iter().chain(&pair.before))
            .map(|one| one.labels.clone())
            .collect();
        let mut sections = Vec::new();
        for labels in &every {
            let total = |pair: &Pair| {
                (
                    of(&pair.now, labels).and_then(Series::sum),
                    of(&pair.before, labels).and_then(Series::sum),
                )
            };
            let (all, bad, worse) = (total(&requests), total(&client), total(&server));
            // Rates are of the time that was measured, so that a gap makes no application slower.
            let measured = |series: &[Series], whole: f64| {
                of(series, labels)
                    .and_then(Series::sum)
                    .filter(|hours| *hours > 0.0)
                    .unwrap_or(whole)
            };
            let hours = (
                measured(&answered.now, self.span.hours as f64),
                measured(&answered.before, self.span.hours as f64),
            );
            let rate = |factor: f64| {
                (
                    all.0.map(|n| n / hours.0 * factor),
                    all.1.map(|n| n / hours.1 * factor),
                )
            };
            let share = |part: (Option<f64>, Option<f64>)| {
                let of_all = |part: Option<f64>, all: Option<f64>| {
                    all.filter(|all| *all > 0.0)
                        .map(|all| part.unwrap_or(0.0) / all)
                };
                (of_all(part.0, all.0), of_all(part.1, all.1))
            };
            let (durations, counts) = (total(&sum), total(&count));
            let mean = |sum: Option<f64>, count: Option<f64>| {
                Some(sum? / count.filter(|count| *count > 0.0)?)
            };
            let mean = (mean(durations.0, counts.0), mean(durations.1, counts.1));
            let p = |share: f64| {
                let at = |all: &BTreeMap<Labels, Vec<(f64, f64)>>| {
                    all.get(labels)
                        .and_then(|buckets| percentile(share, buckets))
                };
                (at(&quantiles), at(&quantiles_before))
            };
            let (p95, p99, each_second, each_day) =
                (p(0.95), p(0.99), rate(1.0 / 3600.0), rate(24.0));
            let figure = |name, en, zh, unit, pair: (Option<f64>, Option<f64>)| {
                Figure::new(name, self.pick(en, zh), unit, pair.0, pair.1)
            };
            let latency = |name, en, zh, pair: (Option<Percentile>, Option<Percentile>)| Figure {
                name,
                text: self.pick(en, zh).to_owned(),
                unit: Unit::Seconds,
                now: pair.0,
                before: pair.1,
            };
            let figures = [
                figure("requests", "Requests", "请求数", Unit::Count, all),
                figure(
                    "requests_per_second",
                    "Requests a second",
                    "每秒请求数",
                    Unit::Count,
                    each_second,
                ),
                figure(
                    "requests_per_day",
                    "Requests a day",
                    "每日请求数",
                    Unit::Count,
                    each_day,
                ),
                figure(
                    "response_mean_seconds",
                    "Mean response time",
                    "平均响应时间",
                    Unit::Seconds,
                    mean,
                ),
                latency(
                    "response_p95_seconds",
                    "P95 response time",
                    "P95 响应时间",
                    p95,
                ),
                latency(
                    "response_p99_seconds",
                    "P99 response time",
                    "P99 响应时间",
                    p99,
                ),
                figure("requests_4xx", "4xx answers", "4xx 错误", Unit::Count, bad),
                figure(
                    "requests_4xx_ratio",
                    "4xx share",
                    "4xx 错误率",
                    Unit::Share,
                    share(bad),
                ),
                figure(
                    "requests_5xx",
                    "5xx answers",
                    "5xx 错误",
                    Unit::Count,
                    worse,
                ),
                figure(
                    "requests_5xx_ratio",
                    "5xx share",
                    "5xx 错误率",
                    Unit::Share,
                    share(worse),
                ),
            ];
            let name = format!("{} {}", labels.value("job"), labels.value("instance"));
            let judged = self.recorded.0 >= ENOUGH;
            let (bad_share, worse_share) =
                (share(bad).0.unwrap_or(0.0), share(worse).0.unwrap_or(0.0));
            let said = |value: String| format!("{name}: {value}");
            self.advice.note(
                Point::MeanSlow,
                judged && mean.0.is_some_and(|mean| mean > 0.5),
                || said(seconds(mean.0.unwrap_or(0.0))),
            );
            let p95_text = figures[4].written(p95.0);
            let is_slow = matches!(p95.0, Some(Percentile::At(at)) if at > 2.0);
            self.advice.note(Point::TailSlow, judged && is_slow, || {
                said(p95_text.clone())
            });
            let ceiling = [p95.0, p99.0]
                .into_iter()
                .flatten()
                .any(|p| matches!(p, Percentile::Beyond(_)));
            let p99_text = figures[5].written(p99.0);
            self.advice.note(Point::BucketsEnd, ceiling, || {
                said(format!("P95 {p95_text}, P99 {p99_text}"))
            });
            self.advice
                .note(Point::ServerErrors, judged && worse_share > 0.01, || {
                    said(percent(worse_share))
                });
            self.advice.note(
                Point::AllErrors,
                judged && worse_share <= 0.01 && worse_share + bad_share > 0.01,
                || said(percent(worse_share + bad_share)),
            );
            let growth = each_day
                .0
                .zip(each_day.1)
                .filter(|(_, before)| *before > 0.0)
                .map(|(now, before)| now / before - 1.0);
            self.advice.note(
                Point::TrafficGrows,
                growth.is_some_and(|growth| growth > 0.5),
                || said(format!("+{}", percent(growth.unwrap_or(0.0)))),
            );
            let mut blocks = vec![self.figures_table(labels, &figures)];
            let title = |en: &str, zh: &str| format!("{name}: {}", self.pick(en, zh));
            blocks.extend(of(&requests.now, labels).map(|one| {
                Block::Chart(Chart::of(
                    title("requests an hour", "每小时请求数"),
                    self.span,
                    one,
                    1.0,
                ))
            }));
            if let (Some(sum), Some(count)) = (of(&sum.now, labels), of(&count.now, labels)) {
                let hours = sum
                    .hours
                    .iter()
                    .zip(&count.hours)
                    .map(|(sum, count)| if *count > 0.0 { sum / count } else { f64::NAN })
                    .collect();
                let means = Series {
                    labels: labels.clone(),
                    hours,
                };
                blocks.push(Block::Chart(Chart::of(
                    title("mean response time, s", "平均响应时间（秒）"),
                    self.span,
                    &means,
                    1.0,
                )));
            }
            blocks.extend(of(&server.now, labels).map(|one| {
                Block::Chart(Chart::of(
                    title("5xx an hour", "每小时 5xx"),
                    self.span,
                    one,
                    1.0,
                ))
            }));
            sections.push(Section {
                heading: format!("{} {name}", self.pick("Application", "应用")),
                blocks,
            });
        }
        if sections.is_empty() {
            let text = self.pick(
                "No requests were counted: nothing with the usual names (http_requests_total, http_request_duration_seconds …) was recorded.",
                "没有请求统计：未记录常用指标（http_requests_total、http_request_duration_seconds 等）。",
            );
            sections.push(Section {
                heading: self.pick("Application", "应用").to_owned(),
                blocks: vec![Block::Text(text.to_owned())],
            });
        }
        Ok(sections)
    }

    fn machines(&mut self) -> Result<Vec<Section>, String> {
        let kinds = [
            (
                &q::CPU,
                &q::CPU_PEAK,
                "cpu",
                self.pick("CPU", "CPU").to_owned(),
                Some((Point::CpuHigh, 0.8)),
            ),
            (
                &q::MEMORY,
                &q::MEMORY_PEAK,
                "memory",
                self.pick("Memory", "内存").to_owned(),
                Some((Point::MemoryHigh, 0.8)),
            ),
            (
                &q::DISK,
                &q::DISK_PEAK,
                "disk",
                self.pick("Disk", "磁盘").to_owned(),
                None,
            ),
        ];
        let (mut rows, mut charts) = (Vec::new(), Vec::new());
        for (mean, peak, name, text, point) in kinds {
            let (mean, peak) = (self.pair(mean, false)?, self.pair(peak, false)?);
            for series in &mean.now {
                let labels = &series.labels;
                let before = of(&mean.before, labels).and_then(Series::mean);
                let peaks = (
                    of(&peak.now, labels).and_then(Series::peak),
                    of(&peak.before, labels).and_then(Series::peak),
                );
                let written = |value: Option<f64>| value.map_or("–".to_owned(), percent);
                let what = format!("{text} {}", labels.value("mountpoint"))
                    .trim_end()
                    .to_owned();
                let now = series.mean();
                rows.push(vec![
                    labels.value("instance").to_owned(),
                    what.clone(),
                    written(now),
                    written(peaks.0),
                    written(before),
                    written(peaks.1),
                ]);
                for (figure, now, before) in [("mean", now, before), ("peak", peaks.0, peaks.1)] {
                    let name = match (name, figure) {
                        ("cpu", "mean") => "cpu_mean_ratio",
                        ("cpu", _) => "cpu_peak_ratio",
                        ("memory", "mean") => "memory_mean_ratio",
                        ("memory", _) => "memory_peak_ratio",
                        (_, "mean") => "disk_mean_ratio",
                        _ => "disk_peak_ratio",
                    };
                    self.figures
                        .push(Figure::new(name, "", Unit::Share, now, before).json(labels));
                }
                let said = || format!("{} {what}: {}", labels.value("instance"), written(now));
                if let Some((point, limit)) = point {
                    self.advice.note(
                        point,
                        self.recorded.0 >= ENOUGH && now.is_some_and(|now| now > limit),
                        said,
                    );
                } else {
                    let peaked =
                        || format!("{} {what}: {}", labels.value("instance"), written(peaks.0));
                    self.advice.note(
                        Point::DiskFull,
                        peaks.0.is_some_and(|peak| peak > 0.8),
                        peaked,
                    );
                }
                let title = format!("{} {what}, %", labels.value("instance"));
                charts.push(Block::Chart(Chart::of(title, self.span, series, 100.0)));
            }
        }
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let head = [
            self.pick("Host", "主机"),
            self.pick("What", "资源"),
            self.pick("Mean", "平均"),
            self.pick("Peak", "峰值"),
            self.pick("Mean before", "上期平均"),
            self.pick("Peak before", "上期峰值"),
        ];
        let blocks = std::iter::once(table(&head, rows, self.request.language))
            .chain(charts)
            .collect();
        Ok(vec![Section {
            heading: self.pick("Resources", "资源使用").to_owned(),
            blocks,
        }])
    }

    fn databases(&mut self) -> Result<Vec<Section>, String> {
        let (mean, peak) = (
            self.pair(&q::CONNECTIONS, false)?,
            self.pair(&q::CONNECTIONS_PEAK, false)?,
        );
        let pool = self.pair(&q::POOL_PEAK, false)?;
        let (time, calls) = (
            self.pair(&q::STATEMENT_SECONDS, false)?,
            self.pair(&q::STATEMENT_CALLS, false)?,
        );
        let mut sections = Vec::new();
        for series in &mean.now {
            let labels = &series.labels;
            let peaks = |pair: &Pair| {
                (
                    of(&pair.now, labels).and_then(Series::peak),
                    of(&pair.before, labels).and_then(Series::peak),
                )
            };
            let total = |pair: &Pair| {
                (
                    of(&pair.now, labels).and_then(Series::sum),
                    of(&pair.before, labels).and_then(Series::sum),
                )
            };
            let (time, calls, most, used) =
                (total(&time), total(&calls), peaks(&peak), peaks(&pool));
            let each = |time: Option<f64>, calls: Option<f64>| {
                Some(time? / calls.filter(|calls| *calls > 0.0)?)
            };
            let figures = [
                Figure::new(
                    "connections_mean",
                    self.pick("Connections, mean", "平均连接数"),
                    Unit::Count,
                    series.mean(),
                    of(&mean.before, labels).and_then(Series::mean),
                ),
                Figure::new(
                    "connections_peak",
                    self.pick("Connections, peak", "峰值连接数"),
                    Unit::Count,
                    most.0,
                    most.1,
                ),
                Figure::new(
                    "connections_peak_ratio",
                    self.pick("Of the limit, peak", "峰值占上限"),
                    Unit::Share,
                    used.0,
                    used.1,
                ),
                Figure::new(
                    "queries",
                    self.pick("Statements", "查询次数"),
                    Unit::Count,
                    calls.0,
                    calls.1,
                ),
                Figure::new(
                    "query_mean_seconds",
                    self.pick("Mean statement time", "平均查询时间"),
                    Unit::Seconds,
                    each(time.0, calls.0),
                    each(time.1, calls.1),
                ),
            ];
            let name = format!("{} {}", labels.value("job"), labels.value("instance"));
            self.advice.note(
                Point::PoolHigh,
                used.0.is_some_and(|used| used > 0.8),
                || format!("{name}: {}", used.0.map_or_else(String::new, percent)),
            );
            let mut blocks = vec![self.figures_table(labels, &figures)];
            blocks.extend(self.slow_statements(labels)?);
            blocks.push(Block::Chart(Chart::of(
                format!("{name}: {}", self.pick("connections", "连接数")),
                self.span,
                series,
                1.0,
            )));
            sections.push(Section {
                heading: format!("{} {name}", self.pick("Database", "数据库")),
                blocks,
            });
        }
        Ok(sections)
    }

    /// The statements that took most time, with their mean.
    fn slow_statements(&mut self, database: &Labels) -> Result<Vec<Block>, String> {
        let (time, calls) = (
            self.pair(&q::TOP_SECONDS, false)?,
            self.pair(&q::TOP_CALLS, false)?,
        );
        let mine = |one: &&Series| {
            ["job", "instance"]
                .iter()
                .all(|name| one.labels.value(name) == database.value(name))
        };
        let mut found: Vec<(f64, f64, &Labels)> = Vec::new();
        for one in time.now.iter().filter(mine) {
            let calls = of(&calls.now, &one.labels)
                .and_then(Series::sum)
                .unwrap_or(0.0);
            found.extend(one.sum().map(|time| (time, calls, &one.labels)));
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mean = |time: f64, calls: f64| if calls > 0.0 { time / calls } else { f64::NAN };
        let slow = found
            .iter()
            .filter(|(time, calls, _)| mean(*time, *calls) > 1.0)
            .count();
        self.figures.push(
            Figure::new("slow_statements", "", Unit::Count, Some(slow as f64), None).json(database),
        );
        if found.is_empty() {
            return Ok(Vec::new());
        }
        if let Some((time, calls, labels)) = found
            .iter()
            .find(|(time, calls, _)| mean(*time, *calls) > 1.0)
        {
            let said = || {
                format!(
                    "{} queryid {}: {}",
                    database.value("instance"),
                    labels.value("queryid"),
                    seconds(mean(*time, *calls))
                )
            };
            self.advice.note(Point::StatementSlow, true, said);
        }
        let head = [
            self.pick("Database", "数据库"),
            "queryid",
            self.pick("Statement", "语句"),
            self.pick("Calls", "次数"),
            self.pick("Mean", "平均"),
            self.pick("Total", "总计"),
        ];
        let rows = found.iter().take(20).map(|(time, calls, labels)| {
            let id = labels.value("queryid");
            let text = self.request.statements.get(id).cloned().unwrap_or_default();
            vec![
                labels.value("datname").to_owned(),
                id.to_owned(),
                text,
                number(calls.round()),
                seconds(mean(*time, *calls)),
                seconds(*time),
            ]
        });
        let text = self.pick(
            "The text of a statement may hold data and is shown with collectors.postgres.statements: {text: true} only.",
            "语句文本可能含有数据，仅在 collectors.postgres.statements: {text: true} 时显示。",
        );
        let rows = table(&head, rows.collect(), self.request.language);
        Ok(if self.request.statements.is_empty() {
            vec![rows, Block::Text(text.to_owned())]
        } else {
            vec![rows]
        })
    }

    /// What fired, how often and how long.
    fn alerts(&mut self) -> Result<Vec<Section>, String> {
        let (lasted, begun) = (
            self.pair(&q::ALERT_SECONDS, false)?,
            self.pair(&q::ALERT_BEGINS, false)?,
        );
        let mut found: Vec<(f64, f64, Option<f64>, &Labels)> = Vec::new();
        for one in &lasted.now {
            let times = of(&begun.now, &one.labels)
                .and_then(Series::sum)
                .unwrap_or(0.0);
            let before = of(&begun.before, &one.labels).and_then(Series::sum);
            found.extend(one.sum().map(|lasted| (lasted, times, before, &one.labels)));
        }
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.total_cmp(&a.0)));
        let heading = self.pick("Alerts", "告警").to_owned();
        if found.is_empty() {
            return Ok(vec![Section {
                heading,
                blocks: vec![Block::Text(
                    self.pick("Nothing fired.", "没有告警触发。").to_owned(),
                )],
            }]);
        }
        let mut rows = Vec::new();
        for (lasted, times, before, labels) in &found {
            let (name, each) = (labels.value("alertname"), lasted / times.max(1.0));
            self.figures.push(
                Figure::new("alert_firings", "", Unit::Count, Some(*times), *before).json(labels),
            );
            self.figures.push(
                Figure::new("alert_seconds", "", Unit::Seconds, Some(*lasted), None).json(labels),
            );
            let is_noise = *times >= 10.0 && each < 300.0;
            self.advice.note(Point::RuleNoisy, is_noise, || {
                format!("{name}: {} × {}", number(*times), span(each))
            });
            let noise = if is_noise {
                self.pick("noise", "噪声")
            } else {
                ""
            };
            let before = before.map_or("–".to_owned(), number);
            rows.push(vec![
                name.to_owned(),
                labels.value("severity").to_owned(),
                number(*times),
                before,
                span(*lasted),
                span(each),
                noise.to_owned(),
            ]);
        }
        let head = [
            self.pick("Alert", "告警"),
            self.pick("Severity", "级别"),
            self.pick("Firings", "触发次数"),
            self.pick("Before", "上期"),
            self.pick("Fired for", "总时长"),
            self.pick("Each", "平均时长"),
            "",
        ];
        let mut blocks = vec![table(&head, rows, self.request.language)];
        if !self.request.windows.is_empty() {
            let head = [
                self.pick("Planned window", "计划维护"),
                self.pick("Begin", "开始"),
                self.pick("End", "结束"),
                self.pick("By", "登记人"),
            ];
            let rows = self.request.windows.iter().map(|w| {
                vec![
                    w.comment.clone(),
                    self.request.minute(w.from),
                    self.request.minute(w.to),
                    w.author.clone(),
                ]
            });
            blocks.push(table(&head, rows.collect(), self.request.language));
        }
        Ok(vec![Section { heading, blocks }])
    }
}
