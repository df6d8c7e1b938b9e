//! The built-in body in the markup of each kind of place: plain text, Slack's mrkdwn, Markdown, Telegram's HTML.

use crate::notify::notification::{AlertStatus, Notification};

use super::shorten::fit;
use super::{Entry, Style, entry, headcount, link};

/// How one kind of place writes.
pub(crate) struct Markup {
    /// Makes a foreign text harmless.
    pub escape: fn(&str) -> String,
    /// Bold, around escaped text.
    pub bold: fn(&str) -> String,
    /// A link: escaped text, URL. `None`: the URL is written out.
    pub link: Option<fn(&str, &str) -> String>,
    /// Ends a line.
    pub line_end: &'static str,
    /// Before a fact.
    pub bullet: &'static str,
}

/// No markup: mail, SMS, webhooks for people.
pub(crate) const PLAIN: Markup = Markup { escape: str::to_owned, bold: str::to_owned, link: None, line_end: "\n", bullet: "  " };

/// Slack's mrkdwn: <https://api.slack.com/reference/surfaces/formatting>.
pub(crate) const SLACK: Markup = Markup {
    escape: escape_angles,
    bold: |text| format!("*{text}*"),
    link: Some(|text, url| format!("<{}|{text}>", url.replace('|', "%7C").replace('>', "%3E"))),
    line_end: "\n",
    bullet: "",
};

pub(super) fn escape_angles(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The body: how many, then each alert, then where to see all; in at most `limit` bytes.
pub(crate) fn body(n: &Notification, style: &Style, markup: &Markup, limit: usize) -> String {
    let words = style.words();
    let head = format!("{}{end}{end}", (markup.escape)(&headcount(n, style)), end = markup.line_end);
    let entries: Vec<String> = n.alerts.iter().map(|alert| one(&entry(alert, style, n.at_ms, limit), style, markup)).collect();
    let tail = if n.external_url.is_empty() { String::new() } else { reference(words.all_alerts, &link(n), style, markup) };
    fit(&head, &entries, &tail, limit, style.language)
}

fn one(entry: &Entry<'_>, style: &Style, markup: &Markup) -> String {
    let words = style.words();
    let status = match entry.status {
        AlertStatus::Firing => words.firing,
        AlertStatus::Resolved => words.resolved,
    };
    let mut out = format!("[{status}] {}{}", (markup.bold)(&(markup.escape)(&entry.headline)), markup.line_end);
    let mut line = |text: String| {
        out.push_str(markup.bullet);
        out.push_str(&text);
        out.push_str(markup.line_end);
    };
    for text in entry.text.lines().map(str::trim).filter(|t| !t.is_empty()) {
        line((markup.escape)(text));
    }
    for (word, text) in &entry.facts {
        line(format!("{word}{}{}", words.colon, (markup.escape)(text)));
    }
    for (word, url) in &entry.links {
        line(reference(word, url, style, markup));
    }
    out.push_str(markup.line_end);
    out
}

/// A link where the markup has links and the text is one; else the text after its name.
fn reference(word: &str, url: &str, style: &Style, markup: &Markup) -> String {
    match markup.link {
        Some(link) if url.starts_with("http://") || url.starts_with("https://") => link(word, url),
        _ => format!("{word}{}{}", style.words().colon, (markup.escape)(url)),
    }
}
