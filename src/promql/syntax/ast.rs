//! The typed syntax tree of PromQL: every node knows the bytes of the text it was read from.
//!
//! Follows the expression language of Prometheus 3
//! (<https://prometheus.io/docs/prometheus/latest/querying/basics/>). Numbers and durations are one
//! literal; duration expressions are folded into their value. The tree is at most [`MAX_DEPTH`]
//! levels high, so that recursion over it, by [`crate::promql::deep`], needs no bound of its own.

use std::fmt;
use std::time::Duration;

use super::depth::deep;
use crate::model::{Matcher, Timestamp};
use crate::promql::functions::Function;

/// Greatest height of a tree that the parser returns.
pub const MAX_DEPTH: usize = 2_000;

/// A half-open range of bytes in the text of the expression.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes from `start` up to, not including, `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Span { start, end }
    }
}

/// What an expression evaluates to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// At most one sample per series, all at one instant.
    Vector,
    /// A range of samples per series.
    Matrix,
    /// A text.
    String,
}

impl ValueType {
    /// The name that the HTTP API uses (`vector`).
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }

    /// The name that the documentation uses (`instant vector`).
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            other => other.as_str(),
        }
    }
}

/// An expression.
#[derive(Debug)]
pub enum Expr {
    /// `1.5`, `0x1f`, `Inf`, `5m`.
    Number(NumberLiteral),
    /// `"text"`.
    String(StringLiteral),
    /// `up{job="x"} @ 5 offset 1m`.
    VectorSelector(VectorSelector),
    /// `up[5m]`.
    MatrixSelector(MatrixSelector),
    /// `expr[1h:5m]`.
    Subquery(Subquery),
    /// `rate(…)`.
    Call(Call),
    /// `sum by (job) (…)`.
    Aggregate(Aggregate),
    /// `a + on (job) b`.
    Binary(Binary),
    /// `-a`.
    Unary(Unary),
    /// `(a)`.
    Paren(Paren),
}

impl Clone for Expr {
    fn clone(&self) -> Self {
        deep(|| match self {
            Expr::Number(n) => Expr::Number(n.clone()),
            Expr::String(n) => Expr::String(n.clone()),
            Expr::VectorSelector(n) => Expr::VectorSelector(n.clone()),
            Expr::MatrixSelector(n) => Expr::MatrixSelector(n.clone()),
            Expr::Subquery(n) => Expr::Subquery(n.clone()),
            Expr::Call(n) => Expr::Call(n.clone()),
            Expr::Aggregate(n) => Expr::Aggregate(n.clone()),
            Expr::Binary(n) => Expr::Binary(n.clone()),
            Expr::Unary(n) => Expr::Unary(n.clone()),
            Expr::Paren(n) => Expr::Paren(n.clone()),
        })
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        deep(|| match (self, other) {
            (Expr::Number(a), Expr::Number(b)) => a == b,
            (Expr::String(a), Expr::String(b)) => a == b,
            (Expr::VectorSelector(a), Expr::VectorSelector(b)) => a == b,
            (Expr::MatrixSelector(a), Expr::MatrixSelector(b)) => a == b,
            (Expr::Subquery(a), Expr::Subquery(b)) => a == b,
            (Expr::Call(a), Expr::Call(b)) => a == b,
            (Expr::Aggregate(a), Expr::Aggregate(b)) => a == b,
            (Expr::Binary(a), Expr::Binary(b)) => a == b,
            (Expr::Unary(a), Expr::Unary(b)) => a == b,
            (Expr::Paren(a), Expr::Paren(b)) => a == b,
            _ => false,
        })
    }
}

impl Expr {
    /// The bytes this expression was read from.
    pub fn span(&self) -> Span {
        match self {
            Expr::Number(n) => n.span,
            Expr::String(n) => n.span,
            Expr::VectorSelector(n) => n.span,
            Expr::MatrixSelector(n) => n.span,
            Expr::Subquery(n) => n.span,
            Expr::Call(n) => n.span,
            Expr::Aggregate(n) => n.span,
            Expr::Binary(n) => n.span,
            Expr::Unary(n) => n.span,
            Expr::Paren(n) => n.span,
        }
    }

    /// The position that an annotation on this argument of `whole` names. Prometheus takes the
    /// parentheses off, but not from around what it computes once in an expression that it computes
    /// at every step; of a subquery it names the very start of the query.
    pub(in crate::promql) fn annotated_span(&self, whole_is_invariant: bool) -> Span {
        match self.without_parens() {
            Expr::Subquery(_) => Span::default(),
            literal @ (Expr::Number(_) | Expr::String(_)) => literal.span(),
            inner if !whole_is_invariant && inner.is_step_invariant() => self.span(),
            inner => inner.span(),
        }
    }

    /// Whether its value is the same at every step of a query: made of literals and of what `@`
    /// pins, by functions that do not look at the time of evaluation. Prometheus computes it once.
    pub(in crate::promql) fn is_step_invariant(&self) -> bool {
        deep(|| match self {
            Expr::VectorSelector(selector) => selector.at.is_some(),
            Expr::MatrixSelector(matrix) => matrix.selector.at.is_some(),
            Expr::Subquery(subquery) => subquery.at.is_some(),
            Expr::Call(call) => call.is_step_invariant(),
            // As there, whatever its parameter.
            Expr::Aggregate(aggregate) => aggregate.expr.is_step_invariant(),
            other => other.children().into_iter().all(Expr::is_step_invariant),
        })
    }

    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        deep(|| match self {
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::VectorSelector(_) | Expr::Aggregate(_) => ValueType::Vector,
            Expr::MatrixSelector(_) | Expr::Subquery(_) => ValueType::Matrix,
            Expr::Call(call) => call.function.returns,
            Expr::Unary(unary) => unary.expr.value_type(),
            Expr::Paren(paren) => paren.expr.value_type(),
            Expr::Binary(binary) => binary.value_type(),
        })
    }

    /// The expressions directly below this one, in the order of the text (an aggregate's parameter
    /// first).
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Number(_)
            | Expr::String(_)
            | Expr::VectorSelector(_)
            | Expr::MatrixSelector(_) => Vec::new(),
            Expr::Subquery(n) => vec![&n.expr],
            Expr::Call(n) => n.args.iter().collect(),
            Expr::Aggregate(n) => n.param.as_deref().into_iter().chain([&*n.expr]).collect(),
            Expr::Binary(n) => vec![&n.lhs, &n.rhs],
            Expr::Unary(n) => vec![&n.expr],
            Expr::Paren(n) => vec![&n.expr],
        }
    }

    /// The selectors that are meant to match something, in the order of the text: those below
    /// `absent` ask for nothing.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut found = Vec::new();
        self.add_selectors(&mut found);
        found
    }

    fn add_selectors<'e>(&'e self, found: &mut Vec<&'e VectorSelector>) {
        deep(|| match self {
            Expr::VectorSelector(selector) => found.push(selector),
            Expr::MatrixSelector(matrix) => found.push(&matrix.selector),
            Expr::Call(call) if call.function.name.starts_with("absent") => {}
            other => other
                .children()
                .into_iter()
                .for_each(|child| child.add_selectors(found)),
        });
    }

    /// The expression inside any number of parentheses.
    pub fn without_parens(&self) -> &Expr {
        let mut expr = self;
        while let Expr::Paren(paren) = expr {
            expr = &paren.expr;
        }
        expr
    }
}

/// A number, or a duration that stands for its seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    /// The value; seconds where it was written as a duration.
    pub value: f64,
    /// Whether it was written as a duration, and prints as one.
    pub duration: bool,
    /// Where it stands.
    pub span: Span,
}

/// A string, unquoted.
#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    /// The text after escapes.
    pub value: String,
    /// Where it stands.
    pub span: Span,
}

/// The instant an `@` modifier pins a selector to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum At {
    /// `@ 1609746000`: a fixed instant.
    Timestamp(Timestamp),
    /// `@ start()`: the first instant of a range query.
    Start,
    /// `@ end()`: the last instant of a range query.
    End,
}

/// A vector selector; inside a [`MatrixSelector`] it carries the modifiers that follow the range.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name written before the braces, `""` if there is none.
    pub name: String,
    /// All matchers, the one for the name included.
    pub matchers: Vec<Matcher>,
    /// `offset`, in milliseconds; positive looks back.
    pub offset: i64,
    /// `@`.
    pub at: Option<At>,
    /// Whether it may match everything (the second argument of `info`).
    pub may_match_all: bool,
    /// Where it stands.
    pub span: Span,
}

/// `selector[range]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// What is selected, with `@` and `offset`.
    pub selector: VectorSelector,
    /// The length of the window.
    pub range: Duration,
    /// Where it stands.
    pub span: Span,
}

/// `expr[range:step]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// What is evaluated at each step: an instant vector.
    pub expr: Box<Expr>,
    /// The length of the window.
    pub range: Duration,
    /// The distance of the steps; `None`: the engine's default.
    pub step: Option<Duration>,
    /// `offset`, in milliseconds; positive looks back.
    pub offset: i64,
    /// `@`.
    pub at: Option<At>,
    /// Where it stands.
    pub span: Span,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The row of the function table.
    pub function: &'static Function,
    /// The arguments as written; their number and types fit the row.
    pub args: Vec<Expr>,
    /// Where it stands.
    pub span: Span,
}

impl Call {
    pub(in crate::promql) fn is_step_invariant(&self) -> bool {
        !self.function.looks_at_time() && self.args.iter().all(Expr::is_step_invariant)
    }

    /// The position that an annotation on an argument names.
    pub(in crate::promql) fn annotated_span(&self, argument: usize) -> Span {
        self.args.get(argument).map_or(self.span, |arg| {
            arg.annotated_span(self.is_step_invariant())
        })
    }
}

/// An aggregation operator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are PromQL's own")]
pub enum AggregateOp {
    Avg,
    Bottomk,
    Count,
    CountValues,
    Group,
    LimitRatio,
    Limitk,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    Topk,
}

impl AggregateOp {
    /// All of them with their spelling.
    pub const ALL: [(AggregateOp, &'static str); 14] = [
        (AggregateOp::Avg, "avg"),
        (AggregateOp::Bottomk, "bottomk"),
        (AggregateOp::Count, "count"),
        (AggregateOp::CountValues, "count_values"),
        (AggregateOp::Group, "group"),
        (AggregateOp::LimitRatio, "limit_ratio"),
        (AggregateOp::Limitk, "limitk"),
        (AggregateOp::Max, "max"),
        (AggregateOp::Min, "min"),
        (AggregateOp::Quantile, "quantile"),
        (AggregateOp::Stddev, "stddev"),
        (AggregateOp::Stdvar, "stdvar"),
        (AggregateOp::Sum, "sum"),
        (AggregateOp::Topk, "topk"),
    ];

    /// Its spelling.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(op, _)| *op == self)
            .map_or("", |(_, text)| text)
    }

    /// The type of the parameter before the vector, if it takes one.
    pub fn param(self) -> Option<ValueType> {
        match self {
            AggregateOp::CountValues => Some(ValueType::String),
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Quantile
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => Some(ValueType::Scalar),
            _ => None,
        }
    }

    /// Whether it has to be switched on.
    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

/// An aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// What is aggregated: an instant vector.
    pub expr: Box<Expr>,
    /// The parameter of `topk` and its like.
    pub param: Option<Box<Expr>>,
    /// The labels of `by` or `without`, as written.
    pub grouping: Vec<String>,
    /// Whether the labels are those of `without`.
    pub without: bool,
    /// Where it stands.
    pub span: Span,
}

/// A binary operator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names say what they are")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// Its spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessOrEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterOrEqual => ">=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    /// `== != < <= > >=`.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        matches!(
            self,
            Equal | NotEqual | Less | LessOrEqual | Greater | GreaterOrEqual
        )
    }

    /// `and or unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// How many series of one side may meet how many of the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cardinality {
    /// The default.
    OneToOne,
    /// `group_left`.
    ManyToOne,
    /// `group_right`.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// Which series of two vectors meet.
#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    /// How many meet how many.
    pub cardinality: Cardinality,
    /// Whether `labels` are those of `on`; otherwise those of `ignoring`.
    pub on: bool,
    /// The labels of `on` or `ignoring`, as written.
    pub labels: Vec<String>,
    /// The labels of `group_left` or `group_right`, as written.
    pub include: Vec<String>,
}

/// A binary expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Box<Expr>,
    /// Right operand.
    pub rhs: Box<Expr>,
    /// Whether `bool` follows the operator.
    pub return_bool: bool,
    /// How vectors meet; `None` unless both operands are instant vectors.
    pub matching: Option<Matching>,
    /// Where it stands.
    pub span: Span,
}

impl Binary {
    fn value_type(&self) -> ValueType {
        // A chain of operators leans to the left; one walk down it, not one for each level.
        let mut binary = self;
        loop {
            if binary.rhs.value_type() != ValueType::Scalar {
                return ValueType::Vector;
            }
            match binary.lhs.without_parens() {
                Expr::Binary(inner) => binary = inner,
                other if other.value_type() == ValueType::Scalar => return ValueType::Scalar,
                _ => return ValueType::Vector,
            }
        }
    }
}

/// The sign of a [`Unary`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnaryOp {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

/// A sign before an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    /// The sign.
    pub op: UnaryOp,
    /// What it stands before.
    pub expr: Box<Expr>,
    /// Where it stands.
    pub span: Span,
}

/// An expression in parentheses.
#[derive(Clone, Debug, PartialEq)]
pub struct Paren {
    /// What is inside.
    pub expr: Box<Expr>,
    /// Where it stands.
    pub span: Span,
}

impl fmt::Display for BinaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for AggregateOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
