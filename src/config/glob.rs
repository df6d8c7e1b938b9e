//! Patterns that name files, as Go's `filepath.Glob` reads them: `*`, `?` and `[a-z]` in any part
//! of the path, `\` before a character that stands for itself. Nothing stands for several folders
//! at once.

use std::fs;
use std::path::{Component, Path, PathBuf};

use regex::Regex;

/// The pattern has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: syntax error in pattern")]
pub struct BadPattern(String);

/// What exists and fits `pattern`, sorted. A folder that cannot be read holds nothing.
pub fn glob(pattern: &Path) -> Result<Vec<PathBuf>, BadPattern> {
    glob_at_most(pattern, usize::MAX)
}

/// As [`glob`], of the first `limit` that a folder names.
pub fn glob_at_most(pattern: &Path, limit: usize) -> Result<Vec<PathBuf>, BadPattern> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components().filter(|c| *c != Component::CurDir) {
        let part = component.as_os_str();
        let text = part.to_str().filter(|text| {
            matches!(component, Component::Normal(_)) && text.contains(['*', '?', '[', '\\'])
        });
        found = match text {
            None => found.into_iter().map(|folder| folder.join(part)).collect(),
            Some(text) => {
                let regex = file_name_pattern(text)
                    .ok_or_else(|| BadPattern(pattern.display().to_string()))?;
                found
                    .iter()
                    .flat_map(|folder| entries(folder, &regex))
                    .take(limit)
                    .collect()
            }
        };
    }
    found.retain(|path| path.exists());
    found.sort();
    Ok(found)
}

fn entries(folder: &Path, regex: &Regex) -> Vec<PathBuf> {
    let position = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let entries = fs::read_dir(position).into_iter().flatten().flatten();
    entries
        .filter(|e| {
            e.file_name()
                .to_str()
                .is_some_and(|name| regex.is_match(name))
        })
        .map(|e| folder.join(e.file_name()))
        .collect()
}

/// A pattern of one name as a regular expression; `None` when it has no meaning.
pub fn file_name_pattern(pattern: &str) -> Option<Regex> {
    let mut out = String::from("(?s)^");
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '\\' => out.push_str(&regex::escape(&characters.next()?.to_string())),
            '[' => {
                let rest = characters.as_str();
                let end = rest
                    .char_indices()
                    .skip(1)
                    .find(|(_, c)| *c == ']')
                    .map(|(at, _)| at)?;
                let (negated, class) = rest[..end]
                    .strip_prefix('^')
                    .map_or((false, &rest[..end]), |class| (true, class));
                if class.is_empty() {
                    return None;
                }
                out.push_str(if negated { "[^" } else { "[" });
                class.chars().for_each(|c| {
                    out.push_str(&if c == '-' {
                        "-".to_owned()
                    } else {
                        regex::escape(&c.to_string())
                    })
                });
                out.push(']');
                characters = rest[end + 1..].chars();
            }
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push('$');
    Regex::new(&out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos_do() {
        for (pattern, name, fits) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a?c*", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            (r"\*x", "*x", true),
            (r"\*x", "ax", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXc", false),
        ] {
            assert_eq!(
                file_name_pattern(pattern).expect(pattern).is_match(name),
                fits,
                "{pattern} {name}"
            );
        }
        assert!(file_name_pattern("[a").is_none() && file_name_pattern("a\\").is_none());
    }

    #[test]
    fn folders_of_a_pattern_may_vary_too() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a/x.yml", "b/x.yml", "b/y.txt"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, "").expect("written");
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = glob(&folder.path().join(pattern)).expect(pattern);
            found
                .iter()
                .map(|p| {
                    p.strip_prefix(folder.path())
                        .expect("below")
                        .display()
                        .to_string()
                })
                .collect()
        };
        assert_eq!(names("*/*.yml"), ["a/x.yml", "b/x.yml"]);
        assert_eq!(names("b/y.txt"), ["b/y.txt"]);
        assert_eq!(names("c/*"), [""; 0]);
    }
}
