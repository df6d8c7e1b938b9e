//! No circle of files: which file of `src/` imports which, read from the code, with re-exports
//! followed to where a name is defined.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// Modules in which files may need each other, because what they do is recursive: an expression
/// holds expressions, a template calls what calls templates, a client that needs a token asks for
/// it by a client.
const RECURSIVE: [&str; 3] = ["promql", "template", "http"];

static INLINE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(?:crate|super|self)(?:::\w+)+").expect("a pattern"));
static DECLARATION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^\s*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);").expect("a pattern")
});

/// A module's path below the crate.
type Module = Vec<String>;

/// The files of the crate, what they import and what they re-export.
struct Crate {
    texts: BTreeMap<Module, String>,
    reexports: BTreeMap<Module, Module>,
}

impl Crate {
    fn read(root: &Path) -> Self {
        let mut texts = BTreeMap::new();
        for file in files(root) {
            let relative = file
                .strip_prefix(root)
                .expect("below the root")
                .with_extension("");
            let mut module: Module = relative
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .collect();
            if module.last().is_some_and(|last| last == "mod")
                || matches!(module[0].as_str(), "lib" | "main")
            {
                module.pop();
            }
            let text = fs::read_to_string(&file).expect("UTF-8");
            let code = text
                .split("#[cfg(test)]\nmod tests")
                .next()
                .unwrap_or_default();
            let without_comments: Vec<&str> = code
                .lines()
                .map(|line| line.split("//").next().unwrap_or_default())
                .collect();
            texts.insert(module, without_comments.join("\n"));
        }
        let mut it = Crate {
            texts,
            reexports: BTreeMap::new(),
        };
        let mut reexports = BTreeMap::new();
        for (module, text) in &it.texts {
            for (public, path) in uses(text) {
                if let (true, Some(path)) = (public, it.absolute(module, &path)) {
                    let name = path.last().expect("a path has a name").clone();
                    reexports.insert([module.as_slice(), &[name]].concat(), path);
                }
            }
        }
        it.reexports = reexports;
        it
    }

    /// A path as seen from a module, from the root of the crate; `None` where it leads out of the
    /// crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let supers = path.iter().take_while(|part| *part == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "super" => Some(
                [
                    &module[..module.len().checked_sub(supers)?],
                    &path[supers..],
                ]
                .concat(),
            ),
            "self" => Some([module.as_slice(), &path[1..]].concat()),
            _ => {
                let child = [module.as_slice(), &path[..1]].concat();
                self.texts
                    .contains_key(&child)
                    .then(|| [module.as_slice(), path].concat())
            }
        }
    }

    /// The file in which a path ends.
    fn file_of(&self, path: &Module) -> Option<Module> {
        let mut path = path.clone();
        for _ in 0..10 {
            let known = (0..=path.len())
                .rev()
                .map(|end| path[..end].to_vec())
                .find(|start| self.texts.contains_key(start))?;
            let name = path.get(..=known.len()).map(<[String]>::to_vec);
            match name.and_then(|name| self.reexports.get(&name)) {
                Some(target) => path = [target.as_slice(), &path[known.len() + 1..]].concat(),
                None => return Some(known),
            }
        }
        None
    }

    /// The files that a file needs, except those above and below it: a folder's `mod.rs` holds it
    /// together.
    fn needs(&self, module: &Module) -> BTreeSet<Module> {
        let text = &self.texts[module];
        let paths = uses(text).into_iter().map(|(_, path)| path);
        let paths = paths.chain(
            INLINE
                .find_iter(text)
                .map(|found| found.as_str().split("::").map(str::to_owned).collect()),
        );
        paths
            .filter_map(|path| self.file_of(&self.absolute(module, &path)?))
            .filter(|other| !other.starts_with(module) && !module.starts_with(other))
            .collect()
    }
}

/// The paths of all `use` declarations, each with whether it is public.
fn uses(text: &str) -> Vec<(bool, Vec<String>)> {
    let mut found = Vec::new();
    for captures in DECLARATION.captures_iter(text) {
        let mut paths = Vec::new();
        leaves(captures[2].trim(), &mut Vec::new(), &mut paths);
        found.extend(
            paths
                .into_iter()
                .map(|path| (captures.get(1).is_some(), path)),
        );
    }
    found
}

/// The paths of a tree such as `a::{b, c::{d, e as f}}`.
fn leaves(tree: &str, above: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let parts = |text: &str| {
        text.split("::")
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let mut path = [above.as_slice(), &parts(path)].concat();
        path.retain(|part| part != "self" || above.is_empty());
        paths.push(path);
        return;
    };
    let depth = above.len();
    above.extend(parts(head));
    let (mut level, mut start) = (0, 0);
    let body = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    for (at, c) in body.char_indices() {
        match c {
            '{' => level += 1,
            '}' => level -= 1,
            ',' if level == 0 => {
                leaves(body[start..at].trim(), above, paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !body[start..].trim().is_empty() {
        leaves(body[start..].trim(), above, paths);
    }
    above.truncate(depth);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("src/main.rs")
        {
            found.push(path);
        }
    }
    found
}

/// To read a file one needs those that it imports; none of them needs it in turn.
#[test]
fn no_files_import_each_other() {
    let all = Crate::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src"));
    let needs: BTreeMap<&Module, BTreeSet<Module>> = all
        .texts
        .keys()
        .map(|module| (module, all.needs(module)))
        .collect();
    assert!(
        needs.values().map(BTreeSet::len).sum::<usize>() > 1000,
        "the imports are read"
    );
    let mut circles = BTreeSet::new();
    for module in all.texts.keys().filter(|module| {
        !module
            .first()
            .is_some_and(|first| RECURSIVE.contains(&first.as_str()))
    }) {
        // Everything that it needs, by however many steps.
        let (mut reached, mut open) = (BTreeSet::new(), vec![module]);
        while let Some(next) = open.pop() {
            for other in &needs[next] {
                if reached.insert(other) {
                    open.push(other);
                }
            }
        }
        if reached.contains(module) {
            let back: Vec<String> = needs[module]
                .iter()
                .filter(|other| reaches(&needs, other, module))
                .map(|other| other.join("::"))
                .collect();
            circles.insert(format!(
                "{} needs {}, and they need it",
                module.join("::"),
                back.join(", ")
            ));
        }
    }
    assert!(
        circles.is_empty(),
        "move what they share into a file below both:\n{}",
        circles.into_iter().collect::<Vec<_>>().join("\n")
    );
}

fn reaches(needs: &BTreeMap<&Module, BTreeSet<Module>>, from: &Module, to: &Module) -> bool {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(next) = open.pop() {
        if next == to {
            return true;
        }
        open.extend(
            needs[next]
                .iter()
                .filter(|other| reached.insert((*other).clone())),
        );
    }
    false
}

/// The test sees what it should: paths in braces, names by way of a re-export.
#[test]
fn imports_are_read() {
    let read: Vec<String> = uses("pub use a::{b, c::{self, d as e}};\nuse super::x::Y;")
        .into_iter()
        .map(|(public, path)| format!("{public} {}", path.join("::")))
        .collect();
    assert_eq!(
        read,
        [
            "true a::b",
            "true a::c",
            "true a::c::d",
            "false super::x::Y"
        ]
    );
}
