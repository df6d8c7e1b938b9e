//! One call of a function or method inside a template: found by name, counted against the budget of
//! its expansion, its failure placed as Go places it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gotmpl::{FuncMap, TemplateError, Value};
use regex::{Regex, RegexBuilder};

use super::rewrite::{ARGUMENTS, CALL, CONSTANT, DOT, EACH, FAIL, NOTHING, SHOWN, STEP, TEMPLATE};
use super::typed::{self, Dialect};
use super::{builtins, dot};
use crate::model::Timestamp;
use crate::model::regex::translate;
use crate::template::rule::Query;
use crate::template::{MAX_OUTPUT, Template, failed};

/// What one expansion may spend: a unit for each call, each turn of a loop and each 32 bytes of
/// text that a function is given.
const BUDGET: u64 = 1_000_000;
/// What a regular expression costs beyond its text; each is compiled once in an expansion.
const PATTERN_COST: u64 = 4_000;
/// Most memory that a compiled regular expression may take, in bytes.
const MAX_PATTERN: usize = 1 << 19;

/// Why a call failed.
#[derive(Debug)]
pub(in crate::template) enum Fault {
    /// The function ran and says so.
    Failed(String),
    /// It was called wrongly, or there is no such field.
    Misused(String),
    /// It has too few or too many arguments.
    Arity(String),
    /// An argument, known by its address, is of the wrong type: what is wanted, and what it is.
    Argument {
        at: usize,
        wanted: String,
        got: String,
    },
}

pub(in crate::template) type Outcome = Result<Value, Fault>;

/// A function that ran into trouble.
pub(in crate::template) fn fail<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Failed(message.into()))
}

/// A function that was called wrongly.
pub(in crate::template) fn misuse<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Misused(message.into()))
}

/// How many arguments a function takes.
#[derive(Clone, Copy)]
pub(in crate::template) enum Arity {
    Exactly(usize),
    AtLeast(usize),
}

/// A row of a table of functions.
pub(in crate::template) type Row = (&'static str, Arity, fn(&Context, &[Value]) -> Outcome);

/// Functions by name.
pub(in crate::template) type Functions = BTreeMap<&'static str, Row>;

/// One expansion: what its functions need and what it has spent.
pub(in crate::template) struct Context {
    pub functions: &'static Functions,
    pub dialect: Dialect,
    /// The time that `now` gives.
    pub now: Timestamp,
    pub external_url: Arc<str>,
    /// Answers `query`, in rules.
    pub query: Option<Query>,
    /// Templates that are called and do not exist.
    undefined: Vec<String>,
    spent: AtomicU64,
    patterns: Mutex<HashMap<String, Regex>>,
}

impl Context {
    /// An expansion of `template`.
    pub(in crate::template) fn new(
        template: &Template,
        functions: &'static Functions,
        dialect: Dialect,
        now: Timestamp,
        external_url: &str,
        query: Option<Query>,
    ) -> Arc<Self> {
        let (spent, patterns) = (AtomicU64::new(0), Mutex::default());
        let undefined = template.undefined().to_vec();
        Arc::new(Context {
            undefined,
            functions,
            dialect,
            now,
            external_url: external_url.into(),
            query,
            spent,
            patterns,
        })
    }

    /// Takes from the budget; errs when it is used up.
    pub(in crate::template) fn spend(&self, units: u64) -> Result<(), Fault> {
        if self.spent.fetch_add(units, Ordering::Relaxed) + units > BUDGET {
            return misuse("the template takes too long: it is stopped");
        }
        Ok(())
    }

    /// A regular expression of Go's dialect.
    pub(in crate::template) fn pattern(&self, written: &str) -> Result<Regex, Fault> {
        let mut patterns = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = patterns.get(written) {
            return Ok(known.clone());
        }
        self.spend(PATTERN_COST)?;
        let refuse = |reason: String| Fault::Failed(format!("error parsing regexp: {reason}"));
        let translated = translate(written).map_err(|error| refuse(error.to_string()))?;
        let built = RegexBuilder::new(&translated)
            .size_limit(MAX_PATTERN)
            .build();
        let built = built.map_err(|_| refuse(format!("expression is too large: `{written}`")))?;
        patterns.insert(written.to_owned(), built.clone());
        Ok(built)
    }

    /// A value as it is printed.
    pub(in crate::template) fn shown(&self, value: &Value) -> Result<String, Fault> {
        typed::shown(value, self.dialect).or_else(|_| misuse(TOO_LONG))
    }

    /// Go's name for the type of a value.
    pub(in crate::template) fn type_of<'a>(&self, value: &'a Value) -> std::borrow::Cow<'a, str> {
        typed::go_type(value, self.dialect)
    }

    fn call(&self, name: &str, args: &[Value]) -> Outcome {
        let Some((_, arity, function)) = self.functions.get(name) else {
            return misuse(format!("function {name:?} not defined"));
        };
        match *arity {
            Arity::Exactly(want) if args.len() != want => {
                return Err(Fault::Arity(format!(
                    "wrong number of args for {name}: want {want} got {}",
                    args.len()
                )));
            }
            Arity::AtLeast(want) if args.len() < want => {
                return Err(Fault::Arity(format!(
                    "wrong number of args for {name}: want at least {want} got {}",
                    args.len()
                )));
            }
            _ => {}
        }
        self.spend(
            1 + args
                .iter()
                .filter_map(typed::as_text)
                .map(|s| s.len() as u64 / 32)
                .sum::<u64>(),
        )?;
        let result = function(self, args)?;
        match &result {
            Value::String(s) | Value::Safe { s, .. } if s.len() > MAX_OUTPUT => misuse(TOO_LONG),
            _ => Ok(result),
        }
    }
}

const TOO_LONG: &str = "a text is longer than 1048576 bytes";

/// Go's words for an argument of the wrong type; a constant is described otherwise than a value.
fn misplaced(call: &str, argument: Option<&str>, wanted: &str, got: &str) -> String {
    let constant = argument.and_then(|place| place.strip_prefix(CONSTANT));
    match (constant, argument.filter(|place| !place.is_empty())) {
        (Some(place), _) => {
            let written = place
                .split_once(" at <")
                .map_or("", |(_, rest)| rest.strip_suffix('>').unwrap_or(rest));
            match wanted {
                "string" => format!("{place}: expected string; found {written}"),
                _ => format!("{place}: can't handle {written} for arg of type {wanted}"),
            }
        }
        (None, place) if got == "nil" => format!(
            "{}: invalid value; expected {wanted}",
            place.unwrap_or(call)
        ),
        (None, place) => format!(
            "{}: wrong type for value; expected {wanted}; got {got}",
            place.unwrap_or(call)
        ),
    }
}

fn text_of(value: Option<&Value>) -> &str {
    match value {
        Some(Value::String(s)) => s,
        _ => "",
    }
}

/// The functions that a rewritten template calls.
pub(in crate::template) fn machinery(context: &Arc<Context>) -> FuncMap {
    let mut map = FuncMap::new();
    let mut add = |name: &str, function: fn(&Context, &[Value]) -> Result<Value, TemplateError>| {
        let context = Arc::clone(context);
        map.insert(
            name.to_owned(),
            Arc::new(move |args: &[Value]| function(&context, args)),
        );
    };
    // The place, the function's name, the arguments.
    add(CALL, |context, args| {
        let (place, name) = (text_of(args.first()), text_of(args.get(1)));
        let (place, places) = place.split_once(ARGUMENTS).unwrap_or((place, ""));
        let args = args.get(2..).unwrap_or_default();
        context.call(name, args).or_else(|fault| match fault {
            Fault::Argument { at, wanted, got } => {
                let index = args
                    .iter()
                    .position(|arg| std::ptr::from_ref(arg).addr() == at)
                    .unwrap_or(usize::MAX);
                failed(misplaced(
                    place,
                    places.split(ARGUMENTS).nth(index),
                    &wanted,
                    &got,
                ))
            }
            Fault::Failed(message) => failed(format!("{place}: error calling {name}: {message}")),
            Fault::Misused(message) => failed(format!("{place}: {message}")),
            Fault::Arity(message) => {
                let before = place.find(" at <").map_or("", |at| &place[..at]);
                failed(format!("{before} at <{name}>: {message}"))
            }
        })
    });
    // The place, what has the field, the field's name, the arguments.
    add(DOT, |context, args| {
        let (place, name) = (text_of(args.first()), text_of(args.get(2)));
        let base = args.get(1).unwrap_or(&Value::Nil);
        let found = context
            .spend(1)
            .and_then(|()| dot::dot(context, base, name, args.get(3..).unwrap_or_default()));
        found.or_else(|fault| match fault {
            Fault::Failed(message) => failed(format!("{place}: error calling {name}: {message}")),
            Fault::Misused(message) | Fault::Arity(message) => {
                failed(format!("{place}: {message}"))
            }
            Fault::Argument { wanted, got, .. } => failed(misplaced(place, None, &wanted, &got)),
        })
    });
    // The place and name of a template that is called, then what it is given.
    add(TEMPLATE, |context, args| match text_of(args.get(1)) {
        name if context.undefined.iter().any(|undefined| undefined == name) => failed(format!(
            "{}: template {name:?} not defined",
            text_of(args.first())
        )),
        _ => Ok(args.get(2).cloned().unwrap_or(Value::Nil)),
    });
    // The place with what is wrong there.
    add(FAIL, |_, args| failed(text_of(args.first())));
    // The place, then what is ranged over.
    add(EACH, |context, args| {
        let (place, over) = (text_of(args.first()), args.get(1).unwrap_or(&Value::Nil));
        match over {
            Value::List(_) | Value::Int(_) | Value::Uint(_) => Ok(over.clone()),
            Value::Map(_) if !typed::is_opaque(over) => Ok(typed::unmarked(over)),
            Value::Nil => Ok(Value::Nil),
            other => failed(format!(
                "{place}: range can't iterate over {}",
                typed::shown(other, context.dialect).unwrap_or_default()
            )),
        }
    });
    add(SHOWN, |context, args| match args.first() {
        Some(Value::String(_) | Value::Safe { .. } | Value::Int(_) | Value::Bool(_)) => {
            Ok(args[0].clone())
        }
        other => plain(
            context
                .shown(other.unwrap_or(&Value::Nil))
                .map(|shown| crate::template::text(&shown)),
        ),
    });
    add(STEP, |context, _| {
        plain(context.spend(1).map(|()| Value::Nil))
    });
    add(NOTHING, |_, _| Ok(Value::Nil));
    for (name, escape) in builtins::ESCAPES {
        let context = Arc::clone(context);
        let escape = move |args: &[Value]| {
            let written = plain(builtins::printed(&context, args))?;
            plain(
                context
                    .spend(1 + written.len() as u64 / 32)
                    .map(|()| crate::template::text(&escape(&written))),
            )
        };
        map.insert((*name).to_owned(), Arc::new(escape));
    }
    map
}

fn plain<T>(outcome: Result<T, Fault>) -> Result<T, TemplateError> {
    outcome.or_else(|fault| match fault {
        Fault::Failed(message) | Fault::Misused(message) | Fault::Arity(message) => failed(message),
        Fault::Argument { wanted, got, .. } => failed(format!("expected {wanted}; got {got}")),
    })
}
