//! `/series`, `/labels`, `/label/NAME/values`.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::model::{Matcher, Timestamp};

use super::super::Context;
use super::answer::{Answer, Problem, labels_json};
use super::not_found;
use super::parameters::Parameters;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/series", get(series).post(series))
        .route("/labels", get(names).post(names))
        .route("/label/{name}/values", get(values))
}

/// What to look for: each list of matchers by itself, and the window.
struct Selection {
    matchers: Vec<Vec<Matcher>>,
    from: Timestamp,
    to: Timestamp,
    limit: usize,
}

impl Selection {
    /// `refused` makes the answer to a wrong `match[]`.
    fn read(parameters: &Parameters, refused: impl Fn(String) -> Problem) -> Result<Self, Problem> {
        Ok(Selection {
            matchers: parameters.matchers().map_err(refused)?,
            from: parameters.time("start")?.unwrap_or(Timestamp::MIN),
            to: parameters.time("end")?.unwrap_or(Timestamp::MAX),
            limit: parameters.limit()?,
        })
    }

    /// The union of what `find` gives for each list of matchers; for none at all, what it gives without matchers.
    fn union<T: Ord>(&self, find: impl Fn(&[Matcher]) -> Vec<T>) -> Vec<T> {
        if self.to < self.from {
            return Vec::new();
        }
        let mut found: Vec<T> = match self.matchers.is_empty() {
            true => find(&[]),
            false => self.matchers.iter().flat_map(|m| find(m)).collect(),
        };
        found.sort();
        found.dedup();
        found
    }
}

async fn series(State(context): State<Context>, parameters: Parameters) -> Result<Answer, Problem> {
    if parameters.all("match[]").next().is_none() {
        return Err(Problem::bad_data("no match[] parameter provided"));
    }
    let selection = Selection::read(&parameters, |problem| Problem::parameter("match[]", problem))?;
    let found = selection.union(|matchers| context.store.series(matchers, selection.from, selection.to));
    Ok(Answer::limited(found.iter().map(labels_json).collect(), selection.limit))
}

async fn names(State(context): State<Context>, parameters: Parameters) -> Result<Answer, Problem> {
    let selection = Selection::read(&parameters, Problem::bad_data)?;
    Ok(Answer::limited(selection.union(|matchers| context.store.label_names(matchers, selection.from, selection.to)), selection.limit))
}

async fn values(State(context): State<Context>, Path(name): Path<String>, parameters: Parameters) -> Result<Response, Problem> {
    if name.is_empty() {
        return Ok(not_found().await.into_response());
    }
    let name = unescape(&name);
    if name.is_empty() {
        return Err(Problem::bad_data("invalid label name: \"\""));
    }
    let selection = Selection::read(&parameters, Problem::bad_data)?;
    let values = selection.union(|matchers| context.store.label_values(&name, matchers, selection.from, selection.to));
    Ok(Answer::limited(values, selection.limit).into_response())
}

/// A name as clients escape it for a path: `U__` and then `_XX_` for each character outside the legacy alphabet, `__` for `_`.
fn unescape(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    let (mut out, mut rest) = (String::new(), escaped);
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('_') {
            out.push('_');
            rest = after;
        } else {
            let Some((code, after)) = tail.split_once('_') else { return name.to_owned() };
            let Some(character) = u32::from_str_radix(code, 16).ok().and_then(char::from_u32) else { return name.to_owned() };
            out.push(character);
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEMANTICS 202: escaped names in the path.
    #[test]
    fn escaped_names_are_read() {
        assert_eq!(unescape("U__a_2e_b__c"), "a.b_c");
        assert_eq!(unescape("plain_name"), "plain_name");
        assert_eq!(unescape("U__a_zz_"), "U__a_zz_");
    }
}
