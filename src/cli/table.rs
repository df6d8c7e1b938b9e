//! Tables as amtool prints them: columns that are as wide as their widest cell, two spaces apart.

use serde_json::Value as Json;

use super::terminal::say;
use crate::model::text::visible;

/// Prints a heading and rows.
pub fn print_table(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let heading: Vec<String> = heading.iter().map(|name| (*name).to_owned()).collect();
    let shown = |row: Vec<String>| row.iter().map(|cell| visible(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(rows.map(shown)).collect();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        say!("{}", cells.join("  ").trim_end());
    }
}

/// A time of the API's JSON, for people.
pub fn shown_time(json: &Json) -> String {
    let text = json.as_str().unwrap_or_default();
    match text.split_once('T') {
        Some((day, time)) => format!(
            "{day} {} UTC",
            time.split(['.', 'Z']).next().unwrap_or_default()
        ),
        None => text.to_owned(),
    }
}
