//! Hostile surroundings, against the built binary: what others do, by design or by bad luck, stops nothing.

mod clocks;
mod connections;
