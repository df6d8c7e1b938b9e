//! How far a long command is, on standard error: a bar on a terminal, a line every two seconds
//! elsewhere. What is over sooner says nothing.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::PROGRESS;
use crate::cli::terminal::complain;
use crate::model::text::visible_lines;

/// How often a bar is drawn.
const DRAWN: Duration = Duration::from_millis(200);
/// Characters of a full bar.
const WIDTH: u64 = 30;

/// Says how far something is.
pub(super) struct Progress {
    said: Instant,
    is_terminal: bool,
    drawn: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Progress {
            said: Instant::now(),
            is_terminal: io::stderr().is_terminal(),
            drawn: false,
        }
    }

    /// `done` of `all` of something, if it is time to say so.
    pub(super) fn show(&mut self, what: &str, done: u64, all: Option<u64>) {
        self.show_with(done, all, || match all {
            Some(all) => format!("{done} of {all} {what}"),
            None => format!("{done} {what}"),
        });
    }

    /// The same in other words.
    pub(super) fn show_with(&mut self, done: u64, all: Option<u64>, text: impl FnOnce() -> String) {
        let often = if self.is_terminal { DRAWN } else { PROGRESS };
        if self.said.elapsed() < often {
            return;
        }
        self.said = Instant::now();
        if !self.is_terminal {
            complain!("{}", text());
            return;
        }
        self.drawn = true;
        let text = visible_lines(&text()).into_owned();
        let mut output = io::stderr().lock();
        // Nobody needs it.
        let _ = write!(output, "\r\x1b[K{}{text}", bar(done, all));
        let _ = output.flush();
    }

    /// Takes the bar away.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// Such as `[########······················]  27 % `; nothing where the whole is not known.
fn bar(done: u64, all: Option<u64>) -> String {
    let Some(all) = all.filter(|all| *all > 0) else {
        return String::new();
    };
    let share = |of: u64| (u128::from(done.min(all)) * u128::from(of) / u128::from(all)) as u64;
    let full = share(WIDTH) as usize;
    let rest = WIDTH as usize - full;
    let percent = share(100);
    format!("[{}{}] {percent:>3} % ", "#".repeat(full), "·".repeat(rest))
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_is_as_long_as_what_is_done() {
        assert_eq!(
            bar(1, Some(4)),
            format!("[#######{}]  25 % ", "·".repeat(23))
        );
        assert_eq!(bar(9, Some(4)), format!("[{}] 100 % ", "#".repeat(30)));
        assert_eq!(
            (bar(9, None), bar(0, Some(0))),
            (String::new(), String::new())
        );
    }
}
