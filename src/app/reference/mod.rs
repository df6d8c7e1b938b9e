//! The reference of configuration keys, metrics and commands, made from the code.
//!
//! A page of keys is a YAML file beside this one: a sample with a comment above each key. Reading
//! it, as a user's file is read, yields each key's type and default
//! ([`AskedKey`](crate::config::AskedKey)), so a page can neither name a key that the program does
//! not know nor omit one that it does.

mod keys;
mod metrics;

use std::fmt::Write as _;

pub use keys::{PAGES, Page, problems};
pub use metrics::metrics;

/// The reference of configuration keys as Markdown; of the pages that `chosen` takes.
///
/// # Errors
///
/// What is wrong with a page; the tests see to it that nothing is.
pub fn configuration(chosen: impl Fn(&Page) -> bool) -> Result<String, String> {
    let mut text = String::new();
    for page in PAGES.iter().filter(|page| chosen(page)) {
        let keys = keys::keys(page)?;
        let _ = write!(
            text,
            "\n## {}\n\n{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
            page.title, keys.about
        );
        for key in &keys.rows {
            let kind = if key.required {
                format!("{}, required", key.kind)
            } else {
                key.kind.to_owned()
            };
            let default = if key.default.is_empty() {
                String::new()
            } else {
                format!("`{}`", key.default)
            };
            let _ = writeln!(
                text,
                "| `{}` | {kind} | {} | {} |",
                key.path,
                in_cell(&default),
                in_cell(&key.meaning)
            );
        }
        let _ = write!(text, "\n```yaml\n{}```\n", keys.sample);
    }
    Ok(text)
}

/// A text that may hold the sign between two cells of a table.
fn in_cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_comment_and_every_comment_a_key() {
        let problems: Vec<String> = PAGES.iter().flat_map(problems).collect();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}
