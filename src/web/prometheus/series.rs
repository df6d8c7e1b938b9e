//! `/series`, `/labels`, `/label/NAME/values`.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::model::{Matcher, Timestamp};

use super::super::Context;
use super::super::seats::Seat;
use super::answer::{Answer, Problem, labels_json};
use super::not_found;
use super::parameters::Parameters;

/// About what a label takes as an entry of a JSON map, in bytes, beside its text.
const LABEL: usize = 96;

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

    /// The union of what `find` gives for each list of matchers; for none at all, what it gives
    /// without matchers.
    fn union<T: Ord>(
        &self,
        seat: &Seat,
        find: impl Fn(&[Matcher]) -> Vec<T>,
    ) -> Result<Vec<T>, Problem> {
        if self.to < self.from {
            return Ok(Vec::new());
        }
        if self.matchers.is_empty() {
            return Ok(find(&[]));
        }
        let mut found: Vec<T> = Vec::new();
        for (position, matchers) in self.matchers.iter().enumerate() {
            seat.interrupt.check()?;
            if self.matchers[..position].contains(matchers) {
                continue;
            }
            found.extend(find(matchers));
            if position > 0 {
                found.sort();
                found.dedup();
            }
        }
        Ok(found)
    }
}

async fn series(
    State(context): State<Context>,
    seat: Seat,
    parameters: Parameters,
) -> Result<Answer, Problem> {
    if parameters.all("match[]").next().is_none() {
        return Err(Problem::bad_data("no match[] parameter provided"));
    }
    let selection = Selection::read(&parameters, |problem| {
        Problem::parameter("match[]", problem)
    })?;
    let mut found = selection.union(&seat, |matchers| {
        context.store.series(matchers, selection.from, selection.to)
    })?;
    let cut = selection.limit > 0 && found.len() > selection.limit;
    if cut {
        // One more, for the warning.
        found.truncate(selection.limit + 1);
    }
    // As JSON each pair is an entry of a map.
    let _held = seat.reserve(
        found
            .iter()
            .map(|labels| LABEL * labels.len() + labels.heap_size())
            .sum(),
    )?;
    Answer::limited(
        &seat,
        found.iter().map(labels_json).collect(),
        selection.limit,
        |_| LABEL,
    )
}

async fn names(
    State(context): State<Context>,
    seat: Seat,
    parameters: Parameters,
) -> Result<Answer, Problem> {
    let selection = Selection::read(&parameters, Problem::bad_data)?;
    let names = selection.union(&seat, |matchers| {
        context
            .store
            .label_names(matchers, selection.from, selection.to)
    })?;
    Answer::limited(&seat, names, selection.limit, String::len)
}

async fn values(
    State(context): State<Context>,
    seat: Seat,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    if name.is_empty() {
        return Ok(not_found().into_response());
    }
    let name = unescape(&name);
    if name.is_empty() {
        return Err(Problem::bad_data("invalid label name: \"\""));
    }
    let selection = Selection::read(&parameters, Problem::bad_data)?;
    // One more, for the warning.
    let most = match selection.limit {
        0 => usize::MAX,
        limit => limit.saturating_add(1),
    };
    let values = selection.union(&seat, |matchers| {
        let window = (selection.from, selection.to);
        let store = &context.store;
        store.first_label_values(&name, matchers, window, most)
    })?;
    Ok(Answer::limited(&seat, values, selection.limit, String::len)?.into_response())
}

/// A name as clients escape it for a path: `U__` and then `_XX_` for each character outside the
/// legacy alphabet, `__` for `_`.
fn unescape(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else {
        return name.to_owned();
    };
    let (mut out, mut rest) = (String::new(), escaped);
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('_') {
            out.push('_');
            rest = after;
        } else {
            let Some((code, after)) = tail.split_once('_') else {
                return name.to_owned();
            };
            let Some(character) = u32::from_str_radix(code, 16).ok().and_then(char::from_u32)
            else {
                return name.to_owned();
            };
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
