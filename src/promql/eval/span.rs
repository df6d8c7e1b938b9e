//! The steps at which an expression can have a value at all, found without reading a sample: a
//! range query over a week of which an hour has data is evaluated over that hour.

use super::evaluator::{Evaluator, Query, Steps};
use crate::model::time::millis;
use crate::model::{Matcher, Timestamp};
use crate::promql::syntax::ast::{Call, Expr, ValueType, VectorSelector};
use crate::promql::syntax::depth::deep;
use crate::store::Selection;

/// Evaluations of fewer steps are not looked at.
const FEW: usize = 64;

/// Functions that have a value where their argument has none.
const MAKE_VALUES: [&str; 3] = ["absent", "absent_over_time", "vector"];

/// An interval of instants, both ends included, in milliseconds; empty where the end comes first.
type Interval = (i64, i64);

impl Query<'_> {
    /// The series that a selector selects, found anew when they are not worth keeping.
    pub(in crate::promql) fn selection(
        &self,
        matchers: &[Matcher],
        from: i64,
        to: i64,
    ) -> Selection {
        self.store.selection(
            matchers,
            Timestamp(from),
            Timestamp(to),
            self.engine.keeps_selections,
        )
    }
}

impl<'a> Evaluator<'a> {
    /// The evaluator of those steps at which an expression can have a value, and which of these
    /// steps is its first one; `None` when there is little to win.
    pub(in crate::promql) fn trimmed(&self, expr: &Expr) -> Option<(Evaluator<'a>, usize)> {
        let steps = self.steps;
        if steps.count < FEW {
            return None;
        }
        let (low, high) = self.live(expr, 0)?;
        let first = usize::try_from(
            low.saturating_sub(steps.start)
                .max(0)
                .div_euclid(steps.step),
        )
        .ok()?
        .min(steps.count - 1);
        let last = usize::try_from(
            high.saturating_sub(steps.start)
                .max(0)
                .div_euclid(steps.step),
        )
        .ok()?
        .clamp(first, steps.count - 1);
        let count = last - first + 1;
        let steps = Steps {
            start: steps.at(first),
            step: steps.step,
            count,
        };
        (2 * count <= self.steps.count).then_some((
            Evaluator {
                query: self.query,
                steps,
            },
            first,
        ))
    }

    /// The instants outside of which the expression has no value, nor anything to annotate or to
    /// refuse; `None` when that is not known. `reach` is how much further the windows of subqueries
    /// around it look.
    fn live(&self, expr: &Expr, reach: i64) -> Option<Interval> {
        deep(|| self.live_node(expr, reach))
    }

    fn live_node(&self, expr: &Expr, reach: i64) -> Option<Interval> {
        match expr {
            Expr::VectorSelector(selector) => {
                self.live_selector(selector, millis(self.query.engine.lookback), reach)
            }
            Expr::MatrixSelector(matrix) => {
                self.live_selector(&matrix.selector, millis(matrix.range), reach)
            }
            Expr::Subquery(subquery) if subquery.at.is_none() => {
                let further = reach
                    .saturating_add(millis(subquery.range))
                    .saturating_add(subquery.offset.saturating_abs());
                let (low, high) = self.live(&subquery.expr, further)?;
                Some(seen(low, high, subquery.offset, millis(subquery.range)))
            }
            Expr::Paren(paren) => self.live(&paren.expr, reach),
            Expr::Unary(unary) => self.live(&unary.expr, reach),
            Expr::Aggregate(aggregate) => {
                let plain = aggregate.param.as_deref().is_none_or(|param| {
                    matches!(param.without_parens(), Expr::Number(_) | Expr::String(_))
                });
                if plain {
                    self.live(&aggregate.expr, reach)
                } else {
                    None
                }
            }
            Expr::Binary(binary) => {
                match (binary.lhs.value_type(), binary.rhs.value_type()) {
                    (ValueType::Vector, ValueType::Vector) => {
                        let (left, right) = (
                            self.live(&binary.lhs, reach)?,
                            self.live(&binary.rhs, reach)?,
                        );
                        // Where one side alone has values, its own expression may still err.
                        Some(hull(left, right))
                    }
                    (ValueType::Vector, ValueType::Scalar) => self.live(&binary.lhs, reach),
                    (ValueType::Scalar, ValueType::Vector) => self.live(&binary.rhs, reach),
                    _ => None,
                }
            }
            Expr::Call(call) => self.live_call(call, reach),
            Expr::Subquery(_) | Expr::Number(_) | Expr::String(_) => None,
        }
    }

    fn live_call(&self, call: &Call, reach: i64) -> Option<Interval> {
        if call.function.returns != ValueType::Vector || MAKE_VALUES.contains(&call.function.name) {
            return None;
        }
        // A number that changes from step to step may be annotated where there is no value.
        if call
            .args
            .iter()
            .any(|arg| arg.value_type() == ValueType::Scalar && !matches!(arg, Expr::Number(_)))
        {
            return None;
        }
        let vector = call
            .args
            .iter()
            .find(|arg| matches!(arg.value_type(), ValueType::Vector | ValueType::Matrix));
        self.live(vector?, reach)
    }

    fn live_selector(
        &self,
        selector: &VectorSelector,
        window: i64,
        reach: i64,
    ) -> Option<Interval> {
        if selector.at.is_some() {
            return None;
        }
        let steps = self.steps;
        let from = steps
            .start
            .saturating_sub(selector.offset)
            .saturating_sub(window)
            .saturating_sub(reach);
        let to = steps
            .last()
            .saturating_sub(selector.offset)
            .saturating_add(reach);
        let selection = self.query.selection(&selector.matchers, from, to);
        Some(
            match self
                .query
                .store
                .bounds(&selection, Timestamp(from), Timestamp(to))
            {
                None => (i64::MAX, i64::MIN),
                Some((first, last)) => seen(first.0, last.0, selector.offset, window),
            },
        )
    }
}

/// When the samples of an interval are seen through a window.
fn seen(first: i64, last: i64, offset: i64, window: i64) -> Interval {
    if last < first {
        return (first, last);
    }
    (
        first.saturating_add(offset),
        last.saturating_add(offset).saturating_add(window),
    )
}

fn hull(a: Interval, b: Interval) -> Interval {
    match (a.1 < a.0, b.1 < b.0) {
        (true, _) => b,
        (_, true) => a,
        _ => (a.0.min(b.0), a.1.max(b.1)),
    }
}
