//! Why a backup is of no use: a closed set of reasons, which label a metric.

use std::io;

use serde::{Deserialize, Serialize};

/// Why a backup is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It holds nothing.
    Empty,
    /// Smaller than `min_size`.
    TooSmall,
    /// It ends too early.
    Truncated,
    /// A dump without its last lines: the program that wrote it died.
    NoEnd,
    /// A checksum or a structure is wrong.
    Damaged,
    /// A file of a set is not there.
    MemberMissing,
    /// It is something else than what it should be.
    WrongFormat,
    /// It cannot be read.
    Unreadable,
}

impl Reason {
    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::TooSmall => "too_small",
            Reason::Truncated => "truncated",
            Reason::NoEnd => "no_end",
            Reason::Damaged => "damaged",
            Reason::MemberMissing => "member_missing",
            Reason::WrongFormat => "wrong_format",
            Reason::Unreadable => "unreadable",
        }
    }
}

/// A reason and what was seen, for the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The reason.
    pub reason: Reason,
    /// One line for people.
    pub detail: String,
}

impl Finding {
    /// A finding with this text.
    pub fn of(reason: Reason, detail: impl Into<String>) -> Self {
        Finding {
            reason,
            detail: detail.into(),
        }
    }
}

impl From<io::Error> for Finding {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Finding::of(Reason::Truncated, "ends too early"),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                Finding::of(Reason::Damaged, error.to_string().replace('\n', " "))
            }
            _ => Finding::of(Reason::Unreadable, error.to_string().replace('\n', " ")),
        }
    }
}
