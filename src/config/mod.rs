//! From a YAML file to typed settings, with every mistake reported at its line, column and key, all
//! at once.
//!
//! [`Document`] is a file as a tree of [`Node`]s that remember where they stand. A component reads
//! its part through a [`Section`], which knows the environment for `${NAME}`, records each key that
//! was asked for, and collects errors instead of returning them: a value built from a section with
//! errors is never used, because [`Loader::finish`] refuses.

mod document;
mod environment;
mod error;
mod glob;
mod position;
mod redacted;
mod renewal;
mod secret;
mod section;
mod value;

pub use document::{Document, Node, ScalarStyle, Value};
pub use environment::{Environment, UnsetVariable};
pub use error::{ConfigError, ConfigErrors};
pub use glob::{BadPattern, file_name_pattern, glob, glob_at_most};
pub use position::Position;
pub use redacted::{ENCODE, redacted, shown_url, sounds_secret, splits_its_password, to_yaml};
pub use renewal::{Renewal, Stamp, stamp};
pub use secret::{Secret, SecretError, SecretSource};
pub use section::{AskedKey, FromNode, Loader, Section};
pub use value::ByteSize;
