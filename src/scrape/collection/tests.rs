//! Whole collections: of pages that break off, and of pages that change in every way.

use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config::{Document, Environment, Loader};
use crate::model::is_stale;
use crate::scrape::config::global::Global;
use crate::scrape::config::job::{Job, read_jobs};
use crate::scrape::discovery;
use crate::scrape::page::scan;
use crate::store::Limits;

fn job(text: &str) -> Job {
    let (document, environment) = (
        Document::parse("nightbell.yml", text).expect("YAML"),
        Environment::default(),
    );
    let loader = Loader::new(&document, &environment, Path::new("."));
    read_jobs(&loader.root(), &Global::default()).remove(0)
}

fn collection(job: &Job, store: &Arc<Store>) -> Collection {
    let target = discovery::targets_of(job, &[]).targets.remove(0);
    let labels = target.info.labels.clone();
    let fetch = Fetch::new(job.client.clone(), target.url, job, target.info.timeout);
    Collection {
        shared: Arc::new(Shared::new(target.info)),
        source: Source::Http(Box::new(fetch), scan::PageCache::new()),
        labelling: Arc::new(Labelling {
            limits: job.limits,
            ..Labelling::plain(labels.clone())
        }),
        stamps: Stamps {
            honor: true,
            track: false,
        },
        report: Report::new(&labels, None, store),
        owner: store.owner(&labels),
        departures: store.departures(),
        store: store.clone(),
        metrics: Metrics::default(),
        arrivals: watch::Sender::new(0),
        room: Vec::new(),
        refusals: Refusals::default(),
    }
}

fn answer(announced: usize, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {announced}\r\n\r\n"
    );
    (head + body).into_bytes()
}

/// SEMANTICS 13, 26: whether it is read as a whole or while it comes, a page is taken as a whole or
/// not at all.
#[tokio::test]
async fn a_page_that_is_not_sound_to_its_end_stores_nothing_and_marks_all() {
    let long = |end: &str| {
        (0..20_000)
            .map(|n| format!("m{{n=\"{n}\"}} {n}\n"))
            .collect::<String>()
            + end
    };
    let sound = long("");
    let cut = long("new 1\nm{n=");
    let cases = [
        (answer(sound.len(), &sound), ""),
        (
            answer(cut.len() + 9, &cut),
            "protocol: end of file before message length reached",
        ),
        (answer(sound.len(), &sound), ""),
        (
            answer(cut.len(), &cut),
            "line 20002: labels without closing brace",
        ),
        (
            answer(sound.len() + 12, &long("new 1\nlast 2")),
            "sample limit exceeded: 20002 samples, at most 20001 allowed (sample_limit of the configuration)",
        ),
        (
            answer(sound.len() * 2, &sound.repeat(2)),
            "too_large: answer is larger than 500000 bytes",
        ),
        (answer(3, "a 1"), ""),
    ];
    for interval in ["5s", "1m"] {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let answers: Vec<Vec<u8>> = cases.iter().map(|(answer, _)| answer.clone()).collect();
        let server = tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let _ = stream.read(&mut [0; 4096]).await.expect("a request");
                // Who finds it too large hangs up.
                let _ = stream.write_all(&answer).await;
            }
        });
        let job = job(&format!(
            "scrape_configs: [{{job_name: j, scrape_interval: {interval}, scrape_timeout: 5s, sample_limit: 20001, body_size_limit: 500000B, \
             static_configs: [{{targets: ['{address}']}}]}}]\n"
        ));
        let store = Arc::new(Store::new(Limits::default()));
        let mut collection = collection(&job, &store);
        for (number, (_, error)) in cases.iter().enumerate() {
            collection.collect(Timestamp(1000 * number as i64)).await;
            let status = collection.shared.snapshot().status;
            let page = collection.shared.page();
            assert_eq!(
                Arc::ptr_eq(&page, &collection.shared.page()),
                interval == "5s" || number >= 6 || !error.is_empty(),
                "kept"
            );
            assert_eq!(
                (status.error.as_str(), status.health == Health::Up),
                (*error, error.is_empty()),
                "{interval}, answer {number}"
            );
            assert_eq!(
                page.families().iter().any(|f| f.name == "m"),
                error.is_empty() && number < 6
            );
        }
        server.await.expect("no panic");
        let mut values = Vec::new();
        let all = store.select(&[], Timestamp(-1), Timestamp::MAX, |labels, window| {
            if ["m", "a", "up"].contains(&labels.metric_name())
                && labels.get("n").is_none_or(|n| n == "7" || n == "19999")
            {
                let shown = window
                    .values
                    .iter()
                    .map(|value| (!is_stale(*value)).then_some(*value));
                values.push((labels.metric_name().to_owned(), shown.collect::<Vec<_>>()));
            }
            std::ops::ControlFlow::Continue(())
        });
        all.expect("no damaged chunk");
        values.sort_by_key(|(name, values)| format!("{name} {values:?}"));
        let m = |n: f64| ("m".to_owned(), vec![Some(n), None, Some(n), None]);
        let up = (
            "up".to_owned(),
            [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0].map(Some).to_vec(),
        );
        assert_eq!(
            values,
            [("a".to_owned(), vec![Some(1.0)]), m(19999.0), m(7.0), up],
            "{interval}"
        );
    }
}

/// SEMANTICS 12, 27, 40: entries are forgotten, numbered anew, shown in another order and under
/// another TYPE, and the last page is there to be compared with, or not; a sample goes to its
/// series anyway, and what went is marked.
#[test]
fn samples_go_to_their_series_however_pages_change() {
    for interval in ["5s", "1m"] {
        let job = job(&format!(
            "scrape_configs: [{{job_name: j, scrape_interval: {interval}, scrape_timeout: 1s, static_configs: [{{targets: ['a:1']}}]}}]\n"
        ));
        let store = Arc::new(Store::new(Limits::default()));
        let mut collection = collection(&job, &store);
        let labelling = collection.labelling.clone();
        let number = |n: u64| {
            let labels = labelling
                .of_text(format!("s{{n=\"{n}\"}}").as_bytes(), MetricKind::Gauge)
                .expect("sound")
                .expect("kept");
            store.series_id(&labels).expect("room")
        };
        let mut state = 1u64;
        let mut chance = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut before: Vec<SeriesId> = Vec::new();
        for round in 0..60 {
            let (start, length) = (chance(1500), [900, 100, 700, 900, 0][chance(5) as usize]);
            let mut shown: Vec<u64> = (start..start + length).collect();
            match chance(4) {
                0 => shown.reverse(),
                1 if length > 0 => shown.rotate_left(chance(length) as usize),
                _ => {}
            }
            let kind = ["", "# TYPE s gauge\n", "# TYPE s counter\n"][chance(9) as usize / 4];
            let page: String = std::iter::once(kind.to_owned())
                .chain(shown.iter().map(|n| format!("s{{n=\"{n}\"}} {n}\n")))
                .collect();
            let often = collection.is_often();
            let hits = emptied(std::mem::take(&mut collection.room));
            let Source::Http(_, cache) = &mut collection.source else {
                panic!("an endpoint")
            };
            let reader = Reader {
                cache,
                labelling: &labelling,
                often,
                hits,
            };
            let page = if often {
                reader.whole(Bytes::from(page), Encoding::Text(Format::Text))
            } else {
                let mut parts = reader.parts(Format::Text);
                page.as_bytes()
                    .chunks(1000)
                    .for_each(|part| parts.take(part));
                Ok(parts.finish())
            };
            let mut outcome = collection.take_page(page, Timestamp(round));
            assert_eq!(outcome.error, "");
            let (mut gone, samples): (Vec<_>, Vec<_>) = outcome
                .samples
                .iter()
                .partition(|(_, value)| is_stale(*value));
            let want: Vec<(SeriesId, f64)> =
                shown.iter().map(|n| (number(*n), *n as f64)).collect();
            assert_eq!(samples, want, "{interval}, page {round}");
            before.retain(|id| !want.iter().any(|(shown, _)| shown == id));
            before.sort_unstable();
            gone.sort_unstable_by_key(|(id, _)| *id);
            assert_eq!(
                gone.into_iter().map(|(id, _)| id).collect::<Vec<_>>(),
                before,
                "{interval}, page {round}"
            );
            before = want.into_iter().map(|(id, _)| id).collect();
            if chance(6) == 0 {
                collection.forget(&before[..before.len() / 3]);
                // A series that is forgotten is asked for again, and gets no marker meanwhile.
                before.drain(..before.len() / 3);
            }
            collection.room = std::mem::take(&mut outcome.samples);
        }
    }
}
