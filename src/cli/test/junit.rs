//! Results of tests as JUnit XML, which build servers read; element for element as promtool writes
//! it.

use std::fmt::Write as _;

use crate::model::Timestamp;

/// The results of several test files.
#[derive(Default)]
pub struct Report {
    suites: Vec<Suite>,
}

/// One test file.
struct Suite {
    name: String,
    at: Timestamp,
    cases: Vec<Case>,
}

/// One test.
struct Case {
    name: String,
    failures: Vec<String>,
    /// Why the file could not be run at all.
    error: Option<String>,
}

impl Report {
    /// Begins a file; what is added from now on belongs to it.
    pub fn begin(&mut self, name: String, at: Timestamp) {
        self.suites.push(Suite {
            name,
            at,
            cases: Vec::new(),
        });
    }

    /// A test that ran.
    pub fn add(&mut self, name: String, failures: Vec<String>) {
        self.push(Case {
            name,
            failures,
            error: None,
        });
    }

    /// The file could not be run.
    pub fn abort(&mut self, error: String) {
        self.push(Case {
            name: "unknown".to_owned(),
            failures: Vec::new(),
            error: Some(error),
        });
    }

    fn push(&mut self, case: Case) {
        if let Some(suite) = self.suites.last_mut() {
            suite.cases.push(case);
        }
    }

    /// The document.
    pub fn to_xml(&self) -> String {
        let mut out = String::from("<testsuites>");
        for suite in &self.suites {
            let failures: usize = suite.cases.iter().map(|case| case.failures.len()).sum();
            let errors = suite
                .cases
                .iter()
                .filter(|case| case.error.is_some())
                .count();
            let _ = write!(
                out,
                "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" timestamp=\"{}\">",
                escape(&suite.name),
                suite.cases.len(),
                suite.at.rfc3339().get(..19).unwrap_or_default(),
            );
            for case in &suite.cases {
                let _ = write!(out, "<testcase name=\"{}\">", escape(&case.name));
                for failure in &case.failures {
                    let _ = write!(out, "<failure>{}</failure>", escape(failure));
                }
                if let Some(error) = &case.error {
                    let _ = write!(out, "<error>{}</error>", escape(error));
                }
                out.push_str("</testcase>");
            }
            out.push_str("</testsuite>");
        }
        out.push_str("</testsuites>");
        out
    }
}

/// Characters with a meaning as Go escapes them; what XML cannot carry becomes U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' => out.push_str("&#x9;"),
            '\n' => out.push_str("&#xA;"),
            '\r' => out.push_str("&#xD;"),
            '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}
