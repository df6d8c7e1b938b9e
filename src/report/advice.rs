//! What a report advises: a table of rules, each with a figure, a limit and a sentence, so that a
//! reader can check every one. The same table is in `docs/reports.md`.

use serde_json::{Value as Json, json};

use super::document::{Block, Section};
use crate::model::Language;

/// A rule of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// More than a tenth of the period is not recorded.
    DataMissing,
    /// The mean response time of the period is above 500 ms.
    MeanSlow,
    /// P95 is above 2 s.
    TailSlow,
    /// P95 or P99 lies above the highest bucket.
    BucketsEnd,
    /// More than 1 % of the answers are 5xx.
    ServerErrors,
    /// More than 1 % of the answers are 4xx or 5xx, and not because of 5xx.
    AllErrors,
    /// There were half as many requests again as before.
    TrafficGrows,
    /// The mean CPU use is above 80 %.
    CpuHigh,
    /// The mean memory use is above 80 %.
    MemoryHigh,
    /// A disk was above 80 %.
    DiskFull,
    /// The connections were above 80 % of their limit.
    PoolHigh,
    /// A statement takes longer than 1 s on average.
    StatementSlow,
    /// A rule fired ten times or more, for less than five minutes each.
    RuleNoisy,
    /// The forecast for seven days ahead is above 80 %.
    ForecastHigh,
    /// A limit is reached within 30 days.
    LimitNear,
    /// More than 5 % of the requests leave an error in the log.
    LogErrorRate,
    /// One type of error is more than half of all.
    OneError,
    /// Requests took longer than the bound of the log's `slow`.
    SlowRequests,
}

/// The name, and the sentence in both languages.
const SENTENCES: [(Point, &str, &str, &str); 18] = [
    (
        Point::DataMissing,
        "data-missing",
        "More than a tenth of the period is not recorded: keep nightbell running, or read the figures with care",
        "缺失数据超过 10%：请保持 nightbell 持续运行，谨慎解读指标",
    ),
    (
        Point::MeanSlow,
        "mean-slow",
        "The mean response time is above 500 ms: find the slowest routes and statements",
        "平均响应时间超过 500 ms：检查最慢的接口和查询",
    ),
    (
        Point::TailSlow,
        "tail-slow",
        "One request in twenty takes longer than 2 s: look at the slow requests of the logs",
        "P95 响应时间超过 2 s：查看日志中的慢请求",
    ),
    (
        Point::BucketsEnd,
        "buckets-end",
        "A percentile lies above the highest bucket: add larger buckets to the application's histogram",
        "分位数超出直方图最大桶：请为应用的直方图增加更大的桶",
    ),
    (
        Point::ServerErrors,
        "server-errors",
        "More than 1 % of the answers are 5xx: see the report of errors",
        "5xx 错误率超过 1%：查看错误分析报告",
    ),
    (
        Point::AllErrors,
        "all-errors",
        "More than 1 % of the answers are errors, most of them 4xx: look at clients and links",
        "错误率超过 1%（以 4xx 为主）：检查客户端和链接",
    ),
    (
        Point::TrafficGrows,
        "traffic-grows",
        "There were half as many requests again as before: see the report of the capacity",
        "请求量比上期增长 50% 以上：查看容量报告",
    ),
    (
        Point::CpuHigh,
        "cpu-high",
        "The mean CPU use is above 80 %: add processors, or move work away",
        "平均 CPU 使用率超过 80%：增加 CPU 或分流",
    ),
    (
        Point::MemoryHigh,
        "memory-high",
        "The mean memory use is above 80 %: add memory, or find what leaks",
        "平均内存使用率超过 80%：增加内存或排查泄漏",
    ),
    (
        Point::DiskFull,
        "disk-full",
        "A disk was used by more than 80 %: remove old logs and backups, or enlarge it",
        "磁盘使用率超过 80%：清理旧日志和备份，或扩容",
    ),
    (
        Point::PoolHigh,
        "pool-high",
        "Connections were above 80 % of their limit: use a pool, or raise the limit",
        "数据库连接超过上限的 80%：使用连接池或提高上限",
    ),
    (
        Point::StatementSlow,
        "statement-slow",
        "A statement takes longer than 1 s on average: EXPLAIN it, add an index",
        "存在平均耗时超过 1 s 的语句：使用 EXPLAIN 分析并添加索引",
    ),
    (
        Point::RuleNoisy,
        "rule-noisy",
        "A rule fires often and briefly: a longer hold (for), or another threshold; nightbell backtest says which",
        "规则频繁短暂触发：延长 for 或调整阈值，可用 nightbell backtest 验证",
    ),
    (
        Point::ForecastHigh,
        "forecast-high",
        "In seven days it is expected to be above 80 %: plan more capacity",
        "预计 7 天后超过 80%：规划扩容",
    ),
    (
        Point::LimitNear,
        "limit-near",
        "A limit is reached within 30 days: act now",
        "30 天内将达到上限：请立即处理",
    ),
    (
        Point::LogErrorRate,
        "log-error-rate",
        "More than 5 error lines to 100 requests: see the top types",
        "错误日志超过请求的 5%：查看主要错误类型",
    ),
    (
        Point::OneError,
        "one-error",
        "One type is more than half of all errors: mend that one first",
        "单一类型占全部错误一半以上：优先修复",
    ),
    (
        Point::SlowRequests,
        "slow-requests",
        "Requests took longer than the bound: look at the slowest",
        "存在超过阈值的慢请求：查看最慢的请求",
    ),
];

/// What was found by the rules, in the order in which it was found.
#[derive(Clone, Debug)]
pub struct Advice {
    language: Language,
    found: Vec<(Point, String)>,
}

impl Advice {
    /// Nothing yet.
    pub fn new(language: Language) -> Self {
        Advice {
            language,
            found: Vec::new(),
        }
    }

    /// Notes a rule that applies, with what it applies to.
    pub fn note(&mut self, point: Point, applies: bool, what: impl FnOnce() -> String) {
        if applies {
            self.found.push((point, what()));
        }
    }

    /// The section of the report.
    pub fn section(&self) -> Section {
        let heading = self.language.pick("Advice", "建议").to_owned();
        if self.found.is_empty() {
            let text = self
                .language
                .pick("No rule of the table applies.", "没有需要处理的建议。")
                .to_owned();
            return Section {
                heading,
                blocks: vec![Block::Text(text)],
            };
        }
        let rows = SENTENCES.iter().flat_map(|(point, name, en, zh)| {
            let about = self.found.iter().filter(move |(found, _)| found == point);
            about
                .map(move |(_, what)| format!("{} ({what}) [{name}]", self.language.pick(*en, *zh)))
        });
        Section {
            heading,
            blocks: vec![Block::List(rows.collect())],
        }
    }

    /// The same for programs.
    pub fn json(&self) -> Json {
        let name = |point: &Point| {
            SENTENCES
                .iter()
                .find(|(one, ..)| one == point)
                .map_or("", |(_, name, ..)| name)
        };
        Json::Array(
            self.found
                .iter()
                .map(|(point, what)| json!({ "rule": name(point), "about": what }))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_in_the_documentation() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reports.md"))
            .expect("readable");
        for (_, name, ..) in SENTENCES {
            assert!(
                page.contains(&format!("| `{name}` |")),
                "docs/reports.md says nothing of {name}"
            );
        }
    }
}
