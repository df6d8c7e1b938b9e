//! Text that no log, error, metric or API answer may show.

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;

/// A secret text. `Debug` and `Display` print `<secret>`; [`Secret::expose`] is the one way to its
/// text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `text` with every occurrence of this secret replaced by `<secret>`: for messages of
    /// libraries that may quote it.
    pub fn redact(&self, text: &str) -> String {
        if self.0.len() < 4 {
            text.to_owned()
        } else {
            text.replace(&self.0, "<secret>")
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Where a secret stands: in the configuration, or in a file that is read whenever it is used, so
/// that one that is renewed needs no reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration.
    Given(Secret),
    /// In this file.
    File(PathBuf),
}

/// The file of a secret that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be read: {source}", path.display())]
pub struct SecretError {
    path: PathBuf,
    source: std::io::Error,
}

/// Most of a secret's file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

impl SecretSource {
    /// The secret as it is now, without the white space around a file's text. Reading the file may
    /// take its time.
    ///
    /// # Errors
    /// When the file cannot be read as UTF-8.
    pub fn current(&self) -> Result<Secret, SecretError> {
        let path = match self {
            SecretSource::Given(secret) => return Ok(secret.clone()),
            SecretSource::File(path) => path,
        };
        let mut text = String::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
        read.map_err(|source| SecretError {
            path: path.clone(),
            source,
        })?;
        Ok(Secret::new(text.trim()))
    }

    /// Whether it stands in a file.
    pub fn is_file(&self) -> bool {
        matches!(self, SecretSource::File(_))
    }
}

impl Default for SecretSource {
    fn default() -> Self {
        SecretSource::Given(Secret::default())
    }
}

impl From<Secret> for SecretSource {
    fn from(secret: Secret) -> Self {
        SecretSource::Given(secret)
    }
}
