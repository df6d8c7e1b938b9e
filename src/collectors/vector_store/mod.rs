//! Vector stores seen from outside: Chroma as a server and in an application, pgvector, Qdrant,
//! Milvus, Weaviate, Elasticsearch and OpenSearch, Redis vector sets, folders of LanceDB.
//!
//! Most have no metrics that say whether a search still finds. A canary does: a stored vector whose
//! search must find that vector. Nothing is ever written, and no embedding model is needed. The
//! first lines of each file here name the privilege that its store asks for, and what is never used.

mod caller;
mod chroma;
mod elastic;
mod lancedb;
mod looking;
mod metrics;
mod milvus;
mod pgvector;
mod qdrant;
mod redis_set;
mod requests;
mod store;
mod weaviate;

use crate::config::Section;

use super::{Collector, CollectorKind, Target};
use looking::{Common, Looking};

/// The kind's row in the table of collectors.
pub const KIND: CollectorKind = CollectorKind {
    name: "vector_store",
    about: "vector stores (Chroma, pgvector, Qdrant, Milvus, Weaviate, Elasticsearch, OpenSearch, Redis, LanceDB): up, ready, collections, vectors, canary query, recall, indexes, bytes",
    metrics: &[metrics::METRICS],
    build,
};

/// The stores there are.
const STORES: [&str; 9] = [
    "chroma",
    "elasticsearch",
    "lancedb",
    "milvus",
    "opensearch",
    "pgvector",
    "qdrant",
    "redis",
    "weaviate",
];

/// Keys that only some stores have.
const OF_SOME: [(&str, &[&str]); 7] = [
    ("tenant", &["chroma"]),
    ("database", &["chroma", "milvus"]),
    ("path", &["chroma", "lancedb"]),
    ("integrity_interval", &["chroma"]),
    ("management_port", &["milvus"]),
    ("dsn", &["pgvector"]),
    (
        "recall",
        &["elasticsearch", "opensearch", "pgvector", "qdrant", "redis"],
    ),
];

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let wanted = section.or("store", "chroma".to_owned());
    let name = STORES.into_iter().find(|name| *name == wanted);
    if name.is_none() {
        section.error(
            "store",
            format!("{wanted:?} is not supported"),
            format!("give {}", STORES.join(", ")),
        );
    }
    let name = name.unwrap_or("chroma");
    for (key, stores) in OF_SOME {
        let is_there = section.node(key).is_some();
        if is_there && !stores.contains(&name) {
            let remedy = format!("it belongs to {}", stores.join(", "));
            section.note(key, format!("means nothing to {name}"), remedy);
        }
    }
    let common = Common::read(section);
    let store = match name {
        "elasticsearch" | "opensearch" => elastic::build(section),
        "lancedb" => lancedb::build(section),
        "milvus" => milvus::build(section),
        "pgvector" => pgvector::build(section, target.timeout),
        "qdrant" => qdrant::build(section),
        "redis" => redis_set::build(section),
        "weaviate" => weaviate::build(section),
        _ if section.node("url").is_none() && section.node("path").is_some() => {
            return chroma::embedded::build(section, target);
        }
        _ => return chroma::build(section, target),
    };
    Box::new(Looking::new(common, target, name, store))
}
