//! Calls of language models as applications make them, whether spans, metrics or the pass-through
//! show them: one set of `gen_ai_*` metrics, with prices. Numbers and names are kept, never a text
//! of a prompt or of an answer.

mod failure;
mod ledger;
pub mod metrics;
mod price;
mod spending;
mod tokens;

pub use failure::class_of;
pub use ledger::{Call, Grown, Ledger, Measured, Of, Settings, Source};
pub use spending::{Period, Spending};
pub use tokens::Tokens;
