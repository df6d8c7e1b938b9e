//! What Go refuses when it reads a template, and `gotmpl` would accept or find only when running it: unbalanced blocks, unknown functions,
//! undeclared variables.

use gotmpl::FuncMap;
use gotmpl::parse::{DefineNode, Expr, ListNode, Node, PipeNode, SmolStr};

use super::rewrite::{DOT, SHOWN};

/// A line (from 1) and what is wrong there, in Go's words.
type Fault = (usize, String);

const BUILTINS: [&str; 18] =
    ["and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf", "println", "slice"];

/// Checks that every block has its `end`, every `else` and `end` its block.
pub(super) fn balanced(text: &str) -> Result<(), Fault> {
    // The keyword that opened each block, and whether it had its final `else`.
    let mut open: Vec<(&str, bool)> = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find("{{").map(|i| at + i) {
        let inside = text[start + 2..].strip_prefix('-').map_or(&text[start + 2..], |rest| rest);
        let line = 1 + text[..start].matches('\n').count();
        let end = action_end(text, text.len() - inside.len()).ok_or_else(|| (line, "unclosed action".to_owned()))?;
        let words = inside[..end - (text.len() - inside.len())].trim_start();
        let keyword = &words[..words.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(words.len())];
        match keyword {
            "define" if !open.is_empty() => return Err((line, "unexpected {{define}}".into())),
            "if" | "range" | "with" | "define" | "block" => open.push((keyword, false)),
            "else" => match open.last_mut() {
                Some(("if" | "range" | "with", done @ false)) => {
                    let tail = words["else".len()..].trim_start();
                    *done = !(tail.starts_with("if") || tail.starts_with("with"));
                }
                Some(("if" | "range" | "with", true)) => return Err((line, "expected end; found {{else}}".into())),
                _ => return Err((line, "unexpected {{else}}".into())),
            },
            "end" if open.pop().is_none() => return Err((line, "unexpected {{end}}".into())),
            "break" | "continue" if !open.iter().any(|(k, _)| *k == "range") => {
                return Err((line, format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
            }
            _ => {}
        }
        at = end + 2;
    }
    if open.is_empty() { Ok(()) } else { Err((1 + text.matches('\n').count(), "unexpected EOF".into())) }
}

/// Where the `}}` of the action that begins at `from` stands; quoted texts and comments are skipped.
fn action_end(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let body = text[from..].trim_start();
    if body.starts_with("/*") {
        let comment = text.len() - body.len();
        let close = comment + text[comment..].find("*/")?;
        return text[close..].find("}}").map(|i| close + i);
    }
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            b'`' => at += 1 + text[at + 1..].find('`')?,
            quote @ (b'"' | b'\'') => {
                at += 1;
                while *bytes.get(at)? != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Checks that every function and every variable exists.
pub(super) fn names(tree: &ListNode, defines: &[DefineNode], functions: &FuncMap) -> Result<(), Fault> {
    let check = |list: &ListNode| Names { functions, variables: vec!["$".into()] }.list(list);
    check(tree)?;
    defines.iter().try_for_each(|define| check(&define.body))
}

struct Names<'a> {
    functions: &'a FuncMap,
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
            Node::Define(define) => Names { functions: self.functions, variables: vec!["$".into()] }.list(&define.body),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), Fault> {
        for name in pipe.decl.iter().filter(|_| pipe.is_assign) {
            self.variable(pipe.pos.line, name)?;
        }
        for (index, command) in pipe.commands.iter().enumerate() {
            for argument in &command.args {
                self.expression(argument)?;
            }
            let literal =
                matches!(command.args.first(), Some(Expr::Bool(..) | Expr::Number(..) | Expr::String(..) | Expr::Nil(..) | Expr::Dot(_)));
            if index > 0 && literal {
                return Err((command.pos.line, format!("non executable command in pipeline stage {}", index + 1)));
            }
        }
        if !pipe.is_assign {
            self.variables.extend(pipe.decl.iter().cloned());
        }
        Ok(())
    }

    fn expression(&mut self, expr: &Expr) -> Result<(), Fault> {
        match expr {
            Expr::Variable(pos, name, _) => self.variable(pos.line, name),
            Expr::Identifier(pos, name) => {
                let known = name != DOT
                    && name != SHOWN
                    && (BUILTINS.contains(&name.as_str()) || name == "urlquery" || self.functions.contains_key(name.as_str()));
                if known { Ok(()) } else { Err((pos.line, format!("function {:?} not defined", name.as_str()))) }
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expression(inner),
            _ => Ok(()),
        }
    }

    fn variable(&self, line: usize, name: &SmolStr) -> Result<(), Fault> {
        if self.variables.contains(name) { Ok(()) } else { Err((line, format!("undefined variable {:?}", name.as_str()))) }
    }
}
