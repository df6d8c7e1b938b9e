//! What the processes that listen are: by the names of their programs, their command lines, their
//! ports, and by what they answer.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::asking::{Pages, pages};
use super::found::{Found, What, label, yaml};
use super::processes::{Listener, Process};

/// Ports that are looked at, at most.
const MAX_PORTS: usize = 100;
/// Ports that are asked at the same time.
const AT_ONCE: usize = 16;

/// Programs that belong to the machine itself, and are in the host's own metrics.
const SYSTEM: [&str; 24] = [
    "sshd",
    "systemd",
    "systemd-resolve",
    "systemd-resolved",
    "init",
    "dnsmasq",
    "chronyd",
    "ntpd",
    "cupsd",
    "rpcbind",
    "rpc.statd",
    "exim4",
    "master",
    "dockerd",
    "containerd",
    "avahi-daemon",
    "dhclient",
    "nightbell",
    "Xorg",
    "sshd-session",
    "named",
    "postgres_expor",
    "tailscaled",
    "vector",
];

/// What a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Postgres,
    Pgbouncer,
    Redis,
    Mysql,
    Chroma,
    Web,
    System,
    /// An application, or something that is not known.
    Other,
}

/// By the name of the program, or by the port where a container's proxy hides it.
fn service(process: Option<&Process>, port: u16) -> (Service, &'static str) {
    let by_port = match port {
        5432 => Service::Postgres,
        6379 => Service::Redis,
        3306 => Service::Mysql,
        22 | 25 | 53 | 111 | 631 => Service::System,
        _ => Service::Other,
    };
    let Some(process) = process.filter(|process| {
        ![
            "docker-proxy",
            "rootlessport",
            "conmon",
            "pasta",
            "slirp4netns",
        ]
        .contains(&process.comm.as_str())
    }) else {
        return (
            by_port,
            if by_port == Service::Other {
                "what it is is not known"
            } else {
                "the usual port of that"
            },
        );
    };
    let line = process.line();
    let by_name = match process.comm.as_str() {
        "postgres" | "postmaster" => Service::Postgres,
        "pgbouncer" => Service::Pgbouncer,
        "redis-server" | "valkey-server" | "keydb-server" | "redis-sentinel" => Service::Redis,
        "mysqld" | "mariadbd" => Service::Mysql,
        "nginx" | "apache2" | "httpd" | "caddy" | "traefik" | "haproxy" => Service::Web,
        comm if SYSTEM.contains(&comm) => Service::System,
        _ if line.contains("chroma run") || line.contains("chromadb.app") => Service::Chroma,
        _ => Service::Other,
    };
    (
        by_name,
        if by_name == Service::Other {
            "no program that is known by name"
        } else {
            "the name of its program"
        },
    )
}

/// What listens. `covered` are ports that variables of an `.env` file lead to; `asks`: whether
/// unknown ones are asked by HTTP.
pub fn find(
    processes: &HashMap<u32, Process>,
    listeners: &[Listener],
    covered: &HashSet<u16>,
    asks: bool,
) -> Vec<Found> {
    let mut found = Vec::new();
    let listeners = &listeners[..listeners.len().min(MAX_PORTS)];
    let of = |listener: &Listener| {
        service(
            listener.pid.and_then(|pid| processes.get(&pid)),
            listener.port,
        )
        .0
    };
    let asked = listeners.iter().filter(|one| {
        asks && !covered.contains(&one.port) && matches!(of(one), Service::Other | Service::Web)
    });
    let answers = answers(asked.map(|one| (one.address, one.port)).collect());
    for listener in listeners {
        let process = listener.pid.and_then(|pid| processes.get(&pid));
        let (service, by) = service(process, listener.port);
        let whose = process.map_or_else(
            || "a process that cannot be seen from here".to_owned(),
            |process| {
                format!(
                    "process {} ({})",
                    process.pid,
                    if process.comm.is_empty() {
                        "?"
                    } else {
                        &process.comm
                    }
                )
            },
        );
        let why = format!("{whose} listens on port {}; {by}", listener.port);
        if covered.contains(&listener.port) {
            continue;
        }
        found.extend(entries(
            listener,
            process,
            service,
            &why,
            answers.get(&listener.port),
        ));
    }
    found
}

/// What the HTTP services among them have, by port. A few are asked at a time: those that say
/// nothing are waited for.
fn answers(ports: Vec<(IpAddr, u16)>) -> HashMap<u16, Pages> {
    let mut found = HashMap::new();
    for some in ports.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let asking: Vec<_> = some
                .iter()
                .map(|(address, port)| (*port, scope.spawn(|| pages(*address, *port))))
                .collect();
            found.extend(
                asking
                    .into_iter()
                    .filter_map(|(port, answer)| Some((port, answer.join().ok().flatten()?))),
            );
        });
    }
    found
}

fn host(address: IpAddr) -> String {
    if address.is_ipv6() {
        format!("[{address}]")
    } else {
        address.to_string()
    }
}

fn entries(
    listener: &Listener,
    process: Option<&Process>,
    service: Service,
    why: &str,
    pages: Option<&Pages>,
) -> Vec<Found> {
    let Listener { address, port, .. } = *listener;
    let place = format!("{}:{port}", host(address));
    let text = |text: String| yaml(&text).unwrap_or_default();
    let name = |kind: &str| format!("{kind}-{port}");
    match service {
        Service::Postgres => vec![Found::collector(
            &format!("PostgreSQL on {place}"),
            why,
            "postgres",
            &name("postgres"),
            vec![(
                "dsn",
                text(format!("postgres://nightbell@{place}/postgres")),
            )],
            &[
                "Needs: CREATE ROLE nightbell LOGIN PASSWORD '…'; GRANT pg_monitor TO nightbell;",
                "With a password, put the whole URL into a file of nightbell's own (0600), and write dsn_file: PATH instead of dsn.",
            ],
        )],
        Service::Redis => vec![Found::collector(
            &format!("Redis on {place}"),
            why,
            "redis",
            &name("redis"),
            vec![("url", text(format!("redis://{place}")))],
            &["With a password: password_file: PATH."],
        )],
        Service::Mysql => vec![Found::collector(
            &format!("MySQL or MariaDB on {place}"),
            why,
            "mysql",
            &name("mysql"),
            vec![("dsn", text(format!("mysql://nightbell@{place}/")))],
            &["Needs: CREATE USER nightbell; with a password, dsn_file: PATH instead of dsn."],
        )],
        Service::Chroma => vec![chroma(&place, why, port)],
        Service::Pgbouncer => vec![tcp(
            &format!("PgBouncer on {place}"),
            why,
            &name("pgbouncer"),
            &place,
        )],
        Service::Web => match pages {
            Some(Pages {
                health: Some(_), ..
            }) => {
                vec![probe(
                    &format!("web server on {place}"),
                    why,
                    &name("web"),
                    &format!("http://{place}/"),
                )]
            }
            // TLS, or a page that needs a login: that it takes connections is what is known.
            _ => vec![tcp(
                &format!("web server on {place}"),
                why,
                &name("web"),
                &place,
            )],
        },
        Service::System => Vec::new(),
        Service::Other => other(listener, process, &place, why, pages),
    }
}

fn chroma(place: &str, why: &str, port: u16) -> Found {
    let url = yaml(&format!("http://{place}")).unwrap_or_default();
    Found::collector(
        &format!("Chroma on {place}"),
        why,
        "vector_store",
        &format!("chroma-{port}"),
        vec![("url", url)],
        &[],
    )
}

fn probe(title: &str, why: &str, name: &str, url: &str) -> Found {
    Found::collector(
        title,
        why,
        "probe",
        name,
        vec![("url", yaml(url).unwrap_or_default())],
        &[],
    )
}

fn tcp(title: &str, why: &str, name: &str, place: &str) -> Found {
    probe(title, why, name, &format!("tcp://{place}"))
}

/// An application: its metrics, its health page, its process.
fn other(
    listener: &Listener,
    process: Option<&Process>,
    place: &str,
    why: &str,
    pages: Option<&Pages>,
) -> Vec<Found> {
    let port = listener.port;
    let name = process.map_or_else(
        || format!("port-{port}"),
        |process| format!("{}-{port}", label(&called(process))),
    );
    let mut found = Vec::new();
    if pages.is_some_and(|pages| pages.is_chroma) {
        return vec![chroma(
            place,
            &format!("{why}; it answers as Chroma does"),
            port,
        )];
    }
    if pages.is_some_and(|pages| pages.has_metrics) {
        let why = format!("{why}; /metrics answers in Prometheus's format");
        found.push(Found::new(
            format!("metrics of {name}"),
            why,
            What::Scrape {
                name: name.clone(),
                address: place.to_owned(),
            },
        ));
    }
    if let Some(path) = pages.and_then(|pages| pages.health) {
        let why = format!("{why}; GET {path} succeeds");
        found.push(probe(
            &format!("HTTP service {name}"),
            &why,
            &name,
            &format!("http://{place}{path}"),
        ));
    }
    // An exporter is watched by being scraped.
    let is_exporter = process.is_some_and(|process| process.comm.contains("export"));
    match process {
        Some(process) if !process.is_contained && !is_exporter && !process.words.is_empty() => {
            let cmdline = pattern(process);
            let why = format!("{why}; its command line is the group's pattern");
            found.push(Found::new(
                format!("process group {name}"),
                why,
                What::Process {
                    name,
                    cmdline,
                    port,
                },
            ));
        }
        _ if found.is_empty() => found.push(tcp(&format!("service on {place}"), why, &name, place)),
        _ => {}
    }
    found
}

/// Words of a command line that say what runs rather than who runs it.
const RUNNERS: [&str; 12] = [
    "python",
    "python3",
    "node",
    "java",
    "ruby",
    "php",
    "sh",
    "bash",
    "uvicorn",
    "gunicorn",
    "hypercorn",
    "npm",
];

/// What an application is called: the first word that is neither an interpreter nor an option.
fn called(process: &Process) -> String {
    let base = |word: &String| word.rsplit('/').next().unwrap_or(word).to_owned();
    let is_runner = |word: &String| {
        let name = base(word);
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        RUNNERS.contains(&name)
    };
    let is_name = |word: &String| {
        word.len() <= 100
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._/:-".contains(c))
    };
    let named = process
        .words
        .iter()
        .find(|word| !word.starts_with('-') && is_name(word) && !is_runner(word));
    let name = named.map_or_else(|| process.comm.clone(), base);
    name.split(':')
        .next()
        .unwrap_or(&name)
        .trim_end_matches(".py")
        .to_owned()
}

/// A regular expression for the command line: program and application, without options, which may
/// hold secrets and change.
fn pattern(process: &Process) -> String {
    let named = called(process);
    let program = process
        .words
        .first()
        .map(|word| word.rsplit('/').next().unwrap_or(word))
        .unwrap_or(&process.comm);
    if program.contains(&named) || named.is_empty() {
        regex::escape(program)
    } else {
        format!("{}.*{}", regex::escape(program), regex::escape(&named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_called_by_what_it_is_not_by_its_interpreter_or_options() {
        for (line, name, expression) in [
            (
                "/usr/bin/python3.11 -m uvicorn main:app --port 8000",
                "main",
                r"python3\.11.*main",
            ),
            (
                "node /srv/shop/server.js --token=secret",
                "server.js",
                r"node.*server\.js",
            ),
            ("/srv/bin/api --password hunter2", "api", "api"),
            ("python3 manage.py runserver", "manage", "python3.*manage"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let process = Process {
                comm: "x".into(),
                words,
                ..Process::default()
            };
            assert_eq!(
                (called(&process).as_str(), pattern(&process).as_str()),
                (name, expression),
                "{line}"
            );
            let regex = regex::Regex::new(&pattern(&process)).expect("a pattern");
            assert!(regex.is_match(line));
        }
    }
}
