//! Texts within a limit: cut on a character boundary, with a count of what was cut.

use super::words::Words;
use std::borrow::Cow;

use crate::model::Language;

/// `text` in at most `limit` bytes of UTF-8. A cut text ends with how many characters are missing
/// (where even that does not fit, it just ends).
pub(crate) fn cut_bytes(text: &str, limit: usize, language: Language) -> Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    let total = text.chars().count();
    // The note is longest when everything is cut, so this much always suffices.
    let room = limit.saturating_sub(Words::of(language).more_characters(total).len());
    let kept = floor_boundary(text, room);
    let note = Words::of(language).more_characters(total - text[..kept].chars().count());
    if kept + note.len() <= limit {
        return format!("{}{note}", &text[..kept]).into();
    }
    text[..floor_boundary(text, limit)].into()
}

/// `text` in at most `limit` characters, the last one `…` where it was cut (Alertmanager's way with
/// titles).
pub(crate) fn cut_chars(text: &str, limit: usize) -> Cow<'_, str> {
    match text.char_indices().nth(limit) {
        None => text.into(),
        Some(_) => {
            let kept = text
                .char_indices()
                .nth(limit.saturating_sub(1))
                .map_or(0, |(at, _)| at);
            format!("{}…", &text[..kept]).into()
        }
    }
}

/// The length of a text as Telegram counts it: an emoji is two. Never less than its characters.
pub(crate) fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// `text` in at most `limit` [`units`]; a cut text ends with how many characters are missing.
pub(crate) fn cut_text(text: &str, limit: usize, language: Language) -> Cow<'_, str> {
    if units(text) <= limit {
        return text.into();
    }
    let total = text.chars().count();
    let beginning = |room: usize| {
        let mut used = 0;
        text.chars().take_while(move |c| {
            used += c.len_utf16();
            used <= room
        })
    };
    // The note is longest when everything is cut, so this much always suffices.
    let room = limit.saturating_sub(units(&Words::of(language).more_characters(total)));
    let note = Words::of(language).more_characters(total - beginning(room).count());
    beginning(room)
        .chain(note.chars())
        .take(limit)
        .collect::<String>()
        .into()
}

/// Head, as many whole entries as fit, a note on the others, tail: in at most `limit` bytes.
/// An entry that is too large alone is cut, so that something of the first one is always seen.
pub(super) fn fit(
    head: &str,
    entries: &[String],
    tail: &str,
    limit: usize,
    language: Language,
) -> String {
    let whole = head.len() + entries.iter().map(String::len).sum::<usize>() + tail.len();
    if whole <= limit {
        return [head, &entries.concat(), tail].concat();
    }
    let note = |count: usize| {
        if count == 0 {
            String::new()
        } else {
            format!("{}\n", Words::of(language).more_alerts(count))
        }
    };
    let reserved = head.len() + tail.len() + note(entries.len()).len();
    let mut room = limit.saturating_sub(reserved);
    let mut shown = Vec::new();
    for entry in entries {
        if entry.len() > room {
            break;
        }
        room -= entry.len();
        shown.push(entry.as_str());
    }
    let first;
    if shown.is_empty()
        && let Some(entry) = entries.first()
    {
        first = format!("{}\n", cut_bytes(entry, room.saturating_sub(1), language));
        shown.push(&first);
    }
    let text = [
        head,
        &shown.concat(),
        &note(entries.len() - shown.len()),
        tail,
    ]
    .concat();
    // Only a limit smaller than head and tail gets here too large.
    cut_bytes(&text, limit, language).into_owned()
}

/// Head, as many whole entries as leave room to name the others (`named` from the first of them),
/// tail; `None` where `limit` bytes do not even hold the names.
pub(super) fn fit_named(
    head: &str,
    entries: &[String],
    tail: &str,
    limit: usize,
    named: impl Fn(usize) -> String,
) -> Option<String> {
    let room = limit.checked_sub(head.len() + tail.len())?;
    let mut used = 0;
    let mut ends = entries.iter().map(|entry| {
        used += entry.len();
        used
    });
    let whole = ends.position(|end| end > room).unwrap_or(entries.len());
    let fits = |shown: &usize| {
        entries[..*shown].iter().map(String::len).sum::<usize>() + named(*shown).len() <= room
    };
    let shown = (0..=whole).rev().find(fits)?;
    Some([head, &entries[..shown].concat(), &named(shown), tail].concat())
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
