//! The built-in body in the markup of each kind of service: plain text, Slack's mrkdwn, Markdown,
//! Telegram's HTML.

use crate::notify::notification::{AlertStatus, Notification, NotifiedAlert};

use super::names::names;
use super::shorten::{cut_bytes, fit, fit_named};
use super::{Entry, Style, entry, format_value, gravest_first, headcount, link, subject};

/// How one kind of service writes.
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
    /// Whether it is Markdown, or shows it as it is.
    pub shows_markdown: bool,
}

/// No markup: mail, SMS, webhooks for people.
pub(crate) const PLAIN: Markup = Markup {
    escape: str::to_owned,
    bold: str::to_owned,
    link: None,
    line_end: "\n",
    bullet: "  ",
    shows_markdown: true,
};

/// Slack's mrkdwn: <https://api.slack.com/reference/surfaces/formatting>.
pub(crate) const SLACK: Markup = Markup {
    escape: escape_angles,
    bold: |text| format!("*{text}*"),
    link: Some(|text, url| format!("<{}|{text}>", url.replace('|', "%7C").replace('>', "%3E"))),
    line_end: "\n",
    bullet: "",
    shows_markdown: false,
};

/// Markdown with backslash escapes (Discord).
pub(crate) const MARKDOWN: Markup = Markup {
    escape: escape_markdown,
    bold: |text| format!("**{text}**"),
    link: Some(|text, url| format!("[{text}]({})", url.replace('(', "%28").replace(')', "%29"))),
    line_end: "\n",
    bullet: "",
    shows_markdown: true,
};

/// The Markdown of group robots (DingTalk, WeCom, Feishu, Teams): no escapes, so that what would be
/// a tag is made none; two spaces before a line's end keep the break.
pub(crate) const ROBOT: Markup = Markup {
    escape: untag,
    line_end: "  \n",
    ..MARKDOWN
};

/// Telegram's HTML: <https://core.telegram.org/bots/api#html-style>.
pub(crate) const TELEGRAM: Markup = Markup {
    escape: escape_angles,
    bold: |text| format!("<b>{text}</b>"),
    link: Some(|text, url| {
        format!(
            "<a href=\"{}\">{text}</a>",
            escape_angles(url).replace('"', "&quot;")
        )
    }),
    line_end: "\n",
    bullet: "",
    shows_markdown: false,
};

pub(in crate::notify) fn escape_angles(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// No tag begins in a foreign text: `<at id=all></at>` would call everybody. A `<` that is none
/// (`up < 1`) stays.
fn untag(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let tag = c == '<'
            && rest.peek().is_some_and(|next| {
                next.is_ascii_alphabetic() || matches!(next, '/' | '!' | '@' | '?')
            });
        out.push(if tag { '‹' } else { c });
    }
    out
}

fn escape_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The body: how many, then each alert, then where to see all; in at most `limit` bytes. Alerts
/// that have no room are named at least, and those that not even that has room for are counted. A
/// digest names its alerts.
pub(crate) fn body(n: &Notification, style: &Style, markup: &Markup, limit: usize) -> String {
    if let Some(report) = &n.report {
        // It is Markdown with harmless texts already, and reads well as plain text.
        let text = if markup.shows_markdown {
            report.text.clone()
        } else {
            (markup.escape)(&report.text)
        };
        return cut_bytes(&text, limit, style.language).into_owned();
    }
    let words = style.words();
    let head = format!(
        "{}{end}{end}",
        (markup.escape)(&headcount(n, style)),
        end = markup.line_end
    );
    let tail = if n.external_url.is_empty() {
        String::new()
    } else {
        reference(words.all_alerts, &link(n), style, markup)
    };
    let alerts = gravest_first(n);
    let all_names = |from: usize| {
        names(
            alerts[from..].iter().copied(),
            words,
            markup.escape,
            markup.line_end,
        )
    };
    let named = |from: usize| match alerts.len() - from {
        0 => String::new(),
        left => format!(
            "{}{}{}{}",
            style.words().more_alerts(left),
            words.colon.trim_end(),
            markup.line_end,
            all_names(from)
        ),
    };
    if n.digest > 0 {
        let entries: Vec<String> = all_names(0)
            .split_inclusive(markup.line_end)
            .map(str::to_owned)
            .collect();
        return fit(&head, &entries, &tail, limit, style.language);
    }
    let entries: Vec<String> = alerts
        .iter()
        .map(|alert| one(&entry(alert, style, n.at_ms, limit), style, markup))
        .collect();
    fit_named(&head, &entries, &tail, limit, named)
        .unwrap_or_else(|| fit(&head, &entries, &tail, limit, style.language))
}

/// One line for each alert, for services that carry a few hundred bytes: subject, then headline,
/// instance and value. The fewer alerts there are, the more room has each headline; those that have
/// none are named, if that fits, else counted.
pub(crate) fn brief(n: &Notification, style: &Style, limit: usize) -> String {
    let room = limit / 2 / n.alerts.len().clamp(1, 8) * 8;
    let head = format!("{}\n", subject(n, style.language));
    let line = |alert: &NotifiedAlert| {
        let entry = entry(alert, style, n.at_ms, room);
        let said = [
            alert.label("instance").to_owned(),
            alert.value.map(format_value).unwrap_or_default(),
        ];
        let said: Vec<String> = said.into_iter().filter(|t| !t.is_empty()).collect();
        let detail = if said.is_empty() {
            String::new()
        } else {
            format!(" ({})", said.join(", "))
        };
        format!("{}{detail}\n", entry.headline)
    };
    let alerts = gravest_first(n);
    let entries: Vec<String> = alerts.iter().copied().map(line).collect();
    let named = |from: usize| {
        names(
            alerts[from..].iter().copied(),
            style.words(),
            str::to_owned,
            "\n",
        )
    };
    let text = fit_named(&head, &entries, "", limit, named)
        .unwrap_or_else(|| fit(&head, &entries, "", limit, style.language));
    text.trim_end().to_owned()
}

fn one(entry: &Entry<'_>, style: &Style, markup: &Markup) -> String {
    let words = style.words();
    let status = match entry.status {
        AlertStatus::Firing => words.firing,
        AlertStatus::Resolved => words.resolved,
    };
    let mut out = format!(
        "[{status}] {}{}",
        (markup.bold)(&(markup.escape)(&entry.headline)),
        markup.line_end
    );
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
