//! PromQL tokens to syntax tree: precedence climbing, with the refusals of Prometheus's grammar
//! word for word.
//!
//! Only the first mistake is reported. [`parse`] also checks types, so that a returned tree can be
//! evaluated. Refused beyond what Prometheus refuses: texts longer than [`MAX_LENGTH`], and nesting
//! so deep that recursion over the tree would be unsafe.

use super::fault::Fault;
use std::borrow::Cow;
use std::sync::OnceLock;

use super::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, MAX_DEPTH, Matching,
    NumberLiteral, Paren, Span, StringLiteral, Unary, UnaryOp,
};
use super::check::check;
use super::depth::deep;
use super::lexer::{Keyword, Kind, LexError, Lexer, Token};
use super::literal::{parse_number, parse_seconds, unquote};
use crate::model::Matcher;
use crate::promql::functions;

/// Longest expression that is read, in bytes: as long as a form may be.
pub const MAX_LENGTH: usize = 10 << 20;
/// Deepest nesting of operands while parsing: an operator nests its right side, and that is an
/// operand.
const MAX_NESTING: usize = 2 * MAX_DEPTH;

/// Why a text is not an expression. Prints as `1:5: parse error: unexpected ")"`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", location(*line, *column))]
pub struct ParseError {
    /// Line, from 1; 0 when there is no text at all.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// The offending bytes.
    pub span: Span,
    /// What is wrong, in Prometheus's words.
    pub message: String,
}

fn location(line: usize, column: usize) -> String {
    if line == 0 {
        "unknown position".into()
    } else {
        format!("{line}:{column}")
    }
}

impl ParseError {
    pub(in crate::promql) fn new(text: &str, fault: Fault) -> Self {
        let before = &text.as_bytes()[..fault.span.start.min(text.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        ParseError {
            line: if text.is_empty() { 0 } else { line },
            column,
            span: fault.span,
            message: fault.message,
        }
    }
}

/// Which experimental parts of the language are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Experimental functions, and aggregations (`mad_over_time`, `limitk`).
    pub experimental: bool,
}

/// The language of this process: a rule, a query and a test of that rule must be read alike, so it
/// is chosen once, by the command line.
static LANGUAGE: OnceLock<ParseOptions> = OnceLock::new();

/// Chooses the language that [`parse`] reads, before anything is read; the first choice holds.
pub fn choose_language(options: ParseOptions) {
    let _ = LANGUAGE.set(options);
}

/// The language that [`parse`] reads: the stable one unless [`choose_language`] said otherwise.
pub fn language() -> ParseOptions {
    LANGUAGE.get().copied().unwrap_or_default()
}

/// Reads an expression in the language of this process and checks its types.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_with(text, language())
}

/// As [`parse`], with what it uses beyond the Prometheus that most run: 3.5, without features that
/// are switched on.
pub fn parse_noting(text: &str) -> Result<(Expr, Vec<Foreign>), ParseError> {
    read(text, language())
}

/// Reads an expression and checks its types.
pub fn parse_with(text: &str, options: ParseOptions) -> Result<Expr, ParseError> {
    read(text, options).map(|(expr, _)| expr)
}

fn read(text: &str, options: ParseOptions) -> Result<(Expr, Vec<Foreign>), ParseError> {
    let read = || -> Result<(Expr, Vec<Foreign>), Fault> {
        let mut parser = Parser::new(text, options)?;
        if parser.peek()?.kind == Kind::End {
            return Err(Fault::new(Span::default(), "no expression found in input"));
        }
        let mut expr = parser.expression(0)?.expr;
        parser.expect_end()?;
        check(&mut expr, text)?;
        Ok((expr, parser.foreign))
    };
    read().map_err(|fault| ParseError::new(text, fault))
}

/// Reads a selector alone, as `match[]` parameters hold it. It may match everything.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let read = || -> Result<Vec<Matcher>, Fault> {
        let mut parser = Parser::new(text, ParseOptions::default())?;
        let selector = parser.bare_selector()?;
        parser.expect_end()?;
        Ok(selector.matchers)
    };
    read().map_err(|fault| ParseError::new(text, fault))
}

/// A subtree and its height.
pub(in crate::promql) struct Tree {
    pub expr: Expr,
    pub height: usize,
}

/// What an unexpected token interrupts, and what was expected instead.
pub(in crate::promql) type Context = (&'static str, &'static str);

/// What a text uses that not every Prometheus takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Where it stands.
    pub span: Span,
    /// Which Prometheus refuses it.
    pub problem: Cow<'static, str>,
}

pub(in crate::promql) struct Parser<'a> {
    lexer: Lexer<'a>,
    peeked: Option<Token<'a>>,
    contexts: Vec<Context>,
    foreign: Vec<Foreign>,
    nesting: usize,
    pub(in crate::promql) options: ParseOptions,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, options: ParseOptions) -> Result<Self, Fault> {
        if text.len() > MAX_LENGTH {
            return Err(Fault::new(
                Span::default(),
                format!("expression is longer than {MAX_LENGTH} bytes"),
            ));
        }
        Ok(Parser {
            lexer: Lexer::new(text),
            peeked: None,
            contexts: Vec::new(),
            foreign: Vec::new(),
            nesting: 0,
            options,
        })
    }

    pub(in crate::promql) fn peek(&mut self) -> Result<Token<'a>, Fault> {
        if let Some(token) = self.peeked {
            return Ok(token);
        }
        let token = self
            .lexer
            .next()
            .map_err(|LexError { at, message }| Fault::new(Span::new(at, at), message))?;
        Ok(*self.peeked.insert(token))
    }

    pub(in crate::promql) fn next(&mut self) -> Result<Token<'a>, Fault> {
        let token = self.peek()?;
        self.peeked = None;
        Ok(token)
    }

    pub(in crate::promql) fn take(&mut self, kind: Kind) -> Result<Option<Token<'a>>, Fault> {
        if self.peek()?.kind == kind {
            self.next().map(Some)
        } else {
            Ok(None)
        }
    }

    pub(in crate::promql) fn expect(&mut self, kind: Kind) -> Result<Token<'a>, Fault> {
        match self.take(kind)? {
            Some(token) => Ok(token),
            None => self.unexpected(),
        }
    }

    fn expect_end(&mut self) -> Result<(), Fault> {
        self.expect(Kind::End).map(drop)
    }

    /// Refuses the next token in the words of the innermost context.
    pub(in crate::promql) fn unexpected<T>(&mut self) -> Result<T, Fault> {
        let context = self.contexts.last().copied().unwrap_or_default();
        self.unexpected_in(context)
    }

    pub(in crate::promql) fn unexpected_in<T>(
        &mut self,
        (context, expected): Context,
    ) -> Result<T, Fault> {
        let token = self.peek()?;
        let mut message = format!("unexpected {}", token.description());
        if !context.is_empty() {
            message.push_str(&format!(" in {context}"));
        }
        if !expected.is_empty() {
            message.push_str(&format!(", expected {expected}"));
        }
        Err(Fault::new(token.span, message))
    }

    /// Notes what another Prometheus refuses.
    pub(in crate::promql) fn note(&mut self, span: Span, problem: impl Into<Cow<'static, str>>) {
        self.foreign.push(Foreign {
            span,
            problem: problem.into(),
        });
    }

    /// Runs `read` inside a context.
    pub(in crate::promql) fn within<T>(
        &mut self,
        context: Context,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.contexts.push(context);
        let result = read(self);
        self.contexts.pop();
        result
    }

    /// An expression of operators that bind tighter than `floor`.
    fn expression(&mut self, floor: u8) -> Result<Tree, Fault> {
        deep(|| self.operators(floor))
    }

    fn operators(&mut self, floor: u8) -> Result<Tree, Fault> {
        let mut lhs = self.operand()?;
        loop {
            let Kind::Operator(op) = self.peek()?.kind else {
                return Ok(lhs);
            };
            let strength = strength(op);
            if strength <= floor {
                return Ok(lhs);
            }
            self.next()?;
            let (return_bool, matching) = self.modifiers()?;
            // `^` is right-associative: its right side may hold another one.
            self.deeper()?;
            let rhs = self.expression(if op == BinaryOp::Pow {
                strength - 1
            } else {
                strength
            })?;
            self.shallower();
            let height = lhs.height.max(rhs.height);
            let span = Span::new(lhs.expr.span().start, rhs.expr.span().end);
            let (lhs_expr, rhs_expr) = (Box::new(lhs.expr), Box::new(rhs.expr));
            let binary = Binary {
                op,
                lhs: lhs_expr,
                rhs: rhs_expr,
                return_bool,
                matching: Some(matching),
                span,
            };
            lhs = grown(Expr::Binary(binary), height)?;
        }
    }

    fn operand(&mut self) -> Result<Tree, Fault> {
        self.deeper()?;
        let mut tree = self.primary()?;
        while matches!(
            self.peek()?.kind,
            Kind::LeftBracket | Kind::At | Kind::Keyword(Keyword::Offset)
        ) {
            tree = self.postfix(tree)?;
        }
        self.shallower();
        Ok(tree)
    }

    pub(in crate::promql) fn deeper(&mut self) -> Result<(), Fault> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            let span = self.peek()?.span;
            return Err(Fault::new(
                span,
                format!("expression nests deeper than {MAX_NESTING} levels"),
            ));
        }
        Ok(())
    }

    pub(in crate::promql) fn shallower(&mut self) {
        self.nesting -= 1;
    }

    fn primary(&mut self) -> Result<Tree, Fault> {
        let token = self.peek()?;
        match token.kind {
            Kind::Number | Kind::Duration => self.number().map(|n| Tree {
                expr: Expr::Number(n),
                height: 1,
            }),
            Kind::String => {
                self.next()?;
                let value = unquote(token.text).map_err(|error| Fault::new(token.span, error))?;
                Ok(Tree {
                    expr: Expr::String(StringLiteral {
                        value,
                        span: token.span,
                    }),
                    height: 1,
                })
            }
            Kind::LeftParen => self.paren(),
            Kind::Operator(BinaryOp::Add) => self.unary(UnaryOp::Plus),
            Kind::Operator(BinaryOp::Sub) => self.unary(UnaryOp::Minus),
            Kind::Aggregate(op) => {
                self.next()?;
                match self.peek()?.kind {
                    Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without) => {
                        self.aggregate(op, token)
                    }
                    _ => self.selector(Some(token)).map(|s| Tree {
                        expr: Expr::VectorSelector(s),
                        height: 1,
                    }),
                }
            }
            Kind::Identifier => {
                self.next()?;
                if self.peek()?.kind == Kind::LeftParen {
                    return self.call(token);
                }
                self.selector(Some(token)).map(|s| Tree {
                    expr: Expr::VectorSelector(s),
                    height: 1,
                })
            }
            _ => self.bare_selector().map(|s| Tree {
                expr: Expr::VectorSelector(s),
                height: 1,
            }),
        }
    }

    pub(in crate::promql) fn number(&mut self) -> Result<NumberLiteral, Fault> {
        let token = self.next()?;
        let duration = token.kind == Kind::Duration;
        let value = if duration {
            parse_seconds(token.text)
        } else {
            parse_number(token.text)
        };
        let value = value.map_err(|error| Fault::new(token.span, error))?;
        Ok(NumberLiteral {
            value,
            duration,
            span: token.span,
        })
    }

    fn paren(&mut self) -> Result<Tree, Fault> {
        let open = self.next()?;
        let inner = self.expression(0)?;
        let close = self.expect(Kind::RightParen)?;
        grown(
            Expr::Paren(Paren {
                expr: Box::new(inner.expr),
                span: Span::new(open.span.start, close.span.end),
            }),
            inner.height,
        )
    }

    /// A sign binds like `*`: it covers powers, and nothing else.
    fn unary(&mut self, op: UnaryOp) -> Result<Tree, Fault> {
        let start = self.next()?.span.start;
        let inner = self.expression(strength(BinaryOp::Mul))?;
        if let Expr::Number(number) = inner.expr {
            let value = if op == UnaryOp::Minus {
                -number.value
            } else {
                number.value
            };
            let span = Span::new(start, number.span.end);
            return Ok(Tree {
                expr: Expr::Number(NumberLiteral {
                    value,
                    span,
                    ..number
                }),
                height: 1,
            });
        }
        let span = Span::new(start, inner.expr.span().end);
        grown(
            Expr::Unary(Unary {
                op,
                expr: Box::new(inner.expr),
                span,
            }),
            inner.height,
        )
    }

    fn call(&mut self, name: Token<'a>) -> Result<Tree, Fault> {
        let (args, end) = self.arguments()?;
        let fail = |message: String| Err(Fault::new(name.span, message));
        let Some(function) = functions::find(name.text) else {
            return fail(format!("unknown function with name {:?}", name.text));
        };
        if function.experimental && !self.options.experimental {
            return fail(format!("function {:?} is not enabled", name.text));
        }
        if function.experimental {
            self.note(
                name.span,
                format!(
                    "Prometheus takes {} only with --enable-feature=promql-experimental-functions",
                    name.text
                ),
            );
        } else if function.name == "first_over_time" {
            self.note(
                name.span,
                "Prometheus before 3.14 does not know first_over_time",
            );
        }
        let height = args.iter().map(|a| a.height).max().unwrap_or(0);
        // Made anew: the list that was read has room for more, and a rule keeps its expression for
        // as long as it runs.
        let args = args
            .into_iter()
            .map(|a| a.expr)
            .collect::<Box<[Expr]>>()
            .into_vec();
        grown(
            Expr::Call(Call {
                function,
                args,
                span: Span::new(name.span.start, end),
            }),
            height,
        )
    }

    /// Arguments in parentheses, and where they end.
    fn arguments(&mut self) -> Result<(Vec<Tree>, usize), Fault> {
        self.expect(Kind::LeftParen)?;
        let mut args = Vec::new();
        if let Some(close) = self.take(Kind::RightParen)? {
            return Ok((args, close.span.end));
        }
        loop {
            args.push(self.expression(0)?);
            let Some(comma) = self.take(Kind::Comma)? else {
                break;
            };
            if !starts_expression(self.peek()?.kind) {
                return Err(Fault::new(
                    comma.span,
                    "trailing commas not allowed in function call args",
                ));
            }
        }
        let close = self.expect(Kind::RightParen)?;
        Ok((args, close.span.end))
    }

    fn aggregate(&mut self, op: AggregateOp, name: Token<'a>) -> Result<Tree, Fault> {
        let ((without, grouping), args, end) = self.within(("aggregation", ""), |p| {
            let before = p.grouping()?;
            let (args, mut end) = p.arguments()?;
            let after = if before.is_none() {
                p.grouping()?
            } else {
                None
            };
            if let Some((_, _, grouping_end)) = &after {
                end = *grouping_end;
            }
            let (without, labels, _) = before.or(after).unwrap_or_default();
            Ok(((without, labels), args, end))
        })?;
        let span = Span::new(name.span.start, end);
        let fail = |message: String| Err(Fault::new(span, message));
        let count = args.len();
        let wanted = if op.param().is_some() { 2 } else { 1 };
        if count == 0 {
            return fail("no arguments for aggregate expression provided".into());
        }
        if op.is_experimental() && !self.options.experimental {
            return fail(format!(
                "{op}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
            ));
        }
        if op.is_experimental() {
            self.note(
                name.span,
                format!(
                    "Prometheus takes {op} only with --enable-feature=promql-experimental-functions"
                ),
            );
        }
        if count != wanted {
            return fail(format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {count}"
            ));
        }
        let height = args.iter().map(|a| a.height).max().unwrap_or(0);
        let mut args = args.into_iter().map(|a| Box::new(a.expr));
        let param = if wanted == 2 { args.next() } else { None };
        let Some(expr) = args.next() else {
            return fail("no arguments for aggregate expression provided".into());
        };
        grown(
            Expr::Aggregate(Aggregate {
                op,
                expr,
                param,
                grouping,
                without,
                span,
            }),
            height,
        )
    }

    /// `by (…)` or `without (…)`: whether it is `without`, the labels, and where it ends.
    fn grouping(&mut self) -> Result<Option<(bool, Vec<String>, usize)>, Fault> {
        let without = match self.peek()?.kind {
            Kind::Keyword(Keyword::By) => false,
            Kind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.next()?;
        let (labels, end) = self.label_names()?;
        Ok(Some((without, labels, end)))
    }

    /// Label names in parentheses, and where they end.
    fn label_names(&mut self) -> Result<(Vec<String>, usize), Fault> {
        const LABEL: Context = ("grouping opts", "label");
        if self.take(Kind::LeftParen)?.is_none() {
            return self.unexpected_in(("grouping opts", "\"(\""));
        }
        let mut names = Vec::new();
        loop {
            if let Some(close) = self.take(Kind::RightParen)? {
                return Ok((names, close.span.end));
            }
            let token = self.peek()?;
            names.push(match token.kind {
                Kind::String => {
                    let name =
                        unquote(token.text).map_err(|error| Fault::new(token.span, error))?;
                    if name.is_empty() {
                        return Err(Fault::new(
                            token.span,
                            "invalid label name for grouping: \"\"",
                        ));
                    }
                    name
                }
                kind if may_name_label(kind) => token.text.to_owned(),
                _ => return self.unexpected_in(LABEL),
            });
            self.next()?;
            match self.peek()?.kind {
                Kind::Comma => drop(self.next()?),
                Kind::RightParen => {}
                _ => return self.unexpected_in(("grouping opts", "\",\" or \")\"")),
            }
        }
    }

    /// What may stand between a binary operator and its right operand.
    fn modifiers(&mut self) -> Result<(bool, Matching), Fault> {
        let return_bool = self.take(Kind::Keyword(Keyword::Bool))?.is_some();
        let mut matching = Matching {
            cardinality: Cardinality::OneToOne,
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
        };
        let keyword = self.peek()?.kind;
        if let Kind::Keyword(Keyword::On | Keyword::Ignoring) = keyword {
            self.next()?;
            matching.on = keyword == Kind::Keyword(Keyword::On);
            matching.labels = self.label_names()?.0;
            matching.cardinality = match self.peek()?.kind {
                Kind::Keyword(Keyword::GroupLeft) => Cardinality::ManyToOne,
                Kind::Keyword(Keyword::GroupRight) => Cardinality::OneToMany,
                _ => Cardinality::OneToOne,
            };
            if matching.cardinality != Cardinality::OneToOne {
                self.next()?;
                if self.peek()?.kind == Kind::LeftParen {
                    matching.include = self.label_names()?.0;
                }
            }
        }
        Ok((return_bool, matching))
    }

    /// A number or duration with an optional sign, and where it ends.
    pub(in crate::promql) fn signed_number(&mut self) -> Result<(f64, usize), Fault> {
        let minus = self.take(Kind::Operator(BinaryOp::Sub))?.is_some();
        if !minus {
            self.take(Kind::Operator(BinaryOp::Add))?;
        }
        match self.peek()?.kind {
            Kind::Number | Kind::Duration => {
                let number = self.number()?;
                Ok((
                    if minus { -number.value } else { number.value },
                    number.span.end,
                ))
            }
            _ => self.unexpected(),
        }
    }
}

/// `expr` one level above subtrees of `height`.
pub(in crate::promql) fn grown(expr: Expr, height: usize) -> Result<Tree, Fault> {
    let height = height + 1;
    if height > MAX_DEPTH {
        return Err(Fault::new(
            expr.span(),
            format!("expression is more than {MAX_DEPTH} levels high"),
        ));
    }
    Ok(Tree { expr, height })
}

/// How tightly an operator binds.
fn strength(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        op if op.is_comparison() => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Pow => 6,
        _ => 5,
    }
}

/// Words that name a metric although they also mean something else.
pub(in crate::promql) fn may_name_metric(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Identifier
            | Kind::MetricIdentifier
            | Kind::Aggregate(_)
            | Kind::AtStart
            | Kind::AtEnd
            | Kind::Operator(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
            | Kind::Keyword(Keyword::By | Keyword::Offset | Keyword::Without)
    )
}

fn may_name_label(kind: Kind) -> bool {
    let word =
        matches!(kind, Kind::Keyword(_) | Kind::Operator(BinaryOp::Atan2)) || may_name_metric(kind);
    word && kind != Kind::Keyword(Keyword::Without)
}

fn starts_expression(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Number
            | Kind::Duration
            | Kind::String
            | Kind::LeftParen
            | Kind::LeftBrace
            | Kind::Operator(BinaryOp::Add | BinaryOp::Sub)
    ) || may_name_metric(kind)
}
