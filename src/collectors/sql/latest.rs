//! The greatest values of the last runs of all queries, for collectors that take a time from one.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::answer::Results;

/// What the last run of a query gave: the greatest value of each metric, or that it failed; nothing
/// before its first run.
type Run = Option<Result<BTreeMap<String, f64>, ()>>;

/// What a query says for others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Said {
    /// A value, the greatest of all rows.
    Value(f64),
    /// No row, or NULL alone.
    Nothing,
    /// It was not run yet.
    NotYet,
    /// Its last run failed.
    Failed,
    /// There is no such query, or no such column.
    Unknown,
}

/// The queries of a configuration, by target and name.
#[derive(Debug, Default)]
pub struct Latest(Mutex<BTreeMap<(String, String), Run>>);

impl Latest {
    /// Notes that there is such a query.
    pub fn expect(&self, target: &str, query: &str) {
        let key = (target.to_owned(), query.to_owned());
        self.0.lock().entry(key).or_default();
    }

    /// Takes over what a run gave; `None` when it failed.
    pub fn note(&self, target: &str, query: &str, results: Option<&Results>) {
        let greatest = |results: &Results| {
            let families = results.batch.families.iter();
            let of = families.filter_map(|(name, family)| {
                let values = family.samples.iter().map(|sample| sample.value);
                Some((name.to_string(), values.reduce(f64::max)?))
            });
            of.collect()
        };
        let run = results.map(greatest).ok_or(());
        self.0
            .lock()
            .insert((target.to_owned(), query.to_owned()), Some(run));
    }

    /// What the column of a query says; of the query's only metric where no column is named. A query
    /// of several targets is one of the first that has it, unless the target is named.
    pub fn say(&self, target: Option<&str>, query: &str, column: Option<&str>) -> Said {
        let all = self.0.lock();
        let found = all
            .iter()
            .find(|((of, name), _)| name == query && target.is_none_or(|target| target == of));
        match found.map(|(_, run)| run) {
            None => Said::Unknown,
            Some(None) => Said::NotYet,
            Some(Some(Err(()))) => Said::Failed,
            Some(Some(Ok(values))) => match column {
                Some(column) => values
                    .get(&format!("sql_{query}_{column}"))
                    .map_or(Said::Nothing, |value| Said::Value(*value)),
                None if values.len() > 1 => Said::Unknown,
                None => values
                    .values()
                    .next()
                    .map_or(Said::Nothing, |value| Said::Value(*value)),
            },
        }
    }
}
