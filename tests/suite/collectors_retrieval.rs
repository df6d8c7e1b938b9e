//! The `retrieval` collector: questions whose source is known, asked through a stand-in of an
//! application and of a store, and fixed texts whose embeddings change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nightbell::collectors::{Collector, Memory};
use nightbell::model::Batch;
use serde_json::{Value, json};

use crate::collecting::{build, collect, try_build, try_build_with, value};
use crate::servers::free_port;
use crate::servers::http::HttpServer;

fn body_of(request: &str) -> Value {
    let (_, body) = request.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).unwrap_or(Value::Null)
}

/// Collects until a round has ended.
async fn round(collector: &mut Box<dyn Collector>) -> Batch {
    for _ in 0..3000 {
        let (batch, result) = collect("retrieval", collector).await;
        result.expect("it collects");
        if batch
            .families
            .contains_key("retrieval_last_round_timestamp_seconds")
        {
            return batch;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no round has ended");
}

/// A metric's name without its beginning, labels, the value.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<f64>);

#[track_caller]
fn expect(batch: &Batch, cases: &[Case<'_>]) {
    for (name, labels, wanted) in cases {
        let got = value(batch, &format!("retrieval_{name}"), labels);
        let same = match (got, wanted) {
            (Some(got), Some(wanted)) => (got - wanted).abs() < 1e-6,
            (got, wanted) => got.is_none() && wanted.is_none(),
        };
        assert!(same, "{name}{labels:?}: {got:?}, not {wanted:?}");
    }
}

/// Rank, hit rate, what an answer must hold, a source that is missing, an answer without sources.
#[tokio::test(flavor = "multi_thread")]
async fn questions_are_judged_by_their_sources() {
    let server = HttpServer::answering(|request| {
        assert!(request.contains("authorization: Bearer sk-app"));
        let sources = |names: &[&str]| {
            let list: Vec<Value> = names
                .iter()
                .map(|n| json!({"metadata": {"source": n}}))
                .collect();
            (
                "200 OK",
                json!({"answer": "within 14 days, \"surely\"", "results": list}).to_string(),
            )
        };
        match body_of(request)["query"].as_str().expect("a question") {
            "money \"back\"?" => sources(&["docs/faq.md", "docs/refund.md#2"]),
            "delivery?" => sources(&["docs/faq.md"]),
            "nothing?" => sources(&[]),
            "late?" => sources(&["a", "b", "c", "docs/late.md"]),
            "text?" => ("200 OK", "data: see docs/text.md\n\n".into()),
            "odd?" => ("200 OK", json!({"answer": "no list"}).to_string()),
            _ => ("503 Service Unavailable", "busy".into()),
        }
    });
    let yaml = format!(
        r#"
url: http://127.0.0.1:{}/search
api_key: sk-app
body: '{{"query": {{question}}, "top_k": 5}}'
sources: "results[*].metadata.source"
max_rank: 3
question: 'money "back"?'
expect_source: refund.md
must_contain: '14 days, "surely"'
questions:
- {{name: delivery, question: "delivery?", expect_source: delivery.md, must_contain: three days}}
- {{name: nothing, question: "nothing?", expect_source: x}}
- {{name: late, question: "late?", expect_source: late.md}}
- {{name: text, question: "text?", expect_source: text.md}}
- {{name: odd, question: "odd?", expect_source: x}}
- {{name: busy, question: "busy?", expect_source: x}}
"#,
        server.port
    );
    let mut collector = build("retrieval", &yaml);
    let batch = round(&mut collector).await;
    let q = |name: &'static str| [("question", name)];
    let money = q("money \"back\"?");
    expect(
        &batch,
        &[
            ("success", &money, Some(1.0)),
            ("hit", &money, Some(1.0)),
            ("rank", &money, Some(2.0)),
            ("results", &money, Some(2.0)),
            ("answer_contains", &money, Some(1.0)),
            ("questions_total", &money, Some(1.0)),
            ("hits_total", &money, Some(1.0)),
            ("hit", &q("delivery"), Some(0.0)),
            ("rank", &q("delivery"), None),
            ("answer_contains", &q("delivery"), Some(0.0)),
            ("success", &q("nothing"), Some(1.0)),
            ("results", &q("nothing"), Some(0.0)),
            // It is there, beyond what counts.
            ("hit", &q("late"), Some(0.0)),
            ("rank", &q("late"), Some(4.0)),
            ("hit", &q("text"), Some(1.0)),
            ("rank", &q("text"), None),
            ("success", &q("odd"), Some(0.0)),
            ("success", &q("busy"), Some(0.0)),
            ("hit", &q("busy"), None),
            (
                "errors_total",
                &[("question", "odd"), ("error_type", "no_sources")],
                Some(1.0),
            ),
            (
                "errors_total",
                &[("question", "busy"), ("error_type", "server_error")],
                Some(1.0),
            ),
            ("hit_ratio", &[], Some(2.0 / 7.0)),
            ("mean_reciprocal_rank", &[], Some((0.5 + 0.25) / 4.0)),
            ("duration_seconds_count", &money, Some(1.0)),
        ],
    );
    // The answer's words are nowhere.
    assert!(!format!("{batch:?}").contains("surely\\\\"));
}

/// A store is asked itself: with the embedding of the question; and by GET with a parameter.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_asked_with_the_question_s_embedding() {
    let server = HttpServer::answering(|request| {
        if request.starts_with("POST /v1/embeddings") {
            let body = body_of(request);
            assert_eq!(body, json!({"model": "e", "input": ["delivery?"]}));
            return (
                "200 OK",
                json!({"data": [{"index": 0, "embedding": [0.25, 0.5]}]}).to_string(),
            );
        }
        if request.starts_with("GET /find?q=delivery%3F ") {
            return ("200 OK", json!({"sources": ["delivery.md"]}).to_string());
        }
        assert_eq!(body_of(request), json!({"query": [0.25, 0.5], "limit": 3}));
        let points = json!([{"payload": {"source": "delivery.md"}}]);
        ("200 OK", json!({"result": {"points": points}}).to_string())
    });
    let base = format!("http://127.0.0.1:{}", server.port);
    let by_vector = format!(
        "url: {base}/points/query\nbody: '{{\"query\": {{vector}}, \"limit\": 3}}'\nembeddings: {{url: '{base}/v1/embeddings', model: e}}\nquestion: 'delivery?'\nexpect_source: delivery\n"
    );
    let by_parameter =
        format!("url: {base}/find\nparameter: q\nquestion: 'delivery?'\nexpect_source: delivery\n");
    for yaml in [by_vector, by_parameter] {
        let batch = round(&mut build("retrieval", &yaml)).await;
        expect(
            &batch,
            &[("rank", &[], Some(1.0)), ("hit_ratio", &[], Some(1.0))],
        );
    }
}

/// The first embeddings of fixed texts are kept across restarts; a model that changes shows.
#[tokio::test(flavor = "multi_thread")]
async fn embeddings_that_change_are_noticed_after_a_restart() {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = changed.clone();
    let server = HttpServer::answering(move |request| {
        if request.starts_with("POST /v1/embeddings") {
            let second = if is_changed.load(Ordering::SeqCst) {
                [0.0, 1.0]
            } else {
                [1.0, 0.0]
            };
            // Out of order, as the protocol allows.
            let data =
                json!([{"index": 1, "embedding": second}, {"index": 0, "embedding": [3.0, 4.0]}]);
            return ("200 OK", json!({"data": data}).to_string());
        }
        ("200 OK", json!({"sources": ["a"]}).to_string())
    });
    let folder = tempfile::tempdir().expect("a folder");
    let base = format!("http://127.0.0.1:{}", server.port);
    let yaml = |model: &str| {
        format!(
            "url: {base}/ask\nquestion: q\nexpect_source: a\nembeddings: {{url: '{base}/v1/embeddings', model: {model}, texts: [one, two]}}\n"
        )
    };
    let start = |model: &str| {
        let memory = Memory::of(folder.path(), "retrieval", "retrieval", "t");
        try_build_with("retrieval", &yaml(model), memory).unwrap_or_else(|e| panic!("{e}"))
    };
    let batch = round(&mut start("e")).await;
    let (one, two) = ([("text", "1")], [("text", "2")]);
    expect(
        &batch,
        &[
            ("embedding_similarity", &one, Some(1.0)),
            ("embedding_similarity", &two, Some(1.0)),
            ("embedding_dimension", &one, Some(2.0)),
            ("embedding_success", &[("model", "e")], Some(1.0)),
        ],
    );
    let first = value(
        &batch,
        "retrieval_embedding_baseline_timestamp_seconds",
        &[],
    );
    let file = || {
        let mut folders = vec![folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if std::fs::read_to_string(entry.path()).is_ok_and(|t| t.contains("vectors"))
                {
                    return true;
                }
            }
        }
        false
    };
    crate::servers::wait_until(
        "the first embeddings are saved",
        Duration::from_secs(10),
        file,
    );
    changed.store(true, Ordering::SeqCst);
    let batch = round(&mut start("e")).await;
    expect(
        &batch,
        &[
            ("embedding_similarity", &one, Some(1.0)),
            ("embedding_similarity", &two, Some(0.0)),
        ],
    );
    assert_eq!(
        value(
            &batch,
            "retrieval_embedding_baseline_timestamp_seconds",
            &[]
        ),
        first
    );
    // Another model begins anew.
    let batch = round(&mut start("f")).await;
    expect(&batch, &[("embedding_similarity", &two, Some(1.0))]);
}

/// Nobody there: the collection is not held up, and the failure has its kind.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_gone_has_a_kind_of_failure() {
    let yaml = format!(
        "url: http://127.0.0.1:{}/ask\nquestion: q\nexpect_source: a\n",
        free_port()
    );
    let batch = round(&mut build("retrieval", &yaml)).await;
    expect(
        &batch,
        &[
            ("success", &[], Some(0.0)),
            ("errors_total", &[("error_type", "connect")], Some(1.0)),
            ("hit_ratio", &[], Some(0.0)),
            ("mean_reciprocal_rank", &[], None),
        ],
    );
}

#[test]
fn mistakes_in_questions_are_named() {
    let mistakes = |yaml: &str| {
        let error = try_build("retrieval", yaml).err().expect("mistakes");
        error.to_string()
    };
    let text = mistakes(
        "url: http://a/\nbody: '{\"q\": \"{question}\"}'\nquestion: q\nexpect_source: ''\n",
    );
    assert!(text.contains("body: is no JSON"), "{text}");
    assert!(text.contains("expect_source: is empty"), "{text}");
    let text = mistakes(
        "url: http://a/\nbody: '{\"q\": {vector}}'\nquestions: [{name: a, question: q, expect_source: s}, {name: a, question: r, expect_source: s}]\n",
    );
    assert!(text.contains("nothing embeds the question"), "{text}");
    assert!(text.contains("have the same name twice"), "{text}");
    assert!(mistakes("url: http://a/\n").contains("question"));
}
