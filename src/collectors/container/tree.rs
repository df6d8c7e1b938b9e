//! Finds the cgroups of containers by their paths: scopes and folders of Docker, Podman, containerd
//! and CRI-O.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How deep containers lie at most, and folders that are looked into.
const MAX_DEPTH: usize = 10;
const MAX_FOLDERS: usize = 20_000;

/// Which version of cgroups there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A folder for each controller.
    One,
    /// One folder for all: <https://docs.kernel.org/admin-guide/cgroup-v2.html>.
    Two,
}

/// A container's cgroup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The container's id.
    pub id: String,
    /// Its path below the root, or below each controller: `/docker/<id>`.
    pub path: String,
}

/// The version, and the folder whose tree is walked.
pub fn hierarchy(root: &Path) -> io::Result<(Version, PathBuf)> {
    if root.join("cgroup.controllers").exists() {
        return Ok((Version::Two, root.to_owned()));
    }
    let known = ["memory", "cpu,cpuacct", "cpuacct", "cpu", "pids"]
        .into_iter()
        .map(|name| root.join(name))
        .find(|path| path.is_dir());
    let none = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{}: there are no cgroups", root.display()),
        )
    };
    known.map(|path| (Version::One, path)).ok_or_else(none)
}

/// All containers below a folder. A folder that vanishes meanwhile, or may not be read, holds none.
pub fn containers(base: &Path) -> io::Result<Vec<Found>> {
    let (mut found, mut looked) = (Vec::new(), 0);
    let mut open = vec![(base.to_owned(), String::new(), 0)];
    while let Some((folder, path, depth)) = open.pop() {
        looked += 1;
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("{}: {error}", folder.display()),
                ));
            }
            Err(_) => continue,
        };
        for entry in entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let below = format!("{path}/{name}");
            match id_of(&path, &name) {
                Some(id) => found.push(Found {
                    id: id.to_owned(),
                    path: below,
                }),
                None if depth < MAX_DEPTH && looked + open.len() < MAX_FOLDERS => {
                    open.push((entry.path(), below, depth + 1))
                }
                None => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The id of a container whose cgroup has this name in this folder.
fn id_of<'n>(folder: &str, name: &'n str) -> Option<&'n str> {
    const SCOPES: [&str; 5] = ["docker-", "libpod-", "cri-containerd-", "crio-", "nerdctl-"];
    let plain = name.strip_suffix(".scope").unwrap_or(name);
    let scoped = SCOPES
        .iter()
        .find_map(|scope| plain.strip_prefix(scope))
        .filter(|id| is_id(id));
    let is_home = || {
        ["docker", "libpod_parent", "default", "k8s.io"]
            .iter()
            .any(|home| folder.rsplit('/').next() == Some(home))
    };
    scoped.or_else(|| (is_id(plain) && (is_home() || folder.contains("kubepods"))).then_some(plain))
}

fn is_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_known_by_their_paths() {
        let id = "0123456789abcdef".repeat(4);
        for (folder, name) in [
            ("/system.slice", format!("docker-{id}.scope")),
            ("/docker", id.clone()),
            ("/machine.slice", format!("libpod-{id}.scope")),
            ("/libpod_parent", format!("libpod-{id}")),
            (
                "/kubepods.slice/kubepods-pod1.slice",
                format!("cri-containerd-{id}.scope"),
            ),
            ("/kubepods/burstable/pod1", id.clone()),
        ] {
            assert_eq!(id_of(folder, &name), Some(id.as_str()), "{folder}/{name}");
        }
        for (folder, name) in [
            ("/machine.slice", format!("libpod-conmon-{id}.scope")),
            ("/system.slice", "docker.service".to_owned()),
            ("/system.slice", id.clone()),
            ("/docker", "0123".to_owned()),
            ("/docker", id.to_uppercase()),
            ("/docker", "buildkit".to_owned()),
        ] {
            assert_eq!(id_of(folder, &name), None, "{folder}/{name}");
        }
    }
}
