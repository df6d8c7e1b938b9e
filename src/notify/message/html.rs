//! The HTML part of a mail: small, styles inline, no background, so that it reads in a light and in
//! a dark mail program.

use crate::notify::notification::{AlertStatus, Notification, NotifiedAlert};

use super::evidence::cid;
use super::markup::escape_angles;
use super::names::names;
use super::shorten::{fit, fit_named};
use super::{Entry, Gravity, Style, entry, gravest_first, headcount, link};

/// The document; `notes` stand at its end. At most `limit` bytes, which keeps it below the size at
/// which mail programs clip. `pictures`: content ids of the pictures that the mail carries.
pub(crate) fn html(
    n: &Notification,
    style: &Style,
    title: &str,
    notes: &[String],
    pictures: &[&str],
    limit: usize,
) -> String {
    let words = style.words();
    let head = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title></head>\n\
         <body style=\"font:14px/1.5 -apple-system,'Segoe UI',Roboto,'PingFang SC','Microsoft YaHei',sans-serif;max-width:640px;margin:0 auto;padding:16px\">\n\
         <h1 style=\"font-size:18px;margin:0\">{title}</h1>\n<p style=\"opacity:.7;margin:0 0 16px\">{}</p>\n",
        escape(&headcount(n, style)),
        title = escape(title),
    );
    let shown = |alert: &NotifiedAlert| pictures.iter().copied().find(|id| *id == cid(alert));
    let alerts = gravest_first(n);
    let entries: Vec<String> = alerts
        .iter()
        .map(|alert| one(&entry(alert, style, n.at_ms, limit), shown(alert), style))
        .collect();
    let mut tail = String::new();
    if !n.external_url.is_empty() {
        tail.push_str(&format!(
            "<p><a href=\"{}\">{}</a></p>\n",
            escape(&link(n)),
            words.all_alerts
        ));
    }
    for note in notes {
        tail.push_str(&format!("<p style=\"opacity:.7\">{}</p>\n", escape(note)));
    }
    tail.push_str("</body></html>\n");
    let named = |from: usize| match alerts.len() - from {
        0 => String::new(),
        left => format!(
            "<p>{}{}<br>\n{}</p>\n",
            style.words().more_alerts(left),
            words.colon,
            names(alerts[from..].iter().copied(), words, escape, "<br>\n")
        ),
    };
    fit_named(&head, &entries, &tail, limit, named)
        .unwrap_or_else(|| fit(&head, &entries, &tail, limit, style.language))
}

fn one(entry: &Entry<'_>, picture: Option<&str>, style: &Style) -> String {
    let words = style.words();
    let (colour, status) = match (entry.status, entry.gravity) {
        (AlertStatus::Firing, Gravity::Critical) => ("#d93f3f", words.firing),
        (AlertStatus::Firing, Gravity::Warning) => ("#c77700", words.firing),
        (AlertStatus::Firing, Gravity::Info) => ("#3b82f6", words.firing),
        (AlertStatus::Resolved, _) => ("#2e9e5b", words.resolved),
    };
    let mut out = format!(
        "<div style=\"border-left:4px solid {colour};padding:0 0 0 12px;margin:0 0 20px\">\
         <div style=\"color:{colour};font-size:12px;font-weight:bold\">{status}</div>\
         <div style=\"font-size:16px;font-weight:bold\">{}</div>\n",
        escape(&entry.headline)
    );
    if !entry.text.is_empty() {
        out.push_str(&format!(
            "<p style=\"margin:4px 0;white-space:pre-line\">{}</p>\n",
            escape(&entry.text)
        ));
    }
    out.push_str("<table style=\"border-collapse:collapse\">\n");
    for (word, text) in &entry.facts {
        out.push_str(&format!(
            "<tr><td style=\"opacity:.7;padding:0 12px 0 0;vertical-align:top;white-space:nowrap\">{word}</td><td>{}</td></tr>\n",
            escape(text)
        ));
    }
    out.push_str("</table>\n");
    if let Some(id) = picture {
        out.push_str(&format!(
            "<img src=\"cid:{}\" width=\"640\" height=\"200\" style=\"max-width:100%;height:auto\" alt=\"\">\n",
            escape(id)
        ));
    }
    let links: Vec<String> = entry
        .links
        .iter()
        .map(
            |(word, url)| match url.starts_with("http://") || url.starts_with("https://") {
                true => format!("<a href=\"{}\">{word}</a>", escape(url)),
                false => format!("{word}{}{}", words.colon, escape(url)),
            },
        )
        .collect();
    if !links.is_empty() {
        out.push_str(&format!("<div>{}</div>\n", links.join(" · ")));
    }
    out.push_str("</div>\n");
    out
}

pub(super) fn escape(text: &str) -> String {
    escape_angles(text)
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
