//! Where `${NAME}` comes from: the process environment and `.env` files; the process wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::error::ConfigError;

/// A name without a value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("environment variable {0} is not set")]
pub struct UnsetVariable(pub String);

impl UnsetVariable {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        format!(
            "set it, name it in the --env-file, or write ${{{}:-default}}",
            self.0
        )
    }
}

/// Named values for `${NAME}`; built once at start, passed on.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    values: BTreeMap<String, String>,
    /// Whether `${NAME}` stands for itself.
    literal: bool,
}

impl Environment {
    /// The environment of this process. Blanks and line feeds around a value come from the way it
    /// was set (`$(cat file)`, a secret that was pasted) and mean nothing.
    pub fn of_process() -> Self {
        let text = |(name, value): (OsString, OsString)| {
            Some((
                name.into_string().ok()?,
                value.into_string().ok()?.trim().to_owned(),
            ))
        };
        Environment {
            values: std::env::vars_os().filter_map(text).collect(),
            literal: false,
        }
    }

    /// Without values, and for texts in which `${NAME}` stands for itself.
    pub const fn literal() -> Self {
        Environment {
            values: BTreeMap::new(),
            literal: true,
        }
    }

    /// The same values, for files of which no text is replaced: Alertmanager's know no variables.
    #[must_use]
    pub fn verbatim(&self) -> Self {
        Environment {
            values: self.values.clone(),
            literal: true,
        }
    }

    /// Only these values, for tests.
    pub fn from_pairs<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Environment {
            values: pairs
                .into_iter()
                .map(|(k, v)| (k.into(), v.trim().into()))
                .collect(),
            literal: false,
        }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Adds the values of a `.env` file (`NAME=value`, `export NAME="value"`, `#` comments); a name
    /// that is already set keeps its value.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let file = path.display().to_string();
        let fail = |line: Option<usize>, problem: String, remedy: &str| ConfigError {
            file: file.clone(),
            position: line.map(|l| super::Position {
                line: l as u32,
                column: 1,
            }),
            key: String::new(),
            problem,
            remedy: remedy.into(),
            non_fatal: false,
        };
        let text = std::fs::read_to_string(path).map_err(|e| {
            fail(
                None,
                format!("cannot be read: {e}"),
                "check the path given with --env-file",
            )
        })?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            // The line may hold a secret: it is never quoted in the message.
            let (name, value) = line.split_once('=').ok_or_else(|| {
                fail(
                    Some(index + 1),
                    "not of the form NAME=value".into(),
                    "write NAME=value, or # before a comment",
                )
            })?;
            let name = name.trim();
            if !is_name(name) {
                return Err(fail(
                    Some(index + 1),
                    "the part before \"=\" is not a variable name".into(),
                    "use letters, digits and _ only",
                ));
            }
            self.values
                .entry(name.to_owned())
                .or_insert_with(|| unquote(value.trim()));
        }
        Ok(())
    }

    /// Replaces `$NAME` and `${NAME}` as Prometheus does in `external_labels`, where `$$` stands
    /// for `$` and what is not set is empty; `${NAME:-default}` as elsewhere here.
    pub fn expand_as_shell(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let (name, taken) = shell_name(rest);
            rest = &rest[taken..];
            match (name, taken) {
                ("", 0) | ("$", _) => out.push('$'),
                // Not closed, or nothing between the braces: eaten.
                ("", _) => {}
                _ => {
                    let (name, default) = name.split_once(":-").unwrap_or((name, ""));
                    out.push_str(
                        self.get(name)
                            .filter(|value| !value.is_empty())
                            .unwrap_or(default),
                    );
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// Replaces `${NAME}` and `${NAME:-default}`; `$${` stands for `${`. A name in lower case may be
    /// a group of a regular expression: where it is not set, or stands in a template, it stays; in a
    /// template one that is not set does, too.
    ///
    /// # Errors
    /// On a name that is not set.
    pub fn expand(&self, text: &str) -> Result<String, UnsetVariable> {
        if self.literal {
            return Ok(text.to_owned());
        }
        let template = text.contains("{{");
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, tail) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = &tail[2..];
                continue;
            }
            out.push_str(before);
            let Some(end) = tail.find('}') else {
                out.push_str(tail);
                return Ok(out);
            };
            let (name, default) = match tail[2..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&tail[2..end], None),
            };
            let lower = name.bytes().any(|b| b.is_ascii_lowercase());
            let unset = default.is_none() && self.get(name).is_none();
            if is_name(name) && !(lower && template) && !(unset && (lower || template)) {
                let value = self.get(name).or(default);
                out.push_str(value.ok_or_else(|| UnsetVariable(name.to_owned()))?);
            } else {
                out.push_str(&tail[..=end]);
            }
            rest = &tail[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The name at the start of `rest`, which follows a `$`, and how many bytes it takes, braces
/// included (`os.Expand` of Go).
fn shell_name(rest: &str) -> (&str, usize) {
    let special = |c: u8| b"*#$@!?-0123456789".contains(&c);
    match rest.as_bytes() {
        [b'{', ..] => match rest.find('}') {
            Some(end) => (&rest[1..end], end + 1),
            None => ("", 1),
        },
        [first, ..] if special(*first) => (&rest[..1], 1),
        bytes => {
            let end = bytes
                .iter()
                .position(|c| !c.is_ascii_alphanumeric() && *c != b'_')
                .unwrap_or(bytes.len());
            (&rest[..end], end)
        }
    }
}

fn is_name(name: &str) -> bool {
    crate::model::text::is_legacy_label_name(name)
}

fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = value
            .strip_prefix(quote)
            .and_then(|v| v.strip_suffix(quote))
        {
            return inner.to_owned();
        }
    }
    match value.find(" #") {
        Some(comment) => value[..comment].trim_end().to_owned(),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings and secrets from the environment or a `.env` file.
    #[test]
    fn variables_expand_and_regex_references_stay() {
        let env = Environment::from_pairs([("HOST", "db1")]);
        assert_eq!(
            env.expand("postgres://${HOST}/x"),
            Ok("postgres://db1/x".into())
        );
        assert_eq!(
            env.expand("${1}-$1-${PORT:-5432}-$${HOST}"),
            Ok("${1}-$1-5432-${HOST}".into())
        );
        assert_eq!(env.expand("${NONE}"), Err(UnsetVariable("NONE".into())));
        assert_eq!(env.expand("${group}-x"), Ok("${group}-x".into()));
        let template = r#"{{ reReplaceAll "(?P<x>a.*)" "${x}${X}!" .Receiver }} ${HOST}"#;
        assert_eq!(env.expand(template), Ok(template.replace("${HOST}", "db1")));
        assert_eq!(
            env.verbatim().expand("${HOST} $${NONE}"),
            Ok("${HOST} $${NONE}".into())
        );
    }

    /// Recorded from Prometheus 3.5.
    #[test]
    fn external_labels_expand_as_in_prometheus() {
        let env = Environment::from_pairs([("HOMEX", "hx"), ("EMPTY", "")]);
        let cases = [
            ("$HOMEX", "hx"),
            ("${HOMEX}", "hx"),
            ("a$$b", "a$b"),
            ("${$}", "$"),
            ("$NOPE_X-z", "-z"),
            ("cost$5", "cost"),
            ("a$", "a$"),
            ("$.$ é$é", "$.$ é$é"),
            ("a${}b${c", "abc"),
            ("${EMPTY}x$EMPTY", "x"),
            ("${NOPE:-d}", "d"),
        ];
        for (text, want) in cases {
            assert_eq!(env.expand_as_shell(text), want, "{text}");
        }
    }

    #[test]
    fn env_files_are_read_and_the_process_wins() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(".env");
        std::fs::write(
            &path,
            "# c\nexport A=\"x y\"\nB='q'\nHOST=other\nC=1 # note\n",
        )
        .expect("written");
        let mut env = Environment::from_pairs([("HOST", "db1")]);
        env.add_file(&path).expect("valid");
        assert_eq!(
            (env.get("A"), env.get("B"), env.get("C"), env.get("HOST")),
            (Some("x y"), Some("q"), Some("1"), Some("db1"))
        );
    }
}
