//! Samples in memory: series by number, the newest values of each in few bytes, sealed chunks
//! before them, and the index over the labels.
//!
//! A sample arrives in a [`head`]; series of one target share the times of a tick ([`mod@column`])
//! and keep their values in [`rows`]. Half an hour of a head becomes a [`chunk`]. [`slots`] finds a
//! series by number, [`lookup`] by labels, [`index`] and [`postings`] by matchers. Start with
//! [`series`].

pub(super) mod chunk;
pub(super) mod column;
pub(super) mod decoded;
pub(super) mod head;
pub(super) mod index;
pub(super) mod lookup;
pub(super) mod postings;
pub(super) mod rows;
pub(super) mod series;
pub(super) mod slots;
pub(super) mod values;
