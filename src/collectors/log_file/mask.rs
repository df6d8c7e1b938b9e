//! What may be kept of a line: secrets are masked before anything else, and for the type of an
//! error whatever differs from one to the next is replaced.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A type is no longer, in characters.
const MAX_TYPE: usize = 80;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a fixed pattern is valid")
}

static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)(?P<key>\b(?:sk|pk|rk|ghp|gho|ghs|glpat|xox[a-z])[-_][A-Za-z0-9_-]{8,})",
        r"|(?P<jwt>\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+)",
        r"|(?P<bearer>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}",
        r"|(?P<user>://[^\s:/@]*:)[^\s@/]+@",
        r#"|(?P<named>\b[\w.-]*(?:password|passwd|pwd|secret|token|api[_-]?key|authorization|credential)[\w-]*["']?\s*[:=]\s*)(?:(?:Bearer|Basic|Digest|Token)\s+)?(?:"[^"]*"|'[^']*'|[^\s,;&"'}]+)"#,
        r"|(?P<mail>\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\b)",
        r"|(?P<aws>\b(?:AKIA|ASIA)[A-Z0-9]{16}\b)",
    ))
});

static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r#"(?P<quoted>"[^"]*"|'[^']*'|`[^`]*`)"#,
        r"|(?P<url>\b[a-z][a-z0-9+.-]*://\S+)",
        r"|(?P<path>(?:/[\w.@%+=~-]+){2,}/?|/[\w.-]+/)",
        r"|(?P<id>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)",
        r"|(?P<hex>\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]{7,}\b)",
        r"|(?P<number>[0-9]+(?:[.,:][0-9]+)*)",
    ))
});

/// The text with secrets replaced by `***`: keys, bearer tokens, passwords in URLs and after their
/// names, e-mail addresses.
pub fn masked(text: &str) -> String {
    SECRETS
        .replace_all(text, |found: &Captures<'_>| {
            let kept = |name| found.name(name).map(|m| m.as_str());
            match (kept("bearer").or(kept("named")), kept("user")) {
                (Some(before), _) => format!("{before}***"),
                (None, Some(before)) => format!("{before}***@"),
                (None, None) => "***".to_owned(),
            }
        })
        .into_owned()
}

/// What an error is, without what differs from one to the next: quoted text, addresses, paths, ids
/// and numbers become signs.
pub fn type_of(text: &str) -> String {
    let plain = masked(
        text.get(..text.floor_char_boundary(1000))
            .unwrap_or_default(),
    );
    let plain = VARIABLE.replace_all(&plain, |found: &Captures<'_>| {
        let is = |name| found.name(name).is_some();
        match () {
            // A word such as "defaced".
            () if is("hex") && !found[0].bytes().any(|byte| byte.is_ascii_digit()) => {
                found[0].to_owned()
            }
            () if is("quoted") => "<text>".to_owned(),
            () if is("url") => "<url>".to_owned(),
            () if is("path") => "<path>".to_owned(),
            () if is("id") || found[0].bytes().any(|byte| byte.is_ascii_alphabetic()) => {
                "<id>".to_owned()
            }
            () => "<n>".to_owned(),
        }
    });
    let mut words = String::new();
    for word in plain.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word.chars().filter(|c| !c.is_control()));
    }
    let words = words.trim_matches(|c: char| "-:|]) ".contains(c));
    let mut kind: String = words.chars().take(MAX_TYPE).collect();
    if kind.is_empty() {
        kind.push_str("none");
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        for (text, want) in [
            ("key sk-abcDEF1234567890 used", "key *** used"),
            ("Authorization: Bearer abc.def-123", "Authorization: ***"),
            ("sent Bearer abcdef123456", "sent Bearer ***"),
            ("postgres://user:hunter2@db/x", "postgres://user:***@db/x"),
            ("mail to ann.b@example.org failed", "mail to *** failed"),
            ("password=hunter2, x", "password=***, x"),
            (
                "proxy_authorization = Basic dTpw, x",
                "proxy_authorization = ***, x",
            ),
            (
                r#"{"api_key": "abc", "n": 1}"#,
                r#"{"api_key": ***, "n": 1}"#,
            ),
            ("nothing secret", "nothing secret"),
        ] {
            let got = masked(text);
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn errors_that_differ_in_ids_numbers_paths_and_quotes_are_one_type() {
        let kinds = [
            "user 17 not found in /srv/app/data.db",
            "user 123456 not found in /srv/b/c.db",
        ]
        .map(type_of);
        assert_eq!(
            kinds,
            ["user <n> not found in <path>"; 2].map(str::to_owned)
        );
        assert_eq!(
            type_of(" - app - request 3f2b8c1d-0000-4000-8000-1234567890ab failed: 'x y'"),
            "app - request <id> failed: <text>"
        );
        assert_eq!(type_of("commit deadbeef99 at 0xff"), "commit <id> at <id>");
        assert_eq!(type_of("page 12345678 defaced"), "page <n> defaced");
        assert_eq!(
            (type_of(""), type_of(&"é".repeat(5000)).chars().count()),
            ("none".into(), 80)
        );
    }
}
