//! What each part of a collection came to: read, refused by the access rules, or failed.

use std::collections::BTreeMap;

use super::client::Reply;

/// A part, the access rules that it needs, and what is lost without them.
const NEEDS: [(&str, &str, &str); 7] = [
    ("info", "+info", "nearly everything"),
    ("config", "+config|get", "limits of the configuration"),
    (
        "latency",
        "+latency|latest +latency|histogram",
        "latency spikes and histograms",
    ),
    ("slowlog", "+slowlog|len +slowlog|get", "the slow log"),
    ("cluster", "+cluster|info", "the state of the cluster"),
    ("clients", "+client|list", "the clients one by one"),
    (
        "keys",
        "+select +scan +type +memory|usage +strlen +llen +scard +zcard +hlen +xlen +xinfo ~*",
        "counts and sizes of keys",
    ),
];

/// How the parts fared.
#[derive(Default)]
pub struct Parts {
    denied: BTreeMap<&'static str, bool>,
    /// The first failure of each part, and how many there were.
    failures: BTreeMap<&'static str, (String, usize)>,
}

/// Parts that older servers, other products and careful administrators leave out.
const OPTIONAL: [&str; 4] = ["config", "latency", "slowlog", "cluster"];

impl Parts {
    /// The reply, unless it is an error; then the error is recorded for this part. A command that
    /// the server does not know is no error where the part is optional.
    pub fn accept(&mut self, part: &'static str, reply: Reply) -> Option<Reply> {
        let Reply::Error(error) = reply else {
            self.denied.entry(part).or_insert(false);
            return Some(reply);
        };
        let text = error.to_ascii_lowercase();
        if text.starts_with("noperm") {
            self.denied.insert(part, true);
        } else if text.contains("unknown command") && !OPTIONAL.contains(&part) {
            // The rest of the line repeats what was sent.
            self.fail(part, "unknown command");
        } else if !text.contains("unknown") {
            self.fail(part, &error);
        }
        None
    }

    /// Records a failure of this part.
    pub fn fail(&mut self, part: &'static str, error: &str) {
        self.denied.entry(part).or_insert(false);
        self.failures
            .entry(part)
            .or_insert_with(|| (error.replace('\n', " "), 0))
            .1 += 1;
    }

    /// Parts that were asked, and whether they could be read.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.denied
            .iter()
            .map(|(part, denied)| (*part, !denied && !self.failures.contains_key(part)))
    }

    /// Parts that were asked, and whether the access rules refused.
    pub fn denied(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.denied.iter().map(|(part, denied)| (*part, *denied))
    }

    /// What failed, on one line.
    pub fn failure(&self) -> Option<String> {
        let one = |(part, (error, count)): (&&str, &(String, usize))| match count {
            1 => format!("{part}: {error}"),
            count => format!("{part}: {error} ({count} times)"),
        };
        let all: Vec<String> = self.failures.iter().map(one).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// The command that would complete the picture, and what is missing without it.
    pub fn missing_rules(&self, user: &str) -> Option<(String, String)> {
        let lacking: Vec<_> = NEEDS
            .iter()
            .filter(|(part, ..)| self.denied.get(part) == Some(&true))
            .collect();
        if lacking.is_empty() {
            return None;
        }
        let rules: Vec<&str> = lacking.iter().map(|(_, rules, _)| *rules).collect();
        let costs: Vec<&str> = lacking.iter().map(|(.., cost)| *cost).collect();
        Some((
            format!("ACL SETUSER {user} {}", rules.join(" ")),
            costs.join("; "),
        ))
    }
}
