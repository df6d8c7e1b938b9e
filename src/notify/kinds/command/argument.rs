//! One argument of a program. What a label contributes to it must be a name: neither an option, nor
//! a path upwards, nor text for a shell.

use crate::config::{Node, ScalarStyle, Secret, Section, Value};
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::Style;
use crate::notify::notification::Notification;

/// Longest argument that a template may make, in bytes.
const MAX_LENGTH: usize = 1024;
/// Beside letters and digits, what an argument from a template may hold.
const HARMLESS: &str = "_-.:@/+=,%";
/// What of it labels may bring only where the configuration says so: parts of paths, and what
/// programs take for a file or a setting.
const PERMITTED: &str = "/@=";
/// What is put around each text that a template prints. No label that holds one of them comes
/// through: neither is a letter.
const OPEN: char = '\u{f8f0}';
const CLOSE: char = '\u{f8f1}';
/// Programs whose argument after `-c` is text for a shell.
const SHELLS: [&str; 9] = [
    "sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "busybox", "su",
];

pub(super) struct Argument {
    field: Field,
    /// The same with marks around what it prints, where it is a template.
    marked: Option<Field>,
    /// As it stands in the file: `${NAME}` is not replaced.
    written: String,
}

impl Argument {
    /// A text of our own.
    pub(super) fn literal(section: &Section<'_>, text: &str) -> Self {
        Argument {
            field: Field::new(section, "command", text.to_owned()),
            marked: None,
            written: text.to_owned(),
        }
    }

    /// The text under `key`.
    pub(super) fn read(section: &Section<'_>, key: &'static str) -> Option<Self> {
        let argument = Argument::of(section, key, section.node(key)?)?;
        let written = &argument.written;
        if written.is_empty()
            || written.starts_with('-')
            || written.contains('/') && !argument.is_template()
        {
            section.error(
                key,
                format!("{written:?} is not a name"),
                "give the name alone",
            );
        }
        Some(argument)
    }

    fn of(section: &Section<'_>, key: &'static str, node: &Node) -> Option<Self> {
        let Value::Scalar { text, style } = &node.value else {
            section.error_at(
                node.position,
                key,
                format!("is {}", node.kind()),
                "give a text".into(),
            );
            return None;
        };
        if node.is_null() && *style == ScalarStyle::Plain {
            section.error_at(
                node.position,
                key,
                "is nothing".into(),
                "give a text, '' for an empty one".into(),
            );
            return None;
        }
        let value = section.environment().expand(text).unwrap_or_else(|unset| {
            section.error_at(node.position, key, unset.to_string(), unset.remedy());
            String::new()
        });
        let field = Field::at(section, node.position, key, value);
        let marked = field
            .is_template()
            .then(|| field.variant(section, mark(field.written())));
        Some(Argument {
            field,
            marked,
            written: text.clone(),
        })
    }

    pub(super) fn is_template(&self) -> bool {
        self.field.is_template()
    }

    /// As it stands in the file.
    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// What `${NAME}` put into it, and all around that.
    pub(super) fn confidential(&self) -> Option<Secret> {
        let text = self.field.written();
        (!self.is_template() && text != self.written).then(|| Secret::new(text))
    }

    /// The argument for one alert, and how it is shown.
    pub(super) fn render(
        &self,
        about: &Notification,
        style: &Style,
        permits: &Permits,
    ) -> Result<(String, String), NotifyError> {
        let value = Rendering::new(about, style).address(&self.field)?;
        let Some(marked) = &self.marked else {
            return Ok((value, self.written.clone()));
        };
        let marked = Rendering::new(about, style).address(marked)?;
        match harm(&self.written, &value).or_else(|| harm_of_parts(&value, &marked, permits)) {
            None => Ok((value.clone(), value)),
            Some(problem) => {
                let problem = format!("{:?} would become an argument that {problem}", self.written);
                Err(NotifyError::permanent(Reason::Rejected, problem))
            }
        }
    }
}

/// Reads `command`: a list, its first element the program.
pub(super) fn read_command(section: &Section<'_>) -> Vec<Argument> {
    let Some(node) = section.node("command") else {
        return Vec::new();
    };
    let Value::List(items) = &node.value else {
        let remedy = "give a list: [program, argument, …]; for a shell, [sh, -c, 'text']";
        section.error("command", format!("is {}", node.kind()), remedy);
        return Vec::new();
    };
    let arguments: Vec<Argument> = items
        .iter()
        .filter_map(|item| Argument::of(section, "command", item))
        .collect();
    match arguments.first() {
        Some(program) if program.is_template() => {
            section.error(
                "command",
                "lets a label choose the program",
                "write the program's name; labels may be arguments",
            );
        }
        Some(program) if program.written.is_empty() => {
            section.error("command", "names no program", "give its name or its path")
        }
        None => section.error("command", "is empty", "give [program, argument, …]"),
        Some(_) => {}
    }
    if let Some(text) = shell_text(&arguments).filter(|text| text.is_template()) {
        let problem = format!("{:?} puts a label into the text of a shell", text.written);
        section.error(
            "command",
            problem,
            "use the variables: \"$NIGHTBELL_LABEL_INSTANCE\"",
        );
    }
    arguments
}

/// The text that a shell among the arguments is given with `-c`, whichever program starts the shell
/// (`sudo sh -c …`).
fn shell_text(arguments: &[Argument]) -> Option<&Argument> {
    let name = |argument: &Argument| {
        argument
            .written
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let shell = arguments
        .iter()
        .position(|argument| SHELLS.contains(&name(argument).as_str()))?;
    let flag = |argument: &Argument| {
        argument.written.starts_with('-')
            && !argument.written.starts_with("--")
            && argument.written.contains('c')
    };
    let at = arguments[shell..].iter().position(flag)?;
    arguments.get(shell + at + 1)
}

/// What is wrong with an argument that a template made.
fn harm(written: &str, value: &str) -> Option<&'static str> {
    if value.is_empty() {
        Some("is empty")
    } else if value.len() > MAX_LENGTH {
        Some("is too long")
    } else if value.starts_with('-') && !written.starts_with('-') {
        Some("is an option")
    } else if value.split(['/', '=', ',']).any(|part| part == "..") {
        Some("leads upwards")
    } else if !value
        .chars()
        .all(|c| c.is_alphanumeric() || HARMLESS.contains(c))
    {
        Some("is more than a name")
    } else {
        None
    }
}

/// What labels may bring beside letters, digits and what is harmless everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Permits {
    /// Which of `/`, `@` and `=`.
    characters: String,
    /// Whether a path may begin at the root.
    absolute_paths: bool,
}

impl Permits {
    /// Everything: what is chosen stands in a list.
    pub(super) fn listed() -> Self {
        Permits {
            characters: PERMITTED.to_owned(),
            absolute_paths: false,
        }
    }

    /// The keys `label_characters` and `absolute_paths`.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let permits = Permits {
            characters: section.or("label_characters", String::new()),
            absolute_paths: section.or("absolute_paths", false),
        };
        if let Some(other) = permits.characters.chars().find(|c| !PERMITTED.contains(*c)) {
            section.error(
                "label_characters",
                format!("holds {other:?}"),
                "give some of /, @ and =",
            );
        }
        if permits.absolute_paths && !permits.characters.contains('/') {
            section.error("absolute_paths", "needs /", "give label_characters: '/'");
        }
        permits
    }
}

/// What is wrong with a text that a template printed: the whole argument may look well and be
/// something else, where a label is missing.
fn harm_of_parts(value: &str, marked: &str, permits: &Permits) -> Option<&'static str> {
    if marked.replace([OPEN, CLOSE], "") != value {
        return Some("is not the same twice");
    }
    marked.split(OPEN).skip(1).find_map(|part| {
        let part = part.split(CLOSE).next().unwrap_or_default();
        let is_absolute = permits.absolute_paths && part.starts_with('/');
        if part.is_empty() {
            Some("lacks a part: a label is missing or empty")
        } else if !is_absolute && !part.starts_with(char::is_alphanumeric) {
            Some("has a part that begins with neither a letter nor a digit")
        } else if part
            .chars()
            .any(|c| PERMITTED.contains(c) && !permits.characters.contains(c))
        {
            Some("has a part with /, @ or =, which label_characters does not allow")
        } else {
            None
        }
    })
}

/// A template with [`OPEN`] and [`CLOSE`] around each action that prints something.
fn mark(source: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(source.len() + 16), source);
    while let Some(at) = rest.find("{{") {
        let (before, action) = rest.split_at(at);
        let length = action_length(action);
        let (action, after) = action.split_at(length);
        let inner = action.trim_start_matches("{{").trim_end_matches("}}");
        let trims = |end: bool| {
            let mut chars = if end {
                inner.chars().rev().collect::<Vec<_>>()
            } else {
                inner.chars().collect()
            }
            .into_iter();
            chars.next() == Some('-') && chars.next().is_some_and(|c| c.is_ascii_whitespace())
        };
        if prints(inner.trim_start_matches('-').trim_start()) {
            // A mark is no space, so what the action would trim is trimmed here.
            out.push_str(if trims(false) {
                before.trim_end()
            } else {
                before
            });
            out.push(OPEN);
            out.push_str(action);
            out.push(CLOSE);
            rest = if trims(true) {
                after.trim_start()
            } else {
                after
            };
        } else {
            out.push_str(before);
            out.push_str(action);
            rest = after;
        }
    }
    out + rest
}

/// Bytes of the action that a text begins with: its end does not stand in a string, a character or
/// a comment.
fn action_length(text: &str) -> usize {
    let inner = text[2..].trim_start_matches('-').trim_start();
    if inner.starts_with("/*") {
        let end = text.find("*/").map_or(text.len(), |at| at + 2);
        return text[end..].find("}}").map_or(text.len(), |at| end + at + 2);
    }
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
            None if text[at..].starts_with("}}") => return at + 2,
            None => {}
        }
    }
    text.len()
}

/// Whether an action prints: it is neither control, nor a comment, nor an assignment.
fn prints(inner: &str) -> bool {
    let word: String = inner
        .chars()
        .take_while(|c| c.is_ascii_alphabetic())
        .collect();
    let is_control = matches!(
        word.as_str(),
        "if" | "else" | "end" | "range" | "with" | "define" | "block" | "break" | "continue"
    );
    let assigns = inner.starts_with('$') && {
        let rest = inner
            .trim_start_matches(|c: char| c == '$' || c == '_' || c.is_alphanumeric())
            .trim_start();
        rest.starts_with(":=") || rest.starts_with('=') || rest.starts_with(',')
    };
    !is_control && !assigns && !inner.starts_with("/*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_that_a_template_prints_is_marked() {
        let marked = |source: &str| mark(source).replace(OPEN, "«").replace(CLOSE, "»");
        assert_eq!(
            marked("/var/{{ .CommonLabels.app }}/x"),
            "/var/«{{ .CommonLabels.app }}»/x"
        );
        assert_eq!(marked("a {{- .x -}} b"), "a«{{- .x -}}»b");
        assert_eq!(
            marked("{{ if .x }}{{ \"}}\" }}{{ else }}y{{ end }}"),
            "{{ if .x }}«{{ \"}}\" }}»{{ else }}y{{ end }}"
        );
        assert_eq!(
            marked("{{ $a := .x }}{{ $a }}{{ $a = 1 }}{{/* }} */}}"),
            "{{ $a := .x }}«{{ $a }}»{{ $a = 1 }}{{/* }} */}}"
        );
        assert_eq!(
            marked("{{ `}}` }}{{ template \"x\" . }}"),
            "«{{ `}}` }}»«{{ template \"x\" . }}»"
        );
    }

    #[test]
    fn each_part_must_be_a_name_and_more_only_where_it_is_allowed() {
        let permits = |characters: &str, absolute_paths| Permits {
            characters: characters.into(),
            absolute_paths,
        };
        let harm = |parts: &[&str], permits: &Permits| {
            let marked = parts
                .iter()
                .map(|part| format!("x{OPEN}{part}{CLOSE}"))
                .collect::<String>();
            harm_of_parts(&marked.replace([OPEN, CLOSE], ""), &marked, permits).is_some()
        };
        for fine in ["db1:9100", "web-1.example.org", "登录服务", "50%", "a_b"] {
            assert!(!harm(&[fine], &permits("", false)), "{fine}");
        }
        for hostile in [
            "",
            "/etc/passwd",
            "@/etc/passwd",
            "=x",
            "a/b",
            "user@host",
            "a=b",
            ".",
            "..",
            "-rf",
            "_x",
            "%2e",
            ",a",
        ] {
            assert!(
                harm(&[hostile], &permits("", false))
                    && harm(&["fine", hostile], &permits("", false)),
                "{hostile:?}"
            );
        }
        assert!(!harm(&["a/b", "user@host", "a=b"], &permits("/@=", false)));
        assert!(
            harm(&["/srv/app"], &permits("/", false)) && !harm(&["/srv/app"], &permits("/", true))
        );
        assert!(harm(&["@x"], &permits("/@=", true)));
    }

    #[test]
    fn a_label_in_an_argument_can_only_be_a_name() {
        for fine in [
            "db1:9100",
            "web-1.example.org",
            "登录服务",
            "/srv/app/data",
            "user@host",
            "a=b,c=d",
            "50%",
        ] {
            assert_eq!(harm("{{ x }}", fine), None, "{fine}");
        }
        assert_eq!(harm("--host={{ x }}", "--host=db1"), None);
        for (hostile, why) in [
            ("-rf", "is an option"),
            ("--privileged", "is an option"),
            ("", "is empty"),
            ("../../etc/passwd", "leads upwards"),
            ("a/../b", "leads upwards"),
            ("a b", "is more than a name"),
            ("a;reboot", "is more than a name"),
            ("$(reboot)", "is more than a name"),
            ("`reboot`", "is more than a name"),
            ("a\nb", "is more than a name"),
            ("a\0b", "is more than a name"),
            ("a|b", "is more than a name"),
            ("a>b", "is more than a name"),
            ("*", "is more than a name"),
            ("~root", "is more than a name"),
            ("'a'", "is more than a name"),
            ("a\\b", "is more than a name"),
            ("{a,b}", "is more than a name"),
        ] {
            assert_eq!(harm("{{ x }}", hostile), Some(why), "{hostile:?}");
        }
        assert_eq!(harm("{{ x }}", &"x".repeat(1025)), Some("is too long"));
    }
}
