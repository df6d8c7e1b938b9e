//! Finds chosen fields in a line of JSON without building what is not asked for. It trusts the
//! line: what is not JSON yields no field, or one that is there.

use memchr::memchr2;

/// Fields that are looked for: at most [`Paths::MAX`], each a path of keys with dots between them.
#[derive(Clone, Debug, Default)]
pub struct Paths(Vec<(String, Vec<String>)>);

/// A value as it is written: a text without its quotes and with its escapes, or anything else
/// whole.
pub type Raw<'a> = Option<&'a [u8]>;

impl Paths {
    /// How many fields there may be.
    pub const MAX: usize = 32;

    /// The number of the field `path`, which is added when it is new. `None` when there are too
    /// many.
    pub fn add(&mut self, path: &str) -> Option<usize> {
        if let Some(at) = self.0.iter().position(|(whole, _)| whole == path) {
            return Some(at);
        }
        self.0.push((
            path.to_owned(),
            path.split('.').map(str::to_owned).collect(),
        ));
        (self.0.len() <= Self::MAX).then(|| self.0.len() - 1)
    }

    /// How many fields are looked for.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The names, in the order of their numbers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(whole, _)| whole.as_str())
    }

    /// Puts the fields of the object `line` into `found`, which has room for all.
    pub fn find<'a>(&self, line: &'a [u8], found: &mut [Raw<'a>]) {
        found.fill(None);
        let all = if self.0.len() >= 64 {
            u64::MAX
        } else {
            (1 << self.0.len()) - 1
        };
        let mut left = self.0.len();
        let start = skip_blank(line, 0);
        if line.get(start) == Some(&b'{') {
            self.object(line, start + 1, 0, all, found, &mut left);
        }
    }

    /// Reads an object behind its brace; returns where it ends. `None` when nothing more is wanted,
    /// or can be read.
    fn object<'a>(
        &self,
        line: &'a [u8],
        mut at: usize,
        depth: usize,
        wanted: u64,
        found: &mut [Raw<'a>],
        left: &mut usize,
    ) -> Option<usize> {
        loop {
            at = skip_blank(line, at);
            match line.get(at)? {
                b'}' => return Some(at + 1),
                b',' => at += 1,
                b'"' => {
                    let end = string_end(line, at + 1)?;
                    let key = &line[at + 1..end];
                    at = skip_blank(line, end + 1);
                    if line.get(at) != Some(&b':') {
                        return None;
                    }
                    at = skip_blank(line, at + 1);
                    let (leaf, inner) = self.matching(key, depth, wanted);
                    if inner != 0 && line.get(at) == Some(&b'{') {
                        at = self.object(line, at + 1, depth + 1, inner, found, left)?;
                        continue;
                    }
                    let end = skip_value(line, at)?;
                    if let Some(leaf) = leaf {
                        let value = &line[at..end];
                        let value = if value.first() == Some(&b'"') {
                            &value[1..value.len() - 1]
                        } else {
                            value
                        };
                        *left -= usize::from(found[leaf].is_none());
                        found[leaf] = Some(value);
                        if *left == 0 {
                            return None;
                        }
                    }
                    at = end;
                }
                _ => return None,
            }
        }
    }

    /// The field that this key is, and the fields that are inside of it.
    fn matching(&self, key: &[u8], depth: usize, wanted: u64) -> (Option<usize>, u64) {
        let (mut leaf, mut inner) = (None, 0);
        for (index, (whole, parts)) in self.0.iter().enumerate() {
            if wanted >> index & 1 == 0 {
                continue;
            }
            if depth == 0 && whole.as_bytes() == key {
                leaf = Some(index);
            } else if parts.get(depth).is_some_and(|part| part.as_bytes() == key) {
                if parts.len() == depth + 1 {
                    leaf = Some(index)
                } else {
                    inner |= 1 << index
                }
            }
        }
        (leaf, inner)
    }
}

fn skip_blank(line: &[u8], mut at: usize) -> usize {
    while matches!(line.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// Where the string that begins at `at` has its closing quote.
fn string_end(line: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', line.get(at..)?)?;
        if line[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// The end of any value.
fn skip_value(line: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match line.get(at)? {
            b'"' => at = string_end(line, at + 1)? + 1,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' if depth > 0 => at += 1,
            _ => {
                let rest = &line[at..];
                let n = rest
                    .iter()
                    .position(|b| {
                        matches!(
                            b,
                            b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' | b'"' | b':'
                        )
                    })
                    .unwrap_or(rest.len());
                if n == 0 {
                    return None;
                }
                at += n;
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// A text without its escapes.
pub fn unescaped(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    if !text.contains('\\') {
        return text.into_owned();
    }
    serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(paths: &[&str], line: &str) -> Vec<Option<String>> {
        let mut all = Paths::default();
        for path in paths {
            all.add(path).expect("room");
        }
        let mut found = vec![None; paths.len()];
        all.find(line.as_bytes(), &mut found);
        found.iter().map(|raw| raw.map(unescaped)).collect()
    }

    #[test]
    fn fields_are_found_at_any_depth_and_what_is_not_asked_for_is_passed_over() {
        let line = r#" { "a":[1,{"level":"no"},"]"], "level" : "ERROR","context":{"x":{"execution_time":9},"execution_time":0.25,"url":"/a\"b"}, "log.kind":"flat","n":null}"#;
        let want = [
            Some("ERROR"),
            Some("0.25"),
            Some("/a\"b"),
            Some("flat"),
            Some("null"),
            None,
        ];
        let got = find(
            &[
                "level",
                "context.execution_time",
                "context.url",
                "log.kind",
                "n",
                "absent",
            ],
            line,
        );
        assert_eq!(got, want.map(|w| w.map(str::to_owned)));
    }

    #[test]
    fn what_is_no_json_yields_nothing_and_does_not_panic() {
        for line in [
            "",
            "{",
            "[1]",
            "{\"level\"",
            "{\"level\":",
            "{\"level\":\"x",
            "{\"level\":\"\\",
            "{\"a\":}}",
            "plain",
            "{\"a\":[[[[",
            "{\"a\":]",
            "{,,",
        ] {
            assert_eq!(find(&["level"], line), [None], "{line}");
        }
        let line = r#"{"a":{"b":[1,2,{"c":"}"}]},"t":true,"level":"x"}"#;
        for end in 0..line.len() {
            find(&["level", "a.b", "t"], &line[..end]);
        }
    }
}
