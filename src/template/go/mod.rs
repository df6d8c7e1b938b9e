//! What Go's `text/template` and `fmt` do and the template crate does not: types, methods, formats,
//! and what Go refuses.
//!
//! [`rewrite`] turns calls and field chains of a parsed template into calls of [`call`], which
//! finds methods ([`dot`]) by what Go would know of a value's type ([`typed`]). [`strict`] refuses
//! at load what Go refuses.

pub(super) mod builtins;
pub(super) mod call;
pub(super) mod dot;
pub(super) mod json;
pub(super) mod printf;
pub(super) mod rewrite;
pub(super) mod strict;
pub(super) mod time;
pub(super) mod title;
pub(super) mod typed;
