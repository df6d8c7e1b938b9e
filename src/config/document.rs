//! A YAML file as a tree whose nodes know their position.
//!
//! The events come from granit-parser, the parser below serde_yaml (serde-saphyr), because serde
//! keeps neither the position of a key nor the text of a plain scalar. Anchors, aliases and `<<`
//! merges are resolved here; repeated keys are errors; the number of nodes is bounded, so that a
//! file of aliases to aliases cannot exhaust memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use granit_parser::{Event, Parser, Span};

use super::error::ConfigError;
use super::position::Position;

/// Greatest number of nodes after aliases are resolved.
const MAX_NODES: usize = 2_000_000;
/// Greatest depth of nesting.
const MAX_DEPTH: usize = 100;

/// How a scalar was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScalarStyle {
    /// Without quotes: `null`, numbers and booleans are recognised.
    Plain,
    /// In single or double quotes: always text.
    Quoted,
    /// A `|` block: line breaks kept.
    Literal,
    /// A `>` block: line breaks folded.
    Folded,
    /// Tagged `!!binary`: the characters stand for bytes, U+0000 to U+00FF.
    Binary,
}

/// A node of the tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where the value begins.
    pub position: Position,
    /// Byte offset in the source where the value begins (for a block scalar: its `|` or `>`).
    pub offset: usize,
    /// What it is.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// A scalar, its text after YAML escapes.
    Scalar {
        /// The text.
        text: String,
        /// How it was written.
        style: ScalarStyle,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in file order; each key with its own position.
    Map(Vec<(String, Position, Node)>),
}

impl Node {
    /// Whether this is an empty or `null` or `~` plain scalar.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, style: ScalarStyle::Plain } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// An empty mapping at the same position, to build a node from.
    pub fn empty_at_same_position(&self) -> Node {
        Node {
            position: self.position,
            offset: self.offset,
            value: Value::Map(Vec::new()),
        }
    }

    /// What the node is, in words.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _, _)| k == key).map(|(_, _, v)| v),
            _ => None,
        }
    }
}

/// A parsed file.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file's name as the user gave it, for messages.
    pub file: String,
    /// The text it was parsed from.
    pub source: Arc<str>,
    /// The first document's root; an empty file is an empty mapping.
    pub root: Node,
    /// Whether further YAML documents follow, which are ignored.
    pub has_more: bool,
}

impl Document {
    /// Reads and parses a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let fail = |problem: String, remedy: &str| ConfigError {
            file: file.clone(),
            position: None,
            key: String::new(),
            problem,
            remedy: remedy.into(),
            non_fatal: false,
        };
        let bytes = std::fs::read(path).map_err(|e| {
            fail(
                format!("cannot be read: {e}"),
                "check the path and its permissions",
            )
        })?;
        let text = String::from_utf8(bytes)
            .map_err(|_| fail("is not UTF-8 text".into(), "save it as UTF-8"))?;
        Self::parse(&file, &text)
    }

    /// Parses text; `file` is used in messages only.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        // Some editors put a byte order mark before the first character.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut indented = Indented::default();
        loop {
            let padded = indented.text(text);
            let parser = Parser::new_from_str(&padded);
            let mut composer = Composer {
                file,
                source: &padded,
                parser,
                anchors: HashMap::new(),
                nodes: 0,
                unindented: None,
            };
            match (composer.document(), composer.unindented) {
                (Ok((mut root, has_more)), _) => {
                    indented.undo(&mut root);
                    return Ok(Document {
                        file: file.into(),
                        source: Arc::from(text),
                        root,
                        has_more,
                    });
                }
                (Err(error), Some(line)) if !indented.add(text, line) => return Err(error),
                (Err(error), None) => return Err(error),
                _ => {}
            }
        }
    }
}

/// Lines within quoted texts that are not indented deeper than what the text belongs to. The reader
/// of Prometheus and Alertmanager takes them, the parser here does not; what stands before such a
/// line is dropped from the text anyway, so they are indented for the parser.
#[derive(Default)]
struct Indented {
    /// Offsets of their beginnings, in order.
    lines: Vec<usize>,
    /// How many spaces come before each.
    spaces: usize,
}

/// Most lines that are indented in one file: each one is another reading.
const MAX_INDENTED: usize = 1000;

impl Indented {
    /// Notes a line, from 1; false when that is of no use.
    fn add(&mut self, text: &str, line: usize) -> bool {
        let start = line
            .checked_sub(2)
            .and_then(|n| memchr::memchr_iter(b'\n', text.as_bytes()).nth(n))
            .map(|end| end + 1);
        let Some(start) =
            start.filter(|start| !self.lines.contains(start) && self.lines.len() < MAX_INDENTED)
        else {
            return false;
        };
        if self.spaces == 0 {
            let blanks = |line: &str| line.len() - line.trim_start_matches(' ').len();
            self.spaces = text.lines().map(blanks).max().unwrap_or(0) + 1;
        }
        self.lines.push(start);
        self.lines.sort_unstable();
        true
    }

    fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.lines.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut padded = String::with_capacity(text.len() + self.lines.len() * self.spaces);
        let mut from = 0;
        for start in &self.lines {
            padded.push_str(&text[from..*start]);
            padded.extend(std::iter::repeat_n(' ', self.spaces));
            from = *start;
        }
        padded.push_str(&text[from..]);
        Cow::Owned(padded)
    }

    /// Gives the nodes their positions in the text as it is. None begins on a line that was
    /// indented.
    fn undo(&self, node: &mut Node) {
        if self.lines.is_empty() {
            return;
        }
        let before = self
            .lines
            .iter()
            .enumerate()
            .take_while(|(n, start)| **start + n * self.spaces < node.offset)
            .count();
        node.offset -= before * self.spaces;
        match &mut node.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| self.undo(item)),
            Value::Map(entries) => entries
                .iter_mut()
                .for_each(|(_, _, value)| self.undo(value)),
        }
    }
}

struct Composer<'a> {
    file: &'a str,
    source: &'a str,
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// The line, from 1, of a quoted text that goes on without being indented deeper, where that
    /// ended the reading.
    unindented: Option<usize>,
}

impl<'a> Composer<'a> {
    fn document(&mut self) -> Result<(Node, bool), ConfigError> {
        let empty = Node {
            position: Position { line: 1, column: 1 },
            offset: 0,
            value: Value::Map(Vec::new()),
        };
        loop {
            match self.next()? {
                Some((Event::DocumentStart(..), _)) => break,
                Some((Event::StreamEnd, _)) | None => return Ok((empty, false)),
                Some(_) => {}
            }
        }
        let Some((event, span)) = self.next()? else {
            return Ok((empty, false));
        };
        let root = self.node(event, span, 0)?;
        let root = if root.is_null() { empty } else { root };
        loop {
            match self.next()? {
                Some((Event::DocumentStart(..), _)) => return Ok((root, true)),
                Some((Event::StreamEnd, _)) | None => return Ok((root, false)),
                Some(_) => {}
            }
        }
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, ConfigError> {
        loop {
            match self.parser.next() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(pair)) => return Ok(Some(pair)),
                Some(Err(e)) => {
                    let mark = e.marker();
                    if *e.kind() == granit_parser::ErrorKind::InvalidQuotedScalarIndent {
                        self.unindented = Some(mark.line());
                    }
                    let position = Position {
                        line: mark.line() as u32,
                        column: mark.col() as u32 + 1,
                    };
                    return Err(self.error(
                        position,
                        format!("not valid YAML: {}", e.info()),
                        "check the indentation and the quotes near this place",
                    ));
                }
            }
        }
    }

    fn expect_next(&mut self) -> Result<(Event<'a>, Span), ConfigError> {
        self.next()?.ok_or_else(|| {
            self.error(
                Position::default(),
                "not valid YAML: it ends in the middle".into(),
                "",
            )
        })
    }

    fn error(&self, position: Position, problem: String, remedy: &str) -> ConfigError {
        ConfigError {
            file: self.file.into(),
            position: Some(position),
            key: String::new(),
            problem,
            remedy: remedy.into(),
            non_fatal: false,
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, ConfigError> {
        let (mut position, mut offset) = (start_of(&span), span.start.byte_offset().unwrap_or(0));
        if let Event::Scalar(
            _,
            granit_parser::ScalarStyle::Literal | granit_parser::ScalarStyle::Folded,
            ..,
        ) = &event
        {
            (position, offset) = block_header(self.source, offset).unwrap_or((position, offset));
        }
        self.nodes += 1;
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return Err(self.error(
                position,
                format!("more than {MAX_NODES} values or {MAX_DEPTH} levels"),
                "split the file or use fewer aliases",
            ));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, _, anchor, Some(tag))
                if tag
                    .suffix_in_namespace("tag:yaml.org,2002:")
                    .is_some_and(|kind| kind == "binary") =>
            {
                let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
                let bytes = base64::engine::general_purpose::STANDARD.decode(packed);
                let bytes = bytes.map_err(|_| {
                    self.error(
                        position,
                        "!!binary is not followed by base64".into(),
                        "check it with base64 -d",
                    )
                })?;
                (
                    anchor,
                    Value::Scalar {
                        text: bytes.into_iter().map(char::from).collect(),
                        style: ScalarStyle::Binary,
                    },
                )
            }
            Event::Scalar(text, style, anchor, tag) => {
                let style = match style {
                    granit_parser::ScalarStyle::Plain if tag.is_some() => ScalarStyle::Quoted,
                    granit_parser::ScalarStyle::Plain => ScalarStyle::Plain,
                    granit_parser::ScalarStyle::Literal => ScalarStyle::Literal,
                    granit_parser::ScalarStyle::Folded => ScalarStyle::Folded,
                    _ => ScalarStyle::Quoted,
                };
                (
                    anchor,
                    Value::Scalar {
                        text: text.into_owned(),
                        style,
                    },
                )
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.expect_next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (anchor, Value::List(items))
            }
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping(depth)?),
            Event::Alias(id) => {
                let target = self.anchors.get(&id).cloned();
                let node = target.ok_or_else(|| {
                    self.error(
                        position,
                        "alias to a value that contains it".into(),
                        "write the value out",
                    )
                })?;
                self.nodes += count(&node);
                return Ok(node);
            }
            other => {
                return Err(self.error(position, format!("unexpected YAML event {other:?}"), ""));
            }
        };
        let node = Node {
            position,
            offset,
            value,
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, ConfigError> {
        let mut entries: Vec<(String, Position, Node)> = Vec::new();
        let mut merged: Vec<Node> = Vec::new();
        loop {
            let (event, span) = self.expect_next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.expect_next()?;
            let value = self.node(event, span, depth + 1)?;
            let Value::Scalar { text, style } = key.value else {
                return Err(self.error(key.position, "a key must be a single word".into(), ""));
            };
            if text == "<<" && style == ScalarStyle::Plain {
                merged.push(value);
            } else if let Some((_, first, _)) = entries.iter().find(|(k, _, _)| *k == text) {
                let problem = format!("key {text:?} already stands at line {}", first.line);
                return Err(self.error(key.position, problem, "remove one of the two"));
            } else {
                entries.push((text, key.position, value));
            }
        }
        for node in merged {
            self.merge(&mut entries, node)?;
        }
        Ok(Value::Map(entries))
    }

    fn merge(
        &self,
        entries: &mut Vec<(String, Position, Node)>,
        node: Node,
    ) -> Result<(), ConfigError> {
        match node.value {
            Value::Map(more) => {
                for (key, position, value) in more {
                    if !entries.iter().any(|(k, _, _)| *k == key) {
                        entries.push((key, position, value));
                    }
                }
                Ok(())
            }
            Value::List(items) => items
                .into_iter()
                .try_for_each(|item| self.merge(entries, item)),
            Value::Scalar { .. } => Err(self.error(
                node.position,
                "\"<<\" merges a mapping".into(),
                "give it an alias such as *defaults",
            )),
        }
    }
}

fn start_of(span: &Span) -> Position {
    Position {
        line: span.start.line() as u32,
        column: span.start.col() as u32 + 1,
    }
}

/// The position of the `|` or `>` of the block scalar whose text begins at `content`: the parser
/// reports only the latter.
fn block_header(source: &str, content: usize) -> Option<(Position, usize)> {
    let before = source.get(..content)?;
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    let header_end = before[..line_start].trim_end().len();
    let header_start = before[..header_end].rfind('\n').map_or(0, |n| n + 1);
    let header = &before[header_start..header_end];
    let opens = |rest: &str| {
        let after =
            rest[1..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '+' || c == '-');
        after.trim().is_empty() || after.trim_start().starts_with('#')
    };
    let at = header
        .char_indices()
        .find(|(i, c)| matches!(c, '|' | '>') && opens(&header[*i..]))?
        .0;
    let line = u32::try_from(source[..header_start].matches('\n').count() + 1).ok()?;
    let column = u32::try_from(header[..at].chars().count() + 1).ok()?;
    Some((Position { line, column }, header_start + at))
}

fn count(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 1,
        Value::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, _, v)| count(v)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Node {
        Document::parse("t.yml", text).expect("valid").root
    }

    #[test]
    fn nodes_know_their_place() {
        let root = parse("a: 1\nb:\n  - x\n  - {c: 'd'}\n");
        let Some(Value::List(items)) = root.get("b").map(|n| &n.value) else {
            panic!("a list")
        };
        assert_eq!(items[0].position, Position { line: 3, column: 5 });
        assert_eq!(
            items[1].get("c").map(|n| n.position),
            Some(Position { line: 4, column: 9 })
        );
    }

    #[test]
    fn a_block_scalar_stands_at_its_header() {
        let root = parse("a: x\nb: |2- # why > not\n\n    text\n  more\nc: >\n  folded\n");
        let place = |key: &str| root.get(key).map(|n| (n.position, n.offset));
        assert_eq!(place("b"), Some((Position { line: 2, column: 4 }, 8)));
        assert_eq!(place("c"), Some((Position { line: 6, column: 4 }, 44)));
    }

    #[test]
    fn merge_keys_yield_to_written_keys() {
        let root = parse("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n");
        let used = root.get("use").expect("there");
        let text = |k: &str| match used.get(k).map(|n| &n.value) {
            Some(Value::Scalar { text, .. }) => text.clone(),
            _ => String::new(),
        };
        assert_eq!((text("x"), text("y")), ("1".into(), "3".into()));
    }

    #[test]
    fn repeated_keys_and_broken_yaml_name_their_place() {
        let twice = Document::parse("t.yml", "a: 1\na: 2\n").expect_err("twice");
        assert_eq!(
            twice.to_string(),
            "t.yml:2:1: key \"a\" already stands at line 1; remove one of the two"
        );
        assert!(
            Document::parse("t.yml", "a: [1\nb: 2")
                .expect_err("open")
                .position
                .is_some()
        );
    }

    /// As go-yaml reads it, in both kinds of quotes and at any depth; what follows keeps its
    /// position.
    #[test]
    fn a_quoted_text_may_go_on_without_being_indented_deeper() {
        let text =
            "a:\n  - expr: 'up{\n  job=\"x\"\n\nand\n  } == 0'\n    b: \"x\n    y\\n\n y\"\nc: d\n";
        let root = parse(text);
        let Some(Value::List(items)) = root.get("a").map(|n| &n.value) else {
            panic!("a list")
        };
        let scalar = |node: Option<&Node>| match node.map(|n| &n.value) {
            Some(Value::Scalar { text, .. }) => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(scalar(items[0].get("expr")), "up{ job=\"x\"\nand } == 0");
        assert_eq!(scalar(items[0].get("b")), "x y\n y");
        let last = root.get("c").expect("there");
        assert_eq!(
            (last.position, &text[last.offset..]),
            (
                Position {
                    line: 10,
                    column: 4
                },
                "d\n"
            )
        );
        let open = Document::parse("t.yml", "a: 'x\ny\nb: 1\n").expect_err("never closed");
        assert!(open.to_string().contains("quote"), "{open}");
    }

    #[test]
    fn a_binary_value_is_its_bytes() {
        let root = parse("a: !!binary AAH/\nb: !!str 1\n");
        let text = String::from("\u{0}\u{1}\u{ff}");
        assert!(
            matches!(&root.get("a").expect("there").value, Value::Scalar { text: t, style: ScalarStyle::Binary } if *t == text)
        );
        assert!(
            matches!(&root.get("b").expect("there").value, Value::Scalar { text, style: ScalarStyle::Quoted } if text == "1")
        );
        let error = Document::parse("t.yml", "a: !!binary '=x'\n").expect_err("no base64");
        assert_eq!(
            error.to_string(),
            "t.yml:1:13: !!binary is not followed by base64; check it with base64 -d"
        );
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            text.push_str(&format!(
                "a{i}: &a{i} [{}]\n",
                vec![format!("*a{}", i - 1); 10].join(",")
            ));
        }
        assert!(Document::parse("t.yml", &text).is_err());
    }
}
