//! The keys of the collector.

use std::path::PathBuf;

use crate::config::Section;

/// Containers that are shown unless the configuration says otherwise, and at most.
const LIMIT: usize = 200;
const MOST: usize = 2000;

/// Which containers are measured, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where cgroups are.
    pub root: PathBuf,
    /// Where processes are.
    pub procfs: PathBuf,
    /// The socket of Docker or Podman.
    pub socket: Option<PathBuf>,
    /// Names that are shown, `*` for any characters; all when empty.
    pub names: Vec<String>,
    /// Compose projects that are shown; all when empty.
    pub projects: Vec<String>,
    /// How many containers are shown.
    pub limit: usize,
}

impl Settings {
    /// Reads the section and records its mistakes.
    pub fn read(section: &Section<'_>) -> Self {
        let settings = Settings {
            root: section.or("root", PathBuf::from("/sys/fs/cgroup")),
            procfs: section.or("procfs", PathBuf::from("/proc")),
            socket: section.get("socket"),
            names: section.or("names", Vec::new()),
            projects: section
                .get::<String>("compose_project")
                .into_iter()
                .collect(),
            limit: section.or("limit", LIMIT),
        };
        for (key, is_set) in [
            ("names", !settings.names.is_empty()),
            ("compose_project", !settings.projects.is_empty()),
        ] {
            if is_set && settings.socket.is_none() {
                section.error(
                    key,
                    "needs the names that only the engine knows",
                    "add socket: /run/docker.sock",
                );
            }
        }
        if settings.limit == 0 || settings.limit > MOST {
            section.error(
                "limit",
                "is no number of containers that can be shown",
                format!("give 1 to {MOST}"),
            );
        }
        settings
    }

    /// Whether a container is shown.
    pub fn shows(&self, name: &str, project: &str) -> bool {
        let is_named =
            self.names.is_empty() || self.names.iter().any(|pattern| fits(pattern, name));
        is_named
            && (self.projects.is_empty() || self.projects.iter().any(|wanted| wanted == project))
    }
}

/// Whether a name fits a pattern with `*`.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = name.find(part) else {
            return false;
        };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in [
            ("a", "a"),
            ("*", ""),
            ("a*", "ab"),
            ("*b", "ab"),
            ("a*c*e", "abcde"),
            ("a*a", "aa"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a", "ab"),
            ("a*", "ba"),
            ("*b", "ba"),
            ("a*a", "a"),
            ("a*c*e", "aec"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
