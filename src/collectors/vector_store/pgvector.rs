//! pgvector (<https://github.com/pgvector/pgvector>): every column of the types `vector`,
//! `halfvec` and `sparsevec`, its indexes, and whether the planner uses them.
//!
//! Privilege: CONNECT, and for the canary and recall SELECT on the tables; without SELECT a table is
//! described and not searched. It connects as the collector `postgres` does: each question is one
//! READ ONLY transaction with `statement_timeout`, and nothing is prepared. Never used: whatever
//! writes, ANALYZE, REINDEX, settings beyond the transaction.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::time::Instant;

use crate::collectors::postgres::{Config, Session, SessionError};
use crate::config::Section;

use super::store::{
    AnyStore, Choice, Collection, Failure, Hit, Index, Looked, Search, Store, Stored, Survey,
};

/// Most indexes that are looked at.
const MAX_INDEXES: usize = 500;

/// Columns of vectors, of tables that hold rows, with what their indexes measure by.
const COLUMNS: &str = "SELECT /* nightbell */ n.nspname::text, c.relname::text, a.attname::text, t.typname::text, a.atttypmod::int4,
    c.reltuples::float8, pg_table_size(c.oid)::float8, pg_indexes_size(c.oid)::float8, has_table_privilege(c.oid, 'SELECT'),
    quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(a.attname), quote_ident(tn.nspname),
    (SELECT o.opcname::text FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am m ON m.oid = ic.relam
        JOIN pg_opclass o ON o.oid = i.indclass[0] WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid
        AND m.amname IN ('hnsw', 'ivfflat') ORDER BY i.indexrelid LIMIT 1),
    count(*) OVER ()::int8
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace
    JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
    JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'vector'
    WHERE c.relkind IN ('r', 'm', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND t.typname IN ('vector', 'halfvec', 'sparsevec')
    AND NOT c.relispartition
    ORDER BY 1, 2, 3 LIMIT 1000";

/// Indexes on them.
const INDEXES: &str = "SELECT /* nightbell */ n.nspname::text, c.relname::text, a.attname::text, ic.relname::text, m.amname::text, i.indisvalid,
    pg_relation_size(ic.oid)::float8, coalesce(pg_stat_get_numscans(ic.oid), 0)::float8
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am m ON m.oid = ic.relam
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE m.amname IN ('hnsw', 'ivfflat') ORDER BY 1, 2, 4 LIMIT ";

const VERSION: &str =
    "SELECT /* nightbell */ extversion::text FROM pg_extension WHERE extname = 'vector'";

struct Pgvector {
    config: Option<Config>,
    /// Taken out while in use: a question that is cut off leaves no half-read connection behind.
    session: Option<Session>,
}

/// Reads its keys.
pub fn build(section: &Section<'_>, patience: Duration) -> Box<dyn AnyStore> {
    Box::new(Pgvector {
        config: Config::read(section, patience),
        session: None,
    })
}

fn failure(error: &SessionError) -> Failure {
    let text = error.to_string();
    let kind = match error {
        SessionError::Lost(_) => "connect",
        SessionError::Refused(_) | SessionError::Denied(_) => "auth",
        SessionError::Late(_) => "timeout",
        SessionError::Query(_) if text.contains("dimensions") => "dimension_mismatch",
        SessionError::Query(_) if text.contains("statement timeout") => "timeout",
        SessionError::Unavailable(_) | SessionError::Encoding(_) | SessionError::Query(_) => {
            "bad_request"
        }
    };
    Failure::new(kind, text)
}

fn odd(error: &sqlx::Error) -> Failure {
    Failure::odd(&error.to_string())
}

/// The operator and whether it is the inner product, by the name of an index's operator class:
/// another operator would pass over the index.
fn operator(class: &str) -> (&'static str, bool) {
    match class {
        c if c.ends_with("_cosine_ops") => ("<=>", false),
        c if c.ends_with("_ip_ops") => ("<#>", true),
        c if c.ends_with("_l1_ops") => ("<+>", false),
        _ => ("<->", false),
    }
}

/// What a search needs beside the names for people.
struct Names {
    table: String,
    column: String,
    schema: String,
    kind: String,
}

impl Names {
    /// As it is kept in a collection's identifier: names are quoted, so none holds a line feed
    /// beside those inside quotes; a name with one is not searched.
    fn text(&self) -> String {
        [&self.table, &self.column, &self.schema, &self.kind]
            .map(String::as_str)
            .join("\n")
    }

    fn of(collection: &Collection) -> Looked<Self> {
        let parts: Vec<&str> = collection.id.split('\n').collect();
        match parts.as_slice() {
            [table, column, schema, kind] => Ok(Names {
                table: (*table).to_owned(),
                column: (*column).to_owned(),
                schema: (*schema).to_owned(),
                kind: (*kind).to_owned(),
            }),
            _ => Err(Failure::odd("a name with a line feed")),
        }
    }

    /// The search for the nearest rows. Names of operators and types are the extension's, whatever
    /// the search path; a vector is digits.
    fn search(&self, collection: &Collection, vector: &str, most: usize) -> String {
        let (operator, _) = operator(&collection.space);
        let Names {
            table,
            column,
            schema,
            kind,
        } = self;
        let distance = format!(
            "{column} OPERATOR({schema}.{operator}) '{vector}'::{schema}.{kind}{}",
            collection
                .dimension
                .map(|n| format!("({n})"))
                .unwrap_or_default()
        );
        format!(
            "SELECT /* nightbell */ ctid::text, ({distance})::float8 FROM {table} ORDER BY {distance} LIMIT {most}"
        )
    }
}

/// A vector as it came, with nothing in it but what a vector is made of.
fn is_vector(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"[]{}/,:.+-eE".contains(&b))
}

fn column(row: &PgRow) -> sqlx::Result<(Collection, bool, i64)> {
    let text = |index: usize| row.try_get::<String, _>(index);
    let (schema, table, field, kind) = (text(0)?, text(1)?, text(2)?, text(3)?);
    let modifier: i32 = row.try_get(4)?;
    let rows: f64 = row.try_get(5)?;
    let class = row.try_get::<Option<String>, _>(12)?.unwrap_or_default();
    let names = Names {
        table: text(9)?,
        column: text(10)?,
        schema: text(11)?,
        kind,
    };
    let readable = row.try_get(8)?;
    let (_, inner_product) = operator(&class);
    let collection = Collection {
        name: format!("{schema}.{table}.{field}"),
        id: names.text(),
        field,
        // -1 before the first ANALYZE.
        vectors: (rows >= 0.0).then_some(rows),
        dimension: (modifier > 0).then(|| f64::from(modifier)),
        bytes: vec![("table", row.try_get(6)?), ("indexes", row.try_get(7)?)],
        space: class,
        inner_product,
        searchable: readable,
        ..Collection::default()
    };
    Ok((collection, readable, row.try_get(13)?))
}

impl Pgvector {
    async fn ask(&mut self, sql: &str, timeout: Duration) -> Looked<Vec<PgRow>> {
        let Some(config) = &self.config else {
            return Err(Failure::new("bad_request", "dsn is missing"));
        };
        let deadline = Instant::now() + timeout;
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Session::open(config, None, false, &[], deadline)
                .await
                .map_err(|e| failure(&e))?,
        };
        let answer = session.ask(sql, config, deadline).await;
        // After these the connection is of no more use.
        if !matches!(answer, Err(SessionError::Lost(_) | SessionError::Late(_))) {
            self.session = Some(session);
        }
        answer.map_err(|e| failure(&e))
    }

    async fn near(
        &mut self,
        collection: &Collection,
        stored: &Stored,
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> Looked<Vec<Hit>> {
        let (_, vector) = stored.id.split_once('\n').unwrap_or_default();
        let sql = Names::of(collection)?.search(collection, vector, most);
        let sql = match search {
            Search::Usual => sql,
            Search::Exact => format!(
                "SET /* nightbell */ LOCAL enable_indexscan = off; SET /* nightbell */ LOCAL enable_bitmapscan = off; {sql}"
            ),
        };
        let rows = self.ask(&sql, timeout).await?;
        let hit = |row: &PgRow| -> sqlx::Result<Hit> {
            let id: String = row.try_get(0)?;
            let distance: Option<f64> = row.try_get(1)?;
            let equal = Some(distance.is_some_and(|d| d.abs() < 1e-4));
            // The canary is known by its row, and its text.
            let id = match stored.id.split_once('\n') {
                Some((own, _)) if own == id => stored.id.clone(),
                _ => id,
            };
            Ok(Hit { id, equal })
        };
        rows.iter()
            .map(hit)
            .collect::<sqlx::Result<_>>()
            .map_err(|e| odd(&e))
    }

    async fn used(
        &mut self,
        collection: &Collection,
        stored: &Stored,
        timeout: Duration,
    ) -> Looked<Option<String>> {
        let (_, vector) = stored.id.split_once('\n').unwrap_or_default();
        let search = Names::of(collection)?.search(collection, vector, 5);
        let sql = format!("EXPLAIN (FORMAT JSON) {search}");
        let rows = self.ask(&sql, timeout).await?;
        let row = rows
            .first()
            .ok_or_else(|| Failure::odd("EXPLAIN has no row"))?;
        let text: String = row.try_get_unchecked(0).map_err(|e| odd(&e))?;
        let json = serde_json::from_str(&text).map_err(|_| Failure::odd("EXPLAIN is no JSON"))?;
        Ok(index_of(&json, 0))
    }
}

/// The first index in a plan.
fn index_of(plan: &serde_json::Value, depth: usize) -> Option<String> {
    match plan {
        serde_json::Value::Object(fields) => {
            let own = fields.get("Index Name").and_then(|name| name.as_str());
            own.map(str::to_owned).or_else(|| {
                fields
                    .values()
                    .filter(|_| depth < 20)
                    .find_map(|value| index_of(value, depth + 1))
            })
        }
        serde_json::Value::Array(items) if depth < 20 => {
            items.iter().find_map(|item| index_of(item, depth + 1))
        }
        _ => None,
    }
}

impl Store for Pgvector {
    fn address(&self) -> String {
        let address = self.config.as_ref().map(|config| config.address.clone());
        address.unwrap_or_default()
    }

    async fn survey(&mut self, choice: &Choice, timeout: Duration) -> Looked<Survey> {
        let version = self.ask(VERSION, timeout).await?;
        let Some(version) = version.first() else {
            return Err(Failure::new(
                "not_found",
                "the extension vector is not installed in this database",
            ));
        };
        let mut survey = Survey {
            version: Some(version.try_get(0).map_err(|e| odd(&e))?),
            ready: true,
            ..Survey::default()
        };
        let mut collections = Vec::new();
        for row in &self.ask(COLUMNS, timeout).await? {
            let (collection, readable, total) = column(row).map_err(|e| odd(&e))?;
            survey.total = usize::try_from(total).unwrap_or_default();
            if choice.wants(&collection.name) && !readable {
                let text = format!("{}: no SELECT: not searched", collection.name);
                survey.problems.push(text);
            }
            collections.push(collection);
        }
        let names = choice.of(collections.iter().map(|c| c.name.clone()).collect());
        collections.retain(|collection| names.contains(&collection.name));
        let indexes = self
            .ask(&format!("{INDEXES}{MAX_INDEXES}"), timeout)
            .await?;
        for row in &indexes {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(|e| odd(&e));
            let name = format!("{}.{}.{}", text(0)?, text(1)?, text(2)?);
            let index = Index {
                name: text(3)?,
                method: text(4)?,
                valid: row.try_get(5).map_err(|e| odd(&e))?,
                bytes: row.try_get(6).map_err(|e| odd(&e))?,
                scans: row.try_get(7).map_err(|e| odd(&e))?,
            };
            if let Some(collection) = collections.iter_mut().find(|c| c.name == name) {
                collection.indexes.push(index);
            }
        }
        survey.collections = collections;
        Ok(survey)
    }

    async fn sample(
        &mut self,
        collection: &Collection,
        most: usize,
        timeout: Duration,
    ) -> Looked<Vec<Stored>> {
        let names = Names::of(collection)?;
        // Rows of any page: `TABLESAMPLE` would give none of a small table.
        let sql = format!(
            "SELECT /* nightbell */ ctid::text, {0}::text FROM {1} WHERE {0} IS NOT NULL LIMIT {most}",
            names.column, names.table
        );
        let rows = self.ask(&sql, timeout).await?;
        let one = |row: &PgRow| -> sqlx::Result<Option<Stored>> {
            let text: String = row.try_get(1)?;
            let numbers = text.trim_matches(['[', ']']).split(',');
            // Of a sparse vector the text is kept as it is, and no number of it.
            let vector: Option<Vec<f64>> = numbers.map(|n| n.parse().ok()).collect();
            let vector = vector.unwrap_or_default();
            Ok(is_vector(&text).then(|| Stored {
                id: format!(
                    "{}\n{text}",
                    row.try_get::<String, _>(0).unwrap_or_default()
                ),
                vector,
            }))
        };
        let found: sqlx::Result<Vec<Option<Stored>>> = rows.iter().map(one).collect();
        Ok(found.map_err(|e| odd(&e))?.into_iter().flatten().collect())
    }

    async fn nearest(
        &mut self,
        collection: &Collection,
        stored: &Stored,
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> Looked<Option<Vec<Hit>>> {
        let hits = self.near(collection, stored, most, search, timeout).await?;
        Ok(Some(hits))
    }

    async fn used_index(
        &mut self,
        collection: &Collection,
        stored: &Stored,
        timeout: Duration,
    ) -> Looked<Option<Option<String>>> {
        let used = self.used(collection, stored, timeout).await?;
        Ok(Some(used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_follows_the_index() {
        let of = [
            "vector_cosine_ops",
            "halfvec_ip_ops",
            "vector_l1_ops",
            "vector_l2_ops",
            "",
        ];
        assert_eq!(
            of.map(|class| operator(class).0),
            ["<=>", "<#>", "<+>", "<->", "<->"]
        );
    }

    /// What stands between quotes in a statement holds no quote.
    #[test]
    fn only_what_a_vector_is_made_of_gets_into_a_statement() {
        assert!(is_vector("[1,-2.5e-05,3]") && is_vector("{1:1.5,3:2}/5"));
        assert!(!is_vector("[1]'; DROP TABLE t; --") && !is_vector(""));
    }
}
