//! Go `text/template` for the labels and annotations of rules, and for notifications
//! (<https://pkg.go.dev/text/template>).
//!
//! The syntax is read by `gotmpl`; [`go::rewrite`] adds what Go's reflection does (methods, maps of
//! strings), [`go::strict`] refuses at load what Go refuses. Depth of nesting, steps and output are
//! bounded; nothing here reads files or the clock.

mod functions;
mod go;
mod humanize;
mod library;
mod notification;
mod notification_functions;
mod rule;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use gotmpl::parse::{ListNode, Node, Parser};
use gotmpl::{TemplateError, Value};

use go::call::{Context, Functions};
use go::rewrite::Origin;

pub use gotmpl::url_encode;
pub use library::Library;
pub use notification::{AlertData, NotificationData, Pairs};
pub use rule::{Queried, Query, RuleData, RuleText, check, expand};

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
    Tree(Arc<Tree>),
}

/// The template and those it calls, under their names.
struct Tree {
    text: gotmpl::Template,
    undefined: Vec<String>,
}

/// Why a template that can be read gave no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// It prints more than a message may be.
    #[error("template: {0}: output is longer than {MAX_OUTPUT} bytes")]
    TooLong(String),
    /// Something in it failed, in Go's words.
    #[error("{0}")]
    Failed(String),
}

/// What Go refuses in a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in bytes.
    pub column: usize,
    /// What is wrong, in Go's words.
    pub message: String,
    /// The template's name.
    name: String,
}

impl std::error::Error for Mistake {}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template: {}:{}: {}", self.name, self.line, self.message)
    }
}

/// A name, whether nothing but blanks is in it, and the tree.
type Define = (String, bool, ListNode);

/// Reads `text`: the tree with its emptiness, and what it defines.
fn read(
    name: &str,
    text: &str,
    functions: &Functions,
) -> Result<((ListNode, bool), Vec<Define>), Mistake> {
    let mistake = |(offset, message): (usize, String)| {
        let before = text.get(..offset.min(text.len())).unwrap_or("");
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        Mistake {
            line,
            column,
            message,
            name: name.to_owned(),
        }
    };
    let mut text = Cow::Borrowed(text);
    for dangling in go::strict::balanced(&text).map_err(mistake)? {
        text.to_mut().replace_range(dangling..=dangling, " ");
    }
    let text = text.as_ref();
    let parsed = Parser::with_name(Some(name), text, "{{", "}}").and_then(Parser::parse);
    let (mut tree, mut defines) = parsed.map_err(|error| match error {
        // Go names the line of a syntax error, not the column.
        TemplateError::Parse {
            line, col, message, ..
        }
        | TemplateError::Lex {
            line, col, message, ..
        } => Mistake {
            line: line.max(1),
            column: col.max(1),
            message,
            name: name.to_owned(),
        },
        other => Mistake {
            line: 1,
            column: 1,
            message: bare(&other),
            name: name.to_owned(),
        },
    })?;
    go::strict::names(&tree, &defines, functions).map_err(mistake)?;
    let empty = tree.is_empty_tree();
    Origin {
        file: name,
        template: name,
        source: text,
    }
    .template(&mut tree);
    let defines = defines.iter_mut().map(|define| {
        let (own, empty) = (define.name.to_string(), define.body.is_empty_tree());
        Origin {
            file: name,
            template: &own,
            source: text,
        }
        .template(&mut define.body);
        (own, empty, define.body.clone())
    });
    Ok(((tree, empty), defines.collect()))
}

impl Template {
    /// Reads `text`; `prelude` is put before it, `functions` says which functions exist, `library`
    /// has templates that it may call.
    fn parse(
        name: &str,
        prelude: &str,
        text: &str,
        functions: &Functions,
        library: Option<&Library>,
    ) -> Result<Self, Mistake> {
        if !text.contains("{{") {
            return Ok(Template {
                name: name.to_owned(),
                body: Body::Plain(text.into()),
            });
        }
        let whole = format!("{prelude}{text}");
        let ((mut tree, _), defines) = read(name, &whole, functions)?;
        // What the prelude declares and the text never names is neither kept nor computed.
        tree.nodes.retain(|node| match node {
            Node::Action(action) if action.pos.offset < prelude.len() => action
                .pipe
                .decl
                .iter()
                .all(|name| !prelude.contains(name.as_str()) || text.contains(name.as_str())),
            _ => true,
        });
        let mut wanted = library::calls(&tree);
        let mut parts = vec![(name.to_owned(), tree)];
        for (define, _, body) in defines {
            wanted.extend(library::calls(&body));
            parts.retain(|(name, _)| *name != define);
            parts.push((define, body));
        }
        let mut undefined = Vec::new();
        while let Some(next) = wanted.pop_first() {
            if parts.iter().any(|(name, _)| *name == next) {
                continue;
            }
            match library.and_then(|library| library.get(&next)) {
                Some(named) => {
                    wanted.extend(named.calls.iter().cloned());
                    parts.push((next, named.body.clone()));
                }
                None => undefined.push(next),
            }
        }
        let text = gotmpl::Template::new(name).max_range_iters(MAX_ITERATIONS);
        let text = parts
            .into_iter()
            .fold(text, |text, (name, tree)| text.add_parse_tree(&name, tree));
        Ok(Template {
            name: name.to_owned(),
            body: Body::Tree(Arc::new(Tree { text, undefined })),
        })
    }

    /// Whether expanding gives the text itself, whatever the data.
    pub fn is_plain(&self) -> bool {
        matches!(self.body, Body::Plain(_))
    }

    /// Names of templates that it calls and that do not exist: running it fails.
    pub fn undefined(&self) -> &[String] {
        match &self.body {
            Body::Plain(_) => &[],
            Body::Tree(tree) => &tree.undefined,
        }
    }

    /// The text of one that [`Template::is_plain`].
    fn plain(&self) -> &str {
        match &self.body {
            Body::Plain(text) => text,
            Body::Tree(_) => "",
        }
    }

    /// Runs it over `data`; in `html`, values are escaped for the position where they stand.
    fn execute(
        &self,
        context: &Arc<Context>,
        data: &Value,
        html: bool,
    ) -> Result<String, RenderError> {
        let tree = match &self.body {
            Body::Plain(text) => return Ok(text.as_ref().to_owned()),
            Body::Tree(tree) => tree,
        };
        let mut out = Bounded {
            text: String::new(),
            full: false,
        };
        let machinery = go::call::machinery(context);
        let ran = if html {
            html_template(&self.name, tree, machinery)
                .and_then(|template| template.execute_fmt(&mut out, data))
        } else {
            tree.text
                .clone()
                .funcs(machinery)
                .execute_template_fmt(&mut out, &self.name, data)
        };
        match ran {
            Ok(()) => Ok(out.text),
            Err(_) if out.full => Err(RenderError::TooLong(self.name.clone())),
            Err(TemplateError::Exec(placed)) if placed.contains(": executing ") => {
                Err(RenderError::Failed(format!("template: {placed}")))
            }
            Err(error) => Err(RenderError::Failed(match bare(&error) {
                own if own.starts_with("html/template") => {
                    own.replace("html/template:: ", "html/template: ")
                }
                other if self.name.is_empty() => format!("template: {other}"),
                other => format!("template: {}: {other}", self.name),
            })),
        }
    }
}

fn html_template(
    name: &str,
    tree: &Tree,
    functions: gotmpl::FuncMap,
) -> Result<gotmpl::html::Template, TemplateError> {
    // The text that is parsed gives way to the tree of the same name.
    let start = gotmpl::html::Template::new(name)
        .max_range_iters(MAX_ITERATIONS)
        .funcs(functions)
        .parse(".")?;
    let mut parts = tree
        .text
        .templates()
        .into_iter()
        .filter_map(|name| Some((name, tree.text.lookup(name)?)));
    parts.try_fold(start, |template, (name, body)| {
        template.add_parse_tree(name, body.clone())
    })
}

impl Default for Template {
    /// The empty text.
    fn default() -> Self {
        Template {
            name: String::new(),
            body: Body::Plain("".into()),
        }
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

fn bare(error: &TemplateError) -> String {
    match error {
        TemplateError::Exec(message) => message.clone(),
        TemplateError::UndefinedTemplate(template) => format!("template {template:?} not defined"),
        TemplateError::RecursionLimit => "exceeded maximum template depth".to_owned(),
        TemplateError::RangeIterLimit => "a range takes too many turns".to_owned(),
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
