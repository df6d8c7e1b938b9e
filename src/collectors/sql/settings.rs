//! The keys `queries` and `queries_file`.

use super::reader::Reader;

use crate::config::Section;

use super::exporters;
use super::{Latest, Queries, Query};

impl Queries {
    /// Reads both keys of a collector's section.
    pub fn read(section: &Section<'_>, collector: &'static str, reader: &Reader<'_>) -> Self {
        let mut queries: Vec<Query> = Vec::new();
        for entry in section.sections("queries") {
            let query = reader.query(&entry);
            entry.finish();
            let Some(query) = query else { continue };
            if queries.iter().any(|other| other.name == query.name) {
                entry.error(
                    "name",
                    format!("another query is named {:?} already", query.name),
                    "give each query its own name",
                );
            }
            queries.push(query);
        }
        if let Some(path) = section.get("queries_file") {
            for query in exporters::read(section, path, reader) {
                if queries.iter().any(|other| other.name == query.name) {
                    let problem = format!(
                        "holds a query {:?}, of which there is one already",
                        query.name
                    );
                    section.error("queries_file", problem, "give each query its own name");
                }
                queries.push(query);
            }
        }
        let latest = section
            .given::<Latest>()
            .unwrap_or_else(|| section.give(Latest::default()));
        Queries::new(collector, &reader.target.name, queries, latest)
    }
}
