//! Words in title case, as `title` writes them (Unicode's default word breaks, SEMANTICS 132).

/// The first letter of each word in upper case, the others in lower case where `lower` says so:
/// Alertmanager does, Prometheus does not.
pub(in crate::template) fn title(words: &str, lower: bool) -> String {
    let chars: Vec<char> = words.chars().collect();
    let mut out = String::with_capacity(words.len());
    let mut inside = false;
    for (at, &c) in chars.iter().enumerate() {
        if c.is_alphabetic() {
            match (inside, lower) {
                (true, true) => out.extend(c.to_lowercase()),
                (true, false) => out.push(c),
                (false, _) => out.extend(c.to_uppercase()),
            }
            inside = true;
        } else {
            out.push(c);
            let letters_around = at > 0
                && chars[at - 1].is_alphabetic()
                && chars.get(at + 1).is_some_and(|c| c.is_alphabetic());
            // These stand inside words: "don't", "node.js", "a:b", "snake_case", "x2y".
            inside &= (letters_around && matches!(c, '\'' | '.' | ':' | '\u{b7}' | '\u{2019}'))
                || c == '_'
                || c.is_numeric();
        }
    }
    out
}
