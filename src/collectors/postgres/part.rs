//! A part: one query against the server's catalog and the metrics that its columns become.
//!
//! Parts are data. The SQL text is assembled from them once per connection, for the version of the
//! server at hand.

use std::borrow::Cow;
use std::fmt::Write as _;

use sqlx::postgres::PgRow;
use sqlx::{Row as _, ValueRef as _};

use crate::model::{Batch, MetricDesc, MetricKind};

use super::config::{Limit, Limits};

/// One query and what is made of its rows.
pub struct Part {
    /// The value of the `collector` and `part` labels.
    pub name: &'static str,
    /// How rows become samples.
    pub rows: Rows,
    /// `FROM` and everything after it; `{limit}` stands for the number of rows that `limit` allows,
    /// `{schema}` for that of the statements.
    pub from: &'static str,
    /// The bound on rows, and the SQL that counts how many there would have been.
    pub limit: Option<(Limit, &'static str)>,
    /// Asked once for the server, or in each database.
    pub scope: Scope,
    /// How often.
    pub cadence: Cadence,
    /// The privilege that it needs for the whole picture.
    pub grant: Option<Grant>,
    /// The first `server_version_num` that has the view.
    pub since: u32,
    /// The first `server_version_num` that has it no longer.
    pub until: u32,
}

impl Part {
    /// What most parts have in common: no limit, no privilege, every version, the whole server,
    /// every collection.
    pub const DEFAULT: Part = Part {
        name: "",
        rows: Rows::Columns(&[], &[]),
        from: "",
        limit: None,
        scope: Scope::Server,
        cadence: Cadence::Each,
        grant: None,
        since: 0,
        until: u32::MAX,
    };
}

/// How rows become samples.
pub enum Rows {
    /// Label columns (name and SQL), then one column for each measure.
    Columns(&'static [(&'static str, &'static str)], &'static [Measure]),
    /// A select list of its own, and the function that reads the rows.
    Custom(&'static str, fn(&[PgRow], &mut Batch) -> sqlx::Result<()>),
}

/// Where a part is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Once: the view shows the whole server.
    Server,
    /// In every database: the view shows the connected one.
    Database,
    /// Once, if the extension `pg_stat_statements` is installed in the database of the DSN.
    Statements,
    /// The same, where the configuration asks for texts.
    StatementTexts,
}

/// How often a part is asked; in between its last samples are repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cadence {
    /// Every collection.
    Each,
    /// About once a minute: sizes, tables, statements.
    Slow,
    /// About every five minutes: settings.
    Rare,
}

/// A privilege and what is lost without it.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// The predefined role that gives it.
    pub role: &'static str,
    /// What is missing without it, in words.
    pub cost: &'static str,
    /// Whether the query fails without it, so that it is not even tried.
    pub required: bool,
}

/// A metric and the SQL of its value.
#[derive(Clone, Copy)]
pub struct Measure {
    /// The metric; its labels and source are those of the part, see [`descs`].
    pub desc: MetricDesc,
    /// The SQL of the value. `NULL` makes no sample.
    pub sql: &'static str,
    since: u32,
    until: u32,
}

/// A counter.
pub const fn counter(name: &'static str, sql: &'static str, help: &'static str) -> Measure {
    measure(MetricKind::Counter, name, sql, help)
}

/// A gauge.
pub const fn gauge(name: &'static str, sql: &'static str, help: &'static str) -> Measure {
    measure(MetricKind::Gauge, name, sql, help)
}

/// A metric of any kind.
pub const fn measure(
    kind: MetricKind,
    name: &'static str,
    sql: &'static str,
    help: &'static str,
) -> Measure {
    Measure {
        desc: MetricDesc {
            name,
            kind,
            unit: "",
            help,
            labels: &[],
            source: "",
        },
        sql,
        since: 0,
        until: u32::MAX,
    }
}

impl Measure {
    /// With this unit.
    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.desc.unit = unit;
        self
    }

    /// Only on servers from this `server_version_num` on.
    pub const fn since(mut self, version: u32) -> Self {
        self.since = version;
        self
    }

    /// Only on servers before this `server_version_num`.
    pub const fn until(mut self, version: u32) -> Self {
        self.until = version;
        self
    }

    fn on(&self, version: u32) -> bool {
        (self.since..self.until).contains(&version)
    }
}

/// The descriptions of `measures`, completed with what they share.
pub const fn descs<const N: usize>(
    measures: &[Measure; N],
    labels: &'static [&'static str],
    source: &'static str,
) -> [MetricDesc; N] {
    let mut out = [measures[0].desc; N];
    let mut index = 0;
    while index < N {
        out[index] = MetricDesc {
            labels,
            source,
            ..measures[index].desc
        };
        index += 1;
    }
    out
}

/// The text of a column. What is not UTF-8 is shown as well as it can be: one odd name must not
/// cost the rows beside it.
pub fn text(row: &PgRow, index: usize) -> sqlx::Result<Option<Cow<'_, str>>> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(None);
    }
    value
        .as_bytes()
        .map(|bytes| Some(String::from_utf8_lossy(bytes)))
        .map_err(sqlx::Error::Decode)
}

/// A part made ready for one server.
pub struct Query {
    /// The part.
    pub part: &'static Part,
    /// The whole SQL text.
    pub sql: String,
    measures: Vec<&'static Measure>,
    limit: Option<usize>,
}

impl Query {
    /// Assembles the text; `None` where this server version does not have the view. `schema` is
    /// that of `pg_stat_statements`, quoted.
    pub fn assemble(
        part: &'static Part,
        version: u32,
        limits: &Limits,
        schema: &str,
    ) -> Option<Self> {
        if !(part.since..part.until).contains(&version) {
            return None;
        }
        let limit = part.limit.map(|(limit, _)| limits.of(limit));
        // The comment is how our own statements are known in pg_stat_statements.
        let mut sql = String::from("SELECT /* nightbell */ ");
        let mut measures = Vec::new();
        match &part.rows {
            Rows::Custom(select, _) => sql.push_str(select),
            Rows::Columns(labels, all) => {
                let mut comma = "";
                for (_, expression) in *labels {
                    let _infallible = write!(sql, "{comma}({expression})::text");
                    comma = ", ";
                }
                for measure in all.iter().filter(|m| m.on(version)) {
                    let _infallible = write!(sql, "{comma}({})::float8", measure.sql);
                    measures.push(measure);
                    comma = ", ";
                }
                if let Some((_, total)) = part.limit {
                    let _infallible = write!(sql, "{comma}({total})::float8");
                }
            }
        }
        let _infallible = write!(
            sql,
            " {}",
            part.from
                .replace("{limit}", &limit.unwrap_or_default().to_string())
                .replace("{schema}", schema)
        );
        Some(Query {
            part,
            sql,
            measures,
            limit,
        })
    }

    /// Turns rows into samples. Returns how many more rows there would have been without the limit.
    pub fn read(&self, rows: &[PgRow], batch: &mut Batch) -> sqlx::Result<f64> {
        let labels = match &self.part.rows {
            Rows::Custom(_, read) => return read(rows, batch).map(|()| 0.0),
            Rows::Columns(labels, _) => *labels,
        };
        for row in rows {
            let texts = (0..labels.len())
                .map(|index| Ok(text(row, index)?.unwrap_or_default()))
                .collect::<sqlx::Result<Vec<_>>>()?;
            let pairs: Vec<(&str, &str)> = labels
                .iter()
                .zip(&texts)
                .map(|((label, _), text)| (*label, text.as_ref()))
                .collect();
            for (index, measure) in self.measures.iter().enumerate() {
                if let Some(value) =
                    row.try_get_unchecked::<Option<f64>, _>(labels.len() + index)?
                {
                    batch.push(&measure.desc, &pairs, value);
                }
            }
        }
        match (self.limit, rows.first()) {
            (Some(limit), Some(row)) => {
                let total: f64 = row.try_get_unchecked(labels.len() + self.measures.len())?;
                Ok((total - limit as f64).max(0.0))
            }
            _ => Ok(0.0),
        }
    }
}
