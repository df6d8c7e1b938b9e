//! The evaluator: tree to value, node by node over all steps.
//!
//! A node is computed for every step of a range query before the next node begins, and a selector
//! or a function over a range runs through one series at a time; an instant query is the same with
//! one step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use super::frame::{Frame, Node, is_absent};
use super::memory::Held;
use super::{aggregate, binary};
use crate::model::time::millis;
use crate::promql::syntax::ast::{At, Expr, Span, Subquery, UnaryOp};
use crate::promql::syntax::depth::deep;
use crate::promql::value::{Annotation, EvalError, Evaluated, Severity, Value};
use crate::promql::{Engine, functions};
use crate::store::Store;

/// The instants at which an expression is evaluated, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::promql) struct Steps {
    /// The first.
    pub(in crate::promql) start: i64,
    /// Distance; at least 1.
    pub(in crate::promql) step: i64,
    /// How many.
    pub(in crate::promql) count: usize,
}

impl Steps {
    /// From `start` to `end`, both included where they fall on the grid.
    pub(in crate::promql) fn new(start: i64, end: i64, step: i64) -> Self {
        let step = step.max(1);
        let count = if end < start {
            0
        } else {
            usize::try_from(end.saturating_sub(start) / step).unwrap_or(usize::MAX - 1) + 1
        };
        Steps { start, step, count }
    }

    /// The instant of step `index`.
    pub(in crate::promql) fn at(&self, index: usize) -> i64 {
        self.start
            .saturating_add((index as i64).saturating_mul(self.step))
    }

    /// The last instant.
    pub(in crate::promql) fn last(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    /// All instants.
    pub(in crate::promql) fn iter(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |index| self.at(index))
    }
}

/// What one query shares: limits, the range of `@ start()` and `@ end()`, annotations.
pub(in crate::promql) struct Query<'a> {
    pub(in crate::promql) engine: &'a Engine,
    pub(in crate::promql) store: &'a Store,
    /// The steps of the whole query.
    pub(in crate::promql) outer: Steps,
    /// The end that was asked for; it need not fall on a step.
    end: i64,
    samples: AtomicUsize,
    read: AtomicUsize,
    held: AtomicUsize,
    /// What it holds of the memory of all queries.
    pub(in crate::promql) memory: Held,
    annotations: Mutex<Vec<Annotation>>,
}

impl<'a> Query<'a> {
    pub(in crate::promql) fn new(
        engine: &'a Engine,
        store: &'a Store,
        outer: Steps,
        end: i64,
    ) -> Self {
        let (zero, memory) = (|| AtomicUsize::new(0), Held::new(engine.memory.as_ref()));
        Query {
            engine,
            store,
            outer,
            end,
            samples: zero(),
            read: zero(),
            held: zero(),
            memory,
            annotations: Mutex::default(),
        }
    }

    /// Errs when the query was ended from outside.
    pub(in crate::promql) fn check(&self) -> Result<(), EvalError> {
        self.engine
            .interrupt
            .as_ref()
            .map_or(Ok(()), |flag| flag.check())
    }

    /// Counts the values of so many series at so many steps, before they are made.
    pub(in crate::promql) fn hold_cells(&self, rows: usize, steps: usize) -> Result<(), EvalError> {
        self.memory
            .take(rows.saturating_mul(steps).saturating_mul(size_of::<f64>()))
    }

    /// Counts samples that were loaded; errs over the limit, or when the query was ended from
    /// outside.
    pub(in crate::promql) fn load(&self, samples: usize) -> Result<(), EvalError> {
        self.check()?;
        let total = self
            .samples
            .fetch_add(samples, Relaxed)
            .saturating_add(samples);
        self.read.fetch_add(samples, Relaxed);
        // Most loads set no record.
        if total > self.held.load(Relaxed) {
            self.held.fetch_max(total, Relaxed);
        }
        if total > self.engine.max_samples {
            Err(EvalError::TooManySamples)
        } else {
            Ok(())
        }
    }

    /// Counts samples as no longer held.
    pub(in crate::promql) fn release(&self, samples: usize) {
        self.samples.fetch_sub(samples, Relaxed);
    }

    /// Remembers an annotation, once; the position is that of the last one with this text.
    pub(in crate::promql) fn annotate(&self, severity: Severity, message: String, span: Span) {
        let mut annotations = self.annotations.lock();
        match annotations
            .iter_mut()
            .find(|a| a.severity == severity && a.message == message)
        {
            Some(known) => known.span = span,
            None => annotations.push(Annotation {
                severity,
                message,
                span,
            }),
        }
    }

    /// The end of the query: its value with all that was seen on the way.
    pub(in crate::promql) fn evaluated(self, value: Value) -> Evaluated {
        Evaluated {
            value,
            samples_read: self.read.into_inner(),
            samples_held: self.held.into_inner(),
            annotations: self.annotations.into_inner(),
            memory: self.memory.into_reservation().map(Arc::new),
        }
    }

    /// The instant an `@` modifier names.
    pub(in crate::promql) fn pinned(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Timestamp(time) => time.0,
            At::Start => self.outer.start,
            At::End => self.end,
        })
    }
}

/// Evaluates expressions at some steps of a query.
#[derive(Clone, Copy)]
pub(in crate::promql) struct Evaluator<'a> {
    pub(in crate::promql) query: &'a Query<'a>,
    pub(in crate::promql) steps: Steps,
}

impl<'a> Evaluator<'a> {
    /// The value of an expression that is not a matrix.
    pub(in crate::promql) fn eval(&self, expr: &Expr) -> Result<Node, EvalError> {
        let before = self.query.samples.load(Relaxed);
        let mark = self.query.memory.mark();
        self.query.check()?;
        if !matches!(
            expr,
            Expr::VectorSelector(_) | Expr::Paren(_) | Expr::Unary(_)
        ) {
            // Whatever it is, it makes a value for each step at least.
            self.query.hold_cells(1, self.steps.count)?;
        }
        let node = deep(|| self.shared(expr))?;
        self.query.memory.settle(mark, node.bytes())?;
        // The limit is on what is held at once: what the operands held is free again, the result
        // stays.
        let held = if let Node::Vector(frame) = &node {
            frame.rows.len().saturating_mul(self.steps.count)
        } else {
            0
        };
        self.query
            .samples
            .store(before.saturating_add(held), Relaxed);
        Ok(node)
    }

    /// The value, computed once for all expressions of an instant that share it.
    fn shared(&self, expr: &Expr) -> Result<Node, EvalError> {
        let sharing = self
            .query
            .engine
            .sharing
            .as_ref()
            .filter(|_| self.steps == self.query.outer && self.steps.count == 1);
        let Some((sharing, id)) = sharing
            .and_then(|sharing| Some((sharing, sharing.node(expr.span(), self.steps.start)?)))
        else {
            return self.node(expr);
        };
        if let Some(node) = sharing.take(id) {
            return Ok(node);
        }
        let node = self.node(expr)?;
        sharing.keep(id, &node);
        Ok(node)
    }

    fn node(&self, expr: &Expr) -> Result<Node, EvalError> {
        match expr {
            Expr::Number(n) => Ok(Node::Scalar(vec![n.value; self.steps.count])),
            Expr::String(s) => Ok(Node::String(s.value.clone())),
            Expr::VectorSelector(selector) => self.select(selector).map(Node::Vector),
            Expr::Paren(paren) => self.eval(&paren.expr),
            Expr::Unary(unary) => {
                let node = self.eval(&unary.expr)?;
                if unary.op == UnaryOp::Plus {
                    Ok(node)
                } else {
                    negate(node)
                }
            }
            Expr::Binary(b) => binary::eval(self, b),
            Expr::Aggregate(a) => match self.trimmed(expr) {
                Some((inner, first)) => aggregate::eval(&inner, a)?
                    .widened(self.query, first, self.steps.count)
                    .map(Node::Vector),
                None => aggregate::eval(self, a).map(Node::Vector),
            },
            Expr::Call(call) => functions::eval(self, call),
            Expr::MatrixSelector(_) | Expr::Subquery(_) => Err(EvalError::new(
                "a range vector stands where none is allowed",
            )),
        }
    }

    /// The value of an expression that is known to be an instant vector.
    pub(in crate::promql) fn vector(&self, expr: &Expr) -> Result<Frame, EvalError> {
        match self.eval(expr)? {
            Node::Vector(frame) => Ok(frame),
            other => Err(EvalError::new(format!(
                "expected an instant vector, got {other:?}"
            ))),
        }
    }

    /// The value of an expression that is known to be a scalar.
    pub(in crate::promql) fn scalar(&self, expr: &Expr) -> Result<Vec<f64>, EvalError> {
        match self.eval(expr)? {
            Node::Scalar(values) => Ok(values),
            other => Err(EvalError::new(format!("expected a scalar, got {other:?}"))),
        }
    }

    /// The value of an expression that is known to be a string.
    pub(in crate::promql) fn string(&self, expr: &Expr) -> Result<String, EvalError> {
        match self.eval(expr)? {
            Node::String(text) => Ok(text),
            other => Err(EvalError::new(format!("expected a string, got {other:?}"))),
        }
    }

    /// The inner steps of a subquery and its values there: multiples of the subquery's step,
    /// however the outer steps lie.
    pub(in crate::promql) fn subquery(
        &self,
        subquery: &Subquery,
    ) -> Result<(Steps, Frame), EvalError> {
        let step = millis(subquery.step.unwrap_or(self.query.engine.default_step)).max(1);
        let pinned = self.query.pinned(subquery.at);
        let first = pinned
            .unwrap_or(self.steps.start)
            .saturating_sub(subquery.offset);
        let last = pinned
            .unwrap_or(self.steps.last())
            .saturating_sub(subquery.offset);
        let open = first.saturating_sub(millis(subquery.range));
        let start = (open.div_euclid(step) + 1).saturating_mul(step);
        let steps = Steps::new(start, last, step);
        if steps.count == 0 {
            return Ok((steps, Frame::new(0)));
        }
        if steps.count > self.query.engine.max_samples {
            return Err(EvalError::TooManySamples);
        }
        let mut inner = Evaluator {
            query: self.query,
            steps,
        };
        if let Some((trimmed, _)) = inner.trimmed(&subquery.expr) {
            inner = trimmed;
        }
        let steps = inner.steps;
        let frame = match inner.eval(&subquery.expr)? {
            Node::Vector(frame) => frame,
            Node::Scalar(values) => Frame::floats(
                values.len(),
                vec![crate::model::Labels::empty()].into(),
                values,
            ),
            Node::String(_) => return Err(EvalError::new("a subquery over a string")),
        };
        Ok((steps, frame))
    }
}

fn negate(node: Node) -> Result<Node, EvalError> {
    Ok(match node {
        Node::Scalar(mut values) => {
            values.iter_mut().for_each(|v| *v = -*v);
            Node::Scalar(values)
        }
        Node::Vector(mut frame) => {
            if frame.histograms.is_empty() {
                frame
                    .values
                    .iter_mut()
                    .filter(|v| !is_absent(**v))
                    .for_each(|v| *v = -*v);
            } else {
                let floats = frame
                    .values
                    .iter_mut()
                    .filter(|v| !is_absent(**v) && frame.histograms.get(**v).is_none());
                floats.for_each(|v| *v = -*v);
                frame.map_histograms(|histogram| Arc::make_mut(histogram).multiply(-1.0));
            }
            drop_names(&mut frame);
            Node::Vector(frame.distinct()?)
        }
        text @ Node::String(_) => text,
    })
}

/// Takes the metric name off every series.
pub(in crate::promql) fn drop_names(frame: &mut Frame) {
    frame.rows = frame.rows.without_names();
}
