//! Named templates: Alertmanager's own, and those of the files that `templates` names
//! (SEMANTICS 178).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use gotmpl::parse::{ListNode, Node};

use super::notification_functions::NOTIFICATIONS;
use super::{Mistake, read};

/// The templates that Alertmanager brings, by the names that its users know.
const DEFAULTS: &str = include_str!("defaults.tmpl");
/// Its mail. The layout is that of Mailgun's transactional e-mail templates (MIT licence).
const EMAIL: &str = include_str!("email.tmpl");
/// What stands for `%%` in [`EMAIL`]: the style of every element of the mail.
const EMAIL_STYLE: &str = "margin: 0; font-family: 'Helvetica Neue', Helvetica, Arial, sans-serif; box-sizing: border-box;";

/// Largest file of templates, in bytes.
const MAX_FILE: u64 = 4 << 20;

static BUILT_IN: LazyLock<Library> = LazyLock::new(|| {
    let mut library = Library {
        named: BTreeMap::new(),
    };
    for (file, text) in [
        ("default.tmpl", DEFAULTS.to_owned()),
        ("email.tmpl", EMAIL.replace("%%", EMAIL_STYLE)),
    ] {
        // The texts are constants; a test reads them.
        library.add(file, &text).unwrap_or_default();
    }
    library
});

/// A named template, ready to run.
#[derive(Clone)]
pub(super) struct Named {
    pub body: ListNode,
    /// The names it calls.
    pub calls: BTreeSet<String>,
}

/// Named templates that a notification's texts may call.
#[derive(Clone)]
pub struct Library {
    named: BTreeMap<String, Arc<Named>>,
}

impl Default for Library {
    /// Alertmanager's own.
    fn default() -> Self {
        BUILT_IN.clone()
    }
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.named.keys()).finish()
    }
}

/// Why a file of templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The file is not there, or not for us.
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is too large.
    #[error("{}: is larger than {MAX_FILE} bytes", .0.display())]
    TooLarge(PathBuf),
    /// A template in it cannot be read.
    #[error("{}:{}:{}: {}", path.display(), mistake.line, mistake.column, mistake.message)]
    Mistake {
        /// The file.
        path: PathBuf,
        /// Where and what.
        mistake: Mistake,
    },
}

impl Library {
    /// Adds the templates of a file, whose own name names what stands outside of `define`. A later
    /// one replaces an earlier one of the same name, unless it is empty.
    ///
    /// # Errors
    /// When the file cannot be read, or is none of templates.
    pub fn add_file(&mut self, path: &Path) -> Result<(), LibraryError> {
        let unreadable = |error| LibraryError::Unreadable {
            path: path.to_owned(),
            error,
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_FILE {
            return Err(LibraryError::TooLarge(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let path = path.to_owned();
        self.add(&name, &text)
            .map_err(|mistake| LibraryError::Mistake { path, mistake })
    }

    fn add(&mut self, file: &str, text: &str) -> Result<(), Mistake> {
        let (tree, defines) = read(file, text, &NOTIFICATIONS)?;
        for (name, empty, body) in defines
            .into_iter()
            .chain([(file.to_owned(), tree.1, tree.0)])
        {
            if !empty || !self.named.contains_key(&name) {
                let calls = calls(&body);
                self.named.insert(name, Arc::new(Named { body, calls }));
            }
        }
        Ok(())
    }

    /// Whether a file of the user's gives this default template, or one that it calls, another
    /// text.
    pub fn redefines(&self, name: &str) -> bool {
        let Some(known) = self.named.get(name) else {
            return false;
        };
        let same = BUILT_IN
            .named
            .get(name)
            .is_some_and(|own| Arc::ptr_eq(own, known));
        // The built-in ones call each other without a circle.
        !same || known.calls.iter().any(|called| self.redefines(called))
    }

    /// The template of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Named>> {
        self.named.get(name)
    }
}

/// The names that a template calls.
pub(super) fn calls(body: &ListNode) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    gather(body, &mut found);
    found
}

fn gather(list: &ListNode, found: &mut BTreeSet<String>) {
    for node in &list.nodes {
        match node {
            Node::List(list) => gather(list, found),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                gather(&branch.body, found);
                branch.else_body.iter().for_each(|body| gather(body, found));
            }
            Node::Template(call) => drop(found.insert(call.name.to_string())),
            Node::Define(define) => gather(&define.body, found),
            Node::Action(_) | Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}
