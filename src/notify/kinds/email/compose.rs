//! The mail itself: headers, a text part and an HTML part (RFC 5322, RFC 2045), non-ASCII text
//! encoded by lettre.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, Message, MultiPart, SinglePart};

use super::addresses;
use crate::config::Section;
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::{PLAIN, Style, body, html, pictures, subject};
use crate::notify::notification::{Notification, Report};

/// Largest text of a part, in bytes: mail programs clip at about 100 KB.
const MAX_PART: usize = 80 << 10;
/// Longest subject, in characters.
const MAX_SUBJECT: usize = 300;

/// What a mail is made of.
pub(super) struct Composer {
    from: Option<Field>,
    headers: Vec<(String, Field)>,
    html: Option<Field>,
    text: Option<Field>,
    threading: bool,
    thread_by_day: bool,
}

impl Composer {
    /// Reads the message's keys.
    pub(super) fn read(section: &Section<'_>, global: Option<&Section<'_>>) -> Self {
        let inherited = global.and_then(|g| Field::read(g, "smtp_from"));
        let from = Field::read(section, "from").or(inherited);
        if from.is_none() {
            section.error(
                "",
                "has no sender",
                "add from: nightbell@example.org, or set global.smtp_from",
            );
        }
        let threading = section.section("threading");
        let (mut enabled, mut by_day) = (true, true);
        if let Some(threading) = threading {
            enabled = threading.or("enabled", true);
            by_day = match threading.or("thread_by_date", "daily".to_owned()).as_str() {
                "daily" => true,
                "none" => false,
                _ => {
                    threading.error(
                        "thread_by_date",
                        "is neither daily nor none",
                        "give daily or none",
                    );
                    true
                }
            };
            threading.finish();
        }
        let mut headers = headers(section);
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("subject"))
        {
            headers.extend(
                Field::redefined(section, "headers", "email.default.subject")
                    .map(|field| ("Subject".to_owned(), field)),
            );
        }
        Composer {
            from,
            headers,
            html: Field::customised(section, "html", "email.default.html"),
            text: Field::read(section, "text"),
            threading: enabled,
            thread_by_day: by_day,
        }
    }

    /// The sender and the mail's bytes.
    pub(super) fn compose(
        &self,
        n: &Notification,
        style: &Style,
        to: &[Mailbox],
        rendering: &mut Rendering<'_>,
    ) -> Result<(Address, Vec<u8>), NotifyError> {
        let from = self
            .from
            .as_ref()
            .ok_or_else(|| malformed("no sender is configured"))?;
        let senders =
            mailboxes("from", &rendering.address(from)?).map_err(|error| from.unusable(error))?;
        let [sender] = senders.as_slice() else {
            return Err(malformed("from must be exactly one address"));
        };
        let built_in = subject(n, style.language);
        let subject = match &n.report {
            Some(report) => report.title.clone(),
            None => rendering.text(self.header("subject"), || built_in.clone()),
        };
        let subject = one_line(&subject, MAX_SUBJECT);
        let domain = sender.email.domain();
        let mut builder = Message::builder()
            .from(sender.clone())
            .subject(subject.as_str())
            .message_id(Some(format!("<{}@{domain}>", atom(&n.delivery_id))))
            .date(UNIX_EPOCH + Duration::from_millis(u64::try_from(n.at_ms).unwrap_or(0)))
            .raw_header(raw("Auto-Submitted", "auto-generated")?)
            .raw_header(raw(
                "X-Nightbell-Delivery",
                &one_line(&n.delivery_id, MAX_SUBJECT),
            )?);
        builder = to.iter().fold(builder, |b, mailbox| b.to(mailbox.clone()));
        if self.threading {
            let thread = self.thread(n);
            builder = builder.references(thread.clone()).in_reply_to(thread);
        }
        for (name, field) in &self.headers {
            if !name.eq_ignore_ascii_case("subject") {
                let text = rendering.text(Some(field), String::new);
                builder = builder.raw_header(raw(name, &one_line(&text, 900))?);
            }
        }
        let recipients = to.iter().map(|m| m.email.clone()).collect();
        let envelope = Envelope::new(Some(sender.email.clone()), recipients)
            .map_err(|_| malformed("there is no recipient"))?;
        let message = self.parts(n, style, &subject, rendering);
        let message = builder
            .envelope(envelope)
            .multipart(message)
            .map_err(|e| malformed(&format!("the mail cannot be made: {e}")))?;
        Ok((sender.email.clone(), message.formatted()))
    }

    fn parts(
        &self,
        n: &Notification,
        style: &Style,
        subject: &str,
        rendering: &mut Rendering<'_>,
    ) -> MultiPart {
        // `html: ''` and `text: ''` leave the part out.
        let written = |field: &Option<Field>| field.as_ref().is_none_or(|f| !f.is_empty());
        let (with_text, with_html) = (written(&self.text), written(&self.html));
        if let Some(report) = &n.report {
            return reported(report);
        }
        let text = rendering.text(self.text.as_ref(), || {
            format!("{subject}\n\n{}", body(n, style, &PLAIN, MAX_PART))
        });
        // A template that fails leaves its note behind: then the built-in document replaces it, and
        // tells.
        let before = rendering.notes().len();
        let own_html = self
            .html
            .as_ref()
            .map(|field| rendering.text(Some(field), String::new));
        let own_html = own_html.filter(|_| rendering.notes().len() == before);
        // An own document knows nothing of pictures.
        let pictures = if own_html.is_none() && with_html {
            pictures(n, style)
        } else {
            Vec::new()
        };
        let ids: Vec<&str> = pictures.iter().map(|(id, _)| id.as_str()).collect();
        let document =
            own_html.unwrap_or_else(|| html(n, style, subject, rendering.notes(), &ids, MAX_PART));
        let text = rendering.with_notes(text, MAX_PART);
        let parts = MultiPart::alternative().build();
        let parts = if with_text || !with_html {
            parts.singlepart(single(ContentType::TEXT_PLAIN, text))
        } else {
            parts
        };
        match (with_html, pictures.is_empty()) {
            (false, _) => parts,
            (true, true) => parts.singlepart(single(ContentType::TEXT_HTML, document)),
            (true, false) => {
                let related =
                    MultiPart::related().singlepart(single(ContentType::TEXT_HTML, document));
                let related =
                    pictures.into_iter().fold(
                        related,
                        |related, (id, png)| match ContentType::parse("image/png") {
                            Ok(kind) => {
                                related.singlepart(Attachment::new_inline(id).body(png, kind))
                            }
                            Err(_) => related,
                        },
                    );
                parts.multipart(related)
            }
        }
    }

    fn header(&self, name: &str) -> Option<&Field> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, field)| field)
    }

    /// One thread for each group (and day), named by the hash of the group key.
    fn thread(&self, n: &Notification) -> String {
        let hash = n.group_key_hash();
        let day = if self.thread_by_day {
            crate::model::Timestamp(n.at_ms).rfc3339()[..10].to_owned()
        } else {
            String::new()
        };
        format!("<alert-{}-{day}@nightbell>", &hash[..16])
    }
}

/// A report: its text, the same as HTML, and the page with its charts attached, because mail
/// programs show no drawings.
fn reported(report: &Report) -> MultiPart {
    let text =
        MultiPart::alternative().singlepart(single(ContentType::TEXT_PLAIN, report.text.clone()));
    let text = report.body.iter().fold(text, |text, body| {
        text.singlepart(single(ContentType::TEXT_HTML, body.clone()))
    });
    let page = report.page.as_ref().map(|page| {
        Attachment::new("report.html".to_owned()).body(page.clone(), ContentType::TEXT_HTML)
    });
    match page {
        Some(page) => MultiPart::mixed().multipart(text).singlepart(page),
        None => text,
    }
}

fn single(kind: ContentType, text: String) -> SinglePart {
    SinglePart::builder().header(kind).body(text)
}

/// `headers`: names that differ only in case are a mistake, as in Alertmanager.
fn headers(section: &Section<'_>) -> Vec<(String, Field)> {
    let written: std::collections::BTreeMap<String, String> =
        section.get("headers").unwrap_or_default();
    let mut out: Vec<(String, Field)> = Vec::with_capacity(written.len());
    for (name, text) in written {
        if out
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(&name))
        {
            section.error(
                "headers",
                format!("{name:?} stands there twice"),
                "header names do not differ by case: keep one",
            );
        } else if !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') || name.is_empty() {
            section.error(
                "headers",
                format!("{name:?} is not a header name"),
                "use letters, digits and -",
            );
        } else {
            out.push((name, Field::new(section, "headers", text)));
        }
    }
    out
}

/// A comma-separated list of addresses.
pub(super) fn mailboxes(key: &str, text: &str) -> Result<Vec<Mailbox>, NotifyError> {
    let list = addresses::parse(text)
        .map_err(|_| malformed(&format!("{key} is not a list of addresses")))?;
    if list.is_empty() {
        Err(malformed(&format!("{key} is empty")))
    } else {
        Ok(list)
    }
}

fn raw(name: &str, value: &str) -> Result<HeaderValue, NotifyError> {
    let name = HeaderName::new_from_ascii(name.to_owned())
        .map_err(|_| malformed("headers: not a header name"))?;
    Ok(HeaderValue::new(name, value.to_owned()))
}

/// A header must not end early: line breaks become spaces.
fn one_line(text: &str, limit: usize) -> String {
    let line = text
        .split(['\r', '\n'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    crate::notify::message::cut_chars(&line, limit).into_owned()
}

/// What may stand in a Message-ID.
fn atom(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '-'
            }
        })
        .collect()
}

fn malformed(text: &str) -> NotifyError {
    NotifyError::permanent(Reason::Rejected, text)
}
