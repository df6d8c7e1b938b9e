//! Binary operators: arithmetic, comparison, set operators, and the matching of two vectors.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::evaluator::{Evaluator, drop_names};
use super::frame::{Frame, Growing, Histograms, Node, absent, is_absent};
use super::memory::LABELS;
use super::operand::{Mismatch, Operand, Outcome, operate};
use crate::model::{LabelSets, Labels, METADATA, METRIC_NAME, is_metadata};
use crate::promql::functions::go_math::power::power;
use crate::promql::functions::go_math::trigonometry::atan2;
use crate::promql::syntax::ast::{Binary, BinaryOp, Cardinality, Matching};
use crate::promql::value::{EvalError, Severity};

type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// The value of a binary expression.
pub(in crate::promql) fn eval(
    evaluator: &Evaluator<'_>,
    binary: &Binary,
) -> Result<Node, EvalError> {
    let lhs = evaluator.eval(&binary.lhs)?;
    let rhs = evaluator.eval(&binary.rhs)?;
    match (lhs, rhs) {
        (Node::Scalar(mut a), Node::Scalar(b)) => {
            for (x, y) in a.iter_mut().zip(b) {
                *x = scalar_value(binary.op, *x, y);
            }
            Ok(Node::Scalar(a))
        }
        (Node::Vector(v), Node::Scalar(s)) => {
            with_scalar(evaluator, binary, v, &s, false).map(Node::Vector)
        }
        (Node::Scalar(s), Node::Vector(v)) => {
            with_scalar(evaluator, binary, v, &s, true).map(Node::Vector)
        }
        (Node::Vector(a), Node::Vector(b)) => {
            let default = Matching {
                cardinality: Cardinality::OneToOne,
                on: false,
                labels: Vec::new(),
                include: Vec::new(),
            };
            let matching = binary.matching.as_ref().unwrap_or(&default);
            let frame = match binary.op {
                BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
                    set_operation(evaluator, binary.op, matching, a, b)?
                }
                _ => matched(evaluator, binary, matching, &a, &b)?,
            };
            frame.merged().map(Node::Vector)
        }
        _ => Err(EvalError::new(format!(
            "operator {} does not take strings",
            binary.op
        ))),
    }
}

/// `a op b`; a comparison gives 1 or 0.
fn scalar_value(op: BinaryOp, a: f64, b: f64) -> f64 {
    match compared(op, a, b) {
        Some(truth) => f64::from(u8::from(truth)),
        None => computed(op, a, b),
    }
}

pub(in crate::promql) fn compared(op: BinaryOp, a: f64, b: f64) -> Option<bool> {
    Some(match op {
        BinaryOp::Equal => a == b,
        BinaryOp::NotEqual => a != b,
        BinaryOp::Less => a < b,
        BinaryOp::LessOrEqual => a <= b,
        BinaryOp::Greater => a > b,
        BinaryOp::GreaterOrEqual => a >= b,
        _ => return None,
    })
}

pub(in crate::promql) fn computed(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => power(a, b),
        BinaryOp::Atan2 => atan2(a, b),
        _ => f64::NAN,
    }
}

/// The operation where native histograms may stand, and what was wrong with the last sample of each
/// step that has no result.
struct Mixed<'a> {
    binary: &'a Binary,
    wrong: Vec<Option<(usize, Mismatch)>>,
}

impl<'a> Mixed<'a> {
    fn new(binary: &'a Binary, steps: usize) -> Self {
        Mixed {
            binary,
            wrong: vec![None; steps],
        }
    }

    /// The value of `a op b`, and whether a comparison keeps it; `row` is the sample's position
    /// among those of its step.
    fn value(
        &mut self,
        row: usize,
        step: usize,
        a: Operand<'_>,
        b: Operand<'_>,
        out: &mut Histograms,
    ) -> Option<(f64, bool)> {
        let outcome = operate(self.binary.op, a, b).inspect_err(|mismatch| {
            if self.wrong[step].is_none_or(|(last, _)| last <= row) {
                self.wrong[step] = Some((row, *mismatch));
            }
        });
        Some(match (outcome.ok()?, a) {
            (Outcome::Float(value), _) => (value, true),
            (Outcome::Histogram(histogram), _) => (out.add(histogram), true),
            (Outcome::Truth(truth), _) if self.binary.return_bool => {
                (f64::from(u8::from(truth)), true)
            }
            (Outcome::Truth(truth), Operand::Float(value)) => (value, truth),
            (Outcome::Truth(false), Operand::Histogram(_)) => return None,
            (Outcome::Truth(true), Operand::Histogram(histogram)) => {
                (out.add(Arc::clone(histogram)), true)
            }
        })
    }

    fn annotate(self, evaluator: &Evaluator<'_>) {
        let (op, span) = (self.binary.op, self.binary.span);
        for (_, mismatch) in self.wrong.into_iter().flatten() {
            let (severity, text) = match mismatch {
                Mismatch::Types(a, b) => {
                    let text = format!(
                        "PromQL info: incompatible sample types encountered for binary operator \"{op}\": {a} {op} {b}"
                    );
                    (Severity::Info, text)
                }
                Mismatch::Layout => (
                    Severity::Warning,
                    format!(
                        "PromQL warning: incompatible bucket layout encountered for binary operator {op}"
                    ),
                ),
            };
            evaluator.query.annotate(severity, text, span);
        }
    }
}

fn operand(histograms: &Histograms, value: f64) -> Operand<'_> {
    histograms
        .get(value)
        .map_or(Operand::Float(value), Operand::Histogram)
}

/// [`with_scalar`] for a vector with native histograms.
fn mixed_with_scalar(
    evaluator: &Evaluator<'_>,
    binary: &Binary,
    vector: &mut Frame,
    scalar: &[f64],
    swapped: bool,
) {
    let mut mixed = Mixed::new(binary, vector.steps);
    let before = std::mem::take(&mut vector.histograms);
    let (mut after, steps) = (Histograms::default(), vector.steps);
    for row in 0..vector.rows.len() {
        for (step, (value, s)) in vector.values[row * steps..][..steps]
            .iter_mut()
            .zip(scalar)
            .enumerate()
        {
            if is_absent(*value) {
                continue;
            }
            let (a, b) = (operand(&before, *value), Operand::Float(*s));
            let result = if swapped {
                mixed.value(row, step, b, a, &mut after)
            } else {
                mixed.value(row, step, a, b, &mut after)
            };
            *value = match result {
                // A comparison shows what was in the vector, on whichever side it stood.
                Some((_, true)) if swapped && binary.op.is_comparison() && !binary.return_bool => {
                    *value
                }
                Some((result, true)) => result,
                _ => absent(),
            };
        }
    }
    vector.histograms = after;
    mixed.annotate(evaluator);
}

fn with_scalar(
    evaluator: &Evaluator<'_>,
    binary: &Binary,
    mut vector: Frame,
    scalar: &[f64],
    swapped: bool,
) -> Result<Frame, EvalError> {
    let steps = vector.steps;
    if !vector.histograms.is_empty() {
        mixed_with_scalar(evaluator, binary, &mut vector, scalar, swapped);
        return named(binary, vector);
    }
    for row in 0..vector.rows.len() {
        for (value, s) in vector.values[row * steps..(row + 1) * steps]
            .iter_mut()
            .zip(scalar)
        {
            if is_absent(*value) {
                continue;
            }
            let (a, b) = if swapped { (*s, *value) } else { (*value, *s) };
            *value = match (compared(binary.op, a, b), binary.return_bool) {
                (None, _) => computed(binary.op, a, b),
                (Some(truth), true) => f64::from(u8::from(truth)),
                (Some(true), false) => *value,
                (Some(false), false) => absent(),
            };
        }
    }
    named(binary, vector)
}

/// The result under the name that the operator leaves it.
fn named(binary: &Binary, mut vector: Frame) -> Result<Frame, EvalError> {
    if binary.return_bool || !binary.op.is_comparison() {
        drop_names(&mut vector);
    }
    vector.merged()
}

/// The labels on which two series meet.
fn key(labels: &Labels, matching: &Matching) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|l| l == name);
    if matching.on {
        labels.filtered(listed)
    } else {
        labels.filtered(|name| name != METRIC_NAME && !listed(name))
    }
}

/// The match group of every series of both sides.
struct Sides {
    left: Vec<usize>,
    right: Vec<usize>,
    count: usize,
}

impl Sides {
    fn new(matching: &Matching, left: &[Labels], right: &[Labels]) -> Self {
        let mut keys: Map<Labels, usize> = Map::default();
        let mut group_of = |labels: &Labels| {
            let next = keys.len();
            *keys.entry(key(labels, matching)).or_insert(next)
        };
        let (left, right) = (
            left.iter().map(&mut group_of).collect(),
            right.iter().map(&mut group_of).collect(),
        );
        Sides {
            left,
            right,
            count: keys.len(),
        }
    }
}

fn set_operation(
    evaluator: &Evaluator<'_>,
    op: BinaryOp,
    matching: &Matching,
    mut left: Frame,
    mut right: Frame,
) -> Result<Frame, EvalError> {
    let steps = left.steps;
    let sides = left.rows.with(&right.rows, &format!("{matching:?}"), || {
        Sides::new(matching, &left.rows, &right.rows)
    });
    // For each group and step, whether the deciding side has a value.
    evaluator
        .query
        .memory
        .take(sides.count.saturating_mul(steps))?;
    let mut present = vec![false; sides.count * steps];
    let (deciding, groups) = if op == BinaryOp::Or {
        (&left, &sides.left)
    } else {
        (&right, &sides.right)
    };
    for (row, group) in groups.iter().enumerate() {
        for (step, value) in deciding.row(row).iter().enumerate() {
            present[group * steps + step] |= !is_absent(*value);
        }
    }
    let (target, groups, wanted) = match op {
        BinaryOp::Or => (&mut right, &sides.right, false),
        op => (&mut left, &sides.left, op == BinaryOp::And),
    };
    for (row, group) in groups.iter().enumerate() {
        for (step, value) in target.row_mut(row).iter_mut().enumerate() {
            if present[group * steps + step] != wanted {
                *value = absent();
            }
        }
    }
    if op == BinaryOp::Or {
        // The values of the one are copied to those of the other.
        evaluator
            .query
            .hold_cells(left.rows.len() + right.rows.len(), steps)?;
        let all = left.rows.with(&right.rows, "all", || {
            left.rows
                .iter()
                .chain(right.rows.iter())
                .cloned()
                .collect::<LabelSets>()
        });
        left.append(right, LabelSets::clone(&all));
    }
    Ok(left)
}

/// Series of both sides that share a match key.
#[derive(Default)]
struct Group {
    key: Labels,
    many: Vec<usize>,
    one: Vec<usize>,
}

/// Which series of two sides meet, and what the results are called: pair by pair, group by group.
struct Pairs {
    groups: Vec<Group>,
    results: LabelSets,
}

impl Pairs {
    fn new(
        binary: &Binary,
        matching: &Matching,
        groups: Vec<Group>,
        many: &Frame,
        one: &Frame,
    ) -> Self {
        let pairs = groups.iter().flat_map(|group| {
            group
                .many
                .iter()
                .flat_map(|many| group.one.iter().map(move |one| (*many, *one)))
        });
        let results = pairs
            .map(|(m, o)| result_labels(binary, matching, &many.rows[m], &one.rows[o]))
            .collect();
        Pairs { groups, results }
    }
}

fn groups(matching: &Matching, many: &Frame, one: &Frame) -> Vec<Group> {
    let mut index: Map<Labels, usize> = Map::default();
    let mut groups: Vec<Group> = Vec::new();
    let mut position = |labels: &Labels, groups: &mut Vec<Group>| {
        let key = key(labels, matching);
        *index.entry(key).or_insert_with_key(|key| {
            groups.push(Group {
                key: key.clone(),
                ..Group::default()
            });
            groups.len() - 1
        })
    };
    for (row, labels) in one.rows.iter().enumerate() {
        let group = position(labels, &mut groups);
        groups[group].one.push(row);
    }
    for (row, labels) in many.rows.iter().enumerate() {
        let group = position(labels, &mut groups);
        groups[group].many.push(row);
    }
    groups
}

/// Arithmetic and comparison of two vectors.
fn matched(
    evaluator: &Evaluator<'_>,
    binary: &Binary,
    matching: &Matching,
    left: &Frame,
    right: &Frame,
) -> Result<Frame, EvalError> {
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped {
        (right, left)
    } else {
        (left, right)
    };
    let steps = left.steps;
    let key = format!(
        "{matching:?}{}",
        !binary.op.is_comparison() || binary.return_bool
    );
    let pairs = match many.rows.known_with::<Pairs>(&one.rows, &key) {
        Some(known) => known,
        None => {
            let found = groups(matching, many, one);
            // Where both sides of a group have several series, each pair has a name.
            let pairs = found
                .iter()
                .map(|group| group.many.len().saturating_mul(group.one.len()))
                .fold(0, usize::saturating_add);
            evaluator
                .query
                .memory
                .keep(pairs.saturating_mul(LABELS + 2 * size_of::<Labels>()))
                .map_err(|error| {
                    let everywhere = vec![true; steps];
                    let duplicate = found
                        .iter()
                        .filter_map(|group| first_duplicate(group, one, &everywhere))
                        .min_by_key(|d| (d.step, d.second));
                    duplicate.map_or(error, |duplicate| duplicate.error(one, swapped))
                })?;
            many.rows.with(&one.rows, &key, || {
                Pairs::new(binary, matching, found, many, one)
            })
        }
    };
    let groups = &pairs.groups;
    // A vector that is empty at a step ends the operation there before anything is checked.
    let crowded = groups.iter().any(|g| g.one.len() > 1 || g.many.len() > 1);
    let both: Vec<bool> = match crowded {
        true => (0..steps)
            .map(|step| left.any_at(step) && right.any_at(step))
            .collect(),
        false => vec![true; steps],
    };
    let mut mixed = (!many.histograms.is_empty() || !one.histograms.is_empty())
        .then(|| Mixed::new(binary, steps));
    let most = pairs.results.len();
    let mut out = Growing::new(evaluator.query, pairs.results.clone(), most, steps)?;
    let mut pair = 0;
    let operate_floats = |m: f64, o: f64| -> (f64, bool) {
        let (a, b) = if swapped { (o, m) } else { (m, o) };
        match (compared(binary.op, a, b), binary.return_bool) {
            (None, _) => (computed(binary.op, a, b), true),
            (Some(truth), true) => (f64::from(u8::from(truth)), true),
            (Some(truth), false) => (a, truth),
        }
    };
    // Prometheus goes from step to step: the first one with a mistake decides which is reported.
    let duplicates = groups
        .iter()
        .filter_map(|group| first_duplicate(group, one, &both))
        .min_by_key(|d| (d.step, d.second));
    let mut repeated: Option<usize> = None;
    for group in groups {
        let mut taken = vec![
            false;
            if crowded && matching.cardinality == Cardinality::OneToOne {
                steps
            } else {
                0
            }
        ];
        let mut labels_taken: Vec<HashSet<Labels, ahash::RandomState>> = Vec::new();
        let entries = group
            .many
            .len()
            .saturating_mul(2 * size_of::<Labels>() + 1)
            .saturating_add(size_of::<HashSet<Labels>>());
        let seen_bytes = entries.saturating_mul(steps);
        if group.many.len() > 1 && matching.cardinality != Cardinality::OneToOne {
            evaluator.query.memory.take(seen_bytes)?;
            labels_taken.resize_with(steps, HashSet::default);
        }
        for &many_row in &group.many {
            for &one_row in &group.one {
                evaluator.query.check()?;
                let (row, histograms) = out.push(evaluator.query, pair)?;
                let labels = &pairs.results[pair];
                pair += 1;
                let mut any = false;
                for step in 0..steps {
                    let (m, o) = (many.at(many_row, step), one.at(one_row, step));
                    if is_absent(m) || is_absent(o) || !both[step] {
                        continue;
                    }
                    let result = match &mut mixed {
                        None => Some(operate_floats(m, o)),
                        Some(mixed) => {
                            let (m, o) =
                                (operand(&many.histograms, m), operand(&one.histograms, o));
                            let (a, b) = if swapped { (o, m) } else { (m, o) };
                            mixed.value(many_row, step, a, b, histograms)
                        }
                    };
                    let Some((value, true)) = result else {
                        continue;
                    };
                    let again = match (taken.get_mut(step), labels_taken.get_mut(step)) {
                        (Some(taken), _) => std::mem::replace(taken, true),
                        (None, Some(seen)) => !seen.insert(labels.clone()),
                        (None, None) => false,
                    };
                    if again {
                        repeated = Some(repeated.map_or(step, |earlier| earlier.min(step)));
                        break;
                    }
                    row[step] = value;
                    any = true;
                }
                if !any {
                    out.pop();
                }
            }
        }
        if !labels_taken.is_empty() {
            evaluator.query.memory.give(seen_bytes);
        }
    }
    if let Some(mixed) = mixed {
        mixed.annotate(evaluator);
    }
    match (duplicates, repeated) {
        (Some(found), repeated) if repeated.is_none_or(|step| found.step <= step) => {
            Err(found.error(one, swapped))
        }
        (_, Some(_)) => Err(many_matches(matching)),
        _ => Ok(out.finish()),
    }
}

fn many_matches(matching: &Matching) -> EvalError {
    EvalError::new(match matching.cardinality {
        Cardinality::OneToOne => {
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
        }
        _ => "multiple matches for labels: grouping labels must ensure unique matches",
    })
}

/// Two series of the one side that share a match key.
struct Duplicate<'a> {
    step: usize,
    key: &'a Labels,
    first: usize,
    second: usize,
}

/// The one side may have one series for each match key, whether or not it has a partner.
fn first_duplicate<'a>(group: &'a Group, one: &Frame, both: &[bool]) -> Option<Duplicate<'a>> {
    if group.one.len() < 2 {
        return None;
    }
    (0..both.len()).filter(|step| both[*step]).find_map(|step| {
        let mut here = group
            .one
            .iter()
            .copied()
            .filter(|row| !is_absent(one.at(*row, step)));
        Some(Duplicate {
            step,
            key: &group.key,
            first: here.next()?,
            second: here.next()?,
        })
    })
}

impl Duplicate<'_> {
    fn error(&self, one: &Frame, swapped: bool) -> EvalError {
        let side = if swapped { "left" } else { "right" };
        let (a, b) = (&one.rows[self.first], &one.rows[self.second]);
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        EvalError::new(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];\
             many-to-many matching not allowed: matching labels must be unique on one side",
            self.key.braced(),
            first.braced(),
            second.braced(),
        ))
    }
}

fn result_labels(binary: &Binary, matching: &Matching, many: &Labels, one: &Labels) -> Labels {
    let drop_name = !binary.op.is_comparison() || binary.return_bool;
    let listed = |name: &str| matching.labels.iter().any(|l| l == name);
    let kept = many.filtered(|name| {
        if is_metadata(name) && drop_name {
            return false;
        }
        match (matching.cardinality, matching.on) {
            (Cardinality::OneToOne, true) => listed(name),
            (Cardinality::OneToOne, false) => !listed(name),
            _ => true,
        }
    });
    if matching.include.is_empty() {
        return kept;
    }
    let mut builder = kept.to_builder();
    for name in &matching.include {
        builder.set(name, one.value(name));
    }
    if binary.return_bool {
        for name in METADATA {
            builder.remove(name);
        }
    }
    builder.build()
}
