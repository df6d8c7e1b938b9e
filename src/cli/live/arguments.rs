//! What several of these commands read from the command line and from answers.

use clap::ValueEnum;
use serde_json::Value as Json;

use crate::alerting::config::matchers::parse_matchers;
use crate::model::{Labels, Matcher, Timestamp};

/// How a list is written.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table
    #[default]
    Simple,
    /// The API's JSON
    Json,
}

/// Reads RFC 3339.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| "give a time as 2026-01-31T08:00:00Z".to_owned())
}

/// The matchers of a command line: each word one or several, a word without operator an alertname.
pub fn read_matchers(words: &[String]) -> Result<Vec<Matcher>, String> {
    let mut matchers = Vec::new();
    for word in words {
        if word.contains(['=', '~', '!']) {
            matchers.extend(parse_matchers(word).map_err(|e| format!("{word}: {e}"))?);
        } else {
            matchers.push(Matcher::equal("alertname", word));
        }
    }
    Ok(matchers)
}

/// A label set of the API's JSON.
pub fn labels_of(json: &Json) -> Labels {
    let pairs = json.as_object().into_iter().flatten();
    Labels::from_pairs(
        pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())),
    )
}
