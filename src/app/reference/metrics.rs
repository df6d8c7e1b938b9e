//! The metrics of the collectors, from the tables that HELP comes from.

use std::fmt::Write as _;

use crate::collectors::COLLECTORS;

use super::in_cell;

/// The metrics of collectors as Markdown; of the kinds that `chosen` takes.
pub fn metrics(chosen: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for kind in COLLECTORS.iter().filter(|kind| chosen(kind.name)) {
        let _ = write!(text, "\n## {}\n\n{}\n", kind.name, kind.about);
        if kind.metrics.iter().all(|table| table.is_empty()) {
            text.push_str("\nThe configuration chooses the names.\n");
            continue;
        }
        text.push_str(
            "\n| metric | type | unit | labels | meaning | source |\n|---|---|---|---|---|---|\n",
        );
        for metric in kind.metrics.iter().copied().flatten() {
            let labels: Vec<String> = metric
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} |",
                metric.name,
                metric.kind.name(),
                metric.unit,
                labels.join(", "),
                in_cell(metric.help),
                in_cell(metric.source)
            );
        }
    }
    text
}
