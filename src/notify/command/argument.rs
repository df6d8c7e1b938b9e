//! One argument of a program. What a label contributes to it must be a name: neither an option, nor a path upwards, nor text for a shell.

use crate::config::{Node, ScalarStyle, Secret, Section, Value};
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::Style;
use crate::notify::notification::Notification;

/// Longest argument that a template may make, in bytes.
const MAX_LENGTH: usize = 1024;
/// Beside letters and digits, what an argument from a template may hold.
const HARMLESS: &str = "_-.:@/+=,%";
/// Programs whose argument after `-c` is text for a shell.
const SHELLS: [&str; 9] = ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "busybox", "su"];

pub(super) struct Argument {
    field: Field,
    /// As it stands in the file: `${NAME}` is not replaced.
    written: String,
}

impl Argument {
    /// A text of our own.
    pub(super) fn literal(section: &Section<'_>, text: &str) -> Self {
        Argument { field: Field::new(section, "command", text.to_owned()), written: text.to_owned() }
    }

    /// The text under `key`.
    pub(super) fn read(section: &Section<'_>, key: &'static str) -> Option<Self> {
        let argument = Argument::of(section, key, section.node(key)?)?;
        let written = &argument.written;
        if written.is_empty() || written.starts_with('-') || written.contains('/') && !argument.is_template() {
            section.error(key, format!("{written:?} is not a name"), "give the name alone");
        }
        Some(argument)
    }

    fn of(section: &Section<'_>, key: &'static str, node: &Node) -> Option<Self> {
        let Value::Scalar { text, style } = &node.value else {
            section.error_at(node.position, key, format!("is {}", node.kind()), "give a text".into());
            return None;
        };
        if node.is_null() && *style == ScalarStyle::Plain {
            section.error_at(node.position, key, "is nothing".into(), "give a text, '' for an empty one".into());
            return None;
        }
        let value = section.environment().expand(text).unwrap_or_else(|name| {
            let remedy = format!("set it, or write ${{{name}:-default}}");
            section.error_at(node.position, key, format!("environment variable {name} is not set"), remedy);
            String::new()
        });
        Some(Argument { field: Field::at(section, node.position, key, value), written: text.clone() })
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
    pub(super) fn render(&self, about: &Notification, style: &Style) -> Result<(String, String), NotifyError> {
        let value = Rendering::new(about, style).address(&self.field)?;
        if !self.is_template() {
            return Ok((value, self.written.clone()));
        }
        match harm(&self.written, &value) {
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
    let Some(node) = section.node("command") else { return Vec::new() };
    let Value::List(items) = &node.value else {
        let remedy = "give a list: [program, argument, …]; for a shell, [sh, -c, 'text']";
        section.error("command", format!("is {}", node.kind()), remedy);
        return Vec::new();
    };
    let arguments: Vec<Argument> = items.iter().filter_map(|item| Argument::of(section, "command", item)).collect();
    match arguments.first() {
        Some(program) if program.is_template() => {
            section.error("command", "lets a label choose the program", "write the program's name; labels may be arguments");
        }
        Some(program) if program.written.is_empty() => section.error("command", "names no program", "give its name or its path"),
        None => section.error("command", "is empty", "give [program, argument, …]"),
        Some(_) => {}
    }
    if let Some(text) = shell_text(&arguments).filter(|text| text.is_template()) {
        let problem = format!("{:?} puts a label into the text of a shell", text.written);
        section.error("command", problem, "use the variables: \"$NIGHTBELL_LABEL_INSTANCE\"");
    }
    arguments
}

/// The text that a shell among the arguments is given with `-c`, whoever starts the shell (`sudo sh -c …`).
fn shell_text(arguments: &[Argument]) -> Option<&Argument> {
    let name = |argument: &Argument| argument.written.rsplit('/').next().unwrap_or_default().to_owned();
    let shell = arguments.iter().position(|argument| SHELLS.contains(&name(argument).as_str()))?;
    let flag =
        |argument: &Argument| argument.written.starts_with('-') && !argument.written.starts_with("--") && argument.written.contains('c');
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
    } else if !value.chars().all(|c| c.is_alphanumeric() || HARMLESS.contains(c)) {
        Some("is more than a name")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::harm;

    #[test]
    fn a_label_in_an_argument_can_only_be_a_name() {
        for fine in ["db1:9100", "web-1.example.org", "登录服务", "/srv/app/data", "user@host", "a=b,c=d", "50%"] {
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
