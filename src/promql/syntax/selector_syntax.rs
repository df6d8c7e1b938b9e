//! The part of the parser for selectors: matchers in braces, ranges and subqueries in brackets,
//! `offset` and `@`.

use std::time::Duration;

use super::ast::{
    At, BinaryOp, Expr, MatrixSelector, NumberLiteral, Span, Subquery, VectorSelector,
};
use super::depth::deep;
use super::fault::Fault;
use super::lexer::{Keyword, Kind, Token};
use super::literal::unquote;
use super::parser::{Context, Parser, Tree, grown, may_name_metric};
use crate::model::{METRIC_NAME, MatchOp, Matcher, Timestamp};

/// Seconds that Prometheus's durations, 64 bits of nanoseconds, can hold.
const MAX_SECONDS: f64 = 9_223_372_036.854_776;

const DURATIONS: &str = "Prometheus before 3.14 takes arithmetic in durations only with --enable-feature=promql-duration-expr";
const OFFSET: Context = ("offset", "number or duration");
const TIMESTAMP: Context = ("@", "timestamp");
const RANGE: Context = ("subquery selector", "number or duration");
const AFTER_RANGE: Context = ("subquery or range", "\":\" or \"]\"");
const STEP: Context = ("subquery selector", "number or duration or \"]\"");
const AFTER_STEP: Context = ("subquery selector", "\"]\"");

impl<'a> Parser<'a> {
    /// A selector with nothing before it.
    pub(in crate::promql) fn bare_selector(&mut self) -> Result<VectorSelector, Fault> {
        let token = self.peek()?;
        match token.kind {
            Kind::LeftBrace => self.selector(None),
            kind if may_name_metric(kind) => {
                self.next()?;
                self.selector(Some(token))
            }
            _ => self.unexpected(),
        }
    }

    /// The braces after a metric name, or braces alone.
    pub(in crate::promql) fn selector(
        &mut self,
        name: Option<Token<'a>>,
    ) -> Result<VectorSelector, Fault> {
        let mut matchers = Vec::new();
        let mut span = name.map(|n| n.span);
        if let Some(open) = self.take(Kind::LeftBrace)? {
            let end = self.matchers(&mut matchers)?;
            span = Some(Span::new(span.unwrap_or(open.span).start, end));
        }
        let name = name.map_or(String::new(), |n| n.text.to_owned());
        if !name.is_empty() {
            matchers.push(Matcher::equal(METRIC_NAME, &name));
        }
        matchers.shrink_to_fit();
        Ok(VectorSelector {
            name,
            matchers,
            offset: 0,
            at: None,
            may_match_all: false,
            span: span.unwrap_or_default(),
        })
    }

    /// Matchers up to the closing brace; where that ends.
    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Result<usize, Fault> {
        const WHAT: &str = "label matching";
        if let Some(close) = self.take(Kind::RightBrace)? {
            return Ok(close.span.end);
        }
        loop {
            let label = self.peek()?;
            let name = match label.kind {
                Kind::Identifier => label.text.to_owned(),
                Kind::String => {
                    unquote(label.text).map_err(|error| Fault::new(label.span, error))?
                }
                _ => return self.unexpected_in((WHAT, "identifier or \"}\"")),
            };
            self.next()?;
            match (self.match_op()?, label.kind) {
                (Some(op), _) => {
                    let Some(value) = self.take(Kind::String)? else {
                        return self.unexpected_in((WHAT, "string"));
                    };
                    let text =
                        unquote(value.text).map_err(|error| Fault::new(value.span, error))?;
                    let matcher = Matcher::new(&name, op, &text);
                    let span = Span::new(label.span.start, value.span.end);
                    matchers.push(matcher.map_err(|e| {
                        Fault::new(span, format!("error parsing regexp: {}", e.reason))
                    })?);
                }
                (None, Kind::String) => matchers.push(Matcher::equal(METRIC_NAME, &name)),
                (None, _) => return self.unexpected_in((WHAT, "label matching operator")),
            }
            let after = self.peek()?;
            match after.kind {
                Kind::Comma => drop(self.next()?),
                Kind::RightBrace => {}
                _ => return self.unexpected_in((WHAT, "\",\" or \"}\"")),
            }
            if let Some(close) = self.take(Kind::RightBrace)? {
                return Ok(close.span.end);
            }
        }
    }

    fn match_op(&mut self) -> Result<Option<MatchOp>, Fault> {
        let op = match self.peek()?.kind {
            Kind::Equal => MatchOp::Equal,
            Kind::Operator(BinaryOp::NotEqual) => MatchOp::NotEqual,
            Kind::EqualRegex => MatchOp::Regex,
            Kind::NotEqualRegex => MatchOp::NotRegex,
            _ => return Ok(None),
        };
        self.next()?;
        Ok(Some(op))
    }

    /// One of `[…]`, `offset` and `@` after an operand.
    pub(in crate::promql) fn postfix(&mut self, tree: Tree) -> Result<Tree, Fault> {
        match self.peek()?.kind {
            Kind::LeftBracket => self.brackets(tree),
            Kind::Keyword(Keyword::Offset) => self.offset(tree),
            _ => self.at(tree),
        }
    }

    fn brackets(&mut self, tree: Tree) -> Result<Tree, Fault> {
        let open = self.next()?.span;
        let range = self.within(RANGE, Self::positive_duration)?;
        let Some(_colon) = self.take(Kind::Colon)? else {
            let Some(close) = self.take(Kind::RightBracket)? else {
                return self.unexpected_in(AFTER_RANGE);
            };
            return matrix_selector(tree.expr, range, Span::new(open.start, close.span.end));
        };
        let close = self.take(Kind::RightBracket)?;
        let step = if close.is_some() {
            None
        } else {
            Some(self.within(STEP, Self::positive_duration)?)
        };
        let close = match close {
            Some(close) => close,
            None => match self.take(Kind::RightBracket)? {
                Some(close) => close,
                None => return self.unexpected_in(AFTER_STEP),
            },
        };
        let expr = Box::new(tree.expr);
        let span = Span::new(expr.span().start, close.span.end);
        grown(
            Expr::Subquery(Subquery {
                expr,
                range,
                step,
                offset: 0,
                at: None,
                span,
            }),
            tree.height,
        )
    }

    fn positive_duration(&mut self) -> Result<Duration, Fault> {
        let number = self.duration(0)?;
        if number.value <= 0.0 {
            return Err(Fault::new(number.span, "duration must be greater than 0"));
        }
        // Nanoseconds: what Prometheus keeps.
        Ok(Duration::from_nanos((number.value * 1e9).round() as u64))
    }

    /// A duration, or an expression of durations, folded.
    fn duration(&mut self, floor: u8) -> Result<NumberLiteral, Fault> {
        deep(|| self.duration_terms(floor))
    }

    fn duration_terms(&mut self, floor: u8) -> Result<NumberLiteral, Fault> {
        let mut left = self.duration_operand()?;
        loop {
            let Kind::Operator(op) = self.peek()?.kind else {
                return Ok(left);
            };
            let strength = match op {
                BinaryOp::Add | BinaryOp::Sub => 1,
                BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 2,
                BinaryOp::Pow => 3,
                _ => return Ok(left),
            };
            if strength <= floor {
                return Ok(left);
            }
            let position = self.next()?.span;
            self.note(position, DURATIONS);
            let right = self.duration(if op == BinaryOp::Pow {
                strength - 1
            } else {
                strength
            })?;
            let (a, b) = (left.value, right.value);
            let value = match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                BinaryOp::Div if b == 0.0 => return Err(Fault::new(position, "division by zero")),
                BinaryOp::Div => a / b,
                BinaryOp::Mod if b == 0.0 => return Err(Fault::new(position, "modulo by zero")),
                BinaryOp::Mod => a % b,
                _ => a.powf(b),
            };
            let span = Span::new(left.span.start, right.span.end);
            left = in_range(
                NumberLiteral {
                    value,
                    duration: true,
                    span,
                },
                span,
            )?;
        }
    }

    fn duration_operand(&mut self) -> Result<NumberLiteral, Fault> {
        self.deeper()?;
        let token = self.peek()?;
        let number = match token.kind {
            Kind::Number | Kind::Duration => in_range(self.number()?, token.span)?,
            Kind::Operator(BinaryOp::Add | BinaryOp::Sub) => {
                self.next()?;
                self.note(token.span, DURATIONS);
                let inner = self.duration(2)?;
                let value = if token.kind == Kind::Operator(BinaryOp::Sub) {
                    -inner.value
                } else {
                    inner.value
                };
                NumberLiteral {
                    value,
                    span: Span::new(token.span.start, inner.span.end),
                    ..inner
                }
            }
            Kind::LeftParen => {
                self.next()?;
                self.note(token.span, DURATIONS);
                let inner = self.duration(0)?;
                self.expect(Kind::RightParen)?;
                inner
            }
            _ => return self.unexpected(),
        };
        self.shallower();
        Ok(number)
    }

    fn offset(&mut self, tree: Tree) -> Result<Tree, Fault> {
        self.next()?;
        let number = self.within(OFFSET, |p| {
            let token = p.peek()?;
            let sign = matches!(token.kind, Kind::Operator(BinaryOp::Add | BinaryOp::Sub));
            if sign {
                p.next()?;
            }
            // A sign covers one number, so that `a offset -2 ^ 2` is `(a offset -2) ^ 2`.
            let number = p.duration_operand()?;
            let value = if token.kind == Kind::Operator(BinaryOp::Sub) {
                -number.value
            } else {
                number.value
            };
            Ok(NumberLiteral { value, ..number })
        })?;
        let offset = (number.value * 1e3).round() as i64;
        let mut expr = tree.expr;
        let span = expr.span();
        let (slot, end) = match &mut expr {
            Expr::VectorSelector(s) => (&mut s.offset, &mut s.span.end),
            Expr::MatrixSelector(m) => (&mut m.selector.offset, &mut m.span.end),
            Expr::Subquery(s) => (&mut s.offset, &mut s.span.end),
            _ => {
                let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return Err(Fault::new(span, message));
            }
        };
        if *slot != 0 {
            return Err(Fault::new(span, "offset may not be set multiple times"));
        }
        (*slot, *end) = (offset, number.span.end);
        Ok(Tree {
            expr,
            height: tree.height,
        })
    }

    fn at(&mut self, tree: Tree) -> Result<Tree, Fault> {
        self.next()?;
        let (at, position) = self.within(TIMESTAMP, Self::at_value)?;
        let mut expr = tree.expr;
        let span = expr.span();
        let at = match at {
            Ok(at) => at,
            Err(seconds) => {
                return Err(Fault::new(
                    span,
                    format!(
                        "timestamp out of bounds for @ modifier: {}",
                        go_fixed(seconds)
                    ),
                ));
            }
        };
        let (slot, end) = match &mut expr {
            Expr::VectorSelector(s) => (&mut s.at, &mut s.span.end),
            Expr::MatrixSelector(m) => (&mut m.selector.at, &mut m.span.end),
            Expr::Subquery(s) => (&mut s.at, &mut s.span.end),
            _ => {
                let message = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return Err(Fault::new(span, message));
            }
        };
        if slot.is_some() {
            return Err(Fault::new(
                span,
                "@ <timestamp> may not be set multiple times",
            ));
        }
        (*slot, *end) = (Some(at), position);
        Ok(Tree {
            expr,
            height: tree.height,
        })
    }

    /// The instant after `@`, or the number that is none; and where it ends.
    fn at_value(&mut self) -> Result<(Result<At, f64>, usize), Fault> {
        let token = self.peek()?;
        if let Kind::AtStart | Kind::AtEnd = token.kind {
            self.next()?;
            self.expect(Kind::LeftParen)?;
            let close = self.expect(Kind::RightParen)?;
            return Ok((
                Ok(if token.kind == Kind::AtStart {
                    At::Start
                } else {
                    At::End
                }),
                close.span.end,
            ));
        }
        let (seconds, end) = self.signed_number()?;
        let fits = seconds.abs() < i64::MAX as f64;
        Ok((
            if fits {
                Ok(At::Timestamp(Timestamp::from_seconds(seconds)))
            } else {
                Err(seconds)
            },
            end,
        ))
    }
}

fn matrix_selector(expr: Expr, range: Duration, brackets: Span) -> Result<Tree, Fault> {
    let selector = match expr {
        Expr::VectorSelector(s) if s.offset != 0 => {
            return Err(Fault::new(
                brackets,
                "no offset modifiers allowed before range",
            ));
        }
        // As in Prometheus, `start()` and `end()` are not noticed here.
        Expr::VectorSelector(s) if matches!(s.at, Some(At::Timestamp(_))) => {
            return Err(Fault::new(brackets, "no @ modifiers allowed before range"));
        }
        Expr::VectorSelector(s) => s,
        _ => {
            return Err(Fault::new(
                brackets,
                "ranges only allowed for vector selectors",
            ));
        }
    };
    let span = Span::new(selector.span.start, brackets.end);
    grown(
        Expr::MatrixSelector(MatrixSelector {
            selector,
            range,
            span,
        }),
        0,
    )
}

fn in_range(number: NumberLiteral, span: Span) -> Result<NumberLiteral, Fault> {
    if number.value.abs() > MAX_SECONDS {
        Err(Fault::new(span, "duration out of range"))
    } else {
        Ok(number)
    }
}

/// Go's `%f`.
fn go_fixed(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".into(),
        v if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.into(),
        v => format!("{v:.6}"),
    }
}
