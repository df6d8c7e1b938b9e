//! Containers: by Docker's or Podman's socket, which is asked for the list alone, else by the
//! control groups.

use serde_json::Value;

use super::asking::get_by_socket;
use super::found::Found;
use super::processes::Process;
use super::root::Root;

/// Containers that are named.
const NAMED: usize = 20;

/// Whether containers run here, and which.
pub fn find<'a>(
    root: &Root,
    mut processes: impl Iterator<Item = &'a Process>,
    asks: bool,
) -> Option<Found> {
    let sockets = [
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run/podman/podman.sock",
    ];
    let socket = sockets.into_iter().find(|path| root.has(path));
    let list = socket
        .filter(|_| asks)
        .and_then(|path| get_by_socket(&root.at(path), "/containers/json"));
    let names = list.as_deref().map(names).unwrap_or_default();
    let has_contained = processes.any(|process| process.is_contained);
    let why = match (socket, has_contained) {
        (Some(path), _) if !names.is_empty() => format!("{path} lists {}", names.join(", ")),
        (_, true) => "processes run in control groups of containers".to_owned(),
        (Some(path), false) => format!("{path} is there"),
        (None, false) => return None,
    };
    let note =
        socket.map(|path| format!("socket: {path} adds names, health and restarts; who may read it may do everything with the engine."));
    let notes: Vec<&str> = note.as_deref().into_iter().collect();
    Some(Found::collector(
        "containers",
        &why,
        "container",
        "container",
        Vec::new(),
        &notes,
    ))
}

/// Names and images, as `GET /containers/json` has them.
fn names(list: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    let named = list.as_array().into_iter().flatten().filter_map(|one| {
        let name = one["Names"][0].as_str()?.trim_start_matches('/');
        Some(format!("{name} ({})", one["Image"].as_str().unwrap_or("?")))
    });
    named.take(NAMED).collect()
}
