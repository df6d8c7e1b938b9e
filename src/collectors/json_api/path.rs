//! Paths into JSON, a part of JSONPath (RFC 9535) that dashboards and json_exporter's files use:
//!
//! ```text
//! path    = "." | "$" | [ "$" ] [ "." ] name { step }
//! step    = "." name | "[" number "]" | "[" quoted "]" | "[*]" | ".*" | "[?(" test ")]"
//! name    = characters other than . [ ] { } ( ) = ! < > & | and quotes; \ before one of them takes it as it is; or a quoted text
//! quoted  = 'text' or "text"
//! number  = an index from 0, or from the end: -1 is the last
//! test    = "@" { step } [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) ( number | quoted | true | false | null ) ]
//! ```

use std::cmp::Ordering;

use super::document::Json;

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(i64),
    All,
    Where(Box<Test>),
}

/// What `[?(…)]` asks of an element.
#[derive(Debug, Clone, PartialEq)]
struct Test {
    path: Path,
    compared: Option<(Comparison, Literal)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

/// A path that was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Path(Vec<Step>);

/// A value, and the keys or indexes of the steps that found several, outermost first.
#[derive(Debug, Clone)]
pub struct Found<'j> {
    /// The value.
    pub value: &'j Json<'j>,
    /// One for each `[*]`, `.*` and `[?(…)]`.
    pub keys: Vec<String>,
}

impl Path {
    /// Reads a path; the error is a problem and its remedy.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        let mut reader = Reader { rest: text.trim() };
        let path = reader.path()?;
        if reader.rest.is_empty() {
            Ok(path)
        } else {
            Err(unexpected(reader.rest))
        }
    }

    /// Whether it may find several values.
    pub fn is_many(&self) -> bool {
        self.0
            .iter()
            .any(|step| matches!(step, Step::All | Step::Where(_)))
    }

    /// The way up to the last step that finds several, and the way from there.
    pub fn split(mut self) -> (Self, Self) {
        let several = self
            .0
            .iter()
            .rposition(|step| matches!(step, Step::All | Step::Where(_)));
        let rest = self.0.split_off(several.map_or(0, |at| at + 1));
        (self, Path(rest))
    }

    /// The way up to the list or mapping of which it finds several.
    pub fn list(mut self) -> Self {
        let several = |step: &Step| matches!(step, Step::All | Step::Where(_));
        if let Some(at) = self.0.iter().position(several) {
            self.0.truncate(at);
        }
        self
    }

    /// The one value that it finds.
    pub fn find<'j>(&self, root: &'j Json<'j>) -> Option<&'j Json<'j>> {
        if self.is_many() {
            let mut found = self.select(root);
            return if found.len() == 1 {
                found.pop().map(|one| one.value)
            } else {
                None
            };
        }
        self.0.iter().try_fold(root, |value, step| one(value, step))
    }

    /// All values that it finds, in the order of the document.
    pub fn select<'j>(&self, root: &'j Json<'j>) -> Vec<Found<'j>> {
        let mut found = vec![Found {
            value: root,
            keys: Vec::new(),
        }];
        for step in &self.0 {
            found = match step {
                Step::All => found.into_iter().flat_map(Found::members).collect(),
                Step::Where(test) => found
                    .into_iter()
                    .flat_map(Found::members)
                    .filter(|member| test.holds(member.value))
                    .collect(),
                step => found
                    .into_iter()
                    .filter_map(|at| {
                        Some(Found {
                            value: one(at.value, step)?,
                            keys: at.keys,
                        })
                    })
                    .collect(),
            };
        }
        found
    }

    /// What a series is made for: what the path finds, or the members of the list or mapping that
    /// it leads to.
    pub fn elements<'j>(&self, root: &'j Json<'j>) -> Vec<Found<'j>> {
        let found = self.select(root);
        match self.0.last() {
            Some(Step::All | Step::Where(_)) => found,
            _ => found.into_iter().flat_map(Found::members).collect(),
        }
    }
}

impl<'j> Found<'j> {
    fn members(self) -> Vec<Found<'j>> {
        let with = |key: String| {
            let mut keys = self.keys.clone();
            keys.push(key);
            keys
        };
        match self.value {
            Json::List(items) => items
                .iter()
                .enumerate()
                .map(|(i, value)| Found {
                    value,
                    keys: with(i.to_string()),
                })
                .collect(),
            Json::Map(entries) => entries
                .iter()
                .map(|(key, value)| Found {
                    value,
                    keys: with(key.clone().into_owned()),
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn one<'j>(value: &'j Json<'j>, step: &Step) -> Option<&'j Json<'j>> {
    match (step, value) {
        (Step::Key(key), value) => value.get(key),
        (Step::Index(index), Json::List(items)) => {
            let back = usize::try_from(index.unsigned_abs()).ok()?;
            items.get(if *index < 0 {
                items.len().checked_sub(back)?
            } else {
                back
            })
        }
        _ => None,
    }
}

impl Test {
    fn holds(&self, element: &Json<'_>) -> bool {
        let Some(value) = self.path.find(element) else {
            return false;
        };
        let Some((comparison, literal)) = &self.compared else {
            return true;
        };
        let order = match (value, literal) {
            (Json::Number(a), Literal::Number(b)) => a.partial_cmp(b),
            (Json::Text(a), Literal::Text(b)) => Some(a.as_ref().cmp(b.as_str())),
            (Json::Bool(a), Literal::Bool(b)) => Some(a.cmp(b)),
            (Json::Null, Literal::Null) => Some(Ordering::Equal),
            _ => None,
        };
        match comparison {
            Comparison::Equal => order == Some(Ordering::Equal),
            Comparison::NotEqual => order != Some(Ordering::Equal),
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
            Comparison::Greater => order == Some(Ordering::Greater),
            Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

type Mistake = (String, String);

fn mistake(problem: impl Into<String>, remedy: &str) -> Mistake {
    (problem.into(), remedy.to_owned())
}

fn unexpected(rest: &str) -> Mistake {
    let seen: String = rest.chars().take(20).collect();
    mistake(
        format!("has {seen:?} where a step is expected"),
        "give a path such as data.items[0].name or checks[*].status",
    )
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, wanted: &str) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn pass_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn path(&mut self) -> Result<Path, Mistake> {
        if self.rest.is_empty() {
            return Err(mistake(
                "is empty",
                "give a path, or . for the whole answer",
            ));
        }
        let is_rooted = self.take("$");
        if is_rooted && self.rest.starts_with(|c: char| c != '.' && c != '[') {
            return Err(mistake(
                "begins with $",
                "write a key that begins so as ['$key']; $key itself stands in labels only",
            ));
        }
        // A dot alone is the root.
        if self.rest.trim() == "." {
            self.rest = "";
            return Ok(Path::default());
        }
        let mut steps = Vec::new();
        if !is_rooted && !self.rest.starts_with(['.', '[']) {
            steps.push(self.name()?);
        }
        self.steps(&mut steps)?;
        Ok(Path(steps))
    }

    fn steps(&mut self, steps: &mut Vec<Step>) -> Result<(), Mistake> {
        loop {
            if self.rest.starts_with("..") {
                return Err(mistake(
                    "holds .. , which searches at every depth",
                    "name the whole way, step by step",
                ));
            }
            if self.take("[") {
                steps.push(self.bracket()?);
            } else if self.rest.starts_with(".[") {
                self.take(".");
            } else if self.take(".") {
                steps.push(self.name()?);
            } else {
                return Ok(());
            }
        }
    }

    fn name(&mut self) -> Result<Step, Mistake> {
        if self.take("*") {
            return Ok(Step::All);
        }
        if self.rest.starts_with(['\'', '"']) {
            return self.quoted().map(Step::Key);
        }
        let mut name = String::new();
        let mut characters = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
                '.' | '[' | ']' | '{' | '}' | '\'' | '"' | '=' | '!' | '<' | '>' | '(' | ')'
                | '&' | '|' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        self.rest = &self.rest[end..];
        let name = name.trim_end();
        if name.is_empty() {
            Err(unexpected(self.rest))
        } else {
            Ok(Step::Key(name.to_owned()))
        }
    }

    fn quoted(&mut self) -> Result<String, Mistake> {
        let mut characters = self.rest.char_indices();
        let quote = characters.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                c if Some(c) == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(mistake("has a quote that does not end", "close it"))
    }

    fn bracket(&mut self) -> Result<Step, Mistake> {
        self.pass_space();
        let step = if self.take("*") {
            Step::All
        } else if self.take("?") {
            self.pass_space();
            let parenthesis = self.take("(");
            let test = self.test()?;
            self.pass_space();
            if parenthesis && !self.take(")") {
                return Err(mistake(
                    "has a condition with more than one comparison",
                    "give one, such as [?(@.state == 'active')]",
                ));
            }
            Step::Where(Box::new(test))
        } else if self.rest.starts_with(['\'', '"']) {
            Step::Key(self.quoted()?)
        } else {
            let end = self.rest.find(']').unwrap_or(self.rest.len());
            let index = self.rest[..end].trim();
            let index = index.parse().map_err(|_| {
                let remedy = "give an index, '*', a key in quotes, or a condition such as ?(@.state == 'active')";
                mistake(format!("has [{index}], which is no index"), remedy)
            })?;
            self.rest = &self.rest[end..];
            Step::Index(index)
        };
        self.pass_space();
        if self.take("]") {
            Ok(step)
        } else {
            Err(mistake(
                "has a [ that does not end as it should",
                "write one index, key or condition in [ ]",
            ))
        }
    }

    fn test(&mut self) -> Result<Test, Mistake> {
        self.pass_space();
        if !self.take("@") {
            return Err(mistake(
                "has a condition that does not begin with @",
                "write [?(@.key == 'text')]",
            ));
        }
        let mut steps = Vec::new();
        self.steps(&mut steps)?;
        self.pass_space();
        const COMPARISONS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let compared = match COMPARISONS
            .iter()
            .find(|(text, _)| self.rest.starts_with(text))
        {
            Some((text, comparison)) => {
                self.take(text);
                self.pass_space();
                Some((*comparison, self.literal()?))
            }
            None => None,
        };
        Ok(Test {
            path: Path(steps),
            compared,
        })
    }

    fn literal(&mut self) -> Result<Literal, Mistake> {
        if self.rest.starts_with(['\'', '"']) {
            return self.quoted().map(Literal::Text);
        }
        let end = self
            .rest
            .find([')', ']', ' ', '&', '|'])
            .unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        let literal = match word {
            "true" => Literal::Bool(true),
            "false" => Literal::Bool(false),
            "null" => Literal::Null,
            word => Literal::Number(word.parse().map_err(|_| {
                mistake(
                    format!("compares with {word:?}"),
                    "give a number, a text in quotes, true, false or null",
                )
            })?),
        };
        self.rest = &self.rest[end..];
        Ok(literal)
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::parse;
    use super::*;

    const TEXT: &[u8] = r#"{"a":{"b":[{"n":"x","v":1},{"n":"y","v":2.5},{"n":"z","v":"3"}],"d.o.t":4,"键":5,"with space":6},
        "rows":[[1,2],[3]],"$id":7}"#
        .as_bytes();

    fn found(path: &str) -> Vec<String> {
        let json = parse(TEXT).expect("JSON");
        let path = Path::parse(path)
            .unwrap_or_else(|(problem, remedy)| panic!("{path}: {problem}; {remedy}"));
        let show = |value: &Json<'_>| match value {
            Json::Number(n) => n.to_string(),
            Json::Text(t) => t.to_string(),
            other => format!("{other:?}"),
        };
        path.select(&json)
            .iter()
            .map(|f| format!("{}={}", f.keys.join("/"), show(f.value)))
            .collect()
    }

    #[test]
    fn keys_indexes_wildcards_and_conditions_find_their_values() {
        for (path, wanted) in [
            ("a.b[0].n", &["=x"] as &[&str]),
            (".a.b[-1].v", &["=3"]),
            ("$.a['b'][1].v", &["=2.5"]),
            ("a.b[*].v", &["0=1", "1=2.5", "2=3"]),
            ("a.b.*.n", &["0=x", "1=y", "2=z"]),
            ("a.b[?(@.n == 'y')].v", &["1=2.5"]),
            ("a.b[?(@.n==\"y\")].v", &["1=2.5"]),
            ("a.b[?(@.v >= 1)].n", &["0=x", "1=y"]),
            ("a.b[?(@.v != 1)].n", &["1=y", "2=z"]),
            ("a.b[?(@.v < 2)].n", &["0=x"]),
            ("a.b[?(@.q)].n", &[]),
            ("a['d.o.t']", &["=4"]),
            ("a.'d.o.t'", &["=4"]),
            (r"a.d\.o\.t", &["=4"]),
            ("a.键", &["=5"]),
            ("a.with space", &["=6"]),
            ("rows[*][*]", &["0/0=1", "0/1=2", "1/0=3"]),
            ("rows.[1].[0]", &["=3"]),
            ("['$id']", &["=7"]),
            ("a.b[9].n", &[]),
            ("a.b[-9]", &[]),
            ("a.b.n", &[]),
            ("nothing", &[]),
        ] {
            assert_eq!(found(path), wanted, "{path}");
        }
        assert_eq!(found(".").len(), 1);
        assert_eq!(found("$"), found("."));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_remedy() {
        for path in [
            "",
            "..a",
            "a..b",
            "a[0:2]",
            "a[0,1]",
            "a[",
            "a[x]",
            "a['b",
            "$key",
            "a[?(@.x == y)]",
            "a[?(b)]",
            "a[?(@.x && @.y)]",
            "a{b}",
            "a.",
        ] {
            let (problem, remedy) = Path::parse(path).expect_err(path);
            assert!(!problem.is_empty() && !remedy.is_empty(), "{path}");
        }
    }

    #[test]
    fn a_path_is_split_behind_the_last_step_that_finds_several() {
        let (before, after) = Path::parse("a[*].b[*].c.d").expect("a path").split();
        assert_eq!(
            (before, after),
            (
                Path::parse("a[*].b[*]").expect("a path"),
                Path::parse("c.d").expect("a path")
            )
        );
        let (before, after) = Path::parse("a.b").expect("a path").split();
        assert_eq!(
            (before, after),
            (Path::default(), Path::parse("a.b").expect("a path"))
        );
    }
}
