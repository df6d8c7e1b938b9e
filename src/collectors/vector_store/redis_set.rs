//! Vector sets of Redis 8 (<https://redis.io/docs/latest/develop/data-types/vector-sets/>).
//!
//! Privilege: an ACL user with `+ping +info +scan +vcard +vdim +vinfo +vrandmember +vemb +vsim` and
//! the keys, read (`%R~…`). Used: those. Never used: whatever writes, KEYS. Without `collections`
//! the keys are looked for by SCAN, a bounded number of steps a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::timeout as within;

use crate::collectors::redis::{Config, Connection, Reply, open};
use crate::config::Section;
use crate::http::client_config;

use super::store::{
    AnyStore, Choice, Collection, Failure, Hit, Looked, Search, Store, Stored, Survey,
};

/// Steps of SCAN in one look, of this many keys.
const STEPS: usize = 100;
const STEP: &str = "1000";
/// Most sets that are found so.
const MAX_FOUND: usize = 1000;

struct RedisSets {
    config: Option<Config>,
    tls: Option<Arc<ClientConfig>>,
    /// Taken out while in use: a call that is cut off leaves no half-read connection behind.
    connection: Option<Connection>,
    /// What an earlier look found, and where SCAN goes on.
    found: Vec<String>,
    cursor: String,
}

/// Reads its keys.
pub fn build(section: &Section<'_>) -> Box<dyn AnyStore> {
    let url = section.secret("url");
    if url.is_none() && section.node("url").is_none() {
        section.error(
            "url",
            "key \"url\" is missing",
            "add url: redis://HOST:6379/0",
        );
    }
    let config = url.as_ref().and_then(|url| Config::at(url.expose()));
    if url.is_some() && config.is_none() {
        section.error(
            "url",
            "is not a Redis URL",
            "give redis://host:6379/0, rediss://host:6379/0 or unix:///path",
        );
    }
    let tls = config.as_ref().and_then(|config| config.tls.as_ref());
    let tls = tls.and_then(|tls| match client_config(tls) {
        Ok(made) => Some(Arc::new(made)),
        Err(error) => {
            section.error("url", error.to_string(), "check the certificates");
            None
        }
    });
    Box::new(RedisSets {
        config,
        tls,
        connection: None,
        found: Vec::new(),
        cursor: "0".to_owned(),
    })
}

fn failure(error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => "auth",
        io::ErrorKind::TimedOut => "timeout",
        io::ErrorKind::InvalidData => "invalid_response",
        _ => "connect",
    };
    Failure::new(kind, error.to_string())
}

/// A refusal of the server.
fn refused(text: &str) -> Failure {
    let kind = match text.split(' ').next().unwrap_or_default() {
        "NOPERM" | "NOAUTH" | "WRONGPASS" => "auth",
        _ if text.contains("dimension") => "dimension_mismatch",
        _ if text.contains("unknown command") => "not_found",
        _ => "bad_request",
    };
    // The rest may quote what was sent.
    let text: String = text.chars().take_while(|c| *c != ',').take(80).collect();
    Failure::new(kind, text)
}

/// The value of a field in a reply of names and values.
fn field<'a>(reply: &'a Reply, name: &str) -> Option<&'a Reply> {
    reply
        .list()?
        .chunks_exact(2)
        .find(|pair| pair[0].text() == Some(name))
        .map(|pair| &pair[1])
}

impl RedisSets {
    async fn call(&mut self, commands: &[&[&str]], timeout: Duration) -> Looked<Vec<Reply>> {
        let Some(config) = &self.config else {
            return Err(Failure::new("bad_request", "url is missing"));
        };
        let late = |_| Failure::new("timeout", "no answer in time");
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = within(timeout, open(config, self.tls.as_ref()))
                    .await
                    .map_err(late)?
                    .map_err(|e| failure(&e))?;
                if config.database != 0 {
                    let database = config.database.to_string();
                    connection
                        .call(&[&["SELECT", &database]])
                        .await
                        .map_err(|e| failure(&e))?;
                }
                connection
            }
        };
        let replies = within(timeout, connection.call(commands))
            .await
            .map_err(late)?
            .map_err(|e| failure(&e))?;
        self.connection = Some(connection);
        Ok(replies)
    }

    async fn one(&mut self, command: &[&str], timeout: Duration) -> Looked<Reply> {
        match self.call(&[command], timeout).await?.pop() {
            Some(Reply::Error(text)) => Err(refused(&text)),
            Some(reply) => Ok(reply),
            None => Err(Failure::odd("no reply")),
        }
    }

    /// Goes on with SCAN; a round that has ended begins anew.
    async fn find(&mut self, timeout: Duration) -> Looked<()> {
        for _ in 0..STEPS {
            let cursor = self.cursor.clone();
            let scan = ["SCAN", &cursor, "COUNT", STEP, "TYPE", "vectorset"];
            let reply = self.one(&scan, timeout).await?;
            let Some([next, keys]) = reply.list() else {
                return Err(Failure::odd("SCAN"));
            };
            for key in keys.list().unwrap_or_default() {
                let key = key.text().unwrap_or_default();
                if self.found.len() < MAX_FOUND && !self.found.iter().any(|k| k == key) {
                    self.found.push(key.to_owned());
                }
            }
            self.cursor = next.text().unwrap_or("0").to_owned();
            if self.cursor == "0" {
                break;
            }
        }
        Ok(())
    }

    async fn near(
        &mut self,
        of: &Collection,
        stored: &Stored,
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> Looked<Vec<Hit>> {
        let count = most.to_string();
        let numbers: Vec<String> = stored.vector.iter().map(f64::to_string).collect();
        let size = numbers.len().to_string();
        let mut command = vec!["VSIM", &of.id, "VALUES", &size];
        command.extend(numbers.iter().map(String::as_str));
        command.extend(["WITHSCORES", "COUNT", &count]);
        if search == Search::Exact {
            command.push("TRUTH");
        }
        let reply = self.one(&command, timeout).await?;
        let hit = |pair: &[Reply]| Hit {
            id: pair[0].text().unwrap_or_default().to_owned(),
            // The score of what points the same way is 1.
            equal: pair[1].number().map(|score| score > 1.0 - 1e-3),
        };
        Ok(reply
            .list()
            .unwrap_or_default()
            .chunks_exact(2)
            .map(hit)
            .collect())
    }
}

impl Store for RedisSets {
    fn address(&self) -> String {
        self.config
            .as_ref()
            .map(Config::address)
            .unwrap_or_default()
    }

    async fn survey(&mut self, choice: &Choice, timeout: Duration) -> Looked<Survey> {
        let info = self.one(&["INFO", "server"], timeout).await?;
        let version = info.text().and_then(|text| {
            text.lines()
                .find_map(|line| line.trim().strip_prefix("redis_version:"))
        });
        let version = version.map(str::to_owned);
        if choice.only.is_empty() {
            self.find(timeout).await?;
        } else {
            self.found = choice.only.clone();
        }
        let mut survey = Survey {
            version,
            ready: true,
            total: self.found.len(),
            ..Survey::default()
        };
        let mut gone = Vec::new();
        for name in choice.of(self.found.clone()) {
            let commands: [&[&str]; 3] = [&["VCARD", &name], &["VDIM", &name], &["VINFO", &name]];
            let replies = self.call(&commands, timeout).await?;
            let [cardinality, dimension, info] = replies.as_slice() else {
                return Err(Failure::odd("fewer replies than commands"));
            };
            match cardinality {
                Reply::Error(text) if survey.collections.is_empty() && text.contains("unknown") => {
                    return Err(Failure::new("not_found", "the server has no vector sets"));
                }
                Reply::Error(text) => {
                    let failure = refused(text);
                    survey.problems.push(format!("{name}: {}", failure.text));
                    continue;
                }
                // A set that is empty is deleted.
                reply if reply.number() == Some(0.0) && choice.only.is_empty() => {
                    gone.push(name);
                    continue;
                }
                _ => {}
            }
            survey.collections.push(Collection {
                id: name.clone(),
                vectors: cardinality.number(),
                dimension: dimension.number(),
                space: field(info, "quant-type")
                    .and_then(Reply::text)
                    .unwrap_or_default()
                    .to_owned(),
                searchable: true,
                name,
                ..Collection::default()
            });
        }
        self.found.retain(|name| !gone.contains(name));
        survey.total -= gone.len();
        Ok(survey)
    }

    async fn sample(
        &mut self,
        of: &Collection,
        most: usize,
        timeout: Duration,
    ) -> Looked<Vec<Stored>> {
        let count = most.to_string();
        let reply = self.one(&["VRANDMEMBER", &of.id, &count], timeout).await?;
        let names = reply.list().unwrap_or_default().to_vec();
        let mut stored = Vec::new();
        for name in names.iter().filter_map(Reply::text) {
            let reply = self.one(&["VEMB", &of.id, name], timeout).await?;
            let numbers = reply.list().unwrap_or_default();
            stored.push(Stored {
                id: name.to_owned(),
                vector: numbers.iter().filter_map(Reply::number).collect(),
            });
        }
        Ok(stored)
    }

    async fn nearest(
        &mut self,
        collection: &Collection,
        stored: &Stored,
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> Looked<Option<Vec<Hit>>> {
        let hits = self.near(collection, stored, most, search, timeout).await?;
        Ok(Some(hits))
    }
}
