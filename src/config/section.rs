//! Reading one mapping: typed access, `*_file` secrets, unknown keys with the nearest valid name.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::text::nearest;

use super::document::{Document, Node, Value};
use super::environment::Environment;
use super::error::{ConfigError, ConfigErrors};
use super::position::Position;
use super::secret::{Secret, SecretSource};

/// Holds one file while it is being read, and the mistakes found so far.
pub struct Loader<'a> {
    pub(super) document: &'a Document,
    pub(super) environment: &'a Environment,
    pub(super) folder: PathBuf,
    pub(super) given: RefCell<Vec<Arc<dyn Any + Send + Sync>>>,
    /// The values that were read as secrets.
    secrets: RefCell<HashSet<*const Node>>,
    /// The files whose contents stand for values.
    pub(super) files: RefCell<Vec<PathBuf>>,
    errors: RefCell<Vec<ConfigError>>,
    /// What is accepted, and is not what its author may expect.
    notes: RefCell<Vec<ConfigError>>,
    /// Every key that was asked for, where the reference is made; `None` where a file is only read.
    keys: Option<RefCell<BTreeMap<String, AskedKey>>>,
}

/// A key as the code asks for it: what the generated reference says of it beside its meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedKey {
    /// The type of its value; `""` where the code looks at it in several forms.
    pub kind: &'static str,
    /// The value that holds where the key is absent.
    pub default: Option<String>,
    /// Whether it must be there.
    pub required: bool,
}

impl<'a> Loader<'a> {
    /// Relative paths in the document are taken from `folder`.
    pub fn new(document: &'a Document, environment: &'a Environment, folder: &Path) -> Self {
        let mut errors = Vec::new();
        if document.has_more {
            errors.push(ConfigError {
                file: document.file.clone(),
                position: None,
                key: String::new(),
                problem: "holds more than one YAML document".into(),
                remedy:
                    "remove the line --- and what follows it, or put that into a file of its own"
                        .into(),
                non_fatal: false,
            });
        }
        Loader {
            document,
            environment,
            folder: folder.to_owned(),
            given: RefCell::default(),
            secrets: RefCell::default(),
            files: RefCell::default(),
            errors: RefCell::new(errors),
            notes: RefCell::default(),
            keys: None,
        }
    }

    /// Keeps every key that is asked for from now on, for [`Loader::asked_keys`].
    pub fn keeping_keys(self) -> Self {
        Loader {
            keys: Some(RefCell::default()),
            ..self
        }
    }

    /// The keys that were asked for, by their path; the entries of lists have one path together:
    /// `queries[].sql`.
    pub fn asked_keys(&self) -> BTreeMap<String, AskedKey> {
        self.keys
            .as_ref()
            .map(|keys| keys.borrow().clone())
            .unwrap_or_default()
    }

    /// The root mapping.
    pub fn root(&self) -> Section<'_> {
        Section::new(self, String::new(), &self.document.root)
    }

    /// Takes what parts that were read before have given.
    pub(super) fn take_given(&self, given: Vec<Arc<dyn Any + Send + Sync>>) {
        *self.given.borrow_mut() = given;
    }

    /// `value` if no mistake was recorded, else all mistakes in the order of their positions.
    pub fn finish<T>(self, value: T) -> Result<T, ConfigErrors> {
        let errors = self.into_errors();
        if errors.0.is_empty() {
            Ok(value)
        } else {
            Err(errors)
        }
    }

    /// The mistakes in the order of their positions, for a caller that looks for more of them
    /// elsewhere.
    pub fn into_errors(self) -> ConfigErrors {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|e| e.position);
        errors.dedup();
        ConfigErrors(errors)
    }
}

/// A type that can stand in a configuration file.
pub trait FromNode: Sized {
    /// What the reference calls a value of this type.
    const TYPE: &'static str = "text";

    /// The value as it would be written in the file, for the defaults in the reference; `None`
    /// where it has no short form.
    fn written(&self) -> Option<String> {
        None
    }

    /// Reads `node`, which stands under `key` in `section`. On a mistake it records an error there
    /// and returns `None`.
    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self>;
}

/// One mapping of the file. Ask for every key it may have, then call [`Section::finish`].
pub struct Section<'a> {
    pub(super) loader: &'a Loader<'a>,
    path: String,
    pub(super) node: &'a Node,
    asked: RefCell<Vec<String>>,
    /// Whether `${NAME}` stands for itself.
    literal: bool,
}

impl<'a> Section<'a> {
    fn new(loader: &'a Loader<'a>, path: String, node: &'a Node) -> Self {
        let section = Section {
            loader,
            path,
            node,
            asked: RefCell::new(Vec::new()),
            literal: false,
        };
        if !matches!(node.value, Value::Map(_)) && !node.is_null() {
            section.error_at(
                node.position,
                "",
                format!("is {}", node.kind()),
                "give a mapping: indented lines of key: value".into(),
            );
        }
        section
    }

    /// The value of `key`, `None` when it is absent or `null` or wrong (a wrong one is recorded as
    /// an error).
    pub fn get<T: FromNode>(&self, key: &str) -> Option<T> {
        self.keep_key(key, |asked| asked.kind = T::TYPE);
        let node = self.node(key)?;
        if node.is_null() {
            return None;
        }
        T::from_node(self, key, node)
    }

    /// The value of `key`, or `default`.
    pub fn or<T: FromNode>(&self, key: &str, default: T) -> T {
        self.keep_key(key, |asked| asked.default = default.written());
        self.get(key).unwrap_or(default)
    }

    /// The value of `key`, which must be there. After an error it returns `T::default()`, which
    /// nobody will use.
    pub fn require<T: FromNode + Default>(&self, key: &str) -> T {
        self.keep_key(key, |asked| (asked.kind, asked.required) = (T::TYPE, true));
        match self.node(key) {
            Some(node) if !node.is_null() => T::from_node(self, key, node).unwrap_or_default(),
            _ => {
                self.error_at(
                    self.node.position,
                    "",
                    format!("key {key:?} is missing"),
                    format!("add {key}: …"),
                );
                T::default()
            }
        }
    }

    /// The secret under `key`, or the content of the file under `key_file` (without its last line
    /// break). Both at once is an error; an empty one is none.
    pub fn secret(&self, key: &str) -> Option<Secret> {
        let file_key = format!("{key}_file");
        let inline = self
            .get::<Secret>(key)
            .filter(|secret| !secret.expose().is_empty());
        let file = self.get::<PathBuf>(&file_key);
        match (inline, file) {
            (Some(_), Some(_)) => {
                self.error(
                    &file_key,
                    format!("stands beside {key:?}"),
                    "keep one of the two",
                );
                None
            }
            (Some(secret), None) => Some(secret),
            (None, Some(path)) => match self.content(&path) {
                Ok(text) => Some(Secret::new(text.trim_end_matches(['\n', '\r']))),
                Err(e) => {
                    self.error(
                        &file_key,
                        format!("{}: cannot be read: {e}", path.display()),
                        "check the path and its permissions",
                    );
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// As [`Section::secret`], for one that is used again and again: its file is read at each use.
    /// A file that cannot be read yet is a mistake with which one can run.
    pub fn secret_source(&self, key: &str) -> Option<SecretSource> {
        let file_key = format!("{key}_file");
        let inline = self
            .get::<Secret>(key)
            .filter(|secret| !secret.expose().is_empty());
        match (inline, self.get::<PathBuf>(&file_key)) {
            (Some(_), Some(_)) => {
                self.error(
                    &file_key,
                    format!("stands beside {key:?}"),
                    "keep one of the two",
                );
                None
            }
            (Some(secret), None) => Some(SecretSource::Given(secret)),
            (None, Some(path)) => Some(self.secret_file(&file_key, path)),
            (None, None) => None,
        }
    }

    /// A secret in a file that `key` names.
    pub fn secret_file(&self, key: &str, path: PathBuf) -> SecretSource {
        let source = SecretSource::File(path);
        if let Err(problem) = source.current() {
            self.non_fatal_at(
                self.position(key),
                key,
                problem.to_string(),
                "check the path and its permissions".into(),
            );
        }
        source
    }

    /// The content of a file that stands for a value.
    pub fn content(&self, path: &Path) -> std::io::Result<String> {
        self.loader.files.borrow_mut().push(path.to_owned());
        std::fs::read_to_string(path)
    }

    /// How many files were read for values so far.
    pub fn files_read(&self) -> usize {
        self.loader.files.borrow().len()
    }

    /// The mapping under `key`; `None` when the key is absent. `key:` with nothing after it is an
    /// empty mapping.
    pub fn section(&self, key: &str) -> Option<Section<'a>> {
        self.keep_key(key, |asked| asked.kind = "mapping");
        self.node(key).map(|node| Section {
            literal: self.literal,
            ..Section::new(self.loader, self.child_path(key), node)
        })
    }

    /// The mappings in the list under `key`; empty when the key is absent.
    pub fn sections(&self, key: &str) -> Vec<Section<'a>> {
        self.keep_key(key, |asked| asked.kind = "list");
        match self.node(key).map(|n| (n, &n.value)) {
            Some((_, Value::List(items))) => {
                let child = |(i, node)| Section {
                    literal: self.literal,
                    ..Section::new(self.loader, format!("{}[{i}]", self.child_path(key)), node)
                };
                items.iter().enumerate().map(child).collect()
            }
            Some((node, _)) if !node.is_null() => {
                self.error_at(
                    node.position,
                    key,
                    format!("is {}", node.kind()),
                    "give a list: each entry begins with \"- \"".into(),
                );
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Like [`Section::sections`], but a single mapping counts as a list of one.
    pub fn one_or_many(&self, key: &str) -> Vec<Section<'a>> {
        match self.node(key).map(|n| &n.value) {
            Some(Value::Map(_)) => self.section(key).into_iter().collect(),
            _ if self.node(key).is_some_and(Node::is_null) => {
                self.section(key).into_iter().collect()
            }
            _ => self.sections(key),
        }
    }

    /// The raw node under `key`: no `${NAME}` is replaced in it.
    pub fn node(&self, key: &str) -> Option<&'a Node> {
        if !self.asked.borrow().iter().any(|k| k == key) {
            self.asked.borrow_mut().push(key.to_owned());
        }
        self.keep_key(key, |_| ());
        self.node.get(key)
    }

    /// Notes for the reference how `key` is asked for.
    fn keep_key(&self, key: &str, note: impl FnOnce(&mut AskedKey)) {
        if let Some(keys) = &self.loader.keys {
            note(
                keys.borrow_mut()
                    .entry(without_indexes(&self.child_path(key)))
                    .or_default(),
            );
        }
    }

    /// This section's own node.
    pub fn own_node(&self) -> &'a Node {
        self.node
    }

    /// The keys that are present, in file order.
    pub fn keys(&self) -> Vec<&'a str> {
        match &self.node.value {
            Value::Map(entries) => entries.iter().map(|(k, _, _)| k.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// The path of keys from the root (`collectors.postgres[0]`), `""` at the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file this section stands in, as the user named it.
    pub fn file(&self) -> &str {
        &self.loader.document.file
    }

    /// The file as others may see it: what was read as a secret so far is replaced, and what looks
    /// like one.
    pub fn redacted(&self) -> String {
        super::redacted::redacted(self.loader.document, &self.loader.secrets.borrow())
    }

    /// Notes that a value is a secret, whatever its key is called.
    pub fn conceal(&self, node: &Node) {
        self.loader
            .secrets
            .borrow_mut()
            .insert(std::ptr::from_ref(node));
    }

    /// Where `${NAME}` comes from.
    pub fn environment(&self) -> &'a Environment {
        static NONE: Environment = Environment::literal();
        if self.literal {
            &NONE
        } else {
            self.loader.environment
        }
    }

    /// The same section, in which `${NAME}` stands for itself: a block of another program, which
    /// expands nothing there.
    pub fn as_written(mut self) -> Self {
        self.literal = true;
        self
    }

    /// As [`Section::get`], with `${NAME}` standing for itself.
    pub fn get_as_written<T: FromNode>(&self, key: &str) -> Option<T> {
        let node = self.node(key).filter(|node| !node.is_null())?;
        let twin = Section {
            loader: self.loader,
            path: self.path.clone(),
            node: self.node,
            asked: RefCell::default(),
            literal: true,
        };
        T::from_node(&twin, key, node)
    }

    /// A path of the file, relative ones taken from the file's folder.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.loader.folder.join(path)
    }

    /// Gives what this part of the file says to the parts that are read after it: Alertmanager's
    /// `templates` to its receivers.
    pub fn give<T: Any + Send + Sync>(&self, value: T) -> Arc<T> {
        let value = Arc::new(value);
        self.loader.given.borrow_mut().push(Arc::<T>::clone(&value));
        value
    }

    /// The last value of this type that a part read before has given.
    pub fn given<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.loader
            .given
            .borrow()
            .iter()
            .rev()
            .find_map(|value| Arc::clone(value).downcast().ok())
    }

    /// Where the value of `key` (or, when it is absent, this section) stands.
    pub fn position(&self, key: &str) -> Position {
        self.node
            .get(key)
            .map_or(self.node.position, |n| n.position)
    }

    /// Records a mistake in the value of `key`.
    pub fn error(&self, key: &str, problem: impl Display, remedy: impl Display) {
        self.error_at(
            self.position(key),
            key,
            problem.to_string(),
            remedy.to_string(),
        );
    }

    /// Records a mistake at a position of its own; `key` is relative to this section, `""` for the
    /// section itself.
    pub fn error_at(&self, position: Position, key: &str, problem: String, remedy: String) {
        self.record(position, key, problem, remedy, false);
    }

    /// As [`Section::error_at`], for a mistake with which one can run.
    pub fn non_fatal_at(&self, position: Position, key: &str, problem: String, remedy: String) {
        self.record(position, key, problem, remedy, true);
    }

    /// Says what holds instead of what the value of `key` says: it is no mistake.
    pub fn note(&self, key: &str, problem: impl Display, remedy: impl Display) {
        let (problem, remedy) = (problem.to_string(), remedy.to_string());
        let note = self.about(self.position(key), key, problem, remedy, true);
        let mut notes = self.loader.notes.borrow_mut();
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// What was noted in the whole file so far, in the order of the positions.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.loader.notes.borrow().clone();
        notes.sort_by_key(|note| note.position);
        notes.iter().map(ToString::to_string).collect()
    }

    fn record(
        &self,
        position: Position,
        key: &str,
        problem: String,
        remedy: String,
        non_fatal: bool,
    ) {
        self.loader
            .errors
            .borrow_mut()
            .push(self.about(position, key, problem, remedy, non_fatal));
    }

    fn about(
        &self,
        position: Position,
        key: &str,
        problem: String,
        remedy: String,
        non_fatal: bool,
    ) -> ConfigError {
        let key = if key.is_empty() {
            self.path.clone()
        } else {
            self.child_path(key)
        };
        ConfigError {
            file: self.file().into(),
            position: Some(position),
            key,
            problem,
            remedy,
            non_fatal,
        }
    }

    /// Records a mistake that was found in another file, which this one names.
    pub fn include(&self, error: ConfigError) {
        self.loader.errors.borrow_mut().push(error);
    }

    /// Records every key that nobody asked for as unknown, naming the nearest one that exists.
    pub fn finish(&self) {
        let Value::Map(entries) = &self.node.value else {
            return;
        };
        let asked = self.asked.borrow();
        for (key, position, _) in entries.iter().filter(|(k, _, _)| !asked.contains(k)) {
            let remedy = match nearest(key, asked.iter().map(String::as_str)) {
                Some(name) => format!("did you mean {name:?}?"),
                None if asked.is_empty() => "remove it".into(),
                None => {
                    let mut names = asked.clone();
                    names.sort();
                    format!("known here: {}", names.join(", "))
                }
            };
            self.error_at(*position, key, "unknown key".into(), remedy);
        }
    }

    fn child_path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// A path with `[]` for each index.
fn without_indexes(path: &str) -> String {
    let mut parts = path.split('[');
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        all.push('[');
        all.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(text: &str, read: impl Fn(&Section<'_>)) -> String {
        let document = Document::parse("n.yml", text).expect("YAML");
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let root = loader.root();
        read(&root);
        root.finish();
        drop(root);
        loader.finish(()).expect_err("mistakes").to_string()
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_place_key_and_remedy() {
        let got = check("timeot: 5s\ninterval: soon\nname: ${NOPE}\n", |s| {
            s.or("timeout", Duration::ZERO);
            s.or("interval", Duration::ZERO);
            s.get::<String>("name");
            s.require::<String>("dsn");
        });
        assert_eq!(
            got,
            "n.yml:1:1: key \"dsn\" is missing; add dsn: …\n\
             n.yml:1:1: timeot: unknown key; did you mean \"timeout\"?\n\
             n.yml:2:11: interval: \"soon\" is not valid here; give a duration such as 15s, 5m or 1h30m\n\
             n.yml:3:7: name: environment variable NOPE is not set; set it, name it in the --env-file, or write ${NOPE:-default}"
        );
    }

    #[test]
    fn nested_keys_carry_their_path() {
        let got = check("a:\n  b:\n    - c: [1]\n", |s| {
            for item in s.section("a").map(|a| a.sections("b")).unwrap_or_default() {
                item.get::<u64>("c");
            }
        });
        assert_eq!(
            got,
            "n.yml:3:10: a.b[0].c: is a list; give a whole number from 0 to 18446744073709551615"
        );
    }
}
