//! The `vector_store` collector against a real Chroma.

use std::time::Duration;

use crate::collecting::{build, build_patient, collect, try_build, value};
use crate::servers::chroma::Chroma;
use crate::servers::free_port;

/// Up, ready, collections, vectors, a canary that must find itself, bytes on disk, rows in the
/// write-ahead table.
#[tokio::test(flavor = "multi_thread")]
async fn a_chroma_is_described_by_its_collections_and_its_canaries() {
    let mut chroma = Chroma::start();
    let books = chroma.collection("books", 30).await;
    chroma.collection("empty", 0).await;
    let mut collector = build_patient(
        "vector_store",
        &format!(
            "url: {}\npath: {}\n",
            chroma.url(),
            chroma.data.path().display()
        ),
    );
    let (batch, result) = collect("vector_store", &mut collector).await;
    result.expect("all is well");
    let of = |name: &str, labels: &[(&str, &str)]| value(&batch, name, labels);
    assert_eq!(of("vectorstore_up", &[]), Some(1.0));
    assert_eq!(of("vectorstore_ready", &[]), Some(1.0));
    assert_eq!(of("vectorstore_collections", &[]), Some(2.0));
    assert_eq!(of("vectorstore_collections_omitted", &[]), Some(0.0));
    assert_eq!(
        of("vectorstore_collection_vectors", &[("collection", "books")]),
        Some(30.0)
    );
    assert_eq!(
        of("vectorstore_collection_vectors", &[("collection", "empty")]),
        Some(0.0)
    );
    assert_eq!(
        of(
            "vectorstore_collection_dimension",
            &[("collection", "books")]
        ),
        Some(8.0)
    );
    assert_eq!(
        of("vectorstore_canary_self_match", &[("collection", "books")]),
        Some(1.0)
    );
    assert_eq!(
        of("vectorstore_canary_success", &[("collection", "empty")]),
        None
    );
    assert!(of("vectorstore_disk_bytes", &[("part", "total")]).expect("a size") > 10_000.0);
    assert!(of("vectorstore_wal_rows", &[]).is_some());
    // The canary's own record goes away: the collector takes another one, and nothing is wrong.
    for record in ["v0", "v1", "v2"] {
        chroma.delete(&books, record).await;
    }
    let (batch, _) = collect("vector_store", &mut collector).await;
    assert_eq!(
        value(
            &batch,
            "vectorstore_canary_self_match",
            &[("collection", "books")]
        ),
        Some(1.0)
    );
    assert_eq!(
        value(
            &batch,
            "vectorstore_collection_vectors",
            &[("collection", "books")]
        ),
        Some(27.0)
    );
    chroma.stop();
    let (batch, result) = collect("vector_store", &mut collector).await;
    assert_eq!(value(&batch, "vectorstore_up", &[]), Some(0.0));
    assert_stopped(result);
    assert_eq!(
        value(
            &batch,
            "vectorstore_probe_errors_total",
            &[("op", "heartbeat"), ("error_type", "connect")]
        ),
        Some(1.0)
    );
    chroma.restart();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (batch, result) = collect("vector_store", &mut collector).await;
    result.expect("it is back");
    assert_eq!(value(&batch, "vectorstore_up", &[]), Some(1.0));
}

/// Chroma 0.5, which knows only the first generation of the API, is described likewise.
#[tokio::test(flavor = "multi_thread")]
async fn a_chroma_of_the_old_generation_is_described_likewise() {
    let mut chroma = Chroma::start_old();
    chroma.collection("books", 30).await;
    chroma.collection("empty", 0).await;
    let mut collector = build_patient(
        "vector_store",
        &format!(
            "url: {}\npath: {}\n",
            chroma.url(),
            chroma.data.path().display()
        ),
    );
    let (batch, result) = collect("vector_store", &mut collector).await;
    result.expect("all is well");
    let of = |name: &str, labels: &[(&str, &str)]| value(&batch, name, labels);
    assert_eq!(
        (
            of("vectorstore_up", &[]),
            of("vectorstore_collections", &[])
        ),
        (Some(1.0), Some(2.0))
    );
    assert_eq!(
        of("vectorstore_collection_vectors", &[("collection", "books")]),
        Some(30.0)
    );
    assert_eq!(
        of("vectorstore_collection_vectors", &[("collection", "empty")]),
        Some(0.0)
    );
    assert_eq!(
        of("vectorstore_canary_self_match", &[("collection", "books")]),
        Some(1.0)
    );
    assert!(of("vectorstore_disk_bytes", &[("part", "total")]).expect("a size") > 10_000.0);
    chroma.stop();
    let (batch, result) = collect("vector_store", &mut collector).await;
    assert_eq!(value(&batch, "vectorstore_up", &[]), Some(0.0));
    assert_stopped(result);
}

/// A database that does not exist lists nothing with status 200; that must not look healthy.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_exist_is_an_error() {
    let chroma = Chroma::start();
    let mut collector = build_patient(
        "vector_store",
        &format!("url: {}\ndatabase: typo\n", chroma.url()),
    );
    let (batch, result) = collect("vector_store", &mut collector).await;
    assert_eq!(value(&batch, "vectorstore_up", &[]), Some(1.0));
    assert_eq!(value(&batch, "vectorstore_collections", &[]), None);
    assert!(
        result
            .expect_err("no such database")
            .reason
            .contains("typo")
    );
}

/// In inner-product space a longer vector is nearer than the vector itself, and a zero vector has
/// no direction: any answer will do.
#[tokio::test(flavor = "multi_thread")]
async fn a_canary_need_not_find_itself_where_another_may_be_nearer() {
    for chroma in [Chroma::start(), Chroma::start_old()] {
        let multiples: Vec<Vec<f64>> = (1..=20)
            .map(|k| {
                [1.0, 2.0, 0.5, 1.5]
                    .map(|part| part * f64::from(k))
                    .to_vec()
            })
            .collect();
        chroma.collection_in("products", "ip", &multiples).await;
        chroma.collection_in("angles", "cosine", &multiples).await;
        chroma
            .collection_in("zeros", "cosine", &[vec![0.0; 3], vec![0.0; 3]])
            .await;
        // One without a direction is passed over where it is not found.
        chroma
            .collection_in("mixed", "cosine", &[vec![0.0; 3], vec![1.0, 2.0, 3.0]])
            .await;
        let (batch, result) = collect(
            "vector_store",
            &mut build_patient("vector_store", &format!("url: {}\n", chroma.url())),
        )
        .await;
        result.expect("all is well");
        let of = |name: &str, collection: &str| value(&batch, name, &[("collection", collection)]);
        for collection in ["products", "angles", "zeros", "mixed"] {
            assert_eq!(
                of("vectorstore_canary_success", collection),
                Some(1.0),
                "{collection}"
            );
            assert_eq!(
                of("vectorstore_collection_readable", collection),
                Some(1.0),
                "{collection}"
            );
        }
        let itself = ["products", "angles", "zeros"]
            .map(|collection| of("vectorstore_canary_self_match", collection));
        assert_eq!(itself, [None, Some(1.0), None]);
        assert_ne!(of("vectorstore_canary_self_match", "mixed"), Some(0.0));
    }
}

/// A token is sent in the header that this generation reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken_by_the_old_generation_too() {
    let chroma = Chroma::start_old_with_token("tok");
    let (batch, result) = collect(
        "vector_store",
        &mut build(
            "vector_store",
            &format!("url: {}\ntoken: tok\n", chroma.url()),
        ),
    )
    .await;
    result.expect("let in");
    assert_eq!(value(&batch, "vectorstore_collections", &[]), Some(0.0));
    let (_, result) = collect(
        "vector_store",
        &mut build(
            "vector_store",
            &format!("url: {}\ntoken: other\n", chroma.url()),
        ),
    )
    .await;
    assert!(result.expect_err("refused").reason.contains("auth"));
}

/// A folder that hangs holds one look, costs the collection a moment and not its deadline, and is
/// read again once it answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_hangs_costs_only_what_is_read_from_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("chroma.sqlite3");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("mkfifo runs")
            .success()
    );
    let yaml = format!(
        "url: http://127.0.0.1:{}\npath: {}\n",
        free_port(),
        folder.path().display()
    );
    let mut collector = build("vector_store", &yaml);
    for _ in 0..2 {
        let (batch, result) = collect("vector_store", &mut collector).await;
        assert_eq!(result.expect_err("no server").reason, "heartbeat: connect");
        assert_eq!(value(&batch, "vectorstore_disk_readable", &[]), Some(0.0));
        let why = &batch.families["vectorstore_failure_info"].samples[0].labels;
        assert_eq!(why.value("message"), "heartbeat: connect");
    }
    // One reader waits: this lets it go on.
    drop(
        std::fs::OpenOptions::new()
            .write(true)
            .open(&pipe)
            .expect("the reader is there"),
    );
    let (batch, _) = collect("vector_store", &mut collector).await;
    assert_eq!(value(&batch, "vectorstore_disk_readable", &[]), Some(1.0));
}

#[test]
fn mistakes_in_its_configuration_are_named() {
    let errors = try_build(
        "vector_store",
        "url: localhost:8000\nstore: pinecone\ndatabase: a/b\n",
    )
    .err()
    .expect("mistakes")
    .to_string();
    assert!(
        errors.contains("nightbell.yml:1:6: url: is not an http or https URL"),
        "{errors}"
    );
    assert!(
        errors.contains("store: \"pinecone\" is not supported; give chroma"),
        "{errors}"
    );
    assert!(
        errors.contains("database: \"a/b\" is not a name"),
        "{errors}"
    );
}

/// A connection that was kept open may take the request before it is found closed.
fn assert_stopped(result: Result<(), nightbell::collectors::CollectError>) {
    let reason = result.expect_err("stopped").reason;
    assert!(
        ["heartbeat: connect", "heartbeat: invalid_response"].contains(&reason.as_str()),
        "{reason}"
    );
}
