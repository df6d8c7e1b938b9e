//! From text to a typed tree: tokens, the parser with Prometheus's own refusals, the type checker,
//! and the canonical text of a tree.
//!
//! [`parser`] is where to start; [`ast`] is the tree that everything else reads.

pub mod ast;
pub(super) mod check;
pub(super) mod depth;
pub(super) mod fault;
pub(super) mod lexer;
pub(super) mod literal;
pub(super) mod parser;
pub(super) mod printer;
pub(super) mod selector_syntax;
