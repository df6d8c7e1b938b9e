//! What a part of the configuration was read from, to read it once more when a file of a secret has
//! changed.

use std::any::Any;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::document::{Document, Node, Value};
use super::environment::Environment;
use super::error::ConfigErrors;
use super::position::Position;
use super::section::{Loader, Section};

/// Tells one content of a file from another: inode, size, time of the last change.
pub type Stamp = Option<(u64, u64, SystemTime)>;

/// What a file is like now; `None` where it cannot be looked at.
pub fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
}

/// A part, the block of common settings beside it, and the files that it was read from.
pub struct Renewal {
    document: Document,
    environment: Environment,
    folder: PathBuf,
    given: Vec<Arc<dyn Any + Send + Sync>>,
    files: Vec<PathBuf>,
}

impl Renewal {
    pub(super) fn new(
        (document, part, common): (&Document, &Node, Option<&Node>),
        environment: &Environment,
        folder: &Path,
        given: Vec<Arc<dyn Any + Send + Sync>>,
        files: Vec<PathBuf>,
    ) -> Self {
        let entry = |key: &str, node: &Node| (key.to_owned(), node.position, node.clone());
        let entries: Vec<(String, Position, Node)> = std::iter::once(entry("part", part))
            .chain(common.map(|node| entry("common", node)))
            .collect();
        let root = Node {
            value: Value::Map(entries),
            ..part.clone()
        };
        let document = Document {
            file: document.file.clone(),
            source: Arc::clone(&document.source),
            root,
            has_more: false,
        };
        Renewal {
            document,
            environment: environment.clone(),
            folder: folder.to_owned(),
            given,
            files,
        }
    }

    /// What the files are like now.
    pub fn stamps(&self) -> Vec<Stamp> {
        self.files.iter().map(|file| stamp(file)).collect()
    }

    /// Reads the part anew; errs with its mistakes.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&Section<'_>, Option<&Section<'_>>) -> T,
    ) -> Result<T, ConfigErrors> {
        let loader = Loader::new(&self.document, &self.environment, &self.folder);
        loader.take_given(self.given.clone());
        let value = {
            let root = loader.root();
            let common = root.section("common");
            let part = root.section("part");
            part.map(|part| read(&part, common.as_ref()))
        };
        match value {
            Some(value) => loader.finish(value),
            None => Err(loader.into_errors()),
        }
    }
}

impl Section<'_> {
    /// How to read this part again, with the block of `common` settings, where files were read for
    /// it since there were `before` of them.
    pub fn renewal(&self, common: Option<&Section<'_>>, before: usize) -> Option<Renewal> {
        let files = self
            .loader
            .files
            .borrow()
            .get(before..)
            .map(<[PathBuf]>::to_vec)
            .filter(|files| !files.is_empty())?;
        let nodes = (
            self.loader.document,
            self.node,
            common.map(|section| section.node),
        );
        Some(Renewal::new(
            nodes,
            self.loader.environment,
            &self.loader.folder,
            self.loader.given.borrow().clone(),
            files,
        ))
    }
}
