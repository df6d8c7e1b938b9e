//! PromQL text to tokens.
//!
//! What counts as a token depends on where it stands: inside braces every word is a label name,
//! inside brackets there are only durations, elsewhere some words are keywords. The rules, and the
//! words of every refusal, are those of Prometheus 3
//! (<https://prometheus.io/docs/prometheus/latest/querying/basics/>).

use super::ast::{AggregateOp, BinaryOp, Span};
use crate::model::text::quote;

/// A word with a meaning of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::promql) enum Keyword {
    Bool,
    By,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Without,
}

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::promql) enum Kind {
    End,
    Identifier,
    MetricIdentifier,
    Number,
    Duration,
    String,
    Comma,
    Colon,
    Equal,
    EqualRegex,
    NotEqualRegex,
    At,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    AtStart,
    AtEnd,
}

/// A token and its position.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::promql) struct Token<'a> {
    pub kind: Kind,
    pub span: Span,
    pub text: &'a str,
}

impl Token<'_> {
    /// The token in the words of an error message.
    pub fn description(&self) -> String {
        let class = match self.kind {
            Kind::End => return "end of input".into(),
            Kind::Identifier => "identifier",
            Kind::MetricIdentifier => "metric identifier",
            Kind::Number => "number",
            Kind::Duration => "duration",
            Kind::String => "string",
            Kind::Keyword(_) => return format!("<{}>", self.text),
            Kind::Operator(_) | Kind::EqualRegex | Kind::NotEqualRegex | Kind::At => {
                return format!("<op:{}>", self.text);
            }
            Kind::Aggregate(_) => return format!("<aggr:{}>", self.text),
            _ => return shortened(self.text),
        };
        let text = if matches!(self.kind, Kind::Identifier | Kind::MetricIdentifier) {
            quote(self.text)
        } else {
            shortened(self.text)
        };
        format!("{class} {text}")
    }
}

fn shortened(text: &str) -> String {
    if text.len() > 10 {
        let head: String = text.chars().take(10).collect();
        format!("{}...", quote(&head))
    } else {
        quote(text)
    }
}

/// What went wrong at a byte.
#[derive(Debug, PartialEq)]
pub(in crate::promql) struct LexError {
    pub at: usize,
    pub message: String,
}

/// Cuts a text into tokens, one at a time.
pub(in crate::promql) struct Lexer<'a> {
    text: &'a str,
    start: usize,
    pos: usize,
    paren_depth: i64,
    in_braces: bool,
    in_brackets: bool,
    /// Right after `[`, before the first number: only a duration may come.
    duration_due: bool,
    got_colon: bool,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Lexer {
            text,
            start: 0,
            pos: 0,
            paren_depth: 0,
            in_braces: false,
            in_brackets: false,
            duration_due: false,
            got_colon: false,
        }
    }

    /// The next token; after the end, the end again.
    pub fn next(&mut self) -> Result<Token<'a>, LexError> {
        self.skip_blank();
        self.start = self.pos;
        if self.duration_due {
            self.in_duration()
        } else if self.in_braces {
            self.inside_braces()
        } else {
            self.statement()
        }
    }

    fn skip_blank(&mut self) {
        loop {
            self.accept_while(is_space);
            if self.peek() == Some('#') && !self.duration_due {
                self.accept_while(|c| c != '\n' && c != '\r');
            } else {
                return;
            }
        }
    }

    fn statement(&mut self) -> Result<Token<'a>, LexError> {
        let Some(c) = self.bump() else {
            return match () {
                () if self.paren_depth != 0 => self.fail("unclosed left parenthesis"),
                () if self.in_brackets => self.fail("unclosed left bracket"),
                () => self.token(Kind::End),
            };
        };
        match c {
            ',' => self.token(Kind::Comma),
            '*' => self.token(Kind::Operator(BinaryOp::Mul)),
            '/' => self.token(Kind::Operator(BinaryOp::Div)),
            '%' => self.token(Kind::Operator(BinaryOp::Mod)),
            '+' => self.token(Kind::Operator(BinaryOp::Add)),
            '-' => self.token(Kind::Operator(BinaryOp::Sub)),
            '^' => self.token(Kind::Operator(BinaryOp::Pow)),
            '@' => self.token(Kind::At),
            '=' if self.accept('=') => self.token(Kind::Operator(BinaryOp::Equal)),
            '=' if self.peek() == Some('~') => self.fail("unexpected character after '=': '~'"),
            '=' => self.token(Kind::Equal),
            '!' => match self.bump() {
                Some('=') => self.token(Kind::Operator(BinaryOp::NotEqual)),
                other => self.fail(format!(
                    "unexpected character after '!': {}",
                    quote_char(other)
                )),
            },
            '<' if self.accept('=') => self.token(Kind::Operator(BinaryOp::LessOrEqual)),
            '<' => self.token(Kind::Operator(BinaryOp::Less)),
            '>' if self.accept('=') => self.token(Kind::Operator(BinaryOp::GreaterOrEqual)),
            '>' => self.token(Kind::Operator(BinaryOp::Greater)),
            '"' | '\'' => self.quoted(c),
            '`' => self.raw(),
            '(' => self.open_paren(),
            ')' => self.close_paren(),
            '{' => {
                self.in_braces = true;
                self.token(Kind::LeftBrace)
            }
            '[' => self.open_bracket(),
            ']' if !self.in_brackets => self.fail("unexpected right bracket ']'"),
            ']' => {
                self.in_brackets = false;
                self.token(Kind::RightBracket)
            }
            c if c.is_ascii_digit()
                || (c == '.' && self.peek().is_some_and(|d| d.is_ascii_digit())) =>
            {
                self.pos = self.start;
                self.number_or_duration()
            }
            c if is_alpha(c) || c == ':' => self.word(c),
            c => self.fail(format!("unexpected character: {}", quote_char(Some(c)))),
        }
    }

    fn open_paren(&mut self) -> Result<Token<'a>, LexError> {
        self.paren_depth += 1;
        self.token(Kind::LeftParen)
    }

    fn close_paren(&mut self) -> Result<Token<'a>, LexError> {
        self.paren_depth -= 1;
        if self.paren_depth < 0 {
            self.start = self.pos;
            return self.fail("unexpected right parenthesis ')'");
        }
        self.token(Kind::RightParen)
    }

    fn open_bracket(&mut self) -> Result<Token<'a>, LexError> {
        if self.in_brackets {
            return self.fail("unexpected left bracket '['");
        }
        (self.in_brackets, self.duration_due, self.got_colon) = (true, true, false);
        self.token(Kind::LeftBracket)
    }

    /// Right after `[`: numbers, signs and parentheses until the first number.
    fn in_duration(&mut self) -> Result<Token<'a>, LexError> {
        let Some(c) = self.bump() else {
            return self.fail("unexpected end of input in duration expression");
        };
        match c {
            ']' => {
                (self.in_brackets, self.duration_due) = (false, false);
                self.token(Kind::RightBracket)
            }
            ':' => {
                self.start = self.pos;
                self.fail("unexpected colon before duration in duration expression")
            }
            '(' => self.open_paren(),
            ')' => self.close_paren(),
            '+' => self.token(Kind::Operator(BinaryOp::Add)),
            '-' => self.token(Kind::Operator(BinaryOp::Sub)),
            '*' => self.token(Kind::Operator(BinaryOp::Mul)),
            '/' => self.token(Kind::Operator(BinaryOp::Div)),
            '%' => self.token(Kind::Operator(BinaryOp::Mod)),
            '^' => self.token(Kind::Operator(BinaryOp::Pow)),
            c if c.is_ascii_digit()
                || (c == '.' && self.peek().is_some_and(|d| d.is_ascii_digit())) =>
            {
                self.duration_due = false;
                self.pos = self.start;
                self.number_or_duration()
            }
            c => self.fail(format!(
                "unexpected character in duration expression: {}",
                quote_char(Some(c))
            )),
        }
    }

    fn word(&mut self, first: char) -> Result<Token<'a>, LexError> {
        if self.in_brackets {
            return match first {
                ':' if self.got_colon => self.fail("unexpected colon ':'"),
                ':' => {
                    self.got_colon = true;
                    self.token(Kind::Colon)
                }
                other => self.fail(format!(
                    "unexpected character: {}, expected ':'",
                    quote_char(Some(other))
                )),
            };
        }
        self.accept_while(|c| is_alphanumeric(c) || c == ':');
        let word = &self.text[self.start..self.pos];
        self.token(keyword(word).unwrap_or(if word.contains(':') {
            Kind::MetricIdentifier
        } else {
            Kind::Identifier
        }))
    }

    fn inside_braces(&mut self) -> Result<Token<'a>, LexError> {
        let Some(c) = self.bump() else {
            return self.fail("unexpected end of input inside braces");
        };
        match c {
            ',' => self.token(Kind::Comma),
            '"' | '\'' => self.quoted(c),
            '`' => self.raw(),
            '=' if self.accept('~') => self.token(Kind::EqualRegex),
            '=' => self.token(Kind::Equal),
            '!' => match self.bump() {
                Some('~') => self.token(Kind::NotEqualRegex),
                Some('=') => self.token(Kind::Operator(BinaryOp::NotEqual)),
                other => self.fail(format!(
                    "unexpected character after '!' inside braces: {}",
                    quote_char(other)
                )),
            },
            '{' => self.fail("unexpected left brace '{'"),
            '}' => {
                self.in_braces = false;
                self.token(Kind::RightBrace)
            }
            c if is_alpha(c) => {
                self.accept_while(is_alphanumeric);
                self.token(Kind::Identifier)
            }
            c => self.fail(format!(
                "unexpected character inside braces: {}",
                quote_char(Some(c))
            )),
        }
    }

    fn number_or_duration(&mut self) -> Result<Token<'a>, LexError> {
        if self.scan_number() {
            return self.token(Kind::Number);
        }
        if self.scan_duration() {
            return self.token(Kind::Duration);
        }
        self.fail(format!(
            "bad number or duration syntax: {}",
            quote(&self.text[self.start..self.pos])
        ))
    }

    /// Takes what looks like a number; whether it is one, the parser finds out. Stops after the
    /// character that spoils it.
    fn scan_number(&mut self) -> bool {
        let hex = self.accept('0') && self.accept_any("xX");
        let is_digit = move |c: char| {
            if hex {
                c.is_ascii_hexdigit()
            } else {
                c.is_ascii_digit()
            }
        };
        if hex {
            self.accept('_');
        }
        self.accept('.');
        // One digit before the loop: so `0x1e` is refused, as in Prometheus, because its `e` looks
        // like an exponent.
        if self.peek().is_some_and(is_digit) {
            self.bump();
        }
        let (mut dot, mut exponent) = (false, false);
        while let Some(c) = self
            .peek()
            .filter(|c| is_digit(*c) || matches!(c, '.' | '_' | 'e' | 'E'))
        {
            match c {
                '.' => {
                    self.bump();
                    if dot || self.accept_any("_.") || hex {
                        return false;
                    }
                    dot = true;
                }
                'e' | 'E' => {
                    self.bump();
                    if exponent {
                        return false;
                    }
                    exponent = true;
                    self.accept_any("+-");
                    if self.accept_any("._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                '_' => {
                    self.bump();
                    if self.accept_any("._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                _ => self.accept_while(is_digit),
            }
        }
        self.pos > self.start && !self.peek().is_some_and(is_alphanumeric)
    }

    /// Goes on from the digits of a failed number: a unit, then more numbers with units.
    fn scan_duration(&mut self) -> bool {
        if !self.accept_any("smhdwy") {
            return false;
        }
        self.accept('s');
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.accept_while(|c| c.is_ascii_digit());
            if !self.accept_any("smhdw") {
                return false;
            }
            self.accept('s');
        }
        match self.peek() {
            Some(c) if is_alphanumeric(c) => {
                self.bump();
                false
            }
            _ => true,
        }
    }

    fn quoted(&mut self, open: char) -> Result<Token<'a>, LexError> {
        loop {
            match self.bump() {
                Some('\\') => self.escape(open)?,
                Some('\u{fffd}') => return self.fail("invalid UTF-8 rune"),
                None | Some('\n') => return self.fail("unterminated quoted string"),
                Some(c) if c == open => return self.token(Kind::String),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, open: char) -> Result<(), LexError> {
        let first = self.bump();
        let (digits, base, max) = match first {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == open => return Ok(()),
            Some('0'..='7') => (3, 8, 255),
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, 0x10_ffff),
            Some('U') => (8, 16, 0x10_ffff),
            None => return self.fail("escape sequence not terminated"),
            Some(c) => return self.fail(format!("unknown escape sequence {}", code_point(c))),
        };
        let mut value = 0u32;
        for index in 0..digits {
            let c = if base == 8 && index == 0 {
                first
            } else {
                self.bump()
            };
            match c.map(|c| c.to_digit(base).ok_or(c)) {
                Some(Ok(digit)) => value = value.wrapping_mul(base).wrapping_add(digit),
                Some(Err(c)) => {
                    return self.fail(format!(
                        "illegal character {} in escape sequence",
                        code_point(c)
                    ));
                }
                None => return self.fail("escape sequence not terminated"),
            }
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return self.fail("escape sequence is an invalid Unicode code point");
        }
        Ok(())
    }

    fn raw(&mut self) -> Result<Token<'a>, LexError> {
        loop {
            match self.bump() {
                Some('`') => return self.token(Kind::String),
                Some('\u{fffd}') => return self.fail("invalid UTF-8 rune"),
                Some(_) => {}
                None => return self.fail("unterminated raw string"),
            }
        }
    }

    fn token(&self, kind: Kind) -> Result<Token<'a>, LexError> {
        Ok(Token {
            kind,
            span: Span::new(self.start, self.pos),
            text: &self.text[self.start..self.pos],
        })
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, LexError> {
        Err(LexError {
            at: self.start,
            message: message.into(),
        })
    }

    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.pos += wanted.len_utf8();
        }
        found
    }

    fn accept_any(&mut self, wanted: &str) -> bool {
        self.peek()
            .is_some_and(|c| wanted.contains(c) && self.accept(c))
    }

    fn accept_while(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = &self.text[self.pos..];
        self.pos += rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    }
}

fn keyword(word: &str) -> Option<Kind> {
    let word = word.to_ascii_lowercase();
    Some(match word.as_str() {
        "and" => Kind::Operator(BinaryOp::And),
        "or" => Kind::Operator(BinaryOp::Or),
        "unless" => Kind::Operator(BinaryOp::Unless),
        "atan2" => Kind::Operator(BinaryOp::Atan2),
        "bool" => Kind::Keyword(Keyword::Bool),
        "by" => Kind::Keyword(Keyword::By),
        "group_left" => Kind::Keyword(Keyword::GroupLeft),
        "group_right" => Kind::Keyword(Keyword::GroupRight),
        "ignoring" => Kind::Keyword(Keyword::Ignoring),
        "offset" => Kind::Keyword(Keyword::Offset),
        "on" => Kind::Keyword(Keyword::On),
        "without" => Kind::Keyword(Keyword::Without),
        "start" => Kind::AtStart,
        "end" => Kind::AtEnd,
        "inf" | "nan" => Kind::Number,
        other => Kind::Aggregate(AggregateOp::ALL.iter().find(|(_, name)| *name == other)?.0),
    })
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

/// A character as Go's `%q` writes it; the end of the text is the replacement character.
fn quote_char(c: Option<char>) -> String {
    match c {
        None => "'\u{fffd}'".into(),
        Some('\'') => "'\\''".into(),
        Some('"') => "'\"'".into(),
        Some(c) => {
            let quoted = quote(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

/// A character as Go's `%#U` writes it: `U+0071 'q'`.
fn code_point(c: char) -> String {
    if c.is_control() {
        format!("U+{:04X}", c as u32)
    } else {
        format!("U+{:04X} '{c}'", c as u32)
    }
}
