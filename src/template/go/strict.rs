//! What Go refuses when it reads a template, and `gotmpl` would accept or find only when running
//! it: unbalanced blocks, unknown functions, undeclared variables.

use gotmpl::parse::{DefineNode, Expr, ListNode, Node, PipeNode, SmolStr};

use super::builtins::SPECIAL;
use super::call::Functions;

/// Most fields in a row: each becomes a call inside the next one.
const MAX_FIELDS: usize = 100;

/// An offset in the text and what is wrong there, in Go's words.
type Fault = (usize, String);

/// Checks that every block has its `end`, every `else` and `end` its block. Gives the offsets of
/// pipes that nothing follows: Go takes no notice of them.
pub(in crate::template) fn balanced(text: &str) -> Result<Vec<usize>, Fault> {
    // The keyword that opened each block, and whether it had its final `else`.
    let mut open: Vec<(&str, bool)> = Vec::new();
    let (mut at, mut dangling) = (0, Vec::new());
    while let Some(start) = text[at..].find("{{").map(|i| at + i) {
        let inside = text[start + 2..]
            .strip_prefix('-')
            .map_or(&text[start + 2..], |rest| rest);
        // A comment begins at once, or after the one space that the trim marker needs.
        let spaced = if inside.len() < text.len() - start - 2 {
            inside
                .strip_prefix([' ', '\t', '\r', '\n'])
                .unwrap_or(inside)
        } else {
            inside
        };
        if inside.trim_start().starts_with("/*") && !spaced.starts_with("/*") {
            return Err((start, "unexpected \"/\" in command".into()));
        }
        let end =
            action_end(text, text.len() - inside.len()).map_err(|why| (start, why.to_owned()))?;
        let words = inside[..end - (text.len() - inside.len())].trim();
        let words = words
            .strip_suffix(['-'])
            .filter(|rest| rest.ends_with([' ', '\t', '\n', '\r']))
            .map_or(words, str::trim_end);
        if let Some(before) = words
            .strip_suffix('|')
            .filter(|before| !before.is_empty() && !before.ends_with('|'))
        {
            dangling.push(before.as_ptr() as usize - text.as_ptr() as usize + before.len());
        }
        let keyword = &words[..words
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(words.len())];
        match keyword {
            "if" | "range" | "with" if words == keyword => {
                return Err((start, format!("missing value for {keyword}")));
            }
            "template" if words == keyword => {
                return Err((start, "unexpected \"}}\" in template clause".into()));
            }
            "block" if words.ends_with(['"', '`']) && words.matches(['"', '`']).count() == 2 => {
                return Err((start, "missing value for block clause".into()));
            }
            "define" if !open.is_empty() => return Err((start, "unexpected {{define}}".into())),
            "if" | "range" | "with" | "define" | "block" => open.push((keyword, false)),
            "else" => match open.last_mut() {
                Some(("if" | "range" | "with", done @ false)) => {
                    let tail = words["else".len()..].trim_start();
                    *done = !(tail.starts_with("if") || tail.starts_with("with"));
                }
                Some(("if" | "range" | "with", true)) => {
                    return Err((start, "expected end; found {{else}}".into()));
                }
                _ => return Err((start, "unexpected {{else}}".into())),
            },
            "end" if open.pop().is_none() => return Err((start, "unexpected {{end}}".into())),
            "break" | "continue" if !open.iter().any(|(k, _)| *k == "range") => {
                return Err((start, format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
            }
            _ => {}
        }
        at = end + 2;
    }
    if open.is_empty() {
        Ok(dangling)
    } else {
        Err((text.len(), "unexpected EOF".into()))
    }
}

/// Where the `}}` of the action that begins at `from` stands; quoted texts and comments are
/// skipped.
fn action_end(text: &str, from: usize) -> Result<usize, &'static str> {
    let bytes = text.as_bytes();
    let body = text[from..].trim_start();
    if body.starts_with("/*") {
        let comment = text.len() - body.len();
        let close = comment + text[comment..].find("*/").ok_or("unclosed comment")?;
        return text[close..]
            .find("}}")
            .map(|i| close + i)
            .ok_or("comment ends before closing delimiter");
    }
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Ok(at),
            b'`' => {
                at += 1 + text[at + 1..]
                    .find('`')
                    .ok_or("unterminated raw quoted string")?
            }
            quote @ (b'"' | b'\'') => {
                at += 1;
                while let Some(byte) = bytes.get(at).filter(|byte| **byte != quote) {
                    at += if *byte == b'\\' { 2 } else { 1 };
                }
                if at >= bytes.len() {
                    return Err(if quote == b'"' {
                        "unterminated quoted string"
                    } else {
                        "unterminated character constant"
                    });
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err("unclosed action")
}

/// Checks that every function and every variable exists.
pub(in crate::template) fn names(
    tree: &ListNode,
    defines: &[DefineNode],
    functions: &Functions,
) -> Result<(), Fault> {
    let check = |list: &ListNode| {
        Names {
            functions,
            variables: vec!["$".into()],
        }
        .list(list)
    };
    check(tree)?;
    defines.iter().try_for_each(|define| check(&define.body))
}

struct Names<'a> {
    functions: &'a Functions,
    variables: Vec<SmolStr>,
}

impl Names<'_> {
    fn list(&mut self, list: &ListNode) -> Result<(), Fault> {
        list.nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &Node) -> Result<(), Fault> {
        match node {
            Node::List(list) => self.list(list),
            Node::Action(action) => self.pipe(&action.pipe),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                let outer = self.variables.len();
                self.pipe(&branch.pipe)?;
                let inner = self.variables.len();
                self.list(&branch.body)?;
                self.variables.truncate(inner);
                if let Some(body) = &branch.else_body {
                    self.list(body)?;
                }
                self.variables.truncate(outer);
                Ok(())
            }
            Node::Template(call) => call.pipe.as_ref().map_or(Ok(()), |pipe| self.pipe(pipe)),
            Node::Define(define) => Names {
                functions: self.functions,
                variables: vec!["$".into()],
            }
            .list(&define.body),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), Fault> {
        for name in pipe.decl.iter().filter(|_| pipe.is_assign) {
            self.variable(pipe.pos.offset, name)?;
        }
        for (index, command) in pipe.commands.iter().enumerate() {
            for argument in &command.args {
                self.expression(argument)?;
            }
            let literal = matches!(
                command.args.first(),
                Some(
                    Expr::Bool(..)
                        | Expr::Number(..)
                        | Expr::String(..)
                        | Expr::Nil(..)
                        | Expr::Dot(_)
                )
            );
            if index > 0 && literal {
                return Err((
                    command.pos.offset,
                    format!("non executable command in pipeline stage {}", index + 1),
                ));
            }
        }
        if !pipe.is_assign {
            self.variables.extend(pipe.decl.iter().cloned());
        }
        Ok(())
    }

    fn expression(&mut self, expr: &Expr) -> Result<(), Fault> {
        match expr {
            Expr::Variable(pos, _, fields)
            | Expr::Field(pos, fields)
            | Expr::Chain(pos, _, fields)
                if fields.len() > MAX_FIELDS =>
            {
                Err((
                    pos.offset,
                    format!("more than {MAX_FIELDS} fields in a row"),
                ))
            }
            Expr::Variable(pos, name, _) => self.variable(pos.offset, name),
            Expr::Identifier(pos, name) => {
                let known =
                    SPECIAL.contains(&name.as_str()) || self.functions.contains_key(name.as_str());
                if known {
                    Ok(())
                } else {
                    Err((
                        pos.offset,
                        format!("function {:?} not defined", name.as_str()),
                    ))
                }
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expression(inner),
            _ => Ok(()),
        }
    }

    fn variable(&self, at: usize, name: &SmolStr) -> Result<(), Fault> {
        if self.variables.contains(name) {
            Ok(())
        } else {
            Err((at, format!("undefined variable {:?}", name.as_str())))
        }
    }
}
