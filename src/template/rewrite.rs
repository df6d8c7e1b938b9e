//! Turns each field chain (`.Labels.instance`, `$x.Format "15:04"`) into calls of one function, which knows methods and the zero values of
//! typed maps. Go finds both by reflection.

use gotmpl::parse::{CommandNode, Expr, ListNode, Node, PipeNode, Pos, SmolStr};

/// Name of the function that every field access becomes: `__dot base "Name" arguments…`. No template can name it: `strict` refuses it.
pub(super) const DOT: &str = "__dot";

/// Name of the function through which every printed value passes, because `gotmpl` and Go write numbers differently.
pub(super) const SHOWN: &str = "__shown";

/// Rewrites every expression under `list`.
pub(super) fn list(list: &mut ListNode) {
    for node in &mut list.nodes {
        match node {
            Node::List(inner) => self::list(inner),
            Node::Action(action) => {
                pipe(&mut action.pipe);
                if action.pipe.decl.is_empty() {
                    let pos = action.pos;
                    action.pipe.commands.push(CommandNode { pos, args: vec![Expr::Identifier(pos, SHOWN.into())] });
                }
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                pipe(&mut branch.pipe);
                self::list(&mut branch.body);
                if let Some(body) = &mut branch.else_body {
                    self::list(body);
                }
            }
            Node::Template(call) => {
                if let Some(argument) = &mut call.pipe {
                    pipe(argument);
                }
            }
            Node::Define(define) => self::list(&mut define.body),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn pipe(pipe: &mut PipeNode) {
    pipe.commands.iter_mut().for_each(command);
}

fn command(command: &mut CommandNode) {
    let mut args = std::mem::take(&mut command.args).into_iter();
    let Some(first) = args.next() else { return };
    let rest = args.map(expression);
    command.args = match split(first) {
        (base, fields) if fields.is_empty() => std::iter::once(base).chain(rest).collect(),
        // `function.Field arguments`: the arguments belong to the function.
        (base @ Expr::Identifier(..), fields) => {
            let pos = base.pos();
            let call = nested(pos, std::iter::once(base).chain(rest).collect());
            vec![fields.into_iter().fold(call, |base, name| nested(pos, access(pos, base, name)))]
        }
        (base, mut fields) => {
            let pos = base.pos();
            let last = fields.pop().unwrap_or_default();
            let base = fields.into_iter().fold(base, |base, name| nested(pos, access(pos, base, name)));
            access(pos, base, last).into_iter().chain(rest).collect()
        }
    };
}

fn expression(expr: Expr) -> Expr {
    let (base, fields) = split(expr);
    let pos = base.pos();
    fields.into_iter().fold(base, |base, name| nested(pos, access(pos, base, name)))
}

/// What the chain starts from, and its names.
fn split(expr: Expr) -> (Expr, Vec<SmolStr>) {
    match expr {
        Expr::Field(pos, fields) => (Expr::Dot(pos), fields),
        Expr::Variable(pos, name, fields) => (Expr::Variable(pos, name, Vec::new()), fields),
        Expr::Chain(_, inner, fields) => {
            let (base, mut all) = split(*inner);
            all.extend(fields);
            (base, all)
        }
        Expr::Pipe(pos, mut inner) => {
            pipe(&mut inner);
            (Expr::Pipe(pos, inner), Vec::new())
        }
        other => (other, Vec::new()),
    }
}

fn access(pos: Pos, base: Expr, name: SmolStr) -> Vec<Expr> {
    vec![Expr::Identifier(pos, DOT.into()), base, Expr::String(pos, name.as_str().into())]
}

fn nested(pos: Pos, args: Vec<Expr>) -> Expr {
    Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands: vec![CommandNode { pos, args }], is_assign: false })
}
