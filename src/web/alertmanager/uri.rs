//! What Alertmanager takes for a URI (`generatorURL`): what Go's `url.ParseRequestURI` reads, an
//! absolute URL or a path from the root.

/// Characters, beside letters and digits, that may stand in a host.
const HOST: &str = "-_.~!$&'()*+,;=:[]<>\"";
/// The same of a name and a password before it.
const USER: &str = "-._:~!$&'()*+,;=%@";

/// Whether Go reads it.
pub fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    let Some((scheme, rest)) = scheme(text) else {
        return false;
    };
    let rest = rest.split('?').next().unwrap_or_default();
    if text == "*" || !rest.starts_with('/') {
        return text == "*" || !scheme.is_empty();
    }
    let (authority, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
        Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
        None => ("", rest),
    };
    is_authority(authority) && is_escaped(path)
}

/// The scheme, empty where there is none, and what follows it; `None` where a colon comes first.
fn scheme(text: &str) -> Option<(&str, &str)> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' => return (at > 0).then(|| (&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Some(("", text))
}

fn is_authority(authority: &str) -> bool {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user_is_fine = is_escaped(user)
        && user
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || USER.contains(c));
    let port = match host.strip_prefix('[') {
        Some(inside) => match inside.rfind(']') {
            Some(end) => &inside[end + 1..],
            None => return false,
        },
        None => host.rfind(':').map_or("", |colon| &host[colon..]),
    };
    let port_is_fine = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let name = &host[..host.len() - port.len()];
    user_is_fine
        && port_is_fine
        && is_escaped(name)
        && name
            .chars()
            .all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || c == '%' || HOST.contains(c))
}

/// Whether every `%` is followed by two hexadecimal digits.
fn is_escaped(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|part| part.len() >= 2 && part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::is_request_uri;

    /// What Alertmanager answers, as of 0.33.1.
    #[test]
    fn what_alertmanager_takes_is_taken() {
        for taken in [
            "http://x/graph",
            "/relative",
            "http://",
            "mailto:a@b",
            "http://x/{}",
            "x://y",
            "http:x",
            "urn:a",
            "http://x:99999/",
            "//h/p",
            "http://例子/",
            "http://x/ y",
        ] {
            assert!(is_request_uri(taken), "{taken}");
        }
        for refused in [
            "not a url",
            "foo",
            "::",
            "http://a b",
            "%zz",
            "http://[::1",
            "http://x/%zz",
            "?q=1",
            "#f",
            "a b:c",
            ":x",
            "1http://x",
            "http://x:y/",
        ] {
            assert!(!is_request_uri(refused), "{refused}");
        }
    }
}
