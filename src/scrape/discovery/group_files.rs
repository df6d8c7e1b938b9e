//! Group files (`file_sd_configs`): read again when their time or size changes; a broken file keeps
//! its last good groups.
//!
//! A file or a folder that hangs in the kernel must hold up nothing but its own targets. So each
//! pattern is looked at by a thread of its own; as long as one hangs, no other is started for it,
//! and the groups that it gave last stand.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use crate::config::{Document, Node, Value, glob};
use crate::model::LabelsBuilder;

use crate::scrape::config::job::{Job, TargetGroup};

/// How long a look waits for all patterns together.
const PATIENCE: Duration = Duration::from_secs(2);
/// Greatest size of a group file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Stack of the thread that reads a file.
const STACK: usize = 1 << 20;

/// The groups of all patterns.
#[derive(Default)]
pub(in crate::scrape) struct GroupFiles {
    patterns: HashMap<PathBuf, Pattern>,
}

/// What is known of the files that match a pattern.
#[derive(Default)]
struct Pattern {
    groups: Vec<TargetGroup>,
    /// Not there while a thread has it.
    files: Option<Files>,
    looking: Option<Receiver<Looked>>,
    /// The last look did not end in time.
    hangs: bool,
}

type Files = HashMap<PathBuf, GroupFile>;

struct GroupFile {
    stamp: (SystemTime, u64),
    groups: Vec<TargetGroup>,
}

/// What a look brought.
struct Looked {
    files: Files,
    groups: Vec<TargetGroup>,
    problems: Vec<String>,
}

impl GroupFiles {
    /// Looks at the files of these patterns and forgets all others. Adds what is wrong with a file
    /// when it is first seen so, and which patterns do not answer.
    pub(in crate::scrape) fn look(
        &mut self,
        patterns: &HashSet<&PathBuf>,
        problems: &mut Vec<String>,
    ) {
        self.patterns.retain(|path, _| patterns.contains(path));
        let deadline = Instant::now() + PATIENCE;
        for path in patterns {
            let pattern = self.patterns.entry((*path).clone()).or_default();
            if pattern.looking.is_none()
                && let Err(error) = pattern.start((*path).clone())
            {
                problems.push(format!(
                    "{}: no thread can be started to read it: {error}",
                    path.display()
                ));
            }
        }
        for (path, pattern) in &mut self.patterns {
            if !pattern.finish(deadline, problems) {
                problems.push(format!(
                    "{}: does not answer; its last targets stay until it does",
                    path.display()
                ));
            }
        }
    }

    /// The groups of the files that match these patterns, as the last look that ended found them.
    pub(in crate::scrape) fn groups(&self, patterns: &[PathBuf]) -> Vec<TargetGroup> {
        patterns
            .iter()
            .filter_map(|path| self.patterns.get(path))
            .flat_map(|pattern| pattern.groups.iter().cloned())
            .collect()
    }
}

impl Pattern {
    fn start(&mut self, path: PathBuf) -> std::io::Result<()> {
        let (sender, receiver) = sync_channel(1);
        let files = self.files.take().unwrap_or_default();
        let look = move || {
            // Nobody receives it any more when the pattern was forgotten.
            let _ = sender.send(look(&path, files));
        };
        std::thread::Builder::new()
            .name("group-files".into())
            .stack_size(STACK)
            .spawn(look)?;
        self.looking = Some(receiver);
        Ok(())
    }

    /// Takes what the look brought, if it ends by the deadline; one that hung before is not waited
    /// for.
    fn finish(&mut self, deadline: Instant, problems: &mut Vec<String>) -> bool {
        let Some(receiver) = &self.looking else {
            return true;
        };
        let wait = if self.hangs {
            Duration::ZERO
        } else {
            deadline.saturating_duration_since(Instant::now())
        };
        let looked = receiver.recv_timeout(wait);
        self.hangs = matches!(looked, Err(RecvTimeoutError::Timeout));
        if self.hangs {
            return false;
        }
        self.looking = None;
        // A thread that panicked sends nothing: the next look begins anew.
        let Ok(looked) = looked else { return false };
        self.groups = looked.groups;
        self.files = Some(looked.files);
        problems.extend(looked.problems);
        true
    }
}

/// Reads what has changed.
fn look(pattern: &Path, mut files: Files) -> Looked {
    let (mut groups, mut problems) = (Vec::new(), Vec::new());
    let paths = glob(pattern).unwrap_or_default();
    files.retain(|path, _| paths.contains(path));
    for path in paths {
        let Ok(meta) = std::fs::metadata(&path) else {
            continue;
        };
        let stamp = (
            meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            meta.len(),
        );
        let file = files.entry(path.clone()).or_insert(GroupFile {
            stamp: (SystemTime::UNIX_EPOCH, u64::MAX),
            groups: Vec::new(),
        });
        if file.stamp != stamp {
            file.stamp = stamp;
            match read_groups(&path, meta.len()) {
                Ok(groups) => file.groups = groups,
                Err(problem) => problems.push(problem),
            }
        }
        groups.extend(file.groups.iter().cloned());
    }
    Looked {
        files,
        groups,
        problems,
    }
}

/// What is wrong with the group files that jobs name, as far as they are there.
pub fn group_file_problems(jobs: &[Job]) -> Vec<String> {
    let mut problems = Vec::new();
    GroupFiles::default().look(
        &jobs.iter().flat_map(|job| &job.files).collect(),
        &mut problems,
    );
    problems
}

/// A file's groups. JSON is read by the YAML parser, of which it is a subset; `${NAME}` has no
/// meaning in it.
fn read_groups(path: &Path, size: u64) -> Result<Vec<TargetGroup>, String> {
    if size > MAX_FILE {
        return Err(format!("{}: larger than {MAX_FILE} bytes", path.display()));
    }
    let document = Document::read(path).map_err(|e| e.to_string())?;
    let fail = |node: &Node, what: &str| format!("{}:{}: {what}", path.display(), node.position);
    let text = |node: &Node| match &node.value {
        Value::Scalar { text, .. } => Ok(text.clone()),
        _ => Err(fail(node, "expected text")),
    };
    let Value::List(items) = &document.root.value else {
        return match &document.root.value {
            Value::Map(entries) if entries.is_empty() => Ok(Vec::new()),
            _ => Err(fail(&document.root, "expected a list of target groups")),
        };
    };
    let group = |item: &Node| {
        let targets = match item.get("targets").map(|n| (n, &n.value)) {
            Some((_, Value::List(targets))) => {
                targets.iter().map(text).collect::<Result<Vec<_>, _>>()?
            }
            Some((node, _)) => return Err(fail(node, "targets: expected a list")),
            None => return Err(fail(item, "targets: missing")),
        };
        let mut labels = LabelsBuilder::new();
        if let Some(Value::Map(entries)) = item.get("labels").map(|n| &n.value) {
            for (name, _, value) in entries {
                labels.set(name, &text(value)?);
            }
        }
        labels.set("__meta_filepath", &path.display().to_string());
        Ok(TargetGroup {
            targets,
            labels: labels.build(),
            source: path.display().to_string(),
        })
    };
    items.iter().map(group).collect()
}
