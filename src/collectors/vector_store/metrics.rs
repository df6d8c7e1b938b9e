//! The metrics of the `vector_store` collector.

use crate::model::MetricKind::{Counter, Gauge, Histogram};

const STORE: &[&str] = &["target", "store"];
const OP: &[&str] = &["target", "store", "op"];
const COLLECTION: &[&str] = &["target", "store", "collection"];

metrics! {
    UP "vectorstore_up" Gauge "" STORE, "Whether the store's heartbeat answered.", "Chroma: GET /api/v2/heartbeat, or v1";
    FAILURE "vectorstore_failure_info" Gauge "" &["target", "store", "url", "message"], "Why the heartbeat failed and where, always 1; absent while it answers.", "Chroma: GET heartbeat";
    READY "vectorstore_ready" Gauge "" STORE, "Whether the store says that it can serve queries.", "Chroma: GET /api/v2/healthcheck; the heartbeat where there is none";
    INFO "vectorstore_info" Gauge "" &["target", "store", "version", "api"], "Always 1; the version as the server reports it (Chroma 1.x reports its API's) and the API in use.", "Chroma: GET version";
    DURATION "vectorstore_probe_duration_seconds" Histogram "seconds" OP, "Duration of requests to the store: heartbeat, list, count, query.", "request sent to last byte";
    LAST_DURATION "vectorstore_probe_last_duration_seconds" Gauge "seconds" OP, "Duration of the last request of this kind.", "request sent to last byte";
    ERRORS "vectorstore_probe_errors_total" Counter "" &["target", "store", "op", "error_type"], "Failed requests by kind of failure.", "status and body of each request";
    COLLECTIONS "vectorstore_collections" Gauge "" STORE, "Number of collections.", "Chroma: collections_count";
    OMITTED "vectorstore_collections_omitted" Gauge "" STORE, "Collections beyond `max_collections`, which are not looked into.", "the collector's own bound";
    VECTORS "vectorstore_collection_vectors" Gauge "" COLLECTION, "Vectors in the collection.", "Chroma: collections/ID/count";
    DIMENSION "vectorstore_collection_dimension" Gauge "" COLLECTION, "Dimension of the collection's vectors; absent while it is empty.", "Chroma: list of collections";
    CANARY "vectorstore_canary_query_seconds" Histogram "seconds" COLLECTION, "Duration of the similarity query for a vector that is known to be there.", "Chroma: collections/ID/query";
    LAST_CANARY "vectorstore_canary_last_query_seconds" Gauge "seconds" COLLECTION, "Duration of the last canary query.", "Chroma: collections/ID/query";
    CANARY_SUCCESS "vectorstore_canary_success" Gauge "" COLLECTION, "Whether the canary query returned rows.", "Chroma: collections/ID/query";
    SELF_MATCH "vectorstore_canary_self_match" Gauge "" COLLECTION, "Whether the canary query found the vector it came from (or an equal one); absent where another one may be nearest: in inner-product space, or of a zero vector.", "Chroma: ids and distances of the query";
    RESULTS "vectorstore_canary_results" Gauge "" COLLECTION, "Rows that the canary query returned.", "Chroma: collections/ID/query";
    READABLE "vectorstore_collection_readable" Gauge "" COLLECTION, "Whether the collection's count and canary query could be read.", "status and body of each request";
    ERROR "vectorstore_last_scrape_error" Gauge "" STORE, "1 when a collection or the disk could not be read in the last collection.", "status and body of each request";
    DISK_READABLE "vectorstore_disk_readable" Gauge "" STORE, "Whether the files below `path` could be listed in time.", "key `path`";
    DISK "vectorstore_disk_bytes" Gauge "bytes" &["target", "store", "part"], "Bytes on disk: sqlite, wal, index, total.", "key `path`: sizes of the files below it";
    WAL_ROWS "vectorstore_wal_rows" Gauge "" STORE, "Rows in Chroma's write-ahead table; steady growth is its best-known trouble.", "embeddings_queue in chroma.sqlite3, read-only";
}

/// Bounds in seconds, for requests and canary queries.
pub const BOUNDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
