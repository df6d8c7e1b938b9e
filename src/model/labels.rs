//! Label sets: sorted by name, without empty values, in one shared allocation.
//!
//! The text of a set is `name value name value …`, each with its length before it in digits that
//! are ASCII, so that the whole stays valid UTF-8: equality, hashing and cloning touch one string,
//! and 50,000 series cost 50,000 allocations, not a million. Names that most series carry are one
//! byte: of a set's text they would be a third.

use std::cmp::Ordering;
use std::fmt;

use arcstr::ArcStr;

use super::text::quote;

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";
/// The name, and the labels that go with it: what is computed from a series has none of them.
pub const METADATA: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// Whether a label is one of [`METADATA`].
pub fn is_metadata(name: &str) -> bool {
    name.starts_with("__") && METADATA.contains(&name)
}

/// A sorted label set; cheap to clone, hash and compare. A label with an empty value is the same as
/// no label.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(ArcStr);

impl Labels {
    /// The set with no labels.
    pub fn empty() -> Self {
        Labels(ArcStr::new())
    }

    /// Builds a set from pairs in any order; the last value of a repeated name wins, empty values
    /// vanish.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut builder = LabelsBuilder::new();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Builds a set from pairs that usually are in order already, as they are where a set was written
    /// down: without an allocation for each of them.
    pub(crate) fn from_written(pairs: &[(&str, &str)]) -> Self {
        let in_order = pairs.is_sorted_by(|(a, _), (b, _)| a < b);
        if !in_order || pairs.iter().any(|(_, value)| value.is_empty()) {
            return Labels::from_pairs(pairs.iter().copied());
        }
        let length = pairs.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
        let mut text = String::with_capacity(length);
        for (name, value) in pairs {
            put_name(&mut text, name);
            put(&mut text, value, DIGIT);
        }
        Labels(ArcStr::from(text))
    }

    /// The value of `name`, or `None` when the label is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The value of `name`, or `""` when it is absent: what matching and grouping see.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The metric name, `""` when there is none.
    pub fn metric_name(&self) -> &str {
        self.value(METRIC_NAME)
    }

    /// The pairs, sorted by name.
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter { rest: &self.0 }
    }

    /// Number of labels, the metric name included.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes this set occupies on the heap, for memory accounting.
    pub fn heap_size(&self) -> usize {
        self.0.len() + 2 * size_of::<usize>()
    }

    /// A builder that starts from this set.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder {
            pairs: self
                .iter()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect(),
        }
    }

    /// This set without the labels that go with the metric's name, and it.
    pub fn without_metadata(&self) -> Labels {
        self.filtered(|name| !is_metadata(name))
    }

    /// This set without the metric name.
    pub fn without_name(&self) -> Labels {
        self.filtered(|name| name != METRIC_NAME)
    }

    /// The labels whose name passes `keep`.
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Labels {
        let mut text = String::with_capacity(self.0.len());
        let mut rest: &str = &self.0;
        while !rest.is_empty() {
            let (name, after_name) = take_name(rest);
            let (_, after) = take(after_name, DIGIT);
            if keep(name) {
                text.push_str(&rest[..rest.len() - after.len()]);
            }
            rest = after;
        }
        Labels(ArcStr::from(text))
    }

    /// This set with `name` set to `value` (removed when empty).
    pub fn with(&self, name: &str, value: &str) -> Labels {
        let mut builder = self.to_builder();
        builder.set(name, value);
        builder.build()
    }

    /// Alertmanager's fingerprint: FNV-1a 64 over `name 0xFF value 0xFF` in name order.
    pub fn fingerprint(&self) -> u64 {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut step =
            |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        for (name, value) in self.iter() {
            name.bytes().for_each(&mut step);
            step(0xff);
            value.bytes().for_each(&mut step);
            step(0xff);
        }
        hash
    }

    /// `{a="b", c="d"}` with the metric name as an ordinary label.
    pub fn braced(&self) -> String {
        let mut out = String::from("{");
        write_pairs(&mut out, self.iter());
        out.push('}');
        out
    }
}

impl Default for Labels {
    fn default() -> Self {
        Labels::empty()
    }
}

impl Ord for Labels {
    /// Prometheus's order: pair by pair (name, then value), a prefix first.
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The way Prometheus prints a series: `name{a="b", c="d"}`, `{}` for the empty set.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        let bare = super::text::is_legacy_metric_name(name);
        let mut out = String::new();
        if bare {
            write_pairs(&mut out, self.iter().filter(|(n, _)| *n != METRIC_NAME));
            f.write_str(name)?;
            if out.is_empty() {
                return Ok(());
            }
        } else {
            if !name.is_empty() {
                out.push_str(&quote(name));
                if self.len() > 1 {
                    out.push_str(", ");
                }
            }
            write_pairs(&mut out, self.iter().filter(|(n, _)| *n != METRIC_NAME));
        }
        write!(f, "{{{out}}}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn write_pairs<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    for (index, (name, value)) in pairs.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        if super::text::is_legacy_label_name(name) {
            out.push_str(name);
        } else {
            out.push_str(&quote(name));
        }
        out.push('=');
        out.push_str(&quote(value));
    }
}

/// Iterator over the pairs of a [`Labels`].
#[derive(Clone)]
pub struct LabelsIter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (name, rest) = take_name(self.rest);
        let (value, rest) = take(rest, DIGIT);
        self.rest = rest;
        Some((name, value))
    }
}

/// Names that are written as one byte. The list may change from version to version: the text is
/// never stored.
#[rustfmt::skip]
const USUAL: [&str; 48] = [
    METRIC_NAME, "instance", "job", "le", "quantile", "alertname", "alertstate", "severity", "code", "status", "method", "path", "route",
    "handler", "endpoint", "operation", "service", "component", "name", "type", "kind", "state", "mode", "reason", "version", "env",
    "team", "tenant", "host", "node", "namespace", "pod", "container", "image", "shard", "device", "cpu", "fstype", "mountpoint",
    "interface", "database", "datname", "table", "queue", "topic", "cluster", "model", "provider",
];

/// Bits of a value's length in one digit; the bit above them says that more digits follow.
const DIGIT: u32 = 6;
/// The same for a name, which leaves a bit that marks one of [`USUAL`].
const NAME_DIGIT: u32 = 5;
const MARK: u8 = 0x40;

fn put(text: &mut String, part: &str, digit: u32) {
    let more = 1_u8 << digit;
    let mut length = part.len();
    loop {
        let low = length as u8 & (more - 1);
        length >>= digit;
        if length == 0 {
            text.push(char::from(low));
            break;
        }
        text.push(char::from(low | more));
    }
    text.push_str(part);
}

fn put_name(text: &mut String, name: &str) {
    match USUAL.iter().position(|usual| *usual == name) {
        Some(index) => text.push(char::from(MARK | index as u8)),
        None => put(text, name, NAME_DIGIT),
    }
}

fn take(text: &str, digit: u32) -> (&str, &str) {
    let more = 1_u8 << digit;
    let mut length = 0;
    for (index, byte) in text.bytes().enumerate() {
        length |= usize::from(byte & (more - 1)) << (digit as usize * index);
        if byte & more == 0 {
            let body = &text[index + 1..];
            return body.split_at(length);
        }
    }
    ("", "")
}

fn take_name(text: &str) -> (&str, &str) {
    match text.as_bytes().first() {
        Some(byte) if byte & MARK != 0 => {
            (USUAL[usize::from(byte & !MARK) % USUAL.len()], &text[1..])
        }
        _ => take(text, NAME_DIGIT),
    }
}

/// Assembles a [`Labels`]. Keeps its pairs sorted by name.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// The current value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).ok().map(|i| self.pairs[i].1.as_str())
    }

    /// Sets `name`; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match (self.find(name), value.is_empty()) {
            (Ok(i), true) => {
                self.pairs.remove(i);
            }
            (Ok(i), false) => value.clone_into(&mut self.pairs[i].1),
            (Err(_), true) => {}
            (Err(i), false) => self.pairs.insert(i, (name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Sets `name` to a text that may be empty: for what is said about labels, where a label set to
    /// nothing differs from one of which nothing is said. The set is then no series' set.
    pub fn put(&mut self, name: &str, text: &str) -> &mut Self {
        match self.find(name) {
            Ok(i) => text.clone_into(&mut self.pairs[i].1),
            Err(i) => self.pairs.insert(i, (name.to_owned(), text.to_owned())),
        }
        self
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// Keeps the labels whose name and value pass.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(n, v)| keep(n, v));
        self
    }

    /// The pairs so far, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The finished set.
    pub fn build(&self) -> Labels {
        let mut text =
            String::with_capacity(self.pairs.iter().map(|(n, v)| n.len() + v.len() + 4).sum());
        for (name, value) in &self.pairs {
            put_name(&mut text, name);
            put(&mut text, value, DIGIT);
        }
        Labels(ArcStr::from(text))
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_empty_values_vanish() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!(labels.get("c"), None);
    }

    #[test]
    fn long_and_non_ascii_values_round_trip() {
        let long = "x".repeat(70_000);
        let labels = Labels::from_pairs([("ключ", "значение"), ("long", long.as_str())]);
        assert_eq!(labels.get("long"), Some(long.as_str()));
        assert_eq!(labels.get("ключ"), Some("значение"));
        for length in [
            1, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 4095, 4096, 40_000,
        ] {
            let (name, value) = ("n".repeat(length), "v".repeat(length));
            let labels = Labels::from_pairs([(name.as_str(), value.as_str()), ("le", "1")]);
            assert_eq!(
                labels.iter().collect::<Vec<_>>(),
                [("le", "1"), (name.as_str(), value.as_str())]
            );
        }
    }

    #[test]
    fn usual_names_are_names_like_others() {
        assert!(USUAL.len() <= usize::from(MARK));
        let pairs: Vec<(&str, String)> = USUAL
            .iter()
            .enumerate()
            .map(|(index, name)| (*name, index.to_string()))
            .collect();
        let labels = Labels::from_pairs(pairs.iter().map(|(name, value)| (*name, value.as_str())));
        assert_eq!(labels.len(), USUAL.len(), "each once");
        for (name, value) in &pairs {
            assert_eq!(labels.get(name), Some(value.as_str()));
        }
        assert_eq!(
            labels
                .filtered(|name| name == "job")
                .iter()
                .collect::<Vec<_>>(),
            [("job", "2")]
        );
        assert_eq!(
            Labels::from_pairs([("job", "a"), ("jobs", "b"), ("jo", "c")]).to_string(),
            r#"{jo="c", job="a", jobs="b"}"#
        );
    }

    /// SEMANTICS 135: the published vectors.
    #[test]
    fn fingerprints_equal_alertmanagers() {
        assert_eq!(
            format!("{:016x}", Labels::empty().fingerprint()),
            "cbf29ce484222325"
        );
        assert_eq!(
            format!(
                "{:016x}",
                Labels::from_pairs([("alertname", "X")]).fingerprint()
            ),
            "d2aeefc389ca7746"
        );
        let down = Labels::from_pairs([
            ("alertname", "InstanceDown"),
            ("instance", "localhost:9090"),
        ]);
        assert_eq!(format!("{:016x}", down.fingerprint()), "1ad38065f8e21903");
    }

    #[test]
    fn series_print_as_prometheus_prints_them() {
        let labels = Labels::from_pairs([(METRIC_NAME, "up"), ("job", "a\"b")]);
        assert_eq!(labels.to_string(), r#"up{job="a\"b"}"#);
        assert_eq!(Labels::empty().to_string(), "{}");
        assert_eq!(Labels::from_pairs([(METRIC_NAME, "up")]).to_string(), "up");
        assert_eq!(
            Labels::from_pairs([(METRIC_NAME, "a.b"), ("x", "1")]).to_string(),
            r#"{"a.b", x="1"}"#
        );
    }

    #[test]
    fn order_is_pair_by_pair_with_a_prefix_first() {
        let a = Labels::from_pairs([("a", "1")]);
        let ab = Labels::from_pairs([("a", "1"), ("b", "1")]);
        let b = Labels::from_pairs([("b", "0")]);
        assert!(a < ab && ab < b);
    }
}
