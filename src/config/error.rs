//! A mistake in a configuration file: where, what, and what to do about it.

use std::fmt;

use super::position::Position;

/// One mistake. Prints as `nightbell.yml:12:5: collectors.postgres[0].timeot: unknown key; did you
/// mean "timeout"?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as the user named it.
    pub file: String,
    /// Where in it; `None` when the file as a whole is meant.
    pub position: Option<Position>,
    /// The path of keys from the root, `""` at the root.
    pub key: String,
    /// What is wrong. Lower case, no full stop, never a secret.
    pub problem: String,
    /// What to do about it, `""` when the problem says it.
    pub remedy: String,
    /// Whether one can run with it: then it is a warning at a start, because nobody would be
    /// notified of anything without one.
    pub non_fatal: bool,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(position) = self.position {
            write!(f, ":{position}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// All mistakes of a configuration, in the order of their positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        ConfigErrors(vec![error])
    }
}
