//! Supervisor: where its socket or its port is, by its configuration file
//! (<https://supervisord.org/configuration.html>).

use std::path::{Path, PathBuf};

use super::found::{Found, yaml};
use super::processes::Process;
use super::root::Root;

/// Where supervisord looks for its configuration by itself, in its order.
const FILES: [&str; 4] = [
    "/etc/supervisord.conf",
    "/etc/supervisor/supervisord.conf",
    "/etc/supervisor.conf",
    "/usr/etc/supervisord.conf",
];
/// So much of a file is read, in bytes.
const MAX_FILE: u64 = 256 << 10;

/// Whether Supervisor runs here and can be asked.
pub fn find<'a>(root: &Root, processes: impl Iterator<Item = &'a Process>) -> Option<Found> {
    let process = processes
        .filter(|process| !process.is_contained)
        .find(|process| {
            let is_it = |word: &String| Path::new(word).ends_with("supervisord");
            process.words.iter().take(2).any(is_it)
        })?;
    let folder = process.folder.clone().unwrap_or_else(|| PathBuf::from("/"));
    let named = option(&process.words).map(|file| folder.join(file));
    let files = named.map_or_else(|| FILES.map(PathBuf::from).to_vec(), |file| vec![file]);
    let (file, text) = files
        .into_iter()
        .find_map(|file| Some((file.clone(), root.text(&file, MAX_FILE)?)))?;
    let here = file
        .parent()
        .unwrap_or(Path::new("/"))
        .display()
        .to_string();
    let (key, place, note) = match (
        value(&text, "unix_http_server", "file"),
        value(&text, "inet_http_server", "port"),
    ) {
        (Some(socket), _) => (
            "socket",
            socket.replace("%(here)s", &here),
            "Needs: chmod=0770 and chown=root:nightbell in [unix_http_server].",
        ),
        (None, Some(port)) => {
            let address = match port.trim_start_matches('*').trim_start_matches(':') {
                number if number.parse::<u16>().is_ok() => format!("127.0.0.1:{number}"),
                address => address.to_owned(),
            };
            (
                "url",
                format!("http://{address}/RPC2"),
                "With a login: basic_auth: {username: NAME, password_file: PATH}.",
            )
        }
        (None, None) => return None,
    };
    Some(Found::collector(
        "Supervisor",
        &format!(
            "process {} (supervisord) runs; {} names its {key}",
            process.pid,
            file.display()
        ),
        "supervisor",
        "supervisor",
        vec![(key, yaml(&place)?)],
        &[note],
    ))
}

/// The file that the command line names.
fn option(words: &[String]) -> Option<&str> {
    for (at, word) in words.iter().enumerate() {
        if word == "-c" || word == "--configuration" {
            return words.get(at + 1).map(String::as_str);
        }
        if let Some(file) = word.strip_prefix("--configuration=") {
            return Some(file);
        }
    }
    None
}

/// The value of a key in a section, without a comment behind it.
fn value<'t>(text: &'t str, section: &str, key: &str) -> Option<&'t str> {
    let mut is_here = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.split(']').next())
        {
            is_here = name.trim() == section;
        } else if is_here
            && let Some((name, value)) = line.split_once(['=', ':'])
            && name.trim() == key
        {
            let value = value.split(" ;").next().unwrap_or_default().trim();
            return Some(value).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_or_the_port_is_read_from_the_file() {
        let text = "; file=/no\n[unix_http_server]\nfile=/run/supervisor.sock   ; the socket\nchmod=0700\n\n[inet_http_server]\n;port=9002\nport = 127.0.0.1:9001\n";
        assert_eq!(
            value(text, "unix_http_server", "file"),
            Some("/run/supervisor.sock")
        );
        assert_eq!(
            value(text, "inet_http_server", "port"),
            Some("127.0.0.1:9001")
        );
        assert_eq!(value(text, "supervisord", "file"), None);
        let words = ["supervisord", "-n", "-c", "/a.conf"].map(str::to_owned);
        assert_eq!(option(&words), Some("/a.conf"));
        assert_eq!(option(&["x".into(), "--configuration=b".into()]), Some("b"));
        assert_eq!(option(&[]), None);
    }
}
