//! A budget of bytes that several kinds of work share, so that the process refuses work instead of
//! running out of memory.
//!
//! Some holders have a share that nobody else may take: rules are judged and alerts taken in while
//! dashboards have used up the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Who holds memory of a [`Budget`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Holder {
    /// What queries of the API compute with.
    Queries,
    /// Answers that are not sent yet.
    Answers,
    /// Heads and bodies of requests.
    Bodies,
    /// What is kept to be found again sooner.
    Caches,
    /// Alerts that are being taken in.
    Alerts,
    /// What rules compute with.
    Rules,
}

impl Holder {
    /// All of them.
    pub const ALL: [Holder; 6] = [
        Holder::Queries,
        Holder::Answers,
        Holder::Bodies,
        Holder::Caches,
        Holder::Alerts,
        Holder::Rules,
    ];

    /// The name, as metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Holder::Queries => "queries",
            Holder::Answers => "answers",
            Holder::Bodies => "bodies",
            Holder::Caches => "caches",
            Holder::Alerts => "alerts",
            Holder::Rules => "rules",
        }
    }

    /// One part in so many of the budget is kept for it; 0: none.
    fn kept_for(self) -> usize {
        match self {
            Holder::Rules => 4,
            Holder::Bodies | Holder::Caches | Holder::Alerts => 16,
            Holder::Queries | Holder::Answers => 0,
        }
    }
}

/// Why memory is not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OverBudget {
    /// One piece of work wants more than one may have.
    #[error("it would take more than {} of memory (limits.memory)", Bytes(*.0))]
    TooLarge(usize),
    /// Others hold what there is.
    #[error("the memory that requests may take together is used up (limits.memory is {}); try again later", Bytes(*.limit))]
    Full {
        /// Bytes that there are in all.
        limit: usize,
        /// Bytes that the piece of work had and asked for.
        wanted: usize,
    },
}

/// A number of bytes for people.
struct Bytes(usize);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 => write!(f, "{} MiB", bytes >> 20),
            bytes => write!(f, "{} KiB", bytes >> 10),
        }
    }
}

/// A number of bytes, and who holds how many of them.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<State>,
    refused: [AtomicU64; Holder::ALL.len()],
}

#[derive(Debug)]
struct State {
    limit: usize,
    held: [usize; Holder::ALL.len()],
}

impl Budget {
    /// A budget of which nothing is held.
    pub fn new(limit: usize) -> Arc<Self> {
        let state = Mutex::new(State {
            limit,
            held: [0; Holder::ALL.len()],
        });
        Arc::new(Budget {
            state,
            refused: Default::default(),
        })
    }

    /// Bytes in all.
    pub fn limit(&self) -> usize {
        self.state.lock().limit
    }

    /// Another limit from now on; what is held stays held.
    pub fn set_limit(&self, limit: usize) {
        self.state.lock().limit = limit;
    }

    /// Bytes that one holder has.
    pub fn held(&self, holder: Holder) -> usize {
        self.state.lock().held[holder as usize]
    }

    /// How often a holder was refused.
    pub fn refused(&self, holder: Holder) -> u64 {
        self.refused[holder as usize].load(Ordering::Relaxed)
    }

    /// Nothing yet, for a piece of work that will ask for more.
    pub fn reserve(self: &Arc<Self>, holder: Holder) -> Reservation {
        Reservation {
            budget: Arc::clone(self),
            holder,
            bytes: 0,
        }
    }

    /// Most bytes that a holder can have: what is left when everybody else has nothing but what is
    /// kept for him.
    pub fn most(&self, holder: Holder) -> usize {
        let limit = self.limit();
        let others = Holder::ALL
            .into_iter()
            .filter(|other| *other != holder && other.kept_for() > 0);
        limit.saturating_sub(others.map(|other| limit / other.kept_for()).sum())
    }

    /// Whether a piece of work that holds nothing would be given so many bytes now.
    pub fn has_room(&self, holder: Holder, bytes: usize) -> bool {
        self.check(&self.state.lock(), holder, 0, bytes).is_none()
    }

    fn take(&self, holder: Holder, had: usize, more: usize) -> Result<(), OverBudget> {
        let mut state = self.state.lock();
        let refused = self.check(&state, holder, had, more);
        match refused {
            None => state.held[holder as usize] += more,
            Some(_) => drop(self.refused[holder as usize].fetch_add(1, Ordering::Relaxed)),
        }
        refused.map_or(Ok(()), Err)
    }

    fn check(&self, state: &State, holder: Holder, had: usize, more: usize) -> Option<OverBudget> {
        let one = state.limit / 2;
        if had.saturating_add(more) > one {
            return Some(OverBudget::TooLarge(one));
        }
        let others = Holder::ALL
            .into_iter()
            .filter(|other| *other != holder && other.kept_for() > 0);
        let kept: usize = others
            .map(|other| {
                (state.limit / other.kept_for()).saturating_sub(state.held[other as usize])
            })
            .sum();
        let held: usize = state.held.iter().sum();
        let is_full = held.saturating_add(kept).saturating_add(more) > state.limit;
        is_full.then_some(OverBudget::Full {
            limit: state.limit,
            wanted: had.saturating_add(more),
        })
    }
}

/// Part of a [`Budget`]; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    holder: Holder,
    bytes: usize,
}

impl Reservation {
    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more.
    pub fn grow(&mut self, more: usize) -> Result<(), OverBudget> {
        self.budget.take(self.holder, self.bytes, more)?;
        self.bytes += more;
        Ok(())
    }

    /// Gives some back.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        if less > 0 {
            self.bytes -= less;
            self.budget.state.lock().held[self.holder as usize] -= less;
        }
    }

    /// A part of it, which another holder takes over. What one has asked for is there already, so
    /// this cannot be refused.
    pub fn hand_over(&mut self, bytes: usize, holder: Holder) -> Reservation {
        let bytes = bytes.min(self.bytes);
        let mut state = self.budget.state.lock();
        state.held[self.holder as usize] -= bytes;
        state.held[holder as usize] += bytes;
        self.bytes -= bytes;
        Reservation {
            budget: Arc::clone(&self.budget),
            holder,
            bytes,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_free_again() {
        let budget = Budget::new(1 << 20);
        let mut held = budget.reserve(Holder::Queries);
        assert_eq!(held.grow(400 << 10), Ok(()));
        let answer = held.hand_over(100 << 10, Holder::Answers);
        assert_eq!(
            (budget.held(Holder::Queries), budget.held(Holder::Answers)),
            (300 << 10, 100 << 10)
        );
        drop(held);
        assert_eq!(
            (budget.held(Holder::Queries), budget.held(Holder::Answers)),
            (0, answer.bytes())
        );
        drop(answer);
        assert_eq!(budget.held(Holder::Answers), 0);
    }

    #[test]
    fn one_piece_of_work_cannot_take_everything() {
        let budget = Budget::new(1 << 20);
        let mut greedy = budget.reserve(Holder::Queries);
        let error = greedy.grow(600 << 10).expect_err("more than half");
        assert_eq!(
            error.to_string(),
            "it would take more than 512 KiB of memory (limits.memory)"
        );
        assert_eq!(
            (
                budget.refused(Holder::Queries),
                budget.held(Holder::Queries)
            ),
            (1, 0)
        );
    }

    #[test]
    fn rules_have_a_share_that_queries_cannot_take() {
        let budget = Budget::new(1 << 20);
        let mut queries: Vec<Reservation> = Vec::new();
        loop {
            let mut next = budget.reserve(Holder::Queries);
            if next.grow(64 << 10).is_err() {
                break;
            }
            queries.push(next);
        }
        let mut rules = budget.reserve(Holder::Rules);
        assert_eq!(rules.grow(256 << 10), Ok(()), "a quarter of it");
        assert!(matches!(rules.grow(64 << 10), Err(OverBudget::Full { .. })));
        assert_eq!(budget.reserve(Holder::Alerts).grow(64 << 10), Ok(()));
    }
}
