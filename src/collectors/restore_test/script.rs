//! A dump as SQL, on its way to psql: what belongs to a server as a whole, to roles or to
//! extensions that the server does not have is left out and counted, as
//! `pg_restore --no-owner --no-privileges` would do it; what leads psql elsewhere is refused.
//!
//! Quotes, comments and data of COPY are known as psql knows them
//! (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html>), so that a text in a row is
//! never taken for a command.

use std::io::{self, BufRead, Write};

use super::bytes::{Problem, closed, copy, is_word, line, next, peek, tag};
use super::failure::{Failure, Reason};
use super::statement::{Known, Left, Step, decide, extension};
use crate::model::text::visible;

/// A statement that is longer passes as it is, in bytes.
const MAX_STATEMENT: usize = 1 << 20;
/// Most extensions that are named.
const MAX_MISSING: usize = 8;

/// How the way to psql ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of the dump was handed over.
    Whole,
    /// psql takes nothing any longer.
    Closed,
}

/// Where a byte stands.
enum Place {
    Plain,
    /// Within `'…'`; a backslash escapes the next byte.
    Text {
        escapes: bool,
    },
    /// Within `"…"`.
    Name,
    Dollar(Vec<u8>),
    Line,
    Block(u32),
}

/// The filter.
pub struct Filter<'a> {
    known: &'a Known,
    /// Statements left out, by [`Left`].
    pub left: [u64; Left::ALL.len()],
    /// The extensions that the server does not have.
    pub missing: Vec<String>,
    /// Something was created already.
    created: bool,
    begun: bool,
    complete: bool,
    /// A backslash in `'…'` escapes.
    loose: bool,
}

impl<'a> Filter<'a> {
    /// A filter for a server.
    pub fn new(known: &'a Known) -> Self {
        Filter {
            known,
            left: [0; Left::ALL.len()],
            missing: Vec::new(),
            created: false,
            begun: false,
            complete: false,
            loose: false,
        }
    }

    /// Hands the dump on, to its end.
    pub fn run(&mut self, mut input: impl BufRead, mut out: impl Write) -> Result<Ended, Failure> {
        let result = self.hand_on(&mut input, &mut out);
        match result {
            Err(Problem::Out) => Ok(Ended::Closed),
            Err(Problem::In(failure)) => Err(failure),
            Ok(()) if self.begun && !self.complete => Err(Failure::of(
                Reason::Damaged,
                "the dump ends before it is complete",
            )),
            Ok(()) => Ok(Ended::Whole),
        }
    }

    fn hand_on(&mut self, input: &mut impl BufRead, out: &mut impl Write) -> Result<(), Problem> {
        let mut statement = Vec::new();
        loop {
            statement.clear();
            match self.statement(input, &mut statement)? {
                End::File if statement.iter().all(u8::is_ascii_whitespace) => break,
                End::File => {
                    return Err(
                        Failure::of(Reason::Damaged, "the dump ends within a statement").into(),
                    );
                }
                End::TooLong => {
                    match decide(&statement, self.known, self.created)? {
                        Step::Leave(what) => {
                            self.left[what as usize] += 1;
                            self.rest(input, &mut io::sink())?;
                        }
                        Step::Pass { .. } | Step::Copy => {
                            self.created = true;
                            out.write_all(&statement).map_err(closed)?;
                            self.rest(input, out)?;
                        }
                    }
                    continue;
                }
                End::Command => {
                    self.command(&line(input)?)?;
                    continue;
                }
                End::Semicolon => {}
            }
            match decide(&statement, self.known, self.created)? {
                Step::Leave(what) => {
                    self.left[what as usize] += 1;
                    if what == Left::Extensions && self.missing.len() < MAX_MISSING {
                        self.missing
                            .extend(extension(&statement).map(|name| visible(&name).into_owned()));
                    }
                }
                Step::Pass { creates, loose } => {
                    self.created |= creates;
                    self.loose = loose.unwrap_or(self.loose);
                    out.write_all(&statement)
                        .and_then(|()| out.write_all(b"\n"))
                        .map_err(closed)?;
                }
                Step::Copy => {
                    self.created = true;
                    out.write_all(&statement)
                        .and_then(|()| out.write_all(b"\n"))
                        .map_err(closed)?;
                    line(input)?;
                    copy(input, out)?;
                }
            }
        }
        out.flush().map_err(closed)
    }

    /// A line of psql's own.
    fn command(&self, line: &[u8]) -> Result<(), Problem> {
        let text = String::from_utf8_lossy(line);
        match text.split_whitespace().next().unwrap_or_default() {
            "restrict" | "unrestrict" | "." => Ok(()),
            "connect" | "c" if !self.created => Ok(()),
            "connect" | "c" => {
                Err(Failure::of(Reason::Unsupported, "the dump is of several databases").into())
            }
            _ => Err(Failure::of(
                Reason::Unsupported,
                "the dump holds a command of psql that pg_dump does not write",
            )
            .into()),
        }
    }

    /// Reads up to the semicolon that ends a statement. Comments are left out.
    fn statement(&mut self, input: &mut impl BufRead, into: &mut Vec<u8>) -> Result<End, Problem> {
        let mut place = Place::Plain;
        let mut comment = Vec::new();
        while let Some(byte) = next(input)? {
            match &mut place {
                Place::Plain => match byte {
                    b'\\' if into.iter().all(u8::is_ascii_whitespace) => return Ok(End::Command),
                    b'\\' => {
                        return Err(Failure::of(
                            Reason::Unsupported,
                            "a statement holds a command of psql",
                        )
                        .into());
                    }
                    b';' => {
                        into.push(byte);
                        return Ok(End::Semicolon);
                    }
                    b'\'' => {
                        let before = into.len().checked_sub(2).map(|at| into[at]);
                        let prefix = matches!(into.last(), Some(b'e' | b'E'))
                            && !before.is_some_and(is_word);
                        place = Place::Text {
                            escapes: prefix || self.loose,
                        };
                        into.push(byte);
                    }
                    b'"' => {
                        place = Place::Name;
                        into.push(byte);
                    }
                    b'$' if !into.last().copied().is_some_and(is_word) => {
                        into.push(byte);
                        if let Some(tag) = tag(input, into)? {
                            place = Place::Dollar(tag);
                        }
                    }
                    b'-' if peek(input)? == Some(b'-') => {
                        comment.clear();
                        place = Place::Line;
                    }
                    b'/' if peek(input)? == Some(b'*') => {
                        next(input)?;
                        place = Place::Block(1);
                    }
                    _ => into.push(byte),
                },
                Place::Text { escapes } => {
                    into.push(byte);
                    match byte {
                        b'\\' if *escapes => into.extend(next(input)?),
                        // A doubled quote is one quote of the text.
                        b'\'' if peek(input)? == Some(b'\'') => into.extend(next(input)?),
                        b'\'' => place = Place::Plain,
                        _ => {}
                    }
                }
                Place::Name => {
                    into.push(byte);
                    if byte == b'"' {
                        place = Place::Plain;
                    }
                }
                Place::Dollar(tag) => {
                    into.push(byte);
                    if byte == b'$' && into.ends_with(tag) {
                        place = Place::Plain;
                    }
                }
                Place::Line if byte == b'\n' => {
                    self.read_comment(&comment)?;
                    into.push(b'\n');
                    place = Place::Plain;
                }
                Place::Line if comment.len() < 128 => comment.push(byte),
                Place::Line => {}
                Place::Block(depth) => match byte {
                    b'/' if peek(input)? == Some(b'*') => {
                        next(input)?;
                        *depth += 1;
                    }
                    b'*' if peek(input)? == Some(b'/') => {
                        next(input)?;
                        *depth -= 1;
                        if *depth == 0 {
                            into.push(b' ');
                            place = Place::Plain;
                        }
                    }
                    _ => {}
                },
            }
            if into.len() > MAX_STATEMENT && matches!(place, Place::Text { escapes: false }) {
                return Ok(End::TooLong);
            }
            if into.len() > 64 * MAX_STATEMENT {
                return Err(Failure::of(Reason::Unsupported, "a statement is too long").into());
            }
        }
        match place {
            Place::Line => self.read_comment(&comment)?,
            Place::Plain => {}
            _ => {
                return Err(
                    Failure::of(Reason::Damaged, "the dump ends within a text or comment").into(),
                );
            }
        }
        Ok(End::File)
    }

    /// The rest of a statement whose head was handed on from within a text.
    fn rest(&mut self, input: &mut impl BufRead, out: &mut dyn Write) -> Result<(), Problem> {
        loop {
            let piece = input.fill_buf().map_err(Problem::read)?;
            if piece.is_empty() {
                return Err(Failure::of(Reason::Damaged, "the dump ends within a text").into());
            }
            let (end, length) = match memchr::memchr(b'\'', piece) {
                Some(at) => (true, at + 1),
                None => (false, piece.len()),
            };
            out.write_all(&piece[..length]).map_err(closed)?;
            input.consume(length);
            if end && peek(input)? == Some(b'\'') {
                next(input)?;
                out.write_all(b"'").map_err(closed)?;
            } else if end {
                break;
            }
        }
        let mut statement = Vec::new();
        match self.statement(input, &mut statement)? {
            End::Semicolon => out.write_all(&statement).map_err(closed),
            End::TooLong => {
                out.write_all(&statement).map_err(closed)?;
                self.rest(input, out)
            }
            End::File | End::Command => {
                Err(Failure::of(Reason::Damaged, "the dump ends within a statement").into())
            }
        }
    }

    /// Comments say where a dump begins and ends.
    fn read_comment(&mut self, text: &[u8]) -> Result<(), Problem> {
        match text.strip_prefix(b"-").unwrap_or(text).trim_ascii() {
            b"PostgreSQL database dump" => self.begun = true,
            b"PostgreSQL database dump complete" => self.complete = true,
            b"PostgreSQL database cluster dump" => {
                let detail = "the dump is one of a whole cluster (pg_dumpall): its roles and databases are not restored; dump each database";
                return Err(Failure::of(Reason::Unsupported, detail).into());
            }
            _ => {}
        }
        Ok(())
    }
}

/// How the reading of a statement ended.
enum End {
    Semicolon,
    /// At a backslash that begins a command of psql.
    Command,
    /// Within a text.
    TooLong,
    File,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What psql is given, and what was left out; or the reason of the refusal.
    fn filtered(dump: &str) -> Result<(String, [u64; 4]), Reason> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let known = Known {
            extensions: names(&["pg_trgm"]),
            roles: names(&["here"]),
            settings: names(&["lock_timeout"]),
        };
        let mut out = Vec::new();
        let mut filter = Filter::new(&known);
        // A small buffer, so that everything lies across its edge once.
        filter
            .run(io::BufReader::with_capacity(3, dump.as_bytes()), &mut out)
            .map_err(|failure| failure.reason)?;
        let text = String::from_utf8(out).expect("UTF-8");
        Ok((
            text.lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect::<Vec<_>>()
                .join("\n"),
            filter.left,
        ))
    }

    fn passes(dump: &str) {
        assert_eq!(filtered(dump), Ok((dump.trim().to_owned(), [0; 4])));
    }

    #[test]
    fn texts_names_and_rows_are_no_commands() {
        passes("INSERT INTO t VALUES ('\\connect x; -- '' \\! y');\nSELECT 1;");
        passes("SELECT E'a\\'; \\! y', \"a;\\b\", $a$; \\! $$ $b$ $a$, $$;\\c$$, x$1$;");
        passes("COPY public.t (a, b) FROM stdin;\n1\t\\\\.\n\\! y\n\\.x\n;'\n\\.\nSELECT 1;");
        passes(&format!(
            "INSERT INTO t VALUES ('{}''; \\! y', ';');\nSELECT 1;",
            "x".repeat(MAX_STATEMENT + 5)
        ));
        assert_eq!(
            filtered("/* a; /* \\! */ ' */ SELECT /* x */ 1; -- \\! y ' \nSELECT 2;"),
            Ok(("SELECT   1;\nSELECT 2;".into(), [0; 4]))
        );
        assert_eq!(
            filtered("SET standard_conforming_strings = off;\nSELECT 'a\\'; \\! y';")
                .map(|(_, left)| left),
            Ok([0; 4])
        );
    }

    #[test]
    fn what_belongs_to_the_server_or_to_roles_is_left_out() {
        for (statement, left) in [
            ("ALTER TABLE public.t OWNER TO app;", [1, 0, 0, 0]),
            ("GRANT ALL ON t TO app;", [1, 0, 0, 0]),
            (
                "CREATE POLICY p ON t TO here, gone USING (true);",
                [1, 0, 0, 0],
            ),
            (
                "CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;",
                [0, 1, 0, 0],
            ),
            ("SET transaction_timeout = 0;", [0, 0, 1, 0]),
            ("DROP TABLE public.t;", [0, 0, 0, 1]),
            ("ALTER TABLE ONLY public.t DROP CONSTRAINT c;", [0, 0, 0, 1]),
            ("CREATE DATABASE shop;", [0, 0, 0, 1]),
            ("\\connect shop\n", [0; 4]),
            ("\\restrict abc\n", [0; 4]),
        ] {
            assert_eq!(
                filtered(statement),
                Ok((String::new(), left)),
                "{statement}"
            );
        }
        for statement in [
            "CREATE POLICY p ON t TO here, PUBLIC USING (true);",
            "CREATE EXTENSION IF NOT EXISTS \"pg_trgm\";",
            "SET lock_timeout = 0;",
            "CREATE TABLE t (owner text);",
            "CREATE TABLE t ();\nDROP TABLE t;",
        ] {
            passes(statement);
        }
    }

    #[test]
    fn what_leads_elsewhere_or_ends_early_is_refused() {
        for (dump, reason) in [
            ("\\! touch x\n", Reason::Unsupported),
            ("SELECT 1 \\gexec\n;", Reason::Unsupported),
            ("CREATE TABLE t ();\n\\connect live\n", Reason::Unsupported),
            (
                "-- \n-- PostgreSQL database cluster dump\n--\n",
                Reason::Unsupported,
            ),
            ("ALTER USER app PASSWORD 'x';", Reason::Unsupported),
            ("COPY t FROM '/etc/passwd';", Reason::Unsupported),
            ("SET client_encoding = 'GBK';", Reason::Unsupported),
            (
                "--\n-- PostgreSQL database dump\n--\nSELECT 1;",
                Reason::Damaged,
            ),
            ("SELECT 'a", Reason::Damaged),
            ("SELECT 1", Reason::Damaged),
            ("COPY t FROM stdin;\n1\n", Reason::Damaged),
            ("SELECT $a$ $b$;", Reason::Damaged),
        ] {
            assert_eq!(filtered(dump).err(), Some(reason), "{dump}");
        }
    }
}
