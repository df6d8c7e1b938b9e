//! The `supervisor` collector against a real supervisord, over its socket and its port, and against
//! servers that fail in every way.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nightbell::collectors::Collector;
use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, value};
use crate::servers::hostile::{Hostile, Manner};
use crate::servers::http::HttpServer;
use crate::servers::{Server, free_port, python_tool};

/// A supervisord with programs of every state, for the user `watch`.
pub struct Supervisord {
    folder: tempfile::TempDir,
    pub port: u16,
    server: Server,
}

impl Supervisord {
    pub fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let at = folder.path().display();
        let config = format!(
            "[unix_http_server]\nfile={at}/s.sock\nusername=watch\npassword=s3cret\n\
             [inet_http_server]\nport=127.0.0.1:{port}\nusername=watch\npassword=s3cret\n\
             [supervisord]\nnodaemon=true\nlogfile={at}/log\npidfile={at}/pid\nchildlogdir={at}\n\
             [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
             [program:web]\ncommand=/usr/bin/setpriv --pdeathsig KILL /bin/sleep 3600\nnumprocs=2\nprocess_name=web_%(process_num)d\n\
             [program:once]\ncommand=/bin/sh -c 'exit 3'\nstartsecs=0\nautorestart=false\n\
             [program:broken]\ncommand=/bin/false\nstartsecs=3600\nstartretries=0\n\
             [program:off]\ncommand=/usr/bin/setpriv --pdeathsig KILL /bin/sleep 3600\nautostart=false\n"
        );
        fs::write(folder.path().join("c.conf"), config).expect("written");
        let child = Command::new(python_tool("supervisord"))
            .arg("-c")
            .arg(folder.path().join("c.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("supervisord starts");
        Supervisord {
            folder,
            port,
            server: Server(child),
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }

    fn yaml(&self, password: &str) -> String {
        format!(
            "socket: {}\nbasic_auth: {{username: watch, password: {password}}}\n",
            self.socket().display()
        )
    }
}

fn of(batch: &Batch, what: &str, group: &str, name: &str) -> Option<f64> {
    value(
        batch,
        &format!("node_supervisord_{what}"),
        &[("name", name), ("group", group)],
    )
}

/// Collects until this holds of what came.
async fn until(collector: &mut Box<dyn Collector>, holds: impl Fn(&Batch) -> bool) -> Batch {
    let begun = std::time::Instant::now();
    loop {
        let (batch, _) = collect("supervisor", collector).await;
        if holds(&batch) {
            return batch;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{batch:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Why it is not up: the error of the collection and the label.
async fn fails(yaml: &str) -> (String, String) {
    let (batch, result) = collect("supervisor", &mut build("supervisor", yaml)).await;
    assert_eq!(value(&batch, "supervisor_up", &[]), Some(0.0), "{yaml}");
    assert!(!batch.families.contains_key("node_supervisord_state"));
    let info = &batch.families["supervisor_failure_info"].samples[0].labels;
    let error = result.expect_err("it fails").to_string();
    assert!(!format!("{error}{info}").contains("s3cret"));
    (info.value("reason").to_owned(), error)
}

/// Programs that run, ended, cannot be started and are off, by socket and by port; wrong credentials;
/// Supervisor that goes away and comes back.
#[tokio::test]
async fn programs_of_a_real_supervisor_are_shown_by_state() {
    let mut real = Supervisord::start();
    let mut collector = build("supervisor", &real.yaml("s3cret"));
    let settled = |batch: &Batch| {
        of(batch, "state", "web", "web_1") == Some(20.0)
            && of(batch, "state", "once", "once") == Some(100.0)
            && of(batch, "state", "broken", "broken") == Some(200.0)
    };
    let batch = until(&mut collector, settled).await;
    let line = |group: &str, name: &str| {
        ["up", "state", "exit_status"].map(|what| of(&batch, what, group, name).expect("there"))
    };
    assert_eq!(line("web", "web_0"), [1.0, 20.0, 0.0]);
    assert_eq!(line("once", "once"), [0.0, 100.0, 3.0]);
    assert_eq!(line("broken", "broken")[..2], [0.0, 200.0]);
    assert_eq!(line("off", "off"), [0.0, 0.0, 0.0]);
    let started = of(&batch, "start_time_seconds", "web", "web_0").expect("it runs");
    let uptime = of(&batch, "uptime", "web", "web_0").expect("it runs");
    let now = nightbell::model::Timestamp::now().seconds();
    assert!(
        (now - started - uptime).abs() < 90.0 && uptime < 600.0,
        "{started} {uptime}"
    );
    assert_eq!(of(&batch, "start_time_seconds", "off", "off"), None);
    assert_eq!(
        [
            "supervisor_up",
            "supervisor_programs",
            "supervisor_omitted_programs"
        ]
        .map(|name| value(&batch, name, &[])),
        [Some(1.0), Some(5.0), Some(0.0)]
    );
    let port = format!("url: 'http://127.0.0.1:{}/RPC2'\nbasic_auth: ", real.port);
    let right = format!("{port}{{username: watch, password: s3cret}}\n");
    let by_port = until(&mut build("supervisor", &right), settled).await;
    assert_eq!(of(&by_port, "state", "off", "off"), Some(0.0));

    assert_eq!(fails(&real.yaml("wrong")).await.0, "refused");
    let wrong = format!("{port}{{username: watch, password: wrong}}\n");
    assert_eq!(fails(&wrong).await.0, "refused");
    let nobody = format!("socket: {}\n", real.socket().display());
    assert_eq!(fails(&nobody).await.0, "refused");

    real.server.0.kill().expect("killed");
    real.server.0.wait().expect("ended");
    let gone = until(&mut collector, |batch| {
        value(batch, "supervisor_up", &[]) == Some(0.0)
    });
    assert!(!gone.await.families.contains_key("node_supervisord_state"));
}

/// A server that refuses, hangs, breaks off, sends garbage or without end fails by itself.
#[tokio::test]
async fn what_is_no_supervisor_is_named_and_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("hangs.sock");
    let _hangs = UnixListener::bind(&socket).expect("bound");
    let (reason, error) = fails(&format!("socket: {}\n", socket.display())).await;
    assert_eq!(reason, "timeout", "{error}");
    let (reason, error) = fails("socket: /nonexistent/s.sock\n").await;
    assert_eq!(reason, "connect", "{error}");
    let closed = format!("url: 'http://127.0.0.1:{}/RPC2'\n", free_port());
    assert_eq!(fails(&closed).await.0, "connect");
    for (manner, wanted) in [
        (Manner::Silent, "timeout"),
        (Manner::SlowHead, "timeout"),
        (Manner::Stalls, "timeout"),
        (Manner::Truncated, "protocol"),
    ] {
        let hostile = Hostile::start(manner);
        let (reason, error) = fails(&format!("url: 'http://{}/RPC2'\n", hostile.address)).await;
        assert_eq!(reason, wanted, "{error}");
    }
    let endless = Hostile::start(Manner::Endless);
    let (reason, error) = fails(&format!("url: 'http://{}/RPC2'\n", endless.address)).await;
    assert!(
        ["too_large", "timeout"].contains(&reason.as_str()),
        "{reason} {error}"
    );
    let fault = "<methodResponse><fault><value><struct><member><name>faultString</name><value><string>UNKNOWN_METHOD</string></value></member></struct></value></fault></methodResponse>";
    for (status, body, wanted) in [
        ("200 OK", "{}", "answer"),
        ("200 OK", fault, "answer"),
        ("500 Internal Server Error", "", "status"),
        ("401 Unauthorized", "", "refused"),
    ] {
        let server = HttpServer::answering(move |_| (status, body.to_owned()));
        let (reason, error) =
            fails(&format!("url: 'http://127.0.0.1:{}/RPC2'\n", server.port)).await;
        assert_eq!(reason, wanted, "{error}");
    }
    // Of very many programs the first 500 are shown.
    let one = "<value><struct><member><name>name</name><value>p@</value></member><member><name>group</name><value>g</value></member><member><name>state</name><value><int>20</int></value></member><member><name>start</name><value><int>1</int></value></member><member><name>exitstatus</name><value><int>0</int></value></member></struct></value>";
    let all: String = (0..3000)
        .map(|i| one.replace('@', &i.to_string()))
        .collect();
    let answer = format!(
        "<methodResponse><params><param><value><array><data>{all}</data></array></value></param></params></methodResponse>"
    );
    let many = HttpServer::answering(move |_| ("200 OK", answer.clone()));
    let yaml = format!("url: 'http://127.0.0.1:{}/RPC2'\n", many.port);
    let (batch, result) = collect("supervisor", &mut build("supervisor", &yaml)).await;
    result.expect("read");
    assert_eq!(batch.families["node_supervisord_state"].samples.len(), 500);
    assert_eq!(
        value(&batch, "supervisor_omitted_programs", &[]),
        Some(2500.0)
    );
}

#[test]
fn mistakes_of_a_supervisor_are_named() {
    let both = "socket: /s\nurl: 'http://127.0.0.1:9001/RPC2'\n";
    let errors = try_build("supervisor", both)
        .err()
        .expect("a mistake")
        .to_string();
    assert!(errors.contains("keep one of the two"), "{errors}");
}
