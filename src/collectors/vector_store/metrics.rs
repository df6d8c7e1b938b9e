//! The metrics of the `vector_store` collector.

use crate::model::MetricKind::{Counter, Gauge, Histogram};

const STORE: &[&str] = &["target", "store"];
const OP: &[&str] = &["target", "store", "op"];
const COLLECTION: &[&str] = &["target", "store", "collection"];

metrics! {
    UP "vectorstore_up" Gauge "" STORE, "Whether the store's heartbeat answered.", "Chroma: GET /api/v2/heartbeat, or v1; of others the list of collections";
    FAILURE "vectorstore_failure_info" Gauge "" &["target", "store", "url", "message"], "Why the heartbeat failed and where, always 1; absent while it answers.", "Chroma: GET heartbeat";
    READY "vectorstore_ready" Gauge "" STORE, "Whether the store says that it can serve queries.", "Chroma: GET /api/v2/healthcheck; the heartbeat where there is none";
    INFO "vectorstore_info" Gauge "" &["target", "store", "version", "api"], "Always 1; the version as the server reports it (Chroma 1.x reports its API's) and the API in use.", "Chroma: GET version";
    DURATION "vectorstore_probe_duration_seconds" Histogram "seconds" OP, "Duration of requests to the store: heartbeat, list, count, query.", "request sent to last byte";
    LAST_DURATION "vectorstore_probe_last_duration_seconds" Gauge "seconds" OP, "Duration of the last request of this kind.", "request sent to last byte";
    ERRORS "vectorstore_probe_errors_total" Counter "" &["target", "store", "op", "error_type"], "Failed requests by kind of failure.", "status and body of each request";
    COLLECTIONS "vectorstore_collections" Gauge "" STORE, "Number of collections.", "Chroma: collections_count";
    OMITTED "vectorstore_collections_omitted" Gauge "" STORE, "Collections beyond `max_collections`, which are not looked into.", "the collector's own bound";
    VECTORS "vectorstore_collection_vectors" Gauge "" COLLECTION, "Vectors in the collection.", "Chroma: collections/ID/count; pgvector: pg_class.reltuples; others: their description of the collection";
    DIMENSION "vectorstore_collection_dimension" Gauge "" COLLECTION, "Dimension of the collection's vectors; absent while it is empty.", "Chroma: list of collections";
    CANARY "vectorstore_canary_query_seconds" Histogram "seconds" COLLECTION, "Duration of the similarity query for a vector that is known to be there.", "Chroma: collections/ID/query";
    LAST_CANARY "vectorstore_canary_last_query_seconds" Gauge "seconds" COLLECTION, "Duration of the last canary query.", "Chroma: collections/ID/query";
    CANARY_SUCCESS "vectorstore_canary_success" Gauge "" COLLECTION, "Whether the canary query returned rows.", "Chroma: collections/ID/query";
    SELF_MATCH "vectorstore_canary_self_match" Gauge "" COLLECTION, "Whether the canary query found the vector it came from (or an equal one); absent where another one may be nearest: in inner-product space, or of a zero vector.", "Chroma: ids and distances of the query";
    RESULTS "vectorstore_canary_results" Gauge "" COLLECTION, "Rows that the canary query returned.", "Chroma: collections/ID/query";
    READABLE "vectorstore_collection_readable" Gauge "" COLLECTION, "Whether the collection's count and canary query could be read.", "status and body of each request";
    ERROR "vectorstore_last_scrape_error" Gauge "" STORE, "1 when a collection or the disk could not be read in the last collection.", "status and body of each request";
    INDEXED "vectorstore_collection_indexed_vectors" Gauge "" COLLECTION, "Vectors that the index covers; small collections need none.", "Qdrant: indexed_vectors_count; LanceDB: fragments of the index";
    UNINDEXED "vectorstore_collection_unindexed_vectors" Gauge "" COLLECTION, "Vectors that no index covers, which every search compares one by one.", "Qdrant, LanceDB: counts; Weaviate: vectorQueueLength";
    SEGMENTS "vectorstore_collection_segments" Gauge "" COLLECTION, "Segments, shards or fragments.", "Qdrant: segments_count; Weaviate, Milvus: shards; Elasticsearch: _stats; LanceDB: fragments";
    STATUS "vectorstore_collection_status" Gauge "" &["target", "store", "collection", "status"], "1 for the state that holds, 0 for the others that there are.", "Qdrant: green, yellow, grey, red; Milvus: loaded, loading, notload, notexist; Elasticsearch: green, yellow, red";
    SEARCHABLE "vectorstore_collection_searchable" Gauge "" COLLECTION, "Whether it can be searched: loaded, not red.", "state of the collection";
    OPTIMIZER "vectorstore_collection_optimizer_ok" Gauge "" COLLECTION, "0 while the optimizer has an error.", "Qdrant: optimizer_status";
    QUEUE "vectorstore_collection_queue_length" Gauge "" COLLECTION, "Updates that wait to be indexed.", "Qdrant: update_queue; Weaviate: vectorQueueLength";
    REPLICAS_WANTED "vectorstore_collection_replicas_wanted" Gauge "" COLLECTION, "Copies that are configured.", "Qdrant: replication_factor; Elasticsearch: number_of_replicas and the primary";
    REPLICAS "vectorstore_collection_replicas_active" Gauge "" COLLECTION, "Copies that are there: of the shard that has fewest, or on average.", "Qdrant: collections/NAME/cluster; Elasticsearch: active_shards";
    BYTES "vectorstore_collection_bytes" Gauge "bytes" &["target", "store", "collection", "part"], "Size by part.", "pgvector: table, indexes; Elasticsearch: data; LanceDB: data, indexes, versions, deletions; Chroma: index";
    WRITTEN "vectorstore_collection_last_write_timestamp_seconds" Gauge "seconds" COLLECTION, "When it was written last, Unix time.", "LanceDB: newest version; Chroma: created_at of the newest embedding";
    MISMATCH "vectorstore_collection_dimension_mismatch" Gauge "" COLLECTION, "Whether the dimension is another one than the key `dimension` says, which is the application's.", "key `dimension`";
    RECALL "vectorstore_recall_ratio" Gauge "" COLLECTION, "Share of the nearest vectors, found by comparing all, that the usual search finds too; of the last sample.", "key `recall`: usual and exact search for stored vectors";
    RECALL_AT "vectorstore_recall_last_timestamp_seconds" Gauge "seconds" COLLECTION, "When recall was measured last, Unix time.", "clock";
    INDEX_VALID "vectorstore_index_valid" Gauge "" &["target", "store", "collection", "index", "method"], "Whether the index is valid; one that is being built, or whose building failed, is not.", "pgvector: pg_index.indisvalid";
    INDEX_USED "vectorstore_index_used" Gauge "" &["target", "store", "collection", "index"], "Whether the planner chooses the index for the canary's search.", "pgvector: EXPLAIN of the search";
    INDEX_SCANS "vectorstore_index_scans_total" Counter "" &["target", "store", "collection", "index"], "Scans of the index.", "pgvector: pg_stat_user_indexes.idx_scan";
    INDEX_BYTES "vectorstore_index_bytes" Gauge "bytes" &["target", "store", "collection", "index"], "Size of the index.", "pgvector: pg_relation_size";
    NODE "vectorstore_node_healthy" Gauge "" &["target", "store", "node"], "Whether the node says that it is well, and others reach it.", "Weaviate: /v1/nodes; Qdrant: /cluster";
    INTEGRITY "vectorstore_integrity_ok" Gauge "" STORE, "Whether the last check of the database file found it sound.", "key `integrity_interval`: PRAGMA quick_check";
    INTEGRITY_AT "vectorstore_integrity_checked_timestamp_seconds" Gauge "seconds" STORE, "When it was checked last, Unix time.", "clock";
    LAST_WRITE "vectorstore_last_write_timestamp_seconds" Gauge "seconds" STORE, "When anything was written last, Unix time.", "Chroma: created_at in embeddings and its queue";
    DISK_READABLE "vectorstore_disk_readable" Gauge "" STORE, "Whether the files below `path` could be listed in time.", "key `path`";
    DISK "vectorstore_disk_bytes" Gauge "bytes" &["target", "store", "part"], "Bytes on disk: sqlite, wal, index, total.", "key `path`: sizes of the files below it";
    WAL_ROWS "vectorstore_wal_rows" Gauge "" STORE, "Rows in Chroma's write-ahead table; steady growth is its best-known trouble.", "embeddings_queue in chroma.sqlite3, read-only";
}

/// Bounds in seconds, for requests and canary queries.
pub const BOUNDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
