//! Regular expressions as Prometheus and Alertmanager write them: RE2 in Go's spelling
//! (<https://github.com/google/re2/wiki/Syntax>).
//!
//! A pattern is checked by Go's rules, with Go's words for a refusal, and rewritten for the `regex`
//! crate so that it means the same: `\d`, `\s`, `\w` and `\b` are ASCII, `\Q…\E` and octal escapes
//! are spelled out, a bracket inside a class is only a bracket. Unicode class names are left to the
//! crate, which knows a few more than Go.

use std::collections::HashSet;

/// Go's limit for counted repetition, and for the product of nested ones.
const MAX_REPEAT: u64 = 1_000;
/// Go's limit for nesting.
const MAX_DEPTH: usize = 1_000;

/// Why a pattern is none, in Go's words: ``missing closing ): `(` ``.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}: `{fragment}`")]
pub struct PatternError {
    /// What is wrong.
    pub reason: &'static str,
    /// The part of the pattern that it is about.
    pub fragment: String,
}

/// The pattern in the dialect of the `regex` crate.
///
/// # Errors
/// What Go's `regexp` refuses.
pub fn translate(pattern: &str) -> Result<String, PatternError> {
    let mut translator = Translator {
        whole: pattern,
        rest: pattern,
        out: String::with_capacity(pattern.len() + 8),
        ..Translator::default()
    };
    translator.run()?;
    Ok(translator.out)
}

#[derive(Default)]
struct Translator<'a> {
    whole: &'a str,
    rest: &'a str,
    out: String,
    /// Whether something stands before that could be repeated, and the product of the counts inside
    /// it.
    atom: Option<u64>,
    /// The greatest such product of the current group.
    heaviest: u64,
    /// For each open group: the heaviest product around it.
    groups: Vec<u64>,
    names: HashSet<&'a str>,
}

fn refuse<T>(reason: &'static str, fragment: &str) -> Result<T, PatternError> {
    Err(PatternError {
        reason,
        fragment: fragment.to_owned(),
    })
}

/// The part of `from` before `to`, one of its tails.
fn between<'a>(from: &'a str, to: &str) -> &'a str {
    &from[..from.len() - to.len()]
}

impl<'a> Translator<'a> {
    fn run(&mut self) -> Result<(), PatternError> {
        let mut last_repeat: Option<&'a str> = None;
        while let Some(c) = self.rest.chars().next() {
            let before = self.rest;
            let mut repeated = None;
            match c {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.bump();
                    self.out.push('|');
                    self.atom = None;
                }
                '[' => self.class()?,
                '\\' => self.escape()?,
                '*' | '+' | '?' => {
                    self.bump();
                    self.repeat(before, last_repeat, &c.to_string(), None)?;
                    repeated = Some(before);
                }
                '{' => match counts(before) {
                    Some((text, min, max)) => {
                        self.rest = &before[text.len()..];
                        let valid =
                            min <= MAX_REPEAT && max.is_none_or(|m| m <= MAX_REPEAT && min <= m);
                        if !valid {
                            return refuse("invalid repeat count", text);
                        }
                        self.repeat(before, last_repeat, text, Some((min, max)))?;
                        repeated = Some(before);
                    }
                    None => self.literal(),
                },
                '^' | '$' | '.' => {
                    self.bump();
                    self.out.push(c);
                    self.atom(1);
                }
                _ => self.literal(),
            }
            last_repeat = repeated;
        }
        if self.groups.is_empty() {
            Ok(())
        } else {
            refuse("missing closing )", self.whole)
        }
    }

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    fn atom(&mut self, weight: u64) {
        self.atom = Some(weight);
        self.heaviest = self.heaviest.max(weight);
    }

    fn literal(&mut self) {
        if let Some(c) = self.bump() {
            push_literal(&mut self.out, c);
            self.atom(1);
        }
    }

    fn repeat(
        &mut self,
        before: &'a str,
        last: Option<&'a str>,
        text: &str,
        counts: Option<(u64, Option<u64>)>,
    ) -> Result<(), PatternError> {
        let lazy = self.rest.starts_with('?');
        if lazy {
            self.bump();
        }
        if let Some(last) = last {
            return refuse(
                "invalid nested repetition operator",
                between(last, self.rest),
            );
        }
        let fragment = between(before, self.rest);
        let Some(inner) = self.atom else {
            return refuse("missing argument to repetition operator", fragment);
        };
        if let Some((min, max)) = counts {
            let count = max.unwrap_or(min).max(1);
            if count >= 2 && count * inner > MAX_REPEAT {
                return refuse("invalid repeat count", fragment);
            }
            self.atom(inner * count);
        }
        self.out.push_str(text);
        if lazy {
            self.out.push('?');
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), PatternError> {
        if self.groups.len() >= MAX_DEPTH {
            return refuse("expression nests too deeply", self.whole);
        }
        if self.rest.starts_with("(?") {
            return self.perl_group();
        }
        self.bump();
        self.out.push('(');
        self.enter();
        Ok(())
    }

    fn enter(&mut self) {
        self.groups.push(self.heaviest);
        (self.heaviest, self.atom) = (1, None);
    }

    fn close(&mut self) -> Result<(), PatternError> {
        let Some(outer) = self.groups.pop() else {
            return refuse("unexpected )", self.whole);
        };
        self.bump();
        self.out.push(')');
        let inner = self.heaviest;
        self.heaviest = outer;
        self.atom(inner);
        Ok(())
    }

    /// `(?P<name>`, `(?<name>`, `(?flags)`, `(?flags:`.
    fn perl_group(&mut self) -> Result<(), PatternError> {
        let start = self.rest;
        if let Some(named) = start
            .strip_prefix("(?P<")
            .or_else(|| start.strip_prefix("(?<"))
        {
            let Some((name, rest)) = named.split_once('>') else {
                return refuse("invalid named capture", start);
            };
            if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
                return refuse("invalid named capture", between(start, rest));
            }
            self.rest = rest;
            // The crate knows neither repeated names nor names that begin with a digit.
            let usable = !name.starts_with(|c: char| c.is_ascii_digit()) && self.names.insert(name);
            self.out.push_str(&if usable {
                format!("(?P<{name}>")
            } else {
                "(".into()
            });
            self.enter();
            return Ok(());
        }
        self.rest = &start[2..];
        let (mut negative, mut flags_since_sign) = (false, false);
        loop {
            match self.bump() {
                Some('i' | 'm' | 's' | 'U') => flags_since_sign = true,
                Some('-') if !negative => (negative, flags_since_sign) = (true, false),
                Some(end @ (':' | ')')) if !negative || flags_since_sign => {
                    self.out.push_str(&self.flags(between(start, self.rest)));
                    if end == ':' {
                        self.enter();
                    }
                    return Ok(());
                }
                _ => {
                    return refuse(
                        "invalid or unsupported Perl syntax",
                        between(start, self.rest),
                    );
                }
            }
        }
    }

    /// The text of a flag group; the crate refuses repeated flags and an empty `(?)`.
    fn flags(&self, text: &str) -> String {
        let (body, end) = text[2..].split_at(text.len() - 3);
        let (on, off) = body.split_once('-').unwrap_or((body, ""));
        let off: String = unique(off);
        let on: String = unique(on).chars().filter(|c| !off.contains(*c)).collect();
        match (on.is_empty(), off.is_empty(), end) {
            (true, true, ")") => String::new(),
            (_, true, _) => format!("(?{on}{end}"),
            _ => format!("(?{on}-{off}{end}"),
        }
    }

    fn escape(&mut self) -> Result<(), PatternError> {
        let start = self.rest;
        let mut chars = start[1..].chars();
        match chars.next() {
            Some(c @ ('A' | 'B' | 'z')) => self.keep(2, &format!("\\{c}")),
            Some('b') => self.keep(2, "(?-u:\\b)"),
            Some('C') => return refuse("invalid escape sequence", "\\C"),
            Some('Q') => {
                let quoted = &start[2..];
                let (text, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                self.rest = rest;
                for c in text.chars() {
                    push_literal(&mut self.out, c);
                    self.atom(1);
                }
            }
            Some('p' | 'P') => {
                let class = self.unicode_class()?;
                self.out.push_str(&class);
                self.atom(1);
            }
            Some(c) if perl_class(c).is_some() => {
                let (negated, body) = perl_class(c).unwrap_or_default();
                self.keep(2, &format!("[{}{body}]", if negated { "^" } else { "" }));
            }
            _ => {
                let c = self.escaped_char()?;
                push_literal(&mut self.out, c);
                self.atom(1);
            }
        }
        Ok(())
    }

    fn keep(&mut self, length: usize, text: &str) {
        self.rest = &self.rest[length..];
        self.out.push_str(text);
        self.atom(1);
    }

    /// `\pL`, `\p{Greek}`, `\P{^Greek}`.
    fn unicode_class(&mut self) -> Result<String, PatternError> {
        let start = self.rest;
        let mut negated = start.starts_with("\\P");
        self.rest = &start[2..];
        let name = match self.bump() {
            Some('{') => {
                let Some((name, rest)) = self.rest.split_once('}') else {
                    return refuse("invalid character class range", start);
                };
                self.rest = rest;
                name
            }
            Some(c) => &start[2..2 + c.len_utf8()],
            None => return refuse("invalid escape sequence", start),
        };
        let bare = name.strip_prefix('^');
        negated ^= bare.is_some();
        let name = bare.unwrap_or(name);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') {
            return refuse("invalid character class range", between(start, self.rest));
        }
        let class = format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' });
        match regex::Regex::new(&class) {
            Ok(_) => Ok(class),
            Err(_) => refuse("invalid character class range", between(start, self.rest)),
        }
    }

    /// The character that an escape stands for.
    fn escaped_char(&mut self) -> Result<char, PatternError> {
        let start = self.rest;
        self.bump();
        let Some(c) = self.bump() else {
            return refuse("trailing backslash at end of expression", "");
        };
        let invalid = |rest: &str| refuse("invalid escape sequence", between(start, rest));
        match c {
            'a' => Ok('\u{7}'),
            'f' => Ok('\u{c}'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\u{b}'),
            // A single digit other than zero would be a back reference.
            '1'..='7' if !self.rest.starts_with(|d: char| d.is_digit(8)) => invalid(self.rest),
            '0'..='7' => {
                let mut code = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|d| d.to_digit(8)) else {
                        break;
                    };
                    code = code * 8 + digit;
                    self.bump();
                }
                char::from_u32(code).map_or_else(|| invalid(self.rest), Ok)
            }
            'x' => self.hex_char(start),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            _ => invalid(self.rest),
        }
    }

    fn hex_char(&mut self, start: &'a str) -> Result<char, PatternError> {
        let digits = match self.rest.strip_prefix('{') {
            Some(braced) => {
                let length = braced.len()
                    - braced
                        .trim_start_matches(|c: char| c.is_ascii_hexdigit())
                        .len();
                let too_large = |n: &usize| {
                    u32::from_str_radix(&braced[..*n], 16).map_or(true, |code| code > 0x10_ffff)
                };
                if let Some(n) = (1..=length).find(too_large) {
                    return refuse("invalid escape sequence", between(start, &braced[n..]));
                }
                let (digits, rest) = braced.split_at(length);
                self.rest = rest;
                if self.bump() != Some('}') {
                    return refuse("invalid escape sequence", between(start, self.rest));
                }
                digits
            }
            None => {
                let digits = self.rest.get(..2).unwrap_or("");
                if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    self.bump();
                    return refuse("invalid escape sequence", between(start, self.rest));
                }
                self.rest = &self.rest[2..];
                digits
            }
        };
        let code = u32::from_str_radix(digits, 16)
            .ok()
            .and_then(char::from_u32);
        code.map_or_else(
            || refuse("invalid escape sequence", between(start, self.rest)),
            Ok,
        )
    }

    fn class(&mut self) -> Result<(), PatternError> {
        let start = self.rest;
        self.bump();
        self.out.push('[');
        if self.rest.starts_with('^') {
            self.bump();
            self.out.push('^');
        }
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            if self.posix_class()? {
                continue;
            }
            match self.rest.as_bytes() {
                [b'\\', b'p' | b'P', ..] => {
                    let class = self.unicode_class()?;
                    self.out.push_str(&class);
                }
                [b'\\', letter, ..] if perl_class(char::from(*letter)).is_some() => {
                    let (negated, body) = perl_class(char::from(*letter)).unwrap_or_default();
                    self.out.push_str(&if negated {
                        format!("[^{body}]")
                    } else {
                        body.into()
                    });
                    self.rest = &self.rest[2..];
                }
                _ => self.class_range(start)?,
            }
        }
        self.bump();
        self.out.push(']');
        self.atom(1);
        Ok(())
    }

    /// `[:alpha:]` inside a class.
    fn posix_class(&mut self) -> Result<bool, PatternError> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        let Some((name, rest)) = self
            .rest
            .strip_prefix("[:")
            .and_then(|r| r.split_once(":]"))
        else {
            return Ok(false);
        };
        let text = between(self.rest, rest);
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return refuse("invalid character class range", text);
        }
        self.out.push_str(text);
        self.rest = rest;
        Ok(true)
    }

    fn class_range(&mut self, class: &'a str) -> Result<(), PatternError> {
        let start = self.rest;
        let low = self.class_char(class)?;
        push_class_char(&mut self.out, low);
        if self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
            self.bump();
            let high = self.class_char(class)?;
            if high < low {
                return refuse("invalid character class range", between(start, self.rest));
            }
            self.out.push('-');
            push_class_char(&mut self.out, high);
        }
        Ok(())
    }

    fn class_char(&mut self, class: &str) -> Result<char, PatternError> {
        if self.rest.starts_with('\\') {
            return self.escaped_char();
        }
        self.bump()
            .map_or_else(|| refuse("missing closing ]", class), Ok)
    }
}

/// `{n}`, `{n,}` or `{n,m}` at the start of `text`; anything else is a plain brace. A count too
/// large to hold is too large to allow.
fn counts(text: &str) -> Option<(&str, u64, Option<u64>)> {
    let body = text.get(1..)?;
    let end = body.find('}')?;
    let inner = &body[..end];
    let number = |digits: &str| -> Option<u64> {
        let plain = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && (digits.len() == 1 || !digits.starts_with('0'));
        plain.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let whole = &text[..end + 2];
    match inner.split_once(',') {
        None => number(inner).map(|n| (whole, n, Some(n))),
        Some((min, "")) => number(min).map(|n| (whole, n, None)),
        Some((min, max)) => Some((whole, number(min)?, Some(number(max)?))),
    }
}

/// Whether the class is negated, and what is in it.
fn perl_class(letter: char) -> Option<(bool, &'static str)> {
    Some(match letter {
        'd' | 'D' => (letter == 'D', "0-9"),
        's' | 'S' => (letter == 'S', "\\t\\n\\x0C\\r "),
        'w' | 'W' => (letter == 'W', "0-9A-Za-z_"),
        _ => return None,
    })
}

fn unique(flags: &str) -> String {
    let mut out = String::new();
    flags.chars().for_each(|c| {
        if !out.contains(c) {
            out.push(c);
        }
    });
    out
}

fn push_literal(out: &mut String, c: char) {
    if "\\.+*?()|[]{}^$".contains(c) {
        out.push('\\');
    }
    out.push(c);
}

fn push_class_char(out: &mut String, c: char) {
    if c.is_alphanumeric() {
        out.push(c)
    } else {
        out.push_str(&format!("\\x{{{:X}}}", c as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        let translated = translate(pattern).expect("valid in Go");
        regex::Regex::new(&format!("^(?s:{translated})$"))
            .expect("valid after translation")
            .is_match(text)
    }

    /// SEMANTICS 49: the dialect is RE2's.
    #[test]
    fn what_go_accepts_means_the_same() {
        for (pattern, yes, no) in [
            (r"\Qa.b\E+", "a.bbb", "axb"),
            (r"\d+", "12", "١٢"),
            (r"[[a]+", "[a[", "b"),
            (r"[a&&b]+", "a&b", "c"),
            (r"\141\x{62}\x63", "abc", "abd"),
            (r"a{,2}", "a{,2}", "aa"),
            (r"\<x\>", "<x>", "x"),
            (r"(?i)AB", "ab", "ac"),
            (r"[^\d\n]", "x", "5"),
            (r"(?P<n>a)(?P<n>b)", "ab", "ba"),
            (r"[]a]+", "]a", "b"),
            (r"\p{^Greek}", "a", "α"),
            (r"a|", "", "b"),
            (r"[\w-]+", "a-b", "a b"),
            (r"x*?y??", "xx", "z"),
            ("[[:^alpha:]x]", "1", "b"),
        ] {
            assert!(matches(pattern, yes), "{pattern} should match {yes}");
            assert!(!matches(pattern, no), "{pattern} should not match {no}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, reason) in [
            ("a++", "invalid nested repetition operator: `++`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("x{1001}", "invalid repeat count: `{1001}`"),
            ("(a{500}){500}", "invalid repeat count: `{500}`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("(a", "missing closing ): `(a`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            (r"\8", r"invalid escape sequence: `\8`"),
            (r"\", "trailing backslash at end of expression: ``"),
        ] {
            let error = translate(pattern).expect_err(pattern);
            assert_eq!(error.to_string(), reason);
        }
    }
}
