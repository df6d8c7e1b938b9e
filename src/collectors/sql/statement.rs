//! A statement as the configuration gives it: one, that reads. Its quotes and comments are known,
//! as each server reads them.
//!
//! This finds mistakes before anything is asked; that nothing is written is the server's own doing:
//! the statement runs as a part of a SELECT, in a read-only transaction, by a protocol that takes
//! one statement.

/// Whose SQL it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
    /// MySQL and MariaDB.
    Mysql,
}

/// A statement without the semicolon at its end.
#[derive(PartialEq, Eq)]
pub struct Statement {
    /// The text.
    pub text: String,
    /// What stands between quotes in it, longest first: servers quote it in their messages.
    pub literals: Vec<String>,
}

/// What cannot be taken, and what to write instead. Neither holds a part of the statement but its
/// words.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The problem.
    pub problem: String,
    /// The remedy.
    pub remedy: &'static str,
}

const READS: &str = "give one SELECT; WITH, VALUES and TABLE may begin it, too";
const CLOSE: &str = "close it";

/// Functions that change something although the transaction is read-only: locks of the session,
/// other sessions, the server itself.
const CHANGES: [(Dialect, &[&str]); 3] = [
    (
        Dialect::Postgres,
        &[
            "dblink",
            "dblink_exec",
            "dblink_connect",
            "dblink_send_query",
            "lo_export",
            "lo_import",
            "pg_advisory_lock",
            "pg_advisory_lock_shared",
            "pg_backup_start",
            "pg_backup_stop",
            "pg_cancel_backend",
            "pg_copy_logical_replication_slot",
            "pg_copy_physical_replication_slot",
            "pg_create_logical_replication_slot",
            "pg_create_physical_replication_slot",
            "pg_create_restore_point",
            "pg_drop_replication_slot",
            "pg_file_rename",
            "pg_file_unlink",
            "pg_file_write",
            "pg_log_backend_memory_contexts",
            "pg_logical_emit_message",
            "pg_logical_slot_get_binary_changes",
            "pg_logical_slot_get_changes",
            "pg_promote",
            "pg_reload_conf",
            "pg_replication_slot_advance",
            "pg_rotate_logfile",
            "pg_start_backup",
            "pg_stat_reset",
            "pg_stat_reset_shared",
            "pg_stat_reset_single_function_counters",
            "pg_stat_reset_single_table_counters",
            "pg_stat_reset_slru",
            "pg_stat_statements_reset",
            "pg_stop_backup",
            "pg_switch_wal",
            "pg_terminate_backend",
            "pg_try_advisory_lock",
            "pg_try_advisory_lock_shared",
            "pg_wal_replay_pause",
            "pg_wal_replay_resume",
        ],
    ),
    (Dialect::Sqlite, &["load_extension"]),
    (
        Dialect::Mysql,
        &["get_lock", "release_all_locks", "release_lock"],
    ),
];

impl Statement {
    /// Reads the text.
    pub fn read(text: &str, dialect: Dialect) -> Result<Self, Refusal> {
        let mut scan = Scan {
            dialect,
            rest: text,
            code: String::with_capacity(text.len()),
            literals: Vec::new(),
        };
        let mut end = text.len();
        let mut ended = false;
        while let Some(next) = scan.rest.chars().next() {
            let at = text.len() - scan.rest.len();
            let before = scan.code.len();
            scan.step(next)?;
            let added = scan.code[before..].trim_matches(';').trim();
            if ended && !added.is_empty() {
                return Err(Refusal {
                    problem: "holds several statements".into(),
                    remedy: "give each a query of its own",
                });
            }
            if next == ';' && scan.code.ends_with(';') && !ended {
                (end, ended) = (at, true);
            }
        }
        let words: Vec<&str> = scan
            .code
            .split(|c: char| !c.is_alphanumeric() && c != '_' && c != '(')
            .filter(|w| !w.is_empty())
            .collect();
        check(&words, &scan.code, dialect)?;
        scan.literals
            .sort_by_key(|literal| std::cmp::Reverse(literal.len()));
        Ok(Statement {
            text: text[..end].trim().to_owned(),
            literals: scan.literals,
        })
    }
}

fn check(words: &[&str], code: &str, dialect: Dialect) -> Result<(), Refusal> {
    let refuse = |problem: String, remedy| Err(Refusal { problem, remedy });
    let first: String = code
        .trim_start_matches(|c: char| c == '(' || c.is_whitespace())
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .collect();
    match first.to_ascii_lowercase().as_str() {
        "select" | "with" | "values" | "table" => {}
        "" => return refuse("holds no statement".into(), READS),
        other => {
            return refuse(
                format!(
                    "begins with {}: only what reads is run",
                    other.to_uppercase()
                ),
                READS,
            );
        }
    }
    let lower: Vec<String> = words
        .iter()
        .flat_map(|w| w.split_inclusive('('))
        .map(str::to_ascii_lowercase)
        .collect();
    let functions = CHANGES
        .iter()
        .filter(|(of, _)| *of == dialect)
        .flat_map(|(_, names)| names.iter());
    for name in functions {
        let called = |(index, word): (usize, &String)| {
            word.strip_suffix('(') == Some(name)
                || (word == name && lower.get(index + 1).is_some_and(|next| next == "("))
        };
        if lower.iter().enumerate().any(called) {
            return refuse(
                format!(
                    "calls {name}, which a read-only transaction does not keep from changing something"
                ),
                "leave it out",
            );
        }
    }
    let has = |phrase: &[&str]| {
        lower
            .windows(phrase.len())
            .any(|found| found.iter().zip(phrase).all(|(a, b)| a == b))
    };
    if dialect == Dialect::Mysql
        && [
            &["for", "update"][..],
            &["for", "share"],
            &["lock", "in", "share", "mode"],
        ]
        .iter()
        .any(|p| has(p))
    {
        return refuse(
            "locks the rows that it reads".into(),
            "leave FOR UPDATE, FOR SHARE or LOCK IN SHARE MODE out",
        );
    }
    Ok(())
}

struct Scan<'a> {
    dialect: Dialect,
    rest: &'a str,
    /// The text with a space in place of each comment, and the quote alone of each quoted part.
    code: String,
    literals: Vec<String>,
}

impl Scan<'_> {
    fn step(&mut self, next: char) -> Result<(), Refusal> {
        use Dialect::{Mysql, Postgres, Sqlite};
        let (dialect, rest) = (self.dialect, self.rest);
        match next {
            '\'' => {
                let escapes =
                    dialect == Mysql || (dialect == Postgres && self.follows_escape_prefix());
                self.quoted('\'', escapes, true)
            }
            '"' => self.quoted('"', dialect == Mysql, dialect == Mysql),
            '`' if dialect != Postgres => self.quoted('`', false, false),
            '[' if dialect == Sqlite => self.skip_past("]", 1, "[ of a name"),
            '-' if rest.starts_with("--")
                && (dialect != Mysql
                    || rest[2..]
                        .chars()
                        .next()
                        .is_none_or(|c| c.is_whitespace() || c.is_control())) =>
            {
                self.line()
            }
            '#' if dialect == Mysql => self.line(),
            '/' if rest.starts_with("/*") => {
                if dialect == Mysql
                    && (rest.starts_with("/*!")
                        || rest
                            .get(..4)
                            .is_some_and(|start| start.eq_ignore_ascii_case("/*M!")))
                {
                    let problem = "holds a comment /*! */ that is run".into();
                    return Err(Refusal {
                        problem,
                        remedy: "write its content without the comment, or leave it out",
                    });
                }
                if dialect == Postgres {
                    self.nested_comment()
                } else {
                    self.skip_past("*/", 2, "comment /*")
                }
            }
            '$' if dialect == Postgres && !self.code.ends_with(is_word) => self.dollar(),
            _ => {
                self.code.push(next);
                self.rest = &rest[next.len_utf8()..];
                Ok(())
            }
        }
    }

    /// `E'…'`, in which a backslash escapes.
    fn follows_escape_prefix(&self) -> bool {
        let mut before = self.code.chars().rev();
        matches!(before.next(), Some('e' | 'E')) && !before.next().is_some_and(is_word)
    }

    fn quoted(&mut self, quote: char, escapes: bool, is_text: bool) -> Result<(), Refusal> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' if escapes => text.extend(characters.next().map(|(_, escaped)| escaped)),
                _ if c == quote => {
                    if characters.next_if(|(_, c)| *c == quote).is_some() {
                        text.push(c);
                        continue;
                    }
                    if is_text {
                        self.literals.push(text);
                    }
                    // A sign in its place: what follows a semicolon is not nothing.
                    self.code.push(quote);
                    self.rest = &self.rest[at + 1..];
                    return Ok(());
                }
                _ => text.push(c),
            }
        }
        Err(Refusal {
            problem: format!("has a quote {quote} that is not closed"),
            remedy: CLOSE,
        })
    }

    fn skip_past(&mut self, end: &str, from: usize, what: &str) -> Result<(), Refusal> {
        let Some(at) = self.rest[from..].find(end) else {
            return Err(Refusal {
                problem: format!("has a {what} that is not closed"),
                remedy: CLOSE,
            });
        };
        self.code.push(' ');
        self.rest = &self.rest[from + at + end.len()..];
        Ok(())
    }

    fn line(&mut self) -> Result<(), Refusal> {
        self.code.push(' ');
        self.rest = self.rest.find('\n').map_or("", |at| &self.rest[at..]);
        Ok(())
    }

    fn nested_comment(&mut self) -> Result<(), Refusal> {
        let (mut depth, mut at) = (0_u32, 0);
        while at < self.rest.len() {
            let rest = &self.rest[at..];
            if rest.starts_with("/*") {
                (depth, at) = (depth + 1, at + 2);
            } else if rest.starts_with("*/") {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    self.code.push(' ');
                    self.rest = &self.rest[at..];
                    return Ok(());
                }
            } else {
                at += rest.chars().next().map_or(1, char::len_utf8);
            }
        }
        Err(Refusal {
            problem: "has a comment /* that is not closed".into(),
            remedy: CLOSE,
        })
    }

    /// `$$…$$` and `$tag$…$tag$`; `$1` is none.
    fn dollar(&mut self) -> Result<(), Refusal> {
        let tag = self.rest[1..]
            .find('$')
            .map(|at| &self.rest[..at + 2])
            .filter(|tag| {
                let inner = &tag[1..tag.len() - 1];
                inner.chars().all(is_word) && !inner.starts_with(|c: char| c.is_ascii_digit())
            });
        let Some(tag) = tag else {
            self.code.push('$');
            self.rest = &self.rest[1..];
            return Ok(());
        };
        let Some(at) = self.rest[tag.len()..].find(tag) else {
            return Err(Refusal {
                problem: "has a quote $ that is not closed".into(),
                remedy: CLOSE,
            });
        };
        self.literals
            .push(self.rest[tag.len()..tag.len() + at].to_owned());
        self.code.push('$');
        self.rest = &self.rest[at + 2 * tag.len()..];
        Ok(())
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dialect::{Mysql, Postgres, Sqlite};

    fn text(sql: &str, dialect: Dialect) -> String {
        Statement::read(sql, dialect)
            .unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"))
            .text
    }

    #[test]
    fn one_statement_is_taken_whatever_its_quotes_and_comments_hold() {
        for sql in [
            "SELECT ';' AS a",
            "SELECT 'it''s; x' AS \"a;b\"",
            "-- a; b\nSELECT 1 -- c; d",
            "/* ; */ SELECT 1",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "(SELECT 1) UNION (SELECT 2)",
            "VALUES (1)",
        ] {
            for dialect in [Postgres, Sqlite, Mysql] {
                assert_eq!(text(sql, dialect), sql);
            }
        }
        assert_eq!(text("SELECT 1 ;; -- the end\n", Postgres), "SELECT 1");
        let sql = "SELECT $$;$$, $a$ $$;$b$ $a$, E'\\';', 1 /* /* ; */ ; */";
        assert_eq!(text(sql, Postgres), sql);
        assert_eq!(
            text("SELECT [a;b], `c;d` FROM t", Sqlite),
            "SELECT [a;b], `c;d` FROM t"
        );
        assert_eq!(
            text("SELECT 'a\\';', \"b;\" # c;\n", Mysql),
            "SELECT 'a\\';', \"b;\" # c;"
        );
    }

    #[test]
    fn what_writes_or_holds_more_is_refused_with_the_remedy() {
        let refused = |sql: &str, dialect| match Statement::read(sql, dialect) {
            Ok(_) => panic!("{sql}"),
            Err(refusal) => refusal.problem,
        };
        for sql in [
            "SELECT 1; COMMIT",
            "SELECT 1; COMMIT; DROP TABLE t",
            "SELECT '\\'; DROP TABLE t; --'",
            "SELECT 1;; x",
            "SELECT 1; 'x'",
            "SELECT 1; $$x$$",
        ] {
            assert_eq!(refused(sql, Postgres), "holds several statements", "{sql}");
        }
        assert_eq!(
            refused("SELECT \"\\\"; DROP TABLE t", Sqlite),
            "holds several statements"
        );
        assert_eq!(
            refused("SELECT 1 --1; DROP TABLE t", Mysql),
            "holds several statements"
        );
        for sql in [
            "COMMIT",
            "set transaction read write",
            "PRAGMA journal_mode = wal",
            "ATTACH 'a' AS b",
            "DELETE FROM t",
            "DO $$ $$",
        ] {
            assert!(refused(sql, Sqlite).starts_with("begins with "), "{sql}");
        }
        assert_eq!(refused("-- only\n", Postgres), "holds no statement");
        assert_eq!(
            refused("SELECT 'a", Postgres),
            "has a quote ' that is not closed"
        );
        assert_eq!(
            refused("SELECT 1 /* /* */", Postgres),
            "has a comment /* that is not closed"
        );
        assert_eq!(
            refused("SELECT 1 /*!50000 FOR UPDATE */", Mysql),
            "holds a comment /*! */ that is run"
        );
        for sql in [
            "SELECT * FROM t FOR UPDATE",
            "SELECT * FROM t for  share",
            "SELECT a FROM t LOCK IN SHARE MODE",
        ] {
            assert_eq!(refused(sql, Mysql), "locks the rows that it reads");
        }
        assert!(
            refused("SELECT pg_advisory_lock(1)", Postgres).starts_with("calls pg_advisory_lock,")
        );
        assert!(
            refused("SELECT f(pg_catalog.pg_terminate_backend (1))", Postgres)
                .starts_with("calls pg_terminate_backend,")
        );
        assert!(refused("SELECT GET_LOCK('a', 1)", Mysql).starts_with("calls get_lock,"));
        assert!(Statement::read("SELECT pid AS pg_terminate_backend FROM t", Postgres).is_ok());
    }

    #[test]
    fn what_stands_between_quotes_is_known() {
        let literals = Statement::read("SELECT 'key', $$longer key$$, \"name\" FROM t", Postgres)
            .map(|s| s.literals)
            .expect("valid");
        assert_eq!(literals, ["longer key", "key"]);
    }

    proptest::proptest! {
        /// Whatever is written, nothing panics, and what is taken has no semicolon that the server
        /// would see as the end of a statement.
        #[test]
        fn any_text_is_read_or_refused(text in "(SELECT |WITH )?([ a\u{e9};'\"`$#/*\\\\!Ee\n\\[\\](-]|--|/\\*|\\*/|\\$a\\$){0,24}") {
            for dialect in [Postgres, Sqlite, Mysql] {
                if let Ok(statement) = Statement::read(&text, dialect) {
                    let again = Statement::read(&statement.text, dialect);
                    proptest::prop_assert!(again.is_ok_and(|again| again.text == statement.text), "{text:?}");
                }
            }
        }
    }
}
