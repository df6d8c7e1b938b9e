//! Go `text/template` for the labels and annotations of rules, and for notifications (<https://pkg.go.dev/text/template>).
//!
//! The syntax is read by `gotmpl`; [`rewrite`] adds what Go's reflection does (methods, maps of strings), [`strict`] refuses at load what
//! Go refuses. Depth of nesting, steps and output are bounded; nothing here reads files or the clock.

mod dot;
mod functions;
mod humanize;
mod notification;
mod rewrite;
mod rule;
mod strict;
mod time;

use std::fmt;
use std::sync::Arc;

use gotmpl::parse::{DefineNode, ListNode, Parser};
use gotmpl::{FuncMap, TemplateError, Value};

pub use gotmpl::url_encode;
pub use notification::{AlertData, NotificationData, Pairs};
pub use rule::{Query, RuleData, check, expand};

/// Longest text that one expansion may produce, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// Most iterations of all `range` actions of one expansion.
const MAX_ITERATIONS: u64 = 100_000;

/// A template that was read and checked once.
#[derive(Clone)]
pub struct Template {
    name: String,
    body: Body,
}

#[derive(Clone)]
enum Body {
    /// No action in it: the text itself.
    Plain(Arc<str>),
    Tree(Arc<(ListNode, Vec<DefineNode>)>),
}

impl Template {
    /// Reads `text`; `prelude` is put before it, `functions` says which function names exist. The error is worded as Go words it.
    fn parse(name: &str, prelude: &str, text: &str, functions: &FuncMap) -> Result<Self, String> {
        if !text.contains("{{") {
            return Ok(Template { name: name.to_owned(), body: Body::Plain(text.into()) });
        }
        let whole = format!("{prelude}{text}");
        strict::balanced(&whole).map_err(|(line, message)| format!("template: {name}:{line}: {message}"))?;
        let parsed = Parser::with_name(Some(name), &whole, "{{", "}}").and_then(Parser::parse);
        let (mut tree, mut defines) = parsed.map_err(|error| go_error(name, &error))?;
        strict::names(&tree, &defines, functions).map_err(|(line, message)| format!("template: {name}:{line}: {message}"))?;
        rewrite::list(&mut tree);
        defines.iter_mut().for_each(|define| rewrite::list(&mut define.body));
        Ok(Template { name: name.to_owned(), body: Body::Tree(Arc::new((tree, defines))) })
    }

    /// Whether expanding gives the text itself, whatever the data.
    pub fn is_plain(&self) -> bool {
        matches!(self.body, Body::Plain(_))
    }

    /// Runs it over `data`.
    fn execute(&self, functions: FuncMap, data: &Value) -> Result<String, String> {
        let parts = match &self.body {
            Body::Plain(text) => return Ok(text.as_ref().to_owned()),
            Body::Tree(parts) => parts,
        };
        let mut template = gotmpl::Template::new(&self.name).max_range_iters(MAX_ITERATIONS).funcs(functions);
        for define in &parts.1 {
            template = template.add_parse_tree(&define.name, define.body.clone());
        }
        template = template.add_parse_tree(&self.name, parts.0.clone());
        let mut out = Bounded { text: String::new(), full: false };
        match template.execute_template_fmt(&mut out, &self.name, data) {
            Ok(()) => Ok(out.text),
            Err(_) if out.full => Err(format!("template: {}: output is longer than {MAX_OUTPUT} bytes", self.name)),
            Err(error) => Err(format!("template: {}: {}", self.name, bare(&error))),
        }
    }
}

impl Default for Template {
    /// The empty text.
    fn default() -> Self {
        Template { name: String::new(), body: Body::Plain("".into()) }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({})", self.name)
    }
}

struct Bounded {
    text: String,
    full: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.text.len() + part.len() > MAX_OUTPUT {
            self.full = true;
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}

/// Go names the line of a syntax error, not the column.
fn go_error(name: &str, error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            format!("template: {name}:{}: {message}", (*line).max(1))
        }
        other => format!("template: {name}:1: {}", bare(other)),
    }
}

fn bare(error: &TemplateError) -> String {
    match error {
        TemplateError::Exec(message) => message.clone(),
        TemplateError::UndefinedTemplate(template) => format!("template {template:?} not defined"),
        other => other.to_string(),
    }
}

/// A failure inside a function.
fn failed<T>(message: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError::Exec(message.into()))
}

fn text(value: &str) -> Value {
    Value::String(value.into())
}

#[cfg(test)]
mod tests;
