//! Why a backup was not restored: a closed set of reasons, which label a metric.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::collectors::backup::finding::{self, Finding};
use crate::collectors::programs::find;

/// Why a backup was not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No backup is there, or none that nobody writes to.
    NoBackup,
    /// The server does not answer, or lets nobody in.
    Unreachable,
    /// The role may not do what is needed.
    Denied,
    /// Something of the scratch's name is there that no nightbell has made.
    NotOurs,
    /// Another nightbell uses the scratch database or folder.
    InUse,
    /// psql or another program is not installed.
    NoProgram,
    /// Too little disk space is free.
    NoSpace,
    /// Larger than `max_size`.
    TooLarge,
    /// The backup cannot be read.
    Unreadable,
    /// It ends too early, or a checksum or structure is wrong.
    Damaged,
    /// It is, or holds, what is not restored.
    Unsupported,
    /// A name in an archive leads out of it.
    UnsafePath,
    /// It needs an extension that the server does not have.
    ExtensionMissing,
    /// The server refused a statement.
    Refused,
    /// It was restored, and there is nothing in it.
    Empty,
    /// What was restored is not as `expect` says.
    CheckFailed,
    /// It took longer than `max_duration`.
    TimedOut,
    /// nightbell ended before the restore did, twice.
    Interrupted,
    /// Something else.
    Failed,
}

impl Reason {
    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NoBackup => "no_backup",
            Reason::Unreachable => "unreachable",
            Reason::Denied => "denied",
            Reason::NotOurs => "not_ours",
            Reason::InUse => "in_use",
            Reason::NoProgram => "no_program",
            Reason::NoSpace => "no_space",
            Reason::TooLarge => "too_large",
            Reason::Unreadable => "unreadable",
            Reason::Damaged => "damaged",
            Reason::Unsupported => "unsupported",
            Reason::UnsafePath => "unsafe_path",
            Reason::ExtensionMissing => "extension_missing",
            Reason::Refused => "refused",
            Reason::Empty => "empty",
            Reason::CheckFailed => "check_failed",
            Reason::TimedOut => "timed_out",
            Reason::Interrupted => "interrupted",
            Reason::Failed => "failed",
        }
    }

    /// Whether another attempt may succeed with the same backup.
    pub fn is_passing(self) -> bool {
        use Reason::{
            Failed, InUse, NoBackup, NoProgram, NoSpace, NotOurs, Unreachable, Unreadable,
        };
        matches!(
            self,
            NoBackup | Unreachable | NotOurs | InUse | NoProgram | NoSpace | Unreadable | Failed
        )
    }
}

/// A reason and what was seen, for the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// One line for people, without secrets.
    pub detail: String,
}

impl Failure {
    /// A failure with this text.
    pub fn of(reason: Reason, detail: impl Into<String>) -> Self {
        Failure {
            reason,
            detail: detail.into().replace(['\n', '\r'], " "),
        }
    }
}

/// A program that is needed: in this folder, or where programs are.
pub fn program(name: &str, folder: Option<&Path>) -> Result<PathBuf, Failure> {
    let package = if name.starts_with('p') {
        "postgresql-client, or give programs: a folder"
    } else {
        name
    };
    find(name, folder).ok_or_else(|| {
        Failure::of(
            Reason::NoProgram,
            format!("{name} is not installed; apt-get install {package}"),
        )
    })
}

/// A program that cannot be started.
pub fn not_started(name: &str, error: &io::Error) -> Failure {
    Failure::of(
        Reason::NoProgram,
        format!("{name} cannot be started: {}", error.kind()),
    )
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Failure::of(Reason::Damaged, "the backup ends too early")
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                Failure::of(Reason::Damaged, error.to_string())
            }
            io::ErrorKind::StorageFull => Failure::of(Reason::NoSpace, error.to_string()),
            _ => Failure::of(Reason::Unreadable, error.to_string()),
        }
    }
}

impl From<Finding> for Failure {
    fn from(finding: Finding) -> Self {
        let reason = match finding.reason {
            finding::Reason::Unreadable => Reason::Unreadable,
            finding::Reason::WrongFormat => Reason::Unsupported,
            _ => Reason::Damaged,
        };
        Failure::of(reason, finding.detail)
    }
}
