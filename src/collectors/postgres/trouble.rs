//! What a collection could not read, as lines in the log: one when it begins, not one for each
//! collection.

use std::collections::BTreeSet;

use super::super::Finding;
use super::health::Health;

/// Something that was not read, and why.
pub enum Trouble {
    /// The collection's time was over.
    Late(String),
    /// A part failed.
    Part(&'static str, String),
    /// A privilege is missing for a part; the last is the statement that gives it.
    Denied(&'static str, String, String),
    /// The server has not loaded what a part needs.
    Unavailable(&'static str, String),
    /// A database refused us.
    Refused(String, String),
    /// A database could not be looked into.
    Database(String, String),
}

impl Trouble {
    fn finding(&self) -> Finding {
        let text = match self {
            Trouble::Late(error) => format!("the collection's time was over: {error}"),
            Trouble::Part(part, error) | Trouble::Unavailable(part, error) => {
                format!("part {part}: {error}")
            }
            Trouble::Denied(part, error, grant) => format!("part {part}: {error}; {grant}"),
            Trouble::Refused(database, error) | Trouble::Database(database, error) => {
                format!("database {database}: {error}")
            }
        };
        Finding {
            failed: !matches!(self, Trouble::Unavailable(..) | Trouble::Refused(..)),
            text,
        }
    }
}

/// What was logged and has not ended.
pub struct Troubles {
    target: String,
    logged: BTreeSet<String>,
    latest: Vec<Finding>,
}

/// Troubles remembered at most.
const MAX_LOGGED: usize = 1000;

impl Troubles {
    /// For the target of this name.
    pub fn new(target: &str) -> Self {
        Troubles {
            target: target.to_owned(),
            logged: BTreeSet::new(),
            latest: Vec::new(),
        }
    }

    /// What the last collection met.
    pub fn latest(&self) -> impl Iterator<Item = Finding> {
        self.latest.iter().cloned()
    }

    /// Logs what is new in this collection, and what limits leave out. What is asked less often
    /// than each time has ended only when a collection that asked (`is_slow`) did not meet it.
    pub fn log(&mut self, troubles: Vec<Trouble>, health: &Health, beyond: f64, is_slow: bool) {
        let target = self.target.clone();
        self.latest = troubles.iter().map(Trouble::finding).collect();
        let mut now = BTreeSet::new();
        for trouble in troubles {
            match trouble {
                Trouble::Late(error) => self.once(&mut now, "late".into(), || {
                    tracing::warn!(collector = "postgres", %target, %error, "The collection's time is over; what comes after this part was not read.");
                }),
                Trouble::Part(part, error) => self.once(&mut now, format!("part {part}"), || {
                    tracing::warn!(collector = "postgres", %target, part, %error, "A part could not be read.");
                }),
                Trouble::Unavailable(part, error) => self.once(&mut now, format!("part {part}"), || {
                    tracing::warn!(collector = "postgres", %target, part, %error, "A part is not available on this server.");
                }),
                Trouble::Denied(part, error, grant) => self.once(&mut now, format!("part {part}"), || {
                    tracing::warn!(collector = "postgres", %target, part, %error, %grant, "A privilege is missing.");
                }),
                Trouble::Refused(database, error) => self.once(&mut now, format!("database {database}"), || {
                    tracing::warn!(collector = "postgres", %target, %database, %error, "A database refuses nightbell; it is left alone for ten minutes.");
                }),
                Trouble::Database(database, error) => self.once(&mut now, format!("database {database}"), || {
                    tracing::warn!(collector = "postgres", %target, %database, %error, "A database could not be looked into.");
                }),
            }
        }
        for (part, state) in health {
            if let Some(rows) = state.dropped.filter(|rows| *rows > 0.0) {
                self.once(&mut now, format!("limit {part}"), || {
                    tracing::warn!(collector = "postgres", %target, part, rows, "A limit leaves rows out, the least important ones.");
                });
            }
        }
        if beyond > 0.0 {
            self.once(&mut now, "limit databases".into(), || {
                tracing::warn!(collector = "postgres", %target, databases = beyond, "The limit databases.max leaves databases out, the quietest ones.");
            });
        }
        self.logged.retain(|key| now.contains(key) || !is_slow);
        self.logged.extend(now);
        while self.logged.len() > MAX_LOGGED {
            self.logged.pop_first();
        }
    }

    fn once(&self, now: &mut BTreeSet<String>, key: String, log: impl FnOnce()) {
        if !self.logged.contains(&key) && !now.contains(&key) {
            log();
        }
        now.insert(key);
    }
}
