//! What containers' runtimes put around each line: Docker's json-file
//! (<https://docs.docker.com/engine/logging/drivers/json-file/>) and the format of Kubernetes'
//! runtimes, Podman's k8s-file too (CRI); and where Docker keeps the log of a container by name.

use std::fs;
use std::path::{Path, PathBuf};

use memchr::memchr;
use serde_json::Value;

use super::json::{Paths, unescaped};

/// Containers that are looked at, and the size of what is read of one, in bytes.
const MAX_CONTAINERS: usize = 500;
const MAX_CONFIG: u64 = 1 << 20;

/// What is around a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// `{"log":"line\n","stream":"stdout","time":"…"}`.
    Docker,
    /// `2026-11-30T12:00:00.0Z stdout F line`; `P` is a part of a line.
    Cri,
}

impl Envelope {
    /// The lines without what is around them. What has no envelope stays as it is.
    pub fn open(self, lines: &[u8], out: &mut Vec<u8>) {
        let mut paths = Paths::default();
        // There is room for one.
        let _ = paths.add("log");
        let mut rest = lines;
        while let Some(end) = memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            match self {
                Envelope::Docker => {
                    let mut found = [None];
                    paths.find(line, &mut found);
                    match found[0] {
                        // A part of a line has no line feed; what follows goes on with it.
                        Some(raw) => out.extend_from_slice(unescaped(raw).as_bytes()),
                        None => out.extend_from_slice(&rest_of(line)),
                    }
                }
                Envelope::Cri => {
                    let mut words = line.splitn(4, |b| *b == b' ');
                    match (words.next(), words.next(), words.next(), words.next()) {
                        (Some(_), Some(b"stdout" | b"stderr"), Some(b"P"), Some(text)) => {
                            out.extend_from_slice(text)
                        }
                        (Some(_), Some(b"stdout" | b"stderr"), Some(_), Some(text)) => {
                            out.extend_from_slice(&rest_of(text))
                        }
                        _ => out.extend_from_slice(&rest_of(line)),
                    }
                }
            }
        }
        if out.last().is_some_and(|last| *last != b'\n') {
            out.push(b'\n');
        }
    }
}

fn rest_of(line: &[u8]) -> Vec<u8> {
    [line, b"\n"].concat()
}

/// The logs of the containers that are called so, or are of this Compose service or project.
pub fn docker_logs(root: &Path, name: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut found = Vec::new();
    for folder in entries
        .flatten()
        .take(MAX_CONTAINERS)
        .map(|entry| entry.path())
    {
        let config = folder.join("config.v2.json");
        if config.metadata().is_ok_and(|meta| meta.len() > MAX_CONFIG) {
            continue;
        }
        let Some(config) = fs::read(&config)
            .ok()
            .and_then(|text| serde_json::from_slice::<Value>(&text).ok())
        else {
            continue;
        };
        let labels = &config["Config"]["Labels"];
        let is_named = config["Name"]
            .as_str()
            .is_some_and(|own| own.trim_start_matches('/') == name);
        let compose = ["com.docker.compose.service", "com.docker.compose.project"];
        if is_named
            || compose
                .iter()
                .any(|label| labels[*label].as_str() == Some(name))
        {
            let id = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            found.push(folder.join(format!("{id}-json.log")));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_of_their_envelopes_whole() {
        let mut out = Vec::new();
        let docker = br#"{"log":"ERROR a \"b\"\n","stream":"stderr","time":"x"}
{"log":"part ","stream":"stdout","time":"x"}
{"log":"of a line\n","stream":"stdout","time":"x"}
plain
"#;
        Envelope::Docker.open(docker, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "ERROR a \"b\"\npart of a line\nplain\n"
        );
        out.clear();
        Envelope::Cri.open(
            b"2026-11-30T12:00:00.0Z stdout F INFO one\nt stderr P half \nt stderr F line\nplain\n",
            &mut out,
        );
        assert_eq!(
            String::from_utf8_lossy(&out),
            "INFO one\nhalf line\nplain\n"
        );
    }
}
