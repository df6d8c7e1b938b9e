//! Rules as one program: equal subexpressions of all rules are one node, computed once an instant.
//!
//! A node is known by its normal form: parentheses, white space and the order of matchers and
//! grouping labels do not count. Its result is computed on first demand, kept while another rule of
//! the instant will read it, and given away to the last one. What a rule writes makes the results
//! forgotten that may have read it, so that the rules after it see it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::eval::frame::Node;
use super::syntax::ast::{Expr, Span, ValueType, VectorSelector};
use super::syntax::depth::deep;
use crate::model::{METRIC_NAME, MatchOp, Timestamp};

/// The number of a node.
type NodeId = u32;

/// A node's normal form: what it is, and its operands.
type Form = (String, Vec<NodeId>);

/// The nodes of all expressions that are evaluated at one instant.
#[derive(Debug, Default)]
pub struct Plan {
    forms: HashMap<Form, NodeId, ahash::RandomState>,
    nodes: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    /// How often the node is read at an instant.
    readers: u32,
    /// Of a node that may be shared.
    reads: Option<Box<Reads>>,
}

/// Metric names that an expression may read.
#[derive(Clone, Debug, Default)]
struct Reads {
    /// A selector names no metric: it may read any.
    any: bool,
    names: BTreeSet<String>,
}

/// Where the nodes of one expression stand in its text, in the order of the positions. Two nodes at
/// one position cannot be distinguished: neither is there.
#[derive(Clone, Debug, Default)]
pub struct Marks(Box<[(Span, NodeId)]>);

/// What was computed at one instant and will be read again.
#[derive(Debug)]
pub struct Results {
    plan: Arc<Plan>,
    at: Timestamp,
    kept: Mutex<HashMap<NodeId, Kept, ahash::RandomState>>,
}

#[derive(Debug)]
struct Kept {
    node: Arc<Node>,
    readers: u32,
}

/// The results of an instant, as one expression finds them.
#[derive(Clone, Debug)]
pub struct Sharing {
    results: Arc<Results>,
    marks: Arc<Marks>,
}

impl Plan {
    /// Adds an expression that is evaluated once an instant.
    pub fn add(&mut self, expr: &Expr) -> Marks {
        let mut marks = Vec::new();
        let root = self.node(expr, &mut marks);
        self.nodes[root as usize].readers += 1;
        marks.sort_unstable();
        marks.dedup();
        let told_apart = marks
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|nodes| nodes.len() == 1);
        Marks(told_apart.map(|nodes| nodes[0]).collect())
    }

    /// Ends the adding: what only that needs is given up.
    pub fn finish(&mut self) {
        self.forms = HashMap::default();
        self.nodes.shrink_to_fit();
        self.nodes
            .iter_mut()
            .filter(|node| node.readers < 2)
            .for_each(|node| node.reads = None);
    }

    /// Number of nodes: equal subexpressions count once.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no expression was added.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn node(&mut self, expr: &Expr, marks: &mut Vec<(Span, NodeId)>) -> NodeId {
        deep(|| self.node_of(expr, marks))
    }

    fn node_of(&mut self, expr: &Expr, marks: &mut Vec<(Span, NodeId)>) -> NodeId {
        if let Expr::Paren(paren) = expr {
            return self.node(&paren.expr, marks);
        }
        // The steps of a subquery are not the instant's: what stands inside is not shared.
        let inside = !matches!(expr, Expr::Subquery(_));
        let operands: Vec<NodeId> = if inside {
            expr.children()
                .into_iter()
                .map(|child| self.node(child, marks))
                .collect()
        } else {
            Vec::new()
        };
        let form = (form(expr), operands);
        let id = match self.forms.get(&form) {
            Some(id) => {
                // It may get a second reader. What nobody shares is never forgotten.
                let planned = &mut self.nodes[*id as usize];
                planned
                    .reads
                    .get_or_insert_with(|| Box::new(Reads::of(expr)));
                *id
            }
            None => {
                let id = self.nodes.len() as NodeId;
                for operand in &form.1 {
                    self.nodes[*operand as usize].readers += 1;
                }
                self.nodes.push(Planned {
                    readers: 0,
                    reads: None,
                });
                self.forms.insert(form, id);
                id
            }
        };
        if matches!(expr.value_type(), ValueType::Vector | ValueType::Scalar)
            && !matches!(expr, Expr::Number(_))
        {
            marks.push((expr.span(), id));
        }
        id
    }
}

/// What an expression is, its operands left out.
fn form(expr: &Expr) -> String {
    match expr {
        Expr::Call(call) => call.function.name.to_owned(),
        Expr::Aggregate(aggregate) => {
            let mut labels = aggregate.grouping.clone();
            labels.sort_unstable();
            format!("{} {} {labels:?}", aggregate.op, aggregate.without)
        }
        Expr::Binary(binary) => {
            format!("{} {} {:?}", binary.op, binary.return_bool, binary.matching)
        }
        Expr::Unary(unary) => format!("{:?}", unary.op),
        Expr::Number(number) => format!("{:?}", number.value.to_bits()),
        // `info` reads a selector that may match everything in its own way.
        Expr::VectorSelector(selector) => format!("{expr} {}", selector.may_match_all),
        Expr::Paren(_) | Expr::String(_) | Expr::MatrixSelector(_) | Expr::Subquery(_) => {
            expr.to_string()
        }
    }
}

impl Marks {
    /// Those of nodes that more than one reads.
    pub fn shared(&self, plan: &Plan) -> Self {
        Marks(
            self.0
                .iter()
                .filter(|(_, id)| plan.nodes[*id as usize].readers > 1)
                .copied()
                .collect(),
        )
    }
}

impl Planned {
    fn may_read(&self, name: &str) -> bool {
        self.reads.as_ref().is_none_or(|reads| reads.may_read(name))
    }
}

impl Reads {
    fn of(expr: &Expr) -> Self {
        let mut reads = Reads::default();
        reads.add(expr);
        reads
    }

    fn add(&mut self, expr: &Expr) {
        match expr {
            Expr::VectorSelector(selector) => self.add_selector(selector),
            Expr::MatrixSelector(matrix) => self.add_selector(&matrix.selector),
            // It reads `target_info` without a selector that says so.
            Expr::Call(call) if call.function.name == "info" => self.any = true,
            _ => {}
        }
        deep(|| {
            expr.children()
                .into_iter()
                .for_each(|child| self.add(child))
        });
    }

    fn add_selector(&mut self, selector: &VectorSelector) {
        match selector
            .matchers
            .iter()
            .find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal)
        {
            Some(name) => drop(self.names.insert(name.value.clone())),
            None => self.any = true,
        }
    }

    fn may_read(&self, name: &str) -> bool {
        self.any || self.names.contains(name)
    }
}

impl Results {
    /// Nothing computed yet.
    pub fn new(plan: Arc<Plan>, at: Timestamp) -> Self {
        Results {
            plan,
            at,
            kept: Mutex::default(),
        }
    }

    /// Samples of this metric were written: what may have read it is computed anew.
    pub fn written(&self, name: &str) {
        self.kept
            .lock()
            .retain(|id, _| !self.plan.nodes[*id as usize].may_read(name));
    }

    /// Number of results that are kept for another reader.
    pub fn kept(&self) -> usize {
        self.kept.lock().len()
    }
}

impl Sharing {
    /// `results` for the expression that `marks` belongs to.
    pub fn new(results: Arc<Results>, marks: Arc<Marks>) -> Self {
        Sharing { results, marks }
    }

    /// The node of the expression that stands at `span`, if it is read more than once at this
    /// instant.
    pub(super) fn node(&self, span: Span, at: i64) -> Option<NodeId> {
        let marks = &self.marks.0;
        let id = marks[marks.binary_search_by_key(&span, |(span, _)| *span).ok()?].1;
        (self.results.at.0 == at && self.results.plan.nodes[id as usize].readers > 1).then_some(id)
    }

    /// What was computed for the node; one reader fewer is to come.
    pub(super) fn take(&self, id: NodeId) -> Option<Node> {
        let mut all = self.results.kept.lock();
        let kept = all.get_mut(&id)?;
        kept.readers -= 1;
        let node = if kept.readers == 0 {
            all.remove(&id)?.node
        } else {
            Arc::clone(&kept.node)
        };
        drop(all);
        Some(Arc::try_unwrap(node).unwrap_or_else(|shared| Node::clone(&shared)))
    }

    /// Keeps what was computed for its other readers.
    pub(super) fn keep(&self, id: NodeId, node: &Node) {
        let readers = self.results.plan.nodes[id as usize].readers - 1;
        self.results.kept.lock().insert(
            id,
            Kept {
                node: Arc::new(node.clone()),
                readers,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parse;

    fn plan(texts: &[&str]) -> Plan {
        let mut plan = Plan::default();
        texts
            .iter()
            .for_each(|text| drop(plan.add(&parse(text).expect(text))));
        plan
    }

    #[test]
    fn what_differs_only_in_spelling_is_one_node() {
        let one = plan(&["sum by (a, b) (rate(x{p=\"1\",q=\"2\"}[5m])) > 1"]);
        let two = plan(&[
            "sum by (a, b) (rate(x{p=\"1\",q=\"2\"}[5m])) > 1",
            "(sum(rate(x{q=\"2\", p=\"1\"}[300s])) by (b, a)) > (1)",
        ]);
        assert_eq!(one.len(), two.len());
        assert_eq!(two.nodes.iter().map(|node| node.readers).max(), Some(2));
    }

    #[test]
    fn what_differs_in_anything_that_counts_is_not() {
        let texts = [
            "rate(x[5m])",
            "rate(x[6m])",
            "rate(x[5m] offset 1m)",
            "rate(x[5m] @ 1)",
            "increase(x[5m])",
            "rate(y[5m])",
            "-rate(x[5m])",
        ];
        let all = plan(&texts);
        assert_eq!(
            all.nodes.iter().filter(|node| node.readers > 1).count(),
            2,
            "x[5m] and its rate, nothing else: {all:?}"
        );
    }

    #[test]
    fn a_finished_plan_knows_the_places_of_what_is_shared() {
        let (first, second) = (
            parse("sum(rate(x[5m])) > 1").expect("valid"),
            parse("max(y) > sum(rate(x[5m]))").expect("valid"),
        );
        let mut plan = Plan::default();
        let marks = [plan.add(&first), plan.add(&second)];
        plan.finish();
        let positions = |marks: &Marks| {
            marks
                .shared(&plan)
                .0
                .iter()
                .map(|(span, _)| (span.start, span.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            marks.each_ref().map(positions),
            [vec![(0, 16)], vec![(9, 25)]]
        );
        let reads: Vec<bool> = plan
            .nodes
            .iter()
            .map(|node| node.reads.as_ref().is_some_and(|reads| reads.may_read("x")))
            .collect();
        assert_eq!(
            reads.iter().filter(|reads| **reads).count(),
            1,
            "what nobody shares is never kept, so never forgotten: {plan:?}"
        );
    }

    /// A node inside a shared node is read once, however many rules there are.
    #[test]
    fn readers_are_counted_node_by_node() {
        let all = plan(&["sum(rate(x[5m]))", "sum(rate(x[5m]))", "max(rate(x[5m]))"]);
        let mut readers: Vec<u32> = all.nodes.iter().map(|node| node.readers).collect();
        readers.sort_unstable();
        assert_eq!(
            readers,
            [1, 1, 2, 2],
            "x[5m], max, rate (sum and max), sum (two rules)"
        );
    }
}
