//! A list of addresses as RFC 5322 writes it, groups, comments, quoted and encoded names included,
//! the way Go's `mail.ParseAddressList` reads it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lettre::Address;
use lettre::message::Mailbox;

/// Reads a list; errs with the piece that is no address.
pub(super) fn parse(text: &str) -> Result<Vec<Mailbox>, String> {
    let mut out = Vec::new();
    for piece in pieces(text) {
        let piece = piece.trim();
        if !piece.is_empty() {
            out.push(mailbox(piece).ok_or_else(|| piece.to_owned())?);
        }
    }
    Ok(out)
}

/// What stands between commas (and around groups), without comments; commas in quotes and in angle
/// brackets part nothing.
fn pieces(text: &str) -> Vec<String> {
    let (mut out, mut piece) = (Vec::new(), String::new());
    let (mut quoted, mut angle, mut comments, mut literal) = (false, false, 0_u32, false);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if quoted => {
                piece.push(c);
                piece.extend(characters.next());
                continue;
            }
            '"' if comments == 0 => quoted = !quoted,
            _ if quoted => {}
            '(' => comments += 1,
            ')' if comments > 0 => {
                comments -= 1;
                continue;
            }
            _ if comments > 0 => {}
            '<' => angle = true,
            '>' => angle = false,
            '[' => literal = true,
            ']' => literal = false,
            // The name of a group says nothing to a server.
            ':' if !angle && !literal => {
                piece.clear();
                continue;
            }
            ',' | ';' if !angle => {
                out.push(std::mem::take(&mut piece));
                continue;
            }
            _ => {}
        }
        if comments == 0 {
            piece.push(c);
        }
    }
    out.push(piece);
    out
}

fn mailbox(piece: &str) -> Option<Mailbox> {
    let (name, address) = match piece
        .strip_suffix('>')
        .and_then(|piece| piece.rsplit_once('<'))
    {
        Some((name, address)) => (
            Some(name.trim()).filter(|name| !name.is_empty()),
            address.trim(),
        ),
        None => (None, piece),
    };
    let (user, domain) = address.rsplit_once('@')?;
    let domain = &*ascii(domain)?;
    let address = Address::new(user, domain)
        .or_else(|_| Address::new(user.trim_matches('"'), domain))
        .ok()?;
    Some(Mailbox::new(name.map(shown), address))
}

/// A domain as it stands in DNS and in SMTP (IDNA): servers without SMTPUTF8 know no other form.
fn ascii(domain: &str) -> Option<Cow<'_, str>> {
    if domain.is_ascii() {
        return Some(Cow::Borrowed(domain));
    }
    match url::Host::parse(domain).ok()? {
        url::Host::Domain(domain) => Some(Cow::Owned(domain)),
        _ => None,
    }
}

/// A name without its quotes, decoded where it is encoded: the mail encodes it as it needs.
fn shown(name: &str) -> String {
    let bare = match name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
    {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => name.to_owned(),
    };
    let words: Option<Vec<String>> = bare.split_whitespace().map(decoded).collect();
    // Encoded words are parted by blanks that mean nothing.
    words
        .filter(|words| !words.is_empty())
        .map_or(bare, |words| words.concat())
}

/// One encoded word (RFC 2047) in UTF-8.
fn decoded(word: &str) -> Option<String> {
    let inner = word.strip_prefix("=?")?.strip_suffix("?=")?;
    let mut parts = inner.splitn(3, '?');
    let (charset, encoding, text) = (parts.next()?, parts.next()?, parts.next()?);
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => BASE64_STANDARD.decode(text).ok()?,
        "Q" | "q" => quoted_printable(text)?,
        _ => return None,
    };
    String::from_utf8(bytes).ok()
}

fn quoted_printable(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'_' => b' ',
            b'=' => {
                let hex = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_with_names_groups_comments_and_encoded_words() {
        for (text, wanted) in [
            (
                "a@lab.test, B <b@lab.test>",
                vec![(None, "a@lab.test"), (Some("B"), "b@lab.test")],
            ),
            (
                "\"Doe, John\" <john@lab.test>",
                vec![(Some("Doe, John"), "john@lab.test")],
            ),
            (
                "Team: a@lab.test, b@lab.test;",
                vec![(None, "a@lab.test"), (None, "b@lab.test")],
            ),
            (
                "ops@lab.test (on call, nights)",
                vec![(None, "ops@lab.test")],
            ),
            (
                "ops@bücher.test, Ö <ops@例え.テスト>",
                vec![
                    (None, "ops@xn--bcher-kva.test"),
                    (Some("Ö"), "ops@xn--r8jz45g.xn--zckzah"),
                ],
            ),
            (
                "jürgen@Bücher.test",
                vec![(None, "jürgen@xn--bcher-kva.test")],
            ),
            ("\"a b\"@lab.test", vec![(None, "\"a b\"@lab.test")]),
            ("ops@[127.0.0.1]", vec![(None, "ops@[127.0.0.1]")]),
            (
                "=?utf-8?B?5byg5LiJ?= <z@lab.test>",
                vec![(Some("张三"), "z@lab.test")],
            ),
            (
                "=?UTF-8?q?a_=E5=BC=A0?= <z@lab.test>,",
                vec![(Some("a 张"), "z@lab.test")],
            ),
        ] {
            let list = parse(text).unwrap_or_else(|piece| panic!("{text}: {piece}"));
            let got: Vec<(Option<&str>, String)> = list
                .iter()
                .map(|m| (m.name.as_deref(), m.email.to_string()))
                .collect();
            let wanted: Vec<(Option<&str>, String)> = wanted
                .into_iter()
                .map(|(name, email)| (name, email.to_owned()))
                .collect();
            assert_eq!(got, wanted, "{text}");
        }
        assert_eq!(parse("nobody, a@b.c"), Err("nobody".into()));
        assert_eq!(parse("ops@bü cher.test"), Err("ops@bü cher.test".into()));
    }
}
