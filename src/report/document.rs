//! A report as a document: sections of texts, tables and charts, and the same as Markdown, as a
//! page that holds no script and loads nothing, and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use super::hours::{HOUR, Series, Span};
use crate::chart::{Plot, svg};
use crate::model::Language;
use crate::model::Timestamp;
use crate::model::text::is_active;

/// Most rows of a table; more are counted.
pub const MAX_ROWS: usize = 100;
/// Most characters of a cell.
const MAX_CELL: usize = 300;
/// Most charts of a document.
const MAX_CHARTS: usize = 24;

/// A report.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// Its language.
    pub language: Language,
    /// The zone of the times of its charts.
    pub zone: TimeZone,
    /// What it is about, line by line.
    pub preface: Vec<String>,
    /// The rest.
    pub sections: Vec<Section>,
    /// The figures for programs.
    pub json: Json,
}

/// A part of a report.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// What is in it.
    pub blocks: Vec<Block>,
}

/// A piece of a section.
#[derive(Clone, Debug)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Points, one line each.
    List(Vec<String>),
    /// A table.
    Table {
        /// The names of the columns.
        head: Vec<String>,
        /// The rows; each has as many cells.
        rows: Vec<Vec<String>>,
    },
    /// A curve.
    Chart(Chart),
}

/// One series hour by hour.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Its time.
    pub span: Span,
    /// Its values.
    pub points: Vec<(Timestamp, f64)>,
    /// A line that is drawn across.
    pub threshold: Option<f64>,
}

impl Chart {
    /// The curve of a series; values are multiplied by `factor`.
    pub fn of(title: String, span: Span, series: &Series, factor: f64) -> Self {
        let points = series
            .hours
            .iter()
            .enumerate()
            .filter(|(_, value)| value.is_finite());
        let points = points
            .map(|(hour, value)| (span.end_of(hour), value * factor))
            .collect();
        Chart {
            title,
            span,
            points,
            threshold: None,
        }
    }

    fn svg(&self, zone: &TimeZone) -> String {
        let offset = jiff::Timestamp::from_millisecond(self.span.to().0)
            .map_or(0, |instant| zone.to_offset(instant).seconds());
        svg(&Plot {
            title: &self.title,
            from: self.span.from,
            to: self.span.to(),
            points: &self.points,
            gap: Duration::from_millis(HOUR as u64 * 3 / 2),
            utc_offset: offset,
            threshold: self.threshold,
            firing: &[],
        })
    }
}

/// A table with a bound, and a row for what is beyond it.
pub fn table(head: &[&str], mut rows: Vec<Vec<String>>, language: Language) -> Block {
    let beyond = rows.len().saturating_sub(MAX_ROWS);
    rows.truncate(MAX_ROWS);
    if beyond > 0 {
        let mut more = vec![String::new(); head.len()];
        more[0] = language.pick(
            format!("… and {beyond} more"),
            format!("…… 另有 {beyond} 行"),
        );
        rows.push(more);
    }
    Block::Table {
        head: head.iter().map(|name| (*name).to_owned()).collect(),
        rows,
    }
}

impl Document {
    /// The document as Markdown (<https://github.github.com/gfm/>).
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", markdown(&self.title));
        for line in &self.preface {
            let _ = writeln!(out, "{}  ", markdown(line));
        }
        for section in &self.sections {
            let _ = write!(out, "\n## {}\n", markdown(&section.heading));
            for block in &section.blocks {
                match block {
                    Block::Text(text) => {
                        let _ = write!(out, "\n{}\n", markdown(text));
                    }
                    Block::List(points) => {
                        out.push('\n');
                        points
                            .iter()
                            .for_each(|point| out.push_str(&format!("- {}\n", markdown(point))));
                    }
                    Block::Table { head, rows } => {
                        out.push('\n');
                        let line = |cells: &[String]| {
                            format!(
                                "| {} |\n",
                                cells
                                    .iter()
                                    .map(|cell| markdown(cell))
                                    .collect::<Vec<_>>()
                                    .join(" | ")
                            )
                        };
                        out.push_str(&line(head));
                        let _ = writeln!(out, "|{}", " --- |".repeat(head.len()));
                        rows.iter().for_each(|row| out.push_str(&line(row)));
                    }
                    // A text has no pictures.
                    Block::Chart(_) => {}
                }
            }
        }
        out
    }

    /// The document as a page of its own; without charts where mail programs would make a muddle of
    /// them.
    pub fn html(&self, with_charts: bool) -> String {
        let title = html(&self.title);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\n<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n",
            self.language.as_str()
        );
        let lines: Vec<String> = self.preface.iter().map(|line| html(line)).collect();
        let _ = writeln!(out, "<p class=\"faint\">{}</p>", lines.join("<br>\n"));
        let mut charts = 0;
        for section in &self.sections {
            let _ = writeln!(out, "<h2>{}</h2>", html(&section.heading));
            for block in &section.blocks {
                match block {
                    Block::Text(text) => {
                        let _ = writeln!(out, "<p>{}</p>", html(text));
                    }
                    Block::List(points) => {
                        let points: String = points
                            .iter()
                            .map(|point| format!("<li>{}</li>\n", html(point)))
                            .collect();
                        let _ = writeln!(out, "<ul>\n{points}</ul>");
                    }
                    Block::Table { head, rows } => {
                        let row = |tag: &str, cells: &[String]| -> String {
                            let cells: String = cells
                                .iter()
                                .map(|cell| format!("<{tag}>{}</{tag}>", html(cell)))
                                .collect();
                            format!("<tr>{cells}</tr>\n")
                        };
                        let body: String = rows.iter().map(|cells| row("td", cells)).collect();
                        let _ = writeln!(out, "<table>\n{}{body}</table>", row("th", head));
                    }
                    Block::Chart(chart)
                        if with_charts && charts < MAX_CHARTS && chart.points.len() > 1 =>
                    {
                        charts += 1;
                        let _ = writeln!(out, "<figure>{}</figure>", chart.svg(&self.zone));
                    }
                    Block::Chart(_) => {}
                }
            }
        }
        out + "</body></html>\n"
    }

    /// The document as JSON.
    pub fn json(&self) -> Json {
        let block = |block: &Block| match block {
            Block::Text(text) => json!({ "text": text }),
            Block::List(points) => json!({ "list": points }),
            Block::Table { head, rows } => json!({ "table": { "head": head, "rows": rows } }),
            Block::Chart(chart) => {
                let points: Vec<Json> = chart
                    .points
                    .iter()
                    .map(|(at, value)| json!([at.0 / 1000, value]))
                    .collect();
                json!({ "chart": { "title": chart.title, "points": points } })
            }
        };
        let sections: Vec<Json> = self
            .sections
            .iter()
            .map(|section| json!({ "heading": section.heading, "blocks": section.blocks.iter().map(block).collect::<Vec<_>>() }))
            .collect();
        json!({ "title": self.title, "language": self.language.as_str(), "preface": self.preface, "figures": self.json, "sections": sections })
    }
}

const STYLE: &str = "body{font:14px/1.5 -apple-system,'Segoe UI',Roboto,'PingFang SC','Microsoft YaHei',sans-serif;max-width:960px;margin:0 auto;padding:16px}\
h1{font-size:22px}h2{font-size:17px;margin:28px 0 8px;border-bottom:1px solid #8884}table{border-collapse:collapse}\
td,th{padding:2px 14px 2px 0;text-align:left;vertical-align:top;border-bottom:1px solid #8882}td+td{font-variant-numeric:tabular-nums}\
.faint{opacity:.7}figure{margin:12px 0}svg{max-width:100%;height:auto}@media print{body{max-width:none}h2{break-after:avoid}table,figure{break-inside:avoid}}";

/// One line of a text from outside: what steers a terminal or breaks a line is gone, and it is no
/// longer than a cell may be.
fn line(text: &str) -> String {
    let cut: String = text
        .chars()
        .take(MAX_CELL)
        .map(|c| if is_active(c) { ' ' } else { c })
        .collect();
    if text.chars().nth(MAX_CELL).is_some() {
        cut + "…"
    } else {
        cut
    }
}

/// A text as Markdown shows it, with nothing in it that Markdown, or HTML within it, acts on.
fn markdown(text: &str) -> String {
    let mut out = String::new();
    for c in line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_texts_stay_texts() {
        let hostile = "<script>alert(1)</script>|`x`\n[a](javascript:b)\u{202e}";
        let block = table(
            &["a", "b"],
            vec![vec![hostile.into(), "1".into()]],
            Language::En,
        );
        let section = Section {
            heading: hostile.into(),
            blocks: vec![
                block,
                Block::Text(hostile.into()),
                Block::List(vec![hostile.into()]),
            ],
        };
        let document = Document {
            title: hostile.into(),
            language: Language::En,
            zone: TimeZone::UTC,
            preface: vec![hostile.into()],
            sections: vec![section],
            json: Json::Null,
        };
        let (page, text) = (document.html(true), document.markdown());
        assert!(
            !page.contains("<script") && !page.contains('\u{202e}'),
            "{page}"
        );
        assert!(
            !text.contains("<script")
                && !text.replace(r"\](", "").contains("](")
                && !text.contains("\n["),
            "{text}"
        );
        let row = text
            .lines()
            .find(|line| line.starts_with("| ") && line.contains("script"))
            .expect("the row");
        assert_eq!(row.replace("\\|", "").matches('|').count(), 3, "{row}");
    }
}
