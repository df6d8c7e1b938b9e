//! Turns each call and each field chain (`.Labels.instance`, `$x.Format "15:04"`) into calls of a
//! few functions that know methods, the zero values of typed maps, what an expansion may spend, and
//! the place of a failure. Go finds the first two by reflection.

use gotmpl::parse::{
    ActionNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos, SmolStr,
};

/// Name of the function that every call becomes: `__call place "name" arguments…`. No template can
/// name it: `strict` refuses it.
pub(in crate::template) const CALL: &str = "__call";
/// Name of the function that every field access becomes: `__dot place base "Name" arguments…`.
pub(in crate::template) const DOT: &str = "__dot";
/// Name of the function through which every printed value passes, because `gotmpl` and Go write
/// numbers differently.
pub(in crate::template) const SHOWN: &str = "__shown";
/// Name of the function through which everything passes that is ranged over: `__each place value`.
pub(in crate::template) const EACH: &str = "__each";
/// Name of the function that counts a turn of a loop or a call of a template.
pub(in crate::template) const STEP: &str = "__step";
/// Name of the function that gives Go's nil, the dot of `{{template "x"}}`.
pub(in crate::template) const NOTHING: &str = "__nothing";

/// Name of the function that fails: `__fail "place: why"`.
pub(in crate::template) const FAIL: &str = "__fail";

/// Name of the function through which the argument of a called template passes:
/// `__template place "name" value`.
pub(in crate::template) const TEMPLATE: &str = "__template";
/// What stands between the place of a call and those of its arguments, and before that of a
/// constant.
pub(in crate::template) const ARGUMENTS: char = '\u{1}';
pub(in crate::template) const CONSTANT: char = '\u{2}';

/// What is shown of an expression that fails, in characters.
const MAX_EXCERPT: usize = 200;

/// Where a tree stands.
pub(in crate::template) struct Origin<'a> {
    /// The name of the file, empty for a text of the configuration.
    pub file: &'a str,
    /// The template's name.
    pub template: &'a str,
    /// The text it was read from.
    pub source: &'a str,
}

impl Origin<'_> {
    /// Rewrites a whole template.
    pub(in crate::template) fn template(&self, list: &mut ListNode) {
        self.list(list);
        let pos = list.pos;
        list.nodes.insert(0, step(pos));
    }

    fn list(&self, list: &mut ListNode) {
        for node in &mut list.nodes {
            match node {
                Node::List(inner) => self.list(inner),
                Node::Action(action) => {
                    let printed = action.pipe.decl.is_empty() && !ends_as_text(&action.pipe);
                    self.pipe(&mut action.pipe);
                    if printed {
                        action
                            .pipe
                            .commands
                            .push(calling(action.pos, SHOWN, Vec::new()));
                    }
                }
                Node::Range(branch) => {
                    let place = self.place(branch.pipe.pos, &source_of_pipe(&branch.pipe));
                    self.pipe(&mut branch.pipe);
                    let pos = branch.pos;
                    branch.pipe.commands.push(calling(
                        pos,
                        EACH,
                        vec![Expr::String(pos, place.as_str().into())],
                    ));
                    self.list(&mut branch.body);
                    branch.body.nodes.insert(0, step(pos));
                    branch.else_body.iter_mut().for_each(|body| self.list(body));
                }
                Node::If(branch) | Node::With(branch) => {
                    self.pipe(&mut branch.pipe);
                    self.list(&mut branch.body);
                    branch.else_body.iter_mut().for_each(|body| self.list(body));
                }
                Node::Template(call) => {
                    let argument = call
                        .pipe
                        .as_ref()
                        .map(|pipe| format!(" {}", source_of_pipe(pipe)))
                        .unwrap_or_default();
                    let excerpt = format!(
                        "{{{{template {}{argument}}}}}",
                        crate::model::text::quote(&call.name)
                    );
                    // Go places it where the name stands.
                    let name = self
                        .source
                        .get(call.pos.offset..)
                        .and_then(|rest| rest.find(['"', '`']))
                        .unwrap_or(0);
                    let place =
                        self.place(Pos::new(call.pos.offset + name, call.pos.line), &excerpt);
                    let (pos, place, name) =
                        (call.pos, place.as_str().into(), call.name.as_str().into());
                    let nothing = || PipeNode {
                        pos,
                        decl: Vec::new(),
                        commands: vec![calling(pos, NOTHING, Vec::new())],
                        is_assign: false,
                    };
                    let mut pipe = call.pipe.take().map_or_else(nothing, |mut pipe| {
                        self.pipe(&mut pipe);
                        pipe
                    });
                    pipe.commands.push(calling(
                        pos,
                        TEMPLATE,
                        vec![Expr::String(pos, place), Expr::String(pos, name)],
                    ));
                    call.pipe = Some(pipe);
                }
                Node::Define(define) => self.list(&mut define.body),
                Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
            }
        }
    }

    fn pipe(&self, pipe: &mut PipeNode) {
        pipe.commands
            .iter_mut()
            .for_each(|command| self.command(command));
    }

    fn command(&self, command: &mut CommandNode) {
        let place = self.place(
            command.args.first().map_or(command.pos, Expr::pos),
            &source_of_command(command),
        );
        let mut args = std::mem::take(&mut command.args).into_iter();
        let Some(first) = args.next() else { return };
        let places = args
            .as_slice()
            .iter()
            .fold(place.clone(), |mut places, arg| {
                places.push(ARGUMENTS);
                if matches!(arg, Expr::Number(..) | Expr::Bool(..) | Expr::String(..)) {
                    places.push(CONSTANT);
                }
                places + &self.place(position(arg), &source(arg))
            });
        let rest: Vec<Expr> = args.map(|arg| self.expression(arg)).collect();
        let (whole, at) = (source(&first), position(&first));
        command.args = match self.split(first) {
            (Expr::Identifier(pos, name), fields) => {
                let call = self.call(pos, &name, &places, rest);
                let Some(outer) = fields.split_last().map(|(last, _)| last) else {
                    command.args = call;
                    return;
                };
                // `function.Field arguments`: the arguments belong to the function.
                let inner =
                    fields[..fields.len() - 1]
                        .iter()
                        .fold(nested(pos, call), |base, name| {
                            let access = self.access(pos, base, name, (at, &whole));
                            nested(pos, access)
                        });
                self.access(pos, inner, outer, (at, &whole))
            }
            (base, fields) => match fields.split_last() {
                None if matches!(base, Expr::Nil(_)) => {
                    self.failing(base.pos(), &whole, "nil is not a command")
                }
                None if !rest.is_empty() => self.failing(
                    base.pos(),
                    &whole,
                    &format!("can't give argument to non-function {whole}"),
                ),
                None => vec![base],
                Some((last, fields)) => {
                    let pos = base.pos();
                    let base = fields.iter().fold(base, |base, name| {
                        nested(pos, self.access(pos, base, name, (at, &whole)))
                    });
                    self.access(pos, base, last, (at, &whole))
                        .into_iter()
                        .chain(rest)
                        .collect()
                }
            },
        };
    }

    fn expression(&self, expr: Expr) -> Expr {
        let (whole, at) = (source(&expr), position(&expr));
        let (base, fields) = self.split(expr);
        let pos = base.pos();
        let base = match base {
            Expr::Identifier(pos, name) => nested(
                pos,
                self.call(pos, &name, &self.place(pos, &name), Vec::new()),
            ),
            other => other,
        };
        fields.iter().fold(base, |base, name| {
            nested(pos, self.access(pos, base, name, (at, &whole)))
        })
    }

    /// What the chain starts from, and its names.
    fn split(&self, expr: Expr) -> (Expr, Vec<SmolStr>) {
        match expr {
            Expr::Field(pos, fields) => (Expr::Dot(pos), fields),
            Expr::Variable(pos, name, fields) => (Expr::Variable(pos, name, Vec::new()), fields),
            Expr::Chain(_, inner, fields) => {
                let (base, mut all) = self.split(*inner);
                all.extend(fields);
                (base, all)
            }
            Expr::Pipe(pos, mut inner) => {
                self.pipe(&mut inner);
                (Expr::Pipe(pos, inner), Vec::new())
            }
            other => (other, Vec::new()),
        }
    }

    /// The call of a function: through [`CALL`], but for those that `gotmpl` itself must see.
    fn call(&self, pos: Pos, name: &SmolStr, place: &str, rest: Vec<Expr>) -> Vec<Expr> {
        if matches!(name.as_str(), "and" | "or" | "html" | "js" | "urlquery") {
            return std::iter::once(Expr::Identifier(pos, name.clone()))
                .chain(rest)
                .collect();
        }
        let fixed = [
            Expr::Identifier(pos, CALL.into()),
            Expr::String(pos, place.into()),
            Expr::String(pos, name.as_str().into()),
        ];
        fixed.into_iter().chain(rest).collect()
    }

    fn failing(&self, pos: Pos, excerpt: &str, why: &str) -> Vec<Expr> {
        let message = format!("{}: {why}", self.place(pos, excerpt));
        vec![
            Expr::Identifier(pos, FAIL.into()),
            Expr::String(pos, message.as_str().into()),
        ]
    }

    fn access(&self, pos: Pos, base: Expr, name: &SmolStr, (at, whole): (Pos, &str)) -> Vec<Expr> {
        let place = self.place(at, whole);
        vec![
            Expr::Identifier(pos, DOT.into()),
            Expr::String(pos, place.as_str().into()),
            base,
            Expr::String(pos, name.as_str().into()),
        ]
    }

    /// `file:line:column: executing "template" at <excerpt>`, as Go writes it.
    fn place(&self, pos: Pos, excerpt: &str) -> String {
        let before = self
            .source
            .get(..pos.offset.min(self.source.len()))
            .unwrap_or("");
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        let excerpt: String = if excerpt.chars().count() > MAX_EXCERPT {
            excerpt
                .chars()
                .take(MAX_EXCERPT)
                .chain("...".chars())
                .collect()
        } else {
            excerpt.to_owned()
        };
        format!(
            "{}:{}:{column}: executing {:?} at <{excerpt}>",
            self.file, pos.line, self.template
        )
    }
}

/// Where Go places a chain: behind its first part.
fn position(expr: &Expr) -> Pos {
    let behind = |pos: Pos, length: usize| Pos::new(pos.offset + length, pos.line);
    match expr {
        Expr::Field(pos, fields) if fields.len() > 1 => behind(*pos, 1 + fields[0].len()),
        Expr::Variable(pos, name, fields) if !fields.is_empty() => behind(*pos, name.len()),
        other => other.pos(),
    }
}

/// Whether the last command gives a text, so that nothing is left to do; HTML escaping must find
/// `html` and `urlquery` last.
fn ends_as_text(pipe: &PipeNode) -> bool {
    let last = pipe
        .commands
        .last()
        .and_then(|command| command.args.first());
    matches!(last, Some(Expr::Identifier(_, name)) if matches!(name.as_str(), "html" | "js" | "urlquery"))
}

fn step(pos: Pos) -> Node {
    let pipe = PipeNode {
        pos,
        decl: vec!["$__step".into()],
        commands: vec![calling(pos, STEP, Vec::new())],
        is_assign: false,
    };
    Node::Action(ActionNode { pos, pipe })
}

fn calling(pos: Pos, name: &str, args: Vec<Expr>) -> CommandNode {
    CommandNode {
        pos,
        args: std::iter::once(Expr::Identifier(pos, name.into()))
            .chain(args)
            .collect(),
    }
}

fn nested(pos: Pos, args: Vec<Expr>) -> Expr {
    Expr::Pipe(
        pos,
        PipeNode {
            pos,
            decl: Vec::new(),
            commands: vec![CommandNode { pos, args }],
            is_assign: false,
        },
    )
}

/// An expression as Go prints it in errors.
fn source(expr: &Expr) -> String {
    let chain = |base: String, fields: &[SmolStr]| {
        fields
            .iter()
            .fold(base, |out, field| format!("{out}.{field}"))
    };
    match expr {
        Expr::Dot(_) => ".".into(),
        Expr::Nil(_) => "nil".into(),
        Expr::Field(_, fields) => chain(String::new(), fields),
        Expr::Variable(_, name, fields) => chain(name.to_string(), fields),
        Expr::Identifier(_, name) => name.to_string(),
        Expr::String(_, s) => crate::model::text::quote(s),
        Expr::Bool(_, value) => value.to_string(),
        Expr::Number(_, Number::Int(number)) => number.to_string(),
        Expr::Number(_, Number::Uint(number)) => number.to_string(),
        Expr::Number(_, Number::Float(number)) => number.to_string(),
        Expr::Pipe(_, pipe) => format!("({})", source_of_pipe(pipe)),
        Expr::Chain(_, inner, fields) => chain(source(inner), fields),
    }
}

fn source_of_command(command: &CommandNode) -> String {
    command
        .args
        .iter()
        .map(source)
        .collect::<Vec<_>>()
        .join(" ")
}

fn source_of_pipe(pipe: &PipeNode) -> String {
    let commands = pipe
        .commands
        .iter()
        .map(source_of_command)
        .collect::<Vec<_>>()
        .join(" | ");
    if pipe.decl.is_empty() {
        return commands;
    }
    let names: Vec<&str> = pipe.decl.iter().map(SmolStr::as_str).collect();
    format!(
        "{} {} {commands}",
        names.join(", "),
        if pipe.is_assign { "=" } else { ":=" }
    )
}
