//! Clients that send too much, too slowly or never, and do not read.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::{collecting, connected, is_collecting, megabytes, wait_for};
use crate::servers::nightbell::Nightbell;

/// Connections from this address that have sent the beginning of a request.
fn slow_heads(nightbell: &Nightbell, from: &str, count: usize) -> Vec<TcpStream> {
    let mut streams: Vec<TcpStream> = (0..count)
        .map(|_| connected(from, nightbell.port))
        .collect();
    // Those that were sent away meanwhile do not take it any more.
    streams
        .iter_mut()
        .for_each(|stream| drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: ")));
    streams
}

const ALERT: &str = r#"[{"labels":{"alertname":"Critical","severity":"critical"}}]"#;

fn post_alert(nightbell: &Nightbell) -> u16 {
    let head = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        ALERT.len()
    );
    nightbell
        .request_with("POST", "/api/v2/alerts", &head, ALERT)
        .0
}

#[test]
fn slow_heads_of_one_address_leave_room_for_all_others() {
    let nightbell = collecting(1, "memory: 64MB");
    let _strangers = slow_heads(&nightbell, "127.0.0.2", 300);
    let _own = slow_heads(&nightbell, "127.0.0.1", 400);
    for _ in 0..3 {
        assert_eq!(nightbell.get("/-/healthy").0, 200);
        assert_eq!(post_alert(&nightbell), 200);
    }
    is_collecting(&nightbell);
    let lines = nightbell
        .log()
        .lines()
        .filter(|line| line.contains("Connections of the web server are taken"))
        .count();
    assert!((1..=3).contains(&lines), "{lines} lines");
}

#[test]
fn slow_bodies_take_a_bounded_memory_and_small_requests_pass() {
    let nightbell = collecting(1, "memory: 32MB");
    let piece = vec![b'a'; 3 << 20];
    let head = format!(
        "POST /api/v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\nquery=",
        4 << 20
    );
    let slow: Vec<TcpStream> = (0..60)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", nightbell.port)).expect("connected");
            stream
                .set_write_timeout(Some(Duration::from_secs(20)))
                .expect("a timeout");
            // Beyond the budget it is refused before it has been read.
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&piece));
            stream
        })
        .collect();
    assert_eq!(
        post_alert(&nightbell),
        200,
        "a small request is taken whatever the others hold"
    );
    assert_eq!(nightbell.get("/api/v1/query?query=1").0, 200);
    wait_for(
        &nightbell,
        "nightbell_memory_refused_total",
        "bodies",
        |count| count > 0.0,
    );
    assert!(
        megabytes(&nightbell, "VmHWM") < 250,
        "{} MB",
        megabytes(&nightbell, "VmHWM")
    );
    let mut first = slow.into_iter().next().expect("one");
    first
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    let mut answer = [0; 12];
    first
        .read_exact(&mut answer)
        .expect("it is answered in the end");
    assert!(
        answer.starts_with(b"HTTP/1.1 408") || answer.starts_with(b"HTTP/1.1 503"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[test]
fn long_heads_take_a_bounded_memory() {
    let nightbell = collecting(1, "memory: 32MB");
    let long = format!("GET /?{} ", "a".repeat(900_000));
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(("127.0.0.1", nightbell.port)).expect("connected");
        stream
            .set_write_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        let _ = stream.write_all(long.as_bytes());
        streams.push(stream);
    }
    assert_eq!(nightbell.get("/-/healthy").0, 200);
    assert!(
        megabytes(&nightbell, "VmHWM") < 200,
        "{} MB",
        megabytes(&nightbell, "VmHWM")
    );
    drop(streams);
    wait_for(
        &nightbell,
        "nightbell_memory_reserved_bytes",
        "bodies",
        |bytes| bytes == 0.0,
    );
}

#[test]
fn urls_and_forms_are_taken_as_go_takes_them() {
    let nightbell = collecting(3, "memory: 128MB");
    let answer = nightbell.json("/api/v1/series?match[]={__name__=\"m\",i!=\"é\"}");
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(3), "{answer}");
    let (status, body) = nightbell.get("/api/v1/query?query=1 + 1");
    assert!(status == 400 && !body.is_empty(), "{status} {body:?}");
    let long = format!("/api/v1/query?query={}1", "1%2B".repeat(80_000));
    assert!(long.len() > 300_000);
    let (status, body) = nightbell.get(&long);
    assert!(
        status == 400 && body.contains("levels high"),
        "the expression is read, and too deep: {status} {body}"
    );
    let (status, body) = nightbell.get(&format!(
        "/api/v1/query?query=1&unused={}",
        "x".repeat(900_000)
    ));
    assert_eq!((status, body.contains("\"1\"")), (200, true), "{body}");
    let form = format!("query=1&unused={}", "x".repeat(6 << 20));
    let head = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
        form.len()
    );
    assert_eq!(
        nightbell
            .request_with("POST", "/api/v1/query", &head, &form)
            .0,
        200
    );
}
